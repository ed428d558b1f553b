//! What a run reports of its solution: probes, integrals, the file for ParaView.

use std::collections::HashMap;
use std::path::Path;

use super::conditions;
use super::error::{Kind, RunError};
use super::mesh::groups_named;
use crate::assembly::{Constraints, Located, Nodal, Problem, RegionNodes, components};
use crate::case::{Case, FieldRef, Part, Quantity as Named};
use crate::element::{Lagrange, Nodes, vtk_cell_type, vtk_lagrange_order};
use crate::law::Quantity;
use crate::mesh::locate::Location;
use crate::mesh::{Mesh, geometry};
use crate::output::csv::{Cell, Table};
use crate::output::run_json::NamedValue;
use crate::output::vtkhdf::{self, Field, Piece, Values};

/// Everything a finished solve offers to reports.
pub struct Solved<'a> {
    /// The case.
    pub case: &'a Case,
    /// The law on its mesh.
    pub problem: &'a dyn Problem,
    /// The solution, ghosts included.
    pub u: &'a [f64],
    /// Reactions at owned nodes, Cartesian, zero where nothing is prescribed.
    pub reactions: &'a [f64],
    /// Region nodes.
    pub points: RegionNodes,
    cache: HashMap<Quantity, Nodal>,
}

/// The quantity a law computes for a name of the case.
fn quantity(named: Named) -> Option<Quantity> {
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
fn value_of(quantity: Quantity, part: Part, dim: usize, c: usize) -> Option<usize> {
    const AXES: [&str; 3] = ["x", "y", "z"];
    let name = match part {
        Part::All | Part::Normal => return None,
        Part::Component(i) => AXES[i].to_string(),
        Part::Entry(i, j) => format!("{}{}", AXES[i], AXES[j]),
    };
    components(quantity, dim, c).iter().position(|v| v.name == name)
}

impl<'a> Solved<'a> {
    /// Collects region nodes; quantities are computed when asked for. Collective.
    pub fn new(case: &'a Case, problem: &'a dyn Problem, u: &'a [f64], reactions: &'a [f64]) -> Solved<'a> {
        let points = RegionNodes::new(problem.discretisation());
        Solved { case, problem, u, reactions, points, cache: HashMap::new() }
    }

    /// A quantity at region nodes, computed once. Collective.
    fn nodal(&mut self, quantity: Quantity) -> Result<&Nodal, RunError> {
        if !self.cache.contains_key(&quantity) {
            let nodal = self.problem.nodal(&self.points, quantity, self.u)?;
            self.cache.insert(quantity, nodal);
        }
        Ok(&self.cache[&quantity])
    }

    fn unsupported(&self, what: &str, field: &FieldRef, place: crate::case::Place) -> RunError {
        let message = format!("{what} of `{}` is not available", field.name());
        RunError::at(self.case.error(place, what, message, None), &self.case.text)
    }

    /// Values at the case's points, found by [`locate_probes`]. Collective.
    ///
    /// # Errors
    /// A field that has no value at points.
    pub fn probes(&mut self, places: &[Location]) -> Result<Vec<NamedValue>, RunError> {
        let case = self.case;
        let mesh = self.problem.discretisation().mesh;
        let (dim, c) = (mesh.dim, self.problem.components());
        let mut out = Vec::new();
        for (probe, &place) in case.probes.iter().zip(places) {
            let values = if probe.field.quantity == Named::Rank {
                vec![if matches!(place, Location::Here(_)) { mesh.comm.rank() as f64 } else { 0.0 }]
            } else {
                let Some(q) = quantity(probe.field.quantity) else {
                    return Err(self.unsupported("probe", &probe.field, probe.place));
                };
                self.nodal(q)?;
                let nodal = &self.cache[&q];
                let all = match place {
                    Location::Here(p) => {
                        self.problem.at_point(&self.points, nodal, p.block, p.cell, p.reference)
                    }
                    _ => vec![0.0; nodal.width],
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
    pub fn integrals(&mut self) -> Result<Vec<NamedValue>, RunError> {
        let case = self.case;
        let d = self.problem.discretisation();
        let mesh = d.mesh;
        let (dim, c) = (mesh.dim, self.problem.components());
        let mut out = Vec::new();
        for integral in &case.integrals {
            // Where: facets of a heading or a group of facets, cells of a group, or everything.
            let heading =
                integral.over.as_ref().and_then(|o| case.boundaries.iter().find(|b| b.heading == o.text));
            let mut tags = Vec::new();
            let mut sets: Option<Vec<bool>> = None;
            let mut on_boundary = false;
            if let Some(over) = &integral.over {
                let cells = groups_named(&mesh.groups, Some(dim), &over.text);
                if let Some(boundary) = heading {
                    tags = conditions::tags_of(mesh, boundary);
                    on_boundary = true;
                } else if cells.is_empty() {
                    for g in groups_named(&mesh.groups, None, &over.text) {
                        tags.extend_from_slice(mesh.tags_of(g));
                    }
                    on_boundary = true;
                } else {
                    sets = Some(mesh.sets.iter().map(|s| s.iter().any(|g| cells.contains(g))).collect());
                }
            }
            let fail = |this: &Self| this.unsupported("integral", &integral.of, integral.place);
            if integral.of.quantity == Named::Reaction {
                if !on_boundary && integral.over.is_some() {
                    return Err(fail(self));
                }
                let mut sum = vec![0.0; c];
                let n_owned = d.space.map.n_owned();
                let mut seen = vec![integral.over.is_none(); n_owned];
                for tag in &tags {
                    let (b, cell) = (tag.block as usize, tag.cell as usize);
                    let nodes = d.space.nodes(b, cell);
                    for &k in d.space.elements[b].closure_nodes(tag.dim as usize, tag.local as usize) {
                        if let Some(seen) = seen.get_mut(nodes[k as usize] as usize) {
                            *seen = true;
                        }
                    }
                }
                for (node, _) in seen.iter().enumerate().filter(|(_, s)| **s) {
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
            let which: Vec<Located> = match integral.of.part {
                Part::Normal if on_boundary => vec![Located::Normal],
                Part::Normal => return Err(fail(self)),
                Part::All => (0..width).map(Located::Value).collect(),
                part => vec![Located::Value(value_of(q, part, dim, c).ok_or_else(|| fail(self))?)],
            };
            let facets: Vec<_> = conditions::distinct_facets(mesh, &tags).into_iter().map(|f| f.0).collect();
            if on_boundary && mesh.comm.sum(facets.len() as u64) == 0 {
                return Err(fail(self));
            }
            let mut values = Vec::new();
            for which in which {
                let part = match (on_boundary, which) {
                    (true, which) => self.problem.integrate_facets(q, which, &facets, self.u),
                    (false, Located::Value(k)) => {
                        let keep = |b: usize, cell: usize| {
                            sets.as_ref().is_none_or(|s| s[mesh.blocks[b].sets[cell] as usize])
                        };
                        self.problem.integrate_cells(q, k, self.u, &keep)
                    }
                    (false, Located::Normal) => return Err(fail(self)),
                };
                values.push(mesh.comm.agree(part)?);
            }
            mesh.comm.sum_slice(&mut values);
            out.push(NamedValue { name: integral.name.clone(), value: values });
        }
        Ok(out)
    }

    /// Writes the solution for ParaView: Lagrange cells of the space's degree, one partition a rank.
    /// Collective.
    pub fn write(&mut self, path: &Path) -> Result<(), RunError> {
        let case = self.case;
        let d = self.problem.discretisation();
        let (mesh, space) = (d.mesh, d.space);
        let (dim, c) = (mesh.dim, self.problem.components());
        let degree = space.degree;
        // The file's nodes are equidistant, the space's are not: values are interpolated cell by cell.
        let fail = |e: crate::element::Error| RunError::new(Kind::Bug, "output", e.to_string());
        let mut elements = Vec::new();
        for block in &mesh.blocks {
            elements.push(Lagrange::new(block.shape, degree, Nodes::Equispaced).map_err(fail)?);
        }
        let n_points = self.points.node.len();
        let mut x = vec![[0.0; 3]; n_points];
        let (mut connectivity, mut offsets, mut types) = (Vec::new(), vec![0u64], Vec::new());
        let mut coordinates = Vec::new();
        let mut owners: Vec<i32> = Vec::new();
        let mut regions: Vec<i32> = Vec::new();
        for (b, block) in mesh.blocks.iter().enumerate() {
            let order = vtk_lagrange_order(block.shape, degree);
            let table = geometry::basis(block).tabulate(elements[b].nodes(), 0);
            let n = elements[b].n_nodes();
            for cell in 0..block.n_owned {
                coordinates.clear();
                mesh.cell_coordinates(block, cell, &mut coordinates);
                let local = &self.points.cell_to_point[b][cell * n..][..n];
                for (k, &p) in local.iter().enumerate() {
                    x[p as usize] = geometry::image(&table, k, &coordinates);
                }
                connectivity.extend(order.iter().map(|&k| local[k as usize]));
                offsets.push(connectivity.len() as u64);
                types.push(vtk_cell_type(block.shape, degree));
                owners.push(mesh.comm.rank() as i32);
                let set = &mesh.sets[block.sets[cell] as usize];
                regions.push(set.first().map_or(0, |&g| mesh.groups[g as usize].tag));
            }
        }
        let mut arrays: Vec<(String, usize, Vec<f64>)> = Vec::new();
        let mut with_rank = false;
        for field in &case.output.fields {
            if field.quantity == Named::Rank {
                with_rank = true;
                continue;
            }
            if field.quantity == Named::Reaction {
                let mut all = self.reactions.to_vec();
                all.resize(space.map.n_local() * c, 0.0);
                space.halo.forward(&mut all, c);
                let width = if c == 1 { 1 } else { 3 };
                let mut values = vec![0.0; n_points * width];
                for (value, &v) in values.chunks_exact_mut(width).zip(&self.points.node) {
                    value[..c].copy_from_slice(&all[v as usize * c..][..c]);
                }
                arrays.push((field.name(), width, values));
                continue;
            }
            let Some(q) = quantity(field.quantity) else {
                return Err(self.unsupported("output.fields", field, crate::case::Place::Default));
            };
            self.nodal(q)?;
            let nodal = &self.cache[&q];
            let equidistant = self.to_equidistant(nodal, &elements);
            let pick = value_of(q, field.part, dim, c);
            // Vectors have three entries for VTK, whatever the dimension.
            let (width, place): (usize, Box<dyn Fn(usize) -> usize>) = match (q, nodal.width) {
                _ if pick.is_some() => (1, Box::new(|_| 0)),
                (_, 1) => (1, Box::new(|k| k)),
                (Quantity::Gradient, w) if c > 1 && w > 1 => (9, Box::new(move |k| (k / dim) * 3 + k % dim)),
                (_, w) if w <= 3 => (3, Box::new(|k| k)),
                (_, w) => (w, Box::new(|k| k)),
            };
            let mut values = vec![0.0; n_points * width];
            for (to, from) in values.chunks_exact_mut(width).zip(equidistant.chunks_exact(nodal.width)) {
                match pick {
                    Some(k) => to[0] = from[k],
                    None => from.iter().enumerate().for_each(|(k, v)| to[place(k)] = *v),
                }
            }
            arrays.push((field.name().replace('.', "_"), width, values));
        }
        let point_fields: Vec<Field> = arrays
            .iter()
            .map(|(name, width, values)| Field {
                name: name.clone(),
                components: *width,
                values: Values::F64(values),
            })
            .collect();
        let mut cell_fields =
            vec![Field { name: "region".into(), components: 1, values: Values::I32(&regions) }];
        if with_rank {
            cell_fields.push(Field { name: "rank".into(), components: 1, values: Values::I32(&owners) });
        }
        let piece = Piece {
            points: &x,
            connectivity: &connectivity,
            offsets: &offsets,
            types: &types,
            point_fields: &point_fields,
            cell_fields: &cell_fields,
        };
        Ok(vtkhdf::write(&mesh.comm, path, &piece)?)
    }

    fn to_equidistant(&self, nodal: &Nodal, elements: &[Lagrange]) -> Vec<f64> {
        let d = self.problem.discretisation();
        if d.space.degree <= 2 {
            return nodal.values.clone();
        }
        let w = nodal.width;
        let mut out = vec![0.0; nodal.values.len()];
        for (b, element) in elements.iter().enumerate() {
            let table = d.space.elements[b].tabulate(element.nodes(), 0);
            let n = element.n_nodes();
            for local in self.points.cell_to_point[b].chunks_exact(n) {
                for (k, &to) in local.iter().enumerate() {
                    let row = &table.values[k * n..][..n];
                    for value in 0..w {
                        out[to as usize * w + value] = local
                            .iter()
                            .zip(row)
                            .map(|(&from, phi)| phi * nodal.values[from as usize * w + value])
                            .sum();
                    }
                }
            }
        }
        out
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
