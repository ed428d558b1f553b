//! Small problems solved again and again in one process: what a solve costs beside its unknowns.
//!
//! Imports `library`. Start at [`small`].

use std::time::{Duration, Instant};

use crate::library::{Domain, laplace};
use crate::run::RunError;

use super::stats::{exponent, median};

/// Solves of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Unknowns, those on the boundary included.
    pub unknowns: u64,
    /// How often it was solved.
    pub solves: usize,
    /// Median seconds of a solve, from the call to its return.
    pub seconds: f64,
    /// Seconds of the fastest solve.
    pub least: f64,
    /// Median seconds by phase.
    pub phases: Vec<(String, f64)>,
}

/// Solves `-laplace(u) = f` on the unit square with `n` by `n` nodes of degree 1 for each of `sides`, each
/// for as long as `patience` after five solves that do not count.
///
/// # Errors
/// As [`laplace`].
pub fn small(sides: &[usize], patience: Duration) -> Result<Vec<Row>, RunError> {
    sides.iter().map(|&n| row(n, patience)).collect()
}

fn row(n: usize, patience: Duration) -> Result<Row, RunError> {
    let domain = Domain::rectangle([0.0, 0.0], [1.0, 1.0]).cells(n - 1);
    let solve = || laplace(&domain, "2*pi^2*sin(pi*x)*sin(pi*y)", 0.0);
    for _ in 0..5 {
        solve()?;
    }
    let (mut walls, mut by_phase) = (Vec::new(), Vec::<(String, Vec<f64>)>::new());
    let mut unknowns = 0;
    let begin = Instant::now();
    while begin.elapsed() < patience || walls.len() < 5 {
        let start = Instant::now();
        let solved = solve()?;
        walls.push(start.elapsed().as_secs_f64());
        unknowns = solved.metrics.dofs;
        for phase in &solved.metrics.phases {
            match by_phase.iter_mut().find(|known| known.0 == phase.name) {
                Some(known) => known.1.push(phase.max),
                None => by_phase.push((phase.name.clone(), vec![phase.max])),
            }
        }
    }
    let phases = by_phase.into_iter().map(|(name, seconds)| (name, median(&seconds))).collect();
    let least = walls.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Row { unknowns, solves: walls.len(), seconds: median(&walls), least, phases })
}

/// Microseconds an unknown, by size and phase (medians, and the fastest solve, which says most on a busy
/// machine), and the exponent with which the latter grows.
pub fn text(rows: &[Row]) -> String {
    let mut out = format!("{:14}", "unknowns");
    let line = |out: &mut String, name: &str, value: &dyn Fn(&Row) -> f64| {
        *out += &format!("\n{name:14}");
        for row in rows {
            *out += &format!("{:9.3}", 1e6 * value(row) / row.unknowns as f64);
        }
    };
    for row in rows {
        out += &format!("{:9}", row.unknowns);
    }
    out += "\n(microseconds an unknown)";
    for (name, _) in rows.first().map_or(&[][..], |row| &row.phases) {
        let of = |row: &Row| row.phases.iter().find(|phase| phase.0 == *name).map_or(0.0, |phase| phase.1);
        line(&mut out, name, &of);
    }
    line(&mut out, "the rest", &|row| row.seconds - row.phases.iter().map(|phase| phase.1).sum::<f64>());
    line(&mut out, "total", &|row| row.seconds);
    line(&mut out, "fastest", &|row| row.least);
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.unknowns as f64, row.least)).collect();
    if points.len() > 1 {
        let power = exponent(&points);
        out += &format!("\nthe fastest solve grows with the power {power:.3} of the unknowns");
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_divides_by_the_unknowns() {
        let row = |unknowns: u64, seconds: f64| Row {
            unknowns,
            solves: 5,
            seconds,
            least: 0.5 * seconds,
            phases: vec![("mesh".into(), 0.25 * seconds)],
        };
        let shown = text(&[row(100, 100e-6), row(400, 400e-6)]);
        assert!(shown.contains("mesh              0.250    0.250"), "{shown}");
        assert!(shown.contains("the rest          0.750    0.750"), "{shown}");
        assert!(shown.contains("fastest           0.500    0.500"), "{shown}");
        assert!(shown.contains("power 1.000"), "{shown}");
    }
}
