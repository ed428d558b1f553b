//! A mesh without a forest, as it lies on the ranks, and back.
//!
//! Start at [`Mesh::save`] and [`load_mesh`].

use cluster::{Buckets, Comm, Halo, IndexMap};

use super::{Arrays, Entries, Loading, Outline, broken, distinct};
use crate::element::Shape;
use crate::mesh::draft::Draft;
use crate::mesh::entities::mix;
use crate::mesh::soup::{CellBlock, EntityBlock, Soup};
use crate::mesh::{Block, Entities, EntityTag, Mesh, MeshError};

impl Mesh {
    /// Everything that this rank has of the mesh. Not collective.
    ///
    /// # Errors
    /// A mesh with hanging nodes: its forest is to be saved.
    pub fn save(&self) -> Result<Arrays, MeshError> {
        if self.may_hang() {
            return Err(broken("a mesh with hanging nodes without its forest"));
        }
        let mut saved = Arrays::new(Outline {
            forest: false,
            dim: self.dim,
            blocks: self.blocks.iter().map(|b| Outline::kind(b.shape, b.geometry)).collect(),
            groups: Outline::with_groups(&self.groups),
            sets: self.sets.clone(),
            periodic: self.periodic.clone(),
            nodes_are_vertices: self.nodes_are_vertices,
            n_cells: self.n_cells_global,
            cuts: 0,
        });
        for (b, block) in self.blocks.iter().enumerate() {
            let n_v = block.shape.n_vertices();
            for (what, cells) in [("cells", 0..block.n_owned), ("ghosts", block.n_owned..block.n_cells)] {
                saved.add(format!("{what}/{b}/ids"), 1, Entries::U64(block.ids[cells.clone()].to_vec()));
                let sets = block.sets[cells.clone()].iter().map(|&s| u32::from(s)).collect();
                saved.add(format!("{what}/{b}/sets"), 1, Entries::U32(sets));
                let nodes = cells.clone().flat_map(|c| block.nodes(c)).copied().collect();
                saved.add(format!("{what}/{b}/nodes"), block.n_nodes, Entries::U32(nodes));
                if !self.nodes_are_vertices {
                    let vertices = block.cell_to_vertex[cells.start * n_v..cells.end * n_v].to_vec();
                    saved.add(format!("{what}/{b}/vertices"), n_v, Entries::U32(vertices));
                }
            }
            let owners = block.ghosts.iter().flat_map(|&(rank, cell)| [rank, cell]).collect();
            saved.add(format!("ghosts/{b}/owners"), 2, Entries::U32(owners));
        }
        saved.add("nodes/ids", 1, Entries::U64(self.node_ids.clone()));
        saved.add("nodes/coordinates", 3, Entries::F64(self.nodes.as_flattened().to_vec()));
        let tag = |t: &EntityTag| {
            [
                u32::from(t.group) << 16 | u32::from(t.block),
                t.cell,
                u32::from(t.dim) << 8 | u32::from(t.local),
            ]
        };
        saved.add("tags", 3, Entries::U32(self.tags.iter().flat_map(tag).collect()));
        let map = &self.vertices.map;
        let ghosts = map.ghosts().iter().zip(map.ghost_owners());
        saved.add("vertices/owned", 1, Entries::U64(vec![map.n_owned() as u64]));
        let ghosts = ghosts.flat_map(|(&ghost, &owner)| [ghost, u64::from(owner)]).collect();
        saved.add("vertices/ghosts", 2, Entries::U64(ghosts));
        Ok(saved)
    }
}

/// The mesh on its ranks again, and whether it is the very same: on as many ranks as saved it. Otherwise its cells
/// are dealt out anew by `deal`, which gives each cell of a draft its owner. Collective.
///
/// # Errors
/// Arrays that contradict each other; what `deal` says. The same on every rank.
pub fn load_mesh(
    loading: &Loading,
    deal: &mut dyn FnMut(&Draft) -> Result<Vec<u32>, MeshError>,
) -> Result<(Mesh, bool), MeshError> {
    let comm = &loading.comm;
    if loading.outline.forest {
        return Err(broken("a forest where a mesh is expected"));
    }
    if loading.same_ranks() {
        let parts = comm.agree(exact_parts(loading))?;
        return Ok((exact(comm, loading, parts), true));
    }
    let outline = &loading.outline;
    let soup = cells(loading)?;
    let draft = Draft::new(comm, soup, 1.0, &outline.periodic, true)?;
    let owners = deal(&draft)?;
    Ok((draft.distribute(&owners)?, false))
}

/// All of a mesh but what needs messages.
struct Parts {
    blocks: Vec<Block>,
    nodes: Vec<[f64; 3]>,
    node_ids: Vec<u64>,
    tags: Vec<EntityTag>,
    n_owned: usize,
    ghosts: Vec<u64>,
    owners: Vec<u32>,
}

