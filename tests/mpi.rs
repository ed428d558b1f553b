//! The real command on several ranks: started both ways, with fewer cells than ranks, oversubscribed, with
//! ranks that are killed; and its output as VTK reads it back.
//!
//! VTK is read by the Python that `FEMDD_PYTHON` names (`./test` makes one), `python3` otherwise. Where neither
//! has the package `vtk` those tests are skipped and say so; in a run of CI they fail.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Case, Ended, Scratch, femdd, finish, solve};
use serde_json::Value;

/// Poisson's equation on a box of tetrahedra with a linear solution.
fn linear(cells: usize) -> String {
    format!(
        "[mesh]\nbox = {{ size = [1, 1, 1], cells = [{cells}, {cells}, {cells}] }}\n[physics]\nlaw = \"poisson\"\n\
         [boundary.walls]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\", \"z-min\", \"z-max\"]\nvalue = \"1 + 2*x - 3*y + z\"\n\
         [exact]\nvalue = \"1 + 2*x - 3*y + z\"\n[output]\nfields = [\"u\", \"rank\"]\n"
    )
}

/// The command as a person at a cluster writes it: `mpirun -n RANKS femdd CASE.toml`, without what tests otherwise tell
/// Open MPI about messages.
fn mpirun(ranks: usize, case: &Path) -> Command {
    let mut command = testing::under_mpirun(&femdd(), ranks);
    command.env_remove("OMPI_MCA_btl_vader_single_copy_mechanism").arg(case);
    command
}

fn report(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("case.out/run.json")).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

// ---- Starting.

#[test]
fn under_a_launcher_of_the_users() {
    let scratch = Scratch::new();
    let case = scratch.write("case.toml", &linear(4));
    let ended = finish(mpirun(3, &case), Duration::from_secs(60));
    assert!(!ended.timed_out && ended.code() == 0, "{}", ended.text());
    assert_eq!(ended.stdout.matches("case: solved in").count(), 1, "{}", ended.text());
    assert_eq!(ended.stderr.trim(), "", "{}", ended.text());
    let report = report(scratch.path());
    assert_eq!((&report["ranks"], &report["status"]), (&3.into(), &"solved".into()), "{report:#}");
    assert!(report["errors"]["l2"].as_f64().is_some_and(|e| e < 1e-9), "{report:#}");
}

/// PETSc and what comes with it take longer to load than a small run does. Options are a need of it wherever they stand.
#[test]
fn petsc_is_loaded_where_something_needs_it() {
    let text = linear(6);
    let ours = format!("{text}[solver]\nmethod = \"cg+amg\"\n");
    let loaded = |case: Case| {
        let ran = case.variable("LD_DEBUG", "files").solve();
        assert!(ran.ended.stderr.contains("libmpi"), "the loader says what it loads");
        assert!(ran.number("/errors/l2") < 1e-6);
        ran.ended.stderr.contains("libpetsc")
    };
    assert!(!loaded(Case::new(&ours)));
    assert!(!loaded(Case::new(&ours).ranks(2)));
    assert!(loaded(Case::new(&ours).ranks(2).variable("PETSC_OPTIONS", "-ksp_max_it 77")));
    assert!(loaded(Case::new(&ours).ranks(2).args(&["--", "-ksp_max_it", "77"])));
    assert!(loaded(Case::new(&text.replace("[exact]", "[solver]\nmethod = \"cg+gamg\"\n[exact]")).ranks(2)));
}

/// Stealing reads and writes other ranks' windows, which Open MPI's own choice of how to copy does not survive in
/// containers.
#[test]
fn an_adaptive_run_under_a_launcher_of_the_users() {
    let scratch = Scratch::new();
    let corner = "abs(x - 0.15) + abs(y - 0.2)";
    let case = scratch.write(
        "case.toml",
        &format!(
            "[mesh]\nbox = {{ size = [1, 1], cells = [8, 8] }}\n[physics]\nlaw = \"poisson\"\n\
             source = \"exp(-50*({corner}))\"\n\
             [boundary.walls]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\"]\nvalue = 0\n\
             [adapt]\nestimator = \"kelly\"\nmax_dofs = 4000\nmax_steps = 20\nimbalance = 1.02\n"
        ),
    );
    let ended = finish(mpirun(2, &case), Duration::from_secs(120));
    assert!(!ended.timed_out && ended.code() == 0, "{}", ended.text());
    assert_eq!(ended.stderr.trim(), "", "{}", ended.text());
    let report = report(scratch.path());
    let steps = report["adapt"]["steps"].as_array().expect("steps");
    assert!(
        steps.iter().any(|step| step["moved_cells"].as_u64() > Some(0)),
        "nothing was stolen: {report:#}"
    );
}

