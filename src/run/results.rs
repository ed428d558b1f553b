//! What a run reports of its solution: probes, integrals, reactions. The file for ParaView is written in
//! [`super::solution_file`]. Start at [`Solved`].

use std::cmp::Ordering;

use super::conditions;
use super::error::RunError;
use super::mesh::groups_named;
use crate::assembly::{Constraints, ExactErrors, Located, Nodal, Problem, RegionNodes, components};
use crate::case::{Case, FieldRef, Integral, Part, Quantity as Named};
use crate::law::Quantity;
use crate::mesh::locate::{Location, Place};
use crate::mesh::{EntityTag, Group, Mesh};
use crate::output::csv::{Cell, Table};
use crate::output::run_json::{ErrorsReport, NamedValue};

impl From<ExactErrors> for ErrorsReport {
    fn from(errors: ExactErrors) -> ErrorsReport {
        ErrorsReport { l2: errors.l2, h1: errors.h1, ..ErrorsReport::default() }
    }
}

/// Everything a finished solve offers to reports.
pub struct Solved<'a> {
    /// The case.
    pub case: &'a Case,
    /// The law on its mesh.
    pub problem: &'a dyn Problem,
    /// The solution, ghosts included.
    pub u: &'a [f64],
    /// Reactions at owned nodes, Cartesian, zero where nothing is prescribed; empty where no report asks.
    pub reactions: &'a [f64],
    /// Squares of the error indicators of owned cells, block after block; empty where there are none.
    pub indicators: &'a [f64],
    /// Region nodes.
    pub points: RegionNodes,
    /// Averages of all quantities that reports ask for.
    nodal: Option<Nodal>,
}

/// Where the values of a field at region nodes stand, as rows by node or by pair.
pub(super) struct Source<'a> {
    table: &'a [f64],
    stride: usize,
    columns: std::ops::Range<usize>,
    by_node: bool,
    /// The von Mises stress is that of the averaged stress, so that the file's fields agree with each
    /// other.
    von_mises: bool,
}

/// The most values a quantity has.
pub(super) const MOST: usize = 9;

impl<'a> Source<'a> {
    /// A table by local node, `width` values a row.
    pub(super) fn by_node(table: &'a [f64], width: usize) -> Source<'a> {
        Source { table, stride: width, columns: 0..width, by_node: true, von_mises: false }
    }

    /// How many values a row has.
    pub(super) fn width(&self) -> usize {
        if self.von_mises { 1 } else { self.columns.len() }
    }

    /// The values at a pair.
    #[inline]
    pub(super) fn row(&self, points: &RegionNodes, pair: u32) -> [f64; MOST] {
        let row = if self.by_node { points.node(pair) } else { pair };
        let from = &self.table[row as usize * self.stride..][self.columns.clone()];
        let mut out = [0.0; MOST];
        if self.von_mises {
            out[0] = crate::law::von_mises(from.try_into().expect("six values"));
        } else {
            out[..from.len()].copy_from_slice(from);
        }
        out
    }
}

/// The quantity a law computes for a name of the case.
pub(super) fn quantity(named: Named) -> Option<Quantity> {
    match named {
        Named::Solution => Some(Quantity::Solution),
        Named::Gradient => Some(Quantity::Gradient),
        Named::Flux => Some(Quantity::Flux),
        Named::Strain => Some(Quantity::Strain),
        Named::Stress => Some(Quantity::Stress),
        Named::VonMises => Some(Quantity::VonMises),
        Named::Reaction | Named::Indicator | Named::Rank => None,
    }
}

/// Which of a quantity's values a part names; `None` for all of them.
pub(super) fn value_of(quantity: Quantity, part: Part, dim: usize, c: usize) -> Option<usize> {
    const AXES: [&str; 3] = ["x", "y", "z"];
    let name = match part {
        Part::All | Part::Normal => return None,
        Part::Component(i) => AXES[i].to_string(),
        Part::Entry(i, j) => format!("{}{}", AXES[i], AXES[j]),
    };
    let all = components(quantity, dim, c);
    // In one dimension a vector's only value has no name.
    let only = all.len() == 1 && matches!(part, Part::Component(0) | Part::Entry(0, 0));
    if only { Some(0) } else { all.iter().position(|v| v.name == name) }
}

impl<'a> Solved<'a> {
    /// Collects region nodes and averages, in one pass, what probes ask for and, if it `writes`, the file.
    /// Collective.
    ///
    /// # Errors
    /// A coefficient that is not a number at a node, the same error on every rank.
    pub fn new(
        case: &'a Case,
        problem: &'a dyn Problem,
        u: &'a [f64],
        reactions: &'a [f64],
        indicators: &'a [f64],
        writes: bool,
    ) -> Result<Solved<'a>, RunError> {
        let points = RegionNodes::new(problem.discretisation());
        let written = case.output.fields.iter().filter(|_| writes);
        let mut averaged = Vec::new();
        for field in case.probes.iter().map(|p| &p.field).chain(written) {
            let wanted = match quantity(field.quantity) {
                None | Some(Quantity::Solution) => continue,
                Some(Quantity::VonMises) => Quantity::Stress,
                Some(other) => other,
            };
            if !averaged.contains(&wanted) && problem.n_values(wanted).is_some() {
                averaged.push(wanted);
            }
        }
        let nodal = if averaged.is_empty() { None } else { Some(problem.nodal(&points, &averaged, u)?) };
        Ok(Solved { case, problem, u, reactions, indicators, points, nodal })
    }

