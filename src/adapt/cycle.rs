//! The mesh follows what moves: one call that refines, coarsens and rebalances between two steps in time.
//!
//! Imports `mesh`, the crate `partition` and its siblings `mark` and `rebalance`. Start at [`Cycle::adapt`]. What
//! goes from mesh to mesh are the refinement forest and the fields of a [`Carried`]; [`super::transfer`] makes
//! these of nodal vectors, and vectors of these:
//!
//! ```text
//! let mut forest = Forest::new(&mesh)?;
//! let mut cycle = Cycle::new(options, None);
//! loop {
//!     // A few steps in time on `mesh`, then an indicator for each owned cell.
//!     let mut carried = Carried::new();
//!     let field = carried.add_nodal(degree, 1, to_cells(&mesh, &space, &u, 1));
//!     mesh = cycle.adapt(&mut forest, mesh, &mut carried, &indicators, None, None)?.mesh;
//!     space = Space::new(&mesh, degree, order)?;
//!     u = from_cells(&mesh, &space, carried.values(field), 1);
//! }
//! ```

use partition::Reference;

use super::mark::{self, Amount};
pub use super::rebalance::{AdaptError, Balancer, Dealt, Options as Balance};
use crate::mesh::Mesh;
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Changed, Forest, Mark};

/// What a cycle is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Cells of the largest indicators are refined.
    pub refine: Amount,
    /// Cells of the least indicators, which together hold at most this share of the sum of all and none of which is
    /// to be refined, may be joined; `None` never joins any. What is marked so for refinement and for this should
    /// leave some cells alone, or they are joined and cut in turn.
    pub coarsen: Option<f64>,
    /// Cells stay within so many cuts of their roots, but for those that follow a neighbour: a refinement is
    /// `dim` cuts of a simplex, one of a quadrilateral or hexahedron.
    pub deepest: u8,
    /// When cells move between ranks, and how.
    pub balance: Balance,
}

/// What a cycle leaves.
pub struct Adapted {
    /// The new mesh; its owned cells are the forest's leaves.
    pub mesh: Mesh,
    /// Its facets, for estimates.
    pub facets: Facets,
    /// Cells marked to be refined and to be joined, over all ranks.
    pub marked: [u64; 2],
    /// What became of them.
    pub changed: Changed,
    /// How cells were dealt out.
    pub dealt: Dealt,
}

/// Refines and coarsens again and again, and remembers what balances the ranks.
#[derive(Debug, Clone)]
pub struct Cycle {
    options: Options,
    balancer: Balancer,
}

impl Cycle {
    /// `reference` is what the partition of the first mesh cut, where it is known.
    pub fn new(options: Options, reference: Option<Reference>) -> Cycle {
        Cycle { options, balancer: Balancer { reference, price: None } }
    }

    /// What each owned cell is marked for, and how many are, over all ranks: to be refined, to be joined. Collective.
    fn marks(&self, forest: &Forest, mesh: &Mesh, indicators: &[f64]) -> (Vec<Mark>, [u64; 2]) {
        let comm = &mesh.comm;
        let Options { refine, coarsen, deepest, .. } = self.options;
        let large = mark::largest(comm, indicators, refine);
        let small = coarsen.map(|share| mark::least(comm, indicators, share, large.threshold));
        let cuts = forest.cuts();
        let mut marked = [0u64; 2];
        let mut marks = vec![Mark::Keep; indicators.len()];
        // Where there are not as many indicators as cells the forest says so.
        for (cell, (mark, key)) in marks.iter_mut().zip(forest.keys()).enumerate() {
            if large.chosen[cell] {
                if key.level.saturating_add(cuts) <= deepest {
                    *mark = Mark::Refine;
                    marked[0] += 1;
                }
            } else if small.as_ref().is_some_and(|small| small.chosen[cell]) {
                *mark = Mark::Coarsen;
                marked[1] += 1;
            }
        }
        comm.sum_slice(&mut marked);
        (marks, marked)
    }

    /// Marks, joins and refines cells, lets ranks steal from each other where they have become uneven, and brings
    /// all of `carried` along: nodal fields exactly where cells are cut, by the children's values at the nodes
    /// of the parent where they are joined. `mesh` is that of `forest` as it is; memory for it is free again
    /// before the next one is made. Collective.
    ///
    /// `costs` is the field of `carried` with what a cell costs, for the balance; without one all cells count alike.
    /// With `seconds`, those that the steps until the next cycle take, cells move only where that pays. The new
    /// mesh depends on neither, nor on the number of ranks.
    ///
    /// # Shapes
    /// `indicators`: one for each owned cell, block after block, not negative; squares of errors for [`Amount::Share`].
    ///
    /// # Errors
    /// Indicators or fields that do not fit the mesh; a cell that cannot be cut any more; what the partitioner
    /// refuses. The same on every rank; [`Forest::mesh`] then has the mesh as it is.
    pub fn adapt(
        &mut self,
        forest: &mut Forest,
        mesh: Mesh,
        carried: &mut Carried,
        indicators: &[f64],
        costs: Option<usize>,
        seconds: Option<f64>,
    ) -> Result<Adapted, AdaptError> {
        let _span = tracing::debug_span!("adapt cycle").entered();
        let (marks, marked) = self.marks(forest, &mesh, indicators);
        drop(mesh);
        let changed = forest.adapt(&marks, carried)?;
        let mut mesh = forest.mesh()?;
        let mut facets = Facets::new(&mesh);
        let loads = match costs {
            Some(field) => carried.values(field).to_vec(),
            None => vec![1.0; forest.n_leaves()],
        };
        let dealt = self.balancer.rebalance(
            forest,
            &mut mesh,
            &mut facets,
            carried,
            &loads,
            seconds,
            &self.options.balance,
        )?;
        tracing::info!(cells = mesh.n_cells_global, ?marked, ?changed, "adapted");
        Ok(Adapted { mesh, facets, marked, changed, dealt })
    }
}
