//! The directory of nodes: where any rank finds the coordinates of a node, and who else uses it.
//!
//! Identifiers are dealt out in equal ranges; the rank that keeps a range answers for it. Every call is
//! collective. Memory and messages grow with a rank's own nodes.

use bytemuck::Pod;
use cluster::{Buckets, Comm};

/// How identifiers 0..=max are dealt out over the ranks.
#[derive(Debug, Clone, Copy)]
pub struct Ranges {
    per_rank: u64,
    n_ranks: u64,
}

impl Ranges {
    /// Equal ranges of the identifiers up to `max_id`.
    pub fn new(comm: &Comm, max_id: u64) -> Ranges {
        Ranges { per_rank: max_id / comm.size() as u64 + 1, n_ranks: comm.size() as u64 }
    }

    /// The rank that keeps `id`; one beyond the maximum, which only a faulty file names, is the last's.
    pub fn rank(&self, id: u64) -> u32 {
        (id / self.per_rank).min(self.n_ranks - 1) as u32
    }

    /// Buckets of ascending identifiers.
    pub fn buckets(&self, sorted: &[u64]) -> Buckets<u64> {
        let mut buckets = Buckets { ranks: Vec::new(), offsets: vec![0], data: sorted.to_vec() };
        for (k, &id) in sorted.iter().enumerate() {
            let rank = self.rank(id);
            if buckets.ranks.last() != Some(&rank) {
                if k > 0 {
                    buckets.offsets.push(k);
                }
                buckets.ranks.push(rank);
            }
        }
        if !sorted.is_empty() {
            buckets.offsets.push(sorted.len());
        }
        buckets
    }
}

/// Values by identifier, each kept by the rank that [`Ranges`] names.
pub struct Directory<T> {
    ranges: Ranges,
    ids: Vec<u64>,
    values: Vec<T>,
}

impl<T: Pod> Directory<T> {
    /// Collects the values that all ranks bring. Of several for one identifier the one from the lowest
    /// rank is kept.
    pub fn new(comm: &Comm, ranges: Ranges, ids: &[u64], values: &[T]) -> Directory<T> {
        let destinations: Vec<u32> = ids.iter().map(|&id| ranges.rank(id)).collect();
        let ids = comm.exchange(&Buckets::from_destinations(&destinations, ids)).data;
        let values = comm.exchange(&Buckets::from_destinations(&destinations, values)).data;
        if ids.windows(2).all(|pair| pair[0] < pair[1]) {
            return Directory { ranges, ids, values };
        }
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&k| ids[k as usize]);
        order.dedup_by_key(|k| ids[*k as usize]);
        Directory {
            ranges,
            ids: order.iter().map(|&k| ids[k as usize]).collect(),
            values: order.iter().map(|&k| values[k as usize]).collect(),
        }
    }

    /// What this rank keeps: ascending identifiers and their values. Not collective.
    pub fn entries(&self) -> (&[u64], &[T]) {
        (&self.ids, &self.values)
    }

    /// The values of `sorted` (ascending, distinct) identifiers, in their order; `Err` with the first
    /// identifier that the directory does not know. The error is this rank's own: agree on it.
    pub fn get(&self, comm: &Comm, sorted: &[u64]) -> Result<Vec<T>, u64> {
        let (known, values) = self.look_up(comm, sorted);
        match known.iter().position(|&k| k == 0) {
            Some(k) => Err(sorted[k]),
            None => Ok(values),
        }
    }

    /// As [`Directory::get`], with `default(id)` for identifiers that are not known.
    pub fn get_or(&self, comm: &Comm, sorted: &[u64], default: impl Fn(u64) -> T) -> Vec<T> {
        let (known, mut values) = self.look_up(comm, sorted);
        for (k, value) in values.iter_mut().enumerate().filter(|(k, _)| known[*k] == 0) {
            *value = default(sorted[k]);
        }
        values
    }

    fn look_up(&self, comm: &Comm, sorted: &[u64]) -> (Vec<u8>, Vec<T>) {
        let asked = comm.exchange(&self.ranges.buckets(sorted));
        let dense = self.ids.len() as u64 == self.ids.last().map_or(0, |last| last - self.ids[0] + 1);
        let find = |id: u64| -> Option<usize> {
            if dense {
                let k = id.checked_sub(*self.ids.first()?)? as usize;
                (k < self.ids.len()).then_some(k)
            } else {
                self.ids.binary_search(&id).ok()
            }
        };
        let mut known = Vec::with_capacity(asked.data.len());
        let mut values = Vec::with_capacity(asked.data.len());
        for &id in &asked.data {
            let k = find(id);
            known.push(u8::from(k.is_some()));
            values.push(k.map_or(T::zeroed(), |k| self.values[k]));
        }
        let Buckets { ranks, offsets, .. } = asked;
        let known =
            comm.exchange(&Buckets { ranks: ranks.clone(), offsets: offsets.clone(), data: known }).data;
        let values = comm.exchange(&Buckets { ranks, offsets, data: values }).data;
        (known, values)
    }
}

