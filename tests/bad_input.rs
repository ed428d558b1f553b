//! What a user gets for each thing that can be wrong, on 1 rank and on 4.
//!
//! Every refusal says what was wrong, where, and what to do; says it once, whatever the number of ranks; ends
//! every rank within the time limit and with its exit code; and stands in `run.json`. Start at [`Bad`]; meshes
//! that are wrong are written by [`msh::Msh`].

mod common;
mod msh;

use std::process::Command;
use std::time::Duration;

use common::{Ended, Scratch, femdd, finish};
use msh::Msh;
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
        command = under_mpirun(&command, ranks);
        command.arg(&path);
    }
    command.args(["--threads", "1"]).args(arguments);
    let ended = finish(command, LIMIT);
    let report = std::fs::read_to_string(scratch.path().join("case.out/run.json")).ok();
    let report = report.map(|text| serde_json::from_str(&text).expect("run.json is JSON"));
    Run { scratch, ended, report }
}

/// The same program and environment under `mpirun`.
fn under_mpirun(command: &Command, ranks: usize) -> Command {
    let mut launcher = Command::new("mpirun");
    for (name, value) in command.get_envs() {
        launcher.env(name, value.expect("only set, never removed"));
    }
    launcher.args(["--oversubscribe", "-n", &ranks.to_string()]).arg(command.get_program());
    launcher
}

/// Text as a person reads it: without frames of boxes and the breaks of lines.
fn plain(text: &str) -> String {
    let boxes = |c: char| ('\u{2500}'..='\u{257f}').contains(&c) || c == '\u{b7}' || c == '\u{d7}';
    text.split(|c: char| c.is_whitespace() || boxes(c)).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
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

#[test]
fn case_file_that_does_not_read() {
    Bad::new("[mesh\n", &["TOML", "case.toml:1:"]).unreported().refused();
    let unknown = square_held("[solver]\ntolerence = 1e-6\n");
    Bad::new(&unknown, &["there is no key `tolerence`", "did you mean `tolerance`?"])
        .line_of("tolerence")
        .unreported()
        .refused();
    let broken = square_held("").replace("source = 1", "source = \"2*(x + \"");
    Bad::new(&broken, &["in the expression `2*(x + `"]).line_of("source").unreported().refused();
    let variable = square_held("").replace("source = 1", "source = \"2*w\"");
    Bad::new(&variable, &["`w`"]).line_of("source").unreported().refused();
    Bad::new(&square_held("[space]\ndegree = 9\n"), &["`space.degree` "]).line_of("degree").unreported().refused();
}

#[test]
fn command_line_that_does_not_fit() {
    let set = Bad::new(&square_held(""), &["--set physics.sourc=2", "did you mean `source`?"]);
    set.arguments(&["--set", "physics.sourc=2"]).unreported().refused();
    let nothing = Bad::new(&square_held(""), &["unexpected argument '--no-such-flag'"]);
    nothing.arguments(&["--no-such-flag"]).unreported().refused_on(1);
    let restart = Bad::new(&square_held(""), &["--restart is not supported yet"]);
    restart.arguments(&["--restart", "checkpoint-1.h5"]).unreported().refused_on(1);
}

#[test]
fn dimension_that_does_not_fit() {
    let flat = "[mesh]\nbox = { size = [1, 1], cells = [4, 4] }\n[physics]\nlaw = \"elasticity\"\nyoung = 1\n\
                poisson_ratio = 0.3\n[boundary.x-min]\ndisplacement = { z = 0 }\n";
    Bad::new(flat, &["has a component `z`, and the mesh is 2D"]).line_of("displacement").unreported().refused();
    // Of a mesh file only the mesh knows.
    let text = on_mesh("[boundary.left]\nvalue = 0\n[[probe]]\nname = \"far\"\nat = [0, 0, 0]\nfield = \"u\"\n");
    Bad::new(&text, &["has 3 coordinates, and the mesh is 2D"]).with("mesh.msh", Msh::square(3).text()).key("probe.0.at").line_of("at = ").refused();
}

#[test]
fn mesh_file_that_is_not_there() {
    Bad::new(&on_mesh("[boundary.left]\nvalue = 0\n"), &["mesh.msh does not exist", "there is `mesh-1.msh`"])
        .with("mesh-1.msh", Msh::square(3).text())
        .line_of("file")
        .unreported()
        .refused();
}

#[test]
fn mesh_file_cut_short() {
    let ascii: String = Msh::square(3).text().lines().take(20).map(|l| format!("{l}\n")).collect();
    let text = on_mesh("[boundary.left]\nvalue = 0\n");
    let cut = |bytes: Vec<u8>| Bad::new(&text, &["mesh.msh", "was cut short"]).with("mesh.msh", bytes).kind("mesh").key("mesh.file");
    cut(ascii.clone().into_bytes()).in_file("mesh.msh", Some(21)).refused();
    for name in ["variants/tet4-22-binary.msh", "variants/tet4-41-binary.msh"] {
        let bytes = stored(name);
        let half = bytes[..bytes.len() / 2].to_vec();
        // Counts are compared with the size of the file before anything else.
        let bad = Bad::new(&text, &["mesh.msh, byte"]).with("mesh.msh", half).kind("mesh").key("mesh.file");
        bad.in_file("mesh.msh", None).refused();
    }
}

#[test]
fn mesh_file_of_another_kind() {
    let text = on_mesh("[boundary.left]\nvalue = 0\n");
    let other = || Bad::new(&text, &["not a Gmsh mesh", "expected $MeshFormat"]).kind("mesh").key("mesh.file").in_file("mesh.msh", None);
    other().with("mesh.msh", "solid cube\nfacet normal 0 0 1\n").refused();
    other().with("mesh.msh", vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 0]).refused();
    other().with("mesh.msh", "").refused();
    let version = Msh::square(3).text().replacen("2.2 0 8", "1.0 0 8", 1);
    Bad::new(&text, &["only 2.2 and 4.1 are read", "gmsh -save -format msh41"])
        .with("mesh.msh", version)
        .kind("mesh")
        .key("mesh.file")
        .in_file("mesh.msh", None)
        .refused();
}

