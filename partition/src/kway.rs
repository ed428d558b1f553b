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

/// Up to this many parts METIS also bisects recursively, and the better cut is kept: k-way alone is
/// sometimes a fifth worse for few parts, bisection is slow for many.
const RECURSIVE: usize = 8;

/// For so few parts METIS tries more than once: a poor split of the small graph (1.3 times METIS's cut on the
/// whole one, on a cylinder in 4 parts) is not mended later, and METIS is the least of the time.
const TRIES: Idx = 4;

/// A part for each local vertex (ghosts too), and the name of the method. Collective.
pub(crate) fn split(comm: &Comm, level: &Level, n_parts: usize, options: &Options) -> (Vec<u32>, String) {
    let _span = tracing::debug_span!("metis").entered();
    let n_edges = comm.sum(level.adj.len() as u64);
    let fits = level.n_global().max(n_edges) < Idx::MAX as u64 && u32::try_from(level.n_global()).is_ok();
    let (mut owner, mut method) = (Vec::new(), Vec::new());
    if fits && n_edges > 0 {
        // Two ways, on two ranks at once where there are two.
        let recursive = n_parts <= RECURSIVE;
        let helpers = if recursive { comm.size().min(2) } else { 1 };
        let mut found = None;
        for root in 0..helpers {
            let all = gather(comm, level, root);
            // The last gather is over before anyone is busy with METIS.
            found = found.or(all);
        }
        let mine = found.and_then(|graph| match (recursive, helpers, comm.rank()) {
            (true, 1, _) => graph.split(n_parts, options),
            (true, _, 0) => graph.attempt(n_parts, options, true),
            _ => graph.attempt(n_parts, options, false),
        });
        let cuts = comm.all_gather(mine.as_ref().map_or(i64::MAX, |m| m.cut));
        let best = (0..helpers).min_by_key(|&root| cuts[root]).unwrap_or(0);
        if let Some(Split { owner: parts, name, .. }) = mine
            && comm.rank() == best
        {
            (owner, method) = (parts, name.as_bytes().to_vec());
        }
        // Empty when METIS failed.
        comm.broadcast(best, &mut owner);
        comm.broadcast(best, &mut method);
    }
    if owner.is_empty() {
        return (along_the_curve(comm, level, n_parts), "curve".into());
    }
    let begin = level.map.offset() as usize;
    let mut mine = owner[begin..begin + level.n_owned()].to_vec();
    mine.extend(level.map.ghosts().iter().map(|&g| owner[g as usize]));
    (mine, String::from_utf8_lossy(&method).into_owned())
}

/// A whole graph in METIS's terms.
pub(crate) struct Whole {
    pub(crate) ptr: Vec<Idx>,
    pub(crate) adj: Vec<Idx>,
    pub(crate) edge_weights: Vec<Idx>,
    pub(crate) vertex_weights: Vec<Idx>,
}

/// Parts that METIS found, twice the weight of the edges between them, and how.
struct Split {
    owner: Vec<u32>,
    cut: i64,
    name: &'static str,
}

/// The graph of all ranks on rank `root`.
fn gather(comm: &Comm, level: &Level, root: usize) -> Option<Whole> {
    let degrees: Vec<u32> = level.ptr.windows(2).map(|w| (w[1] - w[0]) as u32).collect();
    let global: Vec<u32> = level.adj.iter().map(|&l| level.map.local_to_global(l) as u32).collect();
    let edges: Vec<i64> = (0..level.adj.len()).map(|k| level.edge_weight(k)).collect();
    let vertices: Vec<i64> = (0..level.n_owned()).map(|v| level.vertex_weight(v)).collect();
    let degrees = comm.gather_varied(root, &degrees);
    let global = comm.gather_varied(root, &global);
    let edges = comm.gather_varied(root, &edges);
    let vertices = comm.gather_varied(root, &vertices);
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
    /// The best parts METIS finds, none of them empty; `None` when it fails.
    fn split(&self, n_parts: usize, options: &Options) -> Option<Split> {
        let both = [true, false].map(|recursive| self.attempt(n_parts, options, recursive));
        both.into_iter().flatten().min_by_key(|split| split.cut)
    }

    /// As [`Whole::split`], by bisection or k-way.
    fn attempt(&self, n_parts: usize, options: &Options, recursive: bool) -> Option<Split> {
        let owner = self.metis(n_parts, options, recursive)?;
        let name = if recursive { "metis-recursive" } else { "metis-kway" };
        Some(Split { cut: self.cut(&owner), owner, name })
    }

    fn metis(&self, n_parts: usize, options: &Options, recursive: bool) -> Option<Vec<u32>> {
        let mut part: Vec<Idx> = vec![0; self.ptr.len() - 1];
        // Some of the slack is left to refinement.
        let slack = ((options.max_imbalance - 1.0) * 700.0).round().clamp(1.0, 1000.0) as Idx;
        let graph = metis::Graph::new(1, n_parts as Idx, &self.ptr, &self.adj)
            .ok()?
            .set_vwgt(&self.vertex_weights)
            .set_adjwgt(&self.edge_weights)
            .set_option(metis::option::Seed(options.seed as Idx))
            .set_option(metis::option::NCuts(if n_parts <= RECURSIVE { TRIES } else { 1 }))
            .set_option(metis::option::UFactor(slack));
        if recursive { graph.part_recursive(&mut part) } else { graph.part_kway(&mut part) }.ok()?;
        let mut owner: Vec<u32> = part.into_iter().map(|p| u32::try_from(p).ok()).collect::<Option<_>>()?;
        repair::fill_empty_parts(&mut owner, &self.vertex_weights, n_parts);
        repair::lighten(self, &mut owner, n_parts, options.max_imbalance);
        Some(owner)
    }

    /// Twice the weight of the edges between parts.
    fn cut(&self, owner: &[u32]) -> i64 {
        let outside = |v: usize| self.row(v).filter(move |&(u, _)| owner[u] != owner[v]).map(|(_, w)| w);
        (0..owner.len()).flat_map(outside).sum()
    }

    /// A vertex's neighbours and the weights of the edges to them.
    pub(crate) fn row(&self, v: usize) -> impl Iterator<Item = (usize, i64)> {
        (self.ptr[v] as usize..self.ptr[v + 1] as usize)
            .map(|k| (self.adj[k] as usize, i64::from(self.edge_weights[k])))
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
            let Split { owner, .. } = whole.split(n_parts, &Options::default()).expect("METIS splits a path");
            assert!((0..n_parts as u32).all(|p| owner.contains(&p)), "{n_parts} parts: {owner:?}");
        }
    }
}
