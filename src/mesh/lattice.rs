//! Numbering the points of a lattice of any degree on the cells of a distributed mesh.
//!
//! What a Lagrange space numbers as its DOFs, and what refinement numbers as the next mesh's nodes.
//! Points belong to vertices, edges, faces and cells; on an edge or a face they are counted in an order
//! that all cells around it agree on.

use cluster::{Halo, IndexMap};
use rayon::prelude::*;

use super::entities::{self, Entities, mix};
use super::{Block, Mesh, Table};
use crate::element::{Lagrange, Shape};

/// Which vertices tell whether two cells' entities are the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corners {
    /// Topological vertices: both sides of a periodic pair are one.
    Vertices,
    /// Geometry nodes: every point has its own coordinates.
    Nodes,
}

/// A global numbering of lattice points.
///
/// Where cells hang and corners are vertices, points on what hangs are the coarser neighbour's: the entities
/// they belong to are named by the vertices of the cell's parent.
pub struct Lattice {
    /// Owned points first, then ghosts by ascending global number.
    pub map: IndexMap,
    /// Moves values from owners to ghosts.
    pub halo: Halo,
    /// Per block: `n_cells * n_points`, in the order of the element's nodes.
    pub cell_to_point: Vec<Table>,
}

/// The corners from which [`Shape::entity_vertices`] picks those of entity `i` of a cell.
#[inline]
fn corners_naming(corners: Corners, block: &Block, cell: usize, dim: usize, i: usize) -> &[u32] {
    match corners {
        Corners::Vertices => block.vertices_naming(cell, dim, i),
        Corners::Nodes => block.nodes(cell),
    }
}

/// The entities of a cell that its parent's vertices name, and these.
fn named(block: &Block, cell: usize, dim: usize) -> Option<(u16, &[u32])> {
    block.hang(cell).map(|(hang, row)| (hang.entities(block.shape, dim), row))
}

