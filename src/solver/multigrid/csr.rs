//! Block sparse matrices in single precision, and the loops over their rows.
//!
//! Imports `cluster` and its sibling `parallel`. Start at [`Csr`]; [`Csr::sweep`] is the product that everything
//! else is fused with, [`dispatch`] picks the kernels compiled for a block size.
//!
//! These loops are bound by bytes: four for each value, four for each column. A row's blocks are multiplied
//! column by column of the block in lanes of the next power of two; what a lane beyond the block reads is the
//! next block's, and is dropped when the row is done. Matrices of one component a node are multiplied in slices of
//! eight rows (`sliced.rs`) where their rows are about as long as each other.

use std::ops::Range;
use std::sync::Arc;

use cluster::Halo;

use super::parallel::{ROWS_PER_TASK, each, rows, rows_of_blocks};
use super::sliced::{LANES, Slices};
use super::transpose::Transposed;

/// Room after the last entry of a vector or of a matrix's values, for lanes that read beyond it.
pub(super) const PAD: usize = 8;

/// Calls a function compiled for (rows of a block, columns, lanes).
macro_rules! dispatch {
    ($rows:expr, $cols:expr, $f:ident ($($x:expr),* $(,)?)) => {
        match ($rows, $cols) {
            (1, 1) => $f::<1, 1, 1>($($x),*),
            (2, 2) => $f::<2, 2, 2>($($x),*),
            (2, 3) => $f::<2, 3, 4>($($x),*),
            (3, 3) => $f::<3, 3, 4>($($x),*),
            (3, 6) => $f::<3, 6, 8>($($x),*),
            (6, 6) => $f::<6, 6, 8>($($x),*),
            (rows, cols) => unreachable!("blocks of {rows} by {cols} are refused at the start"),
        }
    };
}
/// Calls a function compiled for (the size of a square block, lanes).
macro_rules! dispatch_square {
    ($size:expr, $f:ident ($($x:expr),* $(,)?)) => {
        match $size {
            1 => $f::<1, 1>($($x),*),
            2 => $f::<2, 2>($($x),*),
            3 => $f::<3, 4>($($x),*),
            6 => $f::<6, 8>($($x),*),
            size => unreachable!("blocks of {size} are refused at the start"),
        }
    };
}
/// Calls a function compiled for (values of a row, lanes) of a level: as [`dispatch_square`] with its blocks, or with
/// a slice of its rows for a row, and no lanes.
macro_rules! dispatch_level {
    ($level:expr, $f:ident ($($x:expr),* $(,)?)) => {
        if $level.csr.is_sliced() {
            $f::<{ crate::solver::multigrid::sliced::LANES }, 0>($($x),*)
        } else {
            crate::solver::multigrid::csr::dispatch_square!($level.block, $f($($x),*))
        }
    };
}
pub(super) use {dispatch, dispatch_level, dispatch_square};

/// Whether [`dispatch`] has kernels for these blocks.
pub(super) fn supported(rows: usize, cols: usize) -> bool {
    matches!((rows, cols), (1, 1) | (2, 2) | (2, 3) | (3, 3) | (3, 6) | (6, 6))
}

/// A vector of `n` blocks with room for the lanes' overrun.
pub(super) fn vector(n: usize, block: usize) -> Vec<f32> {
    vec![0.0; n * block + PAD]
}

/// A matrix in slices.
struct Sliced {
    slices: Arc<Slices>,
    val: Vec<[f32; LANES]>,
}

/// A block sparse matrix of owned rows. Columns are local nodes, ascending: ghosts at the end of a row.
pub(super) struct Csr {
    n_rows: usize,
    n_entries: usize,
    /// Row offsets; one longer than the rows. With `col` and `val` gone after [`Csr::drop_rows`].
    pub ptr: Arc<Vec<u32>>,
    /// Columns.
    pub col: Arc<Vec<u32>>,
    /// Blocks, `[entry][row component][column component]`, and [`PAD`] zeros.
    pub val: Vec<f32>,
    /// Rows that have ghost columns.
    pub boundary: Vec<u32>,
    /// Columns from here on are ghosts.
    pub n_owned_cols: u32,
    /// One more than the largest column; columns do not change once they are here.
    width: usize,
    /// The same in slices.
    sliced: Option<Sliced>,
}