#[test]
fn fewer_cells_than_ranks() {
    let meshes = [
        ("size = [1], cells = [3]", "x", 3),
        ("size = [1, 1], cells = [1, 1]", "x + y", 2),
        ("size = [1, 1], cells = [1, 1], shape = \"quadrilateral\"", "x + y", 1),
        ("size = [1, 1, 1], cells = [1, 1, 1], shape = \"hexahedron\"", "x + y", 1),
    ];
    for (mesh, u, cells) in meshes {
        for degree in [1, 2] {
            let text = format!(
                "[mesh]\nbox = {{ {mesh} }}\n[space]\ndegree = {degree}\n[physics]\nlaw = \"poisson\"\n\
                 [boundary.ends]\non = [\"x-min\", \"x-max\"]\nvalue = \"{u}\"\n[exact]\nvalue = \"{u}\"\n\
                 [[probe]]\nname = \"somewhere\"\nat = [{}]\nfield = \"u\"\n[[integral]]\nname = \"sum\"\nof = \"u\"\n\
                 [output]\nfields = [\"u\", \"flux\", \"rank\"]\n",
                ["0.25", "0.25, 0.5", "0.25, 0.5, 0.125"]
                    [mesh.split(']').next().expect("sizes").matches(',').count()],
            );
            // With natural conditions the exact solution holds only where it has no slope across the sides.
            let text =
                if u == "x" { text } else { text.replace("\"x-max\"]", "\"x-max\", \"y-min\", \"y-max\"]") };
            let one = solve(&text);
            let four = Case::new(&text).ranks(4).limit(Duration::from_secs(60)).solve();
            assert_eq!(four.number("/mesh/cells"), f64::from(cells));
            assert!(four.l2() < 1e-9, "{}", four.ended.text());
            let (a, b) = (one.probe("somewhere")[0], four.probe("somewhere")[0]);
            assert!((a - b).abs() < 1e-10, "{a} on one rank, {b} on four");
            let (a, b) = (one.integral("sum")[0], four.integral("sum")[0]);
            assert!((a - b).abs() < 1e-10, "{a} on one rank, {b} on four");
        }
    }
}

#[test]
fn many_more_ranks_than_cores() {
    let ran = Case::new(&linear(8)).ranks(64).limit(Duration::from_secs(60)).solve();
    assert_eq!(ran.number("/ranks"), 64.0);
    assert!(ran.l2() < 1e-7, "{}", ran.ended.text());
    assert!(ran.number("/partition/imbalance") < 1.1, "{}", ran.ended.text());
}

// ---- Ending.

/// A job that takes a while, started in a thread, once it is at work.
struct Job {
    scratch: Scratch,
    waiting: std::thread::JoinHandle<Ended>,
}

impl Job {
    fn start(ranks: usize) -> Job {
        let scratch = Scratch::new();
        let case = scratch.write("case.toml", &linear(150));
        let mut command = femdd();
        command.arg("run").arg(&case).args(["--ranks", &ranks.to_string(), "--threads", "1"]);
        let waiting = std::thread::spawn(move || finish(command, Duration::from_secs(100)));
        let begin = Instant::now();
        let report = scratch.path().join("case.out/run.json");
        while !report.exists() {
            assert!(
                begin.elapsed() < Duration::from_secs(30) && !waiting.is_finished(),
                "the job does not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        // Into the midst of it.
        std::thread::sleep(Duration::from_millis(1000));
        Job { scratch, waiting }
    }

    /// The processes of this job's ranks, by rank, and the one that the user started.
    fn processes(&self) -> (Vec<(usize, i32)>, Option<i32>) {
        let ours = self.scratch.path().to_str().expect("UTF-8").as_bytes();
        let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|w| w == part);
        let (mut ranks, mut user) = (Vec::new(), None);
        for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let command = read("cmdline");
            if !command.split(|&b| b == 0).next().is_some_and(|p| p.ends_with(b"femdd"))
                || !holds(&command, ours)
            {
                continue;
            }
            let environment = read("environ");
            let rank = environment.split(|&b| b == 0).find_map(|v| {
                std::str::from_utf8(v).ok()?.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok()
            });
            match rank {
                Some(rank) => ranks.push((rank, pid)),
                None => user = Some(pid),
            }
        }
        ranks.sort_unstable();
        (ranks, user)
    }

