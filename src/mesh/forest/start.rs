//! From a mesh to a forest of roots.
//!
//! Imports `mesh`. Start at [`Forest::new`].

use std::cmp::Ordering;

use super::names::{self, ByPair, Name};
use super::sharers::RankSets;
use super::simplex;
use super::store::{Head, LeafTag, Leaves, NONE, Points, Root, mark};
use super::tensor::Tensor;
use super::{Forest, Mesh, MeshError, compact};
use crate::element::{GeometryKind, Shape};
use crate::mesh::Block;

/// The name of each of `n` points of a mesh: a hash of the least (block, cell, place in the cell) that has it,
/// which does not depend on how the mesh is dealt out. Points of owned cells have all their cells here.
fn initial_names<'a>(mesh: &'a Mesh, n: usize, points: impl Fn(&'a Block, usize) -> &'a [u32]) -> Vec<Name> {
    let mut least = vec![(u64::MAX, u64::MAX, u64::MAX); n];
    for (b, block) in mesh.blocks.iter().enumerate() {
        for cell in 0..block.n_cells {
            for (local, &p) in points(block, cell).iter().enumerate() {
                let here = (b as u64, block.ids[cell], local as u64);
                let slot = &mut least[p as usize];
                *slot = here.min(*slot);
            }
        }
    }
    least.into_iter().map(|(b, id, local)| names::initial(b, id, local)).collect()
}

/// An edge as all cells that have it see it: longer ones first, lengths that agree to six digits by name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EdgeKey {
    length: u64,
    ends: [Name; 2],
}

/// The length of an edge for comparisons: twenty bits of the mantissa of its square, rounded. Positive numbers
/// compare as their bits do.
fn length(a: [f64; 3], b: [f64; 3]) -> u64 {
    let square: f64 = (0..3).map(|d| (a[d] - b[d]) * (a[d] - b[d])).sum();
    (square.to_bits() + (1 << 31)) >> 32
}

/// The edges that have several images, by pair of vertices, and the greatest length of each: round-off must not
/// tell the two sides of a periodic mesh apart. All cells that have an edge of an owned cell are here.
fn lengths_of_images(mesh: &Mesh, shape: Shape) -> (ByPair, Vec<u64>) {
    let (mut edges, mut lengths) = (ByPair::new(), Vec::new());
    for block in mesh.blocks.iter().filter(|_| !mesh.periodic.is_empty()) {
        for cell in 0..block.n_cells {
            let (vertices, nodes) = (block.vertices(cell), block.nodes(cell));
            for e in 0..shape.n_entities(1) {
                let [a, b] = [0, 1].map(|k| shape.entity_vertices(1, e)[k] as usize);
                let here = length(mesh.nodes[nodes[a] as usize], mesh.nodes[nodes[b] as usize]);
                match edges.get(vertices[a], vertices[b]) {
                    Some(k) => lengths[k as usize] = here.max(lengths[k as usize]),
                    None => {
                        edges.insert(vertices[a], vertices[b], lengths.len() as u32);
                        lengths.push(here);
                    }
                }
            }
        }
    }
    (edges, lengths)
}

impl EdgeKey {
    fn cmp(&self, other: &EdgeKey) -> Ordering {
        (self.length, self.ends).cmp(&(other.length, other.ends))
    }
}

impl Forest {
    /// The forest of a mesh of quadrilaterals or hexahedra.
    fn of_tensors(mesh: &Mesh, shape: Shape) -> Forest {
        let n = shape.n_vertices();
        let vertex_names = initial_names(mesh, mesh.vertices.map.n_local(), |b, c| b.vertices(c));
        let tensor = if mesh.nodes_are_vertices {
            Tensor::new(mesh, shape, &vertex_names, &vertex_names)
        } else {
            let node_names = initial_names(mesh, mesh.nodes.len(), |b, c| &b.nodes(c)[..n]);
            Tensor::new(mesh, shape, &vertex_names, &node_names)
        };
        Forest {
            comm: mesh.comm.clone(),
            dim: mesh.dim,
            shape,
            geometries: Vec::new(),
            groups: Vec::new(),
            sets: Vec::new(),
            periodic: Vec::new(),
            cuts: 1,
            roots: Vec::new(),
            leaves: Leaves::default(),
            points: Points::default(),
            rank_sets: RankSets::new(),
            tensor: Some(Box::new(tensor)),
        }
    }

