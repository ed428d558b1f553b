//! Cells side by side: geometry and solution of eight cells of a block, one lane a cell.
//!
//! What a loop over cells does to one cell it then does to eight at once, whatever the number of nodes
//! and points. Imports `mesh`, `law`'s lanes and the discretisation. [`gather_coordinates`] and [`gather_values`] are
//! where numbers of the mesh and of a vector become lanes; [`jacobian`] and [`invert`] map the cells. Start at
//! [`Gathered`], which holds eight cells.

use super::discretisation::{AssemblyError, Discretisation};
use crate::element::Table;
use crate::law::lanes::{Lanes, WIDTH};
use crate::mesh::{Block, Mesh, geometry};

/// The cell of each lane. The last one fills the lanes that are left.
#[inline(always)]
fn lanes_of(cells: &[u32]) -> impl Iterator<Item = (usize, usize)> {
    (0..WIDTH).map(|lane| (lane, cells[lane.min(cells.len() - 1)] as usize))
}

/// Node coordinates of up to eight cells, at least one: `[node][d]`.
#[inline(always)]
pub(super) fn gather_coordinates<const D: usize>(
    mesh: &Mesh,
    block: &Block,
    cells: &[u32],
    out: &mut [Lanes],
) {
    // The number of nodes as a constant where large problems have it.
    match block.nodes_per_cell() {
        3 => return gather_of::<D, 3>(&mesh.nodes, block.node_table(), cells, out),
        4 => return gather_of::<D, 4>(&mesh.nodes, block.node_table(), cells, out),
        _ => {}
    }
    for (lane, cell) in lanes_of(cells) {
        for (x, &v) in out.chunks_exact_mut(D).zip(block.nodes(cell)) {
            let node = &mesh.nodes[v as usize];
            for k in 0..D {
                x[k].as_mut_array()[lane] = node[k];
            }
        }
    }
}

/// [`gather_coordinates`] of cells with `N` nodes, which `table` lists.
#[inline(always)]
fn gather_of<const D: usize, const N: usize>(
    points: &[[f64; 3]],
    table: &[u32],
    cells: &[u32],
    out: &mut [Lanes],
) {
    let (table, _) = table.as_chunks::<N>();
    let (out, _) = out.as_chunks_mut::<D>();
    let out: &mut [[Lanes; D]; N] = out.first_chunk_mut().expect("room for a cell's coordinates");
    for (lane, cell) in lanes_of(cells) {
        let nodes = &table[cell];
        for i in 0..N {
            let point = &points[nodes[i] as usize];
            for k in 0..D {
                out[i][k].as_mut_array()[lane] = point[k];
            }
        }
    }
}

/// What `u` has at the nodes of up to eight cells of block `b`, at least one: `[node][c]`.
#[inline(always)]
pub(super) fn gather_values<const C: usize>(
    d: &Discretisation,
    b: usize,
    cells: &[u32],
    u: &[f64],
    out: &mut [Lanes],
) {
    for (lane, cell) in lanes_of(cells) {
        for (out, &v) in out.chunks_exact_mut(C).zip(d.space.nodes(b, cell)) {
            let u = &u[v as usize * C..][..C];
            for c in 0..C {
                out[c].as_mut_array()[lane] = u[c];
            }
        }
    }
}

/// `sum + factor x`, with a factor of a table.
#[inline(always)]
pub(super) fn add_scaled(sum: Lanes, factor: f64, x: Lanes) -> Lanes {
    x.mul_add(Lanes::splat(factor), sum)
}

/// `sum_i factors[i] of[i]`, where `of` is `[i][n]`.
#[inline(always)]
pub(super) fn combination<const N: usize>(factors: &[f64], of: &[Lanes]) -> [Lanes; N] {
    let mut sums = [Lanes::default(); N];
    for (of, &factor) in of.chunks_exact(N).zip(factors) {
        for n in 0..N {
            sums[n] = add_scaled(sums[n], factor, of[n]);
        }
    }
    sums
}

