//! Random sequences, degenerate deals, repetitions. Every rank knows the whole graph and draws the same
//! numbers.

use cluster::{Comm, Window};
use partition::{Cost, Error, Fallback, Graph, Method, Rebalanced, StealOptions, check_partition, rebalance};

use crate::tree::{SCENES, Tree};

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A graph by neighbour lists with edge weights.
struct Web(Vec<Vec<(u64, i32)>>);

impl Web {
    /// A lattice of squares.
    fn lattice(width: usize, height: usize) -> Web {
        let at = |i: usize, j: usize| (i + width * j) as u64;
        let row = |v: usize| {
            let (i, j) = (v % width, v / width);
            let mut row = Vec::new();
            row.extend((i > 0).then(|| (at(i - 1, j), 1)));
            row.extend((i + 1 < width).then(|| (at(i + 1, j), 1)));
            row.extend((j > 0).then(|| (at(i, j - 1), 1)));
            row.extend((j + 1 < height).then(|| (at(i, j + 1), 1)));
            row
        };
        Web((0..width * height).map(row).collect())
    }

    /// Random edges of random weights, mostly between near numbers; some vertices have none.
    fn random(random: &mut Random) -> Web {
        let n = 1 + random.below(400);
        let mut rows: Vec<Vec<(u64, i32)>> = vec![Vec::new(); n as usize];
        let near = 1 + random.below(n);
        for _ in 0..random.below(3 * n) {
            let u = random.below(n);
            let v = (u + random.below(near)) % n;
            let w = 1 + random.below(1000) as i32;
            if u != v && rows[u as usize].iter().all(|e| e.0 != v) {
                rows[u as usize].push((v, w));
                rows[v as usize].push((u, w));
            }
        }
        Web(rows)
    }

    fn n(&self) -> usize {
        self.0.len()
    }

    /// Each vertex on its owner; also which vertices this rank has, in its order.
    fn graph(&self, comm: &Comm, owner: &[u32], weights: &[i32]) -> (Graph, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.n() as u32).collect();
        order.sort_by_key(|&k| owner[k as usize]);
        let mut number = vec![0u64; order.len()];
        order.iter().enumerate().for_each(|(new, &k)| number[k as usize] = new as u64);
        order.retain(|&k| owner[k as usize] as usize == comm.rank());
        let rows = || order.iter().flat_map(|&k| &self.0[k as usize]);
        let mut ptr = vec![0];
        order.iter().for_each(|&k| ptr.push(ptr[ptr.len() - 1] + self.0[k as usize].len()));
        let adj = rows().map(|e| number[e.0 as usize]).collect();
        let edges = rows().map(|e| e.1).collect();
        let mine = order.iter().map(|&k| weights[k as usize]).collect();
        let graph = Graph::new(comm, ptr, adj).and_then(|g| g.with_edge_weights(comm, edges));
        (graph.and_then(|g| g.with_vertex_weights(comm, mine)).expect("a graph"), order)
    }

    /// Rebalances, checks what must hold whatever happens, and gives each vertex its new owner.
    fn rebalance(
        &self,
        comm: &Comm,
        owner: &mut [u32],
        weights: &[i32],
        options: &StealOptions,
    ) -> Rebalanced {
        let (graph, mine) = self.graph(comm, owner, weights);
        let bytes: Vec<u32> = mine.iter().map(|&k| 100 + k % 7).collect();
        let made = rebalance(comm, &graph, &bytes, None, None, options).expect("new owners");
        let before = owner.to_vec();
        let mut all = vec![u32::MAX; self.n()];
        let pairs: Vec<[u32; 2]> = mine.iter().zip(&made.owner).map(|(&k, &o)| [k, o]).collect();
        assert_eq!(made.owner.len(), mine.len(), "an owner for each vertex");
        for [k, o] in comm.all_gather_varied(&pairs).0 {
            assert_eq!(all[k as usize], u32::MAX, "vertex {k} has two owners");
            assert!((o as usize) < comm.size());
            all[k as usize] = o;
        }
        owner.copy_from_slice(&all);
        self.check(comm, &before, owner, weights, &made);
        made
    }

    /// The report against a count of its own.
    fn check(&self, comm: &Comm, before: &[u32], after: &[u32], weights: &[i32], made: &Rebalanced) {
        let report = &made.report;
        let imbalance = |owner: &[u32]| {
            let mut loads = vec![0i64; comm.size()];
            owner.iter().zip(weights).for_each(|(&o, &w)| loads[o as usize] += i64::from(w));
            let total: i64 = loads.iter().sum();
            let most = loads.iter().copied().max().unwrap_or(0);
            if total > 0 { (most * comm.size() as i64) as f64 / total as f64 } else { 1.0 }
        };
        let cut = |owner: &[u32]| {
            let ends = self.0.iter().enumerate().flat_map(|(v, row)| row.iter().map(move |e| (v, e)));
            ends.filter(|(v, e)| owner[*v] != owner[e.0 as usize]).map(|(_, e)| e.1 as u64).sum::<u64>() / 2
        };
        let moved: Vec<usize> = (0..self.n()).filter(|&k| before[k] != after[k]).collect();
        assert!((report.imbalance_before - imbalance(before)).abs() < 1e-9, "{report:?}");
        assert!((report.imbalance_after - imbalance(after)).abs() < 1e-9, "{report:?}");
        assert_eq!((report.edge_cut_before, report.edge_cut_after), (cut(before), cut(after)));
        assert_eq!(report.moved_vertices, moved.len() as u64);
        assert_eq!(report.moved_weight, moved.iter().map(|&k| weights[k] as u64).sum::<u64>());
        assert_eq!(report.moved_bytes, moved.iter().map(|&k| 100 + k as u64 % 7).sum::<u64>());
        let same = comm.all_gather(report.imbalance_after.to_bits());
        assert!(same.iter().all(|&x| x == same[0]), "one report for all ranks");
    }
}

