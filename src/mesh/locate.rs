//! Which cell holds a point, on any number of ranks.

use super::{Block, Mesh, geometry};
use crate::element::{Lagrange, Shape};

/// Where a point lies, on the rank that answers for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The block.
    pub block: usize,
    /// The owned cell within it.
    pub cell: usize,
    /// Reference coordinates.
    pub reference: [f64; 3],
}

/// The answer for one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Location {
    /// It lies in a cell of this rank.
    Here(Place),
    /// It lies in a cell of another rank.
    Elsewhere,
    /// It lies outside the mesh; the nearest node, on every rank.
    Outside {
        /// Its coordinates.
        nearest: [f64; 3],
    },
}

/// A point this far outside a reference cell still counts as inside.
const TOLERANCE: f64 = 1e-8;

/// How far outside the reference cell a point is: 0 inside.
fn outside(shape: Shape, p: &[f64; 3]) -> f64 {
    let dim = shape.dim();
    let below = p[..dim].iter().fold(0.0f64, |m, x| m.max(-x));
    let above = if shape.is_simplex() {
        p[..dim].iter().sum::<f64>() - 1.0
    } else {
        p[..dim].iter().fold(0.0f64, |m, x| m.max(x - 1.0))
    };
    below.max(above)
}

/// Inverts the isoparametric map by Newton's method; `None` when it does not converge.
fn invert(
    block: &Block,
    basis: &Lagrange,
    x: &[[f64; 3]],
    target: &[f64; 3],
    dim: usize,
) -> Option<[f64; 3]> {
    let mut p = block.shape.center();
    for _ in 0..25 {
        let table = basis.tabulate(&[p], 1);
        let at = geometry::image(&table, 0, x);
        let j = geometry::jacobian(&table, 0, x);
        let det = geometry::determinant(&j, dim);
        if det == 0.0 || det.is_nan() {
            return None;
        }
        // Cramer's rule: the leading dim rows and columns of J d = target - at.
        let r = [0, 1, 2].map(|k| target[k] - at[k]);
        let mut step = [0.0; 3];
        for k in 0..dim {
            let mut replaced = j;
            (0..dim).for_each(|row| replaced[row][k] = r[row]);
            step[k] = geometry::determinant(&replaced, dim) / det;
        }
        (0..dim).for_each(|k| p[k] += step[k]);
        if p.iter().any(|x| !x.is_finite() || x.abs() > 1e3) {
            return None;
        }
        if step.iter().all(|s| s.abs() < 1e-13) {
            break;
        }
    }
    Some(p)
}

