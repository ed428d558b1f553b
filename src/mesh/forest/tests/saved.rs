//! A forest or a mesh that is saved and taken up on the same and on other numbers of ranks.

use std::collections::BTreeMap;

use cluster::Comm;

use super::problems::*;
use super::{this_test, under_mpi};
use crate::element::{GeometryKind, Shape};
use crate::mesh::forest::{Carried, Forest, Mark};
use crate::mesh::saved::{self, Array, Arrays, Entries, Loading, Outline};
use crate::mesh::trees::Trees;
use crate::mesh::{Mesh, check_mesh};

/// Numbers of ranks that save and that load, of five.
const PAIRS: [(usize, usize); 5] = [(1, 3), (4, 2), (2, 5), (3, 1), (3, 3)];

/// What a file does: rows of the ranks that saved, one after the other, dealt out to those that load.
fn through_a_file(world: &Comm, saved: Option<Arrays>, n_saved: usize, loads: &Comm) -> Loading {
    let named = saved.as_ref().map(|s| {
        let kind = |a: &Array| match a.entries {
            Entries::U32(_) => 0u8,
            Entries::U64(_) => 1,
            Entries::F64(_) => 2,
        };
        (s.outline.clone(), s.arrays.iter().map(|a| (a.name.clone(), a.width, kind(a))).collect::<Vec<_>>())
    });
    let (outline, names): (Outline, Vec<(String, usize, u8)>) =
        world.broadcast_value(0, named.filter(|_| world.is_root()));
    let (mut arrays, mut firsts) = (BTreeMap::new(), BTreeMap::new());
    for (k, (name, width, kind)) in names.into_iter().enumerate() {
        let words: Vec<u64> = match saved.as_ref().map(|s| &s.arrays[k].entries) {
            None => Vec::new(),
            Some(Entries::U32(v)) => v.iter().map(|&x| x.into()).collect(),
            Some(Entries::U64(v)) => v.clone(),
            Some(Entries::F64(v)) => v.iter().map(|x| x.to_bits()).collect(),
        };
        let (all, offsets) = world.all_gather_varied(&words);
        let begins: Vec<u64> = offsets[..=n_saved].iter().map(|offset| (offset / width) as u64).collect();
        let n = begins[n_saved];
        let (rank, size) = (loads.rank() as u64, loads.size() as u64);
        let rows = if loads.size() == n_saved {
            begins[loads.rank()]..begins[loads.rank() + 1]
        } else {
            saved::share(n, rank, size)..saved::share(n, rank + 1, size)
        };
        let words = &all[rows.start as usize * width..rows.end as usize * width];
        let entries = match kind {
            0 => Entries::U32(words.iter().map(|&w| w as u32).collect()),
            1 => Entries::U64(words.to_vec()),
            _ => Entries::F64(words.iter().map(|&w| f64::from_bits(w)).collect()),
        };
        firsts.insert(name.clone(), begins);
        arrays.insert(name.clone(), Array { name, width, entries });
    }
    Loading { comm: loads.clone(), outline, arrays, firsts }
}

/// The first ranks of all; the others have a communicator of their own that nobody uses.
fn first_ranks(world: &Comm, n: usize) -> (Comm, bool) {
    let inside = world.rank() < n;
    (world.split(i32::from(!inside), world.rank() as i32), inside)
}

/// Meshes of all shapes that can be the roots of a forest.
fn any_mesh(comm: &Comm, k: usize) -> Mesh {
    let of_trees = |shape, periodic, geometry| {
        let roots = if shape == Shape::Quadrilateral { [3, 3, 1] } else { [3, 2, 2] };
        let trees = Trees::new(shape, roots, periodic, geometry);
        let n = trees.leaves.len();
        let mut mesh = trees.mesh(comm, |k| k * comm.size() / n);
        mesh.blocks[0].hanging = None;
        mesh
    };
    match k.checked_sub(N_MESHES) {
        None => mesh(comm, k),
        Some(0) => of_trees(Shape::Quadrilateral, true, GeometryKind::Linear),
        Some(1) => of_trees(Shape::Quadrilateral, false, GeometryKind::Quadratic),
        Some(2) => of_trees(Shape::Hexahedron, true, GeometryKind::Linear),
        _ => of_trees(Shape::Hexahedron, false, GeometryKind::Quadratic),
    }
}

const N_ALL: usize = N_MESHES + 4;