impl Csr {
    /// A matrix of its arrays; `val` is padded here.
    pub fn new(
        ptr: impl Into<Arc<Vec<u32>>>,
        col: impl Into<Arc<Vec<u32>>>,
        mut val: Vec<f32>,
        n_owned_cols: usize,
    ) -> Csr {
        let (ptr, col) = (ptr.into(), col.into());
        val.extend([0.0; PAD]);
        let n_owned_cols = n_owned_cols as u32;
        let (n_rows, n_entries) = (ptr.len() - 1, col.len());
        assert!(ptr.windows(2).all(|p| p[0] <= p[1]) && ptr.last().is_some_and(|&p| p as usize == n_entries));
        let width = col.iter().max().map_or(0, |&c| c as usize + 1);
        let has_ghosts = |row: &u32| {
            let range = ptr[*row as usize] as usize..ptr[*row as usize + 1] as usize;
            col[range].last().is_some_and(|&c| c >= n_owned_cols)
        };
        let boundary = if width <= n_owned_cols as usize {
            Vec::new()
        } else {
            (0..n_rows as u32).filter(has_ghosts).collect()
        };
        Csr { n_rows, n_entries, ptr, col, val, boundary, n_owned_cols, width, sliced: None }
    }

    /// Arranges a matrix of one value an entry in slices beside its rows, with at most `padded` times its entries: in
    /// these, made of the same rows and columns, or in its own.
    pub fn slice(&mut self, slices: Option<Arc<Slices>>, padded: f64) {
        let own = || Slices::new(&self.ptr, &self.col, self.n_owned_cols as usize, padded).map(Arc::new);
        self.sliced = slices.or_else(own).map(|slices| {
            let val = slices.arrange(&self.ptr, &self.val);
            Sliced { slices, val }
        });
    }

    /// Moves a matrix of one value an entry into slices, if they have at most `padded` times its entries. Never more of it
    /// is there twice than must be.
    pub fn move_to_slices(&mut self, padded: f64) {
        let made = Slices::new(&self.ptr, &self.col, self.n_owned_cols as usize, padded);
        if let Some(slices) = made.map(Arc::new) {
            (self.col, self.boundary) = (Arc::default(), Vec::new());
            let val = slices.arrange(&self.ptr, &self.val);
            (self.ptr, self.val) = (Arc::default(), Vec::new());
            self.sliced = Some(Sliced { slices, val });
        }
    }

    /// Whether products are made of slices.
    pub fn is_sliced(&self) -> bool {
        self.sliced.is_some()
    }

    /// Forgets the rows if there are slices.
    pub fn drop_rows(&mut self) {
        if self.is_sliced() {
            (self.ptr, self.col) = (Arc::default(), Arc::default());
            (self.val, self.boundary) = (Vec::new(), Vec::new());
        }
    }

    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The number of blocks.
    pub fn n_entries(&self) -> usize {
        self.n_entries
    }

    /// The entries of a row.
    #[inline(always)]
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.ptr[row] as usize..self.ptr[row + 1] as usize
    }

    /// Bytes that the arrays take, shared ones included.
    pub fn bytes(&self) -> usize {
        let sliced = self.sliced.as_ref().map_or(0, |s| s.slices.bytes() + size_of_val(&s.val[..]));
        4 * (self.ptr.len() + self.col.len() + self.val.len() + self.boundary.len()) + sliced
    }

    /// The product of a row with `x`.
    #[inline(always)]
    pub fn row<const R: usize, const C: usize, const L: usize>(&self, row: usize, x: &[f32]) -> [f32; R] {
        let range = self.range(row);
        let mut y = [0.0; R];
        if R == 1 && C == 1 {
            assert!(x.len() >= self.width);
            // SAFETY: `width` is more than every column.
            let x = |c: u32| unsafe { *x.get_unchecked(c as usize) };
            let (values, values_left) = self.val[range.clone()].as_chunks::<4>();
            let (columns, columns_left) = self.col[range].as_chunks::<4>();
            // Four sums: one alone would wait for its own additions.
            let mut sums = [0.0; 4];
            for (v, c) in values.iter().zip(columns) {
                for k in 0..4 {
                    sums[k] += v[k] * x(c[k]);
                }
            }
            let mut sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
            for (&v, &c) in values_left.iter().zip(columns_left) {
                sum += v * x(c);
            }
            y[0] = sum;
            return y;
        }
        let mut lanes = [[0.0f32; L]; R];
        for k in range {
            let c = self.col[k] as usize;
            let v = &self.val[k * R * C..][..(R - 1) * C + L];
            let x = &x[c * C..][..L];
            for a in 0..R {
                for l in 0..L {
                    lanes[a][l] += v[a * C + l] * x[l];
                }
            }
        }
        for a in 0..R {
            y[a] = lanes[a][..C].iter().sum();
        }
        y
    }

    /// Of a square matrix, for each row `f(row, (A x)[row], x[row], outs)`, with the row's entries of each array
    /// of `outs`, while the ghosts of `x` are under way. Without lanes a row is a slice: see [`dispatch_level`].
    /// Collective among neighbours.
    pub fn sweep<const R: usize, const C: usize, const L: usize, const K: usize>(
        &self,
        halo: Option<&Halo>,
        x: &mut [f32],
        mut outs: [&mut [f32]; K],
        f: impl Fn(usize, [f32; R], &[f32; R], [&mut [f32; R]; K]) + Sync + Send,
    ) {
        if L == 0 {
            return self.sweep_slices(halo, x, outs, f);
        }
        let pending = halo.map(|halo| halo.begin_forward(x, C));
        let n = self.n_rows();
        {
            let x = &*x;
            by_task(n, outs.each_mut().map(|out| &mut **out), |(), row, outs| {
                if halo.is_some() && self.col[self.range(row)].last().is_some_and(|&c| c >= self.n_owned_cols)
                {
                    return;
                }
                f(row, self.row::<R, C, L>(row, x), block(x, row * R), outs);
            });
        }
        if let (Some(halo), Some(pending)) = (halo, pending) {
            halo.end_forward(pending, x, C);
            for &row in &self.boundary {
                let row = row as usize;
                let own = outs.each_mut().map(|o| block_mut(o, row * R));
                f(row, self.row::<R, C, L>(row, x), block(x, row * R), own);
            }
        }
    }
}

