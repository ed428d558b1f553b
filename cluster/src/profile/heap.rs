//! An allocator that counts what is asked for, how often, and how much is held, and has large arrays on huge pages.
//!
//! Start at [`Counting`], which a program makes its global allocator; without it everything here reads zero. Each
//! thread counts for itself and tells the process once it has taken or given back [`CHUNK`] bytes, so that a request
//! costs a few instructions beside the some hundred of the allocator. What libraries in C ask for is not counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::pages::large;

/// Bytes that a thread may take or give back before it tells the process.
pub const CHUNK: i64 = 64 << 10;

/// Passes every request on to the system's allocator and counts it; under what is [`large`] it asks for huge pages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

/// What a thread has counted.
struct Mine {
    requests: Cell<u64>,
    bytes: Cell<u64>,
    /// Taken less given back since the process was told.
    pending: Cell<i64>,
    told_requests: Cell<u64>,
    told_bytes: Cell<u64>,
}

thread_local! {
    /// Without a destructor, so that it may be used while a thread ends.
    static MINE: Mine = const {
        Mine {
            requests: Cell::new(0),
            bytes: Cell::new(0),
            pending: Cell::new(0),
            told_requests: Cell::new(0),
            told_bytes: Cell::new(0),
        }
    };
}

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// Held by all threads together.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// The most held since [`begin_peak`].
static PEAK: AtomicI64 = AtomicI64::new(0);
/// The most ever held.
static MOST: AtomicI64 = AtomicI64::new(0);
/// Bytes of the largest request since [`begin_largest`], of any thread.
static LARGEST: AtomicU64 = AtomicU64::new(0);

#[inline]
fn taken(size: usize) {
    // Seldom true, so that threads share what they read.
    if size as u64 > LARGEST.load(Relaxed) {
        LARGEST.fetch_max(size as u64, Relaxed);
    }
    MINE.with(|mine| {
        mine.requests.set(mine.requests.get() + 1);
        mine.bytes.set(mine.bytes.get() + size as u64);
        let pending = mine.pending.get() + size as i64;
        mine.pending.set(pending);
        if pending > CHUNK {
            tell(mine);
        }
    });
}

#[inline]
fn given_back(size: usize) {
    MINE.with(|mine| {
        let pending = mine.pending.get() - size as i64;
        mine.pending.set(pending);
        if pending < -CHUNK {
            tell(mine);
        }
    });
}

#[cold]
fn tell(mine: &Mine) {
    let pending = mine.pending.replace(0);
    let live = LIVE.fetch_add(pending, Relaxed) + pending;
    PEAK.fetch_max(live, Relaxed);
    MOST.fetch_max(live, Relaxed);
    let (requests, bytes) = (mine.requests.get(), mine.bytes.get());
    REQUESTS.fetch_add(requests - mine.told_requests.replace(requests), Relaxed);
    BYTES.fetch_add(bytes - mine.told_bytes.replace(bytes), Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came; neither counting nor advice allocates.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's layout.
        let pointer = unsafe { System.alloc(layout) };
        large(pointer, layout.size());
        pointer
    }
    // SAFETY: as the trait demands of the caller.
    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: the caller's pointer and layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    // SAFETY: as the trait demands of the caller.
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's layout.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        large(pointer, layout.size());
        pointer
    }
    // SAFETY: as the trait demands of the caller.
    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        given_back(layout.size());
        // SAFETY: the caller's pointer, layout and size.
        let pointer = unsafe { System.realloc(pointer, layout, size) };
        large(pointer, size);
        pointer
    }
}

/// Requests and bytes of this thread since it began. Bytes that a vector keeps when it grows count again.
#[inline]
pub fn of_thread() -> [u64; 2] {
    MINE.with(|mine| [mine.requests.get(), mine.bytes.get()])
}

/// Requests and bytes of all threads: of this one all, of each other one all but its last [`CHUNK`] or so.
pub fn of_process() -> [u64; 2] {
    MINE.with(tell);
    [REQUESTS.load(Relaxed), BYTES.load(Relaxed)]
}

/// Bytes held by all threads, to [`CHUNK`] for each of the others.
pub fn live() -> u64 {
    MINE.with(tell);
    LIVE.load(Relaxed).max(0) as u64
}

/// Bytes that have been held at some time and are not held now, to [`CHUNK`] for each of the other threads.
pub fn given_up() -> u64 {
    let live = live();
    (MOST.load(Relaxed).max(0) as u64).saturating_sub(live)
}

/// Begins to watch for the largest request; returns that seen so far, for [`end_largest`].
pub fn begin_largest() -> u64 {
    LARGEST.swap(0, Relaxed)
}

/// Bytes of the largest request since [`begin_largest`]; whoever watches around this goes on from `before`.
pub fn end_largest(before: u64) -> u64 {
    LARGEST.fetch_max(before, Relaxed)
}

/// Begins to watch for the most that is held; returns what was seen so far, for [`end_peak`].
pub fn begin_peak() -> i64 {
    MINE.with(tell);
    PEAK.swap(LIVE.load(Relaxed), Relaxed)
}

/// The most held since [`begin_peak`], in bytes; whoever watches around this goes on from `before`.
pub fn end_peak(before: i64) -> u64 {
    MINE.with(tell);
    PEAK.fetch_max(before, Relaxed).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls what the allocator would, on sizes of its own: the test program has another allocator.
    #[test]
    fn peaks_nest_and_totals_add_up() {
        let outer = begin_peak();
        let [requests, bytes] = of_process();
        let base = live();
        taken(3 << 20);
        let inner = begin_peak();
        taken(1 << 20);
        given_back(1 << 20);
        assert_eq!(end_peak(inner), base + (4 << 20), "what was there counts");
        given_back(3 << 20);
        taken(100);
        given_back(100);
        assert_eq!(end_peak(outer), base + (4 << 20), "the inner peak is one of the outer");
        assert_eq!(live(), base);
        assert_eq!(of_process(), [requests + 3, bytes + (4 << 20) + 100]);
        assert!(of_thread()[0] >= 3);
        taken(2 << 20);
        given_back(2 << 20);
        assert!(given_up() >= 2 << 20, "it was held and is not");

        let outer = begin_largest();
        taken(500);
        let inner = begin_largest();
        taken(200);
        taken(300);
        assert_eq!((end_largest(inner), end_largest(outer)), (300, 500));
        assert_eq!(begin_largest(), 3 << 20, "what was before counts again");
        given_back(1000);
    }
}
