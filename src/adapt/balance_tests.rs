//! What cells weigh on their way between ranks, and moves that do not pay.

use cluster::Comm;
use partition::{Method, StealOptions};

use super::balance::{self, Price};
use crate::element::{GeometryKind, Shape};
use crate::mesh::Mesh;
use crate::mesh::boxes::BoxSpec;
use crate::mesh::bricks::Plan;
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Forest, Mark, Merge};
use crate::mesh::trees::{Trees, under_mpi};
use crate::space::{Order, Space};

fn mesh(comm: &Comm, shape: Shape) -> Mesh {
    if shape == Shape::Quadrilateral {
        let trees = Trees::new(shape, [24, 10, 1], false, GeometryKind::Linear);
        let mut mesh = trees.mesh(comm, |k| k * comm.size() / trees.leaves.len());
        mesh.blocks[0].hanging = None;
        return mesh;
    }
    let (size, cells) = (vec![4.0, 1.0, 1.0], vec![12, 4, 4]);
    let spec = BoxSpec { size, cells, shape, origin: [0.0; 3] };
    Plan::new(&spec).expect("a box").build(comm).expect("it fits").0
}

/// A rank has far more to do than others. To even that out is declined where the real bytes make it too dear, and
/// done where they do not; the bytes foreseen are those that go.
#[test]
fn moves_that_do_not_pay_are_declined() {
    under_mpi("adapt::balance_tests::moves_that_do_not_pay_are_declined", &[2, 3], |comm| {
        for shape in [Shape::Quadrilateral, Shape::Tetrahedron] {
            let mut forest = Forest::new(&mesh(comm, shape)).expect("a forest");
            let mark = if comm.rank() == 0 { Mark::Refine } else { Mark::Keep };
            forest.adapt(&vec![mark; forest.n_leaves()], &mut Carried::new()).expect("room");
            let mesh = forest.mesh().expect("a mesh");
            let space = Space::new(&mesh, 1, Order::Curve).expect("a space");
            let mut carried = Carried::new();
            let n_nodes = shape.n_vertices();
            carried.add_nodal(1, 1, vec![1.0; n_nodes * forest.n_leaves()]);
            let costs = balance::costs(&mesh, &space, &balance::Times::default(), true);
            assert!(balance::imbalance(comm, &costs) > 1.3, "{shape}");
            carried.add_cell(1, Merge::Mean, costs.clone());
            let graph = balance::graph(&mesh, &Facets::new(&mesh), &costs).expect("a graph");
            let bytes = forest.leaf_bytes(&carried);
            let rebalance = |price: Price, seconds: f64| {
                let cost = price.cost(seconds, mesh.n_cells_global);
                partition::rebalance(comm, &graph, &bytes, None, Some(&cost), &StealOptions::default())
                    .expect("owners")
            };
            // A step of 1 s gains some 0.3 s. To move a leaf takes 0.1 ms: little for a byte, too much for all that
            // have to go, of which there are hundreds.
            let sent = comm.max(bytes.iter().map(|&b| u64::from(b)).sum::<u64>());
            let n = comm.max(forest.n_leaves() as u64) as f64;
            let dear = Price::measured(comm, 2.0, sent, 0.0, 1);
            assert!(2.0 / n < 0.1, "{n}");
            assert_eq!(rebalance(dear, 1.0).report.method, Method::None, "{shape}");
            // All that is not moved counts as well.
            let slow = Price::measured(comm, 1e-6, sent, 10.0, mesh.n_cells_global);
            assert_eq!(rebalance(slow, 1.0).report.method, Method::None, "{shape}");
            // The same move pays for a longer step.
            let found = rebalance(dear, 100.0);
            assert_ne!(found.report.method, Method::None, "{shape}");
            let rank = comm.rank() as u32;
            let leaving = found.owner.iter().zip(&bytes).filter(|o| *o.0 != rank);
            let foreseen: f64 = leaving.map(|o| f64::from(*o.1)).sum();
            let moved = forest.migrate(&found.owner, &mut carried).expect("ranks");
            assert_eq!(moved.cells, found.report.moved_vertices);
            let off = foreseen / (moved.bytes as f64).max(1.0);
            assert!(moved.bytes == 0 || (0.6..1.4).contains(&off), "{shape}: {foreseen} of {}", moved.bytes);
            assert_eq!(comm.sum(moved.bytes) == 0, moved.cells == 0);
        }
        Vec::new()
    });
}
