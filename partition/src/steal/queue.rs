//! What a victim offers: for each thief a queue of clusters, grown from the interface with it.
//!
//! Imports `territory`. Start at [`grow`]; [`slices`] is for thieves that have no interface with anyone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::territory::Territory;

/// A cluster weighs at most this part of what the queue still holds, so that the last ones are single
/// vertices.
const FINENESS: i64 = 8;

/// A rank keeps at least this part of its load in a round: what the flow leads through it has to arrive
/// before it can go on.
const KEPT: f64 = 0.25;

/// So many vertices in a row that are too heavy for what is left of a quota end its queue.
const TOO_HEAVY: usize = 32;

/// A change of the cut by one mean edge against moving the bytes of one mean vertex.
const CUT: i64 = 256;
const BYTES: i64 = 96;

/// The vertices offered to a thief, in the order in which they should go.
pub(crate) struct Queue {
    pub(crate) thief: u32,
    /// Slots, cluster after cluster.
    pub(crate) cells: Vec<u32>,
    /// Where each cluster begins in `cells`, and their number.
    pub(crate) ends: Vec<usize>,
    /// The weight of all clusters before each one, and of all.
    pub(crate) before: Vec<i64>,
}

impl Queue {
    fn new(thief: u32, territory: &Territory, cells: Vec<u32>) -> Queue {
        let mut left: i64 = cells.iter().map(|&s| territory.weight(s)).sum();
        let (mut ends, mut before) = (vec![0], vec![0]);
        let (mut begin, mut weight, mut total) = (0, 0, 0);
        for (k, &slot) in cells.iter().enumerate() {
            let more = territory.weight(slot);
            if k > begin && (weight + more) * FINENESS > left {
                total += weight;
                left -= weight;
                ends.push(k);
                before.push(total);
                (begin, weight) = (k, 0);
            }
            weight += more;
        }
        if !cells.is_empty() {
            ends.push(cells.len());
            before.push(total + weight);
        }
        Queue { thief, cells, ends, before }
    }
}

/// A vertex that may be next: by score, then near the interface, then first come.
type Candidate = (i64, Reverse<u32>, Reverse<u64>, u32);

/// What grows for one thief.
struct Region {
    thief: u32,
    quota: f64,
    filled: i64,
    cells: Vec<u32>,
    heap: BinaryHeap<Candidate>,
    /// Vertices in a row that were too heavy.
    heavy: usize,
    done: bool,
}

/// Scratch over slots.
struct Growth<'a> {
    territory: &'a Territory<'a>,
    /// One more than the region that has a slot; 0: none.
    taken: Vec<u16>,
    mean_edge: i64,
    mean_bytes: i64,
    pushed: u64,
}

impl Growth<'_> {
    /// How good it is to add a vertex to a region: what the cut loses, less bytes that move.
    fn score(&self, slot: u32, region: u16, thief: u32) -> i64 {
        let t = self.territory;
        let mut gain = 0;
        for (u, w) in t.row(slot) {
            let (owner, taken) = (t.owner[u as usize], self.taken[u as usize]);
            if taken == region || (owner == thief && taken == 0) {
                gain += w;
            } else if owner == t.me && taken == 0 {
                gain -= w;
            }
        }
        gain * CUT / self.mean_edge - t.more_bytes(slot, thief) * BYTES / self.mean_bytes
    }

    fn push(&mut self, region: &mut Region, number: u16, slot: u32, layer: u32) {
        let score = self.score(slot, number, region.thief);
        self.pushed += 1;
        region.heap.push((score, Reverse(layer), Reverse(self.pushed), slot));
    }

    /// Adds the best vertex that fits to a region; sees to it that the region is done if there is none.
    fn step(&mut self, region: &mut Region, number: u16, room: &mut Room) {
        let t = self.territory;
        let Some((score, Reverse(layer), _, slot)) = region.heap.pop() else {
            region.done = true;
            return;
        };
        if self.taken[slot as usize] != 0 {
            return;
        }
        let now = self.score(slot, number, region.thief);
        if now < score {
            self.pushed += 1;
            region.heap.push((now, Reverse(layer), Reverse(self.pushed), slot));
            return;
        }
        let weight = t.weight(slot);
        let missing = region.quota - region.filled as f64;
        // At most as far above the quota as it was below.
        if weight as f64 > 2.0 * missing || weight > room.weight || room.cells == 0 {
            region.heavy += 1;
            region.done = region.heavy >= TOO_HEAVY || missing <= 0.0 || room.cells == 0;
            return;
        }
        region.heavy = 0;
        region.filled += weight;
        room.weight -= weight;
        room.cells -= 1;
        region.cells.push(slot);
        self.taken[slot as usize] = number;
        region.done = region.filled as f64 >= region.quota;
        for (u, _) in t.row(slot) {
            if t.owner[u as usize] == t.me && self.taken[u as usize] == 0 {
                self.push(region, number, u, layer + 1);
            }
        }
    }
}

