//! Buffers on their way to a file: a thread of its own writes them while the run goes on.
//!
//! Imports its parent's types only. Start at [`Queue::start`]. What is under way is bounded in bytes; a buffer beyond
//! that is written by the thread that brings it, so that nobody waits longer than without a queue. The writing
//! thread makes no call of MPI and touches nothing but buffers that were given away to it.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::profile::heap;

use super::column::{Element, Entry};

/// Bytes that may be under way whatever memory is held.
const LEAST_ROOM: u64 = 8 << 20;

/// How a thread's writing went, and how long it was at it.
pub(super) type Done = (io::Result<()>, Duration);

/// Where bytes go.
pub(super) trait Place: Send + Sync + Sized + 'static {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Ends it; with `sync` the bytes have then reached the disk.
    fn close(self, sync: bool) -> io::Result<()>;
}

impl Place for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn close(self, sync: bool) -> io::Result<()> {
        if sync {
            self.sync_data()?;
        }
        // Network file systems report a full disk when the file is closed, and `File`'s drop is silent.
        // SAFETY: the descriptor was ours and is given up here, closed once.
        if unsafe { libc::close(self.into_raw_fd()) } != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Entries of a dataset to be filled and given away.
pub struct Buffer {
    element: Element,
    /// Of eight bytes, so that entries of any type are aligned; may be longer than what is used.
    words: Vec<u64>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn new<T: Entry>(n: usize, mut words: Vec<u64>) -> Buffer {
        let bytes = n * size_of::<T>();
        let needed = bytes.div_ceil(8);
        if words.capacity() < needed {
            words = vec![0; needed];
        } else if words.len() < needed {
            words.resize(needed, 0);
        }
        Buffer { element: T::ELEMENT, words, bytes }
    }

    /// The type of the entries.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.bytes / self.element.size()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The entries, which hold anything at first.
    ///
    /// # Panics
    /// When they are of another type.
    pub fn entries<T: Entry>(&mut self) -> &mut [T] {
        assert_eq!(self.element, T::ELEMENT, "the type of the entries");
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes / size_of::<T>()]
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }
}

/// The way to one file, for any number of threads.
pub(super) struct Queue<P: Place> {
    // Given up before `jobs`, so that the writing thread is the last to hold the file and closes it.
    shared: Arc<Shared<P>>,
    jobs: Sender<(u64, Buffer)>,
}

struct Shared<P> {
    place: P,
    /// Bytes that may be under way.
    room: usize,
    under_way: AtomicUsize,
    /// Buffers to use again; none are kept once all are given away.
    free: Mutex<Vec<Vec<u64>>>,
    all_given: AtomicBool,
    failed: AtomicBool,
    cancelled: Arc<AtomicBool>,
}

/// Bytes that may be under way: what this process has held before and does not hold now, so that the peak of
/// its memory stays what it is. An eighth is left for what is computed meanwhile.
pub(super) fn room() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| cluster::place::kibibytes(&status, key);
    // What was freed may still be resident, for who asks for memory next.
    let resident = of("VmHWM").zip(of("VmRSS")).map_or(0, |(most, now)| most.saturating_sub(now));
    let unused = resident.max(heap::given_up());
    (unused - unused / 8).max(LEAST_ROOM) as usize
}

impl<P: Place> Queue<P> {
    /// Starts the thread that writes to `place`, closes it when the queue is dropped, and ends. Once `cancelled`,
    /// it writes no more.
    pub(super) fn start(
        place: P,
        room: usize,
        sync: bool,
        cancelled: Arc<AtomicBool>,
    ) -> io::Result<(Queue<P>, JoinHandle<Done>)> {
        let shared = Arc::new(Shared {
            place,
            room,
            under_way: AtomicUsize::new(0),
            free: Mutex::default(),
            all_given: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            cancelled,
        });
        let (jobs, received) = mpsc::channel();
        let mine = Arc::clone(&shared);
        let work = move || write_all(mine, &received, sync);
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(work)?;
        Ok((Queue { shared, jobs }, thread))
    }

    /// Sets room for buffers of `piece` bytes aside, as far as `wanted` bytes and the queue's room go: by the thread
    /// that has given memory up, which gets it again where another, with a heap of its own, would not.
    pub(super) fn reserve(&self, piece: usize, wanted: usize) {
        let n = wanted.min(self.shared.room) / piece;
        let buffers = (0..n).map(|_| Vec::with_capacity(piece.div_ceil(8)));
        self.shared.free.lock().expect("nobody panics while holding it").extend(buffers);
    }

