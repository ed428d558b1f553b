//! From a draft and an owner for each cell to a mesh with ghost cells.
//!
//! Steps, each one sparse exchange: cells go to their owners; the directory tells which vertices are
//! shared; boundary entities find the cells they lie on; cells at shared vertices go to the sharers as
//! ghosts, with their tags and coordinates; vertices get owners and numbers.

use bytemuck::Pod;
use cluster::{Buckets, Comm};

use super::directory::Sharers;
use super::draft::Draft;
use super::entities::{self, Found, mix};
use super::ids::IdSet;
use super::soup::CellBlock;
use super::tags::{self, CellTag};
use super::{Block, EntityTag, Mesh, MeshError};

/// Sends rows of `width` items to `destinations`; rows arrive by sender, in the sender's order.
fn send_rows<T: Pod>(comm: &Comm, destinations: &[u32], data: &[T], width: usize) -> Vec<T> {
    let order: Vec<u32> = (0..destinations.len() as u32).collect();
    let rows = Buckets::from_destinations(destinations, &order);
    let mut flat = Vec::with_capacity(data.len());
    for &row in &rows.data {
        flat.extend_from_slice(&data[row as usize * width..][..width]);
    }
    let offsets = rows.offsets.iter().map(|o| o * width).collect();
    comm.exchange(&Buckets { ranks: rows.ranks, offsets, data: flat }).data
}

/// A ghost cell as it travels: a head, then its tags, nodes, topological vertices, coordinates.
struct GhostReader<'a> {
    words: &'a [u64],
}

impl GhostReader<'_> {
    fn next(&mut self) -> u64 {
        let word = self.words[0];
        self.words = &self.words[1..];
        word
    }
}

struct Owned {
    nodes: Vec<Vec<u64>>,
    vertices: Vec<Vec<u64>>,
    ids: Vec<Vec<u64>>,
    sets: Vec<Vec<u16>>,
}

/// Ghost cells of one block, as received.
#[derive(Default)]
struct Ghosts {
    /// Owner, and number within the block there.
    from: Vec<(u32, u32)>,
    nodes: Vec<u64>,
    ids: Vec<u64>,
    sets: Vec<u16>,
    vertices: Vec<u64>,
}

fn migrate(draft: &mut Draft, owners: &[u32]) -> Owned {
    let mut owned = Owned { nodes: Vec::new(), vertices: Vec::new(), ids: Vec::new(), sets: Vec::new() };
    let comm = draft.comm.clone();
    let mut begin = 0;
    for b in 0..draft.soup.blocks.len() {
        let block = &mut draft.soup.blocks[b];
        let to = &owners[begin..begin + block.ids.len()];
        begin += block.ids.len();
        let n = block.geometry.n_nodes(block.shape);
        owned.nodes.push(send_rows(&comm, to, &std::mem::take(&mut block.nodes), n));
        owned.ids.push(send_rows(&comm, to, &std::mem::take(&mut block.ids), 1));
        owned.sets.push(send_rows(&comm, to, &std::mem::take(&mut block.sets), 1));
        let corners = block.shape.n_vertices();
        owned.vertices.push(match &mut draft.merged {
            Some(merged) => send_rows(&comm, to, &std::mem::take(&mut merged[b]), corners),
            None if n == corners => Vec::new(), // the nodes themselves
            None => owned.nodes[b].chunks_exact(n).flat_map(|x| x[..corners].iter().copied()).collect(),
        });
    }
    owned
}

