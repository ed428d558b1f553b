//! The coarse matrix `P^T A P`, by rows, in double precision.
//!
//! Imports `cluster` and its siblings. Start at [`coarse`].
//!
//! A task takes consecutive coarse rows. Of blocks it makes the rows of `A P` that they need, which are few more than
//! its share, and sums them up; of single values a row of `P^T A` each, then its product with `P`, which takes fewer
//! terms and nothing that is kept. What a task does not own a row of is sent to its owner. Double precision keeps the
//! smoothest modes, whose energy is a small difference of large numbers; the product is bound by the search for
//! columns, not by the width of its numbers.

use std::ops::Range;

use cluster::{Buckets, Comm, Halo, IndexMap};

use super::csr::PAD;
use super::parallel::{each, map, rows};
use super::prolongation::{Raw, ghost_rows};
use super::rows::{Rows, Wide};
use super::sums::{Sums, Terms, push_ascending};
use super::transpose::Transposed;

/// A coarse matrix, its nodes, and the prolongation in their numbers.
pub(super) struct Coarse {
    pub matrix: Wide,
    pub map: IndexMap,
    pub halo: Halo,
    pub ptr: Vec<u32>,
    pub col: Vec<u32>,
    pub val: Vec<f32>,
    /// The transposed prolongation, if it is of one value an entry: offsets, fine rows and values.
    pub transposed: Option<Restriction>,
}

/// Offsets of coarse nodes, fine rows, values.
pub(super) type Restriction = (Vec<u32>, Vec<u32>, Vec<f32>);

/// Diagonal entries below this part of what the fine diagonal gives are round-off of zero.
const ROUND_OFF: f64 = 1e-10;

/// Entries of a coarse row in two dimensions; in three there are three times as many.
const USUAL: usize = 9;

/// Coarse rows of a task of values.
const VALUES_PER_TASK: usize = 2048;

/// Values of the transposed that a task gathers.
const ENTRIES_PER_TASK: usize = 16384;

/// Coarse rows of one task.
struct Part {
    len: Vec<u32>,
    col: Vec<u32>,
    val: Vec<f64>,
    /// Per row: the diagonal of `P^T diag(A) P`.
    reference: Vec<f64>,
}

/// What a task works with, kept from one to the next.
struct Scratch<const R: usize, const C: usize> {
    /// Per fine row: its place among the task's rows of `A P`.
    slot: Vec<u32>,
    rows: Vec<u32>,
    ptr: Vec<usize>,
    col: Vec<u32>,
    val: Vec<[[f64; C]; R]>,
    diagonal: Vec<[f64; R]>,
    fine: Sums<R, C>,
    coarse: Sums<C, C>,
    order: Vec<u32>,
}

impl<const R: usize, const C: usize> Scratch<R, C> {
    fn new(n_fine: usize, n_coarse: usize) -> Self {
        Scratch {
            slot: vec![u32::MAX; n_fine],
            rows: Vec::new(),
            ptr: Vec::new(),
            col: Vec::new(),
            val: Vec::new(),
            diagonal: Vec::new(),
            fine: Sums::new(n_coarse),
            coarse: Sums::new(n_coarse),
            order: Vec::new(),
        }
    }
}

/// The global number of a coarse node whose ghosts have these, ascending.
fn global_of(owned: &Range<u64>, ghosts: &[u64], local: u32) -> u64 {
    let n_owned = owned.end - owned.start;
    let local = u64::from(local);
    if local < n_owned { owned.start + local } else { ghosts[(local - n_owned) as usize] }
}

/// The local number of a coarse node, owned or one of the ghosts.
fn local_of(owned: &Range<u64>, ghosts: &[u64], global: u64) -> u32 {
    if owned.contains(&global) {
        return (global - owned.start) as u32;
    }
    let ghost = ghosts.binary_search(&global).expect("a ghost that was collected");
    (owned.end - owned.start) as u32 + ghost as u32
}

