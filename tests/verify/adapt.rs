//! Adaptive refinement: optimal rates where uniform refinement has none, goals, and the same answer on any
//! number of ranks.

use std::time::Duration;

use serde_json::Value;

use super::best;
use super::lattice::notched;
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
    slope_of(&steps[steps.len() - 5..])
}

/// The same over all of these steps.
fn slope_of(steps: &[Value]) -> f64 {
    let points: Vec<(f64, f64)> =
        steps.iter().map(|s| (number(s, "dofs").ln(), number(s, "h1").ln())).collect();
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

/// A problem's name, and a way to make it.
type Problem = (&'static str, Box<dyn Fn() -> Case>);

/// Small problems with all that adaptation has to do with.
fn small() -> Vec<Problem> {
    let adapt = |dofs: usize| format!("max_dofs = {dofs}\nmax_steps = 60\n");
    let elastic = move |shape: &'static str, degree: usize| {
        move || {
            let rest = format!("refine = 2\n|[adapt]\n{}", adapt(5000));
            without_a_corner(shape, degree, ELASTIC, &opening(1.0, 0.3), &rest)
        }
    };
    let space = move |shape: &'static str, degree: usize| {
        move || fichera(shape, degree, 0.5, &format!("refine = 1\n|[adapt]\n{}", adapt(4000)))
    };
    vec![
        ("L, triangles", Box::new(move || corner("triangle", 2, &adapt(5000)))),
        ("L, quadrilaterals", Box::new(move || corner("quadrilateral", 1, &adapt(3000)))),
        ("Fichera, tetrahedra", Box::new(space("tetrahedron", 1))),
        ("Fichera, hexahedra", Box::new(space("hexahedron", 2))),
        ("front in the plane", Box::new(move || front("triangle", "", &format!("[adapt]\n{}", adapt(6000))))),
        ("front in space", Box::new(move || front("tetrahedron", "", &format!("[adapt]\n{}", adapt(6000))))),
        ("elasticity, triangles", Box::new(elastic("triangle", 2))),
        ("elasticity, quadrilaterals", Box::new(elastic("quadrilateral", 2))),
    ]
}

/// As many cells in every step and the same error on any number of ranks; and the ranks even, but for one cell.
fn alike(problems: &[usize], ranks: &[usize]) {
    let all = small();
    for (name, case) in problems.iter().map(|&k| &all[k]) {
        let of = |ranks: usize| case().ranks(ranks).threads(1).limit(Duration::from_secs(600)).solve();
        let alone = of(1);
        let cells = |ran: &Ran| steps(ran).iter().map(|s| number(s, "cells")).collect::<Vec<_>>();
        for &ranks in ranks {
            let ran = of(ranks);
            let off = (ran.h1() / alone.h1() - 1.0).abs();
            println!("{name}, {ranks} ranks: H1 error {:.6e}, off by {off:.1e}", ran.h1());
            assert!(off < 1e-3, "{name}, {ranks} ranks: {} against {}", ran.h1(), alone.h1());
            assert_eq!(cells(&ran), cells(&alone), "{name}, {ranks} ranks");
        }
    }
}

#[test]
fn any_number_of_ranks_adapts_alike() {
    alike(&[0, 2, 4, 7], &[2, 4]);
}

#[test]
#[ignore = "takes minutes: seven and sixteen ranks on few cores"]
fn many_ranks_adapt_alike() {
    alike(&[0, 1, 2, 3, 4, 5, 6, 7], &[2, 4, 7, 16]);
}

