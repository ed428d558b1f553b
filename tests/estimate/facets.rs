//! Interior facets: both sides see the same points, every facet is found once, on any number of ranks.

use cluster::Comm;
use femdd::element::{Lagrange, Nodes, Shape, Table};
use femdd::mesh::boxes::BoxSpec;
use femdd::mesh::bricks::Plan;
use femdd::mesh::facets::Facets;
use femdd::mesh::{Mesh, geometry};

use super::launch::under_mpi;

fn make(comm: &Comm, shape: Shape, cells: &[u64], periodic: &[(u16, u16)]) -> Mesh {
    let (size, cells) = (vec![1.0; cells.len()], cells.to_vec());
    let spec = BoxSpec { size, cells, shape, origin: [0.0; 3] };
    let plan = Plan::new(&spec).expect("a box").with(1.0, periodic).expect("a box");
    plan.build(comm).expect("a mesh").0
}

/// Reference points of a facet.
fn some_points(shape: Shape) -> Vec<[f64; 3]> {
    match shape {
        Shape::Point => vec![[0.0; 3]],
        Shape::Interval => vec![[0.1, 0.0, 0.0], [0.7, 0.0, 0.0]],
        _ => vec![[0.1, 0.3, 0.0], [0.6, 0.15, 0.0]],
    }
}

fn table(shape: Shape, points: &[[f64; 3]]) -> Table {
    Lagrange::new(shape, 1, Nodes::Equispaced).expect("degree 1").tabulate(points, 0)
}

/// Facets of a box: their number, and that both sides see points at the same place, but for a period.
fn check(comm: &Comm, shape: Shape, cells: &[u64], periodic: &[(u16, u16)]) {
    let mesh = make(comm, shape, cells, periodic);
    let facets = Facets::new(&mesh);
    let n_facets: usize = mesh.blocks.iter().map(|b| b.n_owned * b.shape.n_facets()).sum();
    let is_owned = |b: u16, cell: u32| (cell as usize) < mesh.blocks[b as usize].n_owned;
    let owned_sides = facets.runs.iter().flat_map(|run| {
        facets.cells[run.begin..run.end]
            .iter()
            .flat_map(|pair| (0..2).map(|s| is_owned(run.kind.blocks[s], pair[s])))
    });
    assert_eq!(owned_sides.filter(|&o| o).count() + facets.outer.len(), n_facets, "{shape}");
    let mut on_boundary = 0;
    for axis in 0..cells.len() {
        if axis > 0 || periodic.is_empty() {
            let others = (0..cells.len()).filter(|&a| a != axis).map(|a| cells[a]);
            on_boundary += 2 * others.product::<u64>() * if shape == Shape::Tetrahedron { 2 } else { 1 };
        }
    }
    assert_eq!(comm.sum(facets.outer.len() as u64), on_boundary, "{shape}");
    assert_eq!(facets.runs.last().map(|r| r.end), Some(facets.cells.len()));
    let mut x = Vec::new();
    for run in &facets.runs {
        let kind = run.kind;
        let points = some_points(shape.facet_shape(kind.facets[0] as usize));
        let on_first: Vec<_> =
            points.iter().map(|&p| shape.facet_point(kind.facets[0] as usize, p)).collect();
        let tables = [table(shape, &on_first), table(shape, &kind.points_of_second(shape, &points))];
        for pair in &facets.cells[run.begin..run.end] {
            let at: Vec<Vec<[f64; 3]>> = (0..2)
                .map(|side| {
                    x.clear();
                    mesh.cell_coordinates(&mesh.blocks[0], pair[side] as usize, &mut x);
                    (0..points.len()).map(|q| geometry::image(&tables[side], q, &x)).collect()
                })
                .collect();
            for (p, q) in at[0].iter().zip(&at[1]) {
                for d in 0..3 {
                    let apart = (p[d] - q[d]).abs();
                    let period = d < cells.len() && !periodic.is_empty() && (apart - 1.0).abs() < 1e-13;
                    assert!(apart < 1e-13 || period, "{shape} {kind:?}: {p:?} {q:?}");
                }
            }
        }
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let four = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("a pool");
    let alike = one.install(|| Facets::new(&mesh)) == four.install(|| Facets::new(&mesh));
    assert!(alike, "{shape}: threads");
}

#[test]
fn both_sides_of_a_facet_see_the_same_points() {
    let test = "facets::both_sides_of_a_facet_see_the_same_points";
    under_mpi(test, &[1, 2, 3, 4], 1, |comm| {
        for (shape, cells) in [
            (Shape::Interval, &[30][..]),
            (Shape::Triangle, &[40, 33]),
            (Shape::Quadrilateral, &[12, 15]),
            (Shape::Tetrahedron, &[23, 22, 21]),
            (Shape::Hexahedron, &[5, 6, 7]),
        ] {
            check(comm, shape, cells, &[]);
            check(comm, shape, cells, &[(0, 1)]);
        }
        Vec::new()
    });
}
