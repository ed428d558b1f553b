//! All ranks' parts side by side in one process, against the soup of the same box.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::mesh::boxes::share_of;

fn spec(cells: &[u64], shape: Shape) -> BoxSpec {
    let size = [2.0, 1.0, 0.3][..cells.len()].to_vec();
    let mut origin = [0.5, -1.0, 2.0];
    origin[cells.len()..].fill(0.0);
    BoxSpec { size, cells: cells.to_vec(), shape, origin }
}

fn plan(cells: &[u64], shape: Shape, periodic: &[(u16, u16)]) -> Plan {
    Plan::new(&spec(cells, shape)).map(|p| p.with(1.5, periodic).expect("joins")).expect("a box")
}

/// A cell: its corners' nodes, in order, and its tags as (group, local facet).
type Cell = (Vec<u64>, Vec<(u16, u8)>);

/// All cells by number, from the soup.
fn of_soup(spec: &BoxSpec) -> BTreeMap<u64, Cell> {
    let soup = share_of(spec, 0, 1).expect("a valid box");
    let (block, entities) = (&soup.blocks[0], &soup.entities[0]);
    let sorted = |v: &[u64]| {
        let mut v = v.to_vec();
        v.sort_unstable();
        v
    };
    let facets: BTreeMap<Vec<u64>, u16> = entities
        .vertices
        .chunks_exact(entities.shape.n_vertices())
        .zip(&entities.groups)
        .map(|(v, &g)| (sorted(v), g))
        .collect();
    let cells = block.ids.iter().zip(block.nodes.chunks_exact(block.shape.n_vertices()));
    cells
        .map(|(&id, nodes)| {
            let mut tags: Vec<(u16, u8)> = (0..block.shape.n_facets())
                .filter_map(|f| {
                    let of = block.shape.facet_vertices(f).iter().map(|&v| nodes[v as usize]);
                    Some((*facets.get(&sorted(&of.collect::<Vec<_>>()))?, f as u8))
                })
                .collect();
            tags.sort_unstable();
            (id, (nodes.to_vec(), tags))
        })
        .collect()
}

