//! Runs longer than their job: stopped at the time limit or by hand, put back into the queue, gone on with; nodes that
//! die under them; and when there is no going on.
//!
//! Ranks are held (SIGSTOP) where a run must not be faster than the queue: how fast the machine is does not matter.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use testing::finish;

use crate::cluster::{Cluster, Job, NODES, signal};
use crate::{LIMIT, report};

/// An adaptive loop of many short steps, each followed by a checkpoint, whose result depends on all of them.
const STEPS: &str = "[mesh]\nbox = { size = [1, 1], cells = [8, 8] }\n[physics]\nlaw = \"poisson\"\n\
                     source = \"exp(-100*((x - 0.3)^2 + (y - 0.6)^2))\"\n\
                     [boundary.walls]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\"]\nvalue = 0\n\
                     [solver]\nmethod = \"cg+jacobi\"\ntolerance = 1e-10\n\
                     [adapt]\nestimator = \"kelly\"\nmarking = { fraction = 0.1 }\nmax_steps = 14\nrebalance = \"none\"\n\
                     [output]\ncheckpoint = { every = 1, keep = 2 }\n[[integral]]\nname = \"all\"\nof = \"u\"\n";

/// What [`STEPS`] comes to on two ranks without an interruption: unknowns, steps, the integral.
fn uninterrupted(cluster: &Cluster) -> &'static (u64, usize, f64) {
    static RESULT: OnceLock<(u64, usize, f64)> = OnceLock::new();
    RESULT.get_or_init(|| {
        let case = cluster.write("uninterrupted", "case.toml", STEPS);
        let mut command = cluster.command(env!("CARGO_BIN_EXE_femdd"));
        command.env_remove("OMPI_MCA_btl").args(["run", "--ranks", "2", "--threads", "1"]).arg(&case);
        let ended = finish(command, LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.text());
        result(&report(&case.with_extension("out")))
    })
}

fn result(report: &Value) -> (u64, usize, f64) {
    let steps = report["adapt"]["steps"].as_array().or(report["adapt"].as_array()).expect("steps").len();
    let all = report["integrals"][0]["value"].as_f64().expect("a number");
    (report["dofs"].as_u64().expect("a number"), steps, all)
}

/// Checks that an interrupted run went on from a checkpoint and came to the same.
#[track_caller]
fn same_as_uninterrupted(cluster: &Cluster, output: &Path, job: &Job) {
    let report = report(output);
    assert_eq!((&report["status"], &report["ranks"]), (&"solved".into(), &2.into()), "{}", job.log());
    assert!(!report["restart"].is_null(), "started afresh: {report:#}\n{}", job.log());
    let (dofs, steps, all) = *uninterrupted(cluster);
    let (my_dofs, my_steps, mine) = result(&report);
    assert_eq!((my_dofs, my_steps), (dofs, steps), "{}", job.log());
    // A solve that was stopped within agrees to the solver's tolerance.
    assert!((mine - all).abs() <= 1e-8 * all.abs(), "{mine} and {all}");
}

