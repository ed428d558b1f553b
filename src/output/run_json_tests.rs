//! Tests of `run.json` against the case format's example.

use testing::Scratch;

use super::*;

/// The example of the case format, word for word.
const EXAMPLE: &str = r#"{ "schema": 1, "femdd": "0.1.0", "case": "bracket", "status": "solved", "ranks": 2, "threads": 1,
  "mesh": {"cells": 6000000, "vertices": 1030301, "dimension": 3},
  "dofs": 1030301,
  "boundary": [{"name": "clamp", "facets": 412}],
  "partition": {"imbalance": 1.01, "edge_cut": 20312, "method": "metis"},
  "solver": {"method": "cg+boomeramg", "reason": "symmetric scalar law", "iterations": 11, "relative_residual": 4.1e-9, "converged": true, "attempts": []},
  "errors": {"l2": 1.6e-4, "h1": 0.02},
  "probes": [{"name": "stress at the fillet", "value": 1.2e8}],
  "integrals": [{"name": "support force", "value": 12.3}],
  "adapt": {"stop_reason": "max_dofs", "steps": [{"step": 0, "cells": 96, "dofs": 61, "estimate": 0.4, "l2": 0.1, "h1": 0.3, "imbalance_before": 1.8, "imbalance_after": 1.03, "moved_cells": 11, "edge_cut": 17}]},
  "phases": {"mesh": {"min": 1.0, "mean": 1.1, "max": 1.2}, "solve": {"min": 2.0, "mean": 2.1, "max": 2.2}, "assemble": {"min": 0.0, "mean": 0.1, "max": 0.2}},
  "wall": 7.3, "memory_mb": {"max_rank": 760.0, "sum": 1500.0},
  "warnings": [], "error": null }"#;

#[test]
fn the_example_of_the_case_format_survives_unchanged() {
    let report: RunReport = serde_json::from_str(EXAMPLE).expect("reads");
    assert_eq!(report.status, Status::Solved);
    let names: Vec<&str> = report.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["mesh", "solve", "assemble"], "phases keep their order");
    assert_eq!(report.probes[0].value, [1.2e8]);
    let written = serde_json::to_value(&report).expect("writes");
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(EXAMPLE).expect("JSON"));
}

#[test]
fn a_report_just_begun_has_every_key() {
    let written = serde_json::to_value(RunReport::started("bracket", 2, 1)).expect("writes");
    let example: serde_json::Value = serde_json::from_str(EXAMPLE).expect("JSON");
    for key in example.as_object().expect("an object").keys() {
        assert!(written.get(key).is_some(), "{key}");
    }
    assert_eq!(written["status"], "running");
    assert!(written["error"].is_null());
}

#[test]
fn numbers_that_are_not_finite_are_null() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE_NAME);
    let mut report = RunReport::started("bracket", 1, 1);
    report.wall = f64::INFINITY;
    report.errors = Some(ErrorsReport { l2: f64::NAN, h1: 1.0, ..ErrorsReport::default() });
    report.probes = vec![
        NamedValue { name: "a".to_owned(), value: vec![f64::NAN] },
        NamedValue { name: "b".to_owned(), value: vec![1.0, f64::NEG_INFINITY] },
    ];
    let step = AdaptStep { estimate: f64::NAN, l2: Some(f64::NAN), ..AdaptStep::default() };
    report.adapt = Some(AdaptReport { stop_reason: "failed".to_owned(), steps: vec![step] });
    report.phases = vec![PhaseRow { name: "solve".to_owned(), min: f64::NAN, mean: 1.0, max: 2.0 }];
    report.write_atomic(&path).expect("writes");
    let text = fs::read_to_string(&path).expect("reads");
    let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert!(
        value["wall"].is_null() && value["errors"]["l2"].is_null() && value["probes"][0]["value"].is_null()
    );
    assert_eq!(value["probes"][1]["value"], serde_json::json!([1.0, null]));
    let back = RunReport::read(&path).expect("reads back");
    assert!(back.wall.is_nan() && back.probes[0].value[0].is_nan() && back.probes[1].value[0] == 1.0);
    assert!(!scratch.path().join("run.json.part").exists());
}

#[test]
fn further_keys_stand_beside_the_others() {
    let mut report = RunReport::started("bracket", 1, 1);
    report.extra.insert("host".to_owned(), serde_json::json!("node-1"));
    let text = serde_json::to_string(&report).expect("writes");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["host"], "node-1");
    assert_eq!(serde_json::from_str::<RunReport>(&text).expect("reads"), report);
}

#[test]
fn a_report_of_another_schema_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE_NAME);
    fs::write(&path, EXAMPLE.replace("\"schema\": 1", "\"schema\": 7")).expect("writes");
    let error = RunReport::read(&path).expect_err("refused");
    assert!(error.to_string().contains("schema 7"), "{error}");
    fs::write(&path, "{").expect("writes");
    assert!(matches!(RunReport::read(&path), Err(OutputError::Format { .. })));
}

#[test]
fn the_output_directory_is_made_or_must_be_ours() {
    let scratch = Scratch::new();
    let fresh = scratch.path().join("a/b.out");
    prepare_directory(&fresh).expect("makes it with its parents");
    prepare_directory(&fresh).expect("an empty one is taken");
    fs::write(fresh.join("thesis.tex"), "years of work").expect("writes");
    assert_eq!(prepare_directory(&fresh), Err(OutputError::NotOurs { path: fresh.clone() }));
    fs::write(fresh.join(FILE_NAME), "{\"scripts\": {}}").expect("writes");
    assert_eq!(prepare_directory(&fresh), Err(OutputError::NotOurs { path: fresh.clone() }));
    RunReport::started("b", 1, 1).write_atomic(&fresh.join(FILE_NAME)).expect("writes");
    prepare_directory(&fresh).expect("now it is ours");
    let mut names: Vec<_> =
        fs::read_dir(&fresh).expect("lists").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["run.json", "thesis.tex"], "no probe stays behind");
}

#[test]
fn a_directory_that_cannot_be_made_says_why() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "").expect("writes");
    for path in [file.clone(), file.join("below"), PathBuf::from("/proc/femdd.out")] {
        let error = prepare_directory(&path).expect_err("cannot be made");
        assert!(matches!(error, OutputError::NotWritable { .. }), "{path:?}: {error}");
    }
}
