//! The case's boundary conditions on a mesh: names to facets, essential conditions, loads.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::assembly::{Essential, FacetLoad, Natural, Prescribed};
use crate::case::{self, Boundary, Case, ConditionValue, Integral, Name, Part, nearest, quote_key};
use crate::mesh::{EntityTag, Group, Mesh};
use crate::output::run_json::BoundaryReport;

use super::error::RunError;
use super::mesh::groups_named;
use super::results::cell_groups;

/// An error for a name that is not in the mesh, with the nearest one that is.
pub fn unknown_group(case: &Case, groups: &[Group], name: &Name, key: &str, dim: Option<usize>) -> RunError {
    let fits = |g: &&Group| dim.is_none_or(|d| g.dim == d);
    let known: Vec<&str> = groups.iter().filter(fits).map(|g| g.name.as_str()).collect();
    let help = match nearest(&name.text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => {
            "the mesh has no named groups: give it physical groups in Gmsh".to_string()
        }
        None => format!("the mesh has {}", known.join(", ")),
    };
    let message = format!("the mesh has no group \"{}\"", name.text);
    RunError::at(case.error(name.place, key, message, Some(help)), &case.text)
}

/// Checks every name of a group in the case against the mesh: boundaries, regions, integrals.
pub fn check_names(case: &Case, groups: &[Group], dim: usize) -> Result<(), RunError> {
    for boundary in &case.boundaries {
        for name in &boundary.on {
            let found = groups_named(groups, None, &name.text);
            let lower = found.iter().any(|&g| groups[g as usize].dim < dim);
            if found.is_empty() {
                return Err(unknown_group(
                    case,
                    groups,
                    name,
                    &format!("boundary.{}", boundary.heading),
                    None,
                ));
            }
            if !lower {
                let message = format!(
                    "\"{}\" is a group of cells (dimension {dim}): a boundary needs facets, edges or vertices",
                    name.text
                );
                let key = format!("boundary.{}", boundary.heading);
                let help = Some("for a coefficient of these cells, use [region]".to_string());
                return Err(RunError::at(case.error(name.place, &key, message, help), &case.text));
            }
        }
    }
    for region in &case.regions {
        for name in &region.on {
            if groups_named(groups, Some(dim), &name.text).is_empty() {
                return Err(unknown_group(
                    case,
                    groups,
                    name,
                    &format!("region.{}", region.heading),
                    Some(dim),
                ));
            }
        }
    }
    case.integrals.iter().try_for_each(|integral| check_integral(case, groups, dim, integral))
}

/// Checks that an integral's `over` is there, and that the quantity can be integrated over it.
fn check_integral(case: &Case, groups: &[Group], dim: usize, integral: &Integral) -> Result<(), RunError> {
    let Some(over) = &integral.over else { return Ok(()) };
    let of = integral.of.name();
    let refuse = |what: &str, help: &str| {
        let message = format!("`{of}` cannot be integrated over \"{}\": {what}", over.text);
        Err(RunError::at(case.error(over.place, "integral.over", message, Some(help.into())), &case.text))
    };
    let heading = case.boundaries.iter().find(|b| b.heading == over.text);
    let facets = match heading {
        Some(boundary) => groups_of(groups, dim, boundary).iter().any(|&g| groups[g as usize].dim + 1 == dim),
        None if !cell_groups(case, groups, dim, &over.text).is_empty() => {
            let needs = "these are cells, it needs a boundary";
            return match (integral.of.quantity, integral.of.part) {
                (case::Quantity::Reaction, _) => {
                    refuse(needs, "leave `over` out for the sum over all constrained nodes")
                }
                (_, Part::Normal) => refuse(needs, "name the boundary of these cells"),
                _ => Ok(()),
            };
        }
        None => {
            let found = groups_named(groups, None, &over.text);
            if found.is_empty() {
                return Err(unknown_group(case, groups, over, "integral.over", None));
            }
            found.iter().any(|&g| groups[g as usize].dim + 1 == dim)
        }
    };
    if facets || integral.of.quantity == case::Quantity::Reaction {
        return Ok(());
    }
    refuse(
        "no facets of the mesh belong to it",
        "name facets or cells; a `[[probe]]` reads a value at a point",
    )
}

