//! Sparse matrices made from arrays that Rust owns. Operators without entries, and matrices kept as
//! unassembled subdomain matrices, are in `operator.rs`.

use std::ptr::null_mut;
use std::rc::Rc;

use mpi::ffi::MPI_Comm;

use crate::error::{agree, c_string, check, comm_size, text};
use crate::session::is_running;
use crate::{Error, NullSpace, PetscInt, Result, Vec, sys, to_petsc_int};

/// Rows in compressed form: the entries of row `i` are `ptr[i]..ptr[i + 1]` of `col` and `val`, their columns
/// ascending.
#[derive(Debug, Clone, Default)]
pub struct Csr {
    /// Shape `[n_rows + 1]`.
    pub ptr: std::vec::Vec<PetscInt>,
    /// Shape `[n_entries]`.
    pub col: std::vec::Vec<PetscInt>,
    /// Shape `[n_entries]`.
    pub val: std::vec::Vec<f64>,
}

impl Csr {
    /// `n_rows` rows without entries.
    pub fn empty(n_rows: usize) -> Csr {
        Csr { ptr: vec![0; n_rows + 1], ..Csr::default() }
    }

    /// The number of entries.
    pub fn n_entries(&self) -> usize {
        self.col.len()
    }

    /// Checks what PETSc would read without checking: lengths, offsets, and columns that ascend and satisfy
    /// `allowed`.
    pub(crate) fn validate(
        &self,
        n_rows: usize,
        what: &str,
        allowed: impl Fn(PetscInt) -> bool,
    ) -> Result<()> {
        let bad = |why: &str| Err(Error::invalid(format!("{what}: {why}")));
        to_petsc_int(self.col.len(), "the number of matrix entries on a rank")?;
        if self.ptr.len() != n_rows + 1 || self.ptr[0] != 0 {
            return bad("the row offsets do not have one more entry than rows, or do not begin with 0");
        }
        if self.ptr[n_rows] as usize != self.col.len() || self.val.len() != self.col.len() {
            return bad("the row offsets do not end with the number of columns and of values");
        }
        if self.ptr.windows(2).any(|w| w[0] > w[1]) {
            return bad("the row offsets are not ascending");
        }
        for w in self.ptr.windows(2) {
            let row = &self.col[w[0] as usize..w[1] as usize];
            if row.windows(2).any(|c| c[0] >= c[1]) {
                return bad("the columns of a row are not ascending");
            }
            if !row.iter().all(|&c| allowed(c)) {
                return bad("a column is out of range");
            }
        }
        Ok(())
    }
}

/// What a matrix needs besides PETSc's object, freed after it.
pub(crate) enum Storage {
    /// The arrays that PETSc points into.
    Split { diag: Csr, off: Csr },
    /// Of a subdomain matrix: the local matrix. Only kept alive.
    Local { _mat: Box<Handle> },
    /// The state of a shell's closure. Only kept alive.
    Shell { _state: Box<dyn std::any::Any> },
}

/// A PETSc matrix and what it points to. Shared between a [`Mat`] and the solvers that use it.
pub(crate) struct Handle {
    pub(crate) raw: sys::Mat,
    storage: Storage,
    n_local: usize,
    n_global: u64,
}

impl Handle {
    /// Takes over `raw`, for which PETSc holds the one reference.
    pub(crate) fn new(raw: sys::Mat, storage: Storage, n_local: usize, n_global: u64) -> Handle {
        Handle { raw, storage, n_local, n_global }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if is_running() {
            // SAFETY: owned and destroyed once, before the storage that it points into. An error has
            // nowhere to go from here.
            let _ = check(unsafe { sys::MatDestroy(&mut self.raw) });
        }
    }
}

/// Memory and entries of a matrix, summed over the ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatMemory {
    /// Bytes that PETSc allocated; arrays owned by Rust are not among them.
    pub bytes: f64,
    /// Stored entries.
    pub entries: f64,
}

/// A distributed matrix: each rank owns a contiguous range of rows, and of columns.
pub struct Mat(pub(crate) Rc<Handle>);

