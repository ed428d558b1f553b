//! Sorting items by key over all ranks, each rank ending with an equal share.
//!
//! Imports `cluster`. Start at [`redistribute`].
//!
//! The keys where shares begin are found by bisection: all ranks count their own keys below a guess, one
//! reduction adds the counts up, and 64 halvings give the key itself whatever the distribution. Each
//! item then travels once.

use bytemuck::Pod;
use cluster::{Buckets, Comm};
use rayon::prelude::*;

/// Sorts items by key over all ranks. Rank `r` of `P` gets positions `r * n / P` to `(r + 1) * n / P` of
/// the sorted sequence of all `n`, with their keys; equal keys keep the order they were given in (by
/// rank, then by position).
///
/// Collective.
///
/// # Panics
/// When there is not one key an item.
pub fn redistribute<T: Pod>(comm: &Comm, keys: &[u64], items: &[T]) -> (Vec<u64>, Vec<T>) {
    let offset = comm.exclusive_sum(keys.len() as u64);
    let ids: Vec<u64> = (offset..offset + keys.len() as u64).collect();
    let (keys, _, items) = redistribute_by_id(comm, keys, &ids, items);
    (keys, items)
}

/// As [`redistribute`], but equal keys are ordered by an id, so that the result does not depend on how
/// the items were dealt out before. Ids should be distinct: items with one key and one id may
/// end on either side of a boundary between ranks. Returns keys, ids and items.
///
/// Collective.
///
/// # Panics
/// When there is not one key and one id an item.
pub fn redistribute_by_id<T: Pod>(
    comm: &Comm,
    keys: &[u64],
    ids: &[u64],
    items: &[T],
) -> (Vec<u64>, Vec<u64>, Vec<T>) {
    assert!(keys.len() == items.len() && ids.len() == items.len(), "one key and one id per item");
    let order = sorted_order(keys, ids);
    let (keys, ids, items) = (pick(&order, keys), pick(&order, ids), pick(&order, items));
    if comm.size() == 1 {
        return (keys, ids, items);
    }
    let cuts = cuts(comm, &keys, &ids);
    let mut destinations = Vec::with_capacity(keys.len());
    for (rank, cut) in cuts.windows(2).enumerate() {
        destinations.resize(cut[1].max(destinations.len()), rank as u32);
    }
    let keys = comm.exchange(&Buckets::from_destinations(&destinations, &keys)).data;
    let ids = comm.exchange(&Buckets::from_destinations(&destinations, &ids)).data;
    let items = comm.exchange(&Buckets::from_destinations(&destinations, &items)).data;
    let order = sorted_order(&keys, &ids);
    (pick(&order, &keys), pick(&order, &ids), pick(&order, &items))
}

fn pick<T: Copy>(order: &[u32], xs: &[T]) -> Vec<T> {
    order.iter().map(|&k| xs[k as usize]).collect()
}

/// The positions of a sorted local sequence where each rank's share begins, and its length.
fn cuts(comm: &Comm, keys: &[u64], ids: &[u64]) -> Vec<usize> {
    let n_ranks = comm.size() as u128;
    let n_global = u128::from(comm.sum(keys.len() as u64));
    let wanted: Vec<u64> = (1..n_ranks).map(|r| (n_global * r / n_ranks) as u64).collect();
    // The largest key with at most the wanted number of keys below it; then, among equal keys, the
    // largest id with at most the wanted number of pairs below.
    let key = bisect(comm, &wanted, |_, guess| keys.partition_point(|&k| k < guess));
    let range = |r: usize| (keys.partition_point(|&k| k < key[r]), keys.partition_point(|&k| k <= key[r]));
    let ranges: Vec<(usize, usize)> = (0..wanted.len()).map(range).collect();
    let below = |r: usize, guess: u64| {
        let (begin, end) = ranges[r];
        begin + ids[begin..end].partition_point(|&i| i < guess)
    };
    let id = bisect(comm, &wanted, below);
    let mut cuts = vec![0];
    cuts.extend((0..wanted.len()).map(|r| below(r, id[r])));
    cuts.push(keys.len());
    cuts
}

/// For each wanted count the largest number with at most so many entries below it on all ranks.
fn bisect(comm: &Comm, wanted: &[u64], below: impl Fn(usize, u64) -> usize) -> Vec<u64> {
    let mut found = vec![0u64; wanted.len()];
    let mut counts = vec![0u64; wanted.len()];
    for bit in (0..u64::BITS).rev() {
        for (r, count) in counts.iter_mut().enumerate() {
            *count = below(r, found[r] | 1 << bit) as u64;
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

/// The order that sorts by key, then by id.
fn sorted_order(keys: &[u64], ids: &[u64]) -> Vec<u32> {
    if ids.is_sorted() {
        return order(keys).into_iter().map(|p| p.1).collect();
    }
    let by_id = order(ids);
    let keys: Vec<u64> = by_id.iter().map(|p| keys[p.1 as usize]).collect();
    order(&keys).into_iter().map(|p| by_id[p.1 as usize].1).collect()
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
    let key = bisect(comm, &wanted, |_, guess| lists.iter().map(|l| below(l, guess)).sum());
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
        fn sorts_by_key_then_id(
            pairs in prop::collection::vec((prop_oneof![0u64..5, any::<u64>()], 0u64..1000), 0..300),
        ) {
            let (keys, ids): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
            let mut expected: Vec<u32> = (0..pairs.len() as u32).collect();
            expected.sort_by_key(|&k| pairs[k as usize]);
            prop_assert_eq!(sorted_order(&keys, &ids), expected);
        }
    }
}
