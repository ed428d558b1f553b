//! Estimates by recovery: how far the gradient is from a smoother one fitted to it.
//!
//! Round each vertex, within each region, a polynomial of the space's degree is fitted to the gradient at
//! points where it is most accurate; the fits of a cell's vertices are blended by its hat functions. Regions
//! are kept apart, so a gradient that jumps at an interface is no error. The owner of a vertex knows every
//! cell round it, fits, and tells the ranks that hold the vertex as a ghost. Start at [`indicators`].
//!
//! Source: O. Zienkiewicz, J. Zhu, The superconvergent patch recovery, Int. J. Numer. Methods Engrg. 33
//! (1992). Where a patch has too few points for a fit, as in corners, the polynomials of the cell's other
//! vertices are extended.

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation, Rules};
use super::lanes::Gathered;
use super::regions::RegionNodes;
use super::residuals::Loaded;
use super::sampler::by_material;
use crate::element::{GeometryKind, Table};
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Part, Point, Residual};
use crate::mesh::{Block, Mesh, geometry};
use crate::space::{Order, Space};

/// Cells or pairs that a task takes: fixed, so that nothing depends on the number of threads.
const PER_TASK: usize = 1 << 9;

/// The most monomials of a fit: degree 4 in three dimensions.
const MOST: usize = 35;

/// Exponents of the monomials up to a degree.
fn monomials(dim: usize, degree: usize) -> Vec<[u8; 3]> {
    let top = |axis: usize| if axis < dim { degree } else { 0 };
    let mut all = Vec::new();
    for total in 0..=degree {
        for k in 0..=top(2).min(total) {
            for j in 0..=top(1).min(total - k) {
                let i = total - j - k;
                if i <= top(0) {
                    all.push([i as u8, j as u8, k as u8]);
                }
            }
        }
    }
    all
}

/// The monomials at a point.
#[inline]
fn powers(monomials: &[[u8; 3]], at: &[f64; 3], out: &mut [f64]) {
    let mut table = [[1.0; 5]; 3];
    for d in 0..3 {
        for k in 1..5 {
            table[d][k] = table[d][k - 1] * at[d];
        }
    }
    for (out, e) in out.iter_mut().zip(monomials) {
        *out = table[0][e[0] as usize] * table[1][e[1] as usize] * table[2][e[2] as usize];
    }
}

/// Places and gradients at the points of every local cell where the gradient is most accurate.
struct Samples {
    /// Per block: points of a cell.
    n_points: Vec<usize>,
    /// Per block, `[cell][point][D places, then D C slopes]`.
    values: Vec<Vec<f64>>,
}

/// Fitted polynomials by pair of vertex and region.
struct Fits {
    monomials: Vec<[u8; 3]>,
    /// Entries a pair: the coefficients `[slope][monomial]`, the length that places are divided by, and 1
    /// where there were points enough.
    width: usize,
    values: Vec<f64>,
}

/// Squares of the energy norm of the difference between recovered and discrete gradient, per owned cell,
/// block after block. Collective, and so is its error.
///
/// # Errors
/// A coefficient that is not a number, a cell turned inside out.
pub(super) fn indicators<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    u: &[f64],
) -> Result<Vec<f64>, AssemblyError> {
    let _span = tracing::debug_span!("recovery").entered();
    let comm = &d.mesh.comm;
    let corners = Space::new(d.mesh, 1, Order::Curve).expect("elements of degree 1 exist");
    let at_corners =
        Discretisation::new(d.mesh, &corners, d.materials, d.set_material, L::TERMS, false, false, d.time);
    let points = RegionNodes::new(&at_corners);
    let samples = comm.agree(sample::<D, C>(d, u))?;
    let places = Corners::new(d.mesh, &corners);
    let mut fits = fit::<D, C>(&at_corners, &places, &points, &samples, d.space.degree);
    drop(samples);
    points.forward(&at_corners, &mut fits.values, fits.width);
    let mut out = vec![0.0; d.mesh.n_owned_cells()];
    let compared = compare::<L, D, C>(law, d, &places, &points, &fits, u, &mut out);
    comm.agree(compared)?;
    Ok(out)
}

