//! What binds a run on this machine: the run's profile beside the least that its phases can take.
//!
//! Imports `output`, `case` and its siblings. Start at [`add`].

use crate::case::Case;
use crate::output::bottlenecks::{self, Facts, Least};
use crate::output::profile::Profile;
use crate::output::run_json::RunReport;
use crate::run::sizes::Sizes;

use super::floors::{self, Floor};
use super::machine::{self, Machine};
use super::measure;

/// What a report says where no machine is stored.
const NO_MACHINE: &str = "femdd bench calibrate measures this machine and tells bytes from flops";

/// Of an adaptive run sizes are known of the last mesh only.
const ADAPTIVE: &str = "an adaptive run has many meshes, of which bytes and flops are not counted";

/// The least that each phase of a run can take, or why that is not known.
fn floors_of(case: &Case, report: &RunReport) -> Result<Vec<Floor>, &'static str> {
    if report.adapt.is_some() {
        return Err(ADAPTIVE);
    }
    let machine = machine::default_path().and_then(|path| Machine::read(&path).ok());
    let machine = machine.filter(|machine| machine.processor == measure::processor()).ok_or(NO_MACHINE)?;
    let sizes = report.extra.get("sizes").and_then(|s| serde_json::from_value::<Sizes>(s.clone()).ok());
    let sizes = sizes.ok_or("the run ended before its sizes were known")?;
    let facts = floors::Facts {
        sizes: &sizes,
        vertices: report.mesh.vertices,
        dimension: report.mesh.dimension as usize,
        iterations: report.solver.as_ref().map_or(0, |s| s.iterations),
        output_bytes: measure::output_bytes(&case.output_dir),
        ranks: report.ranks,
        threads: report.threads,
    };
    Ok(floors::floors(case, &facts, &machine))
}

/// Adds `bottlenecks` to the profile of a report, if it has one, and writes the report again if it lies at `path`.
/// Returns the profile. Not collective: for one rank.
pub fn add(case: &Case, report: &mut RunReport) -> Option<Profile> {
    let mut profile: Profile = serde_json::from_value(report.extra.get("profile")?.clone()).ok()?;
    let floors = floors_of(case, report);
    let least = |phase: &str| {
        let floor = floors.as_ref().ok()?.iter().find(|floor| floor.phase == phase)?;
        Some(Least { by_bytes: floor.by_bytes, by_flops: floor.by_flops })
    };
    let facts = Facts {
        ranks: report.ranks,
        threads: report.threads,
        least: &least,
        unknown: floors.as_ref().err().copied().unwrap_or("no count of its bytes and flops"),
    };
    profile.bottlenecks = bottlenecks::find(&profile, &facts);
    report.extra.insert("profile".to_owned(), serde_json::to_value(&profile).unwrap_or_default());
    Some(profile)
}
