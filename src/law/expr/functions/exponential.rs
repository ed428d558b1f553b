//! `exp`, `log`, powers and the hyperbolic functions.

use super::number::all_within;
use super::{Eight, Lanes, Number, Pair, ROUND, eights, mul_add, polynomial, two_product, two_sum};

/// Beyond this `exp` leaves the normal numbers.
const EXP_LIMIT: f64 = 708.0;

/// Logarithm of 2 in two parts; the first has so few bits that its multiples by an exponent are exact.
const LN2_HIGH: f64 = 0.6931471803691238;
const LN2_LOW: f64 = 1.9082149292705877e-10;

/// `exp(x + tail)`, `tail` tiny, for `|x| <= EXP_LIMIT`.
///
/// `exp(x) = 2^n exp(r)`, `|r| <= log(2)/2`. The polynomial is the minimax one of
/// `(exp(r) - 1 - r)/r^2`, off by 1.3e-17 of `exp(r)`.
#[inline(always)]
fn exp_of_sum<N: Number>(x: N, tail: N) -> N {
    let shifted = mul_add(x, N::splat(std::f64::consts::LOG2_E), N::splat(ROUND));
    let n = shifted - N::splat(ROUND);
    let r = mul_add(-n, N::splat(LN2_LOW), mul_add(-n, N::splat(LN2_HIGH), x)) + tail;
    let p = polynomial(
        r,
        [
            2.510038549551032e-8,
            2.7620088445409746e-7,
            2.7557268459997064e-6,
            2.4801521295954376e-5,
            0.00019841269863053618,
            0.0013888888917213717,
            0.008333333333330062,
            0.04166666666662413,
            0.16666666666666669,
            0.5,
        ],
    );
    let exp = N::splat(1.0) + mul_add(r * r, p, r);
    exp * N::power_of_two(shifted)
}

pub(in super::super) struct Exp;

impl Lanes for Exp {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= EXP_LIMIT
    }

    #[inline(always)]
    fn all_regular(a: &[f64]) -> bool {
        all_within(a, EXP_LIMIT)
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        exp_of_sum(x, 0.0)
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.exp()
    }

    #[inline(always)]
    fn block(a: &[f64], out: &mut [f64]) {
        eights(a, out, |a| exp_of_sum(a, Eight::splat(0.0)), Self::fast);
        Self::repair(a, out);
    }
}

/// `x = 2^k m` with `m` between the roots of 1/2 and 2, for normal `x > 0`: `(k, m)`.
#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    // The exponent with its bias, positive for every normal number.
    let biased = x.to_bits().wrapping_sub(ROOT_HALF).wrapping_add(1023 << 52) >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub(biased << 52).wrapping_add(1023 << 52));
    // Read as a number, 2^52 + biased.
    let k = f64::from_bits(biased | 0x4330_0000_0000_0000) - (4503599627370496.0 + 1023.0);
    (k, m)
}

pub(in super::super) struct Log;

impl Lanes for Log {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        (f64::MIN_POSITIVE..=f64::MAX).contains(&x)
    }

    /// `log(x) = k log(2) + log(1 + f)`, `1 + f` between the roots of 1/2 and 2, and
    /// `log(1 + f) = 2 atanh(s)`, `s = f/(2 + f)`.
    /// Source: the coefficients of fdlibm, e_log.c.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let (k, m) = split(x);
        let f = m - 1.0;
        let s = f / (2.0 + f);
        let z = s * s;
        let p = polynomial(
            z,
            [
                0.14798198605116586,
                0.15313837699209373,
                0.1818357216161805,
                0.22222198432149784,
                0.2857142874366239,
                0.3999999999940942,
                0.6666666666666735,
            ],
        );
        let half_square = 0.5 * f * f;
        let tail = mul_add(s, mul_add(z, p, half_square), k * LN2_LOW);
        mul_add(k, LN2_HIGH, f - (half_square - tail))
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.ln()
    }
}

pub(in super::super) struct Sinh;

