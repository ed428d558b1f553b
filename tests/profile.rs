//! The profile of real runs: `run.json`, the table, the trace, PETSc's log, and what recording costs.
//!
//! Start at [`trace`], which checks a trace by the rules its readers go by.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Case, Ran};
use femdd::output::by_rank::{self, Kept};
use serde_json::Value;

/// Poisson's equation on a square of 2 n^2 triangles.
fn square(n: usize) -> String {
    format!(
        "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1], cells = [{n}, {n}], shape = \"triangle\" }}\n\
         [physics]\nlaw = \"poisson\"\nsource = \"sin(x)*y\"\n\
         [boundary.all]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\"]\nvalue = \"x*y\"\n\
         [exact]\nvalue = \"x*y\"\n[solver]\nmethod = \"cg+amg\"\n"
    )
}

/// Many small solves.
fn adaptive() -> String {
    let text = square(6).replace("source = \"sin(x)*y\"", "source = \"exp(-100*((x-0.3)^2+(y-0.4)^2))\"");
    text + "[adapt]\nestimator = \"kelly\"\nmax_steps = 12\nmax_dofs = 4000\n"
}

fn rows(ran: &Ran) -> &Vec<Value> {
    ran.report()["profile"]["spans"].as_array().expect("spans")
}

fn row<'a>(ran: &'a Ran, path: &str) -> &'a Value {
    let paths: Vec<_> = rows(ran).iter().map(|row| row["path"].as_str().expect("a path")).collect();
    rows(ran).iter().find(|row| row["path"] == path).unwrap_or_else(|| panic!("no {path} among {paths:#?}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// One span of a trace.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    name: String,
    phase: bool,
    begin: f64,
    end: f64,
    /// Seconds in phases directly inside.
    inside: f64,
}

/// The spans of each (rank, thread), checked: they nest, threads and ranks have names, none begins before zero.
fn trace(ran: &Ran, ranks: u64, threads: u64) -> BTreeMap<(u64, u64), Vec<Span>> {
    let text = std::fs::read_to_string(ran.out().join("trace.json")).expect("a trace");
    let parsed: Value = serde_json::from_str(&text).expect("JSON");
    assert!(!ran.out().join("trace.json.part").exists());
    let mut found: BTreeMap<(u64, u64), Vec<Span>> = BTreeMap::new();
    let (mut named, mut writers) = (BTreeSet::new(), BTreeSet::new());
    let (mut processes, mut heap) = (BTreeSet::new(), 0);
    for event in parsed["traceEvents"].as_array().expect("events") {
        let id = |key: &str| event[key].as_u64().expect("an id");
        let at = (id("pid"), id("tid"));
        match event["ph"].as_str().expect("a kind") {
            // One writes the solution's file, besides those that compute.
            "M" if event["name"] == "thread_name" && event["args"]["name"] == "output" => {
                assert!(writers.insert(at));
            }
            "M" if event["name"] == "thread_name" => assert!(named.insert(at)),
            "M" if event["name"] == "process_name" => {
                assert_eq!(event["args"]["name"], format!("rank {}", at.0));
                assert!(processes.insert(at.0));
            }
            "M" => {}
            "C" => {
                heap += 1;
                assert!(number(&event["args"]["bytes"]) > 0.0);
            }
            "X" => {
                let begin = number(&event["ts"]);
                let end = begin + number(&event["dur"]);
                assert!(begin >= 0.0 && end >= begin);
                let name = event["name"].as_str().expect("a name").to_owned();
                let phase = event["cat"] == "phase";
                found.entry(at).or_default().push(Span { name, phase, begin, end, inside: 0.0 });
            }
            other => panic!("an event of kind {other}"),
        }
    }
    assert_eq!(processes, (0..ranks).collect());
    let known = |at: &(u64, u64)| named.contains(at) || writers.contains(at);
    assert!(found.keys().all(known), "{:?} {named:?} {writers:?}", found.keys());
    // A thread that found nothing to do has a row without spans.
    for rank in 0..ranks {
        let n = named.iter().filter(|at| at.0 == rank).count() as u64;
        assert_eq!(n, threads, "rows of rank {rank}");
        assert_eq!(writers.iter().filter(|at| at.0 == rank).count(), 1, "writers of rank {rank}");
        assert!(found.contains_key(&(rank, 0)));
    }
    assert!(heap > 0);
    for spans in found.values_mut() {
        nest(spans);
    }
    found
}

/// Spans stand in the order of their beginnings, outer ones first, and lie inside each other or apart.
fn nest(spans: &mut [Span]) {
    // Microseconds with three decimals, added: less than half a nanosecond off.
    const ROUNDING: f64 = 4e-4;
    let mut around: Vec<usize> = Vec::new();
    for k in 0..spans.len() {
        assert!(k == 0 || spans[k - 1].begin <= spans[k].begin);
        while around.last().is_some_and(|&a| spans[a].end <= spans[k].begin + ROUNDING) {
            around.pop();
        }
        if let Some(&a) = around.last() {
            assert!(spans[k].end <= spans[a].end + ROUNDING, "{:?} sticks out of {:?}", spans[k], spans[a]);
        }
        if spans[k].phase
            && let Some(&phase) = around.iter().rev().find(|&&a| spans[a].phase)
        {
            spans[phase].inside += spans[k].end - spans[k].begin;
        }
        around.push(k);
    }
}

/// Seconds of each phase on each rank, phases inside taken out, as the trace has them.
fn phases(spans: &BTreeMap<(u64, u64), Vec<Span>>) -> BTreeMap<String, Vec<f64>> {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let ranks = spans.keys().map(|at| at.0 + 1).max().unwrap_or(0) as usize;
    for (at, spans) in spans {
        for span in spans.iter().filter(|span| span.phase) {
            let of = found.entry(span.name.clone()).or_insert_with(|| vec![0.0; ranks]);
            of[at.0 as usize] += 1e-6 * (span.end - span.begin - span.inside);
        }
    }
    found
}

fn check_phases(ran: &Ran, spans: &BTreeMap<(u64, u64), Vec<Span>>) {
    let traced = phases(spans);
    let reported = ran.report()["phases"].as_object().expect("phases");
    assert!(reported.len() >= 6);
    for (name, phase) in reported {
        let of = traced.get(name).unwrap_or_else(|| panic!("phase {name} is not in the trace"));
        let most = of.iter().copied().fold(0.0, f64::max);
        let told = number(&phase["max"]);
        // A rank that loses its core between two readings of the clock may be a millisecond or two off.
        assert!((most - told).abs() <= 0.02 * told + 4e-3, "{name}: {most} in the trace, {told} in run.json");
    }
}

#[test]
fn a_run_says_where_its_time_went() {
    let ran = Case::new(&square(40)).solve();
    for (path, module) in [
        ("mesh", "phase"),
        ("mesh/box", "mesh"),
        ("assemble", "phase"),
        ("assemble/cells", "assembly"),
        ("assemble/cells/block 0", "assembly"),
        ("pc_setup/multigrid set-up", "solver"),
        ("pc_setup/multigrid set-up/make level 0/galerkin", "solver"),
        ("solve/cg", "solver"),
        ("solve/cg/spmv", "solver"),
        ("solve/cg/precondition/multigrid/cycle 0", "solver"),
        ("output/error norms", "assembly"),
    ] {
        assert_eq!(row(&ran, path)["module"], module, "{path}");
    }
    let iterations = ran.number("/solver/iterations");
    assert_eq!(number(&row(&ran, "solve/cg/spmv")["count"]), iterations);
    assert_eq!(number(&row(&ran, "solve/cg/precondition/multigrid/cycle 0")["count"]), iterations);
    for row in rows(&ran) {
        let [min, mean, max, own] = ["min", "mean", "max", "self_mean"].map(|key| number(&row[key]));
        assert!(min <= mean + 1e-6 && mean <= max + 1e-6 && own <= mean + 1e-6, "{row}");
        assert_eq!(row["waiting"], 0.0, "one rank waits for nobody");
    }
    let allocations = ran.report()["profile"]["allocations"].as_array().expect("allocations");
    let assemble = allocations.iter().find(|row| row["phase"] == "assemble").expect("assemble");
    // The matrix alone: 7 entries of 8 bytes for each of 41^2 unknowns.
    assert!(number(&assemble["mb"]) > 0.08 && number(&assemble["peak_mb"]) > 0.08, "{assemble}");
    let bottlenecks = ran.report()["profile"]["bottlenecks"].as_array().expect("bottlenecks");
    assert!(!bottlenecks.is_empty());
    for found in bottlenecks {
        assert!(number(&found["share"]) >= 0.05, "{found}");
        assert!(found["because"].as_str().is_some_and(|text| text.contains('%')), "{found}");
        assert!(found["hint"].as_str().is_some_and(|text| !text.is_empty()), "{found}");
    }
    let bytes = ran.report()["profile"].to_string().len();
    assert!(bytes < 100_000, "{bytes} bytes");
    assert!(!ran.out().join("trace.json").exists(), "nobody asked for a trace");
    assert!(!ran.ended.stdout.contains("recording:"), "nor for the table");
}

#[test]
fn waiting_is_told_on_several_ranks() {
    let ran = Case::new(&square(40)).ranks(3).args(&["--profile"]).solve();
    let wait = row(&ran, "solve/cg/spmv/halo wait");
    assert_eq!(wait["module"], "mpi");
    let [waiting, messages, mean] = ["waiting", "messages", "mean"].map(|key| number(&wait[key]));
    assert!((waiting + messages - mean).abs() < 1e-6, "{wait}");
    let solve = row(&ran, "solve");
    assert!(number(&solve["waiting"]) >= waiting && number(&solve["messages"]) >= messages, "{solve}");
    assert!(
        number(&solve["waiting"]) + number(&solve["messages"]) <= number(&solve["mean"]) + 1e-6,
        "{solve}"
    );
    assert!(number(&solve["imbalance"]) >= 1.0);
    for part in ["span ", "recording:", "memory", "what takes at least 5%", "try:"] {
        assert!(ran.ended.stdout.contains(part), "no `{part}` in\n{}", ran.ended.stdout);
    }
}

#[test]
fn a_trace_has_a_row_for_each_rank_and_thread() {
    // Large enough for every loop to have tasks for two threads.
    let ran = Case::new(&square(150)).ranks(2).threads(2).args(&["--trace"]).solve();
    let spans = trace(&ran, 2, 2);
    check_phases(&ran, &spans);
    assert!(spans[&(0, 0)].iter().any(|span| span.name == "halo wait"));
    let written = &ran.report()["profile"]["trace"];
    let n: usize = spans.values().map(Vec::len).sum();
    assert_eq!((number(&written["events"]) as usize, number(&written["dropped"])), (n, 0.0), "{written}");
    // Two threads and a writer on each rank.
    assert_eq!((written["file"].as_str(), number(&written["rows"])), (Some("trace.json"), 6.0));
    assert!(number(&written["clock_error"]) < 0.05, "{written}");
    // Ranks leave a reduction together: by the common clock they are in the phase at the same time.
    let begin =
        |rank: u64| spans[&(rank, 0)].iter().find(|span| span.name == "solve").expect("a solve").begin;
    let end = |rank: u64| spans[&(rank, 0)].iter().find(|span| span.name == "solve").expect("a solve").end;
    assert!(begin(0) < end(1) && begin(1) < end(0));
}

#[test]
fn an_adaptive_run_is_traced_phase_by_phase() {
    let ran = Case::new(&adaptive()).ranks(2).args(&["--trace"]).solve();
    let spans = trace(&ran, 2, 1);
    check_phases(&ran, &spans);
    let steps = ran.report()["adapt"]["steps"].as_array().expect("steps").len();
    let refined = spans[&(0, 0)].iter().filter(|span| span.name == "forest adapt").count();
    assert!(refined + 1 >= steps, "{refined} refinements in {steps} steps");
    row(&ran, "refine/forest mesh");
    row(&ran, "estimate/kelly");
}

#[test]
fn petscs_log_is_part_of_the_profile() {
    let text = square(30).replace("cg+amg", "gmres+ilu");
    let ran = Case::new(&text).ranks(2).args(&["--profile"]).solve();
    let events = ran.report()["profile"]["petsc"].as_array().expect("events");
    let event = |name: &str| events.iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    let iterations = ran.number("/solver/iterations");
    assert!(number(&event("petsc.KSPSolve")["count"]) >= 1.0);
    let product = event("petsc.MatMult");
    // 7 entries a row at most, an addition and a multiplication each.
    let most = number(&product["count"]) * 2.0 * 7.0 * 31.0 * 31.0;
    let flops = number(&product["flops"]);
    assert!(flops > 0.5 * most && flops <= most, "{product}");
    assert!(number(&product["count"]) >= iterations && number(&product["messages"]) > 0.0, "{product}");
    assert!(number(&event("petsc.VecMDot")["reductions"]) >= iterations);
    assert!(ran.ended.stdout.contains("PETSc's log"));
    // Without being asked PETSc logs nothing.
    let plain = Case::new(&text).solve();
    assert!(plain.report()["profile"].get("petsc").is_none());
}

/// Counted, not timed: the spans of a run times what one costs, beside the run.
#[test]
fn recording_costs_less_than_a_hundredth() {
    for (text, most) in [(square(100), 3_000.0), (adaptive(), 40_000.0)] {
        let ran = Case::new(&text).solve();
        let overhead = &ran.report()["profile"]["overhead"];
        let (spans, share) = (number(&overhead["spans"]), number(&overhead["share"]));
        assert!(share < 0.01, "{overhead}");
        assert!((100.0..most).contains(&spans), "{overhead}");
    }
}

#[test]
fn nothing_is_recorded_where_that_is_turned_off() {
    let case = Case::new(&square(10));
    let path = case.directory().join("case.toml");
    std::fs::write(&path, square(10)).expect("a case");
    let mut command = common::femdd();
    command.arg("run").arg(&path).args(["--ranks", "1", "--trace"]).env("FEMDD_PROFILE", "off");
    let ended = testing::finish(command, std::time::Duration::from_secs(60));
    assert!(ended.succeeded(), "{}", ended.text());
    let text = std::fs::read_to_string(case.directory().join("case.out/run.json")).expect("run.json");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert!(report.get("profile").is_none() && report["phases"].is_object());
    assert!(!case.directory().join("case.out/trace.json").exists());
}

#[test]
fn logs_with_spans_leave_the_profile_as_it_is() {
    let scratch = testing::Scratch::new();
    let path = scratch.write("case.toml", &square(10));
    let mut command = common::femdd();
    command.arg("run").arg(&path).args(["--ranks", "1"]).env("FEMDD_LOG", "info");
    let ended = testing::finish(command, std::time::Duration::from_secs(60));
    assert!(ended.succeeded(), "{}", ended.text());
    assert!(ended.stderr.contains("solved"), "the log is there: {}", ended.stderr);
    assert!(!ended.stderr.contains("spmv"), "kernels are no part of its lines: {}", ended.stderr);
    let text = std::fs::read_to_string(scratch.path().join("case.out/run.json")).expect("run.json");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let spans = report["profile"]["spans"].as_array().expect("spans");
    assert!(spans.iter().any(|row| row["path"] == "solve/cg"));
}

#[test]
fn every_rank_has_its_own_times_and_memory() {
    let ran = Case::new(&square(60)).ranks(3).solve();
    let kept = &ran.report()["by_rank"];
    assert_eq!((&kept["kept"], &kept["ranks"]), (&"all".into(), &serde_json::json!([0, 1, 2])));
    let column =
        |value: &Value| -> Vec<f64> { value.as_array().expect("a column").iter().map(number).collect() };
    let phases = ran.report()["phases"].as_object().expect("phases");
    assert_eq!(kept["seconds"].as_object().map(|s| s.len()), Some(phases.len()), "{kept:#}");
    let mut waited = 0.0;
    for (name, spread) in phases {
        let (seconds, waiting) = (column(&kept["seconds"][name]), column(&kept["waiting"][name]));
        assert!(seconds.len() == 3 && waiting.len() == 3);
        let near = |a: f64, key: &str| {
            assert!((a - number(&spread[key])).abs() < 2e-7, "{name}: {key} {spread} {a}")
        };
        near(seconds.iter().copied().fold(f64::INFINITY, f64::min), "min");
        near(seconds.iter().copied().fold(0.0, f64::max), "max");
        near(seconds.iter().sum::<f64>() / 3.0, "mean");
        assert!(waiting.iter().zip(&seconds).all(|(w, s)| *w >= 0.0 && *w <= *s + 1e-7), "{name}: {kept:#}");
        waited += waiting.iter().sum::<f64>();
    }
    // Three ranks that meet hundreds of times never come all at once.
    assert!(waited > 0.0, "{kept:#}");
    let memory = column(&kept["memory_mb"]);
    let largest = memory.iter().copied().fold(0.0, f64::max);
    assert!((largest - number(&ran.report()["memory_mb"]["max_rank"])).abs() < 1.0 && memory.len() == 3);
    // One that is not recorded does not know what it waited.
    let ran = Case::new(&square(6)).variable("FEMDD_PROFILE", "off").ranks(2).solve();
    let kept = &ran.report()["by_rank"];
    assert!(kept.get("waiting").is_none() && kept["seconds"]["mesh"].as_array().is_some(), "{kept:#}");
}

#[test]
fn of_many_ranks_those_are_kept_that_tell_most() {
    if !testing::is_inside() {
        testing::figures_of("of_many_ranks_those_are_kept_that_tell_most", 6, 1, Duration::from_secs(60));
        return;
    }
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    let kept = |work: [f64; 6], most: usize| by_rank::chosen(&comm, work[comm.rank()], most);
    let work = [5.0, 1.0, 9.0, 3.0, 8.0, 2.0];
    assert_eq!(kept(work, 6), (Kept::All, (0..6).collect()));
    // One that works most, one that works least, and the first.
    assert_eq!(kept(work, 3), (Kept::Sample, vec![0, 1, 2]));
    // The same, and the first and the last, of which one is known.
    assert_eq!(kept(work, 4), (Kept::Sample, vec![0, 1, 2, 5]));
    // Where all work alike the first ranks are as good as any.
    assert_eq!(kept([1.0; 6], 4), (Kept::Sample, vec![0, 1, 5]));
    if comm.is_root() {
        testing::tell(&[1]);
    }
}
