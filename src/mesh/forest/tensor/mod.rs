//! The second cut rule: quadrilaterals and hexahedra into a child at each corner.
//!
//! Imports `element`, `mesh` and the forest's names and sets of ranks. Start at [`Tensor`]. A leaf is its root and
//! its path; its vertices, nodes and tags follow from its root's (`walk`). Neighbours differ by one level at most
//! over faces, edges and corners, so that what hangs is a part of a whole face or edge of a coarser leaf.
//!
//! Balance goes by vertices: a leaf of level l that fills corner c of its parent meets a leaf of level l - 1 that is
//! not its sibling only if that leaf has its vertex c too. So a leaf that is cut asks for level l at that vertex;
//! one round tells the ranks that share the vertex, until nobody asks for anything new.
//!
//! Sources: C. Burstedde, L. Wilcox, O. Ghattas, p4est: scalable algorithms for parallel adaptive mesh refinement
//! on forests of octrees, SIAM J. Sci. Comput. 33 (2011); T. Isaac, C. Burstedde, O. Ghattas, Low-cost parallel
//! algorithms for 2:1 octree balance, IPDPS 2012.

mod adapt;
mod build;
mod migrate;
mod points;
mod saved;
#[cfg(test)]
mod tests;
mod walk;

use std::cell::OnceCell;

use cluster::{Buckets, Comm};

use super::names::{self, ByName, Name};
use super::sharers::RankSets;
use super::{Carried, Changed, Key, Mark};
use crate::element::{GeometryKind, Shape};
use crate::mesh::{Block, Group, Mesh, MeshError, entities::mix};
use points::Points;
use walk::{CORNERS, Corners, Walker};

/// A cell of the initial mesh, with all that its leaves inherit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Root {
    /// Its number in the input.
    id: u64,
    /// The block in the upper 16 bits, the number in the initial mesh in the lower ones.
    place: u64,
    /// Its set of groups.
    set: u16,
    /// Names of its vertices, and of the nodes there.
    vertices: Corners,
    corner_nodes: Corners,
    /// Coordinates of its geometry nodes.
    nodes: Vec<[f64; 3]>,
    /// Dimension, number and group of its entities in groups.
    tags: Vec<(u8, u8, u16)>,
}

impl Root {
    fn block(&self) -> usize {
        (self.place >> 48) as usize
    }
}

/// A leaf: which child at each level below its root, the first level in the highest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    path: u128,
    root: u32,
    level: u8,
    mark: Mark,
}

impl Leaf {
    fn shift(shape: Shape, level: u8) -> u32 {
        128 - shape.dim() as u32 * u32::from(level)
    }

    /// Which child its ancestor of a level is.
    fn child_at(&self, shape: Shape, level: u8) -> usize {
        (self.path >> Leaf::shift(shape, level)) as usize & (shape.n_vertices() - 1)
    }

    /// Which child it is; 0 of a root.
    fn child(&self, shape: Shape) -> usize {
        if self.level == 0 { 0 } else { self.child_at(shape, self.level) }
    }

    fn cut(&self, shape: Shape, child: usize) -> Leaf {
        let level = self.level + 1;
        Leaf {
            path: self.path | (child as u128) << Leaf::shift(shape, level),
            level,
            mark: Mark::Keep,
            ..*self
        }
    }

    fn parent(&self, shape: Shape) -> Leaf {
        let mask = !((shape.n_vertices() as u128 - 1) << Leaf::shift(shape, self.level));
        Leaf { path: self.path & mask, level: self.level - 1, mark: Mark::Keep, ..*self }
    }
}

/// A forest of quadrilaterals or hexahedra.
#[derive(Clone)]
pub(super) struct Tensor {
    comm: Comm,
    shape: Shape,
    geometries: Vec<GeometryKind>,
    groups: Vec<Group>,
    sets: Vec<Vec<u16>>,
    periodic: Vec<(u16, u16)>,
    /// Whether nodes are named apart from vertices.
    apart: bool,
    /// Ascending by place.
    roots: Vec<Root>,
    /// Ascending by root and path.
    leaves: Vec<Leaf>,
    /// Of these leaves, once they are asked for.
    points: OnceCell<Points>,
}

/// Points that other ranks have too, and these.
struct Shared {
    sets: RankSets,
    /// Of each point: the set of other ranks; nothing on one rank.
    of: Vec<u32>,
    /// The points that other ranks have.
    number: ByName,
}

impl Shared {
    fn of(&self, point: u32) -> &[u32] {
        self.of.get(point as usize).map_or(&[], |&set| self.sets.get(set))
    }

    fn ranks(&self, name: Name) -> &[u32] {
        self.number.get(&name).map_or(&[], |&point| self.of(point))
    }
}