/// Owners in equal blocks.
fn blocks(n: usize, ranks: usize) -> Vec<u32> {
    (0..n).map(|k| (k * ranks / n.max(1)) as u32).collect()
}

/// Stealing even where there are few vertices, or much has to go far.
fn always() -> StealOptions {
    StealOptions { least_vertices: 0, long_flow: 10.0, dimensions: 2, ..StealOptions::default() }
}

pub fn errors_reach_every_rank(comm: &Comm) {
    let web = Web::lattice(6, 6);
    let (graph, mine) = web.graph(comm, &blocks(36, comm.size()), &[1; 36]);
    let last = comm.rank() + 1 == comm.size();
    let bytes = vec![1; mine.len() + usize::from(last)];
    let rank = comm.size() - 1;
    let n = comm.max(if last { mine.len() as u64 } else { 0 });
    let refused = rebalance(comm, &graph, &bytes, None, None, &always()).expect_err("a wrong length");
    assert_eq!(refused, Error::Length { rank, array: "bytes".into(), found: n + 1, expected: n });
    // One end of an edge does not know of it.
    let base = 2 * comm.rank() as u64;
    let (ptr, adj) =
        if last { (vec![0, 1, 1], vec![base + 1]) } else { (vec![0, 1, 2], vec![base + 1, base]) };
    let one_way = Graph::new(comm, ptr, adj).expect("well formed");
    let lost = Error::NotSymmetric { vertex: 2 * rank as u64, neighbour: 2 * rank as u64 + 1 };
    assert_eq!(rebalance(comm, &one_way, &[], None, None, &always()), Err(lost));
}

