//! A marked front goes through the mesh for fifty cycles, as a run in time will move it.

use cluster::Comm;
use femdd::adapt::cycle::{Balance, Cycle, Options};
use femdd::adapt::mark::Amount;
use femdd::adapt::transfer::{from_cells, to_cells};
use femdd::element::Shape;
use femdd::mesh::forest::{Carried, Forest, Key, Merge};
use femdd::mesh::{Mesh, check_mesh, geometry};
use femdd::space::{Order, Space};

use super::launch::under_mpi;
use super::problems::unit;

const CYCLES: usize = 50;

/// The radius of the front.
const RADIUS: f64 = 0.25;

/// A problem: cells of a unit box, cuts that are allowed, and how many cells there may be at any time.
struct Front {
    shape: Shape,
    cells: u64,
    degree: usize,
    deepest: u8,
    most_cells: u64,
    /// From here on cells need not follow those at the front.
    far: f64,
}

/// How far a place is from the front: a circle or sphere whose centre moves through the box.
fn distance(x: [f64; 3], dim: usize, cycle: usize) -> f64 {
    let t = cycle as f64 / CYCLES as f64;
    let centre = [0.1 + 0.8 * t, 0.3 + 0.3 * t, 0.6 - 0.2 * t];
    ((0..dim).map(|d| (x[d] - centre[d]).powi(2)).sum::<f64>().sqrt() - RADIUS).abs()
}

/// Centres and volumes of owned cells, which are straight.
fn cells(mesh: &Mesh) -> Vec<([f64; 3], f64)> {
    let (mut out, mut x) = (Vec::new(), Vec::new());
    for block in &mesh.blocks {
        let table = geometry::basis(block).tabulate(&[block.shape.center()], 1);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            let det = geometry::determinant(&geometry::jacobian(&table, 0, &x), mesh.dim);
            let part = match block.shape {
                Shape::Triangle => 1.0 / 2.0,
                Shape::Tetrahedron => 1.0 / 6.0,
                _ => 1.0,
            };
            out.push((geometry::image(&table, 0, &x), det * part));
        }
    }
    out
}

/// What an estimator would say: large where cells are large beside the front, and falling away from it.
fn indicators(mesh: &Mesh, cycle: usize) -> Vec<f64> {
    let of = |&(x, volume): &([f64; 3], f64)| {
        let size = volume.powf(1.0 / mesh.dim as f64);
        let away = (distance(x, mesh.dim, cycle) - size).max(0.0) / 0.05;
        volume * size * size * (-away * away).exp().max(1e-12)
    };
    cells(mesh).iter().map(of).collect()
}

/// A number that depends on a leaf and on nothing else.
fn hash(key: &Key) -> u64 {
    let words = [key.root, key.path as u64, (key.path >> 64) as u64, u64::from(key.level)];
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, &w| {
        let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^ h >> 32
    })
}

/// A polynomial of a degree.
fn polynomial(x: [f64; 3], degree: usize) -> f64 {
    (1.0 + 0.5 * x[0] - 0.75 * x[1] + 0.25 * x[2]).powi(degree as i32) + x[0] - 2.0 * x[1]
}

