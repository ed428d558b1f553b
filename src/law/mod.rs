//! The physics at a point: residual and tangent terms, and the coefficients they use.
//!
//! Imports nothing of femdd but its own expressions. A law never learns of elements, meshes or ranks;
//! those never learn which law runs. Start at [`Law`].
//!
//! A law states the weak form `R(u; v) = ∫ f0 . v + f1 : grad v` by its values `f0`, `f1` and their
//! derivatives with respect to `u`, `grad u` and, where it asks for them, `grad grad u`. It states them
//! once, for any [`lanes::Real`]: the element loops run it at one point of eight cells at a time.

pub mod coefficients;
mod elasticity;
pub mod expr;
pub mod lanes;
mod scalar;
mod slopes;

pub use coefficients::{Coefficients, Material, Slot};
pub use elasticity::{Elasticity, Plane, von_mises};
use lanes::Real;
pub use scalar::{ConvectionDiffusion, Diffusion};
pub use slopes::Sloped;

/// What a law sees at a point: `D` dimensions, `C` components.
#[derive(Debug, Clone, Copy)]
pub struct Point<const D: usize, const C: usize, N = f64> {
    /// The solution.
    pub u: [N; C],
    /// `grad[c][d] = d u_c / d x_d`.
    pub grad: [[N; D]; C],
    /// `hess[c][d][e]`; zero unless the law asks for it.
    pub hess: [[[N; D]; D]; C],
    /// The cell metric `J^-T J^-1` divided by the square of the degree: 1/h^2 along each direction.
    pub metric: [[N; D]; D],
}

impl<const D: usize, const C: usize, N: Real> Default for Point<D, C, N> {
    #[inline(always)]
    fn default() -> Self {
        let z = N::default();
        Point { u: [z; C], grad: [[z; D]; C], hess: [[[z; D]; D]; C], metric: [[z; D]; D] }
    }
}

/// The weak form's integrand: `f0 . v + f1 : grad v`.
#[derive(Debug, Clone, Copy)]
pub struct Residual<const D: usize, const C: usize, N = f64> {
    /// Multiplies the test function.
    pub f0: [N; C],
    /// Multiplies its gradient.
    pub f1: [[N; D]; C],
}

impl<const D: usize, const C: usize, N: Real> Default for Residual<D, C, N> {
    #[inline(always)]
    fn default() -> Self {
        let z = N::default();
        Residual { f0: [z; C], f1: [[z; D]; C] }
    }
}

/// Derivatives of `f0` and `f1`. Index order: test component (and direction), trial component (and
/// direction).
#[derive(Debug, Clone, Copy)]
pub struct Tangent<const D: usize, const C: usize, N = f64> {
    /// d f0 / d u.
    pub g00: [[N; C]; C],
    /// d f0 / d grad u.
    pub g01: [[[N; D]; C]; C],
    /// d f1 / d u.
    pub g10: [[[N; C]; D]; C],
    /// d f1 / d grad u.
    pub g11: [[[[N; D]; C]; D]; C],
    /// d f1 / d grad grad u, the same for every component.
    pub g12: [[[N; D]; D]; D],
}

impl<const D: usize, const C: usize, N: Real> Default for Tangent<D, C, N> {
    #[inline(always)]
    fn default() -> Self {
        let z = N::default();
        Tangent {
            g00: [[z; C]; C],
            g01: [[[z; D]; C]; C],
            g10: [[[z; C]; D]; C],
            g11: [[[[z; D]; C]; D]; C],
            g12: [[[z; D]; D]; D],
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
    /// The flux of [`Law::balance`], and [`Law::sizes`].
    Flux,
}

/// The physics at a point.
///
/// A law is linear here when `tangent` does not depend on the solution; the drivers do not assume it.
pub trait Law<const D: usize, const C: usize>: Clone + Sync + Send + 'static {
    /// Which derivatives it has.
    const TERMS: Terms;

    /// Adds to the integrand of the weak form. `c` holds the coefficients at the point.
    fn residual<N: Real>(&self, p: &Point<D, C, N>, c: &Coefficients<N>, r: &mut Residual<D, C, N>);

    /// As [`Law::residual`] without stabilisation: the equation itself. Its strong form is `f0 - div f1 = 0`,
    /// and `f1` along the normal is what passes through a facet.
    #[inline(always)]
    fn balance<N: Real>(&self, p: &Point<D, C, N>, c: &Coefficients<N>, r: &mut Residual<D, C, N>) {
        self.residual(p, c, r);
    }

    /// What residuals are measured against: a modulus `m` with `d f1 : grad u >= m |grad u|^2` (up to a
    /// factor of the dimension; of the strain, for a body), and the factor of `u` in `f0`.
    fn sizes<N: Real>(&self, c: &Coefficients<N>) -> [N; 2];

    /// Adds its derivatives.
    fn tangent<N: Real>(&self, p: &Point<D, C, N>, c: &Coefficients<N>, t: &mut Tangent<D, C, N>);

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
