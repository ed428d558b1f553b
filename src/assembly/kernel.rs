//! The element kernel: one law, one cell, one quadrature rule.
//!
//! Bound by arithmetic above degree 1 and by reading nodes and writing rows at degree 1. Sizes are
//! passed as constants where they are common, so that the compiler unrolls.

use crate::element::Table;
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::{Law, Point, Residual, Tangent};
use crate::mesh::geometry;

/// Geometry and state at the points of one cell.
#[derive(Default)]
pub(super) struct CellPoints {
    /// Physical gradients of the basis, `[q][d][node]`; one point only where they are constant.
    pub gradients: Vec<f64>,
    /// Physical second derivatives, `[q][d][e][node]`.
    pub hessians: Vec<f64>,
    /// Weight times determinant, by point.
    pub weights: Vec<f64>,
    /// Metrics, `[q][d][e]`, scaled by the square of the degree.
    pub metrics: Vec<f64>,
}

/// A point at which the Jacobian is not positive.
pub(super) struct Inverted(pub usize);

/// Inverts the leading `D` rows and columns: (inverse, determinant).
#[inline(always)]
pub(super) fn invert<const D: usize>(j: &[[f64; 3]; 3]) -> ([[f64; D]; D], f64) {
    let det = geometry::determinant(j, D);
    let s = 1.0 / det;
    let mut inverse = [[0.0; D]; D];
    match D {
        1 => inverse[0][0] = s,
        2 => {
            inverse[0][0] = j[1][1] * s;
            inverse[0][1] = -j[0][1] * s;
            inverse[1][0] = -j[1][0] * s;
            inverse[1][1] = j[0][0] * s;
        }
        _ => {
            for a in 0..3 {
                for b in 0..3 {
                    let (p, q) = ((b + 1) % 3, (b + 2) % 3);
                    let (r, t) = ((a + 1) % 3, (a + 2) % 3);
                    inverse[a][b] = (j[p][r] * j[q][t] - j[p][t] * j[q][r]) * s;
                }
            }
        }
    }
    (inverse, det)
}

impl CellPoints {
    /// Maps tables to a cell with node coordinates `x`.
    ///
    /// # Errors
    /// The first point with a Jacobian that is not positive.
    #[inline(always)]
    pub fn map<const D: usize>(
        &mut self,
        basis: &Table,
        geometry_table: &Table,
        weights: &[f64],
        x: &[[f64; 3]],
        affine: bool,
        second: bool,
        degree: usize,
    ) -> Result<(), Inverted> {
        let n = basis.n_nodes;
        let n_points = weights.len();
        self.weights.resize(n_points, 0.0);
        self.gradients.resize(n_points * D * n, 0.0);
        if second {
            self.hessians.resize(n_points * D * D * n, 0.0);
            self.metrics.resize(n_points * D * D, 0.0);
        }
        let scale = (degree * degree) as f64;
        let mut inverse = [[0.0; D]; D];
        let mut det = 0.0;
        for q in 0..n_points {
            if q == 0 || !affine {
                (inverse, det) = invert::<D>(&geometry::jacobian(geometry_table, q, x));
                if det <= 0.0 || det.is_nan() {
                    return Err(Inverted(q));
                }
            }
            self.weights[q] = weights[q] * det;
            let reference = &basis.gradients[q * n * D..][..n * D];
            let out = &mut self.gradients[q * D * n..][..D * n];
            for d in 0..D {
                let row = &mut out[d * n..][..n];
                for (g, r) in row.iter_mut().zip(reference.chunks_exact(D)) {
                    let mut sum = 0.0;
                    for k in 0..D {
                        sum += inverse[k][d] * r[k];
                    }
                    *g = sum;
                }
            }
            if second {
                self.map_second::<D>(basis, geometry_table, x, q, &inverse, affine);
                for a in 0..D {
                    for b in 0..D {
                        let g: f64 = (0..D).map(|k| inverse[k][a] * inverse[k][b]).sum();
                        self.metrics[(q * D + a) * D + b] = scale * g;
                    }
                }
            }
        }
        Ok(())
    }

    /// Second derivatives: `J^-T (H_ref - sum_k (d phi / d x_k) H(x_k)) J^-1`.
    fn map_second<const D: usize>(
        &mut self,
        basis: &Table,
        geometry_table: &Table,
        x: &[[f64; 3]],
        q: usize,
        inverse: &[[f64; D]; D],
        affine: bool,
    ) {
        let n = basis.n_nodes;
        // H(x_k)[a][b]: second derivatives of the map.
        let mut bend = [[[0.0; D]; D]; D];
        if !affine {
            let m = geometry_table.n_nodes;
            let h = &geometry_table.hessians[q * m * D * D..][..m * D * D];
            for (point, h) in x.iter().zip(h.chunks_exact(D * D)) {
                for k in 0..D {
                    for a in 0..D {
                        for b in 0..D {
                            bend[k][a][b] += point[k] * h[a * D + b];
                        }
                    }
                }
            }
        }
        for i in 0..n {
            let reference = &basis.hessians[(q * n + i) * D * D..][..D * D];
            let mut h = [[0.0; D]; D];
            for a in 0..D {
                for b in 0..D {
                    h[a][b] = reference[a * D + b];
                    for (k, bend) in bend.iter().enumerate() {
                        h[a][b] -= self.gradients[(q * D + k) * n + i] * bend[a][b];
                    }
                }
            }
            for d in 0..D {
                for e in 0..D {
                    let mut sum = 0.0;
                    for a in 0..D {
                        for b in 0..D {
                            sum += inverse[a][d] * h[a][b] * inverse[b][e];
                        }
                    }
                    self.hessians[((q * D + d) * D + e) * n + i] = sum;
                }
            }
        }
    }

