//! What `femdd mesh info` says of a mesh.
//!
//! Imports `mesh`, `space` and `run::singular`. Start at [`describe`].

use cluster::words::grouped;
use std::collections::HashMap;
use std::fmt::Write;

use crate::element::{GeometryKind, Shape};
use crate::mesh::{Block, Mesh, geometry};
use crate::run::{Kind, RunError, singular};
use crate::space::{Order, Space};

/// The least quality of a cell, where it is, and the mean. The same on every rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worst {
    /// The least scaled Jacobian; at most 1.
    pub least: f64,
    /// The mean over all cells.
    pub mean: f64,
    /// The number of the worst cell in the input.
    pub id: u64,
    /// The mean of its corners.
    pub center: [f64; 3],
}

/// The edges that leave each vertex of a shape, as directions in the reference cell.
fn edges_at_vertices(shape: Shape) -> Vec<Vec<[f64; 3]>> {
    let points = shape.vertices();
    let mut edges = vec![Vec::new(); shape.n_vertices()];
    for e in 0..shape.n_entities(1) {
        let ends = shape.entity_vertices(1, e);
        let (a, b) = (ends[0] as usize, ends[1] as usize);
        edges[a].push([0, 1, 2].map(|d| points[b][d] - points[a][d]));
        edges[b].push([0, 1, 2].map(|d| points[a][d] - points[b][d]));
    }
    edges
}

/// The scaled Jacobian: at each vertex the volume that the tangents of unit length along the edges span,
/// in units of that in the regular cell; the least of them.
///
/// Source: P. Knupp et al., "The Verdict Geometric Quality Library", SAND2007-1751.
fn scaled_jacobian(shape: Shape, edges: &[Vec<[f64; 3]>], jacobians: &[[[f64; 3]; 3]]) -> f64 {
    let dim = shape.dim();
    let regular = match shape {
        Shape::Triangle => 0.75f64.sqrt(),
        Shape::Tetrahedron => 0.5f64.sqrt(),
        _ => 1.0,
    };
    let mut least = f64::INFINITY;
    for (j, edges) in jacobians.iter().zip(edges) {
        let mut lengths = 1.0;
        for edge in edges {
            let tangent = [0, 1, 2].map(|a| (0..dim).map(|b| j[a][b] * edge[b]).sum::<f64>());
            lengths *= tangent.iter().map(|t| t * t).sum::<f64>().sqrt();
        }
        let volume = geometry::determinant(j, dim);
        least = least.min(if lengths > 0.0 { volume / (lengths * regular) } else { 0.0 });
    }
    least
}

/// The quality of the worst cell. Collective.
pub fn worst(mesh: &Mesh) -> Worst {
    let mut sum = 0.0;
    // Of cells that are equally bad to round-off the one with the least number, on any number of ranks.
    const SAME: f64 = 1e-9;
    let mut found = (f64::INFINITY, u64::MAX, [0.0; 3]);
    let (mut x, mut jacobians) = (Vec::new(), Vec::new());
    for block in &mesh.blocks {
        let edges = edges_at_vertices(block.shape);
        let table = geometry::basis(block).tabulate(block.shape.vertices(), 1);
        let corners = block.shape.n_vertices();
        for cell in 0..block.n_owned {
            x.clear();
            mesh.cell_coordinates(block, cell, &mut x);
            jacobians.clear();
            jacobians.extend((0..corners).map(|q| geometry::jacobian(&table, q, &x)));
            let quality = scaled_jacobian(block.shape, &edges, &jacobians);
            sum += quality;
            if quality < found.0 - SAME || (quality < found.0 + SAME && block.ids[cell] < found.1) {
                let center =
                    [0, 1, 2].map(|d| x[..corners].iter().map(|p| p[d]).sum::<f64>() / corners as f64);
                found = (quality.min(found.0), block.ids[cell], center);
            }
        }
    }
    let comm = &mesh.comm;
    let least = comm.min(found.0);
    let id = comm.min(if found.0 < least + SAME { found.1 } else { u64::MAX });
    let holder = comm.min(if found.1 == id { comm.rank() as u64 } else { u64::MAX });
    let center = comm.broadcast_value(holder.min(comm.size() as u64 - 1) as usize, Some(found.2));
    Worst { least, mean: comm.sum(sum) / mesh.n_cells_global as f64, id, center }
}

/// The number of entities in each group. Collective.
///
/// A rank that owns a cell at an entity sees all cells there, so the lowest of their owners counts it.
pub fn group_counts(mesh: &Mesh) -> Vec<u64> {
    let rank = mesh.comm.rank();
    let mut counts = vec![0u64; mesh.groups.len()];
    for block in &mesh.blocks {
        for &set in &block.sets[..block.n_owned] {
            mesh.sets[set as usize].iter().for_each(|&g| counts[g as usize] += 1);
        }
    }
    let mut owner_of: HashMap<(u16, [u64; 4]), u32> = HashMap::new();
    for tag in &mesh.tags {
        let block = &mesh.blocks[tag.block as usize];
        let nodes = block.nodes(tag.cell as usize);
        let mut key = [u64::MAX; 4];
        for (k, &v) in key.iter_mut().zip(block.shape.entity_vertices(tag.dim as usize, tag.local as usize)) {
            *k = mesh.node_ids[nodes[v as usize] as usize];
        }
        key.sort_unstable();
        let owner = block.owner(tag.cell as usize, rank);
        owner_of.entry((tag.group, key)).and_modify(|o| *o = owner.min(*o)).or_insert(owner);
    }
    for ((group, _), owner) in owner_of {
        counts[group as usize] += u64::from(owner as usize == rank);
    }
    mesh.comm.sum_slice(&mut counts);
    counts
}

