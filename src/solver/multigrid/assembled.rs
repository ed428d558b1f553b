//! The assembled matrix of a solve by methods of ours: without what is round-off of zero, its columns in one list.
//!
//! Imports `cluster`, `assembly` and its siblings. Start at [`Assembled::new`].
//!
//! On regular meshes many couplings of a cell's nodes cancel: a sixth to a third of all entries, whose values and
//! columns would be read in every product. Columns are lists that multigrid's first level, with values of its own in
//! single precision, holds together with the matrix.

use std::ops::Range;
use std::sync::Arc;

use cluster::Halo;

use super::parallel::{ROWS_PER_TASK, map, rows};
use super::rows::{Columns, Rows};
use super::sliced::{LANES, PADDED, Slices};
use crate::assembly::{Matrix, Pattern};

/// A matrix of owned rows in double precision: owned and ghost columns apart in its values, together in its columns.
pub struct Assembled {
    /// Components a node.
    pub block: usize,
    /// Values of the owned columns, as in [`Matrix`]: for each row `[component][column][component]`.
    pub diag: Vec<f64>,
    /// Values of the ghost columns.
    pub off: Vec<f64>,
    /// Row offsets of all columns; one longer than the rows.
    ptr: Arc<Vec<u32>>,
    /// Local columns, ascending: ghosts at the end of a row.
    col: Arc<Vec<u32>>,
    /// Row offsets of the ghost columns among themselves.
    off_ptr: Vec<u32>,
    /// The columns in slices, where that pays.
    slices: Option<Arc<Slices>>,
}

/// Couplings are dropped below this part of the geometric mean of the two diagonals: a few units of round-off, which
/// is how far off all entries of a sum of element matrices are.
const ROUND_OFF: f64 = 1e-15;

/// Dropping less than one entry in so many is not worth moving the others.
const WORTH: usize = 50;

/// The size of the block of column `k` of a row with `n`.
#[inline(always)]
fn size<const B: usize>(values: &[f64], n: usize, k: usize) -> f64 {
    (0..B).map(|a| values[(a * n + k) * B..][..B].iter().map(|v| v.abs()).sum::<f64>()).sum()
}

impl Assembled {
    /// Takes over the values, and the columns: the pattern is left with its offsets. Collective.
    ///
    /// Shapes: `halo` moves nodal values between `n_local` nodes. The entries of a rank must fit 32 bits.
    pub fn new(pattern: &mut Pattern, matrix: Matrix, halo: &Halo, n_local: usize) -> Assembled {
        match matrix.block {
            1 => Self::of::<1>(pattern, matrix, halo, n_local),
            2 => Self::of::<2>(pattern, matrix, halo, n_local),
            3 => Self::of::<3>(pattern, matrix, halo, n_local),
            n => unreachable!("fields have 1 to 3 components, not {n}"),
        }
    }

