//! Two measurements side by side: by phase, with how sure one may be, and a verdict.
//!
//! Start at [`compare`] and [`Comparison::text`].

use std::fmt::Write;

use super::measure::{Measurement, Sample};
use super::stats::{Interval, median, ratio_of_medians};

/// Phases below this share of the whole run are shown and not judged: their noise is not theirs.
const JUDGED_SHARE: f64 = 0.05;

/// Fewer runs than this say nothing of their spread.
pub const LEAST_RUNS: usize = 3;

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The phase, `total` or `cpu`.
    pub name: String,
    /// Median seconds of A.
    pub a: f64,
    /// Median seconds of B.
    pub b: f64,
    /// B over A.
    pub ratio: Interval,
    /// Whether it counts for the verdict.
    pub judged: bool,
}

/// What judges a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Seconds on the clock.
    Wall,
    /// Processor time: for machines that others use too.
    Cpu,
}

/// B beside A.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Phases in the order of the run, then the whole.
    pub rows: Vec<Row>,
    /// What makes the two not quite alike.
    pub remarks: Vec<String>,
}

/// Compares `b` with `a`.
pub fn compare(a: &Measurement, b: &Measurement, measure: Measure) -> Comparison {
    let whole = |m: &Measurement, of: fn(&Sample) -> f64| m.runs.iter().map(of).collect::<Vec<f64>>();
    let total = median(&whole(a, |run| run.wall));
    let mut names: Vec<&str> = a.phases().collect();
    names.extend(b.phases().filter(|name| !a.phases().any(|known| known == *name)));
    let row = |name: &str, in_a: Vec<f64>, in_b: Vec<f64>, judged: bool| {
        let ratio = ratio_of_medians(&in_a, &in_b);
        Row { name: name.to_owned(), a: median(&in_a), b: median(&in_b), ratio, judged }
    };
    let mut rows: Vec<Row> = names
        .into_iter()
        .map(|name| {
            let (in_a, in_b) = (a.seconds(name), b.seconds(name));
            let both = !in_a.is_empty() && !in_b.is_empty();
            let large = median(&in_a).max(median(&in_b)) > JUDGED_SHARE * total;
            row(name, in_a, in_b, both && large && measure == Measure::Wall)
        })
        .collect();
    let of_wall: fn(&Sample) -> f64 = |run| run.wall;
    let of_cpu: fn(&Sample) -> f64 = |run| run.cpu;
    rows.push(row("total", whole(a, of_wall), whole(b, of_wall), measure == Measure::Wall));
    rows.push(row("cpu", whole(a, of_cpu), whole(b, of_cpu), measure == Measure::Cpu));
    Comparison { rows, remarks: remarks(a, b) }
}

fn remarks(a: &Measurement, b: &Measurement) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, in_a: String, in_b: String| {
        if in_a != in_b {
            found.push(format!("{what}: A {in_a}, B {in_b}"));
        }
    };
    differ("not the same case", format!("{} {}", a.case, a.hash), format!("{} {}", b.case, b.hash));
    differ("not the same processor", a.processor.clone(), b.processor.clone());
    let on = |m: &Measurement| format!("{} ranks x {} threads", m.ranks, m.threads);
    differ("not as many processes", on(a), on(b));
    differ("iterations", a.iterations.to_string(), b.iterations.to_string());
    found
}

impl Comparison {
    /// What got slower: judged rows whose interval lies above `1 + threshold`.
    pub fn slower(&self, threshold: f64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.judged && row.ratio.low > 1.0 + threshold)
    }

    /// A table and a verdict.
    pub fn text(&self, threshold: f64) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out, threshold);
        out
    }

    fn write(&self, out: &mut String, threshold: f64) -> std::fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(5);
        writeln!(out, "{:width$} {:>9} {:>9} {:>7}  95% interval", "phase", "A s", "B s", "B/A")?;
        for Row { name, a, b, ratio, judged } in &self.rows {
            let note = if *judged && ratio.low > 1.0 + threshold {
                "  slower"
            } else if *judged && ratio.high < 1.0 {
                "  faster"
            } else {
                ""
            };
            let interval = format!("{:.3} to {:.3}", ratio.low, ratio.high);
            writeln!(out, "{name:width$} {a:9.3} {b:9.3} {:7.3}  {interval}{note}", ratio.value)?;
        }
        for remark in &self.remarks {
            writeln!(out, "note: {remark}")?;
        }
        let percent = |x: f64| format!("{:.1}%", 100.0 * (x - 1.0));
        let slower: Vec<String> = self
            .slower(threshold)
            .map(|row| format!("{} by {} to {}", row.name, percent(row.ratio.low), percent(row.ratio.high)))
            .collect();
        let limit = percent(1.0 + threshold);
        if slower.is_empty() {
            writeln!(out, "B is not slower than A by more than {limit}")
        } else {
            writeln!(out, "B is slower than A by more than {limit}: {}", slower.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(factor: f64, small: f64) -> Measurement {
        let spread = [1.0, 1.01, 0.99, 1.02, 0.98];
        let run = |s: f64| Sample {
            wall: s * (0.7 + 0.3 * factor),
            cpu: 2.0 * s,
            phases: vec![("mesh".into(), 0.3 * factor * s), ("space".into(), 0.01 * small * s)],
        };
        Measurement {
            schema: super::super::measure::SCHEMA,
            femdd: "0.1.0".into(),
            case: "cube".into(),
            hash: "0".into(),
            processor: "one".into(),
            ranks: 2,
            threads: 1,
            dofs: 100,
            iterations: 7,
            memory_mb: 10.0,
            vertices: 100,
            dimension: 3,
            sizes: None,
            output_bytes: 0,
            runs: spread.map(run).to_vec(),
        }
    }

    #[test]
    fn a_phase_that_doubles_is_slower_and_a_tiny_one_is_not_judged() {
        let found = compare(&made(1.0, 1.0), &made(2.0, 5.0), Measure::Wall);
        let slower: Vec<&str> = found.slower(0.05).map(|row| row.name.as_str()).collect();
        assert_eq!(slower, ["mesh", "total"]);
        let text = found.text(0.05);
        assert!(text.contains("B is slower than A by more than 5.0%: mesh by"), "{text}");
        assert_eq!(found.slower(1.5).count(), 0, "a threshold of 150%");
        assert!(compare(&made(1.0, 1.0), &made(2.0, 1.0), Measure::Cpu).slower(0.05).next().is_none());
    }

    #[test]
    fn equals_and_faster_pass() {
        for factor in [1.0, 0.5] {
            let found = compare(&made(1.0, 1.0), &made(factor, 1.0), Measure::Wall);
            assert!(found.slower(0.05).next().is_none());
            assert!(found.text(0.05).contains("B is not slower"));
        }
        assert!(compare(&made(1.0, 1.0), &made(0.5, 1.0), Measure::Wall).text(0.05).contains("faster"));
    }

    #[test]
    fn what_differs_is_said() {
        let other = Measurement { hash: "1".into(), ranks: 3, ..made(1.0, 1.0) };
        let remarks = compare(&made(1.0, 1.0), &other, Measure::Wall).remarks;
        assert_eq!(remarks.len(), 2, "{remarks:?}");
    }
}
