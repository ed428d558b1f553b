//! Residuals of natural conditions on boundary facets: what passes out less what is given.
//!
//! Imports the discretisation, `law` and `mesh`. Start at [`squares`]. One facet at a time: the boundary is
//! small.

use rayon::prelude::*;

use super::constraints::{Essential, Prescribed};
use super::discretisation::AssemblyError;
use super::facets::{FacetLoad, FacetRule, Natural};
use super::residuals::Task;
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::{Expr, Points, Scratch};
use crate::law::{Law, Part, Point, Residual};
use crate::mesh::facets::Outer;
use crate::mesh::{EntityTag, geometry};

/// Conditions on facets of owned cells, ascending by facet: which of a list of conditions acts there.
struct Listed(Vec<(Outer, u32)>);

impl Listed {
    fn new<'a>(tags: impl Iterator<Item = (u32, &'a EntityTag)>) -> Listed {
        let outer = |t: &EntityTag| Outer { block: t.block, facet: t.local, cell: t.cell };
        let mut all: Vec<(Outer, u32)> = tags.map(|(k, tag)| (outer(tag), k)).collect();
        all.sort_unstable();
        all.dedup();
        Listed(all)
    }

    /// The conditions on a facet.
    fn on(&self, facet: &Outer) -> impl Iterator<Item = usize> + '_ {
        let begin = self.0.partition_point(|entry| entry.0 < *facet);
        let facet = *facet;
        self.0[begin..].iter().take_while(move |entry| entry.0 == facet).map(|entry| entry.1 as usize)
    }
}

/// The weighted integral of the squared residual on each boundary facet. Where components are prescribed,
/// they count nothing; where no condition is given, nothing is to pass.
///
/// # Errors
/// An expression that is not a number on a facet.
pub(super) fn squares<L: Law<D, C>, const D: usize, const C: usize>(
    task: &Task<L>,
    rules: &[Vec<FacetRule>],
    loads: &[FacetLoad],
    essential: &[Essential],
    outer: &[Outer],
) -> Result<Vec<f64>, AssemblyError> {
    let listed = Listed::new(
        loads.iter().enumerate().flat_map(|(k, load)| load.facets.iter().map(move |tag| (k as u32, tag))),
    );
    let prescribed = Listed::new(essential.iter().enumerate().flat_map(|(k, condition)| {
        let on_facets = condition.entities.iter().filter(|tag| tag.dim as usize + 1 == D);
        on_facets.map(move |tag| (k as u32, tag))
    }));
    let results: Vec<Result<f64, AssemblyError>> = outer
        .par_iter()
        .map_init(Work::default, |work, facet| {
            let held = Held::on::<C>(prescribed.on(facet).map(|k| &essential[k].prescribed));
            if held.all::<C>() {
                return Ok(0.0);
            }
            let rule = &rules[facet.block as usize][facet.facet as usize];
            task.boundary_facet::<D, C>(work, rule, facet, listed.on(facet).map(|k| &loads[k]), &held)
        })
        .collect();
    results.into_iter().collect()
}

/// What is prescribed on a facet.
#[derive(Default)]
struct Held {
    components: [bool; 3],
    normal: bool,
}

impl Held {
    fn on<'a, const C: usize>(conditions: impl Iterator<Item = &'a Prescribed>) -> Held {
        let mut held = Held::default();
        for prescribed in conditions {
            match prescribed {
                Prescribed::Components(given) => {
                    (0..C).for_each(|c| held.components[c] |= given.get(c).is_some_and(Option::is_some));
                }
                Prescribed::Normal(_) => held.normal = true,
            }
        }
        held
    }

    fn all<const C: usize>(&self) -> bool {
        self.components[..C].iter().all(|&held| held)
    }
}

/// The buffers of a thread.
#[derive(Default)]
struct Work {
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    normals: Vec<[f64; 3]>,
    values: [Vec<f64>; 3],
    scratch: Scratch,
    coefficients: CoefficientBatch,
    /// Residuals at the points, `[q][component]`.
    residual: Vec<[f64; 3]>,
    /// The weight of each point, with the scale.
    scale: Vec<f64>,
    /// The solution at the cell's nodes.
    u: Vec<f64>,
    interpolated: Vec<f64>,
}

impl Work {
    /// Evaluates an expression of a condition at the points, into `values[to]`.
    fn evaluate(&mut self, to: usize, expr: &Expr, key: &str, time: f64) -> Result<(), AssemblyError> {
        let values = &mut self.values[to];
        values.resize(self.x[0].len(), 0.0);
        let points = Points { x: &self.x[0], y: &self.x[1], z: &self.x[2], t: time };
        expr.eval(&points, values, &mut self.scratch);
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(q) => Err(AssemblyError::NotFinite {
                key: key.to_string(),
                text: expr.text().to_string(),
                value: values[q].to_string(),
                x: self.x[0][q],
                y: self.x[1][q],
                z: self.x[2][q],
            }),
        }
    }
}

