//! What elements of degree p represent exactly they must find exactly: polynomials of degree p on straight cells
//! however crooked, of degree p/2 on cells of second order.
//!
//! Solutions are powers of w = 1 + a.x.

use crate::common::{Case, Ran, mesh};
use crate::lattice;
use crate::manufactured::dimension;

const SHAPES: [&str; 5] = ["interval", "triangle", "quadrilateral", "tetrahedron", "hexahedron"];
const A: [f64; 3] = [0.7, -0.4, 0.5];
const TENSOR: [[f64; 3]; 3] = [[2.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 1.5]];
const U: [f64; 3] = [1.0, -0.6, 0.8];

fn base(dim: usize) -> String {
    let terms: Vec<String> = (0..dim).map(|k| format!("({})*{}", A[k], ["x", "y", "z"][k])).collect();
    format!("(1 + {})", terms.join(" + "))
}

/// `factor` times the k-th derivative of w^p along a.
fn power(dim: usize, p: usize, k: usize, factor: f64) -> String {
    if k > p {
        return "0".to_owned();
    }
    let falling: usize = (0..k).map(|j| p - j).product();
    format!("({})*{}^{}", factor * falling as f64, base(dim), p - k)
}

fn dot(a: &[f64; 3], b: &[f64; 3], dim: usize) -> f64 {
    (0..dim).map(|k| a[k] * b[k]).sum()
}

fn list(parts: impl Iterator<Item = String>) -> String {
    format!("[{}]", parts.map(|p| format!("\"{p}\"")).collect::<Vec<_>>().join(", "))
}

/// Poisson with a full tensor; `normal` gives the sides with inflow and their normals.
fn poisson(dim: usize, p: usize, fixed: &str, inflow: Option<(&str, usize)>) -> String {
    let ka: [f64; 3] = std::array::from_fn(|i| if i < dim { dot(&TENSOR[i], &A, dim) } else { 0.0 });
    let rows: Vec<String> = (0..dim).map(|i| format!("{:?}", &TENSOR[i][..dim])).collect();
    let natural = inflow.map_or(String::new(), |(side, axis)| {
        format!("[boundary.{side}]\ninflow = \"{}\"\n", power(dim, p, 1, ka[axis]))
    });
    format!(
        "[physics]\nlaw = \"poisson\"\ndiffusion = [{}]\nsource = \"{}\"\n{natural}\
         [boundary.fixed]\non = {fixed}\nvalue = \"{u}\"\n[exact]\nvalue = \"{u}\"\n",
        rows.join(", "),
        power(dim, p, 2, -dot(&A, &ka, dim)),
        u = power(dim, p, 0, 1.0)
    )
}

fn elasticity(dim: usize, p: usize, fixed: &str, traction: Option<(&str, usize)>) -> String {
    let nu = 0.3;
    let (mu, lambda) = match dim {
        1 => (0.5, 0.0),
        _ => (0.5 / (1.0 + nu), nu / ((1.0 + nu) * (1.0 - 2.0 * nu))),
    };
    let divergence = dot(&U, &A, dim);
    let force = list(
        (0..dim)
            .map(|i| power(dim, p, 2, -((lambda + mu) * divergence * A[i] + mu * dot(&A, &A, dim) * U[i]))),
    );
    let natural = traction.map_or(String::new(), |(side, axis)| {
        let stress = |i: usize| {
            mu * (U[i] * A[axis] + U[axis] * A[i]) + if i == axis { lambda * divergence } else { 0.0 }
        };
        let all = list((0..dim).map(|i| power(dim, p, 1, stress(i))));
        format!("[boundary.{side}]\ntraction = {all}\n")
    });
    let u = list((0..dim).map(|i| power(dim, p, 0, U[i])));
    format!(
        "[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = {nu}\nbody_force = {force}\n{natural}\
         [boundary.fixed]\non = {fixed}\ndisplacement = {u}\n[exact]\ndisplacement = {u}\n"
    )
}

/// Solutions and their gradients are of size 1, so that absolute errors are relative ones.
fn exact(name: &str, ran: &Ran) {
    let (l2, h1) = (ran.l2(), ran.h1());
    println!("{name:<44} L2 {l2:.1e}, H1 {h1:.1e}");
    assert!(l2 < 1e-12 && h1 < 1e-11, "{name}: L2 {l2:e}, H1 {h1:e}\n{}", ran.text);
}

