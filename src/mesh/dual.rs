//! Owners for the cells of a draft, by the graph of cells joined by the facets they share.
//!
//! Start at [`partition`]. That graph is never made whole: cells that follow one another on the curve are
//! taken together as clusters, of which the partitioner gets the graph; then it gets that of the cells near
//! the interfaces, to smooth them. [`graph`] is the whole one, for small meshes and for measures.

use std::collections::HashMap;

use cluster::{Buckets, Comm};
use partition::{Graph, Options};

use super::MeshError;
use super::draft::Draft;
use super::entities::mix;
use crate::element::Shape;

const NONE: u32 = u32::MAX;

/// The most cells of a cluster, and how many clusters there should be for each vertex that METIS is to see.
///
/// More cells a cluster take less time and make rougher interfaces, which only layers of cells smooth.
const MOST_CELLS: u64 = 16;
const CLUSTERS_PER_VERTEX: u64 = 4;

/// Layers of clusters near an interface whose cells are looked at one by one.
const NEAR: u32 = 2;

/// Owners of cells, and what there is to say of them.
pub struct Dealt {
    /// A part for each cell held here, block after block.
    pub owner: Vec<u32>,
    /// How they were found, as [`partition::Partition::method`].
    pub method: String,
    /// The number of facets between parts.
    pub edge_cut: u64,
    /// The cells of the largest part over the mean.
    pub imbalance: f64,
    /// How many vertices METIS was given.
    pub n_clusters: u64,
}

/// A facet of which one side is known: its vertices but the greatest, ascending and padded.
#[derive(Clone, Copy)]
struct Open {
    rest: [u32; 3],
    cell: u32,
    next: u32,
}

/// Pairs the two sides of facets as they are met.
///
/// Facets that wait for their other side hang in a list at their greatest vertex, which is the one met
/// last. Along the curve few wait at a time, so that all of them stay in a cache. Where very many meet at a
/// vertex (the middle of a fan) they are hashed instead.
struct Matcher {
    head: Vec<u32>,
    pool: Vec<Open>,
    free: u32,
    /// The cells of facets that wait at vertices whose lists grew too long, by all vertices.
    hubs: HashMap<[u32; 4], u32>,
}

/// The most facets that wait in a list.
const LONG_LIST: u32 = 48;
/// The head of a vertex whose facets are hashed.
const HUB: u32 = NONE - 1;

impl Matcher {
    fn new(n_vertices: usize) -> Matcher {
        Matcher { head: vec![NONE; n_vertices], pool: Vec::new(), free: NONE, hubs: HashMap::new() }
    }

    /// The cell on the other side, if it was met before.
    #[inline]
    fn meet(&mut self, top: u32, rest: [u32; 3], cell: u32) -> Option<u32> {
        let first = self.head[top as usize];
        if first == HUB {
            return self.meet_hashed([top, rest[0], rest[1], rest[2]], cell);
        }
        let (mut before, mut at, mut length) = (NONE, first, 0);
        while at != NONE {
            let open = self.pool[at as usize];
            if open.rest == rest {
                match before {
                    NONE => self.head[top as usize] = open.next,
                    _ => self.pool[before as usize].next = open.next,
                }
                self.pool[at as usize].next = self.free;
                self.free = at;
                return Some(open.cell);
            }
            (before, at) = (at, open.next);
            length += 1;
        }
        if length == LONG_LIST {
            self.make_hub(top, before);
            return self.meet_hashed([top, rest[0], rest[1], rest[2]], cell);
        }
        let open = Open { rest, cell, next: first };
        if self.free == NONE {
            self.head[top as usize] = self.pool.len() as u32;
            self.pool.push(open);
        } else {
            let place = self.free as usize;
            self.head[top as usize] = self.free;
            self.free = self.pool[place].next;
            self.pool[place] = open;
        }
        None
    }

