//! Levels and the V-cycle over them.
//!
//! Imports `cluster` and its siblings. Start at [`cycle`].

use std::sync::Arc;

use cluster::{Comm, Halo, IndexMap};

use super::csr::{Csr, dispatch, dispatch_level, vector};
use super::dense::Cholesky;
use super::prolongation::Prolongation;
use super::smoother::{after, before};

/// Nodes and how their values move.
pub(super) struct Nodes {
    pub map: IndexMap,
    pub halo: Halo,
}

/// A level: its matrix, its smoother, and the vectors of the cycle.
pub(super) struct Level {
    pub block: usize,
    /// The degree of the smoothing polynomial.
    pub degree: usize,
    pub nodes: Arc<Nodes>,
    /// Whether other ranks have rows of this level.
    pub distributed: bool,
    pub csr: Csr,
    pub inverse: Vec<f32>,
    pub lambda: f32,
    /// Solution and right-hand side.
    pub x: Vec<f32>,
    pub b: Vec<f32>,
    /// Directions.
    pub d: Vec<f32>,
    pub e: Vec<f32>,
    /// The residual.
    pub t: Vec<f32>,
    /// The residual as a polynomial of degree 3 or more sees it; empty for lower degrees.
    pub r: Vec<f32>,
    pub below: Below,
}

/// What corrects the smooth error of a level.
pub(super) enum Below {
    /// The next level.
    Coarse(Box<Down>),
    /// A factorisation, the same on all of these ranks; nothing is smoothed.
    Dense { comm: Comm, factor: Cholesky },
    /// Nothing: no node couples to another, or none that can be aggregated.
    Nothing,
}

/// The way to the next level.
pub(super) struct Down {
    pub p: Prolongation,
    /// Components of a coarse node.
    pub modes: usize,
    /// The coarse nodes in the numbering of `p`.
    pub nodes: Arc<Nodes>,
    /// The restricted residual, ghosts included.
    pub residual: Vec<f64>,
    /// If the next level is the same on every rank: the ranks, and this rank's part with ghosts.
    pub gathered: Option<(Comm, Vec<f32>)>,
}

impl Level {
    /// A level with nothing below it and no estimate of its spectrum yet.
    pub fn new(
        block: usize,
        nodes: Arc<Nodes>,
        distributed: bool,
        csr: Csr,
        inverse: Vec<f32>,
        degree: usize,
    ) -> Level {
        let n = nodes.map.n_local();
        let [x, b, d, e, t] = std::array::from_fn(|_| vector(n, block));
        let r = if degree > 2 { vector(n, block) } else { Vec::new() };
        let below = Below::Nothing;
        Level { block, degree, nodes, distributed, csr, inverse, lambda: 1.0, x, b, d, e, t, r, below }
    }

    /// Bytes that it takes on this rank.
    pub fn bytes(&self) -> usize {
        let vectors = [&self.inverse, &self.x, &self.b, &self.d, &self.e, &self.r, &self.t];
        let below = match &self.below {
            Below::Coarse(down) => {
                let gathered = down.gathered.as_ref().map_or(0, |g| 4 * g.1.len());
                down.p.bytes() + 8 * down.residual.len() + gathered
            }
            Below::Dense { factor, .. } => factor.bytes(),
            Below::Nothing => 0,
        };
        self.csr.bytes() + vectors.iter().map(|v| 4 * v.len()).sum::<usize>() + below
    }
}

/// One V-cycle: `x` of the first level from its `b`. Collective.
pub(super) fn cycle(levels: &mut [Level]) {
    from(levels, 0);
}

/// The cycle from level `k` on.
fn from(levels: &mut [Level], k: u64) {
    let Some((level, rest)) = levels.split_first_mut() else { return };
    let _span = tracing::debug_span!("cycle", level = k).entered();
    let n = level.block;
    if let Below::Dense { comm, factor } = &level.below {
        let own = level.csr.n_rows() * n;
        let mine: Vec<f64> = level.b[..own].iter().map(|&b| f64::from(b)).collect();
        let (mut all, offsets) = comm.all_gather_varied(&mine);
        {
            let _span = tracing::debug_span!("coarse solve").entered();
            factor.solve(&mut all);
        }
        let begin = offsets[comm.rank()];
        level.x.iter_mut().zip(&all[begin..begin + own]).for_each(|(x, v)| *x = *v as f32);
        return;
    }
    dispatch_level!(level, before(level));
    if let Below::Coarse(down) = &mut level.below {
        let (modes, owned) = (down.modes, down.nodes.map.n_owned() * down.modes);
        let (p, residual) = (&mut down.p, &mut down.residual);
        dispatch!(n, modes, restrict(p, &level.t, residual));
        down.nodes.halo.reverse_add(residual, modes);
        if let Some((comm, part)) = &mut down.gathered {
            let mine: Vec<f32> = residual[..owned].iter().map(|&v| v as f32).collect();
            let (all, offsets) = comm.all_gather_varied(&mine);
            rest[0].b[..all.len()].copy_from_slice(&all);
            from(rest, k + 1);
            let begin = offsets[comm.rank()];
            part[..owned].copy_from_slice(&rest[0].x[begin..begin + owned]);
            down.nodes.halo.forward(part, modes);
            dispatch!(n, modes, prolong(p, part, &mut level.x));
        } else {
            rest[0].b.iter_mut().zip(&residual[..owned]).for_each(|(b, v)| *b = *v as f32);
            from(rest, k + 1);
            down.nodes.halo.forward(&mut rest[0].x, modes);
            dispatch!(n, modes, prolong(p, &rest[0].x, &mut level.x));
        }
    }
    dispatch_level!(level, after(level));
}

fn restrict<const R: usize, const C: usize, const L: usize>(
    p: &mut Prolongation,
    fine: &[f32],
    coarse: &mut [f64],
) {
    p.restrict::<R, C, L>(fine, coarse);
}

fn prolong<const R: usize, const C: usize, const L: usize>(
    p: &Prolongation,
    coarse: &[f32],
    fine: &mut [f32],
) {
    p.prolong::<R, C, L>(coarse, fine);
}
