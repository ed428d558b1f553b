//! Lagrange bases of degree 1 to 4 on every shape, serendipity geometry, and the order in which cells that
//! share an edge or a face agree to see its nodes.
//!
//! Imports [`Shape`] and polynomials.rs. Start at [`Lagrange::new`]; [`Lagrange::canonical_order`] is what a
//! DOF numbering needs, [`Lagrange::tabulate`] what an integration loop needs.

use std::sync::OnceLock;

use super::polynomials::{Span, gauss_lobatto, invert, orthonormal};
use super::{Error, Shape};

/// Highest Lagrange degree.
pub const MAX_DEGREE: usize = 4;

/// Nodes closer than this are the same; neighbouring ones are 0.17 apart at degree 4.
const SAME: f64 = 1e-9;

/// Where the nodes of a Lagrange element lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nodes {
    /// Gauss-Lobatto points on edges and in tensor products, recursive interpolation nodes on simplices.
    ///
    /// Source: T. Isaac, Recursive, parameter-free, explicitly defined interpolation nodes for simplices,
    /// SIAM J. Sci. Comput. 42 (2020).
    Spectral,
    /// The uniform lattice, as in VTK and Gmsh files.
    Equispaced,
}

impl Nodes {
    /// The `degree + 1` points on \[0, 1\]; the midpoint for degree 0.
    fn line(self, degree: usize) -> Vec<f64> {
        match self {
            Nodes::Spectral => gauss_lobatto(degree),
            Nodes::Equispaced if degree == 0 => vec![0.5],
            Nodes::Equispaced => (0..=degree).map(|i| i as f64 / degree as f64).collect(),
        }
    }

    /// Barycentric coordinates of the node with multi-index `alpha` on the simplex of `alpha.len()` vertices.
    fn simplex(self, alpha: &[usize]) -> Vec<f64> {
        let n: usize = alpha.iter().sum();
        match self {
            Nodes::Equispaced => alpha.iter().map(|&a| a as f64 / n as f64).collect(),
            Nodes::Spectral if alpha.len() == 1 => vec![1.0],
            Nodes::Spectral => {
                let line = self.line(n);
                let mut x = vec![0.0; alpha.len()];
                let mut total = 0.0;
                for skip in 0..alpha.len() {
                    let facet: Vec<usize> =
                        alpha.iter().enumerate().filter(|&(k, _)| k != skip).map(|(_, &a)| a).collect();
                    let weight = line[n - alpha[skip]];
                    if weight == 0.0 {
                        continue;
                    }
                    let on_facet = self.simplex(&facet);
                    for (k, b) in on_facet.into_iter().enumerate() {
                        x[k + usize::from(k >= skip)] += weight * b;
                    }
                    total += weight;
                }
                x.into_iter().map(|b| b / total).collect()
            }
        }
    }

    /// Interior nodes of a cell of degree `n`, first coordinate fastest.
    fn interior(self, shape: Shape, n: usize) -> Vec<[f64; 3]> {
        let line = self.line(n);
        let mut nodes = Vec::new();
        let range = |active: bool| if active { 1..n } else { 0..1 };
        for k in range(shape.dim() > 2) {
            for j in range(shape.dim() > 1) {
                for i in range(shape.dim() > 0) {
                    match shape {
                        Shape::Point => nodes.push([0.0; 3]),
                        Shape::Interval => nodes.push([line[i], 0.0, 0.0]),
                        Shape::Quadrilateral => nodes.push([line[i], line[j], 0.0]),
                        Shape::Hexahedron => nodes.push([line[i], line[j], line[k]]),
                        Shape::Triangle if i + j < n => {
                            let b = self.simplex(&[n - i - j, i, j]);
                            nodes.push([b[1], b[2], 0.0]);
                        }
                        Shape::Tetrahedron if i + j + k < n => {
                            let b = self.simplex(&[n - i - j - k, i, j, k]);
                            nodes.push([b[1], b[2], b[3]]);
                        }
                        Shape::Triangle | Shape::Tetrahedron => {}
                    }
                }
            }
        }
        nodes
    }
}

/// Position in `nodes` of the one at `x`.
fn find(nodes: &[[f64; 3]], x: [f64; 3]) -> Option<usize> {
    nodes.iter().position(|n| (0..3).all(|k| (n[k] - x[k]).abs() < SAME))
}

/// Shape functions at points, flat, with the point slowest and the node next.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Number of points.
    pub n_points: usize,
    /// Number of nodes, hence of shape functions.
    pub n_nodes: usize,
    /// Dimension of the reference cell.
    pub dim: usize,
    /// `[point][node]`.
    pub values: Vec<f64>,
    /// `[point][node][axis]`, with respect to reference coordinates; empty if not asked for.
    pub gradients: Vec<f64>,
    /// `[point][node][axis][axis]`; empty if not asked for.
    pub hessians: Vec<f64>,
}

