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

use super::parallel::{ROWS_PER_TASK, each, map, rows};
use super::rows::{Arrays, Columns, Rows, find};
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
    /// Of one component a node: the diagonal, while the values are in rows; else it is to be found among these.
    diagonal: Vec<f64>,
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

/// Cuts the first `n` off a slice.
fn cut<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (first, others) = std::mem::take(rest).split_at_mut(n);
    *rest = others;
    first
}

/// Tasks in rounds between which arrays are moved in their own memory: few, so that what a round works on stays in cache.
fn rounds(tasks: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let threads = rayon::current_num_threads();
    let each = if threads > 1 { 4 * threads } else { 1 };
    (0..tasks.div_ceil(each)).map(move |round| round * each..((round + 1) * each).min(tasks))
}

/// Slices of the rows of a task.
const SLICES_PER_TASK: usize = ROWS_PER_TASK / LANES;

/// Values that a task copies.
const COPIED: usize = 1 << 15;

/// The rows of a task on their way from the pattern into one list of columns.
struct Part<'a> {
    rows: Range<usize>,
    diag: &'a mut [f64],
    off: &'a mut [f64],
    /// As many columns as stay.
    col: &'a mut [u32],
    /// Ends of rows, counted from the part's first.
    ptr: &'a mut [u32],
    off_ptr: &'a mut [u32],
}

