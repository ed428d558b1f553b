//! Exchanges between ranks: `cargo bench --bench halo`, on two ranks, or on as many as `FEMDD_BENCH_RANKS`.
//!
//! Started by cargo this program starts itself under `mpirun`. All ranks do the same fixed number of
//! exchanges, so criterion, which decides by the clock, has no part in it.

mod fixtures;

use std::process::{Command, ExitCode};
use std::time::Instant;

use cluster::Comm;
use femdd::space::{Order, Space};

fn main() -> ExitCode {
    if cluster::under_launcher() {
        let session = cluster::init().expect("MPI starts");
        measure(&session.world());
        return ExitCode::SUCCESS;
    }
    let ranks = std::env::var("FEMDD_BENCH_RANKS").unwrap_or_else(|_| "2".to_owned());
    let program = std::env::current_exe().expect("this program has a path");
    let started = Command::new("mpirun")
        .args(["--oversubscribe", "-n", &ranks])
        .arg(program)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .status()
        .expect("mpirun starts");
    if started.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Microseconds of the slowest rank.
fn time(comm: &Comm, rounds: usize, mut work: impl FnMut()) -> f64 {
    for _ in 0..rounds / 10 + 1 {
        work();
    }
    comm.barrier();
    let begin = Instant::now();
    for _ in 0..rounds {
        work();
    }
    1e6 * comm.max(begin.elapsed().as_secs_f64() / rounds as f64)
}

/// Exchanges the values of an array.
type Exchange<'a> = &'a mut dyn FnMut(&mut [f64]);

fn measure(comm: &Comm) {
    let mesh = fixtures::cube(comm, "tetrahedron", 24);
    let say = |line: String| {
        if comm.is_root() {
            println!("{line}");
        }
    };
    say(format!("{} ranks, {} tetrahedra", comm.size(), mesh.n_cells_global));
    say(format!("{:44} {:>12} {:>12}", "exchange", "most bytes", "microseconds"));
    for degree in [1, 2] {
        let space = Space::new(&mesh, degree, Order::Curve).expect("a space");
        for block in [1, 3] {
            let mut values = vec![1.0f64; space.map.n_local() * block];
            let ways: [(&str, Exchange); 2] = [
                ("forward", &mut |x| space.halo.forward(x, block)),
                ("reverse", &mut |x| {
                    space.halo.reverse_add(x, block);
                    x.fill(1.0);
                }),
            ];
            for (name, exchange) in ways {
                comm.take_counters();
                exchange(&mut values);
                let bytes = comm.max(comm.take_counters().bytes);
                let micro = time(comm, 500, || exchange(&mut values));
                let what = format!("{name}, degree {degree}, {block} values a node");
                say(format!("{what:44} {bytes:12} {micro:12.2}"));
            }
        }
    }
    say(format!("{:44} {:12} {:12.2}", "sum of one number", 8, time(comm, 2000, || drop_sum(comm))));
    say(format!("{:44} {:12} {:12.2}", "agreement", 8, time(comm, 2000, || agree(comm))));
}

fn drop_sum(comm: &Comm) {
    std::hint::black_box(comm.sum(1.0));
}

fn agree(comm: &Comm) {
    comm.agree::<(), String>(Ok(())).expect("nobody failed");
}
