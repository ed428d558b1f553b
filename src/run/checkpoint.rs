//! When a checkpoint is written, what goes into it, and when a run stops.
//!
//! Imports its siblings. Start at [`Keeper`], which each run has one of. Everything that ranks could see
//! differently (a signal, a clock) is agreed on: between steps, and within a linear solve every so many
//! iterations, as many as take about a quarter of a second. A checkpoint is written by a thread of each rank while the run
//! goes on; one at a time is under way. It gets its name, and older ones go, at the first agreement that finds it
//! done on all ranks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::Comm;
use cluster::stop::{self, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Kind, RunError};
use super::restart::Fits;
use super::stage::{Run, Stage, State};
use super::steady::Options;
use crate::adapt::transfer;
use crate::assembly::Problem;
use crate::case::{Case, Interval};
use crate::mesh::Mesh;
use crate::mesh::forest::Forest;
use crate::mesh::saved::{Arrays, Entries, Outline};
use crate::output::checkpoint::{self, Table};
use crate::output::hdf::{Column, Pending, Written};
use crate::output::phases::{self, Phases};
use crate::space::Space;

/// Checkpoints kept where the case does not say.
const KEEP: usize = 2;

/// Seconds between agreements within a solve, at least and at most.
const PAUSE: [f64; 2] = [0.25, 1.0];

/// The mesh that a solution lives on, and what its driver remembers.
pub(super) struct Still<'s> {
    pub(super) structure: Structure<'s>,
    /// Steps done before the one that the solution belongs to.
    pub(super) step: u32,
    /// What the driver of several steps takes up again.
    pub(super) driver: Option<Value>,
}

/// What a mesh is made from again.
pub(super) enum Structure<'s> {
    /// A mesh that was not adapted.
    Mesh(&'s Mesh),
    /// An adaptive mesh.
    Forest(&'s Forest),
}

/// Values of a Lagrange function on the cells of the mesh.
pub(super) struct Nodal {
    pub(super) name: &'static str,
    pub(super) degree: usize,
    pub(super) n_components: usize,
    /// Values a cell, by block.
    pub(super) widths: Vec<usize>,
    /// At each owned cell's own nodes, block after block.
    pub(super) by_cell: Vec<f64>,
}

/// How a field is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FieldState {
    pub(super) name: String,
    pub(super) degree: usize,
    pub(super) n_components: usize,
    /// Values a cell, by block; of a forest one number for all.
    pub(super) widths: Vec<usize>,
}

/// The JSON part of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedState {
    pub(super) outline: Outline,
    pub(super) fields: Vec<FieldState>,
    pub(super) fits: Fits,
    /// The case with every default filled in.
    pub(super) case: String,
    pub(super) step: u32,
    pub(super) driver: Option<Value>,
    /// Why it was written.
    pub(super) reason: String,
}

/// What a run is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Go on.
    Nothing,
    /// Write a checkpoint and go on.
    Write,
    /// Write a checkpoint and stop.
    Stop(Reason),
}

/// A checkpoint that is being written.
struct UnderWay {
    pending: Pending,
    step: u32,
    reason: String,
    /// Seconds that the run was held up so far.
    held: f64,
}

/// Decides when checkpoints are written, and writes them.
pub(super) struct Keeper {
    /// Whether the run may write files; a run that may not is not stopped either.
    active: bool,
    /// The number of the next checkpoint.
    next: u32,
    begun: Instant,
    /// When the last was written, or the run began.
    last: Instant,
    /// When the job must have ended.
    deadline: Option<Instant>,
    /// Of the limit, whatever writing takes.
    margin: Duration,
    /// What the slowest took.
    longest: f64,
    /// Agreed on.
    stopping: Option<Reason>,
    /// Iterations until the next agreement, and between two.
    left: u32,
    stride: u32,
    agreed: Instant,
    fits: Option<Fits>,
    under_way: Option<UnderWay>,
    /// Whether what is under way was done on all ranks at the last agreement.
    ready: bool,
    /// Entries of `checkpoints` in run.json.
    pub(super) written: Vec<Value>,
    pub(super) warnings: Vec<String>,
}

