//! Derived fields at nodes: gradients, fluxes and stresses, averaged within a region.
//!
//! A node on the interface of two regions has a value for each, so that a stress that jumps there is
//! shown as it is. Averages are weighted by the volume of the cells. The owner of a node, which knows every
//! cell round it, averages and tells the ranks that hold the node as a ghost: those may know some of the
//! cells only. So values do not depend on the partition.

use super::discretisation::{AssemblyError, Discretisation};
use super::functionals::Evaluator;
use crate::element::Quadrature;
use crate::law::{Law, Part, Quantity};

/// Pairs of node and region that the owned cells of a rank use.
pub struct RegionNodes {
    /// Per block: for each owned cell its region nodes, in the element's order.
    pub cell_to_point: Vec<Vec<u32>>,
    /// Per region node: the space's local node.
    pub node: Vec<u32>,
    /// Per region node: its pair.
    pair: Vec<u32>,
    /// All pairs of a local node and a region that any rank knows of: the regions of a node, in the same
    /// order on every rank that holds it.
    regions: Vec<u16>,
    /// Where the pairs of each local node begin.
    offsets: Vec<u32>,
    /// The most regions that meet at a node, on any rank.
    most: usize,
}

/// No region.
const NONE: u16 = u16::MAX;

impl RegionNodes {
    /// Collects the pairs. Collective.
    pub fn new(d: &Discretisation) -> RegionNodes {
        let n_owned = d.space.map.n_owned();
        let n_local = d.space.map.n_local();
        // Owners know all regions at their nodes: the first of each here, the others beside.
        let mut first = vec![NONE; n_local];
        let mut others: Vec<(u32, u16)> = Vec::new();
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            for cell in d.cells_of_owned_nodes(b) {
                let set = block.sets[cell as usize];
                for &v in d.space.nodes(b, cell as usize) {
                    match first.get_mut(v as usize) {
                        Some(_) if v as usize >= n_owned => {}
                        Some(first) if *first == NONE => *first = set,
                        Some(first) if *first != set => others.push((v, set)),
                        _ => {}
                    }
                }
            }
        }
        others.sort_unstable();
        others.dedup();
        let most = others.chunk_by(|a, b| a.0 == b.0).map(|run| run.len() as u64).max().unwrap_or(0);
        let most = 1 + d.mesh.comm.max(most) as usize;
        // `[local node][k]`: the k-th region of a node.
        let mut table = vec![NONE; n_local * most];
        for (row, &set) in table.chunks_exact_mut(most).zip(&first) {
            row[0] = set;
        }
        for run in others.chunk_by(|a, b| a.0 == b.0) {
            for (k, &(v, set)) in run.iter().enumerate() {
                table[v as usize * most + 1 + k] = set;
            }
        }
        d.space.halo.forward(&mut table, most);
        let mut made = RegionNodes {
            cell_to_point: Vec::new(),
            node: Vec::new(),
            pair: Vec::new(),
            regions: Vec::with_capacity(n_local),
            offsets: vec![0],
            most,
        };
        for row in table.chunks_exact(most) {
            made.regions.extend(row.iter().filter(|&&set| set != NONE));
            made.offsets.push(made.regions.len() as u32);
        }
        let mut point = vec![u32::MAX; made.regions.len()];
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let n = d.space.elements[b].n_nodes();
            let mut table = Vec::with_capacity(block.n_owned * n);
            for cell in 0..block.n_owned {
                for &v in d.space.nodes(b, cell) {
                    let pair = made.find(v, block.sets[cell]);
                    let next = made.node.len() as u32;
                    let slot = &mut point[pair];
                    if *slot == u32::MAX {
                        *slot = next;
                        made.node.push(v);
                        made.pair.push(pair as u32);
                    }
                    table.push(*slot);
                }
            }
            made.cell_to_point.push(table);
        }
        made
    }

    /// The pair of a node and a region that meets it.
    fn find(&self, node: u32, set: u16) -> usize {
        let (begin, end) = (self.offsets[node as usize] as usize, self.offsets[node as usize + 1] as usize);
        let k = self.regions[begin..end].iter().position(|&s| s == set);
        begin + k.expect("the owner of a node knows the region of every cell round it")
    }

    /// Gives the pairs of ghosts the values of their owners: `width` values a pair. Collective.
    fn forward(&self, d: &Discretisation, values: &mut [f64], width: usize) {
        let n_owned = d.space.map.n_owned();
        let n_local = d.space.map.n_local();
        if d.mesh.comm.size() == 1 {
            return;
        }
        let mut buffer = vec![0.0; n_local * width];
        for k in 0..self.most {
            let has = |v: usize| self.offsets[v] as usize + k < self.offsets[v + 1] as usize;
            for v in (0..n_owned).filter(|&v| has(v)) {
                let pair = self.offsets[v] as usize + k;
                buffer[v * width..][..width].copy_from_slice(&values[pair * width..][..width]);
            }
            d.space.halo.forward(&mut buffer, width);
            for v in (n_owned..n_local).filter(|&v| has(v)) {
                let pair = self.offsets[v] as usize + k;
                values[pair * width..][..width].copy_from_slice(&buffer[v * width..][..width]);
            }
        }
    }
}

