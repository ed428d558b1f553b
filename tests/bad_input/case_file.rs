//! What the case file, the command line and the solver's options can have wrong.

use crate::msh::Msh;
use crate::{Bad, on_mesh, solved, square_held};

#[test]
fn case_file_that_does_not_read() {
    Bad::new("[mesh\n", &["TOML", "case.toml:1:"]).unreported().refused();
    let unknown = square_held("[solver]\ntolerence = 1e-6\n");
    Bad::new(&unknown, &["there is no key `tolerence`", "did you mean `tolerance`?"])
        .line_of("tolerence")
        .unreported()
        .refused();
    let broken = square_held("").replace("source = 1", "source = \"2*(x + \"");
    Bad::new(&broken, &["in the expression `2*(x + `"]).line_of("source").unreported().refused();
    let variable = square_held("").replace("source = 1", "source = \"2*w\"");
    Bad::new(&variable, &["`w`"]).line_of("source").unreported().refused();
    Bad::new(&square_held("[space]\ndegree = 9\n"), &["`space.degree` "])
        .line_of("degree")
        .unreported()
        .refused();
}

#[test]
fn command_line_that_does_not_fit() {
    let set = Bad::new(&square_held(""), &["--set physics.sourc=2", "did you mean `source`?"]);
    set.arguments(&["--set", "physics.sourc=2"]).unreported().refused();
    let nothing = Bad::new(&square_held(""), &["unexpected argument '--no-such-flag'"]);
    nothing.arguments(&["--no-such-flag"]).unreported().refused_on(1);
    let restart = Bad::new(&square_held(""), &["the checkpoint cannot be used", "No such file"]);
    restart
        .arguments(&["--restart", "checkpoint-1.h5"])
        .kind("io")
        .in_file("checkpoint-1.h5", None)
        .refused();
    let limit = Bad::new(&square_held(""), &["--time-limit soon: expected a number and a unit"]);
    limit.arguments(&["--time-limit", "soon"]).unreported().refused_on(1);
}

#[test]
fn dimension_that_does_not_fit() {
    let flat = "[mesh]\nbox = { size = [1, 1], cells = [4, 4] }\n[physics]\nlaw = \"elasticity\"\nyoung = 1\n\
                poisson_ratio = 0.3\n[boundary.x-min]\ndisplacement = { z = 0 }\n";
    Bad::new(flat, &["has a component `z`, and the mesh is 2D"])
        .line_of("displacement")
        .unreported()
        .refused();
    // Of a mesh file only the mesh knows.
    let text =
        on_mesh("[boundary.left]\nvalue = 0\n[[probe]]\nname = \"far\"\nat = [0, 0, 0]\nfield = \"u\"\n");
    Bad::new(&text, &["has 3 coordinates, and the mesh is 2D"])
        .with("mesh.msh", Msh::square(3).text())
        .key("probe.0.at")
        .line_of("at = ")
        .refused();
}

#[test]
fn solver_that_does_not_suit() {
    let law = "[mesh]\nbox = { size = [1, 1], cells = [4, 4] }\n[physics]\nlaw = \"convection-diffusion\"\nvelocity = [1, 0]\n\
               [boundary.x-min]\nvalue = 0\n[solver]\nmethod = \"cg+boomeramg\"\n";
    Bad::new(law, &["symmetric"]).line_of("method").unreported().refused();
    let unknown = square_held("[solver]\nmethod = \"cg+boomerang\"\n");
    Bad::new(&unknown, &["there is no preconditioner \"boomerang\"", "did you mean \"cg+boomeramg\"?"])
        .line_of("method")
        .unreported()
        .refused();
    let later = square_held("[solver]\nmethod = \"cg+bddc\"\n");
    Bad::new(&later, &["not supported yet"]).kind("solver").key("solver.method").line_of("method").refused();
}

#[test]
fn solver_that_does_not_converge() {
    let text = square_held(
        "[solver]\nmethod = \"cg+jacobi\"\nmax_iterations = 2\n[[probe]]\nname = \"centre\"\nat = [0.5, 0.5]\nfield = \"u\"\n",
    );
    let bad = Bad::new(&text, &["cg+jacobi did not converge", "after 2 iterations"])
        .code(1)
        .kind("solver")
        .key("solver")
        .line_of("[solver]");
    for ranks in [1, 4] {
        let run = bad.refused_on(ranks);
        let report = run.report.expect("checked above");
        assert_eq!(report["solver"]["converged"], false);
        assert_eq!(report["solver"]["iterations"], 2);
        // What there is of an answer is written.
        assert!(report["probes"][0]["value"].as_f64().is_some_and(|u| u > 0.0), "{report:#}");
        for name in ["solution.hdf", "probes.csv", "case.resolved.toml"] {
            assert!(run.scratch.path().join("case.out").join(name).is_file(), "no {name}");
        }
    }
}

#[test]
fn petsc_options() {
    Bad::new(&square_held("[solver]\npetsc = \"ksp_view\"\n"), &["begin with a dash, `ksp_view` does not"])
        .key("solver.petsc")
        .line_of("petsc =")
        .unreported()
        .refused();
    // One that nobody asks for does no harm.
    solved(&square_held(""), &["--", "-no_such_option", "3"], |_| ());
    Bad::new(
        &square_held("[solver]\npetsc = \"-ksp_type no_such_method\"\n"),
        &["the PETSc options are refused", "no_such_method"],
    )
    .kind("solver")
    .key("solver.petsc")
    .line_of("petsc =")
    .refused();
    Bad::new(&square_held(""), &["the PETSc options `-pc_type no_such_thing` after `--` are refused"])
        .arguments(&["--", "-pc_type", "no_such_thing"])
        .kind("solver")
        .in_file("", None)
        .refused();
}

#[test]
fn what_this_version_does_not_do() {
    let refuse = |rest: &str, key: &'static str, line: &str| {
        Bad::new(&square_held(rest), &["is not supported yet"]).key(key).line_of(line).refused();
    };
    refuse("[time]\nend = 1\nstep = 0.1\n", "time", "[time]");
    refuse("[solver]\nbackend = \"gpu\"\n", "solver.backend", "backend");
    refuse("[initial]\nvalue = 1\n", "initial.value", "value = 1");
}