/// `j[a][b] = d x_a / d xi_b` at point `q` of a table of the geometry's basis; `x` is `[node][a]`.
#[inline(always)]
pub(super) fn jacobian<const D: usize>(table: &Table, q: usize, x: &[Lanes]) -> [[Lanes; D]; D] {
    let mut j = [[Lanes::default(); D]; D];
    for (point, gradient) in x.chunks_exact(D).zip(table.gradients_at(q).chunks_exact(D)) {
        for a in 0..D {
            for b in 0..D {
                j[a][b] = add_scaled(j[a][b], gradient[b], point[a]);
            }
        }
    }
    j
}

/// Inverse and determinant.
#[inline(always)]
pub(super) fn invert<const D: usize>(j: &[[Lanes; D]; D]) -> ([[Lanes; D]; D], Lanes) {
    let mut inverse = [[Lanes::default(); D]; D];
    let det;
    match D {
        1 => {
            det = j[0][0];
            inverse[0][0] = Lanes::splat(1.0) / det;
        }
        2 => {
            det = j[0][0] * j[1][1] - j[0][1] * j[1][0];
            let s = Lanes::splat(1.0) / det;
            inverse[0][0] = j[1][1] * s;
            inverse[0][1] = -j[0][1] * s;
            inverse[1][0] = -j[1][0] * s;
            inverse[1][1] = j[0][0] * s;
        }
        _ => {
            let cofactor = |a: usize, b: usize| {
                let (p, q) = ((b + 1) % 3, (b + 2) % 3);
                let (r, t) = ((a + 1) % 3, (a + 2) % 3);
                j[p][r] * j[q][t] - j[p][t] * j[q][r]
            };
            // inverse[a][b] = cofactor(a, b) / det, det along the first row of j.
            let first: [Lanes; 3] = [cofactor(0, 0), cofactor(1, 0), cofactor(2, 0)];
            det = j[0][0] * first[0] + j[0][1] * first[1] + j[0][2] * first[2];
            let s = Lanes::splat(1.0) / det;
            for a in 0..3 {
                inverse[a][0] = first[a] * s;
                for b in 1..3 {
                    inverse[a][b] = cofactor(a, b) * s;
                }
            }
        }
    }
    (inverse, det)
}

/// The first lane whose determinant is not positive.
#[inline(always)]
pub(super) fn not_positive(determinant: Lanes) -> Option<usize> {
    let positive = determinant.simd_gt(Lanes::splat(0.0)).to_bitmask();
    (positive != (1 << WIDTH) - 1).then_some(positive.trailing_ones() as usize)
}

/// Up to eight cells of a block.
#[derive(Default)]
pub(super) struct Gathered<const D: usize, const C: usize> {
    /// How many cells there are; the others repeat the last.
    pub n: usize,
    /// Coordinates, `[geometry node][axis]`.
    x: Vec<Lanes>,
    /// The solution, `[node][component]`.
    u: Vec<Lanes>,
    /// The solution on one cell that hangs, and room to interpolate it.
    cell: [Vec<f64>; 2],
}

impl<const D: usize, const C: usize> Gathered<D, C> {
    /// Gathers the geometry of `cells`, at least one, and the solution `u` there unless it is empty.
    pub fn gather(&mut self, d: &Discretisation, b: usize, cells: &[u32], u: &[f64]) {
        let block = &d.mesh.blocks[b];
        self.n = cells.len();
        self.x.resize(block.nodes_per_cell() * D, Lanes::default());
        gather_coordinates::<D>(d.mesh, block, cells, &mut self.x);
        if !u.is_empty() {
            self.u.resize(d.space.elements[b].n_nodes() * C, Lanes::default());
            gather_values::<C>(d, b, cells, u, &mut self.u);
            if d.space.may_hang(b) {
                self.interpolate(d, b, cells, u);
            }
        }
    }

