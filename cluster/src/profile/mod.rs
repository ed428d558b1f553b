//! Where the time of a run goes: spans of `tracing`, counted and timed by thread, and memory asked for.
//!
//! Imports [`Comm`](crate::Comm) for what is gathered. Start at [`start`] and at [`Recording`], the subscriber that
//! records; `thread.rs` is what happens at a span, `heap.rs` the allocator that counts, `tree.rs` what a thread's
//! record says, `gather.rs` the same over all ranks, `clock.rs` how far apart the ranks' clocks are.
//!
//! A span costs two readings of the clock and some additions in memory of its thread: no lock, no shared counter,
//! and after the first of its kind no allocation. Spans with target [`WAITS`] are calls of MPI that may wait for other
//! ranks: no barrier tells work from waiting, but the rank that spends least in such a call comes last and does not
//! wait, so that its time is what the call costs and what the others spend beyond it is waiting.

pub mod clock;
mod gather;
pub mod heap;
mod subscriber;
mod thread;
mod tree;

pub use gather::{Gathered, Spread, Workers, gather, spread};
pub use subscriber::{Recording, recorded};
pub use thread::{
    Settings, Token, enter, exit, is_on, join, now, open, reset, seconds_per_span, start, stop, traces_events,
};
pub use tree::{Event, Row, ThreadEvents, events, rows};

/// The target of spans in which this rank may wait for others.
pub const WAITS: &str = "mpi";

/// The name of the spans of phases, whose own name is their field `name`.
pub const PHASE: &str = "phase";