    /// Where a quantity's values stand; `None` when the law does not have it.
    pub(super) fn source(&self, quantity: Quantity) -> Option<Source<'_>> {
        if quantity == Quantity::Solution {
            return Some(Source::by_node(self.u, self.problem.components()));
        }
        let von_mises = quantity == Quantity::VonMises;
        let averaged = if von_mises { Quantity::Stress } else { quantity };
        let (table, stride, columns) = self.nodal.as_ref()?.rows(averaged)?;
        Some(Source { table, stride, columns, by_node: false, von_mises })
    }

    /// A quantity at a point of an owned cell: interpolated by the space's basis.
    fn at_point(&self, source: &Source, place: Place) -> Vec<f64> {
        let d = self.problem.discretisation();
        let Place { block, cell, reference } = place;
        let table = d.space.elements[block].tabulate(&[reference], 0);
        let mut out = vec![0.0; source.width()];
        let mut rows = Vec::new();
        self.rows_of_cell(source, block, cell, &mut rows);
        for (row, phi) in rows.iter().zip(&table.values) {
            out.iter_mut().zip(row).for_each(|(out, value)| *out += phi * value);
        }
        out
    }

    /// The error indicator of an owned cell.
    pub(super) fn indicator(&self, block: usize, cell: usize) -> f64 {
        let blocks = &self.problem.discretisation().mesh.blocks[..block];
        let before: usize = blocks.iter().map(|b| b.n_owned).sum();
        self.indicators.get(before + cell).map_or(0.0, |squared| squared.sqrt())
    }

    /// A quantity at the nodes of a cell.
    pub(super) fn rows_of_cell(&self, source: &Source, b: usize, cell: usize, rows: &mut Vec<[f64; MOST]>) {
        let d = self.problem.discretisation();
        let set = d.mesh.blocks[b].sets[cell];
        rows.clear();
        let nodes = d.space.nodes(b, cell).iter();
        rows.extend(nodes.map(|&v| source.row(&self.points, self.points.pair(v, set) as u32)));
        if let Some(hanging) = d.space.interpolation(b, cell) {
            hanging.gather(rows.as_flattened_mut(), MOST, &mut Vec::new());
        }
    }

    pub(super) fn unsupported(&self, what: &str, field: &FieldRef, place: crate::case::Place) -> RunError {
        let message = format!("{what} of `{}` is not available", field.name());
        RunError::at(self.case.error(place, what, message, None), &self.case.text)
    }

    /// Values at the case's points, found by [`locate_probes`]. Collective.
    ///
    /// # Errors
    /// A field that has no value at points.
    pub fn probes(&self, places: &[Location]) -> Result<Vec<NamedValue>, RunError> {
        let case = self.case;
        let mesh = self.problem.discretisation().mesh;
        let (dim, c) = (mesh.dim, self.problem.components());
        let mut out = Vec::new();
        for (probe, &place) in case.probes.iter().zip(places) {
            let values = if probe.field.quantity == Named::Rank {
                vec![if matches!(place, Location::Here(_)) { mesh.comm.rank() as f64 } else { 0.0 }]
            } else if probe.field.quantity == Named::Indicator {
                vec![if let Location::Here(at) = place { self.indicator(at.block, at.cell) } else { 0.0 }]
            } else {
                let found = quantity(probe.field.quantity).and_then(|q| Some((q, self.source(q)?)));
                let Some((q, source)) = found else {
                    return Err(self.unsupported("probe", &probe.field, probe.place));
                };
                let all = match place {
                    Location::Here(place) => self.at_point(&source, place),
                    _ => vec![0.0; source.width()],
                };
                match value_of(q, probe.field.part, dim, c) {
                    Some(k) => vec![all[k]],
                    None if probe.field.part == Part::All => all,
                    None => return Err(self.unsupported("probe", &probe.field, probe.place)),
                }
            };
            let mut values = values;
            mesh.comm.sum_slice(&mut values);
            out.push(NamedValue { name: probe.name.clone(), value: values });
        }
        Ok(out)
    }

    /// Integrals of the case. Collective.
    ///
    /// # Errors
    /// A field that cannot be integrated there.
    pub fn integrals(&self) -> Result<Vec<NamedValue>, RunError> {
        let case = self.case;
        let d = self.problem.discretisation();
        let mesh = d.mesh;
        let (dim, c) = (mesh.dim, self.problem.components());
        let mut out = Vec::new();
        for integral in &case.integrals {
            let domain = Domain::of(case, mesh, integral);
            let Domain { tags, sets, on_boundary } = &domain;
            let on_boundary = *on_boundary;
            let fail = |this: &Self| this.unsupported("integral", &integral.of, integral.place);
            if integral.of.quantity == Named::Reaction {
                if !on_boundary && integral.over.is_some() {
                    return Err(fail(self));
                }
                let mut sum = vec![0.0; c];
                let on = integral.over.as_ref().map(|_| d.space.owned_on(tags));
                let counts = |node: &usize| on.as_ref().is_none_or(|on| on[*node]);
                for node in (0..d.space.map.n_owned()).filter(counts) {
                    (0..c).for_each(|k| sum[k] += self.reactions[node * c + k]);
                }
                mesh.comm.sum_slice(&mut sum);
                let value = match integral.of.part {
                    Part::Component(i) if i < c => vec![sum[i]],
                    Part::All => sum,
                    _ => return Err(fail(self)),
                };
                out.push(NamedValue { name: integral.name.clone(), value });
                continue;
            }
            let Some(q) = quantity(integral.of.quantity) else { return Err(fail(self)) };
            let width = self.problem.n_values(q).ok_or_else(|| fail(self))?;
            let (what, which) = match integral.of.part {
                Part::Normal if on_boundary => (Located::Normal, 0..1),
                Part::Normal => return Err(fail(self)),
                Part::All => (Located::Values, 0..width),
                part => {
                    let k = value_of(q, part, dim, c).ok_or_else(|| fail(self))?;
                    (Located::Values, k..k + 1)
                }
            };
            let [facets, against] = domain.facets(mesh, integral.of.part);
            if on_boundary && !mesh.comm.any(!facets.is_empty() || !against.is_empty()) {
                return Err(fail(self));
            }
            let over = |facets: &[EntityTag]| self.problem.integrate_facets(q, what, facets, self.u);
            let all = if on_boundary && what == Located::Normal {
                let (along, against) = (over(&facets), over(&against));
                along.and_then(|along| Ok(vec![along[0] - against?[0]]))
            } else if on_boundary {
                over(&facets)
            } else {
                let keep = |b: usize, cell: usize| {
                    sets.as_ref().is_none_or(|s| s[mesh.blocks[b].sets[cell] as usize])
                };
                self.problem.integrate_cells(q, self.u, &keep)
            };
            let mut values = mesh.comm.agree(all)?[which].to_vec();
            mesh.comm.sum_slice(&mut values);
            out.push(NamedValue { name: integral.name.clone(), value: values });
        }
        Ok(out)
    }
}

