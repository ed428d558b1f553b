//! The element kernels: one law, eight cells side by side, one quadrature rule.
//!
//! Imports `element` and `law`. A lane is a cell; every number of a cell stays in its lane, so what a
//! cell gives does not depend on its neighbours. Start at [`Group`].
//!
//! Bound by multiply-adds in vectors above degree 1; at degree 1 a cell takes some 60 of them, less than
//! reading its nodes and writing its rows. Arrays stay in the first-level cache.

use super::discretisation::Rules;
use super::lanes::{add_scaled, invert, jacobian, not_positive};
use super::products::{Affine, Products};
use crate::element::Table;
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Point, Residual, Tangent};

/// A lane with a Jacobian that is not positive at a point.
pub(super) struct Inverted {
    /// The first such lane.
    pub lane: usize,
    /// The point.
    pub q: usize,
}

/// What the kernels keep of eight cells.
#[derive(Default)]
pub(super) struct Group {
    /// The inverse Jacobian, `[q][k][d] = d xi_k / d x_d`; one point where it is constant.
    inverse: Vec<[[Lanes; 3]; 3]>,
    /// Weight times determinant, by point.
    weights: Vec<Lanes>,
    /// The inverse Jacobian and the determinant at the first point mapped; of affine cells, everywhere.
    first: ([[Lanes; 3]; 3], Lanes),
    /// Physical gradients of the basis at one point, `[d][node]`.
    gradients: Vec<Lanes>,
    /// Physical second derivatives at one point, `[d][e][node]`.
    hessians: Vec<Lanes>,
    /// Element residuals, `[i][a]`.
    pub residual: Vec<Lanes>,
    /// Element matrices, `[i][a][b][j]`: test node, its component, trial component, trial node.
    pub matrix: Vec<Lanes>,
}

impl Group {
    /// Makes room for elements of `n_dofs` degrees of freedom and sets their sums to zero.
    pub fn clear(&mut self, n_dofs: usize, with_matrix: bool) {
        self.residual.clear();
        self.residual.resize(n_dofs, Lanes::default());
        self.matrix.clear();
        if with_matrix {
            self.matrix.resize(n_dofs * n_dofs, Lanes::default());
        }
    }

    /// Transposes the matrices, of elements with `n` nodes and `c` components.
    pub fn transpose(&mut self, n: usize, c: usize) {
        let at = |i: usize, a: usize, b: usize, j: usize| ((i * c + a) * c + b) * n + j;
        for row in 0..n * c {
            for column in 0..row {
                let ((i, a), (j, b)) = ((row / c, row % c), (column / c, column % c));
                self.matrix.swap(at(i, a, b, j), at(j, b, a, i));
            }
        }
    }

    /// Maps a rule to cells with node coordinates `x`, `[node][d]`. A cell's lane gets the same whichever cells are
    /// beside it.
    ///
    /// # Errors
    /// The first point with a Jacobian that is not positive.
    #[inline(always)]
    pub fn map<const D: usize>(
        &mut self,
        geometry: &Table,
        weights: &[f64],
        x: &[Lanes],
        affine: Affine,
    ) -> Result<(), Inverted> {
        self.inverse.clear();
        self.weights.clear();
        for (q, &weight) in weights.iter().enumerate() {
            if q > 0 && matches!(affine, Affine::All) {
                self.weights.push(self.first.1 * Lanes::splat(weight));
                continue;
            }
            let (inverse, mut determinant) = invert::<D>(&jacobian::<D>(geometry, q, x));
            if let Some(lane) = not_positive(determinant) {
                return Err(Inverted { lane, q });
            }
            let mut wide = [[Lanes::default(); 3]; 3];
            for k in 0..D {
                wide[k][..D].copy_from_slice(&inverse[k]);
            }
            if q == 0 {
                self.first = (wide, determinant);
            } else if let Affine::Some(mask) = affine {
                for (entry, first) in wide.iter_mut().flatten().zip(self.first.0.iter().flatten()) {
                    *entry = mask.select(*first, *entry);
                }
                determinant = mask.select(self.first.1, determinant);
            }
            self.inverse.push(wide);
            self.weights.push(determinant * Lanes::splat(weight));
        }
        Ok(())
    }

