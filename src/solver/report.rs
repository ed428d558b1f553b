//! What a solve did, in numbers and words.

use petsc::Reason;
use serde::Serialize;

use super::Method;
use super::choose::Candidate;
use super::krylov::Outcome;

/// What a solve did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The method that was used.
    pub method: String,
    /// Why.
    pub reason: String,
    /// Iterations of the method that converged, or of all attempts if none did.
    pub iterations: u32,
    /// `||b - A x|| / ||b||`, computed from the solution.
    pub relative_residual: f64,
    /// Whether that is at most the tolerance.
    pub converged: bool,
    /// Whether whoever watched had it stop before that.
    pub stopped: bool,
    /// If not: what happened and what to try. Also a remark on a system that is not consistent.
    pub diagnosis: Option<String>,
    /// Methods that `auto` tried without success.
    pub attempts: Vec<String>,
    /// Iterations and the relative residuals that the method tracked there, at most
    /// [`History::MOST`] of them, the first and the last among them.
    pub history: Vec<(u32, f64)>,
    /// Time to set up preconditioners.
    pub setup_seconds: f64,
    /// Time to iterate.
    pub solve_seconds: f64,
}

impl Report {
    pub(super) fn new(method: &Method, reason: String, outcome: &Outcome) -> Report {
        let method = match method {
            Method::Petsc => format!("petsc ({} + {})", outcome.types.0, outcome.types.1),
            other => other.to_string(),
        };
        Report {
            method,
            reason,
            iterations: outcome.iterations,
            relative_residual: outcome.relative_residual,
            converged: outcome.converged,
            stopped: !outcome.converged && outcome.reason == Reason::Stopped,
            diagnosis: (!outcome.converged).then(|| diagnosis(outcome)),
            attempts: Vec::new(),
            history: Vec::new(),
            setup_seconds: 0.0,
            solve_seconds: 0.0,
        }
    }

    /// Of a system whose right-hand side is zero.
    pub(super) fn trivial(candidate: Candidate) -> Report {
        Report {
            method: candidate.method.to_string(),
            reason: "the right-hand side is zero, so is the solution".to_owned(),
            iterations: 0,
            relative_residual: 0.0,
            converged: true,
            stopped: false,
            diagnosis: None,
            attempts: Vec::new(),
            history: Vec::new(),
            setup_seconds: 0.0,
            solve_seconds: 0.0,
        }
    }

    pub(super) fn note_inconsistent(&mut self, inconsistent: bool) {
        if inconsistent {
            let note = "the system is singular and its right-hand side not in its range (loads out of balance, or \
                        inflow that does not match sources): that part was removed";
            self.diagnosis = Some(match self.diagnosis.take() {
                Some(d) => format!("{d}. Besides, {note}"),
                None => note.to_owned(),
            });
        }
    }

    /// One line for the list of attempts.
    pub(super) fn as_attempt(&self) -> String {
        format!(
            "{}: {} iterations to a relative residual of {:.1e}; {}",
            self.method,
            self.iterations,
            self.relative_residual,
            self.diagnosis.as_deref().unwrap_or("no diagnosis")
        )
    }
}

/// Residuals by iteration, of many iterations every second, fourth, ... one.
#[derive(Debug, Clone, Default)]
pub struct History {
    kept: Vec<(u32, f64)>,
    last: Option<(u32, f64)>,
    /// Only multiples of 2 to this are kept.
    shift: u32,
}

impl History {
    /// Entries at most.
    pub const MOST: usize = 200;

    /// Adds an iteration; one that starts again from its own result replaces what it began with.
    pub(super) fn add(&mut self, iteration: u32, residual: f64) {
        self.last = Some((iteration, residual));
        if iteration & ((1 << self.shift) - 1) != 0 {
            return;
        }
        if let Some(same) = self.kept.last_mut().filter(|kept| kept.0 == iteration) {
            same.1 = residual;
            return;
        }
        self.kept.push((iteration, residual));
        if self.kept.len() == Self::MOST {
            self.shift += 1;
            self.kept.retain(|(k, _)| k & ((1 << self.shift) - 1) == 0);
        }
    }

    /// What was kept, and the last.
    pub(super) fn entries(mut self) -> Vec<(u32, f64)> {
        self.kept.extend(self.last.filter(|last| self.kept.last() != Some(last)));
        self.kept
    }
}

