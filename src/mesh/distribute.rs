//! From a draft and an owner for each cell to a mesh with ghost cells.
//!
//! Steps, each one sparse exchange: cells that are owned elsewhere go there; the directory tells which
//! vertices are shared; boundary entities find the cells they lie on; cells at shared vertices go to the
//! sharers as ghosts, with their tags and coordinates; vertices get owners and numbers. Cells that stay
//! stay in place.

use std::collections::HashMap;

use cluster::{Buckets, Comm};
use rayon::prelude::*;

use super::directory::Sharers;
use super::draft::{Draft, Merged};
use super::entities::{self, Found, mix};
use super::ids::Numbers;
use super::soup::CellBlock;
use super::tags::{self, CellTag};
use super::{Block, EntityTag, Mesh, MeshError};

const NONE: u32 = u32::MAX;

/// A cell as it travels: words of its own, then the identifiers of its nodes, of their vertices where
/// these are others, and coordinates.
struct Reader<'a> {
    words: &'a [u64],
}

impl Reader<'_> {
    fn next(&mut self) -> u64 {
        let word = self.words[0];
        self.words = &self.words[1..];
        word
    }
}

/// The nodes of the cells here, by local number: those of the draft, and those that come with cells of
/// other ranks.
struct Nodes {
    numbers: Numbers,
    points: Vec<[f64; 3]>,
    merged: Option<Merged>,
    /// The labels of vertices that differ from nodes, by identifier.
    label_of: HashMap<u64, u32>,
}

impl Nodes {
    fn label(&self, node: u32) -> u32 {
        self.merged.as_ref().map_or(node, |merged| merged.label[node as usize])
    }

    fn n_labels(&self) -> usize {
        self.merged.as_ref().map_or(self.numbers.len(), |merged| merged.ids.len())
    }

    fn vertex_ids(&self) -> &[u64] {
        self.merged.as_ref().map_or(self.numbers.ids(), |merged| &merged.ids)
    }

    /// The words of a cell's nodes.
    fn write(&self, nodes: &[u32], corners: usize, words: &mut Vec<u64>) {
        words.extend(nodes.iter().map(|&node| self.numbers.ids()[node as usize]));
        if let Some(merged) = &self.merged {
            let vertex = |&node: &u32| merged.ids[merged.label[node as usize] as usize];
            words.extend(nodes[..corners].iter().map(vertex));
        }
        words.extend(nodes.iter().flat_map(|&node| self.points[node as usize].map(f64::to_bits)));
    }

    /// How many words that is.
    fn n_words(&self, n: usize, corners: usize) -> usize {
        4 * n + if self.merged.is_some() { corners } else { 0 }
    }

    /// Reads what [`Nodes::write`] wrote elsewhere, and appends the nodes' local numbers.
    fn read(&mut self, n: usize, corners: usize, reader: &mut Reader, nodes: &mut Vec<u32>) {
        let begin = nodes.len();
        let known = self.numbers.len();
        nodes.extend((0..n).map(|_| self.numbers.meet(reader.next())));
        if let Some(merged) = &mut self.merged {
            merged.label.resize(self.numbers.len(), NONE);
            for &node in &nodes[begin..begin + corners] {
                let vertex = reader.next();
                let label = *self.label_of.entry(vertex).or_insert_with(|| {
                    merged.ids.push(vertex);
                    merged.ids.len() as u32 - 1
                });
                merged.label[node as usize] = label;
            }
        }
        self.points.resize(self.numbers.len(), [0.0; 3]);
        for &node in &nodes[begin..] {
            let x = [0; 3].map(|_: i32| f64::from_bits(reader.next()));
            if node as usize >= known {
                self.points[node as usize] = x;
            }
        }
    }
}

/// Cells of one block: those owned, then ghosts.
struct Cells {
    nodes: Vec<u32>,
    ids: Vec<u64>,
    sets: Vec<u16>,
    n_owned: usize,
    /// Of ghosts: owner, and number within the block there.
    ghosts: Vec<(u32, u32)>,
}

/// Puts rows that came from lower ranks before, and those from higher ranks behind, what stays.
fn surround<T: Copy>(stay: &mut Vec<T>, lower: Vec<T>, higher: Vec<T>) {
    if !lower.is_empty() {
        stay.splice(0..0, lower);
    }
    stay.extend(higher);
}

