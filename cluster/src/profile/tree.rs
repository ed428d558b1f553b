//! What the threads of this process recorded, as rows by name and as single spans.
//!
//! Start at [`rows`] and [`events`].

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::thread::{HEAP, NOWHERE, Node, Thread, label, threads};
use super::{PHASE, WAITS};

/// A span, all times it ran in one place of the tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Names from the outermost span to this one, with `/` between.
    pub path: String,
    /// The room of the code: `solver`, `assembly`, ...; `phase` for phases, `mpi` where ranks wait.
    pub module: String,
    /// How often it ran.
    pub count: u64,
    /// Seconds, those of spans inside included.
    pub total: f64,
    /// Seconds outside spans inside.
    pub own: f64,
    /// Seconds in calls that may wait for other ranks.
    pub waits: f64,
    /// Seconds if it had always been as fast as it ever was.
    pub fastest: f64,
    /// Requests for memory: of this thread, of phases those of all threads.
    pub requests: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// The most bytes held; of phases only.
    pub peak: u64,
    /// Bytes of the largest request of any thread; of phases only.
    pub largest: u64,
}

/// The name of a span: its own, or that of the phase, with its level behind it.
fn name_of(node: &Node) -> String {
    let Some(meta) = node.meta.get() else { return String::new() };
    match label(node.label.load(Relaxed)) {
        None => meta.name().to_owned(),
        Some(name) if meta.name() == PHASE => name,
        Some(label) => format!("{} {label}", meta.name()),
    }
}

fn module_of(node: &Node) -> String {
    let Some(meta) = node.meta.get() else { return String::new() };
    if meta.name() == PHASE {
        return PHASE.to_owned();
    }
    let mut parts = meta.target().split("::");
    let first = parts.next().unwrap_or_default();
    let module = if first == "femdd" { parts.next().unwrap_or(first) } else { first };
    module.to_owned()
}

/// Names by node; a node's parent stands before it.
fn paths(nodes: &[Node]) -> Vec<String> {
    let mut paths: Vec<String> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let name = name_of(node);
        let parent = node.parent.load(Relaxed);
        paths.push(match parent {
            NOWHERE => name,
            parent => format!("{}/{name}", paths[parent as usize]),
        });
    }
    paths
}

fn rows_of(thread: &Thread) -> Vec<Row> {
    let nodes = thread.known();
    let mut rows: Vec<Row> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (node, path) in nodes.iter().zip(paths(nodes)) {
        let get = |number: &std::sync::atomic::AtomicU64| number.load(Relaxed);
        if get(&node.count) == 0 {
            continue;
        }
        // Two lines of the code may open spans of one name.
        let at = *known.entry(path).or_insert_with_key(|path| {
            rows.push(Row { path: path.clone(), module: module_of(node), ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.count += get(&node.count);
        row.total += 1e-9 * get(&node.total) as f64;
        row.own += 1e-9 * get(&node.total).saturating_sub(get(&node.inside)) as f64;
        row.waits += 1e-9 * get(&node.waits) as f64;
        row.fastest += 1e-9 * get(&node.count) as f64 * get(&node.least) as f64;
        row.requests += get(&node.requests);
        row.bytes += get(&node.bytes);
        row.peak = row.peak.max(get(&node.peak));
        row.largest = row.largest.max(get(&node.largest));
    }
    rows
}

/// The rows of the main thread, in the order in which spans first began, and of each other thread.
///
/// Spans that run have not been counted yet. Call it while other threads rest.
pub fn rows() -> (Vec<Row>, Vec<Vec<Row>>) {
    let (mut main, mut others) = (Vec::new(), Vec::new());
    for thread in threads() {
        let rows = rows_of(&thread);
        if thread.main.load(Relaxed) {
            main = rows;
        } else if !rows.is_empty() {
            others.push(rows);
        }
    }
    (main, others)
}

/// One span, or one reading of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A span.
    Span {
        /// Its row of [`ThreadEvents::names`].
        name: u32,
        /// Nanoseconds on this process's clock.
        begin: u64,
        /// As `begin`.
        end: u64,
    },
    /// Bytes held by the process.
    Heap {
        /// Nanoseconds on this process's clock.
        at: u64,
        /// Bytes.
        bytes: u64,
    },
}

/// Single spans of a thread.
#[derive(Debug, Clone, Default)]
pub struct ThreadEvents {
    /// The thread's name; `main` for the one that began to record.
    pub thread: String,
    /// Names and modules.
    pub names: Vec<(String, String)>,
    /// In the order in which they ended.
    pub events: Vec<Event>,
    /// How many found no room.
    pub dropped: u64,
}

/// Single spans of all threads, the main one first; empty unless [`super::Settings`] asked for them.
pub fn events() -> Vec<ThreadEvents> {
    let mut out = Vec::new();
    for thread in threads() {
        let Some(slots) = thread.slots.get() else { continue };
        let names = thread.known().iter().map(|node| (name_of(node), module_of(node))).collect();
        let used = slots.used.load(Acquire);
        let events = slots.slots[..used].iter().map(|slot| {
            let (begin, end) = (slot.begin.load(Relaxed), slot.end.load(Relaxed));
            match slot.node.load(Relaxed) {
                HEAP => Event::Heap { at: begin, bytes: end },
                name => Event::Span { name, begin, end },
            }
        });
        let main = thread.main.load(Relaxed);
        out.push(ThreadEvents {
            thread: thread
                .name
                .get()
                .cloned()
                .unwrap_or_else(|| if main { "main" } else { "worker" }.to_owned()),
            names,
            events: events.collect(),
            dropped: slots.dropped.load(Relaxed),
        });
    }
    out
}

impl Row {
    /// The last name of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether this is a call that may wait for other ranks.
    pub fn is_wait(&self) -> bool {
        self.module == WAITS
    }
}
