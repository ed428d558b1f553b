//! Prolongation: the smoothed one, its ghost rows, and its two products.
//!
//! Imports `cluster` and its siblings. Start at [`smoothed`]; [`Prolongation`] applies it and its transpose.

use cluster::{Buckets, Comm, Halo, IndexMap};

use super::aggregate::{Aggregates, NONE};
use super::csr::Csr;
use super::galerkin::Restriction;
use super::level::{Level, Nodes};
use super::parallel::{each, map, rows, rows_of_blocks};
use super::tentative::Tentative;

/// A prolongation before its columns are final: rows of owned nodes.
///
/// Columns below `n_coarse` are owned coarse nodes; the others are `n_coarse + k` for `ghosts[k]`, ascending.
pub(super) struct Raw {
    pub ptr: Vec<u32>,
    pub col: Vec<u32>,
    /// Blocks `[entry][fine component][coarse component]`.
    pub val: Vec<f32>,
    pub n_coarse: usize,
    /// Global numbers of ghost coarse nodes, ascending.
    pub ghosts: Vec<u64>,
}

/// The weight of the Jacobi step, by the bound of the largest eigenvalue. The bound of the smoothed columns' energy
/// is least for 4/3; the bound in use is up to a tenth too large. Chosen by trial on boxes: against 4/3 it takes a
/// seventh less iterations in 2D, less than a tenth in 3D, and none less on the unstructured meshes tried.
const OMEGA: f32 = 1.6;

/// One Jacobi step on the tentative prolongation, `(I - omega D^-1 A_F) T`, where `A_F` has its weak couplings
/// added to the diagonal, and `omega` is [`OMEGA`] by the largest eigenvalue. Collective.
///
/// `offset` is the global number of the first aggregate of this rank. `_L` is [`dispatch`](super::csr)'s, of no use here.
pub(super) fn smoothed<const R: usize, const C: usize, const _L: usize>(
    level: &Level,
    strong: &[bool],
    aggregates: &Aggregates,
    tentative: &Tentative,
    offset: u64,
) -> Raw {
    let _span = tracing::debug_span!("prolongation").entered();
    let Nodes { map: nodes, halo } = &*level.nodes;
    let (n, n_local) = (nodes.n_owned(), nodes.n_local());
    let omega = OMEGA / level.lambda;
    // Whose aggregates the ghosts belong to, and their blocks.
    let (mut ghosts, mut with_ghosts) = (Vec::new(), Vec::new());
    let of: &[u32] = if level.distributed {
        let mut global = vec![u64::MAX; n_local];
        for (to, &a) in global.iter_mut().zip(&aggregates.of).filter(|(_, a)| **a != NONE) {
            *to = offset + u64::from(a);
        }
        halo.forward(&mut global, 1);
        ghosts.extend(global[n..].iter().copied().filter(|&g| g != u64::MAX));
        ghosts.sort_unstable();
        ghosts.dedup();
        with_ghosts.clone_from(&aggregates.of);
        with_ghosts.extend(global[n..].iter().map(|&g| match ghosts.binary_search(&g) {
            Ok(k) => (aggregates.n + k) as u32,
            Err(_) => NONE,
        }));
        &with_ghosts
    } else {
        &aggregates.of
    };
    let mut t = Vec::new();
    let t: &[f32] = if n_local > n {
        t.reserve_exact(n_local * R * C);
        t.extend_from_slice(&tentative.val);
        t.resize(n_local * R * C, 0.0);
        halo.forward(&mut t, R * C);
        &t
    } else {
        &tentative.val
    };
    let csr = &level.csr;
    struct Part {
        len: Vec<u32>,
        col: Vec<u32>,
        val: Vec<f32>,
    }
    let per_task = const { rows_of_blocks(R) };
    let parts = map(
        n.div_ceil(per_task),
        || (),
        |(), task| {
            let range = rows(task, n, per_task);
            let mut part = Part {
                len: Vec::with_capacity(range.len()),
                col: Vec::with_capacity(4 * range.len()),
                val: Vec::with_capacity(4 * range.len() * R * C),
            };
            let mut found: Vec<(u32, [[f32; C]; R])> = Vec::new();
            for row in range {
                found.clear();
                let own = of[row];
                if own != NONE {
                    found.push((own, [[0.0; C]; R]));
                }
                // A_F T, its diagonal part last.
                let mut diagonal = [[0f32; R]; R];
                for k in csr.range(row) {
                    let column = csr.col[k] as usize;
                    let a: &[[f32; R]] = csr.val[k * R * R..][..R * R].as_chunks().0;
                    if !strong[k] {
                        for (to, from) in diagonal.iter_mut().zip(a) {
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        }
                        continue;
                    }
                    let aggregate = of[column];
                    if aggregate == NONE {
                        continue;
                    }
                    let slot = match found.iter().position(|f| f.0 == aggregate) {
                        Some(slot) => slot,
                        None => {
                            found.push((aggregate, [[0.0; C]; R]));
                            found.len() - 1
                        }
                    };
                    let block: &[[f32; C]] = t[column * R * C..][..R * C].as_chunks().0;
                    add_product(&mut found[slot].1, a, block);
                }
                let block: &[[f32; C]] = t[row * R * C..][..R * C].as_chunks().0;
                let inverse: &[[f32; R]] = level.inverse[row * R * R..][..R * R].as_chunks().0;
                if own != NONE {
                    add_product(&mut found[0].1, &diagonal, block);
                }
                for (k, (_, sum)) in found.iter_mut().enumerate() {
                    let mut smooth = [[0f32; C]; R];
                    add_product(&mut smooth, inverse, &sum[..]);
                    for a in 0..R {
                        for b in 0..C {
                            let from = if k == 0 && own != NONE { block[a][b] } else { 0.0 };
                            sum[a][b] = from - omega * smooth[a][b];
                        }
                    }
                }
                let vanishes = |block: &[[f32; C]; R]| block.as_flattened().iter().all(|&v| v == 0.0);
                if found.iter().any(|(_, block)| vanishes(block)) {
                    found.retain(|(_, block)| !vanishes(block));
                }
                // Moving single values is less than a call.
                if R * C == 1 {
                    sort(&mut found);
                } else {
                    found.sort_unstable_by_key(|f| f.0);
                }
                part.len.push(found.len() as u32);
                for (aggregate, block) in &found {
                    part.col.push(*aggregate);
                    part.val.extend_from_slice(block.as_flattened());
                }
            }
            part
        },
    );
    let n_entries: usize = parts.iter().map(|p| p.col.len()).sum();
    let mut raw = Raw {
        ptr: Vec::with_capacity(n + 1),
        col: Vec::with_capacity(n_entries),
        val: Vec::with_capacity(n_entries * R * C + super::csr::PAD),
        n_coarse: aggregates.n,
        ghosts,
    };
    raw.ptr.push(0);
    for part in parts {
        for len in part.len {
            raw.ptr.push(raw.ptr[raw.ptr.len() - 1] + len);
        }
        raw.col.extend(part.col);
        raw.val.extend(part.val);
    }
    raw
}

