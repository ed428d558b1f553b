//! Distributed meshes of generated boxes under `mpirun`: both ways of making one keep the contract of a mesh
//! and make the same cells.
//!
//! Run by `cargo test`, each test starts this program under `mpirun`, where the ignored test below is one rank.

use std::time::Duration;

use cluster::Comm;
use femdd::element::Shape;
use femdd::mesh::boxes::{self, BoxSpec};
use femdd::mesh::bricks::Plan;
use femdd::mesh::draft::Draft;
use femdd::mesh::{Mesh, check_mesh, geometry};
use femdd::run::mesh::partition_draft;

const LIMIT: Duration = Duration::from_secs(100);

/// Runs the rank's test on so many ranks.
fn under_mpirun(n_ranks: usize) {
    let ended = testing::finish(testing::this_test("one_rank", n_ranks), LIMIT);
    assert!(ended.succeeded(), "{n_ranks} ranks: {}", ended.text());
}

#[test]
fn on_1_rank() {
    under_mpirun(1);
}

#[test]
fn on_2_ranks() {
    under_mpirun(2);
}

#[test]
fn on_3_ranks() {
    under_mpirun(3);
}

#[test]
fn on_4_ranks() {
    under_mpirun(4);
}

#[test]
fn on_7_ranks() {
    under_mpirun(7);
}

#[test]
fn on_16_ranks() {
    under_mpirun(16);
}

#[test]
#[ignore = "one rank of the tests above"]
fn one_rank() {
    if !cluster::under_launcher() {
        return;
    }
    let session = cluster::init().expect("MPI starts");
    let comm = session.world();
    type Case<'a> = (&'a [u64], Shape, &'a [(u16, u16)]);
    let cases: [Case; 12] = [
        (&[300], Shape::Interval, &[]),
        (&[9], Shape::Interval, &[(0, 1)]),
        (&[12, 9], Shape::Triangle, &[]),
        (&[40, 35], Shape::Quadrilateral, &[]),
        (&[6, 5], Shape::Quadrilateral, &[(1, 0), (2, 3)]),
        (&[10, 7, 9], Shape::Tetrahedron, &[]),
        (&[6, 7, 5], Shape::Tetrahedron, &[(0, 1), (4, 5)]),
        (&[8, 9, 7], Shape::Hexahedron, &[]),
        (&[1, 1, 60], Shape::Tetrahedron, &[]),
        (&[2, 2, 2], Shape::Hexahedron, &[]),
        (&[1, 1], Shape::Triangle, &[]),
        (&[1, 1, 1], Shape::Hexahedron, &[]),
    ];
    for (cells, shape, periodic) in cases {
        compare(&comm, cells, shape, periodic);
    }
}

/// The sum over all ranks' owned cells of a hash of what they are, whoever owns them.
fn fingerprint(mesh: &Mesh) -> u64 {
    let mix = |x: u64| {
        let x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^ (x >> 29)
    };
    let mut sum = 0u64;
    for (b, block) in mesh.blocks.iter().enumerate() {
        let mut tags = vec![0u64; block.n_owned];
        for t in mesh.tags.iter().filter(|t| t.block as usize == b && (t.cell as usize) < block.n_owned) {
            let word = u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.local);
            tags[t.cell as usize] = mix(tags[t.cell as usize] ^ word);
        }
        for (cell, tags) in tags.iter().enumerate() {
            let mut hash = mix(block.ids[cell] ^ tags);
            mesh.sets[block.sets[cell] as usize].iter().for_each(|&g| hash = mix(hash ^ u64::from(g)));
            for &node in block.nodes(cell) {
                hash = mix(hash ^ mesh.node_ids[node as usize]);
                mesh.nodes[node as usize].iter().for_each(|x| hash = mix(hash ^ x.to_bits()));
            }
            sum = sum.wrapping_add(hash);
        }
    }
    mesh.comm.sum(sum)
}

fn compare(comm: &Comm, cells: &[u64], shape: Shape, periodic: &[(u16, u16)]) {
    let what = format!("{cells:?} {shape} {periodic:?} on {} ranks", comm.size());
    let mut origin = [0.25, -1.0, 0.5];
    origin[cells.len()..].fill(0.0);
    let size = [2.0, 1.0, 3.0][..cells.len()].to_vec();
    let spec = BoxSpec { size, cells: cells.to_vec(), shape, origin };
    let plan = Plan::new(&spec).expect("a box").with(0.1, periodic).expect("sides that join");
    let (ours, dealt) = plan.build(comm).expect("it fits");
    let soup = boxes::generate(comm, &spec).expect("a box");
    let draft = Draft::new(comm, soup, 0.1, periodic, true).expect("a draft");
    let (owners, report) = partition_draft(&draft, comm.size()).expect("a partition");
    let other = draft.distribute(&owners).expect("a mesh");
    for (mesh, way) in [(&ours, "directly"), (&other, "by the soup")] {
        if let Err(message) = check_mesh(mesh) {
            panic!("{what}, {way}: {message}");
        }
    }
    assert_eq!(fingerprint(&ours), fingerprint(&other), "{what}: other cells");
    assert_eq!((&ours.groups, &ours.sets), (&other.groups, &other.sets), "{what}");
    assert_eq!(ours.n_cells_global, other.n_cells_global, "{what}");
    assert_eq!(ours.nodes_are_vertices, other.nodes_are_vertices, "{what}");
    assert_eq!(ours.vertices.map.n_global(), other.vertices.map.n_global(), "{what}");
    if cells.iter().product::<u64>() > 30 * comm.size() as u64 {
        // Planes may cut more than a graph's best partition, not much more.
        let most = (1.25 * report.edge_cut as f64).max(report.edge_cut as f64 + 8.0);
        assert!(dealt.edge_cut as f64 <= most, "{what}: {} against {}", dealt.edge_cut, report.edge_cut);
        assert!(dealt.imbalance < 1.06, "{what}: imbalance {}", dealt.imbalance);
    }
    // Refinement goes on from either.
    let (a, b) = (ours.refine().expect("finer"), other.refine().expect("finer"));
    check_mesh(&a).unwrap_or_else(|message| panic!("{what}, refined: {message}"));
    assert_eq!(a.n_cells_global, b.n_cells_global, "{what}");
    let (a, b) = (geometry::volume(&a), geometry::volume(&b));
    assert!((a - b).abs() < 1e-12 * a.abs(), "{what}: volumes {a} and {b}");
}
