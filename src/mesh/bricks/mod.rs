//! Generated boxes as distributed meshes, made where they will live.
//!
//! Imports `element`, `mesh` and the crates `cluster` and `partition` (the curve). Start at [`Plan`]. A box
//! is a lattice, so each rank finds out by itself which cells it owns (`bisect`), in which order any rank
//! keeps its cells (`layout`), which cells of others lie around its own, and who owns the vertices
//! (`local`). No cell travels and nothing is sorted or hashed: tables over the rank's part of the lattice
//! (`window`) give vertices their numbers. Ranks communicate once, along interfaces, for the global numbers
//! of vertices owned elsewhere. Periodic boxes wrap the lattice of vertices; the nodes stay apart.
//!
//! The mesh keeps the promises of [`super::draft::Draft::distribute`], which [`super::check_mesh`] verifies,
//! with the numbers that [`super::boxes::generate`] gives to cells and nodes.

mod bisect;
mod fill;
mod layout;
mod local;
#[cfg(test)]
mod tests;
mod window;

use cluster::{Buckets, Comm, Halo, IndexMap};

use super::boxes::{self, AXES, BoxError, BoxSpec, Lattice};
use super::soup::Group;
use super::{Block, Entities, Mesh, MeshError};
use crate::element::{GeometryKind, Shape};
use bisect::Bisection;
use local::Local;

/// A valid box, before it is dealt out.
#[derive(Debug)]
pub struct Plan {
    shape: Shape,
    lattice: Lattice,
    groups: Vec<Group>,
    /// The corners of the cells that a box of the lattice is cut into.
    parts: Vec<Vec<u8>>,
    /// Per side (`x-min`, `x-max`, ...): which facets of which parts of a box that lies at it.
    sides: Vec<Vec<(u8, u8)>>,
    scale: f64,
    periodic: Vec<(u16, u16)>,
    /// Whether the lattice comes round, by axis.
    wraps: [bool; 3],
}

/// How the boxes are dealt out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dealt {
    /// The most cells on a rank, over the mean.
    pub imbalance: f64,
    /// Facets between cells of different owners.
    pub edge_cut: u64,
}

/// The name of the method that deals out boxes.
pub const METHOD: &str = "coordinate-bisection";

impl Plan {
    /// A box that is to be made; nothing is made yet.
    ///
    /// # Errors
    /// A specification that makes no box.
    pub fn new(spec: &BoxSpec) -> Result<Plan, BoxError> {
        let lattice = spec.lattice()?;
        let (shape, dim) = (spec.shape, lattice.dim);
        let parts = boxes::parts(shape);
        let sides = (0..2 * dim).map(|side| facets_at(&parts, shape, side / 2, (side % 2) as u8)).collect();
        let groups = boxes::groups(dim);
        Ok(Plan { shape, lattice, groups, parts, sides, scale: 1.0, periodic: Vec::new(), wraps: [false; 3] })
    }

    /// The cells' dimension.
    pub fn dim(&self) -> usize {
        self.lattice.dim
    }

    /// The sides and the body, as [`boxes::generate`] numbers them.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Multiplies coordinates by `scale` and joins pairs of sides.
    ///
    /// # Errors
    /// Cells without volume in double precision, a box that does not lie flat, sides that are not opposite
    /// each other, fewer than 3 boxes across a period. They depend on the plan only.
    pub fn with(mut self, scale: f64, periodic: &[(u16, u16)]) -> Result<Plan, MeshError> {
        self.scale = scale;
        self.periodic = periodic.to_vec();
        let name = |g: u16| self.groups[g as usize].name.clone();
        for &(a, b) in periodic {
            let fail = |what: &str| Err(MeshError::Periodic { a: name(a), b: name(b), what: what.into() });
            if a == b {
                return fail("they lie in the same place");
            }
            if a / 2 != b / 2 {
                return fail("one is not a translate of the other: join a side with the opposite one");
            }
            self.wraps[a as usize / 2] = true;
        }
        if (0..3).any(|d| self.wraps[d] && self.lattice.cells[d] < 3) {
            return Err(MeshError::Periodic {
                a: name(periodic[0].0),
                b: name(periodic[0].1),
                what: "fewer than 3 cells across the period: refine the mesh in that direction".into(),
            });
        }
        self.check_geometry()?;
        Ok(self)
    }

    /// What the general way finds out cell by cell; here all cells are alike.
    fn check_geometry(&self) -> Result<(), MeshError> {
        let dim = self.lattice.dim;
        let (low, high) = (self.coordinates([0; 3]), self.coordinates(self.lattice.cells));
        let size = low.iter().chain(&high).fold(0.0f64, |m, x| m.max(x.abs()));
        if let Some(d) = (dim..3).find(|&d| low[d].abs() > 1e-9 * size) {
            return Err(MeshError::NotFlat { dim, coordinate: AXES[d], value: low[d] });
        }
        let next = self.coordinates(std::array::from_fn(|d| u64::from(d < dim)));
        let steps = &std::array::from_fn::<f64, 3, _>(|d| next[d] - low[d])[..dim];
        let extent = steps.iter().fold(0.0f64, |m, &x| m.max(x));
        if steps.iter().product::<f64>() <= 1e-14 * extent.powi(dim as i32) {
            return Err(MeshError::BadCell {
                id: 1,
                shape: self.shape.name().to_string(),
                what: "has no volume: its nodes lie in a plane, on a line, or coincide".to_string(),
                x: low[0],
                y: low[1],
                z: low[2],
            });
        }
        Ok(())
    }

