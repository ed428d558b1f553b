//! What is found out of a machine, and what is told of a run on it. Run by `ranks`; imports `cluster` only.

use std::time::{Duration, Instant};

use cluster::monitor::{self, Limit, Options};
use cluster::place::{Machine, Place};
use cluster::stop::{self, Reason};
use cluster::{Comm, place};

/// All ranks share one host here.
pub fn the_machine_is_the_same_everywhere(comm: &Comm) {
    let found = Place::find();
    let machine = Machine::gather(comm, &found);
    let text = serde_json::to_string(&machine).expect("serialises");
    let other = comm.broadcast_value(0, comm.is_root().then(|| text.clone()));
    assert_eq!(text, other);
    assert_eq!(serde_json::from_str::<Machine>(&text).expect("reads back"), machine);
    let ranks = comm.size() as u64;
    assert_eq!((machine.n_hosts, machine.ranks_per_host.min, machine.ranks_per_host.max), (1, ranks, ranks));
    assert_eq!((machine.hosts.len(), &machine.hosts[0]), (1, &machine.fullest));
    assert_eq!(machine.fullest.name, found.host);
    assert_eq!(machine.launcher.kind, "mpirun");
    assert!(
        machine.launcher.oversubscribe && machine.network.transport.iter().any(|t| t.starts_with("pml "))
    );
    assert!(machine.memory_limit > 0 && machine.memory_limit <= found.memory.total);
    // The ranks are not bound: each may use all cores, and they are dealt out.
    let cores = found.cpus.usable() as u64;
    assert_eq!(machine.cores_per_rank, (cores / ranks).max(1));
    assert_eq!((machine.bound_to_one_core, machine.sharing_their_core), (0, 0));
    let (warnings, notes) = machine.advise(machine.cores_per_rank as usize);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(notes.len(), usize::from(ranks > machine.cores), "{notes:?}");
}

/// Every rank on core 0 alone, as where two jobs are bound to the same cores.
pub fn bound_ranks_are_seen(comm: &Comm) {
    let mut found = Place::find();
    found.cpus.cores.truncate(1);
    found.cpus.allowed.truncate(1);
    found.cpus.host_cores = 8;
    let machine = Machine::gather(comm, &found);
    let ranks = comm.size() as u64;
    assert_eq!((machine.cores_per_rank, machine.bound_to_one_core, machine.cores), (1, ranks, 1));
    assert_eq!(machine.sharing_their_core, if ranks > 1 { ranks } else { 0 });
    // Each on a core of its own.
    let (first, second) = (2 * comm.rank() as u32, 2 * comm.rank() as u32 + 1);
    found.cpus.allowed = vec![first, second];
    found.cpus.cores = vec![first];
    let machine = Machine::gather(comm, &found);
    assert_eq!((machine.cores_per_rank, machine.cores, machine.sharing_their_core), (1, ranks, 0));
    assert_eq!(machine.fullest.hardware_threads, 2 * ranks);
    // A quota of the group they share.
    found.cpus.allowed = (0..16).collect();
    found.cpus.cores = (0..16).collect();
    found.cpus.quota = Some(8.5);
    assert_eq!(Machine::gather(comm, &found).cores_per_rank, 8 / ranks);
}

fn begin(comm: &Comm, options: &Options) -> monitor::Monitor {
    monitor::start(comm, &Place::find(), options).expect("it starts")
}

/// The last rank takes memory in a phase, the first one works in another.
pub fn what_all_ranks_used_is_gathered(comm: &Comm) {
    const BYTES: usize = 96 << 20;
    assert!(monitor::gather(comm).is_none(), "nothing is watched");
    let watching = begin(comm, &Options::default());
    assert!(monitor::start(comm, &Place::find(), &Options::default()).is_none(), "one at a time");
    let last = comm.size() - 1;
    let phase = monitor::enter("space");
    let taken = vec![1u8; if comm.rank() == last { BYTES } else { 1 }];
    assert!(taken.iter().all(|&b| b == 1));
    drop(taken);
    drop(phase);
    let phase = monitor::enter("solve");
    let began = Instant::now();
    let (mut sum, mut n) = (0.0f64, 0);
    // Both some time and some work, however crowded the machine is.
    while comm.rank() == 0 && (n < 20_000_000 || began.elapsed() < Duration::from_millis(350)) {
        sum = (sum + 1.0).sqrt();
        n += 1;
    }
    assert!(sum.is_finite());
    comm.barrier();
    drop(phase);
    if comm.rank() == last {
        drop(monitor::enter("rescue"));
    }
    let before = comm.counters().largest_table;
    let report = monitor::gather(comm).expect("all are watched");
    assert!(comm.counters().largest_table.max(before) <= 64 * comm.size() as u64);
    let text = serde_json::to_string(&report).expect("serialises");
    assert_eq!(comm.broadcast_value(0, comm.is_root().then(|| text.clone())), text);
    let names: Vec<&str> = report.phases.keys().map(String::as_str).collect();
    assert_eq!(names, ["between", "rescue", "solve", "space"]);
    let space = &report.phases["space"]["memory_peak"];
    assert!(space.max >= BYTES as f64 && space.rank == last as u64, "{space:?}");
    if comm.size() > 1 {
        assert!(space.min < BYTES as f64, "{space:?}");
    }
    let work = &report.phases["solve"];
    assert!(work["seconds"].max >= 0.3 && work["user"].max > 0.02 && work["user"].rank == 0, "{work:?}");
    assert!(report.total["memory_peak"].max >= space.max && report.total["cores"].max > 0.0);
    for row in report.phases.values().chain([&report.total]).flat_map(|row| row.values()) {
        assert!(row.min <= row.mean && row.mean <= row.max && row.rank <= last as u64, "{row:?}");
    }
    let series = &report.series;
    let n = series.memory.max.len();
    assert!(n >= 3 && series.memory.min.len() == n && series.cores.mean.len() == n, "{series:?}");
    assert!(series.phase.iter().any(|phase| phase == "solve"));
    assert!(report.host_memory_peak > 0 && report.watchdog.is_some());
    assert!(report.sampling.samples.min >= 2.0);
    let thread = report.sampling.cpu_seconds.max;
    assert!(thread > 0.0 && thread < 0.02 * report.total["seconds"].max, "{thread}");
    drop(watching);
    assert!(monitor::gather(comm).is_none());
}

