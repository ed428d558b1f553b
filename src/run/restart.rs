//! Going on from a checkpoint: which one, whether the case still fits, and what it holds.
//!
//! Imports its siblings. Start at [`find`] and [`resume`]. What makes the mesh and the unknowns must be as it was;
//! loads, coefficients, tolerances, limits, marking, the solver and the output may change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::Comm;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkpoint::SavedState;
use super::conditions;
use super::error::{Kind, RunError};
use super::mesh::{partition_of, periodic_pairs};
use crate::adapt::balance;
use crate::case::{Case, MeshSource, Place};
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Forest};
use crate::mesh::saved::{self, Array, Entries, Loading};
use crate::mesh::{Mesh, MeshError};
use crate::output::OutputError;
use crate::output::checkpoint::{self, Checkpoint, Table};
use crate::output::hdf::Column;
use crate::output::mesh_store;
use crate::output::run_json::PartitionReport;

/// From where a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    /// From this checkpoint.
    File(PathBuf),
    /// From the newest checkpoint of the output directory that can be read; afresh where there is none.
    Auto,
}

/// What a case must have in common with a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fits {
    law: String,
    degree: usize,
    /// The hash of the mesh file, or the box in words.
    source: String,
    /// Where the mesh came from, for people.
    from: String,
    scale: f64,
    refine: usize,
}

impl Fits {
    /// Those of a case. Collective.
    ///
    /// # Errors
    /// A mesh file that cannot be read.
    pub(super) fn of(comm: &Comm, case: &Case) -> Result<Fits, RunError> {
        let (source, from) = match &case.mesh.source {
            MeshSource::File(path) => (mesh_store::hash_file(comm, path)?, path.display().to_string()),
            MeshSource::Box(b) => {
                let text = format!("{:?} {:?} {} {:?}", b.size, b.cells, b.shape.name(), b.origin);
                (text, "a box".to_owned())
            }
        };
        Ok(Fits {
            law: case.physics.law.name().to_owned(),
            degree: case.degree,
            source,
            from,
            scale: case.mesh.scale,
            refine: case.mesh.refine,
        })
    }
}

/// What a run goes on with.
pub(super) struct Resumed {
    pub(super) mesh: Mesh,
    /// Of an adaptive mesh.
    pub(super) forest: Option<Forest>,
    pub(super) partition: PartitionReport,
    /// The solution at each owned cell's own nodes; `None` of a run that was stopped before it had any.
    pub(super) start: Option<Vec<f64>>,
    /// What the driver remembered.
    pub(super) driver: Option<Value>,
    /// Whether every rank has again what it had.
    pub(super) exact: bool,
    /// The entry of run.json.
    pub(super) note: Value,
}

/// The same failure, of a checkpoint.
fn unusable(error: &OutputError) -> RunError {
    let file = error.path().map(|p| p.display().to_string().into());
    let message = format!("the checkpoint cannot be used: {error}");
    RunError { file, ..RunError::new(Kind::Input, error.kind(), message) }
}

/// Reads the checkpoint that is asked for. `None` where there is none to go on from. Collective.
///
/// # Errors
/// A file that cannot be used, the same on every rank.
pub(super) fn find(
    comm: &Comm,
    case: &Case,
    restart: &Restart,
    warnings: &mut Vec<String>,
) -> Result<Option<(PathBuf, Checkpoint)>, RunError> {
    let path = match restart {
        Restart::File(path) => path,
        Restart::Auto => {
            let list = comm.is_root().then(|| checkpoint::list(&case.output_dir));
            for (_, path) in comm.broadcast_value(0, list).into_iter().rev() {
                match checkpoint::read(comm, &path) {
                    Ok(read) => return Ok(Some((path, read))),
                    Err(error) => warnings.push(format!("a checkpoint was passed over: {error}")),
                }
            }
            return Ok(None);
        }
    };
    match checkpoint::read(comm, path) {
        Ok(read) => Ok(Some((path.clone(), read))),
        Err(error) => Err(unusable(&error)),
    }
}

