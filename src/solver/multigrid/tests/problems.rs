//! Matrices to test with: finite elements of degree 1 on lattices cut into triangles or tetrahedra, their nodes
//! moved about, dealt out to ranks by bricks.
//!
//! Imports `cluster` and `assembly`. Start at [`Lattice`].

use cluster::{Comm, Halo, IndexMap};

use crate::assembly::{Matrix, Pattern};
use crate::solver::multigrid::Assembled;

/// A box of cells, each cut into simplices along its diagonal.
pub(super) struct Lattice {
    /// Nodes along each axis; 1 for an axis that is not there.
    pub n: [usize; 3],
    /// Side lengths.
    pub size: [f64; 3],
    /// How far nodes are moved, in parts of a cell.
    pub jitter: f64,
}

/// A matrix with everything that multigrid wants to know of it.
pub(super) struct Problem {
    pub map: IndexMap,
    pub halo: Halo,
    pub pattern: Pattern,
    pub matrix: Matrix,
    /// Coordinates of the owned nodes.
    pub x: Vec<[f64; 3]>,
    /// Per owned DOF: whether it is prescribed.
    pub fixed: Vec<bool>,
}

/// What the matrix is of.
pub(super) enum Operator<'a> {
    /// `-div (k grad u) + c u`.
    Diffusion { k: &'a dyn Fn([f64; 3]) -> [f64; 3], c: f64 },
    /// Lame's coefficients.
    Elasticity { lambda: f64, mu: f64 },
}

