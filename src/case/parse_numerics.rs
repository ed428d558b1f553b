//! Reads how the problem is solved: mesh, space, solver, adaptation, time, performance.
//!
//! May import: `schema`, `model`, `walker`.

use std::path::{Path, PathBuf};

use super::model::*;
use super::schema::{Bound, KRYLOV, Law, METHOD_KEYS, MethodKey, PRECONDITIONERS, WHOLE_METHODS};
use super::walker::{Entry, Node, Raw, Reader, Section, list};
use crate::law::expr::nearest;

/// Reads `[mesh]`.
pub(super) fn mesh(root: &Section, directory: &Path) -> Option<MeshInput> {
    let reader = root.reader;
    let Some(entry) = root.get("mesh") else {
        let help = Some("write `file = \"..\"` or `box = { size = [..], cells = [..] }` there".into());
        reader.error(Place::Default, "mesh", "the case has no `[mesh]`", help);
        return None;
    };
    let section = reader.section("mesh", entry)?;
    section.reserved("coordinates");
    let file = section.get("file");
    let boxed = section.get("box");
    let source = match (file, boxed) {
        (Some(file), None) => reader
            .string("mesh.file", &file.node)
            .map(|path| (MeshSource::File(directory.join(path)), file.node.place)),
        (None, Some(boxed)) => box_mesh(reader, boxed).map(|mesh| (MeshSource::Box(mesh), boxed.place)),
        (Some(_), Some(boxed)) => {
            let message = "`[mesh]` has both `file` and `box`";
            reader.error(boxed.place, "mesh.box", message, Some("keep one of them".into()));
            None
        }
        (None, None) => {
            let message = "`[mesh]` lacks `file` or `box`";
            reader.error(section.place, "mesh", message, None);
            None
        }
    };
    let scale = section.number_or("scale", 1.0, Bound::Positive);
    let refine = section.integer("refine", 0, 20).unwrap_or(0) as usize;
    section.finish();
    source.map(|(source, place)| MeshInput { source, scale, refine, place })
}

fn box_mesh(reader: &Reader, entry: &Entry) -> Option<BoxMesh> {
    const SHAPES: [(&str, BoxShape); 5] = [
        ("interval", BoxShape::Interval),
        ("triangle", BoxShape::Triangle),
        ("quadrilateral", BoxShape::Quadrilateral),
        ("tetrahedron", BoxShape::Tetrahedron),
        ("hexahedron", BoxShape::Hexahedron),
    ];
    let section = reader.section("mesh.box", entry)?;
    let what = "one entry a dimension";
    let size =
        section.require("size", what).and_then(|e| reader.point("mesh.box.size", &e.node, Bound::Positive));
    let cells_entry = section.require("cells", what);
    let cells = cells_entry.and_then(|e| {
        let items = reader.array("mesh.box.cells", &e.node, "whole numbers")?;
        let most = u64::from(u32::MAX);
        let cells: Vec<usize> = items
            .iter()
            .filter_map(|n| reader.integer("mesh.box.cells", n, 1, most))
            .map(|n| n as usize)
            .collect();
        (cells.len() == items.len()).then_some(cells)
    });
    let origin_entry = section.get("origin");
    let origin = origin_entry.and_then(|e| reader.point("mesh.box.origin", &e.node, Bound::Any));
    let shape_entry = section.get("shape");
    let shape = shape_entry.and_then(|e| reader.choice("mesh.box.shape", &e.node, &SHAPES));
    section.finish();
    let size = size?;
    let dimension = size.len();
    let fits = |key: &str, entry: Option<&Entry>, len: usize| {
        if let (true, Some(entry)) = (len != dimension, entry) {
            let message = format!("`mesh.box.{key}` has {len} entries, `mesh.box.size` has {dimension}");
            reader.error(entry.node.place, &format!("mesh.box.{key}"), message, None);
        }
        len == dimension
    };
    let cells = cells?;
    let origin = origin.unwrap_or_else(|| vec![0.0; dimension]);
    let fitting = fits("cells", cells_entry, cells.len()) & fits("origin", origin_entry, origin.len());
    let simplex = [BoxShape::Interval, BoxShape::Triangle, BoxShape::Tetrahedron];
    let shape = shape.unwrap_or(simplex[dimension - 1]);
    if shape.dimension() != dimension {
        let names = SHAPES.iter().filter(|(_, s)| s.dimension() == dimension).map(|(n, _)| *n);
        let message = format!("a box of dimension {dimension} has no cells of shape `{}`", shape.name());
        let help = Some(format!("its shapes are {}", list(names)));
        let place = shape_entry.map_or(entry.place, |e| e.node.place);
        reader.error(place, "mesh.box.shape", message, help);
        return None;
    }
    fitting.then_some(BoxMesh { size, cells, shape, origin })
}