/// Checks that the case fits a checkpoint and makes mesh, forest and start from it. Collective.
///
/// # Errors
/// What does not fit, with the key of the case that says otherwise; a checkpoint that contradicts itself. The same
/// on every rank.
pub(super) fn resume(comm: &Comm, case: &Case, path: &Path, read: Checkpoint) -> Result<Resumed, RunError> {
    let damaged = |what: String| unusable(&OutputError::Corrupt { path: path.to_path_buf(), what });
    let in_file = |e: MeshError| match e {
        MeshError::Saved(what) => damaged(format!("it has {what}")),
        other => other.into(),
    };
    let Checkpoint { femdd, n_ranks, state, tables, firsts } = read;
    let state: SavedState =
        serde_json::from_value(state).map_err(|e| damaged(format!("its state does not parse: {e}")))?;
    let mine = Fits::of(comm, case)?;
    check(case, path, &state, &mine)?;

    let names: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
    let (fields, rest): (Vec<Table>, Vec<Table>) =
        tables.into_iter().partition(|table| table.name.starts_with("fields/"));
    let array = |table: Table| {
        let entries = match table.column {
            Column::U32(v) => Entries::U32(v),
            Column::U64(v) => Entries::U64(v),
            Column::F64(v) => Entries::F64(v),
            _ => return None,
        };
        Some((table.name.clone(), Array { name: table.name, width: table.width, entries }))
    };
    let loading = Loading {
        comm: comm.clone(),
        outline: state.outline.clone(),
        arrays: rest.into_iter().filter_map(array).collect(),
        firsts: names.into_iter().zip(firsts).collect(),
    };
    let field = state.fields.iter().find(|field| field.name == case.physics.law.field());
    let values = match field {
        None => None,
        Some(field) => {
            let mut parts = Vec::new();
            for (b, &width) in field.widths.iter().enumerate() {
                let name = format!("fields/{}/{b}", field.name);
                let table = fields.iter().find(|t| t.name == name && t.width == width);
                match table.map(|t| &t.column) {
                    Some(Column::F64(v)) => parts.push(v.clone()),
                    _ => return Err(damaged(format!("{name} is missing"))),
                }
            }
            Some((parts, field.widths.as_slice()))
        }
    };
    drop(fields);
    let changed = differences(&state.case, &case.resolved());
    let note = json!({
        "file": path.display().to_string(), "femdd": femdd, "ranks": n_ranks, "step": state.step,
        "reason": state.reason, "exact": loading.same_ranks(), "changed": changed,
    });
    let taken = if state.outline.forest {
        of_forest(comm, case, &loading, values)
    } else {
        of_mesh(comm, &loading, values)
    };
    let Taken { mesh, forest, partition, start, exact } = taken.map_err(in_file)?;
    Ok(Resumed { mesh, forest, partition, start, driver: state.driver, exact, note })
}

/// What comes out of arrays.
struct Taken {
    mesh: Mesh,
    forest: Option<Forest>,
    partition: PartitionReport,
    start: Option<Vec<f64>>,
    exact: bool,
}

/// Values of a field by block, and values a cell.
type Values<'v> = Option<(Vec<Vec<f64>>, &'v [usize])>;

fn of_mesh(comm: &Comm, loading: &Loading, values: Values) -> Result<Taken, MeshError> {
    let mut method = "checkpoint".to_owned();
    let (mesh, exact) = saved::load_mesh(loading, &mut |draft| {
        if comm.size() == 1 {
            return Ok(vec![0; draft.n_cells()]);
        }
        let dealt = draft.partition(comm.size(), &partition::Options::default())?;
        method = dealt.method;
        Ok(dealt.owner)
    })?;
    let fits = values.as_ref().is_none_or(|(parts, _)| parts.len() == mesh.blocks.len());
    if !fits {
        return Err(MeshError::Saved("values of other blocks than those of the mesh".into()));
    }
    let start = match values {
        None => None,
        Some((parts, _)) if exact => {
            let start = parts.concat();
            Some(start)
        }
        Some((parts, widths)) => Some(saved::values_of_cells(&mesh, loading, &parts, widths)?),
    };
    let partition = reported(comm, partition_of(&mesh, &method));
    Ok(Taken { mesh, forest: None, partition, start, exact })
}

fn of_forest(comm: &Comm, case: &Case, loading: &Loading, values: Values) -> Result<Taken, MeshError> {
    let loaded = Forest::load(loading)?;
    let mut forest = loaded.forest;
    let n = forest.n_leaves();
    let mut carried = Carried::new();
    let mut carries = false;
    if let Some((mut parts, widths)) = values {
        let width = widths.first().copied().unwrap_or(1);
        let mut own = parts.pop().unwrap_or_default();
        let whole = own.len() == n * width;
        comm.agree(if whole { Ok(()) } else { Err(MeshError::Saved("values of other cells".into())) })?;
        if let Some(order) = &loaded.order {
            own = order.iter().flat_map(|&k| &own[k as usize * width..][..width]).copied().collect();
        }
        let per_node = case.physics.law.n_components(loading.outline.dim);
        carried.add_nodal(case.degree, per_node, own);
        carries = true;
    }
    let exact = loaded.order.is_none();
    let mut mesh = forest.mesh()?;
    let mut method = "checkpoint".to_owned();
    if !exact && comm.size() > 1 {
        let facets = Facets::new(&mesh);
        let failed = |e: partition::Error| MeshError::Partition(e.to_string());
        let graph = balance::graph(&mesh, &facets, &vec![1.0; n]).map_err(failed)?;
        let options = partition::Options::default();
        let found = partition::partition(comm, &graph, comm.size(), &options).map_err(failed)?;
        method = found.method;
        drop(facets);
        forest.migrate(&found.owner, &mut carried)?;
        mesh = forest.mesh()?;
    }
    let start = carries.then(|| carried.take(0));
    let mut partition = partition_of(&mesh, &method);
    if comm.size() > 1 {
        partition.edge_cut = balance::edge_cut(&mesh, &Facets::new(&mesh));
    }
    Ok(Taken { mesh, forest: Some(forest), partition: reported(comm, partition), start, exact })
}

