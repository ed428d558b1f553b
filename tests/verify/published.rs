//! Known values of structures: closed forms, and benchmarks of the literature.

use crate::common::{Case, mesh, solve};
use crate::curved;
use crate::lattice;

fn near(what: &str, found: f64, wanted: f64, relative: f64) {
    println!("{what:<40} {found:.6}, known {wanted:.6}");
    assert!((found - wanted).abs() <= relative * wanted.abs(), "{what}: {found} instead of {wanted}");
}

/// Cook's membrane in plane stress: E = 1, nu = 1/3, a unit shear load; 23.96 at the middle of the loaded side.
///
/// Source: R. Cook, J. Struct. Div. ASCE 100 (1974); the value as in T. Pian, K. Sumihara, Int. J. Numer. Meth.
/// Engrg. 20 (1984), by refinement.
#[test]
fn cooks_membrane() {
    let place = |x: [f64; 3]| {
        let (low, high) = (44.0 * x[0], 44.0 + 16.0 * x[0]);
        [48.0 * x[0], low + x[1] * (high - low), 0.0]
    };
    for (shape, n, degree) in [("quadrilateral", 16, 2), ("triangle", 16, 3), ("quadrilateral", 8, 4)] {
        let case = format!(
            "[mesh]\nfile = \"cook.msh\"\n[space]\ndegree = {degree}\n\
             [physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = \"1/3\"\nplane = \"stress\"\n\
             [boundary.x-min]\ndisplacement = [0, 0]\n[boundary.x-max]\ntraction = [0, \"1/16\"]\n\
             [[probe]]\nname = \"tip\"\nat = [48, 52]\nfield = \"u.y\"\n"
        );
        let ran = Case::new(&case).file("cook.msh", &lattice::mapped(shape, [n; 3], place)).solve();
        near(&format!("Cook's membrane, {shape} degree {degree}"), ran.probe("tip")[0], 23.96, 1e-3);
    }
}

/// A cantilever with the parabolic end shear of beam theory: a cubic, found exactly at degree 3.
///
/// Source: S. Timoshenko, J. Goodier, Theory of Elasticity, section 21.
#[test]
fn cantilever() {
    let (length, depth, young, nu, load) = (8.0_f64, 2.0_f64, 100.0_f64, 0.3_f64, 0.5_f64);
    let inertia = depth * depth * depth / 12.0;
    let f = load / (6.0 * young * inertia);
    let ux = format!("-{f}*y*((6*{length} - 3*x)*x + (2 + {nu})*(y^2 - {depth}^2/4))");
    let uy = format!("{f}*(3*{nu}*y^2*({length} - x) + (4 + 5*{nu})*{depth}^2*x/4 + (3*{length} - x)*x^2)");
    for shape in ["triangle", "quadrilateral"] {
        let ran = solve(&format!(
            "[mesh]\nbox = {{ size = [8, 2], cells = [8, 2], shape = \"{shape}\", origin = [0, -1] }}\n\
             [space]\ndegree = 3\n[solver]\nmethod = \"direct\"\ntolerance = 1e-11\n\
             [physics]\nlaw = \"elasticity\"\nyoung = {young}\npoisson_ratio = {nu}\nplane = \"stress\"\n\
             [boundary.x-min]\ndisplacement = [\"{ux}\", \"{uy}\"]\n\
             [boundary.x-max]\ntraction = [0, \"{load}/(2*{inertia})*({depth}^2/4 - y^2)\"]\n\
             [exact]\ndisplacement = [\"{ux}\", \"{uy}\"]\n\
             [[probe]]\nname = \"tip\"\nat = [8, 0]\nfield = \"u.y\"\n\
             [[probe]]\nname = \"bending\"\nat = [4, 1]\nfield = \"stress.xx\"\n\
             [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction.y\"\n"
        ));
        assert!(ran.l2() < 1e-10 && ran.h1() < 1e-10, "{shape}: {:e} {:e}", ran.l2(), ran.h1());
        near(
            "deflection of a beam",
            ran.probe("tip")[0],
            f * ((4.0 + 5.0 * nu) * 8.0 + 2.0 * length.powi(3)),
            1e-10,
        );
        near("bending stress", ran.probe("bending")[0], -load * 4.0 / inertia, 1e-9);
        near("shear force", ran.integral("support")[0], -load, 1e-9);
    }
}

