//! What the forest promises, on 1 to 8 ranks: each test starts itself again under `mpirun`.
//!
//! Start at `under_mpi`; `tests/problems.rs` has meshes, marks and measures, which depend on the leaves' keys and
//! not on the rank that asks, so that the figures of all numbers of ranks must be the same.

mod coarsening;
mod limits;
mod problems;
mod random;
mod refining;

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::Comm;

const LIMIT: Duration = Duration::from_secs(240);
const INSIDE: &str = "FEMDD_TEST_INSIDE";
const FIGURES: &str = "figures:";

/// Runs `body` on each of these numbers of ranks; what it returned on rank 0 must be the same on all.
fn under_mpi(test: &str, ranks: &[usize], body: fn(&Comm) -> Vec<u64>) {
    if std::env::var_os(INSIDE).is_some() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        // A failure on one rank ends the others, which would wait for it.
        let figures = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&comm)));
        let Ok(figures) = figures else { comm.abort(1) };
        if comm.is_root() {
            println!("\n{FIGURES} {figures:?}");
        }
        return;
    }
    let mut all: Vec<String> = Vec::new();
    for &n in ranks {
        let name = test.rsplit("::").next().expect("a name");
        let log = std::env::temp_dir().join(format!("femdd-forest-{}-{name}-{n}", std::process::id()));
        let file = std::fs::File::create(&log).expect("a log");
        let full = test.split_once("::").map_or(test, |t| t.1);
        let mut child = Command::new("mpirun")
            .args(["--oversubscribe", "-n", &n.to_string()])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", full, "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .env("RAYON_NUM_THREADS", "1")
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
        let figures = said.lines().find_map(|line| line.strip_prefix(FIGURES)).expect("figures");
        all.push(figures.to_string());
        assert_eq!(all[0], figures, "{test}: {} ranks against {n}", ranks[0]);
    }
}

/// The path of the test that calls this, as the test program names it.
macro_rules! this_test {
    () => {{
        fn here() {}
        std::any::type_name_of_val(&here).trim_end_matches("::here")
    }};
}
use this_test;
