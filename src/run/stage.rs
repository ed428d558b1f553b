//! One problem on one mesh: from the mesh to a solution.
//!
//! Imports its siblings. Start at [`on_mesh`], which binds the case to a mesh; [`Stage::solve`] and, of
//! [`super::finish`], [`Stage::finish`] are what drivers call then.

use std::borrow::Cow;
use std::time::Instant;

use cluster::Comm;

use super::checkpoint::{Due, Keeper, Nodal, Still};
use super::conditions::{self, Conditions};
use super::error::{Kind, RunError};
use super::level::rigid_modes;
use super::materials::{self, Materials};
use super::results;
use super::singular;
use super::sizes::Sizes;
use super::steady::Options;
use crate::adapt::transfer;
use crate::assembly::{self, AssemblyError, Constraints, Discretisation, Matrix, Operator, Pattern, Problem};
use crate::case::{Case, Law, Place};
use crate::law::{ConvectionDiffusion, Diffusion, Elasticity, Law as Physics, Plane};
use crate::mesh::Mesh;
use crate::mesh::locate::Location;
use crate::output::events::Event;
use crate::output::phases::{self, Phases};
use crate::output::run_json::{MeshReport, RunReport, SolverReport};
use crate::output::terminal::Progress;
use crate::solver;
use crate::space::{Order, Space};

/// What a driver has at hand from start to end.
pub(super) struct Run<'a> {
    pub(super) comm: &'a Comm,
    pub(super) case: &'a Case,
    pub(super) options: &'a Options,
    pub(super) report: &'a mut RunReport,
    pub(super) phases: &'a mut Phases,
    pub(super) progress: Progress,
    pub(super) keeper: &'a mut Keeper,
}

/// What the run came to.
pub(super) struct Solution {
    /// At owned nodes.
    pub(super) u: Vec<f64>,
    /// The owned nodes.
    pub(super) nodes: Vec<[f64; 3]>,
    pub(super) failure: Option<RunError>,
}

/// A solved problem.
pub(super) struct State<'m> {
    /// The solution, ghosts included, Cartesian.
    pub(super) u: Vec<f64>,
    pub(super) constraints: Constraints,
    /// Without its columns, where the solve used them up.
    pub(super) pattern: Pattern,
    /// Of all local nodes.
    pub(super) coordinates: Cow<'m, [[f64; 3]]>,
    /// Where the case's probes lie.
    pub(super) places: Vec<Location>,
    /// Whether nothing is free: no null space.
    pub(super) held: bool,
    /// Errors against the exact solution, where a driver has computed them.
    pub(super) errors: Option<assembly::ExactErrors>,
    /// Squares of the error indicators of owned cells; empty where none were computed.
    pub(super) indicators: Vec<f64>,
    /// When the solver did not converge.
    pub(super) failure: Option<RunError>,
}

/// Incomplete factorisations depend on the order of unknowns and like a small bandwidth; all else likes
/// neighbours near in memory.
fn order(case: &Case) -> Order {
    let method = case.solver.method.as_str();
    let factorises = ["asm", "ras", "ilu", "icc", "bjacobi", "sor"].iter().any(|p| method.ends_with(p));
    let auto = method == "auto" && case.physics.law == Law::ConvectionDiffusion;
    if factorises || auto { Order::CuthillMcKee } else { Order::Curve }
}

fn order_event(case: &Case) -> Event {
    let method = case.solver.method.as_str();
    let (choice, because) = match order(case) {
        Order::CuthillMcKee => ("cuthill-mckee", "incomplete factorisations like a small bandwidth"),
        Order::Curve => ("curve", "neighbours near in memory"),
    };
    Event::new("order of unknowns", choice, because)
        .input("method", method)
        .input("law", case.physics.law.name())
}

