//! What takes long in a run, what it is bound by, and what to try.
//!
//! Imports its sibling [`super::profile`]. Start at [`find`]. Each verdict is drawn from figures of the run, and its
//! sentence names them; where they do not suffice it says what is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::profile::{PetscRow, Profile, SpanRow};

/// What takes less of the run is no bottleneck.
pub const LEAST_SHARE: f64 = 0.05;

/// Of a phase's time: beyond it, waiting or messages are what binds.
const MUCH: f64 = 0.25;

/// The busiest rank's work over the mean: beyond it, work is uneven.
const UNEVEN: f64 = 1.1;

/// The part of a phase's time that bytes or operations need, beyond which they bind it.
const NEAR: f64 = 0.3;

/// What a phase or module is bound by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Reading and writing memory or files.
    Bytes,
    /// Arithmetic.
    Flops,
    /// Waiting for other ranks, whose work is as much.
    Waiting,
    /// Waiting for ranks that have more to do.
    Imbalance,
    /// What calls of MPI cost where nobody waits.
    Messages,
    /// None of them: it takes several times what bytes and arithmetic need.
    Overhead,
    /// The run's figures do not tell.
    Unknown,
}

/// The least that a phase can take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least {
    /// For the bytes it must move.
    pub by_bytes: f64,
    /// For the arithmetic it must do.
    pub by_flops: f64,
}

/// What is known of a run beside its profile.
pub struct Facts<'a> {
    /// Ranks.
    pub ranks: usize,
    /// Threads of each.
    pub threads: usize,
    /// The least that a phase can take.
    pub least: &'a dyn Fn(&str) -> Option<Least>,
    /// Why nothing is known of that, and what to do about it.
    pub unknown: &'a str,
}

/// A phase or module that takes much of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// `phase` or `module`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Seconds, on the average of the ranks.
    pub seconds: f64,
    /// Of the run.
    pub share: f64,
    /// What binds it.
    pub bound: Bound,
    /// Of its time: waiting for other ranks.
    pub waiting: f64,
    /// Of its time: calls of MPI on the rank that spends least in them.
    pub messages: f64,
    /// Of its time: the same calls, if each were as fast as the fastest of its place.
    pub fastest: f64,
    /// The busiest rank's work over the mean.
    pub imbalance: f64,
    /// Its time over the least that bytes and arithmetic need; `null` where that is not known.
    pub times_least: Option<f64>,
    /// The figures behind the verdict.
    pub because: String,
    /// What to try.
    pub hint: String,
}

/// Times of one phase or module.
#[derive(Default, Clone)]
struct Times {
    seconds: f64,
    waiting: f64,
    messages: f64,
    fastest: f64,
    /// Weighted by seconds.
    imbalance: f64,
    /// The longest span in it, with its seconds.
    longest: Option<(String, f64)>,
}

impl Times {
    fn add(&mut self, row: &SpanRow, sign: f64) {
        self.seconds += sign * row.mean;
        self.waiting += sign * row.waiting;
        self.messages += sign * row.messages;
        self.fastest += sign * row.fastest;
        self.imbalance += sign * row.imbalance * row.mean;
    }

    fn longest(&mut self, path: &str, seconds: f64) {
        if self.longest.as_ref().is_none_or(|(_, most)| seconds > *most) {
            self.longest = Some((path.to_owned(), seconds));
        }
    }
}

const PHASE: &str = "phase";
const MPI: &str = "mpi";

/// The phases' times, those of phases inside others taken out; in the order of the run.
fn phases(profile: &Profile) -> Vec<(String, Times)> {
    let mut found: Vec<(String, Times)> = Vec::new();
    fn of<'a>(found: &'a mut Vec<(String, Times)>, name: &str) -> &'a mut Times {
        let at = found.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            found.push((name.to_owned(), Times::default()));
            found.len() - 1
        });
        &mut found[at].1
    }
    for row in profile.spans.iter().filter(|row| row.module == PHASE) {
        of(&mut found, &row.name).add(row, 1.0);
        if let Some(around) = phase_around(profile, &row.path) {
            of(&mut found, &around.name.clone()).add(row, -1.0);
        }
    }
    for row in profile.spans.iter().filter(|row| row.module != PHASE) {
        if let Some(around) = phase_around(profile, &row.path) {
            of(&mut found, &around.name.clone()).longest(&row.path, row.self_mean);
        }
    }
    found
}

/// The innermost phase around a span.
fn phase_around<'a>(profile: &'a Profile, path: &str) -> Option<&'a SpanRow> {
    let mut path = path;
    while let Some((around, _)) = path.rsplit_once('/') {
        if let Some(row) = profile.span(around).filter(|row| row.module == PHASE) {
            return Some(row);
        }
        path = around;
    }
    None
}

