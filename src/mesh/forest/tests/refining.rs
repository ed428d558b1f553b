//! Refinement.

use std::collections::HashSet;

use super::problems::*;
use super::{this_test, under_mpi};
use crate::mesh::EntityTag;
use crate::mesh::forest::{Carried, Forest, Mark};

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

#[test]
fn a_part_is_refined_where_two_of_its_surfaces_meet() {
    under_mpi(this_test!(), &[1, 3], |comm| {
        let initial = file(comm, "examples/bracket/bracket.msh");
        let before = measures(&initial);
        let n = initial.n_cells_global;
        let mut forest = Forest::new(&initial).expect("tetrahedra");
        let mut mesh = initial;
        let mut figures = Vec::new();
        for step in 0..3 {
            let what = format!("step {step}");
            let group = |name: &str| mesh.groups.iter().position(|g| g.name == name).expect("a group") as u16;
            // Cells with a vertex on both surfaces, of which all tagged facets are here.
            let block = &mesh.blocks[0];
            let vertices = |name: &str| -> HashSet<u32> {
                let tags = mesh.tags_of(group(name)).iter();
                let corners = |t: &EntityTag| {
                    let of_cell = block.vertices(t.cell as usize);
                    block.shape.facet_vertices(t.local as usize).iter().map(|&v| of_cell[v as usize])
                };
                tags.flat_map(corners).collect()
            };
            let (fillet, sides) = (vertices("fillet"), vertices("sides"));
            let both =
                |cell: usize| block.vertices(cell).iter().any(|v| fillet.contains(v) && sides.contains(v));
            let mark = |cell| if both(cell) { Mark::Refine } else { Mark::Keep };
            let marks: Vec<Mark> = (0..block.n_owned).map(mark).collect();
            let changed = forest.adapt(&marks, &mut Carried::new()).expect("room");
            assert!(changed.refined > 0, "{what}");
            mesh = valid(&forest, &what);
            assert_same_measures(&mesh, &before, &what);
            figures.extend(signature(&forest, &mesh));
        }
        // Refinement stays local.
        assert!(mesh.n_cells_global < 5 * n, "{} cells of {n}", mesh.n_cells_global);
        figures
    });
}
