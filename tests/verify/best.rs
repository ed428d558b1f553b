//! What the best meshes could do: the error of `r^power` round a corner in space on as many cells, by theory.
//!
//! Each cell has the polynomial that is best for it alone, and the cell of the largest error is cut into eight, again
//! and again: of all meshes of cubes halved within an octree the best, but for the last cut. No finite
//! element solution on them is better, and none is worse by more than a factor. Start at [`errors`].

use std::collections::{BinaryHeap, HashMap};

/// Gauss's four points and weights on the unit interval.
const GAUSS: [(f64, f64); 4] = [
    (0.069_431_844_202_973_71, 0.173_927_422_568_726_93),
    (0.330_009_478_207_571_87, 0.326_072_577_431_273_07),
    (0.669_990_521_792_428_1, 0.326_072_577_431_273_07),
    (0.930_568_155_797_026_3, 0.173_927_422_568_726_93),
];

/// A cube's corners, by the bits z y x, in six tetrahedra.
const TETRAHEDRA: [[usize; 4]; 6] =
    [[0, 1, 3, 7], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7], [0, 4, 5, 7], [0, 5, 1, 7]];

type Point = [f64; 3];

fn squared(x: &Point) -> f64 {
    x.iter().map(|x| x * x).sum()
}

/// Appends points and weights on a tetrahedron, dense at its first corner where that is the origin.
fn add_points(v: [Point; 4], out: &mut Vec<(Point, f64)>) {
    let steep = squared(&v[0]) == 0.0;
    let e: [Point; 3] = [1, 2, 3].map(|k| [0, 1, 2].map(|d| v[k][d] - v[0][d]));
    let minor = |a: usize, b: usize| e[1][a] * e[2][b] - e[1][b] * e[2][a];
    let volume = (e[0][0] * minor(1, 2) - e[0][1] * minor(0, 2) + e[0][2] * minor(0, 1)).abs();
    for (t, of_t) in GAUSS {
        let (s, slope) = if steep { (t.powi(4), 4.0 * t.powi(3)) } else { (t, 1.0) };
        for (b, of_b) in GAUSS {
            for (c, of_c) in GAUSS {
                let along = |d: usize| e[0][d] + b * (e[1][d] - e[0][d]) + b * c * (e[2][d] - e[1][d]);
                let x = [0, 1, 2].map(|d| v[0][d] + s * along(d));
                out.push((x, of_t * of_b * of_c * slope * s * s * b * volume));
            }
        }
    }
}

/// The square of the H1 seminorm of what the best sum of monomials leaves of `r^power`.
fn left(power: f64, exponents: &[[i32; 3]], centre: Point, points: &[(Point, f64)]) -> f64 {
    let m = exponents.len();
    let gradients = |x: &Point| -> Vec<Point> {
        let y = [0, 1, 2].map(|d| x[d] - centre[d]);
        let along = |e: &[i32; 3], d: usize| match e[d] {
            0 => 0.0,
            n => (0..3).fold(f64::from(n), |f, k| f * y[k].powi(e[k] - i32::from(k == d))),
        };
        exponents.iter().map(|e| [0, 1, 2].map(|d| along(e, d))).collect()
    };
    let exact = |x: &Point| x.map(|c| c * power * squared(x).powf(0.5 * power - 1.0));
    let dot = |a: &Point, b: &Point| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    // Rows of the normal equations, the right-hand side last.
    let mut rows = vec![vec![0.0; m + 1]; m];
    for (x, w) in points {
        let (of_x, e) = (gradients(x), exact(x));
        for (row, g) in rows.iter_mut().zip(&of_x) {
            for (entry, h) in row.iter_mut().zip(of_x.iter().chain([&e])) {
                *entry += w * dot(g, h);
            }
        }
    }
    for k in 0..m {
        let pivot = rows[k].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            let factor = if i == k { 1.0 - 1.0 / pivot[k] } else { row[k] / pivot[k] };
            row.iter_mut().zip(&pivot).for_each(|(entry, p)| *entry -= factor * p);
        }
    }
    let rest = |(x, w): &(Point, f64)| {
        let mut e = exact(x);
        for (g, row) in gradients(x).iter().zip(&rows) {
            (0..3).for_each(|d| e[d] -= row[m] * g[d]);
        }
        w * squared(&e)
    };
    points.iter().map(rest).sum()
}

