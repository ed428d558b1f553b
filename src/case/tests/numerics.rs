//! Errors in how it is solved and what is reported, and in `--set`.

use super::*;

#[test]
fn solver() {
    let case = |s: &str| poisson(&format!("[solver]\n{s}"));
    check(
        &case("method = \"cg+boomramg\""),
        6,
        "\"cg+boomramg\"",
        "there is no preconditioner \"boomramg\"",
        "did you mean \"cg+boomeramg\"?",
    );
    check(
        &case("method = \"gmre+gamg\""),
        6,
        "\"gmre+gamg\"",
        "there is no Krylov method \"gmre\"",
        "did you mean \"gmres+gamg\"?",
    );
    check(
        &case("method = \"cg\""),
        6,
        "\"cg\"",
        "there is no solver method \"cg\"",
        "name a preconditioner too, as in \"cg+boomeramg\"",
    );
    check(
        &case("method = \"drect\""),
        6,
        "\"drect\"",
        "there is no solver method \"drect\"",
        "did you mean \"direct\"?",
    );
    check(
        &case("method = \"cg+ras\""),
        6,
        "\"cg+ras\"",
        "cg needs a symmetric preconditioner, and ras is not",
        "use \"gmres+ras\", or \"auto\"",
    );
    check(
        &case("tolerance = 0"),
        6,
        "0",
        "`solver.tolerance` must be between 0 and 1, both excluded, not 0",
        "",
    );
    check(
        &case("max_iterations = 0"),
        6,
        "0",
        "`solver.max_iterations` must be from 1 to 4294967295, not 0",
        "",
    );
    check(
        &case("backend = \"cuda\""),
        6,
        "\"cuda\"",
        "`solver.backend` should be one of `auto`, `cpu`, `gpu`, not \"cuda\"",
        "",
    );
    check(
        &case("method = \"cg+gamg\"\noverlap = 1"),
        7,
        "overlap",
        "method \"cg+gamg\" does not use `overlap`",
        "it belongs to `asm`, `ras`, `oras`, `geneo`",
    );
    check(
        &case("condition_target = 0.5"),
        6,
        "0.5",
        "`solver.condition_target` must be at least 1, not 0.5",
        "",
    );
    let flow = format!(
        "{BOX}[physics]\nlaw = \"convection-diffusion\"\nvelocity = [1, 0, 0]\n[solver]\nmethod = \"cg+gamg\"\n"
    );
    check(
        &flow,
        7,
        "\"cg+gamg\"",
        "cg needs a symmetric problem, and this one (law `convection-diffusion`) is not",
        "use \"gmres+gamg\", or \"auto\"",
    );
    assert!(errors(&flow.replace("[1, 0, 0]", "[0, 0, 0]"), &[]).is_empty());
}

#[test]
fn adapt_and_time() {
    let adapt = |a: &str| poisson(&format!("[adapt]\n{a}"));
    check(
        &adapt("estimator = \"goal\""),
        5,
        "adapt",
        "the estimator \"goal\" needs `goal`",
        "name a probe or an integral: `goal = \"..\"`",
    );
    check(
        &adapt("goal = \"a\"\n[[integral]]\nname = \"a\"\nof = \"u\""),
        6,
        "goal",
        "`goal` is used by the estimator \"goal\" only",
        "add `estimator = \"goal\"`",
    );
    check(
        &adapt("estimator = \"goal\"\ngoal = \"mean\"\n[[integral]]\nname = \"maen\"\nof = \"u\""),
        7,
        "\"mean\"",
        "there is no probe or integral named \"mean\"",
        "did you mean `maen`?",
    );
    check(
        &adapt("marking = { dorfler = 2 }"),
        6,
        "2",
        "`adapt.marking.dorfler` must be greater than 0 and at most 1, not 2",
        "",
    );
    check(
        &adapt("marking = {}"),
        6,
        "{}",
        "`adapt.marking` should be \"auto\" or have one of `dorfler`, `fraction`",
        "",
    );
    check(&adapt("imbalance = 0.9"), 6, "0.9", "`adapt.imbalance` must be at least 1, not 0.9", "");
    let time = |t: &str| poisson(&format!("[time]\n{t}"));
    check(&time("step = 1"), 5, "time", "`[time]` lacks `end`: the last time", "");
    check(
        &time("end = 1"),
        5,
        "time",
        "`[time]` lacks `step` or `adaptive`",
        "write `step = ..` or `adaptive = { tolerance = .., initial = .. }`",
    );
    check(
        &time("end = 1\nstep = 1\nadaptive = { tolerance = 1, initial = 1 }"),
        8,
        "adaptive",
        "`[time]` has both `step` and `adaptive`",
        "keep one of them",
    );
    check(&time("end = -1\nstep = 1"), 6, "-1", "`time.end` must be after the start, 0, not -1", "");
    check(
        &time("end = 1\nstep = 1\nscheme = \"bdf\""),
        8,
        "\"bdf\"",
        "`time.scheme` should be one of `bdf2`, `backward-euler`, `crank-nicolson`, not \"bdf\"",
        "did you mean \"bdf2\"?",
    );
    check(
        &time("end = 1\nadaptive = { tolerance = 1 }"),
        7,
        "adaptive",
        "`[time.adaptive]` lacks `initial`: the first step",
        "",
    );
}

