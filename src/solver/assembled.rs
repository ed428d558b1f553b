//! The matrix of a solve in the form that a method needs: our operator, or PETSc's AIJ.
//!
//! Imports `cluster`, `petsc`, `assembly`. A matrix begins as ours; PETSc's is made, from the same values, when
//! a method of PETSc's needs it, and ours is gone then.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use cluster::{Comm, IndexMap};
use petsc::{Csr, Mat, NullSpace, PetscInt, Vec as PetscVec, to_petsc_int};

use super::operator::Operator;
use super::vectors::orthonormal;
use super::{Error, System};
use crate::assembly::{Matrix, Pattern};

/// One part of the rows, with `block` components a node: columns by `column`.
fn rows(
    ptr: &[usize],
    columns: &[u32],
    values: Vec<f64>,
    block: usize,
    column: impl Fn(u32) -> u64,
) -> petsc::Result<Csr> {
    let n = ptr.len() - 1;
    let mut csr =
        Csr { ptr: Vec::with_capacity(n * block + 1), col: Vec::with_capacity(values.len()), val: values };
    to_petsc_int(csr.val.len() as u64, "the number of entries of a rank's rows")?;
    csr.ptr.push(0);
    let mut expanded: Vec<PetscInt> = Vec::new();
    for row in 0..n {
        expanded.clear();
        for &v in &columns[ptr[row]..ptr[row + 1]] {
            let first = column(v) * block as u64;
            for b in 0..block as u64 {
                expanded.push(to_petsc_int(first + b, "a column of the matrix")?);
            }
        }
        for _ in 0..block {
            csr.col.extend_from_slice(&expanded);
            csr.ptr.push(csr.col.len() as PetscInt);
        }
    }
    Ok(csr)
}

/// Hands an assembled matrix to PETSc. Collective.
///
/// # Errors
/// Sizes beyond PETSc's index type; PETSc's own.
fn to_petsc(comm: &Comm, map: &IndexMap, pattern: &Pattern, matrix: Matrix) -> Result<Mat, Error> {
    let _span = tracing::debug_span!("matrix to petsc").entered();
    let block = matrix.block;
    let n_owned = map.n_owned();
    let both = rows(&pattern.diag_ptr, &pattern.diag_col, matrix.diag, block, u64::from).and_then(|diag| {
        let ghosts = map.ghosts();
        let off =
            rows(&pattern.off_ptr, &pattern.off_col, matrix.off, block, |v| ghosts[v as usize - n_owned])?;
        Ok((diag, off))
    });
    let failed = comm.any(both.is_err());
    let (diag, off) = match both {
        Ok(both) if !failed => both,
        Ok(_) => return Err(petsc::Error::Peer.into()),
        Err(error) => return Err(error.into()),
    };
    let n_global = map.n_global() * block as u64;
    Ok(Mat::from_split_csr(comm.raw(), n_owned * block, n_global, block, diag, off)?)
}

enum Form {
    Ours(Rc<RefCell<Operator>>),
    Petsc(Mat),
    /// On the way from one to the other; stays so only when that failed.
    Neither,
}

/// The matrix, in one of two forms.
pub(super) struct Stored {
    form: Form,
    /// PETSc's copy of the near-null space, for its multigrid.
    near: bool,
}

impl Stored {
    /// As our operator. Not collective.
    pub(super) fn new(system: &System, pattern: &Rc<Pattern>, matrix: Matrix) -> Stored {
        let operator = Operator::new(Rc::clone(pattern), matrix, system.halo, system.map.n_ghost());
        Stored { form: Form::Ours(Rc::new(RefCell::new(operator))), near: false }
    }

    /// Our operator, to share with a closure.
    ///
    /// # Panics
    /// When PETSc has the matrix: methods of ours come first.
    pub(super) fn operator(&self) -> &Rc<RefCell<Operator>> {
        match &self.form {
            Form::Ours(operator) => operator,
            _ => panic!("a method of ours after one of PETSc's"),
        }
    }

    /// Our operator, to apply.
    pub(super) fn borrow(&self) -> RefMut<'_, Operator> {
        self.operator().borrow_mut()
    }

    /// PETSc's form, with what PETSc should know of it. Collective.
    ///
    /// # Errors
    /// Sizes beyond PETSc's index type; PETSc's own.
    pub(super) fn petsc(
        &mut self,
        system: &System,
        null: Option<&NullSpace>,
        near: bool,
    ) -> Result<&Mat, Error> {
        if let Form::Ours(_) = self.form
            && let Form::Ours(operator) = std::mem::replace(&mut self.form, Form::Neither)
        {
            let Ok(operator) = Rc::try_unwrap(operator) else {
                unreachable!("solvers that shared the operator are gone")
            };
            let matrix = operator.into_inner().into_matrix();
            let mat = to_petsc(system.comm, system.map, system.pattern, matrix)?;
            mat.set_symmetric(system.problem.symmetric)?;
            mat.set_null_space(null)?;
            self.form = Form::Petsc(mat);
        }
        let Form::Petsc(mat) = &self.form else { unreachable!("made above") };
        if near && !self.near {
            let modes = (system.problem.near_null)();
            mat.set_near_null_space(null_space(system, orthonormal(system.comm, modes))?.as_ref())?;
            self.near = true;
        }
        Ok(mat)
    }
}

/// The span of an orthonormal basis for PETSc; none if it is empty. Collective.
pub(super) fn null_space(system: &System, basis: Vec<Vec<f64>>) -> Result<Option<NullSpace>, Error> {
    let comm = system.comm.raw();
    let mut vectors: Vec<PetscVec> = Vec::with_capacity(basis.len());
    for mode in basis {
        let mut v = PetscVec::from_slice(comm, &mode, system.n_global)?;
        v.set_block_size(system.block)?;
        vectors.push(v);
    }
    Ok(if vectors.is_empty() { None } else { Some(NullSpace::new(comm, false, &vectors)?) })
}
