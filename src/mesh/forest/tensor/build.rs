//! The mesh of the leaves, with what hangs and the ghosts that it needs.
//!
//! Start at [`Tensor::mesh`]. Ranks that share a vertex of a leaf or of its parent send each other these leaves. Then
//! each rank has all that can be coarser than a leaf of its own beside it, and knows what hangs on its own leaves;
//! it tells those it sent them to. What touches nothing owned after all is dropped.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cluster::Buckets;

use super::super::names::{self, ByName, LowBits, Name};
use super::points::{Cut, NONE, Points, add_facets};
use super::walk::{CORNERS, Corners, Map, Path, Walker};
use super::{Leaf, MeshError, Shared, Tensor};
use crate::element::{GeometryKind, Hang, Shape};
use crate::mesh::entities::{self, Found, Has};
use crate::mesh::{Block, EntityTag, Hanging, Mesh};

/// A leaf of another rank.
struct Ghost {
    vertices: Corners,
    parent: Corners,
    block: u16,
    set: u16,
    id: u64,
    hang: Hang,
    /// The owner, and the number in its block there.
    place: (u32, u32),
    /// Words of its nodes (name, place) and tags.
    rest: Vec<u64>,
    n_tags: usize,
}

/// What it takes to describe a leaf's nodes and tags.
struct Describer<'a> {
    tensor: &'a Tensor,
    walker: Walker,
    path: Path,
    maps: Vec<Map>,
    names: Vec<Name>,
}

impl<'a> Describer<'a> {
    fn new(tensor: &'a Tensor) -> Describer<'a> {
        let maps = tensor.geometries.iter().map(|&g| Map::new(tensor.shape, g)).collect();
        let path = Path::new(tensor.shape);
        Describer { tensor, walker: tensor.walker(), path, maps, names: Vec::new() }
    }

    /// Goes to a leaf, for its places and tags.
    fn descend(&mut self, leaf: &Leaf) {
        self.path.go(leaf);
    }

    /// Finds the names of its nodes too.
    fn go(&mut self, leaf: &Leaf) {
        let root = &self.tensor.roots[leaf.root as usize];
        self.walker.go(&self.tensor.roots, leaf);
        self.walker.node_names(self.tensor.geometries[root.block()], &mut self.names);
    }

    /// Where node `k` of the leaf lies.
    fn place(&self, leaf: &Leaf, k: usize) -> [f64; 3] {
        let root = &self.tensor.roots[leaf.root as usize];
        let map = &self.maps[root.block()];
        map.image(&root.nodes, &self.path.in_root(&map.basis().nodes()[k]))
    }

    /// The leaf's tags, as words.
    fn tags(&self, leaf: &Leaf) -> impl Iterator<Item = u64> + '_ {
        let root = &self.tensor.roots[leaf.root as usize];
        let tags = root.tags.iter().filter(|t| self.path.reaches(t.0 as usize, t.1 as usize));
        tags.map(|&(d, i, g)| u64::from(d) | u64::from(i) << 8 | u64::from(g) << 16)
    }

    /// Appends the words of nodes and tags; how many are those of tags.
    fn write(&mut self, leaf: &Leaf, out: &mut Vec<u64>) -> usize {
        self.descend(leaf);
        self.go(leaf);
        for (k, &name) in self.names.iter().enumerate() {
            out.extend(names::words(name));
            out.extend(self.place(leaf, k).map(f64::to_bits));
        }
        let before = out.len();
        out.extend(self.tags(leaf));
        out.len() - before
    }
}

impl Ghost {
    /// Its own vertices, then those that name what hangs and are others.
    fn all(&self, n: usize, shape: Shape) -> impl Iterator<Item = Name> + '_ {
        let on = self.hang.entities(shape, 0);
        self.vertices[..n]
            .iter()
            .copied()
            .chain((0..n).filter(move |v| on >> v & 1 != 0).map(|v| self.parent[v]))
    }
}

/// Numbers in the order in which cells meet points: those of this rank by their number, others by name.
struct Met {
    number: Vec<u32>,
    by_name: ByName,
    n: usize,
}

impl Met {
    fn new(n_points: usize) -> Met {
        Met { number: vec![NONE; n_points], by_name: ByName::default(), n: 0 }
    }

