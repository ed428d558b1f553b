//! Scalar laws: diffusion with reaction, and convection-diffusion with streamline stabilisation.

use super::lanes::Real;
use super::{Coefficients, Law, Part, Point, Quantity, Residual, Tangent, Terms};

/// `-div(diffusion grad u) + reaction u = source`.
///
/// Slots: diffusion tensor by rows (`D * D`), reaction, source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Diffusion;

impl Diffusion {
    /// The slot of entry (row, column) of the diffusion tensor.
    pub const fn diffusion<const D: usize>(row: usize, column: usize) -> usize {
        row * D + column
    }

    /// The slot of the reaction.
    pub const fn reaction<const D: usize>() -> usize {
        D * D
    }

    /// The slot of the source.
    pub const fn source<const D: usize>() -> usize {
        D * D + 1
    }
}

/// `diffusion grad u`.
#[inline(always)]
fn diffused<const D: usize, N: Real>(grad: &[N; D], c: &Coefficients<N>) -> [N; D] {
    let mut q = [N::default(); D];
    for a in 0..D {
        for b in 0..D {
            q[a] += c.get(Diffusion::diffusion::<D>(a, b)) * grad[b];
        }
    }
    q
}

fn needs<const D: usize>(part: Part, slot: usize) -> bool {
    match part {
        Part::Residual => true,
        Part::Tangent => slot != Diffusion::source::<D>(),
        Part::Boundary => false,
        Part::Quantities => slot < D * D,
        Part::Flux => slot <= Diffusion::reaction::<D>(),
    }
}

/// The harmonic mean of the diffusion tensor's eigenvalues (of its symmetric part's): at least the smallest,
/// at most `D` times that.
#[inline(always)]
fn least_diffusion<const D: usize, N: Real>(c: &Coefficients<N>) -> N {
    let k = |a: usize, b: usize| {
        let entry = |a, b| c.get(Diffusion::diffusion::<D>(a, b));
        if a == b { entry(a, a) } else { N::splat(0.5) * (entry(a, b) + entry(b, a)) }
    };
    let minor = |a: usize, b: usize| k(a, a) * k(b, b) - k(a, b) * k(a, b);
    match D {
        1 => k(0, 0),
        2 => N::splat(2.0) * minor(0, 1) / (k(0, 0) + k(1, 1)),
        _ => {
            let cross = k(0, 1) * k(1, 2) - k(0, 2) * k(1, 1);
            let det =
                k(0, 0) * minor(1, 2) - k(0, 1) * (k(0, 1) * k(2, 2) - k(1, 2) * k(0, 2)) + k(0, 2) * cross;
            N::splat(3.0) * det / (minor(0, 1) + minor(0, 2) + minor(1, 2))
        }
    }
}

fn scalar_values<const D: usize>(quantity: Quantity) -> Option<usize> {
    match quantity {
        Quantity::Solution => Some(1),
        Quantity::Gradient | Quantity::Flux => Some(D),
        _ => None,
    }
}

fn scalar_evaluate<const D: usize>(quantity: Quantity, p: &Point<D, 1>, c: &Coefficients, out: &mut [f64]) {
    match quantity {
        Quantity::Solution => out[0] = p.u[0],
        Quantity::Gradient => out.copy_from_slice(&p.grad[0]),
        _ => {
            for (out, q) in out.iter_mut().zip(diffused(&p.grad[0], c)) {
                *out = -q;
            }
        }
    }
}

impl<const D: usize> Law<D, 1> for Diffusion {
    const TERMS: Terms = Terms { g00: true, first_order: false, hessian: false };

    #[inline(always)]
    fn residual<N: Real>(&self, p: &Point<D, 1, N>, c: &Coefficients<N>, r: &mut Residual<D, 1, N>) {
        let q = diffused(&p.grad[0], c);
        for d in 0..D {
            r.f1[0][d] += q[d];
        }
        r.f0[0] += c.get(Self::reaction::<D>()) * p.u[0] - c.get(Self::source::<D>());
    }

    #[inline(always)]
    fn sizes<N: Real>(&self, c: &Coefficients<N>) -> [N; 2] {
        [least_diffusion::<D, N>(c), c.get(Self::reaction::<D>())]
    }

    #[inline(always)]
    fn tangent<N: Real>(&self, _p: &Point<D, 1, N>, c: &Coefficients<N>, t: &mut Tangent<D, 1, N>) {
        for a in 0..D {
            for b in 0..D {
                t.g11[0][a][0][b] += c.get(Self::diffusion::<D>(a, b));
            }
        }
        t.g00[0][0] += c.get(Self::reaction::<D>());
    }

    fn needs(&self, part: Part, slot: usize) -> bool {
        needs::<D>(part, slot)
    }

    fn n_values(&self, quantity: Quantity) -> Option<usize> {
        scalar_values::<D>(quantity)
    }

    fn evaluate(&self, quantity: Quantity, p: &Point<D, 1>, c: &Coefficients, out: &mut [f64]) {
        scalar_evaluate(quantity, p, c, out);
    }
}

