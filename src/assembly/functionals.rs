//! Numbers from fields: integrals over regions and boundaries.
//!
//! Imports the discretisation and `law`. Start at [`integrate_cells`] and [`integrate_facets`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation};
use super::facets::{self, FacetRule};
use super::sampler::Sampler;
use crate::element::{GeometryKind, Quadrature};
use crate::law::{Law, Quantity};
use crate::mesh::EntityTag;

/// Cells a task takes in a sum: fixed, so that sums do not depend on the number of threads.
const CELLS_PER_TASK: usize = 1 << 12;

/// Integrals of all values of a quantity over owned cells for which `keep` holds.
pub(super) fn integrate_cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    quantity: (Quantity, usize),
    u: &[f64],
    keep: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("integrate cells").entered();
    let width = quantity.1;
    let quantities = [quantity];
    let mut total = vec![0.0; width];
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let degree = degree(quantity.0, d, b);
        let rule = Quadrature::new(block.shape, degree).expect("rules exist for every degree asked for");
        // One sampler a thread, however many tasks.
        let n_tasks = block.n_owned.div_ceil(CELLS_PER_TASK);
        let tasks_per_job = n_tasks.div_ceil(rayon::current_num_threads()).max(1);
        let parts: Vec<Result<Vec<f64>, AssemblyError>> = (0..n_tasks.div_ceil(tasks_per_job))
            .into_par_iter()
            .map(|job| {
                let _span = tracing::trace_span!("task").entered();
                let tasks = job * tasks_per_job..((job + 1) * tasks_per_job).min(n_tasks);
                let mut sampler = Sampler::<L, D, C>::new(law, d, b, &rule.points, &quantities);
                let mut cells = Vec::with_capacity(CELLS_PER_TASK);
                let mut sums = vec![0.0; width * tasks.len()];
                for (task, sums) in tasks.zip(sums.chunks_exact_mut(width.max(1))) {
                    let end = ((task + 1) * CELLS_PER_TASK).min(block.n_owned);
                    cells.clear();
                    cells.extend((task * CELLS_PER_TASK..end).filter(|&c| keep(b, c)).map(|c| c as u32));
                    let mut begin = 0;
                    while begin < cells.len() {
                        let n = Sampler::<L, D, C>::run(d, b, &cells[begin..]);
                        sampler.evaluate(&cells[begin..begin + n], u)?;
                        begin += n;
                        for (q, weight) in rule.weights.iter().enumerate() {
                            for lane in 0..n {
                                let weight = weight * sampler.determinant(q)[lane];
                                let values = sampler.values(q, lane);
                                sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight * v);
                            }
                        }
                    }
                }
                Ok(sums)
            })
            .collect();
        for part in parts {
            for part in part?.chunks_exact(width.max(1)) {
                total.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    }
    Ok(total)
}

/// Degree of the rule over cells of a block: exact for the solution and its derivatives, which are polynomials
/// times the determinant of the cell's map; that of the coefficients beyond for what they enter.
fn degree(quantity: Quantity, d: &Discretisation, block: usize) -> usize {
    let (p, block) = (d.space.degree, &d.mesh.blocks[block]);
    let curved = block.geometry != GeometryKind::Linear;
    match quantity {
        Quantity::Solution | Quantity::Gradient | Quantity::Strain => {
            let (dim, geometry) = (block.shape.dim(), 1 + usize::from(curved));
            p + if block.shape.is_simplex() { dim * (geometry - 1) } else { dim * geometry - 1 }
        }
        Quantity::Flux | Quantity::Stress | Quantity::VonMises => 2 * p + 2 + 2 * usize::from(curved),
    }
}

/// What of a quantity is integrated over facets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// Each of its values.
    Values,
    /// The first `dim` values along the outward normal: one integral.
    Normal,
}

/// Integrals of a quantity over facets of owned cells, from the cell's own gradient.
pub(super) fn integrate_facets<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    facets: &[EntityTag],
    quantity: (Quantity, usize),
    what: Located,
    u: &[f64],
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("integrate facets").entered();
    let quantities = [quantity];
    let mut sums = vec![0.0; if what == Located::Normal { 1 } else { quantity.1 }];
    // Facets alike are computed side by side.
    let mut sorted: Vec<(u16, u8, u32)> = facets.iter().map(|f| (f.block, f.local, f.cell)).collect();
    sorted.sort_unstable();
    let mut coordinates = Vec::new();
    let mut cells = Vec::new();
    for alike in sorted.chunk_by(|x, y| (x.0, x.1) == (y.0, y.1)) {
        let (b, f) = (alike[0].0 as usize, alike[0].1 as usize);
        let rule = &rules[b][f];
        let shape = d.mesh.blocks[b].shape;
        let on_facet =
            Quadrature::new(shape.entity_shape(d.mesh.dim - 1, f), facets::facet_degree(d.mesh, d.space, b))
                .expect("rules exist for every degree asked for");
        let points: Vec<[f64; 3]> = on_facet.points.iter().map(|&p| shape.facet_point(f, p)).collect();
        let mut sampler = Sampler::<L, D, C>::new(law, d, b, &points, &quantities);
        cells.clear();
        cells.extend(alike.iter().map(|facet| facet.2));
        let mut begin = 0;
        while begin < cells.len() {
            let n = Sampler::<L, D, C>::run(d, b, &cells[begin..]);
            sampler.evaluate(&cells[begin..begin + n], u)?;
            begin += n;
            for lane in 0..n {
                sampler.coordinates(lane, &mut coordinates);
                for (q, weight) in rule.weights.iter().enumerate() {
                    let normal = rule.normal(q, &coordinates);
                    let values = sampler.values(q, lane);
                    match what {
                        Located::Values => {
                            let area = weight * normal.iter().map(|n| n * n).sum::<f64>().sqrt();
                            sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += area * v);
                        }
                        Located::Normal => {
                            sums[0] += weight * (0..D).map(|k| normal[k] * values[k]).sum::<f64>();
                        }
                    }
                }
            }
        }
    }
    Ok(sums)
}