fn sides(dim: usize, all: bool) -> String {
    let names = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"];
    list(names[..2 * dim].iter().filter(|n| all || **n != "x-max").map(|n| n.to_string()))
}

fn head(mesh: &str, degree: usize) -> String {
    format!("[mesh]\n{mesh}\n[space]\ndegree = {degree}\n[solver]\nmethod = \"direct\"\ntolerance = 1e-11\n")
}

#[test]
fn crooked_cells() {
    for shape in SHAPES {
        let dim = dimension(shape);
        let n = if dim == 3 { 2 } else { 4 };
        let text = lattice::crooked(shape, n);
        for p in 1..=4 {
            for (law, body) in [
                ("poisson", poisson(dim, p, &sides(dim, false), Some(("x-max", 0)))),
                ("elasticity", elasticity(dim, p, &sides(dim, false), Some(("x-max", 0)))),
            ] {
                let case = format!("{}{body}", head("file = \"crooked.msh\"", p));
                let ran = Case::new(&case).file("crooked.msh", &text).solve();
                exact(&format!("{law}, crooked {shape}, degree {p}"), &ran);
            }
        }
    }
}

#[test]
fn boxes() {
    for shape in SHAPES {
        let dim = dimension(shape);
        let (size, cells) = ([0.5, 1.5, 0.8], [2, 3, 2]);
        for p in [1, 3] {
            let mesh = format!(
                "box = {{ size = {:?}, cells = {:?}, shape = \"{shape}\", origin = {:?} }}",
                &size[..dim],
                &cells[..dim],
                &[-0.3, 0.2, 0.1][..dim]
            );
            let body = poisson(dim, p, &sides(dim, false), Some(("x-max", 0)));
            exact(
                &format!("box of {shape}, degree {p}"),
                &Case::new(&format!("{}{body}", head(&mesh, p))).solve(),
            );
        }
    }
}

/// Coordinates scaled, cells refined: the same polynomial on the mesh that results.
#[test]
fn scaled_and_refined() {
    for shape in SHAPES {
        let dim = dimension(shape);
        let text = lattice::crooked(shape, 2);
        for (scale, refine) in [(0.5, 0), (2.0, 1), (0.25, 2)] {
            if dim == 3 && refine == 2 {
                continue;
            }
            let p = 2;
            let mesh = format!("file = \"crooked.msh\"\nscale = {scale}\nrefine = {refine}");
            let body = elasticity(dim, p, &sides(dim, false), Some(("x-max", 0)));
            let ran = Case::new(&format!("{}{body}", head(&mesh, p))).file("crooked.msh", &text).solve();
            exact(&format!("{shape}, scale {scale}, refined {refine} times"), &ran);
        }
    }
}

/// Two materials: a bend of the solution at their interface.
#[test]
fn two_regions() {
    for shape in SHAPES {
        let dim = dimension(shape);
        let text = lattice::crooked(shape, 4);
        for p in [1, 2] {
            let u = "if(x < 0.5, 1 + 3*x, 2 + x)";
            let case = format!(
                "{}[physics]\nlaw = \"poisson\"\ndiffusion = 7\n[region.left]\ndiffusion = 1\n\
                 [region.stiff]\non = [\"right\"]\ndiffusion = 3\n[boundary.low]\non = [\"x-min\"]\nvalue = 1\n\
                 [boundary.x-max]\ninflow = 3\n[exact]\nvalue = \"{u}\"\n\
                 [[integral]]\nname = \"out\"\nover = \"x-min\"\nof = \"flux.n\"\n\
                 [[integral]]\nname = \"reaction\"\nover = \"low\"\nof = \"reaction\"\n\
                 [[integral]]\nname = \"across\"\nover = \"middle\"\nof = \"flux.n\"\n\
                 [[integral]]\nname = \"left flux\"\nover = \"left\"\nof = \"flux.x\"\n\
                 [[probe]]\nname = \"left of it\"\nat = {:?}\nfield = \"grad.x\"\n\
                 [[probe]]\nname = \"right of it\"\nat = {:?}\nfield = \"grad.x\"\n",
                head("file = \"crooked.msh\"", p),
                &[0.45, 0.4, 0.6][..dim],
                &[0.55, 0.4, 0.6][..dim],
            );
            let ran = Case::new(&case).file("crooked.msh", &text).solve();
            exact(&format!("two regions, {shape}, degree {p}"), &ran);
            // Derived fields are averaged within a region only, so gradients jump at the interface.
            for (found, value) in [
                (ran.integral("out")[0], 3.0),
                (ran.integral("reaction")[0], -3.0),
                (ran.integral("across")[0], -3.0),
                (ran.integral("left flux")[0], -1.5),
                (ran.probe("left of it")[0], 3.0),
                (ran.probe("right of it")[0], 1.0),
            ] {
                assert!((found - value).abs() < 1e-11, "{shape} {p}: {found} is not {value}\n{}", ran.text);
            }
        }
    }
}

