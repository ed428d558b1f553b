//! How VTK and Gmsh number the nodes of their cells.
//!
//! Imports [`Shape`] and [`Lagrange`]. Start at [`vtk_lagrange_order`] for output, [`gmsh_order`] for reading.
//! Both tables were compared with the coordinates the programs report (VTK 9.7, Gmsh 4.15).

use super::{Lagrange, Nodes, Shape};

/// VTK's type of the Lagrange cell of a shape: the linear types at degree 1, `VTK_LAGRANGE_*` above.
pub fn vtk_cell_type(shape: Shape, degree: usize) -> u8 {
    match (shape, degree) {
        (Shape::Point, _) => 1,
        (Shape::Interval, 1) => 3,
        (Shape::Triangle, 1) => 5,
        (Shape::Quadrilateral, 1) => 9,
        (Shape::Tetrahedron, 1) => 10,
        (Shape::Hexahedron, 1) => 12,
        (Shape::Interval, _) => 68,
        (Shape::Triangle, _) => 69,
        (Shape::Quadrilateral, _) => 70,
        (Shape::Tetrahedron, _) => 71,
        (Shape::Hexahedron, _) => 72,
    }
}

/// Entry k is our number (in the equispaced Lagrange element) of the node that the cell of
/// [`vtk_cell_type`] has at position k. The hexahedron's edges are those of VTK 9.1 and later, which is what
/// reads VTKHDF files.
///
/// # Panics
/// If there is no Lagrange element of that degree.
pub fn vtk_lagrange_order(shape: Shape, degree: usize) -> Vec<u16> {
    let element = Lagrange::new(shape, degree, Nodes::Equispaced).expect("a degree that elements have");
    vtk_lattice(shape, degree)
        .into_iter()
        .map(|p| {
            let at = |node: &[f64; 3]| (0..3).all(|k| (node[k] * degree as f64 - p[k] as f64).abs() < 1e-6);
            element.nodes().iter().position(at).expect("VTK's nodes are the equispaced lattice") as u16
        })
        .collect()
}

/// Points of VTK's Lagrange cell as multiples of 1/degree, for degrees up to [`super::MAX_DEGREE`].
fn vtk_lattice(shape: Shape, n: usize) -> Vec<[usize; 3]> {
    let corner = |v: usize| shape.vertices()[v].map(|c| c as usize * n);
    match shape {
        Shape::Point => vec![[0; 3]],
        Shape::Triangle => vtk_triangle([corner(0), corner(1), corner(2)], n),
        Shape::Tetrahedron => vtk_tetrahedron([corner(0), corner(1), corner(2), corner(3)], n),
        Shape::Interval | Shape::Quadrilateral | Shape::Hexahedron => vtk_tensor(shape, n),
    }
}

/// The point `i` of `n` steps from `a` to `b`.
fn between(a: [usize; 3], b: [usize; 3], i: usize, n: usize) -> [usize; 3] {
    std::array::from_fn(|k| (a[k] * (n - i) + b[k] * i) / n)
}

/// Corners, edge interiors, then the inner triangle in the same manner. `n`: steps from corner to corner.
fn vtk_triangle(corners: [[usize; 3]; 3], n: usize) -> Vec<[usize; 3]> {
    if n == 0 {
        return vec![corners[0]];
    }
    let mut points = corners.to_vec();
    for [a, b] in [[0, 1], [1, 2], [2, 0]] {
        points.extend((1..n).map(|i| between(corners[a], corners[b], i, n)));
    }
    if n >= 3 {
        points.extend(vtk_triangle(inner(corners), n - 3));
    }
    points
}

/// Corners of the lattice inside a triangle, one step from its sides.
fn inner(c: [[usize; 3]; 3]) -> [[usize; 3]; 3] {
    // From corner a the inner corner lies one step along each of the two edges that leave it.
    let step = |from: [usize; 3], to: [usize; 3]| -> [isize; 3] {
        std::array::from_fn(|k| (to[k] as isize - from[k] as isize).signum())
    };
    std::array::from_fn(|a| {
        let (s, t) = (step(c[a], c[(a + 1) % 3]), step(c[a], c[(a + 2) % 3]));
        std::array::from_fn(|k| (c[a][k] as isize + s[k] + t[k]) as usize)
    })
}

fn vtk_tetrahedron(c: [[usize; 3]; 4], n: usize) -> Vec<[usize; 3]> {
    let mut points = c.to_vec();
    for [a, b] in [[0, 1], [1, 2], [2, 0], [0, 3], [1, 3], [2, 3]] {
        points.extend((1..n).map(|i| between(c[a], c[b], i, n)));
    }
    if n >= 3 {
        for [a, b, d] in [[0, 1, 3], [2, 3, 1], [0, 3, 2], [0, 2, 1]] {
            points.extend(vtk_triangle(inner([c[a], c[b], c[d]]), n - 3));
        }
    }
    if n == 4 {
        points.push([1, 1, 1]);
    }
    points
}

