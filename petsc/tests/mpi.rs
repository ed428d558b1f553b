//! The crate under MPI. Started by `cargo test` it runs itself under mpirun at 1, 2 and 3 ranks, each with a
//! time limit; there, every rank makes every check.

use std::env;
use std::process::exit;
use std::time::Duration;

use mpi::ffi::{self, MPI_Comm, RSMPI_COMM_WORLD};
use petsc::{Csr, Error, Ksp, Mat, Norm, NullSpace, PetscInt, Reason, Session, Side, Vec as PetscVec};

const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    if env::var_os("OMPI_COMM_WORLD_SIZE").is_some() || env::var_os("PMI_SIZE").is_some() {
        return on_every_rank();
    }
    let mut failed = 0;
    println!("\nrunning 3 tests");
    for ranks in 1..=3 {
        let ok = launch(ranks);
        println!("test mpi_{ranks}_ranks ... {}", if ok { "ok" } else { "FAILED" });
        failed += i32::from(!ok);
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {failed} failed; 0 ignored\n", 3 - failed);
    exit(failed.min(1));
}

fn launch(ranks: usize) -> bool {
    let ended = testing::finish(testing::this_program(ranks), LIMIT);
    if !ended.succeeded() {
        println!("{ranks} ranks: {}", ended.text());
    }
    ended.succeeded()
}

fn on_every_rank() {
    let universe = mpi::initialize().expect("MPI starts");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The one panic that a check provokes.
        let on_purpose = info.payload().downcast_ref::<&str>().is_some_and(|s| *s == "on purpose");
        if !on_purpose {
            hook(info);
            // SAFETY: MPI runs.
            unsafe { ffi::MPI_Abort(RSMPI_COMM_WORLD, 1) };
        }
    }));
    // SAFETY: a constant handle.
    let world = unsafe { RSMPI_COMM_WORLD };
    let session =
        petsc::initialize(world, &["-unused_thing".to_owned(), "3".to_owned()]).expect("PETSc starts");
    let ranks = Ranks::of(world);
    starts_once(&ranks, &session);
    matvec(&ranks);
    reassembly(&ranks);
    bad_rows_are_refused_on_all_ranks(&ranks);
    for (pc, package) in [("jacobi", ""), ("gamg", ""), ("hypre", "hypre")] {
        if package.is_empty() || petsc::packages().contains(&package) {
            conjugate_gradients(&ranks, pc);
        }
    }
    for (method, side) in [
        ("cg", Side::Left),
        ("minres", Side::Left),
        ("gmres", Side::Right),
        ("fgmres", Side::Right),
        ("bcgs", Side::Right),
    ] {
        stopped(&ranks, method, side);
    }
    if petsc::packages().contains(&"mumps") {
        mumps(&ranks);
    }
    near_null_space(&ranks);
    neumann_null_space(&ranks);
    shell(&ranks);
    shell_preconditioner(&ranks);
    subdomain_sum(&ranks);
    errors_are_values(&ranks);
    failures_are_outcomes(&ranks);
    placed_arrays(&ranks);
    // A handle that outlives PETSc is harmless.
    let late = PetscVec::new(world, 3, 3 * ranks.size as u64).unwrap();
    drop(session);
    drop(late);
    drop(universe);
}

struct Ranks {
    comm: MPI_Comm,
    rank: usize,
    size: usize,
}

impl Ranks {
    fn of(comm: MPI_Comm) -> Ranks {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: valid communicator, one int written each.
        unsafe {
            ffi::MPI_Comm_rank(comm, &mut rank);
            ffi::MPI_Comm_size(comm, &mut size);
        }
        Ranks { comm, rank: rank as usize, size: size as usize }
    }

    /// The rows of this rank when `n` are dealt out in contiguous ranges.
    fn range(&self, n: usize) -> std::ops::Range<usize> {
        n * self.rank / self.size..n * (self.rank + 1) / self.size
    }
}

