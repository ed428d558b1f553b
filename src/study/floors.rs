//! What each phase of a run must cost at least: the bytes that it cannot but read and write and the
//! arithmetic it cannot but do, at the rates of a machine.
//!
//! Imports `case`, `element` and `run`. Start at [`floors`]. The model is in docs/benchmarks.md, formula by
//! formula; each counts every array once, as if caches were perfect and nothing else were needed.

use crate::case::{Case, MeshSource};
use crate::element::{Quadrature, Shape};
use crate::law::expr::{Expr, Var};
use crate::run::sizes::{Cells, Sizes};

use super::machine::Machine;

/// What is known of a run beside its case.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The problem's sizes.
    pub sizes: &'a Sizes,
    /// Vertices of the mesh.
    pub vertices: u64,
    /// Space dimension.
    pub dimension: usize,
    /// Iterations of the solver.
    pub iterations: u64,
    /// Bytes of the files it left.
    pub output_bytes: u64,
    /// Ranks.
    pub ranks: usize,
    /// Threads of each.
    pub threads: usize,
}

/// The least a phase can take.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor {
    /// The phase.
    pub phase: &'static str,
    /// Bytes to memory and from it.
    pub bytes: f64,
    /// Multiplications and additions.
    pub flops: f64,
    /// Seconds of the bytes, those of files included.
    pub by_bytes: f64,
    /// Seconds of the arithmetic.
    pub by_flops: f64,
}

/// Points of the rule of that degree.
fn n_points(cells: &Cells, degree: usize) -> f64 {
    let rule = Shape::parse(&cells.shape).and_then(|shape| Quadrature::new(shape, degree).ok());
    rule.map_or(0.0, |rule| rule.len() as f64)
}

/// Operations of expressions that are not constant.
fn operations<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> f64 {
    let varying = exprs.into_iter().filter(|e| e.as_constant().is_none());
    varying.map(|e| e.n_operations() as f64).sum()
}

/// The least that each phase of a run can take, in the order of a run. A phase of which nothing is known is
/// not there.
pub fn floors(case: &Case, facts: &Facts, machine: &Machine) -> Vec<Floor> {
    let Facts { sizes, vertices, dimension, iterations, output_bytes, ranks, threads } = *facts;
    let n = ranks * threads;
    let over_cells =
        |f: &dyn Fn(&Cells) -> f64| sizes.cells.iter().map(|c| c.cells as f64 * f(c)).sum::<f64>();
    let (c, nodes, pairs) = (sizes.components as f64, sizes.nodes as f64, sizes.pairs as f64);
    let dofs = nodes * c;
    // Every cell's nodes as 32-bit numbers, every vertex's three coordinates.
    let geometry = over_cells(&|cells| 4.0 * cells.geometry_nodes as f64);
    let numbering = over_cells(&|cells| 4.0 * cells.nodes as f64);
    let coordinates = 24.0 * vertices as f64;
    let facets = |cells: &Cells| {
        Shape::parse(&cells.shape).map_or(0.0, |shape| shape.n_entities(dimension - 1) as f64)
    };
    let pattern = 4.0 * pairs + 8.0 * nodes;
    let values = 8.0 * pairs * c * c;
    let matrix = pattern + values;
    let degree = case.degree;

    let coefficients =
        case.physics.coefficients.iter().chain(case.regions.iter().flat_map(|r| &r.coefficients));
    let coefficient_work = operations(coefficients.flat_map(|c| c.value.exprs()));
    // Two operations for each entry of the residual at each point and each entry of the element matrix.
    let assembly = over_cells(&|cells| {
        let local = cells.nodes as f64 * c;
        let points = n_points(cells, 2 * degree);
        points * (coefficient_work + 2.0 * local) + 2.0 * local * local
    });
    let exact: Vec<Expr> = case
        .exact
        .iter()
        .flat_map(|exact| &exact.components)
        .flat_map(|e| std::iter::once(e.clone()).chain((0..dimension).map(|d| e.derivative(Var::axis(d)))))
        .collect();
    let errors = if exact.is_empty() {
        0.0
    } else {
        let per_point = operations(&exact);
        over_cells(&|cells| {
            n_points(cells, 2 * degree + 4)
                * (per_point + 2.0 * (1.0 + dimension as f64) * cells.nodes as f64 * c)
        })
    };
    let input = match &case.mesh.source {
        MeshSource::File(path) => std::fs::metadata(path).map_or(0.0, |m| m.len() as f64),
        MeshSource::Box(_) => 0.0,
    };
    // A product with the matrix reads a vector and writes one; conjugate gradients touch twelve in all.
    let vectors = 12.0 * 8.0 * dofs;
    let steps = iterations as f64;

    let make = |phase, bytes: f64, file: f64, flops: f64| Floor {
        phase,
        bytes,
        flops,
        by_bytes: bytes / machine.triad.of(n) + file / machine.file_write.of(n),
        by_flops: flops / machine.flops.of(n),
    };
    let partition = if ranks > 1 { over_cells(&|cells| 4.0 * (1.0 + facets(cells))) } else { 0.0 };
    let output = if exact.is_empty() { 0.0 } else { geometry + coordinates + numbering + 8.0 * dofs };
    vec![
        make("mesh", input + geometry + coordinates, 0.0, 0.0),
        make("partition", partition, 0.0, 0.0),
        make("space", geometry + numbering + 9.0 * dofs, 0.0, 0.0),
        make("pattern", numbering + pattern, 0.0, 0.0),
        make("assemble", numbering + geometry + coordinates + pattern + values + 8.0 * dofs, 0.0, assembly),
        make("pc_setup", matrix, 0.0, 2.0 * pairs * c * c),
        make("solve", steps * (matrix + vectors), 0.0, steps * (2.0 * pairs * c * c + 12.0 * dofs)),
        make("output", output, output_bytes as f64, errors),
    ]
}

