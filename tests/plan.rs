//! `femdd plan` as a person uses it: sizes, layouts, targets, scripts, and what `run.json` says of decisions.
//!
//! Times are never compared with anything: the costs come from problems of a few cells.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Scratch, femdd, finish, json, run_in as run, succeeds};
use serde_json::Value;

fn case(scratch: &Scratch, name: &str, n: usize, rest: &str) {
    scratch.write(
        name,
        &format!(
            "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1, 1], cells = [{n}, {n}, {n}] }}\n[physics]\n\
             law = \"poisson\"\nsource = \"x*y\"\n[boundary.walls]\non = [\"x-min\"]\nvalue = 0\n{rest}"
        ),
    );
}

fn calibrated() -> Scratch {
    let scratch = Scratch::new();
    succeeds(run(scratch.path(), &["bench", "calibrate", "--ranks", "2", "--quick"]));
    scratch
}

#[test]
fn a_machine_without_figures_gives_the_size_and_says_what_is_missing() {
    let scratch = Scratch::new();
    case(&scratch, "cube.toml", 100, "");
    let ended = run(scratch.path(), &["plan", "cube.toml"]);
    assert_eq!(ended.code(), 2, "{}", ended.text());
    assert!(
        ended.stdout.contains("6,000,000 tetrahedra") && ended.stdout.contains("1,030,301 DOFs"),
        "{}",
        ended.text()
    );
    assert!(ended.stderr.contains("femdd bench calibrate makes it"), "{}", ended.text());
}

#[test]
fn plans_scripts_and_runs_on_a_calibrated_machine() {
    let scratch = calibrated();
    let folder = scratch.path();
    let machine = json(&folder.join("cache/femdd/machine.json"));
    let costs = &machine["costs"];
    assert_eq!(costs["classes"].as_array().map(Vec::len), Some(9), "{costs:#}");
    assert!(
        costs["process"].as_f64().is_some_and(|b| b > 1e6)
            && costs["start"].as_f64().is_some_and(|s| s > 0.0)
    );
    assert_eq!(costs["loops"].as_array().map(Vec::len), Some(2));
    assert!(costs["files"]["partition"]["all"].as_f64().is_some_and(|s| s >= 0.0), "{costs:#}");

    case(&scratch, "cube.toml", 40, "");
    let plan = succeeds(run(folder, &["plan", "cube.toml", "--cores-per-node", "4"]));
    assert!(plan.stdout.contains("<- recommended") && plan.stdout.contains("core-h"), "{}", plan.text());
    let plan =
        succeeds(run(folder, &["plan", "cube.toml", "--nodes", "2", "--cores-per-node", "4", "--json"]));
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert_eq!(
        (plan["problem"]["dofs"].as_u64(), plan["problem"]["cells"][0]["cells"].as_u64()),
        (Some(68_921), Some(384_000))
    );
    let candidates = plan["candidates"].as_array().expect("candidates");
    assert!(candidates.iter().any(|c| c["layout"]["nodes"] == 2), "{plan:#}");
    for candidate in candidates {
        let sum: f64 = candidate["phases"]
            .as_array()
            .expect("phases")
            .iter()
            .filter_map(|p| p["seconds"].as_f64())
            .sum();
        assert!((sum - candidate["total"].as_f64().expect("a total")).abs() < 1e-9 * sum);
    }
    assert!(plan["network"]["from"].as_str().is_some_and(|s| s.contains("slow network")), "{plan:#}");

    for (arguments, said) in [
        (vec!["--memory-per-node", "1MiB"], "no layout fits"),
        (vec!["--time-target", "1s", "--cost-target", "0.0000001"], "nothing keeps to"),
        (vec!["--time-target", "soon"], "is no time"),
        (vec!["--ranks", "64"], "no layout on 1 nodes"),
        (vec!["--latency", "-1"], "above 0 with its unit"),
        (vec!["--latency", "2"], "as 2us"),
        (vec!["--bandwidth", "10Gb/s"], "as 12GB/s or 100Gbit/s"),
    ] {
        let ended = run(folder, &[&["plan", "cube.toml", "--cores-per-node", "4"], &arguments[..]].concat());
        assert_eq!(ended.code(), 2, "{arguments:?}: {}", ended.text());
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.text());
    }

    the_script_is_submitted(&scratch);
    a_run_says_what_it_decided(&scratch);
}

