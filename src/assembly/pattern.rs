//! Sparsity of owned rows, straight from the cells.
//!
//! Imports `space`. Rows are made in stretches, each by one thread: the cells that touch a stretch are
//! listed by row, then each row collects its cells' nodes, every one once, and puts them in order.
//! Nothing is as large as the list of all cells round all nodes. Bound by some hundred reads a row, all
//! from the caches.

use std::ops::Range;

use rayon::prelude::*;
use wide::u32x16;

use super::spans::Spans;
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

/// Rows a stretch: its list of cells stays in the second-level cache.
const ROWS: usize = 1 << 13;

/// Rows that are collected before they are put in order.
const TOGETHER: usize = 16;

/// Columns of consecutive rows.
#[derive(Default)]
struct Part {
    /// Lengths of the rows, owned and ghost columns.
    lengths: Vec<(u32, u32)>,
    diag: Vec<u32>,
    off: Vec<u32>,
}

/// Buffers of a thread.
struct Work {
    /// Per local node: the row that saw it last.
    seen: Vec<u32>,
    /// Where the cells of each row of the stretch begin.
    begin: Vec<u32>,
    /// Cells by row: numbers over all blocks.
    cells: Vec<u32>,
    /// The runs at hand: block, cells.
    runs: Vec<(usize, Range<usize>)>,
    columns: Vec<u32>,
}

impl Pattern {
    /// The pattern that couples all nodes of a cell. Not collective.
    pub fn new(space: &Space) -> Pattern {
        let _span = tracing::debug_span!("sparsity").entered();
        let n_rows = space.map.n_owned();
        let spans = Spans::new(space);
        let rows = stretch_rows(space, &spans);
        // Each thread makes consecutive stretches, so that one thread's columns need no copy.
        let n_parts = n_rows.div_ceil(rows).clamp(1, rayon::current_num_threads());
        let mut first_cell = vec![0u32];
        for (table, element) in space.cell_to_node.iter().zip(&space.elements) {
            first_cell.push(first_cell[first_cell.len() - 1] + (table.len() / element.n_nodes()) as u32);
        }
        let mut parts: Vec<Part> = (0..n_parts)
            .into_par_iter()
            .map(|k| {
                let _span = tracing::trace_span!("rows").entered();
                let part = k * n_rows / n_parts..(k + 1) * n_rows / n_parts;
                Work::new(space).columns_of(space, &spans, &first_cell, part, rows)
            })
            .collect();
        let (mut diag_ptr, mut off_ptr) = (vec![0; n_rows + 1], vec![0; n_rows + 1]);
        let (mut diag, mut off) = (0, 0);
        let (mut diag_rest, mut off_rest) = (&mut diag_ptr[1..], &mut off_ptr[1..]);
        let mut tasks = Vec::with_capacity(parts.len());
        for part in &parts {
            let n = part.lengths.len();
            let (diag_ends, diag_more) = std::mem::take(&mut diag_rest).split_at_mut(n);
            let (off_ends, off_more) = std::mem::take(&mut off_rest).split_at_mut(n);
            (diag_rest, off_rest) = (diag_more, off_more);
            tasks.push((&part.lengths, diag, off, diag_ends, off_ends));
            (diag, off) = (diag + part.diag.len(), off + part.off.len());
        }
        tasks.into_par_iter().for_each(|(lengths, mut diag, mut off, diag_ends, off_ends)| {
            for ((&(d, o), diag_end), off_end) in lengths.iter().zip(diag_ends).zip(off_ends) {
                (diag, off) = (diag + d as usize, off + o as usize);
                (*diag_end, *off_end) = (diag, off);
            }
        });
        let diag_col = joined(diag, parts.iter_mut().map(|p| std::mem::take(&mut p.diag)).collect());
        let off_col = joined(off, parts.iter_mut().map(|p| std::mem::take(&mut p.off)).collect());
        Pattern { n_rows, diag_ptr, diag_col, off_ptr, off_col }
    }
}

