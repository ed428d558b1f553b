//! `femdd report` on runs of every kind, each page opened in a headless Chromium: light and dark, narrow and wide,
//! and printed.
//!
//! Imports the tests' own `common`. Start at `every_page_looks_right`. `tests/look_at_pages.py` is the reader; it needs
//! Chromium (`FEMDD_CHROMIUM`, or `chromium` in PATH), without which this test fails.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Case, Ran, Scratch, femdd, finish, mesh};
use femdd::output::by_rank::{ByRank, Kept};
use femdd::output::run_json::{FILE_NAME, RunReport};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);

/// A name that is markup, quotes and a reference.
const HOSTILE: &str = r#"</title><script>alert('x')</script> "onload='1' &amp; <b>body"#;

/// Runs a command that must succeed; what it printed.
fn printed(command: Command) -> String {
    let ended = finish(command, LIMIT);
    assert!(ended.succeeded(), "{}", ended.text());
    ended.text()
}

/// Makes the report of a directory.
fn report(dir: &Path) -> PathBuf {
    let mut command = femdd();
    command.arg("report").arg(dir);
    assert!(printed(command).contains("report.html"));
    dir.join("report.html")
}

/// What a browser says of pages, in their order.
fn looked_at(pages: &[PathBuf]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/look_at_pages.py");
    let mut command = Command::new("python3");
    command.arg(script);
    // For a person who wants to look as well.
    if let Some(dir) = std::env::var_os("FEMDD_SHOTS") {
        command.arg("--shots").arg(dir);
    }
    command.args(pages);
    let output = command.output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("text")).collect()
}

/// A body on two ranks whose names are hostile, and `--report` with it.
fn body() -> Ran {
    let title = HOSTILE.replace('"', "\\\"");
    let text = format!(
        "[case]\nformat = 1\ntitle = \"{title}\"\n\
         [mesh]\nbox = {{ size = [4, 1, 1], cells = [12, 3, 3] }}\n\
         [physics]\nlaw = \"elasticity\"\nyoung = 100\npoisson_ratio = 0.3\nbody_force = [0, 0, -1]\n\
         [solver]\nmethod = \"cg+amg\"\n[boundary.x-min]\ndisplacement = [0, 0, 0]\n\
         [[probe]]\nname = \"{title}\"\nat = [4, 0.5, 0.5]\nfield = \"u\"\n\
         [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n\
         [output]\nfields = [\"u\", \"von_mises\", \"rank\"]\n"
    );
    Case::new(&text).ranks(2).args(&["--report"]).solve()
}

/// A plane problem of degree 3 with many probes, on cells of two shapes.
fn plane() -> Ran {
    let mut text = format!(
        "[mesh]\nfile = {:?}\n[space]\ndegree = 3\n\
         [physics]\nlaw = \"poisson\"\nsource = \"1 + x\"\n\
         [output]\nfields = [\"u\", \"flux\"]\n[boundary.x-min]\nvalue = 0\n",
        mesh("mixed-1.msh")
    );
    for k in 0..1000 {
        text.push_str(&format!(
            "[[probe]]\nname = \"p{k}\"\nat = [{}, 0.4]\nfield = \"u\"\n",
            0.2 + 0.0005 * f64::from(k)
        ));
    }
    Case::new(&text).ranks(2).solve()
}

fn line() -> Ran {
    common::solve(
        "[mesh]\nbox = { size = [1], cells = [4000] }\n[space]\ndegree = 2\n\
         [physics]\nlaw = \"poisson\"\nsource = \"sin(20*x)\"\n[boundary.all]\non = [\"x-min\", \"x-max\"]\nvalue = 0\n",
    )
}

fn adaptive() -> Ran {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/l-shape/l-shape.msh");
    let value = "\"(x^2 + y^2)^(1/3)*sin(2/3*if(y < 0, atan2(y, x) + 2*pi, atan2(y, x)))\"";
    let text = format!(
        "[mesh]\nfile = {:?}\n[physics]\nlaw = \"poisson\"\n[boundary.wall]\nvalue = {value}\n\
         [adapt]\nestimator = \"kelly\"\nmarking = {{ dorfler = 0.5 }}\nmax_dofs = 3000\nmax_steps = 12\n\
         [exact]\nvalue = {value}\n[output]\nfields = [\"u\", \"indicator\", \"rank\"]\n",
        file.to_str().expect("a path in UTF-8")
    );
    Case::new(&text).ranks(3).solve()
}

fn failing(rest: &str) -> Ran {
    let text = format!(
        "[mesh]\nbox = {{ size = [1, 1], cells = [20, 20] }}\n[physics]\nlaw = \"poisson\"\n{rest}\
         [boundary.x-min]\nvalue = 0\n"
    );
    let ran = Case::new(&text).args(&["--report"]).run();
    assert_ne!(ran.ended.code(), 0);
    ran
}

