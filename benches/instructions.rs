//! A fixed program whose instructions are counted: reduced problems through the kernels of every room.
//!
//! `benches/check_instructions` runs it under callgrind, which counts in the functions named `kernel_*`
//! alone, and compares with `benches/instructions.json`. Run by itself it does the same work uncounted.
//! Counts do not depend on the machine's speed or load: a loop that got longer shows on any computer.

mod fixtures;

use std::hint::black_box;

use cluster::Comm;
use femdd::assembly::{Constraints, EnergyNorm, Matrix, Pattern, RegionNodes};
use femdd::law::Quantity;
use femdd::law::expr::{ExprSet, Points, Scratch, Var};
use femdd::mesh::Mesh;
use femdd::solver::Operator;
use femdd::solver::multigrid::{Assembled, Input, Multigrid, Options};
use femdd::space::{Order, Space};
use fixtures::{GENERAL, Physics};

/// A function that callgrind finds by its name.
type Kernel = fn(&mut dyn FnMut());

/// Declares functions that callgrind finds by name; each hands on to its closure. Without a difference
/// between them the compiler would make one of all.
macro_rules! kernels {
    ($($name:ident),* $(,)?) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        fn $name(work: &mut dyn FnMut()) {
            black_box(stringify!($name));
            work();
        }
    )*};
}

kernels!(
    kernel_mesh_box,
    kernel_mesh_file,
    kernel_mesh_refine,
    kernel_partition,
    kernel_space_p1,
    kernel_space_p2,
    kernel_pattern_p1,
    kernel_pattern_p2,
    kernel_assemble_diffusion_p1,
    kernel_assemble_diffusion_p2,
    kernel_assemble_convection_p1,
    kernel_assemble_elasticity_p1,
    kernel_error_norms_p1,
    kernel_averages_p1,
    kernel_multigrid_matrix,
    kernel_multigrid_levels,
    kernel_multigrid_cycle,
    kernel_product,
    kernel_expression,
    kernel_expression_gradient,
    kernel_tabulate,
);

/// Runs a kernel, whose work the optimiser must not see through.
fn counted(kernel: Kernel, mut work: impl FnMut()) {
    black_box(kernel)(black_box(&mut work));
}

/// Cubes along an edge: some ten thousand tetrahedra.
const N: usize = 12;

