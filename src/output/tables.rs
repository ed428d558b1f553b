//! Tables dealt out over the ranks in one HDF5 file, with checksums, to be read on any number of ranks.
//!
//! Imports `cluster` and [`super::hdf`]. Start at [`begin`] and [`load`]. A file has `description` (JSON, which the
//! caller makes and reads), a dataset for each of the caller's tables, each the concatenation of the ranks' rows,
//! and `ranks`: where each rank's rows of each table begin and how many they are. Attributes of the root mark the
//! kind and version of the file and hold the description's checksum.

use std::collections::BTreeSet;
use std::path::Path;

use cluster::Comm;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::error::OutputError;
use super::hdf::{self, Attribute, Column, Element, Layout, Pending, Reader, SlotId};

const DESCRIPTION_SUM: &str = "description-checksum";

/// A dataset: its name, the type of its entries, entries a row, and the table whose rows it has.
pub type Spec = (String, Element, u64, usize);

/// What kind of file it is.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The attribute that marks it and has its version.
    pub mark: &'static str,
    /// The version of its layout.
    pub version: u32,
    /// What it is called in messages: `a mesh`.
    pub name: &'static str,
    /// What to do about a file of another version.
    pub help: &'static str,
}

/// Starts writing columns in the background. `rows` are this rank's rows of each table; `describe` makes the
/// description from the rows of each table over all ranks and the checksum of each dataset, that of `ranks` last.
/// Collective.
///
/// # Errors
/// The same on every rank: a full disk, a directory that cannot be written, a failure in HDF5.
pub fn begin(
    comm: &Comm,
    path: &Path,
    kind: Kind,
    specs: &[Spec],
    columns: Vec<Column>,
    rows: &[u64],
    describe: &mut dyn FnMut(Vec<u64>, Vec<u64>) -> Vec<u8>,
) -> Result<Pending, OutputError> {
    let (all_rows, _) = comm.all_gather_varied(rows);
    let n_tables = rows.len();
    let sum =
        |table: usize, ranks: usize| all_rows.chunks(n_tables).take(ranks).map(|r| r[table]).sum::<u64>();
    let first: Vec<u64> = (0..n_tables).map(|t| sum(t, comm.rank())).collect();
    let total: Vec<u64> = (0..n_tables).map(|t| sum(t, comm.size())).collect();
    let places: Vec<u64> = first.iter().zip(rows).flat_map(|(&first, &n)| [first, n]).collect();
    let places_at = (comm.rank() * places.len()) as u64;

    let mut checksums: Vec<u64> =
        specs.iter().zip(&columns).map(|(s, c)| c.checksum(first[s.3] * s.2)).collect();
    let places = Column::U64(places);
    checksums.push(places.checksum(places_at));
    comm.sum_slice(&mut checksums);
    let text = describe(total.clone(), checksums);

    let mut layout = Layout::new();
    layout.attribute("/", kind.mark, Attribute::Integers(vec![i64::from(kind.version)]));
    layout.attribute("/", DESCRIPTION_SUM, Attribute::Integers(vec![xxh3_64(&text) as i64]));
    let described = layout.dataset("description", Element::U8, &[text.len() as u64]);
    let ranked = layout.dataset("ranks", Element::U64, &[comm.size() as u64, 2 * n_tables as u64]);
    // Parents before children, as they are shorter.
    let groups: BTreeSet<&str> =
        specs.iter().flat_map(|(name, ..)| name.match_indices('/').map(|(at, _)| &name[..at])).collect();
    groups.into_iter().for_each(|group| layout.group(group));
    let slots: Vec<SlotId> = specs
        .iter()
        .map(|(name, element, row, table)| {
            let shape = [total[*table], *row];
            layout.dataset(name, *element, if *row == 1 { &shape[..1] } else { &shape })
        })
        .collect();

    let mut writer = hdf::create(comm, path, layout, true)?;
    if comm.is_root() {
        writer.put(described, 0, Column::U8(text));
    }
    writer.put(ranked, comm.rank() as u64, places);
    for ((slot, column), spec) in slots.into_iter().zip(columns).zip(specs) {
        writer.put(slot, first[spec.3], column);
    }
    Ok(writer.start())
}

/// Reads and checks the description. One rank calls this.
///
/// # Errors
/// A file of another kind or version, or damaged.
pub fn describe<D: DeserializeOwned>(reader: &Reader, kind: Kind) -> Result<D, OutputError> {
    let path = reader.path().to_path_buf();
    let version = match reader.attribute(kind.mark) {
        Some(Attribute::Integers(v)) if v.len() == 1 => v[0],
        _ => {
            let what = format!("an HDF5 file, but not {} written by femdd", kind.name);
            return Err(OutputError::Format { path, what });
        }
    };
    if version != i64::from(kind.version) {
        let Kind { name, version: mine, help, .. } = kind;
        let what = format!("{name} in layout {version} of femdd, this version reads layout {mine}: {help}");
        return Err(OutputError::Format { path, what });
    }
    let slot = reader.slot("description", Element::U8, 1)?;
    let Column::U8(text) = reader.read(slot, 0, slot.len())? else { unreachable!("the slot holds U8") };
    let sum = Attribute::Integers(vec![xxh3_64(&text) as i64]);
    let damaged = |what: &str| OutputError::Corrupt { path: path.clone(), what: what.to_owned() };
    if reader.attribute(DESCRIPTION_SUM) != Some(&sum) {
        return Err(damaged("the checksum of its description differs"));
    }
    serde_json::from_slice(&text).map_err(|e| damaged(&format!("its description does not parse: {e}")))
}

