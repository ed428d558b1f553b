//! Ladders whose truth is known, through the model and back.

use cluster::Counters;
use cluster::model::{Load, Network};

use super::*;
use crate::output::phases::PhaseRow;
use crate::output::run_json::{RunReport, SolverReport, Status};
use crate::study::scaling::{Rung as LadderRung, results};

const NETWORK: Network = Network {
    messages: cluster::model::Messages::Hockney { latency: 2e-6, bandwidth: 1e9 },
    reduction: cluster::model::Reduction::Doubling,
    stage: None,
};

/// A solve of `work` seconds in 10 iterations: each has a sum over the ranks and a message of `bytes` to 6 neighbours.
fn truth(strong: bool, p: f64, work: f64, bytes: f64) -> (f64, Counters) {
    let shrink = if strong { p.powf(-2.0 / 3.0) } else { 1.0 };
    let counters = match p > 1.0 {
        true => Counters {
            messages: 60,
            bytes: (600.0 * bytes * shrink).round() as u64,
            neighbours: 6,
            collectives: 10,
            collective_bytes: 80,
            ..Counters::default()
        },
        false => Counters { collectives: 10, collective_bytes: 80, ..Counters::default() },
    };
    let said = NETWORK.seconds(&Load::from(&counters), p).sum();
    (work / if strong { p } else { 1.0 } + said, counters)
}

fn study(growth: Growth, ladder: &[usize], cores: usize, work: f64, bytes: f64) -> Study {
    let strong = growth == Growth::Strong;
    let rung = |&ranks: &usize| LadderRung {
        name: format!("{ranks}-ranks"),
        ranks,
        growth: if strong { 1.0 } else { ranks as f64 },
        actual: if strong { 1.0 } else { ranks as f64 },
        sets: Vec::new(),
    };
    let mut study = Study::new(results::tests::question(growth), ladder.iter().map(rung).collect(), 1, cores);
    for step in &mut study.steps {
        let ranks = step.rung.ranks;
        let (seconds, counters) = truth(strong, ranks as f64, work, bytes);
        // What was measured where ranks took turns is of no use, and must not be used.
        let seconds = if step.comparable { seconds } else { 50.0 * seconds };
        let mut report = RunReport::started("cube", ranks, 1);
        (report.status, report.wall) = (Status::Solved, seconds);
        report.mesh.cells = 10_000_000 * if strong { 1 } else { ranks as u64 };
        report.solver = Some(SolverReport { iterations: 10, ..SolverReport::default() });
        report.phases = vec![PhaseRow { name: "solve".into(), min: seconds, mean: seconds, max: seconds }];
        report.extra.insert("communication".into(), serde_json::json!({ "solve": counters }));
        step.result = results::outcome(&[report]);
    }
    study
}

fn inputs() -> Inputs {
    Inputs { network: Some(NETWORK), source: "given".into() }
}

/// Where the truth falls below one half, by trying.
fn truly_stops(strong: bool, from: f64, work: f64, bytes: f64) -> f64 {
    let at = |p: f64| truth(strong, p, work, bytes).0;
    let falls = |p: &f64| {
        let more = if strong { from / p } else { 1.0 };
        at(from) * more / at(*p) < LEAST
    };
    (1..).map(|k| from + k as f64).find(falls).expect("it falls somewhere")
}

/// From three, four and five rungs, with times of two only: the rank where the truth stops, to within the eighth of a
/// doubling that is looked at.
#[test]
fn a_strong_ladder_stops_where_it_truly_does() {
    let (work, bytes) = (0.05, 100.0);
    for ladder in [&[1, 2, 4][..], &[1, 2, 4, 8], &[1, 2, 4, 8, 16]] {
        let found = project(&study(Growth::Strong, ladder, 2, work, bytes), &inputs()).expect("a projection");
        assert_eq!((found.reference, found.timed.as_slice()), (Some(2), &[1, 2][..]));
        let truly = truly_stops(true, 2.0, work, bytes);
        let stop = found.first().expect("a phase stops");
        let ranks = stop.ranks.expect("before the end");
        // Two rungs of two ranks and more leave the law of bytes open: here a power is right.
        assert!((ranks / truly).ln().abs() < 0.12, "{ranks} for {truly} from {ladder:?}: {found:#?}");
        assert!(stop.low.is_some_and(|low| low <= ranks), "{stop:?}");
        assert!(found.sentence().contains("solve stops scaling first"), "{}", found.sentence());
    }
}

