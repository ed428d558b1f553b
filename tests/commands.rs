//! The real command beside `run`'s numbers: `doctor`, `mesh`, the mesh cache, how ranks are started and
//! stopped, logs, and what a wrong command line gets.
//!
//! Start at [`femdd`]; every run has a time limit.

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ended, Scratch, femdd, finish, mesh};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = femdd();
    command.current_dir(folder).args(arguments);
    let ended = finish(command, LIMIT);
    assert!(!ended.timed_out, "{arguments:?} hangs:\n{}", ended.text());
    ended
}

/// Runs the program under mpirun.
fn under_mpirun(folder: &Path, ranks: usize, arguments: &[&str]) -> Ended {
    let mut command = testing::under_mpirun(&femdd(), ranks);
    command.current_dir(folder).args(arguments);
    let ended = finish(command, LIMIT);
    assert!(!ended.timed_out, "{arguments:?} on {ranks} ranks hangs:\n{}", ended.text());
    ended
}

#[track_caller]
fn succeeds(ended: Ended) -> Ended {
    assert_eq!(ended.code(), 0, "{}", ended.text());
    ended
}

fn report(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("case.out/run.json")).expect("a run leaves run.json");
    serde_json::from_str(&text).expect("JSON")
}

/// A case on a mesh file, one value of which depends on all of the mesh.
fn case_text(file: &str, performance: &str) -> String {
    format!(
        "[case]\nformat = 1\n[mesh]\nfile = \"{file}\"\nscale = 2.0\n[physics]\nlaw = \"poisson\"\nsource = 1\n\
         reaction = 1\n[performance]\n{performance}\n[[integral]]\nname = \"all\"\nof = \"u\"\n[exact]\nvalue = 1\n"
    )
}

/// A case that is not even read leaves no report of an earlier run that looks like its own.
#[test]
fn an_earlier_report_does_not_outlive_a_case_that_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let text = "[mesh]\nbox = { size = [1, 1], cells = [4, 4] }\n[physics]\nlaw = \"poisson\"\nsource = 1\n\
                [boundary.x-min]\nvalue = 0\n";
    std::fs::write(folder.join("case.toml"), text).expect("writes a case");
    succeeds(run(folder, &["run", "case.toml", "--quiet", "--ranks", "1"]));
    assert_eq!(report(folder)["status"], "solved");
    for ranks in ["1", "2"] {
        let ended = run(folder, &["run", "case.toml", "--set", "physics.sorce=3", "--ranks", ranks]);
        assert_eq!(ended.code(), 2, "{}", ended.text());
        let report = report(folder);
        assert_eq!(report["status"], "failed");
        assert!(report["error"]["message"].as_str().is_some_and(|m| m.contains("sorce")), "{report}");
    }
    // Where there was none, none is left.
    let ended = run(folder, &["run", "case.toml", "--set", "physics.sorce=3", "--output", "elsewhere"]);
    assert_eq!(ended.code(), 2, "{}", ended.text());
    assert!(!folder.join("elsewhere").exists());
}

/// The integral of 1 over the square of side 2, and the way it was partitioned.
#[track_caller]
fn method_of(folder: &Path, ranks: usize) -> String {
    succeeds(run(folder, &["run", "case.toml", "--quiet", "--ranks", &ranks.to_string()]));
    let report = report(folder);
    let all = report["integrals"][0]["value"].as_f64().expect("a number");
    assert!((all - 4.0).abs() < 1e-6, "{all}");
    report["partition"]["method"].as_str().expect("a method").to_owned()
}

#[test]
fn doctor_says_what_is_there() {
    let scratch = Scratch::new();
    let ended = succeeds(run(scratch.path(), &["doctor"]));
    for word in [
        "Open MPI",
        "PETSc",
        "-bit indices",
        "mumps",
        "HDF5",
        "METIS",
        "BLAS",
        "GPU",
        "SLURM",
        "Redis",
        "cores",
    ] {
        assert!(ended.stdout.contains(word), "no {word}:\n{}", ended.text());
    }
    // Without mpirun femdd cannot start ranks, and the report says what to install.
    let mut command = femdd();
    command.arg("doctor").env("PATH", scratch.path());
    let ended = finish(command, LIMIT);
    assert_eq!(ended.code(), 3, "{}", ended.text());
    assert!(ended.stdout.contains("openmpi-bin"), "{}", ended.text());
}

