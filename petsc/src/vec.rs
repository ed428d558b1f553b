//! Distributed vectors.

use std::ptr::null_mut;

use mpi::ffi::MPI_Comm;

use crate::error::{check, comm_size};
use crate::session::is_running;
use crate::{Error, Result, sys, to_petsc_int};

/// A distributed vector: each rank owns a contiguous range of the entries.
pub struct Vec {
    raw: sys::Vec,
    n_local: usize,
}

impl Drop for Vec {
    fn drop(&mut self) {
        if is_running() {
            // SAFETY: the handle is owned and destroyed once. An error has nowhere to go from here.
            let _ = check(unsafe { sys::VecDestroy(&mut self.raw) });
        }
    }
}

impl Vec {
    /// A vector of zeros with `n_local` entries here and `n_global` in all.
    ///
    /// Collective.
    pub fn new(comm: MPI_Comm, n_local: usize, n_global: u64) -> Result<Vec> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let local = to_petsc_int(n_local, "the local length of a vector")?;
        let global = to_petsc_int(n_global, "the length of a vector")?;
        let mut raw: sys::Vec = null_mut();
        // SAFETY: writes one handle. On one rank the plain type matches that of matrices made there.
        check(unsafe {
            if comm_size(comm) == 1 {
                sys::VecCreateSeq(comm, local, &mut raw)
            } else {
                sys::VecCreateMPI(comm, local, global, &mut raw)
            }
        })?;
        Ok(Vec { raw, n_local })
    }

    /// A vector with a copy of this rank's entries.
    ///
    /// Collective.
    pub fn from_slice(comm: MPI_Comm, entries: &[f64], n_global: u64) -> Result<Vec> {
        let mut v = Vec::new(comm, entries.len(), n_global)?;
        v.write(|local| local.copy_from_slice(entries))?;
        Ok(v)
    }

    pub(crate) fn raw(&self) -> sys::Vec {
        self.raw
    }

    /// The number of entries of this rank.
    pub fn n_local(&self) -> usize {
        self.n_local
    }

    /// Gives this rank's entries to `f`.
    pub fn read<R>(&self, f: impl FnOnce(&[f64]) -> R) -> Result<R> {
        // SAFETY: the handle is live, and nothing writes while `self` is borrowed.
        unsafe { with_read(self.raw, self.n_local, f) }
    }

    /// Gives this rank's entries to `f`, to change.
    ///
    /// Collective in effect: PETSc forgets the norms it has cached, so all ranks call it or none does.
    pub fn write<R>(&mut self, f: impl FnOnce(&mut [f64]) -> R) -> Result<R> {
        // SAFETY: the handle is live and `self` is borrowed mutably.
        unsafe { with_write(self.raw, self.n_local, f) }
    }

    /// Lets the vector use `array` instead of its own memory while `f` runs; afterwards it has its own
    /// entries again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the length is not the vector's.
    pub fn with_array<R>(&mut self, array: &mut [f64], f: impl FnOnce(&mut Vec) -> R) -> Result<R> {
        if array.len() != self.n_local {
            return Err(Error::invalid(format!(
                "an array of {} for a vector of {}",
                array.len(),
                self.n_local
            )));
        }
        struct Reset<'a>(&'a mut Vec);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                // SAFETY: undoes the placement below, also when `f` panics. It fails only if nothing was
                // placed.
                let _ = check(unsafe { sys::VecResetArray(self.0.raw) });
            }
        }
        // SAFETY: `array` outlives the placement, which `Reset` ends before this function returns.
        check(unsafe { sys::VecPlaceArray(self.raw, array.as_mut_ptr()) })?;
        let reset = Reset(self);
        Ok(f(&mut *reset.0))
    }

    /// The Euclidean norm. Collective.
    pub fn norm2(&self) -> Result<f64> {
        let mut norm = 0.0;
        // SAFETY: live handle, one number written.
        check(unsafe { sys::VecNorm(self.raw, sys::NormType_NORM_2, &mut norm) })?;
        Ok(norm)
    }

    /// The largest absolute value. Collective.
    pub fn norm_max(&self) -> Result<f64> {
        let mut norm = 0.0;
        // SAFETY: live handle, one number written.
        check(unsafe { sys::VecNorm(self.raw, sys::NormType_NORM_INFINITY, &mut norm) })?;
        Ok(norm)
    }

    /// The scalar product. Collective.
    pub fn dot(&self, other: &Vec) -> Result<f64> {
        self.same_length(other)?;
        let mut dot = 0.0;
        // SAFETY: live handles of the same layout, one number written.
        check(unsafe { sys::VecDot(self.raw, other.raw, &mut dot) })?;
        Ok(dot)
    }

    /// `self += alpha * x`.
    pub fn axpy(&mut self, alpha: f64, x: &Vec) -> Result<()> {
        self.same_length(x)?;
        // SAFETY: live handles of the same layout; `x` is another vector, as the borrows show.
        check(unsafe { sys::VecAXPY(self.raw, alpha, x.raw) })
    }

    /// `self = alpha * self + x`.
    pub fn aypx(&mut self, alpha: f64, x: &Vec) -> Result<()> {
        self.same_length(x)?;
        // SAFETY: live handles of the same layout; `x` is another vector, as the borrows show.
        check(unsafe { sys::VecAYPX(self.raw, alpha, x.raw) })
    }

    /// All entries become `value`.
    pub fn set(&mut self, value: f64) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::VecSet(self.raw, value) })
    }

    /// All entries are multiplied by `alpha`.
    pub fn scale(&mut self, alpha: f64) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::VecScale(self.raw, alpha) })
    }

    /// Tells PETSc that the entries come in groups of `block_size` (the components at a node).
    pub fn set_block_size(&mut self, block_size: usize) -> Result<()> {
        let block_size = to_petsc_int(block_size, "the block size of a vector")?;
        // SAFETY: live handle.
        check(unsafe { sys::VecSetBlockSize(self.raw, block_size) })
    }

    fn same_length(&self, other: &Vec) -> Result<()> {
        if self.n_local == other.n_local {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "vectors with {} and {} entries on this rank",
            self.n_local, other.n_local
        )))
    }
}