fn exact_parts(loading: &Loading) -> Result<Parts, MeshError> {
    let plain = loading.outline.nodes_are_vertices;
    let mut blocks = Vec::new();
    let (n_sets, n_groups) = (loading.outline.sets.len(), loading.outline.groups.len());
    let node_ids = loading.u64("nodes/ids", 1)?.to_vec();
    let nodes = loading.f64("nodes/coordinates", 3)?.as_chunks::<3>().0.to_vec();
    let map = loading.u64("vertices/ghosts", 2)?.as_chunks::<2>().0;
    let n_owned = *loading.u64("vertices/owned", 1)?.first().ok_or_else(|| broken("no vertices"))? as usize;
    let n_vertices = n_owned + map.len();
    for (b, (shape, geometry)) in loading.outline.kinds()?.into_iter().enumerate() {
        let (n_v, n_nodes) = (shape.n_vertices(), geometry.n_nodes(shape));
        let u32s = |what: &str, width: usize| -> Result<Vec<u32>, MeshError> {
            let mut all = loading.u32(&format!("cells/{b}/{what}"), width)?.to_vec();
            all.extend_from_slice(loading.u32(&format!("ghosts/{b}/{what}"), width)?);
            Ok(all)
        };
        let mut ids = loading.u64(&format!("cells/{b}/ids"), 1)?.to_vec();
        let n_owned = ids.len();
        ids.extend_from_slice(loading.u64(&format!("ghosts/{b}/ids"), 1)?);
        let of_nodes = u32s("nodes", n_nodes)?;
        let sets: Vec<u16> = u32s("sets", 1)?.into_iter().map(|s| s as u16).collect();
        let ghosts = loading.u32(&format!("ghosts/{b}/owners"), 2)?;
        let ghosts: Vec<(u32, u32)> = ghosts.as_chunks::<2>().0.iter().map(|g| (g[0], g[1])).collect();
        let vertices = if plain { None } else { Some(u32s("vertices", n_v)?) };
        let fits = of_nodes.len() == ids.len() * n_nodes
            && sets.len() == ids.len()
            && ghosts.len() + n_owned == ids.len()
            && of_nodes.iter().all(|&k| (k as usize) < nodes.len())
            && vertices.iter().flatten().all(|&v| (v as usize) < n_vertices)
            && vertices.as_ref().is_none_or(|v| v.len() == ids.len() * n_v)
            && sets.iter().all(|&s| usize::from(s) < n_sets);
        if !fits {
            return Err(broken("cells that do not fit their nodes"));
        }
        let (cell_to_vertex, cell_to_node) = match vertices {
            Some(vertices) => (vertices, Some(of_nodes)),
            None => (of_nodes, None),
        };
        let n_cells = ids.len();
        blocks.push(Block {
            shape,
            geometry,
            n_owned,
            n_cells,
            cell_to_vertex: cell_to_vertex.into(),
            cell_to_node,
            n_nodes,
            sets,
            ids,
            ghosts,
            hanging: None,
        });
    }
    let tag = |t: &[u32; 3]| EntityTag {
        group: (t[0] >> 16) as u16,
        block: t[0] as u16,
        cell: t[1],
        dim: (t[2] >> 8) as u8,
        local: t[2] as u8,
    };
    let tags: Vec<EntityTag> = loading.u32("tags", 3)?.as_chunks::<3>().0.iter().map(tag).collect();
    let known = |t: &EntityTag| {
        let block = blocks.get(usize::from(t.block));
        usize::from(t.group) < n_groups
            && block.is_some_and(|b| is_entity(b.shape, t.dim, t.local) && (t.cell as usize) < b.n_cells)
    };
    if !tags.iter().all(known) || nodes.len() != node_ids.len() || (plain && nodes.len() != n_vertices) {
        return Err(broken("tags or nodes that belong to no cell"));
    }
    let (ghosts, owners) = map.iter().map(|g| (g[0], g[1] as u32)).unzip();
    Ok(Parts { blocks, nodes, node_ids, tags, n_owned, ghosts, owners })
}

fn is_entity(shape: Shape, dim: u8, local: u8) -> bool {
    usize::from(dim) <= shape.dim() && usize::from(local) < shape.n_entities(usize::from(dim))
}

/// Collective.
fn exact(comm: &Comm, loading: &Loading, parts: Parts) -> Mesh {
    let outline = &loading.outline;
    let map = IndexMap::new(comm, parts.n_owned, parts.ghosts, parts.owners);
    let halo = Halo::new(comm, &map);
    Mesh {
        comm: comm.clone(),
        dim: outline.dim,
        blocks: parts.blocks,
        groups: outline.groups(),
        sets: outline.sets.clone(),
        vertices: Entities { map, halo, cell_to_entity: Vec::new() },
        nodes: parts.nodes,
        node_ids: parts.node_ids,
        nodes_are_vertices: outline.nodes_are_vertices,
        tags: parts.tags,
        periodic: outline.periodic.clone(),
        n_cells_global: outline.n_cells,
    }
}

