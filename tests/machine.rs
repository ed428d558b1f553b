//! What a run says of the machine and of what it used, by the real command: `machine` and `monitor` in `run.json`, limits on
//! memory, metrics.
//!
//! Start at [`CASE`].

mod common;

use std::time::Duration;

use common::{Case, Ran, Scratch, femdd, finish};
use serde_json::Value;

/// Small, and over in a moment.
const CASE: &str = "[case]\nformat = 1\n[mesh]\nbox = { size = [1, 1, 1], cells = [12, 12, 12] }\n[physics]\n\
                    law = \"poisson\"\nsource = 1\n[boundary.x-min]\nvalue = 0\n";

fn entry<'r>(ran: &'r Ran, pointer: &str) -> &'r Value {
    ran.report().pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}:\n{:#}", ran.report()))
}

#[test]
fn a_run_says_what_it_runs_on_and_what_it_used() {
    let ran = Case::new(CASE).ranks(2).solve();
    assert_eq!((ran.number("/machine/n_hosts"), ran.number("/machine/ranks_per_host/max")), (1.0, 2.0));
    assert_eq!(ran.number("/machine/threads"), 1.0);
    assert!(ran.number("/machine/cores") >= 1.0 && ran.number("/machine/memory_limit") > 1e8);
    assert_eq!(entry(&ran, "/machine/launcher/kind"), "mpirun");
    let transport = entry(&ran, "/machine/network/transport").as_array().expect("a list");
    assert!(transport.iter().any(|t| t == "pml ob1"), "{transport:?}");
    // Every phase of the report is watched, and what both say of time agrees.
    for (name, row) in entry(&ran, "/phases").as_object().expect("phases") {
        let watched = ran.number(&format!("/monitor/phases/{name}/seconds/max"));
        let seconds = row["max"].as_f64().expect("a number");
        assert!((watched - seconds).abs() < 0.05 + 0.2 * seconds, "{name}: {watched} and {seconds}");
    }
    // The peak of the whole run is the one that the kernel knows.
    let peak = ran.number("/monitor/total/memory_peak/max") / f64::from(1 << 20);
    let known = ran.number("/memory_mb/max_rank");
    assert!((peak / known - 1.0).abs() < 0.05, "{peak} MiB, the kernel says {known}");
    let written = ran.number("/monitor/phases/output/written/mean");
    assert!(written > 1e4, "{written}");
    assert!(ran.number("/monitor/sampling/samples/min") >= 1.0);
    let n = entry(&ran, "/monitor/series/memory/max").as_array().expect("a list").len();
    assert!((1..=200).contains(&n), "{n}");
    assert!(entry(&ran, "/monitor/watchdog/limit").as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn watching_can_be_turned_off() {
    let ran = Case::new(CASE).variable("FEMDD_MONITOR", "off").solve();
    assert!(ran.report().get("monitor").is_none() && ran.report().get("machine").is_some());
}

#[test]
fn more_threads_than_cores_are_a_warning_once() {
    let threads = 2 * std::thread::available_parallelism().map_or(64, usize::from) + 1;
    let ran = Case::new(CASE).threads(threads).run();
    let shown = ran.ended.stdout.clone() + &ran.ended.stderr;
    // Some hosts do not allow so many threads; then there is nothing to see.
    if ran.ended.code() == 0 {
        let warnings = entry(&ran, "/warnings").as_array().expect("a list");
        assert!(
            warnings.iter().any(|w| w.as_str().is_some_and(|w| w.contains(&format!("{threads} threads")))),
            "{warnings:?}"
        );
        assert_eq!(shown.matches(&format!("of {threads} threads on")).count(), 1, "{shown}");
    }
}

#[test]
fn ranks_that_were_asked_for_are_no_warning() {
    let ran = Case::new(CASE).ranks(5).solve();
    assert_eq!(entry(&ran, "/warnings"), &Value::Array(Vec::new()));
    let cores = ran.number("/machine/cores");
    let notes = entry(&ran, "/machine/notes").as_array().expect("a list").len();
    assert_eq!(notes, usize::from(cores < 5.0));
}

/// The limit is far below what any run takes, so the watchdog barks at once and the run stops at the next chance.
#[test]
fn little_memory_stops_a_run_with_a_checkpoint() {
    for (ranks, arguments) in
        [(1, &["--memory-limit", "1MiB"]), (2, &["--set", "performance.memory_limit=1048576"])]
    {
        let ran = Case::new(CASE).ranks(ranks).args(arguments).run();
        assert_eq!(ran.ended.code(), 4, "{}", ran.ended.text());
        assert_eq!(entry(&ran, "/status"), "stopped");
        assert!(
            ran.ended.stderr.contains("memory runs out: rank 0: 0 B left of 1.0 MiB"),
            "{}",
            ran.ended.text()
        );
        assert!(ran.ended.stderr.contains("Use more hosts or fewer ranks a host"), "{}", ran.ended.text());
        assert_eq!(entry(&ran, "/monitor/watchdog/of"), "own");
    }
    let wrong = Case::new(CASE).args(&["--memory-limit", "lots"]).run();
    assert_eq!(wrong.ended.code(), 2, "{}", wrong.ended.text());
    let wrong = Case::new(CASE).args(&["--set", "performance.memory_limit=\"lots\""]).run();
    assert_eq!(wrong.ended.code(), 2);
    assert!(wrong.ended.stderr.contains("2GiB"), "{}", wrong.ended.text());
}

#[test]
fn metrics_end_with_the_totals_of_all_ranks() {
    let case = Case::new(CASE).ranks(2);
    let path = case.directory().join("run.prom");
    let ran = case.args(&["--metrics".into(), path.clone().into_os_string()]).solve();
    let text = std::fs::read_to_string(&path).expect("a file");
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(&format!("femdd_{name}{{case=\"case\",job=\"\"")));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
        line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a number")
    };
    assert_eq!((value("up"), value("ranks")), (0.0, 2.0));
    assert_eq!(value("dofs"), ran.number("/dofs"));
    assert_eq!(value("iterations"), ran.number("/solver/iterations"));
    assert!(value("residual") > 0.0 && value("residual") < 1e-3);
    let peak = value("job_memory_peak_bytes_max");
    assert!((peak / ran.number("/monitor/total/memory_peak/max") - 1.0).abs() < 1e-6);
}

