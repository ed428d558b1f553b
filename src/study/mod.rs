//! Studies of femdd itself: what a machine can do, what a run must cost at least, what runs did cost, and
//! whether one program is slower than another.
//!
//! Imports `case`, `run` and `output`. Start at [`measure`] and [`compare`]; [`machine`] measures the
//! machine that [`floors`] are computed for.

mod arithmetic;
pub mod bottlenecks;
pub mod compare;
pub mod costs;
pub mod counts;
pub mod floors;
pub mod machine;
pub mod measure;
pub mod plan;
pub mod scaling;
pub mod shell;
pub mod small;
pub mod stats;
