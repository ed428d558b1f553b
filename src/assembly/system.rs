//! A problem with its law fixed: what drivers see of assembly, whatever the law.

use std::sync::OnceLock;

use super::cells::{self, What};
use super::constraints::{Constraints, Essential};
use super::derived::{self, Nodal};
use super::discretisation::{AssemblyError, Discretisation};
use super::energy;
use super::facets::{self, FacetLoad, FacetRule};
use super::functionals::{self, Located};
use super::goals::{self, Goal};
use super::matrix::{self, Matrix};
use super::norms::{self, EnergyNorm, ExactErrors};
use super::pattern::Pattern;
use super::recovery;
use super::regions::RegionNodes;
use super::residuals::{self, Weights};
use super::weighted;
use crate::law::expr::Expr;
use crate::law::{Law, Quantity};
use crate::mesh::EntityTag;
use crate::mesh::facets::Facets;
use crate::space::Space;

/// A nodal field: `components` values a local node, ghosts included, Cartesian.
pub type Field = Vec<f64>;

/// A law bound to a discretisation, its loads and its constraints.
pub struct Operator<'a, L, const D: usize, const C: usize> {
    law: L,
    discretisation: Discretisation<'a>,
    loads: Vec<FacetLoad>,
    /// Forces at owned nodes.
    point_loads: Vec<(u32, [f64; 3])>,
    /// By block and facet of its cell; made when they are first asked for: most problems have no loads on facets.
    rules: OnceLock<Vec<Vec<FacetRule>>>,
}

impl<'a, L: Law<D, C>, const D: usize, const C: usize> Operator<'a, L, D, C> {
    /// Binds them together.
    pub fn new(
        law: L,
        discretisation: Discretisation<'a>,
        loads: Vec<FacetLoad>,
        point_loads: Vec<(u32, [f64; 3])>,
    ) -> Self {
        Operator { law, discretisation, loads, point_loads, rules: OnceLock::new() }
    }

    fn rules(&self) -> &[Vec<FacetRule>] {
        let d = &self.discretisation;
        self.rules.get_or_init(|| facets::facet_rules(d.mesh, d.space))
    }

    /// A quantity the law has, with the number of its values.
    fn sized(&self, quantity: Quantity) -> (Quantity, usize) {
        (quantity, self.law.n_values(quantity).expect("a quantity the law has"))
    }

    /// Assembles what has a matrix, with prescribed DOFs eliminated.
    fn eliminated(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        what: What,
        matrix: &mut Matrix,
        residual: &mut [f64],
    ) -> Result<(), AssemblyError> {
        self.add(pattern, u, what, Some(&mut *matrix), residual, Some(constraints), None)?;
        constraints.zero_fixed(residual);
        matrix.repair_diagonal(pattern, constraints);
        Ok(())
    }

    /// Adds everything that acts; see [`cells::visit`].
    fn add(
        &self,
        pattern: &Pattern,
        u: &[f64],
        what: What,
        matrix: Option<&mut Matrix>,
        residual: &mut [f64],
        constraints: Option<&Constraints>,
        only: Option<&Constraints>,
    ) -> Result<(), AssemblyError> {
        let (law, d) = (&self.law, &self.discretisation);
        let mut pieces = matrix::pieces(pattern, matrix, residual, C, rayon::current_num_threads());
        cells::visit::<L, D, C>(law, d, u, what, &mut pieces, constraints, only)?;
        if !self.loads.is_empty() {
            let (rules, loads) = (self.rules(), &self.loads);
            facets::visit::<L, D, C>(law, d, rules, loads, u, what.has_matrix(), &mut pieces, constraints)?;
        }
        drop(pieces);
        self.add_point_loads(residual, constraints);
        Ok(())
    }

    fn add_point_loads(&self, residual: &mut [f64], constraints: Option<&Constraints>) {
        for &(node, force) in &self.point_loads {
            let mut all = [0.0; 3];
            all.copy_from_slice(&force);
            for c in 0..C {
                let along = match constraints {
                    Some(constraints) => constraints.along(node as usize, c, &all),
                    None => all[c],
                };
                residual[node as usize * C + c] -= along;
            }
        }
    }
}

/// What a driver needs of a discretised law.
///
/// Errors of the assembling methods are this rank's own: agree on them before communicating.
pub trait Problem {
    /// Components a node.
    fn components(&self) -> usize;

    /// The discretisation.
    fn discretisation(&self) -> &Discretisation<'_>;

    /// Assembles tangent and residual of owned rows at `u`, with prescribed DOFs eliminated: in each
    /// node's frame, no entry of theirs but the diagonal, residual zero.
    fn assemble(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        matrix: &mut Matrix,
        residual: &mut [f64],
    ) -> Result<(), AssemblyError>;

    /// As [`Problem::assemble`], the transposed tangent alone: the matrix of dual problems.
    fn assemble_transposed(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        matrix: &mut Matrix,
    ) -> Result<(), AssemblyError>;

