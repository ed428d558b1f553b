//! Functionals of the solution and their derivatives: what goal-oriented estimates start from.
//!
//! Imports the discretisation and `law`. Start at [`Goal`] and [`derivative`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::facets::FacetRule;
use super::functionals::Located;
use super::outside::inverse;
use crate::element::{GeometryKind, Quadrature, Table};
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::Points;
use crate::law::{Coefficients, Law, Part, Point, Quantity};
use crate::mesh::locate::Place;
use crate::mesh::{EntityTag, geometry};

/// Which cells of which block count.
pub type Keep<'a> = &'a (dyn Fn(usize, usize) -> bool + Sync);

/// Where a functional looks.
#[derive(Clone, Copy)]
pub enum Over<'a> {
    /// A point, on the rank that has its cell. The solution is taken at the point; what is derived from its
    /// gradient, which has no value at a point, as its mean over the cell.
    Point(Option<Place>),
    /// The integral over owned cells for which this holds.
    Cells(Keep<'a>),
    /// The integral over facets of owned cells, and, with the opposite sign, over further ones.
    Facets(&'a [EntityTag], Located, &'a [EntityTag]),
}

/// One number that the solution determines: a value of a quantity, somewhere.
#[derive(Clone, Copy)]
pub struct Goal<'a> {
    /// The quantity.
    pub quantity: Quantity,
    /// Which of its values; unused where the normal part is asked for.
    pub value: usize,
    /// Where.
    pub over: Over<'a>,
}

/// A quantity's value at a point, and its derivatives with respect to the solution and its gradient.
struct Slopes<const D: usize, const C: usize> {
    value: f64,
    u: [f64; C],
    grad: [[f64; D]; C],
}

/// The most values a quantity has.
const MOST: usize = 9;

/// Weights of a quantity's values, so that all that is asked for is one sum.
type Pick = [f64; MOST];

/// Differentiates `sum_k pick[k] quantity_k`. Quantities are linear but for a constant part, so that the
/// response to a unit is a derivative; the von Mises stress is differentiated through the stress.
fn slopes<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    quantity: (Quantity, usize),
    pick: &Pick,
    p: &Point<D, C>,
    c: &Coefficients,
) -> Slopes<D, C> {
    let mut pick = *pick;
    let mut value = None;
    let (linear, width) = if quantity.0 == Quantity::VonMises { (Quantity::Stress, 6) } else { quantity };
    if quantity.0 == Quantity::VonMises {
        let mut s = [0.0; 6];
        law.evaluate(Quantity::Stress, p, c, &mut s);
        let size = crate::law::von_mises(&s);
        value = Some(pick[0] * size);
        // d size / d s; none where the stress vanishes, which is the middle of a cone.
        let scale = if size > 0.0 { pick[0] / size } else { 0.0 };
        let trace = s[0] + s[1] + s[2];
        pick = [0.0; MOST];
        for k in 0..3 {
            pick[k] = scale * 0.5 * (3.0 * s[k] - trace);
            pick[3 + k] = scale * 3.0 * s[3 + k];
        }
    }
    let picked = |p: &Point<D, C>| {
        let mut out = [0.0; MOST];
        law.evaluate(linear, p, c, &mut out[..width]);
        (0..width).map(|k| pick[k] * out[k]).sum::<f64>()
    };
    let offset = picked(&Point::default());
    let mut made = Slopes { value: value.unwrap_or_else(|| picked(p)), u: [0.0; C], grad: [[0.0; D]; C] };
    for a in 0..C {
        if linear == Quantity::Solution {
            let mut unit = Point::default();
            unit.u[a] = 1.0;
            made.u[a] = picked(&unit) - offset;
            continue;
        }
        for k in 0..D {
            let mut unit = Point::default();
            unit.grad[a][k] = 1.0;
            made.grad[a][k] = picked(&unit) - offset;
        }
    }
    made
}

/// The buffers of a thread.
#[derive(Default)]
struct Work {
    coordinates: Vec<[f64; 3]>,
    x: [Vec<f64>; 3],
    coefficients: CoefficientBatch,
    /// The solution at the cell's nodes.
    u: Vec<f64>,
    interpolated: Vec<f64>,
}

/// What is looked at on cells of one block.
struct Look<'a, L> {
    law: &'a L,
    d: &'a Discretisation<'a>,
    u: &'a [f64],
    quantity: (Quantity, usize),
}

