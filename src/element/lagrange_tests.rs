//! Bases against their contract, and nodes shared by cells in every relative orientation.

use super::*;
use crate::element::check_element;

fn elements() -> Vec<Lagrange> {
    let mut all = vec![
        Lagrange::serendipity(Shape::Quadrilateral).unwrap(),
        Lagrange::serendipity(Shape::Hexahedron).unwrap(),
    ];
    for shape in Shape::ALL {
        for degree in 1..=MAX_DEGREE {
            for nodes in [Nodes::Spectral, Nodes::Equispaced] {
                all.push(Lagrange::new(shape, degree, nodes).unwrap());
            }
        }
    }
    all
}

#[test]
fn every_element_keeps_the_contract() {
    for element in elements() {
        check_element(&element).unwrap();
    }
}

#[test]
fn the_contract_notices_a_wrong_basis() {
    let mut element = Lagrange::new(Shape::Triangle, 2, Nodes::Spectral).unwrap();
    element.coefficients[7] += 1e-6;
    assert!(check_element(&element).is_err());
}

#[test]
fn degrees_that_do_not_exist_are_errors() {
    for degree in [0, MAX_DEGREE + 1] {
        let error = Lagrange::new(Shape::Hexahedron, degree, Nodes::Spectral).unwrap_err();
        assert_eq!(error, Error::Degree { shape: Shape::Hexahedron, degree });
    }
    assert!(Lagrange::serendipity(Shape::Tetrahedron).is_err());
}

#[test]
fn node_counts() {
    let count = |shape, degree| Lagrange::new(shape, degree, Nodes::Spectral).unwrap().n_nodes();
    for n in 1..=MAX_DEGREE {
        assert_eq!(count(Shape::Point, n), 1);
        assert_eq!(count(Shape::Interval, n), n + 1);
        assert_eq!(count(Shape::Triangle, n), (n + 1) * (n + 2) / 2);
        assert_eq!(count(Shape::Quadrilateral, n), (n + 1).pow(2));
        assert_eq!(count(Shape::Tetrahedron, n), (n + 1) * (n + 2) * (n + 3) / 6);
        assert_eq!(count(Shape::Hexahedron, n), (n + 1).pow(3));
    }
}

