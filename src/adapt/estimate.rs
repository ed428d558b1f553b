//! Estimates of the error of a discrete solution, by cell.
//!
//! Imports `assembly` and `mesh`. Start at [`kelly`] and [`recovery`]; `goal` is beside. Squares of
//! indicators stand one for each owned cell, block after block; sums over ranks are the only communication
//! beside one exchange of nodal values for the recovery.

use crate::assembly::{AssemblyError, Essential, Problem, Weights};
use crate::mesh::facets::Facets;

/// An estimate of the error.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Squares of the indicators of owned cells, block after block.
    pub indicators: Vec<f64>,
    /// The root of their sum over all ranks.
    pub total: f64,
}

impl Estimate {
    /// Adds up over all ranks. Collective.
    fn new(problem: &dyn Problem, indicators: Vec<f64>) -> Estimate {
        let total = problem.discretisation().mesh.comm.sum(indicators.iter().sum::<f64>()).sqrt();
        Estimate { indicators, total }
    }
}

/// Factors of the residual estimator's parts, such that it is about the size of the error in the energy
/// norm; found on manufactured solutions, see `docs/theory.md`.
pub const RESIDUAL_WEIGHTS: Weights = Weights { inside: 0.08, jumps: 0.1, boundary: 0.1 };

/// The residual estimator with jumps of the flux, called Kelly's. Collective, and so is its error.
///
/// Source: D. Kelly, J. Gago, O. Zienkiewicz, I. Babuska, Int. J. Numer. Methods Engrg. 19 (1983); R.
/// Verfuerth, A Posteriori Error Estimation Techniques for Finite Element Methods (2013); robust for jumping
/// coefficients as in C. Bernardi, R. Verfuerth, Numer. Math. 85 (2000), for reaction and convection as in R.
/// Verfuerth, SIAM J. Numer. Anal. 43 (2005).
///
/// # Errors
/// A coefficient, its derivative or a condition that is not a number at a point.
pub fn kelly(
    problem: &dyn Problem,
    facets: &Facets,
    essential: &[Essential],
    u: &[f64],
) -> Result<Estimate, AssemblyError> {
    let _span = tracing::debug_span!("kelly").entered();
    let comm = &problem.discretisation().mesh.comm;
    let indicators = comm.agree(problem.residual_indicators(facets, essential, u, RESIDUAL_WEIGHTS))?;
    Ok(Estimate::new(problem, indicators))
}

/// The recovery estimator: the energy norm of what separates the gradient from a smoother one, fitted round
/// each vertex within each region. Collective, and so is its error.
///
/// Source: O. Zienkiewicz, J. Zhu, Int. J. Numer. Methods Engrg. 33 (1992).
///
/// # Errors
/// A coefficient that is not a number at a point.
pub fn recovery(problem: &dyn Problem, u: &[f64]) -> Result<Estimate, AssemblyError> {
    let _span = tracing::debug_span!("recovery estimate").entered();
    Ok(Estimate::new(problem, problem.recovery_indicators(u)?))
}

/// The energy norm of the solution. Collective, and so is its error.
///
/// # Errors
/// A coefficient that is not a number at a point.
pub fn energy_norm(problem: &dyn Problem, u: &[f64]) -> Result<f64, AssemblyError> {
    let comm = &problem.discretisation().mesh.comm;
    Ok(comm.sum(comm.agree(problem.energy(u))?).max(0.0).sqrt())
}
