//! What was predicted beside what a run took: the key `plan` of `run.json`.
//!
//! Imports `output`. Start at [`compare`].

use serde::{Deserialize, Serialize};

use super::model::Prediction;
use crate::output::run_json::RunReport;

/// A phase predicted and measured, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedPhase {
    /// The phase.
    pub name: String,
    /// What was predicted.
    pub predicted: f64,
    /// What it took on the rank that took longest.
    pub measured: f64,
}

/// A run beside its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// By phase.
    pub phases: Vec<ComparedPhase>,
    /// Seconds of the whole run after MPI has started: predicted and measured.
    pub total: [f64; 2],
    /// Iterations of the solver: predicted and measured.
    pub iterations: [f64; 2],
    /// Units of 2^20 bytes on the fullest rank: predicted and measured.
    pub memory_mb: [f64; 2],
    /// Degrees of freedom: predicted and there.
    pub dofs: [u64; 2],
    /// The prediction's factor of uncertainty.
    pub uncertainty: f64,
}

/// Sets a run beside its prediction.
pub fn compare(predicted: &Prediction, report: &RunReport) -> Compared {
    let mut phases: Vec<ComparedPhase> = report
        .phases
        .iter()
        .map(|row| ComparedPhase {
            name: row.name.clone(),
            predicted: predicted.seconds(&row.name),
            measured: row.max,
        })
        .collect();
    // What was predicted and did not take place.
    for phase in &predicted.phases {
        let known = phases.iter().any(|row| row.name == phase.name);
        if !known && phase.seconds > 0.0 && !["start", "other"].contains(&phase.name.as_str()) {
            phases.push(ComparedPhase { name: phase.name.clone(), predicted: phase.seconds, measured: 0.0 });
        }
    }
    let in_phases: f64 = report.phases.iter().map(|row| row.max).sum();
    phases.push(ComparedPhase {
        name: "other".into(),
        predicted: predicted.seconds("other"),
        measured: (report.wall - in_phases).max(0.0),
    });
    Compared {
        phases,
        total: [predicted.total - predicted.seconds("start"), report.wall],
        iterations: [predicted.iterations, report.solver.as_ref().map_or(0.0, |s| s.iterations as f64)],
        memory_mb: [predicted.memory_rank / (1u64 << 20) as f64, report.memory_mb.max_rank],
        dofs: [predicted.dofs, report.dofs],
        uncertainty: predicted.uncertainty,
    }
}

impl Compared {
    /// Predicted over measured, of the whole run.
    pub fn ratio(&self) -> f64 {
        self.total[0] / self.total[1]
    }

    /// A table.
    pub fn text(&self) -> String {
        let mut out = format!("  {:12} {:>11} {:>10} {:>7}\n", "plan", "predicted s", "measured s", "ratio");
        let mut line = |name: &str, [predicted, measured]: [f64; 2]| {
            let ratio =
                if measured > 0.0 { format!("{:7.2}", predicted / measured) } else { format!("{:>7}", "-") };
            out += &format!("  {name:12} {predicted:11.3} {measured:10.3} {ratio}\n");
        };
        for phase in &self.phases {
            line(&phase.name, [phase.predicted, phase.measured]);
        }
        line("total", self.total);
        line("iterations", self.iterations);
        line("MiB a rank", self.memory_mb);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Layout, PhaseTime};
    use super::*;
    use crate::output::phases::PhaseRow;

    #[test]
    fn every_phase_of_both_is_there() {
        let phase = |name: &str, seconds: f64| PhaseTime { name: name.into(), seconds, messages: 0.0 };
        let predicted = Prediction {
            layout: Layout { nodes: 1, ranks: 2, threads: 1 },
            phases: vec![
                phase("start", 0.5),
                phase("solve", 2.0),
                phase("partition", 0.25),
                phase("other", 0.1),
            ],
            total: 2.85,
            uncertainty: 1.25,
            iterations: 12.0,
            memory_rank: 2f64.powi(28),
            memory_node: 2f64.powi(29),
            dofs: 10,
            solves: 1,
        };
        let mut report = RunReport::started("a", 2, 1);
        report.phases = vec![PhaseRow { name: "solve".into(), min: 1.0, mean: 1.5, max: 2.5 }];
        (report.wall, report.dofs, report.memory_mb.max_rank) = (2.75, 10, 200.0);
        let found = compare(&predicted, &report);
        let of = |name: &str| {
            let row = found.phases.iter().find(|p| p.name == name).expect("a phase");
            (row.predicted, row.measured)
        };
        assert_eq!((of("solve"), of("partition"), of("other")), ((2.0, 2.5), (0.25, 0.0), (0.1, 0.25)));
        assert!((found.total[0] - 2.35).abs() < 1e-12 && found.memory_mb == [256.0, 200.0]);
        assert!(found.text().contains("total"), "{}", found.text());
    }
}