/// Asserts what has to hold in every cycle; what the mesh is, the same on any number of ranks.
fn follow(comm: &Comm, front: &Front) -> Vec<f64> {
    let Front { shape, cells: n, degree, deepest, most_cells, far: away } = *front;
    let dim = shape.dim();
    let mut mesh = unit(comm, shape, n);
    let n_roots = mesh.n_cells_global;
    let mut forest = Forest::new(&mesh).expect("a forest");
    let options =
        Options { refine: Amount::Share(0.7), coarsen: Some(0.02), deepest, balance: Balance::default() };
    let mut cycle = Cycle::new(options, None);
    let space = Space::new(&mesh, degree, Order::Curve).expect("a space");
    let mut u: Vec<f64> = space.coordinates(&mesh).iter().map(|&x| polynomial(x, degree)).collect();
    let mut by_cell = to_cells(&mesh, &space, &u, 1);
    drop(space);
    // A density, an amount of which no cycle may gain or lose, and each root's number.
    let mut density: Vec<f64> = cells(&mesh).iter().map(|(x, _)| 1.0 + x[0] * x[1] + x[2]).collect();
    let mut roots: Vec<f64> = forest.keys().map(|key| key.root as f64).collect();
    let amount = |mesh: &Mesh, density: &[f64]| {
        comm.sum(cells(mesh).iter().zip(density).map(|((_, volume), rho)| volume * rho).sum::<f64>())
    };
    let expected = amount(&mesh, &density);
    let (mut figures, mut sizes, mut moved, mut changed) = (Vec::new(), Vec::new(), 0, [0; 2]);
    for step in 0..CYCLES {
        let what = format!("{shape} on {} ranks, cycle {step}", comm.size());
        let marks = indicators(&mesh, step);
        let mut carried = Carried::new();
        let nodal = carried.add_nodal(degree, 1, by_cell);
        let mass = carried.add_cell(1, Merge::Mean, density);
        let root = carried.add_cell(1, Merge::Mean, roots);
        // Of every second shape deeper cells cost more.
        let costs = (dim == 3).then(|| {
            let of_levels = forest.keys().map(|key| 1.0 + 0.1 * f64::from(key.level)).collect();
            carried.add_cell(1, Merge::Mean, of_levels)
        });
        let adapted =
            cycle.adapt(&mut forest, mesh, &mut carried, &marks, costs, None).expect("a finer mesh");
        mesh = adapted.mesh;
        check_mesh(&mesh).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(mesh.n_owned_cells(), forest.n_leaves(), "{what}");

        // The polynomial, cell by cell and as a vector.
        let space = Space::new(&mesh, degree, Order::Curve).expect("a space");
        u = from_cells(&mesh, &space, carried.values(nodal), 1);
        for (x, value) in space.coordinates(&mesh).iter().zip(&u) {
            assert!((value - polynomial(*x, degree)).abs() < 1e-11, "{what}: {value} at {x:?}");
        }
        by_cell = to_cells(&mesh, &space, &u, 1);
        for (a, b) in by_cell.iter().zip(carried.values(nodal)) {
            assert!((a - b).abs() < 1e-11, "{what}: {a}, not {b}");
        }

        density = carried.take(mass);
        let now = amount(&mesh, &density);
        assert!((now - expected).abs() < 1e-12 * expected, "{what}: {now}, not {expected}");
        assert!((geometry::volume(&mesh) - 1.0).abs() < 1e-12, "{what}: volume");
        roots = carried.take(root);
        assert!(forest.keys().zip(&roots).all(|(key, root)| key.root as f64 == *root), "{what}");

        // Ranks have as much to do as they may have: the limit, or what single cells allow.
        let load: f64 = costs.map_or(forest.n_leaves() as f64, |k| carried.values(k).iter().sum());
        let imbalance = comm.max(load) * comm.size() as f64 / comm.sum(load);
        let cell = 2.0 * comm.size() as f64 / mesh.n_cells_global as f64;
        assert!(imbalance <= 1.05 + cell, "{what}: imbalance {imbalance}, {:?}", adapted.dealt);
        assert!((adapted.dealt.imbalance[1] - imbalance).abs() < 0.01, "{what}: {:?}", adapted.dealt);
        moved += adapted.dealt.moved_cells;

        let size = mesh.n_cells_global;
        assert!(size <= most_cells, "{what}: {size} cells");
        assert!(forest.keys().all(|key| key.level <= deepest), "{what}: too deep");
        sizes.push(size);
        let leaves = comm.sum(forest.keys().map(|key| hash(&key) >> 24).sum::<u64>());
        let sums = [size, leaves, adapted.changed.refined, adapted.changed.coarsened];
        figures.extend(sums.map(|x| x as f64));

        // Where the front is now, all is fine once it has had time; where it has been, all is coarse again.
        if step > 10 {
            let [mut near, mut of_near, mut far, mut of_far] = [0.0; 4];
            for (key, (x, volume)) in forest.keys().zip(cells(&mesh)) {
                let d = distance(x, dim, step);
                if d < 0.3 * volume.powf(1.0 / dim as f64) {
                    near += volume;
                    of_near += if key.level + forest.cuts() > deepest { volume } else { 0.0 };
                }
                if d > away {
                    far += volume;
                    of_far += if key.level <= forest.cuts() { volume } else { 0.0 };
                }
            }
            let [near, of_near, far, of_far] = [near, of_near, far, of_far].map(|sum| comm.sum(sum));
            assert!(of_near > 0.9 * near && near > 0.0, "{what}: {of_near} of {near} is fine");
            assert!(of_far > 0.8 * far && far > 0.0, "{what}: {of_far} of {far} is coarse");
            changed[0] += adapted.changed.refined + adapted.changed.by_closure;
            changed[1] += adapted.changed.coarsened;
        }
    }
    let most = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or(0);
    let halves = [most(&sizes[..CYCLES / 2]), most(&sizes[CYCLES / 2..])];
    assert!(halves[1] as f64 <= 1.1 * halves[0] as f64, "{shape}: the mesh grows: {sizes:?}");
    // What is cut in front is joined behind, all the time.
    assert!(changed.iter().all(|n| *n > CYCLES as u64), "{shape}: {changed:?}");
    if comm.is_root() {
        println!(
            "{shape}: {n_roots} cells at first, then {} to {}",
            sizes[10..].iter().min().unwrap_or(&0),
            most(&sizes)
        );
    }
    assert_eq!(moved > 0, comm.size() > 1);
    figures
}

/// Fields stay what they are, the mesh stays small, the ranks stay even, and their number changes nothing.
fn fronts_move(test: &str, body: fn(&Comm) -> Vec<f64>) {
    let all = under_mpi(test, &[1, 2, 4], 1, body);
    assert!(all.iter().all(|figures| *figures == all[0]), "the mesh depends on the number of ranks");
}

#[test]
fn fronts_move_through_triangles() {
    fronts_move("cycle::fronts_move_through_triangles", |comm| {
        follow(
            comm,
            &Front { shape: Shape::Triangle, cells: 6, degree: 3, deepest: 6, most_cells: 2500, far: 0.25 },
        )
    });
}

#[test]
fn fronts_move_through_quadrilaterals() {
    fronts_move("cycle::fronts_move_through_quadrilaterals", |comm| {
        follow(
            comm,
            &Front {
                shape: Shape::Quadrilateral,
                cells: 6,
                degree: 2,
                deepest: 3,
                most_cells: 1500,
                far: 0.25,
            },
        )
    });
}

#[test]
fn fronts_move_through_tetrahedra() {
    fronts_move("cycle::fronts_move_through_tetrahedra", |comm| {
        follow(
            comm,
            &Front {
                shape: Shape::Tetrahedron,
                cells: 3,
                degree: 2,
                deepest: 6,
                most_cells: 12_000,
                far: 0.4,
            },
        )
    });
}