/// A run that has only begun, with what other parts of femdd add to `run.json`, and a trace.
fn begun(scratch: &Scratch) -> PathBuf {
    let dir = scratch.path().to_path_buf();
    let mut run = RunReport::started(HOSTILE, 4, 2);
    let rows: Vec<Value> =
        (0..500).map(|k| json!({"what": format!("w{k}"), "choice": HOSTILE, "inputs": {"n": k}})).collect();
    let bottleneck = json!({"kind": "phase", "name": "solve", "seconds": 1.5, "share": 0.5, "bound": "bytes", "because": HOSTILE, "hint": "h"});
    for (key, value) in [
        (
            "machine",
            json!({"cores": 16, "nodes": [{"name": "n1", "ranks": 2}, {"name": "n2", "ranks": 2}], "gpus": []}),
        ),
        ("monitor", json!({"memory": {"mesh": {"mb": 100.5}, "solve": {"mb": 230.26}}})),
        ("profile", json!({"bottlenecks": [bottleneck], "overhead": {"share": 0.001}})),
        ("events", json!(rows)),
        ("plan", json!({"predicted": {"total": 3.5}, "measured": null})),
        ("checkpoints", json!([{"file": "checkpoint-1.h5", "seconds": 0.25}])),
        ("restart", json!({"file": "checkpoint-0.h5", "ranks": 3})),
        ("of_the_future", json!({"a": [1, [2, {"b": HOSTILE}]]})),
    ] {
        run.extra.insert(key.to_owned(), value);
    }
    let of = |scale: f64| (0..64).map(|k| scale * f64::from(1 + k % 7)).collect::<Vec<f64>>();
    run.ranks = 10_000;
    run.by_rank = Some(ByRank {
        kept: Kept::Sample,
        ranks: (0..64).map(|k| 158 * k).collect(),
        seconds: [("mesh".to_owned(), of(1.0)), (HOSTILE.to_owned(), of(0.25))].into(),
        waiting: [("mesh".to_owned(), of(0.5)), (HOSTILE.to_owned(), of(0.0))].into(),
        memory_mb: of(100.0),
    });
    run.phases = vec![
        femdd::output::phases::PhaseRow { name: "mesh".to_owned(), min: 0.5, mean: 0.75, max: 1.0 },
        femdd::output::phases::PhaseRow { name: HOSTILE.to_owned(), min: 0.0, mean: 0.25, max: 1.0 },
    ];
    run.write_atomic(&dir.join(FILE_NAME)).expect("run.json");
    let event = |k: usize| json!({"ph": "X", "name": format!("kernel {}", k % 15), "pid": k % 4, "tid": k % 2, "ts": 1000 * k, "dur": 1500});
    let events: Vec<Value> = (0..200).map(event).collect();
    scratch.write("trace.json", &json!({"traceEvents": events}).to_string());
    // A solution that is none must not keep the rest from being shown.
    scratch.write("solution.hdf", "not HDF5");
    dir
}

