//! Krylov solvers.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use mpi::ffi::MPI_Comm;

use crate::error::{c_string, callback, check, text};
use crate::mat::Handle;
use crate::session::is_running;
use crate::{Error, Mat, Pc, PetscInt, Reason, Result, Side, Vec, sys, to_petsc_int};

/// The norm that the iteration watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// None: a fixed number of iterations.
    None,
    /// Of the preconditioned residual.
    Preconditioned,
    /// Of the residual `b - A x`.
    Unpreconditioned,
    /// The one of the method's own inner product.
    Natural,
}

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolveOutcome {
    /// Iterations made.
    pub iterations: u32,
    /// Why it ended.
    pub reason: Reason,
    /// The last residual norm, in the norm that the iteration watches.
    pub residual: f64,
}

/// Called after each iteration and before the first with its number, the residual's norm, and what makes this rank's
/// entries of the present iterate, a collective call. Whether the solve is to stop, the same on all ranks.
pub type Watch<'w> = dyn FnMut(u32, f64, &mut dyn FnMut() -> std::vec::Vec<f64>) -> bool + 'w;

/// What the monitor needs of the solve in progress.
struct Watched<'a, 'w> {
    watch: &'a mut Watch<'w>,
    stopped: bool,
    /// What making an iterate came to, where it failed.
    failed: Result<()>,
}

/// Where the monitor finds the [`Watched`] of the solve in progress, on the stack of [`Ksp::solve_watched`]: null
/// between solves.
type MonitorSlot = Cell<*mut c_void>;

/// A Krylov solver and its preconditioner. Keeps its matrices alive.
pub struct Ksp {
    raw: sys::KSP,
    monitor: Box<MonitorSlot>,
    operators: Option<(Rc<Handle>, Rc<Handle>)>,
    /// What the shell preconditioner's context points to.
    shell: Option<Box<dyn std::any::Any>>,
}

impl Drop for Ksp {
    fn drop(&mut self) {
        if is_running() {
            // SAFETY: owned and destroyed once, before the matrices, the monitor and the shell that it points to.
            let _ = check(unsafe { sys::KSPDestroy(&mut self.raw) });
        }
    }
}

/// Called by PETSc after each iteration.
unsafe extern "C" fn monitor(
    ksp: sys::KSP,
    it: PetscInt,
    norm: f64,
    context: *mut c_void,
) -> sys::PetscErrorCode {
    callback(|| {
        // SAFETY: the context is the slot of a live solver; what it holds is null or a pointer to a record on the
        // stack of the solve that is calling.
        let watched = unsafe { (*context.cast::<MonitorSlot>()).get().cast::<Watched>().as_mut() };
        let Some(Watched { watch, stopped, failed }) = watched else { return Ok(()) };
        let mut make = || {
            let iterate = iterate(ksp);
            iterate.unwrap_or_else(|error| {
                *failed = Err(error);
                std::vec::Vec::new()
            })
        };
        if watch(it as u32, norm, &mut make) && !*stopped {
            *stopped = true;
            // No more iterations are allowed: the method ends in order, with its solution made. PETSc looks at the
            // other tolerances in the first iteration only.
            // SAFETY: the live solver that is calling; negative numbers keep what is set.
            check(unsafe { sys::KSPSetTolerances(ksp, -2.0, -2.0, -2.0, it.max(1)) })?;
        }
        std::mem::replace(failed, Ok(()))
    })
}

/// This rank's entries of the present iterate of a solve in progress. Collective.
fn iterate(ksp: sys::KSP) -> Result<std::vec::Vec<f64>> {
    let (mut x, mut made, mut v): (sys::Vec, sys::Vec, sys::Vec) = (null_mut(), null_mut(), null_mut());
    let mut n: PetscInt = 0;
    let mut entries: *const f64 = std::ptr::null();
    // SAFETY: a live solver within a solve, whose solution vector is copied in shape. Methods with a right
    // preconditioner make the solution in a vector of the caller only. Its entries are read before they are given
    // back, and it is destroyed once.
    unsafe {
        check(sys::KSPGetSolution(ksp, &mut x))?;
        check(sys::VecDuplicate(x, &mut made))?;
        let copied = (|| {
            check(sys::KSPBuildSolution(ksp, made, &mut v))?;
            check(sys::VecGetLocalSize(v, &mut n))?;
            check(sys::VecGetArrayRead(v, &mut entries))?;
            let copy = match n {
                0 => std::vec::Vec::new(),
                _ => std::slice::from_raw_parts(entries, n as usize).to_vec(),
            };
            check(sys::VecRestoreArrayRead(v, &mut entries))?;
            Ok(copy)
        })();
        check(sys::VecDestroy(&mut made))?;
        copied
    }
}

