//! The house rules, checked on the sources themselves: which module may use which, who may call PETSc
//! and HDF5, how long a file may be, and that each `unsafe` says why it is sound.
//! It imports nothing. Start at `ORDER`, then at the tests at the end; each rule is a function from a
//! file's text to complaints, so that the rules are tested too.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the root crate. Each may use only those before it.
const ORDER: [&str; 13] = [
    "element", "mesh", "space", "law", "assembly", "solver", "adapt", "output", "case", "run", "library",
    "study", "cli",
];

/// Library crates that only one module may name, and that module.
const DOORS: [(&str, &str); 4] =
    [("petsc", "solver"), ("hdf5", "output"), ("hdf5_metno", "output"), ("hdf5_sys", "output")];

/// The crates of the workspace, and those of it that each may depend on.
const CRATES: [(&str, &[&str]); 4] =
    [("cluster", &[]), ("partition", &["cluster"]), ("petsc", &["cluster"]), ("testing", &[])];

const LONGEST_FILE: usize = 600;

/// A source file: as written, and with comments and literals blanked out (same lines, same columns).
struct Source {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
    code: String,
}

/// A rule that is broken, and where.
#[derive(Debug)]
struct Complaint {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Source {
    fn new(path: impl Into<PathBuf>, text: &str) -> Self {
        Self { path: path.into(), text: text.to_owned(), code: code_only(text) }
    }

    fn complaint(&self, line: usize, message: impl Into<String>) -> Complaint {
        Complaint { path: self.path.clone(), line, message: message.into() }
    }

    /// The 1-based line of a byte of `code`.
    fn line_of(&self, byte: usize) -> usize {
        self.code.as_bytes()[..byte].iter().filter(|&&b| b == b'\n').count() + 1
    }

    /// The module of the root crate that the file belongs to: `None` for lib.rs and main.rs.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src").ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib" && name != "main").then_some(name)
    }

    /// How many modules lie between the file's own scope and the root of its crate.
    fn depth(&self) -> usize {
        let parts = self.path.strip_prefix("src").map_or(0, |p| p.components().count());
        if self.path.ends_with("mod.rs") { parts - 1 } else { parts }
    }
}

/// Replaces comments, strings and character literals by spaces, byte for byte.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        for b in &mut code[i..end] {
            if *b != b'\n' {
                *b = b' ';
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8(code).expect("whole literals and comments are replaced by ASCII")
}

/// The end of the comment or literal that starts at byte `i`; `i` itself if none does.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let rest = &bytes[i..];
    let starts_word = i == 0 || !is_word(bytes[i - 1]);
    let find = |from: usize, what: &[u8]| {
        bytes[from..].windows(what.len()).position(|w| w == what).map_or(bytes.len(), |at| from + at)
    };
    if rest.starts_with(b"//") {
        return find(i, b"\n");
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut at) = (1, i + 2);
        while depth > 0 && at < bytes.len() {
            match &bytes[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
        }
        return at;
    }
    // r"..", br#".."#, cr"..": no escapes, closed by as many # as opened it.
    let raw = match rest {
        [b'r', ..] if starts_word => Some(1),
        [b'b' | b'c', b'r', ..] if starts_word => Some(2),
        _ => None,
    };
    if let Some(skip) = raw {
        let hashes = rest[skip..].iter().take_while(|&&b| b == b'#').count();
        if rest.get(skip + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            return (find(i + skip + hashes + 1, &close) + close.len()).min(bytes.len());
        }
    }
    let quoted = |quote: u8| {
        let mut at = i + 1;
        while at < bytes.len() && bytes[at] != quote {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(bytes.len())
    };
    match rest {
        [b'"', ..] => quoted(b'"'),
        // A character, not a lifetime: escaped, or closed after one character of up to four bytes.
        [b'\'', b'\\', ..] => quoted(b'\''),
        [b'\'', first, ..] => {
            let width = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { i + width + 2 } else { i }
        }
        _ => i,
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The words of a text with their byte positions.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &code[start..at]))
    })
}

