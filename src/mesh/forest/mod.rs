//! The refinement forest: adaptive meshes on any number of ranks.
//!
//! Imports `element`, `mesh` and the crate `cluster`. Start at [`Forest`]. Each cell of the initial mesh is the
//! root of a tree of cuts; the leaves are the cells of the present mesh. A rank holds the leaves it owns, and of
//! each root what its leaves need; no rank ever asks a directory, because new vertices have names that all ranks
//! compute alike (`names`), and the ranks that share a vertex are known from the ends of the edge that it came
//! from (`sharers`).
//!
//! | file | what |
//! |---|---|
//! | `names`, `sharers`, `store` | names of points, sets of ranks, the arrays of leaves and points |
//! | `start`, `build`, `migrate`, `carried` | from a mesh, to a mesh, between ranks, with values |
//! | `saved` | as flat arrays, to be kept in a file |
//! | `simplex` | the cut rule of intervals, triangles and tetrahedra: children, parents, states |
//! | `bisect`, `coarsen` | who is cut, who is merged, until the mesh conforms |
//! | `tensor` | the same for quadrilaterals and hexahedra, cut into 2^dim children, with hanging nodes |

mod bisect;
mod build;
mod carried;
mod coarsen;
mod migrate;
mod names;
mod saved;
mod sharers;
mod simplex;
mod start;
mod store;
mod tensor;
#[cfg(test)]
mod tests;

use std::ops::Range;

use cluster::Comm;

use super::entities::mix;
use super::{Group, Mesh, MeshError};
use crate::element::{GeometryKind, Shape};
pub use carried::{Carried, Merge};
pub use migrate::Moved;
use names::ByName;
pub use saved::Loaded;
use sharers::RankSets;
use store::{Head, Leaves, NONE, Points, Root, mark};

/// What is to become of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It stays, unless others need it cut.
    Keep,
    /// It is cut so often that its edges are halved: `dim` times into two. See [`Forest::set_cuts`].
    Refine,
    /// It goes back to its ancestor that many cuts above, as far as its neighbours agree.
    Coarsen,
}

/// What an adaptation did, over all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Cells cut because they were marked.
    pub refined: u64,
    /// Cells cut so that the mesh conforms.
    pub by_closure: u64,
    /// Pairs of cells that became one.
    pub coarsened: u64,
    /// Rounds of messages that the closure took.
    pub rounds: u64,
    /// The greatest number of cuts between a root and a leaf.
    pub depth: u64,
}

/// A leaf, wherever it is: the same on any number of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The number of the root in the input.
    pub root: u64,
    /// How many cuts below the root.
    pub level: u8,
    /// Which child at each cut, the first in the highest bit.
    pub path: u128,
}

/// A distributed refinement forest. Owned cells of [`Forest::mesh`] are its leaves, in order.
#[derive(Clone)]
pub struct Forest {
    comm: Comm,
    dim: usize,
    shape: Shape,
    /// Of each block.
    geometries: Vec<GeometryKind>,
    groups: Vec<Group>,
    sets: Vec<Vec<u16>>,
    periodic: Vec<(u16, u16)>,
    /// How often a marked cell is cut.
    cuts: u8,
    /// Ascending by place.
    roots: Vec<Root>,
    leaves: Leaves,
    points: Points,
    rank_sets: RankSets,
    /// Of quadrilaterals or hexahedra; all else about leaves is empty then.
    tensor: Option<Box<tensor::Tensor>>,
}

/// Renumbers vertices and nodes in the order in which the mesh's cells meet them.
fn compact(leaves: &mut Leaves, points: &mut Points) {
    store::compact(leaves, points, |head, i| simplex::corner_of(head.order, i));
}

impl Forest {
    /// Dimension of the cells.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The number of leaves on this rank.
    pub fn n_leaves(&self) -> usize {
        self.tensor.as_ref().map_or(self.leaves.len(), |tensor| tensor.n_leaves())
    }

    /// How often a cell marked for refinement is cut in two, at least once; a cell marked for coarsening goes back
    /// as often. At first the dimension, which halves its edges. Quadrilaterals and hexahedra are always cut once,
    /// into a child at each corner.
    pub fn set_cuts(&mut self, cuts: u8) {
        self.cuts = cuts.clamp(1, 16);
    }

