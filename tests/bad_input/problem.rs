//! What the problem can have wrong: values that are no numbers, bodies that nothing holds, loads inside.

use crate::msh::Msh;
use crate::{Bad, block, on_mesh, solved, square, square_held};

#[test]
fn expressions_that_are_no_number_somewhere() {
    let text = square_held("").replace("source = 1", "source = \"log(x - 0.5)\"");
    Bad::new(&text, &["physics.source = \"log(x - 0.5)\" is NaN at ("])
        .kind("expression")
        .key("physics.source")
        .line_of("source")
        .refused();
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
    let text = block(
        "[boundary.x-min]\ndisplacement = 0\n[boundary.tip]\nat = [2, 1, 1]\nforce = [\"sqrt(-x)\", 0, 0]\n",
    )
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
fn level_that_nothing_fixes() {
    let balanced =
        square("[[integral]]\nname = \"sum\"\nof = \"u\"\n").replace("source = 1", "source = \"x - 0.5\"");
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
    Bad::new(
        &block(""),
        &["the body is not held", "translation along x", "rotation about z", "add displacement conditions"],
    )
    .kind("supports")
    .key("boundary")
    .line_of("[physics]")
    .refused();
    // A hinge: it turns about z.
    let hinge = block(
        "[boundary.a]\nat = [0, 0, 0]\ndisplacement = [0, 0, 0]\n[boundary.b]\nat = [0, 0, 1]\ndisplacement = [0, 0, 0]\n",
    );
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
        let key =
            if condition.starts_with("inflow") { "boundary.middle.inflow" } else { "boundary.middle.robin" };
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
fn a_normal_within_one_region() {
    let text = on_mesh(
        "[boundary.left]\nvalue = 0\n[[integral]]\nname = \"across\"\nover = \"middle\"\nof = \"flux.n\"\n",
    );
    Bad::new(&text, &["`flux.n`", "inside one region has no sign", "as in `flux.x`"])
        .with("mesh.msh", Msh::square(4).text())
        .key("integral.of")
        .line_of("flux.n")
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

/// Whichever heading they stand under: that of the side, of its partner, or of other facets of either.
#[test]
fn conditions_on_periodic_facets() {
    let joined = "[boundary.x-min]\nperiodic = { with = \"x-max\" }\n[boundary.y-min]\nvalue = 0\n";
    for (heading, condition) in [
        ("x-max", "inflow = 1"),
        ("x-max", "robin = { coefficient = 1, ambient = 0 }"),
        ("x-max", "value = 1"),
        ("w", "inflow = 1"),
    ] {
        let on = if heading == "w" { "on = [\"y-max\", \"x-min\"]\n" } else { "" };
        let text = square(&format!("{joined}[boundary.{heading}]\n{on}{condition}\n"));
        let key = format!("boundary.{heading}.{}", condition.split(' ').next().expect("a key"));
        let says = format!(
            "of `[boundary.{heading}]` is on facets that `[boundary.x-min]` makes periodic: they are inside"
        );
        Bad::new(&text, &[&says, "a periodic side takes no other condition: remove one of the two"])
            .key(key.leak())
            .line_of(condition)
            .unreported()
            .refused();
    }
    // A group that only the mesh shows to have a facet of the partner, on one rank of four.
    let mut mesh = Msh::square(4);
    mesh.names.push((1, 5, "part"));
    let facet = mesh.lines.iter().rfind(|line| line.1 == 2).expect("a line of the right side").2;
    mesh.lines.push((1000, 5, facet));
    for condition in ["inflow = 1", "value = 1"] {
        let text = on_mesh(&format!(
            "[boundary.left]\nperiodic = {{ with = \"right\" }}\n[boundary.pin]\nat = [0, 0]\nvalue = 0\n\
             [boundary.part]\n{condition}\n"
        ));
        let key = if condition == "inflow = 1" { "boundary.part.inflow" } else { "boundary.part.value" };
        Bad::new(
            &text,
            &["of `[boundary.part]` is on facets that `[boundary.left]` makes periodic", "remove one"],
        )
        .with("mesh.msh", mesh.text())
        .key(key)
        .line_of(condition)
        .refused();
    }
    // A vertex is no facet: it fixes the level, in 1D too.
    let line = "[mesh]\nbox = { size = [1], cells = [4] }\n[physics]\nlaw = \"poisson\"\nsource = \"x - 0.5\"\n\
                [boundary.x-max]\nperiodic = { with = \"x-min\" }\n[boundary.pin]\nat = [0]\nvalue = 1\n";
    solved(line, &[], |report| assert_eq!(report["warnings"].to_string(), "[]"));
}

/// A load that acts on nothing, because another heading fixes what it acts on, is said to.
#[test]
fn loads_on_what_other_headings_fix() {
    let warnings = |text: &str, wanted: &[&str]| {
        solved(text, &[], |report| {
            let found = report["warnings"].as_array().expect("a list");
            let found: Vec<&str> = found.iter().filter_map(|warning| warning.as_str()).collect();
            assert_eq!(found, wanted, "{text}");
        });
    };
    let inflow = "[boundary.w]\non = [\"x-min\", \"x-max\"]\ninflow = 1\n";
    let said = "`inflow` of `[boundary.w]` has no effect where `[boundary.x-min]` fixes the whole field";
    warnings(&square_held(inflow), &[said]);
    warnings(&square_held(&format!("{inflow}[adapt]\nestimator = \"kelly\"\nmax_steps = 2\n")), &[said]);
    warnings(&square_held(&inflow.replace("inflow = 1", "inflow = 0")), &[]);
    warnings(&square_held(&inflow.replace("\"x-min\", ", "")), &[]);
    let fixed = "[boundary.x-min]\ndisplacement = [0, 0, 0]\n";
    let rollers = "[boundary.a]\non = [\"z-max\"]\ndisplacement = { x = 0, y = 0 }\n";
    let push = "[boundary.z-max]\ntraction = [1, 0, 1]\n";
    warnings(&block(&format!("{fixed}{rollers}{push}")), &[]);
    let level = "[boundary.b]\non = [\"z-max\"]\ndisplacement = { z = 0 }\n";
    warnings(
        &block(&format!("{fixed}{rollers}{push}{level}")),
        &[
            "`traction` of `[boundary.z-max]` has no effect where `[boundary.a]`, `[boundary.b]` fix the whole field",
        ],
    );
}

/// One expression under two headings is one value, though the nodes they share are computed from different cells.
#[test]
fn values_prescribed_twice() {
    let wall = "value = \"sin(1 + 7*x)*exp(3*y)*(1 + z)\"\n";
    let sides = |rest: &str| {
        format!(
            "[mesh]\nbox = {{ size = [1.1, 0.7, 0.9], cells = [3, 3, 3], shape = \"tetrahedron\" }}\n\
             [space]\ndegree = 3\n[physics]\nlaw = \"poisson\"\n{rest}"
        )
    };
    let names = ["x-min", "y-min", "x-max", "z-max"];
    let same: String = names.iter().map(|name| format!("[boundary.{name}]\n{wall}")).collect();
    solved(&sides(&same), &[], |report| assert_eq!(report["warnings"].to_string(), "[]"));
    // What differs is counted, however small it is: the 5 nodes of x-min on y-min in a mesh of degree 1.
    let small = "[boundary.x-min]\nvalue = 1e-13\n[boundary.y-min]\nvalue = 1.001e-13\n";
    let two = "[mesh]\nbox = { size = [1, 1, 1], cells = [4, 4, 4] }\n[physics]\nlaw = \"poisson\"\n";
    solved(&format!("{two}{small}"), &[], |report| {
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("\"5 degrees of freedom are prescribed by two headings"), "{warnings}");
    });
}

/// A reaction that is zero, because nothing is prescribed where it is taken, has no error to estimate.
#[test]
fn goals_that_are_no_reaction() {
    let adapt = "[adapt]\nestimator = \"goal\"\ngoal = \"r\"\nmax_steps = 2\n";
    let all = "[[integral]]\nname = \"r\"\nof = \"reaction\"\n";
    let robin = "[boundary.x-max]\nrobin = { coefficient = 1, ambient = 0 }\n";
    for text in [
        square(&format!("{robin}{adapt}{all}")),
        square_held(&format!("{robin}{adapt}{all}over = \"x-max\"\n")),
    ] {
        Bad::new(
            &text,
            &["the reaction cannot be a goal where nothing prescribes the field", "name another goal"],
        )
        .key("adapt.goal")
        .line_of("goal = \"r\"")
        .refused();
    }
}
