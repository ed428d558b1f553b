//! `femdd run`: solves a case, under a launcher or starting one itself.

use cluster::Comm;

use super::{RunArgs, launch, plan};
use crate::case::Case;
use crate::output::run_json;
use crate::output::terminal;
use crate::run::{self, RunError};

/// What the command line has and this version does not.
fn not_yet(args: &RunArgs) -> Option<&'static str> {
    let asked = [(args.trace, "--trace"), (args.report, "--report"), (args.restart.is_some(), "--restart")];
    asked.iter().find(|(asked, _)| *asked).map(|(_, name)| *name)
}

/// Solves the case of the command line.
pub fn main(args: &RunArgs) -> i32 {
    if let Some(option) = not_yet(args) {
        if launch::local_rank() == 0 {
            eprintln!("error: {option} is not supported yet in this version of femdd");
        }
        return 2;
    }
    if args.case.is_none() {
        if launch::local_rank() == 0 {
            eprintln!("error: which case? femdd run CASE.toml");
        }
        return 2;
    }
    if !cluster::under_launcher() {
        let ranks = match (args.ranks, load(args)) {
            (_, Err(error)) => {
                eprint!("{}", error.text());
                return error.kind.exit_code();
            }
            (Some(0), _) => {
                eprintln!("error: --ranks needs at least 1");
                return 2;
            }
            (Some(n), _) => n,
            (None, Ok(case)) => {
                let (ranks, event) = plan::ranks_for(&case);
                plan::keep(&event);
                ranks
            }
        };
        if ranks > 1 {
            return match launch::mpirun(ranks) {
                Ok(code) => code,
                Err(error) => {
                    eprintln!(
                        "error: mpirun cannot be started ({error}): install Open MPI (openmpi-bin) or use --ranks 1"
                    );
                    3
                }
            };
        }
    }
    launch::on_ranks(|comm| solve(comm, args))
}

fn load(args: &RunArgs) -> Result<Case, RunError> {
    let path = args.case.as_ref().expect("checked by the caller");
    super::check_exists(path)?;
    let mut case = Case::load(path, &args.sets)?;
    if let Some(output) = &args.output {
        case.output_dir.clone_from(output);
    }
    Ok(case)
}

fn solve(comm: &Comm, args: &RunArgs) -> Result<i32, RunError> {
    if let Some(ranks) = args.ranks.filter(|&n| n != comm.size()) {
        let message = format!(
            "--ranks {ranks} asks for other than the {} ranks of the launcher: leave it out under mpirun or srun",
            comm.size()
        );
        return Err(RunError::new(crate::run::Kind::Input, "command", message));
    }
    // One rank reads; the others take its text, so that no file system sees thousands of readers.
    let loaded = if comm.is_root() { load(args).map(Some) } else { Ok(None) };
    let loaded = comm.agree(loaded)?;
    let text = comm.broadcast_value(0, loaded.as_ref().map(|case| case.text.clone()));
    let case = match loaded {
        Some(case) => case,
        None => {
            let path = args.case.as_ref().expect("checked by the caller");
            let mut case = Case::parse(path, &text, &args.sets)?;
            if let Some(output) = &args.output {
                case.output_dir.clone_from(output);
            }
            case
        }
    };
    let threads = threads(comm, args, &case);
    launch::start_threads(threads);
    let petsc = petsc_options(args);
    let session = crate::solver::start(comm)?;
    let on_node = comm.ranks_on_node();
    let nodes = comm.size().div_ceil(on_node);
    let expected = if comm.is_root() { plan::expected(&case, comm.size(), threads, nodes) } else { None };
    let mut events = vec![
        plan::ranks_event(comm.size(), args.ranks),
        plan::threads_event(threads, args.threads, &case, on_node),
    ];
    events.extend(expected.as_ref().map(plan::plan_event));
    let options = run::Options { threads, petsc, quiet: args.quiet, events, ..run::Options::default() };
    let mut outcome = run::run_case(comm, &case, &options)?;
    drop(session);
    let mut written = Ok(());
    let mut compared = None;
    if comm.is_root() && outcome.failure.is_none() {
        compared = plan::conclude(&case, expected, &mut outcome.report, nodes);
        if compared.is_some() {
            written = outcome.report.write_atomic(&case.output_dir.join(run_json::FILE_NAME));
        }
    }
    comm.agree(written)?;
    if comm.is_root() {
        if !args.quiet {
            print!("{}", terminal::summary(&outcome.report));
            print!("{}", compared.unwrap_or_default());
            println!("  in {}", case.output_dir.display());
        }
        if let Some(failure) = &outcome.failure {
            eprint!("{}", failure.text());
        }
    }
    Ok(outcome.failure.map_or(0, |f| f.kind.exit_code()))
}

fn petsc_options(args: &RunArgs) -> String {
    args.petsc.join(" ")
}

/// Threads a rank: as asked for, or the cores that the ranks of this node leave each.
fn threads(comm: &Comm, args: &RunArgs, case: &Case) -> usize {
    if let Some(n) = args.threads.or(case.performance.threads) {
        return n.max(1);
    }
    if !run::performance::scales(&case.performance) {
        return 1;
    }
    let on_node = comm.ranks_on_node();
    (launch::physical_cores() / on_node).max(1)
}