#[test]
fn closures_carry_the_element_of_the_entity() {
    for degree in 1..=MAX_DEGREE {
        for shape in Shape::ALL {
            let element = Lagrange::new(shape, degree, Nodes::Spectral).unwrap();
            for d in 0..=shape.dim() {
                for i in 0..shape.n_entities(d) {
                    let sub = Lagrange::new(shape.entity_shape(d, i), degree, Nodes::Spectral).unwrap();
                    let closure = element.closure_nodes(d, i);
                    assert_eq!(closure.len(), sub.n_nodes());
                    for (&node, &p) in closure.iter().zip(sub.nodes()) {
                        let x = shape.entity_point(d, i, p);
                        let y = element.nodes()[node as usize];
                        assert!((0..3).all(|k| (x[k] - y[k]).abs() < 1e-14));
                    }
                    // Traces of the shape functions are the entity's own.
                    let p = [0.31, 0.23, 0.17];
                    let here = element.tabulate(&[shape.entity_point(d, i, p)], 0);
                    let there = sub.tabulate(&[p], 0);
                    for (k, &node) in closure.iter().enumerate() {
                        let difference = here.values[node as usize] - there.values[k];
                        assert!(difference.abs() < 1e-12, "{shape} {degree} entity {d} {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn spectral_nodes_are_gauss_lobatto_on_edges_and_symmetric() {
    let s = 0.5 * (3.0f64 / 7.0).sqrt();
    for shape in Shape::ALL.into_iter().filter(|s| s.dim() > 0) {
        let element = Lagrange::new(shape, 4, Nodes::Spectral).unwrap();
        for e in 0..shape.n_entities(1) {
            for (&node, t) in element.entity_nodes(1, e).iter().zip([0.5 - s, 0.5, 0.5 + s]) {
                let x = shape.entity_point(1, e, [t, 0.0, 0.0]);
                let y = element.nodes()[node as usize];
                assert!((0..3).all(|k| (x[k] - y[k]).abs() < 1e-14));
            }
        }
    }
    // Isaac's nodes of degree 4 inside a triangle: by hand, the one of multi-index (2, 1, 1).
    let line = [0.0, 0.5 - s, 0.5, 0.5 + s, 1.0];
    let g3 = [0.0, 0.5 - 0.5 / 5f64.sqrt(), 0.5 + 0.5 / 5f64.sqrt(), 1.0];
    let (w0, w1, w2) = (line[2], line[3], line[3]);
    let b0 = (w1 * g3[2] + w2 * g3[2]) / (w0 + w1 + w2);
    let b1 = (w0 * 0.5 + w2 * g3[1]) / (w0 + w1 + w2);
    let element = Lagrange::new(Shape::Triangle, 4, Nodes::Spectral).unwrap();
    let x = element.nodes()[element.entity_nodes(2, 0)[0] as usize];
    assert!((x[0] - b1).abs() < 1e-14 && (1.0 - x[0] - x[1] - b0).abs() < 1e-14, "{x:?} {b0} {b1}");
}

#[test]
fn spectral_bases_of_degree_4_have_a_small_lebesgue_constant() {
    // The uniform lattice exceeds these (2.2 on the interval, 4.5 on the tetrahedron).
    for (shape, bound) in [(Shape::Interval, 1.65), (Shape::Triangle, 2.7), (Shape::Tetrahedron, 4.1)] {
        let element = Lagrange::new(shape, 4, Nodes::Spectral).unwrap();
        let n = 20;
        let mut lebesgue: f64 = 0.0;
        for k in 0..=n * usize::from(shape.dim() > 2) {
            for j in 0..=n * usize::from(shape.dim() > 1) {
                for i in 0..=n {
                    let x = [i, j, k].map(|c| c as f64 / n as f64);
                    if shape.contains(x, 1e-12) {
                        let t = element.tabulate(&[x], 0);
                        lebesgue = lebesgue.max(t.values.iter().map(|v| v.abs()).sum());
                    }
                }
            }
        }
        assert!(lebesgue < bound, "{shape}: {lebesgue}");
    }
}

/// All orders of 0..n, by Heap's algorithm.
fn permutations(n: usize) -> Vec<Vec<u64>> {
    fn go(k: usize, a: &mut Vec<u64>, out: &mut Vec<Vec<u64>>) {
        if k <= 1 {
            out.push(a.clone());
            return;
        }
        for i in 0..k {
            go(k - 1, a, out);
            a.swap(if k & 1 == 0 { i } else { 0 }, k - 1);
        }
    }
    let mut out = Vec::new();
    go(n, &mut (0..n as u64).collect(), &mut out);
    out
}

/// `map` is the cell's geometry. Places the interior nodes of entity `i` of a cell whose vertices have these global numbers and positions
/// at their canonical positions: what a second cell must reproduce.
fn canonical_points(
    element: &Lagrange,
    map: &Lagrange,
    d: usize,
    i: usize,
    globals: &[u64],
    positions: &[[f64; 3]],
) -> Vec<[f64; 3]> {
    let shape = element.shape();
    let vertices = shape.entity_vertices(d, i);
    let of_entity: Vec<u64> = vertices.iter().map(|&v| globals[v as usize]).collect();
    let nodes = element.entity_nodes(d, i);
    let order = element.canonical_order(d, i, &of_entity);
    assert_eq!(order.len(), nodes.len());
    let mut points = vec![[f64::NAN; 3]; nodes.len()];
    for (&node, &position) in nodes.iter().zip(order) {
        let table = map.tabulate(&[element.nodes()[node as usize]], 0);
        let mut x = [0.0; 3];
        for (value, p) in table.values.iter().zip(positions) {
            for k in 0..3 {
                x[k] += value * p[k];
            }
        }
        points[position as usize] = x;
    }
    assert!(points.iter().all(|p| p[0].is_finite()), "canonical order is not a permutation");
    points
}

/// The symmetries of a shape that keep its vertices' adjacency, as vertex permutations: two cells can meet in
/// an entity of theirs exactly in these relative orientations.
fn symmetries(shape: Shape) -> Vec<Vec<u64>> {
    let edges = |shape: Shape| -> Vec<(u64, u64)> {
        (0..shape.n_entities(1))
            .map(|e| {
                let v = shape.entity_vertices(1, e);
                (u64::from(v[0].min(v[1])), u64::from(v[0].max(v[1])))
            })
            .collect()
    };
    let all = edges(shape);
    permutations(shape.n_vertices())
        .into_iter()
        .filter(|p| {
            all.iter().all(|&(a, b)| {
                let (x, y) = (p[a as usize], p[b as usize]);
                all.contains(&(x.min(y), x.max(y)))
            })
        })
        .collect()
}

#[test]
fn cells_that_share_an_entity_agree_on_its_nodes_in_every_orientation() {
    for shape in
        [Shape::Interval, Shape::Triangle, Shape::Quadrilateral, Shape::Tetrahedron, Shape::Hexahedron]
    {
        // A skewed but affine cell, so that node positions do not depend on the frame they are computed in.
        let place = |v: [f64; 3]| {
            [v[0] + 0.3 * v[1] - 0.1 * v[2], 1.1 * v[1] + 0.2 * v[2], 0.9 * v[2] + 0.15 * v[0] - 0.2 * v[1]]
        };
        let positions: Vec<[f64; 3]> = shape.vertices().iter().map(|&v| place(v)).collect();
        let map = Lagrange::new(shape, 1, Nodes::Spectral).unwrap();
        let symmetries = symmetries(shape);
        let expected = match shape {
            Shape::Interval => 2,
            Shape::Triangle => 6,
            Shape::Quadrilateral => 8,
            Shape::Tetrahedron => 24,
            _ => 48,
        };
        assert_eq!(symmetries.len(), expected);
        // Several numberings of the vertices: the relative order decides.
        let n = shape.n_vertices();
        let numberings: Vec<Vec<u64>> = if n <= 4 {
            permutations(n)
        } else {
            (0..6u64).map(|s| (0..8u64).map(|v| (v * 5 + s * 7 + s * v * v) % 97 * 8 + v).collect()).collect()
        };
        for degree in 2..=MAX_DEGREE {
            for kind in [Nodes::Spectral, Nodes::Equispaced] {
                let element = Lagrange::new(shape, degree, kind).unwrap();
                for globals in &numberings {
                    for symmetry in &symmetries {
                        // The same physical cell with its vertices listed in another order.
                        let other_globals: Vec<u64> = symmetry.iter().map(|&v| globals[v as usize]).collect();
                        let other_positions: Vec<[f64; 3]> =
                            symmetry.iter().map(|&v| positions[v as usize]).collect();
                        for d in 1..=shape.dim().min(2) {
                            for i in 0..shape.n_entities(d) {
                                let mut mine: Vec<u64> = shape
                                    .entity_vertices(d, i)
                                    .iter()
                                    .map(|&v| globals[v as usize])
                                    .collect();
                                mine.sort_unstable();
                                let j = (0..shape.n_entities(d))
                                    .find(|&j| {
                                        let mut theirs: Vec<u64> = shape
                                            .entity_vertices(d, j)
                                            .iter()
                                            .map(|&v| other_globals[v as usize])
                                            .collect();
                                        theirs.sort_unstable();
                                        theirs == mine
                                    })
                                    .unwrap();
                                let a = canonical_points(&element, &map, d, i, globals, &positions);
                                let b =
                                    canonical_points(&element, &map, d, j, &other_globals, &other_positions);
                                for (x, y) in a.iter().zip(&b) {
                                    assert!(
                                        (0..3).all(|k| (x[k] - y[k]).abs() < 1e-12),
                                        "{shape} degree {degree} {kind:?} entity {d} {i}: {x:?} {y:?}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn canonical_frames_follow_the_rule() {
    let element = Lagrange::new(Shape::Hexahedron, 3, Nodes::Equispaced).unwrap();
    // Face with local nodes (1/3,1/3), (2/3,1/3), (1/3,2/3), (2/3,2/3). Lowest number at corner 2, the lower of
    // its neighbours at corner 1: the first axis runs down from (1,1) to (1,0).
    assert_eq!(element.canonical_order(2, 0, &[9, 4, 2, 7]), [3, 1, 2, 0]);
    assert_eq!(element.canonical_order(2, 0, &[0, 1, 2, 3]), [0, 1, 2, 3]);
    assert_eq!(element.canonical_order(2, 0, &[0, 3, 2, 1]), [0, 2, 1, 3]);
    assert_eq!(element.canonical_order(1, 0, &[5, 3]), [1, 0]);
    assert_eq!(element.canonical_order(3, 0, &[0; 8]).len(), 8);
    let element = Lagrange::new(Shape::Tetrahedron, 4, Nodes::Equispaced).unwrap();
    assert_eq!(element.canonical_order(2, 0, &[1, 2, 3]), [0, 1, 2]);
    // Ascending numbers visit the local vertices 1, 2, 0.
    assert_eq!(element.canonical_order(2, 0, &[30, 10, 20]), [2, 0, 1]);
}