impl Table {
    /// Values of all shape functions at a point.
    #[inline]
    pub fn values_at(&self, point: usize) -> &[f64] {
        &self.values[point * self.n_nodes..(point + 1) * self.n_nodes]
    }

    /// Gradients of all shape functions at a point, `[node][axis]`.
    #[inline]
    pub fn gradients_at(&self, point: usize) -> &[f64] {
        let stride = self.n_nodes * self.dim;
        &self.gradients[point * stride..(point + 1) * stride]
    }

    /// Hessians of all shape functions at a point, `[node][axis][axis]`.
    #[inline]
    pub fn hessians_at(&self, point: usize) -> &[f64] {
        let stride = self.n_nodes * self.dim * self.dim;
        &self.hessians[point * stride..(point + 1) * stride]
    }
}

/// Permutations of the interior nodes of edges and faces by orientation.
#[derive(Clone, Debug)]
struct Orders {
    /// By whether the first vertex has the higher number.
    edge: [Vec<u8>; 2],
    /// By the three comparisons of [`triangle_orientation`]; two of the eight cannot occur.
    triangle: [Vec<u8>; 8],
    /// By twice the origin plus whether the first axis runs towards the following vertex.
    quadrilateral: [Vec<u8>; 8],
    /// The identity, for vertices and the interior of solids.
    identity: Vec<u8>,
}

fn triangle_orientation(g: &[u64]) -> usize {
    usize::from(g[0] > g[1]) | usize::from(g[0] > g[2]) << 1 | usize::from(g[1] > g[2]) << 2
}

fn quadrilateral_orientation(g: &[u64]) -> usize {
    let origin = (1..4).fold(0, |best, i| if g[i] < g[best] { i } else { best });
    2 * origin + usize::from(g[(origin + 1) % 4] < g[(origin + 3) % 4])
}

impl Orders {
    fn new(nodes: Nodes, degree: usize, faces_have_nodes: bool, n_cell_interior: usize) -> Orders {
        let position = |interior: &[[f64; 3]], x: [f64; 3]| {
            find(interior, x).expect("node sets are invariant under the symmetries of their cell") as u8
        };
        let line = nodes.interior(Shape::Interval, degree);
        let edge = [false, true].map(|flip| {
            line.iter()
                .map(|x| position(&line, [if flip { 1.0 - x[0] } else { x[0] }, 0.0, 0.0]))
                .collect::<Vec<u8>>()
        });
        let interior = |shape| if faces_have_nodes { nodes.interior(shape, degree) } else { Vec::new() };
        let face = interior(Shape::Triangle);
        let mut triangle: [Vec<u8>; 8] = Default::default();
        for g in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            triangle[triangle_orientation(&g)] = face
                .iter()
                .map(|x| {
                    // g[v] is the rank of local vertex v, hence its place in the canonical triangle.
                    let mut canonical = [0.0; 3];
                    for (v, b) in [1.0 - x[0] - x[1], x[0], x[1]].into_iter().enumerate() {
                        canonical[g[v] as usize] = b;
                    }
                    position(&face, [canonical[1], canonical[2], 0.0])
                })
                .collect();
        }
        let face = interior(Shape::Quadrilateral);
        let corners = Shape::Quadrilateral.vertices();
        let quadrilateral = std::array::from_fn(|orientation| {
            let (origin, forward) = (orientation / 2, orientation % 2 == 1);
            let (first, second) = if forward { (origin + 1, origin + 3) } else { (origin + 3, origin + 1) };
            face.iter()
                .map(|x| {
                    let along = |tip: usize| {
                        let (o, t) = (corners[origin], corners[tip % 4]);
                        (0..2).map(|k| (x[k] - o[k]) * (t[k] - o[k])).sum::<f64>()
                    };
                    position(&face, [along(first), along(second), 0.0])
                })
                .collect()
        });
        Orders {
            edge,
            triangle,
            quadrilateral,
            identity: (0..n_cell_interior.max(1)).map(|k| k as u8).collect(),
        }
    }
}

