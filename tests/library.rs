//! The library's one call from a plain program, on one rank and under mpirun.
//!
//! Start at `laplace_solves`, the program; the other test starts it again by mpirun. One test only may
//! call femdd in this process: MPI belongs to the thread that started it.

use std::sync::Mutex;
use std::time::Duration;

use femdd::Domain;

/// Says under mpirun how many ranks there are.
const RANKS: &str = "FEMDD_TEST_LIBRARY_RANKS";

/// MPI changes the environment of its process, which a process that is started meanwhile would inherit in part.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn laplace_solves() {
    let _turn = ONE_AT_A_TIME.lock();
    let pi = std::f64::consts::PI;
    let ranks: usize = std::env::var(RANKS).map_or(1, |n| n.parse().expect("a number"));

    // Degree 2 holds x (1 - x) exactly.
    let interval = femdd::laplace(&Domain::interval(0.0, 1.0).cells(10).degree(2), 2.0, 0.0).expect("solves");
    assert_eq!(interval.metrics.ranks, ranks);
    assert_eq!(interval.metrics.dofs, 21);
    assert_eq!(interval.nodes.len(), interval.solution.len());
    assert!(!interval.nodes.is_empty());
    assert_eq!(interval.nodes.len() < 21, ranks > 1, "each rank has its own part");
    for (x, u) in interval.nodes.iter().zip(&interval.solution) {
        assert!((u - x[0] * (1.0 - x[0])).abs() < 1e-8, "u({}) = {u}", x[0]);
    }

    // A second call in the same process; the error falls by about 4 where cells are halved.
    let error = |n: usize| {
        let domain = Domain::rectangle([0.0, 0.0], [1.0, 1.0]).cells(n);
        let result = femdd::laplace(&domain, "2*pi^2*sin(pi*x)*sin(pi*y)", 0.0).expect("solves");
        let exact = |x: &[f64; 3]| (pi * x[0]).sin() * (pi * x[1]).sin();
        let largest = result.nodes.iter().zip(&result.solution).map(|(x, u)| (u - exact(x)).abs());
        largest.fold(0.0, f64::max)
    };
    let (coarse, fine) = (error(8), error(16));
    assert!(fine < 0.01 && coarse / fine > 3.0, "{coarse} {fine}");

    // A boundary value that varies, and cells that differ by direction.
    let domain = Domain::cuboid([0.0; 3], [1.0, 2.0, 1.0]).cells_along(&[3, 5, 4]);
    let linear = femdd::laplace(&domain, 0, "1 + x - 2*y + 3*z").expect("solves");
    for (x, u) in linear.nodes.iter().zip(&linear.solution) {
        assert!((u - (1.0 + x[0] - 2.0 * x[1] + 3.0 * x[2])).abs() < 1e-7);
    }

    // A failure is a value, the same on every rank, and the next call works.
    let failed = femdd::laplace(&Domain::interval(0.0, 1.0), "sin(", 0.0).expect_err("does not parse");
    assert!(failed.message.contains("source") || failed.key.as_deref() == Some("physics.source"), "{failed}");
    assert!(femdd::laplace(&Domain::interval(0.0, 1.0).cells(4), 0.0, 1.0).is_ok());

    assert!(!std::path::Path::new("laplace.out").exists(), "nothing is written");
    let elsewhere = std::thread::spawn(|| femdd::laplace(&Domain::interval(0.0, 1.0), 1.0, 0.0));
    assert!(elsewhere.join().expect("no panic").is_err(), "MPI belongs to one thread");
}

#[test]
fn laplace_solves_under_mpirun() {
    let _turn = ONE_AT_A_TIME.lock();
    if std::env::var_os(RANKS).is_some() {
        return;
    }
    for ranks in [2, 3] {
        let mut command = testing::this_test("laplace_solves", ranks);
        command.env(RANKS, ranks.to_string());
        let ended = testing::finish(command, Duration::from_secs(60));
        assert!(ended.succeeded(), "{ranks} ranks: {}", ended.text());
        let passed = ended.stdout.matches("1 passed").count();
        assert_eq!(passed, ranks, "each rank ends well: {}", ended.text());
    }
}
