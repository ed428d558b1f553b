//! What cells cost, and the graph of cells that ranks rebalance.
//!
//! Imports `cluster`, `partition`'s graphs, `mesh`, `space`. Start at [`costs`] and [`graph`].

use cluster::Comm;
use partition::{Cost, Graph};
use serde::{Deserialize, Serialize};

use crate::mesh::Mesh;
use crate::mesh::facets::Facets;
use crate::space::Space;

/// Seconds of one solve on this rank.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// Of loops over cells: pattern, matrix.
    pub cells: f64,
    /// Of the solver: set-up and iteration.
    pub unknowns: f64,
}

impl Times {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.cells + self.unknowns
    }
}

/// What rebalancing takes, from those there were: by it the next one is judged before anything moves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// To move a byte, on the rank that sends most.
    per_byte: f64,
    /// For each cell of the whole mesh, whatever moves: to decide, and to build the mesh again.
    per_cell: f64,
    /// Cells of the mesh that was last measured on.
    n_cells: u64,
}

/// On a mesh of so many times the cells of the last measurement nothing is known: what a rank waits for others on a
/// small mesh would make every cell of a large one look dear.
const KNOWN: u64 = 4;

impl Price {
    /// `moving` seconds took what this rank sent, of `bytes`, and `rest` all else, on a mesh of `n_cells`. Of `before`
    /// the lesser rates stay: what does not grow with the mesh is in all of them. Collective.
    pub fn measured(
        comm: &Comm,
        before: Option<Price>,
        moving: f64,
        bytes: u64,
        rest: f64,
        n_cells: u64,
    ) -> Price {
        let mut most = [moving, bytes as f64, rest];
        comm.max_slice(&mut most);
        let (per_byte, per_cell) = (most[0] / most[1].max(1.0), most[2] / n_cells.max(1) as f64);
        let least = before.map_or([f64::INFINITY; 2], |price| [price.per_byte, price.per_cell]);
        Price { per_byte: per_byte.min(least[0]), per_cell: per_cell.min(least[1]), n_cells }
    }

    /// What there is to weigh before a step that will take `seconds` as loads are, on a mesh of `n_cells`; nothing on
    /// a mesh that is much larger than any before. A step more or less of an adaptive loop has new loads.
    pub fn cost(&self, seconds: f64, n_cells: u64) -> Option<Cost> {
        (n_cells <= KNOWN * self.n_cells).then_some(Cost {
            solve_seconds: seconds,
            solves: 1.0,
            seconds_per_byte: self.per_byte,
            fixed_seconds: self.per_cell * n_cells as f64,
        })
    }
}

/// What each owned cell costs, block after block, in units of the mean over all ranks.
///
/// The time of loops over cells is spread by the size of their element matrices, the solver's by unknowns, each
/// shared by the cells of this rank around it. Times are those of all ranks together, so that what a rank loses to its
/// neighbours on the machine does not count against its cells. If `deterministic`, both kinds of time weigh
/// the same, and no clock decides. Collective.
pub fn costs(mesh: &Mesh, space: &Space, times: &Times, deterministic: bool) -> Vec<f64> {
    let _span = tracing::debug_span!("costs").entered();
    let comm = &mesh.comm;
    let mut around = vec![0u32; space.map.n_local()];
    for nodes in &space.cell_to_node {
        nodes.iter().for_each(|&node| around[node as usize] += 1);
    }
    let n_owned: usize = mesh.n_owned_cells();
    let (mut work, mut unknowns) = (Vec::with_capacity(n_owned), Vec::with_capacity(n_owned));
    for (b, block) in mesh.blocks.iter().enumerate() {
        let n = space.elements[b].n_nodes() as f64;
        for cell in 0..block.n_owned {
            work.push(n * n);
            unknowns
                .push(space.nodes(b, cell).iter().map(|&v| 1.0 / f64::from(around[v as usize])).sum::<f64>());
        }
    }
    let mut sums = [work.iter().sum::<f64>(), unknowns.iter().sum(), times.cells, times.unknowns];
    comm.sum_slice(&mut sums);
    let [all_work, all_unknowns, cells, solver] = sums;
    let whole = cells + solver;
    let part = if deterministic || whole <= 0.0 { 0.5 } else { cells / whole };
    let n = mesh.n_cells_global as f64;
    let (by_work, by_unknowns) =
        (part * n / all_work.max(1e-300), (1.0 - part) * n / all_unknowns.max(1e-300));
    work.iter().zip(&unknowns).map(|(w, u)| w * by_work + u * by_unknowns).collect()
}

