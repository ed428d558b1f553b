//! Whether a rebalance pays, and what a partition from scratch would cut.
//!
//! Imports `cluster` only. Start at [`Cost`] and [`Reference`].

use cluster::Comm;
use serde::{Deserialize, Serialize};

/// What the caller measured, to weigh a rebalance against going on as before.
///
/// A solve takes as long as its heaviest rank, so with a load of `i` times the mean it takes `i` times as
/// long as it could: the gain is `solves * solve_seconds * (1 - target / i)`. The price is
/// `fixed_seconds + seconds_per_byte * b`, where `b` are the bytes that the rank with the most to give has to
/// send, at the least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of one solve, assembly included, as the loads are now.
    pub solve_seconds: f64,
    /// How many solves remain until the mesh changes so much that loads are dealt out again.
    pub solves: f64,
    /// Seconds to move a byte, from the last migration; what is rebuilt afterwards may be included.
    pub seconds_per_byte: f64,
    /// Seconds a rebalance takes whatever moves.
    pub fixed_seconds: f64,
}

impl Cost {
    /// Whether to rebalance pays: the slowest rank's figures count. Collective.
    pub(crate) fn worth_it(&self, comm: &Comm, imbalance: f64, target: f64, bytes: f64) -> bool {
        let mut slowest = [self.solve_seconds, self.solves, self.seconds_per_byte, self.fixed_seconds, bytes];
        comm.max_slice(&mut slowest);
        let [solve, solves, per_byte, fixed, bytes] = slowest;
        solves * solve * (1.0 - target / imbalance) > fixed + per_byte * bytes
    }
}

/// What the last partition from scratch cut, by which later cuts are judged without another one.
///
/// A compact part of `n` vertices in `d` dimensions has a surface of the order of `n^((d - 1) / d)`, and a
/// graded mesh is nearly uniform over most parts: with the number of parts fixed, the cut grows like that
/// power of the number of vertices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The weight of the edges it cut.
    edge_cut: u64,
    /// The number of vertices then.
    n_vertices: u64,
    /// The weight of the edges that were cut when vertices were last dealt out.
    #[serde(default)]
    last_cut: u64,
    /// How often the cut doubled or halved since, before vertices were dealt out anew: how much the mesh has changed.
    #[serde(default)]
    change: f64,
}

impl Reference {
    /// A partition from scratch of so many vertices cut edges of this weight.
    pub fn new(edge_cut: u64, n_vertices: u64) -> Reference {
        Reference { edge_cut, n_vertices, last_cut: edge_cut, change: 0.0 }
    }

    /// The edges between ranks weigh `edge_cut` now, and nothing has moved since they were last dealt out.
    pub(crate) fn found(&mut self, edge_cut: u64) {
        self.change += (edge_cut.max(1) as f64 / self.last_cut.max(1) as f64).log2().abs();
        self.last_cut = edge_cut;
    }

    /// Vertices were dealt out anew, and `edge_cut` is what that cuts.
    pub(crate) fn dealt(&mut self, edge_cut: u64) {
        self.last_cut = edge_cut;
    }

    /// What a partition from scratch of `n_vertices` would cut, about.
    pub fn scaled(&self, n_vertices: u64, dimensions: u32) -> f64 {
        let growth = n_vertices as f64 / self.n_vertices.max(1) as f64;
        let d = f64::from(dimensions.max(1));
        self.edge_cut as f64 * growth.powf((d - 1.0) / d)
    }

    /// By how much METIS may cut less than [`Reference::scaled`] says: its cuts differ by a few percent on like
    /// meshes, and the law holds the less the more the mesh has changed: where few places are refined the cut need not
    /// grow at all. Meshes of as many vertices elsewhere are told by what the old parts cut of them.
    pub(crate) fn doubt(&self, n_vertices: u64) -> f64 {
        let growth = (n_vertices as f64 / self.n_vertices.max(1) as f64).log2().abs();
        0.04 + (0.3 * growth).max(0.1 * self.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_grow_like_surfaces() {
        let reference = Reference::new(100, 1000);
        assert_eq!(reference.scaled(1000, 3), 100.0);
        assert!((reference.scaled(8000, 3) - 400.0).abs() < 1e-9);
        assert!((reference.scaled(4000, 2) - 200.0).abs() < 1e-9);
        assert_eq!(reference.scaled(9000, 1), 100.0, "two ends, however long");
    }

    #[test]
    fn doubt_grows_with_the_mesh_and_with_what_old_parts_cut() {
        let mut reference = Reference::new(100, 1000);
        let fresh = reference.doubt(1000);
        assert!(reference.doubt(2000) > fresh && reference.doubt(500) > fresh);
        // As many vertices, but elsewhere; then mended, then elsewhere again.
        for cut in [200, 50] {
            let before = reference.doubt(1000);
            reference.found(cut);
            assert!(reference.doubt(1000) > before + 0.09, "{reference:?}");
            reference.dealt(100);
        }
        reference.found(100);
        assert_eq!(reference, Reference { change: 2.0, ..Reference::new(100, 1000) });
    }
}
