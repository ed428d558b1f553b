//! The leaves of a rank, their roots, and the tables of vertices and nodes that they point into.
//!
//! Imports `mesh`. Start at [`Leaves`]. Nothing here knows how cells are cut: a cut rule gives every leaf the
//! order of its corners, a state and an order byte, and reads them back.

use super::names::Name;

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// The deepest level: a path has 128 bits.
pub(super) const MAX_LEVEL: u8 = 128;

/// What is asked of a leaf, and how often.
pub(super) mod mark {
    /// Nothing.
    pub const KEEP: u8 = 0;
    /// To be coarsened if its neighbours are.
    pub const COARSEN: u8 = 1;
    /// To be merged with its siblings: all round the vertex agree.
    pub const MERGE: u8 = 2;
    /// To be cut: this many times more than `REFINE`.
    pub const REFINE: u8 = 16;
}

/// A cell of the initial mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Its number in the input.
    pub id: u64,
    /// Its place: the block in the upper 16 bits, the number in the initial mesh in the lower ones.
    pub place: u64,
    /// What the cut rule decided about it.
    pub state: u8,
    /// How its corners lie in the mesh's cell.
    pub order: u8,
}

impl Root {
    /// The block of its leaves.
    pub fn block(&self) -> usize {
        (self.place >> 48) as usize
    }
}

/// A leaf but for its corners and nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Which child at each level, the first level in the highest bit.
    pub path: u128,
    /// The root, by its number on this rank.
    pub root: u32,
    /// The set of groups.
    pub set: u16,
    /// How many cuts lie between the root and this leaf.
    pub level: u8,
    /// What the cut rule needs to know.
    pub state: u8,
    /// Which corner is vertex i of the mesh's cell: bits 2 i and 2 i + 1. Nothing where the two orders agree
    /// always.
    pub order: u8,
    /// One of [`mark`].
    pub mark: u8,
}

/// A tag on an entity of a leaf: a set of its corners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeafTag {
    pub leaf: u32,
    pub group: u16,
    pub dim: u8,
    /// Bit k: corner k, in the leaf's order, is a vertex of the entity.
    pub corners: u8,
}

/// Leaves in flat arrays, by ascending root and path.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaves {
    /// Corners of a leaf.
    pub n_corners: usize,
    /// Geometry nodes of a leaf; 0 where they are the vertices.
    pub n_nodes: usize,
    pub heads: Vec<Head>,
    /// Vertices, in the order of the cut rule.
    pub corners: Vec<u32>,
    /// Nodes: of the corners, then of what else has some. Unused ones of straight cells are `NONE`.
    pub nodes: Vec<u32>,
    /// Ascending.
    pub tags: Vec<LeafTag>,
}

impl Leaves {
    /// No leaves, room for `n`.
    pub fn like(other: &Leaves, n: usize) -> Leaves {
        Leaves {
            n_corners: other.n_corners,
            n_nodes: other.n_nodes,
            heads: Vec::with_capacity(n),
            corners: Vec::with_capacity(n * other.n_corners),
            nodes: Vec::with_capacity(n * other.n_nodes),
            tags: Vec::with_capacity(other.tags.len()),
        }
    }

    pub fn len(&self) -> usize {
        self.heads.len()
    }

    #[inline]
    pub fn corners(&self, leaf: usize) -> &[u32] {
        &self.corners[leaf * self.n_corners..][..self.n_corners]
    }

    #[inline]
    pub fn nodes(&self, leaf: usize) -> &[u32] {
        &self.nodes[leaf * self.n_nodes..][..self.n_nodes]
    }

    /// Appends leaf `leaf` of `other`, without tags.
    #[inline]
    pub fn push_from(&mut self, other: &Leaves, leaf: usize) {
        self.heads.push(other.heads[leaf]);
        self.corners.extend_from_slice(other.corners(leaf));
        self.nodes.extend_from_slice(other.nodes(leaf));
    }

    /// Where each leaf's tags end, walked in the order of the leaves: the tags of `leaf` from `at` on.
    #[inline]
    pub fn tags_from(&self, at: &mut usize, leaf: usize) -> &[LeafTag] {
        let begin = *at;
        while self.tags.get(*at).is_some_and(|t| t.leaf as usize == leaf) {
            *at += 1;
        }
        &self.tags[begin..*at]
    }
}

/// Topological vertices and geometry nodes, by local number.
#[derive(Debug, Clone, Default)]
pub(super) struct Points {
    /// The vertices' names.
    pub names: Vec<Name>,
    /// The set of other ranks that have each vertex.
    pub sharers: Vec<u32>,
    /// The nodes' coordinates; nodes are vertices where `node_names` is not used.
    pub coordinates: Vec<[f64; 3]>,
    /// The nodes' names, where nodes are not the vertices.
    pub node_names: Vec<Name>,
}

/// Renumbers vertices (and nodes) in the order in which the mesh's cells meet them, and drops those that no
/// leaf has. `vertex(leaf, i)` is the place among the corners of vertex i of the mesh's cell.
pub(super) fn compact(leaves: &mut Leaves, points: &mut Points, order: impl Fn(&Head, usize) -> usize) {
    let n = leaves.n_corners;
    let mut number = vec![NONE; points.names.len()];
    let mut met: Vec<u32> = Vec::with_capacity(points.names.len());
    for (head, corners) in leaves.heads.iter().zip(leaves.corners.chunks_exact_mut(n)) {
        for i in 0..n {
            let v = corners[order(head, i)];
            let slot = &mut number[v as usize];
            if *slot == NONE {
                *slot = met.len() as u32;
                met.push(v);
            }
        }
        corners.iter_mut().for_each(|v| *v = number[*v as usize]);
    }
    let plain = leaves.n_nodes == 0;
    points.names = met.iter().map(|&v| points.names[v as usize]).collect();
    points.sharers = met.iter().map(|&v| points.sharers[v as usize]).collect();
    if plain {
        points.coordinates = met.iter().map(|&v| points.coordinates[v as usize]).collect();
        return;
    }
    number.clear();
    number.resize(points.node_names.len(), NONE);
    met.clear();
    for node in &mut leaves.nodes {
        if *node == NONE {
            continue;
        }
        let slot = &mut number[*node as usize];
        if *slot == NONE {
            *slot = met.len() as u32;
            met.push(*node);
        }
        *node = *slot;
    }
    points.coordinates = met.iter().map(|&v| points.coordinates[v as usize]).collect();
    points.node_names = met.iter().map(|&v| points.node_names[v as usize]).collect();
}
