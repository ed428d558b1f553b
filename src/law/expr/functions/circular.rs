//! Sine, cosine, tangent and its inverse.

use super::number::all_within;
use super::{Eight, Lanes, Number, Pair, ROUND, eights, mul_add, polynomial};
use crate::law::lanes::Real;

/// Beyond this the three parts of pi/2 no longer reduce an argument to the last bit.
const TURN_LIMIT: f64 = 1e5;

/// Both the sine and the cosine, for `|x| <= TURN_LIMIT`.
///
/// `x = n pi/2 + r + tail`, `|r| <= pi/4`, by three parts of pi/2 whose first two have 33 bits: their
/// multiples are exact. Source: the parts and the coefficients of fdlibm, e_rem_pio2.c, k_sin.c,
/// k_cos.c.
#[inline(always)]
fn sin_cos<N: Number>(x: N) -> (N, N) {
    let shifted = mul_add(x, N::splat(std::f64::consts::FRAC_2_PI), N::splat(ROUND));
    let n = shifted - N::splat(ROUND);
    let first = mul_add(-n, N::splat(1.5707963267341256), x);
    let second = n * N::splat(6.077100506303966e-11);
    let high = first - second;
    let low = mul_add(-n, N::splat(2.0222662487959506e-21), (first - high) - second);
    let r = high + low;
    let tail = (high - r) + low;
    let z = r * r;
    let p = polynomial(
        z,
        [
            1.58969099521155e-10,
            -2.5050760253406863e-8,
            2.7557313707070068e-6,
            -0.0001984126982985795,
            0.00833333333332249,
            -0.16666666666666632,
        ],
    );
    let sin = r + mul_add(z * r, p, tail);
    let p = polynomial(
        z,
        [
            -1.1359647557788195e-11,
            2.087572321298175e-9,
            -2.7557314351390663e-7,
            2.480158728947673e-5,
            -0.001388888888887411,
            0.0416666666666666,
        ],
    );
    let half = N::splat(0.5) * z;
    let one = N::splat(1.0);
    let top = one - half;
    let cos = top + (((one - top) - half) + mul_add(z * z, p, -(r * tail)));
    let (sin, cos) = N::turned(sin, cos, shifted);
    // The sine of a tiny number is that number; this keeps the sign of zero.
    (x.if_tiny(sin), cos)
}

pub(in super::super) struct Sin;

impl Lanes for Sin {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= TURN_LIMIT
    }

    #[inline(always)]
    fn all_regular(a: &[f64]) -> bool {
        all_within(a, TURN_LIMIT)
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        sin_cos(x).0
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.sin()
    }

    #[inline(always)]
    fn block(a: &[f64], out: &mut [f64]) {
        eights(a, out, |a| sin_cos(a).0, Self::fast);
        Self::repair(a, out);
    }
}

pub(in super::super) struct Cos;

impl Lanes for Cos {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= TURN_LIMIT
    }

    #[inline(always)]
    fn all_regular(a: &[f64]) -> bool {
        all_within(a, TURN_LIMIT)
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        sin_cos(x).1
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.cos()
    }

    #[inline(always)]
    fn block(a: &[f64], out: &mut [f64]) {
        eights(a, out, |a| sin_cos(a).1, Self::fast);
        Self::repair(a, out);
    }
}

/// Sine and cosine of a block for little more than the price of one; bitwise those of [`Sin`] and [`Cos`].
pub(in super::super) fn sin_cos_block(a: &[f64], sin: &mut [f64], cos: &mut [f64]) {
    let whole = a.len() - a.len() % 8;
    for i in (0..whole).step_by(8) {
        let (s, c) = sin_cos(Eight::load(a, i));
        sin[i..i + 8].copy_from_slice(s.as_array());
        cos[i..i + 8].copy_from_slice(c.as_array());
    }
    for i in whole..a.len() {
        (sin[i], cos[i]) = sin_cos(a[i]);
    }
    if !Sin::all_regular(a) {
        Sin::repair(a, sin);
        Cos::repair(a, cos);
    }
}

/// pi/2 less its nearest number.
const BELOW_HALF_PI: f64 = 6.123233995736766e-17;

pub(in super::super) struct Atan;

impl Lanes for Atan {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= f64::MAX
    }

    /// `atan(x) = base + atan(u)` with `|u| <= 0.66` by three ranges, `atan(u) = u + u^3 p(u^2)/q(u^2)`.
    /// Source: the ranges and the coefficients of Cephes, atan.c.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let size = x.abs();
        let (far, near) = (size > 2.414213562373095, size <= 0.66);
        let above = if far {
            -1.0
        } else if near {
            size
        } else {
            size - 1.0
        };
        let below = if far {
            size
        } else if near {
            1.0
        } else {
            size + 1.0
        };
        let base = if far {
            std::f64::consts::FRAC_PI_2
        } else if near {
            0.0
        } else {
            std::f64::consts::FRAC_PI_4
        };
        let more = if far {
            BELOW_HALF_PI
        } else if near {
            0.0
        } else {
            0.5 * BELOW_HALF_PI
        };
        let u = above / below;
        let z = u * u;
        let p = polynomial(
            z,
            [
                -0.8750608600031904,
                -16.157537187333652,
                -75.00855792314705,
                -122.88666844901361,
                -64.85021904942025,
            ],
        );
        let q = polynomial(
            z,
            [
                1.0,
                24.858464901423062,
                165.02700983169885,
                432.88106049129027,
                485.3903996359137,
                194.5506571482614,
            ],
        );
        (base + (u + mul_add(z * u, p / q, more))).copysign(x)
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.atan()
    }
}

pub(in super::super) struct Tan;

impl Lanes for Tan {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= TURN_LIMIT
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let (sin, cos) = sin_cos(x);
        sin / cos
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.tan()
    }
}

pub(in super::super) struct Atan2;

impl Pair for Atan2 {
    /// From the quotient, where that is an ordinary number.
    #[inline(always)]
    fn fast(y: f64, x: f64) -> f64 {
        let quotient = (y / x).abs();
        let right = Atan::fast(quotient);
        let left = std::f64::consts::PI - (right - 2.0 * BELOW_HALF_PI);
        let angle = if x < 0.0 { left } else { right }.copysign(y);
        if (1e-290..1e290).contains(&quotient) { angle } else { f64::NAN }
    }

    #[inline(always)]
    fn exact(y: f64, x: f64) -> f64 {
        y.atan2(x)
    }
}
