//! Times a partition and compares its cut with METIS on the whole graph.
//!
//! `mpirun -n 2 target/release/examples/measure SHAPE N [PARTS,...] [nometis]` with SHAPE `box` (N cubes a side, six
//! tetrahedra each), `cylinder` (N across, 3N long) or `bracket`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{Shape, metis_cut};
use partition::{Options, partition, quality};

fn main() {
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(20);
    let shape = match args.get(1).map(String::as_str) {
        Some("cylinder") => Shape::cylinder(n),
        Some("bracket") => Shape::bracket(n),
        _ => Shape::cuboid([n; 3]),
    };
    let parts = args.get(3).map_or("2,4,8,16,32,64", String::as_str);
    let compare = args.get(4).is_none_or(|a| a != "nometis");
    comm.barrier();
    let start = Instant::now();
    let graph = shape.graph(&comm);
    comm.barrier();
    if comm.is_root() {
        println!(
            "{} {n}: {} vertices on {} ranks, graph in {:.2} s",
            shape.name,
            graph.n_global(),
            comm.size(),
            start.elapsed().as_secs_f64()
        );
        println!("parts    cut  ratio  imbalance  pieces  neighbours  seconds (METIS on all)");
    }
    for n_parts in parts.split(',').filter_map(|p| p.parse().ok()) {
        comm.barrier();
        let start = Instant::now();
        let made = partition(&comm, &graph, n_parts, &Options::default()).expect("a partition");
        let seconds = comm.max(start.elapsed().as_secs_f64());
        let q = quality(&comm, &graph, &made.owner, n_parts);
        let (whole, metis_seconds) = if compare { metis_cut(&comm, &graph, n_parts) } else { (0, 0.0) };
        if comm.is_root() {
            println!(
                "{n_parts:5} {:6} {:6.3} {:10.4} {:7} {:11} {seconds:8.3} ({metis_seconds:.3}) {}",
                q.edge_cut,
                q.edge_cut as f64 / whole as f64,
                q.imbalance,
                q.max_components,
                q.max_neighbours,
                made.method
            );
        }
    }
}
