//! `--set key.path=value`: puts a value of the command line into the tree of the file.
//!
//! May import: `model`, `walker`.

use toml::de::{DeTable, DeValue};

use super::model::Place;
use super::walker::{Entry, Node, Raw, Table};

/// Puts `path=value` into the tree.
pub(super) fn apply_set(root: &mut Table, set: &str, place: Place) -> Result<(), (String, Option<String>)> {
    let form = || Some("write `--set key.path=value`, as in `--set solver.tolerance=1e-6`".to_string());
    let Some((path, value)) = set.split_once('=') else {
        return Err(("no `=` in the argument".into(), form()));
    };
    let path = path.trim();
    let keys = key_path(path).ok_or_else(|| (format!("`{path}` is not a dotted key"), form()))?;
    let value = set_value(value.trim(), place);
    let (last, parents) = keys.split_last().ok_or_else(|| ("the key is empty".to_string(), form()))?;
    let mut table = root;
    let mut done = String::new();
    let mut parents = parents.iter().peekable();
    while let Some(key) = parents.next() {
        done = if done.is_empty() { key.clone() } else { format!("{done}.{key}") };
        let at = match table.entries.iter().position(|e| &e.key == key) {
            Some(at) => at,
            None => {
                let node = Node { raw: Raw::Table(Table::default()), place };
                table.entries.push(Entry { key: key.clone(), place, node });
                table.entries.len() - 1
            }
        };
        table = match &mut table.entries[at].node.raw {
            Raw::Table(t) => t,
            Raw::Array(items) if items.iter().all(|n| matches!(n.raw, Raw::Table(_))) => {
                let n = items.len();
                let index = parents.next().and_then(|k| k.parse::<usize>().ok());
                match index.and_then(|i| items.get_mut(i)).map(|n| &mut n.raw) {
                    Some(Raw::Table(t)) => t,
                    _ => {
                        let help = format!("there are {n}; write `{done}.0` for the first");
                        return Err((format!("`{done}` needs an index"), Some(help)));
                    }
                }
            }
            _ => return Err((format!("`{done}` is not a table"), None)),
        };
    }
    match table.entries.iter_mut().find(|e| &e.key == last) {
        Some(entry) => {
            entry.node = value;
            entry.place = place;
        }
        None => table.entries.push(Entry { key: last.clone(), place, node: value }),
    }
    Ok(())
}

/// The keys of a dotted path, read as TOML reads them.
fn key_path(path: &str) -> Option<Vec<String>> {
    if path.contains('\n') {
        return None;
    }
    let line = format!("{path} = 0");
    let document = DeTable::parse(&line).ok()?;
    let mut keys = Vec::new();
    let mut table = document.get_ref();
    loop {
        let (key, value) = table.iter().next()?;
        keys.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(keys),
        }
    }
}

/// A value as TOML if it is one, else as a string.
fn set_value(text: &str, place: Place) -> Node {
    let line = format!("v = {text}");
    let parsed = if text.contains('\n') { None } else { DeTable::parse(&line).ok() };
    let only = parsed.as_ref().and_then(|d| {
        let table = d.get_ref();
        if table.len() == 1 { table.iter().next().map(|(_, v)| v.get_ref()) } else { None }
    });
    match only {
        Some(value) => placed(value, place),
        None => Node { raw: Raw::String(text.into()), place },
    }
}

/// A parsed value, all of it at one place.
fn placed(value: &DeValue, place: Place) -> Node {
    let raw = match value {
        DeValue::String(s) => Raw::String(s.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Raw::Integer(i),
            Err(_) => Raw::String(i.to_string()),
        },
        DeValue::Float(f) => Raw::Float(f.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Raw::Boolean(*b),
        DeValue::Datetime(d) => Raw::Date(d.to_string()),
        DeValue::Array(a) => Raw::Array(a.iter().map(|v| placed(v.get_ref(), place)).collect()),
        DeValue::Table(t) => {
            let entries = t.iter().map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                place,
                node: placed(value.get_ref(), place),
            });
            Raw::Table(Table { entries: entries.collect() })
        }
    };
    Node { raw, place }
}
