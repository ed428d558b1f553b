//! The loops behind the instructions: one operation over a block of points.
//!
//! May import: `graph`, `functions`. One loop a function: with the function fixed, `apply` folds to
//! its one branch.

use super::functions::{Atan, Cos, Cosh, Exp, Lanes, Log, Sin, Sinh, Tanh};
use super::graph::{Binary, Unary, powi};

#[inline(always)]
fn map(a: &[f64], out: &mut [f64], f: impl Fn(f64) -> f64) {
    for (o, &a) in out.iter_mut().zip(a) {
        *o = f(a);
    }
}

#[inline(always)]
fn zip(a: &[f64], b: &[f64], out: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = f(a, b);
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
        Exp, Log, Sin, Cos, Atan, Sinh, Cosh, Tanh;
        Neg, Abs, Sqrt, Log10, Tan, Asin, Acos, Sign, Floor, Ceil, Not
    );
}

/// The same for every shape of operands.
macro_rules! each_binary {
    ($f:ident, $operation:ident => $run:expr) => {
        each_binary!(@ $f, $operation => $run; Add, Sub, Mul, Div, Pow, Min, Max, Atan2, Mod, Less,
            LessEqual, Equal, NotEqual, And, Or)
    };
    (@ $f:ident, $operation:ident => $run:expr; $($name:ident),*) => {
        match $f {
            $(Binary::$name => {
                let $operation = |a: f64, b: f64| Binary::$name.apply(a, b);
                $run
            })*
        }
    };
}

pub(super) fn binary(f: Binary, a: &[f64], b: &[f64], out: &mut [f64]) {
    each_binary!(f, operation => zip(a, b, out, operation));
}

/// The left operand is a number.
pub(super) fn binary_left(f: Binary, a: f64, b: &[f64], out: &mut [f64]) {
    each_binary!(f, operation => map(b, out, |b| operation(a, b)));
}

/// The right operand is a number.
pub(super) fn binary_right(f: Binary, a: &[f64], b: f64, out: &mut [f64]) {
    each_binary!(f, operation => map(a, out, |a| operation(a, b)));
}

/// Powers in common use have a loop each; the others share one over short arrays.
pub(super) fn whole_power(a: &[f64], n: i32, out: &mut [f64]) {
    match n {
        2 => map(a, out, |a| powi(a, 2)),
        3 => map(a, out, |a| powi(a, 3)),
        4 => map(a, out, |a| powi(a, 4)),
        5 => map(a, out, |a| powi(a, 5)),
        6 => map(a, out, |a| powi(a, 6)),
        7 => map(a, out, |a| powi(a, 7)),
        8 => map(a, out, |a| powi(a, 8)),
        -1 => map(a, out, |a| powi(a, -1)),
        -2 => map(a, out, |a| powi(a, -2)),
        n => map(a, out, |a| powi(a, n)),
    }
}

/// `c` chooses between `a` and `b`.
pub(super) fn select(c: &[f64], a: &[f64], b: &[f64], out: &mut [f64]) {
    for (((o, &c), &a), &b) in out.iter_mut().zip(c).zip(a).zip(b) {
        *o = if c != 0.0 { a } else { b };
    }
}
