//! One level of contraction: a graph in local numbering, its ghosts and their exchange.
//!
//! Imports `graph`. Start at [`Level`].

use cluster::{Comm, Halo, IndexMap};

use crate::graph::Graph;

/// A distributed graph by local numbers: owned vertices first, ghosts after. Only owned ones have rows.
pub(crate) struct Level {
    pub(crate) ptr: Vec<usize>,
    pub(crate) adj: Vec<u32>,
    /// Empty when all are 1.
    pub(crate) edge_weights: Vec<i64>,
    /// Of owned vertices; empty when all are 1.
    pub(crate) vertex_weights: Vec<i64>,
    pub(crate) map: IndexMap,
    pub(crate) halo: Halo,
}

impl Level {
    /// The finest level. Collective.
    pub(crate) fn from_graph(comm: &Comm, graph: &Graph) -> Level {
        let (offset, n) = (graph.offset(), graph.n_owned());
        let is_owned = |g: u64| g.wrapping_sub(offset) < n as u64;
        let mut ghosts: Vec<u64> = graph.adj().iter().copied().filter(|&g| !is_owned(g)).collect();
        ghosts.sort_unstable();
        ghosts.dedup();
        let owners: Vec<u32> = ghosts.iter().map(|&g| graph.rank_of(g)).collect();
        let local = |&g: &u64| {
            if is_owned(g) { (g - offset) as u32 } else { (n + ghosts.partition_point(|&x| x < g)) as u32 }
        };
        let adj = graph.adj().iter().map(local).collect();
        let map = IndexMap::from_parts(n, offset, graph.n_global(), ghosts, owners);
        Level {
            ptr: graph.ptr().to_vec(),
            adj,
            edge_weights: graph.edge_weights().iter().map(|&w| i64::from(w)).collect(),
            vertex_weights: graph.vertex_weights().iter().map(|&w| i64::from(w)).collect(),
            halo: Halo::new(comm, &map),
            map,
        }
    }

    pub(crate) fn n_owned(&self) -> usize {
        self.map.n_owned()
    }

    pub(crate) fn n_global(&self) -> u64 {
        self.map.n_global()
    }

    pub(crate) fn edge_weight(&self, k: usize) -> i64 {
        if self.edge_weights.is_empty() { 1 } else { self.edge_weights[k] }
    }

    pub(crate) fn vertex_weight(&self, v: usize) -> i64 {
        if self.vertex_weights.is_empty() { 1 } else { self.vertex_weights[v] }
    }

    /// An owned vertex's neighbours and the weights of the edges to them.
    pub(crate) fn row(&self, v: usize) -> impl Iterator<Item = (usize, i64)> {
        (self.ptr[v]..self.ptr[v + 1]).map(|k| (self.adj[k] as usize, self.edge_weight(k)))
    }

    /// The weight of all vertices on all ranks. Collective.
    pub(crate) fn total_weight(&self, comm: &Comm) -> i64 {
        // A rank without vertices cannot tell whether there are weights: all take part.
        comm.sum((0..self.n_owned()).map(|v| self.vertex_weight(v)).sum())
    }
}
