//! The distributed mesh: topology, geometry, readers, generators, distribution, refinement.
//!
//! Imports `element`, and the crates `cluster` and `partition` (graphs and sorting only). Start at
//! [`Mesh`]; [`draft::Draft`] is how one is made from a [`soup::Soup`], which is what readers hand over,
//! [`bricks`] how a box is made. No rank ever holds the whole mesh.

pub mod boxes;
pub mod bricks;
mod check;
pub mod counts;
mod curve;
pub mod directory;
mod distribute;
pub mod draft;
mod dual;
mod entities;
pub mod facets;
pub mod forest;
pub mod geometry;
pub mod gmsh;
mod hanging;
mod ids;
pub mod lattice;
pub mod locate;
pub mod periodic;
pub mod refine;
pub mod saved;
pub mod soup;
mod table;
mod tags;
#[cfg(test)]
pub(crate) mod trees;

use cluster::Comm;
use serde::{Deserialize, Serialize};

use crate::element::{GeometryKind, Shape};
pub use check::check_mesh;
pub use entities::Entities;
pub use hanging::Hanging;
pub use ids::IdSet;
pub use soup::Group;
pub use table::Table;

/// What is wrong with a mesh. Travels between ranks.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum MeshError {
    /// An element refers to a node that is not there.
    #[error("an element uses node {node}, which the mesh does not define")]
    MissingNode {
        /// Its identifier.
        node: u64,
    },
    /// A cell without volume, or turned inside out.
    #[error("element {id} ({shape}) near ({x:.6}, {y:.6}, {z:.6}) {what}")]
    BadCell {
        /// The element's number in the input.
        id: u64,
        /// Its shape.
        shape: String,
        /// What is wrong with it.
        what: String,
        /// Its centre, x.
        x: f64,
        /// Its centre, y.
        y: f64,
        /// Its centre, z.
        z: f64,
    },
    /// The mesh has no cells.
    #[error("the mesh has no cells")]
    Empty,
    /// Surfaces or curves bent in space.
    #[error(
        "the mesh has cells of dimension {dim} that do not lie flat (a node at {coordinate} = {value}): shells \
         and curved lines are not supported; a 2D mesh must lie in the plane z = 0, a 1D mesh on the x axis"
    )]
    NotFlat {
        /// The cells' dimension.
        dim: usize,
        /// The offending coordinate's name.
        coordinate: char,
        /// Its value.
        value: f64,
    },
    /// Two periodic boundaries that do not match.
    #[error("periodic boundaries \"{a}\" and \"{b}\" do not match: {what}")]
    Periodic {
        /// One group.
        a: String,
        /// The other.
        b: String,
        /// Why not.
        what: String,
    },
    /// Uniform refinement of cells that hang.
    #[error("a mesh with hanging nodes cannot be refined as a whole: refine before adapting")]
    Hangs,
    /// More cells on a rank than 32-bit local numbers hold.
    #[error("rank {rank} would hold {n} {what}, more than 2^32: use more ranks")]
    TooLarge {
        /// The rank.
        rank: usize,
        /// How many.
        n: u64,
        /// Of what.
        what: String,
    },
    /// A mesh that cannot be adapted, or marks and values that do not fit it.
    #[error("{0}")]
    Forest(String),
    /// A saved mesh that contradicts itself.
    #[error("the saved mesh is damaged: it has {0}")]
    Saved(String),
    /// The partitioner failed.
    #[error("{0}")]
    Partition(String),
}

/// A tag on a cell's sub-entity: facet, edge or vertex `local` of cell `cell` belongs to `group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntityTag {
    /// The group, an index into [`Mesh::groups`].
    pub group: u16,
    /// The cell's block.
    pub block: u16,
    /// The cell within its block.
    pub cell: u32,
    /// The entity's dimension.
    pub dim: u8,
    /// The entity's number within the reference cell.
    pub local: u8,
}