fn geometry_name(block: &Block) -> &'static str {
    match block.geometry {
        GeometryKind::Linear => "linear",
        GeometryKind::Quadratic => "quadratic",
        GeometryKind::Serendipity => "serendipity (quadratic)",
    }
}

/// All there is to say of a mesh, as text. Collective.
///
/// # Errors
/// None that a mesh can cause; a fault in the numbering.
pub fn describe(mesh: &Mesh) -> Result<String, RunError> {
    let comm = &mesh.comm;
    let space =
        Space::new(mesh, 1, Order::Curve).map_err(|e| RunError::new(Kind::Bug, "space", e.to_string()))?;
    let bodies = singular::bodies(mesh, &space).n;
    let (low, high) = mesh.bounds();
    let worst = worst(mesh);
    let counts = group_counts(mesh);
    let mut of_block: Vec<u64> = mesh.blocks.iter().map(|b| b.n_owned as u64).collect();
    comm.sum_slice(&mut of_block);
    let volume = geometry::volume(mesh);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut text, mesh, &of_block, &counts, bodies, (low, high), volume, &worst);
    Ok(text)
}

fn write_all(
    out: &mut String,
    mesh: &Mesh,
    of_block: &[u64],
    counts: &[u64],
    bodies: usize,
    (low, high): ([f64; 3], [f64; 3]),
    volume: f64,
    worst: &Worst,
) -> std::fmt::Result {
    let dim = mesh.dim;
    writeln!(out, "  dimension   {dim}")?;
    writeln!(out, "  cells       {}", grouped(mesh.n_cells_global))?;
    for (block, &n) in mesh.blocks.iter().zip(of_block).filter(|(_, n)| **n > 0) {
        writeln!(out, "    {} {}, {}", grouped(n), block.shape.plural_name(), geometry_name(block))?;
    }
    writeln!(out, "  vertices    {}", grouped(mesh.vertices.map.n_global()))?;
    for d in 0..dim {
        let name = if d == 0 { "bounds" } else { "" };
        writeln!(out, "  {name:<11} {} from {} to {}", ["x", "y", "z"][d], low[d], high[d])?;
    }
    writeln!(out, "  {:<11} {volume:.9e}", ["length", "area", "volume"][dim - 1])?;
    writeln!(out, "  bodies      {bodies}{}", if bodies == 1 { "" } else { " that share no node" })?;
    let center: Vec<String> = worst.center[..dim].iter().map(|x| format!("{x:.6}")).collect();
    writeln!(
        out,
        "  quality     worst {:.4}, mean {:.4}  (scaled Jacobian; 1 is best)",
        worst.least, worst.mean
    )?;
    writeln!(out, "    the worst is element {} near ({})", worst.id, center.join(", "))?;
    if mesh.groups.is_empty() {
        return writeln!(
            out,
            "  groups      none: give the mesh physical groups to name boundaries and regions"
        );
    }
    writeln!(out, "  groups")?;
    let width = mesh.groups.iter().map(|g| g.name.chars().count()).max().unwrap_or(0);
    for d in (0..=dim).rev() {
        for (group, &n) in mesh.groups.iter().zip(counts).filter(|(g, _)| g.dim == d) {
            let what = match (dim - d, d) {
                (0, _) => "cells",
                (1, _) => "facets",
                (_, 0) => "vertices",
                _ => "edges",
            };
            writeln!(
                out,
                "    {:width$}  tag {:<4} dimension {d}  {} {what}",
                group.name,
                group.tag,
                grouped(n)
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality_of(shape: Shape, x: &[[f64; 3]]) -> f64 {
        let table = GeometryKind::Linear.basis(shape).tabulate(shape.vertices(), 1);
        let jacobians: Vec<_> = (0..shape.n_vertices()).map(|q| geometry::jacobian(&table, q, x)).collect();
        scaled_jacobian(shape, &edges_at_vertices(shape), &jacobians)
    }

    #[test]
    fn regular_cells_have_quality_one() {
        let h = 0.75f64.sqrt();
        let triangle = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, h, 0.0]];
        assert!((quality_of(Shape::Triangle, &triangle) - 1.0).abs() < 1e-14);
        let tetrahedron = [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]];
        assert!((quality_of(Shape::Tetrahedron, &tetrahedron).abs() - 1.0).abs() < 1e-14);
        for shape in [Shape::Interval, Shape::Quadrilateral, Shape::Hexahedron] {
            assert!((quality_of(shape, shape.vertices()) - 1.0).abs() < 1e-14, "{shape:?}");
        }
    }

    #[test]
    fn flat_and_folded_cells_have_low_quality() {
        // A right-angled triangle: sin 45 degrees over sin 60.
        let right = quality_of(Shape::Triangle, Shape::Triangle.vertices());
        assert!((right - 0.5f64.sqrt() / 0.75f64.sqrt()).abs() < 1e-14);
        let mut folded = Shape::Quadrilateral.vertices().to_vec();
        let far = folded.iter().position(|x| x[0] > 0.5 && x[1] > 0.5).unwrap();
        folded[far] = [0.2, 0.2, 0.0];
        assert!(quality_of(Shape::Quadrilateral, &folded) < 0.0);
    }
}
