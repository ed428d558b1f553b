//! A mesh on its way: cells in the order of a space-filling curve, not yet given to their owners.
//!
//! [`Draft::new`] checks the cells and redistributes them along a Hilbert curve, [`Draft::graph`] is
//! what a partitioner needs, [`Draft::distribute`] sends every cell to its owner and builds the
//! [`Mesh`]. All three are collective.

use cluster::{Buckets, Comm};
use partition::{Graph, hilbert, sort};

use super::directory::{Directory, Ranges};
use super::ids::IdSet;
use super::soup::{CellBlock, Soup};
use super::{Mesh, MeshError, distribute, dual, geometry, periodic};

/// Cells along a Hilbert curve, with all that their owners will need.
pub struct Draft {
    pub(super) comm: Comm,
    pub(super) soup: Soup,
    pub(super) coordinates: Directory<[f64; 3]>,
    pub(super) ranges: Ranges,
    /// Per block: topological vertices, where periodicity makes them differ from the corner nodes.
    pub(super) merged: Option<Vec<Vec<u64>>>,
    pub(super) periodic: Vec<(u16, u16)>,
}

impl Draft {
    /// Takes what a reader or generator made. `scale` multiplies coordinates; `periodic` names pairs of
    /// boundary groups to merge. Collective.
    ///
    /// # Errors
    /// A node that is missing, a cell without volume, cells that do not lie flat, periodic boundaries
    /// that do not match: the same error on every rank.
    pub fn new(
        comm: &Comm,
        mut soup: Soup,
        scale: f64,
        periodic: &[(u16, u16)],
        along_curve: bool,
    ) -> Result<Draft, MeshError> {
        let n_cells: u64 = comm.sum(soup.blocks.iter().map(|b| b.ids.len() as u64).sum());
        if n_cells == 0 {
            return Err(MeshError::Empty);
        }
        let max_id = comm.max(soup.max_node_id);
        let ranges = Ranges::new(comm, max_id);
        let mut points = std::mem::take(&mut soup.node_coordinates);
        if scale != 1.0 {
            points.iter_mut().flatten().for_each(|x| *x *= scale);
        }
        comm.agree(geometry::check_flat(&points, soup.dim))?;
        let node_ids = std::mem::take(&mut soup.node_ids);
        let coordinates = Directory::new(comm, ranges, &node_ids, &points);
        drop((points, node_ids));
        let (low, high) = {
            let (mut low, mut high) = coordinates.bounds();
            comm.min_slice(&mut low);
            comm.max_slice(&mut high);
            (low, high)
        };

        // One look at every cell's nodes: orientation, volume, and the key on the curve.
        let ids = IdSet::new(soup.blocks.iter().flat_map(|b| &b.nodes));
        let local = coordinates.get(comm, ids.ids()).map_err(|node| MeshError::MissingNode { node });
        let local = comm.agree(local)?;
        let checked = soup.blocks.iter_mut().try_for_each(|b| geometry::orient(b, soup.dim, &ids, &local));
        comm.agree(checked)?;
        let mut draft = Draft {
            comm: comm.clone(),
            soup,
            coordinates,
            ranges,
            merged: None,
            periodic: periodic.to_vec(),
        };
        if along_curve {
            let mut keys = Vec::new();
            for block in &draft.soup.blocks {
                let n = block.geometry.n_nodes(block.shape);
                let corners = block.shape.n_vertices();
                for nodes in block.nodes.chunks_exact(n) {
                    let mut center = [0.0; 3];
                    for &node in &nodes[..corners] {
                        let x = local[ids.local(node) as usize];
                        (0..3).for_each(|d| center[d] += x[d] / corners as f64);
                    }
                    keys.push(hilbert::key(center, low, high, draft.soup.dim));
                }
            }
            drop((ids, local));
            draft.follow_curve(&keys);
        }
        if !periodic.is_empty() {
            draft.merged = Some(periodic::merge(&draft, periodic)?);
        }
        Ok(draft)
    }

    /// Redistributes the cells so that ranks hold equal stretches of the curve, in its order.
    fn follow_curve(&mut self, keys: &[u64]) {
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        struct From {
            rank: u32,
            block: u32,
            cell: u64,
        }
        let rank = self.comm.rank() as u32;
        let mut items = Vec::with_capacity(keys.len());
        for (b, block) in self.soup.blocks.iter().enumerate() {
            items.extend((0..block.ids.len() as u64).map(|cell| From { rank, block: b as u32, cell }));
        }
        let (_, items) = sort::redistribute(&self.comm, keys, &items);
        for b in 0..self.soup.blocks.len() {
            let wanted: Vec<From> = items.iter().filter(|i| i.block == b as u32).copied().collect();
            let sources: Vec<u32> = wanted.iter().map(|i| i.rank).collect();
            let cells: Vec<u64> = wanted.iter().map(|i| i.cell).collect();
            let asked = self.comm.exchange(&Buckets::from_destinations(&sources, &cells));
            let order =
                Buckets::from_destinations(&sources, &(0..wanted.len() as u32).collect::<Vec<_>>()).data;
            let block = &mut self.soup.blocks[b];
            let n = block.geometry.n_nodes(block.shape);
            let nodes = reply(&self.comm, &asked, &block.nodes, n, &order);
            let ids = reply(&self.comm, &asked, &block.ids, 1, &order);
            let sets = reply(&self.comm, &asked, &block.sets, 1, &order);
            *block = CellBlock { shape: block.shape, geometry: block.geometry, nodes, ids, sets };
        }
        self.merge_duplicates();
    }