#[test]
fn initial_and_exact() {
    check(&poisson("[initial]"), 5, "initial", "`[initial]` lacks `value` or `file`", "");
    check(
        &poisson("[initial]\nvalue = 0\nfile = \"a\""),
        7,
        "file",
        "`[initial]` has both `initial.value` and `initial.file`",
        "keep one of them",
    );
    check(&poisson("[exact]"), 5, "exact", "`[exact]` lacks `value`: the exact u", "");
    check(
        &elastic("[exact]\nvalue = \"x\""),
        8,
        "\"x\"",
        "`exact.value` is a vector",
        "write an array with one entry a dimension, `[a, b, c]`",
    );
    check(
        &elastic("[exact]\nvalue = [1, 2]"),
        8,
        "[1, 2]",
        "`exact.value` has 2 components, and the mesh is 3D",
        "",
    );
    check(
        &poisson("[exact]\ntemperature = 1\nvalue = 1"),
        6,
        "temperature",
        "there is no key `temperature` in `[exact]`",
        "the keys are `value`, `u`",
    );
}

#[test]
fn results() {
    let probe = |p: &str| poisson(&format!("[[probe]]\nname = \"a\"\n{p}"));
    check(&probe("field = \"u\""), 5, "[[probe]]", "`[probe.0]` lacks `at`: the point, `[x, y, z]`", "");
    check(
        &probe("at = [0, 0]\nfield = \"u\""),
        7,
        "[0, 0]",
        "`probe.0.at` has 2 coordinates, and the mesh is 3D",
        "",
    );
    check(
        &probe("at = [0, 0, 0]\nfield = \"stress\""),
        8,
        "\"stress\"",
        "law `poisson` has no field `stress`",
        "the fields are u, grad, flux, reaction, indicator, rank",
    );
    check(
        &probe("at = [0, 0, 0]\nfield = \"flux.n\""),
        8,
        "\"flux.n\"",
        "`flux.n` needs a normal, which only a boundary has",
        "ask for it in an `[[integral]]` over a boundary",
    );
    check(
        &probe("at = [0, 0, 0]\nfield = \"reaction\""),
        8,
        "\"reaction\"",
        "`reaction` has no value at a point",
        "it is a sum over constrained nodes: ask for it in an `[[integral]]`",
    );
    check(
        &probe("at = [0, 0, 0]\nfield = \"indicator\""),
        8,
        "\"indicator\"",
        "`indicator` exists only in a case with `[adapt]`",
        "the estimator computes it",
    );
    check(
        &probe("at = [0, 0, 0]\nfield = \"u\"\n[[integral]]\nname = \"a\"\nof = \"u\""),
        10,
        "\"a\"",
        "there are two probes or integrals named \"a\"",
        "",
    );
    check(
        &poisson("[probe]\nname = \"a\""),
        5,
        "probe",
        "`probe` should be an array of tables",
        "begin each with `[[probe]]`",
    );
    check(
        &poisson("[[integral]]\nname = \"a\"\nof = \"flux.n\""),
        7,
        "\"flux.n\"",
        "the integral of `flux.n` needs a boundary",
        "name it: `over = \"..\"`",
    );
    check(
        &poisson("[[integral]]\nname = \"a\"\nof = \"u\"\nover = \"x-mex\""),
        8,
        "\"x-mex\"",
        "there is no region or boundary \"x-mex\"",
        "did you mean `x-max`?",
    );
    check(
        &poisson("[output]\nfields = [\"u\", \"pressure\"]"),
        6,
        "\"pressure\"",
        "law `poisson` has no field `pressure`",
        "the fields are u, grad, flux, reaction, indicator, rank",
    );
    check(&poisson("[output]\nfields = [\"u\", \"value\"]"), 6, "\"value\"", "`u` is written already", "");
    check(&poisson("[output]\nfields = [\"u\", \"u\"]"), 6, "\"u\"", "`u` is written already", "");
    check(
        &poisson("[output]\ncheckpoint = { every = \"10 fortnights\" }"),
        6,
        "\"10 fortnights\"",
        "`output.checkpoint.every` should be a number of steps or a time, not \"10 fortnights\"",
        "write 10, \"90s\", \"10min\", \"1.5h\" or \"1d\"",
    );
    check(
        &poisson("[performance]\njit = 1"),
        6,
        "1",
        "`performance.jit` should be true or false, not the number 1",
        "",
    );
}

