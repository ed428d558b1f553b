//! Boundary refinement in parallel: vertices change to the neighbouring part that cuts fewer edges.
//!
//! Imports `level`. Start at [`refine`].
//!
//! Each rank climbs: it makes moves in order of gain, bad ones too, and takes back those after the best
//! state on the way (C. M. Fiduccia, R. M. Mattheyses, "A linear-time heuristic for improving network
//! partitions", DAC 1982). On a box of 384,000 tetrahedra this takes cuts from 1.15 to 1.02 times METIS's.
//!
//! In half a pass vertices move only from lower to higher parts, in the other half only back: two ranks
//! can then not exchange neighbours with one another and make the cut worse. How much weight may enter
//! or leave a part in half a pass is dealt out to the ranks before, so the sum keeps within the limits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cluster::Comm;

use crate::level::Level;

/// How many moves are made without a better state before they are taken back.
const PATIENCE: usize = 100;

/// The weights of the parts on all ranks, and their limits.
pub(crate) struct Parts {
    weight: Vec<i64>,
    least: i64,
    most: i64,
}

impl Parts {
    /// Weighs the parts, of which `outside` weighs beyond this graph. Collective.
    pub(crate) fn new(
        comm: &Comm,
        level: &Level,
        owner: &[u32],
        outside: &[i64],
        max_imbalance: f64,
    ) -> Parts {
        let n_parts = outside.len();
        let mut weight = vec![0i64; n_parts];
        for (v, &p) in owner[..level.n_owned()].iter().enumerate() {
            weight[p as usize] += level.vertex_weight(v);
        }
        comm.sum_slice(&mut weight);
        weight.iter_mut().zip(outside).for_each(|(w, &more)| *w += more);
        let mean = weight.iter().sum::<i64>() as f64 / n_parts as f64;
        // Small parts of whole vertices cannot all be lighter than the next integer.
        let most = ((max_imbalance * mean).floor() as i64).max(mean.ceil() as i64);
        // So that no part is emptied.
        let least = ((0.9 * mean).ceil() as i64).max(1);
        Parts { weight, least, most }
    }

    /// The heaviest over the mean.
    pub(crate) fn imbalance(&self) -> f64 {
        let total = self.weight.iter().sum::<i64>() as f64;
        let heaviest = self.weight.iter().copied().max().unwrap_or(0) as f64;
        if total > 0.0 { heaviest * self.weight.len() as f64 / total } else { 1.0 }
    }

    fn overloaded(&self) -> bool {
        self.weight.iter().any(|&w| w > self.most)
    }
}

/// What holds vertices where they are. Empty lists: nothing does.
#[derive(Clone, Copy)]
pub(crate) struct Ties<'a> {
    /// Owned vertices that do not move.
    pub(crate) fixed: &'a [bool],
    /// How strongly each owned vertex is joined to the part of its rank's number: the price of moving it away,
    /// as a weight in parts of an edge's.
    pub(crate) homes: &'a [i64],
    /// In how many parts an edge of weight 1 is counted beside `homes`.
    pub(crate) unit: i64,
}

impl Ties<'_> {
    /// Every vertex is free.
    pub(crate) const NONE: Ties<'static> = Ties { fixed: &[], homes: &[], unit: 1 };

    /// Whether a vertex that is `away` is joined to its home more than to all its neighbours: it may go back even from
    /// the midst of a part.
    fn pulls_home(&self, level: &Level, v: usize, away: bool) -> bool {
        let tie = self.homes.get(v).copied().unwrap_or(0);
        away && tie > 0 && tie > self.unit * level.row(v).map(|(_, w)| w).sum::<i64>()
    }
}

/// Half a pass on one rank.
struct Sweep<'a> {
    level: &'a Level,
    ties: Ties<'a>,
    /// The part of this rank's number.
    home: u32,
    parts: &'a Parts,
    up: bool,
    /// What this rank added to each part.
    net: Vec<i64>,
    /// Bounds of `net`: this rank's share of the room in each part.
    enter: Vec<i64>,
    leave: Vec<i64>,
    /// How much this rank should take out of each overloaded part, whatever the cut.
    shed: Vec<i64>,
    /// Whether there is a part to take weight out of: the cut may then grow, otherwise it is only let
    /// grow for a while, in the hope of a better one.
    sheds: bool,
    /// Scratch: how strongly a vertex is joined to each part, and the parts where that is not 0.
    joined: Vec<i64>,
    touched: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Move {
    gain: i64,
    to: u32,
}

