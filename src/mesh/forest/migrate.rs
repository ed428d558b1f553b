//! Leaves change ranks, with all that belongs to them.
//!
//! Imports `mesh`. Start at [`Forest::migrate`]. Two exchanges: ranks that share a vertex tell each other where
//! its leaves go, which says who shares it afterwards; then the leaves travel, with their vertices, nodes, roots,
//! tags and carried values, each vertex once a message. Only vertices that were shared before can be here already
//! or come twice: only these are looked up by name.

use cluster::Buckets;

use super::carried::Carried;
use super::names::{self, ByName};
use super::sharers::RankSets;
use super::store::{Head, LeafTag, Leaves, NONE, Root};
use super::{Forest, MeshError, compact};

/// What a migration moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Cells that changed their rank, over all ranks.
    pub cells: u64,
    /// Bytes that this rank sent with its own.
    pub bytes: u64,
}

/// Points of a message: the place of each, and the points in the order of their places.
struct Places {
    place: Vec<u32>,
    met: Vec<u32>,
}

impl Places {
    fn new(n: usize) -> Places {
        Places { place: vec![NONE; n], met: Vec::new() }
    }

    fn get(&mut self, item: u32) -> u64 {
        let slot = &mut self.place[item as usize];
        if *slot == NONE {
            *slot = self.met.len() as u32;
            self.met.push(item);
        }
        u64::from(*slot)
    }

    fn clear(&mut self) {
        self.met.iter().for_each(|&k| self.place[k as usize] = NONE);
        self.met.clear();
    }
}

impl Forest {
    /// Gives every leaf to the rank `owners` says, and restores the order of leaves. Collective.
    ///
    /// # Shapes
    /// `owners`: one a leaf, in the order of the owned cells of [`Forest::mesh`].
    ///
    /// # Errors
    /// Owners or carried values that do not fit the leaves, more leaves on a rank than 32-bit numbers hold.
    pub fn migrate(&mut self, owners: &[u32], carried: &mut Carried) -> Result<Moved, MeshError> {
        let _span = tracing::debug_span!("forest migrate").entered();
        let size = self.comm.size();
        let fits = if owners.len() != self.n_leaves() {
            Err(format!("{} owners of {} cells", owners.len(), self.n_leaves()))
        } else if let Some(owner) = owners.iter().find(|&&o| o as usize >= size) {
            Err(format!("a cell is to go to rank {owner} of {size}"))
        } else {
            carried.check(self.shape, self.n_leaves())
        };
        self.comm.agree(fits.map_err(MeshError::Forest))?;
        let rank = self.comm.rank() as u32;
        if !self.comm.any(owners.iter().any(|&o| o != rank)) {
            return Ok(Moved::default());
        }
        if let Some(tensor) = &mut self.tensor {
            return tensor.move_leaves(owners, carried);
        }
        self.move_leaves(owners, carried)
    }

    /// The bytes that [`Forest::migrate`] sends with each leaf: its record, what `carried` holds of it, and its part of
    /// what leaves of one rank have in common (vertices, nodes, roots).
    pub fn leaf_bytes(&self, carried: &Carried) -> Vec<u32> {
        let n_values = carried.n_values(self.shape);
        if let Some(tensor) = &self.tensor {
            return tensor.leaf_bytes(n_values);
        }
        let Forest { leaves, points, roots, .. } = self;
        let vertex = if leaves.n_nodes == 0 { 6 } else { 3 };
        let common = 3 * roots.len() + vertex * points.names.len() + 6 * points.node_names.len();
        let words = 4 + leaves.n_corners + leaves.n_nodes + n_values + common.div_ceil(leaves.len().max(1));
        let mut bytes = vec![8 * words as u32; leaves.len()];
        leaves.tags.iter().for_each(|tag| bytes[tag.leaf as usize] += 8);
        bytes
    }

