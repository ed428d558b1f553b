//! Matrices in double precision, read row by row: the assembled one (`assembled.rs`), and those of coarse levels
//! while the next one is made.
//!
//! Imports its siblings. Start at [`Rows`]; [`level`] makes what a level keeps of a matrix: a copy
//! in single precision without its negligible entries, and the inverse of its diagonal blocks.

use std::sync::Arc;

use cluster::Halo;

use super::csr::Csr;
use super::parallel::{ROWS_PER_TASK, convert, each, map, rows, rows_of_blocks, split};
use super::sliced::{PADDED, Slices};
use crate::assembly::{Matrix, Pattern};

/// Row offsets and columns, to be shared, also in slices if they are there.
pub(super) type Columns<'a> = (&'a Arc<Vec<u32>>, &'a Arc<Vec<u32>>, Option<&'a Arc<Slices>>);

/// Row offsets, columns and values of a matrix of one value an entry, its rows one after the other.
pub(super) type Arrays<'a> = (&'a [u32], &'a [u32], &'a [f64]);

/// Rows of blocks of `N` by `N` values.
pub(super) trait Rows<const N: usize>: Sync {
    /// The number of rows.
    fn n_rows(&self) -> usize;

    /// The diagonal block of a row, if it is stored.
    fn diagonal(&self, row: usize) -> Option<[[f64; N]; N]>;

    /// Calls `f(column, block)` for each entry of a row, columns ascending.
    fn visit(&self, row: usize, f: impl FnMut(u32, &[[f64; N]; N]));

    /// Row offsets and columns of all entries, if they can be shared.
    fn columns(&self) -> Option<Columns<'_>> {
        None
    }

    /// The matrix as it is stored, if that is so; not for blocks.
    fn arrays(&self) -> Option<Arrays<'_>> {
        None
    }
}

/// Where a column is among those of a row, ascending.
#[inline(always)]
pub(super) fn find(columns: &[u32], column: u32) -> Option<usize> {
    // Counting takes no branch that a processor cannot foresee, and lanes.
    let k = if columns.len() <= 32 {
        columns.iter().map(|&c| u32::from(c < column)).sum::<u32>() as usize
    } else {
        columns.partition_point(|&c| c < column)
    };
    (columns.get(k) == Some(&column)).then_some(k)
}

/// A coarse matrix before it is rounded.
pub(super) struct Wide {
    /// Row offsets.
    pub ptr: Vec<u32>,
    /// Columns, ascending within a row.
    pub col: Vec<u32>,
    /// Blocks, `[entry][row component][column component]`.
    pub val: Vec<f64>,
}

impl Wide {
    /// An assembled matrix, whose entries must fit 32 bits.
    pub fn of(pattern: &Pattern, matrix: &Matrix) -> Wide {
        let (c, n) = (matrix.block, pattern.diag_col.len() + pattern.off_col.len());
        let mut ptr = Vec::with_capacity(pattern.n_rows + 1);
        let (mut col, mut val) = (Vec::with_capacity(n), Vec::with_capacity(n * c * c));
        ptr.push(0);
        for row in 0..pattern.n_rows {
            for (ptr, columns, values) in [
                (&pattern.diag_ptr, &pattern.diag_col, &matrix.diag),
                (&pattern.off_ptr, &pattern.off_col, &matrix.off),
            ] {
                let (begin, end) = (ptr[row], ptr[row + 1]);
                let width = end - begin;
                for k in 0..width {
                    for a in 0..c {
                        val.extend_from_slice(&values[begin * c * c + (a * width + k) * c..][..c]);
                    }
                }
                col.extend_from_slice(&columns[begin..end]);
            }
            ptr.push(col.len() as u32);
        }
        Wide { ptr, col, val }
    }

    /// Puts the columns of each row in ascending order.
    pub fn sort(&mut self, block: usize) {
        let size = block * block;
        let (mut order, mut columns, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.ptr.windows(2) {
            let range = row[0] as usize..row[1] as usize;
            let (col, val) =
                (&mut self.col[range.clone()], &mut self.val[range.start * size..range.end * size]);
            order.clear();
            order.extend(0..col.len());
            order.sort_unstable_by_key(|&k| col[k]);
            columns.clear();
            columns.extend_from_slice(col);
            values.clear();
            values.extend_from_slice(val);
            for (to, &from) in order.iter().enumerate() {
                col[to] = columns[from];
                val[to * size..][..size].copy_from_slice(&values[from * size..][..size]);
            }
        }
    }
}

impl<const N: usize> Rows<N> for Wide {
    fn n_rows(&self) -> usize {
        self.ptr.len() - 1
    }

