//! What all ranks recorded, brought together: numbers of one table of names, whatever the number of ranks.
//!
//! Start at [`gather`]; [`spread`] does the same for any named numbers.

use std::collections::HashMap;

use super::tree::Row;
use crate::Comm;

/// A number over the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// The least of any rank.
    pub min: f64,
    /// On the average.
    pub mean: f64,
    /// The most of any rank.
    pub max: f64,
}

/// A span over the ranks. A rank on which it never ran counts with zeros.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gathered {
    /// As [`Row::path`].
    pub path: String,
    /// As [`Row::module`].
    pub module: String,
    /// How often it ran.
    pub count: Spread,
    /// Seconds.
    pub total: Spread,
    /// Seconds outside spans inside.
    pub own: Spread,
    /// Seconds in calls that may wait.
    pub waits: Spread,
    /// Seconds outside of them: what this rank did itself.
    pub work: Spread,
    /// Seconds if it had always been as fast as it ever was.
    pub fastest: Spread,
    /// Requests for memory.
    pub requests: Spread,
    /// Bytes asked for.
    pub bytes: Spread,
    /// The most bytes held; of phases only.
    pub peak: Spread,
    /// Bytes of the largest request; of phases only.
    pub largest: Spread,
}

/// A span on threads other than the main ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workers {
    /// As [`Row::path`], from the outermost span on that thread.
    pub path: String,
    /// As [`Row::module`].
    pub module: String,
    /// Threads that ran it.
    pub threads: u64,
    /// How often it ran on all of them.
    pub count: u64,
    /// Seconds of a thread that ran it.
    pub total: Spread,
}

/// Named numbers over the ranks: each name that any rank has, once, with `N` numbers. A rank that lacks a name counts
/// there with zeros. The same everywhere, in the order of rank 0. Collective.
pub fn spread<const N: usize>(comm: &Comm, rows: &[(String, [f64; N])]) -> Vec<(String, [Spread; N])> {
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    let names = comm.common_names(&names);
    let mine: HashMap<&str, &[f64; N]> = rows.iter().map(|(name, row)| (name.as_str(), row)).collect();
    let numbers: Vec<f64> =
        names.iter().flat_map(|name| mine.get(name.as_str()).map_or([0.0; N], |row| **row)).collect();
    let (mut min, mut sum, mut max) = (numbers.clone(), numbers.clone(), numbers);
    comm.min_slice(&mut min);
    comm.sum_slice(&mut sum);
    comm.max_slice(&mut max);
    let ranks = comm.size() as f64;
    let of = |at: usize| Spread { min: min[at], mean: sum[at] / ranks, max: max[at] };
    names.into_iter().enumerate().map(|(k, name)| (name, std::array::from_fn(|c| of(k * N + c)))).collect()
}

/// A name that tells modules apart.
fn key(row: &Row) -> String {
    format!("{} {}", row.module, row.path)
}

fn parts(key: &str) -> (String, String) {
    let (module, path) = key.split_once(' ').unwrap_or(("", key));
    (module.to_owned(), path.to_owned())
}

/// Brings the rows of all ranks together: the same everywhere, in the order of rank 0, what only others have behind.
/// Collective.
pub fn gather(comm: &Comm, main: &[Row], others: &[Vec<Row>]) -> (Vec<Gathered>, Vec<Workers>) {
    let numbers = |row: &Row| {
        let times = [row.total, row.own, row.waits, row.total - row.waits];
        let [count, requests, bytes, peak, largest] =
            [row.count, row.requests, row.bytes, row.peak, row.largest].map(|n| n as f64);
        [count, times[0], times[1], times[2], times[3], row.fastest, requests, bytes, peak, largest]
    };
    let mine: Vec<_> = main.iter().map(|row| (key(row), numbers(row))).collect();
    let rows = spread(comm, &mine).into_iter().map(|(key, row)| {
        let (module, path) = parts(&key);
        let [count, total, own, waits, work, fastest, requests, bytes, peak, largest] = row;
        Gathered { path, module, count, total, own, waits, work, fastest, requests, bytes, peak, largest }
    });
    (rows.collect(), gather_workers(comm, others))
}

/// Collective.
fn gather_workers(comm: &Comm, others: &[Vec<Row>]) -> Vec<Workers> {
    // Per name: threads, runs, seconds, the inverse of the least seconds of a thread, and the most. Ranks without a
    // thread count with zeros, which are no inverse of anything.
    let mut mine: Vec<(String, [f64; 5])> = Vec::new();
    for row in others.iter().flatten() {
        let name = key(row);
        let at = mine.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            mine.push((name, [0.0; 5]));
            mine.len() - 1
        });
        let sums = &mut mine[at].1;
        sums[0] += 1.0;
        sums[1] += row.count as f64;
        sums[2] += row.total;
        sums[3] = sums[3].max(1.0 / row.total.max(1e-9));
        sums[4] = sums[4].max(row.total);
    }
    let ranks = comm.size() as f64;
    let rows = spread(comm, &mine).into_iter().map(|(key, row)| {
        let (module, path) = parts(&key);
        let [threads, count, total, inverse, most] = row;
        let n = threads.mean * ranks;
        Workers {
            path,
            module,
            threads: n.round() as u64,
            count: (count.mean * ranks).round() as u64,
            total: Spread { min: 1.0 / inverse.max, mean: total.mean * ranks / n, max: most.max },
        }
    });
    rows.collect()
}