impl<L> Task<'_, L> {
    /// The residual on one facet.
    fn boundary_facet<'a, const D: usize, const C: usize>(
        &self,
        work: &mut Work,
        rule: &FacetRule,
        facet: &Outer,
        loads: impl Iterator<Item = &'a FacetLoad>,
        held: &Held,
    ) -> Result<f64, AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let (b, cell) = (facet.block as usize, facet.cell as usize);
        work.coordinates.clear();
        d.mesh.cell_coordinates(&d.mesh.blocks[b], cell, &mut work.coordinates);
        work.x.iter_mut().for_each(Vec::clear);
        work.normals.clear();
        for q in 0..rule.weights.len() {
            let at = geometry::image(&rule.geometry, q, &work.coordinates);
            (0..3).for_each(|k| work.x[k].push(at[k]));
            work.normals.push(rule.normal(q, &work.coordinates));
        }
        let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
        let wanted = |slot| self.law.needs(Part::Flux, slot) || self.law.needs(Part::Boundary, slot);
        work.coefficients
            .evaluate_some(&d.materials[d.material(b, cell)], &points, wanted)
            .map_err(|e| AssemblyError::not_finite(e, &work.x))?;
        work.residual.clear();
        work.scale.clear();
        d.space.gather(b, cell, self.u, C, &mut work.u, &mut work.interpolated);
        let h = self.sizes[b][cell] / d.space.degree as f64;
        for (q, weight) in rule.weights.iter().enumerate() {
            let j = geometry::jacobian(&rule.geometry, q, &work.coordinates);
            let inverse = inverse(&j, D);
            let mut p = Point::<D, C>::default();
            for (i, gradient) in rule.basis.gradients_at(q).chunks_exact(D).enumerate() {
                for c in 0..C {
                    let u = work.u[i * C + c];
                    for a in 0..D {
                        p.grad[c][a] += u * (0..D).map(|k| inverse[k][a] * gradient[k]).sum::<f64>();
                    }
                }
            }
            let coefficients = work.coefficients.at(q);
            let mut r = Residual::<D, C>::default();
            self.law.balance(&p, &coefficients, &mut r);
            let normal = &work.normals[q];
            let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
            let mut out = [0.0; 3];
            for c in 0..C {
                out[c] = (0..D).map(|a| r.f1[c][a] * normal[a]).sum::<f64>() / area;
            }
            work.residual.push(out);
            let [modulus, reaction] = self.law.sizes(&coefficients);
            let scale = 1.0 / (modulus * (modulus / (h * h) + reaction.max(0.0))).sqrt();
            work.scale.push(weight * area * scale);
        }
        for load in loads {
            match &load.natural {
                Natural::Flux(exprs) => {
                    for (c, expr) in exprs.iter().enumerate().take(C) {
                        work.evaluate(c, expr, &load.key, d.time)?;
                    }
                }
                Natural::Pressure(expr) => work.evaluate(0, expr, &load.key, d.time)?,
                Natural::Robin { coefficient, ambient } => {
                    work.evaluate(0, coefficient, &load.key, d.time)?;
                    work.evaluate(1, ambient, &load.key, d.time)?;
                }
            }
            for (q, residual) in work.residual.iter_mut().enumerate() {
                let factor = self.law.boundary_factor(&work.coefficients.at(q));
                let normal = &work.normals[q];
                match &load.natural {
                    Natural::Flux(_) => (0..C).for_each(|c| residual[c] -= factor * work.values[c][q]),
                    Natural::Pressure(_) => {
                        let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
                        (0..C).for_each(|c| residual[c] += factor * work.values[0][q] * normal[c] / area);
                    }
                    Natural::Robin { .. } => {
                        let phi = rule.basis.values_at(q);
                        let u: f64 = work.u.chunks_exact(C).zip(phi).map(|(u, phi)| phi * u[0]).sum();
                        residual[0] += factor * work.values[0][q] * (u - work.values[1][q]);
                    }
                }
            }
        }
        let mut sum = 0.0;
        for (q, residual) in work.residual.iter().enumerate() {
            let mut free = *residual;
            if held.normal {
                let normal = &work.normals[q];
                let square: f64 = normal.iter().map(|n| n * n).sum();
                let along: f64 = (0..C).map(|c| free[c] * normal[c]).sum::<f64>() / square;
                (0..C).for_each(|c| free[c] -= along * normal[c]);
            }
            let kept = (0..C).filter(|&c| !held.components[c]);
            sum += work.scale[q] * kept.map(|c| free[c] * free[c]).sum::<f64>();
        }
        Ok(self.weights.boundary * sum)
    }
}

/// The inverse of the leading rows and columns, `[k][a] = d xi_k / d x_a`.
pub(super) fn inverse(j: &[[f64; 3]; 3], dim: usize) -> [[f64; 3]; 3] {
    let scale = 1.0 / geometry::determinant(j, dim);
    let mut inverse = [[0.0; 3]; 3];
    match dim {
        1 => inverse[0][0] = scale,
        2 => {
            inverse[0][0] = scale * j[1][1];
            inverse[0][1] = -scale * j[0][1];
            inverse[1][0] = -scale * j[1][0];
            inverse[1][1] = scale * j[0][0];
        }
        _ => {
            for a in 0..3 {
                for b in 0..3 {
                    let (p, q) = ((b + 1) % 3, (b + 2) % 3);
                    let (r, t) = ((a + 1) % 3, (a + 2) % 3);
                    inverse[a][b] = scale * (j[p][r] * j[q][t] - j[p][t] * j[q][r]);
                }
            }
        }
    }
    inverse
}