#[test]
fn mesh_file_with_absurd_counts() {
    let text = on_mesh("[boundary.left]\nvalue = 0\n");
    let good = Msh::square(3).text();
    let ascii = good.replacen("$Nodes\n16\n", "$Nodes\n987654321987654\n", 1);
    assert_ne!(ascii, good);
    let line = good.lines().position(|l| l == "$Nodes").expect("a section") + 2;
    let mut binary = stored("variants/tet4-41-binary.msh");
    let at = binary.windows(7).position(|w| w == b"$Nodes\n").expect("a section") + 7;
    // numEntityBlocks, numNodes: 64 bits each.
    binary[at + 8..at + 16].copy_from_slice(&(1u64 << 50).to_le_bytes());
    let cases = [(ascii.into_bytes(), Some(line)), (binary, None)];
    for (bytes, line) in cases {
        let bad = Bad::new(&text, &["do not fit"]).with("mesh.msh", bytes).kind("mesh").key("mesh.file").in_file("mesh.msh", line);
        for ranks in [1, 4] {
            let run = bad.refused_on(ranks);
            let memory = run.report.expect("checked above")["memory_mb"]["max_rank"].as_f64().expect("a number");
            assert!(memory < 1000.0, "took {memory} MiB for a small file");
        }
    }
}

