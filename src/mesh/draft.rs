//! A mesh on its way: cells in the order of a space-filling curve, not yet given to their owners.
//!
//! [`Draft::new`] checks the cells and redistributes them along a Hilbert curve (`curve.rs`),
//! [`Draft::partition`] finds owners, [`Draft::distribute`] sends every cell to its owner and builds the
//! [`Mesh`]. All three are collective. Cells are kept with local numbers of their nodes, half the size of
//! identifiers.

use cluster::Comm;
use partition::hilbert::Curve;
use partition::{Graph, Options};

use super::directory::{Directory, Ranges};
use super::dual::{self, Dealt};
use super::ids::{IdSet, Numbers};
use super::soup::Soup;
use super::{Mesh, MeshError, curve, distribute, geometry, periodic};

/// Topological vertices where periodicity makes them differ from the corner nodes.
pub(super) struct Merged {
    /// Per local node: its vertex, a number on this rank.
    pub label: Vec<u32>,
    /// Per vertex: its identifier, that of one of its nodes.
    pub ids: Vec<u64>,
}

/// Cells along a Hilbert curve, with all that their owners will need.
pub struct Draft {
    pub(super) comm: Comm,
    /// What was read; its blocks are without nodes, which `cells` has.
    pub(super) soup: Soup,
    /// Per block: local numbers of the cells' nodes.
    pub(super) cells: Vec<Vec<u32>>,
    /// The nodes of the cells here, in the order in which the cells meet them.
    pub(super) numbers: Numbers,
    /// Their coordinates.
    pub(super) points: Vec<[f64; 3]>,
    pub(super) coordinates: Directory<[f64; 3]>,
    pub(super) ranges: Ranges,
    pub(super) merged: Option<Merged>,
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
        let _span = tracing::debug_span!("draft").entered();
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
        let dim = soup.dim;
        let curve = along_curve.then(|| Curve::new(low, high, dim));
        let looked =
            soup.blocks.iter_mut().map(|b| geometry::orient(b, dim, &ids, &local, curve.as_ref())).collect();
        let keys: Vec<Vec<u64>> = comm.agree(looked)?;
        let mut draft = Draft {
            comm: comm.clone(),
            soup,
            cells: Vec::new(),
            numbers: Numbers::new(1, 0, 0),
            points: Vec::new(),
            coordinates,
            ranges,
            merged: None,
            periodic: periodic.to_vec(),
        };
        if along_curve {
            curve::follow(&mut draft, keys, &ids);
        } else {
            curve::stay(&mut draft, &ids);
        }
        draft.points = if comm.size() == 1 || !along_curve {
            // The cells that were looked at are the cells that are here.
            draft.numbers.ids().iter().map(|&id| local[ids.local(id) as usize]).collect()
        } else {
            drop((ids, local));
            let found = draft.coordinates.get(comm, draft.numbers.ids());
            comm.agree(found.map_err(|node| MeshError::MissingNode { node }))?
        };
        if !periodic.is_empty() {
            draft.merged = Some(periodic::merge(&draft, periodic)?);
        }
        Ok(draft)
    }

    /// The topological vertex of a local node.
    #[inline]
    pub(super) fn label(&self, node: u32) -> u32 {
        self.merged.as_ref().map_or(node, |merged| merged.label[node as usize])
    }

    /// The identifiers of topological vertices.
    pub(super) fn vertex_ids(&self) -> &[u64] {
        self.merged.as_ref().map_or(self.numbers.ids(), |merged| &merged.ids)
    }

    /// The identifiers of the nodes of block `b`'s cells, flat.
    pub fn cell_nodes(&self, b: usize) -> Vec<u64> {
        let ids = self.numbers.ids();
        self.cells[b].iter().map(|&node| ids[node as usize]).collect()
    }

    /// The number of cells held here, over all blocks.
    pub fn n_cells(&self) -> usize {
        self.soup.blocks.iter().map(|b| b.ids.len()).sum()
    }

    /// What the draft was made of: groups, sets, entities, and of each block all but the nodes, for which
    /// see [`Draft::cell_nodes`].
    pub fn soup(&self) -> &Soup {
        &self.soup
    }

    /// Identifiers and (scaled) coordinates of nodes: each is on one rank.
    pub fn nodes(&self) -> (&[u64], &[[f64; 3]]) {
        self.coordinates.entries()
    }

    /// The dual graph: a vertex a cell (block after block on each rank), an edge a shared facet. For
    /// measures; [`Draft::partition`] does without. Collective.
    ///
    /// # Errors
    /// Too many cells on a rank.
    pub fn graph(&self) -> Result<Graph, MeshError> {
        dual::graph(self)
    }

    /// An owner for each cell, block after block. Collective.
    ///
    /// # Errors
    /// Those of the partitioner, the same on every rank.
    pub fn partition(&self, n_parts: usize, options: &Options) -> Result<Dealt, MeshError> {
        dual::partition(self, n_parts, options)
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