/// Values of one quantity at region nodes.
pub struct Nodal {
    /// Values a node.
    pub width: usize,
    /// `[region node][value]`.
    pub values: Vec<f64>,
}

/// Averages a quantity at region nodes; see the module. Collective.
///
/// # Errors
/// A coefficient that is not a number at a node, the same error on every rank.
pub(super) fn average<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantity: Quantity,
    width: usize,
    u: &[f64],
) -> Result<Nodal, AssemblyError> {
    if quantity == Quantity::Solution {
        let mut values = vec![0.0; points.node.len() * width];
        for (value, &v) in values.chunks_exact_mut(width).zip(&points.node) {
            value.copy_from_slice(&u[v as usize * C..][..C]);
        }
        return Ok(Nodal { width, values });
    }
    if quantity == Quantity::VonMises {
        // Of the averaged stress, so that the file's fields agree with each other.
        let stress = average(law, d, points, Quantity::Stress, 6, u)?;
        let values = stress.values.chunks_exact(6);
        let values = values.map(|s| crate::law::von_mises(s.try_into().expect("six values"))).collect();
        return Ok(Nodal { width, values });
    }
    let mut sums = vec![0.0; points.regions.len() * width];
    let averaged = average_owned::<L, D, C>(law, d, points, quantity, width, u, &mut sums);
    d.mesh.comm.agree(averaged)?;
    points.forward(d, &mut sums, width);
    let mut values = Vec::with_capacity(points.node.len() * width);
    for &pair in &points.pair {
        values.extend_from_slice(&sums[pair as usize * width..][..width]);
    }
    Ok(Nodal { width, values })
}

/// Averages at the pairs of owned nodes, from all cells round them.
fn average_owned<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantity: Quantity,
    width: usize,
    u: &[f64],
    values: &mut [f64],
) -> Result<(), AssemblyError> {
    let n_owned = d.space.map.n_owned() as u32;
    let mut weights = vec![0.0; points.regions.len()];
    let mut out = Vec::new();
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let element = &d.space.elements[b];
        let mut at_nodes = Evaluator::new(d, b, element.nodes(), vec![0.0; element.n_nodes()], 1);
        let rule = Quadrature::new(block.shape, 1).expect("a rule of degree 1 exists");
        let mut inside = Evaluator::new(d, b, &rule.points, rule.weights, 1);
        // Gradients of degree 1 on straight simplices are constant, and so is what constant coefficients
        // make of them: one point does for all nodes.
        let uniform = block.is_affine() && d.space.degree == 1;
        for cell in d.cells_of_owned_nodes(b) {
            let set = block.sets[cell as usize];
            let constant =
                uniform && d.is_constant(b, cell as usize, |slot| law.needs(Part::Quantities, slot));
            let volume: f64 = if constant {
                inside.evaluate::<L, D, C>(law, d, cell as usize, quantity, width, u, &mut out)?;
                inside.weights().iter().sum()
            } else {
                inside.map::<D>(d, cell as usize)?;
                let volume = inside.weights().iter().sum();
                at_nodes.evaluate::<L, D, C>(law, d, cell as usize, quantity, width, u, &mut out)?;
                volume
            };
            for (k, &v) in d.space.nodes(b, cell as usize).iter().enumerate() {
                if v < n_owned {
                    let pair = points.find(v, set);
                    weights[pair] += volume;
                    let from = if constant { 0 } else { k * width };
                    for c in 0..width {
                        values[pair * width + c] += volume * out[from + c];
                    }
                }
            }
        }
    }
    for (value, weight) in values.chunks_exact_mut(width).zip(weights) {
        if weight > 0.0 {
            value.iter_mut().for_each(|v| *v /= weight);
        }
    }
    Ok(())
}
