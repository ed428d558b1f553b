//! Where a run's time and memory went, by span, over all ranks: for `run.json` and the terminal.
//!
//! Imports `cluster`. Start at [`gather`]; `table.rs` is what the terminal shows, `trace.rs` the file with single
//! spans, `layer.rs` records spans beside other layers of `tracing`. What the numbers mean is in docs/profiling.md.

mod layer;
mod table;
pub mod trace;

use std::collections::{BTreeMap, HashMap};

use cluster::Comm;
use cluster::profile::{self, Gathered, Row, WAITS};
use serde::{Deserialize, Serialize};

pub use layer::layer;

/// Rows of spans in `run.json`, at most.
const MOST_ROWS: usize = 300;

/// A span that takes less of the run on every rank is left out, unless it is a phase.
const LEAST_SHARE: f64 = 0.001;

/// A span, all times it ran in one place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SpanRow {
    /// Its name.
    pub name: String,
    /// The names around it and its own, outermost first, with `/` between.
    pub path: String,
    /// The room of the code; `phase` for phases, `mpi` where ranks wait, else as in the module map.
    pub module: String,
    /// How often it ran, on the rank where it ran most.
    pub count: u64,
    /// Seconds on the rank that spent least.
    pub min: f64,
    /// Seconds on the average.
    pub mean: f64,
    /// Seconds on the rank that spent most.
    pub max: f64,
    /// Seconds outside spans inside, on the average.
    pub self_mean: f64,
    /// Seconds in calls of MPI that other ranks made longer, on the average.
    pub waiting: f64,
    /// Seconds that those calls took on the rank that spent least in them.
    pub messages: f64,
    /// Seconds that they had taken if each were as fast as the fastest of its place, on any rank.
    pub fastest: f64,
    /// What the busiest rank does outside of them, over the mean.
    pub imbalance: f64,
}

/// A span on threads beside the main ones.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The names around it on its thread and its own.
    pub path: String,
    /// As [`SpanRow::module`].
    pub module: String,
    /// Threads of all ranks that ran it.
    pub threads: u64,
    /// How often it ran on all of them.
    pub count: u64,
    /// Seconds of the thread that spent least on it.
    pub min: f64,
    /// Seconds of a thread on the average.
    pub mean: f64,
    /// Seconds of the thread that spent most.
    pub max: f64,
}

/// What a phase asked for and held.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AllocationRow {
    /// The phase.
    pub phase: String,
    /// Requests of a rank, on the average.
    pub requests: f64,
    /// Asked for by a rank, on the average, in units of 2^20 bytes.
    pub mb: f64,
    /// The most held at once during the phase, on the rank that held most, in units of 2^20 bytes.
    pub peak_mb: f64,
    /// The largest single request, on the rank with the largest, in bytes.
    #[serde(default)]
    pub largest: u64,
}

/// What PETSc's log says of one kind of event, on the average of the ranks unless said otherwise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PetscRow {
    /// PETSc's name of it, after `petsc.`.
    pub name: String,
    /// How often it ran.
    pub count: u64,
    /// Seconds on the rank that spent least, those of events inside included.
    pub min: f64,
    /// Seconds on the average.
    pub mean: f64,
    /// Seconds on the rank that spent most.
    pub max: f64,
    /// Operations of all ranks.
    pub flops: f64,
    /// Messages.
    pub messages: f64,
    /// Bytes in them.
    pub bytes: f64,
    /// Reductions.
    pub reductions: f64,
}

/// What recording itself took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Overhead {
    /// Spans of the main thread, on the rank that had most.
    pub spans: u64,
    /// What one takes, measured at the end of the run, in seconds.
    pub seconds_per_span: f64,
    /// Their product over the run's time.
    pub share: f64,
}

