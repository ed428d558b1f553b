//! What all ranks used, put together: `monitor` in `run.json`.
//!
//! Imports `comm` and its siblings. Start at [`gather`]. Reductions only: nothing grows with the ranks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::process::USAGE;
use super::recorder::Recorder;
use super::series::{BINS, Series};
use super::watchdog::{Limit, Room};
use crate::comm::Comm;

/// A figure over the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Of the rank with least.
    pub min: f64,
    /// On the average.
    pub mean: f64,
    /// Of the rank with most.
    pub max: f64,
    /// The first rank with most.
    pub rank: u64,
}

/// The least, mean and most over the ranks for each bin of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Bands {
    /// Of the rank with least.
    pub min: Vec<f64>,
    /// On the average.
    pub mean: Vec<f64>,
    /// Of the rank with most.
    pub max: Vec<f64>,
}

/// The course of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SeriesReport {
    /// The width of a bin in seconds; the first begins with the run.
    pub bin: f64,
    /// The most resident memory of a rank in each bin, in bytes.
    pub memory: Bands,
    /// Processors that a rank kept busy.
    pub cores: Bands,
    /// The phase of rank 0 at the end of each bin.
    pub phase: Vec<String>,
}

/// How near memory came to running out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The limit of which the least part was left.
    pub of: Limit,
    /// That limit, in bytes.
    pub limit: u64,
    /// What was left of it, in bytes.
    pub left: u64,
    /// The rank that saw it.
    pub rank: u64,
}

/// The GPUs of all hosts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gpus {
    /// Devices.
    pub devices: u64,
    /// Mean part of the time in which a device ran something, from 0 to 1; `null` where none tells.
    pub busy: Option<f64>,
    /// The most memory in use on a device, in bytes, by other programs too.
    pub memory_peak: u64,
}

/// What watching took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sampling {
    /// Samples of each rank.
    pub samples: Spread,
    /// Processor seconds of each rank's sampling thread.
    pub cpu_seconds: Spread,
}

/// What all ranks used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Over the whole run: each of [`USAGE`], `memory_peak` in bytes, and `cores` kept busy.
    pub total: BTreeMap<String, Spread>,
    /// The same by phase, without `cores`; `between` is what belongs to none.
    pub phases: BTreeMap<String, BTreeMap<String, Spread>>,
    /// The most memory in use on a host, in bytes, by other programs too.
    pub host_memory_peak: u64,
    /// How near memory came to running out; `null` where no limit is known.
    pub watchdog: Option<Watch>,
    /// Use of GPUs; `null` where there are none or no driver tells.
    pub gpus: Option<Gpus>,
    /// The course in time.
    pub series: SeriesReport,
    /// What watching took.
    pub sampling: Sampling,
}

/// Figures over the ranks, each the spread of one entry. All ranks pass the same length. Collective.
fn spreads(comm: &Comm, mine: &[f64]) -> Vec<Spread> {
    let (mut min, mut sum, mut max) = (mine.to_vec(), mine.to_vec(), mine.to_vec());
    comm.min_slice(&mut min);
    comm.sum_slice(&mut sum);
    comm.max_slice(&mut max);
    let here = comm.rank() as u64;
    let mut ranks: Vec<u64> =
        mine.iter().zip(&max).map(|(x, most)| if x == most { here } else { u64::MAX }).collect();
    comm.min_slice(&mut ranks);
    let n = comm.size() as f64;
    (0..mine.len())
        // A sum's rounding must not put the mean outside.
        .map(|k| Spread {
            min: min[k],
            mean: (sum[k] / n).clamp(min[k], max[k]),
            max: max[k],
            rank: ranks[k],
        })
        .collect()
}

/// The course over all ranks. Collective.
fn course(comm: &Comm, recorder: &Recorder) -> SeriesReport {
    let mut series: Series = recorder.series.clone();
    series.coarsen(comm.max(series.doubled()));
    let n = (comm.max(series.bins().len() as u64) as usize).min(BINS);
    let width = series.width();
    let mut memory = series.memory();
    memory.resize(n, memory.last().copied().unwrap_or(0.0));
    // The last bin is not over yet: busy in that part of it that has passed.
    let passed = |k: usize| (recorder.now() - k as f64 * width).clamp(width / 20.0, width);
    let mut cores: Vec<f64> = series.bins().iter().enumerate().map(|(k, bin)| bin.busy / passed(k)).collect();
    cores.resize(n, 0.0);
    let bands = |mine: &[f64], digits: f64| {
        let found = spreads(comm, mine);
        let of = |f: fn(&Spread) -> f64| found.iter().map(|s| (f(s) * digits).round() / digits).collect();
        Bands { min: of(|s| s.min), mean: of(|s| s.mean), max: of(|s| s.max) }
    };
    let (memory, cores) = (bands(&memory, 1.0), bands(&cores, 1000.0));
    let mut last = 0u16;
    let phase = series.bins().iter().map(|bin| {
        last = bin.phase.unwrap_or(last);
        recorder.phases[usize::from(last)].name.clone()
    });
    // Of rank 0, which all agree on.
    let phase = comm.broadcast_value(0, comm.is_root().then(|| phase.collect::<Vec<String>>()));
    SeriesReport { bin: width, memory, cores, phase }
}

