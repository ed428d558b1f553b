//! Estimates against true errors: every law, shape and degree.

use cluster::Comm;
use femdd::adapt::estimate;
use femdd::assembly::{EnergyNorm, Natural, Problem};
use femdd::element::Shape;
use femdd::law::expr::Expr;
use femdd::law::{ConvectionDiffusion, Diffusion, Elasticity, Law, Plane};

use super::launch::under_mpi;
use super::problems::{SIDES, Setting, expr, slope, solve, sum, unit};

/// Sources and conditions of `-div(k grad u) + b . grad u + c u = f` with solution `u` on the unit box: the
/// value on all sides but the last, where the flux is given.
pub fn scalar<L>(
    law: L,
    dim: usize,
    degree: usize,
    k: &Expr,
    c: &Expr,
    b: Option<&[Expr]>,
    u: &Expr,
) -> Setting<L> {
    let flux: Vec<Expr> = (0..dim).map(|a| k.mul(&slope(u, a))).collect();
    let divergence = sum(&(0..dim).map(|a| slope(&flux[a], a)).collect::<Vec<_>>());
    let mut source = c.mul(u).sub(&divergence);
    let zero = Expr::constant(0.0);
    let mut slots = Vec::new();
    for row in 0..dim {
        slots.extend((0..dim).map(|column| if row == column { k.clone() } else { zero.clone() }));
    }
    slots.push(c.clone());
    if let Some(b) = b {
        source = (0..dim).fold(source, |s, a| s.add(&b[a].mul(&slope(u, a))));
    }
    slots.push(source);
    if let Some(b) = b {
        slots.extend_from_slice(b);
        slots.extend((0..dim).map(|a| slope(k, a)));
    }
    let last = 2 * dim - 1;
    Setting {
        law,
        slots,
        right: None,
        prescribed: (0..last).map(|s| (SIDES[s], vec![Some(u.clone())])).collect(),
        loads: vec![(SIDES[last], Natural::Flux(vec![flux[dim - 1].clone()]))],
        degree,
        symmetric: b.is_none(),
    }
}

/// As [`scalar`] for a body of constant thickness: the displacement on all sides but the last, where the
/// traction is given.
pub fn body(
    dim: usize,
    degree: usize,
    plane: Plane,
    young: &Expr,
    poisson: f64,
    u: &[Expr],
) -> Setting<Elasticity> {
    let c = Expr::constant;
    let mu = young.mul(&c(0.5 / (1.0 + poisson)));
    let lambda = young.mul(&c(match (dim, plane) {
        (1, _) => 0.0,
        (2, Plane::Stress) => poisson / (1.0 - poisson * poisson),
        _ => poisson / ((1.0 + poisson) * (1.0 - 2.0 * poisson)),
    }));
    let mu = if dim == 1 { young.mul(&c(0.5)) } else { mu };
    let trace = sum(&(0..dim).map(|a| slope(&u[a], a)).collect::<Vec<_>>());
    let stress = |a: usize, b: usize| {
        let shear = mu.mul(&slope(&u[a], b).add(&slope(&u[b], a)));
        if a == b { shear.add(&lambda.mul(&trace)) } else { shear }
    };
    let mut slots = vec![young.clone(), c(poisson), c(1.0), c(0.0), c(0.0), c(0.0)];
    for a in 0..dim {
        slots.push(c(0.0).sub(&sum(&(0..dim).map(|b| slope(&stress(a, b), b)).collect::<Vec<_>>())));
    }
    let last = 2 * dim - 1;
    Setting {
        law: Elasticity { plane },
        slots,
        right: None,
        prescribed: (0..last).map(|s| (SIDES[s], u.iter().cloned().map(Some).collect())).collect(),
        loads: vec![(SIDES[last], Natural::Flux((0..dim).map(|a| stress(a, dim - 1)).collect()))],
        degree,
        symmetric: true,
    }
}