/// Times outside spans inside, by module. What no span says is of the module `elsewhere`.
fn modules(profile: &Profile) -> BTreeMap<String, Times> {
    let mut found: BTreeMap<String, Times> = BTreeMap::new();
    let calls: Vec<&SpanRow> = profile.spans.iter().filter(|row| row.module == MPI).collect();
    for row in &profile.spans {
        let name = if row.module == PHASE { "elsewhere" } else { row.module.as_str() };
        let times = found.entry(name.to_owned()).or_default();
        times.seconds += row.self_mean;
        times.imbalance += row.self_mean * if row.module == MPI { 1.0 } else { row.imbalance };
        times.longest(&row.path, row.self_mean);
        let inside = |other: &&&SpanRow| {
            row.path.strip_prefix(other.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if row.module == MPI && !calls.iter().any(|other| inside(&other)) {
            times.waiting += row.waiting;
            times.messages += row.messages;
            times.fastest += row.fastest;
        }
    }
    found
}

/// The phases that a module works in alone, mostly.
fn phases_of(module: &str) -> &'static [&'static str] {
    match module {
        "mesh" => &["mesh"],
        "partition" => &["partition"],
        "space" => &["space"],
        "assembly" => &["pattern", "assemble", "estimate"],
        "solver" => &["pc_setup", "solve"],
        "output" => &["output"],
        _ => &[],
    }
}

/// Everything that takes at least [`LEAST_SHARE`] of the run, phases first, the longest first.
pub fn find(profile: &Profile, facts: &Facts) -> Vec<Bottleneck> {
    let mut found = Vec::new();
    for (name, times) in phases(profile) {
        found.extend(judged(profile, facts, PHASE, &name, &times, (facts.least)(&name)));
    }
    for (name, times) in modules(profile) {
        // A phase of the run whose least is not known leaves the module's unknown.
        let here = |phase: &&&str| profile.spans.iter().any(|row| row.module == PHASE && row.name == **phase);
        let least = phases_of(&name).iter().filter(here).map(|phase| (facts.least)(phase)).try_fold(
            Least { by_bytes: 0.0, by_flops: 0.0 },
            |sum, least| {
                let least = least?;
                Some(Least {
                    by_bytes: sum.by_bytes + least.by_bytes,
                    by_flops: sum.by_flops + least.by_flops,
                })
            },
        );
        let least = least.filter(|_| !phases_of(&name).is_empty());
        found.extend(judged(profile, facts, "module", &name, &times, least));
    }
    found.sort_by(|a, b| b.kind.cmp(&a.kind).then(b.seconds.total_cmp(&a.seconds)));
    found
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn judged(
    profile: &Profile,
    facts: &Facts,
    kind: &str,
    name: &str,
    times: &Times,
    least: Option<Least>,
) -> Option<Bottleneck> {
    let seconds = times.seconds;
    let share = seconds / profile.wall;
    if share < LEAST_SHARE {
        return None;
    }
    let [waiting, messages, fastest] = [times.waiting, times.messages, times.fastest].map(|t| t / seconds);
    let imbalance = (times.imbalance / seconds).max(1.0);
    let needed = least.map(|least| least.by_bytes.max(least.by_flops)).filter(|needed| *needed > 0.0);
    let bound = match (needed, least) {
        _ if waiting > MUCH && imbalance > UNEVEN => Bound::Imbalance,
        _ if waiting > MUCH && waiting >= messages => Bound::Waiting,
        _ if waiting + messages > MUCH && fastest < 0.5 * messages => Bound::Waiting,
        _ if messages > MUCH => Bound::Messages,
        (Some(needed), Some(least)) if needed >= NEAR * seconds => {
            if least.by_bytes >= least.by_flops {
                Bound::Bytes
            } else {
                Bound::Flops
            }
        }
        (Some(_), _) => Bound::Overhead,
        _ => Bound::Unknown,
    };
    let because = because(bound, times, needed);
    let longest = match &times.longest {
        Some((path, own)) if *own > 0.2 * seconds => {
            format!("; {} of it in {path} itself", percent(own / seconds))
        }
        _ => String::new(),
    };
    let petsc = longest_event(profile, name, seconds).map_or(String::new(), |event| {
        let rate = 1e-9 * event.flops / event.max.max(1e-12);
        format!("; {} of it in {}, {rate:.2} GFlop/s", percent(event.mean / seconds), event.name)
    });
    Some(Bottleneck {
        kind: kind.to_owned(),
        name: name.to_owned(),
        seconds,
        share,
        bound,
        waiting,
        messages,
        fastest,
        imbalance,
        times_least: needed.map(|needed| seconds / needed),
        because: format!("{} of the run, {because}{longest}{petsc}", percent(share)),
        hint: hint(bound, name, facts),
    })
}

/// PETSc's longest event of a phase of the solver, if it says something.
fn longest_event<'a>(profile: &'a Profile, name: &str, seconds: f64) -> Option<&'a PetscRow> {
    let of = |events: &[&str]| {
        let rows = profile.petsc.iter().filter(|row| events.contains(&&row.name["petsc.".len()..]));
        rows.max_by(|a, b| a.mean.total_cmp(&b.mean)).filter(|row| row.mean > 0.2 * seconds)
    };
    match name {
        "pc_setup" => of(&["PCSetUp", "MatLUFactorNum", "MatCholFctrNum", "MatPtAP", "MatLUFactorSym"]),
        "solve" => of(&["PCApply", "MatMult", "MatSolve", "MatSOR", "KSPGMRESOrthog", "VecNorm", "VecDot"]),
        _ => None,
    }
}

