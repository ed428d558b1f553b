//! From degree p to degree 1: the prolongation of p-multigrid, from the vertices of the mesh to the nodes of a
//! space.
//!
//! Imports `assembly`, `mesh`, `space`, `element`. Start at [`to_vertices`]. The coarse problem is that of
//! degree 1 with the same conditions: a vertex is prescribed where its node is, in the node's frame. A
//! continuous piecewise function of degree 1 lies in the space of degree p, so a row has the same values in
//! every cell that holds its node. Where cells hang, both spaces are continuous by interpolation from the
//! same parents, so that stays true; vertices that hang are none of the coarse problem's.

use cluster::Halo;

use super::multigrid::Transfer;
use crate::assembly::{Constraints, Matrix, Pattern, Problem};
use crate::element::{Lagrange, Nodes};
use crate::space::{Order, Space};

/// The near-null space of a law as functions of the place.
pub struct Modes<'a> {
    /// How many there are.
    pub n: usize,
    /// One of them at a point, Cartesian, by components.
    pub at: &'a dyn Fn(usize, &[f64; 3]) -> [f64; 3],
}

/// Values below this are zero: nodes lie on vertices, edges and faces to round-off.
const ZERO: f64 = 1e-9;

const NONE: u32 = u32::MAX;

/// The prolongation to the owned nodes of a problem's space from the space of degree 1, with the latter's matrix where
/// that is wanted and the tangent is constant: assembled, it takes less than the product with the prolongation, and
/// is the same. Collective.
pub fn to_vertices(
    problem: &dyn Problem,
    constraints: &Constraints,
    modes: &Modes,
    with_matrix: bool,
) -> Transfer {
    let _span = tracing::debug_span!("transfer").entered();
    let (d, components) = (problem.discretisation(), problem.components());
    let (mesh, space) = (d.mesh, d.space);
    let n_owned = space.map.n_owned();
    // Of every owned node the first cell that holds it, and its place there: cells come in the same order
    // whatever the number of threads.
    let mut holder = vec![[NONE; 3]; n_owned];
    let coarse = Space::new(mesh, 1, Order::Curve).expect("every shape has degree 1");
    let map = &coarse.map;
    let vertices_of = |b: usize, cell: usize| {
        let n = mesh.blocks[b].shape.n_vertices();
        &coarse.cell_to_node[b][cell * n..][..n]
    };
    // Of every vertex its node, whose conditions it shares, and its place.
    let n_vertices = map.n_local();
    let n_own_vertices = map.n_owned();
    let mut node_of = vec![NONE; n_vertices];
    let mut place = vec![[0.0; 3]; n_own_vertices];
    let mut placed = vec![false; n_vertices];
    for (b, block) in mesh.blocks.iter().enumerate() {
        let corners: Vec<u16> =
            (0..block.shape.n_vertices()).map(|v| space.elements[b].entity_nodes(0, v)[0]).collect();
        for cell in 0..block.n_cells {
            let nodes = space.nodes(b, cell);
            let hanging = space.interpolation(b, cell);
            let is_parents = |k: usize| hanging.is_some_and(|c| c.is_parents(k));
            for (k, &node) in nodes.iter().enumerate().filter(|(k, _)| !is_parents(*k)) {
                if let Some(holder) = holder.get_mut(node as usize).filter(|h| h[0] == NONE) {
                    *holder = [b as u32, cell as u32, k as u32];
                }
            }
            for (v, &vertex) in vertices_of(b, cell).iter().enumerate() {
                let vertex = vertex as usize;
                let hangs = is_parents(corners[v] as usize);
                if node_of[vertex] == NONE || (!hangs && !placed[vertex]) {
                    node_of[vertex] = nodes[corners[v] as usize];
                    placed[vertex] = !hangs;
                    if !hangs && vertex < n_own_vertices {
                        place[vertex] = mesh.nodes[block.nodes(cell)[v] as usize];
                    }
                }
            }
        }
    }
    let bases: Vec<_> = mesh
        .blocks
        .iter()
        .zip(&space.elements)
        .map(|(block, element)| {
            Lagrange::new(block.shape, 1, Nodes::Spectral)
                .expect("every shape has degree 1")
                .tabulate(element.nodes(), 0)
        })
        .collect();
    let mut ptr = Vec::with_capacity(n_owned + 1);
    ptr.push(0u32);
    let mut col: Vec<u32> = Vec::new();
    let mut val: Vec<f32> = Vec::new();
    let mut row: Vec<(u32, f64)> = Vec::with_capacity(8);
    let mut scratch = Vec::new();
    for (node, &[b, cell, k]) in holder.iter().enumerate() {
        let (b, cell, k) = (b as usize, cell as usize, k as usize);
        row.clear();
        let values = bases[b].values_at(k);
        // At degree 1, the values at a cell's own vertices may be interpolated in their turn.
        let hanging = coarse.interpolation(b, cell);
        let interpolated;
        let values = match hanging {
            Some(hanging) => {
                let mut at_slots = values.to_vec();
                hanging.scatter(&mut at_slots, 1, &mut scratch);
                interpolated = at_slots;
                &interpolated[..]
            }
            None => values,
        };
        for (&vertex, &value) in vertices_of(b, cell).iter().zip(values) {
            // A vertex may meet a cell twice where the mesh is periodic.
            match row.iter_mut().find(|r| r.0 == vertex) {
                _ if value.abs() < ZERO => {}
                Some(r) => r.1 += value,
                None => row.push((vertex, value)),
            }
        }
        row.sort_unstable_by_key(|r| r.0);
        for &(vertex, value) in &row {
            let corner = node_of[vertex as usize] as usize;
            col.push(vertex);
            for a in 0..components {
                for c in 0..components {
                    val.push((value * turned(constraints, components, (node, a), (corner, c))) as f32);
                }
            }
        }
        ptr.push(col.len() as u32);
    }
    let mut near_null = vec![vec![0.0; n_own_vertices * components]; modes.n];
    for (m, mode) in near_null.iter_mut().enumerate() {
        for (vertex, values) in mode.chunks_exact_mut(components).enumerate() {
            let vector = (modes.at)(m, &place[vertex]);
            let corner = node_of[vertex] as usize;
            for (c, value) in values.iter_mut().enumerate().filter(|(c, _)| !constraints.is_fixed(corner, *c))
            {
                *value = constraints.along(corner, c, &vector);
            }
        }
    }
    let matrix = (with_matrix && problem.is_constant())
        .then(|| coarse_matrix(problem, &coarse, &constraints.of_nodes(&node_of)))
        .flatten();
    let map = map.clone();
    let halo = Halo::new(&mesh.comm, &map);
    Transfer { map, halo, block: components, ptr, col, val, near_null, matrix }
}

