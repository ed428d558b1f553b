//! Tests without MPI: one rank, and the shares of several computed one after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::deal::Parts;
use super::*;
use crate::element::{GeometryKind, Shape};
use crate::mesh::soup::Soup;

const VARIANTS: [&str; 4] = ["22-ascii", "22-binary", "41-ascii", "41-binary"];

fn mesh(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meshes").join(name)
}

/// What `read` does on `size` ranks, without the messages: all shares of the blocks, appended.
fn read_shares(path: &Path, capacity: usize, size: usize) -> Result<Soup, GmshError> {
    let mut dealer = Dealer::alone();
    let (header, big) = scan_file(path, capacity, &mut dealer)?;
    let mut parts: Parts = dealer.finish();
    let layout = Layout { path: path.to_path_buf(), version: header.version, big };
    for rank in 0..size {
        read_blocks(&layout, &header, rank, size, &mut parts)?;
    }
    let counts = parts.elements.iter().map(|e| e.ids.len() as u64).collect();
    let keys = finish::keys(&parts);
    let max_node_id = parts.node_ids.iter().copied().max().unwrap_or(0);
    finish::finish(path, &header, parts, &Global { counts, keys, max_node_id })
}

fn read_alone(name: &str) -> Soup {
    read_shares(&mesh(name), CAPACITY, 1).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn read_text(name: &str, text: impl AsRef<[u8]>) -> Result<Soup, GmshError> {
    let path = std::env::temp_dir().join(format!("femdd-gmsh-{}-{name}.msh", std::process::id()));
    std::fs::write(&path, text).expect("the temporary folder is writable");
    let result = read_shares(&path, 512, 2);
    std::fs::remove_file(&path).expect("it was just written");
    result
}

type Corners = Vec<[i64; 3]>;
type Cells = BTreeMap<(Shape, GeometryKindName, Corners), BTreeSet<String>>;
type GeometryKindName = String;

/// The mesh by coordinates: cells with the names of their groups, and grouped entities. Numbers that
/// differ between files of one mesh are gone.
fn canonical(soup: &Soup) -> (Cells, BTreeSet<(String, Corners)>) {
    let point = |x: &[f64; 3]| x.map(|x| (x * 1e8).round() as i64);
    let at: HashMap<u64, [i64; 3]> =
        soup.node_ids.iter().copied().zip(soup.node_coordinates.iter().map(point)).collect();
    assert_eq!(at.len(), soup.node_ids.len(), "node numbers are distinct");
    let mut cells = Cells::new();
    for block in &soup.blocks {
        let n = block.nodes.len() / block.ids.len();
        for (nodes, &set) in block.nodes.chunks_exact(n).zip(&block.sets) {
            let corners = nodes.iter().map(|node| at[node]).collect();
            let kind = format!("{:?}", block.geometry);
            let names = soup.sets[set as usize].iter().map(|&g| soup.groups[g as usize].name.clone());
            cells.entry((block.shape, kind, corners)).or_default().extend(names);
        }
    }
    let mut entities = BTreeSet::new();
    for block in &soup.entities {
        for (vertices, &group) in block.vertices.chunks_exact(block.shape.n_vertices()).zip(&block.groups) {
            let mut corners: Corners = vertices.iter().map(|v| at[v]).collect();
            corners.sort_unstable();
            entities.insert((soup.groups[group as usize].name.clone(), corners));
        }
    }
    (cells, entities)
}

fn volume(shape: Shape, x: &[[f64; 3]]) -> f64 {
    let minus = |a: [f64; 3], b: [f64; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    let tetrahedron = |k: [usize; 4]| {
        let [a, b, c] = [1, 2, 3].map(|j| minus(x[k[j]], x[k[0]]));
        (a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0]))
            / 6.0
    };
    let triangle = |k: [usize; 3]| {
        let (a, b) = (minus(x[k[1]], x[k[0]]), minus(x[k[2]], x[k[0]]));
        (a[0] * b[1] - a[1] * b[0]) / 2.0
    };
    match shape {
        Shape::Interval => x[1][0] - x[0][0],
        Shape::Triangle => triangle([0, 1, 2]),
        Shape::Quadrilateral => triangle([0, 1, 2]) + triangle([0, 2, 3]),
        Shape::Tetrahedron => tetrahedron([0, 1, 2, 3]),
        _ => [[0, 1, 2, 6], [0, 2, 3, 6], [0, 3, 7, 6], [0, 7, 4, 6], [0, 4, 5, 6], [0, 5, 1, 6]]
            .map(tetrahedron)
            .iter()
            .sum(),
    }
}

