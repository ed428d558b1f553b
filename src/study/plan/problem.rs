//! How large a case is, from formulas and the header of its mesh file: no solve, no mesh, no MPI.
//!
//! Imports `case`, `element`, `mesh` and `run`. Start at [`Problem::of`].

use std::path::Path;

use crate::case::{Case, Law, Marking, MeshSource};
use crate::element::{GeometryKind, Lagrange, Nodes, Quadrature, Shape};
use crate::law::expr::{Expr, Var};
use crate::mesh::counts::Counts;
use crate::output::run_json::RunReport;
use crate::run::mesh::box_spec;
use crate::run::mesh_files::{self, CACHE_DIRECTORY, FileForm, FileSize};
use crate::run::sizes::Sizes;
use crate::run::{Kind, RunError};
use crate::study::costs::files::relative_cost;

/// Where the cells come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Generated.
    Box,
    /// A file, with its bytes and form, and the numbers of ranks for which a partitioned mesh is kept beside the case.
    File {
        /// Its bytes.
        bytes: u64,
        /// How it is written.
        form: FileForm,
        /// Numbers of ranks with a kept partition.
        kept: Vec<usize>,
    },
}

/// What an adaptive loop will come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Cells of a mesh over those of the mesh before.
    pub factor: f64,
    /// Whether the last steps are large ones.
    pub large: bool,
    /// The unknowns it ends at, if a limit is given.
    pub max_dofs: Option<u64>,
    /// Most steps.
    pub max_steps: usize,
}

/// The size of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Entities of the mesh, uniform refinement included.
    pub counts: Counts,
    /// Cells as read, before refinement.
    pub cells_read: u64,
    /// Degree of the space.
    pub degree: usize,
    /// Unknowns at a node.
    pub components: usize,
    /// Nodes of the space.
    pub nodes: u64,
    /// Pairs of nodes that the matrix couples.
    pub pairs: u64,
    /// Where the cells come from.
    pub input: Input,
    /// Evaluations in assembly, in units of the reference expression for each cell; `None`: constants only.
    pub coefficients: Option<f64>,
    /// The same of the exact solution.
    pub exact: Option<f64>,
    /// `auto` resolved, as far as that can be told.
    pub method: String,
    /// The solver's tolerance.
    pub tolerance: f64,
    /// The adaptive loop.
    pub growth: Option<Growth>,
    /// What the figures rest on.
    pub notes: Vec<String>,
}

/// Part of the cells that Doerfler's marking takes: on singular solutions and fronts 0.15 to 0.21 of them were
/// marked once a mesh had 1000 cells, whatever the parameter between 0.5 and 0.8.
const MARKED: f64 = 0.18;

/// Vertices of a mesh with nodes on curved edges and faces, from Euler's formula.
fn vertices_of(dim: usize, size: &FileSize, cells: &[(Shape, u64)], boundary: Option<u64>) -> u64 {
    let curved: Vec<&(Shape, GeometryKind, u64)> =
        size.elements.iter().filter(|e| e.0.dim() == dim && e.1 != GeometryKind::Linear).collect();
    if curved.is_empty() {
        return size.nodes;
    }
    // The number of edges for no vertices at all says what faces and cells contribute: N = V + E + inside.
    let bare = Counts::of_cells(1, cells, boundary);
    let n_cells: u64 = cells.iter().map(|c| c.1).sum();
    let full = curved.iter().any(|e| !e.0.is_simplex() && e.1 == GeometryKind::Quadratic);
    let inside = match (full, dim) {
        (true, 2) => bare.quadrilaterals,
        (true, 3) => bare.quadrilaterals + bare.hexahedra,
        _ => 0,
    };
    if dim == 1 {
        return size.nodes.saturating_sub(n_cells);
    }
    // E = bare.edges + V - 1.
    (size.nodes + 1).saturating_sub(inside + bare.edges) / 2
}

/// The entities of a mesh file.
fn counts_of(path: &Path, size: &FileSize, notes: &mut Vec<String>) -> Result<Counts, RunError> {
    let dim = size.elements.iter().map(|e| e.0.dim()).max().unwrap_or(0);
    if dim == 0 {
        let message = format!("{}: the mesh has no cells", path.display());
        return Err(RunError::new(Kind::Input, "mesh", message));
    }
    let of = |d: usize| -> Vec<(Shape, u64)> {
        size.elements.iter().filter(|e| e.0.dim() == d).map(|e| (e.0, e.2)).collect()
    };
    let cells = of(dim);
    let on_boundary: u64 = of(dim - 1).iter().map(|e| e.1).sum();
    let boundary = (dim == 3 && on_boundary > 0).then_some(on_boundary);
    if dim == 3 {
        notes.push(match boundary {
            Some(n) => format!("edges and faces by Euler's formula from {n} facets in the file: good to 1%"),
            None => {
                "edges and faces by Euler's formula, with the surface of a cube: good to some percent".into()
            }
        });
    }
    Ok(Counts::of_cells(vertices_of(dim, size, &cells, boundary), &cells, boundary))
}