/// Noise in [-1, 1) from a number.
pub(super) fn noise(k: u64) -> f64 {
    let mut h = (k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^= h >> 32;
    (h >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

impl Lattice {
    pub fn cube(n: usize) -> Lattice {
        Lattice { n: [n + 1; 3], size: [1.0; 3], jitter: 0.2 }
    }

    pub fn square(n: usize) -> Lattice {
        Lattice { n: [n + 1, n + 1, 1], size: [1.0; 3], jitter: 0.2 }
    }

    fn dim(&self) -> usize {
        self.n.iter().filter(|n| **n > 1).count()
    }

    fn at(&self, i: [usize; 3]) -> [f64; 3] {
        let k = (i[0] + self.n[0] * (i[1] + self.n[1] * i[2])) as u64;
        std::array::from_fn(|a| {
            if self.n[a] == 1 {
                return 0.0;
            }
            let inside = i[a] > 0 && i[a] + 1 < self.n[a];
            let moved = if inside { self.jitter * noise(3 * k + a as u64) } else { 0.0 };
            (i[a] as f64 + moved) * self.size[a] / (self.n[a] - 1) as f64
        })
    }

    /// Ranks along each axis.
    fn bricks(&self, ranks: usize) -> [usize; 3] {
        let (mut left, mut bricks) = (ranks, [1; 3]);
        for prime in [7, 5, 3, 2] {
            while left.is_multiple_of(prime) {
                let axis = (0..3).max_by_key(|&a| self.n[a] / bricks[a]).unwrap_or(0);
                bricks[axis] *= prime;
                left /= prime;
            }
        }
        bricks[0] *= left;
        bricks
    }

    /// Assembles; `fixed(x, component)` says what is prescribed. Collective.
    pub fn assemble(
        &self,
        comm: &Comm,
        operator: &Operator,
        fixed: &dyn Fn([f64; 3], usize) -> bool,
    ) -> Problem {
        let dim = self.dim();
        let block = if matches!(operator, Operator::Elasticity { .. }) { dim } else { 1 };
        let bricks = self.bricks(comm.size());
        let cut = |a: usize, k: usize| self.n[a] * k / bricks[a];
        let brick_of = |a: usize, i: usize| (0..bricks[a]).find(|&k| i < cut(a, k + 1)).expect("in a brick");
        let range = |rank: usize| {
            let k = [rank % bricks[0], rank / bricks[0] % bricks[1], rank / bricks[0] / bricks[1]];
            std::array::from_fn::<_, 3, _>(|a| [cut(a, k[a]), cut(a, k[a] + 1)])
        };
        let len = |r: &[[usize; 2]; 3]| r.iter().map(|r| (r[1] - r[0]) as u64).product::<u64>();
        let mut offsets = vec![0u64];
        for rank in 0..comm.size() {
            offsets.push(offsets[rank] + len(&range(rank)));
        }
        let global = |i: [usize; 3]| {
            let k: [usize; 3] = std::array::from_fn(|a| brick_of(a, i[a]));
            let rank = k[0] + bricks[0] * (k[1] + bricks[1] * k[2]);
            let r = range(rank);
            let at = (i[0] - r[0][0]) as u64
                + (r[0][1] - r[0][0]) as u64
                    * ((i[1] - r[1][0]) as u64 + (r[1][1] - r[1][0]) as u64 * (i[2] - r[2][0]) as u64);
            (offsets[rank] + at, rank as u32)
        };
        // The box of nodes that own cells reach.
        let mine = range(comm.rank());
        let n_owned = len(&mine) as usize;
        let low: [usize; 3] = std::array::from_fn(|a| mine[a][0].saturating_sub(1));
        let high: [usize; 3] = std::array::from_fn(|a| (mine[a][1] + 1).min(self.n[a]));
        let width: [usize; 3] = std::array::from_fn(|a| high[a] - low[a]);
        let total = if n_owned == 0 { 0 } else { width.iter().product() };
        let index = |k: usize| {
            [low[0] + k % width[0], low[1] + k / width[0] % width[1], low[2] + k / width[0] / width[1]]
        };
        let mut ghosts: Vec<(u64, u32)> =
            (0..total).map(|k| global(index(k))).filter(|(_, rank)| *rank as usize != comm.rank()).collect();
        ghosts.sort_unstable();
        let (ghosts, owners): (Vec<u64>, Vec<u32>) = ghosts.into_iter().unzip();
        let map = IndexMap::new(comm, n_owned, ghosts, owners);
        let halo = Halo::new(comm, &map);
        let local: Vec<u32> =
            (0..total).map(|k| map.global_to_local(global(index(k)).0).expect("collected above")).collect();
        let mut x = vec![[0.0; 3]; n_owned];
        // Neighbours of a node: those that differ by 0 or 1, in one direction, along all axes.
        let mut pattern = Pattern {
            n_rows: n_owned,
            diag_ptr: vec![0],
            diag_col: vec![],
            off_ptr: vec![0],
            off_col: vec![],
        };
        let mut where_of = vec![usize::MAX; n_owned];
        for k in 0..total {
            if (local[k] as usize) < n_owned {
                where_of[local[k] as usize] = k;
                x[local[k] as usize] = self.at(index(k));
            }
        }
        let mut columns: Vec<u32> = Vec::new();
        for &k in &where_of {
            columns.clear();
            let i = index(k);
            for bits in 0..8usize {
                for sign in [1i64, -1] {
                    let j: [i64; 3] = std::array::from_fn(|a| i[a] as i64 + sign * (bits >> a & 1) as i64);
                    if (0..3).all(|a| j[a] >= 0 && j[a] < self.n[a] as i64) {
                        let j = j.map(|j| j as usize);
                        columns.push(
                            local
                                [(j[0] - low[0]) + width[0] * ((j[1] - low[1]) + width[1] * (j[2] - low[2]))],
                        );
                    }
                }
            }
            columns.sort_unstable();
            columns.dedup();
            let split = columns.partition_point(|&c| (c as usize) < n_owned);
            pattern.diag_col.extend(&columns[..split]);
            pattern.off_col.extend(&columns[split..]);
            pattern.diag_ptr.push(pattern.diag_col.len());
            pattern.off_ptr.push(pattern.off_col.len());
        }
        let mut made = Problem {
            map,
            halo,
            matrix: Matrix::new(&pattern, block),
            pattern,
            x,
            fixed: vec![false; n_owned * block],
        };
        let orders: &[[usize; 3]] = match dim {
            1 => &[[0, 0, 0]],
            2 => &[[0, 1, 1], [1, 0, 0]],
            _ => &[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]],
        };
        for k in 0..total {
            let i = index(k);
            if (0..3).any(|a| self.n[a] > 1 && i[a] + 1 >= high[a]) {
                continue;
            }
            for order in orders {
                let (mut corner, mut nodes, mut points) = (i, vec![local[k]], vec![self.at(i)]);
                for &axis in &order[..dim] {
                    corner[axis] += 1;
                    nodes.push(
                        local[(corner[0] - low[0])
                            + width[0] * ((corner[1] - low[1]) + width[1] * (corner[2] - low[2]))],
                    );
                    points.push(self.at(corner));
                }
                made.add(dim, block, operator, &nodes, &points, fixed);
            }
        }
        for node in 0..n_owned {
            for c in 0..block {
                made.fixed[node * block + c] = fixed(made.x[node], c);
            }
        }
        made
    }
}

impl Problem {
    /// Its matrix, to be solved with.
    pub fn assembled(&self) -> Assembled {
        let (p, m) = (&self.pattern, &self.matrix);
        let mut pattern = Pattern {
            n_rows: p.n_rows,
            diag_ptr: p.diag_ptr.clone(),
            diag_col: p.diag_col.clone(),
            off_ptr: p.off_ptr.clone(),
            off_col: p.off_col.clone(),
        };
        let matrix = Matrix { block: m.block, diag: m.diag.clone(), off: m.off.clone() };
        Assembled::new(&mut pattern, matrix, &self.halo, self.map.n_local())
    }

    /// An entry of the pattern.
    pub fn entry(&mut self, row: usize, column: u32, a: usize, b: usize) -> &mut f64 {
        let (p, c) = (&self.pattern, self.matrix.block);
        let (ptr, col, val) = if (column as usize) < p.n_rows {
            (&p.diag_ptr, &p.diag_col, &mut self.matrix.diag)
        } else {
            (&p.off_ptr, &p.off_col, &mut self.matrix.off)
        };
        let columns = &col[ptr[row]..ptr[row + 1]];
        let k = columns.iter().position(|&c| c == column).expect("in the pattern");
        &mut val[ptr[row] * c * c + (a * columns.len() + k) * c + b]
    }

    /// Adds a simplex, prescribed DOFs left out but for their diagonal.
    fn add(
        &mut self,
        dim: usize,
        block: usize,
        operator: &Operator,
        nodes: &[u32],
        x: &[[f64; 3]],
        fixed: &dyn Fn([f64; 3], usize) -> bool,
    ) {
        let mut j = [[0.0; 3]; 3];
        for a in 0..3 {
            for b in 0..3 {
                j[a][b] =
                    if a < dim && b < dim { x[b + 1][a] - x[0][a] } else { f64::from(u8::from(a == b)) };
            }
        }
        let minor = |r: usize, c: usize| {
            let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
            j[r1][c1] * j[r2][c2] - j[r1][c2] * j[r2][c1]
        };
        let det = (0..3).map(|c| j[0][c] * minor(0, c)).sum::<f64>();
        let volume = det.abs() / [1.0, 1.0, 2.0, 6.0][dim];
        let mut g = [[0.0; 3]; 4];
        for v in 0..dim {
            for a in 0..dim {
                g[v + 1][a] = minor(a, v) / det;
                g[0][a] -= g[v + 1][a];
            }
        }
        let middle = std::array::from_fn(|a| x.iter().map(|x| x[a]).sum::<f64>() / x.len() as f64);
        let n_owned = self.pattern.n_rows;
        for p in (0..nodes.len()).filter(|&p| (nodes[p] as usize) < n_owned) {
            for q in 0..nodes.len() {
                let dot: f64 = (0..dim).map(|d| g[p][d] * g[q][d]).sum();
                for a in 0..block {
                    for b in 0..block {
                        let same = f64::from(u8::from(a == b));
                        let value = match operator {
                            Operator::Diffusion { k, c } => {
                                let k = k(middle);
                                let mass =
                                    c * (1.0 + f64::from(u8::from(p == q))) / ((dim + 1) * (dim + 2)) as f64;
                                (0..dim).map(|d| k[d] * g[p][d] * g[q][d]).sum::<f64>() + mass
                            }
                            Operator::Elasticity { lambda, mu } => {
                                lambda * g[p][a] * g[q][b] + mu * g[p][b] * g[q][a] + mu * same * dot
                            }
                        } * volume;
                        let diagonal = p == q && a == b;
                        if diagonal || !(fixed(x[p], a) || fixed(x[q], b)) {
                            *self.entry(nodes[p] as usize, nodes[q], a, b) += value;
                        }
                    }
                }
            }
        }
    }

    /// Rigid motions, zero where prescribed.
    pub fn rigid_motions(&self, dim: usize) -> Vec<Vec<f64>> {
        let turn = |axis: usize, x: &[f64; 3]| {
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            let mut v = [0.0; 3];
            (v[a], v[b]) = (-(x[b] - 0.5), x[a] - 0.5);
            v
        };
        let n_modes = if dim == 3 { 6 } else { 3 };
        (0..n_modes)
            .map(|k| {
                let mut mode: Vec<f64> = Vec::with_capacity(self.x.len() * dim);
                for x in &self.x {
                    let v = if k < dim {
                        std::array::from_fn(|a| f64::from(u8::from(a == k)))
                    } else {
                        turn(if dim == 3 { k - 3 } else { 2 }, x)
                    };
                    mode.extend(&v[..dim]);
                }
                mode.iter_mut().zip(&self.fixed).filter(|(_, f)| **f).for_each(|(m, _)| *m = 0.0);
                mode
            })
            .collect()
    }

    /// `y = A x` in double precision; `x` has room for ghosts.
    pub fn product(&self, x: &mut [f64], y: &mut [f64]) {
        let (p, c) = (&self.pattern, self.matrix.block);
        self.halo.forward(x, c);
        for row in 0..p.n_rows {
            for a in 0..c {
                let mut sum = 0.0;
                let parts = [
                    (&p.diag_ptr, &p.diag_col, &self.matrix.diag),
                    (&p.off_ptr, &p.off_col, &self.matrix.off),
                ];
                for (ptr, col, val) in parts {
                    let columns = &col[ptr[row]..ptr[row + 1]];
                    let values = &val[ptr[row] * c * c + a * columns.len() * c..][..columns.len() * c];
                    for (&column, values) in columns.iter().zip(values.chunks_exact(c)) {
                        let x = &x[column as usize * c..][..c];
                        sum += values.iter().zip(x).map(|(v, x)| v * x).sum::<f64>();
                    }
                }
                y[row * c + a] = sum;
            }
        }
    }
}
