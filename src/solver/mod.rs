//! Linear systems: which Krylov method and preconditioner, ours or PETSc's, and an honest report.
//!
//! May import `cluster`, `petsc` (the only module that does), `assembly` and what stands before it. Start at
//! [`solve`]; `method.rs` has the names and what they mean to PETSc, `choose.rs` what `auto` picks, `krylov.rs` the
//! solve itself. `operator.rs`, `vectors.rs`, `cg.rs` and `multigrid/` are ours, with `transfer.rs` between
//! polynomial degrees; `assembled.rs` hands a matrix to PETSc, which `session.rs` starts when a solve needs it.

mod assembled;
mod cg;
mod choose;
#[cfg(test)]
mod hanging_tests;
pub mod installed;
mod krylov;
mod method;
pub mod multigrid;
mod operator;
mod report;
mod session;
mod transfer;
mod vectors;

use std::time::Duration;

use cluster::{Comm, Halo, IndexMap};
use serde::{Deserialize, Serialize};

use crate::assembly::{Matrix, Pattern};
use assembled::Stored;
use choose::Candidate;
pub use choose::{Expected, expected_method};
use krylov::Task;
pub use method::Method;
pub use operator::Operator;
pub use petsc::Watch;
pub use report::{Error, History, Report};
pub use session::{Session, log_petsc, petsc_events, ready, start, unused_options};
pub use transfer::{Modes, to_vertices};
use vectors::{Sums, orthonormal, remove};

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

/// What there is to know of a linear problem beside its matrix.
pub struct Problem<'a> {
    /// Whether the matrix is symmetric.
    pub symmetric: bool,
    /// The law's name, for the reason given.
    pub law: &'a str,
    /// Whether the law transports with a velocity.
    pub advective: bool,
    /// Dimension of the mesh.
    pub dimension: usize,
    /// Polynomial degree of the elements.
    pub degree: u32,
    /// A basis of the true null space in owned DOFs, shape `[n_modes][n_owned]`; empty when the problem is
    /// regular.
    pub null: &'a [Vec<f64>],
    /// Makes the vectors that the operator without boundary conditions maps to zero (rigid motions), in owned
    /// DOFs; need not be orthonormal. None means the constant. Called by methods that use them. Not
    /// collective.
    pub near_null: &'a dyn Fn() -> Vec<Vec<f64>>,
    /// What is known of the solution, in owned DOFs, if anything is: `b` is then the residual there, and the
    /// tolerance is relative to the norm of the right-hand side without it, `b + A given`.
    pub given: Option<&'a [f64]>,
    /// Makes the prolongation from degree 1, for p-multigrid. Collective.
    pub transfer: &'a dyn Fn() -> multigrid::Transfer,
}

/// A problem on its rows.
struct System<'a> {
    comm: &'a Comm,
    map: &'a IndexMap,
    halo: &'a Halo,
    problem: &'a Problem<'a>,
    /// Unknowns at a node.
    block: usize,
    /// Rows of this rank.
    n_owned: usize,
    /// Rows of all ranks.
    n_global: u64,
}

