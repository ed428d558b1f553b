//! Kernels by room, on one rank: `cargo bench --bench kernels`.
//!
//! Throughputs are in cells or points a second, so that figures of different sizes compare.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use femdd::assembly::{Constraints, Discretisation, Matrix, Operator, Pattern, Problem};
use femdd::element::{Lagrange, Nodes, Quadrature, Shape};
use femdd::law::expr::{Expr, ExprSet, Points, Scope, Scratch, Var};
use femdd::law::{Diffusion, Law, Material, Slot};
use femdd::mesh::Mesh;
use femdd::mesh::boxes::{BoxSpec, generate};
use femdd::mesh::draft::Draft;
use femdd::space::{Order, Space};

const TERMS: femdd::law::Terms = <Diffusion as Law<3, 1>>::TERMS;

fn cube(comm: &cluster::Comm, n: u64) -> Mesh {
    let spec = BoxSpec { size: vec![1.0; 3], cells: vec![n; 3], shape: Shape::Tetrahedron, origin: [0.0; 3] };
    let draft = Draft::new(comm, generate(comm, &spec).expect("a box"), 1.0, &[], true).expect("a draft");
    let owners = vec![0; draft.n_cells()];
    draft.distribute(&owners).expect("a mesh")
}

fn material() -> Material {
    let slots = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0].map(Slot::Constant).to_vec();
    let keys = vec!["constant".to_string(); slots.len()];
    Material { slots, keys }
}

fn mesh(criterion: &mut Criterion, comm: &cluster::Comm) {
    let mut group = criterion.benchmark_group("mesh");
    group.sample_size(10).throughput(Throughput::Elements(6 * 20 * 20 * 20));
    group.bench_function("box to mesh, 48,000 tetrahedra", |b| b.iter(|| cube(comm, 20)));
    let whole = cube(comm, 10);
    group.throughput(Throughput::Elements(8 * 6 * 10 * 10 * 10));
    group.bench_function("refine to 48,000 tetrahedra", |b| b.iter(|| whole.refine().expect("a mesh")));
}

fn assembly(criterion: &mut Criterion, comm: &cluster::Comm) {
    let mesh = cube(comm, 20);
    let materials = [material()];
    let set_material = vec![0u16; mesh.sets.len()];
    let mut group = criterion.benchmark_group("assembly");
    group.sample_size(10).throughput(Throughput::Elements(mesh.n_cells_global));
    for degree in [1, 2, 3] {
        let space = Space::new(&mesh, degree, Order::Curve).expect("a space");
        group.bench_function(format!("pattern, degree {degree}"), |b| b.iter(|| Pattern::new(&space)));
        let discretise =
            || Discretisation::new(&mesh, &space, &materials, &set_material, TERMS, true, false, 0.0);
        let d = discretise();
        let constraints = Constraints::new(&d, 1, &[]).expect("no conditions");
        let problem = Operator::<Diffusion, 3, 1>::new(Diffusion, discretise(), Vec::new(), Vec::new());
        let pattern = Pattern::new(&space);
        let mut matrix = Matrix::new(&pattern, 1);
        let mut residual = vec![0.0; space.map.n_owned()];
        let u = vec![0.0; space.map.n_local()];
        group.bench_function(format!("matrix and residual, degree {degree}"), |b| {
            b.iter(|| {
                problem
                    .assemble(&pattern, &u, &constraints, &mut matrix, &mut residual)
                    .expect("sound cells");
            });
        });
    }
}

fn expressions(criterion: &mut Criterion) {
    let expr = Expr::parse("exp(x + 2*y*z)*sin(7*x + 3*y)", &Scope::default()).expect("an expression");
    let with_gradient: Vec<Expr> =
        std::iter::once(expr.clone()).chain([Var::X, Var::Y, Var::Z].map(|v| expr.derivative(v))).collect();
    let n = 4096;
    let x: Vec<f64> = (0..n).map(|k| k as f64 / n as f64).collect();
    let points = Points { x: &x, y: &x, z: &x, t: 0.0 };
    let mut scratch = Scratch::default();
    let mut group = criterion.benchmark_group("expressions");
    group.throughput(Throughput::Elements(n as u64));
    let mut out = vec![0.0; 4 * n];
    group.bench_function("value", |b| b.iter(|| expr.eval(&points, &mut out[..n], &mut scratch)));
    let set = ExprSet::new(&with_gradient);
    group.bench_function("value and gradient", |b| b.iter(|| set.eval(&points, &mut out, &mut scratch)));
}

fn element(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("element");
    for shape in [Shape::Tetrahedron, Shape::Hexahedron] {
        let basis = Lagrange::new(shape, 3, Nodes::Spectral).expect("degree 3");
        let rule = Quadrature::new(shape, 6).expect("degree 6");
        group.bench_function(format!("tabulate {shape}, degree 3"), |b| {
            b.iter(|| basis.tabulate(&rule.points, 2))
        });
    }
}

fn all(criterion: &mut Criterion) {
    let session = cluster::init().expect("MPI");
    let comm = session.world();
    element(criterion);
    expressions(criterion);
    mesh(criterion, &comm);
    assembly(criterion, &comm);
}

criterion_group!(kernels, all);
criterion_main!(kernels);
