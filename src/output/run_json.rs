//! `run.json`: what a run was, how it went, and why it failed; and the directory it lies in.
//!
//! Imports nothing of femdd. Start at [`RunReport`]; its keys are the contract of the case format.
//! Keys may be added under the same schema number, never renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::by_rank::ByRank;
use super::error::OutputError;
use super::phases::PhaseRow;

/// The version of the keys in `run.json`.
pub const SCHEMA: u32 = 1;

/// The name of the report in the output directory.
pub const FILE_NAME: &str = "run.json";

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not ended yet, or killed without a chance to say so.
    #[default]
    Running,
    /// Solved to the tolerance.
    Solved,
    /// The solver stopped before the tolerance.
    NotConverged,
    /// Ended by an error; `error` says which.
    Failed,
    /// Stopped by a signal or a time limit, with a checkpoint written.
    Stopped,
}

/// The whole of `run.json`. Numbers that are not finite are written as `null`, and read back as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of femdd.
    pub femdd: String,
    /// The stem of the case file.
    pub case: String,
    /// How the run stands.
    pub status: Status,
    /// The number of ranks.
    pub ranks: usize,
    /// Threads per rank.
    pub threads: usize,
    /// The mesh that was solved on last.
    pub mesh: MeshReport,
    /// Degrees of freedom, over all fields.
    pub dofs: u64,
    /// What each boundary heading matched.
    pub boundary: Vec<BoundaryReport>,
    /// How the cells are dealt out.
    pub partition: Option<PartitionReport>,
    /// The linear solver and how it went.
    pub solver: Option<SolverReport>,
    /// Errors against `[exact]`; `null` without it.
    pub errors: Option<ErrorsReport>,
    /// Values at points.
    pub probes: Vec<NamedValue>,
    /// Integrals over regions and boundaries.
    pub integrals: Vec<NamedValue>,
    /// The adaptive loop; `null` without one.
    pub adapt: Option<AdaptReport>,
    /// Wall-clock seconds of each phase over the ranks, in the order they were run.
    #[serde(serialize_with = "phases_out", deserialize_with = "phases_in")]
    pub phases: Vec<PhaseRow>,
    /// The same and memory, rank by rank; absent until the run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_rank: Option<ByRank>,
    /// Seconds from start to end.
    #[serde(with = "number")]
    pub wall: f64,
    /// Peak memory.
    pub memory_mb: MemoryReport,
    /// What the user should know though the run went on.
    pub warnings: Vec<String>,
    /// Why the run failed; `null` when it did not.
    pub error: Option<ErrorReport>,
    /// Further keys, written beside the others.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Sizes of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MeshReport {
    pub cells: u64,
    pub vertices: u64,
    pub dimension: u32,
}

/// What a boundary heading matched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BoundaryReport {
    /// The heading.
    pub name: String,
    /// Facets matched; for a point, 0.
    pub facets: u64,
    /// Further facts, such as DOFs that a later heading took over.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// How the cells are dealt out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The largest part's weight over the mean.
    #[serde(with = "number")]
    pub imbalance: f64,
    /// Facets between cells of different owners.
    pub edge_cut: u64,
    /// Who dealt them out.
    pub method: String,
}

/// The linear solver and how it went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SolverReport {
    /// As `[solver] method`, resolved.
    pub method: String,
    /// Why this one was chosen.
    pub reason: String,
    /// Iterations of the last solve, or of all of them in a driver with several.
    pub iterations: u64,
    /// The true residual over the right-hand side's norm.
    #[serde(with = "number")]
    pub relative_residual: f64,
    /// Whether the tolerance was met.
    pub converged: bool,
    /// Methods tried before, with what became of them.
    pub attempts: Vec<serde_json::Value>,
    /// Further facts, such as PETSc's reason or the preconditioner's complexity.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Absolute errors against the exact solution.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorsReport {
    /// In the L2 norm.
    #[serde(with = "number")]
    pub l2: f64,
    /// In the H1 seminorm.
    #[serde(with = "number")]
    pub h1: f64,
    /// By field, when the law has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, FieldErrors>,
}

