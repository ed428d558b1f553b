//! Norms of the error against an exact solution, the energy norm among them.
//!
//! Imports the discretisation and `law`. Start at [`exact_errors`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::energy::density;
use super::lanes::{Gathered, add_scaled};
use super::residuals::Loaded;
use super::sampler::same_material;
use crate::element::{Lagrange, Nodes, Table};
use crate::law::coefficients::Batch;
use crate::law::expr::{Expr, ExprSet, Points, Scratch, Var};
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Part, Point};

/// Norms of the error against an exact solution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactErrors {
    /// In L2.
    pub l2: f64,
    /// The H1 seminorm.
    pub h1: f64,
    /// The energy norm, if it was asked for.
    pub energy: Option<f64>,
}

/// Whether the energy norm of an error is computed beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnergyNorm {
    /// It is.
    Computed,
    /// Nobody asks for it.
    Omitted,
}

/// Cells a task takes in a sum: fixed, so that sums do not depend on the number of threads.
const CELLS_PER_TASK: usize = 1 << 12;

/// Points at which the exact solution is evaluated at once, at most: three blocks of an expression's
/// evaluation, and what they take stays in the second-level cache.
const POINTS_PER_BATCH: usize = 3 << 8;

/// Squared error norms of this rank's cells: L2, H1 seminorm, and the energy norm that a `law` gives.
///
/// Bound by the exact solution's sines and exponentials: the value and its derivatives share what they
/// have in common, and all norms share them. All else is done for eight cells at once, 1 ns a point at degree 1 on
/// tetrahedra.
pub(super) fn exact_errors<L: Law<D, C>, const D: usize, const C: usize>(
    law: Option<&L>,
    d: &Discretisation,
    key: &str,
    exact: &[Expr],
    u: &[f64],
) -> Result<[f64; 3], AssemblyError> {
    let _span = tracing::debug_span!("error norms").entered();
    let axes = [Var::X, Var::Y, Var::Z];
    let with_gradient = |e: &Expr| {
        std::iter::once(e.clone()).chain(axes[..D].iter().map(|&v| e.derivative(v))).collect::<Vec<_>>()
    };
    let outputs: Vec<Expr> = exact.iter().flat_map(with_gradient).collect();
    let outputs = ExprSet::new(&outputs);
    let mut total = [0.0; 3];
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != crate::element::GeometryKind::Linear) * 2;
        let degree = 2 * d.space.degree + 4 + curved;
        let rules = Rules::new(d.mesh, d.space, b, degree, 1);
        let slopes = Slopes::new(d, b, &rules);
        let parts: Vec<Result<[f64; 3], AssemblyError>> = (0..block.n_owned.div_ceil(CELLS_PER_TASK))
            .into_par_iter()
            .map_init(
                || Work::<L, D, C>::new(law, d, b, &rules, slopes.as_ref(), &outputs),
                |work, task| {
                    let _span = tracing::trace_span!("task").entered();
                    let end = ((task + 1) * CELLS_PER_TASK).min(block.n_owned);
                    work.sums = [Lanes::default(); 3];
                    let mut begin = task * CELLS_PER_TASK;
                    while begin < end {
                        let added = work.add(begin..end, u).map_err(|at| at.into_error::<D>(key, exact))?;
                        begin += added;
                    }
                    Ok(work.sums.map(|lanes| lanes.as_array().iter().sum()))
                },
            )
            .collect();
        for part in parts {
            let part = part?;
            (0..3).for_each(|k| total[k] += part[k]);
        }
    }
    Ok(total)
}

/// What is wrong at a point.
enum BadPoint {
    /// The cell.
    Cell(AssemblyError),
    /// The exact solution or its gradient, by its number among the outputs.
    Exact { output: usize, value: f64, x: [f64; 3] },
}

