//! Coarsening.

use super::problems::*;
use super::{this_test, under_mpi};
use crate::element::Shape;
use crate::mesh::forest::{Carried, Forest, Mark, Merge};

/// Adapts with one mark for all.
fn all(forest: &mut Forest, mark: Mark, carried: &mut Carried) -> u64 {
    let marks = vec![mark; forest.n_leaves()];
    forest.adapt(&marks, carried).expect("room").coarsened
}

#[test]
fn coarsening_gives_back_the_initial_mesh_bit_for_bit() {
    under_mpi(this_test!(), &[1, 2, 5], |comm| {
        let mut figures = Vec::new();
        for k in 0..N_MESHES {
            let initial = mesh(comm, k);
            let mut forest = Forest::new(&initial).expect("simplices");
            let mut carried = load(&forest, &initial);
            let before = signature(&forest, &valid(&forest, "at first"));
            let n = if initial.dim == 3 { 1 } else { 2 };
            for step in 0..n {
                assert_eq!(all(&mut forest, Mark::Refine, &mut carried), 0);
                valid(&forest, &format!("mesh {k}, refined {step}"));
            }
            figures.push(comm.sum(forest.n_leaves() as u64));
            // Closure may have cut some cells more often than they were marked.
            for step in 0..20 {
                if all(&mut forest, Mark::Coarsen, &mut carried) == 0 {
                    break;
                }
                let what = format!("mesh {k}, coarsened {step}");
                let mesh = valid(&forest, &what);
                assert_carried(&forest, &mesh, &carried, &what);
                figures.extend(signature(&forest, &mesh));
            }
            assert_eq!(all(&mut forest, Mark::Coarsen, &mut carried), 0);
            assert!(forest.keys().all(|key| key.level == 0), "mesh {k}: something remains");
            let mesh = valid(&forest, "at last");
            assert_eq!(signature(&forest, &mesh), before, "mesh {k}");
            assert_carried(&forest, &mesh, &carried, "at last");
        }
        figures
    });
}

#[test]
fn what_is_refined_uniformly_coarsens_in_as_many_steps() {
    // Cells of a box agree on their cut edges: closure adds nothing, and each step back undoes one.
    under_mpi(this_test!(), &[1, 2, 4], |comm| {
        for (shape, cells) in
            [(Shape::Interval, &[3u64][..]), (Shape::Triangle, &[3, 2]), (Shape::Tetrahedron, &[2, 1, 2])]
        {
            let initial = boxed(comm, shape, cells, 0);
            let n = initial.n_cells_global;
            let mut forest = Forest::new(&initial).expect("simplices");
            forest.set_cuts(1);
            let mut sizes = Vec::new();
            let mut before = Vec::new();
            for _ in 0..2 * initial.dim {
                sizes.push(comm.sum(forest.n_leaves() as u64));
                before.push(signature(&forest, &forest.mesh().expect("a mesh")));
                all(&mut forest, Mark::Refine, &mut Carried::new());
            }
            for (k, size) in sizes.iter().enumerate() {
                assert_eq!(*size, n << k, "{shape}");
            }
            for (size, before) in sizes.iter().zip(&before).rev() {
                all(&mut forest, Mark::Coarsen, &mut Carried::new());
                assert_eq!(comm.sum(forest.n_leaves() as u64), *size, "{shape}");
                assert_eq!(&signature(&forest, &forest.mesh().expect("a mesh")), before, "{shape}");
            }
        }
        Vec::new()
    });
}

#[test]
fn sums_and_means_are_kept() {
    under_mpi(this_test!(), &[1, 2, 3], |comm| {
        let initial = boxed(comm, Shape::Triangle, &[4, 4], 0);
        let mut forest = Forest::new(&initial).expect("simplices");
        all(&mut forest, Mark::Refine, &mut Carried::new());
        let values: Vec<f64> = forest.keys().map(|key| (hash(&key, 3) % 1000) as f64).collect();
        let total = comm.sum(values.iter().sum::<f64>());
        let mut carried = Carried::new();
        let sums = carried.add_cell(1, Merge::Sum, values.clone());
        let means = carried.add_cell(1, Merge::Mean, values);
        assert!(all(&mut forest, Mark::Coarsen, &mut carried) > 0);
        assert_eq!(comm.sum(carried.values(sums).iter().sum::<f64>()), total);
        // All children of a root are gone, four of equal size.
        assert_eq!(comm.sum(carried.values(means).iter().sum::<f64>()), total / 4.0);
        assert!(carried.values(sums).iter().zip(carried.values(means)).all(|(s, m)| *s == 4.0 * m));
        Vec::new()
    });
}
