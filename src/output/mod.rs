//! What a run leaves on disk and on the terminal, and meshes kept between runs.
//!
//! The only caller of HDF5. Imports `cluster`, and nothing of the rooms to its left: callers hand over
//! plain arrays. Start at [`vtkhdf::create`] for the solution, [`run_json::RunReport`] for `run.json`,
//! [`mesh_store`] for partitioned meshes, [`checkpoint`] for runs that go on, [`hdf`] for how any of them reach
//! the disk, [`page`] and [`chart`] for what people look at.

pub mod bottlenecks;
pub mod by_rank;
pub mod chart;
pub mod checkpoint;
pub mod csv;
mod error;
pub mod events;
pub mod hdf;
pub mod mesh_store;
pub mod page;
pub mod phases;
pub mod report;
pub mod profile;
pub mod run_json;
pub mod tables;
pub mod terminal;
pub mod vtkhdf;

pub use error::OutputError;