impl Tensor {
    /// The forest of the cells of a mesh, not cut yet. `names` are those of the mesh's vertices and of the nodes at
    /// them. Collective.
    pub fn new(mesh: &Mesh, shape: Shape, vertex_names: &[Name], node_names: &[Name]) -> Tensor {
        let mut roots = Vec::with_capacity(mesh.n_owned_cells());
        let n_before = mesh.comm.exclusive_sum(mesh.n_owned_cells() as u64);
        let mut first = Vec::new();
        for (b, block) in mesh.blocks.iter().enumerate() {
            first.push(roots.len());
            for cell in 0..block.n_owned {
                let (mut vertices, mut corner_nodes) = ([0; CORNERS], [0; CORNERS]);
                for (k, (&v, &node)) in block.vertices(cell).iter().zip(block.nodes(cell)).enumerate() {
                    vertices[k] = vertex_names[v as usize];
                    corner_nodes[k] = node_names[node as usize];
                }
                roots.push(Root {
                    id: block.ids[cell],
                    place: (b as u64) << 48 | (n_before + roots.len() as u64),
                    set: block.sets[cell],
                    vertices,
                    corner_nodes,
                    nodes: block.nodes(cell).iter().map(|&k| mesh.nodes[k as usize]).collect(),
                    tags: Vec::new(),
                });
            }
        }
        for t in &mesh.tags {
            if (t.cell as usize) < mesh.blocks[t.block as usize].n_owned {
                let root = &mut roots[first[t.block as usize] + t.cell as usize];
                root.tags.push((t.dim, t.local, t.group));
            }
        }
        let leaf = |root| Leaf { path: 0, root, level: 0, mark: Mark::Keep };
        Tensor {
            comm: mesh.comm.clone(),
            shape,
            geometries: mesh.blocks.iter().map(|b: &Block| b.geometry).collect(),
            groups: mesh.groups.clone(),
            sets: mesh.sets.clone(),
            periodic: mesh.periodic.clone(),
            apart: !mesh.nodes_are_vertices,
            leaves: (0..roots.len() as u32).map(leaf).collect(),
            roots,
            points: OnceCell::new(),
        }
    }

    pub fn n_leaves(&self) -> usize {
        self.leaves.len()
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let id = |leaf: &Leaf| self.roots[leaf.root as usize].id;
        self.leaves.iter().map(move |leaf| Key { root: id(leaf), level: leaf.level, path: leaf.path })
    }

    fn walker(&self) -> Walker {
        Walker::new(self.shape, self.apart)
    }

    /// The number of a leaf for messages.
    fn id(&self, leaf: &Leaf) -> u64 {
        let root = self.roots[leaf.root as usize].id;
        if leaf.level == 0 {
            return root;
        }
        let path = mix(leaf.path as u64 ^ mix((leaf.path >> 64) as u64 ^ u64::from(leaf.level)));
        mix(root ^ path) | 1 << 63
    }

    /// As [`super::Forest::adapt`], of what was checked.
    pub fn adapt(&mut self, marks: &[Mark], carried: &mut Carried) -> Result<Changed, MeshError> {
        self.leaves.iter_mut().zip(marks).for_each(|(leaf, &mark)| leaf.mark = mark);
        let mut changed = Changed::default();
        if self.comm.any(marks.contains(&Mark::Coarsen)) {
            changed.coarsened = self.coarsen(carried)?;
        }
        if self.comm.any(marks.contains(&Mark::Refine)) {
            self.refine(carried, &mut changed)?;
        }
        self.leaves.iter_mut().for_each(|leaf| leaf.mark = Mark::Keep);
        let deepest = self.leaves.iter().map(|leaf| u64::from(leaf.level)).max();
        changed.depth = self.comm.max(deepest.unwrap_or(0));
        Ok(changed)
    }

    /// The vertices of leaves and of their parents.
    fn points(&self) -> &Points {
        self.points.get_or_init(|| Points::new(self.shape, &self.roots, &self.leaves))
    }

    /// Other leaves from now on.
    fn replace(&mut self, leaves: Vec<Leaf>) {
        self.leaves = leaves;
        self.points = OnceCell::new();
    }

    /// The ranks that share vertices of leaves or of their parents with this one. Only leaves at the rank's own
    /// surface can: those with a point round which it has not all. A rank that the name chooses is told of each
    /// of their points, and tells all that told it. `open` is that of [`Points::open`]. Collective.
    fn shared(&self, open: &[u64]) -> Shared {
        let mut sets = RankSets::new();
        let size = self.comm.size() as u64;
        if size == 1 {
            return Shared { sets, of: Vec::new(), number: ByName::default() };
        }
        let points = self.points();
        let mut is_told = vec![false; points.names.len()];
        let mut told: Vec<(u32, [u64; 2])> = Vec::new();
        let mut number = ByName::default();
        let to = |name: Name| ((name >> 64) as u64 % size) as u32;
        for k in 0..self.leaves.len() {
            let corners = points.corners(k);
            if corners.iter().all(|&v| open[v as usize] == 0) {
                continue;
            }
            for &v in corners.iter().chain(points.parents(k)) {
                if !std::mem::replace(&mut is_told[v as usize], true) {
                    let name = points.names[v as usize];
                    told.push((to(name), names::words(name)));
                    number.insert(name, v);
                }
            }
        }
        drop(is_told);
        let asked = self.comm.exchange(&Buckets::from_pairs(told));
        let mut holders: Vec<(Name, u32)> = Vec::with_capacity(asked.data.len());
        for (rank, words) in asked.iter() {
            holders.extend(words.iter().map(|&w| (names::from_words(w), rank)));
        }
        holders.sort_unstable();
        let mut answers: Vec<(u32, [u64; 3])> = Vec::new();
        for run in holders.chunk_by(|a, b| a.0 == b.0) {
            for &(name, rank) in run {
                let [low, high] = names::words(name);
                let others = run.iter().filter(|h| h.1 != rank);
                answers.extend(others.map(|h| (rank, [low, high, u64::from(h.1)])));
            }
        }
        let answers = self.comm.exchange(&Buckets::from_pairs(answers));
        let mut of = vec![0; points.names.len()];
        for &[low, high, rank] in &answers.data {
            let set = &mut of[number[&names::from_words([low, high])] as usize];
            *set = sets.with(*set, rank as u32);
        }
        number.retain(|_, v| of[*v as usize] != 0);
        Shared { sets, of, number }
    }
}
