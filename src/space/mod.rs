//! Lagrange spaces on distributed meshes: DOF numbers, ghosts, node coordinates.
//!
//! Imports `element` and `mesh`. A [`Space`] numbers *nodes*; a field of `C` components has DOF
//! `C * node + component`, so that the components of a node are neighbours in vectors and matrices.

mod bandwidth;

use std::borrow::Cow;
use std::sync::Arc;

use cluster::{Halo, IndexMap};

use crate::element::{Hang, HangingElement, Interpolation, Lagrange, Nodes};
use crate::mesh::lattice::{self, Corners};
use crate::mesh::{Block, EntityTag, Mesh, Table, geometry};

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
    /// mesh's own tables, where nodes are in the order of the curve. Of cells that hang these are *slots*:
    /// see [`Space::interpolation`].
    pub cell_to_node: Vec<Table>,
    /// Of blocks whose cells may hang: what hangs on each, and the element's interpolations.
    hanging: Vec<Option<(Arc<Vec<Hang>>, HangingElement)>>,
}

impl Space {
    /// Numbers the nodes of degree `degree` on `mesh`, owned ones in an order that keeps neighbours
    /// close. Collective.
    ///
    /// # Errors
    /// A degree that no element has.
    pub fn new(mesh: &Mesh, degree: usize, order: Order) -> Result<Space, crate::element::Error> {
        let _span = tracing::debug_span!("number nodes").entered();
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
        let hanging = mesh
            .blocks
            .iter()
            .zip(&elements)
            .map(|(block, element)| {
                let hanging = block.hanging.as_ref()?;
                Some((hanging.configurations.clone(), HangingElement::new(element)?))
            })
            .collect();
        Ok(Space { degree, elements, map, halo, cell_to_node: cell_to_point, hanging })
    }

    /// How the values at a cell's own nodes follow from those at its slots, [`Space::nodes`]; `None` where
    /// the slots are the cell's nodes, as they are where nothing hangs. Whoever reads values at a cell's
    /// nodes gathers them from the slots, and whoever adds to a cell's nodes scatters to the slots.
    #[inline]
    pub fn interpolation(&self, block: usize, cell: usize) -> Option<Interpolation<'_>> {
        let (configurations, element) = self.hanging[block].as_ref()?;
        let hang = configurations[cell];
        hang.is_some().then(|| element.of(hang))
    }

    /// Whether cells of a block may hang.
    #[inline]
    pub fn may_hang(&self, block: usize) -> bool {
        self.hanging[block].is_some()
    }

    /// Gathers the values of a field at a cell's own nodes, `width` each, `[node][value]`.
    pub fn gather(
        &self,
        block: usize,
        cell: usize,
        field: &[f64],
        width: usize,
        out: &mut Vec<f64>,
        scratch: &mut Vec<f64>,
    ) {
        out.clear();
        for &node in self.nodes(block, cell) {
            out.extend_from_slice(&field[node as usize * width..][..width]);
        }
        if let Some(interpolation) = self.interpolation(block, cell) {
            interpolation.gather(out, width, scratch);
        }
    }

    /// The nodes of a cell.
    #[inline]
    pub fn nodes(&self, block: usize, cell: usize) -> &[u32] {
        let n = self.elements[block].n_nodes();
        &self.cell_to_node[block][cell * n..][..n]
    }

    /// Which owned nodes lie on entities of owned and ghost cells.
    pub fn owned_on(&self, entities: &[EntityTag]) -> Vec<bool> {
        let mut on = vec![false; self.map.n_owned()];
        for tag in entities {
            let block = tag.block as usize;
            let nodes = self.nodes(block, tag.cell as usize);
            for &k in self.elements[block].closure_nodes(tag.dim as usize, tag.local as usize) {
                if let Some(on) = on.get_mut(nodes[k as usize] as usize) {
                    *on = true;
                }
            }
        }
        on
    }

    /// The coordinates of all local nodes, ghosts included. Of a node that periodicity gives several
    /// places, one of them; of a node on what hangs, its place on the coarser neighbour's face. Where nodes are the
    /// mesh's, so are these.
    pub fn coordinates<'m>(&self, mesh: &'m Mesh) -> Cow<'m, [[f64; 3]]> {
        let _span = tracing::debug_span!("coordinates").entered();
        let shared = |(nodes, block): (&Table, &Block)| std::ptr::eq(&**nodes, &*block.cell_to_vertex);
        if mesh.nodes_are_vertices
            && mesh.nodes.len() == self.map.n_local()
            && self.cell_to_node.iter().zip(&mesh.blocks).all(shared)
        {
            return Cow::Borrowed(&mesh.nodes);
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
                let hanging = self.interpolation(b, cell);
                for (k, &node) in nodes.iter().enumerate() {
                    if hanging.is_some_and(|c| c.is_parents(k)) {
                        continue;
                    }
                    if !std::mem::replace(&mut done[node as usize], true) {
                        points[node as usize] = geometry::image(&table, k, &x);
                    }
                }
            }
        }
        // Nodes of ghosts' parents may be on no cell here but as slots.
        for (b, block) in mesh.blocks.iter().enumerate().filter(|(b, _)| self.may_hang(*b)) {
            let basis = geometry::basis(block);
            for cell in 0..block.n_cells {
                let Some(hanging) = self.interpolation(b, cell) else { continue };
                let nodes = self.nodes(b, cell);
                for k in hanging.parents() {
                    if !std::mem::replace(&mut done[nodes[k] as usize], true) {
                        x.clear();
                        mesh.cell_coordinates(block, cell, &mut x);
                        let table = basis.tabulate(&[hanging.place(k)], 0);
                        points[nodes[k] as usize] = geometry::image(&table, 0, &x);
                    }
                }
            }
        }
        Cow::Owned(points)
    }
}
