//! Integrals over boundary facets: loads, and the Robin condition's contribution to the matrix.

use rayon::prelude::*;

use super::constraints::Constraints;
use super::discretisation::{AssemblyError, Discretisation};
use super::matrix::Piece;
use crate::element::{GeometryKind, Quadrature, Shape, Table};
use crate::law::expr::{Expr, Points, Scratch};
use crate::law::{Law, Part, coefficients::Batch as CoefficientBatch};
use crate::mesh::{EntityTag, Mesh, geometry};
use crate::space::Space;

/// A natural condition on facets.
#[derive(Clone)]
pub struct FacetLoad {
    /// The condition's key, for messages.
    pub key: String,
    /// The facets, on owned and ghost cells.
    pub facets: Vec<EntityTag>,
    /// What acts there.
    pub natural: Natural,
}

/// What acts on a facet.
#[derive(Clone)]
pub enum Natural {
    /// A flux or traction into the body: one expression a component.
    Flux(Vec<Expr>),
    /// A traction `-pressure n`.
    Pressure(Expr),
    /// `coefficient (ambient - u)` into the body; scalar laws.
    Robin {
        /// The exchange coefficient.
        coefficient: Expr,
        /// The value outside.
        ambient: Expr,
    },
}

/// A rule on one facet of a reference cell.
pub(super) struct FacetRule {
    pub weights: Vec<f64>,
    pub basis: Table,
    pub geometry: Table,
    /// Hat functions of the cell's vertices, `[q][vertex]`.
    pub hats: Vec<f64>,
    tangents: [[f64; 3]; 2],
    sign: f64,
    dim: usize,
}

impl FacetRule {
    pub fn new(mesh: &Mesh, space: &Space, block: usize, facet: usize, degree: usize) -> FacetRule {
        let shape = mesh.blocks[block].shape;
        let rule = Quadrature::new(shape.entity_shape(mesh.dim - 1, facet), degree)
            .expect("rules exist for every degree asked for here");
        let points: Vec<[f64; 3]> = rule.points.iter().map(|&p| shape.facet_point(facet, p)).collect();
        Self::at(mesh, space, block, facet, &points, rule.weights)
    }

    /// At given points of the reference cell, which lie on the facet.
    pub fn at(
        mesh: &Mesh,
        space: &Space,
        block: usize,
        facet: usize,
        points: &[[f64; 3]],
        weights: Vec<f64>,
    ) -> FacetRule {
        let shape = mesh.blocks[block].shape;
        let basis = space.elements[block].tabulate(points, 2);
        let geometry = geometry::basis(&mesh.blocks[block]).tabulate(points, 2);
        let tangents = shape.facet_tangents(facet);
        FacetRule {
            weights,
            basis,
            geometry,
            hats: GeometryKind::Linear.basis(shape).tabulate(points, 0).values,
            tangents,
            sign: outward(shape, facet, &tangents),
            dim: mesh.dim,
        }
    }

    /// The outward normal at point `q`, with the length of the surface element.
    pub fn normal(&self, q: usize, x: &[[f64; 3]]) -> [f64; 3] {
        let j = geometry::jacobian(&self.geometry, q, x);
        let map = |t: &[f64; 3]| [0, 1, 2].map(|a| (0..self.dim).map(|b| j[a][b] * t[b]).sum::<f64>());
        let n = cross(self.dim, &map(&self.tangents[0]), &map(&self.tangents[1]));
        n.map(|n| n * self.sign)
    }
}

fn cross(dim: usize, s: &[f64; 3], t: &[f64; 3]) -> [f64; 3] {
    match dim {
        1 => [1.0, 0.0, 0.0],
        2 => [s[1], -s[0], 0.0],
        _ => [s[1] * t[2] - s[2] * t[1], s[2] * t[0] - s[0] * t[2], s[0] * t[1] - s[1] * t[0]],
    }
}

/// Whether the tangents' normal points out of the reference cell (1) or into it (-1). The Jacobian is
/// positive, so the image's does likewise.
fn outward(shape: Shape, facet: usize, tangents: &[[f64; 3]; 2]) -> f64 {
    let n = cross(shape.dim(), &tangents[0], &tangents[1]);
    let at = shape.facet_point(facet, shape.entity_shape(shape.dim() - 1, facet).center());
    let center = shape.center();
    (0..3).map(|d| n[d] * (at[d] - center[d])).sum::<f64>().signum()
}

