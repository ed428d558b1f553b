//! Tests under `mpirun` on 1 to 4 ranks, each with a time limit.
//!
//! Run by `cargo test`, this program starts itself under `mpirun` for each number of ranks; started by
//! `mpirun`, it is one rank. `cargo test -p femdd-partition --test ranks -- NAME` runs the tests whose
//! name contains NAME.

mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::{Buckets, Comm};
use common::{Shape, metis_cut, redistribute};
use partition::{
    Error, Graph, Options, check_graph, check_partition, distances, hilbert, improve, partition, quality,
};

const LIMIT: Duration = Duration::from_secs(240);

type Test = (&'static str, fn(&Comm));

const TESTS: &[Test] = &[
    ("errors_reach_every_rank", errors_reach_every_rank),
    ("sort_gives_equal_shares_whatever_the_distribution", sort_gives_equal_shares_whatever_the_distribution),
    ("tiny_graphs", tiny_graphs),
    ("graphs_that_do_not_contract", graphs_that_do_not_contract),
    ("random_graphs_dealt_unevenly", random_graphs_dealt_unevenly),
    ("weights_are_balanced", weights_are_balanced),
    ("quality_counts_what_a_serial_count_does", quality_counts_what_a_serial_count_does),
    ("same_partition_each_time", same_partition_each_time),
    ("meshes_cut_nearly_as_well_as_metis", meshes_cut_nearly_as_well_as_metis),
    ("forced_contraction", forced_contraction),
    ("clusters_first_then_what_lies_near_interfaces", clusters_first_then_what_lies_near_interfaces),
    ("large_box", large_box),
];

fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if !cluster::under_launcher() {
        return launch(&filter);
    }
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    for (name, test) in TESTS {
        if filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str())) {
            comm.barrier();
            let start = Instant::now();
            test(&comm);
            comm.barrier();
            if comm.is_root() {
                println!("{} ranks: {name} ... ok ({:.2} s)", comm.size(), start.elapsed().as_secs_f64());
            }
        }
    }
    ExitCode::SUCCESS
}

