//! Small mesh files to time readers with, and the expression that others are compared with.
//!
//! Imports `law::expr`. Start at [`write_text`], [`write_binary`] and [`relative_cost`].

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::law::expr::{Expr, ExprSet, Points, Scope, Scratch};

/// The expression whose evaluation is a unit of work: functions and products as in sources of benchmarks.
pub const REFERENCE: &str = "exp(x*y)*((x^2 + y^2 - 58)*sin(7*x + 3*y) + (14*y + 6*x)*cos(7*x + 3*y))";

/// A cube of `n^3` cubes of six tetrahedra: vertices and cells as numbers from 1.
fn cube(n: usize) -> (Vec<[f64; 3]>, Vec<[u64; 4]>) {
    let at = |i: usize, j: usize, k: usize| (i + (n + 1) * (j + (n + 1) * k)) as u64 + 1;
    let step = 1.0 / n as f64;
    let (mut points, mut cells) = (Vec::new(), Vec::new());
    for k in 0..=n {
        for j in 0..=n {
            points.extend((0..=n).map(|i| [i, j, k].map(|i| i as f64 * step)));
        }
    }
    // The six orders of the axes along which the far corner is reached.
    const PATHS: [[usize; 3]; 6] = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0]];
    for (k, j, i) in (0..n).flat_map(|k| (0..n).flat_map(move |j| (0..n).map(move |i| (k, j, i)))) {
        for (p, path) in PATHS.iter().enumerate() {
            let mut corner = [i, j, k];
            let mut cell = [at(i, j, k); 4];
            for (v, &axis) in path.iter().enumerate() {
                corner[axis] += 1;
                cell[v + 1] = at(corner[0], corner[1], corner[2]);
            }
            // Odd orders turn the other way round.
            if p >= 3 {
                cell.swap(2, 3);
            }
            cells.push(cell);
        }
    }
    (points, cells)
}

