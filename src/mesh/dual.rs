//! The dual graph of a draft: cells joined by the facets they share.

use cluster::Buckets;
use partition::Graph;

use super::MeshError;
use super::draft::Draft;
use super::entities::mix;
use super::ids::IdSet;
use crate::element::Shape;

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

/// Where a block's facets begin in the list of all facets of this rank's cells.
struct Slots {
    shape: Shape,
    first_slot: usize,
    first_cell: usize,
}

/// Every facet of every cell, as a slot: what is needed to find its cell and its vertices.
struct Facets {
    blocks: Vec<Slots>,
    /// Local vertices of all cells, block after block.
    corners: Vec<Vec<u32>>,
    dim: usize,
}

impl Facets {
    fn n_facets(&self, block: usize) -> usize {
        self.blocks[block].shape.n_entities(self.dim - 1)
    }

    /// The cell of a slot, and its facet's vertices, ascending and padded.
    fn look(&self, slot: usize) -> (usize, [u32; 4]) {
        let b = self.blocks.iter().rposition(|b| b.first_slot <= slot).expect("slots begin at 0");
        let Slots { shape, first_slot, first_cell } = self.blocks[b];
        let n = self.n_facets(b);
        let (cell, f) = ((slot - first_slot) / n, (slot - first_slot) % n);
        let corners = &self.corners[b][cell * shape.n_vertices()..];
        (first_cell + cell, facet_key(shape, self.dim, f, corners))
    }
}

#[inline]
fn facet_key(shape: Shape, dim: usize, f: usize, corners: &[u32]) -> [u32; 4] {
    let mut key = [u32::MAX; 4];
    let entity = shape.entity_vertices(dim - 1, f);
    for (k, &v) in key.iter_mut().zip(entity) {
        *k = corners[v as usize];
    }
    key[..entity.len()].sort_unstable();
    key
}

/// Joins cells by facets: first those that meet on this rank, by the facet's least vertex; what is left
/// (the surface of this rank's part) through a rendezvous at a rank chosen by the facet's key.
pub(super) fn graph(draft: &Draft) -> Result<Graph, MeshError> {
    let comm = &draft.comm;
    let n_cells = draft.n_cells();
    let offset = comm.exclusive_sum(n_cells as u64);
    let n_blocks = draft.soup.blocks.len();
    let dim = draft.soup.dim;
    let mut facets = Facets { blocks: Vec::new(), corners: Vec::new(), dim };
    let ids = {
        let vertices: Vec<_> = (0..n_blocks).map(|b| draft.vertices(b)).collect();
        let ids = IdSet::new(vertices.iter().flat_map(|v| v.iter()));
        for v in &vertices {
            facets.corners.push(v.iter().map(|&v| ids.local(v)).collect());
        }
        ids
    };
    let (mut n_slots, mut first_cell) = (0, 0);
    for (b, block) in draft.soup.blocks.iter().enumerate() {
        facets.blocks.push(Slots { shape: block.shape, first_slot: n_slots, first_cell });
        n_slots += facets.n_facets(b) * block.ids.len();
        first_cell += block.ids.len();
    }
    // Slots by the facet's least vertex.
    let mut starts = vec![0u32; ids.len() + 1];
    let mut by_vertex = vec![0u32; n_slots];
    for pass in 0..2 {
        let mut slot = 0u32;
        for (b, block) in draft.soup.blocks.iter().enumerate() {
            for corners in facets.corners[b].chunks_exact(block.shape.n_vertices()) {
                for f in 0..facets.n_facets(b) {
                    let entity = block.shape.entity_vertices(dim - 1, f);
                    let least =
                        entity.iter().map(|&v| corners[v as usize]).min().expect("a facet has vertices");
                    if pass == 0 {
                        starts[least as usize + 1] += 1;
                    } else {
                        by_vertex[starts[least as usize] as usize] = slot;
                        starts[least as usize] += 1;
                    }
                    slot += 1;
                }
            }
        }
        if pass == 0 {
            for v in 0..ids.len() {
                starts[v + 1] += starts[v];
            }
        }
    }
    // Filling moved every start to its end: bucket v is now starts[v - 1]..starts[v].
    const NONE: u64 = u64::MAX;
    let mut across = vec![NONE; n_slots];
    let mut single: Vec<Facet> = Vec::new();
    let mut extra: Vec<(usize, u64)> = Vec::new();
    let mut bucket: Vec<([u32; 4], u32, u32)> = Vec::new();
    let mut begin = 0;
    for v in 0..ids.len() {
        let end = starts[v] as usize;
        bucket.clear();
        for &slot in &by_vertex[begin..end] {
            let (cell, key) = facets.look(slot as usize);
            bucket.push((key, slot, cell as u32));
        }
        begin = end;
        bucket.sort_unstable();
        for run in bucket.chunk_by(|a, b| a.0 == b.0) {
            if let [(key, slot, cell)] = run {
                let vertices = key.map(|v| if v == u32::MAX { u64::MAX } else { ids.ids()[v as usize] });
                single.push(Facet { vertices, cell: offset + u64::from(*cell) });
                debug_assert_eq!(across[*slot as usize], NONE);
                continue;
            }
            // More than two cells on a facet (a sheet of three in 2D, say) are joined in a chain.
            for (k, pair) in run.windows(2).enumerate() {
                let ((_, a, cell_a), (_, b, cell_b)) = (pair[0], pair[1]);
                let (cell_a, cell_b) = (offset + u64::from(cell_a), offset + u64::from(cell_b));
                across[b as usize] = cell_a;
                if k == 0 {
                    across[a as usize] = cell_b;
                } else {
                    extra.push(((cell_a - offset) as usize, cell_b));
                }
            }
        }
    }
    drop((by_vertex, starts, bucket));
    let mut edges = extra;
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
            edges.push(((pair.cell - offset) as usize, pair.other));
        }
    }
    edges.sort_unstable();
    let mut ptr = Vec::with_capacity(n_cells + 1);
    ptr.push(0);
    // The slots of a cell are consecutive, so its neighbours are compressed in place.
    let (mut adjacent, mut kept) = (across, 0);
    let mut added = Vec::new();
    let mut next_edge = 0;
    let mut of_cell: Vec<u64> = Vec::new();
    for (b, block) in draft.soup.blocks.iter().enumerate() {
        let n = facets.n_facets(b);
        for c in 0..block.ids.len() {
            let cell = facets.blocks[b].first_cell + c;
            let slots = facets.blocks[b].first_slot + c * n;
            of_cell.clear();
            of_cell.extend(adjacent[slots..slots + n].iter().filter(|&&other| other != NONE));
            while let Some(&(_, other)) = edges.get(next_edge).filter(|e| e.0 == cell) {
                of_cell.push(other);
                next_edge += 1;
            }
            // A cell may meet another in two facets (tiny periodic meshes), or itself: one edge, or none.
            of_cell.sort_unstable();
            of_cell.dedup();
            of_cell.retain(|&other| other != offset + cell as u64);
            // Edges to other ranks stand for facets that were alone here, so there is room; only chains
            // of more than two cells on a facet may overflow it.
            let room = (slots + n).saturating_sub(kept).min(of_cell.len());
            if added.is_empty() && room == of_cell.len() {
                adjacent[kept..kept + room].copy_from_slice(&of_cell);
            } else {
                added.extend_from_slice(&of_cell);
            }
            kept += of_cell.len();
            ptr.push(kept);
        }
    }
    adjacent.truncate(kept - added.len());
    adjacent.append(&mut added);
    Graph::new(comm, ptr, adjacent).map_err(|e| MeshError::Partition(e.to_string()))
}
