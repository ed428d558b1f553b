//! What a rank says to others, counted: messages, their bytes, neighbours, collective calls.
//!
//! Start at [`Counters`]. Counting costs a few relaxed additions a call, beside microseconds of message.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// What this rank has said since the last [`crate::Comm::take_counters`], through this communicator and its
/// duplicates. What libraries such as PETSc and HDF5 send by themselves is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages sent to other ranks.
    pub messages: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Ranks that got at least one of them.
    pub neighbours: u64,
    /// Collective calls: reductions, gathers, broadcasts, barriers; a sparse exchange holds one barrier.
    pub collectives: u64,
    /// Bytes this rank put into them, or took out of broadcasts.
    pub collective_bytes: u64,
    /// Bytes of the largest buffer allocated for a message or a collective result.
    pub largest_buffer: u64,
    /// Bytes of the largest table with one entry for every rank.
    pub largest_table: u64,
}

impl Counters {
    /// The names of the fields, in the order of [`Counters::values`].
    pub const NAMES: [&str; 7] = [
        "messages",
        "bytes",
        "neighbours",
        "collectives",
        "collective_bytes",
        "largest_buffer",
        "largest_table",
    ];

    /// All fields, as numbers that can be reduced over the ranks.
    pub fn values(&self) -> [u64; 7] {
        [
            self.messages,
            self.bytes,
            self.neighbours,
            self.collectives,
            self.collective_bytes,
            self.largest_buffer,
            self.largest_table,
        ]
    }

    /// The inverse of [`Counters::values`].
    pub fn from_values(values: [u64; 7]) -> Counters {
        let [messages, bytes, neighbours, collectives, collective_bytes, largest_buffer, largest_table] =
            values;
        Counters { messages, bytes, neighbours, collectives, collective_bytes, largest_buffer, largest_table }
    }

    /// This stretch and a later one together: counts add up, of sizes and neighbours the larger stays.
    pub fn and(&self, later: &Counters) -> Counters {
        Counters {
            messages: self.messages + later.messages,
            bytes: self.bytes + later.bytes,
            neighbours: self.neighbours.max(later.neighbours),
            collectives: self.collectives + later.collectives,
            collective_bytes: self.collective_bytes + later.collective_bytes,
            largest_buffer: self.largest_buffer.max(later.largest_buffer),
            largest_table: self.largest_table.max(later.largest_table),
        }
    }
}

/// The counters of a communicator as they stand.
pub(crate) struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
    collectives: AtomicU64,
    collective_bytes: AtomicU64,
    largest_buffer: AtomicU64,
    largest_table: AtomicU64,
    /// One bit a rank: whether it got a message.
    reached: Vec<AtomicU64>,
}

impl Tally {
    pub(crate) fn new(ranks: usize) -> Tally {
        let zero = || AtomicU64::new(0);
        Tally {
            messages: zero(),
            bytes: zero(),
            collectives: zero(),
            collective_bytes: zero(),
            largest_buffer: zero(),
            largest_table: zero(),
            reached: (0..ranks.div_ceil(64)).map(|_| zero()).collect(),
        }
    }

    /// A message of `bytes` to another rank.
    pub(crate) fn message(&self, rank: u32, bytes: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.reached[rank as usize / 64].fetch_or(1 << (rank % 64), Relaxed);
    }

    /// A collective call with `bytes` of this rank's.
    pub(crate) fn collective(&self, bytes: usize) {
        self.collectives.fetch_add(1, Relaxed);
        self.collective_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A buffer of that many bytes.
    pub(crate) fn buffer(&self, bytes: usize) {
        self.largest_buffer.fetch_max(bytes as u64, Relaxed);
    }

    /// A table of that many bytes with one entry for every rank.
    pub(crate) fn table(&self, bytes: usize) {
        self.largest_table.fetch_max(bytes as u64, Relaxed);
        self.buffer(bytes);
    }

    pub(crate) fn read(&self) -> Counters {
        let neighbours = self.reached.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum();
        Counters {
            messages: self.messages.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            neighbours,
            collectives: self.collectives.load(Relaxed),
            collective_bytes: self.collective_bytes.load(Relaxed),
            largest_buffer: self.largest_buffer.load(Relaxed),
            largest_table: self.largest_table.load(Relaxed),
        }
    }

    pub(crate) fn take(&self) -> Counters {
        let neighbours = self.reached.iter().map(|word| u64::from(word.swap(0, Relaxed).count_ones())).sum();
        Counters {
            messages: self.messages.swap(0, Relaxed),
            bytes: self.bytes.swap(0, Relaxed),
            neighbours,
            collectives: self.collectives.swap(0, Relaxed),
            collective_bytes: self.collective_bytes.swap(0, Relaxed),
            largest_buffer: self.largest_buffer.swap(0, Relaxed),
            largest_table: self.largest_table.swap(0, Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_and_starts_again() {
        let tally = Tally::new(130);
        tally.message(129, 8);
        tally.message(129, 16);
        tally.message(0, 1);
        tally.collective(24);
        tally.table(520);
        tally.buffer(100);
        let first = Counters {
            messages: 3,
            bytes: 25,
            neighbours: 2,
            collectives: 1,
            collective_bytes: 24,
            largest_buffer: 520,
            largest_table: 520,
        };
        assert_eq!((tally.read(), tally.take()), (first, first));
        assert_eq!(tally.read(), Counters::default());
        assert_eq!(Counters::from_values(first.values()), first);
        tally.message(5, 2);
        let both = first.and(&tally.take());
        assert_eq!((both.messages, both.bytes, both.neighbours, both.largest_buffer), (4, 27, 2, 520));
    }
}
