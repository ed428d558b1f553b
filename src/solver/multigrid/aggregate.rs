//! Strong couplings, and the aggregates of nodes that become the nodes of the next level.
//!
//! Imports its siblings. Start at [`aggregate`].
//!
//! Source: P. Vanek, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth
//! order elliptic problems", Computing 56, 1996. Added here: an aggregate that a short stencil leaves small grows
//! by the nodes that have most of their couplings into it, which makes bricks of 3 by 3 by 3 nodes of a lattice's
//! 7-point stencil, three nodes across as the theory wants.

use super::csr::Csr;
use super::parallel::{ROWS_PER_TASK, each, map, rows};

/// In no aggregate.
pub(super) const NONE: u32 = u32::MAX;

/// Aggregates of owned nodes.
pub(super) struct Aggregates {
    /// Per owned node: its aggregate, [`NONE`] where nothing couples strongly to it.
    pub of: Vec<u32>,
    /// The number of aggregates.
    pub n: usize,
}

/// Strong couplings.
pub(super) struct Strong {
    /// Per entry: whether it is one.
    pub flags: Vec<bool>,
    /// Per row: how many of its entries are.
    degree: Vec<u16>,
}

impl Strong {
    /// The owned nodes that a node couples to.
    #[inline(always)]
    fn neighbours<'a>(&'a self, csr: &'a Csr, row: usize) -> impl Iterator<Item = usize> + 'a {
        let range = csr.range(row);
        let entries = csr.col[range.clone()].iter().zip(&self.flags[range]);
        entries.filter(|(c, s)| **s && **c < csr.n_owned_cols).map(|(c, _)| *c as usize)
    }
}

/// Which entries are strong: off the diagonal, `|a_ij| > theta sqrt(|a_ii| |a_jj|)`.
///
/// Shapes: `norms` has the norms of the diagonal blocks of all local nodes.
pub(super) fn strong(csr: &Csr, block: usize, norms: &[f32], theta: f64) -> Strong {
    let size = block * block;
    let mut flags = vec![false; csr.col.len()];
    let mut degree = vec![0u16; csr.n_rows()];
    let theta2 = (theta * theta) as f32;
    let n = csr.n_rows();
    let mut rest = &mut flags[..];
    let tasks = (0..n.div_ceil(ROWS_PER_TASK)).map(|task| {
        let range = rows(task, n, ROWS_PER_TASK);
        let len = (csr.ptr[range.end] - csr.ptr[range.start]) as usize;
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(len);
        rest = tail;
        (range, head)
    });
    each(tasks.zip(degree.chunks_mut(ROWS_PER_TASK)), |((range, flags), degree)| {
        let mut rest = flags;
        for (row, degree) in range.zip(degree) {
            let bound = theta2 * norms[row];
            let entries = csr.range(row);
            let of_row;
            (of_row, rest) = rest.split_at_mut(entries.len());
            let columns = &csr.col[entries.clone()];
            if size == 1 {
                let mut n = 0;
                for ((flag, &column), value) in of_row.iter_mut().zip(columns).zip(&csr.val[entries]) {
                    *flag = (column as usize != row) & (value * value > bound * norms[column as usize]);
                    n += u32::from(*flag);
                }
                *degree = n.min(u16::MAX.into()) as u16;
                continue;
            }
            let values = csr.val[entries.start * size..entries.end * size].chunks_exact(size);
            for ((flag, &column), value) in of_row.iter_mut().zip(columns).zip(values) {
                let norm2: f32 = value.iter().map(|v| v * v).sum();
                *flag = (column as usize != row) & (norm2 > bound * norms[column as usize]);
                *degree = degree.saturating_add(u16::from(*flag));
            }
        }
    });
    Strong { flags, degree }
}

/// A node joins an aggregate as it grows if this part of its strong couplings lead into it.
const INTO: f32 = 0.3;

/// Nodes of a part that is aggregated by itself, at least.
const LEAST_NODES: usize = 20_000;

/// Parts at most. Threads take one each; more parts would have more nodes at their borders, where aggregates are small.
const MOST_PARTS: usize = 4;

/// Aggregates the owned nodes along strong couplings. Not collective.
///
/// An aggregate is a node and its neighbours; while it has fewer than `wanted` nodes it grows, twice at most. Nodes of
/// one aggregate are of one part, but for those that join it last. Parts depend on the matrix alone, so that aggregates do not
/// depend on the number of threads.
pub(super) fn aggregate(csr: &Csr, block: usize, strong: &Strong, wanted: usize) -> Aggregates {
    let n = csr.n_rows();
    let n_parts = (n / LEAST_NODES).clamp(1, MOST_PARTS);
    let per_part = n.div_ceil(n_parts).max(1);
    let mut of = vec![NONE; n];
    let mut found = vec![0u32; n.div_ceil(per_part)];
    each(of.chunks_mut(per_part).zip(&mut found).enumerate(), |(part, (of, found))| {
        *found = aggregate_part(csr, strong, part * per_part, of, wanted);
    });
    let mut n_aggregates = found[..].iter().sum();
    let before = found.iter().scan(0, |sum, &n| {
        *sum += n;
        Some(*sum - n)
    });
    each(of.chunks_mut(per_part).zip(before.collect::<Vec<u32>>()).skip(1), |(of, before)| {
        of.iter_mut().filter(|a| **a != NONE).for_each(|a| *a += before);
    });
    join(csr, block, strong, &mut of);
    for root in 0..n {
        if of[root] != NONE || strong.degree[root] == 0 {
            continue;
        }
        of[root] = n_aggregates;
        for j in strong.neighbours(csr, root) {
            if of[j] == NONE {
                of[j] = n_aggregates;
            }
        }
        n_aggregates += 1;
    }
    Aggregates { of, n: n_aggregates as usize }
}

