//! Smoothed aggregation multigrid: one V-cycle in single precision, as preconditioner of a Krylov method in double.
//!
//! May import `cluster` and `assembly`; knows nothing of PETSc. Start at [`Multigrid`]; `setup.rs` makes the levels,
//! `level.rs` is the cycle. In the order of the set-up: `assembled.rs` takes the matrix,
//! `rows.rs` copies it, `aggregate.rs` groups its nodes,
//! `tentative.rs` and `prolongation.rs` make the way up, `galerkin.rs` the next matrix, with `sums.rs`; `smoother.rs` and `dense.rs`
//! are what a cycle does on a level, `csr.rs` and `sliced.rs` the loops they are made of.
//!
//! Single precision halves the bytes of everything that a cycle reads, and bytes are its cost. It limits how well
//! the preconditioner approximates the inverse, not what the Krylov method around it can reach. Coarse matrices are
//! products in double precision and are rounded last.
//!
//! Sources: P. Vanek, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth order
//! elliptic problems", Computing 56, 1996; K. Stueben, "A review of algebraic multigrid", Journal of Computational
//! and Applied Mathematics 128, 2001; M. Adams, M. Brezina, J. Hu, R. Tuminaro, "Parallel multigrid smoothing:
//! polynomial versus Gauss-Seidel", Journal of Computational Physics 188, 2003.

mod aggregate;
mod assembled;
mod csr;
mod dense;
mod galerkin;
mod level;
mod parallel;
mod prolongation;
mod rows;
mod setup;
mod sliced;
mod smoother;
mod sums;
mod tentative;
mod transpose;
#[cfg(test)]
mod tests;

use cluster::{Comm, Halo, IndexMap};
use serde::{Deserialize, Serialize};

use crate::assembly::{Matrix, Pattern};
pub use assembled::Assembled;
use level::{Below, Level};
pub(super) use sliced::{LANES, Slices};

/// How the levels are made and smoothed.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Nodes couple strongly if `|a_ij| > threshold sqrt(|a_ii| |a_jj|)`; halved from level to level.
    pub threshold: f64,
    /// The degree of the smoothing polynomial, 1 to 4: products with the matrix on either side of the coarse
    /// correction.
    pub degree: usize,
    /// Aggregates with fewer nodes than this grow beyond the neighbours of one node.
    pub aggregate: usize,
    /// Whether the matrix has a null space.
    pub singular: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { threshold: 0.05, degree: 2, aggregate: 30, singular: false }
    }
}

/// A prolongation that is given, to the first level from the next: from degree 1 to a higher one.
pub struct Transfer {
    /// The coarse nodes.
    pub map: IndexMap,
    /// Moves their values.
    pub halo: Halo,
    /// Components of a coarse node.
    pub block: usize,
    /// Row offsets; one longer than the owned fine nodes.
    pub ptr: Vec<u32>,
    /// Local coarse nodes, ghosts included, ascending within a row.
    pub col: Vec<u32>,
    /// Blocks `[entry][fine component][coarse component]`. Rows and columns of prescribed DOFs are zero.
    pub val: Vec<f32>,
    /// The near-null space on owned coarse DOFs; empty: a constant for each component.
    pub near_null: Vec<Vec<f64>>,
    /// The coarse matrix, if it need not be the product of the fine one with the prolongation: columns are local nodes of
    /// `map`, and prescribed DOFs are eliminated.
    pub matrix: Option<(Pattern, Matrix)>,
}

/// What a preconditioner is made of.
pub struct Input<'a> {
    /// The ranks that share the matrix.
    pub comm: &'a Comm,
    /// The nodes.
    pub map: &'a IndexMap,
    /// Moves nodal values.
    pub halo: &'a Halo,
    /// A symmetric positive semidefinite matrix; rows and columns of prescribed DOFs hold a diagonal alone.
    pub matrix: &'a Assembled,
    /// Vectors that the operator without conditions maps to zero, on owned DOFs, zero where prescribed; empty: a
    /// constant for each component.
    pub near_null: Vec<Vec<f64>>,
    /// The first prolongation, if it is not to be found here.
    pub transfer: Option<Transfer>,
    /// Choices.
    pub options: Options,
}

/// Why there is no preconditioner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// No kernel is compiled for these blocks.
    #[error("multigrid has no kernels for {block} components a node with {modes} near-null vectors")]
    Blocks {
        /// Components a node.
        block: usize,
        /// Near-null vectors, or components of a coarse node.
        modes: usize,
    },
    /// A row without a positive diagonal.
    #[error("multigrid needs a matrix with a positive diagonal")]
    Diagonal,
    /// Arrays that do not fit each other.
    #[error("multigrid was given {what} of {found} entries where {wanted} belong")]
    Length {
        /// The array.
        what: String,
        /// Its length.
        found: usize,
        /// What it should be.
        wanted: usize,
    },
    /// More entries than 32-bit offsets reach.
    #[error("{entries} entries on one rank are more than multigrid's 32-bit offsets reach; use more ranks")]
    TooLarge {
        /// Entries of a rank.
        entries: usize,
    },
}

/// A level in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelSummary {
    /// Unknowns of all ranks.
    pub unknowns: u64,
    /// Values of the matrix that are kept, on all ranks.
    pub entries: u64,
    /// The upper end of the spectrum that is smoothed; none where a factorisation solves.
    pub lambda: Option<f64>,
}

/// The levels in figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The finest first.
    pub levels: Vec<LevelSummary>,
    /// Values of all levels by those of the first.
    pub operator_complexity: f64,
    /// What the levels take on this rank.
    pub bytes: usize,
}

