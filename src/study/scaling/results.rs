//! What the runs of a study came to: read from each one's `run.json`, as medians over the repeats.
//!
//! Imports `output` (for `run.json`) and `study::stats`. Start at [`collect`].

use std::collections::BTreeMap;
use std::path::Path;

use cluster::Counters;
use serde::{Deserialize, Serialize};

use crate::output::run_json::{self, RunReport, Status};
use crate::study::stats::{self, median, median_deviation};

use super::{Growth, State, Step, Study};

/// What a phase took, said and how evenly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name; `total` is the whole run.
    pub name: String,
    /// Seconds on the rank that took longest: the median of the runs.
    pub seconds: f64,
    /// The median of how far runs are from that.
    pub deviation: f64,
    /// The fastest run.
    pub least: f64,
    /// The slowest run.
    pub most: f64,
    /// The slowest rank over the mean of the ranks: the median of the runs; `null` of the whole.
    pub imbalance: Option<f64>,
    /// How many times as fast as one rank; of a weak ladder, how many times the work in the same time. `null` where
    /// times are not comparable, and in a study of sizes.
    pub speedup: Option<f64>,
    /// The speedup over the ranks.
    pub efficiency: Option<f64>,
    /// Messages, bytes, neighbours and collective calls of the rank with the most.
    pub counters: Counters,
}

/// What a rung came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Cells of the mesh.
    pub cells: u64,
    /// Cells over ranks.
    pub cells_per_rank: f64,
    /// Degrees of freedom.
    pub dofs: u64,
    /// The solver's method.
    pub method: String,
    /// Its iterations.
    pub iterations: u64,
    /// The largest part's weight over the mean.
    pub imbalance: Option<f64>,
    /// Peak memory of the rank that took most, in units of 2^20 bytes.
    pub memory_max_rank: f64,
    /// Of all ranks.
    pub memory_sum: f64,
    /// Phases in the order of the run.
    pub phases: Vec<Phase>,
    /// The whole run.
    pub total: Phase,
}

impl Outcome {
    /// A phase by its name, `total` included.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        if name == self.total.name { Some(&self.total) } else { self.phases.iter().find(|p| p.name == name) }
    }
}

/// A run's report, if the run has ended well; else how it stands and why.
fn read(directory: &Path, step: &Step, threads: usize) -> Result<RunReport, (State, Option<String>)> {
    let path = directory.join(run_json::FILE_NAME);
    if !path.is_file() {
        return Err((State::Missing, None));
    }
    let report = RunReport::read(&path).map_err(|e| (State::Failed, Some(e.to_string())))?;
    if report.ranks != step.rung.ranks || report.threads != threads {
        let said = format!(
            "it ran on {} ranks with {} threads, not on {} with {threads}",
            report.ranks, report.threads, step.rung.ranks
        );
        return Err((State::Failed, Some(said)));
    }
    let why = || report.error.as_ref().map(|e| e.message.clone());
    match report.status {
        Status::Solved => Ok(report),
        Status::Running => Err((State::Missing, None)),
        Status::NotConverged => Err((State::Failed, why().or(Some("it did not converge".into())))),
        Status::Stopped => Err((State::Failed, why().or(Some("it was stopped before its end".into())))),
        Status::Failed => Err((State::Failed, why())),
    }
}

/// Reads what the runs of a study have left in its directory. A run that left nothing stays as it was marked: queued, or
/// failed to start.
pub fn collect(study: &mut Study, directory: &Path) {
    let threads = study.question.threads;
    for step in &mut study.steps {
        let mut reports = Vec::new();
        let mut found: Vec<Result<f64, (State, Option<String>)>> = Vec::new();
        for run in &step.runs {
            let read = read(&directory.join(&run.directory), step, threads);
            found.push(read.map(|report| {
                let wall = report.wall;
                reports.push(report);
                wall
            }));
        }
        for (run, found) in step.runs.iter_mut().zip(found) {
            match found {
                Ok(wall) => (run.state, run.message, run.wall) = (State::Done, None, Some(wall)),
                // It is to be made again: what an earlier try has left does not count.
                Err(_) if run.state == State::Queued => (run.message, run.wall) = (None, None),
                Err((State::Missing, _)) => {
                    run.wall = None;
                    if run.state == State::Done {
                        run.state = State::Missing;
                    }
                }
                Err((state, message)) => (run.state, run.message, run.wall) = (state, message, None),
            }
        }
        step.result = outcome(&reports);
    }
    speedups(study);
}

