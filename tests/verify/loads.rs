//! Supports along normals, point loads, pressure, and the balance of loads and reactions.

use crate::common::{Case, Ran, mesh, solve};
use crate::lattice;
use crate::manufactured::dimension;

const ELASTIC: &str = "[physics]\nlaw = \"elasticity\"\nyoung = 10\npoisson_ratio = 0.3\n";

fn close(what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}: {found:?}");
    for (f, w) in found.iter().zip(wanted) {
        assert!((f - w).abs() <= tolerance, "{what}: {found:?} instead of {wanted:?}");
    }
}

fn head(mesh: &str, degree: usize) -> String {
    format!("[mesh]\n{mesh}\n[space]\ndegree = {degree}\n[solver]\nmethod = \"direct\"\ntolerance = 1e-11\n")
}

fn exact(name: &str, ran: &Ran) {
    println!("{name:<44} L2 {:.1e}, H1 {:.1e}", ran.l2(), ran.h1());
    assert!(
        ran.l2() < 1e-12 && ran.h1() < 1e-11,
        "{name}: L2 {:e}, H1 {:e}\n{}",
        ran.l2(),
        ran.h1(),
        ran.text
    );
}

/// `over` takes a region's heading, and `value` and `u` name the field in one dimension too.
#[test]
fn names_of_regions_and_fields() {
    let ran = solve(
        "[mesh]\nbox = { size = [2, 1], cells = [4, 4] }\n[space]\ndegree = { value = 2 }\n[physics]\nlaw = \"poisson\"\n\
         [region.all]\non = [\"box\"]\ndiffusion = 4\n[boundary.x-min]\nvalue = 0\n[boundary.x-max]\nvalue = 2\n\
         [[integral]]\nname = \"mean\"\nover = \"all\"\nof = \"value\"\n\
         [[integral]]\nname = \"flux\"\nover = \"all\"\nof = \"flux.x\"\n",
    );
    close("mean", &ran.integral("mean"), &[2.0], 1e-7);
    close("flux", &ran.integral("flux"), &[-8.0], 1e-6);
    let ran = solve(
        "[mesh]\nbox = { size = [2], cells = [4] }\n[physics]\nlaw = \"elasticity\"\nyoung = 10\npoisson_ratio = 0\n\
         [boundary.x-min]\ndisplacement = { x = 0 }\n[boundary.x-max]\ntraction = [5]\n\
         [[integral]]\nname = \"moved\"\nof = \"displacement.x\"\n[[integral]]\nname = \"strain\"\nof = \"grad.xx\"\n",
    );
    close("moved", &ran.integral("moved"), &[1.0], 1e-7);
    close("strain", &ran.integral("strain"), &[1.0], 1e-7);
}

/// A body on slanted rollers, pressed along its own axis: rollers of one, two and three directions meet.
#[test]
fn slanted_supports() {
    for shape in ["triangle", "quadrilateral", "tetrahedron", "hexahedron"] {
        let dim = dimension(shape);
        let text = lattice::mapped(shape, [3, 2, 2], |x| lattice::turned(dim, x));
        // Along the body's axes: -p/E and nu p/E; the axes in space are the rows of the rotation.
        let axes: [[f64; 3]; 3] = std::array::from_fn(|k| {
            let mut e = [0.0; 3];
            e[k] = 1.0;
            lattice::turned(dim, e)
        });
        let stretch = [-0.05, 0.015, 0.015];
        let u: Vec<String> = (0..dim)
            .map(|i| {
                let terms: Vec<String> = (0..dim)
                    .map(|j| {
                        let g: f64 = (0..dim).map(|k| axes[k][i] * stretch[k] * axes[k][j]).sum();
                        format!("({g:e})*{}", ["x", "y", "z"][j])
                    })
                    .collect();
                format!("\"{}\"", terms.join(" + "))
            })
            .collect();
        let rollers = &["\"x-min\"", "\"y-min\"", "\"z-min\""][..dim];
        let plane = if dim == 2 { "plane = \"stress\"\n" } else { "" };
        for degree in [1, 2] {
            let case = format!(
                "{}{ELASTIC}{plane}[boundary.rollers]\non = [{}]\ndisplacement = {{ n = 0 }}\n\
                 [boundary.x-max]\npressure = 0.5\n[exact]\ndisplacement = [{}]\n\
                 [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n",
                head("file = \"turned.msh\"", degree),
                rollers.join(", "),
                u.join(", ")
            );
            let ran = Case::new(&case).file("turned.msh", &text).solve();
            exact(&format!("slanted {shape}, degree {degree}"), &ran);
            let push: Vec<f64> = axes[0][..dim].iter().map(|a| 0.5 * a).collect();
            close("support", &ran.integral("support"), &push, 1e-11);
        }
    }
}