/// The names that a path continues with after `code[at..]` = `::`, one for `::name`, several for
/// `::{a, b::c}`; none if no path follows.
fn next_names(code: &str, at: usize) -> Vec<(usize, &str)> {
    let Some(path) = code[at..].trim_start().strip_prefix("::") else { return Vec::new() };
    let from = code.len() - path.trim_start().len();
    if !code[from..].starts_with('{') {
        return words(&code[from..]).take(1).map(|(at, word)| (from + at, word)).collect();
    }
    let (mut names, mut depth, mut expect) = (Vec::new(), 0, false);
    for (at, b) in code.bytes().enumerate().skip(from) {
        match b {
            b'{' => (depth, expect) = (depth + 1, depth == 0),
            b'}' => depth -= 1,
            b',' => expect = depth == 1,
            _ if is_word(b) && expect => {
                names.extend(words(&code[at..]).take(1).map(|(_, word)| (at, word)));
                expect = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Uses of a module right of the file's own, by `crate::` or by enough `super::` to reach the root.
fn module_order(source: &Source) -> Vec<Complaint> {
    let Some(own) = source.module() else { return Vec::new() };
    let place = |name: &str| ORDER.iter().position(|&m| m == name);
    let Some(own_place) = place(own) else {
        return vec![
            source.complaint(1, format!("module {own} has no place in ORDER of tests/architecture.rs")),
        ];
    };
    let mut complaints = Vec::new();
    let mut supers = 0;
    for (at, word) in words(&source.code) {
        supers = if word == "super" { supers + 1 } else { 0 };
        if word != "crate" && (supers == 0 || supers < source.depth()) {
            continue;
        }
        for (name_at, name) in next_names(&source.code, at + word.len()) {
            if place(name).is_some_and(|p| p > own_place) {
                let message = format!("{own} uses {name}, which stands right of it");
                complaints.push(source.complaint(source.line_of(name_at), message));
            }
        }
    }
    complaints
}

/// Uses of PETSc and HDF5 outside the module that is their door, and of `anyhow` outside main.rs.
fn doors(source: &Source) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut previous = "";
    for (at, word) in words(&source.code) {
        let before = source.code[..at].trim_end();
        let continues_path =
            before.ends_with("::") && !before.trim_end_matches("::").trim_end().is_empty() && {
                let head = before.trim_end_matches("::");
                head.bytes().last().is_some_and(is_word)
            };
        let named = !continues_path
            && (source.code[at + word.len()..].trim_start().starts_with("::")
                || previous == "use"
                || previous == "crate");
        if named {
            let door = DOORS.iter().find(|&&(library, _)| library == word);
            if let Some((library, owner)) = door.filter(|(_, owner)| source.module() != Some(owner)) {
                complaints
                    .push(source.complaint(source.line_of(at), format!("only {owner} may use {library}")));
            }
            if word == "anyhow" && source.path != Path::new("src/main.rs") {
                complaints.push(
                    source.complaint(source.line_of(at), "anyhow belongs to main.rs; errors here are enums"),
                );
            }
        }
        previous = word;
    }
    complaints
}

/// A file that says at its top what lives in it, and that can be read in a sitting.
fn shape(source: &Source) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints
            .push(source.complaint(1, "the first line must be `//!`: what lives here, what it may import"));
    }
    let n_lines = source.text.lines().count();
    if n_lines > LONGEST_FILE {
        complaints.push(source.complaint(n_lines, format!("{n_lines} lines; {LONGEST_FILE} at most")));
    }
    complaints
}

/// `unsafe` blocks and impls without a `SAFETY` comment that ends at most three lines above, and unsafe
/// functions whose documentation has no `# Safety` section (nor such a comment).
fn safety(source: &Source) -> Vec<Complaint> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut complaints = Vec::new();
    for (at, _) in words(&source.code).filter(|(_, word)| *word == "unsafe") {
        let after = source.code[at + "unsafe".len()..].trim_start();
        let line = source.line_of(at);
        // `unsafe extern "C" fn` is called by C, and blocks inside it give their reasons; `unsafe fn(` is
        // a type.
        let is_function = after.starts_with("fn ");
        if !is_function && !after.starts_with('{') && !after.starts_with("impl") {
            continue;
        }
        if !has_reason(&lines, line - 1, is_function) {
            let wanted =
                if is_function { "a `# Safety` section" } else { "a `// SAFETY:` comment just above" };
            complaints.push(source.complaint(line, format!("unsafe without {wanted}")));
        }
    }
    complaints
}

