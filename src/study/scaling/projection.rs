//! What the model of communication makes of a ladder on ranks that nobody has counted yet: a projection, with its inputs
//! and how far it may be off.
//!
//! Imports `cluster::model` and `study::machine`. Start at [`project`].
//!
//! The time of a phase on p ranks is `work(p) + communication(p)`. Communication follows from the counted messages, bytes
//! and collective calls, whose growth is a law fitted to all rungs of two ranks and more, and from the network's latency
//! and bandwidth. Work is what is left of measured times, where they can be trusted; it is taken to scale, from the trusted
//! rung with most ranks on, unless three or more of those show how it does not.

use cluster::model::laws::{self, Fit, Limits};
use cluster::model::{Cost, Load, Network};
use serde::{Deserialize, Serialize};

use super::results::{Outcome, phase_names};
use super::{Growth, Step, Study};

/// How many ranks are looked ahead.
pub const FAR: f64 = 10_000.0;

/// Below this efficiency a phase does not scale any more.
pub const LEAST: f64 = 0.5;

/// Phases that take less of the run are no reason to stop.
const SHARE: f64 = 0.05;

/// What a projection needs beside the study.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// What communication costs; `null` where nobody knows, and then only counts are projected.
    pub network: Option<Network>,
    /// Where that is from.
    pub source: String,
}

/// How one count of a phase grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grown {
    /// The phase.
    pub phase: String,
    /// `messages`, `bytes`, `neighbours`, `collectives` or `collective_bytes`.
    pub count: String,
    /// Whether it is counted by iteration of the solver.
    pub per_iteration: bool,
    /// The law as text.
    pub law: String,
    /// The law and those that are plausible too.
    pub fit: Fit,
}

/// A phase on so many ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The phase; `total` is their sum.
    pub phase: String,
    /// Seconds.
    pub seconds: f64,
    /// The least that plausible laws give.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// Of them, communication.
    pub communication: Cost,
    /// Work in the same time for each rank, over that of the reference.
    pub efficiency: f64,
    /// The least that plausible laws give.
    pub efficiency_low: f64,
    /// The most.
    pub efficiency_high: f64,
}

/// All phases on so many ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Ranks.
    pub ranks: f64,
    /// Phases, the total last.
    pub phases: Vec<Predicted>,
}

/// Where a phase stops scaling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// The phase; `total` is the whole run.
    pub phase: String,
    /// Ranks where its efficiency falls below one half; `null`: not before the end of the projection.
    pub ranks: Option<f64>,
    /// The fewest that plausible laws give.
    pub low: Option<f64>,
    /// The most.
    pub high: Option<f64>,
    /// What it spends most of its communication or its loss on there.
    pub by: String,
    /// Its share of the run there.
    pub share: f64,
}

/// A projection, stated with its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// What was given.
    pub inputs: Inputs,
    /// Ranks of the trusted rung that work is taken from; `null`: no time can be trusted, or no network is known, and
    /// only counts are projected.
    pub reference: Option<usize>,
    /// Rungs whose times were used.
    pub timed: Vec<usize>,
    /// Rungs whose counts were used.
    pub counted: Vec<usize>,
    /// Up to how many ranks.
    pub far: f64,
    /// How iterations grow.
    pub iterations: Option<Fit>,
    /// How counts grow.
    pub counts: Vec<Grown>,
    /// Times.
    pub points: Vec<Point>,
    /// Where each phase stops scaling, the first of those that matter at the head.
    pub stops: Vec<Stop>,
    /// What was left out.
    pub remarks: Vec<String>,
}

const COUNTS: [&str; 5] = ["messages", "bytes", "neighbours", "collectives", "collective_bytes"];

fn count(load: &Load, k: usize) -> f64 {
    [load.messages, load.bytes, load.neighbours, load.collectives, load.collective_bytes][k]
}

/// Which end of what is plausible.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Law,
    Low,
    High,
}

fn value(fit: &Fit, p: f64, end: End) -> f64 {
    match end {
        End::Law => fit.at(p),
        End::Low => fit.range(p).0,
        End::High => fit.range(p).1,
    }
}

/// A phase's laws.
struct Model {
    name: String,
    per_iteration: bool,
    /// In the order of [`COUNTS`].
    counts: Vec<Option<Fit>>,
    /// Seconds of one rank that had the work of all; of a weak ladder, of each rank's. By iteration of the solve.
    work: Option<Fit>,
}

struct Models<'a> {
    strong: bool,
    network: &'a Network,
    iterations: Option<Fit>,
    phases: Vec<Model>,
}

