//! One solve by one method, to the true residual.

use std::time::{Duration, Instant};

use petsc::{Ksp, Reason, Vec as PetscVec};

use super::{Error, Method, Options, System};

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
    pub(super) failure: Option<&'static str>,
    /// What PETSc really used, for the method `petsc`.
    pub(super) types: (String, String),
    pub(super) set_up: Duration,
    pub(super) solve: Duration,
}

/// The method's options, in PETSc's database while this lives. What the user gave is left alone.
struct Applied(Vec<&'static str>);

impl Applied {
    fn new(options: Vec<(&'static str, String)>, user: &str) -> Result<Applied, Error> {
        if !user.is_empty() {
            petsc::options_insert(user)?;
        }
        let mut applied = Applied(Vec::with_capacity(options.len()));
        for (name, value) in options {
            if !petsc::options_has(name)? {
                petsc::options_set(name, Some(&value))?;
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
            let _ = petsc::options_clear(name);
        }
    }
}

/// Solves `A x = b` from the guess in `x`. Collective.
#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    system: &System,
    method: &Method,
    b: &PetscVec,
    norm: f64,
    x: &mut PetscVec,
    opt: &Options,
    max_iterations: u32,
    progress: &mut dyn FnMut(u32, f64),
) -> Result<Outcome, Error> {
    let began = Instant::now();
    let _applied = Applied::new(method.petsc_options(system, opt), &opt.petsc)?;
    let mut ksp = Ksp::new(system.comm.raw())?;
    ksp.set_operators(system.matrix, system.matrix)?;
    // Absolute, so that a good initial guess counts; the iteration must not end relative to its start.
    let target = opt.tolerance * norm;
    let mut watched = target;
    ksp.set_tolerances(1e-50, watched, 1e10, max_iterations)?;
    ksp.set_initial_guess_nonzero(true)?;
    ksp.set_from_options()?;
    ksp.set_up()?;
    let set_up = began.elapsed();

    let began = Instant::now();
    let mut residual = PetscVec::new(system.comm.raw(), system.n_owned, system.n_global)?;
    let mut iterations = 0;
    let mut relative_residual = f64::INFINITY;
    let mut outcome;
    let mut restart = 0;
    loop {
        let before = iterations;
        outcome = ksp.solve_monitored(b, x, &mut |it, r| progress(before + it, r / norm))?;
        iterations += outcome.iterations;
        system.matrix.mult(x, &mut residual)?;
        residual.aypx(-1.0, b)?;
        let true_norm = residual.norm2()?;
        let previous = std::mem::replace(&mut relative_residual, true_norm / norm);
        restart += 1;
        let stalled = relative_residual.is_nan() || relative_residual > 0.5 * previous;
        if true_norm <= target
            || !outcome.reason.converged()
            || restart > RESTARTS
            || stalled
            || iterations >= max_iterations
        {
            break;
        }
        // Methods that watch another norm (MINRES) stop early by its distance from the true one.
        watched *= (0.5 * target / true_norm).clamp(1e-4, 1.0);
        ksp.set_tolerances(1e-50, watched, 1e10, max_iterations - iterations)?;
    }
    let krylov = ksp.type_name()?;
    let pc = ksp.pc()?;
    Ok(Outcome {
        iterations,
        relative_residual,
        converged: relative_residual <= opt.tolerance,
        reason: outcome.reason,
        failure: pc.failure()?,
        types: (krylov, pc.type_name()?),
        set_up,
        solve: began.elapsed(),
    })
}
