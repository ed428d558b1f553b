//! Numbers of the vertices of leaves and of their parents, found once for all that asks about them.
//!
//! Imports `element`. Start at [`Points::new`]. Each ancestor of a leaf names and looks up the points that its children
//! have in common once, so that a leaf costs a fraction of a look-up for each of its vertices.

use super::super::names::{ByName, Name};
use super::walk::{CORNERS, centre};
use super::{Leaf, Root};
use crate::element::{Shape, edge_at, facet_at, refinement};

/// No number yet.
pub(super) const NONE: u32 = u32::MAX;

/// The points of a cell that its children have: a centre of each of its entities.
const CENTRES: usize = 27;

/// Tables of a shape.
pub(super) struct Cut {
    /// Vertices.
    pub n: usize,
    /// The corners of each point's entity, the points by dimension.
    entities: Vec<&'static [u8]>,
    /// For each child and vertex of it: the point of the parent there.
    slots: [[u8; CORNERS]; CORNERS],
    /// For each child and axis: the facet of the parent normal to it, by its vertices, and the vertex of the child
    /// that is its centre.
    pub facets: [[(&'static [u8], u8); 3]; CORNERS],
    /// The same of the edge along the axis, of hexahedra.
    pub edges: [[(&'static [u8], u8); 3]; CORNERS],
}

impl Cut {
    pub fn new(shape: Shape) -> Cut {
        let (n, dim) = (shape.n_vertices(), shape.dim());
        let mut first = [0; 4];
        let mut entities = Vec::new();
        for d in 0..=dim {
            first[d] = entities.len();
            entities.extend((0..shape.n_entities(d)).map(|i| shape.entity_vertices(d, i)));
        }
        let cut = refinement(shape);
        let mut slots = [[0; CORNERS]; CORNERS];
        let empty: (&'static [u8], u8) = (&[], 0);
        let (mut facets, mut edges) = ([[empty; 3]; CORNERS], [[empty; 3]; CORNERS]);
        for (c, vertices) in cut.children.iter().enumerate() {
            for (slot, at) in slots[c].iter_mut().zip(vertices) {
                *slot = (first[at.dim as usize] + at.index as usize) as u8;
            }
            let of = |d: usize, i: usize| {
                let vertex = slots[c][..n].iter().position(|&slot| slot as usize == first[d] + i);
                (shape.entity_vertices(d, i), vertex.expect("a child has the centres round its corner") as u8)
            };
            for a in 0..dim {
                facets[c][a] = of(dim - 1, facet_at(shape, c, a));
                if dim == 3 {
                    edges[c][a] = of(1, edge_at(shape, c, a));
                }
            }
        }
        Cut { n, entities, slots, facets, edges }
    }
}

/// A cell on the way to a leaf.
struct Step {
    child: u8,
    /// Whether all points are named, not the corners only.
    named: bool,
    names: [Name; CENTRES],
    numbers: [u32; CENTRES],
}

/// The vertices of leaves and of their parents.
#[derive(Clone)]
pub(super) struct Points {
    n: usize,
    /// By number, as met.
    pub names: Vec<Name>,
    /// Of each leaf.
    corners: Vec<u32>,
    /// Of each leaf's parent; a root is its own.
    parents: Vec<u32>,
}

/// Descends, and numbers what is asked for.
struct Finder<'a> {
    cut: &'a Cut,
    steps: Vec<Step>,
    names: Vec<Name>,
    by_name: ByName,
}

impl Finder<'_> {
    /// The number of a point of the cell at a level.
    fn number(&mut self, level: usize, slot: usize) -> u32 {
        let found = self.steps[level].numbers[slot];
        if found != NONE {
            return found;
        }
        let new = self.names.len() as u32;
        let number = if slot < self.cut.n && level > 0 {
            // A corner is a point of the parent.
            let above = self.cut.slots[self.steps[level].child as usize][slot];
            self.number(level - 1, above as usize)
        } else {
            let name = self.steps[level].names[slot];
            // The centre of a cell is no other's, and leaves in the cell stand together.
            let alone = slot + 1 == self.cut.entities.len();
            let number = if alone { new } else { *self.by_name.entry(name).or_insert(new) };
            if number == new {
                self.names.push(name);
            }
            number
        };
        self.steps[level].numbers[slot] = number;
        number
    }

    /// Adds the child that the way to a leaf takes.
    fn descend(&mut self, child: usize) {
        let cut = self.cut;
        let above = self.steps.last_mut().expect("a root");
        if !above.named {
            above.named = true;
            for (slot, listed) in cut.entities.iter().enumerate().skip(cut.n) {
                let mut of = [0; CORNERS];
                of.iter_mut().zip(*listed).for_each(|(name, &v)| *name = above.names[v as usize]);
                above.names[slot] = centre(&of[..listed.len()]);
            }
        }
        let mut step =
            Step { child: child as u8, named: false, names: [0; CENTRES], numbers: [NONE; CENTRES] };
        for (name, &slot) in step.names.iter_mut().zip(&cut.slots[child][..cut.n]) {
            *name = above.names[slot as usize];
        }
        self.steps.push(step);
    }
}

impl Points {
    /// Of leaves in order.
    pub fn new(shape: Shape, roots: &[Root], leaves: &[Leaf]) -> Points {
        let cut = Cut::new(shape);
        let (n, d) = (cut.n, shape.dim() as u32);
        let by_name = ByName::with_capacity_and_hasher(leaves.len(), Default::default());
        let mut finder = Finder { cut: &cut, steps: Vec::new(), names: Vec::new(), by_name };
        let (mut corners, mut parents) =
            (Vec::with_capacity(leaves.len() * n), Vec::with_capacity(leaves.len() * n));
        let (mut root, mut path) = (NONE, 0);
        for leaf in leaves {
            let common = ((leaf.path ^ path).leading_zeros() / d) as usize;
            path = leaf.path;
            let level = leaf.level as usize;
            if leaf.root == root {
                finder.steps.truncate(1 + common.min(level));
            } else {
                root = leaf.root;
                let mut names = [0; CENTRES];
                names[..n].copy_from_slice(&roots[root as usize].vertices[..n]);
                finder.steps.clear();
                finder.steps.push(Step { child: 0, named: false, names, numbers: [NONE; CENTRES] });
            }
            while finder.steps.len() <= level {
                finder.descend(leaf.child_at(shape, finder.steps.len() as u8));
            }
            (0..n).for_each(|w| corners.push(finder.number(level, w)));
            (0..n).for_each(|w| parents.push(finder.number(level.saturating_sub(1), w)));
        }
        Points { n, names: finder.names, corners, parents }
    }

    /// The vertices of all leaves, one leaf after the other.
    pub fn all_corners(&self) -> &[u32] {
        &self.corners
    }

    /// The vertices of a leaf.
    #[inline]
    pub fn corners(&self, leaf: usize) -> &[u32] {
        &self.corners[leaf * self.n..][..self.n]
    }

    /// Those of its parent.
    #[inline]
    pub fn parents(&self, leaf: usize) -> &[u32] {
        &self.parents[leaf * self.n..][..self.n]
    }

    /// At each point the exclusive or of the words of the facets that have it as a vertex, of leaves here: 0
    /// where each facet was met twice, so that leaves fill all round the point.
    pub fn open(&self, shape: Shape) -> Vec<u64> {
        let mut open = vec![0; self.names.len()];
        let mut words = [0; CORNERS];
        for corners in self.corners.chunks_exact(self.n) {
            for (word, &v) in words.iter_mut().zip(corners) {
                *word = self.names[v as usize] as u64;
            }
            add_facets(shape, &words, |v, word| open[corners[v] as usize] ^= word);
        }
        open
    }
}

/// Calls `add(vertex, word)` for each facet of a cell and each vertex of that, with a word that belongs to the facet;
/// `words` are the low halves of the names of the cell's vertices.
#[inline]
pub(super) fn add_facets(shape: Shape, words: &[u64; CORNERS], mut add: impl FnMut(usize, u64)) {
    for f in 0..shape.n_facets() {
        let listed = shape.facet_vertices(f);
        let word = listed.iter().fold(0u64, |sum, &v| sum.wrapping_add(words[v as usize]));
        listed.iter().for_each(|&v| add(v as usize, word));
    }
}
