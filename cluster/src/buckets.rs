//! Items grouped by rank: what an exchange sends and what it receives.

/// Items grouped by rank, flat: those of `ranks[k]` stand at `data[offsets[k]..offsets[k + 1]]`.
///
/// Size grows with the number of neighbours, never with the number of ranks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets<T> {
    /// The ranks, ascending, each at most once.
    pub ranks: Vec<u32>,
    /// Where each rank's items begin; one longer than `ranks`.
    pub offsets: Vec<usize>,
    /// The items.
    pub data: Vec<T>,
}

impl<T> Buckets<T> {
    /// No ranks, no items.
    pub fn empty() -> Self {
        Buckets { ranks: Vec::new(), offsets: vec![0], data: Vec::new() }
    }

    /// The number of ranks that have items.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether no rank has items.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Each rank with its items.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[T])> {
        self.ranks
            .iter()
            .enumerate()
            .map(|(k, &rank)| (rank, &self.data[self.offsets[k]..self.offsets[k + 1]]))
    }
}

impl<T: Copy> Buckets<T> {
    /// Groups `items[k]` under `destinations[k]`; the order within a rank is kept.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn from_destinations(destinations: &[u32], items: &[T]) -> Self {
        let (order, mut buckets) = Self::group(destinations, items.len());
        buckets.data = order.iter().map(|&k| items[k as usize]).collect();
        buckets
    }

    /// Groups pairs of (rank, item); the order within a rank is kept.
    pub fn from_pairs(pairs: Vec<(u32, T)>) -> Self {
        let destinations: Vec<u32> = pairs.iter().map(|p| p.0).collect();
        let (order, mut buckets) = Self::group(&destinations, pairs.len());
        buckets.data = order.iter().map(|&k| pairs[k as usize].1).collect();
        buckets
    }

    /// The stable order of items by destination, and buckets without data.
    fn group(destinations: &[u32], n: usize) -> (Vec<u32>, Self) {
        assert_eq!(destinations.len(), n, "one destination per item");
        let mut ranks = destinations.to_vec();
        ranks.sort_unstable();
        ranks.dedup();
        let slot = |rank: u32| ranks.binary_search(&rank).expect("every destination was collected");
        let mut offsets = vec![0usize; ranks.len() + 1];
        for &rank in destinations {
            offsets[slot(rank) + 1] += 1;
        }
        for k in 0..ranks.len() {
            offsets[k + 1] += offsets[k];
        }
        let mut next = offsets.clone();
        let mut order = vec![0u32; n];
        for (item, &rank) in destinations.iter().enumerate() {
            let place = &mut next[slot(rank)];
            order[*place] = u32::try_from(item).expect("fewer than 2^32 items on a rank");
            *place += 1;
        }
        (order, Buckets { ranks, offsets, data: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_rank_and_keeps_the_order() {
        let buckets = Buckets::from_destinations(&[3, 1, 3, 0, 1], &["a", "b", "c", "d", "e"]);
        assert_eq!(buckets.ranks, [0, 1, 3]);
        assert_eq!(buckets.offsets, [0, 1, 3, 5]);
        assert_eq!(buckets.data, ["d", "b", "e", "a", "c"]);
        assert_eq!(buckets.iter().map(|(r, xs)| (r, xs.len())).collect::<Vec<_>>(), [(0, 1), (1, 2), (3, 2)]);
    }

    #[test]
    fn nothing_makes_no_buckets() {
        let buckets = Buckets::<u8>::from_pairs(Vec::new());
        assert!(buckets.is_empty() && buckets.offsets == [0]);
    }
}
