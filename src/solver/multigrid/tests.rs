//! What the preconditioner promises, on 1 to 4 ranks: each test starts itself again under `mpirun`.
//!
//! Start at `under_mpi`; `problems.rs` makes the matrices.

mod problems;

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::Comm;

use super::{Input, Multigrid, Options};
use problems::{Lattice, Operator, Problem, noise};

const LIMIT: Duration = Duration::from_secs(120);
const INSIDE: &str = "FEMDD_TEST_INSIDE";

/// Runs `body` on each of these numbers of ranks.
fn under_mpi(test: &str, ranks: &[usize], body: fn(&Comm)) {
    if std::env::var_os(INSIDE).is_some() {
        let session = cluster::init().expect("MPI starts");
        body(&session.world());
        return;
    }
    for &n in ranks {
        let log = std::env::temp_dir().join(format!("femdd-multigrid-{}-{test}-{n}", std::process::id()));
        let file = std::fs::File::create(&log).expect("a log");
        let mut child = Command::new("mpirun")
            .args(["--oversubscribe", "-n", &n.to_string()])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", &format!("solver::multigrid::tests::{test}"), "--nocapture", "--test-threads=1"])
            .args(["--include-ignored"])
            .env(INSIDE, "1")
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
        println!("{said}");
        assert!(status.is_some_and(|s| s.success()), "{test} on {n} ranks, {status:?}:\n{said}");
    }
}

fn multigrid(comm: &Comm, problem: &Problem, near_null: &[Vec<f64>], options: Options) -> Multigrid {
    let Problem { map, halo, pattern, matrix, .. } = problem;
    let input = Input { comm, map, halo, pattern, matrix, near_null, transfer: None, options };
    Multigrid::new(input).expect("levels")
}

fn dot(comm: &Comm, x: &[f64], y: &[f64]) -> f64 {
    comm.sum(x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>())
}

/// Conjugate gradients from zero to 1e-8: iterations. The right-hand side depends on places alone.
fn iterations(comm: &Comm, problem: &Problem, m: &mut Multigrid, null: bool) -> usize {
    let block = problem.matrix.block;
    let n = problem.x.len() * block;
    let mut r: Vec<f64> = (0..n)
        .map(|k| {
            let x = problem.x[k / block];
            if problem.fixed[k] { 0.0 } else { 1.0 + (7.0 * x[0] + 3.0 * x[1] + 5.0 * x[2] + k as f64 % 3.0).sin() }
        })
        .collect();
    let project = |r: &mut [f64]| {
        if null {
            let mean = comm.sum(r.iter().sum::<f64>()) / comm.sum(r.len() as u64) as f64;
            r.iter_mut().for_each(|r| *r -= mean);
        }
    };
    project(&mut r);
    let wanted = 1e-8 * dot(comm, &r, &r).sqrt();
    let mut x = vec![0.0; n];
    let mut z = vec![0.0; n];
    let mut p = vec![0.0; problem.map.n_local() * block];
    let mut q = vec![0.0; n];
    m.apply(&r, &mut z);
    project(&mut z);
    p[..n].copy_from_slice(&z);
    let mut rho = dot(comm, &r, &z);
    for k in 1..=200 {
        problem.product(&mut p, &mut q);
        let alpha = rho / dot(comm, &p[..n], &q);
        (0..n).for_each(|i| x[i] += alpha * p[i]);
        (0..n).for_each(|i| r[i] -= alpha * q[i]);
        if dot(comm, &r, &r).sqrt() <= wanted {
            return k;
        }
        m.apply(&r, &mut z);
        project(&mut z);
        let next = dot(comm, &r, &z);
        assert!(next > 0.0, "the preconditioner is not positive: {next}");
        let beta = next / rho;
        rho = next;
        (0..n).for_each(|i| p[i] = z[i] + beta * p[i]);
    }
    usize::MAX
}

fn seconds() -> f64 {
    // SAFETY: fills the structure given.
    let time = unsafe {
        let mut time = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time);
        time
    };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

#[test]
#[ignore]
fn measure() {
    let ranks: usize = std::env::var("RANKS").map_or(1, |r| r.parse().unwrap());
    under_mpi("measure", &[ranks], |comm| {
        let n: usize = std::env::var("N").map_or(50, |r| r.parse().unwrap());
        let var = |k: &str, d: f64| std::env::var(k).map_or(d, |v| v.parse().unwrap());
        let kind = std::env::var("KIND").unwrap_or("poisson".into());
        let lattice = Lattice { jitter: var("JITTER", 0.2), ..Lattice::cube(n) };
        let (p, modes) = if kind == "poisson" {
            let d = Operator::Diffusion { k: &|_| [1.0; 3], c: 0.0 };
            (lattice.assemble(comm, &d, &|x, _| x.iter().any(|&x| x == 0.0 || x == 1.0)), vec![])
        } else if kind == "poisson2" {
            let d = Operator::Diffusion { k: &|_| [1.0; 3], c: 0.0 };
            let l = Lattice { jitter: var("JITTER", 0.2), ..Lattice::square(n) };
            (l.assemble(comm, &d, &|x, _| x[..2].iter().any(|&x| x == 0.0 || x == 1.0)), vec![])
        } else {
            let d = Operator::Elasticity { lambda: 0.3 / (1.3 * 0.4), mu: 1.0 / 2.6 };
            let p = lattice.assemble(comm, &d, &|x, _| x[0] == 0.0);
            let m = p.rigid_motions(3);
            (p, m)
        };
        let options = Options {
            threshold: var("THETA", 0.05),
            degree: var("DEGREE", 2.0) as usize,
            aggregate: var("AGG", 20.0) as usize,
            ..Options::default()
        };
        let (b, w) = (seconds(), Instant::now());
        let mut m = multigrid(comm, &p, &modes, options);
        let setup = comm.max((seconds() - b).to_bits());
        let setup_wall = w.elapsed();
        let s = m.summary().clone();
        let bytes = comm.sum(s.bytes as u64);
        let k = iterations(comm, &p, &mut m, false);
        let nn = p.x.len() * p.matrix.block;
        let (r, mut z) = (vec![1.0; nn], vec![0.0; nn]);
        let times = 5;
        let b = seconds();
        (0..times).for_each(|_| m.apply(&r, &mut z));
        let cycle = comm.max((seconds() - b).to_bits());
        if comm.is_root() {
            let f32_copy = 8 * 15 * s.levels[0].unknowns;
            println!("setup {:.3} cpu {:?} wall, {k} iterations, cycle {:.2} ms cpu; total cycles {:.3} s; oc {:.2} bytes {:.1} MB ({:.2})",
                f64::from_bits(setup), setup_wall, 1e3 * f64::from_bits(cycle) / times as f64, k as f64 * f64::from_bits(cycle) / times as f64, s.operator_complexity, bytes as f64/1e6, bytes as f64 / f32_copy as f64);
            for l in &s.levels { println!("   {l:?} {:.1}", l.entries as f64 / l.unknowns as f64); }
        }
    });
}
