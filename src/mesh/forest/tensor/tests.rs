//! Forests of quadrilaterals and hexahedra on 1 to 4 ranks, against trees cut by comparing all leaves.

use cluster::Comm;

use super::super::{Carried, Forest, Key, Mark, Merge};
use crate::element::{GeometryKind, Lagrange, Nodes, Shape};
use crate::mesh::entities::mix;
use crate::mesh::trees::{Leaf, Trees, under_mpi};
use crate::mesh::{Mesh, check_mesh, geometry};

const RANKS: [usize; 4] = [1, 2, 3, 4];

fn hash(key: &Key) -> u64 {
    mix(key.root ^ mix(key.path as u64 ^ mix((key.path >> 64) as u64 ^ u64::from(key.level))))
}

/// What depends on the leaves alone: how many there are, and sums of hashes of their keys.
fn figures(comm: &Comm, forest: &Forest) -> Vec<f64> {
    let mut sums = [0u64; 3];
    for key in forest.keys() {
        sums[0] += 1;
        sums[1] += hash(&key) >> 40;
        sums[2] += u64::from(key.level);
    }
    comm.sum_slice(&mut sums);
    sums.map(|s| s as f64).to_vec()
}

/// Uncut roots, dealt out at random or in stretches.
fn start(comm: &Comm, trees: &Trees, scattered: bool) -> Mesh {
    let (size, n) = (comm.size(), trees.leaves.len());
    let mut mesh = trees.mesh(comm, |k| if scattered { k * 7919 % 101 % size } else { k * size / n });
    mesh.blocks[0].hanging = None;
    mesh
}

fn trees(shape: Shape, periodic: bool, geometry: GeometryKind) -> Trees {
    Trees::new(shape, if shape == Shape::Quadrilateral { [3, 3, 1] } else { [3, 2, 2] }, periodic, geometry)
}

/// The key of a leaf of the plain trees.
fn key_of(shape: Shape, leaf: &Leaf) -> Key {
    let d = shape.dim() as u32;
    let mut path = 0u128;
    let mut at = *leaf;
    while at.level > 0 {
        path |= (at.child(shape) as u128) << (128 - d * at.level);
        at = at.parent();
    }
    Key { root: leaf.root as u64 + 1, level: leaf.level as u8, path }
}

/// Marks by key, the same on any number of ranks.
fn marks(forest: &Forest, salt: u64, refine: u64, coarsen: u64) -> Vec<Mark> {
    let of = |key: Key| match mix(hash(&key) ^ salt) % 100 {
        k if k < refine && key.level < 4 => Mark::Refine,
        k if k >= 100 - coarsen => Mark::Coarsen,
        _ => Mark::Keep,
    };
    forest.keys().map(of).collect()
}

#[test]
fn refinement_keeps_the_balance_and_no_more() {
    let test = "mesh::forest::tensor::tests::refinement_keeps_the_balance_and_no_more";
    let all = under_mpi(test, &RANKS, |comm| {
        let mut out = Vec::new();
        for (shape, rounds) in [(Shape::Quadrilateral, 4), (Shape::Hexahedron, 3)] {
            for periodic in [false, true] {
                let mut plain = trees(shape, periodic, GeometryKind::Linear);
                let mut forest = Forest::new(&start(comm, &plain, periodic)).unwrap();
                for round in 0..rounds {
                    let marks = marks(&forest, round, if shape == Shape::Quadrilateral { 15 } else { 20 }, 0);
                    let of_plain = |leaf: &&Leaf| {
                        let key = key_of(shape, leaf);
                        key.level < 4
                            && mix(hash(&key) ^ round) % 100
                                < if shape == Shape::Quadrilateral { 15 } else { 20 }
                    };
                    let cut: Vec<Leaf> = plain.leaves.iter().filter(of_plain).copied().collect();
                    plain.cut(&cut);
                    forest.adapt(&marks, &mut Carried::new()).unwrap();
                    let mut expected = [plain.leaves.len() as u64, 0];
                    plain.leaves.iter().for_each(|leaf| expected[1] += hash(&key_of(shape, leaf)) >> 40);
                    let found = figures(comm, &forest);
                    assert_eq!(
                        [found[0], found[1]],
                        expected.map(|x| x as f64),
                        "{shape} {periodic} {round}"
                    );
                    check_mesh(&forest.mesh().unwrap()).unwrap();
                    out.extend(found);
                }
            }
        }
        out
    });
    assert!(all.iter().all(|figures| *figures == all[0]), "{all:?}");
}

fn polynomial(x: &[f64; 3]) -> f64 {
    (1.0 + 0.3 * x[0]) * (0.5 - 0.2 * x[1]) * (1.0 + 0.1 * x[2])
}

/// A field at the nodes of owned cells.
fn nodal(mesh: &Mesh, degree: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let mut x = Vec::new();
    for block in &mesh.blocks {
        let element = Lagrange::new(block.shape, degree, Nodes::Spectral).unwrap();
        let table = geometry::basis(block).tabulate(element.nodes(), 0);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            out.extend((0..element.n_nodes()).map(|k| polynomial(&geometry::image(&table, k, &x))));
        }
    }
    out
}

