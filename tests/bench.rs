//! `femdd bench` as a person uses it: the machine, floors, stored measurements and comparisons.
//!
//! Times are never compared with each other here: the machine may be busy. What is slower is made so by
//! changing a stored file.

mod common;

use std::path::Path;

use common::{Ended, Scratch, femdd, json, run_in, succeeds};

fn bench(folder: &Path, arguments: &[&str]) -> Ended {
    run_in(folder, &[&["bench"], arguments].concat())
}

fn case(scratch: &Scratch) {
    scratch.write(
        "cube.toml",
        "[case]\nformat = 1\n[mesh]\nbox = { size = [1, 1, 1], cells = [4, 4, 4] }\n[physics]\nlaw = \"poisson\"\n\
         [boundary.walls]\non = [\"x-min\"]\nvalue = \"x\"\n[exact]\nvalue = 0\n",
    );
}

#[test]
fn the_machine_is_measured_and_floors_follow() {
    let scratch = Scratch::new();
    case(&scratch);
    let missing = bench(scratch.path(), &["floors", "cube.toml"]);
    assert_eq!(missing.code(), 2, "{}", missing.text());
    assert!(missing.stderr.contains("femdd bench calibrate makes it"), "{}", missing.text());

    succeeds(bench(scratch.path(), &["calibrate", "--ranks", "2", "--rates"]));
    let machine = json(&scratch.path().join("cache/femdd/machine.json"));
    for rate in ["triad", "read", "flops", "file_write"] {
        for ranks in ["one", "all"] {
            assert!(machine[rate][ranks].as_f64().is_some_and(|x| x > 1e6), "{rate} {ranks}: {machine:#}");
        }
    }
    assert_eq!(machine["ranks"], 2);
    assert!(machine["messages"]["latency"].as_f64().is_some_and(|s| s > 0.0 && s < 1.0), "{machine:#}");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("lists").flatten().collect();
    assert_eq!(left.len(), 2, "only the case and the cache stay: {left:?}");

    let floors = succeeds(bench(scratch.path(), &["floors", "cube.toml", "--ranks", "2", "--repeat", "1"]));
    for phase in ["mesh", "pattern", "assemble", "solve", "output", "sum"] {
        assert!(floors.stdout.lines().any(|l| l.starts_with(phase)), "{phase}: {}", floors.text());
    }
    // Where the machine is known, a measurement shows them too.
    let measured =
        succeeds(bench(scratch.path(), &["measure", "cube.toml", "--repeat", "1", "--warmup", "0"]));
    assert!(measured.stdout.contains("by bytes s"), "{}", measured.text());
}

#[test]
fn measurements_are_stored_and_compared() {
    let scratch = Scratch::new();
    case(&scratch);
    succeeds(bench(scratch.path(), &["baseline", "cube.toml", "--repeat", "3", "--ranks", "1"]));
    let stored = scratch.path().join("bench-baseline/cube.json");
    let mut slow = json(&stored);
    assert_eq!(slow["runs"].as_array().map(Vec::len), Some(3));
    assert_eq!(slow["dofs"], 125);
    assert!(slow["output_bytes"].as_u64().is_some_and(|n| n > 1000), "{slow:#}");
    assert_eq!(slow["sizes"]["cells"][0]["cells"], 384);

    let same =
        succeeds(bench(scratch.path(), &["compare", "bench-baseline/cube.json", "bench-baseline/cube.json"]));
    assert!(same.stdout.contains("B is not slower than A by more than 5.0%"), "{}", same.text());

    // Three runs of one length and three of twice that.
    for (name, factor) in [("a.json", 1.0), ("b.json", 2.0)] {
        for run in slow["runs"].as_array_mut().expect("runs") {
            run["wall"] = factor.into();
        }
        scratch.write(name, &slow.to_string());
    }
    let slower = bench(scratch.path(), &["compare", "a.json", "b.json"]);
    assert_eq!(slower.code(), 5, "{}", slower.text());
    assert!(
        slower.stdout.contains("B is slower than A by more than 5.0%: total by 100.0% to 100.0%"),
        "{}",
        slower.text()
    );
    succeeds(bench(scratch.path(), &["compare", "b.json", "a.json"]));
    succeeds(bench(scratch.path(), &["compare", "a.json", "b.json", "--threshold", "150"]));
    succeeds(bench(scratch.path(), &["compare", "a.json", "b.json", "--by", "cpu"]));
}

#[test]
fn another_program_takes_turns_with_this_one() {
    let scratch = Scratch::new();
    case(&scratch);
    let other = femdd().get_program().to_str().expect("a path").to_owned();
    let arguments = [
        "compare",
        "--binary",
        &other,
        "cube.toml",
        "--repeat",
        "3",
        "--ranks",
        "1",
        "--threshold",
        "100000",
    ];
    let ended = succeeds(bench(scratch.path(), &arguments));
    assert!(ended.stdout.contains("medians of 3 and 3 runs"), "{}", ended.text());
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let scratch = Scratch::new();
    case(&scratch);
    scratch.write("not.json", "{}");
    scratch.write("bad.toml", "[case]\nformat = 1\n[mesh]\n");
    for (arguments, code, said) in [
        (&["measure", "cub.toml"][..], 2, "did you mean"),
        (&["measure", "cube.toml", "--repeat", "0"], 2, "at least 1"),
        (&["measure", "bad.toml", "--repeat", "1"], 2, "did not solve"),
        (&["compare", "not.json", "not.json"], 2, "is no measurement"),
        (&["compare", "not.json"], 2, "compare what with what"),
        (&["compare", "--binary", "not.json", "cube.toml", "--repeat", "2"], 2, "--repeat 3"),
        (&["compare", "--binary", "not.json", "cube.toml"], 3, "cannot be started"),
        (&["compare", "not.json", "not.json", "--threshold=-1"], 2, "--threshold"),
        (&["baseline", "cube.toml", "cube.toml"], 2, "two cases would be stored"),
        (&["counts", "--ranks", "0"], 2, "at least 1"),
        (&["small", "--sides", "1"], 2, "at least 3"),
        (&["calibrate", "--ranks", "1", "--folder", "nowhere"], 3, "cannot be written"),
    ] {
        let ended = bench(scratch.path(), arguments);
        assert_eq!(ended.code(), code, "{arguments:?}: {}", ended.text());
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.text());
    }
    for command in ["calibrate", "floors", "measure", "baseline", "compare", "counts", "small"] {
        let help = succeeds(bench(scratch.path(), &[command, "--help"]));
        assert!(help.stdout.contains(&format!("femdd bench {command}")), "{}", help.text());
        assert!(help.stdout.contains("Examples:"), "{}", help.text());
    }
}

#[test]
fn small_problems_are_solved_again_and_again() {
    let scratch = Scratch::new();
    let ended = succeeds(bench(scratch.path(), &["small", "--sides", "10,20", "--seconds", "0"]));
    for line in [
        "unknowns            100      400",
        "assemble",
        "the rest",
        "total",
        "fastest",
        "grows with the power",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.text());
    }
}
