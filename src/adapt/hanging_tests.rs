//! Estimates and transfer on meshes with hanging nodes: nothing is estimated where the solution is in the
//! space, every facet is seen, and fields come back as they went.

use cluster::Comm;

use super::{estimate, goal, transfer};
use crate::assembly::{Discretisation, Essential, Operator, Prescribed};
use crate::element::{GeometryKind, Shape};
use crate::law::expr::Expr;
use crate::law::{Diffusion, Law, Material, Slot};
use crate::mesh::Mesh;
use crate::mesh::facets::Facets;
use crate::mesh::trees::{Trees, under_mpi};
use crate::space::{Order, Space};

fn expr(text: &str) -> Expr {
    Expr::parse(text, &Default::default()).expect(text)
}

/// A polynomial of each degree; on periodic boxes it does not depend on x.
fn polynomial(degree: usize, periodic: bool) -> Expr {
    let all = ["1 + x - 2*y + 0.5*z", "1 + x*x - x*y + z*y", "y^3 - x*y*y + z*x*x"];
    let along = ["1 - 2*y + 0.5*z", "1 + y*y + z*y", "y^3 - z*y*y + z*z"];
    expr(if periodic { along } else { all }[degree - 1])
}

fn meshes(comm: &Comm) -> Vec<(Mesh, bool)> {
    let mut all = Vec::new();
    for (shape, roots) in [(Shape::Quadrilateral, [4, 3, 1]), (Shape::Hexahedron, [3, 2, 2])] {
        for (seed, periodic) in [(1, false), (2, false), (3, true)] {
            let mut trees = Trees::new(shape, roots, periodic, GeometryKind::Linear);
            trees.crooked = if seed == 1 { 0.15 } else { 0.0 };
            let trees = trees.random(if shape.dim() == 2 { 3 } else { 2 }, 0.15, seed);
            let n = comm.size();
            all.push((trees.mesh(comm, |leaf| (leaf * 7 / 5 + leaf / 9) % n), periodic));
        }
    }
    all
}

/// Every facet of every owned cell is seen once, or by all its parts.
fn check_facets(mesh: &Mesh, facets: &Facets) {
    let parts = 1 << (mesh.dim - 1);
    let mut seen = parts * facets.outer.len();
    for run in &facets.runs {
        for pair in &facets.cells[run.begin..run.end] {
            for side in 0..2 {
                let owned = (pair[side] as usize) < mesh.blocks[run.kind.blocks[side] as usize].n_owned;
                let share = if run.kind.part > 0 && side == 1 { 1 } else { parts };
                seen += if owned { share } else { 0 };
            }
        }
    }
    let all: usize = mesh.blocks.iter().map(|b| b.n_owned * b.shape.n_facets()).sum();
    assert_eq!(seen, parts * all);
}

fn look<const D: usize>(mesh: &Mesh, degree: usize, periodic: bool) -> Vec<f64>
where
    Diffusion: Law<D, 1>,
{
    let facets = Facets::new(mesh);
    check_facets(mesh, &facets);
    assert!(mesh.comm.any(facets.runs.iter().any(|run| run.kind.part > 0)), "nothing hangs");
    let space = Space::new(mesh, degree, Order::Curve).expect("a space");
    let u = polynomial(degree, periodic);
    let axis = |e: &Expr, a: usize| e.derivative(crate::law::expr::Var::axis(a));
    let minus = (0..D).fold(Expr::constant(0.0), |sum, a| sum.sub(&axis(&axis(&u, a), a)));
    let mut slots: Vec<Slot> =
        (0..D * D).map(|k| Slot::Constant(f64::from(u8::from(k % (D + 1) == 0)))).collect();
    slots.push(Slot::Constant(1.0));
    slots.push(Slot::new(minus.add(&u)));
    let keys = vec![String::new(); slots.len()];
    let materials = [Material { slots, keys }];
    let of_set = vec![0; mesh.sets.len()];
    let terms = <Diffusion as Law<D, 1>>::TERMS;
    let d = Discretisation::new(mesh, &space, &materials, &of_set, terms, true, true, 0.0);
    let problem = Operator::<Diffusion, D, 1>::new(Diffusion, d, Vec::new(), Vec::new());
    let x = space.coordinates(mesh);
    let values: Vec<f64> = x.iter().map(|x| u.eval_point(*x, 0.0)).collect();
    let sides = (if periodic { 2 } else { 0 }..2 * D as u16).map(|group| Essential {
        key: String::new(),
        entities: mesh.tags_of(group).to_vec(),
        prescribed: Prescribed::Components(vec![Some(u.clone())]),
    });
    let essential: Vec<Essential> = sides.collect();
    let norm = estimate::energy_norm(&problem, &values).expect("a norm");
    let kelly = estimate::kelly(&problem, &facets, &essential, &values).expect("an estimate");
    let recovery = estimate::recovery(&problem, &values).expect("an estimate");
    assert!(kelly.total < 1e-9 * norm && recovery.total < 1e-9 * norm, "{} {}", kelly.total, recovery.total);

    // Values that are no polynomial: only what is at nodes counts.
    let rough: Vec<f64> = x.iter().map(|x| (3.0 * x[0] + x[1] * x[1] - 2.0 * x[2]).sin()).collect();
    let rough: Vec<f64> = if periodic { values.clone() } else { rough };
    let by_cell = transfer::to_cells(mesh, &space, &rough, 1);
    for (a, b) in transfer::from_cells(mesh, &space, &by_cell, 1).iter().zip(&rough) {
        // Where only what hangs is at hand, its polynomial is carried on, and round-off with it.
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    let above = Space::new(mesh, degree + 1, Order::Curve).expect("a space");
    let there = goal::interpolate(mesh, &space, &above, &values, 1);
    for (x, value) in above.coordinates(mesh).iter().zip(&there) {
        assert!((value - u.eval_point(*x, 0.0)).abs() < 1e-10, "{x:?}: {value}");
    }
    let rest = goal::beyond(mesh, &above, &there, 1);
    assert!(rest.iter().all(|r| r.abs() < 1e-10));
    let rough = estimate::kelly(&problem, &facets, &essential, &rough).expect("an estimate");
    vec![rough.total, norm]
}

#[test]
fn hanging_nodes_are_no_error() {
    let test = "adapt::hanging_tests::hanging_nodes_are_no_error";
    let all = under_mpi(test, &[1, 2, 3], |comm| {
        let mut figures = Vec::new();
        for (mesh, periodic) in meshes(comm) {
            for degree in 1..=3 {
                figures.extend(match mesh.dim {
                    2 => look::<2>(&mesh, degree, periodic),
                    _ => look::<3>(&mesh, degree, periodic),
                });
            }
        }
        figures
    });
    for figures in &all {
        for (k, (a, b)) in figures.iter().zip(&all[0]).enumerate() {
            assert!((a - b).abs() < 1e-8 * (1.0 + b.abs()), "{k}: {all:?}");
        }
    }
}
