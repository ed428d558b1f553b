//! Refinement.

use super::problems::*;
use super::{this_test, under_mpi};
use crate::mesh::forest::{Forest, Mark};

#[test]
fn random_refinement_conforms_and_does_not_depend_on_the_ranks() {
    under_mpi(this_test!(), &[1, 2, 8], |comm| {
        let mut figures = Vec::new();
        for k in 0..N_MESHES {
            let initial = mesh(comm, k);
            let before = measures(&initial);
            let mut forest = Forest::new(&initial).expect("simplices");
            let mut carried = load(&forest, &initial);
            let dim = initial.dim;
            drop(initial);
            for step in 0..[5, 4, 2][dim - 1] {
                let what = format!("mesh {k}, step {step}");
                let asked = marks(&forest, 15, 0, 7 * step + k as u64);
                let n = comm.sum(forest.n_leaves() as u64);
                let changed = forest.adapt(&asked, &mut carried).expect("room");
                let n_asked = asked.iter().filter(|&&m| m == Mark::Refine).count() as u64;
                assert_eq!(changed.refined, comm.sum(n_asked), "{what}");
                assert!(comm.sum(forest.n_leaves() as u64) >= n + changed.refined + changed.by_closure);
                let mesh = valid(&forest, &what);
                assert_same_measures(&mesh, &before, &what);
                assert_carried(&forest, &mesh, &carried, &what);
                figures.extend(signature(&forest, &mesh));
                figures.extend([changed.refined, changed.by_closure, changed.depth]);
            }
        }
        figures
    });
}
