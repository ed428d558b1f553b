//! Errors in what the problem is: sections, parameters, mesh, law, expressions.

use super::*;

#[test]
fn toml_itself() {
    let all = errors("[mesh\nfile = 1", &[]);
    assert_eq!(all.len(), 1);
    assert!(all[0].message.starts_with("not valid TOML: "), "{}", all[0].message);
    assert_eq!(all[0].line, Some(1));
    let all = errors(&poisson("source = 1\nsource = 2"), &[]);
    assert!(all[0].message.contains("duplicate key"), "{}", all[0].message);
    assert_eq!(all[0].line, Some(6));
}

#[test]
fn sections_and_keys() {
    check(
        &poisson("[boundry.a]\nvalue = 0"),
        5,
        "boundry",
        "there is no key `boundry` at the top",
        "did you mean `boundary`?",
    );
    check(
        &poisson("diffusoin = 2"),
        5,
        "diffusoin",
        "there is no key `diffusoin` in `[physics]`",
        "did you mean `diffusion`?",
    );
    check(
        &poisson("young = 2"),
        5,
        "young",
        "there is no key `young` in `[physics]`",
        "the keys are `law`, `diffusion`, `reaction`, `source`",
    );
    check(
        &poisson("[solver]\ntol = 1e-6"),
        6,
        "tol",
        "there is no key `tol` in `[solver]`",
        "did you mean `tolerance`?",
    );
    check(
        &poisson("[nonlinear]\ntolerance = 1"),
        5,
        "nonlinear",
        "`nonlinear` is reserved, not supported yet",
        "",
    );
    check(&poisson("[eigen]\n"), 5, "eigen", "`eigen` is reserved, not supported yet", "");
    check(
        &poisson("mesh = 1").replace("mesh = 1", "[case]\nformat = 2"),
        6,
        "2",
        "`case.format` 2 is not known to this version",
        "it reads format 1",
    );
    check(
        "[mesh]\nfile = \"a\"\ncoordinates = \"axisymmetric\"\n[physics]\nlaw = \"poisson\"\n",
        3,
        "coordinates",
        "`mesh.coordinates` is reserved, not supported yet",
        "",
    );
    let missing = errors("[space]\ndegree = 1\n", &[]);
    let messages: Vec<&str> = missing.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(messages, ["the case has no `[mesh]`", "the case has no `[physics]`"]);
    check(
        &poisson("[solver]\ntolerance = \"abc\"")
            .replace("solver]", "case]")
            .replace("tolerance = \"abc\"", "title = 3"),
        6,
        "3",
        "`case.title` should be a string, not the number 3",
        "",
    );
    check("physics = 3\n[mesh]\nfile = \"a\"\n", 1, "3", "`physics` should be a table, not the number 3", "");
}

#[test]
fn several_errors_at_once_in_file_order() {
    let text = poisson("diffusion = -1\nsorce = 1\n[solver]\nmethod = \"cg+agm\"\ntolerance = 0");
    let lines: Vec<Option<usize>> = errors(&text, &[]).iter().map(|e| e.line).collect();
    assert_eq!(lines, [Some(5), Some(6), Some(8), Some(9)]);
}

#[test]
fn parameters() {
    let case = |p: &str| format!("[parameters]\n{p}\n{}", poisson("source = \"a\""));
    check(
        &case("a = \"b + 1\""),
        2,
        "b",
        "`parameters.a`: in the expression `b + 1`: there is no variable or parameter `b`",
        "known names are x, y, z, t, pi, e",
    );
    check(
        &case("a = 1\nx = 2"),
        3,
        "x",
        "a parameter cannot be named `x`: expressions already know that name",
        "",
    );
    check(
        &case("a = 1\n\"my load\" = 2"),
        3,
        "\"my load\"",
        "a parameter cannot be named `my load`",
        "use letters, digits and `_`, and a letter first: expressions must be able to name it",
    );
    check(
        &case("a = \"2*x\""),
        2,
        "\"2*x\"",
        "`parameters.a` must be the same everywhere, not `2*x`",
        "it may use numbers and parameters, not x y z t",
    );
    check(
        &case("a = \"b\"\nb = \"2*c\"\nc = \"a\""),
        2,
        "\"b\"",
        "parameters depend on each other: a -> b -> c -> a",
        "",
    );
    check(&case("a = [1]"), 2, "[1]", "`parameters.a` should be a number, not an array of 1", "");
    check(&case("a = 1\nb = inf"), 3, "inf", "`parameters.b` must be finite, not inf", "");
}