/// Medians over the runs of one rung; `None` without any.
pub fn outcome(reports: &[RunReport]) -> Option<Outcome> {
    let first = reports.first()?;
    let counted: Vec<BTreeMap<String, Counters>> = reports
        .iter()
        .map(|r| r.extra.get("communication").cloned().unwrap_or_default())
        .map(|value| serde_json::from_value(value).unwrap_or_default())
        .collect();
    let counters = |name: &str| {
        let most = counted.iter().filter_map(|of| of.get(name)).map(Counters::values);
        let most = most.reduce(|a, b| std::array::from_fn(|k| a[k].max(b[k])));
        most.map(Counters::from_values).unwrap_or_default()
    };
    let mut names: Vec<&str> = first.phases.iter().map(|row| row.name.as_str()).collect();
    for of in &counted {
        names.extend(of.keys().map(String::as_str).filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    let phases: Vec<Phase> = names
        .iter()
        .map(|name| {
            let rows = reports.iter().filter_map(|r| r.phases.iter().find(|row| row.name == *name));
            let (mut seconds, mut uneven) = (Vec::new(), Vec::new());
            for row in rows {
                seconds.push(row.max);
                uneven.extend((row.mean > 0.0).then(|| row.max / row.mean));
            }
            // What is said between phases is in none of them.
            if seconds.is_empty() {
                seconds.push(0.0);
            }
            let uneven = (!uneven.is_empty()).then(|| median(&uneven));
            timing(name, &seconds, uneven, counters(name))
        })
        .collect();
    let walls: Vec<f64> = reports.iter().map(|r| r.wall).collect();
    let all = phases.iter().fold(Counters::default(), |sum, phase| sum.and(&phase.counters));
    let most = |of: fn(&RunReport) -> f64| reports.iter().map(of).fold(0.0, f64::max);
    Some(Outcome {
        cells: first.mesh.cells,
        cells_per_rank: first.mesh.cells as f64 / first.ranks.max(1) as f64,
        dofs: first.dofs,
        method: first.solver.as_ref().map(|s| s.method.clone()).unwrap_or_default(),
        iterations: first.solver.as_ref().map_or(0, |s| s.iterations),
        imbalance: first.partition.as_ref().map(|p| p.imbalance).filter(|x| x.is_finite()),
        memory_max_rank: most(|r| r.memory_mb.max_rank),
        memory_sum: most(|r| r.memory_mb.sum),
        total: timing("total", &walls, None, all),
        phases,
    })
}

fn timing(name: &str, seconds: &[f64], imbalance: Option<f64>, counters: Counters) -> Phase {
    Phase {
        name: name.to_owned(),
        seconds: median(seconds),
        deviation: median_deviation(seconds),
        least: seconds.iter().copied().fold(f64::INFINITY, f64::min),
        most: seconds.iter().copied().fold(0.0, f64::max),
        imbalance,
        speedup: None,
        efficiency: None,
        counters,
    }
}

/// The first rung whose times count: what others are compared with.
pub fn reference(study: &Study) -> Option<(usize, &Outcome)> {
    let step = study.steps.iter().find(|step| step.comparable && step.result.is_some())?;
    Some((step.rung.ranks, step.result.as_ref()?))
}

/// Speedups and efficiencies over the first rung that counts. A weak ladder's are normalised by the cells a rank has in
/// fact.
fn speedups(study: &mut Study) {
    let growth = study.question.growth;
    let Some((base_ranks, base)) = reference(study).map(|(ranks, base)| (ranks, base.clone())) else {
        return;
    };
    if growth == Growth::Size {
        return;
    }
    for step in study.steps.iter_mut().filter(|step| step.comparable) {
        let ranks = step.rung.ranks as f64;
        let Some(result) = &mut step.result else { continue };
        let more_work = match growth {
            Growth::Strong => base_ranks as f64 / ranks,
            _ => result.cells_per_rank / base.cells_per_rank,
        };
        for phase in result.phases.iter_mut().chain([&mut result.total]) {
            let before = base.phase(&phase.name).map(|p| p.seconds).filter(|t| *t > 0.0);
            let efficiency = before.filter(|_| phase.seconds > 0.0).map(|t| t / phase.seconds * more_work);
            phase.efficiency = efficiency;
            phase.speedup = efficiency.map(|e| e * ranks);
        }
    }
}

/// How a quantity grows with the number of degrees of freedom: as `dofs^value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exponent {
    /// A phase, `total`, `memory`, `iterations`, `messages` or `bytes`.
    pub what: String,
    /// The exponent, by least squares of the logarithms.
    pub value: f64,
    /// Lower end of its 95% interval; `null` of two sizes.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Sizes it was found from.
    pub sizes: usize,
}

/// The exponents of a study of sizes; none of others.
pub fn exponents(study: &Study) -> Vec<Exponent> {
    if study.question.growth != Growth::Size {
        return Vec::new();
    }
    let all: Vec<(&Step, &Outcome)> =
        study.steps.iter().filter_map(|step| Some((step, step.result.as_ref()?))).collect();
    let of = |what: &str, timed: bool, value: &dyn Fn(&Outcome) -> Option<f64>| {
        let kept = all.iter().filter(|(step, _)| step.comparable || !timed);
        let points: Vec<(f64, f64)> =
            kept.filter_map(|(_, r)| Some((r.dofs as f64, value(r)?))).filter(|p| p.1 > 0.0).collect();
        let found = stats::exponent_interval(&points)?;
        let finite = |x: f64| x.is_finite().then_some(x);
        let (low, high) = (finite(found.low), finite(found.high));
        Some(Exponent { what: what.to_owned(), value: found.value, low, high, sizes: points.len() })
    };
    let mut found: Vec<Exponent> = phase_names(study)
        .iter()
        .filter_map(|name| of(name, true, &|r: &Outcome| Some(r.phase(name)?.seconds)))
        .collect();
    found.extend(of("total", true, &|r| Some(r.total.seconds)));
    found.extend(of("memory", false, &|r| Some(r.memory_sum)));
    found.extend(of("iterations", false, &|r| Some(r.iterations as f64)));
    found.extend(of("messages", false, &|r| Some(r.total.counters.messages as f64)));
    found.extend(of("bytes", false, &|r| Some(r.total.counters.bytes as f64)));
    found
}

/// The names of all phases that take time, in the order of the run.
pub fn phase_names(study: &Study) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for phase in study.steps.iter().filter_map(|s| s.result.as_ref()).flat_map(|r| &r.phases) {
        if phase.most > 0.0 && !names.contains(&phase.name) {
            names.push(phase.name.clone());
        }
    }
    names
}

