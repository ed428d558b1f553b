//! Sums and products of one another as one instruction each.
//!
//! May import: `graph`. A pass over a block costs more in loads and stores than in arithmetic, so an
//! operation whose value nothing else needs is done along with the one that needs it. Each is rounded as
//! if it stood alone: what an expression gives does not depend on what it is evaluated together with.
//! Start at [`steps`].

use super::graph::{Binary, Id, Op, Unary};

/// What a fused operation reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Term {
    Number(f64),
    Node(Id),
}

/// `a ∘ b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    Add,
    Sub,
    Mul,
}

/// What becomes of the inner value `v` and `c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outer {
    /// `v + c`.
    Add,
    /// `v - c`.
    Sub,
    /// `c - v`.
    From,
    /// `v c`.
    Mul,
}

/// How the value of a node is computed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// By its own operation.
    Plain,
    /// `(a ∘ b) ∘ c`; `b` is a node.
    Three(Inner, Outer, Term, Id, Term),
    /// `a b + c d`, or with a minus if true; `b` and `d` are nodes.
    Products(bool, [(Term, Id); 2]),
    /// Along with its only user.
    Absorbed,
}

/// `a ∘ b` of a node.
type Pair = (Inner, Term, Id);

/// How each node is computed.
pub(super) fn steps(nodes: &[Op], roots: &[Id]) -> Vec<Step> {
    let mut uses = vec![0u32; nodes.len()];
    nodes.iter().for_each(|op| op.operands(|a| uses[a as usize] += 1));
    roots.iter().for_each(|&root| uses[root as usize] += 2);
    let mut steps = vec![Step::Plain; nodes.len()];
    // From the roots down: a node that is absorbed absorbs nothing.
    for i in (0..nodes.len()).rev() {
        if matches!(steps[i], Step::Absorbed) {
            continue;
        }
        let inner = |a: Id| if uses[a as usize] == 1 { pair(nodes, a) } else { None };
        let product = |a: Id| inner(a).filter(|p| p.0 == Inner::Mul);
        let (outer, p, q) = match nodes[i] {
            Op::Binary(Binary::Add, p, q) => (Outer::Add, p, q),
            Op::Binary(Binary::Sub, p, q) => (Outer::Sub, p, q),
            Op::Binary(Binary::Mul, p, q) => (Outer::Mul, p, q),
            Op::Unary(Unary::Neg, p) => {
                if let Some((f, a, b)) = inner(p) {
                    steps[i] = Step::Three(f, Outer::Mul, a, b, Term::Number(-1.0));
                    steps[p as usize] = Step::Absorbed;
                }
                continue;
            }
            _ => continue,
        };
        if outer != Outer::Mul
            && let (Some((_, a, b)), Some((_, c, d))) = (product(p), product(q))
        {
            steps[i] = Step::Products(outer == Outer::Sub, [(a, b), (c, d)]);
            steps[p as usize] = Step::Absorbed;
            steps[q as usize] = Step::Absorbed;
        } else if let Some((f, a, b)) = inner(p) {
            let (outer, c) = match (outer, term(nodes, q)) {
                (Outer::Sub, Term::Number(c)) => (Outer::Add, Term::Number(-c)),
                other => other,
            };
            steps[i] = Step::Three(f, outer, a, b, c);
            steps[p as usize] = Step::Absorbed;
        } else if let Some((f, a, b)) = inner(q) {
            let outer = if outer == Outer::Sub { Outer::From } else { outer };
            steps[i] = Step::Three(f, outer, a, b, term(nodes, p));
            steps[q as usize] = Step::Absorbed;
        }
    }
    steps
}

fn term(nodes: &[Op], id: Id) -> Term {
    match nodes[id as usize] {
        Op::Const(bits) => Term::Number(f64::from_bits(bits)),
        _ => Term::Node(id),
    }
}

/// A node as a sum, a difference or a product whose second operand is a node.
fn pair(nodes: &[Op], id: Id) -> Option<Pair> {
    let (inner, p, q) = match nodes[id as usize] {
        Op::Binary(Binary::Add, p, q) => (Inner::Add, p, q),
        Op::Binary(Binary::Sub, p, q) => (Inner::Sub, p, q),
        Op::Binary(Binary::Mul, p, q) => (Inner::Mul, p, q),
        Op::Powi(p, 2) => (Inner::Mul, p, p),
        Op::Unary(Unary::Neg, p) => return Some((Inner::Mul, Term::Number(-1.0), p)),
        _ => return None,
    };
    match (inner, term(nodes, p), term(nodes, q)) {
        (_, _, Term::Number(_)) if matches!(term(nodes, p), Term::Number(_)) => None,
        (Inner::Sub, _, Term::Number(c)) => Some((Inner::Add, Term::Number(-c), p)),
        (_, _, Term::Number(c)) => Some((inner, Term::Number(c), p)),
        (_, a, Term::Node(b)) => Some((inner, a, b)),
    }
}
