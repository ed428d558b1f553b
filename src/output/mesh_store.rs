//! A partitioned mesh kept as HDF5, to be read back on the same or another number of ranks.
//!
//! Imports `cluster`, [`super::hdf`] and [`super::tables`]. Start at [`StoredMesh`], [`write()`] and [`read`];
//! [`hash_file`] tells whether the mesh file it came from is still the same.
//!
//! In the file stand `description` (JSON: version, hash, groups, sets, what the tables are, a checksum
//! of each dataset), the tables `cells/K/...`, `entities/K/...`, `nodes/...` and `periodic`, each the
//! concatenation of the ranks' parts, and `ranks`, where each rank's rows begin and how many they are.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cluster::Comm;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::error::OutputError;
use super::hdf::{self, Column, Element, Pending, Reader};
use super::tables::{self, Kind, Spec};

/// The version of the file's layout.
pub const VERSION: u32 = 1;

const KIND: Kind = Kind { mark: "femdd-mesh", version: VERSION, name: "a mesh", help: "convert it again" };

/// This rank's part of an unconnected mesh. Lists of blocks are the same on all ranks, a block may be
/// empty on some.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredMesh {
    /// Dimension of the cells.
    pub dim: u32,
    /// What the mesh was made from, as by [`hash_file`]; the same on all ranks.
    pub hash: String,
    /// Cells of one shape and geometry each.
    pub blocks: Vec<StoredCells>,
    /// Grouped entities of lower dimension, of one shape each.
    pub entities: Vec<StoredEntities>,
    /// Identifiers of this rank's nodes: every node is on one rank.
    pub node_ids: Vec<u64>,
    /// Their coordinates.
    pub coordinates: Vec<[f64; 3]>,
    /// At least the greatest identifier on any rank; the same on all ranks.
    pub max_node_id: u64,
    /// Groups, the same on all ranks.
    pub groups: Vec<StoredGroup>,
    /// Sets of groups that cells belong to, the same on all ranks.
    pub sets: Vec<Vec<u16>>,
    /// Periodic pairs of nodes (slave, master).
    pub periodic: Vec<[u64; 2]>,
    /// The number of parts that `owners` deals the cells out to; the same on all ranks.
    pub n_parts: u32,
}

/// Cells of one shape and geometry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredCells {
    /// The caller's code of the shape.
    pub shape: u8,
    /// The caller's code of the geometry.
    pub geometry: u8,
    /// Nodes a cell.
    pub nodes_per_cell: usize,
    /// Node identifiers: `n_cells * nodes_per_cell`.
    pub nodes: Vec<u64>,
    /// Per cell: its identifier.
    pub ids: Vec<u64>,
    /// Per cell: an index into [`StoredMesh::sets`].
    pub sets: Vec<u16>,
    /// Per cell: its part, below [`StoredMesh::n_parts`].
    pub owners: Vec<u32>,
}

/// Grouped entities of one shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredEntities {
    /// The caller's code of the shape.
    pub shape: u8,
    /// Vertices an entity.
    pub vertices_per_entity: usize,
    /// Node identifiers: `n * vertices_per_entity`.
    pub vertices: Vec<u64>,
    /// Per entity: an index into [`StoredMesh::groups`].
    pub groups: Vec<u16>,
}

/// A named group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredGroup {
    /// The dimension of its entities.
    pub dim: u32,
    /// Its number.
    pub tag: i32,
    /// Its name.
    pub name: String,
}

/// Shape, geometry, nodes a cell.
type CellKind = (u8, u8, u64);
/// Shape, vertices an entity.
type EntityKind = (u8, u64);

/// What is the same on all ranks, stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Description {
    version: u32,
    dim: u32,
    hash: String,
    n_ranks: u64,
    n_parts: u32,
    max_node_id: u64,
    groups: Vec<StoredGroup>,
    sets: Vec<Vec<u16>>,
    blocks: Vec<CellKind>,
    entities: Vec<EntityKind>,
    /// Rows of each table: blocks, entities, nodes, periodic pairs.
    rows: Vec<u64>,
    /// Of each dataset, in the order of [`datasets`].
    checksums: Vec<u64>,
}

