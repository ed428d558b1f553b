//! The directory of nodes: where any rank finds the coordinates of a node, and who else uses it.
//!
//! Identifiers are dealt out in equal ranges; the rank that keeps a range answers for it. Every call is
//! collective. Memory and messages grow with a rank's own nodes.

use bytemuck::Pod;
use cluster::{Buckets, Comm};
use partition::sort;

use super::ids::IdSet;

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

    /// Identifiers by the rank that keeps them, and the position in `ids` of each.
    pub fn buckets(&self, ids: &[u64]) -> (Buckets<u64>, Vec<u32>) {
        let keepers: Vec<u32> = ids.iter().map(|&id| self.rank(id)).collect();
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        if keepers.is_sorted() {
            return (Buckets::from_destinations(&keepers, ids), positions);
        }
        let Buckets { ranks, offsets, data: positions } = Buckets::from_destinations(&keepers, &positions);
        let data = positions.iter().map(|&k| ids[k as usize]).collect();
        (Buckets { ranks, offsets, data }, positions)
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
        let (sent, positions) = ranges.buckets(ids);
        let Buckets { ranks, offsets, .. } = sent.clone();
        let ids = comm.exchange(&sent).data;
        drop(sent);
        let data = positions.iter().map(|&k| values[k as usize]).collect();
        let values = comm.exchange(&Buckets { ranks, offsets, data }).data;
        if ids.is_sorted_by(|a, b| a < b) {
            return Directory { ranges, ids, values };
        }
        let mut order = sort::order(&ids);
        order.dedup_by_key(|pair| pair.0);
        Directory {
            ranges,
            ids: order.iter().map(|pair| pair.0).collect(),
            values: order.iter().map(|pair| values[pair.1 as usize]).collect(),
        }
    }

    /// What this rank keeps: ascending identifiers and their values. Not collective.
    pub fn entries(&self) -> (&[u64], &[T]) {
        (&self.ids, &self.values)
    }

    /// The values of distinct identifiers, in their order; `Err` with the first identifier that the
    /// directory does not know. The error is this rank's own: agree on it.
    pub fn get(&self, comm: &Comm, ids: &[u64]) -> Result<Vec<T>, u64> {
        let (known, values) = self.look_up(comm, ids);
        match known.and_then(|known| known.iter().position(|&k| k == 0)) {
            Some(k) => Err(ids[k]),
            None => Ok(values),
        }
    }

    /// As [`Directory::get`], with `default(id)` for identifiers that are not known.
    pub fn get_or(&self, comm: &Comm, ids: &[u64], default: impl Fn(u64) -> T) -> Vec<T> {
        let (known, mut values) = self.look_up(comm, ids);
        if let Some(known) = known {
            for (k, value) in values.iter_mut().enumerate().filter(|(k, _)| known[*k] == 0) {
                *value = default(ids[k]);
            }
        }
        values
    }

    /// The values of identifiers, and for each whether it is known; nothing where all ranks' are.
    fn look_up(&self, comm: &Comm, ids: &[u64]) -> (Option<Vec<u8>>, Vec<T>) {
        let (sent, positions) = self.ranges.buckets(ids);
        let asked = comm.exchange(&sent);
        drop(sent);
        let dense = self.ids.len() as u64 == self.ids.last().map_or(0, |last| last - self.ids[0] + 1);
        let find = |id: u64| -> Option<usize> {
            if dense {
                let k = id.checked_sub(*self.ids.first()?)? as usize;
                (k < self.ids.len()).then_some(k)
            } else {
                self.ids.binary_search(&id).ok()
            }
        };
        let mut values = Vec::with_capacity(asked.data.len());
        let mut n_unknown = 0;
        for &id in &asked.data {
            let k = find(id);
            n_unknown += usize::from(k.is_none());
            values.push(k.map_or(T::zeroed(), |k| self.values[k]));
        }
        // Unknown ones are rare, so whether they are known is told only then.
        let known = comm.any(n_unknown > 0).then(|| {
            let data = asked.data.iter().map(|&id| u8::from(find(id).is_some())).collect();
            let (ranks, offsets) = (asked.ranks.clone(), asked.offsets.clone());
            comm.exchange(&Buckets { ranks, offsets, data }).data
        });
        let Buckets { ranks, offsets, .. } = asked;
        let values = comm.exchange(&Buckets { ranks, offsets, data: values }).data;
        if positions.is_sorted() {
            return (known, values);
        }
        (known.map(|known| in_order(&positions, &known)), in_order(&positions, &values))
    }
}