/// Numbers of ranks that a partition of this file is kept for and newer than it.
fn kept(case: &Case, path: &Path) -> Vec<usize> {
    if case.performance.cache == Some(false) {
        return Vec::new();
    }
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let directory = case.file.parent().unwrap_or(Path::new("")).join(CACHE_DIRECTORY);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ranks = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
        let ranks = ranks.and_then(|(ranks, _)| ranks.parse::<usize>().ok());
        let newer = modified(&entry.path()) >= modified(path);
        found.extend(ranks.filter(|_| newer));
    }
    found.sort_unstable();
    found
}

/// Points of the rule of a degree, over all cells, by cell.
fn points_per_cell(counts: &Counts, degree: usize) -> f64 {
    let points: f64 = counts
        .cells()
        .iter()
        .map(|&(shape, n)| n as f64 * Quadrature::new(shape, degree).map_or(0.0, |rule| rule.len() as f64))
        .sum();
    points / counts.n_cells().max(1) as f64
}

/// Nodes of a cell of a Lagrange space.
pub fn local_nodes(shape: Shape, degree: usize) -> usize {
    Lagrange::new(shape, degree, Nodes::Equispaced).map_or(0, |basis| basis.n_nodes())
}

impl Problem {
    /// The size of a case. Not collective.
    ///
    /// # Errors
    /// A mesh file that cannot be read, or a case that does not fit its dimension.
    pub fn of(case: &Case) -> Result<Problem, RunError> {
        let mut notes = Vec::new();
        let (mut counts, input) = match &case.mesh.source {
            MeshSource::Box(spec) => (Counts::of_box(&box_spec(spec)), Input::Box),
            MeshSource::File(path) => {
                let size = mesh_files::count(path)?;
                let counts = counts_of(path, &size, &mut notes)?;
                let FileSize { bytes, form, .. } = size;
                (counts, Input::File { bytes, form, kept: kept(case, path) })
            }
        };
        case.check_dimension(counts.dim)?;
        let cells_read = counts.n_cells();
        for _ in 0..case.mesh.refine {
            counts = counts.refined();
        }
        Ok(Problem::new(case, counts, cells_read, input, notes))
    }

    /// The size of a case from what its run found, where finding out before would have meant reading the file
    /// twice. The report is of a run on one mesh.
    pub fn of_run(case: &Case, report: &RunReport) -> Option<Problem> {
        let MeshSource::File(path) = &case.mesh.source else { return None };
        let sizes: Sizes = serde_json::from_value(report.extra.get("sizes")?.clone()).ok()?;
        let cells: Option<Vec<(Shape, u64)>> =
            sizes.cells.iter().map(|c| Some((Shape::parse(&c.shape)?, c.cells))).collect();
        let counts = Counts::of_cells(report.mesh.vertices, &cells?, None);
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
        let cached = report.partition.as_ref().is_some_and(|p| p.method == "cached");
        let kept = if cached { vec![report.ranks] } else { Vec::new() };
        let input = Input::File { bytes, form: FileForm::Text, kept };
        let read = counts.n_cells() >> (counts.dim * case.mesh.refine).min(60);
        let found = Problem::new(case, counts, read, input, Vec::new());
        Some(Problem { nodes: sizes.nodes, pairs: sizes.pairs, ..found })
    }

    fn new(case: &Case, counts: Counts, cells_read: u64, input: Input, notes: Vec<String>) -> Problem {
        let (dim, degree) = (counts.dim, case.degree);
        let components = case.physics.law.n_components(dim);
        let nodes = counts.nodes(degree);
        let coefficients =
            case.physics.coefficients.iter().chain(case.regions.iter().flat_map(|r| &r.coefficients));
        let varying: Vec<Expr> = coefficients
            .flat_map(|c| c.value.exprs())
            .filter(|e| e.as_constant().is_none())
            .cloned()
            .collect();
        let coefficients =
            (!varying.is_empty()).then(|| relative_cost(&varying) * points_per_cell(&counts, 2 * degree));
        let exact = case.exact.as_ref().map(|exact| {
            let with_gradient: Vec<Expr> = exact
                .components
                .iter()
                .flat_map(|e| std::iter::once(e.clone()).chain((0..dim).map(|d| e.derivative(Var::axis(d)))))
                .collect();
            relative_cost(&with_gradient) * points_per_cell(&counts, 2 * degree + 4)
        });
        let growth = case.adapt.as_ref().map(|adapt| {
            let marked = match adapt.marking {
                Marking::Auto | Marking::Dorfler(_) => MARKED,
                Marking::Fraction(fraction) => fraction,
            };
            let factor = 1.0 + marked * ((1 << dim) - 1) as f64;
            let large = adapt.marking == Marking::Auto;
            Growth { factor, large, max_dofs: adapt.max_dofs, max_steps: adapt.max_steps }
        });
        let advective = case.physics.law == Law::ConvectionDiffusion;
        let symmetric = !advective && case.physics.coefficients.iter().all(|c| c.value.is_symmetric());
        let method = match case.solver.method.as_str() {
            "auto" => crate::solver::expected_method(&crate::solver::Expected {
                // An adaptive loop ends on larger meshes, and most of its time is theirs.
                unknowns: (nodes * components as u64)
                    .max(case.adapt.as_ref().and_then(|adapt| adapt.max_dofs).unwrap_or(0)),
                dimension: dim,
                components,
                degree,
                symmetric,
                advective,
            }),
            given => given.to_owned(),
        };
        Problem {
            pairs: counts.pairs(degree),
            counts,
            cells_read,
            degree,
            components,
            nodes,
            input,
            coefficients,
            exact,
            method,
            tolerance: case.solver.tolerance,
            growth,
            notes,
        }
    }