/// The volumes of distinct cells by their corners.
fn volumes(soup: &Soup) -> Vec<f64> {
    let (cells, _) = canonical(soup);
    cells
        .keys()
        .map(|(shape, _, x)| {
            volume(*shape, &x.iter().map(|x| x.map(|x| x as f64 * 1e-8)).collect::<Vec<_>>())
        })
        .collect()
}

#[test]
fn all_variants_of_a_body_are_one_mesh() {
    let bodies = [
        ("line2", 1),
        ("line3", 1),
        ("tri3", 2),
        ("tri6", 2),
        ("quad4", 2),
        ("quad8", 2),
        ("quad9", 2),
        ("tet4", 3),
        ("tet10", 3),
        ("hex8", 3),
        ("hex20", 3),
        ("hex27", 3),
    ];
    for (body, dim) in bodies {
        let soups = VARIANTS.map(|variant| read_alone(&format!("variants/{body}-{variant}.msh")));
        let first = canonical(&soups[0]);
        assert!(!first.0.is_empty() && !first.1.is_empty());
        for (soup, variant) in soups.iter().zip(VARIANTS) {
            assert_eq!(soup.dim, dim);
            assert!(canonical(soup) == first, "{body}-{variant} differs from {body}-{}", VARIANTS[0]);
            let volumes = volumes(soup);
            assert!(volumes.iter().all(|&v| v > 0.0), "{body}-{variant}");
            assert!((volumes.iter().sum::<f64>() - 2.0).abs() < 1e-7, "{body}-{variant}");
            assert_eq!(soup.groups, soups[0].groups);
            assert_eq!(soup.sets[0], Vec::<u16>::new());
        }
        for (x, name) in [("left", 0.5), ("right", 1.5)].map(|(name, x)| (x, name)) {
            for ((_, _, corners), groups) in &first.0 {
                let mean = corners.iter().map(|c| c[0] as f64 * 1e-8).sum::<f64>() / corners.len() as f64;
                assert_eq!(groups.contains(name), (mean - x).abs() < 0.5);
                assert!(groups.contains("body"), "a cell may be in two groups");
            }
        }
    }
}

/// The cells of these bodies are affine images of the reference cell, nodes on edges and faces included.
#[test]
fn nodes_stand_in_our_order() {
    for body in ["line3", "tri6", "quad8", "quad9", "tet10", "hex20", "hex27"] {
        for variant in VARIANTS {
            let soup = read_alone(&format!("variants/{body}-{variant}.msh"));
            let at: HashMap<u64, [f64; 3]> =
                soup.node_ids.iter().copied().zip(soup.node_coordinates.iter().copied()).collect();
            let block = &soup.blocks[0];
            let basis = block.geometry.basis(block.shape);
            let dim = soup.dim;
            // The vertex one step along each axis from vertex 0.
            let unit = |d: usize| {
                let is_unit = |v: &[f64; 3]| (0..3).all(|e| v[e] == f64::from(u8::from(e == d)));
                block.shape.vertices().iter().position(is_unit).expect("a unit vertex")
            };
            for cell in block.nodes.chunks_exact(basis.nodes().len()) {
                let origin = at[&cell[0]];
                for (xi, node) in basis.nodes().iter().zip(cell) {
                    let mut x = origin;
                    for d in 0..dim {
                        let end = at[&cell[unit(d)]];
                        x.iter_mut()
                            .zip(end)
                            .zip(origin)
                            .for_each(|((x, end), begin)| *x += xi[d] * (end - begin));
                    }
                    assert!(x.iter().zip(at[node]).all(|(x, y)| (x - y).abs() < 1e-9), "{body}-{variant}");
                }
            }
        }
    }
}

