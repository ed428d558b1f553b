//! Register code: what runs at quadrature points.
//!
//! May import: `graph`. Each instruction works on a block of points held in one register, so its
//! loop has a fixed operation and contiguous operands and the compiler vectorises it; the cost of
//! choosing the instruction is shared by the block. A block of 128 points is 1 KiB a register:
//! a dozen registers stay in the first-level cache. Arithmetic is bound by that cache,
//! transcendental functions by the mathematical library.

use super::Points;
use super::graph::{Binary, Graph, Op, Unary, powi};

/// Points a register holds.
const BLOCK: usize = 128;

/// Registers an evaluation at one point keeps on the stack.
const SMALL: usize = 48;

/// Working memory of [`super::Expr::eval`]; one for each thread, any expression may use it.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    registers: Vec<f64>,
}

impl Scratch {
    /// Empty; it grows at first use.
    pub fn new() -> Self {
        Self::default()
    }
}

#[derive(Debug, Clone, Copy)]
enum Code {
    /// Coordinate 0, 1, 2.
    Coordinate(u8),
    Unary(Unary, u32),
    Binary(Binary, u32, u32),
    Powi(u32, i32),
    Select(u32, u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    target: u32,
    code: Code,
}

/// Compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    /// Registers that hold one value throughout: 0..constants.len().
    constants: Vec<f64>,
    /// Register of the time, if it is needed; it follows the constants.
    time: Option<u32>,
    instructions: Vec<Instruction>,
    n_registers: usize,
    result: u32,
}

impl Tape {
    /// Assigns registers in order of the graph; one is free again after the last use of its value.
    pub(super) fn compile(graph: &Graph) -> Self {
        let n = graph.nodes.len();
        let mut last_use = vec![0; n];
        for (i, op) in graph.nodes.iter().enumerate() {
            op.operands(|a| last_use[a as usize] = i);
        }
        last_use[n - 1] = n;
        let mut register = vec![u32::MAX; n];
        let mut constants = Vec::new();
        let mut time = None;
        for (i, op) in graph.nodes.iter().enumerate() {
            if let Op::Const(bits) = op {
                register[i] = constants.len() as u32;
                constants.push(f64::from_bits(*bits));
            }
        }
        let mut next = constants.len() as u32;
        if let Some(i) = graph.nodes.iter().position(|op| *op == Op::Var(super::Var::T)) {
            register[i] = next;
            time = Some(next);
            next += 1;
        }
        let first_free = next;
        let mut free: Vec<u32> = Vec::new();
        let mut instructions = Vec::new();
        for (i, op) in graph.nodes.iter().enumerate() {
            if register[i] != u32::MAX {
                continue;
            }
            // The target is taken before the operands are released: an instruction never writes
            // what it reads, so its operands and its target are disjoint slices.
            let target = free.pop().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            register[i] = target;
            let r = |id: u32| register[id as usize];
            let code = match *op {
                Op::Var(v) => Code::Coordinate(v as u8),
                Op::Const(_) => continue,
                Op::Unary(f, a) => Code::Unary(f, r(a)),
                Op::Binary(f, a, b) => Code::Binary(f, r(a), r(b)),
                Op::Powi(a, n) => Code::Powi(r(a), n),
                Op::Select(c, a, b) => Code::Select(r(c), r(a), r(b)),
            };
            instructions.push(Instruction { target, code });
            op.operands(|a| {
                let held = register[a as usize];
                if last_use[a as usize] == i && held >= first_free && !free.contains(&held) {
                    free.push(held);
                }
            });
        }
        Self { constants, time, instructions, n_registers: next as usize, result: register[n - 1] }
    }

    pub(super) fn n_operations(&self) -> usize {
        let load = |i: &&Instruction| matches!(i.code, Code::Coordinate(_));
        self.instructions.len() - self.instructions.iter().filter(load).count()
    }

