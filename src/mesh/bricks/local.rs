//! One rank's part of a box, all but the global numbers of others' vertices. No communication.
//!
//! Imports `mesh`. Start at [`Local::new`]. A rank looks at its boxes and at two layers round them: the
//! ghosts lie in the first, and who owns their farthest vertices depends on the second. Who owns a vertex
//! is decided as for all entities (see `entities`), by a hash of its number over the ranks round it.

use rayon::prelude::*;

use super::super::entities::mix;
use super::super::{EntityTag, MeshError, boxes};
use super::Plan;
use super::bisect::{Bisection, Cuboid, bounds};
use super::fill;
use super::layout::{Brick, Layout};
use super::window::{Axis, Window};

/// A vertex that another rank owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GhostVertex {
    pub owner: u32,
    /// Its number in the lattice, from 1; on a periodic axis that of its first image.
    pub id: u64,
}

/// A cell of another rank: its box, its part of the box, its owner, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GhostCell {
    pub owner: u32,
    pub number: u32,
    pub at: [u64; 3],
    pub part: u8,
}

/// A rank's part of a box.
#[derive(Debug)]
pub(super) struct Local {
    pub n_owned_cells: usize,
    pub n_owned_vertices: usize,
    /// Of owned cells, then of ghosts; flat.
    pub cell_to_vertex: Vec<u32>,
    /// The same for nodes, where they are not the vertices.
    pub cell_to_node: Option<Vec<u32>>,
    pub ids: Vec<u64>,
    pub ghost_cells: Vec<(u32, u32)>,
    pub ghosts: Vec<GhostVertex>,
    pub nodes: Vec<[f64; 3]>,
    pub node_ids: Vec<u64>,
    pub tags: Vec<EntityTag>,
    /// Facets to neighbours, of this rank's share: each is counted by the rank on its lesser side.
    pub edge_cut: u64,
    /// Local numbers of vertices over the rank's part of the lattice.
    table: Vec<u32>,
    window: Window,
}

/// No number yet; nothing there.
pub(super) const NONE: u32 = u32::MAX;
/// The owner of a box that the window does not reach.
const NOBODY: u16 = u16::MAX;

/// Who owns the boxes round a rank's own.
struct Surroundings {
    /// The ranks there, ascending.
    ranks: Vec<u32>,
    /// This rank's place among them.
    me: u16,
    /// Boxes, and for each the place of its owner in `ranks`.
    window: Window,
    owner: Vec<u16>,
    dim: usize,
}

impl Surroundings {
    /// `reach` is the region with two layers round it.
    fn new(plan: &Plan, bisection: &Bisection, rank: usize, low: [i64; 3], high: [i64; 3]) -> Surroundings {
        let (cells, dim) = (plan.lattice.cells, plan.dim());
        let window =
            Window { axes: std::array::from_fn(|d| Axis::new(low[d], high[d], cells[d], plan.wraps[d])) };
        // What the window covers of the lattice: on a periodic axis one or two stretches.
        let mut query = vec![Cuboid { low: [0; 3], high: cells }];
        for (d, axis) in window.axes.iter().enumerate() {
            let first = axis.first.rem_euclid(cells[d] as i64) as u64;
            let end = first + axis.len as u64;
            let stretches = [first..end.min(cells[d]), 0..end.saturating_sub(cells[d])];
            query = query
                .iter()
                .flat_map(|c| {
                    stretches.iter().filter(|s| !s.is_empty()).map(|s| {
                        let mut part = *c;
                        (part.low[d], part.high[d]) = (s.start, s.end);
                        part
                    })
                })
                .collect();
        }
        let pieces = bisection.pieces(&query);
        let mut ranks: Vec<u32> = pieces.iter().map(|p| p.0).collect();
        ranks.dedup();
        let place = |rank: u32| ranks.binary_search(&rank).expect("a rank of the pieces") as u16;
        let mut owner = vec![NOBODY; window.n_places()];
        for (rank, Cuboid { low, high }) in &pieces {
            let place = place(*rank);
            for z in low[2]..high[2] {
                for y in low[1]..high[1] {
                    let row = window.index([low[0] as i64, y as i64, z as i64]).expect("in the window");
                    owner[row..row + (high[0] - low[0]) as usize].fill(place);
                }
            }
        }
        Surroundings { me: place(rank as u32), ranks, window, owner, dim }
    }

    /// The place of a box's owner; `NOBODY` outside the lattice.
    fn owner(&self, at: [i64; 3]) -> u16 {
        self.window.index(at).map_or(NOBODY, |k| self.owner[k])
    }

