//! Numbers from fields: error norms, integrals over regions and boundaries, values at points.

use rayon::prelude::*;

use super::derived::{Nodal, RegionNodes};
use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::facets::{self, FacetRule};
use super::kernel::{self, CellPoints};
use crate::element::{Quadrature, Table};
use crate::law::expr::{Expr, ExprSet, Points, Scratch, Var};
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

/// Norms of the error against an exact solution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactErrors {
    /// In L2.
    pub l2: f64,
    /// The H1 seminorm.
    pub h1: f64,
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

/// Squared error norms of this rank's cells: L2, H1 seminorm.
///
/// Bound by the exact solution's sines and exponentials: expressions are evaluated for about a thousand
/// points at once, the value and its derivatives sharing what they have in common.
pub(super) fn exact_errors<const D: usize, const C: usize>(
    d: &Discretisation,
    key: &str,
    exact: &[Expr],
    u: &[f64],
) -> Result<[f64; 2], AssemblyError> {
    let axes = [Var::X, Var::Y, Var::Z];
    let with_gradient = |e: &Expr| {
        std::iter::once(e.clone()).chain(axes[..D].iter().map(|&v| e.derivative(v))).collect::<Vec<_>>()
    };
    let outputs: Vec<Expr> = exact.iter().flat_map(with_gradient).collect();
    let outputs = ExprSet::new(&outputs);
    let mut total = [0.0; 2];
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != crate::element::GeometryKind::Linear) * 2;
        let degree = 2 * d.space.degree + 4 + curved;
        let rules = Rules::new(d.mesh, d.space, b, degree, 1);
        let parts: Vec<Result<[f64; 2], AssemblyError>> = (0..block.n_owned.div_ceil(CELLS_PER_TASK))
            .into_par_iter()
            .map_init(ErrorWork::default, |work, task| {
                let end = ((task + 1) * CELLS_PER_TASK).min(block.n_owned);
                let per_batch = (1024 / rules.rule.len()).max(1);
                let mut sums = [0.0; 2];
                let mut begin = task * CELLS_PER_TASK;
                while begin < end {
                    let cells = begin..(begin + per_batch).min(end);
                    begin = cells.end;
                    work.add::<D, C>(d, b, &rules, cells, &outputs, u, &mut sums)
                        .map_err(|at| at.into_error::<D>(key, exact))?;
                }
                Ok(sums)
            })
            .collect();
        for part in parts {
            let part = part?;
            (0..2).for_each(|k| total[k] += part[k]);
        }
    }
    Ok(total)
}

/// What is wrong at a point of the error norms.
enum BadPoint {
    /// The cell.
    Cell(AssemblyError),
    /// The exact solution or its gradient, by its number among the outputs.
    Exact { output: usize, value: f64, x: [f64; 3] },
}

impl BadPoint {
    fn into_error<const D: usize>(self, key: &str, exact: &[Expr]) -> AssemblyError {
        match self {
            BadPoint::Cell(error) => error,
            BadPoint::Exact { output, value, x } => {
                let expr = exact[output / (1 + D)].text();
                let text = match output % (1 + D) {
                    0 => expr.to_string(),
                    axis => format!("d/d{} of {expr}", ["x", "y", "z"][axis - 1]),
                };
                let [x, y, z] = x;
                AssemblyError::NotFinite { key: key.to_string(), text, value: value.to_string(), x, y, z }
            }
        }
    }
}

/// Buffers of the error norms, reused from batch to batch.
#[derive(Default)]
struct ErrorWork {
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    weights: Vec<f64>,
    inverses: Vec<[[f64; 3]; 3]>,
    values: Vec<f64>,
    scratch: Scratch,
}

impl ErrorWork {
    /// Adds the squared errors of some cells.
    fn add<const D: usize, const C: usize>(
        &mut self,
        d: &Discretisation,
        b: usize,
        rules: &Rules,
        cells: std::ops::Range<usize>,
        outputs: &ExprSet,
        u: &[f64],
        sums: &mut [f64; 2],
    ) -> Result<(), BadPoint> {
        let block = &d.mesh.blocks[b];
        let n_points = rules.rule.len();
        self.x.iter_mut().for_each(Vec::clear);
        self.weights.clear();
        self.inverses.clear();
        for cell in cells.clone() {
            self.coordinates.clear();
            d.mesh.cell_coordinates(block, cell, &mut self.coordinates);
            let (mut inverse, mut det) = ([[0.0; 3]; 3], 0.0);
            for q in 0..n_points {
                if q == 0 || !block.is_affine() {
                    let j = geometry::jacobian(&rules.geometry, q, &self.coordinates);
                    let (small, found) = kernel::invert::<D>(&j);
                    det = found;
                    for (row, small) in inverse.iter_mut().zip(&small) {
                        row[..D].copy_from_slice(small);
                    }
                    if det <= 0.0 || det.is_nan() {
                        let at = geometry::image(&rules.geometry, q, &self.coordinates);
                        let error = AssemblyError::inverted(d, b, cell, at);
                        return Err(BadPoint::Cell(error));
                    }
                }
                let at = geometry::image(&rules.geometry, q, &self.coordinates);
                (0..3).for_each(|k| self.x[k].push(at[k]));
                self.weights.push(rules.rule.weights[q] * det);
                self.inverses.push(inverse);
            }
        }
        let n = self.weights.len();
        self.values.resize(outputs.len() * n, 0.0);
        let points = Points { x: &self.x[0], y: &self.x[1], z: &self.x[2], t: d.time };
        outputs.eval(&points, &mut self.values[..outputs.len() * n], &mut self.scratch);
        if let Some(k) = self.values[..outputs.len() * n].iter().position(|v| !v.is_finite()) {
            let x = [0, 1, 2].map(|axis| self.x[axis][k % n]);
            return Err(BadPoint::Exact { output: k / n, value: self.values[k], x });
        }
        let n_nodes = rules.basis.n_nodes;
        for (k, cell) in cells.enumerate() {
            let nodes = d.space.nodes(b, cell);
            for q in 0..n_points {
                let (mut value, mut reference) = ([0.0; C], [[0.0; D]; C]);
                let phi = &rules.basis.values[q * n_nodes..][..n_nodes];
                let gradients = rules.basis.gradients[q * n_nodes * D..][..n_nodes * D].chunks_exact(D);
                for ((&v, phi), gradient) in nodes.iter().zip(phi).zip(gradients) {
                    for c in 0..C {
                        let u = u[v as usize * C + c];
                        value[c] += phi * u;
                        (0..D).for_each(|a| reference[c][a] += gradient[a] * u);
                    }
                }
                let p = k * n_points + q;
                let inverse = &self.inverses[p];
                for c in 0..C {
                    let first = c * (1 + D);
                    let e = value[c] - self.values[first * n + p];
                    sums[0] += self.weights[p] * e * e;
                    for a in 0..D {
                        let slope: f64 = (0..D).map(|k| inverse[k][a] * reference[c][k]).sum();
                        let e = slope - self.values[(first + 1 + a) * n + p];
                        sums[1] += self.weights[p] * e * e;
                    }
                }
            }
        }
        Ok(())
    }
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
