//! Preconditioners, as part of a solver: PETSc's own, and a closure of Rust's.

use std::cell::RefCell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;

use crate::error::{c_string, callback, check, text};
use crate::vec::{with_read, with_write};
use crate::{Error, Ksp, PetscInt, Result, sys, to_petsc_int};

/// On which side the preconditioner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `M A x = M b`.
    Left,
    /// `A M y = b`: the residual of the iteration is the true one.
    Right,
}

/// The preconditioner of a [`Ksp`].
pub struct Pc<'a> {
    raw: sys::PC,
    _ksp: PhantomData<&'a Ksp>,
}

impl<'a> Pc<'a> {
    /// # Safety contract
    /// `raw` is the preconditioner of the solver that `'a` borrows.
    pub(crate) fn borrowed(raw: sys::PC) -> Pc<'a> {
        Pc { raw, _ksp: PhantomData }
    }

    /// Chooses the preconditioner by PETSc's name: `hypre`, `gamg`, `asm`, `lu`, `none`, ...
    ///
    /// # Errors
    /// [`crate::Error::Petsc`] for a name this PETSc does not have.
    pub fn set_type(&mut self, name: &str) -> Result<()> {
        let name = c_string(name);
        // SAFETY: live handle; the string is copied.
        check(unsafe { sys::PCSetType(self.raw, name.as_ptr()) })
    }

    /// The preconditioner in use, by PETSc's name.
    pub fn type_name(&self) -> Result<String> {
        let mut name = std::ptr::null();
        // SAFETY: live handle; the string lives as long as the type is not changed.
        unsafe {
            check(sys::PCGetType(self.raw, &mut name))?;
            Ok(text(name))
        }
    }

    /// The package that factorises: `mumps`, `superlu_dist`, `petsc`, ... for the types `lu` and `cholesky`.
    pub fn set_factor_package(&mut self, package: &str) -> Result<()> {
        let package = c_string(package);
        // SAFETY: live handle; the string is copied.
        check(unsafe { sys::PCFactorSetMatSolverType(self.raw, package.as_ptr()) })
    }

    /// The coordinates of the owned nodes, from which multigrid makes rigid body modes. Shape
    /// `[n_nodes, dimension]`, flat by nodes.
    pub fn set_coordinates(&mut self, dimension: usize, coordinates: &[f64]) -> Result<()> {
        let nodes = to_petsc_int(coordinates.len() / dimension.max(1), "the number of nodes on a rank")?;
        // SAFETY: live handle; `nodes * dimension` numbers are read and copied.
        check(unsafe {
            sys::PCSetCoordinates(self.raw, dimension as PetscInt, nodes, coordinates.as_ptr().cast_mut())
        })
    }

    /// Keeps the preconditioner although the matrix changes.
    pub fn set_reuse(&mut self, reuse: bool) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::PCSetReusePreconditioner(self.raw, sys::PetscBool::from(reuse)) })
    }

    /// Why the set-up failed, in words; `None` if it did not.
    pub fn failure(&self) -> Result<Option<&'static str>> {
        let mut reason: sys::PCFailedReason = sys::PCFailedReason_PC_NOERROR;
        // SAFETY: live handle, one number written.
        check(unsafe { sys::PCGetFailedReason(self.raw, &mut reason) })?;
        Ok(match reason {
            sys::PCFailedReason_PC_NOERROR => None,
            sys::PCFailedReason_PC_FACTOR_STRUCT_ZEROPIVOT => {
                Some("a row of the factor is empty: the matrix is singular")
            }
            sys::PCFailedReason_PC_FACTOR_NUMERIC_ZEROPIVOT => {
                Some("a pivot is zero: the matrix is singular or nearly so")
            }
            sys::PCFailedReason_PC_FACTOR_OUTMEMORY => Some("the factorisation ran out of memory"),
            sys::PCFailedReason_PC_INCONSISTENT_RHS => {
                Some("the right-hand side is not in the range of the matrix")
            }
            sys::PCFailedReason_PC_SUBPC_ERROR => Some("the preconditioner of a subdomain or level failed"),
            _ => Some("the set-up failed"),
        })
    }
}

type Apply = dyn FnMut(&[f64], &mut [f64]) -> Result<()>;

/// What the trampoline of a shell finds.
struct ShellState {
    n_local: usize,
    apply: RefCell<Box<Apply>>,
}

/// Called by PETSc for `z = M r`.
unsafe extern "C" fn shell_apply(pc: sys::PC, r: sys::Vec, z: sys::Vec) -> sys::PetscErrorCode {
    callback(|| {
        let mut context: *mut c_void = null_mut();
        // SAFETY: PETSc writes the pointer given to `PCShellSetContext`, which the solver keeps alive; only
        // shared references to it are made. The vectors are live, distinct and have the matrix's layout, whose
        // local size was checked when the shell was set.
        unsafe {
            check(sys::PCShellGetContext(pc, (&raw mut context).cast()))?;
            let state = &*context.cast::<ShellState>();
            let mut apply = state.apply.try_borrow_mut().map_err(|_| {
                Error::invalid("the preconditioner's closure applied the preconditioner itself")
            })?;
            with_read(r, state.n_local, |r| with_write(z, state.n_local, |z| apply(r, z)))??
        }
    })
}

impl Ksp {
    /// Makes `apply(r, z)` the preconditioner: it sets this rank's entries of `z = M r` from those of `r`. It
    /// may communicate: it is called on all ranks. `symmetric` says that `M` is its own transpose, for methods
    /// that apply the transpose. `name` is what `-ksp_view` shows.
    ///
    /// Collective. A panic in `apply` continues where the solver was called, and its error is what that call
    /// returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a solver without a matrix.
    pub fn set_shell_preconditioner(
        &mut self,
        name: &str,
        symmetric: bool,
        apply: impl FnMut(&[f64], &mut [f64]) -> Result<()> + 'static,
    ) -> Result<()> {
        let n_local = self.n_local()?;
        let state = Box::new(ShellState { n_local, apply: RefCell::new(Box::new(apply)) });
        let context: *const ShellState = &*state;
        let name = c_string(name);
        let pc = self.pc()?.raw;
        // SAFETY: a live handle that belongs to this solver; the string is copied. The state is on the heap and
        // kept by the solver, which destroys PETSc's object before it; a state set earlier goes only after
        // PETSc has the new one.
        unsafe {
            check(sys::PCSetType(pc, c"shell".as_ptr()))?;
            check(sys::PCShellSetContext(pc, context.cast_mut().cast()))?;
            check(sys::PCShellSetApply(pc, Some(shell_apply)))?;
            check(sys::PCShellSetApplyTranspose(pc, symmetric.then_some(shell_apply as _)))?;
            check(sys::PCShellSetName(pc, name.as_ptr()))?;
        }
        self.keep_shell(state);
        Ok(())
    }
}
