//! The model on costs in round numbers.

use std::path::Path;

use super::*;
use crate::case::Case;
use crate::study::costs::tests::round_costs;
use crate::study::machine::SCHEMA;

pub(crate) fn machine(ranks: usize) -> Machine {
    let rate = |x: f64| Rate { one: x, all: 0.75 * ranks as f64 * x };
    Machine {
        schema: SCHEMA,
        processor: "round".into(),
        ranks,
        triad: rate(1e10),
        read: rate(1e10),
        flops: rate(1e10),
        file_write: rate(1e9),
        messages: Some(Messages { latency: 1e-6, bandwidth: 1e10, allreduce: 2e-6 }),
        nodes: 1,
        costs: Some(round_costs()),
    }
}

pub(crate) fn problem(n: usize, rest: &str) -> Problem {
    let text = format!(
        "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1, 1], cells = [{n}, {n}, {n}], shape = \"tetrahedron\" }}\n\
         [physics]\nlaw = \"poisson\"\nsource = 1\n[boundary.a]\non = [\"x-min\"]\nvalue = 0\n{rest}"
    );
    Problem::of(&Case::parse(Path::new("a.toml"), &text, &[]).expect("a case")).expect("a size")
}

fn on(problem: &Problem, machine: &Machine, nodes: usize, ranks: usize, threads: usize) -> Prediction {
    let costs = machine.costs.as_ref().expect("costs");
    let setting = Setting { machine, costs, network: SLOW_NETWORK };
    predict(problem, &setting, Layout { nodes, ranks, threads })
}

#[test]
fn one_rank_pays_the_slope_and_the_fixed_cost() {
    let (problem, machine) = (problem(50, ""), machine(2));
    let found = on(&problem, &machine, 1, 1, 1);
    // A microsecond a cell and a millisecond.
    assert!((found.seconds("assemble") - 0.751).abs() < 1e-9, "{found:?}");
    assert_eq!(found.seconds("start"), 0.05);
    assert!(found.phases.iter().all(|phase| phase.messages == 0.0));
    let sum: f64 = found.phases.iter().map(|phase| phase.seconds).sum();
    assert!((found.total - sum).abs() < 1e-12);
    assert_eq!((found.dofs, found.solves), (51 * 51 * 51, 1));
}

#[test]
fn two_ranks_contend_and_four_on_two_nodes_do_not_more() {
    let (problem, machine) = (problem(50, ""), machine(2));
    let work = |p: &Prediction| {
        p.seconds("assemble")
            - p.phases.iter().find(|r| r.name == "assemble").map_or(0.0, |r| r.messages)
            - 1e-3
    };
    let two = on(&problem, &machine, 1, 2, 1);
    let visited = 1.0 + ghosts(&problem, 2);
    assert!((work(&two) - 0.375 * 1.5 * IMBALANCE * visited).abs() < 1e-9, "{two:?}");
    let four = on(&problem, &machine, 2, 4, 1);
    let visited = 1.0 + ghosts(&problem, 4);
    assert!((work(&four) - 0.1875 * 1.5 * IMBALANCE * visited).abs() < 1e-9, "{four:?}");
    assert!(four.seconds("solve") > 0.0 && two.total < on(&problem, &machine, 1, 1, 1).total);
}

#[test]
fn more_ranks_cost_more_messages_until_they_do_not_pay() {
    let (problem, machine) = (problem(30, ""), machine(64));
    let times: Vec<f64> = [1, 4, 16, 64].iter().map(|&p| on(&problem, &machine, 1, p, 1).total).collect();
    assert!(times[1] < times[0], "{times:?}");
    let far = on(&problem, &machine, 1000, 64_000, 1);
    assert!(far.total > times[3], "64,000 ranks are too many for 30,000 unknowns");
    let share = |p: &Prediction| p.phases.iter().map(|r| r.messages).sum::<f64>() / p.total;
    assert!(share(&far) > share(&on(&problem, &machine, 1, 4, 1)));
}

#[test]
fn memory_is_shared_and_never_less_than_a_process() {
    let (problem, machine) = (problem(100, ""), machine(2));
    let (one, two) = (on(&problem, &machine, 1, 1, 1), on(&problem, &machine, 1, 2, 1));
    assert!(two.memory_rank < one.memory_rank && two.memory_node > one.memory_node);
    assert!(two.memory_rank > 5e7);
}

#[test]
fn ghosts_are_a_layer_on_the_cut_sides() {
    let problem = problem(100, "");
    assert_eq!(ghosts(&problem, 1), 0.0);
    let eight = ghosts(&problem, 8);
    assert!(
        (eight - ((51.0f64 / 50.0).powi(3) - 1.0)).abs() < 1e-12,
        "one side of each axis is cut: {eight}"
    );
}

#[test]
fn iterations_by_method() {
    let machine = machine(2);
    let class = &machine.costs.as_ref().expect("costs").classes[1];
    let multigrid = iterations(&problem(100, ""), class);
    assert!(multigrid > 12.0 && multigrid < 20.0, "{multigrid}");
    let tight = iterations(&problem(100, "[solver]\ntolerance = 1e-4\n"), class);
    assert!((tight / multigrid - 0.5).abs() < 1e-9);
    let jacobi = |n| iterations(&problem(n, "[solver]\nmethod = \"cg+jacobi\"\n"), class);
    assert!((jacobi(100) / jacobi(50) - 2.0).abs() < 1e-9, "as the cells along a side");
}

#[test]
fn an_adaptive_loop_is_a_series_up_to_its_limit() {
    let found = problem(10, "[adapt]\nmax_dofs = 100000\nmax_steps = 60\n");
    let factors = steps(&found);
    assert!(factors.windows(2).all(|f| f[1] > f[0]) && factors.len() > 3);
    let last = found.scaled(*factors.last().expect("a step"));
    assert!((last.dofs() as f64 / 1e5 - 1.0).abs() < 0.03, "{}", last.dofs());
    let machine = machine(2);
    let predicted = on(&found, &machine, 1, 2, 1);
    assert_eq!(predicted.solves, factors.len());
    assert!(predicted.seconds("estimate") > 0.0 && predicted.seconds("rebalance") > 0.0);
    let cut = problem(10, "[adapt]\nmax_dofs = 100000\nmax_steps = 2\n");
    assert_eq!(steps(&cut).len(), 3);
}
