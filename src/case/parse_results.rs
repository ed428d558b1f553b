//! Reads what comes in and out: initial state, exact solution, probes, integrals, output.
//!
//! May import: `field`, `schema`, `model`, `parse_physics`, `walker`.

use std::path::Path;

use super::field::{FieldRef, Part, Quantity};
use super::model::*;
use super::parse_physics::field_components;
use super::schema::{Bound, Law};
use super::walker::{Entry, Node, Raw, Reader, Section, suggest};

/// Reads `[initial]`.
pub(super) fn initial(root: &Section, law: Law, directory: &Path) -> Option<Initial> {
    let reader = root.reader;
    let section = root.get("initial").and_then(|e| reader.section("initial", e))?;
    let before = reader.n_errors();
    let value = field_components(&section, law);
    let file_entry = section.get("file");
    let file = file_entry.and_then(|e| reader.string("initial.file", &e.node));
    if let (Some((_, key, _)), Some(entry)) = (&value, file_entry) {
        let message = format!("`[initial]` has both `{key}` and `initial.file`");
        reader.error(entry.place, "initial.file", message, Some("keep one of them".into()));
    }
    if value.is_none() && file_entry.is_none() && reader.n_errors() == before {
        let message = "`[initial]` lacks `value` or `file`";
        reader.error(section.place, "initial", message, None);
    }
    section.finish();
    match (value, file, file_entry) {
        (Some((components, _, place)), _, _) => Some(Initial::Value(components, place)),
        (None, Some(file), Some(entry)) => Some(Initial::File(directory.join(file), entry.node.place)),
        _ => None,
    }
}

/// Reads `[exact]`.
pub(super) fn exact(root: &Section, law: Law) -> Option<Exact> {
    let reader = root.reader;
    let section = root.get("exact").and_then(|e| reader.section("exact", e))?;
    let before = reader.n_errors();
    let found = field_components(&section, law);
    if found.is_none() && reader.n_errors() == before {
        let message = format!("`[exact]` lacks `value`: the exact {}", law.field());
        reader.error(section.place, "exact.value", message, None);
    }
    section.finish();
    found.map(|(components, key, place)| Exact { components, key, place })
}

/// The tables of an array such as `[[probe]]`.
fn tables<'a>(root: &Section<'a>, name: &str) -> Vec<(String, &'a Node)> {
    let Some(entry) = root.get(name) else { return Vec::new() };
    match &entry.node.raw {
        Raw::Array(items) => items.iter().enumerate().map(|(i, n)| (format!("{name}.{i}"), n)).collect(),
        _ => {
            let message = format!("`{name}` should be an array of tables");
            let help = Some(format!("begin each with `[[{name}]]`"));
            root.reader.error(entry.place, name, message, help);
            Vec::new()
        }
    }
}

fn unique_name(section: &Section, names: &mut Vec<String>) -> Option<String> {
    let entry = section.require("name", "results are reported under it")?;
    let name = section.reader.string(&section.key("name"), &entry.node)?;
    if names.contains(&name) {
        let message = format!("there are two probes or integrals named \"{name}\"");
        section.reader.error(entry.node.place, &section.key("name"), message, None);
    }
    names.push(name.clone());
    Some(name)
}

fn field(reader: &Reader, key: &str, node: &Node, law: Law) -> Option<FieldRef> {
    let text = reader.string(key, node)?;
    match FieldRef::parse(&text, law) {
        Ok(field) => Some(field),
        Err((message, help)) => {
            reader.error(node.place, key, message, help);
            None
        }
    }
}

/// Where a field is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Probe,
    Integral { over: bool },
    Output,
}

/// Reports fields that do not exist for that use.
fn usable(reader: &Reader, key: &str, entry: Place, field: FieldRef, at: Use, adapts: bool) -> bool {
    let name = field.name();
    let (message, help) = match (field.quantity, field.part, at) {
        (Quantity::Reaction, _, Use::Probe | Use::Output) => (
            format!("`{name}` has no value at a point"),
            "it is a sum over constrained nodes: ask for it in an `[[integral]]`",
        ),
        (_, Part::Normal, Use::Probe | Use::Output) => (
            format!("`{name}` needs a normal, which only a boundary has"),
            "ask for it in an `[[integral]]` over a boundary",
        ),
        (_, Part::Normal, Use::Integral { over: false }) => {
            (format!("the integral of `{name}` needs a boundary"), "name it: `over = \"..\"`")
        }
        (Quantity::Rank | Quantity::Indicator, _, Use::Integral { .. }) => (
            format!("`{name}` cannot be integrated: it is a number of each cell"),
            "ask for it in a `[[probe]]` or in `[output] fields`",
        ),
        (Quantity::Indicator, _, _) if !adapts => {
            ("`indicator` exists only in a case with `[adapt]`".into(), "the estimator computes it")
        }
        _ => return true,
    };
    reader.error(entry, key, message, Some(help.into()));
    false
}

