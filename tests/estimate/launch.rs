//! Test bodies under `mpirun`, with a time limit, and the numbers they return.

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::Comm;

const LIMIT: Duration = Duration::from_secs(300);
const INSIDE: &str = "FEMDD_TEST_ESTIMATE_INSIDE";
const FIGURES: &str = "figures:";

/// Runs `body` on each of these numbers of ranks, with that many threads each; what it returned on rank 0,
/// exactly. `test` is the test's path in this binary.
pub fn under_mpi(test: &str, ranks: &[usize], threads: usize, body: fn(&Comm) -> Vec<f64>) -> Vec<Vec<f64>> {
    if std::env::var_os(INSIDE).is_some() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        let _petsc = femdd::solver::start(&comm).expect("PETSc starts");
        let figures: Vec<u64> = body(&comm).iter().map(|f| f.to_bits()).collect();
        if comm.is_root() {
            println!("\n{FIGURES} {figures:?}");
        }
        return Vec::new();
    }
    let mut all = Vec::new();
    for &n in ranks {
        let name = format!("femdd-estimate-{}-{}-{n}-{threads}", std::process::id(), test.replace("::", "-"));
        let log = std::env::temp_dir().join(name);
        let file = std::fs::File::create(&log).expect("a log");
        let mut child = Command::new("mpirun")
            .args(["--oversubscribe", "-n", &n.to_string()])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .expect("mpirun starts");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("waits") {
                break Some(status);
            }
            if begin.elapsed() > LIMIT {
                child.kill().expect("kills");
                child.wait().expect("ends");
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = std::fs::read_to_string(&log).expect("a log");
        std::fs::remove_file(&log).expect("removes the log");
        assert!(status.is_some_and(|s| s.success()), "{test} on {n} ranks, {status:?}:\n{said}");
        let line = said.lines().find_map(|line| line.strip_prefix(FIGURES)).expect("figures");
        if std::env::var_os("FEMDD_TEST_SHOW").is_some() {
            println!("{said}");
        }
        let figures = line.trim().trim_matches(['[', ']']).split(", ").filter(|f| !f.is_empty());
        all.push(figures.map(|f| f64::from_bits(f.parse().expect("a number"))).collect());
    }
    all
}
