//! How rank 0 deals out what it reads: each record goes to the rank whose share it falls in, in messages
//! of bounded size.
//!
//! Imports `cluster`. Start at [`Sink`], which readers write to. [`Parts`] keeps what it gets;
//! [`Dealer`] sends it on, to [`follow`] on the other ranks.

use cluster::{Buckets, Comm};

use super::types;

/// Where records go. The first argument of each call is the record's number among all records of the
/// kind, from which a dealer tells whose it is.
pub(super) trait Sink {
    /// How many records of the coming section there are.
    fn expect(&mut self, n: u64);
    /// A node's identifier. Coordinates follow in the same order, perhaps later.
    fn node_id(&mut self, index: u64, id: u64);
    /// A node's coordinates.
    fn point(&mut self, index: u64, x: [f64; 3]);
    /// A node's identifier and coordinates.
    fn node(&mut self, index: u64, id: u64, x: [f64; 3]);
    /// An element; `key` is its entity's tag (MSH 4) or its physical group's (MSH 2).
    fn element(&mut self, index: u64, element_type: u8, key: i32, id: u64, nodes: &[u64]);
    /// Room for so many nodes (type 0) or elements, which are coming.
    fn reserve(&mut self, _element_type: u8, _n: usize) {}
    /// Several identifiers of nodes, the first of them number `index`.
    fn node_ids(&mut self, index: u64, ids: &[u64]) {
        ids.iter().zip(index..).for_each(|(&id, index)| self.node_id(index, id));
    }
    /// Several elements of one type and entity, the first of them number `index`: for each its identifier and
    /// its nodes.
    fn elements(&mut self, index: u64, element_type: u8, key: i32, words: &[u64]) {
        for (element, index) in words.chunks_exact(1 + types::n_nodes(element_type)).zip(index..) {
            self.element(index, element_type, key, element[0], &element[1..]);
        }
    }
    /// A node and the one it is periodic with.
    fn pair(&mut self, index: u64, slave: u64, master: u64);
}

/// Elements of one type, in the file's order of nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Elements {
    pub ids: Vec<u64>,
    pub keys: Vec<i32>,
    pub nodes: Vec<u64>,
}

/// A rank's part of what a file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub node_ids: Vec<u64>,
    pub points: Vec<[f64; 3]>,
    /// By element type; only supported types.
    pub elements: Vec<Elements>,
    pub pairs: Vec<(u64, u64)>,
}

impl Parts {
    pub(super) fn new() -> Parts {
        Parts {
            node_ids: Vec::new(),
            points: Vec::new(),
            elements: vec![Elements::default(); types::N_TYPES],
            pairs: Vec::new(),
        }
    }
}

impl Sink for Parts {
    fn expect(&mut self, _: u64) {}
    fn node_id(&mut self, _: u64, id: u64) {
        self.node_ids.push(id);
    }
    fn point(&mut self, _: u64, x: [f64; 3]) {
        self.points.push(x);
    }
    fn node(&mut self, _: u64, id: u64, x: [f64; 3]) {
        self.node_ids.push(id);
        self.points.push(x);
    }
    fn element(&mut self, _: u64, element_type: u8, key: i32, id: u64, nodes: &[u64]) {
        let elements = &mut self.elements[element_type as usize];
        elements.ids.push(id);
        elements.keys.push(key);
        elements.nodes.extend_from_slice(nodes);
    }
    fn reserve(&mut self, element_type: u8, n: usize) {
        if element_type == 0 {
            self.node_ids.reserve_exact(n);
            self.points.reserve_exact(n);
            return;
        }
        let elements = &mut self.elements[element_type as usize];
        elements.ids.reserve_exact(n);
        elements.keys.reserve_exact(n);
        elements.nodes.reserve_exact(n * types::n_nodes(element_type));
    }
    fn node_ids(&mut self, _: u64, ids: &[u64]) {
        self.node_ids.extend_from_slice(ids);
    }
    fn elements(&mut self, _: u64, element_type: u8, key: i32, words: &[u64]) {
        let elements = &mut self.elements[element_type as usize];
        let width = 1 + types::n_nodes(element_type);
        elements.ids.extend(words.iter().step_by(width));
        elements.keys.resize(elements.ids.len(), key);
        for element in words.chunks_exact(width) {
            elements.nodes.extend_from_slice(&element[1..]);
        }
    }
    fn pair(&mut self, _: u64, slave: u64, master: u64) {
        self.pairs.push((slave, master));
    }
}

/// Where the share of rank `rank` among `size` begins, of `n` records.
pub(super) fn share_begin(n: u64, rank: usize, size: usize) -> u64 {
    (u128::from(n) * rank as u128 / size as u128) as u64
}

/// Words of a round of messages: 2 MiB.
const ROUND: usize = 1 << 18;

const DONE: u64 = 0;
const NODE_IDS: u64 = 1;
const POINTS: u64 = 2;
const NODES: u64 = 3;
const ELEMENTS: u64 = 4;
const PAIRS: u64 = 5;

/// Rank 0's end: keeps its own share, sends the others theirs.
pub(super) struct Dealer {
    /// `None`: all is for this rank.
    comm: Option<Comm>,
    mine: Parts,
    n: u64,
    /// The rank whose share was asked for last, and that share.
    to: u32,
    share: std::ops::Range<u64>,
    kind: u64,
    round: Buckets<u64>,
}