/// Reads `[space]`.
pub(super) fn degree(root: &Section, law: Option<Law>) -> usize {
    let reader = root.reader;
    let Some(section) = root.get("space").and_then(|e| reader.section("space", e)) else { return 1 };
    let mut degree = None;
    if let Some(entry) = section.get("degree") {
        match (&entry.node.raw, law) {
            (Raw::Table(_), Some(law)) => {
                if let Some(fields) = reader.section("space.degree", entry) {
                    for name in law.field_keys() {
                        degree = degree.or(fields.integer(name, 1, 4));
                    }
                    fields.finish();
                }
            }
            (Raw::Table(_), None) => {}
            _ => degree = reader.integer("space.degree", &entry.node, 1, 4),
        }
    }
    section.finish();
    degree.unwrap_or(1) as usize
}

/// Reads `[solver]`.
pub(super) fn solver(root: &Section) -> Solver {
    let reader = root.reader;
    let mut solver = Solver {
        method: "auto".into(),
        method_place: Place::Default,
        tolerance: 1e-8,
        max_iterations: 1000,
        backend: Backend::Auto,
        petsc: String::new(),
        overlap: None,
        options: Vec::new(),
    };
    let Some(section) = root.get("solver").and_then(|e| reader.section("solver", e)) else {
        return solver;
    };
    if let Some(entry) = section.get("method")
        && let Some(method) = reader.string("solver.method", &entry.node)
        && check_method(reader, &method, &entry.node)
    {
        solver.method = method;
        solver.method_place = entry.node.place;
    }
    solver.tolerance = section.number_or("tolerance", 1e-8, Bound::Between(0.0, 1.0));
    solver.max_iterations =
        section.integer("max_iterations", 1, u64::from(u32::MAX)).unwrap_or(1000) as usize;
    solver.backend =
        section.choice("backend", &[("auto", Backend::Auto), ("cpu", Backend::Cpu), ("gpu", Backend::Gpu)]);
    solver.petsc = section.string("petsc").unwrap_or_default();
    if let Some(word) = solver.petsc.split_whitespace().next().filter(|word| !word.starts_with('-')) {
        let message = format!("PETSc options begin with a dash, `{word}` does not");
        let help = "write them as on a command line: petsc = \"-ksp_type cg -pc_type gamg\"";
        if let Some(entry) = section.get("petsc") {
            reader.error(entry.node.place, &section.key("petsc"), message, Some(help.into()));
        }
    }
    for schema in &METHOD_KEYS {
        let Some(entry) = section.get(schema.name) else { continue };
        let key = section.key(schema.name);
        let value = if schema.is_whole {
            let least = if schema.bound.holds(0.0) { 0 } else { 1 };
            reader.integer(&key, &entry.node, least, 1 << 31).map(|n| n as f64)
        } else {
            reader.number(&key, &entry.node, schema.bound)
        };
        let Some(value) = value else { continue };
        if !uses(&solver.method, schema) {
            let message = format!("method \"{}\" does not use `{}`", solver.method, schema.name);
            let help = Some(format!("it belongs to {}", list(schema.used_by.iter().copied())));
            reader.error(entry.place, &key, message, help);
        }
        solver.options.push(MethodOption { name: schema.name, value, place: entry.node.place });
    }
    solver.overlap = solver.option("overlap").map(|n| n as usize);
    section.finish();
    solver
}

fn uses(method: &str, key: &MethodKey) -> bool {
    method == "auto" || method == "petsc" || method.split('+').any(|part| key.used_by.contains(&part))
}

