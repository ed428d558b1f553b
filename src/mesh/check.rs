//! What every mesh promises, verified: the contract that all ways of making one are put through.
//!
//! Imports `mesh`. Start at [`check_mesh`].

use cluster::{Buckets, Comm};

use super::{Block, Mesh};

/// Verifies the promises of a [`Mesh`]: lengths and ranges, owners and numbers of ghosts, the whole layer of
/// ghosts, one numbering of vertices, tags and coordinates that agree between ranks. Collective.
///
/// # Errors
/// The first promise that is broken, on the lowest rank that finds one; the same on every rank.
pub fn check_mesh(mesh: &Mesh) -> Result<(), String> {
    let comm = &mesh.comm;
    comm.agree(check_local(mesh))?;
    let n_owned = mesh.n_owned_cells() as u64;
    let n_cells = comm.sum(n_owned);
    comm.agree(ensure(n_cells == mesh.n_cells_global, || format!("{n_cells} cells are owned")))?;
    comm.agree(super::hanging::check(mesh))?;
    comm.agree(check_vertices(mesh))?;
    comm.agree(check_stars(mesh))?;
    comm.agree(check_ghosts(comm, mesh))
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn check_local(mesh: &Mesh) -> Result<(), String> {
    let n_vertices = mesh.vertices.map.n_local();
    let mut used = vec![false; n_vertices];
    for (b, block) in mesh.blocks.iter().enumerate() {
        let (n, corners) = (block.n_cells, block.shape.n_vertices());
        let lengths = block.cell_to_vertex.len() == n * corners
            && block.sets.len() == n
            && block.ids.len() == n
            && block.ghosts.len() == n - block.n_owned
            && block.cell_to_node.as_ref().is_none_or(|t| t.len() == n * block.n_nodes);
        ensure(lengths, || format!("block {b}: arrays of the wrong length"))?;
        for cell in 0..n {
            let vertices = block.vertices(cell);
            let distinct = (1..corners).all(|k| !vertices[..k].contains(&vertices[k]));
            ensure(distinct, || format!("block {b}, cell {cell}: a vertex twice: {vertices:?}"))?;
            for &v in vertices.iter().chain(block.naming_vertices(cell)) {
                let slot = used.get_mut(v as usize);
                *slot.ok_or_else(|| format!("block {b}, cell {cell}: no vertex {v}"))? = true;
            }
            let nodes = block.nodes(cell).iter().all(|&k| (k as usize) < mesh.nodes.len());
            ensure(nodes, || format!("block {b}, cell {cell}: a node that is not there"))?;
            ensure((block.sets[cell] as usize) < mesh.sets.len(), || format!("cell {cell}: no such set"))?;
        }
        let others = block.ghosts.iter().all(|g| g.0 as usize != mesh.comm.rank());
        ensure(others, || format!("block {b}: a ghost of this rank's own"))?;
    }
    ensure(used.iter().all(|&u| u), || "a vertex without a cell".into())?;
    ensure(mesh.nodes.len() == mesh.node_ids.len(), || "as many nodes as identifiers".into())?;
    let mut ids = mesh.node_ids.clone();
    ids.sort_unstable();
    ensure(ids.windows(2).all(|w| w[0] < w[1]), || "a node identifier twice".into())?;
    let alike = !mesh.nodes_are_vertices || mesh.nodes.len() == n_vertices;
    ensure(alike, || "nodes are vertices, but not as many".into())?;
    ensure(mesh.tags.windows(2).all(|w| w[0] < w[1]), || "tags do not ascend".into())?;
    for t in &mesh.tags {
        let block: Option<&Block> = mesh.blocks.get(t.block as usize);
        let fits = block.is_some_and(|b| {
            (t.cell as usize) < b.n_cells && (t.local as usize) < b.shape.n_entities(t.dim as usize)
        });
        let dim = mesh.groups.get(t.group as usize).is_some_and(|g| g.dim == t.dim as usize);
        ensure(fits && dim, || format!("a tag on nothing: {t:?}"))?;
    }
    Ok(())
}

/// Ghost vertices have the numbers, and where vertices are nodes the coordinates, that their owners have.
fn check_vertices(mesh: &Mesh) -> Result<(), String> {
    let map = &mesh.vertices.map;
    let mut numbers: Vec<u64> = (0..map.n_local() as u32).map(|v| map.local_to_global(v)).collect();
    let expected = numbers.clone();
    numbers[map.n_owned()..].fill(u64::MAX);
    mesh.vertices.halo.forward(&mut numbers, 1);
    let mut nodes: Vec<[u64; 4]> = Vec::new();
    if mesh.nodes_are_vertices {
        let bits = |k: usize| [0, 1, 2].map(|d| mesh.nodes[k][d].to_bits());
        nodes.extend((0..map.n_local()).map(|k| {
            let [x, y, z] = bits(k);
            [mesh.node_ids[k], x, y, z]
        }));
        let mine = nodes.clone();
        mesh.vertices.halo.forward(&mut nodes, 1);
        ensure(mine == nodes, || "a ghost vertex with other coordinates than its owner's".into())?;
    }
    ensure(numbers == expected, || "a ghost vertex with another number than its owner's".into())
}

/// The vertices of a cell, its own and those that name what hangs on it, each once.
fn all_vertices(block: &Block, cell: usize) -> impl Iterator<Item = u32> + '_ {
    let own = block.vertices(cell);
    let others = block.naming_vertices(cell).iter().zip(own).filter(|(a, b)| a != b).map(|(a, _)| a);
    own.iter().chain(others).copied()
}