/// So many cores busy with other programs disturb times.
pub const BUSY: f64 = 0.25;

/// Above this, what a rung's runs differ by is worth a word.
const NOISY: f64 = 0.05;

/// What the reader of a study should know.
pub fn warnings(study: &Study) -> Vec<String> {
    let mut said = Vec::new();
    let list = |names: Vec<String>| names.join(", ");
    let named = |keep: &dyn Fn(&Step) -> bool| -> Vec<String> {
        study.steps.iter().filter(|step| keep(step)).map(|step| step.rung.name.clone()).collect()
    };
    let crowded = named(&|step| !step.comparable);
    if !crowded.is_empty() {
        said.push(format!(
            "{}: more ranks than the {} cores, so that ranks took turns: their times are not comparable; what was \
             counted is",
            list(crowded),
            study.cores
        ));
    }
    if let Some(busy) = study.busy.filter(|busy| *busy > BUSY) {
        said.push(format!(
            "other programs kept {busy:.1} cores busy before the first run: times are those of a busy machine"
        ));
    }
    let noisy = named(&|step| {
        step.comparable && step.result.as_ref().is_some_and(|r| r.total.deviation > NOISY * r.total.seconds)
    });
    if !noisy.is_empty() {
        said.push(format!(
            "{}: runs differ by more than {:.0}% (median deviation): a noisy machine",
            list(noisy),
            100.0 * NOISY
        ));
    }
    if study.repeat < 3 {
        let runs = if study.repeat == 1 { "one run".to_owned() } else { format!("{} runs", study.repeat) };
        said.push(format!("{runs} of each rung cannot say how times scatter: --repeat 3 or more does"));
    }
    let done: Vec<&Outcome> = study.steps.iter().filter_map(|s| s.result.as_ref()).collect();
    let mut methods: Vec<&str> = done.iter().map(|r| r.method.as_str()).collect();
    methods.dedup();
    if methods.len() > 1 {
        said.push(format!(
            "the solver's method is not the same on all rungs ({}): set solver.method to compare like with like",
            methods.join(", ")
        ));
    }
    let silent = |step: &&Step| {
        step.rung.ranks > 1
            && step.result.as_ref().is_some_and(|r| {
                r.phase("solve").is_some_and(|solve| {
                    r.iterations > 1 && solve.counters.messages + solve.counters.collectives < r.iterations
                })
            })
    };
    if study.steps.iter().any(|step| silent(&step)) {
        said.push(
            "what the solver's library (PETSc) says to other ranks is not counted: messages of the solve, and its \
             projection, are too small"
                .to_owned(),
        );
    }
    let broken: Vec<(&str, &super::Run)> = study
        .steps
        .iter()
        .flat_map(|step| step.runs.iter().map(|run| (step.rung.name.as_str(), run)))
        .filter(|(_, run)| run.state == State::Failed)
        .collect();
    for (name, run) in broken {
        let why = run.message.as_deref().unwrap_or("it left no reason");
        said.push(format!("{name}: {} failed: {}", run.directory, why.lines().next().unwrap_or_default()));
    }
    said
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::output::phases::PhaseRow;
    use crate::study::scaling::{Question, Rung};

    fn report(ranks: usize, cells: u64, solve: f64) -> RunReport {
        let mut report = RunReport::started("cube", ranks, 1);
        (report.status, report.mesh.cells, report.dofs, report.wall) =
            (Status::Solved, cells, cells / 6, solve + 0.5);
        report.phases =
            vec![PhaseRow { name: "solve".into(), min: 0.5 * solve, mean: 0.8 * solve, max: solve }];
        let counters = Counters { messages: 10 * (ranks as u64 - 1), bytes: 800, ..Counters::default() };
        report.extra.insert("communication".into(), serde_json::json!({ "solve": counters }));
        report
    }

    /// A study of a cube.
    pub(in super::super) fn question(growth: Growth) -> Question {
        Question {
            growth,
            file: "cube.toml".into(),
            case: "cube".into(),
            sets: Vec::new(),
            threads: 1,
            hash: String::new(),
            dimension: 3,
        }
    }

    pub(in super::super) fn study(growth: Growth, ladder: &[(usize, u64, f64)], cores: usize) -> Study {
        let rungs = ladder.iter().map(|&(ranks, cells, _)| Rung {
            name: format!("{ranks}-ranks-{cells}"),
            ranks,
            growth: 1.0,
            actual: 1.0,
            sets: Vec::new(),
        });
        let mut study = Study::new(question(growth), rungs.collect(), 3, cores);
        for (step, &(ranks, cells, solve)) in study.steps.iter_mut().zip(ladder) {
            let reports: Vec<RunReport> = [0.98, 1.0, 1.3].map(|f| report(ranks, cells, f * solve)).into();
            step.result = outcome(&reports);
        }
        speedups(&mut study);
        study
    }

    #[test]
    fn medians_and_spread() {
        let study = study(Growth::Strong, &[(1, 600, 8.0), (2, 600, 5.0), (4, 600, 9.0)], 2);
        let solve =
            |k: usize| study.steps[k].result.as_ref().and_then(|r| r.phase("solve")).expect("a phase");
        assert_eq!((solve(0).seconds, solve(0).least), (8.0, 7.84));
        assert!((solve(0).deviation - 0.16).abs() < 1e-12 && (solve(0).most - 10.4).abs() < 1e-12);
        assert!((solve(0).imbalance.expect("two ranks") - 1.25).abs() < 1e-12);
        assert!((solve(1).speedup.expect("comparable") - 1.6).abs() < 1e-12);
        assert!((solve(1).efficiency.expect("comparable") - 0.8).abs() < 1e-12);
        // Four ranks took turns on two cores.
        assert_eq!((solve(2).speedup, solve(2).counters.messages), (None, 30));
        assert!(warnings(&study).iter().any(|w| w.contains("4-ranks-600") && w.contains("not comparable")));
    }

    #[test]
    fn weak_efficiency_is_by_the_cells_a_rank_has() {
        let study = study(Growth::Weak, &[(1, 1000, 2.0), (2, 2100, 2.1)], 2);
        let solve = study.steps[1].result.as_ref().and_then(|r| r.phase("solve")).expect("a phase");
        assert!((solve.efficiency.expect("comparable") - 1.0).abs() < 1e-12, "{solve:?}");
        assert!((solve.speedup.expect("comparable") - 2.0).abs() < 1e-12);
    }

    #[test]
    fn sizes_have_exponents() {
        let study = study(Growth::Size, &[(1, 600, 1.0), (1, 6000, 15.0), (1, 60000, 225.0)], 1);
        let found = exponents(&study);
        let solve = found.iter().find(|e| e.what == "solve").expect("an exponent");
        assert!((solve.value - 15f64.log10()).abs() < 1e-9 && solve.low.is_some(), "{solve:?}");
        assert!(study.steps[1].result.as_ref().expect("a result").total.efficiency.is_none());
    }
}
