//! Scaling studies: a case on more and more ranks, or larger and larger on as many; what each phase takes, says and
//! holds; and what a model of communication makes of it on ranks that nobody has counted yet.
//!
//! Imports `case`, `run`, `output` and the rest of `study`. Start at [`Study`]: what `scale.json` holds. [`ladder`]
//! makes its rungs, [`runs`] runs them here, [`slurm`] through a batch system; [`results`] reads what the runs left,
//! [`projection`] projects it, [`tables`] and [`pictures`] show it.
//!
//! A study is its directory: each run leaves its `run.json` there, so that what was interrupted goes on where it
//! ended, and it makes no difference who started a run.

pub mod ladder;
pub mod pictures;
pub mod projection;
pub mod results;
pub mod runs;
pub mod slurm;
pub mod tables;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::output::run_json;
use crate::run::{Kind, RunError};

pub use ladder::Rung;
pub use pictures::page;

/// The version of the keys of `scale.json`.
pub const SCHEMA: u32 = 1;

/// The name of the study in its directory.
pub const FILE_NAME: &str = "scale.json";

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Growth {
    /// The ranks.
    Strong,
    /// The ranks, and the mesh with them.
    Weak,
    /// The mesh.
    Size,
}

impl Growth {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Growth::Strong => "strong",
            Growth::Weak => "weak",
            Growth::Size => "size",
        }
    }
}

/// How a study stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Runs are being made here.
    Running,
    /// Runs wait in a batch system.
    Submitted,
    /// Runs are missing or have failed.
    Incomplete,
    /// Every run is there.
    Complete,
}

/// What is studied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// What grows.
    pub growth: Growth,
    /// The case file.
    pub file: PathBuf,
    /// The case's name.
    pub case: String,
    /// As `--set` of `femdd run`, on every rung.
    pub sets: Vec<String>,
    /// Threads of each rank.
    pub threads: usize,
    /// A hash of the case file, the sets, and the size and time of its mesh file.
    pub hash: String,
    /// Dimension of the mesh.
    pub dimension: usize,
}

/// A job of a batch system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: String,
    /// Its script in the study's directory.
    pub script: String,
    /// The directories of its runs, by the index of the task.
    pub runs: Vec<String>,
}

/// How one run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not begun, or begun and not ended.
    Missing,
    /// Waiting or running in a batch system.
    Queued,
    /// Solved.
    Done,
    /// Ended without a solution.
    Failed,
}

/// One run of a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its directory in the study's.
    pub directory: String,
    /// How it stands.
    pub state: State,
    /// Why it failed.
    pub message: Option<String>,
    /// Seconds from start to end, as `run.json` has them.
    pub wall: Option<f64>,
}

/// A rung with its runs and what they came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What is run.
    #[serde(flatten)]
    pub rung: Rung,
    /// Whether each thread had a core to itself: else times are not comparable.
    pub comparable: bool,
    /// Its runs, in the order of the repeats.
    pub runs: Vec<Run>,
    /// Medians over its runs; `null` while none is done.
    pub result: Option<results::Outcome>,
}

/// A scaling study, as `scale.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program's version.
    pub femdd: String,
    /// How it stands.
    pub status: Status,
    /// What is studied.
    pub question: Question,
    /// The processor's name, where the study was started.
    pub processor: String,
    /// Physical cores there; of a batch job, those it was given.
    pub cores: usize,
    /// Cores that other programs kept busy before the first run here.
    pub busy: Option<f64>,
    /// Runs of each rung.
    pub repeat: usize,
    /// Jobs of a batch system; none where runs were made here.
    pub jobs: Vec<Job>,
    /// The rungs, in the order of the ladder.
    pub steps: Vec<Step>,
    /// How times grow with the size of the problem; of a study of sizes.
    pub exponents: Vec<results::Exponent>,
    /// What the model says of more ranks.
    pub projection: Option<projection::Projection>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

fn wrong(message: impl Into<String>) -> RunError {
    RunError::new(Kind::Input, "scale", message)
}

fn environment(message: impl Into<String>) -> RunError {
    RunError::new(Kind::Environment, "scale", message)
}

/// The directory of a run: its rung and the repeat, from 1.
pub fn run_directory(rung: &Rung, repeat: usize) -> String {
    format!("runs/{}-{}", rung.name, repeat + 1)
}

impl Study {
    /// A study of which nothing has been run.
    pub fn new(question: Question, rungs: Vec<Rung>, repeat: usize, cores: usize) -> Study {
        let mut study = Study {
            schema: SCHEMA,
            femdd: env!("CARGO_PKG_VERSION").to_owned(),
            status: Status::Incomplete,
            question,
            processor: super::measure::processor(),
            cores,
            busy: None,
            repeat,
            jobs: Vec::new(),
            steps: Vec::new(),
            exponents: Vec::new(),
            projection: None,
            warnings: Vec::new(),
        };
        study.steps = rungs.into_iter().map(|rung| study.step(rung)).collect();
        study
    }

