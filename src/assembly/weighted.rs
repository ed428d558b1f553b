//! The residual of a solution, weighted by a field and localised by the hat functions of vertices.
//!
//! Imports the discretisation and `law`. Start at [`at_vertices`]. Source: T. Richter, T. Wick, Variational
//! localizations of the dual weighted residual estimator, J. Comput. Appl. Math. 279 (2015).

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::facets::{FacetLoad, FacetRule, Natural};
use super::lanes::Gathered;
use super::residuals::Loaded;
use super::sampler::by_material;
use crate::element::{GeometryKind, Table};
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::{Expr, Points, Scratch};
use crate::law::lanes::{Lanes, Real, WIDTH};
use crate::law::{Law, Part, Point, Residual};
use crate::mesh::geometry;
use crate::space::Space;

/// Cells that a task takes: fixed, so that sums do not depend on the number of threads.
const PER_TASK: usize = 1 << 9;

/// The most vertices of a cell.
const CORNERS: usize = 8;

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    u: Gathered<D, C>,
    weight: Gathered<D, C>,
    loaded: Loaded,
}

/// `R(u; weight psi_v)` for the hat function `psi_v` of every local node of the space `corners` of degree 1,
/// from this rank's owned cells and their facets, without stabilisation and without point loads. `u` and
/// `weight` have values at all local nodes.
///
/// # Errors
/// A coefficient or a load that is not a number at a point, a cell turned inside out.
pub(super) fn at_vertices<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    loads: &[FacetLoad],
    corners: &Space,
    u: &[f64],
    weight: &[f64],
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("weigh residuals").entered();
    let mut out = vec![0.0; corners.map.n_local()];
    let mut scratch = Vec::new();
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + 1 + curved, 1);
        let hats = GeometryKind::Linear.basis(block.shape).tabulate(&rules.rule.points, 1);
        let n_corners = block.shape.n_vertices();
        let mut elements = vec![0.0; block.n_owned * n_corners];
        let of_task = |work: &mut Work<D, C>, (task, out): (usize, &mut [f64])| {
            let _span = tracing::trace_span!("task").entered();
            let (first, n_cells) = (task * PER_TASK, out.len() / n_corners);
            by_material(d, b, first..first + n_cells, |at, ids| {
                let out = &mut out[at * n_corners..(at + ids.len()) * n_corners];
                cells::<L, D, C>(law, d, b, &rules, &hats, work, ids, u, weight, out)
            })
        };
        let tasks = elements.par_chunks_mut(PER_TASK * n_corners).enumerate();
        let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        for (cell, element) in elements.chunks_exact_mut(n_corners).enumerate() {
            if let Some(hanging) = corners.interpolation(b, cell) {
                hanging.scatter(element, 1, &mut scratch);
            }
            for (&v, value) in corners.nodes(b, cell).iter().zip(element.iter()) {
                out[v as usize] += value;
            }
        }
    }
    let mut facets = Facets { law, d, rules, corners, u, weight, work: FacetWork::default() };
    for load in loads {
        facets.add::<D, C>(load, &mut out)?;
    }
    Ok(out)
}

/// Adds at most eight cells of one material: `[cell][vertex]`.
fn cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    b: usize,
    rules: &Rules,
    hats: &Table,
    work: &mut Work<D, C>,
    ids: &[u32],
    u: &[f64],
    weight: &[f64],
    out: &mut [f64],
) -> Result<(), AssemblyError> {
    let affine = d.mesh.blocks[b].is_affine();
    work.u.gather(d, b, ids, u);
    work.weight.gather(d, b, ids, weight);
    let material = d.material(b, ids[0] as usize);
    work.loaded.load(d.materials, material, &work.u, &rules.geometry, d.time, |_| true)?;
    let corners = hats.n_nodes;
    let mut sums = [Lanes::default(); CORNERS];
    let mut map = ([[Lanes::default(); D]; D], Lanes::default());
    for (q, &w) in rules.rule.weights.iter().enumerate() {
        if q == 0 || !affine {
            map = work.u.map(d, b, ids, &rules.geometry, q)?;
        }
        let inverse = &map.0;
        let mut p = Point::<D, C, Lanes>::default();
        let (value, gradient) = (work.u.value(&rules.basis, q), work.u.gradient(&rules.basis, q, inverse));
        for c in 0..C {
            p.u[c] = value[c];
            (0..D).for_each(|a| p.grad[c][a] = gradient[c][a]);
        }
        let mut r = Residual::<D, C, Lanes>::default();
        law.balance(&p, &work.loaded.batch.lanes(q * WIDTH), &mut r);
        // f0 . w + f1 : grad w times psi, and f1 : (w grad psi).
        let (value, gradient) =
            (work.weight.value(&rules.basis, q), work.weight.gradient(&rules.basis, q, inverse));
        let mut plain = Lanes::default();
        let mut along = [Lanes::default(); D];
        for c in 0..C {
            let value = value[c];
            plain = r.f0[c].mul_add(value, plain);
            for a in 0..D {
                plain = r.f1[c][a].mul_add(gradient[c][a], plain);
                along[a] = r.f1[c][a].mul_add(value, along[a]);
            }
        }
        let scale = Lanes::splat(w) * map.1;
        // The flux on the reference cell, whose hats it meets.
        let mut reference = [Lanes::default(); D];
        for k in 0..D {
            (0..D).for_each(|a| reference[k] = inverse[k][a].mul_add(along[a], reference[k]));
        }
        let of_hats = hats.values_at(q).iter().zip(hats.gradients_at(q).chunks_exact(D));
        for (sum, (&psi, slope)) in sums.iter_mut().zip(of_hats) {
            let mut term = plain * Lanes::splat(psi);
            (0..D).for_each(|k| term = Real::mul_add(reference[k], Lanes::splat(slope[k]), term));
            *sum = Real::mul_add(term, scale, *sum);
        }
    }
    for (k, sum) in sums[..corners].iter().enumerate() {
        for (out, value) in out.chunks_exact_mut(corners).zip(sum.to_array()) {
            out[k] = value;
        }
    }
    Ok(())
}

