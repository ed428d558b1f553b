//! Moving cells between ranks in the adaptive loop.
//!
//! Imports `adapt`, `mesh`, the crate `partition` and its sibling `error`. Start at [`Balancer::rebalance`].

use std::time::Instant;

use cluster::Comm;
use partition::{Method, Reference, StealOptions};
use serde::{Deserialize, Serialize};

use super::error::{Kind, RunError};
use crate::adapt::balance::{self, Price};
use crate::case::{Adapt, Rebalance};
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Forest};
use crate::mesh::{Mesh, MeshError};

/// How the cells of a mesh came to their ranks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Dealt {
    /// Before and after cells were moved.
    pub(super) imbalance: [f64; 2],
    pub(super) edge_cut: u64,
    pub(super) moved_cells: u64,
    pub(super) method: String,
    /// Of the rebalance, where one took place.
    pub(super) rounds: u64,
    pub(super) claims: u64,
    pub(super) moved_bytes: u64,
    pub(super) flow_l1: f64,
    pub(super) fallback: Option<String>,
}

impl Dealt {
    /// Both moves of a step: of cells that will be cut, and of what has become of them.
    pub(super) fn then(self, second: Dealt, edge_cut: u64) -> Dealt {
        let both = second.moved_cells > 0 && self.moved_cells > 0;
        let last = if second.moved_cells > 0 { &second } else { &self };
        Dealt {
            imbalance: [
                self.imbalance[0].max(if both { 0.0 } else { second.imbalance[0] }),
                second.imbalance[1],
            ],
            edge_cut,
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

/// Where cells are before they are moved.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) facets: &'a Facets,
    /// Of each owned cell.
    pub(super) loads: &'a [f64],
}

/// What is known from the rebalances before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Balancer {
    /// What a partition from scratch cut.
    pub(super) reference: Option<Reference>,
    /// How the cells came to where they are.
    pub(super) dealt: Dealt,
    /// What moving cells took.
    pub(super) price: Option<Price>,
}

impl Balancer {
    /// Moves cells between ranks where their loads are uneven and that pays for a step of so many seconds; `rebuild`
    /// is done and paid for where they moved. Collective.
    pub(super) fn rebalance(
        &mut self,
        comm: &Comm,
        adapt: &Adapt,
        forest: &mut Forest,
        at: Place,
        values: &mut Carried,
        step: f64,
        rebuild: impl FnOnce(&Forest) -> Result<(), MeshError>,
    ) -> Result<Dealt, RunError> {
        if comm.size() == 1 {
            return Ok(Dealt { imbalance: [1.0; 2], method: "none".into(), ..Dealt::default() });
        }
        let Place { mesh, facets, loads } = at;
        let begin = Instant::now();
        let imbalance = balance::imbalance(comm, loads);
        if imbalance <= adapt.imbalance || adapt.rebalance == Rebalance::None {
            let method = self.dealt.method.clone();
            return Ok(Dealt { imbalance: [imbalance; 2], method, ..Dealt::default() });
        }
        let fail = |e: partition::Error| RunError::new(Kind::Environment, "partition", e.to_string());
        let graph = balance::graph(mesh, facets, loads).map_err(fail)?;
        let options = StealOptions {
            method: match adapt.rebalance {
                Rebalance::Steal => Method::Steal,
                Rebalance::Metis => Method::Metis,
                Rebalance::None => Method::None,
            },
            trigger: adapt.imbalance,
            target: adapt.imbalance.min(1.03),
            deterministic: adapt.deterministic,
            dimensions: mesh.dim as u32,
            ..StealOptions::default()
        };
        let cost = self.price.and_then(|price| price.cost(step, mesh.n_cells_global));
        let bytes = forest.leaf_bytes(values);
        let found = partition::rebalance(comm, &graph, &bytes, self.reference, cost.as_ref(), &options)
            .map_err(fail)?;
        self.reference = found.reference;
        let report = found.report;
        let mut dealt = Dealt {
            imbalance: [report.imbalance_before, report.imbalance_after],
            edge_cut: report.edge_cut_after,
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
            let moved = forest.migrate(&found.owner, values)?;
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
fn serde_word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
