//! The assembled matrix as an operator: products in its own block layout, on threads, with the halo exchange
//! behind the owned part.
//!
//! Imports `cluster` and `multigrid`'s matrix. PETSc's AIJ format would need the columns of each scalar row: 12 bytes an
//! entry instead of 8 and a share of 4. Products are bound by reading the values. A matrix of one component is multiplied
//! in slices of rows where it has them: see `multigrid/sliced.rs`.

use std::sync::Arc;

use cluster::{Halo, Repeated};
use rayon::prelude::*;

use super::multigrid::{Assembled, LANES, Slices};
use super::vectors::dot;

/// Rows a task takes: some hundred microseconds of work.
const ROWS_PER_TASK: usize = 4096;

/// A matrix of owned rows that can be applied. Allocates nothing in a product.
pub struct Operator {
    /// Without values and columns when those are in slices.
    matrix: Assembled,
    sliced: Option<(Arc<Slices>, Vec<f64>)>,
    exchange: Repeated<f64>,
    /// Values of the ghosts.
    ghosts: Vec<f64>,
    /// Rows that have ghost columns.
    coupled: Vec<u32>,
    /// Per task: its part of a scalar product.
    sums: Vec<f64>,
}

impl Operator {
    /// Takes over the matrix. Not collective.
    ///
    /// Shapes: `halo` moves nodal values between the owned rows' nodes and `n_ghost` ghosts.
    pub fn new(matrix: Assembled, halo: &Halo, n_ghost: usize) -> Operator {
        let n_rows = matrix.n_rows();
        let coupled =
            (0..n_rows).filter(|&row| !matrix.ghosts(row).is_empty()).map(|row| row as u32).collect();
        let exchange = halo.repeated(matrix.block);
        let ghosts = vec![0.0; n_ghost * matrix.block];
        let sums = vec![0.0; n_rows.div_ceil(ROWS_PER_TASK)];
        Operator { matrix, sliced: None, exchange, ghosts, coupled, sums }
    }

    /// The matrix, by rows.
    pub(super) fn matrix(&mut self) -> &Assembled {
        if let Some((slices, values)) = self.sliced.take() {
            self.matrix.take_back(&slices, &values);
        }
        &self.matrix
    }

    /// Gives the matrix back.
    pub(super) fn into_matrix(mut self) -> Assembled {
        self.matrix();
        self.matrix
    }

    /// Moves the values into slices where that makes products faster. The rows are gone until the matrix is asked for.
    pub fn slice(&mut self) {
        if self.sliced.is_none() {
            self.sliced = self.matrix.move_to_slices();
        }
    }

    /// `y = A x` over owned DOFs; returns this rank's part of `x . y`, summed in an order that does not depend on
    /// the number of threads. Collective.
    ///
    /// # Panics
    /// When a length is not that of the owned DOFs.
    pub fn apply(&mut self, x: &[f64], y: &mut [f64]) -> f64 {
        match self.matrix.block {
            _ if self.sliced.is_some() => self.product_of_slices(x, y),
            1 => self.product::<1>(x, y),
            2 => self.product::<2>(x, y),
            3 => self.product::<3>(x, y),
            n => unreachable!("fields have 1 to 3 components, not {n}"),
        }
    }

    fn product<const B: usize>(&mut self, x: &[f64], y: &mut [f64]) -> f64 {
        let _span = tracing::debug_span!("spmv").entered();
        self.exchange.begin(x);
        let m = &self.matrix;
        let (x, _) = x.as_chunks::<B>();
        let (y, _) = y.as_chunks_mut::<B>();
        let mut product = by_task(y, &mut self.sums, |first, y| rows(m, first, x, y));
        self.exchange.end(&mut self.ghosts);
        let (ghosts, _) = self.ghosts.as_chunks::<B>();
        // Few rows, at the interface only.
        for &row in &self.coupled {
            let row = row as usize;
            let entries = m.ghosts(row);
            let values = &m.off[entries.start * B * B..entries.end * B * B];
            let sum = row_product(values, m.ghost_columns(row), ghosts, m.n_rows() as u32);
            for a in 0..B {
                y[row][a] += sum[a];
                product += sum[a] * x[row][a];
            }
        }
        product
    }