/// The rule's degree for facet loads and functionals.
pub(super) fn facet_degree(mesh: &Mesh, space: &Space, block: usize) -> usize {
    let curved = usize::from(mesh.blocks[block].geometry != GeometryKind::Linear) * 2;
    2 * space.degree + 1 + curved
}

/// The facet rules of every block, facet by facet.
pub(super) fn facet_rules(mesh: &Mesh, space: &Space) -> Vec<Vec<FacetRule>> {
    (0..mesh.blocks.len())
        .map(|b| {
            let degree = facet_degree(mesh, space, b);
            let n = mesh.blocks[b].shape.n_entities(mesh.dim - 1);
            (0..n).map(|f| FacetRule::new(mesh, space, b, f, degree)).collect()
        })
        .collect()
}

/// Facets whose expressions are evaluated at once.
const BATCH: usize = 128;

/// Adds all loads to the pieces of owned rows, and the Robin conditions' tangents if `with_matrix`. Every
/// piece takes the facets that touch its rows, in an order that the number of pieces does not change.
///
/// # Errors
/// An expression that is not a number on a facet; this rank's own error, the first in order.
pub(super) fn visit<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    loads: &[FacetLoad],
    u: &[f64],
    with_matrix: bool,
    pieces: &mut [Piece],
    constraints: Option<&Constraints>,
) -> Result<(), AssemblyError> {
    let _span = tracing::debug_span!("boundary facets").entered();
    let complete = |piece: &mut Piece| {
        let _span = tracing::trace_span!("rows").entered();
        let mut work = Work::default();
        for (k, load) in loads.iter().enumerate() {
            let task = Task { law, d, rules, load, u, with_matrix, constraints };
            let touched = |f: &&EntityTag| piece.is_touched(d.space.nodes(f.block as usize, f.cell as usize));
            work.facets.clear();
            work.facets.extend(load.facets.iter().filter(touched));
            let mut facets = std::mem::take(&mut work.facets);
            // Together: what has one rule and one material.
            let kind = |f: &EntityTag| (f.block, f.local, d.material(f.block as usize, f.cell as usize));
            facets.sort_unstable_by_key(|f| (kind(f), f.cell));
            for run in facets.chunk_by(|a, b| kind(a) == kind(b)) {
                for batch in run.chunks(BATCH) {
                    let added = task.add_facets::<D, C>(&mut work, batch, piece);
                    added.map_err(|e| (k, batch[0].block, batch[0].cell, e))?;
                }
            }
            work.facets = facets;
        }
        Ok(())
    };
    let errors: Vec<(usize, u16, u32, AssemblyError)> =
        pieces.par_iter_mut().filter_map(|piece| complete(piece).err()).collect();
    match errors.into_iter().min_by_key(|&(load, block, cell, _)| (load, block, cell)) {
        Some((.., error)) => Err(error),
        None => Ok(()),
    }
}

/// The buffers of a thread.
#[derive(Default)]
struct Work {
    facets: Vec<EntityTag>,
    /// Points of a batch, axis by axis, `[facet][q]`.
    x: [Vec<f64>; 3],
    /// Normals there, with the length of the surface element.
    normals: Vec<[f64; 3]>,
    coordinates: Vec<[f64; 3]>,
    /// The load's expressions there.
    values: [Vec<f64>; 3],
    scratch: Scratch,
    coefficients: CoefficientBatch,
    residual: Vec<f64>,
    matrix: Vec<f64>,
    /// The state at the nodes of a cell.
    u: Vec<f64>,
    interpolated: Vec<f64>,
}

/// One load on a law.
struct Task<'a, L> {
    law: &'a L,
    d: &'a Discretisation<'a>,
    rules: &'a [Vec<FacetRule>],
    load: &'a FacetLoad,
    u: &'a [f64],
    with_matrix: bool,
    constraints: Option<&'a Constraints>,
}