/// Puts the parts of all ranks together and compares them with the soup.
fn check(cells: &[u64], shape: Shape, periodic: &[(u16, u16)], n_ranks: usize) {
    let what = format!("{cells:?} {shape} {periodic:?} on {n_ranks}");
    let plan = plan(cells, shape, periodic);
    let soup = of_soup(&spec(cells, shape));
    let n = shape.n_vertices();
    let bisection = Bisection::new(plan.lattice.cells, plan.wraps, n_ranks);
    let parts: Vec<Local> =
        (0..n_ranks).map(|rank| Local::new(&plan, &bisection, rank).expect("it fits")).collect();
    let joined = |id: u64| {
        let (at, of) = (boxes::place(id - 1, plan.lattice.nodes), plan.vertices());
        let at: [u64; 3] = std::array::from_fn(|d| at[d] % of[d]);
        1 + at[0] + plan.lattice.nodes[0] * (at[1] + plan.lattice.nodes[1] * at[2])
    };
    // Who owns each vertex, and which ranks have cells round it.
    let mut owner_of: BTreeMap<u64, usize> = BTreeMap::new();
    let mut owner_of_cell: BTreeMap<u64, usize> = BTreeMap::new();
    let mut round: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (&id, (nodes, _)) in &soup {
        nodes.iter().for_each(|&k| _ = round.entry(joined(k)).or_default().insert(id));
    }
    let vertex_ids = |part: &Local| -> Vec<u64> {
        // Of each local vertex, from the nodes of any cell that has it.
        let mut ids = vec![0; part.n_owned_vertices + part.ghosts.len()];
        let nodes = part.cell_to_node.as_ref().unwrap_or(&part.cell_to_vertex);
        for (&v, &k) in part.cell_to_vertex.iter().zip(nodes) {
            let id = joined(part.node_ids[k as usize]);
            assert!(ids[v as usize] == 0 || ids[v as usize] == id, "{what}");
            ids[v as usize] = id;
        }
        ids
    };
    let mut cut = 0;
    for (rank, part) in parts.iter().enumerate() {
        cut += part.edge_cut;
        for &id in &part.ids[..part.n_owned_cells] {
            assert_eq!(owner_of_cell.insert(id, rank), None, "{what}: cell {id} twice");
        }
        for (v, &id) in vertex_ids(part)[..part.n_owned_vertices].iter().enumerate() {
            assert_eq!(owner_of.insert(id, rank), None, "{what}: vertex {id} twice");
            assert_eq!(part.owned_vertex(&plan, id) as usize, v, "{what}");
        }
    }
    assert_eq!(owner_of_cell.keys().collect::<Vec<_>>(), soup.keys().collect::<Vec<_>>(), "{what}");
    assert_eq!(owner_of.len() as u64, plan.vertices().iter().product::<u64>(), "{what}");
    let most = parts.iter().map(|p| p.n_owned_cells).max().expect("ranks");
    let mean = soup.len() as f64 / n_ranks as f64;
    assert!(most as f64 <= 1.015 * mean + 2.0 * plan.parts.len() as f64, "{what}: {most}");

    for (rank, part) in parts.iter().enumerate() {
        let ids = vertex_ids(part);
        for (ghost, &id) in part.ghosts.iter().zip(&ids[part.n_owned_vertices..]) {
            assert_eq!((ghost.id, owner_of[&id]), (id, ghost.owner as usize), "{what}");
            assert_ne!(ghost.owner as usize, rank, "{what}");
        }
        // Owners have a cell round what they own.
        for id in &ids[..part.n_owned_vertices] {
            assert!(round[id].iter().any(|c| owner_of_cell[c] == rank), "{what}");
        }
        let mut tags: Vec<Vec<(u16, u8)>> = vec![Vec::new(); part.ids.len()];
        assert!(part.tags.windows(2).all(|w| w[0] < w[1]), "{what}: tags ascend");
        for t in &part.tags {
            assert_eq!((t.block, t.dim as usize), (0, plan.dim() - 1));
            tags[t.cell as usize].push((t.group, t.local));
        }
        let nodes = part.cell_to_node.as_ref().unwrap_or(&part.cell_to_vertex);
        for (cell, (nodes, tags)) in nodes.chunks_exact(n).zip(&tags).enumerate() {
            let nodes: Vec<u64> = nodes.iter().map(|&k| part.node_ids[k as usize]).collect();
            assert_eq!(
                (&nodes, tags),
                {
                    let c = &soup[&part.ids[cell]];
                    (&c.0, &c.1)
                },
                "{what}"
            );
        }
        for (x, &id) in part.nodes.iter().zip(&part.node_ids) {
            assert_eq!(*x, plan.coordinates(boxes::place(id - 1, plan.lattice.nodes)), "{what}");
        }
        let distinct: BTreeSet<u64> = part.node_ids.iter().copied().collect();
        assert_eq!(distinct.len(), part.nodes.len(), "{what}");
        // The ghosts: exactly the cells of others at vertices of owned cells, with their place there.
        let (mine, ghosts) = part.ids.split_at(part.n_owned_cells);
        let expected: BTreeSet<u64> = mine
            .iter()
            .flat_map(|id| &soup[id].0)
            .flat_map(|&k| &round[&joined(k)])
            .copied()
            .filter(|c| owner_of_cell[c] != rank)
            .collect();
        assert_eq!(ghosts.iter().copied().collect::<BTreeSet<u64>>(), expected, "{what}");
        assert_eq!(ghosts.len(), expected.len(), "{what}");
        for (&(owner, number), id) in part.ghost_cells.iter().zip(ghosts) {
            let there = &parts[owner as usize];
            assert!((number as usize) < there.n_owned_cells, "{what}");
            assert_eq!(there.ids[number as usize], *id, "{what}");
        }
    }

    // The cut, counted facet by facet.
    let mut facets: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for (id, (nodes, _)) in &soup {
        for f in 0..shape.n_facets() {
            let of = shape.facet_vertices(f).iter().map(|&v| joined(nodes[v as usize]));
            let mut key: Vec<u64> = of.collect();
            key.sort_unstable();
            facets.entry(key).or_default().push(owner_of_cell[id]);
        }
    }
    let expected = facets.values().filter(|o| o.len() == 2 && o[0] != o[1]).count();
    assert_eq!(cut as usize, expected, "{what}: edge cut");
}

#[test]
fn parts_make_up_the_soup() {
    for n_ranks in [1, 2, 3, 4, 7, 16] {
        check(&[500], Shape::Interval, &[], n_ranks);
        check(&[2100], Shape::Interval, &[], n_ranks);
        check(&[13, 70], Shape::Triangle, &[], n_ranks);
        check(&[40, 9], Shape::Quadrilateral, &[], n_ranks);
        check(&[9, 10, 11], Shape::Tetrahedron, &[], n_ranks);
        check(&[17, 5, 9], Shape::Hexahedron, &[], n_ranks);
    }
}

#[test]
fn degenerate_boxes_and_more_ranks_than_boxes() {
    for n_ranks in [1, 2, 3, 7, 64] {
        check(&[1], Shape::Interval, &[], n_ranks);
        check(&[1, 1], Shape::Triangle, &[], n_ranks);
        check(&[1, 30], Shape::Quadrilateral, &[], n_ranks);
        check(&[1, 1, 1], Shape::Tetrahedron, &[], n_ranks);
        check(&[2, 2, 2], Shape::Hexahedron, &[], n_ranks);
        check(&[2, 2, 2], Shape::Tetrahedron, &[], n_ranks);
        check(&[1, 1, 100], Shape::Tetrahedron, &[], n_ranks);
        check(&[3, 2, 5], Shape::Hexahedron, &[], n_ranks);
    }
}

