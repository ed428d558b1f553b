//! Quadrilaterals and hexahedra as flat arrays, and back.
//!
//! Start at [`Tensor::save`] and [`Tensor::load`]. A leaf is its root and its path; a root is one row of words,
//! all rows as long as the longest.

use std::cell::OnceCell;

use super::super::names::{self, Name};
use super::walk::CORNERS;
use super::{Leaf, Mark, MeshError, Root, Tensor};
use crate::element::{GeometryKind, Shape};
use crate::mesh::Group;
use crate::mesh::saved::{Arrays, Entries, Loading, broken, distinct};

/// Words of a root before its nodes and tags.
const HEAD: usize = 3 + 4 * CORNERS;

/// Groups, sets of them, periodic pairs, and the geometry of each block.
type Common<'a> = (&'a Vec<Group>, &'a Vec<Vec<u16>>, &'a Vec<(u16, u16)>, &'a Vec<GeometryKind>);

impl Tensor {
    /// What is the same on all ranks.
    pub fn common(&self) -> Common<'_> {
        (&self.groups, &self.sets, &self.periodic, &self.geometries)
    }

    /// Whether nodes are the vertices.
    pub fn nodes_are_vertices(&self) -> bool {
        !self.apart
    }

    /// Adds everything that this rank has. Collective: rows of roots are as long as the longest.
    pub fn save(&self, saved: &mut Arrays) {
        let paths = self.leaves.iter().flat_map(|leaf| names::words(leaf.path)).collect();
        saved.add("leaves/paths", 2, Entries::U64(paths));
        saved.add("leaves/roots", 1, Entries::U32(self.leaves.iter().map(|leaf| leaf.root).collect()));
        let levels = self.leaves.iter().map(|leaf| u32::from(leaf.level)).collect();
        saved.add("leaves/levels", 1, Entries::U32(levels));
        let length = |root: &Root| HEAD + 3 * root.nodes.len() + root.tags.len();
        let longest = self.roots.iter().map(|root| length(root) as u64).max().unwrap_or(0);
        let width = self.comm.max(longest).max(HEAD as u64) as usize;
        let mut words = Vec::with_capacity(self.roots.len() * width);
        for (k, root) in self.roots.iter().enumerate() {
            root.write(&mut words);
            words.resize((k + 1) * width, 0);
        }
        saved.add("roots", width, Entries::U64(words));
    }

    /// The leaves again, and the row of each in this rank's share where that differs from its place. Collective.
    ///
    /// # Errors
    /// Arrays that contradict each other: the same on every rank.
    pub fn load(loading: &Loading, shape: Shape) -> Result<(Tensor, Option<Vec<u32>>), MeshError> {
        let comm = &loading.comm;
        let outline = &loading.outline;
        let width = loading.arrays.get("roots").map_or(0, |array| array.width);
        let mut tensor = Tensor {
            comm: comm.clone(),
            shape,
            geometries: outline.kinds()?.iter().map(|kind| kind.1).collect(),
            groups: outline.groups(),
            sets: outline.sets.clone(),
            periodic: outline.periodic.clone(),
            apart: !outline.nodes_are_vertices,
            roots: Vec::new(),
            leaves: comm.agree(leaves(loading, shape))?,
            points: OnceCell::new(),
        };
        if loading.same_ranks() {
            let own = loading.u64("roots", width).and_then(|words| tensor.take_roots(words, width));
            comm.agree(own.and_then(|()| tensor.check()))?;
            return Ok((tensor, None));
        }
        let rows = || -> Result<Vec<u64>, MeshError> {
            let bases = loading.bases("leaves/roots", tensor.leaves.len(), "roots")?;
            let row = |(leaf, &(first, n)): (&Leaf, &(u64, u64))| {
                let known = u64::from(leaf.root) < n;
                if known { Ok(first + u64::from(leaf.root)) } else { Err(broken("a leaf without a root")) }
            };
            tensor.leaves.iter().zip(&bases).map(row).collect()
        };
        let rows = comm.agree(rows())?;
        let (wanted, of_leaf) = distinct(&rows);
        let words = loading.fetch_u64("roots", width, &wanted)?;
        let taken = tensor.take_roots(&words, width);
        comm.agree(taken)?;
        let places: Vec<u64> = tensor.roots.iter().map(|root| root.place).collect();
        let (_, number) = distinct(&places);
        tensor.leaves.iter_mut().zip(&of_leaf).for_each(|(leaf, &k)| leaf.root = number[k as usize]);
        tensor.roots.sort_by_key(|root| root.place);
        tensor.roots.dedup_by_key(|root| root.place);
        let mut order: Vec<u32> = (0..tensor.leaves.len() as u32).collect();
        order.sort_by_key(|&k| (tensor.leaves[k as usize].root, tensor.leaves[k as usize].path));
        tensor.leaves = order.iter().map(|&k| tensor.leaves[k as usize]).collect();
        comm.agree(tensor.check())?;
        Ok((tensor, Some(order)))
    }

    fn take_roots(&mut self, words: &[u64], width: usize) -> Result<(), MeshError> {
        if width < HEAD {
            return Err(broken("roots that are cut off"));
        }
        for row in words.chunks_exact(width) {
            let (n_nodes, n_tags) = (row[2] >> 16 & 0xffff, row[2] >> 32);
            if HEAD as u64 + 3 * n_nodes + n_tags > width as u64 {
                return Err(broken("a root that is cut off"));
            }
            self.roots.push(Root::read(row, &mut 0));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MeshError> {
        let known_root = |root: &Root| {
            let geometry = self.geometries.get(root.block());
            let entity = |&(dim, i, group): &(u8, u8, u16)| {
                usize::from(dim) < self.shape.dim()
                    && usize::from(i) < self.shape.n_entities(usize::from(dim))
                    && usize::from(group) < self.groups.len()
            };
            geometry.is_some_and(|g| g.n_nodes(self.shape) == root.nodes.len())
                && usize::from(root.set) < self.sets.len()
                && root.tags.iter().all(entity)
        };
        let known = self.leaves.iter().all(|leaf| (leaf.root as usize) < self.roots.len());
        if known && self.roots.iter().all(known_root) {
            return Ok(());
        }
        Err(broken("a root that does not fit its shape or groups"))
    }
}

/// Leaves with the root numbers of those that wrote them.
fn leaves(loading: &Loading, shape: Shape) -> Result<Vec<Leaf>, MeshError> {
    let paths = loading.u64("leaves/paths", 2)?.as_chunks::<2>().0;
    let (roots, levels) = (loading.u32("leaves/roots", 1)?, loading.u32("leaves/levels", 1)?);
    let deepest = 128 / shape.dim() as u32;
    if roots.len() != paths.len() || levels.len() != paths.len() || levels.iter().any(|&l| l > deepest) {
        return Err(broken("leaves without a root"));
    }
    let leaf = |((&path, &root), &level): ((&[u64; 2], &u32), &u32)| {
        let path: Name = names::from_words(path);
        Leaf { path, root, level: level as u8, mark: Mark::Keep }
    };
    Ok(paths.iter().zip(roots).zip(levels).map(leaf).collect())
}
