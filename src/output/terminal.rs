//! What a run says on the terminal: a line of progress while it works, a summary when it ends.
//!
//! Imports `cluster` and [`super::run_json`]. Start at [`summary`] and [`Progress`]. Only rank 0 prints.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster::Comm;
use cluster::words::{grouped, plural, seconds};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run_json::{NamedValue, RunReport, Status};

/// How long a phase may take before it is worth a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// A run as a person wants to read it, in plain text of several lines.
pub fn summary(report: &RunReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_summary(&mut text, report);
    text
}

fn write_summary(out: &mut String, report: &RunReport) -> std::fmt::Result {
    let status = match report.status {
        Status::Running => "running",
        Status::Solved => "solved",
        Status::NotConverged => "not converged",
        Status::Failed => "failed",
        Status::Stopped => "stopped",
    };
    let mesh = &report.mesh;
    writeln!(out, "{}: {status} in {}", report.case, seconds(report.wall))?;
    writeln!(
        out,
        "  {} cells, {} vertices, {}D, {} DOFs, {}, {}",
        grouped(mesh.cells),
        grouped(mesh.vertices),
        mesh.dimension,
        grouped(report.dofs),
        plural(report.ranks, "rank"),
        plural(report.threads, "thread"),
    )?;
    if let Some(partition) = &report.partition {
        let (cut, imbalance) = (grouped(partition.edge_cut), partition.imbalance);
        writeln!(out, "  partition by {}: imbalance {imbalance:.3}, {cut} facets cut", partition.method)?;
    }
    for boundary in &report.boundary {
        writeln!(out, "  boundary {}: {} facets", boundary.name, grouped(boundary.facets))?;
    }
    if let Some(solver) = &report.solver {
        let reason = if solver.reason.is_empty() { String::new() } else { format!(" ({})", solver.reason) };
        writeln!(
            out,
            "  {}{reason}: {} iterations, relative residual {:.2e}{}",
            solver.method,
            grouped(solver.iterations),
            solver.relative_residual,
            if solver.converged { "" } else { ", NOT converged" },
        )?;
    }
    if let Some(adapt) = &report.adapt {
        let steps = plural(adapt.steps.len(), "step");
        write!(out, "  adapted in {steps}, stopped by {}", adapt.stop_reason)?;
        match adapt.steps.last() {
            Some(last) => writeln!(out, ": estimate {:.3e}", last.estimate)?,
            None => writeln!(out)?,
        }
    }
    if let Some(errors) = &report.errors {
        writeln!(out, "  error L2 {:.6e}, H1 {:.6e}", errors.l2, errors.h1)?;
        for (name, field) in &errors.fields {
            writeln!(out, "    {name}: L2 {:.6e}, H1 {:.6e}", field.l2, field.h1)?;
        }
    }
    values(out, "probe", &report.probes)?;
    values(out, "integral", &report.integrals)?;
    phases(out, report)?;
    let memory = &report.memory_mb;
    if memory.sum > 0.0 {
        writeln!(out, "  peak memory {:.0} MiB on one rank, {:.0} MiB in all", memory.max_rank, memory.sum)?;
    }
    // Those about the machine stand at the beginning of the run already.
    let said = |warning: &String| {
        let machine = report.extra.get("machine").and_then(|machine| machine["warnings"].as_array());
        machine.is_some_and(|all| all.iter().any(|w| w.as_str() == Some(warning.as_str())))
    };
    for warning in report.warnings.iter().filter(|&warning| !said(warning)) {
        writeln!(out, "  warning: {warning}")?;
    }
    Ok(())
}

fn values(out: &mut String, kind: &str, values: &[NamedValue]) -> std::fmt::Result {
    let width = values.iter().map(|v| v.name.chars().count()).max().unwrap_or(0);
    for NamedValue { name, value } in values {
        let numbers: Vec<String> = value.iter().map(|x| format!("{x:.8e}")).collect();
        writeln!(out, "  {kind} {name:width$}  {}", numbers.join("  "))?;
    }
    Ok(())
}