    fn diagonal(&self, row: usize) -> Option<[[f64; N]; N]> {
        let range = self.ptr[row] as usize..self.ptr[row + 1] as usize;
        let k = range.start + find(&self.col[range.clone()], row as u32)?;
        Some(std::array::from_fn(|a| std::array::from_fn(|b| self.val[(k * N + a) * N + b])))
    }

    #[inline(always)]
    fn visit(&self, row: usize, mut f: impl FnMut(u32, &[[f64; N]; N])) {
        for k in self.ptr[row] as usize..self.ptr[row + 1] as usize {
            let values: &[[f64; N]] = self.val[k * N * N..][..N * N].as_chunks().0;
            f(self.col[k], values.try_into().expect("N rows"));
        }
    }

    fn arrays(&self) -> Option<Arrays<'_>> {
        (N == 1).then_some((&self.ptr[..], &self.col[..], &self.val[..]))
    }
}

/// What a level keeps of its matrix.
pub(super) struct Kept {
    /// The matrix, scaled, in single precision.
    pub csr: Csr,
    /// Inverses of the diagonal blocks, `[node][a][b]`.
    pub inverse: Vec<f32>,
    /// Per local node, ghosts included: the Frobenius norm of the diagonal block.
    pub norms: Vec<f32>,
    /// Per owned DOF: whether its row has more than the diagonal.
    pub free: Vec<bool>,
}

/// Entries whose norm is below this part of the geometric mean of the two diagonal blocks' are left out: far
/// below what single precision resolves in a sum of the row, so the product is the same.
const NEGLIGIBLE: f64 = 1e-7;

/// Columns are shared with the matrix if at least so many of so many of its entries are kept.
const SHARED: (usize, usize) = (9, 10);

/// The squared Frobenius norm.
#[inline(always)]
fn norm2<const N: usize>(block: &[[f64; N]; N]) -> f64 {
    block.as_flattened().iter().map(|x| x * x).sum()
}

/// The largest diagonal entry of the owned rows, or none if one is not a positive number.
pub(super) fn largest_diagonal<const N: usize>(source: &impl Rows<N>) -> Option<f64> {
    let n = source.n_rows();
    let parts = map(
        n.div_ceil(ROWS_PER_TASK),
        || (),
        |(), task| {
            let (mut largest, mut sound) = (0.0f64, true);
            for row in rows(task, n, ROWS_PER_TASK) {
                match source.diagonal(row) {
                    Some(block) => (0..N).for_each(|a| {
                        sound &= block[a][a] > 0.0 && block[a][a].is_finite();
                        largest = largest.max(block[a][a]);
                    }),
                    None => sound = false,
                }
            }
            sound.then_some(largest)
        },
    );
    parts.into_iter().try_fold(0.0f64, |all, part| part.map(|p| all.max(p)))
}