    /// Another rule on the affine cells that are mapped.
    #[inline(always)]
    pub fn weigh(&mut self, weights: &[f64]) {
        self.weights.clear();
        self.weights.extend(weights.iter().map(|&w| self.first.1 * Lanes::splat(w)));
    }

    #[inline(always)]
    fn inverse_at<const D: usize>(&self, q: usize) -> [[Lanes; D]; D] {
        let wide = &self.inverse[q.min(self.inverse.len() - 1)];
        std::array::from_fn(|k| std::array::from_fn(|d| wide[k][d]))
    }

    /// Physical gradients at point `q`: `sum_k inverse[k][d] d phi / d xi_k`.
    #[inline(always)]
    fn map_gradients<const D: usize>(&mut self, basis: &Table, q: usize, n: usize) {
        let inverse = self.inverse_at::<D>(q);
        self.gradients.resize(D * n, Lanes::default());
        let reference = &basis.gradients[q * n * D..][..n * D];
        for d in 0..D {
            let row = &mut self.gradients[d * n..][..n];
            for (out, reference) in row.iter_mut().zip(reference.chunks_exact(D)) {
                let mut sum = Lanes::default();
                for k in 0..D {
                    sum = add_scaled(sum, reference[k], inverse[k][d]);
                }
                *out = sum;
            }
        }
    }

    /// Second derivatives at point `q`: `J^-T (H_ref - sum_k (d phi / d x_k) H(x_k)) J^-1`. Gradients
    /// are mapped already.
    fn map_second<const D: usize>(&mut self, basis: &Table, geometry: &Table, x: &[Lanes], q: usize) {
        let n = basis.n_nodes;
        let inverse = self.inverse_at::<D>(q);
        self.hessians.resize(D * D * n, Lanes::default());
        // H(x_k)[a][b]: second derivatives of the map.
        let mut bend = [[[Lanes::default(); D]; D]; D];
        let m = geometry.n_nodes;
        let second = &geometry.hessians[q * m * D * D..][..m * D * D];
        for (point, h) in x.chunks_exact(D).zip(second.chunks_exact(D * D)) {
            for k in 0..D {
                for a in 0..D {
                    for b in 0..D {
                        bend[k][a][b] = add_scaled(bend[k][a][b], h[a * D + b], point[k]);
                    }
                }
            }
        }
        for i in 0..n {
            let reference = &basis.hessians[(q * n + i) * D * D..][..D * D];
            let mut h = [[Lanes::default(); D]; D];
            for a in 0..D {
                for b in 0..D {
                    h[a][b] = Lanes::splat(reference[a * D + b]);
                    for (k, bend) in bend.iter().enumerate() {
                        h[a][b] -= self.gradients[k * n + i] * bend[a][b];
                    }
                }
            }
            for d in 0..D {
                for e in 0..D {
                    let mut sum = Lanes::default();
                    for a in 0..D {
                        for b in 0..D {
                            sum += inverse[a][d] * h[a][b] * inverse[b][e];
                        }
                    }
                    self.hessians[(d * D + e) * n + i] = sum;
                }
            }
        }
    }

