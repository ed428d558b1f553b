//! Kernels by room, on one rank: `cargo bench --bench kernels`, or `-- GROUP` for one room.
//!
//! Throughputs are in cells, points or bytes a second, so that figures of different sizes compare. On
//! several ranks see `halo.rs`.

mod fixtures;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use femdd::assembly::{Constraints, EnergyNorm, Matrix, Pattern, RegionNodes};
use femdd::element::{Lagrange, Nodes, Quadrature, Shape};
use femdd::law::Quantity;
use femdd::law::expr::{ExprSet, Points, Scratch, Var};
use femdd::mesh::Mesh;
use femdd::output::vtkhdf::{self, Cells, Field, Kind, Outline};
use femdd::solver::Operator;
use femdd::solver::multigrid::{Assembled, Input, Multigrid, Options};
use femdd::space::{Order, Space};
use fixtures::{GENERAL, Physics, cube, expression, held};
use testing::Scratch as Folder;

fn element(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("element");
    for (shape, degree) in [
        (Shape::Triangle, 1),
        (Shape::Tetrahedron, 1),
        (Shape::Tetrahedron, 2),
        (Shape::Tetrahedron, 3),
        (Shape::Hexahedron, 2),
        (Shape::Hexahedron, 3),
    ] {
        let basis = Lagrange::new(shape, degree, Nodes::Spectral).expect("degree 1 to 3");
        let rule = Quadrature::new(shape, 2 * degree).expect("degree 2 to 6");
        group.throughput(Throughput::Elements(rule.len() as u64));
        group.bench_function(format!("tabulate {shape}, degree {degree}"), |b| {
            b.iter(|| basis.tabulate(&rule.points, 1))
        });
    }
}

fn expressions(criterion: &mut Criterion) {
    let expr = expression(GENERAL);
    let mut all = vec![expr.clone()];
    all.extend([Var::X, Var::Y, Var::Z].map(|v| expr.derivative(v)));
    let n = 4096;
    let x: Vec<f64> = (0..n).map(|k| k as f64 / n as f64).collect();
    let points = Points { x: &x, y: &x, z: &x, t: 0.0 };
    let mut scratch = Scratch::default();
    let mut group = criterion.benchmark_group("expressions");
    group.throughput(Throughput::Elements(n as u64));
    let mut out = vec![0.0; 4 * n];
    group.bench_function("value", |b| b.iter(|| expr.eval(&points, &mut out[..n], &mut scratch)));
    let set = ExprSet::new(&all);
    group.bench_function("value and gradient", |b| b.iter(|| set.eval(&points, &mut out, &mut scratch)));
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse and differentiate", |b| b.iter(|| expression(GENERAL).derivative(Var::X)));
}

fn mesh(criterion: &mut Criterion, comm: &cluster::Comm) {
    let n = 20;
    let folder = Folder::new();
    let path = folder.path().join("cube.msh");
    fixtures::write_gmsh_cube(&path, n).expect("a mesh file");
    let mut group = criterion.benchmark_group("mesh");
    group.sample_size(10).throughput(Throughput::Elements(6 * (n as u64).pow(3)));
    group.bench_function("box of 48,000 tetrahedra", |b| b.iter(|| cube(comm, "tetrahedron", n)));
    group.bench_function("file of 48,000 tetrahedra", |b| b.iter(|| fixtures::file(comm, &path)));
    let whole = cube(comm, "tetrahedron", n / 2);
    group.bench_function("refine to 48,000 tetrahedra", |b| b.iter(|| whole.refine().expect("a mesh")));
    group.throughput(Throughput::Elements(30 * 30 * 30));
    group.bench_function("box of 27,000 hexahedra", |b| b.iter(|| cube(comm, "hexahedron", 30)));
    group.throughput(Throughput::Elements(2 * 150 * 150));
    group.bench_function("box of 45,000 triangles", |b| {
        b.iter(|| fixtures::square(comm, "triangle", 150));
    });
}

