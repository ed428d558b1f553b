//! Problems on meshes with hanging nodes, solved with a plain conjugate gradient method: what elements represent
//! they find, in any shape and degree and on any number of ranks.

use cluster::{Comm, Halo, IndexMap};

use crate::assembly::{
    Constraints, Discretisation, EnergyNorm, Essential, FacetLoad, Matrix, Natural, Operator, Pattern,
    Prescribed, Problem, RegionNodes,
};
use crate::element::{GeometryKind, Shape};
use crate::law::expr::{Expr, Var};
use crate::law::{Diffusion, Elasticity, Law, Material, Quantity, Slot};
use crate::mesh::forest::{Carried, Forest, Mark};
use crate::mesh::trees::{Trees, under_mpi};
use crate::mesh::{EntityTag, Mesh, check_mesh};
use crate::solver::{Modes, to_vertices};
use crate::space::{Order, Space};

fn expr(text: &str) -> Expr {
    Expr::parse(text, &Default::default()).unwrap()
}

fn material(texts: &[String]) -> Material {
    Material {
        slots: texts.iter().map(|t| Slot::new(expr(t))).collect(),
        keys: texts.iter().map(|_| "slot".to_string()).collect(),
    }
}

const A: [f64; 3] = [0.7, -0.4, 0.5];
const U: [f64; 3] = [1.0, -0.6, 0.8];

/// `factor` times the k-th derivative of `(1 + a.x / 4)^p` along `a / 4`.
fn power(dim: usize, p: usize, k: usize, factor: f64) -> String {
    if k > p {
        return "0".into();
    }
    let falling: usize = (0..k).map(|j| p - j).product();
    let terms: Vec<String> = (0..dim).map(|d| format!("({})*{}", 0.25 * A[d], ["x", "y", "z"][d])).collect();
    format!("({})*(1 + {})^{}", factor * falling as f64, terms.join(" + "), p - k)
}

fn dot(a: &[f64; 3], b: &[f64; 3], dim: usize) -> f64 {
    0.0625 * (0..dim).map(|k| a[k] * b[k]).sum::<f64>()
}

struct Setting {
    materials: Vec<Material>,
    exact: Vec<Expr>,
    /// What acts on the side `x-max`.
    natural: Natural,
}

/// `-lap u + u = f` with a Robin condition on `x-max`.
fn diffusion(dim: usize, p: usize) -> Setting {
    let mut slots: Vec<String> =
        (0..dim * dim).map(|k| if k % (dim + 1) == 0 { "1".into() } else { "0".into() }).collect();
    slots.push("1".into());
    slots.push(format!("{} + {}", power(dim, p, 2, -dot(&A, &A, dim)), power(dim, p, 0, 1.0)));
    // du/dx = 2 (ambient - u).
    let ambient = format!("{} + {}", power(dim, p, 0, 1.0), power(dim, p, 1, 0.5 * 0.25 * A[0]));
    Setting {
        materials: vec![material(&slots)],
        exact: vec![expr(&power(dim, p, 0, 1.0))],
        natural: Natural::Robin { coefficient: expr("2"), ambient: expr(&ambient) },
    }
}

fn elasticity(dim: usize, p: usize) -> Setting {
    let nu = 0.3;
    let (mu, lambda) = (0.5 / (1.0 + nu), nu / ((1.0 + nu) * (1.0 - 2.0 * nu)));
    let mut slots: Vec<String> = ["1", "0.3", "1", "0", "0", "0"].map(String::from).to_vec();
    let divergence = dot(&U, &A, dim);
    slots.extend(
        (0..dim)
            .map(|i| power(dim, p, 2, -((lambda + mu) * divergence * A[i] + mu * dot(&A, &A, dim) * U[i]))),
    );
    if dim == 3 {
        // The force's slots follow the others whatever the dimension.
        slots.truncate(9);
    }
    let stress = |i: usize| {
        let (u, a) = (U, A.map(|a| 0.25 * a));
        mu * (u[i] * a[0] + u[0] * a[i]) + if i == 0 { lambda * 4.0 * divergence } else { 0.0 }
    };
    // The divergence of the displacement is u.a / 4; of its second derivatives, a sixteenth.
    let force = |i: usize| {
        let a = A.map(|a| 0.25 * a);
        let along = (0..dim).map(|k| U[k] * a[k]).sum::<f64>();
        let square = (0..dim).map(|k| a[k] * a[k]).sum::<f64>();
        power(dim, p, 2, -((lambda + mu) * along * a[i] + mu * square * U[i]))
    };
    slots.truncate(6);
    slots.extend((0..dim).map(force));
    Setting {
        materials: vec![material(&slots)],
        exact: (0..dim).map(|i| expr(&power(dim, p, 0, U[i]))).collect(),
        natural: Natural::Flux((0..dim).map(|i| expr(&power(dim, p, 1, stress(i)))).collect()),
    }
}