impl Ksp {
    /// A solver with PETSc's defaults, that reports a failure to converge as an outcome. Collective.
    pub fn new(comm: MPI_Comm) -> Result<Ksp> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let mut raw: sys::KSP = null_mut();
        // SAFETY: one handle written.
        check(unsafe { sys::KSPCreate(comm, &mut raw) })?;
        let ksp = Ksp { raw, monitor: Box::new(Cell::new(null_mut())), operators: None, shell: None };
        let context: *const MonitorSlot = &*ksp.monitor;
        // SAFETY: the slot is on the heap and outlives the solver.
        check(unsafe { sys::KSPMonitorSet(raw, Some(monitor), context.cast_mut().cast(), None) })?;
        Ok(ksp)
    }

    /// The matrix of the system, and the one the preconditioner is made from (often the same). Collective.
    pub fn set_operators(&mut self, matrix: &Mat, preconditioner: &Mat) -> Result<()> {
        // SAFETY: live handles; the references below keep their arrays alive as long as the solver.
        check(unsafe { sys::KSPSetOperators(self.raw, matrix.raw(), preconditioner.raw()) })?;
        self.operators = Some((matrix.0.clone(), preconditioner.0.clone()));
        Ok(())
    }

    /// Chooses the method by PETSc's name: `cg`, `gmres`, `bcgs`, `minres`, `preonly`, ...
    ///
    /// # Errors
    /// [`Error::Petsc`] for a name this PETSc does not have.
    pub fn set_type(&mut self, name: &str) -> Result<()> {
        let name = c_string(name);
        // SAFETY: live handle; the string is copied.
        check(unsafe { sys::KSPSetType(self.raw, name.as_ptr()) })
    }

    /// The method in use, by PETSc's name.
    pub fn type_name(&self) -> Result<String> {
        let mut name = std::ptr::null();
        // SAFETY: live handle; the string lives as long as the type is not changed.
        unsafe {
            check(sys::KSPGetType(self.raw, &mut name))?;
            Ok(text(name))
        }
    }

    /// The prefix of this solver's options.
    pub fn set_prefix(&mut self, prefix: &str) -> Result<()> {
        let prefix = c_string(prefix);
        // SAFETY: live handle; the string is copied.
        check(unsafe { sys::KSPSetOptionsPrefix(self.raw, prefix.as_ptr()) })
    }

    /// Relative, absolute and divergence tolerance, and the iteration limit.
    pub fn set_tolerances(
        &mut self,
        relative: f64,
        absolute: f64,
        divergence: f64,
        max_iterations: u32,
    ) -> Result<()> {
        let max = to_petsc_int(max_iterations, "the iteration limit")?;
        // SAFETY: live handle.
        check(unsafe { sys::KSPSetTolerances(self.raw, relative, absolute, divergence, max) })
    }

    /// The norm that the iteration watches.
    pub fn set_norm(&mut self, norm: Norm) -> Result<()> {
        let norm = match norm {
            Norm::None => sys::KSPNormType_KSP_NORM_NONE,
            Norm::Preconditioned => sys::KSPNormType_KSP_NORM_PRECONDITIONED,
            Norm::Unpreconditioned => sys::KSPNormType_KSP_NORM_UNPRECONDITIONED,
            Norm::Natural => sys::KSPNormType_KSP_NORM_NATURAL,
        };
        // SAFETY: live handle.
        check(unsafe { sys::KSPSetNormType(self.raw, norm) })
    }

    /// The side of the preconditioner.
    pub fn set_side(&mut self, side: Side) -> Result<()> {
        let side = match side {
            Side::Left => sys::PCSide_PC_LEFT,
            Side::Right => sys::PCSide_PC_RIGHT,
        };
        // SAFETY: live handle.
        check(unsafe { sys::KSPSetPCSide(self.raw, side) })
    }

    /// Starts from the `x` given to a solve instead of zero.
    pub fn set_initial_guess_nonzero(&mut self, nonzero: bool) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::KSPSetInitialGuessNonzero(self.raw, sys::PetscBool::from(nonzero)) })
    }

    /// Takes what the options database has for this solver and its preconditioner. Collective.
    pub fn set_from_options(&mut self) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::KSPSetFromOptions(self.raw) })
    }

    /// Sets up method and preconditioner; a solve does so otherwise. Collective.
    pub fn set_up(&mut self) -> Result<()> {
        if self.operators.is_none() {
            return Err(Error::invalid("a solver without a matrix"));
        }
        // SAFETY: live handle with operators.
        check(unsafe { sys::KSPSetUp(self.raw) })
    }

    /// Remembers the residual norms of the next solves; see [`Ksp::residual_history`].
    pub fn keep_residual_history(&mut self) -> Result<()> {
        // -1 is PETSC_DECIDE: PETSc allocates, 10000 norms in current versions.
        // SAFETY: live handle; null lets PETSc own the array.
        check(unsafe { sys::KSPSetResidualHistory(self.raw, null_mut(), -1, sys::PetscBool::from(true)) })
    }

    /// The residual norms of the last solve, the initial one first.
    pub fn residual_history(&self) -> Result<std::vec::Vec<f64>> {
        let mut p: *const f64 = std::ptr::null();
        let mut n: PetscInt = 0;
        // SAFETY: live handle; PETSc's array of `n` numbers is copied at once.
        unsafe {
            check(sys::KSPGetResidualHistory(self.raw, &mut p, &mut n))?;
            Ok(if p.is_null() {
                std::vec::Vec::new()
            } else {
                std::slice::from_raw_parts(p, n as usize).to_vec()
            })
        }
    }

    /// The preconditioner.
    pub fn pc(&mut self) -> Result<Pc<'_>> {
        let mut pc: sys::PC = null_mut();
        // SAFETY: live handle; the preconditioner belongs to the solver, which `Pc` borrows.
        check(unsafe { sys::KSPGetPC(self.raw, &mut pc) })?;
        Ok(Pc::borrowed(pc))
    }

    /// The rows of this rank.
    pub(crate) fn n_local(&self) -> Result<usize> {
        match &self.operators {
            Some((matrix, _)) => Ok(Mat(matrix.clone()).n_local()),
            None => Err(Error::invalid("a solver without a matrix")),
        }
    }

    /// Keeps what the context of a shell preconditioner points to as long as the solver; the state before it
    /// goes.
    pub(crate) fn keep_shell(&mut self, state: Box<dyn std::any::Any>) {
        self.shell = Some(state);
    }

    /// Solves `A x = b`. Not converging is an outcome, not an error. Collective.
    pub fn solve(&mut self, b: &Vec, x: &mut Vec) -> Result<SolveOutcome> {
        self.solve_monitored(b, x, &mut |_, _| ())
    }

    /// As [`Ksp::solve`], with `f(iteration, residual norm)` called after each iteration and before the first.
    /// A panic in `f` continues from here.
    pub fn solve_monitored(
        &mut self,
        b: &Vec,
        x: &mut Vec,
        f: &mut dyn FnMut(u32, f64),
    ) -> Result<SolveOutcome> {
        self.solve_watched(b, x, &mut |it, norm, _| {
            f(it, norm);
            false
        })
    }

    /// As [`Ksp::solve`], watched: see [`Watch`]. A solve that was stopped has [`Reason::Stopped`] and tolerances
    /// that must be set again. A panic in `watch` continues from here.
    pub fn solve_watched(&mut self, b: &Vec, x: &mut Vec, watch: &mut Watch) -> Result<SolveOutcome> {
        let n = self.n_local()?;
        if b.n_local() != n || x.n_local() != n {
            return Err(Error::invalid(format!(
                "a system of {n} rows on this rank with vectors of {} and {}",
                b.n_local(),
                x.n_local()
            )));
        }
        let mut watched = Watched { watch, stopped: false, failed: Ok(()) };
        self.monitor.set((&raw mut watched).cast());
        // SAFETY: live handles; `b` and `x` differ, as the borrows show. The slot points to the record until the
        // call returns; PETSc does not unwind.
        let code = unsafe { sys::KSPSolve(self.raw, b.raw(), x.raw()) };
        self.monitor.set(null_mut());
        check(code)?;
        let (mut iterations, mut residual, mut reason): (PetscInt, f64, sys::KSPConvergedReason) =
            (0, 0.0, 0);
        // SAFETY: live handle, one number written each.
        unsafe {
            check(sys::KSPGetIterationNumber(self.raw, &mut iterations))?;
            check(sys::KSPGetResidualNorm(self.raw, &mut residual))?;
            check(sys::KSPGetConvergedReason(self.raw, &mut reason))?;
        }
        let reason = if watched.stopped { Reason::Stopped } else { Reason::from_code(reason) };
        Ok(SolveOutcome { iterations: iterations as u32, reason, residual })
    }
}