fn the_script_is_submitted(scratch: &Scratch) {
    let folder = scratch.path();
    // Without SLURM: what is missing. A machine that has it is not asked.
    let lacking = Scratch::new();
    std::fs::copy(folder.join("cube.toml"), lacking.path().join("cube.toml")).expect("copied");
    let machine = folder.join("cache/femdd/machine.json");
    let machine = machine.to_str().expect("a name");
    let mut command = femdd();
    command.current_dir(lacking.path()).env("PATH", lacking.path()).args([
        "plan",
        "cube.toml",
        "--machine",
        machine,
        "--submit",
    ]);
    let ended = finish(command, Duration::from_secs(60));
    assert_eq!(ended.code(), 3, "{}", ended.text());
    assert!(ended.stderr.contains("sbatch cannot be started"), "{}", ended.text());
    assert!(lacking.path().join("cube.sbatch").is_file(), "the script is there to be submitted elsewhere");

    // A name and a value that would do harm unquoted.
    let name = "it's $(touch harm) a\n#SBATCH --nodes=99\n.toml";
    std::fs::copy(folder.join("cube.toml"), folder.join(name)).expect("copied");
    let set = "case.title='$(touch harm)'";
    succeeds(run(folder, &["plan", name, "--set", set, "--cores-per-node", "2", "--script", "job.sh"]));
    let text = std::fs::read_to_string(folder.join("job.sh")).expect("a script");
    let options: Vec<&str> = text
        .lines()
        .take_while(|l| l.is_empty() || l.starts_with('#'))
        .filter(|l| l.starts_with("#SBATCH"))
        .collect();
    assert!(
        options.contains(&"#SBATCH --nodes=1")
            && !options.iter().any(|l| l.starts_with("#SBATCH --nodes=99")),
        "{options:?}"
    );
    // Run as SLURM would, on this machine: the case is solved.
    let mut command = std::process::Command::new("bash");
    command.arg("job.sh").current_dir(folder).env("FEMDD", femdd().get_program());
    for key in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(key, "1");
    }
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    let ended = finish(command, Duration::from_secs(120));
    assert_eq!(ended.code(), 0, "{}", ended.text());
    assert!(ended.stdout.contains("solved"), "{}", ended.text());
    assert!(!folder.join("harm").exists());

    // What sbatch prints is the job's number, with a cluster's name behind it or not.
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::write(
        bin.join("sbatch"),
        "#!/bin/bash\n[ \"$1\" = --parsable ] && bash -n \"$2\" && echo '42;cluster'\n",
    )
    .expect("written");
    std::fs::set_permissions(bin.join("sbatch"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    let submitted = succeeds(run(folder, &["plan", "cube.toml", "--submit"]));
    assert!(submitted.stdout.contains("submitted job 42\n"), "{}", submitted.text());
}

fn a_run_says_what_it_decided(scratch: &Scratch) {
    let folder = scratch.path();
    case(scratch, "small.toml", 6, "");
    let ended = succeeds(run(folder, &["run", "small.toml", "--ranks", "2"]));
    assert!(ended.stdout.contains("predicted s"), "{}", ended.text());
    let report = json(&folder.join("small.out/run.json"));
    let event = |what: &str| {
        let events = report["events"].as_array().expect("events");
        events.iter().find(|e| e["what"] == what).unwrap_or_else(|| panic!("no {what}: {report:#}")).clone()
    };
    assert_eq!(
        (event("ranks")["choice"].as_str(), event("ranks")["because"].as_str()),
        (Some("2"), Some("asked for by --ranks"))
    );
    assert_eq!(event("jit")["choice"], "off");
    assert_eq!(event("partition")["choice"], "coordinate-bisection");
    assert!(
        event("solver")["inputs"]["unknowns"].as_u64() == Some(343) && event("plan")["inputs"]["dofs"] == 343
    );
    let plan = &report["plan"];
    assert_eq!((plan["dofs"][0].as_u64(), plan["dofs"][1].as_u64()), (Some(343), Some(343)));
    let measured: f64 =
        plan["phases"].as_array().expect("phases").iter().filter_map(|p| p["measured"].as_f64()).sum();
    assert!((measured - report["wall"].as_f64().expect("a wall")).abs() < 1e-6 * measured.max(1.0));
    assert!(plan["phases"].as_array().is_some_and(|p| p.iter().any(|row| row["name"] == "solve")));

    // Ranks chosen by the model, and not at the level that chooses nothing.
    succeeds(run(folder, &["run", "small.toml", "--quiet"]));
    let report = json(&folder.join("small.out/run.json"));
    let because = |report: &Value| {
        let events = report["events"].as_array().expect("events").clone();
        events
            .iter()
            .find(|e| e["what"] == "ranks")
            .and_then(|e| e["because"].as_str().map(str::to_owned))
            .expect("ranks")
    };
    assert!(
        ["the fastest by the performance model", "a process by itself"].contains(&because(&report).as_str()),
        "{report:#}"
    );
    succeeds(run(folder, &["run", "small.toml", "--quiet", "--set", "performance.level='minimal'"]));
    let report = json(&folder.join("small.out/run.json"));
    assert_eq!((report["ranks"].as_u64(), report["threads"].as_u64()), (Some(1), Some(1)));
    for key in ["jit", "pool"] {
        let set = format!("performance.{key}=true");
        for command in ["run", "check", "plan"] {
            let ended = run(folder, &[command, "small.toml", "--set", &set]);
            assert_eq!(ended.code(), 2, "{}", ended.text());
            assert!(ended.stderr.contains("not supported yet"), "{}", ended.text());
        }
    }
}

#[test]
fn a_check_runs_the_cases() {
    let scratch = calibrated();
    case(&scratch, "small.toml", 5, "");
    let ended = run(scratch.path(), &["plan", "--check", "small.toml", "--repeat", "1"]);
    assert!([0, 5].contains(&ended.code()), "{}", ended.text());
    assert!(
        ended.stdout.contains("predicted over measured:") && ended.stdout.contains("MiB in all"),
        "{}",
        ended.text()
    );
    let lines =
        ended.stdout.lines().filter(|l| l.contains("small") && l.contains("ranks") && !l.contains("DOFs"));
    assert_eq!(lines.count(), 2, "{}", ended.text());
}
