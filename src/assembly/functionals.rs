//! Numbers from fields: error norms, integrals over regions and boundaries, values at points.

use rayon::prelude::*;

use super::derived::{Nodal, RegionNodes};
use super::discretisation::{AssemblyError, Discretisation};
use super::facets::{self, FacetRule};
use super::kernel::{self, CellPoints};
use crate::element::{Quadrature, Table};
use crate::law::expr::Points;
use crate::law::{Law, Part, Point, Quantity, coefficients::Batch as CoefficientBatch};
use crate::mesh::{EntityTag, geometry};

/// Evaluates quantities at fixed reference points of a block's cells.
pub(super) struct Evaluator {
    block: usize,
    basis: Table,
    geometry: Table,
    reference_weights: Vec<f64>,
    points: CellPoints,
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    coefficients: CoefficientBatch,
    state: Vec<f64>,
}

impl Evaluator {
    pub fn new(
        d: &Discretisation,
        block: usize,
        points: &[[f64; 3]],
        weights: Vec<f64>,
        derivatives: usize,
    ) -> Self {
        let basis = d.space.elements[block].tabulate(points, derivatives.max(1));
        let geometry = geometry::basis(&d.mesh.blocks[block]).tabulate(points, derivatives.max(1));
        Evaluator {
            block,
            basis,
            geometry,
            reference_weights: weights,
            points: CellPoints::default(),
            coordinates: Vec::new(),
            x: Default::default(),
            coefficients: CoefficientBatch::default(),
            state: Vec::new(),
        }
    }

    /// Weights times determinants of the mapped cell.
    pub fn weights(&self) -> &[f64] {
        &self.points.weights
    }

    /// Maps the points to a cell.
    pub fn map<const D: usize>(&mut self, d: &Discretisation, cell: usize) -> Result<(), AssemblyError> {
        let block = &d.mesh.blocks[self.block];
        self.coordinates.clear();
        d.mesh.cell_coordinates(block, cell, &mut self.coordinates);
        self.points
            .map::<D>(
                &self.basis,
                &self.geometry,
                &self.reference_weights,
                &self.coordinates,
                block.is_affine(),
                false,
                d.space.degree,
            )
            .map_err(|kernel::Inverted(q)| {
                let at = geometry::image(&self.geometry, q, &self.coordinates);
                AssemblyError::inverted(d, self.block, cell, at)
            })
    }

    /// Physical coordinates of the points of the mapped cell.
    fn place(&mut self) {
        self.x.iter_mut().for_each(Vec::clear);
        for q in 0..self.reference_weights.len() {
            let at = geometry::image(&self.geometry, q, &self.coordinates);
            (0..3).for_each(|k| self.x[k].push(at[k]));
        }
    }

    fn load_state<const C: usize>(&mut self, d: &Discretisation, cell: usize, u: &[f64]) {
        self.state.clear();
        for &v in d.space.nodes(self.block, cell) {
            self.state.extend_from_slice(&u[v as usize * C..][..C]);
        }
    }

    /// Maps a cell and evaluates a quantity at all points: `[point][value]`.
    pub fn evaluate<L: Law<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: &L,
        d: &Discretisation,
        cell: usize,
        quantity: Quantity,
        width: usize,
        u: &[f64],
        out: &mut Vec<f64>,
    ) -> Result<(), AssemblyError> {
        self.map::<D>(d, cell)?;
        self.place();
        self.load_state::<C>(d, cell, u);
        let material = &d.materials[d.material(self.block, cell)];
        let points = Points { x: &self.x[0], y: &self.x[1], z: &self.x[2], t: d.time };
        let wanted = |slot| law.needs(Part::Quantities, slot);
        self.coefficients
            .evaluate_some(material, &points, wanted)
            .map_err(|e| AssemblyError::not_finite(e, &self.x))?;
        out.clear();
        out.resize(self.reference_weights.len() * width, 0.0);
        let mut p = Point::<D, C>::default();
        for q in 0..self.reference_weights.len() {
            self.points.state(&self.basis, q, &self.state, false, &mut p);
            law.evaluate(quantity, &p, &self.coefficients.at(q), &mut out[q * width..][..width]);
        }
        Ok(())
    }
}

/// Cells a task takes in a sum: fixed, so that sums do not depend on the number of threads.
const CELLS_PER_TASK: usize = 1 << 12;