/// A limit of the user's own that every rank is above at once.
pub fn little_memory_is_a_reason_to_stop(comm: &Comm) {
    stop::forget();
    let watching = begin(comm, &Options { memory_limit: Some(1 << 20), ..Options::default() });
    let began = Instant::now();
    while stop::requested().is_none() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stop::requested(), Some(Reason::Memory));
    let watch = monitor::gather(comm).and_then(|report| report.watchdog).expect("a limit");
    assert_eq!((watch.of, watch.limit, watch.left), (Limit::Own, 1 << 20, 0));
    drop(watching);
    stop::forget();
    comm.barrier();
}

/// The file of a run under way and after it.
pub fn metrics_are_written(comm: &Comm) {
    let path = std::env::temp_dir().join(format!("femdd-metrics-{}.prom", std::process::id()));
    let path = comm.broadcast_value(0, Some(path));
    let options = Options { metrics: Some(path.clone()), case: "beam".into(), ..Options::default() };
    let watching = begin(comm, &options);
    let phase = monitor::enter("solve");
    monitor::iteration(7, 1e-3);
    monitor::dofs(99);
    let began = Instant::now();
    while comm.is_root() && !path.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let read = || std::fs::read_to_string(&path).expect("a file");
    if comm.is_root() {
        assert!(read().contains("femdd_up{case=\"beam\",job=\"\"} 1\n"), "{}", read());
    }
    drop(phase);
    monitor::gather(comm).expect("watched");
    if comm.is_root() {
        let text = read();
        for line in [
            "femdd_up{case=\"beam\",job=\"\"} 0\n".to_owned(),
            "femdd_iterations{case=\"beam\",job=\"\"} 7\n".to_owned(),
            "femdd_residual{case=\"beam\",job=\"\"} 0.001\n".to_owned(),
            "femdd_dofs{case=\"beam\",job=\"\"} 99\n".to_owned(),
            format!("femdd_ranks{{case=\"beam\",job=\"\"}} {}\n", comm.size()),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
    }
    drop(watching);
    if comm.is_root() {
        assert!(read().contains("femdd_ranks"), "the last word stays");
        std::fs::remove_file(&path).expect("removes");
    }
    comm.barrier();
}

/// Address space of this process in bytes.
fn address_space() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a table");
    4096 * text.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).expect("a number")
}

/// The last rank takes more and more address space until it is ended.
pub fn run_out_of_memory(comm: &Comm, is_last: bool) {
    let bytes = address_space() + (300 << 20);
    if is_last {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: reads the record it is given.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    }
    let _watching = begin(comm, &Options::default());
    let began = Instant::now();
    let mut taken = Vec::new();
    // Fast at first; slowly enough at the end for a thread that shares two cores with many others.
    while is_last && began.elapsed() < Duration::from_secs(40) {
        let near = bytes.saturating_sub(address_space()) < (48 << 20);
        let (step, pause) = if near { (1 << 18, 20) } else { (4 << 20, 2) };
        taken.push(vec![1u8; step]);
        std::thread::sleep(Duration::from_millis(pause));
    }
    comm.barrier();
    unreachable!("the barrier needs the rank that has no memory left");
}

/// What must be seen of it.
pub fn was_ended(text: &str, code: Option<i32>) {
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(text.matches("error: out of memory: rank").count(), 1, "{text}");
    assert!(text.contains("memory runs out: rank") && text.contains("ulimit -v"), "{text}");
}

/// Lists of names that differ become one.
pub fn names_are_made_common(comm: &Comm) {
    assert_eq!(comm.common_names(&["a", "b"]), ["a", "b"]);
    assert_eq!(comm.common_names(&[]), [""; 0]);
    let last = comm.rank() + 1 == comm.size();
    let mine: &[&str] = if last { &["a", "c"] } else { &["b"] };
    let all = comm.common_names(mine);
    assert_eq!(all, if comm.size() == 1 { vec!["a", "c"] } else { vec!["b", "a", "c"] });
    assert!(place::usable_cores() >= 1);
}