/// `profile` of `run.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// Seconds of the run on rank 0, which shares refer to.
    pub wall: f64,
    /// Outer spans before inner ones, phases in the order of the run.
    pub spans: Vec<SpanRow>,
    /// Spans too short to be listed.
    pub left_out: usize,
    /// Spans of threads beside the main ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadRow>,
    /// By phase; empty where the program's allocator does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationRow>,
    /// PETSc's events, if they were logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub petsc: Vec<PetscRow>,
    /// What recording took.
    pub overhead: Overhead,
    /// The trace that was written, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<trace::Written>,
    /// What takes long, why, and what to try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bottlenecks: Vec<super::bottlenecks::Bottleneck>,
}

/// Seconds that this rank waited for others, by phase.
pub type Waited = BTreeMap<String, f64>;

/// To a tenth of a microsecond: more digits say nothing.
pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 1e7).round() * 1e-7
}

/// Rows with every row behind the one around it, siblings in the order given.
fn nested(rows: Vec<SpanRow>) -> Vec<SpanRow> {
    // Children that rank 0 does not have stand at the end: each goes behind its parent's last.
    let mut out: Vec<SpanRow> = Vec::with_capacity(rows.len());
    for row in rows {
        let parent = row.path.rsplit_once('/').map(|(parent, _)| parent);
        let at = match parent {
            None => out.len(),
            Some(parent) => {
                let inside = |known: &SpanRow| known.path == parent || is_inside(&known.path, parent);
                out.iter().rposition(inside).map_or(out.len(), |last| last + 1)
            }
        };
        out.insert(at, row);
    }
    out
}

/// Whether a path leads into a span from one around it.
fn is_inside(path: &str, around: &str) -> bool {
    path.strip_prefix(around).is_some_and(|rest| rest.starts_with('/'))
}

/// What this rank waited in the calls of MPI of each phase: in each what it spent beyond the rank that spent least.
/// Inner phases have what is inside of them to themselves.
fn waited(main: &[Row], gathered: &[Gathered]) -> Waited {
    let least: HashMap<&str, f64> = gathered
        .iter()
        .filter(|row| row.module == WAITS)
        .map(|row| (row.path.as_str(), row.total.min))
        .collect();
    let named: HashMap<&str, &Row> = main.iter().map(|row| (row.path.as_str(), row)).collect();
    let mut found = Waited::new();
    for call in main.iter().filter(|row| row.is_wait()) {
        let mut path = call.path.as_str();
        while let Some((around, _)) = path.rsplit_once('/') {
            match named.get(around) {
                // A call inside another is part of it.
                Some(row) if row.is_wait() => break,
                Some(row) if row.module == profile::PHASE => {
                    let beyond = call.total - least.get(call.path.as_str()).copied().unwrap_or(0.0);
                    *found.entry(row.name().to_owned()).or_default() += beyond.max(0.0);
                    break;
                }
                _ => path = around,
            }
        }
    }
    found
}

/// Waiting and cost of the calls of MPI in each row: `mean - min` and `min` of those inside it, added up.
///
/// The rank that spends least in a call comes last and waits for nobody.
fn shared_out(gathered: &[Gathered]) -> Vec<SpanRow> {
    let waits: Vec<&Gathered> = gathered.iter().filter(|row| row.module == WAITS).collect();
    // A call inside another (a gather of lengths) is part of it.
    let outermost = |row: &Gathered| !waits.iter().any(|other| is_inside(&row.path, &other.path));
    let calls: Vec<&Gathered> = waits.iter().copied().filter(|row| outermost(row)).collect();
    let row = |g: &Gathered| {
        let inside = calls.iter().filter(|call| call.path == g.path || is_inside(&call.path, &g.path));
        let (mut waiting, mut messages, mut fastest) = (0.0, 0.0, 0.0);
        for call in inside {
            waiting += call.total.mean - call.total.min;
            messages += call.total.min;
            fastest += call.fastest.min.min(call.total.min);
        }
        SpanRow {
            name: g.path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: g.path.clone(),
            module: g.module.clone(),
            count: g.count.max as u64,
            min: rounded(g.total.min),
            mean: rounded(g.total.mean),
            max: rounded(g.total.max),
            self_mean: rounded(g.own.mean),
            waiting: rounded(waiting),
            messages: rounded(messages),
            fastest: rounded(fastest),
            imbalance: if g.work.mean > 0.0 { (g.work.max / g.work.mean * 1e4).round() * 1e-4 } else { 1.0 },
        }
    };
    gathered.iter().map(row).collect()
}

