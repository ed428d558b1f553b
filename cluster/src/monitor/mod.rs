//! What a run uses while it runs: memory, processor time and I/O by phase, watched by one thread a rank.
//!
//! Imports `comm`, `place` and `stop`. Start at [`start`]; [`enter`] tells the phase, [`gather`] puts together what all
//! ranks used. The thread looks ten times a second at first and once a second later, oftener while memory grows
//! towards a limit. When too little is left it asks the run to stop ([`crate::stop`]), and ends it when there is no
//! time for that.
//!
//! The kernel's high-water mark of memory is read, never reset: other programs (`time -v`, batch systems) rely on it.

mod gpu;
mod members;
mod metrics;
mod process;
mod recorder;
mod report;
mod series;
mod watchdog;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use process::USAGE;
pub use recorder::BETWEEN;
pub use report::{Bands, Gpus, Report, Sampling, SeriesReport, Spread, Watch};
pub use series::BINS;
pub use watchdog::{Limit, Room, Verdict, margin};

use crate::comm::Comm;
use crate::names::hash;
use crate::place::Place;
use crate::stop::{self, Reason};
use crate::words::bytes;
use members::Members;
use metrics::{Metrics, PROGRESS};
use recorder::{Limits, Recorder};

/// Set to `off`, nothing is watched.
pub const SWITCH: &str = "FEMDD_MONITOR";

/// Seconds between samples at the beginning and later.
const INTERVALS: [f64; 2] = [0.1, 1.0];

/// The least seconds between samples while memory runs out.
const SHORTEST: f64 = 0.02;

/// Seconds between two writings of the metrics.
const METRICS_EVERY: f64 = 5.0;

/// The exit code of a run that ends because memory has run out: its environment's fault.
const NO_MEMORY: i32 = 3;

/// What is to be watched beside what the machine has.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bytes that each rank may keep resident; the run stops when it comes near.
    pub memory_limit: Option<u64>,
    /// Where rank 0 writes metrics for Prometheus, and other hosts beside it.
    pub metrics: Option<PathBuf>,
    /// The case's name, for metrics.
    pub case: String,
}

/// The watching of one process. Dropping it ends the thread.
pub struct Monitor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    recorder: Mutex<Recorder>,
    metrics: Mutex<Option<Metrics>>,
    over: Mutex<bool>,
    wake: Condvar,
    /// Whether the run was asked to stop.
    asked: AtomicBool,
    comm: Comm,
}

/// The one monitor of this process.
static RUNNING: Mutex<Option<Arc<Shared>>> = Mutex::new(None);

/// A thread that panicked leaves figures that are still worth telling.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn running() -> Option<Arc<Shared>> {
    lock(&RUNNING).clone()
}

/// Begins to watch this process. Collective. `None` where [`SWITCH`] says so, where it is watched already, and where
/// no thread can be started.
pub fn start(comm: &Comm, place: &Place, options: &Options) -> Option<Monitor> {
    let off = std::env::var(SWITCH).is_ok_and(|value| value == "off");
    let node = comm.on_node();
    let members = node.all_gather([comm.rank() as u32, std::process::id()]);
    let pids: Vec<u32> = members.iter().map(|member| member[1]).collect();
    let group = hash(place.cgroups.key(true));
    let groups = node.min(group) != node.max(group);
    if off || lock(&RUNNING).is_some() {
        return None;
    }
    let first = node.is_root();
    let limits = Limits::of(place, options.memory_limit, first, first || groups, &pids);
    let job = place.scheduler.as_ref().map_or("", |job| job.job.as_str());
    let metrics =
        options.metrics.as_ref().filter(|_| first).map(|path| {
            Metrics::new(path, comm.rank(), &options.case, job, Members::new(&place.host, &members))
        });
    PROGRESS.iterations.store(0, Ordering::Relaxed);
    PROGRESS.residual.store(f64::NAN.to_bits(), Ordering::Relaxed);
    PROGRESS.dofs.store(0, Ordering::Relaxed);
    let shared = Arc::new(Shared {
        recorder: Mutex::new(Recorder::new(&limits)),
        metrics: Mutex::new(metrics),
        over: Mutex::new(false),
        wake: Condvar::new(),
        asked: AtomicBool::new(false),
        comm: comm.clone(),
    });
    // Where too little is left from the beginning, the run hears of it before it begins.
    shared.look(&mut None);
    let watched = Arc::clone(&shared);
    let work = move || watched.watch(first);
    let thread =
        std::thread::Builder::new().name("monitor".to_owned()).stack_size(1 << 20).spawn(work).ok()?;
    *lock(&RUNNING) = Some(Arc::clone(&shared));
    Some(Monitor { shared, thread: Some(thread) })
}

impl Drop for Monitor {
    fn drop(&mut self) {
        *lock(&RUNNING) = None;
        *lock(&self.shared.over) = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has printed what made it panic.
            let _ = thread.join();
        }
        self.shared.write_metrics(false, None);
    }
}

