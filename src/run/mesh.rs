//! From the case's `[mesh]` to a distributed mesh.

use std::collections::HashSet;

use cluster::Comm;
use partition::{Partition, Quality};

use super::error::{Kind, RunError};
use super::mesh_files::{self, Cache, Input};
use crate::case::{BoxShape, Case, ConditionValue, MeshSource};
use crate::element::Shape;
use crate::mesh::boxes::{self, BoxSpec};
use crate::mesh::bricks::{self, Plan};
use crate::mesh::draft::Draft;
use crate::mesh::{Block, Group, Mesh, MeshError};
use crate::output::events::Event;
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
///
/// # Errors
/// What is wrong with the file or the box, the same on every rank.
pub fn input(comm: &Comm, source: &MeshSource) -> Result<Input, RunError> {
    match source {
        MeshSource::File(path) => mesh_files::read(comm, path),
        MeshSource::Box(spec) => {
            let soup = boxes::generate(comm, &box_spec(spec)).map_err(no_box)?;
            Ok(Input { soup, owners: None })
        }
    }
}

/// The box that the case asks for.
pub fn box_spec(spec: &crate::case::BoxMesh) -> BoxSpec {
    let mut origin = [0.0; 3];
    let n = spec.origin.len().min(3);
    origin[..n].copy_from_slice(&spec.origin[..n]);
    BoxSpec {
        size: spec.size.clone(),
        cells: spec.cells.iter().map(|&n| n as u64).collect(),
        shape: box_shape(spec.shape),
        origin,
    }
}

fn no_box(error: boxes::BoxError) -> RunError {
    RunError::new(Kind::Input, "mesh", error.to_string())
}

/// The groups of dimension `dim` (any, if `None`) with a name, or whose tag it is.
pub fn groups_named(groups: &[Group], dim: Option<usize>, name: &str) -> Vec<u16> {
    let fits = |g: &&u16| dim.is_none_or(|d| groups[**g as usize].dim == d);
    let all: Vec<u16> = (0..groups.len() as u16).collect();
    let named: Vec<u16> =
        all.iter().filter(fits).filter(|g| groups[**g as usize].name == name).copied().collect();
    if !named.is_empty() {
        return named;
    }
    all.iter().filter(fits).filter(|g| groups[**g as usize].tag.to_string() == name).copied().collect()
}