#[test]
fn names_that_the_mesh_does_not_have() {
    let mesh = || Msh::square(3).text();
    let text = on_mesh("[boundary.walls]\non = [\"left\", \"rihgt\"]\nvalue = 0\n");
    Bad::new(&text, &["the mesh has no group \"rihgt\"", "did you mean \"right\"?"])
        .with("mesh.msh", mesh())
        .key("boundary.walls")
        .line_of("on =")
        .refused();
    let text = on_mesh("[region.boddy]\ndiffusion = 2\n[boundary.left]\nvalue = 0\n");
    Bad::new(&text, &["the mesh has no group \"boddy\"", "did you mean \"body\"?"])
        .with("mesh.msh", mesh())
        .key("region.boddy")
        .line_of("[region.boddy]")
        .refused();
    let text = on_mesh("[boundary.left]\nvalue = 0\n[[integral]]\nname = \"all\"\nover = \"bod\"\nof = \"u\"\n");
    Bad::new(&text, &["the mesh has no group \"bod\"", "did you mean \"body\"?"])
        .with("mesh.msh", mesh())
        .key("integral.over")
        .line_of("over")
        .refused();
    let text = on_mesh("[boundary.body]\nvalue = 0\n");
    Bad::new(&text, &["\"body\" is a group of cells", "use [region]"])
        .with("mesh.msh", mesh())
        .key("boundary.body")
        .line_of("[boundary.body]")
        .refused();
    let mut empty = Msh::square(3);
    empty.names.push((1, 9, "nowhere"));
    let text = on_mesh("[boundary.left]\nvalue = 0\n[boundary.nowhere]\nvalue = 1\n");
    Bad::new(&text, &["\"nowhere\" matches no part of the mesh"])
        .with("mesh.msh", empty.text())
        .key("boundary.nowhere")
        .line_of("[boundary.nowhere]")
        .refused();
}

#[test]
fn points_that_the_mesh_does_not_have() {
    let text = square("[boundary.corner]\nat = [0.3, 0]\nvalue = 0\n");
    Bad::new(&text, &["the mesh has no vertex at (0.3, 0)", "the nearest one is at (0.25, 0)"])
        .key("boundary.corner.at")
        .line_of("[boundary.corner]")
        .refused();
    let text = square_held("[[probe]]\nname = \"far\"\nat = [3, 0.5]\nfield = \"u\"\n");
    Bad::new(&text, &["probe \"far\" at (3.000000000, 0.500000000) lies outside the mesh", "(1.000000000, 0.500000000)"])
        .key("probe.at")
        .line_of("at = [3")
        .refused();
}

#[test]
fn expressions_that_are_no_number_somewhere() {
    let text = square_held("").replace("source = 1", "source = \"log(x - 0.5)\"");
    Bad::new(&text, &["physics.source = \"log(x - 0.5)\" is NaN at ("]).kind("expression").key("physics.source").line_of("source").refused();
    let text = square_held("").replace("source = 1", "diffusion = \"1/floor(x + 0.5)\"");
    Bad::new(&text, &["physics.diffusion = \"1/floor(x + 0.5)\" is inf at ("])
        .kind("expression")
        .key("physics.diffusion")
        .line_of("diffusion")
        .refused();
    let text = square("[boundary.y-min]\nvalue = \"sqrt(x - 0.5)\"\n");
    Bad::new(&text, &["boundary.y-min.value = \"sqrt(x - 0.5)\" is NaN at ("])
        .kind("expression")
        .key("boundary.y-min.value")
        .line_of("value")
        .refused();
    let text = square_held("[boundary.y-min]\ninflow = \"sqrt(x - 0.5)\"\n");
    Bad::new(&text, &["boundary.y-min.inflow = \"sqrt(x - 0.5)\" is NaN at ("])
        .kind("expression")
        .key("boundary.y-min.inflow")
        .line_of("inflow")
        .refused();
    // Only the rank that owns the vertex sees this one.
    let text = block("[boundary.x-min]\ndisplacement = 0\n[boundary.tip]\nat = [2, 1, 1]\nforce = [\"sqrt(-x)\", 0, 0]\n")
        .replace("displacement = 0", "displacement = [0, 0, 0]");
    Bad::new(&text, &["boundary.tip.force = \"sqrt(-x)\" is NaN at (2, 1, 1)"])
        .kind("expression")
        .key("boundary.tip.force")
        .line_of("force")
        .refused();
    let text = square_held("[exact]\nvalue = \"log(x - 0.5)\"\n");
    Bad::new(&text, &["exact.value = \"log(x - 0.5)\" is NaN at ("])
        .kind("expression")
        .key("exact.value")
        .line_of("value = \"log")
        .refused();
}

