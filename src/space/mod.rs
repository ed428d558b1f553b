//! Lagrange spaces on distributed meshes: DOF numbers, ghosts, node coordinates.
//!
//! Imports `element` and `mesh`. A [`Space`] numbers *nodes*; a field of `C` components has DOF
//! `C * node + component`, so that the components of a node are neighbours in vectors and matrices.

mod bandwidth;

use cluster::{Halo, IndexMap};

use crate::element::{Lagrange, Nodes};
use crate::mesh::lattice::{self, Corners};
use crate::mesh::{Block, Mesh, Table, geometry};

pub use bandwidth::{Order, bandwidth};

/// A continuous Lagrange space of one degree.
pub struct Space {
    /// The polynomial degree.
    pub degree: usize,
    /// The element of each of the mesh's blocks.
    pub elements: Vec<Lagrange>,
    /// Owned nodes first, then ghosts in ascending order of their global number.
    pub map: IndexMap,
    /// Moves nodal values between owners and ghosts.
    pub halo: Halo,
    /// Per block: local nodes of each cell, `n_cells * n_nodes`, in the element's order. Of degree 1 the
    /// mesh's own tables, where nodes are in the order of the curve.
    pub cell_to_node: Vec<Table>,
}

impl Space {
    /// Numbers the nodes of degree `degree` on `mesh`, owned ones in an order that keeps neighbours
    /// close. Collective.
    ///
    /// # Errors
    /// A degree that no element has.
    pub fn new(mesh: &Mesh, degree: usize, order: Order) -> Result<Space, crate::element::Error> {
        let elements = mesh
            .blocks
            .iter()
            .map(|b| Lagrange::new(b.shape, degree, Nodes::Spectral))
            .collect::<Result<Vec<_>, _>>()?;
        let mut lattice = lattice::number(mesh, &elements, Corners::Vertices);
        if order == Order::CuthillMcKee {
            lattice = bandwidth::sort_ghosts(mesh, bandwidth::renumber(mesh, &elements, lattice));
        }
        let lattice::Lattice { map, halo, cell_to_point } = lattice;
        Ok(Space { degree, elements, map, halo, cell_to_node: cell_to_point })
    }

    /// The nodes of a cell.
    #[inline]
    pub fn nodes(&self, block: usize, cell: usize) -> &[u32] {
        let n = self.elements[block].n_nodes();
        &self.cell_to_node[block][cell * n..][..n]
    }

    /// The coordinates of all local nodes, ghosts included. Of a node that periodicity gives several
    /// places, one of them.
    pub fn coordinates(&self, mesh: &Mesh) -> Vec<[f64; 3]> {
        let shared = |(nodes, block): (&Table, &Block)| std::ptr::eq(&**nodes, &*block.cell_to_vertex);
        if mesh.nodes_are_vertices
            && mesh.nodes.len() == self.map.n_local()
            && self.cell_to_node.iter().zip(&mesh.blocks).all(shared)
        {
            return mesh.nodes.clone();
        }
        let mut points = vec![[0.0; 3]; self.map.n_local()];
        let mut done = vec![false; points.len()];
        let mut x = Vec::new();
        for (b, block) in mesh.blocks.iter().enumerate() {
            let table = geometry::basis(block).tabulate(self.elements[b].nodes(), 0);
            for cell in 0..block.n_cells {
                let nodes = self.nodes(b, cell);
                // Each node once: most cells have no new one.
                if nodes.iter().all(|&node| done[node as usize]) {
                    continue;
                }
                x.clear();
                mesh.cell_coordinates(block, cell, &mut x);
                for (k, &node) in nodes.iter().enumerate() {
                    if !std::mem::replace(&mut done[node as usize], true) {
                        points[node as usize] = geometry::image(&table, k, &x);
                    }
                }
            }
        }
        points
    }
}
