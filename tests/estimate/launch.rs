//! Test bodies under `mpirun`, with a time limit, and the numbers they return.

use std::time::Duration;

use cluster::Comm;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs `body` on each of these numbers of ranks, with that many threads each; what it returned on rank 0,
/// exactly. `test` is the test's path in this binary.
pub fn under_mpi(test: &str, ranks: &[usize], threads: usize, body: fn(&Comm) -> Vec<f64>) -> Vec<Vec<f64>> {
    if testing::is_inside() {
        let session = cluster::init().expect("MPI starts");
        let comm = session.world();
        let _petsc = femdd::solver::start(&comm).expect("PETSc starts");
        let figures: Vec<u64> = body(&comm).iter().map(|f| f.to_bits()).collect();
        if comm.is_root() {
            testing::tell(&figures);
        }
        return Vec::new();
    }
    let of =
        |&n: &usize| testing::figures_of(test, n, threads, LIMIT).into_iter().map(f64::from_bits).collect();
    ranks.iter().map(of).collect()
}