    /// For each vertex the ranks that will have it, this one included, as sets of `sets`. Collective.
    fn future_sharers(&self, owners: &[u32], sets: &mut RankSets) -> Vec<u32> {
        let points = &self.points;
        let mut ranks = vec![0u32; points.names.len()];
        for (corners, &owner) in self.leaves.corners.chunks_exact(self.leaves.n_corners).zip(owners) {
            for &v in corners {
                let set = &mut ranks[v as usize];
                *set = sets.with(*set, owner);
            }
        }
        let mut sends: Vec<(u32, u32)> = Vec::new();
        for (v, &set) in points.sharers.iter().enumerate().filter(|s| *s.1 != 0) {
            sends.extend(self.rank_sets.get(set).iter().map(|&rank| (rank, v as u32)));
        }
        let sends = Buckets::from_pairs(sends);
        let mut message = Buckets::<u64>::empty();
        for (rank, vertices) in sends.iter() {
            for &v in vertices {
                let to = sets.get(ranks[v as usize]);
                message.data.extend(names::words(points.names[v as usize]));
                message.data.push(to.len() as u64);
                message.data.extend(to.iter().map(|&r| u64::from(r)));
            }
            message.ranks.push(rank);
            message.offsets.push(message.data.len());
        }
        let received = self.comm.exchange(&message).data;
        let by_name = self.shared_by_name();
        let mut at = 0;
        while at < received.len() {
            let name = names::from_words([received[at], received[at + 1]]);
            let n = received[at + 2] as usize;
            if let Some(&v) = by_name.get(&name) {
                for &rank in &received[at + 3..at + 3 + n] {
                    let set = &mut ranks[v as usize];
                    *set = sets.with(*set, rank as u32);
                }
            }
            at += 3 + n;
        }
        ranks
    }

    /// As [`Forest::migrate`], of what was checked.
    pub(super) fn move_leaves(&mut self, owners: &[u32], carried: &mut Carried) -> Result<Moved, MeshError> {
        let comm = self.comm.clone();
        let rank = comm.rank() as u32;
        let mut sets = RankSets::new();
        let future = self.future_sharers(owners, &mut sets);
        let leaving: Vec<(u32, u32)> =
            owners.iter().zip(0..).filter(|o| *o.0 != rank).map(|(&owner, leaf)| (owner, leaf)).collect();
        let n_leaving = leaving.len() as u64;
        let sends = Buckets::from_pairs(leaving);
        let message = self.pack(&sends, &future, &sets, carried);
        let bytes = 8 * message.data.len() as u64;
        let received = comm.exchange(&message);
        drop(message);
        let arriving: usize = received.iter().map(|(_, words)| words[3] as usize).sum();
        let n = (owners.iter().filter(|&&o| o == rank).count() + arriving) as u64;
        let fits = if n * (self.leaves.n_corners as u64) < u64::from(NONE) {
            Ok(())
        } else {
            Err(MeshError::TooLarge { rank: comm.rank(), n, what: "cells".into() })
        };
        comm.agree(fits)?;
        // What was shared before may be here already.
        let known = (self.shared_by_name(), self.shared_nodes_by_name());
        let sharers = future.iter().map(|&set| sets.without(set, rank)).collect();
        self.points.sharers = sharers;
        self.rank_sets = sets;
        let (arrived, values) = self.unpack(&received, known, carried);
        drop(received);
        self.merge_in(owners, &arrived, &values, carried);
        Ok(Moved { cells: comm.sum(n_leaving), bytes })
    }