impl Mat {
    /// A square matrix from the rows of this rank, without a copy.
    ///
    /// Collective. The checks are agreed on: if one rank's arrays are bad all ranks get an error.
    ///
    /// Shapes: `diag` has the columns that this rank owns, numbered from 0; `off` has all others, by their
    /// global numbers. Both have `n_local` rows, with ascending columns. `block_size` divides `n_local`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for arrays that are not such rows, [`Error::IndexOverflow`] for sizes beyond
    /// [`PetscInt`], [`Error::Peer`] if it was another rank's arrays.
    pub fn from_split_csr(
        comm: MPI_Comm,
        n_local: usize,
        n_global: u64,
        block_size: usize,
        mut diag: Csr,
        mut off: Csr,
    ) -> Result<Mat> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let one_rank = comm_size(comm) == 1;
        let sizes = || -> Result<(PetscInt, PetscInt, PetscInt)> {
            let local = to_petsc_int(n_local, "the number of rows on a rank")?;
            let global = to_petsc_int(n_global, "the number of rows")?;
            let block = to_petsc_int(block_size, "the block size")?;
            diag.validate(n_local, "the block of owned columns", |c| c >= 0 && c < local)?;
            off.validate(n_local, "the block of other ranks' columns", |c| c >= 0 && c < global)?;
            if block == 0 || !n_local.is_multiple_of(block_size) {
                return Err(Error::invalid(format!(
                    "{n_local} rows do not divide into blocks of {block_size}"
                )));
            }
            if one_rank && (off.n_entries() > 0 || n_global != n_local as u64) {
                return Err(Error::invalid("one rank owns all columns, but other columns were given"));
            }
            Ok((local, global, block))
        };
        let sizes = sizes();
        let (error, sizes) = match sizes {
            Ok(s) => (Ok(()), s),
            Err(e) => (Err(e), (0, 0, 0)),
        };
        agree(comm, error)?;
        let (local, global, block) = sizes;