/// Numbers the nodes of `elements` (one a block, all of one degree). Collective.
pub fn number(mesh: &Mesh, elements: &[Lagrange], corners: Corners) -> Lattice {
    let comm = &mesh.comm;
    // With one numbering for both, the vertices' own is used as it stands.
    let hangs = mesh.may_hang();
    let corners = if mesh.nodes_are_vertices && !hangs { Corners::Vertices } else { corners };
    let hangs = hangs && corners == Corners::Vertices;
    let global = |v: u32| match corners {
        Corners::Vertices => mesh.vertices.map.local_to_global(v),
        Corners::Nodes => mesh.node_ids[v as usize],
    };
    let n_corners = match corners {
        Corners::Vertices => mesh.vertices.map.n_local(),
        Corners::Nodes => mesh.nodes.len(),
    };
    // Entities that carry points, dimension by dimension. Vertices always do.
    let carries = |dim: usize| {
        mesh.blocks.iter().zip(elements).any(|(block, element)| {
            (0..block.shape.n_entities(dim)).any(|i| !element.entity_nodes(dim, i).is_empty())
        })
    };
    let vertices_only = elements.iter().all(|element| element.degree() == 1);
    // What one rank's ghosts allow, all ranks must do: the other way communicates.
    let as_vertices = vertices_only && corners == Corners::Vertices && !hangs;
    if as_vertices && !comm.any(!mesh.vertices.map.ghosts().is_sorted()) {
        // Degree 1 is the mesh's own numbering: shared, not copied.
        let map = mesh.vertices.map.clone();
        let cell_to_point = mesh.blocks.iter().map(|b| b.cell_to_vertex.clone()).collect();
        return Lattice { halo: mesh.vertices.halo.clone(), map, cell_to_point };
    }
    let mut levels: Vec<(usize, Entities)> = Vec::new();
    for dim in 0..=mesh.dim {
        if !carries(dim) {
            continue;
        }
        if dim == 0 && corners == Corners::Vertices {
            let cell_to_entity = mesh.blocks.iter().map(Block::naming_table).collect();
            let (map, halo) = (mesh.vertices.map.clone(), mesh.vertices.halo.clone());
            levels.push((0, Entities { map, halo, cell_to_entity }));
            continue;
        }
        let found = match corners {
            _ if dim == mesh.dim => entities::cells(&mesh.blocks),
            Corners::Vertices if hangs => entities::find_named(
                &mesh.blocks,
                dim,
                n_corners,
                |b, c| b.vertices(c),
                |b, c| named(b, c, dim),
            ),
            Corners::Vertices => entities::find(&mesh.blocks, dim, n_corners, |b, c| b.vertices(c)),
            Corners::Nodes => entities::find(&mesh.blocks, dim, n_corners, |b, c| b.nodes(c)),
        };
        // The numbers' order, unlike their values, may differ between ranks.
        let key = |_: u32, b: usize, cell: usize, i: usize| {
            let block = &mesh.blocks[b];
            let corners = corners_naming(corners, block, cell, dim, i);
            let mut vertices = [u64::MAX; 8];
            for (v, &k) in vertices.iter_mut().zip(block.shape.entity_vertices(dim, i)) {
                *v = global(corners[k as usize]);
            }
            vertices.sort_unstable();
            vertices.iter().fold(0, |hash, &v| mix(hash ^ v))
        };
        let owns = |b: usize, cell: usize, i: usize| mesh.blocks[b].has_own(cell, dim, i);
        let owns: Option<entities::Has> = if hangs { Some(&owns) } else { None };
        levels.push((dim, entities::number_owned(comm, &mesh.blocks, found, key, owns).0));
    }

    // Points of an entity are consecutive; entities are taken in the order in which cells meet them, so
    // that points of a cell are near each other in the matrix. Those of ghosts count on their own first.
    const NONE: u32 = u32::MAX;
    let mut starts: Vec<Vec<u32>> = levels.iter().map(|l| vec![NONE; l.1.map.n_local()]).collect();
    let mut n_points = [0u32; 2];
    // Per ghost entity of each level: its number of points.
    let mut of_ghost: Vec<Vec<u32>> = levels.iter().map(|l| vec![0; l.1.map.n_ghost()]).collect();
    for (b, cells) in entities::met(&mesh.blocks) {
        let (block, element) = (&mesh.blocks[b], &elements[b]);
        let counts: Vec<Vec<u32>> = levels
            .iter()
            .map(|(dim, _)| {
                let of = |i| element.entity_nodes(*dim, i).len() as u32;
                (0..block.shape.n_entities(*dim)).map(of).collect()
            })
            .collect();
        for cell in cells {
            for (level, ((_, entities), counts)) in levels.iter().zip(&counts).enumerate() {
                let n_owned = entities.map.n_owned();
                let of_cell = &entities.cell_to_entity[b][cell * counts.len()..][..counts.len()];
                for (&e, &count) in of_cell.iter().zip(counts) {
                    let start = &mut starts[level][e as usize];
                    if *start == NONE {
                        let ghost = (e as usize).checked_sub(n_owned);
                        let next = &mut n_points[usize::from(ghost.is_some())];
                        *start = *next;
                        *next += count;
                        if let Some(g) = ghost {
                            of_ghost[level][g] = count;
                        }
                    }
                }
            }
        }
    }
    let [n_owned, n_ghost] = n_points.map(|n| n as usize);
    let offset = comm.exclusive_sum(n_owned as u64);
    let n_global = comm.sum(n_owned as u64);

    // Ghost entities learn their first point's global number from the owner; points of ghosts are put in
    // the order of those numbers. The points of one entity follow one another in both orders.
    let mut ghosts = vec![u64::MAX; n_ghost];
    let mut owners = vec![0u32; n_ghost];
    if comm.size() > 1 {
        let mut with_points: Vec<(u64, usize, usize)> = Vec::new();
        for (level, ((_, entities), starts)) in levels.iter().zip(&starts).enumerate() {
            let mut first: Vec<u64> = starts.iter().map(|&s| offset + u64::from(s)).collect();
            entities.halo.forward(&mut first, 1);
            let first = &first[entities.map.n_owned()..];
            let there = first.iter().enumerate().filter(|(g, _)| of_ghost[level][*g] > 0);
            with_points.extend(there.map(|(g, &global)| (global, level, g)));
        }
        with_points.sort_unstable();
        let mut next = 0usize;
        for &(global, level, g) in &with_points {
            let map = &levels[level].1.map;
            let count = of_ghost[level][g] as usize;
            for k in 0..count {
                ghosts[next + k] = global + k as u64;
                owners[next + k] = map.ghost_owners()[g];
            }
            starts[level][map.n_owned() + g] = (n_owned + next) as u32;
            next += count;
        }
    }
    let cell_to_point = mesh
        .blocks
        .iter()
        .zip(elements)
        .enumerate()
        .map(|(b, (block, element))| {
            let slots = slots(element, block.shape, &levels);
            let n_nodes = element.n_nodes();
            let mut table = vec![NONE; block.n_cells * n_nodes];
            table.par_chunks_mut(n_nodes).enumerate().with_min_len(1024).for_each(|(cell, points)| {
                for slot in &slots {
                    let entities = &levels[slot.level].1.cell_to_entity[b];
                    let start = starts[slot.level][entities[cell * slot.per_cell + slot.local] as usize];
                    if let [node] = slot.nodes {
                        points[*node as usize] = start;
                        continue;
                    }
                    let mut order = None;
                    if slot.turns {
                        let mut vertices = [0u64; 8];
                        let corners = corners_naming(corners, block, cell, slot.dim, slot.local);
                        for (v, &k) in vertices.iter_mut().zip(slot.vertices) {
                            *v = global(corners[k as usize]);
                        }
                        let vertices = &vertices[..slot.vertices.len()];
                        order = Some(element.canonical_order(slot.dim, slot.local, vertices));
                    }
                    for (k, &node) in slot.nodes.iter().enumerate() {
                        points[node as usize] = start + order.map_or(k, |o| o[k] as usize) as u32;
                    }
                }
            });
            table.into()
        })
        .collect();
    let map = IndexMap::from_parts(n_owned, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    Lattice { map, halo, cell_to_point }
}

/// An entity of the reference cell that has points.
struct Slot<'a> {
    level: usize,
    dim: usize,
    local: usize,
    /// Entities of this dimension that a cell has.
    per_cell: usize,
    /// The cell's nodes on it, and its vertices.
    nodes: &'a [u16],
    vertices: &'a [u8],
    /// Whether the order of its points depends on the cell.
    turns: bool,
}

fn slots<'a>(element: &'a Lagrange, shape: Shape, levels: &[(usize, Entities)]) -> Vec<Slot<'a>> {
    let mut slots = Vec::new();
    for (level, &(dim, _)) in levels.iter().enumerate() {
        let per_cell = shape.n_entities(dim);
        for local in 0..per_cell {
            let nodes = element.entity_nodes(dim, local);
            if !nodes.is_empty() {
                let turns = dim > 0 && dim < shape.dim() && nodes.len() > 1;
                let vertices = shape.entity_vertices(dim, local);
                slots.push(Slot { level, dim, local, per_cell, nodes, vertices, turns });
            }
        }
    }
    slots
}
