//! Cases that are right: what is read, what is filled in, what is written back.

use super::*;

#[test]
fn everything_is_read() {
    let c = parse(FULL);
    assert_eq!((c.name.as_str(), c.title.as_deref()), ("bracket", Some("Bracket \"under\" load")));
    assert_eq!(c.output_dir, Path::new("dir/bracket.out"));
    assert_eq!(c.parameters["load"], 2.5e6);
    assert_eq!(c.mesh.source, MeshSource::File("dir/bracket.msh".into()));
    assert_eq!((c.mesh.scale, c.mesh.refine, c.degree), (1e-3, 1, 2));
    assert_eq!(c.physics.law, Law::Elasticity);
    let force = c.physics.coefficient("body_force").map(|c| c.value.vector(3)).unwrap_or_default();
    assert_eq!(force[2].as_constant(), Some(-7800.0 * 9.81));
    assert_eq!(c.regions[0].on[0].text, "steel");
    assert_eq!(c.regions[0].coefficients[0].value.exprs()[0].text(), "200e9*(1 + x)");
    let headings: Vec<&str> = c.boundaries.iter().map(|b| b.heading.as_str()).collect();
    assert_eq!(headings, ["clamp", "symmetry", "supports", "corner", "top"]);
    let supports: Vec<&str> = c.boundaries[2].on.iter().map(|n| n.text.as_str()).collect();
    assert_eq!(supports, ["leg-1", "leg 2", "7"]);
    let zero = crate::law::expr::Expr::constant(0.0);
    assert_eq!(
        c.boundaries[2].conditions[0].kind,
        ConditionValue::Essential(Essential::Components(vec![None, None, Some(zero.clone())]))
    );
    assert_eq!(c.boundaries[1].conditions[0].kind, ConditionValue::Essential(Essential::Normal(zero)));
    assert_eq!(c.boundaries[3].at, Some(vec![0.0; 3]));
    assert!(c.boundaries[3].on.is_empty());
    assert!(
        matches!(&c.boundaries[4].conditions[0].kind, ConditionValue::Pressure(p) if p.as_constant() == Some(2.5e6))
    );
    assert_eq!(c.boundaries[4].conditions.len(), 2);
    assert_eq!((c.solver.method.as_str(), c.solver.overlap), ("cg+geneo", Some(2)));
    assert_eq!(c.solver.option("condition_target"), Some(30.0));
    let adapt = c.adapt.as_ref().expect("adapt");
    assert_eq!((adapt.estimator, adapt.marking), (Estimator::Goal, Marking::Fraction(0.3)));
    assert_eq!((adapt.max_dofs, adapt.max_steps, adapt.imbalance), (Some(500_000), 20, 1.05));
    let time = c.time.as_ref().expect("time");
    assert_eq!(time.step, Step::Adaptive { tolerance: 1e-4, initial: 0.1 });
    assert_eq!(c.exact.as_ref().map(|e| e.components.len()), Some(3));
    assert_eq!(c.probes[0].field.name(), "stress.zz");
    assert_eq!(c.integrals[0].over.as_ref().map(|n| n.text.as_str()), Some("clamp"));
    assert_eq!((c.performance.jit, c.performance.pool, c.performance.threads), (Some(false), None, Some(4)));
    let checkpoint = Checkpoint { every: Interval::Seconds(600.0), keep: 3 };
    assert_eq!((c.output.every, c.output.checkpoint), (10, Some(checkpoint)));
    assert!(c.check_dimension(3).is_ok());
    assert!(c.is_symmetric());
}

#[test]
fn defaults() {
    let c = parse(&format!("{BOX}[physics]\nlaw = \"poisson\"\n"));
    assert_eq!(c.output_dir, Path::new("dir/bracket.out"));
    assert_eq!((c.degree, c.mesh.scale, c.mesh.refine), (1, 1.0, 0));
    let MeshSource::Box(mesh) = &c.mesh.source else { panic!("a box") };
    assert_eq!((mesh.shape, mesh.origin.as_slice()), (BoxShape::Tetrahedron, &[0.0; 3][..]));
    let values: Vec<Option<f64>> =
        c.physics.coefficients.iter().map(|c| c.value.exprs()[0].as_constant()).collect();
    assert_eq!(values, [Some(1.0), Some(0.0), Some(0.0)]);
    assert_eq!((c.solver.method.as_str(), c.solver.tolerance, c.solver.max_iterations), ("auto", 1e-8, 1000));
    assert_eq!(c.output.fields.iter().map(FieldRef::name).collect::<Vec<_>>(), ["u", "flux"]);
    assert!(c.adapt.is_none() && c.time.is_none() && c.exact.is_none() && c.initial.is_none());
}