/// Rows a stretch, so many that the runs of cells looked at stay few times all there are, however nodes
/// are numbered.
fn stretch_rows(space: &Space, spans: &Spans) -> usize {
    let n_rows = space.map.n_owned();
    let all: usize = (0..spans.n_blocks()).map(|b| spans.touching(b, 0..n_rows).count()).sum();
    let most = n_rows.div_ceil(rayon::current_num_threads()).max(1);
    let mut rows = ROWS.min(most);
    while rows < most {
        let looked_at: usize = (0..n_rows.div_ceil(rows))
            .map(|k| {
                let stretch = k * rows..((k + 1) * rows).min(n_rows);
                (0..spans.n_blocks()).map(|b| spans.touching(b, stretch.clone()).count()).sum::<usize>()
            })
            .sum();
        if looked_at <= 4 * all {
            break;
        }
        rows *= 4;
    }
    rows.min(most)
}

/// One array of several, copied in parallel; a single one is taken as it is.
fn joined(n: usize, mut parts: Vec<Vec<u32>>) -> Vec<u32> {
    if parts.len() == 1 {
        let mut all = parts.remove(0);
        all.shrink_to_fit();
        return all;
    }
    let mut all = vec![0; n];
    let mut rest = &mut all[..];
    let mut targets = Vec::with_capacity(parts.len());
    for part in parts {
        let (target, more) = rest.split_at_mut(part.len());
        targets.push((target, part));
        rest = more;
    }
    targets.into_par_iter().for_each(|(target, part)| target.copy_from_slice(&part));
    all
}

impl Work {
    fn new(space: &Space) -> Work {
        let seen = vec![u32::MAX; space.map.n_local()];
        Work { seen, begin: Vec::new(), cells: Vec::new(), runs: Vec::new(), columns: Vec::new() }
    }

    /// The columns of `rows`, a stretch of `stretch` rows at a time.
    fn columns_of(
        &mut self,
        space: &Space,
        spans: &Spans,
        first_cell: &[u32],
        rows: Range<usize>,
        stretch: usize,
    ) -> Part {
        let mut out = Part { lengths: Vec::with_capacity(rows.len()), ..Part::default() };
        for first in rows.clone().step_by(stretch) {
            let here = first..(first + stretch).min(rows.end);
            self.list_cells(space, spans, first_cell, &here);
            self.add_rows(space, first_cell, here, &mut out);
            if first == rows.start {
                // Rows are alike: from the first ones, with a twentieth to spare, what all will need.
                let n = out.diag.len();
                out.diag.reserve(
                    (n as f64 * (1.05 * rows.len() as f64 / out.lengths.len() as f64 - 1.0)) as usize,
                );
            }
        }
        out
    }