impl Sweep<'_> {
    /// The best allowed move of a vertex. With `free`, room is not looked at.
    fn best(&mut self, v: usize, owner: &[u32], free: bool) -> Option<Move> {
        let from = owner[v];
        let weight = self.level.vertex_weight(v);
        if self.ties.fixed.get(v) == Some(&true) {
            return None;
        }
        let tie = self.ties.homes.get(v).copied().unwrap_or(0);
        let pulled_home = self.ties.pulls_home(self.level, v, from != self.home);
        if !pulled_home && self.level.row(v).all(|(u, _)| owner[u] == from) {
            return None;
        }
        for (u, w) in self.level.row(v) {
            let p = owner[u] as usize;
            if self.joined[p] == 0 {
                self.touched.push(p as u32);
            }
            self.joined[p] += w * self.ties.unit;
        }
        if tie > 0 {
            if self.joined[self.home as usize] == 0 {
                self.touched.push(self.home);
            }
            self.joined[self.home as usize] += tie;
        }
        let inside = self.joined[from as usize];
        let now = |p: u32| self.parts.weight[p as usize] + self.net[p as usize];
        let f = from as usize;
        let sheds = self.shed[f] > 0 && -self.net[f] < self.shed[f];
        let may_leave = free || self.net[f] - weight >= -self.leave[f];
        let mut best: Option<Move> = None;
        for &to in &self.touched {
            if to == from || (to > from) != self.up || !may_leave {
                continue;
            }
            let gain = self.joined[to as usize] - inside;
            let worth = gain > 0 || sheds || !self.sheds;
            let room = free || self.net[to as usize] + weight <= self.enter[to as usize];
            let better = best.is_none_or(|b| {
                (gain, Reverse(now(to)), Reverse(to)) > (b.gain, Reverse(now(b.to)), Reverse(b.to))
            });
            if worth && room && better {
                best = Some(Move { gain, to });
            }
        }
        for &p in &self.touched {
            self.joined[p as usize] = 0;
        }
        self.touched.clear();
        best
    }

    /// Deals the room in each part out to the ranks, in proportion to what they would move. Collective.
    fn share_room(&mut self, comm: &Comm, owner: &[u32], active: &[u32]) {
        let n_parts = self.net.len();
        for p in 0..n_parts {
            let weight = self.parts.weight[p];
            self.enter[p] = (self.parts.most - weight).max(0);
            self.leave[p] = if weight < self.parts.least { -1 } else { weight - self.parts.least };
            self.shed[p] = (weight - self.parts.most).max(0);
        }
        if comm.size() == 1 {
            return;
        }
        let mut mine = vec![0i64; 2 * n_parts];
        for &v in active {
            let v = v as usize;
            if let Some(step) = self.best(v, owner, true) {
                mine[step.to as usize] += self.level.vertex_weight(v);
                mine[n_parts + owner[v] as usize] += self.level.vertex_weight(v);
            }
        }
        let mut all = mine.clone();
        comm.sum_slice(&mut all);
        let share = |room: i64, k: usize| {
            if all[k] == 0 { 0 } else { (i128::from(room) * i128::from(mine[k]) / i128::from(all[k])) as i64 }
        };
        for p in 0..n_parts {
            self.enter[p] = share(self.enter[p], p);
            self.leave[p] = if self.leave[p] < 0 { -1 } else { share(self.leave[p], n_parts + p) };
            self.shed[p] = if mine[n_parts + p] == 0 {
                0
            } else {
                share(self.shed[p], n_parts + p) + i64::from(self.shed[p] > 0)
            };
        }
    }
}

/// Which vertices moved in this half pass, and which are to be looked at.
struct Marks<'a> {
    moved_in: &'a mut [u32],
    half: u32,
    listed: &'a mut [bool],
    active: &'a mut Vec<u32>,
}

