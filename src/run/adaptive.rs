//! The adaptive driver: solve, estimate, mark, refine, rebalance, and again.
//!
//! Imports its siblings. Start at [`run`]. A mesh lives for one solve; what goes from one to the next is the
//! refinement forest and, cell by cell, the solution, from which the next solve starts.

use std::time::Instant;

use partition::{Method, Reference, StealOptions};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Due, Still, Structure};
use super::error::{Kind, RunError};
use super::materials::Materials;
use super::stage::{self, Run, Solution, Stage, State};
use crate::adapt::balance::{self, Price, Times};
use crate::adapt::estimate::{self, Estimate};
use crate::adapt::mark::{self, Amount, Choice};
use crate::adapt::transfer;
use crate::assembly::Problem;
use crate::case::{Adapt, Estimator, Marking, Rebalance};
use crate::mesh::facets::Facets;
use crate::mesh::forest::{Carried, Changed, Forest, Mark, Merge};
use crate::mesh::{Mesh, MeshError};
use crate::output::events::Event;
use crate::output::phases::{self, Phases};
use crate::output::run_json::{AdaptReport, AdaptStep, PartitionReport};

use super::conditions::Conditions;

/// The loop ends when the unknowns have come this near to the most allowed: a further step would gain nothing.
const CLOSE: f64 = 0.97;

/// Children that a marked cell may have, those of the neighbours that follow it included, over `2^dim`. Where
/// so many fit, the mesh is not refined as a copy first.
const MOST_CHILDREN: u32 = 8;

/// How often fewer cells are marked for a mesh below the limit.
const MOST_TRIES: u32 = 5;

/// What a run begins with.
pub(super) struct Begin {
    pub(super) mesh: Mesh,
    /// Of a mesh that was adapted before.
    pub(super) forest: Option<Forest>,
    pub(super) partition: PartitionReport,
    /// The solution so far, at each owned cell's own nodes.
    pub(super) start: Option<Vec<f64>>,
    /// What the loop remembered, of a run that goes on.
    pub(super) driver: Option<serde_json::Value>,
    /// Whether the ranks have again what they had when the run was left.
    pub(super) exact: bool,
}

/// What goes from one run of the loop to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    report: AdaptReport,
    reference: Option<Reference>,
    dealt: Dealt,
    price: Option<Price>,
}

