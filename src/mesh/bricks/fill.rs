//! Writing a rank's arrays, brick by brick, once vertices have their numbers.
//!
//! Imports `mesh`. Start at [`cells`]. Bricks write disjoint stretches of every array, so threads share them
//! and the result does not depend on their number. What bounds these loops is the memory they fill, most of
//! it touched for the first time: 26 bytes a tetrahedron, 32 a vertex.

use rayon::prelude::*;

use super::super::EntityTag;
use super::super::boxes;
use super::Plan;
use super::bisect::Cuboid;
use super::layout::{Brick, Layout};
use super::local::{GhostCell, NONE};
use super::window::{Axis, Window};
use crate::element::Shape;

/// Bricks that a thread takes at once.
const BATCH: usize = 8;

/// What each of a cuboid's nodes along each axis adds to its index in the window.
pub(super) fn node_offsets(plan: &Plan, window: &Window, c: &Cuboid, out: &mut [Vec<usize>; 3]) {
    for (d, out) in out.iter_mut().enumerate() {
        let high = if d < plan.dim() { c.high[d] } else { c.low[d] };
        window.offsets(d, c.low[d] as i64, high as i64, out);
    }
}

/// Cuts an array into the stretches of batches of bricks: `end(batch)` is where each one ends.
fn batches<'a, T>(
    bricks: &'a [Brick],
    mut array: &'a mut [T],
    end: impl Fn(usize) -> usize,
) -> Vec<(&'a [Brick], &'a mut [T])> {
    let mut begin = 0;
    let mut out = Vec::with_capacity(bricks.len().div_ceil(BATCH));
    for (k, batch) in bricks.chunks(BATCH).enumerate() {
        let end = end((k * BATCH + batch.len()).min(bricks.len()));
        let (mine, rest) = std::mem::take(&mut array).split_at_mut(end - begin);
        (array, begin) = (rest, end);
        out.push((batch, mine));
    }
    out
}

/// The number of boxes before brick `k`.
fn boxes_before(layout: &Layout, k: usize) -> usize {
    layout.bricks.get(k).map_or(layout.n_boxes, |b| b.first)
}

/// The corners of all cells, owned ones first, as numbers from a table over the lattice's nodes.
pub(super) fn cells(
    plan: &Plan,
    layout: &Layout,
    ghosts: &[GhostCell],
    window: &Window,
    table: &[u32],
) -> Vec<u32> {
    let cells_of = match plan.shape {
        Shape::Interval => cells_of::<2, 1>,
        Shape::Triangle => cells_of::<3, 2>,
        Shape::Quadrilateral => cells_of::<4, 1>,
        Shape::Tetrahedron => cells_of::<4, 6>,
        _ => cells_of::<8, 1>,
    };
    cells_of(plan, layout, ghosts, window, table)
}

/// Cells of `N` corners, `P` a box.
fn cells_of<const N: usize, const P: usize>(
    plan: &Plan,
    layout: &Layout,
    ghosts: &[GhostCell],
    window: &Window,
    table: &[u32],
) -> Vec<u32> {
    let parts: [[usize; N]; P] = std::array::from_fn(|p| std::array::from_fn(|v| plan.parts[p][v].into()));
    let n_corners = 1 << plan.dim();
    let owned = layout.n_boxes * P * N;
    let mut out = vec![0u32; owned + ghosts.len() * N];
    let (of_owned, of_ghosts) = out.split_at_mut(owned);
    let work = batches(&layout.bricks, of_owned, |k| boxes_before(layout, k) * P * N);
    work.into_par_iter().for_each_init(
        || [Vec::new(), Vec::new(), Vec::new()],
        |offsets, (bricks, out)| {
            let mut out = out.chunks_exact_mut(P * N);
            for Brick { cuboid: c, .. } in bricks {
                node_offsets(plan, window, c, offsets);
                let [nx, ny, nz] = std::array::from_fn(|d| (c.high[d] - c.low[d]) as usize);
                for z in 0..nz {
                    for y in 0..ny {
                        for x in 0..nx {
                            let mut corners = [0u32; 8];
                            for (k, corner) in corners[..n_corners].iter_mut().enumerate() {
                                *corner = table[offsets[0][x + (k & 1)]
                                    + offsets[1][y + (k >> 1 & 1)]
                                    + offsets[2][z + (k >> 2)]];
                            }
                            let out = out.next().expect("room for each box");
                            for (cell, part) in out.chunks_exact_mut(N).zip(&parts) {
                                for (v, &k) in cell.iter_mut().zip(part) {
                                    *v = corners[k & 7];
                                }
                            }
                        }
                    }
                }
            }
        },
    );
    for (cell, ghost) in of_ghosts.chunks_exact_mut(N).zip(ghosts) {
        for (v, &corner) in cell.iter_mut().zip(&parts[ghost.part as usize]) {
            let at = std::array::from_fn(|d| ghost.at[d] as i64 + (corner >> d & 1) as i64);
            *v = table[window.index(at).expect("ghosts lie in the window")];
        }
    }
    out
}