/// Rows given by a function, split as `Mat::from_split_csr` wants them.
fn split(range: std::ops::Range<usize>, row: impl Fn(usize) -> Vec<(usize, f64)>) -> (Csr, Csr) {
    let (mut diag, mut off) = (Csr::empty(0), Csr::empty(0));
    for i in range.clone() {
        let mut entries = row(i);
        entries.sort_by_key(|e| e.0);
        for (j, v) in entries {
            let (part, j) = if range.contains(&j) { (&mut diag, j - range.start) } else { (&mut off, j) };
            part.col.push(j as PetscInt);
            part.val.push(v);
        }
        diag.ptr.push(diag.col.len() as PetscInt);
        off.ptr.push(off.col.len() as PetscInt);
    }
    (diag, off)
}

/// The five-point Laplacian on an m by m grid.
fn laplacian_row(m: usize, i: usize) -> Vec<(usize, f64)> {
    let (x, y) = (i % m, i / m);
    let mut row = vec![(i, 4.0)];
    if x > 0 {
        row.push((i - 1, -1.0));
    }
    if x + 1 < m {
        row.push((i + 1, -1.0));
    }
    if y > 0 {
        row.push((i - m, -1.0));
    }
    if y + 1 < m {
        row.push((i + m, -1.0));
    }
    row
}

/// That Laplacian, a solution and its right-hand side.
fn poisson(ranks: &Ranks, m: usize) -> (Mat, PetscVec, PetscVec) {
    let a = laplacian(ranks, m);
    let x_exact = vector(ranks, m * m, wave);
    let mut b = vector(ranks, m * m, |_| 0.0);
    a.mult(&x_exact, &mut b).unwrap();
    (a, x_exact, b)
}

fn laplacian(ranks: &Ranks, m: usize) -> Mat {
    let range = ranks.range(m * m);
    let (diag, off) = split(range.clone(), |i| laplacian_row(m, i));
    let a = Mat::from_split_csr(ranks.comm, range.len(), (m * m) as u64, 1, diag, off).unwrap();
    a.set_positive_definite().unwrap();
    a
}

fn vector(ranks: &Ranks, n: usize, f: impl Fn(usize) -> f64) -> PetscVec {
    let entries: Vec<f64> = ranks.range(n).map(f).collect();
    PetscVec::from_slice(ranks.comm, &entries, n as u64).unwrap()
}

fn wave(i: usize) -> f64 {
    (0.37 * i as f64).sin()
}

fn assert_entries(ranks: &Ranks, v: &PetscVec, n: usize, tolerance: f64, expected: impl Fn(usize) -> f64) {
    v.read(|v| {
        for (got, i) in v.iter().zip(ranks.range(n)) {
            assert!((got - expected(i)).abs() <= tolerance, "entry {i}: {got}, expected {}", expected(i));
        }
    })
    .unwrap();
}

fn starts_once(ranks: &Ranks, _session: &Session) {
    assert!(matches!(petsc::initialize(ranks.comm, &[]), Err(Error::State(_))));
    assert!(petsc::version().expect("it is loaded") >= (3, 18, 0));
    assert_eq!(petsc::options_left().unwrap(), ["-unused_thing 3"]);
    assert!(!petsc::options_has("-no_such_option").unwrap());
    petsc::options_set("-for_a_while", Some("1")).unwrap();
    assert!(petsc::options_has("-for_a_while").unwrap());
    petsc::options_clear("-for_a_while").unwrap();
    assert!(!petsc::options_has("-for_a_while").unwrap());
    assert!(petsc::memory().unwrap() > 0.0);
}

