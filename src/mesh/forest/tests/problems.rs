//! Meshes, marks and measures for the tests of the forest.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use cluster::Comm;

use crate::element::{Lagrange, Nodes, Quadrature, Shape};
use crate::mesh::boxes::BoxSpec;
use crate::mesh::bricks::Plan;
use crate::mesh::draft::Draft;
use crate::mesh::entities::mix;
use crate::mesh::forest::{Carried, Forest, Key, Mark, Merge};
use crate::mesh::geometry::{self, determinant, image, jacobian};
use crate::mesh::{Mesh, check_mesh, gmsh};

/// A box of simplices, periodic along the first so many axes.
pub fn boxed(comm: &Comm, shape: Shape, cells: &[u64], n_periodic: u16) -> Mesh {
    let size = [2.0, 1.0, 0.7][..cells.len()].to_vec();
    let mut origin = [0.5, -1.0, 2.0];
    origin[cells.len()..].fill(0.0);
    let spec = BoxSpec { size, cells: cells.to_vec(), shape, origin };
    let pairs: Vec<(u16, u16)> = (0..n_periodic).map(|d| (2 * d, 2 * d + 1)).collect();
    let plan = Plan::new(&spec).expect("a box").with(1.0, &pairs).expect("joins");
    plan.build(comm).expect("it fits").0
}

/// A mesh of a file of the repository, dealt out.
pub fn file(comm: &Comm, name: &str) -> Mesh {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let soup = gmsh::read(comm, &path).expect("a mesh");
    let draft = Draft::new(comm, soup, 1.0, &[], true).expect("a mesh");
    let owners = draft.partition(comm.size(), &partition::Options::default()).expect("owners");
    draft.distribute(&owners.owner).expect("a mesh")
}

/// Meshes of all shapes: boxes, of files, curved, periodic.
pub const N_MESHES: usize = 8;

pub fn mesh(comm: &Comm, k: usize) -> Mesh {
    match k {
        0 => boxed(comm, Shape::Interval, &[7], 0),
        1 => boxed(comm, Shape::Triangle, &[5, 4], 0),
        2 => boxed(comm, Shape::Tetrahedron, &[3, 2, 2], 0),
        3 => file(comm, "tests/meshes/cylinder-1.msh"),
        4 => file(comm, "tests/meshes/annulus-tri6-2.msh"),
        5 => file(comm, "tests/meshes/octant-tet10-1.msh"),
        6 => boxed(comm, Shape::Triangle, &[4, 3], 2),
        _ => boxed(comm, Shape::Tetrahedron, &[3, 3, 3], 3),
    }
}

/// A hash of a leaf and a seed, the same on any number of ranks.
pub fn hash(key: &Key, seed: u64) -> u64 {
    let path = mix(key.path as u64 ^ mix((key.path >> 64) as u64 ^ u64::from(key.level)));
    mix(seed ^ mix(key.root ^ path))
}

/// Marks by chance: of 100 leaves so many are to be refined, so many to be coarsened.
pub fn marks(forest: &Forest, refine: u64, coarsen: u64, seed: u64) -> Vec<Mark> {
    let mark = |key: Key| match hash(&key, seed) % 100 {
        k if k < refine => Mark::Refine,
        k if k < refine + coarsen => Mark::Coarsen,
        _ => Mark::Keep,
    };
    forest.keys().map(mark).collect()
}

/// The mesh of a forest, after all that every mesh promises has been verified.
pub fn valid(forest: &Forest, what: &str) -> Mesh {
    let mesh = forest.mesh().expect("a mesh");
    if let Err(error) = check_mesh(&mesh) {
        panic!("{what}, rank {}: {error}", mesh.comm.rank());
    }
    assert_eq!(mesh.n_owned_cells(), forest.n_leaves());
    // Conforming: each facet between two cells, or tagged, or on no other side. Volumes and measures of the
    // boundary say the rest.
    let mut x = Vec::new();
    for block in &mesh.blocks {
        let mut points = block.shape.vertices().to_vec();
        points.push(block.shape.center());
        let table = geometry::basis(block).tabulate(&points, 1);
        for cell in 0..block.n_cells {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            for q in 0..points.len() {
                let det = determinant(&jacobian(&table, q, &x), mesh.dim);
                assert!(det > 0.0, "{what}: cell {cell} with determinant {det:e}");
            }
        }
    }
    conforming(&mesh, what);
    mesh
}

