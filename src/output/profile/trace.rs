//! `trace.json`: every span of every rank and thread on one clock, for Perfetto and Chrome.
//!
//! Imports `cluster`. Start at [`write()`]. A rank is a process of the trace, a thread a thread; phases and kernels are
//! complete events, bytes held are a counter. Ranks write their parts of one file side by side, a piece at a time, so
//! that none holds more than what it recorded.
//!
//! Source: "Trace Event Format", the Chromium project.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cluster::Comm;
use cluster::profile::{self, Event, ThreadEvents};
use serde::{Deserialize, Serialize};

use super::super::error::OutputError;

/// The name of the trace in the output directory.
pub const FILE_NAME: &str = "trace.json";

/// Spans in a trace, at most, of all ranks.
const MOST_EVENTS: usize = 2 << 20;

/// Bytes that are formatted before they are written.
const PIECE: usize = 1 << 20;

/// Spans that the main thread of each of so many ranks may keep.
pub fn events_of_a_rank(ranks: usize) -> usize {
    (MOST_EVENTS / ranks.max(1)).clamp(1 << 12, 1 << 18)
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Written {
    /// The file's name in the output directory.
    pub file: String,
    /// Spans in it.
    pub events: u64,
    /// Threads of all ranks.
    pub rows: u64,
    /// Spans that found no room. Phases always do.
    pub dropped: u64,
    /// By how much the clocks of two ranks may differ in it, at most, in seconds.
    pub clock_error: f64,
}

/// Where a rank's text goes: counted first, written then.
trait Out {
    fn take(&mut self, text: &str) -> io::Result<()>;
}

struct Count(u64);

impl Out for Count {
    fn take(&mut self, text: &str) -> io::Result<()> {
        self.0 += text.len() as u64;
        Ok(())
    }
}

struct Place {
    file: File,
    at: u64,
    piece: Vec<u8>,
}

impl Place {
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.piece, self.at)?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

impl Out for Place {
    fn take(&mut self, text: &str) -> io::Result<()> {
        self.piece.extend_from_slice(text.as_bytes());
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }
}

/// What a rank has to write.
struct Part {
    rank: usize,
    threads: Vec<ThreadEvents>,
    /// To be added to this rank's clock, so that the trace begins at zero.
    shift: i64,
    /// What stands before and behind the events of all ranks.
    head: &'static str,
    tail: String,
}

fn begin_of(event: &Event) -> u64 {
    match *event {
        Event::Span { begin, .. } => begin,
        Event::Heap { at, .. } => at,
    }
}

impl Part {
    /// Outer spans before the inner ones that begin with them, so that every reader nests them.
    fn sort(&mut self) {
        for thread in &mut self.threads {
            let end = |event: &Event| match *event {
                Event::Span { end, .. } => end,
                Event::Heap { .. } => u64::MAX,
            };
            thread.events.sort_by_key(|event| (begin_of(event), std::cmp::Reverse(end(event))));
        }
    }

    fn write(&self, out: &mut dyn Out) -> io::Result<()> {
        let pid = self.rank;
        let mut line = String::with_capacity(256);
        let formatted = |line: &mut String, arguments: std::fmt::Arguments| {
            // Writing to a string cannot fail.
            let _ = line.write_fmt(arguments);
        };
        out.take(self.head)?;
        let first = if self.head.is_empty() { ",\n" } else { "" };
        formatted(
            &mut line,
            format_args!(
                "{first}{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{pid},\"tid\":0,\"args\":{{\"name\":\"rank {pid}\"}}}},\n\
                 {{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":{pid},\"tid\":0,\"args\":{{\"sort_index\":{pid}}}}}"
            ),
        );
        out.take(&line)?;
        for (tid, thread) in self.threads.iter().enumerate() {
            line.clear();
            let name = serde_json::to_string(&thread.thread).unwrap_or_default();
            formatted(
                &mut line,
                format_args!(
                    ",\n{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":{name}}}}}"
                ),
            );
            out.take(&line)?;
            let names: Vec<String> = thread
                .names
                .iter()
                .map(|(name, module)| {
                    let text = |s: &str| serde_json::to_string(s).unwrap_or_default();
                    format!("\"name\":{},\"cat\":{}", text(name), text(module))
                })
                .collect();
            for event in &thread.events {
                line.clear();
                match *event {
                    Event::Span { name, begin, end } => {
                        let named = &names[name as usize];
                        formatted(
                            &mut line,
                            format_args!(",\n{{\"ph\":\"X\",{named},\"pid\":{pid},\"tid\":{tid},"),
                        );
                        let at = (begin as i64 + self.shift).max(0);
                        let dur = end - begin;
                        formatted(
                            &mut line,
                            format_args!(
                                "\"ts\":{}.{:03},\"dur\":{}.{:03}}}",
                                at / 1000,
                                at % 1000,
                                dur / 1000,
                                dur % 1000
                            ),
                        );
                    }
                    Event::Heap { at, bytes } => {
                        let at = (at as i64 + self.shift).max(0);
                        formatted(
                            &mut line,
                            format_args!(
                                ",\n{{\"ph\":\"C\",\"name\":\"heap\",\"pid\":{pid},\"tid\":{tid},\"ts\":{}.{:03},\"args\":{{\"bytes\":{bytes}}}}}",
                                at / 1000,
                                at % 1000
                            ),
                        );
                    }
                }
                out.take(&line)?;
            }
        }
        out.take(&self.tail)
    }
}

