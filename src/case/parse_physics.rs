//! Reads what the problem is: parameters, law, coefficients, regions, boundaries.
//!
//! May import: `law::expr`, `schema`, `model`, `walker`.

use super::model::*;
use super::schema::{Bound, CoefficientSchema, ConditionKind, Form, LAWS, Law, LawSchema, Standard};
use super::walker::{Entry, Node, Raw, Reader, Section, Table, list, quote_key, suggest};
use crate::law::expr::{Expr, is_reserved, nearest};

/// Reads `[parameters]` into the reader's scope. Parameters may use each other in any order.
pub(super) fn parameters(reader: &mut Reader, root: &Table) {
    let Some(entry) = root.get("parameters") else { return };
    let Raw::Table(table) = &entry.node.raw else {
        reader.section("parameters", entry);
        return;
    };
    for e in &table.entries {
        let key = format!("parameters.{}", quote_key(&e.key));
        if is_reserved(&e.key) {
            let message =
                format!("a parameter cannot be named `{}`: expressions already know that name", e.key);
            reader.error(e.place, &key, message, None);
        }
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        if !e.key.chars().all(letter) || e.key.starts_with(|c: char| !c.is_alphabetic() && c != '_') {
            let message = format!("a parameter cannot be named `{}`", e.key);
            let help = Some(
                "use letters, digits and `_`, and a letter first: expressions must be able to name it".into(),
            );
            reader.error(e.place, &key, message, help);
        }
    }
    for e in &table.entries {
        parameter(reader, table, e, &mut Vec::new());
    }
}

/// Evaluates one parameter, those it uses first. `open` holds the ones being evaluated.
fn parameter(reader: &mut Reader, table: &Table, entry: &Entry, open: &mut Vec<String>) {
    if reader.scope.parameters.contains_key(&entry.key) {
        return;
    }
    let key = format!("parameters.{}", quote_key(&entry.key));
    if let Some(first) = open.iter().position(|k| *k == entry.key) {
        let round = [&open[first..], std::slice::from_ref(&entry.key)].concat().join(" -> ");
        reader.error(entry.node.place, &key, format!("parameters depend on each other: {round}"), None);
        reader.scope.parameters.insert(entry.key.clone(), 1.0);
        return;
    }
    if let Raw::String(text) = &entry.node.raw {
        open.push(entry.key.clone());
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if let Some(other) = table.get(word) {
                parameter(reader, table, other, open);
            }
        }
        open.pop();
        if reader.scope.parameters.contains_key(&entry.key) {
            return;
        }
    }
    // A parameter that is wrong still exists, so that each use of it is not an error as well.
    let value = reader.number(&key, &entry.node, Bound::Any).unwrap_or(1.0);
    reader.scope.parameters.insert(entry.key.clone(), value);
}

/// Reads `[physics]`; a law that is missing or unknown ends the reading of what depends on it.
pub(super) fn physics(root: &Section) -> Option<Physics> {
    let reader = root.reader;
    let Some(entry) = root.get("physics") else {
        let help = Some(format!("write `law` and its coefficients there; the laws are {}", laws()));
        reader.error(Place::Default, "physics", "the case has no `[physics]`", help);
        return None;
    };
    let section = reader.section("physics", entry)?;
    let law_entry = section.require("law", &format!("the laws are {}", laws()))?;
    if matches!(&law_entry.node.raw, Raw::String(s) if s == "form") {
        let message = "law \"form\" is reserved, not supported yet";
        let help = Some(format!("the laws are {}", laws()));
        reader.error(law_entry.node.place, "physics.law", message, help);
        return None;
    }
    let names = LAWS.map(|l| (l.name, l.law));
    let law = reader.choice("physics.law", &law_entry.node, &names)?;
    let mut plane = Plane::Strain;
    let mut plane_place = Place::Default;
    if law == Law::Elasticity {
        plane = section.choice("plane", &[("strain", Plane::Strain), ("stress", Plane::Stress)]);
        plane_place = section.get("plane").map_or(Place::Default, |e| e.node.place);
    }
    let mut coefficients = Vec::new();
    for schema in law.schema().coefficients {
        let given = section
            .get(schema.name)
            .and_then(|e| coefficient(reader, schema, section.key(schema.name), &e.node, plane));
        let standard = || match schema.standard {
            Standard::Number(n) => Some(Coefficient {
                name: schema.name,
                form: schema.form,
                value: Value::Scalar(Expr::constant(n)),
                key: section.key(schema.name),
                place: Place::Default,
            }),
            Standard::Required => None,
        };
        coefficients.extend(given.or_else(standard));
    }
    let place = section.place;
    section.finish();
    Some(Physics { law, coefficients, plane, plane_place, place })
}

