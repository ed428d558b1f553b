//! The mesh of the leaves, with what hangs and the ghosts that it needs.
//!
//! Start at [`Tensor::mesh`]. Ranks that share a vertex of a leaf or of its parent send each other these leaves. Then
//! each rank has all that can be coarser than a leaf of its own beside it, and knows what hangs on its own leaves;
//! it tells those it sent them to. What touches nothing owned after all is dropped.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use cluster::Buckets;

use super::super::names::{self, ByName, LowBits, Name};
use super::walk::{self, CORNERS, Corners, Map, Walker};
use super::{Leaf, MeshError, Tensor};
use crate::element::{Hang, edge_at, facet_at};
use crate::mesh::entities::{self, Found, Has};
use crate::mesh::{Block, EntityTag, Hanging, Mesh};

type Names = HashSet<Name, BuildHasherDefault<LowBits>>;

/// A leaf as the mesh needs it, from here or from another rank.
struct Cell {
    vertices: Corners,
    parent: Corners,
    child: u8,
    level: u8,
    block: u16,
    set: u16,
    id: u64,
    hang: Hang,
    /// Of ghosts: the owner, and the number in its block there.
    ghost: (u32, u32),
    /// Of ghosts: words of their nodes (name, place) and tags. Those of own cells are computed where needed.
    rest: Vec<u64>,
    n_tags: usize,
}

/// What it takes to describe a leaf's nodes and tags.
struct Describer<'a> {
    tensor: &'a Tensor,
    walker: Walker,
    maps: Vec<Map>,
    names: Vec<Name>,
}

impl<'a> Describer<'a> {
    fn new(tensor: &'a Tensor) -> Describer<'a> {
        let maps = tensor.geometries.iter().map(|&g| Map::new(tensor.shape, g)).collect();
        Describer { tensor, walker: tensor.walker(), maps, names: Vec::new() }
    }

    /// Goes to a leaf, and finds the names of its nodes.
    fn go(&mut self, leaf: &Leaf) {
        let root = &self.tensor.roots[leaf.root as usize];
        self.walker.go(&self.tensor.roots, leaf);
        self.walker.node_names(self.tensor.geometries[root.block()], &mut self.names);
    }

    /// Where node `k` of the leaf lies.
    fn place(&self, leaf: &Leaf, k: usize) -> [f64; 3] {
        let root = &self.tensor.roots[leaf.root as usize];
        let map = &self.maps[root.block()];
        map.image(&root.nodes, &self.walker.in_root(&map.basis().nodes()[k]))
    }

    /// The leaf's tags, as words.
    fn tags(&self, leaf: &Leaf) -> impl Iterator<Item = u64> + '_ {
        let root = &self.tensor.roots[leaf.root as usize];
        let tags = root.tags.iter().filter(|t| self.walker.reaches(t.0 as usize, t.1 as usize));
        tags.map(|&(d, i, g)| u64::from(d) | u64::from(i) << 8 | u64::from(g) << 16)
    }

    /// Appends the words of nodes and tags; how many are those of tags.
    fn write(&mut self, leaf: &Leaf, out: &mut Vec<u64>) -> usize {
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

impl Cell {
    /// Its own vertices, then those that name what hangs and are others.
    fn all(&self, n: usize, shape: crate::element::Shape) -> impl Iterator<Item = Name> + '_ {
        let on = self.hang.entities(shape, 0);
        self.vertices[..n]
            .iter()
            .copied()
            .chain((0..n).filter(move |v| on >> v & 1 != 0).map(|v| self.parent[v]))
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
        let mut cells = self.own_cells();
        let n_own = cells.len();
        let sent = self.exchange_cells(&mut cells);
        let fits = if ((cells.len() * 2 * n) as u64) < u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(MeshError::TooLarge { rank: comm.rank(), n: cells.len() as u64, what: "cells".into() })
        };
        comm.agree(fits)?;
        self.find_hanging(&mut cells, n_own);
        if comm.size() > 1 {
            let bits: Vec<u16> = sent.data.iter().map(|&k| cells[k as usize].hang.bits()).collect();
            let bits = Buckets { ranks: sent.ranks.clone(), offsets: sent.offsets.clone(), data: bits };
            let arrived = comm.exchange(&bits).data;
            for (cell, &bits) in cells[n_own..].iter_mut().zip(&arrived) {
                cell.hang = Hang::from_bits(bits, shape).unwrap_or(Hang::NONE);
            }
        }
        let mut touched = Names::default();
        cells[..n_own].iter().for_each(|cell| touched.extend(cell.all(n, shape)));
        let mut at = 0;
        cells.retain(|cell| {
            at += 1;
            at <= n_own || cell.all(n, shape).any(|v| touched.contains(&v))
        });
        drop(touched);
        Ok(self.number(cells, n_own))
    }

