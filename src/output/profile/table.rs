//! The profile as a person reads it on the terminal.
//!
//! Start at [`text`].

use std::fmt::Write;

use super::{Profile, SpanRow};

/// Spans that take less of the run are not shown.
const SHOWN: f64 = 0.005;

/// Tables of all there is.
pub(super) fn text(profile: &Profile) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, profile);
    out
}

fn shown(profile: &Profile) -> impl Iterator<Item = &SpanRow> {
    profile.spans.iter().filter(|row| row.mean >= SHOWN * profile.wall)
}

fn write(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let indented = |row: &SpanRow| format!("{:1$}{2}", "", 2 * row.path.matches('/').count(), row.name);
    let width = shown(profile).map(|row| indented(row).chars().count()).max().unwrap_or(0).max(12);
    writeln!(
        out,
        "  {:width$} {:10} {:>8} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6}",
        "span", "module", "count", "min s", "mean s", "max s", "m/m", "self s", "waiting s", "share"
    )?;
    for row in shown(profile) {
        writeln!(
            out,
            "  {:width$} {:10} {:>8} {:>9.4} {:>9.4} {:>9.4} {:>6.2} {:>9.4} {:>9.4} {:>5.1}%",
            indented(row),
            row.module,
            row.count,
            row.min,
            row.mean,
            row.max,
            row.max / row.mean.max(1e-12),
            row.self_mean,
            row.waiting,
            100.0 * row.mean / profile.wall
        )?;
    }
    let hidden = profile.left_out + profile.spans.len() - shown(profile).count();
    if hidden > 0 {
        writeln!(out, "  and {hidden} more, each below {}% of the run", 100.0 * SHOWN)?;
    }
    threads(out, profile)?;
    if !profile.allocations.is_empty() {
        writeln!(out, "  {:width$} {:>10} {:>12} {:>12}", "memory", "requests", "asked MiB", "held MiB")?;
        for row in &profile.allocations {
            writeln!(
                out,
                "  {:width$} {:>10} {:>12.1} {:>12.1}",
                row.phase, row.requests, row.mb, row.peak_mb
            )?;
        }
    }
    petsc(out, profile, width)?;
    let Some(trace) = &profile.trace else { return overhead(out, profile) };
    writeln!(out, "  trace: {} spans of {} rows in {}", trace.events, trace.rows, trace.file)?;
    if trace.dropped > 0 {
        writeln!(out, "  {} short spans found no room in the trace", trace.dropped)?;
    }
    overhead(out, profile)
}

fn threads(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let shown = || profile.threads.iter().filter(|row| row.mean >= SHOWN * profile.wall);
    let Some(width) = shown().map(|row| row.path.chars().count()).max() else { return Ok(()) };
    let head = "on other threads";
    let width = width.max(head.len());
    writeln!(
        out,
        "  {head:width$} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "threads", "count", "min s", "mean s", "max s"
    )?;
    for row in shown() {
        writeln!(
            out,
            "  {:width$} {:>8} {:>8} {:>9.4} {:>9.4} {:>9.4}",
            row.path, row.threads, row.count, row.min, row.mean, row.max
        )?;
    }
    Ok(())
}

fn petsc(out: &mut String, profile: &Profile, width: usize) -> std::fmt::Result {
    if profile.petsc.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:width$} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "PETSc's log", "count", "min s", "mean s", "max s", "GFlop/s", "messages", "reductions"
    )?;
    for row in profile.petsc.iter().filter(|row| row.mean >= SHOWN * profile.wall) {
        writeln!(
            out,
            "  {:width$} {:>8} {:>9.4} {:>9.4} {:>9.4} {:>9.3} {:>9.0} {:>10.0}",
            row.name,
            row.count,
            row.min,
            row.mean,
            row.max,
            1e-9 * row.flops / row.max.max(1e-12),
            row.messages,
            row.reductions
        )?;
    }
    Ok(())
}

fn overhead(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let o = &profile.overhead;
    writeln!(
        out,
        "  recording: {} spans of {:.0} ns, {:.2}% of the run",
        o.spans,
        1e9 * o.seconds_per_span,
        100.0 * o.share
    )
}