    #[cold]
    fn meet_hashed(&mut self, key: [u32; 4], cell: u32) -> Option<u32> {
        let other = self.hubs.remove(&key);
        if other.is_none() {
            self.hubs.insert(key, cell);
        }
        other
    }

    /// Hashes the facets of the list at `top`, which ends with `last`.
    #[cold]
    fn make_hub(&mut self, top: u32, last: u32) {
        let first = std::mem::replace(&mut self.head[top as usize], HUB);
        let mut at = first;
        while at != NONE {
            let Open { rest: [a, b, c], cell, next } = self.pool[at as usize];
            self.hubs.insert([top, a, b, c], cell);
            at = next;
        }
        self.pool[last as usize].next = self.free;
        self.free = first;
    }

    /// What still waits, vertex by vertex.
    fn into_singles(self) -> Vec<Single> {
        let mut singles = Vec::new();
        for (top, &head) in self.head.iter().enumerate().filter(|(_, head)| **head != HUB) {
            let mut at = head;
            while at != NONE {
                let Open { rest: [a, b, c], cell, next } = self.pool[at as usize];
                singles.push(Single { vertices: [top as u32, a, b, c], cell });
                at = next;
            }
        }
        // A hash map's order changes from run to run.
        let mut hashed: Vec<_> = self.hubs.into_iter().collect();
        hashed.sort_unstable();
        singles.extend(hashed.into_iter().map(|(vertices, cell)| Single { vertices, cell }));
        singles
    }
}

/// A facet without another side on this rank: its vertices' local labels, padded, and its cell.
struct Single {
    vertices: [u32; 4],
    cell: u32,
}

/// Calls `joined` with the cells on both sides of each facet of `chosen` cells (ascending; all, if `None`);
/// returns facets of which the other side was not found.
fn match_facets(draft: &Draft, chosen: Option<&[u32]>, mut joined: impl FnMut(u32, u32)) -> Vec<Single> {
    let mut matcher = Matcher::new(draft.vertex_ids().len());
    let mut first = 0;
    for (block, nodes) in draft.soup.blocks.iter().zip(&draft.cells) {
        let n_cells = block.ids.len();
        let cells = first..first + n_cells as u32;
        let width = block.geometry.n_nodes(block.shape);
        let mut look = |cell: u32| {
            let nodes = &nodes[(cell - first) as usize * width..][..width];
            meet_cell(draft, &mut matcher, block.shape, cell, nodes, &mut joined);
        };
        match chosen {
            None => cells.for_each(&mut look),
            Some(chosen) => {
                let begin = chosen.partition_point(|&c| c < cells.start);
                let end = chosen.partition_point(|&c| c < cells.end);
                chosen[begin..end].iter().for_each(|&cell| look(cell));
            }
        }
        first += n_cells as u32;
    }
    matcher.into_singles()
}

#[inline]
fn meet_cell(
    draft: &Draft,
    matcher: &mut Matcher,
    shape: Shape,
    cell: u32,
    nodes: &[u32],
    joined: &mut impl FnMut(u32, u32),
) {
    let mut meet = |top, rest| {
        if let Some(other) = matcher.meet(top, rest, cell)
            && other != cell
        {
            joined(other, cell);
        }
    };
    if shape == Shape::Tetrahedron {
        // Sorted once, a facet is what is left without one vertex.
        let [mut a, mut b, mut c, mut d] = std::array::from_fn(|k| draft.label(nodes[k]));
        (a, b) = (a.min(b), a.max(b));
        (c, d) = (c.min(d), c.max(d));
        (a, c) = (a.min(c), a.max(c));
        (b, d) = (b.min(d), b.max(d));
        (b, c) = (b.min(c), b.max(c));
        meet(d, [a, b, NONE]);
        meet(d, [a, c, NONE]);
        meet(d, [b, c, NONE]);
        meet(c, [a, b, NONE]);
        return;
    }
    let dim = shape.dim() - 1;
    for f in 0..shape.n_entities(dim) {
        let entity = shape.entity_vertices(dim, f);
        let mut key = [NONE; 4];
        for (k, &v) in key.iter_mut().zip(entity) {
            *k = draft.label(nodes[v as usize]);
        }
        let n = entity.len();
        key[..n].sort_unstable();
        let top = std::mem::replace(&mut key[n - 1], NONE);
        meet(top, [key[0], key[1], key[2]]);
    }
}