/// Sends the cells of a block to their owners, in the order of the ranks that had them.
fn migrate(comm: &Comm, cells: &mut Cells, nodes: &mut Nodes, block: &CellBlock, owners: &[u32]) {
    let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
    let rank = comm.rank() as u32;
    let leaving: Vec<u32> = (0..owners.len() as u32).filter(|&c| owners[c as usize] != rank).collect();
    let to: Vec<u32> = leaving.iter().map(|&c| owners[c as usize]).collect();
    let Buckets { ranks, offsets, data: leaving } = Buckets::from_destinations(&to, &leaving);
    let width = 2 + nodes.n_words(n, corners);
    let mut words = Vec::with_capacity(leaving.len() * width);
    for &cell in &leaving {
        let c = cell as usize;
        words.extend([cells.ids[c], u64::from(cells.sets[c])]);
        nodes.write(&cells.nodes[c * n..][..n], corners, &mut words);
    }
    let offsets = offsets.iter().map(|o| o * width).collect();
    let received = comm.exchange(&Buckets { ranks, offsets, data: words });
    if !leaving.is_empty() {
        let mut kept = 0;
        for c in (0..owners.len()).filter(|&c| owners[c] == rank) {
            cells.nodes.copy_within(c * n..(c + 1) * n, kept * n);
            cells.ids[kept] = cells.ids[c];
            cells.sets[kept] = cells.sets[c];
            kept += 1;
        }
        cells.nodes.truncate(kept * n);
        cells.ids.truncate(kept);
        cells.sets.truncate(kept);
    }
    let mut sides = [true, false].map(|lower| {
        let mut side = (Vec::new(), Vec::new(), Vec::new());
        for (_, words) in received.iter().filter(|(from, _)| (*from < rank) == lower) {
            let mut reader = Reader { words };
            while !reader.words.is_empty() {
                side.1.push(reader.next());
                side.2.push(reader.next() as u16);
                nodes.read(n, corners, &mut reader, &mut side.0);
            }
        }
        side
    });
    let [lower, higher] = &mut sides;
    surround(&mut cells.nodes, std::mem::take(&mut lower.0), std::mem::take(&mut higher.0));
    surround(&mut cells.ids, std::mem::take(&mut lower.1), std::mem::take(&mut higher.1));
    surround(&mut cells.sets, std::mem::take(&mut lower.2), std::mem::take(&mut higher.2));
    cells.n_owned = cells.ids.len();
}

/// Labels of corners in use, in the order of the labels.
fn used_labels(blocks: &[CellBlock], cells: &[Cells], n: usize, label: impl Fn(u32) -> u32) -> Vec<u32> {
    let mut used = vec![false; n];
    for (block, cells) in blocks.iter().zip(cells) {
        let corners = block.shape.n_vertices();
        for nodes in cells.nodes.chunks_exact(block.geometry.n_nodes(block.shape)) {
            nodes[..corners].iter().for_each(|&node| used[label(node) as usize] = true);
        }
    }
    (0..n as u32).filter(|&l| used[l as usize]).collect()
}

/// Sends cells at shared vertices to everyone who shares one, and takes in what comes. Returns the tags of
/// ghosts. Collective.
fn add_ghosts(
    comm: &Comm,
    blocks: &[CellBlock],
    cells: &mut [Cells],
    nodes: &mut Nodes,
    shared: &[(u32, u32)],
    tags: &[CellTag],
) -> Vec<CellTag> {
    // Where each shared vertex has its sharers.
    let mut first_share = vec![NONE; nodes.n_labels()];
    for (k, &(label, _)) in shared.iter().enumerate().rev() {
        first_share[label as usize] = k as u32;
    }
    let mut ghost_tags = Vec::new();
    for (b, (block, cells)) in blocks.iter().zip(cells).enumerate() {
        let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
        let mut sends: Vec<(u32, u32)> = Vec::new();
        let mut to: Vec<u32> = Vec::new();
        for (cell, of_cell) in cells.nodes.chunks_exact(n).enumerate() {
            let shares = |&node: &u32| first_share[nodes.label(node) as usize];
            if of_cell[..corners].iter().all(|node| shares(node) == NONE) {
                continue;
            }
            to.clear();
            for k in of_cell[..corners].iter().map(shares).filter(|&k| k != NONE) {
                let label = shared[k as usize].0;
                to.extend(shared[k as usize..].iter().take_while(|s| s.0 == label).map(|s| s.1));
            }
            to.sort_unstable();
            to.dedup();
            sends.extend(to.iter().map(|&rank| (rank, cell as u32)));
        }
        let sends = Buckets::from_pairs(sends);
        let mut buckets = Buckets::<u64>::empty();
        buckets.data.reserve(sends.data.len() * (4 + nodes.n_words(n, corners)));
        for (rank, sent) in sends.iter() {
            for &cell in sent {
                let c = cell as usize;
                let mine = tags::of_cell(tags, b as u16, cell);
                let head = [u64::from(cell), cells.ids[c], u64::from(cells.sets[c]), mine.len() as u64];
                buckets.data.extend(head);
                buckets.data.extend(mine.iter().map(CellTag::pack));
                nodes.write(&cells.nodes[c * n..][..n], corners, &mut buckets.data);
            }
            buckets.ranks.push(rank);
            buckets.offsets.push(buckets.data.len());
        }
        let received = comm.exchange(&buckets);
        for (rank, words) in received.iter() {
            let mut reader = Reader { words };
            while !reader.words.is_empty() {
                let cell = (cells.n_owned + cells.ghosts.len()) as u32;
                cells.ghosts.push((rank, reader.next() as u32));
                cells.ids.push(reader.next());
                cells.sets.push(reader.next() as u16);
                for _ in 0..reader.next() {
                    ghost_tags.push(CellTag::unpack(reader.next(), b as u16, cell));
                }
                nodes.read(n, corners, &mut reader, &mut cells.nodes);
            }
        }
    }
    ghost_tags
}