#[test]
fn groups_of_every_dimension() {
    let soup = read_alone("variants/tet10-41-binary.msh");
    let names: Vec<(usize, &str)> = soup.groups.iter().map(|g| (g.dim, g.name.as_str())).collect();
    let faces = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max", "interface"].map(|n| (2, n));
    for group in faces.into_iter().chain([(0, "corner"), (1, "rim"), (3, "left"), (3, "right"), (3, "body")])
    {
        assert!(names.contains(&group), "{group:?} in {names:?}");
    }
    let count = |name: &str| {
        let group = soup.groups.iter().position(|g| g.name == name).expect("it is there") as u16;
        soup.entities.iter().flat_map(|e| &e.groups).filter(|&&g| g == group).count()
    };
    assert_eq!(count("corner"), 1);
    assert!(count("rim") >= 4 && count("x-min") >= 8);
    assert_eq!(
        soup.entities.iter().map(|e| e.shape).collect::<Vec<_>>(),
        [Shape::Point, Shape::Interval, Shape::Triangle]
    );
}

#[test]
fn shares_make_up_the_whole() {
    for name in ["variants/tet4-41-binary.msh", "variants/hex27-22-binary.msh", "mixed-2.msh"] {
        let whole = read_alone(name);
        for size in [2, 3, 4, 7, 1000] {
            assert_eq!(
                read_shares(&mesh(name), CAPACITY, size).expect("readable"),
                whole,
                "{name} in {size}"
            );
        }
    }
}

#[test]
fn small_windows_change_nothing() {
    for body in ["tri6", "hex20"] {
        for variant in VARIANTS {
            let name = format!("variants/{body}-{variant}.msh");
            let small = read_shares(&mesh(&name), 300, 1).expect("readable");
            assert_eq!(small, read_alone(&name), "{name}");
        }
    }
}

#[test]
fn curved_and_mixed_meshes() {
    let mixed = read_alone("mixed-1.msh");
    assert_eq!(
        mixed.blocks.iter().map(|b| b.shape).collect::<Vec<_>>(),
        [Shape::Triangle, Shape::Quadrilateral]
    );
    assert!((volumes(&mixed).iter().sum::<f64>() - 2.0).abs() < 1e-6);
    let two = read_alone("separate.msh");
    assert!((volumes(&two).iter().sum::<f64>() - 2.0).abs() < 1e-6);
    for (name, kind) in [
        ("annulus-quad9-2.msh", GeometryKind::Quadratic),
        ("annulus-tri6-2.msh", GeometryKind::Quadratic),
        ("octant-tet10-2.msh", GeometryKind::Quadratic),
        ("pipe-hex27-1.msh", GeometryKind::Quadratic),
        ("variants/hex20-41-ascii.msh", GeometryKind::Serendipity),
        ("cylinder-1.msh", GeometryKind::Linear),
    ] {
        let soup = read_alone(name);
        assert_eq!(soup.blocks.len(), 1, "{name}");
        assert!(soup.blocks[0].geometry == kind, "{name}");
        assert!(volumes(&soup).iter().all(|&v| v > 0.0), "{name}");
    }
}

#[test]
fn periodic_nodes_are_translated() {
    for (name, dim) in [("square", 2), ("cube", 3)] {
        let mut first = None;
        for variant in VARIANTS {
            let soup = read_alone(&format!("periodic-{name}-{variant}.msh"));
            let at: HashMap<u64, [f64; 3]> =
                soup.node_ids.iter().copied().zip(soup.node_coordinates.iter().copied()).collect();
            let mut moves = BTreeSet::new();
            for (slave, master) in &soup.periodic {
                let (a, b) = (at[slave], at[master]);
                let step: Vec<i32> = (0..3).map(|d| (a[d] - b[d]).round() as i32).collect();
                assert!((0..3).all(|d| (a[d] - b[d] - f64::from(step[d])).abs() < 1e-9), "{name}-{variant}");
                moves.insert(step);
            }
            assert!(moves.len() >= dim, "{name}-{variant}: {moves:?}");
            // Nodes on one side of the body at least; versions differ in how often they repeat edges.
            let slaves: BTreeSet<u64> = soup.periodic.iter().map(|pair| pair.0).collect();
            assert_eq!(*first.get_or_insert(slaves.len()), slaves.len(), "{name}-{variant}");
        }
    }
}

