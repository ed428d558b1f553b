//! The steady driver: mesh, space, conditions, matrix, solve, reports.

use std::time::Instant;

use cluster::Comm;

use super::conditions::{self, Conditions};
use super::error::{Kind, RunError};
use super::level::rigid_modes;
use super::materials::{self, Materials};
use super::mesh;
use super::results::{self, Solved};
use super::singular;
use super::sizes::Sizes;
use crate::assembly::{AssemblyError, Constraints, Discretisation, Matrix, Operator, Pattern, Problem};
use crate::case::{Backend, Case, Law, Place};
use crate::law::{ConvectionDiffusion, Diffusion, Elasticity, Law as Physics, Plane};
use crate::mesh::Mesh;
use crate::output::phases::{self, Phases};
use crate::output::run_json::{
    self, ErrorsReport, MeshReport, RunReport, SolverReport, Status, prepare_directory,
};
use crate::output::terminal::Progress;
use crate::solver;
use crate::space::{Order, Space};

/// How a run is carried out, beside what its case says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads of each rank.
    pub threads: usize,
    /// PETSc options of the command line, applied last.
    pub petsc: String,
    /// Whether rank 0 shows progress and a summary.
    pub quiet: bool,
    /// Whether nothing is written: no directory, no `run.json`, no solution; for drivers in a program.
    pub no_files: bool,
}

/// What a run came to.
pub struct Outcome {
    /// As written to `run.json`, on every rank.
    pub report: RunReport,
    /// The solution at owned nodes, Cartesian, component by component within a node.
    pub solution: Vec<f64>,
    /// Coordinates of the owned nodes.
    pub nodes: Vec<[f64; 3]>,
    /// A failure that left a partial answer: the solver did not converge.
    pub failure: Option<RunError>,
}

/// Runs a case and writes its directory. Collective.
///
/// # Errors
/// Whatever is wrong with the case, the mesh or the machine, the same on every rank; `run.json` says so
/// where it can be written. A solver that does not converge is an [`Outcome`] with a failure.
pub fn run_case(comm: &Comm, case: &Case, options: &Options) -> Result<Outcome, RunError> {
    let begin = Instant::now();
    let writes = !options.no_files && comm.is_root();
    let prepared = if writes { prepare_directory(&case.output_dir) } else { Ok(()) };
    comm.agree(prepared)?;
    let mut report = RunReport::started(&case.name, comm.size(), options.threads);
    let path = case.output_dir.join(run_json::FILE_NAME);
    let resolved = case.output_dir.join("case.resolved.toml");
    let written = if writes {
        report
            .write_atomic(&path)
            .and_then(|()| run_json::write_file_atomic(&resolved, case.resolved().as_bytes()))
    } else {
        Ok(())
    };
    comm.agree(written)?;
    let mut phases = Phases::counting(comm);
    let result = solve(comm, case, options, &mut report, &mut phases);
    let communication = phases.gather_counters(comm);
    let communication = serde_json::to_value(communication).unwrap_or_default();
    report.extra.insert("communication".to_owned(), communication);
    report.phases = phases.gather(comm);
    report.memory_mb = phases::gather_memory(comm);
    report.wall = begin.elapsed().as_secs_f64();
    let failure = match &result {
        Ok(solution) => solution.failure.as_ref(),
        Err(error) => Some(error),
    };
    report.error = failure.map(RunError::report);
    report.status = match failure {
        None => Status::Solved,
        Some(error) if error.kind == Kind::NotConverged => Status::NotConverged,
        Some(_) => Status::Failed,
    };
    let written = if writes { report.write_atomic(&path) } else { Ok(()) };
    let written = comm.agree(written);
    let solution = result?;
    written?;
    Ok(Outcome { report, solution: solution.u, nodes: solution.nodes, failure: solution.failure })
}

struct Solution {
    u: Vec<f64>,
    nodes: Vec<[f64; 3]>,
    failure: Option<RunError>,
}