    /// Whether the tangent's coefficients are constants, and with them the tangent.
    fn is_constant(&self) -> bool;

    /// As [`Problem::assemble`], the tangent alone where it is the same at every state.
    fn assemble_constant(
        &self,
        pattern: &Pattern,
        constraints: &Constraints,
        matrix: &mut Matrix,
    ) -> Result<(), AssemblyError>;

    /// The same law, materials and loads on facets on another space of the same mesh; without point loads.
    fn on_space<'b>(&'b self, space: &'b Space) -> Box<dyn Problem + 'b>;

    /// Adds a goal's derivative with respect to the values at all local nodes to `out`, from this rank's
    /// cells; returns this rank's part of its value.
    fn goal_derivative(&self, goal: &Goal, u: &[f64], out: &mut [f64]) -> Result<f64, AssemblyError>;

    /// The residual of the equation at `u`, weighted by `weight` times the hat function of each local node of
    /// `corners`, a space of degree 1, from this rank's cells; without stabilisation and point loads.
    fn weighted_residual(
        &self,
        corners: &Space,
        u: &[f64],
        weight: &[f64],
    ) -> Result<Vec<f64>, AssemblyError>;

    /// The residual of owned rows at `u` without elimination, Cartesian: reactions stand in the
    /// prescribed rows.
    fn residual(&self, pattern: &Pattern, u: &[f64], residual: &mut [f64]) -> Result<(), AssemblyError>;

    /// As [`Problem::residual`], in the rows of nodes that the constraints prescribe: only cells round them
    /// are computed, other rows are left incomplete.
    fn residual_where_prescribed(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        residual: &mut [f64],
    ) -> Result<(), AssemblyError>;

    /// How many values a quantity has; `None` when the law does not have it.
    fn n_values(&self, quantity: Quantity) -> Option<usize>;

    /// Quantities the law has, averaged at region nodes in one pass. Collective, and so is its error.
    fn nodal(&self, points: &RegionNodes, quantities: &[Quantity], u: &[f64])
    -> Result<Nodal, AssemblyError>;

    /// This rank's part of the integrals of a quantity's values over owned cells for which `keep` holds.
    fn integrate_cells(
        &self,
        quantity: Quantity,
        u: &[f64],
        keep: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Vec<f64>, AssemblyError>;

    /// This rank's part of the integrals over facets of owned cells.
    fn integrate_facets(
        &self,
        quantity: Quantity,
        what: Located,
        facets: &[EntityTag],
        u: &[f64],
    ) -> Result<Vec<f64>, AssemblyError>;

    /// Weighted squares of strong residuals, of jumps of the flux and of natural conditions' residuals, per
    /// owned cell, block after block: the parts of a residual estimator. `essential` are the conditions that
    /// prescribe the solution. This rank's own: neither collective nor its error.
    fn residual_indicators(
        &self,
        facets: &Facets,
        essential: &[Essential],
        u: &[f64],
        weights: Weights,
    ) -> Result<Vec<f64>, AssemblyError>;

    /// Squares of the energy norm of what separates the gradient from one fitted to it within each region, per
    /// owned cell, block after block: a recovery estimator. Collective, and so is its error.
    fn recovery_indicators(&self, u: &[f64]) -> Result<Vec<f64>, AssemblyError>;

    /// This rank's part of the squared energy norm of `u`: `f1 : grad u + reaction u^2` over owned cells, with the
    /// part of the flux `f1` that is linear in the gradient. Convection and what happens on the boundary have no
    /// part in it.
    fn energy(&self, u: &[f64]) -> Result<f64, AssemblyError>;

    /// Norms of the error, the energy norm if it is `wanted`. Collective.
    ///
    /// # Errors
    /// An exact solution, called by its `key`, that is not a number at a quadrature point, or with the energy norm a
    /// coefficient: the same error on every rank.
    fn exact_errors(
        &self,
        key: &str,
        exact: &[Expr],
        u: &[f64],
        wanted: EnergyNorm,
    ) -> Result<ExactErrors, AssemblyError>;
}

impl<L: Law<D, C>, const D: usize, const C: usize> Problem for Operator<'_, L, D, C> {
    fn components(&self) -> usize {
        C
    }

