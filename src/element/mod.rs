//! Reference cells, Lagrange bases, quadrature rules, node orders of other programs, uniform refinement.
//!
//! Imports std and `thiserror` only; everything else in femdd may import this module. Nothing here is
//! collective and nothing depends on a mesh. Start at [`Shape`] (vertices, edges and faces of the reference
//! cells), then [`Lagrange`] (nodes and shape functions), then [`Quadrature`].

mod check;
mod hanging;
mod lagrange;
mod orders;
mod polynomials;
mod quadrature;
mod refinement;
mod rules;
mod shape;

pub use check::check_element;
pub use hanging::{Hang, HangingElement, Interpolation, edge_at, facet_at};
pub use lagrange::{Lagrange, MAX_DEGREE, Nodes, Table};
pub use orders::{GeometryKind, gmsh_order, vtk_cell_type, vtk_lagrange_order};
pub use polynomials::orthonormal_values;
pub use quadrature::{MAX_QUADRATURE_DEGREE, Quadrature};
pub use refinement::{EntityRef, Refinement, refinement};
pub use shape::Shape;

/// What can be asked of this module in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A Lagrange degree outside `1..=MAX_DEGREE`.
    #[error("a Lagrange {shape} of degree {degree} is not available: degrees 1 to {MAX_DEGREE} are")]
    Degree {
        /// The cell asked for.
        shape: Shape,
        /// The degree asked for.
        degree: usize,
    },
    /// Serendipity elements exist here for the quadrilateral (8 nodes) and the hexahedron (20 nodes).
    #[error("there is no serendipity {shape}: only the 8-node quadrilateral and the 20-node hexahedron")]
    Serendipity {
        /// The cell asked for.
        shape: Shape,
    },
    /// A quadrature degree above `MAX_QUADRATURE_DEGREE`.
    #[error(
        "a quadrature rule of degree {degree} on the {shape} is not available: the highest is {MAX_QUADRATURE_DEGREE}"
    )]
    QuadratureDegree {
        /// The cell asked for.
        shape: Shape,
        /// The degree asked for.
        degree: usize,
    },
}
