//! Cells into the order of a space-filling curve, each rank ending with an equal stretch of it.
//!
//! Start at [`follow`]. A rank sorts its cells by key, sends others theirs, and merges what it gets: each
//! cell travels at most once, and its nodes get local numbers in the order in which the sorted cells meet
//! them, so that neighbours in space are neighbours in memory.

use cluster::{Buckets, Comm};
use partition::sort;
use rayon::prelude::*;

use super::draft::Draft;
use super::ids::{IdSet, Numbers};

/// Words of a cell on its way before its nodes: key, number in the input, set.
const HEAD: usize = 3;

/// The cells of one block that come here: those held before, and rows from other ranks.
struct Arrivals<'a> {
    /// Keys in ascending order, and for each a cell: one held here, or, counted on, a row.
    order: Vec<(u64, u32)>,
    n_held: usize,
    nodes: &'a [u64],
    rows: Vec<u64>,
    width: usize,
}

impl Arrivals<'_> {
    #[inline]
    fn nodes(&self, cell: u32) -> &[u64] {
        let n = self.width - HEAD;
        match (cell as usize).checked_sub(self.n_held) {
            None => &self.nodes[cell as usize * n..][..n],
            Some(row) => &self.rows[row * self.width + HEAD..][..n],
        }
    }
}

/// Redistributes the cells so that ranks hold equal stretches of the curve, in its order, and numbers
/// their nodes. `keys` are the cells' positions on the curve by block; `ids` the nodes in use. Collective.
pub(super) fn follow(draft: &mut Draft, keys: Vec<Vec<u64>>, ids: &IdSet) {
    let _span = tracing::debug_span!("sort along a curve").entered();
    let comm = draft.comm.clone();
    let orders: Vec<Vec<(u64, u32)>> = keys.into_iter().map(|keys| sort::order(&keys)).collect();
    let cuts: Vec<Vec<usize>> = if comm.size() == 1 {
        orders.iter().map(|order| vec![0, order.len()]).collect()
    } else {
        let lists: Vec<&[(u64, u32)]> = orders.iter().map(Vec::as_slice).collect();
        sort::cuts_between_keys(&comm, &lists)
    };
    // Identifiers are looked up in a table over their range, which those that arrive may extend.
    let range = ids.ids().first().copied().zip(ids.ids().last().copied());
    let (mut low, mut high) = range.unwrap_or((u64::MAX, 0));
    let mut n_references = 0;
    let mut arrivals = Vec::new();
    let nodes: Vec<Vec<u64>> = draft.soup.blocks.iter_mut().map(|b| std::mem::take(&mut b.nodes)).collect();
    for (b, order) in orders.into_iter().enumerate() {
        let block = &draft.soup.blocks[b];
        let width = HEAD + block.geometry.n_nodes(block.shape);
        let nodes = nodes[b].as_slice();
        let n_held = block.ids.len();
        let mut made = Arrivals { order, n_held, nodes, rows: Vec::new(), width };
        if comm.size() > 1 {
            exchange(&comm, &mut made, &block.ids, &block.sets, &cuts[b]);
        }
        for row in made.rows.chunks_exact(width) {
            for &id in &row[HEAD..] {
                low = low.min(id);
                high = high.max(id);
            }
        }
        n_references += made.order.len() * (width - HEAD);
        arrivals.push(made);
    }
    let mut numbers = Numbers::new(low, high, n_references);
    let mut repeated = false;
    for (b, mut made) in arrivals.into_iter().enumerate() {
        repeated |= settle_ties(&mut made);
        let block = &mut draft.soup.blocks[b];
        let mut cells = Vec::with_capacity(made.order.len() * (made.width - HEAD));
        for &(_, cell) in &made.order {
            cells.extend(made.nodes(cell).iter().map(|&id| numbers.meet(id)));
        }
        draft.cells.push(cells);
        let Arrivals { order, n_held, rows, width, .. } = made;
        let row = |cell: u32, k: usize| rows[(cell as usize - n_held) * width + k];
        let held = |cell: u32| (cell as usize) < n_held;
        let id = |&(_, cell): &(u64, u32)| if held(cell) { block.ids[cell as usize] } else { row(cell, 1) };
        let ids = order.par_iter().map(id).collect();
        let set = |&(_, cell): &(u64, u32)| {
            if held(cell) { block.sets[cell as usize] } else { row(cell, 2) as u16 }
        };
        let sets = order.par_iter().map(set).collect();
        (block.ids, block.sets) = (ids, sets);
    }
    drop(nodes);
    draft.numbers = numbers;
    if comm.any(repeated) {
        merge_duplicates(draft);
    }
}

/// Numbers the nodes of cells that stay where they are, in the order they have.
pub(super) fn stay(draft: &mut Draft, ids: &IdSet) {
    let range = ids.ids().first().copied().zip(ids.ids().last().copied());
    let (low, high) = range.unwrap_or((u64::MAX, 0));
    let mut numbers = Numbers::new(low, high, draft.soup.blocks.iter().map(|b| b.nodes.len()).sum());
    for block in &mut draft.soup.blocks {
        let nodes = std::mem::take(&mut block.nodes);
        draft.cells.push(nodes.iter().map(|&id| numbers.meet(id)).collect());
    }
    draft.numbers = numbers;
}

