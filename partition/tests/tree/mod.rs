//! Graphs as adaptive refinement makes them: leaves of trees over a lattice of squares or cubes that share a
//! facet. Every rank knows the whole tree; the graphs made of it are distributed.

use std::collections::HashMap;

use cluster::Comm;
use partition::Graph;

/// Level and place on that level's lattice.
pub type Leaf = (u32, [u32; 3]);

/// The leaves of trees over a lattice.
pub struct Tree {
    pub dimensions: usize,
    base: u32,
    /// In the order of the lattice, then depth first.
    pub leaves: Vec<Leaf>,
    index: HashMap<Leaf, u32>,
}

impl Tree {
    /// Splits cells as long as `split` says so of their centre in the unit cube and their level.
    pub fn new(dimensions: usize, base: u32, split: impl Fn([f64; 3], u32) -> bool) -> Tree {
        let mut tree = Tree { dimensions, base, leaves: Vec::new(), index: HashMap::new() };
        let depth = if dimensions == 3 { base } else { 1 };
        for k in 0..depth {
            for j in 0..base {
                for i in 0..base {
                    tree.descend((0, [i, j, k]), &split);
                }
            }
        }
        tree.index = tree.leaves.iter().zip(0..).map(|(&leaf, k)| (leaf, k)).collect();
        tree
    }

    fn descend(&mut self, leaf: Leaf, split: &impl Fn([f64; 3], u32) -> bool) {
        if split(self.centre(leaf), leaf.0) {
            for child in self.children(leaf) {
                self.descend(child, split);
            }
        } else {
            self.leaves.push(leaf);
        }
    }

    fn children(&self, (level, at): Leaf) -> impl Iterator<Item = Leaf> + use<> {
        let dimensions = self.dimensions;
        (0..1u32 << dimensions).map(move |child| {
            let place = |d: usize| if d < dimensions { 2 * at[d] + (child >> d & 1) } else { 0 };
            (level + 1, std::array::from_fn(place))
        })
    }

    pub fn centre(&self, (level, at): Leaf) -> [f64; 3] {
        let cells = f64::from(self.base << level);
        std::array::from_fn(|d| if d < self.dimensions { (f64::from(at[d]) + 0.5) / cells } else { 0.0 })
    }

    /// The leaf that is this cell or contains it.
    fn above(&self, (level, at): Leaf) -> Option<u32> {
        (0..=level).find_map(|up| self.index.get(&(level - up, at.map(|x| x >> up))).copied())
    }

    /// The leaves beside one.
    fn neighbours(&self, leaf: Leaf) -> Vec<u32> {
        let mut found = Vec::new();
        for d in 0..self.dimensions {
            for forward in [true, false] {
                let mut at = leaf.1;
                at[d] = if forward { at[d] + 1 } else { at[d].wrapping_sub(1) };
                if at[d] < self.base << leaf.0 {
                    self.facing((leaf.0, at), d, forward, &mut found);
                }
            }
        }
        found
    }

    /// The leaves in a cell that touch its facet towards where one came from.
    fn facing(&self, cell: Leaf, d: usize, forward: bool, found: &mut Vec<u32>) {
        if let Some(leaf) = self.above(cell) {
            found.push(leaf);
            return;
        }
        for child in self.children(cell) {
            if (child.1[d] & 1 == 0) == forward {
                self.facing(child, d, forward, found);
            }
        }
    }

    /// Whoever has a leaf of `old` has what became of it here; of several that were joined, the first's owner.
    pub fn inherit(&self, old: &Tree, owner: &[u32]) -> Vec<u32> {
        let heir = |&leaf: &Leaf| {
            let mut leaf = leaf;
            loop {
                if let Some(before) = old.above(leaf) {
                    return owner[before as usize];
                }
                leaf = (leaf.0 + 1, std::array::from_fn(|d| 2 * leaf.1[d]));
            }
        };
        self.leaves.iter().map(heir).collect()
    }

    /// The graph with each leaf on its owner, and the leaves of this rank in its order.
    pub fn graph(&self, comm: &Comm, owner: &[u32], weights: &[i32]) -> (Graph, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.leaves.len() as u32).collect();
        order.sort_by_key(|&k| owner[k as usize]);
        let mut number = vec![0u64; order.len()];
        for (new, &k) in order.iter().enumerate() {
            number[k as usize] = new as u64;
        }
        order.retain(|&k| owner[k as usize] as usize == comm.rank());
        let (mut ptr, mut adj) = (vec![0], Vec::new());
        for &k in &order {
            adj.extend(self.neighbours(self.leaves[k as usize]).iter().map(|&u| number[u as usize]));
            ptr.push(adj.len());
        }
        let mine = order.iter().map(|&k| weights[k as usize]).collect();
        let graph = Graph::new(comm, ptr, adj).expect("a graph by construction");
        (graph.with_vertex_weights(comm, mine).expect("one weight a leaf"), order)
    }

    /// The owners of all leaves from those of each rank's.
    pub fn collect(&self, comm: &Comm, mine: &[u32], owner: &[u32]) -> Vec<u32> {
        let pairs: Vec<[u32; 2]> = mine.iter().zip(owner).map(|(&k, &o)| [k, o]).collect();
        let mut all = vec![u32::MAX; self.leaves.len()];
        for [k, o] in comm.all_gather_varied(&pairs).0 {
            assert_eq!(all[k as usize], u32::MAX, "leaf {k} has two owners");
            all[k as usize] = o;
        }
        assert!(all.iter().all(|&o| (o as usize) < comm.size()), "every leaf has an owner");
        all
    }
}