    /// The place of a vertex's owner. All boxes round it must be in the window.
    fn owner_of_vertex(&self, at: [i64; 3], id: u64) -> u16 {
        let (mut candidates, mut n) = ([NOBODY; 8], 0);
        for corner in 0..1u8 << self.dim {
            let owner = self.owner(std::array::from_fn(|d| at[d] - i64::from(corner >> d & 1)));
            if owner != NOBODY && !candidates[..n].contains(&owner) {
                candidates[n] = owner;
                n += 1;
            }
        }
        candidates[..n].sort_unstable();
        candidates[(mix(id) % n as u64) as usize]
    }
}

/// Whether all boxes round a brick are of one cuboid: then the brick has no vertex of other ranks.
fn is_inside(plan: &Plan, region: &[Cuboid], brick: &Cuboid) -> bool {
    region.iter().any(|c| {
        (0..plan.dim()).all(|d| {
            let end = |at_end: bool| at_end && !plan.wraps[d];
            let (low, high) = (brick.low[d], brick.high[d]);
            (c.low[d] < low || (c.low[d] == low && end(low == 0)))
                && (high < c.high[d] || (high == c.high[d] && end(high == plan.lattice.cells[d])))
        })
    })
}

impl Local {
    /// The part of `rank`.
    pub fn new(plan: &Plan, bisection: &Bisection, rank: usize) -> Result<Local, MeshError> {
        let region = bisection.region(rank);
        let layout = Layout::new(&region, plan.dim());
        let Some(around) = bounds(&region) else { return Ok(Local::empty(plan)) };
        let dim = plan.dim();
        let reach = |d: usize| if d < dim { 2 } else { 0 };
        let low: [i64; 3] = std::array::from_fn(|d| around.low[d] as i64 - reach(d));
        let high: [i64; 3] = std::array::from_fn(|d| around.high[d] as i64 + reach(d));
        let axes = std::array::from_fn(|d| {
            let n = plan.vertices()[d];
            Axis::new(low[d], if d < dim { high[d] + 1 } else { 1 }, n, plan.wraps[d])
        });
        let window = Window { axes };
        let too_large = |n: u64, what: &str| MeshError::TooLarge { rank, n, what: what.into() };
        let n_places = axes.iter().map(|a| a.len as u128).product::<u128>();
        if n_places >= 1 << 31 {
            return Err(too_large(n_places as u64, "vertices"));
        }
        let n_parts = plan.parts.len();
        if (layout.n_boxes * n_parts) as u64 >= u64::from(NONE) {
            return Err(too_large((layout.n_boxes * n_parts) as u64, "cells"));
        }
        let round = Surroundings::new(plan, bisection, rank, low, high);
        let mut numbers = Numbers {
            plan,
            round: &round,
            window,
            table: vec![NONE; n_places as usize],
            n_owned: 0,
            ghosts: Vec::new(),
            slots: Vec::new(),
        };
        let first_vertex = numbers.of_bricks(&region, &layout.bricks);
        let ghosts = numbers.ghost_cells(bisection);
        let n_cells = layout.n_boxes * n_parts + ghosts.len();
        if n_cells as u64 >= u64::from(NONE) {
            return Err(too_large(n_cells as u64, "cells"));
        }
        numbers.of_ghost_cells(&ghosts);
        let edge_cut = numbers.edge_cut(&layout.bricks);
        let Numbers { mut table, n_owned, ghosts: ghost_vertices, slots, .. } = numbers;
        for (k, &slot) in slots.iter().enumerate() {
            table[slot as usize] = n_owned + k as u32;
        }

        let cell_to_vertex = fill::cells(plan, &layout, &ghosts, &window, &table);
        let ids = fill::ids(plan, &layout, &ghosts);
        let (nodes, node_ids, cell_to_node) = if plan.periodic.is_empty() {
            let ids: Vec<u64> = ghost_vertices.iter().map(|g| g.id).collect();
            let (nodes, ids) = fill::nodes(plan, &layout, &window, &table, &first_vertex, &ids);
            (nodes, ids, None)
        } else {
            let (nodes, ids, table) = fill::nodes_apart(plan, &layout, &ghosts, low, high);
            (nodes, ids, Some(table))
        };
        let tags = fill::tags(plan, &layout, &ghosts);
        Ok(Local {
            n_owned_cells: layout.n_boxes * n_parts,
            n_owned_vertices: n_owned as usize,
            cell_to_vertex,
            cell_to_node,
            ids,
            ghost_cells: ghosts.iter().map(|g| (g.owner, g.number)).collect(),
            ghosts: ghost_vertices,
            nodes,
            node_ids,
            tags,
            edge_cut,
            table,
            window,
        })
    }

