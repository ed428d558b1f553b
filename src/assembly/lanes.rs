//! Cells side by side: geometry and solution of eight cells of a block, one vector entry a cell.
//!
//! What a loop over cells does to one cell it then does to eight at once, whatever the number of nodes
//! and points. Imports `mesh` and the discretisation. Start at [`Lanes::gather`]; [`jacobian`] and
//! [`invert`] map the cells.

use wide::f64x8 as Eight;

use super::discretisation::{AssemblyError, Discretisation};
use crate::element::Table;
use crate::mesh::geometry;

/// Cells side by side: a whole number of the longest vectors of today's processors.
pub(super) const LANES: usize = 8;

/// One number of each cell.
pub(super) type Lane = [f64; LANES];

/// `out += a b`, in the longest vectors there are, which loops over eight do not become by themselves.
#[inline(always)]
pub(super) fn add_product(out: &mut Lane, a: &Lane, b: &Lane) {
    *out = Eight::new(*a).mul_add(Eight::new(*b), Eight::new(*out)).to_array();
}

/// `out += a b` with one `a` for all cells.
#[inline(always)]
pub(super) fn add_scaled(out: &mut Lane, a: f64, b: &Lane) {
    *out = Eight::splat(a).mul_add(Eight::new(*b), Eight::new(*out)).to_array();
}

/// Up to eight cells of a block.
#[derive(Default)]
pub(super) struct Lanes<const C: usize> {
    /// How many cells there are; the others repeat the last.
    pub n: usize,
    /// Coordinates, `[geometry node][axis]`.
    pub x: Vec<[Lane; 3]>,
    /// The solution, `[node][component]`.
    pub u: Vec<[Lane; C]>,
    /// The solution on one cell that hangs, and room to interpolate it.
    cell: [Vec<f64>; 2],
}

impl<const C: usize> Lanes<C> {
    /// Gathers the geometry of `cells`, and the solution `u` there unless it is empty.
    pub fn gather(&mut self, d: &Discretisation, b: usize, cells: &[u32], u: &[f64]) {
        let block = &d.mesh.blocks[b];
        self.n = cells.len();
        self.x.resize(block.nodes_per_cell(), [[0.0; LANES]; 3]);
        let last = *cells.last().expect("at least one cell");
        for l in 0..LANES {
            let cell = *cells.get(l).unwrap_or(&last) as usize;
            for (x, &node) in self.x.iter_mut().zip(block.nodes(cell)) {
                let from = &d.mesh.nodes[node as usize];
                (0..3).for_each(|k| x[k][l] = from[k]);
            }
        }
        if u.is_empty() {
            return;
        }
        self.u.resize(d.space.elements[b].n_nodes(), [[0.0; LANES]; C]);
        for l in 0..LANES {
            let cell = *cells.get(l).unwrap_or(&last) as usize;
            for (to, &node) in self.u.iter_mut().zip(d.space.nodes(b, cell)) {
                let from = &u[node as usize * C..][..C];
                (0..C).for_each(|c| to[c][l] = from[c]);
            }
        }
        if d.space.may_hang(b) {
            self.interpolate(d, b, cells, u);
        }
    }

    /// Puts the values at the nodes of cells that hang in place of those at their slots.
    #[cold]
    fn interpolate(&mut self, d: &Discretisation, b: usize, cells: &[u32], u: &[f64]) {
        let last = *cells.last().expect("at least one cell");
        let [values, scratch] = &mut self.cell;
        for l in 0..LANES {
            let cell = *cells.get(l).unwrap_or(&last) as usize;
            if d.space.interpolation(b, cell).is_some() {
                d.space.gather(b, cell, u, C, values, scratch);
                for (to, from) in self.u.iter_mut().zip(values.chunks_exact(C)) {
                    (0..C).for_each(|c| to[c][l] = from[c]);
                }
            }
        }
    }

    /// Physical coordinates of point `q` of a table of the geometry's basis.
    #[inline(always)]
    pub fn image(&self, table: &Table, q: usize) -> [Lane; 3] {
        let mut at = [[0.0; LANES]; 3];
        for (x, &value) in self.x.iter().zip(table.values_at(q)) {
            (0..3).for_each(|k| add_scaled(&mut at[k], value, &x[k]));
        }
        at
    }