impl From<AssemblyError> for BadPoint {
    fn from(error: AssemblyError) -> BadPoint {
        BadPoint::Cell(error)
    }
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

/// Gradients on affine simplices: polynomials of one degree less, so they are interpolated from as many
/// nodes as that takes, for less than half the cost of summing over all shape functions.
struct Slopes {
    /// The space's basis at the nodes of one degree less.
    nodes: Table,
    /// The basis of one degree less at the rule's points.
    values: Table,
}

impl Slopes {
    /// `None` where cells are not affine, and at degree 1, where gradients are constant.
    fn new(d: &Discretisation, b: usize, rules: &Rules) -> Option<Slopes> {
        let block = &d.mesh.blocks[b];
        if !block.is_affine() || d.space.degree == 1 {
            return None;
        }
        let lower = Lagrange::new(block.shape, d.space.degree - 1, Nodes::Spectral)
            .expect("an element of lower degree exists");
        let nodes = d.space.elements[b].tabulate(lower.nodes(), 1);
        Some(Slopes { nodes, values: lower.tabulate(&rules.rule.points, 0) })
    }
}

/// Eight cells of a batch.
struct Group<const D: usize, const C: usize> {
    cells: Gathered<D, C>,
    /// The Jacobian's inverse and its determinant at each point; one point where they are constant.
    maps: Vec<([[Lanes; D]; D], Lanes)>,
    /// The first cell, for its material.
    first: usize,
}

/// One thread's buffers, reused from batch to batch.
struct Work<'a, L, const D: usize, const C: usize> {
    /// If the energy norm is wanted: the law, and the coefficients of one group.
    law: Option<&'a L>,
    loaded: Loaded,
    d: &'a Discretisation<'a>,
    block: usize,
    rules: &'a Rules,
    slopes: Option<&'a Slopes>,
    /// Gradients at the nodes of [`Slopes`].
    nodal: Vec<[[Lanes; D]; C]>,
    outputs: &'a ExprSet,
    groups: Vec<Group<D, C>>,
    /// Coordinates of the batch's points, `[group][point]`, in whole cache lines.
    x: [Vec<Lanes>; 3],
    /// The exact solution and its gradient, `[output][group][point]`.
    exact: Vec<Lanes>,
    scratch: Scratch,
    sums: [Lanes; 3],
}

impl<'a, L: Law<D, C>, const D: usize, const C: usize> Work<'a, L, D, C> {
    fn new(
        law: Option<&'a L>,
        d: &'a Discretisation,
        block: usize,
        rules: &'a Rules,
        slopes: Option<&'a Slopes>,
        outputs: &'a ExprSet,
    ) -> Self {
        let n_groups = (POINTS_PER_BATCH / (WIDTH * rules.rule.len())).max(1);
        let group = |_| Group { cells: Gathered::default(), maps: Vec::new(), first: 0 };
        let groups = (0..n_groups).map(group).collect();
        let n = n_groups * rules.rule.len();
        let zero = Lanes::default();
        Work {
            law,
            loaded: Loaded::default(),
            d,
            block,
            rules,
            slopes,
            nodal: Vec::new(),
            outputs,
            groups,
            x: std::array::from_fn(|_| vec![zero; n]),
            exact: vec![zero; n * outputs.len()],
            scratch: Scratch::new(),
            sums: [zero; 3],
        }
    }

