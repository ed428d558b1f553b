//! The physics at a point: residual and tangent terms, and the coefficients they use.
//!
//! Imports nothing of femdd but its own expressions. A law never learns of elements, meshes or ranks;
//! those never learn which law runs. Start at [`Law`].
//!
//! A law states the weak form `R(u; v) = ∫ f0 . v + f1 : grad v` by its values `f0`, `f1` and their
//! derivatives with respect to `u`, `grad u` and, where it asks for them, `grad grad u`.

pub mod coefficients;
mod elasticity;
pub mod expr;
mod scalar;

pub use coefficients::{Coefficients, Material, Slot};
pub use elasticity::{Elasticity, Plane, von_mises};
pub use scalar::{ConvectionDiffusion, Diffusion};

/// What a law sees at a point: `D` dimensions, `C` components.
#[derive(Debug, Clone, Copy)]
pub struct Point<const D: usize, const C: usize> {
    /// The solution.
    pub u: [f64; C],
    /// `grad[c][d] = d u_c / d x_d`.
    pub grad: [[f64; D]; C],
    /// `hess[c][d][e]`; zero unless the law asks for it.
    pub hess: [[[f64; D]; D]; C],
    /// The cell metric `J^-T J^-1` divided by the square of the degree: 1/h^2 along each direction.
    pub metric: [[f64; D]; D],
}

impl<const D: usize, const C: usize> Default for Point<D, C> {
    fn default() -> Self {
        Point { u: [0.0; C], grad: [[0.0; D]; C], hess: [[[0.0; D]; D]; C], metric: [[0.0; D]; D] }
    }
}

/// The weak form's integrand: `f0 . v + f1 : grad v`.
#[derive(Debug, Clone, Copy)]
pub struct Residual<const D: usize, const C: usize> {
    /// Multiplies the test function.
    pub f0: [f64; C],
    /// Multiplies its gradient.
    pub f1: [[f64; D]; C],
}

impl<const D: usize, const C: usize> Default for Residual<D, C> {
    fn default() -> Self {
        Residual { f0: [0.0; C], f1: [[0.0; D]; C] }
    }
}

/// Derivatives of `f0` and `f1`. Index order: test component (and direction), trial component (and
/// direction).
#[derive(Debug, Clone, Copy)]
pub struct Tangent<const D: usize, const C: usize> {
    /// d f0 / d u.
    pub g00: [[f64; C]; C],
    /// d f0 / d grad u.
    pub g01: [[[f64; D]; C]; C],
    /// d f1 / d u.
    pub g10: [[[f64; C]; D]; C],
    /// d f1 / d grad u.
    pub g11: [[[[f64; D]; C]; D]; C],
    /// d f1 / d grad grad u, the same for every component.
    pub g12: [[[f64; D]; D]; D],
}

impl<const D: usize, const C: usize> Default for Tangent<D, C> {
    fn default() -> Self {
        Tangent {
            g00: [[0.0; C]; C],
            g01: [[[0.0; D]; C]; C],
            g10: [[[0.0; C]; D]; C],
            g11: [[[[0.0; D]; C]; D]; C],
            g12: [[[0.0; D]; D]; D],
        }
    }
}

/// Which derivatives of a law may be other than zero; the element loops leave out the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// d f0 / d u.
    pub g00: bool,
    /// d f0 / d grad u and d f1 / d u.
    pub first_order: bool,
    /// d f1 / d grad grad u; also: the point needs second derivatives of the solution.
    pub hessian: bool,
}

/// A quantity computed from the solution at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// The solution itself.
    Solution,
    /// Its gradient: component by component, `d` entries each.
    Gradient,
    /// `-diffusion grad u`.
    Flux,
    /// The strain tensor: xx, yy, zz, xy, yz, xz.
    Strain,
    /// The stress tensor, in the same order.
    Stress,
    /// The von Mises equivalent stress.
    VonMises,
}

/// Parts of a law that use different coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// [`Law::residual`].
    Residual,
    /// [`Law::tangent`].
    Tangent,
    /// [`Law::boundary_factor`].
    Boundary,
    /// [`Law::evaluate`].
    Quantities,
}

/// The physics at a point.
///
/// A law is linear here when `tangent` does not depend on the solution; the drivers do not assume it.
pub trait Law<const D: usize, const C: usize>: Sync + Send {
    /// Which derivatives it has.
    const TERMS: Terms;

    /// Adds to the integrand of the weak form. `c` holds the coefficients at the point.
    fn residual(&self, p: &Point<D, C>, c: &Coefficients, r: &mut Residual<D, C>);

    /// Adds its derivatives.
    fn tangent(&self, p: &Point<D, C>, c: &Coefficients, t: &mut Tangent<D, C>);

    /// The factor of boundary terms: the thickness of a plane body, otherwise 1.
    fn boundary_factor(&self, _c: &Coefficients) -> f64 {
        1.0
    }

    /// Whether a part of the law depends on a slot: a source, say, enters no tangent and no flux.
    fn needs(&self, part: Part, slot: usize) -> bool;

    /// The number of values of a quantity; `None` when the law does not have it.
    fn n_values(&self, quantity: Quantity) -> Option<usize>;

    /// Computes a quantity the law has.
    fn evaluate(&self, quantity: Quantity, p: &Point<D, C>, c: &Coefficients, out: &mut [f64]);
}
