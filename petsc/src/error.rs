//! How a PETSc failure becomes a value, and the checked conversion to PETSc's integers.
//!
//! PETSc reports an error by calling a handler once where it happened and once for each function it passes
//! on the way out. [`record`] is that handler: it notes the message and the trace and returns, so nothing is
//! printed. [`check`] turns the code that reaches Rust into [`Error`], and continues a panic or hands over
//! an error that a Rust callback left behind.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mpi::ffi::MPI_Comm;

use crate::{PetscInt, sys};

/// The result of a PETSc call.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A PETSc function failed.
    #[error("PETSc error {code}: {message}")]
    Petsc {
        /// PETSc's error code.
        code: i32,
        /// PETSc's own message.
        message: String,
        /// One line a function, from where it happened outwards: `function() at file:line`.
        trace: String,
    },
    /// A number does not fit PETSc's index type.
    #[error("{what} is {value}, more than PETSc's 32-bit indices hold; {advice}")]
    IndexOverflow {
        /// What was counted.
        what: String,
        /// The number.
        value: u64,
        /// What to do.
        advice: &'static str,
    },
    /// An argument that PETSc would have taken without checking.
    #[error("{0}")]
    Invalid(String),
    /// Another rank refused its part of a collective call; its own error says why.
    #[error("another rank refused its part of this call")]
    Peer,
    /// The library cannot be loaded.
    #[error("PETSc cannot be loaded: {0}")]
    Library(String),
    /// PETSc is not running, or runs already.
    #[error("{0}")]
    State(&'static str),
}

impl Error {
    /// PETSc's trace, where there is one.
    pub fn trace(&self) -> Option<&str> {
        match self {
            Error::Petsc { trace, .. } => Some(trace),
            _ => None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}

/// PETSC_ERR_USER: what a callback returns when Rust code under it failed.
const USER_ERROR: sys::PetscErrorCode = 83;

struct Recorded {
    code: i32,
    message: String,
    trace: String,
}

thread_local! {
    static RECORDED: RefCell<Option<Recorded>> = const { RefCell::new(None) };
    static PANIC: RefCell<Option<Box<dyn Any + Send>>> = const { RefCell::new(None) };
    static CALLBACK_ERROR: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// The error handler: remembers, prints nothing, returns.
#[allow(clippy::unnecessary_cast)] // the code is an enum in newer versions
pub(crate) unsafe extern "C" fn record(
    _comm: MPI_Comm,
    line: c_int,
    function: *const c_char,
    file: *const c_char,
    code: sys::PetscErrorCode,
    kind: sys::PetscErrorType,
    message: *const c_char,
    _context: *mut c_void,
) -> sys::PetscErrorCode {
    // SAFETY: PETSc passes null or strings that live for the call.
    let (function, file, message) = unsafe { (text(function), text(file), text(message)) };
    // A panic must not cross into C; a failed note is the lesser evil.
    let _ = catch_unwind(|| {
        RECORDED.with_borrow_mut(|slot| {
            if kind == sys::PetscErrorType_PETSC_ERROR_INITIAL || slot.is_none() {
                *slot = Some(Recorded {
                    code: code as i32,
                    message: message.trim().to_owned(),
                    trace: String::new(),
                });
            }
            if let Some(recorded) = slot.as_mut() {
                let _ = writeln!(recorded.trace, "{function}() at {file}:{line}");
            }
        })
    });
    code
}

/// # Safety
/// `p` is null or a NUL-terminated string.
pub(crate) unsafe fn text(p: *const c_char) -> String {
    if p.is_null() {
        return String::new();
    }
    // SAFETY: by the contract above.
    unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
}

/// A string for PETSc. A NUL inside ends it, as it would in C.
pub(crate) fn c_string(s: &str) -> CString {
    let end = s.find('\0').unwrap_or(s.len());
    CString::new(&s[..end]).unwrap_or_default()
}

/// Turns a returned code into a result.
pub(crate) fn check(code: sys::PetscErrorCode) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    failed(code)
}

#[cold]
#[allow(clippy::unnecessary_cast)] // an enum in newer versions
fn failed(code: sys::PetscErrorCode) -> Result<()> {
    let recorded = RECORDED.take();
    if let Some(payload) = PANIC.take() {
        resume_unwind(payload);
    }
    if let Some(error) = CALLBACK_ERROR.take() {
        return Err(error);
    }
    Err(match recorded {
        Some(r) if !r.message.is_empty() => Error::Petsc { code: r.code, message: r.message, trace: r.trace },
        other => Error::Petsc {
            code: code as i32,
            message: standard_message(code),
            trace: other.map(|r| r.trace).unwrap_or_default(),
        },
    })
}

/// PETSc's general text for an error code.
fn standard_message(code: sys::PetscErrorCode) -> String {
    let mut message: *const c_char = std::ptr::null();
    // SAFETY: writes a pointer to a constant string, or leaves null for an unknown code.
    let message = unsafe {
        sys::PetscErrorMessage(code as _, &mut message, std::ptr::null_mut());
        text(message)
    };
    if message.is_empty() { "no message".to_owned() } else { message.trim().to_owned() }
}

/// Runs Rust code called by PETSc: a panic or an error is kept for [`check`] and PETSc told to stop.
pub(crate) fn callback(f: impl FnOnce() -> Result<()>) -> sys::PetscErrorCode {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            CALLBACK_ERROR.set(Some(error));
            USER_ERROR
        }
        Err(payload) => {
            PANIC.set(Some(payload));
            USER_ERROR
        }
    }
}

