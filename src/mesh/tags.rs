//! Attaching boundary facets, edges and vertices of named groups to the cells they lie on.

use cluster::Comm;

use super::EntityTag;
use super::directory::Sharers;
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

/// A tagged entity by its vertices' local numbers, ascending and padded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    vertices: [u32; 4],
    dim: u8,
    group: u16,
}

/// Finds the owned cells on which each tagged entity lies. `cells` are the owned cells' nodes by block,
/// `local` gives the local number of a node that these cells have, of `n_local`. The result is sorted by
/// block and cell. Collective.
pub(super) fn attach(
    comm: &Comm,
    soup: &Soup,
    sharers: Option<&Sharers>,
    cells: &[&[u32]],
    n_local: usize,
    local: impl Fn(u64) -> Option<u32>,
) -> Vec<CellTag> {
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
    // A lone rank has all cells.
    if let Some(sharers) = sharers {
        let least: Vec<u64> = items.iter().map(|t| t.vertices[0]).collect();
        items = sharers.forward(comm, &least, &items);
    }
    let mut wanted: Vec<Wanted> = Vec::with_capacity(items.len());
    let mut marked = vec![false; n_local];
    let mut dims = [false; 4];
    for item in &items {
        let mut vertices = [u32::MAX; 4];
        let known = vertices.iter_mut().zip(item.vertices).all(|(v, id)| {
            let found = if id == u64::MAX { Some(u32::MAX) } else { local(id) };
            found.inspect(|&l| *v = l).is_some()
        });
        // One that has a vertex elsewhere lies on no cell here.
        if !known {
            continue;
        }
        vertices.sort_unstable();
        vertices.iter().filter(|&&v| v != u32::MAX).for_each(|&v| marked[v as usize] = true);
        dims[item.dim as usize] = true;
        wanted.push(Wanted { vertices, dim: item.dim as u8, group: item.group as u16 });
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    wanted.sort_unstable();
    wanted.dedup();
    // Where the entities of each least vertex begin.
    let mut begin = vec![0u32; n_local + 1];
    for w in &wanted {
        begin[w.vertices[0] as usize + 1] += 1;
    }
    for v in 0..n_local {
        begin[v + 1] += begin[v];
    }
    let mut tags = Vec::new();
    for (b, block) in soup.blocks.iter().enumerate() {
        let (shape, n) = (block.shape, block.geometry.n_nodes(block.shape));
        for (cell, nodes) in cells[b].chunks_exact(n).enumerate() {
            let bits = nodes[..shape.n_vertices()].iter().enumerate();
            let bits = bits.fold(0u32, |bits, (k, &v)| bits | u32::from(marked[v as usize]) << k);
            if bits == 0 {
                continue;
            }
            for dim in (0..soup.dim).filter(|&d| dims[d]) {
                for i in 0..shape.n_entities(dim) {
                    let entity = shape.entity_vertices(dim, i);
                    if entity.iter().any(|&v| bits & 1 << v == 0) {
                        continue;
                    }
                    let mut key = [u32::MAX; 4];
                    for (k, &v) in key.iter_mut().zip(entity) {
                        *k = nodes[v as usize];
                    }
                    key.sort_unstable();
                    let least = key[0] as usize;
                    let here = &wanted[begin[least] as usize..begin[least + 1] as usize];
                    let first = here.partition_point(|w| w.vertices < key);
                    for w in here[first..].iter().take_while(|w| w.vertices == key) {
                        if w.dim == dim as u8 {
                            let (block, cell) = (b as u16, cell as u32);
                            let tag =
                                EntityTag { group: w.group, block, cell, dim: dim as u8, local: i as u8 };
                            tags.push(CellTag { tag });
                        }
                    }
                }
            }
        }
    }
    tags.sort_unstable_by_key(|t| (t.tag.block, t.tag.cell, t.tag.group, t.tag.dim, t.tag.local));
    tags
}
