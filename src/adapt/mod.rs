//! What adaptive refinement decides with: estimates of the error by cell, which cells to refine or to
//! coarsen, and fields on their way from one mesh to the next.
//!
//! Imports `element`, `mesh`, `space`, `law` (expressions), `assembly` and the crates `cluster` and `partition`. Start at
//! [`estimate`], or at [`goal`](mod@goal) for the error of a number; their indicators are squares, one for
//! each owned cell, block after block, and [`mark`] chooses among them. [`cycle`] does all of it between two steps
//! in time.

pub mod balance;
#[cfg(test)]
mod balance_tests;
pub mod cycle;
pub mod estimate;
pub mod goal;
#[cfg(test)]
mod hanging_tests;
pub mod leap;
pub mod mark;
pub mod rebalance;
pub mod transfer;