    /// Waits for the end; how long that took.
    fn end(self) -> (Ended, Duration) {
        let begin = Instant::now();
        while !self.waiting.is_finished() && begin.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begin.elapsed();
        // mpirun may be gone before the last rank is.
        while !self.processes().0.is_empty() && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.processes().0, [], "ranks live on");
        (self.waiting.join().expect("the job ends"), took)
    }
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: signals a process of the job that this test started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "no process {pid}");
}

#[test]
fn a_killed_rank_ends_the_job() {
    let job = Job::start(3);
    let (ranks, _) = job.processes();
    assert_eq!(ranks.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 2]);
    signal(ranks[1].1, libc::SIGKILL);
    let (ended, took) = job.end();
    assert!(took < Duration::from_secs(10), "took {took:?}: {}", ended.text());
    assert!(!ended.timed_out && ended.code() != 0, "{}", ended.text());
}

#[test]
fn a_stopped_command_leaves_no_ranks() {
    let job = Job::start(2);
    let (ranks, user) = job.processes();
    assert_eq!(ranks.len(), 2);
    let user = user.expect("the command itself");
    signal(user, libc::SIGTERM);
    // The first has the ranks write a checkpoint when they can; the second does not wait for it.
    std::thread::sleep(Duration::from_millis(300));
    signal(user, libc::SIGTERM);
    let (ended, took) = job.end();
    assert!(took < Duration::from_secs(10), "took {took:?}: {}", ended.text());
    assert!(!ended.timed_out && ended.code() != 0, "{}", ended.text());
}

// ---- Output, as VTK reads it.

/// A Python with VTK, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let named = std::env::var_os("FEMDD_PYTHON");
        let python = PathBuf::from(named.clone().unwrap_or_else(|| "python3".into()));
        let import = Command::new(&python)
            .args(["-c", "import numpy; from vtkmodules.vtkIOHDF import vtkHDFReader"])
            .output();
        let has = import.is_ok_and(|o| o.status.success());
        let must = named.is_some() || std::env::var_os("CI").is_some();
        assert!(
            has || !must,
            "{} has no VTK: set FEMDD_PYTHON to a Python with numpy and vtk",
            python.display()
        );
        has.then_some(python)
    });
    if found.is_none() {
        println!("skipped: no Python with VTK; set FEMDD_PYTHON to one");
    }
    found.as_deref()
}

/// What VTK says of a solution.
fn read(python: &Path, out: &Path, arguments: &[String]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_vtkhdf.py");
    let output = Command::new(python)
        .arg(script)
        .arg(out.join("solution.hdf"))
        .args(arguments)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{complaints}"))
}

/// A case with a polynomial solution that its elements can represent, and what the file must hold.
struct Polynomial {
    /// The case, without its output.
    case: String,
    dim: usize,
    /// Every cell's type in VTK.
    kind: &'static str,
    /// What is written, and its value everywhere in Python: one expression a component.
    fields: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// Values of components of the solution at a point, computed by hand.
    at: ([f64; 3], &'static [f64]),
}

impl Polynomial {
    fn check(&self) {
        let Some(python) = python() else { return };
        let names: Vec<String> = self.fields.iter().map(|f| format!("\"{}\"", f.0)).collect();
        let text = format!("{}[output]\nfields = [{}, \"rank\"]\n", self.case, names.join(", "));
        for ranks in [1, 3] {
            let ran = Case::new(&text).ranks(ranks).solve();
            let [x, y, z] = self.at.0;
            let mut arguments = vec![format!("--at={x},{y},{z}")];
            arguments
                .extend(self.fields.iter().map(|(_, array, e)| format!("--compare={array}={}", e.join(";"))));
            let file = read(python, &ran.out(), &arguments);
            self.check_layout(&file, ran.report(), ranks);
            for (_, array, expressions) in self.fields {
                let found = &file["compare"][array];
                assert_eq!(found["components"], expressions.len(), "{array}: {file:#}");
                let difference = found["difference"].as_f64().expect("a number");
                assert!(difference < 1e-6, "{array} differs by {difference} on {ranks} ranks:\n{text}");
            }
            // Inside a cell: VTK interpolates between the nodes, in their order.
            let probe = &file["probes"][0];
            assert_eq!(probe["valid"], true, "{file:#}");
            let values = probe["values"][self.fields[0].1].as_array().expect("values");
            for (value, exact) in values.iter().zip(self.at.1) {
                let value = value.as_f64().expect("a number");
                assert!((value - exact).abs() < 1e-6, "VTK has {value} at {:?}, not {exact}", self.at.0);
            }
        }
    }