    /// Adds the squared errors of the first of some cells: as many as a batch has. Returns how many those are.
    fn add(&mut self, cells: std::ops::Range<usize>, u: &[f64]) -> Result<usize, BadPoint> {
        let Work { law, d, block: b, rules, .. } = *self;
        let affine = d.mesh.blocks[b].is_affine();
        let n_points = rules.rule.len();
        let mut n_groups = 0;
        let mut next = cells.start;
        for (g, group) in self.groups.iter_mut().enumerate() {
            if next == cells.end {
                break;
            }
            let lanes: [u32; WIDTH] = std::array::from_fn(|l| (next + l) as u32);
            let mut n = (cells.end - next).min(WIDTH);
            if law.is_some() {
                // A group has the coefficients of one material.
                n = same_material(d, b, &lanes[..n]);
            }
            group.first = next;
            next += n;
            n_groups += 1;
            group.cells.gather(d, b, &lanes[..n], u);
            group.maps.clear();
            for q in 0..n_points {
                if q == 0 || !affine {
                    group.maps.push(group.cells.map(d, b, &lanes[..n], &rules.geometry, q)?);
                }
                let at = group.cells.image(&rules.geometry, q);
                (0..D).for_each(|k| self.x[k][g * n_points + q] = at[k]);
            }
        }
        let n = n_groups * n_points;
        let [x, y, z] = self.x.each_ref().map(|x| bytemuck::cast_slice(&x[..n]));
        let exact = &mut self.exact[..n * self.outputs.len()];
        let at = Points { x, y, z, t: d.time };
        self.outputs.eval(&at, bytemuck::cast_slice_mut(exact), &mut self.scratch);
        let exact = &*exact;
        for (g, group) in self.groups[..n_groups].iter().enumerate() {
            let (cells, exact) = (&group.cells, &exact[g * n_points..]);
            let energy = match law {
                None => None,
                Some(law) => {
                    let wanted = |slot| law.needs(Part::Flux, slot);
                    let material = d.material(b, group.first);
                    self.loaded.load(d.materials, material, cells, &rules.geometry, d.time, wanted)?;
                    Some((law, &self.loaded.batch))
                }
            };
            if let Some(slopes) = self.slopes {
                let inverse = &group.maps[0].0;
                self.nodal.clear();
                self.nodal
                    .extend((0..slopes.nodes.n_points).map(|k| cells.gradient(&slopes.nodes, k, inverse)));
                let nodal = &self.nodal;
                let gradient = |q: usize| {
                    let mut sum = [[Lanes::default(); D]; C];
                    for (node, &phi) in nodal.iter().zip(slopes.values.values_at(q)) {
                        for c in 0..C {
                            (0..D).for_each(|a| sum[c][a] = add_scaled(sum[c][a], phi, node[c][a]));
                        }
                    }
                    sum
                };
                add_group(rules, group, exact, n, energy, gradient, &mut self.sums);
            } else if affine {
                let gradient = cells.gradient(&rules.basis, 0, &group.maps[0].0);
                add_group(rules, group, exact, n, energy, |_| gradient, &mut self.sums);
            } else {
                let gradient = |q: usize| cells.gradient(&rules.basis, q, &group.maps[q].0);
                add_group(rules, group, exact, n, energy, gradient, &mut self.sums);
            }
        }
        // A value that is not a number shows in the sums, so none needs to be looked at before.
        if self.sums.iter().all(|sum| sum.as_array().iter().all(|s| s.is_finite())) {
            return Ok(next - cells.start);
        }
        let values: &[f64] = bytemuck::cast_slice(exact);
        let Some(k) = values.iter().position(|v| !v.is_finite()) else { return Ok(next - cells.start) };
        let (output, at) = (k / (n * WIDTH), k % (n * WIDTH));
        Err(BadPoint::Exact { output, value: values[k], x: [x[at], y[at], z[at]] })
    }
}

/// Adds the squared errors of eight cells. `exact` holds the outputs, `n` apart.
#[inline(always)]
fn add_group<L: Law<D, C>, const D: usize, const C: usize>(
    rules: &Rules,
    group: &Group<D, C>,
    exact: &[Lanes],
    n: usize,
    energy: Option<(&L, &Batch)>,
    gradient: impl Fn(usize) -> [[Lanes; D]; C],
    sums: &mut [Lanes; 3],
) {
    let inside = Lanes::new(std::array::from_fn(|lane| if lane < group.cells.n { 1.0 } else { 0.0 }));
    for (q, &weight) in rules.rule.weights.iter().enumerate() {
        let value = group.cells.value(&rules.basis, q);
        let gradient = gradient(q);
        let (mut l2, mut h1) = (Lanes::default(), Lanes::default());
        let mut error = Point::<D, C, Lanes>::default();
        for c in 0..C {
            let first = c * (1 + D) * n + q;
            let e = value[c] - exact[first];
            error.u[c] = e;
            l2 = e.mul_add(e, l2);
            for a in 0..D {
                let e = gradient[c][a] - exact[first + (1 + a) * n];
                error.grad[c][a] = e;
                h1 = e.mul_add(e, h1);
            }
        }
        let determinant = group.maps[if group.maps.len() == 1 { 0 } else { q }].1;
        let w = inside * determinant * weight;
        sums[0] = w.mul_add(l2, sums[0]);
        sums[1] = w.mul_add(h1, sums[1]);
        if let Some((law, coefficients)) = energy {
            let density = density(law, &error, &coefficients.lanes(q * WIDTH));
            sums[2] = w.mul_add(density, sums[2]);
        }
    }
}
