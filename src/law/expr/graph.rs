//! The graph behind an expression: operations on earlier nodes, each distinct one stored once.
//!
//! May import: `functions`. Start at [`Builder`]: every node is made by one of its methods, which fold
//! constants and simplify, so that derivatives stay small and zeros are seen as zeros.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Var;
use super::functions::{Atan, Atan2, Cos, Cosh, Exp, Lanes, Log, Pair, Pow, Sin, Sinh, Tan, Tanh};

/// Index of a node in its graph.
pub(super) type Id = u32;

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unary {
    Neg,
    Abs,
    Sqrt,
    Exp,
    Log,
    Log10,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Sign,
    Floor,
    Ceil,
    /// Of a truth value.
    Not,
}

/// Functions of two numbers; comparisons and connectives give 1 for true and 0 for false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Atan2,
    Mod,
    Less,
    LessEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

/// One node. Constants are kept by their bits, so that nodes can be compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Const(u64),
    Var(Var),
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    /// A whole power, computed by multiplications.
    Powi(Id, i32),
    /// `if(condition, a, b)`.
    Select(Id, Id, Id),
}

impl Op {
    /// Calls `f` with each operand.
    pub(super) fn operands(self, mut f: impl FnMut(Id)) {
        match self {
            Self::Const(_) | Self::Var(_) => {}
            Self::Unary(_, a) | Self::Powi(a, _) => f(a),
            Self::Binary(_, a, b) => {
                f(a);
                f(b);
            }
            Self::Select(c, a, b) => {
                f(c);
                f(a);
                f(b);
            }
        }
    }

    /// The same operation with its operands renamed.
    pub(super) fn renamed(self, f: impl Fn(Id) -> Id) -> Self {
        match self {
            Self::Const(_) | Self::Var(_) => self,
            Self::Unary(u, a) => Self::Unary(u, f(a)),
            Self::Powi(a, n) => Self::Powi(f(a), n),
            Self::Binary(o, a, b) => Self::Binary(o, f(a), f(b)),
            Self::Select(c, a, b) => Self::Select(f(c), f(a), f(b)),
        }
    }
}

/// A finished expression: operands come before their users, the root is last, nothing is unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Op>,
}

impl Graph {
    /// The operation that gives the value of the whole.
    pub(super) fn root_op(&self) -> Op {
        self.nodes[self.nodes.len() - 1]
    }
}

impl Unary {
    /// The function itself; the one definition behind constants, points and batches.
    #[inline(always)]
    pub(super) fn apply(self, a: f64) -> f64 {
        match self {
            Self::Neg => -a,
            Self::Abs => a.abs(),
            Self::Sqrt => a.sqrt(),
            Self::Exp => Exp::value(a),
            Self::Log => Log::value(a),
            Self::Log10 => a.log10(),
            Self::Sin => Sin::value(a),
            Self::Cos => Cos::value(a),
            Self::Tan => Tan::value(a),
            Self::Asin => a.asin(),
            Self::Acos => a.acos(),
            Self::Atan => Atan::value(a),
            Self::Sinh => Sinh::value(a),
            Self::Cosh => Cosh::value(a),
            Self::Tanh => Tanh::value(a),
            Self::Sign => {
                if a > 0.0 {
                    1.0
                } else if a < 0.0 {
                    -1.0
                } else {
                    a * 0.0 // zero stays zero and NaN stays NaN
                }
            }
            Self::Floor => a.floor(),
            Self::Ceil => a.ceil(),
            Self::Not => 1.0 - a,
        }
    }
}

impl Binary {
    /// The function itself; the one definition behind constants, points and batches.
    #[inline(always)]
    pub(super) fn apply(self, a: f64, b: f64) -> f64 {
        let truth = |c: bool| if c { 1.0 } else { 0.0 };
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => Pow::value(a, b),
            // Not f64::min: that one drops a NaN, and a NaN must reach the check that reports it.
            Self::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Atan2 => Atan2::value(a, b),
            Self::Mod => a - b * (a / b).floor(),
            Self::Less => truth(a < b),
            Self::LessEqual => truth(a <= b),
            Self::Equal => truth(a == b),
            Self::NotEqual => truth(a != b),
            Self::And => a * b,
            Self::Or => a + b - a * b,
        }
    }

    fn is_commutative(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::Equal | Self::NotEqual | Self::And | Self::Or)
    }
}

