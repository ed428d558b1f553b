//! The case file: what a person writes, checked and with every default filled in.
//!
//! What lives here: `walker` gives access to TOML with places, `set` puts `--set` in; `schema` is the one table
//! of laws and methods; `field` the names of what can be reported; `parse_*` read the sections into
//! the plain data of `model`; `check` has what needs several sections or the mesh's dimension;
//! `resolved` writes a case back; `error` points into the file.
//! May import: `law::expr`. Start at [`Case::load`].

mod check;
mod error;
mod field;
mod model;
mod parse_numerics;
mod parse_physics;
mod parse_results;
mod resolved;
mod schema;
mod set;
mod walker;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use check::Complaints;
use walker::{Reader, Section};

pub use crate::law::expr::nearest;
pub use error::{CaseError, CaseErrors};
pub use field::{FieldRef, Part, Quantity};
pub use model::*;
pub use parse_results::seconds;
pub use schema::{
    Bound, CoefficientSchema, ConditionKind, Form, KRYLOV, LAWS, Law, LawSchema, METHOD_KEYS, MethodKey,
    PRECONDITIONERS, Standard, WHOLE_METHODS,
};
pub use walker::quote_key;

impl Case {
    /// Reads a case file, and checks that the files it names exist.
    ///
    /// `sets` are the `key.path=value` arguments of `--set`, put in before anything is checked.
    ///
    /// # Errors
    /// Everything found wrong, in the order of the file. See also [`Case::parse`].
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, CaseErrors> {
        let fail = |message: String, text: String| {
            let file = path.to_path_buf();
            let error =
                CaseError { message, key: None, file, line: None, span: None, help: None, flag: None };
            CaseErrors { errors: vec![error], text }
        };
        let bytes = std::fs::read(path)
            .map_err(|e| fail(format!("the case file cannot be read: {e}"), String::new()))?;
        let text = String::from_utf8(bytes)
            .map_err(|e| fail(format!("the case file is not UTF-8: {e}"), String::new()))?;
        let case = Self::parse(path, &text, sets)?;
        let mut errors = Vec::new();
        if let MeshSource::File(file) = &case.mesh.source {
            errors.extend(case.missing_file(file, case.mesh.place, "mesh.file"));
        }
        if let Some(Initial::File(file, place)) = &case.initial {
            errors.extend(case.missing_file(file, *place, "initial.file"));
        }
        if errors.is_empty() { Ok(case) } else { Err(CaseErrors { errors, text }) }
    }

    /// The output directory of a case that may have errors: what its text says where that can be read, else the default.
    pub fn output_of(path: &Path, text: &str, sets: &[String]) -> PathBuf {
        let reader = Reader::new(path.to_path_buf(), text.to_string(), sets.to_vec());
        let tree = reader.tree();
        let directory = path.parent().unwrap_or(Path::new(""));
        let (_, output) = parse_numerics::case(&Section::root(&reader, &tree), directory);
        output.unwrap_or_else(|| Self::default_output(path))
    }

    fn default_output(path: &Path) -> PathBuf {
        path.parent().unwrap_or(Path::new("")).join(format!("{}.out", Self::name_of(path)))
    }

    /// The name of a case in this file.
    pub fn name_of(path: &Path) -> String {
        path.file_stem().map_or("case".into(), |s| s.to_string_lossy().into_owned())
    }