fn tags(mesh: &Mesh, names: &[&str]) -> Vec<EntityTag> {
    let group = |name: &&str| mesh.groups.iter().position(|g| g.name == **name).unwrap() as u16;
    names.iter().flat_map(|name| mesh.tags_of(group(name)).to_vec()).collect()
}

/// `y = A x`.
fn product((map, halo): (&IndexMap, &Halo), pattern: &Pattern, matrix: &Matrix, x: &[f64], y: &mut [f64]) {
    let c = matrix.block;
    let mut all = x.to_vec();
    all.resize(map.n_local() * c, 0.0);
    halo.forward(&mut all, c);
    for row in 0..pattern.n_rows {
        for a in 0..c {
            let mut sum = 0.0;
            for (ptr, col, val) in [
                (&pattern.diag_ptr, &pattern.diag_col, &matrix.diag),
                (&pattern.off_ptr, &pattern.off_col, &matrix.off),
            ] {
                let columns = &col[ptr[row]..ptr[row + 1]];
                let values = &val[ptr[row] * c * c + a * columns.len() * c..][..columns.len() * c];
                for (&column, values) in columns.iter().zip(values.chunks_exact(c)) {
                    sum += (0..c).map(|b| values[b] * all[column as usize * c + b]).sum::<f64>();
                }
            }
            y[row * c + a] = sum;
        }
    }
}

fn inner(comm: &Comm, x: &[f64], y: &[f64]) -> f64 {
    comm.sum(x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>())
}

/// Conjugate gradients scaled by the diagonal, to 1e-14; asserts that the matrix is symmetric and positive.
fn solve(comm: &Comm, space: &Space, pattern: &Pattern, matrix: &Matrix, b: &[f64]) -> Vec<f64> {
    let n = b.len();
    let c = matrix.block;
    let diagonal: Vec<f64> = (0..n)
        .map(|k| {
            let (row, a) = (k / c, k % c);
            let columns = &pattern.diag_col[pattern.diag_ptr[row]..pattern.diag_ptr[row + 1]];
            let at = columns.iter().position(|&v| v as usize == row).unwrap();
            matrix.diag[pattern.diag_ptr[row] * c * c + a * columns.len() * c + at * c + a]
        })
        .collect();
    assert!(diagonal.iter().all(|d| *d > 0.0));
    let apply = |x: &[f64]| {
        let mut y = vec![0.0; n];
        product((&space.map, &space.halo), pattern, matrix, x, &mut y);
        y
    };
    let some = |s: u64| -> Vec<f64> {
        (0..n as u64)
            .map(|k| (((space.map.offset() * c as u64 + k) * s % 1013) as f64 / 1013.0) - 0.5)
            .collect()
    };
    let (v, w) = (some(7919), some(104729));
    let (vw, wv) = (inner(comm, &v, &apply(&w)), inner(comm, &w, &apply(&v)));
    let size = inner(comm, &v, &apply(&v)).max(inner(comm, &w, &apply(&w)));
    assert!((vw - wv).abs() < 1e-12 * size, "not symmetric: {vw} {wv} {size}");
    let mut x = vec![0.0; n];
    let mut r = b.to_vec();
    let scaled = |r: &[f64]| r.iter().zip(&diagonal).map(|(r, d)| r / d).collect::<Vec<f64>>();
    let mut z = scaled(&r);
    let mut p = z.clone();
    let mut rho = inner(comm, &r, &z);
    let wanted = 1e-28 * rho;
    for _ in 0..3000 {
        if rho <= wanted {
            return x;
        }
        let q = apply(&p);
        let pq = inner(comm, &p, &q);
        assert!(pq > 0.0, "not positive: {pq}");
        let alpha = rho / pq;
        (0..n).for_each(|i| x[i] += alpha * p[i]);
        (0..n).for_each(|i| r[i] -= alpha * q[i]);
        z = scaled(&r);
        let next = inner(comm, &r, &z);
        (0..n).for_each(|i| p[i] = z[i] + next / rho * p[i]);
        rho = next;
    }
    panic!("no convergence: {rho:e}, {wanted:e} wanted");
}

