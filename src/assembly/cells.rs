//! The loop over cells: every thread completes its own rows, eight cells at a time.
//!
//! A run of cells is read once: of its cells those that touch the thread's rows are taken, material by
//! material, in batches whose coefficients are evaluated at once; each eight of them go through the
//! kernels and their rows to the matrix while they are in the first-level cache. A row receives its cells
//! in one order whatever the number of threads. Start at [`visit`].

use rayon::prelude::*;

use super::constraints::Constraints;
use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::group::{Cells, Group, Inverted};
use super::lanes::{combination, gather_coordinates, gather_values};
use super::matrix::Piece;
use super::products::Affine;
use super::spans::Spans;
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::Points;
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Part};

/// Points whose coefficients are evaluated at once: enough to forget what a call costs, few enough to
/// stay in the first-level cache.
const POINTS: usize = 1024;

/// The buffers of a thread, reused from batch to batch.
#[derive(Default)]
struct Work {
    /// Cells of a run that touch the piece.
    cells: Vec<u32>,
    /// Those of one material.
    same: Vec<u32>,
    group: Group,
    /// Node coordinates, `[group][node][d]`.
    x: Vec<Lanes>,
    /// Physical points, axis by axis, `[group][q][lane]`.
    at: [Vec<f64>; 3],
    residual: CoefficientBatch,
    tangent: CoefficientBatch,
    /// The state of a group, `[node][c]`.
    u: Vec<Lanes>,
    /// Matrix and residual of one cell with prescribed nodes or with something that hangs.
    cell_matrix: Vec<f64>,
    cell_residual: Vec<f64>,
    scratch: Vec<f64>,
}

/// What is assembled, and with what.
struct Task<'a, L> {
    law: &'a L,
    d: &'a Discretisation<'a>,
    u: &'a [f64],
    constraints: Option<&'a Constraints>,
    /// Only cells with nodes that these prescribe.
    only: Option<&'a Constraints>,
    what: What,
    /// Whether `u` vanishes at all nodes that `constraints` do not prescribe.
    is_lift: bool,
    /// The material of all cells, if it is one.
    only_material: Option<usize>,
}

/// Cells of one block and material.
#[derive(Clone, Copy)]
struct Of {
    block: usize,
    material: usize,
    /// Whether all their nodes have rows in the piece.
    inside: bool,
}

/// What is added to the pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Residual,
    /// Tangent and residual.
    System,
    Tangent,
    TransposedTangent,
}

impl What {
    /// Whether that has a matrix.
    pub(super) fn has_matrix(self) -> bool {
        self != What::Residual
    }

    fn has_residual(self) -> bool {
        matches!(self, What::Residual | What::System)
    }
}

/// Evaluates the coefficients of a batch at the points of a rule, `[group][q][lane]`. Points are not
/// computed at all where no wanted coefficient varies.
fn evaluate<const D: usize>(
    d: &Discretisation,
    rules: &Rules,
    material: usize,
    x: &[Lanes],
    at: &mut [Vec<f64>; 3],
    values: &mut CoefficientBatch,
    wanted: impl Fn(usize) -> bool,
) -> Result<(), AssemblyError> {
    let material = &d.materials[material];
    let varying = material.slots.iter().enumerate().any(|(k, s)| s.constant().is_none() && wanted(k));
    let n = rules.geometry.n_nodes;
    let n_points = rules.rule.weights.len();
    if varying {
        let n_groups = x.len() / (n * D);
        at[..D].iter_mut().for_each(|a| a.resize(n_groups * n_points * WIDTH, 0.0));
        for (g, x) in x.chunks_exact(n * D).enumerate() {
            for (q, phi) in rules.geometry.values.chunks_exact(n).enumerate() {
                let point: [Lanes; D] = combination(phi, x);
                let first = (g * n_points + q) * WIDTH;
                for k in 0..D {
                    at[k][first..first + WIDTH].copy_from_slice(point[k].as_array());
                }
            }
        }
    } else {
        at.iter_mut().for_each(Vec::clear);
    }
    let points = Points { x: &at[0], y: &at[1], z: &at[2], t: d.time };
    values.evaluate_some(material, &points, wanted).map_err(|e| AssemblyError::not_finite(e, at))
}

