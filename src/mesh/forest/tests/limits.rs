//! How far one can go, shapes of cells on the way, and what is refused.

use std::collections::{HashMap, HashSet};

use super::problems::*;
use super::{this_test, under_mpi};
use crate::element::Shape;
use crate::mesh::boxes::{self, BoxSpec};
use crate::mesh::draft::Draft;
use crate::mesh::forest::{Carried, Forest, Mark};
use crate::mesh::soup::{EntityBlock, Group};
use crate::mesh::{Mesh, MeshError};

/// A box with a corner at the origin.
fn at_origin(comm: &cluster::Comm, shape: Shape, n: u64) -> Mesh {
    let dim = shape.dim();
    let spec = BoxSpec { size: vec![1.0; dim], cells: vec![n; dim], shape, origin: [0.0; 3] };
    let soup = boxes::generate(comm, &spec).expect("a box");
    let draft = Draft::new(comm, soup, 1.0, &[], true).expect("a mesh");
    let owners = draft.partition(comm.size(), &partition::Options::default()).expect("owners");
    draft.distribute(&owners.owner).expect("a mesh")
}

/// Marks the cells that have the origin for a vertex.
fn towards_origin(mesh: &Mesh) -> Vec<Mark> {
    let mut marks = Vec::new();
    for block in &mesh.blocks {
        for cell in 0..block.n_owned {
            let at = |&k: &u32| mesh.nodes[k as usize].iter().all(|x| *x == 0.0);
            marks.push(if block.nodes(cell).iter().any(at) { Mark::Refine } else { Mark::Keep });
        }
    }
    marks
}

#[test]
fn too_deep_a_refinement_is_refused_everywhere_and_changes_nothing() {
    under_mpi(this_test!(), &[1, 2, 4], |comm| {
        for shape in [Shape::Interval, Shape::Triangle, Shape::Tetrahedron] {
            let mut forest = Forest::new(&at_origin(comm, shape, 2)).expect("simplices");
            let mut n_steps = 0;
            let error = loop {
                let mesh = forest.mesh().expect("a mesh");
                let before = signature(&forest, &mesh);
                let mut carried = load(&forest, &mesh);
                match forest.adapt(&towards_origin(&mesh), &mut carried) {
                    Ok(changed) => assert!(changed.depth <= 128),
                    Err(error) => {
                        let mesh = valid(&forest, "after the refusal");
                        assert_eq!(signature(&forest, &mesh), before);
                        assert_carried(&forest, &mesh, &carried, "after the refusal");
                        break error;
                    }
                }
                n_steps += 1;
                assert!(n_steps < 200);
            };
            let MeshError::BadCell { what, x, y, z, .. } = &error else { panic!("{error}") };
            assert!(what.contains("128 cuts") && [x, y, z].iter().all(|c| c.abs() < 1e-9), "{error}");
            let lowest = comm.broadcast_value(0, comm.is_root().then(|| error.to_string()));
            assert_eq!(error.to_string(), lowest);
            // Elsewhere there is room still.
            let mut x = Vec::new();
            let mesh = forest.mesh().expect("a mesh");
            let block = &mesh.blocks[0];
            let far = |cell: usize| {
                x.clear();
                mesh.cell_coordinates(block, cell, &mut x);
                if x.iter().any(|x| x[0] == 1.0) { Mark::Refine } else { Mark::Keep }
            };
            let marks: Vec<Mark> = (0..block.n_owned).map(far).collect();
            let changed = forest.adapt(&marks, &mut Carried::new()).expect("room");
            assert!(changed.refined > 0);
            valid(&forest, "elsewhere");
        }
        Vec::new()
    });
}

#[test]
fn cells_that_double_precision_cannot_tell_apart_are_refused() {
    under_mpi(this_test!(), &[1, 3], |comm| {
        let mut forest = Forest::new(&boxed(comm, Shape::Interval, &[4], 0)).expect("simplices");
        let error = loop {
            let mesh = forest.mesh().expect("a mesh");
            let block = &mesh.blocks[0];
            let first = |cell: usize| block.nodes(cell).iter().any(|&k| mesh.nodes[k as usize][0] == 0.5);
            let mark = |cell| if first(cell) { Mark::Refine } else { Mark::Keep };
            let marks: Vec<Mark> = (0..block.n_owned).map(mark).collect();
            if let Err(error) = forest.adapt(&marks, &mut Carried::new()) {
                break error;
            }
        };
        assert!(error.to_string().contains("double precision"), "{error}");
        valid(&forest, "after the refusal");
        Vec::new()
    });
}