/// Datasets: name, element, entries a row, and the table whose rows they have.
fn datasets(blocks: &[CellKind], entities: &[EntityKind]) -> Vec<Spec> {
    let mut list = Vec::new();
    for (k, block) in blocks.iter().enumerate() {
        list.push((format!("cells/{k}/nodes"), Element::U64, block.2, k));
        list.push((format!("cells/{k}/ids"), Element::U64, 1, k));
        list.push((format!("cells/{k}/sets"), Element::U16, 1, k));
        list.push((format!("cells/{k}/owners"), Element::U32, 1, k));
    }
    for (k, block) in entities.iter().enumerate() {
        list.push((format!("entities/{k}/vertices"), Element::U64, block.1, blocks.len() + k));
        list.push((format!("entities/{k}/groups"), Element::U16, 1, blocks.len() + k));
    }
    let nodes = blocks.len() + entities.len();
    list.push(("nodes/ids".to_owned(), Element::U64, 1, nodes));
    list.push(("nodes/coordinates".to_owned(), Element::F64, 3, nodes));
    list.push(("periodic".to_owned(), Element::U64, 2, nodes + 1));
    list
}

impl StoredMesh {
    /// The kinds of its blocks and entities, and this rank's rows of each table.
    fn tables(&self) -> (Vec<CellKind>, Vec<EntityKind>, Vec<u64>) {
        let blocks: Vec<_> =
            self.blocks.iter().map(|b| (b.shape, b.geometry, b.nodes_per_cell as u64)).collect();
        let entities: Vec<_> =
            self.entities.iter().map(|b| (b.shape, b.vertices_per_entity as u64)).collect();
        let mut rows: Vec<u64> = self.blocks.iter().map(|b| b.ids.len() as u64).collect();
        rows.extend(self.entities.iter().map(|b| b.groups.len() as u64));
        rows.extend([self.node_ids.len() as u64, self.periodic.len() as u64]);
        (blocks, entities, rows)
    }

    /// The entries, in the order of [`datasets`].
    fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for b in &self.blocks {
            columns.extend([Column::U64(b.nodes.clone()), Column::U64(b.ids.clone())]);
            columns.extend([Column::U16(b.sets.clone()), Column::U32(b.owners.clone())]);
        }
        for b in &self.entities {
            columns.extend([Column::U64(b.vertices.clone()), Column::U16(b.groups.clone())]);
        }
        columns.push(Column::U64(self.node_ids.clone()));
        columns.push(Column::F64(self.coordinates.as_flattened().to_vec()));
        columns.push(Column::U64(self.periodic.as_flattened().to_vec()));
        columns
    }

    fn check(&self, rank: usize) -> Result<(), OutputError> {
        let wrong = |what: String| Err(OutputError::Shape { rank, what });
        for (k, b) in self.blocks.iter().enumerate() {
            let n = b.ids.len();
            if b.nodes.len() != n * b.nodes_per_cell || b.sets.len() != n || b.owners.len() != n {
                return wrong(format!(
                    "block {k} of the mesh to store has arrays for different numbers of cells"
                ));
            }
            if let Some(owner) = b.owners.iter().find(|&&o| o >= self.n_parts) {
                return wrong(format!("a cell of block {k} belongs to part {owner} of {}", self.n_parts));
            }
        }
        for (k, b) in self.entities.iter().enumerate() {
            if b.vertices.len() != b.groups.len() * b.vertices_per_entity {
                return wrong(format!("entities {k} of the mesh to store have arrays of different lengths"));
            }
        }
        if self.node_ids.len() != self.coordinates.len() {
            return wrong("the mesh to store has not one point a node".to_owned());
        }
        Ok(())
    }
}

/// Writes a mesh and waits until it is on the disk. Collective.
///
/// # Errors
/// As [`begin`] and [`Pending::finish`], the same on every rank.
pub fn write(comm: &Comm, path: &Path, mesh: &StoredMesh) -> Result<(), OutputError> {
    begin(comm, path, mesh)?.finish().map(drop)
}