#[derive(Default)]
struct FacetWork {
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    normals: Vec<[f64; 3]>,
    values: [Vec<f64>; 3],
    scratch: Scratch,
    coefficients: CoefficientBatch,
    /// The solution and the weight at the cell's nodes.
    nodal: [Vec<f64>; 2],
    element: Vec<f64>,
    interpolated: Vec<f64>,
}

/// Loads on facets of owned cells.
struct Facets<'a, L> {
    law: &'a L,
    d: &'a Discretisation<'a>,
    rules: &'a [Vec<FacetRule>],
    corners: &'a Space,
    u: &'a [f64],
    weight: &'a [f64],
    work: FacetWork,
}

impl<L> Facets<'_, L> {
    fn add<const D: usize, const C: usize>(
        &mut self,
        load: &FacetLoad,
        out: &mut [f64],
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let pair;
        let exprs: &[Expr] = match &load.natural {
            Natural::Flux(exprs) => &exprs[..C],
            Natural::Pressure(expr) => std::slice::from_ref(expr),
            Natural::Robin { coefficient, ambient } => {
                pair = [coefficient.clone(), ambient.clone()];
                &pair
            }
        };
        let work = &mut self.work;
        for facet in &load.facets {
            let (b, cell) = (facet.block as usize, facet.cell as usize);
            let block = &d.mesh.blocks[b];
            if cell >= block.n_owned {
                continue;
            }
            let rule = &self.rules[b][facet.local as usize];
            work.coordinates.clear();
            d.mesh.cell_coordinates(block, cell, &mut work.coordinates);
            work.x.iter_mut().for_each(Vec::clear);
            work.normals.clear();
            for q in 0..rule.weights.len() {
                let at = geometry::image(&rule.geometry, q, &work.coordinates);
                (0..3).for_each(|k| work.x[k].push(at[k]));
                work.normals.push(rule.normal(q, &work.coordinates));
            }
            let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
            for (expr, values) in exprs.iter().zip(&mut work.values) {
                values.resize(points.x.len(), 0.0);
                expr.eval(&points, values, &mut work.scratch);
                if let Some(q) = values.iter().position(|v| !v.is_finite()) {
                    let (key, text) = (load.key.clone(), expr.text().to_string());
                    let [x, y, z] = [0, 1, 2].map(|k| work.x[k][q]);
                    return Err(AssemblyError::NotFinite {
                        key,
                        text,
                        value: values[q].to_string(),
                        x,
                        y,
                        z,
                    });
                }
            }
            let wanted = |slot| self.law.needs(Part::Boundary, slot);
            work.coefficients
                .evaluate_some(&d.materials[d.material(b, cell)], &points, wanted)
                .map_err(|e| AssemblyError::not_finite(e, &work.x))?;
            let [u, weight] = &mut work.nodal;
            d.space.gather(b, cell, self.u, C, u, &mut work.interpolated);
            d.space.gather(b, cell, self.weight, C, weight, &mut work.interpolated);
            work.element.clear();
            work.element.resize(block.shape.n_vertices(), 0.0);
            for (q, w) in rule.weights.iter().enumerate() {
                let factor = w * self.law.boundary_factor(&work.coefficients.at(q));
                let normal = &work.normals[q];
                let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
                let at = |field: &[f64], c: usize| {
                    let phi = rule.basis.values_at(q);
                    field.chunks_exact(C).zip(phi).map(|(value, phi)| phi * value[c]).sum::<f64>()
                };
                let density: f64 = (0..C)
                    .map(|c| {
                        let f0 = match &load.natural {
                            Natural::Flux(_) => -work.values[c][q] * area,
                            Natural::Pressure(_) => work.values[0][q] * normal[c],
                            Natural::Robin { .. } => {
                                work.values[0][q] * area * (at(u, 0) - work.values[1][q])
                            }
                        };
                        f0 * at(weight, c)
                    })
                    .sum();
                let hats = &rule.hats[q * work.element.len()..];
                work.element.iter_mut().zip(hats).for_each(|(sum, psi)| *sum += factor * density * psi);
            }
            if let Some(hanging) = self.corners.interpolation(b, cell) {
                hanging.scatter(&mut work.element, 1, &mut work.interpolated);
            }
            for (&v, value) in self.corners.nodes(b, cell).iter().zip(&work.element) {
                out[v as usize] += value;
            }
        }
        Ok(())
    }
}