fn matvec(ranks: &Ranks) {
    let m = 7;
    let a = laplacian(ranks, m);
    let x = vector(ranks, m * m, wave);
    let mut y = vector(ranks, m * m, |_| f64::NAN);
    a.mult(&x, &mut y).unwrap();
    let expected = |i| laplacian_row(m, i).iter().map(|&(j, v)| v * wave(j)).sum::<f64>();
    assert_entries(ranks, &y, m * m, 1e-14, expected);
    assert_eq!(a.memory().unwrap().entries, (5 * m * m - 4 * m) as f64);

    let range = ranks.range(m * m);
    let mut rows = Csr::empty(0);
    for i in range.clone() {
        let mut row = laplacian_row(m, i);
        row.sort_by_key(|e| e.0);
        rows.col.extend(row.iter().map(|e| e.0 as PetscInt));
        rows.val.extend(row.iter().map(|e| e.1));
        rows.ptr.push(rows.col.len() as PetscInt);
    }
    let copy = Mat::copy_from_csr(ranks.comm, range.len(), (m * m) as u64, &rows).unwrap();
    drop(rows);
    let mut z = vector(ranks, m * m, |_| f64::NAN);
    copy.mult(&x, &mut z).unwrap();
    z.axpy(-1.0, &y).unwrap();
    assert!(z.norm_max().unwrap() < 1e-14);
}

/// New values reach both the product and a solver that was set up before.
fn reassembly(ranks: &Ranks) {
    let m = 12;
    let mut a = laplacian(ranks, m);
    let b = vector(ranks, m * m, wave);
    let mut x = vector(ranks, m * m, |_| 0.0);
    let mut ksp = solver(ranks, &a, "cg");
    ksp.pc().unwrap().set_type("bjacobi").unwrap();
    ksp.set_tolerances(1e-12, 1e-50, 1e5, 1000).unwrap();
    let first = ksp.solve(&b, &mut x).unwrap();
    assert!(first.reason.converged());
    let before = x.norm2().unwrap();
    a.values_mut(|diag, off| diag.iter_mut().chain(off).for_each(|v| *v *= 4.0)).unwrap();
    x.set(0.0).unwrap();
    let second = ksp.solve(&b, &mut x).unwrap();
    assert!((x.norm2().unwrap() * 4.0 / before - 1.0).abs() < 1e-9);
    assert!(second.iterations.abs_diff(first.iterations) <= 1);
    // The solver keeps the matrix alive.
    drop(a);
    assert!(ksp.solve(&b, &mut x).unwrap().reason.converged());
}

fn bad_rows_are_refused_on_all_ranks(ranks: &Ranks) {
    let m = 5;
    let range = ranks.range(m * m);
    let (mut diag, off) = split(range.clone(), |i| laplacian_row(m, i));
    // Only the last rank's rows are bad.
    let bad = ranks.rank + 1 == ranks.size;
    if bad {
        diag.col[0] = -1;
    }
    let result = Mat::from_split_csr(ranks.comm, range.len(), (m * m) as u64, 1, diag, off);
    match result.err() {
        Some(Error::Invalid(_)) => assert!(bad),
        Some(Error::Peer) => assert!(!bad),
        other => panic!("{other:?}"),
    }
}

/// A solver of that method for a matrix.
fn solver(ranks: &Ranks, a: &Mat, method: &str) -> Ksp {
    let mut ksp = Ksp::new(ranks.comm).unwrap();
    ksp.set_operators(a, a).unwrap();
    ksp.set_type(method).unwrap();
    ksp
}

fn conjugate_gradients(ranks: &Ranks, pc: &str) {
    let m = 60;
    let (a, x_exact, b) = poisson(ranks, m);
    let mut x = vector(ranks, m * m, |_| 0.0);
    let mut ksp = solver(ranks, &a, "cg");
    ksp.set_norm(Norm::Unpreconditioned).unwrap();
    ksp.pc().unwrap().set_type(pc).unwrap();
    ksp.set_tolerances(1e-10, 1e-50, 1e5, 500).unwrap();
    ksp.keep_residual_history().unwrap();
    let mut seen = Vec::new();
    let outcome = ksp.solve_monitored(&b, &mut x, &mut |it, r| seen.push((it, r))).unwrap();
    assert_eq!(outcome.reason, Reason::ConvergedRelative);
    let limit = if pc == "jacobi" { 200 } else { 25 };
    assert!(outcome.iterations <= limit, "{pc}: {} iterations", outcome.iterations);
    assert_eq!(seen.len(), outcome.iterations as usize + 1);
    assert_eq!(seen.last().unwrap(), &(outcome.iterations, outcome.residual));
    assert_eq!(ksp.residual_history().unwrap(), seen.iter().map(|s| s.1).collect::<Vec<_>>());
    assert_eq!(
        (ksp.type_name().unwrap().as_str(), ksp.pc().unwrap().type_name().unwrap().as_str()),
        ("cg", pc)
    );
    x.axpy(-1.0, &x_exact).unwrap();
    assert!(x.norm2().unwrap() < 1e-6 * x_exact.norm2().unwrap());
}

