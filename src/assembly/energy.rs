//! The energy norm of a solution, and its density at a point.
//!
//! Imports the discretisation and `law`. Start at [`square`].

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::lanes::Gathered;
use super::residuals::Loaded;
use super::sampler::by_material;
use crate::element::GeometryKind;
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Coefficients, Law, Part, Point, Residual};

/// Cells that a task takes: fixed, so that sums do not depend on the number of threads.
const CELLS_PER_TASK: usize = 1 << 10;

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    cells: Gathered<D, C>,
    loaded: Loaded,
}

/// `f1 : grad e + r e^2` at a point, with the part of the law's flux that is linear in the gradient and its reaction.
#[inline(always)]
pub(super) fn density<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    e: &Point<D, C, Lanes>,
    coefficients: &Coefficients<Lanes>,
) -> Lanes {
    let (mut with, mut without) = (Residual::<D, C, Lanes>::default(), Residual::default());
    law.balance(e, coefficients, &mut with);
    law.balance(&Point::default(), coefficients, &mut without);
    let [_, reaction] = law.sizes(coefficients);
    let mut density = Lanes::default();
    for c in 0..C {
        density += reaction * e.u[c] * e.u[c];
        (0..D).for_each(|a| density += (with.f1[c][a] - without.f1[c][a]) * e.grad[c][a]);
    }
    density
}

/// This rank's part of the squared energy norm of `u`: the integral of [`density`] over owned cells. That of the
/// error is one of the norms beside.
///
/// # Errors
/// A coefficient that is not a number, a cell turned inside out.
pub(super) fn square<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    u: &[f64],
) -> Result<f64, AssemblyError> {
    let _span = tracing::debug_span!("energy norm").entered();
    let mut total = 0.0;
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + curved, 1);
        let of_task = |work: &mut Work<D, C>, task: usize| {
            let _span = tracing::trace_span!("task").entered();
            let first = task * CELLS_PER_TASK;
            let mut sum = 0.0;
            by_material(d, b, first..(first + CELLS_PER_TASK).min(block.n_owned), |_, ids| {
                sum += cells::<L, D, C>(law, d, b, &rules, work, ids, u)?;
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

/// The energy of at most eight cells of one material.
fn cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    b: usize,
    rules: &Rules,
    work: &mut Work<D, C>,
    ids: &[u32],
    u: &[f64],
) -> Result<f64, AssemblyError> {
    let affine = d.mesh.blocks[b].is_affine();
    work.cells.gather(d, b, ids, u);
    let wanted = |slot| law.needs(Part::Flux, slot);
    let material = d.material(b, ids[0] as usize);
    work.loaded.load(d.materials, material, &work.cells, &rules.geometry, d.time, wanted)?;
    let mut sum = Lanes::default();
    let mut map = ([[Lanes::default(); D]; D], Lanes::default());
    for (q, &weight) in rules.rule.weights.iter().enumerate() {
        if q == 0 || !affine {
            map = work.cells.map(d, b, ids, &rules.geometry, q)?;
        }
        let p = Point {
            u: work.cells.value(&rules.basis, q),
            grad: work.cells.gradient(&rules.basis, q, &map.0),
            ..Point::default()
        };
        let density = density(law, &p, &work.loaded.batch.lanes(q * WIDTH));
        sum += density * Lanes::splat(weight) * map.1;
    }
    Ok(sum.to_array()[..ids.len()].iter().sum())
}