/// Makes the coarse matrix. Collective.
///
/// Entries of a scalar row that are below `negligible(row)` are skipped: exact zeros of a lattice, blurred.
pub(super) fn coarse<const R: usize, const C: usize>(
    comm: &Comm,
    source: &impl Rows<R>,
    halo: &Halo,
    map_: &IndexMap,
    raw: Raw,
    negligible: impl Fn(u32) -> f64 + Sync,
) -> Coarse {
    let _span = tracing::debug_span!("galerkin").entered();
    let n_coarse = raw.n_coarse;
    let offsets: Vec<u64> = comm.all_gather(n_coarse as u64);
    let offsets: Vec<u64> = std::iter::once(0)
        .chain(offsets.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }))
        .collect();
    let offset = offsets[comm.rank()];
    let owner = |global: u64| (offsets.partition_point(|&o| o <= global) - 1) as u32;
    let owned = offset..offset + n_coarse as u64;

    // All rows of P that the rows of A reach, their columns in one numbering.
    let n = map_.n_owned();
    let Raw { mut ptr, mut col, mut val, ghosts, .. } = raw;
    let mut extended = ghosts.clone();
    if comm.size() > 1 {
        let rows = Raw { ptr, col, val, n_coarse, ghosts };
        let (ghost_ptr, ghost_col, ghost_val) =
            ghost_rows(comm, halo, map_, &rows, R * C, |c| global_of(&owned, &rows.ghosts, c));
        Raw { ptr, col, val, .. } = rows;
        extended.extend(ghost_col.iter().copied().filter(|g| !owned.contains(g)));
        extended.sort_unstable();
        extended.dedup();
        let local = |g: u64| local_of(&owned, &extended, g);
        let moved: Vec<u32> = rows.ghosts.iter().map(|&g| local(g)).collect();
        for c in col.iter_mut().filter(|c| **c as usize >= n_coarse) {
            *c = moved[*c as usize - n_coarse];
        }
        let at = ptr[n];
        ptr.extend(ghost_ptr[1..].iter().map(|p| at + p));
        col.extend(ghost_col.iter().map(|&g| local(g)));
        val.extend(ghost_val);
    }
    let n_extended = n_coarse + extended.len();

    // Which fine rows a coarse row sums over.
    let owned_entries = ptr[n] as usize;
    let Transposed { ptr: t_ptr, row: t_row, at: t_at } = Transposed::new(&ptr[..=n], &col, n_extended);

    let t_val = (R * C == 1).then(|| {
        let mut values = Vec::with_capacity(owned_entries + PAD);
        values.resize(owned_entries, 0.0);
        each(values.chunks_mut(ENTRIES_PER_TASK).zip(t_at.chunks(ENTRIES_PER_TASK)), |(to, at)| {
            to.iter_mut().zip(at).for_each(|(to, &at)| *to = val[at as usize]);
        });
        values
    });
    if let Some(t_val) = t_val {
        drop(t_at);
        let p_transposed = (&t_ptr[..], &t_row[..], &t_val[..]);
        let parts = of_values(source, (&ptr, &col, &val), p_transposed, n_extended, negligible);
        ptr.truncate(n + 1);
        col.truncate(owned_entries);
        val.truncate(owned_entries);
        let numbers = Numbers { n_coarse, n_extended, extended, offset, n_global: offsets[comm.size()] };
        let transposed = Some((t_ptr, t_row, t_val));
        return finish::<C>(comm, numbers, owner, parts, VALUES_PER_TASK, ptr, col, val, transposed);
    }

    // Few, where there are few: neighbouring tasks make some rows of the product twice, but each is long.
    let per_task = (n_extended / 8).clamp(64, 384);
    let n_tasks = n_extended.div_ceil(per_task);
    let blocks: &[[[f32; C]; R]] = val.as_chunks().0.as_chunks().0;
    let parts: Vec<Part> = map(
        n_tasks,
        || Scratch::<R, C>::new(n, n_extended),
        |s, task| {
            let coarse_rows = rows(task, n_extended, per_task);
            let entries = t_ptr[coarse_rows.start] as usize..t_ptr[coarse_rows.end] as usize;
            // Ascending, so that the matrix is read in its own order.
            let (mut low, mut high) = (n, 0);
            for &row in &t_row[entries] {
                s.slot[row as usize] = 0;
                (low, high) = (low.min(row as usize), high.max(row as usize + 1));
            }
            s.rows.clear();
            for row in low..high {
                if s.slot[row] != u32::MAX {
                    s.slot[row] = s.rows.len() as u32;
                    s.rows.push(row as u32);
                }
            }
            s.ptr.clear();
            s.col.clear();
            s.val.clear();
            s.diagonal.clear();
            s.ptr.push(0);
            for &row in &s.rows {
                let mut diagonal = [0.0; R];
                source.visit(row as usize, |column, a| {
                    if column == row {
                        diagonal = std::array::from_fn(|c| a[c][c]);
                    }
                    let range = ptr[column as usize] as usize..ptr[column as usize + 1] as usize;
                    let of_column = col[range.clone()].iter().copied().zip(&blocks[range]);
                    s.fine.add(of_column, |b, sum| {
                        for i in 0..R {
                            for m in 0..R {
                                for l in 0..C {
                                    sum[i][l] += a[i][m] * f64::from(b[m][l]);
                                }
                            }
                        }
                    });
                });
                s.col.extend_from_slice(s.fine.columns());
                s.val.extend_from_slice(s.fine.values());
                s.fine.clear();
                s.ptr.push(s.col.len());
                s.diagonal.push(diagonal);
            }
            let n_rows = coarse_rows.len();
            let mut part = Part {
                len: Vec::with_capacity(n_rows),
                col: Vec::with_capacity(USUAL * n_rows),
                val: Vec::with_capacity(USUAL * n_rows * C * C),
                reference: Vec::with_capacity(n_rows * C),
            };
            for coarse_row in coarse_rows {
                let mut reference = [0.0; C];
                for k in t_ptr[coarse_row] as usize..t_ptr[coarse_row + 1] as usize {
                    let slot = s.slot[t_row[k] as usize] as usize;
                    let b = &blocks[t_at[k] as usize];
                    for i in 0..R {
                        for m in 0..C {
                            reference[m] += s.diagonal[slot][i] * f64::from(b[i][m]) * f64::from(b[i][m]);
                        }
                    }
                    let range = s.ptr[slot]..s.ptr[slot + 1];
                    let of_row = s.col[range.clone()].iter().copied().zip(&s.val[range]);
                    s.coarse.add(of_row, |ap, sum| {
                        for m in 0..C {
                            for i in 0..R {
                                for l in 0..C {
                                    sum[m][l] += f64::from(b[i][m]) * ap[i][l];
                                }
                            }
                        }
                    });
                }
                part.reference.extend(reference);
                let (columns, values) = (s.coarse.columns(), s.coarse.values());
                s.order.clear();
                s.order.extend(0..columns.len() as u32);
                s.order.sort_unstable_by_key(|&k| columns[k as usize]);
                part.len.push(columns.len() as u32);
                for &k in &s.order {
                    part.col.push(columns[k as usize]);
                    part.val.extend_from_slice(values[k as usize].as_flattened());
                }
                s.coarse.clear();
            }
            s.rows.iter().for_each(|&row| s.slot[row as usize] = u32::MAX);
            part
        },
    );
    ptr.truncate(n + 1);
    col.truncate(owned_entries);
    val.truncate(owned_entries * R * C);
    finish::<C>(
        comm,
        Numbers { n_coarse, n_extended, extended, offset, n_global: offsets[comm.size()] },
        owner,
        parts,
        per_task,
        ptr,
        col,
        val,
        None,
    )
}

