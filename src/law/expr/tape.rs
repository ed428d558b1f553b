//! Register code: what runs at quadrature points.
//!
//! May import: `graph`, `functions`, `fusion`, `kernels`. Each instruction works on a block of points, so its loop has
//! a fixed operation and contiguous operands and the compiler vectorises it; the cost of choosing the
//! instruction is shared by the block. A block of 256 points is 2 KiB a register: a dozen registers stay
//! in the first-level cache. Coordinates are read where the caller has them and results computed where
//! he wants them; sums of products are one instruction (`fusion`). A block that is no whole number of
//! vectors is padded by repeating its last point.

use super::functions::Eight;
use super::fusion::{Inner, Outer, Step, Term, steps};
use super::graph::{Binary, Graph, Id, Op, Unary};
use super::kernels;
use super::{Points, Var};

/// Points a register holds.
const BLOCK: usize = 256;

/// Blocks are whole multiples of this: the longest vectors of today's processors.
const LANES: usize = 8;

/// Registers an evaluation at one point keeps on the stack.
const SMALL: usize = 48;

/// Working memory of [`super::Expr::eval`]; one for each thread, any expression may use it.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    /// Whole cache lines, so that no vector lies in two.
    registers: Vec<Eight>,
}

impl Scratch {
    /// Empty; it grows at first use.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Where the values of a node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Coordinate 0, 1, 2.
    Coordinate(u8),
    Register(u32),
    /// In the results.
    Output(u32),
}

/// What an instruction of sums and products reads.
#[derive(Debug, Clone, Copy)]
enum Operand {
    Number(f64),
    Place(Place),
}

#[derive(Debug, Clone, Copy)]
enum Code {
    Unary(Unary, Place),
    /// Sine to the target, a register, cosine to the second, of the first.
    SinCos(Place, u32),
    Binary(Binary, Operand, Operand),
    /// `(a ∘ b) ∘ c`.
    Three(Inner, Outer, Operand, Place, Operand),
    /// `a b + c d`, or with a minus.
    Products(bool, Operand, Place, Operand, Place),
    Powi(Place, i32),
    Select(Place, Place, Place),
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    target: Place,
    code: Code,
}

/// Where a result comes from.
#[derive(Debug, Clone, Copy)]
enum Output {
    Constant(f64),
    Time,
    /// The instructions put it where it belongs.
    Computed,
    /// It is copied from there.
    Copied(Place),
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
    n_operations: usize,
    outputs: Vec<Output>,
}

/// Registers while a tape is made.
struct Allocation {
    of_node: Vec<Option<Place>>,
    free: Vec<u32>,
    next: u32,
}