#[test]
fn tensors() {
    let head = "[mesh]\nbox = { size = [1, 1], cells = [2, 2], shape = \"quadrilateral\" }\n[physics]\nlaw = \"poisson\"\n";
    let tensor = |text: &str| {
        let c = parse(&format!("{head}diffusion = {text}\n"));
        let value = c.physics.coefficient("diffusion").map(|c| c.value.tensor(2)).unwrap_or_default();
        let at = |e: &crate::law::expr::Expr| e.eval_point([2.0, 0.0, 0.0], 0.0);
        (value.iter().map(|row| row.iter().map(at).collect::<Vec<_>>()).collect::<Vec<_>>(), c.is_symmetric())
    };
    assert_eq!(tensor("\"1 + x\""), (vec![vec![3.0, 0.0], vec![0.0, 3.0]], true));
    assert_eq!(tensor("[1, \"x\"]"), (vec![vec![1.0, 0.0], vec![0.0, 2.0]], true));
    assert_eq!(tensor("[[1, \"x/4\"], [\"x/4\", 2]]"), (vec![vec![1.0, 0.5], vec![0.5, 2.0]], true));
    assert!(!tensor("[[1, 0.5], [0.25, 2]]").1);
}

#[test]
fn set_changes_adds_and_replaces() {
    let text = format!(
        "{BOX}[parameters]\nk = 1\n[physics]\nlaw = \"poisson\"\ndiffusion = \"k\"\n\
         [boundary.\"x-min\"]\nvalue = 0\n[[probe]]\nname = \"p\"\nat = [0, 0, 0]\nfield = \"u\"\n"
    );
    let c = parse_set(
        &text,
        &[
            "parameters.k=3",
            "mesh.box.cells=[2, 3, 4]",
            "solver.method=cg+gamg",
            "solver.tolerance = 1e-5",
            "probe.0.at=[1, 0, 0]",
            "boundary.x-max.value=sin(y)",
            "boundary.\"x-min\".value=\"k\"",
        ],
    );
    assert_eq!(c.physics.coefficients[0].value.exprs()[0].as_constant(), Some(3.0));
    assert!(matches!(&c.mesh.source, MeshSource::Box(b) if b.cells == [2, 3, 4]));
    assert_eq!((c.solver.method.as_str(), c.solver.tolerance), ("cg+gamg", 1e-5));
    assert_eq!(c.probes[0].at, [1.0, 0.0, 0.0]);
    assert_eq!(c.boundaries.len(), 2);
    assert!(
        matches!(&c.boundaries[1].conditions[0].kind, ConditionValue::Essential(Essential::Components(v)) if v[0].as_ref().is_some_and(|e| e.text() == "sin(y)"))
    );
}

/// Every valid case of these tests, for the round trip.
fn valid() -> Vec<String> {
    let law = |law: &str, rest: &str| format!("{BOX}[physics]\nlaw = \"{law}\"\n{rest}");
    vec![
        FULL.to_string(),
        law("poisson", "diffusion = [1, 2, \"3 + x\"]\nsource = \"if(x < 0.5, 1, y^2)\"\n[boundary.\"x-min\"]\nvalue = 1\n[boundary.\"x-max\"]\ninflow = \"t\"\nrobin = { coefficient = 2, ambient = \"sin(x)\" }\n"),
        law("heat", "conductivity = [[2, 1, 0], [1, 2, 0], [0, 0, \"1 + x\"]]\n[time]\nend = 1\nstep = 0.1\n[initial]\ntemperature = \"x\"\n[output]\ncheckpoint = { every = 5 }\n"),
        law("convection-diffusion", "velocity = [1, \"x\", 0]\n[boundary.\"y-min\"]\nperiodic = { with = \"y-max\" }\n[solver]\nmethod = \"gmres+oras\"\nrestart = 50\n"),
        law("elasticity", "young = 1\npoisson_ratio = 0.499\nthermal_expansion = 1e-5\ntemperature = \"x\"\n[boundary.a]\nat = [0, 0, 0]\ndisplacement = { x = 0, y = 0, z = 0 }\n[initial]\nfile = \"a.h5\"\n[exact]\nvalue = 0\n"),
        "[mesh]\nbox = { size = [1, 2], cells = [3, 4], origin = [-1, 0] }\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.5\nplane = \"stress\"\nthickness = \"1 + x\"\n[adapt]\nmarking = { dorfler = 0.7 }\n".to_string(),
        "[mesh]\nbox = { size = [1], cells = [3] }\n[physics]\nlaw = \"poisson\"\ndiffusion = [2]\n".to_string(),
        law("poisson", "[region.inner]\non = \"box\"\nreaction = 3\n[boundary.\"two sides\"]\non = [\"x-min\", \"z-max\"]\nu = \"x\"\n"),
    ]
}