#[test]
fn ranks_stay_even() {
    let adapt = "max_dofs = 5000\nmax_steps = 60\ndeterministic = true\n";
    for ranks in [2, 4, 7, 16] {
        let ran = corner("triangle", 2, adapt).ranks(ranks).threads(1).solve();
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

/// The marking `auto` takes the last steps at once: fewer unknowns in all, for an error that is no larger.
#[test]
fn large_last_steps_cost_less_and_lose_nothing() {
    for (shape, degree) in [("triangle", 1), ("quadrilateral", 1)] {
        let [small, large] = ["{ dorfler = 0.5 }", "\"auto\""].map(|marking| {
            let adapt = format!("marking = {marking}\nmax_dofs = 30000\nmax_steps = 60\n");
            let ran = corner(shape, degree, &adapt).solve();
            let steps = steps(&ran);
            let all: f64 = steps.iter().map(|step| number(step, "dofs")).sum();
            // On the optimal line this is a constant.
            let n = number(steps.last().expect("a step"), "dofs");
            (all, ran.h1() * n.powf(0.5 * degree as f64))
        });
        let (cost, loss) = (large.0 / small.0, large.1 / small.1);
        println!("{shape} degree {degree}: unknowns of all solves {cost:.2}, error at as many {loss:.3}");
        assert!(cost < 0.9 && loss < 1.1, "{shape} degree {degree}: {cost} {loss}");
    }
    let [small, large] = ["{ dorfler = 0.5 }", "\"auto\""].map(|marking| {
        let adapt = format!("marking = {marking}\ntolerance = 3e-3\nmax_dofs = 10000000\nmax_steps = 60\n");
        let ran = corner("triangle", 1, &adapt).solve();
        assert_eq!(ran.report()["adapt"]["stop_reason"], "tolerance", "{marking}");
        let dofs: Vec<f64> = steps(&ran).iter().map(|step| number(step, "dofs")).collect();
        (dofs.iter().sum::<f64>(), *dofs.last().expect("a step"))
    });
    let (all, last) = (large.0 / small.0, large.1 / small.1);
    println!("to a tolerance: unknowns of all solves {all:.2}, of the last {last:.2}");
    assert!(all < 0.9 && last < 1.25, "{all} {last}");
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

/// The whole reaction, where steep layers meet the walls: `-u'' + k^2 u = 1` has `u' = tanh(k/2)/k` at both.
#[test]
fn whole_reactions_are_goals() {
    let text = "[mesh]\nbox = { size = [1, 0.5], cells = [4, 3] }\n[physics]\nlaw = \"poisson\"\nsource = 1\n\
                reaction = 400\n[boundary.walls]\non = [\"x-min\", \"x-max\"]\nvalue = 0\n\
                [[integral]]\nname = \"all\"\nof = \"reaction\"\n\
                [[integral]]\nname = \"walls\"\nover = \"walls\"\nof = \"reaction\"\n\
                [adapt]\nestimator = \"goal\"\nmax_steps = 5\n";
    let exact = -10f64.tanh() / 20.0;
    let mut sequential = Vec::new();
    for (goal, ranks) in [("all", 1), ("all", 2), ("all", 3), ("walls", 1)] {
        let ran = Case::new(&format!("{text}goal = \"{goal}\"\n")).ranks(ranks).solve();
        assert_eq!(ran.report()["adapt"]["stop_reason"], "max_steps", "{goal}");
        let steps = steps(&ran);
        let found: Vec<[f64; 2]> =
            steps.iter().map(|step| ["goal", "goal_error"].map(|key| number(step, key))).collect();
        let [value, error] = *found.last().expect("a step");
        let (index, first) = (error / (exact - value), (exact - found[0][0]).abs());
        println!("{goal} on {ranks}: {value:.6} after {:.6}, effectivity {index:.3}", found[0][0]);
        assert!((value - ran.integral("all")[0]).abs() < 1e-9, "{value}");
        assert!((exact - value).abs() < 0.1 * first && (0.7..1.4).contains(&index), "{value} {index}");
        if sequential.is_empty() {
            sequential = found;
        } else {
            let pairs = sequential.as_flattened().iter().zip(found.as_flattened());
            pairs.for_each(|(a, b)| {
                assert!((a - b).abs() < 1e-7, "{goal} on {ranks}: {found:?} {sequential:?}")
            });
        }
    }
}

/// A case on the box less a corner, refined by `refine`.
fn without_a_corner(shape: &str, degree: usize, physics: &str, exact: &str, refine: &str) -> Case {
    let key = if physics.contains("elasticity") { "displacement" } else { "value" };
    let (mesh, rest) = refine.split_once('|').expect("[mesh] and the rest");
    Case::new(&format!(
        "[mesh]\nfile = \"notch.msh\"\n{mesh}[space]\ndegree = {degree}\n[physics]\n{physics}\
         [boundary.wall]\n{key} = {exact}\n[exact]\n{key} = {exact}\n{rest}"
    ))
    .file("notch.msh", &notched(shape, 1))
}

/// The rate at which uniform refinement reduces the error: from the last two of `levels`.
fn uniform_rate(levels: &[usize], case: impl Fn(&str) -> Case) -> f64 {
    let at = |level: usize| {
        let ran = case(&format!("refine = {level}\n|")).solve();
        (ran.number("/dofs").ln(), ran.h1().ln())
    };
    let (a, b) = (at(levels[0]), at(levels[1]));
    (a.1 - b.1) / (b.0 - a.0)
}

/// An elastic body in plane strain.
const ELASTIC: &str = "law = \"elasticity\"\nyoung = 1.0\npoisson_ratio = 0.3\nplane = \"strain\"\n";

/// Fichera's domain with the solution `r^power`.
fn fichera(shape: &str, degree: usize, power: f64, refine: &str) -> Case {
    let physics = format!(
        "law = \"poisson\"\nsource = \"-{}*(x^2 + y^2 + z^2)^({})\"\n",
        power * (power + 1.0),
        0.5 * power - 1.0
    );
    let exact = format!("\"(x^2 + y^2 + z^2)^({})\"", 0.5 * power);
    without_a_corner(shape, degree, &physics, &exact, refine)
}

/// Fichera's domain with u = r^(1/4) or r^(1/2), too steep at the corner for uniform meshes: the rate of adaptive ones over
/// the last factor of ten in unknowns, over the best rate, and their errors over those of the best meshes of as
/// many cells, then and at last.
///
/// The solution has no singular edges, so that cells as long as wide have the full rate N^(-p/3), and the best
/// meshes of them have it from some hundred cells on: `best` computes that. Meshes that conform approach it from
/// above. Of a ball of cells as large as their distance from the corner there are hundreds of tetrahedra; until
/// there are some cells across each ring of these, the layers between cells of one size and the next cost more than
/// the cells, a part of all that falls like N^(-1/3).
fn in_space(shape: &str, degree: usize, dofs: usize) -> [f64; 3] {
    let power = 0.25 * degree as f64;
    let case = |refine: &str| fichera(shape, degree, power, refine);
    let adapt = "max_steps = 60\nmarking = { dorfler = 0.3 }\n";
    let adapt = format!("refine = 1\n|[adapt]\nmax_dofs = {dofs}\n{adapt}");
    let ran = case(&adapt).limit(Duration::from_secs(1500)).solve();
    let mut steps = steps(&ran);
    let most = number(steps.last().expect("a step"), "dofs");
    steps.retain(|step| number(step, "dofs") > 0.1 * most);
    let cells: Vec<f64> = steps.iter().map(|step| number(step, "cells")).collect();
    let best = best::errors(shape, degree as i32, power, &cells);
    let above: Vec<f64> = steps.iter().zip(best).map(|(step, best)| number(step, "h1") / best).collect();
    let rate = -slope_of(&steps) / (degree as f64 / 3.0);
    println!(
        "{shape} degree {degree}: {rate:.3} times the full rate, {above:.2?} times the best meshes' errors"
    );
    [rate, above[0], above[above.len() - 1]]
}

/// The rate on meshes that a test can afford, and no loss against the best ones. Hexahedra are in the asymptotic range.
#[test]
fn corners_in_space_converge_at_the_optimal_rate() {
    for (shape, degree, dofs) in [
        ("tetrahedron", 1, 30_000),
        ("tetrahedron", 2, 30_000),
        ("hexahedron", 1, 60_000),
        ("hexahedron", 2, 60_000),
    ] {
        let [rate, first, last] = in_space(shape, degree, dofs);
        let power = 0.25 * degree as f64;
        let case = |refine: &str| fichera(shape, degree, power, refine);
        let uniform = uniform_rate(if degree == 1 { &[2, 3] } else { &[1, 2] }, case) / (degree as f64 / 3.0);
        let most = if shape == "hexahedron" { 1.1 } else { 1.5 };
        assert!((0.9..most).contains(&rate), "{shape} {degree}: {rate} times the full rate");
        assert!(last < 1.05 * first && last < 2.0, "{shape} {degree}: {first}, then {last} times the best");
        // Theory: (2 a + 1) / (2 p).
        assert!(uniform < 0.9, "{shape} {degree}: uniform refinement has {uniform} times the full rate");
    }
}

/// Tetrahedra in the asymptotic range.
#[test]
#[ignore = "takes minutes: up to half a million tetrahedra"]
fn tetrahedra_converge_at_the_optimal_rate_round_a_corner_in_space() {
    for (degree, dofs) in [(1, 100_000), (2, 200_000)] {
        let [rate, first, last] = in_space("tetrahedron", degree, dofs);
        assert!((0.9..1.1).contains(&rate), "degree {degree}: {rate} times the full rate");
        assert!(last < 1.02 * first && last < 1.9, "degree {degree}: {first}, then {last} times the best");
    }
}

/// The exponent of the singular field in plane strain at a re-entrant right angle: `a sin(3 pi/2) + sin(3 pi/2 a)`
/// is 0.
const MODE_I: f64 = 0.544_483_737;

/// Displacement `[x, y]` of the symmetric singular field at the corner of an L without its first quadrant: sides of
/// the corner free of load, no body force.
/// Source: M. L. Williams, J. Appl. Mech. 19 (1952), as in J. Alberty, C. Carstensen, S. A. Funken, R. Klose, Matlab
/// implementation of the finite element method in elasticity, Computing 69 (2002).
fn opening(young: f64, nu: f64) -> String {
    let (mu, lambda) = (0.5 * young / (1.0 + nu), young * nu / ((1.0 + nu) * (1.0 - 2.0 * nu)));
    let (a, half) = (MODE_I, 0.75 * std::f64::consts::PI);
    let c1 = -((a + 1.0) * half).cos() / ((a - 1.0) * half).cos();
    let c2 = 2.0 * (lambda + 2.0 * mu) / (lambda + mu);
    // The angle from the corner's axis, which points to (-1, -1).
    let t = "atan2(x - y, -x - y)";
    let (p, q) = (a + 1.0, a - 1.0);
    let radial = format!("({}*cos({p}*{t}) + {}*cos({q}*{t}))", -p, (c2 - p) * c1);
    let turning = format!("({p}*sin({p}*{t}) + {}*sin({q}*{t}))", (c2 + q) * c1);
    let (along, across) = (
        format!("({radial}*cos({t}) - {turning}*sin({t}))"),
        format!("({radial}*sin({t}) + {turning}*cos({t}))"),
    );
    let scale = format!("(x^2 + y^2)^({})/{}", 0.5 * a, 2.0 * mu * 2f64.sqrt());
    format!("[\"({across} - {along})*{scale}\", \"-({along} + {across})*{scale}\"]")
}

#[test]
fn elastic_corners_converge_at_the_optimal_rate() {
    let exact = opening(1.0, 0.3);
    for (shape, degree, dofs) in [
        ("triangle", 1, 20_000),
        ("triangle", 2, 20_000),
        ("quadrilateral", 1, 20_000),
        ("quadrilateral", 2, 20_000),
    ] {
        let case = |refine: &str| without_a_corner(shape, degree, ELASTIC, &exact, refine);
        let uniform = uniform_rate(&[3, 4], case);
        let adapt = format!("refine = 2\n|[adapt]\nmax_dofs = {dofs}\nmax_steps = 60\n");
        let ran = case(&adapt).solve();
        let rate = -slope(&steps(&ran));
        println!("{shape} degree {degree}: H1 error like N^-{rate:.3}, uniform N^-{uniform:.3}");
        assert!((rate / (0.5 * degree as f64) - 1.0).abs() < 0.1, "{shape} {degree}: {rate}");
        assert!((uniform - 0.5 * MODE_I).abs() < 0.04, "{shape} {degree}: uniform {uniform}");
    }
}

/// A steep front, u = atan(s (r - 0.7)) with r the distance to (-0.05, ...), on a box of few cells.
fn front(shape: &str, mesh: &str, rest: &str) -> Case {
    let (dim, s, cells) = if matches!(shape, "triangle" | "quadrilateral") { (2, 60, 8) } else { (3, 20, 4) };
    let r = ["x", "y", "z"][..dim].iter().map(|x| format!("({x} + 0.05)^2")).collect::<Vec<_>>().join(" + ");
    let r = format!("sqrt({r})");
    let source = format!(
        "-{s}/(1 + ({s}*({r} - 0.7))^2)*({}/{r} - 2*{s}^2*({r} - 0.7)/(1 + ({s}*({r} - 0.7))^2))",
        dim - 1
    );
    let exact = format!("atan({s}*({r} - 0.7))");
    let sides = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"];
    Case::new(&format!(
        "[mesh]\nbox = {{ size = {:?}, cells = {:?}, shape = \"{shape}\" }}\n{mesh}[space]\ndegree = 2\n\
         [physics]\nlaw = \"poisson\"\nsource = \"{source}\"\n[boundary.sides]\non = {:?}\n\
         value = \"{exact}\"\n[exact]\nvalue = \"{exact}\"\n{rest}",
        vec![1.0; dim],
        vec![cells; dim],
        &sides[..2 * dim]
    ))
}

/// Where a front is resolved the error falls at the optimal rate, and is far below that of a uniform mesh of as many
/// unknowns.
#[test]
fn fronts_are_met_by_few_cells() {
    for (shape, dim, refine, dofs) in [
        ("triangle", 2, 4, 20_000),
        ("quadrilateral", 2, 4, 20_000),
        ("tetrahedron", 3, 2, 25_000),
        ("hexahedron", 3, 2, 25_000),
    ] {
        let uniform = front(shape, &format!("refine = {refine}\n"), "").solve();
        let adapt = format!("[adapt]\nmax_dofs = {dofs}\nmax_steps = 40\nmarking = {{ dorfler = 0.6 }}\n");
        let ran = front(shape, "", &adapt).solve();
        let steps = steps(&ran);
        let (rate, wanted) = (-slope(&steps), 2.0 / f64::from(dim));
        // The uniform mesh's error for as many unknowns as the adaptive one has.
        let fewer = (uniform.number("/dofs") / number(steps.last().expect("a step"), "dofs")).powf(wanted);
        let gain = uniform.h1() * fewer / ran.h1();
        println!("{shape}: H1 error like N^-{rate:.3}, {gain:.1} times below a uniform mesh's");
        assert!((0.9..1.6).contains(&(rate / wanted)), "{shape}: {rate}");
        assert!(gain > if dim == 2 { 4.0 } else { 2.0 }, "{shape}: {gain}");
    }
}
