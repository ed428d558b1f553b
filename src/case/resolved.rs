//! Writes a case back as TOML, every default filled in; what it writes is a valid case again.
//!
//! May import: `model`, `schema`, `walker` (quoting). Paths are written absolute, since the result
//! lies in the run's directory; parameters are written as the numbers they came to.

use std::fmt::Write;
use std::path::Path;

use super::model::*;
use super::walker::{quote, quote_key};
use crate::law::expr::{Expr, format_number};

impl Case {
    /// The case as TOML with every default filled in.
    ///
    /// Reading it gives the same case: `femdd check` prints it, `case.resolved.toml` keeps it.
    pub fn resolved(&self) -> String {
        self.write(None)
    }

    /// The same when the mesh has been read: what depends on its dimension is filled in too.
    pub fn resolved_in(&self, dimension: usize) -> String {
        self.write(Some(dimension))
    }

    fn write(&self, dimension: Option<usize>) -> String {
        let mut out = Writer::default();
        self.write_problem(&mut out, dimension);
        self.write_boundaries(&mut out);
        self.write_numerics(&mut out);
        self.write_results(&mut out);
        out.text
    }

    fn write_problem(&self, out: &mut Writer, dimension: Option<usize>) {
        let plane = self.may_be_plane(dimension);
        out.heading("[case]");
        out.line("format", "1");
        if let Some(title) = &self.title {
            out.line("title", &quote(title));
        }
        out.line("output", &path(&self.output_dir));
        if !self.parameters.is_empty() {
            out.heading("[parameters]");
            for (name, value) in &self.parameters {
                out.line(name, &number(*value));
            }
        }
        out.heading("[mesh]");
        match &self.mesh.source {
            MeshSource::File(file) => out.line("file", &path(file)),
            MeshSource::Box(mesh) => {
                let cells: Vec<String> = mesh.cells.iter().map(usize::to_string).collect();
                let value = format!(
                    "{{ size = {}, cells = [{}], shape = {}, origin = {} }}",
                    numbers(&mesh.size),
                    cells.join(", "),
                    quote(mesh.shape.name()),
                    numbers(&mesh.origin)
                );
                out.line("box", &value);
            }
        }
        out.line("scale", &number(self.mesh.scale));
        out.line("refine", &self.mesh.refine.to_string());
        out.heading("[space]");
        out.line("degree", &self.degree.to_string());
        out.heading("[physics]");
        let law = self.physics.law;
        out.line("law", &quote(law.name()));
        if law.is_vector() && plane {
            out.line("plane", word(PLANES, self.physics.plane));
        }
        for c in &self.physics.coefficients {
            // Outside the plane a thickness has no meaning, and giving it is an error.
            if c.name != "thickness" || plane {
                out.line(c.name, &coefficient(&c.value));
            }
        }
        for region in &self.regions {
            out.heading(&format!("[region.{}]", quote_key(&region.heading)));
            out.line("on", &names(&region.on));
            for c in &region.coefficients {
                out.line(c.name, &coefficient(&c.value));
            }
        }
    }

    /// False if the mesh is known not to be plane; as long as it is not read, what the case says.
    fn may_be_plane(&self, dimension: Option<usize>) -> bool {
        let dimension = match &self.mesh.source {
            MeshSource::Box(mesh) => Some(mesh.size.len()),
            MeshSource::File(_) => dimension,
        };
        let thickness = self.physics.coefficient("thickness");
        let said = self.physics.plane_place != Place::Default
            || thickness.is_some_and(|c| c.place != Place::Default);
        dimension.map_or(said, |d| d == 2)
    }

    fn write_boundaries(&self, out: &mut Writer) {
        for boundary in &self.boundaries {
            out.heading(&format!("[boundary.{}]", quote_key(&boundary.heading)));
            match &boundary.at {
                Some(at) => out.line("at", &numbers(at)),
                None => out.line("on", &names(&boundary.on)),
            }
            for condition in &boundary.conditions {
                let (key, value) = match &condition.kind {
                    ConditionValue::Essential(value) => (self.physics.law.field(), self.essential(value)),
                    ConditionValue::Inflow(e) => ("inflow", expr(e)),
                    ConditionValue::Pressure(e) => ("pressure", expr(e)),
                    ConditionValue::Traction(v) => ("traction", exprs(v)),
                    ConditionValue::Force(v) => ("force", exprs(v)),
                    ConditionValue::Robin { coefficient, ambient } => (
                        "robin",
                        format!("{{ coefficient = {}, ambient = {} }}", expr(coefficient), expr(ambient)),
                    ),
                    ConditionValue::Periodic { with } => {
                        ("periodic", format!("{{ with = {} }}", quote(&with.text)))
                    }
                };
                out.line(key, &value);
            }
        }
    }

