//! Coarsening: a vertex that a cut made goes away where all leaves round it agree.
//!
//! Imports `mesh`. Start at [`coarsen`]. The leaves round a vertex, on all ranks, must be marked and have it as
//! their newest vertex: then they are pairs of siblings, and merging each pair leaves no hanging vertex. Ranks
//! that share such a vertex tell each other that they agree; one of them, chosen by the vertex's name, is given
//! all the leaves round it. A parent has the vertices and nodes that its children have but for the newest, and
//! its state follows from its root's.

use cluster::Buckets;

use super::carried::Carried;
use super::names;
use super::simplex::{self, EDGE, MIDDLE};
use super::store::{Head, LeafTag, Leaves, NONE, mark};
use super::{Forest, MeshError, compact};

/// One pass: merges marked siblings where the rule allows; parents are marked in their turn. Returns how many
/// cells went away over all ranks. Collective.
pub(super) fn coarsen(forest: &mut Forest, carried: &mut Carried) -> Result<u64, MeshError> {
    let _span = tracing::debug_span!("forest coarsen").entered();
    let comm = forest.comm.clone();
    if !comm.any(forest.leaves.heads.iter().any(|h| h.mark == mark::COARSEN)) {
        return Ok(0);
    }
    let owners = agree(forest);
    if comm.size() > 1 {
        let rank = comm.rank() as u32;
        if comm.any(owners.iter().any(|&o| o != rank)) {
            forest.move_leaves(&owners, carried)?;
        }
    }
    let n = merge(forest, carried);
    Ok(comm.sum(n))
}

/// Marks the leaves that are to be merged, and returns the rank that each leaf has to be on. Collective.
fn agree(forest: &mut Forest) -> Vec<u32> {
    let comm = forest.comm.clone();
    let rank = comm.rank() as u32;
    let Forest { leaves, points, .. } = &*forest;
    let n = leaves.n_corners;
    let mut goes = vec![true; points.names.len()];
    for (head, corners) in leaves.heads.iter().zip(leaves.corners.chunks_exact(n)) {
        let marked = head.mark == mark::COARSEN && head.level > 0;
        corners[..n - 1].iter().for_each(|&v| goes[v as usize] = false);
        goes[corners[n - 1] as usize] &= marked;
    }
    let mut owner: Vec<u32> = Vec::new();
    if comm.size() > 1 {
        owner.resize(points.names.len(), rank);
        let by_name = forest.shared_by_name();
        let Forest { points, rank_sets, .. } = &*forest;
        let mut sends: Vec<(u32, [u64; 2])> = Vec::new();
        for &v in by_name.values() {
            if goes[v as usize] {
                let name = names::words(points.names[v as usize]);
                let ranks = rank_sets.get(points.sharers[v as usize]);
                sends.extend(ranks.iter().map(|&to| (to, name)));
            }
        }
        let received = comm.exchange(&Buckets::from_pairs(sends));
        let mut n_agree = vec![0u32; points.names.len()];
        for name in &received.data {
            if let Some(&v) = by_name.get(&names::from_words(*name)) {
                n_agree[v as usize] += 1;
            }
        }
        for &v in by_name.values() {
            let v = v as usize;
            let others = rank_sets.get(points.sharers[v]);
            goes[v] &= n_agree[v] as usize == others.len();
            if goes[v] {
                let place = (points.names[v] >> 64) as usize % (others.len() + 1);
                let before = others.partition_point(|&r| r < rank);
                owner[v] = match place.cmp(&before) {
                    std::cmp::Ordering::Less => others[place],
                    std::cmp::Ordering::Equal => rank,
                    std::cmp::Ordering::Greater => others[place - 1],
                };
            }
        }
    }
    let leaves = &mut forest.leaves;
    let mut owners = Vec::with_capacity(if owner.is_empty() { 0 } else { leaves.len() });
    for (head, corners) in leaves.heads.iter_mut().zip(leaves.corners.chunks_exact(n)) {
        let newest = corners[n - 1] as usize;
        let merges = goes[newest];
        if merges {
            head.mark = mark::MERGE;
        }
        if !owner.is_empty() {
            owners.push(if merges { owner[newest] } else { rank });
        }
    }
    owners
}

