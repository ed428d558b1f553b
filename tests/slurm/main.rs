//! The scripts of `slurm/` and femdd itself in a real SLURM of four nodes on this machine.
//!
//! `FEMDD_SLURM=off` goes without. Start at [`cluster::Cluster`]; the tests are in `jobs` (single runs, arrays, GPUs),
//! `launch` (what femdd does in a job without `mpirun`), `requeue` (time limits and dead nodes), and `scaling`.

mod cluster;
mod jobs;
mod launch;
mod plan;
mod requeue;
mod scaling;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// What a job may take on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(300);

/// A small case with one value that depends on all of it.
const SMALL: &str = "[mesh]\nbox = { size = [1, 1], cells = [12, 12] }\n[physics]\nlaw = \"poisson\"\nsource = 1\n\
                     [boundary.walls]\non = [\"x-min\", \"x-max\"]\nvalue = 0\n[solver]\nmethod = \"cg+jacobi\"\n\
                     [[integral]]\nname = \"all\"\nof = \"u\"\n";

/// What the run in that directory reports.
#[track_caller]
fn report(output: &Path) -> Value {
    let file = output.join("run.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Checks that a run of [`SMALL`] in that directory went well on so many ranks.
#[track_caller]
fn solved(output: &Path, ranks: u64) {
    let report = report(output);
    assert_eq!((&report["status"], &report["ranks"]), (&"solved".into(), &ranks.into()), "{report:#}");
    // 1/12 less h^2/12 of linear elements.
    let all = report["integrals"][0]["value"].as_f64().expect("a number");
    assert!((all - (1.0 - 1.0 / 144.0) / 12.0).abs() < 1e-8, "{all}");
}