        let mut raw: sys::Mat = null_mut();
        // SAFETY: the arrays were checked, belong to the storage that lives as long as PETSc's object, and are
        // not touched by Rust meanwhile. PETSc renumbers `off.col` in place.
        check(unsafe {
            if one_rank {
                sys::MatCreateSeqAIJWithArrays(
                    comm,
                    local,
                    local,
                    diag.ptr.as_mut_ptr(),
                    diag.col.as_mut_ptr(),
                    diag.val.as_mut_ptr(),
                    &mut raw,
                )
            } else {
                sys::MatCreateMPIAIJWithSplitArrays(
                    comm,
                    local,
                    local,
                    global,
                    global,
                    diag.ptr.as_mut_ptr(),
                    diag.col.as_mut_ptr(),
                    diag.val.as_mut_ptr(),
                    off.ptr.as_mut_ptr(),
                    off.col.as_mut_ptr(),
                    off.val.as_mut_ptr(),
                    &mut raw,
                )
            }
        })?;
        let mat = Mat(Rc::new(Handle::new(raw, Storage::Split { diag, off }, n_local, n_global)));
        mat.option(sys::MatOption_MAT_NO_OFF_PROC_ENTRIES, true)?;
        if block > 1 {
            // SAFETY: live handle; the block size divides the local size.
            check(unsafe { sys::MatSetBlockSize(raw, block) })?;
        }
        Ok(mat)
    }

    /// A square matrix from the rows of this rank with global columns, copied into PETSc's own arrays.
    /// `rows` can be dropped at once; [`Mat::values_mut`] does not work on the result.
    ///
    /// Collective. Errors as [`Mat::from_split_csr`].
    pub fn copy_from_csr(comm: MPI_Comm, n_local: usize, n_global: u64, rows: &Csr) -> Result<Mat> {
        if !is_running() {
            return Err(Error::State("PETSc is not running"));
        }
        let local = to_petsc_int(n_local, "the number of rows on a rank");
        let global = to_petsc_int(n_global, "the number of rows");
        let valid = match (&local, &global) {
            (Ok(_), Ok(global)) => rows.validate(n_local, "the rows", |c| c >= 0 && c < *global),
            (Err(e), _) | (_, Err(e)) => Err(e.clone()),
        };
        agree(comm, valid)?;
        let (local, global) = (local?, global?);
        let mut raw: sys::Mat = null_mut();
        // SAFETY: checked arrays, copied before the call returns.
        check(unsafe {
            sys::MatCreateMPIAIJWithArrays(
                comm,
                local,
                local,
                global,
                global,
                rows.ptr.as_ptr(),
                rows.col.as_ptr(),
                rows.val.as_ptr(),
                &mut raw,
            )
        })?;
        let storage = Storage::Split { diag: Csr::default(), off: Csr::default() };
        Ok(Mat(Rc::new(Handle::new(raw, storage, n_local, n_global))))
    }

    pub(crate) fn raw(&self) -> sys::Mat {
        self.0.raw
    }

    /// The rows of this rank.
    pub fn n_local(&self) -> usize {
        self.0.n_local
    }

    /// The rows of all ranks.
    pub fn n_global(&self) -> u64 {
        self.0.n_global
    }

    /// Gives the entries to `f` to assemble anew: those of owned columns and those of other columns, in the
    /// order of the arrays the matrix was made from. The pattern stays, so a preconditioner can keep what
    /// depends on it.
    ///
    /// Collective. A panic in `f` leaves the matrix unusable.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a matrix not made by [`Mat::from_split_csr`].
    pub fn values_mut<R>(&mut self, f: impl FnOnce(&mut [f64], &mut [f64]) -> R) -> Result<R> {
        let Storage::Split { diag, off } = &self.0.storage else {
            return Err(Error::invalid("only a matrix made from its rows has values to change"));
        };
        if diag.ptr.is_empty() {
            return Err(Error::invalid("the values of a copied matrix belong to PETSc"));
        }
        let (n_diag, n_off) = (diag.n_entries(), off.n_entries());
        let raw = self.0.raw;
        // SAFETY: live handles. The two blocks are the matrices made from our arrays, so their value arrays
        // have these lengths; on a device PETSc brings the values here and marks them changed on restoring.
        // `&mut self` keeps other Rust code out, and PETSc is not running meanwhile.
        unsafe {
            if off.ptr.is_empty() || n_off == 0 && is_sequential(raw)? {
                let values = Values::get(raw, n_diag)?;
                let result = f(values.slice(), &mut []);
                values.restore()?;
                self.assemble()?;
                return Ok(result);
            }
            let (mut a, mut b): (sys::Mat, sys::Mat) = (null_mut(), null_mut());
            check(sys::MatMPIAIJGetSeqAIJ(raw, &mut a, &mut b, null_mut()))?;
            let va = Values::get(a, n_diag)?;
            let vb = Values::get(b, n_off)?;
            let result = f(va.slice(), vb.slice());
            vb.restore()?;
            va.restore()?;
            self.assemble()?;
            Ok(result)
        }
    }

    /// Tells PETSc that the values changed: solvers see it and set up again.
    pub(crate) fn assemble(&self) -> Result<()> {
        // SAFETY: live handle.
        unsafe {
            check(sys::MatAssemblyBegin(self.raw(), sys::MatAssemblyType_MAT_FINAL_ASSEMBLY))?;
            check(sys::MatAssemblyEnd(self.raw(), sys::MatAssemblyType_MAT_FINAL_ASSEMBLY))
        }
    }

    fn option(&self, option: sys::MatOption, on: bool) -> Result<()> {
        // SAFETY: live handle.
        check(unsafe { sys::MatSetOption(self.raw(), option, sys::PetscBool::from(on)) })
    }

    /// States that the matrix is symmetric (or not), now and after every assembly.
    pub fn set_symmetric(&self, symmetric: bool) -> Result<()> {
        self.option(sys::MatOption_MAT_SYMMETRIC, symmetric)?;
        if symmetric {
            self.option(sys::MatOption_MAT_STRUCTURALLY_SYMMETRIC, true)?;
            self.option(sys::MatOption_MAT_SYMMETRY_ETERNAL, true)?;
        }
        Ok(())
    }

    /// States that the matrix is symmetric and positive definite, now and after every assembly.
    pub fn set_positive_definite(&self) -> Result<()> {
        self.set_symmetric(true)?;
        self.option(sys::MatOption_MAT_SPD, true)?;
        self.option(sys::MatOption_MAT_SPD_ETERNAL, true)
    }

    /// Sets the number of unknowns at a node. Best given at construction.
    pub fn set_block_size(&mut self, block_size: usize) -> Result<()> {
        if block_size == 0 || !self.n_local().is_multiple_of(block_size) {
            return Err(Error::invalid(format!(
                "{} rows do not divide into blocks of {block_size}",
                self.n_local()
            )));
        }
        let block = to_petsc_int(block_size, "the block size")?;
        // SAFETY: live handle; the block size divides the local size.
        check(unsafe { sys::MatSetBlockSize(self.raw(), block) })
    }

    /// The number of unknowns at a node.
    pub fn block_size(&self) -> Result<usize> {
        let mut block: PetscInt = 1;
        // SAFETY: live handle, one integer written.
        check(unsafe { sys::MatGetBlockSize(self.raw(), &mut block) })?;
        Ok(block as usize)
    }

    /// The prefix of this matrix's options.
    pub fn set_prefix(&mut self, prefix: &str) -> Result<()> {
        let prefix = c_string(prefix);
        // SAFETY: live handle; the string is copied.
        check(unsafe { sys::MatSetOptionsPrefix(self.raw(), prefix.as_ptr()) })
    }

    /// The vectors that the matrix maps to zero; iterations then stay out of them. `None` forgets them.
    pub fn set_null_space(&self, space: Option<&NullSpace>) -> Result<()> {
        // SAFETY: live handles; PETSc takes a reference, and null removes it.
        check(unsafe { sys::MatSetNullSpace(self.raw(), space.map_or(null_mut(), NullSpace::raw)) })
    }

    /// The vectors that the matrix maps to nearly zero, for algebraic multigrid. `None` forgets them.
    pub fn set_near_null_space(&self, space: Option<&NullSpace>) -> Result<()> {
        // SAFETY: live handles; PETSc takes a reference, and null removes it.
        check(unsafe { sys::MatSetNearNullSpace(self.raw(), space.map_or(null_mut(), NullSpace::raw)) })
    }

    /// `y = A x`. Collective.
    pub fn mult(&self, x: &Vec, y: &mut Vec) -> Result<()> {
        if x.n_local() != self.n_local() || y.n_local() != self.n_local() {
            return Err(Error::invalid(format!(
                "a matrix with {} rows on this rank applied to vectors of {} and {}",
                self.n_local(),
                x.n_local(),
                y.n_local()
            )));
        }
        // SAFETY: live handles of the same layout; `x` and `y` differ, as the borrows show.
        check(unsafe { sys::MatMult(self.raw(), x.raw(), y.raw()) })
    }

    /// `diagonal = diag(A)`. Collective.
    pub fn diagonal(&self, diagonal: &mut Vec) -> Result<()> {
        // SAFETY: live handles; PETSc compares the layouts.
        check(unsafe { sys::MatGetDiagonal(self.raw(), diagonal.raw()) })
    }

    /// Stored entries and memory, summed over the ranks. Collective.
    pub fn memory(&self) -> Result<MatMemory> {
        // SAFETY: `MatInfo` is a struct of numbers, all of which PETSc writes.
        let info = unsafe {
            let mut info: sys::MatInfo = std::mem::zeroed();
            check(sys::MatGetInfo(self.raw(), sys::MatInfoType_MAT_GLOBAL_SUM, &mut info))?;
            info
        };
        Ok(MatMemory { bytes: info.memory, entries: info.nz_used })
    }

    /// PETSc's name of the storage format: `seqaij`, `mpiaij`, `is`, `shell`, ...
    pub fn type_name(&self) -> Result<String> {
        // SAFETY: live handle.
        unsafe { type_name(self.raw()) }
    }
}

