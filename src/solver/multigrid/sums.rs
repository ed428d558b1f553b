//! Rows of a sparse product while they are summed up.
//!
//! Imports nothing of the crate. Start at [`Terms`], for matrices of one value an entry, or at [`Sums`], for blocks.

/// Entries that are taken at once, wanted or not.
const CHUNK: usize = 8;

/// A row of one value an entry while it is summed up: first all terms one after the other, then their sums.
///
/// Most rows that are added have one to eight entries. How many is what a processor cannot foresee, so that all take
/// the same way: [`CHUNK`] entries are copied, and what is too much of them is written over by the next row's.
pub(super) struct Terms {
    /// Per column: its sum, zero between rows.
    sum: Vec<f64>,
    col: Vec<u32>,
    val: Vec<f64>,
    len: usize,
}

impl Terms {
    /// For rows of so many columns.
    pub fn new(n_cols: usize) -> Terms {
        Terms { sum: vec![0.0; n_cols], col: Vec::new(), val: Vec::new(), len: 0 }
    }

    /// Adds entries of a matrix, `term(entry)` each.
    #[inline(always)]
    pub fn add<T>(
        &mut self,
        columns: &[u32],
        entries: &[T],
        range: std::ops::Range<usize>,
        term: impl Fn(&T) -> f64,
    ) {
        let (start, n) = (self.len, range.len());
        self.len += n;
        if self.len + CHUNK > self.col.len() {
            self.grow();
        }
        let (to_col, to_val) =
            (&mut self.col[start..self.len + CHUNK], &mut self.val[start..self.len + CHUNK]);
        let mut k = 0;
        while k < n {
            let from = range.start + k;
            let (columns, entries) = (&columns[from..], &entries[from..]);
            if let (Some(columns), Some(entries)) =
                (columns.first_chunk::<CHUNK>(), entries.first_chunk::<CHUNK>())
            {
                to_col[k..k + CHUNK].copy_from_slice(columns);
                to_val[k..k + CHUNK]
                    .copy_from_slice(&std::array::from_fn::<_, CHUNK, _>(|l| term(&entries[l])));
            } else {
                // The last entries of all.
                for (l, (&column, entry)) in columns.iter().zip(entries).take(n - k).enumerate() {
                    (to_col[k + l], to_val[k + l]) = (column, term(entry));
                }
            }
            k += CHUNK;
        }
    }

    /// Adds one entry.
    #[inline(always)]
    pub fn push(&mut self, column: u32, term: f64) {
        self.len += 1;
        if self.len + CHUNK > self.col.len() {
            self.grow();
        }
        (self.col[self.len - 1], self.val[self.len - 1]) = (column, term);
    }

    #[cold]
    fn grow(&mut self) {
        let room = 2 * (self.len + CHUNK);
        self.col.resize(room, 0);
        self.val.resize(room, 0.0);
    }

    /// The sums, `column` and value of each, in the order in which their columns were met; there are none after it.
    /// Columns whose terms cancel to zero are left out.
    #[inline(always)]
    pub fn sums(&mut self) -> (&[u32], &[f64]) {
        let Terms { sum, col, val, len } = self;
        let (col, val) = (&mut col[..*len], &mut val[..*len]);
        // No place where a sum is written depends on another sum: what is to be read next would wait for it.
        for (&column, &term) in col.iter().zip(&*val) {
            sum[column as usize] += term;
        }
        for (&column, value) in col.iter().zip(&mut *val) {
            *value = std::mem::take(&mut sum[column as usize]);
        }
        // A column that is there again was found to be zero.
        let mut kept = 0;
        for k in 0..col.len() {
            (col[kept], val[kept]) = (col[k], val[k]);
            kept += usize::from(val[kept] != 0.0);
        }
        *len = 0;
        (&col[..kept], &val[..kept])
    }
}

/// Appends entries of a row, of which no two are of one column, in ascending order of their columns.
pub(super) fn push_ascending<T: Copy + Default>(
    col: &mut Vec<u32>,
    val: &mut Vec<T>,
    columns: &[u32],
    values: &[T],
) {
    /// Columns that are compared at once.
    const SIDE: usize = 16;
    /// A row of more is sorted.
    const MOST: usize = 4 * SIDE;
    let (at, n) = (col.len(), columns.len());
    if n > MOST {
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_unstable_by_key(|&k| columns[k as usize]);
        col.extend(order.iter().map(|&k| columns[k as usize]));
        val.extend(order.iter().map(|&k| values[k as usize]));
        return;
    }
    col.resize(at + n, 0);
    val.resize(at + n, T::default());
    let (col, val) = (&mut col[at..], &mut val[at..]);
    // The place of a column is how many are less: no branch asks what a processor cannot foresee.
    let mut padded = [u32::MAX; MOST];
    padded[..n].copy_from_slice(columns);
    let chunks = &padded.as_chunks::<SIDE>().0[..n.div_ceil(SIDE)];
    for (&column, &value) in columns.iter().zip(values) {
        let less = |chunk: &[u32; SIDE]| chunk.iter().map(|&c| u32::from(c < column)).sum::<u32>();
        let place = chunks.iter().map(less).sum::<u32>() as usize;
        (col[place], val[place]) = (column, value);
    }
}