impl Csr {
    /// [`Csr::sweep`] by slices of `R` rows.
    fn sweep_slices<const R: usize, const K: usize>(
        &self,
        halo: Option<&Halo>,
        x: &mut [f32],
        mut outs: [&mut [f32]; K],
        f: impl Fn(usize, [f32; R], &[f32; R], [&mut [f32; R]; K]) + Sync + Send,
    ) {
        let Some(Sliced { slices, val }) = &self.sliced else { unreachable!("dispatched by is_sliced") };
        let product = |slice: usize, x: &[f32]| -> [f32; R] {
            let sums = slices.product(slice, val, x);
            std::array::from_fn(|k| sums[k])
        };
        let pending = halo.map(|halo| halo.begin_forward(x, 1));
        {
            let x = &*x;
            for_slices(self.n_rows, outs.each_mut().map(|out| &mut **out), |(), slice, outs| {
                if halo.is_none() || !slices.is_coupled(slice) {
                    f(slice, product(slice, x), block(x, slice * R), outs);
                }
            });
        }
        if let (Some(halo), Some(pending)) = (halo, pending) {
            halo.end_forward(pending, x, 1);
            for &slice in slices.boundary() {
                let slice = slice as usize;
                one_slice(self.n_rows, slice, outs.each_mut().map(|out| &mut **out), |outs| {
                    f(slice, product(slice, x), block(x, slice * R), outs);
                });
            }
        }
    }
}

/// The block that begins at `at`.
#[inline(always)]
pub(super) fn block<const R: usize>(x: &[f32], at: usize) -> &[f32; R] {
    x[at..at + R].try_into().expect("R entries")
}

/// The block that begins at `at`.
#[inline(always)]
pub(super) fn block_mut<const R: usize>(x: &mut [f32], at: usize) -> &mut [f32; R] {
    (&mut x[at..at + R]).try_into().expect("R entries")
}

/// For each task `f(result, rows, outs)` with its rows of `n`, and of each array of `outs` their `width` entries a row; a
/// result for each task.
#[inline(always)]
fn in_tasks<const K: usize, T: Default + Send>(
    n: usize,
    width: usize,
    mut outs: [&mut [f32]; K],
    f: impl Fn(&mut T, Range<usize>, [&mut [f32]; K]) + Sync + Send,
) -> Vec<T> {
    let per_task = rows_of_blocks(width);
    let mut results: Vec<T> = (0..n.div_ceil(per_task)).map(|_| T::default()).collect();
    let mut parts = outs.each_mut().map(|out| out[..n * width].chunks_mut(per_task * width));
    let tasks = results
        .iter_mut()
        .enumerate()
        .map(|(task, result)| (task, result, parts.each_mut().map(|p| p.next().expect("a chunk a task"))));
    each(tasks, |(task, result, chunks)| f(result, rows(task, n, per_task), chunks));
    results
}

/// For each row `f(result, row, outs)` with the row's entries of each array of `outs`; a result for each task.
#[inline(always)]
fn by_task<const R: usize, const K: usize, T: Default + Send>(
    n: usize,
    outs: [&mut [f32]; K],
    f: impl Fn(&mut T, usize, [&mut [f32; R]; K]) + Sync + Send,
) -> Vec<T> {
    in_tasks(n, R, outs, |result, rows, mut chunks| {
        for row in rows.clone() {
            f(result, row, chunks.each_mut().map(|c| block_mut(c, (row - rows.start) * R)));
        }
    })
}

