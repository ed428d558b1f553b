//! What a goal-oriented estimate aims at, from the case: a probe or an integral.
//!
//! Imports its siblings. Start at [`estimated`].

use super::conditions::Conditions;
use super::error::RunError;
use super::materials::Materials;
use super::results::{Domain, quantity, value_of};
use super::stage::{Stage, State, System};
use crate::adapt::goal::{self, Aim, GoalEstimate, Linear};
use crate::assembly::{AssemblyError, Goal, Located, Over, Problem};
use crate::case::{Adapt, FieldRef, Part, Place, Quantity as Named};
use crate::law::Quantity;
use crate::mesh::EntityTag;
use crate::mesh::locate::Location;

/// Why a goal has no estimate.
enum Failed {
    Assembly(AssemblyError),
    Run(RunError),
}

impl From<AssemblyError> for Failed {
    fn from(error: AssemblyError) -> Failed {
        Failed::Assembly(error)
    }
}

impl Stage<'_, '_> {
    /// The error of the case's goal. Collective.
    ///
    /// # Errors
    /// A goal that is not one number, or that a solution up to a constant does not determine; what the dual
    /// problem meets.
    pub(super) fn goal(
        &mut self,
        adapt: &Adapt,
        problem: &dyn Problem,
        materials: &Materials,
        conditions: &Conditions,
        state: &State,
    ) -> Result<GoalEstimate, RunError> {
        let (case, mesh) = (self.case, self.mesh);
        let name = adapt.goal.as_ref().expect("a goal-oriented estimate has a goal");
        if !state.held {
            let message = "a solution that is known up to a constant has no goal";
            let help = Some("prescribe a value somewhere, or use another estimator".to_owned());
            return Err(RunError::at(case.error(name.place, "adapt.goal", message, help), &case.text));
        }
        let domain;
        let facets;
        let keep;
        let aim = if let Some(k) = case.probes.iter().position(|p| p.name == name.text) {
            let (q, value) = self.one_value(problem, &case.probes[k].field, name.place)?;
            let place = match state.places[k] {
                Location::Here(place) => Some(place),
                _ => None,
            };
            Aim::Of(Goal { quantity: q, value, over: Over::Point(place) })
        } else {
            let integral = case.integrals.iter().find(|i| i.name == name.text);
            let integral = integral.expect("the case's check found the goal");
            domain = Domain::of(case, mesh, integral);
            if integral.of.quantity == Named::Reaction {
                let axis = match integral.of.part {
                    Part::Component(axis) => axis,
                    _ if problem.components() == 1 => 0,
                    _ => return Err(self.not_one(&integral.of, name.place)),
                };
                let entities = integral.over.is_some().then_some(&domain.tags[..]);
                self.check_reacts(entities, axis, state, name.place)?;
                Aim::Reaction(entities, axis)
            } else if domain.on_boundary {
                facets = domain.facets(mesh, integral.of.part);
                if !self.comm.any(facets.iter().any(|facets| !facets.is_empty())) {
                    return Err(self.not_one(&integral.of, name.place));
                }
                let (q, value, located) = match integral.of.part {
                    Part::Normal => {
                        let q = quantity(integral.of.quantity);
                        (q.ok_or_else(|| self.not_one(&integral.of, name.place))?, 0, Located::Normal)
                    }
                    _ => {
                        let (q, value) = self.one_value(problem, &integral.of, name.place)?;
                        (q, value, Located::Values)
                    }
                };
                Aim::Of(Goal { quantity: q, value, over: Over::Facets(&facets[0], located, &facets[1]) })
            } else {
                let (q, value) = self.one_value(problem, &integral.of, name.place)?;
                keep = |b: usize, cell: usize| {
                    domain.sets.as_ref().is_none_or(|s| s[mesh.blocks[b].sets[cell] as usize])
                };
                Aim::Of(Goal { quantity: q, value, over: Over::Cells(&keep) })
            }
        };
        self.aimed(&aim, problem, materials, conditions, state)
    }

    fn aimed(
        &mut self,
        aim: &Aim,
        problem: &dyn Problem,
        materials: &Materials,
        conditions: &Conditions,
        state: &State,
    ) -> Result<GoalEstimate, RunError> {
        let mut solve = |linear: Linear| -> Result<Vec<f64>, Failed> {
            let space = linear.problem.discretisation().space;
            let coordinates = space.coordinates(self.mesh);
            let system = System {
                problem: linear.problem,
                coordinates: &coordinates,
                constraints: linear.constraints,
                symmetric: materials.symmetric,
                null: &[],
                given: None,
            };
            let (z, how) =
                self.linear(&system, linear.pattern, linear.matrix, linear.rhs, None).map_err(Failed::Run)?;
            if !how.converged && !how.stopped {
                let warning = format!(
                    "the dual problem did not converge: relative residual {:.1e} after {} iterations of {}",
                    how.relative_residual, how.iterations, how.method
                );
                self.run.report.warnings.push(warning);
            }
            Ok(z)
        };
        let found = goal::goal(problem, &conditions.essential, aim, &state.u, &mut solve);
        found.map_err(|failed| match failed {
            Failed::Assembly(error) => self.locate(error),
            Failed::Run(error) => error,
        })
    }

    /// Refuses the reaction where nothing is prescribed along its axis: it is zero and has no error. Collective.
    fn check_reacts(
        &self,
        entities: Option<&[EntityTag]>,
        axis: usize,
        state: &State,
        place: Place,
    ) -> Result<(), RunError> {
        let on = entities.map(|entities| self.space.owned_on(entities));
        let reacts = |node: usize| {
            on.as_ref().is_none_or(|on| on[node])
                && state.constraints.directions(node).any(|direction| direction[axis] != 0.0)
        };
        if self.comm.any((0..self.space.map.n_owned()).any(reacts)) {
            return Ok(());
        }
        let message =
            "the reaction cannot be a goal where nothing prescribes the field: it is zero".to_owned();
        let help = Some("take it over a boundary with a prescribed value, or name another goal".to_owned());
        Err(RunError::at(self.case.error(place, "adapt.goal", message, help), &self.case.text))
    }

    /// The quantity and the one value of it that a field names.
    fn one_value(
        &self,
        problem: &dyn Problem,
        field: &FieldRef,
        place: Place,
    ) -> Result<(Quantity, usize), RunError> {
        let q = quantity(field.quantity).filter(|&q| problem.n_values(q).is_some());
        let q = q.ok_or_else(|| self.not_one(field, place))?;
        let value = value_of(q, field.part, self.mesh.dim, problem.components());
        let alone = problem.n_values(q) == Some(1);
        value.or(alone.then_some(0)).map(|value| (q, value)).ok_or_else(|| self.not_one(field, place))
    }

    fn not_one(&self, field: &FieldRef, place: Place) -> RunError {
        let message = format!("`{}` cannot be a goal: it is not one number of the solution", field.name());
        let help = Some("name a component, as in `u.x`, `stress.zz` or `flux.n`".to_owned());
        RunError::at(self.case.error(place, "adapt.goal", message, help), &self.case.text)
    }
}
