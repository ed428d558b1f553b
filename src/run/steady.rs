//! The steady driver: mesh, space, conditions, matrix, solve, reports.

use std::time::Instant;

use cluster::Comm;

use super::adaptive;
use super::error::{Kind, RunError};
use super::mesh;
use super::performance;
use super::stage::{self, Run, Solution};
use crate::case::{Backend, Case, Place};
use crate::output::events::Event;
use crate::output::phases::{self, Phases};
use crate::output::profile;
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
    /// Decisions taken before the run, for `events` of `run.json`.
    pub events: Vec<Event>,
    /// Whether nothing is written: no directory, no `run.json`, no solution; for drivers in a program.
    pub no_files: bool,
}

/// What a run came to.
pub struct Outcome {
    /// As written to `run.json`, on every rank.
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
    let begin = Instant::now();
    let writes = !options.no_files && comm.is_root();
    let prepared = if writes { prepare_directory(&case.output_dir) } else { Ok(()) };
    comm.agree(prepared)?;
    cluster::profile::reset();
    let mut report = RunReport::started(&case.name, comm.size(), options.threads);
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
    let result = if options.profile { crate::solver::log_petsc().map_err(RunError::from) } else { Ok(()) };
    let result = result.and_then(|()| solve(comm, case, options, &mut report, &mut phases));
    let communication = phases.gather_counters(comm);
    let communication = serde_json::to_value(communication).unwrap_or_default();
    report.extra.insert("communication".to_owned(), communication);
    report.phases = phases.gather(comm);
    report.memory_mb = phases::gather_memory(comm);
    report.wall = begin.elapsed().as_secs_f64();
    let failure = match &result {
        Ok(solution) => solution.failure.as_ref(),
        Err(error) => Some(error),
    };
    report.error = failure.map(RunError::report);
    report.status = match failure {
        None => Status::Solved,
        Some(error) if error.kind == Kind::NotConverged => Status::NotConverged,
        Some(_) => Status::Failed,
    };
    let traced = add_profile(comm, case, options, &mut report);
    let written = if writes { report.write_atomic(&path) } else { Ok(()) };
    let written = comm.agree(written);
    let solution = result?;
    traced?;
    written?;
    Ok(Outcome { report, solution: solution.u, nodes: solution.nodes, failure: solution.failure })
}

/// Adds what was recorded, and writes the trace if one was asked for. Collective.
fn add_profile(comm: &Comm, case: &Case, options: &Options, report: &mut RunReport) -> Result<(), RunError> {
    let events = if options.profile { crate::solver::petsc_events().unwrap_or_default() } else { Vec::new() };
    let Some(mut profile) = profile::gather(comm, report.wall, &events) else { return Ok(()) };
    let trace = case.output_dir.join(profile::trace::FILE_NAME);
    let traced = if options.no_files { Ok(None) } else { profile::trace::write(comm, &trace) };
    let traced = traced.map(|written| profile.trace = written);
    report.extra.insert("profile".to_owned(), serde_json::to_value(&profile).unwrap_or_default());
    Ok(traced?)
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
    if case.initial.is_some() {
        return Err(not_yet(case, Place::Default, "initial", "starting from initial values"));
    }
    if case.solver.backend == Backend::Gpu {
        return Err(not_yet(case, Place::Default, "solver.backend", "the GPU backend"));
    }
    if case.output.checkpoint.is_some() {
        return Err(not_yet(case, Place::Default, "output.checkpoint", "writing checkpoints"));
    }
    Ok(())
}

fn solve(
    comm: &Comm,
    case: &Case,
    options: &Options,
    report: &mut RunReport,
    phases: &mut Phases,
) -> Result<Solution, RunError> {
    check_supported(case)?;
    options.events.iter().cloned().chain(performance::decisions(case)).for_each(|e| report.event(e));
    let progress = if options.quiet { Progress::silent() } else { Progress::new(comm) };
    let mut run = Run { comm, case, options, report, phases, progress };
    let line = run.progress.phase("mesh");
    let mut loaded = mesh::load(comm, case, run.phases).map_err(|e| e.in_mesh(case))?;
    run.report.warnings.append(&mut loaded.warnings);
    let mesh::Loaded { mesh, partition, .. } = &loaded;
    let (cells, method) = (mesh.n_cells_global, partition.method.as_str());
    tracing::info!(cells, owned = mesh.n_owned_cells(), method, imbalance = partition.imbalance, "mesh");
    run.report.event(mesh::dealt_event(comm, case, &loaded));
    run.report.partition = Some(partition.clone());
    drop(line);
    if let Some(adapt) = &case.adapt {
        return adaptive::run(&mut run, loaded, adapt).map_err(|e| e.in_mesh(case));
    }
    let mesh = loaded.mesh;
    let mut solution = None;
    stage::on_mesh(&mut run, &mesh, &mut |stage, problem, materials, conditions| {
        let state = stage.solve(problem, materials, conditions, None)?;
        solution = Some(stage.finish(problem, state)?);
        Ok(())
    })?;
    Ok(solution.expect("a bound problem is solved"))
}
