//! `femdd scale` as a person uses it: ladders on a few ranks, what they leave, going on, and collecting what a batch
//! system has run.
//!
//! Times are never compared: the machine may be busy, and ranks take turns here. Counts do not mind.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Ended, Scratch, finish, json, run_in, succeeds};
use serde_json::Value;

fn scale(folder: &Path, arguments: &[&str]) -> Ended {
    run_in(folder, &[&["scale"], arguments].concat())
}

const NETWORK: [&str; 4] = ["--latency", "2us", "--bandwidth", "10GB/s"];

fn case(scratch: &Scratch) {
    scratch.write(
        "cube.toml",
        "[case]\nformat = 1\n[mesh]\nbox = { size = [1, 1, 1], cells = [6, 6, 6] }\n[physics]\nlaw = \"poisson\"\n\
         source = 1\n[boundary.walls]\non = [\"x-min\"]\nvalue = \"x\"\n[solver]\nmethod = \"cg+amg\"\n",
    );
}

fn study(scratch: &Scratch) -> Value {
    json(&scratch.path().join("cube.scale/scale.json"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn phase<'a>(step: &'a Value, name: &str) -> &'a Value {
    let phases = step["result"]["phases"].as_array().expect("phases");
    phases.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("no {name}: {step:#}"))
}

#[test]
fn a_strong_ladder_is_run_and_gone_on_with() {
    let scratch = Scratch::new();
    case(&scratch);
    let first = ["strong", "cube.toml", "--ranks", "1,2", "--repeat", "1"];
    let ended = succeeds(scale(scratch.path(), &[&first[..], &NETWORK].concat()));
    for part in ["strong scaling of cube", "speedup", "solve", "efficiency", "Projection", "--repeat 3"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.text());
    }
    let found = study(&scratch);
    assert_eq!((&found["status"], &found["schema"]), (&"complete".into(), &1.into()));
    let walls: Vec<f64> =
        found["steps"].as_array().expect("steps").iter().map(|s| number(&s["runs"][0]["wall"])).collect();

    // More rungs and repeats: what is there is not run again.
    let more = ["strong", "cube.toml", "--ranks", "1,2,4", "--repeat", "2"];
    let ended = succeeds(scale(scratch.path(), &[&more[..], &NETWORK].concat()));
    assert!(ended.stderr.contains("run 4 of 4"), "{}", ended.text());
    let found = study(&scratch);
    let steps = found["steps"].as_array().expect("steps");
    assert_eq!(steps.iter().map(|s| number(&s["ranks"])).collect::<Vec<_>>(), [1.0, 2.0, 4.0]);
    for (step, wall) in steps.iter().zip(walls) {
        assert_eq!(number(&step["runs"][0]["wall"]), wall, "a run was made again: {step:#}");
    }
    for step in steps {
        let runs = step["runs"].as_array().expect("runs");
        assert!(runs.len() == 2 && runs.iter().all(|r| r["state"] == "done"), "{step:#}");
        let (ranks, cells) = (number(&step["ranks"]), number(&step["result"]["cells"]));
        assert_eq!((cells, number(&step["result"]["cells_per_rank"])), (1296.0, 1296.0 / ranks));
        let solve = phase(step, "solve");
        assert_eq!(number(&solve["counters"]["messages"]) > 0.0, ranks > 1.0, "{solve:#}");
        assert!(number(&solve["least"]) <= number(&solve["seconds"]) && number(&solve["imbalance"]) >= 1.0);
        assert!(
            number(&step["result"]["memory_max_rank"]) > 1.0 && number(&step["result"]["iterations"]) > 1.0
        );
        // Only what was not crowded is compared.
        assert_eq!(solve["efficiency"].is_null(), !step["comparable"].as_bool().expect("a flag"));
        let left = std::fs::read_dir(scratch.path().join("cube.scale/runs").join(format!("{ranks}-ranks-1")));
        let left: Vec<_> = left.expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| name == "run.json" || name == "case.resolved.toml"), "{left:?}");
    }
    let crowded = steps.iter().filter(|s| s["comparable"] == false).count();
    let warned = found["warnings"]
        .as_array()
        .expect("warnings")
        .iter()
        .any(|w| w.as_str().is_some_and(|w| w.contains("took turns")));
    assert_eq!(warned, crowded > 0, "{found:#}");
    check_projection(&found);
    check_files(&scratch.path().join("cube.scale"), 3);
}

