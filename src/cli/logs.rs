//! Logs: one stream on standard error, each line with its rank, as much as `FEMDD_LOG` asks for.
//!
//! Imports nothing of femdd. Start at [`start`]. `FEMDD_LOG=info` shows the phases of a run,
//! `FEMDD_LOG=femdd::run=debug` more of one room; without it only warnings are shown.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::Uptime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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

/// Starts logging on this rank.
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
    // Whoever uses femdd as a library may have a subscriber already: then theirs stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(Ranked { rank, line })
        .try_init();
    Ok(())
}
