//! A study as pictures and as a page.
//!
//! Imports `output` for charts and pages. Start at [`page`] and [`pictures`].

use std::path::Path;

use crate::output::chart::{Axis, Chart, Mark, Series};
use crate::output::page::{Page, Tone};
use crate::run::RunError;

use super::projection::Projection;
use super::results::{Outcome, Phase, phase_names};
use super::tables::{self, done, short};
use super::{Growth, Step, Study};

/// As many phases as one can tell apart in a picture.
const MOST: usize = 6;

/// Phases below this share of every rung's run are not drawn.
const SHARE: f64 = 0.01;

/// The phases worth a line, those that take most first; in the order of the run.
fn drawn(study: &Study) -> Vec<String> {
    let share = |name: &str| {
        let of = |(_, r): &(&Step, &Outcome)| {
            r.phase(name).map_or(0.0, |p| p.seconds / r.total.seconds.max(1e-300))
        };
        done(study).iter().map(of).fold(0.0, f64::max)
    };
    let mut ranked: Vec<(String, f64)> =
        phase_names(study).into_iter().map(|n| (n.clone(), share(&n))).collect();
    ranked.retain(|r| r.1 >= SHARE);
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(MOST);
    phase_names(study).into_iter().filter(|n| ranked.iter().any(|r| r.0 == *n)).collect()
}

fn x_axis(study: &Study) -> Axis {
    let label = if study.question.growth == Growth::Size { "degrees of freedom" } else { "ranks" };
    Axis { label: label.into(), log: true }
}

fn x_of(study: &Study, step: &Step, result: &Outcome) -> f64 {
    if study.question.growth == Growth::Size { result.dofs as f64 } else { step.rung.ranks as f64 }
}

/// A line a name, over the rungs for which `of` has a value.
fn lines(study: &Study, names: &[String], of: &dyn Fn(&Step, &Phase) -> Option<f64>) -> Vec<Series> {
    let series = names.iter().map(|name| {
        let points = done(study)
            .into_iter()
            .filter_map(|(step, result)| Some([x_of(study, step, result), of(step, result.phase(name)?)?]));
        Series { name: name.clone(), points: points.collect(), mark: Mark::LinePoints }
    });
    series.filter(|s| !s.points.is_empty()).collect()
}

fn chart(title: &str, x: Axis, y: &str, log: bool, series: Vec<Series>) -> Chart {
    Chart { title: title.into(), x, y: Axis { label: y.into(), log }, series }
}

/// Seconds by phase, with what they would be if nothing were lost.
fn times(study: &Study) -> Option<Chart> {
    let mut names = drawn(study);
    names.push("total".into());
    let mut series =
        lines(study, &names, &|step, p| (step.comparable && p.seconds > 0.0).then_some(p.seconds));
    if series.is_empty() {
        return None;
    }
    let last = |s: &Series| s.points.last().map_or(0.0, |p| p[1]);
    let largest = series.iter().filter(|s| s.name != "total").max_by(|a, b| last(a).total_cmp(&last(b)));
    let ideal: Vec<String> =
        largest.map(|s| s.name.clone()).into_iter().chain(["total".to_owned()]).collect();
    for name in ideal {
        let Some(measured) = series.iter().find(|s| s.name == name && s.points.len() > 1) else { continue };
        let [x0, y0] = measured.points[0];
        let power = match study.question.growth {
            Growth::Strong => -1.0,
            Growth::Weak => 0.0,
            Growth::Size => 1.0,
        };
        let points = measured.points.iter().map(|p| [p[0], y0 * (p[0] / x0).powf(power)]).collect();
        let what = if study.question.growth == Growth::Size { "linear" } else { "ideal" };
        series.push(Series { name: format!("{name}, {what}"), points, mark: Mark::Dashed });
    }
    Some(chart("Time by phase", x_axis(study), "seconds", true, series))
}

fn efficiency(study: &Study) -> Option<Chart> {
    let mut names = drawn(study);
    names.push("total".into());
    let mut series = lines(study, &names, &|_, p| Some(100.0 * p.efficiency?));
    let first = series.first().filter(|s| s.points.len() > 1)?;
    let ends = [first.points[0][0], first.points.last().map_or(1.0, |p| p[0])];
    let points = ends.map(|x| [x, 100.0]).into();
    series.push(Series { name: "ideal".into(), points, mark: Mark::Dashed });
    Some(chart("Efficiency", x_axis(study), "per cent", false, series))
}

