//! Nothing is allocated in a loop over cells: on eight times as many cells the loops of assembly, error
//! norms, averages, integrals and expressions ask for memory as often as on few.
//!
//! This program counts all requests of the process by a global allocator of its own, so it holds one
//! test. Start at `LOOPS`.

#[path = "../benches/fixtures/mod.rs"]
mod fixtures;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cluster::Comm;
use femdd::assembly::{Constraints, EnergyNorm, Matrix, Pattern, RegionNodes};
use femdd::law::Quantity;
use femdd::law::expr::{ExprSet, Points, Scratch, Var};
use femdd::mesh::Mesh;
use femdd::space::{Order, Space};
use fixtures::{GENERAL, Physics, cube, expression, held};

/// Counts requests and passes them on.
struct Counting;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer and layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc_zeroed(layout) }
    }
    // SAFETY: as the trait demands of the caller.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's pointer, layout and size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests made by the second of two calls: the first warms up.
fn requests(mut work: impl FnMut()) -> u64 {
    work();
    let before = REQUESTS.load(Relaxed);
    work();
    REQUESTS.load(Relaxed) - before
}

/// Requests that may come with eight times the cells, for each thread: buffers of the tasks that rayon
/// splits off once there are several, vectors that double a few times more. One request a batch of 64
/// cells, let alone one a cell, is more than that.
const SLACK: u64 = 200;

/// A loop's name and the requests it makes on a mesh.
type Counted = Vec<(String, u64)>;

/// Laws and degrees.
type Cases = [(Physics, usize)];

fn count_on(mesh: &Mesh, cases: &Cases) -> Counted {
    let mut out = Counted::new();
    for &(physics, degree) in cases {
        count_problem(mesh, physics, degree, &mut out);
    }
    count_expressions(mesh.n_cells_global as usize, &mut out);
    out
}

fn count_problem(mesh: &Mesh, physics: Physics, degree: usize, out: &mut Counted) {
    let space = Space::new(mesh, degree, Order::Curve).expect("a space");
    let materials = [physics.material()];
    let of_set = vec![0; mesh.sets.len()];
    let problem = physics.problem(mesh, &space, &materials, &of_set);
    let c = physics.components();
    let constraints = Constraints::new(problem.discretisation(), c, &[held(mesh, c)]).expect("finite values");
    let pattern = Pattern::new(&space);
    let mut matrix = Matrix::new(&pattern, c);
    let mut residual = vec![0.0; space.map.n_owned() * c];
    let u = constraints.lift();
    let mut note = |what: &str, n: u64| out.push((format!("{physics:?}, degree {degree}: {what}"), n));
    let n = requests(|| {
        problem.assemble(&pattern, &u, &constraints, &mut matrix, &mut residual).expect("sound cells");
    });
    note("matrix and residual", n);
    let n = requests(|| problem.residual(&pattern, &u, &mut residual).expect("sound cells"));
    note("residual", n);
    let exact = vec![expression(GENERAL); c];
    let n = requests(|| {
        problem.exact_errors("exact", &exact, &u, EnergyNorm::Omitted).expect("finite values");
    });
    note("error norms", n);
    let quantity = if physics == Physics::Elasticity { Quantity::Stress } else { Quantity::Flux };
    let n = requests(|| {
        problem.integrate_cells(quantity, &u, &|_, _| true).expect("finite values");
    });
    note("integral over cells", n);
    let points = RegionNodes::new(problem.discretisation());
    let n = requests(|| {
        problem.nodal(&points, &[quantity], &u).expect("finite values");
    });
    note("averages at nodes", n);
    let n = requests(|| {
        Pattern::new(&space);
    });
    note("pattern", n);
}

fn count_expressions(n: usize, out: &mut Counted) {
    let expr = expression(GENERAL);
    let mut all = vec![expr.clone()];
    all.extend([Var::X, Var::Y, Var::Z].map(|v| expr.derivative(v)));
    let set = ExprSet::new(&all);
    let x: Vec<f64> = (0..n).map(|k| k as f64 / n as f64).collect();
    let points = Points { x: &x, y: &x, z: &x, t: 0.0 };
    let (mut scratch, mut values) = (Scratch::default(), vec![0.0; 4 * n]);
    out.push(("expression".to_owned(), requests(|| expr.eval(&points, &mut values[..n], &mut scratch))));
    let n = requests(|| set.eval(&points, &mut values, &mut scratch));
    out.push(("expression and its gradient".to_owned(), n));
}

/// What grows from the cells of a cube of `n` to those of one of `2 n`, if anything does.
fn complaints(comm: &Comm, threads: usize, shape: &str, n: usize, cases: &Cases) -> String {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    // One thread at a time calls MPI, on one rank.
    let count = |n| pool.install(|| count_on(&cube(comm, shape, n), cases));
    let mut text = String::new();
    for ((name, few), (_, many)) in count(n).iter().zip(&count(2 * n)) {
        if *many > few + SLACK * threads as u64 {
            let _ = writeln!(
                text,
                "{shape}, {threads} threads, {name}: {few} requests, {many} on 8 times the cells"
            );
        }
    }
    text
}

#[test]
fn loops_over_cells_do_not_allocate() {
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    let all = [
        (Physics::Diffusion, 1),
        (Physics::Diffusion, 2),
        (Physics::ConvectionDiffusion, 1),
        (Physics::Elasticity, 1),
        (Physics::Elasticity, 2),
    ];
    let mut text = complaints(&comm, 1, "tetrahedron", 8, &all);
    text += &complaints(&comm, 1, "hexahedron", 8, &all);
    // Each thread has buffers of its own, all of which the smaller mesh must fill.
    for threads in [1, 2] {
        let cases = [(Physics::Diffusion, 1), (Physics::Elasticity, 1)];
        text += &complaints(&comm, threads, "tetrahedron", 12, &cases);
    }
    assert!(text.is_empty(), "requests for memory grow with the cells:\n{text}");
}