/// Reads the local entries of a vector; gives the access back also when `f` panics.
///
/// # Safety
/// `raw` is a live vector with `n` local entries that nothing writes meanwhile.
pub(crate) unsafe fn with_read<R>(raw: sys::Vec, n: usize, f: impl FnOnce(&[f64]) -> R) -> Result<R> {
    struct Restore(sys::Vec, *const f64);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: gives back what `VecGetArrayRead` gave; it fails only for an unbalanced pair.
            let _ = check(unsafe { sys::VecRestoreArrayRead(self.0, &mut self.1) });
        }
    }
    let mut p: *const f64 = null_mut();
    // SAFETY: one pointer written.
    check(unsafe { sys::VecGetArrayRead(raw, &mut p) })?;
    let restore = Restore(raw, p);
    // SAFETY: PETSc's array has `n` entries until it is restored; an empty one may be null.
    let entries = if n == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(restore.1, n) } };
    Ok(f(entries))
}

/// As [`with_read`], to change the entries.
///
/// # Safety
/// `raw` is a live vector with `n` local entries that nothing else uses meanwhile.
pub(crate) unsafe fn with_write<R>(raw: sys::Vec, n: usize, f: impl FnOnce(&mut [f64]) -> R) -> Result<R> {
    struct Restore(sys::Vec, *mut f64);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: gives back what `VecGetArray` gave; it fails only for an unbalanced pair.
            let _ = check(unsafe { sys::VecRestoreArray(self.0, &mut self.1) });
        }
    }
    let mut p: *mut f64 = null_mut();
    // SAFETY: one pointer written.
    check(unsafe { sys::VecGetArray(raw, &mut p) })?;
    let restore = Restore(raw, p);
    // SAFETY: PETSc's array has `n` entries until it is restored; an empty one may be null.
    let entries = if n == 0 { &mut [][..] } else { unsafe { std::slice::from_raw_parts_mut(restore.1, n) } };
    Ok(f(entries))
}
