//! The library's shortest way: [`laplace`], one call from a domain to a solution.
//!
//! Imports `case` and `run`. Start at [`Domain`] and [`laplace`]. Whoever wants more than this writes a
//! case in text and hands it to [`crate::run::run_case`], as [`laplace`] does.

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::Comm;

use crate::case::{BoxShape, Case};
use crate::output::run_json::RunReport;
use crate::run::{Kind, Options, RunError, run_case};

/// An interval, a rectangle or a box, cut into cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    low: Vec<f64>,
    high: Vec<f64>,
    cells: Vec<usize>,
    shape: BoxShape,
    degree: usize,
}

impl Domain {
    fn new(low: &[f64], high: &[f64], cells: usize, shape: BoxShape) -> Domain {
        Domain { low: low.to_vec(), high: high.to_vec(), cells: vec![cells; low.len()], shape, degree: 1 }
    }

    /// From `a` to `b`, in 100 cells unless told otherwise.
    pub fn interval(a: f64, b: f64) -> Domain {
        Domain::new(&[a], &[b], 100, BoxShape::Interval)
    }

    /// The rectangle between two corners, 32 by 32 squares of two triangles unless told otherwise.
    pub fn rectangle(low: [f64; 2], high: [f64; 2]) -> Domain {
        Domain::new(&low, &high, 32, BoxShape::Triangle)
    }

    /// The box between two corners, 16 by 16 by 16 cubes of six tetrahedra unless told otherwise.
    pub fn cuboid(low: [f64; 3], high: [f64; 3]) -> Domain {
        Domain::new(&low, &high, 16, BoxShape::Tetrahedron)
    }

    /// That many cells along each side; for triangles and tetrahedra, squares and cubes that are cut.
    pub fn cells(self, n: usize) -> Domain {
        Domain { cells: vec![n; self.low.len()], ..self }
    }

    /// As many cells along the sides as `n` has entries for.
    pub fn cells_along(self, n: &[usize]) -> Domain {
        Domain { cells: n.to_vec(), ..self }
    }

    /// Cells of another shape.
    pub fn shape(self, shape: BoxShape) -> Domain {
        Domain { shape, ..self }
    }

    /// Lagrange elements of that degree, 1 to 4; 1 unless told otherwise.
    pub fn degree(self, degree: usize) -> Domain {
        Domain { degree, ..self }
    }
}

/// A solution. Under mpirun each rank has its own part of the nodes: every node is on one rank.
#[derive(Debug, Clone)]
pub struct Laplace {
    /// Coordinates of this rank's nodes; those that the domain does not have are zero.
    pub nodes: Vec<[f64; 3]>,
    /// The solution there.
    pub solution: Vec<f64>,
    /// Sizes, iterations, residual, times: as in `run.json`, the same on all ranks.
    pub metrics: RunReport,
}

/// Solves `-laplace(u) = source` with `u = boundary` on the whole boundary.
///
/// `source` and `boundary` are numbers, or expressions in `x y z` as in a case file. The first call
/// starts MPI and PETSc; they end with the thread that made it, or with the program. Nothing is
/// written. Run by itself a program solves on one rank; under `mpirun` on all of them.
///
/// ```no_run
/// use femdd::Domain;
///
/// let domain = Domain::rectangle([0.0, 0.0], [1.0, 1.0]).cells(64);
/// let result = femdd::laplace(&domain, "2*pi^2*sin(pi*x)*sin(pi*y)", 0.0)?;
/// println!("{} unknowns, at the first node u = {}", result.metrics.dofs, result.solution[0]);
/// # Ok::<(), femdd::run::RunError>(())
/// ```
///
/// Collective: all ranks make the same calls, each from one thread.
///
/// # Errors
/// An expression that does not parse, a domain without volume or cells, a solve that does not
/// converge: the same on every rank. MPI that was started otherwise, or by another thread: use
/// [`crate::run::run_case`] on its communicator.
pub fn laplace(domain: &Domain, source: impl Display, boundary: impl Display) -> Result<Laplace, RunError> {
    let text = case_text(domain, &source.to_string(), &boundary.to_string());
    let case = Case::parse(Path::new("laplace.toml"), &text, &[])?;
    let comm = world()?;
    let options = Options { threads: 1, quiet: true, no_files: true, ..Options::default() };
    let outcome = run_case(&comm, &case, &options)?;
    match outcome.failure {
        Some(failure) => Err(failure),
        None => Ok(Laplace { nodes: outcome.nodes, solution: outcome.solution, metrics: outcome.report }),
    }
}