/// Solves on finer and finer meshes until a limit of the case is reached. Collective.
///
/// # Errors
/// As the steady driver's; a cell that cannot be refined any further.
pub(super) fn run(run: &mut Run, begin: Begin, adapt: &Adapt) -> Result<Solution, RunError> {
    let case = run.case;
    let Begin { mut mesh, forest, partition, start, driver: remembered, exact } = begin;
    let mut forest = match forest {
        Some(forest) => forest,
        None => run.phases.time("refine", || Forest::new(&mesh))?,
    };
    let mut driver = Driver {
        adapt,
        report: AdaptReport::default(),
        reference: (partition.edge_cut > 0).then(|| Reference::new(partition.edge_cut, mesh.n_cells_global)),
        dealt: Dealt {
            imbalance: [partition.imbalance; 2],
            edge_cut: partition.edge_cut,
            method: partition.method,
            ..Dealt::default()
        },
        price: None,
        spent: 0.0,
    };
    if let Some(remembered) = remembered {
        driver.take_up(remembered, exact);
    }
    let components = case.physics.law.n_components(mesh.dim);
    let mut carried: Option<(Carried, usize)> = start.map(|start| {
        let mut carried = Carried::new();
        let field = carried.add_nodal(case.degree, components, start);
        (carried, field)
    });
    // The other estimators, on one rank, look at no facets.
    let looks = adapt.estimator == Estimator::Kelly || run.comm.size() > 1;
    let find = |mesh: &Mesh| if looks { Facets::new(mesh) } else { Facets::default() };
    let mut facets = run.phases.time("estimate", || find(&mesh));
    loop {
        let mut next = None;
        let mut solution = None;
        let step = driver.report.steps.len() as u32;
        if step > 0 {
            run.report.adapt = Some(driver.report.clone());
        }
        let still = Still { structure: Structure::Forest(&forest), step, driver: Some(driver.remember()) };
        let due = run.keeper.poll(run.comm, case, Some(step));
        stage::on_mesh(run, &mesh, &mut |stage, problem, materials, conditions| {
            // Checkpoints have them as they are, bit for bit.
            let by_cell = carried.take().map(|(mut carried, field)| carried.take(field));
            match due {
                Due::Stop(_) => return Err(stage.stop_with(&still, by_cell, problem.components())),
                Due::Write => stage.keep(&still, by_cell.clone(), problem.components(), "interval"),
                Due::Nothing => {}
            }
            let start = by_cell
                .map(|by_cell| transfer::from_cells(stage.mesh, stage.space, &by_cell, problem.components()));
            let before = seconds(stage.run.phases);
            let mut state = stage.solve(problem, materials, conditions, start, &still)?;
            let after = seconds(stage.run.phases);
            let times =
                Times { cells: after.cells - before.cells, unknowns: after.unknowns - before.unknowns };
            let ended = driver.step(stage, problem, materials, conditions, &facets, &mut state, &still)?;
            match ended {
                Some(reason) => {
                    driver.report.stop_reason = reason.to_owned();
                    stage.run.report.adapt = Some(driver.report.clone());
                    stage.keep_end(problem, &state, &still);
                    solution = Some(stage.finish(problem, state)?);
                }
                None => {
                    let mut carried = Carried::new();
                    let values = transfer::to_cells(stage.mesh, stage.space, &state.u, problem.components());
                    let field = carried.add_nodal(case.degree, problem.components(), values);
                    let costs = balance::costs(stage.mesh, stage.space, &times, adapt.deterministic);
                    let costs = carried.add_cell(1, Merge::Mean, costs);
                    next = Some((state.indicators, carried, field, costs));
                }
            }
            Ok(())
        })?;
        if let Some(solution) = solution {
            return Ok(solution);
        }
        let (indicators, mut values, field, costs) = next.expect("a step ends or goes on");
        let (cells, dofs) = (mesh.n_cells_global, run.report.dofs);
        let refined = run.phases.time("refine", || -> Result<_, RunError> {
            let changed = driver.refine(&mut forest, &mut values, &mesh, &indicators, dofs)?;
            mesh = forest.mesh()?;
            Ok(changed)
        })?;
        tracing::info!(cells, now = mesh.n_cells_global, ?refined, "refined");
        facets = run.phases.time("estimate", || find(&mesh));
        let (begin, span) = (Instant::now(), phases::span("rebalance"));
        // The next step is as long as this one was, but for its cells.
        let spent = repeated(run.phases);
        let step = (spent - driver.spent) * mesh.n_cells_global as f64 / cells.max(1) as f64;
        driver.spent = spent;
        let dealt = driver.rebalance(run, &mut forest, &mut mesh, &mut facets, &mut values, costs, step)?;
        drop(span);
        run.phases.add("rebalance", begin.elapsed().as_secs_f64());
        run.phases.count("rebalance");
        driver.tell(run, &dealt);
        run.report.partition = Some(PartitionReport {
            imbalance: dealt.imbalance[1],
            edge_cut: dealt.edge_cut,
            method: dealt.method.clone(),
        });
        driver.dealt = dealt;
        carried = Some((values, field));
    }
}

/// Seconds so far of what is done again on every mesh.
fn seconds(phases: &Phases) -> Times {
    let of = |names: &[&str]| names.iter().map(|name| phases.seconds(name)).sum();
    Times { cells: of(&["pattern", "assemble"]), unknowns: of(&["pc_setup", "solve"]) }
}

/// Seconds so far of all that is done again in every step and waits for the rank with most to do.
fn repeated(phases: &Phases) -> f64 {
    let rest: f64 = ["space", "estimate", "refine"].iter().map(|name| phases.seconds(name)).sum();
    seconds(phases).total() + rest
}

