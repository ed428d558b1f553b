//! Interior facets, estimators, marking and transfer, on one and several ranks: each test starts itself
//! again under `mpirun`.
//!
//! Start at `launch::under_mpi`; `problems.rs` makes meshes and problems and solves them.

mod facets;
mod goal;
mod kelly;
mod launch;
mod marking;
mod parallel;
mod problems;