/// Writes that cube as MSH 2.2 text; its cells and bytes.
///
/// # Errors
/// When the file cannot be written.
pub fn write_text(path: &Path, n: usize) -> std::io::Result<(u64, u64)> {
    let (points, cells) = cube(n);
    let mut text = String::from("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "$Nodes\n{}", points.len());
    for (id, [x, y, z]) in points.iter().enumerate() {
        let _ = writeln!(text, "{} {x:.16} {y:.16} {z:.16}", id + 1);
    }
    let _ = writeln!(text, "$EndNodes\n$Elements\n{}", cells.len());
    for (id, [a, b, c, d]) in cells.iter().enumerate() {
        let _ = writeln!(text, "{} 4 2 1 1 {a} {b} {c} {d}", id + 1);
    }
    text += "$EndElements\n";
    std::fs::write(path, &text)?;
    Ok((cells.len() as u64, text.len() as u64))
}

/// Writes that cube as binary MSH 4.1.
///
/// # Errors
/// When the file cannot be written.
pub fn write_binary(path: &Path, n: usize) -> std::io::Result<()> {
    let (points, cells) = cube(n);
    let mut bytes = Vec::new();
    bytes.write_all(b"$MeshFormat\n4.1 1 8\n")?;
    bytes.extend(1i32.to_le_bytes());
    bytes.write_all(b"\n$EndMeshFormat\n$Entities\n")?;
    [0u64, 0, 0, 1].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(1i32.to_le_bytes());
    [0.0f64, 0.0, 0.0, 1.0, 1.0, 1.0].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    [0u64, 0].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.write_all(b"\n$EndEntities\n$Nodes\n")?;
    let count = points.len() as u64;
    [1, count, 1, count].iter().for_each(|n: &u64| bytes.extend(n.to_le_bytes()));
    [3i32, 1, 0].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(count.to_le_bytes());
    (1..=count).for_each(|id| bytes.extend(id.to_le_bytes()));
    points.iter().flatten().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes.write_all(b"\n$EndNodes\n$Elements\n")?;
    let count = cells.len() as u64;
    [1, count, 1, count].iter().for_each(|n: &u64| bytes.extend(n.to_le_bytes()));
    [3i32, 1, 4].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(count.to_le_bytes());
    for (id, cell) in (1..=count).zip(&cells) {
        bytes.extend(id.to_le_bytes());
        cell.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    }
    bytes.write_all(b"\n$EndElements\n")?;
    std::fs::write(path, bytes)
}

/// Points evaluated at once, as many as batches of cells have.
const BATCH: usize = 256;

/// Seconds a point of expressions evaluated together: the least of several rounds.
pub fn seconds_per_point(expressions: &[Expr]) -> f64 {
    let set = ExprSet::new(expressions);
    let x: Vec<f64> = (0..BATCH).map(|k| (k as f64 + 0.5) / BATCH as f64).collect();
    let (y, z): (Vec<f64>, Vec<f64>) = x.iter().map(|x| (1.0 - x, 0.5 + 0.25 * x)).unzip();
    let points = Points { x: &x, y: &y, z: &z, t: 0.0 };
    let mut out = vec![0.0; BATCH * expressions.len()];
    let mut scratch = Scratch::new();
    let mut least = f64::INFINITY;
    for _ in 0..9 {
        let begin = Instant::now();
        for _ in 0..8 {
            set.eval(&points, &mut out, &mut scratch);
            std::hint::black_box(&mut out);
        }
        least = least.min(begin.elapsed().as_secs_f64() / (8 * BATCH) as f64);
    }
    least
}

/// The reference, parsed.
pub fn reference() -> Vec<Expr> {
    Expr::parse(REFERENCE, &Scope::default()).into_iter().collect()
}

/// How many times the reference's work expressions are, measured here and now; 0 for constants.
pub fn relative_cost(expressions: &[Expr]) -> f64 {
    let varying: Vec<Expr> = expressions.iter().filter(|e| e.as_constant().is_none()).cloned().collect();
    if varying.is_empty() {
        return 0.0;
    }
    seconds_per_point(&varying) / seconds_per_point(&reference())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::gmsh::count::count;

    #[test]
    fn written_files_hold_what_they_say() {
        let folder = crate::study::measure::Scratch::new().expect("a folder");
        let (text, binary) = (folder.0.join("text.msh"), folder.0.join("binary.msh"));
        let (cells, bytes) = write_text(&text, 3).expect("written");
        write_binary(&binary, 3).expect("written");
        assert_eq!((cells, bytes), (162, std::fs::metadata(&text).expect("a file").len()));
        for (path, ascii) in [(&text, true), (&binary, false)] {
            let found = count(path).expect("a mesh");
            assert_eq!((found.nodes, found.elements.len(), found.ascii), (64, 1, ascii));
            assert_eq!(found.elements[0].2, 162);
        }
    }

    #[test]
    fn no_cell_is_turned_inside_out() {
        let (points, cells) = cube(2);
        for cell in cells {
            let [a, b, c, d] = cell.map(|v| points[v as usize - 1]);
            let edge = |p: [f64; 3]| [p[0] - a[0], p[1] - a[1], p[2] - a[2]];
            let (u, v, w) = (edge(b), edge(c), edge(d));
            let volume = u[0] * (v[1] * w[2] - v[2] * w[1]) - u[1] * (v[0] * w[2] - v[2] * w[0])
                + u[2] * (v[0] * w[1] - v[1] * w[0]);
            assert!(volume > 0.0, "{cell:?}");
        }
    }

    #[test]
    fn constants_cost_nothing_and_work_costs() {
        let parse = |text: &str| Expr::parse(text, &Scope::default()).expect("an expression");
        assert_eq!(relative_cost(&[parse("2*3"), Expr::constant(1.0)]), 0.0);
        let once = relative_cost(&reference());
        assert!(once > 0.2 && once < 5.0, "{once}");
        let little = relative_cost(&[parse("x + y")]);
        assert!(little < once, "{little} {once}");
    }
}
