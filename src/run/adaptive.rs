//! The adaptive driver: solve, estimate, mark, refine, rebalance, and again.
//!
//! Imports its siblings. Start at [`run`]. A mesh lives for one solve; what goes from one to the next is the
//! refinement forest and, cell by cell, the solution, from which the next solve starts.

use std::time::Instant;

use cluster::Comm;
use partition::{Method, Reference};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Due, Still, Structure};
use super::error::RunError;
use super::materials::Materials;
use super::stage::{self, Run, Solution, Stage, State};
use crate::adapt::balance::{self, Price, Times};
use crate::adapt::estimate::{self, Estimate};
use crate::adapt::leap::{self, Outlook};
use crate::adapt::mark::{self, Amount, Choice};
use crate::adapt::rebalance::{self, Balancer, Dealt};
use crate::adapt::transfer;
use crate::assembly::{EnergyNorm, Problem};
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
    closure: f64,
    last: bool,
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
        balancer: Balancer {
            reference: (partition.edge_cut > 0)
                .then(|| Reference::new(partition.edge_cut, mesh.n_cells_global)),
            price: None,
        },
        dealt: Dealt {
            imbalance: [partition.imbalance; 2],
            edge_cut: partition.edge_cut,
            method: partition.method,
            ..Dealt::default()
        },
        spent: 0.0,
        closure: 1.0,
        last: false,
        sums: [0.0; 2],
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
        run.keeper.settle_if_ready(run.comm, case, run.phases);
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
        let (begin, span) = (Instant::now(), phases::span("refine"));
        let (amount, choice) = driver.mark(&mesh, &indicators, case.degree, dofs);
        drop(span);
        run.phases.add("refine", begin.elapsed().as_secs_f64());
        // Cells move before they are cut: there are fewer of them, and the next mesh is built once, on its ranks.
        let (begin, span) = (Instant::now(), phases::span("rebalance"));
        let spent = repeated(run.phases);
        let children = f64::from(1u32 << mesh.dim);
        let cut = choice.chosen.iter().map(|&chosen| if chosen { children } else { 1.0 });
        let loads: Vec<f64> = values.values(costs).iter().zip(cut).map(|(cost, n)| cost * n).collect();
        // The next step is as long as this one was, but for its cells.
        let growth = 1.0 + choice.n_global as f64 * (children - 1.0) / cells.max(1) as f64;
        let step = (spent - driver.spent) * growth;
        driver.spent = spent;
        values.add_cell(1, Merge::Mean, indicators);
        let options = driver.options();
        let first = driver.balancer.move_first(
            &mut forest,
            &mesh,
            &facets,
            &mut values,
            &loads,
            Some(step),
            &options,
        )?;
        let indicators = values.pop();
        drop(span);
        run.phases.add("rebalance", begin.elapsed().as_secs_f64());
        let refined = run.phases.time("refine", || -> Result<_, RunError> {
            let choice =
                if first.moved_cells > 0 { mark::largest(run.comm, &indicators, amount) } else { choice };
            let changed = driver.refine(run.comm, &mut forest, &mut values, &indicators, choice, dofs)?;
            mesh = forest.mesh()?;
            Ok(changed)
        })?;
        tracing::info!(cells, now = mesh.n_cells_global, ?refined, "refined");
        facets = run.phases.time("estimate", || find(&mesh));
        // What followed the marked cells may have made the ranks uneven again.
        let (begin, span) = (Instant::now(), phases::span("rebalance"));
        let loads = values.values(costs).to_vec();
        let second = driver.balancer.rebalance(
            &mut forest,
            &mut mesh,
            &mut facets,
            &mut values,
            &loads,
            Some(step),
            &options,
        )?;
        let mut dealt = first.then(second);
        if dealt.method.is_empty() {
            dealt.method = if run.comm.size() == 1 { "none".into() } else { driver.dealt.method.clone() };
        }
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

/// What the loop remembers.
struct Driver<'a> {
    adapt: &'a Adapt,
    report: AdaptReport,
    balancer: Balancer,
    dealt: Dealt,
    /// Seconds in phases that are repeated, until the last time loads were looked at.
    spent: f64,
    /// Cells that the last refinement added, over those that the marked cells alone would have added.
    closure: f64,
    /// Whether the mesh was made to have as many unknowns as are allowed.
    last: bool,
    /// Of the indicators: the sum, and what it is to come down to, if there is a tolerance.
    sums: [f64; 2],
}