/// A count by phase over all rungs, and the law of the whole solve where one was fitted.
fn counts(study: &Study, title: &str, count: &str, of: fn(&Phase) -> u64) -> Option<Chart> {
    let most = |name: &str| done(study).iter().filter_map(|(_, r)| r.phase(name)).map(of).max().unwrap_or(0);
    let mut names: Vec<String> = done(study)
        .iter()
        .flat_map(|(_, r)| r.phases.iter().map(|p| p.name.clone()))
        .fold(Vec::new(), |mut all, name| {
            if !all.contains(&name) {
                all.push(name);
            }
            all
        });
    let all = most("total");
    names.retain(|name| most(name) as f64 > SHARE * all as f64);
    names.sort_by_key(|name| std::cmp::Reverse(most(name)));
    names.truncate(MOST);
    names.push("total".into());
    let series = lines(study, &names, &|_, p| (of(p) > 0).then_some(of(p) as f64));
    (!series.is_empty()).then(|| chart(title, x_axis(study), count, true, series))
}

fn memory(study: &Study) -> Option<Chart> {
    let found = done(study);
    let line = |name: &str, of: &dyn Fn(&Outcome) -> f64| {
        let points = found.iter().map(|(step, r)| [x_of(study, step, r), of(r)]).filter(|p| p[1] > 0.0);
        Series { name: name.into(), points: points.collect(), mark: Mark::LinePoints }
    };
    let series = vec![line("largest rank", &|r| r.memory_max_rank), line("all ranks", &|r| r.memory_sum)];
    let any = series.iter().any(|s| !s.points.is_empty());
    any.then(|| chart("Peak memory", x_axis(study), "MiB", true, series))
}

/// Projected lines of the phases that matter, and what was measured.
fn projected(
    study: &Study,
    projection: &Projection,
    title: &str,
    y: (&str, bool),
    of: &dyn Fn(&super::projection::Predicted) -> [f64; 3],
    measured: &dyn Fn(&Phase) -> Option<f64>,
) -> Option<Chart> {
    let last = projection.points.last()?;
    let total = last.phases.last()?.seconds;
    let timed = phase_names(study);
    let mut names: Vec<(&str, f64)> = last
        .phases
        .iter()
        .filter(|p| p.phase != "total" && p.seconds > 0.02 * total)
        // What is said between phases takes no time that could be measured, and has no efficiency.
        .filter(|p| y.1 || timed.contains(&p.phase))
        .map(|p| (p.phase.as_str(), p.seconds))
        .collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    names.truncate(MOST - 1);
    let mut series = Vec::new();
    for name in names.into_iter().map(|n| n.0).chain(["total"]) {
        let line = |k: usize| -> Vec<[f64; 2]> {
            let at = |point: &super::projection::Point| {
                let phase = point.phases.iter().find(|p| p.phase == name)?;
                Some([point.ranks, of(phase)[k]])
            };
            projection.points.iter().filter_map(at).collect()
        };
        series.push(Series { name: name.to_owned(), points: line(0), mark: Mark::Line });
        if name == "total" {
            for (k, what) in [(1, "total, least"), (2, "total, most")] {
                series.push(Series { name: what.into(), points: line(k), mark: Mark::Dashed });
            }
        }
        let points: Vec<[f64; 2]> = done(study)
            .into_iter()
            .filter(|(step, _)| step.comparable)
            .filter_map(|(step, r)| Some([step.rung.ranks as f64, measured(r.phase(name)?)?]))
            .collect();
        if name == "total" && !points.is_empty() {
            series.push(Series { name: "total, measured".into(), points, mark: Mark::Points });
        }
    }
    Some(chart(title, x_axis(study), y.0, y.1, series))
}

/// All pictures, by the name of their file and as SVG.
pub fn pictures(study: &Study) -> Vec<(&'static str, String)> {
    let mut charts = vec![
        ("time", times(study)),
        ("efficiency", efficiency(study)),
        ("messages", counts(study, "Messages of the busiest rank", "messages", |p| p.counters.messages)),
        ("bytes", counts(study, "Bytes sent by the busiest rank", "bytes", |p| p.counters.bytes)),
        ("memory", memory(study)),
    ];
    if let Some(projection) = &study.projection {
        let seconds = |p: &super::projection::Predicted| [p.seconds, p.low, p.high];
        // Phases add up to less than the whole run, which starts and ends too.
        let time = projected(study, projection, "Projected time", ("seconds", true), &seconds, &|_| None);
        charts.push(("projection", time));
        let percent = |p: &super::projection::Predicted| {
            [p.efficiency, p.efficiency_low, p.efficiency_high].map(|e| 100.0 * e)
        };
        let title = "Projected efficiency";
        let efficiency = projected(study, projection, title, ("per cent", false), &percent, &|_| None);
        charts.push(("projected-efficiency", efficiency));
    }
    charts.into_iter().filter_map(|(name, chart)| Some((name, chart?.svg()))).collect()
}

