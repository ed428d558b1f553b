//! Integrals of products of the basis on the reference cell: where a cell's map is affine and the tangent's
//! coefficients are constants, the element matrix is a combination of them.
//!
//! Imports `element` and `mesh`'s geometry. Start at [`Products`]. On tensor cells of degree p that saves the sum over
//! (p + 1)^d points; whether the map of such a cell is affine is seen by its corners, one lane at a time.
//!
//! Source: R. Kirby, A. Logg, "A compiler for variational forms", ACM Transactions on Mathematical Software 32, 2006.

use super::discretisation::Rules;
use super::lanes::{add_scaled, jacobian};
use crate::element::GeometryKind;
use crate::law::Terms;
use crate::law::lanes::{Lanes, WIDTH};
use crate::mesh::Block;
use crate::mesh::geometry;

/// What is integrated once for all cells of a block.
pub struct Products {
    /// Weighted sums of `d phi_i / d xi_k  d phi_j / d xi_l`, `[i][j][k][l]`.
    pub(super) gradients: Vec<f64>,
    /// Weighted sums of `phi_i phi_j`, `[i][j]`; empty where the law has no such term.
    pub(super) values: Vec<f64>,
    /// Reference coordinates of the geometry's nodes, `[node][axis]`; empty where every cell is affine.
    nodes: Vec<f64>,
}

/// Which of eight cells have an affine map.
#[derive(Clone, Copy)]
pub(super) enum Affine {
    All,
    /// Lanes of ones and of zeros, as comparisons make them.
    Some(Lanes),
    None,
}

/// Corners of a parallelepiped are where its edges say to this part of the edges: round-off of a box's coordinates.
const ROUND_OFF: f64 = 1e-12;

impl Products {
    /// Those of a block with its tangent's rule; none where combining them is no less work than the sum over the rule's
    /// points, or where no cell can have an affine map.
    pub(super) fn new(block: &Block, rules: &Rules, terms: Terms) -> Option<Products> {
        let basis = &rules.basis;
        let (n, dim) = (basis.n_nodes, basis.dim);
        let simple = !terms.first_order && !terms.hessian && block.geometry == GeometryKind::Linear;
        if !simple || rules.rule.weights.len() <= dim {
            return None;
        }
        let mut gradients = vec![0.0; n * n * dim * dim];
        let mut values = vec![0.0; if terms.g00 { n * n } else { 0 }];
        for (q, &weight) in rules.rule.weights.iter().enumerate() {
            let (phi, slopes) = (basis.values_at(q), basis.gradients_at(q));
            for (i, row) in gradients.chunks_exact_mut(n * dim * dim).enumerate() {
                for (j, out) in row.chunks_exact_mut(dim * dim).enumerate() {
                    for (kl, out) in out.iter_mut().enumerate() {
                        *out += weight * slopes[i * dim + kl / dim] * slopes[j * dim + kl % dim];
                    }
                }
            }
            for (ij, out) in values.iter_mut().enumerate() {
                *out += weight * phi[ij / n] * phi[ij % n];
            }
        }
        let nodes = if block.is_affine() {
            Vec::new()
        } else {
            geometry::basis(block).nodes().iter().flat_map(|x| x[..dim].to_vec()).collect()
        };
        Some(Products { gradients, values, nodes })
    }

    /// Which cells with corners `x`, `[node][axis]`, have an affine map: those whose corners are the images by the
    /// Jacobian at the rule's first point.
    #[inline(always)]
    pub(super) fn affine<const D: usize>(&self, rules: &Rules, x: &[Lanes]) -> Affine {
        if self.nodes.is_empty() {
            return Affine::All;
        }
        let j = jacobian::<D>(&rules.geometry, 0, x);
        let mut size = Lanes::default();
        j.iter().flatten().for_each(|entry| size = size.max(entry.abs()));
        let allowed = size * Lanes::splat(ROUND_OFF);
        let mut worst = Lanes::default();
        for (corner, at) in x.chunks_exact(D).zip(self.nodes.chunks_exact(D)) {
            for d in 0..D {
                let mut image = x[d];
                for k in 0..D {
                    image = add_scaled(image, at[k] - self.nodes[k], j[d][k]);
                }
                worst = worst.max((image - corner[d]).abs());
            }
        }
        let mask = worst.simd_le(allowed);
        match mask.to_bitmask() {
            0 => Affine::None,
            bits if bits == (1 << WIDTH) - 1 => Affine::All,
            _ => Affine::Some(mask),
        }
    }
}