#[test]
fn a_weak_ladder_stops_by_its_sums_and_messages() {
    // 60 messages of 2 microseconds, 10 sums in log2 p stages of 2: 160 microseconds on 2 ranks, twice that in 10 stages.
    let work = 2.0e-5;
    let found =
        project(&study(Growth::Weak, &[1, 2, 4, 8, 16], 2, work, 1.0), &inputs()).expect("a projection");
    let truly = truly_stops(false, 2.0, work, 1.0);
    assert!(truly > 4.0 && truly < 1e4, "the truth stops within the projection: {truly}");
    let stop = found.first().unwrap_or_else(|| panic!("no stop: {found:#?}"));
    // The model has whole stages: it steps at powers of 2.
    assert!((stop.ranks.expect("before the end") / truly).ln().abs() < 0.75, "{stop:?} for {truly}");
    assert_eq!(stop.by, "collective calls");
}

#[test]
fn what_scales_is_said_to_scale() {
    let found =
        project(&study(Growth::Weak, &[1, 2, 4, 8, 16], 2, 10.0, 1.0), &inputs()).expect("a projection");
    assert!(found.first().is_none() && found.stops[0].ranks.is_none(), "{:?}", found.stops);
    assert!(found.sentence().contains("no phase"), "{}", found.sentence());
    let last = found.points.last().expect("points");
    assert_eq!(last.ranks, FAR);
    assert!(
        last.phases.iter().all(|p| p.efficiency > 0.99 && p.low <= p.seconds && p.seconds <= p.high),
        "{last:?}"
    );
}

/// Work that does not scale is seen from three trusted rungs on, and doubted with two.
#[test]
fn serial_work_is_seen_by_three_rungs() {
    let serial = |cores: usize| {
        let mut study = study(Growth::Strong, &[1, 2, 4, 8], cores, 1.0, 1.0);
        for step in study.steps.iter_mut().filter(|step| step.comparable) {
            let result = step.result.as_mut().expect("a result");
            result.phases[0].seconds += 0.05;
            result.total.seconds += 0.05;
        }
        project(&study, &inputs()).expect("a projection")
    };
    let four = serial(8);
    let stop = four.first().expect("it stops");
    // Over 8 ranks: 8 / p (1/8 + 0.05) / (1/p + 0.05) = 1/2 at p = 36.
    assert!((stop.ranks.expect("ranks") / 36.0).ln().abs() < 0.15, "{stop:?}");
    assert!(stop.by.starts_with("work"), "{stop:?}");
    let two = serial(2);
    assert!(two.remarks.iter().any(|r| r.contains("share a node's memory")), "{:?}", two.remarks);
    let stop = two.stops.iter().find(|s| s.phase == "solve").expect("solve");
    assert!(stop.low.is_some_and(|low| low < 100.0), "the range holds what may be: {stop:?}");
}

#[test]
fn without_times_or_network_only_counts_are_projected() {
    let crowded =
        project(&study(Growth::Strong, &[2, 4, 8], 1, 1.0, 100.0), &inputs()).expect("a projection");
    assert!(crowded.reference.is_none() && crowded.points.is_empty() && !crowded.counts.is_empty());
    let unknown =
        project(&study(Growth::Strong, &[1, 2, 4], 4, 1.0, 100.0), &Inputs::default()).expect("a projection");
    assert!(unknown.points.is_empty() && unknown.remarks.iter().any(|r| r.contains("calibrate")));
    assert!(project(&study(Growth::Strong, &[1], 1, 1.0, 1.0), &inputs()).is_none());
}

/// A strong ladder ends where every rank has a cell.
#[test]
fn nobody_has_less_than_a_cell() {
    let mut small = study(Growth::Strong, &[1, 2, 4], 2, 1e-3, 10.0);
    for step in &mut small.steps {
        step.result.as_mut().expect("a result").cells = 500;
    }
    let found = project(&small, &inputs()).expect("a projection");
    assert_eq!((found.far, found.points.last().map(|p| p.ranks)), (500.0, Some(500.0)));
}
