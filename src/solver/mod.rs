//! Linear systems: which Krylov method and preconditioner, run by PETSc, and an honest report.
//!
//! May import `cluster`, `petsc` (the only module that does) and `assembly`. Start at [`solve`]; `method.rs` has the
//! names and what they mean to PETSc, `choose.rs` what `auto` picks, `krylov.rs` the solve itself.

pub(crate) mod assembled;
mod choose;
pub mod installed;
mod krylov;
mod method;
#[allow(dead_code)]
pub(crate) mod multigrid;
mod report;

use std::time::Duration;

use cluster::Comm;
use petsc::{NullSpace, Vec as PetscVec};
use serde::{Deserialize, Serialize};

pub use assembled::{Problem, solve_assembled, start, unused_options};
use choose::Candidate;
pub use method::Method;
pub use report::{Error, Report};

/// The `[solver]` section of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `auto`, `direct`, `petsc`, or a Krylov method and a preconditioner: `cg+boomeramg`, `gmres+asm`, ...
    pub method: String,
    /// The solution satisfies `||b - A x|| <= tolerance ||b||`.
    pub tolerance: f64,
    /// Iterations at most.
    pub max_iterations: u32,
    /// PETSc options, as on its command line; they win over everything the method sets.
    pub petsc: String,
    /// Layers of overlap of the Schwarz methods; 1 if absent.
    pub overlap: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            method: "auto".to_owned(),
            tolerance: 1e-8,
            max_iterations: 1000,
            petsc: String::new(),
            overlap: None,
        }
    }
}

/// A matrix and what is known about it.
pub struct System<'a> {
    /// The ranks that share the matrix.
    pub comm: &'a Comm,
    /// The matrix.
    pub matrix: &'a petsc::Mat,
    /// Unknowns at a node.
    pub block_size: usize,
    /// Rows of all ranks.
    pub n_global: u64,
    /// Rows of this rank.
    pub n_owned: usize,
    /// Whether the matrix is symmetric.
    pub symmetric: bool,
    /// The name of the law, for the report.
    pub law: &'a str,
    /// Whether the law transports with a velocity.
    pub advective: bool,
    /// Space dimension.
    pub dimension: usize,
    /// Vectors that the operator without boundary conditions maps to zero (rigid body modes); shape
    /// `[n_modes][n_owned]`. Need not be orthonormal.
    pub near_null: Vec<Vec<f64>>,
    /// A basis of the true null space; usually empty. Shape `[n_modes][n_owned]`.
    pub null: Vec<Vec<f64>>,
    /// Polynomial degree of the elements.
    pub degree: u32,
}