    /// A buffer for `n` entries.
    pub(super) fn buffer<T: Entry>(&self, n: usize) -> Buffer {
        let used = self.shared.free.lock().expect("nobody panics while holding it").pop();
        Buffer::new::<T>(n, used.unwrap_or_default())
    }

    /// Gives a buffer away. An error is that of a write by this thread; those of the other thread it returns
    /// itself, and what comes after one of them is dropped.
    pub(super) fn send(&self, offset: u64, buffer: Buffer) -> io::Result<()> {
        let shared = &self.shared;
        if shared.failed.load(Relaxed) {
            return Ok(());
        }
        let bytes = buffer.bytes;
        if shared.under_way.fetch_add(bytes, AcqRel) + bytes <= shared.room {
            // There is nobody to receive it only where the thread has panicked, which joining it reports.
            let _ = self.jobs.send((offset, buffer));
            return Ok(());
        }
        shared.under_way.fetch_sub(bytes, AcqRel);
        let _span = tracing::debug_span!("no room to queue").entered();
        let written = shared.place.write_at(buffer.bytes(), offset);
        shared.take_back(buffer);
        written
    }
}

impl<P: Place> Drop for Queue<P> {
    fn drop(&mut self) {
        self.shared.all_given.store(true, Release);
        if let Ok(mut free) = self.shared.free.lock() {
            *free = Vec::new();
        }
    }
}

impl<P> Shared<P> {
    fn take_back(&self, buffer: Buffer) {
        if !self.all_given.load(Acquire) {
            self.free.lock().expect("nobody panics while holding it").push(buffer.words);
        }
    }
}

