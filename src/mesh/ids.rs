//! Compressing sparse 64-bit identifiers into consecutive local numbers.
//!
//! Imports nothing of femdd. Two representations behind one interface: a table over the range of the
//! identifiers where it is dense (generated meshes, most files), a sorted list where it is not.

/// A set of distinct identifiers, each with a local number: its rank in ascending order.
#[derive(Debug, Clone)]
pub struct IdSet {
    ids: Vec<u64>,
    /// `table[id - first]` is the local number, where the range is dense enough to afford it.
    table: Option<(u64, Vec<u32>)>,
}

/// A table costs 4 bytes an identifier in the range; up to this many entries a member it is cheaper
/// than sorting the references (measured: 24 million references to 1 million identifiers, 0.05 s
/// against 0.9 s).
const MAX_RANGE_PER_REFERENCE: usize = 4;

impl IdSet {
    /// The distinct identifiers among `references`.
    pub fn new<'a>(references: impl Iterator<Item = &'a u64> + Clone) -> IdSet {
        let (mut first, mut last, mut n) = (u64::MAX, 0u64, 0usize);
        for &id in references.clone() {
            first = first.min(id);
            last = last.max(id);
            n += 1;
        }
        if n == 0 {
            return IdSet { ids: Vec::new(), table: None };
        }
        let range = last - first + 1;
        if range <= (n * MAX_RANGE_PER_REFERENCE) as u64 + 1024 {
            let mut table = vec![u32::MAX; range as usize];
            for &id in references {
                table[(id - first) as usize] = 0;
            }
            let mut ids = Vec::new();
            for (k, entry) in table.iter_mut().enumerate() {
                if *entry == 0 {
                    *entry = ids.len() as u32;
                    ids.push(first + k as u64);
                }
            }
            IdSet { ids, table: Some((first, table)) }
        } else {
            let mut ids: Vec<u64> = references.copied().collect();
            ids.sort_unstable();
            ids.dedup();
            IdSet { ids, table: None }
        }
    }

    /// The identifiers, ascending.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The number of identifiers.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The local number of `id`, if it is a member.
    pub fn get(&self, id: u64) -> Option<u32> {
        match &self.table {
            Some((first, table)) => {
                let k = id.checked_sub(*first)?;
                table.get(usize::try_from(k).ok()?).copied().filter(|&local| local != u32::MAX)
            }
            None => self.ids.binary_search(&id).ok().map(|k| k as u32),
        }
    }

    /// The local number of a member.
    ///
    /// # Panics
    /// When `id` is not a member.
    pub fn local(&self, id: u64) -> u32 {
        self.get(id).expect("an identifier of the set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_sparse_agree() {
        let dense = [5u64, 7, 5, 9, 6];
        let sparse = [5u64, 7_000_000_000_000, 5, 9, 6];
        let (a, b) = (IdSet::new(dense.iter()), IdSet::new(sparse.iter()));
        assert!(a.table.is_some() && b.table.is_none());
        assert_eq!(a.ids(), [5, 6, 7, 9]);
        assert_eq!(b.ids(), [5, 6, 9, 7_000_000_000_000]);
        assert_eq!((a.local(9), b.local(9)), (3, 2));
        assert_eq!((a.get(8), b.get(8)), (None, None));
        assert!(IdSet::new([].iter()).is_empty());
    }
}
