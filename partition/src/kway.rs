//! METIS on the graph of clusters, gathered on one rank, and what stands in when METIS fails.
//!
//! Imports `level`. Start at [`split`].

use cluster::Comm;
use metis::Idx;

use crate::Options;
use crate::level::Level;
use crate::repair;

/// METIS sums weights in its index type, 32 bits wide in most builds; larger sums are scaled to this.
const LARGEST_SUM: i64 = 1 << 29;

/// METIS bisects recursively up to this many parts: better cuts for few parts, slower for many.
const RECURSIVE: usize = 8;

/// A part for each local vertex (ghosts too), and the name of the method. Collective.
pub(crate) fn split(comm: &Comm, level: &Level, n_parts: usize, options: &Options) -> (Vec<u32>, String) {
    let n_edges = comm.sum(level.adj.len() as u64);
    let fits = level.n_global().max(n_edges) < Idx::MAX as u64 && u32::try_from(level.n_global()).is_ok();
    let mut owner = Vec::new();
    if fits && n_edges > 0 {
        let all = gather(comm, level);
        if let Some(graph) = all {
            owner = graph.split(n_parts, options).unwrap_or_default();
        }
        // Empty when METIS failed.
        comm.broadcast(0, &mut owner);
    }
    if owner.is_empty() {
        return (along_the_curve(comm, level, n_parts), "curve".into());
    }
    let begin = level.map.offset() as usize;
    let mut mine = owner[begin..begin + level.n_owned()].to_vec();
    mine.extend(level.map.ghosts().iter().map(|&g| owner[g as usize]));
    let method = if n_parts <= RECURSIVE { "metis-recursive" } else { "metis-kway" };
    (mine, method.into())
}

/// A whole graph in METIS's terms.
pub(crate) struct Whole {
    pub(crate) ptr: Vec<Idx>,
    pub(crate) adj: Vec<Idx>,
    pub(crate) edge_weights: Vec<Idx>,
    pub(crate) vertex_weights: Vec<Idx>,
}

/// The graph of all ranks on rank 0.
fn gather(comm: &Comm, level: &Level) -> Option<Whole> {
    let degrees: Vec<u32> = level.ptr.windows(2).map(|w| (w[1] - w[0]) as u32).collect();
    let global: Vec<u32> = level.adj.iter().map(|&l| level.map.local_to_global(l) as u32).collect();
    let edges: Vec<i64> = (0..level.adj.len()).map(|k| level.edge_weight(k)).collect();
    let vertices: Vec<i64> = (0..level.n_owned()).map(|v| level.vertex_weight(v)).collect();
    let degrees = comm.gather_varied(0, &degrees);
    let global = comm.gather_varied(0, &global);
    let edges = comm.gather_varied(0, &edges);
    let vertices = comm.gather_varied(0, &vertices);
    let ((degrees, _), (global, _), (edges, _), (vertices, _)) = (degrees?, global?, edges?, vertices?);
    let mut ptr: Vec<Idx> = vec![0];
    for d in degrees {
        ptr.push(ptr[ptr.len() - 1] + d as Idx);
    }
    let adj = global.into_iter().map(|g| g as Idx).collect();
    Some(Whole { ptr, adj, edge_weights: scaled(&edges), vertex_weights: scaled(&vertices) })
}

/// Weights scaled down so far that their sum fits; positive ones stay positive. All 1 if all are 0.
fn scaled(weights: &[i64]) -> Vec<Idx> {
    let total: i128 = weights.iter().map(|&w| i128::from(w)).sum();
    if total == 0 {
        return vec![1; weights.len()];
    }
    let divisor = (total / i128::from(LARGEST_SUM) + 1) as i64;
    weights.iter().map(|&w| if w == 0 { 0 } else { (w / divisor).max(1) as Idx }).collect()
}

