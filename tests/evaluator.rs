//! The errors that femdd reports, found once more by `benches/peers/evaluate.py`, which has none of its code.
//!
//! Needs a Python with the packages `vtk` and `numpy`: `FEMDD_PYTHON` names it, `python3` otherwise. Without
//! one the test is skipped, and says so.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Scratch, femdd, finish};
use serde_json::Value;

/// What the script prints and whether it agrees with `run.json`; nothing without VTK.
fn evaluate(case: &Path, folder: &Path) -> Option<(Value, bool)> {
    let python = std::env::var("FEMDD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_vtk = Command::new(&python).args(["-c", "import vtkmodules.vtkIOHDF, numpy, tomllib"]).output();
    if !has_vtk.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {python} has no vtk");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/evaluate.py");
    let output = Command::new(python).arg(script).arg(case).arg(folder).output().expect("python runs");
    let printed = serde_json::from_slice(&output.stdout);
    let printed = printed.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Some((printed, output.status.success()))
}

#[test]
fn errors_are_those_of_the_written_solution() {
    let scratch = Scratch::new();
    for (mesh, degree) in [
        ("size = [1, 1], cells = [12, 12], shape = \"triangle\"", 1),
        ("size = [1, 1], cells = [6, 6], shape = \"quadrilateral\"", 3),
        ("size = [1, 1, 1], cells = [3, 3, 3], shape = \"tetrahedron\"", 2),
        ("size = [1, 1, 1], cells = [3, 3, 3], shape = \"hexahedron\"", 2),
    ] {
        let text = |exact: &str| {
            format!(
                "[case]\nformat = 1\n[mesh]\nbox = {{ {mesh} }}\n[space]\ndegree = {degree}\n[physics]\n\
                 law = \"poisson\"\nsource = 1\n[boundary.low]\non = [\"x-min\"]\nvalue = \"y\"\n\
                 [exact]\nvalue = \"{exact}\"\n"
            )
        };
        scratch.write("case.toml", &text("if(x < 2, sin(2*x + 1)*exp(y)^2, 0)"));
        scratch.write("other.toml", &text("sin(2.2*x + 1)*exp(y)^2"));
        let folder = scratch.path().join("out");
        let _ = std::fs::remove_dir_all(&folder);
        let mut command = femdd();
        command
            .arg("run")
            .arg(scratch.path().join("case.toml"))
            .args(["--ranks", "2", "--output"])
            .arg(&folder);
        let ended = finish(command, Duration::from_secs(120));
        assert_eq!(ended.code(), 0, "{}", ended.text());
        let Some((found, agrees)) = evaluate(&scratch.path().join("case.toml"), &folder) else {
            return;
        };
        assert!(agrees, "{mesh}, degree {degree}: {found:#}");
        let measure = found["measure"].as_f64().expect("a number");
        assert!((measure - 1.0).abs() < 1e-9, "{mesh}: {found:#}");
        // Against another solution it must not.
        let (found, agrees) = evaluate(&scratch.path().join("other.toml"), &folder).expect("VTK is there");
        assert!(!agrees, "{mesh}, degree {degree}: {found:#}");
    }
}
