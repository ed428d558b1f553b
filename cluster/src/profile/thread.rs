//! What a thread records: the tree of its spans, and if asked each of them with its times.
//!
//! Start at [`open`], [`enter`] and [`exit`]. Only its thread writes to a record, with plain stores; other threads read
//! it when the thread rests ([`super::rows`]), or get numbers that are a span old.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Metadata, span::Attributes};

use super::{PHASE, WAITS, heap};

/// Different places in the tree that a thread tells apart; later ones are counted with what is around them.
const MOST_NODES: usize = 1024;

/// Events kept free for phases when a thread's room is full otherwise.
const FOR_PHASES: usize = 4096;

/// Of a node: it has no parent.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Of an event: it is a reading of the heap, not a span.
pub(super) const HEAP: u32 = u32::MAX;

/// Labels from here on are numbers.
pub(super) const NUMBERS: u32 = 1 << 24;

/// What is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Single spans that the main thread keeps, others a quarter of it; 0 for none.
    pub events: usize,
}

static ON: AtomicBool = AtomicBool::new(false);
static EVENTS: AtomicUsize = AtomicUsize::new(0);
static THREADS: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());
static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to record, in all threads. The thread that calls this is the main one.
pub fn start(settings: Settings) {
    now();
    EVENTS.store(settings.events, Relaxed);
    LOCAL.with_borrow_mut(|local| local.thread.main.store(true, Relaxed));
    ON.store(true, Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Has this thread take part under that name: it has a row in a trace even if it never records a span.
pub fn join(name: &str) {
    LOCAL.with_borrow_mut(|local| {
        let _ = local.thread.name.set(name.to_owned());
        let _ = local.slots();
    });
}

/// Records no more.
pub fn stop() {
    ON.store(false, Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Whether spans are recorded, given a subscriber that passes them on.
#[inline]
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Whether single spans are kept.
pub fn traces_events() -> bool {
    EVENTS.load(Relaxed) > 0
}

/// Nanoseconds since this process first asked.
#[inline]
pub fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    Instant::now().duration_since(*BEGIN.get_or_init(Instant::now)).as_nanos() as u64
}

/// A place in a thread's tree.
pub(super) struct Node {
    pub meta: OnceLock<&'static Metadata<'static>>,
    /// 0, a name of [`NAMES`] from 1 on, or a number from [`NUMBERS`] on.
    pub label: AtomicU32,
    pub parent: AtomicU32,
    pub count: AtomicU64,
    /// Nanoseconds, those of spans inside included.
    pub total: AtomicU64,
    /// Of it in spans inside.
    pub inside: AtomicU64,
    /// Of it in spans that may wait.
    pub waits: AtomicU64,
    /// The shortest time that it ran once.
    pub least: AtomicU64,
    pub requests: AtomicU64,
    pub bytes: AtomicU64,
    /// The most held; of phases only.
    pub peak: AtomicU64,
    /// The largest request; of phases only.
    pub largest: AtomicU64,
}

impl Node {
    fn new() -> Node {
        let zero = || AtomicU64::new(0);
        Node {
            meta: OnceLock::new(),
            label: AtomicU32::new(0),
            parent: AtomicU32::new(NOWHERE),
            count: zero(),
            total: zero(),
            inside: zero(),
            waits: zero(),
            least: AtomicU64::new(u64::MAX),
            requests: zero(),
            bytes: zero(),
            peak: zero(),
            largest: zero(),
        }
    }
}

/// Adds to what only this thread writes.
#[inline]
fn add(to: &AtomicU64, by: u64) {
    to.store(to.load(Relaxed) + by, Relaxed);
}

/// A span with its times.
pub(super) struct Slot {
    pub begin: AtomicU64,
    /// Of a reading of the heap: bytes.
    pub end: AtomicU64,
    pub node: AtomicU32,
}

/// Spans that were kept, in the order in which they ended.
pub(super) struct Slots {
    pub slots: Box<[Slot]>,
    pub used: AtomicUsize,
    pub dropped: AtomicU64,
}

impl Slots {
    fn new(n: usize) -> Slots {
        let slot =
            || Slot { begin: AtomicU64::new(0), end: AtomicU64::new(0), node: AtomicU32::new(NOWHERE) };
        let slots = (0..n + FOR_PHASES).map(|_| slot()).collect();
        Slots { slots, used: AtomicUsize::new(0), dropped: AtomicU64::new(0) }
    }

    #[inline]
    fn push(&self, node: u32, begin: u64, end: u64, phase: bool) {
        let n = self.used.load(Relaxed);
        let room = self.slots.len() - if phase { 0 } else { FOR_PHASES };
        if n >= room {
            add(&self.dropped, 1);
            return;
        }
        let slot = &self.slots[n];
        slot.begin.store(begin, Relaxed);
        slot.end.store(end, Relaxed);
        slot.node.store(node, Relaxed);
        self.used.store(n + 1, Release);
    }
}

/// The record of a thread, which outlives it.
pub(super) struct Thread {
    pub name: OnceLock<String>,
    pub main: AtomicBool,
    pub nodes: Box<[Node]>,
    pub n_nodes: AtomicUsize,
    pub slots: OnceLock<Slots>,
}

impl Thread {
    /// The nodes there are.
    pub fn known(&self) -> &[Node] {
        &self.nodes[..self.n_nodes.load(Acquire)]
    }
}

/// All threads that have recorded something, the main one first.
pub(super) fn threads() -> Vec<Arc<Thread>> {
    let mut threads = THREADS.lock().map(|all| all.clone()).unwrap_or_default();
    threads.sort_by_key(|thread| !thread.main.load(Relaxed));
    threads
}

/// What a label stands for.
pub(super) fn label(label: u32) -> Option<String> {
    match label {
        0 => None,
        NUMBERS.. => Some((label - NUMBERS).to_string()),
        _ => NAMES.lock().ok()?.get(label as usize - 1).cloned(),
    }
}

/// A span that runs.
struct Frame {
    node: u32,
    begin: u64,
    inside: u64,
    waits: u64,
    /// Requests and bytes before it.
    heap: [u64; 2],
    /// What was watched before; of phases.
    peak: i64,
    largest: u64,
}

/// What only the thread itself sees.
struct Local {
    number: u32,
    thread: Arc<Thread>,
    running: Vec<Frame>,
    /// Per node: the first inside it and the next beside it. One more entry, at the end, for the tree's root.
    first: Vec<u32>,
    next: Vec<u32>,
    /// Names met, with their labels.
    names: Vec<(String, u32)>,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::new());
}

impl Local {
    fn new() -> Local {
        let thread = Thread {
            name: OnceLock::new(),
            main: AtomicBool::new(false),
            nodes: (0..MOST_NODES).map(|_| Node::new()).collect(),
            n_nodes: AtomicUsize::new(0),
            slots: OnceLock::new(),
        };
        let thread = Arc::new(thread);
        let mut all = THREADS.lock().expect("nobody panics while holding it");
        all.push(Arc::clone(&thread));
        Local {
            number: all.len() as u32,
            thread,
            running: Vec::with_capacity(64),
            first: vec![NOWHERE; MOST_NODES + 1],
            next: vec![NOWHERE; MOST_NODES],
            names: Vec::new(),
        }
    }

    /// The node of a span inside the one that runs.
    fn node(&mut self, meta: &'static Metadata<'static>, label: u32) -> u32 {
        let parent = self.running.last().map_or(NOWHERE, |frame| frame.node);
        let slot = (parent as usize).min(MOST_NODES);
        let mut last = NOWHERE;
        let mut at = self.first[slot];
        while at != NOWHERE {
            let node = &self.thread.nodes[at as usize];
            if node.meta.get().is_some_and(|m| std::ptr::eq(*m, meta)) && node.label.load(Relaxed) == label {
                return at;
            }
            last = at;
            at = self.next[at as usize];
        }
        let n = self.thread.n_nodes.load(Relaxed);
        let Some(node) = self.thread.nodes.get(n) else { return NOWHERE };
        let _ = node.meta.set(meta);
        node.label.store(label, Relaxed);
        node.parent.store(parent, Relaxed);
        // Behind its brothers: what comes first is found first.
        if last == NOWHERE {
            self.first[slot] = n as u32
        } else {
            self.next[last as usize] = n as u32
        }
        self.thread.n_nodes.store(n + 1, Release);
        n as u32
    }

    fn label_of(&mut self, name: &str) -> u32 {
        if let Some((_, label)) = self.names.iter().find(|(known, _)| known == name) {
            return *label;
        }
        let mut all = NAMES.lock().expect("nobody panics while holding it");
        let at = all.iter().position(|known| known == name).unwrap_or_else(|| {
            all.push(name.to_owned());
            all.len() - 1
        });
        self.names.push((name.to_owned(), at as u32 + 1));
        at as u32 + 1
    }

    fn slots(&self) -> Option<&Slots> {
        let wanted = EVENTS.load(Relaxed);
        if wanted == 0 {
            return None;
        }
        let share = if self.thread.main.load(Relaxed) { wanted } else { wanted / 4 };
        Some(self.thread.slots.get_or_init(|| Slots::new(share)))
    }

    fn push(&mut self, node: u32) {
        let phase = is_phase(&self.thread.nodes[node as usize]);
        let mut frame = Frame { node, begin: 0, inside: 0, waits: 0, heap: [0; 2], peak: 0, largest: 0 };
        if phase {
            frame.heap = heap::of_process();
            frame.peak = heap::begin_peak();
            frame.largest = heap::begin_largest();
            frame.begin = now();
            self.note_heap(frame.begin);
        } else {
            frame.heap = heap::of_thread();
            frame.begin = now();
        }
        self.running.push(frame);
    }

    fn note_heap(&self, at: u64) {
        if let Some(slots) = self.slots() {
            slots.push(HEAP, at, heap::live(), true);
        }
    }

    /// Ends the innermost span.
    fn pop(&mut self) {
        let Some(frame) = self.running.pop() else { return };
        let end = now();
        let node = &self.thread.nodes[frame.node as usize];
        let seconds = end - frame.begin;
        let phase = is_phase(node);
        let waits =
            if node.meta.get().is_some_and(|meta| meta.target() == WAITS) { seconds } else { frame.waits };
        let heap = if phase { heap::of_process() } else { heap::of_thread() };
        add(&node.count, 1);
        add(&node.total, seconds);
        add(&node.inside, frame.inside);
        add(&node.waits, waits);
        node.least.store(node.least.load(Relaxed).min(seconds), Relaxed);
        add(&node.requests, heap[0] - frame.heap[0]);
        add(&node.bytes, heap[1] - frame.heap[1]);
        if phase {
            node.peak.store(node.peak.load(Relaxed).max(heap::end_peak(frame.peak)), Relaxed);
            node.largest.store(node.largest.load(Relaxed).max(heap::end_largest(frame.largest)), Relaxed);
        }
        if let Some(slots) = self.slots() {
            slots.push(frame.node, frame.begin, end, phase);
        }
        if phase {
            self.note_heap(end);
        }
        if let Some(around) = self.running.last_mut() {
            around.inside += seconds;
            around.waits += waits;
        }
    }
}

fn is_phase(node: &Node) -> bool {
    node.meta.get().is_some_and(|meta| meta.name() == PHASE)
}

/// A span that was opened: the number of its thread and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(u64);

impl Token {
    /// As a number, which is never zero.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The inverse of [`Token::number`].
    pub fn from_number(number: u64) -> Token {
        Token(number)
    }

    fn new(thread: u32, node: u32) -> Token {
        Token(u64::from(thread) << 32 | u64::from(node.wrapping_add(1)))
    }

    /// The node, if it is one of that thread.
    fn node(self, thread: u32) -> Option<u32> {
        let node = (self.0 as u32).wrapping_sub(1);
        ((self.0 >> 32) as u32 == thread && node != NOWHERE).then_some(node)
    }
}

/// Finds the field that tells spans of one place apart: `name` or `level`.
struct Labels<'a> {
    local: &'a mut Local,
    label: u32,
}

impl Visit for Labels<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.label = self.local.label_of(value);
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "level" && self.label == 0 {
            self.label = NUMBERS + value.min(u64::from(NUMBERS)) as u32;
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Finds the place of a new span inside the one that runs on this thread.
///
/// Spans of one name and target are told apart by a field `name` of text or `level` of type `u64`, if they have one.
/// A span counts only on the thread that opened it.
pub fn open(attributes: &Attributes) -> Token {
    let meta = attributes.metadata();
    LOCAL.with_borrow_mut(|local| {
        let label = if meta.fields().is_empty() { 0 } else { labelled(local, attributes) };
        Token::new(local.number, local.node(meta, label))
    })
}

fn labelled(local: &mut Local, attributes: &Attributes) -> u32 {
    let mut labels = Labels { local, label: 0 };
    attributes.record(&mut labels);
    labels.label
}

/// The span begins.
#[inline]
pub fn enter(token: Token) {
    LOCAL.with_borrow_mut(|local| {
        if let Some(node) = token.node(local.number) {
            local.push(node);
        }
    });
}

/// The span ends, and so do those inside it that have not.
#[inline]
pub fn exit(token: Token) {
    LOCAL.with_borrow_mut(|local| {
        let Some(node) = token.node(local.number) else { return };
        let Some(at) = local.running.iter().rposition(|frame| frame.node == node) else { return };
        while local.running.len() > at {
            local.pop();
        }
    });
}

/// Forgets what was recorded; spans that run stay. For a second run in one process, while no other thread works.
pub fn reset() {
    for thread in threads() {
        for node in thread.known() {
            let all = [
                &node.count,
                &node.total,
                &node.inside,
                &node.waits,
                &node.requests,
                &node.bytes,
                &node.peak,
                &node.largest,
            ];
            all.into_iter().for_each(|number| number.store(0, Relaxed));
            node.least.store(u64::MAX, Relaxed);
        }
        if let Some(slots) = thread.slots.get() {
            slots.used.store(0, Relaxed);
            slots.dropped.store(0, Relaxed);
        }
    }
}

/// Seconds that a span takes beside what is done in it, measured now on this thread while it records: the
/// least of some rounds.
pub fn seconds_per_span() -> f64 {
    const SPANS: usize = 200;
    let kept = EVENTS.swap(0, Relaxed);
    let least = (0..20)
        .map(|_| {
            let begin = now();
            for _ in 0..SPANS {
                let _span = tracing::trace_span!(target: "femdd::profile", "cost").entered();
            }
            now() - begin
        })
        .min();
    EVENTS.store(kept, Relaxed);
    least.unwrap_or(0) as f64 * 1e-9 / SPANS as f64
}