pub fn nothing_moves_without_need(comm: &Comm) {
    let size = comm.size();
    let web = Web::lattice(20 * size, 12);
    let columns: Vec<u32> = (0..web.n()).map(|k| (k % (20 * size) / 20) as u32).collect();
    // Within the trigger.
    let mut weights = vec![100; web.n()];
    let mut owner = columns.clone();
    weights[0] += 1000;
    let made = web.rebalance(comm, &mut owner, &weights, &always());
    assert_eq!((made.report.method, &owner), (Method::None, &columns));
    // Above it, but it is not wanted or does not pay.
    weights.iter_mut().zip(&columns).for_each(|(w, &c)| *w = if c == 0 { 200 } else { 100 });
    let off = StealOptions { method: Method::None, ..always() };
    assert_eq!(web.rebalance(comm, &mut owner, &weights, &off).report.method, Method::None);
    assert_eq!(owner, columns);
    let (graph, _) = web.graph(comm, &columns, &weights);
    let cost =
        |seconds_per_byte| Cost { solve_seconds: 1.0, solves: 3.0, seconds_per_byte, fixed_seconds: 0.01 };
    let dear = rebalance(comm, &graph, &[], None, Some(&cost(1.0)), &always()).expect("an answer");
    assert_eq!(dear.report.method, Method::None);
    let cheap = rebalance(comm, &graph, &[], None, Some(&cost(1e-9)), &always()).expect("an answer");
    assert_eq!(cheap.report.method, if size > 1 { Method::Steal } else { Method::None });
    // A clock decides nothing where the same owners are wanted on every run.
    let fixed = StealOptions { deterministic: true, ..always() };
    let made = rebalance(comm, &graph, &[], None, Some(&cost(1.0)), &fixed).expect("an answer");
    assert_eq!(made.report.method, if size > 1 { Method::Steal } else { Method::None });
    // No weight at all, no vertex at all.
    web.rebalance(comm, &mut owner, &vec![0; web.n()], &always());
    Web(Vec::new()).rebalance(comm, &mut [], &[], &always());
}

/// Any graph, any owners, weights from nothing to most of all, step after step.
pub fn random_sequences(comm: &Comm) {
    let mut random = Random(comm.size() as u64);
    for round in 0..40 {
        let web = if round % 3 == 0 {
            Web::lattice(3 + random.below(30) as usize, 3 + random.below(30) as usize)
        } else {
            Web::random(&mut random)
        };
        let ranks = comm.size() as u64;
        let mut owner = match random.below(3) {
            0 => blocks(web.n(), comm.size()),
            1 => blocks(web.n(), 1 + random.below(ranks) as usize),
            _ => (0..web.n()).map(|_| random.below(ranks) as u32).collect(),
        };
        for step in 0..4 {
            let most = [1, 2, 100, 100_000][random.below(4) as usize];
            let mut weights: Vec<i32> = (0..web.n()).map(|_| random.below(most + 1) as i32).collect();
            if step == 1 {
                // Part of the graph becomes heavy.
                let (begin, end) = (random.below(web.n() as u64) as usize, web.n());
                weights[begin..end.min(begin + 60)].iter_mut().for_each(|w| *w *= 10);
            }
            let options = StealOptions {
                deterministic: random.below(2) == 0,
                least_vertices: [0, 50][random.below(2) as usize],
                seed: random.below(100) as i32,
                smooth_passes: random.below(3) as usize,
                long_flow: [0.2, 10.0][random.below(2) as usize],
                ..always()
            };
            web.rebalance(comm, &mut owner, &weights, &options);
            if step == 2 {
                // One rank loses all it has to another, and may steal it back.
                let (from, to) = (random.below(ranks) as u32, random.below(ranks) as u32);
                owner.iter_mut().filter(|o| **o == from).for_each(|o| *o = to);
            }
        }
    }
}

/// One rank has everything: the others take a piece each, or METIS decides; nobody is left without.
pub fn all_ranks_empty_but_one(comm: &Comm) {
    for deterministic in [false, true] {
        for rank in [0, comm.size() as u32 - 1] {
            let web = Web::lattice(24, 20);
            let mut owner = vec![rank; web.n()];
            let options = StealOptions { deterministic, ..always() };
            let report = web.rebalance(comm, &mut owner, &vec![10; web.n()], &options).report;
            assert!((0..comm.size() as u32).all(|r| owner.contains(&r)), "{report:?}");
            assert!(report.imbalance_after <= 1.03 + report.vertex_share, "{report:?}");
        }
    }
}

