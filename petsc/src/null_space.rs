//! Null spaces, true ones and near ones.

use std::ptr::null_mut;

use mpi::ffi::MPI_Comm;

use crate::error::check;
use crate::session::is_running;
use crate::{Error, Result, Vec, sys, to_petsc_int};

/// The span of a few orthonormal vectors, and of the constant if asked.
///
/// As a true null space of a singular matrix it is removed from residuals and iterates; as a near null space
/// (the rigid body modes of elasticity) it tells algebraic multigrid what smooth error looks like.
pub struct NullSpace {
    raw: sys::MatNullSpace,
}

impl Drop for NullSpace {
    fn drop(&mut self) {
        if is_running() {
            // SAFETY: owned, destroyed once; matrices that use it hold references of their own.
            let _ = check(unsafe { sys::MatNullSpaceDestroy(&mut self.raw) });
        }
    }
}

impl NullSpace {
    /// The span of `basis`, whose vectors are orthonormal, and of the constant when `has_constant`.
    ///
    /// The vectors are shared with PETSc: change none of them afterwards.
    ///
    /// Collective.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the basis is not orthonormal to 1e-8.
    pub fn new(comm: MPI_Comm, has_constant: bool, basis: &[Vec]) -> Result<NullSpace> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        // PETSc checks this in debug builds only, and a skewed basis makes projections wrong in silence.
        for (i, a) in basis.iter().enumerate() {
            for (j, b) in basis[..=i].iter().enumerate() {
                let dot = a.dot(b)?;
                if (dot - f64::from(u8::from(i == j))).abs() > 1e-8 {
                    return Err(Error::invalid(format!(
                        "the basis of a null space is not orthonormal: vectors {i} and {j} have product {dot:e}"
                    )));
                }
            }
        }
        let raws: std::vec::Vec<sys::Vec> = basis.iter().map(Vec::raw).collect();
        let n = to_petsc_int(raws.len(), "the dimension of a null space")?;
        let mut raw: sys::MatNullSpace = null_mut();
        // SAFETY: `n` live vectors; PETSc takes references to them.
        check(unsafe {
            sys::MatNullSpaceCreate(comm, sys::PetscBool::from(has_constant), n, raws.as_ptr(), &mut raw)
        })?;
        Ok(NullSpace { raw })
    }

    pub(crate) fn raw(&self) -> sys::MatNullSpace {
        self.raw
    }

    /// Removes from `x` its part in the null space. Collective.
    pub fn remove(&self, x: &mut Vec) -> Result<()> {
        // SAFETY: live handles.
        check(unsafe { sys::MatNullSpaceRemove(self.raw, x.raw()) })
    }
}
