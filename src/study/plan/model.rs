//! How long a run takes and how much memory: the performance model.
//!
//! Imports its siblings and `study::costs`. Start at [`predict`]. docs/plan.md has every formula with its source.

use serde::{Deserialize, Serialize};

use super::problem::{Input, Problem, local_nodes};
use crate::adapt::leap;
use crate::element::{Quadrature, Shape};
use crate::run::mesh_files::FileForm;
use crate::study::costs::{Class, Costs, Found, PHASES, PhaseCost};
use crate::study::machine::{Machine, Messages, Rate};

/// Ranks and threads on nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Nodes.
    pub nodes: usize,
    /// Ranks on all of them.
    pub ranks: usize,
    /// Threads of each rank.
    pub threads: usize,
}

impl Layout {
    /// Ranks on the fullest node.
    pub fn ranks_per_node(&self) -> usize {
        self.ranks.div_ceil(self.nodes.max(1))
    }
}

/// What a run is predicted on.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The machine's rates.
    pub machine: &'a Machine,
    /// Its costs.
    pub costs: &'a Costs,
    /// Messages between nodes.
    pub network: Messages,
}

/// Messages between nodes where nobody measured them: of a slow network (10 Gbit Ethernet), so that plans err on
/// the safe side.
pub const SLOW_NETWORK: Messages = Messages { latency: 2e-5, bandwidth: 1e9, allreduce: 4e-5 };

/// Messages within a node where the machine was measured on one rank.
const WITHIN_NODE: Messages = Messages { latency: 1e-6, bandwidth: 4e9, allreduce: 2e-6 };

/// Seconds of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub name: String,
    /// Seconds, messages included.
    pub seconds: f64,
    /// Those of messages and reductions.
    pub messages: f64,
}

/// What a run is expected to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// On what.
    pub layout: Layout,
    /// Phases in the order of a run.
    pub phases: Vec<PhaseTime>,
    /// Seconds from the command to its end, `start` and `other` included.
    pub total: f64,
    /// The time lies between `total / uncertainty` and `total * uncertainty`.
    pub uncertainty: f64,
    /// Iterations of the last solve.
    pub iterations: f64,
    /// Bytes at the peak on the fullest rank.
    pub memory_rank: f64,
    /// Bytes at the peak on the fullest node.
    pub memory_node: f64,
    /// Degrees of freedom at the end.
    pub dofs: u64,
    /// Solves.
    pub solves: usize,
}

impl Prediction {
    /// Core-hours: ranks times threads times the time.
    pub fn core_hours(&self) -> f64 {
        (self.layout.ranks * self.layout.threads) as f64 * self.total / 3600.0
    }

    /// Seconds of a phase.
    pub fn seconds(&self, phase: &str) -> f64 {
        self.phases.iter().filter(|p| p.name == phase).map(|p| p.seconds).sum()
    }
}

/// Boxes of cells along the side of a rank's share, and the layers of neighbours beyond it along each axis: a cut
/// into `p^(1/d)` slices has `1 - p^(-1/d)` of its sides inside the body.
fn sides(problem: &Problem, ranks: usize) -> (f64, f64) {
    let d = problem.counts.dim.max(1) as f64;
    let per_box: f64 = problem
        .counts
        .cells()
        .iter()
        .map(|&(shape, n)| {
            let cells = match shape {
                Shape::Tetrahedron => 6.0,
                Shape::Triangle => 2.0,
                _ => 1.0,
            };
            n as f64 / cells
        })
        .sum();
    let side = (per_box / ranks as f64).max(1.0).powf(1.0 / d);
    (side, 2.0 * (1.0 - (ranks as f64).powf(-1.0 / d)))
}

/// Ghost cells over owned ones.
pub fn ghosts(problem: &Problem, ranks: usize) -> f64 {
    let (side, layers) = sides(problem, ranks);
    let d = problem.counts.dim as i32;
    ((side + layers) / side).powi(d) - 1.0
}

/// Nodes of a rank's share that its neighbours need.
fn interface_nodes(problem: &Problem, ranks: usize) -> f64 {
    let (_, layers) = sides(problem, ranks);
    let d = problem.counts.dim as f64;
    let own = problem.nodes as f64 / ranks as f64;
    (d * layers * own.powf((d - 1.0) / d)).min(own)
}

/// Ranks that a rank has cells in common with.
fn neighbours(dim: usize, ranks: usize) -> f64 {
    let most = [0.0, 2.0, 6.0, 14.0][dim.min(3)];
    (ranks as f64 - 1.0).min(most)
}

