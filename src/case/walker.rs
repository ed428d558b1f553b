//! Access to the TOML text: a tree whose every part knows its place, and typed readers that report
//! what they do not find.
//!
//! May import: `law::expr`, `error`. A [`Section`] remembers the keys it was asked for, so that
//! what is left over is an unknown key and the known ones need no second list. Readers push their
//! complaint and return `None`: a case is read to its end whatever is wrong with it.

use std::cell::RefCell;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::error::{CaseError, CaseErrors};
use super::model::{Name, Place};
use super::schema::Bound;
use super::set::apply_set;
use crate::law::expr::{Expr, Scope, format_number, nearest};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) raw: Raw,
    pub(super) place: Place,
}

/// The kinds of TOML.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Entries in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key itself; for a table, of its name in the heading.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// Where a dotted key stands; if it does not, the nearest table around it that does.
    pub(super) fn place_of(&self, path: &str) -> Place {
        for entry in &self.entries {
            if entry.key == path {
                return if matches!(entry.node.raw, Raw::Table(_)) { entry.place } else { entry.node.place };
            }
            // Keys may have dots themselves.
            let Some(rest) = path.strip_prefix(entry.key.as_str()).and_then(|r| r.strip_prefix('.')) else {
                continue;
            };
            let inner = match &entry.node.raw {
                Raw::Table(table) => table.place_of(rest),
                Raw::Array(items) => {
                    let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
                    match index.parse().ok().and_then(|i: usize| items.get(i)) {
                        Some(Node { raw: Raw::Table(table), place }) => match table.place_of(rest) {
                            Place::Default => *place,
                            inner => inner,
                        },
                        Some(node) => node.place,
                        None => Place::Default,
                    }
                }
                _ => Place::Default,
            };
            return if inner == Place::Default { entry.place } else { inner };
        }
        Place::Default
    }
}

impl Node {
    /// The value in words, for messages.
    fn describe(&self) -> String {
        match &self.raw {
            Raw::String(s) => format!("the string \"{s}\""),
            Raw::Integer(i) => format!("the number {i}"),
            Raw::Float(f) => format!("the number {}", format_number(*f)),
            Raw::Boolean(b) => format!("`{b}`"),
            Raw::Date(d) => format!("the date {d}"),
            Raw::Array(a) => format!("an array of {}", a.len()),
            Raw::Table(_) => "a table".into(),
        }
    }
}

/// A key as it is written: bare if it may be.
pub fn quote_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) { key.into() } else { quote(key) }
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Names for a message: `a`, `b`, `c`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Help for a name that does not exist: the nearest one, or all of them.
pub(super) fn suggest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> Option<String> {
    if let Some(near) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all = list(known);
    if all.is_empty() { None } else { Some(format!("{what} {all}")) }
}

/// The text being read and what was found wrong with it.
pub(super) struct Reader {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) sets: Vec<String>,
    pub(super) scope: Scope,
    errors: RefCell<Vec<CaseError>>,
}

/// An error at a place of a text.
pub(super) fn locate(
    (file, text, sets): (&std::path::Path, &str, &[String]),
    place: Place,
    key: Option<String>,
    message: String,
    help: Option<String>,
) -> CaseError {
    let (mut line, mut span, mut flag) = (None, None, None);
    match place {
        Place::File { start, end } => {
            let start = start.min(text.len());
            line = Some(1 + text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count());
            span = Some((start, end.clamp(start, text.len())));
        }
        Place::Flag(i) => flag = sets.get(i).cloned(),
        Place::Default => {}
    }
    CaseError { message, key, file: file.into(), line, span, help, flag }
}

impl Reader {
    pub(super) fn new(file: PathBuf, text: String, sets: Vec<String>) -> Self {
        Self { file, text, sets, scope: Scope::default(), errors: RefCell::default() }
    }

    /// Reports an error.
    pub(super) fn error(&self, place: Place, key: &str, message: impl Into<String>, help: Option<String>) {
        let key = if key.is_empty() { None } else { Some(key.to_string()) };
        let error = locate((&self.file, &self.text, &self.sets), place, key, message.into(), help);
        let mut errors = self.errors.borrow_mut();
        if !errors.contains(&error) {
            errors.push(error);
        }
    }

    /// Takes over errors of later checks, except about keys that have one already: a value that
    /// could not be read is not missing too.
    pub(super) fn extend(&self, more: Vec<CaseError>) {
        let mut errors = self.errors.borrow_mut();
        let before = errors.len();
        for error in more {
            if errors[..before].iter().all(|e| e.key.is_none() || e.key != error.key) {
                errors.push(error);
            }
        }
    }