/// Checks that the file has the datasets that its description says. One rank calls this.
///
/// # Errors
/// A file that contradicts itself.
pub fn check(
    reader: &Reader,
    specs: &[Spec],
    rows: &[u64],
    checksums: &[u64],
    n_tables: usize,
) -> Result<(), OutputError> {
    let damaged = |what: String| OutputError::Corrupt { path: reader.path().to_path_buf(), what };
    if rows.len() != n_tables || checksums.len() != specs.len() + 1 {
        return Err(damaged("its description contradicts itself".to_owned()));
    }
    for (name, element, row, table) in specs {
        if reader.slot(name, *element, *row)?.shape.first() != rows.get(*table) {
            return Err(damaged(format!("{name} has not the rows that its description says")));
        }
    }
    Ok(())
}

/// Reads this rank's columns: on as many ranks as wrote the file each its own rows, on another number an equal
/// contiguous share of every table. Collective.
///
/// # Errors
/// The same on every rank: a checksum that differs, or the system's.
pub fn load(
    comm: &Comm,
    reader: &Reader,
    specs: &[Spec],
    rows: &[u64],
    checksums: &[u64],
    n_ranks: u64,
) -> Result<Vec<Column>, OutputError> {
    let parts = comm.agree(my_parts(comm, reader, rows, n_ranks))?;
    let fetched: Result<Vec<Column>, OutputError> = specs
        .iter()
        .map(|(name, element, row, table)| {
            let (first, n) = parts.rows[*table];
            reader.read(reader.slot(name, *element, *row)?, first, n)
        })
        .collect();
    let columns = comm.agree(fetched)?;
    let mut sums: Vec<u64> =
        specs.iter().zip(&columns).map(|(s, c)| c.checksum(parts.rows[s.3].0 * s.2)).collect();
    sums.push(parts.checksum);
    comm.sum_slice(&mut sums);
    // The sums are the same on every rank, and so is the verdict.
    if let Some(k) = (0..sums.len()).find(|&k| sums[k] != checksums[k]) {
        let name = specs.get(k).map_or("ranks", |s| s.0.as_str());
        let what = format!("the checksum of {name} differs");
        return Err(OutputError::Corrupt { path: reader.path().to_path_buf(), what });
    }
    Ok(columns)
}

/// The first row of each rank that wrote, for every table, and the number of all rows at the end: 16 bytes a rank
/// and table. One rank calls this.
///
/// # Errors
/// The system's, and places that are not one after the other.
pub fn places(reader: &Reader, rows: &[u64], n_ranks: u64) -> Result<Vec<Vec<u64>>, OutputError> {
    let width = 2 * rows.len() as u64;
    let slot = reader.slot("ranks", Element::U64, width)?;
    let Column::U64(places) = reader.read(slot, 0, n_ranks)? else { unreachable!("the slot holds U64") };
    let mut firsts = vec![Vec::with_capacity(n_ranks as usize + 1); rows.len()];
    let mut next = vec![0u64; rows.len()];
    for of_rank in places.chunks_exact(width as usize) {
        for (t, place) in of_rank.as_chunks::<2>().0.iter().enumerate() {
            if place[0] != next[t] {
                let what = "the rows of its ranks do not follow each other".to_owned();
                return Err(OutputError::Corrupt { path: reader.path().to_path_buf(), what });
            }
            firsts[t].push(place[0]);
            next[t] = next[t].saturating_add(place[1]);
        }
    }
    if next != rows {
        let what = "its ranks have not the rows that its description says".to_owned();
        return Err(OutputError::Corrupt { path: reader.path().to_path_buf(), what });
    }
    firsts.iter_mut().zip(rows).for_each(|(first, &n)| first.push(n));
    Ok(firsts)
}

struct Parts {
    /// Per table: the first row and the number of rows.
    rows: Vec<(u64, u64)>,
    checksum: u64,
}

/// Which rows of each table this rank reads.
fn my_parts(comm: &Comm, reader: &Reader, rows: &[u64], n_ranks: u64) -> Result<Parts, OutputError> {
    let width = 2 * rows.len() as u64;
    let slot = reader.slot("ranks", Element::U64, width)?;
    let (rank, ranks) = (comm.rank() as u64, comm.size() as u64);
    // The table of places is read in equal shares, each entry once, for its checksum.
    let share = |n: u64, k: u64| (u128::from(n) * u128::from(k) / u128::from(ranks)) as u64;
    let (first, end) = (share(n_ranks, rank), share(n_ranks, rank + 1));
    let places = reader.read(slot, first, end - first)?;
    let checksum = places.checksum(first * width);
    let rows = match places {
        Column::U64(places) if n_ranks == ranks => {
            places.chunks_exact(2).map(|place| (place[0], place[1])).collect()
        }
        _ => rows.iter().map(|&n| (share(n, rank), share(n, rank + 1) - share(n, rank))).collect(),
    };
    Ok(Parts { rows, checksum })
}