#[test]
fn cells_that_are_turned_inside_out() {
    let text = on_mesh("[boundary.left]\nvalue = 0\n");
    let refuse = |mesh: Msh, says: &[&str]| {
        Bad::new(&text, says).with("mesh.msh", mesh.text()).kind("mesh").key("mesh.file").in_file("mesh.msh", None).refused();
    };
    // A node in line with two others of its triangle.
    let mut flat = Msh::square(3);
    let number = flat.cells[0].0;
    let nodes = flat.cells[0].3.clone();
    let (a, b) = (flat.nodes[nodes[0] - 1], flat.nodes[nodes[1] - 1]);
    flat.nodes[nodes[2] - 1] = [0, 1, 2].map(|d| 0.25 * a[d] + 0.75 * b[d]);
    refuse(flat, &[&format!("element {number} "), "volume"]);
    // A quadrilateral whose sides cross.
    let mut crossed = Msh::quadrilaterals(3);
    let number = crossed.cells[4].0;
    crossed.cells[4].3.swap(0, 1);
    refuse(crossed, &[&format!("element {number} "), "tangled"]);
}

#[test]
fn level_that_nothing_fixes() {
    let balanced = square("[[integral]]\nname = \"sum\"\nof = \"u\"\n").replace("source = 1", "source = \"x - 0.5\"");
    solved(&balanced, &[], |report| {
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("no condition fixes the level of u"), "{warnings}");
        let sum = report["integrals"][0]["value"].as_f64().expect("a number");
        assert!(sum.abs() < 1e-9, "the mean is {sum}, not zero");
    });
    Bad::new(&square(""), &["nothing fixes the level of u", "do not balance", "give a value somewhere"])
        .kind("incompatible")
        .key("boundary")
        .line_of("[physics]")
        .refused();
}

#[test]
fn bodies_that_can_move() {
    Bad::new(&block(""), &["the body is not held", "translation along x", "rotation about z", "add displacement conditions"])
        .kind("supports")
        .key("boundary")
        .line_of("[physics]")
        .refused();
    // A hinge: it turns about z.
    let hinge = block("[boundary.a]\nat = [0, 0, 0]\ndisplacement = [0, 0, 0]\n[boundary.b]\nat = [0, 0, 1]\ndisplacement = [0, 0, 0]\n");
    Bad::new(&hinge, &["the body is not held: ", "rotation about z free"])
        .kind("supports")
        .key("boundary")
        .line_of("[physics]")
        .refused();
    let text = "[mesh]\nfile = \"mesh.msh\"\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\n\
                [boundary.left]\ndisplacement = [0, 0]\n";
    Bad::new(text, &["of 2: ", "translation along x", "translation along y", "rotation in the plane"])
        .with("mesh.msh", Msh::two_squares(3).text())
        .kind("supports")
        .key("boundary")
        .line_of("[physics]")
        .refused();
}

#[test]
fn loads_inside_the_body() {
    for condition in ["inflow = 1", "robin = { coefficient = 1, ambient = 0 }"] {
        let text = on_mesh(&format!("[boundary.left]\nvalue = 0\n[boundary.middle]\n{condition}\n"));
        let key = if condition.starts_with("inflow") { "boundary.middle.inflow" } else { "boundary.middle.robin" };
        Bad::new(&text, &["acts on facets inside the body", "outer boundary"])
            .with("mesh.msh", Msh::square(4).text())
            .key(key)
            .line_of(&condition[..6])
            .refused();
    }
    let text = "[mesh]\nfile = \"mesh.msh\"\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\n\
                [boundary.left]\ndisplacement = [0, 0]\n[boundary.middle]\ntraction = [1, 0]\n";
    Bad::new(text, &["acts on facets inside the body"])
        .with("mesh.msh", Msh::square(4).text())
        .key("boundary.middle.traction")
        .line_of("traction")
        .refused();
}