#[test]
fn other_sections_and_parametric_nodes() {
    for stem in ["parametric", "data"] {
        let soups = VARIANTS.map(|variant| read_alone(&format!("{stem}-{variant}.msh")));
        for soup in &soups {
            assert!((volumes(soup).iter().sum::<f64>() - 1.0).abs() < 1e-6, "{stem}");
            assert!(canonical(soup) == canonical(&soups[0]), "{stem}");
        }
    }
    for version in [22, 41] {
        let soup = read_alone(&format!("reversed-{version}-ascii.msh"));
        let groups: Vec<_> = soup.groups.iter().map(|g| (g.dim, g.tag, g.name.as_str())).collect();
        assert_eq!(groups, [(1, 9, "against"), (2, 7, "7")], "a tag's sign is an orientation");
        assert!(!soup.entities[0].groups.is_empty());
    }
}

#[test]
fn what_is_refused() {
    for variant in VARIANTS {
        let error = read_shares(&mesh(&format!("prism-{variant}.msh")), CAPACITY, 1).expect_err("prisms");
        let message = error.to_string();
        assert!(matches!(error, GmshError::Unsupported { .. }), "{message}");
        assert!(message.contains(" x prism (6 nodes) is not supported"), "{message}");
        assert!(message.contains("tetrahedron (10 nodes)"), "{message}");
    }
    let error = read_shares(&mesh("tri10.msh"), CAPACITY, 1).expect_err("third order").to_string();
    assert!(error.contains("triangle (10 nodes)"), "{error}");
    let error = read_shares(&mesh("partitioned.msh"), CAPACITY, 1).expect_err("partitioned");
    assert!(matches!(error, GmshError::Partitioned { .. }), "{error}");
    let error = read_shares(&mesh("no-such.msh"), CAPACITY, 1).expect_err("missing").to_string();
    assert!(error.contains("no-such.msh: cannot open"), "{error}");
    assert!(read_shares(&mesh(""), CAPACITY, 1).is_err(), "a folder");
}

const TRIANGLE: &str = "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n3\n1 0 0 0\n2 1 0 0\n3 0 1 0\n$EndNodes\n\
                        $Elements\n1\n1 2 2 5 1 1 2 3\n$EndElements\n";

