//! Strong residuals on cells, jumps of the flux across facets, and residuals of natural conditions, each
//! squared, integrated and weighted: the parts of a residual estimator.
//!
//! Imports the discretisation, `law` and `mesh`. Lanes cells or facets of one kind at a time. Start at
//! [`indicators`], which says what is summed; the facets' part is in `jumps`, the boundary's in `outside`.
//!
//! Bound by gathering coordinates and values: two cells a facet.

use rayon::prelude::*;

use super::constraints::Essential;
use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::facets::{FacetLoad, FacetRule};
use super::lanes::Gathered;
use super::sampler::by_material;
use super::{jumps, outside};
use crate::element::{GeometryKind, Quadrature, Shape};
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::Points;
use crate::law::lanes::{Lanes, Real, WIDTH};
use crate::law::{Law, Material, Part, Point, Residual, Sloped};
use crate::mesh::facets::Facets;

/// Factors of an estimator's parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of residuals inside cells.
    pub inside: f64,
    /// Of jumps of the flux.
    pub jumps: f64,
    /// Of the residuals of natural conditions.
    pub boundary: f64,
}

/// What the parts share.
pub(super) struct Task<'a, L> {
    pub law: &'a L,
    pub d: &'a Discretisation<'a>,
    pub u: &'a [f64],
    /// Per block and cell, ghosts included: its size.
    pub sizes: &'a [Vec<f64>],
    pub weights: Weights,
}

/// The integrals of weighted squared residuals, per owned cell, block after block:
///
/// `inside a_K^2 |f0 - div f1|^2_K + jumps / 2 sum_F a_F / sqrt(m_F) |[f1.n]|^2_F + boundary sum_G a_G /
/// sqrt(m_G) |f1.n - g|^2_G`, `a^2 = 1 / (p^2 m / h^2 + r)`, with the law's modulus `m` and reaction `r`
/// ([`Law::sizes`]), the greater of both sides on a facet F, and the natural conditions' data `g` on a
/// boundary facet G, less what is prescribed there.
///
/// # Errors
/// A coefficient, or its derivative, that is not a number; a cell turned inside out.
pub(super) fn indicators<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    loads: &[FacetLoad],
    essential: &[Essential],
    facets: &Facets,
    u: &[f64],
    weights: Weights,
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("cell residuals").entered();
    let sizes = cell_sizes::<D>(d)?;
    let task = Task { law, d, u, sizes: &sizes, weights };
    let mut out = vec![0.0; d.mesh.n_owned_cells()];
    task.inside::<D, C>(&mut out)?;
    let jumps = jumps::squares::<L, D, C>(&task, facets)?;
    let first = first_cells(d);
    // One after the other: the order of the sums is the facets', whatever the number of threads.
    for run in &facets.runs {
        for (pair, value) in facets.cells[run.begin..run.end].iter().zip(&jumps[run.begin..]) {
            for side in 0..2 {
                let (b, cell) = (run.kind.blocks[side] as usize, pair[side] as usize);
                if cell < d.mesh.blocks[b].n_owned {
                    out[first[b] + cell] += 0.5 * value;
                }
            }
        }
    }
    let natural = outside::squares::<L, D, C>(&task, rules, loads, essential, &facets.outer)?;
    for (facet, value) in facets.outer.iter().zip(natural) {
        out[first[facet.block as usize] + facet.cell as usize] += value;
    }
    Ok(out)
}

/// Where each block's owned cells begin.
pub(super) fn first_cells(d: &Discretisation) -> Vec<usize> {
    let counts = d.mesh.blocks.iter().map(|b| b.n_owned);
    counts.scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect()
}

/// Cells that a task takes: a fixed number, so that nothing depends on the number of threads.
const CELLS_PER_TASK: usize = 1 << 10;