/// Puts `xs[k]` at `positions[k]`.
fn in_order<T: Pod>(positions: &[u32], xs: &[T]) -> Vec<T> {
    let mut all = vec![T::zeroed(); xs.len()];
    for (&k, &x) in positions.iter().zip(xs) {
        all[k as usize] = x;
    }
    all
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
    /// At the directory: the identifiers in use, and the ranks that use each.
    known: IdSet,
    first_user: Vec<u32>,
    users: Vec<u32>,
    /// At the user: for position `k` of its identifiers, the other ranks that use it.
    shared: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct PositionRank {
    position: u32,
    rank: u32,
}

impl Sharers {
    /// Tells the directory which identifiers (distinct) this rank uses, and learns who shares them.
    /// Collective.
    pub fn new(comm: &Comm, ranges: Ranges, ids: &[u64]) -> Sharers {
        let (sent, positions) = ranges.buckets(ids);
        let asked = comm.exchange(&sent);
        let known = IdSet::new(asked.data.iter());
        let mut first_user = vec![0u32; known.len() + 1];
        for &id in &asked.data {
            first_user[known.local(id) as usize + 1] += 1;
        }
        for k in 0..known.len() {
            first_user[k + 1] += first_user[k];
        }
        let mut next = first_user.clone();
        let mut uses = vec![PositionRank { position: 0, rank: 0 }; asked.data.len()];
        for (rank, ids) in asked.iter() {
            for (&id, position) in ids.iter().zip(0..) {
                let place = &mut next[known.local(id) as usize];
                uses[*place as usize] = PositionRank { position, rank };
                *place += 1;
            }
        }
        let mut replies: Vec<(u32, PositionRank)> = Vec::new();
        for ends in first_user.windows(2).filter(|ends| ends[1] - ends[0] > 1) {
            let run = &uses[ends[0] as usize..ends[1] as usize];
            for to in run {
                for other in run.iter().filter(|other| other.rank != to.rank) {
                    replies.push((to.rank, PositionRank { position: to.position, rank: other.rank }));
                }
            }
        }
        let answers = comm.exchange(&Buckets::from_pairs(replies));
        let mut shared = Vec::with_capacity(answers.data.len());
        for (keeper, pairs) in answers.iter() {
            let at = sent.ranks.binary_search(&keeper).expect("an answer to a question");
            let asked = &positions[sent.offsets[at]..];
            shared.extend(pairs.iter().map(|p| (asked[p.position as usize], p.rank)));
        }
        shared.sort_unstable();
        Sharers { ranges, known, first_user, users: uses.into_iter().map(|u| u.rank).collect(), shared }
    }

    /// Pairs of (position in this rank's identifiers, another rank that uses it), ascending.
    pub fn shared(&self) -> &[(u32, u32)] {
        &self.shared
    }

    /// Sends each item to every rank that uses its identifier. Collective.
    pub fn forward<T: Pod>(&self, comm: &Comm, ids: &[u64], items: &[T]) -> Vec<T> {
        let (sent, positions) = self.ranges.buckets(ids);
        let data = positions.iter().map(|&k| items[k as usize]).collect();
        let items =
            comm.exchange(&Buckets { ranks: sent.ranks.clone(), offsets: sent.offsets.clone(), data }).data;
        let ids = comm.exchange(&sent).data;
        let mut forward = Vec::new();
        for (&id, &item) in ids.iter().zip(&items) {
            let Some(k) = self.known.get(id) else { continue };
            let users = self.first_user[k as usize] as usize..self.first_user[k as usize + 1] as usize;
            forward.extend(self.users[users].iter().map(|&rank| (rank, item)));
        }
        comm.exchange(&Buckets::from_pairs(forward)).data
    }
}