    fn own_cells(&self) -> Vec<Cell> {
        let shape = self.shape;
        let mut walker = self.walker();
        let mut in_block = vec![0u32; self.geometries.len()];
        let of = |leaf: &Leaf| {
            walker.go(&self.roots, leaf);
            let root = &self.roots[leaf.root as usize];
            let b = root.block();
            in_block[b] += 1;
            Cell {
                vertices: *walker.vertices(),
                parent: *walker.parent(),
                child: leaf.child(shape) as u8,
                level: leaf.level,
                block: b as u16,
                set: root.set,
                id: self.id(leaf),
                hang: Hang::NONE,
                ghost: (self.comm.rank() as u32, in_block[b] - 1),
                rest: Vec::new(),
                n_tags: 0,
            }
        };
        self.leaves.iter().map(of).collect()
    }

    /// Sends own cells to the ranks that share a vertex of theirs or of their parents', and appends what comes.
    /// Returns which were sent to whom. Collective.
    fn exchange_cells(&self, cells: &mut Vec<Cell>) -> Buckets<u32> {
        let n = self.shape.n_vertices();
        let shared = self.shared();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut ranks: Vec<u32> = Vec::new();
        if !shared.of.is_empty() {
            for (k, cell) in cells.iter().enumerate() {
                ranks.clear();
                for &name in cell.vertices[..n].iter().chain(&cell.parent[..n]) {
                    ranks.extend_from_slice(shared.ranks(name));
                }
                ranks.sort_unstable();
                ranks.dedup();
                pairs.extend(ranks.iter().map(|&rank| (rank, k as u32)));
            }
        }
        let sent = Buckets::from_pairs(pairs);
        if self.comm.size() == 1 {
            return sent;
        }
        let mut message = Buckets::<u64>::empty();
        let mut describer = Describer::new(self);
        let mut rest = Vec::new();
        for (rank, of_rank) in sent.iter() {
            for &k in of_rank {
                let cell = &cells[k as usize];
                rest.clear();
                let n_tags = describer.write(&self.leaves[k as usize], &mut rest) as u64;
                message.data.extend([
                    cell.id,
                    u64::from(cell.block) | u64::from(cell.set) << 16 | u64::from(cell.ghost.1) << 32,
                    u64::from(cell.child) | u64::from(cell.level) << 8,
                    rest.len() as u64 | n_tags << 32,
                ]);
                let names = cell.vertices[..n].iter().chain(&cell.parent[..n]);
                message.data.extend(names.flat_map(|&name| names::words(name)));
                message.data.extend(&rest);
            }
            message.ranks.push(rank);
            message.offsets.push(message.data.len());
        }
        let received = self.comm.exchange(&message);
        for (rank, words) in received.iter() {
            let mut at = 0;
            while at < words.len() {
                let [id, b, c, counts] = [0, 1, 2, 3].map(|k| words[at + k]);
                at += 4;
                let (mut vertices, mut parent): (Corners, Corners) = ([0; CORNERS], [0; CORNERS]);
                for name in vertices[..n].iter_mut().chain(&mut parent[..n]) {
                    *name = names::from_words([words[at], words[at + 1]]);
                    at += 2;
                }
                let n_rest = counts as u32 as usize;
                cells.push(Cell {
                    vertices,
                    parent,
                    child: c as u8,
                    level: (c >> 8) as u8,
                    block: b as u16,
                    set: (b >> 16) as u16,
                    id,
                    hang: Hang::NONE,
                    ghost: (rank, (b >> 32) as u32),
                    rest: words[at..at + n_rest].to_vec(),
                    n_tags: (counts >> 32) as usize,
                });
                at += n_rest;
            }
        }
        sent
    }

    /// What hangs on own cells: a face or edge of the parent that some cell has whole.
    fn find_hanging(&self, cells: &mut [Cell], n_own: usize) {
        let (shape, dim) = (self.shape, self.shape.dim());
        // Entities of parents, and whether some cell has them: fewer than those of cells.
        let mut whole: HashMap<Name, bool, BuildHasherDefault<LowBits>> = HashMap::default();
        let of_parent = |cell: &Cell, a: usize| {
            let child = cell.child as usize;
            let facet = walk::entity(shape, &cell.parent, dim - 1, facet_at(shape, child, a));
            let edge = (dim == 3).then(|| walk::entity(shape, &cell.parent, 1, edge_at(shape, child, a)));
            (facet, edge)
        };
        for cell in cells[..n_own].iter().filter(|cell| cell.level > 0) {
            for a in 0..dim {
                let (facet, edge) = of_parent(cell, a);
                whole.insert(facet, false);
                edge.map(|edge| whole.insert(edge, false));
            }
        }
        for cell in cells.iter() {
            for d in 1..dim {
                for i in 0..shape.n_entities(d) {
                    if let Some(found) = whole.get_mut(&walk::entity(shape, &cell.vertices, d, i)) {
                        *found = true;
                    }
                }
            }
        }
        for cell in cells[..n_own].iter_mut().filter(|cell| cell.level > 0) {
            let (mut facets, mut edges) = (0, 0);
            for a in 0..dim {
                let (facet, edge) = of_parent(cell, a);
                facets |= u8::from(whole[&facet]) << a;
                edges |= edge.map_or(0, |edge| u8::from(whole[&edge]) << a);
            }
            cell.hang = Hang::new(cell.child as usize, facets, edges);
        }
    }

