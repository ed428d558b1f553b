//! Drivers: from a checked case to a solution and what is reported of it.
//!
//! Imports every room to its left. Start at [`run_case`].

mod adaptive;
mod checkpoint;
pub mod conditions;
pub mod error;
mod finish;
mod goals;
mod level;
mod materials;
pub mod mesh;
pub mod mesh_files;
pub mod performance;
mod restart;
mod results;
pub mod singular;
pub mod sizes;
mod solution_file;
mod stage;
mod steady;

pub use error::{Kind, RunError};
pub use restart::Restart;
pub use steady::{Options, Outcome, run_and_conclude, run_case};
