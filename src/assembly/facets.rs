//! Integrals over boundary facets: loads, and the Robin condition's contribution to the matrix.

use rayon::prelude::*;

use super::constraints::Constraints;
use super::discretisation::{AssemblyError, Discretisation};
use super::matrix::{Matrix, Pattern};
use crate::element::{Quadrature, Shape, Table};
use crate::law::expr::{Expr, Points, Scratch};
use crate::law::{Law, Part, coefficients::Batch as CoefficientBatch};
use crate::mesh::{EntityTag, Mesh, geometry};
use crate::space::Space;

/// A natural condition on facets.
pub struct FacetLoad {
    /// The condition's key, for messages.
    pub key: String,
    /// The facets, on owned and ghost cells.
    pub facets: Vec<EntityTag>,
    /// What acts there.
    pub natural: Natural,
}

/// What acts on a facet.
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
    let curved = usize::from(mesh.blocks[block].geometry != crate::element::GeometryKind::Linear) * 2;
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

struct Contribution {
    residual: Vec<f64>,
    matrix: Vec<f64>,
}

/// Adds all loads to owned rows, facet after facet in order.
///
/// # Errors
/// An expression that is not a number on a facet; this rank's own error.
pub(super) fn visit<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    loads: &[FacetLoad],
    pattern: &Pattern,
    u: &[f64],
    matrix: Option<&mut Matrix>,
    residual: &mut [f64],
    constraints: Option<&Constraints>,
) -> Result<(), AssemblyError> {
    let want = matrix.is_some();
    let mut none = Matrix { block: C, diag: Vec::new(), off: Vec::new() };
    let target = matrix.unwrap_or(&mut none);
    for load in loads {
        let parts: Vec<Result<Contribution, AssemblyError>> = load
            .facets
            .par_iter()
            .map_init(Work::default, |work, facet| {
                facet_terms::<L, D, C>(law, d, rules, load, *facet, u, want, work)
            })
            .collect();
        for (facet, part) in load.facets.iter().zip(parts) {
            let mut part = part?;
            let nodes = d.space.nodes(facet.block as usize, facet.cell as usize);
            if let Some(constraints) = constraints {
                let m = (!part.matrix.is_empty()).then_some(&mut part.matrix[..]);
                constraints.apply(nodes, m, &mut part.residual);
            }
            target.add_cell(pattern, nodes, &part.matrix, &part.residual, residual);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Work {
    x: [Vec<f64>; 3],
    coordinates: Vec<[f64; 3]>,
    values: Vec<Vec<f64>>,
    scratch: Scratch,
    coefficients: CoefficientBatch,
}

fn facet_terms<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    load: &FacetLoad,
    facet: EntityTag,
    u: &[f64],
    want: bool,
    work: &mut Work,
) -> Result<Contribution, AssemblyError> {
    let (b, cell) = (facet.block as usize, facet.cell as usize);
    let block = &d.mesh.blocks[b];
    let rule = &rules[b][facet.local as usize];
    let n = rule.basis.n_nodes;
    work.coordinates.clear();
    d.mesh.cell_coordinates(block, cell, &mut work.coordinates);
    work.x.iter_mut().for_each(Vec::clear);
    for q in 0..rule.weights.len() {
        let at = geometry::image(&rule.geometry, q, &work.coordinates);
        (0..3).for_each(|k| work.x[k].push(at[k]));
    }
    let exprs: Vec<&Expr> = match &load.natural {
        Natural::Flux(exprs) => exprs.iter().collect(),
        Natural::Pressure(expr) => vec![expr],
        Natural::Robin { coefficient, ambient } => vec![coefficient, ambient],
    };
    work.values.resize(exprs.len().max(work.values.len()), Vec::new());
    let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
    for (expr, values) in exprs.iter().zip(&mut work.values) {
        values.resize(rule.weights.len(), 0.0);
        expr.eval(&points, values, &mut work.scratch);
        if let Some(q) = values.iter().position(|v| !v.is_finite()) {
            return Err(AssemblyError::NotFinite {
                key: load.key.clone(),
                text: expr.text().to_string(),
                value: values[q].to_string(),
                x: work.x[0][q],
                y: work.x[1][q],
                z: work.x[2][q],
            });
        }
    }
    // The law's own factor (the thickness of a plane body) may vary over the facet.
    let material = &d.materials[d.material(b, cell)];
    let wanted = |slot| law.needs(Part::Boundary, slot);
    work.coefficients
        .evaluate_some(material, &points, wanted)
        .map_err(|e| AssemblyError::not_finite(e, &work.x))?;
    let robin = matches!(load.natural, Natural::Robin { .. });
    let size = if want && robin { n * n * C * C } else { 0 };
    let mut out = Contribution { residual: vec![0.0; n * C], matrix: vec![0.0; size] };
    let nodes = d.space.nodes(b, cell);
    for q in 0..rule.weights.len() {
        let normal = rule.normal(q, &work.coordinates);
        let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
        let factor = rule.weights[q] * law.boundary_factor(&work.coefficients.at(q));
        let values = &rule.basis.values[q * n..][..n];
        let mut f0 = [0.0; C];
        let mut slope = 0.0;
        match &load.natural {
            Natural::Flux(_) => (0..C).for_each(|c| f0[c] = -work.values[c][q] * area * factor),
            Natural::Pressure(_) => (0..C).for_each(|c| f0[c] = work.values[0][q] * normal[c] * factor),
            Natural::Robin { .. } => {
                let inside: f64 = nodes.iter().zip(values).map(|(&v, phi)| phi * u[v as usize * C]).sum();
                slope = work.values[0][q] * area * factor;
                f0[0] = slope * (inside - work.values[1][q]);
            }
        }
        for i in 0..n {
            for c in 0..C {
                out.residual[i * C + c] += f0[c] * values[i];
            }
        }
        if size > 0 {
            for i in 0..n {
                for j in 0..n {
                    out.matrix[i * C * C * n + j] += slope * values[i] * values[j];
                }
            }
        }
    }
    Ok(out)
}
