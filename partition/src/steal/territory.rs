//! The vertices a rank has while ranks steal from one another, and what it knows of those beside them.
//!
//! Imports `graph`, `level`. Start at [`Territory`]. Vertices of the graph stay where they are until the
//! caller moves them; what goes from rank to rank here are their rows, so that a rank that has stolen
//! vertices can be stolen from in the next round.

use std::collections::HashMap;

use cluster::{Buckets, Comm};

use crate::graph::Graph;
use crate::level::Level;

/// Vertices by slot: first those the graph gave this rank, then what it has met since. A slot is never taken
/// away; a vertex that leaves stays as one known of.
pub(crate) struct Territory<'a> {
    graph: &'a Graph,
    pub(crate) me: u32,
    /// The global number of each slot's vertex.
    ids: Vec<u64>,
    /// The slots of vertices that the graph did not give this rank.
    slots: HashMap<u64, u32>,
    /// Who has each vertex now: right for this rank's own and for their neighbours.
    pub(crate) owner: Vec<u32>,
    /// Of vertices with a row.
    weight: Vec<i64>,
    bytes: Vec<i64>,
    /// Where each slot's row begins in `adj` and how long it is; without a row if it was never owned here.
    begin: Vec<usize>,
    degree: Vec<u32>,
    has_row: Vec<bool>,
    /// Neighbours by slot.
    adj: Vec<u32>,
    edge_weights: Vec<i64>,
    load: i64,
    n_owned: usize,
}

