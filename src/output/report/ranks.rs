//! Time and memory rank by rank.
//!
//! Imports its siblings. Start at [`figures`].

use cluster::words::grouped;

use crate::output::by_rank::Kept;
use crate::output::chart::Bars;
use crate::output::page::Page;
use crate::output::run_json::RunReport;

/// The name of the part of a bar in which nothing is done.
const WAITING: &str = "waiting for other ranks";

/// A bar of phases for each rank, and one of its memory.
pub(super) fn figures(page: &mut Page, run: &RunReport) {
    let Some(by_rank) = run.by_rank.as_ref().filter(|found| found.ranks.len() > 1) else { return };
    let n = by_rank.ranks.len();
    let none = Vec::new();
    let of = |table: &Vec<f64>, row: usize| table.get(row).copied().unwrap_or(0.0);
    // In the order, and so in the colours, of the phases of the run.
    let names: Vec<&String> =
        run.phases.iter().map(|p| &p.name).filter(|name| by_rank.seconds.contains_key(*name)).collect();
    let work = |name: &String, row: usize| {
        let waiting = by_rank.waiting.get(name).unwrap_or(&none);
        (of(&by_rank.seconds[name], row) - of(waiting, row)).max(0.0)
    };
    let sums: Vec<f64> = (0..n).map(|row| names.iter().map(|name| work(name, row)).sum()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    if by_rank.kept == Kept::Sample {
        order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
    }
    let groups: Vec<String> =
        order.iter().map(|&row| format!("rank {}", grouped(by_rank.ranks[row]))).collect();
    let mut parts: Vec<(String, Vec<f64>)> = names
        .iter()
        .map(|name| ((*name).clone(), order.iter().map(|&row| work(name, row)).collect()))
        .collect();
    if !by_rank.waiting.is_empty() {
        let waiting = |row: usize| by_rank.waiting.values().map(|table| of(table, row)).sum();
        parts.push((WAITING.to_owned(), order.iter().map(|&row| waiting(row)).collect()));
    }
    let which = match by_rank.kept {
        Kept::All => String::new(),
        Kept::Sample => format!(
            " {n} of {} ranks: those that work longest, those that work least, and some in even steps between the \
             first and the last; the one that works longest first.",
            grouped(run.ranks as u64)
        ),
    };
    let waiting = if by_rank.waiting.is_empty() {
        "Time in phases; waiting for other ranks is among it."
    } else {
        "What each rank works in each phase, and what it waits for others in all of them."
    };
    let time = Bars { title: "Time by rank".to_owned(), unit: "seconds".to_owned(), groups, parts };
    page.svg(&time.svg(), &format!("{waiting}{which}"));
    if by_rank.memory_mb.len() == n && by_rank.memory_mb.iter().any(|&mb| mb > 0.0) {
        let peaks = order.iter().map(|&row| by_rank.memory_mb[row]).collect();
        let memory = Bars {
            title: "Peak memory by rank".to_owned(),
            unit: "MiB".to_owned(),
            groups: time.groups,
            parts: vec![("peak".to_owned(), peaks)],
        };
        page.svg(&memory.svg(), if which.is_empty() { "" } else { "The same ranks in the same order." });
    }
}