#[test]
fn coefficient_that_is_missing_somewhere() {
    let text = "[mesh]\nfile = \"mesh.msh\"\n[physics]\nlaw = \"elasticity\"\n[region.body]\nyoung = 1\npoisson_ratio = 0.3\n\
                [boundary.left]\ndisplacement = [0, 0]\n[boundary.far]\ndisplacement = [0, 0]\n";
    Bad::new(text, &["young of the cells of other is not given", "under [physics]"])
        .with("mesh.msh", Msh::two_squares(3).text())
        .key("physics.young")
        .line_of("[physics]")
        .refused();
}

#[test]
fn sides_that_do_not_repeat() {
    let few = square("[boundary.x-min]\nperiodic = { with = \"x-max\" }\n").replace("[4, 4]", "[2, 4]");
    Bad::new(&few, &["a period needs 3 cells across, the box has 2"]).line_of("periodic").unreported().refused();
    let text = on_mesh("[boundary.left]\nperiodic = { with = \"right\" }\n");
    Bad::new(&text, &["fewer than 3 cells across the period"])
        .with("mesh.msh", Msh::square(2).text())
        .kind("mesh")
        .key("boundary.left.periodic")
        .line_of("periodic")
        .refused();
    let text = on_mesh("[boundary.left]\nperiodic = { with = \"right\" }\n");
    let mut uneven = Msh::square(4);
    let moved = uneven.nodes.iter().position(|x| *x == [1.0, 0.5, 0.0]).expect("a node on the right");
    uneven.nodes[moved][1] = 0.55;
    Bad::new(&text, &["periodic boundaries \"left\" and \"right\" do not match"])
        .with("mesh.msh", uneven.text())
        .kind("mesh")
        .key("boundary.left.periodic")
        .line_of("periodic")
        .refused();
}

#[test]
fn output_directory_in_the_way() {
    Bad::new(&square_held(""), &["the output directory is not empty", "--output"])
        .with("case.out/notes.txt", "not of femdd")
        .unreported()
        .refused();
    Bad::new(&square_held(""), &["a file of this name is in the way"]).with("case.out", "").code(3).unreported().refused();
    // Not even root makes directories there.
    let text = format!("[case]\noutput = \"/proc/femdd\"\n{}", square_held(""));
    Bad::new(&text, &["/proc/femdd: cannot be written"]).code(3).unreported().refused();
}

/// Runs on 1 rank and 4 in a mount namespace of its own, with a file system of 1 MiB for the output.
#[test]
fn disk_that_is_full() {
    let text = square_held("[output]\nfields = [\"u\", \"flux\", \"grad\"]\n").replace("[4, 4]", "[150, 150]");
    // SAFETY: reads the process's user.
    let root = unsafe { libc::geteuid() } == 0;
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(if root { &["-m"][..] } else { &["-rm"] }).args(["sh", "-c", script, "sh"]);
        command
    };
    let tried = unshare("mount -t tmpfs -o size=1m none /mnt").output();
    if !tried.is_ok_and(|o| o.status.success()) {
        println!("skipped: file systems cannot be mounted here");
        return;
    }
    for ranks in [1, 4] {
        let scratch = Scratch::new();
        let case = scratch.write("case.toml", &text);
        std::fs::create_dir(scratch.path().join("small")).expect("makes a directory");
        let mut command = unshare(
            "mount -t tmpfs -o size=1m none \"$1/small\" || exit 99; directory=$1; shift; \
             \"$@\"; code=$?; cp \"$directory/small/out/run.json\" \"$directory\"; ls \"$directory/small/out\"; exit $code",
        );
        let direct = femdd();
        let inner = if ranks == 1 { femdd() } else { under_mpirun(&direct, ranks) };
        for (name, value) in inner.get_envs() {
            command.env(name, value.expect("only set, never removed"));
        }
        command.arg(scratch.path()).arg(inner.get_program()).args(inner.get_args());
        command.arg(&case).arg("--output").arg(scratch.path().join("small/out")).args(["--threads", "1"]);
        let ended = finish(command, LIMIT);
        let shown = ended.text();
        assert!(!ended.timed_out && ended.code() == 3, "{ranks} ranks: {shown}");
        let printed = plain(&ended.stderr);
        assert_eq!(printed.matches("no space left on the device").count(), 1, "{shown}");
        assert!(printed.contains("solution.hdf") && printed.contains("needed"), "{shown}");
        clean(&ended, &shown);
        let report = std::fs::read_to_string(scratch.path().join("run.json")).expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["error"]["kind"], "disk-full", "{report:#}");
        assert_eq!(report["status"], "failed", "{report:#}");
        assert!(!ended.stdout.contains("solution.hdf"), "half a file is left: {shown}");
    }
}

