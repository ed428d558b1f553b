//! The loops behind the instructions: one operation over a block of points.
//!
//! May import: `graph`, `fusion`, `functions`, `law::lanes`. One loop a function: with the function fixed, `apply` folds to
//! its one branch.

use super::functions::{
    Atan, Atan2, Cos, Cosh, Eight, Exp, Lanes, Log, Pair, Pow, Sin, Sinh, Tan, Tanh, eights,
};
use super::fusion::{Inner, Outer};
use super::graph::{Binary, Unary, powi};
use crate::law::lanes::Real;

#[inline(always)]
fn map(a: &[f64], out: &mut [f64], f: impl Fn(f64) -> f64) {
    for (o, &a) in out.iter_mut().zip(a) {
        *o = f(a);
    }
}

/// One side of an operation on two: a register, or a number that is the same for all points.
pub(super) trait Operand: Copy {
    /// The first `n` values; stating their number once spares a check for each.
    fn first(self, n: usize) -> Self;
    fn at(self, i: usize) -> f64;
    /// The values from `i` on.
    fn eight(self, i: usize) -> Eight;
}

impl Operand for &[f64] {
    #[inline(always)]
    fn first(self, n: usize) -> Self {
        &self[..n]
    }

    #[inline(always)]
    fn at(self, i: usize) -> f64 {
        self[i]
    }

    #[inline(always)]
    fn eight(self, i: usize) -> Eight {
        Eight::load(self, i)
    }
}

impl Operand for f64 {
    #[inline(always)]
    fn first(self, _: usize) -> Self {
        self
    }

    #[inline(always)]
    fn at(self, _: usize) -> f64 {
        self
    }

    #[inline(always)]
    fn eight(self, _: usize) -> Eight {
        Eight::splat(self)
    }
}

/// A few instructions a point: eight points at a time keep short blocks cheap too.
#[inline(always)]
fn zip(a: impl Operand, b: impl Operand, out: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    let whole = out.len() - out.len() % 8;
    let (a, b) = (a.first(out.len()), b.first(out.len()));
    for i in (0..whole).step_by(8) {
        let (a, b) = (a.eight(i).to_array(), b.eight(i).to_array());
        let eight: [f64; 8] = std::array::from_fn(|k| f(a[k], b[k]));
        out[i..i + 8].copy_from_slice(&eight);
    }
    for (i, o) in out.iter_mut().enumerate().skip(whole) {
        *o = f(a.at(i), b.at(i));
    }
}

/// The arithmetic that expressions are mostly made of, in the longest vectors there are.
#[inline(always)]
fn zip_eights(
    a: impl Operand,
    b: impl Operand,
    out: &mut [f64],
    f: impl Fn(Eight, Eight) -> Eight,
    one: impl Fn(f64, f64) -> f64,
) {
    let (a, b) = (a.first(out.len()), b.first(out.len()));
    let whole = out.len() - out.len() % 8;
    for i in (0..whole).step_by(8) {
        out[i..i + 8].copy_from_slice(f(a.eight(i), b.eight(i)).as_array());
    }
    for (i, o) in out.iter_mut().enumerate().skip(whole) {
        *o = one(a.at(i), b.at(i));
    }
}

/// Bitwise `value` of each pair.
#[inline(always)]
fn zip_pair<F: Pair>(a: impl Operand, b: impl Operand, out: &mut [f64]) {
    let (a, b) = (a.first(out.len()), b.first(out.len()));
    for (i, o) in out.iter_mut().enumerate() {
        *o = F::fast(a.at(i), b.at(i));
    }
    // No early exit: this pass is a vector loop too.
    if out.iter().fold(false, |any, o| any | o.is_nan()) {
        for (i, o) in out.iter_mut().enumerate() {
            if o.is_nan() {
                *o = F::exact(a.at(i), b.at(i));
            }
        }
    }
}

pub(super) fn unary(f: Unary, a: &[f64], out: &mut [f64]) {
    macro_rules! each {
        ($($fast:ident),*; $($name:ident),*) => {
            match f {
                $(Unary::$fast => $fast::block(a, out),)*
                $(Unary::$name => map(a, out, |a| Unary::$name.apply(a)),)*
            }
        };
    }
    each!(
        Exp, Log, Sin, Cos, Tan, Atan, Sinh, Cosh, Tanh;
        Neg, Abs, Sqrt, Log10, Asin, Acos, Sign, Floor, Ceil, Not
    );
}

