//! Solving what `assembly` made: a matrix of owned rows handed to PETSc without a copy of its values.

use cluster::{Comm, IndexMap};
use petsc::{Csr, Mat, PetscInt, to_petsc_int};

use super::{Error, Options, Report, System, solve};
use crate::assembly::{Matrix, Pattern};

/// What there is to know of a linear problem beside its matrix.
pub struct Problem {
    /// Whether the matrix is symmetric.
    pub symmetric: bool,
    /// The law's name, for the reason given.
    pub law: String,
    /// Whether the law has an advective term.
    pub advective: bool,
    /// Dimension of the mesh.
    pub dimension: usize,
    /// Degree of the space.
    pub degree: u32,
    /// Near-null space in owned DOFs: rigid motions.
    pub near_null: Vec<Vec<f64>>,
    /// True null space in owned DOFs; empty when the problem is regular.
    pub null: Vec<Vec<f64>>,
}

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
pub fn to_petsc(comm: &Comm, map: &IndexMap, pattern: &Pattern, matrix: Matrix) -> Result<Mat, Error> {
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

/// Solves for the change from the lifted state, starting at zero. Collective.
///
/// Returns the owned entries of the solution and how it went.
///
/// # Errors
/// A method that does not exist or does not fit; a failure inside PETSc. Not converging is none: see
/// [`Report::converged`].
pub fn solve_assembled(
    comm: &Comm,
    map: &IndexMap,
    pattern: &Pattern,
    matrix: Matrix,
    problem: &Problem,
    rhs: &[f64],
    options: &Options,
    progress: &mut dyn FnMut(u32, f64),
) -> Result<(Vec<f64>, Report), Error> {
    let block = matrix.block;
    let mat = to_petsc(comm, map, pattern, matrix)?;
    let system = System {
        comm,
        matrix: &mat,
        block_size: block,
        n_global: map.n_global() * block as u64,
        n_owned: map.n_owned() * block,
        symmetric: problem.symmetric,
        law: &problem.law,
        advective: problem.advective,
        dimension: problem.dimension,
        near_null: problem.near_null.clone(),
        null: problem.null.clone(),
        degree: problem.degree,
    };
    let mut x = vec![0.0; rhs.len()];
    let report = solve(&system, rhs, &mut x, options, progress)?;
    Ok((x, report))
}

/// The PETSc options given that nothing has asked for: misspelt ones are among them.
///
/// # Errors
/// PETSc's own.
pub fn unused_options() -> Result<Vec<String>, Error> {
    Ok(petsc::options_left()?)
}

/// Starts PETSc on the ranks of `comm`; it ends when the value is dropped, after all matrices. Collective.
///
/// # Errors
/// When PETSc does not start.
pub fn start(comm: &Comm) -> Result<petsc::Session, Error> {
    Ok(petsc::initialize(comm.raw(), &[])?)
}
