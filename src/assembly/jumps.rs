//! Jumps of the flux across interior facets, eight facets of one kind at a time.
//!
//! Imports the discretisation, `law` and `mesh`. Start at [`squares`].

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation};
use super::lanes::Gathered;
use super::residuals::{Loaded, Task, square_of_scale};
use super::sampler::by_material;
use crate::element::{GeometryKind, Quadrature, Table};
use crate::law::lanes::{Lanes, Real, WIDTH};
use crate::law::{Law, Part, Point, Residual};
use crate::mesh::facets::{Facets, Kind, Run};
use crate::mesh::geometry;

/// A rule on a facet as its two cells see it.
struct Sides {
    weights: Vec<f64>,
    /// Each side's bases at the points.
    basis: [Table; 2],
    geometry: [Table; 2],
    /// The reference cell's outward normal of the first side, as long as its facet's area element.
    normal: [f64; 3],
}

impl Sides {
    fn new(d: &Discretisation, kind: &Kind, degree: usize) -> Sides {
        let [first, second] = kind.blocks.map(|b| &d.mesh.blocks[b as usize]);
        let facet = kind.facets[0] as usize;
        let rule = Quadrature::new(first.shape.facet_shape(facet), degree)
            .expect("rules exist for every degree asked for");
        let on_first: Vec<_> = rule.points.iter().map(|&p| first.shape.facet_point(facet, p)).collect();
        let on_second = kind.points_of_second(second.shape, &rule.points);
        let basis =
            |side: usize, at: &[[f64; 3]]| d.space.elements[kind.blocks[side] as usize].tabulate(at, 1);
        let [s, t] = first.shape.facet_tangents(facet);
        let length = match d.mesh.dim {
            1 => 1.0,
            2 => (s[0] * s[0] + s[1] * s[1]).sqrt(),
            _ => {
                let n = [s[1] * t[2] - s[2] * t[1], s[2] * t[0] - s[0] * t[2], s[0] * t[1] - s[1] * t[0]];
                n.iter().map(|n| n * n).sum::<f64>().sqrt()
            }
        };
        Sides {
            weights: rule.weights,
            basis: [basis(0, &on_first), basis(1, &on_second)],
            geometry: [
                geometry::basis(first).tabulate(&on_first, 1),
                geometry::basis(second).tabulate(&on_second, 1),
            ],
            normal: first.shape.facet_normal(facet).map(|n| n * length),
        }
    }
}

/// Facets that a task takes: a fixed number.
const FACETS_PER_TASK: usize = 1 << 9;

/// Tables of the kinds of facets.
struct Tables {
    /// Without the sets of groups, on which they do not depend.
    of_kind: BTreeMap<Kind, Sides>,
    /// Per block, `[cell][component][axis]`: the flux, where it is the same all over each cell, which it is
    /// at degree 1 on straight simplices with constant coefficients.
    fluxes: Option<Vec<Vec<f64>>>,
}

/// A kind without its sets.
fn plain(kind: &Kind) -> Kind {
    Kind { sets: [0; 2], ..*kind }
}

impl Tables {
    fn new<L: Law<D, C>, const D: usize, const C: usize>(
        task: &Task<L>,
        facets: &Facets,
    ) -> Result<Tables, AssemblyError> {
        let (law, d) = (task.law, task.d);
        let wanted = |slot| law.needs(Part::Flux, slot);
        let varying = d
            .materials
            .iter()
            .any(|m| m.slots.iter().enumerate().any(|(k, slot)| slot.constant().is_none() && wanted(k)));
        let mut of_kind = BTreeMap::new();
        for run in &facets.runs {
            of_kind.entry(plain(&run.kind)).or_insert_with(|| {
                let blocks = run.kind.blocks.map(|b| &d.mesh.blocks[b as usize]);
                let curved = blocks.iter().any(|b| b.geometry != GeometryKind::Linear);
                let exact = !varying && blocks.iter().all(|b| b.is_affine());
                let p = d.space.degree;
                let degree = if exact { 2 * p - 2 } else { 2 * p } + 2 * usize::from(curved);
                Sides::new(d, &run.kind, degree)
            });
        }
        let flat = !varying && d.space.degree == 1 && d.mesh.blocks.iter().all(|b| b.is_affine());
        let fluxes = if flat { Some(cell_fluxes::<L, D, C>(task)?) } else { None };
        Ok(Tables { of_kind, fluxes })
    }
}

