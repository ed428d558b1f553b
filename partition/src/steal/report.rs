//! What a rebalance found and did, in numbers that are the same on every rank.
//!
//! Imports `level`. Start at [`Report`].

use serde::{Deserialize, Serialize};

use super::Job;
use super::decide::Reference;

/// How ranks are balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Light ranks take from heavy ones beside them.
    Steal,
    /// METIS, from scratch, its parts named so that the most weight stays.
    Metis,
    /// Not at all.
    None,
}

/// Why METIS was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// The caller wanted METIS.
    Asked,
    /// There are too few vertices a rank.
    FewVertices,
    /// Ranks fall into groups without contact, whose means differ.
    Groups,
    /// The target was not met in the rounds allowed.
    Imbalance,
    /// Much has to go far, and METIS may have shorter ways.
    Flow,
    /// The cut is too large beside what METIS would cut, as far as is known.
    Cut,
}

/// New owners, how they were found, and by what the next ones will be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebalanced {
    /// The new owner of each vertex this rank has.
    pub owner: Vec<u32>,
    /// What happened. The same on every rank.
    pub report: Report,
    /// For the next call: new where METIS was asked, otherwise as it was given.
    pub reference: Option<Reference>,
}

/// What a rebalance did. The same on every rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How the new owners were found; [`Method::None`] where nothing moves.
    pub method: Method,
    /// Why METIS was asked, if it was. With [`Method::Steal`] its answer was not needed after all.
    pub fallback: Option<Fallback>,
    /// The weight of the heaviest rank over the mean, before.
    pub imbalance_before: f64,
    /// The same, afterwards.
    pub imbalance_after: f64,
    /// The weight of the heaviest vertex over the mean load.
    pub vertex_share: f64,
    /// Rounds of stealing.
    pub rounds: u64,
    /// Claims of all ranks.
    pub claims: u64,
    /// The sum of the flows of least Euclidean norm that balance all ranks; 0 where none was sought.
    pub flow_l1: f64,
    /// Vertices that change their rank.
    pub moved_vertices: u64,
    /// Their weight.
    pub moved_weight: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// The weight of the edges between ranks, before.
    pub edge_cut_before: u64,
    /// The same, afterwards.
    pub edge_cut_after: u64,
}

impl Report {
    /// Nothing moved.
    pub(crate) fn of(now: &Measured) -> Report {
        Report {
            method: Method::None,
            fallback: None,
            imbalance_before: now.imbalance,
            imbalance_after: now.imbalance,
            vertex_share: if now.mean > 0.0 { now.heaviest_vertex as f64 / now.mean } else { 0.0 },
            rounds: 0,
            claims: 0,
            flow_l1: 0.0,
            moved_vertices: 0,
            moved_weight: 0,
            moved_bytes: 0,
            edge_cut_before: now.edge_cut,
            edge_cut_after: now.edge_cut,
        }
    }

    pub(crate) fn take(&mut self, after: &Measured) {
        self.imbalance_after = after.imbalance;
        self.moved_vertices = after.moved_vertices;
        self.moved_weight = after.moved_weight;
        self.moved_bytes = after.moved_bytes;
        self.edge_cut_after = after.edge_cut;
    }
}

/// Owners, measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub(crate) imbalance: f64,
    pub(crate) mean: f64,
    pub(crate) heaviest: i64,
    pub(crate) heaviest_vertex: i64,
    pub(crate) n_vertices: u64,
    pub(crate) edge_cut: u64,
    pub(crate) moved_vertices: u64,
    pub(crate) moved_weight: u64,
    pub(crate) moved_bytes: u64,
    /// Ranks without a vertex.
    pub(crate) empty: usize,
}

impl Job<'_> {
    /// Measures owners of this rank's vertices. Collective, with a table of one entry for each rank.
    pub(crate) fn measure(&self, owner: &[u32]) -> Measured {
        let (comm, level, size) = (self.comm, self.level, self.comm.size());
        let n = level.n_owned();
        let mut local = owner.to_vec();
        local.resize(level.map.n_local(), 0);
        level.halo.forward(&mut local, 1);
        // Weights, then counts, then the cut and what moves.
        let mut sums = vec![0i64; 2 * size + 4];
        let mut heaviest_vertex = 0;
        for (v, &to) in owner.iter().enumerate() {
            let weight = level.vertex_weight(v);
            heaviest_vertex = heaviest_vertex.max(weight);
            sums[to as usize] += weight;
            sums[size + to as usize] += 1;
            if to as usize != comm.rank() {
                let moved = [1, weight, self.bytes[v]];
                sums[2 * size + 1..].iter_mut().zip(moved).for_each(|(sum, x)| *sum += x);
            }
        }
        sums[2 * size] = (0..n)
            .flat_map(|v| level.row(v).map(move |(u, w)| (v, u, w)))
            .filter(|&(v, u, _)| local[v] != local[u])
            .map(|e| e.2)
            .sum();
        comm.sum_slice(&mut sums);
        let heaviest_vertex = comm.max(heaviest_vertex);
        let heaviest = sums[..size].iter().copied().max().unwrap_or(0);
        let mean = sums[..size].iter().sum::<i64>() as f64 / size as f64;
        let unsigned = |k: usize| sums[2 * size + k] as u64;
        Measured {
            imbalance: if mean > 0.0 { heaviest as f64 / mean } else { 1.0 },
            mean,
            heaviest,
            heaviest_vertex,
            n_vertices: sums[size..2 * size].iter().sum::<i64>() as u64,
            // Each edge was seen from both ends.
            edge_cut: unsigned(0) / 2,
            moved_vertices: unsigned(1),
            moved_weight: unsigned(2),
            moved_bytes: unsigned(3),
            empty: sums[size..2 * size].iter().filter(|&&c| c == 0).count(),
        }
    }
}