/// Rows of the coarse matrix where all matrices have one value an entry: a coarse node's row of `P^T A`, then its
/// product with `P`. `P` has rows for all columns of `A`.
fn of_values<const R: usize>(
    source: &impl Rows<R>,
    (p_ptr, p_col, p_val): (&[u32], &[u32], &[f32]),
    (t_ptr, t_row, t_val): (&[u32], &[u32], &[f32]),
    n_coarse: usize,
    negligible: impl Fn(u32) -> f64 + Sync,
) -> Vec<Part> {
    let arrays = source.arrays();
    map(
        n_coarse.div_ceil(VALUES_PER_TASK),
        || (Terms::new(p_ptr.len() - 1), Terms::new(n_coarse)),
        |(fine, coarse), task| {
            let coarse_rows = rows(task, n_coarse, VALUES_PER_TASK);
            let n_rows = coarse_rows.len();
            let mut part = Part {
                len: Vec::with_capacity(n_rows),
                col: Vec::with_capacity(USUAL * n_rows),
                val: Vec::with_capacity(USUAL * n_rows),
                reference: Vec::with_capacity(n_rows),
            };
            for coarse_row in coarse_rows {
                let mut reference = 0.0;
                for k in t_ptr[coarse_row] as usize..t_ptr[coarse_row + 1] as usize {
                    let (row, p) = (t_row[k], f64::from(t_val[k]));
                    let bound = negligible(row);
                    let term = |a: f64| if a.abs() < bound { 0.0 } else { p * a };
                    let diagonal = source.diagonal(row as usize).map_or(0.0, |a| a[0][0]);
                    reference += diagonal * p * p;
                    if let Some((ptr, col, val)) = arrays {
                        let range = ptr[row as usize] as usize..ptr[row as usize + 1] as usize;
                        fine.add(col, val, range, |&a| term(a));
                    } else {
                        source.visit(row as usize, |column, a| fine.push(column, term(a[0][0])));
                    }
                }
                let (columns, values) = fine.sums();
                for (&column, &value) in columns.iter().zip(values) {
                    let range = p_ptr[column as usize] as usize..p_ptr[column as usize + 1] as usize;
                    coarse.add(p_col, p_val, range, |&p| value * f64::from(p));
                }
                let (columns, values) = coarse.sums();
                part.len.push(columns.len() as u32);
                push_ascending(&mut part.col, &mut part.val, columns, values);
                part.reference.push(reference);
            }
            part
        },
    )
}

