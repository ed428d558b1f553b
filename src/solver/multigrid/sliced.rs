//! Matrices of one value an entry with eight rows side by side, so that a product makes eight sums at once.
//!
//! Imports its sibling `parallel`. Start at [`Slices`]; `csr.rs` holds one beside its rows, and the operator in
//! double precision shares its columns.
//!
//! Rows of five or seven entries are too short for a loop of their own: what begins and ends it takes longer than the
//! products. Eight rows, padded to the longest, need one loop, no sums across lanes, and let what follows from the
//! product be done in lanes too. On a 5-point stencil in cache a row takes 1.9 ns in place of 4.2, the smoother's
//! updates included. Source: M. Kreutzer, G. Hager, G. Wellein, H. Fehske, A. Bishop, "A unified sparse matrix data
//! format for efficient general sparse matrix-vector multiplication on modern processors with wide SIMD units", SIAM
//! Journal on Scientific Computing 36, 2014; rows stay in their order here.

use std::ops::{Add, Mul, Range};

use super::parallel::{ROWS_PER_TASK, each, rows, split};

/// Rows of a slice.
pub(in crate::solver) const LANES: usize = 8;

/// Entries with padding of a matrix are at most this many times those that there are: more would have to be read than is
/// won.
pub(super) const PADDED: f64 = 1.25;

/// Where the entries of rows lie: columns of [`LANES`] rows side by side, and the values in the same places.
pub(in crate::solver) struct Slices {
    n_rows: usize,
    /// Offsets of slices into `col`; one longer than the slices.
    ptr: Vec<u32>,
    /// Local columns. Padding repeats a column of the row, or of the slice where a row is empty.
    col: Vec<[u32; LANES]>,
    /// Per slice: whether it has ghost columns.
    coupled: Vec<bool>,
    /// The slices that have.
    boundary: Vec<u32>,
    /// Columns from here on are ghosts.
    n_owned_cols: usize,
    /// One more than the largest column; columns do not change once they are here.
    width: usize,
}

/// Where the rows of a slice begin, if it is whole and all have `longest` entries, as most do.
#[inline(always)]
fn even(ptr: &[u32], slice: usize, longest: usize) -> Option<[u32; LANES]> {
    let ends: &[u32; LANES + 1] = ptr.get(slice * LANES..)?.first_chunk()?;
    let starts = *ends.first_chunk::<LANES>()?;
    // None is longer, so it is their sum that tells.
    (ends[LANES] - ends[0] == (LANES * longest) as u32).then_some(starts)
}

impl Slices {
    /// The slices of compressed rows; none where there would be more than `padded` times their entries.
    pub fn new(ptr: &[u32], col: &[u32], n_owned_cols: usize, padded: f64) -> Option<Slices> {
        let n_rows = ptr.len() - 1;
        let n_slices = n_rows.div_ceil(LANES);
        let mut ends = Vec::with_capacity(n_slices + 1);
        ends.push(0u32);
        let mut end = 0;
        for slice in 0..n_slices {
            let longest = rows(slice, n_rows, LANES).map(|row| ptr[row + 1] - ptr[row]).max();
            // At most the entries of the slice, so that the sum fits as theirs does.
            end += longest.unwrap_or(0);
            ends.push(end);
        }
        if end as usize * LANES > (padded * col.len() as f64) as usize + LANES {
            return None;
        }
        let mut columns = vec![[0u32; LANES]; end as usize];
        let mut places = vec![(); columns.len()];
        each(split(&ends, &mut columns, &mut places, 1, ROWS_PER_TASK), |(slices, mut columns, _)| {
            for slice in slices {
                let here;
                (here, columns) = columns.split_at_mut((ends[slice + 1] - ends[slice]) as usize);
                let of_slice = rows(slice, n_rows, LANES);
                if let Some(starts) = even(ptr, slice, here.len()) {
                    for (k, to) in here.iter_mut().enumerate() {
                        *to = starts.map(|start| col[start as usize + k]);
                    }
                    continue;
                }
                let any = [col.get(ptr[of_slice.start] as usize).copied().unwrap_or(0)];
                for lane in 0..LANES {
                    let row = of_slice.start + lane;
                    let of_row =
                        if row < n_rows { &col[ptr[row] as usize..ptr[row + 1] as usize] } else { &[] };
                    let of_row = if of_row.is_empty() { &any } else { of_row };
                    // How long a row is a processor cannot foresee: no branch asks.
                    for (k, to) in here.iter_mut().enumerate() {
                        to[lane] = of_row[k.min(of_row.len() - 1)];
                    }
                }
            }
        });
        let width = columns.as_flattened().iter().max().map_or(0, |&c| c as usize + 1);
        if width > i32::MAX as usize {
            return None;
        }
        let coupled = if width <= n_owned_cols {
            vec![false; n_slices]
        } else {
            let has_ghosts = |end: &[u32]| {
                let of_slice = columns[end[0] as usize..end[1] as usize].as_flattened();
                of_slice.iter().any(|&c| c as usize >= n_owned_cols)
            };
            ends.windows(2).map(has_ghosts).collect()
        };
        let boundary = (0..n_slices as u32).filter(|&slice| coupled[slice as usize]).collect();
        Some(Slices { n_rows, ptr: ends, col: columns, coupled, boundary, n_owned_cols, width })
    }