#[test]
fn the_resolved_case_reads_back() {
    for text in valid() {
        let case = parse(&text);
        let resolved = case.resolved();
        let again = Case::parse(Path::new("elsewhere/case.resolved.toml"), &resolved, &[])
            .unwrap_or_else(|e| panic!("{}\n{resolved}", e.render()));
        assert_eq!(again.resolved(), resolved);
        assert_eq!(again.parameters, case.parameters);
        assert_eq!(again.output, case.output);
        assert_eq!(again.performance, case.performance);
        let strip = |c: &Case| -> Vec<(String, Vec<ConditionValue>)> {
            c.boundaries
                .iter()
                .map(|b| {
                    let kinds = b.conditions.iter().map(|c| match &c.kind {
                        // Names carry places, which differ.
                        ConditionValue::Periodic { with } => ConditionValue::Periodic {
                            with: Name { text: with.text.clone(), place: Place::Default },
                        },
                        other => other.clone(),
                    });
                    (b.heading.clone(), kinds.collect())
                })
                .collect()
        };
        assert_eq!(strip(&again), strip(&case));
        let values = |c: &Case| c.physics.coefficients.iter().map(|c| c.value.clone()).collect::<Vec<_>>();
        assert_eq!(values(&again), values(&case));
    }
}

#[test]
fn the_resolved_case_names_every_default() {
    let resolved = parse(&valid()[5]).resolved();
    for line in [
        "format = 1",
        "shape = \"triangle\"",
        "scale = 1.0",
        "degree = 1",
        "plane = \"stress\"",
        "density = 0.0",
        "body_force = 0.0",
        "thickness = \"1 + x\"",
        "method = \"auto\"",
        "tolerance = 1e-8",
        "estimator = \"kelly\"",
        "max_steps = 20",
        "rebalance = \"steal\"",
        "jit = \"auto\"",
        "fields = [\"displacement\", \"stress\", \"von_mises\"]",
    ] {
        assert!(resolved.contains(line), "{line}\n{resolved}");
    }
}

