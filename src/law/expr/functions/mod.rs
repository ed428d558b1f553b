//! Transcendental functions over blocks of numbers, without branches so that they vectorise.
//!
//! May import: `law::lanes`. Each function is a [`Lanes`], or a [`Pair`] if it takes two numbers: a straight
//! line of arithmetic, within 2 units of the standard library, that holds for ordinary arguments; the few
//! others (huge, subnormal, out of domain, NaN) go to the standard library one by one. What a number gives
//! depends on that number alone, never on its neighbours or on the length of the block: batches,
//! single points and folded constants agree to the last bit.
//!
//! Bound by the two multiply-add units of a core. On vectors of four, `log` and `atan` take about 1 ns, a
//! power 3.5 ns; the commonest, `exp`, sine and cosine, are written for eight numbers at once (`number`)
//! and take half of that. The standard library takes 7 to 10 ns for each.

mod circular;
mod exponential;
mod number;

#[cfg(test)]
mod tests;

pub(super) use circular::{Atan, Atan2, Cos, Sin, Tan, sin_cos_block};
pub(super) use exponential::{Cosh, Exp, Log, Pow, Sinh, Tanh};
use number::Number;
pub(super) use number::{Eight, eights};

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

    /// Whether `fast` holds for all. No early exit: this pass is a vector loop too.
    #[inline(always)]
    fn all_regular(a: &[f64]) -> bool {
        a.iter().fold(true, |all, &a| all & Self::regular(a))
    }

    /// Replaces what `fast` cannot know.
    #[inline(always)]
    fn repair(a: &[f64], out: &mut [f64]) {
        if !Self::all_regular(a) {
            for (o, &a) in out.iter_mut().zip(a) {
                if !Self::regular(a) {
                    *o = Self::exact(a);
                }
            }
        }
    }
}

/// A function of two numbers with a branch-free form.
pub(super) trait Pair {
    /// Straight-line form; NaN where it does not hold.
    fn fast(a: f64, b: f64) -> f64;

    /// The standard library's form, for where `fast` is NaN.
    fn exact(a: f64, b: f64) -> f64;

    /// The value for one pair.
    #[inline(always)]
    fn value(a: f64, b: f64) -> f64 {
        let fast = Self::fast(a, b);
        if fast.is_nan() { Self::exact(a, b) } else { fast }
    }
}

/// `a*b + c`: one instruction where the processor has it, never a call of a library that imitates it.
#[inline(always)]
fn mul_add<N: Number>(a: N, b: N, c: N) -> N {
    a.mul_add(b, c)
}

/// The polynomial with these coefficients, highest power first.
#[inline(always)]
fn polynomial<N: Number, const K: usize>(x: N, coefficients: [f64; K]) -> N {
    let mut p = N::splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = mul_add(p, x, N::splat(c));
    }
    p
}

/// The product and what its rounding lost.
#[inline(always)]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        return (product, a.mul_add(b, -product));
    }
    // Dekker: halves of 26 bits multiply without rounding.
    let halves = |x: f64| {
        let scaled = x * 134217729.0; // 2^27 + 1
        let high = scaled - (scaled - x);
        (high, x - high)
    };
    let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
    (product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)
}

/// The sum and what its rounding lost.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// Adding this rounds to a whole number, which then stands in the lowest bits.
const ROUND: f64 = 6755399441055744.0; // 1.5 * 2^52