/// A method that is stopped ends with the iterate that its watcher saw, from which the next solve goes on.
fn stopped(ranks: &Ranks, method: &str, side: Side) {
    let m = 60;
    let (a, x_exact, b) = poisson(ranks, m);
    let mut x = vector(ranks, m * m, |_| 0.0);
    let mut ksp = solver(ranks, &a, method);
    ksp.set_side(side).unwrap();
    ksp.pc().unwrap().set_type("jacobi").unwrap();
    ksp.set_initial_guess_nonzero(true).unwrap();
    ksp.set_tolerances(1e-50, 1e-9, 1e5, 2000).unwrap();
    let (mut calls, mut last) = (0, Vec::new());
    let outcome = ksp
        .solve_watched(&b, &mut x, &mut |it, _, iterate| {
            calls += 1;
            last = iterate();
            it >= 7
        })
        .unwrap();
    assert_eq!(outcome.reason, Reason::Stopped, "{method}");
    // Some methods test once more before they see that they may end.
    assert!((7..=9).contains(&outcome.iterations) && calls >= 8, "{method}: {outcome:?}, {calls} calls");
    let mut x_last = Vec::new();
    x.read(|x| x_last = x.to_vec()).unwrap();
    assert_eq!(x_last.len(), last.len());
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if outcome.iterations == 7 {
        assert!(distance(&x_last, &last) < 1e-12, "{method}: {}", distance(&x_last, &last));
    }
    ksp.set_tolerances(1e-50, 1e-9, 1e5, 2000).unwrap();
    let outcome = ksp.solve(&b, &mut x).unwrap();
    assert!(outcome.reason.converged(), "{method}: {outcome:?}");
    x.axpy(-1.0, &x_exact).unwrap();
    assert!(x.norm2().unwrap() < 1e-6 * x_exact.norm2().unwrap(), "{method}");
}

fn mumps(ranks: &Ranks) {
    let m = 20;
    let (a, _, b) = poisson(ranks, m);
    for factor in ["lu", "cholesky"] {
        let mut x = vector(ranks, m * m, |_| 0.0);
        let mut ksp = solver(ranks, &a, "preonly");
        let mut pc = ksp.pc().unwrap();
        pc.set_type(factor).unwrap();
        pc.set_factor_package("mumps").unwrap();
        assert!(ksp.solve(&b, &mut x).unwrap().reason.converged());
        assert_entries(ranks, &x, m * m, 1e-12, wave);
    }
}

/// Two uncoupled Laplacians, two unknowns a node, with the constant of each as near null space.
fn near_null_space(ranks: &Ranks) {
    let (m, block) = (24, 2);
    let nodes = ranks.range(m * m);
    let range = nodes.start * block..nodes.end * block;
    let n = m * m * block;
    let (diag, off) = split(range.clone(), |i| {
        laplacian_row(m, i / block).into_iter().map(|(j, v)| (j * block + i % block, v)).collect()
    });
    let a = Mat::from_split_csr(ranks.comm, range.len(), n as u64, block, diag, off).unwrap();
    a.set_positive_definite().unwrap();
    assert_eq!(a.block_size().unwrap(), block);
    let local = |f: &dyn Fn(usize) -> f64| {
        let entries: Vec<f64> = range.clone().map(f).collect();
        PetscVec::from_slice(ranks.comm, &entries, n as u64).unwrap()
    };
    let modes: Vec<PetscVec> =
        (0..block).map(|c| local(&|i| if i % block == c { 1.0 / m as f64 } else { 0.0 })).collect();
    let space = NullSpace::new(ranks.comm, false, &modes).unwrap();
    a.set_near_null_space(Some(&space)).unwrap();
    drop((space, modes));
    let b = local(&wave);
    let mut x = local(&|_| 0.0);
    let mut ksp = solver(ranks, &a, "cg");
    ksp.pc().unwrap().set_type("gamg").unwrap();
    ksp.set_tolerances(1e-8, 1e-50, 1e5, 100).unwrap();
    let outcome = ksp.solve(&b, &mut x).unwrap();
    assert!(outcome.reason.converged() && outcome.iterations < 30, "{outcome:?}");
    let skewed = [local(&|_| 1.0)];
    assert!(matches!(NullSpace::new(ranks.comm, false, &skewed), Err(Error::Invalid(_))));
}