/// A rank that has nothing takes a piece from the heaviest, then what the flow gives it.
pub fn few_ranks_empty(comm: &Comm) {
    let size = comm.size();
    let web = Web::lattice(24, 10 * size);
    for deterministic in [false, true] {
        let mut owner = blocks(web.n(), size);
        let gone = (size / 2) as u32;
        owner.iter_mut().filter(|o| **o == gone).for_each(|o| *o = gone - 1);
        let options = StealOptions { deterministic, ..always() };
        let report = web.rebalance(comm, &mut owner, &vec![10; web.n()], &options).report;
        assert_eq!((report.method, report.fallback), (Method::Steal, None), "{report:?}");
        assert!(owner.contains(&gone) && report.claims > 0);
        assert!(report.imbalance_after <= 1.03 + report.vertex_share, "{report:?}");
        assert!(report.moved_weight as f64 <= 1.2 * report.flow_l1, "{report:?}");
    }
}

/// Vertices heavier than the mean: their rank gives the others away, and does not wander itself.
pub fn heavy_single_vertices(comm: &Comm) {
    let size = comm.size();
    let web = Web::lattice(10 * size, 10);
    let mut owner: Vec<u32> = (0..web.n()).map(|k| (k % (10 * size) / 10) as u32).collect();
    let mut weights = vec![10; web.n()];
    weights[5] = 2000;
    let report = web.rebalance(comm, &mut owner, &weights, &always()).report;
    assert_eq!(report.method, Method::Steal);
    assert_eq!(owner[5], 0, "the heavy vertex stays");
    let others = owner.iter().zip(&weights).filter(|&(&o, &w)| o == 0 && w == 10).count();
    assert!(others < 40, "{others} vertices stay beside the heavy one");
    // The rank that has that vertex alone cannot be lighter: nothing moves, however uneven.
    owner.iter_mut().for_each(|o| *o = 1);
    owner[5] = 0;
    let alone = owner.clone();
    weights[5] = 1_000_000;
    web.rebalance(comm, &mut owner, &weights, &always());
    assert_eq!(owner, alone);
}

/// Two sheets that share no edge, each on half of the ranks: one cannot give to the other through neighbours.
pub fn groups_without_contact(comm: &Comm) {
    let half = comm.size() / 2;
    let mut web = Web::lattice(30, 20);
    let n = web.n();
    let again = Web::lattice(30, 20).0;
    web.0.extend(again.into_iter().map(|row| row.into_iter().map(|(u, w)| (u + n as u64, w)).collect()));
    let mut owner = blocks(n, half);
    owner.extend(blocks(n, half).iter().map(|o| o + half as u32));
    let weights: Vec<i32> = (0..2 * n).map(|k| if k < n { 30 } else { 10 }).collect();
    let report = web.rebalance(comm, &mut owner, &weights, &always()).report;
    assert_eq!((report.method, report.fallback), (Method::Metis, Some(Fallback::Groups)));
    assert!(report.imbalance_after <= 1.03 + report.vertex_share);
    // Groups of one mean have no need of one another.
    owner = blocks(n, half);
    owner.extend(blocks(n, half).iter().map(|o| o + half as u32));
    let weights: Vec<i32> = (0..2 * n).map(|k| if k % n < n / half { 20 } else { 10 }).collect();
    let report = web.rebalance(comm, &mut owner, &weights, &always()).report;
    assert_eq!((report.method, report.fallback), (Method::Steal, None), "{report:?}");
    assert!(report.imbalance_after <= 1.03 + report.vertex_share);
}

pub fn same_owners_each_time(comm: &Comm) {
    let (tree, weights): (Tree, _) = SCENES[1].step(10, 4);
    let n = weights.len();
    // Ranks have more and more.
    let uneven: Vec<u32> =
        (0..n).map(|k| ((k as f64 / n as f64).sqrt() * comm.size() as f64) as u32).collect();
    let mut starts = vec![uneven.clone(), uneven];
    // The second with one rank that has nothing.
    starts[1].iter_mut().filter(|o| **o == 1).for_each(|o| *o = 0);
    let options =
        StealOptions { deterministic: true, least_vertices: 0, long_flow: 10.0, ..StealOptions::default() };
    for owner in starts {
        let (graph, _) = tree.graph(comm, &owner, &weights);
        let first = rebalance(comm, &graph, &[], None, None, &options).expect("new owners");
        assert_ne!(first.report.method, Method::None);
        check_partition(comm, &graph, &first.owner, comm.size()).expect("a partition");
        for _ in 0..5 {
            let again = rebalance(comm, &graph, &[], None, None, &options).expect("new owners");
            assert_eq!(again, first);
        }
    }
}

