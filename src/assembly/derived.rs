//! Derived fields at nodes: gradients, fluxes and stresses, averaged within a region.
//!
//! Averages are weighted by the volume of the cells. The owner of a node, which knows every cell round
//! it, averages and tells the ranks that hold the node as a ghost: those may know some of the cells only.
//! So values do not depend on the partition. Start at [`average`].

use std::collections::HashMap;

use rayon::prelude::*;

use super::discretisation::{AssemblyError, Discretisation};
use super::regions::RegionNodes;
use super::sampler::Sampler;
use crate::element::Quadrature;
use crate::law::lanes::WIDTH;
use crate::law::{Law, Part, Quantity};
use crate::mesh::geometry;

/// Averages of quantities at region nodes.
pub struct Nodal {
    /// Each quantity, where its values begin in a row, and how many they are.
    columns: Vec<(Quantity, usize, usize)>,
    /// Entries a row.
    stride: usize,
    /// `[pair][quantity][value]`.
    values: Vec<f64>,
}

impl Nodal {
    /// A quantity's values: a table of rows by pair, the entries a row, and which of them are the
    /// quantity's. `None` when it is not among those averaged.
    pub fn rows(&self, quantity: Quantity) -> Option<(&[f64], usize, std::ops::Range<usize>)> {
        let column = self.columns.iter().find(|c| c.0 == quantity)?;
        Some((&self.values, self.stride, column.1..column.1 + column.2))
    }
}

/// Cells that a thread takes or leaves as a whole, by the nodes they touch.
const CELLS_PER_SPAN: usize = 1 << 10;

/// The owned nodes that cells touch: from the least to past the greatest.
struct Span {
    block: usize,
    cells: std::ops::Range<u32>,
    nodes: std::ops::Range<u32>,
}

/// Averages quantities at region nodes, all in one pass over the cells; see the module. Collective.
///
/// Bound by reading nodes and scattering: eight cells are computed at once. Each thread adds to a range
/// of nodes of its own, cell after cell, so sums are the same for any number of threads.
///
/// # Errors
/// A coefficient that is not a number at a node, the same error on every rank.
pub(super) fn average<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantities: &[(Quantity, usize)],
    u: &[f64],
) -> Result<Nodal, AssemblyError> {
    let _span = tracing::debug_span!("averages").entered();
    let mut columns = Vec::new();
    let mut width = 0;
    for &(quantity, n) in quantities {
        columns.push((quantity, width, n));
        width += n;
    }
    // The last entry of a row holds the weight.
    let stride = width + 1;
    let mut values = vec![0.0; points.n_pairs() * stride];
    let averaged = average_owned::<L, D, C>(law, d, points, quantities, u, &mut values, stride);
    d.mesh.comm.agree(averaged)?;
    points.forward(d, &mut values, stride);
    Ok(Nodal { columns, stride, values })
}

/// Averages at the pairs of owned nodes, from all cells round them.
fn average_owned<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantities: &[(Quantity, usize)],
    u: &[f64],
    values: &mut [f64],
    stride: usize,
) -> Result<(), AssemblyError> {
    let n_owned = d.space.map.n_owned();
    let n_ranges = rayon::current_num_threads().clamp(1, n_owned.max(1));
    let spans = spans(d, n_ranges > 1);
    let mut ranges = Vec::new();
    let mut rest = values;
    for k in 0..n_ranges {
        let (begin, end) = (k * n_owned / n_ranges, (k + 1) * n_owned / n_ranges);
        let n_pairs = points.first_pair(end) - points.first_pair(begin);
        let (mine, others) = rest.split_at_mut(n_pairs * stride);
        rest = others;
        ranges.push((begin as u32..end as u32, mine));
    }
    let results: Vec<Result<(), AssemblyError>> = ranges
        .into_par_iter()
        .map(|(nodes, sums)| {
            let _span = tracing::trace_span!("rows").entered();
            average_range::<L, D, C>(law, d, points, quantities, u, &spans, nodes, sums, stride)
        })
        .collect();
    results.into_iter().collect()
}

/// Cells of all blocks in stretches. With one thread, `by_nodes` false, all of them matter.
fn spans(d: &Discretisation, by_nodes: bool) -> Vec<Span> {
    let n_owned = d.space.map.n_owned() as u32;
    let mut stretches = Vec::new();
    for (block, b) in d.mesh.blocks.iter().enumerate() {
        for begin in (0..b.n_cells).step_by(CELLS_PER_SPAN) {
            stretches.push((block, begin as u32..(begin + CELLS_PER_SPAN).min(b.n_cells) as u32));
        }
    }
    let span = |(block, cells): (usize, std::ops::Range<u32>)| {
        let mut nodes = 0..n_owned;
        if by_nodes {
            let n = d.space.elements[block].n_nodes();
            let touched = &d.space.cell_to_node[block][cells.start as usize * n..cells.end as usize * n];
            let owned = touched.iter().filter(|&&v| v < n_owned);
            let (first, end) = owned.fold((u32::MAX, 0), |(first, end), &v| (first.min(v), end.max(v + 1)));
            nodes = first..end;
        }
        Span { block, cells, nodes }
    };
    stretches.into_par_iter().map(span).collect()
}

