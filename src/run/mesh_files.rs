//! Meshes kept by femdd: files that a case names, and the cache of partitioned meshes beside a case.
//!
//! Imports `mesh`, `output::mesh_store` and `case`. Start at [`read`] and [`write()`] for files,
//! [`Cache`] for the cache. What is stored is a draft: cells along the curve with the part of each, so
//! that a mesh is read back on any number of ranks, and neither sorted nor partitioned again where
//! their number is that of the parts.

use std::path::{Path, PathBuf};

use cluster::Comm;
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Kind, RunError};
use crate::case::{Case, Level, MeshSource};
use crate::element::{GeometryKind, Shape};
use crate::mesh::draft::Draft;
use crate::mesh::soup::{CellBlock, EntityBlock, Soup};
use crate::mesh::{Group, gmsh};
use crate::output::OutputError;
use crate::output::hdf::Pending;
use crate::output::mesh_store::{self, StoredCells, StoredEntities, StoredGroup, StoredMesh};

/// Where the cache lies, beside the case.
pub const CACHE_DIRECTORY: &str = ".mesh-cache";

/// Mesh files below this many bytes are read faster than they are worth keeping.
pub(super) const WORTH_KEEPING: u64 = 16 << 20;

/// The ending of mesh files of femdd.
pub const EXTENSION: &str = "h5";

/// A mesh as read: cells, and the part of each if the file has them in as many parts as there are ranks.
pub struct Input {
    /// The cells.
    pub soup: Soup,
    /// Owners in the order of the cells, block after block.
    pub owners: Option<Vec<u32>>,
}

const GEOMETRIES: [GeometryKind; 3] =
    [GeometryKind::Linear, GeometryKind::Quadratic, GeometryKind::Serendipity];

fn shape_code(shape: Shape) -> u8 {
    Shape::ALL.iter().position(|&s| s == shape).map_or(u8::MAX, |k| k as u8)
}

fn geometry_code(geometry: GeometryKind) -> u8 {
    GEOMETRIES.iter().position(|&g| g == geometry).map_or(u8::MAX, |k| k as u8)
}

/// A draft and the parts of its cells, ready to be stored. Not collective.
pub fn stored(draft: &Draft, owners: &[u32], n_parts: usize, hash: &str) -> StoredMesh {
    let soup = draft.soup();
    let (ids, points) = draft.nodes();
    let mut begin = 0;
    let blocks = soup.blocks.iter().enumerate().map(|(b, block)| {
        let mine = &owners[begin..begin + block.ids.len()];
        begin += block.ids.len();
        StoredCells {
            shape: shape_code(block.shape),
            geometry: geometry_code(block.geometry),
            nodes_per_cell: block.geometry.n_nodes(block.shape),
            nodes: draft.cell_nodes(b),
            ids: block.ids.clone(),
            sets: block.sets.clone(),
            owners: mine.to_vec(),
        }
    });
    let blocks = blocks.collect();
    let entities = soup.entities.iter().map(|block| StoredEntities {
        shape: shape_code(block.shape),
        vertices_per_entity: block.shape.n_vertices(),
        vertices: block.vertices.clone(),
        groups: block.groups.clone(),
    });
    let groups =
        soup.groups.iter().map(|g| StoredGroup { dim: g.dim as u32, tag: g.tag, name: g.name.clone() });
    StoredMesh {
        dim: soup.dim as u32,
        hash: hash.to_string(),
        blocks,
        entities: entities.collect(),
        node_ids: ids.to_vec(),
        coordinates: points.to_vec(),
        max_node_id: soup.max_node_id,
        groups: groups.collect(),
        sets: soup.sets.clone(),
        periodic: soup.periodic.iter().map(|p| [p.0, p.1]).collect(),
        n_parts: n_parts as u32,
    }
}