#[test]
fn every_page_looks_right() {
    let (body, plane, line, adaptive) = (body(), plane(), line(), adaptive());
    let failed = failing("source = \"sqrt(x - 0.5)\"\n");
    let stuck = failing("source = 1\n[solver]\nmethod = \"cg+amg\"\nmax_iterations = 2\n");
    let scratch = Scratch::new();
    let begun = begun(&scratch);
    // Of three runs --report has made the page already.
    for ran in [&body, &failed, &stuck] {
        assert!(ran.out().join("report.html").is_file(), "{}", ran.ended.text());
    }
    let mut pages: Vec<PathBuf> = [&plane, &line, &adaptive].map(|ran| report(&ran.out())).into();
    pages.extend([&body, &failed, &stuck].map(|ran| ran.out().join("report.html")));
    pages.push(report(&begun));
    // Names for the screenshots.
    let named = Scratch::new();
    let names = ["plane", "line", "adaptive", "body", "failed", "stuck", "begun"];
    let pages: Vec<PathBuf> = pages
        .iter()
        .zip(names)
        .map(|(page, name)| {
            let copy = named.path().join(format!("{name}.html"));
            std::fs::copy(page, &copy).expect("copies a page");
            copy
        })
        .collect();

    let seen = looked_at(&pages);
    assert_eq!(seen.len(), names.len());
    for (name, page) in names.iter().zip(&seen) {
        assert_eq!(page["problems"], json!([]), "{name}");
        assert!(page["facts"]["printed_pages"].as_u64() >= Some(1), "{name} is not printed");
    }
    let of = |name: &str| &seen[names.iter().position(|n| *n == name).expect("a page")]["facts"];
    let has = |name: &str, what: &str| {
        let text = of(name)["text"].as_str().expect("text");
        assert!(text.contains(what), "{name} does not say {what}:\n{text}");
    };
    let charts = |name: &str, wanted: &[&str]| {
        let found = strings(&of(name)["charts"]);
        for title in wanted {
            assert!(found.iter().any(|t| t.starts_with(title)), "{name} has no chart {title}: {found:?}");
        }
    };

    // Two fields and the partition.
    assert_eq!(of("body")["images"], 3);
    assert_eq!(of("body")["title"], HOSTILE);
    has("body", "von_mises from ");
    has("body", "|displacement| from 0 to ");
    has("body", "The partition: 2 ranks with ");
    has("body", HOSTILE);
    charts(
        "body",
        &["Residual", "Time by phase", "Spread over the ranks", "Time by rank", "Peak memory by rank"],
    );
    has("body", "what it waits for others");
    assert_eq!(of("plane")["images"], 3);
    has("plane", "p199");
    has("plane", "The first 200 of 1,000; all of them are in probes.csv.");
    assert_eq!(of("line")["images"], 0);
    charts("line", &["u"]);
    assert_eq!(of("adaptive")["images"], 2);
    charts("adaptive", &["Convergence of the adaptive loop", "Balance of the ranks"]);
    has("adaptive", "estimate, fitted: DOFs to the \u{2212}0.");
    has("failed", "Failed after");
    has(
        "failed",
        failed.report()["error"]["message"].as_str().expect("a message").lines().next().expect("a line"),
    );
    has("stuck", "Not converged");
    assert_eq!(of("stuck")["images"], 2, "what was reached is drawn: field and flux");
    has("begun", "This run has not ended");
    has("begun", "The solution could not be drawn");
    charts("begun", &["Timeline", "Time by rank", "Peak memory by rank"]);
    has("begun", "64 of 10,000 ranks");
    assert!(
        strings(&of("line")["charts"]).iter().all(|t| !t.contains("by rank")),
        "one rank is no comparison"
    );
    for heading in
        ["Plan", "Decisions", "Profile", "Monitoring", "Machine", "Checkpoints", "Restart", "of the future"]
    {
        assert!(strings(&of("begun")["headings"]).contains(&heading), "no section {heading}");
    }
    for what in ["w199", "checkpoint-0.h5", "n2", "230.3", HOSTILE] {
        has("begun", what);
    }
}

#[test]
fn the_reader_finds_what_is_wrong() {
    let scratch = Scratch::new();
    let page = scratch.write(
        "bad.html",
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>t</title>\
         <body style=\"background:#fff\" onclick=\"\"><p style=\"color:#ccc\">pale<div style=\"width:2000px\">wide</div>\
         <script>console.log('said')</script><img src=\"http://127.0.0.1:1/x.png\">\
         <svg width=\"100\" height=\"20\"><text y=\"15\">one</text><text y=\"15\" x=\"90\">beyond</text><text y=\"15\">two</text></svg>",
    );
    let seen = looked_at(&[page]);
    let problems = strings(&seen[0]["problems"]).join("\n");
    for wanted in [
        "pixels wide in a window of 400",
        "contrast of",
        "there is a script",
        "an element has onclick",
        "console: said",
        "request: http://127.0.0.1:1/x.png",
        "an image did not load",
        "chart text is cut off: beyond",
        "chart texts overlap: one / two",
        "a chart has no title",
        "dark, 400 pixels wide: the background",
    ] {
        assert!(problems.contains(wanted), "not found: {wanted}\n{problems}");
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let scratch = Scratch::new();
    let run = |path: &Path| {
        let mut command = femdd();
        command.arg("report").arg(path);
        finish(command, LIMIT)
    };
    let file = scratch.write("file", "");
    for (path, why) in [
        (scratch.path().join("gone"), "does not exist"),
        (file, "is not a directory"),
        (scratch.path().to_path_buf(), "holds no run.json"),
    ] {
        let ended = run(&path);
        assert!(ended.code() == 2 && ended.text().contains(why), "{}", ended.text());
    }
    scratch.write("run.json", "{\"schema\": 1, \"femdd\": \"0\"}");
    let ended = run(scratch.path());
    assert!(ended.code() != 0 && ended.text().contains("not a report of femdd"), "{}", ended.text());
}

#[test]
fn a_page_can_go_elsewhere() {
    let scratch = Scratch::new();
    RunReport::started("x", 1, 1).write_atomic(&scratch.path().join(FILE_NAME)).expect("run.json");
    let to = scratch.path().join("elsewhere.html");
    let mut command = femdd();
    command.arg("report").arg(scratch.path()).arg("--output").arg(&to);
    assert!(printed(command).contains("elsewhere.html"));
    assert!(to.is_file() && !scratch.path().join("report.html").exists());
}