/// Numbers in the order in which cells meet them, owned cells of all blocks before ghosts.
struct Meeting {
    number: Vec<u32>,
    n: usize,
    n_touched: usize,
}

impl Meeting {
    /// Of the first `take` of each cell's nodes (given by block), through `label`.
    fn new(
        blocks: &[Block],
        cells: &[Cells],
        n: usize,
        corners: bool,
        label: impl Fn(u32) -> u32,
    ) -> Meeting {
        let mut met = Meeting { number: vec![NONE; n], n: 0, n_touched: 0 };
        for (turn, (b, range)) in entities::met(blocks).enumerate() {
            if turn == blocks.len() {
                met.n_touched = met.n;
            }
            let width = blocks[b].n_nodes;
            let take = if corners { blocks[b].shape.n_vertices() } else { width };
            for nodes in cells[b].nodes[range.start * width..range.end * width].chunks_exact(width) {
                for &node in &nodes[..take] {
                    let slot = &mut met.number[label(node) as usize];
                    if *slot == NONE {
                        *slot = met.n as u32;
                        met.n += 1;
                    }
                }
            }
        }
        met
    }
}

pub(super) fn distribute(draft: Draft, owners: &[u32]) -> Result<Mesh, MeshError> {
    let _span = tracing::debug_span!("distribute").entered();
    let Draft { comm, mut soup, cells, numbers, points, coordinates, ranges, merged, periodic } = draft;
    drop(coordinates);
    let label_of = merged.iter().flat_map(|m| m.ids.iter().copied().zip(0..)).collect();
    let mut nodes = Nodes { numbers, points, merged, label_of };
    let mut cells: Vec<Cells> = cells
        .into_iter()
        .zip(&mut soup.blocks)
        .map(|(nodes, block)| Cells {
            nodes,
            n_owned: block.ids.len(),
            ids: std::mem::take(&mut block.ids),
            sets: std::mem::take(&mut block.sets),
            ghosts: Vec::new(),
        })
        .collect();
    let mut begin = 0;
    for (cells, block) in cells.iter_mut().zip(&soup.blocks) {
        let n = cells.ids.len();
        if comm.size() > 1 {
            migrate(&comm, cells, &mut nodes, block, &owners[begin..begin + n]);
        }
        begin += n;
    }

    // Who shares which vertices. A lone rank shares none.
    let alone = comm.size() == 1;
    let (mut shared, mut sharers, mut node_sharers) = (Vec::new(), None, None);
    if !alone {
        let used = used_labels(&soup.blocks, &cells, nodes.n_labels(), |node| nodes.label(node));
        let ids: Vec<u64> = used.iter().map(|&l| nodes.vertex_ids()[l as usize]).collect();
        let found = Sharers::new(&comm, ranges, &ids);
        shared.extend(found.shared().iter().map(|&(k, rank)| (used[k as usize], rank)));
        sharers = Some(found);
        // Boundary entities are matched by nodes, not by merged vertices: a facet on one side of a periodic
        // domain is not the facet on the other.
        if nodes.merged.is_some() {
            let used = used_labels(&soup.blocks, &cells, nodes.numbers.len(), |node| node);
            let ids: Vec<u64> = used.iter().map(|&node| nodes.numbers.ids()[node as usize]).collect();
            node_sharers = Some(Sharers::new(&comm, ranges, &ids));
        }
    }
    let tags = {
        let cells: Vec<&[u32]> = cells.iter().map(|c| c.nodes.as_slice()).collect();
        let n = nodes.numbers.len();
        let sharers = node_sharers.as_ref().or(sharers.as_ref());
        tags::attach(&comm, &soup, sharers, &cells, n, |id| nodes.numbers.get(id))
    };
    drop((sharers, node_sharers));
    let ghost_tags = if alone {
        Vec::new()
    } else {
        add_ghosts(&comm, &soup.blocks, &mut cells, &mut nodes, &shared, &tags)
    };

    let mut blocks: Vec<Block> = Vec::with_capacity(cells.len());
    for (cells, block) in cells.iter_mut().zip(&soup.blocks) {
        blocks.push(Block {
            shape: block.shape,
            geometry: block.geometry,
            n_owned: cells.n_owned,
            n_cells: cells.ids.len(),
            cell_to_vertex: Vec::new().into(),
            cell_to_node: None,
            n_nodes: block.geometry.n_nodes(block.shape),
            sets: std::mem::take(&mut cells.sets),
            ids: std::mem::take(&mut cells.ids),
            ghosts: std::mem::take(&mut cells.ghosts),
            hanging: None,
        });
    }
    let n_cells_global = comm.sum(blocks.iter().map(|b| b.n_owned as u64).sum());
    let plain = nodes.merged.is_none() && blocks.iter().all(|b| b.shape.n_vertices() == b.n_nodes);

    // Vertices: numbers in the order in which cells meet them.
    let Meeting { number, n, n_touched } =
        Meeting::new(&blocks, &cells, nodes.n_labels(), true, |node| nodes.label(node));
    let mut id_of = vec![0u64; n];
    for (&k, &id) in number.iter().zip(nodes.vertex_ids()) {
        if k != NONE {
            id_of[k as usize] = id;
        }
    }
    let cell_to_entity = cells
        .iter_mut()
        .zip(&blocks)
        .map(|(cells, block)| {
            if plain {
                // In place: nothing else needs the nodes then.
                let mut table = std::mem::take(&mut cells.nodes);
                table.par_chunks_mut(1 << 14).flatten().for_each(|v| *v = number[*v as usize]);
                return table;
            }
            let corners = block.shape.n_vertices();
            let of_cells = cells.nodes.chunks_exact(block.n_nodes).flat_map(|x| &x[..corners]);
            of_cells.map(|&node| number[nodes.label(node) as usize]).collect()
        })
        .collect();
    let found = Found { cell_to_entity, n, n_touched };
    let (mut vertices, renumber) =
        entities::number(&comm, &blocks, found, |e, _, _, _| mix(id_of[e as usize]));
    drop(id_of);
    for (block, table) in blocks.iter_mut().zip(std::mem::take(&mut vertices.cell_to_entity)) {
        block.cell_to_vertex = table;
    }

    // Nodes: those of vertices where they are the same, otherwise numbered as cells meet them.
    let number = if plain {
        let again = |k: u32| renumber.get(k as usize).copied().unwrap_or(k);
        number.into_iter().map(again).collect()
    } else {
        let met = Meeting::new(&blocks, &cells, nodes.numbers.len(), false, |node| node);
        for (block, cells) in blocks.iter_mut().zip(cells) {
            block.cell_to_node = Some(cells.nodes.iter().map(|&node| met.number[node as usize]).collect());
        }
        met.number
    };
    let n_nodes = number.iter().filter(|&&k| k != NONE).count();
    let mut points = vec![[0.0; 3]; n_nodes];
    let mut node_ids = vec![0u64; n_nodes];
    for ((&k, &id), &x) in number.iter().zip(nodes.numbers.ids()).zip(&nodes.points) {
        if k != NONE {
            points[k as usize] = x;
            node_ids[k as usize] = id;
        }
    }
    let mut entity_tags: Vec<EntityTag> = tags.iter().chain(&ghost_tags).map(|t| t.tag).collect();
    entity_tags.sort_unstable();
    entity_tags.dedup();
    Ok(Mesh {
        comm,
        dim: soup.dim,
        blocks,
        groups: soup.groups,
        sets: soup.sets,
        vertices,
        nodes: points,
        node_ids,
        nodes_are_vertices: plain,
        tags: entity_tags,
        periodic,
        n_cells_global,
    })
}