/// A ring: singular, the constants its null space.
fn neumann_null_space(ranks: &Ranks) {
    let n = 40;
    let range = ranks.range(n);
    let (diag, off) = split(range.clone(), |i| vec![(i, 2.0), ((i + 1) % n, -1.0), ((i + n - 1) % n, -1.0)]);
    let a = Mat::from_split_csr(ranks.comm, range.len(), n as u64, 1, diag, off).unwrap();
    let space = NullSpace::new(ranks.comm, true, &[]).unwrap();
    a.set_null_space(Some(&space)).unwrap();
    let mut b = vector(ranks, n, |i| 1.0 + wave(i));
    space.remove(&mut b).unwrap();
    assert!(b.dot(&vector(ranks, n, |_| 1.0)).unwrap().abs() < 1e-12);
    let mut x = vector(ranks, n, |_| 0.0);
    let mut ksp = solver(ranks, &a, "gmres");
    ksp.set_side(Side::Right).unwrap();
    ksp.pc().unwrap().set_type("none").unwrap();
    ksp.set_tolerances(1e-10, 1e-50, 1e5, 200).unwrap();
    assert!(ksp.solve(&b, &mut x).unwrap().reason.converged());
    assert!(x.dot(&vector(ranks, n, |_| 1.0)).unwrap().abs() < 1e-10);
}

fn shell(ranks: &Ranks) {
    let n = 30;
    let start = ranks.range(n).start;
    let a = Mat::shell(ranks.comm, ranks.range(n).len(), n as u64, move |x, y| {
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y = x * (1 + start + i) as f64;
        }
        Ok(())
    })
    .unwrap();
    let x = vector(ranks, n, wave);
    let mut y = vector(ranks, n, |_| 0.0);
    a.mult(&x, &mut y).unwrap();
    assert_entries(ranks, &y, n, 1e-14, |i| wave(i) * (i + 1) as f64);

    let failing = Mat::shell(ranks.comm, ranks.range(n).len(), n as u64, |_, _| {
        Err(Error::Invalid("no such operator".to_owned()))
    })
    .unwrap();
    let mut ksp = Ksp::new(ranks.comm).unwrap();
    ksp.set_operators(&failing, &failing).unwrap();
    ksp.pc().unwrap().set_type("none").unwrap();
    match ksp.solve(&x, &mut y) {
        Err(Error::Invalid(text)) => assert_eq!(text, "no such operator"),
        other => panic!("{other:?}"),
    }
    let panicking =
        Mat::shell(ranks.comm, ranks.range(n).len(), n as u64, |_, _| std::panic::panic_any("on purpose"))
            .unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panicking.mult(&x, &mut y)));
    assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "on purpose");
}