/// Solves and returns the error's norms and the integral of the solution.
fn run<L: Law<D, C>, const D: usize, const C: usize>(
    law: L,
    mesh: &Mesh,
    degree: usize,
    setting: Setting,
) -> [f64; 4] {
    let comm = &mesh.comm;
    let space = Space::new(mesh, degree, Order::Curve).unwrap();
    let of_set = vec![0u16; mesh.sets.len()];
    let d = Discretisation::new(mesh, &space, &setting.materials, &of_set, L::TERMS, true, true, 0.0);
    let sides: Vec<&str> = ["x-min", "y-min", "y-max", "z-min", "z-max"][..2 * D - 1].to_vec();
    let essential = Essential {
        key: "value".into(),
        entities: tags(mesh, &sides),
        prescribed: Prescribed::Components(setting.exact.iter().cloned().map(Some).collect()),
    };
    let constraints = Constraints::new(&d, C, &[essential]).unwrap();
    let loads =
        vec![FacetLoad { key: "load".into(), facets: tags(mesh, &["x-max"]), natural: setting.natural }];
    let problem = Operator::<L, D, C>::new(law, d, loads, vec![]);
    let pattern = Pattern::new(&space);
    let mut matrix = Matrix::new(&pattern, C);
    let mut u = constraints.lift();
    let mut residual = vec![0.0; pattern.n_rows * C];
    problem.assemble(&pattern, &u, &constraints, &mut matrix, &mut residual).unwrap();
    let change = solve(comm, &space, &pattern, &matrix, &residual);
    u.iter_mut().zip(&change).for_each(|(u, c)| *u -= c);
    space.halo.forward(&mut u, C);
    // The residual of the solution vanishes where nothing is prescribed.
    let mut after = vec![0.0; pattern.n_rows * C];
    problem.residual(&pattern, &u, &mut after).unwrap();
    constraints.zero_fixed(&mut after);
    let [left, before] = [&after, &residual].map(|r| inner(comm, r, r).sqrt());
    assert!(left < 1e-11 * before.max(1.0), "{left} of {before}");
    // Nodal values of the interpolant are those at the nodes' coordinates.
    let x = space.coordinates(mesh);
    let curved = mesh.blocks.iter().any(|b| b.geometry != GeometryKind::Linear);
    let nodal: f64 = (0..space.map.n_owned())
        .flat_map(|v| (0..C).map(move |c| (v, c)))
        .map(|(v, c)| (setting.exact[c].eval_point(x[v], 0.0) - u[v * C + c]).abs())
        .fold(0.0, f64::max);
    let nodal = comm.max(nodal);
    if nodal < 1e-9 && !curved {
        check_averages::<L, D, C>(&problem, &u, &x, &setting.exact);
    }
    check_transfer(&problem, &constraints, &x);
    check_coarse(&problem, &constraints, &pattern, &matrix);
    let errors = problem.exact_errors("exact", &setting.exact, &u, EnergyNorm::Omitted).unwrap();
    let whole = problem.integrate_cells(Quantity::Solution, &u, &|_, _| true).unwrap();
    [errors.l2, errors.h1, nodal, comm.sum(whole[0])]
}

/// Gradients of what is represented exactly are exact on average, in both regions of a node.
fn check_averages<L: Law<D, C>, const D: usize, const C: usize>(
    problem: &Operator<L, D, C>,
    u: &[f64],
    x: &[[f64; 3]],
    exact: &[Expr],
) {
    let points = RegionNodes::new(problem.discretisation());
    let Some(n) = problem.n_values(Quantity::Gradient) else { return };
    let nodal = problem.nodal(&points, &[Quantity::Gradient], u).unwrap();
    let (rows, stride, columns) = nodal.rows(Quantity::Gradient).unwrap();
    for pair in 0..points.n_pairs() {
        let row = &rows[pair * stride..][columns.clone()];
        let at = x[points.node(pair as u32) as usize];
        for k in 0..n {
            let expected = exact[k / D].derivative(Var::axis(k % D)).eval_point(at, 0.0);
            // Continued beyond a cell, gradients of degree 4 carry some 10,000 times its round-off.
            assert!((row[k] - expected).abs() < 1e-7, "{at:?} {k}: {} {expected}", row[k]);
        }
    }
}