impl Keeper {
    /// For a run that has just begun. Collective.
    pub(super) fn new(comm: &Comm, case: &Case, options: &Options) -> Keeper {
        let now = Instant::now();
        let active = !options.no_files;
        let first = (active && comm.is_root())
            .then(|| checkpoint::list(&case.output_dir).last().map_or(1, |last| last.0.saturating_add(1)));
        let limit = match options.time_limit {
            Some(limit) => Some(limit),
            None if active && comm.is_root() => stop::batch_time_left(),
            None => None,
        };
        Keeper {
            active,
            next: if active { comm.broadcast_value(0, first) } else { 1 },
            begun: now,
            last: now,
            deadline: limit.and_then(|limit| now.checked_add(limit)),
            margin: limit.map_or(Duration::ZERO, |limit| limit.mul_f64(0.05).min(Duration::from_secs(30))),
            longest: 0.0,
            stopping: None,
            left: 0,
            stride: 1,
            agreed: now,
            fits: None,
            under_way: None,
            ready: false,
            written: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Why the run stops, once agreed on.
    pub(super) fn stopping(&self) -> Option<Reason> {
        self.stopping
    }

    /// Why this rank would stop.
    fn wish(&self) -> u64 {
        let margin = self.margin + Duration::from_secs_f64(2.0 * self.longest);
        let late = self.deadline.is_some_and(|deadline| Instant::now() + margin >= deadline);
        let asked = stop::requested().map_or(0, Reason::code);
        asked.max(if late { Reason::TimeLimit.code() } else { 0 })
    }

    /// Agrees on what is due. `done`: steps done, between two of them. Collective.
    pub(super) fn poll(&mut self, comm: &Comm, case: &Case, done: Option<u32>) -> Due {
        if !self.active {
            return Due::Nothing;
        }
        let every = case.output.checkpoint.map(|c| c.every);
        let write = match (every, done) {
            (Some(Interval::Seconds(seconds)), _) => self.last.elapsed().as_secs_f64() >= seconds,
            (Some(Interval::Steps(n)), Some(done)) => done > 0 && (done as usize).is_multiple_of(n),
            _ => false,
        };
        // One clock decides; a signal may have come to any rank.
        let micros = self.agreed.elapsed().as_micros() as u64;
        let busy = self.under_way.as_ref().is_some_and(|file| !file.pending.is_done());
        let mut all = [self.wish(), u64::from(write && comm.is_root()), micros, u64::from(busy)];
        comm.max_slice(&mut all);
        self.ready = all[3] == 0;
        self.agreed = Instant::now();
        self.stopping = self.stopping.or(Reason::of(all[0]));
        let pause = all[2] as f64 * 1e-6;
        if done.is_none() {
            if pause < PAUSE[0] {
                self.stride = (2 * self.stride).min(1 << 20);
            } else if pause > PAUSE[1] {
                self.stride = (self.stride / 2).max(1);
            }
        }
        match self.stopping {
            Some(reason) => Due::Stop(reason),
            None if all[1] == 1 => Due::Write,
            None => Due::Nothing,
        }
    }

    /// As [`Keeper::poll`], once an iteration. Collective every so many of them.
    pub(super) fn iterated(&mut self, comm: &Comm, case: &Case) -> Due {
        if !self.active {
            return Due::Nothing;
        }
        if self.left > 0 {
            self.left -= 1;
            return Due::Nothing;
        }
        let due = self.poll(comm, case, None);
        self.left = self.stride - 1;
        due
    }

    /// A new solve: iterations take another time.
    pub(super) fn begin_solve(&mut self) {
        (self.left, self.stride, self.agreed) = (0, 1, Instant::now());
    }

    /// Writes a checkpoint, waits for it, and removes those that are no longer kept. Collective.
    ///
    /// # Errors
    /// What keeps it from being written, the same on every rank.
    fn write(
        &mut self,
        comm: &Comm,
        case: &Case,
        phases: &mut Phases,
        still: &Still,
        fields: Vec<Nodal>,
        reason: &str,
    ) -> Result<PathBuf, RunError> {
        let path = self.begin(comm, case, phases, still, fields, reason)?;
        self.finish(comm, case, phases)?;
        Ok(path)
    }

    /// Starts writing a checkpoint, when that before it is done. Collective.
    ///
    /// # Errors
    /// What keeps it from being written, the same on every rank.
    fn begin(
        &mut self,
        comm: &Comm,
        case: &Case,
        phases: &mut Phases,
        still: &Still,
        fields: Vec<Nodal>,
        reason: &str,
    ) -> Result<PathBuf, RunError> {
        self.settle(comm, case, phases);
        let (begin, _span) = (Instant::now(), phases::span("checkpoint"));
        let fits = match self.fits.take() {
            Some(fits) => fits,
            None => Fits::of(comm, case)?,
        };
        self.fits = Some(fits.clone());
        let Arrays { outline, arrays } = match still.structure {
            Structure::Mesh(mesh) => comm.agree(mesh.save())?,
            Structure::Forest(forest) => forest.save(),
        };
        let mut tables: Vec<Table> = arrays
            .into_iter()
            .map(|array| Table {
                name: array.name,
                width: array.width,
                column: match array.entries {
                    Entries::U32(v) => Column::U32(v),
                    Entries::U64(v) => Column::U64(v),
                    Entries::F64(v) => Column::F64(v),
                },
            })
            .collect();
        let mut kept = Vec::new();
        for Nodal { name, degree, n_components, mut widths, by_cell } in fields {
            let parts = match still.structure {
                Structure::Forest(_) => {
                    widths.truncate(1);
                    vec![by_cell]
                }
                Structure::Mesh(mesh) => {
                    let mut rest = by_cell.as_slice();
                    let mut parts = Vec::new();
                    for (block, width) in mesh.blocks.iter().zip(&widths) {
                        let (mine, others) = rest.split_at(block.n_owned * width);
                        parts.push(mine.to_vec());
                        rest = others;
                    }
                    parts
                }
            };
            for (b, (values, &width)) in parts.into_iter().zip(&widths).enumerate() {
                let column = Column::F64(values);
                tables.push(Table { name: format!("fields/{name}/{b}"), width, column });
            }
            kept.push(FieldState { name: name.to_owned(), degree, n_components, widths });
        }
        let state = SavedState {
            outline,
            fields: kept,
            fits,
            case: case.resolved(),
            step: still.step,
            driver: still.driver.clone(),
            reason: reason.to_owned(),
        };
        let state = serde_json::to_value(state).map_err(|e| {
            RunError::new(Kind::Bug, "checkpoint", format!("the state does not serialise: {e}"))
        })?;
        let path = checkpoint::file(&case.output_dir, self.next);
        let pending = checkpoint::begin(comm, &path, &state, tables)?;
        let held = begin.elapsed().as_secs_f64();
        (self.last, self.ready) = (Instant::now(), false);
        self.under_way = Some(UnderWay { pending, step: still.step, reason: reason.to_owned(), held });
        phases.add("checkpoint", held);
        phases.count("checkpoint");
        Ok(path)
    }

    /// Waits for the checkpoint under way, if there is one, and removes those that are no longer kept. Collective.
    ///
    /// # Errors
    /// What keeps it from being written, the same on every rank.
    fn finish(&mut self, comm: &Comm, case: &Case, phases: &mut Phases) -> Result<(), RunError> {
        let Some(UnderWay { pending, step, reason, held }) = self.under_way.take() else { return Ok(()) };
        let (begin, _span) = (Instant::now(), phases::span("checkpoint"));
        let path = pending.path().to_path_buf();
        let done = pending.finish();
        if done.is_ok() {
            // Only now is there one more than are kept.
            self.next += 1;
            if comm.is_root() {
                checkpoint::prune(&case.output_dir, case.output.checkpoint.map_or(KEEP, |c| c.keep));
            }
        }
        let waited = begin.elapsed().as_secs_f64();
        phases.add("checkpoint", waited);
        phases.count("checkpoint");
        let Written { worked, .. } = done?;
        let mut most = [held + worked.max(waited), held + waited];
        comm.max_slice(&mut most);
        let [seconds, held] = most;
        self.longest = self.longest.max(seconds);
        let bytes = comm.is_root().then(|| std::fs::metadata(&path).map_or(0, |m| m.len()));
        let bytes = comm.broadcast_value(0, bytes);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tracing::info!(file, step, seconds, held, bytes, reason, "checkpoint");
        self.written.push(json!({
            "file": file, "step": step, "seconds": seconds, "held": held, "bytes": bytes, "reason": reason,
            "at": self.begun.elapsed().as_secs_f64(),
        }));
        Ok(())
    }

    /// Ends the checkpoint under way, if there is one: waits for it. One that cannot be written leaves a warning.
    /// Collective.
    pub(super) fn settle(&mut self, comm: &Comm, case: &Case, phases: &mut Phases) {
        if let Err(error) = self.finish(comm, case, phases) {
            self.warn(comm, &error);
        }
    }

    /// As [`Keeper::settle`], if all ranks had written their parts at the last agreement. Collective.
    pub(super) fn settle_if_ready(&mut self, comm: &Comm, case: &Case, phases: &mut Phases) {
        if std::mem::take(&mut self.ready) {
            self.settle(comm, case, phases);
        }
    }

    fn warn(&mut self, comm: &Comm, error: &RunError) {
        // Not again at once.
        self.last = Instant::now();
        let warning = format!("no checkpoint was written: {error}");
        if comm.is_root() {
            eprintln!("warning: {warning}");
        }
        self.warnings.push(warning);
    }

    /// As [`Keeper::begin`], where the run goes on without a checkpoint if it must. Collective.
    pub(super) fn begin_if_possible(
        &mut self,
        comm: &Comm,
        case: &Case,
        phases: &mut Phases,
        still: &Still,
        fields: Vec<Nodal>,
        reason: &str,
    ) {
        if let Err(error) = self.begin(comm, case, phases, still, fields, reason) {
            self.warn(comm, &error);
        }
    }
}

impl Stage<'_, '_> {
    /// Writes the checkpoint with which a run ends that was asked to stop; the error that says so. `u` is the
    /// solution so far, at all local nodes. Collective.
    pub(super) fn stop(&mut self, still: &Still, u: Option<&[f64]>, c: usize) -> RunError {
        let by_cell = u.map(|u| transfer::to_cells(self.mesh, self.space, u, c));
        self.stop_with(still, by_cell, c)
    }

    /// As [`Stage::stop`], where all ranks agree that it is time to. Collective.
    ///
    /// # Errors
    /// That the run was stopped, or what keeps the checkpoint from being written.
    pub(super) fn stop_if_asked(
        &mut self,
        still: &Still,
        u: Option<&[f64]>,
        c: usize,
    ) -> Result<(), RunError> {
        let Run { keeper, phases, .. } = &mut *self.run;
        let due = keeper.poll(self.comm, self.case, None);
        keeper.settle_if_ready(self.comm, self.case, phases);
        match due {
            Due::Stop(_) => Err(self.stop(still, u, c)),
            _ => Ok(()),
        }
    }

    /// As [`Stage::stop`], with the solution at each owned cell's own nodes.
    pub(super) fn stop_with(&mut self, still: &Still, by_cell: Option<Vec<f64>>, c: usize) -> RunError {
        let reason = self.run.keeper.stopping().unwrap_or(Reason::TimeLimit);
        let fields = self.fields(by_cell, c);
        let Run { keeper, phases, .. } = &mut *self.run;
        match keeper.write(self.comm, self.case, phases, still, fields, &reason.to_string()) {
            Ok(path) => stopped(self.case, reason, &path),
            Err(error) => error,
        }
    }

    /// Starts writing a checkpoint, if that is possible, and goes on. Collective.
    pub(super) fn keep(&mut self, still: &Still, by_cell: Option<Vec<f64>>, c: usize, reason: &str) {
        let fields = self.fields(by_cell, c);
        let Run { keeper, phases, .. } = &mut *self.run;
        keeper.begin_if_possible(self.comm, self.case, phases, still, fields, reason);
    }

    /// Writes a checkpoint at the end of a run, where the case asks for some. Collective.
    pub(super) fn keep_end(&mut self, problem: &dyn Problem, state: &State, still: &Still) {
        if self.case.output.checkpoint.is_some() && !self.run.options.no_files {
            let c = problem.components();
            self.keep(still, Some(transfer::to_cells(self.mesh, self.space, &state.u, c)), c, "end");
        }
    }

    fn fields(&self, by_cell: Option<Vec<f64>>, c: usize) -> Vec<Nodal> {
        by_cell.map(|by_cell| Nodal::new(self.case, self.space, c, by_cell)).into_iter().collect()
    }
}

impl Nodal {
    /// The solution of a case.
    pub(super) fn new(case: &Case, space: &Space, n_components: usize, by_cell: Vec<f64>) -> Nodal {
        Nodal {
            name: case.physics.law.field(),
            degree: space.degree,
            n_components,
            widths: space.elements.iter().map(|element| element.n_nodes() * n_components).collect(),
            by_cell,
        }
    }
}

/// The end of a run that was stopped, with what its user does next.
fn stopped(case: &Case, reason: Reason, path: &Path) -> RunError {
    let message = format!(
        "stopped by {reason}; go on with `femdd run {} --restart {}`",
        case.file.display(),
        path.display()
    );
    RunError::new(Kind::Stopped, "stopped", message)
}