struct Traffic {
    neighbours: f64,
    latency: f64,
    bandwidth: f64,
    allreduce: f64,
}

impl Traffic {
    fn of(setting: &Setting, problem: &Problem, layout: Layout) -> Traffic {
        let inside = setting.machine.messages.filter(|_| setting.machine.nodes == 1).unwrap_or(WITHIN_NODE);
        let log2 = |n: usize| (n.max(1) as f64).log2();
        let per_step = inside.allreduce / log2(setting.machine.ranks).max(1.0);
        let on_node = layout.ranks_per_node();
        let mut traffic = Traffic {
            neighbours: neighbours(problem.counts.dim, layout.ranks),
            latency: inside.latency,
            bandwidth: inside.bandwidth,
            allreduce: per_step * log2(on_node),
        };
        if layout.nodes > 1 {
            let network = setting.network;
            traffic.latency = network.latency;
            // All ranks of a node send through one adapter.
            traffic.bandwidth = (network.bandwidth / on_node as f64).min(inside.bandwidth);
            traffic.allreduce += network.allreduce.max(network.latency) * log2(layout.nodes);
        }
        if layout.ranks == 1 {
            traffic.allreduce = 0.0;
        }
        traffic
    }

    /// An exchange with all neighbours (Hockney: latency and bandwidth).
    fn exchange(&self, bytes: f64) -> f64 {
        if self.neighbours <= 0.0 { 0.0 } else { self.neighbours * self.latency + bytes / self.bandwidth }
    }
}

/// Exchanges on each level of a multigrid cycle: two smoothing steps before and after, the residual, and both
/// transfers.
const EXCHANGES_PER_LEVEL: f64 = 7.0;

/// Exchanges on each level of its set-up, and how many times more an unknown's row is than its value.
const SETUP_EXCHANGES: f64 = 20.0;
const ROW_BYTES: f64 = 12.0;

/// Levels of smoothed aggregation: each has one unknown for a cube of three along every axis.
fn levels(problem: &Problem) -> f64 {
    let ratio = 3f64.powi(problem.counts.dim as i32);
    let n = problem.nodes as f64;
    (1.0 + (n / 1000.0).max(1.0).ln() / ratio.ln()).ceil()
}

/// How a method works, as far as its costs go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Iterations nearly do not grow with the problem; times the cost of ours.
    Multigrid(f64),
    /// Iterations grow as the number of cells along a side; times those of plain conjugate gradients.
    Local(f64),
    /// A factorisation.
    Direct,
}

fn kind(method: &str) -> Kind {
    let preconditioner = method.rsplit('+').next().unwrap_or(method);
    match preconditioner {
        "direct" => Kind::Direct,
        "amg" | "pmg" => Kind::Multigrid(1.0),
        "boomeramg" | "gamg" | "petsc" => Kind::Multigrid(2.0),
        "asm" | "ras" => Kind::Local(0.25),
        "ilu" | "icc" | "sor" => Kind::Local(0.35),
        "bjacobi" => Kind::Local(0.5),
        "jacobi" => Kind::Local(0.9),
        _ => Kind::Local(1.0),
    }
}

/// Iterations that a problem takes. Multigrid: those that were measured, continued by the logarithm of the size.
/// Local preconditioners: the bound of conjugate gradients, `sqrt(kappa) ln(2 / tolerance) / 2`, with
/// `sqrt(kappa) = 2 n p / pi` for `n` cells along a side.
///
/// Source: Y. Saad, "Iterative Methods for Sparse Linear Systems" (2003), section 6.11.3.
pub fn iterations(problem: &Problem, class: &Class) -> f64 {
    let cells = problem.counts.n_cells() as f64;
    match kind(&problem.method) {
        Kind::Direct => 1.0,
        Kind::Multigrid(_) => {
            let [small, large] = class.iterations.map(|n| n as f64);
            let [n, m] = class.cells.map(|n| n as f64);
            let grows = ((large - small) / (m / n).ln()).max(0.0);
            let found = large + grows * (cells / m).max(1e-3).ln();
            let digits = problem.tolerance.ln() / 1e-8f64.ln();
            (found.clamp(0.5 * large, 4.0 * large) * digits).max(1.0)
        }
        Kind::Local(quality) => {
            let (side, _) = sides(problem, 1);
            let root = 2.0 * side * problem.degree as f64 / std::f64::consts::PI;
            (quality * 0.5 * root * (2.0 / problem.tolerance).ln()).max(1.0)
        }
    }
}