    /// Numbers vertices and nodes. Collective.
    fn number(&self, cells: Vec<Cell>, n_own: usize) -> Mesh {
        let (comm, shape) = (&self.comm, self.shape);
        let n = shape.n_vertices();
        let mut blocks: Vec<Block> = Vec::new();
        let (mut tables, mut node_tables) = (vec![Vec::new(); self.geometries.len()], Vec::new());
        let mut configurations: Vec<Vec<Hang>> = vec![Vec::new(); self.geometries.len()];
        for &geometry in &self.geometries {
            node_tables.push(Vec::new());
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
        let (mut by_name, mut node_by_name) = (ByName::default(), ByName::default());
        let (mut met, mut met_nodes): (Vec<Name>, Vec<Name>) = (Vec::new(), Vec::new());
        let mut places: Vec<[f64; 3]> = Vec::new();
        let mut touched = [0; 2];
        let mut tags = Vec::new();
        let mut describer = Describer::new(self);
        for (k, cell) in cells.iter().enumerate() {
            if k == n_own {
                touched = [met.len(), met_nodes.len()];
            }
            let b = cell.block as usize;
            let block = &mut blocks[b];
            let number = block.n_cells as u32;
            block.n_cells += 1;
            block.n_owned += usize::from(k < n_own);
            block.sets.push(cell.set);
            block.ids.push(cell.id);
            if k >= n_own {
                block.ghosts.push(cell.ghost);
            }
            configurations[b].push(cell.hang);
            let on = cell.hang.entities(shape, 0);
            let mut of_name = |name: Name| {
                *by_name.entry(name).or_insert_with(|| {
                    met.push(name);
                    met.len() as u32 - 1
                })
            };
            let first = tables[b].len();
            tables[b].extend(cell.vertices[..n].iter().map(|&name| of_name(name)));
            for v in 0..n {
                let named = if on >> v & 1 != 0 { of_name(cell.parent[v]) } else { tables[b][first + v] };
                tables[b].push(named);
            }
            let mut add_tag = |w: u64| {
                let (group, dim, local) = ((w >> 16) as u16, w as u8, (w >> 8) as u8);
                tags.push(EntityTag { group, block: cell.block, cell: number, dim, local });
            };
            if k < n_own {
                let leaf = &self.leaves[k];
                describer.go(leaf);
                for (node, &name) in describer.names.iter().enumerate() {
                    node_tables[b].push(*node_by_name.entry(name).or_insert_with(|| {
                        met_nodes.push(name);
                        places.push(describer.place(leaf, node));
                        met_nodes.len() as u32 - 1
                    }));
                }
                describer.tags(leaf).for_each(add_tag);
                continue;
            }
            let (of_nodes, of_tags) = cell.rest.split_at(cell.rest.len() - cell.n_tags);
            for words in of_nodes.chunks_exact(5) {
                let name = names::from_words([words[0], words[1]]);
                node_tables[b].push(*node_by_name.entry(name).or_insert_with(|| {
                    met_nodes.push(name);
                    places.push([2, 3, 4].map(|k| f64::from_bits(words[k])));
                    met_nodes.len() as u32 - 1
                }));
            }
            of_tags.iter().copied().for_each(&mut add_tag);
        }
        if cells.len() == n_own {
            touched = [met.len(), met_nodes.len()];
        }
        drop((cells, by_name, node_by_name));
        tags.sort_unstable();
        let found = Found { cell_to_entity: tables, n: met.len(), n_touched: touched[0] };
        // A vertex belongs to a rank with a cell of which it is one.
        let own = |_: usize, _: usize, local: usize| local < n;
        let (mut vertices, _) = entities::number_owned(
            comm,
            &blocks,
            found,
            |v, _, _, _| met[v as usize] as u64,
            Some(&own as Has),
        );
        let found = Found { cell_to_entity: node_tables, n: met_nodes.len(), n_touched: touched[1] };
        let (nodes, renumber) =
            entities::number(comm, &blocks, found, |k, _, _, _| met_nodes[k as usize] as u64);
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
            n_cells_global: comm.sum(self.leaves.len() as u64),
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