fn check_projection(found: &Value) {
    let projection = &found["projection"];
    assert_eq!(projection["inputs"]["source"], "the command line", "{projection:#}");
    assert_eq!(projection["counted"], serde_json::json!([2, 4]));
    let solve = |count: &str| {
        let all = projection["counts"].as_array().expect("laws");
        all.iter().find(|c| c["phase"] == "solve" && c["count"] == count).expect("a law")["law"].clone()
    };
    assert!(solve("messages").as_str().is_some_and(|law| !law.is_empty()));
    // 1,296 cells: no more ranks than that.
    assert_eq!(number(&projection["far"]), 1296.0);
    let points = projection["points"].as_array().expect("points");
    let last = points.last().expect("points");
    assert_eq!(number(&last["ranks"]), 1296.0);
    for phase in last["phases"].as_array().expect("phases") {
        assert!(
            number(&phase["low"]) <= number(&phase["seconds"])
                && number(&phase["seconds"]) <= number(&phase["high"])
        );
    }
}

/// The table, the pictures and the page.
fn check_files(folder: &Path, rungs: usize) {
    let read =
        |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let csv = read("scale.csv");
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().expect("a head").split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == head.len()), "{csv}");
    let at = |name: &str| head.iter().position(|h| *h == name).expect("a column");
    let totals: Vec<_> = rows.iter().filter(|row| row[at("phase")] == "total").collect();
    assert_eq!(totals.len(), rungs);
    assert!(totals.iter().all(|row| row[at("seconds")].parse::<f64>().is_ok_and(|s| s > 0.0)));
    for name in ["time", "messages", "bytes", "memory"] {
        let svg = read(&format!("{name}.svg"));
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}: {svg}");
        assert!(!svg.contains("NaN"), "{name}: {svg}");
    }
    let page = read("report.html");
    assert!(page.contains("</html>") && page.contains("<svg") && page.contains("Peak memory"));
    for remote in ["src=\"http", "href=\"http", "<script", "@import"] {
        assert!(!page.contains(remote), "the page needs no network: {remote}");
    }
}

#[test]
fn a_weak_ladder_grows_the_mesh() {
    let scratch = Scratch::new();
    case(&scratch);
    // 6^3 cubes twice: 7 x 8 x 8 = 448 of 432.
    let ended = succeeds(scale(scratch.path(), &["weak", "cube.toml", "--ranks", "1,2", "--repeat", "1"]));
    assert!(
        ended.stdout.contains("weak scaling of cube") && ended.stdout.contains("calibrate"),
        "{}",
        ended.text()
    );
    let found = study(&scratch);
    let cells: Vec<f64> =
        found["steps"].as_array().expect("steps").iter().map(|s| number(&s["result"]["cells"])).collect();
    assert_eq!(cells[0], 1296.0);
    assert!((cells[1] / 2592.0 - 1.0).abs() <= 0.05, "{cells:?}");
    assert_eq!(number(&found["steps"][1]["actual"]), cells[1] / cells[0]);
    let step = &found["steps"][1];
    if step["comparable"] == true {
        let (before, after) = (phase(&found["steps"][0], "solve"), phase(step, "solve"));
        let expected = number(&before["seconds"]) / number(&after["seconds"]) * cells[1] / cells[0] / 2.0;
        assert!(
            (number(&after["efficiency"]) / expected - 1.0).abs() < 1e-9,
            "normalised by actual cells: {step:#}"
        );
    }
}

#[test]
fn a_study_of_sizes_has_exponents_and_files_are_refined() {
    let scratch = Scratch::new();
    let mesh = common::mesh("l-shape-quad.msh");
    scratch.write(
        "cube.toml",
        &format!(
            "[case]\nformat = 1\n[mesh]\nfile = {mesh:?}\n[physics]\nlaw = \"poisson\"\nsource = 1\nreaction = 1\n\
             [solver]\nmethod = \"cg+amg\"\n"
        ),
    );
    let ended = succeeds(scale(scratch.path(), &["size", "cube.toml", "--ranks", "1", "--repeat", "1"]));
    assert!(ended.stdout.contains("95% interval"), "{}", ended.text());
    let found = study(&scratch);
    let cells: Vec<f64> =
        found["steps"].as_array().expect("steps").iter().map(|s| number(&s["result"]["cells"])).collect();
    assert_eq!(cells, [cells[0], 4.0 * cells[0], 16.0 * cells[0]]);
    let memory = found["exponents"]
        .as_array()
        .expect("exponents")
        .iter()
        .find(|e| e["what"] == "memory")
        .expect("memory");
    assert!(
        number(&memory["low"]) <= number(&memory["value"])
            && number(&memory["value"]) <= number(&memory["high"])
    );
    assert!(found["projection"].is_null());
    let refused = scale(scratch.path(), &["weak", "cube.toml", "--ranks", "1,2", "--output", "weak.scale"]);
    assert_eq!(refused.code(), 2, "{}", refused.text());
    assert!(refused.stderr.contains("possible are 1, 4, 16"), "{}", refused.text());
    assert!(!scratch.path().join("weak.scale").exists());
}

