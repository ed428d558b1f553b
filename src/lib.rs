//! femdd: finite elements, distributed over MPI, from a case file.
//!
//! Modules in the order in which they may import each other: one may use only those above it.
#![deny(missing_docs)]
// Kernels index several arrays of compile-time sizes at once; zipped iterators would hide the algebra.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]

pub mod assembly;
pub mod case;
pub mod cli;
pub mod element;
pub mod law;
pub mod library;
pub mod mesh;
pub mod output;
pub mod run;
pub mod solver;
pub mod space;

pub use library::{Domain, Laplace, laplace};