/// Times by phase; spread over the ranks only where there are several.
fn phases(out: &mut String, report: &RunReport) -> std::fmt::Result {
    let Some(width) = report.phases.iter().map(|p| p.name.chars().count()).max() else { return Ok(()) };
    if report.ranks == 1 {
        writeln!(out, "  {:width$}  {:>9}", "phase", "seconds")?;
    } else {
        writeln!(out, "  {:width$}  {:>9} {:>9} {:>9}", "phase", "min s", "mean s", "max s")?;
    }
    for phase in &report.phases {
        if report.ranks == 1 {
            writeln!(out, "  {:width$}  {:>9.3}", phase.name, phase.max)?;
        } else {
            writeln!(
                out,
                "  {:width$}  {:>9.3} {:>9.3} {:>9.3}",
                phase.name, phase.min, phase.mean, phase.max
            )?;
        }
    }
    Ok(())
}

/// A line on rank 0's terminal that says what goes on, once that has taken a second.
///
/// Silent on other ranks and where standard error is not a terminal, so logs stay clean.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: bool,
}

/// A phase under way; the line goes when this is dropped.
#[derive(Debug)]
pub struct PhaseLine {
    line: Option<(ProgressBar, Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Shows progress where there is someone to see it. Not collective.
    pub fn new(comm: &Comm) -> Self {
        Progress { shown: comm.is_root() && std::io::stderr().is_terminal() }
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Progress { shown: false }
    }

    /// Begins a phase.
    pub fn phase(&self, name: &str) -> PhaseLine {
        PhaseLine { line: self.shown.then(|| begin_line(name)).flatten() }
    }
}

fn begin_line(name: &str) -> Option<(ProgressBar, Sender<()>, JoinHandle<()>)> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}").ok()?;
    bar.set_style(style);
    bar.set_prefix(name.to_owned());
    let (over, wait) = mpsc::channel::<()>();
    let shown = bar.clone();
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(200));
        }
    });
    // Without a thread to spare there is no line, which is no reason to stop a solve.
    Some((bar, over, thread.ok()?))
}

impl PhaseLine {
    /// Says more, such as the iteration and its residual. Cheap, and free where nothing is shown.
    pub fn say(&self, message: impl FnOnce() -> String) {
        if let Some((bar, ..)) = &self.line {
            bar.set_message(message());
        }
    }
}

impl Drop for PhaseLine {
    fn drop(&mut self) {
        if let Some((bar, over, thread)) = self.line.take() {
            // The receiver is gone once the line shows.
            let _ = over.send(());
            let _ = thread.join();
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::phases::PhaseRow;
    use super::super::run_json::{ErrorsReport, SolverReport};
    use super::*;

    #[test]
    fn the_summary_names_what_matters() {
        let mut report = RunReport::started("bracket", 2, 1);
        report.status = Status::NotConverged;
        report.dofs = 1_030_301;
        report.solver = Some(SolverReport {
            method: "cg+boomeramg".to_owned(),
            iterations: 1000,
            relative_residual: 3.0e-5,
            ..SolverReport::default()
        });
        report.errors = Some(ErrorsReport { l2: 1.5e-4, h1: f64::NAN, ..ErrorsReport::default() });
        report.probes = vec![NamedValue { name: "tip".to_owned(), value: vec![1.0, -2.5] }];
        report.phases = vec![PhaseRow { name: "solve".to_owned(), min: 1.0, mean: 1.25, max: 1.5 }];
        report.warnings = vec!["heed this".to_owned()];
        let text = summary(&report);
        for part in [
            "bracket: not converged",
            "1,030,301 DOFs",
            "2 ranks, 1 thread",
            "1,000 iterations, relative residual 3.00e-5, NOT converged",
            "error L2 1.500000e-4",
            "probe tip  1.00000000e0  -2.50000000e0",
            "solve      1.000     1.250     1.500",
            "warning: heed this",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }

    #[test]
    fn a_silent_phase_starts_no_thread() {
        let line = Progress::silent().phase("mesh");
        assert!(line.line.is_none());
        line.say(|| unreachable!("nobody reads it"));
    }

    #[test]
    fn a_short_phase_ends_at_once() {
        let begin = std::time::Instant::now();
        let line = PhaseLine { line: begin_line("mesh") };
        line.say(|| "iteration 3".to_owned());
        drop(line);
        assert!(begin.elapsed() < PATIENCE);
    }
}