/// A batch system of three scripts: sbatch notes the job, squeue says what `queue` holds; the test runs the tasks.
fn batch_system(scratch: &Scratch) {
    let bin = scratch.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    for (name, text) in [
        (
            "sbatch",
            format!(
                "#!/bin/sh\n[ \"$1\" = --parsable ] || exit 9\necho \"$2\" >> {0:?}/submitted\necho \"4$(wc -l < {0:?}/submitted);here\"\n",
                scratch.path()
            ),
        ),
        ("squeue", format!("#!/bin/sh\ncat {:?}/queue\n", scratch.path())),
    ] {
        let path = bin.join(name);
        std::fs::write(&path, text).expect("a script");
        let mut mode = std::fs::metadata(&path).expect("a script").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
    }
    scratch.write("queue", "");
}

fn task(scratch: &Scratch, job: &str, task: &str) {
    let mut bash = std::process::Command::new("bash");
    testing::crowded(&mut bash).env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    bash.current_dir(scratch.path().join("cube.scale")).arg(job).env("SLURM_ARRAY_TASK_ID", task);
    let ended = finish(bash, Duration::from_secs(120));
    assert!(ended.succeeded(), "{}", ended.text());
}

#[test]
fn jobs_are_submitted_collected_and_submitted_again() {
    let scratch = Scratch::new();
    case(&scratch);
    batch_system(&scratch);
    let command = [
        "strong",
        "cube.toml",
        "--ranks",
        "1,2",
        "--repeat",
        "1",
        "--slurm",
        "--ranks-per-node",
        "2",
        "--sbatch",
        "partition=short",
    ];
    scratch.write("queue", "41_0\n41_1\n");
    let ended = succeeds(scale(scratch.path(), &command));
    assert!(
        ended.stderr.contains("submitted as 41") && ended.stdout.contains("2 wait or run"),
        "{}",
        ended.text()
    );
    let found = study(&scratch);
    assert_eq!((&found["status"], &found["jobs"][0]["id"]), (&"submitted".into(), &"41".into()));
    let script = std::fs::read_to_string(scratch.path().join("cube.scale/job-1.sbatch")).expect("a script");
    assert!(
        script.contains("#SBATCH --array=0-1%1\n") && script.contains("#SBATCH --partition=short\n"),
        "{script}"
    );

    // One task has run, the other has vanished.
    task(&scratch, "job-1.sbatch", "1");
    scratch.write("queue", "");
    let ended = succeeds(scale(scratch.path(), &["collect", "cube.scale"]));
    assert!(ended.stdout.contains("runs/1-ranks-1 left no report"), "{}", ended.text());
    let found = study(&scratch);
    assert_eq!(found["status"], "incomplete");
    let states: Vec<_> =
        found["steps"].as_array().expect("steps").iter().map(|s| s["runs"][0]["state"].clone()).collect();
    assert_eq!(states, ["missing", "done"]);

    // The same command collects, and submits again only when told, and only what is missing.
    let ended = succeeds(scale(scratch.path(), &command));
    assert!(ended.stdout.contains("--resubmit"), "{}", ended.text());
    scratch.write("queue", "42_0\n");
    succeeds(scale(scratch.path(), &[&command[..], &["--resubmit"]].concat()));
    let found = study(&scratch);
    assert_eq!(
        (&found["jobs"][1]["id"], &found["jobs"][1]["runs"]),
        (&"42".into(), &serde_json::json!(["runs/1-ranks-1"]))
    );
    let submitted = std::fs::read_to_string(scratch.path().join("submitted")).expect("what was submitted");
    assert_eq!(submitted, "job-1.sbatch\njob-2.sbatch\n");
    task(&scratch, "job-2.sbatch", "0");
    scratch.write("queue", "");
    let ended = succeeds(scale(scratch.path(), &["collect", "cube.scale"]));
    assert!(!ended.stdout.contains("are missing"), "{}", ended.text());
    let found = study(&scratch);
    assert_eq!(found["status"], "complete");
    assert!(found["steps"].as_array().expect("steps").iter().all(|s| s["comparable"] == true));
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let scratch = Scratch::new();
    case(&scratch);
    std::fs::create_dir(scratch.path().join("full")).expect("a folder");
    scratch.write("full/notes.txt", "mine");
    for (arguments, code, said) in [
        (&["strong", "cub.toml", "--ranks", "1"][..], 2, "did you mean"),
        (&["strong", "cube.toml", "--ranks", "0,1"], 2, "from 1 up"),
        (&["strong", "cube.toml", "--ranks", "2,2"], 2, "twice"),
        (&["strong", "cube.toml", "--ranks", "1", "--repeat", "0"], 2, "at least 1"),
        (&["strong", "cube.toml", "--ranks", "1", "--max-seconds", "0"], 2, "above 0"),
        (&["strong", "cube.toml", "--ranks", "1", "--latency", "1us"], 2, "both --latency and --bandwidth"),
        (&["strong", "cube.toml", "--ranks", "1", "--latency", "1e-6"], 2, "with its unit"),
        (&["strong", "cube.toml", "--ranks", "1", "--bandwidth", "10"], 2, "as 12GB/s"),
        (&["strong", "cube.toml", "--ranks", "1", "--overhead", "1us", "--gap", "0ns"], 2, "above 0"),
        (&["strong", "cube.toml", "--ranks", "1", "--output", "full"], 2, "is not empty"),
        (&["strong", "cube.toml", "--ranks", "1", "--slurm", "--sbatch", "comment=$(id)"], 2, "KEY=VALUE"),
        (&["strong", "cube.toml", "--ranks", "1", "--set", "mesh.box=1"], 2, "mesh.box"),
        (&["size", "cube.toml", "--growth", "0.5"], 2, "--growth"),
        (&["weak", "cube.toml", "--ranks", "1,2", "--set", "mesh.box.cells=[1, 1, 1]"], 2, "more cells"),
        (&["collect", "nowhere"], 2, "femdd scale strong"),
    ] {
        let ended = scale(scratch.path(), arguments);
        assert_eq!(ended.code(), code, "{arguments:?}: {}", ended.text());
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.text());
    }
    for command in ["strong", "weak", "size", "collect"] {
        let help = succeeds(scale(scratch.path(), &[command, "--help"]));
        assert!(help.stdout.contains("Example"), "{}", help.text());
    }
}