/// How long a rank on which PETSc failed waits for the others to fail too.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What there is to know of a linear system beside its matrix.
pub(super) struct System<'s> {
    pub(super) problem: &'s dyn Problem,
    /// Of all local nodes of its space.
    pub(super) coordinates: &'s [[f64; 3]],
    pub(super) constraints: &'s Constraints,
    pub(super) symmetric: bool,
    /// Its null space.
    pub(super) null: &'s [Vec<f64>],
    /// What is known of the solution, owned entries.
    pub(super) given: Option<&'s [f64]>,
}

/// What is kept of a solve in progress.
pub(super) struct Kept<'k> {
    still: &'k Still<'k>,
    /// To which the solve finds what is missing, at all local nodes.
    u: &'k [f64],
}

/// The solution at all local nodes, Cartesian, from what a solve found. Collective.
fn changed(system: &System, u: &[f64], mut change: Vec<f64>, c: usize) -> Vec<f64> {
    let space = system.problem.discretisation().space;
    change.resize(space.map.n_local() * c, 0.0);
    space.halo.forward(&mut change, c);
    system.constraints.to_cartesian(&mut change);
    change.iter_mut().zip(u).for_each(|(d, u)| *d += u);
    change
}

/// A case bound to a mesh and a space.
pub(super) struct Stage<'r, 'a> {
    pub(super) run: &'r mut Run<'a>,
    pub(super) comm: &'a Comm,
    pub(super) case: &'a Case,
    pub(super) mesh: &'r Mesh,
    pub(super) space: &'r Space,
}

/// What a driver does with a bound problem.
pub(super) type Then<'t> =
    dyn FnMut(&mut Stage, &dyn Problem, &Materials, &Conditions) -> Result<(), RunError> + 't;

/// Binds the case to a mesh, with a space for it, and calls `then`. Collective.
///
/// # Errors
/// A name, a condition or a coefficient that does not fit the mesh; what `then` returns.
pub(super) fn on_mesh(run: &mut Run, mesh: &Mesh, then: &mut Then) -> Result<(), RunError> {
    let (comm, case) = (run.comm, run.case);
    run.report.mesh = MeshReport {
        cells: mesh.n_cells_global,
        vertices: mesh.vertices.map.n_global(),
        dimension: mesh.dim as u32,
    };
    let law = case.physics.law;
    let c = law.n_components(mesh.dim);
    let space = run
        .phases
        .time("space", || Space::new(mesh, case.degree, order(case)))
        .map_err(|e| RunError::new(Kind::Input, "space", e.to_string()))?;
    run.report.dofs = space.map.n_global() * c as u64;
    cluster::monitor::dofs(run.report.dofs);
    run.report.event(order_event(case));
    tracing::info!(dofs = run.report.dofs, owned = space.map.n_owned() * c, "space");
    let materials = run.phases.time("space", || materials::build(case, mesh))?;
    let conditions = run.phases.time("space", || {
        results::check_normals(case, mesh)?;
        conditions::resolve(case, mesh)
    })?;
    run.report.boundary.clone_from(&conditions.report);
    // On every mesh of an adaptive run they are the same.
    let new = conditions.warnings.iter().filter(|warning| !run.report.warnings.contains(warning));
    let new: Vec<String> = new.cloned().collect();
    run.report.warnings.extend(new);
    let elasticity = Elasticity {
        plane: match case.physics.plane {
            crate::case::Plane::Strain => Plane::Strain,
            crate::case::Plane::Stress => Plane::Stress,
        },
    };
    let mut stage = Stage { run, comm, case, mesh, space: &space };
    match (law, mesh.dim) {
        (Law::Elasticity, 1) => stage.with::<_, 1, 1>(elasticity, &materials, conditions, then),
        (Law::Elasticity, 2) => stage.with::<_, 2, 2>(elasticity, &materials, conditions, then),
        (Law::Elasticity, _) => stage.with::<_, 3, 3>(elasticity, &materials, conditions, then),
        (Law::ConvectionDiffusion, 1) => {
            stage.with::<_, 1, 1>(ConvectionDiffusion, &materials, conditions, then)
        }
        (Law::ConvectionDiffusion, 2) => {
            stage.with::<_, 2, 1>(ConvectionDiffusion, &materials, conditions, then)
        }
        (Law::ConvectionDiffusion, _) => {
            stage.with::<_, 3, 1>(ConvectionDiffusion, &materials, conditions, then)
        }
        (Law::Poisson | Law::Heat, 1) => stage.with::<_, 1, 1>(Diffusion, &materials, conditions, then),
        (Law::Poisson | Law::Heat, 2) => stage.with::<_, 2, 1>(Diffusion, &materials, conditions, then),
        (Law::Poisson | Law::Heat, _) => stage.with::<_, 3, 1>(Diffusion, &materials, conditions, then),
    }
}

