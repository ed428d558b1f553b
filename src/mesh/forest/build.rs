//! From leaves to a mesh with its ghost cells.
//!
//! Imports `mesh`. Start at [`build`]. Vertices are kept in the order in which cells meet them, and with the
//! ranks that share them, so nothing is searched for: cells at shared vertices go to the sharers, what comes
//! back finds its vertices by name in a table as small as the interfaces, and the numbering that all meshes
//! share does the rest. What bounds this is the memory that the mesh fills.
//!
//! A cut rule with hanging nodes adds to what a cell brings to a sharer: the vertices that close it. They
//! travel as further points of the message, which [`Outgoing`] collects.

use cluster::Buckets;

use super::names::{self, ByName, Name};
use super::store::NONE;
use super::{Forest, simplex};
use crate::element::Shape;
use crate::mesh::entities::{self, Found};
use crate::mesh::{Block, EntityTag, Mesh, MeshError};

/// Cells of one block as the mesh has them.
struct Cells {
    corners: Vec<u32>,
    nodes: Vec<u32>,
    sets: Vec<u16>,
    ids: Vec<u64>,
    n_owned: usize,
    ghosts: Vec<(u32, u32)>,
    n_nodes: usize,
}

/// Points that a message brings along: those of its cells, each once.
struct Outgoing {
    /// The place of a point in the message under way.
    place: Vec<u32>,
    met: Vec<u32>,
}

impl Outgoing {
    fn new(n: usize) -> Outgoing {
        Outgoing { place: vec![NONE; n], met: Vec::new() }
    }

    fn place(&mut self, point: u32) -> u64 {
        let slot = &mut self.place[point as usize];
        if *slot == NONE {
            *slot = self.met.len() as u32;
            self.met.push(point);
        }
        u64::from(*slot)
    }

    /// Ends a message: its points, in the order of their places.
    fn finish(&mut self) -> Vec<u32> {
        self.met.iter().for_each(|&p| self.place[p as usize] = NONE);
        std::mem::take(&mut self.met)
    }
}

/// The permutation of a curved cell's nodes: node i of the mesh's cell is node `[i]` of the leaf.
fn node_order(shape: Shape, order: u8, n_nodes: usize) -> [u8; 10] {
    let n = shape.n_vertices();
    let mut nodes = [0; 10];
    for (i, node) in nodes[..n_nodes].iter_mut().enumerate() {
        *node = match i.checked_sub(n) {
            None => simplex::corner_of(order, i) as u8,
            Some(e) => {
                let [a, b] =
                    [0, 1].map(|k| simplex::corner_of(order, shape.entity_vertices(1, e)[k] as usize));
                n as u8 + simplex::EDGE[a][b]
            }
        };
    }
    nodes
}

/// Words before the corners in a ghost cell's record.
const HEAD_WORDS: usize = 4;

/// What ghosts add to the points here.
struct Arrived {
    names: Vec<Name>,
    node_names: Vec<Name>,
    coordinates: Vec<[f64; 3]>,
}

impl Forest {
    /// The leaves as a mesh, with one layer of ghost cells. Collective.
    ///
    /// # Errors
    /// More cells on a rank than 32-bit numbers hold.
    pub fn mesh(&self) -> Result<Mesh, MeshError> {
        let _span = tracing::debug_span!("forest mesh").entered();
        if let Some(tensor) = &self.tensor {
            return tensor.mesh();
        }
        let mut tags = Vec::new();
        let mut cells = self.owned_cells(&mut tags);
        let arrived = self.add_ghosts(&mut cells, &mut tags);
        let n_cells = cells.iter().map(|c| c.ids.len() as u64).sum::<u64>();
        let fits = if n_cells < u64::from(NONE) {
            Ok(())
        } else {
            Err(MeshError::TooLarge { rank: self.comm.rank(), n: n_cells, what: "cells".into() })
        };
        self.comm.agree(fits)?;
        self.number(cells, arrived, tags)
    }

