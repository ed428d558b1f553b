//! Dual graphs of tetrahedral meshes for tests and measurements, dealt out along a Hilbert curve.
//!
//! Each cube of a grid is six tetrahedra, one for each order in which a path from its lowest to its
//! highest corner may take the three axes (Kuhn's subdivision), so neighbours follow from a formula.

use bytemuck::Pod;
use cluster::{Buckets, Comm};
use partition::{Graph, hilbert, sort};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A grid of cubes of which a shape keeps some.
pub struct Shape {
    pub name: &'static str,
    pub side: [usize; 3],
    keep: fn([f64; 3]) -> bool,
}

impl Shape {
    /// A full box.
    pub fn cuboid(side: [usize; 3]) -> Shape {
        Shape { name: "box", side, keep: |_| true }
    }

    /// A solid cylinder along the third axis, `n` cubes across and `3 * n` long.
    pub fn cylinder(n: usize) -> Shape {
        let keep = |x: [f64; 3]| (x[0] - 0.5).powi(2) + (x[1] - 0.5).powi(2) < 0.25;
        Shape { name: "cylinder", side: [n, n, 3 * n], keep }
    }

    /// An angle bracket with a hole in its foot.
    pub fn bracket(n: usize) -> Shape {
        let keep =
            |x: [f64; 3]| (x[0] < 0.25 || x[2] < 0.25) && (x[0] - 0.65).powi(2) + (x[1] - 0.5).powi(2) > 0.03;
        Shape { name: "bracket", side: [n, n, n], keep }
    }

    fn cube(&self, index: u64) -> [usize; 3] {
        let index = index as usize;
        [index % self.side[0], index / self.side[0] % self.side[1], index / (self.side[0] * self.side[1])]
    }

    fn index(&self, cube: [usize; 3]) -> u64 {
        (cube[0] + self.side[0] * (cube[1] + self.side[1] * cube[2])) as u64
    }

    fn kept(&self, cube: [usize; 3]) -> bool {
        (self.keep)(std::array::from_fn(|d| (cube[d] as f64 + 0.5) / self.side[d] as f64))
    }

    fn neighbours(&self, tet: u64) -> impl Iterator<Item = u64> {
        let (cube, [a, b, c]) = (self.cube(tet / 6), ORDERS[(tet % 6) as usize]);
        let step = |axis: usize, forward: bool| {
            let mut to = cube;
            if forward {
                to[axis] += 1;
            } else {
                to[axis] = to[axis].wrapping_sub(1);
            }
            (to[axis] < self.side[axis] && self.kept(to)).then_some(to)
        };
        let tet_of = |cube: [usize; 3], order: [usize; 3]| {
            let at = ORDERS.iter().position(|&o| o == order).expect("a permutation");
            self.index(cube) * 6 + at as u64
        };
        [
            Some(tet_of(cube, [b, a, c])),
            Some(tet_of(cube, [a, c, b])),
            step(a, true).map(|to| tet_of(to, [b, c, a])),
            step(c, false).map(|to| tet_of(to, [c, a, b])),
        ]
        .into_iter()
        .flatten()
    }

    fn centroid(&self, tet: u64) -> [f64; 3] {
        let (cube, order) = (self.cube(tet / 6), ORDERS[(tet % 6) as usize]);
        let mut x = cube.map(|c| c as f64);
        for (k, &axis) in order.iter().enumerate() {
            x[axis] += [0.75, 0.5, 0.25][k];
        }
        x
    }