fn meshes(comm: &Comm) {
    let folder = std::env::temp_dir().join(format!("femdd-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let path = folder.join("cube.msh");
    fixtures::write_gmsh_cube(&path, N).expect("a mesh file");
    counted(kernel_mesh_file, || drop(black_box(fixtures::file(comm, &path))));
    let _ = std::fs::remove_dir_all(&folder);
    counted(kernel_mesh_box, || drop(black_box(fixtures::cube(comm, "tetrahedron", N))));
    let coarse = fixtures::cube(comm, "tetrahedron", N / 2);
    counted(kernel_mesh_refine, || drop(black_box(coarse.refine().expect("a mesh"))));
    let graph = fixtures::lattice_graph(comm, 24);
    counted(kernel_partition, || {
        // Fewer clusters than vertices, so that contraction and refinement take part.
        let options = partition::Options { target_clusters: Some(2000), ..partition::Options::default() };
        black_box(partition::partition(comm, &graph, 8, &options).expect("parts"));
    });
}

fn assembly(mesh: &Mesh) {
    let spaces = [1, 2].map(|degree| Space::new(mesh, degree, Order::Curve).expect("a space"));
    for (kernel, degree) in [(kernel_space_p1 as Kernel, 1), (kernel_space_p2, 2)] {
        counted(kernel, || drop(black_box(Space::new(mesh, degree, Order::Curve).expect("a space"))));
    }
    let patterns = spaces.each_ref().map(Pattern::new);
    for (kernel, space) in [kernel_pattern_p1 as Kernel, kernel_pattern_p2].iter().zip(&spaces) {
        counted(*kernel, || drop(black_box(Pattern::new(space))));
    }
    let kernels: [(Kernel, Physics, usize); 4] = [
        (kernel_assemble_diffusion_p1, Physics::Diffusion, 0),
        (kernel_assemble_diffusion_p2, Physics::Diffusion, 1),
        (kernel_assemble_convection_p1, Physics::ConvectionDiffusion, 0),
        (kernel_assemble_elasticity_p1, Physics::Elasticity, 0),
    ];
    for (kernel, physics, k) in kernels {
        assemble(mesh, &spaces[k], &patterns[k], physics, kernel);
    }
}

fn assemble(mesh: &Mesh, space: &Space, pattern: &Pattern, physics: Physics, kernel: Kernel) {
    let materials = [physics.material()];
    let of_set = vec![0; mesh.sets.len()];
    let problem = physics.problem(mesh, space, &materials, &of_set);
    let c = physics.components();
    let constraints =
        Constraints::new(problem.discretisation(), c, &[fixtures::held(mesh, c)]).expect("finite values");
    let mut matrix = Matrix::new(pattern, c);
    let mut residual = vec![0.0; space.map.n_owned() * c];
    let u = constraints.lift();
    counted(kernel, || {
        problem.assemble(pattern, &u, &constraints, &mut matrix, &mut residual).expect("sound cells");
    });
    if physics == Physics::Diffusion && space.degree == 1 {
        let exact = [fixtures::expression(GENERAL)];
        counted(kernel_error_norms_p1, || {
            black_box(problem.exact_errors("exact", &exact, &u, EnergyNorm::Omitted).expect("finite values"));
        });
        let points = RegionNodes::new(problem.discretisation());
        counted(kernel_averages_p1, || {
            black_box(problem.nodal(&points, &[Quantity::Flux], &u).expect("finite values"));
        });
    }
}

fn multigrid(comm: &Comm, mesh: &Mesh) {
    let space = Space::new(mesh, 1, Order::Curve).expect("a space");
    let Space { map, halo, .. } = &space;
    let (mut pattern, matrix, near_null) = Physics::Diffusion.system(mesh, &space);
    let (mut given, mut taken) = (Some(matrix), None);
    counted(kernel_multigrid_matrix, || {
        taken = given.take().map(|matrix| Assembled::new(&mut pattern, matrix, halo, map.n_local()));
    });
    let matrix = taken.expect("taken over");
    let mut made = None;
    counted(kernel_multigrid_levels, || {
        let (near_null, options) = (near_null.clone(), Options::default());
        let input = Input { comm, map, halo, matrix: &matrix, near_null, transfer: None, options };
        made = Some(Multigrid::new(input).expect("a positive definite matrix"));
    });
    let mut levels = made.expect("levels");
    let r: Vec<f64> = (0..map.n_owned()).map(|k| (k as f64).sin()).collect();
    let mut z = vec![0.0; r.len()];
    counted(kernel_multigrid_cycle, || levels.apply_to(&r, 1.0, &mut z));
    let mut operator = Operator::new(matrix, halo, map.n_ghost());
    operator.slice();
    counted(kernel_product, || {
        black_box(operator.apply(&r, &mut z));
    });
    black_box(&z);
}

fn expressions() {
    let expr = fixtures::expression(GENERAL);
    let mut all = vec![expr.clone()];
    all.extend([Var::X, Var::Y, Var::Z].map(|v| expr.derivative(v)));
    let set = ExprSet::new(&all);
    let n = 1 << 14;
    let x: Vec<f64> = (0..n).map(|k| k as f64 / n as f64).collect();
    let points = Points { x: &x, y: &x, z: &x, t: 0.0 };
    let (mut scratch, mut values) = (Scratch::default(), vec![0.0; 4 * n]);
    counted(kernel_expression, || expr.eval(&points, &mut values[..n], &mut scratch));
    counted(kernel_expression_gradient, || set.eval(&points, &mut values, &mut scratch));
    black_box(&values);
}

fn elements() {
    use femdd::element::{Lagrange, Nodes, Quadrature, Shape};
    counted(kernel_tabulate, || {
        for shape in [Shape::Triangle, Shape::Tetrahedron, Shape::Hexahedron] {
            let basis = Lagrange::new(shape, 2, Nodes::Spectral).expect("degree 2");
            let rule = Quadrature::new(shape, 8).expect("degree 8");
            black_box(basis.tabulate(&rule.points, 1));
        }
    });
}

fn main() {
    // Callgrind counts thread by thread: parallel loops stay on this one.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("no pool yet");
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    elements();
    expressions();
    meshes(&comm);
    let cells = fixtures::cube(&comm, "tetrahedron", N);
    assembly(&cells);
    multigrid(&comm, &cells);
    println!("done");
}