#[test]
fn messages_name_the_line() {
    let soup = read_text("good", TRIANGLE).expect("a good file");
    assert_eq!((soup.blocks[0].nodes.as_slice(), soup.max_node_id), (&[1, 2, 3][..], 3));
    assert_eq!(soup.groups[0].name, "5");
    let windows = TRIANGLE.replace('\n', "\r\n");
    assert_eq!(read_text("windows", windows).expect("a file from Windows"), soup);
    let cases = [
        ("2 1 0 0", "2 1 0", "line 7: $Nodes: expected a finite coordinate, found the end of the line"),
        ("2 1 0 0", "2 1 0 0 0", "line 7: $Nodes: expected the end of the line, found `0`"),
        ("2 1 0 0", "2 1 nan 0", "line 7: $Nodes: expected a finite coordinate, found NaN"),
        ("2 1 0 0", "2 1 x7 0", "line 7: $Nodes: expected a finite coordinate, found `x7`"),
        ("2 1 0 0", "0 1 0 0", "line 7: $Nodes: expected a node number (1 or more), found 0"),
        ("3\n1 0", "4\n1 0", "line 9: $Nodes: expected a node number (1 or more), found `$EndNodes`"),
        ("3\n1 0", "2\n1 0", "line 8: $Nodes: expected $EndNodes, found `3`"),
        ("3\n1 0", "99999999999\n1 0", "line 5: $Nodes: 99999999999 nodes do not fit in the"),
        (
            "1 2 3\n",
            "1 2\n",
            "line 12: $Elements: expected a node number (1 or more), found the end of the line",
        ),
        ("1 2 2 5", "1 77 2 5", "line 12: $Elements: expected an element type"),
        ("$EndElements\n", "", "the file ends within $Elements, expected $EndElements: it was cut short"),
        ("1\n1 2 2 5 1 1 2 3\n", "0\n", "no cells"),
        ("2.2 0", "4 0", "MSH format 4: only 2.2 and 4.1"),
        ("2.2 0", "2.2 7", "line 2: $MeshFormat: expected 0 for ASCII or 1 for binary, found 7"),
        ("$MeshFormat\n", "solid part\n", "not a Gmsh mesh: it begins with `solid`"),
        ("$Nodes\n", "$Points\n", "expected $EndPoints"),
        (
            "$EndNodes\n",
            "$EndNodes\n$Nodes\n0\n$EndNodes\n",
            "line 10: $Nodes: expected one section of nodes",
        ),
        ("$EndNodes\n", "$EndNodes\nnonsense\n", "expected a section that begins with $, found `nonsense`"),
    ];
    for (k, (from, to, expected)) in cases.into_iter().enumerate() {
        let message =
            read_text(&format!("bad-{k}"), TRIANGLE.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(message.contains(expected), "{to:?}: {message}");
    }
    let message = read_text("empty", "").expect_err("empty").to_string();
    assert!(message.contains("it is empty"), "{message}");
    let (head, _) = TRIANGLE.split_once("$Elements").expect("it is there");
    assert!(
        read_text("nodes-only", head).expect_err("no elements").to_string().contains("no $Elements section")
    );
}

/// Swaps the bytes of every number of a binary MSH 2.2 file without tags of varying number.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let find = |what: &str| bytes.windows(what.len()).position(|w| w == what.as_bytes()).expect("there");
    let line_after = |at: usize| at + bytes[at..].iter().position(|&b| b == b'\n').expect("a line") + 1;
    let int = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let one = line_after(line_after(find("$MeshFormat")));
    out[one..one + 4].reverse();
    let nodes = line_after(line_after(find("$Nodes")));
    for node in out[nodes..find("\n$EndNodes")].chunks_exact_mut(28) {
        node[..4].reverse();
        node[4..].chunks_exact_mut(8).for_each(<[u8]>::reverse);
    }
    let (mut at, end) = (line_after(line_after(find("$Elements"))), find("\n$EndElements"));
    while at < end {
        let n = int(at + 4) as usize * (1 + int(at + 8) as usize + types::n_nodes(int(at) as u8));
        out[at..at + 12 + 4 * n].chunks_exact_mut(4).for_each(<[u8]>::reverse);
        at += 12 + 4 * n;
    }
    out
}

#[test]
fn the_other_order_of_bytes() {
    for body in ["tet4", "quad9"] {
        let name = format!("variants/{body}-22-binary.msh");
        let bytes = std::fs::read(mesh(&name)).expect("committed");
        let soup = read_text(&format!("swapped-{body}"), swapped(&bytes)).expect("readable");
        assert_eq!(soup, read_alone(&name));
    }
}

/// A binary MSH 4.1 mesh of n separate triangles, each with its own block of nodes and of elements.
fn many_blocks(n: u64) -> Vec<u8> {
    let mut file = b"$MeshFormat\n4.1 1 8\n\x01\0\0\0\n$EndMeshFormat\n$Nodes\n".to_vec();
    let ints = |file: &mut Vec<u8>, xs: &[i32]| xs.iter().for_each(|x| file.extend(x.to_le_bytes()));
    let sizes = |file: &mut Vec<u8>, xs: &[u64]| xs.iter().for_each(|x| file.extend(x.to_le_bytes()));
    sizes(&mut file, &[n, 3 * n, 1, 3 * n]);
    for k in 0..n {
        ints(&mut file, &[2, 1, 0]);
        sizes(&mut file, &[3, 3 * k + 1, 3 * k + 2, 3 * k + 3]);
        for (x, y) in [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)] {
            [k as f64 + x, y, 0.0].iter().for_each(|x: &f64| file.extend(x.to_le_bytes()));
        }
    }
    file.extend(b"\n$EndNodes\n$Elements\n");
    sizes(&mut file, &[n, n, 1, n]);
    for k in 0..n {
        ints(&mut file, &[2, 1, 2]);
        sizes(&mut file, &[1, k + 1, 3 * k + 1, 3 * k + 2, 3 * k + 3]);
    }
    file.extend(b"\n$EndElements\n");
    file
}