impl Dealer {
    pub(super) fn new(comm: &Comm) -> Dealer {
        let comm = (comm.size() > 1).then(|| comm.clone());
        Dealer { comm, ..Dealer::alone() }
    }

    /// One that keeps everything.
    pub(super) fn alone() -> Dealer {
        let (mine, round) = (Parts::new(), Buckets::empty());
        Dealer { comm: None, mine, n: 0, to: 0, share: 0..0, kind: DONE, round }
    }

    /// The rank whose share record `index` falls in; 0 is this one.
    fn owner(&mut self, index: u64) -> u32 {
        let Some(comm) = &self.comm else { return 0 };
        if self.share.contains(&index) {
            return self.to;
        }
        let size = comm.size();
        let mut to = size - 1;
        if index < self.n {
            to = ((u128::from(index + 1) * size as u128 - 1) / u128::from(self.n)) as usize;
        }
        self.to = to as u32;
        self.share = share_begin(self.n, to, size)..share_begin(self.n, to + 1, size);
        self.to
    }

    /// Room for `words` words of a message of `kind` to `to`. A round has messages of one kind, so records
    /// that alternate between kinds would make a round each.
    fn message(&mut self, to: u32, kind: u64, words: usize) -> &mut Vec<u64> {
        let last = self.round.ranks.last().copied();
        let full = self.round.data.len() + words + 1 > ROUND;
        if last.is_some() && (kind != self.kind || full || last > Some(to)) {
            self.flush();
        }
        self.kind = kind;
        if self.round.ranks.last() != Some(&to) {
            self.round.ranks.push(to);
            self.round.data.push(kind);
        } else {
            self.round.offsets.pop();
        }
        self.round.offsets.push(self.round.data.len() + words);
        &mut self.round.data
    }

    fn flush(&mut self) {
        if let Some(comm) = &self.comm {
            comm.exchange(&self.round);
        }
        self.round.ranks.clear();
        self.round.offsets.truncate(1);
        self.round.data.clear();
    }

    /// Ends the deal, whether all was read or not; this rank's part. The others return from [`follow`].
    pub(super) fn finish(mut self) -> Parts {
        if !self.round.is_empty() {
            self.flush();
        }
        if let Some(comm) = &self.comm {
            let done = (1..comm.size() as u32).map(|rank| (rank, DONE)).collect();
            comm.exchange(&Buckets::from_pairs(done));
        }
        self.mine
    }
}

impl Sink for Dealer {
    fn expect(&mut self, n: u64) {
        self.n = n;
        self.share = 0..0;
    }

    fn node_id(&mut self, index: u64, id: u64) {
        match self.owner(index) {
            0 => self.mine.node_id(index, id),
            to => self.message(to, NODE_IDS, 1).push(id),
        }
    }

    fn point(&mut self, index: u64, x: [f64; 3]) {
        match self.owner(index) {
            0 => self.mine.point(index, x),
            to => self.message(to, POINTS, 3).extend(x.map(f64::to_bits)),
        }
    }

    fn node(&mut self, index: u64, id: u64, x: [f64; 3]) {
        match self.owner(index) {
            0 => self.mine.node(index, id, x),
            to => {
                let [x, y, z] = x.map(f64::to_bits);
                self.message(to, NODES, 4).extend([id, x, y, z]);
            }
        }
    }

    fn element(&mut self, index: u64, element_type: u8, key: i32, id: u64, nodes: &[u64]) {
        match self.owner(index) {
            0 => self.mine.element(index, element_type, key, id, nodes),
            to => {
                // Type and key share a word.
                let head = u64::from(element_type) << 32 | u64::from(key as u32);
                let message = self.message(to, ELEMENTS, 2 + nodes.len());
                message.extend([head, id]);
                message.extend_from_slice(nodes);
            }
        }
    }

    fn pair(&mut self, index: u64, slave: u64, master: u64) {
        match self.owner(index) {
            0 => self.mine.pair(index, slave, master),
            to => self.message(to, PAIRS, 2).extend([slave, master]),
        }
    }
}

/// The other ranks' end: what rank 0's [`Dealer`] sends here, until it finishes. Collective with it.
pub(super) fn follow(comm: &Comm) -> Parts {
    let mut parts = Parts::new();
    loop {
        let received = comm.exchange(&Buckets::<u64>::empty());
        for (_, message) in received.iter() {
            let (kind, mut words) = (message[0], &message[1..]);
            match kind {
                DONE => return parts,
                NODE_IDS => parts.node_ids.extend_from_slice(words),
                POINTS => parts
                    .points
                    .extend(words.chunks_exact(3).map(|x| std::array::from_fn(|d| f64::from_bits(x[d])))),
                NODES => {
                    for node in words.chunks_exact(4) {
                        parts.node(0, node[0], std::array::from_fn(|d| f64::from_bits(node[1 + d])));
                    }
                }
                PAIRS => parts.pairs.extend(words.chunks_exact(2).map(|p| (p[0], p[1]))),
                _ => {
                    while let [head, id, rest @ ..] = words {
                        let element_type = (head >> 32) as u8;
                        let (nodes, rest) = rest.split_at(types::n_nodes(element_type));
                        parts.element(0, element_type, *head as u32 as i32, *id, nodes);
                        words = rest;
                    }
                }
            }
        }
    }
}
