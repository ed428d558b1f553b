//! For tests: boxes of quadrilaterals or hexahedra, cut here and there, as every rank can make them by itself.
//!
//! Slow and plain on purpose: balance and what hangs are found by comparing all leaves, each rank knows them
//! all and keeps its part. The roots are turned at random, so that neighbours see their common faces in all
//! ways. Start at [`Trees::random`], then [`Trees::mesh`]; [`under_mpi`] starts a test again on several ranks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use cluster::Comm;

use super::entities::{self, Found, mix};
use super::hanging::Hanging;
use super::{Block, EntityTag, Group, Mesh, geometry};
use crate::element::{GeometryKind, Hang, Shape, edge_at, facet_at};

/// Levels there may be.
pub(crate) const DEPTH: u32 = 4;
/// Units of a root's side; of a place, twice as many, for the nodes of second order.
const UNIT: i64 = 1 << DEPTH;

/// A leaf: its root, level, and low corner in units of the root's own axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Leaf {
    pub root: usize,
    pub at: [i64; 3],
    pub level: u32,
}

impl Leaf {
    fn size(&self) -> i64 {
        UNIT >> self.level
    }

    /// Its number in its parent.
    pub fn child(&self, shape: Shape) -> usize {
        let bits = self.at.map(|x| (x / self.size() % 2) as f64);
        shape.vertices().iter().position(|v| *v == bits).expect("a corner")
    }

    pub fn parent(&self) -> Leaf {
        let size = 2 * self.size();
        Leaf { root: self.root, at: self.at.map(|x| x - x % size), level: self.level - 1 }
    }

    fn children(&self, shape: Shape) -> Vec<Leaf> {
        let half = self.size() / 2;
        let child = |v: &[f64; 3]| {
            let at = std::array::from_fn(|d| self.at[d] + v[d] as i64 * half);
            Leaf { root: self.root, at, level: self.level + 1 }
        };
        shape.vertices().iter().map(child).collect()
    }
}

/// The leaves of a box of trees.
pub(crate) struct Trees {
    pub shape: Shape,
    pub roots: [i64; 3],
    pub periodic: bool,
    pub geometry: GeometryKind,
    /// How far the roots' corners are moved, in parts of a side.
    pub crooked: f64,
    pub leaves: Vec<Leaf>,
    /// Of each root: axis `d` of its own is axis `turns[d].0` of the box, reversed or not.
    turns: Vec<[(usize, bool); 3]>,
}

impl Trees {
    /// Uncut roots; `periodic` joins the first axis' ends.
    pub fn new(shape: Shape, roots: [i64; 3], periodic: bool, geometry: GeometryKind) -> Trees {
        let dim = shape.dim();
        let n = roots[..dim].iter().product::<i64>() as usize;
        let turn = |root: usize| {
            // Turns that keep the orientation: permutation times reversals has an even number of odd things.
            let h = mix(root as u64 + 17);
            let axes: [usize; 3] = match (dim, h % 6) {
                (2, k) => [[0, 1, 2], [1, 0, 2]][(k % 2) as usize],
                (_, k) => [[0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]][k as usize],
            };
            let odd =
                (0..3).flat_map(|a| (0..a).map(move |b| (a, b))).filter(|&(a, b)| axes[b] > axes[a]).count()
                    % 2;
            let mut flips = [h >> 8 & 1 == 1, h >> 9 & 1 == 1, dim == 3 && h >> 10 & 1 == 1];
            if (flips.iter().filter(|f| **f).count() + odd) % 2 == 1 {
                flips[0] = !flips[0];
            }
            [0, 1, 2].map(|d| (axes[d], flips[d]))
        };
        let leaves = (0..n).map(|root| Leaf { root, at: [0; 3], level: 0 }).collect();
        Trees { shape, roots, periodic, geometry, crooked: 0.15, leaves, turns: (0..n).map(turn).collect() }
    }

    /// Uncut but for some roots, then cut at random, with edges that hang alone where there can be any.
    pub fn varied(shape: Shape, roots: [i64; 3], periodic: bool, rounds: usize, share: f64) -> Trees {
        let made = |seed| {
            let mut trees = Trees::new(shape, roots, periodic, GeometryKind::Linear);
            let some: Vec<Leaf> = trees.leaves[..3].to_vec();
            trees.cut(&some);
            trees.random(rounds, share, seed)
        };
        let found = |t: &Trees| shape == Shape::Quadrilateral || t.n_edges_alone() > 0;
        (1..100).map(made).find(found).expect("edges that hang alone")
    }