/// Every facet of an owned cell belongs to two cells, or lies on the boundary: to which belong as many facets as
/// there are tags of groups on it, for meshes whose whole boundary is tagged.
fn conforming(mesh: &Mesh, what: &str) {
    let dim = mesh.dim;
    let mut count: HashMap<Vec<u32>, (u32, bool, bool)> = HashMap::new();
    let facets = mesh.tags.iter().filter(|t| t.dim as usize + 1 == dim);
    let tagged: HashSet<(u16, u32, u8)> = facets.map(|t| (t.block, t.cell, t.local)).collect();
    for (b, block) in mesh.blocks.iter().enumerate() {
        for cell in 0..block.n_cells {
            for f in 0..block.shape.n_facets() {
                let mut key: Vec<u32> =
                    block.shape.facet_vertices(f).iter().map(|&v| block.vertices(cell)[v as usize]).collect();
                key.sort_unstable();
                let tagged = tagged.contains(&(b as u16, cell as u32, f as u8));
                let slot = count.entry(key).or_default();
                slot.0 += 1;
                slot.1 |= cell < block.n_owned;
                slot.2 |= tagged;
            }
        }
    }
    for (facet, (n, owned, tagged)) in count {
        if owned {
            let fits = n == 2 || (n == 1 && tagged);
            assert!(fits, "{what}: facet {facet:?} of {n} cells, tagged: {tagged}");
        }
    }
}

/// What a mesh is, as sums over its cells that do not depend on who owns them: number of cells, keys, coordinates
/// of nodes in order, sets, tags with the coordinates of their corners.
pub fn signature(forest: &Forest, mesh: &Mesh) -> Vec<u64> {
    let mut sums = [0u64; 5];
    let keys: Vec<Key> = forest.keys().collect();
    let mut first = 0;
    let mut x = Vec::new();
    let add = |sum: &mut u64, word: u64| *sum = sum.wrapping_add(word >> 20);
    for (b, block) in mesh.blocks.iter().enumerate() {
        for cell in 0..block.n_owned {
            let of_key = hash(&keys[first + cell], 1);
            sums[0] += 1;
            add(&mut sums[1], of_key);
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            let of_nodes = x.iter().flatten().fold(of_key, |h, c| mix(h ^ (c * GRID).round() as i64 as u64));
            add(&mut sums[2], of_nodes);
            add(&mut sums[3], mix(of_key ^ u64::from(block.sets[cell])));
        }
        for t in mesh.tags.iter().filter(|t| t.block as usize == b && (t.cell as usize) < block.n_owned) {
            let word = u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.local);
            add(&mut sums[4], mix(hash(&keys[first + t.cell as usize], 2) ^ word));
        }
        first += block.n_owned;
    }
    mesh.comm.sum_slice(&mut sums);
    sums.to_vec()
}

/// Places count to a fraction of 2^-36: at a seam, the round-off depends on which side's cell is looked at.
const GRID: f64 = (1u64 << 36) as f64;