/// Copies `scale` times the matrix. Collective. The number of entries must fit 32 bits.
pub(super) fn level<const N: usize>(source: &impl Rows<N>, halo: &Halo, n_local: usize, scale: f64) -> Kept {
    let _span = tracing::debug_span!("level matrix").entered();
    let n = source.n_rows();
    let per_task = const { rows_of_blocks(N) };
    let mut norms = vec![0f32; n_local];
    let mut inverse = vec![0f32; n * N * N + super::csr::PAD];
    let tasks =
        norms[..n].chunks_mut(per_task).zip(inverse[..n * N * N].chunks_mut(per_task * N * N)).enumerate();
    each(tasks, |(task, (norms, inverse))| {
        for (k, row) in rows(task, n, per_task).enumerate() {
            let Some(block) = source.diagonal(row) else { continue };
            if N == 1 {
                let value = block[0][0] * scale;
                norms[k] = value.abs() as f32;
                inverse[k] = if value > 0.0 && value.is_finite() { (1.0 / value) as f32 } else { 0.0 };
                continue;
            }
            norms[k] = (norm2(&block).sqrt() * scale) as f32;
            let made = invert(&block);
            for (to, from) in inverse[k * N * N..][..N * N].iter_mut().zip(made.as_flattened()) {
                *to = (from / scale) as f32;
            }
        }
    });
    halo.forward(&mut norms, 1);
    let bound: Vec<f32> = norms.iter().map(|d| (NEGLIGIBLE / scale) as f32 * d.sqrt()).collect();
    let largest = bound.iter().fold(0f32, |largest, b| largest.max(*b));
    if let Some(arrays) = source.arrays() {
        let (csr, free) = level_of_arrays(arrays, source.columns(), (&norms, &bound, largest), scale);
        return Kept { csr, inverse, norms, free };
    }
    // What is kept is decided twice, by the same comparison. Most entries are larger than any bound of their row: the
    // column's need not be read.
    let kept = |row: usize, column: u32, block: &[[f64; N]; N], root: f64| {
        let size = norm2(block);
        let above = |bound: f32| size > (f64::from(bound) * root).powi(2);
        column as usize == row || above(largest) || above(bound[column as usize])
    };
    let mut ptr = vec![0u32; n + 1];
    let mut free = vec![false; n * N];
    let values = |n_entries: usize| padded(n_entries * N * N);
    let round = |to: &mut [f32], block: &[[f64; N]; N]| {
        to.iter_mut().zip(block.as_flattened()).for_each(|(to, from)| *to = (from * scale) as f32);
    };
    // Values in the columns of the matrix, which are taken if most of them are kept: nearly always, and then all is
    // read once.
    let (mut all_values, offsets) = match source.columns() {
        Some((ptr, col, _)) => (values(col.len()), Arc::clone(ptr)),
        None => (Vec::new(), Arc::new(vec![0u32; n + 1])),
    };
    let has_columns = source.columns().is_some();
    let places = &mut vec![(); all_values.len() / (N * N)];
    let tasks = ptr[1..].chunks_mut(per_task).zip(free.chunks_mut(per_task * N)).zip(split(
        &offsets,
        places,
        &mut all_values,
        N * N,
        per_task,
    ));
    each(tasks, |((counts, free), (range, _, val))| {
        let mut blocks = val.chunks_exact_mut(N * N);
        for (k, row) in range.enumerate() {
            let root = f64::from(norms[row].sqrt());
            let mut count = 0;
            source.visit(row, |column, block| {
                if has_columns {
                    round(blocks.next().expect("room for all"), block);
                }
                if kept(row, column, block, root) {
                    count += 1;
                    for a in 0..N {
                        free[k * N + a] |=
                            (0..N).any(|b| block[a][b] != 0.0 && (a != b || column as usize != row));
                    }
                }
            });
            counts[k] = count;
        }
    });
    for row in 0..n {
        ptr[row + 1] += ptr[row];
    }
    // Columns that are shared take no memory, which is worth a few values too many.
    let shared = source.columns().filter(|(_, col, _)| ptr[n] as usize * SHARED.1 >= col.len() * SHARED.0);
    let mut csr = if let Some((ptr, col, _)) = shared {
        Csr::new(Arc::clone(ptr), Arc::clone(col), all_values, n)
    } else {
        drop(all_values);
        let mut col = vec![0u32; ptr[n] as usize];
        let mut val = values(col.len());
        each(split(&ptr, &mut col, &mut val, N * N, per_task), |(range, col, val)| {
            let mut k = 0;
            for row in range {
                let root = f64::from(norms[row].sqrt());
                source.visit(row, |column, block| {
                    if kept(row, column, block, root) {
                        col[k] = column;
                        round(&mut val[k * N * N..][..N * N], block);
                        k += 1;
                    }
                });
            }
        });
        Csr::new(ptr, col, val, n)
    };
    if N == 1 {
        csr.slice(shared.and_then(|(_, _, slices)| slices.cloned()), PADDED);
    }
    Kept { csr, inverse, norms, free }
}

/// Zeros, and room for what [`Csr::new`] puts behind them.
fn padded(n: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(n + super::csr::PAD);
    values.resize(n, 0f32);
    values
}

