//! Interior facets, estimators, marking, transfer and cycles of all, on one and several ranks: each test starts itself
//! again under `mpirun`.
//!
//! Start at `launch::under_mpi`; `problems.rs` makes meshes and problems and solves them.

mod cycle;
mod facets;
mod goal;
mod kelly;
mod launch;
mod marking;
mod parallel;
mod problems;