/// The cells' numbers, as [`boxes::generate`] gives them.
pub(super) fn ids(plan: &Plan, layout: &Layout, ghosts: &[GhostCell]) -> Vec<u64> {
    let n_parts = plan.parts.len();
    let cells = plan.lattice.cells;
    let first = |x: u64, y: u64, z: u64| (x + cells[0] * (y + cells[1] * z)) * n_parts as u64 + 1;
    let owned = layout.n_boxes * n_parts;
    let mut out = vec![0u64; owned + ghosts.len()];
    let (of_owned, of_ghosts) = out.split_at_mut(owned);
    let work = batches(&layout.bricks, of_owned, |k| boxes_before(layout, k) * n_parts);
    work.into_par_iter().for_each(|(bricks, out)| {
        let mut out = out.iter_mut();
        for Brick { cuboid: c, .. } in bricks {
            for z in c.low[2]..c.high[2] {
                for y in c.low[1]..c.high[1] {
                    // The cells of a row of boxes have consecutive numbers.
                    let row = first(c.low[0], y, z)..first(c.high[0], y, z);
                    out.by_ref().zip(row).for_each(|(id, number)| *id = number);
                }
            }
        }
    });
    for (id, ghost) in of_ghosts.iter_mut().zip(ghosts) {
        let [x, y, z] = ghost.at;
        *id = first(x, y, z) + u64::from(ghost.part);
    }
    out
}

/// Coordinates and numbers in the lattice of all vertices: those that each brick has given numbers to, from
/// `first` of the brick on, then the ghosts with their `ids`.
pub(super) fn nodes(
    plan: &Plan,
    layout: &Layout,
    window: &Window,
    table: &[u32],
    first: &[u32],
    ghosts: &[u64],
) -> (Vec<[f64; 3]>, Vec<u64>) {
    let n_owned = *first.last().expect("one more than bricks") as usize;
    let mut points = vec![[0.0; 3]; n_owned + ghosts.len()];
    let mut ids = vec![0u64; n_owned + ghosts.len()];
    let (owned_points, ghost_points) = points.split_at_mut(n_owned);
    let (owned_ids, ghost_ids) = ids.split_at_mut(n_owned);
    let end = |k: usize| first[k] as usize;
    let work = batches(&layout.bricks, owned_points, end);
    let work: Vec<_> = work.into_iter().zip(batches(&layout.bricks, owned_ids, end)).enumerate().collect();
    let of = plan.lattice.nodes;
    work.into_par_iter().for_each_init(
        || [Vec::new(), Vec::new(), Vec::new()],
        |offsets, (k, ((bricks, points), (_, ids)))| {
            let mut next = first[k * BATCH];
            let mut out = points.iter_mut().zip(ids);
            for Brick { cuboid: c, .. } in bricks {
                node_offsets(plan, window, c, offsets);
                for (k, &z) in offsets[2].iter().enumerate() {
                    for (j, &y) in offsets[1].iter().enumerate() {
                        for (i, &x) in offsets[0].iter().enumerate() {
                            // The bricks came here in the same order when numbers were given.
                            if table[x + y + z] != next {
                                continue;
                            }
                            let Some((point, id)) = out.next() else { return };
                            let at = [c.low[0] + i as u64, c.low[1] + j as u64, c.low[2] + k as u64];
                            *point = plan.coordinates(at);
                            *id = 1 + at[0] + of[0] * (at[1] + of[1] * at[2]);
                            next += 1;
                        }
                    }
                }
            }
        },
    );
    for ((point, id), &ghost) in ghost_points.iter_mut().zip(ghost_ids).zip(ghosts) {
        *point = plan.coordinates(boxes::place(ghost - 1, of));
        *id = ghost;
    }
    (points, ids)
}