impl Driver<'_> {
    /// What a checkpoint keeps of the loop.
    fn remember(&self) -> serde_json::Value {
        let remembered = Remembered {
            report: self.report.clone(),
            reference: self.balancer.reference,
            dealt: self.dealt.clone(),
            price: self.balancer.price,
            closure: self.closure,
            last: self.last,
        };
        serde_json::to_value(remembered).unwrap_or_default()
    }

    /// Goes on with what was kept; on other ranks than before the partition is a new one.
    fn take_up(&mut self, remembered: serde_json::Value, exact: bool) {
        let Ok(mut remembered) = serde_json::from_value::<Remembered>(remembered) else { return };
        remembered.report.stop_reason.clear();
        // Those of this run's own steps are what its times are of.
        remembered.report.steps.iter_mut().for_each(|step| drop(step.extra.remove("sizes")));
        self.report = remembered.report;
        (self.closure, self.last) = (remembered.closure.max(1.0), remembered.last);
        if exact {
            self.balancer = Balancer { reference: remembered.reference, price: remembered.price };
            self.dealt = remembered.dealt;
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
        let is_goal = self.adapt.estimator == Estimator::Goal;
        let wanted = if is_goal { EnergyNorm::Omitted } else { EnergyNorm::Computed };
        let errors = stage.errors(problem, &state.u, wanted)?;
        drop(span);
        stage.run.phases.add("output", begin.elapsed().as_secs_f64());
        stage.run.phases.count("output");
        let (begin, before) = (Instant::now(), seconds(stage.run.phases));
        let span = phases::span("estimate");
        let Estimated { indicators, total, error_of_goal } =
            estimated(self.adapt, stage, problem, materials, conditions, facets, state)?;
        if is_goal && stage.run.keeper.stopping().is_some() {
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
        note("vertices", stage.run.report.mesh.vertices.into());
        if let Some(sizes) = stage.run.report.extra.get("sizes") {
            note("sizes", sizes.clone());
        }
        if let Some(solver) = &stage.run.report.solver {
            note("iterations", solver.iterations.into());
        }
        if let Some([value, error]) = error_of_goal {
            note("goal", value.into());
            note("goal_error", error.into());
        } else if let Some(error) = errors.and_then(|e| e.energy).filter(|error| *error > 0.0) {
            note("efficiency", (total / error).into());
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
        let allowed = self.adapt.tolerance.unwrap_or(0.0) * energy;
        self.sums = match error_of_goal {
            Some(_) => [total, allowed],
            None => [total * total, allowed * allowed],
        };
        let over = self.last || self.adapt.max_dofs.is_some_and(|most| dofs as f64 >= CLOSE * most as f64);
        let reason = if state.failure.is_some() {
            Some("not_converged")
        } else if self.adapt.tolerance.is_some() && total <= allowed {
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

    /// Which cells are marked, and by what. Collective.
    fn mark(&mut self, mesh: &Mesh, indicators: &[f64], degree: usize, dofs: u64) -> (Amount, Choice) {
        let by = |amount: Amount| (amount, mark::largest(&mesh.comm, indicators, amount));
        let small = match self.adapt.marking {
            Marking::Dorfler(share) => return by(Amount::Share(share)),
            Marking::Fraction(fraction) => return by(Amount::Fraction(fraction)),
            Marking::Auto => by(Amount::Share(leap::SHARE)),
        };
        let largest = indicators.iter().copied().fold(0.0, f64::max);
        let outlook = Outlook {
            dim: mesh.dim,
            degree,
            peak: mesh.comm.max(largest) / self.sums[0],
            part: small.1.n_global as f64 / mesh.n_cells_global.max(1) as f64,
            growth: self.most() / dofs as f64,
            allowed: self.adapt.tolerance.map(|_| self.sums[1] / self.sums[0]),
        };
        match outlook.step() {
            leap::Step::Mark(amount) if amount == small.0 => small,
            leap::Step::Mark(amount) => by(amount),
            leap::Step::Fill(part) => {
                self.last = true;
                // The more cells are marked, the fewer are left to follow.
                let closure = 1.0 + (self.closure - 1.0) * (1.0 - part);
                by(Amount::Fraction(CLOSE.midpoint(1.0) * part / closure))
            }
        }
    }

    /// The most unknowns that are allowed.
    fn most(&self) -> f64 {
        self.adapt.max_dofs.map_or(f64::INFINITY, |most| most as f64)
    }

    /// Refines the chosen cells, or fewer of the largest indicators where the mesh would have more unknowns than the
    /// case allows. Collective.
    fn refine(
        &mut self,
        comm: &Comm,
        forest: &mut Forest,
        values: &mut Carried,
        indicators: &[f64],
        mut choice: Choice,
        dofs: u64,
    ) -> Result<Changed, MeshError> {
        let marks = |choice: &Choice| -> Vec<Mark> {
            choice.chosen.iter().map(|&c| if c { Mark::Refine } else { Mark::Keep }).collect()
        };
        let cells = comm.sum(indicators.len() as u64).max(1) as f64;
        let (dofs, per_cell) = (dofs as f64, dofs as f64 / cells);
        let most = self.most();
        let dim = forest.dim();
        let mut tries = 0;
        let changed = loop {
            let marked = choice.n_global as f64;
            if dofs + marked * per_cell * f64::from(MOST_CHILDREN << dim) <= most {
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
        let added = comm.sum(forest.n_leaves() as u64) as f64 - cells;
        let alone = choice.n_global.max(1) as f64 * (f64::from(1u32 << dim) - 1.0);
        self.closure = (added / alone).max(1.0);
        Ok(changed)
    }

    /// When and how cells move.
    fn options(&self) -> rebalance::Options {
        rebalance::Options {
            method: match self.adapt.rebalance {
                Rebalance::Steal => Method::Steal,
                Rebalance::Metis => Method::Metis,
                Rebalance::None => Method::None,
            },
            imbalance: self.adapt.imbalance,
            deterministic: self.adapt.deterministic,
        }
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
