//! One-sided atomics on words that every rank exposes: no other rank takes part in an operation.
//!
//! Imports `comm`. Start at [`Window`]. Every operation is atomic with respect to every other one on the
//! same word, whoever makes it; the words are read and written by these operations alone.

use std::mem::MaybeUninit;
use std::os::raw::{c_int, c_void};

use mpi::ffi;

use crate::comm::{Comm, Scalar, count};

/// Words of 64 bits on each rank that all ranks may read and change while the owner does something else.
///
/// Between ranks of one machine an operation is one in shared memory. Where the network has no atomics the
/// owner's MPI library carries it out the next time the owner communicates: owners should wait for the
/// others in a collective call, not in a loop of their own.
///
/// Dropping it is collective: every rank drops its windows in the same order. Errors inside MPI end the
/// job, which is MPI's default for windows: there is no way to agree on them.
///
/// # Source
/// MPI 3.1, chapter 11: passive target synchronisation, one epoch (`MPI_Win_lock_all`) from start to end.
pub struct Window {
    /// Kept as long as the window.
    comm: Comm,
    raw: ffi::MPI_Win,
    n_words: usize,
}

impl Window {
    /// Exposes `n_words` words on this rank (each rank may choose), all 0. Collective.
    pub fn new(comm: &Comm, n_words: usize) -> Window {
        let mut base: *mut c_void = std::ptr::null_mut();
        let mut raw = MaybeUninit::uninit();
        let bytes = ffi::MPI_Aint::try_from(n_words * size_of::<u64>()).expect("a window fits the memory");
        comm.tally().collective(size_of::<u64>());
        // SAFETY: MPI allocates `bytes` bytes, aligned for any type, and writes their address to `base` (which
        // the interface calls a plain pointer) and the window to `raw`. Nobody else can address the words
        // before the barrier, after which the epoch is open on this rank.
        let raw = unsafe {
            ffi::MPI_Win_allocate(
                bytes,
                count(size_of::<u64>()),
                ffi::RSMPI_INFO_NULL,
                comm.raw(),
                (&raw mut base).cast(),
                raw.as_mut_ptr(),
            );
            let raw = raw.assume_init();
            if n_words > 0 {
                std::ptr::write_bytes(base.cast::<u64>(), 0, n_words);
            }
            ffi::MPI_Win_lock_all(ffi::MPI_MODE_NOCHECK as c_int, raw);
            ffi::MPI_Win_sync(raw);
            raw
        };
        comm.barrier();
        Window { comm: comm.clone(), raw, n_words }
    }

    /// The number of words on this rank.
    pub fn n_words(&self) -> usize {
        self.n_words
    }

    /// Adds to a word of a rank, wrapping around, and returns what was there before. Not collective.
    ///
    /// # Panics
    /// When the rank does not exist, or the word is not one of this rank's own when it is asked for.
    pub fn fetch_add(&self, rank: usize, word: usize, term: u64) -> u64 {
        self.check(rank, word);
        let mut before = 0u64;
        // SAFETY: the epoch is open, the window has words of the matching type, and the result has arrived
        // when the flush returns.
        unsafe {
            ffi::MPI_Fetch_and_op(
                (&raw const term).cast(),
                (&raw mut before).cast(),
                u64::datatype(),
                count(rank),
                word as ffi::MPI_Aint,
                ffi::RSMPI_SUM,
                self.raw,
            );
            ffi::MPI_Win_flush(count(rank), self.raw);
        }
        before
    }

    /// Replaces a word of a rank by `new` if it is `expected`; returns what was there before. Not collective.
    ///
    /// # Panics
    /// As [`Window::fetch_add`].
    pub fn compare_and_swap(&self, rank: usize, word: usize, expected: u64, new: u64) -> u64 {
        self.check(rank, word);
        let mut before = 0u64;
        // SAFETY: as in `fetch_add`.
        unsafe {
            ffi::MPI_Compare_and_swap(
                (&raw const new).cast(),
                (&raw const expected).cast(),
                (&raw mut before).cast(),
                u64::datatype(),
                count(rank),
                word as ffi::MPI_Aint,
                self.raw,
            );
            ffi::MPI_Win_flush(count(rank), self.raw);
        }
        before
    }

    /// A word of a rank as it is now. Not collective.
    ///
    /// # Panics
    /// As [`Window::fetch_add`].
    pub fn load(&self, rank: usize, word: usize) -> u64 {
        self.fetch_add(rank, word, 0)
    }

    /// Sets a word of this rank. Not collective; others see it at the latest after a barrier.
    ///
    /// # Panics
    /// As [`Window::fetch_add`].
    pub fn store(&self, word: usize, value: u64) {
        let me = self.comm.rank();
        let mut seen = self.load(me, word);
        while seen != value {
            let before = self.compare_and_swap(me, word, seen, value);
            if before == seen {
                break;
            }
            seen = before;
        }
    }

    fn check(&self, rank: usize, word: usize) {
        assert!(rank < self.comm.size(), "rank {rank} of {}", self.comm.size());
        assert!(rank != self.comm.rank() || word < self.n_words, "word {word} of {}", self.n_words);
        if rank != self.comm.rank() {
            self.comm.tally().message(rank as u32, size_of::<u64>());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut finalized: c_int = 0;
        // SAFETY: the window was made by `new`; its epoch is closed and it is freed once, and only while MPI
        // runs. A panic ends the job, so the collective call is not made then.
        unsafe {
            ffi::MPI_Finalized(&mut finalized);
            if finalized == 0 && !std::thread::panicking() {
                ffi::MPI_Win_unlock_all(self.raw);
                ffi::MPI_Win_free(&mut self.raw);
            }
        }
    }
}