#[test]
fn set_arguments() {
    let one = |set: &str| {
        let all = errors(&poisson(""), &[set]);
        assert_eq!(all.len(), 1, "{set}: {all:?}");
        assert_eq!(all[0].flag.as_deref(), Some(set));
        assert_eq!((all[0].line, all[0].span), (None, None));
        assert_eq!(all[0].to_string(), format!("--set {set}: {}", all[0].message));
        assert!(all[0].render("").contains(&format!("--set {set}")));
        (all[0].message.clone(), all[0].help.clone().unwrap_or_default())
    };
    let form = "write `--set key.path=value`, as in `--set solver.tolerance=1e-6`";
    assert_eq!(one("solver.tolerance"), ("no `=` in the argument".into(), form.into()));
    assert_eq!(one("a b=1"), ("`a b` is not a dotted key".into(), form.into()));
    assert_eq!(
        one("solver.tolerance=-1").0,
        "`solver.tolerance` must be between 0 and 1, both excluded, not -1"
    );
    assert_eq!(one("solver.tol=1").1, "did you mean `tolerance`?");
    assert_eq!(one("physics.law.name=1").0, "`physics.law` is not a table");
    assert_eq!(
        one("physics.source=1 +").0,
        "`physics.source`: in the expression `1 +`: the expression ends where a number, a name or `(` should follow"
    );
    let text = format!(
        "[parameters]\nload = 1\n{}",
        poisson("[[probe]]\nname = \"a\"\nat = [0, 0, 0]\nfield = \"u\"")
    );
    assert_eq!(errors(&text, &["load=3"])[0].help.as_deref(), Some("did you mean `parameters.load`?"));
    assert_eq!(errors(&text, &["probe.3.at=[1, 1, 1]"])[0].message, "`probe` needs an index");
    assert!(errors(&text, &["probe.0.at=[1, 1, 1]"]).is_empty());
}

#[test]
fn keys_are_dotted() {
    let text = FULL.replace("pressure = \"load\"", "pressure = \"lod\"");
    let errors = errors(&text, &[]);
    assert_eq!(errors[0].key.as_deref(), Some("boundary.top.pressure"));
    assert_eq!(errors[0].help.as_deref(), Some("did you mean `load`?"));
    let text = poisson("[boundary.\"two words\"]\nvalu = 1");
    let keys: Vec<Option<String>> = super::errors(&text, &[]).into_iter().map(|e| e.key).collect();
    assert!(keys.contains(&Some("boundary.\"two words\".valu".into())), "{keys:?}");
}
