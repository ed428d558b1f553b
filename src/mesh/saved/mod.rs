//! Meshes and forests as flat arrays, to be kept in a file and taken up again on any number of ranks.
//!
//! Imports `element` and the crate `cluster`. Start at [`Arrays`], which [`Mesh::save`](super::Mesh::save) and
//! [`Forest::save`](super::forest::Forest::save) fill, and at [`Loading`], from which [`load_mesh`] and
//! [`Forest::load`](super::forest::Forest::load) make them again. Numbers in arrays are the writer's local ones:
//! where each rank's rows begin says what they mean. On as many ranks as wrote, each takes its own rows and has
//! the very same arrays again; on another number each takes equal shares, and asks the rank that has a row for
//! what its share refers to.

mod whole;

use std::collections::BTreeMap;

use cluster::{Buckets, Comm};
use serde::{Deserialize, Serialize};

use super::{Group, MeshError};
use crate::element::{GeometryKind, Shape};
pub use whole::{load_mesh, values_of_cells};

/// Entries of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Entries {
    /// 32-bit numbers.
    U32(Vec<u32>),
    /// 64-bit numbers.
    U64(Vec<u64>),
    /// Doubles, bit by bit.
    F64(Vec<f64>),
}

/// Rows of `width` entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its name: words separated by `/`.
    pub name: String,
    /// Entries a row, the same on all ranks; at least 1.
    pub width: usize,
    /// This rank's rows, flat.
    pub entries: Entries,
}

impl Array {
    /// The number of rows here.
    pub fn n_rows(&self) -> usize {
        let n = match &self.entries {
            Entries::U32(v) => v.len(),
            Entries::U64(v) => v.len(),
            Entries::F64(v) => v.len(),
        };
        n / self.width
    }
}

/// What is the same on all ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// Whether the arrays are a forest's.
    pub forest: bool,
    /// Dimension of cells and of space.
    pub dim: usize,
    /// Shape and geometry of each block, by their places in the lists of all.
    pub blocks: Vec<(u8, u8)>,
    /// Dimension, tag and name of each group.
    pub groups: Vec<(u32, i32, String)>,
    /// Sets of groups that cells belong to.
    pub sets: Vec<Vec<u16>>,
    /// Pairs of periodic groups.
    pub periodic: Vec<(u16, u16)>,
    /// Whether nodes are the vertices.
    pub nodes_are_vertices: bool,
    /// Cells over all ranks.
    pub n_cells: u64,
    /// Of a forest: how often a marked cell is cut.
    pub cuts: u8,
}

const GEOMETRIES: [GeometryKind; 3] =
    [GeometryKind::Linear, GeometryKind::Quadratic, GeometryKind::Serendipity];

impl Outline {
    pub(super) fn kind(shape: Shape, geometry: GeometryKind) -> (u8, u8) {
        let place = |k: Option<usize>| k.map_or(u8::MAX, |k| k as u8);
        (
            place(Shape::ALL.iter().position(|&s| s == shape)),
            place(GEOMETRIES.iter().position(|&g| g == geometry)),
        )
    }

    /// Shapes and geometries of the blocks.
    ///
    /// # Errors
    /// A number that stands for none.
    pub fn kinds(&self) -> Result<Vec<(Shape, GeometryKind)>, MeshError> {
        let kind = |&(shape, geometry): &(u8, u8)| {
            Some((*Shape::ALL.get(usize::from(shape))?, *GEOMETRIES.get(usize::from(geometry))?))
        };
        let kinds: Option<Vec<_>> = self.blocks.iter().map(kind).collect();
        kinds
            .filter(|k| !k.is_empty())
            .ok_or_else(|| broken("cells of a shape that this version does not know"))
    }

    /// The groups.
    pub fn groups(&self) -> Vec<Group> {
        let group = |g: &(u32, i32, String)| Group { dim: g.0 as usize, tag: g.1, name: g.2.clone() };
        self.groups.iter().map(group).collect()
    }

    pub(super) fn with_groups(groups: &[Group]) -> Vec<(u32, i32, String)> {
        groups.iter().map(|g| (g.dim as u32, g.tag, g.name.clone())).collect()
    }
}