    fn empty(plan: &Plan) -> Local {
        Local {
            n_owned_cells: 0,
            n_owned_vertices: 0,
            cell_to_vertex: Vec::new(),
            cell_to_node: (!plan.periodic.is_empty()).then(Vec::new),
            ids: Vec::new(),
            ghost_cells: Vec::new(),
            ghosts: Vec::new(),
            nodes: Vec::new(),
            node_ids: Vec::new(),
            tags: Vec::new(),
            edge_cut: 0,
            table: Vec::new(),
            window: Window { axes: [Axis { first: 0, len: 0, period: None }; 3] },
        }
    }

    /// Puts ghost vertices in the order of their global numbers, so that a space of degree 1 is numbered as
    /// the vertices are. `numbers` has one a ghost.
    pub fn sort_ghosts(&mut self, numbers: &mut [u64]) {
        let n_owned = self.n_owned_vertices;
        let mut order: Vec<u32> = (0..numbers.len() as u32).collect();
        order.sort_unstable_by_key(|&g| numbers[g as usize]);
        let mut place = vec![0u32; order.len()];
        for (&g, k) in order.iter().zip(n_owned as u32..) {
            place[g as usize] = k;
        }
        let pick = |g: &u32| *g as usize;
        let sorted: Vec<u64> = order.iter().map(|g| numbers[pick(g)]).collect();
        numbers.copy_from_slice(&sorted);
        self.ghosts = order.iter().map(|g| self.ghosts[pick(g)]).collect();
        if self.cell_to_node.is_none() {
            // Nodes are the vertices.
            let nodes: Vec<[f64; 3]> = order.iter().map(|g| self.nodes[n_owned + pick(g)]).collect();
            self.nodes[n_owned..].copy_from_slice(&nodes);
            let ids: Vec<u64> = order.iter().map(|g| self.node_ids[n_owned + pick(g)]).collect();
            self.node_ids[n_owned..].copy_from_slice(&ids);
        }
        self.cell_to_vertex.par_chunks_mut(1 << 14).flatten().for_each(|vertex| {
            if let Some(&k) = (*vertex as usize).checked_sub(n_owned).and_then(|g| place.get(g)) {
                *vertex = k;
            }
        });
    }

    /// The local number of an owned vertex.
    pub fn owned_vertex(&self, plan: &Plan, id: u64) -> u32 {
        let at = boxes::place(id - 1, plan.lattice.nodes).map(|x| x as i64);
        let number = self.window.index(at).map_or(NONE, |k| self.table[k]);
        debug_assert!((number as usize) < self.n_owned_vertices, "vertex {id} is not owned here");
        number
    }
}

/// Vertices as they get their numbers.
struct Numbers<'a> {
    plan: &'a Plan,
    round: &'a Surroundings,
    window: Window,
    /// Owned vertices have their number, others a mark until there are no more owned ones.
    table: Vec<u32>,
    n_owned: u32,
    ghosts: Vec<GhostVertex>,
    /// Where each ghost stands in the table.
    slots: Vec<u32>,
}

/// A vertex of another rank, in the table while numbers are given.
const MARK: u32 = NONE - 1;