/// Writes what all ranks recorded to a file, if single spans were kept. Collective.
///
/// # Errors
/// A file that cannot be written, the same error on every rank.
pub fn write(comm: &Comm, path: &Path) -> Result<Option<Written>, OutputError> {
    if comm.any(!profile::traces_events()) {
        return Ok(None);
    }
    let (offset, error) = profile::clock::offset(comm);
    let threads = profile::events();
    let on_root = |at: u64| at as i64 + offset;
    let first = threads.iter().flat_map(|t| &t.events).map(|event| on_root(begin_of(event))).min();
    let shift = offset - comm.min(first.unwrap_or(i64::MAX));
    let spans = |t: &ThreadEvents| t.events.iter().filter(|e| matches!(e, Event::Span { .. })).count() as u64;
    let mut numbers = [
        threads.iter().map(spans).sum::<u64>(),
        threads.len() as u64,
        threads.iter().map(|t| t.dropped).sum(),
    ];
    comm.sum_slice(&mut numbers);
    let [events, rows, dropped] = numbers;
    let clock_error = comm.max(error) as f64 * 2e-9;
    let last = comm.rank() + 1 == comm.size();
    let tail = format!(
        "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{{\"program\":\"femdd {}\",\"dropped\":{dropped},\"clock_error\":{clock_error:e}}}}}\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut part = Part {
        rank: comm.rank(),
        threads,
        shift,
        head: if comm.is_root() { "{\"traceEvents\":[\n" } else { "" },
        tail: if last { tail } else { String::new() },
    };
    part.sort();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    put(comm, path, &part)?;
    Ok(Some(Written { file, events, rows, dropped, clock_error }))
}

/// Writes all parts, one behind the other, to a file that gets its name when it is whole. Collective.
fn put(comm: &Comm, path: &Path, part: &Part) -> Result<(), OutputError> {
    let unfinished = path.with_extension("json.part");
    let fail = |e: io::Error| OutputError::from_io(path, "writing the trace", 0, &e);
    let mut count = Count(0);
    part.write(&mut count).map_err(fail)?;
    let at = comm.exclusive_sum(count.0);
    let made = if comm.is_root() { File::create(&unfinished).map(drop).map_err(fail) } else { Ok(()) };
    comm.agree(made)?;
    let written = || -> io::Result<()> {
        let file = File::options().write(true).open(&unfinished)?;
        let mut place = Place { file, at, piece: Vec::with_capacity(PIECE + 512) };
        part.write(&mut place)?;
        place.flush()
    };
    let written = comm.agree(written().map_err(fail));
    let ended = match (comm.is_root(), &written) {
        (false, _) => Ok(()),
        (true, Ok(())) => std::fs::rename(&unfinished, path).map_err(fail),
        (true, Err(_)) => {
            let _ = std::fs::remove_file(&unfinished);
            Ok(())
        }
    };
    let ended = comm.agree(ended);
    written.and(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(String);

    impl Out for Text {
        fn take(&mut self, text: &str) -> io::Result<()> {
            self.0 += text;
            Ok(())
        }
    }

    #[test]
    fn parts_make_one_document() {
        let part = |rank: usize, last: bool| {
            let names = vec![("a \"b\"".to_owned(), "solver".to_owned())];
            let events = vec![
                Event::Span { name: 0, begin: 2_000, end: 3_000 },
                Event::Span { name: 0, begin: 1_500, end: 4_001 },
                Event::Heap { at: 1_500, bytes: 7 },
            ];
            let thread = ThreadEvents { thread: "main".into(), names, events, dropped: 0 };
            let mut part = Part {
                rank,
                threads: vec![thread.clone(), thread],
                shift: -1_500,
                head: if rank == 0 { "{\"traceEvents\":[\n" } else { "" },
                tail: if last { "\n]}".into() } else { String::new() },
            };
            part.sort();
            part
        };
        let (mut text, mut count) = (Text(String::new()), Count(0));
        for part in [part(0, false), part(1, true)] {
            part.write(&mut text).expect("a string");
            part.write(&mut count).expect("a number");
        }
        assert_eq!(count.0, text.0.len() as u64);
        let parsed: serde_json::Value = serde_json::from_str(&text.0).expect("JSON");
        let events = parsed["traceEvents"].as_array().expect("events");
        let spans: Vec<_> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!((events.len(), spans.len()), (2 * (2 + 2 * 4), 8));
        assert_eq!((spans[0]["ts"].as_f64(), spans[0]["dur"].as_f64()), (Some(0.0), Some(2.501)));
        assert_eq!((spans[1]["ts"].as_f64(), spans[1]["name"].as_str()), (Some(0.5), Some("a \"b\"")));
        assert_eq!(spans[7]["pid"], 1);
    }

    #[test]
    fn many_ranks_keep_fewer_spans() {
        assert_eq!([1, 16, 100_000].map(events_of_a_rank), [1 << 18, 1 << 17, 1 << 12]);
    }
}
