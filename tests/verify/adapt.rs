//! Adaptive refinement: optimal rates where uniform refinement has none, goals, and the same answer on any
//! number of ranks.

use serde_json::Value;

use crate::common::{Case, Ran, mesh};

/// The solution at the re-entrant corner of an L-shaped domain.
const CORNER: &str = "(x^2 + y^2)^(1/3)*sin(2/3*if(y < 0, atan2(y, x) + 2*pi, atan2(y, x)))";

fn steps(ran: &Ran) -> Vec<Value> {
    ran.report()["adapt"]["steps"].as_array().expect("steps").clone()
}

fn number(step: &Value, key: &str) -> f64 {
    step[key].as_f64().unwrap_or_else(|| panic!("{key} of {step}"))
}

/// The slope of log(error) against log(dofs) by least squares, over the last steps.
fn slope(steps: &[Value]) -> f64 {
    let last = &steps[steps.len() - 5..];
    let points: Vec<(f64, f64)> =
        last.iter().map(|s| (number(s, "dofs").ln(), number(s, "h1").ln())).collect();
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let (xy, xx) =
        points.iter().fold((0.0, 0.0), |s, p| (s.0 + (p.0 - mx) * (p.1 - my), s.1 + (p.0 - mx) * (p.0 - mx)));
    xy / xx
}

fn corner(shape: &str, degree: usize, adapt: &str) -> Case {
    let (file, refine) = if shape == "triangle" { ("l-shape.msh", 2) } else { ("l-shape-quad.msh", 3) };
    let text = if shape == "triangle" {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/l-shape/l-shape.msh");
        std::fs::read_to_string(folder).expect("the example's mesh")
    } else {
        std::fs::read_to_string(mesh("l-shape-quad.msh")).expect("the test's mesh")
    };
    Case::new(&format!(
        "[mesh]\nfile = \"{file}\"\nrefine = {refine}\n[space]\ndegree = {degree}\n[physics]\nlaw = \"poisson\"\n\
         [boundary.wall]\nvalue = \"{CORNER}\"\n[exact]\nvalue = \"{CORNER}\"\n[adapt]\n{adapt}"
    ))
    .file(file, &text)
}

#[test]
fn corners_converge_at_the_optimal_rate() {
    for (shape, degree, dofs) in [
        ("triangle", 1, 30_000),
        ("triangle", 2, 30_000),
        ("quadrilateral", 1, 20_000),
        ("quadrilateral", 2, 20_000),
    ] {
        for estimator in ["kelly", "recovery"] {
            let adapt = format!("estimator = \"{estimator}\"\nmax_dofs = {dofs}\nmax_steps = 60\n");
            let ran = corner(shape, degree, &adapt).solve();
            let steps = steps(&ran);
            let rate = -slope(&steps);
            let wanted = 0.5 * degree as f64;
            println!(
                "{shape} degree {degree} {estimator}: H1 error like N^-{rate:.3}, {} steps",
                steps.len()
            );
            assert!((rate / wanted - 1.0).abs() < 0.1, "{shape} {degree} {estimator}: {rate}");
            let last = steps.last().expect("a step");
            let efficiency = number(last, "efficiency");
            assert!(
                (0.5..5.0).contains(&efficiency),
                "{shape} {degree} {estimator}: efficiency {efficiency}"
            );
            let reached = number(last, "dofs") / f64::from(dofs);
            assert!(
                (0.9..1.1).contains(&reached),
                "{shape} {degree} {estimator}: ends at {reached} of max_dofs"
            );
        }
    }
}

#[test]
fn any_number_of_ranks_adapts_alike() {
    let adapt = "max_dofs = 6000\nmax_steps = 60\ndeterministic = true\n";
    let alone = corner("triangle", 2, adapt).ranks(1).threads(1).solve();
    for ranks in [2, 4, 7] {
        let ran = corner("triangle", 2, adapt).ranks(ranks).threads(1).solve();
        let off = (ran.h1() / alone.h1() - 1.0).abs();
        println!("{ranks} ranks: H1 error {:.6e}, off by {off:.1e}", ran.h1());
        assert!(off < 1e-3, "{ranks} ranks: {} against {}", ran.h1(), alone.h1());
        for step in steps(&ran).iter().filter(|s| number(s, "cells") > 100.0 * ranks as f64) {
            // Balanced but for one cell.
            let (imbalance, share) = (number(step, "imbalance_after"), ranks as f64 / number(step, "cells"));
            assert!(imbalance <= 1.05 + 2.0 * share, "{ranks} ranks: {step}");
        }
    }
}

#[test]
fn a_tolerance_and_a_limit_of_steps_end_the_loop() {
    let ran = corner("triangle", 2, "tolerance = 1e-2\n").solve();
    assert_eq!(ran.report()["adapt"]["stop_reason"], "tolerance");
    let ran = corner("triangle", 1, "max_steps = 3\nmarking = { fraction = 0.3 }\n").solve();
    assert_eq!(ran.report()["adapt"]["stop_reason"], "max_steps");
    assert_eq!(steps(&ran).len(), 4);
}

/// The value at a point behind the corner: the estimate of its error is the error, and its sign.
#[test]
fn goals_are_met() {
    let exact: f64 = (0.5f64 * 0.5 + 0.25 * 0.25).powf(1.0 / 3.0) * (2.0 / 3.0 * 0.25f64.atan2(-0.5)).sin();
    let adapt = "estimator = \"goal\"\ngoal = \"behind\"\nmax_dofs = 4000\nmax_steps = 30\n\
                 [[probe]]\nname = \"behind\"\nat = [-0.5, 0.25]\nfield = \"u\"\n";
    let ran = corner("triangle", 1, adapt).solve();
    let steps = steps(&ran);
    let last = steps.last().expect("a step");
    let error = exact - number(last, "goal");
    let index = number(last, "goal_error") / error;
    println!(
        "error of the goal {error:.3e}, estimated {:.3e}, in {} steps",
        number(last, "goal_error"),
        steps.len()
    );
    assert!(error.abs() < 2e-4, "{error}");
    assert!((0.5..2.0).contains(&index), "effectivity {index}");
}