#[test]
fn mesh() {
    let case = |m: &str| format!("[physics]\nlaw = \"poisson\"\n[mesh]\n{m}\n");
    check(&case("scale = 2"), 3, "mesh", "`[mesh]` lacks `file` or `box`", "");
    check(
        &case("file = \"a\"\nbox = { size = [1], cells = [1] }"),
        5,
        "box",
        "`[mesh]` has both `file` and `box`",
        "keep one of them",
    );
    check(&case("file = \"a\"\nscale = 0"), 5, "0", "`mesh.scale` must be positive, not 0", "");
    check(&case("file = \"a\"\nrefine = -1"), 5, "-1", "`mesh.refine` must be from 0 to 20, not -1", "");
    check(
        &case("file = \"a\"\nrefine = 1.5"),
        5,
        "1.5",
        "`mesh.refine` should be a whole number, not the number 1.5",
        "",
    );
    check(
        &case("box = { size = [1, 1] }"),
        4,
        "box",
        "`[mesh.box]` lacks `cells`: one entry a dimension",
        "",
    );
    check(
        &case("box = { size = [1, 1], cells = [1, 2, 3] }"),
        4,
        "[1, 2, 3]",
        "`mesh.box.cells` has 3 entries, `mesh.box.size` has 2",
        "",
    );
    check(
        &case("box = { size = [1, 1], cells = [1, 0] }"),
        4,
        "0",
        "`mesh.box.cells` must be from 1 to 4294967295, not 0",
        "",
    );
    check(
        &case("box = { size = [1, -1], cells = [1, 1] }"),
        4,
        "-1",
        "`mesh.box.size` must be positive, not -1",
        "",
    );
    check(
        &case("box = { size = [1, 1], cells = [1, 1], shape = \"hexahedron\" }"),
        4,
        "\"hexahedron\"",
        "a box of dimension 2 has no cells of shape `hexahedron`",
        "its shapes are `triangle`, `quadrilateral`",
    );
    check(
        &case("box = { size = [1, 1], cells = [1, 1], shape = \"triangel\" }"),
        4,
        "\"triangel\"",
        "`mesh.box.shape` should be one of `interval`, `triangle`, `quadrilateral`, `tetrahedron`, `hexahedron`, not \"triangel\"",
        "did you mean \"triangle\"?",
    );
    check(
        &case("box = { size = [1, 1, 1, 1], cells = [1, 1, 1, 1] }"),
        4,
        "[1, 1, 1, 1]",
        "`mesh.box.size` should have 1, 2 or 3 entries, not 4",
        "",
    );
}

#[test]
fn space() {
    check(&poisson("[space]\ndegree = 5"), 6, "5", "`space.degree` must be from 1 to 4, not 5", "");
    check(
        &poisson("[space]\ndegree = \"two\""),
        6,
        "\"two\"",
        "`space.degree` should be a whole number, not the string \"two\"",
        "",
    );
    check(
        &poisson("[space]\ndegree = { velocity = 2 }"),
        6,
        "velocity",
        "there is no key `velocity` in `[space.degree]`",
        "the keys are `value`, `u`",
    );
}

