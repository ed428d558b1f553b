//! Small-strain isotropic elasticity in one to three dimensions.

use super::lanes::Real;
use super::{Coefficients, Law, Part, Point, Quantity, Residual, Tangent, Terms};

/// How a two-dimensional body continues out of its plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plane {
    /// No strain out of the plane; stress there is not zero.
    #[default]
    Strain,
    /// No stress out of the plane.
    Stress,
}

/// `-div stress = body_force`, `stress = lambda tr(strain) I + 2 mu strain` less the thermal part.
///
/// Slots: see the constants. One dimension is a bar: `stress = young strain`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elasticity {
    /// In two dimensions.
    pub plane: Plane,
}

impl Elasticity {
    /// Slot of Young's modulus.
    pub const YOUNG: usize = 0;
    /// Slot of Poisson's ratio.
    pub const POISSON: usize = 1;
    /// Slot of the thickness of a plane body.
    pub const THICKNESS: usize = 2;
    /// Slot of the coefficient of thermal expansion.
    pub const EXPANSION: usize = 3;
    /// Slot of the temperature.
    pub const TEMPERATURE: usize = 4;
    /// Slot of the temperature without thermal strain.
    pub const REFERENCE: usize = 5;
    /// First slot of the body force.
    pub const FORCE: usize = 6;

    /// Lamé's constants as the plane of the body sees them, and the thermal stress.
    #[inline(always)]
    fn moduli<const D: usize, N: Real>(&self, c: &Coefficients<N>) -> (N, N, N) {
        let (e, nu) = (c.get(Self::YOUNG), c.get(Self::POISSON));
        let strain = c.get(Self::EXPANSION) * (c.get(Self::TEMPERATURE) - c.get(Self::REFERENCE));
        let (one, two) = (N::splat(1.0), N::splat(2.0));
        let mu = e / (two * (one + nu));
        if D == 1 {
            return (N::default(), N::splat(0.5) * e, e * strain);
        }
        if D == 2 && self.plane == Plane::Stress {
            return (e * nu / (one - nu * nu), mu, e / (one - nu) * strain);
        }
        (e * nu / ((one + nu) * (one - two * nu)), mu, e / (one - two * nu) * strain)
    }

    /// The stress in the body's own dimensions.
    #[inline(always)]
    fn stress<const D: usize, N: Real>(&self, grad: &[[N; D]; D], c: &Coefficients<N>) -> [[N; D]; D] {
        let (lambda, mu, thermal) = self.moduli::<D, N>(c);
        let mut trace = N::default();
        for d in 0..D {
            trace += grad[d][d];
        }
        let mut s = [[N::default(); D]; D];
        for a in 0..D {
            for b in 0..D {
                s[a][b] = mu * (grad[a][b] + grad[b][a]);
            }
            s[a][a] += lambda * trace - thermal;
        }
        s
    }

    /// Strain and stress as full symmetric tensors: xx, yy, zz, xy, yz, xz.
    fn tensors<const D: usize>(&self, grad: &[[f64; D]; D], c: &Coefficients) -> ([f64; 6], [f64; 6]) {
        let s = self.stress(grad, c);
        let (mut strain, mut stress) = ([0.0; 6], [0.0; 6]);
        for a in 0..D {
            strain[a] = grad[a][a];
            stress[a] = s[a][a];
        }
        for (k, (a, b)) in [(0, 1), (1, 2), (0, 2)].into_iter().enumerate() {
            if b < D {
                strain[3 + k] = 0.5 * (grad[a][b] + grad[b][a]);
                stress[3 + k] = s[a][b];
            }
        }
        let (e, nu) = (c.get(Self::YOUNG), c.get(Self::POISSON));
        let free = c.get(Self::EXPANSION) * (c.get(Self::TEMPERATURE) - c.get(Self::REFERENCE));
        match (D, self.plane) {
            (1, _) => {
                strain[1] = free - nu / e * stress[0];
                strain[2] = strain[1];
            }
            (2, Plane::Strain) => stress[2] = nu * (stress[0] + stress[1]) - e * free,
            (2, Plane::Stress) => strain[2] = free - nu / e * (stress[0] + stress[1]),
            _ => {}
        }
        (strain, stress)
    }
}

/// The von Mises equivalent of a stress tensor xx, yy, zz, xy, yz, xz.
pub fn von_mises(s: &[f64; 6]) -> f64 {
    let normal = (s[0] - s[1]).powi(2) + (s[1] - s[2]).powi(2) + (s[2] - s[0]).powi(2);
    let shear = s[3] * s[3] + s[4] * s[4] + s[5] * s[5];
    (0.5 * normal + 3.0 * shear).sqrt()
}

impl<const D: usize> Law<D, D> for Elasticity {
    const TERMS: Terms = Terms { g00: false, first_order: false, hessian: false };

    #[inline(always)]
    fn residual<N: Real>(&self, p: &Point<D, D, N>, c: &Coefficients<N>, r: &mut Residual<D, D, N>) {
        let thickness = c.get(Self::THICKNESS);
        let s = self.stress(&p.grad, c);
        for a in 0..D {
            for b in 0..D {
                r.f1[a][b] += thickness * s[a][b];
            }
            r.f0[a] -= thickness * c.get(Self::FORCE + a);
        }
    }

    #[inline(always)]
    fn tangent<N: Real>(&self, _p: &Point<D, D, N>, c: &Coefficients<N>, t: &mut Tangent<D, D, N>) {
        let thickness = c.get(Self::THICKNESS);
        let (lambda, mu, _) = self.moduli::<D, N>(c);
        let (lambda, mu) = (thickness * lambda, thickness * mu);
        for a in 0..D {
            for b in 0..D {
                // stress_ab = mu (u_a,b + u_b,a) + lambda delta_ab u_k,k
                t.g11[a][b][a][b] += mu;
                t.g11[a][b][b][a] += mu;
                t.g11[a][a][b][b] += lambda;
            }
        }
    }

    #[inline(always)]
    fn sizes<N: Real>(&self, c: &Coefficients<N>) -> [N; 2] {
        [N::splat(2.0) * self.moduli::<D, N>(c).1 * c.get(Self::THICKNESS), N::default()]
    }

    fn boundary_factor(&self, c: &Coefficients) -> f64 {
        c.get(Self::THICKNESS)
    }

    fn needs(&self, part: Part, slot: usize) -> bool {
        match part {
            Part::Residual => true,
            Part::Tangent => slot <= Self::THICKNESS,
            Part::Boundary => slot == Self::THICKNESS,
            Part::Quantities => slot < Self::FORCE && slot != Self::THICKNESS,
            Part::Flux => slot < Self::FORCE,
        }
    }

    fn n_values(&self, quantity: Quantity) -> Option<usize> {
        match quantity {
            Quantity::Solution => Some(D),
            Quantity::Gradient => Some(D * D),
            Quantity::Strain | Quantity::Stress => Some(6),
            Quantity::VonMises => Some(1),
            Quantity::Flux => None,
        }
    }

    fn evaluate(&self, quantity: Quantity, p: &Point<D, D>, c: &Coefficients, out: &mut [f64]) {
        match quantity {
            Quantity::Solution => out.copy_from_slice(&p.u),
            Quantity::Gradient => out.copy_from_slice(p.grad.as_flattened()),
            Quantity::Strain => out.copy_from_slice(&self.tensors(&p.grad, c).0),
            Quantity::Stress => out.copy_from_slice(&self.tensors(&p.grad, c).1),
            Quantity::VonMises | Quantity::Flux => out[0] = von_mises(&self.tensors(&p.grad, c).1),
        }
    }
}
