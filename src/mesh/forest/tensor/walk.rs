//! A leaf's corners, from its root's: names and places by descending its path.
//!
//! Imports `element`. Start at [`Walker::go`]. A child's vertex is the centre of a sub-entity of its parent, named
//! after the names of that entity's corners, whichever cell looks at it. So everything of a leaf follows from its
//! root and its path; `points` numbers them, nothing else is kept.

use xxhash_rust::xxh3::xxh3_128;

use super::super::names::{self, Name};
use super::{Leaf, Root};
use crate::element::{GeometryKind, Lagrange, Refinement, Shape, refinement};

/// The most corners a cell has.
pub(super) const CORNERS: usize = 8;

/// Names of a cell's corners.
pub(super) type Corners = [Name; CORNERS];

/// The name of the centre of an entity with these corners.
pub(super) fn centre(corners: &[Name]) -> Name {
    match *corners {
        [a] => a,
        [a, b] => names::midpoint(a, b),
        _ => {
            let mut sorted = [0; CORNERS];
            sorted[..corners.len()].copy_from_slice(corners);
            sorted[..corners.len()].sort_unstable();
            xxh3_128(bytemuck::cast_slice(&sorted[..corners.len()]))
        }
    }
}

/// The name of the centre of sub-entity `i` of dimension `dim` of a cell.
pub(super) fn entity(shape: Shape, corners: &Corners, dim: usize, i: usize) -> Name {
    let listed = shape.entity_vertices(dim, i);
    let mut of = [0; CORNERS];
    for (name, &v) in of.iter_mut().zip(listed) {
        *name = corners[v as usize];
    }
    centre(&of[..listed.len()])
}

/// Where a walker stands at one level.
#[derive(Clone, Copy)]
struct Step {
    vertices: Corners,
    nodes: Corners,
}

/// Goes from leaf to leaf; what leaves one after the other have in common above them is done once.
pub(super) struct Walker {
    shape: Shape,
    cut: Refinement,
    /// Whether nodes are named apart from vertices.
    apart: bool,
    root: u32,
    path: u128,
    steps: Vec<Step>,
}

impl Walker {
    pub fn new(shape: Shape, apart: bool) -> Walker {
        let cut = refinement(shape);
        Walker { shape, cut, apart, root: u32::MAX, path: 0, steps: Vec::new() }
    }

    /// Descends to a leaf.
    pub fn go(&mut self, roots: &[Root], leaf: &Leaf) {
        let d = self.shape.dim() as u32;
        if leaf.root != self.root || self.steps.is_empty() {
            let root = &roots[leaf.root as usize];
            self.steps.clear();
            self.steps.push(Step { vertices: root.vertices, nodes: root.corner_nodes });
            self.root = leaf.root;
            self.path = 0;
        }
        let common = ((leaf.path ^ self.path).leading_zeros() / d) as usize;
        self.steps.truncate(1 + common.min(leaf.level as usize));
        self.path = leaf.path;
        while self.steps.len() <= leaf.level as usize {
            let above = self.steps[self.steps.len() - 1];
            let child = leaf.child_at(self.shape, self.steps.len() as u8);
            let mut step = above;
            for (w, at) in self.cut.children[child].iter().enumerate() {
                let (dim, i) = (at.dim as usize, at.index as usize);
                step.vertices[w] = entity(self.shape, &above.vertices, dim, i);
                if self.apart {
                    step.nodes[w] = entity(self.shape, &above.nodes, dim, i);
                }
            }
            self.steps.push(step);
        }
    }

    fn step(&self) -> &Step {
        self.steps.last().expect("the walker stands on a leaf")
    }

    /// The names of its parent's vertices; of a root its own.
    pub fn parent(&self) -> &Corners {
        &self.steps[self.steps.len().saturating_sub(2)].vertices
    }

    /// The names of its geometry nodes.
    pub fn node_names(&self, geometry: GeometryKind, out: &mut Vec<Name>) {
        out.clear();
        let corners = if self.apart { &self.step().nodes } else { &self.step().vertices };
        let n = geometry.n_nodes(self.shape);
        for dim in 0..=self.shape.dim() {
            for i in 0..self.shape.n_entities(dim) {
                if out.len() < n {
                    out.push(entity(self.shape, corners, dim, i));
                }
            }
        }
    }
}