fn laws() -> String {
    list(LAWS.iter().map(|l| l.name))
}

fn coefficient(
    reader: &Reader,
    schema: &CoefficientSchema,
    key: String,
    node: &Node,
    plane: Plane,
) -> Option<Coefficient> {
    let mut bound = schema.bound;
    if schema.name == "poisson_ratio" && plane == Plane::Stress {
        bound = Bound::UpTo(-1.0, 0.5);
    }
    let value = value(reader, schema.form, &key, node)?;
    // Of a full tensor the diagonal must be positive; the rest is the law's to judge.
    let checked: Vec<&Expr> = match &value {
        Value::Tensor(rows) => rows.iter().enumerate().filter_map(|(i, row)| row.get(i)).collect(),
        other => other.exprs(),
    };
    for expr in checked {
        let holds = expr.as_constant().is_none_or(|c| reader.bounded(&key, node.place, c, bound));
        if !holds {
            return None;
        }
    }
    Some(Coefficient { name: schema.name, form: schema.form, value, key, place: node.place })
}

fn value(reader: &Reader, form: Form, key: &str, node: &Node) -> Option<Value> {
    let Raw::Array(items) = &node.raw else {
        let expr = reader.expr(key, node)?;
        if form == Form::Vector && expr.as_constant() != Some(0.0) {
            let message = format!("`{key}` is a vector, not the single number `{expr}`");
            let help = Some("write an array with one entry a dimension, `[a, b, c]`".into());
            reader.error(node.place, key, message, help);
            return None;
        }
        return Some(Value::Scalar(expr));
    };
    let has_rows = items.iter().any(|n| matches!(n.raw, Raw::Array(_)));
    match form {
        Form::Scalar => {
            let message = format!("`{key}` is a single number, not an array of {}", items.len());
            reader.error(node.place, key, message, None);
            None
        }
        Form::Vector if has_rows => {
            reader.error(node.place, key, format!("`{key}` is a vector, not a tensor"), None);
            None
        }
        Form::Tensor if has_rows => {
            let rows: Vec<Vec<Expr>> = items.iter().filter_map(|row| reader.exprs(key, row)).collect();
            if rows.len() < items.len() {
                return None;
            }
            if rows.len() > 3 || rows.iter().any(|row| row.len() != rows.len()) {
                let message = format!("`{key}` should have as many rows as columns, one a dimension");
                reader.error(node.place, key, message, None);
                return None;
            }
            Some(Value::Tensor(rows))
        }
        Form::Vector | Form::Tensor => reader.exprs(key, node).map(Value::Vector),
    }
}

/// Reads `[region.*]`.
pub(super) fn regions(root: &Section, law: Law, plane: Plane) -> Vec<Region> {
    let reader = root.reader;
    let headings = headings(root, "region");
    let mut regions = Vec::new();
    for entry in headings {
        let path = format!("region.{}", quote_key(&entry.key));
        let Some(section) = reader.section(&path, entry) else { continue };
        let on = on(&section, entry);
        let mut coefficients = Vec::new();
        for schema in law.schema().coefficients {
            if let Some(e) = section.get(schema.name) {
                let key = section.key(schema.name);
                coefficients.extend(coefficient(reader, schema, key, &e.node, plane));
            }
        }
        if section.table.entries.iter().all(|e| e.key == "on") {
            let known = list(law.schema().coefficients.iter().map(|c| c.name));
            let message = format!("`[{path}]` overrides nothing");
            reader.error(entry.place, &path, message, Some(format!("the coefficients are {known}")));
        }
        section.finish();
        regions.push(Region { heading: entry.key.clone(), on, coefficients, place: entry.place });
    }
    regions
}

