//! Sequences by chance of refinement, coarsening and migration.

use cluster::Comm;

use super::problems::*;
use super::{this_test, under_mpi};
use crate::mesh::entities::mix;
use crate::mesh::forest::{Forest, Key};

/// Owners by chance, of leaves or of whole roots; some ranks get nothing.
fn owners(comm: &Comm, forest: &Forest, seed: u64) -> Vec<u32> {
    let size = comm.size() as u64;
    let of = |key: Key| {
        // Every third time all goes to few ranks.
        let n = if seed.is_multiple_of(3) { size.div_ceil(2) } else { size };
        let key = if seed.is_multiple_of(2) { key } else { Key { level: 0, path: 0, ..key } };
        ((hash(&key, seed) % n + seed) % size) as u32
    };
    forest.keys().map(of).collect()
}

#[test]
fn sequences_by_chance_keep_every_promise() {
    under_mpi(this_test!(), &[1, 3], |comm| sequences(comm, 4, 0));
}

#[test]
#[ignore = "takes a minute"]
fn long_sequences_by_chance_keep_every_promise() {
    under_mpi(this_test!(), &[1, 2, 4, 5, 8], |comm| sequences(comm, 6, 1));
}

#[test]
#[ignore = "takes a minute"]
fn other_sequences_by_chance_keep_every_promise() {
    under_mpi(this_test!(), &[1, 2, 3, 7], |comm| sequences(comm, 7, 2));
}

fn sequences(comm: &Comm, n_steps: u64, seed: u64) -> Vec<u64> {
    let mut figures = Vec::new();
    for k in 0..N_MESHES {
        let initial = mesh(comm, k);
        let before = measures(&initial);
        let mut forest = Forest::new(&initial).expect("simplices");
        let mut carried = load(&forest, &initial);
        let steps = if initial.dim == 3 { n_steps / 2 + 1 } else { n_steps };
        drop(initial);
        for step in 0..steps {
            let seed = mix(1000 * seed + 100 * k as u64 + step);
            let what = format!("mesh {k}, step {step}");
            if !seed.is_multiple_of(3) {
                let owners = owners(comm, &forest, seed);
                let keys: Vec<Key> = forest.keys().collect();
                let away = keys.iter().zip(&owners).filter(|o| *o.1 as usize != comm.rank()).count();
                let here: u64 = keys.iter().map(|key| hash(key, seed) >> 20).sum();
                let moved = forest.migrate(&owners, &mut carried).expect("ranks");
                assert_eq!(moved.cells, comm.sum(away as u64), "{what}");
                let there: u64 = forest.keys().map(|key| hash(&key, seed) >> 20).sum();
                assert_eq!(comm.sum(here), comm.sum(there), "{what}");
                let mesh = valid(&forest, &format!("{what}, moved"));
                assert_carried(&forest, &mesh, &carried, &what);
            }
            // Few cells stay unmarked for coarsening: all round a vertex must be.
            let many = comm.sum(forest.n_leaves() as u64) > [200, 800, 3000][forest.dim - 1];
            let (refine, coarsen) = if many { (1, 95) } else { (12, 50) };
            let asked = marks(&forest, refine, coarsen, seed);
            let changed = forest.adapt(&asked, &mut carried).expect("room");
            let mesh = valid(&forest, &what);
            assert_same_measures(&mesh, &before, &what);
            assert_carried(&forest, &mesh, &carried, &what);
            figures.extend(signature(&forest, &mesh));
            figures.extend([changed.refined, changed.by_closure, changed.coarsened, changed.depth]);
        }
    }
    figures
}