/// Evaluates gradients at the sampling points: Gauss points, one a direction and degree.
fn sample<const D: usize, const C: usize>(d: &Discretisation, u: &[f64]) -> Result<Samples, AssemblyError> {
    let mut samples = Samples { n_points: Vec::new(), values: Vec::new() };
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree - 2, 1);
        let n = rules.rule.len();
        let width = n * (D + D * C);
        let mut values = vec![0.0; block.n_cells * width];
        let of_task = |cells: &mut Gathered<D, C>, (task, out): (usize, &mut [f64])| {
            let _span = tracing::trace_span!("task").entered();
            for (g, out) in out.chunks_mut(WIDTH * width).enumerate() {
                let n_lanes = out.len() / width;
                let mut ids = [0u32; WIDTH];
                (0..n_lanes).for_each(|l| ids[l] = (task * PER_TASK + g * WIDTH + l) as u32);
                cells.gather(d, b, &ids[..n_lanes], u);
                for q in 0..n {
                    let (inverse, _) = cells.map(d, b, &ids[..n_lanes], &rules.geometry, q)?;
                    let at = cells.image(&rules.geometry, q);
                    let gradient = cells.gradient(&rules.basis, q, &inverse);
                    for l in 0..n_lanes {
                        let row = &mut out[l * width + q * (D + D * C)..][..D + D * C];
                        (0..D).for_each(|k| row[k] = at[k].as_array()[l]);
                        for (out, slope) in row[D..].iter_mut().zip(gradient.as_flattened()) {
                            *out = slope.as_array()[l];
                        }
                    }
                }
            }
            Ok(())
        };
        let tasks = values.par_chunks_mut((PER_TASK * width).max(1)).enumerate();
        let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Gathered::default, of_task).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        samples.n_points.push(n);
        samples.values.push(values);
    }
    Ok(samples)
}

/// Children of a tensor cell, at most.
const CHILDREN: usize = 8;

/// Where the vertices are by which a cell is known to the space of degree 1.
struct Corners<'a> {
    mesh: &'a Mesh,
    space: &'a Space,
    /// By block and child: the geometry's basis where the parent's vertices lie, outside of the child.
    parents: Vec<[Option<Table>; CHILDREN]>,
}

impl<'a> Corners<'a> {
    fn new(mesh: &'a Mesh, space: &'a Space) -> Corners<'a> {
        let of_block = |(b, block): (usize, &Block)| {
            let mut tables: [Option<Table>; CHILDREN] = Default::default();
            for cell in 0..block.n_cells {
                if let (Some((hang, _)), Some(hanging)) = (block.hang(cell), space.interpolation(b, cell)) {
                    tables[hang.child()]
                        .get_or_insert_with(|| geometry::basis(block).tabulate(hanging.places(), 0));
                }
            }
            tables
        };
        Corners { mesh, space, parents: mesh.blocks.iter().enumerate().map(of_block).collect() }
    }

    /// The `k`-th of them as the cell has it, for across a period that is elsewhere. Where the cell hangs it may be the
    /// parent's.
    fn at(&self, b: usize, cell: usize, k: usize) -> [f64; 3] {
        let block = &self.mesh.blocks[b];
        let nodes = block.nodes(cell);
        match (block.hang(cell), self.space.interpolation(b, cell)) {
            (Some((hang, _)), Some(hanging)) if hanging.is_parents(k) => {
                let table =
                    self.parents[b][hang.child()].as_ref().expect("tabulated for every child that hangs");
                let mut at = [0.0; 3];
                for (&node, value) in nodes.iter().zip(table.values_at(k)) {
                    (0..3).for_each(|a| at[a] += value * self.mesh.nodes[node as usize][a]);
                }
                at
            }
            _ => self.mesh.nodes[nodes[k] as usize],
        }
    }
}

