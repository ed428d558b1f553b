//! Transcendental functions over blocks of numbers, without branches so that they vectorise.
//!
//! May import: nothing. Each function is a [`Lanes`]: a straight line of arithmetic, exact to 2
//! units in the last place, that holds for the arguments of `regular`; the few others (huge,
//! subnormal, out of domain, NaN) go to the standard library one by one. What a number gives
//! depends on that number alone, never on its neighbours or on the length of the block: batches,
//! single points and folded constants agree to the last bit.
//!
//! Bound by the two multiply-add units of a core: `exp` and `log` take 0.5 to 1.5 ns, the pair of
//! sine and cosine 1.5 ns, where the standard library takes 7 to 10 ns for each.

/// A function of one number with a branch-free form.
pub(super) trait Lanes {
    /// Where `fast` holds; false for NaN.
    fn regular(x: f64) -> bool;

    /// Straight-line form, the same for every lane of a vector. Never panics, whatever `x`.
    fn fast(x: f64) -> f64;

    /// The standard library's form, for the other arguments.
    fn exact(x: f64) -> f64;

    /// The value for one number.
    #[inline(always)]
    fn value(x: f64) -> f64 {
        if Self::regular(x) { Self::fast(x) } else { Self::exact(x) }
    }

    /// The values of a block; bitwise [`Lanes::value`] of each.
    #[inline(always)]
    fn block(a: &[f64], out: &mut [f64]) {
        for (o, &a) in out.iter_mut().zip(a) {
            *o = Self::fast(a);
        }
        Self::repair(a, out);
    }

    /// Replaces what `fast` cannot know.
    #[inline(always)]
    fn repair(a: &[f64], out: &mut [f64]) {
        // No early exit: this pass is a vector loop too.
        let all = a.iter().fold(true, |all, &a| all & Self::regular(a));
        if !all {
            for (o, &a) in out.iter_mut().zip(a) {
                if !Self::regular(a) {
                    *o = Self::exact(a);
                }
            }
        }
    }
}

/// `a*b + c`: one instruction where the processor has it, never a call of a library that imitates it.
#[inline(always)]
fn mul_add(a: f64, b: f64, c: f64) -> f64 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with these coefficients, highest power first.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut p = coefficients[0];
    for &c in &coefficients[1..] {
        p = mul_add(p, x, c);
    }
    p
}

/// Adding this rounds to a whole number, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// Beyond this `exp` leaves the normal numbers.
const EXP_LIMIT: f64 = 708.0;

/// Logarithm of 2 in two parts; the first has so few bits that its multiples by an exponent are exact.
const LN2_HIGH: f64 = 6.931_471_803_691_238_164_90e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_700_02e-10;

pub(super) struct Exp;

impl Lanes for Exp {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= EXP_LIMIT
    }

    /// `exp(x) = 2^n exp(r)`, `|r| <= log(2)/2`. The polynomial is the minimax one of
    /// `(exp(r) - 1 - r)/r^2`, off by 1.3e-17 of `exp(r)`.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        let shifted = mul_add(x, std::f64::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = mul_add(-n, LN2_LOW, mul_add(-n, LN2_HIGH, x));
        let p = polynomial(
            r,
            [
                2.510038549551032e-08,
                2.7620088445409746e-07,
                2.7557268459997064e-06,
                2.4801521295954376e-05,
                0.00019841269863053618,
                0.0013888888917213717,
                0.008333333333330062,
                0.04166666666662413,
                0.16666666666666669,
                0.5,
            ],
        );
        let exp = 1.0 + mul_add(r * r, p, r);
        let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
        exp * power
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.exp()
    }
}

