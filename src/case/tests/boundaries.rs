//! Errors in regions and boundary conditions.

use super::*;

#[test]
fn regions() {
    check(
        &poisson("[region.box]\nsource = 1\nvelocity = 2"),
        7,
        "velocity",
        "there is no key `velocity` in `[region.box]`",
        "the keys are `on`, `diffusion`, `reaction`, `source`",
    );
    check(
        &poisson("[region.steel]\nsource = 1"),
        5,
        "steel",
        "a generated box has no region \"steel\"",
        "its one region is \"box\"",
    );
    check(
        &poisson("[region.box]\non = [\"box\"]"),
        5,
        "box",
        "`[region.box]` overrides nothing",
        "the coefficients are `diffusion`, `reaction`, `source`",
    );
    check(
        &poisson("[region.box]\ndiffusion = 0"),
        6,
        "0",
        "`region.box.diffusion` must be positive, not 0",
        "",
    );
}

#[test]
fn boundaries() {
    let keys = "the keys are `value`, `u`, `inflow`, `robin`, `periodic`, `on`, `at`";
    let side = |rest: &str| poisson(&format!("[boundary.x-min]\n{rest}"));
    check(&side("pressure = 1"), 6, "pressure", "law `poisson` has no boundary condition `pressure`", keys);
    check(
        &side("vlaue = 1"),
        6,
        "vlaue",
        "there is no boundary condition `vlaue`",
        &format!("did you mean `value`? {keys}"),
    );
    check(
        &side("on = [\"x-min\"]"),
        5,
        "x-min",
        "`[boundary.x-min]` has no condition",
        "the keys are `value`, `u`, `inflow`, `robin`, `periodic`",
    );
    check(&side("value = 1\nu = 2"), 7, "u", "`u` and `value` are the same field", "keep one of them");
    check(
        &side("value = 1\ninflow = 2"),
        7,
        "2",
        "`inflow` has no effect: `[boundary.x-min]` fixes the whole field",
        "keep one of them",
    );
    check(
        &side("value = [1, 2]"),
        6,
        "[1, 2]",
        "`boundary.x-min.value` is a single number: `u` has no components",
        "",
    );
    check(&side("on = []\nvalue = 1"), 6, "[]", "`boundary.x-min.on` names no group", "");
    check(
        &side("on = [true]\nvalue = 1"),
        6,
        "true",
        "`boundary.x-min.on` should be the name of a group, or its tag, not `true`",
        "",
    );
    check(
        &side("on = \"x-mni\"\nvalue = 1"),
        6,
        "\"x-mni\"",
        "a generated 3D box has no side \"x-mni\"",
        "did you mean `x-min`?",
    );
    check(
        &side("on = \"x-min\"\nat = [0, 0, 0]\nvalue = 1"),
        6,
        "on",
        "`[boundary.x-min]` has both `on` and `at`",
        "`on` names groups, `at` a single vertex: keep one",
    );
    check(
        &side("at = [0, 0]\nvalue = 1"),
        5,
        "x-min",
        "`boundary.x-min.at` has 2 coordinates, and the mesh is 3D",
        "",
    );
    check(
        &side("at = [0, 0, 0]\ninflow = 1"),
        7,
        "1",
        "`inflow` acts on facets, and `[boundary.x-min]` is a single vertex",
        "at a vertex only the field's value can be fixed",
    );
    check(
        &side("robin = { coefficient = 1 }"),
        6,
        "{ coefficient = 1 }",
        "`[boundary.x-min.robin]` lacks `ambient`: write `robin = { coefficient = .., ambient = .. }`",
        "",
    );
    check(
        &side("robin = { coefficient = 1, ambient = 2, h = 3 }"),
        6,
        "h",
        "there is no key `h` in `[boundary.x-min.robin]`",
        "the keys are `coefficient`, `ambient`",
    );
    check(&side("robin = 2"), 6, "2", "`boundary.x-min.robin` should be a table, not the number 2", "");
    check(
        &side("periodic = { with = \"y-max\" }"),
        6,
        "\"y-max\"",
        "\"x-min\" cannot be periodic with \"y-max\"",
        "the opposite side is \"x-max\"",
    );
    check(
        &side("periodic = { with = \"x-min\" }"),
        6,
        "\"x-min\"",
        "`x-min` is periodic with itself",
        "name the opposite side",
    );
    check(
        &side("periodic = { with = \"x-max\" }\nvalue = 1"),
        6,
        "{ with = \"x-max\" }",
        "`[boundary.x-min]` is periodic and has other conditions",
        "a periodic side is inside the body: it takes no other condition",
    );
    check(
        &side("periodic = { with = \"x-max\" }").replace("cells = [4", "cells = [2"),
        6,
        "\"x-max\"",
        "a period needs 3 cells across, the box has 2",
        "raise entry 1 of `mesh.box.cells`",
    );
    check(
        &side("periodic = { with = \"x-max\" }\n[boundary.x-max]\ninflow = 3"),
        8,
        "3",
        "`inflow` of `[boundary.x-max]` is on facets that `[boundary.x-min]` makes periodic: they are inside the body",
        "a periodic side takes no other condition: remove one of the two",
    );
    check(
        &side("periodic = { with = \"x-max\" }\n[boundary.\"a b\"]\non = [\"y-min\", \"x-min\"]\nvalue = 3"),
        9,
        "3",
        "`value` of `[boundary.\"a b\"]` is on facets that `[boundary.x-min]` makes periodic: they are inside the body",
        "a periodic side takes no other condition: remove one of the two, or give the value at a vertex (`at`)",
    );
    check(
        &poisson("[boundary]\nvalue = 0"),
        6,
        "value",
        "`boundary.value` should be a table of conditions",
        "begin it with a heading, `[boundary.value]`",
    );
}

