//! Children tile their parent, later generations stay well shaped, tags are inherited where they lie.

use super::*;
use crate::element::{Lagrange, Nodes, Quadrature};

/// Jacobian determinant of the multilinear map to `vertices` at `p`.
fn determinant(shape: Shape, vertices: &[[f64; 3]], p: [f64; 3]) -> f64 {
    let dim = shape.dim();
    let table = Lagrange::new(shape, 1, Nodes::Spectral).unwrap().tabulate(&[p], 1);
    let mut j = [[0.0; 3]; 3];
    for (i, x) in vertices.iter().enumerate() {
        for (a, row) in j.iter_mut().enumerate().take(dim) {
            for (b, entry) in row.iter_mut().enumerate().take(dim) {
                *entry += x[a] * table.gradients[i * dim + b];
            }
        }
    }
    for (k, row) in j.iter_mut().enumerate().skip(dim) {
        row[k] = 1.0;
    }
    j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1]) - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0])
        + j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0])
}

#[test]
fn children_are_positive_and_tile_their_parent() {
    for shape in Shape::ALL {
        let refined = refinement(shape);
        assert_eq!(refined.n_children(), 1 << shape.dim());
        let expected = 1.0 / refined.n_children() as f64;
        let mut total = 0.0;
        let map = Lagrange::new(shape, 1, Nodes::Spectral).unwrap();
        let rule = Quadrature::new(shape, 4).unwrap();
        // Integrals of x^2 y^... over the children add up to the parent's: they overlap nowhere.
        let f = |x: [f64; 3]| (1.0 + x[0]) * (1.0 + 2.0 * x[1] * x[0] + 3.0 * x[2] * x[2]);
        let whole: f64 = rule.points.iter().zip(&rule.weights).map(|(x, w)| w * f(*x)).sum();
        let mut parts = 0.0;
        for c in 0..refined.n_children() {
            let vertices = refined.child_vertex_points(c);
            for &v in shape.vertices() {
                let det = determinant(shape, &vertices, v);
                assert!((det - expected).abs() < 1e-14, "{shape} child {c}: {det}");
            }
            total += expected * shape.measure();
            let table = map.tabulate(&rule.points, 0);
            for (q, w) in rule.weights.iter().enumerate() {
                let mut x = [0.0; 3];
                for (n, p) in table.values_at(q).iter().zip(&vertices) {
                    for k in 0..3 {
                        x[k] += n * p[k];
                    }
                }
                assert!(shape.contains(x, 1e-14));
                parts += w * expected * f(x);
            }
        }
        assert!((total - shape.measure()).abs() < 1e-14);
        assert!((parts - whole).abs() < 1e-14, "{shape}: {parts} {whole}");
    }
}

#[test]
fn no_two_children_overlap() {
    for shape in Shape::ALL.into_iter().filter(|s| s.dim() > 0) {
        let refined = refinement(shape);
        let map = Lagrange::new(shape, 1, Nodes::Spectral).unwrap();
        let dim = shape.dim();
        for a in 0..refined.n_children() {
            let va = refined.child_vertex_points(a);
            for p in Quadrature::new(shape, 5).unwrap().points {
                let mut x = [0.0; 3];
                for (n, v) in map.tabulate(&[p], 0).values.iter().zip(&va) {
                    for k in 0..3 {
                        x[k] += n * v[k];
                    }
                }
                for b in (0..refined.n_children()).filter(|&b| b != a) {
                    // Inside test by volumes for simplices, by boxes for tensor cells.
                    let vb = refined.child_vertex_points(b);
                    let inside = if matches!(shape, Shape::Triangle | Shape::Tetrahedron) {
                        (0..=dim).all(|k| {
                            let mut with = vb.clone();
                            with[k] = x;
                            determinant(shape, &with, shape.center()) > 1e-12
                        })
                    } else {
                        (0..dim).all(|k| {
                            let low = vb.iter().map(|v| v[k]).fold(f64::MAX, f64::min);
                            let high = vb.iter().map(|v| v[k]).fold(f64::MIN, f64::max);
                            x[k] > low + 1e-12 && x[k] < high - 1e-12
                        })
                    };
                    assert!(!inside, "{shape}: children {a} and {b} overlap at {x:?}");
                }
            }
        }
    }
}