#[test]
fn files_are_looked_for() {
    let directory = std::env::temp_dir().join(format!("femdd-case-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("case.toml");
    let text = "[mesh]\nfile = \"braket.msh\"\n[physics]\nlaw = \"poisson\"\n";
    std::fs::write(&path, text).expect("a file");
    std::fs::write(directory.join("bracket.msh"), "").expect("a file");
    let errors = Case::load(&path, &[]).expect_err("a missing mesh").errors;
    assert!(errors[0].message.ends_with("braket.msh does not exist"), "{}", errors[0].message);
    assert_eq!((errors[0].line, errors[0].help.as_deref()), (Some(2), Some("there is `bracket.msh`")));
    assert!(Case::load(&path, &["mesh.file=bracket.msh".into()]).is_ok());
    let gone = Case::load(&directory.join("none.toml"), &[]).expect_err("no case");
    assert!(gone.errors[0].message.starts_with("the case file cannot be read"));
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn dimension_is_checked_when_it_is_known() {
    let case = parse(FULL);
    let errors = case.check_dimension(2).expect_err("a plane mesh").errors;
    let messages: Vec<&str> = errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`physics.body_force` has 3 components, and the mesh is 2D",
            "`boundary.clamp.displacement` has 3 components, and the mesh is 2D",
            "`boundary.supports.displacement` has a component `z`, and the mesh is 2D",
            "`boundary.corner.at` has 3 coordinates, and the mesh is 2D",
            "`boundary.corner.force` has 3 components, and the mesh is 2D",
            "`boundary.top.traction` has 3 components, and the mesh is 2D",
            "`exact.displacement` has 3 components, and the mesh is 2D",
            "`probe.0.at` has 3 coordinates, and the mesh is 2D",
            "`reaction.z` does not exist on a mesh of dimension 2",
        ]
    );
    assert!(errors.iter().all(|e| e.line.is_some()));
}

#[test]
fn errors_can_be_made_later() {
    let case = parse(FULL);
    let on = &case.boundaries[2].on[0];
    let error = case.error(
        on.place,
        "boundary.supports.on",
        "the mesh has no group `leg-1`",
        Some("did you mean `leg-2`?".into()),
    );
    assert_eq!(error.to_string(), "dir/bracket.toml:33: the mesh has no group `leg-1`");
    let report = error.render(&case.text);
    for part in [
        "the mesh has no group `leg-1`",
        "on = [\"leg-1\", \"leg 2\", 7]",
        "dir/bracket.toml:33",
        "boundary.supports.on",
        "did you mean `leg-2`?",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    assert!(!report.contains('\u{1b}'), "no colours outside a terminal");
}

#[test]
fn the_dimension_fills_in_what_it_decides() {
    let case =
        parse("[mesh]\nfile = \"a.msh\"\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\n");
    assert!(!case.resolved().contains("plane"));
    assert!(!case.resolved_in(3).contains("plane"));
    let plane = case.resolved_in(2);
    assert!(plane.contains("plane = \"strain\"\n") && plane.contains("thickness = 1.0\n"));
}

proptest::proptest! {
    /// A damaged case gives errors that can be shown, or is still a case; nothing panics.
    #[test]
    fn damage_is_an_error_not_a_panic(at in 0..FULL.len(), len in 0..40usize, new in "[-a-z0-9.=\\[\\]{}\"', \n]{0,8}") {
        let floor = |i: usize| (0..=i.min(FULL.len())).rev().find(|i| FULL.is_char_boundary(*i)).unwrap_or(0);
        let text = format!("{}{new}{}", &FULL[..floor(at)], &FULL[floor(at + len)..]);
        if let Err(errors) = Case::parse(Path::new("bracket.toml"), &text, &[]) {
            proptest::prop_assert!(!errors.errors.is_empty());
            proptest::prop_assert!(!errors.render().is_empty());
            for e in &errors.errors {
                proptest::prop_assert!(e.line.is_some() || e.message.starts_with("the case has no"), "{e}");
            }
        }
    }
}

/// The reference page is written by hand; it may not fall behind the schema.
#[test]
fn the_reference_page_names_everything() {
    let page = include_str!("../../../docs/case-format.md");
    let example = page.split("```toml\n").nth(1).and_then(|s| s.split("```").next());
    parse(example.expect("an example"));
    // Words in code, whether alone or in a list of several.
    let code: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let words: Vec<&str> =
        code.iter().flat_map(|c| c.split(|c: char| !c.is_alphanumeric() && !"_-+".contains(c))).collect();
    let resolved = parse(FULL).resolved();
    let mut names: Vec<&str> = WHOLE_METHODS.to_vec();
    names.extend(KRYLOV.iter().chain(&PRECONDITIONERS).map(|(n, _)| *n));
    names.extend(METHOD_KEYS.iter().map(|k| k.name));
    for law in &LAWS {
        names.extend([law.name, law.field]);
        names.extend(law.coefficients.iter().map(|c| c.name));
        names.extend(law.conditions.iter().map(|(n, _)| *n));
    }
    // Keys and sections of a case that uses them all; its parameters are its own.
    names.extend(
        resolved
            .lines()
            .filter_map(|line| line.trim_start_matches('[').split([' ', '.', ']']).next())
            .filter(|key| !["", "half", "load"].contains(key)),
    );
    for name in names {
        assert!(words.contains(&name), "docs/case-format.md does not name `{name}`");
    }
}
