//! Sums of plane waves as solutions: u = sum of U sin(a.x + c), whose derivatives are known by hand in any dimension.
//!
//! Coefficients vary, and each law has its natural conditions on some sides. Start at `series`.

use std::fmt::Write as _;

use crate::common::solve;

/// Amplitude (one entry for each component), wave vector, phase.
struct Wave {
    amplitude: [f64; 3],
    a: [f64; 3],
    phase: f64,
}

const WAVES: [Wave; 2] = [
    Wave { amplitude: [1.0, 0.6, -0.8], a: [1.9, 1.2, -0.9], phase: 0.3 },
    Wave { amplitude: [0.7, -0.5, 0.9], a: [-1.1, 1.6, 1.4], phase: 1.1 },
];

/// A symmetric positive definite tensor; its leading block in two dimensions.
const TENSOR: [[f64; 3]; 3] = [[2.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 1.5]];

const SIDES: [[&str; 2]; 3] = [["x-min", "x-max"], ["y-min", "y-max"], ["z-min", "z-max"]];

#[derive(Clone, Copy)]
pub enum Law {
    /// Variable diffusion and reaction, with inflow and Robin sides.
    Poisson,
    /// A variable, full diffusion tensor, with an inflow side.
    Anisotropic,
    /// Diffusion dominates within a cell.
    Diffusive,
    /// Transport dominates within a cell.
    Convective,
    /// The steady heat equation with a diagonal tensor and a Robin side.
    Heat,
    /// Elasticity, in two dimensions plane strain, with tractions and a sliding support.
    Elasticity,
    /// Plane stress.
    PlaneStress,
}

impl Wave {
    fn dot(&self, dim: usize, v: &[f64]) -> f64 {
        (0..dim).map(|k| self.a[k] * v[k]).sum()
    }

    fn phase_text(&self, dim: usize) -> String {
        let terms: Vec<String> =
            (0..dim).map(|k| format!("({})*{}", self.a[k], ["x", "y", "z"][k])).collect();
        format!("{} + {}", terms.join(" + "), self.phase)
    }

    /// `s sin + c cos` of this wave; the factors are expressions.
    fn combine(&self, dim: usize, s: &str, c: &str) -> String {
        let phase = self.phase_text(dim);
        format!("({s})*sin({phase}) + ({c})*cos({phase})")
    }
}

/// A sum over the waves of `s sin + c cos`, with factors by wave.
fn sum(dim: usize, factors: impl Fn(&Wave) -> (String, String)) -> String {
    let parts: Vec<String> = WAVES
        .iter()
        .map(|w| {
            let (s, c) = factors(w);
            w.combine(dim, &s, &c)
        })
        .collect();
    parts.join(" + ")
}