/// Absolute errors of one field.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FieldErrors {
    /// In the L2 norm.
    #[serde(with = "number")]
    pub l2: f64,
    /// In the H1 seminorm.
    #[serde(with = "number")]
    pub h1: f64,
}

/// A named scalar or vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedValue {
    /// As in the case file.
    pub name: String,
    /// One component is written as a number, several as an array.
    #[serde(with = "numbers")]
    pub value: Vec<f64>,
}

/// The adaptive loop.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AdaptReport {
    /// Which limit ended it.
    pub stop_reason: String,
    /// One entry a solve.
    pub steps: Vec<AdaptStep>,
}

/// One solve of the adaptive loop.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AdaptStep {
    /// From 0.
    pub step: u32,
    /// Active cells.
    pub cells: u64,
    /// Degrees of freedom.
    pub dofs: u64,
    /// The estimate of the error.
    #[serde(with = "number")]
    pub estimate: f64,
    /// The true error in L2; `null` without `[exact]`.
    pub l2: Option<f64>,
    /// The true error in the H1 seminorm; `null` without `[exact]`.
    pub h1: Option<f64>,
    /// The largest part's weight over the mean, after refining.
    #[serde(with = "number")]
    pub imbalance_before: f64,
    /// The same after rebalancing.
    #[serde(with = "number")]
    pub imbalance_after: f64,
    /// Cells that changed their owner.
    pub moved_cells: u64,
    /// Facets between cells of different owners.
    pub edge_cut: u64,
    /// Further facts of the step.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Peak memory in units of 2^20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Of the rank that took most.
    #[serde(with = "number")]
    pub max_rank: f64,
    /// Of all ranks.
    #[serde(with = "number")]
    pub sum: f64,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorReport {
    /// A short name of the kind of failure.
    pub kind: String,
    /// The message printed.
    pub message: String,
    /// The key of the case file, where one is to blame.
    pub key: Option<String>,
    /// The file to blame.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<usize>,
}

impl RunReport {
    /// The report of a run that has just begun.
    pub fn started(case: &str, ranks: usize, threads: usize) -> Self {
        RunReport {
            schema: SCHEMA,
            femdd: env!("CARGO_PKG_VERSION").to_owned(),
            case: case.to_owned(),
            status: Status::Running,
            ranks,
            threads,
            mesh: MeshReport::default(),
            dofs: 0,
            boundary: Vec::new(),
            partition: None,
            solver: None,
            errors: None,
            probes: Vec::new(),
            integrals: Vec::new(),
            adapt: None,
            phases: Vec::new(),
            by_rank: None,
            wall: 0.0,
            memory_mb: MemoryReport::default(),
            warnings: Vec::new(),
            error: None,
            extra: BTreeMap::new(),
        }
    }

    /// Replaces `path`, so that a reader sees the old report or the new one and nothing between.
    /// One rank calls this.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_atomic(&self, path: &Path) -> Result<(), OutputError> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| OutputError::Io {
            path: path.to_path_buf(),
            action: "encoding".to_owned(),
            reason: e.to_string(),
        })?;
        text.push('\n');
        write_file_atomic(path, text.as_bytes())
    }

    /// Reads a report back.
    ///
    /// # Errors
    /// When the file cannot be read or is no report of this schema.
    pub fn read(path: &Path) -> Result<Self, OutputError> {
        let text = fs::read_to_string(path).map_err(|e| OutputError::from_read(path, &e))?;
        let report: RunReport = serde_json::from_str(&text).map_err(|e| OutputError::Format {
            path: path.to_path_buf(),
            what: format!("not a report of femdd: {e}"),
        })?;
        if report.schema != SCHEMA {
            let what = format!("a report of schema {}, this femdd reads schema {SCHEMA}", report.schema);
            return Err(OutputError::Format { path: path.to_path_buf(), what });
        }
        Ok(report)
    }
}