    /// The solution at point `q` of a table of the space's basis.
    #[inline(always)]
    pub fn value(&self, table: &Table, q: usize) -> [Lane; C] {
        let mut value = [[0.0; LANES]; C];
        for (u, &phi) in self.u.iter().zip(table.values_at(q)) {
            (0..C).for_each(|c| add_scaled(&mut value[c], phi, &u[c]));
        }
        value
    }

    /// Its gradient `[component][axis]` there, with the inverse of the Jacobian.
    #[inline(always)]
    pub fn gradient<const D: usize>(
        &self,
        table: &Table,
        q: usize,
        inverse: &[[Lane; D]; D],
    ) -> [[Lane; D]; C] {
        let mut reference = [[[0.0; LANES]; D]; C];
        for (u, gradient) in self.u.iter().zip(table.gradients_at(q).chunks_exact(D)) {
            for c in 0..C {
                (0..D).for_each(|a| add_scaled(&mut reference[c][a], gradient[a], &u[c]));
            }
        }
        let mut out = [[[0.0; LANES]; D]; C];
        for c in 0..C {
            for a in 0..D {
                for k in 0..D {
                    add_product(&mut out[c][a], &inverse[k][a], &reference[c][k]);
                }
            }
        }
        out
    }

    /// Its second derivatives `[component][axis][axis]` there, with the inverse of the Jacobian and the
    /// gradient: `J^-T (H_ref - sum_k (d u / d x_k) H(x_k)) J^-1`. Both tables have second derivatives.
    #[inline(always)]
    pub fn second<const D: usize>(
        &self,
        table: &Table,
        geometry: &Table,
        q: usize,
        inverse: &[[Lane; D]; D],
        gradient: &[[Lane; D]; C],
        affine: bool,
    ) -> [[[Lane; D]; D]; C] {
        let mut reference = [[[[0.0; LANES]; D]; D]; C];
        for (u, second) in self.u.iter().zip(table.hessians_at(q).chunks_exact(D * D)) {
            for c in 0..C {
                for a in 0..D {
                    (0..D).for_each(|b| add_scaled(&mut reference[c][a][b], second[a * D + b], &u[c]));
                }
            }
        }
        if !affine {
            for (x, second) in self.x.iter().zip(geometry.hessians_at(q).chunks_exact(D * D)) {
                for c in 0..C {
                    for k in 0..D {
                        let mut slope = [0.0; LANES];
                        add_product(&mut slope, &gradient[c][k], &x[k]);
                        for a in 0..D {
                            for b in 0..D {
                                add_scaled(&mut reference[c][a][b], -second[a * D + b], &slope);
                            }
                        }
                    }
                }
            }
        }
        let mut out = [[[[0.0; LANES]; D]; D]; C];
        for c in 0..C {
            for e in 0..D {
                // One index after the other.
                let mut half = [[0.0; LANES]; D];
                for a in 0..D {
                    (0..D).for_each(|b| add_product(&mut half[a], &reference[c][a][b], &inverse[b][e]));
                }
                for f in 0..D {
                    (0..D).for_each(|a| add_product(&mut out[c][f][e], &inverse[a][f], &half[a]));
                }
            }
        }
        out
    }

    /// The Jacobian's inverse and determinant at point `q` of a table of the geometry's basis.
    ///
    /// # Errors
    /// A cell whose determinant there is not positive.
    #[inline(always)]
    pub fn map<const D: usize>(
        &self,
        d: &Discretisation,
        b: usize,
        cells: &[u32],
        table: &Table,
        q: usize,
    ) -> Result<([[Lane; D]; D], Lane), AssemblyError> {
        let (inverse, determinant) = invert::<D>(&jacobian::<D>(table, q, &self.x));
        // As a sum of conditions: a search for the first would go cell by cell.
        if determinant.iter().any(|&det| det <= 0.0 || det.is_nan()) {
            return Err(self.inverted(d, b, cells, table, q, &determinant));
        }
        Ok((inverse, determinant))
    }