/// Pairs of groups that the case's periodic conditions join, checked against the mesh's groups.
pub(super) fn periodic_pairs(case: &Case, groups: &[Group], dim: usize) -> Result<Vec<(u16, u16)>, RunError> {
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

/// Points an error of the mesh into the case where a condition of it is to blame.
fn blame(case: &Case, error: MeshError) -> RunError {
    if let MeshError::Periodic { a, b, .. } = &error {
        for boundary in &case.boundaries {
            for condition in &boundary.conditions {
                let ConditionValue::Periodic { with } = &condition.kind else { continue };
                let on = |name: &str| boundary.on.iter().any(|n| n.text == name);
                if (on(a) && with.text == *b) || (on(b) && with.text == *a) {
                    let located = case.error(condition.place, &condition.key, error.to_string(), None);
                    return RunError { what: "mesh".into(), ..RunError::at(located, &case.text) };
                }
            }
        }
    }
    error.into()
}

/// A mesh on its ranks.
pub struct Loaded {
    /// The mesh.
    pub mesh: Mesh,
    /// How its cells are dealt out.
    pub partition: PartitionReport,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Why the cells were dealt out as they were.
pub fn dealt_event(comm: &Comm, case: &Case, mesh: &Mesh, partition: &PartitionReport) -> Event {
    let because = match (partition.method.as_str(), &case.mesh.source) {
        ("none", _) => "one rank",
        ("cached", _) => "an earlier run on as many ranks kept its partition",
        ("checkpoint", _) => "the checkpoint has as many parts as there are ranks",
        ("stored", _) => "the mesh file has as many parts as there are ranks",
        (_, MeshSource::Box(_)) => "a box is halved without a graph",
        (_, MeshSource::File(_)) => "a mesh from a file, cut along its graph",
    };
    Event::new("partition", &partition.method, because)
        .input("cells", mesh.n_cells_global)
        .input("ranks", comm.size())
        .input("imbalance", partition.imbalance)
        .input("edge_cut", partition.edge_cut)
}

/// Reads, partitions, distributes and refines. Collective.
///
/// A box is made where it will live, without partitioning a graph. A mesh of femdd with as many parts as there are ranks keeps them. With the cache on, a mesh that an
/// earlier run partitioned is taken from there, and one that it did not is left there.
///
/// # Errors
/// Whatever is wrong with the file or the case's names, the same on every rank.
pub fn load(comm: &Comm, case: &Case, phases: &mut Phases) -> Result<Loaded, RunError> {
    if let MeshSource::Box(spec) = &case.mesh.source {
        return load_box(comm, case, spec, phases);
    }
    let mut warnings = Vec::new();
    let (draft, owners, cache, from_cache) = phases.time("mesh", || -> Result<_, RunError> {
        let cache = Cache::of(comm, case)?;
        let cached = cache.as_ref().and_then(|cache| cache.read(comm, &mut warnings));
        let from_cache = cached.is_some();
        let Input { soup, owners } = match cached {
            Some(input) => input,
            None => input(comm, &case.mesh.source)?,
        };
        case.check_dimension(soup.dim)?;
        super::conditions::check_names(case, &soup.groups, soup.dim)?;
        let periodic = periodic_pairs(case, &soup.groups, soup.dim)?;
        // The cache has coordinates that were scaled before.
        let scale = if from_cache { 1.0 } else { case.mesh.scale };
        let draft = Draft::new(comm, soup, scale, &periodic, owners.is_none()).map_err(|e| blame(case, e))?;
        Ok((draft, owners, cache, from_cache))
    })?;
    let stored = owners.is_some();
    let (owners, mut report) = match owners {
        Some(owners) => (owners, PartitionReport::default()),
        None => phases.time("partition", || partition_draft(&draft, comm.size()))?,
    };
    let keeping = match &cache {
        Some(cache) if !stored => {
            phases.time("partition", || cache.keep(comm, &draft, &owners, &mut warnings))
        }
        _ => None,
    };
    let mut mesh = phases.time("mesh", || draft.distribute(&owners))?;
    if stored {
        let method = if from_cache { "cached" } else { "stored" };
        report = phases.time("partition", || partition_of(&mesh, method));
    }
    for _ in 0..case.mesh.refine {
        mesh = phases.time("mesh", || mesh.refine())?;
    }
    if let Some(keeping) = keeping {
        phases.time("partition", || keeping.finish(comm, &mut warnings));
    }
    Ok(Loaded { mesh, partition: report, warnings })
}

/// Makes a box, dealt out by halving its lattice. Collective.
fn load_box(
    comm: &Comm,
    case: &Case,
    spec: &crate::case::BoxMesh,
    phases: &mut Phases,
) -> Result<Loaded, RunError> {
    let (mut mesh, dealt) = phases.time("mesh", || -> Result<_, RunError> {
        let plan = Plan::new(&box_spec(spec)).map_err(no_box)?;
        case.check_dimension(plan.dim())?;
        super::conditions::check_names(case, plan.groups(), plan.dim())?;
        let periodic = periodic_pairs(case, plan.groups(), plan.dim())?;
        let plan = plan.with(case.mesh.scale, &periodic).map_err(|e| blame(case, e))?;
        Ok(plan.build(comm)?)
    })?;
    for _ in 0..case.mesh.refine {
        mesh = phases.time("mesh", || mesh.refine())?;
    }
    let partition = match comm.size() {
        1 => PartitionReport { imbalance: 1.0, edge_cut: 0, method: "none".into() },
        _ => PartitionReport {
            imbalance: dealt.imbalance,
            edge_cut: dealt.edge_cut,
            method: bricks::METHOD.into(),
        },
    };
    Ok(Loaded { mesh, partition, warnings: Vec::new() })
}

/// What there is to say of a partition that a mesh came with: facets between owners are those between
/// owned cells and ghosts. Collective.
pub fn partition_of(mesh: &Mesh, method: &str) -> PartitionReport {
    let comm = &mesh.comm;
    let (mine, all) = (mesh.n_owned_cells() as u64, mesh.n_cells_global);
    let facets = |cells: &dyn Fn(&Block) -> std::ops::Range<usize>, visit: &mut dyn FnMut([u32; 4])| {
        for block in &mesh.blocks {
            for cell in cells(block) {
                let vertices = block.vertices(cell);
                for f in 0..block.shape.n_entities(mesh.dim - 1) {
                    let mut key = [u32::MAX; 4];
                    for (k, &v) in key.iter_mut().zip(block.shape.entity_vertices(mesh.dim - 1, f)) {
                        *k = vertices[v as usize];
                    }
                    key.sort_unstable();
                    visit(key);
                }
            }
        }
    };
    let mut of_ghosts = HashSet::new();
    facets(&|b| b.n_owned..b.n_cells, &mut |key| {
        of_ghosts.insert(key);
    });
    let mut cut = 0u64;
    if !of_ghosts.is_empty() {
        facets(&|b| 0..b.n_owned, &mut |key| cut += u64::from(of_ghosts.contains(&key)));
    }
    PartitionReport {
        imbalance: comm.max(mine) as f64 * comm.size() as f64 / all.max(1) as f64,
        // Each facet was seen from both sides.
        edge_cut: comm.sum(cut) / 2,
        method: method.into(),
    }
}

/// Owners of a draft's cells in `n_parts` parts, with what there is to say of them. Collective.
///
/// # Errors
/// When the partitioner fails.
pub fn partition_draft(draft: &Draft, n_parts: usize) -> Result<(Vec<u32>, PartitionReport), RunError> {
    if n_parts == 1 {
        let report = PartitionReport { imbalance: 1.0, edge_cut: 0, method: "none".into() };
        return Ok((vec![0; draft.n_cells()], report));
    }
    let found = draft.partition(n_parts, &partition::Options::default())?;
    let report =
        PartitionReport { imbalance: found.imbalance, edge_cut: found.edge_cut, method: found.method };
    Ok((found.owner, report))
}

/// As [`partition_draft`], with every measure of the partition. Collective.
///
/// # Errors
/// When the partitioner fails.
pub fn partition_measured(
    comm: &Comm,
    draft: &Draft,
    n_parts: usize,
) -> Result<(Partition, Quality), RunError> {
    let graph = draft.graph()?;
    let fail = |e: partition::Error| RunError::new(Kind::Environment, "partition", e.to_string());
    let found = partition::partition(comm, &graph, n_parts, &partition::Options::default()).map_err(fail)?;
    let quality = partition::quality(comm, &graph, &found.owner, n_parts);
    Ok((found, quality))
}