/// How many times a cell's work in a phase is that of the class that was measured.
fn ratio(phase: &str, problem: &Problem, shape: Shape, class: &Class, same: bool) -> f64 {
    let cells = problem.counts.n_cells().max(1) as f64;
    let measured = class.cells[1] as f64;
    let (c, d) = (problem.components as f64, class.components as f64);
    let pairs = (problem.pairs as f64 / cells) / (class.pairs as f64 / measured);
    let nodes = (problem.nodes as f64 / cells) / (class.nodes as f64 / measured);
    match phase {
        "pattern" => pairs,
        "pc_setup" | "solve" | "memory" => pairs * (c / d).powi(2),
        "space" | "output" => nodes * c / d,
        "assemble" if !same => {
            let work = |shape: Shape, degree: usize, components: f64| {
                let local = local_nodes(shape, degree) as f64 * components;
                let points = Quadrature::new(shape, 2 * degree).map_or(1.0, |rule| rule.len() as f64);
                local * local + points * local
            };
            let other = Shape::parse(&class.shape).unwrap_or(shape);
            work(shape, problem.degree, c) / work(other, class.degree, d).max(1.0)
        }
        _ => 1.0,
    }
}

/// What ranks and threads of a node reach together: `n` times one at most, and as much more than was measured as
/// there are more of them.
fn together(rate: &Rate, measured: usize, n: usize) -> f64 {
    if n <= measured { rate.of(n) } else { rate.of(measured).max(rate.all) * n as f64 / measured as f64 }
}

/// Seconds that `cells` cells of one rank take, beside its fixed cost.
fn rank_seconds(setting: &Setting, layout: Layout, phase: &str, cost: &PhaseCost, cells: f64) -> f64 {
    if cost.one <= 0.0 || cells <= 0.0 {
        return 0.0;
    }
    let (ranks, measured) = (layout.ranks_per_node(), setting.machine.ranks);
    let rate = Rate { one: 1.0 / cost.one, all: measured as f64 / cost.all.max(cost.one) };
    let workers = ranks * layout.threads;
    let shared = setting.costs.speedup(phase, layout.threads) / layout.threads as f64;
    cells * ranks as f64 / (together(&rate, measured, workers) * shared)
}

/// The share of the largest part over the mean, where a mesh is cut.
const IMBALANCE: f64 = 1.03;

struct Model<'a> {
    setting: &'a Setting<'a>,
    layout: Layout,
    traffic: Traffic,
}