pub(super) fn distribute(mut draft: Draft, owners: &[u32]) -> Result<Mesh, MeshError> {
    let comm = draft.comm.clone();
    let owned = migrate(&mut draft, owners);
    let soup = &draft.soup;
    let n_blocks = soup.blocks.len();
    let vertices_of =
        |b: usize| if owned.vertices[b].is_empty() { &owned.nodes[b] } else { &owned.vertices[b] };

    let node_set = IdSet::new(owned.nodes.iter().flatten());
    let owned_x =
        draft.coordinates.get(&comm, node_set.ids()).map_err(|node| MeshError::MissingNode { node });
    let owned_x = comm.agree(owned_x)?;
    let vertex_set = IdSet::new((0..n_blocks).flat_map(|b| vertices_of(b).iter()));
    let sharers = Sharers::new(&comm, draft.ranges, vertex_set.ids());

    // Boundary entities are matched by nodes, not by merged vertices: a facet on one side of a periodic
    // domain is not the facet on the other.
    let node_sharers = draft.merged.is_some().then(|| {
        let corners = IdSet::new((0..n_blocks).flat_map(|b| corner_nodes(&soup.blocks[b], &owned.nodes[b])));
        Sharers::new(&comm, draft.ranges, corners.ids())
    });
    let tags = tags::attach(&comm, soup, node_sharers.as_ref().unwrap_or(&sharers), &owned.nodes);

    // Cells at shared vertices, to everyone who shares one.
    let shared = sharers.shared();
    let mut first_share = vec![u32::MAX; vertex_set.len()];
    for (k, &(position, _)) in shared.iter().enumerate().rev() {
        first_share[position as usize] = k as u32;
    }
    let mut ghosts: Vec<Ghosts> = Vec::new();
    let mut ghost_x: Vec<(u64, [f64; 3])> = Vec::new();
    let mut ghost_tags: Vec<CellTag> = Vec::new();
    let n_owned: Vec<usize> = owned.ids.iter().map(Vec::len).collect();
    for b in 0..n_blocks {
        let (shape, n) = (soup.blocks[b].shape, soup.blocks[b].geometry.n_nodes(soup.blocks[b].shape));
        let corners = shape.n_vertices();
        let mut to: Vec<u32> = Vec::new();
        let mut sends: Vec<(u32, Vec<u64>)> = Vec::new();
        for (cell, vertices) in vertices_of(b).chunks_exact(corners).enumerate() {
            to.clear();
            for &v in vertices {
                let position = vertex_set.local(v);
                let k = first_share[position as usize];
                if k != u32::MAX {
                    to.extend(shared[k as usize..].iter().take_while(|s| s.0 == position).map(|s| s.1));
                }
            }
            if to.is_empty() {
                continue;
            }
            to.sort_unstable();
            to.dedup();
            let mine = tags::of_cell(&tags, b as u16, cell as u32);
            let nodes = &owned.nodes[b][cell * n..][..n];
            let mut words =
                vec![cell as u64, owned.ids[b][cell], u64::from(owned.sets[b][cell]), mine.len() as u64];
            words.extend(mine.iter().map(|t| t.pack()));
            words.extend_from_slice(nodes);
            words.extend_from_slice(vertices);
            for &node in nodes {
                words.extend(owned_x[node_set.local(node) as usize].map(f64::to_bits));
            }
            sends.extend(to.iter().map(|&rank| (rank, words.clone())));
        }
        sends.sort_by_key(|s| s.0);
        let mut buckets = Buckets::<u64>::empty();
        for (rank, words) in sends {
            if buckets.ranks.last() != Some(&rank) {
                buckets.ranks.push(rank);
                buckets.offsets.push(0);
            }
            buckets.data.extend(words);
            *buckets.offsets.last_mut().expect("one more than ranks") = buckets.data.len();
        }
        let received = comm.exchange(&buckets);
        let mut block = Ghosts::default();
        for (rank, words) in received.iter() {
            let mut reader = GhostReader { words };
            while !reader.words.is_empty() {
                let cell = (n_owned[b] + block.from.len()) as u32;
                block.from.push((rank, reader.next() as u32));
                block.ids.push(reader.next());
                block.sets.push(reader.next() as u16);
                for _ in 0..reader.next() {
                    ghost_tags.push(CellTag::unpack(reader.next(), b as u16, cell));
                }
                let begin = block.nodes.len();
                block.nodes.extend((0..n).map(|_| reader.next()));
                block.vertices.extend((0..corners).map(|_| reader.next()));
                for k in 0..n {
                    let x = [0; 3].map(|_: i32| f64::from_bits(reader.next()));
                    ghost_x.push((block.nodes[begin + k], x));
                }
            }
        }
        ghosts.push(block);
    }
    drop(sharers);

    // Vertices: numbers in the order in which cells meet them.
    let all_vertices =
        IdSet::new((0..n_blocks).flat_map(|b| vertices_of(b).iter().chain(&ghosts[b].vertices)));
    let mut number = vec![u32::MAX; all_vertices.len()];
    let mut keys = Vec::with_capacity(all_vertices.len());
    let mut cell_to_vertex = Vec::new();
    for b in 0..n_blocks {
        let meet = |&id: &u64| {
            let slot = &mut number[all_vertices.local(id) as usize];
            if *slot == u32::MAX {
                *slot = keys.len() as u32;
                keys.push(mix(id));
            }
            *slot
        };
        cell_to_vertex.push(vertices_of(b).iter().chain(&ghosts[b].vertices).map(meet).collect::<Vec<u32>>());
    }
    let plain = draft.merged.is_none()
        && soup.blocks.iter().all(|b| b.shape.n_vertices() == b.geometry.n_nodes(b.shape));
    let mut blocks = Vec::with_capacity(n_blocks);
    let mut cell_to_node = Vec::new();
    for (b, Ghosts { from, ids, sets, .. }) in ghosts.iter().enumerate() {
        let CellBlock { shape, geometry, .. } = soup.blocks[b];
        blocks.push(Block {
            shape,
            geometry,
            n_owned: n_owned[b],
            n_cells: n_owned[b] + from.len(),
            cell_to_vertex: Vec::new(),
            cell_to_node: None,
            n_nodes: geometry.n_nodes(shape),
            sets: owned.sets[b].iter().chain(sets).copied().collect(),
            ids: owned.ids[b].iter().chain(ids).copied().collect(),
            ghosts: from.clone(),
        });
    }
    let mut vertices = entities::number(&comm, &blocks, Found { cell_to_entity: cell_to_vertex, keys });
    for (block, table) in blocks.iter_mut().zip(std::mem::take(&mut vertices.cell_to_entity)) {
        block.cell_to_vertex = table;
    }

    // Nodes: those of vertices where they are the same, otherwise numbered as cells meet them.
    let all_nodes = IdSet::new((0..n_blocks).flat_map(|b| owned.nodes[b].iter().chain(&ghosts[b].nodes)));
    let mut node_number = vec![u32::MAX; all_nodes.len()];
    let mut n_nodes = 0u32;
    for b in 0..n_blocks {
        let nodes = owned.nodes[b].iter().chain(&ghosts[b].nodes);
        if plain {
            for (&id, &v) in nodes.zip(&blocks[b].cell_to_vertex) {
                node_number[all_nodes.local(id) as usize] = v;
            }
            continue;
        }
        let mut table = Vec::with_capacity(blocks[b].n_cells * blocks[b].n_nodes);
        for &id in nodes {
            let slot = &mut node_number[all_nodes.local(id) as usize];
            if *slot == u32::MAX {
                *slot = n_nodes;
                n_nodes += 1;
            }
            table.push(*slot);
        }
        cell_to_node.push(table);
    }
    for (block, table) in blocks.iter_mut().zip(cell_to_node) {
        block.cell_to_node = Some(table);
    }
    let mut nodes = vec![[0.0; 3]; all_nodes.len()];
    let mut node_ids = vec![0u64; all_nodes.len()];
    for (k, &id) in all_nodes.ids().iter().enumerate() {
        node_ids[node_number[k] as usize] = id;
    }
    for (id, x) in ghost_x {
        nodes[node_number[all_nodes.local(id) as usize] as usize] = x;
    }
    for (&id, x) in node_set.ids().iter().zip(&owned_x) {
        nodes[node_number[all_nodes.local(id) as usize] as usize] = *x;
    }
    let mut entity_tags: Vec<EntityTag> = tags.iter().chain(&ghost_tags).map(|t| t.tag).collect();
    entity_tags.sort_unstable();
    entity_tags.dedup();
    let n_cells_global = comm.sum(n_owned.iter().map(|&n| n as u64).sum());
    let mut soup = draft.soup;
    Ok(Mesh {
        comm,
        dim: soup.dim,
        blocks,
        groups: std::mem::take(&mut soup.groups),
        sets: std::mem::take(&mut soup.sets),
        vertices,
        nodes,
        node_ids,
        nodes_are_vertices: plain,
        tags: entity_tags,
        periodic: draft.periodic,
        n_cells_global,
    })
}

/// The corner nodes of a block's cells.
fn corner_nodes<'a>(block: &CellBlock, nodes: &'a [u64]) -> impl Iterator<Item = &'a u64> + Clone {
    let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
    nodes.chunks_exact(n).flat_map(move |x| &x[..corners])
}