/// The flux of every local cell, where it is constant on each.
fn cell_fluxes<L: Law<D, C>, const D: usize, const C: usize>(
    task: &Task<L>,
) -> Result<Vec<Vec<f64>>, AssemblyError> {
    let _span = tracing::debug_span!("cell fluxes").entered();
    let (law, d) = (task.law, task.d);
    let wanted = |slot| law.needs(Part::Flux, slot);
    let mut all = Vec::new();
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let center = [block.shape.center()];
        let basis = d.space.elements[b].tabulate(&center, 1);
        let map = geometry::basis(block).tabulate(&center, 1);
        let mut values = vec![0.0; block.n_cells * C * D];
        let of_task = |work: &mut Work<D, C>, (k, out): (usize, &mut [f64])| {
            let _span = tracing::trace_span!("task").entered();
            let [cells, _] = &mut work.cells;
            let (first, n_cells) = (k * FACETS_PER_TASK, out.len() / (C * D));
            by_material(d, b, first..first + n_cells, |at, ids| {
                cells.gather(d, b, ids, task.u);
                let material = d.material(b, ids[0] as usize);
                work.loaded[0].load(d.materials, material, cells, &map, d.time, wanted)?;
                let (inverse, _) = cells.map(d, b, ids, &map, 0)?;
                let gradient = cells.gradient(&basis, 0, &inverse);
                let flux = flux(law, &gradient, &work.loaded[0].batch.lanes(0));
                let out = &mut out[at * C * D..(at + ids.len()) * C * D];
                for (l, out) in out.chunks_exact_mut(C * D).enumerate() {
                    for (out, lanes) in out.iter_mut().zip(flux.as_flattened()) {
                        *out = lanes.as_array()[l];
                    }
                }
                Ok(())
            })
        };
        let tasks = values.par_chunks_mut(FACETS_PER_TASK * C * D).enumerate();
        let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        all.push(values);
    }
    Ok(all)
}

/// The weighted integral of the squared jump on each facet.
///
/// # Errors
/// A coefficient that is not a number on a facet, a cell turned inside out.
pub(super) fn squares<L: Law<D, C>, const D: usize, const C: usize>(
    task: &Task<L>,
    facets: &Facets,
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("jumps").entered();
    let tables = Tables::new::<L, D, C>(task, facets)?;
    let mut values = vec![0.0; facets.cells.len()];
    let mut parts: Vec<(&Run, Range<usize>, &mut [f64])> = Vec::new();
    let mut rest = &mut values[..];
    for run in &facets.runs {
        let mut begin = run.begin;
        while begin < run.end {
            let end = (begin + FACETS_PER_TASK).min(run.end);
            let (mine, others) = rest.split_at_mut(end - begin);
            rest = others;
            parts.push((run, begin..end, mine));
            begin = end;
        }
    }
    let results: Vec<Result<(), AssemblyError>> = parts
        .into_par_iter()
        .map_init(Work::<D, C>::default, |work, (run, range, out)| {
            let _span = tracing::trace_span!("task").entered();
            let sides = &tables.of_kind[&plain(&run.kind)];
            for (pairs, out) in facets.cells[range].chunks(WIDTH).zip(out.chunks_mut(WIDTH)) {
                match &tables.fluxes {
                    Some(fluxes) => task.add_flat::<D, C>(work, &run.kind, sides, fluxes, pairs, out)?,
                    None => task.add_facets::<D, C>(work, &run.kind, sides, pairs, out)?,
                }
            }
            Ok(())
        })
        .collect();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(values)
}

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    cells: [Gathered<D, C>; 2],
    loaded: [Loaded; 2],
}