/// Half of a facet, on its way to where the other half will be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Half {
    vertices: [u64; 4],
    cell: u64,
    cluster: u64,
}

/// A cell here, and the one on another rank that shares a facet with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Across {
    cell: u64,
    other: u64,
    other_cluster: u64,
}

/// Joins what is left on the ranks' surfaces, through a rendezvous at a rank that the facet's vertices
/// choose. Sorted. Collective.
fn match_across(draft: &Draft, singles: &[Single], half: impl Fn(u32) -> (u64, u64)) -> Vec<Across> {
    let comm = &draft.comm;
    if comm.size() == 1 {
        return Vec::new();
    }
    let ids = draft.vertex_ids();
    let halves = singles.iter().map(|single| {
        let mut vertices = single.vertices.map(|v| if v == NONE { u64::MAX } else { ids[v as usize] });
        vertices.sort_unstable();
        let to = vertices.iter().fold(0, |h, &v| mix(h ^ v)) % comm.size() as u64;
        let (cell, cluster) = half(single.cell);
        (to as u32, Half { vertices, cell, cluster })
    });
    let received = comm.exchange(&Buckets::from_pairs(halves.collect()));
    let mut all: Vec<(Half, u32)> = Vec::with_capacity(received.data.len());
    for (rank, halves) in received.iter() {
        all.extend(halves.iter().map(|&half| (half, rank)));
    }
    all.sort_unstable();
    let mut replies = Vec::new();
    // More than two cells on a facet (a sheet of three in 2D, say) are joined in a chain.
    for run in all.chunk_by(|a, b| a.0.vertices == b.0.vertices) {
        for pair in run.windows(2) {
            let ((a, to_a), (b, to_b)) = (pair[0], pair[1]);
            replies.push((to_a, Across { cell: a.cell, other: b.cell, other_cluster: b.cluster }));
            replies.push((to_b, Across { cell: b.cell, other: a.cell, other_cluster: a.cluster }));
        }
    }
    let mut across = comm.exchange(&Buckets::from_pairs(replies)).data;
    across.sort_unstable();
    across
}

/// A graph of `n` vertices on this rank from pairs of local numbers (each edge once) and pairs of a local
/// and a global number (each edge on both ranks); an edge weighs as much as there are pairs, or 1.
/// Collective.
fn build(
    comm: &Comm,
    n: usize,
    pairs: &[(u32, u32)],
    across: &[(u32, u64)],
    weighted: bool,
) -> Result<Graph, partition::Error> {
    let offset = comm.exclusive_sum(n as u64);
    let mut begin = vec![0usize; n + 1];
    for &(a, b) in pairs {
        begin[a as usize + 1] += 1;
        begin[b as usize + 1] += 1;
    }
    for &(a, _) in across {
        begin[a as usize + 1] += 1;
    }
    for v in 0..n {
        begin[v + 1] += begin[v];
    }
    let mut next = begin.clone();
    let mut ends = vec![0u64; begin[n]];
    let mut put = |a: u32, end: u64| {
        ends[next[a as usize]] = end;
        next[a as usize] += 1;
    };
    for &(a, b) in pairs {
        put(a, offset + u64::from(b));
        put(b, offset + u64::from(a));
    }
    for &(a, end) in across {
        put(a, end);
    }
    drop(next);
    let mut ptr = Vec::with_capacity(n + 1);
    ptr.push(0);
    let mut weights = Vec::new();
    let mut kept = 0;
    // Parallel edges become one, in place.
    for v in 0..n {
        ends[begin[v]..begin[v + 1]].sort_unstable();
        let row = kept;
        for k in begin[v]..begin[v + 1] {
            if kept > row && ends[kept - 1] == ends[k] {
                if weighted {
                    weights[kept - 1] += 1;
                }
                continue;
            }
            ends[kept] = ends[k];
            kept += 1;
            if weighted {
                weights.push(1);
            }
        }
        ptr.push(kept);
    }
    ends.truncate(kept);
    let graph = Graph::new(comm, ptr, ends)?;
    if weighted { graph.with_edge_weights(comm, weights) } else { Ok(graph) }
}

