//! Cells of which a face or an edge is a part of a coarser neighbour's, and what names their entities.
//!
//! Imports `element`. Start at [`Hanging`]. A sub-entity of a cell that lies on a face or edge that hangs is
//! named by the vertices of the cell's parent, which are the neighbour's: then it *is* the neighbour's face,
//! edge or vertex, for whoever numbers points. All other sub-entities are named by the cell's own vertices. A
//! vertex in the middle of a neighbour's face or edge names nothing and carries no point. Adjacent cells differ
//! by one level at most, across faces, edges and corners, so that what names never hangs itself.

use std::sync::Arc;

use super::{Block, Mesh, Table};
use crate::element::{Hang, Shape};

const NONE: u32 = u32::MAX;

/// What hangs on the cells of a block.
#[derive(Debug, Clone)]
pub struct Hanging {
    /// Per cell, ghosts included.
    pub configurations: Arc<Vec<Hang>>,
    /// Per cell: its row of `vertices`; [`NONE`] where nothing hangs.
    rows: Vec<u32>,
    /// Rows of as many vertices as a cell has.
    vertices: Vec<u32>,
    n_vertices: usize,
}

impl Hanging {
    /// From what hangs on each cell, and a row for each cell on which something does, in their order: at
    /// each vertex on what hangs the parent's vertex of that number, elsewhere the cell's own.
    ///
    /// # Panics
    /// If there are not as many rows.
    pub fn new(shape: Shape, configurations: Vec<Hang>, vertices: Vec<u32>) -> Hanging {
        let mut n = 0;
        let rows = configurations
            .iter()
            .map(|hang| {
                n += u32::from(hang.is_some());
                if hang.is_some() { n - 1 } else { NONE }
            })
            .collect();
        let n_vertices = shape.n_vertices();
        assert_eq!(vertices.len(), n as usize * n_vertices, "a row for each cell on which something hangs");
        Hanging { configurations: Arc::new(configurations), rows, vertices, n_vertices }
    }

    /// From a table that has for each cell its own vertices and then those that name: the table of own
    /// vertices, and what hangs.
    pub(super) fn split(shape: Shape, configurations: Vec<Hang>, table: &[u32]) -> (Table, Hanging) {
        let n = shape.n_vertices();
        let own: Vec<u32> = table.chunks_exact(2 * n).flat_map(|row| &row[..n]).copied().collect();
        let hanging = table.chunks_exact(2 * n).zip(&configurations).filter(|(_, hang)| hang.is_some());
        let naming = hanging.flat_map(|(row, _)| &row[n..]).copied().collect();
        (own.into(), Hanging::new(shape, configurations, naming))
    }

    /// What hangs on a cell.
    #[inline]
    pub fn hang(&self, cell: usize) -> Hang {
        self.configurations[cell]
    }

    /// What hangs on a cell and the vertices that name what lies on it; `None` where nothing does.
    #[inline]
    pub fn of(&self, cell: usize) -> Option<(Hang, &[u32])> {
        let row = self.rows[cell] as usize;
        (row != NONE as usize)
            .then(|| (self.configurations[cell], &self.vertices[row * self.n_vertices..][..self.n_vertices]))
    }

    /// How many cells have something that hangs.
    pub fn n_cells(&self) -> usize {
        self.vertices.len() / self.n_vertices
    }
}

impl Block {
    /// What hangs on a cell, with the vertices that name it: see [`Hanging::of`].
    #[inline]
    pub fn hang(&self, cell: usize) -> Option<(Hang, &[u32])> {
        self.hanging.as_ref().and_then(|hanging| hanging.of(cell))
    }

    /// The vertices of a cell that carry what is numbered there: where something hangs the parent's,
    /// elsewhere its own.
    pub fn naming_vertices(&self, cell: usize) -> &[u32] {
        self.hang(cell).map_or_else(|| self.vertices(cell), |(_, row)| row)
    }

    /// Sub-entity `i` of dimension `dim` of a cell by the vertices of the cell that name it, from which
    /// [`Shape::entity_vertices`] picks: two cells have an entity in common if these are the same.
    pub fn vertices_naming(&self, cell: usize, dim: usize, i: usize) -> &[u32] {
        match self.hang(cell) {
            Some((hang, row)) if hang.entities(self.shape, dim) >> i & 1 != 0 => row,
            _ => self.vertices(cell),
        }
    }

    /// Whether an entity of a cell is the cell's own and no part of a parent's.
    pub(super) fn has_own(&self, cell: usize, dim: usize, i: usize) -> bool {
        self.hang(cell).is_none_or(|(hang, _)| hang.entities(self.shape, dim) >> i & 1 == 0)
    }