    fn step(&self, rung: Rung) -> Step {
        let missing = |k: usize| Run {
            directory: run_directory(&rung, k),
            state: State::Missing,
            message: None,
            wall: None,
        };
        let comparable = rung.ranks * self.question.threads <= self.cores;
        Step { comparable, runs: (0..self.repeat).map(missing).collect(), result: None, rung }
    }

    /// Takes over a ladder and a number of repeats: rungs that are there already keep their runs.
    pub fn extend(&mut self, rungs: Vec<Rung>, repeat: usize) {
        self.repeat = repeat;
        self.steps = rungs.into_iter().map(|rung| self.step(rung)).collect();
    }

    /// Takes so many cores to be those of each run: what a batch system granted it.
    pub fn grant(&mut self, cores: usize) {
        self.cores = cores;
        for step in &mut self.steps {
            step.comparable = step.rung.ranks * self.question.threads <= cores;
        }
    }

    /// The runs in the order in which they are to be made: A B C A B C, so that what slows the machine for a while
    /// slows all rungs alike. Indices of the rung and of the repeat.
    pub fn order(&self) -> Vec<(usize, usize)> {
        (0..self.repeat).flat_map(|k| (0..self.steps.len()).map(move |s| (s, k))).collect()
    }

    /// Stores it in its directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), RunError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| environment(e.to_string()))? + "\n";
        Ok(run_json::write_file_atomic(&directory.join(FILE_NAME), text.as_bytes())?)
    }

    /// Reads the study in a directory.
    ///
    /// # Errors
    /// A directory without one, or one of another version.
    pub fn read(directory: &Path) -> Result<Study, RunError> {
        let path = directory.join(FILE_NAME);
        let bad = |what: String| {
            let message = format!("{} {what}: femdd scale strong CASE.toml makes one", path.display());
            RunError { file: Some(path.display().to_string().into()), ..wrong(message) }
        };
        let text = std::fs::read_to_string(&path).map_err(|e| bad(format!("cannot be read ({e})")))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| bad(format!("is not JSON ({e})")))?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        if schema != Some(u64::from(SCHEMA)) {
            return Err(bad(format!("is not of schema {SCHEMA}, which this femdd reads")));
        }
        serde_json::from_value(value).map_err(|e| bad(format!("is no scaling study ({e})")))
    }

    /// Reads what the runs have left and computes all that follows from it: medians, exponents, the projection,
    /// warnings, the status.
    ///
    /// # Errors
    /// None of a run's: those are marked.
    pub fn evaluate(&mut self, directory: &Path, network: &projection::Inputs) -> Result<(), RunError> {
        self.warnings.clear();
        results::collect(self, directory);
        self.exponents = results::exponents(self);
        self.projection = projection::project(self, network);
        self.warnings.extend(results::warnings(self));
        let all = |state: State| self.steps.iter().flat_map(|s| &s.runs).all(|run| run.state == state);
        let any = |state: State| self.steps.iter().flat_map(|s| &s.runs).any(|run| run.state == state);
        self.status = match () {
            () if all(State::Done) => Status::Complete,
            () if any(State::Queued) => Status::Submitted,
            () => Status::Incomplete,
        };
        Ok(())
    }

    /// Writes `scale.json`, `scale.csv`, the pictures and the page.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn publish(&self, directory: &Path) -> Result<(), RunError> {
        self.write(directory)?;
        let put = |name: &str, text: String| {
            run_json::write_file_atomic(&directory.join(name), text.as_bytes()).map_err(RunError::from)
        };
        put("scale.csv", tables::csv(self))?;
        for (name, svg) in pictures::pictures(self) {
            put(&format!("{name}.svg"), svg)?;
        }
        put("report.html", pictures::page_of(self).html())
    }
}

/// Makes the directory of a study, or opens the one that it has begun: `Some` of the latter, unless it is to be begun
/// afresh, when its runs are removed.
///
/// # Errors
/// A directory that holds something else or the study of another question.
pub fn open(directory: &Path, question: &Question, fresh: bool) -> Result<Option<Study>, RunError> {
    let path = directory.join(FILE_NAME);
    let fail = |e: std::io::Error| environment(format!("{}: {e}", directory.display()));
    if path.is_file() {
        // Something else under that name is not taken for a study, nor removed.
        let study = Study::read(directory)?;
        if fresh {
            let runs = directory.join("runs");
            if runs.is_dir() {
                std::fs::remove_dir_all(&runs).map_err(fail)?;
            }
            return Ok(None);
        }
        if study.question.hash != question.hash || study.question.growth != question.growth {
            let message = format!(
                "{} holds another study ({} of {}, or of an earlier version of the case or its mesh): name another \
                 directory by --output, or begin afresh with --fresh",
                directory.display(),
                study.question.growth.name(),
                study.question.case
            );
            return Err(wrong(message));
        }
        return Ok(Some(study));
    }
    if directory.exists() {
        let mut entries = std::fs::read_dir(directory).map_err(fail)?;
        if entries.next().is_some() {
            let message = format!(
                "{} is not empty and holds no scaling study: name another directory by --output",
                directory.display()
            );
            return Err(wrong(message));
        }
    }
    std::fs::create_dir_all(directory).map_err(fail)?;
    Ok(None)
}