fn not_yet(case: &Case, place: Place, key: &str, what: &str) -> RunError {
    let message = format!("{what} is not supported yet in this version");
    RunError::at(case.error(place, key, message, None), &case.text)
}

/// Refuses what the case format has and this version does not.
fn check_supported(case: &Case) -> Result<(), RunError> {
    if let Some(adapt) = &case.adapt {
        return Err(not_yet(case, adapt.place, "adapt", "adaptive refinement"));
    }
    if let Some(time) = &case.time {
        return Err(not_yet(case, time.place, "time", "time stepping"));
    }
    if case.initial.is_some() {
        return Err(not_yet(case, Place::Default, "initial", "starting from initial values"));
    }
    if case.solver.backend == Backend::Gpu {
        return Err(not_yet(case, Place::Default, "solver.backend", "the GPU backend"));
    }
    if case.output.checkpoint.is_some() {
        return Err(not_yet(case, Place::Default, "output.checkpoint", "writing checkpoints"));
    }
    Ok(())
}

fn solve(
    comm: &Comm,
    case: &Case,
    options: &Options,
    report: &mut RunReport,
    phases: &mut Phases,
) -> Result<Solution, RunError> {
    check_supported(case)?;
    let progress = if options.quiet { Progress::silent() } else { Progress::new(comm) };
    let line = progress.phase("mesh");
    let mesh::Loaded { mesh, partition, warnings } =
        mesh::load(comm, case, phases).map_err(|e| e.in_mesh(case))?;
    report.warnings.extend(warnings);
    report.mesh = MeshReport {
        cells: mesh.n_cells_global,
        vertices: mesh.vertices.map.n_global(),
        dimension: mesh.dim as u32,
    };
    let (cells, method) = (report.mesh.cells, partition.method.as_str());
    tracing::info!(cells, owned = mesh.n_owned_cells(), method, imbalance = partition.imbalance, "mesh");
    report.partition = Some(partition);
    drop(line);
    let space = phases
        .time("space", || Space::new(&mesh, case.degree, order(case)))
        .map_err(|e| RunError::new(Kind::Input, "space", e.to_string()))?;
    let law = case.physics.law;
    let c = law.n_components(mesh.dim);
    report.dofs = space.map.n_global() * c as u64;
    tracing::info!(dofs = report.dofs, owned = space.map.n_owned() * c, "space");
    let materials = phases.time("space", || materials::build(case, &mesh))?;
    let conditions = phases.time("space", || conditions::resolve(case, &mesh))?;
    report.boundary.clone_from(&conditions.report);
    let elasticity = Elasticity {
        plane: match case.physics.plane {
            crate::case::Plane::Strain => Plane::Strain,
            crate::case::Plane::Stress => Plane::Stress,
        },
    };
    let mut ctx = Context { comm, case, options, report, phases, progress, mesh: &mesh, space: &space };
    match (law, mesh.dim) {
        (Law::Elasticity, 1) => ctx.with::<_, 1, 1>(elasticity, &materials, conditions),
        (Law::Elasticity, 2) => ctx.with::<_, 2, 2>(elasticity, &materials, conditions),
        (Law::Elasticity, _) => ctx.with::<_, 3, 3>(elasticity, &materials, conditions),
        (Law::ConvectionDiffusion, 1) => ctx.with::<_, 1, 1>(ConvectionDiffusion, &materials, conditions),
        (Law::ConvectionDiffusion, 2) => ctx.with::<_, 2, 1>(ConvectionDiffusion, &materials, conditions),
        (Law::ConvectionDiffusion, _) => ctx.with::<_, 3, 1>(ConvectionDiffusion, &materials, conditions),
        (Law::Poisson | Law::Heat, 1) => ctx.with::<_, 1, 1>(Diffusion, &materials, conditions),
        (Law::Poisson | Law::Heat, 2) => ctx.with::<_, 2, 1>(Diffusion, &materials, conditions),
        (Law::Poisson | Law::Heat, _) => ctx.with::<_, 3, 1>(Diffusion, &materials, conditions),
    }
}