impl Shared {
    /// The thread's work until the monitor is dropped.
    fn watch(&self, first: bool) {
        // Loading the driver's library takes long: not before the solver's thread goes on.
        let mut gpus = if first { gpu::Watched::open() } else { None };
        let (mut interval, mut written) = (INTERVALS[0], f64::NEG_INFINITY);
        loop {
            let (now, ahead) = self.look(&mut gpus);
            lock(&self.recorder).cost = process::thread_seconds();
            if now - written >= METRICS_EVERY {
                written = now;
                self.write_metrics(true, None);
            }
            if now > 2.0 {
                interval = (interval * 1.25).min(INTERVALS[1]);
            }
            // Where growth would use up what is left: several looks before it does.
            let pause = interval.min(ahead / 16.0).max(SHORTEST);
            let over = lock(&self.over);
            let (over, _) = self
                .wake
                .wait_timeout_while(over, Duration::from_secs_f64(pause), |over| !*over)
                .unwrap_or_else(PoisonError::into_inner);
            if *over {
                return;
            }
        }
    }

    /// Looks once and does what has to be done. The time, and seconds until memory may be used up.
    fn look(&self, gpus: &mut Option<gpu::Watched>) -> (f64, f64) {
        // The driver may take long to answer: nothing waits for it meanwhile.
        let gpu = gpus.as_mut().map(|gpus| {
            gpus.sample();
            gpus.found()
        });
        let (now, ahead, (verdict, room), own) = {
            let mut recorder = lock(&self.recorder);
            let judged = recorder.sample();
            recorder.gpu = gpu.or(recorder.gpu);
            (recorder.now(), recorder.watchdog.ahead, judged, recorder.resident())
        };
        match (verdict, room) {
            (Verdict::End, Some(room)) => self.end(&room, own),
            (Verdict::Stop, Some(room)) if !self.asked.swap(true, Ordering::Relaxed) => {
                self.ask_to_stop(&room, own);
            }
            _ => {}
        }
        (now, ahead)
    }

    fn what(&self, room: &Room, own: u64) -> String {
        format!(
            "rank {}: {} left of {} of {} ({} taken by this rank)",
            self.comm.rank(),
            bytes(room.left),
            bytes(room.limit),
            room.of.words(),
            bytes(own)
        )
    }

    fn ask_to_stop(&self, room: &Room, own: u64) {
        stop::request(Reason::Memory);
        say(&format!("warning: memory runs out: {}; asked to stop. {HELP}\n", self.what(room, own)));
    }

    /// Ends the job before the system ends a part of it.
    fn end(&self, room: &Room, own: u64) -> ! {
        say(&format!(
            "error: out of memory: {}; ended before the system kills it. {HELP}\n",
            self.what(room, own)
        ));
        self.comm.abort(NO_MEMORY)
    }

    /// `totals`: ranks, the sum and the most of their peaks, and their processor time.
    fn write_metrics(&self, up: bool, totals: Option<(usize, f64, f64, f64)>) {
        let mut metrics = lock(&self.metrics);
        if let Some(file) = metrics.as_mut() {
            let members = if up { file.look() } else { Vec::new() };
            let mut recorder = lock(&self.recorder);
            let mut figures = recorder.figures(up);
            (figures.totals, figures.members) = (totals, members);
            if up {
                file.write(&figures)
            } else {
                file.end(&figures)
            }
            if totals.is_some() {
                // The last word.
                *metrics = None;
            }
        }
    }
}

/// What to do about too little memory.
const HELP: &str = "Use more hosts or fewer ranks a host, a lower degree or a coarser mesh.";

/// A phase; the one around it goes on when this is dropped.
#[must_use = "the phase ends when this is dropped"]
pub struct Phase(Option<(Arc<Shared>, usize)>);

/// Begins a phase of this process. Phases nest: what is used inside an inner one is the inner one's alone. Not
/// collective; free where nothing is watched. For the thread that leads the others.
pub fn enter(name: &str) -> Phase {
    Phase(running().map(|shared| {
        let outer = lock(&shared.recorder).enter(name);
        (shared, outer)
    }))
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some((shared, outer)) = self.0.take() {
            lock(&shared.recorder).leave(outer);
        }
    }
}

/// Tells how far the solve under way is, for metrics. Not collective.
pub fn iteration(n: u64, relative_residual: f64) {
    PROGRESS.iterations.store(n, Ordering::Relaxed);
    PROGRESS.residual.store(relative_residual.to_bits(), Ordering::Relaxed);
}

/// Tells the number of degrees of freedom, for metrics. Not collective.
pub fn dofs(n: u64) {
    PROGRESS.dofs.store(n, Ordering::Relaxed);
}

/// What all ranks used so far; `None` where some rank is not watched. Collective.
pub fn gather(comm: &Comm) -> Option<Report> {
    let shared = running();
    if comm.any(shared.is_none()) {
        return None;
    }
    let shared = shared?;
    let (report, totals) = {
        let mut recorder = lock(&shared.recorder);
        recorder.sample();
        recorder.charge();
        report::gather(comm, &recorder)
    };
    shared.write_metrics(false, Some(totals));
    Some(report)
}
/// Prints in one piece: several ranks may have the same to say at once.
fn say(line: &str) {
    // What cannot be said is in run.json.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
