//! Preconditioners, as part of a solver.

use std::marker::PhantomData;

use crate::error::{c_string, check, text};
use crate::{Ksp, PetscInt, Result, sys, to_petsc_int};

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