impl Numbers<'_> {
    /// The number in the lattice, from 1, of the vertex at a place that may lie beyond a period.
    fn id(&self, at: [i64; 3]) -> u64 {
        let n = self.plan.vertices();
        let [x, y, z] = std::array::from_fn(|d| at[d].rem_euclid(n[d] as i64) as u64);
        let nodes = self.plan.lattice.nodes;
        1 + x + nodes[0] * (y + nodes[1] * z)
    }

    fn add_ghost(&mut self, slot: usize, owner: u16, id: u64) {
        self.table[slot] = MARK;
        self.slots.push(slot as u32);
        self.ghosts.push(GhostVertex { owner: self.round.ranks[owner as usize], id });
    }

    /// Numbers the vertices of owned boxes, brick by brick, row by row. Returns for each brick the first
    /// number it gives, and one more.
    fn of_bricks(&mut self, region: &[Cuboid], bricks: &[Brick]) -> Vec<u32> {
        let mut first = Vec::with_capacity(bricks.len() + 1);
        let mut offsets = [Vec::new(), Vec::new(), Vec::new()];
        for brick in bricks {
            first.push(self.n_owned);
            let c = &brick.cuboid;
            fill::node_offsets(self.plan, &self.window, c, &mut offsets);
            let inside = is_inside(self.plan, region, c);
            for (k, &z) in offsets[2].iter().enumerate() {
                for (j, &y) in offsets[1].iter().enumerate() {
                    for (i, &x) in offsets[0].iter().enumerate() {
                        let slot = x + y + z;
                        if self.table[slot] != NONE {
                            continue;
                        }
                        if !inside {
                            let at = [c.low[0] + i as u64, c.low[1] + j as u64, c.low[2] + k as u64];
                            let at = at.map(|x| x as i64);
                            let id = self.id(at);
                            let owner = self.round.owner_of_vertex(at, id);
                            if owner != self.round.me {
                                self.add_ghost(slot, owner, id);
                                continue;
                            }
                        }
                        self.table[slot] = self.n_owned;
                        self.n_owned += 1;
                    }
                }
            }
        }
        first.push(self.n_owned);
        first
    }

    /// The cells of others at vertices of owned boxes, ascending by owner and number there. Vertices of
    /// ghosts must not have numbers yet.
    fn ghost_cells(&self, bisection: &Bisection) -> Vec<GhostCell> {
        let (plan, round) = (self.plan, self.round);
        let (dim, cells, axes) = (plan.dim(), plan.lattice.cells, &round.window.axes);
        let part_corners: Vec<u8> =
            plan.parts.iter().map(|p| p.iter().fold(0u8, |bits, c| bits | 1 << c)).collect();
        // Boxes by owner, with the bits of their corners that are vertices of owned boxes.
        let mut found: Vec<(u16, [u64; 3], u8)> = Vec::new();
        let mut k = 0;
        for z in 0..axes[2].len as i64 {
            for y in 0..axes[1].len as i64 {
                let row = &round.owner[k..k + axes[0].len];
                k += row.len();
                for (x, &owner) in row.iter().enumerate().filter(|o| *o.1 != round.me) {
                    let at = [x as i64 + axes[0].first, y + axes[1].first, z + axes[2].first];
                    let touched = (0..1u8 << dim).fold(0u8, |bits, corner| {
                        let node = std::array::from_fn(|d| at[d] + i64::from(corner >> d & 1));
                        let slot = self.window.index(node);
                        bits | u8::from(slot.is_some_and(|k| self.table[k] != NONE)) << corner
                    });
                    if touched != 0 {
                        let at = std::array::from_fn(|d| at[d].rem_euclid(cells[d] as i64) as u64);
                        found.push((owner, at, touched));
                    }
                }
            }
        }
        found.sort_unstable_by_key(|f| f.0);
        let mut ghosts = Vec::with_capacity(found.len() * plan.parts.len());
        let mut numbered: Vec<(usize, [u64; 3], u8)> = Vec::new();
        for of_owner in found.chunk_by(|a, b| a.0 == b.0) {
            let owner = round.ranks[of_owner[0].0 as usize];
            let layout = Layout::new(&bisection.region(owner as usize), dim);
            let number = |at| layout.number(at).expect("a box of the owner's region");
            numbered.clear();
            numbered.extend(of_owner.iter().map(|&(_, at, touched)| (number(at), at, touched)));
            numbered.sort_unstable_by_key(|n| n.0);
            for &(number, at, touched) in &numbered {
                for (part, corners) in part_corners.iter().enumerate() {
                    if corners & touched != 0 {
                        let number = (number * part_corners.len() + part) as u32;
                        ghosts.push(GhostCell { owner, number, at, part: part as u8 });
                    }
                }
            }
        }
        ghosts
    }

    /// Marks the vertices of ghost cells that no owned box has.
    fn of_ghost_cells(&mut self, ghosts: &[GhostCell]) {
        let plan = self.plan;
        for ghost in ghosts {
            for &corner in &plan.parts[ghost.part as usize] {
                let at = std::array::from_fn(|d| ghost.at[d] as i64 + i64::from(corner >> d & 1));
                let slot = self.window.index(at).expect("ghosts lie in the window");
                if self.table[slot] == NONE {
                    let id = self.id(at);
                    let owner = self.round.owner_of_vertex(at, id);
                    self.add_ghost(slot, owner, id);
                }
            }
        }
    }

    /// Facets to boxes of other ranks at the upper sides of owned ones.
    fn edge_cut(&self, bricks: &[Brick]) -> u64 {
        let (plan, round) = (self.plan, self.round);
        let mut cut = 0;
        for Brick { cuboid: c, .. } in bricks {
            for axis in 0..plan.dim() {
                // Within a brick all boxes have one owner: only its upper layer has others above it.
                let mut layer = *c;
                layer.low[axis] = c.high[axis];
                layer.high[axis] = c.high[axis] + 1;
                let mut faces = 0;
                for z in layer.low[2]..layer.high[2] {
                    for y in layer.low[1]..layer.high[1] {
                        for x in layer.low[0]..layer.high[0] {
                            let owner = round.owner([x, y, z].map(|x| x as i64));
                            faces += u64::from(owner != round.me && owner != NOBODY);
                        }
                    }
                }
                cut += faces * plan.sides[2 * axis].len() as u64;
            }
        }
        cut
    }
}
