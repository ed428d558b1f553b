//! The runs of a study on this machine, one after the other, within a budget of time.
//!
//! Imports `study::measure`, which starts each as a process of its own. Start at [`run_here`].

use std::path::Path;
use std::time::{Duration, Instant};

use crate::output::run_json;
use crate::run::RunError;
use crate::study::measure::{self, Plan};

use super::{State, Status, Study, environment};

/// What of a run's directory is kept: the rest is its solution, as large as the mesh.
const KEPT: [&str; 2] = [run_json::FILE_NAME, "case.resolved.toml"];

/// The load of other programs, in cores: the mean of the last minute. `None` where the system does not tell.
pub fn busy() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Removes what a run left beside its report. Only of a directory that holds a report.
pub fn tidy(directory: &Path) {
    if !directory.join(run_json::FILE_NAME).is_file() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let spare = entries.flatten().filter(|e| !KEPT.iter().any(|kept| e.file_name() == *kept));
    for entry in spare.filter(|e| e.file_type().is_ok_and(|t| t.is_file())) {
        // One that stays takes room and does no harm.
        let _ = std::fs::remove_file(entry.path());
    }
}

/// How a study was run.
pub struct Made {
    /// Runs made now.
    pub runs: usize,
    /// Runs that the budget left undone.
    pub left: usize,
}

/// What the runs need beside the study.
pub struct How<'a> {
    /// The program.
    pub program: &'a Path,
    /// When no run is begun any more that would not end before.
    pub budget: Option<Duration>,
    /// Keep solutions and other files of each run.
    pub keep: bool,
    /// Told a line before each run and after it.
    pub progress: &'a dyn Fn(&str),
}

/// Runs what is missing of a study, interleaved: A B C A B C. A run that fails is marked, and its rung is not tried
/// again; the others go on. `scale.json` is written after each, so that an interrupted study goes on where it was.
///
/// # Errors
/// When the study cannot be stored. Not a run's failure.
pub fn run_here(study: &mut Study, directory: &Path, how: &How) -> Result<Made, RunError> {
    let begin = Instant::now();
    let mut longest = vec![Duration::ZERO; study.steps.len()];
    let todo: Vec<(usize, usize)> =
        study.order().into_iter().filter(|&(s, k)| study.steps[s].runs[k].state != State::Done).collect();
    let mut made = Made { runs: 0, left: 0 };
    study.status = Status::Running;
    study.write(directory)?;
    let mut broken = vec![false; study.steps.len()];
    for (n, &(s, k)) in todo.iter().enumerate() {
        if broken[s] {
            continue;
        }
        let over = |budget: Duration| begin.elapsed() + longest[s] > budget;
        if how.budget.is_some_and(over) {
            made.left += 1;
            continue;
        }
        let step = &study.steps[s];
        let run = &step.runs[k];
        let output = directory.join(&run.directory);
        let parent = output.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(|e| environment(format!("{}: {e}", parent.display())))?;
        let plan = Plan {
            case: study.question.file.clone(),
            sets: study.question.sets.iter().chain(&step.rung.sets).cloned().collect(),
            ranks: Some(step.rung.ranks),
            threads: Some(study.question.threads),
            repeat: 1,
            warmup: 0,
        };
        let place = format!("run {} of {}: {}, repeat {}", n + 1, todo.len(), step.rung.name, k + 1);
        (how.progress)(&place);
        let started = Instant::now();
        let ended = measure::once(how.program, &plan, &output);
        longest[s] = longest[s].max(started.elapsed());
        made.runs += 1;
        let run = &mut study.steps[s].runs[k];
        match ended {
            Ok((sample, report)) => {
                (run.state, run.message, run.wall) = (State::Done, None, Some(report.wall));
                (how.progress)(&format!("{place}: {:.2} s", sample.wall));
            }
            Err(error) => {
                let why = error.message.lines().last().unwrap_or_default().to_owned();
                (how.progress)(&format!("{place}: failed: {why}"));
                (run.state, run.message, run.wall) = (State::Failed, Some(why), None);
                broken[s] = true;
            }
        }
        if !how.keep {
            tidy(&output);
        }
        study.write(directory)?;
    }
    Ok(made)
}
