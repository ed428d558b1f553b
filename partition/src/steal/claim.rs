//! Thieves claim clusters from their victims' queues by one-sided atomics on a packed word.
//!
//! Imports `cluster`, `queue`, `territory`. Start at [`Market::trade_with_neighbours`].
//!
//! A queue's word has the next cluster in its upper half, what the queue still holds in its lower one. A
//! thief reads it, takes the clusters from there on that weigh at most half of the rest (one at least) and
//! swaps the word; if somebody was faster it looks again. The victim takes no part, and learns from its own
//! words, after a barrier, how far each queue was emptied.

use cluster::{Buckets, Comm, Window};

use super::queue::{Queue, slices};
use super::territory::Territory;

/// The word of the queue for ranks that have nothing. Those of neighbours follow, then the claimants of the
/// clusters in this one.
const STRANGERS: usize = 0;

/// At most so many thieves are served in a round, and so many ranks that have nothing.
pub(crate) const MOST: usize = 64;

/// The words of a rank.
pub(crate) const WORDS: usize = 1 + 2 * MOST;

/// The word of a queue: the next cluster, and what is left in units of a size that lets it fit.
fn pack(before: &[i64], head: usize) -> u64 {
    let total = before[before.len() - 1];
    let shift = (64 - (total as u64).leading_zeros()).saturating_sub(32);
    ((head as u64) << 32) | ((total - before[head]) as u64 >> shift)
}

/// Which cluster a word says is next.
fn head(word: u64) -> usize {
    (word >> 32) as usize
}

/// How many clusters a thief takes from a queue whose next one is `head`: those within half of what is left
/// and within its need; one at least, unless that is more than twice the need.
fn grab(before: &[i64], head: usize, need: i64) -> usize {
    let n = before.len() - 1;
    if head >= n || before[head + 1] - before[head] > need.saturating_mul(2) {
        return 0;
    }
    let most = ((before[n] - before[head]) / 2).min(need);
    before[head + 1..].iter().take_while(|&&b| b - before[head] <= most).count().max(1)
}

/// One claim: the clusters taken, empty if there was nothing to take. Not collective.
fn claim(window: &Window, victim: usize, word: usize, before: &[i64], need: i64) -> std::ops::Range<usize> {
    let mut seen = window.load(victim, word);
    loop {
        let from = head(seen);
        let to = from + grab(before, from, need);
        if to == from {
            return from..from;
        }
        let was = window.compare_and_swap(victim, word, seen, pack(before, to));
        if was == seen {
            return from..to;
        }
        seen = was;
    }
}

/// The window and what a round of claims needs to know.
pub(crate) struct Market<'a> {
    pub(crate) comm: &'a Comm,
    pub(crate) window: &'a Window,
    pub(crate) deterministic: bool,
    /// Decides with which victim a thief begins, where that is free.
    pub(crate) turn: u64,
}