    /// Degrees of freedom.
    pub fn dofs(&self) -> u64 {
        self.nodes * self.components as u64
    }

    /// Entries of the matrix.
    pub fn nonzeros(&self) -> u64 {
        self.pairs * (self.components * self.components) as u64
    }

    /// The same problem on a mesh of `factor` times as many cells.
    pub fn scaled(&self, factor: f64) -> Problem {
        let times = |n: u64| (n as f64 * factor).round() as u64;
        let c = &self.counts;
        let counts = Counts {
            dim: c.dim,
            vertices: times(c.vertices),
            edges: times(c.edges),
            triangles: times(c.triangles),
            quadrilaterals: times(c.quadrilaterals),
            tetrahedra: times(c.tetrahedra),
            hexahedra: times(c.hexahedra),
        };
        Problem { counts, nodes: times(self.nodes), pairs: times(self.pairs), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(mesh: &str, rest: &str) -> Case {
        let text = format!(
            "[case]\nformat = 1\n[mesh]\n{mesh}\n[physics]\nlaw = \"poisson\"\nsource = 1\n{rest}\
             [boundary.a]\non = [\"x-min\"]\nvalue = 0\n"
        );
        Case::parse(Path::new("a.toml"), &text, &[]).unwrap_or_else(|e| panic!("{}", e.render()))
    }

    #[test]
    fn a_box_is_known_exactly() {
        let found = Problem::of(&case(
            "box = { size = [1, 1, 1], cells = [100, 100, 100], shape = \"tetrahedron\" }",
            "",
        ))
        .expect("a size");
        assert_eq!((found.counts.n_cells(), found.dofs()), (6_000_000, 1_030_301));
        assert_eq!(found.method, "cg+amg");
        assert!(found.coefficients.is_none() && found.exact.is_none() && found.growth.is_none());
        let refined = "box = { size = [1, 1], cells = [10, 10] }\nrefine = 2";
        let found = Problem::of(&case(refined, "[space]\ndegree = 2\n")).expect("a size");
        assert_eq!((found.counts.n_cells(), found.dofs(), found.cells_read), (3200, 6561, 200));
        assert_eq!(found.method, "cg+pmg");
    }

    #[test]
    fn expressions_and_loops_count() {
        let mesh = "box = { size = [1, 1], cells = [10, 10] }";
        let found = Problem::of(&case(
            mesh,
            "diffusion = \"1 + sin(x)\"\n[exact]\nvalue = \"x\"\n[adapt]\nmarking = { fraction = 0.5 }\n",
        ))
        .expect("a size");
        assert!(found.coefficients.is_some_and(|c| c > 0.0) && found.exact.is_some());
        assert_eq!(found.growth.map(|g| g.factor), Some(2.5));
    }

    #[test]
    fn a_file_is_counted() {
        let folder = crate::study::measure::Scratch::new().expect("a folder");
        crate::study::costs::files::write_binary(&folder.0.join("a.msh"), 8).expect("written");
        let text = "[case]\nformat = 1\n[mesh]\nfile = \"a.msh\"\n[space]\ndegree = 2\n[physics]\nlaw = \"poisson\"\n\
                    reaction = 1\n";
        let case = Case::parse(&folder.0.join("a.toml"), text, &[]).expect("a case");
        let found = Problem::of(&case).expect("a size");
        assert_eq!((found.counts.n_cells(), found.dofs()), (3072, 17 * 17 * 17));
        assert!(matches!(found.input, Input::File { form: FileForm::Binary, .. }));
    }

    #[test]
    fn curved_cells_have_fewer_vertices_than_nodes() {
        // 27 nodes of one hexahedron; 10 of one tetrahedron; 9 of one quadrilateral.
        for (shape, nodes, vertices) in
            [(Shape::Hexahedron, 27, 8), (Shape::Tetrahedron, 10, 4), (Shape::Quadrilateral, 9, 4)]
        {
            let size = FileSize {
                nodes,
                elements: vec![(shape, GeometryKind::Quadratic, 1)],
                form: FileForm::Binary,
                bytes: 0,
            };
            let surface = (shape.dim() == 3).then_some(shape.n_facets() as u64);
            assert_eq!(vertices_of(shape.dim(), &size, &[(shape, 1)], surface), vertices, "{shape:?}");
        }
    }
}
