//! Numbers that laws compute with: one, or eight side by side.
//!
//! Imports `wide`, whose eight lanes are one register where the processor has such, else two or four.
//! [`Lanes`] are one point of eight cells. A lane never sees the others: what a cell gives does not
//! depend on which cells it is computed with.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Cells computed side by side.
pub const WIDTH: usize = 8;

/// One number for each of [`WIDTH`] cells.
pub type Lanes = wide::f64x8;

/// What the physics needs of a number.
pub trait Real:
    Copy
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
{
    /// The same number in all lanes.
    fn splat(x: f64) -> Self;

    /// The number or numbers from `at` on.
    fn load(values: &[f64], at: usize) -> Self;

    /// As [`Real::load`], with the slope that stands at `slope()` for numbers that carry one.
    #[inline(always)]
    fn load_sloped(values: &[f64], at: usize, _slope: impl FnOnce() -> usize) -> Self {
        Self::load(values, at)
    }

    /// `self * b + c`, rounded once where the processor can.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// Itself, but zero where `x` is zero.
    fn unless_zero(self, x: Self) -> Self;
}

impl Real for f64 {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn load(values: &[f64], at: usize) -> Self {
        values[at]
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            f64::mul_add(self, b, c)
        } else {
            self * b + c
        }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn unless_zero(self, x: Self) -> Self {
        if x == 0.0 { 0.0 } else { self }
    }
}

impl Real for Lanes {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        Lanes::splat(x)
    }

    #[inline(always)]
    fn load(values: &[f64], at: usize) -> Self {
        let mut lanes = [0.0; WIDTH];
        lanes.copy_from_slice(&values[at..at + WIDTH]);
        Lanes::new(lanes)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Lanes::mul_add(self, b, c)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Lanes::sqrt(self)
    }

    #[inline(always)]
    fn unless_zero(self, x: Self) -> Self {
        x.simd_eq(Lanes::splat(0.0)).bitselect(Lanes::splat(0.0), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation gives in each lane what it gives for one number.
    #[test]
    fn lanes_are_numbers() {
        let a = [0.0, -0.0, 1.5, -3.0, 1e300, 2.0, 7.0, f64::INFINITY];
        let b = [1.0, 0.0, 0.3, -7.0, 1e-300, 0.0, 3.0, 2.0];
        let (va, vb) = (Lanes::new(a), Lanes::load(&b, 0));
        fn all<N: Real>(a: N, b: N) -> [N; 8] {
            let c = N::splat(0.7);
            [a + b, a - b, a * b, a / b, -a, a.mul_add(b, c), a.sqrt(), a.unless_zero(b)]
        }
        let together = all(va, vb).map(|v| v.to_array());
        for k in 0..WIDTH {
            for (lanes, alone) in together.iter().zip(all(a[k], b[k])) {
                let lane = lanes[k];
                assert!(lane.to_bits() == alone.to_bits() || (lane.is_nan() && alone.is_nan()));
            }
        }
    }
}
