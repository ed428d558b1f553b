//! Meshes for tests, as text in Gmsh's format 2.2: a lattice of cells over the unit box, moved by any map.
//!
//! Sides are the groups x-min to z-max, and the halves of the box the regions `left` and `right`, where the
//! box stands before the map; `middle` are the facets between them. Start at [`mapped`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Corners on the lattice.
type Places = Vec<[usize; 3]>;

/// A shape's Gmsh type, its cells in a cube (corners by the bits z y x), its facets, and their Gmsh type.
struct Recipe {
    kind: usize,
    cells: &'static [&'static [usize]],
    facets: &'static [&'static [usize]],
    facet_kind: usize,
}

fn recipe(shape: &str) -> Recipe {
    match shape {
        "interval" => Recipe { kind: 1, cells: &[&[0, 1]], facets: &[&[0], &[1]], facet_kind: 15 },
        "triangle" => Recipe {
            kind: 2,
            cells: &[&[0, 1, 3], &[0, 3, 2]],
            facets: &[&[0, 1], &[1, 2], &[2, 0]],
            facet_kind: 1,
        },
        "quadrilateral" => Recipe {
            kind: 3,
            cells: &[&[0, 1, 3, 2]],
            facets: &[&[0, 1], &[1, 2], &[2, 3], &[3, 0]],
            facet_kind: 1,
        },
        "tetrahedron" => Recipe {
            kind: 4,
            cells: &[
                &[0, 1, 3, 7],
                &[0, 3, 2, 7],
                &[0, 2, 6, 7],
                &[0, 6, 4, 7],
                &[0, 4, 5, 7],
                &[0, 5, 1, 7],
            ],
            facets: &[&[0, 1, 2], &[0, 1, 3], &[0, 2, 3], &[1, 2, 3]],
            facet_kind: 2,
        },
        "hexahedron" => Recipe {
            kind: 5,
            cells: &[&[0, 1, 3, 2, 4, 5, 7, 6]],
            facets: &[
                &[0, 1, 2, 3],
                &[4, 5, 6, 7],
                &[0, 1, 5, 4],
                &[1, 2, 6, 5],
                &[2, 3, 7, 6],
                &[3, 0, 4, 7],
            ],
            facet_kind: 3,
        },
        other => panic!("there is no shape {other}"),
    }
}

/// The mesh of `n` cells along each axis, its nodes moved by `map`.
pub fn mapped(shape: &str, n: [usize; 3], map: impl Fn([f64; 3]) -> [f64; 3]) -> String {
    let recipe = recipe(shape);
    let dim = super::manufactured::dimension(shape);
    let cells: [usize; 3] = std::array::from_fn(|d| if d < dim { n[d] } else { 1 });
    let nodes: [usize; 3] = std::array::from_fn(|d| if d < dim { n[d] + 1 } else { 1 });
    let number = |at: [usize; 3]| 1 + at[0] + nodes[0] * (at[1] + nodes[1] * at[2]);
    let mut text = String::from("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n");
    let _ = writeln!(text, "{}", 2 * dim + 3);
    for (k, side) in ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"][..2 * dim].iter().enumerate() {
        let _ = writeln!(text, "{} {} \"{side}\"", dim - 1, k + 1);
    }
    let _ = writeln!(text, "{} 9 \"middle\"", dim - 1);
    let _ = writeln!(text, "{dim} 7 \"left\"\n{dim} 8 \"right\"\n$EndPhysicalNames\n$Nodes");
    let _ = writeln!(text, "{}", nodes.iter().product::<usize>());
    for_each(nodes, |at| {
        let x = map(std::array::from_fn(|d| if d < dim { at[d] as f64 / cells[d] as f64 } else { 0.0 }));
        let _ = writeln!(text, "{} {:?} {:?} {:?}", number(at), x[0], x[1], x[2]);
    });
    let mut elements = Vec::new();
    for_each(cells, |at| {
        for corners in recipe.cells {
            let places: Vec<[usize; 3]> = corners
                .iter()
                .map(|c| [at[0] + (c & 1), at[1] + (c >> 1 & 1), at[2] + (c >> 2 & 1)])
                .collect();
            let region = if 2 * at[0] + 1 < cells[0] { 7 } else { 8 };
            elements.push((recipe.kind, region, places.clone()));
            for facet in recipe.facets {
                let places: Vec<[usize; 3]> = facet.iter().map(|&v| places[v]).collect();
                if region == 7 && places.iter().all(|p| 2 * p[0] == cells[0]) {
                    elements.push((recipe.facet_kind, 9, places.clone()));
                }
                for d in 0..dim {
                    for (side, end) in [0, cells[d]].into_iter().enumerate() {
                        if places.iter().all(|p| p[d] == end) {
                            elements.push((recipe.facet_kind, 2 * d + side + 1, places.clone()));
                        }
                    }
                }
            }
        }
    });
    let _ = writeln!(text, "$EndNodes\n$Elements\n{}", elements.len());
    for (k, (kind, group, places)) in elements.iter().enumerate() {
        let list: Vec<String> = places.iter().map(|&p| number(p).to_string()).collect();
        let _ = writeln!(text, "{} {kind} 2 {group} {group} {}", k + 1, list.join(" "));
    }
    text.push_str("$EndElements\n");
    text
}