    /// What a law sees at point `q`. `u` is `[node][c]`, `None` where the state vanishes.
    #[inline(always)]
    fn state<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        cells: &Cells,
        q: usize,
    ) -> Point<D, C, Lanes> {
        let mut p = Point::<D, C, Lanes>::default();
        let n = cells.basis.n_nodes;
        let inverse = self.inverse_at::<D>(q);
        if L::TERMS.hessian {
            self.map_gradients::<D>(cells.basis, q, n);
            self.map_second::<D>(cells.basis, cells.geometry, cells.x, q);
            let scale = Lanes::splat((cells.degree * cells.degree) as f64);
            for a in 0..D {
                for b in 0..D {
                    let mut g = Lanes::default();
                    for row in &inverse {
                        g = row[a].mul_add(row[b], g);
                    }
                    p.metric[a][b] = scale * g;
                }
            }
        }
        let Some(u) = cells.u else { return p };
        let values = &cells.basis.values[q * n..][..n];
        let gradients = &cells.basis.gradients[q * n * D..][..n * D];
        let mut reference = [[Lanes::default(); D]; C];
        for (i, u) in u.chunks_exact(C).enumerate() {
            for c in 0..C {
                p.u[c] = add_scaled(p.u[c], values[i], u[c]);
                for k in 0..D {
                    reference[c][k] = add_scaled(reference[c][k], gradients[i * D + k], u[c]);
                }
                if L::TERMS.hessian {
                    for d in 0..D {
                        for e in 0..D {
                            let h = self.hessians[(d * D + e) * n + i];
                            p.hess[c][d][e] = h.mul_add(u[c], p.hess[c][d][e]);
                        }
                    }
                }
            }
        }
        for c in 0..C {
            for d in 0..D {
                for k in 0..D {
                    p.grad[c][d] = inverse[k][d].mul_add(reference[c][k], p.grad[c][d]);
                }
            }
        }
        p
    }

    /// Adds the residuals. Test gradients stay on the reference cell: it is the law's flux that is
    /// mapped back, once a point instead of once a node.
    #[inline(always)]
    pub fn add_residual<L: Law<D, C>, const D: usize, const C: usize>(&mut self, law: &L, cells: &Cells) {
        let n = cells.basis.n_nodes;
        for q in 0..self.weights.len() {
            let p = self.state::<L, D, C>(cells, q);
            let mut r = Residual::<D, C, Lanes>::default();
            law.residual(&p, &cells.coefficients.lanes(cells.first_point + q * WIDTH), &mut r);
            let weight = self.weights[q];
            let inverse = self.inverse_at::<D>(q);
            let mut flux = [[Lanes::default(); D]; C];
            for c in 0..C {
                r.f0[c] *= weight;
                for k in 0..D {
                    for d in 0..D {
                        flux[c][k] = inverse[k][d].mul_add(r.f1[c][d], flux[c][k]);
                    }
                    flux[c][k] *= weight;
                }
            }
            let values = &cells.basis.values[q * n..][..n];
            let gradients = &cells.basis.gradients[q * n * D..][..n * D];
            let rows = self.residual.chunks_exact_mut(C);
            for ((row, &value), gradient) in rows.zip(values).zip(gradients.chunks_exact(D)) {
                for c in 0..C {
                    let mut sum = add_scaled(row[c], value, r.f0[c]);
                    for k in 0..D {
                        sum = add_scaled(sum, gradient[k], flux[c][k]);
                    }
                    row[c] = sum;
                }
            }
        }
    }

    /// Sets the tangents of the affine ones of the mapped cells, of a law whose tangent is the same at every point of a
    /// cell: that at the first point.
    ///
    /// Bound by multiply-adds: `D^2` of them an entry.
    #[inline(always)]
    pub fn set_tangent<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: &L,
        cells: &Cells,
        products: &Products,
        affine: Affine,
    ) {
        let n = cells.basis.n_nodes;
        let mut t = Tangent::<D, C, Lanes>::default();
        law.tangent(&Point::default(), &cells.coefficients.lanes(cells.first_point), &mut t);
        let (inverse, determinant) = &self.first;
        let zero = Lanes::default();
        for a in 0..C {
            for b in 0..C {
                // The tangent on the reference cell: one index after the other.
                let mut on_reference = [[zero; D]; D];
                for k in 0..D {
                    let mut half = [zero; D];
                    for d in 0..D {
                        (0..D).for_each(|e| half[d] = inverse[k][e].mul_add(t.g11[a][e][b][d], half[d]));
                    }
                    for l in 0..D {
                        let mut sum = zero;
                        (0..D).for_each(|d| sum = half[d].mul_add(inverse[l][d], sum));
                        on_reference[k][l] = sum * *determinant;
                    }
                }
                let plain = t.g00[a][b] * *determinant;
                let has_plain = L::TERMS.g00 && plain.simd_ne(zero).to_bitmask() != 0;
                for (i, gradients) in products.gradients.chunks_exact(n * D * D).enumerate() {
                    let row = &mut self.matrix[((i * C + a) * C + b) * n..][..n];
                    for (j, (out, gradients)) in row.iter_mut().zip(gradients.chunks_exact(D * D)).enumerate()
                    {
                        let mut sum =
                            if has_plain { plain * Lanes::splat(products.values[i * n + j]) } else { zero };
                        for k in 0..D {
                            for l in 0..D {
                                sum = add_scaled(sum, gradients[k * D + l], on_reference[k][l]);
                            }
                        }
                        *out = match affine {
                            Affine::Some(mask) => mask.select(sum, *out),
                            _ => sum,
                        };
                    }
                }
            }
        }
    }

    /// Adds the tangents.
    #[inline(always)]
    pub fn add_tangent<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: &L,
        cells: &Cells,
        n: usize,
    ) {
        let terms = L::TERMS;
        for q in 0..self.weights.len() {
            let p = self.state::<L, D, C>(cells, q);
            let mut t = Tangent::<D, C, Lanes>::default();
            law.tangent(&p, &cells.coefficients.lanes(cells.first_point + q * WIDTH), &mut t);
            if !terms.hessian {
                self.map_gradients::<D>(cells.basis, q, n);
            }
            let weight = self.weights[q];
            let values = &cells.basis.values[q * n..][..n];
            let gradients = &self.gradients[..D * n];
            let hessians = &self.hessians[..];
            let rows = self.matrix.chunks_exact_mut(C * C * n);
            for (i, rows) in rows.enumerate() {
                let test = weight * Lanes::splat(values[i]);
                let mut test_gradient = [Lanes::default(); D];
                for d in 0..D {
                    test_gradient[d] = weight * gradients[d * n + i];
                }
                for a in 0..C {
                    for b in 0..C {
                        let mut s0 = Lanes::default();
                        let mut s1 = [Lanes::default(); D];
                        if terms.g00 {
                            s0 = test * t.g00[a][b];
                        }
                        if terms.first_order {
                            for d in 0..D {
                                s1[d] = test * t.g01[a][b][d];
                                s0 = test_gradient[d].mul_add(t.g10[a][d][b], s0);
                            }
                        }
                        for d in 0..D {
                            for e in 0..D {
                                s1[d] = test_gradient[e].mul_add(t.g11[a][e][b][d], s1[d]);
                            }
                        }
                        let row = &mut rows[(a * C + b) * n..][..n];
                        for j in 0..n {
                            let mut sum = row[j];
                            for d in 0..D {
                                sum = s1[d].mul_add(gradients[d * n + j], sum);
                            }
                            if terms.g00 || terms.first_order {
                                sum = add_scaled(sum, values[j], s0);
                            }
                            row[j] = sum;
                        }
                        if terms.hessian && a == b {
                            for d in 0..D {
                                for e in 0..D {
                                    let mut s2 = Lanes::default();
                                    for f in 0..D {
                                        s2 = test_gradient[f].mul_add(t.g12[f][d][e], s2);
                                    }
                                    let second = &hessians[(d * D + e) * n..][..n];
                                    for j in 0..n {
                                        row[j] = s2.mul_add(second[j], row[j]);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Eight cells and a rule, as the kernels read them.
pub(super) struct Cells<'a> {
    /// The space's basis at the rule's points.
    pub basis: &'a Table,
    /// The geometry's basis there.
    pub geometry: &'a Table,
    /// Node coordinates, `[node][d]`.
    pub x: &'a [Lanes],
    /// The state, `[node][c]`; `None` where it vanishes.
    pub u: Option<&'a [Lanes]>,
    /// Coefficients; those of point `q` stand at `first_point + q * WIDTH`, a lane each.
    pub coefficients: &'a CoefficientBatch,
    /// See there.
    pub first_point: usize,
    /// The space's degree.
    pub degree: usize,
}

impl<'a> Cells<'a> {
    /// Group `group` of a batch whose coefficients stand `[group][q][lane]`.
    pub fn new(
        rules: &'a Rules,
        x: &'a [Lanes],
        u: Option<&'a [Lanes]>,
        coefficients: &'a CoefficientBatch,
        group: usize,
        degree: usize,
    ) -> Self {
        let first_point = group * rules.rule.weights.len() * WIDTH;
        Cells { basis: &rules.basis, geometry: &rules.geometry, x, u, coefficients, first_point, degree }
    }
}