#[test]
fn physics() {
    let case = |p: &str| format!("{BOX}[physics]\n{p}\n");
    check(
        &case("diffusion = 1"),
        3,
        "physics",
        "`[physics]` lacks `law`: the laws are `poisson`, `heat`, `convection-diffusion`, `elasticity`",
        "",
    );
    check(
        &case("law = \"elastic\""),
        4,
        "\"elastic\"",
        "`physics.law` should be one of `poisson`, `heat`, `convection-diffusion`, `elasticity`, not \"elastic\"",
        "did you mean \"elasticity\"?",
    );
    check(
        &case("law = \"form\""),
        4,
        "\"form\"",
        "law \"form\" is reserved, not supported yet",
        "the laws are `poisson`, `heat`, `convection-diffusion`, `elasticity`",
    );
    check(
        &case("law = \"elasticity\"\nyoung = 1"),
        3,
        "physics",
        "law `elasticity` needs `poisson_ratio` (Poisson's ratio)",
        "give it under `[physics]`, or in every region",
    );
    check(
        &case("law = \"elasticity\"\nyoung = 0\npoisson_ratio = 0.3"),
        5,
        "0",
        "`physics.young` must be positive, not 0",
        "",
    );
    check(
        &case("law = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.5"),
        6,
        "0.5",
        "`physics.poisson_ratio` must be between -1 and 0.5, both excluded, not 0.5",
        "",
    );
    check(
        &elastic("plane = \"strain\""),
        7,
        "\"strain\"",
        "`plane` belongs to plane problems, and the mesh is 3D",
        "",
    );
    check(&elastic("thickness = 2"), 7, "2", "`thickness` belongs to plane problems, and the mesh is 3D", "");
    check(
        &elastic("body_force = 9.81"),
        7,
        "9.81",
        "`physics.body_force` is a vector, not the single number `9.81`",
        "write an array with one entry a dimension, `[a, b, c]`",
    );
    check(
        &elastic("body_force = [1, 2]"),
        7,
        "[1, 2]",
        "`physics.body_force` has 2 components, and the mesh is 3D",
        "",
    );
    check(
        &elastic("body_force = [[1, 2], [3, 4]]"),
        7,
        "[[1, 2], [3, 4]]",
        "`physics.body_force` is a vector, not a tensor",
        "",
    );
    check(
        &elastic("thermal_expansion = 1e-5"),
        7,
        "1e-5",
        "`thermal_expansion` has no effect without `temperature`",
        "give `temperature` under `[physics]`",
    );
    check(
        &poisson("diffusion = [1, -2, 3]"),
        5,
        "[1, -2, 3]",
        "`physics.diffusion` must be positive, not -2",
        "",
    );
    check(
        &poisson("diffusion = [[1, 2], [3]]"),
        5,
        "[[1, 2], [3]]",
        "`physics.diffusion` should have as many rows as columns, one a dimension",
        "",
    );
    check(
        &poisson("diffusion = [[1, 0], [0, 1]]"),
        5,
        "[[1, 0], [0, 1]]",
        "`physics.diffusion` has 2 rows, and the mesh is 3D",
        "",
    );
    check(
        &poisson("source = [1, 2]"),
        5,
        "[1, 2]",
        "`physics.source` is a single number, not an array of 2",
        "",
    );
    check(
        &poisson("source = true"),
        5,
        "true",
        "`physics.source` should be a number or an expression, not `true`",
        "",
    );
}

#[test]
fn expressions() {
    check(
        &poisson("source = \"2*sni(x)\""),
        5,
        "sni",
        "`physics.source`: in the expression `2*sni(x)`: there is no function `sni`",
        "did you mean `sin`?",
    );
    check(
        &poisson("source = '''2*lod'''"),
        5,
        "lod",
        "`physics.source`: in the expression `2*lod`: there is no variable or parameter `lod`",
        "known names are x, y, z, t, pi, e",
    );
    check(
        &poisson("source = \"1 +\""),
        5,
        "\"",
        "`physics.source`: in the expression `1 +`: the expression ends where a number, a name or `(` should follow",
        "",
    );
    check(
        &poisson("source = \"x < 1\""),
        5,
        "x < 1",
        "`physics.source`: in the expression `x < 1`: `x < 1` is true or false where a number is needed",
        "choose between numbers with `if(condition, a, b)`",
    );
    check(&poisson("source = \"1/0\""), 5, "\"1/0\"", "`physics.source`: the expression `1/0` gives inf", "");
    // With escapes the bytes of the text are not those of the file: the whole string is shown.
    check(
        &poisson("source = \"2*\\u0071\""),
        5,
        "\"2*\\u0071\"",
        "`physics.source`: in the expression `2*q`: there is no variable or parameter `q`",
        "known names are x, y, z, t, pi, e",
    );
}
