//! Lagrange spaces on distributed meshes: DOF numbers, ghosts, node coordinates.
//!
//! Imports `element` and `mesh`. A [`Space`] numbers *nodes*; a field of `C` components has DOF
//! `C * node + component`, so that the components of a node are neighbours in vectors and matrices.

mod bandwidth;

use std::borrow::Cow;
use std::sync::Arc;

use cluster::{Halo, IndexMap};
use rayon::prelude::*;

use crate::element::{Hang, HangingElement, Interpolation, Lagrange, Nodes};
use crate::mesh::lattice::{self, Corners};
use crate::mesh::{Block, EntityTag, Mesh, Table, geometry};

pub use bandwidth::{Order, bandwidth};

/// Cells of a run.
const RUN: usize = 1024;

/// Nodes of a thread, at least.
const LEAST_NODES: usize = 4096;

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

    /// Per block: the least and the largest node of each run of cells.
    fn reached(&self) -> Vec<Vec<(u32, u32)>> {
        let of_run = |nodes: &[u32]| {
            nodes.iter().fold((u32::MAX, 0), |(least, most), &node| (least.min(node), most.max(node)))
        };
        let of_block = |(nodes, element): (&Table, &Lagrange)| {
            nodes.par_chunks(RUN * element.n_nodes()).map(of_run).collect::<Vec<_>>()
        };
        self.cell_to_node.iter().zip(&self.elements).map(of_block).collect()
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
        let n = self.map.n_local();
        let mut points = vec![[0.0; 3]; n];
        let mut done = vec![false; n];
        // Each thread has some of the nodes and takes each from its first cell, whoever has how many.
        let n_parts = rayon::current_num_threads().min(n / LEAST_NODES).max(1);
        let per_part = n.div_ceil(n_parts).max(1);
        let reached = self.reached();
        let parts = points.par_chunks_mut(per_part).zip(done.par_chunks_mut(per_part)).enumerate();
        parts.for_each(|(part, (points, done))| {
            let first = part * per_part;
            let (low, high) = (first as u32, (first + points.len()) as u32);
            let mut x = Vec::new();
            for (b, block) in mesh.blocks.iter().enumerate() {
                let table = geometry::basis(block).tabulate(self.elements[b].nodes(), 0);
                let runs =
                    reached[b].iter().enumerate().filter(|(_, (least, most))| *least < high && *most >= low);
                for cell in runs.flat_map(|(run, _)| run * RUN..((run + 1) * RUN).min(block.n_cells)) {
                    let nodes = self.nodes(b, cell);
                    let mine = |node: u32| node.wrapping_sub(low) as usize;
                    // Each node once: most cells have no new one.
                    if nodes.iter().all(|&node| done.get(mine(node)).is_none_or(|done| *done)) {
                        continue;
                    }
                    x.clear();
                    mesh.cell_coordinates(block, cell, &mut x);
                    let hanging = self.interpolation(b, cell);
                    for (k, &node) in nodes.iter().enumerate() {
                        if hanging.is_some_and(|c| c.is_parents(k)) {
                            continue;
                        }
                        let node = mine(node);
                        if done.get_mut(node).is_some_and(|done| !std::mem::replace(done, true)) {
                            points[node] = geometry::image(&table, k, &x);
                        }
                    }
                }
            }
        });
        let mut x = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Shape;
    use crate::mesh::trees::{Trees, under_mpi};

    #[test]
    fn coordinates_are_the_same_by_any_number_of_threads() {
        let test = "space::tests::coordinates_are_the_same_by_any_number_of_threads";
        under_mpi(test, &[1, 2], |comm| {
            let trees = Trees::varied(Shape::Hexahedron, [8, 8, 8], false, 2, 0.1);
            let mesh = trees.mesh(comm, |k| k * comm.size() / trees.leaves.len());
            let space = Space::new(&mesh, 3, Order::Curve).expect("a space");
            let by = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                pool.install(|| space.coordinates(&mesh).into_owned())
            };
            let alone = by(1);
            assert!(alone.len() > 2 * LEAST_NODES, "{} nodes are of one thread", alone.len());
            assert!((2..5).all(|threads| by(threads) == alone));
            Vec::new()
        });
    }
}