#[test]
fn solver_that_does_not_suit() {
    let law = "[mesh]\nbox = { size = [1, 1], cells = [4, 4] }\n[physics]\nlaw = \"convection-diffusion\"\nvelocity = [1, 0]\n\
               [boundary.x-min]\nvalue = 0\n[solver]\nmethod = \"cg+boomeramg\"\n";
    Bad::new(law, &["symmetric"]).line_of("method").unreported().refused();
    let unknown = square_held("[solver]\nmethod = \"cg+boomerang\"\n");
    Bad::new(&unknown, &["there is no preconditioner \"boomerang\"", "did you mean \"cg+boomeramg\"?"]).line_of("method").unreported().refused();
    let later = square_held("[solver]\nmethod = \"cg+bddc\"\n");
    Bad::new(&later, &["not supported yet"]).kind("solver").key("solver.method").line_of("method").refused();
}

#[test]
fn solver_that_does_not_converge() {
    let text = square_held(
        "[solver]\nmethod = \"cg+jacobi\"\nmax_iterations = 2\n[[probe]]\nname = \"centre\"\nat = [0.5, 0.5]\nfield = \"u\"\n",
    );
    let bad = Bad::new(&text, &["cg+jacobi did not converge", "after 2 iterations"]).code(1).kind("solver").key("solver").line_of("[solver]");
    for ranks in [1, 4] {
        let run = bad.refused_on(ranks);
        let report = run.report.expect("checked above");
        assert_eq!(report["solver"]["converged"], false);
        assert_eq!(report["solver"]["iterations"], 2);
        // What there is of an answer is written.
        assert!(report["probes"][0]["value"].as_f64().is_some_and(|u| u > 0.0), "{report:#}");
        for name in ["solution.hdf", "probes.csv", "case.resolved.toml"] {
            assert!(run.scratch.path().join("case.out").join(name).is_file(), "no {name}");
        }
    }
}

#[test]
fn petsc_options() {
    // One that nobody asks for does no harm.
    solved(&square_held(""), &["--", "-no_such_option", "3"], |_| ());
    Bad::new(&square_held("[solver]\npetsc = \"-ksp_type no_such_method\"\n"), &["the PETSc options are refused", "no_such_method"])
        .kind("solver")
        .key("solver.petsc")
        .line_of("petsc =")
        .refused();
    Bad::new(&square_held(""), &["the PETSc options `-pc_type no_such_thing` after `--` are refused"])
        .arguments(&["--", "-pc_type", "no_such_thing"])
        .kind("solver")
        .in_file("", None)
        .refused();
}

#[test]
fn what_this_version_does_not_do() {
    let refuse = |rest: &str, key: &'static str, line: &str| {
        Bad::new(&square_held(rest), &["is not supported yet"]).key(key).line_of(line).refused();
    };
    refuse("[adapt]\n", "adapt", "[adapt]");
    refuse("[time]\nend = 1\nstep = 0.1\n", "time", "[time]");
    refuse("[solver]\nbackend = \"gpu\"\n", "solver.backend", "backend");
    refuse("[output]\ncheckpoint = { every = 10 }\n", "output.checkpoint", "checkpoint");
    refuse("[initial]\nvalue = 1\n", "initial", "[initial]");
}