    fn owned_cells(&self, tags: &mut Vec<EntityTag>) -> Vec<Cells> {
        let leaves = &self.leaves;
        let n = leaves.n_corners;
        let mut orders: Vec<Option<[u8; 10]>> = vec![None; 256];
        let mut all = Vec::with_capacity(self.geometries.len());
        let mut next_tag = 0;
        for (b, geometry) in self.geometries.iter().enumerate() {
            let range = self.block_range(b);
            let n_nodes = if leaves.n_nodes == 0 { 0 } else { geometry.n_nodes(self.shape) };
            let mut corners = vec![0u32; range.len() * n];
            let mut nodes = Vec::with_capacity(range.len() * n_nodes);
            let heads = &leaves.heads[range.clone()];
            let of = leaves.corners[range.start * n..range.end * n].chunks_exact(n);
            for ((head, of), to) in heads.iter().zip(of).zip(corners.chunks_exact_mut(n)) {
                for (i, v) in to.iter_mut().enumerate() {
                    *v = of[simplex::corner_of(head.order, i)];
                }
            }
            if n_nodes > 0 {
                for leaf in range.clone() {
                    let order = leaves.heads[leaf].order;
                    let order = orders[order as usize]
                        .get_or_insert_with(|| node_order(self.shape, order, leaves.n_nodes));
                    let of = leaves.nodes(leaf);
                    nodes.extend(order[..n_nodes].iter().map(|&k| of[k as usize]));
                }
            }
            for t in &leaves.tags[next_tag..] {
                if t.leaf as usize >= range.end {
                    break;
                }
                next_tag += 1;
                let order = leaves.heads[t.leaf as usize].order;
                let vertices =
                    (0..n).fold(0u8, |bits, i| bits | (t.corners >> simplex::corner_of(order, i) & 1) << i);
                let dim = t.dim as usize;
                let mask =
                    |i: usize| self.shape.entity_vertices(dim, i).iter().fold(0u8, |bits, &v| bits | 1 << v);
                let local = (0..self.shape.n_entities(dim)).find(|&i| mask(i) == vertices);
                let local = local.expect("a tag is on an entity of its cell") as u8;
                let cell = t.leaf - range.start as u32;
                tags.push(EntityTag { group: t.group, block: b as u16, cell, dim: t.dim, local });
            }
            all.push(Cells {
                corners,
                nodes,
                sets: heads.iter().map(|h| h.set).collect(),
                ids: heads.iter().map(|h| self.id(h)).collect(),
                n_owned: range.len(),
                ghosts: Vec::new(),
                n_nodes,
            });
        }
        tags.sort_unstable_by_key(|t| (t.block, t.cell, t.group, t.dim, t.local));
        all
    }

    /// Pairs of a rank and an owned cell (counted over all blocks) that has a vertex of that rank.
    fn shared_cells(&self) -> Vec<(u32, u32)> {
        let mut sends = Vec::new();
        let mut ranks: Vec<u32> = Vec::new();
        for (leaf, corners) in self.leaves.corners.chunks_exact(self.leaves.n_corners).enumerate() {
            let (mut set, mut mixed) = (0, false);
            for &v in corners {
                let of_vertex = self.points.sharers[v as usize];
                if of_vertex != 0 && of_vertex != set {
                    mixed |= set != 0;
                    set = of_vertex;
                }
            }
            if set == 0 {
                continue;
            }
            if !mixed {
                sends.extend(self.rank_sets.get(set).iter().map(|&rank| (rank, leaf as u32)));
                continue;
            }
            ranks.clear();
            corners.iter().for_each(|&v| ranks.extend(self.rank_sets.get(self.points.sharers[v as usize])));
            ranks.sort_unstable();
            ranks.dedup();
            sends.extend(ranks.iter().map(|&rank| (rank, leaf as u32)));
        }
        sends
    }