/// A Lagrange element: nodes, shape functions, and which nodes lie on which sub-entity.
///
/// Nodes come vertices first, then the interiors of edges, faces and the cell, each in the order of
/// [`Shape::entity_vertices`]. The interior nodes of an entity are those of its own reference cell (first
/// coordinate fastest) seen through [`Shape::entity_point`], so those of an edge run from its first listed
/// vertex to its second.
#[derive(Clone, Debug)]
pub struct Lagrange {
    shape: Shape,
    degree: usize,
    span: Span,
    nodes: Vec<[f64; 3]>,
    /// `[dimension][entity]`.
    interior: [Vec<Vec<u16>>; 4],
    closure: [Vec<Vec<u16>>; 4],
    /// Shape function i is the sum over j of `coefficients[i * n + j]` times orthonormal polynomial j.
    coefficients: Vec<f64>,
    orders: Orders,
}

/// A sum without its round-off where it should be a short binary fraction. Basis values at nodes and midpoints are
/// such, and a node between two others at `y = 0` must lie at zero, not at `-1e-18`: expressions ask `y < 0`.
fn snapped(value: f64) -> f64 {
    const PARTS: f64 = 1024.0;
    let near = (value * PARTS).round() / PARTS;
    if (value - near).abs() <= 2e-14 * value.abs().max(1.0) { near } else { value }
}

impl Lagrange {
    /// The element of a degree from 1 to [`MAX_DEGREE`].
    ///
    /// # Errors
    /// [`Error::Degree`] for other degrees.
    pub fn new(shape: Shape, degree: usize, nodes: Nodes) -> Result<Lagrange, Error> {
        if !(1..=MAX_DEGREE).contains(&degree) {
            return Err(Error::Degree { shape, degree });
        }
        Ok(Lagrange::known(shape, degree, nodes, Span::Full(degree)))
    }

    /// The 8-node quadrilateral or the 20-node hexahedron, for geometry read from files. They do not reach
    /// second order on cells that are not parallelepipeds, so they are no space to solve in.
    ///
    /// # Errors
    /// [`Error::Serendipity`] for other shapes.
    pub fn serendipity(shape: Shape) -> Result<Lagrange, Error> {
        if !matches!(shape, Shape::Quadrilateral | Shape::Hexahedron) {
            return Err(Error::Serendipity { shape });
        }
        Ok(Lagrange::known(shape, 2, Nodes::Equispaced, Span::Serendipity))
    }

    /// Built once in a process: spaces and geometries ask for their elements again on every mesh.
    fn known(shape: Shape, degree: usize, nodes: Nodes, span: Span) -> Lagrange {
        const SHAPES: usize = Shape::Hexahedron as usize + 1;
        static KNOWN: [[OnceLock<Lagrange>; SHAPES]; 2 * MAX_DEGREE + 1] =
            [const { [const { OnceLock::new() }; SHAPES] }; 2 * MAX_DEGREE + 1];
        let kind = match (span, nodes) {
            (Span::Serendipity, _) => 2 * MAX_DEGREE,
            (_, Nodes::Spectral) => degree - 1,
            (_, Nodes::Equispaced) => MAX_DEGREE + degree - 1,
        };
        KNOWN[kind][shape as usize].get_or_init(|| Lagrange::build(shape, degree, nodes, span)).clone()
    }

    fn build(shape: Shape, degree: usize, kind: Nodes, span: Span) -> Lagrange {
        let faces_have_nodes = span != Span::Serendipity;
        let mut nodes: Vec<[f64; 3]> = Vec::new();
        let mut interior: [Vec<Vec<u16>>; 4] = Default::default();
        for (d, lists) in interior.iter_mut().enumerate().take(shape.dim() + 1) {
            for i in 0..shape.n_entities(d) {
                let first = nodes.len();
                if d < 2 || faces_have_nodes {
                    let sub = kind.interior(shape.entity_shape(d, i), degree);
                    nodes.extend(sub.into_iter().map(|p| shape.entity_point(d, i, p)));
                }
                lists.push((first as u16..nodes.len() as u16).collect());
            }
        }
        // The closure of an entity in the node order of the entity's own element.
        let mut closure: [Vec<Vec<u16>>; 4] = Default::default();
        for (d, lists) in closure.iter_mut().enumerate().take(shape.dim() + 1) {
            for i in 0..shape.n_entities(d) {
                let sub = shape.entity_shape(d, i);
                let mut on = Vec::new();
                for e in 0..=d {
                    for j in 0..sub.n_entities(e) {
                        if e >= 2 && !faces_have_nodes {
                            continue;
                        }
                        for p in kind.interior(sub.entity_shape(e, j), degree) {
                            let x = shape.entity_point(d, i, sub.entity_point(e, j, p));
                            on.push(
                                find(&nodes, x).expect("a node of an entity is a node of the cell") as u16
                            );
                        }
                    }
                }
                lists.push(on);
            }
        }
        let n = nodes.len();
        let mut vandermonde = vec![0.0; n * n];
        let mut jets = Vec::new();
        for (k, x) in nodes.iter().enumerate() {
            orthonormal(shape, span, *x, &mut jets);
            for (j, jet) in jets.iter().enumerate() {
                // Transposed: coefficients = V^-T.
                vandermonde[j * n + k] = jet.value;
            }
        }
        let coefficients = invert(n, &vandermonde).expect("the nodes are unisolvent for their polynomials");
        let n_cell_interior = interior[shape.dim()][0].len();
        let orders = Orders::new(kind, degree, faces_have_nodes, n_cell_interior);
        Lagrange { shape, degree, span, nodes, interior, closure, coefficients, orders }
    }

