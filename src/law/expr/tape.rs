//! Register code: what runs at quadrature points.
//!
//! May import: `graph`, `kernels`. Each instruction works on a block of points held in one
//! register, so its loop has a fixed operation and contiguous operands and the compiler vectorises
//! it; the cost of choosing the instruction is shared by the block. A block of 128 points is 1 KiB a
//! register: a dozen registers stay in the first-level cache, which bounds arithmetic at 0.1 ns a
//! point and operation. A short block is padded to whole vectors by repeating its last point.

use super::graph::{Binary, Graph, Id, Op, Unary};
use super::kernels;
use super::{Points, Var};

/// Points a register holds.
const BLOCK: usize = 128;

/// Blocks are whole multiples of this: the longest vectors of today's processors.
const LANES: usize = 8;

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
    /// Sine to the target, cosine to the second register, of the first.
    SinCos(u32, u32),
    Binary(Binary, u32, u32),
    /// The left operand is a number.
    BinaryLeft(Binary, f64, u32),
    /// The right operand is a number.
    BinaryRight(Binary, u32, f64),
    Powi(u32, i32),
    Select(u32, u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    target: u32,
    code: Code,
}

/// Where a result is found.
#[derive(Debug, Clone, Copy)]
enum Output {
    Constant(f64),
    Time,
    Register(u32),
}

/// Compiled expressions.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    /// Registers that hold one number throughout: 0..constants.len(). Only those that no
    /// instruction can take as it is.
    constants: Vec<f64>,
    /// Register of the time, if it is needed; it follows the constants.
    time: Option<u32>,
    instructions: Vec<Instruction>,
    n_registers: usize,
    outputs: Vec<Output>,
}

/// Registers while a tape is made.
struct Allocation {
    of_node: Vec<u32>,
    free: Vec<u32>,
    next: u32,
}

impl Allocation {
    const NONE: u32 = u32::MAX;

    fn take(&mut self, node: usize) -> u32 {
        let register = self.free.pop().unwrap_or(self.next);
        self.next = self.next.max(register + 1);
        self.of_node[node] = register;
        register
    }
}

impl Tape {
    pub(super) fn compile(graph: &Graph) -> Self {
        Self::compile_all(&graph.nodes, &[graph.nodes.len() as Id - 1])
    }

    /// Assigns registers in order of the nodes; one is free again after the last use of its value.
    pub(super) fn compile_all(nodes: &[Op], roots: &[Id]) -> Self {
        let number = |id: Id| match nodes[id as usize] {
            Op::Const(bits) => Some(f64::from_bits(bits)),
            _ => None,
        };
        let mut last_use = vec![0; nodes.len()];
        let mut held = vec![false; nodes.len()];
        // Cosine of a node, where its sine is wanted as well.
        let mut sin_of = vec![None; nodes.len()];
        let mut cos_of = vec![None; nodes.len()];
        for (i, op) in nodes.iter().enumerate() {
            op.operands(|a| last_use[a as usize] = i);
            match *op {
                Op::Unary(Unary::Sin, a) => sin_of[a as usize] = Some(i),
                Op::Unary(Unary::Cos, a) => cos_of[a as usize] = Some(i),
                Op::Binary(_, a, b) if number(b).is_none() || number(a).is_none() => {}
                _ => op.operands(|a| held[a as usize] = true),
            }
        }
        for &root in roots {
            last_use[root as usize] = usize::MAX;
        }
        let mut registers =
            Allocation { of_node: vec![Allocation::NONE; nodes.len()], free: vec![], next: 0 };
        let mut constants = Vec::new();
        for (i, op) in nodes.iter().enumerate() {
            if let (Op::Const(bits), true) = (op, held[i]) {
                registers.take(i);
                constants.push(f64::from_bits(*bits));
            }
        }
        let time = nodes.iter().position(|op| *op == Op::Var(Var::T)).map(|i| registers.take(i));
        let first_free = registers.next;
        let mut instructions = Vec::new();
        for (i, op) in nodes.iter().enumerate() {
            if matches!(op, Op::Const(_) | Op::Var(Var::T)) {
                continue;
            }
            // A node may be done already: the cosine that came with its sine.
            if registers.of_node[i] == Allocation::NONE {
                // The target is taken before the operands are released: an instruction never writes
                // what it reads, so its operands and its target are disjoint slices.
                let mut target = registers.take(i);
                let r = |id: Id| registers.of_node[id as usize];
                let code = match *op {
                    Op::Const(_) => continue,
                    Op::Var(v) => Code::Coordinate(v as u8),
                    Op::Unary(Unary::Sin | Unary::Cos, a) => {
                        let argument = r(a);
                        match (sin_of[a as usize], cos_of[a as usize]) {
                            (Some(sin), Some(cos)) => {
                                let other = registers.take(if sin == i { cos } else { sin });
                                let (sin, cos) = if sin == i { (target, other) } else { (other, target) };
                                target = sin;
                                Code::SinCos(argument, cos)
                            }
                            (Some(_), None) => Code::Unary(Unary::Sin, argument),
                            (None, _) => Code::Unary(Unary::Cos, argument),
                        }
                    }
                    Op::Unary(f, a) => Code::Unary(f, r(a)),
                    Op::Binary(f, a, b) => match (number(a), number(b)) {
                        (Some(a), None) => Code::BinaryLeft(f, a, r(b)),
                        (None, Some(b)) => Code::BinaryRight(f, r(a), b),
                        _ => Code::Binary(f, r(a), r(b)),
                    },
                    Op::Powi(a, n) => Code::Powi(r(a), n),
                    Op::Select(c, a, b) => Code::Select(r(c), r(a), r(b)),
                };
                instructions.push(Instruction { target, code });
            }
            op.operands(|a| {
                let register = registers.of_node[a as usize];
                if last_use[a as usize] == i
                    && register != Allocation::NONE
                    && register >= first_free
                    && !registers.free.contains(&register)
                {
                    registers.free.push(register);
                }
            });
        }
        let output = |&root: &Id| match nodes[root as usize] {
            Op::Const(bits) => Output::Constant(f64::from_bits(bits)),
            Op::Var(Var::T) => Output::Time,
            _ => Output::Register(registers.of_node[root as usize]),
        };
        let outputs = roots.iter().map(output).collect();
        Self { constants, time, instructions, n_registers: registers.next as usize, outputs }
    }