    /// How often a cell marked for refinement is cut: by how much its level grows.
    pub fn cuts(&self) -> u8 {
        if self.tensor.is_some() { 1 } else { self.cuts }
    }

    /// The leaves of this rank, in order. Leaves of one mesh on any number of ranks have the same keys.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let of_simplices = self.leaves.heads.iter().map(|head| {
            let root = self.roots[head.root as usize].id;
            Key { root, level: head.level, path: head.path }
        });
        of_simplices.chain(self.tensor.iter().flat_map(|tensor| tensor.keys()))
    }

    /// Coarsens and refines, and keeps the mesh conforming. Coarsening comes first: a vertex goes away where all
    /// cells round it are marked for that. Then marked cells are cut, and others that must follow. What
    /// `carried` holds comes along. Collective.
    ///
    /// # Shapes
    /// `marks`: one a leaf, in the order of the owned cells of [`Forest::mesh`].
    ///
    /// # Errors
    /// Marks or carried values that do not fit the leaves: nothing has changed. A cell that cannot be cut any
    /// more: nothing is refined then, but what was coarsened stays so; forest and carried values fit each other.
    /// The same error on every rank.
    pub fn adapt(&mut self, marks: &[Mark], carried: &mut Carried) -> Result<Changed, MeshError> {
        let _span = tracing::debug_span!("forest adapt").entered();
        let fits = if marks.len() == self.n_leaves() {
            carried.check(self.shape, marks.len())
        } else {
            Err(format!("{} marks of {} cells", marks.len(), self.n_leaves()))
        };
        self.comm.agree(fits.map_err(MeshError::Forest))?;
        if let Some(tensor) = &mut self.tensor {
            return tensor.adapt(marks, carried);
        }
        for (head, mark) in self.leaves.heads.iter_mut().zip(marks) {
            head.mark = match mark {
                Mark::Keep => mark::KEEP,
                Mark::Coarsen => mark::COARSEN,
                Mark::Refine => mark::REFINE + self.cuts - 1,
            };
        }
        let mut changed = Changed::default();
        for _ in 0..self.cuts {
            let n = coarsen::coarsen(self, carried)?;
            changed.coarsened += n;
            if n == 0 {
                break;
            }
        }
        bisect::refine(self, carried, &mut changed)?;
        self.leaves.heads.iter_mut().for_each(|head| head.mark = mark::KEEP);
        let deepest = self.leaves.heads.iter().map(|h| u64::from(h.level)).max();
        changed.depth = self.comm.max(deepest.unwrap_or(0));
        Ok(changed)
    }

    /// The leaves of a block.
    fn block_range(&self, b: usize) -> Range<usize> {
        let block = |head: &Head| self.roots[head.root as usize].block();
        let heads = &self.leaves.heads;
        heads.partition_point(|h| block(h) < b)..heads.partition_point(|h| block(h) <= b)
    }

    /// Whether a leaf's geometry is of second order.
    fn is_curved(&self, leaf: usize) -> bool {
        let n = self.leaves.n_corners;
        self.leaves.n_nodes > n && self.leaves.nodes(leaf)[n] != NONE
    }

    /// The number of a leaf for messages: that of its root, or one that no input has.
    fn id(&self, head: &Head) -> u64 {
        let root = self.roots[head.root as usize].id;
        if head.level == 0 {
            return root;
        }
        let path = mix(head.path as u64 ^ mix((head.path >> 64) as u64 ^ u64::from(head.level)));
        mix(root ^ path) | 1 << 63
    }

    /// The vertices that other ranks have too.
    fn shared_by_name(&self) -> ByName {
        let shared = self.points.sharers.iter().enumerate().filter(|s| *s.1 != 0);
        shared.map(|(v, _)| (self.points.names[v], v as u32)).collect()
    }

    /// The nodes that other ranks may have too, where nodes are not the vertices.
    fn shared_nodes_by_name(&self) -> ByName {
        let mut by_name = ByName::default();
        if self.leaves.n_nodes == 0 {
            return by_name;
        }
        for leaf in 0..self.leaves.len() {
            if self.leaves.corners(leaf).iter().any(|&v| self.points.sharers[v as usize] != 0) {
                let nodes = self.leaves.nodes(leaf).iter().filter(|&&k| k != NONE);
                by_name.extend(nodes.map(|&k| (self.points.node_names[k as usize], k)));
            }
        }
        by_name
    }
}
