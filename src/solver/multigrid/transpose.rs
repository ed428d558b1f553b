//! Which rows have entries in a column.
//!
//! Imports its sibling `parallel`. Start at [`Transposed::new`].
//!
//! Every thread takes some of the columns and reads the rows that reach them, so that what is found does not depend on
//! how many there are. Numbers of nodes near each other are near each other: most rows are read once or twice.

use super::parallel::{ROWS_PER_TASK, each, map, rows};

/// The entries of compressed rows by column, rows ascending within a column.
pub(super) struct Transposed {
    /// Offsets of columns; one longer than these.
    pub ptr: Vec<u32>,
    /// The row of each entry.
    pub row: Vec<u32>,
    /// Its place among the rows' entries.
    pub at: Vec<u32>,
}

/// Parts of the columns, at most.
const MOST_PARTS: usize = 64;

/// Compressed rows whose columns are in parts of `1 << shift`.
struct Parts<'a> {
    ptr: &'a [u32],
    col: &'a [u32],
    shift: u32,
    /// Per task of rows: the parts it reaches, a bit each; empty where there is one part.
    reach: Vec<u64>,
}

impl Parts<'_> {
    /// `f(row, place, column)` for each entry in a part, row by row.
    fn visit(&self, part: usize, mut f: impl FnMut(usize, usize, u32)) {
        let n = self.ptr.len() - 1;
        if self.reach.is_empty() {
            for row in 0..n {
                for at in self.ptr[row] as usize..self.ptr[row + 1] as usize {
                    f(row, at, self.col[at]);
                }
            }
            return;
        }
        for task in (0..self.reach.len()).filter(|&task| self.reach[task] >> part & 1 != 0) {
            for row in rows(task, n, ROWS_PER_TASK) {
                for at in self.ptr[row] as usize..self.ptr[row + 1] as usize {
                    let column = self.col[at];
                    if (column >> self.shift) as usize == part {
                        f(row, at, column);
                    }
                }
            }
        }
    }
}

impl Transposed {
    /// The entries of rows with offsets `ptr` in the first `n_cols` columns, which are all that there are.
    pub fn new(ptr: &[u32], col: &[u32], n_cols: usize) -> Transposed {
        Self::in_parts(ptr, col, n_cols, rayon::current_num_threads())
    }

    fn in_parts(ptr: &[u32], col: &[u32], n_cols: usize, threads: usize) -> Transposed {
        let (n, n_entries) = (ptr.len() - 1, ptr[ptr.len() - 1] as usize);
        let tasks = n.div_ceil(ROWS_PER_TASK);
        let alone = threads == 1 || tasks < 2;
        // Powers of two, to find a column's part without a division: twice the threads, to four times.
        let wanted = if alone { 1 } else { (2 * threads).min(MOST_PARTS / 2) };
        let width = (n_cols / wanted).max(1);
        let shift = if alone { 31 } else { width.ilog2() };
        let per_part = 1usize << shift;
        let reach = |task: usize| {
            let range = rows(task, n, ROWS_PER_TASK);
            let entries = ptr[range.start] as usize..ptr[range.end] as usize;
            col[entries].iter().fold(0u64, |all, &c| all | 1 << (c >> shift))
        };
        let reach = if alone { Vec::new() } else { map(tasks, || (), |(), task| reach(task)) };
        let parts = Parts { ptr, col, shift, reach };
        let mut t_ptr = vec![0u32; n_cols + 1];
        each(t_ptr[1..].chunks_mut(per_part).enumerate(), |(part, counts)| {
            let first = (part * per_part) as u32;
            parts.visit(part, |_, _, column| counts[(column - first) as usize] += 1);
        });
        for c in 0..n_cols {
            t_ptr[c + 1] += t_ptr[c];
        }
        let (mut row, mut at) = (vec![0u32; n_entries], vec![0u32; n_entries]);
        let (mut rest_row, mut rest_at) = (&mut row[..], &mut at[..]);
        let cut = (0..n_cols.div_ceil(per_part)).map(|part| {
            let columns = part * per_part..((part + 1) * per_part).min(n_cols);
            let len = (t_ptr[columns.end] - t_ptr[columns.start]) as usize;
            let (of_row, other_row) = std::mem::take(&mut rest_row).split_at_mut(len);
            let (of_at, other_at) = std::mem::take(&mut rest_at).split_at_mut(len);
            (rest_row, rest_at) = (other_row, other_at);
            (columns, of_row, of_at)
        });
        each(cut, |(columns, to_row, to_at)| {
            let (first, begin) = (columns.start, t_ptr[columns.start]);
            let mut next: Vec<u32> = t_ptr[columns.clone()].iter().map(|&k| k - begin).collect();
            parts.visit(first / per_part, |row, at, column| {
                let next = &mut next[column as usize - first];
                (to_row[*next as usize], to_at[*next as usize]) = (row as u32, at as u32);
                *next += 1;
            });
        });
        Transposed { ptr: t_ptr, row, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_their_rows_however_many_threads() {
        let n = 3 * ROWS_PER_TASK + 17;
        for n_cols in [1usize, 5, 300, 1025] {
            let (mut ptr, mut col) = (vec![0u32], Vec::new());
            for row in 0..n {
                // Mostly near the row's own place, some anywhere, some rows empty.
                let near = row * n_cols / n;
                let far = row.wrapping_mul(2_654_435_761) % n_cols;
                let mut of_row = vec![near as u32, (near + 1).min(n_cols - 1) as u32];
                of_row.extend((row % 7 == 0).then_some(far as u32));
                of_row.sort_unstable();
                of_row.dedup();
                of_row.truncate(row % 4);
                col.extend(of_row);
                ptr.push(col.len() as u32);
            }
            let mut expected: Vec<(u32, u32, u32)> = Vec::new();
            for row in 0..n {
                expected.extend((ptr[row]..ptr[row + 1]).map(|at| (col[at as usize], row as u32, at)));
            }
            expected.sort_unstable();
            for threads in [1, 2, 5, 64] {
                let found = Transposed::in_parts(&ptr, &col, n_cols, threads);
                let entries = (0..n_cols).flat_map(|c| {
                    let range = found.ptr[c] as usize..found.ptr[c + 1] as usize;
                    range.map(move |k| (c as u32, k))
                });
                let entries: Vec<(u32, u32, u32)> =
                    entries.map(|(c, k)| (c, found.row[k], found.at[k])).collect();
                assert_eq!(entries, expected, "{n_cols} columns, {threads} threads");
            }
        }
    }
}