/// Refuses what goes along a normal over facets that have one region on both sides. Collective.
pub(super) fn check_normals(case: &Case, mesh: &Mesh) -> Result<(), RunError> {
    for integral in case.integrals.iter().filter(|integral| integral.of.part == Part::Normal) {
        let tags = Domain::of(case, mesh, integral).tags;
        let facets = conditions::distinct_facets(mesh, &tags);
        if mesh.comm.any(facets.iter().any(|f| f.regions == Ordering::Equal)) {
            let of = integral.of.name();
            let message =
                format!("`{of}` over facets inside one region has no sign: a normal points either way");
            let help =
                "give the cells of the two sides groups of their own, or name a component, as in `flux.x`"
                    .into();
            let error = case.error(integral.place, "integral.of", message, Some(help));
            return Err(RunError::at(error, &case.text));
        }
    }
    Ok(())
}

/// Where an integral is taken: facets of a heading or a group of facets, cells of a group, or everything.
pub(super) struct Domain {
    /// Entities of the boundary, on owned and ghost cells.
    pub tags: Vec<EntityTag>,
    /// Per set of groups: whether its cells count; `None` where all do.
    pub sets: Option<Vec<bool>>,
    /// Whether it is taken over facets.
    pub on_boundary: bool,
}

/// The groups of cells that a name means: those of a region's heading, else those that have the name.
pub(super) fn cell_groups(case: &Case, groups: &[Group], dim: usize, name: &str) -> Vec<u16> {
    match case.regions.iter().find(|region| region.heading == name) {
        Some(region) => region.on.iter().flat_map(|on| groups_named(groups, Some(dim), &on.text)).collect(),
        None => groups_named(groups, Some(dim), name),
    }
}

