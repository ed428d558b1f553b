//! Norms of the error against an exact solution, the energy norm among them.
//!
//! Imports the discretisation, `law` and its sibling `pieces`. Start at [`exact_errors`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::energy::density;
use super::lanes::{Gathered, add_scaled};
use super::pieces::{self, Cuts, Detail, Pieces};
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
///
/// Where the rule does not resolve the gradient's error, as in cells at a corner, a cell is cut into pieces until
/// it does or the rest no longer matters. To know where costs a multiplication a point, component and axis.
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
        let detail = Detail::new(block.shape, &rules.rule, d.space.degree + 1);
        let cuts = Cuts::new(d, b);
        let parts: Vec<Result<[f64; 3], AssemblyError>> = (0..block.n_owned.div_ceil(CELLS_PER_TASK))
            .into_par_iter()
            .map_init(
                || Work::<L, D, C>::new(law, d, b, &rules, slopes.as_ref(), &outputs, &detail),
                |work, task| {
                    let _span = tracing::trace_span!("task").entered();
                    let end = ((task + 1) * CELLS_PER_TASK).min(block.n_owned);
                    work.sums = [Lanes::default(); 3];
                    let mut begin = task * CELLS_PER_TASK;
                    while begin < end {
                        let cells = Source::Mesh(begin..end, u);
                        begin += work.add(&cells).map_err(|at| at.into_error::<D>(key, exact))?;
                    }
                    let most = pieces::most_pieces(end - task * CELLS_PER_TASK);
                    work.add_pieces(&cuts, most).map_err(|at| at.into_error::<D>(key, exact))?;
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
    /// The number of the first among those that [`Source`] has.
    begin: usize,
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
    detail: &'a Detail,
    /// What is to be cut: cells, then pieces of them.
    rough: Pieces,
}

/// Where [`Work`] takes cells from.
enum Source<'s> {
    /// The mesh, and the solution on it.
    Mesh(std::ops::Range<usize>, &'s [f64]),
    /// Pieces, and whether they may be cut again.
    Pieces(&'s Pieces, std::ops::Range<usize>, bool),
}

impl<'a, L: Law<D, C>, const D: usize, const C: usize> Work<'a, L, D, C> {
    fn new(
        law: Option<&'a L>,
        d: &'a Discretisation,
        block: usize,
        rules: &'a Rules,
        slopes: Option<&'a Slopes>,
        outputs: &'a ExprSet,
        detail: &'a Detail,
    ) -> Self {
        let n_groups = (POINTS_PER_BATCH / (WIDTH * rules.rule.len())).max(1);
        let group = |_| Group { cells: Gathered::default(), maps: Vec::new(), first: 0, begin: 0 };
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
            detail,
            rough: Pieces::default(),
        }
    }

    /// Adds the squared errors of the cells that were put aside, in pieces: `most` at most, or as they are.
    #[cold]
    fn add_pieces(&mut self, cuts: &Cuts, most: usize) -> Result<(), BadPoint> {
        let (mut children, mut left) = (Pieces::default(), most);
        for depth in 1..=pieces::DEPTH {
            if self.rough.len() == 0 {
                return Ok(());
            }
            let Some(rest) = left.checked_sub(self.rough.len() * cuts.n_children()) else { break };
            left = rest;
            cuts.cut::<D, C>(&self.rough, &mut children);
            self.rough.clear();
            let mut begin = 0;
            while begin < children.len() {
                let some = begin..children.len();
                begin += self.add(&Source::Pieces(&children, some, depth < pieces::DEPTH))?;
            }
        }
        for found in &self.rough.found {
            (0..3).for_each(|k| self.sums[k].as_mut_array()[0] += found[k]);
        }
        self.rough.clear();
        Ok(())
    }

    /// Adds the squared errors of the first cells or pieces of a source: as many as a batch has. Those on which the rule
    /// is too coarse are put aside. Returns how many were taken.
    fn add(&mut self, source: &Source) -> Result<usize, BadPoint> {
        let Work { law, d, block: b, rules, .. } = *self;
        let affine = d.mesh.blocks[b].is_affine();
        let n_points = rules.rule.len();
        let (Source::Mesh(all, _) | Source::Pieces(_, all, _)) = source;
        let mut n_groups = 0;
        let mut next = all.start;
        let mut lanes = [0u32; WIDTH];
        for (g, group) in self.groups.iter_mut().enumerate() {
            if next == all.end {
                break;
            }
            let mut n = (all.end - next).min(WIDTH);
            match source {
                Source::Mesh(..) => (0..n).for_each(|l| lanes[l] = (next + l) as u32),
                Source::Pieces(pieces, ..) => lanes[..n].copy_from_slice(&pieces.cells[next..next + n]),
            }
            if law.is_some() {
                // A group has the coefficients of one material.
                n = same_material(d, b, &lanes[..n]);
            }
            match source {
                Source::Mesh(_, u) => group.cells.gather(d, b, &lanes[..n], u),
                Source::Pieces(all, ..) => {
                    let (of_x, of_u) = (all.x.len() / all.len(), all.u.len() / all.len());
                    let (x, u) = (&all.x[next * of_x..][..n * of_x], &all.u[next * of_u..][..n * of_u]);
                    group.cells.take(n, x, u);
                }
            }
            (group.first, group.begin) = (lanes[0] as usize, next);
            next += n;
            n_groups += 1;
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
            let mut squares = if let Some(slopes) = self.slopes {
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
                squares_of(rules, self.detail, group, exact, n, energy, gradient)
            } else if affine {
                let gradient = cells.gradient(&rules.basis, 0, &group.maps[0].0);
                squares_of(rules, self.detail, group, exact, n, energy, |_| gradient)
            } else {
                let gradient = |q: usize| cells.gradient(&rules.basis, q, &group.maps[q].0);
                squares_of(rules, self.detail, group, exact, n, energy, gradient)
            };
            if let Source::Pieces(all, ..) = source
                && !squares.iter().all(|s| s.as_array().iter().all(|s| s.is_finite()))
            {
                as_found(all, group.begin, group.cells.n, &mut squares);
            }
            let [l2, h1, energy, detail] = squares;
            let inside = (1u32 << group.cells.n) - 1;
            let rough = detail.simd_gt(h1 * pieces::ROUGH).to_bitmask() & inside;
            // Where the last group is not full its last lanes repeat a cell.
            let mut counts = inside;
            if rough != 0 {
                counts &= !put_aside(source, rules, group, exact, n, rough, &squares, &mut self.rough);
            }
            let counts = Lanes::new(std::array::from_fn(|lane| f64::from(counts >> lane & 1)));
            self.sums[0] = counts.mul_add(l2, self.sums[0]);
            self.sums[1] = counts.mul_add(h1, self.sums[1]);
            self.sums[2] = counts.mul_add(energy, self.sums[2]);
        }
        // A value that is not a number shows in the sums, so none needs to be looked at before.
        if self.sums.iter().all(|sum| sum.as_array().iter().all(|s| s.is_finite())) {
            return Ok(next - all.start);
        }
        let values: &[f64] = bytemuck::cast_slice(exact);
        let Some(k) = values.iter().position(|v| !v.is_finite()) else { return Ok(next - all.start) };
        let (output, at) = (k / (n * WIDTH), k % (n * WIDTH));
        Err(BadPoint::Exact { output, value: values[k], x: [x[at], y[at], z[at]] })
    }
}

/// Puts aside those of the `rough` lanes that are worth to be cut; which these are.
#[cold]
fn put_aside<const D: usize, const C: usize>(
    source: &Source,
    rules: &Rules,
    group: &Group<D, C>,
    exact: &[Lanes],
    n: usize,
    rough: u32,
    squares: &[Lanes; 4],
    to: &mut Pieces,
) -> u32 {
    let mut aside = 0;
    let [l2, h1, energy, detail] = squares.map(|s| s.to_array());
    for lane in (0..group.cells.n).filter(|lane| rough >> lane & 1 != 0) {
        let (cell, of_cell) = match source {
            Source::Mesh(..) => ((group.begin + lane) as u32, h1[lane]),
            Source::Pieces(all, _, again) => {
                let piece = group.begin + lane;
                if !again || detail[lane] <= pieces::MATTERS * all.of_cell[piece] {
                    continue;
                }
                (all.cells[piece], all.of_cell[piece])
            }
        };
        if h1[lane] <= pieces::ROUND_OFF * size_of(rules, group, exact, n, lane) {
            continue;
        }
        aside |= 1 << lane;
        to.cells.push(cell);
        to.found.push([l2[lane], h1[lane], energy[lane]]);
        to.of_cell.push(of_cell);
        group.cells.append(lane, &mut to.x, &mut to.u);
    }
    aside
}

/// The square of the exact solution's H1 norm on a cell of size one: what round-off is a part of.
fn size_of<const D: usize, const C: usize>(
    rules: &Rules,
    group: &Group<D, C>,
    exact: &[Lanes],
    n: usize,
    lane: usize,
) -> f64 {
    let determinant = group.maps[0].1.as_array()[lane];
    let per_length = determinant.powf(-2.0 / D as f64);
    let mut sum = 0.0;
    for (q, weight) in rules.rule.weights.iter().enumerate() {
        for output in 0..C * (1 + D) {
            let value = exact[output * n + q].as_array()[lane];
            let scale = if output % (1 + D) == 0 { per_length } else { 1.0 };
            sum += weight * scale * value * value;
        }
    }
    sum * determinant
}

/// Pieces on which the exact solution is not finite, where it was on the whole, have their part of what was found
/// there.
#[cold]
fn as_found(all: &Pieces, first: usize, n: usize, squares: &mut [Lanes; 4]) {
    for lane in 0..n {
        if squares.iter().any(|s| !s.as_array()[lane].is_finite()) {
            let [l2, h1, energy] = all.found[first + lane];
            for (square, value) in squares.iter_mut().zip([l2, h1, energy, 0.0]) {
                square.as_mut_array()[lane] = value;
            }
        }
    }
    // Lanes that repeat a cell.
    for square in squares {
        let filled = square.to_array();
        (n..WIDTH).for_each(|lane| square.as_mut_array()[lane] = filled[n - 1]);
    }
}

/// The squares of the errors of eight cells, and what of the second may be of higher degree than the rule is made for:
/// L2, H1 seminorm, energy, detail. `exact` holds the outputs, `n` apart.
#[inline(always)]
fn squares_of<L: Law<D, C>, const D: usize, const C: usize>(
    rules: &Rules,
    detail: &Detail,
    group: &Group<D, C>,
    exact: &[Lanes],
    n: usize,
    energy: Option<(&L, &Batch)>,
    gradient: impl Fn(usize) -> [[Lanes; D]; C],
) -> [Lanes; 4] {
    let mut sums = [Lanes::default(); 3];
    let mut details = [[Lanes::default(); D]; C];
    for (q, (&weight, &null)) in rules.rule.weights.iter().zip(&detail.weights).enumerate() {
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
                details[c][a] = add_scaled(details[c][a], null, e);
            }
        }
        let determinant = group.maps[if group.maps.len() == 1 { 0 } else { q }].1;
        let w = determinant * weight;
        sums[0] = w.mul_add(l2, sums[0]);
        sums[1] = w.mul_add(h1, sums[1]);
        if let Some((law, coefficients)) = energy {
            let density = density(law, &error, &coefficients.lanes(q * WIDTH));
            sums[2] = w.mul_add(density, sums[2]);
        }
    }
    let mut squared = Lanes::default();
    for d in details.as_flattened() {
        squared = d.mul_add(*d, squared);
    }
    [sums[0], sums[1], sums[2], squared * group.maps[0].1 * detail.dimensions]
}