/// `-div(diffusion grad u) + velocity . grad u + reaction u = source`, stabilised along streamlines.
///
/// Slots: those of [`Diffusion`], then velocity (`D`), then the divergence of the diffusion tensor's
/// columns (`D`), which the strong residual needs where diffusion varies.
///
/// The stabilised form adds `tau (velocity . grad v)` times the strong residual, second derivatives
/// included, so it stays consistent at every degree. Source: A. Brooks, T. Hughes, Comput. Methods
/// Appl. Mech. Engrg. 32 (1982); `tau` from the cell metric as in Y. Bazilevs et al., ibid. 197 (2007),
/// with constants that reproduce `h / (2 |velocity|)` and `h^2 / (12 diffusion)` in one dimension.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvectionDiffusion;

impl ConvectionDiffusion {
    /// The slot of a component of the velocity.
    pub const fn velocity<const D: usize>(d: usize) -> usize {
        D * D + 2 + d
    }

    /// The slot of the divergence of a column of the diffusion tensor.
    pub const fn divergence<const D: usize>(d: usize) -> usize {
        D * D + 2 + D + d
    }

    #[inline(always)]
    fn tau<const D: usize, N: Real>(p: &Point<D, 1, N>, c: &Coefficients<N>) -> N {
        let b: [N; D] = std::array::from_fn(|d| c.get(Self::velocity::<D>(d)));
        let (mut advective, mut diffusive, mut norm) = (N::default(), N::default(), N::default());
        for i in 0..D {
            norm += b[i] * b[i];
            for j in 0..D {
                advective += b[i] * p.metric[i][j] * b[j];
                let mut kg = N::default();
                for k in 0..D {
                    kg += c.get(Diffusion::diffusion::<D>(i, k)) * p.metric[k][j];
                }
                diffusive += kg * kg;
            }
        }
        let reaction = c.get(Diffusion::reaction::<D>());
        let rate = N::splat(4.0) * advective + N::splat(144.0) * diffusive + reaction * reaction;
        (N::splat(1.0) / rate.sqrt()).unless_zero(norm)
    }
}

impl<const D: usize> Law<D, 1> for ConvectionDiffusion {
    const TERMS: Terms = Terms { g00: true, first_order: true, hessian: true };

    #[inline(always)]
    fn residual<N: Real>(&self, p: &Point<D, 1, N>, c: &Coefficients<N>, r: &mut Residual<D, 1, N>) {
        Law::<D, 1>::residual(&Diffusion, p, c, r);
        let mut strong = c.get(Diffusion::reaction::<D>()) * p.u[0] - c.get(Diffusion::source::<D>());
        let mut advected = N::default();
        for d in 0..D {
            advected += c.get(Self::velocity::<D>(d)) * p.grad[0][d];
            strong -= c.get(Self::divergence::<D>(d)) * p.grad[0][d];
            for e in 0..D {
                strong -= c.get(Diffusion::diffusion::<D>(d, e)) * p.hess[0][d][e];
            }
        }
        r.f0[0] += advected;
        let weight = Self::tau(p, c) * (strong + advected);
        for d in 0..D {
            r.f1[0][d] += weight * c.get(Self::velocity::<D>(d));
        }
    }

    #[inline(always)]
    fn balance<N: Real>(&self, p: &Point<D, 1, N>, c: &Coefficients<N>, r: &mut Residual<D, 1, N>) {
        Law::<D, 1>::residual(&Diffusion, p, c, r);
        for d in 0..D {
            r.f0[0] += c.get(Self::velocity::<D>(d)) * p.grad[0][d];
        }
    }

    #[inline(always)]
    fn sizes<N: Real>(&self, c: &Coefficients<N>) -> [N; 2] {
        Law::<D, 1>::sizes(&Diffusion, c)
    }

    #[inline(always)]
    fn tangent<N: Real>(&self, p: &Point<D, 1, N>, c: &Coefficients<N>, t: &mut Tangent<D, 1, N>) {
        Law::<D, 1>::tangent(&Diffusion, p, c, t);
        let tau = Self::tau(p, c);
        let reaction = c.get(Diffusion::reaction::<D>());
        for a in 0..D {
            let b_a = c.get(Self::velocity::<D>(a));
            t.g01[0][0][a] += b_a;
            let weight = tau * b_a;
            t.g10[0][a][0] += weight * reaction;
            for e in 0..D {
                t.g11[0][a][0][e] +=
                    weight * (c.get(Self::velocity::<D>(e)) - c.get(Self::divergence::<D>(e)));
                for f in 0..D {
                    t.g12[a][e][f] -= weight * c.get(Diffusion::diffusion::<D>(e, f));
                }
            }
        }
    }

    fn needs(&self, part: Part, slot: usize) -> bool {
        needs::<D>(part, slot)
    }

    fn n_values(&self, quantity: Quantity) -> Option<usize> {
        scalar_values::<D>(quantity)
    }

    fn evaluate(&self, quantity: Quantity, p: &Point<D, 1>, c: &Coefficients, out: &mut [f64]) {
        scalar_evaluate(quantity, p, c, out);
    }
}