    /// Sends cells at shared vertices to the sharers, and takes in what comes. Collective.
    fn add_ghosts(&self, cells: &mut [Cells], tags: &mut Vec<EntityTag>) -> Arrived {
        let mut arrived = Arrived { names: Vec::new(), node_names: Vec::new(), coordinates: Vec::new() };
        if self.comm.size() == 1 {
            return arrived;
        }
        let plain = self.leaves.n_nodes == 0;
        let n = self.leaves.n_corners;
        let sends = Buckets::from_pairs(self.shared_cells());
        let ranges: Vec<_> = (0..cells.len()).map(|b| self.block_range(b)).collect();
        let mut message = Buckets::<u64>::empty();
        let mut vertices = Outgoing::new(self.points.names.len());
        let mut nodes = Outgoing::new(self.points.node_names.len());
        let mut records: Vec<u64> = Vec::new();
        // Nodes of cells at shared vertices: those that others may have too.
        let mut node_by_name = ByName::default();
        for (rank, sent) in sends.iter() {
            records.clear();
            let mut b = 0;
            for &leaf in sent {
                while leaf as usize >= ranges[b].end {
                    b += 1;
                }
                let (cell, of) = (leaf as usize - ranges[b].start, &cells[b]);
                let begin = tags.partition_point(|t| (t.block as usize, t.cell as usize) < (b, cell));
                let mine = tags[begin..].iter();
                let mine = mine.take_while(|t| (t.block as usize, t.cell as usize) == (b, cell));
                let n_tags = mine.clone().count() as u64;
                records.extend([
                    b as u64,
                    cell as u64,
                    of.ids[cell],
                    u64::from(of.sets[cell]) | n_tags << 32,
                ]);
                records.extend(of.corners[cell * n..][..n].iter().map(|&v| vertices.place(v)));
                for &node in &of.nodes[cell * of.n_nodes..][..of.n_nodes] {
                    records.push(nodes.place(node));
                    node_by_name.insert(self.points.node_names[node as usize], node);
                }
                records.extend(
                    mine.map(|t| u64::from(t.group) << 16 | u64::from(t.dim) << 8 | u64::from(t.local)),
                );
            }
            let (vertices, nodes) = (vertices.finish(), nodes.finish());
            message.data.extend([vertices.len() as u64, nodes.len() as u64]);
            for &v in &vertices {
                message.data.extend(names::words(self.points.names[v as usize]));
                if plain {
                    message.data.extend(self.points.coordinates[v as usize].map(f64::to_bits));
                }
            }
            for &k in &nodes {
                message.data.extend(names::words(self.points.node_names[k as usize]));
                message.data.extend(self.points.coordinates[k as usize].map(f64::to_bits));
            }
            message.data.append(&mut records);
            message.ranks.push(rank);
            message.offsets.push(message.data.len());
        }
        let received = self.comm.exchange(&message);
        drop(message);
        let mut by_name = self.shared_by_name();
        let n_vertices = self.points.names.len() as u32;
        let n_nodes = self.points.coordinates.len() as u32;
        let (mut vertices, mut nodes): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for (rank, words) in received.iter() {
            let mut at = 2;
            vertices.clear();
            for _ in 0..words[0] {
                let name = names::from_words([words[at], words[at + 1]]);
                at += 2;
                let new = n_vertices + arrived.names.len() as u32;
                let v = *by_name.entry(name).or_insert(new);
                if v == new {
                    arrived.names.push(name);
                    if plain {
                        arrived.coordinates.push([0, 1, 2].map(|d| f64::from_bits(words[at + d])));
                    }
                }
                at += if plain { 3 } else { 0 };
                vertices.push(v);
            }
            nodes.clear();
            for _ in 0..words[1] {
                let name = names::from_words([words[at], words[at + 1]]);
                let new = n_nodes + arrived.node_names.len() as u32;
                let k = *node_by_name.entry(name).or_insert(new);
                if k == new {
                    arrived.node_names.push(name);
                    arrived.coordinates.push([2, 3, 4].map(|d| f64::from_bits(words[at + d])));
                }
                at += 5;
                nodes.push(k);
            }
            while at < words.len() {
                let b = words[at] as usize;
                let of = &mut cells[b];
                let number = of.ids.len() as u32;
                of.ghosts.push((rank, words[at + 1] as u32));
                of.ids.push(words[at + 2]);
                of.sets.push(words[at + 3] as u16);
                let n_tags = (words[at + 3] >> 32) as usize;
                at += HEAD_WORDS;
                of.corners.extend(words[at..at + n].iter().map(|&v| vertices[v as usize]));
                at += n;
                of.nodes.extend(words[at..at + of.n_nodes].iter().map(|&k| nodes[k as usize]));
                at += of.n_nodes;
                tags.extend(words[at..at + n_tags].iter().map(|&w| EntityTag {
                    group: (w >> 16) as u16,
                    block: b as u16,
                    cell: number,
                    dim: (w >> 8) as u8,
                    local: w as u8,
                }));
                at += n_tags;
            }
        }
        arrived
    }