/// A run that fails is marked with its reason; the rungs that do not fail are there; a changed case is another study.
#[test]
fn failures_are_marked_and_studies_are_not_mixed() {
    let scratch = Scratch::new();
    case(&scratch);
    let limited = [
        "strong",
        "cube.toml",
        "--ranks",
        "1",
        "--repeat",
        "2",
        "--set",
        "solver.max_iterations=1",
        "--set",
        "solver.tolerance=1e-12",
    ];
    let ended = scale(scratch.path(), &limited);
    assert_eq!(ended.code(), 1, "{}", ended.text());
    let found = study(&scratch);
    assert_eq!(
        (&found["status"], &found["steps"][0]["runs"][0]["state"]),
        (&"incomplete".into(), &"failed".into())
    );
    assert!(found["steps"][0]["runs"][0]["message"].is_string() && found["steps"][0]["result"].is_null());
    let other = ["strong", "cube.toml", "--ranks", "1", "--repeat", "1"];
    let ended = scale(scratch.path(), &other);
    assert_eq!(ended.code(), 2, "{}", ended.text());
    assert!(ended.stderr.contains("another study"), "{}", ended.text());
    succeeds(scale(scratch.path(), &[&other[..], &["--fresh"]].concat()));
    assert_eq!(study(&scratch)["status"], "complete");

    // A budget that nothing fits into after the first run of a rung.
    let budget =
        ["strong", "cube.toml", "--ranks", "1", "--repeat", "3", "--max-seconds", "0.001", "--fresh"];
    let ended = succeeds(scale(scratch.path(), &budget));
    assert!(ended.stdout.contains("would not have ended"), "{}", ended.text());
    assert_eq!(study(&scratch)["status"], "incomplete");
}
