//! `femdd doctor`: what this machine offers, what it lacks, and what to install.
//!
//! Imports `solver`, `output` and `library` (for a solve that shows that all of it works together).
//! Start at [`main`]. Needs no mpirun.

use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::place::Place;

use super::{doctor_place, launch};
use crate::library::{self, Domain};
use crate::output::hdf;
use crate::solver::installed;

/// How a check came out.
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// Not there, and not needed.
    Absent,
    /// It works, and could work better.
    Weak,
    /// femdd cannot work like that.
    Missing,
}

/// Prints the findings as they come, and counts what is missing.
#[derive(Default)]
pub(super) struct Findings {
    missing: usize,
    weak: usize,
}

impl Findings {
    pub(super) fn say(&mut self, verdict: Verdict, name: &str, what: &str, help: &str) {
        let mark = match verdict {
            Verdict::Good => "ok",
            Verdict::Absent => "-",
            Verdict::Weak => "weak",
            Verdict::Missing => "MISSING",
        };
        println!("{mark:<8} {name:<12} {what}");
        if !help.is_empty() && !matches!(verdict, Verdict::Good) {
            println!("{:21} {help}", "");
        }
        match verdict {
            Verdict::Missing => self.missing += 1,
            Verdict::Weak => self.weak += 1,
            _ => {}
        }
    }
}

/// Says what is there; 0, or 3 if something that is needed is not.
pub fn main() -> i32 {
    if launch::local_rank() != 0 {
        eprintln!("error: femdd doctor looks at one machine: start it without mpirun, or with mpirun -n 1");
        return 2;
    }
    let mut findings = Findings::default();
    println!("femdd {}", env!("CARGO_PKG_VERSION"));
    let place = Place::find();
    doctor_place::machine(&mut findings, &place);
    mpi(&mut findings);
    petsc(&mut findings);
    libraries(&mut findings);
    doctor_place::services(&mut findings, &place);
    works(&mut findings);
    println!();
    match (findings.missing, findings.weak) {
        (0, 0) => println!("All is well."),
        (0, n) => println!("femdd works here; {n} could be better."),
        (n, _) => println!("{n} missing: femdd does not work here."),
    }
    if findings.missing > 0 { 3 } else { 0 }
}

/// The path of a program.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file())
}

/// The files of shared libraries in this process.
fn loaded() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> =
        maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..]))).collect();
    files.sort();
    files.dedup();
    files
}

fn find_loaded(files: &[PathBuf], start: &str) -> Option<PathBuf> {
    let named = |p: &&PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start));
    files.iter().find(named).cloned()
}

fn mpi(findings: &mut Findings) {
    let version = cluster::library_version();
    let first = version.split([',', '\n']).next().unwrap_or("").trim().to_owned();
    findings.say(Verdict::Good, "MPI", &first, "");
    match program("mpirun") {
        Some(path) => findings.say(Verdict::Good, "mpirun", &path.display().to_string(), ""),
        None => findings.say(
            Verdict::Missing,
            "mpirun",
            "not in PATH: runs on one rank only",
            "apt-get install openmpi-bin",
        ),
    }
}

fn petsc(findings: &mut Findings) {
    let bits = installed::index_bits();
    match installed::version() {
        Ok(version) => {
            findings.say(Verdict::Good, "PETSc", &format!("{version}, {bits}-bit indices"), "");
        }
        Err(error) => {
            let what = format!("{error}: only methods of femdd's own can be had, `cg+amg` and `cg+pmg`");
            findings.say(
                Verdict::Missing,
                "PETSc",
                &what,
                "apt-get install petsc-dev, or put the folder of its library in LD_LIBRARY_PATH",
            );
        }
    }
    if bits == 32 {
        println!("{:21} up to 2^31 unknowns; for more build with PETSC_RS_INT64=1 (libpetsc64-real-dev)", "");
    }
    let packages = installed::packages();
    findings.say(Verdict::Good, "packages", &packages.join(" "), "");
    for (name, what) in [("hypre", "cg+boomeramg"), ("mumps", "direct on several ranks")] {
        if !packages.contains(&name) {
            let help =
                format!("method {what} needs it: apt-get install petsc-dev, or configure PETSc with {name}");
            findings.say(Verdict::Weak, name, "PETSc was built without it", &help);
        }
    }
}

fn libraries(findings: &mut Findings) {
    let files = loaded();
    let what = format!("{}, parallel", hdf::library_version());
    findings.say(Verdict::Good, "HDF5", &what, "");
    match find_loaded(&files, "libmetis") {
        Some(path) => findings.say(Verdict::Good, "METIS", &path.display().to_string(), ""),
        None => findings.say(Verdict::Good, "METIS", "linked statically", ""),
    }
    let known = ["libopenblas", "libmkl", "libblis", "libflexiblas", "libarmpl", "libsci"];
    let optimised = known.iter().find_map(|name| find_loaded(&files, name));
    let blas = find_loaded(&files, "libblas");
    // Debian puts an optimised BLAS behind the same name, in a folder of its own.
    let named = |p: &Path| known.iter().any(|k| p.to_string_lossy().contains(&k["lib".len()..]));
    match (optimised, blas) {
        (Some(path), _) => findings.say(Verdict::Good, "BLAS", &path.display().to_string(), ""),
        (None, Some(path)) if named(&path) => {
            findings.say(Verdict::Good, "BLAS", &path.display().to_string(), "")
        }
        (None, Some(path)) => findings.say(
            Verdict::Weak,
            "BLAS",
            &format!("{}: the reference one, slow in direct solvers", path.display()),
            "apt-get install libopenblas0",
        ),
        (None, None) => findings.say(Verdict::Absent, "BLAS", "linked into PETSc", ""),
    }
}

/// Has a process of its own solve something: a library that cannot start ends its process, not the
/// report.
fn works(findings: &mut Findings) {
    let help = "MPI and PETSc must be those that femdd was built with: build it again here";
    let child =
        std::env::current_exe().and_then(|femdd| Command::new(femdd).args(["doctor", "--solve"]).output());
    let output = match child {
        Ok(output) => output,
        Err(error) => return findings.say(Verdict::Missing, "solve", &format!("no process: {error}"), ""),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        findings.say(Verdict::Good, "solve", said.trim(), "");
        return;
    }
    findings.say(Verdict::Missing, "solve", &format!("failed: {}", output.status), help);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().chain(complaints.lines()).map(str::trim);
    for line in lines.filter(|l| !l.is_empty() && !l.starts_with("---")).take(12) {
        println!("{:21} {line}", "");
    }
}

/// The solve of [`works`]: MPI starts, PETSc solves, and the answer is right.
pub fn solve() -> i32 {
    match library::laplace(&Domain::interval(0.0, 1.0).cells(64).degree(2), 2.0, 0.0) {
        Ok(result) => {
            // -u'' = 2 with u = 0 at both ends: x (1 - x), which elements of degree 2 hold exactly.
            let error =
                result.nodes.iter().zip(&result.solution).map(|(x, u)| (u - x[0] * (1.0 - x[0])).abs());
            let error = error.fold(0.0, f64::max);
            let (seconds, level) = (result.metrics.wall, cluster::thread_level());
            println!("error {error:.1e}, {seconds:.2} s, MPI thread level {level}");
            if error < 1e-6 { 0 } else { 3 }
        }
        Err(error) => {
            eprint!("{}", error.text());
            3
        }
    }
}