/// The work of the thread.
fn write_all<P: Place>(shared: Arc<Shared<P>>, jobs: &Receiver<(u64, Buffer)>, sync: bool) -> Done {
    if cluster::profile::is_on() {
        cluster::profile::join("output");
    }
    let (mut result, mut worked) = (Ok(()), Duration::ZERO);
    for (offset, buffer) in jobs {
        if result.is_ok() && !shared.cancelled.load(Relaxed) {
            let (begin, _span) = (Instant::now(), tracing::debug_span!("write").entered());
            result = shared.place.write_at(buffer.bytes(), offset);
            shared.failed.store(result.is_err(), Relaxed);
            worked += begin.elapsed();
        }
        shared.under_way.fetch_sub(buffer.bytes, AcqRel);
        shared.take_back(buffer);
    }
    let begin = Instant::now();
    let _span = tracing::debug_span!("close").entered();
    let sync = sync && !shared.cancelled.load(Relaxed);
    let shared = Arc::into_inner(shared).expect("the queue gives the file up first");
    let closed = shared.place.close(sync);
    (result.and(closed), worked + begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;

    const PIECE: usize = 1 << 10;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A file system whose writing thread gets on only when it is let.
    #[derive(Default)]
    struct Slow {
        bytes: Mutex<Vec<u8>>,
        open: Mutex<bool>,
        opened: Condvar,
        /// Writes by other threads than the queue's.
        by_callers: AtomicUsize,
        closed: AtomicBool,
        fails: AtomicBool,
    }

    impl Slow {
        fn let_go(&self) {
            *self.open.lock().expect("not poisoned") = true;
            self.opened.notify_all();
        }
    }

    impl Place for Arc<Slow> {
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            if std::thread::current().name() == Some("output") {
                let open = self.open.lock().expect("not poisoned");
                let (_open, waited) =
                    self.opened.wait_timeout_while(open, PATIENCE, |open| !*open).expect("not poisoned");
                assert!(!waited.timed_out(), "the caller waits for a write");
            } else {
                self.by_callers.fetch_add(1, Relaxed);
            }
            if self.fails.load(Relaxed) {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let (mut all, begin) = (self.bytes.lock().expect("not poisoned"), offset as usize);
            if all.len() < begin + bytes.len() {
                all.resize(begin + bytes.len(), 0);
            }
            all[begin..begin + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn close(self, _: bool) -> io::Result<()> {
            self.closed.store(true, Relaxed);
            Ok(())
        }
    }

    type Started = (Arc<Slow>, Queue<Arc<Slow>>, JoinHandle<Done>, Arc<AtomicBool>);

    fn start(room: usize) -> Started {
        let (slow, cancelled) = (Arc::new(Slow::default()), Arc::new(AtomicBool::new(false)));
        let started = Queue::start(Arc::clone(&slow), room, false, Arc::clone(&cancelled));
        let (queue, thread) = started.expect("a thread");
        (slow, queue, thread, cancelled)
    }

    fn give(queue: &Queue<Arc<Slow>>, k: usize) -> io::Result<()> {
        let mut buffer = queue.buffer::<u8>(PIECE);
        buffer.entries::<u8>().fill(k as u8);
        queue.send((k * PIECE) as u64, buffer)
    }

    fn expected(n: usize) -> Vec<u8> {
        (0..n).flat_map(|k| [k as u8; PIECE]).collect()
    }

    #[test]
    fn the_caller_goes_on_while_nothing_is_written() {
        let (slow, queue, thread, _) = start(32 * PIECE);
        queue.reserve(PIECE, 40 * PIECE);
        (0..32).for_each(|k| give(&queue, k).expect("given"));
        drop(queue);
        // Here comes whatever a run does meanwhile: the first write has not even begun.
        assert!(slow.bytes.lock().expect("not poisoned").is_empty() && !thread.is_finished());
        std::thread::sleep(Duration::from_millis(20));
        slow.let_go();
        let (result, worked) = thread.join().expect("no panic");
        result.expect("written");
        assert!(worked >= Duration::from_millis(10), "what the writer waits for is its work: {worked:?}");
        assert_eq!(*slow.bytes.lock().expect("not poisoned"), expected(32));
        assert!(slow.closed.load(Relaxed) && slow.by_callers.load(Relaxed) == 0);
    }

    #[test]
    fn what_finds_no_room_is_written_by_the_caller() {
        let (slow, queue, thread, _) = start(4 * PIECE);
        for k in 0..20 {
            give(&queue, k).expect("given");
            assert!(queue.shared.under_way.load(Relaxed) <= 4 * PIECE);
        }
        assert_eq!(slow.by_callers.load(Relaxed), 16);
        let free = queue.shared.free.lock().expect("not poisoned").len();
        assert_eq!(free, 1, "a caller fills its buffer again");
        slow.let_go();
        drop(queue);
        thread.join().expect("no panic").0.expect("written");
        assert_eq!(*slow.bytes.lock().expect("not poisoned"), expected(20));
    }

    #[test]
    fn a_failure_reaches_who_joins_and_who_writes() {
        let (slow, queue, thread, _) = start(4 * PIECE);
        slow.fails.store(true, Relaxed);
        (0..4).for_each(|k| give(&queue, k).expect("given"));
        assert_eq!(give(&queue, 4).expect_err("written at once").raw_os_error(), Some(libc::ENOSPC));
        slow.let_go();
        drop(queue);
        let error = thread.join().expect("no panic").0.expect_err("a full disk");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(slow.closed.load(Relaxed), "closed all the same");
    }

    #[test]
    fn what_is_cancelled_is_not_written() {
        let (slow, queue, thread, cancelled) = start(64 * PIECE);
        cancelled.store(true, Relaxed);
        (0..64).for_each(|k| give(&queue, k).expect("given"));
        drop(queue);
        // The gate is shut: the thread ends because it passes by.
        thread.join().expect("no panic").0.expect("nothing failed");
        assert!(slow.bytes.lock().expect("not poisoned").is_empty() && slow.closed.load(Relaxed));
    }

    #[test]
    fn buffers_hold_entries_of_any_type() {
        let mut buffer = Buffer::new::<f64>(3, Vec::new());
        buffer.entries::<f64>().copy_from_slice(&[1.0, 2.0, 3.0]);
        assert_eq!((buffer.len(), buffer.element(), buffer.bytes().len()), (3, Element::F64, 24));
        let mut again = Buffer::new::<u8>(5, buffer.words);
        again.entries::<u8>().copy_from_slice(&[1, 2, 3, 4, 5]);
        assert_eq!(again.bytes(), [1, 2, 3, 4, 5]);
        assert!(Buffer::new::<i32>(0, Vec::new()).is_empty());
        let mut reserved = Buffer::new::<u64>(4, Vec::with_capacity(6));
        assert!(reserved.words.capacity() == 6 && reserved.entries::<u64>() == [0; 4]);
    }
}
