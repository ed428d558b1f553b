//! The sides of VTK's cells, cut into triangles between the nodes.
//!
//! Imports `element`. Start at [`CellKind::of`].

use std::collections::HashMap;

use crate::element::{Lagrange, MAX_DEGREE, Nodes, Shape, vtk_cell_type, vtk_lagrange_order};

/// A triangle between points of a cell, and which of its sides (from each point to the next) lie on the rim
/// of the cell's side.
pub(super) type Triangle = ([u16; 3], [bool; 3]);

/// A side of a cell; of a plane cell, the cell itself.
pub(super) struct Side {
    /// The points at its corners.
    pub(super) corners: Vec<u16>,
    pub(super) triangles: Vec<Triangle>,
}

/// A kind of cell.
pub(super) struct CellKind {
    pub(super) dimension: usize,
    pub(super) sides: Vec<Side>,
    /// Of an interval: its points from one end to the other.
    pub(super) along: Vec<u16>,
}

impl CellKind {
    /// The kind of a VTK type with a number of points, if it is one that femdd writes.
    pub(super) fn of(vtk_type: u8, n_points: usize) -> Option<CellKind> {
        let (shape, degree, element) =
            Shape::ALL.into_iter().filter(|s| *s != Shape::Point).find_map(|shape| {
                (1..=MAX_DEGREE).filter(|&n| vtk_cell_type(shape, n) == vtk_type).find_map(|n| {
                    let element = Lagrange::new(shape, n, Nodes::Equispaced).ok()?;
                    (element.n_nodes() == n_points).then_some((shape, n, element))
                })
            })?;
        // VTK's points on the lattice of the nodes.
        let n = degree as i32;
        let on_lattice = |x: f64| (x * degree as f64).round() as i32;
        let points: Vec<[i32; 3]> = vtk_lagrange_order(shape, degree)
            .into_iter()
            .map(|node| element.nodes()[node as usize].map(on_lattice))
            .collect();
        let mut kind = CellKind { dimension: shape.dim(), sides: Vec::new(), along: Vec::new() };
        if shape == Shape::Interval {
            kind.along = (0..points.len() as u16).collect();
            kind.along.sort_by_key(|&k| points[k as usize][0]);
            return Some(kind);
        }
        // Each side by what its points fulfil, and by two coordinates that tell them apart.
        type On = fn([i32; 3], i32) -> bool;
        let sides: &[(On, [usize; 2])] = match shape {
            Shape::Triangle | Shape::Quadrilateral => &[(|_, _| true, [0, 1])],
            Shape::Tetrahedron => &[
                (|p, _| p[0] == 0, [1, 2]),
                (|p, _| p[1] == 0, [0, 2]),
                (|p, _| p[2] == 0, [0, 1]),
                (|p, n| p[0] + p[1] + p[2] == n, [0, 1]),
            ],
            _ => &[
                (|p, _| p[0] == 0, [1, 2]),
                (|p, n| p[0] == n, [1, 2]),
                (|p, _| p[1] == 0, [0, 2]),
                (|p, n| p[1] == n, [0, 2]),
                (|p, _| p[2] == 0, [0, 1]),
                (|p, n| p[2] == n, [0, 1]),
            ],
        };
        let simplex = matches!(shape, Shape::Triangle | Shape::Tetrahedron);
        for (on, [a, b]) in sides {
            let at: HashMap<[i32; 2], u16> = points
                .iter()
                .enumerate()
                .filter(|(_, p)| on(**p, n))
                .map(|(k, p)| ([p[*a], p[*b]], k as u16))
                .collect();
            kind.sides.push(side(&at, n, simplex));
        }
        Some(kind)
    }
}

/// A side whose points are known by two coordinates from 0 to `n`.
fn side(at: &HashMap<[i32; 2], u16>, n: i32, simplex: bool) -> Side {
    let ends: &[[i32; 2]] =
        if simplex { &[[0, 0], [1, 0], [0, 1]] } else { &[[0, 0], [1, 0], [1, 1], [0, 1]] };
    let corners = ends.iter().map(|[i, j]| at[&[i * n, j * n]]).collect();
    let rim = |p: [i32; 2], q: [i32; 2]| {
        let both = |on: &dyn Fn([i32; 2]) -> bool| on(p) && on(q);
        let low = both(&|p| p[0] == 0) || both(&|p| p[1] == 0);
        let high =
            if simplex { both(&|p| p[0] + p[1] == n) } else { both(&|p| p[0] == n) || both(&|p| p[1] == n) };
        low || high
    };
    let mut triangles = Vec::new();
    let mut add = |p: [[i32; 2]; 3]| {
        let on_rim = [0, 1, 2].map(|k| rim(p[k], p[(k + 1) % 3]));
        triangles.push((p.map(|p| at[&p]), on_rim));
    };
    for j in 0..n {
        for i in 0..if simplex { n - j } else { n } {
            add([[i, j], [i + 1, j], [i, j + 1]]);
            if !simplex || i + j + 1 < n {
                add([[i + 1, j], [i + 1, j + 1], [i, j + 1]]);
            }
        }
    }
    Side { corners, triangles }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_covered_once_and_rimmed_once() {
        for shape in [Shape::Triangle, Shape::Quadrilateral, Shape::Tetrahedron, Shape::Hexahedron] {
            for degree in 1..=MAX_DEGREE {
                let element = Lagrange::new(shape, degree, Nodes::Equispaced).unwrap();
                let kind = CellKind::of(vtk_cell_type(shape, degree), element.n_nodes()).unwrap();
                assert_eq!(kind.dimension, shape.dim());
                assert_eq!(kind.sides.len(), if shape.dim() == 2 { 1 } else { shape.n_entities(2) });
                let order = vtk_lagrange_order(shape, degree);
                for side in &kind.sides {
                    let point = |k: u16| element.nodes()[order[k as usize] as usize];
                    let area = |k: [u16; 3]| {
                        let [a, b, c] = k.map(point);
                        let (u, v) = ([0, 1, 2].map(|d| b[d] - a[d]), [0, 1, 2].map(|d| c[d] - a[d]));
                        let normal = [0, 1, 2]
                            .map(|d| u[(d + 1) % 3] * v[(d + 2) % 3] - u[(d + 2) % 3] * v[(d + 1) % 3]);
                        0.5 * normal.iter().map(|x| x * x).sum::<f64>().sqrt()
                    };
                    let c = &side.corners;
                    let whole =
                        area([c[0], c[1], c[2]]) + if c.len() == 4 { area([c[0], c[2], c[3]]) } else { 0.0 };
                    let parts: f64 = side.triangles.iter().map(|t| area(t.0)).sum();
                    assert!((whole - parts).abs() < 1e-12, "{shape:?} of degree {degree}");
                    let rims: usize = side.triangles.iter().map(|t| t.1.iter().filter(|r| **r).count()).sum();
                    assert_eq!(rims, c.len() * degree, "{shape:?} of degree {degree}");
                }
            }
        }
        assert!(CellKind::of(13, 6).is_none(), "a wedge");
        assert_eq!(CellKind::of(68, 4).unwrap().along, [0, 2, 3, 1]);
    }
}