/// The largest sum of costs over their mean. Collective.
pub fn imbalance(comm: &Comm, costs: &[f64]) -> f64 {
    let mine: f64 = costs.iter().sum();
    comm.max(mine) * comm.size() as f64 / comm.sum(mine).max(1e-300)
}

/// Facets between cells of different owners. Collective.
pub fn edge_cut(mesh: &Mesh, facets: &Facets) -> u64 {
    let mut cut = 0u64;
    for run in &facets.runs {
        let owned = run.kind.blocks.map(|b| mesh.blocks[b as usize].n_owned);
        let pairs = &facets.cells[run.begin..run.end];
        cut += pairs.iter().filter(|p| (p[0] as usize) >= owned[0] || (p[1] as usize) >= owned[1]).count()
            as u64;
    }
    // Each was seen from both sides.
    mesh.comm.sum(cut) / 2
}

/// The parts into which a cell of mean cost is divided for the partitioner's whole numbers.
const UNITS: f64 = 1000.0;

/// The graph of owned cells: a vertex a cell, block after block, an edge a facet, weighted by `costs`.
/// Collective.
///
/// # Errors
/// What the graph refuses.
pub fn graph(mesh: &Mesh, facets: &Facets, costs: &[f64]) -> Result<Graph, partition::Error> {
    let _span = tracing::debug_span!("graph of cells").entered();
    let comm = &mesh.comm;
    let firsts = firsts(comm, mesh);
    let n_blocks = mesh.blocks.len();
    let rank = comm.rank();
    let global = |block: usize, cell: usize| {
        let b = &mesh.blocks[block];
        match cell.checked_sub(b.n_owned) {
            None => firsts[rank * n_blocks + block] + cell as u64,
            Some(ghost) => {
                let (owner, there) = b.ghosts[ghost];
                firsts[owner as usize * n_blocks + block] + u64::from(there)
            }
        }
    };
    let local = |block: usize, cell: usize| {
        let owned = cell < mesh.blocks[block].n_owned;
        owned.then(|| (global(block, cell) - firsts[rank * n_blocks]) as usize)
    };
    let n = mesh.n_owned_cells();
    let each = |visit: &mut dyn FnMut(usize, u64)| {
        for run in &facets.runs {
            let [a, b] = run.kind.blocks.map(usize::from);
            for &[p, q] in &facets.cells[run.begin..run.end] {
                let (p, q) = (p as usize, q as usize);
                if let Some(at) = local(a, p) {
                    visit(at, global(b, q));
                }
                if let Some(at) = local(b, q) {
                    visit(at, global(a, p));
                }
            }
        }
    };
    let mut ptr = vec![0usize; n + 1];
    each(&mut |at, _| ptr[at + 1] += 1);
    (0..n).for_each(|k| ptr[k + 1] += ptr[k]);
    let mut adj = vec![0u64; ptr[n]];
    let mut next = ptr.clone();
    each(&mut |at, other| {
        adj[next[at]] = other;
        next[at] += 1;
    });
    let weights = costs.iter().map(|c| (c * UNITS).round().clamp(1.0, 1e6) as i32).collect();
    Graph::new(comm, ptr, adj)?.with_vertex_weights(comm, weights)
}

/// The global number of each rank's first cell of each block, numbered rank after rank and block after
/// block: 8 bytes a rank and block. Collective.
fn firsts(comm: &Comm, mesh: &Mesh) -> Vec<u64> {
    let mut firsts = Vec::with_capacity(comm.size() * mesh.blocks.len());
    let of_blocks: Vec<Vec<u64>> = mesh.blocks.iter().map(|b| comm.all_gather(b.n_owned as u64)).collect();
    let mut next = 0;
    for rank in 0..comm.size() {
        for of_block in &of_blocks {
            firsts.push(next);
            next += of_block[rank];
        }
    }
    firsts
}
