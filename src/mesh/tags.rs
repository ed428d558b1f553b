//! Attaching boundary facets, edges and vertices of named groups to the cells they lie on.

use std::collections::HashMap;

use cluster::Comm;

use super::EntityTag;
use super::directory::Sharers;
use super::ids::IdSet;
use super::soup::Soup;

/// A tag on an entity of a cell, as the mesh keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellTag {
    pub tag: EntityTag,
}

impl CellTag {
    /// Group, dimension and local entity in one word; the cell travels apart.
    pub fn pack(&self) -> u64 {
        u64::from(self.tag.group) << 16 | u64::from(self.tag.dim) << 8 | u64::from(self.tag.local)
    }

    pub fn unpack(word: u64, block: u16, cell: u32) -> CellTag {
        let tag =
            EntityTag { group: (word >> 16) as u16, block, cell, dim: (word >> 8) as u8, local: word as u8 };
        CellTag { tag }
    }
}

/// The tags of one cell, in tags sorted by block and cell.
pub(super) fn of_cell(tags: &[CellTag], block: u16, cell: u32) -> &[CellTag] {
    let begin = tags.partition_point(|t| (t.tag.block, t.tag.cell) < (block, cell));
    let n = tags[begin..].iter().take_while(|t| (t.tag.block, t.tag.cell) == (block, cell)).count();
    &tags[begin..begin + n]
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Tagged {
    vertices: [u64; 4],
    dim: u32,
    group: u32,
}

/// Finds the owned cells on which each tagged entity lies; `nodes` are the owned cells' nodes by block.
/// The result is sorted by block and cell. Collective.
pub(super) fn attach(comm: &Comm, soup: &Soup, sharers: &Sharers, nodes: &[Vec<u64>]) -> Vec<CellTag> {
    let mut items = Vec::new();
    for block in &soup.entities {
        let n = block.shape.n_vertices();
        for (vertices, &group) in block.vertices.chunks_exact(n).zip(&block.groups) {
            let mut key = [u64::MAX; 4];
            key[..n].copy_from_slice(vertices);
            key.sort_unstable();
            items.push(Tagged { vertices: key, dim: block.shape.dim() as u32, group: u32::from(group) });
        }
    }
    let least: Vec<u64> = items.iter().map(|t| t.vertices[0]).collect();
    let items = sharers.forward(comm, &least, &items);
    if items.is_empty() {
        return Vec::new();
    }
    let mut groups: HashMap<[u64; 4], Vec<(u32, u16)>> = HashMap::with_capacity(items.len());
    let mut dims = [false; 4];
    for item in &items {
        dims[item.dim as usize] = true;
        groups.entry(item.vertices).or_default().push((item.dim, item.group as u16));
    }
    let corners: Vec<u64> = items.iter().flat_map(|t| t.vertices).filter(|&v| v != u64::MAX).collect();
    let corners = IdSet::new(corners.iter());
    let mut tags = Vec::new();
    for (b, block) in soup.blocks.iter().enumerate() {
        let (shape, n) = (block.shape, block.geometry.n_nodes(block.shape));
        for (cell, nodes) in nodes[b].chunks_exact(n).enumerate() {
            let marked = nodes[..shape.n_vertices()].iter().enumerate();
            let marked = marked.fold(0u32, |bits, (k, &v)| bits | u32::from(corners.get(v).is_some()) << k);
            if marked == 0 {
                continue;
            }
            for dim in (0..soup.dim).filter(|&d| dims[d]) {
                for local in 0..shape.n_entities(dim) {
                    let entity = shape.entity_vertices(dim, local);
                    if entity.iter().any(|&v| marked & 1 << v == 0) {
                        continue;
                    }
                    let mut key = [u64::MAX; 4];
                    for (k, &v) in key.iter_mut().zip(entity) {
                        *k = nodes[v as usize];
                    }
                    key.sort_unstable();
                    for &(_, group) in groups.get(&key).into_iter().flatten().filter(|g| g.0 == dim as u32) {
                        let (block, cell) = (b as u16, cell as u32);
                        let tag = EntityTag { group, block, cell, dim: dim as u8, local: local as u8 };
                        tags.push(CellTag { tag });
                    }
                }
            }
        }
    }
    tags.sort_unstable_by_key(|t| (t.tag.block, t.tag.cell, t.tag.group, t.tag.dim, t.tag.local));
    tags.dedup();
    tags
}
