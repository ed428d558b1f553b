//! Values of owned rows, and how cells add to them.
//!
//! Imports nothing but the pattern. Rows are cut into pieces, one a thread: a piece visits every cell that
//! touches its rows, so no two threads write the same row and none waits for another. Cells on the cut are
//! computed twice, as they are between ranks.

use std::ops::Range;

use rayon::prelude::*;

use super::constraints::Constraints;
use super::pattern::{Pattern, find, find_all, find_few};

/// Values over a [`Pattern`] with `block` components a node, in the layout of compressed rows: the
/// components of a node's row one after another, each with all its columns.
pub struct Matrix {
    /// Components a node.
    pub block: usize,
    /// Values of the owned columns.
    pub diag: Vec<f64>,
    /// Values of the ghost columns.
    pub off: Vec<f64>,
}

/// Zeros that are written, by all threads. Left to the system, each page would be read as the shared page of
/// zeros first and be copied at its first write, with an interrupt of every other thread.
fn zeros(n: usize) -> Vec<f64> {
    let mut values = vec![0.0; n];
    values.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
    values
}

impl Matrix {
    /// All zero.
    pub fn new(pattern: &Pattern, block: usize) -> Matrix {
        let size = block * block;
        Matrix { block, diag: zeros(pattern.diag_col.len() * size), off: zeros(pattern.off_col.len() * size) }
    }

    /// The product with a field at all local nodes: owned rows. For what is done once; a solver's operator is faster.
    pub fn product(&self, pattern: &Pattern, x: &[f64]) -> Vec<f64> {
        match self.block {
            1 => self.times::<1>(pattern, x),
            2 => self.times::<2>(pattern, x),
            3 => self.times::<3>(pattern, x),
            n => unreachable!("fields have 1 to 3 components, not {n}"),
        }
    }

    fn times<const C: usize>(&self, pattern: &Pattern, x: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; pattern.n_rows * C];
        let (x, _) = x.as_chunks::<C>();
        let mut add = |ptr: &[usize], columns: &[u32], values: &[f64]| {
            let (values, _) = values.as_chunks::<C>();
            for (row, out) in out.chunks_exact_mut(C).enumerate() {
                let (begin, end) = (ptr[row], ptr[row + 1]);
                let rows = values[begin * C..end * C].chunks_exact((end - begin).max(1));
                for (out, entries) in out.iter_mut().zip(rows) {
                    for (entries, &column) in entries.iter().zip(&columns[begin..end]) {
                        let x = &x[column as usize];
                        (0..C).for_each(|c| *out += entries[c] * x[c]);
                    }
                }
            }
        };
        add(&pattern.diag_ptr, &pattern.diag_col, &self.diag);
        add(&pattern.off_ptr, &pattern.off_col, &self.off);
        out
    }

    /// Sets the diagonal entry of each DOF whose row holds nothing else to 1 where it vanishes: see
    /// [`Constraints::apply`].
    pub(super) fn repair_diagonal(&mut self, pattern: &Pattern, constraints: &Constraints) {
        let c = self.block;
        for row in 0..pattern.n_rows {
            if !constraints.is_any_fixed(row) {
                continue;
            }
            let (begin, end) = (pattern.diag_ptr[row], pattern.diag_ptr[row + 1]);
            let k = find(&pattern.diag_col, begin, end, row as u32);
            for a in (0..c).filter(|&a| constraints.is_fixed(row, a)) {
                let entry = &mut self.diag[begin * c * c + (a * (end - begin) + k) * c + a];
                if *entry <= 0.0 || entry.is_nan() {
                    *entry = 1.0;
                }
            }
        }
    }
}

/// Cuts rows and residual into `n` pieces of about equally many entries, each writable on its own. The
/// matrix may be missing.
pub(super) fn pieces<'a>(
    pattern: &'a Pattern,
    matrix: Option<&'a mut Matrix>,
    residual: &'a mut [f64],
    components: usize,
    n: usize,
) -> Vec<Piece<'a>> {
    let has_matrix = matrix.is_some();
    let (mut diag, mut off) = match matrix {
        Some(matrix) => (&mut matrix.diag[..], &mut matrix.off[..]),
        None => Default::default(),
    };
    let mut rest = residual;
    let size = if has_matrix { components * components } else { 0 };
    let mut pieces = Vec::with_capacity(n);
    let mut begin = 0;
    for k in 1..=n {
        let target = pattern.diag_ptr[pattern.n_rows] * k / n;
        let end = if k == n {
            pattern.n_rows
        } else {
            pattern.diag_ptr.partition_point(|&p| p < target).clamp(begin, pattern.n_rows)
        };
        let n_diag = (pattern.diag_ptr[end] - pattern.diag_ptr[begin]) * size;
        let n_off = (pattern.off_ptr[end] - pattern.off_ptr[begin]) * size;
        let (d, d_rest) = diag.split_at_mut(n_diag);
        let (o, o_rest) = off.split_at_mut(n_off);
        let (r, r_rest) = rest.split_at_mut((end - begin) * components);
        (diag, off, rest) = (d_rest, o_rest, r_rest);
        let places = [0; MOST_NODES];
        pieces.push(Piece { pattern, has_matrix, begin, end, diag: d, off: o, residual: r, places });
        begin = end;
    }
    pieces
}

/// Nodes of the largest element, the hexahedron of degree 4.
const MOST_NODES: usize = 125;