    fn product_of_slices(&mut self, x: &[f64], y: &mut [f64]) -> f64 {
        let _span = tracing::debug_span!("spmv").entered();
        let Some((slices, values)) = &self.sliced else { unreachable!("asked for by apply") };
        let (values, _) = values.as_chunks();
        self.exchange.begin(x);
        let one = |first: usize, y: &mut [f64]| {
            let mut sums = [0.0; LANES];
            let (whole, rest) = y.as_chunks_mut::<LANES>();
            let (x_whole, x_rest) = x[first..].as_chunks::<LANES>();
            // The part of slices with ghost columns comes with the ghosts.
            for (k, (y, x_of_rows)) in whole.iter_mut().zip(x_whole).enumerate() {
                let slice = first / LANES + k;
                if !slices.is_coupled(slice) {
                    *y = slices.product(slice, values, x);
                    (0..LANES).for_each(|k| sums[k] += x_of_rows[k] * y[k]);
                }
            }
            let slice = first / LANES + whole.len();
            if !rest.is_empty() && !slices.is_coupled(slice) {
                let product = slices.product(slice, values, x);
                rest.copy_from_slice(&product[..rest.len()]);
                sums[0] += dot(&x_rest[..rest.len()], rest);
            }
            sums.iter().sum()
        };
        let mut product = by_task(y, &mut self.sums, one);
        self.exchange.end(&mut self.ghosts);
        for &slice in slices.boundary() {
            let first = slice as usize * LANES;
            let sums = slices.product_apart(slice as usize, values, x, &self.ghosts);
            for ((y, sum), x) in y[first..].iter_mut().zip(sums).zip(&x[first..]) {
                *y = sum;
                product += sum * x;
            }
        }
        product
    }
}

/// Whether threads pay for arrays of `n` entries.
pub(super) fn parallel(n: usize) -> bool {
    n >= 4 * ROWS_PER_TASK && rayon::current_num_threads() > 1
}

/// The sum of `one(first, y)` over tasks, each with its entries of `y` from `first` on and its place in `sums`.
fn by_task<T: Send>(y: &mut [T], sums: &mut [f64], one: impl Fn(usize, &mut [T]) -> f64 + Sync) -> f64 {
    if parallel(y.len()) {
        y.par_chunks_mut(ROWS_PER_TASK).zip(&mut *sums).enumerate().for_each(|(task, (y, sum))| {
            let _span = tracing::trace_span!("rows").entered();
            *sum = one(task * ROWS_PER_TASK, y);
        });
    } else {
        for (task, (y, sum)) in y.chunks_mut(ROWS_PER_TASK).zip(&mut *sums).enumerate() {
            *sum = one(task * ROWS_PER_TASK, y);
        }
    }
    sums.iter().sum()
}

/// The product's rows from `first` on, with owned columns, and their part of `x . y`.
fn rows<const B: usize>(m: &Assembled, first: usize, x: &[[f64; B]], y: &mut [[f64; B]]) -> f64 {
    for (k, y) in y.iter_mut().enumerate() {
        let entries = m.owned(first + k);
        let values = &m.diag[entries.start * B * B..entries.end * B * B];
        *y = row_product(values, m.owned_columns(first + k), x, 0);
    }
    dot(x[first..first + y.len()].as_flattened(), y.as_flattened())
}

/// One node's row times `x`, whose first entry belongs to column `first`. The values are those of one
/// component of the row after the other.
#[inline]
fn row_product<const B: usize>(values: &[f64], columns: &[u32], x: &[[f64; B]], first: u32) -> [f64; B] {
    let mut sum = [0.0; B];
    let (blocks, _) = values.as_chunks::<B>();
    let n = columns.len();
    let (fours, left) = columns.as_chunks::<4>();
    for a in 0..B {
        // Four sums: one alone would wait for its own additions.
        let mut partial = [[0.0; B]; 4];
        let (values, values_left) = blocks[a * n..(a + 1) * n].as_chunks::<4>();
        for (v, c) in values.iter().zip(fours) {
            for k in 0..4 {
                let x = &x[(c[k] - first) as usize];
                (0..B).for_each(|b| partial[k][b] += v[k][b] * x[b]);
            }
        }
        for (v, c) in values_left.iter().zip(left) {
            let x = &x[(c - first) as usize];
            (0..B).for_each(|b| partial[0][b] += v[b] * x[b]);
        }
        sum[a] = (0..B).map(|b| (partial[0][b] + partial[1][b]) + (partial[2][b] + partial[3][b])).sum();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of two nodes with three columns of 3 by 3 blocks, entry by entry.
    #[test]
    fn rows_times_vectors() {
        const B: usize = 3;
        let columns = [7u32, 5, 9];
        let values: Vec<f64> = (0..B * B * columns.len()).map(|k| (k as f64 * 0.7).sin()).collect();
        let x: Vec<[f64; B]> = (0..6).map(|k| [0, 1, 2].map(|b| ((k * B + b) as f64).cos())).collect();
        let sum = row_product::<B>(&values, &columns, &x, 4);
        for a in 0..B {
            let mut expected = 0.0;
            for (j, &c) in columns.iter().enumerate() {
                for b in 0..B {
                    expected += values[(a * columns.len() + j) * B + b] * x[c as usize - 4][b];
                }
            }
            assert!((sum[a] - expected).abs() < 1e-14, "{} {expected}", sum[a]);
        }
    }
}
