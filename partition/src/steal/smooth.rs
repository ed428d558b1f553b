//! Light smoothing of the interfaces after stealing, in which moving away from home has a price.
//!
//! Imports `level`, `refine`. Start at [`smooth`].

use cluster::{Buckets, Halo, IndexMap};

use super::Job;
use crate::level::Level;
use crate::refine::{self, Parts};

/// What it costs to move a vertex of mean bytes away from its rank, in mean edges: little, and more if too much
/// moves then.
pub(crate) const PRICES: [f64; 2] = [0.05, 0.5];

/// Refines the owners near the interfaces between parts, for cut and balance.
///
/// Each rank gets one vertex more, which stays with it and is joined to all that the graph gave this rank: the
/// cut of the larger graph counts the bytes that move, so that refinement need not know of them. `owner` has
/// one part for each owned vertex. Collective.
///
/// # Source
/// U. V. Catalyurek, E. G. Boman, K. D. Devine, D. Bozdag, R. Heaphy, L. A. Riesen, "A repartitioning
/// hypergraph model for dynamic load balancing", J. Parallel Distrib. Comput. 69 (2009): the vertex and its
/// edges.
pub(crate) fn smooth(job: &Job, owner: &mut Vec<u32>, max_imbalance: f64, price: f64) {
    let _span = tracing::debug_span!("smooth parts").entered();
    let (comm, n) = (job.comm, job.level.n_owned());
    let larger = with_homes(job, price);
    owner.truncate(n);
    owner.push(comm.rank() as u32);
    owner.resize(larger.map.n_local(), 0);
    larger.halo.forward(owner, 1);
    let mut fixed = vec![false; n + 1];
    fixed[n] = true;
    let mut parts = Parts::new(comm, &larger, owner, &vec![0; comm.size()], max_imbalance);
    refine::refine(comm, &larger, owner, &fixed, &mut parts, job.options.smooth_passes);
    owner.truncate(n);
}

/// The level with a vertex for the home on each rank, behind its own.
fn with_homes(job: &Job, price: f64) -> Level {
    let Job { comm, graph, level, bytes, .. } = *job;
    let n = level.n_owned();
    let mut sums = [level.adj.len() as i64, 0, bytes.iter().sum(), n as i64];
    sums[1] = (0..level.adj.len()).map(|k| level.edge_weight(k)).sum();
    comm.sum_slice(&mut sums);
    let mean = |total: i64, many: i64| (total as f64 / many.max(1) as f64).max(1e-300);
    let (mean_edge, mean_bytes) = (mean(sums[1], sums[0]), mean(sums[2], sums[3]));
    // Edge weights are whole numbers: fine prices need a finer unit.
    let unit = if mean_edge < 64.0 { 64 } else { 1 };
    let stays = |v: usize| (price * mean_edge * unit as f64 * bytes[v] as f64 / mean_bytes).round() as i64;

    let home = n as u32;
    let (mut ptr, mut adj, mut edge_weights) = (vec![0], Vec::new(), Vec::new());
    for v in 0..n {
        for (u, w) in level.row(v) {
            adj.push(if u < n { u as u32 } else { u as u32 + 1 });
            edge_weights.push(w * unit);
        }
        adj.push(home);
        edge_weights.push(stays(v));
        ptr.push(adj.len());
    }
    adj.extend(0..n as u32);
    edge_weights.extend((0..n).map(stays));
    ptr.push(adj.len());
    let vertex_weights = (0..n).map(|v| level.vertex_weight(v)).chain([0]).collect();

    // Numbers move up by one for each rank before.
    let rank = comm.rank() as u64;
    let ghosts = level.map.ghosts().iter().map(|&g| g + u64::from(graph.rank_of(g))).collect();
    let owners = level.map.ghost_owners().to_vec();
    let n_global = level.n_global() + comm.size() as u64;
    let map = IndexMap::from_parts(n + 1, level.map.offset() + rank, n_global, ghosts, owners);
    let shared: Buckets<u32> = level.halo.shared().clone();
    let halo = Halo::with_shared(comm, &map, shared);
    Level { ptr, adj, edge_weights, vertex_weights, map, halo }
}
