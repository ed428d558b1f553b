//! HDF5 files shared by all ranks: the layout by rank 0, the data by every rank.
//!
//! Imports `cluster` only. Start at [`Layout`], [`create`] and [`open`].
//!
//! Rank 0 creates the file with every dataset contiguous, allocated at once and never filled, closes
//! it, reserves its space on the disk, and tells the others at which byte each dataset begins
//! (`H5Dget_offset`). From there each rank writes its slab by plain positioned writes, on a thread of its
//! own while the run goes on: small buffers as they are filled ([`Writer::open`]), or whole columns
//! ([`Writer::start`]). No MPI call is made there, so `MPI_THREAD_FUNNELED` suffices and any thread may
//! write. Reading goes the same way backwards.
//!
//! HDF5's parallel driver would make the layout a collective call. When one rank fails inside such a
//! call (a full disk, a quota, a stale mount) the others wait for ever; here a failure is one rank's,
//! and is agreed on. Data is written under another name and renamed when complete, so a reader never
//! sees half a file.

mod column;
mod queue;
mod read;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::Comm;
use hdf5::dataset::{AllocTime, FillTime, Layout as Storage};
use hdf5::types::{FixedAscii, TypeDescriptor};
use serde::{Deserialize, Serialize};

use queue::{Done, Place, Queue};

use super::error::OutputError;

pub use column::{Column, Element, Entry};
pub use queue::Buffer;
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
    /// Of all datasets.
    bytes: u64,
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
        bytes: layout.bytes(),
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

    /// Opens this rank's end of the file, for buffers as they are filled. Not collective; [`Pending::finish`], after
    /// [`Sink::hand_over`], is, and must be called whatever this returns.
    pub fn open(self) -> Sink {
        let Writer { comm, target, slots, .. } = self;
        let mut pending = Pending::new(comm, target);
        let Target { path, partial, needed, sync, .. } = &pending.target;
        let fail = |action: &str, e: io::Error| OutputError::from_io(path, action, *needed, &e);
        let file = open_retrying(partial, OpenOptions::new().write(true)).map_err(|e| fail("writing", e));
        let started = file.and_then(|file| {
            Queue::start(file, queue::room(), *sync, Arc::clone(&pending.cancelled))
                .map_err(|e| fail("starting a thread", e))
        });
        let queue = started.map(|(queue, thread)| {
            pending.thread = Some(thread);
            queue
        });
        Sink { queue, slots, pending }
    }

    /// Starts writing on a thread of its own. Not collective.
    pub fn start(self) -> Pending {
        let Writer { comm, target, slabs, .. } = self;
        let mut pending = Pending::new(comm, target);
        let (target, cancelled) = (pending.target.clone(), Arc::clone(&pending.cancelled));
        let work = move || {
            let begin = Instant::now();
            (write_slabs(&target, slabs, &cancelled), begin.elapsed())
        };
        match std::thread::Builder::new().name("output".to_owned()).spawn(work) {
            Ok(thread) => pending.thread = Some(thread),
            Err(e) => pending.mine = Err(pending.failure("starting a thread", &e)),
        }
        pending
    }
}

/// Positioned writes of this rank's slabs; each is given back when it is written.
fn write_slabs(target: &Target, slabs: Vec<(u64, Column)>, cancelled: &AtomicBool) -> io::Result<()> {
    if slabs.is_empty() {
        return Ok(());
    }
    let file = open_retrying(&target.partial, OpenOptions::new().write(true))?;
    for (offset, column) in slabs {
        if cancelled.load(Relaxed) {
            return Ok(());
        }
        file.write_at(column.bytes(), offset)?;
    }
    file.close(target.sync)
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
/// Dropped without [`Pending::finish`], it has this rank's thread stop and removes the partial file.
#[must_use = "the file gets its name in `finish`"]
pub struct Pending {
    comm: Comm,
    target: Target,
    thread: Option<JoinHandle<Done>>,
    /// Tells the thread to write no more.
    cancelled: Arc<AtomicBool>,
    /// How this rank has fared beside its thread.
    mine: Result<(), OutputError>,
    /// Whether nobody has ended it yet.
    open: bool,
}

/// A file that has its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Written {
    /// Bytes of all its datasets.
    pub bytes: u64,
    /// Seconds that this rank's thread wrote.
    pub worked: f64,
    /// Seconds that [`Pending::finish`] waited for it.
    pub waited: f64,
}