/// The matrix of the problem on the space of degree 1; none where that has cells turned inside out. Collective.
fn coarse_matrix(
    problem: &dyn Problem,
    coarse: &Space,
    constraints: &Constraints,
) -> Option<(Pattern, Matrix)> {
    let _span = tracing::debug_span!("coarse matrix").entered();
    let problem = problem.on_space(coarse);
    let pattern = Pattern::new(coarse);
    let mut matrix = Matrix::new(&pattern, problem.components());
    let made = problem.assemble_constant(&pattern, constraints, &mut matrix);
    let failed = problem.discretisation().mesh.comm.any(made.is_err());
    (!failed).then_some((pattern, matrix))
}

/// Component `fine.1` in the frame of node `fine.0` of the unit vector that component `coarse.1` is in the
/// frame of node `coarse.0`; zero where either is prescribed.
fn turned(constraints: &Constraints, components: usize, fine: (usize, usize), coarse: (usize, usize)) -> f64 {
    if constraints.is_fixed(fine.0, fine.1) || constraints.is_fixed(coarse.0, coarse.1) {
        return 0.0;
    }
    (0..components)
        .map(|d| {
            let mut unit = [0.0; 3];
            unit[d] = 1.0;
            constraints.along(fine.0, fine.1, &unit) * constraints.along(coarse.0, coarse.1, &unit)
        })
        .sum()
}
