//! Who else has a vertex: sets of ranks, each distinct set kept once.
//!
//! Imports nothing of femdd. Start at [`RankSets`]. A vertex has the number of a set; 0 is the empty one, which
//! nearly all vertices have. On a rank there are as many sets as kinds of interfaces, so a table of pairs
//! answers what two sets have in common.

use std::collections::HashMap;

/// Distinct sets of ranks, ascending; set 0 is empty.
#[derive(Debug, Clone)]
pub(super) struct RankSets {
    flat: Vec<u32>,
    offsets: Vec<usize>,
    numbers: HashMap<Vec<u32>, u32>,
    meets: HashMap<(u32, u32), u32>,
    with: HashMap<(u32, u32), u32>,
}

impl RankSets {
    /// The empty set only.
    pub fn new() -> RankSets {
        RankSets {
            flat: Vec::new(),
            offsets: vec![0, 0],
            numbers: [(Vec::new(), 0)].into(),
            meets: HashMap::new(),
            with: HashMap::new(),
        }
    }

    /// The ranks of a set.
    #[inline]
    pub fn get(&self, set: u32) -> &[u32] {
        &self.flat[self.offsets[set as usize]..self.offsets[set as usize + 1]]
    }

    /// The number of the set of these ranks, which ascend.
    pub fn number(&mut self, ranks: &[u32]) -> u32 {
        if let Some(&number) = self.numbers.get(ranks) {
            return number;
        }
        let number = self.offsets.len() as u32 - 1;
        self.flat.extend_from_slice(ranks);
        self.offsets.push(self.flat.len());
        self.numbers.insert(ranks.to_vec(), number);
        number
    }

    /// The ranks that two sets have in common.
    #[inline]
    pub fn meet(&mut self, a: u32, b: u32) -> u32 {
        if a == b || a == 0 || b == 0 {
            return if a == b { a } else { 0 };
        }
        let key = (a.min(b), a.max(b));
        if let Some(&set) = self.meets.get(&key) {
            return set;
        }
        let other = self.get(b);
        let common: Vec<u32> = self.get(a).iter().copied().filter(|r| other.contains(r)).collect();
        let set = self.number(&common);
        self.meets.insert(key, set);
        set
    }

    /// A set and one more rank.
    #[inline]
    pub fn with(&mut self, set: u32, rank: u32) -> u32 {
        if self.get(set).contains(&rank) {
            return set;
        }
        if let Some(&found) = self.with.get(&(set, rank)) {
            return found;
        }
        let mut ranks = self.get(set).to_vec();
        ranks.push(rank);
        ranks.sort_unstable();
        let found = self.number(&ranks);
        self.with.insert((set, rank), found);
        found
    }

    /// A set less one rank.
    pub fn without(&mut self, set: u32, rank: u32) -> u32 {
        if !self.get(set).contains(&rank) {
            return set;
        }
        let ranks: Vec<u32> = self.get(set).iter().copied().filter(|&r| r != rank).collect();
        self.number(&ranks)
    }
}
