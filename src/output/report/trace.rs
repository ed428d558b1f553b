//! A timeline out of `trace.json`, the Chrome trace that `--trace` writes.
//!
//! Imports [`crate::output::chart`]. Start at [`timeline`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::output::OutputError;
use crate::output::chart::{Row, Span, Timeline};

/// A larger file is left to programs made for it.
const LARGEST: u64 = 200 << 20;

/// Names, rows and spans that can still be told apart.
const MOST_NAMES: usize = 12;
const MOST_ROWS: usize = 64;
const MOST_SPANS: usize = 4000;

/// An event of the trace. Others than these keys are not needed.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ph: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    tid: Value,
    #[serde(default)]
    args: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Bare(Vec<Event>),
    #[serde(rename_all = "camelCase")]
    Wrapped {
        trace_events: Vec<Event>,
    },
}

/// The timeline of a run's directory, if there is a trace in it.
///
/// # Errors
/// A trace that cannot be read.
pub(super) fn timeline(dir: &Path) -> Result<Option<Timeline>, OutputError> {
    let path = dir.join("trace.json");
    match fs::metadata(&path) {
        Ok(data) if data.len() <= LARGEST => {}
        Ok(_) => {
            let what = "too large to be drawn here; open it in Perfetto".to_owned();
            return Err(OutputError::Format { path, what });
        }
        Err(_) => return Ok(None),
    }
    let text = fs::read(&path).map_err(|e| OutputError::from_read(&path, &e))?;
    let file: File = serde_json::from_slice(&text)
        .map_err(|e| OutputError::Format { path, what: format!("not a Chrome trace: {e}") })?;
    let events = match file {
        File::Bare(events) | File::Wrapped { trace_events: events } => events,
    };
    Ok(drawn(&events))
}

/// Rows by process and thread.
type Key = (String, String);

fn key(event: &Event) -> Key {
    // Zero-padded, so that they sort as numbers.
    let part = |v: &Value| v.as_u64().map_or_else(|| v.to_string(), |n| format!("{n:012}"));
    (part(&event.pid), part(&event.tid))
}

fn drawn(events: &[Event]) -> Option<Timeline> {
    // Complete events, and pairs of begin and end, as (row, name, from, to) in microseconds.
    let mut spans: Vec<(Key, &str, f64, f64)> = Vec::new();
    let mut open: BTreeMap<Key, Vec<(&str, f64)>> = BTreeMap::new();
    let mut names: BTreeMap<(&str, Key), String> = BTreeMap::new();
    for event in events {
        let row = key(event);
        match event.ph.as_str() {
            "X" => spans.push((row, label(event), event.ts, event.ts + event.dur)),
            "B" => open.entry(row).or_default().push((label(event), event.ts)),
            "E" => {
                if let Some((name, from)) = open.get_mut(&row).and_then(Vec::pop) {
                    spans.push((row, name, from, event.ts));
                }
            }
            "M" => {
                if let Some(name) = event.args.get("name").and_then(Value::as_str) {
                    names.insert((event.name.as_str(), row), name.to_owned());
                }
            }
            _ => {}
        }
    }
    spans.retain(|s| s.2.is_finite() && s.3.is_finite() && s.3 >= s.2);
    let begin = spans.iter().map(|s| s.2).fold(f64::INFINITY, f64::min);
    // The names that take most time, in the order of their first appearance.
    let mut totals: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (_, name, from, to) in &spans {
        let entry = totals.entry(name).or_insert((0.0, f64::INFINITY));
        *entry = (entry.0 + to - from, entry.1.min(*from));
    }
    let mut kept: Vec<(&str, f64, f64)> =
        totals.iter().map(|(n, (total, first))| (*n, *total, *first)).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    kept.truncate(MOST_NAMES);
    kept.sort_by(|a, b| a.2.total_cmp(&b.2));
    let kept: Vec<&str> = kept.into_iter().map(|k| k.0).collect();
    spans.retain(|s| kept.contains(&s.1));
    // The longest, which are those that can be seen.
    spans.sort_by(|a, b| (b.3 - b.2).total_cmp(&(a.3 - a.2)));
    spans.truncate(MOST_SPANS);
    let mut rows: BTreeMap<Key, Vec<Span>> = BTreeMap::new();
    // Longer before shorter: what lies within is drawn over what is around it.
    for (row, name, from, to) in spans {
        let name = kept.iter().position(|k| *k == name)?;
        let [start, end] = [from, to].map(|t| (t - begin) * 1e-6);
        rows.entry(row).or_default().push(Span { name, start, end });
    }
    if rows.is_empty() {
        return None;
    }
    let named = |row: &Key| {
        let process = names.iter().find(|((what, k), _)| *what == "process_name" && k.0 == row.0);
        let process = process.map_or_else(|| format!("rank {}", plain(&row.0)), |(_, n)| n.clone());
        match names.get(&("thread_name", row.clone())) {
            Some(thread) => format!("{process} {thread}"),
            None if row.1.trim_start_matches('0').is_empty() => process,
            None => format!("{process} thread {}", plain(&row.1)),
        }
    };
    let rows =
        rows.into_iter().take(MOST_ROWS).map(|(key, spans)| Row { name: named(&key), spans }).collect();
    Some(Timeline {
        title: "Timeline".to_owned(),
        unit: "seconds".to_owned(),
        names: kept.into_iter().map(str::to_owned).collect(),
        rows,
    })
}