/// What a rank may still give in this round.
struct Room {
    weight: i64,
    cells: usize,
}

/// Grows a queue for each thief and its quota, from the interface with it inwards: best-first by change of
/// the cut and bytes, all of them at once, so that each vertex is offered to one thief only. A quota is
/// filled to half a vertex where there are enough.
pub(crate) fn grow(territory: &Territory, quotas: &[(u32, f64)]) -> Vec<Queue> {
    let (n, load) = (territory.n_owned(), territory.load());
    let mut room = Room { weight: (load as f64 * (1.0 - KEPT)) as i64, cells: n.saturating_sub(1) };
    let wanted: f64 = quotas.iter().map(|q| q.1).sum();
    let scale = if wanted > room.weight as f64 { room.weight as f64 / wanted } else { 1.0 };
    let region = |&(thief, quota): &(u32, f64)| Region {
        thief,
        quota: quota * scale,
        filled: 0,
        cells: Vec::new(),
        heap: BinaryHeap::new(),
        heavy: 0,
        done: false,
    };
    let mut regions: Vec<Region> = quotas.iter().map(region).collect();
    let mut growth = scratch(territory);
    let mut beside: Vec<usize> = Vec::new();
    for slot in territory.owned() {
        beside.clear();
        for (u, _) in territory.row(slot) {
            let owner = territory.owner[u as usize];
            if owner != territory.me
                && let Some(k) = regions.iter().position(|r| r.thief == owner)
                && !beside.contains(&k)
            {
                beside.push(k);
            }
        }
        for &k in &beside {
            growth.push(&mut regions[k], k as u16 + 1, slot, 0);
        }
    }
    // Whoever has the least of its quota is next.
    let share = |r: &Region| r.filled as f64 / r.quota.max(1e-300);
    while let Some(k) = (0..regions.len())
        .filter(|&k| !regions[k].done)
        .min_by(|&a, &b| share(&regions[a]).total_cmp(&share(&regions[b])))
    {
        growth.step(&mut regions[k], k as u16 + 1, &mut room);
    }
    regions.into_iter().map(|r| Queue::new(r.thief, territory, r.cells)).collect()
}

fn scratch<'a>(territory: &'a Territory) -> Growth<'a> {
    let (mut edges, mut weight, mut bytes, mut n) = (0, 0, 0, 0);
    for slot in territory.owned() {
        for (_, w) in territory.row(slot) {
            edges += 1;
            weight += w;
        }
        n += 1;
        bytes += territory.more_bytes(slot, u32::MAX).max(0);
    }
    Growth {
        territory,
        taken: vec![0; territory.n_slots()],
        mean_edge: (weight / i64::max(edges, 1)).max(1),
        mean_bytes: (bytes / i64::max(n, 1)).max(1),
        pushed: 0,
    }
}

/// Compact pieces of about `weight` each, at most `most`, for thieves that have nothing: each grown from a
/// vertex far from the others. At least one vertex is kept.
pub(crate) fn slices(territory: &Territory, weight: f64, most: usize) -> Vec<Vec<u32>> {
    let mut growth = scratch(territory);
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    let mut room = Room { weight: i64::MAX, cells: territory.n_owned().saturating_sub(1) };
    for k in 0..most.min(usize::from(u16::MAX) - 1) {
        let Some(start) = outermost(territory, &growth.taken) else { break };
        let mut region = Region {
            thief: u32::MAX,
            quota: weight,
            filled: 0,
            cells: Vec::new(),
            heap: BinaryHeap::new(),
            heavy: 0,
            done: false,
        };
        // The first vertex always fits: a thief with nothing can only gain.
        region.quota = weight.max(territory.weight(start) as f64);
        growth.push(&mut region, k as u16 + 1, start, 0);
        while !region.done {
            growth.step(&mut region, k as u16 + 1, &mut room);
        }
        if region.cells.is_empty() {
            break;
        }
        pieces.push(region.cells);
    }
    pieces
}

/// A vertex at the end of a longest way through what is not taken, nearly.
fn outermost(territory: &Territory, taken: &[u16]) -> Option<u32> {
    let mut far = territory.owned().find(|&s| taken[s as usize] == 0)?;
    for _ in 0..2 {
        let mut seen = vec![false; territory.n_slots()];
        let mut queue = VecDeque::from([far]);
        seen[far as usize] = true;
        while let Some(slot) = queue.pop_front() {
            far = slot;
            for (u, _) in territory.row(slot) {
                let u = u as usize;
                if territory.owner[u] == territory.me && taken[u] == 0 && !seen[u] {
                    seen[u] = true;
                    queue.push_back(u as u32);
                }
            }
        }
    }
    Some(far)
}