impl Sweep<'_> {
    /// Makes moves in order of gain, then takes back those after the best state on the way. Returns the
    /// number of moves that stay and what they gain.
    fn climb(
        &mut self,
        owner: &mut [u32],
        queue: &mut BinaryHeap<(i64, Reverse<u32>)>,
        marks: &mut Marks,
    ) -> [i64; 2] {
        let n = self.level.n_owned();
        // Each move as vertex and the part it left.
        let mut log: Vec<(u32, u32)> = Vec::new();
        let (mut gain, mut spread) = (0i64, 0i128);
        let mut kept = (0usize, 0i64, 0i128);
        while let Some((expected, Reverse(v))) = queue.pop() {
            let v = v as usize;
            if marks.moved_in[v] == marks.half {
                continue;
            }
            let Some(step) = self.best(v, owner, false) else { continue };
            if step.gain < expected {
                queue.push((step.gain, Reverse(v as u32)));
                continue;
            }
            let weight = self.level.vertex_weight(v);
            let (from, to) = (owner[v] as usize, step.to as usize);
            let now = |p: usize| i128::from(self.parts.weight[p] + self.net[p]);
            // Half the change of the sum of squared weights.
            spread += i128::from(weight) * (i128::from(weight) + now(to) - now(from));
            self.net[from] -= weight;
            self.net[to] += weight;
            owner[v] = step.to;
            marks.moved_in[v] = marks.half;
            gain += step.gain;
            log.push((v as u32, from as u32));
            if self.sheds || (gain, -spread) > (kept.1, -kept.2) {
                kept = (log.len(), gain, spread);
            } else if log.len() - kept.0 >= PATIENCE {
                break;
            }
            for (u, _) in self.level.row(v) {
                if u >= n || marks.moved_in[u] == marks.half {
                    continue;
                }
                if !marks.listed[u] {
                    marks.listed[u] = true;
                    marks.active.push(u as u32);
                }
                if let Some(step) = self.best(u, owner, false) {
                    queue.push((step.gain, Reverse(u as u32)));
                }
            }
        }
        for (v, from) in log.drain(kept.0..).rev() {
            let weight = self.level.vertex_weight(v as usize);
            self.net[owner[v as usize] as usize] -= weight;
            self.net[from as usize] += weight;
            owner[v as usize] = from;
        }
        [kept.0 as i64, kept.1]
    }
}

/// Moves vertices between parts while that lowers the cut or the weight of overloaded parts. Collective.
///
/// `owner` holds a part for each local vertex; ghosts' entries are kept up to date. The cut counts `ties` to home.
pub(crate) fn refine(
    comm: &Comm,
    level: &Level,
    owner: &mut [u32],
    ties: Ties,
    parts: &mut Parts,
    passes: usize,
) {
    let _span = tracing::debug_span!("move boundaries").entered();
    let n = level.n_owned();
    let n_parts = parts.weight.len();
    let home = comm.rank() as u32;
    // Vertices that may be on a boundary: those that are, those with ghosts beside them, and
    // neighbours of those that moved.
    let mut listed = vec![false; n];
    let mut active: Vec<u32> = Vec::new();
    for &v in &level.halo.shared().data {
        listed[v as usize] = true;
    }
    for v in 0..n {
        listed[v] |= ties.pulls_home(level, v, owner[v] != home);
        listed[v] |= level.adj[level.ptr[v]..level.ptr[v + 1]].iter().any(|&u| owner[u as usize] != owner[v]);
        if listed[v] {
            active.push(v as u32);
        }
    }
    let mut moved_in = vec![0u32; n];
    let mut half = 0;
    for _ in 0..passes {
        let (mut moves, mut gain) = (0, 0);
        for up in [true, false] {
            half += 1;
            let zeros = || vec![0i64; n_parts];
            let mut sweep = Sweep {
                level,
                ties,
                home,
                parts,
                up,
                net: zeros(),
                enter: zeros(),
                leave: zeros(),
                shed: zeros(),
                sheds: parts.overloaded(),
                joined: zeros(),
                touched: Vec::new(),
            };
            sweep.share_room(comm, owner, &active);
            let mut queue: BinaryHeap<(i64, Reverse<u32>)> = BinaryHeap::new();
            for &v in &active {
                if let Some(step) = sweep.best(v as usize, owner, false) {
                    queue.push((step.gain, Reverse(v)));
                }
            }
            let totals = sweep.climb(
                owner,
                &mut queue,
                &mut Marks { moved_in: &mut moved_in, half, listed: &mut listed, active: &mut active },
            );
            let mut sums = sweep.net;
            sums.extend(totals);
            comm.sum_slice(&mut sums);
            for (weight, net) in parts.weight.iter_mut().zip(&sums) {
                *weight += net;
            }
            moves += sums[n_parts];
            gain += sums[n_parts + 1];
            level.halo.forward(owner, 1);
        }
        if moves == 0 || (gain <= 0 && !parts.overloaded()) {
            break;
        }
    }
}