impl<L> Task<'_, L> {
    /// Adds all cells that touch a piece to it.
    fn complete<const D: usize, const C: usize>(
        &self,
        spans: &Spans,
        piece: &mut Piece,
    ) -> Result<(), (usize, usize, AssemblyError)>
    where
        L: Law<D, C>,
    {
        let mut work = Work::default();
        let d = self.d;
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let _span = tracing::debug_span!("block", level = b as u64).entered();
            for run in spans.touching(b, piece.rows()) {
                work.cells.clear();
                let cells = Spans::cells(run, block.n_cells);
                let cells = cells.start as u32..cells.end as u32;
                let inside = spans.lies_in(b, run, &piece.rows());
                if inside && self.only.is_none() {
                    work.cells.extend(cells);
                } else {
                    work.cells.extend(cells.filter(|&c| {
                        let nodes = d.space.nodes(b, c as usize);
                        piece.is_touched(nodes) && self.only.is_none_or(|only| only.touches(nodes))
                    }));
                }
                if let Some(material) = self.only_material {
                    std::mem::swap(&mut work.cells, &mut work.same);
                    work.cells.clear();
                    let of = Of { block: b, material, inside };
                    self.add_cells::<D, C>(&mut work, of, piece).map_err(|e| (b, run, e))?;
                }
                // One material after another.
                while !work.cells.is_empty() {
                    let material = d.material(b, work.cells[0] as usize);
                    work.same.clear();
                    let same = &mut work.same;
                    work.cells.retain(|&c| {
                        let other = d.material(b, c as usize) != material;
                        if !other {
                            same.push(c);
                        }
                        other
                    });
                    let of = Of { block: b, material, inside };
                    self.add_cells::<D, C>(&mut work, of, piece).map_err(|e| (b, run, e))?;
                }
            }
        }
        Ok(())
    }

    /// Adds cells of one block and material, `work.same`.
    fn add_cells<const D: usize, const C: usize>(
        &self,
        work: &mut Work,
        Of { block: b, material, inside }: Of,
        piece: &mut Piece,
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let block = &d.mesh.blocks[b];
        let n_points = d.residual[b].rule.weights.len();
        let per_batch = (POINTS / n_points).next_multiple_of(WIDTH);
        let cells = std::mem::take(&mut work.same);
        let width = block.nodes_per_cell() * D;
        for batch in cells.chunks(per_batch) {
            work.x.resize(batch.len().div_ceil(WIDTH) * width, Lanes::default());
            for (x, group) in work.x.chunks_exact_mut(width).zip(batch.chunks(WIDTH)) {
                gather_coordinates::<D>(d.mesh, block, group, x);
            }
            if self.what.has_residual() {
                let wanted = |slot| self.law.needs(Part::Residual, slot);
                let rules = &d.residual[b];
                evaluate::<D>(d, rules, material, &work.x, &mut work.at, &mut work.residual, wanted)?;
            }
            if self.what.has_matrix() {
                let wanted = |slot| self.law.needs(Part::Tangent, slot);
                let rules = &d.tangent[b];
                evaluate::<D>(d, rules, material, &work.x, &mut work.at, &mut work.tangent, wanted)?;
            }
            for (g, group) in batch.chunks(WIDTH).enumerate() {
                let prescribed = self.prescribed(b, group);
                self.compute::<D, C>(work, b, g, group, prescribed)?;
                self.scatter::<C>(work, b, group, prescribed, inside, piece);
            }
        }
        work.same = cells;
        Ok(())
    }

    /// Runs the kernels for group `g` of the batch.
    #[inline(always)]
    fn compute<const D: usize, const C: usize>(
        &self,
        work: &mut Work,
        b: usize,
        g: usize,
        group: &[u32],
        prescribed: u32,
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let block = &d.mesh.blocks[b];
        let n = d.space.elements[b].n_nodes();
        let width = block.nodes_per_cell() * D;
        let x = &work.x[g * width..][..width];
        // The lifted state vanishes away from the boundary, where most cells are.
        let mut zero = true;
        if prescribed != 0 || !self.is_lift {
            for &cell in group {
                for &v in d.space.nodes(b, cell as usize) {
                    zero &= self.u[v as usize * C..][..C].iter().all(|&u| u == 0.0);
                }
            }
        }
        if !zero {
            work.u.resize(n * C, Lanes::default());
            gather_values::<C>(d, b, group, self.u, &mut work.u);
            if d.space.may_hang(b) {
                let Work { u, cell_residual, scratch, .. } = work;
                self.interpolate::<C>(u, [cell_residual, scratch], b, group);
            }
        }
        let u = (!zero).then_some(&work.u[..]);
        let out = &mut work.group;
        out.clear(n * C, self.what.has_matrix());
        let inverted = |rules: &Rules, Inverted { lane, q }: Inverted| {
            let mut at = [0.0; 3];
            for (x, phi) in x.chunks_exact(D).zip(&rules.geometry.values[q * rules.geometry.n_nodes..]) {
                (0..D).for_each(|k| at[k] += phi * x[k].as_array()[lane]);
            }
            AssemblyError::inverted(d, b, group[lane] as usize, at)
        };
        let rules = &d.residual[b];
        let products = d.products[b].as_ref().filter(|_| self.what.has_matrix());
        let affine = match products {
            _ if block.is_affine() => Affine::All,
            Some(products) => products.affine::<D>(rules, x),
            None => Affine::None,
        };
        out.map::<D>(&rules.geometry, &rules.rule.weights, x, affine).map_err(|e| inverted(rules, e))?;
        let degree = d.space.degree;
        if self.what.has_residual() {
            let all = Cells::new(rules, x, u, &work.residual, g, degree);
            out.add_residual::<L, D, C>(self.law, &all);
        }
        if self.what.has_matrix() {
            let rules = &d.tangent[b];
            let weights = &rules.rule.weights;
            let all = Cells::new(rules, x, u, &work.tangent, g, degree);
            if products.is_none() || !matches!(affine, Affine::All) {
                if matches!(affine, Affine::All) {
                    out.weigh(weights);
                } else {
                    out.map::<D>(&rules.geometry, weights, x, affine).map_err(|e| inverted(rules, e))?;
                }
                // The number of nodes as a constant where large problems have it.
                match (D, n) {
                    (2, 3) => out.add_tangent::<L, D, C>(self.law, &all, 3),
                    (2, 4) => out.add_tangent::<L, D, C>(self.law, &all, 4),
                    (3, 4) => out.add_tangent::<L, D, C>(self.law, &all, 4),
                    _ => out.add_tangent::<L, D, C>(self.law, &all, n),
                }
            }
            if let Some(products) = products.filter(|_| !matches!(affine, Affine::None)) {
                out.set_tangent::<L, D, C>(self.law, &all, products, affine);
            }
            if self.what == What::TransposedTangent {
                out.transpose(n, C);
            }
        }
        Ok(())
    }

    /// Puts the state at the nodes of cells that hang in place of that at their slots.
    #[cold]
    fn interpolate<const C: usize>(
        &self,
        u: &mut [Lanes],
        room: [&mut Vec<f64>; 2],
        b: usize,
        group: &[u32],
    ) {
        let [values, scratch] = room;
        for lane in 0..WIDTH {
            let cell = group[lane.min(group.len() - 1)] as usize;
            if self.d.space.interpolation(b, cell).is_some() {
                self.d.space.gather(b, cell, self.u, C, values, scratch);
                for (out, from) in u.chunks_exact_mut(C).zip(values.chunks_exact(C)) {
                    (0..C).for_each(|c| out[c].as_mut_array()[lane] = from[c]);
                }
            }
        }
    }

    /// Adds the rows of a cell that hangs: its matrix and residual are taken to its slots, `C^T K C` and
    /// `C^T r`, before conditions are applied there.
    #[cold]
    fn scatter_hanging<const C: usize>(
        &self,
        work: &mut Work,
        b: usize,
        lane: usize,
        cell: usize,
        piece: &mut Piece,
    ) {
        let hanging = self.d.space.interpolation(b, cell).expect("the cell hangs");
        let nodes = self.d.space.nodes(b, cell);
        let Work { group, cell_matrix, cell_residual, scratch, .. } = work;
        of_lane(bytemuck::cast_slice(&group.residual), lane, cell_residual);
        hanging.scatter(cell_residual, C, scratch);
        of_lane(bytemuck::cast_slice(&group.matrix), lane, cell_matrix);
        if self.what.has_matrix() {
            hanging.transform(cell_matrix, C, scratch);
        }
        if let Some(constraints) = self.constraints {
            let matrix = self.what.has_matrix().then_some(&mut cell_matrix[..]);
            constraints.apply(nodes, matrix, cell_residual);
        }
        piece.add::<C, 1>(nodes, cell_matrix, cell_residual, 0);
    }

    /// Which cells of a group have nodes with prescribed DOFs: a bit each.
    #[inline(always)]
    fn prescribed(&self, b: usize, group: &[u32]) -> u32 {
        let Some(constraints) = self.constraints else { return 0 };
        let table = &self.d.space.cell_to_node[b];
        match self.d.space.elements[b].n_nodes() {
            3 => constraints.touched::<3>(table, group),
            4 => constraints.touched::<4>(table, group),
            _ => {
                let touches = |cell: u32| constraints.touches(self.d.space.nodes(b, cell as usize));
                group.iter().enumerate().fold(0, |all, (k, &cell)| all | u32::from(touches(cell)) << k)
            }
        }
    }

    /// Adds the rows of a group, of which the cells `prescribed` have prescribed DOFs.
    #[inline(always)]
    fn scatter<const C: usize>(
        &self,
        work: &mut Work,
        b: usize,
        group: &[u32],
        prescribed: u32,
        inside: bool,
        piece: &mut Piece,
    ) {
        if inside && !self.d.space.may_hang(b) {
            // The number of nodes as a constant where large problems have it.
            match self.d.space.elements[b].n_nodes() {
                3 => return self.scatter_inside::<C, 3>(work, b, group, prescribed, piece),
                4 => return self.scatter_inside::<C, 4>(work, b, group, prescribed, piece),
                _ => {}
            }
        }
        let may_hang = self.d.space.may_hang(b);
        for (lane, &cell) in group.iter().enumerate() {
            if may_hang && self.d.space.interpolation(b, cell as usize).is_some() {
                self.scatter_hanging::<C>(work, b, lane, cell as usize, piece);
            } else if prescribed >> lane & 1 != 0 {
                self.scatter_prescribed::<C>(work, b, lane, cell as usize, piece);
            } else {
                let matrix: &[f64] = bytemuck::cast_slice(&work.group.matrix);
                let residual: &[f64] = bytemuck::cast_slice(&work.group.residual);
                piece.add::<C, WIDTH>(self.d.space.nodes(b, cell as usize), matrix, residual, lane);
            }
        }
    }

    /// [`Task::scatter`] for cells of `N` nodes that all have rows in the piece; none hangs.
    #[inline(always)]
    fn scatter_inside<const C: usize, const N: usize>(
        &self,
        work: &mut Work,
        b: usize,
        group: &[u32],
        prescribed: u32,
        piece: &mut Piece,
    ) {
        let (table, _) = self.d.space.cell_to_node[b].as_chunks::<N>();
        for (lane, &cell) in group.iter().enumerate() {
            if prescribed >> lane & 1 != 0 {
                self.scatter_prescribed::<C>(work, b, lane, cell as usize, piece);
                continue;
            }
            let matrix: &[f64] = bytemuck::cast_slice(&work.group.matrix);
            let residual: &[f64] = bytemuck::cast_slice(&work.group.residual);
            piece.add_inside::<C, WIDTH, N>(&table[cell as usize], matrix, residual, lane);
        }
    }

    /// Adds the rows of a cell with prescribed DOFs.
    #[inline(never)]
    fn scatter_prescribed<const C: usize>(
        &self,
        work: &mut Work,
        b: usize,
        lane: usize,
        cell: usize,
        piece: &mut Piece,
    ) {
        let nodes = self.d.space.nodes(b, cell);
        of_lane(bytemuck::cast_slice(&work.group.matrix), lane, &mut work.cell_matrix);
        of_lane(bytemuck::cast_slice(&work.group.residual), lane, &mut work.cell_residual);
        if let Some(constraints) = self.constraints {
            let matrix = self.what.has_matrix().then_some(&mut work.cell_matrix[..]);
            constraints.apply(nodes, matrix, &mut work.cell_residual);
        }
        piece.add::<C, 1>(nodes, &work.cell_matrix, &work.cell_residual, 0);
    }
}

