//! Numbering the points of a lattice of any degree on the cells of a distributed mesh.
//!
//! What a Lagrange space numbers as its DOFs, and what refinement numbers as the next mesh's nodes.
//! Points belong to vertices, edges, faces and cells; on an edge or a face they are counted in an order
//! that all cells around it agree on.

use cluster::{Halo, IndexMap};

use super::entities::{self, Entities};
use super::{Block, Mesh};
use crate::element::Lagrange;

/// Which vertices tell whether two cells' entities are the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corners {
    /// Topological vertices: both sides of a periodic pair are one.
    Vertices,
    /// Geometry nodes: every point has its own coordinates.
    Nodes,
}

/// A global numbering of lattice points.
pub struct Lattice {
    /// Owned points first, then ghosts.
    pub map: IndexMap,
    /// Moves values from owners to ghosts.
    pub halo: Halo,
    /// Per block: `n_cells * n_points`, in the order of the element's nodes.
    pub cell_to_point: Vec<Vec<u32>>,
}

/// Numbers the nodes of `elements` (one a block, all of one degree). Collective.
pub fn number(mesh: &Mesh, elements: &[Lagrange], corners: Corners) -> Lattice {
    let comm = &mesh.comm;
    // With one numbering for both, the vertices' own is used as it stands.
    let corners = if mesh.nodes_are_vertices { Corners::Vertices } else { corners };
    let corner_of = |block: &Block, cell: usize, k: usize| match corners {
        Corners::Vertices => block.vertices(cell)[k],
        Corners::Nodes => block.nodes(cell)[k],
    };
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
    let mut levels: Vec<(usize, Entities)> = Vec::new();
    for dim in 0..=mesh.dim {
        if !carries(dim) {
            continue;
        }
        if dim == 0 && corners == Corners::Vertices {
            let cell_to_entity = mesh.blocks.iter().map(|b| b.cell_to_vertex.clone()).collect();
            let map = mesh.vertices.map.clone();
            let halo = Halo::new(comm, &map);
            levels.push((0, Entities { map, halo, cell_to_entity }));
            continue;
        }
        let found = match corners {
            _ if dim == mesh.dim => entities::cells(&mesh.blocks),
            Corners::Vertices => entities::find(&mesh.blocks, dim, n_corners, |b, c| b.vertices(c), global),
            Corners::Nodes => entities::find(&mesh.blocks, dim, n_corners, |b, c| b.nodes(c), global),
        };
        levels.push((dim, entities::number(comm, &mesh.blocks, found)));
    }

    // Points of an entity are consecutive; entities are taken in the order in which cells meet them, so
    // that points of a cell are near each other in the matrix.
    const NONE: u32 = u32::MAX;
    let mut starts: Vec<Vec<u32>> = levels.iter().map(|l| vec![NONE; l.1.map.n_local()]).collect();
    let mut n_points = 0u32;
    let mut n_owned = 0;
    for pass in 0..2 {
        for (b, (block, element)) in mesh.blocks.iter().zip(elements).enumerate() {
            for cell in 0..block.n_cells {
                for ((dim, entities), starts) in levels.iter().zip(&mut starts) {
                    let n = block.shape.n_entities(*dim);
                    for i in 0..n {
                        let e = entities.cell_to_entity[b][cell * n + i] as usize;
                        let owned = e < entities.map.n_owned();
                        if starts[e] == NONE && owned == (pass == 0) {
                            starts[e] = n_points;
                            n_points += element.entity_nodes(*dim, i).len() as u32;
                        }
                    }
                }
            }
        }
        if pass == 0 {
            n_owned = n_points as usize;
        }
    }
    let offset = comm.exclusive_sum(n_owned as u64);
    let n_global = comm.sum(n_owned as u64);

    // Ghost entities learn their first point's global number from the owner.
    let mut ghosts = vec![u64::MAX; n_points as usize - n_owned];
    let mut owners = vec![0u32; ghosts.len()];
    let mut first_global: Vec<Vec<u64>> = Vec::new();
    for ((_, entities), starts) in levels.iter().zip(&starts) {
        let mut first: Vec<u64> = starts.iter().map(|&s| offset + u64::from(s)).collect();
        entities.halo.forward(&mut first, 1);
        first_global.push(first);
    }
    let mut cell_to_point = Vec::with_capacity(mesh.blocks.len());
    for (b, (block, element)) in mesh.blocks.iter().zip(elements).enumerate() {
        let n_nodes = element.n_nodes();
        let mut table = vec![NONE; block.n_cells * n_nodes];
        for cell in 0..block.n_cells {
            let points = &mut table[cell * n_nodes..][..n_nodes];
            for (level, (dim, entities)) in levels.iter().enumerate() {
                let n = block.shape.n_entities(*dim);
                for i in 0..n {
                    let nodes = element.entity_nodes(*dim, i);
                    if nodes.is_empty() {
                        continue;
                    }
                    let e = entities.cell_to_entity[b][cell * n + i] as usize;
                    let start = starts[level][e];
                    let mut vertices = [0u64; 8];
                    let entity = block.shape.entity_vertices(*dim, i);
                    if *dim > 0 && *dim < mesh.dim {
                        for (v, &k) in vertices.iter_mut().zip(entity) {
                            *v = global(corner_of(block, cell, k as usize));
                        }
                    }
                    let order = (*dim > 0 && *dim < mesh.dim && nodes.len() > 1)
                        .then(|| element.canonical_order(*dim, i, &vertices[..entity.len()]));
                    for (k, &node) in nodes.iter().enumerate() {
                        let at = order.map_or(k, |o| o[k] as usize) as u32;
                        points[node as usize] = start + at;
                        if e >= entities.map.n_owned() {
                            let g = (start + at) as usize - n_owned;
                            ghosts[g] = first_global[level][e] + u64::from(at);
                            owners[g] = entities.map.ghost_owners()[e - entities.map.n_owned()];
                        }
                    }
                }
            }
        }
        cell_to_point.push(table);
    }
    let map = IndexMap::from_parts(n_owned, offset, n_global, ghosts, owners);
    let halo = Halo::new(comm, &map);
    Lattice { map, halo, cell_to_point }
}
