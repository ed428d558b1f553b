//! Why an iteration ended, in words.

use std::fmt;

/// Why a Krylov iteration ended. `Display` is a sentence for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The residual fell below the relative tolerance.
    ConvergedRelative,
    /// The residual fell below the absolute tolerance.
    ConvergedAbsolute,
    /// The prescribed number of iterations was made (no residual test).
    ConvergedIterations,
    /// The method ended with an exact solution in its Krylov space.
    ConvergedBreakdown,
    /// Another of PETSc's reasons for success.
    ConvergedOther(i32),
    /// The iteration limit was reached.
    DivergedIterations,
    /// The residual grew beyond the divergence tolerance.
    DivergedTolerance,
    /// The method broke down.
    DivergedBreakdown,
    /// The operator or preconditioner is not symmetric, though the method needs it.
    DivergedNonsymmetric,
    /// The preconditioner is not positive definite.
    DivergedIndefinitePreconditioner,
    /// The matrix is not positive definite.
    DivergedIndefiniteMatrix,
    /// A value that is not a number, or infinite.
    DivergedNotANumber,
    /// The preconditioner could not be set up or applied.
    DivergedPreconditionerFailed,
    /// Another of PETSc's reasons for failure.
    DivergedOther(i32),
    /// Whoever watched the iteration asked it to stop.
    Stopped,
    /// No iteration has ended yet.
    Iterating,
}

impl Reason {
    /// From `KSPConvergedReason`; the numbers have been the same in all PETSc versions.
    pub(crate) fn from_code(code: i32) -> Reason {
        match code {
            0 => Reason::Iterating,
            1 | 2 => Reason::ConvergedRelative,
            3 | 9 => Reason::ConvergedAbsolute,
            4 => Reason::ConvergedIterations,
            8 => Reason::ConvergedBreakdown,
            c if c > 0 => Reason::ConvergedOther(c),
            -3 => Reason::DivergedIterations,
            -4 => Reason::DivergedTolerance,
            -5 | -6 => Reason::DivergedBreakdown,
            -7 => Reason::DivergedNonsymmetric,
            -8 => Reason::DivergedIndefinitePreconditioner,
            -9 => Reason::DivergedNotANumber,
            -10 => Reason::DivergedIndefiniteMatrix,
            -11 => Reason::DivergedPreconditionerFailed,
            c => Reason::DivergedOther(c),
        }
    }

    /// Whether PETSc calls it a success.
    pub fn converged(self) -> bool {
        matches!(
            self,
            Reason::ConvergedRelative
                | Reason::ConvergedAbsolute
                | Reason::ConvergedIterations
                | Reason::ConvergedBreakdown
                | Reason::ConvergedOther(_)
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Reason::ConvergedRelative => "the residual fell below the relative tolerance",
            Reason::ConvergedAbsolute => "the residual fell below the absolute tolerance",
            Reason::ConvergedIterations => "the prescribed number of iterations was made",
            Reason::ConvergedBreakdown => "the method ended with an exact solution",
            Reason::ConvergedOther(c) => {
                return write!(f, "the method ended with success (PETSc reason {c})");
            }
            Reason::DivergedIterations => "the iteration limit was reached before the tolerance",
            Reason::DivergedTolerance => "the residual grew without bound",
            Reason::DivergedBreakdown => "the method broke down: a division by a number close to zero",
            Reason::DivergedNonsymmetric => "the matrix or the preconditioner is not symmetric",
            Reason::DivergedIndefinitePreconditioner => "the preconditioner is not positive definite",
            Reason::DivergedIndefiniteMatrix => "the matrix is not positive definite",
            Reason::DivergedNotANumber => "a value became infinite or not a number",
            Reason::DivergedPreconditionerFailed => "the preconditioner could not be set up",
            Reason::DivergedOther(c) => return write!(f, "the method failed (PETSc reason {c})"),
            Reason::Stopped => "the iteration was asked to stop",
            Reason::Iterating => "no iteration has ended",
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn codes_are_those_of_the_installed_petsc() {
        let pairs = [
            (sys::KSPConvergedReason_KSP_CONVERGED_RTOL, Reason::ConvergedRelative),
            (sys::KSPConvergedReason_KSP_CONVERGED_ATOL, Reason::ConvergedAbsolute),
            (sys::KSPConvergedReason_KSP_CONVERGED_ITS, Reason::ConvergedIterations),
            (sys::KSPConvergedReason_KSP_DIVERGED_ITS, Reason::DivergedIterations),
            (sys::KSPConvergedReason_KSP_DIVERGED_DTOL, Reason::DivergedTolerance),
            (sys::KSPConvergedReason_KSP_DIVERGED_BREAKDOWN, Reason::DivergedBreakdown),
            (sys::KSPConvergedReason_KSP_DIVERGED_INDEFINITE_PC, Reason::DivergedIndefinitePreconditioner),
            (sys::KSPConvergedReason_KSP_DIVERGED_INDEFINITE_MAT, Reason::DivergedIndefiniteMatrix),
            (sys::KSPConvergedReason_KSP_DIVERGED_NANORINF, Reason::DivergedNotANumber),
            (sys::KSPConvergedReason_KSP_DIVERGED_PC_FAILED, Reason::DivergedPreconditionerFailed),
        ];
        for (code, reason) in pairs {
            assert_eq!(Reason::from_code(code), reason);
            assert_eq!(reason.converged(), code > 0);
        }
    }
}
