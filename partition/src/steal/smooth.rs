//! Smoothing of the parts after stealing, in which moving away from home has a price.
//!
//! Imports `coarsen`, `level`, `refine`. Start at [`smooth`]; [`reshape`] is for parts that are far from compact.

use cluster::Comm;

use super::Job;
use crate::coarsen::coarsen;
use crate::level::Level;
use crate::refine::{self, Parts, Ties};

/// What it costs to move a vertex of mean bytes away from its rank, in mean edges: little, and more if too much
/// moves then.
pub(crate) const PRICES: [f64; 2] = [0.05, 0.5];

/// The same where METIS's parts are drawn back to the ranks that have their vertices.
pub(crate) const PRICES_OF_METIS: [f64; 2] = [0.5, 1.0];

/// About so many clusters a part has where [`reshape`] begins.
const CLUSTERS: u64 = 60;

/// Refines the owners near the interfaces between parts, for cut and balance.
///
/// Every vertex is joined to the part of the rank that has it: the cut counts the bytes that move. `owner` has
/// one part for each owned vertex. Collective.
///
/// # Source
/// U. V. Catalyurek, E. G. Boman, K. D. Devine, D. Bozdag, R. Heaphy, L. A. Riesen, "A repartitioning
/// hypergraph model for dynamic load balancing", J. Parallel Distrib. Comput. 69 (2009): the edges to home.
pub(crate) fn smooth(job: &Job, owner: &mut Vec<u32>, max_imbalance: f64, price: f64) {
    let _span = tracing::debug_span!("smooth parts").entered();
    let (homes, unit) = homes(job, price);
    let ties = Ties { homes: &homes, unit, ..Ties::NONE };
    refine(job, job.level, owner, ties, max_imbalance);
    owner.truncate(job.level.n_owned());
}

/// Refines the owners from clusters down to vertices: clusters of one part and one rank move as wholes first, so
/// that parts change their shape where moves of single vertices would have to go uphill. Collective.
///
/// # Source
/// K. Schloegel, G. Karypis, V. Kumar, "Multilevel diffusion schemes for repartitioning of adaptive meshes",
/// J. Parallel Distrib. Comput. 47 (1997): contraction within parts and refinement on the way back.
pub(crate) fn reshape(job: &Job, owner: &mut Vec<u32>, max_imbalance: f64, price: f64) {
    let _span = tracing::debug_span!("reshape parts").entered();
    let Job { comm, level: finest, .. } = *job;
    let total = finest.total_weight(comm);
    let target = CLUSTERS * comm.size() as u64;
    let (first, unit) = homes(job, price);
    let mut homes = vec![first];
    let mut coarse: Vec<Level> = Vec::new();
    let mut clusters: Vec<Vec<u32>> = Vec::new();
    loop {
        let fine = coarse.last().unwrap_or(finest);
        if fine.n_global() <= target {
            break;
        }
        let (cluster_of, next) = coarsen(comm, fine, owner, target, total);
        if next.n_global() as f64 > 0.95 * fine.n_global() as f64 {
            break;
        }
        let n = next.n_owned();
        let (mut of_clusters, mut ties) = (vec![0; n], vec![0; n]);
        let of_fine = homes.last().expect("those of the vertices");
        for (v, &tie) in of_fine.iter().enumerate() {
            let c = cluster_of[v] as usize;
            of_clusters[c] = owner[v];
            ties[c] += tie;
        }
        *owner = of_clusters;
        homes.push(ties);
        clusters.push(cluster_of);
        coarse.push(next);
    }
    loop {
        let level = coarse.last().unwrap_or(finest);
        let ties = Ties { homes: homes.last().expect("as many as levels"), unit, ..Ties::NONE };
        refine(job, level, owner, ties, max_imbalance + room(comm, level, total, coarse.is_empty()));
        let Some(cluster_of) = clusters.pop() else { break };
        *owner = cluster_of.iter().map(|&c| owner[c as usize]).collect();
        coarse.pop();
        homes.pop();
    }
    owner.truncate(finest.n_owned());
}

/// What parts may weigh more while clusters move, in means: half of the heaviest one; nothing on the finest level.
/// Collective.
fn room(comm: &Comm, level: &Level, total: i64, finest: bool) -> f64 {
    let heaviest = comm.max((0..level.n_owned()).map(|v| level.vertex_weight(v)).max().unwrap_or(0));
    if finest { 0.0 } else { 0.5 * heaviest as f64 * comm.size() as f64 / total.max(1) as f64 }
}

/// Refines the owners on a level; `owner` has those of ghosts afterwards. Collective.
fn refine(job: &Job, level: &Level, owner: &mut Vec<u32>, ties: Ties, max_imbalance: f64) {
    let comm = job.comm;
    owner.resize(level.map.n_local(), 0);
    level.halo.forward(owner, 1);
    let mut parts = Parts::new(comm, level, owner, &vec![0; comm.size()], max_imbalance);
    refine::refine(comm, level, owner, ties, &mut parts, job.options.smooth_passes);
}

/// How strongly each vertex is joined to its rank, and in how many parts an edge is counted. Collective.
fn homes(job: &Job, price: f64) -> (Vec<i64>, i64) {
    let Job { comm, level, bytes, .. } = *job;
    let n = level.n_owned();
    let mut sums = [level.adj.len() as i64, 0, bytes.iter().sum(), n as i64];
    sums[1] = (0..level.adj.len()).map(|k| level.edge_weight(k)).sum();
    comm.sum_slice(&mut sums);
    let mean = |total: i64, many: i64| (total as f64 / many.max(1) as f64).max(1e-300);
    let (mean_edge, mean_bytes) = (mean(sums[1], sums[0]), mean(sums[2], sums[3]));
    // Edge weights are whole numbers: fine prices need a finer unit.
    let unit = if mean_edge < 64.0 { 64 } else { 1 };
    let stays = |v: usize| (price * mean_edge * unit as f64 * bytes[v] as f64 / mean_bytes).round() as i64;
    ((0..n).map(stays).collect(), unit)
}
