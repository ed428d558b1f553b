//! A study as tables: for the terminal and as CSV.
//!
//! Imports nothing beyond `study::scaling`. Start at [`text`] and [`csv`].

use super::results::{Outcome, Phase, phase_names};
use super::{Growth, State, Step, Study};

/// A number of three digits that a person reads at a glance.
pub fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{x:.2e}"),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        a if a >= 0.1 => format!("{x:.3}"),
        _ => format!("{x:.4}"),
    }
}

fn percent(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{:.0}%", 100.0 * x))
}

/// What a rung is called in a table: its ranks, or how much it has grown.
pub fn label(study: &Study, step: &Step) -> String {
    match study.question.growth {
        Growth::Size => format!("{}x", short(step.rung.actual)),
        _ => format!("{}", step.rung.ranks),
    }
}

/// Rungs that have results.
pub fn done(study: &Study) -> Vec<(&Step, &Outcome)> {
    study.steps.iter().filter_map(|step| Some((step, step.result.as_ref()?))).collect()
}

/// Rungs as rows: the head of the table and its rows.
pub fn rungs(study: &Study) -> (Vec<String>, Vec<Vec<String>>) {
    let size = study.question.growth == Growth::Size;
    let first = if size { "size" } else { "ranks" };
    let mut head: Vec<&str> = vec![first, "cells", "cells a rank", "DOFs", "iterations", "seconds"];
    if !size {
        head.extend(["speedup", "efficiency"]);
    }
    head.extend(["imbalance", "messages", "KiB sent", "neighbours", "collectives", "MiB a rank"]);
    let rows = done(study).into_iter().map(|(step, result)| {
        let total = &result.total;
        let star = if step.comparable { "" } else { " *" };
        let mut row = vec![
            label(study, step),
            result.cells.to_string(),
            format!("{:.0}", result.cells_per_rank),
            result.dofs.to_string(),
            result.iterations.to_string(),
            format!("{} \u{b1} {}{star}", short(total.seconds), short(total.deviation)),
        ];
        if !size {
            row.push(total.speedup.map_or("-".into(), short));
            row.push(percent(total.efficiency));
        }
        row.extend([
            result.imbalance.map_or("-".into(), |x| format!("{x:.3}")),
            total.counters.messages.to_string(),
            format!("{:.0}", total.counters.bytes as f64 / 1024.0),
            total.counters.neighbours.to_string(),
            total.counters.collectives.to_string(),
            format!("{:.0}", result.memory_max_rank),
        ]);
        row
    });
    (head.into_iter().map(str::to_owned).collect(), rows.collect())
}

/// How many columns of [`rungs`] stand before the counts.
pub fn n_before_counts(study: &Study) -> usize {
    if study.question.growth == Growth::Size { 7 } else { 9 }
}

/// Phases as rows, one column a rung: what `of` says of each.
pub fn by_phase(study: &Study, of: &dyn Fn(&Step, &Phase) -> String) -> (Vec<String>, Vec<Vec<String>>) {
    let rungs = done(study);
    let mut head = vec!["phase".to_owned()];
    head.extend(rungs.iter().map(|(step, _)| label(study, step)));
    let mut names = phase_names(study);
    names.push("total".into());
    let rows = names.iter().map(|name| {
        let cells = rungs.iter().map(|(step, result)| result.phase(name).map_or("-".into(), |p| of(step, p)));
        [name.clone()].into_iter().chain(cells).collect()
    });
    (head, rows.collect())
}

/// Seconds of a phase, with a star where ranks took turns.
pub fn seconds(step: &Step, phase: &Phase) -> String {
    format!("{}{}", short(phase.seconds), if step.comparable { "" } else { " *" })
}

