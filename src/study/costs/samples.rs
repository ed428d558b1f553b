//! Measures what phases cost: small problems solved in this process, by one rank while the others wait and by
//! every rank at once, each its own.
//!
//! Imports `run`, `output` and its siblings. Start at [`measure`]. Nothing here is exact: times are the least of
//! a few rounds, fixed costs and slopes follow from two sizes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use cluster::Comm;

use super::files;
use super::{Class, Costs, FileCosts, LoopCosts, PHASES, PhaseCost};
use crate::case::Case;
use crate::output::phases::{peak_memory, resident_memory};
use crate::output::run_json::RunReport;
use crate::run::sizes::Sizes;
use crate::run::{self, Kind, Options, RunError};

/// A kind of problem: shape, degree, vector or scalar, and boxes along a side of the smaller and larger one.
struct Spec {
    shape: &'static str,
    degree: usize,
    vector: bool,
    sides: [usize; 2],
}

const fn spec(shape: &'static str, degree: usize, vector: bool, small: usize, large: usize) -> Spec {
    Spec { shape, degree, vector, sides: [small, large] }
}

/// The larger ones have 100,000 to 200,000 unknowns: their matrices fit no cache.
const SPECS: [Spec; 9] = [
    spec("triangle", 1, false, 150, 400),
    spec("triangle", 2, false, 80, 200),
    spec("quadrilateral", 1, false, 150, 400),
    spec("quadrilateral", 2, false, 80, 200),
    spec("tetrahedron", 1, false, 20, 46),
    spec("tetrahedron", 2, false, 10, 30),
    spec("hexahedron", 1, false, 20, 46),
    spec("hexahedron", 2, false, 10, 23),
    spec("tetrahedron", 1, true, 14, 40),
];

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Some tens of seconds.
    Full,
    /// Problems of a few cells: figures of no worth, for tests.
    Quick,
}

impl Effort {
    fn side(self, n: usize) -> usize {
        match self {
            Effort::Full => n,
            Effort::Quick => (n / 6).max(2),
        }
    }

    fn rounds(self) -> usize {
        match self {
            Effort::Full => 3,
            Effort::Quick => 1,
        }
    }
}

/// Keys of a case beside its box.
#[derive(Default)]
struct Extras<'a> {
    source: &'a str,
    tables: &'a str,
}

fn case_text(mesh: &str, dim: usize, degree: usize, vector: bool, extras: &Extras) -> String {
    let mut text = format!("[case]\nformat = 1\n[mesh]\n{mesh}\n[space]\ndegree = {degree}\n");
    // Writing to a string cannot fail.
    let _ = if vector {
        let load = if dim == 2 { "[0, -1]" } else { "[0, 0, -1]" };
        let held = vec![0; dim];
        write!(
            text,
            "[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\nbody_force = {load}\n\
             [boundary.clamp]\non = [\"x-min\"]\nvalue = {held:?}\n"
        )
    } else {
        let sides = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"];
        let source = if extras.source.is_empty() { "\"1\"" } else { extras.source };
        write!(
            text,
            "[physics]\nlaw = \"poisson\"\nsource = {source}\n[boundary.all]\non = {:?}\nvalue = 0\n",
            &sides[..2 * dim]
        )
    };
    let method = if degree == 1 { "cg+amg" } else { "cg+pmg" };
    format!("{text}[solver]\nmethod = \"{method}\"\n{}", extras.tables)
}

fn box_text(shape: &str, n: usize) -> (String, usize) {
    let dim = crate::element::Shape::parse(shape).map_or(3, crate::element::Shape::dim);
    let (size, cells) = (vec![1; dim], vec![n; dim]);
    (format!("box = {{ size = {size:?}, cells = {cells:?}, shape = \"{shape}\" }}"), dim)
}

/// Where cases are solved and files are left.
struct Bench<'a> {
    /// All ranks.
    world: &'a Comm,
    /// This rank alone.
    alone: Comm,
    folder: &'a Path,
    effort: Effort,
}

/// What was measured of some runs of one case: the least of each phase.
struct Timed {
    phases: BTreeMap<String, f64>,
    report: RunReport,
    bytes: f64,
}

impl Timed {
    fn of(&self, phase: &str) -> f64 {
        self.phases.get(phase).copied().unwrap_or(0.0)
    }

    fn iterations(&self) -> u64 {
        self.report.solver.as_ref().map_or(1, |s| s.iterations).max(1)
    }