/// Starts writing a mesh in the background; its arrays are copied. Collective.
///
/// # Errors
/// The same on every rank: arrays that do not fit together, what should be the same on all ranks and
/// is not, a full disk, a directory that cannot be written, a failure in HDF5.
pub fn begin(comm: &Comm, path: &Path, mesh: &StoredMesh) -> Result<Pending, OutputError> {
    let _span = tracing::debug_span!("write mesh").entered();
    comm.agree(mesh.check(comm.rank()))?;
    let (blocks, entities, rows) = mesh.tables();
    let mut description = Description {
        version: VERSION,
        dim: mesh.dim,
        hash: mesh.hash.clone(),
        n_ranks: comm.size() as u64,
        n_parts: mesh.n_parts,
        max_node_id: mesh.max_node_id,
        groups: mesh.groups.clone(),
        sets: mesh.sets.clone(),
        blocks,
        entities,
        rows: Vec::new(),
        checksums: Vec::new(),
    };
    comm.agree(same_description(comm, &description))?;

    let specs = datasets(&description.blocks, &description.entities);
    tables::begin(comm, path, KIND, &specs, mesh.columns(), &rows, &mut |rows, checksums| {
        description.rows = rows;
        description.checksums = checksums;
        serde_json::to_vec(&description).expect("a description serialises")
    })
}

/// Checks that all ranks hold the same groups, sets, and lists of blocks.
fn same_description(comm: &Comm, description: &Description) -> Result<(), OutputError> {
    let text = serde_json::to_vec(description).expect("a description serialises");
    let hashes = comm.all_gather(xxh3_64(&text));
    if hashes[comm.rank()] == hashes[0] {
        return Ok(());
    }
    let what = "the groups, sets or blocks of the mesh to store differ from those of rank 0".to_owned();
    Err(OutputError::Shape { rank: comm.rank(), what })
}

/// Reads a mesh back, if the file is there and was made from what has this hash. Collective.
///
/// On as many ranks as wrote it each gets its own part; on another number each gets an equal
/// contiguous share of every table.
///
/// # Errors
/// The same on every rank: a file that is not a mesh of femdd, of another version, or damaged.
pub fn read(comm: &Comm, path: &Path, expected_hash: &str) -> Result<Option<StoredMesh>, OutputError> {
    let there = comm.broadcast_value(0, comm.is_root().then(|| path.exists()));
    if !there {
        return Ok(None);
    }
    let (reader, description) = open(comm, path)?;
    if description.hash != expected_hash {
        return Ok(None);
    }
    load_parts(comm, &reader, description).map(Some)
}

/// Reads a mesh back, whatever it was made from. Collective. As [`read`] otherwise.
///
/// # Errors
/// As [`read`]; also when there is no file.
pub fn load(comm: &Comm, path: &Path) -> Result<StoredMesh, OutputError> {
    let _span = tracing::debug_span!("read mesh").entered();
    let (reader, description) = open(comm, path)?;
    load_parts(comm, &reader, description)
}

/// How large a stored mesh is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCounts {
    /// The caller's codes of shape and geometry, and how many cells have them.
    pub cells: Vec<(u8, u8, u64)>,
    /// The caller's code of the shape of grouped entities, and how many have it.
    pub entities: Vec<(u8, u64)>,
    /// Nodes.
    pub nodes: u64,
    /// Parts that it is cut into.
    pub n_parts: usize,
}

/// Reads what a file says of its size. Not collective, and without MPI.
///
/// # Errors
/// A file that is not a mesh of femdd, of another version, or damaged.
pub fn counts(path: &Path) -> Result<StoredCounts, OutputError> {
    let Description { blocks, entities, rows, n_parts, .. } = describe(&hdf::open_alone(path)?)?;
    let of_entities = &rows[blocks.len()..];
    Ok(StoredCounts {
        cells: blocks.iter().zip(&rows).map(|(block, &n)| (block.0, block.1, n)).collect(),
        entities: entities.iter().zip(of_entities).map(|(entity, &n)| (entity.0, n)).collect(),
        nodes: of_entities[entities.len()],
        n_parts: n_parts as usize,
    })
}

fn open(comm: &Comm, path: &Path) -> Result<(Reader, Description), OutputError> {
    let reader = hdf::open(comm, path)?;
    let mine = comm.is_root().then(|| describe(&reader));
    let description = comm.broadcast_value(0, mine)?;
    Ok((reader, description))
}

