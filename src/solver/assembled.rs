//! The matrix of a solve in the form that a method needs: our operator, or PETSc's AIJ.
//!
//! Imports `cluster`, `petsc`, `assembly`. A matrix begins as it was assembled. The form that a method
//! needs is made of its values, and the one before is gone then: ours without what is round-off of zero, PETSc's with
//! all that it was made of.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use petsc::{Csr, Mat, NullSpace, PetscInt, Vec as PetscVec, to_petsc_int};

use super::multigrid::{self, Assembled};
use super::operator::Operator;
use super::vectors::orthonormal;
use super::{Error, System};
use crate::assembly::{Matrix, Pattern};

/// One part of the rows, with `block` components a node: the columns of a node's row by `columns`, numbered by
/// `number`.
fn rows<'a>(
    n: usize,
    columns: impl Fn(usize) -> &'a [u32],
    values: Vec<f64>,
    block: usize,
    number: impl Fn(u32) -> u64,
) -> petsc::Result<Csr> {
    let mut csr =
        Csr { ptr: Vec::with_capacity(n * block + 1), col: Vec::with_capacity(values.len()), val: values };
    to_petsc_int(csr.val.len() as u64, "the number of entries of a rank's rows")?;
    csr.ptr.push(0);
    let mut expanded: Vec<PetscInt> = Vec::new();
    for row in 0..n {
        expanded.clear();
        for &v in columns(row) {
            let first = number(v) * block as u64;
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

/// Hands a matrix to PETSc: the columns of each row, owned and ghosts, and their values. Collective.
///
/// # Errors
/// Sizes beyond PETSc's index type; PETSc's own.
fn to_petsc<'a>(
    system: &System,
    owned: impl Fn(usize) -> &'a [u32],
    ghosts: impl Fn(usize) -> &'a [u32],
    (diag, off): (Vec<f64>, Vec<f64>),
) -> Result<Mat, Error> {
    let _span = tracing::debug_span!("matrix to petsc").entered();
    let (comm, map, block) = (system.comm, system.map, system.block);
    let n_owned = map.n_owned();
    let both = rows(n_owned, owned, diag, block, u64::from).and_then(|diag| {
        let number = |v: u32| map.ghosts()[v as usize - n_owned];
        Ok((diag, rows(n_owned, ghosts, off, block, number)?))
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

enum Form<'a> {
    /// As it was assembled.
    Whole(&'a mut Pattern, Matrix),
    Ours(Rc<RefCell<Operator>>),
    Petsc(Mat),
    /// On the way from one to the other; stays so only when that failed.
    Neither,
}

/// The matrix, in one of its forms.
pub(super) struct Stored<'a> {
    form: Form<'a>,
    /// PETSc's copy of the near-null space, for its multigrid.
    near: bool,
}

impl<'a> Stored<'a> {
    /// As it was assembled.
    pub(super) fn new(pattern: &'a mut Pattern, matrix: Matrix) -> Stored<'a> {
        Stored { form: Form::Whole(pattern, matrix), near: false }
    }

    /// Makes our operator of what was assembled, unless it is there. Collective.
    ///
    /// # Errors
    /// More entries than its 32-bit offsets reach on some rank, the most of all ranks.
    pub(super) fn make_ours(&mut self, system: &System) -> Result<(), multigrid::Error> {
        let Form::Whole(pattern, _) = &self.form else { return Ok(()) };
        let entries = system.comm.max((pattern.diag_col.len() + pattern.off_col.len()) as u64);
        if u32::try_from(entries).is_err() {
            return Err(multigrid::Error::TooLarge { entries: entries as usize });
        }
        if let Form::Whole(pattern, matrix) = std::mem::replace(&mut self.form, Form::Neither) {
            let matrix = Assembled::new(pattern, matrix, system.halo, system.map.n_local());
            let operator = Operator::new(matrix, system.halo, system.map.n_ghost());
            self.form = Form::Ours(Rc::new(RefCell::new(operator)));
        }
        Ok(())
    }

    /// Our operator, to share with a closure.
    ///
    /// # Panics
    /// When there is none: methods of ours make it, and come before those of PETSc.
    pub(super) fn operator(&self) -> &Rc<RefCell<Operator>> {
        match &self.form {
            Form::Ours(operator) => operator,
            _ => panic!("a method of ours without its operator"),
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
        let made = match std::mem::replace(&mut self.form, Form::Neither) {
            Form::Whole(pattern, Matrix { diag, off, .. }) => {
                let p = &*pattern;
                let owned = |row: usize| &p.diag_col[p.diag_ptr[row]..p.diag_ptr[row + 1]];
                let ghosts = |row: usize| &p.off_col[p.off_ptr[row]..p.off_ptr[row + 1]];
                Some(to_petsc(system, owned, ghosts, (diag, off))?)
            }
            Form::Ours(operator) => {
                let Ok(operator) = Rc::try_unwrap(operator) else {
                    unreachable!("solvers that shared the operator are gone")
                };
                let mut m = operator.into_inner().into_matrix();
                let values = (std::mem::take(&mut m.diag), std::mem::take(&mut m.off));
                Some(to_petsc(system, |row| m.owned_columns(row), |row| m.ghost_columns(row), values)?)
            }
            other => {
                self.form = other;
                None
            }
        };
        if let Some(mat) = made {
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
