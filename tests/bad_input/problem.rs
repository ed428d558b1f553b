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
fn coefficient_that_is_missing_somewhere() {
    let text = "[mesh]\nfile = \"mesh.msh\"\n[physics]\nlaw = \"elasticity\"\n[region.body]\nyoung = 1\npoisson_ratio = 0.3\n\
                [boundary.left]\ndisplacement = [0, 0]\n[boundary.far]\ndisplacement = [0, 0]\n";
    Bad::new(text, &["young of the cells of other is not given", "under [physics]"])
        .with("mesh.msh", Msh::two_squares(3).text())
        .key("physics.young")
        .line_of("[physics]")
        .refused();
}
