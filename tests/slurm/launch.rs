//! `femdd run` in a job, without `mpirun` before it: it starts its ranks in the allocation, is started by `srun` with
//! PMI, and refuses to be many runs in one directory.

use crate::cluster::Cluster;
use crate::{LIMIT, SMALL, solved};

/// A batch script of one command.
fn script(cluster: &Cluster, test: &str, line: &str) -> String {
    let text = format!("#!/bin/bash\n#SBATCH --time=10\nset -euo pipefail\n{line}\n");
    cluster.write(test, "job.sh", &text).to_str().expect("a plain path").to_owned()
}

#[test]
fn alone_in_a_job_it_takes_the_allocation() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("alone", "case.toml", SMALL);
    let output = case.with_extension("out");
    let job = script(&cluster, "alone", r#""$FEMDD" run alone/case.toml "$@""#);
    let sbatch = |options: &[&str], arguments: &[&str]| {
        let mut all = vec!["--wait", "--output=alone/log"];
        all.extend(options);
        all.push(&job);
        all.extend(arguments);
        let ended = cluster.run_for("sbatch", &all, LIMIT);
        let log = std::fs::read_to_string(cluster.work().join("alone/log")).unwrap_or_default();
        assert_eq!(ended.code(), 0, "{}\n{log}", ended.text());
    };
    sbatch(&["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=2"], &[]);
    solved(&output, 4);
    // Fewer where this machine has not as many cores as its nodes claim.
    assert!(crate::report(&output)["threads"].as_u64().is_some_and(|threads| threads <= 2));
    // One task is one rank, however many DOFs there are; more are a matter of asking.
    sbatch(&["--ntasks=1", "--cpus-per-task=2"], &[]);
    solved(&output, 1);
    sbatch(&["--ntasks=1", "--cpus-per-task=2"], &["--ranks", "2", "--threads", "1"]);
    solved(&output, 2);
}

#[test]
fn srun_with_pmix_starts_ranks() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("pmix", "case.toml", SMALL);
    let femdd = env!("CARGO_BIN_EXE_femdd");
    let arguments = ["--mpi=pmix", "--nodes=1", "--ntasks=2", femdd, "run", "pmix/case.toml"];
    let ended = cluster.run_for("srun", &arguments, LIMIT);
    assert_eq!(ended.code(), 0, "{}\n{}", ended.text(), cluster.logs());
    solved(&case.with_extension("out"), 2);
}

#[test]
fn srun_without_pmi_is_refused() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("no pmi", "case.toml", SMALL);
    let output = case.with_extension("out");
    let femdd = env!("CARGO_BIN_EXE_femdd");
    let arguments = ["--mpi=none", "--nodes=1", "--ntasks=2", femdd, "run", "no pmi/case.toml"];
    let ended = cluster.run_for("srun", &arguments, LIMIT);
    assert_eq!(ended.code(), 3, "{}", ended.text());
    assert_eq!(ended.stderr.matches("srun started 2 tasks").count(), 1, "{}", ended.text());
    assert!(ended.stderr.contains("srun --mpi=pmix") && !output.exists(), "{}", ended.text());
    // PMI-2, which this Open MPI was not built with, is refused by it.
    let arguments = ["--mpi=pmi2", "--nodes=1", "--ntasks=2", femdd, "run", "no pmi/case.toml"];
    let ended = cluster.run_for("srun", &arguments, LIMIT);
    assert!(ended.code() != 0 && !output.exists(), "{}", ended.text());
    // Whoever wants runs of their own says so.
    let arguments = ["--mpi=none", "--nodes=1", "--ntasks=2", "sh", "-c"];
    let each = format!("exec {femdd} run 'no pmi/case.toml' --ranks 1 --output \"no pmi/$SLURM_PROCID.out\"");
    let ended = cluster.run_for("srun", &[&arguments[..], &[&each]].concat(), LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.text());
    for k in 0..2 {
        solved(&cluster.work().join(format!("no pmi/{k}.out")), 1);
    }
}