    fn coordinates(&self, node: [u64; 3]) -> [f64; 3] {
        let x = self.lattice.coordinates(node);
        if self.scale == 1.0 { x } else { x.map(|x| x * self.scale) }
    }

    /// The number of vertices along each axis: on a periodic one the last node is the first.
    fn vertices(&self) -> [u64; 3] {
        std::array::from_fn(|d| self.lattice.nodes[d] - u64::from(self.wraps[d]))
    }

    /// Finds this rank's part of the box and makes its mesh. Collective; every rank passes the same plan.
    ///
    /// # Errors
    /// More cells or vertices on a rank than 32-bit numbers hold.
    pub fn build(&self, comm: &Comm) -> Result<(Mesh, Dealt), MeshError> {
        let _span = tracing::debug_span!("box").entered();
        let bisection = Bisection::new(self.lattice.cells, self.wraps, comm.size());
        let mut local = comm.agree(Local::new(self, &bisection, comm.rank()))?;
        let n_cells_global = self.lattice.cells.iter().product::<u64>() * self.parts.len() as u64;
        let dealt = Dealt {
            imbalance: comm.max(local.n_owned_cells as u64) as f64 * comm.size() as f64
                / n_cells_global as f64,
            edge_cut: comm.sum(local.edge_cut),
        };

        // The one exchange: owners tell the global numbers of vertices that others hold as ghosts.
        let n_owned = local.n_owned_vertices;
        let offset = comm.exclusive_sum(n_owned as u64);
        let asked: Vec<(u32, u64)> = local.ghosts.iter().map(|g| (g.owner, g.id)).collect();
        let order: Vec<(u32, u32)> =
            local.ghosts.iter().enumerate().map(|(k, g)| (g.owner, k as u32)).collect();
        let questions = comm.exchange(&Buckets::from_pairs(asked));
        let shared = Buckets {
            data: questions.data.iter().map(|&id| local.owned_vertex(self, id)).collect(),
            ranks: questions.ranks,
            offsets: questions.offsets,
        };
        let answers = Buckets {
            data: shared.data.iter().map(|&vertex| offset + u64::from(vertex)).collect(),
            ranks: shared.ranks.clone(),
            offsets: shared.offsets.clone(),
        };
        let answers = comm.exchange(&answers);
        let mut numbers = vec![0u64; local.ghosts.len()];
        for (&k, &number) in Buckets::from_pairs(order).data.iter().zip(&answers.data) {
            numbers[k as usize] = number;
        }
        local.sort_ghosts(&mut numbers);
        let owners = local.ghosts.iter().map(|g| g.owner).collect();
        let n_global = self.vertices().iter().product();
        let map = IndexMap::from_parts(n_owned, offset, n_global, numbers, owners);
        let halo = Halo::with_shared(comm, &map, shared);
        let mesh = Mesh {
            comm: comm.clone(),
            dim: self.dim(),
            blocks: vec![Block {
                shape: self.shape,
                geometry: GeometryKind::Linear,
                n_owned: local.n_owned_cells,
                n_cells: local.ids.len(),
                cell_to_vertex: local.cell_to_vertex.into(),
                cell_to_node: local.cell_to_node,
                n_nodes: self.shape.n_vertices(),
                sets: vec![1; local.ids.len()],
                ids: local.ids,
                ghosts: local.ghost_cells,
                hanging: None,
            }],
            groups: self.groups.clone(),
            sets: vec![Vec::new(), vec![2 * self.dim() as u16]],
            vertices: Entities { map, halo, cell_to_entity: Vec::new() },
            nodes: local.nodes,
            node_ids: local.node_ids,
            nodes_are_vertices: self.periodic.is_empty(),
            tags: local.tags,
            periodic: self.periodic.clone(),
            n_cells_global,
        };
        Ok((mesh, dealt))
    }
}

/// The facets of a box's parts that lie in the plane where corners have bit `axis` equal to `side`, as
/// (part, facet), ascending.
fn facets_at(parts: &[Vec<u8>], shape: Shape, axis: usize, side: u8) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    for (part, corners) in parts.iter().enumerate() {
        for facet in 0..shape.n_facets() {
            if shape.facet_vertices(facet).iter().all(|&v| corners[v as usize] >> axis & 1 == side) {
                found.push((part as u8, facet as u8));
            }
        }
    }
    found
}