/// A round hole triples the stress beside it.
#[test]
fn stress_concentration() {
    let case = format!(
        "[mesh]\nfile = \"{}\"\n[space]\ndegree = 4\n{}\
         [[probe]]\nname = \"beside\"\nat = [0, 1]\nfield = \"stress.xx\"\n\
         [[probe]]\nname = \"before\"\nat = [1, 0]\nfield = \"stress.yy\"\n",
        mesh("annulus-quad9-8.msh"),
        curved::plate_with_hole()
    );
    let ran = solve(&case);
    near("stress beside a hole", ran.probe("beside")[0], 3.0, 0.005);
    near("stress before a hole", ran.probe("before")[0], -1.0, 0.01);
}

/// Lame's thick cylinder, radii 1 and 2, under inner pressure.
fn lame(young: f64, nu: f64, pressure: f64) -> String {
    let f = (1.0 + nu) / young * pressure / 3.0;
    format!("{f}*({} + 4/(x^2 + y^2))", 1.0 - 2.0 * nu)
}

#[test]
fn thick_cylinder() {
    let (young, nu, pressure) = (200.0, 0.25, 3.0);
    let radial = lame(young, nu, pressure);
    let physics = format!("[physics]\nlaw = \"elasticity\"\nyoung = {young}\npoisson_ratio = {nu}\n");
    // In the plane; three pins without force stop rigid motions.
    let ran = solve(&format!(
        "[mesh]\nfile = \"{}\"\n[space]\ndegree = 2\n{physics}[boundary.inner]\npressure = {pressure}\n\
         [boundary.right]\nat = [1, 0]\ndisplacement = {{ y = 0 }}\n[boundary.left]\nat = [-1, 0]\ndisplacement = {{ y = 0 }}\n\
         [boundary.up]\nat = [0, 1]\ndisplacement = {{ x = 0 }}\n\
         [exact]\ndisplacement = [\"x*{radial}\", \"y*{radial}\"]\n\
         [[integral]]\nname = \"pins\"\nof = \"reaction\"\n\
         [[probe]]\nname = \"u\"\nat = [2, 0]\nfield = \"u.x\"\n\
         [[probe]]\nname = \"stress\"\nat = [0, 2]\nfield = \"stress\"\n",
        mesh("annulus-quad9-8.msh")
    ));
    near("outer displacement", ran.probe("u")[0], 2.0 * 1.25 / 200.0 * (0.5 + 1.0), 1e-4);
    // Hoop and axial stress at the outer side: 2 p a^2 / (b^2 - a^2), and nu times that.
    let stress = ran.probe("stress");
    near("hoop stress", stress[0], 2.0, 2e-3);
    near("axial stress", stress[2], 0.5, 5e-3);
    assert!(ran.integral("pins").iter().all(|r| r.abs() < 1e-9), "{:?}", ran.integral("pins"));
    let errors = [1, 2].map(|n| {
        // In space, between smooth plates.
        let ran = solve(&format!(
            "[mesh]\nfile = \"{}\"\n[space]\ndegree = 2\n{physics}[boundary.inner]\npressure = {pressure}\n\
             [boundary.plates]\non = [\"bottom\", \"top\"]\ndisplacement = {{ n = 0 }}\n\
             [boundary.right]\nat = [1, 0, 0]\ndisplacement = {{ y = 0 }}\n\
             [boundary.left]\nat = [-1, 0, 0]\ndisplacement = {{ y = 0 }}\n\
             [boundary.up]\nat = [0, 1, 0]\ndisplacement = {{ x = 0 }}\n\
             [exact]\ndisplacement = [\"x*{radial}\", \"y*{radial}\", 0]\n",
            mesh(&format!("pipe-hex27-{n}.msh"))
        ));
        ran.l2() / (radial_norm(young, nu, pressure))
    });
    println!("thick cylinder in space: relative L2 errors {errors:?}");
    assert!(errors[1] < 5e-3 && errors[1] < 0.25 * errors[0], "{errors:?}");
}