/// The groups a boundary heading names, of less than the cells' dimension.
fn groups_of(groups: &[Group], dim: usize, boundary: &Boundary) -> Vec<u16> {
    let found = boundary.on.iter().flat_map(|name| groups_named(groups, None, &name.text));
    found.filter(|&g| groups[g as usize].dim < dim).collect()
}

/// The tags of a boundary heading: of every dimension it names, or of the vertex it stands at. Collective.
pub fn tags_of(mesh: &Mesh, boundary: &Boundary) -> Vec<EntityTag> {
    if let Some(at) = &boundary.at {
        return mesh.vertex_tags(padded(at));
    }
    let mut tags: Vec<EntityTag> = groups_of(&mesh.groups, mesh.dim, boundary)
        .iter()
        .flat_map(|&g| mesh.tags_of(g).iter().copied())
        .collect();
    tags.sort_unstable_by_key(|t| (t.block, t.cell, t.dim, t.local));
    tags.dedup_by_key(|t| (t.block, t.cell, t.dim, t.local));
    tags
}

fn padded(at: &[f64]) -> [f64; 3] {
    [0, 1, 2].map(|k| at.get(k).copied().unwrap_or(0.0))
}

/// The local corner nodes of a facet, ascending; it has four at most, and what is not there comes last.
fn facet_vertices(mesh: &Mesh, tag: &EntityTag) -> [u32; 4] {
    let block = &mesh.blocks[tag.block as usize];
    let nodes = block.nodes(tag.cell as usize);
    let mut of = [u32::MAX; 4];
    let entity = block.shape.entity_vertices(tag.dim as usize, tag.local as usize);
    for (of, &v) in of.iter_mut().zip(entity) {
        *of = nodes[v as usize];
    }
    of.sort_unstable();
    of
}

/// Each facet once over all ranks, as (tag, whether it has a cell on either side): the one on an owned
/// cell, and of two cells the one with the lesser number; of a facet in parts, the parts and not the whole.
///
/// Both cells of an inner facet are known here, one of them perhaps as a ghost.
pub fn distinct_facets(mesh: &Mesh, tags: &[EntityTag]) -> Vec<(EntityTag, bool)> {
    let facet_dim = mesh.dim as u8 - 1;
    // By vertices, then by the cell's number.
    type Side = ([u32; 4], (u64, u16, u32), EntityTag);
    let mut facets: Vec<Side> = tags
        .iter()
        .filter(|t| t.dim == facet_dim)
        .map(|t| {
            let id = mesh.blocks[t.block as usize].ids[t.cell as usize];
            (facet_vertices(mesh, t), (id, t.block, t.cell), *t)
        })
        .collect();
    facets.par_sort_unstable();
    let owned = |t: &EntityTag| (t.cell as usize) < mesh.blocks[t.block as usize].n_owned;
    // The vertices that name a facet, and whether it is a part of the one they name.
    let named = |t: &EntityTag| {
        let block = &mesh.blocks[t.block as usize];
        let (shape, cell, local) = (block.shape, t.cell as usize, t.local as usize);
        let part = block.hang(cell).is_some_and(|(hang, _)| hang.has_facet(shape, local));
        let vertices = block.vertices_naming(cell, facet_dim as usize, local);
        let mut key = [u32::MAX; 4];
        for (k, &v) in key.iter_mut().zip(shape.facet_vertices(local)) {
            *k = vertices[v as usize];
        }
        key.sort_unstable();
        (key, part)
    };
    // A part shares a corner with the whole. At a periodic seam the two have the same names, and yet are
    // different facets: their corners are different nodes.
    let mut in_parts = HashSet::new();
    if mesh.may_hang() {
        for (corners, _, tag) in &facets {
            let (key, part) = named(tag);
            if part {
                in_parts.extend(corners.iter().filter(|&&node| node != u32::MAX).map(|&node| (key, node)));
            }
        }
    }
    let mut distinct = Vec::new();
    for run in facets.chunk_by(|a, b| a.0 == b.0) {
        let tag = run[0].2;
        let (key, part) = if in_parts.is_empty() { ([0; 4], false) } else { named(&tag) };
        let whole_of_parts = !part && run[0].0.iter().any(|&node| in_parts.contains(&(key, node)));
        if owned(&tag) && !whole_of_parts {
            distinct.push((tag, part || run.len() > 1));
        }
    }
    distinct
}