    /// How many errors were reported so far.
    pub(super) fn n_errors(&self) -> usize {
        self.errors.borrow().len()
    }

    /// All errors in the order of the file, those of the command line last.
    pub(super) fn into_errors(self) -> CaseErrors {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|e| (e.flag.is_some(), e.span.map_or(usize::MAX, |s| s.0)));
        CaseErrors { errors, text: self.text }
    }

    /// The tree of the text with the `--set` arguments put in; partial where something is wrong.
    pub(super) fn tree(&self) -> Table {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors.iter().take(1) {
            let place = error.span().map_or(Place::Default, |s| Place::File { start: s.start, end: s.end });
            self.error(place, "", format!("not valid TOML: {}", error.message()), None);
        }
        let mut root = self.table(document.get_ref());
        for (i, set) in self.sets.iter().enumerate() {
            if let Err((message, help)) = apply_set(&mut root, set, Place::Flag(i)) {
                self.error(Place::Flag(i), "", message, help);
            }
        }
        root
    }

    fn table(&self, table: &DeTable) -> Table {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let span = key.span();
                let place = Place::File { start: span.start, end: span.end };
                let node = self.node(value.get_ref(), value.span());
                Entry { key: key.get_ref().to_string(), place, node }
            })
            .collect();
        Table { entries }
    }

    fn node(&self, value: &DeValue, span: std::ops::Range<usize>) -> Node {
        let place = Place::File { start: span.start, end: span.end };
        Node { raw: self.raw(value, place), place }
    }

    fn raw(&self, value: &DeValue, place: Place) -> Raw {
        match value {
            DeValue::String(s) => Raw::String(s.to_string()),
            DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
                Ok(i) => Raw::Integer(i),
                Err(_) => {
                    self.error(place, "", format!("`{i}` is too large for an integer"), None);
                    Raw::Integer(0)
                }
            },
            DeValue::Float(f) => match f.as_str().parse() {
                Ok(f) => Raw::Float(f),
                Err(_) => {
                    self.error(place, "", format!("`{f}` is not a number"), None);
                    Raw::Float(0.0)
                }
            },
            DeValue::Boolean(b) => Raw::Boolean(*b),
            DeValue::Datetime(d) => Raw::Date(d.to_string()),
            DeValue::Array(a) => Raw::Array(a.iter().map(|v| self.node(v.get_ref(), v.span())).collect()),
            DeValue::Table(t) => Raw::Table(self.table(t)),
        }
    }

    fn wrong_kind(&self, key: &str, node: &Node, expected: &str) {
        let message = format!("`{key}` should be {expected}, not {}", node.describe());
        self.error(node.place, key, message, None);
    }

    /// A number, or an expression of parameters alone.
    pub(super) fn number(&self, key: &str, node: &Node, bound: Bound) -> Option<f64> {
        let value = match &node.raw {
            Raw::Integer(i) => *i as f64,
            Raw::Float(f) => *f,
            Raw::String(_) => {
                let expr = self.expr(key, node)?;
                let Some(value) = expr.as_constant() else {
                    let message = format!("`{key}` must be the same everywhere, not `{expr}`");
                    let help = Some("it may use numbers and parameters, not x y z t".into());
                    self.error(node.place, key, message, help);
                    return None;
                };
                value
            }
            _ => {
                self.wrong_kind(key, node, "a number");
                return None;
            }
        };
        self.bounded(key, node.place, value, bound).then_some(value)
    }

    /// Reports a value outside its bound.
    pub(super) fn bounded(&self, key: &str, place: Place, value: f64, bound: Bound) -> bool {
        if value.is_finite() && bound.holds(value) {
            return true;
        }
        let wanted = if value.is_finite() { bound.text() } else { "finite".into() };
        let value = format_number(value);
        self.error(place, key, format!("`{key}` must be {wanted}, not {value}"), None);
        false
    }

    /// A whole number within `from..=to`.
    pub(super) fn integer(&self, key: &str, node: &Node, from: u64, to: u64) -> Option<u64> {
        let value = match &node.raw {
            Raw::Integer(i) => Some(*i as f64),
            Raw::Float(f) => Some(*f),
            Raw::String(s) => Expr::parse(s, &self.scope).ok().and_then(|e| e.as_constant()),
            _ => None,
        };
        let Some(value) = value.filter(|v| v.fract() == 0.0) else {
            self.wrong_kind(key, node, "a whole number");
            return None;
        };
        if value < from as f64 || value > to as f64 {
            let wanted =
                if to == u64::MAX { format!("at least {from}") } else { format!("from {from} to {to}") };
            self.error(node.place, key, format!("`{key}` must be {wanted}, not {value}"), None);
            return None;
        }
        Some(value as u64)
    }

    /// A string.
    pub(super) fn string(&self, key: &str, node: &Node) -> Option<String> {
        match &node.raw {
            Raw::String(s) => Some(s.clone()),
            _ => {
                self.wrong_kind(key, node, "a string");
                None
            }
        }
    }

    /// True or false.
    pub(super) fn boolean(&self, key: &str, node: &Node) -> Option<bool> {
        match &node.raw {
            Raw::Boolean(b) => Some(*b),
            _ => {
                self.wrong_kind(key, node, "true or false");
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, key: &str, node: &Node, of: &[(&str, T)]) -> Option<T> {
        let words = of.iter().map(|(w, _)| *w);
        let Raw::String(s) = &node.raw else {
            self.wrong_kind(key, node, &format!("one of {}", list(words)));
            return None;
        };
        let found = of.iter().find(|(w, _)| w == s).map(|(_, t)| *t);
        if found.is_none() {
            let message = format!("`{key}` should be one of {}, not \"{s}\"", list(words.clone()));
            let help = nearest(s, words).map(|near| format!("did you mean \"{near}\"?"));
            self.error(node.place, key, message, help);
        }
        found
    }

    /// A number or an expression.
    pub(super) fn expr(&self, key: &str, node: &Node) -> Option<Expr> {
        match &node.raw {
            Raw::Integer(i) => Some(Expr::constant(*i as f64)),
            Raw::Float(f) if f.is_finite() => Some(Expr::constant(*f)),
            Raw::String(s) => match Expr::parse(s, &self.scope) {
                Ok(expr) => match expr.as_constant() {
                    Some(c) if !c.is_finite() => {
                        let message = format!("`{key}`: the expression `{s}` gives {c}");
                        self.error(node.place, key, message, None);
                        None
                    }
                    _ => Some(expr),
                },
                Err(e) => {
                    let place = self.within(node.place, s, e.start, e.end);
                    let message = format!("`{key}`: in the expression `{s}`: {}", e.message);
                    self.error(place, key, message, e.help);
                    None
                }
            },
            _ => {
                self.wrong_kind(key, node, "a number or an expression");
                None
            }
        }
    }

    /// The value of a plain number, without complaint about anything else.
    pub(super) fn plain_number(&self, node: &Node) -> Option<f64> {
        match node.raw {
            Raw::Integer(i) => Some(i as f64),
            Raw::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The place of bytes `start..end` of a string's contents, if the string has no escapes.
    fn within(&self, place: Place, contents: &str, start: usize, end: usize) -> Place {
        let Place::File { start: from, end: to } = place else { return place };
        let raw = self.text.get(from..to).unwrap_or("");
        for opening in [3, 1] {
            let closed = raw.len().checked_sub(opening).filter(|end| *end >= opening);
            if closed.and_then(|end| raw.get(opening..end)) == Some(contents) {
                // Something missing at the end is shown at the closing quote.
                let end = end.max(start + 1);
                return Place::File { start: from + opening + start, end: from + opening + end };
            }
        }
        place
    }

    /// An array.
    pub(super) fn array<'n>(&self, key: &str, node: &'n Node, of: &str) -> Option<&'n [Node]> {
        match &node.raw {
            Raw::Array(a) => Some(a),
            _ => {
                self.wrong_kind(key, node, &format!("an array of {of}"));
                None
            }
        }
    }

    /// An array of one to three numbers.
    pub(super) fn point(&self, key: &str, node: &Node, bound: Bound) -> Option<Vec<f64>> {
        let items = self.array(key, node, "numbers")?;
        if items.is_empty() || items.len() > 3 {
            let message = format!("`{key}` should have 1, 2 or 3 entries, not {}", items.len());
            self.error(node.place, key, message, None);
            return None;
        }
        let values: Vec<f64> = items.iter().filter_map(|n| self.number(key, n, bound)).collect();
        (values.len() == items.len()).then_some(values)
    }

    /// An array of one to three expressions.
    pub(super) fn exprs(&self, key: &str, node: &Node) -> Option<Vec<Expr>> {
        let items = self.array(key, node, "numbers or expressions")?;
        if items.is_empty() || items.len() > 3 {
            let message = format!("`{key}` should have 1, 2 or 3 entries, not {}", items.len());
            self.error(node.place, key, message, None);
            return None;
        }
        let values: Vec<Expr> = items.iter().filter_map(|n| self.expr(key, n)).collect();
        (values.len() == items.len()).then_some(values)
    }

    /// A name of a group: a string, or the tag as a whole number.
    pub(super) fn group(&self, key: &str, node: &Node) -> Option<Name> {
        match &node.raw {
            Raw::String(s) => Some(Name { text: s.clone(), place: node.place }),
            Raw::Integer(i) if *i > 0 => Some(Name { text: i.to_string(), place: node.place }),
            _ => {
                self.wrong_kind(key, node, "the name of a group, or its tag");
                None
            }
        }
    }

    /// One group or an array of them.
    pub(super) fn groups(&self, key: &str, node: &Node) -> Vec<Name> {
        match &node.raw {
            Raw::Array(items) => {
                if items.is_empty() {
                    self.error(node.place, key, format!("`{key}` names no group"), None);
                }
                items.iter().filter_map(|n| self.group(key, n)).collect()
            }
            _ => self.group(key, node).into_iter().collect(),
        }
    }

    /// A table, with its dotted path.
    pub(super) fn section<'a>(&'a self, path: &str, entry: &'a Entry) -> Option<Section<'a>> {
        self.section_of(path, &entry.node, entry.place)
    }

    /// A table given its node; `place` is where to point when something is missing from it.
    pub(super) fn section_of<'a>(&'a self, path: &str, node: &'a Node, place: Place) -> Option<Section<'a>> {
        match &node.raw {
            Raw::Table(table) => {
                Some(Section { reader: self, path: path.into(), table, place, asked: RefCell::default() })
            }
            _ => {
                self.wrong_kind(path, node, "a table");
                None
            }
        }
    }
}

/// A table being read.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader,
    /// Dotted from the top.
    pub(super) path: String,
    pub(super) table: &'a Table,
    pub(super) place: Place,
    asked: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(reader: &'a Reader, table: &'a Table) -> Self {
        let place = Place::Default;
        Self { reader, path: String::new(), table, place, asked: RefCell::default() }
    }

    /// Dotted path of a key here.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { quote_key(key) } else { format!("{}.{}", self.path, quote_key(key)) }
    }

    /// The entry of a key, which is known from now on.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|k| k == key) {
            asked.push(key.into());
        }
        self.table.get(key)
    }

    /// The entry of a key that must be there.
    pub(super) fn require(&self, key: &str, what: &str) -> Option<&'a Entry> {
        let entry = self.get(key);
        if entry.is_none() {
            let message = format!("`[{}]` lacks `{key}`: {what}", self.path);
            self.reader.error(self.place, &self.key(key), message, None);
        }
        entry
    }

    /// A number, or the default if the key is absent or wrong.
    pub(super) fn number_or(&self, key: &str, default: f64, bound: Bound) -> f64 {
        self.number(key, bound).unwrap_or(default)
    }

    /// A number, if the key is there.
    pub(super) fn number(&self, key: &str, bound: Bound) -> Option<f64> {
        self.get(key).and_then(|e| self.reader.number(&self.key(key), &e.node, bound))
    }

    /// A whole number, if the key is there.
    pub(super) fn integer(&self, key: &str, from: u64, to: u64) -> Option<u64> {
        self.get(key).and_then(|e| self.reader.integer(&self.key(key), &e.node, from, to))
    }

    /// A string, if the key is there.
    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|e| self.reader.string(&self.key(key), &e.node))
    }

    /// One of some words, or the first of them if the key is absent or wrong.
    pub(super) fn choice<T: Copy>(&self, key: &str, of: &[(&str, T)]) -> T {
        self.get(key).and_then(|e| self.reader.choice(&self.key(key), &e.node, of)).unwrap_or(of[0].1)
    }

    /// A key that another version will know.
    pub(super) fn reserved(&self, key: &str) {
        if let Some(entry) = self.get(key) {
            let message = format!("`{}` is reserved, not supported yet", self.key(key));
            self.reader.error(entry.place, &self.key(key), message, None);
        }
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for entry in &self.table.entries {
            if asked.contains(&entry.key) {
                continue;
            }
            let key = if self.path.is_empty() {
                quote_key(&entry.key)
            } else {
                format!("{}.{}", self.path, quote_key(&entry.key))
            };
            let place_name =
                if self.path.is_empty() { "at the top".into() } else { format!("in `[{}]`", self.path) };
            let message = format!("there is no key `{}` {place_name}", entry.key);
            let mut help = suggest(&entry.key, asked.iter().map(String::as_str), "the keys are");
            if self.path.is_empty() && self.reader.scope.parameters.contains_key(&entry.key) {
                help = Some(format!("did you mean `parameters.{}`?", entry.key));
            }
            self.reader.error(entry.place, &key, message, help);
        }
    }
}
