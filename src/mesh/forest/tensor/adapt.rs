//! Who is cut and who is merged, so that neighbours differ by one level at most.
//!
//! Start at [`Tensor::refine`] and [`Tensor::coarsen`]; the rule of balance is told in the module's head.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cluster::Buckets;

use super::super::names::{self, LowBits, Name};
use super::{Carried, Changed, Leaf, Mark, MeshError, Tensor, walk};

/// Numbers by name of a vertex.
type Levels = HashMap<Name, u32, BuildHasherDefault<LowBits>>;

impl Tensor {
    /// The deepest level that paths have room for; its leaves' sizes are still exact.
    fn deepest(&self) -> u8 {
        (128 / self.shape.dim() as u8).min(48)
    }

    /// Cuts the leaves marked so, and those that balance asks for. Collective.
    ///
    /// # Errors
    /// A leaf that cannot be cut any more; then nothing has changed.
    pub(super) fn refine(&mut self, carried: &mut Carried, changed: &mut Changed) -> Result<(), MeshError> {
        let comm = self.comm.clone();
        let (shape, n) = (self.shape, self.shape.n_vertices());
        let points = self.points();
        let open = if comm.size() > 1 { points.open(shape) } else { Vec::new() };
        let shared = self.shared(&open);
        drop(open);
        // Which leaves have a vertex, and the level that is asked for there.
        let (corners, all) = (points.all_corners(), &points.names);
        let mut begin = vec![0u32; all.len() + 1];
        corners.iter().for_each(|&v| begin[v as usize + 1] += 1);
        (0..all.len()).for_each(|v| begin[v + 1] += begin[v]);
        let mut next = begin.clone();
        let mut around = vec![0u32; corners.len()];
        for (k, &v) in corners.iter().enumerate() {
            around[next[v as usize] as usize] = (k / n) as u32;
            next[v as usize] += 1;
        }
        let mut asked = vec![0u8; all.len()];
        let mut cut: Vec<bool> = self.leaves.iter().map(|leaf| leaf.mark == Mark::Refine).collect();
        let mut stack: Vec<u32> = (0..cut.len() as u32).filter(|&k| cut[k as usize]).collect();
        let mut news: Vec<u32> = Vec::new();
        let deepest = self.deepest();
        let mut result = Ok(());
        loop {
            while let Some(k) = stack.pop() {
                let leaf = &self.leaves[k as usize];
                if leaf.level >= deepest {
                    result = Err(self.stuck(leaf));
                }
                if leaf.level == 0 {
                    continue;
                }
                let v = corners[k as usize * n + leaf.child(shape)];
                if asked[v as usize] < leaf.level {
                    asked[v as usize] = leaf.level;
                    if !shared.of(v).is_empty() {
                        news.push(v);
                    }
                    self.ask(leaf.level, v, &begin, &around, &mut cut, &mut stack);
                }
            }
            comm.agree(std::mem::replace(&mut result, Ok(())))?;
            changed.rounds += 1;
            if comm.size() == 1 || !comm.any(!news.is_empty()) {
                break;
            }
            let mut sends = Vec::new();
            for v in news.drain(..) {
                let [low, high] = names::words(all[v as usize]);
                let word = [low, high, u64::from(asked[v as usize])];
                sends.extend(shared.of(v).iter().map(|&rank| (rank, word)));
            }
            for &[low, high, level] in &comm.exchange(&Buckets::from_pairs(sends)).data {
                let Some(&v) = shared.number.get(&names::from_words([low, high])) else { continue };
                if asked[v as usize] < level as u8 {
                    asked[v as usize] = level as u8;
                    self.ask(level as u8, v, &begin, &around, &mut cut, &mut stack);
                }
            }
        }
        let mut counts = [0u64; 2];
        for (leaf, _) in self.leaves.iter().zip(&cut).filter(|c| *c.1) {
            counts[usize::from(leaf.mark != Mark::Refine)] += 1;
        }
        comm.sum_slice(&mut counts);
        changed.refined += counts[0];
        changed.by_closure += counts[1];
        let n_new = (self.leaves.len() + cut.iter().filter(|c| **c).count() * (n - 1)) as u64;
        let fits = if n_new * n as u64 >= u64::from(u32::MAX) {
            Err(MeshError::TooLarge { rank: comm.rank(), n: n_new, what: "cells".into() })
        } else {
            Ok(())
        };
        comm.agree(fits)?;
        carried.refine_tensor(shape, &cut);
        let of = |(leaf, &cut): (&Leaf, &bool)| {
            let children = if cut { n } else { 1 };
            let leaf = *leaf;
            (0..children).map(move |c| if cut { leaf.cut(shape, c) } else { leaf })
        };
        let mut leaves = Vec::with_capacity(n_new as usize);
        leaves.extend(self.leaves.iter().zip(&cut).flat_map(of));
        self.replace(leaves);
        Ok(())
    }

    /// Has the leaves round a vertex cut that are coarser than a level.
    fn ask(&self, level: u8, v: u32, begin: &[u32], around: &[u32], cut: &mut [bool], stack: &mut Vec<u32>) {
        for &k in &around[begin[v as usize] as usize..begin[v as usize + 1] as usize] {
            if self.leaves[k as usize].level < level && !cut[k as usize] {
                cut[k as usize] = true;
                stack.push(k);
            }
        }
    }