/// Sends the cells of other ranks' stretches there, and merges those that come with those that stay.
fn exchange(comm: &Comm, made: &mut Arrivals, ids: &[u64], sets: &[u16], cuts: &[usize]) {
    let mut sent = Buckets::<u64>::empty();
    let (mine, n) = (comm.rank(), made.order.len());
    let staying = cuts[mine]..cuts[mine + 1];
    sent.data.reserve_exact((n - staying.len()) * made.width);
    for (rank, ends) in cuts.windows(2).enumerate() {
        if rank == mine || ends[0] == ends[1] {
            continue;
        }
        for &(key, cell) in &made.order[ends[0]..ends[1]] {
            let k = cell as usize;
            sent.data.extend([key, ids[k], u64::from(sets[k])]);
            sent.data.extend_from_slice(made.nodes(cell));
        }
        sent.ranks.push(rank as u32);
        sent.offsets.push(sent.data.len());
    }
    let received = comm.exchange(&sent);
    drop(sent);
    made.order.truncate(staying.end);
    made.order.drain(..staying.start);
    if received.is_empty() {
        return;
    }
    let mut order = Vec::with_capacity(staying.len() + received.data.len() / made.width);
    let mut row = made.n_held as u32;
    let mut stay = std::mem::take(&mut made.order);
    for (rank, rows) in received.iter() {
        if rank as usize > mine {
            order.append(&mut stay);
        }
        order.extend(rows.chunks_exact(made.width).zip(row..).map(|(words, row)| (words[0], row)));
        row += (rows.len() / made.width) as u32;
    }
    order.append(&mut stay);
    // Few ascending runs: a stable sort merges them.
    order.sort_by_key(|entry| entry.0);
    made.order = order;
    made.rows = received.data;
}

/// Orders cells with one key by their nodes; whether any have the same nodes.
fn settle_ties(made: &mut Arrivals) -> bool {
    let mut order = std::mem::take(&mut made.order);
    let mut repeated = false;
    for run in order.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        run.sort_by(|a, b| made.nodes(a.1).cmp(made.nodes(b.1)));
        repeated |= run.windows(2).any(|pair| made.nodes(pair[0].1) == made.nodes(pair[1].1));
    }
    made.order = order;
    repeated
}

/// Merges cells with the same nodes into one that belongs to the groups of both: MSH 2 writes an
/// element once for each physical group. They have the same key, so they are neighbours here.
fn merge_duplicates(draft: &mut Draft) {
    let comm = draft.comm.clone();
    let soup = &mut draft.soup;
    let width = |soup: &super::soup::Soup, b: usize| soup.blocks[b].geometry.n_nodes(soup.blocks[b].shape);
    let same = |cells: &[u32], n: usize, cell: usize| cells[cell * n..][..n] == cells[(cell - 1) * n..][..n];
    let mut found = std::collections::BTreeSet::new();
    for (b, cells) in draft.cells.iter().enumerate() {
        let sets = &soup.blocks[b].sets;
        let repeats = (1..sets.len()).filter(|&cell| same(cells, width(soup, b), cell));
        found.extend(repeats.map(|cell| (sets[cell - 1], sets[cell])));
    }
    // Sets are agreed on: every rank adds every union, until none is new.
    loop {
        let pairs: Vec<[u16; 2]> = found.iter().map(|p| [p.0, p.1]).collect();
        let mut all: Vec<[u16; 2]> = comm.all_gather_varied(&pairs).0;
        all.sort_unstable();
        all.dedup();
        let before = soup.sets.len();
        for [a, b] in all {
            let union = union(&soup.sets, a, b);
            if !soup.sets.contains(&union) {
                soup.sets.push(union);
            }
        }
        found.clear();
        for (b, cells) in draft.cells.iter().enumerate() {
            let n = width(soup, b);
            for cell in 1..soup.blocks[b].ids.len() {
                if same(cells, n, cell) {
                    let sets = &soup.blocks[b].sets;
                    let pair = (sets[cell - 1], sets[cell]);
                    let merged = union(&soup.sets, pair.0, pair.1);
                    match soup.sets.iter().position(|s| *s == merged) {
                        Some(set) => soup.blocks[b].sets[cell] = set as u16,
                        None => {
                            found.insert(pair);
                        }
                    }
                }
            }
        }
        if !comm.any(!found.is_empty() || soup.sets.len() > before) {
            break;
        }
    }
    // The last of a run has the union of all before it.
    for (b, cells) in draft.cells.iter_mut().enumerate() {
        let n = width(soup, b);
        let block = &mut soup.blocks[b];
        let last = block.ids.len().saturating_sub(1);
        let keep: Vec<usize> =
            (0..block.ids.len()).filter(|&c| c == last || !same(cells, n, c + 1)).collect();
        for (to, &from) in keep.iter().enumerate() {
            cells.copy_within(from * n..(from + 1) * n, to * n);
            block.ids[to] = block.ids[from];
            block.sets[to] = block.sets[from];
        }
        cells.truncate(keep.len() * n);
        block.ids.truncate(keep.len());
        block.sets.truncate(keep.len());
    }
}

fn union(sets: &[Vec<u16>], a: u16, b: u16) -> Vec<u16> {
    let mut union: Vec<u16> = sets[a as usize].iter().chain(&sets[b as usize]).copied().collect();
    union.sort_unstable();
    union.dedup();
    union
}
