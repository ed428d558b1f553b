//! The same answer on any number of ranks and threads.

use std::time::Duration;

use crate::common::{Case, Ran, mesh};
use crate::manufactured::{self, Law};

const RANKS: [usize; 4] = [2, 3, 4, 7];

/// All numbers that a case reports of its solution, with their names.
fn numbers(ran: &Ran) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    if ran.report()["errors"].is_object() {
        found.push(("l2".into(), ran.l2()));
        found.push(("h1".into(), ran.h1()));
    }
    for list in ["probes", "integrals"] {
        for entry in ran.report()[list].as_array().expect("a list") {
            let name = entry["name"].as_str().expect("a name");
            let values = if list == "probes" { ran.probe(name) } else { ran.integral(name) };
            found.extend(values.into_iter().map(|v| (name.to_owned(), v)));
        }
    }
    assert!(!found.is_empty(), "nothing to compare");
    found
}

/// Runs a case on several numbers of ranks; values of size 1 agree to 1e-10.
fn agrees(text: &str, ranks: &[usize]) {
    let alone = Case::new(text).solve();
    let wanted = numbers(&alone);
    for &n in ranks {
        let ran = Case::new(text).ranks(n).limit(Duration::from_secs(180)).solve();
        assert_eq!(ran.number("/ranks"), n as f64);
        for key in ["/mesh/cells", "/mesh/vertices", "/dofs"] {
            assert_eq!(ran.number(key), alone.number(key), "{key} on {n} ranks");
        }
        assert_eq!(ran.report()["boundary"], alone.report()["boundary"], "facets on {n} ranks");
        let found = numbers(&ran);
        for ((name, w), (_, f)) in wanted.iter().zip(&found) {
            // Reactions that cancel are compared with the loads, which are of size 1. Errors are differences of
            // values of size 1: round-off there is more of them, where they are small.
            let scale = if name == "l2" || name == "h1" { w.abs().max(1e-4) } else { w.abs().max(1.0) };
            assert!((w - f).abs() <= 1e-10 * scale, "{name} on {n} ranks: {f:e} instead of {w:e}\n{text}");
        }
    }
}

const SCALAR: &str = "[[probe]]\nname = \"u\"\nat = AT\nfield = \"u\"\n[[probe]]\nname = \"grad\"\nat = AT\nfield = \"grad\"\n\
     [[probe]]\nname = \"flux\"\nat = AT\nfield = \"flux\"\n[[integral]]\nname = \"reaction\"\nof = \"reaction\"\n\
     [[integral]]\nname = \"mean\"\nof = \"u\"\n[[integral]]\nname = \"out\"\nover = \"x-min\"\nof = \"flux.n\"\n";

const ELASTIC: &str = "[[probe]]\nname = \"u\"\nat = AT\nfield = \"u\"\n[[probe]]\nname = \"stress\"\nat = AT\nfield = \"stress\"\n\
     [[probe]]\nname = \"mises\"\nat = AT\nfield = \"von_mises\"\n[[integral]]\nname = \"reaction\"\nof = \"reaction\"\n\
     [[integral]]\nname = \"on the side\"\nover = \"x-min\"\nof = \"reaction\"\n\
     [[integral]]\nname = \"stress sum\"\nof = \"stress.xx\"\n";

fn with(base: &str, results: &str, at: &str) -> String {
    format!("{base}{}", results.replace("AT", at))
}

#[test]
fn scalar_laws() {
    let case = manufactured::case(Law::Poisson, "tetrahedron", 2, 4);
    agrees(&with(&case, SCALAR, "[0.31, 0.52, 0.77]"), &RANKS);
    let case = manufactured::case(Law::Convective, "quadrilateral", 3, 6);
    agrees(&with(&case, SCALAR, "[0.5, 0.5]"), &RANKS);
    let case = manufactured::case(Law::Diffusive, "interval", 2, 9);
    agrees(&with(&case, SCALAR, "[0.7]"), &RANKS);
}

#[test]
fn elastic_laws() {
    let case = manufactured::case(Law::Elasticity, "hexahedron", 2, 4);
    agrees(&with(&case, ELASTIC, "[0.5, 0.5, 0.5]"), &RANKS);
    let case = manufactured::case(Law::PlaneStress, "triangle", 3, 6);
    agrees(&with(&case, ELASTIC, "[0.31, 0.52]"), &RANKS);
}