    fn discretisation(&self) -> &Discretisation<'_> {
        &self.discretisation
    }

    fn assemble(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        matrix: &mut Matrix,
        residual: &mut [f64],
    ) -> Result<(), AssemblyError> {
        self.eliminated(pattern, u, constraints, What::System, matrix, residual)
    }

    fn assemble_transposed(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        matrix: &mut Matrix,
    ) -> Result<(), AssemblyError> {
        let mut residual = vec![0.0; pattern.n_rows * C];
        self.eliminated(pattern, u, constraints, What::TransposedTangent, matrix, &mut residual)
    }

    fn assemble_constant(
        &self,
        pattern: &Pattern,
        constraints: &Constraints,
        matrix: &mut Matrix,
    ) -> Result<(), AssemblyError> {
        let mut residual = vec![0.0; pattern.n_rows * C];
        let zero = vec![0.0; self.discretisation.space.map.n_local() * C];
        self.eliminated(pattern, &zero, constraints, What::Tangent, matrix, &mut residual)
    }

    fn is_constant(&self) -> bool {
        self.discretisation.chosen_by.0
    }

    fn on_space<'b>(&'b self, space: &'b Space) -> Box<dyn Problem + 'b> {
        let d = &self.discretisation;
        let (constant, lower) = d.chosen_by;
        let (materials, of_set) = (d.materials, d.set_material);
        let discretisation =
            Discretisation::new(d.mesh, space, materials, of_set, L::TERMS, constant, lower, d.time);
        let loads = self.loads.clone();
        Box::new(Operator::<L, D, C>::new(self.law.clone(), discretisation, loads, Vec::new()))
    }

    fn goal_derivative(&self, goal: &Goal, u: &[f64], out: &mut [f64]) -> Result<f64, AssemblyError> {
        goals::derivative::<L, D, C>(&self.law, &self.discretisation, self.rules(), goal, u, out)
    }

    fn weighted_residual(
        &self,
        corners: &Space,
        u: &[f64],
        weight: &[f64],
    ) -> Result<Vec<f64>, AssemblyError> {
        let (law, d) = (&self.law, &self.discretisation);
        weighted::at_vertices::<L, D, C>(law, d, self.rules(), &self.loads, corners, u, weight)
    }

    fn residual(&self, pattern: &Pattern, u: &[f64], residual: &mut [f64]) -> Result<(), AssemblyError> {
        self.add(pattern, u, What::Residual, None, residual, None, None)
    }

    fn residual_where_prescribed(
        &self,
        pattern: &Pattern,
        u: &[f64],
        constraints: &Constraints,
        residual: &mut [f64],
    ) -> Result<(), AssemblyError> {
        self.add(pattern, u, What::Residual, None, residual, None, Some(constraints))
    }

    fn n_values(&self, quantity: Quantity) -> Option<usize> {
        self.law.n_values(quantity)
    }

    fn nodal(
        &self,
        points: &RegionNodes,
        quantities: &[Quantity],
        u: &[f64],
    ) -> Result<Nodal, AssemblyError> {
        let sized: Vec<_> = quantities.iter().map(|&q| self.sized(q)).collect();
        derived::average::<L, D, C>(&self.law, &self.discretisation, points, &sized, u)
    }

    fn integrate_cells(
        &self,
        quantity: Quantity,
        u: &[f64],
        keep: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Vec<f64>, AssemblyError> {
        let (law, d) = (&self.law, &self.discretisation);
        functionals::integrate_cells::<L, D, C>(law, d, self.sized(quantity), u, keep)
    }

    fn integrate_facets(
        &self,
        quantity: Quantity,
        what: Located,
        facets: &[EntityTag],
        u: &[f64],
    ) -> Result<Vec<f64>, AssemblyError> {
        let (law, d) = (&self.law, &self.discretisation);
        let quantity = self.sized(quantity);
        functionals::integrate_facets::<L, D, C>(law, d, self.rules(), facets, quantity, what, u)
    }

    fn residual_indicators(
        &self,
        facets: &Facets,
        essential: &[Essential],
        u: &[f64],
        weights: Weights,
    ) -> Result<Vec<f64>, AssemblyError> {
        let (law, d) = (&self.law, &self.discretisation);
        let (rules, loads) = (self.rules(), &self.loads);
        residuals::indicators::<L, D, C>(law, d, rules, loads, essential, facets, u, weights)
    }

    fn recovery_indicators(&self, u: &[f64]) -> Result<Vec<f64>, AssemblyError> {
        recovery::indicators::<L, D, C>(&self.law, &self.discretisation, u)
    }

    fn energy(&self, u: &[f64]) -> Result<f64, AssemblyError> {
        energy::square::<L, D, C>(&self.law, &self.discretisation, u)
    }

    fn exact_errors(
        &self,
        key: &str,
        exact: &[Expr],
        u: &[f64],
        wanted: EnergyNorm,
    ) -> Result<ExactErrors, AssemblyError> {
        let comm = &self.discretisation.mesh.comm;
        let law = (wanted == EnergyNorm::Computed).then_some(&self.law);
        let found = norms::exact_errors::<L, D, C>(law, &self.discretisation, key, exact, u);
        let mut squares = comm.agree(found)?;
        comm.sum_slice(&mut squares);
        let [l2, h1, energy] = squares.map(|square| square.max(0.0).sqrt());
        Ok(ExactErrors { l2, h1, energy: law.map(|_| energy) })
    }
}
