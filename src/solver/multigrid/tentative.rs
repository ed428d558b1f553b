//! The tentative prolongation: the near-null space, cut along the aggregates and made orthonormal on each.
//!
//! Imports its siblings. Start at [`Tentative::new`].

use super::aggregate::{Aggregates, NONE};
use super::parallel::{map, rows};

/// A column shorter than this part of what it was before the others were taken out depends on them.
const DEPENDENT: f64 = 1e-6;

/// Aggregates a task takes.
const PER_TASK: usize = 1024;

/// The tentative prolongation of owned nodes: one block each.
pub(super) struct Tentative {
    /// Blocks `[node][component][mode]`; zero where a node is in no aggregate.
    pub val: Vec<f32>,
    /// The near-null space on the coarse DOFs `aggregate * n_modes + mode`, mode by mode.
    pub near_null: Vec<Vec<f64>>,
}

impl Tentative {
    /// Orthonormalises, per aggregate, the rows of `near_null` that belong to it.
    ///
    /// A mode that depends on others before it (a rotation of a single node) becomes a column of zeros.
    ///
    /// Shapes: `near_null` has `n_owned * block` entries a mode; there is at least one mode.
    pub fn new(aggregates: &Aggregates, block: usize, near_null: &[Vec<f64>]) -> Tentative {
        let modes = near_null.len();
        let n = aggregates.of.len();
        // Nodes by aggregate, ascending.
        let mut ptr = vec![0u32; aggregates.n + 1];
        for &a in aggregates.of.iter().filter(|a| **a != NONE) {
            ptr[a as usize + 1] += 1;
        }
        for a in 0..aggregates.n {
            ptr[a + 1] += ptr[a];
        }
        let mut next = ptr.clone();
        let mut nodes = vec![0u32; ptr[aggregates.n] as usize];
        for (node, &a) in aggregates.of.iter().enumerate().filter(|(_, a)| **a != NONE) {
            nodes[next[a as usize] as usize] = node as u32;
            next[a as usize] += 1;
        }
        drop(next);
        let parts = map(aggregates.n.div_ceil(PER_TASK), Vec::new, |q: &mut Vec<f64>, task| {
            let range = rows(task, aggregates.n, PER_TASK);
            let n_nodes = (ptr[range.end] - ptr[range.start]) as usize;
            let mut val = Vec::with_capacity(n_nodes * block * modes);
            let mut upper = Vec::with_capacity(range.len() * modes * modes);
            for a in range {
                let nodes = &nodes[ptr[a] as usize..ptr[a + 1] as usize];
                let m = nodes.len() * block;
                q.clear();
                for mode in near_null {
                    if block == 1 {
                        q.extend(nodes.iter().map(|&node| mode[node as usize]));
                        continue;
                    }
                    for &node in nodes {
                        q.extend_from_slice(&mode[node as usize * block..][..block]);
                    }
                }
                orthonormalise(q, m, modes, &mut upper);
                for row in 0..m {
                    val.extend((0..modes).map(|k| q[k * m + row] as f32));
                }
            }
            (val, upper)
        });
        let mut val = vec![0f32; n * block * modes];
        let mut coarse = vec![vec![0.0; aggregates.n * modes]; modes];
        for (task, (values, upper)) in parts.into_iter().enumerate() {
            let range = rows(task, aggregates.n, PER_TASK);
            let nodes = &nodes[ptr[range.start] as usize..ptr[range.end] as usize];
            if block * modes == 1 {
                nodes.iter().zip(&values).for_each(|(&node, &value)| val[node as usize] = value);
                coarse[0][range].copy_from_slice(&upper);
                continue;
            }
            for (&node, block_values) in nodes.iter().zip(values.chunks_exact(block * modes)) {
                val[node as usize * block * modes..][..block * modes].copy_from_slice(block_values);
            }
            for (a, r) in range.zip(upper.chunks_exact(modes * modes)) {
                for (k, mode) in coarse.iter_mut().enumerate() {
                    for b in 0..modes {
                        mode[a * modes + b] = r[b * modes + k];
                    }
                }
            }
        }
        Tentative { val, near_null: coarse }
    }
}

/// Gram-Schmidt, twice, on the `n` columns of length `m` of `q`; appends the triangular factor, by rows.
fn orthonormalise(q: &mut [f64], m: usize, n: usize, upper: &mut Vec<f64>) {
    let at = upper.len();
    upper.resize(at + n * n, 0.0);
    let r = &mut upper[at..];
    for k in 0..n {
        let (before, rest) = q.split_at_mut(k * m);
        let column = &mut rest[..m];
        let length = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        for _ in 0..if k > 0 { 2 } else { 0 } {
            for (i, other) in before.chunks_exact(m).enumerate() {
                let dot: f64 = other.iter().zip(column.iter()).map(|(x, y)| x * y).sum();
                column.iter_mut().zip(other).for_each(|(y, x)| *y -= dot * x);
                r[i * n + k] += dot;
            }
        }
        let left = if k > 0 { column.iter().map(|x| x * x).sum::<f64>().sqrt() } else { length };
        if left > DEPENDENT * length {
            column.iter_mut().for_each(|x| *x /= left);
            r[k * n + k] = left;
        } else {
            column.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_reproduced_and_columns_orthonormal() {
        // Two aggregates, one of them a single node whose rotation depends on nothing but itself.
        let x = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [5.0, 5.0], [9.0, 9.0]];
        let modes: Vec<Vec<f64>> = vec![
            x.iter().flat_map(|_| [1.0, 0.0]).collect(),
            x.iter().flat_map(|_| [0.0, 1.0]).collect(),
            x.iter().flat_map(|p| [-p[1], p[0]]).collect(),
        ];
        let aggregates = Aggregates { of: vec![0, 0, 0, 1, NONE], n: 2 };
        let t = Tentative::new(&aggregates, 2, &modes);
        for (k, mode) in modes.iter().enumerate() {
            for (node, &a) in aggregates.of.iter().enumerate().take(4) {
                for c in 0..2 {
                    let sum: f64 = (0..3)
                        .map(|b| {
                            f64::from(t.val[(node * 2 + c) * 3 + b]) * t.near_null[k][a as usize * 3 + b]
                        })
                        .sum();
                    assert!((sum - mode[node * 2 + c]).abs() < 1e-5);
                }
            }
        }
        for b in 0..3 {
            for c in 0..3 {
                let dot: f32 = (0..6).map(|i| t.val[i * 3 + b] * t.val[i * 3 + c]).sum();
                assert!((dot - f32::from(u8::from(b == c))).abs() < 1e-6);
            }
        }
        assert!(t.val[6 * 3..8 * 3].chunks(3).all(|row| row[2] == 0.0), "a rotation of one node");
        assert!(t.val[8 * 3..].iter().all(|&v| v == 0.0));
    }
}