/// The edge of the regular cell of the same volume, of every cell.
///
/// # Errors
/// A cell turned inside out.
pub(super) fn cell_sizes<const D: usize>(d: &Discretisation) -> Result<Vec<Vec<f64>>, AssemblyError> {
    let mut all = Vec::new();
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let factor = match block.shape {
            Shape::Triangle => 4.0 / 3f64.sqrt(),
            Shape::Tetrahedron => 6.0 * 2f64.sqrt(),
            _ => 1.0,
        };
        let degree = if block.is_affine() { 0 } else { 2 * D };
        let rule = Quadrature::new(block.shape, degree).expect("rules exist for every degree asked for");
        let geometry = crate::mesh::geometry::basis(block).tabulate(&rule.points, 1);
        let mut sizes = vec![0.0; block.n_cells];
        let of_task = |cells: &mut Gathered<D, 1>, (task, sizes): (usize, &mut [f64])| {
            let _span = tracing::trace_span!("task").entered();
            let mut ids = [0u32; WIDTH];
            for (g, sizes) in sizes.chunks_mut(WIDTH).enumerate() {
                let n = sizes.len();
                (0..n).for_each(|l| ids[l] = (task * CELLS_PER_TASK + g * WIDTH + l) as u32);
                cells.gather(d, b, &ids[..n], &[]);
                for (q, weight) in rule.weights.iter().enumerate() {
                    let (_, determinant) = cells.map(d, b, &ids[..n], &geometry, q)?;
                    (0..n).for_each(|l| sizes[l] += weight * determinant.as_array()[l]);
                }
                for size in sizes {
                    let volume = *size * factor;
                    *size = match D {
                        1 => volume,
                        2 => volume.sqrt(),
                        _ => volume.cbrt(),
                    };
                }
            }
            Ok(())
        };
        let tasks = sizes.par_chunks_mut(CELLS_PER_TASK).enumerate();
        let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Gathered::default, of_task).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        all.push(sizes);
    }
    Ok(all)
}

/// Coefficients of eight cells at the points of a rule, evaluated again only where they vary.
#[derive(Default)]
pub(super) struct Loaded {
    pub batch: CoefficientBatch,
    /// The material whose constants are at hand.
    material: Option<usize>,
    x: [Vec<Lanes>; 3],
}

impl Loaded {
    /// Loads the `wanted` slots of `materials[material]` at the points of a table of the cells' geometry.
    pub fn load<const D: usize, const C: usize>(
        &mut self,
        materials: &[Material],
        material: usize,
        cells: &Gathered<D, C>,
        geometry: &crate::element::Table,
        time: f64,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(), AssemblyError> {
        if self.material == Some(material) {
            return Ok(());
        }
        let slots = &materials[material].slots;
        let constant = slots.iter().enumerate().all(|(k, s)| s.constant().is_some() || !wanted(k));
        self.material = constant.then_some(material);
        if constant {
            self.x.iter_mut().for_each(Vec::clear);
        } else {
            self.x.iter_mut().for_each(|x| x.resize(geometry.n_points, Lanes::default()));
            for q in 0..geometry.n_points {
                let at = cells.image(geometry, q);
                (0..D).for_each(|k| self.x[k][q] = at[k]);
            }
        }
        let [x, y, z] = self.x.each_ref().map(|x| bytemuck::cast_slice(x));
        let points = Points { x, y, z, t: time };
        self.batch.evaluate_some(&materials[material], &points, wanted).map_err(|e| {
            AssemblyError::not_finite(e, &self.x.each_ref().map(|x| bytemuck::cast_slice(x).to_vec()))
        })
    }
}

/// `a^2`, with the modulus, the reaction and the size over the degree.
#[inline(always)]
pub(super) fn square_of_scale(modulus: Lanes, reaction: Lanes, h: Lanes) -> Lanes {
    let reaction = reaction.max(Lanes::splat(0.0));
    Lanes::splat(1.0) / (modulus / (h * h) + reaction)
}

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    cells: Gathered<D, C>,
    loaded: Loaded,
}