/// Incomplete factorisations depend on the order of unknowns and like a small bandwidth; all else likes
/// neighbours near in memory.
fn order(case: &Case) -> Order {
    let method = case.solver.method.as_str();
    let factorises = ["asm", "ras", "ilu", "icc", "bjacobi", "sor"].iter().any(|p| method.ends_with(p));
    let auto = method == "auto" && case.physics.law == Law::ConvectionDiffusion;
    if factorises || auto { Order::CuthillMcKee } else { Order::Curve }
}

/// How long a rank on which PETSc failed waits for the others to fail too.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the driver knows once the space is there.
pub(super) struct Context<'a> {
    pub(super) comm: &'a Comm,
    pub(super) case: &'a Case,
    options: &'a Options,
    pub(super) report: &'a mut RunReport,
    phases: &'a mut Phases,
    progress: Progress,
    pub(super) mesh: &'a Mesh,
    pub(super) space: &'a Space,
}

impl Context<'_> {
    fn with<L: Physics<D, C>, const D: usize, const C: usize>(
        &mut self,
        law: L,
        materials: &Materials,
        mut conditions: Conditions,
    ) -> Result<Solution, RunError> {
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
        self.solve(&problem, materials, &conditions)
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

    fn solve(
        &mut self,
        problem: &dyn Problem,
        materials: &Materials,
        conditions: &Conditions,
    ) -> Result<Solution, RunError> {
        let (comm, case, mesh, space) = (self.comm, self.case, self.mesh, self.space);
        let c = problem.components();
        let d = problem.discretisation();
        let n_owned = space.map.n_owned();
        let constraints = self
            .phases
            .time("space", || Constraints::new(d, c, &conditions.essential))
            .map_err(|e| self.locate(e))?;
        let overruled = comm.sum(constraints.overruled);
        if overruled > 0 {
            self.report.warnings.push(format!(
                "{overruled} degrees of freedom are prescribed by two headings with different values: the later one holds"
            ));
        }
        // Before the expensive part: a probe outside the mesh is an error.
        let places = results::locate_probes(case, mesh)?;
        let begin = Instant::now();
        let coordinates = space.coordinates(mesh);
        let null = self.null_space(materials, conditions, &constraints, &coordinates)?;
        self.phases.add("space", begin.elapsed().as_secs_f64());

        let line = self.progress.phase("assembling");
        let mut pattern = self.phases.time("pattern", || Pattern::new(space));
        let begin = Instant::now();
        let mut matrix = Matrix::new(&pattern, c);
        let mut residual = vec![0.0; n_owned * c];
        let mut u = constraints.lift();
        self.phases.add("assemble", begin.elapsed().as_secs_f64());
        let assembled = self
            .phases
            .time("assemble", || problem.assemble(&pattern, &u, &constraints, &mut matrix, &mut residual));
        comm.agree(assembled).map_err(|e| self.locate(e))?;
        let sizes = serde_json::to_value(Sizes::of(mesh, space, &pattern, c)).unwrap_or_default();
        self.report.extra.insert("sizes".to_owned(), sizes);
        tracing::info!(entries = pattern.diag_col.len() + pattern.off_col.len(), "assembled");
        residual.iter_mut().for_each(|r| *r = -*r);
        let rhs = residual;
        if !null.is_empty() {
            self.check_compatible(&rhs, &null)?;
        }

        drop(line);
        let line = self.progress.phase("solving");
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
                rigid_modes(mesh.dim, &coordinates, &center, &constraints, n_owned)
            } else {
                Vec::new()
            }
        };
        let solved = solver::solve(
            comm,
            (&space.map, &space.halo),
            &mut pattern,
            matrix,
            &solver::Problem {
                symmetric: materials.symmetric,
                law: case.physics.law.name(),
                advective: case.physics.law == Law::ConvectionDiffusion,
                dimension: mesh.dim,
                degree: case.degree as u32,
                null: &null,
                near_null: &near_null,
                transfer: &|| solver::to_vertices(mesh, space, &constraints, c, &modes),
            },
            rhs,
            &self.solver_options(),
            &mut |iteration, residual| {
                line.say(|| format!("iteration {iteration}, relative residual {residual:.2e}"))
            },
        );
        let (change, how) = match solved {
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
        if !self.solver_options().petsc.trim().is_empty() {
            let unused = solver::unused_options().map_err(|e| self.solver_error(e))?;
            if !unused.is_empty() {
                let warning = format!("PETSc options that nothing used (misspelt?): {}", unused.join(", "));
                self.report.warnings.push(warning);
            }
        }
        self.phases.add("pc_setup", how.setup_seconds);
        self.phases.add("solve", how.solve_seconds);
        self.phases.count("solve");
        let (method, residual) = (how.method.as_str(), how.relative_residual);
        tracing::info!(method, iterations = how.iterations, residual, converged = how.converged, "solved");
        let mut change = change;
        change.resize(space.map.n_local() * c, 0.0);
        space.halo.forward(&mut change, c);
        constraints.to_cartesian(&mut change);
        u.iter_mut().zip(&change).for_each(|(u, d)| *u += d);
        self.report.solver = Some(SolverReport {
            method: how.method.clone(),
            reason: how.reason.clone(),
            iterations: u64::from(how.iterations),
            relative_residual: how.relative_residual,
            converged: how.converged,
            attempts: how.attempts.iter().map(|a| a.as_str().into()).collect(),
            ..SolverReport::default()
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

        drop(line);
        let _line = self.progress.phase("output");
        self.phases.count("between");
        let begin = Instant::now();
        let reactions = self.reactions(problem, &pattern, &constraints, &u)?;
        // What the output needs room for.
        drop((pattern, change));
        if let Some(exact) = &case.exact {
            let errors =
                problem.exact_errors(&exact.key, &exact.components, &u).map_err(|e| self.locate(e))?;
            self.report.errors =
                Some(ErrorsReport { l2: errors.l2, h1: errors.h1, ..ErrorsReport::default() });
        }
        let results = Solved::new(case, problem, &u, &reactions, !self.options.no_files)?;
        self.report.probes = results.probes(&places)?;
        self.report.integrals = results.integrals()?;
        if !self.options.no_files {
            results.write(&case.output_dir.join("solution.hdf"), &coordinates)?;
        }
        let writes = !self.options.no_files && comm.is_root();
        let written = if writes { results::write_probes(case, &self.report.probes) } else { Ok(()) };
        comm.agree(written)?;
        self.phases.add("output", begin.elapsed().as_secs_f64());
        self.phases.count("output");
        u.truncate(n_owned * c);
        let mut nodes = coordinates;
        nodes.truncate(n_owned);
        Ok(Solution { u, nodes, failure })
    }

    /// Points an assembly error into the case file where its key stands there.
    fn locate(&self, error: AssemblyError) -> RunError {
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
        let (of_case, of_line) = (case.solver.petsc.trim(), self.options.petsc.trim());
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
        format!("{}{} {}", given.collect::<String>(), s.petsc, self.options.petsc)
    }

    fn reactions(
        &self,
        problem: &dyn Problem,
        pattern: &Pattern,
        constraints: &Constraints,
        u: &[f64],
    ) -> Result<Vec<f64>, RunError> {
        let c = problem.components();
        let wanted = self.case.integrals.iter().any(|i| i.of.quantity == crate::case::Quantity::Reaction)
            || self.case.output.fields.iter().any(|f| f.quantity == crate::case::Quantity::Reaction);
        if !wanted {
            return Ok(Vec::new());
        }
        let mut residual = vec![0.0; self.space.map.n_owned() * c];
        let found = problem.residual_where_prescribed(pattern, u, constraints, &mut residual);
        self.comm.agree(found).map_err(|e| self.locate(e))?;
        Ok(results::reactions(&residual, constraints, c))
    }
}
