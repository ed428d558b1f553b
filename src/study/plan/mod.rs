//! Plans: how large a case is, what it will take on which ranks, and the batch script to run it.
//!
//! Imports `case`, `run`, `study::costs` and `study::machine`. Start at [`Problem::of`] (sizes without a solve),
//! [`predict`] (the model), [`Search`] (which layout) and [`Job`] (the script). docs/plan.md has the model.

pub mod choose;
mod compare;
pub mod model;
pub mod problem;
pub mod script;
mod text;

pub use choose::{Candidate, Plan, Search};
pub use compare::{Compared, compare};
pub use model::{Layout, Prediction, Setting, predict};
pub use problem::Problem;
pub use script::Job;
pub use text::{candidates_table, problem_text};