/// A forest that has been through some changes, on some ranks.
fn grown(comm: &Comm, k: usize) -> Forest {
    let mut forest = Forest::new(&any_mesh(comm, k)).expect("cells of one kind");
    forest.set_cuts(if forest.dim == 3 { 1 } else { 2 });
    for seed in 0..2 {
        let marks = marks(&forest, 15, 10 * seed, seed + k as u64);
        forest.adapt(&marks, &mut Carried::new()).expect("room");
        let owner = |key| ((hash(&key, seed) >> 7) % comm.size() as u64) as u32;
        let owners: Vec<u32> = forest.keys().map(owner).collect();
        // Every other time cells lie about, or stay together.
        if k.is_multiple_of(2) {
            forest.migrate(&owners, &mut Carried::new()).expect("ranks");
        }
    }
    forest
}

/// Numbers that each leaf can tell of itself.
fn told(forest: &Forest) -> Vec<f64> {
    forest.keys().flat_map(|key| [hash(&key, 5) as f64, -(hash(&key, 6) as f64)]).collect()
}

fn checked(forest: &Forest, what: &str) -> Vec<u64> {
    let mesh = forest.mesh().expect("a mesh");
    if let Err(error) = check_mesh(&mesh) {
        panic!("{what}: {error}");
    }
    signature(forest, &mesh)
}

#[test]
fn a_forest_is_the_same_on_any_number_of_ranks() {
    under_mpi(this_test!(), &[5], |world| {
        for (n_saved, n_loaded) in PAIRS {
            for k in 0..N_ALL {
                let what = format!("mesh {k}, from {n_saved} to {n_loaded} ranks");
                let (saving, saves) = first_ranks(world, n_saved);
                let (loading, loads) = first_ranks(world, n_loaded);
                let mut before = saves.then(|| grown(&saving, k));
                let saved = before.as_ref().map(Forest::save);
                let same = n_saved == n_loaded;
                let mut figures = [Vec::new(), Vec::new()];
                let file = through_a_file(world, saved.clone(), n_saved, &loading);
                if let Some(forest) = &mut before {
                    figures[0] = checked(forest, &what);
                    let marks: Vec<Mark> = marks(forest, 20, 30, 77);
                    forest.adapt(&marks, &mut Carried::new()).expect("room");
                    figures[0].extend(checked(forest, &what));
                }
                if loads {
                    let loaded = Forest::load(&file).expect("a forest");
                    let mut forest = loaded.forest;
                    assert_eq!(loaded.order.is_none(), same, "{what}");
                    if same {
                        assert!(Some(forest.save()) == saved, "{what}: not the same arrays");
                    }
                    figures[1] = checked(&forest, &what);
                    let marks: Vec<Mark> = marks(&forest, 20, 30, 77);
                    forest.adapt(&marks, &mut Carried::new()).expect("room");
                    figures[1].extend(checked(&forest, &what));
                }
                if world.is_root() {
                    assert_eq!(figures[0], figures[1], "{what}");
                }
            }
        }
        Vec::new()
    });
}

#[test]
fn values_follow_their_leaves_to_other_ranks() {
    under_mpi(this_test!(), &[5], |world| {
        for (n_saved, n_loaded) in PAIRS {
            for k in [1, 7, N_MESHES, N_ALL - 1] {
                let (saving, saves) = first_ranks(world, n_saved);
                let (loading, loads) = first_ranks(world, n_loaded);
                let saved = saves.then(|| {
                    let forest = grown(&saving, k);
                    let mut saved = forest.save();
                    let values = Entries::F64(told(&forest));
                    saved.arrays.push(Array { name: "values".into(), width: 2, entries: values });
                    saved
                });
                let file = through_a_file(world, saved, n_saved, &loading);
                if !loads {
                    continue;
                }
                let loaded = Forest::load(&file).expect("a forest");
                let Entries::F64(values) = &file.arrays["values"].entries else { panic!("doubles") };
                let order = loaded.order.unwrap_or_else(|| (0..loaded.forest.n_leaves() as u32).collect());
                let values: Vec<f64> =
                    order.iter().flat_map(|&k| &values[2 * k as usize..][..2]).copied().collect();
                assert_eq!(values, told(&loaded.forest), "mesh {k}, from {n_saved} to {n_loaded}");
            }
        }
        Vec::new()
    });
}