/// Cells from what is stored. `path` is for messages.
///
/// # Errors
/// A code of a shape or a geometry that this version does not know, or tables that contradict it.
fn input(comm: &Comm, stored: StoredMesh, path: &Path) -> Result<Input, OutputError> {
    let strange = |what: &str| OutputError::Format { path: path.to_path_buf(), what: what.to_string() };
    let shape =
        |code: u8| Shape::ALL.get(code as usize).copied().ok_or_else(|| strange("a shape it does not know"));
    let (n_sets, n_groups) = (stored.sets.len(), stored.groups.len());
    let with_owners = stored.n_parts as usize == comm.size();
    let mut owners = with_owners.then(Vec::new);
    let mut blocks = Vec::new();
    for cells in stored.blocks {
        let shape = shape(cells.shape)?;
        let geometry = GEOMETRIES.get(cells.geometry as usize).copied();
        let geometry = geometry.ok_or_else(|| strange("a geometry it does not know"))?;
        if shape.dim() != stored.dim as usize || geometry.n_nodes(shape) != cells.nodes_per_cell {
            return Err(strange("cells that do not fit their shape"));
        }
        if cells.sets.iter().any(|&s| s as usize >= n_sets) {
            return Err(strange("a cell in groups that it does not list"));
        }
        if let Some(owners) = &mut owners {
            owners.extend_from_slice(&cells.owners);
        }
        blocks.push(CellBlock { shape, geometry, nodes: cells.nodes, ids: cells.ids, sets: cells.sets });
    }
    if owners.iter().flatten().any(|&o| o as usize >= comm.size()) {
        return Err(strange("a cell in a part that it does not have"));
    }
    let mut entities = Vec::new();
    for block in stored.entities {
        let shape = shape(block.shape)?;
        let known = block.groups.iter().all(|&g| (g as usize) < n_groups);
        if shape.n_vertices() != block.vertices_per_entity || !known {
            return Err(strange("entities that do not fit their shape or group"));
        }
        entities.push(EntityBlock { shape, vertices: block.vertices, groups: block.groups });
    }
    let groups = stored.groups.into_iter().map(|g| Group { dim: g.dim as usize, tag: g.tag, name: g.name });
    let soup = Soup {
        dim: stored.dim as usize,
        groups: groups.collect(),
        sets: stored.sets,
        blocks,
        entities,
        node_ids: stored.node_ids,
        node_coordinates: stored.coordinates,
        max_node_id: stored.max_node_id,
        periodic: stored.periodic.into_iter().map(|p| (p[0], p[1])).collect(),
    };
    Ok(Input { soup, owners })
}

/// Whether a file is HDF5 by its first bytes, whatever its name. Collective.
fn is_hdf5(comm: &Comm, path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0u8; 8];
    let found = comm.is_root().then(|| {
        std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
            && start == *b"\x89HDF\r\n\x1a\n"
    });
    comm.broadcast_value(0, found)
}

/// How large a mesh file's mesh is, from what the file says. Not collective, and without MPI.
///
/// # Errors
/// What is wrong with the file.
pub fn count(path: &Path) -> Result<FileSize, RunError> {
    use std::io::Read;
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    let mut start = [0u8; 8];
    let hdf5 = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
        && start == *b"\x89HDF\r\n\x1a\n";
    if !hdf5 {
        let found = gmsh::count::count(path)?;
        let form = if found.ascii { FileForm::Text } else { FileForm::Binary };
        return Ok(FileSize { nodes: found.nodes, elements: found.elements, form, bytes });
    }
    let found = mesh_store::counts(path)?;
    let strange =
        || OutputError::Format { path: path.to_path_buf(), what: "a shape it does not know".into() };
    let shape = |code: u8| Shape::ALL.get(code as usize).copied().ok_or_else(strange);
    let geometry = |code: u8| GEOMETRIES.get(code as usize).copied().ok_or_else(strange);
    let mut elements = Vec::new();
    for &(code, kind, n) in &found.cells {
        elements.push((shape(code)?, geometry(kind)?, n));
    }
    for &(code, n) in &found.entities {
        elements.push((shape(code)?, GeometryKind::Linear, n));
    }
    Ok(FileSize { nodes: found.nodes, elements, form: FileForm::Stored(found.n_parts), bytes })
}