impl Pending {
    fn new(comm: Comm, target: Target) -> Pending {
        Pending { comm, target, thread: None, cancelled: Arc::default(), mine: Ok(()), open: true }
    }

    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.target.path
    }

    /// Whether this rank's part is done, well or not. Not collective.
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for every rank's part and gives the file its name. Collective.
    ///
    /// # Errors
    /// The same on every rank; the partial file is then removed, and a file of that name that was
    /// there before stays as it was.
    pub fn finish(mut self) -> Result<Written, OutputError> {
        let begin = Instant::now();
        self.open = false;
        let joined = {
            let _span = tracing::debug_span!("wait for the writer").entered();
            self.join()
        };
        let waited = begin.elapsed().as_secs_f64();
        let _span = tracing::debug_span!("close file").entered();
        let mine = std::mem::replace(&mut self.mine, Ok(()));
        let tidy = |_: &OutputError| {
            self.discard();
            // No rank goes on before the partial file is gone.
            self.comm.barrier();
        };
        let worked = self.comm.agree(mine.and(joined)).inspect_err(tidy)?;
        let named = if self.comm.is_root() { self.rename() } else { Ok(()) };
        self.comm.agree(named).inspect_err(tidy)?;
        Ok(Written { bytes: self.target.bytes, worked, waited })
    }

    /// Seconds that the thread worked.
    fn join(&mut self) -> Result<f64, OutputError> {
        let Some(thread) = self.thread.take() else { return Ok(0.0) };
        let panicked = |_| (Err(io::Error::other("the output thread panicked")), Duration::ZERO);
        let (written, worked) = thread.join().unwrap_or_else(panicked);
        written.map_err(|e| self.failure("writing", &e))?;
        Ok(worked.as_secs_f64())
    }

    fn failure(&self, action: &str, error: &io::Error) -> OutputError {
        OutputError::from_io(&self.target.path, action, self.target.needed, error)
    }

    fn rename(&self) -> Result<(), OutputError> {
        let Target { path, partial, .. } = &self.target;
        std::fs::rename(partial, path).map_err(|e| self.failure("renaming", &e))?;
        if self.target.sync {
            sync_directory(path).map_err(|e| self.failure("syncing its directory", &e))?;
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
        if self.open {
            self.cancelled.store(true, Relaxed);
            let _ = self.join();
            self.discard();
        }
    }
}

/// A file open for writing, by any thread.
///
/// Buffers that are sent are written by a thread of its own; as many are under way at once as take the memory
/// that this process has held before and does not hold now. Further ones are written by who sends them.
pub struct Sink {
    // Before `pending`, which waits for a thread that ends with the queue.
    queue: Result<Queue<File>, OutputError>,
    slots: Vec<Slot>,
    pending: Pending,
}

impl Sink {
    /// Sets memory aside for a rank's even share of the file in buffers of `piece` bytes. By the main thread, before
    /// others take buffers.
    pub fn reserve(&self, piece: usize) {
        if let Ok(queue) = &self.queue {
            queue.reserve(piece, self.pending.target.bytes as usize / self.pending.comm.size());
        }
    }

    /// A buffer for `n` entries, to be filled and sent.
    pub fn buffer<T: Entry>(&self, n: usize) -> Buffer {
        match &self.queue {
            Ok(queue) => queue.buffer::<T>(n),
            Err(_) => Buffer::new::<T>(n, Vec::new()),
        }
    }

    /// Has a buffer's entries written to a dataset, from row `first` on.
    ///
    /// # Errors
    /// Where there is no room to queue it, a full disk, or what else the system says; the writing thread's errors
    /// are those of [`Pending::finish`].
    ///
    /// # Panics
    /// When the type differs from the dataset's or the rows reach past its end.
    pub fn send(&self, slot: SlotId, first: u64, buffer: Buffer) -> Result<(), OutputError> {
        let slot = &self.slots[slot.0];
        assert_eq!(slot.element, buffer.element(), "{}: the type of the entries", slot.name);
        if buffer.is_empty() {
            return Ok(());
        }
        let begin = first * slot.row();
        assert!(begin + buffer.len() as u64 <= slot.len(), "{}: rows past the end", slot.name);
        let offset = slot.offset.expect("a dataset that is written to has an offset");
        let queue = self.queue.as_ref().map_err(Clone::clone)?;
        let sent = queue.send(offset + begin * slot.element.size() as u64, buffer);
        sent.map_err(|e| self.pending.failure("writing", &e))
    }

    /// As [`Sink::send`], of entries that are at hand.
    ///
    /// # Errors
    /// As [`Sink::send`].
    ///
    /// # Panics
    /// As [`Sink::send`].
    pub fn write<T: Entry>(&self, slot: SlotId, first: u64, entries: &[T]) -> Result<(), OutputError> {
        let mut buffer = self.buffer::<T>(entries.len());
        buffer.entries().copy_from_slice(entries);
        self.send(slot, first, buffer)
    }

    /// What all entries of a dataset are, where the file does not hold them.
    pub fn same(&self, slot: SlotId) -> Option<i32> {
        self.slots[slot.0].same
    }

    /// Says that this rank has sent its part, and how it fared. The run goes on until [`Pending::finish`]. Not
    /// collective.
    pub fn hand_over(self, mine: Result<(), OutputError>) -> Pending {
        let Sink { queue, mut pending, .. } = self;
        pending.mine = mine.and(queue.map(drop));
        pending
    }
}

/// Makes a rename in the directory of `path` outlive a loss of power.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