#[test]
fn mesh_commands_agree_on_any_number_of_ranks() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let size = ["--size", "1,2,1", "--cells", "4,8,4", "--origin", "-1,0,0"];
    let generate = |name: &'static str| {
        let mut all = vec!["mesh", "generate", name];
        all.extend(size);
        all
    };
    succeeds(run(folder, &generate("one.h5")));
    succeeds(under_mpirun(folder, 3, &generate("three.h5")));
    let info = succeeds(run(folder, &["mesh", "info", "one.h5"])).stdout.replace("one.h5", "");
    for word in [
        "768 tetrahedra",
        "vertices    225",
        "x from -1 to 0",
        "volume      2.0",
        "bodies      1",
        "y-max  tag 4",
    ] {
        assert!(info.contains(word), "no {word}:\n{info}");
    }
    assert_eq!(
        succeeds(under_mpirun(folder, 2, &["mesh", "info", "three.h5"])).stdout.replace("three.h5", ""),
        info
    );

    succeeds(under_mpirun(folder, 2, &["mesh", "partition", "one.h5", "--parts", "3", "parts.h5"]));
    let ended = succeeds(run(folder, &["mesh", "partition", "three.h5", "--parts", "3", "parts1.h5"]));
    for word in ["768 cells in 3 parts", "imbalance", "edge cut", "neighbours", "connected"] {
        assert!(ended.stdout.contains(word), "no {word}:\n{}", ended.text());
    }
    assert_eq!(succeeds(run(folder, &["mesh", "info", "parts.h5"])).stdout.replace("parts.h5", ""), info);
}

#[test]
fn converted_meshes_are_the_same_meshes() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    for name in ["variants/hex27-41-binary.msh", "variants/quad8-22-ascii.msh", "data-41-ascii.msh"] {
        let original = mesh(name);
        succeeds(run(folder, &["mesh", "convert", &original, "all.h5"]));
        succeeds(under_mpirun(folder, 2, &["mesh", "convert", "all.h5", "again.h5"]));
        let info = |file: &str| {
            let text = succeeds(run(folder, &["mesh", "info", file])).stdout;
            text.split_once('\n').expect("lines").1.to_owned()
        };
        assert_eq!(info("all.h5"), info(&original), "{name}");
        assert_eq!(info("again.h5"), info(&original), "{name}");
    }
}

#[test]
fn a_partitioned_mesh_keeps_its_parts() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    succeeds(run(folder, &["mesh", "partition", &mesh("data-41-ascii.msh"), "--parts", "2", "parts.h5"]));
    scratch.write("case.toml", &case_text("parts.h5", ""));
    assert_eq!(method_of(folder, 2), "stored");
    assert!(report(folder)["partition"]["edge_cut"].as_u64().is_some_and(|cut| cut > 0 && cut < 40));
    assert_eq!(method_of(folder, 1), "none");
    assert!(method_of(folder, 3).starts_with("metis"));
}

#[test]
fn the_cache_serves_the_same_mesh_only() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let file = folder.join("square.msh");
    std::fs::copy(mesh("data-41-ascii.msh"), &file).expect("copies");
    scratch.write("case.toml", &case_text("square.msh", "cache = true"));
    let kept = || {
        let entries = std::fs::read_dir(folder.join(".mesh-cache")).expect("a cache");
        entries.map(|e| e.expect("an entry").path()).collect::<Vec<_>>()
    };
    assert!(method_of(folder, 2).starts_with("metis"));
    let cut = report(folder)["partition"]["edge_cut"].clone();
    assert_eq!(kept().len(), 1);
    assert_eq!(method_of(folder, 2), "cached");
    assert_eq!(report(folder)["partition"]["edge_cut"], cut);
    // On another number of ranks the cells come from the cache and are partitioned again.
    assert!(method_of(folder, 3).starts_with("metis"));
    assert_eq!(method_of(folder, 3), "cached");
    assert_eq!(kept().len(), 2);

    // A mesh file that changed is read, and takes the old one's place.
    let text = std::fs::read_to_string(&file).expect("text");
    std::fs::write(&file, text + "\n").expect("writes");
    assert!(method_of(folder, 2).starts_with("metis"));
    assert_eq!(kept().len(), 2);
    assert_eq!(method_of(folder, 2), "cached");

    // A damaged one is passed over, with a warning, and replaced.
    for path in kept() {
        let mut bytes = std::fs::read(&path).expect("bytes");
        let n = bytes.len();
        bytes[n / 2..n / 2 + 64].iter_mut().for_each(|b| *b ^= 0x55);
        std::fs::write(&path, bytes).expect("writes");
    }
    assert!(method_of(folder, 2).starts_with("metis"));
    assert!(report(folder)["warnings"][0].as_str().is_some_and(|w| w.contains("cached mesh was not used")));
    assert_eq!(method_of(folder, 2), "cached");

    // A cache that cannot be written to fails nothing.
    std::fs::remove_dir_all(folder.join(".mesh-cache")).expect("removes");
    scratch.write(".mesh-cache", "in the way");
    assert!(method_of(folder, 2).starts_with("metis"));
    assert!(report(folder)["warnings"][0].as_str().is_some_and(|w| w.contains("not kept")));
    std::fs::remove_file(folder.join(".mesh-cache")).expect("removes");

    // Small meshes are not worth it, unless asked for.
    scratch.write("case.toml", &case_text("square.msh", ""));
    assert!(method_of(folder, 2).starts_with("metis"));
    assert!(!folder.join(".mesh-cache").exists());
}

