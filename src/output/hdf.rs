//! HDF5 files shared by all ranks: the layout by rank 0, the data by every rank.
//!
//! Imports `cluster` only. Start at [`Layout`], [`create`] and [`open`].
//!
//! Rank 0 creates the file with every dataset contiguous, allocated at once and never filled, closes
//! it, reserves its space on the disk, and tells the others at which byte each dataset begins
//! (`H5Dget_offset`). From there each rank writes its slab by plain positioned writes: at once, piece by
//! piece from a small buffer ([`Writer::open`]), or whole columns on a thread of its own while the
//! solver goes on ([`Writer::start`]). No MPI call is made there, so `MPI_THREAD_FUNNELED` suffices and
//! any thread may write. Reading goes the same way backwards.
//!
//! HDF5's parallel driver would make the layout a collective call. When one rank fails inside such a
//! call (a full disk, a quota, a stale mount) the others wait for ever; here a failure is one rank's,
//! and is agreed on. Data is written under another name and renamed when complete, so a reader never
//! sees half a file.

mod column;
mod read;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster::Comm;
use hdf5::dataset::{AllocTime, FillTime, Layout as Storage};
use hdf5::types::{FixedAscii, TypeDescriptor};
use serde::{Deserialize, Serialize};

use super::error::OutputError;

pub use column::{Column, Element, Entry};
pub use read::{Reader, open, open_alone};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attribute {
    /// Integers.
    Integers(Vec<i64>),
    /// ASCII text of at most 64 bytes, stored with exactly its length: ParaView 5.11 reads no
    /// variable-length string.
    Text(String),
}

/// Groups, attributes and datasets of a file.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    groups: Vec<String>,
    attributes: Vec<(String, String, Attribute)>,
    datasets: Vec<Slot>,
}

/// One contiguous dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its path in the file, without a leading slash.
    pub name: String,
    /// The type of its entries.
    pub element: Element,
    /// Its extents, slowest first.
    pub shape: Vec<u64>,
    /// Where it begins in the file; `None` when it is empty or all its entries are `same`.
    pub offset: Option<u64>,
    /// What all its entries are: HDF5's fill value, for which the file holds no entries.
    pub same: Option<i32>,
}

impl Slot {
    /// The number of entries.
    pub fn len(&self) -> u64 {
        self.shape.iter().fold(1, |n, &extent| n.saturating_mul(extent))
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries per row: the product of all extents but the first.
    pub fn row(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |n, &extent| n.saturating_mul(extent))
    }

    fn bytes(&self) -> u64 {
        if self.same.is_some() {
            return 0;
        }
        self.len().saturating_mul(self.element.size() as u64)
    }
}

/// A dataset of a [`Layout`], for [`Writer::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(usize);

impl Layout {
    /// A file with a root group and nothing else.
    pub fn new() -> Self {
        Layout::default()
    }

    /// Adds a group; its parent comes first.
    pub fn group(&mut self, path: &str) {
        self.groups.push(path.to_owned());
    }

    /// Adds an attribute to a group; `"/"` is the root.
    pub fn attribute(&mut self, group: &str, name: &str, value: Attribute) {
        self.attributes.push((group.to_owned(), name.to_owned(), value));
    }

    /// Adds a dataset; its group comes first.
    pub fn dataset(&mut self, name: &str, element: Element, shape: &[u64]) -> SlotId {
        self.add(Slot { name: name.to_owned(), element, shape: shape.to_vec(), offset: None, same: None })
    }

    /// Adds a dataset whose entries are all `value`; nothing is to be written to it.
    ///
    /// # Panics
    /// When the type is not [`Element::U8`] or [`Element::I32`].
    pub fn uniform(&mut self, name: &str, element: Element, shape: &[u64], value: i32) -> SlotId {
        assert!(matches!(element, Element::U8 | Element::I32), "{name}: a type that can be filled");
        let same = Some(value);
        self.add(Slot { name: name.to_owned(), element, shape: shape.to_vec(), offset: None, same })
    }

    fn add(&mut self, slot: Slot) -> SlotId {
        self.datasets.push(slot);
        SlotId(self.datasets.len() - 1)
    }

    /// Bytes of all datasets.
    pub fn bytes(&self) -> u64 {
        self.datasets.iter().map(Slot::bytes).sum()
    }
}

