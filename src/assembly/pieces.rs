//! Pieces of cells on which a rule for an error's square is too coarse: at corners and fronts.
//!
//! Imports `element` and the discretisation. Start at [`Detail`], which tells such cells without a further evaluation,
//! then at [`Pieces`], cells that no mesh has, and [`Cuts`], which makes them.
//!
//! A rule with more points than the polynomials of some degree have dimensions has weights that annul these
//! polynomials (null rules: J. Berntsen, T. Espelid, ACM Trans. Math. Softw. 17 (1991)). Applied to the error
//! itself, which is nearly a polynomial of low degree where the mesh resolves the solution, such weights show
//! how much of it is not.

use super::discretisation::Discretisation;
use crate::element::{Lagrange, Nodes, Quadrature, Shape, orthonormal_values, refinement};
use crate::mesh::geometry;

/// A cell is cut if so much of the square of the error is seen to be of higher degree. At a corner, where up to a third
/// is missed, some thousandths are seen; where a wave is met by six cells or more, less than this.
pub(super) const ROUGH: f64 = 5e-4;

/// A piece is cut if also what is seen is so large beside the square of the whole cell's error.
pub(super) const MATTERS: f64 = 5e-5;

/// Cuts between a cell and its smallest piece. At a singularity `r^a` each cut leaves `2^(-2a)` of the rest.
pub(super) const DEPTH: usize = 24;

/// Squares of errors below this part of the solution's are round-off.
pub(super) const ROUND_OFF: f64 = 1e-24;

/// Pieces for each cell of a task, and for any task: what an error that no mesh of this size resolves may cost.
const MOST_PIECES: [usize; 2] = [4, 1 << 14];

/// The most pieces for `n` cells.
pub(super) fn most_pieces(n: usize) -> usize {
    MOST_PIECES[0] * n + MOST_PIECES[1]
}

/// Weights that annul polynomials of a degree.
pub(super) struct Detail {
    /// By point of the rule.
    pub weights: Vec<f64>,
    /// The square of a weighted sum is on average one in so many of the integral of the square of what is not annulled.
    pub dimensions: f64,
}

impl Detail {
    /// For a rule on a shape; polynomials up to `degree` are annulled, of which the rule integrates squares. All weights
    /// are zero if it has no more points than these have dimensions.
    pub fn new(shape: Shape, rule: &Quadrature, degree: usize) -> Detail {
        let roots: Vec<f64> = rule.weights.iter().map(|w| w.sqrt()).collect();
        // Orthonormal for the rule too, which is exact for products of these.
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for (q, (&x, root)) in rule.points.iter().zip(&roots).enumerate() {
            let values = orthonormal_values(shape, degree, x);
            basis.resize(values.len(), vec![0.0; rule.len()]);
            basis.iter_mut().zip(values).for_each(|(vector, value)| vector[q] = root * value);
        }
        // What is steep at each vertex, each in its own measure, so that no symmetry hides anything.
        let steep = |x: &[f64; 3]| -> f64 {
            let vertices = shape.vertices().iter().enumerate();
            let of = |(k, v): (usize, &[f64; 3])| {
                let r2: f64 = x.iter().zip(v).map(|(a, b)| (a - b) * (a - b)).sum();
                (1.0 + 0.37 * k as f64) * r2.powf(-0.4)
            };
            vertices.map(of).sum()
        };
        let mut vector: Vec<f64> = rule.points.iter().zip(&roots).map(|(x, root)| root * steep(x)).collect();
        let norm = |vector: &[f64]| vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        let whole = norm(&vector);
        for _ in 0..2 {
            for other in &basis {
                let part: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= part * b);
            }
        }
        let left = norm(&vector);
        let scale = if left > 1e-8 * whole { 1.0 / left } else { 0.0 };
        vector.iter_mut().zip(&roots).for_each(|(a, root)| *a *= scale * root);
        Detail { weights: vector, dimensions: rule.len().saturating_sub(basis.len()) as f64 }
    }
}

/// Cells that no mesh has: pieces of a block's cells, of the same shape and order.
#[derive(Default)]
pub(super) struct Pieces {
    /// The mesh's cell that each is a piece of.
    pub cells: Vec<u32>,
    /// Coordinates, `[piece][geometry node][axis]`.
    pub x: Vec<f64>,
    /// The solution, `[piece][node][component]`.
    pub u: Vec<f64>,
    /// What the rule gave for the whole piece, as squares: L2, H1 seminorm, energy.
    pub found: Vec<[f64; 3]>,
    /// The square of the whole cell's error in the H1 seminorm.
    pub of_cell: Vec<f64>,
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn clear(&mut self) {
        self.cells.clear();
        self.x.clear();
        self.u.clear();
        self.found.clear();
        self.of_cell.clear();
    }
}