fn because(bound: Bound, times: &Times, needed: Option<f64>) -> String {
    let seconds = times.seconds;
    let imbalance = (times.imbalance / seconds).max(1.0);
    match bound {
        Bound::Imbalance => format!(
            "{} of it waiting for the busiest rank, which works {imbalance:.2} times the mean",
            percent(times.waiting / seconds)
        ),
        Bound::Waiting if times.waiting >= times.messages => format!(
            "{} of it waiting though work is even (imbalance {imbalance:.2})",
            percent(times.waiting / seconds)
        ),
        Bound::Waiting => format!(
            "{} of it in calls of MPI, of which {} were enough if each were as fast as the fastest: ranks take turns to be late",
            percent((times.waiting + times.messages) / seconds),
            percent(times.fastest / seconds)
        ),
        Bound::Messages => {
            format!("{} of it in calls of MPI that nobody delays", percent(times.messages / seconds))
        }
        Bound::Bytes | Bound::Flops => {
            let what = if bound == Bound::Bytes { "the memory's or disk's" } else { "the arithmetic's" };
            let needed = needed.unwrap_or_default();
            format!(
                "at {} of {what} rate ({needed:.3} s of {seconds:.3} s needed)",
                percent(needed / seconds)
            )
        }
        Bound::Overhead => {
            let needed = needed.unwrap_or_default();
            format!("{:.1} times the {needed:.3} s that bytes and arithmetic need", seconds / needed)
        }
        Bound::Unknown => {
            let calls = (times.waiting + times.messages) / seconds;
            format!("{} of it in calls of MPI", percent(calls))
        }
    }
}

fn hint(bound: Bound, name: &str, facts: &Facts) -> String {
    let Facts { ranks, threads, .. } = facts;
    let text = match (bound, name) {
        (Bound::Imbalance, "refine" | "rebalance" | "estimate") => {
            "[adapt] rebalance = \"steal\" with a smaller imbalance"
        }
        (Bound::Imbalance, "output") => "fewer ranks a node write at once, or a parallel file system",
        (Bound::Imbalance, _) => {
            "deal the cells out more evenly (run.json: partition.imbalance), and see that each rank has cores of its own: mpirun --map-by core --bind-to core, femdd doctor"
        }
        (Bound::Waiting, _) => {
            return format!(
                "see that the cores are free and enough for {ranks} ranks of {threads} threads (femdd doctor); ranks that take turns to be late show in --trace"
            );
        }
        (Bound::Messages, _) => {
            return format!("fewer than {ranks} ranks with more threads each, or a larger problem");
        }
        (Bound::Bytes, "output") => "fewer fields, output less often, or a faster file system",
        (Bound::Bytes, "mesh") => {
            "a binary .msh, or [performance] cache = true, which keeps the mesh partitioned"
        }
        (Bound::Bytes, "solve" | "solver") => {
            "other cores of this node share the same memory: more nodes, or a method with fewer iterations"
        }
        (Bound::Bytes, _) => "other cores of this node share the same memory: more nodes",
        (Bound::Flops, "output") => "a simpler exact solution or fewer integrals; else more ranks or threads",
        (Bound::Flops, _) => "simpler coefficients, or more ranks or threads",
        (Bound::Overhead, "mesh" | "partition") => {
            "[performance] cache = true keeps the partitioned mesh for the next run"
        }
        (Bound::Overhead, "pc_setup" | "solve" | "solver") => {
            "another method ([solver] method); few unknowns a rank make levels and tasks that are too small"
        }
        (Bound::Overhead, "elsewhere") => "this is outside all spans: --trace shows between which",
        (Bound::Overhead, _) => "more threads or ranks if there are cores; --trace shows which step takes it",
        (Bound::Unknown, _) => return format!("{}; --trace shows which step takes it", facts.unknown),
    };
    text.to_owned()
}