    /// Leaves as they travel: counts, roots, vertices, nodes, then leaf after leaf.
    fn pack(&self, sends: &Buckets<u32>, future: &[u32], sets: &RankSets, carried: &Carried) -> Buckets<u64> {
        let Forest { leaves, points, roots, shape, .. } = self;
        let plain = leaves.n_nodes == 0;
        let mut message = Buckets::<u64>::empty();
        let mut of_roots = Places::new(roots.len());
        let mut of_vertices = Places::new(points.names.len());
        let mut of_nodes = Places::new(points.node_names.len());
        let mut maybe_shared = vec![false; points.node_names.len()];
        let mut records: Vec<u64> = Vec::new();
        for (rank, sent) in sends.iter() {
            records.clear();
            for &leaf in sent {
                let leaf = leaf as usize;
                let head = &leaves.heads[leaf];
                let begin = leaves.tags.partition_point(|t| (t.leaf as usize) < leaf);
                let tags = leaves.tags[begin..].iter().take_while(|t| t.leaf as usize == leaf);
                let n_tags = tags.clone().count() as u64;
                records.extend(names::words(head.path));
                records.push(of_roots.get(head.root) | u64::from(head.set) << 32 | n_tags << 48);
                records.push(
                    u64::from(head.level)
                        | u64::from(head.state) << 8
                        | u64::from(head.order) << 16
                        | u64::from(head.mark) << 24,
                );
                records.extend(leaves.corners(leaf).iter().map(|&v| of_vertices.get(v)));
                let shared = leaves.corners(leaf).iter().any(|&v| points.sharers[v as usize] != 0);
                for &k in leaves.nodes(leaf) {
                    if k == NONE {
                        records.push(u64::MAX);
                    } else {
                        records.push(of_nodes.get(k));
                        maybe_shared[k as usize] |= shared;
                    }
                }
                records.extend(
                    tags.map(|t| u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.corners)),
                );
                carried.write(*shape, leaf, &mut records);
            }
            let out = &mut message.data;
            out.extend([&of_roots.met, &of_vertices.met, &of_nodes.met].map(|met| met.len() as u64));
            out.push(sent.len() as u64);
            for &k in &of_roots.met {
                let Root { id, place, state, order } = roots[k as usize];
                out.extend([id, place, u64::from(state) | u64::from(order) << 8]);
            }
            for &v in &of_vertices.met {
                let v = v as usize;
                out.extend(names::words(points.names[v]));
                let ranks = sets.get(future[v]);
                out.push(u64::from(points.sharers[v] != 0) | (ranks.len() as u64) << 1);
                out.extend(ranks.iter().map(|&r| u64::from(r)));
                if plain {
                    out.extend(points.coordinates[v].map(f64::to_bits));
                }
            }
            for &k in &of_nodes.met {
                let k = k as usize;
                out.extend(names::words(points.node_names[k]));
                out.push(u64::from(maybe_shared[k]));
                out.extend(points.coordinates[k].map(f64::to_bits));
            }
            out.append(&mut records);
            of_roots.clear();
            of_vertices.clear();
            of_nodes.clear();
            message.ranks.push(rank);
            message.offsets.push(message.data.len());
        }
        message
    }

    /// The leaves that came, with their carried values; their vertices, nodes and roots are added to those here.
    /// `known` are vertices and nodes that may come again.
    fn unpack(
        &mut self,
        received: &Buckets<u64>,
        known: (ByName, ByName),
        carried: &Carried,
    ) -> (Leaves, Vec<u64>) {
        let rank = self.comm.rank() as u32;
        let n_values = carried.n_values(self.shape);
        let (mut by_name, mut node_by_name) = known;
        let Forest { leaves, points, roots, rank_sets, .. } = self;
        let plain = leaves.n_nodes == 0;
        let mut arrived = Leaves::like(leaves, 0);
        let mut values = Vec::new();
        let (mut vertices, mut nodes): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for (_, words) in received.iter() {
            let [n_roots, n_vertices, n_nodes] = [0, 1, 2].map(|k| words[k] as usize);
            let mut at = 4;
            let first_root = roots.len() as u32;
            for record in words[at..at + 3 * n_roots].chunks_exact(3) {
                let (state, order) = (record[2] as u8, (record[2] >> 8) as u8);
                roots.push(Root { id: record[0], place: record[1], state, order });
            }
            at += 3 * n_roots;
            vertices.clear();
            for _ in 0..n_vertices {
                let name = names::from_words([words[at], words[at + 1]]);
                let (shared, n) = (words[at + 2] & 1 == 1, (words[at + 2] >> 1) as usize);
                at += 3;
                let new = points.names.len() as u32;
                let v = if shared { *by_name.entry(name).or_insert(new) } else { new };
                if v == new {
                    let ranks: Vec<u32> = words[at..at + n].iter().map(|&r| r as u32).collect();
                    let set = rank_sets.number(&ranks);
                    points.names.push(name);
                    points.sharers.push(rank_sets.without(set, rank));
                    if plain {
                        let x = &words[at + n..at + n + 3];
                        points.coordinates.push([0, 1, 2].map(|d| f64::from_bits(x[d])));
                    }
                }
                at += n + if plain { 3 } else { 0 };
                vertices.push(v);
            }
            nodes.clear();
            for record in words[at..at + 6 * n_nodes].chunks_exact(6) {
                let name = names::from_words([record[0], record[1]]);
                let new = points.node_names.len() as u32;
                let k = if record[2] == 1 { *node_by_name.entry(name).or_insert(new) } else { new };
                if k == new {
                    points.node_names.push(name);
                    points.coordinates.push([3, 4, 5].map(|d| f64::from_bits(record[d])));
                }
                nodes.push(k);
            }
            at += 6 * n_nodes;
            while at < words.len() {
                let leaf = arrived.len() as u32;
                let (a, b) = (words[at + 2], words[at + 3]);
                arrived.heads.push(Head {
                    path: names::from_words([words[at], words[at + 1]]),
                    root: first_root + a as u32,
                    set: (a >> 32) as u16,
                    level: b as u8,
                    state: (b >> 8) as u8,
                    order: (b >> 16) as u8,
                    mark: (b >> 24) as u8,
                });
                let n_tags = (a >> 48) as usize;
                at += 4;
                let n = arrived.n_corners;
                arrived.corners.extend(words[at..at + n].iter().map(|&v| vertices[v as usize]));
                at += n;
                let of_leaf = words[at..at + arrived.n_nodes].iter();
                arrived.nodes.extend(of_leaf.map(|&k| if k == u64::MAX { NONE } else { nodes[k as usize] }));
                at += arrived.n_nodes;
                arrived.tags.extend(words[at..at + n_tags].iter().map(|&w| LeafTag {
                    leaf,
                    group: (w >> 16) as u16,
                    dim: (w >> 8) as u8,
                    corners: w as u8,
                }));
                at += n_tags;
                values.extend_from_slice(&words[at..at + n_values]);
                at += n_values;
            }
        }
        (arrived, values)
    }

    /// Puts what stays and what came in order, and forgets what went.
    fn merge_in(&mut self, owners: &[u32], arrived: &Leaves, values: &[u64], carried: &mut Carried) {
        let rank = self.comm.rank() as u32;
        let n_old = self.leaves.len();
        // Roots by place, each once.
        let stays = |leaf: &u32| owners[*leaf as usize] == rank;
        let mut from: Vec<u32> = (0..n_old as u32).filter(stays).collect();
        from.extend(n_old as u32..(n_old + arrived.len()) as u32);
        let head = |leaf: u32| match (leaf as usize).checked_sub(n_old) {
            None => &self.leaves.heads[leaf as usize],
            Some(k) => &arrived.heads[k],
        };
        let mut used = vec![false; self.roots.len()];
        from.iter().for_each(|&leaf| used[head(leaf).root as usize] = true);
        let mut places: Vec<u32> = (0..self.roots.len() as u32).filter(|&k| used[k as usize]).collect();
        places.sort_by_key(|&k| self.roots[k as usize].place);
        let mut number = vec![NONE; self.roots.len()];
        let mut roots: Vec<Root> = Vec::with_capacity(places.len());
        for &k in &places {
            let root = self.roots[k as usize];
            if roots.last().is_none_or(|last| last.place != root.place) {
                roots.push(root);
            }
            number[k as usize] = roots.len() as u32 - 1;
        }
        // Runs that are in order already, one a sender: the sort finds them.
        from.sort_by_key(|&leaf| {
            let head = head(leaf);
            (number[head.root as usize], head.path)
        });
        let mut new = Leaves::like(&self.leaves, from.len());
        for &leaf in &from {
            let (source, k) = match (leaf as usize).checked_sub(n_old) {
                None => (&self.leaves, leaf as usize),
                Some(k) => (arrived, k),
            };
            let to = new.len() as u32;
            new.push_from(source, k);
            if !source.tags.is_empty() {
                let begin = source.tags.partition_point(|t| (t.leaf as usize) < k);
                let tags = source.tags[begin..].iter().take_while(|t| t.leaf as usize == k);
                new.tags.extend(tags.map(|t| LeafTag { leaf: to, ..*t }));
            }
        }
        for head in &mut new.heads {
            head.root = number[head.root as usize];
        }
        carried.reorder(self.shape, n_old, &from, values);
        self.leaves = new;
        self.roots = roots;
        compact(&mut self.leaves, &mut self.points);
    }
}