/// Sums `f` over owned cells: tasks in parallel, their results in order.
fn sum_cells<const N: usize>(
    d: &Discretisation,
    degree: usize,
    f: impl Fn(&mut Evaluator, usize, usize) -> Result<[f64; N], AssemblyError> + Sync,
    keep: impl Fn(usize, usize) -> bool + Sync,
) -> Result<[f64; N], AssemblyError> {
    let mut total = [0.0; N];
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != crate::element::GeometryKind::Linear) * 2;
        let rule =
            Quadrature::new(block.shape, degree + curved).expect("rules exist for every degree asked for");
        let parts: Vec<Result<[f64; N], AssemblyError>> = (0..block.n_owned.div_ceil(CELLS_PER_TASK))
            .into_par_iter()
            .map_init(
                || Evaluator::new(d, b, &rule.points, rule.weights.clone(), 1),
                |evaluator, task| {
                    let mut sum = [0.0; N];
                    let cells = task * CELLS_PER_TASK..((task + 1) * CELLS_PER_TASK).min(block.n_owned);
                    for cell in cells.filter(|&c| keep(b, c)) {
                        let part = f(evaluator, b, cell)?;
                        (0..N).for_each(|k| sum[k] += part[k]);
                    }
                    Ok(sum)
                },
            )
            .collect();
        for part in parts {
            let part = part?;
            (0..N).for_each(|k| total[k] += part[k]);
        }
    }
    Ok(total)
}

/// Integral of one value of a quantity over owned cells for which `keep` holds.
pub(super) fn integrate_cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    quantity: Quantity,
    width: usize,
    value: usize,
    u: &[f64],
    keep: impl Fn(usize, usize) -> bool + Sync,
) -> Result<f64, AssemblyError> {
    let [sum] = sum_cells(
        d,
        2 * d.space.degree + 2,
        |e, _, cell| {
            let mut out = Vec::new();
            e.evaluate::<L, D, C>(law, d, cell, quantity, width, u, &mut out)?;
            let weights = e.weights().iter().zip(out.chunks_exact(width));
            Ok([weights.map(|(w, v)| w * v[value]).sum::<f64>()])
        },
        keep,
    )?;
    Ok(sum)
}

/// Which value of a quantity is integrated over facets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// One of its values.
    Value(usize),
    /// The first `dim` values along the outward normal.
    Normal,
}

/// Integral of a quantity over facets of owned cells, from the cell's own gradient.
pub(super) fn integrate_facets<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    facets: &[EntityTag],
    quantity: Quantity,
    width: usize,
    value: Located,
    u: &[f64],
) -> Result<f64, AssemblyError> {
    let mut sum = 0.0;
    let mut out = Vec::new();
    let mut evaluators: Vec<Vec<Option<Evaluator>>> =
        rules.iter().map(|facets| facets.iter().map(|_| None).collect()).collect();
    for facet in facets {
        let (b, f) = (facet.block as usize, facet.local as usize);
        let rule = &rules[b][f];
        let block = &d.mesh.blocks[b];
        let evaluator = evaluators[b][f].get_or_insert_with(|| {
            let shape = block.shape;
            let degree = facets::facet_degree(d.mesh, d.space, b);
            let on_facet = Quadrature::new(shape.entity_shape(d.mesh.dim - 1, f), degree)
                .expect("rules exist for every degree asked for");
            let points: Vec<[f64; 3]> = on_facet.points.iter().map(|&p| shape.facet_point(f, p)).collect();
            Evaluator::new(d, b, &points, on_facet.weights, 1)
        });
        evaluator.evaluate::<L, D, C>(law, d, facet.cell as usize, quantity, width, u, &mut out)?;
        for (q, values) in out.chunks_exact(width).enumerate() {
            let n = rule.normal(q, &evaluator.coordinates);
            let area = n.iter().map(|n| n * n).sum::<f64>().sqrt();
            sum += rule.weights[q]
                * match value {
                    Located::Value(k) => area * values[k],
                    Located::Normal => (0..D).map(|k| n[k] * values[k]).sum(),
                };
        }
    }
    Ok(sum)
}

/// The value of a nodal field at a point of an owned cell: interpolated by the space's basis.
pub(super) fn interpolate(
    d: &Discretisation,
    points: &RegionNodes,
    nodal: &Nodal,
    block: usize,
    cell: usize,
    reference: [f64; 3],
) -> Vec<f64> {
    let element = &d.space.elements[block];
    let table = element.tabulate(&[reference], 0);
    let n = element.n_nodes();
    let mut out = vec![0.0; nodal.width];
    for (k, &p) in points.cell_to_point[block][cell * n..][..n].iter().enumerate() {
        for (c, out) in out.iter_mut().enumerate() {
            *out += table.values[k] * nodal.values[p as usize * nodal.width + c];
        }
    }
    out
}