impl Model<'_> {
    /// Seconds of one phase on one mesh: work and messages.
    fn phase(&self, name: &str, problem: &Problem) -> (f64, f64) {
        let (setting, layout, p) = (self.setting, self.layout, self.layout.ranks as f64);
        let uneven = if layout.ranks > 1 { IMBALANCE } else { 1.0 };
        // Owned cells and ghosts are both visited where matrices are made.
        let visited = match name {
            "mesh" | "space" | "pattern" | "assemble" => 1.0 + ghosts(problem, layout.ranks),
            _ => 1.0,
        };
        let (mut seconds, mut fixed) = (0.0, 0.0f64);
        for (shape, n) in problem.counts.cells() {
            let Some(Found { class, same }) = setting.costs.find(shape, problem.degree, problem.components)
            else {
                continue;
            };
            let cells = n as f64 / p * uneven * visited;
            let mut cost = class.phases.get(name).copied().unwrap_or_default();
            let ratio = ratio(name, problem, shape, class, same);
            (cost.one, cost.all) = (cost.one * ratio, cost.all * ratio);
            let times = if name == "solve" { self.solve_factor(problem, class) } else { 1.0 };
            let work = |cost: &PhaseCost, cells: f64| rank_seconds(setting, layout, name, cost, cells);
            seconds += times * work(&cost, cells);
            fixed = fixed.max(times * cost.fixed);
            let extra = match name {
                "assemble" => problem.coefficients.map(|points| (class.varying, points)),
                "output" => problem.exact.map(|points| (class.exact, points)),
                _ => None,
            };
            if let Some((more, points)) = extra {
                let more = more + points * setting.costs.expression;
                seconds += work(&PhaseCost { fixed: 0.0, one: more, all: more }, cells);
            }
        }
        let messages = self.messages(name, problem);
        (seconds + fixed + messages, messages)
    }

    /// Iterations, each times what it costs beside one of our multigrid.
    fn solve_factor(&self, problem: &Problem, class: &Class) -> f64 {
        let each = match kind(&problem.method) {
            Kind::Multigrid(cost) => cost,
            // One product with the matrix, and one or two passes of a local preconditioner.
            Kind::Local(quality) => {
                if quality >= 0.9 {
                    0.25
                } else {
                    0.5
                }
            }
            Kind::Direct => 1.0,
        };
        each * iterations(problem, class)
    }

    fn messages(&self, name: &str, problem: &Problem) -> f64 {
        let ranks = self.layout.ranks;
        if ranks == 1 {
            return 0.0;
        }
        let values = 8.0 * problem.components as f64 * interface_nodes(problem, ranks);
        let shrink = 1.0 / (1.0 - 3f64.powi(1 - problem.counts.dim as i32).min(0.5));
        let levels = levels(problem);
        let (latency, sum) = (self.traffic.exchange(0.0), self.traffic.allreduce);
        let flow = |bytes: f64| bytes / self.traffic.bandwidth;
        match name {
            "solve" => {
                let shape = problem.counts.cells().first().map(|c| c.0);
                let class =
                    shape.and_then(|s| self.setting.costs.find(s, problem.degree, problem.components));
                let count = class.map_or(20.0, |found| iterations(problem, found.class));
                let cycle = match kind(&problem.method) {
                    Kind::Multigrid(_) => {
                        EXCHANGES_PER_LEVEL * (levels * latency + shrink * flow(values)) + 2.0 * sum
                    }
                    _ => 2.0 * self.traffic.exchange(values),
                };
                count * (cycle + 3.0 * sum + self.traffic.exchange(values))
            }
            "pc_setup" => SETUP_EXCHANGES * (levels * (latency + sum) + shrink * ROW_BYTES * flow(values)),
            "mesh" | "space" | "pattern" | "assemble" | "output" => {
                4.0 * (latency + ROW_BYTES * flow(values)) + 10.0 * sum
            }
            _ => 0.0,
        }
    }

    /// Reading a file, and cutting what it holds.
    fn input(&self, problem: &Problem) -> [f64; 2] {
        let Input::File { bytes, form, kept } = &problem.input else { return [0.0; 2] };
        let Some(files) = self.setting.costs.files else { return [0.0; 2] };
        let ranks = self.layout.ranks;
        let cells = problem.cells_read as f64 / ranks as f64;
        let seconds = |cost: &PhaseCost| rank_seconds(self.setting, self.layout, "mesh", cost, cells);
        let own = matches!(form, FileForm::Stored(parts) if *parts == ranks);
        if own || kept.contains(&ranks) {
            return [seconds(&files.stored), 0.0];
        }
        let read = match form {
            FileForm::Text => *bytes as f64 * files.text + seconds(&files.binary),
            FileForm::Binary => seconds(&files.binary),
            FileForm::Stored(_) => seconds(&files.stored),
        };
        let cut = if ranks > 1 { seconds(&files.partition) } else { 0.0 };
        [read, cut]
    }

    /// One solve on one mesh, by phase; `first` with the mesh itself, `last` with files.
    fn solve(&self, problem: &Problem, add: &mut dyn FnMut(&str, f64, f64)) {
        for name in PHASES.iter().filter(|name| !matches!(**name, "mesh" | "partition" | "output")) {
            let (seconds, messages) = self.phase(name, problem);
            add(name, seconds, messages);
        }
    }
}

/// The meshes of an adaptive loop as parts of the last one, first to last.
fn steps(problem: &Problem) -> Vec<f64> {
    let Some(growth) = problem.growth else { return vec![1.0] };
    let most = growth.max_dofs.map_or(f64::INFINITY, |most| most as f64 / problem.dofs().max(1) as f64);
    let mut factors = vec![1.0f64];
    while factors.len() <= growth.max_steps && factors.last().is_some_and(|&f| f < 0.97 * most) {
        let last = factors.last().copied().unwrap_or(1.0);
        let large = growth.large.then(|| leap::large_steps(problem.counts.dim, most / last)).flatten();
        let small = growth.factor.max(1.001);
        let factor = large.map_or(small, |steps| (most / last).powf(1.0 / f64::from(steps)));
        factors.push((last * factor).min(most));
    }
    factors
}

