//! The loop over cells: batches in parallel, rows added in one order whatever the number of threads.

use rayon::prelude::*;

use super::constraints::Constraints;
use super::discretisation::{AssemblyError, Batch, Discretisation, Rules};
use super::kernel::{self, CellPoints, Inverted};
use super::matrix::{Matrix, Pattern};
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::Points;
use crate::law::{Law, Part};
use crate::mesh::geometry;

/// What a loop over cells computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The residual.
    Residual,
    /// The residual and the tangent.
    Both,
}

/// The buffers of one batch, reused from batch to batch.
#[derive(Default)]
pub(super) struct Slot {
    batch: Option<Batch>,
    /// Element matrices, `[cell][i][a][b][j]`.
    matrices: Vec<f64>,
    /// Element residuals, `[cell][i][a]`.
    residuals: Vec<f64>,
    error: Option<AssemblyError>,
    points: CellPoints,
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    coefficients: CoefficientBatch,
    state: Vec<f64>,
}

/// Evaluates the coefficients of a batch at the points of a rule.
///
/// Points are not computed at all where no wanted coefficient varies.
pub(super) fn coefficients(
    discretisation: &Discretisation,
    rules: &Rules,
    batch: &Batch,
    coordinates: &[[f64; 3]],
    x: &mut [Vec<f64>; 3],
    values: &mut CoefficientBatch,
    wanted: impl Fn(usize) -> bool,
) -> Result<(), AssemblyError> {
    let material = &discretisation.materials[batch.material];
    x.iter_mut().for_each(Vec::clear);
    let varying = material.slots.iter().enumerate().any(|(k, s)| s.constant().is_none() && wanted(k));
    let n_nodes = rules.geometry.n_nodes;
    if varying {
        for cell in coordinates.chunks_exact(n_nodes) {
            for q in 0..rules.rule.weights.len() {
                let point = geometry::image(&rules.geometry, q, cell);
                (0..3).for_each(|d| x[d].push(point[d]));
            }
        }
    }
    let points = Points { x: &x[0], y: &x[1], z: &x[2], t: discretisation.time };
    values.evaluate_some(material, &points, wanted).map_err(|e| AssemblyError::not_finite(e, x))
}

impl Slot {
    fn fill<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: &L,
        d: &Discretisation,
        batch: &Batch,
        u: &[f64],
        want: Want,
        constraints: Option<&Constraints>,
    ) {
        self.error = self.try_fill::<L, D, C>(law, d, batch, u, want, constraints).err();
        self.batch = Some(batch.clone());
    }

    fn try_fill<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: &L,
        d: &Discretisation,
        batch: &Batch,
        u: &[f64],
        want: Want,
        constraints: Option<&Constraints>,
    ) -> Result<(), AssemblyError> {
        let block = &d.mesh.blocks[batch.block];
        let cells = &d.order[batch.block][batch.cells.clone()];
        let n = d.space.elements[batch.block].n_nodes();
        let n_dofs = n * C;
        self.residuals.clear();
        self.residuals.resize(cells.len() * n_dofs, 0.0);
        self.matrices.clear();
        self.coordinates.clear();
        for &cell in cells {
            d.mesh.cell_coordinates(block, cell as usize, &mut self.coordinates);
        }
        let m = block.nodes_per_cell();
        let affine = block.is_affine();
        let second = L::TERMS.hessian;
        let passes: &[(Want, &Rules)] =
            &[(Want::Residual, &d.residual[batch.block]), (Want::Both, &d.tangent[batch.block])];
        if want == Want::Both {
            self.matrices.resize(cells.len() * n_dofs * n_dofs, 0.0);
        }
        for &(pass, rules) in &passes[..if want == Want::Both { 2 } else { 1 }] {
            let part = if pass == Want::Residual { Part::Residual } else { Part::Tangent };
            let wanted = |slot| law.needs(part, slot);
            coefficients(d, rules, batch, &self.coordinates, &mut self.x, &mut self.coefficients, wanted)?;
            let n_points = rules.rule.weights.len();
            for (k, &cell) in cells.iter().enumerate() {
                let x = &self.coordinates[k * m..][..m];
                self.points
                    .map::<D>(
                        &rules.basis,
                        &rules.geometry,
                        &rules.rule.weights,
                        x,
                        affine,
                        second,
                        d.space.degree,
                    )
                    .map_err(|Inverted(q)| {
                        AssemblyError::inverted(
                            d,
                            batch.block,
                            cell as usize,
                            geometry::image(&rules.geometry, q, x),
                        )
                    })?;
                self.state.clear();
                for &v in d.space.nodes(batch.block, cell as usize) {
                    self.state.extend_from_slice(&u[v as usize * C..][..C]);
                }
                // The lifted state vanishes away from the boundary, where most cells are.
                let zero = self.state.iter().all(|&u| u == 0.0);
                let state = if zero { &[][..] } else { &self.state[..] };
                let (points, values) = (&self.points, &self.coefficients);
                if pass == Want::Residual {
                    let out = &mut self.residuals[k * n_dofs..][..n_dofs];
                    kernel::residual(law, points, &rules.basis, values, k * n_points, state, out);
                } else {
                    let out = &mut self.matrices[k * n_dofs * n_dofs..][..n_dofs * n_dofs];
                    tangent_sized(law, points, rules, values, k * n_points, state, out, n);
                }
            }
        }
        if let Some(constraints) = constraints {
            for (k, &cell) in cells.iter().enumerate() {
                let nodes = d.space.nodes(batch.block, cell as usize);
                let matrix = self.matrices.get_mut(k * n_dofs * n_dofs..(k + 1) * n_dofs * n_dofs);
                constraints.apply(nodes, matrix, &mut self.residuals[k * n_dofs..][..n_dofs]);
            }
        }
        Ok(())
    }
}

