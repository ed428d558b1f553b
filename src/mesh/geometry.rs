//! Cell geometry: the isoparametric map, its Jacobian, orientation.

use partition::hilbert::Curve;
use rayon::prelude::*;

use super::ids::IdSet;
use super::soup::CellBlock;
use super::{Block, Mesh, MeshError};
use crate::element::{GeometryKind, Lagrange, Shape, Table};

/// The most geometry nodes a cell has.
const MAX_NODES: usize = 27;

/// Refuses cells bent in space: coordinates beyond the cells' dimension must vanish.
pub(super) fn check_flat(points: &[[f64; 3]], dim: usize) -> Result<(), MeshError> {
    let size = points.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs()));
    for x in points {
        for d in dim..3 {
            if x[d].abs() > 1e-9 * size {
                return Err(MeshError::NotFlat { dim, coordinate: ['x', 'y', 'z'][d], value: x[d] });
            }
        }
    }
    Ok(())
}

/// The order of nodes that mirrors a cell: what swaps the first two reference axes (or reverses an
/// interval).
fn mirror(shape: Shape, geometry: GeometryKind) -> Vec<usize> {
    let basis = geometry.basis(shape);
    let nodes = basis.nodes();
    let image = |x: &[f64; 3]| if shape.dim() == 1 { [1.0 - x[0], 0.0, 0.0] } else { [x[1], x[0], x[2]] };
    let same = |a: &[f64; 3], b: &[f64; 3]| (0..3).all(|d| (a[d] - b[d]).abs() < 1e-12);
    nodes
        .iter()
        .map(|x| nodes.iter().position(|y| same(y, &image(x))).expect("the nodes are symmetric"))
        .collect()
}

/// The determinant of the leading `dim` rows and columns.
pub fn determinant(j: &[[f64; 3]; 3], dim: usize) -> f64 {
    match dim {
        1 => j[0][0],
        2 => j[0][0] * j[1][1] - j[0][1] * j[1][0],
        _ => {
            j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1])
                - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0])
                + j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0])
        }
    }
}

/// The Jacobian `j[a][b] = d x_a / d xi_b` at point `q` of a table of the geometry's basis.
pub fn jacobian(table: &Table, q: usize, x: &[[f64; 3]]) -> [[f64; 3]; 3] {
    let dim = table.dim;
    let gradients = &table.gradients[q * table.n_nodes * dim..][..table.n_nodes * dim];
    let mut j = [[0.0; 3]; 3];
    for (point, gradient) in x.iter().zip(gradients.chunks_exact(dim)) {
        for a in 0..dim {
            for b in 0..dim {
                j[a][b] += point[a] * gradient[b];
            }
        }
    }
    j
}

/// The image of point `q` of a table.
pub fn image(table: &Table, q: usize, x: &[[f64; 3]]) -> [f64; 3] {
    let mut out = [0.0; 3];
    for (point, value) in x.iter().zip(&table.values[q * table.n_nodes..][..table.n_nodes]) {
        (0..3).for_each(|d| out[d] += point[d] * value);
    }
    out
}

/// Six times the volume of a tetrahedron, twice the area of a triangle, the length of an interval: the
/// determinant of the affine map from the reference cell.
fn simplex_determinant(x: &[[f64; 3]], dim: usize) -> f64 {
    let mut j = [[0.0; 3]; 3];
    for b in 0..dim {
        for a in 0..dim {
            j[a][b] = x[b + 1][a] - x[0][a];
        }
    }
    determinant(&j, dim)
}

/// What it takes to look at the cells of one block.
struct Inspector {
    table: Table,
    mirrored: Vec<usize>,
    affine: bool,
    n_points: usize,
    dim: usize,
}

/// What is wrong with a cell.
const INVERTED: &str = "is inverted: its nodes are in left-handed order (negative volume)";
const FLAT: &str = "has no volume: its nodes lie in a plane, on a line, or coincide";
const TANGLED: &str = "is tangled: its Jacobian changes sign inside";

impl Inspector {
    /// Whether a cell is to be mirrored; `Err` with what is wrong with it.
    #[inline]
    fn look(&self, x: &[[f64; 3]]) -> Result<bool, &'static str> {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        if self.affine {
            least = simplex_determinant(x, self.dim);
            most = least;
        } else {
            for q in 0..self.n_points {
                let det = determinant(&jacobian(&self.table, q, x), self.dim);
                least = least.min(det);
                most = most.max(det);
            }
        }
        let (mut low, mut high) = (x[0], x[0]);
        for p in &x[1..] {
            for d in 0..3 {
                low[d] = low[d].min(p[d]);
                high[d] = high[d].max(p[d]);
            }
        }
        let extent = (0..3).fold(0.0f64, |e, d| e.max(high[d] - low[d]));
        let tiny = 1e-14 * extent.powi(self.dim as i32);
        if least > tiny {
            Ok(false)
        } else if most < -tiny && self.dim < 3 {
            Ok(true)
        } else if most < -tiny {
            Err(INVERTED)
        } else if most <= tiny {
            Err(FLAT)
        } else {
            Err(TANGLED)
        }
    }
}