/// What a run is expected to take on a layout. Not collective.
pub fn predict(problem: &Problem, setting: &Setting, layout: Layout) -> Prediction {
    let model = Model { setting, layout, traffic: Traffic::of(setting, problem, layout) };
    let mut rows: Vec<PhaseTime> = Vec::new();
    let mut add = |name: &str, seconds: f64, messages: f64| match rows.iter_mut().find(|r| r.name == name) {
        Some(row) => {
            row.seconds += seconds;
            row.messages += messages;
        }
        None => rows.push(PhaseTime { name: name.into(), seconds, messages }),
    };
    let start = match setting.costs.start_alone {
        Some(alone) if layout.ranks == 1 => alone,
        _ => setting.costs.start,
    };
    // Daemons are started on the nodes along a tree.
    add("start", start + 0.5 * (layout.nodes as f64).log2(), 0.0);
    let [read, cut] = model.input(problem);
    if matches!(problem.input, Input::Box) {
        let (seconds, messages) = model.phase("mesh", problem);
        add("mesh", seconds, messages);
    } else {
        // What refinement makes of a file's cells costs as much as generating them.
        let refined = problem.counts.n_cells() > problem.cells_read;
        let more = if refined { model.phase("mesh", problem).0 } else { 0.0 };
        add("mesh", read + more, 0.0);
        add("partition", cut, 0.0);
    }
    let factors = steps(problem);
    let loops = setting.costs.adaptive(problem.counts.dim);
    let mut last = problem.clone();
    for (k, &factor) in factors.iter().enumerate() {
        last = problem.scaled(factor);
        let warm = loops.filter(|_| k > 0).map_or(1.0, |costs| costs.warm);
        model.solve(&last, &mut |name, seconds, messages| {
            let part = if name == "solve" { warm } else { 1.0 };
            add(name, part * seconds, part * messages);
        });
        if let (Some(_), Some(costs)) = (problem.growth, loops) {
            let cells = last.counts.n_cells() as f64 / layout.ranks as f64;
            let mut work = |name: &str, seconds: f64| {
                let cost = PhaseCost { fixed: 0.0, one: seconds, all: seconds };
                add(name, rank_seconds(setting, layout, name, &cost, cells), 0.0);
            };
            work("estimate", costs.estimate);
            if k + 1 < factors.len() {
                work("refine", costs.refine * problem.growth.map_or(1.0, |growth| growth.factor));
                if layout.ranks > 1 {
                    work("rebalance", costs.rebalance);
                }
            }
        }
    }
    let (seconds, messages) = model.phase("output", &last);
    add("output", seconds, messages);
    let (seconds, _) = model.phase("other", &last);
    add("other", seconds, 0.0);

    let total = rows.iter().map(|row| row.seconds).sum();
    let shape = last.counts.cells().first().map_or(Shape::Point, |c| c.0);
    let found = setting.costs.find(shape, last.degree, last.components);
    let [memory_rank, memory_node] = memory(&last, setting, layout);
    let mut uncertainty = match found {
        Some(Found { same: true, .. }) => 1.25,
        _ => 2.0,
    };
    if !matches!(kind(&problem.method), Kind::Multigrid(cost) if cost == 1.0) {
        uncertainty *= 2.0;
    }
    if problem.growth.is_some() {
        uncertainty *= 1.5;
    }
    if layout.ranks_per_node() * layout.threads > setting.machine.ranks {
        uncertainty *= 1.3;
    }
    Prediction {
        layout,
        phases: rows,
        total,
        uncertainty,
        iterations: found.map_or(0.0, |found| iterations(&last, found.class)),
        memory_rank,
        memory_node,
        dofs: last.dofs(),
        solves: factors.len(),
    }
}

/// Bytes at the peak of the fullest rank and node: those of a process, and those of its cells and ghosts.
fn memory(problem: &Problem, setting: &Setting, layout: Layout) -> [f64; 2] {
    let p = layout.ranks as f64;
    let uneven = if layout.ranks > 1 { IMBALANCE } else { 1.0 };
    let mut bytes = 0.0;
    for (shape, n) in problem.counts.cells() {
        if let Some(Found { class, same }) = setting.costs.find(shape, problem.degree, problem.components) {
            bytes += n as f64 * class.bytes * ratio("memory", problem, shape, class, same);
        }
    }
    if kind(&problem.method) == Kind::Direct {
        // Factors of nested dissection: n log n in the plane, n^(4/3) in space (A. George, 1973).
        let n = problem.dofs() as f64;
        let entries =
            if problem.counts.dim < 3 { 8.0 * n * n.max(2.0).log2() } else { 4.0 * n.powf(4.0 / 3.0) };
        bytes += 8.0 * entries;
    }
    let mine = setting.costs.process + bytes / p * uneven * (1.0 + ghosts(problem, layout.ranks));
    // An interface's tables: one entry for each rank.
    let mine = mine + 64.0 * p;
    [mine, mine * layout.ranks_per_node() as f64]
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(super) mod tests;
