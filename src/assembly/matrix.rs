//! Sparse matrices of owned rows, straight from the mesh.

use rayon::prelude::*;

use crate::space::Space;

/// The sparsity of the owned rows, node by node, with columns owned here apart from those owned
/// elsewhere.
///
/// Columns are local node numbers, ascending within a row; for ghosts that is ascending global order.
pub struct Pattern {
    /// The number of owned nodes.
    pub n_rows: usize,
    /// Row offsets of the owned columns; one longer than the rows.
    pub diag_ptr: Vec<usize>,
    /// Owned columns.
    pub diag_col: Vec<u32>,
    /// Row offsets of the ghost columns.
    pub off_ptr: Vec<usize>,
    /// Ghost columns.
    pub off_col: Vec<u32>,
}

/// Rows a task takes: enough to amortise its marker array.
const ROWS_PER_TASK: usize = 1 << 14;

impl Pattern {
    /// The pattern that couples all nodes of a cell. Not collective.
    pub fn new(space: &Space) -> Pattern {
        let n_rows = space.map.n_owned();
        let n_local = space.map.n_local();
        // Cells by owned node.
        let mut ptr = vec![0usize; n_rows + 1];
        for &v in space.cell_to_node.iter().flatten().filter(|v| (**v as usize) < n_rows) {
            ptr[v as usize + 1] += 1;
        }
        for v in 0..n_rows {
            ptr[v + 1] += ptr[v];
        }
        let mut next = ptr.clone();
        let mut cells = vec![(0u32, 0u32); ptr[n_rows]];
        for (b, table) in space.cell_to_node.iter().enumerate() {
            let n = space.elements[b].n_nodes();
            for (c, nodes) in table.chunks_exact(n).enumerate() {
                for &v in nodes.iter().filter(|v| (**v as usize) < n_rows) {
                    cells[next[v as usize]] = (b as u32, c as u32);
                    next[v as usize] += 1;
                }
            }
        }
        drop(next);
        struct Part {
            diag_len: Vec<u32>,
            diag: Vec<u32>,
            off_len: Vec<u32>,
            off: Vec<u32>,
        }
        let n_tasks = n_rows.div_ceil(ROWS_PER_TASK);
        let parts: Vec<Part> = (0..n_tasks)
            .into_par_iter()
            .map_init(
                || vec![u32::MAX; n_local],
                |seen, task| {
                    let rows = task * ROWS_PER_TASK..((task + 1) * ROWS_PER_TASK).min(n_rows);
                    let mut part =
                        Part { diag_len: Vec::new(), diag: Vec::new(), off_len: Vec::new(), off: Vec::new() };
                    let mut columns: Vec<u32> = Vec::new();
                    for row in rows {
                        columns.clear();
                        for &(b, c) in &cells[ptr[row]..ptr[row + 1]] {
                            for &v in space.nodes(b as usize, c as usize) {
                                if seen[v as usize] != row as u32 {
                                    seen[v as usize] = row as u32;
                                    columns.push(v);
                                }
                            }
                        }
                        columns.sort_unstable();
                        let split = columns.partition_point(|&v| (v as usize) < n_rows);
                        part.diag_len.push(split as u32);
                        part.off_len.push((columns.len() - split) as u32);
                        part.diag.extend_from_slice(&columns[..split]);
                        part.off.extend_from_slice(&columns[split..]);
                    }
                    part
                },
            )
            .collect();
        let (mut diag_ptr, mut off_ptr) = (Vec::with_capacity(n_rows + 1), Vec::with_capacity(n_rows + 1));
        diag_ptr.push(0);
        off_ptr.push(0);
        let mut diag_col = Vec::with_capacity(parts.iter().map(|p| p.diag.len()).sum());
        let mut off_col = Vec::with_capacity(parts.iter().map(|p| p.off.len()).sum());
        for part in parts {
            for (&d, &o) in part.diag_len.iter().zip(&part.off_len) {
                diag_ptr.push(diag_ptr[diag_ptr.len() - 1] + d as usize);
                off_ptr.push(off_ptr[off_ptr.len() - 1] + o as usize);
            }
            diag_col.extend(part.diag);
            off_col.extend(part.off);
        }
        Pattern { n_rows, diag_ptr, diag_col, off_ptr, off_col }
    }
}

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

impl Matrix {
    /// All zero.
    pub fn new(pattern: &Pattern, block: usize) -> Matrix {
        let size = block * block;
        Matrix {
            block,
            diag: vec![0.0; pattern.diag_col.len() * size],
            off: vec![0.0; pattern.off_col.len() * size],
        }
    }

    /// Adds one cell's rows: see [`Piece::add`].
    pub(super) fn add_cell(
        &mut self,
        pattern: &Pattern,
        nodes: &[u32],
        matrix: &[f64],
        cell_residual: &[f64],
        residual: &mut [f64],
    ) {
        let (diag, off) = (&mut self.diag[..], &mut self.off[..]);
        let mut all =
            Piece { pattern, block: self.block, begin: 0, end: pattern.n_rows, diag, off, residual };
        all.add(nodes, matrix, cell_residual);
    }