/// A ball under pressure: uniform stress, exact on cells of second order.
#[test]
fn ball_under_pressure() {
    let u: Vec<String> = ["x", "y", "z"].iter().map(|x| format!("\"{}*{x}\"", -0.4 * 0.7 / 10.0)).collect();
    let case = format!(
        "{}{ELASTIC}[boundary.sphere]\npressure = 0.7\n\
         [boundary.planes]\non = [\"x-min\", \"y-min\", \"z-min\"]\ndisplacement = {{ n = 0 }}\n\
         [exact]\ndisplacement = [{}]\n\
         [[probe]]\nname = \"stress\"\nat = [0.3, 0.3, 0.3]\nfield = \"stress\"\n\
         [[integral]]\nname = \"push\"\nover = \"x-min\"\nof = \"reaction.x\"\n\
         [[integral]]\nname = \"area\"\nover = \"x-min\"\nof = \"stress.xx\"\n",
        head(&format!("file = \"{}\"", mesh("octant-tet10-1.msh")), 2),
        u.join(", ")
    );
    let ran = solve(&case);
    exact("ball under pressure", &ran);
    close("stress", &ran.probe("stress"), &[-0.7, -0.7, -0.7, 0.0, 0.0, 0.0], 1e-11);
    // The support pushes towards +x what the stress carries.
    close("push", &ran.integral("push"), &[-ran.integral("area")[0]], 1e-11);
}

/// A cylinder in a smooth, tight sleeve, pressed from above: normals of a round side of many facets.
#[test]
fn tight_sleeve() {
    for (shape, degree) in [("hexahedron", 1), ("tetrahedron", 1), ("hexahedron", 2), ("tetrahedron", 2)] {
        let text = lattice::mapped(shape, [4, 4, 3], lattice::column);
        let case = format!(
            "{}{ELASTIC}[boundary.side]\non = [\"x-min\", \"x-max\", \"y-min\", \"y-max\"]\n\
             displacement = {{ n = 0 }}\n[boundary.z-min]\ndisplacement = {{ z = 0 }}\n\
             [boundary.z-max]\ndisplacement = {{ z = -0.03 }}\n\
             [boundary.pin]\nat = [0.5, 0, 0]\ndisplacement = {{ y = 0 }}\n\
             [exact]\ndisplacement = [0, 0, \"-0.01*z\"]\n\
             [[integral]]\nname = \"push\"\nover = \"z-max\"\nof = \"reaction.z\"\n\
             [[integral]]\nname = \"area\"\nover = \"z-max\"\nof = \"u.z\"\n",
            head("file = \"column.msh\"", degree)
        );
        let ran = Case::new(&case).file("column.msh", &text).solve();
        exact(&format!("tight sleeve, {shape} degree {degree}"), &ran);
        let area = ran.integral("area")[0] / -0.03;
        let modulus = 10.0 * 0.7 / (1.3 * 0.4);
        close("push", &ran.integral("push"), &[-0.01 * modulus * area], 1e-11);
    }
}

/// An octant of a ball in a smooth socket: the socket and the plane sides carry its weight.
#[test]
fn socket_carries_the_weight() {
    let case = format!(
        "{}{ELASTIC}body_force = [0.1, 0.2, -1]\n[boundary.sphere]\ndisplacement = {{ n = 0 }}\n\
         [boundary.pin]\non = [\"x-min\"]\ndisplacement = {{ x = 0 }}\n[boundary.y-min]\ndisplacement = {{ n = 0 }}\n\
         [[integral]]\nname = \"reaction\"\nof = \"reaction\"\n[[integral]]\nname = \"volume\"\nof = \"u.x\"\n",
        head(&format!("file = \"{}\"", mesh("octant-tet10-2.msh")), 2)
    );
    let ran = solve(&case);
    let r = ran.integral("reaction");
    let volume = r[2];
    assert!((volume - std::f64::consts::PI / 6.0).abs() < 2e-3, "{r:?}");
    close("reaction", &r, &[-0.1 * volume, -0.2 * volume, volume], 1e-9);
}

/// A bar with a force at its end, and one with a force inside.
#[test]
fn point_forces_on_a_bar() {
    let case = format!(
        "{}[physics]\nlaw = \"elasticity\"\nyoung = 4\npoisson_ratio = 0\n\
         [boundary.x-min]\ndisplacement = [0]\n[boundary.end]\nat = [1]\nforce = [2]\n\
         [boundary.middle]\nat = [0.5]\nforce = [\"-4*x\"]\n\
         [exact]\ndisplacement = [\"if(x < 0.5, 0, 0.5*(x - 0.5))\"]\n\
         [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction.x\"\n",
        head("box = { size = [1], cells = [4] }", 2)
    );
    let ran = solve(&case);
    exact("bar with forces", &ran);
    close("support", &ran.integral("support"), &[0.0], 1e-12);
}

