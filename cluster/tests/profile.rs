//! What is recorded of spans, on 1 to 4 ranks: this program starts itself under `mpirun`.
//!
//! The allocator that counts is this program's own. Start at `TESTS`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cluster::Comm;
use cluster::profile::{self, Event, Recording, Settings, heap};
use tracing::subscriber::NoSubscriber;
use tracing::{debug_span, info_span, trace_span};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const LIMIT: Duration = Duration::from_secs(60);

/// Events of the main thread.
const ROOM: usize = 1000;

type Test = (&'static str, fn(&Comm));

const TESTS: &[Test] = &[
    ("spans_nest_and_add_up", spans_nest_and_add_up),
    ("a_span_allocates_nothing_the_second_time", a_span_allocates_nothing_the_second_time),
    ("threads_have_rows_of_their_own", threads_have_rows_of_their_own),
    ("phases_know_what_they_asked_for_and_held", phases_know_what_they_asked_for_and_held),
    ("who_waits_is_told_from_who_is_late", who_waits_is_told_from_who_is_late),
    ("names_that_differ_are_brought_together", names_that_differ_are_brought_together),
    ("clocks_are_compared", clocks_are_compared),
    ("a_full_record_drops_short_spans_only", a_full_record_drops_short_spans_only),
    ("what_is_not_recorded_costs_no_row", what_is_not_recorded_costs_no_row),
];

fn main() -> ExitCode {
    if !cluster::under_launcher() {
        for n in 1..=4 {
            let ended = testing::finish(testing::this_program(n), LIMIT);
            print!("{}", ended.text());
            if !ended.succeeded() {
                println!("FAILED on {n} ranks");
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    }
    tracing::subscriber::set_global_default(Recording(NoSubscriber::default()))
        .expect("the first subscriber");
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    profile::start(Settings { events: ROOM });
    for (name, test) in TESTS {
        comm.barrier();
        profile::reset();
        test(&comm);
        comm.barrier();
        if comm.is_root() {
            println!("{} ranks: {name} ... ok", comm.size());
        }
    }
    ExitCode::SUCCESS
}

fn row(path: &str) -> profile::Row {
    let (rows, _) = profile::rows();
    let names: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
    let found = rows.iter().find(|row| row.path == path);
    found.unwrap_or_else(|| panic!("no {path} among {names:?}")).clone()
}

fn spin(micros: u64) {
    let end = profile::now() + 1000 * micros;
    while profile::now() < end {
        std::hint::spin_loop();
    }
}

fn spans_nest_and_add_up(_: &Comm) {
    for k in 0..3u64 {
        let _phase = info_span!(target: "femdd::run", "phase", name = "solve").entered();
        for level in 0..2u64 {
            let _level = debug_span!(target: "femdd::solver::level", "cycle", level).entered();
            spin(200);
            if k == 1 {
                let _inner = trace_span!(target: "femdd::solver::level", "smooth").entered();
                spin(200);
            }
        }
    }
    let (phase, first, second) = (row("solve"), row("solve/cycle 0"), row("solve/cycle 1"));
    assert_eq!((phase.count, first.count, second.count, row("solve/cycle 0/smooth").count), (3, 3, 3, 1));
    assert_eq!((phase.module.as_str(), first.module.as_str()), ("phase", "solver"));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-8;
    assert!(near(phase.total, phase.own + first.total + second.total));
    assert!(near(first.total, first.own + row("solve/cycle 0/smooth").total));
    assert!(first.total >= 800e-6 && first.own >= 600e-6 && row("solve/cycle 0/smooth").total >= 200e-6);
}

fn a_span_allocates_nothing_the_second_time(_: &Comm) {
    let spans = |n: usize| {
        for level in 0..n as u64 {
            let _phase = info_span!(target: "femdd::run", "phase", name = "assemble").entered();
            let _outer = debug_span!(target: "femdd::assembly", "block", level = level % 3).entered();
            let _inner = trace_span!(target: "femdd::assembly", "rows").entered();
        }
    };
    spans(3);
    let before = heap::of_thread();
    spans(300);
    assert_eq!(heap::of_thread(), before);
    assert_eq!(row("assemble/block 0/rows").count, 101);
}

fn threads_have_rows_of_their_own(_: &Comm) {
    let work = || {
        let _span = debug_span!(target: "femdd::solver", "rows").entered();
        spin(300);
    };
    let _main = debug_span!(target: "femdd::solver", "spmv").entered();
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
    let (main, others) = profile::rows();
    assert!(main.iter().all(|row| row.name() != "rows"));
    assert_eq!(others.len(), 3);
    assert!(others.iter().flatten().all(|row| row.path == "rows" && row.total >= 300e-6));
    // A thread that joins has a row, with or without spans.
    std::thread::scope(|scope| drop(scope.spawn(|| profile::join("idle"))));
    assert!(profile::events().iter().any(|thread| thread.thread == "idle" && thread.events.is_empty()));
    // A span belongs to the thread that opened it.
    let span = debug_span!(target: "femdd::solver", "moved");
    std::thread::scope(|scope| drop(scope.spawn(|| drop(span.enter()))));
    assert!(profile::rows().1.iter().flatten().all(|row| row.path != "moved"));
}

fn phases_know_what_they_asked_for_and_held(comm: &Comm) {
    const MEBI: usize = 1 << 20;
    let kept = {
        let _phase = info_span!(target: "femdd::run", "phase", name = "space").entered();
        let kept = vec![1u8; 3 * MEBI];
        drop(vec![1u8; 5 * MEBI]);
        kept
    };
    let lower = {
        let _phase = info_span!(target: "femdd::run", "phase", name = "pattern").entered();
        let _kernel = debug_span!(target: "femdd::assembly", "sparsity").entered();
        vec![1u8; MEBI]
    };
    let (space, pattern, kernel) = (row("space"), row("pattern"), row("pattern/sparsity"));
    assert_eq!((space.requests, space.bytes), (2, 8 * MEBI as u64));
    assert_eq!((kernel.requests, kernel.bytes), (1, MEBI as u64));
    assert_eq!((pattern.requests, pattern.bytes), (1, MEBI as u64));
    assert!(
        space.peak - pattern.peak >= 4 * MEBI as u64 - heap::CHUNK as u64,
        "{} {}",
        space.peak,
        pattern.peak
    );
    assert!(pattern.peak >= (kept.len() + lower.len()) as u64);
    assert_eq!([space.largest, pattern.largest], [5 * MEBI as u64, MEBI as u64]);
    comm.barrier();
}

fn who_waits_is_told_from_who_is_late(comm: &Comm) {
    let late = {
        let _phase = info_span!(target: "femdd::run", "phase", name = "solve").entered();
        if comm.is_root() {
            std::thread::sleep(Duration::from_millis(100));
        }
        comm.sum(1.0)
    };
    assert_eq!(late, comm.size() as f64);
    let (main, others) = profile::rows();
    let (rows, _) = profile::gather(comm, &main, &others);
    let found = |path: &str| rows.iter().find(|row| row.path == path);
    if comm.size() == 1 {
        assert!(found("solve/allreduce").is_none(), "nobody to wait for");
        return;
    }
    let (solve, wait) = (found("solve").expect("a phase"), found("solve/allreduce").expect("a call"));
    assert_eq!(wait.module, profile::WAITS);
    assert!(wait.total.max - wait.total.min > 0.05, "{:?}", wait.total);
    assert!(solve.work.max > 0.09 && solve.work.min < 0.05, "{:?}", solve.work);
    assert!(solve.total.min > 0.08, "all are kept up: {:?}", solve.total);
}

fn names_that_differ_are_brought_together(comm: &Comm) {
    let (rank, n) = (comm.rank() as f64, comm.size() as f64);
    let mut mine = vec![("both".to_owned(), [rank, 1.0])];
    mine.push((format!("of {}", comm.rank()), [2.0, rank]));
    let found = profile::spread(comm, &mine);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 1 + comm.size(), "{names:?}");
    assert_eq!(&names[..2], ["both", "of 0"]);
    let both = &found[0].1;
    assert_eq!((both[0].min, both[0].max, both[1].mean), (0.0, n - 1.0, 1.0));
    assert!((both[0].mean - (n - 1.0) / 2.0).abs() < 1e-12);
    for (name, [two, of]) in &found[1..] {
        let k: f64 = name["of ".len()..].parse().expect("a rank");
        assert_eq!((two.max, of.max), (2.0, k));
        assert!((two.mean - 2.0 / n).abs() < 1e-12 && (comm.size() == 1 || two.min == 0.0));
    }
    assert!(profile::spread::<1>(comm, &[]).is_empty());
}

fn clocks_are_compared(comm: &Comm) {
    let (offset, error) = profile::clock::offset(comm);
    // All ranks are on one machine, whose time of day is the same clock for all.
    let begin = || {
        let reading = || {
            let before = profile::now();
            let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos()
                as i64;
            let after = profile::now();
            (after - before, day - ((before + after) / 2) as i64)
        };
        (0..100).map(|_| reading()).min().expect("a hundred").1
    };
    let mine = begin();
    let root = comm.all_gather(mine)[0];
    let exact = mine - root;
    let allowed = 2 * error as i64 + 20_000;
    assert!((offset - exact).abs() <= allowed, "{offset} for {exact}, within {allowed} ns");
    assert!(!comm.is_root() || offset == 0);
}

fn a_full_record_drops_short_spans_only(_: &Comm) {
    for k in 0..20 {
        let _phase = info_span!(target: "femdd::run", "phase", name = "solve").entered();
        for _ in 0..ROOM {
            let _span = trace_span!(target: "femdd::solver", "dot").entered();
        }
        assert!(k < 20);
    }
    let events = profile::events();
    let main = &events[0];
    let named = |name: &str| {
        let of = |event: &&Event| matches!(event, Event::Span { name: k, .. } if main.names[*k as usize].0 == name);
        main.events.iter().filter(of).count()
    };
    assert_eq!((main.thread.as_str(), named("solve")), ("main", 20));
    assert_eq!(named("dot") as u64 + main.dropped, 20 * ROOM as u64);
    assert!(main.dropped > 0 && named("dot") > ROOM / 2);
    assert_eq!(row("solve/dot").count, 20 * ROOM as u64, "sums are of all");
}

fn what_is_not_recorded_costs_no_row(_: &Comm) {
    {
        let _other = info_span!(target: "elsewhere", "other").entered();
        let _own = trace_span!(target: "femdd::solver", "own").entered();
    }
    assert_eq!(row("own").count, 1);
    assert!(profile::rows().0.iter().all(|row| row.name() != "other"));
    profile::stop();
    {
        let _own = trace_span!(target: "femdd::solver", "own").entered();
    }
    assert_eq!(row("own").count, 1);
    profile::start(Settings { events: ROOM });
    assert!(profile::seconds_per_span() < 20e-6, "{}", profile::seconds_per_span());
}
