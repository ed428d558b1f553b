//! Contraction: clusters of up to four vertices joined by heavy edges become vertices of the next level.
//!
//! Imports `level`. Start at [`coarsen`]. Clusters stay within a rank, so this needs no communication
//! but the new numbers of ghosts.

use cluster::{Comm, Halo, IndexMap};

use crate::level::Level;

const NONE: u32 = u32::MAX;

/// One step of contraction towards `target` vertices on all ranks. Collective.
///
/// Returns the cluster of each local vertex (ghosts too) as a local number of the coarse level, and that
/// level. `total` is the weight of all vertices. Where `owner` has a part for each vertex, those of a cluster
/// have one part; where it is empty, any may be joined.
pub(crate) fn coarsen(
    comm: &Comm,
    fine: &Level,
    owner: &[u32],
    target: u64,
    total: i64,
) -> (Vec<u32>, Level) {
    let _span = tracing::debug_span!("coarsen").entered();
    let ratio = fine.n_global() as f64 / target as f64;
    // Pairs make rounder clusters; while there is far to go, fours save half of the levels.
    let most = if ratio > 32.0 { 4 } else { 2 };
    // As METIS: no cluster so heavy that parts could not be balanced.
    let heaviest = ((1.5 * total as f64 / target as f64).ceil() as i64).max(1);
    let (mut cluster_of, n_coarse) = grow_clusters(fine, owner, most, heaviest);

    let offset = comm.exclusive_sum(n_coarse as u64);
    let n_global = comm.sum(n_coarse as u64);
    let n_fine = fine.n_owned();
    let mut numbers = vec![0u64; fine.map.n_local()];
    for (number, &c) in numbers.iter_mut().zip(&cluster_of) {
        *number = offset + u64::from(c);
    }
    fine.halo.forward(&mut numbers, 1);
    let mut pairs: Vec<(u64, u32)> =
        numbers[n_fine..].iter().copied().zip(fine.map.ghost_owners().iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let (ghosts, owners): (Vec<u64>, Vec<u32>) = pairs.into_iter().unzip();
    cluster_of
        .extend(numbers[n_fine..].iter().map(|&g| (n_coarse + ghosts.partition_point(|&x| x < g)) as u32));
    let map = IndexMap::from_parts(n_coarse, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    let (ptr, adj, edge_weights, vertex_weights) = contract(fine, &cluster_of, n_coarse, map.n_local());
    (cluster_of, Level { ptr, adj, edge_weights, vertex_weights, map, halo })
}

/// Heavy-edge matching extended to up to `most` vertices: from each free vertex in turn, take the free
/// neighbour that the cluster is most strongly joined to. A vertex left alone joins the cluster its
/// heaviest edge leads to. No cluster weighs more than `heaviest` unless it is a single vertex.
fn grow_clusters(level: &Level, owner: &[u32], most: usize, heaviest: i64) -> (Vec<u32>, usize) {
    let n = level.n_owned();
    let together = |a: usize, b: usize| owner.is_empty() || owner[a] == owner[b];
    let mut cluster_of = vec![NONE; n];
    let mut weights: Vec<i64> = Vec::with_capacity(n / 2);
    // Free neighbours of the growing cluster and how strongly they are joined to it. The list is short
    // (tens), so it is searched.
    let mut near: Vec<(u32, i64)> = Vec::new();
    for seed in 0..n {
        if cluster_of[seed] != NONE {
            continue;
        }
        let cluster = weights.len() as u32;
        let mut weight = level.vertex_weight(seed);
        let mut last = seed;
        near.clear();
        cluster_of[seed] = cluster;
        let mut size = 1;
        while size < most {
            for (u, w) in level.row(last) {
                if u < n
                    && cluster_of[u] == NONE
                    && weight + level.vertex_weight(u) <= heaviest
                    && together(u, seed)
                {
                    // The first row has no vertex twice; rows of vertices added later may.
                    let twin = if size > 1 { near.iter_mut().find(|x| x.0 == u as u32) } else { None };
                    match twin {
                        Some(x) => x.1 += w,
                        None => near.push((u as u32, w)),
                    }
                }
            }
            let fits = |x: &&(u32, i64)| weight + level.vertex_weight(x.0 as usize) <= heaviest;
            // The strongest; among equals the first along the curve.
            let best = near.iter().filter(fits).max_by_key(|x| (x.1, std::cmp::Reverse(x.0))).copied();
            let Some((u, _)) = best else { break };
            near.retain(|x| x.0 != u);
            last = u as usize;
            cluster_of[last] = cluster;
            weight += level.vertex_weight(last);
            size += 1;
        }
        if size == 1 {
            let fits = |&(u, _): &(usize, i64)| {
                u < n
                    && cluster_of[u] != NONE
                    && u != seed
                    && together(u, seed)
                    && weights[cluster_of[u] as usize] + weight <= heaviest
            };
            if let Some((u, _)) = level.row(seed).filter(fits).max_by_key(|x| x.1) {
                cluster_of[seed] = cluster_of[u];
                weights[cluster_of[u] as usize] += weight;
                continue;
            }
        }
        weights.push(weight);
    }
    (cluster_of, weights.len())
}

/// The rows of the coarse graph: parallel edges become one with the sum of their weights.
fn contract(
    fine: &Level,
    cluster_of: &[u32],
    n_coarse: usize,
    n_local: usize,
) -> (Vec<usize>, Vec<u32>, Vec<i64>, Vec<i64>) {
    let n = fine.n_owned();
    let mut begin = vec![0u32; n_coarse + 1];
    for &c in &cluster_of[..n] {
        begin[c as usize + 1] += 1;
    }
    for c in 0..n_coarse {
        begin[c + 1] += begin[c];
    }
    let mut next = begin.clone();
    let mut members = vec![0u32; n];
    for (v, &c) in cluster_of[..n].iter().enumerate() {
        members[next[c as usize] as usize] = v as u32;
        next[c as usize] += 1;
    }

    let mut ptr = Vec::with_capacity(n_coarse + 1);
    ptr.push(0);
    let mut adj: Vec<u32> = Vec::with_capacity(fine.adj.len() / 2);
    let mut edge_weights: Vec<i64> = Vec::with_capacity(fine.adj.len() / 2);
    let mut vertex_weights = Vec::with_capacity(n_coarse);
    // Where the row under construction has its edge to a vertex, if at or past the row's beginning.
    let mut place = vec![usize::MAX; n_local];
    for c in 0..n_coarse {
        let row = adj.len();
        let mut weight = 0;
        for &v in &members[begin[c] as usize..begin[c + 1] as usize] {
            weight += fine.vertex_weight(v as usize);
            for (u, w) in fine.row(v as usize) {
                let d = cluster_of[u];
                if d as usize == c {
                    continue;
                }
                let at = place[d as usize];
                if at != usize::MAX && at >= row {
                    edge_weights[at] += w;
                } else {
                    place[d as usize] = adj.len();
                    adj.push(d);
                    edge_weights.push(w);
                }
            }
        }
        vertex_weights.push(weight);
        ptr.push(adj.len());
    }
    (ptr, adj, edge_weights, vertex_weights)
}
