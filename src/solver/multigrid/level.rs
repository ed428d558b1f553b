//! Levels and the V-cycle over them.
//!
//! Imports `cluster` and its siblings. Start at [`cycle`].

use std::sync::Arc;

use cluster::{Comm, Halo, IndexMap};

use super::csr::{Csr, block, dispatch, dispatch_level, for_rows, vector};
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
    /// If the next level is visited twice: what its first visit found.
    pub first: Option<Vec<f32>>,
}

/// The steps of two visits to a level: Chebyshev's for a spectrum from 0.55 to 1, the cycle below being the
/// preconditioner. One is the upper end of its spectrum, and the polynomial is positive well beyond.
///
/// What a V-cycle leaves of smooth errors grows with the number of levels, and the Krylov method pays for it with the
/// finest level, which is most of the work. Two visits to the next level alone, a tenth of the work in 2D and less in
/// 3D, leave little of that; more on the levels below, as in a W-cycle, bring no more and send messages that are too
/// small. Iterations without and with: 14 and 10 on a square of a million unknowns, 11 and 8 with p-multigrid from
/// degree 2 in a cube. Source: P. Vassilevski, "Multilevel Block Factorization Preconditioners", Springer, 2008, chapter 5.
const STEPS: [f32; 2] = [1.07, 1.62];

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
                let first = down.first.as_ref().map_or(0, |f| 4 * f.len());
                down.p.bytes() + 8 * down.residual.len() + gathered + first
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

/// The smoothing of the first level, before and after no correction at all; nothing where it is factorised. Collective.
pub(super) fn smooth(levels: &mut [Level]) {
    let Some(level) = levels.first_mut().filter(|level| !matches!(level.below, Below::Dense { .. })) else {
        return;
    };
    dispatch_level!(level, before(level));
    dispatch_level!(level, after(level));
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
            if let Some(first) = &mut down.first {
                let next = &mut rest[0];
                dispatch_level!(next, keep(next, first));
                from(rest, k + 1);
                let next = &mut rest[0];
                dispatch_level!(next, add(next, first));
            }
            down.nodes.halo.forward(&mut rest[0].x, modes);
            dispatch!(n, modes, prolong(p, &rest[0].x, &mut level.x));
        }
    }
    dispatch_level!(level, after(level));
}

/// Takes a step of what a visit found, keeps it, and leaves the residual of it to solve for. Collective.
fn keep<const N: usize, const L: usize>(level: &mut Level, first: &mut [f32]) {
    let Level { csr, x, b, .. } = level;
    for_rows::<N, L, 2>(csr.n_rows(), [x, first], |_, [x, first]| {
        *x = x.map(|x| STEPS[0] * x);
        *first = *x;
    });
    let halo = level.distributed.then_some(&level.nodes.halo);
    csr.sweep::<N, N, L, 1>(halo, x, [b], |_, w, _, [b]| *b = std::array::from_fn(|a| b[a] - w[a]));
}

/// Adds a step of what the other visit found to what was kept.
fn add<const N: usize, const L: usize>(level: &mut Level, first: &[f32]) {
    for_rows::<N, L, 1>(level.csr.n_rows(), [&mut level.x], |row, [x]| {
        let first = block::<N>(first, row * N);
        *x = std::array::from_fn(|a| first[a] + STEPS[1] * x[a]);
    });
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