/// A closure as preconditioner: applied, replaced, its transpose, its errors and its panics.
fn shell_preconditioner(ranks: &Ranks) {
    let n = 40;
    let local = ranks.range(n).len();
    let start = ranks.range(n).start;
    // Without a preconditioner CG needs one iteration for each of the 40 eigenvalues; with the inverse, one.
    let a = Mat::shell(ranks.comm, local, n as u64, move |x, y| {
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y = x * (1 + start + i) as f64;
        }
        Ok(())
    })
    .unwrap();
    let b = vector(ranks, n, |_| 1.0);
    let mut x = vector(ranks, n, |_| 0.0);
    let mut ksp = Ksp::new(ranks.comm).unwrap();
    assert!(matches!(ksp.set_shell_preconditioner("none", true, |_, _| Ok(())), Err(Error::Invalid(_))));
    ksp.set_operators(&a, &a).unwrap();
    ksp.set_type("cg").unwrap();
    ksp.set_norm(Norm::Unpreconditioned).unwrap();
    ksp.set_tolerances(1e-10, 1e-50, 1e5, 200).unwrap();
    ksp.set_shell_preconditioner("identity", true, |r, z| {
        z.copy_from_slice(r);
        Ok(())
    })
    .unwrap();
    let plain = ksp.solve(&b, &mut x).unwrap();
    assert!(plain.reason.converged() && plain.iterations > 10, "{plain:?}");
    let inverse = move |r: &[f64], z: &mut [f64]| {
        for (i, (z, r)) in z.iter_mut().zip(r).enumerate() {
            *z = r / (1 + start + i) as f64;
        }
        Ok(())
    };
    ksp.set_shell_preconditioner("inverse", true, inverse).unwrap();
    assert_eq!(ksp.pc().unwrap().type_name().unwrap(), "shell");
    x.set(0.0).unwrap();
    let exact = ksp.solve(&b, &mut x).unwrap();
    assert!(exact.reason.converged() && exact.iterations == 1, "{exact:?}");
    assert_entries(ranks, &x, n, 1e-12, |i| 1.0 / (i + 1) as f64);

    // A transposed application is there for symmetric ones only.
    let transposed = |symmetric: bool| {
        let mut ksp = Ksp::new(ranks.comm).unwrap();
        let a = laplacian(ranks, 6);
        let (b, mut x) = (vector(ranks, 36, wave), vector(ranks, 36, |_| 0.0));
        ksp.set_operators(&a, &a).unwrap();
        ksp.set_type("bicg").unwrap();
        let halve = |r: &[f64], z: &mut [f64]| {
            z.iter_mut().zip(r).for_each(|(z, r)| *z = 0.5 * r);
            Ok(())
        };
        ksp.set_shell_preconditioner("half", symmetric, halve).unwrap();
        ksp.solve(&b, &mut x).map(|s| s.reason.converged())
    };
    assert!(transposed(true).unwrap());
    assert!(matches!(transposed(false), Err(Error::Petsc { .. })));

    ksp.set_shell_preconditioner("failing", true, |_, _| Err(Error::Invalid("no such inverse".to_owned())))
        .unwrap();
    match ksp.solve(&b, &mut x) {
        Err(Error::Invalid(text)) => assert_eq!(text, "no such inverse"),
        other => panic!("{other:?}"),
    }
    ksp.set_shell_preconditioner("panicking", true, |_, _| std::panic::panic_any("on purpose")).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ksp.solve(&b, &mut x)));
    assert_eq!(*caught.unwrap_err().downcast_ref::<&str>().unwrap(), "on purpose");
}

/// A chain of elements: each rank has its own, the ends are shared with the neighbours.
fn subdomain_sum(ranks: &Ranks) {
    let per_rank = 4;
    let n = per_rank * ranks.size + 1;
    let first = per_rank * ranks.rank;
    let mut local = Csr::empty(0);
    for i in 0..=per_rank {
        if i > 0 {
            local.col.push((i - 1) as PetscInt);
            local.val.push(-1.0);
        }
        local.col.push(i as PetscInt);
        local.val.push(if i == 0 || i == per_rank { 1.0 } else { 2.0 });
        if i < per_rank {
            local.col.push((i + 1) as PetscInt);
            local.val.push(-1.0);
        }
        local.ptr.push(local.col.len() as PetscInt);
    }
    let map: Vec<PetscInt> = (first..=first + per_rank).map(|i| i as PetscInt).collect();
    let owned = ranks.range(n).len();
    let a = Mat::from_local(ranks.comm, owned, n as u64, local, &map).unwrap();
    assert_eq!(a.type_name().unwrap(), "is");
    let x = vector(ranks, n, wave);
    let mut y = vector(ranks, n, |_| 0.0);
    a.mult(&x, &mut y).unwrap();
    assert_entries(ranks, &y, n, 1e-14, |i| {
        let left = if i > 0 { wave(i) - wave(i - 1) } else { 0.0 };
        let right = if i + 1 < n { wave(i) - wave(i + 1) } else { 0.0 };
        left + right
    });
}