    /// The columns of a stretch whose cells are listed.
    fn add_rows(&mut self, space: &Space, first_cell: &[u32], rows: Range<usize>, out: &mut Part) {
        let n_rows = space.map.n_owned() as u32;
        let widest = space.elements.iter().map(|e| e.n_nodes()).max().unwrap_or(0);
        // The number of nodes as a constant where large problems have it.
        match (&space.cell_to_node[..], widest) {
            ([table], 3) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<3>().0), out),
            ([table], 4) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<4>().0), out),
            ([table], 6) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<6>().0), out),
            ([table], 8) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<8>().0), out),
            ([table], 9) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<9>().0), out),
            ([table], 10) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<10>().0), out),
            ([table], 27) => self.add_rows_of(rows, n_rows, widest, distinct(table.as_chunks::<27>().0), out),
            _ => {
                let collect = |cells: &[u32], row: u32, seen: &mut [u32], columns: &mut [u32]| {
                    let (mut n, mut block) = (0, 0);
                    for &cell in cells {
                        while cell >= first_cell[block + 1] {
                            block += 1;
                        }
                        let nodes = space.nodes(block, (cell - first_cell[block]) as usize);
                        n = add_distinct(nodes, row, seen, columns, n);
                    }
                    n
                };
                self.add_rows_of(rows, n_rows, widest, collect, out);
            }
        }
    }

    /// [`Work::add_rows`], where `collect` puts the nodes of a row's cells, each once, into the columns it is given and
    /// returns their number.
    ///
    /// Some rows are collected before the first of them is put in order: a vector of columns that have just been
    /// written one by one would wait for all of them to reach the cache.
    #[inline(always)]
    fn add_rows_of(
        &mut self,
        rows: Range<usize>,
        n_rows: u32,
        widest: usize,
        collect: impl Fn(&[u32], u32, &mut [u32], &mut [u32]) -> usize,
        out: &mut Part,
    ) {
        let Work { seen, begin, cells, columns, .. } = self;
        let mut lengths = [0; TOGETHER];
        for first in (0..rows.len()).step_by(TOGETHER) {
            let lengths = &mut lengths[..TOGETHER.min(rows.len() - first)];
            let mut n = 0;
            for (k, length) in (first..).zip(lengths.iter_mut()) {
                let cells = &cells[begin[k] as usize..begin[k + 1] as usize];
                // Room for every candidate: whether a node is new decides no branch.
                let most = n + cells.len() * widest + 16;
                if columns.len() < most {
                    columns.resize(most, 0);
                }
                *length = collect(cells, (rows.start + k) as u32, seen, &mut columns[n..]);
                n += *length;
            }
            let mut end = out.diag.len();
            // Room for a window behind the last row.
            out.diag.resize(end + n + 17, 0);
            let mut at = 0;
            for &n in &*lengths {
                let split = if n <= 16 {
                    put_16(load(columns, at), n, n_rows, &mut out.diag[end..], &mut out.off)
                } else {
                    let columns = &mut columns[at..at + n];
                    let split = sort(columns, n_rows);
                    out.diag[end..end + split].copy_from_slice(&columns[..split]);
                    out.off.extend_from_slice(&columns[split..]);
                    split
                };
                out.lengths.push((split as u32, (n - split) as u32));
                end += split;
                at += n;
            }
            out.diag.truncate(end);
        }
    }

    /// Lists, row by row, the cells that touch it.
    fn list_cells(&mut self, space: &Space, spans: &Spans, first_cell: &[u32], rows: &Range<usize>) {
        self.runs.clear();
        for (b, element) in space.elements.iter().enumerate() {
            let n_cells = space.cell_to_node[b].len() / element.n_nodes();
            self.runs.extend(spans.touching(b, rows.clone()).map(|run| (b, Spans::cells(run, n_cells))));
        }
        let (first, n) = (rows.start as u32, rows.len() as u32);
        self.begin.clear();
        self.begin.resize(rows.len() + 1, 0);
        for (b, cells) in &self.runs {
            let width = space.elements[*b].n_nodes();
            for &v in &space.cell_to_node[*b][cells.start * width..cells.end * width] {
                let k = v.wrapping_sub(first);
                if k < n {
                    self.begin[k as usize + 1] += 1;
                }
            }
        }
        for k in 0..rows.len() {
            self.begin[k + 1] += self.begin[k];
        }
        self.cells.resize(self.begin[rows.len()] as usize, 0);
        // `begin` moves on while rows are filled, and back afterwards.
        for (b, cells) in &self.runs {
            let width = space.elements[*b].n_nodes();
            let nodes = &space.cell_to_node[*b][cells.start * width..cells.end * width];
            for (cell, nodes) in (first_cell[*b] + cells.start as u32..).zip(nodes.chunks_exact(width)) {
                for &v in nodes {
                    let k = v.wrapping_sub(first);
                    if k < n {
                        let at = &mut self.begin[k as usize];
                        self.cells[*at as usize] = cell;
                        *at += 1;
                    }
                }
            }
        }
        self.begin.copy_within(0..rows.len(), 1);
        self.begin[0] = 0;
    }
}

/// What collects the nodes of cells, each once; with their number per cell a constant.
#[inline(always)]
fn distinct<const N: usize>(
    table: &[[u32; N]],
) -> impl Fn(&[u32], u32, &mut [u32], &mut [u32]) -> usize + '_ {
    #[inline(always)]
    move |cells, row, seen, columns| {
        cells.iter().fold(0, |n, &cell| add_distinct(&table[cell as usize], row, seen, columns, n))
    }
}

/// Puts the nodes that the row has not seen behind the first `n` columns.
#[inline(always)]
fn add_distinct(nodes: &[u32], row: u32, seen: &mut [u32], columns: &mut [u32], mut n: usize) -> usize {
    for &v in nodes {
        let seen = &mut seen[v as usize];
        columns[n] = v;
        n += usize::from(*seen != row);
        *seen = row;
    }
    n
}

