//! Derived fields at nodes: gradients, fluxes and stresses, averaged within a region.
//!
//! A node on the interface of two regions has a value for each, so that a stress that jumps there is
//! shown as it is. Averages are weighted by the volume of the cells; every cell round a node is known on
//! each rank that draws it, so values do not depend on the partition.

use std::collections::HashMap;

use super::discretisation::{AssemblyError, Discretisation};
use super::functionals::Evaluator;
use super::kernel::Inverted;
use crate::element::Quadrature;
use crate::law::{Law, Part, Quantity};

/// Pairs of node and region that the owned cells of a rank use.
pub struct RegionNodes {
    /// Per block: for each owned cell its region nodes, in the element's order.
    pub cell_to_point: Vec<Vec<u32>>,
    /// Per region node: the space's local node.
    pub node: Vec<u32>,
    index: HashMap<(u32, u16), u32>,
    /// Where no node has two regions: region node by local node, instead of `index`.
    single: Option<(u16, Vec<u32>)>,
}

impl RegionNodes {
    /// Collects the pairs. Not collective.
    pub fn new(d: &Discretisation) -> RegionNodes {
        let mut made =
            RegionNodes { cell_to_point: Vec::new(), node: Vec::new(), index: HashMap::new(), single: None };
        let mut sets = d.mesh.blocks.iter().flat_map(|b| &b.sets);
        if let Some(&first) = sets.next()
            && sets.all(|&s| s == first)
        {
            made.single = Some((first, vec![u32::MAX; d.space.map.n_local()]));
        }
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let n = d.space.elements[b].n_nodes();
            let mut table = Vec::with_capacity(block.n_owned * n);
            for cell in 0..block.n_owned {
                for &v in d.space.nodes(b, cell) {
                    let next = made.node.len() as u32;
                    let slot = match &mut made.single {
                        Some((_, table)) => &mut table[v as usize],
                        None => made.index.entry((v, block.sets[cell])).or_insert(u32::MAX),
                    };
                    if *slot == u32::MAX {
                        *slot = next;
                        made.node.push(v);
                    }
                    table.push(*slot);
                }
            }
            made.cell_to_point.push(table);
        }
        made
    }

    fn find(&self, node: u32, set: u16) -> Option<u32> {
        match &self.single {
            Some((_, table)) => Some(table[node as usize]).filter(|&p| p != u32::MAX),
            None => self.index.get(&(node, set)).copied(),
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

/// Averages a quantity at region nodes; see the module.
///
/// # Errors
/// A coefficient that is not a number at a node; this rank's own error.
pub(super) fn average<L: Law<D, C>, const D: usize, const C: usize>(
    law: &L,
    d: &Discretisation,
    points: &RegionNodes,
    quantity: Quantity,
    width: usize,
    u: &[f64],
) -> Result<Nodal, AssemblyError> {
    let mut values = vec![0.0; points.node.len() * width];
    if quantity == Quantity::Solution {
        for (value, &v) in values.chunks_exact_mut(width).zip(&points.node) {
            value.copy_from_slice(&u[v as usize * C..][..C]);
        }
        return Ok(Nodal { width, values });
    }
    let mut weights = vec![0.0; points.node.len()];
    let mut out = Vec::new();
    for (b, block) in d.mesh.blocks.iter().enumerate() {
        let element = &d.space.elements[b];
        let mut at_nodes = Evaluator::new(d, b, element.nodes(), vec![0.0; element.n_nodes()], 1);
        let rule = Quadrature::new(block.shape, 1).expect("a rule of degree 1 exists");
        let mut inside = Evaluator::new(d, b, &rule.points, rule.weights, 1);
        // Gradients of degree 1 on straight simplices are constant, and so is what constant coefficients
        // make of them: one point does for all nodes.
        let uniform = block.is_affine() && d.space.degree == 1;
        for &cell in &d.order[b] {
            let nodes = d.space.nodes(b, cell as usize);
            let set = block.sets[cell as usize];
            if !nodes.iter().any(|&v| points.find(v, set).is_some()) {
                continue;
            }
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
            for (k, &v) in nodes.iter().enumerate() {
                if let Some(p) = points.find(v, set) {
                    weights[p as usize] += volume;
                    let from = if constant { 0 } else { k * width };
                    for c in 0..width {
                        values[p as usize * width + c] += volume * out[from + c];
                    }
                }
            }
        }
    }
    for (value, weight) in values.chunks_exact_mut(width).zip(weights) {
        value.iter_mut().for_each(|v| *v /= weight);
    }
    if quantity == Quantity::VonMises {
        // Of the averaged stress, so that the file's fields agree with each other.
        let stress = average(law, d, points, Quantity::Stress, 6, u)?;
        for (value, s) in values.iter_mut().zip(stress.values.chunks_exact(6)) {
            *value = crate::law::von_mises(s.try_into().expect("six values"));
        }
    }
    Ok(Nodal { width, values })
}

/// An inverted cell met outside assembly, as an error.
pub(super) fn inverted_at(d: &Discretisation, b: usize, cell: usize, Inverted(_): Inverted) -> AssemblyError {
    let block = &d.mesh.blocks[b];
    let mut x = Vec::new();
    d.mesh.cell_coordinates(block, cell, &mut x);
    let shape = block.shape.name().to_string();
    AssemblyError::Inverted { id: block.ids[cell], shape, x: x[0][0], y: x[0][1], z: x[0][2] }
}