/// Linear functions of degree 1 are the same functions of the space.
fn check_transfer(problem: &dyn Problem, constraints: &Constraints, x: &[[f64; 3]]) {
    let (d, c) = (problem.discretisation(), problem.components());
    let (mesh, space) = (d.mesh, d.space);
    if space.degree == 1 {
        return;
    }
    let at = |m: usize, x: &[f64; 3]| if m == 0 { [1.0; 3] } else { [x[m - 1]; 3] };
    let modes = Modes { n: 1 + mesh.dim, at: &at };
    let transfer = to_vertices(problem, constraints, &modes, true);
    for (m, mode) in transfer.near_null.iter().enumerate() {
        let mut coarse = mode.clone();
        coarse.resize(transfer.map.n_local() * c, 0.0);
        transfer.halo.forward(&mut coarse, c);
        for node in 0..space.map.n_owned() {
            let row = transfer.ptr[node] as usize..transfer.ptr[node + 1] as usize;
            // Prescribed vertices have no part in it.
            let mut whole = true;
            let mut sums = [0.0; 3];
            for k in row {
                let v = transfer.col[k] as usize;
                let values = &transfer.val[k * c * c..][..c * c];
                whole &= (0..c).all(|a| values[a * c + a] != 0.0);
                for a in 0..c {
                    sums[a] += (0..c).map(|b| f64::from(values[a * c + b]) * coarse[v * c + b]).sum::<f64>();
                }
            }
            for a in (0..c).filter(|_| whole) {
                let expected = at(m, &x[node])[a];
                assert!((sums[a] - expected).abs() < 1e-5, "mode {m}: {} {expected}", sums[a]);
            }
        }
    }
}

/// Whether all cells are parallelepipeds.
fn is_straight(mesh: &Mesh) -> bool {
    let block = &mesh.blocks[0];
    let corners = block.shape.vertices();
    block.geometry == GeometryKind::Linear
        && (0..block.n_cells).all(|cell| {
            let x: Vec<[f64; 3]> = block.nodes(cell).iter().map(|&node| mesh.nodes[node as usize]).collect();
            let end = |d: usize| corners.iter().position(|v| v.iter().sum::<f64>() == v[d] && v[d] == 1.0);
            let edges: Vec<_> =
                (0..mesh.dim).map(|d| (d, x[end(d).expect("a corner on every axis")])).collect();
            corners.iter().zip(&x).all(|(v, x_v)| {
                (0..3).all(|a| {
                    let along = edges.iter().map(|(d, end)| v[*d] * (end[a] - x[0][a])).sum::<f64>();
                    (x[0][a] + along - x_v[a]).abs() < 1e-12
                })
            })
        })
}

