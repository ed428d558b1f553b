//! Time by phase, waiting and memory rank by rank: of all ranks where there are few, else of those that tell most.
//!
//! Imports `cluster` and its siblings [`super::phases`] and [`super::profile`]. Start at [`ByRank::gather`]. What is
//! kept is bounded, and nobody holds a number a rank: 10,000 ranks leave as much as [`MOST`].

use std::collections::BTreeMap;

use cluster::Comm;
use serde::{Deserialize, Serialize};

use super::phases::Phases;
use super::profile::{Waited, rounded};

/// Up to so many ranks all are kept; of more ranks so many.
pub const MOST: usize = 64;

/// Which ranks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// All of them.
    #[default]
    All,
    /// Those that work longest, those that work least, and some in even steps from the first to the last. Work is time
    /// in phases less waiting for others.
    Sample,
}

/// Figures of ranks, one entry each in the order of `ranks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ByRank {
    /// Which ranks are kept.
    pub kept: Kept,
    /// Their numbers, in order.
    pub ranks: Vec<u64>,
    /// Seconds by phase.
    pub seconds: BTreeMap<String, Vec<f64>>,
    /// Of these, waiting for other ranks; empty where spans are not recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, Vec<f64>>,
    /// Peak resident memory in units of 2^20 bytes.
    pub memory_mb: Vec<f64>,
}

impl ByRank {
    /// What ranks spent in the phases of these names, the same on all ranks, and what they waited in them where that
    /// is recorded. The same everywhere. Collective.
    /// `peak` is this rank's peak of memory in bytes.
    pub fn gather(
        comm: &Comm,
        phases: &Phases,
        names: &[String],
        waited: Option<&Waited>,
        peak: u64,
    ) -> ByRank {
        let seconds: Vec<f64> = names.iter().map(|name| phases.seconds(name)).collect();
        // Spans begin and end a little outside of the phase's own clock.
        let waiting = names.iter().zip(&seconds).map(|(name, s)| {
            let waited = waited.and_then(|all| all.get(name)).copied().unwrap_or(0.0);
            waited.clamp(0.0, s.max(0.0))
        });
        let waiting: Vec<f64> = waiting.collect();
        let memory = (peak as f64 / (1u64 << 20) as f64 * 10.0).round() / 10.0;
        let work = seconds.iter().sum::<f64>() - waiting.iter().sum::<f64>();
        let (kept, ranks) = chosen(comm, work, MOST);
        let mine: Vec<f64> = seconds.iter().chain(&waiting).map(|&s| rounded(s)).chain([memory]).collect();
        let rows = rows_of(comm, &ranks, &mine);
        let (n, width) = (names.len(), mine.len());
        let column = |c: usize| rows.iter().skip(c).step_by(width).copied().collect::<Vec<f64>>();
        let table = |first: usize| names.iter().cloned().zip((first..).map(column)).collect();
        ByRank {
            kept,
            seconds: table(0),
            waiting: if waited.is_some() { table(n) } else { BTreeMap::new() },
            memory_mb: column(2 * n),
            ranks,
        }
    }
}

/// All ranks, or `most` of them if there are more: those with most work, those with least, and some in even steps.
/// In order, the same everywhere. Collective.
pub fn chosen(comm: &Comm, work: f64, most: usize) -> (Kept, Vec<u64>) {
    let (rank, size) = (comm.rank() as u64, comm.size());
    if size <= most {
        return (Kept::All, (0..size as u64).collect());
    }
    let extremes = 2 * (most * 3 / 8);
    let mut ranks: Vec<u64> = Vec::with_capacity(most);
    for round in 0..extremes {
        let own = match round % 2 {
            _ if ranks.contains(&rank) => f64::NEG_INFINITY,
            0 => work,
            _ => -work,
        };
        let best = comm.max(own);
        ranks.push(comm.min(if own == best { rank } else { u64::MAX }));
    }
    let steps = most - extremes;
    ranks.extend((0..steps).map(|k| (k * (size - 1) / (steps - 1).max(1)) as u64));
    ranks.sort_unstable();
    ranks.dedup();
    (Kept::Sample, ranks)
}

/// The rows of some ranks, one after the other, on all ranks. Every rank passes as many numbers. Collective.
fn rows_of(comm: &Comm, ranks: &[u64], mine: &[f64]) -> Vec<f64> {
    let mut rows = vec![0.0; ranks.len() * mine.len()];
    if let Ok(at) = ranks.binary_search(&(comm.rank() as u64)) {
        rows[at * mine.len()..][..mine.len()].copy_from_slice(mine);
    }
    comm.sum_slice(&mut rows);
    rows
}