impl Models<'_> {
    /// Seconds of a phase and its communication on `p` ranks.
    fn phase(&self, model: &Model, p: f64, end: End) -> (f64, Cost) {
        let repeats = match (model.per_iteration, &self.iterations) {
            (true, Some(fit)) => value(fit, p, end),
            _ => 1.0,
        };
        let at = |k: usize| model.counts[k].as_ref().map_or(0.0, |fit| value(fit, p, end));
        // Nobody has more neighbours than there are others; fewer make LogGP's messages wait longer.
        let neighbours = match end {
            End::Law => at(2),
            End::Low => model.counts[2].as_ref().map_or(0.0, |fit| value(fit, p, End::High)),
            End::High => model.counts[2].as_ref().map_or(0.0, |fit| value(fit, p, End::Low)),
        };
        let load = Load {
            messages: repeats * at(0),
            bytes: repeats * at(1),
            neighbours: neighbours.min(p - 1.0),
            collectives: repeats * at(3),
            collective_bytes: repeats * at(4),
        };
        let cost = self.network.seconds(&load, p);
        let share = if self.strong { p } else { 1.0 };
        let work = model.work.as_ref().map_or(0.0, |fit| value(fit, p, end)) * repeats / share;
        (work + cost.sum(), cost)
    }

    fn all(&self, p: f64, end: End) -> Vec<(f64, Cost)> {
        let mut found: Vec<(f64, Cost)> = self.phases.iter().map(|model| self.phase(model, p, end)).collect();
        let sum = found.iter().fold((0.0, Cost::default()), |s, f| {
            let cost = Cost {
                latency: s.1.latency + f.1.latency,
                bytes: s.1.bytes + f.1.bytes,
                collectives: s.1.collectives + f.1.collectives,
            };
            (s.0 + f.0, cost)
        });
        found.push(sum);
        found
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.phases.iter().map(|m| m.name.as_str()).chain(["total"])
    }
}

/// A rung with results, its ranks as a number.
type Rung<'a> = (f64, &'a Step, &'a Outcome);

/// How the counts of a phase grow, over the rungs where somebody could be spoken to.
fn count_fits(name: &str, per_iteration: bool, rungs: &[Rung], far: f64) -> Vec<Option<Fit>> {
    let limits = Limits { exponent: 1.0, far, neighbours: true };
    (0..COUNTS.len())
        .map(|k| {
            let points: Vec<(f64, f64)> = rungs
                .iter()
                .filter(|(p, _, _)| *p > 1.0)
                .map(|(p, _, result)| {
                    let load =
                        result.phase(name).map(|phase| Load::from(&phase.counters)).unwrap_or_default();
                    // Neighbours are not more for being spoken to more often.
                    let over = if per_iteration && k != 2 { result.iterations.max(1) as f64 } else { 1.0 };
                    (*p, count(&load, k) / over)
                })
                .collect();
            laws::fit(&points, &limits)
        })
        .collect()
}

/// The law of work: what trusted times leave when communication is taken off. Fewer than three of them cannot tell
/// work that does not scale from ranks of a node that share its memory: then it is constant, as on the fullest rung.
fn work_fit(model: &Model, models: &Models, trusted: &[Rung], far: f64) -> Option<Fit> {
    let base = trusted.first()?.2.cells_per_rank;
    let points: Vec<(f64, f64)> = trusted
        .iter()
        .filter_map(|(p, _, result)| {
            let seconds = result.phase(&model.name)?.seconds;
            let (said, _) = models.phase(model, *p, End::Law);
            let repeats = if model.per_iteration { result.iterations.max(1) as f64 } else { 1.0 };
            let share = if models.strong { *p } else { base / result.cells_per_rank };
            // What communication cannot explain is work; at least a tenth, as it may be hidden behind it.
            Some((*p, (seconds - said).max(0.1 * seconds) * share / repeats))
        })
        .collect();
    let last = *points.last()?;
    let limits = Limits { exponent: 1.0, far, neighbours: false };
    let mut fit = laws::fit(&points, &limits)?;
    let flat = laws::fit(&[last], &limits)?;
    if points.len() < 3 {
        fit.law = flat.law;
    } else if fit.at(far) < last.1 {
        // Work on a rank does not become less than it is on the fullest rung: caches gain but once.
        fit = Fit { plausible: [flat.plausible.clone(), fit.plausible].concat(), ..flat };
    }
    Some(fit)
}

/// Ranks at which projections are shown: powers of 2 from the reference on, and the last.
fn shown(from: f64, far: f64) -> Vec<f64> {
    let mut points: Vec<f64> =
        std::iter::successors(Some(from), |p| Some(2.0 * p)).take_while(|p| *p < far).collect();
    points.push(far);
    points
}