fn caption(study: &Study, name: &str) -> &'static str {
    match (name, study.question.growth) {
        ("time", Growth::Strong) => {
            "Medians over the repeats, of the rank that took longest; dashed: as fast as ranks are added. Rungs whose ranks took turns are left out."
        }
        ("time", Growth::Weak) => {
            "Medians over the repeats, of the rank that took longest; dashed: as long on any number of ranks. Rungs whose ranks took turns are left out."
        }
        ("time", Growth::Size) => {
            "Medians over the repeats, of the rank that took longest; dashed: in proportion to the degrees of freedom."
        }
        ("efficiency", _) => {
            "Work in the same time for each rank, over the first rung's; weak ladders by the cells that each rank has in fact."
        }
        ("messages" | "bytes", _) => {
            "Counted, not timed: holds on a busy machine too. What PETSc and HDF5 send by themselves is not counted."
        }
        ("memory", _) => "Peak resident memory.",
        ("projection", _) => {
            "A projection, not a measurement: from the last trusted rung on, by fitted laws and the network's figures below. Dashed: the least and most that other plausible laws give."
        }
        ("projected-efficiency", _) => "A projection, not a measurement: over the last trusted rung.",
        _ => "",
    }
}

/// The study as a page that needs no network.
pub fn page_of(study: &Study) -> Page {
    let question = &study.question;
    let mut page = Page::new(&format!("{} scaling of {}", capital(question.growth.name()), question.case));
    page.section("Summary");
    if let Some(projection) = &study.projection {
        page.paragraph(&projection.sentence());
    }
    for warning in &study.warnings {
        page.note(Tone::Warning, warning);
    }
    let standing = tables::standing(study);
    if !standing.is_empty() {
        page.note(Tone::Warning, &format!("{standing}."));
    }
    let facts = [
        ("case", question.file.display().to_string()),
        ("set", if question.sets.is_empty() { "nothing".into() } else { question.sets.join(", ") }),
        ("threads a rank", question.threads.to_string()),
        ("runs of each rung", study.repeat.to_string()),
        ("processor", study.processor.clone()),
        ("cores", study.cores.to_string()),
        (
            "run",
            match study.jobs.is_empty() {
                true => "on this machine, rungs in turn".to_owned(),
                false => format!(
                    "by SLURM, jobs {}",
                    study.jobs.iter().map(|j| j.id.as_str()).collect::<Vec<_>>().join(", ")
                ),
            },
        ),
        ("femdd", study.femdd.clone()),
    ];
    page.pairs(&facts);
    let (head, rows) = tables::rungs(study);
    if rows.is_empty() {
        page.paragraph("No run has ended yet.");
        return page;
    }
    let cut = tables::n_before_counts(study);
    let times: Vec<Vec<String>> = rows.iter().map(|row| row[..cut].to_vec()).collect();
    let counts = |row: &[String]| [&row[..1], &row[cut..]].concat();
    let counted: Vec<Vec<String>> = rows.iter().map(|row| counts(row)).collect();
    page.section("Rungs").captioned_table("Medians and median deviations", &head[..cut], &times);
    page.captioned_table("Of the busiest rank", &counts(&head), &counted);
    let pictures = pictures(study);
    let find = |name: &str| pictures.iter().find(|p| p.0 == name);
    let show = |page: &mut Page, name: &str| {
        if let Some((name, svg)) = find(name) {
            page.svg(svg, caption(study, name));
        }
    };
    page.section("Time");
    show(&mut page, "time");
    show(&mut page, "efficiency");
    let (head, rows) = tables::by_phase(study, &tables::seconds);
    page.captioned_table("Seconds", &head, &rows);
    let spread = |_: &Step, p: &Phase| format!("{} to {}", short(p.least), short(p.most));
    let (head, rows) = tables::by_phase(study, &spread);
    page.captioned_table("Seconds, fastest and slowest run", &head, &rows);
    if question.growth == Growth::Size {
        let (head, rows) = tables::exponents(study);
        page.captioned_table("Growth with the size", &head, &rows);
    } else {
        let ratio =
            |of: fn(&Phase) -> Option<f64>| move |_: &Step, p: &Phase| of(p).map_or("-".into(), short);
        let (head, rows) = tables::by_phase(study, &ratio(|p| p.speedup));
        page.captioned_table("Speedup", &head, &rows);
        let (head, rows) = tables::by_phase(study, &ratio(|p| p.efficiency));
        page.captioned_table("Efficiency", &head, &rows);
    }
    let uneven = |_: &Step, p: &Phase| p.imbalance.map_or("-".into(), |x| format!("{x:.2}"));
    let (head, rows) = tables::by_phase(study, &uneven);
    page.captioned_table("Imbalance: the slowest rank over the mean", &head, &rows);
    page.section("Communication");
    show(&mut page, "messages");
    show(&mut page, "bytes");
    type Count = fn(&Phase) -> u64;
    let by_count: [(&str, Count); 4] = [
        ("Messages of the busiest rank", |p| p.counters.messages),
        ("Bytes sent by the busiest rank", |p| p.counters.bytes),
        ("Collective calls", |p| p.counters.collectives),
        ("Neighbours of the busiest rank", |p| p.counters.neighbours),
    ];
    for (title, of) in by_count {
        let (head, rows) = tables::by_phase(study, &|_, p| of(p).to_string());
        page.captioned_table(title, &head, &rows);
    }
    page.section("Memory");
    show(&mut page, "memory");
    if let Some(projection) = &study.projection {
        page.section("Projection");
        page.paragraph(&projection.sentence());
        show(&mut page, "projection");
        show(&mut page, "projected-efficiency");
        describe(&mut page, projection);
    }
    page
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// The inputs of a projection and its laws.
fn describe(page: &mut Page, projection: &Projection) {
    use cluster::model::{Messages, Reduction};
    let list = |ranks: &[usize]| ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut facts = vec![
        ("counts from", format!("{} ranks", list(&projection.counted))),
        (
            "times from",
            match projection.timed.is_empty() {
                true => "none that can be trusted".into(),
                false => format!("{} ranks", list(&projection.timed)),
            },
        ),
        ("looked ahead to", format!("{:.0} ranks", projection.far)),
    ];
    if let Some(network) = &projection.inputs.network {
        let (model, latency, bandwidth) = match network.messages {
            Messages::Hockney { latency, bandwidth } => {
                ("Hockney: latency + bytes / bandwidth".to_owned(), latency, bandwidth)
            }
            Messages::LogGp { latency, overhead, gap, bandwidth } => (
                format!("LogGP: o = {} us, g = {} us", short(1e6 * overhead), short(1e6 * gap)),
                latency,
                bandwidth,
            ),
        };
        facts.push(("messages", model));
        facts.push(("latency", format!("{} us", short(1e6 * latency))));
        facts.push(("bandwidth", format!("{} GB/s", short(1e-9 * bandwidth))));
        let reduction = match network.reduction {
            Reduction::Doubling => "recursive doubling, ceil(log2 p) stages",
            Reduction::Rabenseifner => "Rabenseifner, 2 ceil(log2 p) stages",
        };
        let stage = network.stage.map_or(String::new(), |s| format!(" of {} us", short(1e6 * s)));
        facts.push(("reductions", format!("{reduction}{stage}")));
        facts.push(("network's figures from", projection.inputs.source.clone()));
    }
    if let Some(fit) = &projection.iterations {
        facts.push(("iterations", fit.law.to_string()));
    }
    page.pairs(&facts);
    for remark in &projection.remarks {
        page.note(Tone::Warning, remark);
    }
    if !projection.stops.is_empty() {
        let ranks =
            |x: Option<f64>| x.map_or_else(|| format!("beyond {:.0}", projection.far), |x| format!("{x:.0}"));
        let rows: Vec<Vec<String>> = projection
            .stops
            .iter()
            .map(|s| {
                vec![
                    s.phase.clone(),
                    ranks(s.ranks),
                    format!("{} to {}", ranks(s.low), ranks(s.high)),
                    format!("{:.0}%", 100.0 * s.share),
                    if s.ranks.is_some() { s.by.clone() } else { String::new() },
                ]
            })
            .collect();
        let head = ["phase", "below 50% at ranks", "by plausible laws", "share of the run there", "by"];
        page.captioned_table("Where phases stop scaling (projected)", &head, &rows);
    }
    let rows: Vec<Vec<String>> = projection
        .counts
        .iter()
        .map(|c| {
            let (low, high) = c.fit.range(projection.far);
            vec![
                c.phase.clone(),
                c.count.replace('_', " ") + if c.per_iteration { " an iteration" } else { "" },
                c.law.clone(),
                format!("{:.1}%", 100.0 * c.fit.left_out),
                format!("{} ({} to {})", short(c.fit.at(projection.far)), short(low), short(high)),
            ]
        })
        .collect();
    let head = ["phase", "count", "law, p ranks", "off points left out", "at the end (plausible)"];
    page.captioned_table("Laws of growth of counts of the busiest rank", &head, &rows);
}

/// The page of the study in a directory.
///
/// # Errors
/// A directory without a study.
pub fn page(directory: &Path) -> Result<Page, RunError> {
    Ok(page_of(&Study::read(directory)?))
}