/// Whether line `at` (0-based), or a comment that ends within three lines above it, gives the reason.
fn has_reason(lines: &[&str], at: usize, is_function: bool) -> bool {
    let gives = |line: &str| line.contains("SAFETY:") || (is_function && line.contains("# Safety"));
    let in_comment = |line: &str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
    if gives(lines[at]) {
        return true;
    }
    let nearest = (at.saturating_sub(3)..at).rev().find(|&i| in_comment(lines[i]) || gives(lines[i]));
    let Some(nearest) = nearest else { return false };
    gives(lines[nearest])
        || lines[..=nearest].iter().rev().take_while(|line| in_comment(line)).any(|line| gives(line))
}

/// Modules that lib.rs declares out of order or that have no place in it.
fn declarations(lib: &Source) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut last = 0;
    let mut previous = "";
    for (at, word) in words(&lib.code) {
        if previous == "mod" {
            match ORDER.iter().position(|&m| m == word) {
                Some(place) if place >= last => last = place,
                Some(_) => complaints
                    .push(lib.complaint(lib.line_of(at), format!("{word} is declared out of order"))),
                None => {
                    complaints.push(lib.complaint(lib.line_of(at), format!("{word} has no place in ORDER")))
                }
            }
        }
        previous = word;
    }
    complaints
}

/// All Rust sources below a folder of the repository, sorted by path.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push(Source::new(path.strip_prefix(root).expect("below the root"), &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

fn all_sources() -> Vec<Source> {
    ["src", "cluster/src", "partition/src", "petsc/src", "testing/src"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

#[track_caller]
fn assert_none(complaints: Vec<Complaint>) {
    let mut report = String::new();
    for Complaint { path, line, message } in &complaints {
        writeln!(report, "{}:{line}: {message}", path.display()).expect("writing to a string");
    }
    assert!(complaints.is_empty(), "{} complaints\n{report}", complaints.len());
}

#[test]
fn modules_use_only_those_left_of_them() {
    assert_none(sources("src").iter().flat_map(module_order).collect());
}

#[test]
fn modules_are_declared_in_order() {
    let lib = sources("src").into_iter().find(|s| s.path == Path::new("src/lib.rs")).expect("src/lib.rs");
    assert_none(declarations(&lib));
}

#[test]
fn petsc_and_hdf5_have_one_door_each() {
    assert_none(sources("src").iter().flat_map(doors).collect());
}

#[test]
fn files_introduce_themselves_and_are_short() {
    assert_none(all_sources().iter().flat_map(shape).collect());
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    assert_none(all_sources().iter().flat_map(safety).collect());
}

#[test]
fn crates_depend_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, allowed) in CRATES {
        let manifest =
            fs::read_to_string(root.join(name).join("Cargo.toml")).expect("a manifest for each crate");
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            if !line.contains("{ path = \"") {
                continue;
            }
            let dependency = line.split([' ', '=', '.']).next().unwrap_or("");
            // Tests of every crate may use what is there for tests alone.
            assert!(
                allowed.contains(&dependency) || (dependency == "testing" && section == "[dev-dependencies]"),
                "{name}/Cargo.toml: {name} may not depend on {dependency}"
            );
        }
    }
}