fn failed(error: partition::Error) -> MeshError {
    MeshError::Partition(error.to_string())
}

/// The whole dual graph. Collective.
pub(super) fn graph(draft: &Draft) -> Result<Graph, MeshError> {
    let _span = tracing::debug_span!("dual graph").entered();
    let offset = draft.comm.exclusive_sum(draft.n_cells() as u64);
    let mut pairs = Vec::new();
    let singles = match_facets(draft, None, |a, b| pairs.push((a, b)));
    let across = match_across(draft, &singles, |cell| (offset + u64::from(cell), 0));
    let across: Vec<(u32, u64)> =
        across.iter().map(|pair| ((pair.cell - offset) as u32, pair.other)).collect();
    build(&draft.comm, draft.n_cells(), &pairs, &across, false).map_err(failed)
}

/// Consecutive cells taken together.
struct Clusters {
    /// The cells' clusters, and the first cell of each cluster; one more entry than clusters.
    of_cell: Vec<u32>,
    first: Vec<u32>,
}

impl Clusters {
    fn new(draft: &Draft, size: usize) -> Clusters {
        let mut clusters = Clusters { of_cell: Vec::with_capacity(draft.n_cells()), first: vec![0] };
        for block in &draft.soup.blocks {
            let n = block.ids.len();
            for begin in (0..n).step_by(size) {
                let number = clusters.first.len() as u32 - 1;
                let end = clusters.of_cell.len() + size.min(n - begin);
                clusters.of_cell.resize(end, number);
                clusters.first.push(end as u32);
            }
        }
        clusters
    }

    fn len(&self) -> usize {
        self.first.len() - 1
    }

    fn cells(&self, cluster: usize) -> std::ops::Range<u32> {
        self.first[cluster]..self.first[cluster + 1]
    }
}

/// An owner for each cell. Collective.
pub(super) fn partition(draft: &Draft, n_parts: usize, options: &Options) -> Result<Dealt, MeshError> {
    let _span = tracing::debug_span!("partition cells").entered();
    let comm = &draft.comm;
    let n_global = comm.sum(draft.n_cells() as u64);
    let wanted = CLUSTERS_PER_VERTEX * options.target(n_parts);
    let size = (n_global / wanted).min(MOST_CELLS);
    let mut dealt = if size < 2 || n_parts == 1 {
        let graph = graph(draft)?;
        let made = partition::partition(comm, &graph, n_parts, options).map_err(failed)?;
        let measured = partition::quality(comm, &graph, &made.owner, n_parts);
        Dealt {
            owner: made.owner,
            method: made.method,
            edge_cut: measured.edge_cut,
            imbalance: measured.imbalance,
            n_clusters: made.n_clusters,
        }
    } else {
        by_clusters(draft, n_parts, options, size as usize)?
    };
    if n_parts == comm.size() {
        stay_where_possible(comm, &mut dealt.owner, n_parts);
    }
    Ok(dealt)
}

