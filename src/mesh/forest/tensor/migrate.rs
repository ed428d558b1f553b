//! Leaves change ranks: each is its path, its root travels once a message.
//!
//! Start at [`Tensor::move_leaves`].

use std::collections::HashMap;

use cluster::Buckets;

use super::super::names;
use super::super::{Carried, Moved};
use super::walk::CORNERS;
use super::{Leaf, Mark, MeshError, Root, Tensor};

fn mark_word(mark: Mark) -> u64 {
    match mark {
        Mark::Keep => 0,
        Mark::Refine => 1,
        Mark::Coarsen => 2,
    }
}

impl Root {
    pub(super) fn write(&self, words: &mut Vec<u64>) {
        words.extend([self.id, self.place]);
        words.push(u64::from(self.set) | (self.nodes.len() as u64) << 16 | (self.tags.len() as u64) << 32);
        words.extend(self.vertices.iter().chain(&self.corner_nodes).flat_map(|&name| names::words(name)));
        words.extend(self.nodes.as_flattened().iter().map(|x| x.to_bits()));
        words
            .extend(self.tags.iter().map(|&(d, i, g)| u64::from(d) | u64::from(i) << 8 | u64::from(g) << 16));
    }

    pub(super) fn read(words: &[u64], at: &mut usize) -> Root {
        let mut next = || {
            *at += 1;
            words[*at - 1]
        };
        let (id, place, counts) = (next(), next(), next());
        let mut names_of =
            || -> [names::Name; CORNERS] { std::array::from_fn(|_| names::from_words([next(), next()])) };
        let (vertices, corner_nodes) = (names_of(), names_of());
        let node = |next: &mut dyn FnMut() -> u64| std::array::from_fn(|_| f64::from_bits(next()));
        let nodes = (0..counts >> 16 & 0xffff).map(|_| node(&mut next)).collect();
        let tag = |w: u64| (w as u8, (w >> 8) as u8, (w >> 16) as u16);
        let tags = (0..counts >> 32).map(|_| tag(next())).collect();
        Root { id, place, set: counts as u16, vertices, corner_nodes, nodes, tags }
    }
}

impl Tensor {
    /// As [`super::super::Forest::leaf_bytes`], with so many carried values a leaf.
    pub(in crate::mesh::forest) fn leaf_bytes(&self, n_values: usize) -> Vec<u32> {
        let mut bytes = Vec::with_capacity(self.leaves.len());
        for of_root in self.leaves.chunk_by(|a, b| a.root == b.root) {
            let root = &self.roots[of_root[0].root as usize];
            let common = 3 + 4 * CORNERS + 3 * root.nodes.len() + root.tags.len();
            let words = 3 + n_values + common.div_ceil(of_root.len());
            bytes.resize(bytes.len() + of_root.len(), 8 * words as u32);
        }
        bytes
    }

    /// Gives every leaf to its owner, and restores the order. Collective.
    ///
    /// # Errors
    /// More leaves on a rank than 32-bit numbers hold.
    pub(in crate::mesh::forest) fn move_leaves(
        &mut self,
        owners: &[u32],
        carried: &mut Carried,
    ) -> Result<Moved, MeshError> {
        let comm = self.comm.clone();
        let rank = comm.rank() as u32;
        let leaving =
            owners.iter().zip(0u32..).filter(|o| *o.0 != rank).map(|(&owner, k)| (owner, k)).collect();
        let sends = Buckets::from_pairs(leaving);
        let mut message = Buckets::<u64>::empty();
        let (mut records, mut roots) = (Vec::new(), Vec::new());
        for (to, sent) in sends.iter() {
            records.clear();
            roots.clear();
            for &k in sent {
                let leaf = &self.leaves[k as usize];
                // Leaves of one root stand together.
                if roots.last() != Some(&leaf.root) {
                    roots.push(leaf.root);
                }
                records.extend(names::words(leaf.path));
                records.push(
                    (roots.len() as u64 - 1) | u64::from(leaf.level) << 32 | mark_word(leaf.mark) << 40,
                );
                carried.write(self.shape, k as usize, &mut records);
            }
            message.data.push(roots.len() as u64);
            roots.iter().for_each(|&root| self.roots[root as usize].write(&mut message.data));
            message.data.append(&mut records);
            message.ranks.push(to);
            message.offsets.push(message.data.len());
        }
        let (n_leaving, bytes) = (sends.data.len() as u64, 8 * message.data.len() as u64);
        let received = comm.exchange(&message);
        drop(message);
        let n_old = self.leaves.len();
        let n_values = carried.n_values(self.shape);
        let mut known: HashMap<u64, u32> = self.roots.iter().map(|root| root.place).zip(0..).collect();
        let mut values = Vec::new();
        let mut of_message = Vec::new();
        for (_, words) in received.iter() {
            let mut at = 1;
            of_message.clear();
            for _ in 0..words[0] {
                let root = Root::read(words, &mut at);
                let number = *known.entry(root.place).or_insert(self.roots.len() as u32);
                if number as usize == self.roots.len() {
                    self.roots.push(root);
                }
                of_message.push(number);
            }
            while at < words.len() {
                let word = words[at + 2];
                let mark = [Mark::Keep, Mark::Refine, Mark::Coarsen][(word >> 40) as usize];
                let root = of_message[word as u32 as usize];
                let path = names::from_words([words[at], words[at + 1]]);
                self.leaves.push(Leaf { path, root, level: (word >> 32) as u8, mark });
                values.extend_from_slice(&words[at + 3..][..n_values]);
                at += 3 + n_values;
            }
        }
        let n = owners.iter().filter(|&&o| o == rank).count() + self.leaves.len() - n_old;
        let fits = if ((n * CORNERS) as u64) < u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(MeshError::TooLarge { rank: comm.rank(), n: n as u64, what: "cells".into() })
        };
        comm.agree(fits)?;
        let mut from: Vec<u32> = (0..self.leaves.len() as u32)
            .filter(|&k| owners.get(k as usize).is_none_or(|&o| o == rank))
            .collect();
        from.sort_by_key(|&k| {
            let leaf = &self.leaves[k as usize];
            (self.roots[leaf.root as usize].place, leaf.path)
        });
        carried.reorder(self.shape, n_old, &from, &values);
        // Roots that are left, by place.
        let mut used: Vec<u32> = from.iter().map(|&k| self.leaves[k as usize].root).collect();
        used.dedup();
        let mut number = vec![0u32; self.roots.len()];
        used.iter().zip(0..).for_each(|(&old, new)| number[old as usize] = new);
        let leaves = from
            .iter()
            .map(|&k| {
                let leaf = self.leaves[k as usize];
                Leaf { root: number[leaf.root as usize], ..leaf }
            })
            .collect();
        self.replace(leaves);
        self.roots = used.iter().map(|&k| self.roots[k as usize].clone()).collect();
        Ok(Moved { cells: comm.sum(n_leaving), bytes })
    }
}