/// Projects a strong or weak ladder; `None` of a study of sizes and where nothing was counted.
pub fn project(study: &Study, inputs: &Inputs) -> Option<Projection> {
    if study.question.growth == Growth::Size {
        return None;
    }
    let strong = study.question.growth == Growth::Strong;
    let rungs: Vec<Rung> = study
        .steps
        .iter()
        .filter_map(|step| Some((step.rung.ranks as f64, step, step.result.as_ref()?)))
        .collect();
    let counted: Vec<usize> = rungs.iter().map(|r| r.1.rung.ranks).filter(|&n| n > 1).collect();
    if counted.is_empty() {
        return None;
    }
    let mut remarks = Vec::new();
    let mut far = FAR;
    if strong {
        let cells = rungs.iter().map(|r| r.2.cells as f64).fold(f64::INFINITY, f64::min);
        if cells < far {
            far = cells.max(2.0);
            remarks.push(format!("no rank has less than a cell: the projection ends at {far:.0} ranks"));
        }
    }
    if counted.len() < 3 {
        remarks.push(format!(
            "{} rungs of two ranks or more cannot tell one law of growth from another: the ranges say how little is \
             known; ladders of five rungs are better",
            counted.len()
        ));
    }
    let mut iterations_limits = Limits { exponent: 0.5, far, neighbours: false };
    if strong {
        // The same matrix on every rung: what changes is the preconditioner at the seams.
        iterations_limits.exponent = 1.0 / 3.0;
    }
    let points: Vec<(f64, f64)> = rungs.iter().map(|r| (r.0, r.2.iterations as f64)).collect();
    let iterations =
        laws::fit(&points, &iterations_limits).filter(|fit| fit.at(1.0) > 0.0 || fit.at(2.0) > 0.0);
    // What is said between phases counts too.
    let mut names = phase_names(study);
    for phase in rungs.iter().flat_map(|r| &r.2.phases) {
        if phase.counters.messages + phase.counters.collectives > 0 && !names.contains(&phase.name) {
            names.push(phase.name.clone());
        }
    }
    let silent = Network::hockney(0.0, f64::INFINITY);
    let mut models = Models {
        strong,
        network: inputs.network.as_ref().unwrap_or(&silent),
        iterations,
        phases: Vec::new(),
    };
    for name in names {
        let per_iteration = name == "solve" && rungs.iter().all(|r| r.2.iterations > 0);
        let counts = count_fits(&name, per_iteration, &rungs, far);
        models.phases.push(Model { name, per_iteration, counts, work: None });
    }
    let trusted: Vec<Rung> = rungs.iter().filter(|r| r.1.comparable && r.0 <= far).copied().collect();
    let works: Vec<Option<Fit>> =
        models.phases.iter().map(|model| work_fit(model, &models, &trusted, far)).collect();
    for (model, work) in models.phases.iter_mut().zip(works) {
        model.work = work;
    }
    let reference = trusted.last().filter(|_| inputs.network.is_some()).map(|r| r.1.rung.ranks);
    if inputs.network.is_none() {
        remarks.push(
            "what a message costs is not known: femdd bench calibrate measures it, --latency and --bandwidth give it; \
             only counts are projected"
                .to_owned(),
        );
    } else if trusted.is_empty() {
        remarks.push(
            "no rung had a core for each thread: no time can be trusted, and only counts are projected"
                .to_owned(),
        );
    } else if trusted.len() < 3 {
        remarks.push(format!(
            "times of {} rungs cannot tell work that does not scale from ranks that share a node's memory: work is taken \
             to scale from {} ranks on",
            trusted.len(),
            trusted.last().map_or(0, |r| r.1.rung.ranks)
        ));
    }
    let (mut points, mut stops) = (Vec::new(), Vec::new());
    if let Some(from) = reference {
        points = shown(from as f64, far).into_iter().map(|p| point(&models, from as f64, p)).collect();
        stops = find_stops(&models, from as f64, far);
    }
    let counts = models.phases.iter().flat_map(|model| {
        let fits = model.counts.iter().enumerate().filter_map(|(k, fit)| Some((k, fit.clone()?)));
        fits.filter(|(_, fit)| fit.range(far).1 > 0.0).map(|(k, fit)| Grown {
            phase: model.name.clone(),
            count: COUNTS[k].to_owned(),
            per_iteration: model.per_iteration && k != 2,
            law: fit.law.to_string(),
            fit,
        })
    });
    let counts = counts.collect();
    let timed = trusted.iter().map(|r| r.1.rung.ranks).collect();
    let iterations = models.iterations;
    Some(Projection {
        inputs: inputs.clone(),
        reference,
        timed,
        counted,
        far,
        iterations,
        counts,
        points,
        stops,
        remarks,
    })
}

/// Efficiency over the reference: as much work in the same time from each rank; never more, as nothing in the model gains
/// by more ranks.
fn efficiency(strong: bool, reference: (f64, f64), p: f64, seconds: f64) -> f64 {
    let (from, before) = reference;
    let more = if strong { from / p } else { 1.0 };
    if seconds > 0.0 { (before * more / seconds).min(1.0) } else { 1.0 }
}