    /// Puts the values at the nodes of cells that hang in place of those at their slots.
    #[cold]
    fn interpolate(&mut self, d: &Discretisation, b: usize, cells: &[u32], u: &[f64]) {
        let [values, scratch] = &mut self.cell;
        for (lane, cell) in lanes_of(cells) {
            if d.space.interpolation(b, cell).is_some() {
                d.space.gather(b, cell, u, C, values, scratch);
                for (to, from) in self.u.chunks_exact_mut(C).zip(values.chunks_exact(C)) {
                    (0..C).for_each(|c| to[c].as_mut_array()[lane] = from[c]);
                }
            }
        }
    }

    /// Takes up to eight cells, at least one, that are not the mesh's: coordinates `[cell][node][axis]` and the
    /// solution `[cell][node][component]`.
    pub fn take(&mut self, n: usize, x: &[f64], u: &[f64]) {
        self.n = n;
        let lanes = |all: &[f64], out: &mut Vec<Lanes>| {
            let width = all.len() / n;
            out.resize(width, Lanes::default());
            for lane in 0..WIDTH {
                let of_cell = &all[lane.min(n - 1) * width..][..width];
                out.iter_mut().zip(of_cell).for_each(|(to, from)| to.as_mut_array()[lane] = *from);
            }
        };
        lanes(x, &mut self.x);
        lanes(u, &mut self.u);
    }

    /// Appends the coordinates and the solution of cell `lane`, as [`Gathered::take`] has them.
    pub fn append(&self, lane: usize, x: &mut Vec<f64>, u: &mut Vec<f64>) {
        x.extend(self.x.iter().map(|x| x.as_array()[lane]));
        u.extend(self.u.iter().map(|u| u.as_array()[lane]));
    }

    /// Coordinates of the geometry's nodes of cell `lane`.
    pub fn coordinates(&self, lane: usize) -> impl Iterator<Item = [f64; 3]> {
        self.x.chunks_exact(D).map(move |x| {
            let mut at = [0.0; 3];
            (0..D).for_each(|k| at[k] = x[k].as_array()[lane]);
            at
        })
    }

    /// Physical coordinates of point `q` of a table of the geometry's basis.
    #[inline(always)]
    pub fn image(&self, table: &Table, q: usize) -> [Lanes; D] {
        combination(table.values_at(q), &self.x)
    }

    /// The solution at point `q` of a table of the space's basis.
    #[inline(always)]
    pub fn value(&self, table: &Table, q: usize) -> [Lanes; C] {
        combination(table.values_at(q), &self.u)
    }

    /// Its gradient `[component][axis]` there, with the inverse of the Jacobian.
    #[inline(always)]
    pub fn gradient(&self, table: &Table, q: usize, inverse: &[[Lanes; D]; D]) -> [[Lanes; D]; C] {
        let mut reference = [[Lanes::default(); D]; C];
        for (u, gradient) in self.u.chunks_exact(C).zip(table.gradients_at(q).chunks_exact(D)) {
            for c in 0..C {
                for a in 0..D {
                    reference[c][a] = add_scaled(reference[c][a], gradient[a], u[c]);
                }
            }
        }
        let mut out = [[Lanes::default(); D]; C];
        for c in 0..C {
            for a in 0..D {
                for k in 0..D {
                    out[c][a] = inverse[k][a].mul_add(reference[c][k], out[c][a]);
                }
            }
        }
        out
    }