/// The matrix of degree 1 is the product of the fine one with the prolongation, where nothing is prescribed.
fn check_coarse(problem: &dyn Problem, constraints: &Constraints, pattern: &Pattern, matrix: &Matrix) {
    let (d, c) = (problem.discretisation(), problem.components());
    let one = |_: usize, _: &[f64; 3]| [1.0; 3];
    let t = to_vertices(problem, constraints, &Modes { n: 1, at: &one }, true);
    let (coarse_pattern, coarse) = t.matrix.as_ref().expect("the tangent is constant");
    let (n, n_coarse) = (d.space.map.n_owned(), t.map.n_owned());
    let mut x: Vec<f64> =
        (0..n_coarse * c).map(|k| ((t.map.offset() as usize * c + k) as f64 * 0.7).sin()).collect();
    let mut expected = vec![0.0; n_coarse * c];
    product((&t.map, &t.halo), coarse_pattern, coarse, &x, &mut expected);
    x.resize(t.map.n_local() * c, 0.0);
    t.halo.forward(&mut x, c);
    // Up, through the fine matrix, and down again; with what each coarse DOF has to do with fine ones.
    let entries = |node: usize| t.ptr[node] as usize..t.ptr[node + 1] as usize;
    let block = |k: usize, a: usize, b: usize| f64::from(t.val[(k * c + a) * c + b]);
    let (mut up, mut through) = (vec![0.0; n * c], vec![0.0; n * c]);
    for node in 0..n {
        for (k, a, b) in entries(node).flat_map(|k| (0..c * c).map(move |ab| (k, ab / c, ab % c))) {
            up[node * c + a] += block(k, a, b) * x[t.col[k] as usize * c + b];
        }
    }
    product((&d.space.map, &d.space.halo), pattern, matrix, &up, &mut through);
    let (mut down, mut part) = (vec![0.0; t.map.n_local() * c], vec![0.0; t.map.n_local() * c]);
    for node in 0..n {
        for (k, a, b) in entries(node).flat_map(|k| (0..c * c).map(move |ab| (k, ab / c, ab % c))) {
            down[t.col[k] as usize * c + b] += block(k, a, b) * through[node * c + a];
            part[t.col[k] as usize * c + b] += block(k, a, b).abs();
        }
    }
    t.halo.reverse_add(&mut down, c);
    t.halo.reverse_add(&mut part, c);
    let size = expected.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    // Elsewhere integrands are no polynomials, and the rules of the two spaces differ.
    let allowed = if is_straight(d.mesh) { 1e-5 } else { 0.2 };
    for (k, (found, wanted)) in down.iter().zip(&expected).enumerate().filter(|(k, _)| part[*k] > 0.0) {
        assert!((found - wanted).abs() < allowed * size, "coarse DOF {k}: {found} {wanted}");
    }
}

/// Element matrices combined of integrals on the reference cell are those of the sum over points, cell by cell, on
/// any number of threads.
fn check_paths<L: Law<D, C>, const D: usize, const C: usize>(law: L, mesh: &Mesh, degree: usize) {
    let setting = if C == 1 { diffusion(D, 1) } else { elasticity(D, 1) };
    let space = Space::new(mesh, degree, Order::Curve).unwrap();
    let of_set = vec![0u16; mesh.sets.len()];
    let pattern = Pattern::new(&space);
    let assembled = |constant: bool, threads: usize| {
        let d = Discretisation::new(mesh, &space, &setting.materials, &of_set, L::TERMS, constant, true, 0.0);
        let constraints = Constraints::new(&d, C, &[]).unwrap();
        let problem = Operator::<L, D, C>::new(law.clone(), d, vec![], vec![]);
        let mut matrix = Matrix::new(&pattern, C);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| problem.assemble_constant(&pattern, &constraints, &mut matrix)).unwrap();
        [matrix.diag, matrix.off].concat()
    };
    let [combined, summed] = [true, false].map(|constant| assembled(constant, 1));
    let size = summed.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    for (a, b) in combined.iter().zip(&summed) {
        assert!((a - b).abs() < 1e-12 * size, "degree {degree}: {a} {b}");
    }
    for threads in [2, 3, 5] {
        assert!(assembled(true, threads) == combined, "{threads} threads, degree {degree}");
    }
}

#[test]
fn affine_cells_beside_others() {
    alike(&under_mpi("solver::hanging_tests::affine_cells_beside_others", &[1, 2], |comm| {
        for (shape, roots) in [(Shape::Quadrilateral, [7, 6, 1]), (Shape::Hexahedron, [4, 3, 3])] {
            let mut trees = Trees::new(shape, roots, false, GeometryKind::Linear);
            trees.crooked = 0.0;
            let n = trees.leaves.len();
            let mut mesh = trees.mesh(comm, |k| k * comm.size() / n);
            // Some corners off their place: cells beside them are no parallelograms any more.
            let moves = |x: &[f64; 3]| (3.0 * x[0] + 5.0 * x[1] + 7.0 * x[2]).round() as i64 % 9 == 0;
            let moved: Vec<bool> = mesh.nodes.iter().map(moves).collect();
            mesh.nodes.iter_mut().zip(&moved).for_each(|(x, moved)| x[0] += if *moved { 0.02 } else { 0.0 });
            let touched = |cell: &usize| mesh.blocks[0].nodes(*cell).iter().any(|&node| moved[node as usize]);
            let n_touched = (0..mesh.blocks[0].n_cells).filter(touched).count();
            assert!(n_touched > 0 && n_touched < mesh.blocks[0].n_cells, "{shape}: {n_touched}");
            for degree in 1..=3 {
                if shape == Shape::Quadrilateral {
                    check_paths::<Diffusion, 2, 1>(Diffusion, &mesh, degree);
                    check_paths::<Elasticity, 2, 2>(Elasticity::default(), &mesh, degree);
                } else {
                    check_paths::<Diffusion, 3, 1>(Diffusion, &mesh, degree);
                    check_paths::<Elasticity, 3, 3>(Elasticity::default(), &mesh, degree);
                }
            }
        }
        // Without such corners, but with nodes that hang.
        let mut figures = Vec::new();
        for shape in [Shape::Quadrilateral, Shape::Hexahedron] {
            let mut trees = trees(shape);
            trees.crooked = 0.0;
            let n = trees.leaves.len();
            let mesh = trees.mesh(comm, |k| k * comm.size() / n);
            assert!(is_straight(&mesh));
            for (degree, vector) in [(2, false), (3, false), (2, true)] {
                figures.push(solve_on(&mesh, degree, vector, degree)[3]);
            }
        }
        figures
    }));
}

