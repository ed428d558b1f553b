//! The command: one file a subcommand.
//!
//! Imports every other room. Start at [`main`], which the binary calls; it returns the exit code.

mod check;
mod launch;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Finite elements, distributed over MPI, from a case file.
#[derive(Debug, Parser)]
#[command(name = "femdd", version, about, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
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
}

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
    /// The output directory, instead of the case's.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Go on from a checkpoint.
    #[arg(long, value_name = "FILE")]
    restart: Option<PathBuf>,
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

/// Runs the command and returns the process's exit code.
pub fn main() -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; anything else is bad input.
            let code = if error.use_stderr() { 2 } else { 0 };
            if !error.use_stderr() || launch::local_rank() == 0 {
                // A closed pipe is no reason to fail.
                let _ = error.print();
            }
            return code;
        }
    };
    match cli.command {
        Some(Command::Run(args)) => run::main(&args),
        Some(Command::Check(args)) => check::main(&args),
        None => run::main(&cli.run),
    }
}
