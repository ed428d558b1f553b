//! Tests under `mpirun` on 1 to 4 ranks, each with a time limit, some with a rank that fails on purpose.
//!
//! Run by `cargo test`, this program starts itself under `mpirun` for each number of ranks; started by
//! `mpirun`, it is one rank. `cargo test -p femdd-cluster --test ranks -- NAME` runs the tests whose name
//! contains NAME.

mod places;
mod windows;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::{Buckets, Comm, Halo, IndexMap};
use serde::{Deserialize, Serialize};
use testing::Ended;

const LIMIT: Duration = Duration::from_secs(60);

/// Names the way in which a rank is asked to end.
const ENDING: &str = "FEMDD_TEST_ENDING";

type Test = (&'static str, fn(&Comm));

/// A way to end, and what must hold of a job in which a rank ends so.
type Ending = (&'static str, fn(&str, &Ended));

const TESTS: &[Test] = &[
    ("reductions", reductions),
    ("gathers_and_broadcasts_of_any_length", gathers_and_broadcasts_of_any_length),
    ("nothing_at_all_to_send", nothing_at_all_to_send),
    ("values_of_any_kind_are_broadcast", values_of_any_kind_are_broadcast),
    ("communicators_split_and_duplicate", communicators_split_and_duplicate),
    ("an_exchange_delivers_what_was_sent", an_exchange_delivers_what_was_sent),
    ("exchanges_one_after_the_other_stay_apart", exchanges_one_after_the_other_stay_apart),
    ("agreement_takes_the_lowest_failing_rank", agreement_takes_the_lowest_failing_rank),
    ("index_maps_number_rank_after_rank", index_maps_number_rank_after_rank),
    ("halos_bring_ghosts_their_owners_values", halos_bring_ghosts_their_owners_values),
    ("halos_add_ghosts_in_the_order_of_ranks", halos_add_ghosts_in_the_order_of_ranks),
    (
        "halos_are_made_without_a_message_where_owners_know",
        halos_are_made_without_a_message_where_owners_know,
    ),
    ("halos_without_ghosts", halos_without_ghosts),
    ("what_is_sent_is_counted", what_is_sent_is_counted),
    ("repeated_exchanges_equal_single_ones", repeated_exchanges_equal_single_ones),
    ("windows_add_what_all_ranks_add_at_once", windows::add_what_all_ranks_add_at_once),
    ("windows_swap_for_one_rank_only", windows::swap_for_one_rank_only),
    ("windows_come_and_go", windows::come_and_go),
    ("names_are_made_common", places::names_are_made_common),
    ("the_machine_is_the_same_everywhere", places::the_machine_is_the_same_everywhere),
    ("bound_ranks_are_seen", places::bound_ranks_are_seen),
    ("what_all_ranks_used_is_gathered", places::what_all_ranks_used_is_gathered),
    ("little_memory_is_a_reason_to_stop", places::little_memory_is_a_reason_to_stop),
    ("metrics_are_written", places::metrics_are_written),
];

fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if !cluster::under_launcher() {
        return launch(&filter);
    }
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    if let Ok(ending) = std::env::var(ENDING) {
        end(&comm, &ending);
        return ExitCode::SUCCESS;
    }
    for (name, test) in TESTS.iter().filter(|t| wanted(&filter, t.0)) {
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

fn wanted(filter: &[String], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))
}

/// Starts this program on 1 to 4 ranks, one after the other, then has ranks fail.
fn launch(filter: &[String]) -> ExitCode {
    for n_ranks in 1..=4 {
        let ended = start(n_ranks, filter, None);
        print!("{}", ended.stdout);
        if !ended.succeeded() {
            eprintln!("{n_ranks} ranks: {}", ended.text());
            return ExitCode::FAILURE;
        }
    }
    let endings: [Ending; 4] = [
        ("panic", a_panic_ends_the_job),
        ("abort", an_abort_ends_the_job),
        ("disagree", a_failure_is_agreed_on),
        ("run_out_of_memory", |text, ended| places::was_ended(text, ended.status.code())),
    ];
    for (ending, check) in endings {
        let name = format!("a_rank_may_{ending}");
        if !wanted(filter, &name) {
            continue;
        }
        for n_ranks in [2, 4] {
            let ended = start(n_ranks, &[], Some(ending));
            if ended.timed_out {
                eprintln!("{n_ranks} ranks: {name} ... FAILED: hangs");
                return ExitCode::FAILURE;
            }
            check(&(ended.stderr.clone() + &ended.stdout), &ended);
            println!("{n_ranks} ranks: {name} ... ok ({:.2} s)", ended.wall.as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

/// One job.
fn start(n_ranks: usize, filter: &[String], ending: Option<&str>) -> Ended {
    let mut command = testing::this_program(n_ranks);
    command.args(filter);
    if let Some(ending) = ending {
        command.env(ENDING, ending);
    }
    testing::finish(command, LIMIT)
}

// ---- Ranks that fail.

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Failure {
    rank: usize,
    words: String,
}

/// What a rank does when it is asked to end in some way; the others wait for it.
fn end(comm: &Comm, ending: &str) {
    let last = comm.rank() + 1 == comm.size();
    match ending {
        "panic" => {
            assert!(!last, "rank {} was asked to panic", comm.rank());
            comm.barrier();
            unreachable!("the barrier needs the rank that panicked");
        }
        "abort" => {
            if last {
                comm.abort(3);
            }
            comm.barrier();
            unreachable!("the barrier needs the rank that aborted");
        }
        "disagree" => {
            let mine = if last { Err(Failure { rank: comm.rank(), words: "no".into() }) } else { Ok(()) };
            let failed = comm.agree(mine).expect_err("the last rank failed");
            assert_eq!(failed, Failure { rank: comm.size() - 1, words: "no".into() });
            if comm.is_root() {
                eprintln!("error: rank {} says {}", failed.rank, failed.words);
            }
            comm.barrier();
            std::process::exit(2);
        }
        "run_out_of_memory" => places::run_out_of_memory(comm, last),
        other => unreachable!("{other} is none of the endings"),
    }
}

fn a_panic_ends_the_job(text: &str, ended: &Ended) {
    assert_eq!(ended.status.code(), Some(101), "{text}");
    assert_eq!(text.matches("was asked to panic").count(), 1, "{text}");
}

fn an_abort_ends_the_job(text: &str, ended: &Ended) {
    assert_eq!(ended.status.code(), Some(3), "{text}");
}

fn a_failure_is_agreed_on(text: &str, ended: &Ended) {
    assert_eq!(ended.status.code(), Some(2), "{text}");
    assert_eq!(text.matches("error: rank").count(), 1, "{text}");
    assert!(text.contains("says no"), "{text}");
}

// ---- Collective calls.

fn reductions(comm: &Comm) {
    let (rank, size) = (comm.rank() as u64, comm.size() as u64);
    assert_eq!(comm.sum(rank + 1), size * (size + 1) / 2);
    assert_eq!(comm.max(-(rank as i64)), 0);
    assert_eq!(comm.min(rank as u32 + 7), 7);
    assert_eq!(comm.max(rank as i32), size as i32 - 1);
    assert_eq!(comm.sum(0.5), 0.5 * size as f64);
    assert_eq!(comm.min(f64::INFINITY), f64::INFINITY);
    assert!(comm.any(rank + 1 == size) && !comm.any(false));
    assert_eq!(comm.exclusive_sum(rank + 1), rank * (rank + 1) / 2);
    let mut xs = [rank as f64, 1.0, -(rank as f64)];
    comm.sum_slice(&mut xs);
    let sum = (size * (size - 1) / 2) as f64;
    assert_eq!(xs, [sum, size as f64, -sum]);
    let mut xs = [rank as i64, -(rank as i64)];
    comm.max_slice(&mut xs);
    assert_eq!(xs, [size as i64 - 1, 0]);
    let mut xs = [rank + 3, u64::MAX - rank];
    comm.min_slice(&mut xs);
    assert_eq!(xs, [3, u64::MAX - (size - 1)]);
    assert_eq!(comm.ranks_on_node(), comm.size());
}

/// Every rank's share of a stream of items: 0, 3, 1, 4, 2, ... of them.
fn share(rank: usize) -> Vec<[u32; 3]> {
    (0..rank * 3 % 5).map(|k| [rank as u32, k as u32, !0]).collect()
}

fn gathers_and_broadcasts_of_any_length(comm: &Comm) {
    let all: Vec<[u32; 3]> = (0..comm.size()).flat_map(share).collect();
    let offsets: Vec<usize> = (0..=comm.size()).map(|r| (0..r).map(|r| share(r).len()).sum()).collect();
    let mine = share(comm.rank());
    assert_eq!(comm.all_gather_varied(&mine), (all.clone(), offsets.clone()));
    assert_eq!(
        comm.all_gather([comm.rank() as u8, 7]),
        (0..comm.size()).map(|r| [r as u8, 7]).collect::<Vec<_>>()
    );
    for root in 0..comm.size() {
        let gathered = comm.gather_varied(root, &mine);
        assert_eq!(gathered, (comm.rank() == root).then(|| (all.clone(), offsets.clone())));
        for n in [0, 1, 1000] {
            // What the others had is replaced, whatever its length.
            let sent: Vec<u16> = (0..n).map(|k| (k * 3 + root) as u16).collect();
            let mut xs = if comm.rank() == root { sent.clone() } else { vec![9; comm.rank() * 17] };
            comm.broadcast(root, &mut xs);
            assert_eq!(xs, sent);
        }
    }
}

/// The address of an empty slice is no valid one; no call may hand it on.
fn nothing_at_all_to_send(comm: &Comm) {
    let none: &[f64] = &[];
    assert_eq!(comm.all_gather_varied(none), (Vec::new(), vec![0; comm.size() + 1]));
    for root in 0..comm.size() {
        let gathered = comm.gather_varied(root, none);
        assert_eq!(gathered, (comm.rank() == root).then(|| (Vec::new(), vec![0; comm.size() + 1])));
        let mut xs: Vec<u64> = Vec::new();
        comm.broadcast(root, &mut xs);
        assert!(xs.is_empty());
    }
    comm.sum_slice::<f64>(&mut []);
    comm.min_slice::<u64>(&mut []);
    comm.max_slice::<i32>(&mut []);
    assert!(comm.exchange(&Buckets::<u64>::empty()).is_empty());
    // A bucket without items is none.
    let empty = Buckets { ranks: vec![0], offsets: vec![0, 0], data: Vec::<u64>::new() };
    assert!(comm.exchange(&empty).is_empty());
}

fn values_of_any_kind_are_broadcast(comm: &Comm) {
    let last = comm.size() - 1;
    let sent = Failure { rank: last, words: "a \"quoted\" é\n".repeat(1000) };
    let mine = (comm.rank() == last).then(|| sent.clone());
    assert_eq!(comm.broadcast_value(last, mine), sent);
    // What another rank has of it does not matter.
    assert_eq!(comm.broadcast_value(0, Some(comm.rank())), 0);
}

fn communicators_split_and_duplicate(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let twin = comm.duplicate();
    assert_eq!((twin.rank(), twin.size()), (rank, size));
    assert_eq!(twin.sum(1u64), size as u64);
    // Odd and even ranks, in the reverse order.
    let part = comm.split((rank % 2) as i32, -(rank as i32));
    let members: Vec<usize> = (0..size).rev().filter(|r| r % 2 == rank % 2).collect();
    assert_eq!(part.all_gather(rank as u64), members.iter().map(|&r| r as u64).collect::<Vec<_>>());
    // Messages of one do not reach the other.
    let sent = Buckets::from_pairs(vec![((part.rank() as u32 + 1) % part.size() as u32, rank as u64)]);
    let apart =
        comm.exchange(&Buckets::from_pairs(vec![((rank as u32 + 1) % size as u32, 100 + rank as u64)]));
    assert_eq!(apart.data, [100 + ((rank + size - 1) % size) as u64]);
    let within = part.exchange(&sent);
    assert_eq!(within.data, [members[(part.rank() + part.size() - 1) % part.size()] as u64]);
}

/// How many items `from` sends to `to`: often none, sometimes many.
fn n_items(from: usize, to: usize, round: usize) -> usize {
    match (from * 7 + to * 3 + round) % 5 {
        0 => 0,
        1 => 1,
        2 => 50_000 * usize::from(round == 0),
        k => k * 11,
    }
}

fn items(from: usize, to: usize, round: usize) -> Vec<[u64; 2]> {
    (0..n_items(from, to, round)).map(|k| [(from * 1000 + to) as u64, (k + round) as u64]).collect()
}

fn exchanged(comm: &Comm, round: usize) {
    let send: Vec<(u32, [u64; 2])> = (0..comm.size())
        .rev()
        .flat_map(|to| items(comm.rank(), to, round).into_iter().map(move |x| (to as u32, x)))
        .collect();
    let received = comm.exchange(&Buckets::from_pairs(send));
    let expected: Vec<(u32, Vec<[u64; 2]>)> = (0..comm.size())
        .map(|from| (from as u32, items(from, comm.rank(), round)))
        .filter(|(_, items)| !items.is_empty())
        .collect();
    let received: Vec<(u32, Vec<[u64; 2]>)> = received.iter().map(|(r, xs)| (r, xs.to_vec())).collect();
    assert_eq!(received, expected);
}

fn an_exchange_delivers_what_was_sent(comm: &Comm) {
    exchanged(comm, 0);
    // All to one, and one to all.
    let gathered = comm.exchange(&Buckets::from_pairs(vec![(0, comm.rank() as u16)]));
    let expected: Vec<u16> = if comm.is_root() { (0..comm.size() as u16).collect() } else { Vec::new() };
    assert_eq!(gathered.data, expected);
    let dealt =
        if comm.is_root() { (0..comm.size() as u32).map(|r| (r, r as f32)).collect() } else { Vec::new() };
    let dealt = comm.exchange(&Buckets::from_pairs(dealt));
    assert_eq!((dealt.ranks, dealt.data), (vec![0], vec![comm.rank() as f32]));
}

fn exchanges_one_after_the_other_stay_apart(comm: &Comm) {
    for round in 1..200 {
        if round % 7 == comm.rank() {
            // Ranks drift apart in time.
            std::thread::sleep(Duration::from_micros(300));
        }
        exchanged(comm, round);
    }
}

fn agreement_takes_the_lowest_failing_rank(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let good: Result<usize, Failure> = comm.agree(Ok(rank));
    assert_eq!(good, Ok(rank), "each keeps its own value");
    for failing in 1..1usize << size {
        let fails = failing >> rank & 1 == 1;
        let mine = if fails { Err(Failure { rank, words: "x".repeat(rank * 1000) }) } else { Ok(()) };
        let lowest = failing.trailing_zeros() as usize;
        let expected = Failure { rank: lowest, words: "x".repeat(lowest * 1000) };
        assert_eq!(comm.agree(mine), Err(expected));
    }
}

// ---- Index maps and halos: a ring of indices, each rank with some of its neighbours' as ghosts.

/// How many indices a rank owns; rank 1 owns none.
fn n_owned(rank: usize) -> usize {
    [5, 0, 3, 7][rank]
}

fn first_of(rank: usize) -> u64 {
    (0..rank).map(n_owned).sum::<usize>() as u64
}

fn owner_of(index: u64, size: usize) -> u32 {
    (0..size).rfind(|&r| first_of(r) <= index && n_owned(r) > 0).expect("some rank owns it") as u32
}

/// Every other index of all other ranks, in no order.
fn ghosts_of(rank: usize, size: usize) -> Vec<u64> {
    let n = first_of(size);
    let mut ghosts: Vec<u64> =
        (0..n).filter(|g| owner_of(*g, size) as usize != rank && (g + rank as u64) & 1 == 0).collect();
    ghosts.sort_by_key(|g| g.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    ghosts
}

fn ring(comm: &Comm) -> (IndexMap, Halo) {
    let (rank, size) = (comm.rank(), comm.size());
    let ghosts = ghosts_of(rank, size);
    let owners = ghosts.iter().map(|&g| owner_of(g, size)).collect();
    let map = IndexMap::new(comm, n_owned(rank), ghosts, owners);
    let halo = Halo::new(comm, &map);
    (map, halo)
}

fn index_maps_number_rank_after_rank(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let (map, _) = ring(comm);
    assert_eq!(
        (map.n_owned(), map.offset(), map.n_global()),
        (n_owned(rank), first_of(rank), first_of(size))
    );
    assert_eq!(map.n_local(), map.n_owned() + map.n_ghost());
    for local in 0..map.n_local() as u32 {
        let global = map.local_to_global(local);
        assert_eq!(map.global_to_local(global), Some(local));
        let owner = if (local as usize) < map.n_owned() {
            rank as u32
        } else {
            map.ghost_owners()[local as usize - map.n_owned()]
        };
        assert_eq!(owner, owner_of(global, size));
    }
    let known: Vec<u64> = (0..map.n_local() as u32).map(|l| map.local_to_global(l)).collect();
    for global in 0..map.n_global() + 3 {
        assert_eq!(map.global_to_local(global).is_some(), known.contains(&global));
    }
}

fn halos_bring_ghosts_their_owners_values(comm: &Comm) {
    let (map, halo) = ring(comm);
    for block in [1, 3] {
        let value = |l: usize, b: usize| map.local_to_global(l as u32) * 10 + b as u64;
        let right: Vec<u64> = (0..map.n_local()).flat_map(|l| (0..block).map(move |b| value(l, b))).collect();
        let mut xs = right.clone();
        xs[map.n_owned() * block..].fill(u64::MAX);
        halo.forward(&mut xs, block);
        assert_eq!(xs, right);
        // Begun, then ended: the owned part may change between.
        let mut xs: Vec<u64> = right.clone();
        xs[map.n_owned() * block..].fill(0);
        let pending = halo.begin_forward(&xs, block);
        xs[..map.n_owned() * block].fill(7);
        comm.barrier();
        halo.end_forward(pending, &mut xs, block);
        assert_eq!(xs[map.n_owned() * block..], right[map.n_owned() * block..]);
        assert!(xs[..map.n_owned() * block].iter().all(|&x| x == 7));
    }
    let mut bytes: Vec<u8> = (0..map.n_local() as u32).map(|l| map.local_to_global(l) as u8).collect();
    bytes[map.n_owned()..].fill(255);
    halo.forward(&mut bytes, 1);
    assert!((0..map.n_local() as u32).all(|l| u64::from(bytes[l as usize]) == map.local_to_global(l)));
    // Who shares what with whom, seen from both sides.
    assert!(halo.owners().is_sorted() && halo.shared().ranks.is_sorted());
    let shared = comm.sum(halo.shared().data.len() as u64);
    assert_eq!(shared, comm.sum(map.n_ghost() as u64));
}

fn halos_add_ghosts_in_the_order_of_ranks(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let (map, halo) = ring(comm);
    // Numbers whose sum depends on the order in which they are added.
    let part = |holder: usize, global: u64| {
        (1.0 + holder as f64 * 0.1) * 10f64.powi((global as i32 * 7 + holder as i32 * 5) % 30)
    };
    for block in [1, 2] {
        let begin: Vec<f64> = (0..map.n_local() * block)
            .map(|k| part(rank, map.local_to_global((k / block) as u32)) * (1 + k % block) as f64)
            .collect();
        for _ in 0..20 {
            let mut xs = begin.clone();
            halo.reverse_add(&mut xs, block);
            for k in 0..map.n_owned() * block {
                let global = map.offset() + (k / block) as u64;
                let holders = (0..size).filter(|&r| ghosts_of(r, size).contains(&global));
                let sum = holders.fold(begin[k], |sum, r| sum + part(r, global) * (1 + k % block) as f64);
                assert_eq!(xs[k].to_bits(), sum.to_bits(), "index {global}");
            }
            assert_eq!(xs[map.n_owned() * block..], begin[map.n_owned() * block..], "ghosts stay");
        }
    }
}

fn halos_are_made_without_a_message_where_owners_know(comm: &Comm) {
    let (map, halo) = ring(comm);
    let mut shared = halo.shared().clone();
    for ends in halo.shared().offsets.windows(2) {
        shared.data[ends[0]..ends[1]].reverse();
    }
    comm.take_counters();
    let again = Halo::with_shared(comm, &map, shared);
    assert_eq!(comm.take_counters().messages, 0);
    assert_eq!((again.shared(), again.owners()), (halo.shared(), halo.owners()));
    let mut values: Vec<u64> = (0..map.n_local() as u32).map(|l| map.local_to_global(l)).collect();
    let right = values.clone();
    values[map.n_owned()..].fill(0);
    again.clone().forward(&mut values, 1);
    assert_eq!(values, right);
}

fn halos_without_ghosts(comm: &Comm) {
    let map = IndexMap::new(comm, comm.rank(), Vec::new(), Vec::new());
    let halo = Halo::new(comm, &map);
    let mut xs = vec![1.5; map.n_local()];
    halo.forward(&mut xs, 1);
    halo.reverse_add(&mut xs, 1);
    assert!(xs.iter().all(|&x| x == 1.5) && halo.owners().is_empty() && halo.shared().is_empty());
    let none = IndexMap::new(comm, 0, Vec::new(), Vec::new());
    assert_eq!((none.n_global(), none.n_local(), none.global_to_local(0)), (0, 0, None));
    Halo::new(comm, &none).forward::<f64>(&mut [], 4);
}

// ---- Counters.

fn what_is_sent_is_counted(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    let others = size as u64 - 1;
    comm.take_counters();
    comm.sum_slice(&mut [1.0, 2.0, 3.0]);
    comm.all_gather([0u8; 12]);
    let collective = comm.take_counters();
    assert_eq!((collective.messages, collective.neighbours), (0, 0));
    assert_eq!((collective.collectives, collective.collective_bytes), (2, 24 + 12));
    assert_eq!(collective.largest_table, 12 * size as u64);

    // One item of 4 bytes to every rank: what stays here is no message.
    let everyone: Vec<(u32, u32)> = (0..size as u32).map(|to| (to, to)).collect();
    comm.exchange(&Buckets::from_pairs(everyone));
    let exchanged = comm.counters();
    assert_eq!((exchanged.messages, exchanged.bytes, exchanged.neighbours), (others, 4 * others, others));
    assert_eq!(exchanged.collectives, 1, "the barrier that ends it");

    // A duplicate counts together with its original, a part of it does not.
    let twin = comm.duplicate();
    twin.barrier();
    comm.split(0, rank as i32).barrier();
    assert_eq!(comm.take_counters().collectives, 2);
    assert_eq!(twin.counters().collectives, 0);

    let (map, halo) = ring(comm);
    let mut values = vec![0.0; map.n_local() * 3];
    comm.take_counters();
    halo.forward(&mut values, 3);
    let halo_counters = comm.take_counters();
    assert_eq!(halo_counters.messages, halo.shared().len() as u64);
    assert_eq!(halo_counters.bytes, 24 * halo.shared().data.len() as u64);
    assert_eq!(halo_counters.neighbours, halo.shared().len() as u64);
}

/// Ghosts stand in no order here. Two exchanges are under way at once, one is dropped so.
fn repeated_exchanges_equal_single_ones(comm: &Comm) {
    let (map, halo) = ring(comm);
    let (n, block) = (map.n_owned(), 2);
    let mut pairs = halo.repeated::<f64>(block);
    let mut single = halo.repeated::<f32>(1);
    comm.take_counters();
    for round in 0..50u64 {
        let value = |l: usize, b: usize| (map.local_to_global(l as u32) * 100 + 10 * round + b as u64) as f64;
        let right: Vec<f64> = (0..map.n_local()).flat_map(|l| (0..block).map(move |b| value(l, b))).collect();
        let mut owned = right[..n * block].to_vec();
        let ones: Vec<f32> = (0..n).map(|l| value(l, 1) as f32).collect();
        let mut ghosts = vec![0.0; map.n_ghost() * block];
        let mut others = vec![0.0f32; map.n_ghost()];
        pairs.begin(&owned);
        single.begin(&ones);
        owned.fill(-1.0);
        single.end(&mut others);
        pairs.end(&mut ghosts);
        assert_eq!(ghosts, right[n * block..]);
        assert!(others.iter().enumerate().all(|(k, &x)| x == value(n + k, 1) as f32));
    }
    let (counted, neighbours) = (comm.take_counters(), halo.shared().len() as u64);
    assert_eq!((counted.messages, counted.neighbours), (2 * 50 * neighbours, neighbours));
    assert_eq!(counted.bytes, 50 * (2 * 8 + 4) * halo.shared().data.len() as u64);
    single.begin(&vec![0.0; n]);
    drop(single);
    comm.barrier();
}
