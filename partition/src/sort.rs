//! Sorting keys on a rank, and where to cut sorted keys so that all ranks get equal shares.
//!
//! Imports `cluster`. Start at [`order`] and [`cuts_between_keys`]; whoever has items with keys sends them where the
//! cuts say, and sorts what arrives.
//!
//! The keys where shares begin are found by bisection: all ranks count their own keys below a guess, one
//! reduction adds the counts up, and 64 halvings give the key itself whatever the distribution.

use cluster::Comm;
use rayon::prelude::*;

/// For each wanted count the largest number with at most so many entries below it on all ranks.
fn bisect(comm: &Comm, wanted: &[u64], below: impl Fn(u64) -> usize) -> Vec<u64> {
    let mut found = vec![0u64; wanted.len()];
    let mut counts = vec![0u64; wanted.len()];
    for bit in (0..u64::BITS).rev() {
        for (r, count) in counts.iter_mut().enumerate() {
            *count = below(found[r] | 1 << bit) as u64;
        }
        comm.sum_slice(&mut counts);
        for (r, &count) in counts.iter().enumerate() {
            if count <= wanted[r] {
                found[r] |= 1 << bit;
            }
        }
    }
    found
}

/// Leading bits of the keys by which they are first dealt into buckets.
const BUCKET_BITS: u32 = 11;

/// Keys and their positions, ascending by key, equal ones by position. Threads share the work.
///
/// The leading bits in which keys differ deal them into buckets that fit a cache; each is sorted there.
///
/// # Panics
/// When there are 2^32 keys or more.
pub fn order(keys: &[u64]) -> Vec<(u64, u32)> {
    let n = u32::try_from(keys.len()).expect("fewer than 2^32 items on a rank");
    if keys.is_sorted() {
        return keys.iter().copied().zip(0..n).collect();
    }
    let varied = keys.iter().fold(0, |bits, &k| bits | (k ^ keys[0]));
    let shift = (u64::BITS - varied.leading_zeros()).saturating_sub(BUCKET_BITS);
    let bucket = |key: u64| (key >> shift) as usize & ((1 << BUCKET_BITS) - 1);
    let mut begin = vec![0usize; (1 << BUCKET_BITS) + 1];
    for &key in keys {
        begin[bucket(key) + 1] += 1;
    }
    for b in 0..1 << BUCKET_BITS {
        begin[b + 1] += begin[b];
    }
    let mut next = begin.clone();
    let mut pairs = vec![(0u64, 0u32); keys.len()];
    for (&key, k) in keys.iter().zip(0..n) {
        let place = &mut next[bucket(key)];
        pairs[*place] = (key, k);
        *place += 1;
    }
    let mut pieces = Vec::with_capacity(1 << BUCKET_BITS);
    let mut rest = pairs.as_mut_slice();
    for b in 0..1 << BUCKET_BITS {
        let (piece, behind) = rest.split_at_mut(begin[b + 1] - begin[b]);
        pieces.push(piece);
        rest = behind;
    }
    pieces.into_par_iter().for_each(<[_]>::sort_unstable);
    pairs
}

/// Where to cut sorted lists so that each rank gets an equal share of all ranks' items: for each list
/// the position where each rank's share begins, and the list's length. Items with equal keys stay
/// together, so shares differ by as many. Collective.
pub fn cuts_between_keys(comm: &Comm, lists: &[&[(u64, u32)]]) -> Vec<Vec<usize>> {
    let n_ranks = comm.size() as u128;
    let n_global = u128::from(comm.sum(lists.iter().map(|l| l.len() as u64).sum::<u64>()));
    let wanted: Vec<u64> = (1..n_ranks).map(|r| (n_global * r / n_ranks) as u64).collect();
    let below = |list: &[(u64, u32)], key: u64| list.partition_point(|p| p.0 < key);
    let key = bisect(comm, &wanted, |guess| lists.iter().map(|l| below(l, guess)).sum());
    let of_list = |list: &&[(u64, u32)]| {
        let mut cuts = vec![0];
        cuts.extend(key.iter().map(|&key| below(list, key)));
        cuts.push(list.len());
        cuts
    };
    lists.iter().map(of_list).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorts_by_key_then_position(
            keys in prop::collection::vec(prop_oneof![0u64..5, any::<u64>(), Just(u64::MAX)], 0..3000),
        ) {
            let mut expected: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            prop_assert_eq!(order(&keys), expected);
        }
    }
}