    /// The state at point `q`: values, gradients and, if asked, second derivatives of `u` (`[node][c]`).
    #[inline(always)]
    pub fn state<const D: usize, const C: usize>(
        &self,
        basis: &Table,
        q: usize,
        u: &[f64],
        second: bool,
        p: &mut Point<D, C>,
    ) {
        let n = basis.n_nodes;
        *p = Point::default();
        if second {
            for d in 0..D {
                for e in 0..D {
                    p.metric[d][e] = self.metrics[(q * D + d) * D + e];
                }
            }
        }
        if u.is_empty() {
            return;
        }
        for (i, u) in u.chunks_exact(C).enumerate() {
            let value = basis.values[q * n + i];
            for c in 0..C {
                p.u[c] += value * u[c];
                for d in 0..D {
                    p.grad[c][d] += self.gradients[(q * D + d) * n + i] * u[c];
                    if second {
                        for e in 0..D {
                            p.hess[c][d][e] += self.hessians[((q * D + d) * D + e) * n + i] * u[c];
                        }
                    }
                }
            }
        }
    }
}

/// Adds the residual of one cell to `out` (`[node][component]`). `u` is empty where the state vanishes.
#[inline(always)]
pub(super) fn residual<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    points: &CellPoints,
    basis: &Table,
    coefficients: &CoefficientBatch,
    first_point: usize,
    u: &[f64],
    out: &mut [f64],
) {
    let n = basis.n_nodes;
    let second = L::TERMS.hessian;
    let mut p = Point::default();
    for (q, &weight) in points.weights.iter().enumerate() {
        points.state(basis, q, u, second, &mut p);
        let mut r = Residual::<D, C>::default();
        law.residual(&p, &coefficients.at(first_point + q), &mut r);
        let values = &basis.values[q * n..][..n];
        let gradients = &points.gradients[q * D * n..][..D * n];
        for c in 0..C {
            let f0 = weight * r.f0[c];
            for i in 0..n {
                let mut sum = f0 * values[i];
                for d in 0..D {
                    sum += weight * r.f1[c][d] * gradients[d * n + i];
                }
                out[i * C + c] += sum;
            }
        }
    }
}

/// Adds the tangent of one cell to `out`, laid out `[i][a][b][j]`: test node, test component, trial
/// component, trial node.
#[inline(always)]
pub(super) fn tangent<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    points: &CellPoints,
    basis: &Table,
    coefficients: &CoefficientBatch,
    first_point: usize,
    u: &[f64],
    out: &mut [f64],
    n: usize,
) {
    let terms = L::TERMS;
    let mut p = Point::default();
    for (q, &weight) in points.weights.iter().enumerate() {
        points.state(basis, q, u, terms.hessian, &mut p);
        let mut t = Tangent::<D, C>::default();
        law.tangent(&p, &coefficients.at(first_point + q), &mut t);
        let values = &basis.values[q * n..][..n];
        let gradients = &points.gradients[q * D * n..][..D * n];
        for i in 0..n {
            let test = weight * values[i];
            let mut test_gradient = [0.0; D];
            for d in 0..D {
                test_gradient[d] = weight * gradients[d * n + i];
            }
            for a in 0..C {
                for b in 0..C {
                    let mut s0 = 0.0;
                    let mut s1 = [0.0; D];
                    if terms.g00 {
                        s0 += test * t.g00[a][b];
                    }
                    if terms.first_order {
                        for d in 0..D {
                            s1[d] += test * t.g01[a][b][d];
                            s0 += test_gradient[d] * t.g10[a][d][b];
                        }
                    }
                    for e in 0..D {
                        for d in 0..D {
                            s1[d] += test_gradient[e] * t.g11[a][e][b][d];
                        }
                    }
                    let row = &mut out[((i * C + a) * C + b) * n..][..n];
                    for j in 0..n {
                        let mut sum = 0.0;
                        for d in 0..D {
                            sum += s1[d] * gradients[d * n + j];
                        }
                        row[j] += sum;
                    }
                    if terms.g00 || terms.first_order {
                        for j in 0..n {
                            row[j] += s0 * values[j];
                        }
                    }
                    if terms.hessian && a == b {
                        for d in 0..D {
                            for e in 0..D {
                                let mut s2 = 0.0;
                                for f in 0..D {
                                    s2 += test_gradient[f] * t.g12[f][d][e];
                                }
                                let second = &points.hessians[((q * D + d) * D + e) * n..][..n];
                                for j in 0..n {
                                    row[j] += s2 * second[j];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