/// Files, several shapes in one mesh, curved cells, refinement after distribution, several materials.
#[test]
fn meshes_from_files() {
    let solver = "[solver]\nmethod = \"direct\"\n";
    let mixed = format!(
        "[mesh]\nfile = \"{}\"\nrefine = 1\n[space]\ndegree = 3\n{solver}[physics]\nlaw = \"poisson\"\nsource = \"x*y\"\n\
         [region.triangles]\ndiffusion = 10\n[boundary.x-min]\nvalue = 1\n[boundary.x-max]\nvalue = \"y\"\n",
        mesh("mixed-2.msh")
    );
    agrees(&with(&mixed, SCALAR, "[1, 0.5]"), &RANKS);
    let ball = format!(
        "[mesh]\nfile = \"{}\"\nrefine = 1\n[space]\ndegree = 2\n{solver}[physics]\nlaw = \"elasticity\"\nyoung = 1\n\
         poisson_ratio = 0.3\nbody_force = [\"y\", 0, -1]\n[boundary.sphere]\ndisplacement = {{ n = 0 }}\n\
         [boundary.x-min]\ndisplacement = {{ n = 0 }}\n[boundary.y-min]\ndisplacement = {{ n = 0 }}\n[boundary.corner]\nat = [0, 0, 0]\ndisplacement = [0, 0, 0]\n",
        mesh("octant-tet10-2.msh")
    );
    agrees(&with(&ball, ELASTIC, "[0.2, 0.3, 0.4]"), &RANKS);
}

/// Opposite sides joined.
#[test]
fn periodic_sides() {
    let solver = "[solver]\nmethod = \"direct\"\n";
    let cube = format!(
        "[mesh]\nfile = \"{}\"\n[space]\ndegree = 2\n{solver}[physics]\nlaw = \"poisson\"\nsource = \"sin(2*pi*x)*cos(2*pi*y)\"\n\
         [boundary.x-min]\nperiodic = {{ with = \"x-max\" }}\n[boundary.y-min]\nperiodic = {{ with = \"y-max\" }}\n\
         [boundary.walls]\non = [\"z-min\", \"z-max\"]\nvalue = \"z\"\n\
         [[probe]]\nname = \"u\"\nat = [0.25, 0.1, 0.5]\nfield = \"u\"\n[[integral]]\nname = \"mean\"\nof = \"u\"\n",
        mesh("periodic-cube-41-ascii.msh")
    );
    agrees(&cube, &RANKS);
}

/// Bitwise, whatever the number of threads; with a load on facets and averages at nodes.
#[test]
fn threads() {
    for text in [
        with(&manufactured::case(Law::Poisson, "tetrahedron", 2, 6), SCALAR, "[0.31, 0.52, 0.77]"),
        with(&manufactured::case(Law::Elasticity, "hexahedron", 2, 3), ELASTIC, "[0.31, 0.52, 0.77]"),
        with(&manufactured::case(Law::Convective, "triangle", 2, 24), SCALAR, "[0.31, 0.52]"),
    ] {
        let text = text.replace("method = \"direct\"", "method = \"auto\"");
        let one = numbers(&Case::new(&text).threads(1).solve());
        for n in [2, 4] {
            let many = numbers(&Case::new(&text).threads(n).solve());
            for (a, b) in one.iter().zip(&many) {
                assert!(
                    a.1.to_bits() == b.1.to_bits(),
                    "{} on {n} threads: {:e}, not {:e}\n{text}",
                    a.0,
                    b.1,
                    a.1
                );
            }
        }
    }
}

fn iterations(text: &str, ranks: usize) -> f64 {
    Case::new(text).ranks(ranks).solve().number("/solver/iterations")
}