/// Puts the few aggregates of a row in order.
#[inline(always)]
fn sort<T: Copy>(found: &mut [(u32, T)]) {
    for end in 1..found.len() {
        let mut at = end;
        while at > 0 && found[at - 1].0 > found[at].0 {
            found.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// `sum += a b` for blocks.
#[inline(always)]
fn add_product<const R: usize, const C: usize>(sum: &mut [[f32; C]; R], a: &[[f32; R]], b: &[[f32; C]]) {
    for i in 0..R {
        for m in 0..R {
            for k in 0..C {
                sum[i][k] += a[i][m] * b[m][k];
            }
        }
    }
}

/// The prolongation's rows of the ghost nodes, in the order of ghosts, with global columns. Collective.
///
/// `to_global` gives the global number of a column.
pub(super) fn ghost_rows(
    comm: &Comm,
    halo: &Halo,
    nodes: &IndexMap,
    raw: &Raw,
    size: usize,
    to_global: impl Fn(u32) -> u64,
) -> (Vec<u32>, Vec<u64>, Vec<f32>) {
    // For each row wanted: its length, then column and values of each entry, all in 32-bit words.
    let mut send = Buckets::<u32>::empty();
    for (rank, wanted) in halo.shared().iter() {
        for &row in wanted {
            let range = raw.ptr[row as usize] as usize..raw.ptr[row as usize + 1] as usize;
            send.data.push(range.len() as u32);
            for k in range {
                let column = to_global(raw.col[k]);
                send.data.extend([column as u32, (column >> 32) as u32]);
                send.data.extend(raw.val[k * size..][..size].iter().map(|v| v.to_bits()));
            }
        }
        send.ranks.push(rank);
        send.offsets.push(send.data.len());
    }
    let received = comm.exchange(&send);
    // Owners answer in the order in which the halo asked: by owner, then by global number.
    let n_ghost = nodes.n_ghost();
    let mut order: Vec<u32> = (0..n_ghost as u32).collect();
    order.sort_by_key(|&k| (nodes.ghost_owners()[k as usize], nodes.ghosts()[k as usize]));
    let mut begin = vec![0usize; n_ghost];
    let mut at = 0;
    for &ghost in &order {
        begin[ghost as usize] = at;
        at += 1 + received.data[at] as usize * (2 + size);
    }
    let mut ptr = vec![0u32];
    let (mut col, mut val) = (Vec::new(), Vec::new());
    for begin in begin {
        let len = received.data[begin] as usize;
        for entry in received.data[begin + 1..][..len * (2 + size)].chunks_exact(2 + size) {
            col.push(u64::from(entry[0]) | u64::from(entry[1]) << 32);
            val.extend(entry[2..].iter().map(|&v| f32::from_bits(v)));
        }
        ptr.push(col.len() as u32);
    }
    (ptr, col, val)
}

/// Parts of the rows whose transposed products are summed apart, at most: what they are depends on the matrix
/// alone, so that the sum does not depend on the number of threads.
const MOST_PARTS: usize = 16;

/// Values of the fine vector in a part, at least.
const LEAST_VALUES: usize = 8192;

/// The prolongation from a coarse level, its columns in the coarse level's local numbers.
pub(super) struct Prolongation {
    pub csr: Csr,
    /// Rows of a part of the transposed product.
    rows_per_part: usize,
    /// Per part: the owned coarse nodes it reaches.
    reach: Vec<std::ops::Range<u32>>,
    /// Per part: sums over its reach, then over all ghosts.
    sums: Vec<Vec<f32>>,
    n_coarse_local: usize,
    /// Of one value an entry: the transposed, whose rows are long enough for sums of their own.
    transposed: Option<Csr>,
}

/// Entries with padding in slices of a prolongation of one value an entry, by those that there are. Its rows of one to
/// four entries are what a processor cannot foresee: a row takes 2 ns in slices, and 6 ns with a branch for each entry.
const PADDED: f64 = 1.7;

impl Prolongation {
    /// Prepares the products. `n_coarse_local` counts ghosts.
    ///
    /// `sizes` are those of the blocks, fine and coarse; `transposed` is the transposed matrix, where there is one already.
    pub fn new(
        mut csr: Csr,
        sizes: (usize, usize),
        n_coarse_local: usize,
        transposed: Option<Restriction>,
    ) -> Prolongation {
        let n = csr.n_rows();
        if sizes == (1, 1) {
            let transposed = Some(match transposed {
                Some((ptr, row, val)) => Csr::new(ptr, row, val, n),
                None => csr.transposed(n_coarse_local),
            });
            csr.move_to_slices(PADDED);
            let (reach, sums) = (Vec::new(), Vec::new());
            return Prolongation { csr, rows_per_part: n, reach, sums, n_coarse_local, transposed };
        }
        let n_parts = (n * sizes.0 / LEAST_VALUES).clamp(1, MOST_PARTS);
        let rows_per_part = n.div_ceil(n_parts).max(1);
        let n_ghost = n_coarse_local - csr.n_owned_cols as usize;
        let reach: Vec<std::ops::Range<u32>> = (0..n.div_ceil(rows_per_part))
            .map(|part| {
                let range = rows(part, n, rows_per_part);
                let owned = csr.col[csr.ptr[range.start] as usize..csr.ptr[range.end] as usize]
                    .iter()
                    .filter(|&&c| c < csr.n_owned_cols);
                let (low, high) = owned.fold((u32::MAX, 0), |(l, h), &c| (l.min(c), h.max(c + 1)));
                low.min(high)..high
            })
            .collect();
        let sums = reach.iter().map(|r| super::csr::vector(r.len() + n_ghost, sizes.1)).collect();
        Prolongation { csr, rows_per_part, reach, sums, n_coarse_local, transposed: None }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let transposed = self.transposed.as_ref().map_or(0, Csr::bytes);
        self.csr.bytes() + transposed + self.sums.iter().map(|s| 4 * s.len()).sum::<usize>()
    }

    /// `coarse = P^T r`, ghosts included: their parts are still to be added to their owners'.
    pub fn restrict<const R: usize, const C: usize, const L: usize>(
        &mut self,
        r: &[f32],
        coarse: &mut [f64],
    ) {
        let _span = tracing::debug_span!("restrict").entered();
        if let Some(transposed) = &self.transposed {
            transposed.product_to_double(r, coarse);
            return;
        }
        let (csr, reach, per_part) = (&self.csr, &self.reach, self.rows_per_part);
        let n_owned = csr.n_owned_cols;
        each(self.sums.iter_mut().enumerate(), |(part, sums)| {
            sums.fill(0.0);
            let reach = &reach[part];
            let ghosts = (reach.len() as u32).wrapping_sub(n_owned);
            for row in rows(part, csr.n_rows(), per_part) {
                let fine = &r[row * R..][..R];
                for k in csr.range(row) {
                    let column = csr.col[k];
                    let shift = if column < n_owned { 0u32.wrapping_sub(reach.start) } else { ghosts };
                    let at = column.wrapping_add(shift) as usize;
                    let values = &csr.val[k * R * C..][..R * C];
                    let sum = &mut sums[at * C..][..C];
                    for a in 0..R {
                        for b in 0..C {
                            sum[b] += values[a * C + b] * fine[a];
                        }
                    }
                }
            }
        });
        coarse[..self.n_coarse_local * C].fill(0.0);
        for (reach, sums) in self.reach.iter().zip(&self.sums) {
            let n = reach.len() * C;
            let owned = &mut coarse[reach.start as usize * C..reach.end as usize * C];
            owned.iter_mut().zip(&sums[..n]).for_each(|(to, from)| *to += f64::from(*from));
            let ghosts = &mut coarse[n_owned as usize * C..self.n_coarse_local * C];
            ghosts.iter_mut().zip(&sums[n..]).for_each(|(to, from)| *to += f64::from(*from));
        }
    }

    /// `x += P coarse`, where the ghosts of `coarse` are known.
    pub fn prolong<const R: usize, const C: usize, const L: usize>(&self, coarse: &[f32], x: &mut [f32]) {
        let _span = tracing::debug_span!("prolong").entered();
        self.csr.add_product::<R, C, L>(coarse, x);
    }
}