#[test]
fn a_mesh_without_a_forest_is_the_same_on_any_number_of_ranks() {
    under_mpi(this_test!(), &[5], |world| {
        for (n_saved, n_loaded) in PAIRS {
            for k in 0..N_ALL + 1 {
                let what = format!("mesh {k}, from {n_saved} to {n_loaded} ranks");
                let (saving, saves) = first_ranks(world, n_saved);
                let (loading, loads) = first_ranks(world, n_loaded);
                // Of trees it is not known which groups make them periodic.
                if k == N_MESHES || k == N_MESHES + 2 {
                    continue;
                }
                // The last is of triangles and quadrilaterals; another was refined as a whole.
                let make = |comm: &Comm| match k {
                    N_ALL => file(comm, "tests/meshes/mixed-1.msh"),
                    1 => any_mesh(comm, 1).refine().expect("refines"),
                    k => any_mesh(comm, k),
                };
                let before = saves.then(|| make(&saving));
                let values = |mesh: &Mesh| -> Vec<Vec<f64>> {
                    let of =
                        |b: &crate::mesh::Block| b.ids[..b.n_owned].iter().map(|&id| id as f64).collect();
                    mesh.blocks.iter().map(of).collect()
                };
                let saved = before.as_ref().map(|mesh| {
                    let mut saved = mesh.save().expect("nothing hangs");
                    for (b, values) in values(mesh).into_iter().enumerate() {
                        let entries = Entries::F64(values);
                        saved.arrays.push(Array { name: format!("values/{b}"), width: 1, entries });
                    }
                    saved
                });
                let n_arrays = saved.as_ref().map(|s| s.arrays.len());
                let file = through_a_file(world, saved.clone(), n_saved, &loading);
                let (mut there, mut here) = (Vec::new(), Vec::new());
                if let Some(mesh) = &before {
                    there = figures_of(mesh);
                }
                if loads {
                    let deal = &mut |draft: &crate::mesh::draft::Draft| {
                        let options = partition::Options::default();
                        Ok(draft.partition(loading.size(), &options)?.owner)
                    };
                    let (mesh, exact) = saved::load_mesh(&file, deal).expect("a mesh");
                    assert_eq!(exact, n_saved == n_loaded);
                    check_mesh(&mesh).unwrap_or_else(|error| panic!("{what}: {error}"));
                    here = figures_of(&mesh);
                    if exact {
                        let again = mesh.save().expect("nothing hangs");
                        let n = again.arrays.len();
                        assert!(n_arrays == Some(n + mesh.blocks.len()), "{what}");
                        assert!(
                            saved.is_some_and(|s| s.arrays[..n] == again.arrays[..]),
                            "{what}: other arrays"
                        );
                    } else {
                        let parts: Vec<Vec<f64>> = (0..mesh.blocks.len())
                            .map(|b| match &file.arrays[&format!("values/{b}")].entries {
                                Entries::F64(v) => v.clone(),
                                _ => panic!("doubles"),
                            })
                            .collect();
                        let widths = vec![1; mesh.blocks.len()];
                        let found = saved::values_of_cells(&mesh, &file, &parts, &widths).expect("all cells");
                        assert_eq!(found, values(&mesh).concat(), "{what}");
                    }
                }
                if world.is_root() {
                    assert_eq!(there, here, "{what}");
                }
            }
        }
        Vec::new()
    });
}

/// Sums over the cells of a mesh that do not depend on who owns them: numbers, places of their nodes, groups, tags,
/// vertices.
fn figures_of(mesh: &Mesh) -> Vec<u64> {
    use crate::mesh::entities::mix;
    let mut sums = [0u64; 5];
    let mut x = Vec::new();
    let add = |sum: &mut u64, word: u64| *sum = sum.wrapping_add(word >> 20);
    for (b, block) in mesh.blocks.iter().enumerate() {
        for cell in 0..block.n_owned {
            let of_cell = mix(block.ids[cell] ^ mix(b as u64));
            sums[0] += 1;
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            add(&mut sums[1], x.iter().flatten().fold(of_cell, |h, c| mix(h ^ (c + 0.0).to_bits())));
            add(&mut sums[2], mix(of_cell ^ u64::from(block.sets[cell])));
        }
        for t in mesh.tags.iter().filter(|t| t.block as usize == b && (t.cell as usize) < block.n_owned) {
            let word = u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.local);
            add(&mut sums[3], mix(mix(block.ids[t.cell as usize] ^ mix(b as u64)) ^ word));
        }
    }
    mesh.comm.sum_slice(&mut sums);
    sums[4] = mesh.vertices.map.n_global();
    sums.to_vec()
}
