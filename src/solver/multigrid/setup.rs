//! Making the levels, from the assembled matrix down to one that is small enough to factorise.
//!
//! Imports `cluster` and its siblings. Start at [`levels`].

use std::sync::Arc;

use cluster::{Comm, Halo, IndexMap};

use super::aggregate::{aggregate, strong};
use super::assembled::Assembled;
use super::csr::{Csr, dispatch, dispatch_level, dispatch_square, vector};
use super::dense::Cholesky;
use super::galerkin::{self, Coarse};
use super::level::{Below, Down, Level, Nodes};
use super::parallel::max;
use super::prolongation::{Prolongation, Raw, smoothed};
use super::rows::{Arrays, Columns, Kept, Rows, Wide, level};
use super::smoother::largest_eigenvalue;
use super::tentative::Tentative;
use super::{Error, Options, Transfer};

/// Unknowns of a level that is factorised, at most: more would make the set-up longer, fewer the cycle.
const DENSE: u64 = 400;

/// The same in a problem of `unknowns`: the factorisation takes the cube of its size, and should not be what the
/// set-up of a small problem costs.
fn few_enough(unknowns: u64) -> u64 {
    ((200.0 * unknowns as f64).cbrt() as u64).clamp(100, DENSE)
}

/// A level with fewer nodes a rank than this is gathered on every rank: messages would cost more than the work.
const FEW: u64 = 40;

/// The first coarse level is visited twice from this number of nodes a rank on: with fewer, messages are what it costs.
const TWICE: u64 = 100;

/// Unknowns of a level that every rank may hold a copy of.
const GATHERED: u64 = 100_000;

/// Levels at most; each is smaller by [`STALLED`] at least.
const MOST_LEVELS: usize = 40;

/// A next level that is not smaller by this factor is not worth its cost.
const STALLED: f64 = 1.3;

/// Steps of Lanczos' method.
const STEPS: usize = 8;

/// Where a level's matrix comes from.
enum Source<'a> {
    Assembled(&'a Assembled),
    Wide(Wide),
}

impl<const N: usize> Rows<N> for Source<'_> {
    fn n_rows(&self) -> usize {
        match self {
            Source::Assembled(source) => Rows::<N>::n_rows(*source),
            Source::Wide(source) => Rows::<N>::n_rows(source),
        }
    }

    fn diagonal(&self, row: usize) -> Option<[[f64; N]; N]> {
        match self {
            Source::Assembled(source) => source.diagonal(row),
            Source::Wide(source) => source.diagonal(row),
        }
    }

    #[inline(always)]
    fn visit(&self, row: usize, f: impl FnMut(u32, &[[f64; N]; N])) {
        match self {
            Source::Assembled(source) => source.visit(row, f),
            Source::Wide(source) => source.visit(row, f),
        }
    }

    fn columns(&self) -> Option<Columns<'_>> {
        match self {
            Source::Assembled(source) => Rows::<N>::columns(*source),
            Source::Wide(_) => None,
        }
    }

    fn arrays(&self) -> Option<Arrays<'_>> {
        match self {
            Source::Assembled(source) => Rows::<N>::arrays(*source),
            Source::Wide(source) => Rows::<N>::arrays(source),
        }
    }
}

/// What there is of a level before it is made.
struct Start<'a> {
    comm: Comm,
    nodes: Arc<Nodes>,
    block: usize,
    source: Source<'a>,
    near_null: Vec<Vec<f64>>,
}

fn largest<const N: usize, const L: usize>(source: &Assembled) -> Option<f64> {
    super::rows::largest_diagonal::<N>(source)
}

fn keep<const N: usize, const L: usize>(source: &Source, halo: &Halo, n_local: usize, scale: f64) -> Kept {
    level::<N>(source, halo, n_local, scale)
}