/// What is left on the unit cube with its low corner there, or on its six tetrahedra.
fn of_cube(shape: &str, degree: i32, power: f64, at: [i64; 3]) -> f64 {
    let corner = |k: usize| -> Point { [0, 1, 2].map(|d| (at[d] + (k as i64 >> d & 1)) as f64) };
    let all = (0..=degree).flat_map(|i| (0..=degree).flat_map(move |j| (0..=degree).map(move |k| [i, j, k])));
    let whole = |e: &[i32; 3]| shape == "hexahedron" || e.iter().sum::<i32>() <= degree;
    let exponents: Vec<[i32; 3]> = all.filter(|e| *e != [0; 3] && whole(e)).collect();
    let mut points = Vec::new();
    if shape == "hexahedron" {
        let order = |a: &usize, b: &usize| squared(&corner(*a)).total_cmp(&squared(&corner(*b)));
        let nearest = (0..8).min_by(order).expect("a corner");
        for t in TETRAHEDRA {
            add_points(t.map(|k| corner(k ^ nearest)), &mut points);
        }
        return left(power, &exponents, at.map(|x| x as f64 + 0.5), &points);
    }
    let of_tetrahedron = |t: [usize; 4]| {
        let mut v = t.map(corner);
        v.sort_by(|a, b| squared(a).total_cmp(&squared(b)));
        points.clear();
        add_points(v, &mut points);
        left(power, &exponents, [0, 1, 2].map(|d| v.iter().map(|v| 0.25 * v[d]).sum()), &points)
    };
    TETRAHEDRA.map(of_tetrahedron).iter().sum()
}

/// A cube of a level: the square of its error, its place in cubes of its size.
#[derive(PartialEq)]
struct Cube(f64, [i64; 3], i32);

impl Eq for Cube {}

impl PartialOrd for Cube {
    fn partial_cmp(&self, other: &Cube) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cube {
    fn cmp(&self, other: &Cube) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The least errors in the H1 seminorm of `r^power` on the box from -1 to 1 less the part where all coordinates are
/// positive, on the first mesh that has at least so many cells: ascending numbers.
pub fn errors(shape: &str, degree: i32, power: f64, cells: &[f64]) -> Vec<f64> {
    let per_cube = if shape == "hexahedron" { 1 } else { 6 };
    let mut of_unit: HashMap<[i64; 3], f64> = HashMap::new();
    // Lengths halved, the square of the gradient's integral falls by so much.
    let scale = 0.5f64.powf(2.0 * power + 1.0);
    let mut cube = |at: [i64; 3], level: i32| {
        let unit = of_unit.entry(at).or_insert_with(|| of_cube(shape, degree, power, at));
        Cube(*unit * scale.powi(level), at, level)
    };
    let octants = (0..7i64).map(|k| [0, 1, 2].map(|d| (k >> d & 1) - 1));
    let mut cubes: BinaryHeap<Cube> = octants.map(|at| cube(at, 0)).collect();
    let mut out = Vec::new();
    for least in cells {
        while ((cubes.len() * per_cube) as f64) < *least {
            let Cube(_, at, level) = cubes.pop().expect("seven cubes at least");
            for c in 0..8i64 {
                cubes.push(cube([0, 1, 2].map(|d| 2 * at[d] + (c >> d & 1)), level + 1));
            }
        }
        out.push(cubes.iter().map(|c| c.0).sum::<f64>().sqrt());
    }
    out
}

/// The theory of what the tests ask for: with cells no longer than wide, `r^power` costs no more than any smooth
/// function, however small the power.
#[test]
fn the_best_meshes_have_the_full_rate() {
    for (shape, degree, power, most) in [
        ("tetrahedron", 1, 0.25, 50_000.0),
        ("tetrahedron", 2, 0.5, 50_000.0),
        ("hexahedron", 1, 0.25, 10_000.0),
        ("hexahedron", 2, 0.5, 10_000.0),
    ] {
        // Over a factor of eight in cells: a whole number of halvings, as levels are.
        let found = errors(shape, degree, power, &[most / 64.0, most / 8.0, most]);
        let rates = [0, 1].map(|k: usize| (found[k] / found[k + 1]).ln() / 8f64.ln());
        println!("{shape} degree {degree}: best H1 errors {found:?}, like N^-{rates:.3?}");
        let wanted = f64::from(degree) / 3.0;
        assert!((rates[1] / wanted - 1.0).abs() < 0.08, "{shape} {degree}: {rates:?}");
    }
}
