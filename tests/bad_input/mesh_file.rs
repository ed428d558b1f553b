//! What the mesh can have wrong, and names and points that are not in it.

use crate::msh::Msh;
use crate::{Bad, on_mesh, square, square_held, stored};

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
    let cut = |bytes: Vec<u8>| {
        Bad::new(&text, &["mesh.msh", "was cut short"]).with("mesh.msh", bytes).kind("mesh").key("mesh.file")
    };
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
    let other = || {
        Bad::new(&text, &["not a Gmsh mesh", "expected $MeshFormat"])
            .kind("mesh")
            .key("mesh.file")
            .in_file("mesh.msh", None)
    };
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
        let bad = Bad::new(&text, &["do not fit"])
            .with("mesh.msh", bytes)
            .kind("mesh")
            .key("mesh.file")
            .in_file("mesh.msh", line);
        for ranks in [1, 4] {
            let run = bad.refused_on(ranks);
            let memory =
                run.report.expect("checked above")["memory_mb"]["max_rank"].as_f64().expect("a number");
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
    let text =
        on_mesh("[boundary.left]\nvalue = 0\n[[integral]]\nname = \"all\"\nover = \"bod\"\nof = \"u\"\n");
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
fn integrals_over_what_does_not_fit() {
    let integral = |of: &str, over: &str| {
        let rest = format!("[[integral]]\nname = \"it\"\nof = \"{of}\"\n{over}");
        on_mesh(&format!("[boundary.left]\nvalue = 0\n[boundary.c]\nat = [0, 0]\nvalue = 0\n{rest}"))
    };
    let whole = "over = \"body\"\n";
    for (of, over, says, help) in [
        ("reaction", whole, "these are cells, it needs a boundary", "leave `over` out"),
        ("flux.n", whole, "these are cells, it needs a boundary", "name the boundary"),
        ("u", "over = \"c\"\n", "no facets of the mesh belong to it", "`[[probe]]`"),
    ] {
        Bad::new(&integral(of, over), &[&format!("`{of}` cannot be integrated over"), says, help])
            .with("mesh.msh", Msh::square(3).text())
            .key("integral.over")
            .line_of("over =")
            .refused();
    }
    Bad::new(&integral("rank", ""), &["`rank` cannot be integrated: it is a number of each cell"])
        .with("mesh.msh", Msh::square(3).text())
        .line_of("of = ")
        .unreported()
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
    Bad::new(
        &text,
        &["probe \"far\" at (3.000000000, 0.500000000) lies outside the mesh", "(1.000000000, 0.500000000)"],
    )
    .key("probe.at")
    .line_of("at = [3")
    .refused();
}

#[test]
fn cells_that_are_turned_inside_out() {
    let text = on_mesh("[boundary.left]\nvalue = 0\n");
    let refuse = |mesh: Msh, says: &[&str]| {
        Bad::new(&text, says)
            .with("mesh.msh", mesh.text())
            .kind("mesh")
            .key("mesh.file")
            .in_file("mesh.msh", None)
            .refused();
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
fn sides_that_do_not_repeat() {
    let few = square("[boundary.x-min]\nperiodic = { with = \"x-max\" }\n").replace("[4, 4]", "[2, 4]");
    Bad::new(&few, &["a period needs 3 cells across, the box has 2"])
        .line_of("periodic")
        .unreported()
        .refused();
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