/// All of a case's conditions, resolved on a mesh.
pub struct Conditions {
    /// In the order of the file.
    pub essential: Vec<Essential>,
    /// Loads on facets.
    pub loads: Vec<FacetLoad>,
    /// Point loads, as the tags of a vertex and a force; the owner of the vertex applies it.
    pub forces: Vec<(Vec<EntityTag>, Vec<crate::law::expr::Expr>, String)>,
    /// What each heading matched.
    pub report: Vec<BoundaryReport>,
    /// Whether any Robin condition fixes the level of the solution.
    pub robin: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

fn bad(case: &Case, place: case::Place, key: &str, message: String, help: Option<String>) -> RunError {
    RunError::at(case.error(place, key, message, help), &case.text)
}

/// Refuses conditions on facets of `tags` that a heading of the case makes periodic. Collective.
fn check_periodic(case: &Case, mesh: &Mesh, boundary: &Boundary, tags: &[EntityTag]) -> Result<(), RunError> {
    let other = |c: &&case::Condition| !matches!(c.kind, ConditionValue::Periodic { .. });
    // A vertex is no facet, not in 1D either: it fixes the level of a periodic body.
    let Some(condition) = boundary.conditions.iter().find(other).filter(|_| boundary.at.is_none()) else {
        return Ok(());
    };
    for joins in &case.boundaries {
        for periodic in &joins.conditions {
            let ConditionValue::Periodic { with } = &periodic.kind else { continue };
            let sides = joins.on.iter().chain([with]);
            let named = |name: &Name| groups_named(&mesh.groups, Some(mesh.dim - 1), &name.text);
            let groups: Vec<u16> = sides.filter_map(|name| named(name).first().copied()).collect();
            let joined = |tag: &EntityTag| {
                let is_of =
                    |&group: &u16| mesh.tags_of(group).binary_search(&EntityTag { group, ..*tag }).is_ok();
                usize::from(tag.dim) + 1 == mesh.dim && groups.iter().any(is_of)
            };
            if mesh.comm.any(tags.iter().any(joined)) {
                let (message, help) = condition.on_periodic_side(&boundary.heading, &joins.heading);
                return Err(bad(case, condition.place, &condition.key, message, Some(help)));
            }
        }
    }
    Ok(())
}

/// Resolves the boundary conditions of a case. Collective.
///
/// # Errors
/// A condition that matches nothing, a load on a facet inside the body, a condition on periodic facets, a load that needs facets on
/// something else: the same on every rank.
pub fn resolve(case: &Case, mesh: &Mesh) -> Result<Conditions, RunError> {
    let comm = &mesh.comm;
    let mut out = Conditions {
        essential: Vec::new(),
        loads: Vec::new(),
        forces: Vec::new(),
        report: Vec::new(),
        robin: false,
        warnings: Vec::new(),
    };
    // The headings of essential conditions, and those of loads.
    let (mut fixing, mut loading) = (Vec::new(), Vec::new());
    for boundary in &case.boundaries {
        let heading = format!("boundary.{}", boundary.heading);
        let tags = tags_of(mesh, boundary);
        let found = comm.any(!tags.is_empty());
        if let (false, Some(at)) = (found, &boundary.at) {
            let nearest = mesh.nearest_nodes(&[padded(at)])[0];
            let show = |x: &[f64]| x.iter().map(|x| format!("{x}")).collect::<Vec<_>>().join(", ");
            let message = format!("the mesh has no vertex at ({})", show(at));
            let help = Some(format!("the nearest one is at ({})", show(&nearest[..mesh.dim])));
            return Err(bad(case, boundary.place, &format!("{heading}.at"), message, help));
        }
        if !found {
            let message =
                format!("the boundary condition \"{}\" matches no part of the mesh", boundary.heading);
            let help = Some("its groups are named in the mesh but no cell has their facets".to_string());
            return Err(bad(case, boundary.place, &heading, message, help));
        }
        check_periodic(case, mesh, boundary, &tags)?;
        let facets = distinct_facets(mesh, &tags);
        let n_facets = comm.sum(facets.len() as u64);
        let inner = facets.iter().find(|f| f.1).map(|f| f.0);
        let has_inner = comm.any(inner.is_some());
        let lower = comm.any(tags.iter().any(|t| usize::from(t.dim) + 1 < mesh.dim));
        out.report.push(BoundaryReport {
            name: boundary.heading.clone(),
            facets: n_facets,
            ..BoundaryReport::default()
        });
        for condition in &boundary.conditions {
            let key = &condition.key;
            let natural = match &condition.kind {
                ConditionValue::Periodic { .. } => continue,
                ConditionValue::Essential(essential) => {
                    let prescribed = match essential {
                        case::Essential::Components(exprs) => {
                            let n = case.physics.law.n_components(mesh.dim);
                            Prescribed::Components(exprs.iter().take(n).cloned().collect())
                        }
                        case::Essential::Normal(expr) => {
                            if lower || boundary.at.is_some() {
                                let message = "a condition along the normal needs facets".to_string();
                                let help =
                                    Some("edges and vertices have no normal: give components".to_string());
                                return Err(bad(case, condition.place, key, message, help));
                            }
                            Prescribed::Normal(expr.clone())
                        }
                    };
                    fixing.push(boundary);
                    out.essential.push(Essential { key: key.clone(), entities: tags.clone(), prescribed });
                    continue;
                }
                ConditionValue::Force(exprs) => {
                    let points = tags.iter().all(|t| t.dim == 0);
                    if comm.any(!points) {
                        let message =
                            "a force acts at vertices, and this group is not one of vertices".to_string();
                        let help = Some("for a load on facets, use traction or pressure".to_string());
                        return Err(bad(case, condition.place, key, message, help));
                    }
                    out.forces.push((tags.clone(), exprs.clone(), key.clone()));
                    continue;
                }
                ConditionValue::Inflow(expr) => Natural::Flux(vec![expr.clone()]),
                ConditionValue::Traction(exprs) => Natural::Flux(exprs.clone()),
                ConditionValue::Pressure(expr) => Natural::Pressure(expr.clone()),
                ConditionValue::Robin { coefficient, ambient } => {
                    out.robin |= coefficient.as_constant() != Some(0.0);
                    Natural::Robin { coefficient: coefficient.clone(), ambient: ambient.clone() }
                }
            };
            if lower || boundary.at.is_some() {
                let message = format!("\"{key}\" acts on facets, and this is of lower dimension");
                return Err(bad(case, condition.place, key, message, None));
            }
            if has_inner {
                let message = format!(
                    "\"{key}\" acts on facets inside the body: it needs facets of the outer boundary"
                );
                let help = Some("a facet between two cells has no outside".to_string());
                return Err(bad(case, condition.place, key, message, help));
            }
            let facets = tags.iter().filter(|t| usize::from(t.dim) + 1 == mesh.dim).copied().collect();
            loading.push(boundary);
            out.loads.push(FacetLoad { key: key.clone(), facets, natural });
        }
    }
    let n_components = case.physics.law.n_components(mesh.dim);
    out.warnings = without_effect(mesh, (&out.essential, &fixing), (&out.loads, &loading), n_components);
    Ok(out)
}

/// Whether a load is zero everywhere.
fn is_zero(natural: &Natural) -> bool {
    let zero = |expr: &crate::law::expr::Expr| expr.as_constant() == Some(0.0);
    match natural {
        Natural::Flux(exprs) => exprs.iter().all(zero),
        Natural::Pressure(expr) => zero(expr),
        Natural::Robin { coefficient, .. } => zero(coefficient),
    }
}

/// Warns of loads on facets where headings other than theirs fix the whole field: each essential condition and each
/// load comes with its heading. Collective.
fn without_effect(
    mesh: &Mesh,
    (essential, fixing): (&[Essential], &[&Boundary]),
    (loads, loading): (&[FacetLoad], &[&Boundary]),
    n_components: usize,
) -> Vec<String> {
    if essential.is_empty() || loads.is_empty() {
        return Vec::new();
    }
    let bits = |essential: &Essential| match &essential.prescribed {
        Prescribed::Components(exprs) => {
            exprs.iter().enumerate().fold(0u8, |bits, (c, e)| bits | u8::from(e.is_some()) << c)
        }
        // Along the one axis there is.
        Prescribed::Normal(_) => u8::from(mesh.dim == 1),
    };
    let all = (1u8 << n_components) - 1;
    let place = |tag: &EntityTag| (tag.block, tag.cell, tag.dim, tag.local);
    // Per load and essential condition: whether it takes part in fixing a facet wholly.
    let mut takes_part = vec![0u32; loads.len() * essential.len()];
    for (load, takes_part) in loads.iter().zip(takes_part.chunks_exact_mut(essential.len())) {
        if is_zero(&load.natural) {
            continue;
        }
        for facet in &load.facets {
            let is_on = |e: &Essential| e.entities.binary_search_by_key(&place(facet), place).is_ok();
            let on: Vec<bool> = essential.iter().map(is_on).collect();
            let fixed = essential.iter().zip(&on).filter(|(_, on)| **on).fold(0, |all, (e, _)| all | bits(e));
            if fixed == all {
                takes_part.iter_mut().zip(&on).for_each(|(takes, on)| *takes |= u32::from(*on));
            }
        }
    }
    mesh.comm.max_slice(&mut takes_part);
    let mut warnings = Vec::new();
    for ((load, own), takes_part) in loads.iter().zip(loading).zip(takes_part.chunks_exact(essential.len())) {
        let mut others: Vec<String> = Vec::new();
        for (heading, _) in fixing.iter().zip(takes_part).filter(|(_, takes)| **takes != 0) {
            let name = format!("`[boundary.{}]`", quote_key(&heading.heading));
            if heading.heading != own.heading && !others.contains(&name) {
                others.push(name);
            }
        }
        let key = load.key.rsplit('.').next().unwrap_or(&load.key);
        let (own, fix) = (quote_key(&own.heading), if others.len() == 1 { "fixes" } else { "fix" });
        if !others.is_empty() {
            warnings.push(format!(
                "`{key}` of `[boundary.{own}]` has no effect where {} {fix} the whole field",
                others.join(", ")
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Shape;
    use crate::mesh::trees::{Trees, under_mpi};

    /// Length or area of a flat facet.
    fn measure(mesh: &Mesh, tag: &EntityTag) -> f64 {
        let block = &mesh.blocks[tag.block as usize];
        let nodes = block.nodes(tag.cell as usize);
        let listed = block.shape.facet_vertices(tag.local as usize);
        let x: Vec<[f64; 3]> = listed.iter().map(|&v| mesh.nodes[nodes[v as usize] as usize]).collect();
        let along = |i: usize, j: usize| -> [f64; 3] { std::array::from_fn(|d| x[j][d] - x[i][d]) };
        let length = |a: [f64; 3]| a.iter().map(|c| c * c).sum::<f64>().sqrt();
        if x.len() == 2 {
            return length(along(0, 1));
        }
        let (a, b) = (along(0, 2), along(1, 3));
        0.5 * length([0, 1, 2].map(|d| a[(d + 1) % 3] * b[(d + 2) % 3] - a[(d + 2) % 3] * b[(d + 1) % 3]))
    }

    /// Where a periodic side is finer than the other, each counts with its own facets, whichever of them are asked for.
    #[test]
    fn both_sides_of_a_seam_count() {
        let test = "run::conditions::tests::both_sides_of_a_seam_count";
        under_mpi(test, &[1, 2, 3], |comm| {
            for (shape, roots) in [(Shape::Quadrilateral, [4, 3, 1]), (Shape::Hexahedron, [3, 2, 2])] {
                let trees = Trees::varied(shape, roots, true, 2, 0.1);
                let mesh = trees.mesh(comm, |k| k * comm.size() / trees.leaves.len());
                let side = (roots[1] * if shape.dim() == 3 { roots[2] } else { 1 }) as f64;
                let mut hangs = false;
                for groups in [&[0u16, 1][..], &[0], &[1]] {
                    let tags: Vec<EntityTag> =
                        groups.iter().flat_map(|&g| mesh.tags_of(g).iter().copied()).collect();
                    hangs |= tags.iter().any(|t| {
                        let block = &mesh.blocks[t.block as usize];
                        let hang = block.hang(t.cell as usize);
                        hang.is_some_and(|(hang, _)| hang.has_facet(shape, t.local as usize))
                    });
                    let sum: f64 = distinct_facets(&mesh, &tags).iter().map(|f| measure(&mesh, &f.0)).sum();
                    let expected = side * groups.len() as f64;
                    let sum = comm.sum(sum);
                    assert!((sum - expected).abs() < 1e-12 * expected, "{shape} {groups:?}: {sum}");
                }
                assert!(comm.any(hangs), "{shape}: nothing hangs at the seam");
            }
            Vec::new()
        });
    }
}