/// How a mesh file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// Gmsh's text, which one rank reads.
    Text,
    /// Gmsh's binary form, which all ranks read.
    Binary,
    /// A mesh of femdd, in that many parts.
    Stored(usize),
}

/// What a mesh file says of its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSize {
    /// Nodes, those of curved geometry among them.
    pub nodes: u64,
    /// Elements of each dimension by shape and geometry.
    pub elements: Vec<(Shape, GeometryKind, u64)>,
    /// How it is written.
    pub form: FileForm,
    /// Its bytes.
    pub bytes: u64,
}

/// Reads a mesh file, of Gmsh or of femdd. Collective.
///
/// # Errors
/// What is wrong with the file, the same on every rank.
pub fn read(comm: &Comm, path: &Path) -> Result<Input, RunError> {
    if is_hdf5(comm, path) {
        let stored = mesh_store::load(comm, path)?;
        return Ok(comm.agree(input(comm, stored, path))?);
    }
    Ok(Input { soup: gmsh::read(comm, path)?, owners: None })
}

/// Starts writing a draft with the parts of its cells; [`Pending::finish`] ends it. Collective.
///
/// # Errors
/// A disk that is full or may not be written to, the same on every rank.
pub fn write(
    comm: &Comm,
    path: &Path,
    draft: &Draft,
    owners: &[u32],
    n_parts: usize,
    hash: &str,
) -> Result<Pending, OutputError> {
    mesh_store::begin(comm, path, &stored(draft, owners, n_parts, hash))
}

/// The cache of one mesh file for one case.
pub struct Cache {
    directory: PathBuf,
    stem: String,
    /// What the stored mesh was made from: the file's hash and the scale.
    hash: String,
}

/// A mesh being written into the cache.
pub struct Keeping {
    pending: Pending,
    temporary: PathBuf,
    path: PathBuf,
}

impl Cache {
    /// The cache of the case's mesh, if it is wanted. Collective.
    ///
    /// # Errors
    /// When the mesh file cannot be read.
    pub fn of(comm: &Comm, case: &Case) -> Result<Option<Cache>, RunError> {
        let MeshSource::File(file) = &case.mesh.source else { return Ok(None) };
        let worth = || {
            let size = comm.is_root().then(|| std::fs::metadata(file).map_or(0, |m| m.len()));
            comm.broadcast_value(0, size) >= WORTH_KEEPING
        };
        let wanted = match (case.performance.cache, case.performance.level) {
            (Some(wanted), _) => wanted,
            (None, Level::Minimal) => false,
            (None, Level::Aggressive) => true,
            (None, Level::Auto | Level::Standard) => worth(),
        };
        // What femdd wrote itself is its own cache.
        if !wanted || is_hdf5(comm, file) {
            return Ok(None);
        }
        let hash = format!("{} scaled by {:?}", mesh_store::hash_file(comm, file)?, case.mesh.scale);
        let directory = case.file.parent().unwrap_or(Path::new("")).join(CACHE_DIRECTORY);
        let stem = file.file_stem().map_or("mesh".into(), |s| s.to_string_lossy().into_owned());
        Ok(Some(Cache { directory, stem, hash }))
    }

    /// `STEM-RANKS-HASH.h5`.
    fn path(&self, n_ranks: usize) -> PathBuf {
        self.directory.join(format!(
            "{}-{n_ranks}-{:016x}.{EXTENSION}",
            self.stem,
            xxh3_64(self.hash.as_bytes())
        ))
    }