/// Writes a small file under another name, syncs it to the disk and renames it.
///
/// # Errors
/// When the file cannot be written; the old one is then as it was.
pub fn write_file_atomic(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let partial = path.with_file_name(name);
    let attempt = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        super::hdf::sync_directory(path)
    };
    attempt().map_err(|e| {
        // The error that led here is the one to report.
        let _ = fs::remove_file(&partial);
        OutputError::from_io(path, "writing", bytes.len() as u64, &e)
    })
}

/// Makes the output directory, or checks that femdd may use the one that is there. One rank calls
/// this, before anything is written.
///
/// # Errors
/// [`OutputError::NotOurs`] for a directory that is not empty and has no `run.json` of femdd;
/// otherwise what keeps it from being made and written to.
pub fn prepare_directory(path: &Path) -> Result<(), OutputError> {
    let refuse = |e: &io::Error| OutputError::from_io(path, "making the output directory", 0, e);
    if path.exists() && !path.is_dir() {
        let reason = "a file of this name is in the way of the output directory".to_owned();
        return Err(OutputError::NotWritable { path: path.to_path_buf(), reason });
    }
    fs::create_dir_all(path).map_err(|e| refuse(&e))?;
    let mut entries = fs::read_dir(path).map_err(|e| refuse(&e))?;
    let ours = || is_ours(&path.join(FILE_NAME)) || !super::checkpoint::list(path).is_empty();
    if entries.next().is_some() && !ours() {
        return Err(OutputError::NotOurs { path: path.to_path_buf() });
    }
    let probe: PathBuf = path.join(format!(".femdd-{}", std::process::id()));
    let tried = File::create(&probe).map(drop);
    // A probe that stays behind does no harm.
    let _ = fs::remove_file(&probe);
    tried.map_err(|e| refuse(&e))
}

/// Whether this is a `run.json` of femdd, of any schema and however complete.
fn is_ours(report: &Path) -> bool {
    let Ok(text) = fs::read(report) else { return false };
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else { return false };
    value.get("schema").is_some_and(serde_json::Value::is_u64) && value.get("femdd").is_some()
}

#[derive(Serialize, Deserialize)]
struct Spread {
    #[serde(with = "number")]
    min: f64,
    #[serde(with = "number")]
    mean: f64,
    #[serde(with = "number")]
    max: f64,
}

fn phases_out<S: Serializer>(rows: &[PhaseRow], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(rows.len()))?;
    for row in rows {
        map.serialize_entry(&row.name, &Spread { min: row.min, mean: row.mean, max: row.max })?;
    }
    map.end()
}

fn phases_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PhaseRow>, D::Error> {
    struct Rows;
    impl<'de> Visitor<'de> for Rows {
        type Value = Vec<PhaseRow>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("a map from phases to {min, mean, max}")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut rows = Vec::new();
            while let Some((name, Spread { min, mean, max })) = map.next_entry::<String, Spread>()? {
                rows.push(PhaseRow { name, min, mean, max });
            }
            Ok(rows)
        }
    }
    deserializer.deserialize_map(Rows)
}

/// A number, or `null` for one that is not finite.
mod number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        x.is_finite().then_some(*x).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// A number, or an array of them; `null` for each that is not finite.
mod numbers {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(xs: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let finite = |x: &f64| x.is_finite().then_some(*x);
        match xs {
            [x] => finite(x).serialize(serializer),
            _ => xs.iter().map(finite).collect::<Vec<_>>().serialize(serializer),
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<Option<f64>>),
        One(Option<f64>),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::Many(values) => values,
            OneOrMany::One(value) => vec![value],
        };
        Ok(values.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }
}

#[cfg(test)]
#[path = "run_json_tests.rs"]
mod tests;