/// Solves `A x = b` to `||b - A x|| <= tolerance ||b||`.
///
/// `x` is the initial guess and receives the solution. With a null space, `b` is first projected on its
/// complement and the solution has no part in it. `progress` gets the iteration and the relative residual.
///
/// Not converging is a report with `converged: false` and a diagnosis, not an error.
///
/// Collective: all arguments but `b` and `x` are the same on all ranks.
///
/// Shapes: `b` and `x` have `n_owned` entries.
///
/// # Errors
/// A method that does not exist, is not supported yet or does not suit the matrix; a failing PETSc call.
pub fn solve(
    system: &System,
    b: &[f64],
    x: &mut [f64],
    opt: &Options,
    progress: &mut dyn FnMut(u32, f64),
) -> Result<Report, Error> {
    let mut candidates = choose::candidates(system, opt)?;
    let mine = if b.len() == system.n_owned && x.len() == system.n_owned { 0 } else { 1 };
    if system.comm.max(mine) != 0u32 {
        return Err(Error::Length { n_owned: system.n_owned, b: b.len(), x: x.len() });
    }
    let comm = system.comm.raw();
    let mut rhs = PetscVec::from_slice(comm, b, system.n_global)?;
    let whole_norm = rhs.norm2()?;
    if !whole_norm.is_finite() {
        return Err(Error::NotFinite);
    }

    let null = null_space(system, &system.null)?;
    if let Some(space) = &null {
        space.remove(&mut rhs)?;
    }
    let norm = rhs.norm2()?;
    let inconsistent = null.is_some() && norm <= whole_norm * (1.0 - 1e-8);
    // A right-hand side that is all null space has round-off for a remainder.
    if norm <= if null.is_some() { 1e-14 * whole_norm } else { 0.0 } {
        x.fill(0.0);
        let mut report = Report::trivial(candidates.remove(0));
        report.note_inconsistent(inconsistent);
        return Ok(report);
    }

    let near = null_space(system, &system.near_null)?;
    system.matrix.set_symmetric(system.symmetric)?;
    system.matrix.set_null_space(null.as_ref())?;
    system.matrix.set_near_null_space(near.as_ref())?;

    let guess = PetscVec::from_slice(comm, x, system.n_global)?;
    let mut best: Option<(Report, Vec<f64>)> = None;
    let mut attempts: Vec<String> = Vec::new();
    let (mut set_up, mut solving, mut iterations) = (Duration::ZERO, Duration::ZERO, 0);
    let last = candidates.len() - 1;
    let mut indefinite = false;
    for (i, Candidate { method, reason }) in candidates.into_iter().enumerate() {
        // What CG found out about the matrix holds with any preconditioner.
        if indefinite && method.needs_positive_definite() {
            continue;
        }
        let mut solution = guess.read(|g| PetscVec::from_slice(comm, g, system.n_global))??;
        let limit =
            if i < last { opt.max_iterations.min(choose::TRIAL_ITERATIONS) } else { opt.max_iterations };
        let outcome = krylov::run(system, &method, &rhs, norm, &mut solution, opt, limit, progress)?;
        if let Some(space) = &null {
            space.remove(&mut solution)?;
        }
        set_up += outcome.set_up;
        solving += outcome.solve;
        iterations += outcome.iterations;
        indefinite |= outcome.reason == petsc::Reason::DivergedIndefiniteMatrix;
        let mut report = Report::new(&method, reason, &outcome);
        let better = best.as_ref().is_none_or(|(b, _)| {
            report.converged || report.relative_residual < b.relative_residual || b.relative_residual.is_nan()
        });
        let converged = report.converged;
        if !converged {
            attempts.push(report.as_attempt());
        }
        if better {
            report.note_inconsistent(inconsistent);
            best = Some((report, solution.read(<[f64]>::to_vec)?));
        }
        if converged {
            break;
        }
    }
    // `candidates` is never empty, so there is a best one.
    let (mut report, solution) = best.ok_or(Error::NotFinite)?;
    if last > 0 {
        report.attempts = attempts;
    }
    x.copy_from_slice(&solution);
    report.iterations = if report.converged { report.iterations } else { iterations };
    report.setup_seconds = set_up.as_secs_f64();
    report.solve_seconds = solving.as_secs_f64();
    Ok(report)
}

/// The span of `modes`, orthonormalised; none if there are none.
fn null_space(system: &System, modes: &[Vec<f64>]) -> Result<Option<NullSpace>, Error> {
    let comm = system.comm.raw();
    let mut basis: Vec<PetscVec> = Vec::with_capacity(modes.len());
    for mode in modes {
        let mut v = PetscVec::from_slice(comm, mode, system.n_global)?;
        v.set_block_size(system.block_size)?;
        let original = v.norm2()?;
        // Gram-Schmidt, twice: once leaves errors of the size of the modes' dependence.
        for _ in 0..2 {
            for q in &basis {
                let dot = v.dot(q)?;
                v.axpy(-dot, q)?;
            }
        }
        let norm = v.norm2()?;
        // A mode that depends on the others (a rotation of a single point) adds nothing.
        if norm > 1e-8 * original && norm > 0.0 {
            v.scale(1.0 / norm)?;
            basis.push(v);
        }
    }
    if basis.is_empty() { Ok(None) } else { Ok(Some(NullSpace::new(comm, false, &basis)?)) }
}