    fn check_layout(&self, file: &Value, report: &Value, ranks: usize) {
        let cells = report["mesh"]["cells"].as_u64().expect("a number");
        let components =
            if report["case"] == "case" && self.fields[0].0 == "displacement" { self.dim as u64 } else { 1 };
        let nodes = report["dofs"].as_u64().expect("a number") / components;
        assert_eq!(file["n_cells"], cells, "{file:#}");
        assert_eq!(file["cell_types"], serde_json::json!({ self.kind: cells }), "{file:#}");
        let bounds: Vec<f64> = (0..3).flat_map(|d| [0.0, if d < self.dim { 1.0 } else { 0.0 }]).collect();
        let found: Vec<f64> =
            file["bounds"].as_array().expect("six").iter().map(|b| b.as_f64().expect("a number")).collect();
        assert!(found.iter().zip(&bounds).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?}");
        let points = file["n_points"].as_u64().expect("a number");
        if ranks == 1 {
            assert_eq!(points, nodes, "each node once");
        } else {
            // Each rank has the nodes of its cells; ranks share those between them.
            assert!(points > nodes && points < 3 * nodes, "{points} points for {nodes} nodes");
        }
        // One partition a rank, each with the cells of that rank.
        let of = |part: &Value, what: &str| part[what].as_u64().expect("a number");
        let rank = &file["cell_data"]["rank"];
        assert_eq!(rank["components"], 1, "{file:#}");
        assert_eq!((rank["min"][0].as_f64(), rank["max"][0].as_f64()), (Some(0.0), Some(ranks as f64 - 1.0)));
        let parts = file["partitions"].as_array();
        if ranks == 1 && parts.is_none() {
            return;
        }
        let parts = parts.expect("partitions");
        assert_eq!(parts.len(), ranks, "{file:#}");
        assert_eq!(parts.iter().map(|p| of(p, "cells")).sum::<u64>(), cells);
        assert_eq!(parts.iter().map(|p| of(p, "points")).sum::<u64>(), points);
        let sum: u64 = parts.iter().enumerate().map(|(r, p)| r as u64 * of(p, "cells")).sum();
        assert_eq!(rank["sum"][0].as_f64(), Some(sum as f64), "the array `rank` and the partitions differ");
        let imbalance = report["partition"]["imbalance"].as_f64().expect("a number");
        let largest = parts.iter().map(|p| of(p, "cells")).max().expect("some") as f64;
        assert!((imbalance - largest * ranks as f64 / cells as f64).abs() < 1e-6, "{imbalance}");
    }
}

const WALLS: [&str; 3] = [
    "[boundary.walls]\non = [\"x-min\", \"x-max\"]\n",
    "[boundary.walls]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\"]\n",
    "[boundary.walls]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\", \"z-min\", \"z-max\"]\n",
];

fn scalar(mesh: &str, degree: usize, source: &str, u: &str) -> String {
    let dim = mesh.split(']').next().expect("sizes").matches(',').count();
    format!(
        "[mesh]\nbox = {{ {mesh} }}\n[space]\ndegree = {degree}\n[physics]\nlaw = \"poisson\"\nsource = \"{source}\"\n\
         {}value = \"{u}\"\n[solver]\ntolerance = 1e-11\n",
        WALLS[dim]
    )
}

fn elastic(mesh: &str, degree: usize, force: &str, u: &str) -> String {
    let dim = mesh.split(']').next().expect("sizes").matches(',').count();
    format!(
        "[mesh]\nbox = {{ {mesh} }}\n[space]\ndegree = {degree}\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.25\n\
         body_force = {force}\n{}displacement = {u}\n[solver]\ntolerance = 1e-11\n",
        WALLS[dim]
    )
}

#[test]
fn triangles_of_degree_1_in_vtk() {
    Polynomial {
        case: scalar("size = [1, 1], cells = [5, 6]", 1, "0", "1 + 2*x - 3*y"),
        dim: 2,
        kind: "5",
        fields: &[
            ("u", "u", &["1 + 2*x - 3*y"]),
            ("flux", "flux", &["-2", "3", "0"]),
            ("grad.y", "grad_y", &["-3"]),
        ],
        at: ([0.43, 0.29, 0.0], &[1.0 + 2.0 * 0.43 - 3.0 * 0.29]),
    }
    .check();
}

#[test]
fn tetrahedra_of_degree_2_in_vtk() {
    Polynomial {
        case: scalar("size = [1, 1, 1], cells = [3, 3, 2]", 2, "-6", "x^2 + y^2 + z^2 + x*y"),
        dim: 3,
        kind: "71",
        fields: &[
            ("u", "u", &["x**2 + y**2 + z**2 + x*y"]),
            ("flux", "flux", &["-2*x - y", "-2*y - x", "-2*z"]),
        ],
        at: ([0.41, 0.27, 0.63], &[0.41 * 0.41 + 0.27 * 0.27 + 0.63 * 0.63 + 0.41 * 0.27]),
    }
    .check();
}

#[test]
fn hexahedra_of_degree_3_in_vtk() {
    Polynomial {
        case: scalar(
            "size = [1, 1, 1], cells = [2, 3, 3], shape = \"hexahedron\"",
            3,
            "-(6*x + 2*y)",
            "x^3 + y*z^2 - 2*x*y*z",
        ),
        dim: 3,
        kind: "72",
        fields: &[
            ("u", "u", &["x**3 + y*z**2 - 2*x*y*z"]),
            ("flux", "flux", &["2*y*z - 3*x**2", "2*x*z - z**2", "2*x*y - 2*y*z"]),
        ],
        at: ([0.37, 0.55, 0.21], &[0.37 * 0.37 * 0.37 + 0.55 * 0.21 * 0.21 - 2.0 * 0.37 * 0.55 * 0.21]),
    }
    .check();
}

#[test]
fn quadrilaterals_of_degree_4_in_vtk() {
    Polynomial {
        case: scalar(
            "size = [1, 1], cells = [3, 4], shape = \"quadrilateral\"",
            4,
            "2*y^2 - 10*x^2 - 6*y",
            "x^4 - x^2*y^2 + y^3",
        ),
        dim: 2,
        kind: "70",
        fields: &[("u", "u", &["x**4 - x**2*y**2 + y**3"])],
        at: (
            [0.47, 0.81, 0.0],
            &[0.47 * 0.47 * 0.47 * 0.47 - 0.47 * 0.47 * 0.81 * 0.81 + 0.81 * 0.81 * 0.81],
        ),
    }
    .check();
}

// Young 1 and Poisson 1/4: both of Lame's constants are 0.4.

#[test]
fn stresses_of_hexahedra_in_vtk() {
    Polynomial {
        case: elastic(
            "size = [1, 1, 1], cells = [3, 3, 3], shape = \"hexahedron\"",
            1,
            "[0, 0, 0]",
            "[\"0.01*x + 0.02*y\", \"-0.01*z\", \"0.03*x\"]",
        ),
        dim: 3,
        kind: "12",
        fields: &[
            ("displacement", "displacement", &["0.01*x + 0.02*y", "-0.01*z", "0.03*x"]),
            ("stress", "stress", &["0.012", "0.004", "0.004", "0.008", "-0.004", "0.012"]),
            ("strain.xz", "strain_xz", &["0.015"]),
            ("von_mises", "von_mises", &["sqrt(0.008**2 + 3*(0.008**2 + 0.004**2 + 0.012**2))"]),
        ],
        at: ([0.31, 0.62, 0.77], &[0.0031 + 0.0124, -0.0077, 0.0093]),
    }
    .check();
}

#[test]
fn plane_strain_of_degree_2_in_vtk() {
    Polynomial {
        case: elastic("size = [1, 1], cells = [4, 4]", 2, "[-2.4, 0]", "[\"x^2\", 0]"),
        dim: 2,
        kind: "69",
        fields: &[
            ("displacement", "displacement", &["x**2", "0", "0"]),
            ("stress.xx", "stress_xx", &["2.4*x"]),
            ("stress.zz", "stress_zz", &["0.8*x"]),
            ("stress.xy", "stress_xy", &["0"]),
        ],
        at: ([0.33, 0.58, 0.0], &[0.33 * 0.33, 0.0, 0.0]),
    }
    .check();
}

#[test]
fn ranks_without_cells_in_vtk() {
    let Some(python) = python() else { return };
    let text = scalar("size = [1, 1], cells = [1, 1]", 2, "0", "x - y")
        + "[output]\nfields = [\"u\", \"flux\", \"rank\"]\n";
    let ran = Case::new(&text).ranks(4).solve();
    let file = read(python, &ran.out(), &["--compare=u=x - y".to_owned()]);
    assert_eq!(
        (&file["n_cells"], &file["partitions"].as_array().map(Vec::len)),
        (&2.into(), &Some(4)),
        "{file:#}"
    );
    assert!(file["compare"]["u"]["difference"].as_f64().is_some_and(|d| d < 1e-9), "{file:#}");
}