/// A file laid out and not yet written.
pub struct Writer {
    comm: Comm,
    target: Target,
    slots: Vec<Slot>,
    slabs: Vec<(u64, Column)>,
}

#[derive(Clone)]
struct Target {
    path: PathBuf,
    partial: PathBuf,
    needed: u64,
    sync: bool,
}

/// Lays a file out and reserves its space on the disk.
///
/// Collective: every rank passes the same path and layout. With `sync`, [`Pending::finish`] returns
/// only when the data has reached the disk.
///
/// # Errors
/// The same on every rank: a full disk, a directory that cannot be written, a failure in HDF5.
pub fn create(comm: &Comm, path: &Path, layout: Layout, sync: bool) -> Result<Writer, OutputError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let target = Target {
        path: path.to_path_buf(),
        partial: path.with_file_name(name),
        needed: layout.bytes() + OVERHEAD + 1024 * layout.datasets.len() as u64,
        sync,
    };
    let mine = comm.is_root().then(|| {
        lay_out(&target, &layout).inspect_err(|_| {
            // Nothing to do when even that fails: the error that matters is already at hand.
            let _ = std::fs::remove_file(&target.partial);
        })
    });
    let offsets: Vec<Option<u64>> = comm.broadcast_value(0, mine)?;
    let mut slots = layout.datasets;
    for (slot, offset) in slots.iter_mut().zip(offsets) {
        slot.offset = offset;
    }
    Ok(Writer { comm: comm.clone(), target, slots, slabs: Vec::new() })
}

/// Room for HDF5's own headers in a small file.
const OVERHEAD: u64 = 16 * 1024;

fn lay_out(target: &Target, layout: &Layout) -> Result<Vec<Option<u64>>, OutputError> {
    let Target { path, partial, needed, .. } = target;
    // HDF5 says "unable to open file" to everything; the system says why.
    File::create(partial).map_err(|e| OutputError::from_io(path, "creating", *needed, &e))?;
    if let Some(available) = free_bytes(partial)
        && available < *needed
    {
        return Err(OutputError::DiskFull {
            path: path.clone(),
            needed: *needed,
            available: Some(available),
        });
    }
    let offsets = describe(partial, layout).map_err(|e| OutputError::Hdf5 {
        path: path.clone(),
        action: "lay the file out".to_owned(),
        reason: e.to_string(),
    })?;
    let stored = |slot: &Slot| !slot.is_empty() && slot.same.is_none();
    let missing =
        layout.datasets.iter().zip(&offsets).find(|(slot, offset)| stored(slot) && offset.is_none());
    if let Some((slot, _)) = missing {
        return Err(OutputError::Hdf5 {
            path: path.clone(),
            action: format!("allocate {}", slot.name),
            reason: "it reports no offset".to_owned(),
        });
    }
    reserve(partial).map_err(|e| OutputError::from_io(path, "reserving space", *needed, &e))?;
    Ok(offsets)
}

fn describe(path: &Path, layout: &Layout) -> hdf5::Result<Vec<Option<u64>>> {
    let file = hdf5::File::create(path)?;
    for group in &layout.groups {
        file.create_group(group)?;
    }
    for (group, name, value) in &layout.attributes {
        let group = file.group(group)?;
        match value {
            Attribute::Integers(values) => {
                group.new_attr_builder().with_data(values).create(name.as_str())?;
            }
            Attribute::Text(text) => {
                let length = text.len().max(1);
                let text = FixedAscii::<64>::from_ascii(text.as_bytes()).map_err(|e| e.to_string())?;
                let attribute = group
                    .new_attr_builder()
                    .empty_as(TypeDescriptor::FixedAscii(length))
                    .shape(())
                    .create(name.as_str())?;
                attribute.write_scalar(&text)?;
            }
        }
    }
    let mut offsets = Vec::with_capacity(layout.datasets.len());
    for slot in &layout.datasets {
        let shape: Vec<usize> = slot.shape.iter().map(|&n| n as usize).collect();
        // Without `no_chunk` the crate makes an empty dataset chunked.
        let builder = file.new_dataset_builder().layout(Storage::Contiguous).no_chunk();
        let builder = match (slot.same, slot.element) {
            (None, _) => builder.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never),
            (Some(value), Element::U8) => builder.alloc_time(Some(AllocTime::Late)).fill_value(value as u8),
            (Some(value), _) => builder.alloc_time(Some(AllocTime::Late)).fill_value(value),
        };
        let dataset = builder.empty_as(slot.element.descriptor()).shape(shape).create(slot.name.as_str())?;
        offsets.push(dataset.offset());
    }
    file.close()?;
    Ok(offsets)
}