/// Cells that a thread looks at in one go.
const CHUNK: usize = 4096;

/// Turns left-handed cells of a line or a plane the right way round (a surface mesh may face either
/// way), and refuses cells that have no volume or are turned inside out. Returns the position of each
/// cell's centre along a curve, if one is given.
pub(super) fn orient(
    block: &mut CellBlock,
    dim: usize,
    ids: &IdSet,
    coordinates: &[[f64; 3]],
    curve: Option<&Curve>,
) -> Result<Vec<u64>, MeshError> {
    let mut keys = vec![0u64; if curve.is_some() { block.ids.len() } else { 0 }];
    if block.ids.is_empty() {
        return Ok(keys);
    }
    let basis = block.geometry.basis(block.shape);
    let n = basis.n_nodes();
    // The determinant at vertices and centre: for the shapes here its sign there is what goes wrong first.
    let mut points = block.shape.vertices().to_vec();
    points.push(block.shape.center());
    let inspector = Inspector {
        table: basis.tabulate(&points, 1),
        mirrored: mirror(block.shape, block.geometry),
        affine: block.is_affine(),
        n_points: points.len(),
        dim,
    };
    let corners = block.shape.n_vertices();
    let center = |x: &[[f64; 3]]| {
        let mut center = [0.0; 3];
        for p in &x[..corners] {
            (0..3).for_each(|d| center[d] += p[d]);
        }
        center.map(|c| c / corners as f64)
    };
    let look = |(chunk, (nodes, keys)): (usize, (&mut [u64], &mut [u64]))| {
        let mut x = [[0.0; 3]; MAX_NODES];
        let x = &mut x[..n];
        for (cell, nodes) in nodes.chunks_exact_mut(n).enumerate() {
            for (x, &node) in x.iter_mut().zip(nodes.iter()) {
                *x = coordinates[ids.local(node) as usize];
            }
            if let Some(curve) = curve {
                keys[cell] = curve.key(center(x));
            }
            match inspector.look(x) {
                Ok(false) => {}
                Ok(true) => {
                    let mut copy = [0u64; MAX_NODES];
                    copy[..n].copy_from_slice(nodes);
                    for (node, &from) in nodes.iter_mut().zip(&inspector.mirrored) {
                        *node = copy[from];
                    }
                }
                Err(what) => return Some((chunk * CHUNK + cell, what, center(x))),
            }
        }
        None
    };
    let chunks = block.nodes.par_chunks_mut(n * CHUNK);
    let bad = if curve.is_some() {
        chunks.zip(keys.par_chunks_mut(CHUNK)).enumerate().filter_map(look).min_by_key(|bad| bad.0)
    } else {
        let none = || -> &mut [u64] { &mut [] };
        chunks.enumerate().filter_map(|(k, nodes)| look((k, (nodes, none())))).min_by_key(|bad| bad.0)
    };
    match bad {
        None => Ok(keys),
        Some((cell, what, [x, y, z])) => Err(MeshError::BadCell {
            id: block.ids[cell],
            shape: block.shape.name().to_string(),
            what: what.to_string(),
            x,
            y,
            z,
        }),
    }
}

impl CellBlock {
    /// Whether the map from the reference cell is affine.
    pub fn is_affine(&self) -> bool {
        self.shape.is_simplex() && self.geometry == GeometryKind::Linear
    }
}

/// The basis of a block's geometry.
pub fn basis(block: &Block) -> Lagrange {
    block.geometry.basis(block.shape)
}

/// The volume (length, area) of the domain. Collective.
pub fn volume(mesh: &Mesh) -> f64 {
    let mut sum = 0.0;
    let mut x = Vec::new();
    for block in &mesh.blocks {
        let degree = if block.is_affine() { 0 } else { 2 * mesh.dim * 2 };
        let rule = crate::element::Quadrature::new(block.shape, degree).expect("a rule of low degree exists");
        let table = basis(block).tabulate(&rule.points, 1);
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            for (q, w) in rule.weights.iter().enumerate() {
                sum += w * determinant(&jacobian(&table, q, &x), mesh.dim);
            }
        }
    }
    mesh.comm.sum(sum)
}
