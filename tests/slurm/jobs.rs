//! Jobs that end by themselves: single runs, arrays, GPU nodes, and what scripts say of a wrong call.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testing::finish;

use crate::cluster::{Cluster, GPUS};
use crate::{LIMIT, SMALL, solved};

/// A program that notes the node, the rank, its GPUs and Open MPI's directory, then is femdd; its path has a blank.
fn noting(cluster: &Cluster, test: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "#!/bin/sh\nshared=\"$SLURMD_NODENAME $OMPI_COMM_WORLD_RANK $CUDA_VISIBLE_DEVICES\"\n\
         echo \"$shared $OMPI_MCA_orte_top_session_dir\" >>\"$(dirname \"$0\")/noted\"\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_femdd")
    );
    let program = cluster.write(&format!("{test}/of me"), "femdd", &text);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("permissions");
    program
}

/// What [`noting`] has noted, sorted.
fn noted(program: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(program.with_file_name("noted")).expect("ranks were started");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn a_single_run_has_the_ranks_of_its_job_on_its_nodes() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("single run", "a case.toml", SMALL);
    let program = noting(&cluster, "single run");
    let mut command = cluster.command("sbatch");
    command.env("FEMDD", &program);
    let before = ["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=2", "--time=10"];
    let case = case.to_str().expect("a plain path");
    let job =
        cluster.submit_with(command, &before, "run.sbatch", &[case, "--set", "case.title=it's $(here)"]);
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{}", job.log());
    let output = cluster.work().join("single run/a case.out");
    solved(&output, 4);
    assert_eq!(crate::report(&output)["threads"], 2);
    let resolved = std::fs::read_to_string(output.join("case.resolved.toml")).expect("a resolved case");
    assert!(resolved.contains("it's $(here)"), "{resolved}");
    let lines = noted(&program);
    let nodes: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(
        nodes.len() == 4 && nodes[0] == nodes[1] && nodes[1] != nodes[2] && nodes[2] == nodes[3],
        "{lines:?}"
    );
}

#[test]
fn each_task_of_an_array_takes_its_line() {
    let Some(cluster) = Cluster::shared() else { return };
    for name in ["one.toml", "two words.toml", "it's $(three).toml", "-four.toml"] {
        cluster.write("array", name, SMALL);
    }
    // The last line has no end, one line is of another system.
    let list =
        cluster.write("array", "cases.txt", "one.toml\ntwo words.toml\r\nit's $(three).toml\n-four.toml");
    let program = noting(&cluster, "array");
    let mut command = cluster.command("sbatch");
    command.current_dir(list.parent().expect("a directory")).env("FEMDD", &program);
    let before = ["--array=1-4", "--ntasks-per-node=2", "--mem-per-cpu=100M", "--time=10"];
    let job =
        cluster.submit_with(command, &before, "array.sbatch", &["cases.txt", "--set", "case.title=of all"]);
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{:?}", job.logs());
    for name in ["one", "two words", "it's $(three)", "-four"] {
        let output = cluster.work().join("array").join(format!("{name}.out"));
        solved(&output, 2);
        let resolved = std::fs::read_to_string(output.join("case.resolved.toml")).expect("a resolved case");
        assert!(resolved.contains("of all"), "{resolved}");
    }
    // Tasks on one node would remove each other's directory of Open MPI's.
    let lines = noted(&program);
    let mut own: Vec<&str> = lines.iter().filter_map(|l| l.split("/ompi.").nth(1)).collect();
    own.sort_unstable();
    assert!(own.len() == 8 && own.chunks(2).all(|two| two[0] == two[1]), "{lines:?}");
    own.dedup();
    assert_eq!(own.len(), 4, "{lines:?}");
}

#[test]
fn gpu_nodes_are_asked_for_and_refused_by_this_version() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("gpu", "case.toml", SMALL);
    let program = noting(&cluster, "gpu");
    let mut command = cluster.command("sbatch");
    command.env("FEMDD", &program);
    let (gpus, tasks) = (format!("--gres=gpu:{GPUS}"), format!("--ntasks-per-node={GPUS}"));
    let before = [gpus.as_str(), &tasks, "--cpus-per-task=2", "--nodes=1", "--time=10"];
    let job = cluster.submit_with(command, &before, "gpu.sbatch", &[case.to_str().expect("a plain path")]);
    assert_eq!(job.wait(LIMIT), ("FAILED".into(), 2), "{}", job.log());
    assert!(job.log().contains("the GPU backend is not supported yet"), "{}", job.log());
    // Each rank saw a GPU of its own.
    let mut seen: Vec<String> =
        noted(&program).iter().filter_map(|l| l.split(' ').nth(2).map(str::to_owned)).collect();
    seen.sort();
    assert_eq!(seen, ["0", "1"], "{}", job.log());
    // A number of ranks that does not fit is told before any starts.
    let before = [gpus.as_str(), "--ntasks-per-node=1", "--cpus-per-task=2", "--nodes=1", "--time=10"];
    let job = cluster.submit(&before, "gpu.sbatch", &[case.to_str().expect("a plain path")]);
    assert_eq!(job.wait(LIMIT), ("FAILED".into(), 2), "{}", job.log());
    assert!(job.log().contains("2 GPUs a node, but 1 ranks"), "{}", job.log());
}

#[test]
fn scripts_are_clean_and_say_how_they_are_called() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm");
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder).expect("slurm/").flatten().map(|e| e.path()).collect();
    scripts.sort();
    assert_eq!(scripts.len(), 6, "{scripts:?}");
    if std::env::var_os("FEMDD_SLURM").is_none_or(|value| value != "off") {
        let mut command = Command::new("shellcheck");
        command.args(&scripts);
        let ended = finish(command, Duration::from_secs(60));
        assert!(ended.succeeded(), "{}", ended.text());
    }
    for script in scripts {
        let name = script.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&script).expect("text");
        assert!(
            text.contains("\nset -euo pipefail\n") && text.contains("##SBATCH --partition=..."),
            "{name}"
        );
        let mut command = Command::new("bash");
        command.arg(&script).env_remove("SLURM_ARRAY_TASK_ID");
        let ended = finish(command, Duration::from_secs(20));
        let usage = format!("slurm/{name}");
        assert!(ended.code() == 2 && ended.stderr.contains(&usage), "{name}: {}", ended.text());
    }
}