/// Has the file system set aside every byte of a file that HDF5 left sparse.
///
/// What fails here fails before any rank has written, and names the cause. File systems that cannot
/// reserve are left alone: there a full disk shows in the writes.
fn reserve(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    loop {
        // SAFETY: an open descriptor and a range within the file; the call touches no memory of ours.
        let status = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length as libc::off_t) };
        if status == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::EIO) => return Err(error),
            _ => return Ok(()),
        }
    }
}

/// The version of the HDF5 library.
pub fn library_version() -> String {
    let (major, minor, patch) = hdf5::library_version();
    format!("{major}.{minor}.{patch}")
}

/// The bytes this user may still write to the file system of `path` or of its parent.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let place = if path.exists() { path } else { path.parent()? };
    let place = CString::new(place.as_os_str().as_bytes()).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a terminated string and room for the answer, which is read only when the call succeeds.
    let stats = unsafe {
        if libc::statvfs(place.as_ptr(), stats.as_mut_ptr()) != 0 {
            return None;
        }
        stats.assume_init()
    };
    Some(stats.f_bavail * stats.f_frsize)
}

impl Writer {
    /// Hands over entries of a dataset, from row `first` on; any rank, any number of times.
    ///
    /// # Panics
    /// When the type differs from the dataset's or the rows reach past its end.
    pub fn put(&mut self, slot: SlotId, first: u64, column: Column) {
        let slot = &self.slots[slot.0];
        assert_eq!(slot.element, column.element(), "{}: the type of the entries", slot.name);
        if column.is_empty() {
            return;
        }
        let begin = first * slot.row();
        assert!(begin + column.len() as u64 <= slot.len(), "{}: rows past the end", slot.name);
        let offset = slot.offset.expect("a dataset that is not empty has an offset");
        self.slabs.push((offset + begin * slot.element.size() as u64, column));
    }

    /// Opens this rank's end of the file, for writing at once. Not collective; [`Sink::finish`] is, and
    /// must be called whatever this returns.
    pub fn open(self) -> Sink {
        let Writer { comm, target, slots, .. } = self;
        let file = open_retrying(&target.partial, OpenOptions::new().write(true))
            .map_err(|e| OutputError::from_io(&target.path, "writing", target.needed, &e));
        Sink { pending: Pending { comm, target, thread: None }, slots, file }
    }

    /// Starts writing on a thread of its own. Not collective.
    pub fn start(self) -> Pending {
        let Writer { comm, target, slabs, .. } = self;
        let job = target.clone();
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            write_slabs(&job, &slabs).map_err(|e| OutputError::from_io(&job.path, "writing", job.needed, &e))
        });
        let thread = match thread {
            Ok(thread) => Ok(thread),
            Err(e) => Err(OutputError::from_io(&target.path, "starting a thread", target.needed, &e)),
        };
        Pending { comm, target, thread: Some(thread) }
    }
}

/// Positioned writes of this rank's slabs.
fn write_slabs(target: &Target, slabs: &[(u64, Column)]) -> io::Result<()> {
    if slabs.is_empty() {
        return Ok(());
    }
    let file = open_retrying(&target.partial, OpenOptions::new().write(true))?;
    for (offset, column) in slabs {
        file.write_all_at(column.bytes(), *offset)?;
    }
    close(file, target.sync)
}

fn close(file: File, sync: bool) -> io::Result<()> {
    if sync {
        file.sync_data()?;
    }
    // Network file systems report a full disk when the file is closed, and `File`'s drop is silent.
    // SAFETY: the descriptor was ours and is given up here, closed once.
    if unsafe { libc::close(file.into_raw_fd()) } != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
    Ok(())
}