fn reported(comm: &Comm, partition: PartitionReport) -> PartitionReport {
    match comm.size() {
        1 => PartitionReport { imbalance: 1.0, edge_cut: 0, method: "none".into() },
        _ => partition,
    }
}

/// Whether the case has what makes mesh and unknowns in common with the checkpoint.
fn check(case: &Case, path: &Path, state: &SavedState, mine: &Fits) -> Result<(), RunError> {
    let Fits { law, degree, source, from, scale, refine } = &state.fits;
    let other = |key: &str, was: &str, now: &str| {
        let message = format!("`{key}` is {now}, the checkpoint {} was made with {was}", path.display());
        let help = Some(format!("go on with {was}, or start afresh without --restart"));
        let error = case.error(Place::Default, key, message, help);
        Err(RunError { what: "restart".into(), ..RunError::at(error, &case.text) })
    };
    if *law != mine.law {
        return other("physics.law", law, &mine.law);
    }
    if *degree != mine.degree {
        return other("space.degree", &degree.to_string(), &mine.degree.to_string());
    }
    if *source != mine.source {
        let key = if matches!(case.mesh.source, MeshSource::File(_)) { "mesh.file" } else { "mesh.box" };
        let changed = if *from == mine.from { "another mesh than now" } else { from };
        let now = if *from == mine.from { format!("{from}, changed since") } else { mine.from.clone() };
        return other(key, changed, &now);
    }
    if scale.to_bits() != mine.scale.to_bits() {
        return other("mesh.scale", &scale.to_string(), &mine.scale.to_string());
    }
    if *refine != mine.refine {
        return other("mesh.refine", &refine.to_string(), &mine.refine.to_string());
    }
    case.check_dimension(state.outline.dim)?;
    let groups = state.outline.groups();
    conditions::check_names(case, &groups, state.outline.dim)?;
    let mut pairs = periodic_pairs(case, &groups, state.outline.dim)?;
    let mut were = state.outline.periodic.clone();
    pairs.sort_unstable();
    were.sort_unstable();
    if pairs != were {
        let names = |pairs: &[(u16, u16)]| {
            let name = |g: u16| groups.get(usize::from(g)).map_or("?", |g| g.name.as_str());
            let all: Vec<String> =
                pairs.iter().map(|&(a, b)| format!("\"{}\" with \"{}\"", name(a), name(b))).collect();
            if all.is_empty() {
                "no periodic boundaries".to_owned()
            } else {
                format!("periodic {}", all.join(", "))
            }
        };
        return other("boundary", &names(&were), &names(&pairs));
    }
    Ok(())
}

/// Keys of two resolved cases whose values differ.
fn differences(was: &str, now: &str) -> Vec<Value> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for (text, keys) in [(was, &mut before), (now, &mut after)] {
        if let Ok(table) = text.parse::<toml::Table>() {
            leaves("", &toml::Value::Table(table), keys);
        }
    }
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    // Where the files go is nothing that was solved.
    keys.retain(|key| *key != "case.output");
    let differs = keys.into_iter().filter(|&key| before.get(key) != after.get(key));
    differs.map(|key| json!({ "key": key, "was": before.get(key), "now": after.get(key) })).collect()
}

/// Values by dotted key, as text.
fn leaves(prefix: &str, value: &toml::Value, out: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                leaves(&format!("{prefix}{dot}{key}"), value, out);
            }
        }
        other => {
            out.insert(prefix.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named() {
        let was = "[solver]\ntolerance = 1e-8\nmethod = \"auto\"\n[mesh]\nrefine = 0\n";
        let now =
            "[solver]\ntolerance = 1e-6\nmethod = \"auto\"\n[mesh]\nrefine = 0\n[adapt]\nmax_steps = 3\n";
        let keys: Vec<String> =
            differences(was, now).iter().map(|d| d["key"].as_str().unwrap_or("?").to_owned()).collect();
        assert_eq!(keys, ["adapt.max_steps", "solver.tolerance"]);
        assert!(differences(now, now).is_empty());
    }
}