/// The cells round each pair of an owned vertex and a region: (block, cell, vertex within the cell).
struct Patches {
    begin: Vec<u32>,
    cells: Vec<(u16, u32, u8)>,
}

impl Patches {
    fn new(corners: &Discretisation, points: &RegionNodes) -> Patches {
        let n_owned = corners.space.map.n_owned();
        let n_pairs = points.first_pair(n_owned);
        let mut begin = vec![0u32; n_pairs + 1];
        let each = |visit: &mut dyn FnMut(usize, (u16, u32, u8))| {
            for (b, block) in corners.mesh.blocks.iter().enumerate() {
                for cell in 0..block.n_cells {
                    for (k, &v) in corners.space.nodes(b, cell).iter().enumerate() {
                        if (v as usize) < n_owned {
                            visit(points.pair(v, block.sets[cell]), (b as u16, cell as u32, k as u8));
                        }
                    }
                }
            }
        };
        each(&mut |pair, _| begin[pair + 1] += 1);
        for pair in 0..n_pairs {
            begin[pair + 1] += begin[pair];
        }
        let mut next = begin.clone();
        let mut cells = vec![(0, 0, 0); begin[n_pairs] as usize];
        each(&mut |pair, cell| {
            cells[next[pair] as usize] = cell;
            next[pair] += 1;
        });
        Patches { begin, cells }
    }
}

/// Fits polynomials at the pairs of owned vertices.
fn fit<const D: usize, const C: usize>(
    corners: &Discretisation,
    places: &Corners,
    points: &RegionNodes,
    samples: &Samples,
    degree: usize,
) -> Fits {
    let monomials = monomials(D, degree);
    let width = monomials.len() * D * C + 2;
    let mut values = vec![0.0; points.n_pairs() * width];
    let patches = Patches::new(corners, points);
    let n_pairs = patches.begin.len() - 1;
    let tasks = values[..n_pairs * width].par_chunks_mut(PER_TASK * width).enumerate();
    tasks.for_each_init(Vec::new, |rows: &mut Vec<f64>, (task, out)| {
        let _span = tracing::trace_span!("task").entered();
        for (k, out) in out.chunks_exact_mut(width).enumerate() {
            let pair = task * PER_TASK + k;
            let cells = &patches.cells[patches.begin[pair] as usize..patches.begin[pair + 1] as usize];
            fit_one::<D, C>(places, samples, &monomials, cells, rows, out);
        }
    });
    Fits { monomials, width, values }
}