    fn of<const B: usize>(pattern: &mut Pattern, matrix: Matrix, halo: &Halo, n_local: usize) -> Assembled {
        let Matrix { mut diag, mut off, .. } = matrix;
        let p = &*pattern;
        let n = p.n_rows;
        let tasks = n.div_ceil(ROWS_PER_TASK);
        let owned_values = |row: usize| &diag[p.diag_ptr[row] * B * B..p.diag_ptr[row + 1] * B * B];
        let ghost_values = |row: usize| &off[p.off_ptr[row] * B * B..p.off_ptr[row + 1] * B * B];
        let owned = |row: usize| &p.diag_col[p.diag_ptr[row]..p.diag_ptr[row + 1]];
        let ghosts = |row: usize| &p.off_col[p.off_ptr[row]..p.off_ptr[row + 1]];

        let root = |row: usize| {
            let columns = owned(row);
            columns
                .binary_search(&(row as u32))
                .map_or(0.0, |k| size::<B>(owned_values(row), columns.len(), k).sqrt())
        };
        let mut roots =
            map(tasks, || (), |(), t| rows(t, n, ROWS_PER_TASK).map(root).collect::<Vec<_>>()).concat();
        roots.resize(n_local, 0.0);
        halo.forward(&mut roots, 1);
        let largest = roots.iter().fold(0.0, |all: f64, root| all.max(*root));
        // What is no number stays, to be seen.
        let keeps = |row: usize, column: u32, size: f64| {
            let root = ROUND_OFF * roots[row];
            if B == 1 {
                // No branch: which entries vanish is what a processor cannot foresee.
                let vanishes = size <= root * roots[column as usize];
                return (column as usize == row) | !vanishes;
            }
            // Most are larger than any bound of their row: the column's need not be read.
            column as usize == row
                || size > root * largest
                || size > root * roots[column as usize]
                || size.is_nan()
        };
        let kept = |row: usize, columns: &[u32], values: &[f64]| {
            let kept = |(k, c): &(usize, &u32)| keeps(row, **c, size::<B>(values, columns.len(), *k));
            columns.iter().enumerate().filter(kept).count()
        };
        let count =
            |row| kept(row, owned(row), owned_values(row)) + kept(row, ghosts(row), ghost_values(row));
        let parts = map(tasks, || (), |(), t| rows(t, n, ROWS_PER_TASK).map(count).sum::<usize>());
        let (n_kept, n_all) = (parts.into_iter().sum::<usize>(), p.diag_col.len() + p.off_col.len());
        let drops = (n_all - n_kept) * WORTH > n_all;

        let mut ptr = Vec::with_capacity(n + 1);
        let mut off_ptr = Vec::with_capacity(n + 1);
        ptr.push(0);
        off_ptr.push(0);
        let mut col = Vec::new();
        if !drops && p.off_col.is_empty() {
            ptr.extend(p.diag_ptr[1..].iter().map(|&k| k as u32));
            off_ptr.resize(n + 1, 0);
            col = std::mem::take(&mut pattern.diag_col);
        } else if drops && B == 1 {
            // Room for an entry that is written and does not stay.
            col.reserve_exact(n_kept + 1);
            col.resize(n_kept + 1, 0);
            let mut next = 0;
            let (mut diag_end, mut off_end) = (0, 0);
            for row in 0..n {
                for (values, ptr, columns, end) in [
                    (&mut diag, p.diag_ptr[row], owned(row), &mut diag_end),
                    (&mut off, p.off_ptr[row], ghosts(row), &mut off_end),
                ] {
                    // What stays moves towards the front; no branch asks what that is.
                    for (&column, from) in columns.iter().zip(ptr..) {
                        let value = values[from];
                        (col[next], values[*end]) = (column, value);
                        let stays = usize::from(keeps(row, column, value.abs()));
                        (next, *end) = (next + stays, *end + stays);
                    }
                }
                ptr.push(next as u32);
                off_ptr.push(off_end as u32);
            }
            col.truncate(n_kept);
            diag.truncate(diag_end);
            off.truncate(off_end);
        } else {
            col.reserve_exact(if drops { n_kept } else { n_all });
            let (mut diag_end, mut off_end) = (0, 0);
            let keeps = |row: usize, column: u32, size: f64| !drops || keeps(row, column, size);
            for row in 0..n {
                let (diag_ptr, off_ptr_) = (&p.diag_ptr[row..row + 2], &p.off_ptr[row..row + 2]);
                for (values, ptr, columns, end) in [
                    (&mut diag, diag_ptr, owned(row), &mut diag_end),
                    (&mut off, off_ptr_, ghosts(row), &mut off_end),
                ] {
                    let (first, n) = (col.len(), columns.len());
                    let of_row = &values[ptr[0] * B * B..ptr[1] * B * B];
                    let stay = |(k, c): &(usize, &u32)| keeps(row, **c, size::<B>(of_row, n, *k));
                    col.extend(columns.iter().enumerate().filter(stay).map(|(_, &c)| c));
                    let n_stay = col.len() - first;
                    if drops {
                        // Never beyond what has been read: rows and components only move towards the front.
                        let mut to = *end * B * B;
                        for a in 0..B {
                            let mut next = first;
                            for (k, c) in columns.iter().enumerate() {
                                if next < col.len() && col[next] == *c {
                                    let from = (ptr[0] * B + a * n + k) * B;
                                    values.copy_within(from..from + B, to);
                                    (next, to) = (next + 1, to + B);
                                }
                            }
                        }
                    }
                    *end += n_stay;
                }
                ptr.push(col.len() as u32);
                off_ptr.push(off_end as u32);
            }
            for (values, end) in [(&mut diag, diag_end), (&mut off, off_end)] {
                values.truncate(end * B * B);
                values.shrink_to_fit();
            }
        }
        (pattern.diag_col, pattern.off_col) = (Vec::new(), Vec::new());
        let slices = if B == 1 { Slices::new(&ptr, &col, n, PADDED).map(Arc::new) } else { None };
        // The values will move into their slices in place.
        diag.shrink_to(slices.as_ref().map_or(0, |slices| slices.n_places()));
        off.shrink_to_fit();
        Assembled { block: B, diag, off, ptr: Arc::new(ptr), col: Arc::new(col), off_ptr, slices }
    }

    /// The number of owned nodes.
    pub fn n_rows(&self) -> usize {
        self.ptr.len() - 1
    }