/// Writes the first `n <= 16` columns of a window, distinct, in order: those below `n_rows` to `owned`, the others
/// behind `ghosts`. How many are below. Behind those that count in `owned`, which has room for seventeen, anything
/// may stand.
///
/// The place of a column is the number of lesser ones. Eight or sixteen are placed without a branch on their number.
#[inline(always)]
fn put_16(window: u32x16, n: usize, n_rows: u32, owned: &mut [u32], ghosts: &mut Vec<u32>) -> usize {
    const NUMBERS: u32x16 = u32x16::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    // What does not count comes last.
    let window = window | NUMBERS.simd_ge(u32x16::splat(n as u32));
    let below = |v: u32| window.simd_lt(u32x16::splat(v)).to_bitmask().count_ones() as usize;
    let columns = window.to_array();
    let split = below(n_rows);
    if split < n {
        let mut sorted = [0; 17];
        columns.iter().for_each(|&v| sorted[below(v)] = v);
        owned[..split].copy_from_slice(&sorted[..split]);
        ghosts.extend_from_slice(&sorted[split..n]);
        return split;
    }
    let owned: &mut [u32; 17] = owned.first_chunk_mut().expect("room for sixteen and one");
    let (some, others) = columns.split_at(8);
    some.iter().for_each(|&v| owned[below(v)] = v);
    if n > 8 {
        others.iter().for_each(|&v| owned[below(v)] = v);
    }
    split
}

/// Sorts distinct columns and returns how many are below `n_rows`.
///
/// The place of a column is the number of lesser ones, which vectors count; rows too long for that are
/// sorted in the common way, which at 128 columns takes twice as long.
fn sort(columns: &mut [u32], n_rows: u32) -> usize {
    match columns.len() {
        0..=64 => sort_in_windows::<4>(columns),
        65..=128 => sort_in_windows::<8>(columns),
        _ => columns.sort_unstable(),
    }
    columns.partition_point(|&v| v < n_rows)
}

/// Sorts distinct columns, no more than sixteen a window.
#[inline(always)]
fn sort_in_windows<const WINDOWS: usize>(columns: &mut [u32]) {
    let n = columns.len();
    let mut padded = [[u32::MAX; 16]; WINDOWS];
    padded.as_flattened_mut()[..n].copy_from_slice(columns);
    let windows = padded.map(u32x16::new);
    let n_windows = n.div_ceil(16);
    for &v in &padded.as_flattened()[..n] {
        let all = u32x16::splat(v);
        let mut place = 0;
        for window in &windows[..n_windows] {
            place += window.simd_lt(all).to_bitmask().count_ones();
        }
        columns[place as usize] = v;
    }
}

#[inline(always)]
fn load(values: &[u32], at: usize) -> u32x16 {
    let mut window = [0; 16];
    window.copy_from_slice(&values[at..at + 16]);
    u32x16::new(window)
}

/// The place of a column in the row `begin..end` of `columns`, which holds it.
///
/// Sixteen columns are compared at once; what stands behind the row's end cannot be found before it.
#[inline(always)]
pub(super) fn find(columns: &[u32], begin: usize, end: usize, column: u32) -> usize {
    let all = u32x16::splat(column);
    let mut at = begin;
    while at + 16 <= columns.len() && at < end {
        let equal = load(columns, at).simd_eq(all).to_bitmask();
        if equal != 0 {
            return at - begin + equal.trailing_zeros() as usize;
        }
        at += 16;
    }
    // The last rows of all.
    let rest = columns[at..end].iter().position(|&v| v == column);
    at - begin + rest.expect("the pattern couples all nodes of a cell")
}

/// [`find_all`] for the nodes of a small cell: in rows of up to 32 columns, each is looked for in all of them at once.
#[inline(always)]
pub(super) fn find_few<const N: usize>(
    columns: &[u32],
    begin: usize,
    end: usize,
    nodes: &[u32; N],
) -> [u32; N] {
    // The row's own entry stands before any of the next rows.
    if end - begin <= 16 && begin + 16 <= columns.len() {
        let window = load(columns, begin);
        return nodes.map(|v| window.simd_eq(u32x16::splat(v)).to_bitmask().trailing_zeros());
    }
    if end - begin <= 32 && begin + 32 <= columns.len() {
        let windows = [load(columns, begin), load(columns, begin + 16)];
        return nodes.map(|v| {
            let [low, high] = windows.map(|window| window.simd_eq(u32x16::splat(v)).to_bitmask());
            (low | high << 16).trailing_zeros()
        });
    }
    let mut places = [0; N];
    find_all(columns, begin, end, nodes, &mut places);
    places
}

