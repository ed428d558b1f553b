//! Is the answer right? The real command on problems whose solution is known.
//!
//! - `manufactured`: every law, cell shape and degree converges at its order;
//! - `patch`: what the elements can represent is found to round-off, on distorted cells;
//! - `curved`: cells of second order on rings and balls;
//! - `loads`: natural conditions, supports along normals, point loads, and the balance of reactions;
//! - `parallel`: the same answer on any number of ranks and threads;
//! - `published`: known values of structures.
//!
//! What takes long is ignored unless asked for: `./test --full`. With `--nocapture` tests print what they measure.

#[path = "../common/mod.rs"]
mod common;

mod manufactured;
