//! Safe handles on PETSc: [`Session`], [`Vec`], [`Mat`], [`NullSpace`], [`Ksp`], [`Pc`].
//!
//! Start reading at `error.rs` (how a PETSc failure becomes a value) and `session.rs`, then `mat.rs` and
//! `ksp.rs`. The raw bindings are in [`sys`], the library they call is loaded by `library.rs`. This crate imports `mpi`
//! only.
//!
//! * One Rust value owns one PETSc object and destroys it once. A solver keeps the matrices it was given
//!   alive, so nothing dangles whatever the order of drops.
//! * Every failing call is an [`Error`] with PETSc's code, message and trace. Nothing is printed and nothing
//!   aborts.
//! * Handles are neither `Send` nor `Sync`: PETSc is called by the thread that initialised MPI.
//! * Most calls are collective: all ranks of the communicator make them in the same order. Dropping a handle
//!   is collective too.
//!
//! # 32- and 64-bit indices
//! `PetscInt` is 32 bits wide in most builds. Debian installs both; choose the wide one with the feature
//! `int64` or the environment variable `PETSC_RS_INT64=1`, in a target folder of its own:
//!
//! ```text
//! cargo test -p petsc-rs
//! PETSC_RS_INT64=1 CARGO_TARGET_DIR=target/int64 cargo test -p petsc-rs
//! ```
//!
//! Numbers that do not fit are refused by [`to_petsc_int`], never truncated.

#![deny(missing_docs)]

mod error;
mod ksp;
mod library;
mod log;
mod mat;
mod null_space;
mod operator;
mod pc;
mod reason;
mod session;
pub mod sys;
mod vec;

pub use error::{Error, Result, to_petsc_int};
pub use ksp::{Ksp, Norm, SolveOutcome, Watch};
pub use library::load;
pub use log::{Event, LogStage, events, log_begin, memory};
pub use mat::{Csr, Mat, MatMemory};
pub use null_space::NullSpace;
pub use pc::{Pc, Side};
pub use reason::Reason;
pub use session::{
    Session, initialize, is_running, options_clear, options_has, options_insert, options_left, options_set,
    packages, version,
};
pub use vec::Vec;

/// PETSc's index type: 32 or 64 bits wide, as the library was configured.
pub type PetscInt = sys::PetscInt;

/// Whether [`PetscInt`] is 64 bits wide.
pub const INT64: bool = cfg!(petsc_int64);

const _: () = assert!(size_of::<PetscInt>() == if INT64 { 8 } else { 4 });