/// What a span is called: a phase by its own name.
fn label(event: &Event) -> &str {
    match event.args.get("name").and_then(Value::as_str) {
        Some(name) if event.name == "phase" => name,
        _ => &event.name,
    }
}

fn plain(padded: &str) -> &str {
    match padded.trim_start_matches('0') {
        "" => "0",
        number => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Timeline> {
        let events = match serde_json::from_str(text).unwrap() {
            File::Bare(events) | File::Wrapped { trace_events: events } => events,
        };
        drawn(&events)
    }

    #[test]
    fn complete_and_paired_events_become_spans() {
        let timeline = of(r#"{"traceEvents": [
            {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "rank one"}},
            {"ph": "X", "name": "phase", "args": {"name": "mesh"}, "ts": 1000000, "dur": 2000000, "pid": 0, "tid": 0},
            {"ph": "B", "name": "solve", "ts": 3000000, "pid": 1, "tid": 0},
            {"ph": "B", "name": "inner", "ts": 3500000, "pid": 1, "tid": 0},
            {"ph": "E", "ts": 3600000, "pid": 1, "tid": 0},
            {"ph": "E", "ts": 5000000, "pid": 1, "tid": 0},
            {"ph": "C", "name": "memory", "ts": 5, "pid": 1, "args": {"bytes": 5}}
        ], "displayTimeUnit": "ms"}"#)
        .unwrap();
        assert_eq!(timeline.names, ["mesh", "solve", "inner"]);
        assert_eq!(timeline.rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["rank 0", "rank one"]);
        assert_eq!(timeline.rows[0].spans, [Span { name: 0, start: 0.0, end: 2.0 }]);
        assert_eq!(timeline.rows[1].spans[0], Span { name: 1, start: 2.0, end: 4.0 });
    }

    #[test]
    fn no_more_is_drawn_than_can_be_seen() {
        let event = |k: usize| {
            format!(
                r#"{{"ph":"X","name":"n{}","ts":{},"dur":{},"pid":{},"tid":0}}"#,
                k % 40,
                k * 10,
                k % 7 + 1,
                k % 199
            )
        };
        let events: Vec<String> = (0..20_000).map(event).collect();
        let timeline = of(&format!("[{}]", events.join(","))).unwrap();
        assert!(timeline.names.len() == MOST_NAMES && timeline.rows.len() == MOST_ROWS);
        assert!(timeline.rows.iter().map(|r| r.spans.len()).sum::<usize>() <= MOST_SPANS);
        assert!(of("[]").is_none());
    }
}