impl<L> Task<'_, L> {
    /// Adds the residuals inside owned cells.
    fn inside<const D: usize, const C: usize>(&self, out: &mut [f64]) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let wanted = |slot| self.law.needs(Part::Flux, slot);
        let sloped: Vec<Material> = d.materials.iter().map(|m| m.with_slopes(D, wanted)).collect();
        let mut rest = out;
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let (mine, others) = rest.split_at_mut(block.n_owned);
            rest = others;
            let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
            let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + curved, 2);
            let of_task = |work: &mut Work<D, C>, (task, out): (usize, &mut [f64])| {
                let _span = tracing::trace_span!("task").entered();
                let first = task * CELLS_PER_TASK;
                by_material(d, b, first..first + out.len(), |at, ids| {
                    self.cells::<D, C>(work, b, &rules, &sloped, ids, &mut out[at..at + ids.len()])
                })
            };
            let tasks = mine.par_chunks_mut(CELLS_PER_TASK).enumerate();
            let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Adds the residuals inside at most eight cells of one material.
    fn cells<const D: usize, const C: usize>(
        &self,
        work: &mut Work<D, C>,
        b: usize,
        rules: &Rules,
        sloped: &[Material],
        cells: &[u32],
        out: &mut [f64],
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let affine = d.mesh.blocks[b].is_affine();
        work.cells.gather(d, b, cells, self.u);
        let material = d.material(b, cells[0] as usize);
        work.loaded.load(sloped, material, &work.cells, &rules.geometry, d.time, |_| true)?;
        let straight = affine && d.space.degree == 1;
        let wanted = |slot| self.law.needs(Part::Flux, slot);
        let flat = straight && d.is_constant(b, cells[0] as usize, wanted);
        let mut h = [1.0; WIDTH];
        let degree = d.space.degree as f64;
        (0..cells.len()).for_each(|l| h[l] = self.sizes[b][cells[l] as usize] / degree);
        let h = Lanes::new(h);
        let mut sum = Lanes::default();
        let (mut inverse, mut determinant) = ([[Lanes::default(); D]; D], Lanes::default());
        let mut gradient = [[Lanes::default(); D]; C];
        for (q, &weight) in rules.rule.weights.iter().enumerate() {
            if q == 0 || !affine {
                (inverse, determinant) = work.cells.map(d, b, cells, &rules.geometry, q)?;
            }
            let value = work.cells.value(&rules.basis, q);
            if q == 0 || !straight {
                gradient = work.cells.gradient(&rules.basis, q, &inverse);
            }
            let mut p = Point::<D, C, Lanes>::default();
            for c in 0..C {
                p.u[c] = value[c];
                (0..D).for_each(|a| p.grad[c][a] = gradient[c][a]);
            }
            let coefficients = work.loaded.batch.lanes(q * WIDTH);
            let mut r = Residual::<D, C, Lanes>::default();
            self.law.balance(&p, &coefficients, &mut r);
            if !flat {
                let second = if straight {
                    [[[Lanes::default(); D]; D]; C]
                } else {
                    work.cells.second(&rules.basis, &rules.geometry, q, &inverse, &gradient, affine)
                };
                for axis in 0..D {
                    let mut p = Point::<D, C, Sloped<Lanes>>::default();
                    for c in 0..C {
                        p.u[c] = Sloped { value: value[c], slope: gradient[c][axis] };
                        for a in 0..D {
                            let (value, slope) = (gradient[c][a], second[c][a][axis]);
                            p.grad[c][a] = Sloped { value, slope };
                        }
                    }
                    let mut s = Residual::<D, C, Sloped<Lanes>>::default();
                    self.law.balance(&p, &work.loaded.batch.sloped_lanes(q * WIDTH, axis, D), &mut s);
                    (0..C).for_each(|c| r.f0[c] -= s.f1[c][axis].slope);
                }
            }
            let [modulus, reaction] = self.law.sizes(&coefficients);
            let mut square = Lanes::default();
            (0..C).for_each(|c| square = r.f0[c].mul_add(r.f0[c], square));
            let scale = square_of_scale(modulus, reaction, h) * Lanes::splat(weight) * determinant;
            sum = Real::mul_add(square, scale, sum);
        }
        let sum = sum.to_array();
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out += self.weights.inside * sum);
        Ok(())
    }
}
