//! One cell at the points of a rule: geometry and state, for functionals and derived fields.
//!
//! Imports `element`, `law` and the mesh's geometry. The kernels that assemble are in `group`.

use crate::element::Table;
use crate::law::Point;
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