impl Allocation {
    fn take(&mut self, node: usize) -> u32 {
        let register = self.free.pop().unwrap_or(self.next);
        self.next = self.next.max(register + 1);
        self.of_node[node] = Some(Place::Register(register));
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
        let steps = steps(nodes, roots);
        let mut last_use = vec![0; nodes.len()];
        let mut held = vec![false; nodes.len()];
        // Cosine of a node, where its sine is wanted as well.
        let mut sin_of = vec![None; nodes.len()];
        let mut cos_of = vec![None; nodes.len()];
        for (i, op) in nodes.iter().enumerate() {
            operands(steps[i], *op, |a| last_use[a as usize] = i);
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
        let mut registers = Allocation { of_node: vec![None; nodes.len()], free: vec![], next: 0 };
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
            match *op {
                Op::Const(_) | Op::Var(Var::T) => continue,
                Op::Var(v) => registers.of_node[i] = Some(Place::Coordinate(v as u8)),
                _ => {}
            }
            if matches!(steps[i], Step::Absorbed) {
                continue;
            }
            // A node may be done already: the cosine that came with its sine.
            if registers.of_node[i].is_none() {
                let both = match *op {
                    Op::Unary(Unary::Sin | Unary::Cos, a) => sin_of[a as usize].zip(cos_of[a as usize]),
                    _ => None,
                };
                // The target is taken before the operands are released: an instruction never writes
                // what it reads, so its operands and its target are disjoint slices.
                let output = roots.iter().position(|&root| root as usize == i);
                let target = match (output, both) {
                    (_, Some((sin, _))) => Place::Register(registers.take(sin)),
                    (Some(k), None) => Place::Output(k as u32),
                    (None, None) => Place::Register(registers.take(i)),
                };
                let other = both.map(|(_, cos)| registers.take(cos));
                registers.of_node[i].get_or_insert(target);
                let r = |id: Id| registers.of_node[id as usize].expect("operands come first");
                let o = |id: Id| number(id).map_or_else(|| Operand::Place(r(id)), Operand::Number);
                let term = |t: Term| match t {
                    Term::Number(c) => Operand::Number(c),
                    Term::Node(id) => o(id),
                };
                let code = match (steps[i], *op) {
                    (Step::Three(inner, outer, a, b, c), _) => {
                        Code::Three(inner, outer, term(a), r(b), term(c))
                    }
                    (Step::Products(minus, [(a, b), (c, d)]), _) => {
                        Code::Products(minus, term(a), r(b), term(c), r(d))
                    }
                    (_, Op::Unary(f, a)) => match other {
                        Some(cos) => Code::SinCos(r(a), cos),
                        None => Code::Unary(f, r(a)),
                    },
                    (_, Op::Binary(f, a, b)) if number(a).is_some() && number(b).is_some() => {
                        Code::Binary(f, Operand::Place(r(a)), Operand::Place(r(b)))
                    }
                    (_, Op::Binary(f, a, b)) => Code::Binary(f, o(a), o(b)),
                    (_, Op::Powi(a, n)) => Code::Powi(r(a), n),
                    (_, Op::Select(c, a, b)) => Code::Select(r(c), r(a), r(b)),
                    (_, Op::Const(_) | Op::Var(_)) => continue,
                };
                instructions.push(Instruction { target, code });
            }
            operands(steps[i], *op, |a| {
                if let Some(Place::Register(register)) = registers.of_node[a as usize]
                    && last_use[a as usize] == i
                    && register >= first_free
                    && !registers.free.contains(&register)
                {
                    registers.free.push(register);
                }
            });
        }
        let output = |(k, &root): (usize, &Id)| match (nodes[root as usize], registers.of_node[root as usize])
        {
            (Op::Const(bits), _) => Output::Constant(f64::from_bits(bits)),
            (Op::Var(Var::T), _) => Output::Time,
            (_, Some(Place::Output(at))) if at as usize == k => Output::Computed,
            (_, place) => Output::Copied(place.expect("every root is computed")),
        };
        let outputs = roots.iter().enumerate().map(output).collect();
        let n_operations = nodes.iter().filter(|op| !matches!(op, Op::Const(_) | Op::Var(_))).count();
        Self { constants, time, instructions, n_registers: registers.next as usize, n_operations, outputs }
    }

    pub(super) fn n_operations(&self) -> usize {
        self.n_operations
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
        let mut simple = true;
        for (out, output) in out.chunks_exact_mut(n).zip(&self.outputs) {
            match *output {
                Output::Constant(c) => out.fill(c),
                Output::Time => out.fill(points.t),
                Output::Computed | Output::Copied(_) => simple = false,
            }
        }
        if simple {
            return;
        }
        // Behind the registers: coordinates and results of a block that is padded.
        let stride = BLOCK.min(n.next_multiple_of(LANES));
        let (n_registers, n_outputs) = (self.n_registers * stride, self.outputs.len() * stride);
        let needed = n_registers + 3 * stride + n_outputs;
        if scratch.registers.len() < needed / LANES {
            scratch.registers.resize(needed / LANES, Eight::splat(0.0));
        }
        let all: &mut [f64] = bytemuck::cast_slice_mut(&mut scratch.registers);
        let (registers, padded) = all[..needed].split_at_mut(n_registers);
        let (padded_x, padded_out) = padded.split_at_mut(3 * stride);
        self.fill_fixed(registers, stride, points.t);
        let absent = coordinates.iter().any(|x| x.is_empty());
        if absent {
            padded_x.fill(0.0);
        }
        for first in (0..n).step_by(BLOCK) {
            let len = BLOCK.min(n - first);
            let whole = len.next_multiple_of(LANES);
            for (x, to) in coordinates.iter().zip(padded_x.chunks_exact_mut(stride)) {
                if whole > len && !x.is_empty() {
                    to[..len].copy_from_slice(&x[first..first + len]);
                    to[len..whole].fill(x[first + len - 1]);
                }
            }
            let padded_x = &*padded_x;
            let here = std::array::from_fn(|k| match coordinates[k] {
                x if x.is_empty() || whole > len => &padded_x[k * stride..][..whole],
                x => &x[first..first + whole],
            });
            if whole == len {
                self.run(registers, stride, here, out, n, first);
            } else {
                self.run(registers, stride, here, padded_out, stride, 0);
                for (k, output) in self.outputs.iter().enumerate() {
                    if matches!(output, Output::Computed | Output::Copied(_)) {
                        out[k * n + first..][..len].copy_from_slice(&padded_out[k * stride..][..len]);
                    }
                }
            }
        }
    }