/// Takes one lane's values out of those of a group.
#[inline(always)]
fn of_lane(all: &[f64], lane: usize, out: &mut Vec<f64>) {
    out.clear();
    out.extend(all.chunks_exact(WIDTH).map(|lanes| lanes[lane]));
}

/// Whether `u` vanishes at all nodes that `constraints` do not prescribe.
fn is_lift<const C: usize>(u: &[f64], constraints: Option<&Constraints>) -> bool {
    let Some(constraints) = constraints else { return false };
    let (u, _) = u.as_chunks::<C>();
    let zero = |(u, &flags): (&[f64; C], &u8)| flags != 0 || u.iter().all(|&u| u == 0.0);
    let chunks = u.par_chunks(1 << 14).zip(constraints.flags().par_chunks(1 << 14));
    chunks.all(|(u, flags)| u.iter().zip(flags).fold(true, |all, at| all & zero(at)))
}

/// Adds `what` of every cell that touches an owned node to the pieces of the owned rows. With `constraints`, rows and columns of prescribed DOFs are
/// eliminated on the way. With `only`, rows of nodes that it prescribes are complete, other rows are not.
///
/// Bitwise the same for any number of pieces: rows receive cells in one order.
///
/// # Errors
/// This rank's own, the first in the order of cells: agree on it before communicating.
pub(super) fn visit<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    u: &[f64],
    what: What,
    pieces: &mut [Piece],
    constraints: Option<&Constraints>,
    only: Option<&Constraints>,
) -> Result<(), AssemblyError> {
    let _span = tracing::debug_span!("cells").entered();
    let is_lift = is_lift::<C>(u, constraints);
    let mut materials = d.set_material.iter().map(|&material| usize::from(material));
    let first = materials.next();
    let only_material = first.filter(|&first| materials.all(|other| other == first));
    let task = Task { law, d, u, constraints, only, what, is_lift, only_material };
    let errors: Vec<_> =
        pieces.par_iter_mut().filter_map(|piece| task.complete::<D, C>(&d.spans, piece).err()).collect();
    match errors.into_iter().min_by_key(|&(block, run, _)| (block, run)) {
        Some((_, _, error)) => Err(error),
        None => Ok(()),
    }
}