/// Starts this program on 1 to 4 ranks, one after the other.
fn launch(filter: &[String]) -> ExitCode {
    for n_ranks in 1..=4 {
        let mut command = testing::this_program(n_ranks);
        command.args(filter);
        let ended = testing::finish(command, LIMIT);
        print!("{}", ended.stdout);
        if !ended.succeeded() {
            eprintln!("{n_ranks} ranks: {}", ended.text());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A graph from its edges, which every rank knows, dealt out evenly.
fn dealt(comm: &Comm, n: usize, edges: &[(usize, usize)]) -> Graph {
    let ranges: Vec<usize> = (0..=comm.size()).map(|r| n * r / comm.size()).collect();
    dealt_by(comm, &ranges, edges)
}

/// As `dealt`, with the first vertex of each rank given.
fn dealt_by(comm: &Comm, ranges: &[usize], edges: &[(usize, usize)]) -> Graph {
    let n = ranges[comm.size()];
    let mut rows = vec![Vec::new(); n];
    for &(u, v) in edges {
        rows[u].push(v as u64);
        rows[v].push(u as u64);
    }
    let mine = &rows[ranges[comm.rank()]..ranges[comm.rank() + 1]];
    let mut ptr = vec![0];
    for row in mine {
        ptr.push(ptr[ptr.len() - 1] + row.len());
    }
    let graph = Graph::new(comm, ptr, mine.concat()).expect("a graph");
    check_graph(comm, &graph).expect("symmetric by construction");
    graph
}

fn path(n: usize) -> Vec<(usize, usize)> {
    (1..n).map(|v| (v - 1, v)).collect()
}

/// Partitions, checks the contract, returns the imbalance and the owners of all vertices.
fn checked(comm: &Comm, graph: &Graph, n_parts: usize, options: &Options) -> (f64, Vec<u32>) {
    let made = partition(comm, graph, n_parts, options).expect("a partition");
    check_partition(comm, graph, &made.owner, n_parts).expect("a valid partition");
    let q = quality(comm, graph, &made.owner, n_parts);
    (q.imbalance, comm.all_gather_varied(&made.owner).0)
}

fn errors_reach_every_rank(comm: &Comm) {
    let last = comm.rank() + 1 == comm.size();
    // Each rank holds two vertices joined to each other; the last rank's rows are broken.
    let base = 2 * comm.rank() as u64;
    let n_global = 2 * comm.size() as u64;
    let v = n_global - 2;
    let made = |ptr: Vec<usize>, adj: Vec<u64>| {
        let (good_ptr, good_adj) = (vec![0, 1, 2], vec![base + 1, base]);
        if last { Graph::new(comm, ptr, adj) } else { Graph::new(comm, good_ptr, good_adj) }
    };
    let rank = comm.size() - 1;
    let error = |r: Result<Graph, Error>| r.expect_err("a broken graph");
    assert_eq!(
        error(made(vec![0, 1, 2], vec![v + 1, v + 2])),
        Error::Range { vertex: v + 1, neighbour: n_global, n_global }
    );
    assert_eq!(error(made(vec![0, 1, 2], vec![v, v])), Error::SelfLoop { vertex: v });
    assert_eq!(error(made(vec![0, 2, 1], vec![v + 1])), Error::Offsets { rank, vertex: v + 1 });
    assert_eq!(error(made(vec![1, 1, 1], vec![])), Error::Offsets { rank, vertex: v });
    let short = Error::Length { rank, array: "adj".into(), found: 1, expected: 2 };
    assert_eq!(error(made(vec![0, 1, 2], vec![v + 1])), short);

    let twice = made(vec![0, 2, 3], vec![v + 1, v + 1, v]).expect("well formed");
    assert_eq!(check_graph(comm, &twice), Err(Error::Duplicate { vertex: v, neighbour: v + 1 }));
    let one_way = made(vec![0, 1, 1], vec![v + 1]).expect("well formed");
    let lost = Error::NotSymmetric { vertex: v, neighbour: v + 1 };
    assert_eq!(check_graph(comm, &one_way), Err(lost.clone()));
    let options = Options::default();
    assert_eq!(partition(comm, &one_way, 2, &options).err(), (n_global > 2).then_some(lost));
    if comm.size() > 1 {
        // An edge to another rank that does not know of it.
        let across = made(vec![0, 2, 3], vec![v + 1, 0, v]).expect("well formed");
        let lost = Error::NotSymmetric { vertex: v, neighbour: 0 };
        assert_eq!(check_graph(comm, &across), Err(lost.clone()));
        assert_eq!(partition(comm, &across, 2, &options).err(), Some(lost));
    }

    let good = || made(vec![0, 1, 2], vec![v + 1, v]).expect("a good graph");
    let weights = if last { vec![3, 0] } else { vec![1, 1] };
    let refused = good().with_edge_weights(comm, weights).expect_err("an edge of weight 0");
    assert_eq!(refused, Error::Weight { vertex: v + 1, what: "edge".into(), weight: 0 });
    let weights = if last { vec![-1, 0] } else { vec![1, 1] };
    let refused = good().with_vertex_weights(comm, weights).expect_err("a weight below 0");
    assert_eq!(refused, Error::Weight { vertex: v, what: "vertex".into(), weight: -1 });
    // Both ends list the edge, with different weights.
    let weights = if last { vec![3, 4] } else { vec![1, 1] };
    let uneven = good().with_edge_weights(comm, weights).expect("weights of the right length");
    assert_eq!(check_graph(comm, &uneven), Err(Error::NotSymmetric { vertex: v, neighbour: v + 1 }));

    assert_eq!(partition(comm, &good(), 0, &options), Err(Error::NoParts));
    let owner = if last { vec![0, 2] } else { vec![0, 1] };
    let stray = Error::Owner { vertex: v + 1, owner: 2, n_parts: 2 };
    assert_eq!(check_partition(comm, &good(), &owner, 2), Err(stray));
    let empty = Error::EmptyPart { part: 1, n_global, n_parts: 2 };
    assert_eq!(check_partition(comm, &good(), &[0, 0], 2), Err(empty));
}

fn sort_gives_equal_shares_whatever_the_distribution(comm: &Comm) {
    let (rank, size) = (comm.rank(), comm.size());
    // Few distinct keys, many, one only, and extremes.
    let kinds: [fn(u64) -> u64; 5] = [
        |id| id.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        |id| id % 3,
        |_| u64::MAX,
        |id| if id % 2 == 0 { 0 } else { u64::MAX - id % 5 },
        |id| 1 << (id % 64),
    ];
    for key in kinds {
        for n in [0u64, 1, 5, 1000, 20_011] {
            let mut all: Vec<(u64, u64)> = (0..n).map(|id| (key(id), id)).collect();
            all.sort_unstable();
            let share = |r: usize| (n as usize * r) / size;
            // An equal share, but that equal keys stay together.
            let begin = |r: usize| match all.get(share(r)) {
                Some(first) if r > 0 => all.partition_point(|pair| pair.0 < first.0),
                _ => share(r),
            };
            let expected = &all[begin(rank)..begin(rank + 1)];
            // All on one rank; strided; in blocks of random length.
            for dealing in 0..3u64 {
                let home = |id: u64| match dealing {
                    0 => size - 1,
                    1 => (id * 7 % size as u64) as usize,
                    _ => Random(id / 37).below(size as u64) as usize,
                };
                let ids: Vec<u64> = (0..n).rev().filter(|&id| home(id) == rank).collect();
                let keys: Vec<u64> = ids.iter().map(|&id| key(id)).collect();
                let items: Vec<[u64; 3]> = ids.iter().map(|&id| [id, id + 1, !id]).collect();
                let (k, x) = redistribute(comm, &keys, &items);
                assert!(k.is_sorted() && x.iter().all(|x| x[1] == x[0] + 1 && x[2] == !x[0]));
                let mut got: Vec<(u64, u64)> = k.into_iter().zip(x.iter().map(|x| x[0])).collect();
                got.sort_unstable();
                assert_eq!(got, expected);
            }
            // Equal keys keep the order of ranks and positions.
            let mine = share(rank) as u64..share(rank + 1) as u64;
            let keys: Vec<u64> = mine.clone().map(key).collect();
            let (k, x) = redistribute(comm, &keys, &mine.collect::<Vec<u64>>());
            let got: Vec<(u64, u64)> = k.into_iter().zip(x).collect();
            assert_eq!(got, expected);
        }
    }
    // Points: each rank's share of the curve is compact.
    let mut random = Random(rank as u64 + 1);
    let points: Vec<[f64; 3]> =
        (0..5000).map(|_| std::array::from_fn(|_| random.below(1 << 20) as f64)).collect();
    let keys: Vec<u64> =
        points.iter().map(|&p| hilbert::key(p, [0.0; 3], [(1 << 20) as f64; 3], 3)).collect();
    let (keys, points) = redistribute(comm, &keys, &points);
    assert!(keys.is_sorted() && points.len() == 5000);
}

fn tiny_graphs(comm: &Comm) {
    for n in [0usize, 1, 2, 3, 7, 40] {
        let cycle: Vec<_> = if n > 2 { path(n).into_iter().chain([(n - 1, 0)]).collect() } else { path(n) };
        let star: Vec<_> = (1..n).map(|v| (0, v)).collect();
        let complete: Vec<_> = (0..n).flat_map(|u| (0..u).map(move |v| (u, v))).collect();
        let pairs: Vec<_> = (0..n / 2).map(|k| (2 * k, 2 * k + 1)).collect();
        for edges in [path(n), cycle, star, complete, pairs, Vec::new()] {
            let graph = dealt(comm, n, &edges);
            for n_parts in [1, 2, 3, 5, 7, 16, 39, 40, 64] {
                let (_, owner) = checked(comm, &graph, n_parts, &Options::default());
                let mut used = owner.clone();
                used.sort_unstable();
                used.dedup();
                assert_eq!(used.len(), n.min(n_parts), "{n} vertices in {n_parts} parts: {owner:?}");
                if n_parts == 2 && n == 40 {
                    let size = owner.iter().filter(|&&p| p == 0).count();
                    assert!(size.abs_diff(20) <= 1, "{owner:?}");
                }
            }
        }
    }
}

fn graphs_that_do_not_contract(comm: &Comm) {
    let forced = Options { target_clusters: Some(1), ..Options::default() };
    let n = 3000;
    // A star cannot be matched; isolated vertices have nothing to match; three graphs in one.
    let star: Vec<_> = (1..n).map(|v| (0, v)).collect();
    let pieces: Vec<_> = path(n).into_iter().filter(|e| e.1 % 500 != 0).collect();
    let some: Vec<_> = path(n / 2);
    for edges in [star, Vec::new(), pieces, some] {
        let graph = dealt(comm, n, &edges);
        for n_parts in [2, 6, 13, 64] {
            let (imbalance, _) = checked(comm, &graph, n_parts, &forced);
            assert!(imbalance <= 1.05, "imbalance {imbalance} with {n_parts} parts, {} edges", edges.len());
        }
    }
}

fn random_graphs_dealt_unevenly(comm: &Comm) {
    // The same stream on every rank.
    let mut random = Random(2024);
    for _ in 0..60 {
        let n = 1 + random.below(600) as usize;
        let n_edges = random.below(3 * n as u64);
        let near = 1 + random.below(n as u64);
        let mut edges: Vec<(usize, usize)> = (0..n_edges)
            .map(|_| (random.below(n as u64) as usize, random.below(near) as usize))
            .map(|(u, step)| (u, (u + step) % n))
            .filter(|e| e.0 != e.1)
            .map(|e| (e.0.min(e.1), e.0.max(e.1)))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        // Ranks of any size, often none at all.
        let mut ranges: Vec<usize> = (1..comm.size()).map(|_| random.below(n as u64 + 1) as usize).collect();
        ranges.extend([0, n]);
        ranges.sort_unstable();
        let graph = dealt_by(comm, &ranges, &edges);
        let n_parts = 1 + random.below(20) as usize;
        let options = Options {
            target_clusters: Some(random.below(200) as usize),
            seed: random.below(100) as i32,
            ..Options::default()
        };
        let (imbalance, owner) = checked(comm, &graph, n_parts, &options);
        if n >= n_parts {
            let mean = n as f64 / n_parts as f64;
            let most = (1.03 * mean).floor().max(mean.ceil());
            assert!(imbalance * mean <= most + 1e-9, "{n} vertices in {n_parts}: {imbalance} {owner:?}");
        }
    }
}

fn weights_are_balanced(comm: &Comm) {
    let graph = Shape::bracket(14).graph(comm);
    let mine = graph.offset()..graph.offset() + graph.n_owned() as u64;
    // Heavier and heavier along the curve, with vertices of no weight between.
    let n = graph.n_global();
    let weights: Vec<i32> =
        mine.clone().map(|v| if v % 5 == 0 { 0 } else { (1 + 400 * v / n) as i32 * 10_000 }).collect();
    let edges: Vec<i32> = mine
        .zip(0..)
        .flat_map(|(v, l)| graph.neighbours(l).iter().map(move |&u| 1 + ((u + v) % 3) as i32 * 1_000_000))
        .collect();
    let graph = graph.with_vertex_weights(comm, weights).and_then(|g| g.with_edge_weights(comm, edges));
    let graph = graph.expect("weights of the right lengths");
    check_graph(comm, &graph).expect("symmetric");
    for target in [None, Some(1500)] {
        for n_parts in [2, 5, 16] {
            let options = Options { target_clusters: target, ..Options::default() };
            let (imbalance, _) = checked(comm, &graph, n_parts, &options);
            assert!(imbalance <= 1.05, "imbalance {imbalance} with {n_parts} parts");
        }
    }
    let none = vec![0; graph.n_owned()];
    let graph = graph.with_vertex_weights(comm, none).expect("weights may be 0");
    checked(comm, &graph, 8, &Options::default());
}

fn quality_counts_what_a_serial_count_does(comm: &Comm) {
    let n = 300;
    let mut random = Random(7);
    let mut edges: Vec<(usize, usize)> = (0..500)
        .map(|_| (random.below(n as u64) as usize, random.below(n as u64) as usize))
        .filter(|e| e.0 != e.1)
        .map(|e| (e.0.min(e.1), e.0.max(e.1)))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let graph = dealt(comm, n, &edges);
    for n_parts in [1usize, 2, 3, 9, 50] {
        // Random parts, of which the last stays empty if there are several; and blocks.
        for blocks in [false, true] {
            let used = (n_parts - 1).max(1);
            let owner: Vec<u32> = (0..n)
                .map(|v| if blocks { v * used / n } else { random.below(used as u64) as usize } as u32)
                .collect();
            let begin = graph.offset() as usize;
            let q = quality(comm, &graph, &owner[begin..begin + graph.n_owned()], n_parts);
            let cut = edges.iter().filter(|e| owner[e.0] != owner[e.1]).count();
            let mut neighbours = vec![std::collections::BTreeSet::new(); n_parts];
            let mut label: Vec<usize> = (0..n).collect();
            for _ in 0..n {
                for &(u, v) in &edges {
                    if owner[u] == owner[v] {
                        let least = label[u].min(label[v]);
                        (label[u], label[v]) = (least, least);
                    } else {
                        neighbours[owner[u] as usize].insert(owner[v]);
                        neighbours[owner[v] as usize].insert(owner[u]);
                    }
                }
            }
            let pieces: Vec<usize> = (0..n_parts)
                .map(|p| (0..n).filter(|&v| owner[v] as usize == p && label[v] == v).count())
                .collect();
            let sizes = (0..n_parts).map(|p| owner.iter().filter(|&&o| o as usize == p).count());
            assert_eq!(q.edge_cut, cut as u64);
            assert_eq!(q.max_neighbours, neighbours.iter().map(|s| s.len()).max().unwrap_or(0));
            let mean = neighbours.iter().map(|s| s.len()).sum::<usize>() as f64 / n_parts as f64;
            assert!((q.mean_neighbours - mean).abs() < 1e-12);
            let imbalance = (sizes.max().unwrap_or(0) * n_parts) as f64 / n as f64;
            assert!((q.imbalance - imbalance).abs() < 1e-12);
            assert_eq!(q.max_components, pieces.iter().copied().max().unwrap_or(0));
            assert_eq!(q.disconnected_parts, pieces.iter().filter(|&&c| c > 1).count());
            assert_eq!(q.empty_parts, pieces.iter().filter(|&&c| c == 0).count());
        }
    }
}

fn same_partition_each_time(comm: &Comm) {
    let graph = Shape::cylinder(12).graph(comm);
    let options = Options { target_clusters: Some(1000), ..Options::default() };
    let first = partition(comm, &graph, 12, &options).expect("a partition");
    for _ in 0..3 {
        // Other exchanges between shift the timing.
        comm.exchange(&Buckets::from_pairs(vec![(0, comm.rank() as u64)]));
        assert_eq!(partition(comm, &graph, 12, &options).expect("a partition"), first);
    }
    assert!(first.method.ends_with("+contraction"));
}

/// Asserts balance, and a cut of at most 1.25 times METIS's on the whole graph.
fn compare(comm: &Comm, shape: &Shape, options: &Options) {
    let graph = shape.graph(comm);
    check_graph(comm, &graph).expect("a dual graph is symmetric");
    for n_parts in [2, 4, 8, 16, 32, 64] {
        assert!(graph.n_global() >= 500 * n_parts as u64, "{} has too few cells", shape.name);
        let made = partition(comm, &graph, n_parts, options).expect("a partition");
        check_partition(comm, &graph, &made.owner, n_parts).expect("a valid partition");
        let q = quality(comm, &graph, &made.owner, n_parts);
        let (whole, _) = metis_cut(comm, &graph, n_parts);
        let ratio = q.edge_cut as f64 / whole as f64;
        if comm.is_root() {
            println!(
                "  {:9} {:7} cells {n_parts:3} parts: ratio {ratio:.3} imbalance {:.4} {}",
                shape.name,
                graph.n_global(),
                q.imbalance,
                made.method
            );
        }
        assert!(q.imbalance <= 1.05, "{} in {n_parts}: imbalance {}", shape.name, q.imbalance);
        assert!(ratio <= 1.25, "{} in {n_parts}: cut {ratio:.3} of METIS's", shape.name);
    }
}

fn meshes_cut_nearly_as_well_as_metis(comm: &Comm) {
    for shape in [Shape::cuboid([18; 3]), Shape::cylinder(14), Shape::bracket(26)] {
        compare(comm, &shape, &Options::default());
    }
}

fn forced_contraction(comm: &Comm) {
    let options = Options { target_clusters: Some(5000), ..Options::default() };
    for shape in [Shape::cuboid([18; 3]), Shape::cylinder(14), Shape::bracket(26)] {
        compare(comm, &shape, &options);
    }
}

/// The graph of clusters of `size` consecutive vertices, and the local cluster of each vertex.
fn clustered(comm: &Comm, graph: &Graph, size: u64) -> (Graph, Vec<u32>) {
    let mut first = vec![0u64];
    for ends in graph.ranges().windows(2) {
        first.push(first[first.len() - 1] + (ends[1] - ends[0]).div_ceil(size));
    }
    let cluster = |v: u64| {
        let rank = graph.rank_of(v) as usize;
        first[rank] + (v - graph.ranges()[rank]) / size
    };
    let mine = first[comm.rank()];
    let mut rows: Vec<std::collections::BTreeMap<u64, i32>> = Vec::new();
    let mut weights: Vec<i32> = Vec::new();
    let mut of_vertex = Vec::new();
    for v in 0..graph.n_owned() {
        let here = cluster(graph.offset() + v as u64);
        let local = (here - mine) as usize;
        rows.resize(local + 1, Default::default());
        weights.resize(local + 1, 0);
        weights[local] += 1;
        of_vertex.push(local as u32);
        for &u in graph.neighbours(v) {
            if cluster(u) != here {
                *rows[local].entry(cluster(u)).or_default() += 1;
            }
        }
    }
    let mut ptr = vec![0];
    for row in &rows {
        ptr.push(ptr[ptr.len() - 1] + row.len());
    }
    let made = Graph::new(comm, ptr, rows.iter().flat_map(|r| r.keys().copied()).collect())
        .and_then(|g| g.with_edge_weights(comm, rows.iter().flat_map(|r| r.values().copied()).collect()))
        .and_then(|g| g.with_vertex_weights(comm, weights))
        .expect("a graph of clusters");
    check_graph(comm, &made).expect("symmetric as the graph it comes from");
    (made, of_vertex)
}

/// METIS sees a small graph, and the cut is still near that of METIS on the whole one.
fn clusters_first_then_what_lies_near_interfaces(comm: &Comm) {
    let (mut product, mut n, mut gained) = (1.0, 0, 0);
    for shape in [Shape::cuboid([30; 3]), Shape::cylinder(22), Shape::bracket(40)] {
        let graph = shape.graph(comm);
        let (coarse, cluster) = clustered(comm, &graph, 8);
        for n_parts in [2, 4, 8, 16] {
            let options = Options { target_clusters: Some(6000), ..Options::default() };
            let made = partition(comm, &coarse, n_parts, &options).expect("a partition");
            assert!(made.n_clusters > 0 && 10 * made.n_clusters <= graph.n_global(), "{}", made.n_clusters);
            let distance = distances(comm, &coarse, &made.owner, 2);
            let fixed: Vec<bool> = cluster.iter().map(|&c| distance[c as usize] > 0).collect();
            let mut owner: Vec<u32> = cluster.iter().map(|&c| made.owner[c as usize]).collect();
            let before = quality(comm, &graph, &owner, n_parts);
            let after = improve(comm, &graph, &fixed, &mut owner, &vec![0; n_parts], &options);
            check_partition(comm, &graph, &owner, n_parts).expect("a valid partition");
            let q = quality(comm, &graph, &owner, n_parts);
            assert_eq!(after.edge_cut, q.edge_cut);
            assert!((after.imbalance - q.imbalance).abs() < 1e-12);
            assert!(q.edge_cut <= before.edge_cut, "{} is above {}", q.edge_cut, before.edge_cut);
            gained += before.edge_cut - q.edge_cut;
            let moved = |v: usize| owner[v] != made.owner[cluster[v] as usize];
            assert!((0..owner.len()).all(|v| !(fixed[v] && moved(v))));
            assert!(q.imbalance <= 1.03 + 1e-9, "{} in {n_parts}: imbalance {}", shape.name, q.imbalance);
            let (whole, _) = metis_cut(comm, &graph, n_parts);
            let ratio = q.edge_cut as f64 / whole as f64;
            if comm.is_root() {
                println!(
                    "  {:9} {n_parts:3} parts: METIS saw {} ratio {ratio:.3}",
                    shape.name, made.n_clusters
                );
            }
            assert!(ratio <= 1.25, "{} in {n_parts}: cut {ratio:.3} of METIS's", shape.name);
            product *= ratio;
            n += 1;
        }
    }
    assert!(gained > 0, "single cells near the interfaces never moved");
    let mean = f64::powf(product, 1.0 / f64::from(n));
    assert!(mean <= 1.1, "cuts are {mean:.3} times METIS's in the mean");
}

fn large_box(comm: &Comm) {
    compare(comm, &Shape::cuboid([40; 3]), &Options::default());
}
