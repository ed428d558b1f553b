//! Renumbering the owned nodes of a rank for a small bandwidth.
//!
//! Source: E. Cuthill, J. McKee, "Reducing the bandwidth of sparse symmetric matrices", Proc. 24th ACM
//! National Conference, 1969; reversed as in A. George, 1971; started at a pseudo-peripheral node
//! (N. Gibbs, W. Poole, P. Stockmeyer, 1976). It runs on the graph of cells, which is smaller than that
//! of nodes, and nodes follow in the order in which cells meet them.

use cluster::{Halo, IndexMap};

use crate::element::Lagrange;
use crate::mesh::lattice::Lattice;
use crate::mesh::{Mesh, Table};

/// How a rank orders its own nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As cells along the space-filling curve meet them: best for caches.
    Curve,
    /// Reverse Cuthill-McKee: best for bandwidth, so for incomplete factorisations.
    CuthillMcKee,
}

/// The bandwidth of the owned part: the greatest distance between two owned nodes of one cell.
pub fn bandwidth(n_owned: usize, cell_to_node: &[Table], n_nodes: &[usize]) -> usize {
    let mut widest = 0;
    for (table, &n) in cell_to_node.iter().zip(n_nodes) {
        for nodes in table.chunks_exact(n.max(1)) {
            let owned = nodes.iter().map(|&v| v as usize).filter(|&v| v < n_owned);
            let (low, high) = owned.fold((usize::MAX, 0), |(l, h), v| (l.min(v), h.max(v)));
            if low != usize::MAX {
                widest = widest.max(high - low);
            }
        }
    }
    widest
}

/// Cells by node: offsets and flat cell numbers, over all blocks.
fn node_to_cell(lattice: &Lattice, elements: &[Lagrange]) -> (Vec<usize>, Vec<u32>) {
    let n_points = lattice.map.n_local();
    let mut ptr = vec![0usize; n_points + 1];
    for table in &lattice.cell_to_point {
        for &v in table {
            ptr[v as usize + 1] += 1;
        }
    }
    for v in 0..n_points {
        ptr[v + 1] += ptr[v];
    }
    let mut next = ptr.clone();
    let mut cells = vec![0u32; ptr[n_points]];
    let mut first = 0;
    for (table, element) in lattice.cell_to_point.iter().zip(elements) {
        let n = element.n_nodes();
        for (c, nodes) in table.chunks_exact(n).enumerate() {
            for &v in nodes {
                cells[next[v as usize]] = first + c as u32;
                next[v as usize] += 1;
            }
        }
        first += (table.len() / n) as u32;
    }
    (ptr, cells)
}

/// Renumbers the owned points of a lattice by reverse Cuthill-McKee. Collective.
pub(super) fn renumber(mesh: &Mesh, elements: &[Lagrange], lattice: Lattice) -> Lattice {
    let _span = tracing::debug_span!("reduce bandwidth").entered();
    let n_owned = lattice.map.n_owned();
    let (ptr, cells) = node_to_cell(&lattice, elements);
    let mut first_cell = Vec::new();
    let mut n_cells = 0usize;
    for (table, element) in lattice.cell_to_point.iter().zip(elements) {
        first_cell.push(n_cells);
        n_cells += table.len() / element.n_nodes();
    }
    let nodes_of = |cell: usize| {
        let b = first_cell.partition_point(|&first| first <= cell) - 1;
        let n = elements[b].n_nodes();
        &lattice.cell_to_point[b][(cell - first_cell[b]) * n..][..n]
    };
    let degree = |v: u32| ptr[v as usize + 1] - ptr[v as usize];
    const NEW: u32 = u32::MAX;
    let mut order = vec![NEW; n_owned];
    let mut queue: Vec<u32> = Vec::with_capacity(n_owned);
    // Breadth-first search from `start` over owned nodes; returns where its queue began.
    let mut mark = vec![0u32; n_owned];
    let mut stamp = 0;
    let mut level_search = |start: u32, queue: &mut Vec<u32>, commit: Option<&mut Vec<u32>>| {
        stamp += 1;
        let begin = queue.len();
        queue.push(start);
        mark[start as usize] = stamp;
        let mut at = begin;
        let mut neighbours: Vec<u32> = Vec::new();
        while at < queue.len() {
            let v = queue[at] as usize;
            at += 1;
            neighbours.clear();
            for &cell in &cells[ptr[v]..ptr[v + 1]] {
                for &w in nodes_of(cell as usize) {
                    if (w as usize) < n_owned && mark[w as usize] != stamp {
                        mark[w as usize] = stamp;
                        neighbours.push(w);
                    }
                }
            }
            neighbours.sort_by_key(|&w| (degree(w), w));
            queue.extend_from_slice(&neighbours);
        }
        if let Some(order) = commit {
            for (k, &v) in queue[begin..].iter().enumerate() {
                order[v as usize] = (begin + k) as u32;
            }
        }
        begin
    };
    for seed in 0..n_owned as u32 {
        if order[seed as usize] != NEW {
            continue;
        }
        // Two sweeps reach an end of the component; the third numbers it.
        let mut start = seed;
        for _ in 0..2 {
            let begin = level_search(start, &mut queue, None);
            start = *queue.last().expect("the search holds its start");
            queue.truncate(begin);
        }
        level_search(start, &mut queue, Some(&mut order));
    }
    for place in &mut order {
        *place = n_owned as u32 - 1 - *place;
    }
    // Ghosts keep their place and learn their new global number from the owner.
    let offset = lattice.map.offset();
    let mut global: Vec<u64> = order.iter().map(|&k| offset + u64::from(k)).collect();
    global.resize(lattice.map.n_local(), 0);
    lattice.halo.forward(&mut global, 1);
    let ghosts = global.split_off(n_owned);
    let owners = lattice.map.ghost_owners().to_vec();
    let map = IndexMap::from_parts(n_owned, offset, lattice.map.n_global(), ghosts, owners);
    let cell_to_point = lattice
        .cell_to_point
        .into_iter()
        .map(|mut table| {
            table.to_mut().iter_mut().for_each(|v| *v = order.get(*v as usize).copied().unwrap_or(*v));
            table
        })
        .collect();
    let halo = Halo::new(&mesh.comm, &map);
    Lattice { map, halo, cell_to_point }
}

/// Orders ghosts by global number, so that local and global order agree within a matrix row.
/// Collective.
pub(super) fn sort_ghosts(mesh: &Mesh, lattice: Lattice) -> Lattice {
    let _span = tracing::debug_span!("sort ghosts").entered();
    let n_owned = lattice.map.n_owned();
    let mut sorted: Vec<usize> = (0..lattice.map.n_ghost()).collect();
    sorted.sort_unstable_by_key(|&k| lattice.map.ghosts()[k]);
    let mut place = vec![0u32; sorted.len()];
    for (new, &old) in sorted.iter().enumerate() {
        place[old] = (n_owned + new) as u32;
    }
    let ghosts = sorted.iter().map(|&k| lattice.map.ghosts()[k]).collect();
    let owners = sorted.iter().map(|&k| lattice.map.ghost_owners()[k]).collect();
    let map = IndexMap::from_parts(n_owned, lattice.map.offset(), lattice.map.n_global(), ghosts, owners);
    let mut cell_to_point = lattice.cell_to_point;
    let tables = cell_to_point.iter_mut().flat_map(Table::to_mut);
    for v in tables.filter(|v| **v as usize >= n_owned) {
        *v = place[*v as usize - n_owned];
    }
    let halo = Halo::new(&mesh.comm, &map);
    Lattice { map, halo, cell_to_point }
}