fn point(models: &Models, from: f64, p: f64) -> Point {
    let ends = [End::Law, End::Low, End::High].map(|end| models.all(p, end));
    let base = models.all(from, End::Law);
    let phases = models.names().enumerate().map(|(k, name)| {
        let [law, low, high] = [0, 1, 2].map(|e| ends[e][k].0);
        let of = |seconds: f64| efficiency(models.strong, (from, base[k].0), p, seconds);
        Predicted {
            phase: name.to_owned(),
            seconds: law,
            low,
            high,
            communication: ends[0][k].1,
            efficiency: of(law),
            efficiency_low: of(high),
            efficiency_high: of(low),
        }
    });
    Point { ranks: p, phases: phases.collect() }
}

/// Where each phase and the whole stop scaling, eight steps to a doubling of the ranks.
fn find_stops(models: &Models, from: f64, far: f64) -> Vec<Stop> {
    let base = models.all(from, End::Law);
    let steps = (8.0 * (far / from).log2()).ceil().max(0.0) as usize;
    let ladder: Vec<f64> = (1..=steps).map(|k| (from * 2f64.powf(k as f64 / 8.0)).round().min(far)).collect();
    let falls = |k: usize, end: End| {
        let of = |p: f64| efficiency(models.strong, (from, base[k].0), p, models.all(p, end)[k].0);
        ladder.iter().copied().find(|&p| of(p) < LEAST)
    };
    let mut stops: Vec<Stop> = models
        .names()
        .enumerate()
        // What takes no time by itself, but for what is said in it, has no efficiency.
        .filter(|(k, name)| {
            *name == "total" || models.phases[*k].work.as_ref().is_some_and(|w| w.at(from) > 0.0)
        })
        .map(|(k, name)| {
            let ranks = falls(k, End::Law);
            let p = ranks.unwrap_or(far);
            let all = models.all(p, End::Law);
            let (seconds, cost) = all[k];
            let total = all.last().map_or(0.0, |t| t.0);
            let share = if total > 0.0 { seconds / total } else { 0.0 };
            let before = base[k].0 * if models.strong { from / p } else { 1.0 };
            let parts = [
                (cost.latency, "latency of messages"),
                (cost.bytes, "bytes of messages"),
                (cost.collectives, "collective calls"),
                (seconds - cost.sum() - before, "work that does not scale, or more iterations"),
            ];
            let by = parts.iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |part| part.1);
            let (low, high) = (falls(k, End::High), falls(k, End::Low));
            Stop { phase: name.to_owned(), ranks, low, high, by: by.to_owned(), share }
        })
        .collect();
    // Phases that matter first, by where they stop; the whole run at the end.
    let key = |s: &Stop| {
        (s.phase == "total", s.ranks.is_none() || s.share < SHARE, s.ranks.unwrap_or(f64::INFINITY))
    };
    stops.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
    });
    stops
}

impl Projection {
    /// The phase that stops scaling first, of those that take enough of the run there.
    pub fn first(&self) -> Option<&Stop> {
        self.stops.iter().find(|s| s.phase != "total" && s.ranks.is_some() && s.share >= SHARE)
    }

    /// What it comes to, in a sentence or two.
    pub fn sentence(&self) -> String {
        let Some(reference) = self.reference else {
            return "Projection: of counts only.".to_owned();
        };
        let range = |stop: &Stop| {
            let end =
                |x: Option<f64>| x.map_or_else(|| format!("beyond {:.0}", self.far), |x| format!("{x:.0}"));
            match (stop.low, stop.high) {
                (low, high) if low == high => String::new(),
                (low, high) => format!(" (from {} to {} by other plausible laws)", end(low), end(high)),
            }
        };
        let mut text = match self.first() {
            Some(stop) => format!(
                "Projection: {} stops scaling first; its efficiency over {reference} ranks falls below {:.0}% at about \
                 {:.0} ranks{}, by {}.",
                stop.phase,
                100.0 * LEAST,
                stop.ranks.unwrap_or(self.far),
                range(stop),
                stop.by
            ),
            None => format!(
                "Projection: up to {:.0} ranks no phase that takes {:.0}% of the run falls below an efficiency of {:.0}% \
                 over {reference} ranks.",
                self.far,
                100.0 * SHARE,
                100.0 * LEAST
            ),
        };
        if let Some(total) = self.stops.iter().find(|s| s.phase == "total") {
            text += &match total.ranks {
                Some(p) => format!(" The whole run does at about {p:.0} ranks{}.", range(total)),
                None => format!(" The whole run stays above it up to {:.0} ranks.", self.far),
            };
        }
        text
    }
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