/// Nodes that are not the vertices, because the lattice comes round: their coordinates, numbers in the
/// lattice, and the nodes of all cells. They are numbered in the order of the cells. The boxes seen lie
/// from `low` to before `high`.
pub(super) fn nodes_apart(
    plan: &Plan,
    layout: &Layout,
    ghosts: &[GhostCell],
    low: [i64; 3],
    high: [i64; 3],
) -> (Vec<[f64; 3]>, Vec<u64>, Vec<u32>) {
    let (cells_along, of) = (plan.lattice.cells, plan.lattice.nodes);
    // Both ends of a periodic axis have nodes, so going round passes one more node than boxes, and a stretch
    // that goes over the end has one more than a stretch that does not.
    let window = Window {
        axes: std::array::from_fn(|d| match plan.wraps[d] {
            false => Axis::new(low[d], high[d] + i64::from(d < plan.dim()), of[d], false),
            true => {
                let first = low[d].rem_euclid(cells_along[d] as i64);
                Axis::new(first, first + high[d] - low[d] + 2, of[d], true)
            }
        }),
    };
    let mut table = vec![NONE; window.n_places()];
    let (mut points, mut ids) = (Vec::new(), Vec::new());
    let mut meet = |slot: usize, at: [u64; 3]| {
        if table[slot] == NONE {
            table[slot] = ids.len() as u32;
            ids.push(1 + at[0] + of[0] * (at[1] + of[1] * at[2]));
            points.push(plan.coordinates(at));
        }
    };
    let mut offsets = [Vec::new(), Vec::new(), Vec::new()];
    for Brick { cuboid: c, .. } in &layout.bricks {
        node_offsets(plan, &window, c, &mut offsets);
        for (k, &z) in offsets[2].iter().enumerate() {
            for (j, &y) in offsets[1].iter().enumerate() {
                for (i, &x) in offsets[0].iter().enumerate() {
                    meet(x + y + z, [c.low[0] + i as u64, c.low[1] + j as u64, c.low[2] + k as u64]);
                }
            }
        }
    }
    for ghost in ghosts {
        for &corner in &plan.parts[ghost.part as usize] {
            let at: [u64; 3] = std::array::from_fn(|d| ghost.at[d] + u64::from(corner >> d & 1));
            meet(window.index(at.map(|x| x as i64)).expect("ghosts lie in the window"), at);
        }
    }
    let cell_to_node = cells(plan, layout, ghosts, &window, &table);
    (points, ids, cell_to_node)
}

/// The facets of all cells that lie on the sides, ascending.
pub(super) fn tags(plan: &Plan, layout: &Layout, ghosts: &[GhostCell]) -> Vec<EntityTag> {
    let dim = plan.dim() as u8 - 1;
    let n_parts = plan.parts.len();
    let n_owned = layout.n_boxes * n_parts;
    let mut tags = Vec::new();
    for (side, facets) in plan.sides.iter().enumerate() {
        let (group, axis) = (side as u16, side / 2);
        let plane = if side % 2 == 0 { 0 } else { plan.lattice.cells[axis] - 1 };
        let tag = |cell: usize, local: u8| EntityTag { group, block: 0, cell: cell as u32, dim, local };
        for Brick { cuboid: c, first } in &layout.bricks {
            if !(c.low[axis]..c.high[axis]).contains(&plane) {
                continue;
            }
            let [nx, ny] = [0, 1].map(|d| c.high[d] - c.low[d]);
            let mut layer = *c;
            (layer.low[axis], layer.high[axis]) = (plane, plane + 1);
            for z in layer.low[2]..layer.high[2] {
                for y in layer.low[1]..layer.high[1] {
                    for x in layer.low[0]..layer.high[0] {
                        let k = x - c.low[0] + nx * (y - c.low[1] + ny * (z - c.low[2]));
                        let cell = (first + k as usize) * n_parts;
                        tags.extend(facets.iter().map(|&(part, facet)| tag(cell + part as usize, facet)));
                    }
                }
            }
        }
        for (k, ghost) in ghosts.iter().enumerate().filter(|g| g.1.at[axis] == plane) {
            let of_part = facets.iter().filter(|f| f.0 == ghost.part);
            tags.extend(of_part.map(|&(_, facet)| tag(n_owned + k, facet)));
        }
    }
    debug_assert!(tags.is_sorted());
    tags
}
