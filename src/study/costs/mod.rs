//! What each phase of a run costs on this machine, by kind of problem: measured on small real problems, stored in
//! `machine.json`, and looked up when a run is planned.
//!
//! Imports `element` and its siblings. Start at [`Costs`]; [`samples`] measures them.

pub mod files;
pub mod samples;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::element::Shape;

/// What one phase takes: `fixed + cells * one` seconds on one rank alone. With all ranks of the calibration at work,
/// each on a problem of its own, a cell takes `all`: the difference is what they take from each other.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PhaseCost {
    /// Seconds whatever the size.
    pub fixed: f64,
    /// Seconds a cell (and iteration, for `solve`) on one rank alone.
    pub one: f64,
    /// The same when every rank works.
    pub all: f64,
}

/// A kind of problem that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Shape of the cells, by its name.
    pub shape: String,
    /// Degree of the space.
    pub degree: usize,
    /// Unknowns at a node.
    pub components: usize,
    /// Cells of the smaller and the larger problem.
    pub cells: [u64; 2],
    /// Pairs of nodes that the matrix of the larger one couples.
    pub pairs: u64,
    /// Nodes of the larger one.
    pub nodes: u64,
    /// Iterations of both.
    pub iterations: [u64; 2],
    /// By phase; `solve` by iteration, `other` is what lies between the phases.
    pub phases: BTreeMap<String, PhaseCost>,
    /// Seconds a cell that assembly takes more where a coefficient varies, its evaluation left out.
    pub varying: f64,
    /// Seconds a cell that the output takes more with an exact solution, its evaluation left out.
    pub exact: f64,
    /// Bytes a cell at the peak, beside those of the process.
    pub bytes: f64,
}

/// What reading and partitioning a mesh file takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FileCosts {
    /// Seconds a byte of text, on the rank that reads it.
    pub text: f64,
    /// Seconds a cell of a binary file.
    pub binary: PhaseCost,
    /// Seconds a cell of a mesh that an earlier run partitioned, or that femdd wrote.
    pub stored: PhaseCost,
    /// Seconds a cell of partitioning it, keeping the result included.
    pub partition: PhaseCost,
}

/// What adaptive loops add.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LoopCosts {
    /// Dimension.
    pub dimension: usize,
    /// Seconds a cell of a mesh to estimate its errors.
    pub estimate: f64,
    /// Seconds a cell to refine to the next mesh.
    pub refine: f64,
    /// Seconds a cell to move cells between ranks.
    pub rebalance: f64,
    /// Iterations of a later step over those of the first: they start from the last solution.
    pub warm: f64,
}

/// How much faster phases are on several threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadCosts {
    /// How many threads.
    pub threads: usize,
    /// By phase, the time on one thread over that on so many.
    pub speedup: BTreeMap<String, f64>,
}

/// What phases cost on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Seconds from the command to the first rank's work, with `mpirun` and all ranks.
    pub start: f64,
    /// The same of one rank by itself, where it was measured.
    pub start_alone: Option<f64>,
    /// Bytes of a process that has done nothing yet.
    pub process: f64,
    /// Seconds a point of [`files::REFERENCE`], the expression that others are compared with.
    pub expression: f64,
    /// Kinds of problems.
    pub classes: Vec<Class>,
    /// Mesh files.
    pub files: Option<FileCosts>,
    /// Adaptive loops.
    pub loops: Vec<LoopCosts>,
    /// Threads.
    pub threads: Option<ThreadCosts>,
}

/// Phases in the order of a run.
pub const PHASES: [&str; 8] =
    ["mesh", "partition", "space", "pattern", "assemble", "pc_setup", "solve", "output"];

/// How much a kind of problem costs that may not have been measured itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<'a> {
    /// What was measured.
    pub class: &'a Class,
    /// Whether it is the very kind.
    pub same: bool,
}

fn near(class: &Class, shape: Shape, degree: usize, components: usize) -> [usize; 5] {
    let other = Shape::parse(&class.shape);
    let dim = other.map_or(9, Shape::dim).abs_diff(shape.dim());
    let simplex = usize::from(other.is_none_or(|other| other.is_simplex() != shape.is_simplex()));
    let scalar = usize::from((class.components > 1) != (components > 1));
    [dim, scalar, simplex, class.degree.abs_diff(degree), class.components.abs_diff(components)]
}

