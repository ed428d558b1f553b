//! Nodal fields as values by cell and back: how a solution travels between meshes.
//!
//! Imports `mesh` and `space`. Start at [`to_cells`]. While cells are cut, joined and moved, each keeps the values at
//! its own nodes; on the new mesh the owner of a node takes them from the first of its cells.

use rayon::prelude::*;

use crate::mesh::Mesh;
use crate::space::Space;

/// Values at the nodes of each owned cell, cell by cell, block after block: `width` values a node. `values`
/// hold all local nodes.
pub fn to_cells(mesh: &Mesh, space: &Space, values: &[f64], width: usize) -> Vec<f64> {
    let of_blocks = || {
        let counts = mesh.blocks.iter().zip(&space.elements).map(|(b, e)| b.n_owned * e.n_nodes());
        space.cell_to_node.iter().zip(counts).map(|(nodes, n)| &nodes[..n])
    };
    let mut out = Vec::with_capacity(of_blocks().map(<[u32]>::len).sum::<usize>() * width);
    let mut scratch = Vec::new();
    let mut here = Vec::new();
    for (b, nodes) in of_blocks().enumerate() {
        if space.may_hang(b) {
            for cell in 0..mesh.blocks[b].n_owned {
                space.gather(b, cell, values, width, &mut here, &mut scratch);
                out.extend_from_slice(&here);
            }
        } else if width == 1 {
            out.par_extend(nodes.par_iter().map(|&v| values[v as usize]));
        } else {
            for &v in nodes {
                out.extend_from_slice(&values[v as usize * width..][..width]);
            }
        }
    }
    out
}

/// Values at all local nodes from those of the owned cells, the inverse of [`to_cells`]. A node on several
/// cells has the values of the first that is owned where the node is: there is one. Collective.
pub fn from_cells(mesh: &Mesh, space: &Space, by_cell: &[f64], width: usize) -> Vec<f64> {
    let mut values = vec![0.0; space.map.n_local() * width];
    let n_rows = space.map.n_owned();
    let mut end = by_cell.len();
    // Backwards, so that the first cell writes last.
    for (b, block) in mesh.blocks.iter().enumerate().rev() {
        let nodes = &space.cell_to_node[b][..block.n_owned * space.elements[b].n_nodes()];
        let begin = end - nodes.len() * width;
        let n = space.elements[b].n_nodes();
        // A node on what hangs has its owner's cell on the coarser side.
        let is_parents = |k: usize| space.interpolation(b, k / n).is_some_and(|c| c.is_parents(k % n));
        for (k, (&v, from)) in nodes.iter().zip(by_cell[begin..end].chunks_exact(width)).enumerate().rev() {
            if (v as usize) < n_rows && !(space.may_hang(b) && is_parents(k)) {
                values[v as usize * width..][..width].copy_from_slice(from);
            }
        }
        end = begin;
    }
    space.halo.forward(&mut values, width);
    values
}
