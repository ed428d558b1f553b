//! Names of vertices and nodes: 128 bits that every rank computes alike, and tables keyed by them.
//!
//! Imports nothing of femdd. Start at [`midpoint`]. A name says where a point comes from: a vertex of the
//! initial mesh is named after a cell that has it, a midpoint after the two ends of its edge. So ranks agree on
//! new points without asking each other. Two points of one name would need a collision of a 128-bit hash:
//! among 10^12 points that has a chance of about 10^-15.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_128;

/// A name.
pub(super) type Name = u128;

/// The name of a point of the initial mesh: point `local` of cell `id` of block `block`, the least such triple
/// of all cells that have the point.
pub(super) fn initial(block: u64, id: u64, local: u64) -> Name {
    xxh3_128(bytemuck::bytes_of(&[block, id, local]))
}

/// The name of the midpoint of an edge, whichever end comes first.
#[inline]
pub(super) fn midpoint(a: Name, b: Name) -> Name {
    xxh3_128(bytemuck::bytes_of(&[a.min(b), a.max(b)]))
}

/// The two words of a name, as they travel.
pub(super) fn words(name: Name) -> [u64; 2] {
    [name as u64, (name >> 64) as u64]
}

/// A name from its two words.
pub(super) fn from_words(words: [u64; 2]) -> Name {
    u128::from(words[0]) | u128::from(words[1]) << 64
}

/// Names are hashes already: a table may take their low bits.
#[derive(Default)]
pub(super) struct LowBits(u64);

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, name: u128) {
        self.0 = name as u64;
    }
}

/// Local numbers by name.
pub(super) type ByName = HashMap<Name, u32, BuildHasherDefault<LowBits>>;

/// Local numbers by pair of local numbers: open addressing in one flat table, which grows by doubling.
#[derive(Default)]
pub(super) struct ByPair {
    slots: Vec<(u64, u32)>,
    n: usize,
}

const FREE: u64 = u64::MAX;

impl ByPair {
    /// None yet.
    pub fn new() -> ByPair {
        ByPair { slots: vec![(FREE, 0); 64], n: 0 }
    }

    fn key(a: u32, b: u32) -> u64 {
        u64::from(a.min(b)) << 32 | u64::from(a.max(b))
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (super::super::entities::mix(key) as usize) & mask;
        while self.slots[at].0 != FREE && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// What belongs to the unordered pair.
    #[inline]
    pub fn get(&self, a: u32, b: u32) -> Option<u32> {
        let slot = self.slots[self.place(ByPair::key(a, b))];
        (slot.0 != FREE).then_some(slot.1)
    }

    /// Adds a pair that is not there.
    pub fn insert(&mut self, a: u32, b: u32, value: u32) {
        if 2 * (self.n + 1) > self.slots.len() {
            let double = vec![(FREE, 0); 2 * self.slots.len()];
            for slot in std::mem::replace(&mut self.slots, double) {
                if slot.0 != FREE {
                    let at = self.place(slot.0);
                    self.slots[at] = slot;
                }
            }
        }
        let key = ByPair::key(a, b);
        let at = self.place(key);
        self.slots[at] = (key, value);
        self.n += 1;
    }
}
