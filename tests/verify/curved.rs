//! Cells of second order keep the order of convergence on curved domains, with natural conditions there.

use crate::common::{Case, mesh, solve};
use crate::lattice;

/// The size of cells, by their number, and the errors.
fn errors(text: Option<&str>, file: &str, degree: usize, body: &str) -> [f64; 3] {
    let case = format!(
        "[mesh]\nfile = \"{file}\"\n[space]\ndegree = {degree}\n[solver]\nmethod = \"direct\"\n{body}"
    );
    let case = Case::new(&case);
    let ran = match text {
        Some(text) => case.file(file, text).solve(),
        None => case.solve(),
    };
    let h = ran.number("/mesh/cells").powf(-1.0 / ran.number("/mesh/dimension"));
    [h, ran.l2(), ran.h1()]
}

/// Asserts the orders for degrees 1 and 2.
fn converges(name: &str, errors: impl Fn(usize, usize) -> [f64; 3]) {
    let mut low = Vec::new();
    for p in [1, 2] {
        let [coarse, fine] = [0, 1].map(|level| errors(p, level));
        let slope = |k: usize| (coarse[k] / fine[k]).ln() / (coarse[0] / fine[0]).ln();
        let line = format!("{name:<30} degree {p}: L2 {:.2}, H1 {:.2}", slope(1), slope(2));
        println!("{line}");
        if !(slope(1) >= p as f64 + 0.9 && slope(2) >= p as f64 - 0.1) {
            low.push(line);
        }
    }
    assert!(low.is_empty(), "too slow:\n{}", low.join("\n"));
}

/// On rings of quadrilaterals and of triangles.
fn converges_on_rings(name: &str, body: &str) {
    for shape in ["quadrilateral", "triangle"] {
        converges(&format!("{name}, {shape}"), |p, level| {
            errors(Some(&lattice::ring(shape, [8, 16][level])), "ring.msh", p, body)
        });
    }
}

/// u = log(x^2 + y^2), with inflow through the inner circle.
#[test]
fn potential_on_a_ring() {
    let body = "[physics]\nlaw = \"poisson\"\n[boundary.inner]\ninflow = -2\n\
                [boundary.outer]\nvalue = \"log(x^2 + y^2)\"\n[exact]\nvalue = \"log(x^2 + y^2)\"\n";
    converges_on_rings("potential", body);
}

/// The displacement of an infinite plate with a round hole of radius 1, pulled along x by 1.
///
/// Source: G. Kirsch, VDI-Z. 42 (1898).
pub fn kirsch(young: f64, nu: f64) -> [String; 2] {
    let mu = young / (2.0 * (1.0 + nu));
    let kappa = (3.0 - nu) / (1.0 + nu);
    let (r2, f) = ("(x^2 + y^2)", 1.0 / (8.0 * mu));
    let (cos3, sin3) = (format!("(x^3 - 3*x*y^2)/{r2}^2"), format!("(3*x^2*y - y^3)/{r2}^2"));
    // r cos(t) = x; cos(t)/r = x/r^2; cos(3t)/r = cos3; cos(3t)/r^3 = cos3/r^2.
    [
        format!("{f}*({}*x + {}*x/{r2} + 2*{cos3} - 2*{cos3}/{r2})", kappa + 1.0, 2.0 * (1.0 + kappa)),
        format!("{f}*({}*y + {}*y/{r2} + 2*{sin3} - 2*{sin3}/{r2})", kappa - 3.0, 2.0 * (1.0 - kappa)),
    ]
}

pub fn plate_with_hole() -> String {
    let [x, y] = kirsch(1000.0, 0.3);
    format!(
        "[physics]\nlaw = \"elasticity\"\nyoung = 1000\npoisson_ratio = 0.3\nplane = \"stress\"\n\
         [boundary.outer]\ndisplacement = [\"{x}\", \"{y}\"]\n[exact]\ndisplacement = [\"{x}\", \"{y}\"]\n"
    )
}

#[test]
fn plates_with_holes() {
    converges_on_rings("plate with hole", &plate_with_hole());
}

/// Pushed outwards by a smooth shaft: displacement along the normals of the inner circle, none of it tangential.
///
/// The outer circle is given, rather than a pin: a rotation left to one node's value would have its error, which
/// on triangles of degree 1 is of order h^2 |log h|.
#[test]
fn ring_on_a_shaft() {
    // u = r + 4 / ((1 - 2 nu) r) times a factor leaves the outer circle free in plane strain.
    let u = "(0.01*(1 + 4/(0.4*(x^2 + y^2))))";
    let body = format!(
        "[physics]\nlaw = \"elasticity\"\nyoung = 10\npoisson_ratio = 0.3\n\
         [boundary.inner]\ndisplacement = {{ n = -0.11 }}\n\
         [boundary.outer]\ndisplacement = [\"x*{u}\", \"y*{u}\"]\n\
         [exact]\ndisplacement = [\"x*{u}\", \"y*{u}\"]\n"
    );
    converges_on_rings("ring on a shaft", &body);
}

/// u = cos(r^2): flat sides insulated, exchange through the sphere.
#[test]
fn ball() {
    let r2 = "(x^2 + y^2 + z^2)";
    let u = format!("cos({r2})");
    let body = format!(
        "[physics]\nlaw = \"poisson\"\nsource = \"4*{r2}*cos({r2}) + 6*sin({r2})\"\n\
         [boundary.sphere]\nrobin = {{ coefficient = 1, ambient = \"cos(1) - 2*sin(1)\" }}\n\
         [exact]\nvalue = \"{u}\"\n"
    );
    converges("ball", |p, level| {
        errors(None, &mesh(&format!("octant-tet10-{}.msh", [2, 4][level])), p, &body)
    });
}

/// The volume of a ball and the surface of its sphere, by integrals of a constant.
#[test]
fn measures() {
    let case = |file: &str| {
        format!(
            "[mesh]\nfile = \"{}\"\n[physics]\nlaw = \"poisson\"\n\
             [boundary.sphere]\nvalue = 1\n[solver]\nmethod = \"direct\"\n\
             [[integral]]\nname = \"volume\"\nof = \"u\"\n[[integral]]\nname = \"area\"\nover = \"sphere\"\nof = \"u\"\n",
            mesh(file)
        )
    };
    let off = [1, 2, 4].map(|n| {
        let ran = solve(&case(&format!("octant-tet10-{n}.msh")));
        let pi = std::f64::consts::PI;
        [ran.integral("volume")[0] / (pi / 6.0) - 1.0, ran.integral("area")[0] / (pi / 2.0) - 1.0]
    });
    println!("volume and area of the octant are off by {off:?}");
    assert!(off[2].iter().all(|o| o.abs() < 1e-4), "{off:?}");
    assert!((0..2).all(|k| off[2][k].abs() < 0.15 * off[1][k].abs()), "{off:?}");
}
