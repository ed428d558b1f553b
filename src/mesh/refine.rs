//! Uniform refinement, in place on each rank.
//!
//! The next mesh's nodes are the points of a lattice on the present one: of degree 2 for straight cells,
//! 4 for curved ones. Their global numbers serve as identifiers, so that the refined cells pass through
//! the same door as those of a file.

use super::draft::Draft;
use super::lattice::{self, Corners};
use super::soup::{CellBlock, EntityBlock, Soup};
use super::{Mesh, MeshError, geometry};
use crate::element::{GeometryKind, Lagrange, Nodes, Refinement, Shape, refinement};

/// For each child and each of its geometry nodes: the parent's lattice point.
fn child_points(cut: &Refinement, geometry: GeometryKind, lattice: &Lagrange) -> Vec<Vec<usize>> {
    let shape = cut.shape;
    let basis = geometry.basis(shape);
    let corners = GeometryKind::Linear.basis(shape).tabulate(basis.nodes(), 0);
    (0..cut.n_children())
        .map(|child| {
            let vertices = cut.child_vertex_points(child);
            (0..basis.n_nodes())
                .map(|node| {
                    let p = geometry::image(&corners, node, &vertices);
                    let same = |q: &[f64; 3]| (0..3).all(|d| (p[d] - q[d]).abs() < 1e-10);
                    lattice.nodes().iter().position(same).expect("a child's node is a point of the lattice")
                })
                .collect()
        })
        .collect()
}

impl Mesh {
    /// Cuts every cell into its children: 2 intervals, 4 triangles or quadrilaterals, 8 tetrahedra or
    /// hexahedra. Children stay on their parent's rank. Curved cells keep their curve. Collective.
    ///
    /// # Errors
    /// A child without positive volume (a parent too distorted); a mesh with hanging nodes.
    pub fn refine(&self) -> Result<Mesh, MeshError> {
        let _span = tracing::debug_span!("refine all").entered();
        if self.may_hang() {
            return Err(MeshError::Hangs);
        }
        let curved = self.blocks.iter().any(|b| b.geometry != GeometryKind::Linear);
        let degree = if curved { 4 } else { 2 };
        let elements: Vec<Lagrange> = self
            .blocks
            .iter()
            .map(|b| Lagrange::new(b.shape, degree, Nodes::Equispaced).expect("degrees 2 and 4 exist"))
            .collect();
        let points = lattice::number(self, &elements, Corners::Nodes);
        let id_of = |p: u32| points.map.local_to_global(p) + 1;
        let n_owned = points.map.n_owned();
        let mut coordinates = vec![[0.0; 3]; n_owned];
        let mut blocks = Vec::new();
        let mut by_shape: Vec<EntityBlock> =
            [Shape::Point, Shape::Interval, Shape::Triangle, Shape::Quadrilateral]
                .into_iter()
                .filter(|s| s.dim() < self.dim)
                .map(|shape| EntityBlock { shape, vertices: Vec::new(), groups: Vec::new() })
                .collect();
        let mut x = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            let cut = refinement(block.shape);
            let geometry = if curved && block.geometry != GeometryKind::Linear {
                GeometryKind::Quadratic
            } else {
                GeometryKind::Linear
            };
            let children = child_points(&cut, geometry, &elements[b]);
            let n = elements[b].n_nodes();
            let table = geometry::basis(block).tabulate(elements[b].nodes(), 0);
            let mut made = CellBlock {
                shape: block.shape,
                geometry,
                nodes: Vec::with_capacity(block.n_owned * children.len() * children[0].len()),
                ids: Vec::with_capacity(block.n_owned * children.len()),
                sets: Vec::with_capacity(block.n_owned * children.len()),
            };
            let point_of = |cell: usize, k: usize| points.cell_to_point[b][cell * n + k];
            for cell in 0..block.n_owned {
                x.clear();
                self.cell_coordinates(block, cell, &mut x);
                for k in 0..n {
                    if let Some(to) = coordinates.get_mut(point_of(cell, k) as usize) {
                        *to = geometry::image(&table, k, &x);
                    }
                }
                for (child, nodes) in children.iter().enumerate() {
                    made.nodes.extend(nodes.iter().map(|&k| id_of(point_of(cell, k))));
                    made.ids.push(block.ids[cell] * children.len() as u64 + child as u64);
                    made.sets.push(block.sets[cell]);
                }
            }
            for tag in self.tags.iter().filter(|t| t.block as usize == b && (t.cell as usize) < block.n_owned)
            {
                for &(child, entity) in &cut.entity_children[tag.dim as usize][tag.local as usize] {
                    let shape = block.shape.entity_shape(tag.dim as usize, entity as usize);
                    let to = by_shape
                        .iter_mut()
                        .find(|e| e.shape == shape)
                        .expect("every lower shape has a block");
                    for &v in block.shape.entity_vertices(tag.dim as usize, entity as usize) {
                        to.vertices
                            .push(id_of(point_of(tag.cell as usize, children[child as usize][v as usize])));
                    }
                    to.groups.push(tag.group);
                }
            }
            blocks.push(made);
        }
        let soup = Soup {
            dim: self.dim,
            groups: self.groups.clone(),
            sets: self.sets.clone(),
            blocks,
            entities: by_shape,
            node_ids: (0..n_owned as u32).map(id_of).collect(),
            node_coordinates: coordinates,
            max_node_id: points.map.n_global(),
            periodic: Vec::new(),
        };
        let draft = Draft::new(&self.comm, soup, 1.0, &self.periodic, false)?;
        let owners = vec![self.comm.rank() as u32; draft.n_cells()];
        draft.distribute(&owners)
    }
}