#[test]
fn cells_keep_their_shapes_over_twenty_levels() {
    under_mpi(this_test!(), &[1, 2], |comm| {
        // A root has at most 4 classes of similar descendants in the plane, 36 in space (those that are flagged
        // or planar and not flagged at first have more ancestors, not more classes).
        for (k, classes, bound) in [(1, 4, 0.49), (3, 72, 0.1), (2, 36, 0.2)] {
            let initial = mesh(comm, k);
            let dim = initial.dim;
            let mut forest = Forest::new(&initial).expect("simplices");
            forest.set_cuts(1);
            let mut x = Vec::new();
            let mut seen: HashMap<u64, HashSet<Vec<u64>>> = HashMap::new();
            let mut worst = [f64::INFINITY; 2];
            let mut target = [0.0; 3];
            for step in 0..=20 {
                let mesh = forest.mesh().expect("a mesh");
                let block = &mesh.blocks[0];
                if step == 0 {
                    // A place that no vertex is at.
                    let (low, high) = mesh.bounds();
                    target = std::array::from_fn(|d| low[d] + 0.37 * (high[d] - low[d]));
                }
                let mut marks = Vec::new();
                let mut nearest = f64::INFINITY;
                let mut distances = Vec::new();
                for (cell, key) in forest.keys().enumerate() {
                    x.clear();
                    mesh.cell_coordinates(block, cell, &mut x);
                    let edges = (0..block.shape.n_entities(1)).map(|e| {
                        let [a, b] = [0, 1].map(|k| x[block.shape.entity_vertices(1, e)[k] as usize]);
                        (0..3).map(|d| (a[d] - b[d]) * (a[d] - b[d])).sum::<f64>().sqrt()
                    });
                    let mut edges: Vec<f64> = edges.collect();
                    edges.sort_by(f64::total_cmp);
                    let longest = edges[edges.len() - 1];
                    let mut j = [[0.0; 3]; 3];
                    for b in 0..dim {
                        (0..dim).for_each(|a| j[a][b] = x[b + 1][a] - x[0][a]);
                    }
                    let quality = crate::mesh::geometry::determinant(&j, dim) / longest.powi(dim as i32);
                    let slot = &mut worst[usize::from(step > 0)];
                    *slot = quality.min(*slot);
                    let class = edges.iter().map(|e| (e / longest * 1e4).round() as u64).collect();
                    seen.entry(key.root).or_default().insert(class);
                    let centre: [f64; 3] = std::array::from_fn(|d| {
                        x.iter().map(|x| x[d]).sum::<f64>() / x.len() as f64 - target[d]
                    });
                    let distance = centre.iter().map(|c| c * c).sum::<f64>().sqrt();
                    distances.push(distance - longest);
                    nearest = nearest.min(distance - longest);
                }
                let nearest = comm.min(nearest);
                marks.extend(distances.iter().map(|d| {
                    let near = *d <= nearest.max(0.0) + 1e-12 || *d < 0.0;
                    if near { Mark::Refine } else { Mark::Keep }
                }));
                forest.adapt(&marks, &mut Carried::new()).expect("room");
            }
            let most = seen.values().map(HashSet::len).max().unwrap_or(0);
            assert!(most <= classes, "mesh {k}: {most} classes of similar cells below a root");
            let [before, after] = worst.map(|w| comm.min(w));
            assert!(after >= bound * before, "mesh {k}: quality {after:.3}, {before:.3} at first");
            assert!(comm.max(forest.keys().map(|key| u64::from(key.level)).max().unwrap_or(0)) >= 20);
        }
        Vec::new()
    });
}