/// Brings together what all ranks recorded; `None` where spans are not recorded. `petsc` is what PETSc's log says on
/// this rank: counts, seconds, operations, messages, bytes, reductions. Beside it what this rank alone waited. Collective.
pub fn gather(comm: &Comm, wall: f64, petsc: &[(String, [f64; 6])]) -> Option<(Profile, Waited)> {
    if comm.any(!profile::is_on()) {
        return None;
    }
    let (main, others) = profile::rows();
    let spans: u64 = main.iter().map(|row| row.count).sum();
    let (gathered, workers) = profile::gather(comm, &main, &others);
    let wall = comm.max(wall).max(1e-9);
    let overhead = overhead(comm, spans, wall);
    let mega = |bytes: f64| (bytes / (1u64 << 20) as f64 * 1e3).round() * 1e-3;
    let mut allocations: Vec<AllocationRow> = Vec::new();
    for row in gathered.iter().filter(|row| row.module == profile::PHASE && row.requests.max > 0.0) {
        let name = row.path.rsplit('/').next().unwrap_or_default();
        // A phase inside another counts in both; here only for itself.
        let at = allocations.iter().position(|known| known.phase == name).unwrap_or_else(|| {
            allocations.push(AllocationRow { phase: name.to_owned(), ..AllocationRow::default() });
            allocations.len() - 1
        });
        let known = &mut allocations[at];
        known.requests += row.requests.mean.round();
        known.mb += mega(row.bytes.mean);
        known.peak_mb = known.peak_mb.max(mega(row.peak.max));
        known.largest = known.largest.max(row.largest.max as u64);
    }
    let all = nested(shared_out(&gathered));
    let n_all = all.len();
    let mut least = LEAST_SHARE * wall;
    let mut spans: Vec<SpanRow>;
    loop {
        spans = all.iter().filter(|row| row.max >= least || row.module == profile::PHASE).cloned().collect();
        if spans.len() <= MOST_ROWS || least > wall {
            break;
        }
        least *= 2.0;
    }
    spans.truncate(MOST_ROWS);
    let left_out = n_all - spans.len();
    let threads = workers
        .into_iter()
        .filter(|row| row.total.max >= least)
        .take(MOST_ROWS)
        .map(|row| ThreadRow {
            path: row.path,
            module: row.module,
            threads: row.threads,
            count: row.count,
            min: rounded(row.total.min),
            mean: rounded(row.total.mean),
            max: rounded(row.total.max),
        })
        .collect();
    let ranks = comm.size() as f64;
    let petsc = profile::spread(comm, petsc)
        .into_iter()
        .map(|(name, [count, seconds, flops, messages, bytes, reductions])| PetscRow {
            name: format!("petsc.{name}"),
            count: count.max as u64,
            min: rounded(seconds.min),
            mean: rounded(seconds.mean),
            max: rounded(seconds.max),
            flops: flops.mean * ranks,
            messages: messages.mean,
            bytes: bytes.mean,
            reductions: reductions.mean,
        })
        .collect();
    let waited = waited(&main, &gathered);
    Some((
        Profile { wall, spans, left_out, threads, allocations, petsc, overhead, ..Profile::default() },
        waited,
    ))
}

/// Collective.
fn overhead(comm: &Comm, spans: u64, wall: f64) -> Overhead {
    let spans = comm.max(spans);
    let seconds_per_span = comm.max(profile::seconds_per_span());
    let share = spans as f64 * seconds_per_span / wall;
    let digits = |x: f64, by: f64| (x * by).round() / by;
    Overhead { spans, seconds_per_span: digits(seconds_per_span, 1e10), share: digits(share, 1e6) }
}

