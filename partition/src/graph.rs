//! A graph dealt out to the ranks by rows, and the check of what it promises.
//!
//! Imports `cluster` only. Start at [`Graph`].

use cluster::{Buckets, Comm};

use crate::error::Error;

/// A graph whose vertices are numbered rank after rank: this rank holds a contiguous range and the
/// neighbour lists of its vertices, by global number.
///
/// It promises to be symmetric, without self loops or double edges; [`check_graph`] verifies that.
#[derive(Debug, Clone)]
pub struct Graph {
    /// First global vertex of each rank, and the number of vertices: one more entry than ranks.
    ranges: Vec<u64>,
    rank: usize,
    ptr: Vec<usize>,
    adj: Vec<u64>,
    edge_weights: Vec<i32>,
    vertex_weights: Vec<i32>,
}

impl Graph {
    /// A graph from each rank's neighbour lists, all weights 1. Collective.
    ///
    /// # Shapes
    /// The neighbours of owned vertex `v` are `adj[ptr[v]..ptr[v + 1]]`, global numbers in any order;
    /// `ptr` has one entry more than vertices (an empty one counts as no vertices).
    ///
    /// # Errors
    /// Offsets that decrease or do not fit `adj`, neighbours that do not exist, self loops. Every rank
    /// gets the same error.
    pub fn new(comm: &Comm, ptr: Vec<usize>, adj: Vec<u64>) -> Result<Graph, Error> {
        let ptr = if ptr.is_empty() { vec![0] } else { ptr };
        let mut ranges = vec![0u64];
        for n in comm.all_gather(ptr.len() as u64 - 1) {
            ranges.push(ranges[ranges.len() - 1] + n);
        }
        let (edge_weights, vertex_weights) = (Vec::new(), Vec::new());
        let graph = Graph { ranges, rank: comm.rank(), ptr, adj, edge_weights, vertex_weights };
        comm.agree(graph.check_structure())?;
        Ok(graph)
    }

    /// Gives each edge a weight of at least 1, in the order of `adj`; both ends list the same. Collective.
    ///
    /// # Errors
    /// Another length than `adj`, or a weight below 1.
    pub fn with_edge_weights(mut self, comm: &Comm, weights: Vec<i32>) -> Result<Graph, Error> {
        comm.agree(self.check_weights("edge", &weights, self.adj.len(), 1))?;
        self.edge_weights = weights;
        Ok(self)
    }

    /// Gives each owned vertex a weight of at least 0. Collective.
    ///
    /// # Errors
    /// Another length than the number of owned vertices, or a weight below 0.
    pub fn with_vertex_weights(mut self, comm: &Comm, weights: Vec<i32>) -> Result<Graph, Error> {
        comm.agree(self.check_weights("vertex", &weights, self.n_owned(), 0))?;
        self.vertex_weights = weights;
        Ok(self)
    }

    /// The number of vertices on this rank.
    pub fn n_owned(&self) -> usize {
        self.ptr.len() - 1
    }

    /// The number of vertices on all ranks.
    pub fn n_global(&self) -> u64 {
        self.ranges[self.ranges.len() - 1]
    }

    /// The global number of this rank's first vertex.
    pub fn offset(&self) -> u64 {
        self.ranges[self.rank]
    }

    /// First global vertex of each rank, and the number of vertices.
    pub fn ranges(&self) -> &[u64] {
        &self.ranges
    }

    /// The rank that holds a global vertex.
    pub fn rank_of(&self, vertex: u64) -> u32 {
        (self.ranges.partition_point(|&first| first <= vertex) - 1) as u32
    }

    /// Where each owned vertex's neighbours begin in [`Graph::adj`], and their number.
    pub fn ptr(&self) -> &[usize] {
        &self.ptr
    }

    /// All neighbours, by global number.
    pub fn adj(&self) -> &[u64] {
        &self.adj
    }

    /// The weight of each edge; empty when all are 1.
    pub fn edge_weights(&self) -> &[i32] {
        &self.edge_weights
    }

    /// The weight of each owned vertex; empty when all are 1.
    pub fn vertex_weights(&self) -> &[i32] {
        &self.vertex_weights
    }

    /// The neighbours of an owned vertex, by global number.
    pub fn neighbours(&self, v: usize) -> &[u64] {
        &self.adj[self.ptr[v]..self.ptr[v + 1]]
    }

    fn edge_weight(&self, k: usize) -> i32 {
        if self.edge_weights.is_empty() { 1 } else { self.edge_weights[k] }
    }

