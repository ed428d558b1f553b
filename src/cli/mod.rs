//! The command: one file a subcommand.
//!
//! Imports every other room. Start at [`main`], which the binary calls; it returns the exit code.

mod bench;
mod calibrate;
mod check;
mod doctor;
mod doctor_place;
mod launch;
mod logs;
mod mesh;
mod mesh_info;
mod plan;
mod report;
mod run;
mod scale;
mod units;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::case::nearest;
use crate::run::{Kind, RunError};

/// Finite elements, distributed over MPI, from a case file.
#[derive(Debug, Parser)]
#[command(
    name = "femdd",
    version,
    about,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Solve a case.
    Run(RunArgs),
    /// Validate a case without MPI and print it with every default filled in.
    Check(CheckArgs),
    /// Look at, generate, convert and partition meshes.
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Measure runs, compare them, and say what they must cost at least.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Scaling studies of a case: more ranks, a mesh that grows with them, or a growing mesh; here or through SLURM.
    #[command(subcommand)]
    Scale(scale::ScaleCommand),
    /// Make one page of HTML out of what a run left.
    Report(report::ReportArgs),
    /// Say how large a case is, what it will take on which ranks, and write the batch script. No MPI.
    Plan(plan::PlanArgs),
    /// Say what this machine offers and what it lacks.
    Doctor {
        /// Only the solve that the report ends with.
        #[arg(long, hide = true)]
        solve: bool,
    },
}

/// Commands of the plan that this version does not have.
const NOT_YET: [&str; 1] = ["study"];

/// What `femdd run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The case file.
    case: Option<PathBuf>,
    /// Start that many ranks (outside an MPI launcher).
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
    /// Threads of each rank.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Set a key of the case, as --set parameters.load=3e6; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
    /// Memory that each rank may take, as 2GiB: near it the run stops with a checkpoint.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<u64>,
    /// Write figures of the run under way to this file, for Prometheus' textfile collector.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// The output directory, instead of the case's.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Go on from a checkpoint; `auto`: from the newest in the output directory, afresh if there is none.
    #[arg(long, value_name = "FILE")]
    restart: Option<PathBuf>,
    /// Write a checkpoint and stop before that much time is over, as 55min, 2h or 90s.
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// Show where the time went, by span, and what to try; PETSc's log included.
    #[arg(long)]
    profile: bool,
    /// As --profile, and write trace.json, for Perfetto or Chrome: every span of every rank and thread.
    #[arg(long)]
    trace: bool,
    /// Make a page of what the run did, report.html in the output directory.
    #[arg(long)]
    report: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
    /// PETSc options, applied last.
    #[arg(last = true, value_name = "PETSC OPTIONS")]
    petsc: Vec<String>,
}

/// What `femdd check` takes.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The case file.
    case: PathBuf,
    /// Set a key of the case; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
}

/// Reads a size of memory.
fn size(text: &str) -> Result<u64, String> {
    cluster::place::parse_bytes(text)
        .ok_or_else(|| "write a size above 0, as 2GiB, 1500MB or 1000000".to_owned())
}

/// Runs the command and returns the process's exit code.
pub fn main() -> i32 {
    let first = launch::local_rank() == 0;
    let complain = |message: &str| {
        if first {
            eprintln!("error: {message}");
        }
        2
    };
    if let Some(message) = std::env::args_os().nth(1).and_then(|word| not_a_command(&word)) {
        return complain(&message);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; anything else is bad input.
            let code = if error.use_stderr() { 2 } else { 0 };
            if first {
                // A closed pipe is no reason to fail.
                let _ = error.print();
            }
            return code;
        }
    };
    if let Err(message) = logs::start(launch::local_rank()) {
        return complain(&message);
    }
    match cli.command {
        Some(Command::Run(args)) => run::main(&args),
        Some(Command::Check(args)) => check::main(&args),
        Some(Command::Mesh(command)) => mesh::main(&command),
        Some(Command::Bench(command)) => bench::main(&command),
        Some(Command::Scale(command)) => scale::main(&command),
        Some(Command::Report(args)) => report::main(&args),
        Some(Command::Plan(args)) => plan::main(&args),
        Some(Command::Doctor { solve: true }) => doctor::solve(),
        Some(Command::Doctor { solve: false }) => doctor::main(),
        None => run::main(&cli.run),
    }
}

/// What is wrong with a first word that is neither a subcommand nor an option nor looks like a case file.
fn not_a_command(word: &OsString) -> Option<String> {
    let text = word.to_str()?;
    let command = Cli::command();
    let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    known.push("help");
    if text.starts_with('-') || known.contains(&text) {
        return None;
    }
    if NOT_YET.contains(&text) {
        return Some(format!("`femdd {text}` is not supported yet in this version of femdd"));
    }
    // A path has a directory or an ending, or is there.
    if text.contains(['/', '.']) || Path::new(word).exists() {
        return None;
    }
    let help = match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean `femdd {near}`?"),
        None => format!("the subcommands are {}", known.join(", ")),
    };
    Some(format!("`{text}` is neither a subcommand nor a case file: {help}"))
}

/// Checks that a file of the command line exists.
///
/// # Errors
/// With the nearest name beside it.
fn check_exists(path: &Path) -> Result<(), RunError> {
    if path.is_file() {
        return Ok(());
    }
    let what = if path.exists() { "is not a file" } else { "does not exist" };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .map(|entries| entries.flatten().filter(|e| e.path().is_file()))
        .map(|files| files.map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Of the same kind first: `cube.toml` is meant by `cub.toml`, not `cub.msh`.
    let same: Vec<&str> =
        names.iter().map(String::as_str).filter(|n| Path::new(n).extension() == path.extension()).collect();
    let near = nearest(&wanted, same).or_else(|| nearest(&wanted, names.iter().map(String::as_str)));
    let help = near.map(|near| format!(": did you mean `{}`?", path.with_file_name(near).display()));
    let message = format!("{} {what}{}", path.display(), help.unwrap_or_default());
    Err(RunError {
        file: Some(path.display().to_string().into()),
        ..RunError::new(Kind::Input, "file", message)
    })
}