/// Opens a file that another rank has just made: on a network file system it may show a moment later.
fn open_retrying(path: &Path, options: &OpenOptions) -> io::Result<File> {
    const TRIES: usize = 60;
    for _ in 0..TRIES {
        match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
    options.open(path)
}

/// A file being written in the background.
///
/// Dropped without [`Pending::finish`], it waits for this rank's thread and removes the partial file.
#[must_use = "the file gets its name in `finish`"]
pub struct Pending {
    comm: Comm,
    target: Target,
    thread: Option<Result<JoinHandle<Result<(), OutputError>>, OutputError>>,
}

impl Pending {
    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.target.path
    }

    /// Whether this rank's part is done, well or not. Not collective.
    pub fn is_done(&self) -> bool {
        !matches!(&self.thread, Some(Ok(thread)) if !thread.is_finished())
    }

    /// Waits for every rank's part and gives the file its name. Collective.
    ///
    /// # Errors
    /// The same on every rank; the partial file is then removed, and a file of that name that was
    /// there before stays as it was.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let mine = self.join();
        self.complete(mine)
    }

    fn complete(&self, mine: Result<(), OutputError>) -> Result<(), OutputError> {
        let tidy = |_: &OutputError| {
            self.discard();
            // No rank goes on before the partial file is gone.
            self.comm.barrier();
        };
        self.comm.agree(mine).inspect_err(tidy)?;
        let named = if self.comm.is_root() { self.rename() } else { Ok(()) };
        self.comm.agree(named).inspect_err(tidy)
    }

    fn join(&mut self) -> Result<(), OutputError> {
        match self.thread.take() {
            Some(Ok(thread)) => thread.join().unwrap_or_else(|_| {
                Err(OutputError::Io {
                    path: self.target.path.clone(),
                    action: "writing".to_owned(),
                    reason: "the output thread panicked".to_owned(),
                })
            }),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    fn rename(&self) -> Result<(), OutputError> {
        let Target { path, partial, needed, .. } = &self.target;
        std::fs::rename(partial, path).map_err(|e| OutputError::from_io(path, "renaming", *needed, &e))?;
        if self.target.sync {
            sync_directory(path)
                .map_err(|e| OutputError::from_io(path, "syncing its directory", *needed, &e))?;
        }
        Ok(())
    }

    fn discard(&self) {
        if self.comm.is_root() {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(&self.target.partial);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.join();
            self.discard();
        }
    }
}

/// A file open for writing, by any thread.
pub struct Sink {
    pending: Pending,
    slots: Vec<Slot>,
    file: Result<File, OutputError>,
}

impl Sink {
    /// Writes entries of a dataset, from row `first` on. Returns when the system has them.
    ///
    /// # Errors
    /// A full disk, or what else the system says.
    ///
    /// # Panics
    /// When the type differs from the dataset's or the rows reach past its end.
    pub fn write<T: Entry>(&self, slot: SlotId, first: u64, entries: &[T]) -> Result<(), OutputError> {
        let slot = &self.slots[slot.0];
        assert_eq!(slot.element, T::ELEMENT, "{}: the type of the entries", slot.name);
        if entries.is_empty() {
            return Ok(());
        }
        let begin = first * slot.row();
        assert!(begin + entries.len() as u64 <= slot.len(), "{}: rows past the end", slot.name);
        let offset = slot.offset.expect("a dataset that is written to has an offset");
        let file = self.file.as_ref().map_err(Clone::clone)?;
        let Target { path, needed, .. } = &self.pending.target;
        file.write_all_at(bytemuck::cast_slice(entries), offset + begin * slot.element.size() as u64)
            .map_err(|e| OutputError::from_io(path, "writing", *needed, &e))
    }

    /// What all entries of a dataset are, where the file does not hold them.
    pub fn same(&self, slot: SlotId) -> Option<i32> {
        self.slots[slot.0].same
    }

    /// Gives the file its name when every rank has written its part: `mine` says how this rank fared.
    /// Collective.
    ///
    /// # Errors
    /// As [`Pending::finish`].
    pub fn finish(self, mine: Result<(), OutputError>) -> Result<(), OutputError> {
        let Sink { pending, file, .. } = self;
        let Target { path, needed, sync, .. } = &pending.target;
        let closed = file.and_then(|file| {
            close(file, *sync).map_err(|e| OutputError::from_io(path, "writing", *needed, &e))
        });
        pending.complete(mine.and(closed))
    }
}

/// Makes a rename in the directory of `path` outlive a loss of power.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
