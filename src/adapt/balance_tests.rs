//! What cells weigh on their way between ranks, moves that do not pay, and that nothing is lost on the way.

use cluster::Comm;
use partition::{Method, StealOptions};

use super::balance::{self, Price};
use crate::element::{GeometryKind, Quadrature, Shape};
use crate::mesh::boxes::BoxSpec;
use crate::mesh::bricks::Plan;
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Forest, Key, Mark, Merge};
use crate::mesh::trees::{Trees, under_mpi};
use crate::mesh::{Mesh, check_mesh, geometry};
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
                partition::rebalance(comm, &graph, &bytes, None, cost.as_ref(), &StealOptions::default())
                    .expect("owners")
            };
            // A step of 1 s gains some 0.3 s. To move a leaf takes 0.1 ms: little for a byte, too much for all that
            // have to go, of which there are hundreds.
            let sent = comm.max(bytes.iter().map(|&b| u64::from(b)).sum::<u64>());
            let n = comm.max(forest.n_leaves() as u64) as f64;
            let dear = Price::measured(comm, None, 2.0, sent, 0.0, mesh.n_cells_global);
            assert!(2.0 / n < 0.1, "{n}");
            assert_eq!(rebalance(dear, 1.0).report.method, Method::None, "{shape}");
            // All that is not moved counts as well.
            let slow = Price::measured(comm, None, 1e-6, sent, 10.0, mesh.n_cells_global);
            assert_eq!(rebalance(slow, 1.0).report.method, Method::None, "{shape}");
            // A small mesh says nothing about a large one; of two measurements the lesser rates count.
            let small = Price::measured(comm, None, 2.0, sent, 10.0, mesh.n_cells_global / 5);
            assert!(small.cost(1.0, mesh.n_cells_global).is_none());
            assert_ne!(rebalance(small, 1.0).report.method, Method::None, "{shape}");
            let least = Price::measured(comm, Some(dear), 1e-6, sent, 1e-6, mesh.n_cells_global);
            assert_ne!(rebalance(least, 1.0).report.method, Method::None, "{shape}");
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

fn hash(key: &Key, seed: u64) -> u64 {
    let words = [key.root, key.path as u64, (key.path >> 64) as u64, u64::from(key.level), seed];
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, &w| {
        let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^ h >> 32
    })
}

/// Volume, volume of each set of groups, measure of each group of sides: of straight cells.
fn measures(mesh: &Mesh) -> Vec<f64> {
    let mut sums = vec![geometry::volume(mesh)];
    let mut of_sets = vec![0.0; mesh.sets.len() + mesh.groups.len()];
    let mut x = Vec::new();
    for (b, block) in mesh.blocks.iter().enumerate() {
        let rule = Quadrature::new(block.shape, 3).expect("a rule");
        let table = geometry::basis(block).tabulate(&rule.points, 1);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            for (q, w) in rule.weights.iter().enumerate() {
                let det = geometry::determinant(&geometry::jacobian(&table, q, &x), mesh.dim);
                of_sets[block.sets[cell] as usize] += w * det;
            }
        }
        for t in mesh.tags.iter().filter(|t| t.block as usize == b && (t.cell as usize) < block.n_owned) {
            if t.dim as usize + 1 != mesh.dim {
                continue;
            }
            let nodes = block.nodes(t.cell as usize);
            let listed = block.shape.facet_vertices(t.local as usize);
            let at = |k: usize| mesh.nodes[nodes[listed[k] as usize] as usize];
            let along = |i: usize, j: usize| -> [f64; 3] { std::array::from_fn(|d| at(j)[d] - at(i)[d]) };
            let cross = |a: [f64; 3], b: [f64; 3]| {
                let c = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
                0.5 * c.iter().map(|c| c * c).sum::<f64>().sqrt()
            };
            of_sets[mesh.sets.len() + t.group as usize] += match listed.len() {
                2 => along(0, 1).iter().map(|c| c * c).sum::<f64>().sqrt(),
                3 => cross(along(0, 1), along(0, 2)),
                _ => cross(along(0, 2), along(1, 3)),
            };
        }
    }
    mesh.comm.sum_slice(&mut of_sets);
    sums.extend(of_sets);
    sums
}

