//! What binds a run on this machine: the run's profile beside the least that its phases can take.
//!
//! Imports `output`, `case` and its siblings. Start at [`add`].

use std::collections::BTreeMap;

use serde_json::Value;

use crate::case::Case;
use crate::output::bottlenecks::{self, Facts, Least};
use crate::output::profile::Profile;
use crate::output::run_json::RunReport;
use crate::run::sizes::Sizes;

use super::floors::{self, Floor};
use super::machine::Machine;
use super::measure;

/// What a report says where no machine is stored.
const NO_MACHINE: &str = "femdd bench calibrate measures this machine and tells bytes from flops";

/// What is said of phases without a floor.
const UNCOUNTED: &str = "no count of its bytes and flops";

/// The same of an adaptive run.
const ADAPTIVE: &str = "estimates, refinement and moves of cells have no count of their bytes and flops";

/// The least that each phase of a run can take, or why that is not known.
fn floors_of(case: &Case, machine: Option<&Machine>, report: &RunReport) -> Result<Vec<Floor>, &'static str> {
    let machine = machine.filter(|machine| machine.processor == measure::processor()).ok_or(NO_MACHINE)?;
    let read = |extra: &BTreeMap<String, Value>| -> Option<Sizes> {
        extra.get("sizes").and_then(|sizes| serde_json::from_value(sizes.clone()).ok())
    };
    let facts = floors::Facts {
        sizes: &read(&report.extra).ok_or("the run ended before its sizes were known")?,
        vertices: report.mesh.vertices,
        dimension: report.mesh.dimension as usize,
        iterations: report.solver.as_ref().map_or(0, |s| s.iterations),
        output_bytes: measure::output_bytes(&case.output_dir),
        ranks: report.ranks,
        threads: report.threads,
    };
    let Some(adapt) = &report.adapt else { return Ok(floors::floors(case, &facts, machine)) };
    // Steps that a restart took over have no sizes: their times are not this run's.
    let steps: Vec<(Sizes, &BTreeMap<String, Value>)> =
        adapt.steps.iter().filter_map(|step| Some((read(&step.extra)?, &step.extra))).collect();
    let of = |extra: &BTreeMap<String, Value>, key: &str| extra.get(key).and_then(Value::as_u64);
    let each = steps.iter().enumerate().map(|(k, (sizes, extra))| floors::Facts {
        sizes,
        vertices: of(extra, "vertices").unwrap_or(0),
        iterations: of(extra, "iterations").unwrap_or(0),
        // Of the last mesh alone.
        output_bytes: if k + 1 == steps.len() { facts.output_bytes } else { 0 },
        ..facts
    });
    Ok(floors::of_steps(case, &each.collect::<Vec<_>>(), machine))
}

/// Adds `bottlenecks` to the profile of a report, if it has one, from the figures stored of this machine. Returns the
/// profile. Not collective: for one rank.
pub fn add(case: &Case, machine: Option<&Machine>, report: &mut RunReport) -> Option<Profile> {
    let mut profile: Profile = serde_json::from_value(report.extra.get("profile")?.clone()).ok()?;
    let floors = floors_of(case, machine, report);
    let least = |phase: &str| {
        let floor = floors.as_ref().ok()?.iter().find(|floor| floor.phase == phase)?;
        Some(Least { by_bytes: floor.by_bytes, by_flops: floor.by_flops })
    };
    let facts = Facts {
        ranks: report.ranks,
        threads: report.threads,
        least: &least,
        unknown: match &floors {
            Err(why) => why,
            Ok(_) if report.adapt.is_some() => ADAPTIVE,
            Ok(_) => UNCOUNTED,
        },
    };
    profile.bottlenecks = bottlenecks::find(&profile, &facts);
    report.extra.insert("profile".to_owned(), serde_json::to_value(&profile).unwrap_or_default());
    Some(profile)
}