    /// Merges cells with the same nodes into one that belongs to the groups of both: MSH 2 writes an
    /// element once for each physical group. They have the same key, so they are neighbours here.
    fn merge_duplicates(&mut self) {
        let mut found = std::collections::BTreeSet::new();
        let n_of = |block: &CellBlock| block.geometry.n_nodes(block.shape);
        for block in &self.soup.blocks {
            let n = n_of(block);
            for cell in 1..block.ids.len() {
                if block.nodes[cell * n..][..n] == block.nodes[(cell - 1) * n..][..n] {
                    found.insert((block.sets[cell - 1], block.sets[cell]));
                }
            }
        }
        if !self.comm.any(!found.is_empty()) {
            return;
        }
        // Sets are agreed on: every rank adds every union, until none is new.
        loop {
            let pairs: Vec<[u16; 2]> = found.iter().map(|p| [p.0, p.1]).collect();
            let mut all: Vec<[u16; 2]> = self.comm.all_gather_varied(&pairs).0;
            all.sort_unstable();
            all.dedup();
            let before = self.soup.sets.len();
            for [a, b] in all {
                let union = union(&self.soup.sets, a, b);
                if !self.soup.sets.contains(&union) {
                    self.soup.sets.push(union);
                }
            }
            found.clear();
            for block in &mut self.soup.blocks {
                let n = block.geometry.n_nodes(block.shape);
                for cell in 1..block.ids.len() {
                    if block.nodes[cell * n..][..n] == block.nodes[(cell - 1) * n..][..n] {
                        let merged = union(&self.soup.sets, block.sets[cell - 1], block.sets[cell]);
                        match self.soup.sets.iter().position(|s| *s == merged) {
                            Some(set) => block.sets[cell] = set as u16,
                            None => {
                                found.insert((block.sets[cell - 1], block.sets[cell]));
                            }
                        }
                    }
                }
            }
            if !self.comm.any(!found.is_empty()) && self.soup.sets.len() == before {
                break;
            }
        }
        for block in &mut self.soup.blocks {
            let n = n_of(block);
            let last = block.ids.len().saturating_sub(1);
            let keep: Vec<usize> = (0..block.ids.len())
                .filter(|&c| c == last || block.nodes[c * n..][..n] != block.nodes[(c + 1) * n..][..n])
                .collect();
            block.nodes = keep.iter().flat_map(|&c| block.nodes[c * n..][..n].to_vec()).collect();
            block.ids = keep.iter().map(|&c| block.ids[c]).collect();
            block.sets = keep.iter().map(|&c| block.sets[c]).collect();
        }
    }

    /// The topological vertices of block `b`: flat, `shape.n_vertices()` a cell.
    pub(super) fn vertices(&self, b: usize) -> std::borrow::Cow<'_, [u64]> {
        let block = &self.soup.blocks[b];
        let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
        match &self.merged {
            Some(merged) => (&merged[b]).into(),
            None if n == corners => (&block.nodes).into(),
            None => block.nodes.chunks_exact(n).flat_map(|nodes| nodes[..corners].iter().copied()).collect(),
        }
    }

    /// The number of cells held here, over all blocks.
    pub fn n_cells(&self) -> usize {
        self.soup.blocks.iter().map(|b| b.ids.len()).sum()
    }

    /// The groups, for looking up names before the mesh is built.
    pub fn soup(&self) -> &Soup {
        &self.soup
    }

    /// Identifiers and (scaled) coordinates of nodes: each is on one rank.
    pub fn nodes(&self) -> (&[u64], &[[f64; 3]]) {
        self.coordinates.entries()
    }

    /// The dual graph: a vertex a cell (block after block on each rank), an edge a shared facet.
    pub fn graph(&self) -> Result<Graph, MeshError> {
        dual::graph(self)
    }

    /// Sends each cell to its owner (`owners` in the order of [`Draft::graph`]'s vertices) and builds
    /// the mesh with its ghost cells.
    ///
    /// # Errors
    /// As [`Draft::new`].
    pub fn distribute(self, owners: &[u32]) -> Result<Mesh, MeshError> {
        distribute::distribute(self, owners)
    }
}

fn union(sets: &[Vec<u16>], a: u16, b: u16) -> Vec<u16> {
    let mut union: Vec<u16> = sets[a as usize].iter().chain(&sets[b as usize]).copied().collect();
    union.sort_unstable();
    union.dedup();
    union
}

/// Answers `asked` (rows of `data`, `width` wide) and returns what this rank asked for, in its order.
fn reply<T: bytemuck::Pod>(
    comm: &Comm,
    asked: &Buckets<u64>,
    data: &[T],
    width: usize,
    order: &[u32],
) -> Vec<T> {
    let mut rows = Vec::with_capacity(asked.data.len() * width);
    for &row in &asked.data {
        rows.extend_from_slice(&data[row as usize * width..][..width]);
    }
    let offsets = asked.offsets.iter().map(|o| o * width).collect();
    let received = comm.exchange(&Buckets { ranks: asked.ranks.clone(), offsets, data: rows }).data;
    let mut out = vec![T::zeroed(); received.len()];
    for (row, &place) in received.chunks_exact(width).zip(order) {
        out[place as usize * width..][..width].copy_from_slice(row);
    }
    out
}
