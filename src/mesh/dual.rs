//! The dual graph of a draft: cells joined by the facets they share.

use cluster::Buckets;
use partition::Graph;

use super::draft::Draft;
use super::entities::mix;
use super::ids::IdSet;
use super::MeshError;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Facet {
    vertices: [u64; 4],
    cell: u64,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Pair {
    cell: u64,
    other: u64,
}

/// Joins cells by facets: first those that meet on this rank, by the facet's least vertex; what is left
/// (the surface of this rank's part) through a rendezvous at a rank chosen by the facet's key.
pub(super) fn graph(draft: &Draft) -> Result<Graph, MeshError> {
    let comm = &draft.comm;
    let n_cells = draft.n_cells();
    let offset = comm.exclusive_sum(n_cells as u64);
    let n_blocks = draft.soup.blocks.len();
    let vertices: Vec<_> = (0..n_blocks).map(|b| draft.vertices(b)).collect();
    let ids = IdSet::new(vertices.iter().flat_map(|v| v.iter()));
    let dim = draft.soup.dim;

    let mut starts = vec![0u32; ids.len() + 1];
    let mut facets: Vec<([u32; 4], u32)> = Vec::new();
    let mut cell = 0u32;
    for (block, vertices) in draft.soup.blocks.iter().zip(&vertices) {
        let shape = block.shape;
        let mut local = [0u32; 8];
        for corners in vertices.chunks_exact(shape.n_vertices()) {
            for (l, &v) in local.iter_mut().zip(corners) {
                *l = ids.local(v);
            }
            for f in 0..shape.n_entities(dim - 1) {
                let mut key = [u32::MAX; 4];
                let entity = shape.entity_vertices(dim - 1, f);
                for (k, &v) in key.iter_mut().zip(entity) {
                    *k = local[v as usize];
                }
                key[..entity.len()].sort_unstable();
                starts[key[0] as usize + 1] += 1;
                facets.push((key, cell));
            }
            cell += 1;
        }
    }
    for v in 0..ids.len() {
        starts[v + 1] += starts[v];
    }
    let mut next = starts.clone();
    let mut by_vertex = vec![0u32; facets.len()];
    for (k, facet) in facets.iter().enumerate() {
        let place = &mut next[facet.0[0] as usize];
        by_vertex[*place as usize] = k as u32;
        *place += 1;
    }
    drop(next);
    let mut edges: Vec<(u32, u64)> = Vec::with_capacity(facets.len());
    let mut single: Vec<Facet> = Vec::new();
    for v in 0..ids.len() {
        let bucket = &mut by_vertex[starts[v] as usize..starts[v + 1] as usize];
        bucket.sort_unstable_by_key(|&k| (facets[k as usize].0, k));
        for run in bucket.chunk_by(|&a, &b| facets[a as usize].0 == facets[b as usize].0) {
            if let [k] = run {
                let (key, cell) = facets[*k as usize];
                let vertices = key.map(|v| if v == u32::MAX { u64::MAX } else { ids.ids()[v as usize] });
                single.push(Facet { vertices, cell: offset + u64::from(cell) });
                continue;
            }
            // More than two cells on a facet (a sheet of three in 2D, say) are joined in a chain.
            for pair in run.windows(2) {
                let (a, b) = (facets[pair[0] as usize].1, facets[pair[1] as usize].1);
                edges.push((a, offset + u64::from(b)));
                edges.push((b, offset + u64::from(a)));
            }
        }
    }
    drop((facets, by_vertex, starts));
    if comm.size() > 1 {
        let meet: Vec<u32> = single
            .iter()
            .map(|f| (f.vertices.iter().fold(0, |h, &v| mix(h ^ v)) % comm.size() as u64) as u32)
            .collect();
        let received = comm.exchange(&Buckets::from_destinations(&meet, &single));
        let mut all: Vec<(Facet, u32)> = Vec::with_capacity(received.data.len());
        for (rank, facets) in received.iter() {
            all.extend(facets.iter().map(|&f| (f, rank)));
        }
        all.sort_unstable();
        let mut replies = Vec::new();
        for run in all.chunk_by(|a, b| a.0.vertices == b.0.vertices) {
            for pair in run.windows(2) {
                let ((a, to_a), (b, to_b)) = (pair[0], pair[1]);
                replies.push((to_a, Pair { cell: a.cell, other: b.cell }));
                replies.push((to_b, Pair { cell: b.cell, other: a.cell }));
            }
        }
        for pair in comm.exchange(&Buckets::from_pairs(replies)).data {
            edges.push(((pair.cell - offset) as u32, pair.other));
        }
    }
    // A cell may meet another in two facets (tiny periodic meshes): one edge is enough.
    let mut ptr = vec![0usize; n_cells + 1];
    for edge in &edges {
        ptr[edge.0 as usize + 1] += 1;
    }
    for c in 0..n_cells {
        ptr[c + 1] += ptr[c];
    }
    let mut next = ptr.clone();
    let mut adjacent = vec![0u64; edges.len()];
    for (cell, other) in edges {
        let place = &mut next[cell as usize];
        adjacent[*place] = other;
        *place += 1;
    }
    let mut kept = 0;
    let mut begin = 0;
    for c in 0..n_cells {
        let end = ptr[c + 1];
        adjacent[begin..end].sort_unstable();
        ptr[c] = kept;
        let mut last = offset + c as u64;
        for k in begin..end {
            if adjacent[k] != last && adjacent[k] != offset + c as u64 {
                last = adjacent[k];
                adjacent[kept] = last;
                kept += 1;
            }
        }
        begin = end;
    }
    ptr[n_cells] = kept;
    adjacent.truncate(kept);
    Graph::new(comm, ptr, adjacent).map_err(|e| MeshError::Partition(e.to_string()))
}