/// Makes all levels, and tells what the matrix was multiplied by. Collective, and so is its error.
pub(super) fn levels(
    comm: &Comm,
    map: &IndexMap,
    assembled: &Assembled,
    near_null: Vec<Vec<f64>>,
    transfer: Option<Transfer>,
    options: &Options,
) -> Result<(Vec<Level>, f64), Error> {
    let block = assembled.block;
    let diagonal = dispatch_square!(block, largest(assembled)).ok_or(Error::Diagonal).and_then(|largest| {
        let entries = assembled.n_entries();
        if u32::try_from(entries).is_ok() { Ok(largest) } else { Err(Error::TooLarge { entries }) }
    });
    let diagonal = max(comm, comm.agree(diagonal)?);
    // A power of two, so that scaling rounds nothing; it keeps single precision in range.
    let scale = if diagonal > 0.0 { (-diagonal.log2().floor()).exp2() } else { 1.0 };
    let nodes = Arc::new(Nodes { map: map.clone(), halo: Halo::new(comm, map) });
    let mut start =
        Start { comm: comm.clone(), nodes, block, source: Source::Assembled(assembled), near_null };
    let mut transfer = transfer;
    let mut levels: Vec<Level> = Vec::new();
    let factorised = few_enough(map.n_global() * block as u64);
    loop {
        let _span = tracing::debug_span!("make level", level = levels.len() as u64).entered();
        let Start { comm, nodes, block, source, near_null } = start;
        let n_local = nodes.map.n_local();
        let Kept { csr, inverse, norms, free } =
            dispatch_square!(block, keep(&source, &nodes.halo, n_local, scale));
        let mut level = Level::new(block, nodes.clone(), comm.size() > 1, csr, inverse, options.degree);
        if nodes.map.n_global() * block as u64 <= factorised && transfer.is_none() {
            let a = dispatch_square!(block, dense(&comm, &nodes, &source, scale));
            let n = (nodes.map.n_global() * block as u64) as usize;
            level.below = Below::Dense { comm, factor: Cholesky::new(n, a, options.singular) };
            levels.push(level);
            return Ok((levels, scale));
        }
        level.lambda = dispatch_level!(level, largest_eigenvalue(&comm, &mut level, STEPS)) as f32;
        let first = transfer.take();
        let explicit = first.is_some();
        let times =
            |raw, modes: usize| dispatch!(block, modes, product(&comm, &source, &nodes, raw, &norms, scale));
        let made = match first {
            Some(Transfer { map, halo, block: modes, ptr, col, val, near_null, matrix: Some(made) }) => {
                level.csr.drop_rows();
                let matrix = Wide::of(&made.0, &made.1);
                let transposed = None;
                Some((Coarse { matrix, map, halo, ptr, col, val, transposed }, modes, near_null))
            }
            Some(mut transfer) => {
                level.csr.drop_rows();
                let (modes, near_null) = (transfer.block, std::mem::take(&mut transfer.near_null));
                Some((times(raw_of(transfer), modes), modes, near_null))
            }
            None => aggregated(&comm, &level, &norms, &free, near_null, options, levels.len()).map(
                |(raw, modes, near_null)| {
                    level.csr.drop_rows();
                    (times(raw, modes), modes, near_null)
                },
            ),
        };
        let Some((coarse, modes, near_null)) = made else {
            level.csr.drop_rows();
            levels.push(level);
            return Ok((levels, scale));
        };
        drop((source, norms));
        let Coarse { matrix, map, halo, ptr, col, val, transposed } = coarse;
        let csr = Csr::new(ptr, col, val, map.n_owned());
        let p = Prolongation::new(csr, (block, modes), map.n_local(), transposed);
        let below = Arc::new(Nodes { map, halo });
        let residual = vec![0.0; below.map.n_local() * modes];
        let mut down = Down { p, modes, nodes: below.clone(), residual, gathered: None, first: None };
        let (fine_nodes, coarse_nodes) = (nodes.map.n_global(), below.map.n_global());
        let stalled = !explicit && coarse_nodes as f64 * STALLED > fine_nodes as f64;
        let few = coarse_nodes < FEW * comm.size() as u64 || stalled;
        let unknowns = coarse_nodes * modes as u64;
        let gather = comm.size() > 1 && few && unknowns > factorised && unknowns <= GATHERED;
        if levels.is_empty() && unknowns > factorised && coarse_nodes >= TWICE * comm.size() as u64 {
            down.first = Some(vector(below.map.n_local(), modes));
        }
        start = if gather {
            down.gathered = Some((comm.clone(), vector(below.map.n_local(), modes)));
            everywhere(&comm, &below.map, &matrix, &near_null, modes)
        } else {
            let source = Source::Wide(matrix);
            Start { comm: comm.clone(), nodes: below, block: modes, source, near_null }
        };
        level.below = Below::Coarse(Box::new(down));
        levels.push(level);
        if (stalled && !gather) || levels.len() + 1 == MOST_LEVELS {
            // Smoothing is all that the last level gets.
            levels.push(last(start, options, scale));
            return Ok((levels, scale));
        }
    }
}

/// A last level that is too large to factorise and does not get smaller. Collective.
fn last(start: Start, options: &Options, scale: f64) -> Level {
    let Start { comm, nodes, block, source, .. } = start;
    let n_local = nodes.map.n_local();
    let kept = dispatch_square!(block, keep(&source, &nodes.halo, n_local, scale));
    let mut level = Level::new(block, nodes, comm.size() > 1, kept.csr, kept.inverse, options.degree);
    level.lambda = dispatch_level!(level, largest_eigenvalue(&comm, &mut level, STEPS)) as f32;
    level.csr.drop_rows();
    level
}