/// Lines on which a rule complains about a text.
fn lines_of(rule: fn(&Source) -> Vec<Complaint>, path: &str, text: &str) -> Vec<usize> {
    rule(&Source::new(path, text)).iter().map(|c| c.line).collect()
}

#[test]
fn the_order_rule_sees_every_way_to_name_a_module() {
    let broken = "use crate::element::Cell;\nuse crate::space::Space;\nuse crate::{element::X,\n  law::{self, mesh},\n};\n\
                  fn f() { super::super::run::go(); crate :: cli :: main() }\nuse super::solver;\n";
    assert_eq!(lines_of(module_order, "src/mesh/gmsh.rs", broken), [2, 4, 6, 6]);
    assert_eq!(lines_of(module_order, "src/mesh/mod.rs", "use super::space;"), [1]);
    assert_eq!(lines_of(module_order, "src/case/mod.rs", "use crate::law::expr; // not crate::run"), [0; 0]);
    assert_eq!(lines_of(module_order, "src/main.rs", "use crate::cli;"), [0; 0]);
    assert_eq!(lines_of(module_order, "src/misc/mod.rs", "fn f() {}"), [1]);
    assert_eq!(
        lines_of(declarations, "src/lib.rs", "pub mod mesh;\npub mod element;\npub mod misc;"),
        [2, 3]
    );
}

#[test]
fn the_door_rule_sees_paths_and_imports() {
    let text = "use petsc::Ksp;\nfn f(p: petsc::Vector) {}\nuse hdf5;\nuse crate::solver::petsc::Ksp;\nlet petsc = 1;\n";
    assert_eq!(lines_of(doors, "src/run/mod.rs", text), [1, 2, 3]);
    assert_eq!(lines_of(doors, "src/solver/ksp.rs", text), [3]);
    assert_eq!(lines_of(doors, "src/run/mod.rs", "fn f() -> anyhow::Result<()> {}"), [1]);
    assert_eq!(lines_of(doors, "src/main.rs", "fn f() -> anyhow::Result<()> {}"), [0; 0]);
}

#[test]
fn the_safety_rule_wants_a_reason_nearby() {
    let good = "//! x\n// SAFETY: the pointer lives as long\n// as the mesh does.\nlet a = unsafe { *p };\nlet b = unsafe { *q };\n\
                /// Reads.\n///\n/// # Safety\n/// `p` is valid.\n#[inline]\npub unsafe fn read(p: *const u8) {}\n\
                type F = (unsafe extern \"C\" fn(i32), unsafe fn(i32));\nunsafe extern \"C\" fn called_by_c() {}\nlet s = \"unsafe {\"; // unsafe {\n";
    assert_eq!(lines_of(safety, "src/assembly/scatter.rs", good), [0; 0]);
    let broken = "//! x\n// Fast.\nlet a = unsafe { *p };\nunsafe impl Send for A {}\npub unsafe fn f() {}\n// SAFETY: no\n\n\n\nunsafe { g() }\n";
    assert_eq!(lines_of(safety, "src/assembly/scatter.rs", broken), [3, 4, 5, 10]);
}

#[test]
fn the_shape_rule_counts_lines() {
    assert_eq!(lines_of(shape, "src/mesh/mod.rs", "use std::fs;\n"), [1]);
    let long = format!("//! x\n{}", "\n".repeat(LONGEST_FILE));
    assert_eq!(lines_of(shape, "src/mesh/mod.rs", &long), [LONGEST_FILE + 1]);
}

#[test]
fn literals_and_comments_are_not_code() {
    let text = "a /* b /* c */ d */ e \"f\\\"g\" 'h' '\\'' r#\"i\"j\"# b'k' 'l: loop {} '\u{e9}' m // n\no";
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    let left: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(left, ["a", "e", "b", "'l:", "loop", "{}", "m", "o"]);
}
