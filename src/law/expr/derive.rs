//! Symbolic derivatives: one pass over the graph, each node differentiated once.
//!
//! May import: `graph`.

use super::Var;
use super::graph::{Binary, Builder, Graph, Id, Op, Unary};

/// The partial derivative of a graph's root.
pub(super) fn derivative(graph: &Graph, v: Var) -> Graph {
    let mut b = Builder::default();
    // Node of `graph` -> the same node in the builder, and its derivative there.
    let mut here: Vec<Id> = Vec::with_capacity(graph.nodes.len());
    let mut slope: Vec<Id> = Vec::with_capacity(graph.nodes.len());
    let zero = b.constant(0.0);
    for &op in &graph.nodes {
        let id = match op {
            Op::Const(bits) => b.constant(f64::from_bits(bits)),
            Op::Var(var) => b.var(var),
            Op::Unary(f, a) => b.unary(f, here[a as usize]),
            Op::Binary(f, p, q) => b.binary(f, here[p as usize], here[q as usize]),
            Op::Powi(a, n) => b.powi(here[a as usize], n),
            Op::Select(c, p, q) => b.select(here[c as usize], here[p as usize], here[q as usize]),
        };
        here.push(id);
        let at = |id: Id| (here[id as usize], slope[id as usize]);
        let d = match op {
            Op::Const(_) => zero,
            Op::Var(var) => b.constant(f64::from(u8::from(var == v))),
            Op::Unary(f, a) => {
                let (a, da) = at(a);
                if da == zero { zero } else { unary(&mut b, f, a, da, id) }
            }
            Op::Binary(f, p, q) => {
                let ((p, dp), (q, dq)) = (at(p), at(q));
                if dp == zero && dq == zero { zero } else { binary(&mut b, f, (p, dp), (q, dq), id) }
            }
            Op::Powi(a, n) => {
                let (a, da) = at(a);
                let power = b.powi(a, n - 1);
                let factor = b.constant(f64::from(n));
                let outer = b.mul(factor, power);
                b.mul(outer, da)
            }
            Op::Select(c, p, q) => {
                let ((c, _), (_, dp), (_, dq)) = (at(c), at(p), at(q));
                b.select(c, dp, dq)
            }
        };
        slope.push(d);
    }
    b.finish(slope[slope.len() - 1])
}

/// Derivative of `f(a)`, where `value` is the node of `f(a)` itself.
fn unary(b: &mut Builder, f: Unary, a: Id, da: Id, value: Id) -> Id {
    let one = b.constant(1.0);
    match f {
        Unary::Neg => b.neg(da),
        Unary::Abs => {
            let sign = b.unary(Unary::Sign, a);
            b.mul(sign, da)
        }
        Unary::Sqrt => {
            let two = b.constant(2.0);
            let below = b.mul(two, value);
            b.div(da, below)
        }
        Unary::Exp => b.mul(value, da),
        Unary::Log => b.div(da, a),
        Unary::Log10 => {
            let ln10 = b.constant(std::f64::consts::LN_10);
            let below = b.mul(ln10, a);
            b.div(da, below)
        }
        Unary::Sin => {
            let outer = b.unary(Unary::Cos, a);
            b.mul(outer, da)
        }
        Unary::Cos => {
            let sin = b.unary(Unary::Sin, a);
            let product = b.mul(sin, da);
            b.neg(product)
        }
        Unary::Tan => {
            let square = b.powi(value, 2);
            let outer = b.add(one, square);
            b.mul(outer, da)
        }
        Unary::Asin | Unary::Acos => {
            let square = b.powi(a, 2);
            let inside = b.sub(one, square);
            let root = b.unary(Unary::Sqrt, inside);
            let slope = b.div(da, root);
            if f == Unary::Acos { b.neg(slope) } else { slope }
        }
        Unary::Atan => {
            let square = b.powi(a, 2);
            let below = b.add(one, square);
            b.div(da, below)
        }
        Unary::Sinh => {
            let outer = b.unary(Unary::Cosh, a);
            b.mul(outer, da)
        }
        Unary::Cosh => {
            let outer = b.unary(Unary::Sinh, a);
            b.mul(outer, da)
        }
        Unary::Tanh => {
            let square = b.powi(value, 2);
            let outer = b.sub(one, square);
            b.mul(outer, da)
        }
        Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Not => b.constant(0.0),
    }
}

/// Derivative of `f(p, q)`, where `value` is the node of `f(p, q)` itself.
fn binary(b: &mut Builder, f: Binary, (p, dp): (Id, Id), (q, dq): (Id, Id), value: Id) -> Id {
    match f {
        Binary::Add => b.add(dp, dq),
        Binary::Sub => b.sub(dp, dq),
        Binary::Mul => {
            let left = b.mul(dp, q);
            let right = b.mul(p, dq);
            b.add(left, right)
        }
        Binary::Div => {
            // (dp - (p/q) dq) / q: the quotient is already there.
            let product = b.mul(value, dq);
            let above = b.sub(dp, product);
            b.div(above, q)
        }
        Binary::Pow => power(b, (p, dp), (q, dq), value),
        Binary::Min => {
            let first = b.binary(Binary::LessEqual, p, q);
            b.select(first, dp, dq)
        }
        Binary::Max => {
            let first = b.binary(Binary::LessEqual, q, p);
            b.select(first, dp, dq)
        }
        Binary::Atan2 => {
            let left = b.mul(q, dp);
            let right = b.mul(p, dq);
            let above = b.sub(left, right);
            let p2 = b.powi(p, 2);
            let q2 = b.powi(q, 2);
            let below = b.add(p2, q2);
            b.div(above, below)
        }
        Binary::Mod => {
            let quotient = b.div(p, q);
            let whole = b.unary(Unary::Floor, quotient);
            let product = b.mul(whole, dq);
            b.sub(dp, product)
        }
        Binary::Less | Binary::LessEqual | Binary::Equal | Binary::NotEqual | Binary::And | Binary::Or => {
            b.constant(0.0)
        }
    }
}

/// Derivative of `p^q`. Without `log(p)` where the exponent is fixed: a base may be zero there.
fn power(b: &mut Builder, (p, dp): (Id, Id), (q, dq): (Id, Id), value: Id) -> Id {
    let by_base = {
        let one = b.constant(1.0);
        let less = b.sub(q, one);
        let lower = b.pow(p, less);
        let outer = b.mul(q, lower);
        b.mul(outer, dp)
    };
    if b.value(dq) == Some(0.0) {
        return by_base;
    }
    let log = b.unary(Unary::Log, p);
    let outer = b.mul(value, log);
    let by_exponent = b.mul(outer, dq);
    b.add(by_base, by_exponent)
}