/// Nothing is left behind by many rebalances: communicators, datatypes and windows are few in number in MPI
/// libraries, and memory stays.
pub fn a_thousand_cycles(comm: &Comm) {
    let web = Web::lattice(24, 24);
    let mut owner = blocks(web.n(), comm.size());
    let mut random = Random(7);
    let mut stolen = 0;
    let mut early = 0;
    for cycle in 0..1000 {
        let spot = (random.below(24) as i64, random.below(24) as i64);
        let near = |k: usize| ((k % 24) as i64 - spot.0).abs().max((k as i64 / 24 - spot.1).abs()) < 6;
        let weights: Vec<i32> = (0..web.n()).map(|k| if near(k) { 40 } else { 10 }).collect();
        let options = StealOptions { deterministic: cycle % 2 == 0, seed: cycle, ..always() };
        let report = web.rebalance(comm, &mut owner, &weights, &options).report;
        stolen += usize::from(report.method == Method::Steal);
        if report.method != Method::None {
            assert!(report.imbalance_after <= 1.03 + report.vertex_share, "{report:?}");
        }
        if cycle == 100 {
            early = resident_kib();
        }
    }
    assert!(stolen > 500, "{stolen} of 1000 cycles stole");
    let grown = resident_kib().saturating_sub(early);
    assert!(grown < 4096, "{grown} KiB more after 900 cycles");
}

/// The memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find(|l| l.starts_with("VmRSS")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Prints what one claim costs: a read and a swap of a word of the next rank, all ranks at once.
pub fn claims_per_second(comm: &Comm) {
    let window = Window::new(comm, 1);
    let n = 20_000u64;
    for (name, victim) in [("the next rank's word", (comm.rank() + 1) % comm.size()), ("one word of all", 0)]
    {
        comm.barrier();
        let start = std::time::Instant::now();
        let mut lost = 0;
        for _ in 0..n {
            let seen = window.load(victim, 0);
            lost += u64::from(window.compare_and_swap(victim, 0, seen, seen + 1) != seen);
        }
        let micros = comm.max(start.elapsed().as_secs_f64()) * 1e6 / n as f64;
        let lost = comm.sum(lost);
        comm.barrier();
        if comm.is_root() {
            println!("{} ranks, {name}: {micros:.2} microseconds a claim, {lost} of them lost", comm.size());
        }
    }
}

/// Prints what a rebalance of about 100,000 leaves costs, without METIS, with METIS for an answer, and with METIS asked
/// in doubt: the least of several runs, by the clock and by what the processor says that the busiest rank used of it
/// (waiting included, where ranks do not yield).
pub fn cost_of_a_rebalance(comm: &Comm) {
    let web = Web::lattice(320, 320);
    let side = 320 / comm.size();
    let columns: Vec<u32> = (0..web.n()).map(|k| ((k % 320) / side).min(comm.size() - 1) as u32).collect();
    let weights: Vec<i32> = columns.iter().map(|&c| if c == 0 { 130 } else { 100 }).collect();
    let (graph, _) = web.graph(comm, &columns, &weights);
    let metis = StealOptions { method: Method::Metis, ..always() };
    let doubt = StealOptions { long_flow: 0.02, ..always() };
    for (name, options) in [("stealing", always()), ("METIS", metis), ("METIS asked", doubt)] {
        let (mut wall, mut processor) = (f64::MAX, f64::MAX);
        for _ in 0..10 {
            comm.barrier();
            let (start, used) = (std::time::Instant::now(), processor_seconds());
            rebalance(comm, &graph, &[], None, None, &options).expect("new owners");
            wall = wall.min(comm.max(start.elapsed().as_secs_f64()));
            processor = processor.min(comm.max(processor_seconds() - used));
        }
        if comm.is_root() {
            let (wall, processor, n) = (wall * 1e3, processor * 1e3, web.n());
            println!(
                "{} ranks, {n} vertices, {name}: {wall:.1} ms, {processor:.1} ms of a processor",
                comm.size()
            );
        }
    }
}

/// How long this thread has run.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") * 1e-9
}