/// Solves `A x = b` to `||b - A x|| <= tolerance ||b||`, from zero; returns owned entries of `x` and how it
/// went. With a part of the solution given ([`Problem::given`]), `x` is what is missing.
///
/// With a null space, `b` is first projected on its complement and the solution has no part in it. `watch` gets
/// the iteration and the relative residual, and may have the solve stop with what it has; see [`Watch`].
///
/// Not converging is a report with `converged: false` and a diagnosis, not an error.
///
/// Collective: `problem` and `options` are the same on all ranks.
///
/// Shapes: `map` and `halo` count nodes; `b` has `matrix.block` entries for each owned one. The pattern may lose its
/// columns; its offsets stay.
///
/// # Errors
/// A method that does not exist, is not supported yet or does not suit the matrix; a failing PETSc call.
pub fn solve(
    comm: &Comm,
    (map, halo): (&IndexMap, &Halo),
    pattern: &mut Pattern,
    matrix: Matrix,
    problem: &Problem,
    mut b: Vec<f64>,
    options: &Options,
    watch: &mut Watch,
) -> Result<(Vec<f64>, Report), Error> {
    let block = matrix.block;
    let (n_owned, n_global) = (map.n_owned() * block, map.n_global() * block as u64);
    let system = System { comm, map, halo, problem, block, n_owned, n_global };
    let mut candidates = choose::candidates(&system, options)?;
    if comm.any(b.len() != n_owned) {
        return Err(Error::Length { n_owned, b: b.len() });
    }
    let mut sums = Sums::new(comm, n_owned);
    let whole_norm = sums.norm(&b);
    if !whole_norm.is_finite() {
        return Err(Error::NotFinite);
    }
    let null = orthonormal(comm, problem.null.to_vec());
    remove(&null, &mut sums, &mut b);
    let norm_b = if null.is_empty() { whole_norm } else { sums.norm(&b) };
    let inconsistent = !null.is_empty() && norm_b <= whole_norm * (1.0 - 1e-8);
    // A right-hand side that is all null space has round-off for a remainder.
    if norm_b <= if null.is_empty() { 0.0 } else { 1e-14 * whole_norm } {
        let mut report = Report::trivial(candidates.remove(0));
        report.note_inconsistent(inconsistent);
        b.fill(0.0);
        return Ok((b, report));
    }

    let norm = match problem.given {
        None => norm_b,
        Some(given) => {
            let mut known = given.to_vec();
            known.resize(map.n_local() * block, 0.0);
            halo.forward(&mut known, block);
            let mut whole = matrix.product(pattern, &known);
            whole.iter_mut().zip(&b).for_each(|(whole, b)| *whole += b);
            remove(&null, &mut sums, &mut whole);
            sums.norm(&whole)
        }
    };
    let mut stored = Stored::new(pattern, matrix);
    let mut best: Option<(Report, Vec<f64>)> = None;
    let mut attempts: Vec<String> = Vec::new();
    let (mut set_up, mut solving, mut iterations) = (Duration::ZERO, Duration::ZERO, 0);
    let last = candidates.len() - 1;
    let mut indefinite = false;
    for (i, Candidate { method, reason }) in candidates.into_iter().enumerate() {
        // What CG found out about the matrix holds with any preconditioner.
        if indefinite && method.is_cg() {
            continue;
        }
        let limit = if i < last {
            options.max_iterations.min(choose::TRIAL_ITERATIONS)
        } else {
            options.max_iterations
        };
        let mut x = vec![0.0; n_owned];
        let task = Task { b: &b, norm_b, norm, null: &null, options, max_iterations: limit };
        let mut history = History::default();
        let mut noted = |iteration: u32, residual: f64, iterate: &mut dyn FnMut() -> Vec<f64>| {
            history.add(iteration, residual);
            watch(iteration, residual, iterate)
        };
        let outcome = krylov::run(&system, &mut stored, &method, &task, &mut x, &mut noted)?;
        remove(&null, &mut sums, &mut x);
        set_up += outcome.set_up;
        solving += outcome.solve;
        iterations += outcome.iterations;
        indefinite |= outcome.reason == petsc::Reason::DivergedIndefiniteMatrix;
        let mut report = Report::new(&method, reason, &outcome);
        report.history = history.entries();
        if report.stopped {
            best = Some((report, x));
            break;
        }
        let better = best.as_ref().is_none_or(|(b, _)| {
            report.converged || report.relative_residual < b.relative_residual || b.relative_residual.is_nan()
        });
        let converged = report.converged;
        if !converged {
            attempts.push(report.as_attempt());
        }
        if better {
            report.note_inconsistent(inconsistent);
            best = Some((report, x));
        }
        if converged {
            break;
        }
    }
    // `candidates` is never empty, so there is a best one.
    let (mut report, x) = best.ok_or(Error::NotFinite)?;
    if last > 0 {
        report.attempts = attempts;
    }
    report.iterations = if report.converged { report.iterations } else { iterations };
    report.setup_seconds = set_up.as_secs_f64();
    report.solve_seconds = solving.as_secs_f64();
    Ok((x, report))
}