impl Domain {
    /// That of an integral of the case. Collective.
    pub(super) fn of(case: &Case, mesh: &Mesh, integral: &Integral) -> Domain {
        let mut domain = Domain { tags: Vec::new(), sets: None, on_boundary: false };
        let Some(over) = &integral.over else { return domain };
        let cells = cell_groups(case, &mesh.groups, mesh.dim, &over.text);
        if let Some(boundary) = case.boundaries.iter().find(|b| b.heading == over.text) {
            domain.tags = conditions::tags_of(mesh, boundary);
            domain.on_boundary = true;
        } else if cells.is_empty() {
            domain.tags = conditions::tags_of_groups(mesh, &groups_named(&mesh.groups, None, &over.text));
            domain.on_boundary = true;
        } else {
            domain.sets = Some(mesh.sets.iter().map(|s| s.iter().any(|g| cells.contains(g))).collect());
        }
        domain
    }

    /// Its facets, each once over all ranks. For what goes along the normal by the way their own normals point, along that
    /// of the integral and against it: between two regions that is the one out of the region with the lesser tag.
    pub(super) fn facets(&self, mesh: &Mesh, part: Part) -> [Vec<EntityTag>; 2] {
        let facets = conditions::distinct_facets(mesh, &self.tags);
        let (against, along): (Vec<_>, Vec<_>) =
            facets.into_iter().partition(|f| part == Part::Normal && f.regions == Ordering::Greater);
        [along, against].map(|facets| facets.into_iter().map(|f| f.tag).collect())
    }
}

/// Reactions at owned nodes, Cartesian: the residual's part along prescribed directions.
pub fn reactions(residual: &[f64], constraints: &Constraints, c: usize) -> Vec<f64> {
    let mut out = vec![0.0; residual.len()];
    for node in 0..residual.len() / c {
        for direction in constraints.directions(node) {
            let part: f64 = (0..c).map(|k| residual[node * c + k] * direction[k]).sum();
            (0..c).for_each(|k| out[node * c + k] += part * direction[k]);
        }
    }
    out
}

/// Finds the cells of the case's probes. Collective.
///
/// # Errors
/// A point outside the mesh, with the nearest node.
pub fn locate_probes(case: &Case, mesh: &Mesh) -> Result<Vec<Location>, RunError> {
    if case.probes.is_empty() {
        return Ok(Vec::new());
    }
    let pad = |at: &[f64]| [0, 1, 2].map(|k| at.get(k).copied().unwrap_or(0.0));
    let points: Vec<[f64; 3]> = case.probes.iter().map(|p| pad(&p.at)).collect();
    let places = mesh.locate(&points);
    for (probe, place) in case.probes.iter().zip(&places) {
        if let Location::Outside { nearest } = place {
            let show = |x: &[f64]| x.iter().map(|x| format!("{x:.9}")).collect::<Vec<_>>().join(", ");
            let message = format!("probe \"{}\" at ({}) lies outside the mesh", probe.name, show(&probe.at));
            let help = Some(format!("the nearest node is at ({})", show(&nearest[..mesh.dim])));
            return Err(RunError::at(case.error(probe.place, "probe.at", message, help), &case.text));
        }
    }
    Ok(places)
}

/// Writes `probes.csv`: a column for the time, then one for each value.
pub fn write_probes(case: &Case, probes: &[NamedValue]) -> Result<(), RunError> {
    if probes.is_empty() {
        return Ok(());
    }
    let mut columns = vec!["time".to_string()];
    let mut cells = vec![Cell::Number(0.0)];
    for probe in probes {
        for (k, value) in probe.value.iter().enumerate() {
            columns.push(if probe.value.len() == 1 {
                probe.name.clone()
            } else {
                format!("{}[{k}]", probe.name)
            });
            cells.push(Cell::Number(*value));
        }
    }
    let mut table = Table::create(&case.output_dir.join("probes.csv"), &columns)?;
    Ok(table.row(&cells)?)
}