fn vector(parts: Vec<String>) -> String {
    let quoted: Vec<String> = parts.iter().map(|p| format!("\"{p}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Component `k` of the solution.
fn exact(dim: usize, k: usize) -> String {
    sum(dim, |w| (w.amplitude[k].to_string(), "0".into()))
}

fn unit(axis: usize) -> [f64; 3] {
    let mut e = [0.0; 3];
    e[axis] = 1.0;
    e
}

fn times(m: &[[f64; 3]; 3], v: &[f64; 3], dim: usize) -> [f64; 3] {
    let mut out = [0.0; 3];
    for (i, out) in out.iter_mut().enumerate().take(dim) {
        *out = (0..dim).map(|j| m[i][j] * v[j]).sum();
    }
    out
}

/// The sections of a scalar law. Diffusion is `factor(x) * K` with `grad factor = slope factor e_x`.
fn scalar(law: Law, dim: usize) -> String {
    let x = ["x", "y", "z"];
    let identity = [unit(0), unit(1), unit(2)];
    let (k, growth) = match law {
        Law::Anisotropic => (TENSOR, 0.5),
        Law::Convective => (identity.map(|row| row.map(|e| 1e-4 * e)), 0.0),
        _ => (identity, 0.5),
    };
    let factor = if growth == 0.0 { "1".to_owned() } else { format!("exp({growth}*x)") };
    let reaction = match law {
        Law::Poisson => format!("1.5 + {}", x[dim - 1]),
        Law::Diffusive | Law::Convective => "0.5".to_owned(),
        _ => "0".to_owned(),
    };
    // Free of divergence.
    let velocity: Vec<&str> = match law {
        Law::Diffusive | Law::Convective if dim == 1 => vec!["1"],
        Law::Diffusive | Law::Convective => vec!["1 + 0.5*y", "0.5 - 0.25*x", "0.3"][..dim].to_vec(),
        _ => Vec::new(),
    };
    let amplitude = |w: &Wave| w.amplitude[0];
    let (source, conormal): (String, Box<dyn Fn(usize) -> String>) = if matches!(law, Law::Heat) {
        // Conductivity diag(1 + k + x_k / 2).
        let entry = |d: usize| format!("({} + 0.5*{})", d + 1, x[d]);
        let source = sum(dim, |w| {
            let s: Vec<String> =
                (0..dim).map(|d| format!("{}*{}", amplitude(w) * w.a[d] * w.a[d], entry(d))).collect();
            let c: f64 = (0..dim).map(|d| -0.5 * w.a[d]).sum::<f64>() * amplitude(w);
            (s.join(" + "), c.to_string())
        });
        let conormal = move |axis: usize| {
            sum(dim, |w| {
                ("0".into(), format!("({})*({} + 0.5*{})", amplitude(w) * w.a[axis], axis + 1, x[axis]))
            })
        };
        (source, Box::new(conormal))
    } else {
        let f = factor.clone();
        let source = sum(dim, |w| {
            let ka = times(&k, &w.a, dim);
            let u = amplitude(w);
            let s = format!("({})*{f} + ({u})*({reaction})", u * w.dot(dim, &ka));
            let advected: Vec<String> =
                velocity.iter().enumerate().map(|(d, v)| format!("({})*({v})", u * w.a[d])).collect();
            let advected = if advected.is_empty() { "0".to_owned() } else { advected.join(" + ") };
            (s, format!("({})*{f} + {advected}", -u * growth * ka[0]))
        });
        let f = factor.clone();
        let conormal = move |axis: usize| {
            sum(dim, |w| ("0".into(), format!("({})*{f}", amplitude(w) * times(&k, &w.a, dim)[axis])))
        };
        (source, Box::new(conormal))
    };
    let mut text = String::new();
    let name = match law {
        Law::Poisson | Law::Anisotropic => "poisson",
        Law::Heat => "heat",
        _ => "convection-diffusion",
    };
    let _ = writeln!(text, "[physics]\nlaw = \"{name}\"\nsource = \"{source}\"");
    if matches!(law, Law::Heat) {
        let entries = (0..dim).map(|d| format!("{} + 0.5*{}", d + 1, x[d])).collect();
        let _ = writeln!(text, "conductivity = {}", vector(entries));
    } else {
        let rows: Vec<String> =
            (0..dim).map(|i| vector((0..dim).map(|j| format!("({})*{factor}", k[i][j])).collect())).collect();
        let _ = writeln!(text, "diffusion = [{}]\nreaction = \"{reaction}\"", rows.join(", "));
    }
    if !velocity.is_empty() {
        let _ = writeln!(text, "velocity = {}", vector(velocity.iter().map(|v| v.to_string()).collect()));
    }
    let u = exact(dim, 0);
    let mut fixed: Vec<&str> = SIDES[..dim].iter().flatten().copied().collect();
    // Natural conditions on upper sides, where the normal is a coordinate axis.
    let mut natural = |axis: usize, robin: bool| {
        let side = SIDES[axis][1];
        fixed.retain(|s| *s != side);
        let q = conormal(axis);
        let condition = if robin {
            // q = 2 (ambient - u)
            format!("robin = {{ coefficient = 2, ambient = \"{u} + 0.5*({q})\" }}")
        } else {
            format!("inflow = \"{q}\"")
        };
        let _ = writeln!(text, "[boundary.{side}]\n{condition}");
    };
    match law {
        Law::Heat => natural(0, true),
        Law::Poisson => {
            natural(0, false);
            if dim > 1 {
                natural(1, true);
            }
        }
        _ => natural(0, false),
    }
    let _ = writeln!(text, "[boundary.fixed]\non = {}\nvalue = \"{u}\"", vector(owned(&fixed)));
    let _ = writeln!(text, "[exact]\nvalue = \"{u}\"");
    text
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

/// Young's modulus is exp(x/2).
fn elasticity(law: Law, dim: usize) -> String {
    let nu = 0.3;
    let stress = matches!(law, Law::PlaneStress);
    let mu = if dim == 1 { 0.5 } else { 0.5 / (1.0 + nu) };
    let lambda = match dim {
        1 => 0.0,
        _ if stress => nu / (1.0 - nu * nu),
        _ => nu / ((1.0 + nu) * (1.0 - 2.0 * nu)),
    };
    // The factor of cos in stress (i, j), for a modulus of 1.
    let sigma = |w: &Wave, i: usize, j: usize| {
        let divergence = w.dot(dim, &w.amplitude);
        let shear = mu * (w.amplitude[i] * w.a[j] + w.amplitude[j] * w.a[i]);
        shear + if i == j { lambda * divergence } else { 0.0 }
    };
    let force = (0..dim)
        .map(|i| {
            sum(dim, |w| {
                let s = (lambda + mu) * w.dot(dim, &w.amplitude) * w.a[i]
                    + mu * w.dot(dim, &w.a) * w.amplitude[i];
                (format!("({s})*exp(0.5*x)"), format!("({})*exp(0.5*x)", -0.5 * sigma(w, i, 0)))
            })
        })
        .collect();
    let traction =
        |axis: usize, i: usize| sum(dim, |w| ("0".into(), format!("({})*exp(0.5*x)", sigma(w, i, axis))));
    let mut text = String::new();
    let _ = writeln!(text, "[physics]\nlaw = \"elasticity\"\nyoung = \"exp(0.5*x)\"\npoisson_ratio = {nu}");
    let _ = writeln!(text, "body_force = {}", vector(force));
    if dim == 2 {
        let plane = if stress { "plane = \"stress\"\nthickness = 0.2" } else { "plane = \"strain\"" };
        let _ = writeln!(text, "{plane}");
    }
    let u = vector((0..dim).map(|k| exact(dim, k)).collect());
    let mut fixed: Vec<&str> = SIDES[..dim].iter().flatten().copied().collect();
    fixed.retain(|s| *s != "x-max" && (dim == 1 || *s != "y-max"));
    let on = |axis: usize| vector((0..dim).map(|i| traction(axis, i)).collect());
    let _ = writeln!(text, "[boundary.x-max]\ntraction = {}", on(0));
    if dim > 1 {
        // Slides: the normal component is given, the traction acts along the side.
        let _ = writeln!(
            text,
            "[boundary.y-max]\ndisplacement = {{ y = \"{}\" }}\ntraction = {}",
            exact(dim, 1),
            on(1)
        );
    }
    let _ = writeln!(text, "[boundary.fixed]\non = {}\ndisplacement = {u}", vector(owned(&fixed)));
    let _ = writeln!(text, "[exact]\ndisplacement = {u}");
    text
}

/// The case on a unit box of `n` cells a side.
pub fn case(law: Law, shape: &str, degree: usize, n: usize) -> String {
    let dim = dimension(shape);
    let physics = match law {
        Law::Elasticity | Law::PlaneStress => elasticity(law, dim),
        _ => scalar(law, dim),
    };
    let (size, cells) = (vec!["1.0"; dim].join(", "), vec![n.to_string(); dim].join(", "));
    format!(
        "[mesh]\nbox = {{ size = [{size}], cells = [{cells}], shape = \"{shape}\" }}\n\
         [space]\ndegree = {degree}\n[solver]\nmethod = \"direct\"\n{physics}"
    )
}

pub fn dimension(shape: &str) -> usize {
    match shape {
        "interval" => 1,
        "triangle" | "quadrilateral" => 2,
        _ => 3,
    }
}

/// Solves on `n` and `2 n` cells a side; returns the slopes in L2 and H1.
pub fn slopes(law: Law, shape: &str, degree: usize, n: usize) -> [f64; 2] {
    let errors = [n, 2 * n].map(|n| {
        let ran = solve(&case(law, shape, degree, n));
        [ran.l2(), ran.h1()]
    });
    [0, 1].map(|k| (errors[0][k] / errors[1][k]).log2())
}

/// Asserts the orders of convergence of a law on a shape, for several degrees.
fn series(law: Law, name: &str, shape: &str, degrees: &[usize]) {
    let mut low = Vec::new();
    for &p in degrees {
        // Degree 2 against the wind is late to show its order.
        let finer = match (law, p) {
            (Law::Convective, 2) if shape == "hexahedron" => 4,
            (Law::Convective, 2) => 2,
            _ => 1,
        };
        let n = finer
            * match (dimension(shape), p) {
                (1, _) => 8,
                (2, _) => 4,
                (_, 1) => 4,
                _ => 2,
            };
        let [l2, h1] = slopes(law, shape, p, n);
        // Streamline stabilisation costs half an order in L2 where transport dominates.
        let wanted = p as f64 + if matches!(law, Law::Convective) { 0.4 } else { 0.9 };
        let line = format!("{name:<14} {shape:<14} degree {p}: L2 {l2:.2}, H1 {h1:.2}");
        println!("{line}");
        if !(l2 >= wanted && h1 >= p as f64 - 0.1) {
            low.push(line);
        }
    }
    assert!(low.is_empty(), "too slow:\n{}", low.join("\n"));
}

macro_rules! laws {
    ($($name:ident: $law:expr, [$($shape:ident),*];)*) => {
        $(mod $name {
            $(mod $shape {
                use super::super::{Law, dimension, series};

                #[test]
                fn low_degrees() {
                    let name = stringify!($name);
                    let most = if dimension(stringify!($shape)) < 3 { 4 } else { 2 };
                    series($law, name, stringify!($shape), &(1..=most).collect::<Vec<_>>());
                }

                #[test]
                #[ignore = "long"]
                fn high_degrees() {
                    if dimension(stringify!($shape)) == 3 {
                        series($law, stringify!($name), stringify!($shape), &[3, 4]);
                    }
                }
            })*
        })*
    };
}

laws! {
    poisson: Law::Poisson, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    anisotropic: Law::Anisotropic, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    diffusive: Law::Diffusive, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    convective: Law::Convective, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    heat: Law::Heat, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    elasticity: Law::Elasticity, [interval, triangle, quadrilateral, tetrahedron, hexahedron];
    plane_stress: Law::PlaneStress, [triangle, quadrilateral];
}
