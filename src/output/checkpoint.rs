//! Checkpoints: tables by name and a JSON state in one HDF5 file, from which a run goes on.
//!
//! Imports `cluster`, [`super::hdf`] and [`super::tables`]. Start at [`begin`] and [`read`]; [`list`] and [`prune`]
//! know the files of a directory. What the tables mean is the writer's business. A file appears under its name
//! when it is complete and on the disk; a crash before leaves what was there.

use std::path::{Path, PathBuf};

use cluster::Comm;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::error::OutputError;
use super::hdf::{self, Column, Element, Pending};
use super::tables::{self, Kind, Spec};

/// The version of the file's layout and of what its tables mean.
pub const VERSION: u32 = 1;

const KIND: Kind = Kind {
    mark: "femdd-checkpoint",
    version: VERSION,
    name: "a checkpoint",
    help: "go on with the version of femdd that wrote it, or start afresh",
};

/// Rows of one rank, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Words separated by `/`; unique.
    pub name: String,
    /// Entries a row, the same on all ranks.
    pub width: usize,
    /// This rank's rows, flat.
    pub column: Column,
}

/// What is the same on all ranks, stored as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    version: u32,
    /// The version of femdd that wrote it.
    femdd: String,
    n_ranks: u64,
    /// Name, type and entries a row of each table.
    tables: Vec<(String, Element, u64)>,
    rows: Vec<u64>,
    /// Of each table, then of `ranks`.
    checksums: Vec<u64>,
    state: Value,
}

impl Description {
    fn specs(&self) -> Vec<Spec> {
        self.tables.iter().enumerate().map(|(k, (name, e, width))| (name.clone(), *e, *width, k)).collect()
    }
}

/// A checkpoint as read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The version of femdd that wrote it.
    pub femdd: String,
    /// The number of ranks that wrote it.
    pub n_ranks: u64,
    /// As the writer gave it.
    pub state: Value,
    /// On as many ranks as wrote it this rank's own rows, otherwise equal shares.
    pub tables: Vec<Table>,
    /// Of each table the first row of each rank that wrote, and the number of all rows at the end.
    pub firsts: Vec<Vec<u64>>,
}

/// Starts writing a checkpoint in the background; when [`Pending::finish`] returns, it is on the disk under its name.
/// Collective.
///
/// `state` is rank 0's.
///
/// # Errors
/// The same on every rank: a full disk, a directory that cannot be written, tables of other names on other ranks.
/// A file of that name that was there before stays as it was.
pub fn begin(comm: &Comm, path: &Path, state: &Value, tables: Vec<Table>) -> Result<Pending, OutputError> {
    let named: Vec<(String, Element, u64)> =
        tables.iter().map(|t| (t.name.clone(), t.column.element(), t.width as u64)).collect();
    let mine = serde_json::to_vec(&named).expect("names serialise");
    let hashes = comm.all_gather(xxh3_64(&mine));
    let whole = tables.iter().all(|t| t.width > 0 && t.column.len() % t.width == 0);
    let fits = if hashes[comm.rank()] == hashes[0] && whole {
        Ok(())
    } else {
        let what = "the tables of a checkpoint differ from those of rank 0".to_owned();
        Err(OutputError::Shape { rank: comm.rank(), what })
    };
    comm.agree(fits)?;
    let state = comm.broadcast_value(0, comm.is_root().then(|| state.clone()));
    let rows: Vec<u64> = tables.iter().map(|t| (t.column.len() / t.width) as u64).collect();
    let mut description = Description {
        version: VERSION,
        femdd: env!("CARGO_PKG_VERSION").to_owned(),
        n_ranks: comm.size() as u64,
        tables: named,
        rows: Vec::new(),
        checksums: Vec::new(),
        state,
    };
    let specs = description.specs();
    let columns = tables.into_iter().map(|t| t.column).collect();
    tables::begin(comm, path, KIND, &specs, columns, &rows, &mut |rows, checksums| {
        description.rows = rows;
        description.checksums = checksums;
        serde_json::to_vec(&description).expect("a description serialises")
    })
}

/// Reads a checkpoint. Collective.
///
/// # Errors
/// The same on every rank: a file that is missing, not a checkpoint of femdd, of another version, cut short or
/// damaged.
pub fn read(comm: &Comm, path: &Path) -> Result<Checkpoint, OutputError> {
    let reader = hdf::open(comm, path)?;
    let mine = comm.is_root().then(|| {
        let description: Description = tables::describe(&reader, KIND)?;
        let (rows, sums, n) = (&description.rows, &description.checksums, description.tables.len());
        tables::check(&reader, &description.specs(), rows, sums, n)?;
        let firsts = tables::places(&reader, rows, description.n_ranks)?;
        Ok::<_, OutputError>((description, firsts))
    });
    let (description, firsts): (Description, Vec<Vec<u64>>) = comm.broadcast_value(0, mine)?;
    let Description { rows, checksums, n_ranks, .. } = &description;
    let columns = tables::load(comm, &reader, &description.specs(), rows, checksums, *n_ranks)?;
    let tables = description.tables.into_iter().zip(columns);
    let tables = tables.map(|((name, _, width), column)| Table { name, width: width as usize, column });
    Ok(Checkpoint {
        femdd: description.femdd,
        n_ranks: description.n_ranks,
        state: description.state,
        tables: tables.collect(),
        firsts,
    })
}

/// The file of a number.
pub fn file(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("checkpoint-{number:04}.h5"))
}

/// The checkpoints of a directory with their numbers, ascending. One rank calls this.
pub fn list(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix("checkpoint-")?.strip_suffix(".h5")?;
            Some((number.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// Removes all checkpoints of a directory but the last `keep`, and what crashes left unfinished. One rank calls
/// this, when none is being written.
pub fn prune(directory: &Path, keep: usize) {
    let all = list(directory);
    for (_, path) in &all[..all.len().saturating_sub(keep.max(1))] {
        // One that stays takes space and does no harm.
        let _ = std::fs::remove_file(path);
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("checkpoint-") && name.ends_with(".h5.part") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_strangers_stay() {
        let scratch = testing::Scratch::new();
        for number in [1, 2, 9, 10, 12_345] {
            std::fs::write(file(scratch.path(), number), "").expect("a file");
        }
        for other in ["checkpoint-x.h5", "run.json", "checkpoint-0003.h5.part"] {
            scratch.write(other, "");
        }
        let numbers = || list(scratch.path()).iter().map(|f| f.0).collect::<Vec<_>>();
        assert_eq!(numbers(), [1, 2, 9, 10, 12_345]);
        prune(scratch.path(), 2);
        assert_eq!(numbers(), [10, 12_345]);
        prune(scratch.path(), 0);
        assert_eq!(numbers(), [12_345], "one is always kept");
        let there = |name: &str| scratch.path().join(name).exists();
        assert!(there("run.json") && there("checkpoint-x.h5") && !there("checkpoint-0003.h5.part"));
        assert!(list(&scratch.path().join("nowhere")).is_empty());
    }
}
