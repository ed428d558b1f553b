//! Is the answer right? The real command on problems whose solution is known.
//!
//! - `adapt`: refinement where the error is; `best` has what the best meshes could do;
//! - `manufactured`: every law, cell shape and degree converges at its order;
//! - `patch`: what the elements can represent is found to round-off, on distorted and curved cells;
//! - `curved`: orders of convergence on cells of second order: rings and balls;
//! - `loads`: supports along normals, point loads, and the balance of reactions;
//! - `parallel`: the same answer on any number of ranks and threads;
//! - `published`: known values of structures;
//! - `solvers`: iterations of the solver on what is hard for it.
//!
//! `lattice` makes meshes. What takes long is ignored unless asked for: `./test --full`. With `--nocapture` tests
//! print what they measure.

#[path = "../common/mod.rs"]
mod common;

mod adapt;
mod best;
mod curved;
mod lattice;
mod loads;
mod manufactured;
mod parallel;
mod patch;
mod published;
mod solvers;
