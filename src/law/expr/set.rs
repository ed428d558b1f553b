//! Several expressions at the same points: what they share is computed once.
//!
//! May import: `graph`, `tape`. Start at [`ExprSet::new`].

use std::fmt;
use std::sync::Arc;

use super::graph::Builder;
use super::tape::{Scratch, Tape};
use super::{Expr, Points};

/// Expressions evaluated together, as a value and its derivatives or the components of a vector.
///
/// Immutable and cheap to clone. A derivative repeats most of its expression, so a set of both
/// costs little more than the value alone.
#[derive(Clone)]
pub struct ExprSet {
    texts: Arc<[Arc<str>]>,
    tape: Arc<Tape>,
}

impl ExprSet {
    /// Compiles the expressions into one; their order is the order of the results.
    pub fn new(expressions: &[Expr]) -> Self {
        let mut builder = Builder::default();
        let roots: Vec<_> = expressions.iter().map(|e| builder.import(&e.graph)).collect();
        let (nodes, roots) = builder.finish_all(&roots);
        let texts = expressions.iter().map(|e| e.text.clone()).collect();
        Self { texts, tape: Arc::new(Tape::compile_all(&nodes, &roots)) }
    }

    /// How many expressions.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// True if there is no expression.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Values of every expression at many points, bitwise what [`Expr::eval`] gives for each.
    ///
    /// Shapes: `out` is `[expression][point]`; the number of points is its length by [`ExprSet::len`];
    /// see [`Points`]. After the first call with a `scratch`, nothing is allocated.
    ///
    /// # Panics
    /// If `out` is no whole number of points, or a slice of `points` is neither empty nor one entry
    /// a point.
    pub fn eval(&self, points: &Points, out: &mut [f64], scratch: &mut Scratch) {
        if !self.is_empty() {
            self.tape.eval(points, out.len() / self.len(), out, scratch);
        }
    }

    /// How many operations one evaluation of all takes, constants and variables not counted.
    pub fn n_operations(&self) -> usize {
        self.tape.n_operations()
    }
}

impl fmt::Debug for ExprSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExprSet").field(&self.texts).finish()
    }
}
