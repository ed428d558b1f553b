//! One number or eight: what the commonest functions are written for.
//!
//! May import: `wide`, `law::lanes`. The compiler makes vectors of four of most loops, whatever the processor has; code
//! over [`Eight`] fills its longest ones. Both do the same operations in the same order, so they agree
//! to the last bit.

use wide::u64x8;

pub(in super::super) use crate::law::lanes::Lanes as Eight;
use crate::law::lanes::Real;

/// What the functions need of a number beyond what the physics does.
pub(super) trait Number: Real {
    /// `2^n` of `n + ROUND`.
    fn power_of_two(shifted: Self) -> Self;

    /// Sine and cosine of an angle `n pi/2 + r` from those of `r` and `n + ROUND`.
    fn turned(sin: Self, cos: Self, shifted: Self) -> (Self, Self);

    /// `other`, but itself where it is tiny.
    fn if_tiny(self, other: Self) -> Self;
}

/// Below this a number is its own sine.
const TINY: f64 = 1e-9;

impl Number for f64 {
    #[inline(always)]
    fn power_of_two(shifted: Self) -> Self {
        f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
    }

    #[inline(always)]
    fn turned(sin: Self, cos: Self, shifted: Self) -> (Self, Self) {
        let quarter = shifted.to_bits();
        let (s, c) = if quarter & 1 == 1 { (cos, sin) } else { (sin, cos) };
        let sign = |quarter: u64| (quarter & 2) << 62;
        let s = f64::from_bits(s.to_bits() ^ sign(quarter));
        (s, f64::from_bits(c.to_bits() ^ sign(quarter.wrapping_add(1))))
    }

    #[inline(always)]
    fn if_tiny(self, other: Self) -> Self {
        if self.abs() < TINY { self } else { other }
    }
}

impl Number for Eight {
    #[inline(always)]
    fn power_of_two(shifted: Self) -> Self {
        let bits: u64x8 = bytemuck::cast(shifted);
        bytemuck::cast((bits + u64x8::splat(1023)) << 52u32)
    }

    #[inline(always)]
    fn turned(sin: Self, cos: Self, shifted: Self) -> (Self, Self) {
        let quarter: u64x8 = bytemuck::cast(shifted);
        let (one, two) = (u64x8::splat(1), u64x8::splat(2));
        let odd: Eight = bytemuck::cast((quarter & one).simd_eq(one));
        let sign = |quarter: u64x8| -> Eight { bytemuck::cast((quarter & two) << 62u32) };
        let (s, c) = (odd.bitselect(cos, sin), odd.bitselect(sin, cos));
        (s ^ sign(quarter), c ^ sign(quarter + one))
    }

    #[inline(always)]
    fn if_tiny(self, other: Self) -> Self {
        self.abs().simd_lt(Eight::splat(TINY)).bitselect(self, other)
    }
}

/// Whether no number is beyond `limit` in size, and none is NaN.
///
/// Without their sign, numbers are ordered as their bits are, NaN beyond infinity.
#[inline(always)]
pub(super) fn all_within(values: &[f64], limit: f64) -> bool {
    let bits = |x: &f64| x.to_bits() & (u64::MAX >> 1);
    values.iter().fold(0, |most, x| bits(x).max(most)) <= limit.to_bits()
}

/// Applies `f` to eight numbers at a time and `one` to those that are left.
#[inline(always)]
pub(in super::super) fn eights(
    a: &[f64],
    out: &mut [f64],
    f: impl Fn(Eight) -> Eight,
    one: impl Fn(f64) -> f64,
) {
    let (mut to, mut from) = (out.chunks_exact_mut(8), a.chunks_exact(8));
    for (o, a) in to.by_ref().zip(from.by_ref()) {
        o.copy_from_slice(f(Eight::load(a, 0)).as_array());
    }
    for (o, &a) in to.into_remainder().iter_mut().zip(from.remainder()) {
        *o = one(a);
    }
}
