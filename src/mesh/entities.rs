//! Numbering vertices, edges and faces over all ranks.
//!
//! Who owns an entity is decided by a rule over the ranks that own the cells around it; a rank that
//! owns one of those cells sees them all, thanks to the layer of ghost cells. Numbers of entities
//! owned elsewhere are asked for by (cell, entity within the cell), which both sides know without any
//! global key.

use std::collections::HashMap;

use cluster::{Buckets, Comm, Halo, IndexMap};
use rayon::prelude::*;

use super::{Block, Table};

/// Entities of one dimension: vertices, edges, faces or cells.
pub struct Entities {
    /// Owned and ghost numbers.
    pub map: IndexMap,
    /// Moves values from owners to ghosts.
    pub halo: Halo,
    /// Per block: local entity numbers, `n_cells * shape.n_entities(dim)`.
    pub cell_to_entity: Vec<Table>,
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

/// A ghost cell that has an entity: its owner, what to ask there, and its local number here.
struct Around {
    entity: u32,
    rank: u32,
    question: Question,
    cell: u32,
}

/// Distinct entities of one dimension on this rank, before they have an owner.
pub(super) struct Found {
    /// Per block: numbers from 0 in the order in which the cells meet them, owned cells of all blocks
    /// before ghosts.
    pub cell_to_entity: Vec<Vec<u32>>,
    /// How many there are, and how many of them owned cells have.
    pub n: usize,
    pub n_touched: usize,
}

/// Cells as numbering meets them: block and range, owned cells of all blocks before ghosts.
pub(super) fn met(blocks: &[Block]) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let owned = blocks.iter().enumerate().map(|(b, block)| (b, 0..block.n_owned));
    owned.chain(blocks.iter().enumerate().map(|(b, block)| (b, block.n_owned..block.n_cells)))
}

/// Entities of one greatest vertex that are kept in a list; further ones are hashed.
const LONG_LIST: usize = 48;

/// Finds the distinct entities of dimension `dim` by the vertices they join: `corners(block, cell)` are
/// their local numbers, less than `n_corners`.
pub(super) fn find<'a>(
    blocks: &'a [Block],
    dim: usize,
    n_corners: usize,
    corners: impl Fn(&'a Block, usize) -> &'a [u32],
) -> Found {
    find_named(blocks, dim, n_corners, corners, |_, _| None)
}

/// As [`find`], where some of a cell's entities, a bit each, may be named by other vertices than the cell's:
/// `named(block, cell)` are these.
pub(super) fn find_named<'a>(
    blocks: &'a [Block],
    dim: usize,
    n_corners: usize,
    corners: impl Fn(&'a Block, usize) -> &'a [u32],
    named: impl Fn(&'a Block, usize) -> Option<(u16, &'a [u32])>,
) -> Found {
    // Entities hang in a list at their greatest vertex. The lists are short (a handful of edges), and cells
    // along the curve come back to vertices met lately, so all this stays in a cache.
    const END: u32 = u32::MAX;
    let mut head = vec![END; n_corners];
    let mut entities: Vec<([u32; 3], u32)> = Vec::new();
    let mut hubs: HashMap<[u32; 4], u32> = HashMap::new();
    let mut cell_to_entity: Vec<Vec<u32>> =
        blocks.iter().map(|b| vec![0; b.n_cells * b.shape.n_entities(dim)]).collect();
    let mut n_touched = None;
    for (turn, (b, cells)) in met(blocks).enumerate() {
        if turn == blocks.len() {
            n_touched = Some(entities.len());
        }
        let block = &blocks[b];
        let n = block.shape.n_entities(dim);
        for cell in cells {
            let own = corners(block, cell);
            let named = named(block, cell);
            for (i, number) in cell_to_entity[b][cell * n..][..n].iter_mut().enumerate() {
                let entity = block.shape.entity_vertices(dim, i);
                let vertices = match named {
                    Some((which, vertices)) if which >> i & 1 != 0 => vertices,
                    _ => own,
                };
                let (top, rest) = match entity {
                    [p, q] => {
                        let (p, q) = (vertices[*p as usize], vertices[*q as usize]);
                        (p.max(q), [p.min(q), END, END])
                    }
                    _ => {
                        let mut key = [END; 4];
                        for (k, &v) in key.iter_mut().zip(entity) {
                            *k = vertices[v as usize];
                        }
                        key[..entity.len()].sort_unstable();
                        let top = std::mem::replace(&mut key[entity.len() - 1], END);
                        (top, [key[0], key[1], key[2]])
                    }
                };
                let first = head[top as usize];
                let (mut at, mut length) = (first, 0);
                while at != END && length < LONG_LIST && entities[at as usize].0 != rest {
                    at = entities[at as usize].1;
                    length += 1;
                }
                if at != END && length < LONG_LIST {
                    *number = at;
                    continue;
                }
                let new = entities.len() as u32;
                *number = if length == LONG_LIST {
                    *hubs.entry([top, rest[0], rest[1], rest[2]]).or_insert(new)
                } else {
                    head[top as usize] = new;
                    new
                };
                if *number == new {
                    entities.push((rest, first));
                }
            }
        }
    }
    let n = entities.len();
    Found { cell_to_entity, n, n_touched: n_touched.unwrap_or(n) }
}

