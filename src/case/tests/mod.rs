//! Tests of the case file. `valid`: what is read, filled in and written back; `problem`,
//! `boundaries` and `numerics`: each kind of error with its message, line and help.

mod boundaries;
mod numerics;
mod problem;
mod valid;

use std::path::Path;

use super::*;

const BOX: &str = "[mesh]\nbox = { size = [1, 1, 1], cells = [4, 4, 4] }\n";

fn parse(text: &str) -> Case {
    parse_set(text, &[])
}

fn parse_set(text: &str, sets: &[&str]) -> Case {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Case::parse(Path::new("dir/bracket.toml"), text, &sets).unwrap_or_else(|e| panic!("{}", e.render()))
}

/// The example of the reference page, all sections.
const FULL: &str = r#"
[case]
format = 1
title = "Bracket \"under\" load"
output = "bracket.out"

[parameters]
load = "2*half"
half = 1.25e6

[mesh]
file = "bracket.msh"
scale = 1e-3
refine = 1

[space]
degree = { displacement = 2 }

[physics]
law = "elasticity"
young = 210e9
poisson_ratio = 0.3
body_force = [0, 0, "-7800*9.81"]

[region.steel]
young = "200e9*(1 + x)"

[boundary.clamp]
displacement = [0, 0, 0]
[boundary.symmetry]
displacement = { n = 0 }
[boundary.supports]
on = ["leg-1", "leg 2", 7]
displacement = { z = 0 }
[boundary.corner]
at = [0, 0, 0]
force = [0, 0, "load"]
[boundary.top]
pressure = "load"
traction = [1, 0, "x"]

[solver]
method = "cg+geneo"
tolerance = 1e-9
max_iterations = 500
backend = "cpu"
petsc = "-ksp_monitor"
overlap = 2
condition_target = 30

[adapt]
estimator = "goal"
goal = "support force"
marking = { fraction = 0.3 }
max_dofs = 500000
tolerance = 1e-3
rebalance = "metis"

[time]
end = 10.0
adaptive = { tolerance = 1e-4, initial = 0.1 }
scheme = "crank-nicolson"

[initial]
value = 0.0

[exact]
displacement = ["x", 0, "sin(t)"]

[[probe]]
name = "stress at the fillet"
at = [0.02, 0.0, 0.006]
field = "stress.zz"

[[integral]]
name = "support force"
over = "clamp"
of = "reaction.z"

[performance]
level = "standard"
jit = false
threads = 4

[output]
fields = ["u", "stress", "von_mises", "rank", "indicator"]
every = 10
checkpoint = { every = "10min", keep = 3 }
"#;

fn errors(text: &str, sets: &[&str]) -> Vec<CaseError> {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    match Case::parse(Path::new("bracket.toml"), text, &sets) {
        Ok(_) => Vec::new(),
        Err(e) => e.errors,
    }
}

/// Asserts that `text` has exactly one error: its line, the text it points at, message, help.
fn check(text: &str, line: usize, span: &str, message: &str, help: &str) {
    let errors = errors(text, &[]);
    assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
    let error = &errors[0];
    assert_eq!(error.message, message, "{text}");
    assert_eq!(error.help.as_deref().unwrap_or(""), help, "{text}");
    assert_eq!(error.line, Some(line), "{text}");
    let (start, end) = error.span.unwrap_or_default();
    assert_eq!(&text[start..end], span, "{text}");
    assert_eq!(error.to_string(), format!("bracket.toml:{line}: {message}"));
    assert!(error.render(text).contains(message.split_whitespace().next().unwrap_or("")));
}

/// A Poisson case on a box; `rest` begins on line 5.
fn poisson(rest: &str) -> String {
    format!("{BOX}[physics]\nlaw = \"poisson\"\n{rest}\n")
}

/// An elastic case on a box; `rest` begins on line 7.
fn elastic(rest: &str) -> String {
    format!("{BOX}[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\n{rest}\n")
}