    pub(super) fn eval(&self, points: &Points, out: &mut [f64], scratch: &mut Scratch) {
        let n = out.len();
        for slice in [points.x, points.y, points.z] {
            assert!(slice.is_empty() || slice.len() == n, "points and values differ in number");
        }
        if self.instructions.is_empty() {
            // A constant, or the time alone.
            out.fill(if self.time.is_some() { points.t } else { self.constants[0] });
            return;
        }
        let needed = self.n_registers * BLOCK;
        if scratch.registers.len() < needed {
            scratch.registers.resize(needed, 0.0);
        }
        let registers = &mut scratch.registers[..needed];
        self.fill_fixed(registers, BLOCK, points.t);
        let mut first = 0;
        while first < n {
            let len = BLOCK.min(n - first);
            let part = |s: &'_ [f64]| if s.is_empty() { None } else { Some(first) };
            let from = [part(points.x), part(points.y), part(points.z)];
            self.run(registers, BLOCK, len, [points.x, points.y, points.z], from);
            let result = self.result as usize * BLOCK;
            out[first..first + len].copy_from_slice(&registers[result..result + len]);
            first += len;
        }
    }

    pub(super) fn eval_point(&self, x: [f64; 3], t: f64) -> f64 {
        let mut small = [0.0; SMALL];
        let mut large = Vec::new();
        let registers = if self.n_registers <= SMALL {
            &mut small[..self.n_registers]
        } else {
            large.resize(self.n_registers, 0.0);
            &mut large[..]
        };
        self.fill_fixed(registers, 1, t);
        self.run(registers, 1, 1, [&x[0..1], &x[1..2], &x[2..3]], [Some(0); 3]);
        registers[self.result as usize]
    }

    fn fill_fixed(&self, registers: &mut [f64], stride: usize, t: f64) {
        for (register, &c) in registers.chunks_exact_mut(stride).zip(&self.constants) {
            register.fill(c);
        }
        if let Some(r) = self.time {
            registers[r as usize * stride..][..stride].fill(t);
        }
    }

    /// One block: `len` points, coordinate `k` from index `from[k]` of `coordinates[k]`.
    fn run(
        &self,
        registers: &mut [f64],
        stride: usize,
        len: usize,
        coordinates: [&[f64]; 3],
        from: [Option<usize>; 3],
    ) {
        for instruction in &self.instructions {
            let target = instruction.target as usize;
            let (below, rest) = registers.split_at_mut(target * stride);
            let (out, above) = rest.split_at_mut(stride);
            let out = &mut out[..len];
            let read = |r: u32| {
                let r = r as usize;
                if r < target {
                    &below[r * stride..][..len]
                } else {
                    &above[(r - target - 1) * stride..][..len]
                }
            };
            match instruction.code {
                Code::Coordinate(k) => match from[k as usize] {
                    Some(first) => {
                        out.copy_from_slice(&coordinates[k as usize][first..first + len]);
                    }
                    None => out.fill(0.0),
                },
                Code::Unary(f, a) => unary(f, read(a), out),
                Code::Binary(f, a, b) => binary(f, read(a), read(b), out),
                Code::Powi(a, n) => whole_power(read(a), n, out),
                Code::Select(c, a, b) => {
                    let (c, a, b) = (read(c), read(a), read(b));
                    for i in 0..out.len() {
                        out[i] = if c[i] != 0.0 { a[i] } else { b[i] };
                    }
                }
            }
        }
    }
}

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

/// One loop a function: with the function fixed, `apply` folds to its one branch.
fn unary(f: Unary, a: &[f64], out: &mut [f64]) {
    macro_rules! each {
        ($($name:ident),*) => {
            match f { $(Unary::$name => map(a, out, |a| Unary::$name.apply(a)),)* }
        };
    }
    each!(
        Neg, Abs, Sqrt, Exp, Log, Log10, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Sign, Floor,
        Ceil, Not
    );
}

fn binary(f: Binary, a: &[f64], b: &[f64], out: &mut [f64]) {
    macro_rules! each {
        ($($name:ident),*) => {
            match f { $(Binary::$name => zip(a, b, out, |a, b| Binary::$name.apply(a, b)),)* }
        };
    }
    each!(Add, Sub, Mul, Div, Pow, Min, Max, Atan2, Mod, Less, LessEqual, Equal, NotEqual, And, Or);
}

fn whole_power(a: &[f64], n: i32, out: &mut [f64]) {
    match n {
        2 => map(a, out, |a| powi(a, 2)),
        3 => map(a, out, |a| powi(a, 3)),
        4 => map(a, out, |a| powi(a, 4)),
        -1 => map(a, out, |a| powi(a, -1)),
        -2 => map(a, out, |a| powi(a, -2)),
        n => map(a, out, |a| powi(a, n)),
    }
}