/// Along the normal out of the region with the lesser tag, whatever cells are numbered like: on several ranks, and on
/// cells cut on one side of the interface or on both.
#[test]
fn flux_between_regions() {
    for (shape, ranks) in [("triangle", 1), ("triangle", 3), ("quadrilateral", 3), ("hexahedron", 2)] {
        let mesh = lattice::crooked(shape, 4);
        // The left half is the region 7; where it is 17, the normal is that out of the right half.
        let renamed = mesh.replace(" 2 7 7 ", " 2 17 17 ").replace(" 7 \"left\"", " 17 \"left\"");
        for (text, sign) in [(&mesh, 1.0), (&renamed, -1.0)] {
            // A linear solution but for a bump beyond the interface, which is where cells are cut.
            let u = "1 + 3*x + if(x > 0.5, (x - 0.5)^4, 0)";
            let case = format!(
                "{}[physics]\nlaw = \"poisson\"\nsource = \"if(x > 0.5, -12*(x - 0.5)^2, 0)\"\n\
                 [boundary.ends]\non = [\"x-min\", \"x-max\"]\nvalue = \"{u}\"\n[exact]\nvalue = \"{u}\"\n\
                 [adapt]\nmax_steps = 3\nmarking = {{ fraction = 0.2 }}\n\
                 [[integral]]\nname = \"across\"\nover = \"middle\"\nof = \"flux.n\"\n",
                head("file = \"crooked.msh\"", 2),
            );
            let ran = Case::new(&case).file("crooked.msh", text).ranks(ranks).solve();
            let (found, cells) = (ran.integral("across")[0], ran.number("/mesh/cells"));
            assert!((found + 3.0 * sign).abs() < 2e-2, "{shape} on {ranks} ranks: {found}\n{}", ran.text);
            assert!(cells > 1.2 * ran.number("/adapt/steps/0/cells"), "{cells} cells");
        }
    }
}

/// Linear solutions on cells of second order, degree 2; with degree 4 quadratic ones.
#[test]
fn curved_cells() {
    for (file, dim, groups) in [
        ("annulus-quad9-1.msh", 2, "[\"inner\", \"outer\"]"),
        ("annulus-tri6-1.msh", 2, "[\"inner\", \"outer\"]"),
        ("octant-tet10-1.msh", 3, "[\"sphere\", \"x-min\", \"y-min\", \"z-min\"]"),
        ("cylinder-2.msh", 3, "[\"bottom\", \"top\", \"side\"]"),
        ("pipe-hex27-1.msh", 3, "[\"inner\", \"outer\", \"bottom\", \"top\"]"),
        ("mixed-1.msh", 2, "[\"x-min\", \"x-max\", \"y-min\", \"y-max\"]"),
        ("mixed-2.msh", 2, "[\"x-min\", \"x-max\", \"y-min\", \"y-max\"]"),
    ] {
        for (degree, p, refine) in [(2, 1, 0), (2, 1, 1), (4, 2, 0)] {
            if degree == 4 && dim == 3 && !file.starts_with("octant")
                || refine == 1 && file.starts_with("cylinder")
            {
                continue;
            }
            let mesh = format!("file = \"{}\"\nrefine = {refine}", mesh(file));
            for body in [poisson(dim, p, groups, None), elasticity(dim, p, groups, None)] {
                let ran = Case::new(&format!("{}{body}", head(&mesh, degree))).solve();
                exact(&format!("{file}, degree {degree}, refined {refine} times"), &ran);
            }
        }
    }
}

/// Every variant of a shape that Gmsh writes.
#[test]
fn shapes_of_gmsh() {
    for (name, dim) in [
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
    ] {
        let mesh = format!("file = \"{}\"", mesh(&format!("variants/{name}-41-binary.msh")));
        let body = elasticity(dim, 2, &sides(dim, false), Some(("x-max", 0)));
        exact(name, &Case::new(&format!("{}{body}", head(&mesh, 2))).solve());
    }
}