    #[cold]
    fn inverted(
        &self,
        d: &Discretisation,
        b: usize,
        cells: &[u32],
        table: &Table,
        q: usize,
        determinant: &Lane,
    ) -> AssemblyError {
        let l = determinant.iter().position(|&det| det <= 0.0 || det.is_nan()).expect("one is not positive");
        let cell = cells[l.min(cells.len() - 1)] as usize;
        let mut x = Vec::new();
        d.mesh.cell_coordinates(&d.mesh.blocks[b], cell, &mut x);
        AssemblyError::inverted(d, b, cell, geometry::image(table, q, &x))
    }
}

/// The Jacobian `[a][b] = d x_a / d xi_b` at point `q` of a table of the geometry's basis.
#[inline(always)]
pub(super) fn jacobian<const D: usize>(table: &Table, q: usize, x: &[[Lane; 3]]) -> [[Lane; D]; D] {
    let mut j = [[[0.0; LANES]; D]; D];
    for (x, gradient) in x.iter().zip(table.gradients_at(q).chunks_exact(D)) {
        for a in 0..D {
            (0..D).for_each(|b| add_scaled(&mut j[a][b], gradient[b], &x[a]));
        }
    }
    j
}

/// Inverses and determinants.
#[inline(always)]
pub(super) fn invert<const D: usize>(j: &[[Lane; D]; D]) -> ([[Lane; D]; D], Lane) {
    let mut cofactors = [[[0.0; LANES]; D]; D];
    match D {
        1 => cofactors[0][0] = [1.0; LANES],
        2 => {
            for l in 0..LANES {
                cofactors[0][0][l] = j[1][1][l];
                cofactors[0][1][l] = -j[0][1][l];
                cofactors[1][0][l] = -j[1][0][l];
                cofactors[1][1][l] = j[0][0][l];
            }
        }
        _ => {
            for a in 0..3 {
                for b in 0..3 {
                    let (p, q) = ((b + 1) % 3, (b + 2) % 3);
                    let (r, t) = ((a + 1) % 3, (a + 2) % 3);
                    for l in 0..LANES {
                        cofactors[a][b][l] = j[p][r][l] * j[q][t][l] - j[p][t][l] * j[q][r][l];
                    }
                }
            }
        }
    }
    let mut determinant = [0.0; LANES];
    for k in 0..D {
        add_product(&mut determinant, &cofactors[0][k], &j[k][0]);
    }
    let mut scale = [0.0; LANES];
    (0..LANES).for_each(|l| scale[l] = 1.0 / determinant[l]);
    for row in &mut cofactors {
        for entry in row {
            (0..LANES).for_each(|l| entry[l] *= scale[l]);
        }
    }
    (cofactors, determinant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_times_its_matrix_is_one() {
        let entry = |a: usize, b: usize, l: usize| {
            (1.0 + a as f64 + 2.0 * b as f64 + 0.1 * l as f64).sin() + if a == b { 3.0 } else { 0.0 }
        };
        fn check<const D: usize>(entry: impl Fn(usize, usize, usize) -> f64) {
            let mut j = [[[0.0; LANES]; D]; D];
            for a in 0..D {
                for b in 0..D {
                    (0..LANES).for_each(|l| j[a][b][l] = entry(a, b, l));
                }
            }
            let (inverse, determinant) = invert(&j);
            for l in 0..LANES {
                let mut full = [[0.0; 3]; 3];
                for a in 0..D {
                    for b in 0..D {
                        full[a][b] = j[a][b][l];
                        let product: f64 = (0..D).map(|k| inverse[a][k][l] * j[k][b][l]).sum();
                        let expected = if a == b { 1.0 } else { 0.0 };
                        assert!((product - expected).abs() < 1e-13, "{product}");
                    }
                }
                let expected = geometry::determinant(&full, D);
                assert!((determinant[l] - expected).abs() < 1e-12 * expected.abs());
            }
        }
        check::<1>(entry);
        check::<2>(entry);
        check::<3>(entry);
    }
}
