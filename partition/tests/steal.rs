//! Rebalance by work stealing under `mpirun`, each job with a time limit.
//!
//! Run by `cargo test`, this program starts itself under `mpirun`: random sequences on 1 to 8 ranks, the table
//! on 4, 16 and 64. `cargo test --release -p femdd-partition --test steal -- NAME` runs the tests whose name
//! contains NAME; `-- table --include-ignored` prints the table that the documentation quotes, `-- --ignored
//! cost` and `-- --ignored claims` what things cost.

mod random;
mod table;
mod tree;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::Comm;

const LIMIT: Duration = Duration::from_secs(1200);

/// A test, its name, the numbers of ranks it runs on.
type Test = (&'static str, fn(&Comm), &'static [usize]);

const TESTS: &[Test] = &[
    ("errors_reach_every_rank", random::errors_reach_every_rank, &[1, 3]),
    ("nothing_moves_without_need", random::nothing_moves_without_need, &[1, 2, 4]),
    ("random_sequences", random::random_sequences, &[1, 2, 3, 4, 5, 8]),
    ("all_ranks_empty_but_one", random::all_ranks_empty_but_one, &[2, 3, 4, 8]),
    ("few_ranks_empty", random::few_ranks_empty, &[3, 4, 8]),
    ("heavy_single_vertices", random::heavy_single_vertices, &[2, 3, 4]),
    ("groups_without_contact", random::groups_without_contact, &[4, 6]),
    ("same_owners_each_time", random::same_owners_each_time, &[2, 4, 8]),
    ("a_thousand_cycles", random::a_thousand_cycles, &[4]),
    ("table", table::table, &[4]),
    ("table_of_abrupt_changes", table::table_of_abrupt_changes, &[4]),
];

/// Those that take longer, or only measure: run with `--include-ignored`, or alone with `--ignored`.
const IGNORED: &[Test] = &[
    ("table_of_more_ranks", table::table, &[16, 64]),
    ("table_of_abrupt_changes_on_more_ranks", table::table_of_abrupt_changes, &[16, 64]),
    ("claims_per_second", random::claims_per_second, &[2, 4]),
    ("cost_of_a_rebalance", random::cost_of_a_rebalance, &[2, 4, 8]),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let only = has("--ignored");
    let all = has("--include-ignored");
    let quick = TESTS.iter().filter(|_| !only);
    let tests: Vec<Test> = quick.chain(IGNORED.iter().filter(|_| only || all)).copied().collect();
    let wanted = |t: &&Test| filter.is_empty() || filter.iter().any(|f| t.0.contains(f.as_str()));
    if !cluster::under_launcher() {
        let mut counts: Vec<usize> = tests.iter().filter(wanted).flat_map(|t| t.2).copied().collect();
        counts.sort_unstable();
        counts.dedup();
        for (name, _, ranks) in IGNORED.iter().filter(|_| !only && !all).filter(wanted) {
            ranks.iter().for_each(|n| println!("{n} ranks: {name} ... ignored"));
        }
        return if counts.into_iter().all(|n| launch(n, &args)) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    for (name, test, _) in tests.iter().filter(wanted).filter(|t| t.2.contains(&comm.size())) {
        comm.barrier();
        let start = Instant::now();
        test(&comm);
        comm.barrier();
        if comm.is_root() {
            println!("{} ranks: {name} ... ok ({:.2} s)", comm.size(), start.elapsed().as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

/// Starts this program on so many ranks; whether it ended well.
fn launch(n_ranks: usize, args: &[String]) -> bool {
    let mut command = testing::this_program(n_ranks);
    command.args(args);
    let ended = testing::finish(command, LIMIT);
    print!("{}", ended.stdout);
    if !ended.succeeded() {
        eprintln!("{n_ranks} ranks: {}", ended.text());
    }
    ended.succeeded()
}
