//! Estimates on several ranks and threads, of solutions in the space, and where diffusion jumps.

use cluster::Comm;
use femdd::adapt::{estimate, transfer};
use femdd::element::Shape;
use femdd::law::expr::Expr;
use femdd::law::{Diffusion, Elasticity, Law, Plane};

use super::kelly::{SMOOTH, body, energy_error, scalar};
use super::launch::under_mpi;
use super::problems::{Setting, divide, expr, slope, solve, unit};

/// Sums that see each cell's own indicator: weighted by what the cell's number says.
fn fingerprint<L: Law<D, C>, const D: usize, const C: usize>(
    comm: &Comm,
    shape: Shape,
    n: u64,
    setting: &Setting<L>,
) -> Vec<f64> {
    let mesh = unit(comm, shape, n);
    solve::<L, D, C, _>(comm, &mesh, setting, |s| {
        // No solution, whose last bits are the solver's.
        let at = |x: &[f64; 3], c: usize| (3.0 * x[0] + (1 + c) as f64 * x[1] * x[1] - 2.0 * x[2]).sin();
        let x = s.space.coordinates(s.mesh);
        let u: Vec<f64> = x.iter().flat_map(|x| (0..C).map(|c| at(x, c))).collect();
        let u = &u;
        let kelly = estimate::kelly(s.problem, s.facets, s.essential, u).expect("an estimate");
        let recovery = estimate::recovery(s.problem, u).expect("an estimate");
        let ids: Vec<u64> = mesh.blocks.iter().flat_map(|b| b.ids[..b.n_owned].iter().copied()).collect();
        let weighted = |values: &[f64]| {
            let terms = values.iter().zip(&ids).map(|(v, id)| v * (1 + id % 11) as f64);
            comm.sum(terms.sum::<f64>())
        };
        let norm = estimate::energy_norm(s.problem, u).expect("a norm");
        vec![kelly.total, weighted(&kelly.indicators), recovery.total, weighted(&recovery.indicators), norm]
    })
}

fn fingerprints(comm: &Comm) -> Vec<f64> {
    let (k, c) = (expr("exp(x)*(1 + 0.3*sin(3*y))"), expr("2 + x"));
    let mut all = Vec::new();
    for (shape, n, degree) in [(Shape::Triangle, 17, 2), (Shape::Quadrilateral, 13, 1)] {
        let s = scalar(Diffusion, 2, degree, &k, &c, None, &expr(SMOOTH[1]));
        all.extend(fingerprint::<_, 2, 1>(comm, shape, n, &s));
    }
    for (shape, n, degree) in [(Shape::Tetrahedron, 6, 2), (Shape::Hexahedron, 5, 2)] {
        let s = scalar(Diffusion, 3, degree, &k, &c, None, &expr(SMOOTH[2]));
        all.extend(fingerprint::<_, 3, 1>(comm, shape, n, &s));
    }
    let u = ["sin(2*x + 0.3)", "cos(1.5*y)*x"].map(expr);
    let s = body(2, 1, Plane::Strain, &expr("exp(0.5*x)"), 0.3, &u);
    all.extend(fingerprint::<Elasticity, 2, 2>(comm, Shape::Triangle, 15, &s));
    all
}

#[test]
fn estimates_do_not_depend_on_ranks_and_threads() {
    let test = "parallel::estimates_do_not_depend_on_ranks_and_threads";
    let all = under_mpi(test, &[1, 2, 3, 4], 1, fingerprints);
    for figures in &all {
        for (k, (a, b)) in figures.iter().zip(&all[0]).enumerate() {
            assert!((a / b - 1.0).abs() < 1e-8, "{k}: {all:?}");
        }
    }
    if !all.is_empty() {
        for (a, b) in under_mpi(test, &[1, 2], 3, fingerprints).iter().zip(&all) {
            assert_eq!(a, b, "threads");
        }
    }
}

/// Estimates over the energy norm where the solution is in the space.
fn polynomials(comm: &Comm) -> Vec<f64> {
    let mut all = Vec::new();
    for (shape, n) in
        [(Shape::Interval, 7), (Shape::Triangle, 5), (Shape::Quadrilateral, 4), (Shape::Tetrahedron, 3)]
    {
        for degree in 1..=4 {
            let dim = shape.dim();
            let u = ["1 + x - 2*y + 0.5*z", "x*x - x*y + z", "x^3 - x*y*y + z*x*x", "x^4 + y^3*z - x*x*y*y"];
            let u = expr(u[degree - 1]);
            let s = scalar(Diffusion, dim, degree, &expr("2"), &expr("1"), None, &u);
            let mesh = unit(comm, shape, n);
            let look = |s: &super::problems::Solved| {
                let kelly = estimate::kelly(s.problem, s.facets, s.essential, s.u).expect("an estimate");
                let recovery = estimate::recovery(s.problem, s.u).expect("an estimate");
                let norm = estimate::energy_norm(s.problem, s.u).expect("a norm");
                vec![kelly.total / norm, recovery.total / norm]
            };
            all.extend(match dim {
                1 => solve::<_, 1, 1, _>(comm, &mesh, &s, look),
                2 => solve::<_, 2, 1, _>(comm, &mesh, &s, look),
                _ => solve::<_, 3, 1, _>(comm, &mesh, &s, look),
            });
        }
    }
    all
}

