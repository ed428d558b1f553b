//! Scaling studies: a ladder inside one job, and array jobs that are collected.

use std::path::Path;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::{LIMIT, SMALL};

fn study(directory: &Path) -> Value {
    let file = directory.join("scale.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Checks that every run of every rung has been made, and what came of them.
#[track_caller]
fn complete(directory: &Path, ranks: &[u64], repeat: usize, log: &str) -> Value {
    let study = study(directory);
    assert_eq!(study["status"], "complete", "{study:#}\n{log}");
    let steps = study["steps"].as_array().expect("rungs");
    let of: Vec<u64> = steps.iter().map(|step| step["ranks"].as_u64().expect("a number")).collect();
    assert_eq!(of, ranks);
    for step in steps {
        let runs = step["runs"].as_array().expect("runs");
        assert!(runs.len() == repeat && runs.iter().all(|run| run["state"] == "done"), "{step:#}\n{log}");
        // The runs themselves had as many ranks.
        for run in runs {
            let output = directory.join(run["directory"].as_str().expect("a name"));
            assert_eq!(crate::report(&output)["ranks"], step["ranks"]);
        }
    }
    for file in ["scale.csv", "report.html"] {
        assert!(directory.join(file).is_file(), "no {file}\n{log}");
    }
    study
}

#[test]
fn a_weak_ladder_runs_inside_one_job() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("weak", "a case.toml", SMALL);
    let before = ["--nodes=2", "--ntasks-per-node=2", "--time=20"];
    let job =
        cluster.submit(&before, "weak.sbatch", &[case.to_str().expect("a plain path"), "--repeat", "1"]);
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{}", job.log());
    let study = complete(&case.with_extension("scale"), &[1, 2, 4], 1, &job.log());
    // As many cells for each rank, on cores that the job has.
    for step in study["steps"].as_array().expect("rungs") {
        let cells = step["result"]["cells_per_rank"].as_f64().expect("a number");
        assert!((cells / 288.0 - 1.0).abs() < 0.05, "{cells}");
        assert_eq!(step["comparable"], true, "{step:#}");
    }
}

#[test]
fn a_strong_ladder_runs_as_arrays_and_is_collected() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("strong", "it's a case.toml", SMALL);
    let directory = case.with_extension("scale");
    let mut femdd = cluster.command(env!("CARGO_BIN_EXE_femdd"));
    femdd.args(["scale", "strong"]).arg(&case).args(["--ranks", "1,2,4", "--repeat", "2", "--slurm"]);
    femdd.args([
        "--ranks-per-node",
        "2",
        "--concurrent",
        "2",
        "--sbatch",
        "time=10",
        "--sbatch",
        "partition=main",
    ]);
    let ended = testing::finish(femdd, LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.text());
    // One array for the rungs of one node, one for those of two.
    let jobs: Vec<String> = study(&directory)["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| job["id"].as_str().expect("a number").to_owned())
        .collect();
    assert_eq!(jobs.len(), 2, "{}", ended.text());
    cluster.wait_until("the arrays are done", LIMIT, || {
        let queue = cluster.run("squeue", &["-h", "-j", &jobs.join(","), "-t", "all", "-o", "%T"]);
        queue.stdout.lines().all(|state| state == "COMPLETED" || state == "FAILED")
    });
    let mut femdd = cluster.command(env!("CARGO_BIN_EXE_femdd"));
    femdd.args(["scale", "collect"]).arg(&directory);
    let ended = testing::finish(femdd, LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.text());
    let study = complete(&directory, &[1, 2, 4], 2, &ended.text());
    assert!(study["steps"].as_array().expect("rungs").iter().all(|step| step["result"]["cells"] == 288));
}

#[test]
fn a_strong_ladder_runs_inside_one_job() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("strong in one", "case.toml", SMALL);
    let mut command = cluster.command("sbatch");
    command.env("RANKS", "2,3");
    let before = ["--nodes=3", "--ntasks-per-node=1", "--time=20"];
    let job = cluster.submit_with(
        command,
        &before,
        "strong.sbatch",
        &[case.to_str().expect("a plain path"), "--repeat", "1"],
    );
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{}", job.log());
    complete(&case.with_extension("scale"), &[2, 3], 1, &job.log());
}