/// A V-cycle: an approximate inverse, symmetric and positive definite.
pub struct Multigrid {
    comm: Comm,
    levels: Vec<Level>,
    scale: f64,
    summary: Summary,
}

impl Multigrid {
    /// Makes the levels. Collective.
    ///
    /// # Errors
    /// The same on every rank: blocks without kernels, a diagonal that is not positive, lengths that do not fit.
    pub fn new(input: Input) -> Result<Multigrid, Error> {
        let _span = tracing::debug_span!("multigrid set-up").entered();
        let comm = input.comm;
        comm.agree(check(&input))?;
        let options = Options { degree: input.options.degree.clamp(1, 4), ..input.options };
        let (levels, scale) =
            setup::levels(comm, input.map, input.matrix, input.near_null, input.transfer, &options)?;
        let summary = summarise(comm, &levels);
        Ok(Multigrid { comm: comm.clone(), levels, scale, summary })
    }

    /// `z = M r` by one V-cycle from zero. Collective.
    ///
    /// Shapes: owned DOFs.
    ///
    /// # Panics
    /// When a length is not that of the owned DOFs.
    pub fn apply(&mut self, r: &[f64], z: &mut [f64]) {
        let largest = parallel::max(&self.comm, parallel::largest(r));
        self.apply_to(r, largest, z);
    }

    /// As [`Multigrid::apply`], for an `r` whose size is known: a norm of it, the same on every rank. Collective.
    ///
    /// # Panics
    /// When a length is not that of the owned DOFs.
    pub fn apply_to(&mut self, r: &[f64], norm: f64, z: &mut [f64]) {
        let _span = tracing::debug_span!("multigrid").entered();
        self.with(level::cycle, r, norm, z);
    }

    /// As [`Multigrid::apply_to`] with the smoothing of the finest level alone, to see what it costs. Collective.
    ///
    /// # Panics
    /// When a length is not that of the owned DOFs.
    pub fn smooth(&mut self, r: &[f64], norm: f64, z: &mut [f64]) {
        self.with(level::smooth, r, norm, z);
    }

    /// `z = M r`, where `act` is what makes `x` of the first level from its `b`.
    fn with(&mut self, act: fn(&mut [Level]), r: &[f64], norm: f64, z: &mut [f64]) {
        let Some(level) = self.levels.first_mut() else { return };
        let n = level.nodes.map.n_owned() * level.block;
        assert!(r.len() == n && z.len() == n, "vectors of the owned DOFs");
        if !(norm > 0.0 && norm.is_finite()) {
            z.fill(if norm == 0.0 { 0.0 } else { f64::NAN });
            return;
        }
        // A power of two brings the vector into the range of single precision and rounds nothing.
        let factor = (-norm.log2().floor()).exp2();
        parallel::convert(r, &mut level.b[..n], |r| (r * factor) as f32);
        act(&mut self.levels);
        let back = self.scale / factor;
        parallel::convert(&self.levels[0].x[..n], z, |x| f64::from(x) * back);
    }

    /// The levels in figures.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// What can be said of the arrays of this rank alone.
fn check(input: &Input) -> Result<(), Error> {
    let block = input.matrix.block;
    let n = input.map.n_owned();
    let same = |what: &str, found: usize, wanted: usize| {
        if found == wanted { Ok(()) } else { Err(Error::Length { what: what.into(), found, wanted }) }
    };
    same("rows", input.matrix.n_rows(), n)?;
    let modes = |given: &[Vec<f64>], block: usize, n: usize| -> Result<usize, Error> {
        given.iter().try_for_each(|mode| same("a near-null vector", mode.len(), n * block))?;
        Ok(if given.is_empty() { block } else { given.len() })
    };
    let mut chain = vec![block];
    match &input.transfer {
        Some(t) => {
            same("row offsets of the transfer", t.ptr.len(), n + 1)?;
            let entries = t.ptr.last().map_or(0, |p| *p as usize);
            same("columns of the transfer", t.col.len(), entries)?;
            same("values of the transfer", t.val.len(), entries * block * t.block)?;
            chain.push(t.block);
            chain.push(modes(&t.near_null, t.block, t.map.n_owned())?);
        }
        None => chain.push(modes(&input.near_null, block, n)?),
    }
    chain.push(chain[chain.len() - 1]);
    for pair in chain.windows(2) {
        if !csr::supported(pair[0], pair[0]) || !csr::supported(pair[0], pair[1]) {
            return Err(Error::Blocks { block: pair[0], modes: pair[1] });
        }
    }
    Ok(())
}

fn summarise(comm: &Comm, levels: &[Level]) -> Summary {
    let mut figures: Vec<u64> = Vec::new();
    for level in levels {
        // What every rank has a copy of is counted once.
        let counted = u64::from(level.distributed || comm.is_root());
        let size = (level.block * level.block) as u64;
        figures.push(counted * (level.csr.n_rows() * level.block) as u64);
        figures.push(counted * level.csr.n_entries() as u64 * size);
    }
    comm.sum_slice(&mut figures);
    let summaries: Vec<LevelSummary> = levels
        .iter()
        .zip(figures.chunks_exact(2))
        .map(|(level, figures)| LevelSummary {
            unknowns: figures[0],
            entries: figures[1],
            lambda: (!matches!(level.below, Below::Dense { .. })).then_some(f64::from(level.lambda)),
        })
        .collect();
    let all: u64 = summaries.iter().map(|l| l.entries).sum();
    Summary {
        operator_complexity: all as f64 / summaries[0].entries.max(1) as f64,
        bytes: levels.iter().map(Level::bytes).sum(),
        levels: summaries,
    }
}