/// How a block's cells are cut: matrices from a cell's nodes to those of its children.
pub(super) struct Cuts {
    geometry: Vec<Vec<f64>>,
    basis: Vec<Vec<f64>>,
}

impl Cuts {
    /// For one block.
    pub fn new(d: &Discretisation, b: usize) -> Cuts {
        let block = &d.mesh.blocks[b];
        let refined = refinement(block.shape);
        let corners = Lagrange::new(block.shape, 1, Nodes::Spectral).expect("degree 1 exists");
        let matrices = |element: &Lagrange| {
            let of_child = |child: usize| {
                let vertices = refined.child_vertex_points(child);
                let weights = corners.tabulate(element.nodes(), 0);
                let image = |k: usize| {
                    std::array::from_fn(|a| {
                        weights.values_at(k).iter().zip(&vertices).map(|(w, v)| w * v[a]).sum()
                    })
                };
                let points: Vec<[f64; 3]> = (0..element.n_nodes()).map(image).collect();
                element.tabulate(&points, 0).values
            };
            (0..refined.n_children()).map(of_child).collect()
        };
        Cuts { geometry: matrices(&geometry::basis(block)), basis: matrices(&d.space.elements[b]) }
    }

    pub fn n_children(&self) -> usize {
        self.basis.len()
    }

    /// Replaces `children` by those of all pieces, each with its equal part of what was found for the whole piece.
    pub fn cut<const D: usize, const C: usize>(&self, pieces: &Pieces, children: &mut Pieces) {
        children.clear();
        let n = pieces.len().max(1);
        let (of_x, of_u) = (pieces.x.len() / n, pieces.u.len() / n);
        let part = 1.0 / self.n_children() as f64;
        for piece in 0..pieces.len() {
            let (x, u) = (&pieces.x[piece * of_x..][..of_x], &pieces.u[piece * of_u..][..of_u]);
            for (geometry, basis) in self.geometry.iter().zip(&self.basis) {
                multiply::<D>(geometry, x, &mut children.x);
                multiply::<C>(basis, u, &mut children.u);
                children.cells.push(pieces.cells[piece]);
                children.found.push(pieces.found[piece].map(|square| part * square));
                children.of_cell.push(pieces.of_cell[piece]);
            }
        }
    }
}

/// Appends `matrix from`, of rows of `N`.
fn multiply<const N: usize>(matrix: &[f64], from: &[f64], to: &mut Vec<f64>) {
    for row in matrix.chunks_exact(from.len() / N) {
        let mut sums = [0.0; N];
        for (&w, from) in row.iter().zip(from.chunks_exact(N)) {
            (0..N).for_each(|k| sums[k] += w * from[k]);
        }
        to.extend(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 5] =
        [Shape::Interval, Shape::Triangle, Shape::Quadrilateral, Shape::Tetrahedron, Shape::Hexahedron];

    /// Of polynomials nothing is seen, of what is steep at any vertex more than the least that counts.
    #[test]
    fn detail_is_what_no_polynomial_has() {
        for shape in SHAPES {
            for p in 1..=4 {
                let rule = Quadrature::new(shape, 2 * p + 4).expect("a rule");
                let detail = Detail::new(shape, &rule, p + 1);
                let sum = |f: &dyn Fn(&[f64; 3]) -> f64| -> f64 {
                    rule.points.iter().zip(&detail.weights).map(|(x, w)| w * f(x)).sum()
                };
                let square = |f: &dyn Fn(&[f64; 3]) -> f64| -> f64 {
                    rule.points.iter().zip(&rule.weights).map(|(x, w)| w * f(x).powi(2)).sum()
                };
                let axes = shape.dim();
                let line = |x: &[f64; 3]| 0.3 + (0..axes).map(|k| (1.0 + k as f64) * x[k]).sum::<f64>();
                let smooth = |x: &[f64; 3]| line(x).powi(p as i32 + 1);
                assert!(sum(&smooth).powi(2) < 1e-20 * square(&smooth), "{shape} {p}");
                for vertex in shape.vertices() {
                    // The gradient of r^(1/4).
                    let along = |x: &[f64; 3], axis: usize| {
                        let r2: f64 = x.iter().zip(vertex).map(|(x, v)| (x - v) * (x - v)).sum();
                        r2.powf(-0.875) * (x[axis] - vertex[axis])
                    };
                    let seen: f64 = (0..axes).map(|k| sum(&|x| along(x, k)).powi(2)).sum();
                    let whole: f64 = (0..axes).map(|k| square(&|x| along(x, k))).sum();
                    let part = detail.dimensions * seen / whole;
                    assert!(part > 2.0 * ROUGH, "{shape} {p}: {part}");
                }
            }
        }
    }
}
