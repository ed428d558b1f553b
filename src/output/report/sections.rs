//! The sections of the report that are words and tables.
//!
//! Imports its siblings. Start at [`summary`].

use cluster::words::{grouped, plural, seconds};

use super::known;
use super::values::{MOST_ROWS, more, show, words};
use crate::output::chart::number;
use crate::output::page::{Page, Tone};
use crate::output::run_json::{NamedValue, RunReport, Status};

/// How the run stands, and its sizes.
pub(super) fn summary(page: &mut Page, run: &RunReport) {
    page.section("Summary");
    let (tone, status) = match run.status {
        Status::Solved => (Tone::Good, format!("Solved in {}.", seconds(run.wall))),
        Status::NotConverged => (
            Tone::Bad,
            format!("Not converged: the solver stopped before its tolerance, after {}.", seconds(run.wall)),
        ),
        Status::Failed => (Tone::Bad, format!("Failed after {}.", seconds(run.wall))),
        Status::Stopped => {
            (Tone::Warning, format!("Stopped after {} with a checkpoint to go on from.", seconds(run.wall)))
        }
        Status::Running => (
            Tone::Warning,
            "This run has not ended: it still runs, or was killed before it could say so.".to_owned(),
        ),
    };
    page.note(tone, &status);
    if let Some(error) = &run.error {
        let mut text = format!("{}: {}", error.kind, error.message);
        let place = [
            error.file.as_ref().map(|f| format!("file {f}")),
            error.line.map(|l| format!("line {l}")),
            error.key.as_ref().map(|k| format!("key {k}")),
        ];
        let place: Vec<String> = place.into_iter().flatten().collect();
        if !place.is_empty() {
            text.push_str(&format!("\n({})", place.join(", ")));
        }
        page.note(Tone::Bad, &text);
    }
    for warning in run.warnings.iter().take(MOST_ROWS) {
        page.note(Tone::Warning, warning);
    }
    let mut facts = vec![
        ("case", run.case.clone()),
        ("ranks", format!("{}, {} each", plural(run.ranks, "rank"), plural(run.threads, "thread"))),
    ];
    if run.mesh.cells > 0 {
        facts.push(("mesh", format!("{} cells in {}D", grouped(run.mesh.cells), run.mesh.dimension)));
        facts.push(("vertices", grouped(run.mesh.vertices)));
    }
    if run.dofs > 0 {
        facts.push(("degrees of freedom", grouped(run.dofs)));
    }
    if let Some(partition) = &run.partition {
        facts.push(("partition", format!("{}, imbalance {}", partition.method, number(partition.imbalance))));
        facts.push(("facets between ranks", grouped(partition.edge_cut)));
    }
    if let Some(solver) = &run.solver {
        facts.push(("solver", solver.method.clone()));
        facts.push(("iterations", grouped(solver.iterations)));
        facts.push(("relative residual", number(solver.relative_residual)));
    }
    if run.memory_mb.sum > 0.0 {
        let memory = &run.memory_mb;
        facts.push(("peak memory of a rank", format!("{:.0} MiB", memory.max_rank)));
        facts.push(("peak memory, all ranks", format!("{:.0} MiB", memory.sum)));
    }
    facts.push(("femdd", run.femdd.clone()));
    page.pairs(&facts);
}

/// What the user asked for: errors, probes, integrals.
pub(super) fn results(page: &mut Page, run: &RunReport) {
    if run.errors.is_none() && run.probes.is_empty() && run.integrals.is_empty() {
        return;
    }
    page.section("Results");
    if let Some(errors) = &run.errors {
        let row = |name: &str, l2: f64, h1: f64| vec![name.to_owned(), number(l2), number(h1)];
        let mut rows = vec![row("all", errors.l2, errors.h1)];
        rows.extend(errors.fields.iter().map(|(name, f)| row(name, f.l2, f.h1)));
        page.captioned_table(
            "Errors against the exact solution",
            &["field", "L2 norm", "H1 seminorm"],
            &rows,
        );
    }
    named(page, "Probes", &run.probes, "probes.csv");
    named(page, "Integrals", &run.integrals, "run.json");
}

