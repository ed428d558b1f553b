//! Refinement: marked leaves are cut, and others until no edge has a middle that one of its leaves lacks.
//!
//! Imports `mesh`. Start at [`refine`]. The middle of an edge is a new vertex, which every leaf with the edge has
//! to be cut for; its own cut edge may be another, so it is cut until the edge is gone. New leaves stand behind
//! the old ones as trees, which are written out in order at the end; until then nothing old changes, so a
//! refinement that fails leaves the forest as it was.
//!
//! On several ranks this goes in rounds: each rank cuts until it is done, then tells the edges it has split to
//! those that have both ends. These may not have such an edge yet, and keep the split for when they do.

use cluster::Buckets;

use super::carried::Carried;
use super::names::{self, ByName, ByPair};
use super::simplex::{self, EDGE, MIDDLE};
use super::store::{Head, LeafTag, Leaves, MAX_LEVEL, NONE, Points, mark};
use super::{Changed, Forest, MeshError, compact};
use crate::element::Shape;
use crate::mesh::geometry::determinant;

/// A refinement under way.
struct Cutting<'a> {
    forest: &'a mut Forest,
    /// The first of a leaf's two children, if it was cut.
    first_child: Vec<u32>,
    /// Leaves by vertex: a list begins at `first[vertex]`, and goes on from corner k at `next[k]`.
    first: Vec<u32>,
    next: Vec<u32>,
    /// Middles of edges, by their ends; and of edges of nodes, where nodes are not the vertices.
    middles: ByPair,
    middle_nodes: ByPair,
    /// Whether a vertex ends an edge that was split.
    is_end: Vec<bool>,
    /// Vertices that others share.
    by_name: ByName,
    /// Leaves to be cut, some perhaps cut already.
    stack: Vec<u32>,
    /// Edges split here that others may have.
    news: Vec<(u32, u32)>,
}

/// Cuts the leaves marked so, and those that must follow. Collective.
///
/// # Errors
/// A leaf that cannot be cut any more; then nothing has changed.
pub(super) fn refine(
    forest: &mut Forest,
    carried: &mut Carried,
    changed: &mut Changed,
) -> Result<(), MeshError> {
    let _span = tracing::debug_span!("bisect").entered();
    let comm = forest.comm.clone();
    let marked = |head: &Head| head.mark >= mark::REFINE;
    if !comm.any(forest.leaves.heads.iter().any(marked)) {
        return Ok(());
    }
    let n_leaves = forest.leaves.len();
    let n_vertices = forest.points.names.len();
    let n_nodes = forest.points.coordinates.len();
    let mut cutting = Cutting::new(forest);
    let result = cutting.run(changed);
    let Cutting { first_child, by_name, .. } = cutting;
    if let Err(error) = result {
        let Leaves { n_corners, n_nodes: per_leaf, heads, corners, nodes, .. } = &mut forest.leaves;
        heads.truncate(n_leaves);
        heads.iter_mut().for_each(|head| head.mark = mark::KEEP);
        corners.truncate(n_leaves * *n_corners);
        nodes.truncate(n_leaves * *per_leaf);
        forest.points.names.truncate(n_vertices);
        forest.points.sharers.truncate(n_vertices);
        forest.points.coordinates.truncate(n_nodes);
        forest.points.node_names.truncate(n_nodes);
        return Err(error);
    }
    let mut counts = [0u64; 2];
    for (head, &child) in forest.leaves.heads[..n_leaves].iter().zip(&first_child) {
        counts[usize::from(!marked(head))] += u64::from(child != NONE);
    }
    comm.sum_slice(&mut counts);
    changed.refined += counts[0];
    changed.by_closure += counts[1];
    let n_new = first_child.iter().filter(|&&c| c == NONE).count();
    carried.refine(forest.shape, &forest.leaves.heads, &first_child, n_leaves, n_new);
    write_out(forest, &first_child, n_leaves, n_new);
    settle_sharers(forest, &by_name, n_vertices);
    compact(&mut forest.leaves, &mut forest.points);
    Ok(())
}