fn vtk_tensor(shape: Shape, n: usize) -> Vec<[usize; 3]> {
    let corner = |v: usize| shape.vertices()[v].map(|c| c as usize * n);
    let mut points: Vec<[usize; 3]> = (0..shape.n_vertices()).map(corner).collect();
    // Edges run along the axes, unlike the quadratic cells'.
    let edges: &[[usize; 2]] = match shape {
        Shape::Interval => &[[0, 1]],
        Shape::Quadrilateral => &[[0, 1], [1, 2], [3, 2], [0, 3]],
        _ => {
            &[[0, 1], [1, 2], [3, 2], [0, 3], [4, 5], [5, 6], [7, 6], [4, 7], [0, 4], [1, 5], [2, 6], [3, 7]]
        }
    };
    for &[a, b] in edges {
        points.extend((1..n).map(|i| between(corner(a), corner(b), i, n)));
    }
    let inner = || 1..n;
    match shape {
        Shape::Quadrilateral => points.extend(inner().flat_map(|j| inner().map(move |i| [i, j, 0]))),
        Shape::Hexahedron => {
            // Faces -x, +x, -y, +y, -z, +z, the lower free axis fastest.
            for axis in 0..3 {
                let (u, v) = [(1, 2), (0, 2), (0, 1)][axis];
                for side in [0, n] {
                    for j in inner() {
                        for i in inner() {
                            let mut p = [0; 3];
                            (p[axis], p[u], p[v]) = (side, i, j);
                            points.push(p);
                        }
                    }
                }
            }
            for k in inner() {
                for j in inner() {
                    points.extend(inner().map(|i| [i, j, k]));
                }
            }
        }
        _ => {}
    }
    points
}

/// Which element carries the geometry of a cell read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GeometryKind {
    /// Vertices only.
    Linear,
    /// The full second-degree element.
    Quadratic,
    /// Vertices and edge midpoints of a quadrilateral or hexahedron.
    Serendipity,
}

impl GeometryKind {
    /// The element whose nodes, in our order, carry the geometry. On points and simplices `Serendipity` is
    /// the same as `Quadratic`, whose nodes are on vertices and edges already.
    pub fn basis(self, shape: Shape) -> Lagrange {
        let element = match (self, shape) {
            (GeometryKind::Linear, _) => Lagrange::new(shape, 1, Nodes::Equispaced),
            (GeometryKind::Serendipity, Shape::Quadrilateral | Shape::Hexahedron) => {
                Lagrange::serendipity(shape)
            }
            _ => Lagrange::new(shape, 2, Nodes::Equispaced),
        };
        element.expect("degrees 1 and 2 exist on every shape")
    }

    /// Number of nodes of [`GeometryKind::basis`].
    pub const fn n_nodes(self, shape: Shape) -> usize {
        match (self, shape) {
            (GeometryKind::Linear, _) => shape.n_vertices(),
            (GeometryKind::Serendipity, _)
            | (GeometryKind::Quadratic, Shape::Point | Shape::Triangle | Shape::Tetrahedron) => match shape {
                Shape::Point => 1,
                Shape::Interval => 3,
                _ => shape.n_vertices() + shape.n_entities(1),
            },
            (GeometryKind::Quadratic, _) => 3usize.pow(shape.dim() as u32),
        }
    }
}

static IN_ORDER: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
static TETRAHEDRON_10: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 8];
static HEXAHEDRON_27: [u8; 27] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 9, 16, 18, 19, 17, 10, 12, 14, 15, 22, 23, 21, 24, 20, 25, 26];

/// What Gmsh's element type holds: its shape, its geometry, and for each of our nodes its position in Gmsh's
/// list. `None` for types that are not supported.
pub fn gmsh_order(gmsh_type: u32) -> Option<(Shape, GeometryKind, &'static [u8])> {
    use GeometryKind::*;
    let (shape, kind) = match gmsh_type {
        15 => (Shape::Point, Linear),
        1 => (Shape::Interval, Linear),
        8 => (Shape::Interval, Quadratic),
        2 => (Shape::Triangle, Linear),
        9 => (Shape::Triangle, Quadratic),
        3 => (Shape::Quadrilateral, Linear),
        16 => (Shape::Quadrilateral, Serendipity),
        10 => (Shape::Quadrilateral, Quadratic),
        4 => (Shape::Tetrahedron, Linear),
        11 => (Shape::Tetrahedron, Quadratic),
        5 => (Shape::Hexahedron, Linear),
        17 => (Shape::Hexahedron, Serendipity),
        12 => (Shape::Hexahedron, Quadratic),
        _ => return None,
    };
    let order: &'static [u8] = match gmsh_type {
        11 => &TETRAHEDRON_10,
        12 | 17 => &HEXAHEDRON_27,
        _ => &IN_ORDER,
    };
    Some((shape, kind, &order[..kind.n_nodes(shape)]))
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