impl<L> Task<'_, L> {
    /// Evaluates the load's expressions at the points of a batch.
    fn evaluate(&self, work: &mut Work) -> Result<(), AssemblyError> {
        let pair;
        let exprs: &[Expr] = match &self.load.natural {
            Natural::Flux(exprs) => exprs,
            Natural::Pressure(expr) => std::slice::from_ref(expr),
            Natural::Robin { coefficient, ambient } => {
                pair = [coefficient.clone(), ambient.clone()];
                &pair
            }
        };
        let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: self.d.time };
        for (expr, values) in exprs.iter().zip(&mut work.values) {
            values.resize(points.x.len(), 0.0);
            expr.eval(&points, values, &mut work.scratch);
            if let Some(q) = values.iter().position(|v| !v.is_finite()) {
                return Err(AssemblyError::NotFinite {
                    key: self.load.key.clone(),
                    text: expr.text().to_string(),
                    value: values[q].to_string(),
                    x: points.x[q],
                    y: points.y[q],
                    z: points.z[q],
                });
            }
        }
        Ok(())
    }

    /// Adds facets of one block, one place in the cell and one material.
    fn add_facets<const D: usize, const C: usize>(
        &self,
        work: &mut Work,
        facets: &[EntityTag],
        piece: &mut Piece,
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let (b, local) = (facets[0].block as usize, facets[0].local as usize);
        let block = &d.mesh.blocks[b];
        let rule = &self.rules[b][local];
        let n = rule.basis.n_nodes;
        work.x.iter_mut().for_each(Vec::clear);
        work.normals.clear();
        for facet in facets {
            work.coordinates.clear();
            d.mesh.cell_coordinates(block, facet.cell as usize, &mut work.coordinates);
            for q in 0..rule.weights.len() {
                let at = geometry::image(&rule.geometry, q, &work.coordinates);
                (0..3).for_each(|k| work.x[k].push(at[k]));
                work.normals.push(rule.normal(q, &work.coordinates));
            }
        }
        self.evaluate(work)?;
        // The law's own factor (the thickness of a plane body) may vary over the facet.
        let material = &d.materials[d.material(b, facets[0].cell as usize)];
        let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
        let wanted = |slot| self.law.needs(Part::Boundary, slot);
        work.coefficients
            .evaluate_some(material, &points, wanted)
            .map_err(|e| AssemblyError::not_finite(e, &work.x))?;
        let robin = matches!(self.load.natural, Natural::Robin { .. });
        let size = if self.with_matrix && robin { n * n * C * C } else { 0 };
        for (k, facet) in facets.iter().enumerate() {
            let nodes = d.space.nodes(b, facet.cell as usize);
            let hanging = d.space.interpolation(b, facet.cell as usize);
            if robin {
                d.space.gather(b, facet.cell as usize, self.u, C, &mut work.u, &mut work.interpolated);
            }
            work.residual.clear();
            work.residual.resize(n * C, 0.0);
            work.matrix.clear();
            work.matrix.resize(size, 0.0);
            for (q, weight) in rule.weights.iter().enumerate() {
                let p = k * rule.weights.len() + q;
                let normal = &work.normals[p];
                let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
                let factor = weight * self.law.boundary_factor(&work.coefficients.at(p));
                let phi = &rule.basis.values[q * n..][..n];
                let values = |c: usize| work.values[c][p];
                let mut f0 = [0.0; C];
                let mut slope = 0.0;
                match &self.load.natural {
                    Natural::Flux(_) => (0..C).for_each(|c| f0[c] = -values(c) * area * factor),
                    Natural::Pressure(_) => (0..C).for_each(|c| f0[c] = values(0) * normal[c] * factor),
                    Natural::Robin { .. } => {
                        let inside: f64 = work.u.chunks_exact(C).zip(phi).map(|(u, phi)| phi * u[0]).sum();
                        slope = values(0) * area * factor;
                        f0[0] = slope * (inside - values(1));
                    }
                }
                for (row, phi) in work.residual.chunks_exact_mut(C).zip(phi) {
                    (0..C).for_each(|c| row[c] += f0[c] * phi);
                }
                if size > 0 {
                    for i in 0..n {
                        for j in 0..n {
                            work.matrix[i * C * C * n + j] += slope * phi[i] * phi[j];
                        }
                    }
                }
            }
            if let Some(hanging) = hanging {
                hanging.scatter(&mut work.residual, C, &mut work.interpolated);
                if size > 0 {
                    hanging.transform(&mut work.matrix, C, &mut work.interpolated);
                }
            }
            if let Some(constraints) = self.constraints {
                let m = (size > 0).then_some(&mut work.matrix[..]);
                constraints.apply(nodes, m, &mut work.residual);
            }
            piece.add::<C, 1>(nodes, &work.matrix, &work.residual, 0);
        }
        Ok(())
    }
}
