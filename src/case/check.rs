//! Checks that need several parts of the case: dimensions, names of a box, solver against law.
//!
//! May import: `model`, `schema`, `walker`. All work on the finished [`Case`], so that the ones that
//! need the mesh can run later, when its dimension is known.

use super::error::CaseError;
use super::model::*;
use super::parse_physics::box_help;
use super::schema::{Form, KRYLOV, Law, PRECONDITIONERS, Standard};
use super::walker::{locate, quote_key};

/// Complaints of one check.
pub(super) struct Complaints<'a> {
    case: &'a Case,
    pub(super) errors: Vec<CaseError>,
}

impl<'a> Complaints<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        Self { case, errors: Vec::new() }
    }

    fn add(&mut self, place: Place, key: &str, message: String, help: Option<String>) {
        let at = (self.case.file.as_path(), self.case.text.as_str(), self.case.sets.as_slice());
        self.errors.push(locate(at, place, Some(key.into()), message, help));
    }

    /// Everything that can be checked before the mesh is read; `clean` if nothing is wrong so far,
    /// so that what is absent was never given.
    pub(super) fn before_mesh(&mut self, clean: bool) {
        self.required_coefficients();
        if clean {
            self.thermal();
        }
        self.method();
        self.periodic_sides();
        if let MeshSource::Box(mesh) = &self.case.mesh.source {
            self.dimension(mesh.size.len());
            self.box_names(mesh);
        }
    }

    /// Required coefficients may be left to the regions, if there are any.
    fn required_coefficients(&mut self) {
        let physics = &self.case.physics;
        for schema in physics.law.schema().coefficients {
            let given = physics.coefficient(schema.name).is_some();
            if given || schema.standard != Standard::Required {
                continue;
            }
            let somewhere =
                self.case.regions.iter().any(|r| r.coefficients.iter().any(|c| c.name == schema.name));
            if !somewhere {
                let key = format!("physics.{}", schema.name);
                let message =
                    format!("law `{}` needs `{}` ({})", physics.law.name(), schema.name, schema.meaning);
                let help = Some("give it under `[physics]`, or in every region".into());
                self.add(physics.place, &key, message, help);
            }
        }
    }

    /// What a periodic condition names is inside the body, under whichever heading it stands. Groups of other
    /// names may have the same facets: the mesh tells.
    fn periodic_sides(&mut self) {
        let case = self.case;
        for (boundary, condition) in
            case.boundaries.iter().flat_map(|b| b.conditions.iter().map(move |c| (b, c)))
        {
            if matches!(condition.kind, ConditionValue::Periodic { .. }) {
                continue;
            }
            let joins = |other: &&Boundary| {
                other.heading != boundary.heading
                    && other.conditions.iter().any(|c| match &c.kind {
                        ConditionValue::Periodic { with } => {
                            let mut sides = other.on.iter().chain([with]);
                            sides.any(|side| boundary.on.iter().any(|name| name.text == side.text))
                        }
                        _ => false,
                    })
            };
            if let Some(other) = case.boundaries.iter().find(joins) {
                let (message, help) = condition.on_periodic_side(&boundary.heading, &other.heading);
                self.add(condition.place, &condition.key, message, Some(help));
            }
        }
    }

    /// Expansion without a temperature would do nothing, silently.
    fn thermal(&mut self) {
        let case = self.case;
        let all = case.physics.coefficients.iter().chain(case.regions.iter().flat_map(|r| &r.coefficients));
        let mut expansion = None;
        let mut has_temperature = false;
        for c in all.filter(|c| c.place != Place::Default) {
            has_temperature |= c.name == "temperature";
            let zero = matches!(&c.value, Value::Scalar(e) if e.as_constant() == Some(0.0));
            if c.name == "thermal_expansion" && !zero {
                expansion = Some(c);
            }
        }
        if let (Some(c), false) = (expansion, has_temperature) {
            let message = "`thermal_expansion` has no effect without `temperature`".to_string();
            self.add(c.place, &c.key, message, Some("give `temperature` under `[physics]`".into()));
        }
    }

    /// CG and MINRES need a symmetric matrix and a symmetric preconditioner.
    fn method(&mut self) {
        let case = self.case;
        let solver = &case.solver;
        let Some((krylov, preconditioner)) = solver.method.split_once('+') else {
            if solver.method == "feti-dp" && !case.is_symmetric() {
                let message = "feti-dp needs a symmetric problem, this one is not".to_string();
                let help = Some("use \"gmres+ras\", or \"auto\"".into());
                self.add(solver.method_place, "solver.method", message, help);
            }
            return;
        };
        if !KRYLOV.iter().any(|(n, symmetric)| *n == krylov && *symmetric) {
            return;
        }
        let message = if !case.is_symmetric() {
            format!(
                "{krylov} needs a symmetric problem, and this one (law `{}`) is not",
                case.physics.law.name()
            )
        } else if PRECONDITIONERS.iter().any(|(n, symmetric)| *n == preconditioner && !symmetric) {
            format!("{krylov} needs a symmetric preconditioner, and {preconditioner} is not")
        } else {
            return;
        };
        let help = Some(format!("use \"gmres+{preconditioner}\", or \"auto\""));
        self.add(solver.method_place, "solver.method", message, help);
    }

    /// Everything that depends on the dimension of the mesh.
    pub(super) fn dimension(&mut self, dimension: usize) {
        let case = self.case;
        let regional = case.regions.iter().flat_map(|r| &r.coefficients);
        for c in case.physics.coefficients.iter().chain(regional) {
            let len = match &c.value {
                Value::Scalar(_) => dimension,
                Value::Vector(v) => v.len(),
                Value::Tensor(rows) => rows.len(),
            };
            if len != dimension {
                let what = match (&c.value, c.form) {
                    (Value::Tensor(_), _) => format!("{len} rows"),
                    (_, Form::Tensor) => format!("{len} diagonal entries"),
                    _ => format!("{len} components"),
                };
                self.mismatch(c.place, &c.key, &what, dimension);
            }
        }
        if case.physics.law == Law::Elasticity && dimension != 2 {
            let given = case.physics.coefficient("thickness").filter(|c| c.place != Place::Default);
            let plane = (case.physics.plane_place, "plane", "physics.plane".to_string());
            let thickness = given.map(|c| (c.place, "thickness", c.key.clone()));
            for (place, name, key) in [Some(plane), thickness].into_iter().flatten() {
                if place != Place::Default {
                    let message = format!("`{name}` belongs to plane problems, and the mesh is {dimension}D");
                    self.add(place, &key, message, None);
                }
            }
            self.plane_stress_ratio();
        }
        for boundary in &case.boundaries {
            if let Some(at) = &boundary.at {
                let key = format!("boundary.{}.at", boundary.heading);
                self.length(boundary.place, &key, at.len(), dimension, "coordinates");
            }
            for c in &boundary.conditions {
                self.condition(c, dimension);
            }
        }
        if let Some(exact) = &case.exact {
            self.field_value(exact.place, &exact.key, &exact.components, dimension);
        }
        if let Some(Initial::Value(components, place)) = &case.initial {
            self.field_value(*place, "initial.value", components, dimension);
        }
        for (i, probe) in case.probes.iter().enumerate() {
            let key = format!("probe.{i}");
            self.length(probe.place, &format!("{key}.at"), probe.at.len(), dimension, "coordinates");
            self.axis(probe.place, &format!("{key}.field"), &probe.field, dimension);
        }
        for (i, integral) in case.integrals.iter().enumerate() {
            self.axis(integral.place, &format!("integral.{i}.of"), &integral.of, dimension);
        }
        for field in &case.output.fields {
            self.axis(Place::Default, "output.fields", field, dimension);
        }
    }

    /// A ratio of 0.5 was accepted for plane stress; there is none here.
    fn plane_stress_ratio(&mut self) {
        let case = self.case;
        let regional = case.regions.iter().flat_map(|r| &r.coefficients);
        for c in case.physics.coefficients.iter().chain(regional) {
            let half = matches!(&c.value, Value::Scalar(e) if e.as_constant() == Some(0.5));
            if c.name == "poisson_ratio" && half {
                let message = format!("`{}` must be below 0.5", c.key);
                self.add(c.place, &c.key, message, None);
            }
        }
    }

    fn condition(&mut self, c: &Condition, dimension: usize) {
        match &c.kind {
            ConditionValue::Traction(v) | ConditionValue::Force(v) => {
                self.length(c.place, &c.key, v.len(), dimension, "components");
            }
            ConditionValue::Essential(Essential::Components(v)) if self.case.physics.law.is_vector() => {
                // Given by names there are three entries, some of them empty.
                if v.iter().all(Option::is_some) {
                    self.length(c.place, &c.key, v.len(), dimension, "components");
                    return;
                }
                for (axis, name) in ["x", "y", "z"].iter().enumerate().skip(dimension) {
                    if v[axis].is_some() {
                        self.mismatch(c.place, &c.key, &format!("a component `{name}`"), dimension);
                    }
                }
            }
            _ => {}
        }
    }

    fn field_value(
        &mut self,
        place: Place,
        key: &str,
        components: &[crate::law::expr::Expr],
        dimension: usize,
    ) {
        let zero = components.len() == 1 && components[0].as_constant() == Some(0.0);
        if self.case.physics.law.is_vector() && !zero {
            self.length(place, key, components.len(), dimension, "components");
        }
    }

    fn axis(&mut self, place: Place, key: &str, field: &super::FieldRef, dimension: usize) {
        if field.largest_axis().is_some_and(|axis| axis >= dimension) {
            let message = format!("`{}` does not exist on a mesh of dimension {dimension}", field.name());
            self.add(place, key, message, None);
        }
    }

    fn length(&mut self, place: Place, key: &str, len: usize, dimension: usize, what: &str) {
        if len != dimension {
            self.mismatch(place, key, &format!("{len} {what}"), dimension);
        }
    }

    fn mismatch(&mut self, place: Place, key: &str, what: &str, dimension: usize) {
        let message = format!("`{key}` has {what}, and the mesh is {dimension}D");
        self.add(place, key, message, None);
    }

    /// A box has its sides and the region "box", nothing else.
    fn box_names(&mut self, mesh: &BoxMesh) {
        let case = self.case;
        let sides = mesh.sides();
        for region in &case.regions {
            for name in region.on.iter().filter(|n| n.text != "box") {
                let key = format!("region.{}", region.heading);
                let message = format!("a generated box has no region \"{}\"", name.text);
                self.add(name.place, &key, message, Some("its one region is \"box\"".into()));
            }
        }
        for boundary in &case.boundaries {
            let key = format!("boundary.{}", boundary.heading);
            let with = boundary.conditions.iter().filter_map(|c| match &c.kind {
                ConditionValue::Periodic { with } => Some(with),
                _ => None,
            });
            for name in boundary.on.iter().chain(with.clone()) {
                if !sides.contains(&name.text.as_str()) {
                    let message =
                        format!("a generated {}D box has no side \"{}\"", mesh.size.len(), name.text);
                    self.add(name.place, &key, message, box_help(&name.text, sides));
                }
            }
            for (with, on) in with.flat_map(|w| boundary.on.iter().map(move |on| (w, on))) {
                self.box_period(mesh, &format!("{key}.periodic"), with, on);
            }
        }
        let headings: Vec<&str> = case.boundaries.iter().map(|b| b.heading.as_str()).collect();
        for (i, integral) in case.integrals.iter().enumerate() {
            let Some(over) = &integral.over else { continue };
            let name = over.text.as_str();
            let known = name == "box"
                || sides.contains(&name)
                || headings.contains(&name)
                || case.regions.iter().any(|r| r.heading == name);
            if !known {
                let message = format!("there is no region or boundary \"{name}\"");
                let mut all = vec!["box"];
                all.extend(sides);
                all.extend(&headings);
                self.add(over.place, &format!("integral.{i}.over"), message, box_help(name, &all));
            }
        }
    }

    fn box_period(&mut self, mesh: &BoxMesh, key: &str, with: &Name, on: &Name) {
        let sides = mesh.sides();
        let index = |n: &Name| sides.iter().position(|s| *s == n.text);
        let (Some(a), Some(b)) = (index(on), index(with)) else { return };
        if a / 2 != b / 2 || a == b {
            let message = format!("\"{}\" cannot be periodic with \"{}\"", on.text, with.text);
            let help = Some(format!("the opposite side is \"{}\"", sides[a ^ 1]));
            self.add(with.place, key, message, help);
        } else if mesh.cells[a / 2] < 3 {
            let message = format!("a period needs 3 cells across, the box has {}", mesh.cells[a / 2]);
            let help = Some(format!("raise entry {} of `mesh.box.cells`", a / 2 + 1));
            self.add(with.place, key, message, help);
        }
    }
}

impl Condition {
    /// The refusal of a condition on what another heading makes periodic, and what to do.
    pub fn on_periodic_side(&self, heading: &str, periodic: &str) -> (String, String) {
        let name = self.key.rsplit('.').next().unwrap_or(&self.key);
        let message = format!(
            "`{name}` of `[boundary.{}]` is on facets that `[boundary.{}]` makes periodic: they are inside the body",
            quote_key(heading),
            quote_key(periodic)
        );
        let help = match &self.kind {
            ConditionValue::Essential(_) => {
                "a periodic side takes no other condition: remove one of the two, or give the value at a vertex (`at`)"
            }
            _ => "a periodic side takes no other condition: remove one of the two",
        };
        (message, help.to_owned())
    }
}

impl Case {
    /// True if the law with its coefficients gives a symmetric problem.
    pub fn is_symmetric(&self) -> bool {
        let regional = self.regions.iter().flat_map(|r| &r.coefficients);
        self.physics.coefficients.iter().chain(regional).all(|c| {
            let zero = c.value.exprs().iter().all(|e| e.as_constant() == Some(0.0));
            c.value.is_symmetric() && (c.name != "velocity" || zero)
        })
    }
}
