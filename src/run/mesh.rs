//! From the case's `[mesh]` to a distributed mesh.

use cluster::Comm;

use super::error::{Kind, RunError};
use crate::case::{BoxShape, Case, ConditionValue, MeshSource};
use crate::element::Shape;
use crate::mesh::boxes::{self, BoxSpec};
use crate::mesh::draft::Draft;
use crate::mesh::soup::Soup;
use crate::mesh::{Group, Mesh, gmsh};
use crate::output::phases::Phases;
use crate::output::run_json::PartitionReport;

/// The shape a box of the case asks for.
pub fn box_shape(shape: BoxShape) -> Shape {
    match shape {
        BoxShape::Interval => Shape::Interval,
        BoxShape::Triangle => Shape::Triangle,
        BoxShape::Quadrilateral => Shape::Quadrilateral,
        BoxShape::Tetrahedron => Shape::Tetrahedron,
        BoxShape::Hexahedron => Shape::Hexahedron,
    }
}

/// Reads or generates the cells, in no order. Collective.
pub fn soup(comm: &Comm, source: &MeshSource) -> Result<Soup, RunError> {
    match source {
        MeshSource::File(path) => Ok(gmsh::read(comm, path)?),
        MeshSource::Box(spec) => {
            let mut origin = [0.0; 3];
            origin[..spec.origin.len().min(3)].copy_from_slice(&spec.origin[..spec.origin.len().min(3)]);
            let spec = BoxSpec {
                size: spec.size.clone(),
                cells: spec.cells.iter().map(|&n| n as u64).collect(),
                shape: box_shape(spec.shape),
                origin,
            };
            boxes::generate(comm, &spec).map_err(|e| RunError::new(Kind::Input, "mesh", e.to_string()))
        }
    }
}

/// The groups of dimension `dim` (any, if `None`) with a name, or whose tag it is.
pub fn groups_named(groups: &[Group], dim: Option<usize>, name: &str) -> Vec<u16> {
    let fits = |g: &&u16| dim.is_none_or(|d| groups[**g as usize].dim == d);
    let all: Vec<u16> = (0..groups.len() as u16).collect();
    let named: Vec<u16> = all.iter().filter(fits).filter(|g| groups[**g as usize].name == name).copied().collect();
    if !named.is_empty() {
        return named;
    }
    all.iter().filter(fits).filter(|g| groups[**g as usize].tag.to_string() == name).copied().collect()
}

/// Pairs of groups that the case's periodic conditions join, checked against the mesh's groups.
fn periodic_pairs(case: &Case, groups: &[Group], dim: usize) -> Result<Vec<(u16, u16)>, RunError> {
    let mut pairs = Vec::new();
    for boundary in &case.boundaries {
        for condition in &boundary.conditions {
            let ConditionValue::Periodic { with } = &condition.kind else { continue };
            for name in &boundary.on {
                let find = |name: &crate::case::Name| {
                    groups_named(groups, Some(dim - 1), &name.text).first().copied().ok_or_else(|| {
                        super::conditions::unknown_group(case, groups, name, &condition.key, Some(dim - 1))
                    })
                };
                let (a, b) = (find(name)?, find(with)?);
                // Either side may name the other; both may.
                if !pairs.contains(&(a, b)) && !pairs.contains(&(b, a)) {
                    pairs.push((a, b));
                }
            }
        }
    }
    Ok(pairs)
}

/// Reads, partitions, distributes and refines. Collective.
///
/// # Errors
/// Whatever is wrong with the file or the case's names, the same on every rank.
pub fn load(comm: &Comm, case: &Case, phases: &mut Phases) -> Result<(Mesh, PartitionReport), RunError> {
    let draft = phases.time("mesh", || -> Result<Draft, RunError> {
        let soup = soup(comm, &case.mesh.source)?;
        case.check_dimension(soup.dim)?;
        super::conditions::check_names(case, &soup.groups, soup.dim)?;
        let periodic = periodic_pairs(case, &soup.groups, soup.dim)?;
        Ok(Draft::new(comm, soup, case.mesh.scale, &periodic, true)?)
    })?;
    let (owners, report) = phases.time("partition", || partition_draft(comm, &draft, comm.size()))?;
    let mut mesh = phases.time("mesh", || draft.distribute(&owners))?;
    for _ in 0..case.mesh.refine {
        mesh = phases.time("mesh", || mesh.refine())?;
    }
    Ok((mesh, report))
}

/// Owners of a draft's cells in `n_parts` parts, with what there is to say of them. Collective.
pub fn partition_draft(
    comm: &Comm,
    draft: &Draft,
    n_parts: usize,
) -> Result<(Vec<u32>, PartitionReport), RunError> {
    if n_parts == 1 {
        let report = PartitionReport { imbalance: 1.0, edge_cut: 0, method: "none".into() };
        return Ok((vec![0; draft.n_cells()], report));
    }
    let graph = draft.graph()?;
    let fail = |e: partition::Error| RunError::new(Kind::Environment, "partition", e.to_string());
    let found = partition::partition(comm, &graph, n_parts, &partition::Options::default()).map_err(fail)?;
    let quality = partition::quality(comm, &graph, &found.owner, n_parts);
    let report =
        PartitionReport { imbalance: quality.imbalance, edge_cut: quality.edge_cut, method: found.method.clone() };
    Ok((found.owner, report))
}