    /// Values in the places of their columns: `from` has those of the rows, whose offsets are `ptr`, one after the other.
    pub fn arrange<T: Copy + Default + Send + Sync>(&self, ptr: &[u32], from: &[T]) -> Vec<[T; LANES]> {
        let mut values = vec![[T::default(); LANES]; self.col.len()];
        let mut places = vec![(); values.len()];
        each(split(&self.ptr, &mut values, &mut places, 1, ROWS_PER_TASK), |(slices, values, _)| {
            self.arrange_some(slices, ptr, from, 0, values);
        });
        values
    }

    /// As [`Slices::arrange`] for some slices; `from` begins with the value that would be at `first`. All of `to` is
    /// written, padding with zeros.
    pub fn arrange_some<T: Copy + Default>(
        &self,
        slices: Range<usize>,
        ptr: &[u32],
        from: &[T],
        first: usize,
        mut to: &mut [[T; LANES]],
    ) {
        for slice in slices {
            let here;
            (here, to) = to.split_at_mut((self.ptr[slice + 1] - self.ptr[slice]) as usize);
            if let Some(starts) = even(ptr, slice, here.len()) {
                for (k, to) in here.iter_mut().enumerate() {
                    *to = starts.map(|start| from[start as usize - first + k]);
                }
                continue;
            }
            for lane in 0..LANES {
                let row = slice * LANES + lane;
                let of_row = if row < self.n_rows {
                    &from[ptr[row] as usize - first..ptr[row + 1] as usize - first]
                } else {
                    &[]
                };
                let of_row = if of_row.is_empty() { &[T::default()] } else { of_row };
                let n = of_row.len();
                for (k, to) in here.iter_mut().enumerate() {
                    let value = of_row[k.min(n - 1)];
                    to[lane] = if k < n { value } else { T::default() };
                }
            }
        }
    }

    /// The way back: `put(row, k, column, value)` for the `k`-th entry of each of these rows, whose offsets are `ptr`.
    pub fn gather_rows<T: Copy>(
        &self,
        rows: Range<usize>,
        ptr: &[u32],
        values: &[T],
        mut put: impl FnMut(usize, usize, u32, T),
    ) {
        let columns = self.col.as_flattened();
        for row in rows {
            let place = self.ptr[row / LANES] as usize * LANES + row % LANES;
            for k in 0..(ptr[row + 1] - ptr[row]) as usize {
                put(row, k, columns[place + k * LANES], values[place + k * LANES]);
            }
        }
    }

    /// The number of values, padding included.
    pub fn n_places(&self) -> usize {
        LANES * self.col.len()
    }

    /// The values of some slices, in lanes.
    pub fn places(&self, slices: Range<usize>) -> Range<usize> {
        self.ptr[slices.start] as usize..self.ptr[slices.end] as usize
    }

    /// The number of slices.
    pub fn len(&self) -> usize {
        self.coupled.len()
    }

    /// Whether a slice has ghost columns.
    #[inline(always)]
    pub fn is_coupled(&self, slice: usize) -> bool {
        self.coupled[slice]
    }

    /// The slices that have ghost columns.
    pub fn boundary(&self) -> &[u32] {
        &self.boundary
    }

    /// Bytes that columns and offsets take.
    pub fn bytes(&self) -> usize {
        4 * (self.ptr.len() + LANES * self.col.len() + self.boundary.len()) + self.coupled.len()
    }

    #[inline(always)]
    fn range(&self, slice: usize) -> Range<usize> {
        self.ptr[slice] as usize..self.ptr[slice + 1] as usize
    }