#[test]
fn boundaries_of_vectors() {
    let side = |rest: &str| elastic(&format!("[boundary.x-min]\n{rest}"));
    check(
        &side("displacement = 0"),
        8,
        "0",
        "`boundary.x-min.displacement` has a component for each dimension, a single value does not say them",
        "write all, `[0, 0, 0]`, or some, `{ z = 0 }`, or `{ n = 0 }` along the normal",
    );
    check(
        &side("displacement = [0, 0]"),
        8,
        "[0, 0]",
        "`boundary.x-min.displacement` has 2 components, and the mesh is 3D",
        "",
    );
    check(
        &side("displacement = { w = 0 }"),
        8,
        "w",
        "there is no key `w` in `[boundary.x-min.displacement]`",
        "the keys are `x`, `y`, `z`, `n`",
    );
    check(
        &side("displacement = {}"),
        8,
        "{}",
        "`boundary.x-min.displacement` fixes no component",
        "name components: `{ z = 0 }`, or `{ n = 0 }` along the normal",
    );
    check(
        &side("displacement = { n = 0, x = 1 }"),
        8,
        "{ n = 0, x = 1 }",
        "`boundary.x-min.displacement` fixes `n` and single components together",
        "put them under two headings with the same `on`",
    );
    check(
        &side("displacement = [0, 0, 0]\npressure = 1"),
        9,
        "1",
        "`pressure` has no effect: `[boundary.x-min]` fixes the whole field",
        "keep one of them",
    );
    check(
        &side("traction = 1"),
        8,
        "1",
        "`boundary.x-min.traction` is a vector",
        "write an array with one entry a dimension, `[a, b, c]`",
    );
    check(
        &side("force = [1, 0, 0]"),
        8,
        "[1, 0, 0]",
        "`force` is a point load, and `[boundary.x-min]` is not a point",
        "give `at = [x, y, z]`, or `traction` for a force per area",
    );
    check(
        &side("at = [0, 0, 0]\npressure = 1"),
        9,
        "1",
        "`pressure` acts on facets, and `[boundary.x-min]` is a single vertex",
        "a point load is `force = [..]`",
    );
    check(
        &side("at = [0, 0, 0]\ndisplacement = { n = 0 }"),
        9,
        "{ n = 0 }",
        "a single vertex has no normal",
        "",
    );
    let plane =
        side("displacement = { z = 0 }").replace("[1, 1, 1]", "[1, 1]").replace("[4, 4, 4]", "[4, 4]");
    check(
        &plane,
        8,
        "{ z = 0 }",
        "`boundary.x-min.displacement` has a component `z`, and the mesh is 2D",
        "",
    );
    assert!(errors(&side("displacement = { z = 0 }\npressure = 1"), &[]).is_empty());
    assert!(
        errors(&side("inflow = 1"), &[])[0]
            .message
            .contains("law `elasticity` has no boundary condition `inflow`")
    );
}
