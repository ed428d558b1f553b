//! The steady driver: mesh, space, conditions, matrix, solve, reports.

use std::time::{Duration, Instant};

use cluster::place::Machine;
use cluster::{Comm, monitor};

use super::adaptive::{self, Begin};
use super::checkpoint::{Keeper, Still, Structure};
use super::error::{Kind, RunError};
use super::mesh;
use super::performance;
use super::restart::{self, Restart, Resumed};
use super::stage::{self, Run, Solution};
use crate::adapt::transfer;
use crate::case::{Backend, Case, Initial, Place};
use crate::output::by_rank::ByRank;
use crate::output::events::Event;
use crate::output::phases::{self, Phases};
use crate::output::profile::{self, Waited};
use crate::output::run_json::{self, RunReport, Status, prepare_directory};
use crate::output::terminal::Progress;

/// How a run is carried out, beside what its case says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads of each rank.
    pub threads: usize,
    /// PETSc options of the command line, applied last.
    pub petsc: String,
    /// Whether rank 0 shows progress and a summary.
    pub quiet: bool,
    /// Whether PETSc's events are logged for the profile.
    pub profile: bool,
    /// What the ranks run on, for `machine` of `run.json`.
    pub machine: Option<Machine>,
    /// Decisions taken before the run, for `events` of `run.json`.
    pub events: Vec<Event>,
    /// Whether nothing is written: no directory, no `run.json`, no solution; for drivers in a program.
    /// Such a run writes no checkpoint and is not stopped by requests either.
    pub no_files: bool,
    /// Whether [`Outcome::nodes`] is not needed and stays empty.
    pub no_nodes: bool,
    /// From where the run goes on, instead of from its beginning.
    pub restart: Option<Restart>,
    /// The time after which the run is to have ended, with a checkpoint if it is not done; without, that of the
    /// batch job where it is known.
    pub time_limit: Option<Duration>,
}

/// What a run came to.
pub struct Outcome {
    /// As written to `run.json`, on every rank; what [`run_and_conclude`] adds on rank 0 alone.
    pub report: RunReport,
    /// The solution at owned nodes, Cartesian, component by component within a node.
    pub solution: Vec<f64>,
    /// Coordinates of the owned nodes.
    pub nodes: Vec<[f64; 3]>,
    /// A failure that left a partial answer: the solver did not converge.
    pub failure: Option<RunError>,
}

/// Runs a case and writes its directory. Collective.
///
/// # Errors
/// Whatever is wrong with the case, the mesh or the machine, the same on every rank; `run.json` says so
/// where it can be written. A solver that does not converge is an [`Outcome`] with a failure.
pub fn run_case(comm: &Comm, case: &Case, options: &Options) -> Result<Outcome, RunError> {
    run_and_conclude(comm, case, options, |_| ())
}

/// As [`run_case`]. Before `run.json` is written for the last time, `conclude` may add to it on rank 0 what its caller
/// knows, of a run that left an answer. Collective; `conclude` is not.
///
/// # Errors
/// As [`run_case`].
pub fn run_and_conclude(
    comm: &Comm,
    case: &Case,
    options: &Options,
    conclude: impl FnOnce(&mut RunReport),
) -> Result<Outcome, RunError> {
    let begin = Instant::now();
    let writes = !options.no_files && comm.is_root();
    let prepared = if writes { prepare_directory(&case.output_dir) } else { Ok(()) };
    comm.agree(prepared)?;
    cluster::profile::reset();
    let mut report = RunReport::started(&case.name, comm.size(), options.threads);
    if let Some(machine) = &options.machine {
        report.warnings.extend(machine.warnings.iter().cloned());
        report.extra.insert("machine".to_owned(), serde_json::to_value(machine).unwrap_or_default());
    }
    let path = case.output_dir.join(run_json::FILE_NAME);
    let resolved = case.output_dir.join("case.resolved.toml");
    let written = if writes {
        report
            .write_atomic(&path)
            .and_then(|()| run_json::write_file_atomic(&resolved, case.resolved().as_bytes()))
    } else {
        Ok(())
    };
    comm.agree(written)?;
    let mut phases = Phases::counting(comm);
    let mut keeper = Keeper::new(comm, case, options);
    let result = if options.profile { crate::solver::log_petsc().map_err(RunError::from) } else { Ok(()) };
    let result = result.and_then(|()| solve(comm, case, options, &mut report, &mut phases, &mut keeper));
    keeper.settle(comm, case, &mut phases);
    report.warnings.append(&mut keeper.warnings);
    report.extra.insert("checkpoints".to_owned(), std::mem::take(&mut keeper.written).into());
    let communication = phases.gather_counters(comm);
    let communication = serde_json::to_value(communication).unwrap_or_default();
    report.extra.insert("communication".to_owned(), communication);
    report.phases = phases.gather(comm);
    let peak = phases::peak_memory();
    report.memory_mb = phases::gather_memory(comm, peak);
    if let Some(used) = monitor::gather(comm) {
        report.extra.insert("monitor".to_owned(), serde_json::to_value(used).unwrap_or_default());
    }
    report.wall = begin.elapsed().as_secs_f64();
    let failure = match &result {
        Ok(solution) => solution.failure.as_ref(),
        Err(error) => Some(error),
    };
    report.error = failure.map(RunError::report);
    report.status = match failure {
        None => Status::Solved,
        Some(error) if error.kind == Kind::NotConverged => Status::NotConverged,
        Some(error) if error.kind == Kind::Stopped => Status::Stopped,
        Some(_) => Status::Failed,
    };
    let (traced, waited) = add_profile(comm, case, options, &mut report);
    let names: Vec<String> = report.phases.iter().map(|phase| phase.name.clone()).collect();
    report.by_rank = Some(ByRank::gather(comm, &phases, &names, waited.as_ref(), peak));
    if comm.is_root() && result.is_ok() {
        conclude(&mut report);
    }
    let written = if writes { report.write_atomic(&path) } else { Ok(()) };
    let written = comm.agree(written);
    let solution = result?;
    traced?;
    written?;
    Ok(Outcome { report, solution: solution.u, nodes: solution.nodes, failure: solution.failure })
}