impl Market<'_> {
    /// Offers the queues to the ranks in contact, claims what this rank needs from those that offer to it,
    /// and returns the vertices that others took, each with its thief, and the number of claims this rank
    /// made. Collective.
    pub(crate) fn trade_with_neighbours(&self, queues: &[Queue], need: i64) -> (Vec<(u32, u32)>, u64) {
        let me = self.comm.rank();
        let mut offers: Vec<(u32, Vec<i64>)> = Vec::new();
        for (k, queue) in queues.iter().enumerate() {
            self.window.store(1 + k, pack(&queue.before, 0));
            let mut offer = vec![1 + k as i64];
            offer.extend_from_slice(&queue.before);
            offers.push((queue.thief, offer));
        }
        offers.sort_unstable_by_key(|o| o.0);
        let mut sent = Buckets::empty();
        for (thief, offer) in offers {
            sent.ranks.push(thief);
            sent.data.extend(offer);
            sent.offsets.push(sent.data.len());
        }
        // Nobody leaves this exchange before all have stored their words.
        let offered = self.comm.exchange(&sent);
        let mut open: Vec<(usize, &[i64])> = offered.iter().map(|(v, offer)| (v as usize, offer)).collect();
        if !self.deterministic && !open.is_empty() {
            let first = (self.turn as usize).wrapping_add(me) % open.len();
            open.rotate_left(first);
        }
        let (mut need, mut claims) = (need, 0);
        while !open.is_empty() {
            // One claim from each in turn, so that no victim is drained while another waits.
            open.retain(|&(victim, offer)| {
                let (word, before) = (offer[0] as usize, &offer[1..]);
                let got = claim(self.window, victim, word, before, need);
                need -= before[got.end] - before[got.start];
                claims += u64::from(!got.is_empty());
                !got.is_empty()
            });
        }
        self.comm.barrier();
        let mut moves = Vec::new();
        for (k, queue) in queues.iter().enumerate() {
            let sold = queue.ends[head(self.window.load(me, 1 + k))];
            moves.extend(queue.cells[..sold].iter().map(|&slot| (slot, queue.thief)));
        }
        (moves, claims)
    }

    /// As [`Market::trade_with_neighbours`] where some ranks have nothing and so no neighbours: each of them takes
    /// one compact piece from the heaviest rank that still offers one. Memory and messages of a few bytes a
    /// rank. Collective.
    pub(crate) fn take_from_the_heaviest(&self, territory: &Territory, mean: f64) -> (Vec<(u32, u32)>, u64) {
        let me = self.comm.rank();
        let all = self.comm.all_gather([territory.load(), territory.n_owned() as i64]);
        let empty: Vec<usize> = (0..all.len()).filter(|&r| all[r][1] == 0).collect();
        let mut victims: Vec<usize> = (0..all.len()).filter(|&r| all[r][1] > 1).collect();
        victims.sort_by_key(|&r| (-all[r][0], r));
        // How many pieces a rank offers, and the weight of each: what makes it as light as the mean, and
        // something in any case from the heaviest.
        let offer = |r: usize| {
            let [load, n] = all[r];
            let surplus = load as f64 - mean;
            let many = (surplus / mean - 0.1).ceil().max(if victims[0] == r { 1.0 } else { 0.0 }) as usize;
            let many = many.min(empty.len()).min(MOST).min(n as usize - 1);
            let weight = surplus.max(0.5 * load as f64) / many.max(1) as f64;
            (many, weight.min(mean))
        };
        let mut pieces = Vec::new();
        if victims.contains(&me) {
            let (many, weight) = offer(me);
            pieces = slices(territory, weight, many);
        }
        // Every piece counts as one: `before` is 0, 1, 2 and so on.
        let before: Vec<i64> = (0..=pieces.len() as i64).collect();
        self.window.store(STRANGERS, pack(&before, 0));
        for k in 0..MOST {
            self.window.store(1 + MOST + k, 0);
        }
        let offered = self.comm.all_gather(pieces.len() as u32);
        let mut claims = 0;
        if territory.n_owned() == 0 {
            let rank_order = empty.iter().position(|&r| r == me).unwrap_or(0);
            let mut skipped = 0;
            for &victim in &victims {
                let n = offered[victim] as usize;
                if self.deterministic {
                    // The pieces are dealt out in the order of victims, to the thieves in the order of ranks.
                    if rank_order < skipped + n {
                        let piece = rank_order - skipped;
                        self.window.fetch_add(victim, STRANGERS, (1 << 32) - 1);
                        self.window.fetch_add(victim, 1 + MOST + piece, me as u64 + 1);
                        claims = 1;
                        break;
                    }
                    skipped += n;
                    continue;
                }
                let before: Vec<i64> = (0..=n as i64).collect();
                let got = claim(self.window, victim, STRANGERS, &before, 1);
                if !got.is_empty() {
                    self.window.fetch_add(victim, 1 + MOST + got.start, me as u64 + 1);
                    claims = 1;
                    break;
                }
            }
        }
        self.comm.barrier();
        let mut moves = Vec::new();
        for (k, piece) in pieces.iter().enumerate() {
            let claimant = self.window.load(me, 1 + MOST + k);
            if claimant > 0 {
                moves.extend(piece.iter().map(|&slot| (slot, claimant as u32 - 1)));
            }
        }
        (moves, claims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Claims one after the other take every cluster once, never more than half of what is left where
        /// there was a choice, and end.
        #[test]
        fn claims_empty_a_queue(weights in prop::collection::vec(0i64..1 << 40, 1..60)) {
            let mut before = vec![0];
            for w in &weights {
                before.push(before[before.len() - 1] + w);
            }
            let (n, mut at) = (weights.len(), 0);
            while at < n {
                let word = pack(&before, at);
                prop_assert_eq!(head(word), at);
                let k = grab(&before, at, i64::MAX);
                prop_assert!(k > 0);
                let taken = before[at + k] - before[at];
                prop_assert!(k == 1 || 2 * taken <= before[n] - before[at]);
                prop_assert!((pack(&before, at + k) & 0xffff_ffff) <= (word & 0xffff_ffff));
                at += k;
            }
            prop_assert_eq!(grab(&before, n, i64::MAX), 0);
        }
    }

    #[test]
    fn a_thief_takes_what_it_needs_and_no_more() {
        let before = [0, 40, 60, 70, 75, 76];
        assert_eq!(grab(&before, 0, 1000), 1, "one at least, although more than half");
        assert_eq!(grab(&before, 1, 1000), 1, "20 of 36: more than half, but the least");
        assert_eq!(grab(&before, 2, 8), 1, "10 is nearer to 8 than nothing is");
        assert_eq!(grab(&before, 0, 19), 0, "40 is further from 19 than nothing is");
        assert_eq!(grab(&before, 0, -1), 0);
    }
}
