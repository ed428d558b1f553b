//! Checkpoints and restarts by the real command: on the same and on other numbers of ranks, after signals, time
//! limits and crashes, from files that are damaged, with cases that have changed.
//!
//! Start at [`Place`], a directory in which a case is run again and again.

mod common;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ended, Scratch, femdd, finish, mesh};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// A case in a directory of its own.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new(case: &str) -> Place {
        let scratch = Scratch::new();
        scratch.write("case.toml", case);
        Place { scratch }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn command(&self, out: &str, ranks: usize, arguments: &[&str]) -> std::process::Command {
        let mut command = femdd();
        command.arg("run").arg(self.scratch.path().join("case.toml"));
        command.args(["--threads", "1", "--quiet", "--ranks", &ranks.to_string(), "--output"]);
        command.arg(self.out(out)).args(arguments);
        command
    }

    fn run(&self, out: &str, ranks: usize, arguments: &[&str]) -> Ended {
        let ended = finish(self.command(out, ranks, arguments), LIMIT);
        assert!(!ended.timed_out, "{}", ended.text());
        ended
    }

    fn solve(&self, out: &str, ranks: usize, arguments: &[&str]) -> Value {
        let ended = self.run(out, ranks, arguments);
        assert_eq!(ended.code(), 0, "{}", ended.text());
        self.report(out)
    }

    fn report(&self, out: &str) -> Value {
        let text = std::fs::read_to_string(self.out(out).join("run.json")).expect("run.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The checkpoints of a run, oldest first.
    fn checkpoints(&self, out: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.out(out)).into_iter().flatten().flatten().map(|e| e.path());
        let mut files: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "h5")).collect();
        files.sort();
        files
    }

    /// Starts a run with a process group of its own.
    fn start(&self, out: &str, ranks: usize, arguments: &[&str]) -> Child {
        let mut command = self.command(out, ranks, arguments);
        let file = |name: &str| std::fs::File::create(self.scratch.path().join(name)).expect("a file");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        command.process_group(0).spawn().expect("femdd starts")
    }

    fn said(&self) -> String {
        ["stdout", "stderr"]
            .map(|name| std::fs::read_to_string(self.scratch.path().join(name)).unwrap_or_default())
            .concat()
    }
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ended(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if begin.elapsed() > LIMIT {
            // SAFETY: the group that the test started.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            panic!("still running");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn path(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

/// Steps of the adaptive loop without what a clock says.
fn steps(report: &Value) -> Vec<Value> {
    let mut steps = report.pointer("/adapt/steps").and_then(Value::as_array).expect("steps").clone();
    // Told of the steps that a run took itself.
    steps.iter_mut().filter_map(Value::as_object_mut).for_each(|step| drop(step.remove("sizes")));
    steps
}

fn close(a: &Value, b: &Value, pointer: &str, tolerance: f64) {
    let number = |v: &Value| {
        let found = v.pointer(pointer).and_then(Value::as_f64);
        found.unwrap_or_else(|| panic!("no number at {pointer}: {v:#}"))
    };
    let (x, y) = (number(a), number(b));
    assert!((x - y).abs() <= tolerance * x.abs().max(y.abs()), "{pointer}: {x:e} and {y:e}");
}

fn adaptive(mesh: &str, law: &str, degree: usize, steps: usize) -> String {
    format!(
        "[case]\nformat = 1\n[mesh]\n{mesh}\n[space]\ndegree = {degree}\n{law}\n\
         [solver]\ntolerance = 1e-12\nmethod = \"cg+pmg\"\n\
         [adapt]\nmarking = {{ fraction = 0.2 }}\nmax_steps = {steps}\ndeterministic = true\n\
         [output]\ncheckpoint = {{ every = 1, keep = 10 }}\n"
    )
}

const SCALAR: &str = "[physics]\nlaw = \"poisson\"\nsource = \"exp(3*x)*y\"\n\
                      [boundary.a]\non = [\"x-min\", \"y-max\"]\nvalue = \"x*y\"\n\
                      [[probe]]\nname = \"p\"\nat = [0.4, 0.3]\nfield = \"u\"\n";

#[test]
fn a_restart_on_the_same_ranks_is_bit_for_bit_what_a_run_without_a_stop_gives() {
    let box2 = "box = { size = [1, 1], cells = [6, 5], shape = \"triangle\" }";
    let quads = "box = { size = [1, 1], cells = [5, 4], shape = \"quadrilateral\" }";
    let solid = "[physics]\nlaw = \"elasticity\"\nyoung = 10\npoisson_ratio = 0.3\nbody_force = [0, 0, -1]\n\
                 [boundary.a]\non = [\"x-min\"]\ndisplacement = [0, 0, 0]\n";
    let hexes = "box = { size = [2, 1, 1], cells = [3, 2, 2], shape = \"hexahedron\" }";
    for (mesh, law, degree, ranks) in [(box2, SCALAR, 3, 2), (quads, SCALAR, 2, 3), (hexes, solid, 1, 2)] {
        let place = Place::new(&adaptive(mesh, law, degree, 3));
        let whole = place.solve("whole", ranks, &[]);
        assert_eq!(whole["checkpoints"].as_array().map(Vec::len), Some(4), "{whole:#}");
        // Before the third solve.
        let file = place.checkpoints("whole")[1].clone();
        let again = place.solve("again", ranks, &["--restart", path(&file)]);
        assert_eq!(again["restart"]["exact"], true);
        assert_eq!(steps(&whole), steps(&again), "{mesh}");
        for key in ["solver", "probes", "errors", "dofs", "mesh", "partition"] {
            assert_eq!(whole[key], again[key], "{mesh}: {key}");
        }
        let bytes = |out: &str| std::fs::read(place.out(out).join("solution.hdf")).expect("a solution");
        assert!(bytes("whole") == bytes("again"), "{mesh}: the solutions differ");
    }
}

#[test]
fn a_restart_on_other_ranks_gives_the_same_to_round_off() {
    let tets = "box = { size = [1, 1, 1], cells = [3, 3, 3], shape = \"tetrahedron\" }";
    let solid = "[physics]\nlaw = \"elasticity\"\nyoung = 10\npoisson_ratio = 0.3\nbody_force = [0, 0, -1]\n\
                 [boundary.a]\non = [\"x-min\"]\ndisplacement = [0, 0, 0]\n\
                 [[probe]]\nname = \"p\"\nat = [1.0, 1.0, 1.0]\nfield = \"u.z\"\n";
    let curved = format!("file = \"{}\"", mesh("annulus-quad9-1.msh"));
    let ring = "[physics]\nlaw = \"poisson\"\nsource = \"x\"\n[boundary.inner]\nvalue = 0\n\
                [[probe]]\nname = \"p\"\nat = [1.0, 1.0]\nfield = \"u\"\n";
    let periodic = "[physics]\nlaw = \"poisson\"\nsource = \"sin(2*pi*x)*y\"\n\
                    [boundary.x-min]\nperiodic = { with = \"x-max\" }\n[boundary.y-min]\nvalue = 1\n\
                    [[probe]]\nname = \"p\"\nat = [0.4, 0.3]\nfield = \"u\"\n";
    let quads = "box = { size = [1, 1], cells = [5, 4], shape = \"quadrilateral\" }";
    for (mesh, law, degree, from, to) in [
        (tets, solid, 1, 1, 3),
        (curved.as_str(), ring, 2, 3, 1),
        (quads, periodic, 3, 4, 2),
        (tets, solid, 2, 2, 5),
    ] {
        let place = Place::new(&adaptive(mesh, law, degree, 2));
        let whole = place.solve("whole", from, &[]);
        let file = place.checkpoints("whole")[0].clone();
        let again = place.solve("again", to, &["--restart", path(&file)]);
        assert_eq!(again["restart"]["exact"], false);
        assert_eq!(again["restart"]["ranks"], from);
        let (a, b) = (steps(&whole), steps(&again));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert_eq!((&a["cells"], &a["dofs"]), (&b["cells"], &b["dofs"]), "{mesh}");
            close(a, b, "/estimate", 1e-8);
        }
        close(&whole, &again, "/probes/0/value", 1e-10);
    }
}

/// A case without adaptation, of triangles and quadrilaterals.
fn plain() -> String {
    format!(
        "[case]\nformat = 1\n[mesh]\nfile = \"{}\"\n[space]\ndegree = 2\n\
         [physics]\nlaw = \"poisson\"\nsource = \"1 + x\"\n[boundary.all]\non = {}\nvalue = 0\n\
         [solver]\nmethod = \"cg+jacobi\"\ntolerance = 1e-12\n\
         [output]\ncheckpoint = {{ every = \"1h\" }}\n",
        mesh("mixed-1.msh"),
        MIXED_SIDES
    )
}

const MIXED_SIDES: &str = "[\"x-min\", \"x-max\", \"y-min\", \"y-max\"]";

#[test]
fn a_finished_run_is_taken_up_without_an_iteration() {
    let place = Place::new(&plain());
    let whole = place.solve("whole", 3, &[]);
    assert!(whole["solver"]["iterations"].as_u64() > Some(5));
    assert_eq!(whole["checkpoints"][0]["reason"], "end");
    for ranks in [3, 1, 2] {
        let again = place.solve("again", ranks, &["--restart", path(&place.checkpoints("whole")[0])]);
        assert_eq!(again["solver"]["iterations"], 0, "{ranks} ranks: {again:#}");
        assert_eq!(again["restart"]["exact"], ranks == 3);
        if ranks == 3 {
            let bytes = |out: &str| std::fs::read(place.out(out).join("solution.hdf")).expect("a solution");
            assert!(bytes("whole") == bytes("again"), "the solutions differ");
        }
    }
    // As the start of another run; what changed is noted.
    let file = place.checkpoints("whole")[0].clone();
    let text = format!("{}[initial]\nfile = \"{}\"\n", plain().replace("1 + x", "1.0001 + x"), path(&file));
    let other = Place::new(&text);
    let begun = other.solve("begun", 2, &[]);
    let changed: Vec<&str> = begun["initial"]["changed"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["key"].as_str())
        .collect();
    assert!(changed.contains(&"physics.source"), "{changed:?}");
    let afresh = Place::new(&plain().replace("1 + x", "1.0001 + x")).solve("afresh", 2, &[]);
    assert!(begun["solver"]["iterations"].as_u64() < afresh["solver"]["iterations"].as_u64());
}

/// A long solve: tens of thousands of cheap iterations, as the diffusion differs much from place to place.
fn long(checkpoint: &str) -> String {
    format!(
        "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1], cells = [200, 200], shape = \"triangle\" }}\n\
         [physics]\nlaw = \"poisson\"\nsource = \"1 + x\"\ndiffusion = \"if(sin(40*x)*sin(40*y) < 0, 1, 1e-4)\"\n[boundary.a]\non = [\"x-min\", \"y-max\"]\nvalue = 0\n\
         [solver]\nmethod = \"cg+none\"\ntolerance = 1e-11\nmax_iterations = 100000\n\
         [[probe]]\nname = \"p\"\nat = [0.4, 0.3]\nfield = \"u\"\n{checkpoint}"
    )
}

#[test]
fn a_signal_or_a_time_limit_stops_a_solve_that_goes_on_later() {
    let place = Place::new(&long(""));
    let whole = place.solve("whole", 1, &["--set", "solver.method=auto"]);
    let mut file = None;
    for (k, (signal, ranks)) in
        [(libc::SIGUSR1, 2), (libc::SIGTERM, 2), (libc::SIGTERM, 1)].into_iter().enumerate()
    {
        let out = format!("out-{k}");
        let mut child = place.start(&out, ranks, &[]);
        wait_for("the solve", || {
            std::fs::read_to_string(place.out(&out).join("run.json")).is_ok_and(|t| t.contains("running"))
        });
        std::thread::sleep(Duration::from_millis(700));
        // SAFETY: the process that the test started.
        unsafe { libc::kill(child.id() as i32, signal) };
        assert_eq!(ended(&mut child), 4, "{}", place.said());
        let report = place.report(&out);
        let name = if signal == libc::SIGTERM && ranks == 1 { "SIGTERM" } else { "SIGUSR1" };
        assert_eq!(
            (&report["status"], &report["checkpoints"][0]["reason"]),
            (&"stopped".into(), &name.into())
        );
        let files = place.checkpoints(&out);
        assert_eq!(files.len(), 1);
        assert!(place.said().contains(&format!("--restart {}", path(&files[0]))), "{}", place.said());
        file = files.first().cloned();
    }
    // By a better method, on other ranks; by the same in another run that has too little time.
    let again =
        place.solve("again", 2, &["--set", "solver.method=auto", "--restart", path(&file.expect("one"))]);
    close(&whole, &again, "/probes/0/value", 1e-8);
    assert_eq!(again["restart"]["changed"][0]["key"], "solver.method");
    let late = place.run("late", 2, &["--time-limit", "2s"]);
    assert_eq!(late.code(), 4, "{}", late.text());
    assert_eq!(place.report("late")["checkpoints"][0]["reason"], "the time limit");
    let wrong = place.run("wrong", 1, &["--time-limit", "soon"]);
    assert!(wrong.code() == 2 && wrong.stderr.contains("--time-limit soon"), "{}", wrong.text());
}

#[test]
fn a_crash_while_writing_leaves_what_was_there() {
    let place = Place::new(&long("[output]\ncheckpoint = { every = \"0.05s\", keep = 2 }\n"));
    let mut child = place.start("out", 1, &[]);
    let part = |n: u32| place.out("out").join(format!("checkpoint-{n:04}.h5.part"));
    let caught = |files: &[PathBuf]| !files.is_empty() && (2..2000).any(|n| part(n).exists());
    wait_for("a checkpoint being written", || caught(&place.checkpoints("out")));
    // SAFETY: the process that the test started.
    unsafe { libc::kill(child.id() as i32, libc::SIGKILL) };
    ended(&mut child);
    let files = place.checkpoints("out");
    assert!((1..=2).contains(&files.len()), "{files:?}");
    let again = place.solve("out", 2, &["--restart", "auto", "--set", "solver.method=auto"]);
    assert_eq!(again["warnings"], Value::Array(Vec::new()));
    assert_eq!(again["restart"]["file"], path(files.last().expect("one")));
    assert!(
        !std::fs::read_dir(place.out("out"))
            .expect("a directory")
            .flatten()
            .any(|e| e.path().extension().is_some_and(|e| e == "part"))
    );
}

#[test]
fn a_file_that_is_damaged_or_of_another_kind_is_refused_and_passed_over() {
    let place = Place::new(&plain());
    place.solve("out", 1, &[]);
    place.solve("out", 1, &["--restart", "auto"]);
    let files = place.checkpoints("out");
    assert_eq!(files.len(), 2);
    let good = std::fs::read(&files[1]).expect("a checkpoint");
    let refused = |bytes: &[u8], ranks: usize, expected: &str| {
        let bad = place.scratch.path().join("bad.h5");
        std::fs::write(&bad, bytes).expect("writes");
        let ended = place.run("other", ranks, &["--restart", path(&bad)]);
        assert!(ended.code() == 2 && ended.stderr.contains(expected), "{expected}: {}", ended.text());
        assert!(ended.stderr.contains("bad.h5"), "{}", ended.text());
    };
    refused(b"not HDF5", 2, "checkpoint cannot be used");
    refused(&good[..good.len() / 2], 2, "checkpoint cannot be used");
    let mut flipped = good.clone();
    // Within the data: a coordinate that is 1.
    let one = 1f64.to_le_bytes();
    let at = good.windows(8).rposition(|bytes| bytes == one).expect("a corner of the unit square");
    flipped[at] ^= 0x10;
    refused(&flipped, 2, "checksum");
    // The newest is damaged: the one before it serves.
    std::fs::write(&files[1], &flipped).expect("writes");
    let again = place.solve("out", 1, &["--restart", "auto"]);
    assert_eq!(again["restart"]["file"], path(&files[0]));
    assert!(again["warnings"][0].as_str().is_some_and(|w| w.contains("passed over")), "{again:#}");
    let missing = place.run("other", 1, &["--restart", "nowhere.h5"]);
    assert!(missing.code() == 2 && missing.stderr.contains("nowhere.h5"), "{}", missing.text());
    // None at all: a fresh start.
    let fresh = place.solve("fresh", 1, &["--restart", "auto"]);
    assert!(fresh.get("restart").is_none());
}

#[test]
fn a_case_that_no_longer_fits_is_refused_by_its_key() {
    let box2 = "box = { size = [1, 1], cells = [6, 5], shape = \"triangle\" }";
    let place = Place::new(&adaptive(box2, SCALAR, 1, 1));
    place.solve("out", 1, &[]);
    let file = place.checkpoints("out").pop().expect("a checkpoint");
    for (set, key) in [
        ("space.degree=2", "space.degree"),
        ("physics.law=\"heat\"", "physics.law"),
        ("mesh.box.cells=[6, 6]", "mesh.box"),
        ("mesh.scale=2.0", "mesh.scale"),
        ("mesh.refine=1", "mesh.refine"),
    ] {
        let ended = place.run("other", 1, &["--restart", path(&file), "--set", set]);
        assert!(ended.code() == 2 && ended.stderr.contains(key), "{key}: {}", ended.text());
        let report = place.report("other");
        assert_eq!(
            (&report["status"], &report["error"]["key"]),
            (&"failed".into(), &key.into()),
            "{report:#}"
        );
    }
    // Limits may change: the loop goes on where it ended.
    let more = place.solve("more", 1, &["--restart", path(&file), "--set", "adapt.max_steps=3"]);
    assert_eq!(steps(&more).len(), 4);
    assert_eq!(steps(&more)[0], steps(&place.report("out"))[0]);
}
