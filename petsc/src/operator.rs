//! Matrices without assembled rows: a closure that applies the operator, and a sum of subdomain matrices.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use mpi::ffi::{MPI_Comm, RSMPI_COMM_SELF};

use crate::error::{agree, callback, check};
use crate::mat::{Handle, Storage};
use crate::session::is_running;
use crate::vec::{with_read, with_write};
use crate::{Csr, Error, Mat, PetscInt, Result, sys, to_petsc_int};

type Apply = dyn FnMut(&[f64], &mut [f64]) -> Result<()>;

/// What the trampoline of a shell finds.
struct ShellState {
    n_local: usize,
    apply: RefCell<Box<Apply>>,
}

/// Called by PETSc for `y = A x`.
unsafe extern "C" fn shell_mult(mat: sys::Mat, x: sys::Vec, y: sys::Vec) -> sys::PetscErrorCode {
    callback(|| {
        let mut context: *mut c_void = null_mut();
        // SAFETY: PETSc writes the pointer given to `MatCreateShell`, which the matrix's storage keeps alive;
        // only shared references to it are made. The vectors are live, distinct and have the matrix's
        // layout.
        unsafe {
            check(sys::MatShellGetContext(mat, (&raw mut context).cast()))?;
            let state = &*context.cast::<ShellState>();
            let mut apply = state
                .apply
                .try_borrow_mut()
                .map_err(|_| Error::invalid("the operator's closure applied the operator itself"))?;
            with_read(x, state.n_local, |x| with_write(y, state.n_local, |y| apply(x, y)))??
        }
    })
}

impl Mat {
    /// A square operator applied by `apply(x, y)`, which sets this rank's entries of `y = A x` from those of
    /// `x`. It may communicate: it is called on all ranks.
    ///
    /// Collective. A panic in `apply` continues where the solver was called, and its error is what that call
    /// returns.
    pub fn shell(
        comm: MPI_Comm,
        n_local: usize,
        n_global: u64,
        apply: impl FnMut(&[f64], &mut [f64]) -> Result<()> + 'static,
    ) -> Result<Mat> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let local = to_petsc_int(n_local, "the number of rows on a rank")?;
        let global = to_petsc_int(n_global, "the number of rows")?;
        let state = Box::new(ShellState { n_local, apply: RefCell::new(Box::new(apply)) });
        let context: *const ShellState = &*state;
        let mut raw: sys::Mat = null_mut();
        // SAFETY: the state is on the heap and lives as long as the matrix; see `Storage::Shell`.
        check(unsafe {
            sys::MatCreateShell(comm, local, local, global, global, context.cast_mut().cast(), &mut raw)
        })?;
        let mat = Mat(Rc::new(Handle::new(raw, Storage::Shell { _state: state }, n_local, n_global)));
        // SAFETY: PETSc stores operations as untyped functions and calls this one with the type of MatMult.
        // A symmetric operator needs no transpose of its own: PETSc uses this one when told so.
        check(unsafe {
            let mult =
                shell_mult as unsafe extern "C" fn(sys::Mat, sys::Vec, sys::Vec) -> sys::PetscErrorCode;
            sys::MatShellSetOperation(
                raw,
                sys::MatOperation_MATOP_MULT,
                Some(std::mem::transmute::<
                    unsafe extern "C" fn(sys::Mat, sys::Vec, sys::Vec) -> sys::PetscErrorCode,
                    unsafe extern "C" fn(),
                >(mult)),
            )
        })?;
        Ok(mat)
    }

    /// A square matrix kept as the sum over the ranks of `local`, whose row and column `i` is global
    /// `local_to_global[i]` (PETSc's `MATIS`, for BDDC and FETI-DP). The local matrix is not copied.
    ///
    /// Collective. The checks are agreed on.
    ///
    /// Shapes: `n_owned` rows of the sum belong to this rank, as everywhere; `local` has
    /// `local_to_global.len()` rows and columns, its columns ascending.
    ///
    /// # Errors
    /// As [`Mat::from_split_csr`].
    pub fn from_local(
        comm: MPI_Comm,
        n_owned: usize,
        n_global: u64,
        mut local: Csr,
        local_to_global: &[PetscInt],
    ) -> Result<Mat> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let n = local_to_global.len();
        let checked = || -> Result<(PetscInt, PetscInt, PetscInt)> {
            let size = to_petsc_int(n, "the number of rows of a subdomain")?;
            let owned = to_petsc_int(n_owned, "the number of rows on a rank")?;
            let global = to_petsc_int(n_global, "the number of rows")?;
            local.validate(n, "the subdomain's rows", |c| c >= 0 && c < size)?;
            if local_to_global.iter().any(|&g| g < 0 || g >= global) {
                return Err(Error::invalid("a subdomain's row has a global number out of range"));
            }
            Ok((size, owned, global))
        };
        let (error, sizes) = match checked() {
            Ok(s) => (Ok(()), s),
            Err(e) => (Err(e), (0, 0, 0)),
        };
        agree(comm, error)?;
        let (size, owned, global) = sizes;
        let mut part: sys::Mat = null_mut();
        // SAFETY: checked arrays that live as long as the handle made next.
        check(unsafe {
            sys::MatCreateSeqAIJWithArrays(
                RSMPI_COMM_SELF,
                size,
                size,
                local.ptr.as_mut_ptr(),
                local.col.as_mut_ptr(),
                local.val.as_mut_ptr(),
                &mut part,
            )
        })?;
        let storage = Storage::Split { diag: local, off: Csr::default() };
        let part = Box::new(Handle::new(part, storage, n, n as u64));
        let mut map: sys::ISLocalToGlobalMapping = null_mut();
        let mut raw: sys::Mat = null_mut();
        // SAFETY: the mapping copies the indices; the matrix takes a reference to it, so ours is given back.
        unsafe {
            check(sys::ISLocalToGlobalMappingCreate(
                comm,
                1,
                size,
                local_to_global.as_ptr(),
                sys::PetscCopyMode_PETSC_COPY_VALUES,
                &mut map,
            ))?;
            let created = check(sys::MatCreateIS(comm, 1, owned, owned, global, global, map, map, &mut raw));
            let destroyed = check(sys::ISLocalToGlobalMappingDestroy(&mut map));
            created.and(destroyed)?;
        }
        let part_raw = part.raw;
        let mat = Mat(Rc::new(Handle::new(raw, Storage::Local { _mat: part }, n_owned, n_global)));
        // SAFETY: the matrix takes a reference to the local one, whose arrays its storage keeps alive.
        check(unsafe { sys::MatISSetLocalMat(raw, part_raw) })?;
        mat.assemble()?;
        Ok(mat)
    }
}