    /// The first result at one point: a block of one.
    pub(super) fn eval_point(&self, x: [f64; 3], t: f64) -> f64 {
        match self.outputs[0] {
            Output::Constant(c) => return c,
            Output::Time => return t,
            Output::Computed | Output::Copied(_) => {}
        }
        let mut small = [0.0; SMALL];
        let mut large = Vec::new();
        let registers = if self.n_registers <= SMALL {
            &mut small[..self.n_registers]
        } else {
            large.resize(self.n_registers, 0.0);
            &mut large[..]
        };
        self.fill_fixed(registers, 1, t);
        let mut out = [0.0];
        self.run(registers, 1, [&x[0..1], &x[1..2], &x[2..3]], &mut out, 1, 0);
        out[0]
    }

    fn fill_fixed(&self, registers: &mut [f64], stride: usize, t: f64) {
        for (register, &c) in registers.chunks_exact_mut(stride).zip(&self.constants) {
            register.fill(c);
        }
        if let Some(r) = self.time {
            registers[r as usize * stride..][..stride].fill(t);
        }
    }

    /// One block: as many points as there are coordinates. Result `k` goes to `k * n + first` of `out`.
    fn run(
        &self,
        registers: &mut [f64],
        stride: usize,
        coordinates: [&[f64]; 3],
        out: &mut [f64],
        n: usize,
        first: usize,
    ) {
        let len = coordinates[0].len();
        for instruction in &self.instructions {
            let (r, k) = match (instruction.code, instruction.target) {
                (Code::SinCos(a, cos), Place::Register(sin)) => {
                    let outside = match a {
                        Place::Coordinate(k) => Ok(coordinates[k as usize]),
                        Place::Output(k) => Ok(&out[k as usize * n + first..][..len]),
                        Place::Register(r) => Err(r as usize),
                    };
                    sin_cos(registers, stride, len, outside, [sin as usize, cos as usize]);
                    continue;
                }
                (_, Place::Register(r)) => (Some(r as usize * stride), None),
                (_, Place::Output(k)) => (None, Some(k as usize * n + first)),
                (_, Place::Coordinate(_)) => unreachable!("coordinates are only read"),
            };
            let (registers, register) = Around::new(registers, r, len);
            let (outputs, output) = Around::new(out, k, len);
            let target = if r.is_some() { register } else { output };
            let view = View { coordinates, registers, outputs, stride, n, first, len };
            execute(instruction.code, &view, target);
        }
        for (k, output) in self.outputs.iter().enumerate() {
            if let Output::Copied(place) = *output {
                let (outputs, target) = Around::new(out, Some(k * n + first), len);
                let (registers, _) = Around::new(registers, None, len);
                let view = View { coordinates, registers, outputs, stride, n, first, len };
                target.copy_from_slice(view.read(place));
            }
        }
    }
}

/// Calls `f` with each node that a step reads.
fn operands(step: Step, op: Op, mut f: impl FnMut(Id)) {
    let mut term = |t: Term| {
        if let Term::Node(id) = t {
            f(id);
        }
    };
    match step {
        Step::Absorbed => {}
        Step::Plain => op.operands(f),
        Step::Three(_, _, a, b, c) => [a, Term::Node(b), c].into_iter().for_each(&mut term),
        Step::Products(_, [(a, b), (c, d)]) => {
            [a, Term::Node(b), c, Term::Node(d)].into_iter().for_each(&mut term);
        }
    }
}

/// What stands before and after the values that are written.
struct Around<'a> {
    below: &'a [f64],
    above: &'a [f64],
    /// Where `above` begins.
    end: usize,
}