/// The same in MSH 2.2, with a header for each element as Gmsh writes them.
fn many_headers(n: u32) -> Vec<u8> {
    let mut file = b"$MeshFormat\n2.2 1 8\n\x01\0\0\0\n$EndMeshFormat\n$Nodes\n".to_vec();
    file.extend(format!("{}\n", 3 * n).bytes());
    for k in 0..n {
        for (node, (x, y)) in [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)].into_iter().enumerate() {
            file.extend((3 * k + 1 + node as u32).to_le_bytes());
            [f64::from(k) + x, y, 0.0].iter().for_each(|x: &f64| file.extend(x.to_le_bytes()));
        }
    }
    file.extend(format!("\n$EndNodes\n$Elements\n{n}\n").bytes());
    for k in 0..n {
        let record = [2, 1, 2, k + 1, 7, 1, 3 * k + 1, 3 * k + 2, 3 * k + 3];
        record.iter().for_each(|x: &u32| file.extend(x.to_le_bytes()));
    }
    file.extend(b"\n$EndElements\n");
    file
}

#[test]
fn a_header_for_each_element() {
    for n in [50, 20_000] {
        let soup = read_text(&format!("headers-{n}"), many_headers(n)).expect("readable");
        assert_eq!(soup.blocks[0].ids, (1..=u64::from(n)).collect::<Vec<_>>());
        assert_eq!((soup.groups[0].tag, soup.blocks[0].sets[0]), (7, 1));
        assert!((volumes(&soup).iter().sum::<f64>() - f64::from(n) / 8.0).abs() < 1e-6);
    }
}

#[test]
fn many_small_blocks_are_streamed() {
    let few = read_text("few-blocks", many_blocks(100)).expect("readable");
    assert_eq!(few.blocks[0].ids.len(), 100);
    let soup = read_text("many-blocks", many_blocks(20_000)).expect("readable");
    assert_eq!(soup.blocks[0].ids.len(), 20_000);
    assert!((volumes(&soup).iter().sum::<f64>() - 2500.0).abs() < 1e-6);
    let path = std::env::temp_dir().join(format!("femdd-gmsh-{}-blocks.msh", std::process::id()));
    std::fs::write(&path, many_blocks(20_000)).expect("writable");
    let (header, _) = scan_file(&path, CAPACITY, &mut Dealer::alone()).expect("readable");
    std::fs::remove_file(&path).expect("written");
    assert!(header.node_blocks.is_empty() && header.element_blocks.is_empty(), "dealt out, not listed");
}

#[test]
fn damaged_files_are_errors_or_meshes() {
    let mut seed = 88172645463325252u64;
    for body in ["line3", "quad4", "tri6"] {
        for variant in VARIANTS {
            let name = format!("variants/{body}-{variant}.msh");
            let good = std::fs::read(mesh(&name)).expect("committed");
            let tag = format!("damaged-{body}-{variant}");
            // Without its last line feed a file is still complete.
            for length in (0..good.len() - 1).step_by(13) {
                assert!(read_text(&tag, &good[..length]).is_err(), "{name} cut at {length}");
            }
            for _ in 0..300 {
                let mut bad = good.clone();
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = seed as usize % bad.len();
                bad[at] ^= 1 << (seed >> 40 & 7);
                // Whether it is still a mesh depends on the byte; it must not panic.
                let _ = read_text(&tag, &bad);
            }
        }
    }
}
