//! Uniform refinement of one reference cell: its children and what of them lies on its edges and faces.
//!
//! Imports [`Shape`] only. Start at [`refinement`].

use super::Shape;

/// A sub-entity of the parent, standing for the point at its centre: a vertex, an edge's midpoint, a face's or
/// the cell's centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntityRef {
    /// Dimension of the sub-entity.
    pub dim: u8,
    /// Its number in the parent.
    pub index: u8,
}

/// The children of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refinement {
    /// The parent's shape, which is also the children's.
    pub shape: Shape,
    /// For each child its vertices, in the order of its shape, all children positively oriented.
    pub children: Vec<Vec<EntityRef>>,
    /// `entity_children[d][i]`: pairs (child, sub-entity of the child) of dimension `d` on sub-entity `i` of
    /// dimension `d` of the parent. A new entity inside a parent's edge or face that several children share
    /// appears once for each of them.
    pub entity_children: Vec<Vec<Vec<(u8, u8)>>>,
}

const fn v(index: u8) -> EntityRef {
    EntityRef { dim: 0, index }
}
const fn e(index: u8) -> EntityRef {
    EntityRef { dim: 1, index }
}

/// The uniform refinement of a shape: 2 intervals, 4 triangles or quadrilaterals, 8 tetrahedra or hexahedra.
///
/// Tetrahedra are cut by Bey's rule: four corners, and four around the diagonal of the inner octahedron between
/// the midpoints of edges (0,2) and (1,3). Applied again and again it yields at most three classes of similar
/// cells for each initial one. Two of Bey's children are listed with vertices 0 and 2 swapped, which makes them
/// positively oriented and keeps the pair of opposite edges that the diagonal joins, hence all later cells.
///
/// Source: J. Bey, Tetrahedral grid refinement, Computing 55 (1995).
pub fn refinement(shape: Shape) -> Refinement {
    let children: Vec<Vec<EntityRef>> = match shape {
        Shape::Point => vec![vec![v(0)]],
        Shape::Triangle => {
            vec![
                vec![v(0), e(0), e(2)],
                vec![e(0), v(1), e(1)],
                vec![e(2), e(1), v(2)],
                vec![e(0), e(1), e(2)],
            ]
        }
        Shape::Tetrahedron => {
            let (m01, m12, m02, m03, m13, m23) = (e(0), e(1), e(2), e(3), e(4), e(5));
            vec![
                vec![v(0), m01, m02, m03],
                vec![m01, v(1), m12, m13],
                vec![m02, m12, v(2), m23],
                vec![m03, m13, m23, v(3)],
                vec![m01, m02, m03, m13],
                vec![m12, m02, m01, m13],
                vec![m02, m03, m13, m23],
                vec![m13, m12, m02, m23],
            ]
        }
        Shape::Interval | Shape::Quadrilateral | Shape::Hexahedron => tensor_children(shape),
    };
    let entity_children = entity_children(shape, &children);
    Refinement { shape, children, entity_children }
}

/// Child c of a tensor cell fills the corner at vertex c: its vertex w is the centre of the smallest
/// sub-entity of the parent that holds both vertices c and w.
fn tensor_children(shape: Shape) -> Vec<Vec<EntityRef>> {
    let n = shape.n_vertices();
    let smallest = |c: u8, w: u8| {
        (0..=shape.dim())
            .flat_map(|d| (0..shape.n_entities(d)).map(move |i| (d, i)))
            .find(|&(d, i)| {
                let vertices = shape.entity_vertices(d, i);
                vertices.contains(&c) && vertices.contains(&w)
            })
            .map(|(d, i)| EntityRef { dim: d as u8, index: i as u8 })
            .expect("the cell itself holds all its vertices")
    };
    (0..n as u8).map(|c| (0..n as u8).map(|w| smallest(c, w)).collect()).collect()
}

/// A child's sub-entity lies on a parent's one if the points of all its vertices do.
fn entity_children(shape: Shape, children: &[Vec<EntityRef>]) -> Vec<Vec<Vec<(u8, u8)>>> {
    let inherits = |vertices: &[EntityRef], d: usize, j: usize, i: usize| {
        shape.entity_vertices(d, j).iter().all(|&w| {
            let at = vertices[w as usize];
            shape.is_on((at.dim as usize, at.index as usize), (d, i))
        })
    };
    (0..=shape.dim())
        .map(|d| {
            (0..shape.n_entities(d))
                .map(|i| {
                    let mut on = Vec::new();
                    for (c, vertices) in children.iter().enumerate() {
                        for j in 0..shape.n_entities(d) {
                            if inherits(vertices, d, j, i) {
                                on.push((c as u8, j as u8));
                            }
                        }
                    }
                    on
                })
                .collect()
        })
        .collect()
}

impl Refinement {
    /// Number of children.
    pub fn n_children(&self) -> usize {
        self.children.len()
    }

    /// The parent's sub-entity (dimension, index) that holds sub-entity `j` of dimension `d` of a child, the
    /// smallest one: where a child's edge or face inherits its tags from. An edge inside a face has the face.
    ///
    /// # Panics
    /// If there is no such child or sub-entity.
    pub fn parent_entity(&self, child: usize, d: usize, j: usize) -> (usize, usize) {
        let points = self.shape.entity_vertices(d, j).iter().map(|&w| self.children[child][w as usize]);
        (d..=self.shape.dim())
            .flat_map(|e| (0..self.shape.n_entities(e)).map(move |i| (e, i)))
            .find(|&outer| {
                points.clone().all(|at| self.shape.is_on((at.dim as usize, at.index as usize), outer))
            })
            .expect("the cell itself holds all its children")
    }

    /// Reference coordinates in the parent of a child's vertices.
    ///
    /// # Panics
    /// If there is no such child.
    pub fn child_vertex_points(&self, child: usize) -> Vec<[f64; 3]> {
        self.children[child]
            .iter()
            .map(|at| {
                let (d, i) = (at.dim as usize, at.index as usize);
                self.shape.entity_point(d, i, self.shape.entity_shape(d, i).center())
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "refinement_tests.rs"]
mod tests;