#[test]
fn periodic_boxes_come_round() {
    for n_ranks in [1, 2, 3, 5, 16] {
        check(&[3], Shape::Interval, &[(1, 0)], n_ranks);
        check(&[40], Shape::Interval, &[(0, 1)], n_ranks);
        check(&[7, 12], Shape::Triangle, &[(0, 1)], n_ranks);
        check(&[3, 3], Shape::Quadrilateral, &[(0, 1), (2, 3)], n_ranks);
        check(&[4, 12, 3], Shape::Tetrahedron, &[(4, 5), (2, 3)], n_ranks);
        check(&[5, 6, 13], Shape::Hexahedron, &[(0, 1), (3, 2), (4, 5)], n_ranks);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let plan = plan(&[40, 33, 29], Shape::Tetrahedron, &[]);
    let bisection = Bisection::new(plan.lattice.cells, plan.wraps, 3);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let part = pool.install(|| Local::new(&plan, &bisection, 1)).expect("it fits");
        (part.cell_to_vertex, part.ids, part.nodes, part.node_ids, part.tags)
    };
    let one = with(1);
    for threads in [2, 5] {
        assert!(one == with(threads), "{threads} threads");
    }
}

#[test]
fn ghosts_take_the_order_of_their_numbers() {
    for periodic in [&[][..], &[(0, 1)]] {
        let plan = plan(&[9, 8, 7], Shape::Tetrahedron, periodic);
        let bisection = Bisection::new(plan.lattice.cells, plan.wraps, 3);
        let mut part = Local::new(&plan, &bisection, 1).expect("it fits");
        let n_owned = part.n_owned_vertices;
        let nodes_of = |part: &Local| -> Vec<(u64, [u64; 3])> {
            let nodes = part.cell_to_node.as_ref().unwrap_or(&part.cell_to_vertex);
            nodes
                .iter()
                .map(|&k| k as usize)
                .map(|k| (part.node_ids[k], part.nodes[k].map(f64::to_bits)))
                .collect()
        };
        let vertices_of = |part: &Local, numbers: &[u64]| -> Vec<u64> {
            let number = |&v: &u32| (v as usize).checked_sub(n_owned).map_or(u64::from(v), |g| numbers[g]);
            part.cell_to_vertex.iter().map(number).collect()
        };
        // Numbers in an order that has nothing to do with that of the ghosts.
        let mut numbers: Vec<u64> = part.ghosts.iter().map(|g| 1_000_000 + g.id * 7919 % 10_007).collect();
        assert!(!numbers.is_sorted() && numbers.len() > 50);
        let before = (nodes_of(&part), vertices_of(&part, &numbers));
        let ids: BTreeMap<u64, u64> = numbers.iter().copied().zip(part.ghosts.iter().map(|g| g.id)).collect();
        part.sort_ghosts(&mut numbers);
        assert!(numbers.is_sorted());
        assert!(before == (nodes_of(&part), vertices_of(&part, &numbers)), "{periodic:?}");
        assert!(part.ghosts.iter().map(|g| g.id).eq(ids.into_values()));
    }
}

#[test]
fn impossible_plans_are_refused() {
    let with = |cells: &[u64], periodic: &[(u16, u16)]| {
        let shape = [Shape::Interval, Shape::Triangle, Shape::Hexahedron][cells.len() - 1];
        Plan::new(&spec(cells, shape)).expect("a box").with(1.0, periodic).map(|_| ())
    };
    let refused = |cells: &[u64], periodic: &[(u16, u16)], expected: &str| {
        let message = with(cells, periodic).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused(&[2, 5], &[(0, 1)], "fewer than 3 cells across the period");
    refused(&[5, 2], &[(0, 1), (2, 3)], "fewer than 3 cells across the period");
    refused(&[5, 5], &[(0, 2)], "not a translate");
    refused(&[5, 5], &[(1, 1)], "in the same place");
    assert!(with(&[2, 5], &[(2, 3)]).is_ok());
    let lifted = BoxSpec { origin: [0.0, 0.0, 0.5], ..spec(&[3, 3], Shape::Triangle) };
    let error = Plan::new(&lifted).expect("a box").with(1.0, &[]).expect_err("not flat");
    assert!(matches!(error, MeshError::NotFlat { coordinate: 'z', .. }), "{error}");
    let thin = BoxSpec { size: vec![1.0, 1e-15], origin: [0.0; 3], ..spec(&[1, 1], Shape::Triangle) };
    let error = Plan::new(&thin).expect("a box").with(1.0, &[]).expect_err("thin");
    assert!(matches!(error, MeshError::BadCell { .. }), "{error}");
}
