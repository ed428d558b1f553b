//! From the physics at a point to matrices, residuals and functionals of distributed fields.
//!
//! Imports `element`, `mesh`, `space`, `law`. Start at [`Discretisation`], which binds a law to a mesh
//! and a space; [`Matrix`] is the sparse matrix it fills. Rows are owned: every rank visits its own and
//! its ghost cells and completes its own rows without communication. Sums are taken in an order that
//! does not depend on the number of threads.

mod cells;
mod components;
pub mod constraints;
mod derived;
mod discretisation;
mod energy;
mod facets;
mod functionals;
mod goals;
mod group;
mod jumps;
mod lanes;
mod matrix;
mod norms;
mod outside;
mod pattern;
mod pieces;
mod products;
mod recovery;
mod regions;
mod residuals;
mod sampler;
mod spans;
mod system;
mod weighted;

pub use components::{Component, components};
pub use constraints::{Constraints, Essential, Prescribed};
pub use derived::Nodal;
pub use discretisation::{AssemblyError, Discretisation, Rules};
pub use facets::{FacetLoad, Natural};
pub use functionals::Located;
pub use goals::{Goal, Keep, Over};
pub use matrix::Matrix;
pub use norms::{EnergyNorm, ExactErrors};
pub use pattern::Pattern;
pub use regions::RegionNodes;
pub use residuals::Weights;
pub use system::{Field, Operator, Problem};