/// A table for the terminal.
pub fn text(found: &[Bottleneck]) -> String {
    let mut out = String::new();
    for row in found {
        let bound = serde_json::to_value(row.bound).ok();
        let bound = bound.as_ref().and_then(|bound| bound.as_str()).unwrap_or("unknown");
        out += &format!("  {} {}: {bound}: {}\n    try: {}\n", row.kind, row.name, row.because, row.hint);
    }
    if found.is_empty() { out } else { format!("  what takes at least {}:\n{out}", percent(LEAST_SHARE)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(module: &str, path: &str, mean: f64, own: f64) -> SpanRow {
        SpanRow {
            name: path.rsplit('/').next().unwrap_or_default().into(),
            path: path.into(),
            module: module.into(),
            mean,
            self_mean: own,
            imbalance: 1.0,
            ..SpanRow::default()
        }
    }

    fn verdicts(spans: Vec<SpanRow>, least: Option<Least>) -> Vec<(String, Bound, f64)> {
        let profile = Profile { wall: 10.0, spans, ..Profile::default() };
        let of = |name: &str| least.filter(|_| name == "solve");
        let facts = Facts { ranks: 4, threads: 1, least: &of, unknown: "femdd bench calibrate" };
        let found = find(&profile, &facts);
        assert!(found.iter().all(|b| b.because.contains('%') && !b.hint.is_empty()));
        found.into_iter().map(|b| (b.name, b.bound, b.share)).collect()
    }

    #[test]
    fn phases_inside_phases_count_once() {
        let spans = vec![
            row("phase", "estimate", 6.0, 1.0),
            row("phase", "estimate/solve", 5.0, 5.0),
            row("phase", "mesh", 0.4, 0.4),
        ];
        let found = verdicts(spans, None);
        let of = |name: &str| found.iter().find(|f| f.0 == name).map(|f| f.2);
        assert_eq!((of("estimate"), of("solve"), of("mesh")), (Some(0.1), Some(0.5), None));
    }

    #[test]
    fn figures_decide_what_binds() {
        let solve = |waiting: f64, messages: f64, imbalance: f64| {
            vec![SpanRow {
                waiting,
                messages,
                fastest: messages,
                imbalance,
                ..row("phase", "solve", 8.0, 8.0)
            }]
        };
        let least = |by_bytes, by_flops| Some(Least { by_bytes, by_flops });
        for (spans, least, bound) in [
            (solve(4.0, 0.0, 1.6), least(6.0, 1.0), Bound::Imbalance),
            (solve(4.0, 0.0, 1.02), None, Bound::Waiting),
            (solve(1.0, 3.0, 1.6), None, Bound::Messages),
            (solve(0.0, 0.0, 1.0), least(6.0, 1.0), Bound::Bytes),
            (solve(0.0, 0.0, 1.0), least(1.0, 3.0), Bound::Flops),
            (solve(0.0, 0.0, 1.0), least(1.0, 0.3), Bound::Overhead),
            (solve(0.0, 0.0, 1.0), None, Bound::Unknown),
        ] {
            assert_eq!(verdicts(spans, least)[0].1, bound);
        }
        // The least of any rank has waiting in it where each rank is late at times.
        let turns = SpanRow { waiting: 0.2, messages: 5.0, fastest: 0.3, ..solve(0.0, 0.0, 1.0)[0].clone() };
        assert_eq!(verdicts(vec![turns], least(6.0, 1.0))[0].1, Bound::Waiting);
    }

    #[test]
    fn modules_have_what_is_outside_inner_spans() {
        let spans = vec![
            row("phase", "solve", 8.0, 1.0),
            row("solver", "solve/cg", 7.0, 4.0),
            SpanRow {
                waiting: 2.0,
                messages: 1.0,
                fastest: 0.9,
                ..row("mpi", "solve/cg/allreduce", 3.0, 3.0)
            },
        ];
        let found = verdicts(spans, None);
        let of = |name: &str| found.iter().find(|f| f.0 == name).map(|f| (f.1, f.2));
        assert_eq!(of("mpi"), Some((Bound::Waiting, 0.3)));
        assert_eq!(of("solver"), Some((Bound::Unknown, 0.4)));
        assert_eq!(of("elsewhere"), Some((Bound::Unknown, 0.1)));
    }
}