impl<'a> Cutting<'a> {
    fn new(forest: &'a mut Forest) -> Cutting<'a> {
        let n = forest.leaves.len();
        let n_vertices = forest.points.names.len();
        let by_name = forest.shared_by_name();
        let mut cutting = Cutting {
            first_child: vec![NONE; n],
            first: vec![NONE; n_vertices],
            next: vec![NONE; forest.leaves.corners.len()],
            middles: ByPair::new(),
            middle_nodes: ByPair::new(),
            is_end: vec![false; n_vertices],
            by_name,
            stack: Vec::new(),
            news: Vec::new(),
            forest,
        };
        for k in 0..cutting.forest.leaves.corners.len() {
            cutting.link(k);
        }
        let heads = &cutting.forest.leaves.heads;
        cutting.stack.extend((0..n as u32).filter(|&k| heads[k as usize].mark >= mark::REFINE));
        cutting
    }

    /// Enters corner k of all corners into the list of its vertex.
    #[inline]
    fn link(&mut self, k: usize) {
        let first = &mut self.first[self.forest.leaves.corners[k] as usize];
        self.next[k] = std::mem::replace(first, k as u32);
    }

    fn run(&mut self, changed: &mut Changed) -> Result<(), MeshError> {
        let comm = self.forest.comm.clone();
        loop {
            let mut result = Ok(());
            while let (Ok(()), Some(leaf)) = (&result, self.stack.pop()) {
                if self.first_child[leaf as usize] == NONE {
                    result = self.cut(leaf as usize);
                }
            }
            comm.agree(result)?;
            changed.rounds += 1;
            if comm.size() == 1 || !comm.any(!self.news.is_empty()) {
                return Ok(());
            }
            let Forest { points, rank_sets, .. } = &*self.forest;
            let mut sends: Vec<(u32, [u64; 4])> = Vec::new();
            for (a, b) in self.news.drain(..) {
                let middle = self.middles.get(a, b).expect("an edge split here");
                let [a, b] = [a, b].map(|v| names::words(points.names[v as usize]));
                let ends = [a[0], a[1], b[0], b[1]];
                let ranks = rank_sets.get(points.sharers[middle as usize]);
                sends.extend(ranks.iter().map(|&rank| (rank, ends)));
            }
            let received = comm.exchange(&Buckets::from_pairs(sends));
            for ends in &received.data {
                // Who sends a split has told of its ends before.
                let [a, b] = [[ends[0], ends[1]], [ends[2], ends[3]]]
                    .map(|name| self.by_name.get(&names::from_words(name)).copied())
                    .map(|v| v.expect("an end that its rank has told of"));
                if self.middles.get(a, b).is_none() {
                    self.split(a, b);
                }
            }
            // What others have split they have told all who share it.
            self.news.clear();
        }
    }

    /// Makes the middle of an edge, and has the leaves cut that have the edge.
    fn split(&mut self, a: u32, b: u32) -> u32 {
        let Forest { points, rank_sets, leaves, .. } = &mut *self.forest;
        let middle = points.names.len() as u32;
        let [i, j] = [a, b].map(|v| v as usize);
        let name = names::midpoint(points.names[i], points.names[j]);
        let sharers = rank_sets.meet(points.sharers[i], points.sharers[j]);
        points.names.push(name);
        points.sharers.push(sharers);
        if leaves.n_nodes == 0 {
            let [x, y] = [points.coordinates[i], points.coordinates[j]];
            points.coordinates.push(std::array::from_fn(|d| 0.5 * (x[d] + y[d])));
        }
        self.middles.insert(a, b, middle);
        self.is_end[i] = true;
        self.is_end[j] = true;
        self.is_end.push(false);
        self.first.push(NONE);
        if sharers != 0 {
            self.by_name.insert(name, middle);
            self.news.push((a, b));
        }
        let n = leaves.n_corners;
        let mut at = self.first[i];
        while at != NONE {
            let leaf = at as usize / n;
            if self.first_child[leaf] == NONE && leaves.corners(leaf).contains(&b) {
                self.stack.push(leaf as u32);
            }
            at = self.next[at as usize];
        }
        middle
    }

    /// Cuts a leaf in two.
    fn cut(&mut self, leaf: usize) -> Result<(), MeshError> {
        let head = self.forest.leaves.heads[leaf];
        let (shape, n) = (self.forest.shape, self.forest.leaves.n_corners);
        if head.level == MAX_LEVEL {
            return Err(self.stuck(leaf, "lies 128 cuts below its cell of the input and cannot be cut again"));
        }
        let mut ends = [NONE; 5];
        ends[..n].copy_from_slice(self.forest.leaves.corners(leaf));
        let [a, b] = [ends[0], ends[1]];
        let middle = match self.middles.get(a, b) {
            Some(middle) => middle,
            None => self.split(a, b),
        };
        ends[MIDDLE as usize] = middle;
        let mut nodes = Nodes::default();
        if self.forest.leaves.n_nodes > 0 {
            nodes = self.new_nodes(leaf);
        }
        let first = self.forest.leaves.len() as u32;
        if self.next.len() as u64 + 2 * n as u64 >= u64::from(NONE) {
            let rank = self.forest.comm.rank();
            return Err(MeshError::TooLarge { rank, n: u64::from(first), what: "cells".into() });
        }
        for which in 0..2 {
            let child = simplex::child(shape, head.state, head.order, which);
            let leaves = &mut self.forest.leaves;
            leaves.heads.push(Head {
                path: head.path | (which as u128) << (127 - head.level),
                level: head.level + 1,
                state: child.state,
                order: child.order,
                mark: if head.mark > mark::REFINE { head.mark - 1 } else { mark::KEEP },
                ..head
            });
            let k = leaves.corners.len();
            leaves.corners.extend(child.corners[..n].iter().map(|&c| ends[c as usize]));
            nodes.write(shape, leaves, &child.corners[..n]);
            self.next.resize(k + n, NONE);
            (k..k + n).for_each(|k| self.link(k));
        }
        self.first_child[leaf] = first;
        self.first_child.extend([NONE, NONE]);
        for child in [first, first + 1] {
            if !self.has_volume(child as usize) {
                let what = "is so small that its halves would have no volume in double precision";
                return Err(self.stuck(leaf, what));
            }
            if self.must_be_cut(child as usize) {
                self.stack.push(child);
            }
        }
        Ok(())
    }

    fn must_be_cut(&self, leaf: usize) -> bool {
        let leaves = &self.forest.leaves;
        if leaves.heads[leaf].mark >= mark::REFINE {
            return true;
        }
        let corners = leaves.corners(leaf);
        (1..corners.len()).any(|j| {
            let end = corners[j];
            self.is_end[end as usize]
                && corners[..j].iter().any(|&v| self.is_end[v as usize] && self.middles.get(v, end).is_some())
        })
    }

    /// Where a leaf's corners lie, in the order of the mesh's cell.
    fn positions(&self, leaf: usize) -> [[f64; 3]; 4] {
        let leaves = &self.forest.leaves;
        let nodes = if leaves.n_nodes == 0 { leaves.corners(leaf) } else { leaves.nodes(leaf) };
        let order = leaves.heads[leaf].order;
        let mut x = [[0.0; 3]; 4];
        for (i, x) in x[..leaves.n_corners].iter_mut().enumerate() {
            *x = self.forest.points.coordinates[nodes[simplex::corner_of(order, i)] as usize];
        }
        x
    }

    /// Whether a leaf is a cell that the mesh may have. One with curved sides is a piece of its root, which is.
    fn has_volume(&self, leaf: usize) -> bool {
        let forest = &*self.forest;
        let x = self.positions(leaf);
        let n = forest.leaves.n_corners;
        let distinct = (1..n).all(|k| !x[..k].contains(&x[k]));
        if !distinct || forest.is_curved(leaf) {
            return distinct;
        }
        let (mut j, mut extent) = ([[0.0; 3]; 3], 0.0f64);
        for b in 0..forest.dim {
            for a in 0..forest.dim {
                j[a][b] = x[b + 1][a] - x[0][a];
                extent = extent.max(j[a][b].abs());
            }
        }
        determinant(&j, forest.dim) > 1e-14 * extent.powi(forest.dim as i32)
    }

    fn stuck(&self, leaf: usize, what: &str) -> MeshError {
        let forest = &*self.forest;
        let x = self.positions(leaf);
        let n = forest.leaves.n_corners;
        let [x, y, z] = std::array::from_fn(|d| x[..n].iter().map(|x| x[d]).sum::<f64>() / n as f64);
        let id = forest.roots[forest.leaves.heads[leaf].root as usize].id;
        MeshError::BadCell { id, shape: forest.shape.name().into(), what: what.into(), x, y, z }
    }

    /// The nodes of a leaf and of its children, where nodes are not the vertices. Each new one depends on nodes
    /// of its edge or face only, in a form that all cells there evaluate alike.
    fn new_nodes(&mut self, leaf: usize) -> Nodes {
        let curved = self.forest.is_curved(leaf);
        let Forest { leaves, points, .. } = &mut *self.forest;
        let n = leaves.n_corners;
        let old = leaves.nodes(leaf);
        let mut nodes = Nodes { n_edges: leaves.n_nodes - n, ..Nodes::default() };
        nodes.corners[..n].copy_from_slice(&old[..n]);
        let [a, b] = [old[0], old[1]];
        let table = &mut self.middle_nodes;
        let at = |points: &Points, node: u32| points.coordinates[node as usize];
        let (x, y) = (at(points, a), at(points, b));
        if !curved {
            let middle = std::array::from_fn(|d| 0.5 * (x[d] + y[d]));
            nodes.corners[MIDDLE as usize] = middle_node(points, table, a, b, middle);
            return nodes;
        }
        // The middle of the cut edge is a node already.
        let edge = |i: usize, j: usize| old[n + EDGE[i][j] as usize];
        let middle = edge(0, 1);
        let z = at(points, middle);
        nodes.corners[MIDDLE as usize] = middle;
        for i in 0..n {
            (0..i).filter(|&j| (i, j) != (1, 0)).for_each(|j| nodes.join(i, j, edge(i, j)));
        }
        for (end, x, y) in [(0, x, y), (1, y, x)] {
            let quarter = std::array::from_fn(|d| 0.375 * x[d] + 0.75 * z[d] - 0.125 * y[d]);
            nodes.join(end, MIDDLE as usize, middle_node(points, table, old[end], middle, quarter));
        }
        for k in 2..n {
            let [p, q] = [0, 1].map(|end| at(points, edge(end, k)));
            let inside = std::array::from_fn(|d| 0.25 * z[d] + 0.5 * (p[d] + q[d]) - 0.125 * (x[d] + y[d]));
            nodes.join(k, MIDDLE as usize, middle_node(points, table, old[k], middle, inside));
        }
        nodes
    }
}

/// The node in the middle of an edge of nodes, a new one at `x` where there is none.
fn middle_node(points: &mut Points, table: &mut ByPair, a: u32, b: u32, x: [f64; 3]) -> u32 {
    if let Some(node) = table.get(a, b) {
        return node;
    }
    let node = points.coordinates.len() as u32;
    points.coordinates.push(x);
    points.node_names.push(names::midpoint(points.node_names[a as usize], points.node_names[b as usize]));
    table.insert(a, b, node);
    node
}

/// Nodes of a leaf that is cut and of its middle: of corners, and of edges between them.
struct Nodes {
    n_edges: usize,
    corners: [u32; 5],
    edges: [[u32; 5]; 5],
}

impl Default for Nodes {
    fn default() -> Nodes {
        Nodes { n_edges: 0, corners: [NONE; 5], edges: [[NONE; 5]; 5] }
    }
}

impl Nodes {
    fn join(&mut self, i: usize, j: usize, node: u32) {
        self.edges[i][j] = node;
        self.edges[j][i] = node;
    }