/// Partitions clusters of `size` cells, then moves single cells near the interfaces.
fn by_clusters(draft: &Draft, n_parts: usize, options: &Options, size: usize) -> Result<Dealt, MeshError> {
    let comm = &draft.comm;
    let clusters = Clusters::new(draft, size);
    let first_cell = comm.exclusive_sum(draft.n_cells() as u64);
    let first_cluster = comm.exclusive_sum(clusters.len() as u64);
    let mut pairs = Vec::new();
    let singles = match_facets(draft, None, |a, b| {
        let (a, b) = (clusters.of_cell[a as usize], clusters.of_cell[b as usize]);
        if a != b {
            pairs.push((a, b));
        }
    });
    let cluster_of = |cell: u32| clusters.of_cell[cell as usize];
    let across = match_across(draft, &singles, |cell| {
        (first_cell + u64::from(cell), first_cluster + u64::from(cluster_of(cell)))
    });
    drop(singles);
    let outer: Vec<(u32, u64)> =
        across.iter().map(|pair| (cluster_of((pair.cell - first_cell) as u32), pair.other_cluster)).collect();
    let weights = (0..clusters.len()).map(|c| clusters.cells(c).len() as i32).collect();
    let graph = build(comm, clusters.len(), &pairs, &outer, true)
        .and_then(|graph| graph.with_vertex_weights(comm, weights))
        .map_err(failed)?;
    drop((pairs, outer));
    let made = partition::partition(comm, &graph, n_parts, options).map_err(failed)?;

    // The cells near the interfaces, by whole clusters. Those of the outermost layer stay: only their
    // neighbours inwards are known.
    let distance = partition::distances(comm, &graph, &made.owner, NEAR);
    drop(graph);
    let mut outside = vec![0i64; n_parts];
    let mut near: Vec<u32> = Vec::new();
    let mut fixed: Vec<bool> = Vec::new();
    let mut first_near = vec![NONE; clusters.len()];
    for c in 0..clusters.len() {
        if distance[c] < NEAR {
            first_near[c] = near.len() as u32;
            near.extend(clusters.cells(c));
            fixed.resize(near.len(), distance[c] + 1 == NEAR);
        } else {
            outside[made.owner[c] as usize] += clusters.cells(c).len() as i64;
        }
    }
    comm.sum_slice(&mut outside);
    let place = |cell: u32| {
        let cluster = cluster_of(cell) as usize;
        (first_near[cluster] != NONE).then(|| first_near[cluster] + cell - clusters.first[cluster])
    };
    let known = |cell: u32| place(cell).expect("a cell near an interface");
    let mut pairs = Vec::new();
    match_facets(draft, Some(&near), |a, b| pairs.push((known(a), known(b))));
    let outer = near_across(comm, &across, first_cell, place, comm.exclusive_sum(near.len() as u64));
    let graph = build(comm, near.len(), &pairs, &outer, false).map_err(failed)?;
    drop((pairs, outer));
    let mut owner: Vec<u32> = near.iter().map(|&cell| made.owner[cluster_of(cell) as usize]).collect();
    let improved = partition::improve(comm, &graph, &fixed, &mut owner, &outside, options);

    let mut of_cell: Vec<u32> = clusters.of_cell.iter().map(|&c| made.owner[c as usize]).collect();
    for (&cell, &part) in near.iter().zip(&owner) {
        of_cell[cell as usize] = part;
    }
    Ok(Dealt {
        owner: of_cell,
        method: made.method,
        edge_cut: improved.edge_cut,
        imbalance: improved.imbalance,
        n_clusters: made.n_clusters,
    })
}

/// Edges between cells near interfaces on different ranks: the place of the cell here, and the other's
/// global number among such cells. Collective.
fn near_across(
    comm: &Comm,
    across: &[Across],
    first_cell: u64,
    place: impl Fn(u32) -> Option<u32>,
    first_near: u64,
) -> Vec<(u32, u64)> {
    let firsts = comm.all_gather(first_cell);
    let mut told = Vec::new();
    for pair in across {
        if let Some(k) = place((pair.cell - first_cell) as u32) {
            // Ranks without cells begin where the next one does.
            let rank = firsts.partition_point(|&first| first <= pair.other) - 1;
            told.push((rank as u32, [pair.other, first_near + u64::from(k)]));
        }
    }
    let told = comm.exchange(&Buckets::from_pairs(told)).data;
    told.iter().filter_map(|&[cell, other]| Some((place((cell - first_cell) as u32)?, other))).collect()
}