/// Cells, and the sum of what their keys and payloads are hashed to.
fn contents(comm: &Comm, forest: &Forest, payload: &[f64]) -> [u64; 2] {
    let words = forest.keys().zip(payload.chunks_exact(2));
    let mut sums = [0, 0];
    for (key, of_cell) in words {
        sums[0] += 1;
        sums[1] += of_cell.iter().fold(hash(&key, 7), |h, x| hash(&key, h ^ x.to_bits())) >> 24;
    }
    comm.sum_slice(&mut sums);
    sums
}

/// Refine and coarsen by chance, let ranks steal by weights of chance, move cells: as the adaptive driver does, from a
/// mesh that one rank has all of. No cell, no payload, no volume, no side is lost on the way, whatever the number of
/// ranks, and ranks without cells steal back.
#[test]
fn nothing_is_lost_between_thieves() {
    let all = under_mpi("adapt::balance_tests::nothing_is_lost_between_thieves", &[1, 2, 3, 5, 8], |comm| {
        let mut figures = Vec::new();
        for shape in [Shape::Triangle, Shape::Tetrahedron, Shape::Quadrilateral, Shape::Hexahedron] {
            let (size, cells) = if shape.dim() == 2 {
                (vec![2.0, 1.0], vec![8, 5])
            } else {
                (vec![2.0, 1.0, 1.0], vec![4, 2, 3])
            };
            let spec = BoxSpec { size, cells, shape, origin: [0.0; 3] };
            let initial = Plan::new(&spec).expect("a box").build(comm).expect("it fits").0;
            let expected = measures(&initial);
            let mut forest = Forest::new(&initial).expect("a forest");
            drop(initial);
            let mut carried = Carried::new();
            // Whole numbers and halves: exact when children become one.
            let payload = forest.keys().flat_map(|k| [k.root as f64, 0.5 - k.root as f64]).collect();
            let payload = carried.add_cell(2, Merge::Mean, payload);
            let mut empty = 0;
            for step in 0..5u64 {
                let what = format!("{shape} on {} ranks, step {step}", comm.size());
                if step % 3 == 0 {
                    let before = contents(comm, &forest, carried.values(payload));
                    let to = (step as usize % comm.size()) as u32;
                    forest.migrate(&vec![to; forest.n_leaves()], &mut carried).expect("a rank");
                    empty += comm.sum(u64::from(forest.n_leaves() == 0));
                    assert_eq!(contents(comm, &forest, carried.values(payload)), before, "{what}");
                }
                let marks: Vec<Mark> = forest
                    .keys()
                    .map(|key| match hash(&key, step) >> 20 & 127 {
                        k if k < 25 && key.level < 9 => Mark::Refine,
                        k if k > 90 => Mark::Coarsen,
                        _ => Mark::Keep,
                    })
                    .collect();
                forest.adapt(&marks, &mut carried).expect("room");
                let mesh = forest.mesh().expect("a mesh");
                check_mesh(&mesh).expect("a valid mesh");
                let weights: Vec<f64> =
                    forest.keys().map(|key| 1.0 + (hash(&key, step + 50) >> 20 & 3) as f64).collect();
                let graph = balance::graph(&mesh, &Facets::new(&mesh), &weights).expect("a graph");
                let options = StealOptions { least_vertices: 0, ..StealOptions::default() };
                let bytes = forest.leaf_bytes(&carried);
                let found = partition::rebalance(comm, &graph, &bytes, None, None, &options).expect("owners");
                let before = contents(comm, &forest, carried.values(payload));
                let moved = forest.migrate(&found.owner, &mut carried).expect("ranks");
                assert_eq!(moved.cells, found.report.moved_vertices, "{what}");
                assert_eq!(contents(comm, &forest, carried.values(payload)), before, "{what}");
                for (key, of_cell) in forest.keys().zip(carried.values(payload).chunks_exact(2)) {
                    assert_eq!(of_cell, [key.root as f64, 0.5 - key.root as f64], "{what}: {key:?}");
                }
                let mesh = forest.mesh().expect("a mesh");
                check_mesh(&mesh).expect("a valid mesh");
                for (now, then) in measures(&mesh).iter().zip(&expected) {
                    assert!((now - then).abs() < 1e-11 * (1.0 + then), "{what}: {now}, not {then}");
                }
                // Nobody is left without cells where there are enough for all.
                let fewest = -comm.max(-(forest.n_leaves() as f64));
                assert!(fewest > 0.0, "{what}: a rank has nothing");
                figures.extend(before.map(|x| x as f64));
            }
            assert_eq!(empty > 0, comm.size() > 1);
        }
        figures
    });
    assert!(all.iter().all(|figures| *figures == all[0]), "{all:?}");
}