/// What [`level`] does with one value an entry and rows that lie one after the other: the same matrix, and which rows
/// have more than the diagonal. Values are rounded all at once, and most rows are kept as they are.
///
/// `norms` of the diagonal, what [`level`] makes of them, and the largest of that.
fn level_of_arrays(
    (ptr, col, val): Arrays,
    columns: Option<Columns>,
    (norms, bound, largest): (&[f32], &[f32], f32),
    scale: f64,
) -> (Csr, Vec<bool>) {
    let n = ptr.len() - 1;
    let root = |row: usize| f64::from(norms[row].sqrt());
    let above = |value: f64, bound: f32, root: f64| value * value > (f64::from(bound) * root).powi(2);
    let keeps = |row: usize, column: u32, value: f64, root: f64| {
        column as usize == row || above(value, bound[column as usize], root)
    };
    let mut kept = vec![0u32; n + 1];
    let mut free = vec![false; n];
    let tasks = kept[1..].chunks_mut(ROWS_PER_TASK).zip(free.chunks_mut(ROWS_PER_TASK)).enumerate();
    each(tasks, |(task, (counts, free))| {
        for ((row, count), free) in rows(task, n, ROWS_PER_TASK).zip(counts).zip(free) {
            let range = ptr[row] as usize..ptr[row + 1] as usize;
            let (columns, values, root) = (&col[range.clone()], &val[range], root(row));
            // Most entries are larger than any bound of their row: the column's need not be read.
            let n_above = values.iter().map(|&v| u32::from(above(v, largest, root))).sum::<u32>();
            if n_above as usize == values.len() {
                (*count, *free) = (n_above, n_above > 1 || columns.iter().any(|&c| c as usize != row));
                continue;
            }
            for (&column, &value) in columns.iter().zip(values) {
                let keep = keeps(row, column, value, root);
                *count += u32::from(keep);
                *free |= keep && value != 0.0 && column as usize != row;
            }
        }
    });
    for row in 0..n {
        kept[row + 1] += kept[row];
    }
    let n_kept = kept[n] as usize;
    // Columns that are shared take no memory, which is worth a few values too many.
    let shared = columns.filter(|_| n_kept * SHARED.1 >= col.len() * SHARED.0);
    let round = |value: f64| (value * scale) as f32;
    let mut csr = if shared.is_some() || n_kept == col.len() {
        let mut rounded = padded(val.len());
        convert(val, &mut rounded, round);
        match shared {
            Some((ptr, col, _)) => Csr::new(Arc::clone(ptr), Arc::clone(col), rounded, n),
            None => Csr::new(kept, col.to_vec(), rounded, n),
        }
    } else {
        let (mut to_col, mut to_val) = (vec![0u32; n_kept], padded(n_kept));
        each(split(&kept, &mut to_col, &mut to_val, 1, ROWS_PER_TASK), |(range, to_col, to_val)| {
            let mut to = to_col.iter_mut().zip(to_val);
            for row in range {
                let (entries, root) = (ptr[row] as usize..ptr[row + 1] as usize, root(row));
                let of_row = col[entries.clone()].iter().zip(&val[entries]);
                for ((&column, &value), to) in of_row.filter(|(c, v)| keeps(row, **c, **v, root)).zip(&mut to)
                {
                    (*to.0, *to.1) = (column, round(value));
                }
            }
        });
        Csr::new(kept, to_col, to_val, n)
    };
    csr.slice(shared.and_then(|(_, _, slices)| slices.cloned()), PADDED);
    (csr, free)
}

/// The inverse of a symmetric positive semidefinite block, by Cholesky; directions in which it vanishes, to
/// round-off, are left out.
fn invert<const N: usize>(block: &[[f64; N]; N]) -> [[f64; N]; N] {
    let mut l = [[0.0; N]; N];
    let mut whole = [false; N];
    for j in 0..N {
        let mut pivot = block[j][j];
        for k in 0..j {
            pivot -= l[j][k] * l[j][k];
        }
        whole[j] = pivot > 1e-10 * block[j][j] && pivot.is_finite();
        if !whole[j] {
            continue;
        }
        l[j][j] = pivot.sqrt();
        for i in j + 1..N {
            let mut sum = 0.5 * (block[i][j] + block[j][i]);
            for k in 0..j {
                sum -= l[i][k] * l[j][k];
            }
            l[i][j] = sum / l[j][j];
        }
    }
    let mut inverse = [[0.0; N]; N];
    for c in 0..N {
        let mut y = [0.0; N];
        for i in (c..N).filter(|&i| whole[i]) {
            let mut sum = f64::from(u8::from(i == c));
            for k in c..i {
                sum -= l[i][k] * y[k];
            }
            y[i] = sum / l[i][i];
        }
        for i in (0..N).rev() {
            if !whole[i] {
                y[i] = 0.0;
                continue;
            }
            let mut sum = y[i];
            for k in i + 1..N {
                sum -= l[k][i] * inverse[k][c];
            }
            inverse[i][c] = sum / l[i][i];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_inverted() {
        let block = [[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]];
        let inverse = invert(&block);
        for a in 0..3 {
            for b in 0..3 {
                let product: f64 = (0..3).map(|k| block[a][k] * inverse[k][b]).sum();
                assert!((product - f64::from(u8::from(a == b))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn a_singular_block_is_inverted_where_it_can_be() {
        // The second direction repeats the first: x = G b solves A x = b for b in the range of A.
        let block = [[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5.0]];
        let inverse = invert(&block);
        let b = [2.0, 2.0, 10.0];
        let x = inverse.map(|row| row.iter().zip(b).map(|(g, b)| g * b).sum::<f64>());
        let back = block.map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum::<f64>());
        assert!(back.iter().zip(b).all(|(u, v)| (u - v).abs() < 1e-12), "{back:?}");
    }
}