    /// Owners and global numbers of vertices, and of nodes where these are others. Collective.
    fn number(
        &self,
        cells: Vec<Cells>,
        arrived: Arrived,
        mut tags: Vec<EntityTag>,
    ) -> Result<Mesh, MeshError> {
        let comm = &self.comm;
        let plain = self.leaves.n_nodes == 0;
        let points = &self.points;
        let mut blocks = Vec::with_capacity(cells.len());
        let (mut corners, mut nodes) = (Vec::new(), Vec::new());
        for (of, &geometry) in cells.into_iter().zip(&self.geometries) {
            blocks.push(Block {
                shape: self.shape,
                geometry,
                n_owned: of.n_owned,
                n_cells: of.ids.len(),
                cell_to_vertex: Vec::new().into(),
                cell_to_node: None,
                n_nodes: if plain { self.leaves.n_corners } else { of.n_nodes },
                sets: of.sets,
                ids: of.ids,
                ghosts: of.ghosts,
                hanging: None,
            });
            corners.push(of.corners);
            nodes.push(of.nodes);
        }
        let key = |names: &[Name], more: &[Name], k: u32| {
            let k = k as usize;
            names.get(k).unwrap_or_else(|| &more[k - names.len()]).to_owned() as u64
        };
        let n_touched = points.names.len();
        let found = Found { cell_to_entity: corners, n: n_touched + arrived.names.len(), n_touched };
        let (mut vertices, renumber) =
            entities::number(comm, &blocks, found, |v, _, _, _| key(&points.names, &arrived.names, v));
        for (block, table) in blocks.iter_mut().zip(std::mem::take(&mut vertices.cell_to_entity)) {
            block.cell_to_vertex = table;
        }
        let (map, renumber) = if plain {
            (None, renumber)
        } else {
            let n_touched = points.node_names.len();
            let found = Found { cell_to_entity: nodes, n: n_touched + arrived.node_names.len(), n_touched };
            let (numbered, renumber) = entities::number(comm, &blocks, found, |k, _, _, _| {
                key(&points.node_names, &arrived.node_names, k)
            });
            for (block, table) in blocks.iter_mut().zip(numbered.cell_to_entity) {
                block.cell_to_node = Some(table.to_vec());
            }
            (Some(numbered.map), renumber)
        };
        let map = map.as_ref().unwrap_or(&vertices.map);
        let node_ids = (0..map.n_local() as u32).map(|k| map.local_to_global(k) + 1).collect();
        let mut coordinates = Vec::with_capacity(map.n_local());
        coordinates.extend_from_slice(&points.coordinates);
        coordinates.extend(arrived.coordinates);
        if !renumber.is_empty() {
            let mut placed = vec![[0.0; 3]; coordinates.len()];
            for (x, &k) in coordinates.iter().zip(&renumber) {
                placed[k as usize] = *x;
            }
            coordinates = placed;
        }
        tags.sort_unstable();
        let n_cells_global = comm.sum(self.leaves.len() as u64);
        Ok(Mesh {
            comm: comm.clone(),
            dim: self.dim,
            blocks,
            groups: self.groups.clone(),
            sets: self.sets.clone(),
            vertices,
            nodes: coordinates,
            node_ids,
            nodes_are_vertices: plain,
            tags,
            periodic: self.periodic.clone(),
            n_cells_global,
        })
    }
}