/// The box from -1 to 1 less the part where all coordinates are positive, `n` cells across a half: an L, or a cube
/// with a re-entrant corner. Its whole boundary is the group `wall`.
pub fn notched(shape: &str, n: usize) -> String {
    let recipe = recipe(shape);
    let dim = super::manufactured::dimension(shape);
    let cells: [usize; 3] = std::array::from_fn(|d| if d < dim { 2 * n } else { 1 });
    let mut text = String::from("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n2\n");
    let _ = writeln!(text, "{} 1 \"wall\"\n{dim} 2 \"body\"\n$EndPhysicalNames\n$Nodes", dim - 1);
    let mut bodies: Vec<Places> = Vec::new();
    // By its places, ascending: how many cells have a facet, and the facet as one of them lists it.
    let mut facets: BTreeMap<Places, (usize, Places)> = BTreeMap::new();
    for_each(cells, |at| {
        if (0..dim).all(|d| at[d] >= n) {
            return;
        }
        for corners in recipe.cells {
            let place = |&c: &usize| [at[0] + (c & 1), at[1] + (c >> 1 & 1), at[2] + (c >> 2 & 1)];
            let places: Vec<[usize; 3]> = corners.iter().map(place).collect();
            for facet in recipe.facets {
                let listed: Vec<[usize; 3]> = facet.iter().map(|&v| places[v]).collect();
                let mut key = listed.clone();
                key.sort_unstable();
                facets.entry(key).or_insert((0, listed)).0 += 1;
            }
            bodies.push(places);
        }
    });
    let used: BTreeSet<[usize; 3]> = bodies.iter().flatten().copied().collect();
    let number: BTreeMap<[usize; 3], usize> = used.iter().copied().zip(1..).collect();
    let _ = writeln!(text, "{}", number.len());
    for (at, k) in &number {
        let x: [f64; 3] = std::array::from_fn(|d| if d < dim { at[d] as f64 / n as f64 - 1.0 } else { 0.0 });
        let _ = writeln!(text, "{k} {:?} {:?} {:?}", x[0], x[1], x[2]);
    }
    let wall = facets.into_values().filter(|f| f.0 == 1).map(|f| (recipe.facet_kind, 1, f.1));
    let elements: Vec<_> = wall.chain(bodies.into_iter().map(|places| (recipe.kind, 2, places))).collect();
    let _ = writeln!(text, "$EndNodes\n$Elements\n{}", elements.len());
    for (k, (kind, group, places)) in elements.iter().enumerate() {
        let list: Vec<String> = places.iter().map(|p| number[p].to_string()).collect();
        let _ = writeln!(text, "{} {kind} 2 {group} {group} {}", k + 1, list.join(" "));
    }
    text.push_str("$EndElements\n");
    text
}

fn for_each(n: [usize; 3], mut f: impl FnMut([usize; 3])) {
    for z in 0..n[2] {
        for y in 0..n[1] {
            for x in 0..n[0] {
                f([x, y, z]);
            }
        }
    }
}