/// The tag of a parent, from that of a child.
fn tag_of_parent(tag: &LeafTag, corners: &[u8], which: usize) -> LeafTag {
    let bits = corners.iter().enumerate();
    let mut entity = bits.fold(0u8, |bits, (k, &c)| bits | (tag.corners >> k & 1) << c);
    if entity >> MIDDLE & 1 == 1 {
        // Half of an entity that the cut went through.
        entity = entity & !(1 << MIDDLE) | 2 >> which;
    }
    LeafTag { corners: entity, ..*tag }
}

/// Merges the marked siblings, which stand side by side. Returns how many.
fn merge(forest: &mut Forest, carried: &mut Carried) -> u64 {
    let shape = forest.shape;
    let old = &forest.leaves;
    let n = old.n_corners;
    let mut new = Leaves::like(old, old.len());
    let mut from: Vec<u32> = Vec::with_capacity(old.len());
    let mut parents: Vec<Option<(u8, u8)>> = Vec::with_capacity(old.len());
    let (mut leaf, mut next_tag, mut n_merged) = (0, 0, 0);
    while leaf < old.len() {
        let head = old.heads[leaf];
        let number = new.len() as u32;
        let first_tag = new.tags.len();
        from.push(leaf as u32);
        if head.mark != mark::MERGE {
            parents.push(None);
            new.push_from(old, leaf);
            new.tags.extend(old.tags_from(&mut next_tag, leaf));
            new.tags[first_tag..].iter_mut().for_each(|t| t.leaf = number);
            leaf += 1;
            continue;
        }
        debug_assert!(is_sibling(&head, old.heads.get(leaf + 1)), "siblings are merged together");
        let level = head.level - 1;
        let root = &forest.roots[head.root as usize];
        let state = simplex::state_at(shape, root.state, level);
        let order = if level == 0 { root.order } else { simplex::parent_order(shape, state, head.order) };
        new.heads.push(Head {
            path: head.path & !(1 << (127 - level)),
            level,
            state,
            order,
            mark: mark::COARSEN,
            ..head
        });
        let begin = (new.corners.len(), new.nodes.len());
        new.corners.resize(begin.0 + n, NONE);
        new.nodes.resize(begin.1 + old.n_nodes, NONE);
        for which in 0..2 {
            let sibling = leaf + which;
            let child = simplex::child(shape, state, order, which);
            let corners = &child.corners[..n];
            let to = &mut new.corners[begin.0..];
            for (&c, &v) in corners.iter().zip(old.corners(sibling)) {
                if c != MIDDLE {
                    to[c as usize] = v;
                }
            }
            if old.n_nodes > 0 {
                parent_nodes(corners, old.nodes(sibling), &mut new.nodes[begin.1..]);
            }
            new.tags.extend(
                old.tags_from(&mut next_tag, sibling)
                    .iter()
                    .map(|t| LeafTag { leaf: number, ..tag_of_parent(t, corners, which) }),
            );
        }
        new.tags[first_tag..].sort_unstable();
        let mut kept = first_tag;
        for k in first_tag..new.tags.len() {
            if kept == first_tag || new.tags[kept - 1] != new.tags[k] {
                new.tags[kept] = new.tags[k];
                kept += 1;
            }
        }
        new.tags.truncate(kept);
        parents.push(Some((state, order)));
        n_merged += 1;
        leaf += 2;
    }
    carried.coarsen(shape, &from, &parents);
    forest.leaves = new;
    compact(&mut forest.leaves, &mut forest.points);
    n_merged
}

fn is_sibling(head: &Head, next: Option<&Head>) -> bool {
    next.is_some_and(|next| {
        next.mark == mark::MERGE
            && (next.root, next.level) == (head.root, head.level)
            && next.path ^ head.path == 1 << (128 - u32::from(head.level))
    })
}

/// The nodes of a parent that a child has, its corners being these of the parent.
fn parent_nodes(corners: &[u8], of_child: &[u32], to: &mut [u32]) {
    let n = corners.len();
    let curved = of_child.len() > n && of_child[n] != NONE;
    for (k, &c) in corners.iter().enumerate() {
        if c != MIDDLE {
            to[c as usize] = of_child[k];
        } else if curved {
            to[n] = of_child[k];
        }
        if !curved || c == MIDDLE {
            continue;
        }
        for (l, &d) in corners[..k].iter().enumerate().filter(|d| *d.1 != MIDDLE) {
            to[n + EDGE[c as usize][d as usize] as usize] = of_child[n + EDGE[k][l] as usize];
        }
    }
}
