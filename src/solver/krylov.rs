//! One solve by one method, to the true residual.
//!
//! Start at [`run`]: it builds what the method needs and hands on to [`ours`] (conjugate gradients with a
//! multigrid of ours) or [`petsc`] (everything else).

use std::time::{Duration, Instant};

use ::petsc::{Ksp, Mat, Reason, Vec as PetscVec, Watch};
use tracing::span::EnteredSpan;

use super::assembled::{Stored, null_space};
use super::cg::{self, Work};
use super::multigrid::{self, Multigrid};
use super::{Error, Method, Options, System, session};

/// How often the iteration may start again from its own result when the residual it tracks has drifted
/// from the true one.
const RESTARTS: u32 = 5;

/// How a solve ended.
pub(super) struct Outcome {
    pub(super) iterations: u32,
    pub(super) relative_residual: f64,
    pub(super) converged: bool,
    pub(super) reason: Reason,
    /// Why the preconditioner failed, if it did.
    pub(super) failure: Option<String>,
    /// What PETSc really used, for the method `petsc`.
    pub(super) types: (String, String),
    pub(super) set_up: Duration,
    pub(super) solve: Duration,
}

/// What is to be solved, and how far.
pub(super) struct Task<'a> {
    /// The right-hand side, without a part in the null space.
    pub(super) b: &'a [f64],
    /// Its norm.
    pub(super) norm_b: f64,
    /// The norm that the tolerance is relative to.
    pub(super) norm: f64,
    /// An orthonormal basis of the null space.
    pub(super) null: &'a [Vec<f64>],
    pub(super) options: &'a Options,
    pub(super) max_iterations: u32,
}

