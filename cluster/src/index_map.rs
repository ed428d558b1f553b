//! Which global indices a rank owns, and which of others' it holds copies of.

use crate::comm::Comm;

/// A rank's part of a global numbering: a contiguous range it owns, then ghosts.
///
/// Local index `l < n_owned` is global `offset + l`; local `n_owned + k` is `ghosts[k]`.
#[derive(Debug, Clone)]
pub struct IndexMap {
    n_owned: usize,
    offset: u64,
    n_global: u64,
    ghosts: Vec<u64>,
    ghost_owners: Vec<u32>,
    /// Positions of `ghosts` in ascending order of their global index.
    sorted: Vec<u32>,
}

impl IndexMap {
    /// Numbers the owned indices rank after rank. Collective.
    ///
    /// `ghosts` are global indices of other ranks, in any order, and `ghost_owners` their owners.
    ///
    /// # Panics
    /// When the two lengths differ.
    pub fn new(comm: &Comm, n_owned: usize, ghosts: Vec<u64>, ghost_owners: Vec<u32>) -> IndexMap {
        let offset = comm.exclusive_sum(n_owned as u64);
        let n_global = comm.sum(n_owned as u64);
        Self::from_parts(n_owned, offset, n_global, ghosts, ghost_owners)
    }

    /// As [`IndexMap::new`], for a caller that knows the offset and the global size already.
    pub fn from_parts(
        n_owned: usize,
        offset: u64,
        n_global: u64,
        ghosts: Vec<u64>,
        ghost_owners: Vec<u32>,
    ) -> IndexMap {
        assert_eq!(ghosts.len(), ghost_owners.len(), "one owner per ghost");
        let mut sorted: Vec<u32> = (0..ghosts.len() as u32).collect();
        sorted.sort_unstable_by_key(|&k| ghosts[k as usize]);
        IndexMap { n_owned, offset, n_global, ghosts, ghost_owners, sorted }
    }

    /// The number of owned indices.
    pub fn n_owned(&self) -> usize {
        self.n_owned
    }

    /// The number of ghosts.
    pub fn n_ghost(&self) -> usize {
        self.ghosts.len()
    }

    /// Owned and ghosts together: the length of a local array.
    pub fn n_local(&self) -> usize {
        self.n_owned + self.ghosts.len()
    }

    /// The number of indices over all ranks.
    pub fn n_global(&self) -> u64 {
        self.n_global
    }

    /// The first global index owned here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The ghosts' global indices.
    pub fn ghosts(&self) -> &[u64] {
        &self.ghosts
    }

    /// The ghosts' owners.
    pub fn ghost_owners(&self) -> &[u32] {
        &self.ghost_owners
    }

    /// The global index of a local one.
    pub fn local_to_global(&self, local: u32) -> u64 {
        let local = local as usize;
        if local < self.n_owned { self.offset + local as u64 } else { self.ghosts[local - self.n_owned] }
    }

    /// The local index of a global one, if it is owned or a ghost here.
    pub fn global_to_local(&self, global: u64) -> Option<u32> {
        if (self.offset..self.offset + self.n_owned as u64).contains(&global) {
            return Some((global - self.offset) as u32);
        }
        let at = self.sorted.binary_search_by_key(&global, |&k| self.ghosts[k as usize]).ok()?;
        Some(self.n_owned as u32 + self.sorted[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_inverse() {
        let map = IndexMap::from_parts(3, 10, 40, vec![30, 2, 17], vec![2, 0, 1]);
        for local in 0..map.n_local() as u32 {
            assert_eq!(map.global_to_local(map.local_to_global(local)), Some(local));
        }
        assert_eq!(map.global_to_local(13), None);
    }
}
