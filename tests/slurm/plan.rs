//! `femdd plan --submit`: a job from the model's figures alone.

use crate::cluster::Cluster;
use crate::{LIMIT, SMALL, solved};

#[test]
fn a_planned_job_runs() {
    let Some(cluster) = Cluster::shared() else { return };
    let case = cluster.write("plan", "it's a $(case).toml", SMALL);
    let femdd = |arguments: &[&str]| {
        let mut command = cluster.command(env!("CARGO_BIN_EXE_femdd"));
        command
            .current_dir(case.parent().expect("a directory"))
            .env("XDG_CACHE_HOME", cluster.work().join("cache"));
        // Figures of this machine, which is one host.
        command.env_remove("OMPI_MCA_btl").env_remove("OMPI_MCA_pml").args(arguments);
        if arguments[0] == "plan" {
            command.env("OMPI_MCA_btl", "tcp,self");
        }
        let ended = testing::finish(command, LIMIT);
        assert_eq!(ended.code(), 0, "{arguments:?}: {}", ended.text());
        ended.stdout
    };
    femdd(&["bench", "calibrate", "--ranks", "2", "--quick"]);
    let name = case.file_name().expect("a name").to_str().expect("a plain name");
    let room = [
        "--nodes",
        "2",
        "--cores-per-node",
        "1",
        "--memory-per-node",
        "3GiB",
        "--ranks",
        "2",
        "--threads",
        "1",
    ];
    let said = femdd(&[&["plan", name][..], &room, &["--submit"]].concat());
    let id = said.lines().find_map(|line| line.strip_prefix("submitted job ")).expect("a job's number");
    let job = cluster.job(id);
    assert_eq!(job.wait(LIMIT), ("COMPLETED".into(), 0), "{}", job.log());
    assert_eq!(job.field("NumNodes"), "2", "{said}");
    solved(&case.with_extension("out"), 2);
}