impl Part<'_> {
    /// Columns alone; how many entries have owned and ghost columns.
    fn merge(self, p: &Pattern) -> (usize, usize) {
        let (mut next, mut n_off) = (0, 0);
        for (k, row) in self.rows.enumerate() {
            let owned = &p.diag_col[p.diag_ptr[row]..p.diag_ptr[row + 1]];
            let ghosts = &p.off_col[p.off_ptr[row]..p.off_ptr[row + 1]];
            self.col[next..][..owned.len()].copy_from_slice(owned);
            next += owned.len();
            self.col[next..][..ghosts.len()].copy_from_slice(ghosts);
            (next, n_off) = (next + ghosts.len(), n_off + ghosts.len());
            (self.ptr[k], self.off_ptr[k]) = (next as u32, n_off as u32);
        }
        (next - n_off, n_off)
    }

    /// Moves what stays, values and columns, to the front of the part; how many entries with owned and ghost columns.
    fn compact<const B: usize>(
        self,
        p: &Pattern,
        keeps: &impl Fn(usize, u32, f64) -> bool,
    ) -> (usize, usize) {
        let Part { rows, diag, off, col, ptr, off_ptr } = self;
        let (diag_first, off_first) = (p.diag_ptr[rows.start], p.off_ptr[rows.start]);
        let (mut next, mut diag_end, mut off_end) = (0, 0, 0);
        for (k, row) in rows.enumerate() {
            for (values, begin, columns, end) in [
                (
                    &mut *diag,
                    p.diag_ptr[row] - diag_first,
                    &p.diag_col[p.diag_ptr[row]..p.diag_ptr[row + 1]],
                    &mut diag_end,
                ),
                (
                    &mut *off,
                    p.off_ptr[row] - off_first,
                    &p.off_col[p.off_ptr[row]..p.off_ptr[row + 1]],
                    &mut off_end,
                ),
            ] {
                if B == 1 {
                    // What stays moves towards the front; no branch asks what that is.
                    for (&column, from) in columns.iter().zip(begin..) {
                        let value = values[from];
                        values[*end] = value;
                        // Behind the last that stays there is no room, and no need.
                        if let Some(to) = col.get_mut(next) {
                            *to = column;
                        }
                        let stays = usize::from(keeps(row, column, value.abs()));
                        (next, *end) = (next + stays, *end + stays);
                    }
                    continue;
                }
                let (first, n) = (next, columns.len());
                let of_row = &values[begin * B * B..(begin + n) * B * B];
                for (k, &column) in columns.iter().enumerate() {
                    if keeps(row, column, size::<B>(of_row, n, k)) {
                        col[next] = column;
                        next += 1;
                    }
                }
                // Never beyond what has been read: rows and components only move towards the front.
                let mut to = *end * B * B;
                for a in 0..B {
                    let mut at = first;
                    for (k, &column) in columns.iter().enumerate() {
                        if at < next && col[at] == column {
                            let from = (begin * B + a * n + k) * B;
                            values.copy_within(from..from + B, to);
                            (at, to) = (at + 1, to + B);
                        }
                    }
                }
                *end += next - first;
            }
            (ptr[k], off_ptr[k]) = (next as u32, off_end as u32);
        }
        (diag_end, off_end)
    }
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

        let mut diagonal = vec![0.0; if B == 1 { n } else { 0 }];
        let mut roots = vec![0.0; n_local];
        let mut rest = &mut diagonal[..];
        let parts = roots[..n].chunks_mut(ROWS_PER_TASK).map(|roots| {
            let n = if B == 1 { roots.len() } else { 0 };
            (roots, cut(&mut rest, n))
        });
        each(parts.enumerate(), |(t, (roots, diagonal))| {
            for (k, row) in rows(t, n, ROWS_PER_TASK).enumerate() {
                let columns = owned(row);
                let Some(at) = find(columns, row as u32) else { continue };
                if B == 1 {
                    diagonal[k] = owned_values(row)[at];
                }
                roots[k] = size::<B>(owned_values(row), columns.len(), at).sqrt();
            }
        });
        halo.forward(&mut roots, 1);
        let largest = roots.iter().fold(0.0, |all: f64, root| all.max(*root));
        let smallest = roots.iter().fold(f64::INFINITY, |all: f64, root| all.min(*root));
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
            let root = ROUND_OFF * roots[row];
            if B == 1 && root > 0.0 {
                // Most are larger than any bound of their row, or zero: no column's need be read.
                let (mut above, mut below) = (0, 0);
                for value in values {
                    above += u32::from(value.abs() > root * largest);
                    below += u32::from(value.abs() <= root * smallest);
                }
                if (above + below) as usize == columns.len() {
                    return above as usize;
                }
            }
            let kept = |(k, c): &(usize, &u32)| keeps(row, **c, size::<B>(values, columns.len(), *k));
            columns.iter().enumerate().filter(kept).count()
        };
        let count =
            |row| kept(row, owned(row), owned_values(row)) + kept(row, ghosts(row), ghost_values(row));
        let mut kept = map(tasks, || (), |(), t| rows(t, n, ROWS_PER_TASK).map(count).sum::<usize>());
        let (n_kept, n_all) = (kept.iter().sum::<usize>(), p.diag_col.len() + p.off_col.len());
        let drops = (n_all - n_kept) * WORTH > n_all;

        let (mut ptr, mut off_ptr) = (vec![0u32; n + 1], vec![0u32; n + 1]);
        let mut col = Vec::new();
        if !drops && p.off_col.is_empty() {
            ptr.iter_mut().zip(&p.diag_ptr).for_each(|(to, &from)| *to = from as u32);
            col = std::mem::take(&mut pattern.diag_col);
        } else {
            if !drops {
                let entries = |ptr: &[usize], r: Range<usize>| ptr[r.end] - ptr[r.start];
                kept = (0..tasks)
                    .map(|t| rows(t, n, ROWS_PER_TASK))
                    .map(|r| entries(&p.diag_ptr, r.clone()) + entries(&p.off_ptr, r))
                    .collect();
            }
            col.resize(kept.iter().sum(), 0);
            let (mut col_end, mut diag_end, mut off_end) = (0, 0, 0);
            // In rounds: threads move what stays to the front of their rows' part of the values, and these parts to the
            // front of all while they are in cache.
            for round in rounds(tasks) {
                let all = round.start * ROWS_PER_TASK..(round.end * ROWS_PER_TASK).min(n);
                let mut rest_diag = &mut diag[p.diag_ptr[all.start] * B * B..];
                let mut rest_off = &mut off[p.off_ptr[all.start] * B * B..];
                let (mut rest_col, mut rest_ptr) = (&mut col[col_end..], &mut ptr[all.start + 1..]);
                let mut rest_off_ptr = &mut off_ptr[all.start + 1..];
                let parts = round.clone().map(|t| {
                    let rows = rows(t, n, ROWS_PER_TASK);
                    let size = |ptr: &[usize]| (ptr[rows.end] - ptr[rows.start]) * B * B;
                    Part {
                        diag: cut(&mut rest_diag, size(&p.diag_ptr)),
                        off: cut(&mut rest_off, size(&p.off_ptr)),
                        col: cut(&mut rest_col, kept[t]),
                        ptr: cut(&mut rest_ptr, rows.len()),
                        off_ptr: cut(&mut rest_off_ptr, rows.len()),
                        rows,
                    }
                });
                let mut ends = vec![(0, 0); round.len()];
                each(parts.zip(&mut ends), |(part, end)| {
                    *end = if drops { part.compact::<B>(p, &keeps) } else { part.merge(p) };
                });
                for (t, (n_diag, n_off)) in round.zip(ends) {
                    let rows = rows(t, n, ROWS_PER_TASK);
                    if drops {
                        let (from, from_off) =
                            (p.diag_ptr[rows.start] * B * B, p.off_ptr[rows.start] * B * B);
                        diag.copy_within(from..from + n_diag * B * B, diag_end * B * B);
                        off.copy_within(from_off..from_off + n_off * B * B, off_end * B * B);
                    }
                    ptr[rows.start + 1..=rows.end].iter_mut().for_each(|end| *end += col_end as u32);
                    off_ptr[rows.start + 1..=rows.end].iter_mut().for_each(|end| *end += off_end as u32);
                    (col_end, diag_end, off_end) = (col_end + kept[t], diag_end + n_diag, off_end + n_off);
                }
            }
            for (values, end) in [(&mut diag, diag_end), (&mut off, off_end)] {
                values.truncate(end * B * B);
                if B > 1 {
                    values.shrink_to_fit();
                }
            }
        }
        (pattern.diag_col, pattern.off_col) = (Vec::new(), Vec::new());
        let slices = if B == 1 { Slices::new(&ptr, &col, n, PADDED).map(Arc::new) } else { None };
        // The values will move into their slices in place.
        diag.shrink_to(slices.as_ref().map_or(0, |slices| slices.n_places()));
        off.shrink_to_fit();
        Assembled { block: B, diag, off, ptr: Arc::new(ptr), col: Arc::new(col), off_ptr, diagonal, slices }
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
        (self.col, self.diagonal) = (Arc::default(), Vec::new());
        let (mut values, off) = (std::mem::take(&mut self.diag), std::mem::take(&mut self.off));
        let room = slices.n_places();
        values.reserve_exact(room.saturating_sub(values.len()));
        values.resize(room, 0.0);
        // From the last on, in the same memory by way of what threads arrange of some rows: padding only moves entries
        // towards the end, so that what is written over has been read.
        let mut arranged: Vec<[f64; LANES]> = Vec::new();
        let n_slices = slices.len();
        let of_tasks = |t: Range<usize>| t.start * SLICES_PER_TASK..(t.end * SLICES_PER_TASK).min(n_slices);
        for round in rounds(n_slices.div_ceil(SLICES_PER_TASK)).rev() {
            let places = slices.places(of_tasks(round.clone()));
            arranged.resize(places.len().max(arranged.len()), [0.0; LANES]);
            let mut rest = &mut arranged[..places.len()];
            let parts = round.map(|t| {
                let of_task = of_tasks(t..t + 1);
                let part = cut(&mut rest, slices.places(of_task.clone()).len());
                (of_task, part)
            });
            let from = &values[..];
            each(parts, |(of_task, part)| {
                if off.is_empty() {
                    slices.arrange_some(of_task, &self.ptr, from, 0, part);
                    return;
                }
                let rows = of_task.start * LANES..(of_task.end * LANES).min(self.n_rows());
                let first = self.ptr[rows.start] as usize;
                let mut of_rows = Vec::with_capacity(self.ptr[rows.end] as usize - first);
                for row in rows {
                    of_rows.extend_from_slice(&from[self.owned(row)]);
                    of_rows.extend_from_slice(&off[self.ghosts(row)]);
                }
                slices.arrange_some(of_task, &self.ptr, &of_rows, first, part);
            });
            let to = values[LANES * places.start..LANES * places.end].chunks_mut(COPIED);
            let arranged = arranged[..places.len()].as_flattened();
            each(to.zip(arranged.chunks(COPIED)), |(to, from)| to.copy_from_slice(from));
        }
        Some((slices, values))
    }

    /// Moves values and columns back into rows.
    pub(in crate::solver) fn take_back(&mut self, slices: &Slices, values: &[f64]) {
        let n = self.n_rows();
        let n_off = self.off_ptr.last().map_or(0, |&end| end as usize);
        let (mut diag, mut off) = (vec![0.0; self.n_entries() - n_off], vec![0.0; n_off]);
        let mut col = vec![0u32; self.n_entries()];
        let (mut rest_diag, mut rest_off, mut rest_col) = (&mut diag[..], &mut off[..], &mut col[..]);
        let parts = (0..n.div_ceil(ROWS_PER_TASK)).map(|t| {
            let rows = rows(t, n, ROWS_PER_TASK);
            let n_all = (self.ptr[rows.end] - self.ptr[rows.start]) as usize;
            let n_off = (self.off_ptr[rows.end] - self.off_ptr[rows.start]) as usize;
            (rows, cut(&mut rest_diag, n_all - n_off), cut(&mut rest_off, n_off), cut(&mut rest_col, n_all))
        });
        each(parts, |(rows, mut diag, mut off, mut col)| {
            slices.gather_rows(rows, &self.ptr, values, |row, k, column, value| {
                let to = if k < self.owned(row).len() { &mut diag } else { &mut off };
                cut(to, 1)[0] = value;
                cut(&mut col, 1)[0] = column;
            });
        });
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
        if N == 1 && !self.diagonal.is_empty() {
            return Some([[self.diagonal[row]; N]; N]);
        }
        let columns = self.owned_columns(row);
        let k = find(columns, row as u32)?;
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

    fn arrays(&self) -> Option<Arrays<'_>> {
        (N == 1 && self.off.is_empty()).then_some((&self.ptr[..], &self.col[..], &self.diag[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two to four entries, one of them a ghost's in every third row; as many rows as some tasks take.
    fn matrix(n: usize) -> Assembled {
        let (mut ptr, mut col, mut off_ptr) = (vec![0u32], Vec::new(), vec![0u32]);
        let (mut diag, mut off) = (Vec::new(), Vec::new());
        for row in 0..n {
            let mut owned = vec![row as u32, ((row + 1) % n) as u32, ((row + 7) % n) as u32];
            owned.truncate(if row % 5 == 0 { 2 } else { 3 });
            owned.sort_unstable();
            diag.extend(owned.iter().map(|&c| (row as f64).sin() + f64::from(c)));
            col.extend(owned);
            if row % 3 == 0 {
                col.push((n + row % 4) as u32);
                off.push((row as f64).cos());
            }
            ptr.push(col.len() as u32);
            off_ptr.push(off.len() as u32);
        }
        let slices = Slices::new(&ptr, &col, n, 2.0).map(Arc::new);
        let diagonal = Vec::new();
        Assembled { block: 1, diag, off, ptr: Arc::new(ptr), col: Arc::new(col), off_ptr, diagonal, slices }
    }

    #[test]
    fn values_move_to_slices_and_back() {
        for (n, threads) in
            [(9, 1), (2 * ROWS_PER_TASK, 1), (9 * ROWS_PER_TASK + 13, 1), (9 * ROWS_PER_TASK + 13, 2)]
        {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (before, mut moved) = (matrix(n), matrix(n));
            let (slices, values) = pool.install(|| moved.move_to_slices()).expect("slices");
            assert!(moved.diag.is_empty() && moved.off.is_empty() && moved.col.is_empty());
            let x: Vec<f64> = (0..n + 4).map(|k| (k as f64).cos()).collect();
            for row in 0..n {
                let sum = |values: &[f64], columns: &[u32]| {
                    values.iter().zip(columns).map(|(v, &c)| v * x[c as usize]).sum::<f64>()
                };
                let exact = sum(&before.diag[before.owned(row)], before.owned_columns(row))
                    + sum(&before.off[before.ghosts(row)], before.ghost_columns(row));
                let found = slices.product(row / LANES, values.as_chunks().0, &x)[row % LANES];
                assert!((found - exact).abs() <= 1e-12 * (1.0 + exact.abs()), "{row}: {found} {exact}");
            }
            pool.install(|| moved.take_back(&slices, &values));
            assert!(moved.diag == before.diag && moved.off == before.off && moved.col == before.col);
        }
    }
}