    /// Cuts about one leaf in `1 / share` again and again, and what balance asks for.
    pub fn random(mut self, rounds: usize, share: f64, seed: u64) -> Trees {
        for round in 0..rounds {
            let marks: Vec<Leaf> = self
                .leaves
                .iter()
                .enumerate()
                .filter(|(k, leaf)| {
                    let h = mix(seed ^ mix(*k as u64 + 1000 * round as u64));
                    leaf.level < DEPTH && (h % 1000) as f64 <= 1000.0 * share
                })
                .map(|(_, leaf)| *leaf)
                .collect();
            self.cut(&marks);
        }
        self
    }

    /// Cuts leaves, and others until neighbours differ by one level at most.
    pub fn cut(&mut self, marks: &[Leaf]) {
        let mut marks: HashSet<Leaf> = marks.iter().copied().collect();
        while !marks.is_empty() {
            let shape = self.shape;
            let cut = |l: &Leaf| if marks.contains(l) { l.children(shape) } else { vec![*l] };
            self.leaves = self.leaves.iter().flat_map(cut).collect();
            self.leaves.sort();
            marks.clear();
            let boxes: Vec<_> = self.leaves.iter().map(|l| self.extent(l)).collect();
            for (a, coarse) in self.leaves.iter().enumerate() {
                for (b, fine) in self.leaves.iter().enumerate() {
                    if fine.level > coarse.level + 1 && self.touch(&boxes[a], &boxes[b]) {
                        marks.insert(*coarse);
                    }
                }
            }
        }
    }

    fn origin(&self, root: usize) -> [i64; 3] {
        let (r, [nx, ny, _]) = (root as i64, self.roots);
        [r % nx, r / nx % ny, if self.shape.dim() == 3 { r / nx / ny } else { 0 }]
    }

    /// A point of a root, in units of its own axes over `per` a side, in the box.
    fn place(&self, root: usize, p: [i64; 3], per: i64) -> [i64; 3] {
        let mut out = self.origin(root).map(|o| o * per);
        for (d, &(axis, flip)) in self.turns[root].iter().enumerate().take(self.shape.dim()) {
            out[axis] += if flip { per - p[d] } else { p[d] };
        }
        out
    }

    fn extent(&self, leaf: &Leaf) -> [[i64; 2]; 3] {
        let far = leaf.at.map(|x| x + leaf.size());
        let (a, b) = (self.place(leaf.root, leaf.at, UNIT), self.place(leaf.root, far, UNIT));
        std::array::from_fn(|d| [a[d].min(b[d]), a[d].max(b[d])])
    }

    fn touch(&self, a: &[[i64; 2]; 3], b: &[[i64; 2]; 3]) -> bool {
        (0..self.shape.dim()).all(|d| {
            let shifts: &[i64] = if d == 0 && self.periodic { &[-1, 0, 1] } else { &[0] };
            shifts.iter().any(|s| {
                let s = s * self.roots[0] * UNIT;
                a[d][0] <= b[d][1] + s && b[d][0] + s <= a[d][1]
            })
        })
    }

    /// The topological vertices of a leaf or of a leaf's parent.
    pub fn corners(&self, leaf: &Leaf) -> Vec<[i64; 3]> {
        let corner = |v: &[f64; 3]| {
            let p = std::array::from_fn(|d| leaf.at[d] + v[d] as i64 * leaf.size());
            let mut x = self.place(leaf.root, p, UNIT);
            if self.periodic {
                x[0] %= self.roots[0] * UNIT;
            }
            x
        };
        self.shape.vertices().iter().map(corner).collect()
    }

    /// What hangs on each leaf, and the vertices that name it.
    fn hangs(&self) -> Vec<(Hang, Vec<[i64; 3]>)> {
        let (shape, dim) = (self.shape, self.shape.dim());
        let key = |corners: &[[i64; 3]], d: usize, i: usize| {
            let mut key: Vec<_> = shape.entity_vertices(d, i).iter().map(|&v| corners[v as usize]).collect();
            key.sort();
            key
        };
        let mut whole: HashSet<Vec<[i64; 3]>> = HashSet::new();
        for leaf in &self.leaves {
            let corners = self.corners(leaf);
            for d in 1..dim {
                whole.extend((0..shape.n_entities(d)).map(|i| key(&corners, d, i)));
            }
        }
        let of = |leaf: &Leaf| {
            let own = self.corners(leaf);
            if leaf.level == 0 {
                return (Hang::NONE, own);
            }
            let (child, parent) = (leaf.child(shape), self.corners(&leaf.parent()));
            let (mut facets, mut edges) = (0, 0);
            for a in 0..dim {
                facets |= u8::from(whole.contains(&key(&parent, dim - 1, facet_at(shape, child, a)))) << a;
                if dim == 3 {
                    edges |= u8::from(whole.contains(&key(&parent, 1, edge_at(shape, child, a)))) << a;
                }
            }
            let hang = Hang::new(child, facets, edges);
            let on = hang.entities(shape, 0);
            let row = (0..own.len()).map(|v| if on >> v & 1 != 0 { parent[v] } else { own[v] }).collect();
            (hang, row)
        };
        self.leaves.iter().map(of).collect()
    }