/// Fits one pair's polynomial by least squares: orthogonalises the monomials one after the other (modified
/// Gram and Schmidt, the slopes with them), leaving out those that depend on the ones before.
fn fit_one<const D: usize, const C: usize>(
    places: &Corners,
    samples: &Samples,
    monomials: &[[u8; 3]],
    cells: &[(u16, u32, u8)],
    rows: &mut Vec<f64>,
    out: &mut [f64],
) {
    let n = monomials.len();
    let stride = n + D * C;
    rows.clear();
    let mut length = 0.0f64;
    let each = |visit: &mut dyn FnMut([f64; 3], &[f64])| {
        for &(b, cell, k) in cells {
            let (b, cell) = (b as usize, cell as usize);
            let origin = places.at(b, cell, k as usize);
            let width = samples.n_points[b] * (D + D * C);
            for from in samples.values[b][cell * width..][..width].chunks_exact(D + D * C) {
                let relative = [0, 1, 2].map(|a| if a < D { from[a] - origin[a] } else { 0.0 });
                visit(relative, &from[D..]);
            }
        }
    };
    each(&mut |at, _| length = at.iter().fold(length, |m, x| m.max(x.abs())));
    each(&mut |at, slopes| {
        let first = rows.len();
        rows.resize(first + n, 0.0);
        powers(monomials, &at.map(|x| x / length), &mut rows[first..]);
        rows.extend_from_slice(slopes);
    });
    let n_points = rows.len() / stride;
    let mut triangle = [[0.0; MOST]; MOST];
    let mut slopes = [[0.0; 9]; MOST];
    let mut kept = [false; MOST];
    for k in 0..n {
        let square = |rows: &[f64]| rows.chunks_exact(stride).map(|r| r[k] * r[k]).sum::<f64>();
        let norm = square(rows).sqrt();
        let before: f64 = norm.hypot((0..k).map(|j| triangle[j][k] * triangle[j][k]).sum::<f64>().sqrt());
        if norm.is_nan() || norm <= 1e-7 * before || norm == 0.0 {
            continue;
        }
        kept[k] = true;
        triangle[k][k] = norm;
        rows.chunks_exact_mut(stride).for_each(|r| r[k] /= norm);
        for j in k + 1..stride {
            let product = rows.chunks_exact(stride).map(|r| r[k] * r[j]).sum::<f64>();
            rows.chunks_exact_mut(stride).for_each(|r| r[j] -= product * r[k]);
            match j.checked_sub(n) {
                None => triangle[k][j] = product,
                Some(slope) => slopes[k][slope] = product,
            }
        }
    }
    for k in (0..n).rev().filter(|&k| kept[k]) {
        for s in 0..D * C {
            let later: f64 = (k + 1..n).map(|j| triangle[k][j] * out[s * n + j]).sum();
            out[s * n + k] = (slopes[k][s] - later) / triangle[k][k];
        }
    }
    let enough = n_points > n || (D == 1 && n_points == n);
    out[D * C * n] = length;
    out[D * C * n + 1] = f64::from(u8::from(enough && kept[..n].iter().all(|&k| k)));
}

/// The buffers of a thread.
#[derive(Default)]
struct Work<const D: usize, const C: usize> {
    cells: Gathered<D, C>,
    loaded: Loaded,
    /// Hat functions at a point, those of the parent's vertices where a cell hangs.
    hats: Vec<f64>,
    scratch: Vec<f64>,
}

/// What the cells of a block are compared with.
struct Compared<'a> {
    b: usize,
    rules: Rules,
    hats: Table,
    corners: &'a Corners<'a>,
    points: &'a RegionNodes,
    fits: &'a Fits,
}

/// Integrates the energy of the difference over owned cells.
fn compare<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    corners: &Corners,
    points: &RegionNodes,
    fits: &Fits,
    u: &[f64],
    out: &mut [f64],
) -> Result<(), AssemblyError> {
    let mut rest = out;
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let (mine, others) = rest.split_at_mut(block.n_owned);
        rest = others;
        let curved = usize::from(block.geometry != GeometryKind::Linear) * 2;
        let rules = Rules::new(d.mesh, d.space, b, 2 * d.space.degree + curved, 1);
        let hats = GeometryKind::Linear.basis(block.shape).tabulate(&rules.rule.points, 0);
        let with = Compared { b, rules, hats, corners, points, fits };
        let of_task = |work: &mut Work<D, C>, (task, out): (usize, &mut [f64])| {
            let _span = tracing::trace_span!("task").entered();
            let first = task * PER_TASK;
            by_material(d, b, first..first + out.len(), |at, ids| {
                cells::<L, D, C>(law, d, &with, work, ids, u, &mut out[at..at + ids.len()])
            })
        };
        let tasks = mine.par_chunks_mut(PER_TASK).enumerate();
        let results: Vec<Result<(), AssemblyError>> = tasks.map_init(Work::default, of_task).collect();
        results.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// The difference's energy on at most eight cells of one material.
fn cells<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    with: &Compared,
    work: &mut Work<D, C>,
    ids: &[u32],
    u: &[f64],
    out: &mut [f64],
) -> Result<(), AssemblyError> {
    let (b, rules) = (with.b, &with.rules);
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
        let gradient = work.cells.gradient(&rules.basis, q, &map.0);
        let at = work.cells.image(&rules.geometry, q);
        let mut recovered = [[Lanes::default(); D]; C];
        for (lane, &cell) in ids.iter().enumerate() {
            let mut place = [0.0; 3];
            (0..D).for_each(|k| place[k] = at[k].as_array()[lane]);
            work.hats.clear();
            work.hats.extend_from_slice(with.hats.values_at(q));
            if let Some(hanging) = with.corners.space.interpolation(b, cell as usize) {
                hanging.scatter(&mut work.hats, 1, &mut work.scratch);
            }
            blend::<D, C>(d, with, cell as usize, &work.hats, &place, lane, &mut recovered);
        }
        let mut p = Point::<D, C, Lanes>::default();
        for c in 0..C {
            (0..D).for_each(|a| p.grad[c][a] = recovered[c][a] - gradient[c][a]);
        }
        let coefficients = work.loaded.batch.lanes(q * WIDTH);
        let (mut one, mut none) = (Residual::<D, C, Lanes>::default(), Residual::default());
        law.balance(&p, &coefficients, &mut one);
        law.balance(&Point::default(), &coefficients, &mut none);
        let mut density = Lanes::default();
        for c in 0..C {
            (0..D).for_each(|a| density += (one.f1[c][a] - none.f1[c][a]) * p.grad[c][a]);
        }
        sum += density * Lanes::splat(weight) * map.1;
    }
    out.iter_mut().zip(sum.to_array()).for_each(|(out, sum)| *out = sum.max(0.0));
    Ok(())
}

