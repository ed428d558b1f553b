//! The energy norm of a solution, and of its error where the exact solution is given.
//!
//! Imports the discretisation and `law`. Start at [`square`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::lanes::Gathered;
use super::residuals::Loaded;
use super::sampler::by_material;
use crate::element::GeometryKind;
use crate::law::expr::{Expr, ExprSet, Points, Scratch, Var};
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Part, Point, Residual};

/// Cells that a task takes: fixed, so that sums do not depend on the number of threads.
const CELLS_PER_TASK: usize = 1 << 10;

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    cells: Gathered<D, C>,
    loaded: Loaded,
    x: [Vec<f64>; 3],
    /// `[expression][q][lane]`: each component's value, then its slopes.
    exact: Vec<f64>,
    scratch: Scratch,
}

/// This rank's part of the squared energy norm of `u`, or of its difference from `exact` (a component each,
/// called by their `key`): the integral of `f1 : grad e + r e^2` over owned cells, with the part of the
/// law's flux that is linear in the gradient and its reaction.
///
/// # Errors
/// A coefficient or an exact solution that is not a number, a cell turned inside out.
pub(super) fn square<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    u: &[f64],
    exact: Option<(&str, &[Expr])>,
) -> Result<f64, AssemblyError> {
    let _span = tracing::debug_span!("energy norm").entered();
    let mut outputs = Vec::new();
    for expr in exact.iter().flat_map(|(_, exprs)| exprs.iter()) {
        outputs.push(expr.clone());
        outputs.extend((0..D).map(|a| expr.derivative(Var::axis(a))));
    }
    let outputs = ExprSet::new(&outputs);
    let mut total = 0.0;
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
        let more = if exact.is_some() { 4 } else { 0 };
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + curved + more, 1);
        let of_task = |work: &mut Work<D, C>, task: usize| {
            let _span = tracing::trace_span!("task").entered();
            let first = task * CELLS_PER_TASK;
            let mut sum = 0.0;
            by_material(d, b, first..(first + CELLS_PER_TASK).min(block.n_owned), |_, ids| {
                let found = cells::<L, D, C>(law, d, b, &rules, work, ids, u, &outputs);
                sum += found.map_err(|e| e.named::<D>(exact))?;
                Ok(())
            })?;
            Ok(sum)
        };
        let tasks = (0..block.n_owned.div_ceil(CELLS_PER_TASK)).into_par_iter();
        let sums: Vec<Result<f64, AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
        for sum in sums {
            total += sum?;
        }
    }
    Ok(total)
}

/// Why a group of cells has no energy.
enum Bad {
    Assembly(AssemblyError),
    /// Output `output` of the exact solution's set.
    Exact {
        output: usize,
        value: f64,
        x: [f64; 3],
    },
}

impl From<AssemblyError> for Bad {
    fn from(error: AssemblyError) -> Bad {
        Bad::Assembly(error)
    }
}

impl Bad {
    fn named<const D: usize>(self, exact: Option<(&str, &[Expr])>) -> AssemblyError {
        match (self, exact) {
            (Bad::Assembly(error), _) => error,
            (Bad::Exact { output, value, x: [x, y, z] }, exact) => {
                let (key, exprs) = exact.expect("an exact solution was evaluated");
                let text = exprs[output / (1 + D)].text().to_string();
                AssemblyError::NotFinite { key: key.to_string(), text, value: value.to_string(), x, y, z }
            }
        }
    }
}

/// The energy of at most eight cells of one material.
fn cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    b: usize,
    rules: &Rules,
    work: &mut Work<D, C>,
    ids: &[u32],
    u: &[f64],
    exact: &ExprSet,
) -> Result<f64, Bad> {
    let affine = d.mesh.blocks[b].is_affine();
    work.cells.gather(d, b, ids, u);
    let wanted = |slot| law.needs(Part::Flux, slot);
    let material = d.material(b, ids[0] as usize);
    work.loaded.load(d.materials, material, &work.cells, &rules.geometry, d.time, wanted)?;
    let n = rules.rule.weights.len() * WIDTH;
    if !exact.is_empty() {
        work.x.iter_mut().for_each(|x| x.resize(n, 0.0));
        for q in 0..rules.rule.weights.len() {
            let at = work.cells.image(&rules.geometry, q);
            (0..D).for_each(|k| work.x[k][q * WIDTH..][..WIDTH].copy_from_slice(at[k].as_array()));
        }
        work.exact.resize(n * exact.len(), 0.0);
        let points = Points { x: &work.x[0], y: &work.x[1], z: &work.x[2], t: d.time };
        exact.eval(&points, &mut work.exact, &mut work.scratch);
        if let Some(k) = work.exact.iter().position(|v| !v.is_finite()) {
            let x = work.x.each_ref().map(|x| x[k % n]);
            return Err(Bad::Exact { output: k / n, value: work.exact[k], x });
        }
    }
    let exact_at = |output: usize, q: usize| {
        let mut lanes = [0.0; WIDTH];
        if !work.exact.is_empty() && !exact.is_empty() {
            lanes.copy_from_slice(&work.exact[output * n + q * WIDTH..][..WIDTH]);
        }
        Lanes::new(lanes)
    };
    let mut sum = Lanes::default();
    let mut map = ([[Lanes::default(); D]; D], Lanes::default());
    for (q, &weight) in rules.rule.weights.iter().enumerate() {
        if q == 0 || !affine {
            map = work.cells.map(d, b, ids, &rules.geometry, q)?;
        }
        let value = work.cells.value(&rules.basis, q);
        let gradient = work.cells.gradient(&rules.basis, q, &map.0);
        let mut p = Point::<D, C, Lanes>::default();
        for c in 0..C {
            p.u[c] = value[c] - exact_at(c * (1 + D), q);
            (0..D).for_each(|a| p.grad[c][a] = gradient[c][a] - exact_at(c * (1 + D) + 1 + a, q));
        }
        let coefficients = work.loaded.batch.lanes(q * WIDTH);
        let (mut with, mut without) = (Residual::<D, C, Lanes>::default(), Residual::default());
        law.balance(&p, &coefficients, &mut with);
        law.balance(&Point::default(), &coefficients, &mut without);
        let [_, reaction] = law.sizes(&coefficients);
        let mut density = Lanes::default();
        for c in 0..C {
            density += reaction * p.u[c] * p.u[c];
            (0..D).for_each(|a| density += (with.f1[c][a] - without.f1[c][a]) * p.grad[c][a]);
        }
        sum += density * Lanes::splat(weight) * map.1;
    }
    Ok(sum.to_array()[..ids.len()].iter().sum())
}