/// Waits until the job has written checkpoint number `n` in that directory, or a later one.
fn wait_for_checkpoint(cluster: &Cluster, output: &Path, n: u32, job: &Job) {
    let number = |name: &str| name.strip_prefix("checkpoint-")?.strip_suffix(".h5")?.parse::<u32>().ok();
    let what = format!("job {} has written checkpoint {n}", job.id);
    cluster.wait_until(&what, LIMIT, || {
        let entries = std::fs::read_dir(output).into_iter().flatten().flatten();
        entries.filter_map(|entry| number(&entry.file_name().to_string_lossy())).any(|found| found >= n)
    });
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Starts [`STEPS`] by `long.sbatch` and holds its ranks after the second step.
fn held(cluster: &Arc<Cluster>, test: &str, options: &[&str]) -> (PathBuf, Job, Vec<i32>) {
    let case = cluster.write(test, "a case.toml", STEPS);
    let output = case.with_extension("out");
    let mut before = vec!["--nodes=1", "--ntasks-per-node=2"];
    before.extend(options);
    let job = cluster.submit(&before, "long.sbatch", &[text(&case)]);
    wait_for_checkpoint(cluster, &output, 2, &job);
    let ranks = job.ranks(None);
    signal(&ranks, libc::SIGSTOP);
    assert_eq!(ranks.len(), 2, "{}", job.log());
    (output, job, ranks)
}

#[test]
fn a_job_at_its_time_limit_goes_on_in_another() {
    let Some(cluster) = Cluster::shared() else { return };
    let (output, job, ranks) = held(&cluster, "limit", &["--time=1", "--signal=B:USR1@25"]);
    cluster.wait_until("SLURM signals the script", LIMIT, || job.log().contains("SIGUSR1"));
    signal(&ranks, libc::SIGCONT);
    cluster.wait_until("the job is put back", LIMIT, || job.field("Restarts") != "0");
    assert!(job.log().contains("femdd ended with code 4"), "{}", job.log());
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{}", job.log());
    same_as_uninterrupted(&cluster, &output, &job);
    assert!(job.log().contains("start 2 on"), "{}", job.log());
}

#[test]
fn a_job_asked_to_stop_leaves_a_checkpoint_and_stays_away() {
    let Some(cluster) = Cluster::shared() else { return };
    let (output, job, ranks) = held(&cluster, "by hand", &["--time=20"]);
    let ended = cluster.run("scancel", &["--batch", "--signal=TERM", &job.id]);
    assert!(ended.succeeded(), "{}", ended.text());
    cluster.wait_until("the script is signalled", LIMIT, || job.log().contains("SIGTERM"));
    // A second one changes nothing.
    assert!(cluster.run("scancel", &["--batch", "--signal=USR1", &job.id]).succeeded());
    signal(&ranks, libc::SIGCONT);
    assert_eq!(job.wait(LIMIT), ("FAILED".into(), 4), "{}", job.log());
    assert_eq!(job.field("Restarts"), "0");
    assert_eq!(report(&output)["status"], "stopped", "{}", job.log());
    // The next job goes on, another way: by srun, and without a script that knows of checkpoints.
    let case = output.with_file_name("a case.toml");
    let arguments =
        ["--mpi=pmix", "--ntasks=2", env!("CARGO_BIN_EXE_femdd"), "run", text(&case), "--restart", "auto"];
    let ended = cluster.run_for("srun", &arguments, LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.text());
    same_as_uninterrupted(&cluster, &output, &job);
}

#[test]
fn a_node_that_dies_is_replaced() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("dead node", "a case.toml", STEPS);
    let output = case.with_extension("out");
    let before = ["--partition=all", "--nodes=2", "--ntasks-per-node=1", "--time=20"];
    let job = cluster.submit(&before, "long.sbatch", &[text(&case)]);
    wait_for_checkpoint(&cluster, &output, 2, &job);
    let dying = NODES[NODES.len() - 1];
    assert!(job.field("NodeList").contains(dying.trim_start_matches('n')), "{}", job.field("NodeList"));
    let mut victims = vec![cluster.daemon_of(dying)];
    for program in ["femdd", "orted", "slurmstepd"] {
        victims.extend(cluster.processes(program, &[("SLURM_JOB_ID", &job.id), ("SLURMD_NODENAME", dying)]));
    }
    assert!(victims.len() >= 3, "{victims:?}");
    signal(&victims, libc::SIGKILL);
    cluster.wait_until("SLURM puts the job back", LIMIT, || job.field("Restarts") != "0");
    let end = job.wait(LIMIT);
    let nodes = job.field("NodeList");
    cluster.start_node(dying);
    assert_eq!(end, ("COMPLETED".into(), 0), "{}", job.log());
    assert!(!nodes.contains('4'), "{nodes}");
    same_as_uninterrupted(&cluster, &output, &job);
    cluster.wait_until("the node is back", LIMIT, || {
        cluster.run("sinfo", &["-hn", dying, "-p", "all", "-o", "%T"]).stdout.contains("idle")
    });
}

/// A program in femdd's place.
fn stand_in(cluster: &Cluster, test: &str, script: &str) -> PathBuf {
    let program = cluster.write(test, "femdd", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("permissions");
    program
}

#[test]
fn runs_that_come_no_further_are_not_put_back() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("stuck", "case.toml", STEPS);
    let output = case.with_extension("out");
    // It stops at once, each time with a checkpoint of the same step.
    let leave = "mkdir -p stuck/case.out; touch \"stuck/case.out/checkpoint-000$(ls stuck/case.out | wc -l).h5\"\n\
                 printf '{\\n  \"checkpoints\": [\\n    {\\n      \"step\": 7\\n    }\\n  ]\\n}\\n' >stuck/case.out/run.json\nexit 4";
    let mut command = cluster.command("sbatch");
    command.env("FEMDD", stand_in(&cluster, "stuck", leave)).env("STUCK", "2");
    let before = ["--ntasks-per-node=1", "--time=10"];
    let job = cluster.submit_with(command, &before, "long.sbatch", &[text(&case)]);
    assert_eq!(job.wait(LIMIT), ("FAILED".into(), 4), "{}", job.log());
    assert_eq!(job.field("Restarts"), "1", "{}", job.log());
    assert!(job.log().contains("2 starts did not get through step 7"), "{}", job.log());
    assert!(output.join("run.json").exists());
    // One that dies on nodes that are well would die again.
    let mut command = cluster.command("sbatch");
    command.env("FEMDD", stand_in(&cluster, "stuck", "kill -KILL $$"));
    let job = cluster.submit_with(command, &before, "long.sbatch", &[text(&case)]);
    assert_eq!(job.wait(LIMIT), ("FAILED".into(), 137), "{}", job.log());
    assert_eq!(job.field("Restarts"), "0");
}