    /// The stored meshes of this one on any number of ranks. One rank calls this.
    fn others(&self) -> Vec<PathBuf> {
        let ending = format!("-{:016x}.{EXTENSION}", xxh3_64(self.hash.as_bytes()));
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let fits = |name: &str| {
            let ranks = name.strip_prefix(self.stem.as_str()).and_then(|rest| rest.strip_prefix('-'));
            let ranks = ranks.and_then(|rest| rest.strip_suffix(ending.as_str()));
            ranks.is_some_and(|n| n.parse::<usize>().is_ok())
        };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.file_name().is_some_and(|n| fits(&n.to_string_lossy())))
            .collect();
        found.sort();
        found
    }

    /// The stored mesh: that of this number of ranks, with its owners; or that of another number, to be
    /// partitioned again. What cannot be read is passed over with a warning. Collective.
    pub fn read(&self, comm: &Comm, warnings: &mut Vec<String>) -> Option<Input> {
        let mine = self.path(comm.size());
        let candidates = comm.is_root().then(|| {
            let others = self.others();
            let own = others.iter().find(|p| **p == mine).or(others.first());
            own.cloned()
        });
        let path = comm.broadcast_value(0, candidates)?;
        let read = mesh_store::read(comm, &path, &self.hash)
            .and_then(|stored| comm.agree(stored.map(|s| input(comm, s, &path)).transpose()));
        match read {
            Ok(found) => found,
            Err(error) => {
                warnings.push(format!("the cached mesh was not used: {error}"));
                None
            }
        }
    }

    /// Starts keeping a partitioned mesh. `None`, with a warning, where that cannot be. Collective.
    pub fn keep(
        &self,
        comm: &Comm,
        draft: &Draft,
        owners: &[u32],
        warnings: &mut Vec<String>,
    ) -> Option<Keeping> {
        let path = self.path(comm.size());
        // Two runs at once must not write into one file.
        let process = comm.broadcast_value(0, comm.is_root().then(std::process::id));
        let temporary = self.directory.join(format!(".{}-{process}", self.stem));
        let made = if comm.is_root() {
            std::fs::create_dir_all(&self.directory)
                .map_err(|e| OutputError::from_io(&self.directory, "making the directory", 0, &e))
        } else {
            Ok(())
        };
        let begun =
            comm.agree(made).and_then(|()| write(comm, &temporary, draft, owners, comm.size(), &self.hash));
        match begun {
            Ok(pending) => Some(Keeping { pending, temporary, path }),
            Err(error) => {
                warnings.push(not_kept(&error));
                None
            }
        }
    }
}

fn not_kept(error: &OutputError) -> String {
    format!("the partitioned mesh was not kept for the next run: {error}")
}

impl Keeping {
    /// Waits until the mesh is on the disk and gives it its name. Collective.
    pub fn finish(self, comm: &Comm, warnings: &mut Vec<String>) {
        let Keeping { pending, temporary, path } = self;
        let named = pending.finish().and_then(|_| {
            let renamed = if comm.is_root() {
                std::fs::rename(&temporary, &path)
                    .map(|()| forget_older(&path))
                    .map_err(|e| OutputError::from_io(&path, "renaming", 0, &e))
            } else {
                Ok(())
            };
            comm.agree(renamed)
        });
        if let Err(error) = named {
            warnings.push(not_kept(&error));
        }
    }
}

/// Removes what an earlier version of the mesh left for this number of ranks: `STEM-RANKS-` and another
/// hash.
fn forget_older(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (Some(directory), Some((stem, _))) = (path.parent(), name.rsplit_once('-')) else { return };
    let old = |other: &str| {
        let hash = other.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
        let hash = hash.and_then(|rest| rest.strip_suffix(".h5"));
        other != name && hash.is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if old(&entry.file_name().to_string_lossy()) {
            // One that stays takes space and does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The hash of a mesh file, to be stored with what is made from it. Collective.
///
/// # Errors
/// When it cannot be read.
pub fn hash(comm: &Comm, path: &Path) -> Result<String, RunError> {
    Ok(mesh_store::hash_file(comm, path)?)
}

/// Checks that a mesh can be written under this name.
///
/// # Errors
/// A name with another ending than `.h5`.
pub fn check_name(path: &Path) -> Result<(), RunError> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case(EXTENSION)) {
        return Ok(());
    }
    let message = format!(
        "{}: meshes are written as HDF5, for `[mesh] file`: give the file a name that ends in .{EXTENSION}",
        path.display()
    );
    Err(RunError::new(Kind::Input, "mesh", message))
}