/// The coarse numbering while rows are on the way.
struct Numbers {
    n_coarse: usize,
    n_extended: usize,
    /// Global numbers of the coarse nodes beyond the owned ones, ascending.
    extended: Vec<u64>,
    offset: u64,
    n_global: u64,
}

/// Sends rows to their owners, merges what comes and numbers the ghosts. Collective.
fn finish<const C: usize>(
    comm: &Comm,
    numbers: Numbers,
    owner: impl Fn(u64) -> u32,
    parts: Vec<Part>,
    per_task: usize,
    ptr: Vec<u32>,
    mut col: Vec<u32>,
    val: Vec<f32>,
    transposed: Option<Restriction>,
) -> Coarse {
    let Numbers { n_coarse, n_extended, extended, offset, n_global } = numbers;
    let owned = offset..offset + n_coarse as u64;
    let global = |c: u32| global_of(&owned, &extended, c);
    // For each row: its number, its length, its reference diagonal, its columns, its values; 64-bit words.
    let mut send = Buckets::<u64>::empty();
    // Alone, no number changes.
    let same = n_extended == n_coarse && comm.size() == 1;
    let mut used = vec![false; if same { 0 } else { n_extended }];
    if !same {
        col.iter().for_each(|&c| used[c as usize] = true);
    }
    for (task, part) in parts.iter().enumerate().filter(|_| !same) {
        let mut at = 0;
        for (k, coarse_row) in rows(task, n_extended, per_task).enumerate() {
            let len = part.len[k] as usize;
            let (columns, values) = (&part.col[at..at + len], &part.val[at * C * C..(at + len) * C * C]);
            at += len;
            if coarse_row < n_coarse {
                columns.iter().for_each(|&c| used[c as usize] = true);
            } else if len > 0 {
                let row = global(coarse_row as u32);
                let to = owner(row);
                // Rows ascend, and with them their owners.
                if send.ranks.last() != Some(&to) {
                    send.ranks.push(to);
                    send.offsets.push(send.data.len());
                }
                send.data.extend([row, len as u64]);
                send.data.extend(part.reference[k * C..][..C].iter().map(|v| v.to_bits()));
                send.data.extend(columns.iter().map(|&c| global(c)));
                send.data.extend(values.iter().map(|v| v.to_bits()));
                if let Some(end) = send.offsets.last_mut() {
                    *end = send.data.len();
                }
            }
        }
    }
    let received = if comm.size() > 1 { comm.exchange(&send) } else { Buckets::empty() };
    drop(send);
    // Where each received row begins, by the row it belongs to; ranks stay in order.
    let mut arrived: Vec<(u32, usize)> = Vec::new();
    let mut ghosts: Vec<u64> =
        (n_coarse..n_extended).filter(|&c| used[c]).map(|c| extended[c - n_coarse]).collect();
    let mut at = 0;
    while at < received.data.len() {
        let (row, len) = (received.data[at], received.data[at + 1] as usize);
        arrived.push(((row - offset) as u32, at));
        ghosts.extend(received.data[at + 2 + C..][..len].iter().filter(|g| !owned.contains(g)));
        at += 2 + C + len * (1 + C * C);
    }
    arrived.sort_by_key(|a| a.0);
    ghosts.sort_unstable();
    ghosts.dedup();
    let local = |g: u64| local_of(&owned, &ghosts, g);
    let moved: Vec<u32> = (0..if same { 0 } else { n_extended as u32 })
        .map(|c| if used[c as usize] || (c as usize) < n_coarse { local(global(c)) } else { u32::MAX })
        .collect();
    if n_extended > n_coarse {
        col.iter_mut().for_each(|c| *c = moved[*c as usize]);
    }
    // Numbers of ghosts move, and those of nodes that others brought come between; the rows stay in order.
    let transposed = transposed.map(|(old, rows, values)| {
        if same {
            return (old, rows, values);
        }
        let mut ptr = vec![0u32; n_coarse + ghosts.len() + 1];
        for c in (0..n_extended).filter(|&c| moved[c] != u32::MAX) {
            ptr[moved[c] as usize + 1] = old[c + 1] - old[c];
        }
        for c in 0..ptr.len() - 1 {
            ptr[c + 1] += ptr[c];
        }
        (ptr, rows, values)
    });

    let n_entries: usize = parts.iter().map(|p| p.col.len()).sum();
    let mut matrix = Wide {
        ptr: Vec::with_capacity(n_coarse + 1),
        col: Vec::with_capacity(n_entries),
        val: Vec::with_capacity(n_entries * C * C),
    };
    matrix.ptr.push(0);
    let mut merged: Vec<(u32, [[f64; C]; C])> = Vec::new();
    let mut arrived = arrived.into_iter().peekable();
    for (task, part) in parts.into_iter().enumerate() {
        let mut at = 0;
        for (k, row) in rows(task, n_extended, per_task).enumerate().filter(|(_, row)| *row < n_coarse) {
            let len = part.len[k] as usize;
            let mut reference: [f64; C] = std::array::from_fn(|c| part.reference[k * C + c]);
            let start = matrix.col.len();
            if same {
                matrix.col.extend_from_slice(&part.col[at..at + len]);
            } else {
                matrix.col.extend(part.col[at..at + len].iter().map(|&c| moved[c as usize]));
            }
            matrix.val.extend_from_slice(&part.val[at * C * C..(at + len) * C * C]);
            at += len;
            let mut diagonal = start + matrix.col[start..].partition_point(|&c| (c as usize) < row);
            if arrived.peek().is_some_and(|a| a.0 as usize == row)
                || matrix.col.get(diagonal) != Some(&(row as u32))
            {
                merged.clear();
                for (&c, block) in
                    matrix.col[start..].iter().zip(matrix.val[start * C * C..].chunks_exact(C * C))
                {
                    merged.push((c, std::array::from_fn(|a| std::array::from_fn(|b| block[a * C + b]))));
                }
                merged.push((row as u32, [[0.0; C]; C]));
                while let Some((_, at)) = arrived.next_if(|a| a.0 as usize == row) {
                    let len = received.data[at + 1] as usize;
                    let (r, rest) = received.data[at + 2..].split_at(C);
                    reference.iter_mut().zip(r).for_each(|(to, v)| *to += f64::from_bits(*v));
                    let (columns, values) = rest.split_at(len);
                    for (&g, block) in columns.iter().zip(values.chunks_exact(C * C)) {
                        let block = std::array::from_fn(|a| {
                            std::array::from_fn(|b| f64::from_bits(block[a * C + b]))
                        });
                        merged.push((local(g), block));
                    }
                }
                // Stable: own values first, then those of others by rank.
                merged.sort_by_key(|m| m.0);
                matrix.col.truncate(start);
                matrix.val.truncate(start * C * C);
                for (column, block) in &merged {
                    if matrix.col[start..].last() == Some(column) {
                        let end = matrix.val.len();
                        let sum = &mut matrix.val[end - C * C..];
                        sum.iter_mut().zip(block.as_flattened()).for_each(|(to, from)| *to += from);
                    } else {
                        matrix.col.push(*column);
                        matrix.val.extend_from_slice(block.as_flattened());
                    }
                }
                diagonal = start + matrix.col[start..].partition_point(|&c| (c as usize) < row);
            }
            // Directions that cost nothing: a column of zeros, or a body that has become one node.
            for c in 0..C {
                let entry = &mut matrix.val[diagonal * C * C + c * C + c];
                if *entry <= ROUND_OFF * reference[c] || entry.is_nan() {
                    *entry = if reference[c] > 0.0 { reference[c] } else { 0.0 };
                }
            }
            matrix.ptr.push(matrix.col.len() as u32);
        }
    }
    let owners: Vec<u32> = ghosts.iter().map(|&g| owner(g)).collect();
    let map = IndexMap::from_parts(n_coarse, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    Coarse { matrix, map, halo, ptr, col, val, transposed }
}