/// Round every vertex of an owned cell there are as many cells here as on all ranks together.
fn check_stars(mesh: &Mesh) -> Result<(), String> {
    let mut owned = vec![0.0; mesh.vertices.map.n_local()];
    let mut here = owned.clone();
    for block in &mesh.blocks {
        for cell in 0..block.n_cells {
            for v in all_vertices(block, cell) {
                owned[v as usize] += f64::from(u8::from(cell < block.n_owned));
                here[v as usize] += 1.0;
            }
        }
    }
    let mut all = owned.clone();
    mesh.vertices.halo.reverse_add(&mut all, 1);
    mesh.vertices.halo.forward(&mut all, 1);
    for (v, ((&owned, &here), &all)) in owned.iter().zip(&here).zip(&all).enumerate() {
        let whole = owned == 0.0 || here == all;
        ensure(whole, || format!("vertex {v} has {here} cells here, {all} in all"))?;
    }
    for block in &mesh.blocks {
        for cell in block.n_owned..block.n_cells {
            let touches = all_vertices(block, cell).any(|v| owned[v as usize] > 0.0);
            ensure(touches, || format!("ghost cell {cell} touches no owned one"))?;
        }
    }
    Ok(())
}

/// What a cell is, in words of 64 bits: its number in the input, its set, its vertices and nodes, its tags.
fn description(mesh: &Mesh, block: &Block, b: usize, tags: &[u64]) -> Vec<Vec<u64>> {
    let mut cells: Vec<Vec<u64>> = (0..block.n_cells)
        .map(|cell| {
            let mut words = vec![block.ids[cell], u64::from(block.sets[cell])];
            words.extend(block.vertices(cell).iter().map(|&v| mesh.vertices.map.local_to_global(v)));
            words.extend(block.nodes(cell).iter().map(|&k| mesh.node_ids[k as usize]));
            if let Some((hang, row)) = block.hang(cell) {
                words.push(u64::from(hang.bits()));
                words.extend(row.iter().map(|&v| mesh.vertices.map.local_to_global(v)));
            }
            words
        })
        .collect();
    for (t, &word) in mesh.tags.iter().zip(tags).filter(|t| t.0.block as usize == b) {
        cells[t.cell as usize].push(word);
    }
    cells
}

/// Ghost cells are what their owners have under their numbers.
fn check_ghosts(comm: &Comm, mesh: &Mesh) -> Result<(), String> {
    let tags: Vec<u64> = mesh
        .tags
        .iter()
        .map(|t| u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.local))
        .collect();
    let mut result = Ok(());
    for (b, block) in mesh.blocks.iter().enumerate() {
        let cells = description(mesh, block, b, &tags);
        let asked: Vec<(u32, u32)> = block.ghosts.clone();
        let order = asked.iter().enumerate().map(|(k, a)| (a.0, (block.n_owned + k) as u32)).collect();
        let order = Buckets::from_pairs(order).data;
        let questions = comm.exchange(&Buckets::from_pairs(asked));
        let mut answers = Buckets { ranks: questions.ranks.clone(), offsets: vec![0], data: Vec::new() };
        for (_, numbers) in questions.iter() {
            for &number in numbers {
                // What is not owned here has no description.
                let words = cells[..block.n_owned].get(number as usize).map_or(&[][..], |w| w);
                answers.data.push(words.len() as u64);
                answers.data.extend_from_slice(words);
            }
            answers.offsets.push(answers.data.len());
        }
        let answers = comm.exchange(&answers).data;
        let mut rest = &answers[..];
        for &cell in &order {
            let (words, after) = rest[1..].split_at(rest[0] as usize);
            rest = after;
            let mine = &cells[cell as usize];
            if result.is_ok() && words != &mine[..] {
                result = Err(format!("block {b}, ghost {cell}: {mine:?} here, {words:?} at its owner"));
            }
        }
    }
    result
}