    /// Reads the text of a case; `path` gives its name and is what relative paths are relative to.
    ///
    /// Touches no file.
    ///
    /// # Errors
    /// Everything found wrong, in the order of the file: text that is not TOML, keys that do not
    /// exist or are missing, values of the wrong kind or out of bounds, expressions that do not
    /// parse, names a generated box does not have, keys that contradict each other.
    pub fn parse(path: &Path, text: &str, sets: &[String]) -> Result<Self, CaseErrors> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut reader = Reader::new(path.to_path_buf(), text.to_string(), sets.to_vec());
        let tree = reader.tree();
        if reader.n_errors() > 0 {
            // What follows a syntax error would be complaints about what it hides.
            return Err(reader.into_errors());
        }
        parse_physics::parameters(&mut reader, &tree);
        let root = Section::root(&reader, &tree);
        root.get("parameters");
        let (title, output_dir) = parse_numerics::case(&root, directory);
        let mesh = parse_numerics::mesh(&root, directory);
        let physics = parse_physics::physics(&root);
        let law = physics.as_ref().map(|p| p.law);
        let degree = parse_numerics::degree(&root, law);
        let solver = parse_numerics::solver(&root);
        let adapt = parse_numerics::adapt(&root);
        let time = parse_numerics::time(&root);
        let performance = parse_numerics::performance(&root);
        root.reserved("nonlinear");
        root.reserved("eigen");
        let law_keys = ["region", "boundary", "initial", "exact", "probe", "integral", "output"];
        for key in law_keys {
            root.get(key);
        }
        let mut case = None;
        if let Some(physics) = physics {
            let law = physics.law;
            let adapts = adapt.is_some();
            let mut names = Vec::new();
            let regions = parse_physics::regions(&root, law, physics.plane);
            let boundaries = parse_physics::boundaries(&root, law);
            let initial = parse_results::initial(&root, law, directory);
            let exact = parse_results::exact(&root, law);
            let probes = parse_results::probes(&root, law, adapts, &mut names);
            let integrals = parse_results::integrals(&root, law, adapts, &mut names);
            let output = parse_results::output(&root, law, adapts);
            if let Some(adapt) = &adapt {
                parse_results::check_goal(&reader, adapt, &names);
            }
            let parameters = reader.scope.parameters.clone();
            let output_dir = output_dir.unwrap_or_else(|| Self::default_output(path));
            case = mesh.map(|mesh| Self {
                name: Self::name_of(path),
                file: path.to_path_buf(),
                text: text.to_string(),
                sets: sets.to_vec(),
                title,
                output_dir,
                parameters,
                mesh,
                degree,
                physics,
                regions,
                boundaries,
                solver,
                adapt,
                time,
                initial,
                exact,
                probes,
                integrals,
                performance,
                output,
            });
        }
        root.finish();
        if let Some(case) = &case {
            let mut complaints = Complaints::new(case);
            complaints.before_mesh(reader.n_errors() == 0);
            reader.extend(complaints.errors);
        }
        match case {
            Some(case) if reader.n_errors() == 0 => Ok(case),
            _ => Err(reader.into_errors()),
        }
    }

    /// Checks what depends on the dimension of the mesh; for a box it was done on reading.
    ///
    /// # Errors
    /// Every vector, point, tensor and component that does not fit.
    pub fn check_dimension(&self, dimension: usize) -> Result<(), CaseErrors> {
        let mut complaints = Complaints::new(self);
        complaints.dimension(dimension);
        self.all(complaints.errors)
    }

    /// An error at a place of the file, for what shows only later: a name that is not in the mesh,
    /// a NaN at a quadrature point. Without a place, it is where the key stands, or the table it would stand in.
    pub fn error(
        &self,
        place: Place,
        key: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> CaseError {
        let at = (self.file.as_path(), self.text.as_str(), self.sets.as_slice());
        let place = if place == Place::Default { self.place_of(key) } else { place };
        walker::locate(at, place, Some(key.into()), message.into(), help)
    }

    fn place_of(&self, key: &str) -> Place {
        let reader = Reader::new(self.file.clone(), self.text.clone(), self.sets.clone());
        reader.tree().place_of(key)
    }

    /// `Ok` without errors, else all of them with the text they point into.
    ///
    /// # Errors
    /// The given ones.
    pub fn all(&self, errors: Vec<CaseError>) -> Result<(), CaseErrors> {
        if errors.is_empty() { Ok(()) } else { Err(CaseErrors { errors, text: self.text.clone() }) }
    }

    fn missing_file(&self, file: &Path, place: Place, key: &str) -> Option<CaseError> {
        if file.is_file() {
            return None;
        }
        let what = if file.exists() { "is not a file" } else { "does not exist" };
        let message = format!("`{key}`: {} {what}", file.display());
        Some(self.error(place, key, message, similar_file(file)))
    }
}

/// A file beside `file` with a similar name.
fn similar_file(file: &Path) -> Option<String> {
    let wanted = file.file_name()?.to_string_lossy().into_owned();
    let directory = match file.parent() {
        Some(p) if p != Path::new("") => p.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    nearest(&wanted, names.iter().map(String::as_str)).map(|near| format!("there is `{near}`"))
}