pub(super) fn binary(f: Binary, a: impl Operand, b: impl Operand, out: &mut [f64]) {
    macro_rules! each {
        ($($fast:ident),*; $($name:ident),*) => {
            match f {
                Binary::Add => zip_eights(a, b, out, |a, b| a + b, |a, b| a + b),
                Binary::Sub => zip_eights(a, b, out, |a, b| a - b, |a, b| a - b),
                Binary::Mul => zip_eights(a, b, out, |a, b| a * b, |a, b| a * b),
                $(Binary::$fast => zip_pair::<$fast>(a, b, out),)*
                $(Binary::$name => zip(a, b, out, |a, b| Binary::$name.apply(a, b)),)*
            }
        };
    }
    each!(Pow, Atan2; Div, Min, Max, Mod, Less, LessEqual, Equal, NotEqual, And, Or);
}

/// Eight numbers at a time, or one.
macro_rules! blocks {
    ($out:ident, $($operand:ident),*; $value:expr) => {{
        $(let $operand = Operand::first($operand, $out.len());)*
        let whole = $out.len() - $out.len() % 8;
        for i in (0..whole).step_by(8) {
            $out[i..i + 8].copy_from_slice($value($(Operand::eight($operand, i)),*).as_array());
        }
        for (i, o) in $out.iter_mut().enumerate().skip(whole) {
            *o = $value($(Operand::at($operand, i)),*);
        }
    }};
}

/// `(a ∘ b) ∘ c`, each rounded.
pub(super) fn three(
    inner: Inner,
    outer: Outer,
    a: impl Operand,
    b: &[f64],
    c: impl Operand,
    out: &mut [f64],
) {
    macro_rules! each {
        ($($inner:ident, $outer:ident: $name:ident = |$a:ident, $b:ident, $c:ident| $value:expr;)*) => {
            match (inner, outer) {
                $((Inner::$inner, Outer::$outer) => {
                    #[inline(always)]
                    fn $name<N: Real>($a: N, $b: N, $c: N) -> N {
                        $value
                    }
                    blocks!(out, a, b, c; $name)
                })*
            }
        };
    }
    each!(
        Add, Add: add_add = |a, b, c| (a + b) + c;
        Add, Sub: add_sub = |a, b, c| (a + b) - c;
        Add, From: add_from = |a, b, c| c - (a + b);
        Add, Mul: add_mul = |a, b, c| (a + b) * c;
        Sub, Add: sub_add = |a, b, c| (a - b) + c;
        Sub, Sub: sub_sub = |a, b, c| (a - b) - c;
        Sub, From: sub_from = |a, b, c| c - (a - b);
        Sub, Mul: sub_mul = |a, b, c| (a - b) * c;
        Mul, Add: mul_add = |a, b, c| a * b + c;
        Mul, Sub: mul_sub = |a, b, c| a * b - c;
        Mul, From: mul_from = |a, b, c| c - a * b;
        Mul, Mul: mul_mul = |a, b, c| (a * b) * c;
    );
}

/// `a b + c d`, or with a minus, each rounded.
pub(super) fn products(
    minus: bool,
    (a, b): (impl Operand, &[f64]),
    (c, d): (impl Operand, &[f64]),
    out: &mut [f64],
) {
    #[inline(always)]
    fn sum<N: Real>(a: N, b: N, c: N, d: N) -> N {
        a * b + c * d
    }
    #[inline(always)]
    fn difference<N: Real>(a: N, b: N, c: N, d: N) -> N {
        a * b - c * d
    }
    if minus { blocks!(out, a, b, c, d; difference) } else { blocks!(out, a, b, c, d; sum) }
}

/// The commonest powers have a loop each; the others share one over short arrays.
pub(super) fn whole_power(a: &[f64], n: i32, out: &mut [f64]) {
    match n {
        2 => eights(a, out, |a| a * a, |a| powi(a, 2)),
        3 => map(a, out, |a| powi(a, 3)),
        4 => map(a, out, |a| powi(a, 4)),
        -1 => map(a, out, |a| powi(a, -1)),
        -2 => map(a, out, |a| powi(a, -2)),
        n => {
            let (mut to, mut from) = (out.chunks_exact_mut(8), a.chunks_exact(8));
            for (o, a) in to.by_ref().zip(from.by_ref()) {
                let mut square = [0.0; 8];
                square.copy_from_slice(a);
                o.copy_from_slice(&powi_of_8(square, n));
            }
            map(from.remainder(), to.into_remainder(), |a| powi(a, n));
        }
    }
}

/// [`powi`] of each, by the same multiplications.
#[inline(always)]
fn powi_of_8(mut square: [f64; 8], n: i32) -> [f64; 8] {
    let mut result = [1.0; 8];
    let mut left = n.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            for (r, s) in result.iter_mut().zip(&square) {
                *r *= s;
            }
        }
        for s in &mut square {
            *s *= *s;
        }
        left >>= 1;
    }
    if n < 0 { result.map(|r| 1.0 / r) } else { result }
}

/// `c` chooses between `a` and `b`.
pub(super) fn select(c: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) {
    for (((o, &c), &a), &b) in out.iter_mut().zip(c).zip(a).zip(b) {
        *o = if c != 0.0 { a } else { b };
    }
}