/// The error in the energy norm.
pub fn energy_error(problem: &dyn Problem, exact: &[Expr], u: &[f64]) -> f64 {
    let errors = problem.exact_errors("exact", exact, u, EnergyNorm::Computed).expect("errors");
    errors.energy.expect("a norm that was asked for")
}

/// The residual and the recovery estimate, and the true error in the energy norm.
pub fn both<L: Law<D, C> + Clone, const D: usize, const C: usize>(
    comm: &Comm,
    shape: Shape,
    n: u64,
    setting: &Setting<L>,
    exact: &[Expr],
) -> [f64; 3] {
    let mesh = unit(comm, shape, n);
    solve::<L, D, C, _>(comm, &mesh, setting, |s| {
        let estimate = estimate::kelly(s.problem, s.facets, s.essential, s.u).expect("an estimate");
        let error = energy_error(s.problem, exact, s.u);
        let recovered = estimate::recovery(s.problem, s.u).expect("an estimate");
        [estimate.total, recovered.total, error]
    })
}

pub const SMOOTH: [&str; 3] = [
    "sin(2*x + 0.3) + x*x",
    "sin(2*x + 0.3)*cos(1.5*y) + x*y",
    "sin(2*x + 0.3)*cos(1.5*y)*exp(0.7*z) + x*y*z",
];

/// Efficiency indices on two meshes each, for every shape and degree.
fn indices(comm: &Comm, of: impl Fn(&Comm, Shape, u64, usize) -> [f64; 3]) -> Vec<f64> {
    let mut all = Vec::new();
    for (shape, n) in [
        (Shape::Interval, [20, 40]),
        (Shape::Triangle, [8, 16]),
        (Shape::Quadrilateral, [8, 16]),
        (Shape::Tetrahedron, [3, 6]),
        (Shape::Hexahedron, [3, 6]),
    ] {
        for degree in 1..=3 {
            for n in n {
                let [kelly, recovery, error] = of(comm, shape, n, degree);
                all.extend([kelly / error, recovery / error]);
                if comm.is_root() {
                    let (k, r) = (kelly / error, recovery / error);
                    println!("{shape} p={degree} n={n}: {error:.4e}, residuals {k:.4}, recovery {r:.4}");
                }
            }
        }
    }
    all
}

/// Indices of the residual estimator within bounds on both meshes, and alike to a tenth; those of the recovery
/// near 1.
fn check(test: &str, bounds: [f64; 2], body: fn(&Comm) -> Vec<f64>) {
    for all in under_mpi(test, &[1], 1, body) {
        for (k, pair) in all.chunks_exact(4).enumerate() {
            for index in [pair[0], pair[2]] {
                assert!((bounds[0]..bounds[1]).contains(&index), "{test}, {k}: {all:?}");
            }
            assert!((pair[2] / pair[0] - 1.0).abs() < 0.1, "{test}, {k}: {all:?}");
            assert!((0.6..1.7).contains(&pair[3]), "{test}, recovery, {k}: {all:?}");
        }
    }
}

/// Against zero the error is the solution, whose energy is found in another way too.
#[test]
fn norms_of_an_error_add_up() {
    let found = under_mpi("kelly::norms_of_an_error_add_up", &[1, 2], 1, |comm| {
        let mut all = Vec::new();
        for shape in [Shape::Triangle, Shape::Quadrilateral] {
            for degree in 1..=2 {
                let (k, c) = (Expr::constant(4.0), Expr::constant(3.0));
                let s = scalar(Diffusion, 2, degree, &k, &c, None, &expr(SMOOTH[1]));
                all.extend(solve::<_, 2, 1, _>(comm, &unit(comm, shape, 6), &s, |s| {
                    let zero = [Expr::constant(0.0)];
                    let norms = |energy| s.problem.exact_errors("exact", &zero, s.u, energy).expect("norms");
                    let (with, without) = (norms(EnergyNorm::Computed), norms(EnergyNorm::Omitted));
                    assert_eq!((without.l2, without.h1, without.energy), (with.l2, with.h1, None));
                    let sum = (4.0 * with.h1.powi(2) + 3.0 * with.l2.powi(2)).sqrt();
                    let energy = estimate::energy_norm(s.problem, s.u).expect("a norm");
                    [with.energy.expect("it was asked for") / sum, energy / sum]
                }));
            }
        }
        all
    });
    for all in found {
        assert!(all.iter().all(|ratio| (ratio - 1.0).abs() < 1e-12), "{all:?}");
    }
}