/// The sub-tables of `[region]` or `[boundary]`, in the order of the file.
fn headings<'a>(root: &Section<'a>, name: &str) -> &'a [Entry] {
    let Some(entry) = root.get(name) else { return &[] };
    match &entry.node.raw {
        Raw::Table(table) => &table.entries,
        _ => {
            root.reader.section(name, entry);
            &[]
        }
    }
}

fn on(section: &Section, entry: &Entry) -> Vec<Name> {
    match section.get("on") {
        Some(on) => section.reader.groups(&section.key("on"), &on.node),
        None => vec![Name { text: entry.key.clone(), place: entry.place }],
    }
}

/// Reads `[boundary.*]`.
pub(super) fn boundaries(root: &Section, law: Law) -> Vec<Boundary> {
    let reader = root.reader;
    let mut boundaries = Vec::new();
    for entry in headings(root, "boundary") {
        let path = format!("boundary.{}", quote_key(&entry.key));
        if !matches!(entry.node.raw, Raw::Table(_)) {
            let message = format!("`{path}` should be a table of conditions");
            let help = Some(format!("begin it with a heading, `[{path}]`"));
            reader.error(entry.place, &path, message, help);
            continue;
        }
        let Some(section) = reader.section(&path, entry) else { continue };
        let at = section.get("at").and_then(|e| reader.point(&section.key("at"), &e.node, Bound::Any));
        let has_at = section.get("at").is_some();
        if let (true, Some(on)) = (has_at, section.get("on")) {
            let message = format!("`[{path}]` has both `on` and `at`");
            let help = Some("`on` names groups, `at` a single vertex: keep one".into());
            reader.error(on.place, &section.key("on"), message, help);
        }
        let on = if has_at { Vec::new() } else { on(&section, entry) };
        let before = reader.n_errors();
        let conditions = conditions(&section, law);
        if reader.n_errors() == before {
            contradictions(&section, law, &conditions, has_at);
        }
        boundary_keys(section, law);
        boundaries.push(Boundary { heading: entry.key.clone(), on, at, conditions, place: entry.place });
    }
    boundaries
}

/// Reports keys that are no condition of this law; says so if another law has them.
fn boundary_keys(section: Section, law: Law) {
    let mut known = law.boundary_keys();
    known.extend(["on", "at"]);
    for entry in &section.table.entries {
        let name = entry.key.as_str();
        if known.contains(&name) {
            continue;
        }
        let others: Vec<&LawSchema> = LAWS.iter().filter(|l| l.law.boundary_keys().contains(&name)).collect();
        let message = if others.is_empty() {
            format!("there is no boundary condition `{name}`")
        } else {
            format!("law `{}` has no boundary condition `{name}`", law.name())
        };
        let all = format!("the keys are {}", list(known.iter().copied()));
        let help = match nearest(name, known.iter().copied()) {
            Some(near) if others.is_empty() => format!("did you mean `{near}`? {all}"),
            _ => all,
        };
        section.reader.error(entry.place, &section.key(name), message, Some(help));
    }
}

fn conditions(section: &Section, law: Law) -> Vec<Condition> {
    let reader = section.reader;
    let mut conditions = Vec::new();
    let mut essential: Option<&str> = None;
    for entry in &section.table.entries {
        let name = entry.key.as_str();
        let key = section.key(name);
        let node = &entry.node;
        let kind = if law.field_keys().contains(&name) {
            if let Some(first) = essential {
                let message = format!("`{name}` and `{first}` are the same field");
                reader.error(entry.place, &key, message, Some("keep one of them".into()));
                continue;
            }
            essential = Some(name);
            essential_value(reader, law, &key, node).map(ConditionValue::Essential)
        } else {
            let kinds = law.schema().conditions;
            match kinds.iter().find(|(k, _)| *k == name).map(|(_, kind)| *kind) {
                Some(kind) => natural_value(reader, kind, &key, node),
                None => continue,
            }
        };
        conditions.extend(kind.map(|kind| Condition { kind, key, place: node.place }));
    }
    let any = section.table.entries.iter().any(|e| e.key != "on" && e.key != "at");
    if !any {
        let message = format!("`[{}]` has no condition", section.path);
        let help = Some(format!("the keys are {}", list(law.boundary_keys())));
        reader.error(section.place, &section.path, message, help);
    }
    conditions
}