/// The least that each phase of an adaptive run can take, from the facts of its steps. The mesh is read and dealt out
/// once; what refines it, estimates errors and moves cells between steps is not counted and not there.
pub fn of_steps(case: &Case, steps: &[Facts], machine: &Machine) -> Vec<Floor> {
    let mut sums: Vec<Floor> = Vec::new();
    for (k, facts) in steps.iter().enumerate() {
        for floor in floors(case, facts, machine) {
            match sums.iter_mut().find(|sum| sum.phase == floor.phase) {
                None => sums.push(floor),
                Some(_) if ["mesh", "partition"].contains(&floor.phase) && k > 0 => {}
                Some(sum) => {
                    sum.bytes += floor.bytes;
                    sum.flops += floor.flops;
                    sum.by_bytes += floor.by_bytes;
                    sum.by_flops += floor.by_flops;
                }
            }
        }
    }
    sums
}

/// The floors beside what was measured.
pub fn text(floors: &[Floor], measured: impl Fn(&str) -> Option<f64>) -> String {
    let width = floors.iter().map(|f| f.phase.len()).max().unwrap_or(0).max(5);
    let mut out = format!(
        "{:width$} {:>10} {:>11} {:>11} {:>7}\n",
        "phase", "measured s", "by bytes s", "by flops s", "ratio"
    );
    let line = |name: &str, seconds: f64, by_bytes: f64, by_flops: f64, least: f64| {
        let ratio = if least > 0.0 { format!("{:7.1}", seconds / least) } else { format!("{:>7}", "-") };
        format!("{name:width$} {seconds:10.3} {by_bytes:11.4} {by_flops:11.4} {ratio}\n")
    };
    let (mut all, mut bytes, mut flops, mut least) = (0.0, 0.0, 0.0, 0.0);
    for floor in floors {
        let Some(seconds) = measured(floor.phase) else { continue };
        let larger = floor.by_bytes.max(floor.by_flops);
        (all, bytes, flops) = (all + seconds, bytes + floor.by_bytes, flops + floor.by_flops);
        least += larger;
        out += &line(floor.phase, seconds, floor.by_bytes, floor.by_flops, larger);
    }
    out + &line("sum", all, bytes, flops, least)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::machine::Rate;
    use super::*;

    fn machine() -> Machine {
        let rate = |x| Rate { one: x, all: 2.0 * x };
        Machine {
            schema: super::super::machine::SCHEMA,
            processor: "one".into(),
            ranks: 2,
            triad: rate(1e9),
            read: rate(1e9),
            flops: rate(1e10),
            file_write: rate(1e8),
            messages: None,
            nodes: 1,
            costs: None,
        }
    }

    fn case(extra: &str) -> Case {
        let text = format!(
            "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1, 1], cells = [10, 10, 10] }}\n[physics]\nlaw = \"poisson\"\n\
             source = 1\n[boundary.a]\non = [\"x-min\"]\nvalue = 0\n{extra}"
        );
        Case::parse(Path::new("a.toml"), &text, &[]).expect("a case")
    }

    fn sizes() -> Sizes {
        let cells =
            Cells { shape: "tetrahedron".into(), cells: 6000, geometry_nodes: 4, nodes: 4, affine: true };
        Sizes { cells: vec![cells], nodes: 1331, components: 1, pairs: 18_000 }
    }

    fn of(case: &Case, ranks: usize, output_bytes: u64) -> Vec<Floor> {
        let sizes = sizes();
        let facts = Facts {
            sizes: &sizes,
            vertices: 1331,
            dimension: 3,
            iterations: 10,
            output_bytes,
            ranks,
            threads: 1,
        };
        floors(case, &facts, &machine())
    }

    fn phase<'a>(floors: &'a [Floor], name: &str) -> &'a Floor {
        floors.iter().find(|f| f.phase == name).expect("a phase")
    }

    #[test]
    fn every_array_counts_once() {
        let found = of(&case(""), 1, 0);
        assert_eq!(phase(&found, "mesh").bytes, (6000 * 4 * 4 + 24 * 1331) as f64);
        assert_eq!(phase(&found, "partition").bytes, 0.0);
        let pattern = 4.0 * 18_000.0 + 8.0 * 1331.0;
        assert_eq!(phase(&found, "pattern").bytes, 6000.0 * 16.0 + pattern);
        let matrix = pattern + 8.0 * 18_000.0;
        assert_eq!(phase(&found, "solve").bytes, 10.0 * (matrix + 96.0 * 1331.0));
        assert!((phase(&found, "solve").by_bytes - phase(&found, "solve").bytes / 1e9).abs() < 1e-15);
        assert_eq!(phase(&found, "output").flops, 0.0, "no exact solution");
    }

    #[test]
    fn two_ranks_take_half_and_partition() {
        let (one, two) = (of(&case(""), 1, 1000), of(&case(""), 2, 1000));
        for name in ["mesh", "assemble", "output"] {
            let (one, two) = (phase(&one, name), phase(&two, name));
            assert!((two.by_bytes - 0.5 * one.by_bytes).abs() < 1e-15, "{name}");
        }
        assert_eq!(phase(&two, "partition").bytes, 6000.0 * 4.0 * 5.0);
    }

    #[test]
    fn steps_add_up_but_for_the_mesh() {
        let (case, sizes) = (case(""), sizes());
        let facts = |iterations: u64, output_bytes: u64| Facts {
            sizes: &sizes,
            vertices: 1331,
            dimension: 3,
            iterations,
            output_bytes,
            ranks: 2,
            threads: 1,
        };
        let found = of_steps(&case, &[facts(10, 0), facts(20, 0), facts(30, 1000)], &machine());
        let once = of(&case, 2, 0);
        for name in ["mesh", "partition"] {
            assert_eq!(phase(&found, name), phase(&once, name));
        }
        for (name, times) in [("space", 3.0), ("assemble", 3.0), ("solve", 6.0)] {
            let (all, one) = (phase(&found, name), phase(&once, name));
            for (all, one) in [(all.bytes, one.bytes), (all.flops, one.flops), (all.by_bytes, one.by_bytes)] {
                assert!((all - times * one).abs() <= 1e-12 * all, "{name}: {all} of {times} times {one}");
            }
        }
        assert!((phase(&found, "output").by_bytes - 1000.0 / 2e8).abs() < 1e-15, "files are written once");
    }

    #[test]
    fn expressions_are_work() {
        let constant = of(&case(""), 1, 0);
        let exact = of(&case("[exact]\nvalue = \"sin(x)*y\"\n"), 1, 0);
        assert!(phase(&exact, "output").flops > 6000.0 * 24.0, "a rule of degree 6 has 24 points");
        assert_eq!(phase(&exact, "assemble").flops, phase(&constant, "assemble").flops);
    }

    #[test]
    fn the_table_leaves_out_what_was_not_measured() {
        let found = of(&case(""), 1, 0);
        let shown = text(&found, |name| (name == "mesh").then_some(1.0));
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(shown.contains("sum"), "{shown}");
    }
}