/// # Safety
/// `raw` is a live matrix.
unsafe fn type_name(raw: sys::Mat) -> Result<String> {
    let mut name = std::ptr::null();
    // SAFETY: one pointer to a string that lives as long as the matrix.
    unsafe {
        check(sys::MatGetType(raw, &mut name))?;
        Ok(text(name))
    }
}

/// # Safety
/// `raw` is a live matrix.
unsafe fn is_sequential(raw: sys::Mat) -> Result<bool> {
    // SAFETY: as above.
    Ok(unsafe { type_name(raw)? }.starts_with("seq"))
}

/// The values of a sequential matrix, checked out.
struct Values {
    mat: sys::Mat,
    p: *mut f64,
    n: usize,
}

impl Values {
    /// # Safety
    /// `mat` is a live sequential AIJ matrix with `n` stored entries; nothing else uses it meanwhile.
    unsafe fn get(mat: sys::Mat, n: usize) -> Result<Values> {
        let mut p: *mut f64 = null_mut();
        // SAFETY: one pointer written.
        check(unsafe { sys::MatSeqAIJGetArray(mat, &mut p) })?;
        Ok(Values { mat, p, n })
    }

    /// # Safety
    /// Called once, and the slice is gone before [`Values::restore`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self) -> &mut [f64] {
        if self.n == 0 {
            return &mut [];
        }
        // SAFETY: by the contract of `get`.
        unsafe { std::slice::from_raw_parts_mut(self.p, self.n) }
    }

    fn restore(mut self) -> Result<()> {
        // SAFETY: gives back what `get` took.
        check(unsafe { sys::MatSeqAIJRestoreArray(self.mat, &mut self.p) })
    }
}