/// How the cells of a mesh came to their ranks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Dealt {
    /// Before and after cells were moved.
    imbalance: [f64; 2],
    edge_cut: u64,
    moved_cells: u64,
    method: String,
    /// Of the rebalance, where one took place.
    rounds: u64,
    claims: u64,
    moved_bytes: u64,
    flow_l1: f64,
    fallback: Option<String>,
}

/// What the loop remembers.
struct Driver<'a> {
    adapt: &'a Adapt,
    report: AdaptReport,
    /// What a partition from scratch cut.
    reference: Option<Reference>,
    dealt: Dealt,
    /// What the last rebalance took.
    price: Option<Price>,
    /// Seconds in phases that are repeated, until the last time loads were looked at.
    spent: f64,
}

impl Driver<'_> {
    /// What a checkpoint keeps of the loop.
    fn remember(&self) -> serde_json::Value {
        let Driver { report, reference, dealt, price, .. } = self;
        let remembered =
            Remembered { report: report.clone(), reference: *reference, dealt: dealt.clone(), price: *price };
        serde_json::to_value(remembered).unwrap_or_default()
    }

    /// Goes on with what was kept; on other ranks than before the partition is a new one.
    fn take_up(&mut self, remembered: serde_json::Value, exact: bool) {
        let Ok(Remembered { mut report, reference, dealt, price }) = serde_json::from_value(remembered)
        else {
            return;
        };
        report.stop_reason.clear();
        self.report = report;
        if exact {
            (self.reference, self.dealt, self.price) = (reference, dealt, price);
        }
    }

    /// Estimates the error of a solve, reports it, and says why the loop ends, if it does. Collective.
    fn step(
        &mut self,
        stage: &mut Stage,
        problem: &dyn Problem,
        materials: &Materials,
        conditions: &Conditions,
        facets: &Facets,
        state: &mut State,
        still: &Still,
    ) -> Result<Option<&'static str>, RunError> {
        let mesh = stage.mesh;
        let (begin, span) = (Instant::now(), phases::span("output"));
        let errors = stage.errors(problem, &state.u)?;
        drop(span);
        stage.run.phases.add("output", begin.elapsed().as_secs_f64());
        stage.run.phases.count("output");
        let (begin, before) = (Instant::now(), seconds(stage.run.phases));
        let span = phases::span("estimate");
        let Estimated { indicators, total, error_of_goal } =
            estimated(self.adapt, stage, problem, materials, conditions, facets, state)?;
        if self.adapt.estimator == Estimator::Goal && stage.run.keeper.stopping().is_some() {
            // The dual problem's solve was stopped.
            return Err(stage.stop(still, Some(&state.u), problem.components()));
        }
        let energy = match (self.adapt.tolerance, error_of_goal) {
            // A goal's error is relative to the goal.
            (Some(_), Some([value, _])) => value.abs(),
            (Some(_), None) => estimate::energy_norm(problem, &state.u).map_err(|e| stage.locate(e))?,
            (None, _) => 0.0,
        };
        drop(span);
        // A dual problem's solve is in the solver's phases.
        let dual = seconds(stage.run.phases).total() - before.total();
        stage.run.phases.add("estimate", begin.elapsed().as_secs_f64() - dual);
        stage.run.phases.count("estimate");
        let dofs = stage.run.report.dofs;
        let step = self.report.steps.len();
        let mut entry = AdaptStep {
            step: step as u32,
            cells: mesh.n_cells_global,
            dofs,
            estimate: total,
            l2: errors.as_ref().map(|e| e.l2),
            h1: errors.as_ref().map(|e| e.h1),
            imbalance_before: self.dealt.imbalance[0],
            imbalance_after: self.dealt.imbalance[1],
            moved_cells: self.dealt.moved_cells,
            edge_cut: self.dealt.edge_cut,
            extra: Default::default(),
        };
        let mut note = |key: &str, value: serde_json::Value| {
            entry.extra.insert(key.to_owned(), value);
        };
        if let Some(solver) = &stage.run.report.solver {
            note("iterations", solver.iterations.into());
        }
        if let Some([value, error]) = error_of_goal {
            note("goal", value.into());
            note("goal_error", error.into());
        } else if let Some(exact) = &stage.case.exact {
            let error = estimate::energy_error(problem, &exact.key, &exact.components, &state.u)
                .map_err(|e| stage.locate(e))?;
            if error > 0.0 {
                note("efficiency", (total / error).into());
            }
        }
        if self.dealt.moved_cells > 0 {
            note("rebalanced_by", self.dealt.method.clone().into());
            note("rounds", self.dealt.rounds.into());
            note("claims", self.dealt.claims.into());
            note("moved_bytes", self.dealt.moved_bytes.into());
            note("least_flow", self.dealt.flow_l1.into());
            if let Some(fallback) = &self.dealt.fallback {
                note("fallback", fallback.clone().into());
            }
        }
        state.errors = errors;
        state.indicators = indicators;
        let over = self.adapt.max_dofs.is_some_and(|most| dofs as f64 >= CLOSE * most as f64);
        let reason = if state.failure.is_some() {
            Some("not_converged")
        } else if self.adapt.tolerance.is_some_and(|tolerance| total <= tolerance * energy) {
            Some("tolerance")
        } else if over {
            Some("max_dofs")
        } else if step >= self.adapt.max_steps {
            Some("max_steps")
        } else if total <= 0.0 {
            Some("no_error_left")
        } else {
            None
        };
        self.report.steps.push(entry);
        tracing::info!(step, cells = mesh.n_cells_global, dofs, estimate = total, "adapted");
        Ok(reason)
    }

    /// Refines the cells of the largest indicators: as many as the case says, or fewer where the mesh would have
    /// more unknowns than it allows. Collective.
    fn refine(
        &mut self,
        forest: &mut Forest,
        values: &mut Carried,
        mesh: &Mesh,
        indicators: &[f64],
        dofs: u64,
    ) -> Result<Changed, MeshError> {
        let comm = &mesh.comm;
        let marks = |choice: &Choice| -> Vec<Mark> {
            choice.chosen.iter().map(|&c| if c { Mark::Refine } else { Mark::Keep }).collect()
        };
        let mut choice = mark::largest(
            comm,
            indicators,
            match self.adapt.marking {
                Marking::Dorfler(share) => Amount::Share(share),
                Marking::Fraction(fraction) => Amount::Fraction(fraction),
            },
        );
        let cells = mesh.n_cells_global.max(1) as f64;
        let (dofs, per_cell) = (dofs as f64, dofs as f64 / cells);
        let most = self.adapt.max_dofs.map_or(f64::INFINITY, |most| most as f64);
        let mut tries = 0;
        let changed = loop {
            let marked = choice.n_global as f64;
            if dofs + marked * per_cell * f64::from(MOST_CHILDREN << mesh.dim) <= most {
                break forest.adapt(&marks(&choice), values)?;
            }
            // How far the closure reaches is known when it is done: on a copy, as the mesh may be too large.
            let (mut tried, mut carried) = (forest.clone(), values.clone());
            let changed = tried.adapt(&marks(&choice), &mut carried)?;
            let would = comm.sum(tried.n_leaves() as u64) as f64 * per_cell;
            tries += 1;
            if would <= most || tries == MOST_TRIES || marked <= 1.0 {
                (*forest, *values) = (tried, carried);
                break changed;
            }
            let fewer = (marked * CLOSE * (most - dofs) / (would - dofs)).min(0.9 * marked).max(1.0);
            choice = mark::largest(comm, indicators, Amount::Fraction(fewer / cells));
        };
        if let Some(step) = self.report.steps.last_mut() {
            step.extra.insert("marked_cells".to_owned(), choice.n_global.into());
        }
        Ok(changed)
    }

    /// Says why cells were moved, or not.
    fn tell(&self, run: &mut Run, dealt: &Dealt) {
        let (choice, because) = match (run.comm.size(), dealt.moved_cells) {
            (1, _) => return,
            (_, 0) if dealt.imbalance[0] <= self.adapt.imbalance => {
                ("none", "the largest load is within `imbalance` times the mean")
            }
            (_, 0) if self.adapt.rebalance == Rebalance::None => ("none", "the case says so"),
            (_, 0) => ("none", "moving cells would cost more than it brings"),
            (_, _) => (dealt.method.as_str(), "the largest load is above `imbalance` times the mean"),
        };
        let mut event = Event::new("rebalance", choice, because)
            .input("imbalance_before", dealt.imbalance[0])
            .input("imbalance_after", dealt.imbalance[1])
            .input("allowed", self.adapt.imbalance)
            .input("moved_cells", dealt.moved_cells);
        if let Some(fallback) = &dealt.fallback {
            event = event.input("fallback", fallback.as_str());
        }
        run.report.event(event);
    }

    /// Moves cells between ranks where their loads have become uneven and that pays for a step of so many seconds.
    /// Collective.
    fn rebalance(
        &mut self,
        run: &mut Run,
        forest: &mut Forest,
        mesh: &mut Mesh,
        facets: &mut Facets,
        values: &mut Carried,
        costs: usize,
        step: f64,
    ) -> Result<Dealt, RunError> {
        let comm = run.comm;
        if comm.size() == 1 {
            return Ok(Dealt { imbalance: [1.0; 2], method: "none".into(), ..Dealt::default() });
        }
        let begin = Instant::now();
        let imbalance = balance::imbalance(comm, values.values(costs));
        if imbalance <= self.adapt.imbalance || self.adapt.rebalance == Rebalance::None {
            let edge_cut = balance::edge_cut(mesh, facets);
            let method = self.dealt.method.clone();
            return Ok(Dealt { imbalance: [imbalance; 2], edge_cut, method, ..Dealt::default() });
        }
        let fail = |e: partition::Error| RunError::new(Kind::Environment, "partition", e.to_string());
        let graph = balance::graph(mesh, facets, values.values(costs)).map_err(fail)?;
        let options = StealOptions {
            method: match self.adapt.rebalance {
                Rebalance::Steal => Method::Steal,
                Rebalance::Metis => Method::Metis,
                Rebalance::None => Method::None,
            },
            trigger: self.adapt.imbalance,
            target: self.adapt.imbalance.min(1.03),
            deterministic: self.adapt.deterministic,
            dimensions: mesh.dim as u32,
            ..StealOptions::default()
        };
        let cost = self.price.map(|price| price.cost(step, mesh.n_cells_global));
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
            *mesh = forest.mesh()?;
            *facets = Facets::new(mesh);
            dealt.moved_bytes = comm.sum(moved.bytes);
            let rest = begin.elapsed().as_secs_f64() - moving;
            self.price = Some(Price::measured(comm, moving, moved.bytes, rest, mesh.n_cells_global));
        }
        Ok(dealt)
    }
}

/// How serde writes a variant without fields.
fn serde_word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The estimate that the case asks for.
struct Estimated {
    /// By owned cell: squares, or shares of the goal's error.
    indicators: Vec<f64>,
    total: f64,
    /// Value of the goal and its estimated error, with its sign.
    error_of_goal: Option<[f64; 2]>,
}

/// Collective.
fn estimated(
    adapt: &Adapt,
    stage: &mut Stage,
    problem: &dyn Problem,
    materials: &Materials,
    conditions: &Conditions,
    facets: &Facets,
    state: &State,
) -> Result<Estimated, RunError> {
    let found = match adapt.estimator {
        Estimator::Kelly => estimate::kelly(problem, facets, &conditions.essential, &state.u),
        Estimator::Recovery => estimate::recovery(problem, &state.u),
        Estimator::Goal => {
            let found = stage.goal(adapt, problem, materials, conditions, state)?;
            let error_of_goal = Some([found.value, found.signed.unwrap_or(f64::NAN)]);
            return Ok(Estimated { indicators: found.indicators, total: found.total, error_of_goal });
        }
    };
    let Estimate { indicators, total } = found.map_err(|e| stage.locate(e))?;
    Ok(Estimated { indicators, total, error_of_goal: None })
}