/// `f(outs)` with the entries of slice `slice` of `n` rows; of the last slice those beyond the rows are zero, and are
/// dropped.
#[inline(always)]
fn one_slice<const R: usize, const K: usize>(
    n: usize,
    slice: usize,
    mut outs: [&mut [f32]; K],
    f: impl FnOnce([&mut [f32; R]; K]),
) {
    let first = slice * R;
    if first + R <= n {
        f(outs.each_mut().map(|out| block_mut(out, first)));
        return;
    }
    // What follows the rows in an array are its ghosts.
    let mut parts = [[0f32; R]; K];
    for (part, out) in parts.iter_mut().zip(&outs) {
        part[..n - first].copy_from_slice(&out[first..n]);
    }
    f(parts.each_mut());
    for (part, out) in parts.iter().zip(&mut outs) {
        out[first..n].copy_from_slice(&part[..n - first]);
    }
}

/// Tasks take whole slices.
const _: () = assert!(ROWS_PER_TASK.is_multiple_of(LANES));

/// As [`by_task`], with slices of `R` of the `n` rows in place of rows.
#[inline(always)]
fn for_slices<const R: usize, const K: usize, T: Default + Send>(
    n: usize,
    outs: [&mut [f32]; K],
    f: impl Fn(&mut T, usize, [&mut [f32; R]; K]) + Sync + Send,
) -> Vec<T> {
    in_tasks(n, 1, outs, |result, rows, mut chunks| {
        for slice in 0..rows.len().div_ceil(R) {
            one_slice(rows.len(), slice, chunks.each_mut().map(|chunk| &mut **chunk), |outs| {
                f(result, rows.start / R + slice, outs);
            });
        }
    })
}

/// For each row `f(row, outs)` with the row's entries of each array of `outs`; without lanes for each slice.
pub(super) fn for_rows<const R: usize, const L: usize, const K: usize>(
    n: usize,
    outs: [&mut [f32]; K],
    f: impl Fn(usize, [&mut [f32; R]; K]) + Sync + Send,
) {
    if L == 0 {
        for_slices(n, outs, |(), row, outs| f(row, outs));
    } else {
        by_task(n, outs, |(), row, outs| f(row, outs));
    }
}

/// As [`for_rows`], and the sum of all that `f` returns, in an order that does not depend on the number of threads.
pub(super) fn sum_rows<const R: usize, const L: usize, const K: usize>(
    n: usize,
    outs: [&mut [f32]; K],
    f: impl Fn(usize, [&mut [f32; R]; K]) -> [f32; R] + Sync + Send,
) -> f64 {
    // A sum for each lane: one alone would wait for its own additions.
    let add = |sums: &mut [f64; MOST], row: usize, outs: [&mut [f32; R]; K]| {
        f(row, outs).iter().zip(sums).for_each(|(x, sum)| *sum += f64::from(*x));
    };
    let sums = if L == 0 { for_slices(n, outs, add) } else { by_task(n, outs, add) };
    sums.as_flattened().iter().sum()
}

/// The most values of a row.
const MOST: usize = LANES;

impl Csr {
    /// `y = A x` for a matrix of one value an entry, in double precision as soon as a row is summed.
    pub fn product_to_double(&self, x: &[f32], y: &mut [f64]) {
        each(y[..self.n_rows].chunks_mut(ROWS_PER_TASK).enumerate(), |(task, y)| {
            for (k, y) in y.iter_mut().enumerate() {
                *y = f64::from(self.row::<1, 1, 1>(task * ROWS_PER_TASK + k, x)[0]);
            }
        });
    }

    /// The transposed of a matrix of one value an entry with `n_cols` columns, whose rows are there.
    pub fn transposed(&self, n_cols: usize) -> Csr {
        let Transposed { ptr, row, at } = Transposed::new(&self.ptr, &self.col, n_cols);
        let mut val = Vec::with_capacity(at.len() + PAD);
        val.resize(at.len(), 0.0);
        each(val.chunks_mut(ROWS_PER_TASK).zip(at.chunks(ROWS_PER_TASK)), |(to, at)| {
            to.iter_mut().zip(at).for_each(|(to, &at)| *to = self.val[at as usize]);
        });
        Csr::new(ptr, row, val, self.n_rows)
    }

    /// `y += A x` for owned rows, where the ghosts of `x` are known.
    pub fn add_product<const R: usize, const C: usize, const L: usize>(&self, x: &[f32], y: &mut [f32]) {
        if let Some(Sliced { slices, val }) = &self.sliced {
            for_rows::<LANES, 0, 1>(self.n_rows, [y], |slice, [y]| {
                let sums = slices.product(slice, val, x);
                *y = std::array::from_fn(|k| y[k] + sums[k]);
            });
            return;
        }
        for_rows::<R, L, 1>(self.n_rows, [y], |row, [y]| {
            let step = self.row::<R, C, L>(row, x);
            y.iter_mut().zip(step).for_each(|(y, s)| *y += s);
        });
    }
}