/// What all ranks used, and for metrics: ranks, the sum and the most of their peaks of memory, and the sum of their
/// processor time. Collective.
pub(super) fn gather(comm: &Comm, recorder: &Recorder) -> (Report, (usize, f64, f64, f64)) {
    let names: Vec<&str> = recorder.phases.iter().map(|phase| phase.name.as_str()).collect();
    let names = comm.common_names(&names);
    // One row a phase: what it used and its peak; then the whole.
    let width = USAGE.len() + 1;
    let mut mine = vec![0.0; names.len() * width];
    let mut total = vec![0.0; width];
    for (name, row) in names.iter().zip(mine.chunks_mut(width)) {
        let Some(phase) = recorder.phases.iter().find(|phase| phase.name == *name) else { continue };
        row[..USAGE.len()].copy_from_slice(&phase.used);
        row[USAGE.len()] = phase.memory as f64;
        total.iter_mut().zip(&phase.used).for_each(|(sum, used)| *sum += used);
    }
    total[USAGE.len()] = recorder.peak as f64;
    let cores = (total[1] + total[2]) / total[0].max(1e-9);
    let n_phases = names.len() * width;
    mine.extend(total.iter().copied());
    mine.extend([cores, recorder.samples as f64, recorder.cost]);
    let found = spreads(comm, &mine);
    let keys = || USAGE.iter().copied().chain(["memory_peak"]).map(str::to_owned);
    let phases = names
        .into_iter()
        .zip(found[..n_phases].chunks(width))
        .map(|(name, row)| (name, keys().zip(row.iter().copied()).collect()))
        .collect();
    let rest = &found[n_phases..];
    let mut total: BTreeMap<String, Spread> = keys().zip(rest[..width].iter().copied()).collect();
    total.insert("cores".to_owned(), rest[width]);
    let ranks = comm.size() as f64;
    let sum = |key: &str| total[key].mean * ranks;
    let totals = (comm.size(), sum("memory_peak"), total["memory_peak"].max, sum("user") + sum("system"));
    let report = Report {
        phases,
        host_memory_peak: comm.max(recorder.host_peak),
        watchdog: nearest(comm, recorder.watchdog.least),
        gpus: gpus(comm, recorder),
        series: course(comm, recorder),
        sampling: Sampling { samples: rest[width + 1], cpu_seconds: rest[width + 2] },
        total,
    };
    (report, totals)
}

/// The rank that came nearest to a limit. Collective.
fn nearest(comm: &Comm, least: Option<Room>) -> Option<Watch> {
    let part = least.map_or(f64::INFINITY, |room| room.left as f64 / room.limit as f64);
    let smallest = comm.min(part);
    let who = if part == smallest { comm.rank() as u64 } else { u64::MAX };
    let rank = comm.min(who);
    let here = comm.rank() as u64 == rank;
    let watch = least.map(|room| Watch { of: room.of, limit: room.limit, left: room.left, rank });
    comm.broadcast_value(rank as usize, here.then_some(watch))
}

/// The GPUs that were looked at. Collective.
fn gpus(comm: &Comm, recorder: &Recorder) -> Option<Gpus> {
    let mine = recorder.gpu.unwrap_or_default();
    let tells = mine.devices > 0 && mine.busy.is_finite();
    let devices = f64::from(mine.devices);
    let mut sums =
        [devices, if tells { devices } else { 0.0 }, if tells { devices * mine.busy } else { 0.0 }];
    comm.sum_slice(&mut sums);
    let memory_peak = comm.max(mine.memory_peak);
    let busy = (sums[1] > 0.0).then(|| sums[2] / sums[1]);
    (sums[0] > 0.0).then_some(Gpus { devices: sums[0] as u64, busy, memory_peak })
}