/// All kinds of loads at once, on every shape: forces and moments of reactions balance them.
#[test]
fn reactions_balance() {
    for shape in ["triangle", "quadrilateral", "tetrahedron", "hexahedron"] {
        let dim = dimension(shape);
        let text = lattice::crooked(shape, if dim == 3 { 2 } else { 4 });
        let (body, traction, force) = ([0.3, -1.0, 0.2], [0.5, 0.25, -0.75], [1.0, -2.0, 3.0]);
        let corner = [1.0, 0.0, 0.0];
        for degree in [1, 3] {
            // The pressure on y-max is x: a resultant of -1/2 along y; thickness scales all but the point force.
            let (extra, thickness) =
                if dim == 2 { ("plane = \"stress\"\nthickness = 0.5\n", 0.5) } else { ("", 1.0) };
            let case = format!(
                "{}{ELASTIC}{extra}body_force = {:?}\n[boundary.x-min]\ndisplacement = {:?}\n\
                 [boundary.x-max]\ntraction = {:?}\n[boundary.y-max]\npressure = \"x\"\n\
                 [boundary.corner]\nat = {:?}\nforce = {:?}\n\
                 [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n\
                 [[integral]]\nname = \"all\"\nof = \"reaction\"\n",
                head("file = \"crooked.msh\"", degree),
                &body[..dim],
                &[0.01, 0.02, 0.0][..dim],
                &traction[..dim],
                &corner[..dim],
                &force[..dim],
            );
            let ran = Case::new(&case).file("crooked.msh", &text).solve();
            let wanted: Vec<f64> = (0..dim)
                .map(|k| {
                    let pressure = if k == 1 { -0.5 } else { 0.0 };
                    -(thickness * (body[k] + traction[k] + pressure) + force[k])
                })
                .collect();
            close("support", &ran.integral("support"), &wanted, 1e-9);
            close("all", &ran.integral("all"), &wanted, 1e-9);
        }
    }
}

/// What leaves through the walls is what the source makes, by reactions exactly.
#[test]
fn heat_balances() {
    for shape in ["interval", "triangle", "quadrilateral", "tetrahedron", "hexahedron"] {
        let dim = dimension(shape);
        let text = lattice::crooked(shape, 4);
        let case = format!(
            "{}[physics]\nlaw = \"heat\"\nconductivity = \"1 + x\"\nsource = \"2*x\"\n[boundary.x-min]\ntemperature = 3\n\
             [boundary.x-max]\ninflow = 0.5\n\
             [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n\
             [[integral]]\nname = \"out\"\nover = \"x-min\"\nof = \"flux.n\"\n",
            head("file = \"crooked.msh\"", if dim == 3 { 2 } else { 4 })
        );
        let ran = Case::new(&case).file("crooked.msh", &text).solve();
        close("support", &ran.integral("support"), &[-1.5], 1e-10);
        // By the gradient, to the accuracy of the solution.
        close("out", &ran.integral("out"), &[1.5], 0.02);
    }
}

/// Reactions over single vertices, on any number of ranks: all that a source makes, and a quarter of the weight of a
/// body on four feet.
#[test]
fn reactions_at_vertices() {
    let pin =
        "[boundary.c]\nat = [0, 0]\nvalue = 0\n[[integral]]\nname = \"c\"\nover = \"c\"\nof = \"reaction\"\n";
    let (mut feet, mut over) = (String::new(), String::new());
    for (name, at) in [("a", "0, 0, 0"), ("b", "2, 0, 0"), ("c", "0, 2, 0"), ("d", "2, 2, 0")] {
        feet += &format!("[boundary.{name}]\nat = [{at}]\ndisplacement = [0, 0, 0]\n");
        over += &format!("[[integral]]\nname = \"{name}\"\nover = \"{name}\"\nof = \"reaction.z\"\n");
    }
    for ranks in 1..=3 {
        for degree in [1, 2] {
            let solved = |mesh: &str, rest: &str| {
                Case::new(&format!("{}{rest}", head(&format!("box = {mesh}"), degree))).ranks(ranks).solve()
            };
            let source = format!("[physics]\nlaw = \"poisson\"\nsource = 1\n{pin}");
            let ran = solved("{ size = [1, 1], cells = [4, 4] }", &source);
            close("pin", &ran.integral("c"), &[-1.0], 1e-9);
            let weight = format!("{ELASTIC}body_force = [0, 0, -1]\n{feet}{over}");
            let ran = solved("{ size = [2, 2, 1], cells = [4, 4, 2], shape = \"hexahedron\" }", &weight);
            for foot in ["a", "b", "c", "d"] {
                close(foot, &ran.integral(foot), &[1.0], 1e-8);
            }
        }
    }
}
