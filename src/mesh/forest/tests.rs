//! What the forest promises, on 1 to 8 ranks: each test starts itself again under `mpirun`.
//!
//! Start at `under_mpi`; `tests/problems.rs` has meshes, marks and measures, which depend on the leaves' keys and
//! not on the rank that asks, so that the figures of all numbers of ranks must be the same.

mod coarsening;
mod limits;
mod problems;
mod random;
mod refining;
mod saved;

use std::time::Duration;

use cluster::Comm;

const LIMIT: Duration = Duration::from_secs(240);

/// Runs `body` on each of these numbers of ranks; what it returned on rank 0 must be the same on all.
fn under_mpi(test: &str, ranks: &[usize], body: fn(&Comm) -> Vec<u64>) {
    if testing::is_inside() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        // A failure on one rank ends the others, which would wait for it.
        let figures = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&comm)));
        let Ok(figures) = figures else { comm.abort(1) };
        if comm.is_root() {
            testing::tell(&figures);
        }
        return;
    }
    let name = test.split_once("::").map_or(test, |t| t.1);
    let all: Vec<Vec<u64>> = ranks.iter().map(|&n| testing::figures_of(name, n, 1, LIMIT)).collect();
    for (figures, n) in all.iter().zip(ranks) {
        assert_eq!(all[0], *figures, "{test}: {} ranks against {n}", ranks[0]);
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