/// What a rank's share refers to, as rows of the nodes.
struct Share {
    blocks: Vec<CellBlock>,
    /// By block: rows of the cells' nodes.
    rows: Vec<Vec<u64>>,
    /// By block: tags of owned cells (row of the cell, dimension, entity, group).
    tags: Vec<Vec<(u64, u8, u8, u16)>>,
}

/// Rows in the nodes of the numbers that writers gave them.
fn node_rows(bases: &[(u64, u64)], numbers: &[u32], width: usize) -> Result<Vec<u64>, MeshError> {
    let mut rows = Vec::with_capacity(numbers.len());
    for (&(first, n), numbers) in bases.iter().zip(numbers.chunks_exact(width)) {
        for &k in numbers {
            if u64::from(k) >= n {
                return Err(broken("a cell with a node that is not there"));
            }
            rows.push(first + u64::from(k));
        }
    }
    Ok(rows)
}

fn my_share(loading: &Loading) -> Result<Share, MeshError> {
    let outline = &loading.outline;
    let kinds = outline.kinds()?;
    let mut share = Share { blocks: Vec::new(), rows: Vec::new(), tags: vec![Vec::new(); kinds.len()] };
    for (b, &(shape, geometry)) in kinds.iter().enumerate() {
        let n_nodes = geometry.n_nodes(shape);
        let [ids, sets, nodes] = ["ids", "sets", "nodes"].map(|what| format!("cells/{b}/{what}"));
        let numbers = loading.u32(&nodes, n_nodes)?;
        let bases = loading.bases(&nodes, numbers.len() / n_nodes, "nodes/ids")?;
        share.rows.push(node_rows(&bases, numbers, n_nodes)?);
        let sets = loading.u32(&sets, 1)?.iter().map(|&s| s as u16).collect::<Vec<_>>();
        let ids = loading.u64(&ids, 1)?.to_vec();
        if sets.iter().any(|&s| usize::from(s) >= outline.sets.len()) || sets.len() != ids.len() {
            return Err(broken("a cell in groups that are not there"));
        }
        share.blocks.push(CellBlock { shape, geometry, nodes: Vec::new(), ids, sets });
    }
    let tags = loading.u32("tags", 3)?.as_chunks::<3>().0;
    let mut cells = Vec::new();
    for b in 0..kinds.len() {
        cells.push(loading.bases("tags", tags.len(), &format!("cells/{b}/ids"))?);
    }
    for (k, t) in tags.iter().enumerate() {
        let (group, b) = ((t[0] >> 16) as u16, (t[0] & 0xffff) as usize);
        let (dim, local) = ((t[2] >> 8) as u8, t[2] as u8);
        let known = kinds.get(b).is_some_and(|kind| is_entity(kind.0, dim, local));
        if !known || usize::from(group) >= outline.groups.len() {
            return Err(broken("a tag on something that is not there"));
        }
        let (first, n) = cells[b][k];
        // Tags of ghosts are their owner's too.
        if u64::from(t[1]) < n {
            share.tags[b].push((first + u64::from(t[1]), dim, local, group));
        }
    }
    Ok(share)
}