fn solve_on(mesh: &Mesh, degree: usize, vector: bool, p: usize) -> [f64; 4] {
    match (mesh.dim, vector) {
        (2, false) => run::<Diffusion, 2, 1>(Diffusion, mesh, degree, diffusion(2, p)),
        (2, true) => run::<Elasticity, 2, 2>(Elasticity::default(), mesh, degree, elasticity(2, p)),
        (_, false) => run::<Diffusion, 3, 1>(Diffusion, mesh, degree, diffusion(3, p)),
        (_, true) => run::<Elasticity, 3, 3>(Elasticity::default(), mesh, degree, elasticity(3, p)),
    }
}

fn trees(shape: Shape) -> Trees {
    let (roots, rounds) = if shape == Shape::Quadrilateral { ([3, 2, 1], 2) } else { ([2, 2, 1], 1) };
    Trees::varied(shape, roots, false, rounds, 0.1)
}

fn patch(comm: &Comm, shape: Shape, degrees: std::ops::RangeInclusive<usize>, vector: bool) -> Vec<f64> {
    let trees = trees(shape);
    let n = trees.leaves.len();
    let mut figures = Vec::new();
    for scattered in [false, true] {
        let size = comm.size();
        let owner = |k: usize| if scattered { k * 7919 % 101 % size } else { k * size / n };
        let mesh = trees.mesh(comm, owner);
        for degree in degrees.clone() {
            let [l2, h1, nodal, whole] = solve_on(&mesh, degree, vector, degree);
            if comm.is_root() {
                println!("{shape} {degree} {vector}: {l2:.1e} {h1:.1e} {nodal:.1e} {whole}");
            }
            assert!(l2 < 1e-11 && h1 < 1e-10 && nodal < 1e-10, "{shape} {degree}: {l2:e} {h1:e} {nodal:e}");
            figures.push(whole);
        }
    }
    figures
}

/// Figures agree between all numbers of ranks to 1e-10.
fn alike(all: &[Vec<f64>]) {
    for figures in all {
        assert_eq!(figures.len(), all[0].len());
        for (a, b) in figures.iter().zip(&all[0]) {
            assert!((a - b).abs() < 1e-10 * b.abs().max(1.0), "{all:?}");
        }
    }
}

#[test]
fn patch_of_quadrilaterals() {
    alike(&under_mpi("solver::hanging_tests::patch_of_quadrilaterals", &[1, 2, 3, 4], |comm| {
        let mut all = patch(comm, Shape::Quadrilateral, 1..=4, false);
        all.extend(patch(comm, Shape::Quadrilateral, 1..=4, true));
        all
    }));
}

#[test]
fn patch_of_hexahedra() {
    alike(&under_mpi("solver::hanging_tests::patch_of_hexahedra", &[1, 2, 3, 4, 7], |comm| {
        let mut all = patch(comm, Shape::Hexahedron, 1..=4, false);
        all.extend(patch(comm, Shape::Hexahedron, 1..=2, true));
        all
    }));
}

