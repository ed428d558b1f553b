//! Conjugate gradients with a preconditioner of ours: products, sums and updates on threads.
//!
//! Imports its siblings. PETSc's vectors are serial, so that its CG leaves threads idle for a tenth of an
//! iteration; all other Krylov methods are PETSc's. Source: M. Hestenes, E. Stiefel, "Methods of conjugate
//! gradients for solving linear systems", J. Res. NBS 49, 1952.

use petsc::{Reason, Watch};

use super::operator::Operator;
use super::vectors::{Sums, combine, remove};

/// The vectors of the iteration.
pub(super) struct Work {
    pub(super) sums: Sums,
    /// The residual.
    pub(super) r: Vec<f64>,
    z: Vec<f64>,
    p: Vec<f64>,
    q: Vec<f64>,
}

impl Work {
    /// For `n` owned rows.
    pub(super) fn new(comm: &cluster::Comm, n: usize) -> Work {
        let zero = || vec![0.0; n];
        Work { sums: Sums::new(comm, n), r: zero(), z: zero(), p: zero(), q: zero() }
    }

    /// Sets the residual to `b - A x` and returns its norm. Collective.
    pub(super) fn residual(&mut self, operator: &mut Operator, b: &[f64], x: &[f64]) -> f64 {
        operator.apply(x, &mut self.r);
        combine(1.0, b, -1.0, &mut self.r);
        self.sums.norm(&self.r)
    }
}

/// Why an iteration ended.
pub(super) struct Ended {
    pub(super) iterations: u32,
    pub(super) reason: Reason,
}

/// How far the residual may grow beyond where it began.
const DIVERGENCE: f64 = 1e5;

/// A preconditioner: sets the last argument from a residual and its norm.
pub(super) type Precondition<'a> = dyn FnMut(&[f64], f64, &mut [f64]) + 'a;

/// Improves `x` until the norm of the residual is at most `target`; `work.r` is the residual of `x`, of norm
/// `norm`. `null` is an orthonormal basis of the null space; the iteration stays out of it. Collective.
pub(super) fn iterate(
    operator: &mut Operator,
    precondition: &mut Precondition,
    null: &[Vec<f64>],
    work: &mut Work,
    x: &mut [f64],
    mut norm: f64,
    target: f64,
    max_iterations: u32,
    watch: &mut Watch,
) -> Ended {
    let _span = tracing::debug_span!("cg").entered();
    let Work { sums, r, z, p, q } = work;
    let first = norm;
    let mut rho = 0.0;
    let mut iterations = 0;
    let mut stop = watch(0, norm, &mut || x.to_vec());
    let reason = loop {
        // All numbers that decide are sums over the ranks: every rank takes the same branch.
        if norm <= target {
            break Reason::ConvergedAbsolute;
        }
        if !norm.is_finite() {
            break Reason::DivergedNotANumber;
        }
        if norm > DIVERGENCE * first {
            break Reason::DivergedTolerance;
        }
        if stop {
            break Reason::Stopped;
        }
        if iterations == max_iterations {
            break Reason::DivergedIterations;
        }
        {
            let _span = tracing::debug_span!("precondition").entered();
            precondition(r, norm, z);
        }
        remove(null, sums, z);
        let previous = std::mem::replace(&mut rho, sums.dot(r, z));
        if !rho.is_finite() {
            break Reason::DivergedNotANumber;
        }
        if rho <= 0.0 {
            break Reason::DivergedIndefinitePreconditioner;
        }
        combine(1.0, z, if iterations == 0 { 0.0 } else { rho / previous }, p);
        let part = operator.apply(p, q);
        let curvature = sums.all(part);
        if !curvature.is_finite() {
            break Reason::DivergedNotANumber;
        }
        if curvature <= 0.0 {
            break Reason::DivergedIndefiniteMatrix;
        }
        norm = sums.step(rho / curvature, p, q, x, r);
        iterations += 1;
        stop = watch(iterations, norm, &mut || x.to_vec());
    };
    Ended { iterations, reason }
}