/// The method's options, in PETSc's database while this lives. What the user gave is left alone.
struct Applied(Vec<&'static str>);

impl Applied {
    fn new(options: Vec<(&'static str, String)>) -> Result<Applied, Error> {
        let mut applied = Applied(Vec::with_capacity(options.len()));
        for (name, value) in options {
            if !::petsc::options_has(name)? {
                ::petsc::options_set(name, Some(&value))?;
                applied.0.push(name);
            }
        }
        Ok(applied)
    }
}

impl Drop for Applied {
    fn drop(&mut self) {
        for name in &self.0 {
            // An option that cannot be removed is one that is gone.
            let _ = ::petsc::options_clear(name);
        }
    }
}

/// A phase of the run, for logs, profile and monitor. It ends when the value is dropped.
type Span = (EnteredSpan, cluster::monitor::Phase);

fn phase(name: &'static str) -> Span {
    (tracing::info_span!("phase", name).entered(), cluster::monitor::enter(name))
}

/// Decides when to stop starting again.
struct Restarts {
    target: f64,
    norm: f64,
    /// The norm at which the method stops, in the norm that it watches.
    watched: f64,
    relative_residual: f64,
    n: u32,
}

impl Restarts {
    fn new(task: &Task) -> Restarts {
        // Absolute, so that a good initial guess counts; the iteration must not end relative to its start.
        let target = task.options.tolerance * task.norm;
        Restarts { target, norm: task.norm, watched: target, relative_residual: f64::INFINITY, n: 0 }
    }

    /// Whether to go on, given the true residual's norm.
    fn again(&mut self, true_norm: f64, reason: Reason, iterations_left: u32) -> bool {
        let previous = std::mem::replace(&mut self.relative_residual, true_norm / self.norm);
        self.n += 1;
        let stalled = self.relative_residual.is_nan() || self.relative_residual > 0.5 * previous;
        // Methods that watch another norm (MINRES) stop early by its distance from the true one.
        self.watched *= (0.5 * self.target / true_norm).clamp(1e-4, 1.0);
        true_norm > self.target && reason.converged() && self.n <= RESTARTS && !stalled && iterations_left > 0
    }
}

/// Solves `A x = b` from zero. Collective.
pub(super) fn run(
    system: &System,
    stored: &mut Stored,
    method: &Method,
    task: &Task,
    x: &mut [f64],
    watch: &mut Watch,
) -> Result<Outcome, Error> {
    let began = Instant::now();
    let span = phase("pc_setup");
    let user = task.options.petsc.trim();
    let alone = method.is_ours() && method.is_cg() && user.is_empty();
    let with_petsc = !alone || session::options_given();
    if with_petsc {
        session::need(system.comm)?;
    }
    if !user.is_empty() {
        ::petsc::options_insert(user)?;
    }
    // A preconditioner among PETSc's options wins over ours, as all of them do.
    if !method.is_ours() || with_petsc && ::petsc::options_has("-pc_type")? {
        let _applied = Applied::new(method.petsc_options(system, task.options))?;
        let null = null_space(system, task.null.to_vec())?;
        let mat = stored.petsc(system, null.as_ref(), method.uses_near_null())?;
        return petsc(system, mat, None, task, x, watch, (began, span));
    }
    let made = stored.make_ours(system).map_err(|error| error.to_string());
    let multigrid = match made.and_then(|()| multigrid(system, stored, method)) {
        Ok(multigrid) => multigrid,
        Err(error) => {
            return Ok(Outcome {
                iterations: 0,
                relative_residual: f64::INFINITY,
                converged: false,
                reason: Reason::DivergedPreconditionerFailed,
                failure: Some(error),
                types: (String::new(), String::new()),
                set_up: began.elapsed(),
                solve: Duration::ZERO,
            });
        }
    };
    // Options that wait for PETSc are for its iteration: monitors, another method, tolerances.
    if !with_petsc || method.is_cg() && ::petsc::options_left()?.is_empty() {
        drop(span);
        return Ok(ours(system, stored, multigrid, task, x, watch, began.elapsed()));
    }
    let _applied = Applied::new(method.petsc_options(system, task.options))?;
    let operator = std::rc::Rc::clone(stored.operator());
    let mat = Mat::shell(system.comm.raw(), system.n_owned, system.n_global, move |x, y| {
        operator.borrow_mut().apply(x, y);
        Ok(())
    })?;
    mat.set_symmetric(system.problem.symmetric)?;
    mat.set_null_space(null_space(system, task.null.to_vec())?.as_ref())?;
    petsc(system, &mat, Some(multigrid), task, x, watch, (began, span))
}

/// Sets up our multigrid; the error is a sentence. Collective, and so is its error.
fn multigrid(system: &System, stored: &Stored, method: &Method) -> Result<Multigrid, String> {
    let transfer = (method.preconditioner() == Some("pmg")).then(|| (system.problem.transfer)());
    let near_null = if transfer.is_some() { Vec::new() } else { (system.problem.near_null)() };
    let mut operator = stored.borrow();
    let made = Multigrid::new(multigrid::Input {
        comm: system.comm,
        map: system.map,
        halo: system.halo,
        matrix: operator.matrix(),
        near_null,
        transfer,
        options: multigrid::Options {
            singular: !system.problem.null.is_empty(),
            // Three nodes across.
            aggregate: if system.problem.dimension < 3 { 9 } else { 30 },
            ..multigrid::Options::default()
        },
    });
    operator.slice();
    let failed = system.comm.any(made.is_err());
    match made {
        Ok(multigrid) if !failed => {
            let summary = multigrid.summary();
            let (levels, complexity) = (summary.levels.len(), summary.operator_complexity);
            tracing::info!(levels, complexity, bytes = summary.bytes, "multigrid");
            Ok(multigrid)
        }
        Ok(_) => Err("the set-up failed on another rank".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Conjugate gradients with a multigrid of ours.
fn ours(
    system: &System,
    stored: &Stored,
    mut multigrid: Multigrid,
    task: &Task,
    x: &mut [f64],
    watch: &mut Watch,
    set_up: Duration,
) -> Outcome {
    let began = Instant::now();
    let _span = phase("solve");
    let operator = &mut *stored.borrow();
    let mut work = Work::new(system.comm, system.n_owned);
    work.r.copy_from_slice(task.b);
    let mut restarts = Restarts::new(task);
    let mut iterations = 0;
    let mut norm = task.norm_b;
    loop {
        let before = iterations;
        let ended = cg::iterate(
            operator,
            &mut |r, norm, z| multigrid.apply_to(r, norm, z),
            task.null,
            &mut work,
            x,
            norm,
            restarts.watched,
            task.max_iterations - before,
            &mut |it, r, iterate| watch(before + it, r / task.norm, iterate),
        );
        iterations += ended.iterations;
        norm = work.residual(operator, task.b, x);
        if !restarts.again(norm, ended.reason, task.max_iterations - iterations) {
            return Outcome {
                iterations,
                relative_residual: restarts.relative_residual,
                converged: restarts.relative_residual <= task.options.tolerance,
                reason: ended.reason,
                failure: None,
                types: (String::new(), String::new()),
                set_up,
                solve: began.elapsed(),
            };
        }
    }
}

/// PETSc's iteration, as its options have it, with a multigrid of ours if one is given.
fn petsc(
    system: &System,
    mat: &Mat,
    multigrid: Option<Multigrid>,
    task: &Task,
    solution: &mut [f64],
    watch: &mut Watch,
    (began, span): (Instant, Span),
) -> Result<Outcome, Error> {
    let comm = system.comm.raw();
    let mut restarts = Restarts::new(task);
    let mut ksp = Ksp::new(comm)?;
    ksp.set_operators(mat, mat)?;
    ksp.set_tolerances(1e-50, restarts.watched, 1e10, task.max_iterations)?;
    ksp.set_initial_guess_nonzero(true)?;
    ksp.set_from_options()?;
    if let Some(mut multigrid) = multigrid {
        ksp.set_shell_preconditioner("multigrid", system.problem.symmetric, move |r, z| {
            multigrid.apply(r, z);
            Ok(())
        })?;
    }
    {
        let _span = tracing::debug_span!("petsc set-up").entered();
        ksp.set_up()?;
    }
    drop(span);
    let set_up = began.elapsed();

    let began = Instant::now();
    let _span = phase("solve");
    let b = PetscVec::from_slice(comm, task.b, system.n_global)?;
    let mut x = PetscVec::new(comm, system.n_owned, system.n_global)?;
    let mut residual = PetscVec::new(comm, system.n_owned, system.n_global)?;
    let mut iterations = 0;
    let mut outcome;
    loop {
        let before = iterations;
        {
            let _span = tracing::debug_span!("petsc solve").entered();
            outcome = ksp.solve_watched(&b, &mut x, &mut |it, r, iterate| {
                watch(before + it, r / task.norm, iterate)
            })?;
        }
        iterations += outcome.iterations;
        mat.mult(&x, &mut residual)?;
        residual.aypx(-1.0, &b)?;
        let left = task.max_iterations.saturating_sub(iterations);
        if !restarts.again(residual.norm2()?, outcome.reason, left) {
            break;
        }
        ksp.set_tolerances(1e-50, restarts.watched, 1e10, left)?;
    }
    x.read(|x| solution.copy_from_slice(x))?;
    let krylov = ksp.type_name()?;
    let pc = ksp.pc()?;
    Ok(Outcome {
        iterations,
        relative_residual: restarts.relative_residual,
        converged: restarts.relative_residual <= task.options.tolerance,
        reason: outcome.reason,
        failure: pc.failure()?.map(str::to_owned),
        types: (krylov, pc.type_name()?),
        set_up,
        solve: began.elapsed(),
    })
}