impl Whole {
    /// The parts METIS finds, none of them empty; `None` when it fails.
    fn split(&self, n_parts: usize, options: &Options) -> Option<Vec<u32>> {
        let mut part: Vec<Idx> = vec![0; self.ptr.len() - 1];
        let slack = ((options.max_imbalance - 1.0) * 1000.0 * 0.7).round().clamp(1.0, 1000.0) as Idx;
        let graph = metis::Graph::new(1, n_parts as Idx, &self.ptr, &self.adj)
            .ok()?
            .set_vwgt(&self.vertex_weights)
            .set_adjwgt(&self.edge_weights)
            .set_option(metis::option::Seed(options.seed as Idx))
            .set_option(metis::option::UFactor(slack));
        let done =
            if n_parts <= RECURSIVE { graph.part_recursive(&mut part) } else { graph.part_kway(&mut part) };
        done.ok()?;
        let mut owner: Vec<u32> = part.into_iter().map(|p| u32::try_from(p).ok()).collect::<Option<_>>()?;
        repair::fill_empty_parts(&mut owner, &self.vertex_weights, n_parts);
        repair::lighten(self, &mut owner, n_parts, options.max_imbalance);
        Some(owner)
    }
}

/// Contiguous blocks of the given order, of equal weight, or of equal length where that would leave a
/// part empty. Needs no edges and no gathering.
fn along_the_curve(comm: &Comm, level: &Level, n_parts: usize) -> Vec<u32> {
    let n = level.n_owned();
    let total = i128::from(level.total_weight(comm));
    let mine: i64 = (0..n).map(|v| level.vertex_weight(v)).sum();
    let mut before = i128::from(comm.exclusive_sum(mine as u64));
    let mut owner = vec![0u32; level.map.n_local()];
    let mut count = vec![0u64; n_parts];
    for (v, part) in owner[..n].iter_mut().enumerate() {
        let weight = i128::from(level.vertex_weight(v));
        // The block that the middle of the vertex lies in.
        let block = ((2 * before + weight) * n_parts as i128).checked_div(2 * total).unwrap_or(0);
        *part = block.clamp(0, n_parts as i128 - 1) as u32;
        before += weight;
        count[*part as usize] += 1;
    }
    comm.sum_slice(&mut count);
    if count.contains(&0) {
        for (v, part) in owner[..n].iter_mut().enumerate() {
            let at = u128::from(level.map.offset()) + v as u128;
            *part = (at * n_parts as u128 / u128::from(level.n_global())) as u32;
        }
    }
    level.halo.forward(&mut owner, 1);
    owner
}

#[cfg(test)]
impl Whole {
    /// `n` vertices in a row, all weights 1.
    pub(crate) fn path(n: usize) -> Whole {
        let mut whole = Whole { ptr: vec![0], adj: vec![], edge_weights: vec![], vertex_weights: vec![1; n] };
        for v in 0..n as Idx {
            whole.adj.extend([v - 1, v + 1].iter().filter(|&&u| u >= 0 && u < n as Idx));
            whole.ptr.push(whole.adj.len() as Idx);
        }
        whole.edge_weights = vec![1; whole.adj.len()];
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn scaled_weights_fit(weights in prop::collection::vec(0i64..1 << 50, 1..50)) {
            let scaled = scaled(&weights);
            let sum: i64 = scaled.iter().map(|&w| i64::from(w)).sum();
            prop_assert!(sum <= LARGEST_SUM + 50);
            for (s, w) in scaled.iter().zip(&weights) {
                prop_assert!(weights.iter().all(|&w| w == 0) || (*s == 0) == (*w == 0));
            }
        }
    }

    #[test]
    fn metis_splits_a_path_into_as_many_parts_as_vertices() {
        let n = 12;
        let whole = Whole::path(n);
        for n_parts in 2..=n {
            let owner = whole.split(n_parts, &Options::default()).expect("METIS splits a path");
            assert!((0..n_parts as u32).all(|p| owner.contains(&p)), "{n_parts} parts: {owner:?}");
        }
    }
}
