//! femdd: finite elements, distributed over MPI, from a case file.
//!
//! Modules in the order in which they may import each other: one may use only those above it.
#![deny(missing_docs)]
// Kernels index several arrays of compile-time sizes at once; zipped iterators would hide the algebra.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]

pub mod element;
pub mod mesh;
pub mod space;
pub mod law;
pub mod assembly;
pub mod solver;
pub mod adapt;
pub mod output;
pub mod case;
pub mod run;
pub mod library;
pub mod study;
pub mod cli;

pub use library::{Domain, Laplace, laplace};
