//! Why a run ended without a solution, and the exit code that says so.

use serde::{Deserialize, Serialize};

use crate::adapt::rebalance::AdaptError;
use crate::assembly::AssemblyError;
use crate::case::{Case, CaseError, CaseErrors, MeshSource};
use crate::mesh::MeshError;
use crate::mesh::gmsh::{GmshError, Place};
use crate::output::OutputError;
use crate::output::run_json::ErrorReport;

/// Kinds of failure; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The case, the mesh or the command line is wrong: 2.
    Input,
    /// The solver did not reach the tolerance: 1.
    NotConverged,
    /// The machine lacks something: 3.
    Environment,
    /// A signal or a time limit ended the run; a checkpoint was written: 4.
    Stopped,
    /// A fault of femdd itself: 101.
    Bug,
}

impl Kind {
    /// The exit code of the process.
    pub fn exit_code(self) -> i32 {
        match self {
            Kind::Input => 2,
            Kind::NotConverged => 1,
            Kind::Environment => 3,
            Kind::Stopped => 4,
            Kind::Bug => 101,
        }
    }
}

/// A failure, the same on every rank once agreed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunError {
    /// Its kind.
    pub kind: Kind,
    /// A short name of what failed: `case`, `mesh`, `boundary`, `disk-full`, ...
    pub what: Box<str>,
    /// What was wrong, where, and what to do.
    pub message: String,
    /// The same with the lines of the case file it points into, where it does.
    pub rendered: Option<Box<str>>,
    /// The key of the case.
    pub key: Option<String>,
    /// The file to blame.
    pub file: Option<Box<str>>,
    /// The line in it.
    pub line: Option<usize>,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}

impl RunError {
    /// A failure without a place in a file.
    pub fn new(kind: Kind, what: &str, message: impl Into<String>) -> RunError {
        RunError {
            kind,
            what: what.into(),
            message: message.into(),
            rendered: None,
            key: None,
            file: None,
            line: None,
        }
    }

    /// As run.json has it.
    pub fn report(&self) -> ErrorReport {
        ErrorReport {
            kind: self.what.to_string(),
            message: self.message.clone(),
            key: self.key.clone(),
            file: self.file.as_deref().map(str::to_string),
            line: self.line,
        }
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        match &self.rendered {
            Some(text) => text.to_string(),
            None if self.kind == Kind::Stopped => format!("{}\n", self.message),
            None => format!("error: {}\n", self.message),
        }
    }

    /// From an error at a place of the case, with the text it points into.
    pub fn at(error: CaseError, text: &str) -> RunError {
        CaseErrors { errors: vec![error], text: text.to_string() }.into()
    }

    /// An error of the mesh blames the case's mesh, if it blames nothing yet; others stay as they are.
    pub fn in_mesh(mut self, case: &Case) -> RunError {
        if &*self.what != "mesh" || self.key.is_some() {
            return self;
        }
        match &case.mesh.source {
            MeshSource::File(path) => {
                let path = path.display().to_string();
                if !self.message.starts_with(&path) {
                    self.message = format!("{path}: {}", self.message);
                }
                RunError { key: Some("mesh.file".into()), file: Some(path.into()), ..self }
            }
            MeshSource::Box(_) => {
                let error = case.error(case.mesh.place, "mesh.box", self.message, None);
                RunError { what: self.what, ..RunError::at(error, &case.text) }
            }
        }
    }
}

impl From<CaseErrors> for RunError {
    fn from(errors: CaseErrors) -> RunError {
        let first = &errors.errors[0];
        let mut message = first.message.clone();
        if let Some(help) = &first.help {
            message.push_str(&format!(" ({help})"));
        }
        if errors.errors.len() > 1 {
            message.push_str(&format!(" (and {} more)", errors.errors.len() - 1));
        }
        RunError {
            kind: Kind::Input,
            what: "case".into(),
            message,
            rendered: Some(errors.render().into()),
            key: first.key.clone(),
            file: Some(first.file.display().to_string().into()),
            line: first.line,
        }
    }
}

impl From<MeshError> for RunError {
    fn from(error: MeshError) -> RunError {
        RunError::new(Kind::Input, "mesh", error.to_string())
    }
}

impl From<AdaptError> for RunError {
    fn from(error: AdaptError) -> RunError {
        match error {
            AdaptError::Mesh(error) => error.into(),
            AdaptError::Partition(error) => RunError::new(Kind::Environment, "partition", error.to_string()),
        }
    }
}

impl From<GmshError> for RunError {
    fn from(error: GmshError) -> RunError {
        let line = match error.place() {
            Some(Place::Line(line)) => usize::try_from(line).ok(),
            _ => None,
        };
        let file = Some(error.file().display().to_string().into());
        RunError { file, line, ..RunError::new(Kind::Input, "mesh", error.to_string()) }
    }
}

impl From<AssemblyError> for RunError {
    fn from(error: AssemblyError) -> RunError {
        let key = match &error {
            AssemblyError::NotFinite { key, .. } => Some(key.clone()),
            AssemblyError::Inverted { .. } => None,
        };
        let what = if key.is_some() { "expression" } else { "mesh" };
        RunError { key, ..RunError::new(Kind::Input, what, error.to_string()) }
    }
}

impl From<OutputError> for RunError {
    fn from(error: OutputError) -> RunError {
        let kind = match error {
            OutputError::Shape { .. } => Kind::Bug,
            OutputError::NotOurs { .. } | OutputError::Corrupt { .. } | OutputError::Format { .. } => {
                Kind::Input
            }
            _ => Kind::Environment,
        };
        let file = error.path().map(|p| p.display().to_string().into());
        RunError { file, ..RunError::new(kind, error.kind(), error.to_string()) }
    }
}

impl From<crate::solver::Error> for RunError {
    fn from(error: crate::solver::Error) -> RunError {
        let kind = match error {
            crate::solver::Error::Petsc(_) => Kind::Environment,
            crate::solver::Error::Length { .. } => Kind::Bug,
            _ => Kind::Input,
        };
        RunError { key: Some("solver.method".into()), ..RunError::new(kind, "solver", error.to_string()) }
    }
}