    /// How many leaves have an edge that hangs without any face of theirs that holds it.
    pub fn n_edges_alone(&self) -> usize {
        let alone = |h: &Hang| {
            let of_facets = Hang::new(h.child(), h.facets(), 0).entities(self.shape, 1);
            h.is_some() && h.entities(self.shape, 1) & !of_facets != 0
        };
        self.hangs().iter().filter(|(h, _)| alone(h)).count()
    }

    /// Where a point of a root lies: `p` in its own reference coordinates.
    fn image(&self, root: usize, p: [f64; 3]) -> [f64; 3] {
        let shape = self.shape;
        let basis = self.geometry.basis(shape);
        let nodes: Vec<[f64; 3]> = basis
            .nodes()
            .iter()
            .map(|x| {
                let at = self.place(root, x.map(|x| (2.0 * x).round() as i64), 2);
                let mut x = at.map(|k| 0.5 * k as f64);
                for d in 0..shape.dim() {
                    // Corners inside move; those at the ends slide along them.
                    let inside = at[d] > 0 && at[d] < 2 * self.roots[d];
                    // The same at both ends of a period.
                    let a = if self.periodic { [at[0] % (2 * self.roots[0]), at[1], at[2]] } else { at };
                    let key = (a[0] + 64 * a[1] + 4096 * a[2]) as u64 * 3 + d as u64;
                    let by = (mix(key + 5) % 2001) as f64 / 1000.0 - 1.0;
                    let scale = if a.iter().all(|k| k % 2 == 0) { 1.0 } else { 0.3 };
                    x[d] += if inside { self.crooked * scale * by } else { 0.0 };
                }
                x
            })
            .collect();
        geometry::image(&basis.tabulate(&[p], 0), 0, &nodes)
    }