impl Profile {
    /// The row of a path.
    pub fn span(&self, path: &str) -> Option<&SpanRow> {
        self.spans.iter().find(|row| row.path == path)
    }

    /// A table of the spans, and of all else there is, for the terminal.
    pub fn text(&self) -> String {
        table::text(self)
    }
}

#[cfg(test)]
mod tests {
    use cluster::profile::Spread;

    use super::*;

    fn gathered(module: &str, path: &str, times: [f64; 3]) -> Gathered {
        let [min, mean, max] = times;
        let total = Spread { min, mean, max };
        Gathered { path: path.into(), module: module.into(), total, ..Gathered::default() }
    }

    #[test]
    fn waiting_is_what_others_spend_beyond_the_least() {
        let rows = [
            gathered("phase", "solve", [1.0, 1.0, 1.0]),
            gathered("solver", "solve/dot", [0.5, 0.6, 0.7]),
            gathered("mpi", "solve/dot/allgatherv", [0.1, 0.3, 0.5]),
            gathered("mpi", "solve/dot/allgatherv/allgather", [0.0, 0.2, 0.4]),
            gathered("mpi", "solve/wait", [0.2, 0.25, 0.3]),
            gathered("mpi", "solver/wait", [5.0, 6.0, 7.0]),
        ];
        let rows = shared_out(&rows);
        let found =
            |path: &str| rows.iter().find(|row| row.path == path).map(|row| (row.waiting, row.messages));
        let near = |a: Option<(f64, f64)>, b: (f64, f64)| {
            let a = a.expect("a row");
            assert!((a.0 - b.0).abs() < 1e-6 && (a.1 - b.1).abs() < 1e-6, "{a:?} {b:?}");
        };
        near(found("solve"), (0.25, 0.3));
        near(found("solve/dot"), (0.2, 0.1));
        near(found("solve/wait"), (0.05, 0.2));
    }

    #[test]
    fn a_rank_waits_for_those_that_come_later() {
        let row = |module: &str, path: &str, total: f64| Row {
            path: path.into(),
            module: module.into(),
            total,
            ..Row::default()
        };
        let main = [
            row("phase", "assemble", 2.0),
            row("mpi", "assemble/wait", 0.5),
            row("phase", "solve", 9.0),
            row("solver", "solve/dot", 3.0),
            row("mpi", "solve/dot/allgatherv", 1.0),
            row("mpi", "solve/dot/allgatherv/allgather", 0.75),
            row("phase", "solve/checkpoint", 1.0),
            row("mpi", "solve/checkpoint/wait", 0.5),
            row("mpi", "wait", 4.0),
        ];
        let gathered = [
            gathered("mpi", "assemble/wait", [0.5, 1.0, 2.0]),
            gathered("mpi", "solve/dot/allgatherv", [0.25, 1.0, 2.0]),
            gathered("mpi", "solve/checkpoint/wait", [0.125, 1.0, 2.0]),
        ];
        let found: Vec<(String, f64)> = waited(&main, &gathered).into_iter().collect();
        let wanted = [("assemble", 0.0), ("checkpoint", 0.375), ("solve", 0.75)];
        assert_eq!(found, wanted.map(|(name, s)| (name.to_owned(), s)));
    }

    #[test]
    fn rows_stand_behind_what_is_around_them() {
        let paths = ["a", "b", "a/x", "b/y", "a/x/z", "a/w", "ab"];
        let rows = paths.map(|path| SpanRow { path: path.into(), ..SpanRow::default() }).to_vec();
        let found: Vec<String> = nested(rows).into_iter().map(|row| row.path).collect();
        assert_eq!(found, ["a", "a/x", "a/x/z", "a/w", "b", "b/y", "ab"]);
    }
}
