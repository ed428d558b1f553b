//! Strong couplings, and the aggregates of nodes that become the nodes of the next level.
//!
//! Imports its siblings. Start at [`aggregate`].
//!
//! Source: P. Vanek, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth
//! order elliptic problems", Computing 56, 1996. Added here: an aggregate that a short stencil leaves small grows
//! by the nodes that have most of their couplings into it, which makes bricks of 3 by 3 by 3 nodes of a lattice's
//! 7-point stencil, three nodes across as the theory wants.

use super::csr::Csr;
use super::parallel::{ROWS_PER_TASK, each, rows};

/// In no aggregate.
pub(super) const NONE: u32 = u32::MAX;

/// Aggregates of owned nodes.
pub(super) struct Aggregates {
    /// Per owned node: its aggregate, [`NONE`] where nothing couples strongly to it.
    pub of: Vec<u32>,
    /// The number of aggregates.
    pub n: usize,
}

/// Which entries are strong: off the diagonal, `|a_ij| > theta sqrt(|a_ii| |a_jj|)`.
///
/// Shapes: `norms` has the norms of the diagonal blocks of all local nodes.
pub(super) fn strong(csr: &Csr, block: usize, norms: &[f32], theta: f64) -> Vec<bool> {
    let size = block * block;
    let mut flags = vec![false; csr.col.len()];
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
    each(tasks, |(range, flags)| {
        let begin = csr.ptr[range.start] as usize;
        for row in range {
            let bound = theta2 * norms[row];
            for k in csr.range(row) {
                let column = csr.col[k] as usize;
                let norm2: f32 = csr.val[k * size..][..size].iter().map(|v| v * v).sum();
                flags[k - begin] = column != row && norm2 > bound * norms[column];
            }
        }
    });
    flags
}

/// A node joins an aggregate as it grows if this part of its strong couplings lead into it.
const INTO: f32 = 0.3;

/// Aggregates the owned nodes along strong couplings. Not collective.
///
/// An aggregate is a node and its neighbours; while it has fewer than `wanted` nodes it grows, twice at most.
pub(super) fn aggregate(csr: &Csr, block: usize, strong: &[bool], wanted: usize) -> Aggregates {
    let n = csr.n_rows();
    let neighbours = |row: usize| {
        let range = csr.range(row);
        csr.col[range.clone()]
            .iter()
            .zip(&strong[range])
            .filter(|(c, s)| **s && **c < csr.n_owned_cols)
            .map(|(c, _)| *c as usize)
    };
    let mut of = vec![NONE; n];
    let mut n_aggregates = 0u32;
    let mut members: Vec<usize> = Vec::new();
    let mut count = vec![0u16; n];
    let mut touched: Vec<usize> = Vec::new();
    for root in 0..n {
        if of[root] != NONE || !csr.range(root).any(|k| strong[k]) {
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
                let degree = csr.range(j).filter(|&k| strong[k]).count();
                if of[j] == NONE && f32::from(count[j]) >= INTO * degree as f32 {
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
    join(csr, block, strong, &mut of);
    for root in 0..n {
        if of[root] != NONE || !csr.range(root).any(|k| strong[k]) {
            continue;
        }
        of[root] = n_aggregates;
        for j in neighbours(root) {
            if of[j] == NONE {
                of[j] = n_aggregates;
            }
        }
        n_aggregates += 1;
    }
    Aggregates { of, n: n_aggregates as usize }
}

/// Nodes that are left over join the neighbouring aggregate to which they couple most.
fn join(csr: &Csr, block: usize, strong: &[bool], of: &mut [u32]) {
    let size = block * block;
    let mut joined: Vec<(u32, u32)> = Vec::new();
    let mut found: Vec<(u32, f32)> = Vec::new();
    for row in 0..csr.n_rows() {
        if of[row] != NONE {
            continue;
        }
        found.clear();
        for k in csr.range(row) {
            if !strong[k] || csr.col[k] >= csr.n_owned_cols {
                continue;
            }
            let aggregate = of[csr.col[k] as usize];
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
        for &(aggregate, weight) in &found {
            if best.is_none_or(|(_, w)| weight > w) {
                best = Some((aggregate, weight));
            }
        }
        if let Some((aggregate, _)) = best {
            joined.push((row as u32, aggregate));
        }
    }
    joined.into_iter().for_each(|(row, aggregate)| of[row as usize] = aggregate);
}
