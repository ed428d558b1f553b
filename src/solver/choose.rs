//! What `auto` picks, and what it tries when that fails.

use super::method::{can_factorise, has_package};
use super::{Error, Method, Options, System};

/// Iterations after which `auto` gives up on a choice that is not its last.
pub(super) const TRIAL_ITERATIONS: u32 = 300;

/// Up to this size a factorisation is faster than PETSc's multigrid, or ours for a vector law: in 3D, and in 2D
/// where factors fill much less.
const DIRECT_3D: u64 = 5_000;
const DIRECT_2D: u64 = 60_000;

/// Up to this size a factorisation costs nothing that anyone waits for, and its answer is exact on any number of
/// ranks.
const TINY: u64 = 1_000;

/// Up to this size a factorisation is worth its memory when everything else failed.
const LAST_RESORT_3D: u64 = 200_000;
const LAST_RESORT_2D: u64 = 2_000_000;

/// A method to try, and why.
pub(super) struct Candidate {
    pub(super) method: Method,
    pub(super) reason: String,
}

/// What is known of a system before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Unknowns over all ranks.
    pub unknowns: u64,
    /// Dimension of the mesh.
    pub dimension: usize,
    /// Unknowns at a node.
    pub components: usize,
    /// Polynomial degree.
    pub degree: usize,
    /// Whether the matrix is symmetric.
    pub symmetric: bool,
    /// Whether the law transports with a velocity.
    pub advective: bool,
}

/// The method that `auto` will try first, for a system without null space.
pub fn expected_method(system: &Expected) -> String {
    let &Expected { unknowns, dimension, components, degree, symmetric, advective } = system;
    let direct = unknowns <= if dimension < 3 { DIRECT_2D } else { DIRECT_3D };
    if symmetric && !advective && !(direct && (components > 1 || unknowns <= TINY)) {
        return Method::iterative("cg", if degree == 1 { "amg" } else { "pmg" }).to_string();
    }
    if direct {
        return Method::Direct.to_string();
    }
    Method::iterative("gmres", if has_package("hypre") { "boomeramg" } else { "gamg" }).to_string()
}

/// The methods to try, in order; at least one.
pub(super) fn candidates(system: &System, opt: &Options) -> Result<Vec<Candidate>, Error> {
    let problem = system.problem;
    let method = Method::parse(&opt.method)?;
    if method != Method::Auto {
        method.check(problem.symmetric)?;
        if method == Method::Direct && !can_factorise(system.comm.size()) {
            return Err(Error::Refused {
                method: "direct".to_owned(),
                reason: "this PETSc has neither MUMPS nor SuperLU_DIST, and its own factorisation runs on one rank"
                    .to_owned(),
            });
        }
        if let Some(method) = method.at_degree_1().filter(|_| problem.degree == 1) {
            let reason = "asked for; p-multigrid at degree 1 is amg".to_owned();
            return Ok(vec![Candidate { method, reason }]);
        }
        return Ok(vec![Candidate { method, reason: "asked for".to_owned() }]);
    }
    let flat = problem.dimension < 3;
    let factorise = can_factorise(system.comm.size()) && problem.null.is_empty();
    let (small, large) = if flat { (DIRECT_2D, LAST_RESORT_2D) } else { (DIRECT_3D, LAST_RESORT_3D) };
    let multigrid = if has_package("hypre") { "boomeramg" } else { "gamg" };
    let law = problem.law;

    let mut list = Vec::new();
    let mut add = |method: Method, reason: String| list.push(Candidate { method, reason });
    let direct = factorise && system.n_global <= small;
    // PETSc takes the matrix over: methods of ours stand first or not at all.
    let tiny = system.n_global <= TINY;
    let ours = problem.symmetric && !problem.advective && !(direct && (system.block > 1 || tiny));
    if ours {
        let kind = if system.block > 1 { "vector" } else { "scalar" };
        let (preconditioner, what) = if problem.degree == 1 {
            ("amg", "smoothed aggregation".to_owned())
        } else {
            ("pmg", format!("p-multigrid from degree {} to 1, smoothed aggregation below", problem.degree))
        };
        add(Method::iterative("cg", preconditioner), format!("symmetric {kind} law ({law}): {what}"));
    }
    if direct {
        let size = format!("{} unknowns in {}D", system.n_global, problem.dimension);
        let reason = if ours {
            format!("multigrid of our own did not converge; {size}: a factorisation is cheap")
        } else {
            format!("{size}: a factorisation is fastest")
        };
        add(Method::Direct, reason);
    }
    let instead = if direct { "the factorisation failed" } else { "multigrid of our own did not converge" };
    if !problem.symmetric || problem.advective {
        add(Method::iterative("gmres", multigrid), format!("nonsymmetric law ({law})"));
        add(Method::iterative("gmres", "ras"), "multigrid did not converge: transport dominates".to_owned());
    } else if system.block > 1 {
        add(Method::iterative("cg", "gamg"), instead.to_owned());
        add(Method::iterative("cg", multigrid), "aggregation did not converge".to_owned());
    } else {
        let aggressive = multigrid == "boomeramg";
        add(Method::Iterative { krylov: "cg", preconditioner: multigrid, aggressive }, instead.to_owned());
        if aggressive {
            add(Method::iterative("cg", multigrid), "aggressive coarsening did not converge".to_owned());
        }
        add(Method::iterative("gmres", multigrid), "the matrix may be indefinite".to_owned());
    }
    if !direct && factorise && system.n_global <= large {
        add(Method::Direct, "iterations did not converge, and the size permits a factorisation".to_owned());
    }
    Ok(list)
}