/// What a mesh or a forest is made of, on this rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrays {
    /// The same on all ranks.
    pub outline: Outline,
    /// The same names and widths in the same order on all ranks.
    pub arrays: Vec<Array>,
}

impl Arrays {
    pub(super) fn new(outline: Outline) -> Arrays {
        Arrays { outline, arrays: Vec::new() }
    }

    pub(super) fn add(&mut self, name: impl Into<String>, width: usize, entries: Entries) {
        self.arrays.push(Array { name: name.into(), width, entries });
    }
}

/// What contradicts itself though its checksums are right.
pub(super) fn broken(what: &str) -> MeshError {
    MeshError::Saved(what.to_owned())
}

/// Arrays on their way back.
pub struct Loading {
    /// The ranks.
    pub comm: Comm,
    /// As it was saved.
    pub outline: Outline,
    /// This rank's rows, by name.
    pub arrays: BTreeMap<String, Array>,
    /// Of each array the first row of each rank that wrote, and the number of all rows at the end.
    pub firsts: BTreeMap<String, Vec<u64>>,
}

impl Loading {
    /// Whether as many ranks wrote as read: each has its own rows.
    pub fn same_ranks(&self) -> bool {
        self.firsts.values().next().is_none_or(|firsts| firsts.len() == self.comm.size() + 1)
    }

    fn array(&self, name: &str, width: usize) -> Result<&Array, MeshError> {
        let found = self.arrays.get(name).filter(|array| array.width == width);
        found.ok_or_else(|| broken(&format!("{name} is missing or of another width")))
    }

    /// 32-bit rows. This rank's own error, like those below.
    pub(super) fn u32(&self, name: &str, width: usize) -> Result<&[u32], MeshError> {
        match &self.array(name, width)?.entries {
            Entries::U32(values) => Ok(values),
            _ => Err(broken(&format!("{name} has entries of another type"))),
        }
    }

    /// 64-bit rows.
    pub(super) fn u64(&self, name: &str, width: usize) -> Result<&[u64], MeshError> {
        match &self.array(name, width)?.entries {
            Entries::U64(values) => Ok(values),
            _ => Err(broken(&format!("{name} has entries of another type"))),
        }
    }

    /// Rows of doubles.
    pub(super) fn f64(&self, name: &str, width: usize) -> Result<&[f64], MeshError> {
        match &self.array(name, width)?.entries {
            Entries::F64(values) => Ok(values),
            _ => Err(broken(&format!("{name} has entries of another type"))),
        }
    }

    /// Where the rows of each writer begin.
    fn firsts(&self, name: &str) -> Result<&[u64], MeshError> {
        let found = self.firsts.get(name).map(Vec::as_slice).filter(|firsts| firsts.len() > 1);
        found.ok_or_else(|| broken(&format!("{name} is missing")))
    }

    /// The first row of this rank's equal share.
    pub(super) fn first_row(&self, name: &str) -> Result<u64, MeshError> {
        let n = *self.firsts(name)?.last().expect("checked to have entries");
        Ok(share(n, self.comm.rank() as u64, self.comm.size() as u64))
    }

    /// For each row of this rank's share of `name`, the writer's first row in `other` and the number of its rows
    /// there: what a writer's local number of the other array means.
    pub(super) fn bases(&self, name: &str, n: usize, other: &str) -> Result<Vec<(u64, u64)>, MeshError> {
        let (firsts, others) = (self.firsts(name)?, self.firsts(other)?);
        let first = self.first_row(name)?;
        let mut writer = firsts.partition_point(|&begin| begin <= first).saturating_sub(1);
        let mut bases = Vec::with_capacity(n);
        for row in first..first + n as u64 {
            while writer + 2 < firsts.len() && firsts[writer + 1] <= row {
                writer += 1;
            }
            bases.push((others[writer], others[writer + 1] - others[writer]));
        }
        Ok(bases)
    }