#[test]
fn poisson() {
    check("kelly::poisson", [0.95, 2.5], |comm| {
        indices(comm, |comm, shape, n, degree| {
            let (one, zero) = (Expr::constant(1.0), Expr::constant(0.0));
            let u = expr(SMOOTH[shape.dim() - 1]);
            let dim = shape.dim();
            let s = scalar(Diffusion, dim, degree, &one, &zero, None, &u);
            match dim {
                1 => both::<_, 1, 1>(comm, shape, n, &s, &[u]),
                2 => both::<_, 2, 1>(comm, shape, n, &s, &[u]),
                _ => both::<_, 3, 1>(comm, shape, n, &s, &[u]),
            }
        })
    });
}

#[test]
fn varying_diffusion_and_reaction() {
    check("kelly::varying_diffusion_and_reaction", [0.95, 2.5], |comm| {
        indices(comm, |comm, shape, n, degree| {
            let (k, c) = (expr("exp(x)*(1 + 0.3*sin(3*y))"), expr("2 + x"));
            let u = expr(SMOOTH[shape.dim() - 1]);
            let dim = shape.dim();
            let s = scalar(Diffusion, dim, degree, &k, &c, None, &u);
            match dim {
                1 => both::<_, 1, 1>(comm, shape, n, &s, &[u]),
                2 => both::<_, 2, 1>(comm, shape, n, &s, &[u]),
                _ => both::<_, 3, 1>(comm, shape, n, &s, &[u]),
            }
        })
    });
}

#[test]
fn convection() {
    check("kelly::convection", [0.95, 2.5], |comm| {
        indices(comm, |comm, shape, n, degree| {
            let (k, c) = (expr("1 + 0.5*x"), Expr::constant(0.0));
            let u = expr(SMOOTH[shape.dim() - 1]);
            let b = [expr("1 + y"), expr("2 - x"), expr("0.5")];
            let dim = shape.dim();
            let s = scalar(ConvectionDiffusion, dim, degree, &k, &c, Some(&b[..dim]), &u);
            match dim {
                1 => both::<_, 1, 1>(comm, shape, n, &s, &[u]),
                2 => both::<_, 2, 1>(comm, shape, n, &s, &[u]),
                _ => both::<_, 3, 1>(comm, shape, n, &s, &[u]),
            }
        })
    });
}

fn bodies(comm: &Comm, plane: Plane) -> Vec<f64> {
    indices(comm, |comm, shape, n, degree| {
        let young = expr("exp(0.5*x)");
        let u = ["sin(2*x + 0.3)", "cos(1.5*y)*x", "sin(z + x)*exp(0.5*y)"].map(expr);
        let dim = shape.dim();
        let s = body(dim, degree, plane, &young, 0.3, &u[..dim]);
        match dim {
            1 => both::<_, 1, 1>(comm, shape, n, &s, &u[..1]),
            2 => both::<_, 2, 2>(comm, shape, n, &s, &u[..2]),
            _ => both::<_, 3, 3>(comm, shape, n, &s, &u),
        }
    })
}

#[test]
fn elasticity() {
    check("kelly::elasticity", [0.95, 2.5], |comm| bodies(comm, Plane::Strain));
}

#[test]
fn plane_stress() {
    check("kelly::plane_stress", [0.95, 2.5], |comm| bodies(comm, Plane::Stress));
}