/// Reads `[[probe]]`. `names` collects the names of probes and integrals.
pub(super) fn probes(root: &Section, law: Law, adapts: bool, names: &mut Vec<String>) -> Vec<Probe> {
    let reader = root.reader;
    let mut probes = Vec::new();
    for (path, node) in tables(root, "probe") {
        let Some(section) = reader.section_of(&path, node, node.place) else { continue };
        let name = unique_name(&section, names);
        let at_entry = section.require("at", "the point, `[x, y, z]`");
        let at = at_entry.and_then(|e| reader.point(&section.key("at"), &e.node, Bound::Any));
        let field = section.require("field", "what to read there").and_then(|e| {
            let key = section.key("field");
            let field = field(reader, &key, &e.node, law)?;
            usable(reader, &key, e.node.place, field, Use::Probe, adapts).then_some(field)
        });
        let place = at_entry.map_or(section.place, |e| e.node.place);
        section.finish();
        if let (Some(name), Some(at), Some(field)) = (name, at, field) {
            probes.push(Probe { name, at, field, place });
        }
    }
    probes
}

/// Reads `[[integral]]`.
pub(super) fn integrals(root: &Section, law: Law, adapts: bool, names: &mut Vec<String>) -> Vec<Integral> {
    let reader = root.reader;
    let mut integrals = Vec::new();
    for (path, node) in tables(root, "integral") {
        let Some(section) = reader.section_of(&path, node, node.place) else { continue };
        let name = unique_name(&section, names);
        let over_entry = section.get("over");
        let over = over_entry.and_then(|e| reader.group(&section.key("over"), &e.node));
        let of_entry = section.require("of", "what to integrate");
        let of = of_entry.and_then(|e| {
            let key = section.key("of");
            let field = field(reader, &key, &e.node, law)?;
            let at = Use::Integral { over: over_entry.is_some() };
            usable(reader, &key, e.node.place, field, at, adapts).then_some(field)
        });
        let place = of_entry.map_or(section.place, |e| e.node.place);
        section.finish();
        let over_is_fine = over.is_some() || over_entry.is_none();
        if let (Some(name), Some(of), true) = (name, of, over_is_fine) {
            integrals.push(Integral { name, over, of, place });
        }
    }
    integrals
}

/// Reads `[output]`.
pub(super) fn output(root: &Section, law: Law, adapts: bool) -> Output {
    let reader = root.reader;
    let standard: &[&str] = if law.is_vector() { &["u", "stress", "von_mises"] } else { &["u", "flux"] };
    let mut output = Output {
        fields: standard.iter().filter_map(|n| FieldRef::parse(n, law).ok()).collect(),
        every: 1,
        checkpoint: None,
    };
    let Some(section) = root.get("output").and_then(|e| reader.section("output", e)) else {
        return output;
    };
    if let Some(entry) = section.get("fields") {
        let key = "output.fields";
        if let Some(items) = reader.array(key, &entry.node, "field names") {
            output.fields.clear();
            for node in items {
                let Some(field) = field(reader, key, node, law) else { continue };
                if output.fields.contains(&field) {
                    let message = format!("`{}` is written already", field.name());
                    reader.error(node.place, key, message, None);
                } else if usable(reader, key, node.place, field, Use::Output, adapts) {
                    output.fields.push(field);
                }
            }
        }
    }
    output.every = section.integer("every", 1, u64::from(u32::MAX)).unwrap_or(1) as usize;
    output.checkpoint = section.get("checkpoint").and_then(|e| checkpoint(reader, e));
    section.finish();
    output
}

fn checkpoint(reader: &Reader, entry: &Entry) -> Option<Checkpoint> {
    let section = reader.section("output.checkpoint", entry)?;
    let what = "steps, or a time such as \"10min\"";
    let every = section.require("every", what).and_then(|e| interval(reader, &e.node));
    let keep = section.integer("keep", 1, 1_000_000).unwrap_or(2) as usize;
    section.finish();
    Some(Checkpoint { every: every?, keep })
}

/// A number of steps, or a duration: `90s`, `10min`, `1.5h`.
fn interval(reader: &Reader, node: &Node) -> Option<Interval> {
    let key = "output.checkpoint.every";
    let Raw::String(text) = &node.raw else {
        return reader.integer(key, node, 1, u64::from(u32::MAX)).map(|n| Interval::Steps(n as usize));
    };
    let seconds = seconds(text).map(Interval::Seconds);
    if seconds.is_none() {
        let message = format!("`{key}` should be a number of steps or a time, not \"{}\"", text.trim());
        let help = Some("write 10, \"90s\", \"10min\", \"1.5h\" or \"1d\"".into());
        reader.error(node.place, key, message, help);
    }
    seconds
}

/// The seconds of a time such as `90s`, `10min`, `1.5h` or `1d`; `None` for what is no time above 0.
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    const UNITS: [(&str, f64); 4] = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let factor = UNITS.iter().find(|(n, _)| *n == unit).map(|(_, f)| *f)?;
    let seconds = number.trim().parse::<f64>().ok()? * factor;
    (seconds > 0.0 && seconds.is_finite()).then_some(seconds)
}

/// The goal must be one of the probes and integrals.
pub(super) fn check_goal(reader: &Reader, adapt: &Adapt, names: &[String]) {
    let Some(goal) = &adapt.goal else { return };
    if !names.contains(&goal.text) {
        let message = format!("there is no probe or integral named \"{}\"", goal.text);
        let help = suggest(&goal.text, names.iter().map(String::as_str), "they are")
            .or_else(|| Some("add a `[[probe]]` or an `[[integral]]` of that name".into()));
        reader.error(goal.place, "adapt.goal", message, help);
    }
}