    fn essential(&self, value: &Essential) -> String {
        let components = match value {
            Essential::Normal(e) => return format!("{{ n = {} }}", expr(e)),
            Essential::Components(components) => components,
        };
        let all: Vec<&Expr> = components.iter().flatten().collect();
        if all.len() < components.len() {
            let named = components.iter().zip(["x", "y", "z"]);
            let some = named.filter_map(|(c, name)| Some(format!("{name} = {}", expr(c.as_ref()?))));
            return format!("{{ {} }}", some.collect::<Vec<_>>().join(", "));
        }
        field_value(self.physics.law.is_vector(), all)
    }

    fn write_numerics(&self, out: &mut Writer) {
        out.heading("[solver]");
        let solver = &self.solver;
        out.line("method", &quote(&solver.method));
        out.line("tolerance", &number(solver.tolerance));
        out.line("max_iterations", &solver.max_iterations.to_string());
        out.line("backend", word(BACKENDS, solver.backend));
        if !solver.petsc.is_empty() {
            out.line("petsc", &quote(&solver.petsc));
        }
        for option in &solver.options {
            let whole = option.value.fract() == 0.0;
            let value = if whole { format!("{}", option.value) } else { number(option.value) };
            out.line(option.name, &value);
        }
        if let Some(adapt) = &self.adapt {
            write_adapt(adapt, out);
        }
        if let Some(time) = &self.time {
            out.heading("[time]");
            out.line("start", &number(time.start));
            out.line("end", &number(time.end));
            match time.step {
                Step::Fixed(step) => out.line("step", &number(step)),
                Step::Adaptive { tolerance, initial } => out.line(
                    "adaptive",
                    &format!("{{ tolerance = {}, initial = {} }}", number(tolerance), number(initial)),
                ),
            }
            out.line("scheme", word(SCHEMES, time.scheme));
        }
        if let Some(initial) = &self.initial {
            out.heading("[initial]");
            match initial {
                Initial::Value(components, _) => out.line("value", &self.components(components)),
                Initial::File(file, _) => out.line("file", &path(file)),
            }
        }
        if let Some(exact) = &self.exact {
            out.heading("[exact]");
            out.line("value", &self.components(&exact.components));
        }
        out.heading("[performance]");
        let p = &self.performance;
        out.line("level", word(LEVELS, p.level));
        let auto = || "\"auto\"".to_string();
        out.line("threads", &p.threads.map_or_else(auto, |n| n.to_string()));
        for (key, switch) in
            [("jit", p.jit), ("cache", p.cache), ("autoscale", p.autoscale), ("pool", p.pool)]
        {
            out.line(key, &switch.map_or_else(auto, |on| on.to_string()));
        }
        if let Some(bytes) = p.memory_limit {
            out.line("memory_limit", &bytes.to_string());
        }
    }

    fn components(&self, components: &[Expr]) -> String {
        // One entry in a vector field is the zero vector of whatever dimension.
        let vector = self.physics.law.is_vector()
            && (components.len() > 1 || components[0].as_constant() != Some(0.0));
        field_value(vector, components.iter().collect())
    }

    fn write_results(&self, out: &mut Writer) {
        for probe in &self.probes {
            out.heading("[[probe]]");
            out.line("name", &quote(&probe.name));
            out.line("at", &numbers(&probe.at));
            out.line("field", &quote(&probe.field.name()));
        }
        for integral in &self.integrals {
            out.heading("[[integral]]");
            out.line("name", &quote(&integral.name));
            if let Some(over) = &integral.over {
                out.line("over", &quote(&over.text));
            }
            out.line("of", &quote(&integral.of.name()));
        }
        out.heading("[output]");
        let fields: Vec<String> = self.output.fields.iter().map(|f| quote(&f.name())).collect();
        out.line("fields", &format!("[{}]", fields.join(", ")));
        out.line("every", &self.output.every.to_string());
        if let Some(checkpoint) = &self.output.checkpoint {
            let every = match checkpoint.every {
                Interval::Steps(n) => n.to_string(),
                Interval::Seconds(s) => quote(&format!("{s}s")),
            };
            out.line("checkpoint", &format!("{{ every = {every}, keep = {} }}", checkpoint.keep));
        }
    }
}