/// The unit box with `n` cells a side and crooked cells inside; the sides and the plane x = 1/2 stay flat.
pub fn crooked(shape: &str, n: usize) -> String {
    let shift = move |x: [f64; 3], d: usize| {
        if x[d] == 0.0 || x[d] == 1.0 || (d == 0 && x[0] == 0.5) {
            return 0.0;
        }
        let phase = 37.0 * x[0] + 59.0 * x[1] + 83.0 * x[2] + 11.0 * d as f64;
        0.18 / n as f64 * phase.sin()
    };
    mapped(shape, [n; 3], |x| std::array::from_fn(|d| x[d] + shift(x, d)))
}

/// The ring 1 < r < 2 in cells of second order with nodes on circles: `n` along the radius, `8 n` round it.
///
/// Sides are `inner` and `outer`.
pub fn ring(shape: &str, n: usize) -> String {
    let (across, round) = (2 * n, 16 * n);
    let number = |r: usize, t: usize| 1 + r * round + t % round;
    let mut text = String::from("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$PhysicalNames\n3\n");
    text.push_str("1 1 \"inner\"\n1 2 \"outer\"\n2 3 \"ring\"\n$EndPhysicalNames\n$Nodes\n");
    let _ = writeln!(text, "{}", (across + 1) * round);
    for r in 0..=across {
        for t in 0..round {
            let radius = 1.0 + r as f64 / across as f64;
            let (s, c) = (2.0 * std::f64::consts::PI * t as f64 / round as f64).sin_cos();
            let _ = writeln!(text, "{} {:?} {:?} 0", number(r, t), radius * c, radius * s);
        }
    }
    // Corners, then middles of sides, then the middle, in steps of half a cell; after Gmsh's type.
    let cells: &[(usize, &[[usize; 2]])] = match shape {
        "quadrilateral" => &[(10, &[[0, 0], [2, 0], [2, 2], [0, 2], [1, 0], [2, 1], [1, 2], [0, 1], [1, 1]])],
        _ => &[
            (9, &[[0, 0], [2, 0], [2, 2], [1, 0], [2, 1], [1, 1]]),
            (9, &[[0, 0], [2, 2], [0, 2], [1, 1], [1, 2], [0, 1]]),
        ],
    };
    let mut elements = Vec::new();
    for t in (0..round).step_by(2) {
        for r in (0..across).step_by(2) {
            for (kind, nodes) in cells {
                elements.push((
                    *kind,
                    3,
                    nodes.iter().map(|p| number(r + p[0], t + p[1])).collect::<Vec<_>>(),
                ));
            }
        }
        for (group, r) in [(1, 0), (2, across)] {
            elements.push((8, group, vec![number(r, t), number(r, t + 2), number(r, t + 1)]));
        }
    }
    let _ = writeln!(text, "$EndNodes\n$Elements\n{}", elements.len());
    for (k, (kind, group, nodes)) in elements.iter().enumerate() {
        let list: Vec<String> = nodes.iter().map(usize::to_string).collect();
        let _ = writeln!(text, "{} {kind} 2 {group} {group} {}", k + 1, list.join(" "));
    }
    text.push_str("$EndElements\n");
    text
}

/// From the unit box to an upright cylinder of radius 1/2 and height 3; its side is x-min to y-max.
pub fn column(x: [f64; 3]) -> [f64; 3] {
    let (u, v) = (2.0 * x[0] - 1.0, 2.0 * x[1] - 1.0);
    [0.5 * u * (1.0 - v * v / 2.0).sqrt(), 0.5 * v * (1.0 - u * u / 2.0).sqrt(), 3.0 * x[2]]
}

/// A rotation about a skew axis; about z in the plane.
pub fn turned(dim: usize, x: [f64; 3]) -> [f64; 3] {
    let about = |x: [f64; 3], a: usize, b: usize, angle: f64| {
        let (s, c) = angle.sin_cos();
        let mut y = x;
        y[a] = c * x[a] - s * x[b];
        y[b] = s * x[a] + c * x[b];
        y
    };
    match dim {
        1 => x,
        2 => about(x, 0, 1, 0.6),
        _ => about(about(about(x, 0, 1, 0.6), 1, 2, 0.5), 0, 2, -0.4),
    }
}