impl<L> Look<'_, L> {
    /// Adds `weights[q] picks(q) . quantity` at the points of tables on one cell: the value, and its
    /// derivatives with respect to the values at the cell's slots, `[node][component]`; `out` is zero before.
    fn add<const D: usize, const C: usize>(
        &self,
        work: &mut Work,
        b: usize,
        cell: usize,
        basis: &Table,
        map: &Table,
        measure: impl Fn(usize, &[[f64; 3]; 3], &[[f64; 3]]) -> (f64, Pick),
        out: &mut [f64],
    ) -> Result<f64, AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        work.coordinates.clear();
        d.mesh.cell_coordinates(&d.mesh.blocks[b], cell, &mut work.coordinates);
        work.x.iter_mut().for_each(Vec::clear);
        for q in 0..map.n_points {
            let at = geometry::image(map, q, &work.coordinates);
            (0..3).for_each(|k| work.x[k].push(at[k]));
        }
        let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
        let wanted = |slot| self.law.needs(Part::Quantities, slot);
        work.coefficients
            .evaluate_some(&d.materials[d.material(b, cell)], &points, wanted)
            .map_err(|e| AssemblyError::not_finite(e, &work.x))?;
        d.space.gather(b, cell, self.u, C, &mut work.u, &mut work.interpolated);
        let mut total = 0.0;
        for q in 0..map.n_points {
            let j = geometry::jacobian(map, q, &work.coordinates);
            let (weight, pick) = measure(q, &j, &work.coordinates);
            let inverse = inverse(&j, D);
            let physical = |gradient: &[f64]| -> [f64; D] {
                std::array::from_fn(|a| (0..D).map(|k| inverse[k][a] * gradient[k]).sum())
            };
            let mut p = Point::<D, C>::default();
            let of_nodes = || basis.values_at(q).iter().zip(basis.gradients_at(q).chunks_exact(D));
            for (u, (phi, gradient)) in work.u.chunks_exact(C).zip(of_nodes()) {
                let gradient = physical(gradient);
                for c in 0..C {
                    let u = u[c];
                    p.u[c] += phi * u;
                    (0..D).for_each(|a| p.grad[c][a] += gradient[a] * u);
                }
            }
            let s = slopes(self.law, self.quantity, &pick, &p, &work.coefficients.at(q));
            total += weight * s.value;
            for (out, (phi, gradient)) in out.chunks_exact_mut(C).zip(of_nodes()) {
                let gradient = physical(gradient);
                for c in 0..C {
                    let slope = phi * s.u[c] + (0..D).map(|a| s.grad[c][a] * gradient[a]).sum::<f64>();
                    out[c] += weight * slope;
                }
            }
        }
        if let Some(hanging) = d.space.interpolation(b, cell) {
            hanging.scatter(out, C, &mut work.interpolated);
        }
        Ok(total)
    }
}

/// Cells of a task.
const PER_TASK: usize = 1 << 8;

/// Adds the derivative of a goal with respect to the values at all local nodes to `out`, from this rank's
/// cells; those of ghosts are to go to their owners. Returns this rank's part of the goal's value.
///
/// # Errors
/// A coefficient that is not a number where the goal looks.
pub(super) fn derivative<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    rules: &[Vec<FacetRule>],
    goal: &Goal,
    u: &[f64],
    out: &mut [f64],
) -> Result<f64, AssemblyError> {
    let _span = tracing::debug_span!("goal derivative").entered();
    let width = law.n_values(goal.quantity).expect("a quantity the law has");
    let look = Look { law, d, u, quantity: (goal.quantity, width) };
    let mut one: Pick = [0.0; MOST];
    one[goal.value.min(MOST - 1)] = 1.0;
    match goal.over {
        Over::Point(None) => Ok(0.0),
        Over::Point(Some(place)) => {
            let Place { block: b, cell, reference } = place;
            let at = |points: &[[f64; 3]]| {
                let basis = d.space.elements[b].tabulate(points, 1);
                (basis, geometry::basis(&d.mesh.blocks[b]).tabulate(points, 1))
            };
            let mut work = Work::default();
            let nodes = d.space.nodes(b, cell);
            let mut element = vec![0.0; nodes.len() * C];
            let value = if goal.quantity == Quantity::Solution {
                let (basis, map) = at(&[reference]);
                look.add::<D, C>(&mut work, b, cell, &basis, &map, |_, _, _| (1.0, one), &mut element)?
            } else {
                let (rule, volume) = whole_cell::<D>(d, b, cell);
                let (basis, map) = at(&rule.points);
                let measure = |q: usize, j: &[[f64; 3]; 3], _: &[[f64; 3]]| {
                    (rule.weights[q] * geometry::determinant(j, D) / volume, one)
                };
                look.add::<D, C>(&mut work, b, cell, &basis, &map, measure, &mut element)?
            };
            scatter::<C>(nodes, &element, out);
            Ok(value)
        }
        Over::Cells(keep) => cells::<L, D, C>(&look, &one, keep, out),
        Over::Facets(facets, what, against) => {
            let mut work = Work::default();
            let mut element = Vec::new();
            let mut total = 0.0;
            for (facet, sign) in facets.iter().map(|f| (f, 1.0)).chain(against.iter().map(|f| (f, -1.0))) {
                let (b, cell) = (facet.block as usize, facet.cell as usize);
                let rule = &rules[b][facet.local as usize];
                let nodes = d.space.nodes(b, cell);
                element.clear();
                element.resize(nodes.len() * C, 0.0);
                let measure = |q: usize, _: &[[f64; 3]; 3], x: &[[f64; 3]]| {
                    let normal = rule.normal(q, x);
                    match what {
                        Located::Values => {
                            let area = normal.iter().map(|n| n * n).sum::<f64>().sqrt();
                            (sign * rule.weights[q] * area, one)
                        }
                        Located::Normal => {
                            let mut pick = [0.0; MOST];
                            pick[..D].copy_from_slice(&normal[..D]);
                            (sign * rule.weights[q], pick)
                        }
                    }
                };
                total +=
                    look.add::<D, C>(&mut work, b, cell, &rule.basis, &rule.geometry, measure, &mut element)?;
                scatter::<C>(nodes, &element, out);
            }
            Ok(total)
        }
    }
}