/// The tangent kernel with the number of nodes as a constant where it is common.
fn tangent_sized<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    points: &CellPoints,
    rules: &Rules,
    coefficients: &CoefficientBatch,
    first_point: usize,
    u: &[f64],
    out: &mut [f64],
    n: usize,
) {
    macro_rules! sized {
        ($n:expr) => {
            kernel::tangent(law, points, &rules.basis, coefficients, first_point, u, out, $n)
        };
    }
    // Only sizes of the simplices that large problems use: every size is code for every law.
    match (D, n) {
        (2, 3) => sized!(3),
        (3, 4) => sized!(4),
        (3, 10) => sized!(10),
        _ => sized!(n),
    }
}

/// Visits every cell that touches an owned node. Adds to `residual` (owned rows) and, if given, to
/// `matrix`. With `constraints`, rows and columns of prescribed DOFs are eliminated on the way.
///
/// Bitwise the same for any number of threads: rows receive cells in one order.
///
/// # Errors
/// This rank's own: agree on it before communicating.
pub(super) fn visit<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    pattern: &Pattern,
    u: &[f64],
    matrix: Option<&mut Matrix>,
    residual: &mut [f64],
    constraints: Option<&Constraints>,
) -> Result<(), AssemblyError> {
    let n_threads = rayon::current_num_threads();
    let want = if matrix.is_some() { Want::Both } else { Want::Residual };
    let mut none = Matrix { block: C, diag: Vec::new(), off: Vec::new() };
    let empty = Pattern {
        n_rows: pattern.n_rows,
        diag_ptr: vec![0; if matrix.is_some() { 0 } else { pattern.n_rows + 1 }],
        diag_col: Vec::new(),
        off_ptr: vec![0; if matrix.is_some() { 0 } else { pattern.n_rows + 1 }],
        off_col: Vec::new(),
    };
    // Without a matrix rows are cut by a pattern without entries: all in the last piece, which is fine
    // for the little work that adding residuals is.
    let (matrix, pattern) = match matrix {
        Some(matrix) => (matrix, pattern),
        None => (&mut none, &empty),
    };
    let mut pieces = matrix.pieces(pattern, residual, n_threads);
    // Threads meet twice a round, so a round is some milliseconds long; its buffers take at most 16 MiB a
    // thread.
    let per_round = if n_threads == 1 { 1 } else { 64 * n_threads };
    let mut slots: Vec<Slot> = (0..per_round).map(|_| Slot::default()).collect();
    for round in d.batches.chunks(per_round) {
        let slots = &mut slots[..round.len()];
        if n_threads == 1 {
            slots[0].fill::<L, D, C>(law, d, &round[0], u, want, constraints);
        } else {
            slots
                .par_iter_mut()
                .zip(round)
                .for_each(|(slot, batch)| slot.fill::<L, D, C>(law, d, batch, u, want, constraints));
        }
        if let Some(error) = slots.iter_mut().find_map(|s| s.error.take()) {
            return Err(error);
        }
        let slots = &*slots;
        let add = |piece: &mut super::matrix::Piece| {
            for slot in slots {
                let batch = slot.batch.as_ref().expect("a filled slot names its batch");
                let cells = &d.order[batch.block][batch.cells.clone()];
                let n_dofs = slot.residuals.len() / cells.len();
                for (k, &cell) in cells.iter().enumerate() {
                    let size = slot.matrices.len() / cells.len();
                    piece.add(
                        d.space.nodes(batch.block, cell as usize),
                        &slot.matrices[k * size..][..size],
                        &slot.residuals[k * n_dofs..][..n_dofs],
                    );
                }
            }
        };
        if n_threads == 1 { pieces.iter_mut().for_each(add) } else { pieces.par_iter_mut().for_each(add) }
    }
    Ok(())
}