    pub(super) fn n_operations(&self) -> usize {
        let operations = |i: &Instruction| match i.code {
            Code::Coordinate(_) => 0,
            Code::SinCos(..) => 2,
            _ => 1,
        };
        self.instructions.iter().map(operations).sum()
    }

    /// Results to `out`, one after the other, `n` values each.
    pub(super) fn eval(&self, points: &Points, n: usize, out: &mut [f64], scratch: &mut Scratch) {
        let coordinates = [points.x, points.y, points.z];
        for slice in coordinates {
            assert!(slice.is_empty() || slice.len() == n, "points and values differ in number");
        }
        assert_eq!(out.len(), n * self.outputs.len(), "outputs and values differ in number");
        if n == 0 {
            return;
        }
        for (out, output) in out.chunks_exact_mut(n).zip(&self.outputs) {
            match *output {
                Output::Constant(c) => out.fill(c),
                Output::Time => out.fill(points.t),
                Output::Register(_) => {}
            }
        }
        if self.instructions.is_empty() {
            return;
        }
        let stride = BLOCK.min(n.next_multiple_of(LANES));
        let needed = self.n_registers * stride;
        if scratch.registers.len() < needed {
            scratch.registers.resize(needed, 0.0);
        }
        let registers = &mut scratch.registers[..needed];
        self.fill_fixed(registers, stride, points.t);
        for first in (0..n).step_by(BLOCK) {
            let len = BLOCK.min(n - first);
            let part = |s: &'_ [f64]| if s.is_empty() { 0..0 } else { first..first + len };
            let here = coordinates.map(|s| &s[part(s)]);
            self.run(registers, stride, len.next_multiple_of(LANES), here);
            for (out, output) in out.chunks_exact_mut(n).zip(&self.outputs) {
                if let Output::Register(r) = *output {
                    out[first..first + len].copy_from_slice(&registers[r as usize * stride..][..len]);
                }
            }
        }
    }

    /// The first result at one point: a block of one.
    pub(super) fn eval_point(&self, x: [f64; 3], t: f64) -> f64 {
        let result = match self.outputs[0] {
            Output::Constant(c) => return c,
            Output::Time => return t,
            Output::Register(r) => r as usize,
        };
        let mut small = [0.0; SMALL];
        let mut large = Vec::new();
        let registers = if self.n_registers <= SMALL {
            &mut small[..self.n_registers]
        } else {
            large.resize(self.n_registers, 0.0);
            &mut large[..]
        };
        self.fill_fixed(registers, 1, t);
        self.run(registers, 1, 1, [&x[0..1], &x[1..2], &x[2..3]]);
        registers[result]
    }

    fn fill_fixed(&self, registers: &mut [f64], stride: usize, t: f64) {
        for (register, &c) in registers.chunks_exact_mut(stride).zip(&self.constants) {
            register.fill(c);
        }
        if let Some(r) = self.time {
            registers[r as usize * stride..][..stride].fill(t);
        }
    }

    /// One block of `len` points; a coordinate that is absent is zero, the last of one that is
    /// shorter repeats.
    fn run(&self, registers: &mut [f64], stride: usize, len: usize, coordinates: [&[f64]; 3]) {
        for instruction in &self.instructions {
            let target = instruction.target as usize;
            if let Code::SinCos(a, cos) = instruction.code {
                sin_cos(registers, stride, len, [a as usize, target, cos as usize]);
                continue;
            }
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
                Code::Coordinate(k) => {
                    let from = coordinates[k as usize];
                    out[..from.len()].copy_from_slice(from);
                    out[from.len()..].fill(from.last().copied().unwrap_or(0.0));
                }
                Code::Unary(f, a) => kernels::unary(f, read(a), out),
                Code::SinCos(..) => {}
                Code::Binary(f, a, b) => kernels::binary(f, read(a), read(b), out),
                Code::BinaryLeft(f, a, b) => kernels::binary(f, a, read(b), out),
                Code::BinaryRight(f, a, b) => kernels::binary(f, read(a), b, out),
                Code::Powi(a, n) => kernels::whole_power(read(a), n, out),
                Code::Select(c, a, b) => kernels::select(read(c), read(a), read(b), out),
            }
        }
    }
}

/// Argument, sine and cosine are three different registers, in any order.
fn sin_cos(registers: &mut [f64], stride: usize, len: usize, [a, sin, cos]: [usize; 3]) {
    let (low, high) = (sin.min(cos), sin.max(cos));
    let (below, rest) = registers.split_at_mut(low * stride);
    let (first, rest) = rest.split_at_mut(stride);
    let (between, rest) = rest.split_at_mut((high - low - 1) * stride);
    let (second, above) = rest.split_at_mut(stride);
    let argument = if a < low {
        &below[a * stride..]
    } else if a < high {
        &between[(a - low - 1) * stride..]
    } else {
        &above[(a - high - 1) * stride..]
    };
    let (first, second) = (&mut first[..len], &mut second[..len]);
    let (sin, cos) = if sin < cos { (first, second) } else { (second, first) };
    super::functions::sin_cos_block(&argument[..len], sin, cos);
}
