//! Refining a partition that was found on clusters, on a graph of what lies near the interfaces only.
//!
//! Imports `graph`, `level`, `refine`. Start at [`distances`], which says what lies near, and
//! [`improve`]. Who has clusters and the means to find the edges of a few vertices needs no graph of all.

use cluster::Comm;

use crate::Options;
use crate::graph::Graph;
use crate::level::Level;
use crate::refine::{self, Parts, Ties};

/// How many edges away the nearest vertex is that has a neighbour in another part, at most `most`: 0 for
/// those vertices themselves. `owner` has one part per owned vertex. Collective.
///
/// # Panics
/// When there is not one owner a vertex.
pub fn distances(comm: &Comm, graph: &Graph, owner: &[u32], most: u32) -> Vec<u32> {
    assert_eq!(owner.len(), graph.n_owned(), "one owner per vertex");
    let level = Level::from_graph(comm, graph);
    let n = level.n_owned();
    let mut owner = owner.to_vec();
    owner.resize(level.map.n_local(), 0);
    level.halo.forward(&mut owner, 1);
    let mut distance = vec![most; owner.len()];
    for v in 0..n {
        if level.row(v).any(|(u, _)| owner[u] != owner[v]) {
            distance[v] = 0;
        }
    }
    for step in 1..most {
        level.halo.forward(&mut distance, 1);
        for v in 0..n {
            if distance[v] == most && level.row(v).any(|(u, _)| distance[u] == step - 1) {
                distance[v] = step;
            }
        }
    }
    distance.truncate(n);
    distance
}

/// What a partition is like after [`improve`]. The same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Improved {
    /// The weight of the graph's edges between different parts, each counted once.
    pub edge_cut: u64,
    /// The weight of the heaviest part over the mean.
    pub imbalance: f64,
}

/// Moves vertices between parts while that cuts fewer edges, within the imbalance that `options` allow.
///
/// The graph may be a part of a larger one: `outside` is what each part weighs on all ranks beyond the
/// graph's vertices, and vertices with neighbours beyond it should be `fixed`. Collective.
///
/// # Panics
/// When there is not one owner and one mark a vertex.
pub fn improve(
    comm: &Comm,
    graph: &Graph,
    fixed: &[bool],
    owner: &mut Vec<u32>,
    outside: &[i64],
    options: &Options,
) -> Improved {
    let n = graph.n_owned();
    assert!(owner.len() == n && fixed.len() == n, "one owner and one mark per vertex");
    let level = Level::from_graph(comm, graph);
    owner.resize(level.map.n_local(), 0);
    level.halo.forward(owner, 1);
    let mut parts = Parts::new(comm, &level, owner, outside, options.max_imbalance);
    refine::refine(comm, &level, owner, Ties { fixed, ..Ties::NONE }, &mut parts, options.refine_passes);
    let cut: i64 = (0..n)
        .flat_map(|v| level.row(v).map(move |(u, w)| (v, u, w)))
        .filter(|&(v, u, _)| owner[v] != owner[u])
        .map(|(_, _, w)| w)
        .sum();
    owner.truncate(n);
    // Each edge was seen from both ends.
    Improved { edge_cut: comm.sum(cut as u64) / 2, imbalance: parts.imbalance() }
}
