//! How the solver and the adaptive loop converged.
//!
//! Imports its siblings. Start at [`section`].

use cluster::words::grouped;
use serde_json::Value;

use super::values::{MOST_ROWS, more, text, words};
use crate::output::chart::{Axis, Chart, Mark, Series, number};
use crate::output::page::{Page, Tone};
use crate::output::run_json::{AdaptReport, RunReport, SolverReport};

/// Steps that a slope is fitted to: the last ones, where the loop has settled.
const FITTED: usize = 5;

/// The solver and the adaptive loop, if they came so far.
pub(super) fn section(page: &mut Page, run: &RunReport) {
    if run.solver.is_none() && run.adapt.is_none() {
        return;
    }
    page.section("Convergence");
    if let Some(adapt) = &run.adapt {
        adaptive(page, adapt);
    }
    if let Some(solver) = &run.solver {
        linear(page, solver, run.adapt.is_some());
    }
}

/// The residual over the iterations.
fn linear(page: &mut Page, solver: &SolverReport, adaptive: bool) {
    let history = history(solver);
    if !solver.reason.is_empty() {
        page.paragraph(&format!("Solver: {} ({}).", solver.method, solver.reason));
    }
    // Of a direct method there is nothing to see.
    if history.len() > 2 {
        let which = if adaptive { " of the last solve" } else { "" };
        let chart = Chart {
            title: format!("Residual{which}: {}", solver.method),
            x: Axis::linear("iteration"),
            y: Axis::log("relative residual"),
            series: vec![Series { name: "relative residual".to_owned(), points: history, mark: Mark::Line }],
        };
        page.svg(
            &chart.svg(),
            "The residual that the method itself tracks, over the norm of the right-hand side.",
        );
    }
    for attempt in solver.attempts.iter().take(MOST_ROWS) {
        page.note(Tone::Warning, &format!("A method that was tried before: {}", text(attempt)));
    }
    let facts: Vec<(String, String)> = solver
        .extra
        .iter()
        .filter(|(key, value)| *key != "history" && !value.is_null())
        .map(|(key, value)| (words(key), text(value)))
        .collect();
    if !facts.is_empty() {
        page.pairs(&facts);
    }
}

/// Iterations and relative residuals.
fn history(solver: &SolverReport) -> Vec<[f64; 2]> {
    let entries =
        solver.extra.get("history").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entry = |v: &Value| {
        let [a, b] = v.as_array()?.as_slice() else { return None };
        Some([a.as_f64()?, b.as_f64().unwrap_or(f64::NAN)])
    };
    entries.iter().filter_map(entry).collect()
}