/// How a mesh changes from step to step: the tree and the weights of its leaves.
pub struct Scene {
    pub name: &'static str,
    pub dimensions: usize,
    /// Whether a cell at a centre of a level is split in a step, on a lattice of `base` cells a side.
    split: fn([f64; 3], u32, usize, f64) -> bool,
    weight: fn([f64; 3], usize) -> f64,
    /// Whether in every other step a rank gives all it has to the next one first.
    pub empties: bool,
    /// How much moves at most of what METIS moves beyond what has to.
    pub beyond: f64,
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

fn ones(_: [f64; 3], _: usize) -> f64 {
    1.0
}

/// The length of a cell's side that the error at a distance `r` of a singular point asks for, after so many
/// steps that each make the mesh finer everywhere, on a lattice of spacing `h`.
fn graded(r: f64, step: usize, h: f64) -> f64 {
    0.5 * h * 0.88f64.powi(step as i32) * ((r + 0.002) / 0.3).powf(0.6)
}

/// A corner singularity: cells split where they are longer than the error allows, most near the corner.
fn at_a_corner(x: [f64; 3], level: u32, step: usize, h: f64) -> bool {
    level < 6 && h * 0.5f64.powi(level as i32) > 4.0 * graded(distance(x, [0.0; 3]), step, h)
}

/// A layer along an arc (in space: a shell), that gets thinner: finer near it, step by step.
fn along_a_curve(x: [f64; 3], level: u32, step: usize, h: f64) -> bool {
    let off = (distance(x, [0.1, 0.1, 0.1]) - 0.6).abs();
    level < 3 && h * 0.5f64.powi(level as i32) > 8.0 * graded(off, step, h)
}

/// Along a plane, askew, that moves by two of the finest cells a step: two levels, coarsened behind it.
fn along_a_front(x: [f64; 3], level: u32, step: usize, h: f64) -> bool {
    let width = 2.0 * h * 0.5f64.powi(level as i32);
    level < 2 && (0.8 * x[0] + 0.6 * x[1] - 0.3 - 0.5 * h * step as f64).abs() < width
}

/// A region, another one in each step, that is cut thrice at once; the last one is coarse again.
fn in_a_region(x: [f64; 3], level: u32, step: usize, _: f64) -> bool {
    let turn = 2.4 * step as f64;
    let centre = [0.5 + 0.3 * turn.cos(), 0.5 + 0.3 * turn.sin(), 0.2];
    // The lattice of cells in the plane lies at 0.
    let at = [x[0], x[1], if x[2] == 0.0 { 0.2 } else { x[2] }];
    step > 0 && level < 3 && distance(at, centre) < 0.14
}

/// A thin layer, three levels deep, that jumps far in a step.
fn along_a_shock(x: [f64; 3], level: u32, step: usize, h: f64) -> bool {
    let width = 1.5 * h * 0.5f64.powi(level as i32);
    level < 3 && (0.8 * x[0] + 0.6 * x[1] - 0.2 - 0.15 * step as f64).abs() < width
}

fn never(_: [f64; 3], _: u32, _: usize, _: f64) -> bool {
    false
}

/// Up to 8 times as heavy near a spot that wanders: a plastic zone, a flame.
fn heavy_spot(x: [f64; 3], step: usize) -> f64 {
    let spot = [0.2 + 0.06 * step as f64, 0.3, 0.0];
    1.0 + 7.0 * (-12.0 * distance(x, spot).powi(2)).exp()
}

/// The scenes of the table: meshes that change step by step.
pub const SCENES: [Scene; 8] = [
    scene("corner 2D", 2, at_a_corner, ones),
    scene("corner 3D", 3, at_a_corner, ones),
    scene("curve 2D", 2, along_a_curve, ones),
    scene("curve 3D", 3, along_a_curve, ones),
    scene("front 2D", 2, along_a_front, ones),
    scene("front 3D", 3, along_a_front, ones),
    // On 64 ranks the spot leaves a rank's part within a step.
    Scene { beyond: 0.6, ..scene("spot 2D", 2, never, heavy_spot) },
    scene("spot 3D", 3, never, heavy_spot),
];

/// Meshes that change at once.
pub const ABRUPT: [Scene; 6] = [
    // Nearly all weight is in one rank: METIS moves little more than anyone has to.
    Scene { beyond: 1.0, ..scene("region at once 2D", 2, in_a_region, ones) },
    Scene { beyond: 1.0, ..scene("region at once 3D", 3, in_a_region, ones) },
    Scene { beyond: 0.75, ..scene("shock 2D", 2, along_a_shock, ones) },
    Scene { beyond: 0.75, ..scene("shock 3D", 3, along_a_shock, ones) },
    Scene { empties: true, ..scene("empty rank 2D", 2, at_a_corner, ones) },
    Scene { empties: true, ..scene("empty rank 3D", 3, at_a_corner, ones) },
];

const fn scene(
    name: &'static str,
    dimensions: usize,
    split: fn([f64; 3], u32, usize, f64) -> bool,
    weight: fn([f64; 3], usize) -> f64,
) -> Scene {
    Scene { name, dimensions, split, weight, empties: false, beyond: 0.4 }
}

impl Scene {
    /// The tree of a step and its weights: in tenths of percent, with the noise of a measurement.
    pub fn step(&self, base: u32, step: usize) -> (Tree, Vec<i32>) {
        let tree =
            Tree::new(self.dimensions, base, |x, level| (self.split)(x, level, step, 1.0 / f64::from(base)));
        let noise = |k: usize| {
            0.9 + 0.2 * ((k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / 16_777_216.0
        };
        let weights = (0..tree.leaves.len())
            .map(|k| (1000.0 * noise(k) * (self.weight)(tree.centre(tree.leaves[k]), step)) as i32)
            .collect();
        (tree, weights)
    }
}
