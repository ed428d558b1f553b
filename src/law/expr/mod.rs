//! Expressions of the case file: text in, values at points and symbolic derivatives out.
//!
//! What lives here: [`Expr`] and what it is made of. `parse` turns text into a hash-consed graph
//! (`graph`), so equal subexpressions exist once; `fusion` joins sums and products; `tape` compiles that graph to register code that
//! runs over blocks of points (`kernels`, `functions`); `set` evaluates several expressions at once;
//! `derive` differentiates; `names` knows every function and
//! constant and finds the nearest name for a misspelt one.
//! May import: nothing of this crate.
//! Start at [`Expr::parse`].

mod derive;
mod functions;
mod fusion;
mod graph;
mod kernels;
mod names;
mod parse;
mod set;
mod tape;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use graph::{Builder, Graph, Op};
use tape::Tape;

pub use names::{is_reserved, nearest};
pub use set::ExprSet;
pub use tape::Scratch;

/// What a text may refer to beyond `x y z t`, `pi`, `e` and the functions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    /// Named constants, the `[parameters]` of a case.
    pub parameters: BTreeMap<String, f64>,
}

/// Why a text is not an expression.
///
/// `start..end` is the offending byte range of the text; empty at the end of the text when
/// something is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// First byte of the offending part.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// What to do about it, when that is known.
    pub help: Option<String>,
}

/// A variable an expression can depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Var {
    /// First coordinate.
    X,
    /// Second coordinate.
    Y,
    /// Third coordinate.
    Z,
    /// Time.
    T,
}

impl Var {
    /// The coordinate of that index.
    ///
    /// # Panics
    /// If `axis` is 3 or more.
    pub fn axis(axis: usize) -> Self {
        [Self::X, Self::Y, Self::Z][axis]
    }

    /// How the variable is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Y => "y",
            Self::Z => "z",
            Self::T => "t",
        }
    }
}

/// Points at one time, coordinate by coordinate.
///
/// Shapes: each slice has as many entries as `out` in [`Expr::eval`], or is empty, and then that
/// coordinate is zero: a plane mesh has no `z` to give.
#[derive(Debug, Clone, Copy, Default)]
pub struct Points<'a> {
    /// First coordinates.
    pub x: &'a [f64],
    /// Second coordinates.
    pub y: &'a [f64],
    /// Third coordinates.
    pub z: &'a [f64],
    /// Time of all points.
    pub t: f64,
}

/// A number as a function of `x y z t`.
///
/// Immutable and cheap to clone; the parameters of its [`Scope`] are folded in as constants.
/// Two expressions are equal when they compute the same thing the same way, whatever their text.
#[derive(Clone)]
pub struct Expr {
    text: Arc<str>,
    graph: Arc<Graph>,
    tape: Arc<Tape>,
}

impl Expr {
    /// Parses a text that yields a number.
    ///
    /// # Errors
    /// The first thing wrong, with its bytes: a character or word out of place, an unknown name
    /// (with the nearest known one), a wrong number of arguments, a comparison where a number is
    /// needed or the reverse.
    pub fn parse(text: &str, scope: &Scope) -> Result<Self, ParseError> {
        let mut builder = Builder::default();
        let root = parse::parse(text, scope, &mut builder)?;
        Ok(Self::from_graph(text.trim().into(), builder.finish(root)))
    }

    /// The same number everywhere.
    pub fn constant(c: f64) -> Self {
        let mut builder = Builder::default();
        let root = builder.constant(c);
        Self::from_graph(format_number(c).into(), builder.finish(root))
    }

    fn from_graph(text: Arc<str>, graph: Graph) -> Self {
        let tape = Arc::new(Tape::compile(&graph));
        Self { text, graph: Arc::new(graph), tape }
    }

    /// The value, if it is the same at all points and times.
    pub fn as_constant(&self) -> Option<f64> {
        match self.graph.root_op() {
            Op::Const(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// True if the value can change with `v`; a false answer is certain, after simplification.
    pub fn depends_on(&self, v: Var) -> bool {
        self.graph.nodes.contains(&Op::Var(v))
    }

    /// The partial derivative with respect to `v`, symbolic and simplified.
    ///
    /// `if`, `min`, `max` and `abs` are differentiated branch by branch; where branches meet the
    /// derivative is that of the branch taken there (zero for `abs` at zero). `sign` and `floor`
    /// have derivative zero.
    pub fn derivative(&self, v: Var) -> Self {
        let text = format!("d({})/d{}", self.text, v.name());
        let graph = derive::derivative(&self.graph, v);
        match graph.root_op() {
            Op::Const(bits) => Self::constant(f64::from_bits(bits)),
            _ => Self::from_graph(text.into(), graph),
        }
    }

    /// The text it was parsed from; for a constant, the number; for a derivative, `d(..)/dx`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Values at many points.
    ///
    /// Shapes: `out` has one entry a point; see [`Points`]. After the first call with a `scratch`,
    /// nothing is allocated. Whether a value is finite is the caller's check: a division by zero or
    /// a root of a negative number gives what IEEE arithmetic gives, and `min` and `max` pass a NaN
    /// on. Both branches of an `if` are computed, only the chosen one counts.
    ///
    /// # Panics
    /// If a slice of `points` is neither empty nor as long as `out`.
    pub fn eval(&self, points: &Points, out: &mut [f64], scratch: &mut Scratch) {
        self.tape.eval(points, out.len(), out, scratch);
    }

    /// The value at one point; bitwise what [`Expr::eval`] gives there.
    pub fn eval_point(&self, x: [f64; 3], t: f64) -> f64 {
        self.tape.eval_point(x, t)
    }

    /// How many operations one evaluation takes, constants and variables not counted.
    pub fn n_operations(&self) -> usize {
        self.tape.n_operations()
    }

    /// The sum of two expressions.
    pub fn add(&self, other: &Self) -> Self {
        self.combine(other, "+", Builder::add)
    }

    /// The difference of two expressions.
    pub fn sub(&self, other: &Self) -> Self {
        self.combine(other, "-", Builder::sub)
    }

    /// The product of two expressions.
    pub fn mul(&self, other: &Self) -> Self {
        self.combine(other, "*", Builder::mul)
    }

    fn combine(
        &self,
        other: &Self,
        sign: &str,
        op: fn(&mut Builder, graph::Id, graph::Id) -> graph::Id,
    ) -> Self {
        let mut builder = Builder::default();
        let a = builder.import(&self.graph);
        let b = builder.import(&other.graph);
        let root = op(&mut builder, a, b);
        let graph = builder.finish(root);
        match graph.root_op() {
            Op::Const(bits) => Self::constant(f64::from_bits(bits)),
            _ => Self::from_graph(format!("({}) {sign} ({})", self.text, other.text).into(), graph),
        }
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.graph == other.graph
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.text)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The shortest text that reads back as the same number, with an exponent when it is far from 1.
pub fn format_number(c: f64) -> String {
    let size = c.abs();
    if c == 0.0 || (1e-4..1e7).contains(&size) || !c.is_finite() { format!("{c}") } else { format!("{c:e}") }
}
