//! JSON of any form as tables: what other parts of femdd add to `run.json` is shown as it is.
//!
//! Imports [`super::super::page`]. Start at [`show`].

use cluster::words::grouped;
use serde_json::{Map, Value};

use crate::output::chart::number;
use crate::output::page::Page;

/// Rows of a table, and characters of a cell, beyond which the file itself is to be read.
pub(super) const MOST_ROWS: usize = 200;
const MOST_CHARACTERS: usize = 300;

/// Headings within headings.
const DEEPEST: usize = 3;

/// Adds a value: names with single values, then tables, then what is nested, each below its name.
pub(super) fn show(page: &mut Page, name: &str, value: &Value) {
    show_at(page, name, value, 0);
}

fn show_at(page: &mut Page, name: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if is_table(map) => {
            let rows: Vec<(String, &Map<String, Value>)> =
                map.iter().filter_map(|(k, v)| Some((words(k), v.as_object()?))).collect();
            table(page, name, &rows);
        }
        Value::Object(map) => {
            let single: Vec<(String, String)> =
                map.iter().filter(|(_, v)| is_single(v)).map(|(k, v)| (words(k), text_of(k, v))).collect();
            if !single.is_empty() {
                page.pairs(&single);
            }
            for (key, value) in map.iter().filter(|(_, v)| !is_single(v)) {
                let own_caption = matches!(value, Value::Array(_)) || value.as_object().is_some_and(is_table);
                if depth < DEEPEST {
                    if !own_caption {
                        page.heading(&words(key));
                    }
                    show_at(page, &words(key), value, depth + 1);
                } else {
                    page.pairs(&[(words(key), text(value))]);
                }
            }
        }
        Value::Array(entries) if !entries.is_empty() && entries.iter().all(Value::is_object) => {
            let rows: Vec<(String, &Map<String, Value>)> =
                entries.iter().filter_map(|v| Some((String::new(), v.as_object()?))).collect();
            table(page, name, &rows);
        }
        Value::Array(entries) if entries.len() > 1 && entries.iter().all(Value::is_string) => {
            let few: Vec<&str> = entries.iter().filter_map(Value::as_str).take(MOST_ROWS).collect();
            page.heading(name).list(&few);
        }
        value => {
            page.pairs(&[(name, text(value))]);
        }
    }
}

/// Whether a map is rows of the same columns: several maps of single values.
fn is_table(map: &Map<String, Value>) -> bool {
    map.len() > 1
        && map
            .values()
            .all(|v| v.as_object().is_some_and(|row| row.values().all(is_single) && !row.is_empty()))
}

fn is_single(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(entries) => {
            entries.len() <= 8 && entries.iter().all(|e| e.is_number() || e.is_string()) && {
                entries.iter().map(|e| text(e).chars().count()).sum::<usize>() < 60
            }
        }
        _ => true,
    }
}

/// Adds rows with their names, if they have any, and as columns every key that one of them has.
fn table(page: &mut Page, caption: &str, rows: &[(String, &Map<String, Value>)]) {
    let named = rows.iter().any(|(name, _)| !name.is_empty());
    let mut columns: Vec<&String> = Vec::new();
    for (_, row) in rows {
        for key in row.keys() {
            if !columns.contains(&key) {
                columns.push(key);
            }
        }
    }
    // What tells the rows apart comes first.
    if !named {
        let first = ["what", "name", "file", "phase", "rank", "step"];
        columns.sort_by_key(|key| first.iter().position(|f| f == key).unwrap_or(first.len()));
    }
    let mut head: Vec<String> = if named { vec![String::new()] } else { Vec::new() };
    head.extend(columns.iter().map(|key| words(key)));
    let cells = rows.iter().take(MOST_ROWS).map(|(name, row)| {
        let mut cells: Vec<String> = if named { vec![name.clone()] } else { Vec::new() };
        cells.extend(columns.iter().map(|key| row.get(*key).map(|v| text_of(key, v)).unwrap_or_default()));
        cells
    });
    let cells: Vec<Vec<String>> = cells.collect();
    page.captioned_table(caption, &head, &cells);
    more(page, rows.len(), "run.json");
}

/// Says what a table left out.
pub(super) fn more(page: &mut Page, n: usize, file: &str) {
    if n > MOST_ROWS {
        page.paragraph(&format!(
            "The first {MOST_ROWS} of {}; all of them are in {file}.",
            grouped(n as u64)
        ));
    }
}

/// A key as words.
pub(super) fn words(key: &str) -> String {
    key.replace('_', " ")
}

/// A value in a cell, by its key: amounts of memory are given in bytes.
fn text_of(key: &str, value: &Value) -> String {
    match value.as_f64().filter(|bytes| key.contains("memory") && !key.ends_with("_mb") && *bytes >= 1e6) {
        Some(bytes) => format!("{} MiB", grouped((bytes / f64::from(1u32 << 20)).round() as u64)),
        None => text(value),
    }
}

/// A value in a cell.
pub(super) fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "\u{2013}".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(n) => match (n.as_u64(), n.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(x)) => number(x),
            _ => n.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(entries) if entries.is_empty() => "\u{2013}".to_owned(),
        Value::Array(entries) => entries.iter().map(self::text).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{}: {}", words(k), self::text(v))).collect::<Vec<_>>().join(", ")
        }
    };
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn html(value: &Value) -> String {
        let mut page = Page::new("t");
        show(&mut page, "name", value);
        page.html()
    }

    #[test]
    fn any_form_of_value_is_shown_in_full() {
        let page = html(&json!({
            "memory_limit": 25_276_510_208u64, "cores": 16, "bound": true, "none": null, "ratio": 0.25, "small": [1, 2, 3],
            "by_phase": {"mesh": {"bytes": 1234567, "time": 0.5}, "solve": {"bytes": 2, "calls": 7}},
            "list": [{"a": 1, "name": "x<y"}, {"b": {"deep": [1, {"c": 2}]}}],
            "nested": {"deeper": {"deepest": {"end": {"at_last": 42}}}},
            "notes": ["one", "two", "three ".repeat(20)], "short": ["four", "five"],
        }));
        for wanted in [
            "<dd>16</dd>",
            "24,106 MiB",
            "yes",
            "0.25",
            "1, 2, 3",
            "by phase",
            "calls",
            "x&lt;y",
            "deep: 1, c: 2",
            "at last",
            "42",
            "<li>two</li>",
            "<dd>four, five</dd>",
        ] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
        // The name comes first though another key does in the alphabet.
        assert!(page.find(">name</th>").unwrap() < page.find(">a</th>").unwrap());
    }

    #[test]
    fn long_tables_and_texts_are_cut_and_say_so() {
        let rows: Vec<Value> =
            (0..1000).map(|k| json!({"name": format!("p{k}"), "text": "z".repeat(2000)})).collect();
        let page = html(&Value::Array(rows));
        assert!(
            page.contains("p199") && !page.contains("p200") && page.contains("all of them are in run.json")
        );
        assert!(page.contains(&format!("{}\u{2026}", "z".repeat(300))) && !page.contains(&"z".repeat(301)));
    }
}