/// Multigrid needs about as many iterations on many ranks as on one.
#[test]
fn multigrid_iterations() {
    let weight = "[mesh]\nbox = { size = [1, 1, 1], cells = [8, 8, 8] }\n[physics]\nlaw = \"elasticity\"\nyoung = 1\n\
                  poisson_ratio = 0.3\nbody_force = [0, 0, -1]\n[boundary.x-min]\ndisplacement = [0, 0, 0]\n\
                  [solver]\nmethod = \"cg+gamg\"\n";
    let source = "[mesh]\nbox = { size = [1, 1, 1], cells = [14, 14, 14] }\n[physics]\nlaw = \"poisson\"\nsource = \"exp(x)\"\n\
                  [boundary.x-min]\nvalue = 0\n[solver]\nmethod = \"cg+boomeramg\"\n";
    for text in [weight.to_owned(), source.to_owned(), source.replace("boomeramg", "gamg")] {
        let alone = iterations(&text, 1);
        for ranks in [2, 4, 7] {
            let n = iterations(&text, ranks);
            println!("{ranks} ranks: {n} iterations, alone {alone}");
            assert!(n <= 1.5 * alone + 2.0, "{n} iterations on {ranks} ranks, {alone} alone:\n{text}");
        }
    }
}

#[test]
fn more_ranks_than_cells() {
    let few = "[mesh]\nbox = { size = [1], cells = [2] }\n[space]\ndegree = 2\n[solver]\nmethod = \"direct\"\n[physics]\nlaw = \"poisson\"\nsource = 2\n\
               [boundary.x-min]\nvalue = 0\n[exact]\nvalue = \"x*(2 - x)\"\n";
    let ran = Case::new(few).ranks(7).solve();
    assert!(ran.l2() < 1e-13 && ran.h1() < 1e-12, "{:e} {:e}", ran.l2(), ran.h1());
    let one = few.replace("cells = [2]", "cells = [1]");
    assert!(Case::new(&one).ranks(3).solve().l2() < 1e-13);
    let bricks = manufactured::case(Law::Elasticity, "hexahedron", 2, 1);
    agrees(&with(&bricks, ELASTIC, "[0.5, 0.5, 0.5]"), &[4]);
}

/// On an interval the ranks in the middle have no boundary; multigrid meets empty ranks, too.
#[test]
fn ranks_without_boundary() {
    let base = manufactured::case(Law::Poisson, "interval", 1, 40);
    agrees(&with(&base, SCALAR, "[0.5]"), &[4, 7]);
    let amg =
        with(&base, SCALAR, "[0.5]").replace("method = \"direct\"", "method = \"auto\"\ntolerance = 1e-12");
    agrees(&amg, &[4, 7]);
}

/// Two bodies that do not touch, each held.
#[test]
fn separate_bodies() {
    let case = format!(
        "[mesh]\nfile = \"{}\"\n[space]\ndegree = 2\n[solver]\nmethod = \"direct\"\n[physics]\nlaw = \"elasticity\"\nyoung = 1\npoisson_ratio = 0.3\n\
         body_force = [0, 0, -1]\n[region.two]\nyoung = 2\n[boundary.x-min]\ndisplacement = [0, 0, 0]\n[boundary.x-max]\ntraction = [0, 0.5, 0]\n\
         [[probe]]\nname = \"soft\"\nat = [1, 0.5, 0.5]\nfield = \"u\"\n[[probe]]\nname = \"stiff\"\nat = [4, 0.5, 0.5]\nfield = \"u\"\n\
         [[integral]]\nname = \"support\"\nover = \"x-min\"\nof = \"reaction\"\n",
        mesh("separate.msh")
    );
    agrees(&case, &RANKS);
    let ran = Case::new(&case).solve();
    let support = ran.integral("support");
    assert!((support[1] + 1.0).abs() < 1e-9 && (support[2] - 2.0).abs() < 1e-9, "{support:?}");
}

/// Sixty-four ranks on two cores: slow, but right.
#[test]
fn many_ranks() {
    let case = manufactured::case(Law::Poisson, "hexahedron", 1, 6).replace("direct", "cg+boomeramg");
    let case = case.replace("method", "tolerance = 1e-12\nmethod");
    let alone = Case::new(&case).solve();
    let many = Case::new(&case).ranks(64).limit(Duration::from_secs(300)).solve();
    assert!((many.l2() / alone.l2() - 1.0).abs() < 1e-9, "{:e} and {:e}", many.l2(), alone.l2());
    println!("64 ranks take {:?}", many.ended.wall);
}