/// Volume of the whole and of each set of groups, then measures of facets by group: of straight cells.
pub fn measures(mesh: &Mesh) -> Vec<f64> {
    let mut out = vec![0.0; 1 + mesh.sets.len() + mesh.groups.len()];
    let mut x = Vec::new();
    for (b, block) in mesh.blocks.iter().enumerate() {
        let rule = Quadrature::new(block.shape, 6).expect("a rule");
        let table = geometry::basis(block).tabulate(&rule.points, 1);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            let jacobians = (0..rule.points.len()).map(|q| determinant(&jacobian(&table, q, &x), mesh.dim));
            let volume: f64 = jacobians.zip(&rule.weights).map(|(j, w)| j * w).sum();
            out[0] += volume;
            out[1 + block.sets[cell] as usize] += volume;
        }
        for t in &mesh.tags {
            if t.block as usize != b || t.cell as usize >= block.n_owned {
                continue;
            }
            let slot = 1 + mesh.sets.len() + t.group as usize;
            if t.dim as usize + 1 != mesh.dim {
                continue;
            }
            let nodes = block.nodes(t.cell as usize);
            let corners = block.shape.facet_vertices(t.local as usize);
            let x: Vec<[f64; 3]> = corners.iter().map(|&v| mesh.nodes[nodes[v as usize] as usize]).collect();
            let edge = |k: usize| -> [f64; 3] { std::array::from_fn(|d| x[k][d] - x[0][d]) };
            out[slot] += match corners.len() {
                1 => 1.0,
                2 => edge(1).iter().map(|c| c * c).sum::<f64>().sqrt(),
                _ => {
                    let (a, b) = (edge(1), edge(2));
                    let n = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
                    0.5 * n.iter().map(|c| c * c).sum::<f64>().sqrt()
                }
            };
        }
    }
    mesh.comm.sum_slice(&mut out);
    out
}

/// Whether all cells are straight: then facets keep their measures.
pub fn is_straight(mesh: &Mesh) -> bool {
    mesh.blocks.iter().all(|b| b.is_affine())
}

pub fn assert_same_measures(mesh: &Mesh, before: &[f64], what: &str) {
    let n = if is_straight(mesh) { before.len() } else { 1 + mesh.sets.len() };
    for (k, (now, before)) in measures(mesh).iter().zip(before).enumerate().take(n) {
        assert!((now - before).abs() < 1e-11 * (1.0 + before.abs()), "{what}: measure {k}: {now} {before}");
    }
}

/// At each node of a Lagrange element of each owned cell: a polynomial of that degree (of places where cells are
/// straight; otherwise of degree 2, the places themselves), two components.
fn polynomial(mesh: &Mesh, degree: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let mut x = Vec::new();
    for block in &mesh.blocks {
        let element = Lagrange::new(block.shape, degree, Nodes::Spectral).expect("a degree");
        let table = geometry::basis(block).tabulate(element.nodes(), 0);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            for k in 0..element.n_nodes() {
                let [x, y, z] = image(&table, k, &x);
                if block.is_affine() {
                    let p = 1.0 + 0.5 * x - 0.75 * y + 0.25 * z;
                    out.extend([p.powi(degree as i32), x - 2.0 * y * if degree > 1 { z + x } else { 1.0 }]);
                } else {
                    out.extend([x, y - z]);
                }
            }
        }
    }
    out
}

/// Fields that say by themselves what they must be on any later mesh of the forest.
pub fn load(forest: &Forest, mesh: &Mesh) -> Carried {
    let mut carried = Carried::new();
    for degree in 1..=3 {
        carried.add_nodal(degree, 2, polynomial(mesh, degree));
    }
    let roots = forest.keys().map(|key| f64::from_bits(mix(key.root) >> 12 | 0x3ff << 52));
    let roots: Vec<f64> = roots.collect();
    carried.add_cell(2, Merge::Mean, roots.iter().flat_map(|x| [*x, -3.0 * x]).collect());
    carried.add_cell(1, Merge::Mean, roots);
    carried
}

pub fn assert_carried(forest: &Forest, mesh: &Mesh, carried: &Carried, what: &str) {
    let expected = load(forest, mesh);
    // Degree 1 cannot follow a curve.
    for k in usize::from(!is_straight(mesh))..3 {
        assert_eq!(carried.values(k).len(), expected.values(k).len(), "{what}");
        for (x, y) in carried.values(k).iter().zip(expected.values(k)) {
            assert!((x - y).abs() < 1e-10 * (1.0 + y.abs()), "{what}: field {k}: {x}, not {y}");
        }
    }
    for k in 3..5 {
        assert_eq!(carried.values(k), expected.values(k), "{what}: field {k}");
    }
}
