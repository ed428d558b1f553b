//! Rebalance of an adapted mesh: whether cells move between ranks, which of them, and what it took.
//!
//! Imports `mesh`, the crate `partition` and its sibling `balance`. Start at [`Balancer`].

use std::time::Instant;

use partition::{Method, Reference, StealOptions};
use serde::{Deserialize, Serialize};

use super::balance::{self, Price};
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Forest};
use crate::mesh::{Mesh, MeshError};

/// Why a mesh could not be adapted or dealt out anew.
#[derive(Debug, thiserror::Error)]
pub enum AdaptError {
    /// The forest's or the mesh's.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The partitioner's.
    #[error("partition: {0}")]
    Partition(#[from] partition::Error),
}

/// When and how cells move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How owners are found.
    pub method: Method,
    /// Cells move when the largest load is above this times the mean.
    pub imbalance: f64,
    /// No clock and no race decides.
    pub deterministic: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { method: Method::Steal, imbalance: 1.05, deterministic: false }
    }
}

/// How the cells of a mesh came to their ranks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dealt {
    /// Before and after cells were moved.
    pub imbalance: [f64; 2],
    /// Facets between cells of different ranks, on the mesh as it is then.
    pub edge_cut: u64,
    /// Over all ranks.
    pub moved_cells: u64,
    /// What found the owners; empty where nobody was asked.
    pub method: String,
    /// Of the rebalance, where one took place.
    pub rounds: u64,
    /// Clusters that were claimed.
    pub claims: u64,
    /// Over all ranks.
    pub moved_bytes: u64,
    /// The least that has to flow over contacts of ranks, in parts of a cell of mean cost.
    pub flow_l1: f64,
    /// Why METIS took over, if it did.
    pub fallback: Option<String>,
}

impl Dealt {
    /// Both moves of a step: of cells that will be cut, and of what has become of them.
    pub fn then(self, second: Dealt) -> Dealt {
        let last = if second.moved_cells > 0 { &second } else { &self };
        // What the second found is what the first left, and what came of cutting cells.
        let before = if self.moved_cells > 0 { self.imbalance[0] } else { second.imbalance[0] };
        Dealt {
            imbalance: [before, second.imbalance[1]],
            edge_cut: second.edge_cut,
            moved_cells: self.moved_cells + second.moved_cells,
            method: last.method.clone(),
            rounds: self.rounds + second.rounds,
            claims: self.claims + second.claims,
            moved_bytes: self.moved_bytes + second.moved_bytes,
            flow_l1: self.flow_l1 + second.flow_l1,
            fallback: last.fallback.clone(),
        }
    }
}

/// Moves cells, and remembers what the next decision needs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Balancer {
    /// What a partition from scratch cut.
    pub reference: Option<Reference>,
    /// What the last rebalance took.
    pub price: Option<Price>,
}

impl Balancer {
    /// Moves cells between ranks where their loads are uneven, and builds the mesh anew where they moved: `mesh` and
    /// `facets` are those of `forest`, before and after. `loads`: what each owned cell is expected to cost, block
    /// after block. Where `seconds` are given, those that the steps until the next call take, cells move only if
    /// that pays, once it is known what a move takes. Collective.
    ///
    /// # Errors
    /// What the partitioner and the forest refuse, the same on every rank.
    pub fn rebalance(
        &mut self,
        forest: &mut Forest,
        mesh: &mut Mesh,
        facets: &mut Facets,
        carried: &mut Carried,
        loads: &[f64],
        seconds: Option<f64>,
        options: &Options,
    ) -> Result<Dealt, AdaptError> {
        let mut rebuilt = None;
        let mut dealt = self.moved(forest, mesh, facets, carried, loads, seconds, options, |forest| {
            let mesh = forest.mesh()?;
            let facets = Facets::new(&mesh);
            rebuilt = Some((mesh, facets));
            Ok(())
        })?;
        if let Some(rebuilt) = rebuilt {
            (*mesh, *facets) = rebuilt;
        }
        if mesh.comm.size() > 1 {
            dealt.edge_cut = balance::edge_cut(mesh, facets);
        }
        Ok(dealt)
    }

    /// As [`Balancer::rebalance`] of cells that are about to be cut: `mesh` is that of `forest` before they move, and of
    /// no use afterwards. The edges cut are not counted. Collective.
    ///
    /// # Errors
    /// As there.
    pub fn move_first(
        &mut self,
        forest: &mut Forest,
        mesh: &Mesh,
        facets: &Facets,
        carried: &mut Carried,
        loads: &[f64],
        seconds: Option<f64>,
        options: &Options,
    ) -> Result<Dealt, AdaptError> {
        self.moved(forest, mesh, facets, carried, loads, seconds, options, |_| Ok(()))
    }

    /// Moves cells; where they moved, `rebuild` is done, and paid for. Collective.
    fn moved(
        &mut self,
        forest: &mut Forest,
        mesh: &Mesh,
        facets: &Facets,
        carried: &mut Carried,
        loads: &[f64],
        seconds: Option<f64>,
        options: &Options,
        rebuild: impl FnOnce(&Forest) -> Result<(), MeshError>,
    ) -> Result<Dealt, AdaptError> {
        let comm = &mesh.comm;
        if comm.size() == 1 {
            return Ok(Dealt { imbalance: [1.0; 2], ..Dealt::default() });
        }
        let begin = Instant::now();
        let imbalance = balance::imbalance(comm, loads);
        if imbalance <= options.imbalance || options.method == Method::None {
            return Ok(Dealt { imbalance: [imbalance; 2], ..Dealt::default() });
        }
        let graph = balance::graph(mesh, facets, loads)?;
        let steal = StealOptions {
            method: options.method,
            trigger: options.imbalance,
            target: options.imbalance.min(1.03),
            deterministic: options.deterministic,
            dimensions: mesh.dim as u32,
            ..StealOptions::default()
        };
        let cost =
            seconds.zip(self.price).and_then(|(seconds, price)| price.cost(seconds, mesh.n_cells_global));
        let bytes = forest.leaf_bytes(carried);
        let found = partition::rebalance(comm, &graph, &bytes, self.reference, cost.as_ref(), &steal)?;
        self.reference = found.reference;
        let report = found.report;
        let mut dealt = Dealt {
            imbalance: [report.imbalance_before, report.imbalance_after],
            edge_cut: 0,
            moved_cells: report.moved_vertices,
            method: serde_word(&report.method),
            rounds: report.rounds,
            claims: report.claims,
            moved_bytes: 0,
            flow_l1: report.flow_l1,
            fallback: report.fallback.as_ref().map(serde_word),
        };
        if report.moved_vertices > 0 {
            let before = Instant::now();
            let moved = forest.migrate(&found.owner, carried)?;
            let moving = before.elapsed().as_secs_f64();
            rebuild(forest)?;
            dealt.moved_bytes = comm.sum(moved.bytes);
            let rest = begin.elapsed().as_secs_f64() - moving;
            self.price =
                Some(Price::measured(comm, self.price, moving, moved.bytes, rest, mesh.n_cells_global));
        }
        Ok(dealt)
    }
}

/// How serde writes a variant without fields.
fn serde_word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