#[test]
fn metrics_tell_ranks_apart_while_the_run_goes_on() {
    let scratch = Scratch::new();
    // Tens of thousands of cheap iterations, as the diffusion differs much from place to place.
    let text = "[case]\nformat = 1\n[mesh]\nbox = { size = [1, 1], cells = [200, 200], shape = \"triangle\" }\n\
                [physics]\nlaw = \"poisson\"\nsource = \"1 + x\"\ndiffusion = \"if(sin(40*x)*sin(40*y) < 0, 1, 1e-4)\"\n\
                [boundary.a]\non = [\"x-min\"]\nvalue = 0\n\
                [solver]\nmethod = \"cg+none\"\ntolerance = 1e-11\nmax_iterations = 100000\n";
    let (case, path) = (scratch.write("case.toml", text), scratch.path().join("run.prom"));
    let mut command = femdd();
    command.arg("run").arg(&case).args(["--ranks", "3", "--threads", "1", "--quiet", "--time-limit", "4s"]);
    command.arg("--metrics").arg(&path).arg("--output").arg(scratch.path().join("out"));
    let run = std::thread::spawn(move || finish(command, Duration::from_secs(120)));
    let rank_of = |sample: &(String, f64), family: &str| -> Option<u32> {
        let labels = sample.0.strip_prefix(family)?;
        assert!(labels.starts_with("{case=\"case\",job=\"\",host=\""), "{labels}");
        labels.split("rank=\"").nth(1)?.split('"').next()?.parse().ok()
    };
    let mut seen = false;
    while !run.is_finished() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let samples = testing::metrics::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        let up = samples.iter().any(|s| s.0.starts_with("femdd_up{") && s.1 == 1.0);
        for family in ["femdd_rank_memory_bytes", "femdd_rank_cpu_seconds_total"] {
            let ranks: Vec<u32> = samples.iter().filter_map(|s| rank_of(s, family)).collect();
            assert_eq!(ranks, if up { vec![0, 1, 2] } else { Vec::new() }, "{text}");
        }
        let of = |start: &str| -> Vec<f64> {
            samples.iter().filter(|s| s.0.starts_with(start)).map(|s| s.1).collect()
        };
        assert_eq!(of("femdd_ranks{").len(), usize::from(!up), "totals are for the end:\n{text}");
        if up {
            assert!(of("femdd_rank_memory_bytes{").iter().all(|bytes| *bytes > 1e6), "{text}");
            // Of rank 0 both ways of looking agree, but for what has changed between.
            let (a, b) = (of("femdd_rank_memory_bytes{")[0], of("femdd_memory_bytes{")[0]);
            assert!((a / b - 1.0).abs() < 0.25, "{a} and {b}");
            seen = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = run.join().expect("ends");
    assert!(seen && ended.code() == 4, "{}", ended.text());
    let samples = testing::metrics::parse(&std::fs::read_to_string(&path).expect("a file")).expect("parses");
    let value = |start: &str| samples.iter().find(|s| s.0.starts_with(start)).map(|s| s.1);
    assert_eq!((value("femdd_up{"), value("femdd_ranks{")), (Some(0.0), Some(3.0)));
    assert!(samples.iter().all(|s| !s.0.starts_with("femdd_rank_")), "{samples:?}");
}
