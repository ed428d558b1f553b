//! Keys of `run.json` whose form is known: the plan, the profile and what was monitored.
//!
//! Imports its siblings. Start at [`show`]. A key of another form than expected is shown as any other value, so that
//! pages can be made of runs of other versions.

use serde_json::{Map, Value};

use super::values;
use crate::output::chart::{Axis, Bars, Chart, Mark, Series, number};
use crate::output::page::Page;

/// Spans below this part of the run are left to `run.json`.
const LEAST_SHARE: f64 = 0.005;

const MEBI: f64 = (1u64 << 20) as f64;

/// Adds a key of `run.json`. `phases` are those of the run, in their order.
pub(super) fn show(page: &mut Page, key: &str, heading: &str, value: &Value, phases: &[String]) {
    let mut rest = value.clone();
    if let Value::Object(map) = &mut rest {
        match key {
            "plan" => plan(page, map),
            "profile" => profile(page, map),
            "monitor" => monitor(page, map, phases),
            _ => {}
        }
        if map.is_empty() {
            return;
        }
    }
    values::show(page, heading, &rest);
}

fn numbers(value: Option<&Value>) -> Vec<f64> {
    let entries = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn of(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn shown(x: f64) -> String {
    if x.is_finite() { number(x) } else { "\u{2013}".to_owned() }
}

fn percent(x: f64) -> String {
    if x.is_finite() { format!("{:.1} %", 100.0 * x) } else { "\u{2013}".to_owned() }
}

/// Takes a list of objects that all have a key out of a map.
fn taken(map: &mut Map<String, Value>, name: &str, key: &str) -> Vec<Value> {
    let fits =
        |v: &Value| v.as_array().is_some_and(|l| !l.is_empty() && l.iter().all(|e| e.get(key).is_some()));
    match map.get(name).is_some_and(fits).then(|| map.remove(name)).flatten() {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    }
}

/// Predicted beside measured.
fn plan(page: &mut Page, map: &mut Map<String, Value>) {
    let phases = taken(map, "phases", "predicted");
    let row = |name: &str, predicted: f64, measured: f64| {
        vec![name.to_owned(), shown(predicted), shown(measured), shown(measured / predicted)]
    };
    let mut rows: Vec<Vec<String>> =
        phases.iter().map(|p| row(word(p, "name"), of(p, "predicted"), of(p, "measured"))).collect();
    for (key, name) in [
        ("total", "all"),
        ("iterations", "iterations"),
        ("memory_mb", "MiB of a rank"),
        ("dofs", "degrees of freedom"),
    ] {
        if let [predicted, measured] = numbers(map.get(key))[..] {
            map.remove(key);
            rows.push(row(name, predicted, measured));
        }
    }
    if !phases.is_empty() {
        let bars = Bars {
            title: "Predicted and measured".to_owned(),
            unit: "seconds".to_owned(),
            groups: vec!["predicted".to_owned(), "measured".to_owned()],
            parts: phases
                .iter()
                .map(|p| (word(p, "name").to_owned(), vec![of(p, "predicted"), of(p, "measured")]))
                .collect(),
        };
        page.svg(&bars.svg(), "");
    }
    if !rows.is_empty() {
        let head = ["", "predicted", "measured", "measured / predicted"];
        page.captioned_table("Predicted and measured, times in seconds", &head, &rows);
    }
}

/// What takes long and why, then the spans that are worth a look.
fn profile(page: &mut Page, map: &mut Map<String, Value>) {
    let found = taken(map, "bottlenecks", "bound");
    if !found.is_empty() {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|b| {
                vec![
                    format!("{} {}", word(b, "kind"), word(b, "name")),
                    shown(of(b, "seconds")),
                    percent(of(b, "share")),
                    word(b, "bound").to_owned(),
                    percent(of(b, "waiting")),
                    shown(of(b, "imbalance")),
                    shown(of(b, "times_least")),
                ]
            })
            .collect();
        let head = ["", "seconds", "of the run", "bound by", "waiting", "imbalance", "times the least"];
        page.captioned_table("Bottlenecks", &head, &rows);
        let hints: Vec<String> = found
            .iter()
            .map(|b| {
                format!(
                    "{} {}: {}. To try: {}.",
                    word(b, "kind"),
                    word(b, "name"),
                    word(b, "because"),
                    word(b, "hint")
                )
            })
            .collect();
        page.list(&hints);
    }
    let wall = map.get("wall").and_then(Value::as_f64).unwrap_or(f64::NAN);
    let spans = taken(map, "spans", "path");
    let rows: Vec<Vec<String>> = spans
        .iter()
        // Written so that a run without a length shows all.
        .filter(|s| wall.is_nan() || of(s, "mean") >= LEAST_SHARE * wall)
        .take(values::MOST_ROWS)
        .map(|s| {
            let depth = word(s, "path").matches('/').count();
            vec![
                format!("{}{}", "\u{2003}".repeat(depth), word(s, "name")),
                word(s, "module").to_owned(),
                values::text(s.get("count").unwrap_or(&Value::Null)),
                shown(of(s, "min")),
                shown(of(s, "mean")),
                shown(of(s, "max")),
                shown(of(s, "self_mean")),
                shown(of(s, "waiting")),
                percent(of(s, "mean") / wall),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let head =
            ["span", "module", "count", "min s", "mean s", "max s", "self s", "waiting s", "of the run"];
        page.captioned_table("Spans, over the ranks; inner ones are set in", &head, &rows);
    }
    map.remove("wall");
    map.remove("left_out");
}

/// Memory and processors in the course of the run, and what each phase used.
fn monitor(page: &mut Page, map: &mut Map<String, Value>, phases: &[String]) {
    if let Some(series) = map.get("series").filter(|s| s.get("bin").is_some()).cloned() {
        map.remove("series");
        let bin = of(&series, "bin");
        let chart = |title: &str, unit: &str, key: &str, scale: f64| {
            let band = |of: &str| {
                let values = numbers(series.get(key).and_then(|b| b.get(of)));
                values
                    .iter()
                    .enumerate()
                    .map(|(k, v)| [bin * (k as f64 + 0.5), v / scale])
                    .collect::<Vec<_>>()
            };
            let line =
                |name: &str, of: &str| Series { name: name.to_owned(), points: band(of), mark: Mark::Line };
            let mut series = vec![line("mean of the ranks", "mean")];
            if band("min") != band("max") {
                series.insert(0, line("most of a rank", "max"));
                series.push(line("least of a rank", "min"));
            }
            Chart { title: title.to_owned(), x: Axis::linear("seconds"), y: Axis::linear(unit), series }
        };
        let memory = chart("Memory in the course of the run", "MiB of a rank", "memory", MEBI);
        let cores = chart("Processors kept busy", "processors of a rank", "cores", 1.0);
        for chart in [memory, cores] {
            if chart.series.iter().any(|s| s.points.len() > 1) {
                page.svg(&chart.svg(), "");
            }
        }
    }
    let Some(by_phase) = map.get("phases").and_then(Value::as_object).cloned() else { return };
    // Of the form {phase: {figure: {min, mean, max}}}, or shown as it is.
    let figures: Vec<&String> = by_phase.values().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let spread = |v: &Value| v.get("mean").is_some() && v.get("max").is_some();
    if figures.is_empty() || !by_phase.values().filter_map(Value::as_object).flat_map(Map::values).all(spread)
    {
        return;
    }
    map.remove("phases");
    let mut names: Vec<&String> = by_phase.keys().collect();
    names.sort_by_key(|name| phases.iter().position(|p| p == *name).unwrap_or(phases.len()));
    let mut columns: Vec<&String> = Vec::new();
    for figure in figures {
        if !columns.contains(&figure) {
            columns.push(figure);
        }
    }
    let total = map.remove("total").unwrap_or(Value::Null);
    let row = |name: &str, used: &Value| {
        let mut row = vec![name.to_owned()];
        row.extend(columns.iter().map(|c| {
            let found = used.get(c.as_str());
            let most = found.map_or(f64::NAN, |f| of(f, "max"));
            shown(if is_bytes(c) { most / MEBI } else { most })
        }));
        row
    };
    let mut rows: Vec<Vec<String>> = names.iter().map(|name| row(name, &by_phase[*name])).collect();
    if total.is_object() {
        rows.push(row("the whole run", &total));
    }
    let mut head = vec!["phase".to_owned()];
    head.extend(
        columns
            .iter()
            .map(|c| if is_bytes(c) { format!("{}, MiB", values::words(c)) } else { values::words(c) }),
    );
    page.captioned_table("What the rank with most used", &head, &rows);
}

/// Whether a figure of the monitor counts bytes.
fn is_bytes(figure: &str) -> bool {
    ["memory_peak", "read", "written", "storage_read", "storage_written"].contains(&figure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn html(key: &str, value: &Value) -> String {
        let mut page = Page::new("t");
        show(&mut page, key, "Heading", value, &["mesh".to_owned(), "assemble".to_owned()]);
        page.html()
    }

    #[test]
    fn a_plan_is_compared() {
        let page = html(
            "plan",
            &json!({"phases": [{"name": "solve", "predicted": 2.0, "measured": 3.0}], "total": [4.0, 5.0],
                "dofs": [7, 7], "uncertainty": 1.25}),
        );
        for wanted in
            ["<td class=\"num\">1.5</td>", "<td class=\"num\">1.25</td>", "degrees of freedom", "uncertainty"]
        {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
    }

    #[test]
    fn bottlenecks_have_their_hints_and_spans_their_depth() {
        let page = html(
            "profile",
            &json!({"wall": 10.0, "bottlenecks": [{"kind": "phase", "name": "solve", "share": 0.5, "bound": "bytes",
                "because": "it moves 3 GB", "hint": "less"}],
                "spans": [{"path": "solve", "name": "solve", "mean": 5.0}, {"path": "solve/v", "name": "cycle", "mean": 4.0},
                    {"path": "solve/w", "name": "tiny", "mean": 0.001}],
                "overhead": {"share": 0.001}}),
        );
        for wanted in ["50.0 %", "phase solve: it moves 3 GB. To try: less.", ">\u{2003}cycle<", "overhead"] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
        assert!(!page.contains("tiny"));
    }

    #[test]
    fn what_was_monitored_is_drawn_in_the_order_of_the_run() {
        let spread = |x: f64| json!({"min": x, "mean": x, "max": x, "rank": 0});
        let band = |x: f64| json!({"min": [x, x], "mean": [x, 2.0 * x], "max": [x, 3.0 * x]});
        let page = html(
            "monitor",
            &json!({"series": {"bin": 0.5, "memory": band(1e8), "cores": band(1.0), "phase": ["mesh", "assemble"]},
                "phases": {"assemble": {"memory_peak": spread(2.0 * MEBI)}, "mesh": {"memory_peak": spread(MEBI)}},
                "total": {"memory_peak": spread(3.0 * MEBI)}, "host_memory_peak": 5}),
        );
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} in {page}"));
        assert!(at("Memory in the course") < at("Processors kept busy"));
        assert!(at(">mesh<") < at(">assemble<") && at(">assemble<") < at(">the whole run<"));
        assert!(page.contains("memory peak, MiB") && page.contains("host memory peak"));
    }

    #[test]
    fn other_forms_are_shown_as_they_are() {
        for key in ["plan", "profile", "monitor", "machine"] {
            for value in [
                json!("text here"),
                json!({"phases": {"a": 3}, "series": 5, "spans": "text here", "x": "text here"}),
            ] {
                assert!(html(key, &value).contains("text here"), "{key} {value}");
            }
        }
    }
}