pub(super) struct Log;

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
        const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
        // The exponent with its bias, positive for every normal number.
        let biased = x.to_bits().wrapping_sub(ROOT_HALF).wrapping_add(1023 << 52) >> 52;
        let m = f64::from_bits(x.to_bits().wrapping_sub(biased << 52).wrapping_add(1023 << 52));
        // Read as a number, 2^52 + biased.
        let k = f64::from_bits(biased | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
        let f = m - 1.0;
        let s = f / (2.0 + f);
        let z = s * s;
        let p = polynomial(
            z,
            [
                1.479819860511658591e-01,
                1.531383769920937332e-01,
                1.818357216161805012e-01,
                2.222219843214978396e-01,
                2.857142874366239149e-01,
                3.999999999940941908e-01,
                6.666666666666735130e-01,
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

/// Beyond this the three parts of pi/2 no longer reduce an argument to the last bit.
const TURN_LIMIT: f64 = 1e5;

/// Both the sine and the cosine, for `|x| <= TURN_LIMIT`.
///
/// `x = n pi/2 + r + tail`, `|r| <= pi/4`, by three parts of pi/2 whose first two have 33 bits: their
/// multiples are exact. Source: the parts and the coefficients of fdlibm, e_rem_pio2.c, k_sin.c,
/// k_cos.c.
#[inline(always)]
fn sin_cos(x: f64) -> (f64, f64) {
    let shifted = mul_add(x, std::f64::consts::FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    let quarter = shifted.to_bits();
    let first = mul_add(-n, 1.570_796_326_734_125_614_17, x);
    let second = n * 6.077_100_506_303_965_976_60e-11;
    let high = first - second;
    let low = mul_add(-n, 2.022_266_248_795_950_631_54e-21, (first - high) - second);
    let r = high + low;
    let tail = (high - r) + low;
    let z = r * r;
    let p = polynomial(
        z,
        [
            1.58969099521155010221e-10,
            -2.50507602534068634195e-08,
            2.75573137070700676789e-06,
            -1.98412698298579493134e-04,
            8.33333333332248946124e-03,
            -1.66666666666666324348e-01,
        ],
    );
    let sin = r + mul_add(z * r, p, tail);
    let p = polynomial(
        z,
        [
            -1.13596475577881948265e-11,
            2.08757232129817482790e-09,
            -2.75573143513906633035e-07,
            2.48015872894767294178e-05,
            -1.38888888888741095749e-03,
            4.16666666666666019037e-02,
        ],
    );
    let half = 0.5 * z;
    let top = 1.0 - half;
    let cos = top + (((1.0 - top) - half) + mul_add(z * z, p, -(r * tail)));
    let odd = quarter & 1 == 1;
    let (s, c) = if odd { (cos, sin) } else { (sin, cos) };
    let sign = |quarter: u64| (quarter & 2) << 62;
    let s = f64::from_bits(s.to_bits() ^ sign(quarter));
    let c = f64::from_bits(c.to_bits() ^ sign(quarter.wrapping_add(1)));
    // The sine of a tiny number is that number; this keeps the sign of zero.
    (if x.abs() < 1e-9 { x } else { s }, c)
}

pub(super) struct Sin;

impl Lanes for Sin {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= TURN_LIMIT
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        sin_cos(x).0
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.sin()
    }
}

pub(super) struct Cos;

impl Lanes for Cos {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= TURN_LIMIT
    }

    #[inline(always)]
    fn fast(x: f64) -> f64 {
        sin_cos(x).1
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.cos()
    }
}

/// Sine and cosine of a block for little more than the price of one; bitwise those of [`Sin`] and [`Cos`].
pub(super) fn sin_cos_block(a: &[f64], sin: &mut [f64], cos: &mut [f64]) {
    for ((s, c), &a) in sin.iter_mut().zip(cos.iter_mut()).zip(a) {
        (*s, *c) = sin_cos(a);
    }
    Sin::repair(a, sin);
    Cos::repair(a, cos);
}

pub(super) struct Sinh;

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
                2.5052117695907823e-08,
                2.7557319191381816e-06,
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

pub(super) struct Cosh;

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

pub(super) struct Tanh;

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
        let p = polynomial(
            z,
            [-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3],
        );
        let q = polynomial(
            z,
            [1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3],
        );
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

pub(super) struct Atan;

impl Lanes for Atan {
    #[inline(always)]
    fn regular(x: f64) -> bool {
        x.abs() <= f64::MAX
    }

    /// `atan(x) = base + atan(u)` with `|u| <= 0.66` by three ranges, `atan(u) = u + u^3 p(u^2)/q(u^2)`.
    /// Source: the ranges and the coefficients of Cephes, atan.c.
    #[inline(always)]
    fn fast(x: f64) -> f64 {
        const BELOW_HALF_PI: f64 = 6.123_233_995_736_766e-17; // pi/2 less its double
        let size = x.abs();
        let (far, near) = (size > 2.414_213_562_373_095, size <= 0.66);
        let above = if far { -1.0 } else if near { size } else { size - 1.0 };
        let below = if far { size } else if near { 1.0 } else { size + 1.0 };
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
                -8.750608600031904122785e-1,
                -1.615753718733365076637e1,
                -7.500855792314704667340e1,
                -1.228866684490136173410e2,
                -6.485021904942025371773e1,
            ],
        );
        let q = polynomial(
            z,
            [
                1.0,
                2.485846490142306297962e1,
                1.650270098316988542046e2,
                4.328810604912902668951e2,
                4.853903996359136964868e2,
                1.945506571482613964425e2,
            ],
        );
        (base + (u + mul_add(z * u, p / q, more))).copysign(x)
    }

    #[inline(always)]
    fn exact(x: f64) -> f64 {
        x.atan()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of the exact value.
    fn ulps(got: f64, exact: f64) -> f64 {
        if got == exact || (got.is_nan() && exact.is_nan()) {
            return 0.0;
        }
        let unit = f64::from_bits(exact.abs().to_bits() + 1) - exact.abs();
        (got - exact).abs() / unit
    }

    /// Uniform samples of an interval and the neighbourhood of its ends and of zero.
    fn dense(low: f64, high: f64) -> Vec<f64> {
        let n = 200_003;
        let mut samples: Vec<f64> =
            (0..=n).map(|i| low + (high - low) * f64::from(i) / f64::from(n)).collect();
        for k in 0..300 {
            let tiny = 2f64.powi(-k);
            samples.extend([low * tiny, high * tiny, low + (high - low) * tiny]);
        }
        samples
    }

    /// Worst error over the samples, through the blocks.
    fn worst<F: Lanes>(samples: &[f64]) -> (f64, f64) {
        let mut out = vec![0.0; samples.len()];
        F::block(samples, &mut out);
        let mut worst = (0.0, 0.0);
        for (&x, &y) in samples.iter().zip(&out) {
            assert_eq!(F::value(x).to_bits(), y.to_bits(), "block and value differ at {x:e}");
            let error = ulps(y, F::exact(x));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    fn check<F: Lanes>(name: &str, intervals: &[(f64, f64)]) {
        for &(low, high) in intervals {
            let (error, x) = worst::<F>(&dense(low, high));
            println!("{name} on {low:e}..{high:e}: {error} ulp at {x:e}");
            assert!(error <= 2.0, "{name}: {error} ulp at {x:e}");
        }
        let special = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            f64::MIN_POSITIVE / 8.0,
            -f64::MIN_POSITIVE / 8.0,
            f64::MAX,
            f64::MIN,
            709.5,
            -740.0,
            -750.0,
            1e5,
            1e15,
            1e22,
            -1.0,
        ];
        let mut out = [0.0; 17];
        F::block(&special, &mut out);
        for (&x, &y) in special.iter().zip(&out) {
            let exact = F::exact(x);
            assert!(ulps(y, exact) <= 2.0, "{name}({x:e}) = {y:e}, not {exact:e}");
            assert!(y.is_nan() || y.is_sign_negative() == exact.is_sign_negative(), "{name}({x:e}) = {y:e}");
        }
    }

    #[test]
    fn within_two_units_of_the_standard_library() {
        check::<Exp>("exp", &[(-1.0, 1.0), (-40.0, 40.0), (-750.0, 720.0)]);
        check::<Log>("log", &[(0.5, 2.0), (1e-3, 100.0), (0.999, 1.001), (1e-310, 1e300)]);
        check::<Sin>("sin", &[(-1.0, 1.0), (-20.0, 20.0), (-1e5, 1e5), (1e5, 1e9)]);
        check::<Cos>("cos", &[(-1.0, 1.0), (-20.0, 20.0), (-1e5, 1e5), (1e5, 1e9)]);
        check::<Sinh>("sinh", &[(-1.5, 1.5), (-40.0, 40.0), (-720.0, 720.0)]);
        check::<Cosh>("cosh", &[(-1.5, 1.5), (-40.0, 40.0), (-720.0, 720.0)]);
        check::<Tanh>("tanh", &[(-1.0, 1.0), (-25.0, 25.0), (-1e4, 1e4)]);
        check::<Atan>("atan", &[(-1.0, 1.0), (-5.0, 5.0), (-1e4, 1e4), (-1e300, 1e300)]);
    }

    /// Where a sine or a cosine vanishes, the reduction cancels all it can.
    #[test]
    fn multiples_of_a_quarter_turn() {
        let near = |k: i32| f64::from(k) * std::f64::consts::FRAC_PI_2;
        let step = |x: f64, d: i64| f64::from_bits(x.to_bits().saturating_add_signed(d));
        let samples: Vec<f64> =
            (-63_000..63_000).flat_map(|k| [-1, 0, 1].map(|d| step(near(k), d))).collect();
        let (error, x) = worst::<Sin>(&samples);
        assert!(error <= 2.0, "sin: {error} ulp at {x:e}");
        let (error, x) = worst::<Cos>(&samples);
        assert!(error <= 2.0, "cos: {error} ulp at {x:e}");
        let (mut sin, mut cos) = (vec![0.0; samples.len()], vec![0.0; samples.len()]);
        sin_cos_block(&samples, &mut sin, &mut cos);
        for (i, &x) in samples.iter().enumerate() {
            assert_eq!((sin[i].to_bits(), cos[i].to_bits()), (Sin::value(x).to_bits(), Cos::value(x).to_bits()));
        }
    }
}