/// A rule on one cell, and the cell's volume by it.
fn whole_cell<const D: usize>(d: &Discretisation, b: usize, cell: usize) -> (Quadrature, f64) {
    let block = &d.mesh.blocks[b];
    let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
    let rule = Quadrature::new(block.shape, 2 * d.space.degree + curved)
        .expect("rules exist for every degree asked for");
    let map = geometry::basis(block).tabulate(&rule.points, 1);
    let mut x = Vec::new();
    d.mesh.cell_coordinates(block, cell, &mut x);
    let weights = rule.weights.iter().enumerate();
    let volume = weights.map(|(q, w)| w * geometry::determinant(&geometry::jacobian(&map, q, &x), D)).sum();
    (rule, volume)
}

fn scatter<const C: usize>(nodes: &[u32], element: &[f64], out: &mut [f64]) {
    for (&v, from) in nodes.iter().zip(element.chunks_exact(C)) {
        (0..C).for_each(|c| out[v as usize * C + c] += from[c]);
    }
}

/// The integral over cells. Elements are computed by all threads, then added in the order of the cells.
fn cells<L: Law<D, C>, const D: usize, const C: usize>(
    look: &Look<L>,
    one: &Pick,
    keep: Keep,
    out: &mut [f64],
) -> Result<f64, AssemblyError> {
    let d = look.d;
    let mut total = 0.0;
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + curved, 1);
        let ids: Vec<u32> = (0..block.n_owned).filter(|&c| keep(b, c)).map(|c| c as u32).collect();
        let n = d.space.elements[b].n_nodes() * C;
        let window = PER_TASK * 64;
        let mut elements = vec![0.0; window.min(ids.len()) * n];
        for ids in ids.chunks(window) {
            let elements = &mut elements[..ids.len() * n];
            elements.fill(0.0);
            let of_task = |work: &mut Work, (ids, elements): (&[u32], &mut [f64])| {
                let _span = tracing::trace_span!("task").entered();
                let mut sum = 0.0;
                for (&cell, element) in ids.iter().zip(elements.chunks_exact_mut(n)) {
                    let measure = |q: usize, j: &[[f64; 3]; 3], _: &[[f64; 3]]| {
                        (rules.rule.weights[q] * geometry::determinant(j, D), *one)
                    };
                    let (basis, map) = (&rules.basis, &rules.geometry);
                    sum += look.add::<D, C>(work, b, cell as usize, basis, map, measure, element)?;
                }
                Ok(sum)
            };
            let tasks = ids.par_chunks(PER_TASK).zip(elements.par_chunks_mut(PER_TASK * n));
            let sums: Vec<Result<f64, AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
            for sum in sums {
                total += sum?;
            }
            for (&cell, element) in ids.iter().zip(elements.chunks_exact(n)) {
                scatter::<C>(d.space.nodes(b, cell as usize), element, out);
            }
        }
    }
    Ok(total)
}