/// A whole power by repeated squaring.
#[inline(always)]
pub(super) fn powi(a: f64, n: i32) -> f64 {
    let mut result = 1.0;
    let mut square = a;
    let mut left = n.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    if n < 0 { 1.0 / result } else { result }
}

/// Largest whole power computed by multiplications; beyond it `powf` is as fast and more accurate.
const MAX_POWI: f64 = 32.0;

/// A graph in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Op>,
    /// What each node orders by in a commutative operation: constants first, then a hash of the
    /// structure. So `x + y` and `y + x` are one node in whatever order they were built.
    order: Vec<(bool, u64)>,
    known: HashMap<Op, Id>,
}

impl Builder {
    /// The operation of a node.
    pub(super) fn op(&self, id: Id) -> Op {
        self.nodes[id as usize]
    }

    /// The value of a node, if it is a constant.
    pub(super) fn value(&self, id: Id) -> Option<f64> {
        match self.op(id) {
            Op::Const(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn is(&self, id: Id, c: f64) -> bool {
        self.value(id) == Some(c)
    }

    fn push(&mut self, op: Op) -> Id {
        if let Some(&id) = self.known.get(&op) {
            return id;
        }
        let id = self.nodes.len() as Id;
        let mut hasher = DefaultHasher::new();
        op.renamed(|_| 0).hash(&mut hasher);
        op.operands(|a| self.order[a as usize].hash(&mut hasher));
        self.order.push((!matches!(op, Op::Const(_)), hasher.finish()));
        self.nodes.push(op);
        self.known.insert(op, id);
        id
    }

    pub(super) fn constant(&mut self, c: f64) -> Id {
        // -0.0 and 0.0 are one node: no rule below should miss a zero by its sign.
        let c = if c == 0.0 { 0.0 } else { c };
        self.push(Op::Const(c.to_bits()))
    }

    pub(super) fn var(&mut self, v: Var) -> Id {
        self.push(Op::Var(v))
    }

    pub(super) fn neg(&mut self, a: Id) -> Id {
        self.unary(Unary::Neg, a)
    }

    pub(super) fn unary(&mut self, f: Unary, a: Id) -> Id {
        if let Some(c) = self.value(a) {
            return self.constant(f.apply(c));
        }
        match (f, self.op(a)) {
            (Unary::Neg, Op::Unary(Unary::Neg, inner)) => inner,
            (Unary::Neg, Op::Binary(Binary::Sub, p, q)) => self.sub(q, p),
            (Unary::Abs, Op::Unary(Unary::Neg | Unary::Abs, inner)) => self.unary(Unary::Abs, inner),
            _ => self.push(Op::Unary(f, a)),
        }
    }

    pub(super) fn add(&mut self, a: Id, b: Id) -> Id {
        if self.is(a, 0.0) {
            return b;
        }
        if self.is(b, 0.0) {
            return a;
        }
        if a == b && self.value(a).is_none() {
            let two = self.constant(2.0);
            return self.mul(two, a);
        }
        match (self.op(a), self.op(b)) {
            (_, Op::Unary(Unary::Neg, inner)) => self.sub(a, inner),
            (Op::Unary(Unary::Neg, inner), _) => self.sub(b, inner),
            _ => self.raw_binary(Binary::Add, a, b),
        }
    }

    pub(super) fn sub(&mut self, a: Id, b: Id) -> Id {
        if self.is(b, 0.0) {
            return a;
        }
        if self.is(a, 0.0) {
            return self.neg(b);
        }
        if a == b {
            return self.constant(0.0);
        }
        match self.op(b) {
            Op::Unary(Unary::Neg, inner) => self.add(a, inner),
            _ => self.raw_binary(Binary::Sub, a, b),
        }
    }

    pub(super) fn mul(&mut self, a: Id, b: Id) -> Id {
        // A constant stands first.
        let (a, b) = if self.value(b).is_some() { (b, a) } else { (a, b) };
        if self.is(a, 0.0) {
            return a;
        }
        if self.is(a, 1.0) {
            return b;
        }
        if self.is(a, -1.0) {
            return self.neg(b);
        }
        if a == b && self.value(a).is_none() {
            return self.powi(a, 2);
        }
        match (self.op(a), self.op(b)) {
            (_, Op::Unary(Unary::Neg, inner)) => {
                let product = self.mul(a, inner);
                self.neg(product)
            }
            (Op::Unary(Unary::Neg, inner), _) => {
                let product = self.mul(inner, b);
                self.neg(product)
            }
            (Op::Const(c), Op::Binary(Binary::Mul, p, q)) if self.value(p).is_some() => {
                let c = f64::from_bits(c) * self.value(p).unwrap_or(1.0);
                let c = self.constant(c);
                self.mul(c, q)
            }
            _ => self.raw_binary(Binary::Mul, a, b),
        }
    }

    pub(super) fn div(&mut self, a: Id, b: Id) -> Id {
        if self.is(b, 1.0) {
            return a;
        }
        if self.is(a, 0.0) && !self.is(b, 0.0) {
            return a;
        }
        match (self.op(a), self.op(b)) {
            (Op::Unary(Unary::Neg, inner), _) => {
                let quotient = self.div(inner, b);
                self.neg(quotient)
            }
            _ => self.raw_binary(Binary::Div, a, b),
        }
    }

    pub(super) fn powi(&mut self, a: Id, n: i32) -> Id {
        if let Some(c) = self.value(a) {
            return self.constant(powi(c, n));
        }
        match (n, self.op(a)) {
            (0, _) => self.constant(1.0),
            (1, _) => a,
            (_, Op::Unary(Unary::Neg | Unary::Abs, inner)) if n % 2 == 0 => self.powi(inner, n),
            _ => self.push(Op::Powi(a, n)),
        }
    }

    pub(super) fn pow(&mut self, a: Id, b: Id) -> Id {
        match self.value(b) {
            Some(n) if n.fract() == 0.0 && n.abs() <= MAX_POWI => self.powi(a, n as i32),
            Some(0.5) => self.unary(Unary::Sqrt, a),
            _ => self.raw_binary(Binary::Pow, a, b),
        }
    }

    pub(super) fn binary(&mut self, f: Binary, a: Id, b: Id) -> Id {
        match f {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Pow => self.pow(a, b),
            Binary::Min | Binary::Max if a == b => a,
            _ => self.raw_binary(f, a, b),
        }
    }

    fn raw_binary(&mut self, f: Binary, a: Id, b: Id) -> Id {
        if let (Some(p), Some(q)) = (self.value(a), self.value(b)) {
            return self.constant(f.apply(p, q));
        }
        let swap = f.is_commutative() && self.order[b as usize] < self.order[a as usize];
        let (a, b) = if swap { (b, a) } else { (a, b) };
        self.push(Op::Binary(f, a, b))
    }

    pub(super) fn select(&mut self, c: Id, a: Id, b: Id) -> Id {
        match self.value(c) {
            Some(truth) => {
                if truth != 0.0 {
                    a
                } else {
                    b
                }
            }
            None if a == b => a,
            None => self.push(Op::Select(c, a, b)),
        }
    }

    /// Copies a graph in and returns its root here.
    pub(super) fn import(&mut self, graph: &Graph) -> Id {
        let mut here: Vec<Id> = Vec::with_capacity(graph.nodes.len());
        for op in &graph.nodes {
            let id = self.push(op.renamed(|id| here[id as usize]));
            here.push(id);
        }
        here[here.len() - 1]
    }

    /// The graph of one root: what it needs, in an order that depends on the expression alone.
    pub(super) fn finish(&self, root: Id) -> Graph {
        Graph { nodes: self.finish_all(&[root]).0 }
    }

    /// What several roots need, shared parts once, and where each root is among it.
    pub(super) fn finish_all(&self, roots: &[Id]) -> (Vec<Op>, Vec<Id>) {
        let mut new_id: Vec<Option<Id>> = vec![None; self.nodes.len()];
        let mut nodes = Vec::new();
        // Depth first with an explicit stack: derivatives can be deep.
        let mut stack: Vec<(Id, bool)> = roots.iter().rev().map(|&root| (root, false)).collect();
        while let Some((id, ready)) = stack.pop() {
            if new_id[id as usize].is_some() {
                continue;
            }
            let op = self.op(id);
            if ready {
                new_id[id as usize] = Some(nodes.len() as Id);
                nodes.push(op.renamed(|id| new_id[id as usize].unwrap_or(0)));
            } else {
                stack.push((id, true));
                let first = stack.len();
                op.operands(|operand| stack.push((operand, false)));
                stack[first..].reverse();
            }
        }
        let roots = roots.iter().map(|&root| new_id[root as usize].unwrap_or(0)).collect();
        (nodes, roots)
    }
}
