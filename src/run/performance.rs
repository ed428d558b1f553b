//! What `[performance]` switches, and the events that say so.
//!
//! Imports `case` and `output`. Start at [`check`] and [`decisions`]; which level switches what is the table in
//! docs/case-format.md.

use super::error::RunError;
use crate::case::{Case, Level, MeshSource, Performance, Place};
use crate::output::events::Event;

/// Switches of the case format without anything behind them yet: key, value, what it would do.
fn without_effect(performance: &Performance) -> [(&'static str, Option<bool>, &'static str); 2] {
    [
        ("jit", performance.jit, "compiling expressions"),
        ("pool", performance.pool, "keeping memory between steps"),
    ]
}

/// Refuses switches that would do nothing.
///
/// # Errors
/// `jit = true` or `pool = true`.
pub fn check(case: &Case) -> Result<(), RunError> {
    for (key, value, what) in without_effect(&case.performance) {
        if value == Some(true) {
            let message = format!("{what} is not supported yet in this version");
            let help = Some(format!("leave `{key}` out, or \"auto\""));
            let error = case.error(Place::Default, &format!("performance.{key}"), message, help);
            return Err(RunError::at(error, &case.text));
        }
    }
    Ok(())
}

/// A level's name in the case.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Auto => "auto",
        Level::Minimal => "minimal",
        Level::Standard => "standard",
        Level::Aggressive => "aggressive",
    }
}

/// Whether ranks and threads are chosen by the size of the case; else it is one of each.
pub fn scales(performance: &Performance) -> bool {
    performance.autoscale.unwrap_or(performance.level != Level::Minimal)
}

/// What the level and its switches come to in this case.
pub fn decisions(case: &Case) -> Vec<Event> {
    let performance = &case.performance;
    let level = level_name(performance.level);
    let off = |key: &str, given: Option<bool>, what: &str| {
        let because = match given {
            Some(_) => "the case says so".to_owned(),
            None => format!("{what} is not supported yet"),
        };
        Event::new(key, "off", because).input("level", level)
    };
    let mut events: Vec<Event> =
        without_effect(performance).map(|(key, given, what)| off(key, given, what)).into();
    if let MeshSource::File(path) = &case.mesh.source {
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
        let (on, because) = match (performance.cache, performance.level) {
            (Some(on), _) => (on, "the case says so".to_owned()),
            (None, Level::Minimal) => (false, "the level is minimal".to_owned()),
            (None, Level::Aggressive) => (true, "the level is aggressive".to_owned()),
            (None, _) => {
                let least = super::mesh_files::WORTH_KEEPING;
                (bytes >= least, format!("a partitioned mesh is worth keeping from {} MiB on", least >> 20))
            }
        };
        let choice = if on { "on" } else { "off" };
        events.push(Event::new("cache", choice, because).input("level", level).input("file_bytes", bytes));
    }
    events
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn case(performance: &str) -> Case {
        let text = format!(
            "[case]\nformat = 1\n[mesh]\nbox = {{ size = [1, 1], cells = [4, 4] }}\n[physics]\nlaw = \"poisson\"\n\
             [boundary.a]\non = [\"x-min\"]\nvalue = 0\n[performance]\n{performance}"
        );
        Case::parse(Path::new("a.toml"), &text, &[]).expect("a case")
    }

    #[test]
    fn a_switch_without_effect_is_refused() {
        for key in ["jit", "pool"] {
            let error = check(&case(&format!("{key} = true"))).expect_err("refused");
            assert!(error.text().contains("not supported yet"), "{}", error.text());
            assert!(check(&case(&format!("{key} = false"))).is_ok());
        }
        assert!(check(&case("level = \"aggressive\"")).is_ok());
    }

    #[test]
    fn automatic_switches_are_off_and_say_why() {
        let events = decisions(&case("pool = false"));
        let of = |what: &str| events.iter().find(|e| e.what == what).expect("an event");
        assert!(of("jit").choice == "off" && of("jit").because.contains("not supported yet"));
        assert_eq!(of("pool").because, "the case says so");
        assert!(scales(&case("").performance) && !scales(&case("level = \"minimal\"").performance));
        assert!(scales(&case("level = \"minimal\"\nautoscale = true").performance));
    }
}