    /// The number of a point of this rank, and whether it is new.
    #[inline]
    fn point(&mut self, point: u32) -> (u32, bool) {
        let slot = &mut self.number[point as usize];
        let is_new = *slot == NONE;
        if is_new {
            *slot = self.n as u32;
            self.n += 1;
        }
        (*slot, is_new)
    }

    /// The number of a point that another rank named.
    fn name(&mut self, shared: &Shared, name: Name) -> (u32, bool) {
        if let Some(&point) = shared.number.get(&name) {
            return self.point(point);
        }
        let new = self.n as u32;
        let number = *self.by_name.entry(name).or_insert(new);
        self.n += usize::from(number == new);
        (number, number == new)
    }
}

impl Tensor {
    /// The leaves as a mesh. Collective.
    ///
    /// # Errors
    /// More cells on a rank than 32-bit numbers hold.
    pub fn mesh(&self) -> Result<Mesh, MeshError> {
        let (comm, shape) = (&self.comm, self.shape);
        let n = shape.n_vertices();
        let points = self.points();
        let mut open = points.open(shape);
        let shared = self.shared(&open);
        let (mut ghosts, sent) = self.exchange_cells(points, &shared);
        let n_cells = self.leaves.len() + ghosts.len();
        let fits = if ((n_cells * 2 * n) as u64) < u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(MeshError::TooLarge { rank: comm.rank(), n: n_cells as u64, what: "cells".into() })
        };
        comm.agree(fits)?;
        let hangs = self.find_hanging(points, &shared, &ghosts, &mut open);
        drop(open);
        if comm.size() > 1 {
            let bits: Vec<u16> = sent.data.iter().map(|&k| hangs[k as usize].bits()).collect();
            let bits = Buckets { ranks: sent.ranks.clone(), offsets: sent.offsets.clone(), data: bits };
            let arrived = comm.exchange(&bits).data;
            for (ghost, &bits) in ghosts.iter_mut().zip(&arrived) {
                ghost.hang = Hang::from_bits(bits, shape).unwrap_or(Hang::NONE);
            }
        }
        Ok(self.number(points, &shared, hangs, ghosts))
    }

    /// Sends own leaves to the ranks that share a vertex of theirs or of their parents'. Returns what comes, and which
    /// were sent to whom. Collective.
    fn exchange_cells(&self, points: &Points, shared: &Shared) -> (Vec<Ghost>, Buckets<u32>) {
        let n = self.shape.n_vertices();
        let mut ghosts = Vec::new();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut ranks: Vec<u32> = Vec::new();
        if !shared.number.is_empty() {
            for k in 0..self.leaves.len() {
                ranks.clear();
                for &v in points.corners(k).iter().chain(points.parents(k)) {
                    ranks.extend_from_slice(shared.of(v));
                }
                ranks.sort_unstable();
                ranks.dedup();
                pairs.extend(ranks.iter().map(|&rank| (rank, k as u32)));
            }
        }
        let sent = Buckets::from_pairs(pairs);
        if self.comm.size() == 1 {
            return (ghosts, sent);
        }
        let mut first = vec![0u32; self.geometries.len() + 1];
        for leaf in &self.leaves {
            first[self.roots[leaf.root as usize].block() + 1] += 1;
        }
        (0..self.geometries.len()).for_each(|b| first[b + 1] += first[b]);
        let mut message = Buckets::<u64>::empty();
        let mut describer = Describer::new(self);
        let mut rest = Vec::new();
        for (rank, of_rank) in sent.iter() {
            for &k in of_rank {
                let leaf = &self.leaves[k as usize];
                let root = &self.roots[leaf.root as usize];
                rest.clear();
                let n_tags = describer.write(leaf, &mut rest) as u64;
                let place = k - first[root.block()];
                message.data.extend([
                    self.id(leaf),
                    root.block() as u64 | u64::from(root.set) << 16 | u64::from(place) << 32,
                    rest.len() as u64 | n_tags << 32,
                ]);
                let all = points.corners(k as usize).iter().chain(points.parents(k as usize));
                message.data.extend(all.flat_map(|&v| names::words(points.names[v as usize])));
                message.data.extend(&rest);
            }
            message.ranks.push(rank);
            message.offsets.push(message.data.len());
        }
        let received = self.comm.exchange(&message);
        for (rank, words) in received.iter() {
            let mut at = 0;
            while at < words.len() {
                let [id, b, counts] = [0, 1, 2].map(|k| words[at + k]);
                at += 3;
                let (mut vertices, mut parent): (Corners, Corners) = ([0; CORNERS], [0; CORNERS]);
                for name in vertices[..n].iter_mut().chain(&mut parent[..n]) {
                    *name = names::from_words([words[at], words[at + 1]]);
                    at += 2;
                }
                let n_rest = counts as u32 as usize;
                ghosts.push(Ghost {
                    vertices,
                    parent,
                    block: b as u16,
                    set: (b >> 16) as u16,
                    id,
                    hang: Hang::NONE,
                    place: (rank, (b >> 32) as u32),
                    rest: words[at..at + n_rest].to_vec(),
                    n_tags: (counts >> 32) as usize,
                });
                at += n_rest;
            }
        }
        (ghosts, sent)
    }

    /// What hangs on own leaves: a face or edge of the parent that some cell has whole. Round a point in the middle of
    /// what is whole somewhere and its ends, facets are met once only: all others need not be looked at. `open` is
    /// that of [`Points::open`], and counts ghosts afterwards.
    fn find_hanging(
        &self,
        points: &Points,
        shared: &Shared,
        ghosts: &[Ghost],
        open: &mut [u64],
    ) -> Vec<Hang> {
        let (shape, dim) = (self.shape, self.shape.dim());
        let cut = Cut::new(shape);
        for ghost in ghosts {
            add_facets(shape, &ghost.vertices.map(|name| name as u64), |v, word| {
                if let Some(&point) = shared.number.get(&ghost.vertices[v]) {
                    open[point as usize] ^= word;
                }
            });
        }
        // An entity by the sum of the names of its corners.
        let of_parent = |k: usize, listed: &[u8]| {
            let parents = points.parents(k);
            listed
                .iter()
                .fold(0, |sum: Name, &v| sum.wrapping_add(points.names[parents[v as usize] as usize]))
        };
        let tables = [&cut.facets, &cut.edges];
        let each = |visit: &mut dyn FnMut(usize, usize, usize, Name)| {
            for (k, leaf) in self.leaves.iter().enumerate().filter(|(_, leaf)| leaf.level > 0) {
                let (child, corners) = (leaf.child(shape), points.corners(k));
                for (kind, table) in tables.iter().enumerate().take(dim - 1) {
                    for (a, &(listed, middle)) in table[child].iter().enumerate().take(dim) {
                        if open[corners[middle as usize] as usize] != 0 {
                            visit(k, kind, a, of_parent(k, listed));
                        }
                    }
                }
            }
        };
        // Entities of parents, and whether some cell has them.
        let mut whole: HashMap<Name, bool, BuildHasherDefault<LowBits>> = HashMap::default();
        each(&mut |_, _, _, name| {
            whole.insert(name, false);
        });
        let mut has = |corners: &[Name], is_open: u32| {
            for d in 1..dim {
                for i in 0..shape.n_entities(d) {
                    let listed = shape.entity_vertices(d, i);
                    if listed.iter().all(|&v| is_open >> v & 1 != 0) {
                        let sum = |sum: Name, &v: &u8| sum.wrapping_add(corners[v as usize]);
                        if let Some(found) = whole.get_mut(&listed.iter().fold(0, sum)) {
                            *found = true;
                        }
                    }
                }
            }
        };
        let n = shape.n_vertices();
        let mut of_leaf: Corners = [0; CORNERS];
        for k in 0..self.leaves.len() {
            let corners = points.corners(k);
            let bit = |(v, &point): (usize, &u32)| u32::from(open[point as usize] != 0) << v;
            let is_open = corners.iter().enumerate().map(bit).sum::<u32>();
            // An edge has two ends.
            if is_open & is_open.wrapping_sub(1) != 0 {
                of_leaf.iter_mut().zip(corners).for_each(|(name, &v)| *name = points.names[v as usize]);
                has(&of_leaf[..n], is_open);
            }
        }
        ghosts.iter().for_each(|ghost| has(&ghost.vertices[..n], u32::MAX));
        let mut found = vec![[0u8; 2]; self.leaves.len()];
        each(&mut |k, kind, a, name| found[k][kind] |= u8::from(whole[&name]) << a);
        let hang = |(leaf, of): (&Leaf, &[u8; 2])| Hang::new(leaf.child(shape), of[0], of[1]);
        self.leaves.iter().zip(&found).map(hang).collect()
    }

    /// Numbers vertices and nodes. Collective.
    fn number(&self, points: &Points, shared: &Shared, hangs: Vec<Hang>, mut ghosts: Vec<Ghost>) -> Mesh {
        let (comm, shape) = (&self.comm, self.shape);
        let (n, n_blocks, n_own) = (shape.n_vertices(), self.geometries.len(), self.leaves.len());
        let mut blocks: Vec<Block> = Vec::new();
        let (mut tables, mut node_tables) = (vec![Vec::new(); n_blocks], vec![Vec::new(); n_blocks]);
        let mut configurations: Vec<Vec<Hang>> = vec![Vec::new(); n_blocks];
        for &geometry in &self.geometries {
            blocks.push(Block {
                shape,
                geometry,
                n_owned: 0,
                n_cells: 0,
                cell_to_vertex: Vec::new().into(),
                cell_to_node: None,
                n_nodes: geometry.n_nodes(shape),
                sets: Vec::new(),
                ids: Vec::new(),
                ghosts: Vec::new(),
                hanging: None,
            });
        }
        let block_of = |leaf: &Leaf| self.roots[leaf.root as usize].block();
        self.leaves.iter().for_each(|leaf| blocks[block_of(leaf)].n_owned += 1);
        for (b, block) in blocks.iter_mut().enumerate() {
            tables[b].reserve(2 * n * block.n_owned);
            node_tables[b].reserve(block.n_nodes * block.n_owned);
            configurations[b].reserve(block.n_owned);
            block.sets.reserve(block.n_owned);
            block.ids.reserve(block.n_owned);
        }
        // Nodes that are vertices have no names of their own.
        let plain = !self.apart && self.geometries.iter().all(|&g| g == GeometryKind::Linear);
        let mut vertices = Met::new(points.names.len());
        let mut nodes = Met::new(if plain { points.names.len() } else { 0 });
        // Low words of the names.
        let (mut keys, mut node_keys): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut places: Vec<[f64; 3]> = Vec::new();
        let mut tags = Vec::new();
        let mut describer = Describer::new(self);
        for (k, leaf) in self.leaves.iter().enumerate() {
            let root = &self.roots[leaf.root as usize];
            let b = root.block();
            let block = &mut blocks[b];
            let number = block.n_cells as u32;
            block.n_cells += 1;
            block.sets.push(root.set);
            block.ids.push(self.id(leaf));
            configurations[b].push(hangs[k]);
            let mut of_point = |point: u32| {
                let (number, is_new) = vertices.point(point);
                if is_new {
                    keys.push(points.names[point as usize] as u64);
                }
                number
            };
            let (corners, table) = (points.corners(k), &mut tables[b]);
            let first = table.len();
            table.extend(corners.iter().map(|&point| of_point(point)));
            if hangs[k].is_some() {
                let on = hangs[k].entities(shape, 0);
                for (v, &parent) in points.parents(k).iter().enumerate() {
                    let named = if on >> v & 1 != 0 { of_point(parent) } else { table[first + v] };
                    table.push(named);
                }
            } else {
                table.extend_from_within(first..);
            }
            describer.descend(leaf);
            if plain {
                for (node, &point) in corners.iter().enumerate() {
                    let (number, is_new) = nodes.point(point);
                    if is_new {
                        node_keys.push(points.names[point as usize] as u64);
                        places.push(describer.place(leaf, node));
                    }
                    node_tables[b].push(number);
                }
            } else {
                describer.go(leaf);
                for (node, &name) in describer.names.iter().enumerate() {
                    let new = nodes.n as u32;
                    let number = *nodes.by_name.entry(name).or_insert(new);
                    if number == new {
                        nodes.n += 1;
                        node_keys.push(name as u64);
                        places.push(describer.place(leaf, node));
                    }
                    node_tables[b].push(number);
                }
            }
            if !root.tags.is_empty() {
                tags.extend(describer.tags(leaf).map(|w| tag(w, b, number)));
            }
        }
        let touched = [vertices.n, nodes.n];
        let is_touched = |name: &Name| {
            let point = shared.number.get(name);
            point.is_some_and(|&p| vertices.number[p as usize] != NONE)
        };
        ghosts.retain(|ghost| ghost.all(n, shape).any(|name| is_touched(&name)));
        for ghost in &ghosts {
            let b = ghost.block as usize;
            let block = &mut blocks[b];
            let number = block.n_cells as u32;
            block.n_cells += 1;
            block.sets.push(ghost.set);
            block.ids.push(ghost.id);
            block.ghosts.push(ghost.place);
            configurations[b].push(ghost.hang);
            let on = ghost.hang.entities(shape, 0);
            let mut of_name = |name: Name| {
                let (number, is_new) = vertices.name(shared, name);
                if is_new {
                    keys.push(name as u64);
                }
                number
            };
            let table = &mut tables[b];
            let first = table.len();
            table.extend(ghost.vertices[..n].iter().map(|&name| of_name(name)));
            for v in 0..n {
                let named = if on >> v & 1 != 0 { of_name(ghost.parent[v]) } else { table[first + v] };
                table.push(named);
            }
            let (of_nodes, of_tags) = ghost.rest.split_at(ghost.rest.len() - ghost.n_tags);
            for words in of_nodes.chunks_exact(5) {
                let name = names::from_words([words[0], words[1]]);
                let (number, is_new) = if plain {
                    nodes.name(shared, name)
                } else {
                    let new = nodes.n as u32;
                    let number = *nodes.by_name.entry(name).or_insert(new);
                    nodes.n += usize::from(number == new);
                    (number, number == new)
                };
                if is_new {
                    node_keys.push(name as u64);
                    places.push([2, 3, 4].map(|k| f64::from_bits(words[k])));
                }
                node_tables[b].push(number);
            }
            tags.extend(of_tags.iter().map(|&w| tag(w, b, number)));
        }
        drop((ghosts, hangs));
        let (n_vertices, n_nodes) = (vertices.n, nodes.n);
        drop((vertices, nodes));
        tags.sort_unstable();
        let found = Found { cell_to_entity: tables, n: n_vertices, n_touched: touched[0] };
        // A vertex belongs to a rank with a cell of which it is one.
        let own = |_: usize, _: usize, local: usize| local < n;
        let (mut vertices, _) =
            entities::number_owned(comm, &blocks, found, |v, _, _, _| keys[v as usize], Some(&own as Has));
        let found = Found { cell_to_entity: node_tables, n: n_nodes, n_touched: touched[1] };
        let (nodes, renumber) = entities::number(comm, &blocks, found, |k, _, _, _| node_keys[k as usize]);
        drop((keys, node_keys));
        if !renumber.is_empty() {
            let mut placed = vec![[0.0; 3]; places.len()];
            places.iter().zip(&renumber).for_each(|(x, &k)| placed[k as usize] = *x);
            places = placed;
        }
        let hangs = comm.any(configurations.iter().flatten().any(|hang| hang.is_some()));
        let tables = std::mem::take(&mut vertices.cell_to_entity);
        for (((block, table), of_nodes), configurations) in
            blocks.iter_mut().zip(tables).zip(nodes.cell_to_entity).zip(configurations)
        {
            let (own, hanging) = Hanging::split(shape, configurations, &table);
            block.cell_to_vertex = own;
            block.hanging = hangs.then_some(hanging);
            block.cell_to_node = Some(of_nodes.to_vec());
        }
        let node_ids = (0..nodes.map.n_local() as u32).map(|k| nodes.map.local_to_global(k) + 1).collect();
        Mesh {
            comm: comm.clone(),
            dim: shape.dim(),
            n_cells_global: comm.sum(n_own as u64),
            blocks,
            groups: self.groups.clone(),
            sets: self.sets.clone(),
            vertices,
            nodes: places,
            node_ids,
            nodes_are_vertices: false,
            tags,
            periodic: self.periodic.clone(),
        }
    }
}

/// A tag from its word.
fn tag(w: u64, block: usize, cell: u32) -> EntityTag {
    EntityTag { group: (w >> 16) as u16, block: block as u16, cell, dim: w as u8, local: (w >> 8) as u8 }
}