/// A forest cut towards a corner, twice, dealt out anew.
fn towards_a_corner(
    comm: &Comm,
    shape: Shape,
    geometry: GeometryKind,
    roots: [i64; 3],
    times: usize,
) -> Mesh {
    let mut plain = Trees::new(shape, roots, false, geometry);
    plain.crooked = if geometry == GeometryKind::Linear { 0.15 } else { 0.0 };
    let size = comm.size();
    let mut mesh = plain.mesh(comm, |k| k * 7919 % 101 % size);
    mesh.blocks[0].hanging = None;
    let mut forest = Forest::new(&mesh).unwrap();
    for _ in 0..times {
        let mesh = forest.mesh().unwrap();
        let near = |cell: usize| {
            let nodes = mesh.blocks[0].nodes(cell);
            nodes.iter().any(|&k| mesh.nodes[k as usize].iter().map(|x| x * x).sum::<f64>() < 1e-20)
        };
        let mark = |cell| if near(cell) { Mark::Refine } else { Mark::Keep };
        let marks: Vec<Mark> = (0..forest.n_leaves()).map(mark).collect();
        forest.adapt(&marks, &mut Carried::new()).unwrap();
        let n = comm.sum(forest.n_leaves() as u64).max(1);
        let before = comm.exclusive_sum(forest.n_leaves() as u64);
        let owners: Vec<u32> =
            (0..forest.n_leaves() as u64).map(|k| ((before + k) * size as u64 / n) as u32).collect();
        forest.migrate(&owners, &mut Carried::new()).unwrap();
    }
    let mesh = forest.mesh().unwrap();
    check_mesh(&mesh).unwrap();
    assert!(comm.sum(mesh.blocks[0].hanging.as_ref().map_or(0, |h| h.n_cells() as u64)) > 0);
    mesh
}

#[test]
fn patch_of_forests() {
    alike(&under_mpi("solver::hanging_tests::patch_of_forests", &[1, 3], |comm| {
        let mut figures = Vec::new();
        for geometry in [GeometryKind::Linear, GeometryKind::Quadratic] {
            for (shape, roots, degrees) in
                [(Shape::Quadrilateral, [2, 2, 1], 1..=4), (Shape::Hexahedron, [2, 1, 1], 1..=2)]
            {
                let mesh = towards_a_corner(comm, shape, geometry, roots, 3);
                for degree in degrees {
                    let [l2, h1, nodal, whole] = solve_on(&mesh, degree, degree % 2 == 0, degree);
                    assert!(
                        l2 < 1e-11 && h1 < 1e-10 && nodal < 1e-10,
                        "{shape} {degree}: {l2:e} {h1:e} {nodal:e}"
                    );
                    figures.push(whole);
                }
            }
        }
        figures
    }));
}

/// Errors fall as they must when a mesh that hangs is halved as a whole: the roots twice as many, cut alike.
#[test]
fn errors_fall_with_the_degree() {
    let all = under_mpi("solver::hanging_tests::errors_fall_with_the_degree", &[2], |comm| {
        let mut figures = Vec::new();
        for degree in 1..=3 {
            for n in [6i64, 12] {
                // Every other root is cut, as on a chess board.
                let mut trees = Trees::new(Shape::Quadrilateral, [n, n, 1], false, GeometryKind::Linear);
                trees.crooked = 0.0;
                let some: Vec<_> = trees
                    .leaves
                    .iter()
                    .copied()
                    .filter(|leaf| (leaf.root as i64 % n + leaf.root as i64 / n) % 2 == 0)
                    .collect();
                trees.cut(&some);
                let scale = 3.0 / n as f64;
                let size = comm.size();
                let mut mesh = trees.mesh(comm, |k| k % size);
                mesh.nodes.iter_mut().flatten().for_each(|x| *x *= scale);
                let [l2, h1, ..] = solve_on(&mesh, degree, false, 6);
                figures.extend([l2, h1]);
            }
        }
        figures
    });
    for figures in &all {
        for (k, pair) in figures.chunks_exact(4).enumerate() {
            let slope = |a: f64, b: f64| (a / b).log2();
            let (l2, h1) = (slope(pair[0], pair[2]), slope(pair[1], pair[3]));
            let p = (k + 1) as f64;
            assert!(l2 > p + 1.0 - 0.15 && h1 > p - 0.15, "degree {p}: {l2} {h1}, {figures:?}");
        }
    }
}