    /// Its second derivatives `[component][axis][axis]` there, with the inverse of the Jacobian and the
    /// gradient: `J^-T (H_ref - sum_k (d u / d x_k) H(x_k)) J^-1`. Both tables have second derivatives.
    #[inline(always)]
    pub fn second(
        &self,
        table: &Table,
        geometry: &Table,
        q: usize,
        inverse: &[[Lanes; D]; D],
        gradient: &[[Lanes; D]; C],
        affine: bool,
    ) -> [[[Lanes; D]; D]; C] {
        let mut reference = [[[Lanes::default(); D]; D]; C];
        for (u, second) in self.u.chunks_exact(C).zip(table.hessians_at(q).chunks_exact(D * D)) {
            for c in 0..C {
                for a in 0..D {
                    for b in 0..D {
                        reference[c][a][b] = add_scaled(reference[c][a][b], second[a * D + b], u[c]);
                    }
                }
            }
        }
        if !affine {
            for (x, second) in self.x.chunks_exact(D).zip(geometry.hessians_at(q).chunks_exact(D * D)) {
                for c in 0..C {
                    let mut slope = Lanes::default();
                    (0..D).for_each(|k| slope = gradient[c][k].mul_add(x[k], slope));
                    for a in 0..D {
                        for b in 0..D {
                            reference[c][a][b] = add_scaled(reference[c][a][b], -second[a * D + b], slope);
                        }
                    }
                }
            }
        }
        let mut out = [[[Lanes::default(); D]; D]; C];
        for c in 0..C {
            for e in 0..D {
                // One index after the other.
                let mut half = [Lanes::default(); D];
                for a in 0..D {
                    (0..D).for_each(|b| half[a] = reference[c][a][b].mul_add(inverse[b][e], half[a]));
                }
                for f in 0..D {
                    (0..D).for_each(|a| out[c][f][e] = inverse[a][f].mul_add(half[a], out[c][f][e]));
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
    pub fn map(
        &self,
        d: &Discretisation,
        b: usize,
        cells: &[u32],
        table: &Table,
        q: usize,
    ) -> Result<([[Lanes; D]; D], Lanes), AssemblyError> {
        let (inverse, determinant) = invert::<D>(&jacobian::<D>(table, q, &self.x));
        match not_positive(determinant) {
            None => Ok((inverse, determinant)),
            Some(lane) => Err(self.inverted(d, b, cells, table, q, lane)),
        }
    }

    #[cold]
    fn inverted(
        &self,
        d: &Discretisation,
        b: usize,
        cells: &[u32],
        table: &Table,
        q: usize,
        lane: usize,
    ) -> AssemblyError {
        let x: Vec<[f64; 3]> = self.coordinates(lane).collect();
        AssemblyError::inverted(d, b, cells[lane] as usize, geometry::image(table, q, &x))
    }
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
            let mut j = [[Lanes::default(); D]; D];
            for a in 0..D {
                for b in 0..D {
                    j[a][b] = Lanes::new(std::array::from_fn(|l| entry(a, b, l)));
                }
            }
            let (inverse, determinant) = invert(&j);
            for l in 0..WIDTH {
                let mut full = [[0.0; 3]; 3];
                for a in 0..D {
                    for b in 0..D {
                        full[a][b] = entry(a, b, l);
                        let product: f64 = (0..D).map(|k| inverse[a][k].as_array()[l] * entry(k, b, l)).sum();
                        let expected = if a == b { 1.0 } else { 0.0 };
                        assert!((product - expected).abs() < 1e-13, "{product}");
                    }
                }
                let expected = geometry::determinant(&full, D);
                assert!((determinant.as_array()[l] - expected).abs() < 1e-12 * expected.abs());
            }
        }
        check::<1>(entry);
        check::<2>(entry);
        check::<3>(entry);
    }

    #[test]
    fn the_first_lane_that_is_not_positive_is_found() {
        let lanes = |l: usize, value: f64| {
            let mut all = [1.0; WIDTH];
            all[l..].fill(value);
            Lanes::new(all)
        };
        assert_eq!(not_positive(lanes(0, 1.0)), None);
        for bad in [0.0, -1.0, f64::NAN] {
            (0..WIDTH).for_each(|l| assert_eq!(not_positive(lanes(l, bad)), Some(l)));
        }
    }
}