fn essential_value(reader: &Reader, law: Law, key: &str, node: &Node) -> Option<Essential> {
    if !law.is_vector() {
        if let Raw::Table(_) | Raw::Array(_) = node.raw {
            let message = format!("`{key}` is a single number: `{}` has no components", law.field());
            reader.error(node.place, key, message, None);
            return None;
        }
        return reader.expr(key, node).map(|e| Essential::Components(vec![Some(e)]));
    }
    match &node.raw {
        Raw::Array(_) => {
            let components = reader.exprs(key, node)?;
            Some(Essential::Components(components.into_iter().map(Some).collect()))
        }
        Raw::Table(table) => {
            let section = reader.section_of(key, node, node.place)?;
            let before = reader.n_errors();
            let part = |name: &str| section.get(name).and_then(|e| reader.expr(&section.key(name), &e.node));
            let components = vec![part("x"), part("y"), part("z")];
            let normal = part("n");
            section.finish();
            if reader.n_errors() > before {
                return None;
            }
            if table.entries.is_empty() {
                let help = Some("name components: `{ z = 0 }`, or `{ n = 0 }` along the normal".into());
                reader.error(node.place, key, format!("`{key}` fixes no component"), help);
                return None;
            }
            match normal {
                Some(_) if components.iter().any(Option::is_some) => {
                    let message = format!("`{key}` fixes `n` and single components together");
                    let help = Some("put them under two headings with the same `on`".into());
                    reader.error(node.place, key, message, help);
                    None
                }
                Some(normal) => Some(Essential::Normal(normal)),
                None => Some(Essential::Components(components)),
            }
        }
        _ => {
            let message =
                format!("`{key}` has a component for each dimension, a single value does not say them");
            let help =
                Some("write all, `[0, 0, 0]`, or some, `{ z = 0 }`, or `{ n = 0 }` along the normal".into());
            reader.error(node.place, key, message, help);
            None
        }
    }
}

fn natural_value(reader: &Reader, kind: ConditionKind, key: &str, node: &Node) -> Option<ConditionValue> {
    match kind {
        ConditionKind::Essential => None,
        ConditionKind::Inflow => reader.expr(key, node).map(ConditionValue::Inflow),
        ConditionKind::Pressure => reader.expr(key, node).map(ConditionValue::Pressure),
        ConditionKind::Traction => vector(reader, key, node).map(ConditionValue::Traction),
        ConditionKind::Force => vector(reader, key, node).map(ConditionValue::Force),
        ConditionKind::Robin => {
            let section = reader.section_of(key, node, node.place)?;
            let part = |name: &str, what: &str| {
                let e = section.require(name, what)?;
                reader.expr(&section.key(name), &e.node)
            };
            let coefficient = part("coefficient", "write `robin = { coefficient = .., ambient = .. }`");
            let ambient = part("ambient", "write `robin = { coefficient = .., ambient = .. }`");
            section.finish();
            Some(ConditionValue::Robin { coefficient: coefficient?, ambient: ambient? })
        }
        ConditionKind::Periodic => {
            let section = reader.section_of(key, node, node.place)?;
            let with = section
                .require("with", "the name of the opposite side, `periodic = { with = \"x-max\" }`")
                .and_then(|e| reader.group(&section.key("with"), &e.node));
            section.finish();
            Some(ConditionValue::Periodic { with: with? })
        }
    }
}