/// Cells of one shape and one geometry: owned ones first, ghosts after.
#[derive(Debug, Clone)]
pub struct Block {
    /// The cells' shape.
    pub shape: Shape,
    /// The kind of their geometry.
    pub geometry: GeometryKind,
    /// How many are owned.
    pub n_owned: usize,
    /// How many there are, ghosts included.
    pub n_cells: usize,
    /// Topological vertices, local numbers: `n_cells * shape.n_vertices()`.
    pub cell_to_vertex: Table,
    /// Geometry nodes, local numbers: `n_cells * nodes per cell`. `None` where nodes are the vertices.
    cell_to_node: Option<Vec<u32>>,
    n_nodes: usize,
    /// Per cell: which set of groups it belongs to, an index into [`Mesh::sets`].
    pub sets: Vec<u16>,
    /// Per cell: its number in the input.
    pub ids: Vec<u64>,
    /// Per ghost: its owner, and its number within the same block there.
    pub ghosts: Vec<(u32, u32)>,
    /// Cells that are smaller than a neighbour; `None` where the mesh conforms, on every rank.
    pub hanging: Option<Hanging>,
}

impl Block {
    /// The number of geometry nodes of a cell.
    pub fn nodes_per_cell(&self) -> usize {
        self.n_nodes
    }

    /// A cell's topological vertices.
    pub fn vertices(&self, cell: usize) -> &[u32] {
        let n = self.shape.n_vertices();
        &self.cell_to_vertex[cell * n..][..n]
    }

    /// A cell's geometry nodes.
    #[inline]
    pub fn nodes(&self, cell: usize) -> &[u32] {
        &self.node_table()[cell * self.n_nodes..][..self.n_nodes]
    }

    /// Geometry nodes of all cells: `[cell][node]`.
    #[inline]
    pub fn node_table(&self) -> &[u32] {
        self.cell_to_node.as_deref().unwrap_or(&self.cell_to_vertex)
    }

    /// The rank that owns a cell.
    pub fn owner(&self, cell: usize, this_rank: usize) -> u32 {
        if cell < self.n_owned { this_rank as u32 } else { self.ghosts[cell - self.n_owned].0 }
    }

    /// Whether the map from the reference cell is affine for every cell.
    pub fn is_affine(&self) -> bool {
        self.shape.is_simplex() && self.geometry == GeometryKind::Linear
    }
}

/// A rank's part of a distributed mesh: its own cells, and one layer of ghost cells around them (every
/// cell of another rank that shares a topological vertex with an owned one, where the vertices of a cell's
/// parent that name what hangs on it count as the cell's).
pub struct Mesh {
    /// The ranks.
    pub comm: Comm,
    /// Dimension of cells and of space.
    pub dim: usize,
    /// Cells by shape and geometry; the same list on every rank.
    pub blocks: Vec<Block>,
    /// Groups, the same on every rank.
    pub groups: Vec<Group>,
    /// Distinct sets of groups that cells belong to.
    pub sets: Vec<Vec<u16>>,
    /// Topological vertices: owned first, ghosts after, these by ascending global number.
    pub vertices: Entities,
    /// Coordinates of geometry nodes, by local number.
    pub nodes: Vec<[f64; 3]>,
    /// The nodes' global identifiers.
    pub node_ids: Vec<u64>,
    /// Whether nodes and vertices are numbered alike (linear geometry, nothing periodic).
    pub nodes_are_vertices: bool,
    /// Tags of facets, edges and vertices of owned and ghost cells, ascending.
    pub tags: Vec<EntityTag>,
    /// Pairs of groups whose vertices were merged.
    pub periodic: Vec<(u16, u16)>,
    /// The number of cells over all ranks.
    pub n_cells_global: u64,
}

impl Mesh {
    /// The number of owned cells.
    pub fn n_owned_cells(&self) -> usize {
        self.blocks.iter().map(|b| b.n_owned).sum()
    }

    /// The tags of one group.
    pub fn tags_of(&self, group: u16) -> &[EntityTag] {
        let begin = self.tags.partition_point(|t| t.group < group);
        let end = self.tags.partition_point(|t| t.group <= group);
        &self.tags[begin..end]
    }

    /// The coordinates of a cell's geometry nodes, appended to `out`.
    pub fn cell_coordinates(&self, block: &Block, cell: usize, out: &mut Vec<[f64; 3]>) {
        out.extend(block.nodes(cell).iter().map(|&n| self.nodes[n as usize]));
    }

    /// The least and greatest coordinates over all ranks. Collective.
    pub fn bounds(&self) -> ([f64; 3], [f64; 3]) {
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for x in &self.nodes {
            for d in 0..3 {
                low[d] = low[d].min(x[d]);
                high[d] = high[d].max(x[d]);
            }
        }
        self.comm.min_slice(&mut low);
        self.comm.max_slice(&mut high);
        (low, high)
    }
}