/// Aggregates of the nodes from `first` on, as many as `of` has room for; how many there are.
fn aggregate_part(csr: &Csr, strong: &Strong, first: usize, of: &mut [u32], wanted: usize) -> u32 {
    let n = of.len();
    // Below, nodes are counted from the first.
    let neighbours = |row: usize| {
        strong.neighbours(csr, first + row).map(move |j| j.wrapping_sub(first)).filter(move |&j| j < n)
    };
    let degree = &strong.degree[first..first + n];
    let mut n_aggregates = 0;
    let mut members: Vec<usize> = Vec::new();
    let mut count = vec![0u16; n];
    let mut touched: Vec<usize> = Vec::new();
    for root in 0..n {
        if of[root] != NONE || degree[root] == 0 {
            continue;
        }
        if neighbours(root).any(|j| of[j] != NONE) {
            continue;
        }
        members.clear();
        members.push(root);
        members.extend(neighbours(root));
        members.iter().for_each(|&j| of[j] = n_aggregates);
        let mut begin = 0;
        for _ in 0..2 {
            if members.len() >= wanted {
                break;
            }
            let end = members.len();
            for &member in &members[begin..end] {
                for j in neighbours(member).filter(|&j| of[j] == NONE) {
                    if count[j] == 0 {
                        touched.push(j);
                    }
                    count[j] = count[j].saturating_add(1);
                }
            }
            begin = end;
            // In the order of nodes, which does not depend on how they were met.
            touched.sort_unstable();
            for &j in &touched {
                if of[j] == NONE && f32::from(count[j]) >= INTO * f32::from(degree[j]) {
                    members.push(j);
                    of[j] = n_aggregates;
                }
            }
            // Couplings to members found so far go on counting.
            if members.len() == end {
                break;
            }
        }
        touched.drain(..).for_each(|j| count[j] = 0);
        n_aggregates += 1;
    }
    n_aggregates
}

/// Nodes that are left over join the neighbouring aggregate to which they couple most.
fn join(csr: &Csr, block: usize, strong: &Strong, of: &mut [u32]) {
    let size = block * block;
    let n = csr.n_rows();
    let known = &*of;
    let best = |found: &mut Vec<(u32, f32)>, row: usize| {
        found.clear();
        for k in csr.range(row) {
            if !strong.flags[k] || csr.col[k] >= csr.n_owned_cols {
                continue;
            }
            let aggregate = known[csr.col[k] as usize];
            if aggregate == NONE {
                continue;
            }
            let norm = csr.val[k * size..][..size].iter().map(|v| v * v).sum::<f32>().sqrt();
            match found.iter_mut().find(|f| f.0 == aggregate) {
                Some(f) => f.1 += norm,
                None => found.push((aggregate, norm)),
            }
        }
        let mut best: Option<(u32, f32)> = None;
        for &(aggregate, weight) in found.iter() {
            if best.is_none_or(|(_, w)| weight > w) {
                best = Some((aggregate, weight));
            }
        }
        best.map(|(aggregate, _)| (row as u32, aggregate))
    };
    let joined: Vec<Vec<(u32, u32)>> = map(n.div_ceil(ROWS_PER_TASK), Vec::new, |found, task| {
        let left = rows(task, n, ROWS_PER_TASK).filter(|&row| known[row] == NONE && strong.degree[row] > 0);
        left.filter_map(|row| best(found, row)).collect()
    });
    joined.into_iter().flatten().for_each(|(row, aggregate)| of[row as usize] = aggregate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lattice_in_parts_is_aggregated_alike_by_any_number_of_threads() {
        // More than two parts of a 5-point stencil.
        let m = 300usize;
        let (mut ptr, mut col, mut val) = (vec![0u32], Vec::new(), Vec::new());
        for row in 0..m * m {
            let (x, y) = (row % m, row / m);
            let around = [(y > 0, row.wrapping_sub(m)), (x > 0, row.wrapping_sub(1)), (true, row)];
            let beyond = [(x + 1 < m, row + 1), (y + 1 < m, row + m)];
            for (_, column) in around.into_iter().chain(beyond).filter(|(there, _)| *there) {
                col.push(column as u32);
                val.push(if column == row { 4.0 } else { -1.0 });
            }
            ptr.push(col.len() as u32);
        }
        let n = m * m;
        assert!(n / LEAST_NODES > 1);
        let csr = Csr::new(ptr, col, val, n);
        let strong = strong(&csr, 1, &vec![4.0; n], 0.05);
        let found = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| aggregate(&csr, 1, &strong, 30))
        });
        let Aggregates { of, n: n_aggregates } = &found[0];
        assert!(found.iter().all(|other| other.of == *of && other.n == *n_aggregates));
        let mut sizes = vec![0; *n_aggregates];
        of.iter().for_each(|&a| sizes[a as usize] += 1);
        assert!(sizes.iter().all(|&size| (1..=30).contains(&size)), "{:?}", sizes.iter().max());
        assert!((n / 15..n / 6).contains(n_aggregates), "{n_aggregates} aggregates of {n} nodes");
    }
}