/// Averages at the pairs of a range of owned nodes.
fn average_range<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantities: &[(Quantity, usize)],
    u: &[f64],
    spans: &[Span],
    nodes: std::ops::Range<u32>,
    sums: &mut [f64],
    stride: usize,
) -> Result<(), AssemblyError> {
    let first_pair = points.first_pair(nodes.start as usize);
    let mut cells = Vec::with_capacity(CELLS_PER_SPAN);
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let element = &d.space.elements[b];
        let rule = Quadrature::new(block.shape, 1).expect("a rule of degree 1 exists");
        let mut at_nodes = Sampler::<L, D, C>::new(law, d, b, element.nodes(), quantities);
        let mut inside = Sampler::<L, D, C>::new(law, d, b, &rule.points, quantities);
        let mut volumes = Volumes::new(d, b, &rule);
        // Gradients of degree 1 on straight simplices are constant, and so is what constant coefficients
        // make of them: one point does for all nodes.
        let uniform = block.is_affine() && d.space.degree == 1 && rule.len() == 1;
        let mine = |s: &&Span| s.block == b && s.nodes.start < nodes.end && nodes.start < s.nodes.end;
        for span in spans.iter().filter(mine) {
            cells.clear();
            cells.extend(span.cells.clone());
            let mut begin = 0;
            while begin < cells.len() {
                let end = begin + Sampler::<L, D, C>::run(d, b, &cells[begin..]);
                let group = &cells[begin..end];
                begin = end;
                let wanted = |slot| law.needs(Part::Quantities, slot);
                let constant = uniform && d.is_constant(b, group[0] as usize, wanted);
                let weights = if constant {
                    inside.evaluate(group, u)?;
                    inside.determinant(0).map(|det| det * rule.weights[0])
                } else {
                    at_nodes.evaluate(group, u)?;
                    volumes.of(d, b, group)
                };
                for (lane, &cell) in group.iter().enumerate() {
                    let weight = weights[lane];
                    let set = block.sets[cell as usize];
                    let hanging = d.space.interpolation(b, cell as usize);
                    for (k, &v) in d.space.nodes(b, cell as usize).iter().enumerate() {
                        if !nodes.contains(&v) || hanging.is_some_and(|c| c.is_parents(k)) {
                            continue;
                        }
                        let from = if constant { inside.values(0, lane) } else { at_nodes.values(k, lane) };
                        let row = &mut sums[(points.pair(v, set) - first_pair) * stride..][..stride];
                        row.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * value);
                        row[stride - 1] += weight;
                    }
                }
            }
        }
    }
    if d.mesh.may_hang() {
        add_from_hanging::<L, D, C>(law, d, points, quantities, u, spans, nodes, sums, stride)?;
    }
    for row in sums.chunks_exact_mut(stride) {
        let (weight, row) = row.split_last_mut().expect("a row has its weight");
        if *weight > 0.0 {
            row.iter_mut().for_each(|v| *v /= *weight);
        }
    }
    Ok(())
}

/// Adds at the pairs that have no value yet: nodes on what hangs, in a region that ends at the coarser cell's
/// face. There the polynomials of the cells that hang are continued to the node, which lies in their parents.
fn add_from_hanging<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantities: &[(Quantity, usize)],
    u: &[f64],
    spans: &[Span],
    nodes: std::ops::Range<u32>,
    sums: &mut [f64],
    stride: usize,
) -> Result<(), AssemblyError> {
    let first_pair = points.first_pair(nodes.start as usize);
    let lacking: Vec<bool> = sums.chunks_exact(stride).map(|row| row[stride - 1] == 0.0).collect();
    let mut samplers: HashMap<(usize, usize), Sampler<L, D, C>> = HashMap::new();
    for span in spans.iter().filter(|s| d.space.may_hang(s.block)) {
        let (b, block) = (span.block, &d.mesh.blocks[span.block]);
        for cell in span.cells.clone() {
            let Some(hanging) = d.space.interpolation(b, cell as usize) else { continue };
            let (of_cell, set) = (d.space.nodes(b, cell as usize), block.sets[cell as usize]);
            let row_of = |k: usize| {
                let here = nodes.contains(&of_cell[k]);
                here.then(|| points.pair(of_cell[k], set) - first_pair).filter(|&row| lacking[row])
            };
            if hanging.parents().all(|k| row_of(k).is_none()) {
                continue;
            }
            let child = block.hang(cell as usize).map_or(0, |h| h.0.child());
            let sampler = samplers.entry((b, child)).or_insert_with(|| {
                let places: Vec<[f64; 3]> = (0..of_cell.len()).map(|k| hanging.place(k)).collect();
                Sampler::new(law, d, b, &places, quantities)
            });
            sampler.evaluate(&[cell], u)?;
            for (k, row) in hanging.parents().filter_map(|k| Some((k, row_of(k)?))) {
                let row = &mut sums[row * stride..][..stride];
                row.iter_mut().zip(sampler.values(k, 0)).for_each(|(sum, value)| *sum += value);
                row[stride - 1] += 1.0;
            }
        }
    }
    Ok(())
}

/// Volumes of cells that are not affine.
struct Volumes<'a> {
    rule: &'a Quadrature,
    table: crate::element::Table,
    x: Vec<[f64; 3]>,
}

impl<'a> Volumes<'a> {
    fn new(d: &Discretisation, block: usize, rule: &'a Quadrature) -> Self {
        let table = geometry::basis(&d.mesh.blocks[block]).tabulate(&rule.points, 1);
        Volumes { rule, table, x: Vec::new() }
    }

    fn of(&mut self, d: &Discretisation, b: usize, cells: &[u32]) -> [f64; WIDTH] {
        let mut volumes = [0.0; WIDTH];
        for (volume, &cell) in volumes.iter_mut().zip(cells) {
            self.x.clear();
            d.mesh.cell_coordinates(&d.mesh.blocks[b], cell as usize, &mut self.x);
            for (q, weight) in self.rule.weights.iter().enumerate() {
                let j = geometry::jacobian(&self.table, q, &self.x);
                *volume += weight * geometry::determinant(&j, d.mesh.dim);
            }
        }
        volumes
    }
}