fn vector(reader: &Reader, key: &str, node: &Node) -> Option<Vec<Expr>> {
    if let Raw::Array(_) = node.raw {
        return reader.exprs(key, node);
    }
    let message = format!("`{key}` is a vector");
    let help = Some("write an array with one entry a dimension, `[a, b, c]`".into());
    reader.error(node.place, key, message, help);
    None
}

/// Conditions of one heading that exclude each other.
fn contradictions(section: &Section, law: Law, conditions: &[Condition], has_at: bool) {
    let reader = section.reader;
    let path = &section.path;
    let fixes_all = conditions.iter().any(|c| match &c.kind {
        ConditionValue::Essential(Essential::Components(v)) => {
            !law.is_vector() || v.iter().all(Option::is_some)
        }
        _ => false,
    });
    for c in conditions {
        let name = c.key.rsplit('.').next().unwrap_or(&c.key);
        match &c.kind {
            ConditionValue::Periodic { with } => {
                if conditions.len() > 1 {
                    let message = format!("`[{path}]` is periodic and has other conditions");
                    let help = Some("a periodic side is inside the body: it takes no other condition".into());
                    reader.error(c.place, &c.key, message, help);
                }
                if has_at {
                    reader.error(c.place, &c.key, "a single vertex cannot be periodic", None);
                }
                let own = section.get("on").is_none()
                    && section.path == format!("boundary.{}", quote_key(&with.text));
                if own {
                    let message = format!("`{}` is periodic with itself", with.text);
                    reader.error(with.place, &c.key, message, Some("name the opposite side".into()));
                }
            }
            ConditionValue::Force(_) if !has_at => {
                let message = format!("`force` is a point load, and `[{path}]` is not a point");
                let help = Some("give `at = [x, y, z]`, or `traction` for a force per area".into());
                reader.error(c.place, &c.key, message, help);
            }
            ConditionValue::Inflow(_)
            | ConditionValue::Robin { .. }
            | ConditionValue::Pressure(_)
            | ConditionValue::Traction(_)
                if has_at =>
            {
                let message = format!("`{name}` acts on facets, and `[{path}]` is a single vertex");
                let help = if law.is_vector() {
                    Some("a point load is `force = [..]`".into())
                } else {
                    Some("at a vertex only the field's value can be fixed".into())
                };
                reader.error(c.place, &c.key, message, help);
            }
            ConditionValue::Essential(Essential::Normal(_)) if has_at => {
                reader.error(c.place, &c.key, "a single vertex has no normal", None);
            }
            ConditionValue::Essential(_) => {}
            _ if fixes_all => {
                let message = format!("`{name}` has no effect: `[{path}]` fixes the whole field");
                let help = Some("keep one of them".into());
                reader.error(c.place, &c.key, message, help);
            }
            _ => {}
        }
    }
}

/// The components of a field under a key such as `value` or its own name: `[exact]`, `[initial]`.
pub(super) fn field_components(section: &Section, law: Law) -> Option<(Vec<Expr>, String, Place)> {
    let reader = section.reader;
    let mut found: Option<(&'static str, &Entry)> = None;
    for name in law.field_keys() {
        let Some(entry) = section.get(name) else { continue };
        if let Some((first, _)) = found {
            let message = format!("`{name}` and `{first}` are the same field");
            reader.error(entry.place, &section.key(name), message, Some("keep one of them".into()));
        }
        found = Some((name, entry));
    }
    let (name, entry) = found?;
    let key = section.key(name);
    let place = entry.node.place;
    let components = if law.is_vector() {
        // 0 alone stands for the zero vector, whatever the dimension.
        if reader.plain_number(&entry.node) == Some(0.0) {
            Some(vec![Expr::constant(0.0)])
        } else {
            vector(reader, &key, &entry.node)
        }
    } else {
        reader.expr(&key, &entry.node).map(|e| vec![e])
    };
    components.map(|c| (c, key, place))
}

/// Help for a group name that a box does not have.
pub(super) fn box_help(name: &str, known: &[&str]) -> Option<String> {
    suggest(name, known.iter().copied(), "a box has")
}
