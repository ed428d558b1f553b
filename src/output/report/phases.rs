//! Where the time went.
//!
//! Imports its siblings. Start at [`section`].

use std::path::Path;

use super::{ranks, trace};
use crate::output::chart::{Bars, number};
use crate::output::page::{Page, Tone};
use crate::output::run_json::RunReport;

/// Time by phase and over the ranks, and a timeline where there is a trace.
pub(super) fn section(page: &mut Page, run: &RunReport, dir: &Path) {
    if run.phases.is_empty() {
        return;
    }
    page.section("Time");
    let several = run.ranks > 1;
    let names = || run.phases.iter().map(|p| p.name.clone());
    let stacked = |value: &dyn Fn(&crate::output::phases::PhaseRow) -> f64| -> Vec<f64> {
        run.phases.iter().map(value).collect()
    };
    let columns = if several {
        vec![
            ("least of a rank", stacked(&|p| p.min)),
            ("mean of the ranks", stacked(&|p| p.mean)),
            ("most of a rank", stacked(&|p| p.max)),
        ]
    } else {
        vec![("", stacked(&|p| p.max))]
    };
    let whole = Bars {
        title: "Time by phase".to_owned(),
        unit: "seconds".to_owned(),
        groups: columns.iter().map(|c| c.0.to_owned()).collect(),
        parts: names()
            .enumerate()
            .map(|(k, name)| (name, columns.iter().map(|c| c.1[k]).collect()))
            .collect(),
    };
    let caption =
        if several { "Of each phase the least, mean and most of any rank, one after the other." } else { "" };
    page.svg(&whole.svg(), caption);
    let spread = if several {
        vec![
            ("least of a rank".to_owned(), stacked(&|p| p.min)),
            ("up to the mean".to_owned(), stacked(&|p| p.mean - p.min)),
            ("up to the most".to_owned(), stacked(&|p| p.max - p.mean)),
        ]
    } else {
        vec![("seconds".to_owned(), stacked(&|p| p.max))]
    };
    let each = Bars {
        title: if several { "Spread over the ranks" } else { "Phases" }.to_owned(),
        unit: "seconds".to_owned(),
        groups: names().collect(),
        parts: spread,
    };
    page.svg(
        &each.svg(),
        if several { "What lies beyond the mean is waiting for the slowest rank." } else { "" },
    );
    ranks::figures(page, run);
    match trace::timeline(dir) {
        Ok(Some(timeline)) => {
            page.svg(
                &timeline.svg(),
                "From trace.json, which Perfetto and Chrome's about:tracing open in full.",
            );
        }
        Ok(None) => {}
        Err(error) => {
            page.note(Tone::Warning, &format!("The trace could not be read: {error}"));
        }
    }
    let rows = run.phases.iter().map(|p| {
        let mut row = vec![p.name.clone()];
        if several {
            row.extend([number(p.min), number(p.mean)]);
        }
        row.push(number(p.max));
        let share =
            if run.wall > 0.0 { format!("{:.1} %", 100.0 * p.mean / run.wall) } else { String::new() };
        row.push(share);
        if several {
            row.push(if p.mean > 0.0 { format!("{:.2}", p.max / p.mean) } else { "\u{2013}".to_owned() });
        }
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let head: &[&str] = if several {
        &["phase", "min s", "mean s", "max s", "of the run", "max / mean"]
    } else {
        &["phase", "seconds", "of the run"]
    };
    page.captioned_table("Wall-clock time of the phases", head, &rows);
}