impl<'a> Around<'a> {
    /// With `at` none, nothing is written.
    #[inline(always)]
    fn new(all: &'a mut [f64], at: Option<usize>, len: usize) -> (Self, &'a mut [f64]) {
        let Some(at) = at else { return (Around { below: all, above: &[], end: 0 }, &mut []) };
        let (below, rest) = all.split_at_mut(at);
        let (target, above) = rest.split_at_mut(len);
        (Around { below, above, end: at + len }, target)
    }

    #[inline(always)]
    fn read(&self, at: usize, len: usize) -> &'a [f64] {
        if at < self.below.len() { &self.below[at..][..len] } else { &self.above[at - self.end..][..len] }
    }
}

/// What an instruction may read.
struct View<'a> {
    coordinates: [&'a [f64]; 3],
    registers: Around<'a>,
    outputs: Around<'a>,
    stride: usize,
    n: usize,
    first: usize,
    len: usize,
}

impl<'a> View<'a> {
    #[inline(always)]
    fn read(&self, place: Place) -> &'a [f64] {
        match place {
            Place::Coordinate(k) => self.coordinates[k as usize],
            Place::Register(r) => self.registers.read(r as usize * self.stride, self.len),
            Place::Output(k) => self.outputs.read(k as usize * self.n + self.first, self.len),
        }
    }
}

fn execute(code: Code, view: &View, out: &mut [f64]) {
    use Operand::{Number, Place};
    let read = |place| view.read(place);
    match code {
        Code::SinCos(..) => unreachable!("it has two targets"),
        Code::Unary(f, a) => kernels::unary(f, read(a), out),
        Code::Powi(a, n) => kernels::whole_power(read(a), n, out),
        Code::Select(c, a, b) => kernels::select(read(c), read(a), read(b), out),
        Code::Binary(f, a, b) => match (a, b) {
            (Place(a), Place(b)) => kernels::binary(f, read(a), read(b), out),
            (Number(a), Place(b)) => kernels::binary(f, a, read(b), out),
            (Place(a), Number(b)) => kernels::binary(f, read(a), b, out),
            (Number(a), Number(b)) => out.fill(f.apply(a, b)),
        },
        Code::Three(inner, outer, a, b, c) => match (a, c) {
            (Place(a), Place(c)) => kernels::three(inner, outer, read(a), read(b), read(c), out),
            (Number(a), Place(c)) => kernels::three(inner, outer, a, read(b), read(c), out),
            (Place(a), Number(c)) => kernels::three(inner, outer, read(a), read(b), c, out),
            (Number(a), Number(c)) => kernels::three(inner, outer, a, read(b), c, out),
        },
        Code::Products(minus, a, b, c, d) => match (a, c) {
            (Place(a), Place(c)) => kernels::products(minus, (read(a), read(b)), (read(c), read(d)), out),
            (Number(a), Place(c)) => kernels::products(minus, (a, read(b)), (read(c), read(d)), out),
            (Place(a), Number(c)) => kernels::products(minus, (read(a), read(b)), (c, read(d)), out),
            (Number(a), Number(c)) => kernels::products(minus, (a, read(b)), (c, read(d)), out),
        },
    }
}

/// Two registers at once, different from the argument's, if it is one: given by its number.
fn sin_cos(
    registers: &mut [f64],
    stride: usize,
    len: usize,
    argument: Result<&[f64], usize>,
    [sin, cos]: [usize; 2],
) {
    let (low, high) = (sin.min(cos), sin.max(cos));
    let (below, rest) = registers.split_at_mut(low * stride);
    let (first, rest) = rest.split_at_mut(stride);
    let (between, rest) = rest.split_at_mut((high - low - 1) * stride);
    let (second, above) = rest.split_at_mut(stride);
    let argument = match argument {
        Ok(outside) => outside,
        Err(a) if a < low => &below[a * stride..][..len],
        Err(a) if a < high => &between[(a - low - 1) * stride..][..len],
        Err(a) => &above[(a - high - 1) * stride..][..len],
    };
    let (first, second) = (&mut first[..len], &mut second[..len]);
    let (sin, cos) = if sin < cos { (first, second) } else { (second, first) };
    super::functions::sin_cos_block(argument, sin, cos);
}