    /// The graph of tetrahedra that share a face, each rank with an equal stretch of the curve.
    pub fn graph(&self, comm: &Comm) -> Graph {
        let n_cubes = self.side.iter().product::<usize>() as u64;
        let (rank, size) = (comm.rank() as u64, comm.size() as u64);
        let mine = n_cubes * rank / size..n_cubes * (rank + 1) / size;
        let tets: Vec<u64> =
            mine.filter(|&c| self.kept(self.cube(c))).flat_map(|c| 6 * c..6 * c + 6).collect();
        let high = self.side.map(|n| n as f64);
        let keys: Vec<u64> =
            tets.iter().map(|&t| hilbert::key(self.centroid(t), [0.0; 3], high, 3)).collect();
        let (_, tets) = redistribute(comm, &keys, &tets);

        // New numbers of tetrahedra, asked from a directory that is dealt out by old number.
        let (n, offset) = (tets.len() as u64, comm.exclusive_sum(tets.len() as u64));
        let home = |tet: u64| (tet % size) as u32;
        let told = tets.iter().zip(offset..offset + n).map(|(&t, new)| (home(t), [t, new])).collect();
        let mut directory = vec![u64::MAX; (6 * n_cubes / size + 1) as usize];
        for [t, new] in comm.exchange(&Buckets::from_pairs(told)).data {
            directory[(t / size) as usize] = new;
        }
        let mut ptr = vec![0];
        let mut adj = Vec::with_capacity(4 * tets.len());
        for &t in &tets {
            adj.extend(self.neighbours(t));
            ptr.push(adj.len());
        }
        let homes: Vec<u32> = adj.iter().map(|&t| home(t)).collect();
        let asked = comm.exchange(&Buckets::from_destinations(&homes, &adj));
        let answers = Buckets {
            data: asked.data.iter().map(|&t| directory[(t / size) as usize]).collect(),
            ranks: asked.ranks,
            offsets: asked.offsets,
        };
        let answers = comm.exchange(&answers);
        let mut next: Vec<usize> = vec![0; comm.size()];
        for (rank, &begin) in answers.ranks.iter().zip(&answers.offsets) {
            next[*rank as usize] = begin;
        }
        for (a, &home) in adj.iter_mut().zip(&homes) {
            *a = answers.data[next[home as usize]];
            next[home as usize] += 1;
        }
        Graph::new(comm, ptr, adj).expect("a graph by construction")
    }
}

/// Sorts items by key over all ranks, each rank ending with an equal share: items with equal keys stay together, in the
/// order of their ranks and positions. Returns keys and items.
pub fn redistribute<T: Pod>(comm: &Comm, keys: &[u64], items: &[T]) -> (Vec<u64>, Vec<T>) {
    let sorted = sort::order(keys);
    let cuts = sort::cuts_between_keys(comm, &[&sorted]).remove(0);
    let mut destinations = Vec::with_capacity(keys.len());
    for (rank, cut) in cuts.windows(2).enumerate() {
        destinations.resize(cut[1], rank as u32);
    }
    let (keys, items): (Vec<u64>, Vec<T>) = sorted.iter().map(|&(key, k)| (key, items[k as usize])).unzip();
    let keys = comm.exchange(&Buckets::from_destinations(&destinations, &keys)).data;
    let items = comm.exchange(&Buckets::from_destinations(&destinations, &items)).data;
    sort::order(&keys).into_iter().map(|(key, k)| (key, items[k as usize])).unzip()
}

/// The edge cut of METIS k-way on the whole graph, gathered on rank 0, and the seconds it took.
pub fn metis_cut(comm: &Comm, graph: &Graph, n_parts: usize) -> (u64, f64) {
    let degrees: Vec<u32> = graph.ptr().windows(2).map(|w| (w[1] - w[0]) as u32).collect();
    let adj: Vec<i32> = graph.adj().iter().map(|&g| g as i32).collect();
    let degrees = comm.gather_varied(0, &degrees);
    let adj = comm.gather_varied(0, &adj);
    let mut answer = [0u64, 0];
    if let (Some((degrees, _)), Some((adj, _))) = (degrees, adj) {
        let mut ptr: Vec<metis::Idx> = vec![0];
        for d in degrees {
            ptr.push(ptr[ptr.len() - 1] + d as metis::Idx);
        }
        let adj: Vec<metis::Idx> = adj.into_iter().map(|a| a as metis::Idx).collect();
        let mut part = vec![0; ptr.len() - 1];
        let start = std::time::Instant::now();
        let cut = metis::Graph::new(1, n_parts as metis::Idx, &ptr, &adj)
            .expect("a valid graph")
            .set_option(metis::option::Seed(1))
            .part_kway(&mut part)
            .expect("METIS succeeds");
        answer = [cut as u64, start.elapsed().as_micros() as u64];
    }
    comm.sum_slice(&mut answer);
    (answer[0], answer[1] as f64 * 1e-6)
}