#[test]
fn wrong_command_lines_say_what_is_right() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    scratch.write("cube.toml", "");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["rnu", "cube.toml"], &["femdd run"]),
        (&["chekc"], &["femdd check"]),
        (&["run", "cub.toml"], &["does not exist", "cube.toml"]),
        (&["check", "cubes.toml"], &["did you mean `cube.toml`"]),
        (&["cub.toml"], &["cube.toml"]),
        (&["study", "cube.toml"], &["`femdd study` is not supported yet"]),
        (&["mesh", "info", "cub.msh"], &["does not exist"]),
        (&["mesh", "generate", "--size", "1,1", "--cells", "4,4", "a.msh"], &[".h5"]),
        (
            &["mesh", "generate", "--size", "1,1", "--cells", "4,4", "--shape", "cube", "a.h5"],
            &["hexahedron"],
        ),
    ];
    for (arguments, words) in cases {
        let ended = run(folder, arguments);
        assert_eq!(ended.code(), 2, "{arguments:?}: {}", ended.text());
        for word in words {
            assert!(ended.stderr.contains(word), "{arguments:?} does not say {word}: {}", ended.text());
        }
    }
    // Once, however many ranks.
    let ended = under_mpirun(folder, 3, &["run", "cub.toml"]);
    assert_eq!(ended.stderr.matches("does not exist").count(), 1, "{}", ended.text());
    assert_eq!(ended.code(), 2, "{}", ended.text());
}

#[test]
fn logs_name_phase_and_rank() {
    let scratch = Scratch::new();
    scratch.write("case.toml", &case_text(&mesh("data-41-ascii.msh"), ""));
    let start = |level: &str| {
        let mut command = femdd();
        command
            .current_dir(scratch.path())
            .args(["run", "case.toml", "-q", "--ranks", "2"])
            .env("FEMDD_LOG", level);
        finish(command, LIMIT)
    };
    let ended = succeeds(start("debug"));
    for word in ["[0] ", "[1] ", "phase{name=\"mesh\"}", "solved method="] {
        assert!(ended.stderr.contains(word), "no {word}: {}", ended.text());
    }
    assert!(ended.stdout.is_empty(), "{}", ended.text());
    assert!(succeeds(start("warn")).stderr.is_empty());
    let wrong = start("=x=");
    assert_eq!(wrong.code(), 2);
    assert!(wrong.stderr.contains("FEMDD_LOG"), "{}", wrong.text());
}

#[test]
fn a_case_without_a_subcommand_runs_under_mpirun_too() {
    let scratch = Scratch::new();
    scratch.write("case.toml", &case_text(&mesh("data-41-ascii.msh"), ""));
    succeeds(under_mpirun(scratch.path(), 4, &["case.toml"]));
    assert_eq!(report(scratch.path())["ranks"], 4);
    succeeds(run(scratch.path(), &["case.toml"]));
}

/// A run that takes minutes.
const LONG: &str = "[case]\nformat = 1\n[mesh]\nbox = { size = [1.0, 1.0, 1.0], cells = [48, 48, 48], shape = \"tetrahedron\" }\n\
    [physics]\nlaw = \"poisson\"\nsource = 1\n[space]\ndegree = 2\n[boundary.x-min]\nvalue = 0\n\
    [solver]\nmethod = \"cg+jacobi\"\ntolerance = 1e-13\nmax_iterations = 100000\n";

fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// The living processes, other than `but`, whose command line has `text`.
fn processes_with(text: &str, but: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|&pid| pid != but)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

#[test]
fn signals_reach_all_ranks() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let scratch = Scratch::new();
        let case = scratch.write("long.toml", LONG);
        let mark = case.to_string_lossy().into_owned();
        let mut command = femdd();
        command.args(["run", &mark, "--quiet", "--ranks", "2"]).stdin(Stdio::null());
        // SAFETY: between fork and exec only a system call is made. What a background job of a script ignores, femdd
        // would ignore too.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            })
        };
        let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        // mpirun and two ranks carry the case's name; they listen to signals before they make their folder.
        let started = wait_until(Duration::from_secs(60), || {
            processes_with(&mark, child.id()).len() >= 3 && scratch.path().join("long.out").exists()
        });
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: signals our child, which has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let mut status = None;
        // SIGTERM has them write a checkpoint first.
        let ended = wait_until(Duration::from_secs(if signal == libc::SIGTERM { 60 } else { 15 }), || {
            status = child.try_wait().expect("waits");
            status.is_some()
        });
        let all_ended = wait_until(Duration::from_secs(10), || processes_with(&mark, 0).is_empty());
        if !ended || !all_ended {
            for pid in processes_with(&mark, 0) {
                // SAFETY: ends what this test has started.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            }
        }
        assert!(started && ended && all_ended, "signal {signal}: {started} {ended} {all_ended}");
        if signal != libc::SIGKILL {
            let code = if signal == libc::SIGTERM { 4 } else { 128 + signal };
            assert_eq!(status.and_then(|s| s.code()), Some(code));
        }
    }
}