/// Aggregates, tentative and smoothed prolongation; none if there is nothing to aggregate. Collective.
fn aggregated(
    comm: &Comm,
    level: &Level,
    norms: &[f32],
    free: &[bool],
    near_null: Vec<Vec<f64>>,
    options: &Options,
    depth: usize,
) -> Option<(Raw, usize, Vec<Vec<f64>>)> {
    let _span = tracing::debug_span!("aggregate").entered();
    let theta = options.threshold * 0.5f64.powi(depth as i32);
    let block = level.block;
    let strong = strong(&level.csr, block, norms, theta);
    let aggregates = aggregate(&level.csr, block, &strong, options.aggregate);
    if comm.sum(aggregates.n as u64) == 0 {
        return None;
    }
    let near_null = if near_null.is_empty() { constants(free, block) } else { near_null };
    let modes = near_null.len();
    let tentative = Tentative::new(&aggregates, block, &near_null);
    drop(near_null);
    let offset = comm.exclusive_sum(aggregates.n as u64);
    let raw = dispatch!(block, modes, smoothed(level, &strong.flags, &aggregates, &tentative, offset));
    Some((raw, modes, tentative.near_null))
}

fn product<const R: usize, const C: usize, const L: usize>(
    comm: &Comm,
    source: &Source,
    nodes: &Nodes,
    raw: Raw,
    norms: &[f32],
    scale: f64,
) -> Coarse {
    // Well above the round-off of a sum of element matrices, well below what single precision resolves.
    let negligible = |row: u32| 1e-12 * f64::from(norms[row as usize]) / scale;
    galerkin::coarse::<R, C>(comm, source, &nodes.halo, &nodes.map, raw, negligible)
}

/// A constant for each component, zero at DOFs that couple to nothing.
fn constants(free: &[bool], block: usize) -> Vec<Vec<f64>> {
    (0..block)
        .map(|c| {
            let mut mode = vec![0.0; free.len()];
            for (value, &free) in mode.iter_mut().zip(free).skip(c).step_by(block) {
                *value = f64::from(u8::from(free));
            }
            mode
        })
        .collect()
}

/// An explicit prolongation, its ghost columns in ascending order of their global numbers.
fn raw_of(transfer: Transfer) -> Raw {
    let n_coarse = transfer.map.n_owned();
    let mut ghosts = transfer.map.ghosts().to_vec();
    ghosts.sort_unstable();
    let moved: Vec<u32> =
        transfer.map.ghosts().iter().map(|g| (n_coarse + ghosts.partition_point(|h| h < g)) as u32).collect();
    let mut col = transfer.col;
    for c in col.iter_mut().filter(|c| **c as usize >= n_coarse) {
        *c = moved[*c as usize - n_coarse];
    }
    Raw { ptr: transfer.ptr, col, val: transfer.val, n_coarse, ghosts }
}

/// The whole matrix, dense, by rows. Collective.
fn dense<const N: usize, const L: usize>(
    comm: &Comm,
    nodes: &Nodes,
    source: &Source,
    scale: f64,
) -> Vec<f64> {
    let _span = tracing::debug_span!("coarse matrix").entered();
    let n = (nodes.map.n_global() as usize) * N;
    let mut mine: Vec<f64> = Vec::new();
    for row in 0..Rows::<N>::n_rows(source) {
        let at = mine.len();
        mine.resize(at + N * n, 0.0);
        source.visit(row, |column, block: &[[f64; N]; N]| {
            let column = nodes.map.local_to_global(column) as usize;
            for a in 0..N {
                for b in 0..N {
                    mine[at + a * n + column * N + b] = scale * block[a][b];
                }
            }
        });
    }
    comm.all_gather_varied(&mine).0
}

/// A copy of the whole level on every rank. Collective.
fn everywhere<'a>(
    comm: &Comm,
    map: &IndexMap,
    matrix: &Wide,
    near_null: &[Vec<f64>],
    block: usize,
) -> Start<'a> {
    let _span = tracing::debug_span!("gather level").entered();
    let lengths: Vec<u32> = matrix.ptr.windows(2).map(|p| p[1] - p[0]).collect();
    let columns: Vec<u32> = matrix.col.iter().map(|&c| map.local_to_global(c) as u32).collect();
    let (lengths, _) = comm.all_gather_varied(&lengths);
    let (col, _) = comm.all_gather_varied(&columns);
    let (val, _) = comm.all_gather_varied(&matrix.val);
    let near_null = near_null.iter().map(|mode| comm.all_gather_varied(mode).0).collect();
    let mut ptr = Vec::with_capacity(lengths.len() + 1);
    ptr.push(0);
    for len in lengths {
        ptr.push(ptr[ptr.len() - 1] + len);
    }
    let alone = comm.split(comm.rank() as i32, 0);
    let n = map.n_global();
    let map = IndexMap::from_parts(n as usize, 0, n, Vec::new(), Vec::new());
    let halo = Halo::new(&alone, &map);
    // Columns ascend in local numbers, ghosts last; here there are none, so they must ascend anew.
    let mut matrix = Wide { ptr, col, val };
    matrix.sort(block);
    let nodes = Arc::new(Nodes { map, halo });
    Start { comm: alone, nodes, block, source: Source::Wide(matrix), near_null }
}
