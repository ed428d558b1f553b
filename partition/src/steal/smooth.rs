//! Smoothing of the parts after stealing, in which moving away from home has a price.
//!
//! Imports `coarsen`, `level`, `refine`. Start at [`smooth`]; [`Clusters`] are for parts that should change their shape.

use cluster::Comm;

use super::Job;
use crate::coarsen::coarsen;
use crate::level::Level;
use crate::refine::{self, Parts, Ties};

/// What it costs to move a vertex of mean bytes away from its rank, in mean edges: little, and more if too much
/// moves then.
pub(crate) const PRICES: [f64; 2] = [0.05, 0.5];

/// About so many clusters a part has on the coarsest level.
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
    let tie = Tie::new(job, price);
    refine(job, job.level, owner, &tie.homes(job.bytes), tie.unit, max_imbalance);
    owner.truncate(job.level.n_owned());
}

/// Contractions of the graph, in which all vertices of a cluster have one owner and one rank.
///
/// Clusters that move as wholes change the shape of a part, or go back to where they are, where moves of single
/// vertices would have to go uphill first.
///
/// # Source
/// K. Schloegel, G. Karypis, V. Kumar, "Multilevel diffusion schemes for repartitioning of adaptive meshes",
/// J. Parallel Distrib. Comput. 47 (1997): contraction within parts and refinement on the way back.
pub(crate) struct Clusters<'a> {
    job: &'a Job<'a>,
    /// The levels above the finest, coarser and coarser.
    coarse: Vec<Level>,
    /// For each of them: the cluster of each local vertex of the level below, and its vertices' bytes.
    of_below: Vec<Vec<u32>>,
    bytes: Vec<Vec<i64>>,
    /// Of the coarsest level's vertices.
    owner: Vec<u32>,
}

impl Clusters<'_> {
    /// Contracts within the parts that `owner` tells for each owned vertex. Collective.
    pub(crate) fn new<'a>(job: &'a Job<'a>, owner: &[u32]) -> Clusters<'a> {
        let _span = tracing::debug_span!("clusters of parts").entered();
        let comm = job.comm;
        let total = job.level.total_weight(comm);
        let target = CLUSTERS * comm.size() as u64;
        let (mut coarse, mut of_below, mut bytes) = (Vec::<Level>::new(), Vec::new(), Vec::<Vec<i64>>::new());
        let mut owner = owner.to_vec();
        loop {
            let fine = coarse.last().unwrap_or(job.level);
            if fine.n_global() <= target {
                break;
            }
            let (cluster_of, next) = coarsen(comm, fine, &owner, target, total);
            if next.n_global() as f64 > 0.95 * fine.n_global() as f64 {
                break;
            }
            let (mut owners, mut sums) = (vec![0; next.n_owned()], vec![0; next.n_owned()]);
            let below = bytes.last().map_or(job.bytes, |b| b);
            for ((&c, &o), &b) in cluster_of.iter().zip(&owner).zip(below) {
                owners[c as usize] = o;
                sums[c as usize] += b;
            }
            owner = owners;
            bytes.push(sums);
            of_below.push(cluster_of);
            coarse.push(next);
        }
        Clusters { job, coarse, of_below, bytes, owner }
    }

    /// Refines the owners from the coarsest level down to vertices: one for each of this rank's. Collective.
    pub(crate) fn refined(&self, max_imbalance: f64, price: f64) -> Vec<u32> {
        let _span = tracing::debug_span!("reshape parts").entered();
        let job = self.job;
        let tie = Tie::new(job, price);
        let total = job.level.total_weight(job.comm);
        let mut owner = self.owner.clone();
        for (k, level) in self.coarse.iter().enumerate().rev() {
            let most = max_imbalance + room(job.comm, level, total);
            refine(job, level, &mut owner, &tie.homes(&self.bytes[k]), tie.unit, most);
            owner = self.of_below[k].iter().map(|&c| owner[c as usize]).collect();
        }
        refine(job, job.level, &mut owner, &tie.homes(job.bytes), tie.unit, max_imbalance);
        owner.truncate(job.level.n_owned());
        owner
    }
}

/// What parts may weigh more while clusters move, in means: half of the heaviest cluster. Collective.
fn room(comm: &Comm, level: &Level, total: i64) -> f64 {
    let heaviest = comm.max((0..level.n_owned()).map(|v| level.vertex_weight(v)).max().unwrap_or(0));
    0.5 * heaviest as f64 * comm.size() as f64 / total.max(1) as f64
}

/// Refines the owners on a level; `owner` has those of ghosts afterwards. Collective.
fn refine(job: &Job, level: &Level, owner: &mut Vec<u32>, homes: &[i64], unit: i64, max_imbalance: f64) {
    let comm = job.comm;
    owner.resize(level.map.n_local(), 0);
    level.halo.forward(owner, 1);
    let mut parts = Parts::new(comm, level, owner, &vec![0; comm.size()], max_imbalance);
    let ties = Ties { homes, unit, ..Ties::NONE };
    refine::refine(comm, level, owner, ties, &mut parts, job.options.smooth_passes);
}

/// How strongly bytes are joined to their rank.
struct Tie {
    /// In how many parts an edge of weight 1 is counted.
    unit: i64,
    per_byte: f64,
}

impl Tie {
    /// At a price for the bytes of a mean vertex, in mean edges. Collective.
    fn new(job: &Job, price: f64) -> Tie {
        let Job { comm, level, bytes, .. } = *job;
        let mut sums = [level.adj.len() as i64, 0, bytes.iter().sum(), level.n_owned() as i64];
        sums[1] = (0..level.adj.len()).map(|k| level.edge_weight(k)).sum();
        comm.sum_slice(&mut sums);
        let mean = |total: i64, many: i64| (total as f64 / many.max(1) as f64).max(1e-300);
        let (mean_edge, mean_bytes) = (mean(sums[1], sums[0]), mean(sums[2], sums[3]));
        // Edge weights are whole numbers: fine prices need a finer unit.
        let unit = if mean_edge < 64.0 { 64 } else { 1 };
        Tie { unit, per_byte: price * mean_edge * unit as f64 / mean_bytes }
    }

    fn homes(&self, bytes: &[i64]) -> Vec<i64> {
        bytes.iter().map(|&b| (self.per_byte * b as f64).round() as i64).collect()
    }
}