    /// The rows of an array with these distinct ascending numbers, wherever they are. Collective; the error of a
    /// number past the end is this rank's own, so such numbers must not come here.
    pub(super) fn fetch<T: bytemuck::Pod>(
        &self,
        n_rows: u64,
        mine: &[T],
        width: usize,
        wanted: &[u64],
    ) -> Vec<T> {
        let size = self.comm.size() as u64;
        let to: Vec<u32> = wanted.iter().map(|&row| owner(n_rows, row, size)).collect();
        let asked = self.comm.exchange(&Buckets::from_destinations(&to, wanted));
        let begin = share(n_rows, self.comm.rank() as u64, size);
        let mut answer = Buckets::<T> { ranks: asked.ranks.clone(), offsets: vec![0], data: Vec::new() };
        for (_, rows) in asked.iter() {
            for &row in rows {
                let k = (row - begin) as usize * width;
                answer.data.extend_from_slice(&mine[k..k + width]);
            }
            answer.offsets.push(answer.data.len());
        }
        // By ascending rank, as the wanted rows ascend.
        self.comm.exchange(&answer).data
    }

    /// As [`Loading::fetch`], of an array of doubles.
    pub(super) fn fetch_f64(&self, name: &str, width: usize, wanted: &[u64]) -> Result<Vec<f64>, MeshError> {
        Ok(self.fetch(self.total(name)?, self.f64(name, width)?, width, wanted))
    }

    /// As [`Loading::fetch`], of an array of 64-bit numbers.
    pub(super) fn fetch_u64(&self, name: &str, width: usize, wanted: &[u64]) -> Result<Vec<u64>, MeshError> {
        Ok(self.fetch(self.total(name)?, self.u64(name, width)?, width, wanted))
    }

    /// As [`Loading::fetch`], of an array of 32-bit numbers.
    pub(super) fn fetch_u32(&self, name: &str, width: usize, wanted: &[u64]) -> Result<Vec<u32>, MeshError> {
        Ok(self.fetch(self.total(name)?, self.u32(name, width)?, width, wanted))
    }

    /// The rank whose share has a row of an array.
    pub(super) fn owner(&self, name: &str, row: u64) -> Result<u32, MeshError> {
        Ok(owner(self.total(name)?, row, self.comm.size() as u64))
    }

    fn total(&self, name: &str) -> Result<u64, MeshError> {
        Ok(*self.firsts(name)?.last().expect("checked to have entries"))
    }
}

/// The first row of a rank's equal share of `n`.
pub fn share(n: u64, rank: u64, size: u64) -> u64 {
    (u128::from(n) * u128::from(rank) / u128::from(size)) as u64
}

/// The rank whose share has a row.
pub(super) fn owner(n: u64, row: u64, size: u64) -> u32 {
    // The last whose share begins at or before it: near the proportional one.
    let mut rank =
        (u128::from(row) * u128::from(size) / u128::from(n.max(1))).min(u128::from(size) - 1) as u64;
    while rank + 1 < size && share(n, rank + 1, size) <= row {
        rank += 1;
    }
    while rank > 0 && share(n, rank, size) > row {
        rank -= 1;
    }
    rank as u32
}

/// Distinct numbers, ascending, and the place of each of `numbers` among them.
pub(super) fn distinct(numbers: &[u64]) -> (Vec<u64>, Vec<u32>) {
    let mut all = numbers.to_vec();
    all.sort_unstable();
    all.dedup();
    let places = numbers.iter().map(|n| all.partition_point(|m| m < n) as u32).collect();
    (all, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_share_of_its_owner() {
        for n in [0u64, 1, 2, 7, 8, 100] {
            for size in [1u64, 2, 3, 5, 9, 16] {
                assert_eq!((share(n, 0, size), share(n, size, size)), (0, n));
                for row in 0..n {
                    let rank = u64::from(owner(n, row, size));
                    assert!(
                        share(n, rank, size) <= row && row < share(n, rank + 1, size),
                        "{row} of {n}, {size}"
                    );
                }
            }
        }
    }

    #[test]
    fn distinct_numbers_are_found_again() {
        let (all, places) = distinct(&[7, 3, 7, 9]);
        assert_eq!((all, places), (vec![3, 7, 9], vec![1, 0, 1, 2]));
    }
}