/// Where a leaf lies in its root, from leaf to leaf.
pub(super) struct Path {
    shape: Shape,
    root: u32,
    path: u128,
    /// The lowest corner and the size at each level.
    steps: Vec<([f64; 3], f64)>,
}

impl Path {
    pub fn new(shape: Shape) -> Path {
        Path { shape, root: u32::MAX, path: 0, steps: vec![([0.0; 3], 1.0)] }
    }

    /// Descends to a leaf.
    pub fn go(&mut self, leaf: &Leaf) {
        let d = self.shape.dim() as u32;
        let common = ((leaf.path ^ self.path).leading_zeros() / d) as usize;
        let common = if leaf.root == self.root { common } else { 0 };
        (self.root, self.path) = (leaf.root, leaf.path);
        self.steps.truncate(1 + common.min(leaf.level as usize));
        while self.steps.len() <= leaf.level as usize {
            let (mut low, size) = self.steps[self.steps.len() - 1];
            let corner = self.shape.vertices()[leaf.child_at(self.shape, self.steps.len() as u8)];
            let size = 0.5 * size;
            (0..3).for_each(|k| low[k] += corner[k] * size);
            self.steps.push((low, size));
        }
    }

    /// Where a point of the leaf's reference cell lies in its root's.
    pub fn in_root(&self, x: &[f64; 3]) -> [f64; 3] {
        let (low, size) = self.steps[self.steps.len() - 1];
        std::array::from_fn(|k| low[k] + size * x[k])
    }

    /// Whether sub-entity `i` of dimension `dim` of the leaf lies on the root's of the same number, which is so if
    /// the leaf reaches all sides that the entity is on.
    pub fn reaches(&self, dim: usize, i: usize) -> bool {
        let listed = self.shape.entity_vertices(dim, i);
        let at = |v: u8, k: usize| self.shape.vertices()[v as usize][k];
        let (low, size) = self.steps[self.steps.len() - 1];
        (0..self.shape.dim()).all(|k| {
            let side = at(listed[0], k);
            let fixed = listed.iter().all(|&v| at(v, k) == side);
            !fixed || low[k] + side * size == side
        })
    }
}

/// The map of a root: weights of its geometry nodes at a point.
pub(super) struct Map {
    geometry: GeometryKind,
    basis: Lagrange,
    shape: Shape,
    /// Of each node: its coordinates in halves.
    at: Vec<[u8; 3]>,
}

impl Map {
    pub fn new(shape: Shape, geometry: GeometryKind) -> Map {
        let basis = geometry.basis(shape);
        // Nodes lie at 0, 1/2 and 1.
        let at = basis.nodes().iter().map(|x| x.map(|t| (2.0 * t).round() as u8)).collect();
        Map { geometry, basis, shape, at }
    }

    /// The image of a point of the reference cell. Products of functions of one axis, but for serendipity cells.
    pub fn image(&self, nodes: &[[f64; 3]], p: &[f64; 3]) -> [f64; 3] {
        let dim = self.shape.dim();
        let mut out = [0.0; 3];
        let mut add = |w: f64, x: &[f64; 3]| (0..3).for_each(|k| out[k] += w * x[k]);
        match self.geometry {
            GeometryKind::Linear | GeometryKind::Quadratic => {
                // The functions of each axis, of the nodes at 0, 1/2 and 1.
                let along = p.map(|t| match self.geometry {
                    GeometryKind::Linear => [1.0 - t, 0.0, t],
                    _ => [(1.0 - t) * (1.0 - 2.0 * t), 4.0 * t * (1.0 - t), t * (2.0 * t - 1.0)],
                });
                for (at, x) in self.at.iter().zip(nodes) {
                    let w = (0..dim).fold(1.0, |w, k| w * along[k][at[k] as usize]);
                    add(w, x);
                }
            }
            _ => {
                let table = self.basis.tabulate(std::slice::from_ref(p), 0);
                table.values.iter().zip(nodes).for_each(|(&w, x)| add(w, x));
            }
        }
        out
    }

    /// The element of the geometry.
    pub fn basis(&self) -> &Lagrange {
        &self.basis
    }
}
