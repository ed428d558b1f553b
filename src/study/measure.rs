//! Whole runs of a case, timed from outside: each a process of its own, as a person starts it.
//!
//! Imports `output` (for `run.json`) and `run` (for its errors). Start at [`measure`] and [`interleave`].

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::output::run_json::{self, RunReport};
use crate::run::sizes::Sizes;
use crate::run::{Kind, RunError};

/// The version of the keys of a stored measurement.
pub const SCHEMA: u32 = 1;

/// What is run, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The case file.
    pub case: PathBuf,
    /// As `--set` of `femdd run`.
    pub sets: Vec<String>,
    /// As `--ranks`.
    pub ranks: Option<usize>,
    /// As `--threads`.
    pub threads: Option<usize>,
    /// Runs that count.
    pub repeat: usize,
    /// Runs before them that do not.
    pub warmup: usize,
}

/// Seconds of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From the start of the process to its end.
    pub wall: f64,
    /// Processor time of all its processes, those of the launcher included.
    pub cpu: f64,
    /// By phase, on the rank that took longest, in the order of the run.
    pub phases: Vec<(String, f64)>,
}

/// Runs of one case by one program, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program's version.
    pub femdd: String,
    /// The case's name.
    pub case: String,
    /// A hash of the case file and of what `--set` changes.
    pub hash: String,
    /// The processor's name.
    pub processor: String,
    /// Ranks.
    pub ranks: usize,
    /// Threads of each.
    pub threads: usize,
    /// Degrees of freedom.
    pub dofs: u64,
    /// Iterations of the solver.
    pub iterations: u64,
    /// Peak memory of all ranks in the run that took most, in units of 2^20 bytes.
    pub memory_mb: f64,
    /// The mesh's vertices.
    pub vertices: u64,
    /// The mesh's dimension.
    pub dimension: usize,
    /// What its phases must read and write; `null` where a program does not say.
    pub sizes: Option<Sizes>,
    /// Bytes of the files that a run leaves beside `run.json`.
    pub output_bytes: u64,
    /// The runs.
    pub runs: Vec<Sample>,
}

fn environment(message: String) -> RunError {
    RunError::new(Kind::Environment, "bench", message)
}

/// A directory of its own, removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A fresh one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Scratch, RunError> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("femdd-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|e| environment(format!("{}: {e}", path.display())))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The processor's name, as the system gives it.
pub fn processor() -> String {
    cluster::place::processor().unwrap_or_else(|| "unknown".to_owned())
}

/// Processor time of all processes that this one has waited for.
fn children_cpu() -> f64 {
    // SAFETY: fills a record of plain numbers.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut used);
        used
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + 1e-6 * t.tv_usec as f64;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

/// One run, with its files in the folder `output`.
///
/// # Errors
/// A program that cannot be started or a run that does not solve the case.
pub fn once(program: &Path, plan: &Plan, output: &Path) -> Result<(Sample, RunReport), RunError> {
    let mut command = Command::new(program);
    command.arg("run").arg(&plan.case).arg("--quiet").arg("--output").arg(output).stdin(Stdio::null());
    for set in &plan.sets {
        command.args(["--set", set]);
    }
    let counts = [("--ranks", plan.ranks), ("--threads", plan.threads)];
    for (name, n) in counts.iter().filter_map(|(name, n)| Some((name, (*n)?))) {
        command.arg(name).arg(n.to_string());
    }
    let this_process = std::process::id();
    // SAFETY: between fork and exec only system calls are made. When this process is killed, so is its run.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            if libc::getppid() as u32 == this_process {
                Ok(())
            } else {
                Err(std::io::ErrorKind::Interrupted.into())
            }
        });
    }
    let (cpu, begin) = (children_cpu(), Instant::now());
    let ended =
        command.output().map_err(|e| environment(format!("{} cannot be started: {e}", program.display())))?;
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), children_cpu() - cpu);
    if !ended.status.success() {
        let kind = match ended.status.code() {
            Some(1) => Kind::NotConverged,
            Some(2) => Kind::Input,
            _ => Kind::Environment,
        };
        let said = String::from_utf8_lossy(&ended.stderr);
        let message =
            format!("{} did not solve {}:\n{}", program.display(), plan.case.display(), said.trim_end());
        return Err(RunError::new(kind, "bench", message));
    }
    let report = RunReport::read(&output.join(run_json::FILE_NAME))?;
    let phases = report.phases.iter().map(|row| (row.name.clone(), row.max)).collect();
    Ok((Sample { wall, cpu, phases }, report))
}