/// Random cycles of cutting, merging and moving: the mesh keeps its promises and its volume, carried polynomials stay
/// exact, and all goes back to the roots.
#[test]
fn random_cycles() {
    let all = under_mpi("mesh::forest::tensor::tests::random_cycles", &RANKS, |comm| {
        let mut out = Vec::new();
        let kinds = [GeometryKind::Linear, GeometryKind::Quadratic];
        for (shape, geometry) in
            [Shape::Quadrilateral, Shape::Hexahedron].into_iter().flat_map(|s| kinds.map(|g| (s, g)))
        {
            let mut plain = trees(shape, false, geometry);
            // Of straight cells the field is a polynomial of degree 3 there.
            plain.crooked = 0.0;
            let mesh = start(comm, &plain, true);
            let volume = geometry::volume(&mesh);
            let mut forest = Forest::new(&mesh).unwrap();
            let first = figures(comm, &forest);
            let mut carried = Carried::new();
            let field = carried.add_nodal(3, 1, nodal(&mesh, 3));
            let ones = carried.add_cell(1, Merge::Mean, vec![1.0; mesh.n_owned_cells()]);
            for round in 0..if shape == Shape::Quadrilateral { 4 } else { 3 } {
                let share = if shape == Shape::Quadrilateral { 20 } else { 12 };
                let marks = marks(&forest, round, share, 60);
                let changed = forest.adapt(&marks, &mut carried).unwrap();
                let size = comm.size() as u64;
                let owners: Vec<u32> = forest.keys().map(|k| (hash(&k) % 7919 % size) as u32).collect();
                let owners = if round % 2 == 0 { owners } else { vec![comm.rank() as u32; owners.len()] };
                forest.migrate(&owners, &mut carried).unwrap();
                let mesh = forest.mesh().unwrap();
                check_mesh(&mesh).unwrap();
                assert!((geometry::volume(&mesh) - volume).abs() < 1e-12 * volume);
                for (found, expected) in carried.values(field).iter().zip(nodal(&mesh, 3)) {
                    assert!((found - expected).abs() < 1e-11, "{shape} {round}: {found} {expected}");
                }
                assert_eq!(carried.values(ones), vec![1.0; forest.n_leaves()]);
                out.extend(figures(comm, &forest));
                out.extend([changed.refined, changed.by_closure, changed.coarsened].map(|n| n as f64));
            }
            for _ in 0..8 {
                let all = vec![Mark::Coarsen; forest.n_leaves()];
                forest.adapt(&all, &mut carried).unwrap();
            }
            assert_eq!(figures(comm, &forest), first);
            for (found, expected) in carried.values(field).iter().zip(nodal(&forest.mesh().unwrap(), 3)) {
                assert!((found - expected).abs() < 1e-11);
            }
        }
        out
    });
    assert!(all.iter().all(|figures| *figures == all[0]), "{all:?}");
}

#[test]
fn sides_keep_their_groups() {
    under_mpi("mesh::forest::tensor::tests::sides_keep_their_groups", &[1, 3], |comm| {
        for shape in [Shape::Quadrilateral, Shape::Hexahedron] {
            let plain = trees(shape, false, GeometryKind::Linear);
            let mesh = start(comm, &plain, false);
            let mut forest = Forest::new(&mesh).unwrap();
            // Lengths or areas of the sides, measured by the mesh's own cells.
            let measure = |mesh: &Mesh| -> Vec<f64> {
                let mut sums = vec![0.0; 2 * mesh.dim];
                for t in mesh.tags.iter().filter(|t| (t.cell as usize) < mesh.blocks[0].n_owned) {
                    let block = &mesh.blocks[t.block as usize];
                    let listed = block.shape.facet_vertices(t.local as usize);
                    let x: Vec<[f64; 3]> = listed
                        .iter()
                        .map(|&v| mesh.nodes[block.nodes(t.cell as usize)[v as usize] as usize])
                        .collect();
                    let edge = |a: usize, b: usize| [0, 1, 2].map(|k| x[b][k] - x[a][k]);
                    let cross = |s: [f64; 3], t: [f64; 3]| {
                        let c: [f64; 3] = std::array::from_fn(|k| {
                            let (i, j) = ((k + 1) % 3, (k + 2) % 3);
                            s[i] * t[j] - s[j] * t[i]
                        });
                        c.iter().map(|c| c * c).sum::<f64>().sqrt()
                    };
                    let s = edge(0, 1);
                    sums[t.group as usize] += match x.len() {
                        2 => s.iter().map(|s| s * s).sum::<f64>().sqrt(),
                        // The quadrilateral is flat: half the product of its diagonals.
                        _ => 0.5 * cross(edge(0, 2), edge(1, 3)),
                    };
                }
                mesh.comm.sum_slice(&mut sums);
                sums
            };
            let before = measure(&mesh);
            for round in 0..3 {
                let marks = marks(&forest, round, 25, 0);
                forest.adapt(&marks, &mut Carried::new()).unwrap();
            }
            for (a, b) in measure(&forest.mesh().unwrap()).iter().zip(&before) {
                assert!((a - b).abs() < 1e-12 * b, "{a} {b}");
            }
        }
        Vec::new()
    });
}