#[test]
fn tags_of_every_dimension_follow_their_parents() {
    under_mpi(this_test!(), &[1, 2, 3], |comm| {
        let spec = BoxSpec {
            size: vec![3.0, 2.0, 1.0],
            cells: vec![3, 2, 1],
            shape: Shape::Tetrahedron,
            origin: [0.0; 3],
        };
        let mut soup = boxes::generate(comm, &spec).expect("a box");
        let first = soup.groups.len() as u16;
        let group = |dim, tag, name: &str| Group { dim, tag, name: name.into() };
        soup.groups.extend([group(1, 71, "edge"), group(0, 72, "corner"), group(3, 73, "half")]);
        // Half of the cells are a region.
        soup.sets.push(vec![first - 1, first + 2]);
        let region = soup.sets.len() as u16 - 1;
        let cells = &mut soup.blocks[0];
        for (set, id) in cells.sets.iter_mut().zip(&cells.ids) {
            if *id <= 18 {
                *set = region;
            }
        }
        // The lower edge along x, and two vertices of it.
        let (mut edge, mut corner) = (Vec::new(), Vec::new());
        if comm.is_root() {
            edge = vec![1, 2, 2, 3, 3, 4];
            corner = vec![1, 3];
        }
        let block = |shape, vertices: Vec<u64>, group: u16, n: usize| EntityBlock {
            shape,
            groups: vec![group; vertices.len() / n],
            vertices,
        };
        soup.entities.push(block(Shape::Interval, edge, first, 2));
        soup.entities.push(block(Shape::Point, corner, first + 1, 1));
        let draft = Draft::new(comm, soup, 1.0, &[], true).expect("a mesh");
        let owners = draft.partition(comm.size(), &partition::Options::default()).expect("owners");
        let mut forest = Forest::new(&draft.distribute(&owners.owner).expect("a mesh")).expect("simplices");
        let before = measures(&forest.mesh().expect("a mesh"));
        assert!((before[1 + region as usize] - 3.0).abs() < 1e-12, "half of the box: {before:?}");
        let check = |forest: &Forest, what: &str| {
            let mesh = valid(forest, what);
            assert_same_measures(&mesh, &before, what);
            let block = &mesh.blocks[0];
            let mut tagged: [Vec<[u64; 2]>; 2] = Default::default();
            for t in &mesh.tags {
                let which = match t.group.checked_sub(first) {
                    Some(k) => k as usize,
                    None => continue,
                };
                let vertices = block.shape.entity_vertices(t.dim as usize, t.local as usize);
                let vertices: Vec<u32> =
                    vertices.iter().map(|&v| block.vertices(t.cell as usize)[v as usize]).collect();
                let mut ends = [vertices[0], vertices[vertices.len() - 1]];
                ends.sort_unstable();
                tagged[which].push(ends.map(|v| mesh.vertices.map.local_to_global(v)));
            }
            // Every cell here with a tagged entity has the tag.
            for (which, dim) in [(0, 1), (1, 0)] {
                let known: HashSet<[u64; 2]> =
                    tagged[which].iter().map(|e| [e[0].min(e[1]), e[0].max(e[1])]).collect();
                let mut n = 0;
                for cell in 0..block.n_cells {
                    for i in 0..block.shape.n_entities(dim) {
                        let ends = block.shape.entity_vertices(dim, i);
                        let [a, b] = [ends[0], ends[ends.len() - 1]]
                            .map(|v| mesh.vertices.map.local_to_global(block.vertices(cell)[v as usize]));
                        n += usize::from(known.contains(&[a.min(b), a.max(b)]));
                    }
                }
                assert_eq!(n, tagged[which].len(), "{what}: tags of dimension {dim}");
            }
            // Over all ranks: the length of the edge, and the vertices.
            let mut length = 0.0;
            let mut all: Vec<[u64; 2]> = Vec::new();
            for (which, tagged) in tagged.iter().enumerate() {
                let mut own: Vec<[u64; 2]> =
                    tagged.iter().map(|e| [e[0].min(e[1]), e[0].max(e[1])]).collect();
                own.sort_unstable();
                own.dedup();
                for e in own {
                    let [a, b] = e.map(|v| mesh.vertices.map.global_to_local(v).expect("here"));
                    // Counted by the owner of the first vertex, which has all cells round it.
                    if (a as usize) < mesh.vertices.map.n_owned() {
                        if which == 0 {
                            length += (mesh.nodes[a as usize][0] - mesh.nodes[b as usize][0]).abs();
                        } else {
                            all.push(e);
                        }
                    }
                }
            }
            assert!((comm.sum(length) - 3.0).abs() < 1e-12, "{what}: {}", comm.sum(length));
            assert_eq!(comm.sum(all.len() as u64), 2, "{what}");
        };
        check(&forest, "at first");
        for step in 0..3 {
            let marks = marks(&forest, 30, 0, step);
            forest.adapt(&marks, &mut Carried::new()).expect("room");
            check(&forest, &format!("refined {step}"));
        }
        for step in 0..3 {
            let marks = vec![Mark::Coarsen; forest.n_leaves()];
            forest.adapt(&marks, &mut Carried::new()).expect("room");
            check(&forest, &format!("coarsened {step}"));
        }
        Vec::new()
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    under_mpi(this_test!(), &[1, 2], |comm| {
        let mut adapted =
            Forest::new(&boxed(comm, Shape::Quadrilateral, &[3, 2], 0)).expect("quadrilaterals");
        let marks: Vec<Mark> =
            adapted.keys().map(|k| if k.root == 1 { Mark::Refine } else { Mark::Keep }).collect();
        adapted.adapt(&marks, &mut Carried::new()).expect("room");
        let Err(error) = Forest::new(&adapted.mesh().expect("a mesh")) else {
            panic!("what hangs is no root")
        };
        assert!(error.to_string().contains("hanging"), "{error}");
        let mut forest = Forest::new(&boxed(comm, Shape::Triangle, &[4, 4], 0)).expect("simplices");
        let n = forest.n_leaves();
        let before: Vec<_> = forest.keys().collect();
        // One rank's mistake is everyone's error.
        let wrong = n + usize::from(comm.rank() == comm.size() - 1);
        let error =
            forest.adapt(&vec![Mark::Refine; wrong], &mut Carried::new()).expect_err("a mark too many");
        assert!(error.to_string().contains("marks of"), "{error}");
        let mut carried = Carried::new();
        carried.add_nodal(2, 1, vec![0.0; 6 * wrong]);
        let error = forest.adapt(&vec![Mark::Refine; n], &mut carried).expect_err("too many values");
        assert!(error.to_string().contains("carried field 0"), "{error}");
        let error =
            forest.migrate(&vec![comm.size() as u32; n], &mut Carried::new()).expect_err("no such rank");
        assert!(error.to_string().contains("rank"), "{error}");
        assert_eq!(forest.keys().collect::<Vec<_>>(), before);
        forest.adapt(&vec![Mark::Refine; n], &mut Carried::new()).expect("room");
        valid(&forest, "after errors");
        Vec::new()
    });
}

#[test]
fn a_front_moves_fifty_times() {
    under_mpi(this_test!(), &[1, 2, 3], |comm| {
        let mut figures = Vec::new();
        let initial = boxed(comm, Shape::Triangle, &[6, 3], 0);
        let mut forest = Forest::new(&initial).expect("simplices");
        let mut mesh = initial;
        let mut carried = load(&forest, &mesh);
        let mut x = Vec::new();
        for cycle in 0..50 {
            // A circle's rim that travels to and fro.
            let turn = f64::from(cycle) * 0.25;
            let centre = [1.5 + 0.7 * turn.sin(), -0.5 + 0.3 * turn.cos()];
            let block = &mesh.blocks[0];
            let marks: Vec<Mark> = (0..block.n_owned)
                .map(|cell| {
                    x.clear();
                    mesh.cell_coordinates(block, cell, &mut x);
                    let value = |p: &[f64; 3]| (p[0] - centre[0]).hypot(p[1] - centre[1]) - 0.35;
                    let size =
                        (0..3).map(|k| (x[k][0] - x[(k + 1) % 3][0]).hypot(x[k][1] - x[(k + 1) % 3][1]));
                    let size = size.fold(0.0, f64::max);
                    let values = x.iter().map(value);
                    let nearest = values.map(f64::abs).fold(f64::INFINITY, f64::min);
                    match nearest < size {
                        true if size > 0.06 => Mark::Refine,
                        true => Mark::Keep,
                        false => Mark::Coarsen,
                    }
                })
                .collect();
            let changed = forest.adapt(&marks, &mut carried).expect("room");
            let n = comm.sum(forest.n_leaves() as u64);
            figures.extend([n, changed.refined, changed.by_closure, changed.coarsened]);
            // Equal shares along the order of the leaves.
            let before = comm.exclusive_sum(forest.n_leaves() as u64);
            let share = |k: usize| ((before + k as u64) * comm.size() as u64 / n) as u32;
            let owners: Vec<u32> = (0..forest.n_leaves()).map(share).collect();
            forest.migrate(&owners, &mut carried).expect("ranks");
            mesh = if cycle % 5 == 0 { valid(&forest, "a front") } else { forest.mesh().expect("a mesh") };
            assert_carried(&forest, &mesh, &carried, &format!("cycle {cycle}"));
            assert!(n < 4000, "cycle {cycle}: {n} cells: nothing goes away");
            assert!(cycle < 10 || n > 300, "cycle {cycle}: {n} cells: nothing comes");
        }
        figures
    });
}