    /// Vertices of cells as a table in which those that hang are replaced by what names them.
    pub(super) fn naming_table(&self) -> Table {
        let Some(hanging) = &self.hanging else { return self.cell_to_vertex.clone() };
        let n = self.shape.n_vertices();
        let mut table = self.cell_to_vertex.to_vec();
        for (cell, vertices) in table.chunks_exact_mut(n).enumerate() {
            if let Some((_, row)) = hanging.of(cell) {
                vertices.copy_from_slice(row);
            }
        }
        table.into()
    }
}

impl Mesh {
    /// Whether cells of this mesh may hang: the same on every rank.
    pub fn may_hang(&self) -> bool {
        self.blocks.iter().any(|block| block.hanging.is_some())
    }
}

/// Verifies what hangs: configurations that the shapes have; the same blocks on all ranks; a vertex that hangs
/// does so on every cell that has it and names nothing; the parent's vertices are not the cell's. Collective.
///
/// # Errors
/// The first promise that is broken, this rank's own.
pub(super) fn check(mesh: &Mesh) -> Result<(), String> {
    let mut bits: Vec<u64> = mesh.blocks.iter().map(|b| u64::from(b.hanging.is_some())).collect();
    let mine = bits.clone();
    mesh.comm.max_slice(&mut bits);
    let alike = bits == mine;
    let mut result = if alike { Ok(()) } else { Err("blocks hang on some ranks only".to_string()) };
    if mesh.comm.any(!alike) || !mesh.may_hang() {
        return result;
    }
    let mut fail = |what: String| {
        if result.is_ok() {
            result = Err(what);
        }
    };
    // Per vertex: cells on which it hangs, cells on which it is a vertex, cells that it names something of.
    let mut counts = vec![0.0; 3 * mesh.vertices.map.n_local()];
    for (b, block) in mesh.blocks.iter().enumerate() {
        let Some(hanging) = &block.hanging else { continue };
        if hanging.configurations.len() != block.n_cells {
            fail(format!("block {b}: not as many configurations as cells"));
            continue;
        }
        for cell in 0..block.n_cells {
            let Some((hang, row)) = hanging.of(cell) else { continue };
            if Hang::from_bits(hang.bits(), block.shape) != Some(hang) {
                fail(format!("block {b}, cell {cell}: no such configuration: {hang:?}"));
                continue;
            }
            let own = block.vertices(cell);
            let on = hang.entities(block.shape, 0);
            for (v, (&own_v, &named)) in own.iter().zip(row).enumerate() {
                let same = v == hang.child() || on >> v & 1 == 0;
                if same != (own_v == named) || (!same && own.contains(&named)) {
                    fail(format!("block {b}, cell {cell}, vertex {v}: {own_v} named by {named}, {hang:?}"));
                }
            }
        }
    }
    for block in &mesh.blocks {
        for cell in 0..block.n_owned {
            for (&own, &named) in block.vertices(cell).iter().zip(block.naming_vertices(cell)) {
                counts[3 * own as usize] += f64::from(u8::from(own != named));
                counts[3 * own as usize + 1] += 1.0;
                counts[3 * named as usize + 2] += 1.0;
            }
        }
    }
    mesh.vertices.halo.reverse_add(&mut counts, 3);
    for (v, count) in counts.chunks_exact(3).take(mesh.vertices.map.n_owned()).enumerate() {
        let [hangs, cells, names] = [count[0], count[1], count[2]];
        if hangs > 0.0 && (hangs != cells || names > 0.0) {
            fail(format!("vertex {v} hangs on {hangs} of {cells} cells and names something of {names}"));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::check_mesh;
    use super::super::trees::{Trees, under_mpi};
    use crate::element::Shape;

    /// Boxes of trees cut at random, owned in stretches and at random.
    #[test]
    fn meshes_that_hang_keep_their_promises() {
        under_mpi("mesh::hanging::tests::meshes_that_hang_keep_their_promises", &[1, 2, 3, 4], |comm| {
            for (shape, roots, rounds) in
                [(Shape::Quadrilateral, [3, 2, 1], 2), (Shape::Hexahedron, [3, 2, 1], 1)]
            {
                for periodic in [false, true] {
                    let trees = Trees::varied(shape, roots, periodic, rounds, 0.1);
                    let n = trees.leaves.len();
                    let size = comm.size();
                    for scattered in [false, true] {
                        let owner = |k: usize| if scattered { k * 7919 % 101 % size } else { k * size / n };
                        let mesh = trees.mesh(comm, owner);
                        check_mesh(&mesh).unwrap();
                        let hangs = comm.sum(mesh.blocks[0].hanging.as_ref().unwrap().n_cells() as u64);
                        assert!(hangs > 0);
                    }
                }
            }
            Vec::new()
        });
    }
}
