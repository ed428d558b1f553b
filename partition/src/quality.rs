//! How good a partition is, measured without gathering the graph.
//!
//! Imports `graph`, `level`. Start at [`quality()`].

use cluster::{Buckets, Comm};

use crate::error::Error;
use crate::graph::Graph;
use crate::level::Level;

/// Measures of a partition. The same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// The weight of the heaviest part over the mean; 1 is perfect.
    pub imbalance: f64,
    /// The weight of the edges between different parts, each counted once.
    pub edge_cut: u64,
    /// The most parts that one part has edges to.
    pub max_neighbours: usize,
    /// The mean number of parts that a part has edges to.
    pub mean_neighbours: f64,
    /// The number of parts without vertices.
    pub empty_parts: usize,
    /// The number of parts that consist of more than one connected piece.
    pub disconnected_parts: usize,
    /// The most connected pieces that one part consists of.
    pub max_components: usize,
}

/// Measures a partition. `owner` has one part per owned vertex.
///
/// Collective. Communication and memory grow with the boundary between ranks and with `n_parts`.
///
/// # Panics
/// When `owner` does not pass [`check_partition`] in length or range.
///
/// # Source
/// Components: union-find on each rank, then least labels handed between ranks until none changes.
pub fn quality(comm: &Comm, graph: &Graph, owner: &[u32], n_parts: usize) -> Quality {
    let _span = tracing::debug_span!("quality").entered();
    assert_eq!(owner.len(), graph.n_owned(), "one owner per vertex");
    let level = Level::from_graph(comm, graph);
    let mut owner = owner.to_vec();
    owner.resize(level.map.n_local(), 0);
    level.halo.forward(&mut owner, 1);

    let mut weights = vec![0i64; n_parts];
    let mut cut = 0;
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for v in 0..level.n_owned() {
        weights[owner[v] as usize] += level.vertex_weight(v);
        for (u, w) in level.row(v) {
            if owner[u] != owner[v] {
                cut += w;
                if pairs.last() != Some(&(owner[v], owner[u])) {
                    pairs.push((owner[v], owner[u]));
                }
            }
        }
        // Keeps the list short on graphs of which most is boundary.
        if pairs.len() > 1 << 20 {
            pairs.sort_unstable();
            pairs.dedup();
        }
    }
    comm.sum_slice(&mut weights);
    let heaviest = weights.iter().copied().max().unwrap_or(0) as f64;
    let total = weights.iter().sum::<i64>() as f64;
    let neighbours = neighbour_counts(comm, pairs, n_parts);
    let components = components(comm, &level, &owner, n_parts);
    Quality {
        imbalance: if total > 0.0 { heaviest * n_parts as f64 / total } else { 1.0 },
        // Each edge was seen from both ends.
        edge_cut: comm.sum(cut as u64) / 2,
        max_neighbours: neighbours.iter().copied().max().unwrap_or(0) as usize,
        mean_neighbours: neighbours.iter().sum::<u64>() as f64 / n_parts.max(1) as f64,
        empty_parts: components.iter().filter(|&&c| c == 0).count(),
        disconnected_parts: components.iter().filter(|&&c| c > 1).count(),
        max_components: components.iter().copied().max().unwrap_or(0) as usize,
    }
}

/// The number of other parts that each part touches.
fn neighbour_counts(comm: &Comm, mut pairs: Vec<(u32, u32)>, n_parts: usize) -> Vec<u64> {
    pairs.sort_unstable();
    pairs.dedup();
    // Part p is counted on rank p % size, where doubles from different ranks meet.
    let size = comm.size() as u32;
    let sent = pairs.into_iter().map(|(p, q)| (p % size, [p, q])).collect();
    let mut met = comm.exchange(&Buckets::from_pairs(sent)).data;
    met.sort_unstable();
    met.dedup();
    let mut counts = vec![0u64; n_parts];
    for [p, _] in met {
        counts[p as usize] += 1;
    }
    comm.sum_slice(&mut counts);
    counts
}

fn root(parent: &mut [u32], mut v: u32) -> u32 {
    while parent[v as usize] != v {
        parent[v as usize] = parent[parent[v as usize] as usize];
        v = parent[v as usize];
    }
    v
}

/// The number of connected pieces of each part.
fn components(comm: &Comm, level: &Level, owner: &[u32], n_parts: usize) -> Vec<u64> {
    let n = level.n_owned();
    let mut parent: Vec<u32> = (0..n as u32).collect();
    for v in 0..n {
        for (u, _) in level.row(v) {
            if u < v && owner[u] == owner[v] {
                let (a, b) = (root(&mut parent, u as u32), root(&mut parent, v as u32));
                // The root is the least vertex of its piece.
                parent[a.max(b) as usize] = a.min(b);
            }
        }
    }
    // The least global vertex known to belong to a piece, stored at its root.
    let offset = level.map.offset();
    let mut least: Vec<u64> = (0..n as u64).map(|v| offset + v).collect();
    let mut labels = vec![0u64; level.map.n_local()];
    loop {
        for &v in &level.halo.shared().data {
            labels[v as usize] = least[root(&mut parent, v) as usize];
        }
        level.halo.forward(&mut labels, 1);
        let mut changed = false;
        for &v in &level.halo.shared().data {
            let r = root(&mut parent, v) as usize;
            for (u, _) in level.row(v as usize) {
                if u >= n && owner[u] == owner[v as usize] && labels[u] < least[r] {
                    least[r] = labels[u];
                    changed = true;
                }
            }
        }
        if !comm.any(changed) {
            break;
        }
    }
    // A piece over several ranks is counted by the one that holds its least vertex.
    let mut counts = vec![0u64; n_parts];
    for v in 0..n {
        if parent[v] == v as u32 && least[v] == offset + v as u64 {
            counts[owner[v] as usize] += 1;
        }
    }
    comm.sum_slice(&mut counts);
    counts
}

/// Verifies a partition: one part of `n_parts` for each owned vertex, and no part empty when there are
/// at least as many vertices as parts. Collective.
///
/// # Errors
/// [`Error::Length`], [`Error::Owner`] or [`Error::EmptyPart`], the same on every rank.
pub fn check_partition(comm: &Comm, graph: &Graph, owner: &[u32], n_parts: usize) -> Result<(), Error> {
    let (found, expected) = (owner.len() as u64, graph.n_owned() as u64);
    let mine = if found == expected {
        match owner.iter().position(|&p| p as usize >= n_parts) {
            None => Ok(()),
            Some(v) => Err(Error::Owner {
                vertex: graph.offset() + v as u64,
                owner: owner[v],
                n_parts: n_parts as u64,
            }),
        }
    } else {
        Err(Error::Length { rank: comm.rank(), array: "owner".into(), found, expected })
    };
    comm.agree(mine)?;
    let mut counts = vec![0u64; n_parts];
    for &p in owner {
        counts[p as usize] += 1;
    }
    comm.sum_slice(&mut counts);
    let (n_global, n_parts) = (graph.n_global(), n_parts as u64);
    match counts.iter().position(|&c| c == 0) {
        Some(part) if n_global >= n_parts => Err(Error::EmptyPart { part: part as u64, n_global, n_parts }),
        _ => Ok(()),
    }
}