/// A table whose columns are aligned, the first to the left.
fn aligned((head, rows): &(Vec<String>, Vec<Vec<String>>)) -> String {
    let all: Vec<&Vec<String>> = [head].into_iter().chain(rows).collect();
    let width = |k: usize| all.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        for (k, (cell, &w)) in row.iter().zip(&widths).enumerate() {
            let gap = if k == 0 { "" } else { "  " };
            text += &if k == 0 { format!("{gap}{cell:<w$}") } else { format!("{gap}{cell:>w$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Exponents as rows.
pub fn exponents(study: &Study) -> (Vec<String>, Vec<Vec<String>>) {
    let head = ["grows with the DOFs as", "power", "95% interval", "sizes"].map(str::to_owned).to_vec();
    let rows = study.exponents.iter().map(|e| {
        let interval = match (e.low, e.high) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => "two sizes have none".into(),
        };
        vec![e.what.clone(), format!("{:.2}", e.value), interval, e.sizes.to_string()]
    });
    (head, rows.collect())
}

/// How many runs stand how, in words; empty when all are done.
pub fn standing(study: &Study) -> String {
    let count = |state: State| study.steps.iter().flat_map(|s| &s.runs).filter(|r| r.state == state).count();
    let all = study.steps.iter().map(|s| s.runs.len()).sum::<usize>();
    let parts = [(State::Queued, "wait or run"), (State::Failed, "failed"), (State::Missing, "are missing")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(state, _)| count(*state) > 0)
        .map(|(state, what)| format!("{} {what}", count(state)))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("{} of {all} runs are done; {}", count(State::Done), parts.join(", "))
    }
}

/// The study for the terminal.
pub fn text(study: &Study) -> String {
    let question = &study.question;
    let mut text = format!(
        "{} scaling of {}: medians of {} runs, {} thread{} a rank\n\n",
        question.growth.name(),
        question.case,
        study.repeat,
        question.threads,
        if question.threads == 1 { "" } else { "s" }
    );
    if !done(study).is_empty() {
        let (head, rows) = rungs(study);
        let cut = n_before_counts(study);
        text += &aligned(&(head[..cut].to_vec(), rows.iter().map(|r| r[..cut].to_vec()).collect()));
        text += "\n";
        let counts = |row: &[String]| [&row[..1], &row[cut..]].concat();
        text += &aligned(&(counts(&head), rows.iter().map(|r| counts(r)).collect()));
        text += "\nseconds\n";
        text += &aligned(&by_phase(study, &seconds));
        if question.growth == Growth::Size {
            text += "\n";
            text += &aligned(&exponents(study));
        } else {
            text += "\nefficiency\n";
            text += &aligned(&by_phase(study, &|_, phase| percent(phase.efficiency)));
        }
        if study.steps.iter().any(|s| !s.comparable && s.result.is_some()) {
            text += "* ranks took turns on the cores: not comparable\n";
        }
    }
    if let Some(projection) = &study.projection {
        text += &format!("\n{}\n", projection.sentence());
        text += &projection.remarks.iter().map(|r| format!("  ({r})\n")).collect::<String>();
    }
    for warning in &study.warnings {
        text += &format!("warning: {warning}\n");
    }
    let standing = standing(study);
    if !standing.is_empty() {
        text += &format!("{standing}\n");
    }
    text
}

/// One line a rung and phase.
pub fn csv(study: &Study) -> String {
    let mut text = String::from(
        "growth,rung,ranks,threads,comparable,runs,cells,cells_per_rank,dofs,iterations,phase,seconds,deviation,least,most,\
         speedup,efficiency,imbalance,messages,bytes,neighbours,collectives,collective_bytes,memory_max_rank_mb,\
         memory_sum_mb\n",
    );
    let optional = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.6e}"));
    for (step, result) in done(study) {
        let runs = step.runs.iter().filter(|run| run.state == State::Done).count();
        for phase in result.phases.iter().chain([&result.total]) {
            let c = &phase.counters;
            let words: Vec<String> = vec![
                study.question.growth.name().into(),
                step.rung.name.clone(),
                step.rung.ranks.to_string(),
                study.question.threads.to_string(),
                step.comparable.to_string(),
                runs.to_string(),
                result.cells.to_string(),
                format!("{:.1}", result.cells_per_rank),
                result.dofs.to_string(),
                result.iterations.to_string(),
                phase.name.clone(),
                format!("{:.6e}", phase.seconds),
                format!("{:.6e}", phase.deviation),
                format!("{:.6e}", phase.least),
                format!("{:.6e}", phase.most),
                optional(phase.speedup),
                optional(phase.efficiency),
                optional(phase.imbalance),
                c.messages.to_string(),
                c.bytes.to_string(),
                c.neighbours.to_string(),
                c.collectives.to_string(),
                c.collective_bytes.to_string(),
                format!("{:.1}", result.memory_max_rank),
                format!("{:.1}", result.memory_sum),
            ];
            text += &words.join(",");
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 1234567.0, 512.3, 51.23, 5.123, 0.5123, 0.05123, 0.00005].map(short);
        assert_eq!(found, ["0", "1.23e6", "512", "51.2", "5.12", "0.512", "0.0512", "5.00e-5"]);
    }

    #[test]
    fn columns_are_aligned() {
        let head = ["phase", "1", "10"].map(str::to_owned).to_vec();
        let rows = vec![["a", "2.5", "3"].map(str::to_owned).to_vec()];
        assert_eq!(aligned(&(head, rows)), "phase    1  10\na      2.5   3\n");
    }
}