fn partitioning(criterion: &mut Criterion, comm: &cluster::Comm) {
    let graph = fixtures::lattice_graph(comm, 40);
    let mut group = criterion.benchmark_group("partition");
    group.sample_size(10).throughput(Throughput::Elements(graph.n_global()));
    for parts in [2, 16] {
        group.bench_with_input(BenchmarkId::new("64,000 vertices", parts), &parts, |b, &parts| {
            b.iter(|| partition::partition(comm, &graph, parts, &partition::Options::default()));
        });
    }
}

fn spaces(criterion: &mut Criterion, mesh: &Mesh) {
    let mut group = criterion.benchmark_group("space");
    group.sample_size(10).throughput(Throughput::Elements(mesh.n_cells_global));
    for degree in [1, 2, 3] {
        group.bench_function(format!("numbering, degree {degree}"), |b| {
            b.iter(|| Space::new(mesh, degree, Order::Curve).expect("a space"));
        });
    }
    group.bench_function("numbering by bandwidth, degree 1", |b| {
        b.iter(|| Space::new(mesh, 1, Order::CuthillMcKee).expect("a space"));
    });
}

fn assembly(criterion: &mut Criterion, mesh: &Mesh) {
    let mut group = criterion.benchmark_group("assembly");
    group.sample_size(10).throughput(Throughput::Elements(mesh.n_cells_global));
    for (physics, degrees) in [
        (Physics::Diffusion, &[1, 2, 3][..]),
        (Physics::ConvectionDiffusion, &[1, 2]),
        (Physics::Elasticity, &[1, 2]),
    ] {
        for &degree in degrees {
            let space = Space::new(mesh, degree, Order::Curve).expect("a space");
            let materials = [physics.material()];
            let of_set = vec![0; mesh.sets.len()];
            let problem = physics.problem(mesh, &space, &materials, &of_set);
            let c = physics.components();
            let constraints =
                Constraints::new(problem.discretisation(), c, &[held(mesh, c)]).expect("finite values");
            if physics == Physics::Diffusion {
                group
                    .bench_function(format!("pattern, degree {degree}"), |b| b.iter(|| Pattern::new(&space)));
            }
            let pattern = Pattern::new(&space);
            let mut matrix = Matrix::new(&pattern, c);
            let mut residual = vec![0.0; space.map.n_owned() * c];
            let u = constraints.lift();
            group.bench_function(format!("{physics:?} matrix and residual, degree {degree}"), |b| {
                b.iter(|| {
                    problem
                        .assemble(&pattern, &u, &constraints, &mut matrix, &mut residual)
                        .expect("sound cells");
                });
            });
            let exact = vec![expression(GENERAL); c];
            group.bench_function(format!("{physics:?} error norms, degree {degree}"), |b| {
                b.iter(|| {
                    problem.exact_errors("exact", &exact, &u, EnergyNorm::Omitted).expect("finite values")
                });
            });
            let quantity = if c == 3 { Quantity::Stress } else { Quantity::Flux };
            let points = RegionNodes::new(problem.discretisation());
            group.bench_function(format!("{physics:?} averages, degree {degree}"), |b| {
                b.iter(|| problem.nodal(&points, &[quantity], &u).expect("finite values"));
            });
        }
    }
}