impl<L> Task<'_, L> {
    /// Computes at most eight facets of one kind between cells with constant fluxes: reads these and the
    /// facet's vertices.
    fn add_flat<const D: usize, const C: usize>(
        &self,
        work: &mut Work<D, C>,
        kind: &Kind,
        sides: &Sides,
        fluxes: &[Vec<f64>],
        pairs: &[[u32; 2]],
        out: &mut [f64],
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let blocks = kind.blocks.map(|b| b as usize);
        let (mut modulus, mut reaction) = (Lanes::default(), Lanes::default());
        for side in 0..2 {
            let material = d.set_material[kind.sets[side] as usize] as usize;
            let wanted = |slot| self.law.needs(Part::Flux, slot);
            let (cells, geometry) = (&work.cells[side], &sides.geometry[side]);
            work.loaded[side].load(d.materials, material, cells, geometry, d.time, wanted)?;
            let [m, r] = self.law.sizes(&work.loaded[side].batch.lanes(0));
            (modulus, reaction) = (modulus.max(m), reaction.max(r));
        }
        let block = &d.mesh.blocks[blocks[0]];
        let listed = block.shape.facet_vertices(kind.facets[0] as usize);
        let mut h = [1.0; WIDTH];
        let mut jump = [[Lanes::default(); D]; C];
        let mut x = [[Lanes::default(); D]; D];
        for (l, pair) in pairs.iter().enumerate() {
            let cells = pair.map(|cell| cell as usize);
            h[l] = 0.5 * (self.sizes[blocks[0]][cells[0]] + self.sizes[blocks[1]][cells[1]]);
            let [a, b] = [0, 1].map(|side| &fluxes[blocks[side]][cells[side] * C * D..][..C * D]);
            for (k, jump) in jump.as_flattened_mut().iter_mut().enumerate() {
                jump.as_mut_array()[l] = a[k] - b[k];
            }
            let nodes = block.nodes(cells[0]);
            for (x, &k) in x.iter_mut().zip(listed) {
                let node = &d.mesh.nodes[nodes[k as usize] as usize];
                (0..D).for_each(|a| x[a].as_mut_array()[l] = node[a]);
            }
        }
        // The facet's normal as long as its image's area element; which way it points does not matter.
        let edge = |k: usize, a: usize| x[k][a] - x[0][a];
        let mut normal = [Lanes::splat(1.0); D];
        match D {
            1 => {}
            2 => (normal[0], normal[1]) = (edge(1, 1), -edge(1, 0)),
            _ => {
                for a in 0..3 {
                    let (b, c) = ((a + 1) % 3, (a + 2) % 3);
                    normal[a] = edge(1, b) * edge(2, c) - edge(1, c) * edge(2, b);
                }
            }
        }
        let mut area = Lanes::default();
        normal.iter().for_each(|&n| area = n.mul_add(n, area));
        let mut square = Lanes::default();
        for jump in &jump {
            let mut along = Lanes::default();
            (0..D).for_each(|a| along = jump[a].mul_add(normal[a], along));
            square = along.mul_add(along, square);
        }
        let weight: f64 = sides.weights.iter().sum();
        let scale = (square_of_scale(modulus, reaction, Lanes::new(h)) / (modulus * area)).sqrt();
        let sum = (square * Lanes::splat(self.weights.jumps * weight) * scale).to_array();
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out = sum);
        Ok(())
    }

    /// Computes at most eight facets of one kind.
    fn add_facets<const D: usize, const C: usize>(
        &self,
        work: &mut Work<D, C>,
        kind: &Kind,
        sides: &Sides,
        pairs: &[[u32; 2]],
        out: &mut [f64],
    ) -> Result<(), AssemblyError>
    where
        L: Law<D, C>,
    {
        let d = self.d;
        let blocks = kind.blocks.map(|b| b as usize);
        let affine = blocks.map(|b| d.mesh.blocks[b].is_affine());
        let mut ids = [[0u32; WIDTH]; 2];
        for side in 0..2 {
            pairs.iter().zip(&mut ids[side]).for_each(|(pair, id)| *id = pair[side]);
            work.cells[side].gather(d, blocks[side], &ids[side][..pairs.len()], self.u);
            let material = d.set_material[kind.sets[side] as usize] as usize;
            let wanted = |slot| self.law.needs(Part::Flux, slot);
            let geometry = &sides.geometry[side];
            work.loaded[side].load(d.materials, material, &work.cells[side], geometry, d.time, wanted)?;
        }
        let mut h = [1.0; WIDTH];
        for (l, pair) in pairs.iter().enumerate() {
            let size = |side: usize| self.sizes[blocks[side]][pair[side] as usize];
            h[l] = 0.5 * (size(0) + size(1)) / d.space.degree as f64;
        }
        let h = Lanes::new(h);
        let mut maps = [([[Lanes::default(); D]; D], Lanes::default()); 2];
        let mut sum = Lanes::default();
        for (q, &weight) in sides.weights.iter().enumerate() {
            let mut jump = [[Lanes::default(); D]; C];
            let (mut modulus, mut reaction) = (Lanes::default(), Lanes::default());
            for side in 0..2 {
                let cells = &work.cells[side];
                if q == 0 || !affine[side] {
                    let ids = &ids[side][..pairs.len()];
                    maps[side] = cells.map(d, blocks[side], ids, &sides.geometry[side], q)?;
                }
                let gradient = cells.gradient(&sides.basis[side], q, &maps[side].0);
                let coefficients = work.loaded[side].batch.lanes(q * WIDTH);
                let flux = flux(self.law, &gradient, &coefficients);
                let [m, r] = self.law.sizes(&coefficients);
                (modulus, reaction) = (modulus.max(m), reaction.max(r));
                for c in 0..C {
                    for a in 0..D {
                        if side == 0 {
                            jump[c][a] = flux[c][a];
                        } else {
                            jump[c][a] -= flux[c][a];
                        }
                    }
                }
            }
            // The normal times the area element: det J^-T n.
            let (inverse, determinant) = &maps[0];
            let mut normal = [Lanes::default(); D];
            let mut area = Lanes::default();
            for a in 0..D {
                for k in 0..D {
                    normal[a] = inverse[k][a].mul_add(Lanes::splat(sides.normal[k]), normal[a]);
                }
                normal[a] *= *determinant;
                area = normal[a].mul_add(normal[a], area);
            }
            let mut square = Lanes::default();
            for jump in &jump {
                let mut along = Lanes::default();
                (0..D).for_each(|a| along = jump[a].mul_add(normal[a], along));
                square = along.mul_add(along, square);
            }
            let scale = (square_of_scale(modulus, reaction, h) / (modulus * area)).sqrt();
            sum = Real::mul_add(square * Lanes::splat(weight), scale, sum);
        }
        let sum = sum.to_array();
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out = self.weights.jumps * sum);
        Ok(())
    }
}

/// The flux of eight cells, `[component][axis]`.
#[inline(always)]
fn flux<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    gradient: &[[Lanes; D]; C],
    coefficients: &crate::law::Coefficients<Lanes>,
) -> [[Lanes; D]; C] {
    let mut p = Point::<D, C, Lanes>::default();
    for c in 0..C {
        (0..D).for_each(|a| p.grad[c][a] = gradient[c][a]);
    }
    let mut r = Residual::<D, C, Lanes>::default();
    law.balance(&p, coefficients, &mut r);
    r.f1
}