    #[inline(always)]
    fn sums<T: Copy + Default + Add<Output = T> + Mul<Output = T>>(
        &self,
        slice: usize,
        values: &[[T; LANES]],
        x: impl Fn(u32) -> T,
    ) -> [T; LANES] {
        let range = self.range(slice);
        let mut sums = [T::default(); LANES];
        for (v, c) in values[range.clone()].iter().zip(&self.col[range]) {
            for k in 0..LANES {
                sums[k] = sums[k] + v[k] * x(c[k]);
            }
        }
        sums
    }

    /// A slice's rows times `x`, whose ghosts are read only where the slice has ghost columns.
    #[inline(always)]
    pub fn product<T: Copy + Default + Add<Output = T> + Mul<Output = T>>(
        &self,
        slice: usize,
        values: &[[T; LANES]],
        x: &[T],
    ) -> [T; LANES] {
        assert!(x.len() >= if self.coupled[slice] { self.width } else { self.n_owned_cols.min(self.width) });
        // A number with a sign, which is what gathers of a processor take: of others the compiler makes wider ones, one by
        // one, and products take half as long again.
        let x = x.as_ptr();
        // SAFETY: `width` is more than every column, and so is `n_owned_cols` in a slice without ghosts; no column has the
        // bit of the sign.
        self.sums(slice, values, |c| unsafe { *x.offset(c as i32 as isize) })
    }

    /// As [`Slices::product`], with the ghosts' values in an array of their own.
    pub fn product_apart<T: Copy + Default + Add<Output = T> + Mul<Output = T>>(
        &self,
        slice: usize,
        values: &[[T; LANES]],
        owned: &[T],
        ghosts: &[T],
    ) -> [T; LANES] {
        let n = self.n_owned_cols;
        self.sums(slice, values, |c| {
            let c = c as usize;
            if c < n { owned[c] } else { ghosts[c - n] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of one to three entries, an empty one among them.
    fn uneven(n: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut ptr, mut col) = (vec![0], Vec::new());
        for row in 0..n {
            let all = [row, (row + 3) % (n + 2), (row + 7) % (n + 2)];
            let mut of_row: Vec<u32> = all.iter().map(|&c| c as u32).collect();
            of_row.truncate(if row == 4 { 0 } else { 2 + (row % 5 > 0) as usize });
            of_row.sort_unstable();
            col.extend(of_row);
            ptr.push(col.len() as u32);
        }
        (ptr, col)
    }

    #[test]
    fn slices_are_the_rows() {
        for n in [0usize, 1, 7, 8, 9, 40, 100] {
            let (ptr, col) = uneven(n);
            let slices = Slices::new(&ptr, &col, n, 8.0).expect("room for padding");
            let len = |row: usize| (ptr[row + 1] - ptr[row]) as usize;
            let value = |row: usize, k: usize| (ptr[row] as f64 + k as f64).sin();
            let all: Vec<f64> = (0..col.len()).map(|k| (k as f64).sin()).collect();
            let values = slices.arrange(&ptr, &all);
            let mut back = Vec::new();
            slices.gather_rows(0..n, &ptr, values.as_flattened(), |row, k, column, value| {
                assert_eq!((back.len(), column), (ptr[row] as usize + k, col[back.len()]));
                back.push(value);
            });
            assert_eq!(back, all);
            let x: Vec<f64> = (0..n + 2).map(|k| (k as f64).cos()).collect();
            for row in 0..n {
                let found = slices.product(row / LANES, &values, &x)[row % LANES];
                let apart = slices.product_apart(row / LANES, &values, &x[..n], &x[n..])[row % LANES];
                let exact: f64 =
                    (0..len(row)).map(|k| value(row, k) * x[col[ptr[row] as usize + k] as usize]).sum();
                assert!((found - exact).abs() < 1e-14 && found == apart, "{row}: {found} {exact}");
                assert!(
                    slices.is_coupled(row / LANES)
                        || col[ptr[row] as usize..][..len(row)].iter().all(|&c| (c as usize) < n)
                );
            }
        }
    }

    #[test]
    fn one_long_row_is_not_worth_slices() {
        let ptr: Vec<u32> = (0u32..=16).map(|row| if row == 0 { 0 } else { row + 99 }).collect();
        let col: Vec<u32> = (0..115).map(|k| k % 16).collect();
        assert!(Slices::new(&ptr, &col, 16, PADDED).is_none());
    }
}
