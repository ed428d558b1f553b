//! How large a problem is, by what its phases must read and write: for `run.json` and for floors of times.
//!
//! Start at [`Sizes`].

use serde::{Deserialize, Serialize};

use crate::assembly::Pattern;
use crate::mesh::Mesh;
use crate::space::Space;

/// Cells of one shape, over all ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    /// The shape's name.
    pub shape: String,
    /// Cells, each counted by its owner.
    pub cells: u64,
    /// Nodes of a cell's geometry.
    pub geometry_nodes: usize,
    /// Nodes of a cell's space.
    pub nodes: usize,
    /// Whether the map from the reference cell is affine.
    pub affine: bool,
}

/// A problem's sizes over all ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Cells by shape.
    pub cells: Vec<Cells>,
    /// Nodes of the space.
    pub nodes: u64,
    /// Components of the solution.
    pub components: usize,
    /// Pairs of nodes that the matrix couples: its entries over the square of the components.
    pub pairs: u64,
}

impl Sizes {
    /// Adds up over the ranks. Collective.
    pub fn of(mesh: &Mesh, space: &Space, pattern: &Pattern, components: usize) -> Sizes {
        let mut counts: Vec<u64> = mesh.blocks.iter().map(|block| block.n_owned as u64).collect();
        counts.push((pattern.diag_col.len() + pattern.off_col.len()) as u64);
        mesh.comm.sum_slice(&mut counts);
        let cells = mesh.blocks.iter().zip(&space.elements).zip(&counts).map(|((block, element), &cells)| {
            let shape = block.shape.name().to_owned();
            let (geometry_nodes, nodes) = (block.nodes_per_cell(), element.n_nodes());
            Cells { shape, cells, geometry_nodes, nodes, affine: block.is_affine() }
        });
        let cells = cells.collect();
        Sizes { cells, nodes: space.map.n_global(), components, pairs: counts[mesh.blocks.len()] }
    }
}
