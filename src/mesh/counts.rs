//! How many vertices, edges, faces and cells a mesh has, from formulas and headers instead of the mesh.
//!
//! Imports `element`. Start at [`Counts::of_box`] and [`Counts::of_cells`]. What follows from the numbers of
//! entities alone is exact: nodes of a space ([`Counts::nodes`]), pairs of nodes that a matrix couples
//! ([`Counts::pairs`]), and uniform refinement ([`Counts::refined`]).

use super::boxes::BoxSpec;
use crate::element::{Lagrange, Nodes, Shape};

/// Numbers of entities of each shape. Faces of three-dimensional cells count as triangles and quadrilaterals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Dimension of the cells.
    pub dim: usize,
    /// Vertices.
    pub vertices: u64,
    /// Edges; in 1D the cells.
    pub edges: u64,
    /// Triangles: cells in 2D, faces in 3D.
    pub triangles: u64,
    /// Quadrilaterals: cells in 2D, faces in 3D.
    pub quadrilaterals: u64,
    /// Tetrahedra.
    pub tetrahedra: u64,
    /// Hexahedra.
    pub hexahedra: u64,
}

/// Facets on the boundary of a compact body of `n` cells of a shape: of a cube of as many.
fn surface(shape: Shape, n: u64) -> u64 {
    let n = n as f64;
    let facets = match shape {
        Shape::Tetrahedron => 12.0 * (n / 6.0).powf(2.0 / 3.0),
        Shape::Hexahedron => 6.0 * n.powf(2.0 / 3.0),
        _ => 0.0,
    };
    facets.round() as u64
}

impl Counts {
    /// Of a generated box: exact.
    pub fn of_box(spec: &BoxSpec) -> Counts {
        let n = |axis: usize| spec.cells.get(axis).copied().unwrap_or(0);
        let (x, y, z) = (n(0), n(1), n(2));
        match spec.shape {
            Shape::Triangle => Counts::of_cells((x + 1) * (y + 1), &[(spec.shape, 2 * x * y)], None),
            Shape::Quadrilateral => Counts::of_cells((x + 1) * (y + 1), &[(spec.shape, x * y)], None),
            Shape::Tetrahedron | Shape::Hexahedron => {
                let (per_box, per_side) = if spec.shape.is_simplex() { (6, 2) } else { (1, 1) };
                let cells = [(spec.shape, per_box * x * y * z)];
                let on_surface = 2 * per_side * (x * y + y * z + z * x);
                Counts::of_cells((x + 1) * (y + 1) * (z + 1), &cells, Some(on_surface))
            }
            _ => Counts::of_cells(x + 1, &[(Shape::Interval, x)], None),
        }
    }

    /// Of a mesh with that many vertices and cells.
    ///
    /// Edges and faces follow from counting facets twice and from Euler's formula for a body without holes,
    /// V - E + F - C = 1; each hole of a plane mesh, and each handle or cavity of a solid one, is one edge more
    /// or less. `boundary` is the number of facets on the boundary of a solid mesh; without it that of a cube of
    /// as many cells is taken.
    pub fn of_cells(vertices: u64, cells: &[(Shape, u64)], boundary: Option<u64>) -> Counts {
        let of = |shape: Shape| cells.iter().filter(|c| c.0 == shape).map(|c| c.1).sum::<u64>();
        let (tetrahedra, hexahedra) = (of(Shape::Tetrahedron), of(Shape::Hexahedron));
        let dim = cells.iter().filter(|c| c.1 > 0).map(|c| c.0.dim()).max().unwrap_or(0);
        let mut counts = Counts {
            dim,
            vertices,
            edges: of(Shape::Interval),
            triangles: of(Shape::Triangle),
            quadrilaterals: of(Shape::Quadrilateral),
            tetrahedra,
            hexahedra,
        };
        if dim == 2 {
            counts.edges = (vertices + counts.triangles + counts.quadrilaterals).saturating_sub(1);
        }
        if dim == 3 {
            let [t, h] = match (boundary, tetrahedra, hexahedra) {
                (Some(n), _, 0) => [n, 0],
                (Some(n), 0, _) => [0, n],
                _ => [surface(Shape::Tetrahedron, tetrahedra), surface(Shape::Hexahedron, hexahedra)],
            };
            counts.triangles = (4 * tetrahedra + t) / 2;
            counts.quadrilaterals = (6 * hexahedra + h) / 2;
            let faces = counts.triangles + counts.quadrilaterals;
            counts.edges = (vertices + faces).saturating_sub(tetrahedra + hexahedra + 1);
        }
        counts
    }

    /// Entities of a shape.
    pub fn of(&self, shape: Shape) -> u64 {
        match shape {
            Shape::Point => self.vertices,
            Shape::Interval => self.edges,
            Shape::Triangle => self.triangles,
            Shape::Quadrilateral => self.quadrilaterals,
            Shape::Tetrahedron => self.tetrahedra,
            Shape::Hexahedron => self.hexahedra,
        }
    }

    /// Cells by shape; shapes without cells are left out.
    pub fn cells(&self) -> Vec<(Shape, u64)> {
        let shapes = Shape::ALL.iter().filter(|shape| shape.dim() == self.dim && self.dim > 0);
        shapes.map(|&shape| (shape, self.of(shape))).filter(|cells| cells.1 > 0).collect()
    }

    /// All cells.
    pub fn n_cells(&self) -> u64 {
        self.cells().iter().map(|cells| cells.1).sum()
    }