fn named(page: &mut Page, caption: &str, values: &[NamedValue], file: &str) {
    if values.is_empty() {
        return;
    }
    let columns = values.iter().map(|v| v.value.len()).max().unwrap_or(1);
    let mut head = vec!["name".to_owned()];
    match columns {
        1 => head.push("value".to_owned()),
        6 => head.extend(["xx", "yy", "zz", "xy", "yz", "xz"].map(str::to_owned)),
        2 | 3 => head.extend(["x", "y", "z"].iter().take(columns).map(|&c| c.to_owned())),
        n => head.extend((1..=n).map(|k| k.to_string())),
    }
    let rows = values.iter().take(MOST_ROWS).map(|v| {
        let mut row = vec![v.name.clone()];
        row.extend((0..columns).map(|k| v.value.get(k).map_or(String::new(), |x| exact(*x))));
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    page.captioned_table(caption, &head, &rows);
    more(page, values.len(), file);
}

/// A result: with digits enough to compare two runs.
fn exact(x: f64) -> String {
    if x.is_nan() { "\u{2013}".to_owned() } else { format!("{x:.7e}").replace('-', "\u{2212}") }
}

/// Keys that have their own place elsewhere on the page, or none.
const SHOWN: [&str; 2] = ["communication", "sizes"];

/// Keys with a section of their own, in this order.
const SECTIONS: [(&str, &str); 7] = [
    ("plan", "Plan"),
    ("events", "Decisions"),
    ("profile", "Profile"),
    ("monitor", "Monitoring"),
    ("machine", "Machine"),
    ("checkpoints", "Checkpoints"),
    ("restart", "Restart"),
];

/// What other parts of femdd added to `run.json`.
pub(super) fn others(page: &mut Page, run: &RunReport) {
    let phases: Vec<String> = run.phases.iter().map(|p| p.name.clone()).collect();
    for (key, heading) in SECTIONS {
        if let Some(value) = run.extra.get(key).filter(|v| !is_empty(v)) {
            page.section(heading);
            known::show(page, key, heading, value, &phases);
        }
    }
    let rest = run.extra.iter().filter(|(key, value)| {
        !SHOWN.contains(&key.as_str()) && SECTIONS.iter().all(|(k, _)| k != key) && !is_empty(value)
    });
    for (key, value) in rest {
        page.section(&words(key));
        show(page, &words(key), value);
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(entries) => entries.is_empty(),
        serde_json::Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The case as it was resolved, and what it matched.
pub(super) fn case(page: &mut Page, run: &RunReport, text: &str) {
    page.section("Case");
    if !run.boundary.is_empty() {
        let extra: Vec<&String> = {
            let mut keys: Vec<&String> = run.boundary.iter().flat_map(|b| b.extra.keys()).collect();
            keys.sort();
            keys.dedup();
            keys
        };
        let mut head = vec!["boundary".to_owned(), "facets".to_owned()];
        head.extend(extra.iter().map(|key| words(key)));
        let rows = run.boundary.iter().take(MOST_ROWS).map(|b| {
            let mut row = vec![b.name.clone(), grouped(b.facets)];
            row.extend(
                extra.iter().map(|key| b.extra.get(*key).map(super::values::text).unwrap_or_default()),
            );
            row
        });
        let rows: Vec<Vec<String>> = rows.collect();
        page.captioned_table("Boundary conditions and what they matched", &head, &rows);
        more(page, run.boundary.len(), "run.json");
    }
    for (key, caption) in
        [("sizes", "Sizes"), ("communication", "Messages by phase: for each count the largest of any rank")]
    {
        if let Some(value) = run.extra.get(key).filter(|v| !is_empty(v)) {
            if key == "sizes" {
                page.heading(caption);
            }
            show(page, caption, value);
        }
    }
    if !text.is_empty() {
        page.folded("The case with every default (case.resolved.toml)", text);
    }
}