fn check_method(reader: &Reader, method: &str, node: &Node) -> bool {
    if WHOLE_METHODS.contains(&method) {
        return true;
    }
    let krylov = KRYLOV.iter().map(|(n, _)| *n);
    let (message, help) = match method.split_once('+') {
        None => {
            let help = match nearest(method, WHOLE_METHODS.into_iter().chain(krylov.clone())) {
                Some(near) if krylov.clone().any(|k| k == near) => {
                    format!("name a preconditioner too, as in \"{near}+boomeramg\"")
                }
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "methods are {}, or a Krylov method with a preconditioner, as in \"cg+boomeramg\"",
                    list(WHOLE_METHODS)
                ),
            };
            (format!("there is no solver method \"{method}\""), help)
        }
        Some((first, second)) => {
            let known = PRECONDITIONERS.iter().map(|(n, _)| *n);
            if !krylov.clone().any(|k| k == first) {
                let help = match nearest(first, krylov.clone()) {
                    Some(near) => format!("did you mean \"{near}+{second}\"?"),
                    None => format!("the Krylov methods are {}", list(krylov)),
                };
                (format!("there is no Krylov method \"{first}\""), help)
            } else if !known.clone().any(|k| k == second) {
                let help = match nearest(second, known.clone()) {
                    Some(near) => format!("did you mean \"{first}+{near}\"?"),
                    None => format!("the preconditioners are {}", list(known)),
                };
                (format!("there is no preconditioner \"{second}\""), help)
            } else {
                return true;
            }
        }
    };
    reader.error(node.place, "solver.method", message, Some(help));
    false
}

/// Whether a value is the word `auto`.
fn is_auto(entry: &Entry) -> bool {
    matches!(&entry.node.raw, Raw::String(word) if word == "auto")
}

/// Reads `[adapt]`.
pub(super) fn adapt(root: &Section) -> Option<Adapt> {
    let reader = root.reader;
    let entry = root.get("adapt")?;
    let section = reader.section("adapt", entry)?;
    let estimator = section.choice(
        "estimator",
        &[("kelly", Estimator::Kelly), ("recovery", Estimator::Recovery), ("goal", Estimator::Goal)],
    );
    let goal_entry = section.get("goal");
    let goal = goal_entry.and_then(|e| {
        let text = reader.string("adapt.goal", &e.node)?;
        Some(Name { text, place: e.node.place })
    });
    match (estimator, goal_entry) {
        (Estimator::Goal, None) => {
            let help = Some("name a probe or an integral: `goal = \"..\"`".into());
            let message = "the estimator \"goal\" needs `goal`";
            reader.error(section.place, "adapt.goal", message, help);
        }
        (Estimator::Kelly | Estimator::Recovery, Some(e)) => {
            let help = Some("add `estimator = \"goal\"`".into());
            let message = "`goal` is used by the estimator \"goal\" only";
            reader.error(e.place, "adapt.goal", message, help);
        }
        _ => {}
    }
    let mut marking = Marking::Dorfler(0.5);
    if section.get("marking").is_some_and(is_auto) {
        marking = Marking::Auto;
    } else if let Some(e) = section.get("marking")
        && let Some(inner) = reader.section("adapt.marking", e)
    {
        let part = Bound::UpTo(0.0, 1.0);
        let dorfler = inner.number("dorfler", part);
        let fraction = inner.number("fraction", part);
        if inner.get("dorfler").is_some() == inner.get("fraction").is_some() {
            let message = "`adapt.marking` should be \"auto\" or have one of `dorfler`, `fraction`";
            reader.error(e.node.place, "adapt.marking", message, None);
        }
        marking = dorfler.map(Marking::Dorfler).or(fraction.map(Marking::Fraction)).unwrap_or(marking);
        inner.finish();
    }
    let adapt = Adapt {
        estimator,
        goal,
        marking,
        max_dofs: section.integer("max_dofs", 1, u64::MAX),
        max_steps: section.integer("max_steps", 0, 10_000).unwrap_or(20) as usize,
        tolerance: section.number("tolerance", Bound::Positive),
        rebalance: section.choice(
            "rebalance",
            &[("steal", Rebalance::Steal), ("metis", Rebalance::Metis), ("none", Rebalance::None)],
        ),
        imbalance: section.number_or("imbalance", 1.05, Bound::AtLeast(1.0)),
        deterministic: section
            .get("deterministic")
            .and_then(|e| reader.boolean("adapt.deterministic", &e.node))
            .unwrap_or(false),
        place: section.place,
    };
    section.finish();
    Some(adapt)
}