/// Adds what was recorded, and writes the trace if one was asked for; also what this rank waited. Collective.
fn add_profile(
    comm: &Comm,
    case: &Case,
    options: &Options,
    report: &mut RunReport,
) -> (Result<(), RunError>, Option<Waited>) {
    let events = if options.profile { crate::solver::petsc_events().unwrap_or_default() } else { Vec::new() };
    let Some((mut profile, waited)) = profile::gather(comm, report.wall, &events) else {
        return (Ok(()), None);
    };
    let trace = case.output_dir.join(profile::trace::FILE_NAME);
    let traced = if options.no_files { Ok(None) } else { profile::trace::write(comm, &trace) };
    let traced = traced.map(|written| profile.trace = written);
    report.extra.insert("profile".to_owned(), serde_json::to_value(&profile).unwrap_or_default());
    (traced.map_err(RunError::from), Some(waited))
}

fn not_yet(case: &Case, place: Place, key: &str, what: &str) -> RunError {
    let message = format!("{what} is not supported yet in this version");
    RunError::at(case.error(place, key, message, None), &case.text)
}

/// Refuses what the case format has and this version does not.
fn check_supported(case: &Case) -> Result<(), RunError> {
    performance::check(case)?;
    if let Some(time) = &case.time {
        return Err(not_yet(case, time.place, "time", "time stepping"));
    }
    if let Some(Initial::Value(_, place)) = &case.initial {
        return Err(not_yet(case, *place, "initial.value", "starting from initial values"));
    }
    if case.solver.backend == Backend::Gpu {
        return Err(not_yet(case, Place::Default, "solver.backend", "the GPU backend"));
    }
    Ok(())
}

/// What the run begins with: the checkpoint that the command line or `[initial]` names, or the case's mesh.
fn begin(comm: &Comm, run: &mut Run) -> Result<Begin, RunError> {
    let case = run.case;
    let mut found = None;
    if let Some(restart) = &run.options.restart {
        found = restart::find(comm, case, restart, &mut run.report.warnings)?;
    }
    let initial = match &case.initial {
        Some(Initial::File(file, _)) if found.is_none() => Some(Restart::File(file.clone())),
        _ => None,
    };
    if let Some(initial) = &initial {
        found = restart::find(comm, case, initial, &mut run.report.warnings)?;
    }
    if let Some((path, read)) = found {
        let resumed = run.phases.time("checkpoint", || restart::resume(comm, case, &path, read))?;
        let Resumed { mesh, forest, partition, start, driver, exact, note } = resumed;
        // The state of a solution, not of a loop, is what `[initial]` takes.
        let (key, driver) = if initial.is_some() { ("initial", None) } else { ("restart", driver) };
        run.report.extra.insert(key.to_owned(), note);
        return Ok(Begin { mesh, forest, partition, start, driver, exact });
    }
    let mut loaded = mesh::load(comm, case, run.phases).map_err(|e| e.in_mesh(case))?;
    run.report.warnings.append(&mut loaded.warnings);
    let mesh::Loaded { mesh, partition, .. } = loaded;
    Ok(Begin { mesh, forest: None, partition, start: None, driver: None, exact: true })
}

fn solve(
    comm: &Comm,
    case: &Case,
    options: &Options,
    report: &mut RunReport,
    phases: &mut Phases,
    keeper: &mut Keeper,
) -> Result<Solution, RunError> {
    check_supported(case)?;
    options.events.iter().cloned().chain(performance::decisions(case)).for_each(|e| report.event(e));
    let progress = if options.quiet { Progress::silent() } else { Progress::new(comm) };
    let mut run = Run { comm, case, options, report, phases, progress, keeper };
    let line = run.progress.phase("mesh");
    let begin = begin(comm, &mut run)?;
    let Begin { mesh, partition, .. } = &begin;
    let (cells, method) = (mesh.n_cells_global, partition.method.as_str());
    tracing::info!(cells, owned = mesh.n_owned_cells(), method, imbalance = partition.imbalance, "mesh");
    run.report.event(mesh::dealt_event(comm, case, mesh, partition));
    run.report.partition = Some(partition.clone());
    drop(line);
    if let Some(adapt) = &case.adapt {
        return adaptive::run(&mut run, begin, adapt).map_err(|e| e.in_mesh(case));
    }
    let Begin { mesh, forest, mut start, .. } = begin;
    let structure = forest.as_ref().map_or(Structure::Mesh(&mesh), Structure::Forest);
    let still = Still { structure, step: 0, driver: None };
    let mut solution = None;
    stage::on_mesh(&mut run, &mesh, &mut |stage, problem, materials, conditions| {
        let start = start
            .take()
            .map(|by_cell| transfer::from_cells(stage.mesh, stage.space, &by_cell, problem.components()));
        let state = stage.solve(problem, materials, conditions, start, &still)?;
        stage.keep_end(problem, &state, &still);
        solution = Some(stage.finish(problem, state)?);
        Ok(())
    })?;
    Ok(solution.expect("a bound problem is solved"))
}