#[test]
fn nothing_is_estimated_where_there_is_no_error() {
    let test = "parallel::nothing_is_estimated_where_there_is_no_error";
    for all in under_mpi(test, &[1, 2], 1, polynomials) {
        assert!(all.iter().all(|&e| e < 1e-9), "{all:?}");
    }
}

/// Indices where diffusion jumps by a factor at x = 0.5.
fn jumping(comm: &Comm) -> Vec<f64> {
    let mut all = Vec::new();
    for shape in [Shape::Triangle, Shape::Quadrilateral] {
        for (factor, degree) in [(1.0, 1), (1e3, 1), (1e6, 1), (1e-6, 1), (1.0, 2), (1e3, 2), (1e6, 2)] {
            let c = Expr::constant;
            // The flux along x is continuous, and so is u.
            let (bend, middle) = (expr("(x - 0.5)^2*sin(3*y)"), c(1f64.sin()));
            let line = expr("sin(2*x)");
            let left = line.add(&bend);
            let right = middle.add(&line.sub(&middle).add(&bend).mul(&c(1.0 / factor)));
            let setting = |k: f64, u: &Expr| scalar(Diffusion, 2, degree, &c(k), &c(0.0), None, u);
            let (mut s, of_right) = (setting(1.0, &left), setting(factor, &right));
            s.right = Some(of_right.slots);
            let text = |side: &str, k: f64| {
                let u = "sin(2*x) + (x - 0.5)^2*sin(3*y)";
                if side == "left" { u.to_string() } else { format!("sin(1) + ({u} - sin(1))/{k:e}") }
            };
            let u = expr(&format!("if(x < 0.5, {}, {})", text("left", 1.0), text("right", factor)));
            for (_, values) in &mut s.prescribed {
                *values = vec![Some(u.clone())];
            }
            // What flows in at the top.
            let top = slope(&left, 1);
            s.loads[0].1 = femdd::assembly::Natural::Flux(vec![top]);
            let mut mesh = unit(comm, shape, 12);
            divide(&mut mesh);
            all.extend(solve::<_, 2, 1, _>(comm, &mesh, &s, |s| {
                let error = energy_error(s.problem, std::slice::from_ref(&u), s.u);
                let kelly = estimate::kelly(s.problem, s.facets, s.essential, s.u).expect("an estimate");
                let recovery = estimate::recovery(s.problem, s.u).expect("an estimate");
                if comm.is_root() {
                    let (k, r) = (kelly.total / error, recovery.total / error);
                    println!("{shape} p={degree}, factor {factor:e}: {error:.3e}, {k:.4}, {r:.4}");
                }
                [kelly.total / error, recovery.total / error]
            }));
        }
    }
    all
}

#[test]
fn jumping_diffusion_does_no_harm() {
    for all in under_mpi("parallel::jumping_diffusion_does_no_harm", &[1, 3], 1, jumping) {
        for pair in all.chunks_exact(2) {
            assert!((0.95..2.5).contains(&pair[0]) && (0.6..1.5).contains(&pair[1]), "{all:?}");
        }
    }
}

/// There and back: bit for bit on owned nodes and ghosts.
fn round_trip(comm: &Comm) -> Vec<f64> {
    for (shape, n) in [(Shape::Triangle, 9), (Shape::Hexahedron, 4)] {
        for degree in 1..=3 {
            let mesh = unit(comm, shape, n);
            let space = femdd::space::Space::new(&mesh, degree, femdd::space::Order::Curve).expect("a space");
            let x = space.coordinates(&mesh);
            let values: Vec<f64> = x.iter().flat_map(|x| [x[0] + 2.0 * x[1], x[2] - x[0] * x[1]]).collect();
            for width in [1, 2] {
                let values: Vec<f64> =
                    if width == 2 { values.clone() } else { values.iter().step_by(2).copied().collect() };
                let by_cell = transfer::to_cells(&mesh, &space, &values, width);
                let back = transfer::from_cells(&mesh, &space, &by_cell, width);
                for (a, b) in values.iter().zip(&back) {
                    // Ghosts compute their coordinates from other cells than owners.
                    assert!((a - b).abs() < 1e-13, "{shape} {degree}: {a} {b}");
                }
                let n_owned = space.map.n_owned() * width;
                assert_eq!(values[..n_owned], back[..n_owned], "{shape} {degree}");
            }
        }
    }
    Vec::new()
}

#[test]
fn fields_go_to_cells_and_back() {
    under_mpi("parallel::fields_go_to_cells_and_back", &[1, 2, 4], 1, round_trip);
}