/// The most windows of sixteen columns whose ends are compared at once.
const ENDS: usize = 16;

/// [`find`] for each of a cell's nodes, all of them owned columns of the row.
///
/// The place of a column is the number of lesser ones: a vector's comparison and a count for each window of sixteen
/// columns, without a branch that depends on the answer. In rows of more than a few windows a comparison with their
/// ends says first which of them to look into.
#[inline(always)]
pub(super) fn find_all(columns: &[u32], begin: usize, end: usize, nodes: &[u32], places: &mut [u32]) {
    let n_windows = (end - begin).div_ceil(16);
    if begin + 16 * n_windows > columns.len() {
        // The last rows of all.
        for (place, &column) in places.iter_mut().zip(nodes) {
            *place = find(columns, begin, end, column) as u32;
        }
        return;
    }
    if (4..=ENDS).contains(&n_windows) {
        let mut ends = [u32::MAX; ENDS];
        for (end, window) in ends.iter_mut().zip(columns[begin..].chunks_exact(16).take(n_windows - 1)) {
            *end = window[15];
        }
        let ends = u32x16::new(ends);
        for (place, &column) in places.iter_mut().zip(nodes) {
            let all = u32x16::splat(column);
            let at = 16 * ends.simd_lt(all).to_bitmask().count_ones();
            // The row's own entry stands before any of the next row.
            let equal = load(columns, begin + at as usize).simd_eq(all).to_bitmask();
            *place = at + equal.trailing_zeros();
        }
        return;
    }
    for w in 0..n_windows {
        let at = begin + 16 * w;
        let window = load(columns, at);
        let inside = if end - at < 16 { (1u32 << (end - at)) - 1 } else { 0xffff };
        for (place, &column) in places.iter_mut().zip(nodes) {
            let lesser = window.simd_lt(u32x16::splat(column)).to_bitmask() & inside;
            let before = if w == 0 { 0 } else { *place };
            *place = before + lesser.count_ones();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_sorted_and_searched() {
        for n in [0usize, 1, 5, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 125, 128, 129, 200, 300] {
            // A permutation of 0, 3, 6, ...: 7919 is prime and longer than any row.
            let mut columns: Vec<u32> = (0..n).map(|k| (k * 7919 % n.max(1)) as u32 * 3).collect();
            let mut expected = columns.clone();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(expected.len(), n, "distinct");
            if n <= 16 {
                let mut padded = [7; 16];
                padded[..n].copy_from_slice(&columns);
                for n_rows in [31, 1000] {
                    let (mut owned, mut ghosts) = ([9; 20], vec![5]);
                    let split = put_16(u32x16::new(padded), n, n_rows, &mut owned, &mut ghosts);
                    assert_eq!(split, expected.iter().filter(|v| **v < n_rows).count());
                    assert_eq!([&owned[..split], &ghosts[1..]].concat(), expected);
                }
            }
            let split = sort(&mut columns, 31);
            assert_eq!(columns, expected);
            assert_eq!(split, expected.iter().filter(|v| **v < 31).count());
            // In the midst of other rows, and as the last row.
            for behind in [0, 40, 400] {
                let mut all = vec![1u32; 5];
                all.extend(&columns);
                all.extend((0..behind).map(|k| k * 3));
                for (k, &v) in columns.iter().enumerate() {
                    assert_eq!(find(&all, 5, 5 + n, v), k);
                }
                for few in columns.as_chunks::<3>().0 {
                    let places = find_few(&all, 5, 5 + n, few);
                    assert_eq!(places.map(|p| all[5 + p as usize]), *few);
                }
                let mut places = vec![7; n];
                find_all(&all, 5, 5 + n, &columns, &mut places);
                assert!(places.iter().enumerate().all(|(k, &p)| p as usize == k));
            }
        }
    }
}