impl<'a> Territory<'a> {
    /// As the graph is dealt out. `bytes` of each owned vertex.
    pub(crate) fn new(comm: &Comm, graph: &'a Graph, level: &Level, bytes: &[i64]) -> Territory<'a> {
        let (n, n_local) = (level.n_owned(), level.map.n_local());
        let me = comm.rank() as u32;
        let mut owner = vec![me; n];
        owner.extend_from_slice(level.map.ghost_owners());
        let weight: Vec<i64> = (0..n).map(|v| level.vertex_weight(v)).collect();
        let pad = |mut xs: Vec<i64>| {
            xs.resize(n_local, 0);
            xs
        };
        Territory {
            graph,
            me,
            ids: (0..n_local as u32).map(|l| level.map.local_to_global(l)).collect(),
            slots: level.map.ghosts().iter().zip(n as u32..).map(|(&g, slot)| (g, slot)).collect(),
            owner,
            load: weight.iter().sum(),
            weight: pad(weight),
            bytes: pad(bytes.to_vec()),
            begin: (0..n_local).map(|v| level.ptr[v.min(n)]).collect(),
            degree: (0..n_local)
                .map(|v| if v < n { (level.ptr[v + 1] - level.ptr[v]) as u32 } else { 0 })
                .collect(),
            has_row: (0..n_local).map(|v| v < n).collect(),
            adj: level.adj.clone(),
            edge_weights: (0..level.adj.len()).map(|k| level.edge_weight(k)).collect(),
            n_owned: n,
        }
    }

    /// The weight of the vertices this rank has.
    pub(crate) fn load(&self) -> i64 {
        self.load
    }

    /// How many vertices this rank has.
    pub(crate) fn n_owned(&self) -> usize {
        self.n_owned
    }

    pub(crate) fn n_slots(&self) -> usize {
        self.ids.len()
    }

    /// The slots of the vertices this rank has.
    pub(crate) fn owned(&self) -> impl Iterator<Item = u32> {
        (0..self.ids.len()).filter(|&s| self.owner[s] == self.me).map(|s| s as u32)
    }

    pub(crate) fn weight(&self, slot: u32) -> i64 {
        self.weight[slot as usize]
    }

    /// The neighbours of a vertex that this rank has, with the weights of the edges.
    pub(crate) fn row(&self, slot: u32) -> impl Iterator<Item = (u32, i64)> {
        let begin = self.begin[slot as usize];
        (begin..begin + self.degree[slot as usize] as usize).map(|k| (self.adj[k], self.edge_weights[k]))
    }

    /// The rank the graph gave a vertex to.
    fn home(&self, slot: u32) -> u32 {
        self.graph.rank_of(self.ids[slot as usize])
    }

    /// How many more bytes will move in the end if a vertex this rank has goes to `thief`.
    pub(crate) fn more_bytes(&self, slot: u32, thief: u32) -> i64 {
        let (home, bytes) = (self.home(slot), self.bytes[slot as usize]);
        if home == self.me {
            bytes
        } else if home == thief {
            -bytes
        } else {
            0
        }
    }

    /// The ranks that have vertices beside this rank's, and the weight of the edges between, ascending.
    pub(crate) fn contacts(&self) -> Vec<(u32, i64)> {
        let mut found: Vec<(u32, i64)> = Vec::new();
        for slot in self.owned() {
            for (u, w) in self.row(slot) {
                let rank = self.owner[u as usize];
                if rank == self.me {
                    continue;
                }
                match found.iter_mut().find(|f| f.0 == rank) {
                    Some(f) => f.1 += w,
                    None => found.push((rank, w)),
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn slot(&mut self, id: u64) -> u32 {
        let at = id.wrapping_sub(self.graph.offset());
        if at < self.graph.n_owned() as u64 {
            return at as u32;
        }
        if let Some(&slot) = self.slots.get(&id) {
            return slot;
        }
        let slot = self.ids.len() as u32;
        self.slots.insert(id, slot);
        self.ids.push(id);
        self.owner.push(u32::MAX);
        self.weight.push(0);
        self.bytes.push(0);
        self.begin.push(0);
        self.degree.push(0);
        self.has_row.push(false);
        slot
    }

    /// Hands vertices of this rank to others, each to the rank beside its slot: those who have neighbours of
    /// theirs are told first, so that every row arrives with its neighbours' new owners. Collective.
    pub(crate) fn commit(&mut self, comm: &Comm, moves: &[(u32, u32)]) {
        let mut told: Vec<(u32, [u64; 2])> = Vec::new();
        let mut ranks: Vec<u32> = Vec::new();
        for &(slot, to) in moves {
            ranks.clear();
            ranks.extend(self.row(slot).map(|(u, _)| self.owner[u as usize]).filter(|&r| r != self.me));
            ranks.sort_unstable();
            ranks.dedup();
            told.extend(ranks.iter().map(|&r| (r, [self.ids[slot as usize], u64::from(to)])));
        }
        for &(slot, to) in moves {
            self.owner[slot as usize] = to;
            self.load -= self.weight[slot as usize];
        }
        self.n_owned -= moves.len();
        for [id, to] in comm.exchange(&Buckets::from_pairs(told)).data {
            let slot = self.slot(id) as usize;
            self.owner[slot] = to as u32;
        }
        let shipped = comm.exchange(&self.shipment(moves)).data;
        let mut at = 0;
        while at < shipped.len() {
            at += self.take_in(&shipped[at..]);
        }
    }

    /// Rows on their way: number, weight, bytes, number of neighbours; number, edge weight, owner of each.
    fn shipment(&self, moves: &[(u32, u32)]) -> Buckets<u64> {
        let mut order = moves.to_vec();
        order.sort_by_key(|m| m.1);
        let mut out = Buckets::empty();
        for (slot, to) in order {
            if out.ranks.last() != Some(&to) {
                out.ranks.push(to);
                out.offsets.push(out.data.len());
            }
            let s = slot as usize;
            out.data.extend([self.ids[s], self.weight[s] as u64, self.bytes[s] as u64]);
            out.data.push(u64::from(self.degree[s]));
            for (u, w) in self.row(slot) {
                let u = u as usize;
                out.data.extend([self.ids[u], w as u64, u64::from(self.owner[u])]);
            }
            *out.offsets.last_mut().expect("an offset at least") = out.data.len();
        }
        out
    }

    /// Takes in the row at the front and returns its length.
    fn take_in(&mut self, row: &[u64]) -> usize {
        let degree = row[3] as usize;
        let slot = self.slot(row[0]) as usize;
        self.owner[slot] = self.me;
        self.weight[slot] = row[1] as i64;
        self.bytes[slot] = row[2] as i64;
        self.load += row[1] as i64;
        self.n_owned += 1;
        let is_new = !self.has_row[slot];
        if is_new {
            self.has_row[slot] = true;
            self.begin[slot] = self.adj.len();
            self.degree[slot] = degree as u32;
        }
        for neighbour in row[4..4 + 3 * degree].chunks_exact(3) {
            let u = self.slot(neighbour[0]);
            self.owner[u as usize] = neighbour[2] as u32;
            if is_new {
                self.adj.push(u);
                self.edge_weights.push(neighbour[1] as i64);
            }
        }
        4 + 3 * degree
    }

    /// Who has the vertices that the graph gave this rank, in its order. Collective.
    pub(crate) fn owners(&self, comm: &Comm) -> Vec<u32> {
        let (offset, n) = (self.graph.offset(), self.graph.n_owned());
        let strangers = self.owned().filter(|&s| s as usize >= n);
        let told = strangers.map(|s| (self.home(s), [self.ids[s as usize], u64::from(self.me)])).collect();
        let mut owner = vec![self.me; n];
        for [id, rank] in comm.exchange(&Buckets::from_pairs(told)).data {
            owner[(id - offset) as usize] = rank as u32;
        }
        owner
    }
}