    /// This rank's part, leaf `k` owned by `owner(k)`. Groups are the sides, `x-min`, `x-max`, ...; roots with
    /// an even number are of one region, others of another. Collective.
    pub fn mesh(&self, comm: &Comm, owner: impl Fn(usize) -> usize) -> Mesh {
        let (shape, dim, rank) = (self.shape, self.shape.dim(), comm.rank());
        let hangs = self.hangs();
        let owners: Vec<usize> = (0..self.leaves.len()).map(&owner).collect();
        let own: Vec<Vec<[i64; 3]>> = self.leaves.iter().map(|l| self.corners(l)).collect();
        let all = |k: usize| own[k].iter().chain(&hangs[k].1);
        // Owned cells, then cells that share a vertex, the vertices that name what hangs among them.
        let mine: Vec<usize> = (0..self.leaves.len()).filter(|&k| owners[k] == rank).collect();
        let touched: HashSet<_> = mine.iter().flat_map(|&k| all(k)).collect();
        let ghosts =
            (0..self.leaves.len()).filter(|&k| owners[k] != rank && all(k).any(|v| touched.contains(v)));
        let cells: Vec<usize> = mine.iter().copied().chain(ghosts).collect();
        let mut place = vec![0u32; comm.size()];
        let places: Vec<u32> = owners
            .iter()
            .map(|&o| {
                place[o] += 1;
                place[o] - 1
            })
            .collect();
        let ids: BTreeSet<_> = (0..self.leaves.len()).flat_map(all).collect();
        let id_of: HashMap<_, u64> = ids.into_iter().zip(1..).collect();

        let mut number: BTreeMap<u64, u32> = BTreeMap::new();
        let mut met: Vec<u64> = Vec::new();
        let (mut table, mut n_touched) = (Vec::new(), 0);
        for (turn, &k) in cells.iter().enumerate() {
            for v in all(k) {
                let id = id_of[v];
                table.push(*number.entry(id).or_insert_with(|| {
                    met.push(id);
                    met.len() as u32 - 1
                }));
            }
            if turn < mine.len() {
                n_touched = met.len();
            }
        }
        let basis = self.geometry.basis(shape);
        let mut node_number: BTreeMap<[i64; 3], u32> = BTreeMap::new();
        let (mut nodes, mut node_ids, mut cell_to_node) = (Vec::new(), Vec::new(), Vec::new());
        let per = 2 * UNIT;
        for &k in &cells {
            let leaf = &self.leaves[k];
            for x in basis.nodes() {
                let p: [i64; 3] = std::array::from_fn(|d| {
                    2 * leaf.at[d] + (2.0 * x[d] * leaf.size() as f64).round() as i64
                });
                let at = self.place(leaf.root, p, per);
                let next = nodes.len() as u32;
                cell_to_node.push(*node_number.entry(at).or_insert_with(|| {
                    nodes.push(self.image(leaf.root, p.map(|p| p as f64 / per as f64)));
                    node_ids.push(at.iter().fold(1, |id, &x| id * 4096 + x as u64));
                    next
                }));
            }
        }
        let mut groups = Vec::new();
        for d in 0..dim {
            for side in ["min", "max"] {
                let name = format!("{}-{side}", ["x", "y", "z"][d]);
                groups.push(Group { dim: dim - 1, tag: groups.len() as i32 + 1, name });
            }
        }
        for k in 0..2 {
            groups.push(Group { dim, tag: 1 + k, name: format!("region-{k}") });
        }
        let mut tags = Vec::new();
        for (cell, &k) in cells.iter().enumerate() {
            let at: Vec<_> = shape
                .vertices()
                .iter()
                .map(|v| {
                    let p =
                        std::array::from_fn(|d| self.leaves[k].at[d] + v[d] as i64 * self.leaves[k].size());
                    self.place(self.leaves[k].root, p, UNIT)
                })
                .collect();
            for f in 0..shape.n_facets() {
                for (group, axis) in (0..2 * dim).map(|g| (g, g / 2)) {
                    let plane = if group % 2 == 0 { 0 } else { self.roots[axis] * UNIT };
                    if shape.facet_vertices(f).iter().all(|&v| at[v as usize][axis] == plane) {
                        let (group, local, dim) = (group as u16, f as u8, dim as u8 - 1);
                        tags.push(EntityTag { group, block: 0, cell: cell as u32, dim, local });
                    }
                }
            }
        }
        tags.sort_unstable();
        let mut block = Block {
            shape,
            geometry: self.geometry,
            n_owned: mine.len(),
            n_cells: cells.len(),
            cell_to_vertex: Vec::new().into(),
            cell_to_node: Some(cell_to_node),
            n_nodes: basis.n_nodes(),
            sets: cells.iter().map(|&k| 1 + (self.leaves[k].root % 2) as u16).collect(),
            ids: cells.iter().map(|&k| k as u64 + 1).collect(),
            ghosts: cells[mine.len()..].iter().map(|&k| (owners[k] as u32, places[k])).collect(),
            hanging: None,
        };
        let found = Found { cell_to_entity: vec![table], n: met.len(), n_touched };
        let blocks = std::slice::from_ref(&block);
        let has = |_: usize, _: usize, local: usize| local < shape.n_vertices();
        let (mut vertices, _) =
            entities::number_owned(comm, blocks, found, |e, _, _, _| mix(met[e as usize]), Some(&has));
        let table = vertices.cell_to_entity.remove(0);
        let configurations = cells.iter().map(|&k| hangs[k].0).collect();
        let (own, hanging) = Hanging::split(shape, configurations, &table);
        (block.cell_to_vertex, block.hanging) = (own, Some(hanging));
        Mesh {
            comm: comm.clone(),
            dim,
            blocks: vec![block],
            groups,
            sets: vec![vec![], vec![2 * dim as u16], vec![2 * dim as u16 + 1]],
            vertices,
            nodes,
            node_ids,
            nodes_are_vertices: false,
            tags,
            periodic: if self.periodic { vec![(0, 1)] } else { vec![] },
            n_cells_global: self.leaves.len() as u64,
        }
    }
}

const LIMIT: Duration = Duration::from_secs(300);

/// Runs `body` on each of these numbers of ranks: the test, called by its whole name, starts itself again under
/// `mpirun`. What `body` returned on rank 0 for each.
pub(crate) fn under_mpi(test: &str, ranks: &[usize], body: impl Fn(&Comm) -> Vec<f64>) -> Vec<Vec<f64>> {
    if testing::is_inside() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        let figures = body(&comm);
        if comm.is_root() {
            testing::tell(&figures.iter().map(|f| f.to_bits()).collect::<Vec<_>>());
        }
        return Vec::new();
    }
    let of = |&n: &usize| testing::figures_of(test, n, 1, LIMIT).into_iter().map(f64::from_bits).collect();
    ranks.iter().map(of).collect()
}
