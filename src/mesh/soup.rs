//! What readers and generators hand to the mesh builder: cells, entities and nodes without connections.
//!
//! Imports `element`. Start at [`Soup`]. Each rank holds an arbitrary part of every array, so a reader
//! deals out what it finds without knowing where it will live; [`super::draft::Draft`] sorts it out.

use crate::element::{GeometryKind, Shape};

/// A named part of the mesh: a physical group of a file, or a side of a generated box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The dimension of its entities.
    pub dim: usize,
    /// Its number in the input, unique among the groups of one dimension.
    pub tag: i32,
    /// Its name, or its tag as text where it has none.
    pub name: String,
}

/// Cells of one shape and one geometry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellBlock {
    /// The cells' shape.
    pub shape: Shape,
    /// The kind of their geometry, which says how many nodes a cell has.
    pub geometry: GeometryKind,
    /// Input identifiers of the cells' nodes, in the order of [`crate::element`]: `n_cells * nodes per cell`.
    pub nodes: Vec<u64>,
    /// The number of each cell in the input, for messages.
    pub ids: Vec<u64>,
    /// Per cell: the set of groups it belongs to, an index into [`Soup::sets`].
    pub sets: Vec<u16>,
}

/// Entities of lower dimension than the cells that belong to groups: facets, edges, vertices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityBlock {
    /// The entities' shape.
    pub shape: Shape,
    /// Input identifiers of their corner nodes: `n * shape.n_vertices()`.
    pub vertices: Vec<u64>,
    /// The group of each, an index into [`Soup::groups`]; an entity in two groups appears twice.
    pub groups: Vec<u16>,
}

/// An unconnected mesh. Every array is this rank's arbitrary part, unless its line says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Soup {
    /// The dimension of the cells: the highest in the input.
    pub dim: usize,
    /// The groups, ascending by dimension and tag; the same list on all ranks.
    pub groups: Vec<Group>,
    /// The distinct sets of groups that cells belong to, each ascending; the same list on all ranks.
    /// The first is empty.
    pub sets: Vec<Vec<u16>>,
    /// The cells; the same shapes and geometries in the same order on all ranks, some blocks may be empty.
    pub blocks: Vec<CellBlock>,
    /// The grouped entities; the same shapes in the same order on all ranks, some blocks may be empty.
    pub entities: Vec<EntityBlock>,
    /// Input identifiers of nodes, each at least 1.
    pub node_ids: Vec<u64>,
    /// Their coordinates.
    pub node_coordinates: Vec<[f64; 3]>,
    /// At least the greatest identifier on any rank.
    pub max_node_id: u64,
    /// Pairs of nodes (slave, master) that the input makes periodic by a translation. Nodes that are not
    /// vertices (of curved boundaries) may be among them.
    pub periodic: Vec<(u64, u64)>,
}
