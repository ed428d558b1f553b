//! Numbers of the vertices of leaves and of their parents, found once for all that asks about them.
//!
//! Imports `element`. Start at [`Points::new`]. Each ancestor of a leaf names and looks up the points that its children
//! have in common once, so that a leaf costs a fraction of a look-up for each of its vertices.

use hashbrown::HashTable;

use super::super::names::Name;
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
    /// The root and what is below it, down to `depth`; deeper ones are room for later.
    steps: Vec<Step>,
    depth: usize,
    names: Vec<Name>,
    /// Numbers of the points that were looked up, by name: they stand in `names`, which is read in order, so that
    /// the table is small enough for a cache.
    by_name: HashTable<u32>,
}

impl Finder<'_> {
    /// Makes room for a step, none of its points numbered yet.
    fn enter(&mut self, depth: usize, child: u8) -> &mut Step {
        self.depth = depth;
        if self.steps.len() == depth {
            let (names, numbers) = ([0; CENTRES], [NONE; CENTRES]);
            self.steps.push(Step { child, named: false, names, numbers });
        }
        let step = &mut self.steps[depth];
        (step.child, step.named) = (child, false);
        step.numbers[..self.cut.entities.len()].fill(NONE);
        step
    }

    /// The number of a point of the cell at a level, all points of which are named, and of those above.
    #[inline]
    fn number(&mut self, level: usize, slot: usize) -> u32 {
        let found = self.steps[level].numbers[slot];
        if found != NONE { found } else { self.find(level, slot) }
    }

    fn find(&mut self, level: usize, slot: usize) -> u32 {
        let new = self.names.len() as u32;
        let number = if slot < self.cut.n && level > 0 {
            // A corner is a point of the parent.
            let above = self.cut.slots[self.steps[level].child as usize][slot];
            self.number(level - 1, above as usize)
        } else {
            let name = self.steps[level].names[slot];
            // The centre of a cell is no other's, and leaves in the cell stand together.
            let alone = slot + 1 == self.cut.entities.len();
            let number = if alone {
                new
            } else {
                let names = &self.names;
                let is_it = |&k: &u32| names[k as usize] == name;
                *self.by_name.entry(name as u64, is_it, |&k| names[k as usize] as u64).or_insert(new).get()
            };
            if number == new {
                self.names.push(name);
            }
            number
        };
        self.steps[level].numbers[slot] = number;
        number
    }

    /// Names the points of the deepest cell that are no corners.
    fn name(&mut self) {
        let step = &mut self.steps[self.depth];
        if step.named {
            return;
        }
        step.named = true;
        let n = self.cut.n;
        for (slot, listed) in self.cut.entities.iter().enumerate().skip(n) {
            let mut of = [0; CORNERS];
            of.iter_mut().zip(*listed).for_each(|(name, &v)| *name = step.names[v as usize]);
            step.names[slot] = centre(&of[..listed.len()]);
        }
    }

    /// Adds the child that the way to a leaf takes.
    fn descend(&mut self, child: usize) {
        self.name();
        let (cut, above) = (self.cut, self.depth);
        self.enter(above + 1, child as u8);
        let (before, rest) = self.steps.split_at_mut(above + 1);
        for (name, &slot) in rest[0].names.iter_mut().zip(&cut.slots[child][..cut.n]) {
            *name = before[above].names[slot as usize];
        }
    }
}

impl Points {
    /// Of leaves in order.
    pub fn new(shape: Shape, roots: &[Root], leaves: &[Leaf]) -> Points {
        let cut = Cut::new(shape);
        let (n, d) = (cut.n, shape.dim() as u32);
        let mut finder = Finder {
            cut: &cut,
            steps: Vec::new(),
            depth: 0,
            // Where leaves fill a box there are as many points, but for those on the far sides.
            names: Vec::with_capacity(leaves.len() + leaves.len() / 16),
            by_name: HashTable::with_capacity(leaves.len() / 2),
        };
        let (mut corners, mut parents) =
            (Vec::with_capacity(leaves.len() * n), Vec::with_capacity(leaves.len() * n));
        let (mut root, mut path) = (NONE, 0);
        for leaf in leaves {
            let common = ((leaf.path ^ path).leading_zeros() / d) as usize;
            path = leaf.path;
            // The leaf's vertices are points of its parent.
            let above = usize::from(leaf.level).saturating_sub(1);
            if leaf.root == root {
                finder.depth = finder.depth.min(common).min(above);
            } else {
                root = leaf.root;
                finder.enter(0, 0).names[..n].copy_from_slice(&roots[root as usize].vertices[..n]);
            }
            while finder.depth < above {
                finder.descend(leaf.child_at(shape, finder.depth as u8 + 1));
            }
            if leaf.level > 0 {
                finder.name();
                let slots = &cut.slots[leaf.child(shape)];
                corners.extend(slots[..n].iter().map(|&slot| finder.number(above, slot as usize)));
            } else {
                corners.extend((0..n).map(|slot| finder.number(above, slot)));
            }
            parents.extend((0..n).map(|slot| finder.number(above, slot)));
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