/// The case that says the same.
fn case_text(domain: &Domain, source: &str, boundary: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let size: Vec<f64> = domain.high.iter().zip(&domain.low).map(|(high, low)| high - low).collect();
    let sides: Vec<String> = ["x", "y", "z"][..domain.low.len().min(3)]
        .iter()
        .flat_map(|axis| [format!("{axis}-min"), format!("{axis}-max")])
        .collect();
    let mut text = String::from("[case]\nformat = 1\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "[mesh]\nbox = {{ size = {size:?}, cells = {:?}, origin = {:?}, shape = \"{}\" }}",
        domain.cells,
        domain.low,
        domain.shape.name()
    );
    let _ = writeln!(text, "[space]\ndegree = {}", domain.degree);
    let _ = writeln!(text, "[physics]\nlaw = \"poisson\"\nsource = {}", quoted(source));
    let _ = writeln!(text, "[boundary.all]\non = {sides:?}\nvalue = {}", quoted(boundary));
    text
}

/// What the first call started. Dropped in this order, by the thread that started it: PETSc, then MPI.
struct Started {
    comm: Comm,
    _solvers: crate::solver::Session,
    _mpi: cluster::Session,
}

thread_local! {
    /// Its destructor runs when the thread ends, on the main thread when the program does.
    static STARTED: RefCell<Option<Started>> = const { RefCell::new(None) };
}

/// MPI starts once in a process.
static TRIED: AtomicBool = AtomicBool::new(false);

/// All ranks, with MPI and PETSc started if they were not.
fn world() -> Result<Comm, RunError> {
    STARTED.with_borrow_mut(|started| {
        if let Some(started) = started {
            return Ok(started.comm.clone());
        }
        let fail = |message: String| RunError::new(Kind::Environment, "mpi", message);
        if TRIED.swap(true, Ordering::SeqCst) {
            return Err(fail("MPI was started by another thread: make all calls from one".into()));
        }
        let mpi = cluster::init().map_err(|e| fail(e.to_string()))?;
        let comm = mpi.world();
        let solvers = crate::solver::start(&comm)?;
        *started = Some(Started { comm: comm.clone(), _solvers: solvers, _mpi: mpi });
        Ok(comm)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_case() {
        let domain = Domain::cuboid([0.0, -1.0, 0.0], [1.0, 1.0, 3.0]).cells_along(&[2, 3, 4]).degree(2);
        let text = case_text(&domain, "if(x < 0.5, 1, \"2\")", "0");
        assert!(Case::parse(Path::new("laplace.toml"), &text, &[]).is_err(), "quotes are no expression");
        let case =
            Case::parse(Path::new("laplace.toml"), &case_text(&domain, "x*y", "z"), &[]).expect("a case");
        assert_eq!(case.degree, 2);
        let crate::case::MeshSource::Box(mesh) = &case.mesh.source else { panic!("a box") };
        assert_eq!(
            (mesh.size.as_slice(), mesh.cells.as_slice()),
            ([1.0, 2.0, 3.0].as_slice(), [2, 3, 4].as_slice())
        );
        assert_eq!(mesh.origin, [0.0, -1.0, 0.0]);
    }

    #[test]
    fn a_domain_without_volume_is_an_error() {
        let error = laplace(&Domain::interval(1.0, 1.0), 1.0, 0.0).expect_err("no volume");
        assert_eq!(error.kind, Kind::Input);
    }
}