/// Consecutive rows of a matrix and of a residual.
pub(super) struct Piece<'a> {
    pattern: &'a Pattern,
    has_matrix: bool,
    begin: usize,
    end: usize,
    diag: &'a mut [f64],
    off: &'a mut [f64],
    residual: &'a mut [f64],
    /// Where the nodes of the cell at hand stand in a row.
    places: [u32; MOST_NODES],
}

impl Piece<'_> {
    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.begin..self.end
    }

    /// Whether a cell with these nodes has a row here.
    #[inline(always)]
    pub fn is_touched(&self, nodes: &[u32]) -> bool {
        let (begin, n) = (self.begin as u32, (self.end - self.begin) as u32);
        nodes.iter().any(|&v| v.wrapping_sub(begin) < n)
    }

    /// Adds the rows of one cell that lie in this piece. Entry `k` of the cell's residual (`[i][a]`) and of
    /// its matrix (`[i][a][b][j]` over test node `i`, its component `a`, trial component `b`, trial node
    /// `j`) stands at `STRIDE * k + lane`. Without entries, a matrix is not added to.
    ///
    /// Bound by the search for columns and the additions: some 5 ns a row of degree 1 with one component.
    #[inline(always)]
    pub fn add<const C: usize, const STRIDE: usize>(
        &mut self,
        nodes: &[u32],
        matrix: &[f64],
        residual: &[f64],
        lane: usize,
    ) {
        let n = nodes.len();
        let p = self.pattern;
        let n_owned = p.n_rows as u32;
        let (diag_first, off_first) = (p.diag_ptr[self.begin], p.off_ptr[self.begin]);
        let with_matrix = self.has_matrix && !matrix.is_empty();
        let all_owned = nodes.iter().fold(true, |all, &v| all & (v < n_owned));
        let places = &mut self.places[..n];
        for (i, &row) in nodes.iter().enumerate() {
            let row = row as usize;
            if row < self.begin || row >= self.end {
                continue;
            }
            let sums = &mut self.residual[(row - self.begin) * C..][..C];
            for a in 0..C {
                sums[a] += residual[(i * C + a) * STRIDE + lane];
            }
            if !with_matrix {
                continue;
            }
            let values = &matrix[i * C * C * n * STRIDE..][..C * C * n * STRIDE];
            let (begin, end) = (p.diag_ptr[row], p.diag_ptr[row + 1]);
            let diag = &mut self.diag[(begin - diag_first) * C * C..(end - diag_first) * C * C];
            if all_owned {
                find_all(&p.diag_col, begin, end, nodes, places);
                for (j, &k) in places.iter().enumerate() {
                    add_block::<C, STRIDE>(diag, k as usize, values, n, j, lane);
                }
                continue;
            }
            let (off_begin, off_end) = (p.off_ptr[row], p.off_ptr[row + 1]);
            let off = &mut self.off[(off_begin - off_first) * C * C..(off_end - off_first) * C * C];
            for (j, &column) in nodes.iter().enumerate() {
                if column < n_owned {
                    let k = find(&p.diag_col, begin, end, column);
                    add_block::<C, STRIDE>(diag, k, values, n, j, lane);
                } else {
                    let k = find(&p.off_col, off_begin, off_end, column);
                    add_block::<C, STRIDE>(off, k, values, n, j, lane);
                }
            }
        }
    }
}

impl Piece<'_> {
    /// As [`Piece::add`], for a cell of `N` nodes, all of them with rows in this piece.
    ///
    /// Bound by the instructions of the search and of the additions, some ten of either an entry.
    #[inline(always)]
    pub fn add_inside<const C: usize, const STRIDE: usize, const N: usize>(
        &mut self,
        nodes: &[u32; N],
        matrix: &[f64],
        residual: &[f64],
        lane: usize,
    ) {
        let (sums, _) = self.residual.as_chunks_mut::<C>();
        for (i, &row) in nodes.iter().enumerate() {
            let sums = &mut sums[row as usize - self.begin];
            for a in 0..C {
                sums[a] += residual[(i * C + a) * STRIDE + lane];
            }
        }
        if !self.has_matrix || matrix.is_empty() {
            return;
        }
        let p = self.pattern;
        let first = p.diag_ptr[self.begin];
        for (i, &row) in nodes.iter().enumerate() {
            let (begin, end) = (p.diag_ptr[row as usize], p.diag_ptr[row as usize + 1]);
            let places = find_few(&p.diag_col, begin, end, nodes);
            let row = &mut self.diag[(begin - first) * C * C..(end - first) * C * C];
            let values = &matrix[i * C * C * N * STRIDE..][..C * C * N * STRIDE];
            for (j, &k) in places.iter().enumerate() {
                add_block::<C, STRIDE>(row, k as usize, values, N, j, lane);
            }
        }
    }
}

/// Adds the couplings of a row's node with the node of column `k`, which is the cell's `j`-th.
#[inline(always)]
fn add_block<const C: usize, const STRIDE: usize>(
    row: &mut [f64],
    k: usize,
    values: &[f64],
    n: usize,
    j: usize,
    lane: usize,
) {
    let width = row.len() / C;
    for a in 0..C {
        let target = &mut row[a * width + k * C..][..C];
        for b in 0..C {
            target[b] += values[((a * C + b) * n + j) * STRIDE + lane];
        }
    }
}
