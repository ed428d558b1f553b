//! Distributed graphs in, an owner for each vertex out. Knows no mesh.
//!
//! May import `cluster` and METIS, nothing else of femdd. Start reading at [`partition()`]: it contracts
//! the graph on each rank (`coarsen`), gives the small graph of clusters to METIS on one rank
//! (`kway`), and refines on the way back (`refine`). [`mod@hilbert`] and [`sort`] bring vertices into an
//! order in which a rank's share is compact, before there is a graph. [`improve`] refines where only what
//! lies near the interfaces is known as a graph. [`rebalance`] mends a partition whose weights have changed:
//! light ranks steal from heavy ones. [`quality()`] measures.
#![deny(missing_docs)]

mod coarsen;
mod error;
mod graph;
pub mod hilbert;
mod interface;
mod kway;
mod level;
mod quality;
mod refine;
mod repair;
pub mod sort;
mod steal;

pub use error::Error;
pub use graph::{Graph, check_graph};
pub use interface::{Improved, distances, improve};
pub use quality::{Quality, check_partition, quality};
pub use steal::{Cost, Fallback, Method, Rebalanced, Reference, Report, StealOptions, rebalance};

use cluster::Comm;

use coarsen::coarsen;
use level::Level;
use refine::Ties;

/// What a caller may choose about a partition.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most a part may weigh, over the mean. A vertex heavier than the slack can exceed it.
    pub max_imbalance: f64,
    /// Contract until about this many clusters remain on all ranks together; `None` for
    /// `max(20_000, 200 * n_parts)`. Never fewer than 20 a part.
    pub target_clusters: Option<usize>,
    /// The most refinement passes at each level of contraction.
    pub refine_passes: usize,
    /// METIS's seed. The same seed on the same number of ranks gives the same partition.
    pub seed: i32,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_imbalance: 1.03, target_clusters: None, refine_passes: 6, seed: 1 }
    }
}

impl Options {
    /// About how many clusters METIS is given for `n_parts` parts.
    pub fn target(&self, n_parts: usize) -> u64 {
        let wanted = self.target_clusters.unwrap_or(20_000.max(200 * n_parts));
        wanted.max(20 * n_parts) as u64
    }
}

/// An owner for each vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The part of each vertex this rank holds, in the graph's order.
    pub owner: Vec<u32>,
    /// How it was found: `trivial`, `metis-recursive`, `metis-kway`, or `curve` (contiguous blocks of
    /// the given order, where METIS failed or there are no edges); `+contraction` when METIS saw
    /// clusters.
    pub method: String,
    /// How many vertices METIS was given: clusters, where it saw those. 0 where it was not asked.
    pub n_clusters: u64,
}

/// Splits a graph into `n_parts` parts of nearly equal weight that cut few edges.
///
/// Collective; all ranks pass the same `n_parts` and `options`. The number of parts does not depend on
/// the number of ranks. Vertices should come in an order in which neighbours are near, each rank's
/// range compact (along a Hilbert curve): contraction never crosses ranks.
///
/// With at least as many vertices as parts no part is empty; with fewer, each vertex has a part of its
/// own. The result is the same each time for one number of ranks.
///
/// Where METIS fails, the parts are contiguous blocks of the given order, refined as ever.
///
/// # Errors
/// [`Error::NoParts`], [`Error::TooManyParts`], and what [`check_graph`] finds in a graph that is not
/// symmetric. Every rank gets the same error.
///
/// # Source
/// G. Karypis, V. Kumar, "A fast and high quality multilevel scheme for partitioning irregular graphs",
/// SIAM J. Sci. Comput. 20 (1998); boundary moves in alternating directions after the same authors'
/// "Parallel multilevel k-way partitioning scheme for irregular graphs", SIAM Review 41 (1999).
pub fn partition(comm: &Comm, graph: &Graph, n_parts: usize, options: &Options) -> Result<Partition, Error> {
    let _span = tracing::debug_span!("partition graph").entered();
    if n_parts == 0 {
        return Err(Error::NoParts);
    }
    if n_parts > i32::MAX as usize {
        return Err(Error::TooManyParts { n_parts: n_parts as u64 });
    }
    if n_parts == 1 {
        return Ok(Partition { owner: vec![0; graph.n_owned()], method: "trivial".into(), n_clusters: 0 });
    }
    let n_global = graph.n_global();
    if n_global <= n_parts as u64 {
        let owner = (0..graph.n_owned() as u64).map(|v| (graph.offset() + v) as u32).collect();
        return Ok(Partition { owner, method: "trivial".into(), n_clusters: 0 });
    }
    if !graph.looks_symmetric(comm) {
        check_graph(comm, graph)?;
    }

    let target = options.target(n_parts);
    let mut levels = vec![Level::from_graph(comm, graph)];
    // For each level but the last: the cluster of each of its local vertices in the next one.
    let mut clusters: Vec<Vec<u32>> = Vec::new();
    let total = levels[0].total_weight(comm);
    while let Some(fine) = levels.last() {
        if fine.n_global() <= target {
            break;
        }
        let (cluster_of, coarse) = coarsen(comm, fine, &[], target, total);
        // A graph that no longer shrinks (isolated vertices, stars) goes to METIS as it is.
        if coarse.n_global() as f64 > 0.95 * fine.n_global() as f64 {
            break;
        }
        clusters.push(cluster_of);
        levels.push(coarse);
    }

    let contracted = levels.len() > 1;
    let mut level = levels.pop().expect("at least the graph itself");
    let n_clusters = level.n_global();
    let (mut owner, mut method) = kway::split(comm, &level, n_parts, options);
    if contracted {
        method.push_str("+contraction");
    }
    let mut parts = refine::Parts::new(comm, &level, &owner, &vec![0; n_parts], options.max_imbalance);
    refine::refine(comm, &level, &mut owner, Ties::NONE, &mut parts, options.refine_passes);
    while let (Some(fine), Some(cluster_of)) = (levels.pop(), clusters.pop()) {
        owner = cluster_of.iter().map(|&c| owner[c as usize]).collect();
        level = fine;
        refine::refine(comm, &level, &mut owner, Ties::NONE, &mut parts, options.refine_passes);
    }
    owner.truncate(level.n_owned());
    Ok(Partition { owner, method, n_clusters })
}
