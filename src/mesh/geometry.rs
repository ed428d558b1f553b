//! Cell geometry: the isoparametric map, its Jacobian, orientation.

use super::ids::IdSet;
use super::soup::CellBlock;
use super::{Block, Mesh, MeshError};
use crate::element::{GeometryKind, Lagrange, Shape, Table};

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

/// Turns left-handed cells of a line or a plane the right way round (a surface mesh may face either
/// way), and refuses cells that have no volume or are turned inside out.
pub(super) fn orient(
    block: &mut CellBlock,
    dim: usize,
    ids: &IdSet,
    coordinates: &[[f64; 3]],
) -> Result<(), MeshError> {
    if block.ids.is_empty() {
        return Ok(());
    }
    let basis = block.geometry.basis(block.shape);
    let n = basis.n_nodes();
    // The determinant at vertices and centre: for the shapes here its sign there is what goes wrong first.
    let mut points = block.shape.vertices().to_vec();
    points.push(block.shape.center());
    if block.is_affine() {
        points.truncate(1);
    }
    let table = basis.tabulate(&points, 1);
    let mirrored = mirror(block.shape, block.geometry);
    let mut x = vec![[0.0; 3]; n];
    let mut copy = vec![0u64; n];
    for (cell, nodes) in block.nodes.chunks_exact_mut(n).enumerate() {
        for (x, &node) in x.iter_mut().zip(nodes.iter()) {
            *x = coordinates[ids.local(node) as usize];
        }
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for q in 0..points.len() {
            let det = determinant(&jacobian(&table, q, &x), dim);
            least = least.min(det);
            most = most.max(det);
        }
        let mut extent = 0.0f64;
        for d in 0..3 {
            let (low, high) =
                x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p[d]), h.max(p[d])));
            extent = extent.max(high - low);
        }
        let tiny = 1e-14 * extent.powi(dim as i32);
        if least > tiny {
            continue;
        }
        if most < -tiny && dim < 3 {
            copy.copy_from_slice(nodes);
            for (node, &from) in nodes.iter_mut().zip(&mirrored) {
                *node = copy[from];
            }
            continue;
        }
        let what = if most < -tiny {
            "is inverted: its nodes are in left-handed order (negative volume)"
        } else if most <= tiny {
            "has no volume: its nodes lie in a plane, on a line, or coincide"
        } else {
            "is tangled: its Jacobian changes sign inside"
        };
        let corners = block.shape.n_vertices() as f64;
        let center =
            [0, 1, 2].map(|d| x[..block.shape.n_vertices()].iter().map(|p| p[d]).sum::<f64>() / corners);
        return Err(MeshError::BadCell {
            id: block.ids[cell],
            shape: block.shape.name().to_string(),
            what: what.to_string(),
            x: center[0],
            y: center[1],
            z: center[2],
        });
    }
    Ok(())
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