    /// After one uniform refinement: every edge is halved, every face cut into four, every solid into eight.
    pub fn refined(&self) -> Counts {
        let Counts { dim, vertices, edges, triangles, quadrilaterals, tetrahedra, hexahedra } = *self;
        Counts {
            dim,
            vertices: vertices + edges + quadrilaterals + hexahedra,
            edges: 2 * edges + 3 * triangles + 4 * quadrilaterals + tetrahedra + 6 * hexahedra,
            triangles: 4 * triangles + 8 * tetrahedra,
            quadrilaterals: 4 * quadrilaterals + 12 * hexahedra,
            tetrahedra: 8 * tetrahedra,
            hexahedra: 8 * hexahedra,
        }
    }

    /// Sums over the shapes of entities of a number times that of such entities.
    fn sum(&self, per_entity: impl Fn(Shape) -> u64) -> u64 {
        Shape::ALL.iter().map(|&shape| per_entity(shape).saturating_mul(self.of(shape))).sum()
    }

    /// Nodes of a Lagrange space: those inside an entity belong to it alone.
    pub fn nodes(&self, degree: usize) -> u64 {
        self.sum(|shape| interior_nodes(shape, degree))
    }

    /// Ordered pairs of nodes that lie in one cell: entries of a scalar matrix. Two nodes of a cell have one
    /// smallest face that both lie in, and cells that share both share it, so pairs are counted by that face.
    pub fn pairs(&self, degree: usize) -> u64 {
        self.sum(|shape| interior_pairs(shape, degree))
    }
}

fn interior_nodes(shape: Shape, degree: usize) -> u64 {
    if shape == Shape::Point {
        return 1;
    }
    let basis = Lagrange::new(shape, degree, Nodes::Equispaced);
    basis.map_or(0, |basis| basis.entity_nodes(shape.dim(), 0).len() as u64)
}

/// Pairs of nodes of a shape that no entity of its boundary holds both of.
fn interior_pairs(shape: Shape, degree: usize) -> u64 {
    if shape == Shape::Point {
        return 1;
    }
    let Ok(basis) = Lagrange::new(shape, degree, Nodes::Equispaced) else { return 0 };
    let all = (basis.n_nodes() * basis.n_nodes()) as u64;
    let below: u64 = (0..shape.dim())
        .flat_map(|d| (0..shape.n_entities(d)).map(move |i| shape.entity_shape(d, i)))
        .map(|entity| interior_pairs(entity, degree))
        .sum();
    all - below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: Shape, cells: &[u64]) -> BoxSpec {
        BoxSpec { size: vec![1.0; cells.len()], cells: cells.to_vec(), shape, origin: [0.0; 3] }
    }

    #[test]
    fn boxes_by_hand() {
        let cube = Counts::of_box(&spec(Shape::Hexahedron, &[1, 1, 1]));
        assert_eq!((cube.vertices, cube.edges, cube.quadrilaterals, cube.hexahedra), (8, 12, 6, 1));
        let cut = Counts::of_box(&spec(Shape::Tetrahedron, &[1, 1, 1]));
        assert_eq!((cut.vertices, cut.edges, cut.triangles, cut.tetrahedra), (8, 19, 18, 6));
        let square = Counts::of_box(&spec(Shape::Triangle, &[2, 1]));
        assert_eq!((square.vertices, square.edges, square.triangles), (6, 9, 4));
        let line = Counts::of_box(&spec(Shape::Interval, &[5]));
        assert_eq!((line.vertices, line.edges, line.n_cells()), (6, 5, 5));
    }

    #[test]
    fn a_refined_box_is_a_finer_box() {
        for (shape, cells) in [
            (Shape::Interval, vec![3]),
            (Shape::Triangle, vec![3, 2]),
            (Shape::Quadrilateral, vec![3, 2]),
            (Shape::Tetrahedron, vec![3, 2, 4]),
            (Shape::Hexahedron, vec![3, 2, 4]),
        ] {
            let fine: Vec<u64> = cells.iter().map(|n| 2 * n).collect();
            let refined = Counts::of_box(&spec(shape, &cells)).refined();
            assert_eq!(refined, Counts::of_box(&spec(shape, &fine)), "{shape:?}");
        }
    }

    #[test]
    fn nodes_of_boxes() {
        for degree in 1..=4usize {
            let p = degree as u64;
            for shape in [Shape::Tetrahedron, Shape::Hexahedron] {
                let counts = Counts::of_box(&spec(shape, &[3, 2, 4]));
                assert_eq!(counts.nodes(degree), (3 * p + 1) * (2 * p + 1) * (4 * p + 1), "{shape:?}");
            }
        }
    }

    #[test]
    fn pairs_of_a_tensor_grid() {
        // Along a line each node couples with its neighbours up to degree away within a cell.
        let line = |n: u64, p: u64| n * (p + 1) * (p + 1) - (n - 1);
        for degree in 1..=3usize {
            let p = degree as u64;
            let counts = Counts::of_box(&spec(Shape::Hexahedron, &[3, 2, 4]));
            assert_eq!(counts.pairs(degree), line(3, p) * line(2, p) * line(4, p), "degree {degree}");
        }
        let counts = Counts::of_box(&spec(Shape::Tetrahedron, &[5, 4, 3]));
        assert_eq!(counts.pairs(1), counts.vertices + 2 * counts.edges);
    }

    #[test]
    fn edges_of_an_unstructured_mesh_are_nearly_right_without_its_surface() {
        let exact = Counts::of_box(&spec(Shape::Tetrahedron, &[20, 20, 20]));
        let guessed = Counts::of_cells(exact.vertices, &exact.cells(), None);
        assert_eq!(exact, guessed, "a cube is guessed exactly");
        let flat = Counts::of_box(&spec(Shape::Tetrahedron, &[80, 80, 4]));
        let guessed = Counts::of_cells(flat.vertices, &flat.cells(), None);
        assert!((guessed.edges as f64 / flat.edges as f64 - 1.0).abs() < 0.1);
    }
}