    /// The reference cell.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The degree given; 2 for serendipity elements.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Whether this is a serendipity element.
    pub fn is_serendipity(&self) -> bool {
        self.span == Span::Serendipity
    }

    /// Number of nodes, hence of shape functions.
    pub fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes in reference coordinates.
    pub fn nodes(&self) -> &[[f64; 3]] {
        &self.nodes
    }

    /// Nodes in the interior of sub-entity `i` of dimension `d`.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    pub fn entity_nodes(&self, d: usize, i: usize) -> &[u16] {
        &self.interior[d][i]
    }

    /// All nodes on the closed sub-entity `i` of dimension `d`, in the node order of the Lagrange element of
    /// that sub-entity's shape: the traces of their shape functions are that element's shape functions.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    pub fn closure_nodes(&self, d: usize, i: usize) -> &[u16] {
        &self.closure[d][i]
    }

    /// Shape functions at `points`, with as many derivatives (0, 1, 2) as asked for.
    ///
    /// # Panics
    /// If `derivatives` is above 2.
    pub fn tabulate(&self, points: &[[f64; 3]], derivatives: usize) -> Table {
        assert!(derivatives <= 2, "third derivatives are not tabulated");
        let (n, dim) = (self.n_nodes(), self.shape.dim());
        let mut table = Table {
            n_points: points.len(),
            n_nodes: n,
            dim,
            values: Vec::with_capacity(points.len() * n),
            gradients: Vec::with_capacity(if derivatives > 0 { points.len() * n * dim } else { 0 }),
            hessians: Vec::with_capacity(if derivatives > 1 { points.len() * n * dim * dim } else { 0 }),
        };
        let mut jets = Vec::with_capacity(n);
        for &x in points {
            orthonormal(self.shape, self.span, x, &mut jets);
            for row in self.coefficients.chunks_exact(n) {
                let combine = |component: &dyn Fn(usize) -> f64| -> f64 {
                    snapped(row.iter().enumerate().map(|(j, c)| c * component(j)).sum())
                };
                table.values.push(combine(&|j| jets[j].value));
                if derivatives > 0 {
                    for a in 0..dim {
                        table.gradients.push(combine(&|j| jets[j].gradient[a]));
                    }
                }
                if derivatives > 1 {
                    for a in 0..dim {
                        for b in 0..dim {
                            table.hessians.push(combine(&|j| jets[j].hessian[a][b]));
                        }
                    }
                }
            }
        }
        table
    }

    /// For the interior nodes of sub-entity `i` of dimension `d`: entry k is the position of its k-th node of
    /// [`Lagrange::entity_nodes`] in the order that all cells sharing the entity agree on. That order is the
    /// node order of the entity's own element in a frame fixed by the global numbers of its vertices, given
    /// here in the order of [`Shape::entity_vertices`]:
    ///
    /// - edge: from the lower number to the higher;
    /// - triangle: vertices by ascending number;
    /// - quadrilateral: the origin is the lowest number, the first axis runs to the lower of its neighbours;
    /// - vertices and the interior of solids: nothing to decide, the identity.
    ///
    /// # Panics
    /// If there is no such sub-entity or too few numbers are given.
    pub fn canonical_order(&self, d: usize, i: usize, vertex_globals: &[u64]) -> &[u8] {
        match self.shape.entity_shape(d, i) {
            Shape::Point => &self.orders.identity[..1],
            Shape::Interval => &self.orders.edge[usize::from(vertex_globals[0] > vertex_globals[1])],
            Shape::Triangle => &self.orders.triangle[triangle_orientation(vertex_globals)],
            Shape::Quadrilateral => &self.orders.quadrilateral[quadrilateral_orientation(vertex_globals)],
            Shape::Tetrahedron | Shape::Hexahedron => &self.orders.identity[..self.interior[d][i].len()],
        }
    }
}

#[cfg(test)]
#[path = "lagrange_tests.rs"]
mod tests;
