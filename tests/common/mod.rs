//! The real command on real cases: what the tests of the binary share.
//!
//! Start at [`solve`], which runs a case that must be solved, or at [`Case`] for more say in it. Each run has a
//! directory of its own, removed when it is dropped, and a time limit.

// Each test binary uses a part of this module.
#![allow(dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
pub use testing::{Ended, Scratch, finish};

/// The program, as cargo built it for this test, free of any launcher's environment.
pub fn femdd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_femdd"));
    testing::crowded(&mut command).env("NO_COLOR", "1");
    command
}

/// The command in a folder, where it finds no `machine.json` of whoever runs the tests, and the programs of `bin` there
/// before all others.
///
/// # Panics
/// When it has not ended after four minutes.
#[track_caller]
pub fn run_in(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = femdd();
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache")).env("PATH", path).args(arguments);
    let ended = finish(command, Duration::from_secs(240));
    assert!(!ended.timed_out, "{arguments:?} hangs:\n{}", ended.text());
    ended
}

/// What ended with code 0.
#[track_caller]
pub fn succeeds(ended: Ended) -> Ended {
    assert_eq!(ended.code(), 0, "{}", ended.text());
    ended
}

/// A file of JSON.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{} is not JSON: {e}\n{text}", path.display()))
}

/// A case about to be run.
pub struct Case {
    scratch: Scratch,
    text: String,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    limit: Duration,
}

impl Case {
    /// The case of this text, on one rank and one thread unless told otherwise.
    pub fn new(text: &str) -> Case {
        Case {
            scratch: Scratch::new(),
            text: text.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            limit: Duration::from_secs(120),
        }
    }

    /// Adds arguments of `femdd run`.
    pub fn args<S: Into<OsString> + Clone>(mut self, arguments: &[S]) -> Case {
        self.arguments.extend(arguments.iter().cloned().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Case {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs on that many ranks.
    pub fn ranks(self, n: usize) -> Case {
        self.args(&["--ranks".to_owned(), n.to_string()])
    }

    /// Runs with that many threads a rank.
    pub fn threads(self, n: usize) -> Case {
        self.args(&["--threads".to_owned(), n.to_string()])
    }

    /// Stops the run after that time; 120 s otherwise.
    pub fn limit(mut self, limit: Duration) -> Case {
        self.limit = limit;
        self
    }

    /// Puts a file beside the case, such as its mesh.
    pub fn file(self, name: &str, text: &str) -> Case {
        self.scratch.write(name, text);
        self
    }

    /// The directory that will hold `case.toml` and `case.out`.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs it, whatever comes of it.
    pub fn run(self) -> Ran {
        let path = self.scratch.write("case.toml", &self.text);
        let mut command = femdd();
        command.arg("run").arg(&path);
        let given = |name: &str| self.arguments.iter().any(|a| a == name);
        if !given("--ranks") {
            // Nobody else to give way to: a factorisation polls for messages, and would wait at each poll.
            command.args(["--ranks", "1"]).env("OMPI_MCA_mpi_yield_when_idle", "0");
        }
        if !given("--threads") {
            command.args(["--threads", "1"]);
        }
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let ended = finish(command, self.limit);
        assert!(!ended.timed_out, "still running after {:?}:\n{}\n{}", self.limit, self.text, ended.text());
        let json = std::fs::read_to_string(self.scratch.path().join("case.out/run.json")).ok().map(|text| {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("run.json is not JSON: {e}\n{text}"))
        });
        Ran { ended, json, text: self.text, scratch: self.scratch }
    }

    /// Runs a case that must be solved.
    ///
    /// # Panics
    /// With all that was printed if it was not.
    pub fn solve(self) -> Ran {
        let ran = self.run();
        let status = ran.json.as_ref().map(|j| j["status"].as_str().unwrap_or("?").to_owned());
        assert!(
            ran.ended.code() == 0 && status.as_deref() == Some("solved"),
            "not solved ({status:?}):\n{}\n{}",
            ran.text,
            ran.ended.text()
        );
        ran
    }
}

/// A case that was run, with its directory.
pub struct Ran {
    /// How the command ended.
    pub ended: Ended,
    /// `run.json`, if one was written.
    pub json: Option<Value>,
    /// The case's text.
    pub text: String,
    scratch: Scratch,
}

impl Ran {
    /// The run's directory.
    pub fn out(&self) -> PathBuf {
        self.scratch.path().join("case.out")
    }

    /// `run.json`.
    pub fn report(&self) -> &Value {
        self.json.as_ref().expect("a run leaves run.json")
    }

    /// A number of `run.json` by JSON pointer: `/solver/iterations`.
    pub fn number(&self, pointer: &str) -> f64 {
        let value = self.report().pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no number at {pointer}:\n{:#}", self.report()))
    }

    /// The error in the L2 norm.
    pub fn l2(&self) -> f64 {
        self.number("/errors/l2")
    }

    /// The error in the H1 seminorm.
    pub fn h1(&self) -> f64 {
        self.number("/errors/h1")
    }

    fn named(&self, list: &str, name: &str) -> Vec<f64> {
        let all = self.report()[list].as_array().expect("a list of results");
        let found = all.iter().find(|entry| entry["name"] == name);
        let value = &found.unwrap_or_else(|| panic!("no {list} named {name}:\n{:#}", self.report()))["value"];
        match value.as_array() {
            Some(values) => values.iter().map(|v| v.as_f64().expect("a number")).collect(),
            None => vec![value.as_f64().expect("a number")],
        }
    }

    /// The values of a probe.
    pub fn probe(&self, name: &str) -> Vec<f64> {
        self.named("probes", name)
    }

    /// The values of an integral.
    pub fn integral(&self, name: &str) -> Vec<f64> {
        self.named("integrals", name)
    }
}

/// Runs a case that must be solved, on one rank.
pub fn solve(text: &str) -> Ran {
    Case::new(text).solve()
}

/// The path of a mesh among the tests' meshes, as a case file has it.
pub fn mesh(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meshes").join(name);
    assert!(path.exists(), "there is no {}", path.display());
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Whether everything is to be tested, not only what fits into a minute or two.
pub fn full() -> bool {
    std::env::var_os("FEMDD_TEST_FULL").is_some_and(|v| v == "1")
}