impl Lanes for Sinh {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= EXP_LIMIT
    }

    /// From `exp` beyond 1; below, the minimax polynomial of `(sinh(x) - x)/x^3` in `x^2`, off by 3.5e-19.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let e = Exp::fast(x.abs());
        let large = (0.5 * e - 0.5 / e).copysign(x);
        let z = x * x;
        let p = polynomial(
            z,
            [
                7.746178593018827e-13,
                1.6057679623801638e-10,
                2.5052117695907823e-8,
                2.7557319191381816e-6,
                0.00019841269841324198,
                0.008333333333333299,
                0.16666666666666666,
            ],
        );
        let small = mul_add(z * x, p, x);
        if x.abs() < 1.0 { small } else { large }
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.sinh()
    }
}

pub(in super::super) struct Cosh;

impl Lanes for Cosh {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= EXP_LIMIT
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let e = Exp::fast(x.abs());
        0.5 * e + 0.5 / e
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.cosh()
    }
}

pub(in super::super) struct Tanh;

impl Lanes for Tanh {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= f64::MAX
    }

    /// `x + x^3 p(x^2)/q(x^2)` below 5/8, `1 - 2/(exp(2 x) + 1)` above: one division serves both.
    /// Source: the coefficients of Cephes, tanh.c.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let size = x.abs();
        // Beyond 20 the value is 1 to the last bit.
        let e = Exp::fast(if size < 20.0 { 2.0 * size } else { 40.0 });
        let z = x * x;
        let p = polynomial(z, [-0.9643991794250523, -99.28772310019185, -1614.6876844170845]);
        let q = polynomial(z, [1.0, 112.81167849163293, 2235.4883906010045, 4844.063053251255]);
        let small = size < 0.625;
        let above = if small { z * size * p } else { -2.0 };
        let below = if small { q } else { e + 1.0 };
        let base = if small { size } else { 1.0 };
        (base + above / below).copysign(x)
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.tanh()
    }
}

pub(in super::super) struct Pow;

impl Pair for Pow {
    /// `exp(b log(a))`, the logarithm to 65 bits in two numbers: 700 times it is still exact enough.
    ///
    /// `log(a) = k log(2) + 2 s + 2/3 s^3 + s^5 p(s^2)`; the first three terms are carried in two
    /// numbers, the last is 2^-12 of the whole and needs one. Holds for normal `a > 0` while the
    /// result is normal.
    #[inline(always)]
    fn fast(a: f64, b: f64) -> f64 {
        let (k, m) = split(a);
        let f = m - 1.0;
        let (below, below_low) = two_sum(m, 1.0);
        let s = f / below;
        let (back, back_low) = two_product(s, below);
        let s_low = (((f - back) - back_low) - s * below_low) / below;
        let (z, z_low) = two_product(s, s);
        let z_low = mul_add(2.0 * s, s_low, z_low);
        let (cube, cube_low) = two_product(s, z);
        let cube_low = mul_add(s, z_low, mul_add(s_low, z, cube_low));
        const TWO_THIRDS: f64 = 2.0 / 3.0;
        const TWO_THIRDS_LOW: f64 = 3.700743415417188e-17;
        let (third, third_low) = two_product(cube, TWO_THIRDS);
        let third_low = mul_add(cube_low, TWO_THIRDS, mul_add(cube, TWO_THIRDS_LOW, third_low));
        let p = polynomial(
            z,
            [
                0.1291361767218225,
                0.13285957435193352,
                0.15385574796462032,
                0.18181808247544543,
                0.2222222227110234,
                0.2857142857133851,
                0.40000000000000024,
            ],
        );
        let (high, first_low) = two_sum(k * LN2_HIGH, 2.0 * s);
        let (high, second_low) = two_sum(high, third);
        let rest = mul_add(cube * z, p, mul_add(k, LN2_LOW, mul_add(2.0, s_low, third_low)));
        let low = (first_low + second_low) + rest;
        let (log, log_low) = two_product(b, high);
        let result = exp_of_sum(log, mul_add(b, low, log_low));
        if Log::regular(a) & (log.abs() <= EXP_LIMIT) { result } else { f64::NAN }
    }

    #[inline(always)]
    fn exact(a: f64, b: f64) -> f64 {
        a.powf(b)
    }
}
