//! The ranks of a job: MPI start and abort, agreement on errors, sparse exchange, index maps, halos, windows;
//! and what machine they run on.
//!
//! Imports nothing of femdd. Start reading at [`Comm`]; [`IndexMap`] and [`Halo`] are what
//! distributed arrays are made of; a [`Window`] is for atomics that only one side makes. One rule holds for every caller: *agree, then communicate*. A rank
//! that fails tells the others through [`Comm::agree`] before anyone enters the next collective call.
#![deny(missing_docs)]

mod buckets;
mod comm;
mod counters;
mod exchange;
mod halo;
mod index_map;
pub mod model;
pub mod monitor;
mod names;
pub mod pages;
pub mod place;
mod probe;
pub mod profile;
mod session;
pub mod stop;
mod window;
pub mod words;

pub use buckets::Buckets;
pub use comm::{Comm, Scalar};
pub use counters::Counters;
pub use halo::{Halo, Pending, Repeated};
pub use index_map::IndexMap;
pub use session::{InitError, NO_CARDS, Session, init, library_version, thread_level, under_launcher};
pub use window::Window;