/// The L2 norm of Lame's displacement over the ring of unit height.
fn radial_norm(young: f64, nu: f64, pressure: f64) -> f64 {
    let f = (1.0 + nu) / young * pressure / 3.0;
    let c = 1.0 - 2.0 * nu;
    // Integral of (c r + 4/r)^2 2 pi r from 1 to 2.
    let integral = c * c * 15.0 / 4.0 + 8.0 * c * 1.5 + 16.0 * 2f64.ln();
    f * (2.0 * std::f64::consts::PI * integral).sqrt()
}

/// A free body grows without stress; one held at both ends does not grow and is pressed.
#[test]
fn thermal_expansion() {
    for (shape, plane) in
        [("tetrahedron", ""), ("hexahedron", ""), ("triangle", "plane = \"stress\"\n"), ("interval", "")]
    {
        let dim = crate::manufactured::dimension(shape);
        let material = format!(
            "[physics]\nlaw = \"elasticity\"\nyoung = 200\npoisson_ratio = 0.3\nthermal_expansion = 1e-3\n\
             temperature = 70\nreference_temperature = 20\n{plane}"
        );
        let mesh = format!(
            "[mesh]\nbox = {{ size = {:?}, cells = {:?}, shape = \"{shape}\" }}\n[solver]\nmethod = \"direct\"\ntolerance = 1e-11\n",
            &[4.0, 1.0, 1.0][..dim],
            &[4, 2, 2][..dim]
        );
        let low = &["\"x-min\"", "\"y-min\"", "\"z-min\""][..dim];
        let u: Vec<String> = ["x", "y", "z"][..dim].iter().map(|x| format!("\"0.05*{x}\"")).collect();
        let free = solve(&format!(
            "{mesh}{material}[boundary.low]\non = [{}]\ndisplacement = {{ n = 0 }}\n[exact]\ndisplacement = [{}]\n\
             [[probe]]\nname = \"stress\"\nat = {:?}\nfield = \"stress\"\n",
            low.join(", "),
            u.join(", "),
            &[1.3, 0.4, 0.7][..dim]
        ));
        assert!(free.l2() < 1e-12 && free.h1() < 1e-12, "{shape}: {:e} {:e}", free.l2(), free.h1());
        assert!(free.probe("stress").iter().all(|s| s.abs() < 1e-10), "{shape}: {:?}", free.probe("stress"));
        let held = solve(&format!(
            "{mesh}{material}[boundary.low]\non = [{}, \"x-max\"]\ndisplacement = {{ n = 0 }}\n\
             [[probe]]\nname = \"stress\"\nat = {:?}\nfield = \"stress.xx\"\n\
             [[integral]]\nname = \"push\"\nover = \"x-max\"\nof = \"reaction.x\"\n",
            low.join(", "),
            &[1.3, 0.4, 0.7][..dim]
        ));
        near("stress of a held bar", held.probe("stress")[0], -10.0, 1e-10);
        near("its support", held.integral("push")[0], -10.0, 1e-10);
    }
}

/// A box of tetrahedra under its weight, clamped at one side, against the compliance that another program finds on
/// the same mesh (DOLFINx 0.5.2: 1.536005679).
#[test]
#[ignore = "680,000 unknowns"]
fn weight_of_a_box() {
    let case = "[mesh]\nbox = { size = [1, 1, 1], cells = [60, 60, 60], shape = \"tetrahedron\" }\n\
                [physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\nbody_force = [0, 0, -1]\n\
                [boundary.x-min]\ndisplacement = [0, 0, 0]\n[solver]\ntolerance = 1e-10\n[output]\nfields = [\"u\"]\n\
                [[integral]]\nname = \"u\"\nof = \"u.z\"\n\
                [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n";
    let ran = Case::new(case).ranks(2).limit(std::time::Duration::from_secs(600)).solve();
    near("compliance", -ran.integral("u")[0], 1.536_005_679, 1e-8);
    near("support", ran.integral("support")[2], 1.0, 1e-8);
}