impl Mesh {
    /// Finds the cell of each point. Of several cells that share it, the one with the least number in
    /// the input answers, whatever the partition. Collective; all ranks pass the same points.
    pub fn locate(&self, points: &[[f64; 3]]) -> Vec<Location> {
        let mut found: Vec<Option<(u64, Place)>> = vec![None; points.len()];
        // In ascending order of x: each cell is compared with the points in its own range only.
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| points[a][0].total_cmp(&points[b][0]));
        let mut x = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            let basis = geometry::basis(block);
            for cell in 0..block.n_owned {
                x.clear();
                self.cell_coordinates(block, cell, &mut x);
                let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
                for p in &x {
                    for d in 0..3 {
                        low[d] = low[d].min(p[d]);
                        high[d] = high[d].max(p[d]);
                    }
                }
                // A curved cell may bulge out of its nodes' box; by no more than its own size.
                let size = (0..3).map(|d| high[d] - low[d]).fold(0.0, f64::max);
                let slack = if block.is_affine() { 1e-6 * size } else { size };
                let begin = order.partition_point(|&k| points[k][0] < low[0] - slack);
                let within = order[begin..].iter().take_while(|&&k| points[k][0] <= high[0] + slack);
                for &k in within {
                    let point = &points[k];
                    if (1..self.dim).any(|d| point[d] < low[d] - slack || point[d] > high[d] + slack) {
                        continue;
                    }
                    let Some(p) = invert(block, &basis, &x, point, self.dim) else { continue };
                    let flat = (self.dim..3).all(|d| point[d].abs() <= 1e-9 * size.max(1e-300));
                    if flat
                        && outside(block.shape, &p) <= TOLERANCE
                        && found[k].is_none_or(|f| block.ids[cell] < f.0)
                    {
                        found[k] = Some((block.ids[cell], Place { block: b, cell, reference: p }));
                    }
                }
            }
        }
        // Least cell number first, then least rank.
        let mut ids: Vec<u64> = found.iter().map(|f| f.map_or(u64::MAX, |f| f.0)).collect();
        let mine = ids.clone();
        self.comm.min_slice(&mut ids);
        let rank = self.comm.rank() as u32;
        let mut ranks: Vec<u32> =
            (0..points.len()).map(|k| if mine[k] == ids[k] { rank } else { u32::MAX }).collect();
        self.comm.min_slice(&mut ranks);
        let lost: Vec<usize> = (0..points.len()).filter(|&k| ids[k] == u64::MAX).collect();
        let nearest = self.nearest_nodes(&lost.iter().map(|&k| points[k]).collect::<Vec<_>>());
        let mut nearest = nearest.into_iter();
        (0..points.len())
            .map(|k| {
                if ids[k] == u64::MAX {
                    Location::Outside { nearest: nearest.next().expect("one for each lost point") }
                } else if ranks[k] == rank {
                    Location::Here(found[k].expect("this rank found it").1)
                } else {
                    Location::Elsewhere
                }
            })
            .collect()
    }

    /// The node nearest to each point. Collective; all ranks pass the same points.
    pub fn nearest_nodes(&self, points: &[[f64; 3]]) -> Vec<[f64; 3]> {
        if points.is_empty() {
            return Vec::new();
        }
        let mut nearest: Vec<(f64, [f64; 3])> = vec![(f64::INFINITY, [0.0; 3]); points.len()];
        for node in &self.nodes {
            for (point, near) in points.iter().zip(&mut nearest) {
                let distance = (0..3).map(|d| (node[d] - point[d]).powi(2)).sum::<f64>();
                if distance < near.0 {
                    *near = (distance, *node);
                }
            }
        }
        let rank = self.comm.rank() as u32;
        let mut distances: Vec<f64> = nearest.iter().map(|n| n.0).collect();
        self.comm.min_slice(&mut distances);
        // Coordinates of the nearest node, from the lowest rank that has one so near.
        let mut holders: Vec<u32> =
            nearest.iter().zip(&distances).map(|(n, d)| if n.0 == *d { rank } else { u32::MAX }).collect();
        self.comm.min_slice(&mut holders);
        let mut coordinates: Vec<f64> =
            nearest.iter().zip(&holders).flat_map(|(n, h)| if *h == rank { n.1 } else { [0.0; 3] }).collect();
        self.comm.sum_slice(&mut coordinates);
        coordinates.as_chunks::<3>().0.to_vec()
    }

    /// The tags (dimension 0) of the mesh vertex at a point, on every local cell that has it. Collective.
    pub fn vertex_tags(&self, point: [f64; 3]) -> Vec<super::EntityTag> {
        let (low, high) = self.bounds();
        let size = (0..3).map(|d| high[d] - low[d]).fold(0.0, f64::max);
        let mut tags = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            for cell in 0..block.n_cells {
                for (local, &node) in block.nodes(cell)[..block.shape.n_vertices()].iter().enumerate() {
                    let x = self.nodes[node as usize];
                    // A vertex that hangs carries nothing.
                    if block.naming_vertices(cell)[local] == block.vertices(cell)[local]
                        && (0..3).all(|d| (x[d] - point[d]).abs() <= 1e-8 * size)
                    {
                        let (block, cell) = (b as u16, cell as u32);
                        tags.push(super::EntityTag {
                            group: u16::MAX,
                            block,
                            cell,
                            dim: 0,
                            local: local as u8,
                        });
                    }
                }
            }
        }
        tags
    }
}
