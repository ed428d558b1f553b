//! `femdd run`: solves a case, under a launcher or starting one itself.

use std::path::Path;
use std::time::Duration;

use cluster::place::{Allocation, Machine, Place, Step};
use cluster::{Comm, monitor};

use super::{RunArgs, launch, plan};
use crate::case::Case;
use crate::output::profile::trace;
use crate::output::run_json::{RunReport, Status};
use crate::output::{bottlenecks, run_json, terminal};
use crate::run::{self, RunError};
use crate::study::machine;

/// Solves the case of the command line.
pub fn main(args: &RunArgs) -> i32 {
    if args.case.is_none() {
        if launch::local_rank() == 0 {
            eprintln!("error: which case? femdd run CASE.toml");
        }
        return 2;
    }
    if let Err(message) = time_limit(args) {
        if launch::local_rank() == 0 {
            eprintln!("error: {message}");
        }
        return 2;
    }
    // Tasks of one `srun`; with --ranks 1 they are separate on purpose.
    let step = Step::of_process().filter(|_| args.ranks != Some(1));
    if !cluster::under_launcher() {
        if let Some(step) = &step {
            return refuse(step);
        }
        let (ranks, threads) = match (args.ranks, load(args)) {
            (_, Err(error)) => {
                leave_report(args, &error);
                eprint!("{}", error.text());
                return error.kind.exit_code();
            }
            (Some(0), _) => {
                eprintln!("error: --ranks needs at least 1");
                return 2;
            }
            (Some(n), Ok(case)) => (n, args.threads.or(case.performance.threads)),
            (None, Ok(case)) => {
                let (ranks, event) = plan::ranks_for(&case);
                plan::keep(&event);
                (ranks, args.threads.or(case.performance.threads))
            }
        };
        if ranks > 1 {
            return match launch::mpirun(ranks, threads.unwrap_or(1)) {
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
    // MPI sets it too as it starts.
    let by_mpirun = std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some();
    // Before MPI starts: a signal may come at any time.
    cluster::stop::install();
    launch::on_ranks(|comm| match &step {
        Some(step) if comm.size() == 1 && !by_mpirun => Ok(refuse(step)),
        _ => solve(comm, args),
    })
}

/// Says once why tasks of one step that are each alone do not run; the exit code.
fn refuse(step: &Step) -> i32 {
    if launch::local_rank() == 0 {
        let kind = step.mpi.as_ref().map_or(String::new(), |kind| format!(" (--mpi={kind})"));
        eprintln!(
            "error: srun started {} tasks, but they cannot find each other{kind}: each would be a run of its own in the \
             same directory\n  use `srun --mpi=pmix` if `srun --mpi=list` has it, else `mpirun femdd run ..` in the \
             batch script, or `femdd run ..` alone\n  for runs that are meant to be separate, give each --ranks 1 and \
             its own --output",
            step.tasks
        );
    }
    3
}

/// The time that `--time-limit` gives the run.
fn time_limit(args: &RunArgs) -> Result<Option<Duration>, String> {
    let Some(text) = &args.time_limit else { return Ok(None) };
    match crate::case::seconds(text) {
        // A century is no limit, and longer ones do not fit a clock.
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds.min(3e9)))),
        None => Err(format!("--time-limit {text}: expected a number and a unit, as 90s, 55min, 2h or 1d")),
    }
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

/// Replaces the `run.json` of an earlier run where this one does not even begin: who looks there is to see that it failed.
/// One rank calls this.
fn leave_report(args: &RunArgs, error: &RunError) {
    let Some(path) = &args.case else { return };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let directory = args.output.clone().unwrap_or_else(|| Case::output_of(path, &text, &args.sets));
    let report = directory.join(run_json::FILE_NAME);
    if !report.is_file() {
        return;
    }
    let (ranks, threads) = (args.ranks.unwrap_or(1), args.threads.unwrap_or(1));
    let mut failed = RunReport::started(&Case::name_of(path), ranks, threads);
    failed.status = Status::Failed;
    failed.error = Some(error.report());
    if let Err(error) = failed.write_atomic(&report) {
        eprintln!("warning: {error}");
    }
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
    if let Err(error) = &loaded {
        leave_report(args, error);
    }
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
    let place = Place::find();
    let machine = Machine::gather(comm, &place);
    let threads = threads(&machine, args, &case);
    let machine = machine.with_threads(threads);
    if comm.is_root() && !args.quiet {
        machine.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    let watched = monitor::Options {
        memory_limit: args.memory_limit.or(case.performance.memory_limit),
        metrics: args.metrics.clone(),
        case: case.name.clone(),
    };
    let _watching = monitor::start(comm, &place, &watched);
    launch::start_threads(threads);
    let petsc = petsc_options(args);
    let session = crate::solver::start(comm)?;
    let details = args.profile || args.trace;
    if super::logs::records() {
        let events = if args.trace { trace::events_of_a_rank(comm.size()) } else { 0 };
        cluster::profile::start(cluster::profile::Settings { events });
        rayon::broadcast(|thread| {
            if thread.index() > 0 {
                cluster::profile::join(&format!("worker {}", thread.index()));
            }
        });
    }
    let on_node = machine.ranks_per_host.max as usize;
    let nodes = machine.n_hosts as usize;
    let stored = if comm.is_root() { machine::stored() } else { None };
    let stored = stored.as_ref();
    let expected = stored.and_then(|found| plan::expected(&case, found, comm.size(), threads, nodes));
    let mut events = vec![
        plan::ranks_event(comm.size(), args.ranks),
        plan::threads_event(threads, args.threads, &case, on_node),
    ];
    events.extend(expected.as_ref().map(plan::plan_event));
    let options = run::Options {
        threads,
        petsc,
        quiet: args.quiet,
        profile: details,
        no_nodes: true,
        machine: Some(machine),
        events,
        restart: args.restart.as_ref().map(|file| match file.to_str() {
            Some("auto") => run::Restart::Auto,
            _ => run::Restart::File(file.clone()),
        }),
        // Checked before.
        time_limit: time_limit(args).unwrap_or_default(),
        ..Default::default()
    };
    // What only the cli knows: the figures beside the machine's and the plan's.
    let (mut compared, mut profile) = (None, None);
    let outcome = run::run_and_conclude(comm, &case, &options, |report| {
        if report.status == run_json::Status::Solved {
            compared = stored.and_then(|found| plan::conclude(&case, found, expected, report, nodes));
        }
        profile = crate::study::bottlenecks::add(&case, stored, report);
    });
    drop(session);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            if args.report && comm.is_root() {
                write_report(&case.output_dir);
            }
            return Err(error);
        }
    };
    if comm.is_root() {
        if args.report {
            write_report(&case.output_dir);
        }
        if !args.quiet {
            print!("{}", terminal::summary(&outcome.report));
            print!("{}", compared.unwrap_or_default());
            if let Some(profile) = profile.filter(|_| details) {
                print!("{}{}", profile.text(), bottlenecks::text(&profile.bottlenecks));
            }
            println!("  in {}", case.output_dir.display());
        }
        if let Some(failure) = &outcome.failure {
            eprint!("{}", failure.text());
        }
    }
    Ok(outcome.failure.map_or(0, |f| f.kind.exit_code()))
}

/// Writes the page of a run, also of one that failed. That it cannot be written does not undo the run.
fn write_report(dir: &Path) {
    // A run that was refused its directory has left nothing there.
    if !dir.join(run_json::FILE_NAME).is_file() {
        return;
    }
    if let Err(error) = super::report::write(dir, None) {
        eprint!("warning: there is no report: {}", error.text());
    }
}

fn petsc_options(args: &RunArgs) -> String {
    args.petsc.join(" ")
}

/// Threads a rank: as asked for, or the cores that the ranks of this node leave each, no more than a task was given.
fn threads(machine: &Machine, args: &RunArgs, case: &Case) -> usize {
    if let Some(n) = args.threads.or(case.performance.threads) {
        return n.max(1);
    }
    if !run::performance::scales(&case.performance) {
        return 1;
    }
    let given = Allocation::of_job().and_then(|job| job.cores).unwrap_or(usize::MAX);
    (machine.cores_per_rank as usize).min(given).max(1)
}