    fn check_structure(&self) -> Result<(), Error> {
        let (rank, offset, n_global) = (self.rank, self.offset(), self.n_global());
        if self.ptr[0] != 0 {
            return Err(Error::Offsets { rank, vertex: offset });
        }
        if let Some(v) = self.ptr.windows(2).position(|w| w[1] < w[0]) {
            return Err(Error::Offsets { rank, vertex: offset + v as u64 });
        }
        let expected = self.ptr[self.n_owned()] as u64;
        if self.adj.len() as u64 != expected {
            return Err(Error::Length { rank, array: "adj".into(), found: self.adj.len() as u64, expected });
        }
        let mut beyond = 0usize;
        for v in 0..self.n_owned() {
            let vertex = offset + v as u64;
            for &neighbour in self.neighbours(v) {
                if neighbour >= n_global {
                    return Err(Error::Range { vertex, neighbour, n_global });
                }
                if neighbour == vertex {
                    return Err(Error::SelfLoop { vertex });
                }
                beyond += usize::from(neighbour.wrapping_sub(offset) >= self.n_owned() as u64);
            }
        }
        let n = (self.n_owned() + beyond) as u64;
        if n >= u64::from(u32::MAX) { Err(Error::TooManyVertices { rank, n }) } else { Ok(()) }
    }

    fn check_weights(&self, what: &str, weights: &[i32], expected: usize, least: i32) -> Result<(), Error> {
        let rank = self.rank;
        if weights.len() != expected {
            let array = format!("{what} weights");
            let (found, expected) = (weights.len() as u64, expected as u64);
            return Err(Error::Length { rank, array, found, expected });
        }
        match weights.iter().position(|&w| w < least) {
            None => Ok(()),
            Some(k) => {
                let v = if what == "edge" { self.ptr.partition_point(|&p| p <= k) - 1 } else { k };
                let vertex = self.offset() + v as u64;
                Err(Error::Weight { vertex, what: what.into(), weight: weights[k] })
            }
        }
    }

    /// Whether the edges up and the edges down have one sum of hashes: true of every symmetric graph,
    /// and false of any other but for a chance of about 2^-64. One pass and one reduction. Collective.
    pub(crate) fn looks_symmetric(&self, comm: &Comm) -> bool {
        let mut sum = 0u64;
        for v in 0..self.n_owned() {
            let vertex = self.offset() + v as u64;
            for k in self.ptr[v]..self.ptr[v + 1] {
                let (low, high) = (vertex.min(self.adj[k]), vertex.max(self.adj[k]));
                let hash = mix(mix(low) ^ high.rotate_left(32) ^ ((self.edge_weight(k) as u64) << 16));
                sum = if vertex == low { sum.wrapping_add(hash) } else { sum.wrapping_sub(hash) };
            }
        }
        comm.sum(sum) == 0
    }
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of `x`.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One end of an edge between ranks: the vertex asked about, the one that lists it, the weight.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Half {
    here: u64,
    there: u64,
    weight: i64,
}

/// Verifies that every edge is listed once by each end with one weight. Collective.
///
/// # Errors
/// [`Error::Duplicate`] or [`Error::NotSymmetric`], the same on every rank.
pub fn check_graph(comm: &Comm, graph: &Graph) -> Result<(), Error> {
    comm.agree(check_rows(graph))?;
    let (offset, n) = (graph.offset(), graph.n_owned() as u64);
    let mut sent = Vec::new();
    for v in 0..graph.n_owned() {
        for k in graph.ptr[v]..graph.ptr[v + 1] {
            let neighbour = graph.adj[k];
            if neighbour.wrapping_sub(offset) >= n {
                let weight = i64::from(graph.edge_weight(k));
                sent.push((
                    graph.rank_of(neighbour),
                    Half { here: neighbour, there: offset + v as u64, weight },
                ));
            }
        }
    }
    let received = comm.exchange(&Buckets::from_pairs(sent));
    let lost = received.data.iter().find(|h| !lists(graph, (h.here - offset) as usize, h.there, h.weight));
    comm.agree(match lost {
        None => Ok(()),
        Some(h) => Err(Error::NotSymmetric { vertex: h.there, neighbour: h.here }),
    })
}

fn lists(graph: &Graph, v: usize, neighbour: u64, weight: i64) -> bool {
    (graph.ptr[v]..graph.ptr[v + 1])
        .any(|k| graph.adj[k] == neighbour && i64::from(graph.edge_weight(k)) == weight)
}

/// Double edges, and edges within this rank that one end does not list.
fn check_rows(graph: &Graph) -> Result<(), Error> {
    let (offset, n) = (graph.offset(), graph.n_owned() as u64);
    let mut sorted = Vec::new();
    for v in 0..graph.n_owned() {
        let vertex = offset + v as u64;
        sorted.clear();
        sorted.extend_from_slice(graph.neighbours(v));
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::Duplicate { vertex, neighbour: pair[0] });
        }
        for k in graph.ptr[v]..graph.ptr[v + 1] {
            let neighbour = graph.adj[k];
            let local = neighbour.wrapping_sub(offset);
            if local < n && !lists(graph, local as usize, vertex, i64::from(graph.edge_weight(k))) {
                return Err(Error::NotSymmetric { vertex, neighbour });
            }
        }
    }
    Ok(())
}