impl Directory<[f64; 3]> {
    /// The least and greatest coordinates of the part kept here.
    pub fn bounds(&self) -> ([f64; 3], [f64; 3]) {
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for x in &self.values {
            for d in 0..3 {
                low[d] = low[d].min(x[d]);
                high[d] = high[d].max(x[d]);
            }
        }
        (low, high)
    }
}

/// Who uses which identifiers.
pub struct Sharers {
    ranges: Ranges,
    /// At the directory: (identifier, rank) ascending.
    users: Vec<(u64, u32)>,
    /// At the user: for position `k` of its sorted identifiers, the other ranks that use it.
    shared: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct PositionRank {
    position: u32,
    rank: u32,
}

impl Sharers {
    /// Tells the directory which identifiers (ascending, distinct) this rank uses, and learns who shares
    /// them.
    pub fn new(comm: &Comm, ranges: Ranges, sorted: &[u64]) -> Sharers {
        let sent = ranges.buckets(sorted);
        let asked = comm.exchange(&sent);
        let mut uses: Vec<(u64, u32, u32)> = Vec::with_capacity(asked.data.len());
        for (rank, ids) in asked.iter() {
            uses.extend(ids.iter().enumerate().map(|(k, &id)| (id, rank, k as u32)));
        }
        if asked.len() > 1 {
            uses.sort_unstable();
        }
        let mut replies: Vec<(u32, PositionRank)> = Vec::new();
        for run in uses.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
            for &(_, to, position) in run {
                for &(_, rank, _) in run.iter().filter(|other| other.1 != to) {
                    replies.push((to, PositionRank { position, rank }));
                }
            }
        }
        let answers = comm.exchange(&Buckets::from_pairs(replies));
        let mut shared = Vec::with_capacity(answers.data.len());
        for (keeper, pairs) in answers.iter() {
            let at = sent.ranks.binary_search(&keeper).expect("an answer to a question");
            let begin = sent.offsets[at] as u32;
            shared.extend(pairs.iter().map(|p| (begin + p.position, p.rank)));
        }
        shared.sort_unstable();
        Sharers { ranges, users: uses.into_iter().map(|u| (u.0, u.1)).collect(), shared }
    }

    /// Pairs of (position in this rank's sorted identifiers, another rank that uses it), ascending.
    pub fn shared(&self) -> &[(u32, u32)] {
        &self.shared
    }

    /// Sends each item to every rank that uses its identifier.
    pub fn forward<T: Pod>(&self, comm: &Comm, ids: &[u64], items: &[T]) -> Vec<T> {
        let destinations: Vec<u32> = ids.iter().map(|&id| self.ranges.rank(id)).collect();
        let ids = comm.exchange(&Buckets::from_destinations(&destinations, ids)).data;
        let items = comm.exchange(&Buckets::from_destinations(&destinations, items)).data;
        let mut forward = Vec::new();
        for (&id, &item) in ids.iter().zip(&items) {
            let begin = self.users.partition_point(|u| u.0 < id);
            forward.extend(self.users[begin..].iter().take_while(|u| u.0 == id).map(|u| (u.1, item)));
        }
        comm.exchange(&Buckets::from_pairs(forward)).data
    }
}