    /// Appends the nodes of a child with these corners.
    fn write(&self, shape: Shape, leaves: &mut Leaves, corners: &[u8]) {
        if leaves.n_nodes == 0 {
            return;
        }
        leaves.nodes.extend(corners.iter().map(|&c| self.corners[c as usize]));
        leaves.nodes.extend((0..self.n_edges).map(|e| {
            let [i, j] = [0, 1].map(|k| corners[shape.entity_vertices(1, e)[k] as usize] as usize);
            self.edges[i][j]
        }));
    }
}

/// The tag of a child, if it has a part of the entity.
fn tag_of_child(tag: &LeafTag, corners: &[u8], which: usize) -> Option<LeafTag> {
    let (own, other) = (1u8 << which, 2u8 >> which);
    let mut entity = tag.corners;
    if entity & other != 0 {
        if entity & own == 0 {
            return None;
        }
        entity = entity & !other | 1 << MIDDLE;
    }
    let bits = corners.iter().enumerate();
    let corners = bits.fold(0, |bits, (k, &c)| bits | (entity >> c & 1) << k);
    Some(LeafTag { corners, ..*tag })
}

/// Replaces the leaves by those of the trees on them, in order, with their tags.
fn write_out(forest: &mut Forest, first_child: &[u32], n_leaves: usize, n_new: usize) {
    let (shape, n) = (forest.shape, forest.leaves.n_corners);
    let old = &forest.leaves;
    let mut new = Leaves::like(old, n_new);
    let mut next_tag = 0;
    // Leaves under way, the next one last, with the number of their tags, which stand last likewise.
    let (mut stack, mut tags): (Vec<(u32, usize)>, Vec<LeafTag>) = (Vec::new(), Vec::new());
    for leaf in 0..n_leaves {
        tags.extend_from_slice(old.tags_from(&mut next_tag, leaf));
        stack.push((leaf as u32, tags.len()));
        while let Some((leaf, n_tags)) = stack.pop() {
            let begin = tags.len() - n_tags;
            let first = first_child[leaf as usize];
            if first == NONE {
                let number = new.len() as u32;
                new.push_from(old, leaf as usize);
                new.heads[number as usize].mark = mark::KEEP;
                tags[begin..].iter_mut().for_each(|t| t.leaf = number);
                tags[begin..].sort_unstable();
                new.tags.extend(tags.drain(begin..));
                continue;
            }
            let head = &old.heads[leaf as usize];
            let end = tags.len();
            for which in [1, 0] {
                let child = simplex::child(shape, head.state, head.order, which);
                let before = tags.len();
                for k in begin..end {
                    let tag = tag_of_child(&tags[k], &child.corners[..n], which);
                    tags.extend(tag);
                }
                stack.push((first + which as u32, tags.len() - before));
            }
            tags.drain(begin..end);
        }
    }
    forest.leaves = new;
}

/// Vertices made in this refinement were given all ranks that have both ends of their edges; now each rank tells
/// which of them it has.
fn settle_sharers(forest: &mut Forest, by_name: &ByName, first_new: usize) {
    let comm = forest.comm.clone();
    if comm.size() == 1 {
        return;
    }
    let Forest { points, rank_sets, leaves, .. } = forest;
    let mut used = vec![false; points.names.len() - first_new];
    for &v in &leaves.corners {
        if let Some(k) = (v as usize).checked_sub(first_new) {
            used[k] = true;
        }
    }
    let mut sends: Vec<(u32, [u64; 2])> = Vec::new();
    for (k, _) in used.iter().enumerate().filter(|u| *u.1) {
        let v = first_new + k;
        let name = names::words(points.names[v]);
        sends.extend(rank_sets.get(points.sharers[v]).iter().map(|&rank| (rank, name)));
        points.sharers[v] = 0;
    }
    let received = comm.exchange(&Buckets::from_pairs(sends));
    for (rank, sent) in received.iter() {
        for &name in sent {
            if let Some(&v) = by_name.get(&names::from_words(name)) {
                points.sharers[v as usize] = rank_sets.with(points.sharers[v as usize], rank);
            }
        }
    }
}