/// Converts a count or an index to PETSc's integer type.
///
/// # Errors
/// [`Error::IndexOverflow`] with `what` and the advice to use a PETSc with 64-bit indices.
pub fn to_petsc_int(value: impl TryInto<u64>, what: &str) -> Result<PetscInt> {
    let value: u64 = value.try_into().map_err(|_| Error::invalid(format!("{what} is negative")))?;
    PetscInt::try_from(value).map_err(|_| Error::IndexOverflow {
        what: what.to_owned(),
        value,
        advice: "use a PETSc with 64-bit indices: on Debian install libpetsc64-real-dev and build with \
                 PETSC_RS_INT64=1, elsewhere point PETSC_DIR at a build configured --with-64-bit-indices",
    })
}

/// Collective: all ranks get `Ok`, or each its own error, or [`Error::Peer`].
pub(crate) fn agree(comm: MPI_Comm, result: Result<()>) -> Result<()> {
    let mine: c_int = result.is_err().into();
    let mut any: c_int = 0;
    // SAFETY: one int in, one int out, on a communicator the caller vouches for.
    unsafe {
        mpi::ffi::MPI_Allreduce(
            (&raw const mine).cast(),
            (&raw mut any).cast(),
            1,
            mpi::ffi::RSMPI_INT32_T,
            mpi::ffi::RSMPI_MAX,
            comm,
        );
    }
    result.and(if any != 0 { Err(Error::Peer) } else { Ok(()) })
}

/// The number of ranks of a communicator.
pub(crate) fn comm_size(comm: MPI_Comm) -> usize {
    let mut size: c_int = 1;
    // SAFETY: writes one int; the communicator is valid by the caller's contract.
    unsafe { mpi::ffi::MPI_Comm_size(comm, &mut size) };
    usize::try_from(size).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_fit() {
        assert_eq!(to_petsc_int(7usize, "rows").unwrap(), 7);
        assert_eq!(to_petsc_int(i32::MAX as u64, "rows").unwrap(), i32::MAX as PetscInt);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_with_advice() {
        let value = if crate::INT64 { 1u64 << 63 } else { 1u64 << 31 };
        let error = to_petsc_int(value, "the number of non-zeros").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the number of non-zeros") && text.contains("libpetsc64-real-dev"), "{text}");
    }

    #[test]
    fn negative_numbers_are_refused() {
        assert!(matches!(to_petsc_int(-1i64, "rows"), Err(Error::Invalid(_))));
    }

    #[test]
    fn text_is_cut_at_a_nul() {
        assert_eq!(c_string("ab\0c").as_bytes(), b"ab");
    }
}
