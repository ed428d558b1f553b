//! Nodal fields as values by cell and back: how a solution travels between meshes.
//!
//! Imports `mesh` and `space`. Start at [`to_cells`]. While cells are cut, joined and moved, each keeps the values at
//! its own nodes; on the new mesh the owner of a node takes them from the first of its cells.

use rayon::prelude::*;

use crate::mesh::Mesh;
use crate::space::Space;

/// Values at the own nodes of each owned cell, cell by cell, block after block: `width` values a node.
/// `values` hold all local nodes. Where a cell hangs, its own nodes' values follow from its neighbours'.
pub fn to_cells(mesh: &Mesh, space: &Space, values: &[f64], width: usize) -> Vec<f64> {
    let _span = tracing::debug_span!("carry to cells").entered();
    let mut out = Vec::new();
    let mut scratch = Vec::new();
    for (b, block) in mesh.blocks.iter().enumerate() {
        let n = space.elements[b].n_nodes();
        let nodes = &space.cell_to_node[b][..block.n_owned * n];
        let first = out.len();
        out.resize(first + nodes.len() * width, 0.0);
        out[first..].par_chunks_mut(width).zip(nodes).for_each(|(to, &v)| {
            to.copy_from_slice(&values[v as usize * width..][..width]);
        });
        if !space.may_hang(b) {
            continue;
        }
        for (cell, values) in out[first..].chunks_exact_mut(n * width).enumerate() {
            if let Some(hanging) = space.interpolation(b, cell) {
                hanging.gather(values, width, &mut scratch);
            }
        }
    }
    out
}

/// Values at all local nodes from those of the owned cells, the inverse of [`to_cells`]. A node on several
/// cells has the values of the first of those that are owned where the node is; where all that are there
/// hang beside it, their polynomial goes on to the node, which lies on their neighbour's face. Collective.
pub fn from_cells(mesh: &Mesh, space: &Space, by_cell: &[f64], width: usize) -> Vec<f64> {
    let _span = tracing::debug_span!("carry from cells").entered();
    let mut values = vec![0.0; space.map.n_local() * width];
    let n_rows = space.map.n_owned();
    let mut found = vec![false; if mesh.may_hang() { n_rows } else { 0 }];
    let mut end = by_cell.len();
    // Backwards, so that the first cell writes last.
    for (b, block) in mesh.blocks.iter().enumerate().rev() {
        let n = space.elements[b].n_nodes() * width;
        let begin = end - block.n_owned * n;
        for (cell, from) in by_cell[begin..end].chunks_exact(n).enumerate().rev() {
            let hanging = space.interpolation(b, cell);
            for (k, (&v, from)) in space.nodes(b, cell).iter().zip(from.chunks_exact(width)).enumerate() {
                let v = v as usize;
                if v < n_rows && !hanging.is_some_and(|hanging| hanging.is_parents(k)) {
                    values[v * width..][..width].copy_from_slice(from);
                    if let Some(found) = found.get_mut(v) {
                        *found = true;
                    }
                }
            }
        }
        end = begin;
    }
    if found.contains(&false) {
        from_beside(mesh, space, by_cell, width, &mut found, &mut values);
    }
    space.halo.forward(&mut values, width);
    values
}

/// Values at owned nodes that are on no owned cell, from the first cell that hangs beside them.
fn from_beside(
    mesh: &Mesh,
    space: &Space,
    by_cell: &[f64],
    width: usize,
    found: &mut [bool],
    values: &mut [f64],
) {
    let mut rest = by_cell;
    for (b, block) in mesh.blocks.iter().enumerate() {
        let n = space.elements[b].n_nodes() * width;
        let (mine, others) = rest.split_at(block.n_owned * n);
        rest = others;
        for (cell, from) in mine.chunks_exact(n).enumerate() {
            let Some(hanging) = space.interpolation(b, cell) else { continue };
            for (k, &v) in space.nodes(b, cell).iter().enumerate() {
                if !hanging.is_parents(k) || found.get(v as usize) != Some(&false) {
                    continue;
                }
                found[v as usize] = true;
                let table = space.elements[b].tabulate(&[hanging.place(k)], 0);
                for (from, phi) in from.chunks_exact(width).zip(&table.values) {
                    let to = &mut values[v as usize * width..][..width];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += phi * from);
                }
            }
        }
    }
}