    /// The forest whose roots are the cells of a mesh, and are not cut yet. Collective.
    ///
    /// # Errors
    /// Quadrilaterals beside triangles, hexahedra beside tetrahedra; a mesh with hanging nodes.
    pub fn new(mesh: &Mesh) -> Result<Forest, MeshError> {
        let _span = tracing::debug_span!("forest start").entered();
        let shape = match mesh.dim {
            1 => Shape::Interval,
            2 => Shape::Triangle,
            _ => Shape::Tetrahedron,
        };
        let tensor = match mesh.dim {
            2 => Shape::Quadrilateral,
            _ => Shape::Hexahedron,
        };
        if mesh.may_hang() {
            return Err(MeshError::Forest("a mesh with hanging nodes cannot be the root of a forest".into()));
        }
        if mesh.dim > 1 && mesh.blocks.iter().all(|b| b.shape == tensor) {
            return Ok(Forest::of_tensors(mesh, tensor));
        }
        if let Some(block) = mesh.blocks.iter().find(|b| b.shape != shape) {
            let (what, beside) = (block.shape.plural_name(), shape.plural_name());
            let what =
                format!("{what} beside {beside} cannot be refined adaptively: use a mesh of one shape");
            return Err(MeshError::Forest(what));
        }
        let n_corners = shape.n_vertices();
        let plain = mesh.nodes_are_vertices;
        let curved = mesh.blocks.iter().any(|b| b.geometry != GeometryKind::Linear);
        let n_nodes = match (plain, curved) {
            (true, _) => 0,
            (_, false) => n_corners,
            _ => GeometryKind::Quadratic.n_nodes(shape),
        };
        let n = mesh.n_owned_cells();
        let mut leaves = Leaves { n_corners, n_nodes, ..Leaves::default() };
        let mut roots: Vec<Root> = Vec::with_capacity(n);

        let vertex_names = initial_names(mesh, mesh.vertices.map.n_local(), |b, c| b.vertices(c));
        let mut node_names = Vec::new();
        if !plain {
            node_names = initial_names(mesh, mesh.nodes.len(), |b, c| &b.nodes(c)[..n_corners]);
            // Nodes inside edges are their midpoints.
            for block in mesh.blocks.iter().filter(|b| b.geometry != GeometryKind::Linear) {
                for cell in 0..block.n_cells {
                    let nodes = block.nodes(cell);
                    for e in 0..shape.n_entities(1) {
                        let [a, b] = [0, 1].map(|k| nodes[shape.entity_vertices(1, e)[k] as usize] as usize);
                        node_names[nodes[n_corners + e] as usize] =
                            names::midpoint(node_names[a], node_names[b]);
                    }
                }
            }
        }
        let mut rank_sets = RankSets::new();
        let mut sharers = vec![0u32; vertex_names.len()];
        for block in &mesh.blocks {
            for cell in block.n_owned..block.n_cells {
                let (rank, _) = block.ghosts[cell - block.n_owned];
                for &v in block.vertices(cell) {
                    sharers[v as usize] = rank_sets.with(sharers[v as usize], rank);
                }
            }
        }

        let (images, image_lengths) = lengths_of_images(mesh, shape);
        let n_before = mesh.comm.exclusive_sum(n as u64);
        let mut tags: Vec<LeafTag> = Vec::new();
        let mut begin = 0u32;
        let mut first_leaf = Vec::new();
        for (b, block) in mesh.blocks.iter().enumerate() {
            first_leaf.push(begin);
            for cell in 0..block.n_owned {
                let vertices = block.vertices(cell);
                let nodes = block.nodes(cell);
                let ends = |e: usize| {
                    let [a, b] = [0, 1].map(|k| shape.entity_vertices(1, e)[k] as usize);
                    let length = match images.get(vertices[a], vertices[b]) {
                        Some(k) => image_lengths[k as usize],
                        None => length(mesh.nodes[nodes[a] as usize], mesh.nodes[nodes[b] as usize]),
                    };
                    let [a, b] = [a, b].map(|i| vertex_names[vertices[i] as usize]);
                    EdgeKey { length, ends: [a.max(b), a.min(b)] }
                };
                let (state, order) = simplex::root(shape, |e, f| ends(e).cmp(&ends(f)).is_gt());
                let place = (b as u64) << 48 | (n_before + u64::from(begin) + cell as u64);
                roots.push(Root { id: block.ids[cell], place, state, order });
                let root = begin + cell as u32;
                let set = block.sets[cell];
                leaves.heads.push(Head { path: 0, root, set, level: 0, state, order, mark: mark::KEEP });
                let mut list = [0usize; 4];
                (0..n_corners).for_each(|i| list[simplex::corner_of(order, i)] = i);
                let list = &list[..n_corners];
                leaves.corners.extend(list.iter().map(|&i| vertices[i]));
                if !plain {
                    leaves.nodes.extend(list.iter().map(|&i| nodes[i]));
                    for e in 0..n_nodes - n_corners {
                        if block.geometry == GeometryKind::Linear {
                            leaves.nodes.push(NONE);
                            continue;
                        }
                        let [a, b] = [0, 1].map(|k| list[shape.entity_vertices(1, e)[k] as usize]);
                        leaves.nodes.push(nodes[n_corners + simplex::EDGE[a][b] as usize]);
                    }
                }
            }
            begin += block.n_owned as u32;
        }
        for t in &mesh.tags {
            let block = &mesh.blocks[t.block as usize];
            if t.cell as usize >= block.n_owned {
                continue;
            }
            let leaf = first_leaf[t.block as usize] + t.cell;
            let order = leaves.heads[leaf as usize].order;
            let vertices = shape.entity_vertices(t.dim as usize, t.local as usize);
            let corners =
                vertices.iter().fold(0, |bits, &v| bits | 1 << simplex::corner_of(order, v as usize));
            tags.push(LeafTag { leaf, group: t.group, dim: t.dim, corners });
        }
        tags.sort_unstable();
        leaves.tags = tags;
        let mut points = Points { names: vertex_names, sharers, coordinates: mesh.nodes.clone(), node_names };
        compact(&mut leaves, &mut points);
        Ok(Forest {
            comm: mesh.comm.clone(),
            dim: mesh.dim,
            shape,
            geometries: mesh.blocks.iter().map(|b| b.geometry).collect(),
            groups: mesh.groups.clone(),
            sets: mesh.sets.clone(),
            periodic: mesh.periodic.clone(),
            cuts: mesh.dim as u8,
            roots,
            leaves,
            points,
            rank_sets,
            tensor: None,
        })
    }
}
