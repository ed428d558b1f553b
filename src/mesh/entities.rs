//! Numbering vertices, edges and faces over all ranks.
//!
//! Who owns an entity is decided by a rule over the ranks that own the cells around it; a rank that
//! owns one of those cells sees them all, thanks to the layer of ghost cells. Numbers of entities
//! owned elsewhere are asked for by (cell, entity within the cell), which both sides know without any
//! global key.

use cluster::{Buckets, Comm, Halo, IndexMap};

use super::Block;

/// Entities of one dimension: vertices, edges, faces or cells.
pub struct Entities {
    /// Owned and ghost numbers.
    pub map: IndexMap,
    /// Moves values from owners to ghosts.
    pub halo: Halo,
    /// Per block: local entity numbers, `n_cells * shape.n_entities(dim)`.
    pub cell_to_entity: Vec<Vec<u32>>,
}

/// Mixes the bits of a key (the finalizer of splitmix64), so that ownership along an interface falls
/// evenly on the ranks that share it.
pub(super) fn mix(mut key: u64) -> u64 {
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Question {
    block: u32,
    cell: u32,
    local: u32,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Answer {
    global: u64,
    owner: u64,
}

/// Distinct entities of one dimension on this rank, before they have an owner.
pub(super) struct Found {
    /// Per block: numbers from 0 in the order in which the cells meet them.
    pub cell_to_entity: Vec<Vec<u32>>,
    /// A key that every rank computes alike.
    pub keys: Vec<u64>,
}

/// Above this many instances round one vertex (a pole, a hub) sorting beats comparing all pairs.
const LONG_BUCKET: usize = 96;

/// Finds the distinct entities of dimension `dim` by the vertices they join. `corner(block, cell)` gives
/// local numbers, `global` their globally agreed ones.
pub(super) fn find<'a>(
    blocks: &'a [Block],
    dim: usize,
    n_corners: usize,
    corners: impl Fn(&'a Block, usize) -> &'a [u32],
    global: impl Fn(u32) -> u64,
) -> Found {
    // Instances bucketed by their least vertex, then matched within the bucket: no hashing, and the
    // buckets are short (an edge's least vertex begins a handful of edges).
    let mut starts = vec![0u32; n_corners + 1];
    let mut instances: Vec<[u32; 4]> = Vec::new();
    for block in blocks {
        let n = block.shape.n_entities(dim);
        instances.reserve(n * block.n_cells);
        for cell in 0..block.n_cells {
            let vertices = corners(block, cell);
            for i in 0..n {
                let mut key = [u32::MAX; 4];
                let entity = block.shape.entity_vertices(dim, i);
                for (k, &v) in key.iter_mut().zip(entity) {
                    *k = vertices[v as usize];
                }
                key[..entity.len()].sort_unstable();
                starts[key[0] as usize + 1] += 1;
                instances.push(key);
            }
        }
    }
    for v in 0..n_corners {
        starts[v + 1] += starts[v];
    }
    let mut next = starts.clone();
    let mut by_vertex = vec![0u32; instances.len()];
    for (k, key) in instances.iter().enumerate() {
        let place = &mut next[key[0] as usize];
        by_vertex[*place as usize] = k as u32;
        *place += 1;
    }
    // The representative of each instance is the first one with its key.
    let mut representative = vec![0u32; instances.len()];
    for v in 0..n_corners {
        let bucket = &mut by_vertex[starts[v] as usize..starts[v + 1] as usize];
        if bucket.len() > LONG_BUCKET {
            bucket.sort_unstable_by_key(|&k| (instances[k as usize], k));
            for run in bucket.chunk_by(|&a, &b| instances[a as usize] == instances[b as usize]) {
                for &k in run {
                    representative[k as usize] = run[0];
                }
            }
            continue;
        }
        for (k, &a) in bucket.iter().enumerate() {
            let first = bucket[..k].iter().find(|&&b| instances[b as usize] == instances[a as usize]);
            representative[a as usize] = first.map_or(a, |&b| representative[b as usize]);
        }
    }
    let mut numbers = vec![u32::MAX; instances.len()];
    let mut keys = Vec::new();
    let mut cell_to_entity = Vec::with_capacity(blocks.len());
    let mut k = 0;
    for block in blocks {
        let n = block.shape.n_entities(dim) * block.n_cells;
        let mut table = Vec::with_capacity(n);
        for _ in 0..n {
            let r = representative[k] as usize;
            if r == k {
                numbers[k] = keys.len() as u32;
                // The numbers' order, unlike their values, may differ between ranks.
                let mut vertices = instances[k].map(|v| if v == u32::MAX { u64::MAX } else { global(v) });
                vertices.sort_unstable();
                keys.push(vertices.iter().fold(0, |hash, &v| mix(hash ^ v)));
            }
            table.push(numbers[r]);
            k += 1;
        }
        cell_to_entity.push(table);
    }
    Found { cell_to_entity, keys }
}

/// The cells themselves as entities: no two share one.
pub(super) fn cells(blocks: &[Block]) -> Found {
    let mut n = 0;
    let mut next = |block: &Block| {
        let first = n;
        n += block.n_cells as u32;
        (first..n).collect()
    };
    let cell_to_entity: Vec<Vec<u32>> = blocks.iter().map(&mut next).collect();
    Found { cell_to_entity, keys: vec![0; n as usize] }
}

/// Gives every found entity an owner and a global number. Collective.
pub(super) fn number(comm: &Comm, blocks: &[Block], found: Found) -> Entities {
    let Found { mut cell_to_entity, keys } = found;
    let n = keys.len();
    let rank = comm.rank() as u32;
    let per_cell = |b: usize| cell_to_entity[b].len() / blocks[b].n_cells.max(1);
    // Which entities touch an owned cell (their star is complete), and which touch a ghost.
    const MINE: u32 = u32::MAX;
    let mut touches_owned = vec![false; n];
    let mut owner = vec![MINE; n];
    for (b, block) in blocks.iter().enumerate() {
        for &e in &cell_to_entity[b][..block.n_owned * per_cell(b)] {
            touches_owned[e as usize] = true;
        }
    }
    // Pairs of (entity, rank of a ghost cell around it), for the few entities at an interface.
    let mut around: Vec<(u32, u32, Question)> = Vec::new();
    for (b, block) in blocks.iter().enumerate() {
        let n_local = per_cell(b);
        for cell in block.n_owned..block.n_cells {
            let (ghost_rank, ghost_cell) = block.ghosts[cell - block.n_owned];
            for local in 0..n_local {
                let question = Question { block: b as u32, cell: ghost_cell, local: local as u32 };
                around.push((cell_to_entity[b][cell * n_local + local], ghost_rank, question));
            }
        }
    }
    around.sort_unstable_by_key(|a| (a.0, a.1));
    let mut candidates = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for run in around.chunk_by(|a, b| a.0 == b.0) {
        let e = run[0].0 as usize;
        if !touches_owned[e] {
            owner[e] = run[0].1;
            second.push((run[0].1, (run[0].0, run[0].2)));
            continue;
        }
        candidates.clear();
        candidates.push(rank);
        candidates.extend(run.iter().map(|a| a.1));
        candidates.sort_unstable();
        candidates.dedup();
        let chosen = candidates[(keys[e] % candidates.len() as u64) as usize];
        if chosen != rank {
            owner[e] = chosen;
            let asked = run.iter().find(|a| a.1 == chosen).expect("a candidate comes from a cell");
            first.push((chosen, (run[0].0, asked.2)));
        }
    }
    drop(around);
    // Owned entities first, then ghosts, both in the order in which cells meet them.
    let mut renumber = vec![0u32; n];
    let (mut n_owned, mut n_ghost) = (0u32, 0u32);
    for e in 0..n {
        if owner[e] == MINE {
            renumber[e] = n_owned;
            n_owned += 1;
        }
    }
    for e in 0..n {
        if owner[e] != MINE {
            renumber[e] = n_owned + n_ghost;
            n_ghost += 1;
        }
    }
    for table in &mut cell_to_entity {
        for e in table.iter_mut() {
            *e = renumber[*e as usize];
        }
    }
    let offset = comm.exclusive_sum(u64::from(n_owned));
    let n_global = comm.sum(u64::from(n_owned));
    let mut ghosts = vec![u64::MAX; n_ghost as usize];
    let mut owners = vec![0u32; n_ghost as usize];
    for questions in [first, second] {
        let asked: Vec<(u32, Question)> = questions.iter().map(|q| (q.0, q.1.1)).collect();
        let sent: Vec<(u32, u32)> = questions.iter().map(|q| (q.0, q.1.0)).collect();
        let sent = Buckets::from_pairs(sent);
        let received = comm.exchange(&Buckets::from_pairs(asked));
        let answers = received
            .data
            .iter()
            .map(|q| {
                let table = &cell_to_entity[q.block as usize];
                let n_local = table.len() / blocks[q.block as usize].n_cells.max(1);
                let e = table[q.cell as usize * n_local + q.local as usize];
                match e.checked_sub(n_owned) {
                    None => Answer { global: offset + u64::from(e), owner: u64::from(rank) },
                    Some(g) => Answer { global: ghosts[g as usize], owner: u64::from(owners[g as usize]) },
                }
            })
            .collect();
        let answers =
            comm.exchange(&Buckets { ranks: received.ranks, offsets: received.offsets, data: answers });
        for (&e, answer) in sent.data.iter().zip(&answers.data) {
            let g = (renumber[e as usize] - n_owned) as usize;
            ghosts[g] = answer.global;
            owners[g] = answer.owner as u32;
        }
    }
    debug_assert!(ghosts.iter().all(|&g| g != u64::MAX), "every ghost has a number");
    let map = IndexMap::from_parts(n_owned as usize, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    Entities { map, halo, cell_to_entity }
}