fn write_adapt(adapt: &Adapt, out: &mut Writer) {
    out.heading("[adapt]");
    out.line("estimator", word(ESTIMATORS, adapt.estimator));
    if let Some(goal) = &adapt.goal {
        out.line("goal", &quote(&goal.text));
    }
    let marking = match adapt.marking {
        Marking::Auto => quote("auto"),
        Marking::Dorfler(part) => format!("{{ dorfler = {} }}", number(part)),
        Marking::Fraction(part) => format!("{{ fraction = {} }}", number(part)),
    };
    out.line("marking", &marking);
    if let Some(n) = adapt.max_dofs {
        out.line("max_dofs", &n.to_string());
    }
    out.line("max_steps", &adapt.max_steps.to_string());
    if let Some(tolerance) = adapt.tolerance {
        out.line("tolerance", &number(tolerance));
    }
    out.line("rebalance", word(REBALANCES, adapt.rebalance));
    out.line("imbalance", &number(adapt.imbalance));
    out.line("deterministic", &adapt.deterministic.to_string());
}

/// Lines of TOML, one blank line before each heading.
#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn heading(&mut self, heading: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(heading);
        self.text.push('\n');
    }

    fn line(&mut self, key: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{} = {value}", quote_key(key));
    }
}

/// A TOML float that reads back as the same number.
fn number(c: f64) -> String {
    let text = format_number(c);
    if text.contains(['.', 'e']) { text } else { text + ".0" }
}

fn numbers(values: &[f64]) -> String {
    format!("[{}]", values.iter().map(|v| number(*v)).collect::<Vec<_>>().join(", "))
}

fn expr(e: &Expr) -> String {
    e.as_constant().map_or_else(|| quote(e.text()), number)
}

fn exprs(values: &[Expr]) -> String {
    format!("[{}]", values.iter().map(expr).collect::<Vec<_>>().join(", "))
}

fn field_value(is_vector: bool, components: Vec<&Expr>) -> String {
    let all: Vec<String> = components.into_iter().map(expr).collect();
    if is_vector { format!("[{}]", all.join(", ")) } else { all.join(", ") }
}

fn coefficient(value: &Value) -> String {
    match value {
        Value::Scalar(e) => expr(e),
        Value::Vector(v) => exprs(v),
        Value::Tensor(rows) => {
            format!("[{}]", rows.iter().map(|row| exprs(row)).collect::<Vec<_>>().join(", "))
        }
    }
}

fn names(names: &[Name]) -> String {
    format!("[{}]", names.iter().map(|n| quote(&n.text)).collect::<Vec<_>>().join(", "))
}

fn path(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    quote(&absolute.to_string_lossy())
}

/// The quoted word of a choice.
fn word<T: PartialEq + Copy>(words: &[(T, &'static str)], value: T) -> &'static str {
    words.iter().find(|(v, _)| *v == value).map_or("\"\"", |(_, w)| w)
}

const PLANES: &[(Plane, &str)] = &[(Plane::Strain, "\"strain\""), (Plane::Stress, "\"stress\"")];
const BACKENDS: &[(Backend, &str)] =
    &[(Backend::Auto, "\"auto\""), (Backend::Cpu, "\"cpu\""), (Backend::Gpu, "\"gpu\"")];
const ESTIMATORS: &[(Estimator, &str)] =
    &[(Estimator::Kelly, "\"kelly\""), (Estimator::Recovery, "\"recovery\""), (Estimator::Goal, "\"goal\"")];
const REBALANCES: &[(Rebalance, &str)] =
    &[(Rebalance::Steal, "\"steal\""), (Rebalance::Metis, "\"metis\""), (Rebalance::None, "\"none\"")];
const SCHEMES: &[(Scheme, &str)] = &[
    (Scheme::BackwardEuler, "\"backward-euler\""),
    (Scheme::CrankNicolson, "\"crank-nicolson\""),
    (Scheme::Bdf2, "\"bdf2\""),
];
const LEVELS: &[(Level, &str)] = &[
    (Level::Auto, "\"auto\""),
    (Level::Minimal, "\"minimal\""),
    (Level::Standard, "\"standard\""),
    (Level::Aggressive, "\"aggressive\""),
];