    fn sizes(&self) -> Option<Sizes> {
        self.report.extra.get("sizes").and_then(|v| serde_json::from_value(v.clone()).ok())
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> RunError {
    RunError::new(Kind::Environment, "bench", format!("{what}: {error}"))
}

impl Bench<'_> {
    /// Solves a case some times on a communicator. Collective on it.
    fn time(&self, comm: &Comm, text: &str) -> Result<Timed, RunError> {
        let path = self.folder.join("calibrate.toml");
        let mut case = Case::parse(&path, text, &[])?;
        let whose = if comm.size() == 1 { self.world.rank().to_string() } else { "all".into() };
        case.output_dir = self.folder.join(format!("out-{whose}"));
        let options = Options { threads: 1, quiet: true, ..Options::default() };
        let mut best: Option<Timed> = None;
        for _ in 0..self.effort.rounds() {
            let before = resident_memory::trimmed();
            let begin = Instant::now();
            let outcome = run::run_case(comm, &case, &options)?;
            let wall = begin.elapsed().as_secs_f64();
            let bytes = peak_memory().saturating_sub(before) as f64;
            if let Some(failure) = outcome.failure {
                return Err(failure);
            }
            let mut phases: BTreeMap<String, f64> =
                outcome.report.phases.iter().map(|row| (row.name.clone(), row.max)).collect();
            phases.insert("other".into(), (wall - phases.values().sum::<f64>()).max(0.0));
            match &mut best {
                None => best = Some(Timed { phases, report: outcome.report, bytes }),
                Some(best) => {
                    for (name, seconds) in phases {
                        best.phases.entry(name).and_modify(|least| *least = least.min(seconds));
                    }
                    best.bytes = best.bytes.max(bytes);
                }
            }
        }
        best.ok_or_else(|| failed("calibrate", "no round was run"))
    }

    /// On rank 0 while the others wait; every rank gets an answer that only rank 0's is used of. Collective.
    fn on_one(&self, text: &str) -> Result<Option<Timed>, RunError> {
        self.world.barrier();
        let timed = if self.world.is_root() { self.time(&self.alone, text).map(Some) } else { Ok(None) };
        self.world.agree(timed)
    }

    /// On every rank, each its own; the mean of each phase. Collective.
    fn on_each(&self, text: &str) -> Result<Timed, RunError> {
        if self.world.size() == 1 {
            return self.time(&self.alone, text);
        }
        self.world.barrier();
        let timed = self.time(&self.alone, text);
        let mut timed = self.world.agree(timed)?;
        let mut seconds: Vec<f64> = names().map(|name| timed.of(name)).collect();
        self.world.sum_slice(&mut seconds);
        let ranks = self.world.size() as f64;
        timed.phases = names().zip(seconds).map(|(name, s)| (name.to_owned(), s / ranks)).collect();
        Ok(timed)
    }

    fn class(&self, spec: &Spec) -> Result<Option<Class>, RunError> {
        let [small, large] = spec.sides.map(|n| {
            let (mesh, dim) = box_text(spec.shape, self.effort.side(n));
            case_text(&mesh, dim, spec.degree, spec.vector, &Extras::default())
        });
        let first = self.on_one(&small)?;
        let second = self.on_one(&large)?;
        let each = self.on_each(&large)?;
        let rich = if spec.vector {
            None
        } else {
            let (mesh, dim) = box_text(spec.shape, self.effort.side(spec.sides[1]));
            let extras = Extras { source: "\"x*y\"", tables: "[exact]\nvalue = \"x\"\n" };
            self.on_one(&case_text(&mesh, dim, spec.degree, spec.vector, &extras))?
        };
        let (Some(first), Some(second)) = (first, second) else { return Ok(None) };
        Ok(class_of(spec, &first, &second, &each, rich.as_ref()))
    }

    /// What mesh files cost, on one rank and on all. Collective.
    fn files(&self) -> Result<Option<FileCosts>, RunError> {
        let n = self.effort.side(30);
        let (text, binary) = (self.folder.join("text.msh"), self.folder.join("binary.msh"));
        let written = if self.world.is_root() {
            files::write_text(&text, n)
                .and_then(|sizes| files::write_binary(&binary, n).map(|()| Some(sizes)))
                .map_err(|e| failed("a mesh file cannot be written", e))
        } else {
            Ok(None)
        };
        let sizes = self.world.agree(written)?;
        let case = |file: &str, cache: bool| {
            // The body is held by a reaction: the file has no groups.
            format!(
                "[case]\nformat = 1\n[mesh]\nfile = \"{file}\"\n[physics]\nlaw = \"poisson\"\nsource = 1\n\
                 reaction = 1\n[performance]\ncache = {cache}\n"
            )
        };
        let ranks = self.world.size() as f64;
        let from_text = self.on_one(&case("text.msh", false))?;
        let from_binary = self.on_one(&case("binary.msh", false))?;
        self.world.barrier();
        let binary = self.time(self.world, &case("binary.msh", false))?;
        // The first of these keeps the mesh, the others find it.
        let kept = self.time_once(&case("binary.msh", true))?;
        let stored = self.time(self.world, &case("binary.msh", true))?;
        let (Some(from_text), Some(from_binary), Some((cells, bytes))) = (from_text, from_binary, sizes)
        else {
            return Ok(None);
        };
        let cells = cells as f64;
        let cost = |one: f64, all: f64| PhaseCost { fixed: 0.0, one: one / cells, all: all * ranks / cells };
        let all = binary.of("mesh");
        // On one rank nothing is partitioned.
        let partition = kept.of("partition").max(binary.of("partition"));
        let per_stored = stored.of("mesh") + stored.of("partition");
        Ok(Some(FileCosts {
            text: (from_text.of("mesh") - from_binary.of("mesh")).max(0.0) / bytes as f64,
            binary: cost(from_binary.of("mesh"), all),
            stored: cost(per_stored * ranks, per_stored),
            partition: cost(partition * ranks, partition),
        }))
    }

    fn time_once(&self, text: &str) -> Result<Timed, RunError> {
        let effort = Effort::Quick;
        Bench { effort, alone: self.alone.clone(), ..*self }.time(self.world, text)
    }

    /// An adaptive loop on all ranks. Collective.
    fn adaptive(&self, shape: &str, n: usize, max_dofs: u64) -> Result<LoopCosts, RunError> {
        let max_dofs = if self.effort == Effort::Full { max_dofs } else { max_dofs / 50 };
        let (mesh, dim) = box_text(shape, self.effort.side(n).max(4));
        let tables =
            format!("[adapt]\nmarking = {{ dorfler = 0.5 }}\nmax_dofs = {max_dofs}\nmax_steps = 12\n");
        // A ridge, so that cells are refined in one place and not everywhere.
        let extras = Extras { source: "\"1/(1 + 400*(x + y - 0.9)^2)\"", tables: &tables };
        let timed = self.time(self.world, &case_text(&mesh, dim, 1, false, &extras))?;
        let steps = timed.report.adapt.as_ref().map_or(&[][..], |adapt| &adapt.steps);
        let cells = steps.iter().map(|s| s.cells).sum::<u64>().max(1) as f64 / self.world.size() as f64;
        let iterations = |k: usize| steps.get(k).and_then(|s| s.extra.get("iterations")?.as_f64());
        let warm = match (iterations(0), iterations(steps.len().saturating_sub(1))) {
            (Some(first), Some(last)) if first > 0.0 => (last / first).clamp(0.1, 1.0),
            _ => 1.0,
        };
        Ok(LoopCosts {
            dimension: dim,
            estimate: timed.of("estimate") / cells,
            refine: timed.of("refine") / cells,
            rebalance: timed.of("rebalance") / cells,
            warm,
        })
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    PHASES.iter().copied().chain(["other"])
}

/// Fixed costs and slopes from two sizes, with what all ranks do to each other.
fn class_of(spec: &Spec, first: &Timed, second: &Timed, each: &Timed, rich: Option<&Timed>) -> Option<Class> {
    let sizes = [first.sizes()?, second.sizes()?];
    let cells = sizes.each_ref().map(|s| s.cells.iter().map(|c| c.cells).sum::<u64>());
    let (n, m) = (cells[0] as f64, cells[1] as f64);
    let phases = names().map(|name| {
        let per = |timed: &Timed| if name == "solve" { timed.iterations() as f64 } else { 1.0 };
        let [small, large, together] = [first, second, each].map(|timed| timed.of(name) / per(timed));
        let fixed = if m > n { ((small * m - large * n) / (m - n)).clamp(0.0, small) } else { 0.0 };
        let slope = |seconds: f64| (seconds - fixed).max(0.0) / m;
        let one = slope(large);
        // Ranks do not help each other: noise.
        (name.to_owned(), PhaseCost { fixed, one, all: slope(together).max(one) })
    });
    let phases: BTreeMap<String, PhaseCost> = phases.collect();
    let more = |name: &str| rich.map_or(0.0, |rich| (rich.of(name) - second.of(name)).max(0.0) / m);
    Some(Class {
        shape: spec.shape.to_owned(),
        degree: spec.degree,
        components: sizes[1].components,
        cells,
        pairs: sizes[1].pairs,
        nodes: sizes[1].nodes,
        iterations: [first.iterations(), second.iterations()],
        varying: more("assemble"),
        exact: more("output"),
        bytes: second.bytes / m,
        phases,
    })
}

/// Measures what phases cost. `start` is what it took to get here, on this rank. Collective, the same on every
/// rank.
///
/// # Errors
/// A folder that cannot be written to, or a problem that cannot be solved here.
pub fn measure(comm: &Comm, folder: &Path, effort: Effort, start: f64) -> Result<Costs, RunError> {
    let start = comm.max(start);
    // Ranks solve by themselves below.
    crate::solver::ready()?;
    let process = comm.max(resident_memory::trimmed()) as f64;
    let bench = Bench { world: comm, alone: comm.split(comm.rank() as i32, 0), folder, effort };
    let mut classes = Vec::new();
    for spec in &SPECS {
        let class = bench.class(spec)?;
        classes.extend(comm.broadcast_value(0, comm.is_root().then_some(class)));
    }
    let files = bench.files()?;
    let files = comm.broadcast_value(0, comm.is_root().then_some(files));
    let mut loops = Vec::new();
    for (shape, n, max_dofs) in [("quadrilateral", 32, 40_000), ("hexahedron", 8, 40_000)] {
        let found = bench.adaptive(shape, n, max_dofs)?;
        loops.push(comm.broadcast_value(0, comm.is_root().then_some(found)));
    }
    let expression = files::seconds_per_point(&files::reference());
    let expression = comm.broadcast_value(0, comm.is_root().then_some(expression));
    let start_alone = (comm.size() == 1).then_some(start);
    let classes = classes.into_iter().collect();
    Ok(Costs { start, start_alone, process, expression, classes, files, loops, threads: None })
}

/// How much faster the phases of one problem are on this process's threads. Collective on one rank.
///
/// # Errors
/// As [`measure`].
pub fn measure_threads(
    comm: &Comm,
    folder: &Path,
    effort: Effort,
    costs: &Costs,
    threads: usize,
) -> Result<super::ThreadCosts, RunError> {
    let spec = &SPECS[4];
    let bench = Bench { world: comm, alone: comm.clone(), folder, effort };
    let (mesh, dim) = box_text(spec.shape, effort.side(spec.sides[1]));
    let timed = bench.time(comm, &case_text(&mesh, dim, spec.degree, spec.vector, &Extras::default()))?;
    let class = costs.classes.iter().find(|c| c.shape == spec.shape && c.degree == 1 && c.components == 1);
    let class = class.ok_or_else(|| failed("calibrate", "no costs to compare threads with"))?;
    let speedup = names().filter_map(|name| {
        let cost = class.phases.get(name)?;
        let per = if name == "solve" { timed.iterations() as f64 } else { 1.0 };
        let alone = cost.fixed + cost.one * class.cells[1] as f64;
        let now = timed.of(name) / per;
        (now > 0.0 && alone > 0.0).then(|| (name.to_owned(), (alone / now).clamp(1.0, threads as f64)))
    });
    Ok(super::ThreadCosts { threads, speedup: speedup.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_are_cases() {
        for spec in &SPECS {
            let (mesh, dim) = box_text(spec.shape, 3);
            let extras = Extras { source: "\"x*y\"", tables: "[exact]\nvalue = \"x\"\n" };
            let extras = if spec.vector { Extras::default() } else { extras };
            let text = case_text(&mesh, dim, spec.degree, spec.vector, &extras);
            Case::parse(Path::new("a.toml"), &text, &[]).unwrap_or_else(|e| panic!("{}", e.render()));
        }
    }

    #[test]
    fn fixed_costs_and_slopes_from_two_sizes() {
        let timed = |cells: u64, seconds: f64, iterations: u64| {
            let mut report = RunReport::started("a", 1, 1);
            let cells = vec![run::sizes::Cells {
                shape: "triangle".into(),
                cells,
                geometry_nodes: 3,
                nodes: 3,
                affine: true,
            }];
            let sizes = Sizes { cells, nodes: 10, components: 1, pairs: 70 };
            report.extra.insert("sizes".into(), serde_json::to_value(sizes).expect("a value"));
            report.solver = Some(crate::output::run_json::SolverReport { iterations, ..Default::default() });
            let phases = names().map(|name| (name.to_owned(), seconds)).collect();
            Timed { phases, report, bytes: 5000.0 }
        };
        let (first, second, each) = (timed(100, 3.0, 1), timed(1000, 21.0, 1), timed(1000, 41.0, 1));
        let class = class_of(&SPECS[0], &first, &second, &each, None).expect("a class");
        let cost = class.phases["assemble"];
        assert!((cost.fixed - 1.0).abs() < 1e-12 && (cost.one - 0.02).abs() < 1e-12);
        assert!((cost.all - 0.04).abs() < 1e-12);
        assert_eq!((class.bytes, class.cells, class.pairs), (5.0, [100, 1000], 70));
        let many = class_of(&SPECS[0], &first, &timed(1000, 42.0, 2), &each, None).expect("a class");
        assert!((many.phases["solve"].one - 0.02).abs() < 1e-12, "by iteration");
    }
}