impl Costs {
    /// The kind of problem nearest to one: of its dimension first, then scalar or vector, then of simplices or
    /// not, then by degree.
    pub fn find(&self, shape: Shape, degree: usize, components: usize) -> Option<Found<'_>> {
        let class = self.classes.iter().min_by_key(|class| near(class, shape, degree, components))?;
        Some(Found { class, same: near(class, shape, degree, components) == [0; 5] })
    }

    /// What adaptive loops cost in a dimension.
    pub fn adaptive(&self, dimension: usize) -> Option<&LoopCosts> {
        self.loops.iter().min_by_key(|costs| costs.dimension.abs_diff(dimension))
    }

    /// How much faster a phase is on some threads, by Amdahl's law from what was measured; half of the work is
    /// taken to be shared where nothing was.
    pub fn speedup(&self, phase: &str, threads: usize) -> f64 {
        let shared = match &self.threads {
            Some(measured) if measured.threads > 1 => {
                let speedup = measured.speedup.get(phase).copied().unwrap_or(1.0).max(1.0);
                (1.0 - 1.0 / speedup) / (1.0 - 1.0 / measured.threads as f64)
            }
            _ => 0.5,
        };
        let shared = shared.clamp(0.0, 1.0);
        1.0 / (1.0 - shared + shared / threads.max(1) as f64)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Costs in round numbers: each phase a microsecond a cell on one rank and two when two work.
    pub(crate) fn round_costs() -> Costs {
        let class = |shape: &str, degree: usize, components: usize| {
            let cost = PhaseCost { fixed: 1e-3, one: 1e-6, all: 1.5e-6 };
            Class {
                shape: shape.into(),
                degree,
                components,
                cells: [1000, 10_000],
                pairs: 25_000 * (degree * degree) as u64,
                nodes: 2000,
                iterations: [10, 12],
                phases: PHASES.iter().map(|&p| (p.to_owned(), cost)).collect(),
                varying: 0.0,
                exact: 0.0,
                bytes: 500.0,
            }
        };
        let cost = PhaseCost { fixed: 0.0, one: 1e-6, all: 1e-6 };
        Costs {
            start: 0.2,
            start_alone: Some(0.05),
            process: 5e7,
            expression: 1e-8,
            classes: vec![
                class("triangle", 1, 1),
                class("tetrahedron", 1, 1),
                class("tetrahedron", 2, 1),
                class("hexahedron", 1, 1),
                class("tetrahedron", 1, 3),
            ],
            files: Some(FileCosts { text: 1e-8, binary: cost, stored: cost, partition: cost }),
            loops: vec![LoopCosts { dimension: 2, estimate: 1e-6, refine: 1e-6, rebalance: 1e-6, warm: 0.5 }],
            threads: None,
        }
    }

    #[test]
    fn the_nearest_kind_is_found() {
        let costs = round_costs();
        let of = |shape, degree, components| {
            let found = costs.find(shape, degree, components).expect("a class");
            (found.class.shape.clone(), found.class.degree, found.class.components, found.same)
        };
        assert_eq!(of(Shape::Tetrahedron, 2, 1), ("tetrahedron".into(), 2, 1, true));
        assert_eq!(of(Shape::Tetrahedron, 4, 1), ("tetrahedron".into(), 2, 1, false));
        assert_eq!(of(Shape::Quadrilateral, 1, 1), ("triangle".into(), 1, 1, false));
        assert_eq!(of(Shape::Hexahedron, 2, 3), ("tetrahedron".into(), 1, 3, false));
    }

    #[test]
    fn threads_follow_amdahl() {
        let mut costs = round_costs();
        assert_eq!(costs.speedup("solve", 1), 1.0);
        assert!((costs.speedup("solve", 2) - 4.0 / 3.0).abs() < 1e-12, "half is shared unless measured");
        let speedup = [("solve".to_owned(), 4.0 / 3.0)].into();
        costs.threads = Some(ThreadCosts { threads: 2, speedup });
        assert!((costs.speedup("solve", 2) - 4.0 / 3.0).abs() < 1e-12);
        assert!((costs.speedup("solve", 4) - 1.6).abs() < 1e-12);
        assert_eq!(costs.speedup("partition", 8), 1.0, "not faster on two: not faster on more");
    }
}