/// One run's report.
///
/// # Errors
/// As [`interleave`].
pub fn report_of(program: &Path, plan: &Plan) -> Result<RunReport, RunError> {
    Ok(once(program, plan, &Scratch::new()?.0.join("out"))?.1)
}

/// Bytes of the files in a directory but for `run.json`.
pub fn output_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let others = entries.flatten().filter(|entry| entry.file_name() != run_json::FILE_NAME);
    others.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// Runs a case by each of the programs in turn: A B, B A, A B, ..., so that what slows the machine for a
/// while slows them alike. One measurement a program; `seen` gets each run's program and sample.
///
/// # Errors
/// A program that cannot be started or a run that does not solve the case.
pub fn interleave(
    programs: &[&Path],
    plan: &Plan,
    seen: &mut dyn FnMut(usize, &Sample),
) -> Result<Vec<Measurement>, RunError> {
    let text = std::fs::read_to_string(&plan.case).map_err(|e| {
        let message = format!("{}: {e}", plan.case.display());
        RunError::new(Kind::Input, "file", message)
    })?;
    let hash = format!("{:016x}", xxh3_64(format!("{text}\0{}", plan.sets.join("\0")).as_bytes()));
    let scratch = Scratch::new()?;
    let mut found: Vec<Option<Measurement>> = vec![None; programs.len()];
    for round in 0..plan.warmup + plan.repeat {
        let mut order: Vec<usize> = (0..programs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for k in order {
            let (sample, report) = once(programs[k], plan, &scratch.0.join("out"))?;
            if round < plan.warmup {
                continue;
            }
            seen(k, &sample);
            let slot = found[k].get_or_insert_with(|| Measurement {
                schema: SCHEMA,
                femdd: report.femdd.clone(),
                case: report.case.clone(),
                hash: hash.clone(),
                processor: processor(),
                ranks: report.ranks,
                threads: report.threads,
                dofs: report.dofs,
                iterations: report.solver.as_ref().map_or(0, |s| s.iterations),
                memory_mb: 0.0,
                vertices: report.mesh.vertices,
                dimension: report.mesh.dimension as usize,
                sizes: report.extra.get("sizes").and_then(|s| serde_json::from_value(s.clone()).ok()),
                output_bytes: output_bytes(&scratch.0.join("out")),
                runs: Vec::new(),
            });
            slot.memory_mb = slot.memory_mb.max(report.memory_mb.sum);
            slot.runs.push(sample);
        }
    }
    found.into_iter().map(|m| m.ok_or_else(|| environment("no run was asked for".into()))).collect()
}

/// Runs a case by one program.
///
/// # Errors
/// As [`interleave`].
pub fn measure(program: &Path, plan: &Plan) -> Result<Measurement, RunError> {
    let mut so_far = 0;
    let mut seen = |_: usize, sample: &Sample| {
        so_far += 1;
        progress(&format!("run {so_far} of {}: {:.2} s", plan.repeat, sample.wall));
    };
    Ok(interleave(&[program], plan, &mut seen)?.remove(0))
}

/// A line for whoever waits at a terminal.
pub fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{line}");
    }
}

impl Measurement {
    /// The phases of the first run.
    pub fn phases(&self) -> impl Iterator<Item = &str> {
        self.runs.first().into_iter().flat_map(|run| run.phases.iter().map(|p| p.0.as_str()))
    }

    /// Seconds of a phase in every run that has it.
    pub fn seconds(&self, phase: &str) -> Vec<f64> {
        let of = |run: &Sample| run.phases.iter().find(|p| p.0 == phase).map(|p| p.1);
        self.runs.iter().filter_map(of).collect()
    }

    /// Stores it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| environment(e.to_string()))? + "\n";
        Ok(run_json::write_file_atomic(path, text.as_bytes())?)
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// A file that is not there or is no measurement of this schema.
    pub fn read(path: &Path) -> Result<Measurement, RunError> {
        let bad = |what: String| {
            let message =
                format!("{} {what}: femdd bench measure CASE --output FILE makes one", path.display());
            RunError {
                file: Some(path.display().to_string().into()),
                ..RunError::new(Kind::Input, "bench", message)
            }
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(format!("cannot be read ({e})")))?;
        let found: Measurement =
            serde_json::from_str(&text).map_err(|e| bad(format!("is no measurement ({e})")))?;
        if found.schema != SCHEMA {
            return Err(bad(format!("is a measurement of schema {}, not {SCHEMA}", found.schema)));
        }
        Ok(found)
    }
}