/// Renames parts so that cells change ranks as little as possible: the part that has most of its cells
/// on a rank gets that rank's name, largest overlaps first. Collective.
fn stay_where_possible(comm: &Comm, owner: &mut [u32], n_parts: usize) {
    let mut counts = vec![0u64; n_parts];
    for &part in owner.iter() {
        counts[part as usize] += 1;
    }
    let rank = comm.rank() as u64;
    let mine: Vec<[u64; 3]> = (0..n_parts as u64)
        .map(|part| [counts[part as usize], part, rank])
        .filter(|overlap| overlap[0] > 0)
        .collect();
    let mut names = Vec::new();
    if let Some((mut overlaps, _)) = comm.gather_varied(0, &mine) {
        overlaps.sort_unstable_by_key(|o| (std::cmp::Reverse(o[0]), o[1], o[2]));
        let mut taken = vec![false; n_parts];
        names = vec![NONE; n_parts];
        for [_, part, rank] in overlaps {
            if names[part as usize] == NONE && !taken[rank as usize] {
                names[part as usize] = rank as u32;
                taken[rank as usize] = true;
            }
        }
        let mut free = (0..n_parts as u32).filter(|&rank| !taken[rank as usize]);
        for name in names.iter_mut().filter(|name| **name == NONE) {
            *name = free.next().expect("as many ranks as parts");
        }
    }
    comm.broadcast(0, &mut names);
    for part in owner {
        *part = names[*part as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facets of a fan of `n` cells round vertex `n`, each of two neighbours and the hub; all wait at the hub.
    fn fan(n: u32) -> (Vec<Option<u32>>, Vec<Single>) {
        let mut matcher = Matcher::new(n as usize + 1);
        let first = (0..n).map(|k| (k, k));
        // Every facet but each seventh is met again, by the cell before, from the far end.
        let again = (0..n).rev().filter(|k| k % 7 != 0).map(|k| (k, k + n));
        let met = first.chain(again).map(|(k, cell)| matcher.meet(n, [k, NONE, NONE], cell)).collect();
        (met, matcher.into_singles())
    }

    #[test]
    fn facets_at_a_hub_are_hashed_and_paired() {
        for n in [5, LONG_LIST, LONG_LIST + 1, 100_000] {
            let (met, mut singles) = fan(n);
            let (first, again) = met.split_at(n as usize);
            assert!(first.iter().all(Option::is_none));
            let expected = (0..n).rev().filter(|k| k % 7 != 0).map(Some);
            assert!(again.iter().copied().eq(expected), "{n}");
            singles.sort_unstable_by_key(|s| s.cell);
            let left: Vec<u32> = singles.iter().map(|s| s.vertices[1]).collect();
            assert_eq!(left, (0..n).step_by(7).collect::<Vec<_>>(), "{n}");
            assert!(singles.iter().all(|s| s.vertices[0] == n && s.cell == s.vertices[1]), "{n}");
        }
    }

    #[test]
    fn places_of_a_list_that_became_a_hub_are_used_again() {
        let mut matcher = Matcher::new(200);
        for k in 0..LONG_LIST + 1 {
            assert_eq!(matcher.meet(150, [k, NONE, NONE], k), None);
        }
        for k in 0..LONG_LIST {
            assert_eq!(matcher.meet(160, [k, NONE, NONE], k), None);
        }
        assert_eq!((matcher.pool.len(), matcher.hubs.len()), (LONG_LIST as usize, LONG_LIST as usize + 1));
        assert_eq!(matcher.meet(160, [3, NONE, NONE], 9), Some(3));
        assert_eq!(matcher.meet(150, [3, NONE, NONE], 9), Some(3));
    }
}