    fn stuck(&self, leaf: &Leaf) -> MeshError {
        let root = &self.roots[leaf.root as usize];
        let n = self.shape.n_vertices();
        let [x, y, z] = std::array::from_fn(|d| root.nodes[..n].iter().map(|x| x[d]).sum::<f64>() / n as f64);
        let what = format!("has a cell that lies {} cuts below it and cannot be cut again", leaf.level);
        MeshError::BadCell { id: root.id, shape: self.shape.name().into(), what, x, y, z }
    }

    /// Merges families all of which are marked, where no neighbour is too fine for the parent. Returns how many cells
    /// went away over all ranks. Collective.
    pub(super) fn coarsen(&mut self, carried: &mut Carried) -> Result<u64, MeshError> {
        let comm = self.comm.clone();
        let (shape, n, dim) = (self.shape, self.shape.n_vertices(), self.shape.dim());
        let shared = self.shared(&self.points().open(shape));
        // The least level of cells at a vertex that deeper ones allow: a leaf, at the corner that its parent fills of
        // the parent's parent.
        let mut floor = Levels::default();
        let mut walker = self.walker();
        for leaf in self.leaves.iter().filter(|leaf| leaf.level > 1) {
            walker.go(&self.roots, leaf);
            let above = leaf.child_at(shape, leaf.level - 1);
            let least = floor.entry(walker.parent()[above]).or_insert(0);
            *least = (*least).max(u32::from(leaf.level) - 1);
        }
        if comm.size() > 1 {
            let mut sends = Vec::new();
            for (&name, &level) in &floor {
                let [low, high] = names::words(name);
                sends.extend(shared.ranks(name).iter().map(|&to| (to, [low, high, u64::from(level)])));
            }
            for &[low, high, level] in &comm.exchange(&Buckets::from_pairs(sends)).data {
                let least = floor.entry(names::from_words([low, high])).or_insert(0);
                *least = (*least).max(level as u32);
            }
        }
        // Of each family, by the parent's centre: siblings that agree, in the lower half; the rank of the first
        // child, in the upper one.
        let mut families: HashMap<Name, (u32, u32), BuildHasherDefault<LowBits>> = HashMap::default();
        let mut family_of: Vec<Option<Name>> = Vec::with_capacity(self.leaves.len());
        for leaf in &self.leaves {
            let marked = leaf.level > 0 && leaf.mark == Mark::Coarsen;
            if !marked {
                family_of.push(None);
                continue;
            }
            walker.go(&self.roots, leaf);
            let own_corner = walker.parent()[leaf.child(shape)];
            let agrees = floor.get(&own_corner).is_none_or(|&least| least < u32::from(leaf.level));
            let centre = walk::entity(shape, walker.parent(), dim, 0);
            let family = families.entry(centre).or_insert((0, u32::MAX));
            family.0 += u32::from(agrees);
            if leaf.child(shape) == 0 {
                family.1 = comm.rank() as u32;
            }
            family_of.push(Some(centre));
        }
        if comm.size() > 1 {
            let mut sends = Vec::new();
            for (&name, &(count, first)) in &families {
                let [low, high] = names::words(name);
                let word = [low, high, u64::from(count) | u64::from(first) << 32];
                sends.extend(shared.ranks(name).iter().map(|&to| (to, word)));
            }
            for &[low, high, word] in &comm.exchange(&Buckets::from_pairs(sends)).data {
                if let Some(family) = families.get_mut(&names::from_words([low, high])) {
                    family.0 += word as u32;
                    family.1 = family.1.min((word >> 32) as u32);
                }
            }
        }
        // All of a family go to the rank of its first child.
        let whole = |centre: &Option<Name>| {
            centre.and_then(|c| families.get(&c)).filter(|f| f.0 as usize == n).map(|f| f.1)
        };
        let goes: Vec<Option<u32>> = family_of.iter().map(whole).collect();
        for (leaf, goes) in self.leaves.iter_mut().zip(&goes) {
            if leaf.mark == Mark::Coarsen && goes.is_none() {
                leaf.mark = Mark::Keep;
            }
        }
        let rank = comm.rank() as u32;
        let owners: Vec<u32> = goes.iter().map(|goes| goes.unwrap_or(rank)).collect();
        if comm.any(owners.iter().any(|&o| o != rank)) {
            self.move_leaves(&owners, carried)?;
        }
        let (mut leaves, mut from, mut merged) =
            (Vec::with_capacity(self.leaves.len()), Vec::new(), Vec::new());
        let mut k = 0;
        while k < self.leaves.len() {
            let leaf = &self.leaves[k];
            let merges = leaf.mark == Mark::Coarsen;
            debug_assert!(
                !merges || self.leaves[k..k + n].iter().all(|l| l.parent(shape) == leaf.parent(shape))
            );
            leaves.push(if merges { leaf.parent(shape) } else { *leaf });
            from.push(k as u32);
            merged.push(merges);
            k += if merges { n } else { 1 };
        }
        carried.coarsen_tensor(shape, &from, &merged);
        let gone = (self.leaves.len() - leaves.len()) as u64;
        self.replace(leaves);
        Ok(comm.sum(gone))
    }
}