/// A row of blocks while it is summed up.
pub(super) struct Sums<const R: usize, const C: usize> {
    /// Per coarse node: the stamp of its entry in the row that was summed last. Stamps grow from row to row, so
    /// that one below the row's first is of an earlier row.
    marker: Vec<u32>,
    first: u32,
    /// The columns as they are met, and their sums: `len` of them, beyond which sums are zero.
    col: Vec<u32>,
    val: Vec<[[f64; C]; R]>,
    len: usize,
}

impl<const R: usize, const C: usize> Sums<R, C> {
    pub fn new(n_coarse: usize) -> Self {
        Sums { marker: vec![0; n_coarse], first: 1, col: Vec::new(), val: Vec::new(), len: 0 }
    }

    /// Adds to columns: `add(item, sum)` for each. No branch asks whether a column is new, which is what a processor
    /// cannot foresee.
    #[inline(always)]
    pub fn add<T>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (u32, T)>,
        mut add: impl FnMut(T, &mut [[f64; C]; R]),
    ) {
        let (first, n) = (self.first, entries.len());
        if self.len + n >= self.col.len() {
            self.grow(n);
        }
        let Sums { marker, col, val, .. } = self;
        let (col, val) = (&mut col[..], &mut val[..]);
        let mut len = self.len;
        for (c, item) in entries.take(n) {
            let mark = &mut marker[c as usize];
            let is_new = *mark < first;
            let at = if is_new { len } else { mark.wrapping_sub(first) as usize };
            // SAFETY: there is room for `n` columns more and one behind them, so for place `len`. Stamps from `first`
            // on are this row's, and were given for places below `len`.
            let sum = unsafe {
                *col.get_unchecked_mut(len) = c;
                val.get_unchecked_mut(at)
            };
            *mark = first + at as u32;
            len += usize::from(is_new);
            add(item, sum);
        }
        self.len = len;
    }

    /// Makes room for `n` columns more, and one behind them.
    #[cold]
    fn grow(&mut self, n: usize) {
        let room = 2 * (self.len + n) + 16;
        self.col.resize(room, 0);
        self.val.resize(room, [[0.0; C]; R]);
    }

    pub fn columns(&self) -> &[u32] {
        &self.col[..self.len]
    }

    pub fn values(&self) -> &[[[f64; C]; R]] {
        &self.val[..self.len]
    }

    /// Goes on to the next row. Before stamps run out they begin anew.
    pub fn clear(&mut self) {
        self.val[..self.len].fill([[0.0; C]; R]);
        self.first += self.len as u32;
        self.len = 0;
        if self.first >= 1 << 31 {
            self.marker.fill(0);
            self.first = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_summed_by_column() {
        // Rows of 0 to 20 entries of a matrix, added with factors, some of which cancel.
        let lengths = [3usize, 0, 20, 1, 8, 7, 9, 4];
        let mut starts = vec![0];
        lengths.iter().for_each(|n| starts.push(starts[starts.len() - 1] + n));
        let columns: Vec<u32> = (0..starts[lengths.len()] as u32).map(|k| k * 7 % 23).collect();
        let entries: Vec<f32> = columns.iter().map(|&c| (c as f32).cos()).collect();
        let mut terms = Terms::new(23);
        for (rows, factors) in [
            (vec![0, 1, 2], vec![1.0, 2.0, -0.5]),
            (vec![7], vec![2.0]),
            (vec![], vec![]),
            (vec![3, 4, 5, 6, 7, 3], vec![1.0, 1.0, 1.0, 1.0, 1.0, -1.0]),
            (vec![7, 7], vec![1.0, -1.0]),
            (vec![7, 7, 7], vec![1.0, -1.0, 3.0]),
        ] {
            let mut exact = [0.0; 23];
            for (&row, factor) in rows.iter().zip(factors) {
                let range = starts[row]..starts[row + 1];
                range.clone().for_each(|k| exact[columns[k] as usize] += factor * f64::from(entries[k]));
                terms.add(&columns, &entries, range, |&v| factor * f64::from(v));
            }
            let (found, values) = terms.sums();
            let (mut col, mut val) = (vec![99], vec![0.5]);
            push_ascending(&mut col, &mut val, found, values);
            let expected: Vec<(u32, f64)> = (0..23).zip(exact).filter(|e| e.1 != 0.0).collect();
            let sorted: Vec<(u32, f64)> = col.into_iter().zip(val).skip(1).collect();
            assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn long_rows_are_put_in_order() {
        for n in [0u32, 1, 15, 16, 17, 63, 64, 65, 200] {
            let columns: Vec<u32> = (0..n).map(|k| k * 77 % 211).collect();
            let values: Vec<f64> = columns.iter().map(|&c| f64::from(c)).collect();
            let (mut col, mut val) = (Vec::new(), Vec::new());
            push_ascending(&mut col, &mut val, &columns, &values);
            assert!(col.is_sorted() && col.len() == n as usize);
            assert!(col.iter().zip(val).all(|(&c, v)| f64::from(c) == v));
        }
    }
}