/// Of the multigrid and the product that conjugate gradients take beside it: the matrix taken over from the assembly,
/// its levels, the smoothing of the finest level alone, one cycle, one product.
fn multigrid(criterion: &mut Criterion, comm: &cluster::Comm, cells: &Mesh) {
    let flat = fixtures::square(comm, "triangle", 150);
    let mut group = criterion.benchmark_group("multigrid");
    group.sample_size(20);
    for (mesh, physics) in
        [(&flat, Physics::Diffusion), (cells, Physics::Diffusion), (cells, Physics::Elasticity)]
    {
        let name = format!("{physics:?} in {}D", mesh.dim);
        let space = Space::new(mesh, 1, Order::Curve).expect("a space");
        let Space { map, halo, .. } = &space;
        let n = map.n_owned() * physics.components();
        group.throughput(Throughput::Elements(n as u64));
        let take = |(mut pattern, matrix, near_null)| {
            (Assembled::new(&mut pattern, matrix, halo, map.n_local()), near_null)
        };
        group.bench_function(format!("matrix, {name}"), |b| {
            b.iter_batched(|| physics.system(mesh, &space), take, BatchSize::PerIteration);
        });
        let (matrix, near_null) = take(physics.system(mesh, &space));
        let aggregate = if mesh.dim < 3 { 9 } else { 30 };
        let levels = || {
            let near_null = near_null.clone();
            let options = Options { aggregate, ..Options::default() };
            let input = Input { comm, map, halo, matrix: &matrix, near_null, transfer: None, options };
            Multigrid::new(input).expect("a positive definite matrix")
        };
        group.bench_function(format!("levels, {name}"), |b| b.iter(levels));
        let mut multigrid = levels();
        let r: Vec<f64> = (0..n).map(|k| (k as f64).sin()).collect();
        let mut z = vec![0.0; n];
        group.bench_function(format!("smoother, {name}"), |b| b.iter(|| multigrid.smooth(&r, 1.0, &mut z)));
        group.bench_function(format!("cycle, {name}"), |b| b.iter(|| multigrid.apply_to(&r, 1.0, &mut z)));
        drop(multigrid);
        let mut operator = Operator::new(matrix, halo, map.n_ghost());
        operator.slice();
        group.bench_function(format!("product, {name}"), |b| b.iter(|| operator.apply(&r, &mut z)));
    }
}

fn output(criterion: &mut Criterion, comm: &cluster::Comm, mesh: &Mesh) {
    let folder = Folder::new();
    let path = folder.path().join("solution.hdf");
    let block = &mesh.blocks[0];
    let corners = block.nodes_per_cell();
    let u: Vec<f64> = mesh.nodes.iter().map(|x| x[0] * x[1]).collect();
    // VTK_TETRA.
    let cells = [Cells { vtk_type: 10, n_points: corners, n_cells: block.n_owned }];
    let fields = [Field { name: "u".to_owned(), components: 1, kind: Kind::F64 }];
    let outline =
        Outline { n_points: mesh.nodes.len(), cells: &cells, point_fields: &fields, cell_fields: &[] };
    let write = || {
        let grid = vtkhdf::create(comm, &path, &outline).expect("a file");
        let parts = || {
            let points = mesh.nodes.as_flattened();
            grid.points(&|rows, out| out.copy_from_slice(&points[3 * rows.start..3 * rows.end]))?;
            grid.cells(&|_, cells, out| {
                for (cell, out) in cells.zip(out.chunks_exact_mut(corners)) {
                    out.copy_from_slice(block.nodes(cell));
                }
            })?;
            grid.point_field(0, &|rows, out: &mut [f64]| out.copy_from_slice(&u[rows]))
        };
        let written = parts();
        grid.finish(written).expect("a file");
    };
    write();
    let bytes = std::fs::metadata(&path).expect("the file").len();
    let mut group = criterion.benchmark_group("output");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("VTKHDF of 48,000 tetrahedra", |b| {
        b.iter(write);
    });
}

fn all(criterion: &mut Criterion) {
    let session = cluster::init().expect("MPI");
    let comm = session.world();
    element(criterion);
    expressions(criterion);
    mesh(criterion, &comm);
    partitioning(criterion, &comm);
    let cells = cube(&comm, "tetrahedron", 20);
    spaces(criterion, &cells);
    assembly(criterion, &cells);
    multigrid(criterion, &comm, &cells);
    output(criterion, &comm, &cells);
}

criterion_group!(kernels, all);
criterion_main!(kernels);