fn errors_are_values(ranks: &Ranks) {
    let mut ksp = Ksp::new(ranks.comm).unwrap();
    match ksp.set_type("no_such_method") {
        Err(Error::Petsc { code, message, trace }) => {
            assert_ne!(code, 0);
            assert!(message.contains("no_such_method"), "{message}");
            assert!(trace.contains("KSPSetType"), "{trace}");
        }
        other => panic!("{other:?}"),
    }
    // PETSc goes on working.
    ksp.set_type("cg").unwrap();
    assert!(matches!(petsc::options_insert("not_an_option"), Err(Error::Petsc { .. }) | Ok(())));
    let mut x = vector(ranks, 9, wave);
    assert!(matches!(ksp.solve(&vector(ranks, 9, wave), &mut x), Err(Error::Invalid(_))));
}

fn failures_are_outcomes(ranks: &Ranks) {
    // Indefinite, and cg says so.
    let n = 12;
    let range = ranks.range(n);
    let (diag, off) = split(range.clone(), |i| vec![(i, if i % 2 == 0 { 1.0 } else { -2.0 })]);
    let a = Mat::from_split_csr(ranks.comm, range.len(), n as u64, 1, diag, off).unwrap();
    let b = vector(ranks, n, |_| 1.0);
    let mut x = vector(ranks, n, |_| 0.0);
    let mut ksp = solver(ranks, &a, "cg");
    ksp.pc().unwrap().set_type("none").unwrap();
    let outcome = ksp.solve(&b, &mut x).unwrap();
    assert_eq!(outcome.reason, Reason::DivergedIndefiniteMatrix);
    assert!(outcome.reason.to_string().contains("not positive definite"));

    // A zero pivot.
    let (diag, off) = split(range.clone(), |i| vec![(i, if i == 0 { 0.0 } else { 1.0 })]);
    let singular = Mat::from_split_csr(ranks.comm, range.len(), n as u64, 1, diag, off).unwrap();
    let mut ksp = solver(ranks, &singular, "gmres");
    let mut pc = ksp.pc().unwrap();
    pc.set_type("lu").unwrap();
    if petsc::packages().contains(&"mumps") {
        pc.set_factor_package("mumps").unwrap();
    } else if ranks.size > 1 {
        return;
    }
    let outcome = ksp.solve(&b, &mut x).unwrap();
    assert!(!outcome.reason.converged(), "{outcome:?}");

    // Too few iterations.
    let a = laplacian(ranks, 40);
    let b = vector(ranks, 1600, wave);
    let mut x = vector(ranks, 1600, |_| 0.0);
    let mut ksp = solver(ranks, &a, "cg");
    ksp.set_tolerances(1e-12, 1e-50, 1e5, 2).unwrap();
    let outcome = ksp.solve(&b, &mut x).unwrap();
    assert_eq!((outcome.reason, outcome.iterations), (Reason::DivergedIterations, 2));
}

fn placed_arrays(ranks: &Ranks) {
    let n = 11;
    let mut v = vector(ranks, n, |_| 7.0);
    let mut array: Vec<f64> = ranks.range(n).map(wave).collect();
    v.with_array(&mut array, |v| v.scale(2.0)).unwrap().unwrap();
    for (a, i) in array.iter().zip(ranks.range(n)) {
        assert_eq!(*a, 2.0 * wave(i));
    }
    assert_entries(ranks, &v, n, 0.0, |_| 7.0);
    assert!(v.with_array(&mut [0.0; 12], |_| ()).is_err());
}