/// The cells themselves as entities: no two share one.
pub(super) fn cells(blocks: &[Block]) -> Found {
    let mut cell_to_entity: Vec<Vec<u32>> = blocks.iter().map(|_| Vec::new()).collect();
    let mut n = 0;
    for (b, cells) in met(blocks) {
        cell_to_entity[b].extend(n as u32..(n + cells.len()) as u32);
        n += cells.len();
    }
    Found { cell_to_entity, n, n_touched: blocks.iter().map(|b| b.n_owned).sum() }
}

/// Gives every found entity an owner and a global number. `key(entity, block, cell, local)`, of an entity
/// and a cell that has it, is a number that every rank computes alike. Ghosts come in ascending order
/// of their global numbers. Also returns the new number of each entity found, unless all keep theirs
/// (then nothing). Collective.
pub(super) fn number(
    comm: &Comm,
    blocks: &[Block],
    found: Found,
    key: impl Fn(u32, usize, usize, usize) -> u64,
) -> (Entities, Vec<u32>) {
    let _span = tracing::debug_span!("number entities").entered();
    number_owned(comm, blocks, found, key, None)
}

/// Whether a cell has entity `local` as its own: of block, cell and that.
pub(super) type Has<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

/// As [`number`], where ranks may only own what a cell of theirs has as its own: `has`, of a block, a cell and an
/// entity. Round each entity that an owned cell names there is such a cell here.
pub(super) fn number_owned(
    comm: &Comm,
    blocks: &[Block],
    found: Found,
    key: impl Fn(u32, usize, usize, usize) -> u64,
    has: Option<Has>,
) -> (Entities, Vec<u32>) {
    let Found { mut cell_to_entity, n, n_touched } = found;
    let rank = comm.rank() as u32;
    let per_cell = |b: usize| cell_to_entity[b].len() / blocks[b].n_cells.max(1);
    // Who may own is asked for what ghosts have only.
    let asks = blocks.iter().any(|block| block.n_cells > block.n_owned);
    let mine: Option<Vec<bool>> = has.filter(|_| asks).map(|has| {
        let mut mine = vec![false; n];
        for (b, block) in blocks.iter().enumerate() {
            let n_local = per_cell(b);
            for cell in 0..block.n_owned {
                for local in (0..n_local).filter(|&local| has(b, cell, local)) {
                    mine[cell_to_entity[b][cell * n_local + local] as usize] = true;
                }
            }
        }
        mine
    });
    // Every (entity, rank of a ghost cell around it): few, at interfaces.
    let mut around: Vec<Around> = Vec::new();
    for (b, block) in blocks.iter().enumerate() {
        let n_local = per_cell(b);
        for cell in block.n_owned..block.n_cells {
            let (rank, ghost_cell) = block.ghosts[cell - block.n_owned];
            for local in 0..n_local {
                let entity = cell_to_entity[b][cell * n_local + local];
                let question = Question { block: b as u32, cell: ghost_cell, local: local as u32 };
                around.push(Around { entity, rank, question, cell: cell as u32 });
            }
        }
    }
    around.sort_unstable_by_key(|a| (a.entity, a.rank));
    // Entities owned elsewhere, with their owners, ascending; and whom to ask about them.
    let mut elsewhere: Vec<(u32, u32)> = Vec::new();
    let mut candidates = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for run in around.chunk_by(|a, b| a.entity == b.entity) {
        let e = run[0].entity;
        if e as usize >= n_touched {
            second.push((run[0].rank, (elsewhere.len() as u32, run[0].question)));
            elsewhere.push((e, run[0].rank));
            continue;
        }
        candidates.clear();
        if mine.as_ref().is_none_or(|mine| mine[e as usize]) {
            candidates.push(rank);
        }
        let may_own = |a: &&Around| {
            has.is_none_or(|has| has(a.question.block as usize, a.cell as usize, a.question.local as usize))
        };
        candidates.extend(run.iter().filter(may_own).map(|a| a.rank));
        candidates.sort_unstable();
        candidates.dedup();
        let Question { block, local, .. } = run[0].question;
        let key = key(e, block as usize, run[0].cell as usize, local as usize);
        let chosen = candidates[(key % candidates.len() as u64) as usize];
        if chosen != rank {
            let asked = run.iter().find(|a| a.rank == chosen).expect("a candidate comes from a cell");
            first.push((chosen, (elsewhere.len() as u32, asked.question)));
            elsewhere.push((e, chosen));
        }
    }
    drop(around);
    // Owned entities keep their order; those owned elsewhere drop out.
    let n_owned = (n - elsewhere.len()) as u32;
    let offset = comm.exclusive_sum(u64::from(n_owned));
    let n_global = comm.sum(u64::from(n_owned));
    let mut ghosts = vec![u64::MAX; elsewhere.len()];
    let mut owners: Vec<u32> = elsewhere.iter().map(|e| e.1).collect();
    let mut renumber = Vec::new();
    if !elsewhere.is_empty() {
        renumber.reserve_exact(n);
        let (mut next, mut ghost) = (0, elsewhere.iter().zip(n_owned..).peekable());
        for e in 0..n as u32 {
            renumber.push(match ghost.next_if(|g| g.0.0 == e) {
                Some((_, number)) => number,
                None => {
                    next += 1;
                    next - 1
                }
            });
        }
    }
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
                let e = renumber.get(e as usize).copied().unwrap_or(e);
                match e.checked_sub(n_owned) {
                    None => Answer { global: offset + u64::from(e), owner: u64::from(rank) },
                    Some(g) => Answer { global: ghosts[g as usize], owner: u64::from(owners[g as usize]) },
                }
            })
            .collect();
        let answers =
            comm.exchange(&Buckets { ranks: received.ranks, offsets: received.offsets, data: answers });
        for (&g, answer) in sent.data.iter().zip(&answers.data) {
            ghosts[g as usize] = answer.global;
            owners[g as usize] = answer.owner as u32;
        }
    }
    debug_assert!(ghosts.iter().all(|&g| g != u64::MAX), "every ghost has a number");
    let mut order: Vec<u32> = (0..ghosts.len() as u32).collect();
    order.sort_unstable_by_key(|&g| ghosts[g as usize]);
    for (place, &g) in order.iter().enumerate() {
        renumber[elsewhere[g as usize].0 as usize] = n_owned + place as u32;
    }
    if !renumber.is_empty() {
        for table in &mut cell_to_entity {
            table.par_chunks_mut(1 << 14).flatten().for_each(|e| *e = renumber[*e as usize]);
        }
    }
    let ghosts = order.iter().map(|&g| ghosts[g as usize]).collect();
    let owners = order.iter().map(|&g| owners[g as usize]).collect();
    let map = IndexMap::from_parts(n_owned as usize, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    let cell_to_entity = cell_to_entity.into_iter().map(Table::from).collect();
    (Entities { map, halo, cell_to_entity }, renumber)
}