/// Equal shares of the cells as a reader would hand them over. Collective.
fn cells(loading: &Loading) -> Result<Soup, MeshError> {
    let comm = &loading.comm;
    let Share { mut blocks, rows, tags } = comm.agree(my_share(loading))?;
    // Nodes of tagged cells, which may be in another rank's share.
    let mut of_tags: Vec<Vec<u64>> = Vec::new();
    let mut tagged: Vec<Vec<u32>> = Vec::new();
    for (b, tags) in tags.iter().enumerate() {
        let numbers: Vec<u64> = tags.iter().map(|t| t.0).collect();
        let (wanted, places) = distinct(&numbers);
        let width = blocks[b].geometry.n_nodes(blocks[b].shape);
        of_tags.push(loading.fetch(loading.total(&format!("cells/{b}/nodes"))?, &rows[b], width, &wanted));
        tagged.push(places);
    }
    let all: Vec<u64> = rows.iter().chain(&of_tags).flatten().copied().collect();
    let (wanted, places) = distinct(&all);
    let ids = loading.fetch_u64("nodes/ids", 1, &wanted)?;
    let points = loading.fetch_f64("nodes/coordinates", 3, &wanted)?;
    let mut at = 0;
    let mut next = |n: usize| -> Vec<u64> {
        at += n;
        places[at - n..at].iter().map(|&k| ids[k as usize]).collect()
    };
    for (block, rows) in blocks.iter_mut().zip(&rows) {
        block.nodes = next(rows.len());
    }
    let mut entities: Vec<EntityBlock> =
        [Shape::Point, Shape::Interval, Shape::Triangle, Shape::Quadrilateral]
            .into_iter()
            .filter(|s| s.dim() < loading.outline.dim)
            .map(|shape| EntityBlock { shape, vertices: Vec::new(), groups: Vec::new() })
            .collect();
    for (b, (tags, places)) in tags.iter().zip(&tagged).enumerate() {
        let (shape, width) = (blocks[b].shape, blocks[b].geometry.n_nodes(blocks[b].shape));
        let nodes = next(of_tags[b].len());
        for (&(_, dim, local, group), &k) in tags.iter().zip(places) {
            let (dim, local) = (usize::from(dim), usize::from(local));
            let kind = shape.entity_shape(dim, local);
            let Some(to) = entities.iter_mut().find(|e| e.shape == kind) else { continue };
            let of_cell = &nodes[k as usize * width..][..width];
            to.vertices.extend(shape.entity_vertices(dim, local).iter().map(|&v| of_cell[v as usize]));
            to.groups.push(group);
        }
    }
    let max_node_id = ids.iter().copied().max().unwrap_or(0);
    Ok(Soup {
        dim: loading.outline.dim,
        groups: loading.outline.groups(),
        sets: loading.outline.sets.clone(),
        blocks,
        entities,
        node_ids: ids,
        node_coordinates: points.as_chunks::<3>().0.to_vec(),
        max_node_id,
        periodic: Vec::new(),
    })
}

/// Values of cells, by block and row of the saved cells, for the owned cells of a mesh made of them: cells are
/// known by their block and number. `values[b]` has `widths[b]` entries for each row of this rank's share.
/// Collective.
///
/// # Errors
/// A cell of the mesh that was not saved, or twice: the same on every rank.
pub fn values_of_cells(
    mesh: &Mesh,
    loading: &Loading,
    values: &[Vec<f64>],
    widths: &[usize],
) -> Result<Vec<f64>, MeshError> {
    let comm = &mesh.comm;
    let size = comm.size() as u64;
    let mut out = Vec::new();
    for (b, block) in mesh.blocks.iter().enumerate() {
        let name = format!("cells/{b}/ids");
        let ids = comm.agree(loading.u64(&name, 1))?;
        let width = widths[b];
        let to = |id: u64| (mix(id) % size) as u32;
        // A record: the number, then the values.
        let keepers: Vec<u32> = ids.iter().map(|&id| to(id)).collect();
        let places: Vec<u32> = (0..ids.len() as u32).collect();
        let mut sent = Buckets::<u64>::empty();
        for (rank, cells) in Buckets::from_destinations(&keepers, &places).iter() {
            for &k in cells {
                let k = k as usize;
                sent.data.push(ids[k]);
                sent.data.extend(values[b][k * width..][..width].iter().map(|x| x.to_bits()));
            }
            sent.ranks.push(rank);
            sent.offsets.push(sent.data.len());
        }
        let kept = comm.exchange(&sent).data;
        drop(sent);
        let found: std::collections::HashMap<u64, usize> =
            kept.chunks_exact(1 + width).enumerate().map(|(k, record)| (record[0], k)).collect();
        let wanted = &block.ids[..block.n_owned];
        let keepers: Vec<u32> = wanted.iter().map(|&id| to(id)).collect();
        let places: Vec<u32> = (0..wanted.len() as u32).collect();
        let places = Buckets::from_destinations(&keepers, &places).data;
        let asked = comm.exchange(&Buckets::from_destinations(&keepers, wanted));
        let mut answer = Buckets::<u64> { ranks: asked.ranks.clone(), offsets: vec![0], data: Vec::new() };
        let mut missing = found.len() * (1 + width) != kept.len();
        for (_, ids) in asked.iter() {
            for id in ids {
                match found.get(id) {
                    Some(&k) => answer.data.extend_from_slice(&kept[k * (1 + width) + 1..][..width]),
                    None => {
                        missing = true;
                        answer.data.resize(answer.data.len() + width, 0);
                    }
                }
            }
            answer.offsets.push(answer.data.len());
        }
        if comm.any(missing) {
            return Err(broken("values of other cells than those of the mesh"));
        }
        let received = comm.exchange(&answer).data;
        let begin = out.len();
        out.resize(begin + wanted.len() * width, 0.0);
        for (&cell, values) in places.iter().zip(received.chunks_exact(width.max(1))) {
            let to = &mut out[begin + cell as usize * width..][..width];
            to.iter_mut().zip(values).for_each(|(to, &bits)| *to = f64::from_bits(bits));
        }
    }
    Ok(out)
}