/// What went wrong and what to try.
fn diagnosis(outcome: &Outcome) -> String {
    let advice = match outcome.reason {
        Reason::DivergedIterations => {
            "raise max_iterations, or use a stronger preconditioner (amg, boomeramg, gamg) or method = \"direct\""
        }
        Reason::DivergedIndefiniteMatrix | Reason::DivergedIndefinitePreconditioner => {
            "cg needs a positive definite matrix: check the sign of coefficients, or use gmres or direct"
        }
        Reason::DivergedNotANumber => "check the coefficients, and the mesh for degenerate cells",
        Reason::DivergedPreconditionerFailed => {
            "the matrix may be singular: check that the body is held and that each unknown is coupled"
        }
        Reason::DivergedBreakdown => "use gmres, which does not break down",
        Reason::DivergedNonsymmetric => "use gmres or bicgstab",
        reason if reason.converged() => {
            "the true residual cannot be made smaller in double precision: the matrix is badly conditioned, or the \
             tolerance too tight"
        }
        _ => "try method = \"direct\" or gmres with another preconditioner",
    };
    match &outcome.failure {
        Some(failure) => format!("{}: {failure}; {advice}", outcome.reason),
        None => format!("{}; {advice}", outcome.reason),
    }
}

/// What stops a solve before it can report.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No method of this name.
    #[error("there is no solver method \"{name}\"; the nearest is \"{nearest}\"")]
    UnknownMethod {
        /// The name given.
        name: String,
        /// The nearest name there is.
        nearest: String,
    },
    /// A reserved name.
    #[error(
        "solver method \"{name}\" is not supported yet; use \"auto\", \"cg+amg\", \"cg+boomeramg\", \"cg+gamg\", \
         \"gmres+asm\", \"gmres+ras\" or \"direct\""
    )]
    NotSupported {
        /// The name given.
        name: String,
    },
    /// A method that does not suit the system or the PETSc at hand.
    #[error("solver method \"{method}\" is refused: {reason}")]
    Refused {
        /// The method.
        method: String,
        /// Why, and what to use.
        reason: String,
    },
    /// Vectors that do not fit the matrix, here or on another rank.
    #[error("a system of {n_owned} rows on this rank with a right-hand side of {b}")]
    Length {
        /// Rows of this rank.
        n_owned: usize,
        /// Entries of the right-hand side.
        b: usize,
    },
    /// The right-hand side is infinite or not a number.
    #[error(
        "the right-hand side has entries that are infinite or not a number: check sources and boundary values"
    )]
    NotFinite,
    /// PETSc failed.
    #[error(transparent)]
    Petsc(#[from] petsc::Error),
}

impl Error {
    /// Whether PETSc refused a value, as it does with options that name no method or no number: codes
    /// `PETSC_ERR_SUP`, `ARG_WRONG`, `ARG_OUTOFRANGE`, `ARG_INCOMP`, `UNKNOWN_TYPE`.
    pub fn is_refused_option(&self) -> bool {
        matches!(self, Error::Petsc(petsc::Error::Petsc { code: 56 | 62 | 63 | 75 | 86, .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_its_ends_and_few_between() {
        for n in [0, 1, 5, 199, 200, 201, 1000, 77_777] {
            let mut history = History::default();
            (0..=n).for_each(|k| history.add(k, 1.0 / f64::from(k + 1)));
            let entries = history.entries();
            assert!(
                entries.len() <= History::MOST && entries.len() > (n as usize).min(History::MOST / 2 - 1)
            );
            assert_eq!(entries[0], (0, 1.0));
            assert_eq!(entries[entries.len() - 1], (n, 1.0 / f64::from(n + 1)));
            assert!(entries.windows(2).all(|w| w[0].0 < w[1].0));
        }
    }

    #[test]
    fn starting_again_does_not_repeat_an_iteration() {
        let mut history = History::default();
        [(0, 1.0), (1, 0.1), (1, 0.2), (2, 0.01)].into_iter().for_each(|(k, r)| history.add(k, r));
        assert_eq!(history.entries(), [(0, 1.0), (1, 0.2), (2, 0.01)]);
    }
}