impl<'r> Stage<'r, '_> {
    fn with<L: Physics<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: L,
        materials: &Materials,
        mut conditions: Conditions,
        then: &mut Then,
    ) -> Result<(), RunError> {
        let discretisation = Discretisation::new(
            self.mesh,
            self.space,
            &materials.materials,
            &materials.of_set,
            L::TERMS,
            materials.tangent_constant,
            materials.lower_order,
            0.0,
        );
        let forces = self.comm.agree(self.point_forces(&mut conditions)).map_err(|e| self.locate(e))?;
        let loads = std::mem::take(&mut conditions.loads);
        let problem = Operator::<L, D, C>::new(law, discretisation, loads, forces);
        then(self, &problem, materials, &conditions)
    }

    /// Forces at the owned nodes of tagged vertices. Not collective: ranks may differ in what they return.
    fn point_forces(&self, conditions: &mut Conditions) -> Result<Vec<(u32, [f64; 3])>, AssemblyError> {
        let n_owned = self.space.map.n_owned() as u32;
        let mut forces = Vec::new();
        for (tags, exprs, key) in conditions.forces.drain(..) {
            let mut nodes: Vec<(u32, [f64; 3])> = Vec::new();
            for tag in &tags {
                let (b, cell) = (tag.block as usize, tag.cell as usize);
                let node = self.space.nodes(b, cell)[tag.local as usize];
                if node < n_owned {
                    let at = self.mesh.blocks[b].nodes(cell)[tag.local as usize];
                    nodes.push((node, self.mesh.nodes[at as usize]));
                }
            }
            nodes.sort_by_key(|n| n.0);
            nodes.dedup_by_key(|n| n.0);
            for (node, x) in nodes {
                let mut force = [0.0; 3];
                for (f, expr) in force.iter_mut().zip(&exprs) {
                    *f = expr.eval_point(x, 0.0);
                    if !f.is_finite() {
                        let (text, value) = (expr.text().to_string(), f.to_string());
                        return Err(AssemblyError::NotFinite { key, text, value, x: x[0], y: x[1], z: x[2] });
                    }
                }
                forces.push((node, force));
            }
        }
        Ok(forces)
    }

    /// Assembles and solves. `start` is what is known of the solution, at all local nodes; `still` is what a
    /// checkpoint holds beside the solution. Collective.
    ///
    /// # Errors
    /// Whatever is wrong with the problem or the machine, the same on every rank; that the run was stopped, with a
    /// checkpoint. A solver that does not converge is a [`State`] with a failure.
    pub(super) fn solve(
        &mut self,
        problem: &dyn Problem,
        materials: &Materials,
        conditions: &Conditions,
        start: Option<Vec<f64>>,
        still: &Still,
    ) -> Result<State<'r>, RunError> {
        let (comm, case, mesh, space) = (self.comm, self.case, self.mesh, self.space);
        let c = problem.components();
        self.run.keeper.begin_solve();
        self.stop_if_asked(still, start.as_deref(), c)?;
        let d = problem.discretisation();
        let n_owned = space.map.n_owned();
        let constraints = self
            .run
            .phases
            .time("space", || Constraints::new(d, c, &conditions.essential))
            .map_err(|e| self.locate(e))?;
        let overruled = comm.sum(constraints.overruled);
        if overruled > 0 {
            self.run.report.warnings.push(format!(
                "{overruled} degrees of freedom are prescribed by two headings with different values: the later one holds"
            ));
        }
        // Before the expensive part: a probe outside the mesh is an error.
        let places = results::locate_probes(case, mesh)?;
        let (begin, span) = (Instant::now(), phases::span("space"));
        let coordinates = space.coordinates(mesh);
        let null = self.null_space(materials, conditions, &constraints, &coordinates)?;
        drop(span);
        self.run.phases.add("space", begin.elapsed().as_secs_f64());

        let line = self.run.progress.phase("assembling");
        let mut pattern = self.run.phases.time("pattern", || Pattern::new(space));
        self.stop_if_asked(still, start.as_deref(), c)?;
        let (begin, span) = (Instant::now(), phases::span("assemble"));
        let mut matrix = Matrix::new(&pattern, c);
        let mut residual = vec![0.0; n_owned * c];
        let mut u = constraints.lift();
        let known = start.is_some();
        let start = start.map(|mut start| {
            start.iter_mut().zip(&u).for_each(|(start, lift)| *start -= lift);
            constraints.to_frames(&mut start);
            constraints.zero_fixed(&mut start);
            let mut given = start[..n_owned * c].to_vec();
            given.shrink_to_fit();
            constraints.to_cartesian(&mut start);
            u.iter_mut().zip(&start).for_each(|(u, start)| *u += start);
            given
        });
        drop(span);
        self.run.phases.add("assemble", begin.elapsed().as_secs_f64());
        let assembled = self
            .run
            .phases
            .time("assemble", || problem.assemble(&pattern, &u, &constraints, &mut matrix, &mut residual));
        comm.agree(assembled).map_err(|e| self.locate(e))?;
        let sizes = serde_json::to_value(Sizes::of(mesh, space, &pattern, c)).unwrap_or_default();
        self.run.report.extra.insert("sizes".to_owned(), sizes);
        tracing::info!(entries = pattern.diag_col.len() + pattern.off_col.len(), "assembled");
        self.stop_if_asked(still, known.then_some(&u[..]), c)?;
        residual.iter_mut().for_each(|r| *r = -*r);
        let rhs = residual;
        if !null.is_empty() {
            self.check_compatible(&rhs, &null)?;
        }
        drop(line);
        let system = System {
            problem,
            coordinates: &coordinates,
            constraints: &constraints,
            symmetric: materials.symmetric,
            null: &null,
            given: start.as_deref(),
        };
        let kept = Kept { still, u: &u };
        let (change, how) = self.linear(&system, &mut pattern, matrix, rhs, Some(&kept))?;
        let (method, residual) = (how.method.as_str(), how.relative_residual);
        tracing::info!(method, iterations = how.iterations, residual, converged = how.converged, "solved");
        u = changed(&system, &u, change, c);
        if how.stopped {
            return Err(self.stop(still, Some(&u), c));
        }
        self.run.report.event(
            Event::new("solver", &how.method, how.reason.clone())
                .input("unknowns", space.map.n_global() * c as u64)
                .input("components", c)
                .input("dimension", mesh.dim)
                .input("degree", space.degree)
                .input("symmetric", materials.symmetric)
                .input("asked_for", case.solver.method.as_str())
                .input("failed_before", how.attempts.len()),
        );
        self.run.report.solver = Some(SolverReport {
            method: how.method.clone(),
            reason: how.reason.clone(),
            iterations: u64::from(how.iterations),
            relative_residual: how.relative_residual,
            converged: how.converged,
            attempts: how.attempts.iter().map(|a| a.as_str().into()).collect(),
            extra: [("history".to_owned(), serde_json::json!(how.history))].into(),
        });
        let failure = (!how.converged).then(|| {
            let diagnosis = how.diagnosis.clone().unwrap_or_else(|| "no reason is known".into());
            let message = format!(
                "the solver {} did not converge: relative residual {:.3e} after {} iterations, wanted {:.1e}",
                how.method, how.relative_residual, how.iterations, case.solver.tolerance
            );
            let error = case.error(Place::Default, "solver", message, Some(diagnosis));
            RunError { kind: Kind::NotConverged, what: "solver".into(), ..RunError::at(error, &case.text) }
        });

        let held = null.is_empty();
        Ok(State {
            u,
            constraints,
            pattern,
            coordinates,
            places,
            held,
            errors: None,
            indicators: Vec::new(),
            failure,
        })
    }

    /// Solves a linear system of the case's law; owned entries, and how it went. With `kept`, checkpoints are
    /// written meanwhile; without, the solve can be stopped only. Collective.
    ///
    /// # Errors
    /// As [`solver::solve`]'s, pointing into the case.
    pub(super) fn linear(
        &mut self,
        system: &System,
        pattern: &mut Pattern,
        matrix: Matrix,
        rhs: Vec<f64>,
        kept: Option<&Kept>,
    ) -> Result<(Vec<f64>, solver::Report), RunError> {
        let (comm, case, mesh) = (self.comm, self.case, self.mesh);
        let options = self.solver_options();
        self.run.keeper.begin_solve();
        let &System { problem, coordinates, constraints, symmetric, null, given } = system;
        let space = problem.discretisation().space;
        let c = matrix.block;
        let line = self.run.progress.phase("solving");
        let elastic = case.physics.law == Law::Elasticity;
        let (low, high) = mesh.bounds();
        let center = [0, 1, 2].map(|d| 0.5 * (low[d] + high[d]));
        let motion = |k: usize, x: &[f64; 3]| {
            if elastic { singular::rigid_motion(mesh.dim, k, x, &center) } else { [1.0, 0.0, 0.0] }
        };
        let n_modes = if elastic { singular::motion_names(mesh.dim).len() } else { 1 };
        let modes = solver::Modes { n: n_modes, at: &motion };
        let near_null = || {
            if elastic {
                rigid_modes(mesh.dim, coordinates, &center, constraints, space.map.n_owned())
            } else {
                Vec::new()
            }
        };
        let mut writing = 0.0;
        let Run { keeper, phases, .. } = &mut *self.run;
        let solved = solver::solve(
            comm,
            (&space.map, &space.halo),
            pattern,
            matrix,
            &solver::Problem {
                symmetric,
                law: case.physics.law.name(),
                advective: case.physics.law == Law::ConvectionDiffusion,
                dimension: mesh.dim,
                degree: space.degree as u32,
                null,
                near_null: &near_null,
                given,
                transfer: &|| solver::to_vertices(problem, constraints, &modes, symmetric),
            },
            rhs,
            &options,
            &mut |iteration, residual, iterate| {
                cluster::monitor::iteration(u64::from(iteration), residual);
                line.say(|| format!("iteration {iteration}, relative residual {residual:.2e}"));
                let due = keeper.iterated(comm, case);
                let begin = Instant::now();
                keeper.settle_if_ready(comm, case, phases);
                if let (Due::Write, Some(kept)) = (due, kept) {
                    let u = changed(system, kept.u, iterate(), c);
                    let by_cell = transfer::to_cells(mesh, space, &u, c);
                    let fields = vec![Nodal::new(case, space, c, by_cell)];
                    keeper.begin_if_possible(comm, case, phases, kept.still, fields, "interval");
                }
                writing += begin.elapsed().as_secs_f64();
                matches!(due, Due::Stop(_))
            },
        );
        let (x, how) = match solved {
            Ok(solved) => solved,
            Err(error) => {
                // PETSc may have failed on this rank alone, with the others waiting inside it for ever.
                if matches!(error, solver::Error::Petsc(_)) && !comm.all_within(PATIENCE) {
                    eprintln!("error: rank {}: {error}", comm.rank());
                    comm.abort(Kind::Environment.exit_code());
                }
                return Err(self.solver_error(error));
            }
        };
        if !options.petsc.trim().is_empty() {
            let unused = solver::unused_options().map_err(|e| self.solver_error(e))?;
            if !unused.is_empty() {
                let warning = format!("PETSc options that nothing used (misspelt?): {}", unused.join(", "));
                self.run.report.warnings.push(warning);
            }
        }
        self.run.phases.add("pc_setup", how.setup_seconds);
        self.run.phases.add("solve", how.solve_seconds - writing);
        self.run.phases.count("solve");
        Ok((x, how))
    }

    /// Errors against the exact solution, where there is one. Collective.
    ///
    /// # Errors
    /// An expression that is not a number somewhere, the same error on every rank.
    pub(super) fn errors(
        &self,
        problem: &dyn Problem,
        u: &[f64],
        energy: assembly::EnergyNorm,
    ) -> Result<Option<assembly::ExactErrors>, RunError> {
        let Some(exact) = &self.case.exact else { return Ok(None) };
        problem.exact_errors(&exact.key, &exact.components, u, energy).map(Some).map_err(|e| self.locate(e))
    }

    /// Points an assembly error into the case file where its key stands there.
    pub(super) fn locate(&self, error: AssemblyError) -> RunError {
        let plain = RunError::from(error);
        let Some(key) = plain.key.clone() else { return plain.in_mesh(self.case) };
        let place = self.place_of(&key);
        let help = Some("check the expression at this point of the mesh".to_string());
        let located = RunError::at(self.case.error(place, &key, plain.message, help), &self.case.text);
        RunError { what: plain.what, ..located }
    }

    /// Points an error of the solver into the case file. What PETSc refuses of the user's own options is
    /// bad input.
    fn solver_error(&self, error: solver::Error) -> RunError {
        let case = self.case;
        let refused = error.is_refused_option();
        let plain = RunError::from(error);
        let (of_case, of_line) = (case.solver.petsc.trim(), self.run.options.petsc.trim());
        if refused && !of_line.is_empty() {
            let message = format!("the PETSc options `{of_line}` after `--` are refused: {}", plain.message);
            return RunError::new(Kind::Input, "solver", message);
        }
        let (kind, key, message) = if refused && !of_case.is_empty() {
            (Kind::Input, "solver.petsc", format!("the PETSc options are refused: {}", plain.message))
        } else {
            (plain.kind, "solver.method", plain.message)
        };
        let located = RunError::at(case.error(Place::Default, key, message, None), &case.text);
        RunError { kind, what: plain.what, ..located }
    }

    fn place_of(&self, key: &str) -> Place {
        let case = self.case;
        let coefficients =
            case.physics.coefficients.iter().chain(case.regions.iter().flat_map(|r| &r.coefficients));
        let conditions = case.boundaries.iter().flat_map(|b| &b.conditions);
        coefficients
            .filter(|c| c.key == key)
            .map(|c| c.place)
            .chain(conditions.filter(|c| c.key == key).map(|c| c.place))
            .chain(case.exact.iter().filter(|e| e.key == key).map(|e| e.place))
            .next()
            .unwrap_or_default()
    }

    fn solver_options(&self) -> solver::Options {
        let s = &self.case.solver;
        solver::Options {
            method: s.method.clone(),
            tolerance: s.tolerance,
            max_iterations: s.max_iterations as u32,
            petsc: self.petsc_options(),
            overlap: s.overlap.map(|o| o as u32),
        }
    }

    /// PETSc options: those that keys of `[solver]` stand for, then the case's own, then the command line's.
    fn petsc_options(&self) -> String {
        let s = &self.case.solver;
        let keys = [("restart", "-ksp_gmres_restart"), ("subdomains", "-pc_asm_local_blocks")];
        let given = keys.iter().filter_map(|(key, option)| Some(format!("{option} {} ", s.option(key)?)));
        format!("{}{} {}", given.collect::<String>(), s.petsc, self.run.options.petsc)
    }
}
