//! Logs: one stream on standard error, each line with its rank, as much as `FEMDD_LOG` asks for.
//!
//! Imports `output`. Start at [`start`]. `FEMDD_LOG=info` shows the phases of a run,
//! `FEMDD_LOG=femdd::run=debug` more of one room; without it only warnings are shown.

use std::fmt;
use std::io::IsTerminal;

use cluster::profile::Recording;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::Uptime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::output::profile;

/// The variable that says how much is logged.
const VARIABLE: &str = "FEMDD_LOG";

/// A line that begins with the rank.
struct Ranked {
    rank: usize,
    line: Format<Full, Uptime>,
}

impl<S, N> FormatEvent<S, N> for Ranked
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(out, "[{}] ", self.rank)?;
        self.line.format_event(context, out, event)
    }
}

/// The variable that turns recording off.
const RECORDING: &str = "FEMDD_PROFILE";

/// Whether spans are to be recorded, given that [`start`] was called: unless `FEMDD_PROFILE` is `off` or `0`.
pub fn records() -> bool {
    !std::env::var(RECORDING).is_ok_and(|value| matches!(value.as_str(), "off" | "0"))
}

/// Starts logging on this rank, and makes spans reach the recorder, which is turned on later.
///
/// # Errors
/// A filter that does not parse; nothing is logged then.
pub fn start(rank: usize) -> Result<(), String> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .with_env_var(VARIABLE)
        .from_env()
        .map_err(|e| {
            format!("{VARIABLE}: {e}; write a level (warn, info, debug, trace) or femdd::run=debug")
        })?;
    let line = Format::default().with_timer(Uptime::default()).with_ansi(std::io::stderr().is_terminal());
    // Spans in lines of the log need a registry; it makes a span cost several times what recording it does.
    let shows_spans = filter.max_level_hint().is_none_or(|level| level > LevelFilter::WARN);
    // Whoever uses femdd as a library may have a subscriber already: then theirs stays.
    let _ = if shows_spans {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .event_format(Ranked { rank, line })
            .with_filter(filter);
        tracing_subscriber::registry().with(lines).with(profile::layer()).try_init()
    } else {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .event_format(Ranked { rank, line })
            .finish();
        Recording(lines).try_init()
    };
    Ok(())
}
