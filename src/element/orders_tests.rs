//! Node orders against the coordinates that VTK and Gmsh report for their own cells.

use super::*;

/// (shape, degree, nodes in VTK's order as digits in units of 1/degree): GetParametricCoords of
/// vtkLagrangeCurve, -Triangle, -Quadrilateral, -Tetra and -Hexahedron in VTK 9.7.
#[rustfmt::skip]
static VTK: &[(Shape, usize, &str)] = &[
    (Shape::Interval, 1, "000 100"),
    (Shape::Interval, 2, "000 200 100"),
    (Shape::Interval, 3, "000 300 100 200"),
    (Shape::Interval, 4, "000 400 100 200 300"),
    (Shape::Triangle, 1, "000 100 010"),
    (Shape::Triangle, 2, "000 200 020 100 110 010"),
    (Shape::Triangle, 3, "000 300 030 100 200 210 120 020 010 110"),
    (Shape::Triangle, 4, "000 400 040 100 200 300 310 220 130 030 020 010 110 210 120"),
    (Shape::Quadrilateral, 1, "000 100 110 010"),
    (Shape::Quadrilateral, 2, "000 200 220 020 100 210 120 010 110"),
    (Shape::Quadrilateral, 3, "000 300 330 030 100 200 310 320 130 230 010 020 110 210 120 220"),
    (Shape::Quadrilateral, 4, "000 400 440 040 100 200 300 410 420 430 140 240 340 010 020 030 110 210 310 120 220 320 130 \
         230 330"),
    (Shape::Tetrahedron, 1, "000 100 010 001"),
    (Shape::Tetrahedron, 2, "000 200 020 002 100 110 010 001 101 011"),
    (Shape::Tetrahedron, 3, "000 300 030 003 100 200 210 120 020 010 001 002 201 102 021 012 101 111 011 110"),
    (Shape::Tetrahedron, 4, "000 400 040 004 100 200 300 310 220 130 030 020 010 001 002 003 301 202 103 031 022 013 101 \
         201 102 121 112 211 011 012 021 110 120 210 111"),
    (Shape::Hexahedron, 1, "000 100 110 010 001 101 111 011"),
    (Shape::Hexahedron, 2, "000 200 220 020 002 202 222 022 100 210 120 010 102 212 122 012 001 201 221 021 011 211 101 \
         121 110 112 111"),
    (Shape::Hexahedron, 3, "000 300 330 030 003 303 333 033 100 200 310 320 130 230 010 020 103 203 313 323 133 233 013 \
         023 001 002 301 302 331 332 031 032 011 021 012 022 311 321 312 322 101 201 102 202 131 231 \
         132 232 110 210 120 220 113 213 123 223 111 211 121 221 112 212 122 222"),
    (Shape::Hexahedron, 4, "000 400 440 040 004 404 444 044 100 200 300 410 420 430 140 240 340 010 020 030 104 204 304 \
         414 424 434 144 244 344 014 024 034 001 002 003 401 402 403 441 442 443 041 042 043 011 021 \
         031 012 022 032 013 023 033 411 421 431 412 422 432 413 423 433 101 201 301 102 202 302 103 \
         203 303 141 241 341 142 242 342 143 243 343 110 210 310 120 220 320 130 230 330 114 214 314 \
         124 224 324 134 234 334 111 211 311 121 221 321 131 231 331 112 212 312 122 222 322 132 232 \
         332 113 213 313 123 223 323 133 233 333"),
];

/// (Gmsh type, shape, nodes in Gmsh's order as digits in units of 1/2 of the reference cell):
/// gmsh.model.mesh.getElementProperties in Gmsh 4.15.
#[rustfmt::skip]
static GMSH: &[(u32, Shape, &str)] = &[
    (15, Shape::Point, "000"),
    (1, Shape::Interval, "000 200"),
    (8, Shape::Interval, "000 200 100"),
    (2, Shape::Triangle, "000 200 020"),
    (9, Shape::Triangle, "000 200 020 100 110 010"),
    (3, Shape::Quadrilateral, "000 200 220 020"),
    (16, Shape::Quadrilateral, "000 200 220 020 100 210 120 010"),
    (10, Shape::Quadrilateral, "000 200 220 020 100 210 120 010 110"),
    (4, Shape::Tetrahedron, "000 200 020 002"),
    (11, Shape::Tetrahedron, "000 200 020 002 100 110 010 001 011 101"),
    (5, Shape::Hexahedron, "000 200 220 020 002 202 222 022"),
    (17, Shape::Hexahedron, "000 200 220 020 002 202 222 022 100 010 001 210 201 120 221 021 102 012 212 122"),
    (12, Shape::Hexahedron, "000 200 220 020 002 202 222 022 100 010 001 210 201 120 221 021 102 012 212 122 110 101 011 \
         211 121 112 111"),
];

fn digits(nodes: &str, unit: f64) -> Vec<[f64; 3]> {
    nodes
        .split_whitespace()
        .map(|p| std::array::from_fn(|k| f64::from(p.as_bytes()[k] - b'0') * unit))
        .collect()
}

fn same(a: [f64; 3], b: [f64; 3]) -> bool {
    (0..3).all(|k| (a[k] - b[k]).abs() < 1e-12)
}

#[test]
fn vtk_cells_find_our_nodes_where_they_expect_them() {
    let mut n_checked = 0;
    for &(shape, degree, nodes) in VTK {
        let element = Lagrange::new(shape, degree, Nodes::Equispaced).unwrap();
        let order = vtk_lagrange_order(shape, degree);
        let expected = digits(nodes, 1.0 / degree as f64);
        assert_eq!(order.len(), element.n_nodes());
        assert_eq!(order.len(), expected.len());
        for (k, (&ours, &theirs)) in order.iter().zip(&expected).enumerate() {
            assert!(same(element.nodes()[ours as usize], theirs), "{shape} degree {degree} position {k}");
        }
        n_checked += 1;
    }
    assert_eq!(n_checked, 20);
    assert_eq!(vtk_lagrange_order(Shape::Point, 3), [0]);
}

#[test]
fn vtk_types_are_those_of_its_header() {
    let linear = Shape::ALL.map(|shape| vtk_cell_type(shape, 1));
    assert_eq!(linear, [1, 3, 5, 9, 10, 12]);
    let lagrange = Shape::ALL.map(|shape| vtk_cell_type(shape, 3));
    assert_eq!(lagrange, [1, 68, 69, 70, 71, 72]);
}

#[test]
fn gmsh_elements_hold_our_nodes_at_the_positions_given() {
    for &(gmsh_type, expected_shape, nodes) in GMSH {
        let (shape, kind, order) = gmsh_order(gmsh_type).unwrap();
        let element = kind.basis(shape);
        let theirs = digits(nodes, 0.5);
        assert_eq!(shape, expected_shape);
        assert_eq!(kind.n_nodes(shape), element.n_nodes(), "type {gmsh_type}");
        assert_eq!(order.len(), theirs.len(), "type {gmsh_type}");
        for (k, &position) in order.iter().enumerate() {
            assert!(same(element.nodes()[k], theirs[position as usize]), "type {gmsh_type} node {k}");
        }
    }
    assert!(gmsh_order(6).is_none() && gmsh_order(0).is_none());
}

#[test]
fn geometry_counts_agree_with_their_elements() {
    for shape in Shape::ALL {
        for kind in [GeometryKind::Linear, GeometryKind::Quadratic, GeometryKind::Serendipity] {
            assert_eq!(kind.n_nodes(shape), kind.basis(shape).n_nodes(), "{kind:?} {shape}");
        }
    }
}
