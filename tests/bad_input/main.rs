//! What a user gets for each thing that can be wrong, on 1 rank and on 4.
//!
//! Every refusal says what was wrong, where, and what to do; says it once, whatever the number of ranks; ends
//! every rank within the time limit and with its exit code; and stands in `run.json`. Start at [`Bad`]; meshes
//! that are wrong are written by [`msh::Msh`].
//!
//! `case_file`, `mesh_file`, `problem` and `machine` have what is wrong.

#[path = "../common/mod.rs"]
mod common;

mod case_file;
mod machine;
mod mesh_file;
mod msh;
mod problem;

use std::time::Duration;

use common::{Ended, Scratch, femdd, finish};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A case that must be refused, and what must be said of it.
struct Bad {
    text: String,
    files: Vec<(&'static str, Vec<u8>)>,
    arguments: Vec<&'static str>,
    code: i32,
    says: Vec<String>,
    kind: &'static str,
    key: Option<&'static str>,
    line: Option<usize>,
    file: &'static str,
    reported: bool,
}

/// A run of a case in a directory of its own.
struct Run {
    scratch: Scratch,
    ended: Ended,
    report: Option<Value>,
}

fn run(text: &str, files: &[(&'static str, Vec<u8>)], arguments: &[&str], ranks: usize) -> Run {
    let scratch = Scratch::new();
    let path = scratch.write("case.toml", text);
    for (name, bytes) in files {
        let file = scratch.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("makes a directory");
        std::fs::write(file, bytes).expect("writes a file");
    }
    let mut command = femdd();
    if ranks == 1 {
        command.arg("run").arg(&path).args(["--ranks", "1"]);
    } else {
        // As a user of a cluster does: the launcher is not femdd's.
        command = testing::under_mpirun(&command, ranks);
        command.arg(&path);
    }
    command.args(["--threads", "1"]).args(arguments);
    let ended = finish(command, LIMIT);
    let report = std::fs::read_to_string(scratch.path().join("case.out/run.json")).ok();
    let report = report.map(|text| serde_json::from_str(&text).expect("run.json is JSON"));
    Run { scratch, ended, report }
}

/// Text as a person reads it: without frames of boxes and the breaks of lines.
fn plain(text: &str) -> String {
    let boxes = |c: char| ('\u{2500}'..='\u{257f}').contains(&c) || c == '\u{b7}' || c == '\u{d7}';
    text.split(|c: char| c.is_whitespace() || boxes(c))
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

impl Bad {
    /// A case that is refused with code 2 and with these words, of which the first are its reason.
    fn new(text: &str, says: &[&str]) -> Bad {
        Bad {
            text: text.to_owned(),
            files: Vec::new(),
            arguments: Vec::new(),
            code: 2,
            says: says.iter().map(|&s| s.to_owned()).collect(),
            kind: "case",
            key: None,
            line: None,
            file: "case.toml",
            reported: true,
        }
    }

    fn with(mut self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Bad {
        self.files.push((name, bytes.into()));
        self
    }

    fn arguments(mut self, arguments: &[&'static str]) -> Bad {
        self.arguments.extend(arguments);
        self
    }

    fn code(mut self, code: i32) -> Bad {
        self.code = code;
        self
    }

    fn kind(mut self, kind: &'static str) -> Bad {
        self.kind = kind;
        self
    }

    /// The key to blame.
    fn key(mut self, key: &'static str) -> Bad {
        self.key = Some(key);
        self
    }

    /// The line of the case on which this text begins; it is shown, too.
    fn line_of(mut self, text: &str) -> Bad {
        let at = self.text.find(text).unwrap_or_else(|| panic!("no {text} in the case"));
        self.line = Some(self.text[..at].matches('\n').count() + 1);
        let line = self.line.expect("set above");
        self.says.push(format!("case.toml:{line}:"));
        self
    }

    /// The file to blame, if it is not the case, and the line in it.
    fn in_file(mut self, file: &'static str, line: Option<usize>) -> Bad {
        self.file = file;
        self.line = line;
        self
    }

    /// Refused before there is a place for a report: the case names no directory one could trust.
    fn unreported(mut self) -> Bad {
        self.reported = false;
        self
    }

    /// Runs it on 1 rank and on 4 and checks all that must hold of a refusal.
    fn refused(self) {
        for ranks in [1, 4] {
            self.refused_on(ranks);
        }
    }

    fn refused_on(&self, ranks: usize) -> Run {
        let run = run(&self.text, &self.files, &self.arguments, ranks);
        let shown = format!("{ranks} ranks\n{}\n{}\n{:#?}", self.text, run.ended.text(), run.report);
        assert!(!run.ended.timed_out, "hangs: {shown}");
        assert_eq!(run.ended.code(), self.code, "{shown}");
        let printed = plain(&format!("{}\n{}", run.ended.stderr, run.ended.stdout));
        for words in &self.says {
            assert!(printed.contains(words.as_str()), "does not say {words:?}: {shown}");
        }
        let times = printed.matches(self.says[0].as_str()).count();
        assert_eq!(times, 1, "says {:?} {times} times: {shown}", self.says[0]);
        clean(&run.ended, &shown);
        if !self.reported {
            assert!(run.report.is_none(), "left a report: {shown}");
            return run;
        }
        let report = run.report.as_ref().unwrap_or_else(|| panic!("no run.json: {shown}"));
        let error = &report["error"];
        let status = if self.code == 1 { "not-converged" } else { "failed" };
        assert_eq!(report["status"], status, "{shown}");
        assert_eq!(report["ranks"], ranks, "{shown}");
        assert_eq!(error["kind"], self.kind, "{shown}");
        let message = plain(error["message"].as_str().unwrap_or_default());
        assert!(message.contains(&self.says[0]), "the report does not say {:?}: {shown}", self.says[0]);
        assert_eq!(error["key"].as_str(), self.key, "{shown}");
        assert_eq!(error["line"].as_u64(), self.line.map(|l| l as u64), "{shown}");
        let file = error["file"].as_str().unwrap_or_default();
        assert!(file.ends_with(self.file), "{file} is to blame, not {}: {shown}", self.file);
        run
    }
}

/// Nothing of what a program prints when it breaks.
fn clean(ended: &Ended, shown: &str) {
    for sign in ["panicked", "HDF5-DIAG", "PETSC ERROR", "MPI_ABORT", "Segmentation"] {
        let printed = ended.stderr.contains(sign) || ended.stdout.contains(sign);
        assert!(!printed, "prints {sign}: {shown}");
    }
}

/// A case that must be solved all the same, on 1 rank and on 4.
fn solved(text: &str, arguments: &[&str], check: impl Fn(&Value)) {
    for ranks in [1, 4] {
        let run = run(text, &[], arguments, ranks);
        let shown = format!("{ranks} ranks\n{text}\n{}\n{:#?}", run.ended.text(), run.report);
        assert!(!run.ended.timed_out && run.ended.code() == 0, "{shown}");
        clean(&run.ended, &shown);
        check(run.report.as_ref().expect("a report"));
    }
}

/// A scalar problem on a square, with this in place of its boundary conditions.
fn square(rest: &str) -> String {
    format!(
        "[mesh]\nbox = {{ size = [1, 1], cells = [4, 4] }}\n\n[physics]\nlaw = \"poisson\"\nsource = 1\n\n{rest}"
    )
}

/// One that is sound, with more.
fn square_held(rest: &str) -> String {
    square(&format!("[boundary.x-min]\nvalue = 0\n\n{rest}"))
}

/// An elastic block, with this in place of its boundary conditions.
fn block(rest: &str) -> String {
    format!(
        "[mesh]\nbox = {{ size = [2, 1, 1], cells = [4, 2, 2] }}\n\n[physics]\nlaw = \"elasticity\"\nyoung = 1\n\
         poisson_ratio = 0.3\n\n{rest}"
    )
}

/// A scalar problem on a mesh file.
fn on_mesh(rest: &str) -> String {
    format!("[mesh]\nfile = \"mesh.msh\"\n\n[physics]\nlaw = \"poisson\"\nsource = 1\n\n{rest}")
}

/// The bytes of one of the tests' meshes.
fn stored(name: &str) -> Vec<u8> {
    std::fs::read(common::mesh(name)).expect("reads a mesh")
}