    /// The number of blocks.
    pub fn n_entries(&self) -> usize {
        self.ptr.last().map_or(0, |&end| end as usize)
    }

    /// Entries of a row with owned columns, counted over the rows before it.
    #[inline(always)]
    pub fn owned(&self, row: usize) -> Range<usize> {
        (self.ptr[row] - self.off_ptr[row]) as usize..(self.ptr[row + 1] - self.off_ptr[row + 1]) as usize
    }

    /// Entries of a row with ghost columns.
    #[inline(always)]
    pub fn ghosts(&self, row: usize) -> Range<usize> {
        self.off_ptr[row] as usize..self.off_ptr[row + 1] as usize
    }

    /// Moves the values into slices, where that pays; the matrix is then left with its offsets, until
    /// [`Assembled::take_back`].
    pub(in crate::solver) fn move_to_slices(&mut self) -> Option<(Arc<Slices>, Vec<f64>)> {
        let slices = self.slices.clone()?;
        self.col = Arc::default();
        let (mut values, off) = (std::mem::take(&mut self.diag), std::mem::take(&mut self.off));
        let room = slices.n_places();
        values.reserve_exact(room.saturating_sub(values.len()));
        values.resize(room, 0.0);
        // From the last on, in the same memory: padding only moves entries towards the end, so that what is written over
        // has been read.
        let mut of_slice = Vec::new();
        for slice in (0..slices.len()).rev() {
            let rows = rows(slice, self.n_rows(), LANES);
            of_slice.clear();
            for row in rows.clone() {
                of_slice.extend_from_slice(&values[self.owned(row)]);
                of_slice.extend_from_slice(&off[self.ghosts(row)]);
            }
            let to = &mut values[slices.places(slice)];
            to.fill(0.0);
            let mut rest = &of_slice[..];
            for (lane, row) in rows.enumerate() {
                let of_row;
                (of_row, rest) = rest.split_at((self.ptr[row + 1] - self.ptr[row]) as usize);
                of_row.iter().enumerate().for_each(|(k, value)| to[k * LANES + lane] = *value);
            }
        }
        Some((slices, values))
    }

    /// Moves values and columns back into rows.
    pub(in crate::solver) fn take_back(&mut self, slices: &Slices, values: &[f64]) {
        let (mut diag, mut off, mut col) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..self.n_rows() {
            let n_owned = self.owned(row).len();
            for k in 0..n_owned + self.ghosts(row).len() {
                let to = if k < n_owned { &mut diag } else { &mut off };
                to.push(values[slices.place(row, k)]);
                col.push(slices.column(row, k));
            }
        }
        (self.diag, self.off, self.col) = (diag, off, Arc::new(col));
    }

    /// Columns of a row that are owned, ascending.
    #[inline(always)]
    pub fn owned_columns(&self, row: usize) -> &[u32] {
        &self.col[self.ptr[row] as usize..self.ptr[row + 1] as usize - self.ghosts(row).len()]
    }

    /// Columns of a row that are ghosts, ascending.
    #[inline(always)]
    pub fn ghost_columns(&self, row: usize) -> &[u32] {
        &self.col[self.ptr[row + 1] as usize - self.ghosts(row).len()..self.ptr[row + 1] as usize]
    }
}

impl<const N: usize> Rows<N> for Assembled {
    fn n_rows(&self) -> usize {
        self.n_rows()
    }

    fn diagonal(&self, row: usize) -> Option<[[f64; N]; N]> {
        let columns = self.owned_columns(row);
        let k = columns.binary_search(&(row as u32)).ok()?;
        let range = self.owned(row);
        let values = &self.diag[range.start * N * N..range.end * N * N];
        let entry = |a, b| values[(a * columns.len() + k) * N + b];
        Some(std::array::from_fn(|a| std::array::from_fn(|b| entry(a, b))))
    }

    #[inline(always)]
    fn visit(&self, row: usize, mut f: impl FnMut(u32, &[[f64; N]; N])) {
        for (columns, range, values) in [
            (self.owned_columns(row), self.owned(row), &self.diag),
            (self.ghost_columns(row), self.ghosts(row), &self.off),
        ] {
            let values = &values[range.start * N * N..range.end * N * N];
            let n = columns.len();
            for (k, &column) in columns.iter().enumerate() {
                let mut block = [[0.0; N]; N];
                for a in 0..N {
                    block[a].copy_from_slice(&values[(a * n + k) * N..][..N]);
                }
                f(column, &block);
            }
        }
    }

    fn columns(&self) -> Option<Columns<'_>> {
        Some((&self.ptr, &self.col, self.slices.as_ref()))
    }
}