/// Estimate and errors over the degrees of freedom, and a row for each step.
fn adaptive(page: &mut Page, adapt: &AdaptReport) {
    page.paragraph(&format!("{} adaptive steps, ended by {}.", adapt.steps.len(), words(&adapt.stop_reason)));
    let of = |value: &dyn Fn(&crate::output::run_json::AdaptStep) -> Option<f64>| -> Vec<[f64; 2]> {
        adapt
            .steps
            .iter()
            .filter_map(|s| Some([s.dofs as f64, value(s)?]))
            .filter(|[_, v]| v.is_finite() && *v > 0.0)
            .collect()
    };
    let mut series = Vec::new();
    for (name, points) in [
        ("estimate", of(&|s| Some(s.estimate))),
        ("error in H1", of(&|s| s.h1)),
        ("error in L2", of(&|s| s.l2)),
    ] {
        if points.is_empty() {
            continue;
        }
        let fit = fitted(&points);
        series.push(Series { name: name.to_owned(), points, mark: Mark::LinePoints });
        if let Some((slope, ends)) = fit {
            let slope = format!("{slope:.2}").replace('-', "\u{2212}");
            let name = format!("{name}, fitted: DOFs to the {slope}");
            series.push(Series { name, points: ends.to_vec(), mark: Mark::Dashed });
        }
    }
    if series.iter().any(|s| s.points.len() > 1) {
        let (x, y) = (Axis::log("degrees of freedom"), Axis::log("estimate and error"));
        let chart = Chart { title: "Convergence of the adaptive loop".to_owned(), x, y, series };
        page.svg(
            &chart.svg(),
            &format!("Slopes are fitted to the last {FITTED} steps; the dashed lines go on to the first."),
        );
    }
    let imbalance = |name: &str, value: &dyn Fn(&crate::output::run_json::AdaptStep) -> f64| Series {
        name: name.to_owned(),
        points: adapt.steps.iter().map(|s| [f64::from(s.step), value(s)]).collect(),
        mark: Mark::LinePoints,
    };
    if adapt.steps.len() > 1 && adapt.steps.iter().any(|s| s.imbalance_before > 1.001) {
        let chart = Chart {
            title: "Balance of the ranks".to_owned(),
            x: Axis::linear("step"),
            y: Axis::linear("largest part over the mean"),
            series: vec![
                imbalance("after refining", &|s| s.imbalance_before),
                imbalance("after rebalancing", &|s| s.imbalance_after),
            ],
        };
        page.svg(&chart.svg(), "1 is perfect balance.");
    }
    let some = |x: Option<f64>| x.filter(|x| x.is_finite()).map_or("\u{2013}".to_owned(), number);
    let exact = adapt.steps.iter().any(|s| s.l2.is_some() || s.h1.is_some());
    let mut head = vec!["step", "cells", "DOFs", "estimate"];
    if exact {
        head.extend(["L2", "H1"]);
    }
    head.extend(["imbalance before", "after", "moved cells", "facets cut"]);
    let rows = adapt.steps.iter().take(MOST_ROWS).map(|s| {
        let mut row = vec![s.step.to_string(), grouped(s.cells), grouped(s.dofs), some(Some(s.estimate))];
        if exact {
            row.extend([some(s.l2), some(s.h1)]);
        }
        row.extend([
            number(s.imbalance_before),
            number(s.imbalance_after),
            grouped(s.moved_cells),
            grouped(s.edge_cut),
        ]);
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    page.captioned_table("Steps of the adaptive loop", &head, &rows);
    more(page, adapt.steps.len(), "run.json");
}

/// The slope in logarithms of the last points, and the line of that slope through them, back to the first point;
/// `None` if they have no slope.
fn fitted(points: &[[f64; 2]]) -> Option<(f64, [[f64; 2]; 2])> {
    let last = &points[points.len().saturating_sub(FITTED)..];
    if last.len() < 3 {
        return None;
    }
    let logs: Vec<[f64; 2]> = last.iter().map(|p| p.map(f64::ln)).collect();
    let n = logs.len() as f64;
    let mean = [0, 1].map(|d| logs.iter().map(|p| p[d]).sum::<f64>() / n);
    let spread: f64 = logs.iter().map(|p| (p[0] - mean[0]).powi(2)).sum();
    let slope = logs.iter().map(|p| (p[0] - mean[0]) * (p[1] - mean[1])).sum::<f64>() / spread;
    let at = |x: f64| [x, (mean[1] + slope * (x.ln() - mean[0])).exp()];
    slope.is_finite().then(|| (slope, [at(points[0][0]), at(last[last.len() - 1][0])]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_power_is_its_exponent() {
        let points: Vec<[f64; 2]> =
            (0..9).map(|k| 100.0 * 2f64.powi(k)).map(|n| [n, 3.0 * n.powf(-0.75)]).collect();
        let (slope, ends) = fitted(&points).unwrap();
        assert!((slope + 0.75).abs() < 1e-12);
        for [x, y] in ends {
            assert!((y / (3.0 * x.powf(-0.75)) - 1.0).abs() < 1e-9);
        }
        assert!(ends[0][0] == points[0][0] && ends[1][0] == points[8][0]);
        assert_eq!(fitted(&points[..2]), None);
        assert_eq!(fitted(&[[5.0, 1.0], [5.0, 2.0], [5.0, 3.0]]), None);
    }

    #[test]
    fn a_history_is_read_and_anything_else_is_not() {
        let mut solver = SolverReport::default();
        assert!(history(&solver).is_empty());
        solver.extra.insert("history".to_owned(), serde_json::json!([[0, 1.0], [1, 1e-3], [2, null], "x"]));
        let found = history(&solver);
        assert!(found[..2] == [[0.0, 1.0], [1.0, 1e-3]] && found.len() == 3 && found[2][1].is_nan());
    }
}