/// Reads `[time]`.
pub(super) fn time(root: &Section) -> Option<Time> {
    let reader = root.reader;
    let entry = root.get("time")?;
    let section = reader.section("time", entry)?;
    let start = section.number_or("start", 0.0, Bound::Any);
    let end_entry = section.require("end", "the last time");
    let end = end_entry.and_then(|e| reader.number("time.end", &e.node, Bound::Any));
    if let (Some(e), Some(end)) = (end_entry, end)
        && end <= start
    {
        let message = format!("`time.end` must be after the start, {start}, not {end}");
        reader.error(e.node.place, "time.end", message, None);
    }
    let fixed = section.number("step", Bound::Positive);
    let adaptive = section.get("adaptive").and_then(|e| {
        let inner = reader.section("time.adaptive", e)?;
        let tolerance = inner.require("tolerance", "on the local error");
        let initial = inner.require("initial", "the first step");
        let number =
            |key: &str, e: &Entry| reader.number(&format!("time.adaptive.{key}"), &e.node, Bound::Positive);
        let tolerance = tolerance.and_then(|e| number("tolerance", e));
        let initial = initial.and_then(|e| number("initial", e));
        inner.finish();
        Some(Step::Adaptive { tolerance: tolerance?, initial: initial? })
    });
    match (section.get("step"), section.get("adaptive")) {
        (None, None) => {
            let message = "`[time]` lacks `step` or `adaptive`";
            let help = Some("write `step = ..` or `adaptive = { tolerance = .., initial = .. }`".into());
            reader.error(section.place, "time.step", message, help);
        }
        (Some(_), Some(e)) => {
            let message = "`[time]` has both `step` and `adaptive`";
            reader.error(e.place, "time.adaptive", message, Some("keep one of them".into()));
        }
        _ => {}
    }
    let scheme = section.choice(
        "scheme",
        &[
            ("bdf2", Scheme::Bdf2),
            ("backward-euler", Scheme::BackwardEuler),
            ("crank-nicolson", Scheme::CrankNicolson),
        ],
    );
    let place = section.place;
    section.finish();
    Some(Time { start, end: end?, step: fixed.map(Step::Fixed).or(adaptive)?, scheme, place })
}

/// Reads `[performance]`.
pub(super) fn performance(root: &Section) -> Performance {
    let reader = root.reader;
    let mut performance = Performance {
        level: Level::Auto,
        threads: None,
        jit: None,
        cache: None,
        autoscale: None,
        pool: None,
        memory_limit: None,
    };
    let section = root.get("performance").and_then(|e| reader.section("performance", e));
    let Some(section) = section else { return performance };
    performance.level = section.choice(
        "level",
        &[
            ("auto", Level::Auto),
            ("minimal", Level::Minimal),
            ("standard", Level::Standard),
            ("aggressive", Level::Aggressive),
        ],
    );
    if let Some(e) = section.get("threads").filter(|e| !is_auto(e)) {
        let threads = reader.integer("performance.threads", &e.node, 1, 4096);
        performance.threads = threads.map(|n| n as usize);
    }
    let switch = |key: &str| {
        let e = section.get(key).filter(|e| !is_auto(e))?;
        reader.boolean(&section.key(key), &e.node)
    };
    performance.jit = switch("jit");
    performance.cache = switch("cache");
    performance.autoscale = switch("autoscale");
    performance.pool = switch("pool");
    performance.memory_limit = section.get("memory_limit").and_then(|e| memory(reader, &e.node));
    section.finish();
    performance
}

/// Reads a size of memory: a number of bytes, or a text with a unit.
fn memory(reader: &Reader, node: &Node) -> Option<u64> {
    let key = "performance.memory_limit";
    let Raw::String(text) = &node.raw else { return reader.integer(key, node, 1, 1 << 62) };
    let bytes = cluster::place::parse_bytes(text);
    if bytes.is_none() {
        let message = format!("`{key}` should be a size above 0, not \"{text}\"");
        reader.error(
            node.place,
            key,
            message,
            Some("write \"2GiB\", \"1500MB\" or a number of bytes".into()),
        );
    }
    bytes
}

/// Reads `[case]`: title and output directory.
pub(super) fn case(root: &Section, directory: &Path) -> (Option<String>, Option<PathBuf>) {
    let reader = root.reader;
    let Some(section) = root.get("case").and_then(|e| reader.section("case", e)) else {
        return (None, None);
    };
    if let Some(entry) = section.get("format")
        && let Some(format) = reader.integer("case.format", &entry.node, 0, u64::MAX)
        && format != 1
    {
        let message = format!("`case.format` {format} is not known to this version");
        reader.error(entry.node.place, "case.format", message, Some("it reads format 1".into()));
    }
    let title = section.string("title");
    let output = section.string("output");
    if let (Some(""), Some(entry)) = (output.as_deref(), section.get("output")) {
        reader.error(entry.node.place, "case.output", "`case.output` is empty", None);
    }
    section.finish();
    (title, output.map(|o| directory.join(o)))
}