    /// Sets the diagonal entry of each DOF whose row holds nothing else to 1 where it vanishes: see
    /// [`super::Constraints::apply`].
    pub(super) fn repair_diagonal(&mut self, pattern: &Pattern, constrained: impl Fn(usize, usize) -> bool) {
        let c = self.block;
        for row in 0..pattern.n_rows {
            for a in 0..c {
                if !constrained(row, a) {
                    continue;
                }
                let columns = &pattern.diag_col[pattern.diag_ptr[row]..pattern.diag_ptr[row + 1]];
                let k = find(columns, row as u32);
                let entry = &mut self.diag[pattern.diag_ptr[row] * c * c + (a * columns.len() + k) * c + a];
                if *entry <= 0.0 || entry.is_nan() {
                    *entry = 1.0;
                }
            }
        }
    }

    /// Cuts rows and residual into `n` pieces of about equally many entries, each writable on its own.
    pub(super) fn pieces<'a>(
        &'a mut self,
        pattern: &'a Pattern,
        residual: &'a mut [f64],
        n: usize,
    ) -> Vec<Piece<'a>> {
        let (mut diag, mut off, mut rest) = (&mut self.diag[..], &mut self.off[..], residual);
        let size = self.block * self.block;
        let mut pieces = Vec::with_capacity(n);
        let mut begin = 0;
        for k in 1..=n {
            let target = pattern.diag_col.len() * k / n;
            let end = if k == n {
                pattern.n_rows
            } else {
                pattern.diag_ptr.partition_point(|&p| p < target).clamp(begin, pattern.n_rows)
            };
            let n_diag = (pattern.diag_ptr[end] - pattern.diag_ptr[begin]) * size;
            let n_off = (pattern.off_ptr[end] - pattern.off_ptr[begin]) * size;
            let (d, d_rest) = diag.split_at_mut(n_diag);
            let (o, o_rest) = off.split_at_mut(n_off);
            let (r, r_rest) = rest.split_at_mut((end - begin) * self.block);
            (diag, off, rest) = (d_rest, o_rest, r_rest);
            pieces.push(Piece { pattern, block: self.block, begin, end, diag: d, off: o, residual: r });
            begin = end;
        }
        pieces
    }
}

/// Consecutive rows of a matrix and of a residual.
pub(super) struct Piece<'a> {
    pattern: &'a Pattern,
    block: usize,
    begin: usize,
    end: usize,
    diag: &'a mut [f64],
    off: &'a mut [f64],
    residual: &'a mut [f64],
}

impl Piece<'_> {
    /// Adds the rows of one cell that lie in this piece. `matrix` is laid out `[i][a][b][j]` over test
    /// node `i`, its component `a`, trial component `b`, trial node `j`; empty when not wanted.
    pub(super) fn add(&mut self, nodes: &[u32], matrix: &[f64], residual: &[f64]) {
        let (n, c) = (nodes.len(), self.block);
        let n_owned = self.pattern.n_rows as u32;
        for (i, &row) in nodes.iter().enumerate() {
            let row = row as usize;
            if row < self.begin || row >= self.end {
                continue;
            }
            for a in 0..c {
                self.residual[(row - self.begin) * c + a] += residual[i * c + a];
            }
            if matrix.is_empty() {
                continue;
            }
            let p = self.pattern;
            let diag_row = p.diag_ptr[row]..p.diag_ptr[row + 1];
            let off_row = p.off_ptr[row]..p.off_ptr[row + 1];
            let diag_base = (diag_row.start - p.diag_ptr[self.begin]) * c * c;
            let off_base = (off_row.start - p.off_ptr[self.begin]) * c * c;
            let (diag_col, off_col) = (&p.diag_col[diag_row], &p.off_col[off_row]);
            let values = &matrix[i * c * c * n..][..c * c * n];
            for (j, &column) in nodes.iter().enumerate() {
                let (target, base, columns) = if column < n_owned {
                    (&mut *self.diag, diag_base, diag_col)
                } else {
                    (&mut *self.off, off_base, off_col)
                };
                let k = find(columns, column);
                for a in 0..c {
                    for b in 0..c {
                        target[base + (a * columns.len() + k) * c + b] += values[(a * c + b) * n + j];
                    }
                }
            }
        }
    }
}

/// The place of a column in a sorted row that holds it. Rows of degree 1 are so short that a linear
/// search beats a binary one.
#[inline]
fn find(columns: &[u32], column: u32) -> usize {
    if columns.len() <= 32 {
        let mut k = 0;
        while columns[k] != column {
            k += 1;
        }
        k
    } else {
        columns.binary_search(&column).expect("the pattern couples all nodes of a cell")
    }
}