/// The recovered gradient of one cell at a point: its vertices' polynomials, blended.
fn blend<const D: usize, const C: usize>(
    d: &Discretisation,
    with: &Compared,
    cell: usize,
    hats: &[f64],
    place: &[f64; 3],
    lane: usize,
    out: &mut [[Lanes; D]; C],
) {
    let block = &d.mesh.blocks[with.b];
    let fits = with.fits;
    let n = fits.monomials.len();
    let set = block.sets[cell];
    let of = |&v: &u32| &fits.values[with.points.pair(v, set) * fits.width..][..fits.width];
    let vertices = with.corners.space.nodes(with.b, cell);
    // What vertices without a fit of their own would have goes to the others in equal parts.
    let good = |fit: &[f64]| fit[D * C * n + 1] > 0.5;
    let n_good = vertices.iter().filter(|&v| good(of(v))).count();
    let missing: f64 =
        vertices.iter().zip(hats).filter(|(v, _)| !good(of(v))).map(|(_, hat)| hat).sum::<f64>();
    let mut powers_here = [0.0; MOST];
    for (k, (v, hat)) in vertices.iter().zip(hats).enumerate() {
        let fit = of(v);
        let weight = match n_good {
            0 => *hat,
            _ if !good(fit) => continue,
            _ => hat + missing / n_good as f64,
        };
        let origin = with.corners.at(with.b, cell, k);
        let length = fit[D * C * n];
        let at = [0, 1, 2].map(|a| if a < D { (place[a] - origin[a]) / length } else { 0.0 });
        powers(&fits.monomials, &at, &mut powers_here);
        for c in 0..C {
            for a in 0..D {
                let coefficients = &fit[(c * D + a) * n..][..n];
                let value: f64 = coefficients.iter().zip(&powers_here).map(|(x, y)| x * y).sum();
                out[c][a].as_mut_array()[lane] += weight * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monomials_are_all_and_once() {
        for dim in 1..=3 {
            for degree in 1..=4 {
                let all = monomials(dim, degree);
                let expected = (1..=dim).fold(1, |n, k| n * (degree + k) / k);
                assert_eq!(all.len(), expected, "{dim} {degree}");
                let mut sorted = all.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), expected);
                assert!(all.iter().all(|e| e.iter().map(|&k| k as usize).sum::<usize>() <= degree));
                assert!(all.len() <= MOST);
            }
        }
        let mut out = [0.0; 4];
        powers(&[[2, 1, 0], [0, 0, 3], [4, 0, 0], [0, 0, 0]], &[2.0, 3.0, 5.0], &mut out);
        assert_eq!(out, [12.0, 125.0, 16.0, 1.0]);
    }
}