#[test]
fn tags_are_inherited_exactly_where_they_lie() {
    for shape in Shape::ALL {
        let refined = refinement(shape);
        let points: Vec<Vec<[f64; 3]>> =
            (0..refined.n_children()).map(|c| refined.child_vertex_points(c)).collect();
        for d in 0..=shape.dim() {
            for i in 0..shape.n_entities(d) {
                // Geometrically: a point lies on the closed entity if its distance, by projection on the
                // entity's axes, vanishes and its coordinates are inside.
                let on_entity = |x: [f64; 3]| {
                    let sub = shape.entity_shape(d, i);
                    let origin = shape.entity_point(d, i, [0.0; 3]);
                    let grid = 4;
                    let steps = |active: bool| if active { grid } else { 0 };
                    (0..=steps(d > 0)).any(|a| {
                        (0..=steps(d > 1)).any(|b| {
                            (0..=steps(d > 2)).any(|c| {
                                let p = [a, b, c].map(|s| s as f64 / grid as f64);
                                let y = if d == 0 { origin } else { shape.entity_point(d, i, p) };
                                sub.contains(p, 1e-12) && (0..3).all(|k| (x[k] - y[k]).abs() < 1e-12)
                            })
                        })
                    })
                };
                let mut measure = std::collections::BTreeMap::new();
                for (c, vertices) in points.iter().enumerate() {
                    for j in 0..shape.n_entities(d) {
                        let corners: Vec<[f64; 3]> =
                            shape.entity_vertices(d, j).iter().map(|&v| vertices[v as usize]).collect();
                        let lies = corners.iter().all(|&x| on_entity(x));
                        let listed = refined.entity_children[d][i].contains(&(c as u8, j as u8));
                        assert_eq!(lies, listed, "{shape} entity {d} {i}, child {c} sub-entity {j}");
                        if listed {
                            assert_eq!(refined.parent_entity(c, d, j), (d, i));
                            let mut key: Vec<[i64; 3]> =
                                corners.iter().map(|x| x.map(|v| (v * 8.0).round() as i64)).collect();
                            key.sort_unstable();
                            measure.insert(key, ());
                        }
                    }
                }
                // 2^d distinct pieces cover the entity.
                assert_eq!(measure.len(), 1 << d, "{shape} entity {d} {i}");
            }
        }
    }
}

#[test]
fn repeated_refinement_of_tetrahedra_keeps_three_similarity_classes() {
    let refined = refinement(Shape::Tetrahedron);
    // Skewed on purpose.
    let mut cells = vec![vec![[0.0, 0.0, 0.0], [1.3, 0.1, 0.2], [0.2, 1.1, -0.1], [0.3, -0.2, 0.8]]];
    let mut classes = std::collections::BTreeSet::new();
    for level in 0..4 {
        let scale = 4f64.powi(level);
        for cell in &cells {
            assert!(determinant(Shape::Tetrahedron, cell, [0.25; 3]) > 0.0);
            // Squared edge lengths, opposite ones paired, at the size of the initial cell.
            let length = |a: usize, b: usize| {
                let s: f64 = (0..3).map(|k| (cell[a][k] - cell[b][k]).powi(2)).sum();
                (s * scale * 1e6).round() as i64
            };
            let mut pairs: Vec<(i64, i64)> = [(0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)]
                .iter()
                .map(|&(a, b, c, d)| (length(a, b).min(length(c, d)), length(a, b).max(length(c, d))))
                .collect();
            pairs.sort_unstable();
            classes.insert(pairs);
        }
        cells = cells
            .iter()
            .flat_map(|cell| {
                (0..8).map(|c| {
                    refined
                        .child_vertex_points(c)
                        .iter()
                        .map(|p| {
                            let b = [1.0 - p[0] - p[1] - p[2], p[0], p[1], p[2]];
                            std::array::from_fn(|k| (0..4).map(|v| b[v] * cell[v][k]).sum())
                        })
                        .collect::<Vec<[f64; 3]>>()
                })
            })
            .collect();
    }
    assert_eq!(cells.len(), 4096);
    assert!(classes.len() <= 3, "{} classes", classes.len());
}