/// Reads and checks the description.
fn describe(reader: &Reader) -> Result<Description, OutputError> {
    let description: Description = tables::describe(reader, KIND)?;
    let Description { blocks, entities, rows, checksums, .. } = &description;
    let n_tables = blocks.len() + entities.len() + 2;
    tables::check(reader, &datasets(blocks, entities), rows, checksums, n_tables)?;
    Ok(description)
}

fn load_parts(comm: &Comm, reader: &Reader, description: Description) -> Result<StoredMesh, OutputError> {
    let Description { blocks, entities, rows, checksums, n_ranks, .. } = &description;
    let columns = tables::load(comm, reader, &datasets(blocks, entities), rows, checksums, *n_ranks)?;
    Ok(assemble(description, columns))
}

/// Puts columns in the order of [`datasets`] back in their places.
fn assemble(description: Description, columns: Vec<Column>) -> StoredMesh {
    let mut columns = columns.into_iter();
    macro_rules! next {
        ($kind:ident) => {
            match columns.next() {
                Some(Column::$kind(values)) => values,
                _ => unreachable!("columns come in the order and of the types of `datasets`"),
            }
        };
    }
    let mut blocks = Vec::new();
    for &(shape, geometry, n) in &description.blocks {
        let (nodes, ids, sets, owners) = (next!(U64), next!(U64), next!(U16), next!(U32));
        blocks.push(StoredCells { shape, geometry, nodes_per_cell: n as usize, nodes, ids, sets, owners });
    }
    let mut entities = Vec::new();
    for &(shape, n) in &description.entities {
        let (vertices, groups) = (next!(U64), next!(U16));
        entities.push(StoredEntities { shape, vertices_per_entity: n as usize, vertices, groups });
    }
    let (node_ids, coordinates, periodic) = (next!(U64), next!(F64), next!(U64));
    StoredMesh {
        dim: description.dim,
        hash: description.hash,
        blocks,
        entities,
        node_ids,
        coordinates: coordinates.as_chunks::<3>().0.to_vec(),
        max_node_id: description.max_node_id,
        groups: description.groups,
        sets: description.sets,
        periodic: periodic.as_chunks::<2>().0.to_vec(),
        n_parts: description.n_parts,
    }
}

/// Bytes hashed at a time: fixed, so that the hash does not depend on the number of ranks.
const SLICE: u64 = 4 << 20;

/// A 128-bit hash of a file as hexadecimal text, the same on any number of ranks. Collective.
///
/// Each rank hashes its share of slices of 4 MiB by XXH3; the hash of their hashes and of the length is
/// the file's. It tells files apart, it does not resist an adversary.
///
/// # Errors
/// The same on every rank, when the file cannot be read.
pub fn hash_file(comm: &Comm, path: &Path) -> Result<String, OutputError> {
    let _span = tracing::debug_span!("hash file").entered();
    let length = comm.is_root().then(|| std::fs::metadata(path).map(|m| m.len()));
    let length = length.map(|l| l.map_err(|e| OutputError::from_read(path, &e)));
    let length: u64 = comm.broadcast_value(0, length)?;
    let n_slices = length.div_ceil(SLICE);
    let share = |k: usize| n_slices * k as u64 / comm.size() as u64;
    let hashed = hash_slices(path, length, share(comm.rank())..share(comm.rank() + 1));
    let hashed = comm.agree(hashed.map_err(|e| OutputError::from_read(path, &e)))?;
    let (mut all, _) = comm.all_gather_varied(&hashed);
    all.push(length);
    let bytes: Vec<u8> = all.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(format!("{:032x}", xxh3_128(&bytes)))
}

fn hash_slices(path: &Path, length: u64, slices: Range<u64>) -> io::Result<Vec<u64>> {
    let mut hashes = Vec::new();
    if slices.is_empty() {
        return Ok(hashes);
    }
    let file = File::open(path)?;
    let mut slice = vec![0u8; SLICE.min(length) as usize];
    for k in slices {
        let n = SLICE.min(length - k * SLICE) as usize;
        file.read_exact_at(&mut slice[..n], k * SLICE)?;
        let hash = xxh3_128(&slice[..n]);
        hashes.extend([hash as u64, (hash >> 64) as u64]);
    }
    Ok(hashes)
}
