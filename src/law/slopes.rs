//! Numbers with their derivative along one direction: what takes the divergence of a law's flux.
//!
//! Start at [`Sloped`]. A law states its flux once, for any [`Real`]; run on these numbers it yields the
//! flux's derivative as well, coefficients' derivatives included.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

use super::lanes::Real;

/// A number and its derivative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sloped<N> {
    /// The number.
    pub value: N,
    /// Its derivative.
    pub slope: N,
}

impl<N: Real> Add for Sloped<N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Sloped { value: self.value + b.value, slope: self.slope + b.slope }
    }
}

impl<N: Real> Sub for Sloped<N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Sloped { value: self.value - b.value, slope: self.slope - b.slope }
    }
}

impl<N: Real> Mul for Sloped<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Sloped { value: self.value * b.value, slope: self.slope.mul_add(b.value, self.value * b.slope) }
    }
}

impl<N: Real> Div for Sloped<N> {
    type Output = Self;
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        let value = self.value / b.value;
        Sloped { value, slope: (self.slope - value * b.slope) / b.value }
    }
}

impl<N: Real> Neg for Sloped<N> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Sloped { value: -self.value, slope: -self.slope }
    }
}

impl<N: Real> AddAssign for Sloped<N> {
    #[inline(always)]
    fn add_assign(&mut self, b: Self) {
        *self = *self + b;
    }
}

impl<N: Real> SubAssign for Sloped<N> {
    #[inline(always)]
    fn sub_assign(&mut self, b: Self) {
        *self = *self - b;
    }
}

impl<N: Real> Real for Sloped<N> {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        Sloped { value: N::splat(x), slope: N::default() }
    }

    #[inline(always)]
    fn load(values: &[f64], at: usize) -> Self {
        Sloped { value: N::load(values, at), slope: N::default() }
    }

    #[inline(always)]
    fn load_sloped(values: &[f64], at: usize, slope: impl FnOnce() -> usize) -> Self {
        Sloped { value: N::load(values, at), slope: N::load(values, slope()) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self * b + c
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        Sloped { value, slope: self.slope / (N::splat(2.0) * value) }
    }

    #[inline(always)]
    fn unless_zero(self, x: Self) -> Self {
        Sloped { value: self.value.unless_zero(x.value), slope: self.slope.unless_zero(x.value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation's slope is what differences give.
    #[test]
    fn slopes_are_derivatives() {
        fn all<N: Real>(x: N) -> [N; 8] {
            let (a, b) = (N::splat(1.3) + x * x, N::splat(2.0) - x);
            [a + b, a - b, a * b, a / b, -a, a.mul_add(b, x), a.sqrt(), a.unless_zero(b)]
        }
        let (x, h) = (0.7, 1e-6);
        let sloped = all(Sloped { value: x, slope: 1.0 });
        for (k, sloped) in sloped.into_iter().enumerate() {
            assert_eq!(sloped.value, all(x)[k]);
            let difference = (all(x + h)[k] - all(x - h)[k]) / (2.0 * h);
            assert!((sloped.slope - difference).abs() < 1e-8, "{k}: {} {difference}", sloped.slope);
        }
    }
}
