//! Wall-clock time by phase and peak memory, per rank and over the ranks.
//!
//! Imports `cluster`. Start at [`Phases`].

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cluster::{Comm, Counters};

use super::run_json::MemoryReport;

/// Seconds spent in a phase, over the ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseRow {
    /// The phase.
    pub name: String,
    /// On the rank that spent least.
    pub min: f64,
    /// On the average.
    pub mean: f64,
    /// On the rank that spent most.
    pub max: f64,
}

/// The phase of what is sent between phases.
const BETWEEN: &str = "between";

/// Named stopwatches of one rank. A phase entered again adds to its time.
#[derive(Clone, Default)]
pub struct Phases {
    rows: Vec<(String, f64)>,
    /// Whose messages are counted, if any are.
    comm: Option<Comm>,
    counted: BTreeMap<String, Counters>,
}

impl Phases {
    /// No phases.
    pub fn new() -> Self {
        Phases::default()
    }

    /// No phases; messages are counted from here on.
    pub fn counting(comm: &Comm) -> Self {
        comm.take_counters();
        Phases { comm: Some(comm.clone()), ..Phases::default() }
    }

    /// Counts what was sent since the last phase ended to this one.
    pub fn count(&mut self, name: &str) {
        let Some(comm) = &self.comm else { return };
        let sent = comm.take_counters();
        if sent != Counters::default() {
            let so_far = self.counted.entry(name.to_owned()).or_default();
            *so_far = so_far.and(&sent);
        }
    }

    /// What was sent in each phase, for each counter the largest of any rank. Collective.
    pub fn gather_counters(&mut self, comm: &Comm) -> BTreeMap<String, Counters> {
        self.count(BETWEEN);
        let names: Vec<&str> = self.counted.keys().map(String::as_str).collect();
        comm.common_names(&names)
            .into_iter()
            .map(|name| {
                let mut values = self.counted.get(&name).copied().unwrap_or_default().values();
                comm.max_slice(&mut values);
                (name, Counters::from_values(values))
            })
            .collect()
    }

    /// Runs `work` and adds its time to a phase; what it logs is marked with the phase.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        self.count(BETWEEN);
        let begin = Instant::now();
        let span = span(name);
        let result = work();
        let seconds = begin.elapsed().as_secs_f64();
        tracing::debug!(seconds, "done");
        drop(span);
        self.add(name, seconds);
        self.count(name);
        result
    }

    /// Adds seconds to a phase; the first mention places it.
    pub fn add(&mut self, name: &str, seconds: f64) {
        match self.rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1 += seconds,
            None => self.rows.push((name.to_owned(), seconds)),
        }
    }

    /// Seconds this rank has spent in a phase.
    pub fn seconds(&self, name: &str) -> f64 {
        self.rows.iter().find(|row| row.0 == name).map_or(0.0, |row| row.1)
    }

    /// Each phase over the ranks, in the order of first mention. Collective.
    ///
    /// A rank that has not been in a phase counts there with 0 seconds.
    pub fn gather(&self, comm: &Comm) -> Vec<PhaseRow> {
        let names: Vec<&str> = self.rows.iter().map(|row| row.0.as_str()).collect();
        let names = comm.common_names(&names);
        let mine: Vec<f64> = names.iter().map(|name| self.seconds(name)).collect();
        let (mut min, mut sum, mut max) = (mine.clone(), mine.clone(), mine);
        comm.min_slice(&mut min);
        comm.sum_slice(&mut sum);
        comm.max_slice(&mut max);
        let ranks = comm.size() as f64;
        names
            .into_iter()
            .enumerate()
            .map(|(k, name)| PhaseRow { name, min: min[k], mean: sum[k] / ranks, max: max[k] })
            .collect()
    }
}

/// A phase for logs, profile and monitor. It ends when this is dropped.
#[must_use = "the phase ends when this is dropped"]
pub struct PhaseSpan {
    _span: tracing::span::EnteredSpan,
    _watched: cluster::monitor::Phase,
}

/// The span of a phase, for time that is not taken by [`Phases::time`].
pub fn span(name: &str) -> PhaseSpan {
    let watched = cluster::monitor::enter(name);
    PhaseSpan { _span: tracing::info_span!("phase", name).entered(), _watched: watched }
}

/// Peak resident memory of this process in bytes; 0 where the system does not tell.
///
/// The system counts it twice. Its text `/proc/self/status` is exact and takes some 30 microseconds to read, a tenth of
/// what a small problem takes. A call takes less than one, but it leaves out what processors have not reported yet, and
/// it may tell of what the process was before it became this program. So it only tells whether the peak has risen since
/// the text was read last: what is told for the first time in a process is exact, later a small rise may be missed.
pub fn peak_memory() -> u64 {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let call = peak_of_call();
    if call != 0 && call == last.0 {
        return last.1;
    }
    let peak = peak_of_text();
    // A larger one is not of this program.
    *last = if call <= peak { (call, peak) } else { (0, 0) };
    peak
}

/// What [`peak_of_call`] and [`peak_of_text`] told last; zeros where the first says nothing of the second.
static LAST: Mutex<(u64, u64)> = Mutex::new((0, 0));

fn peak_of_call() -> u64 {
    // SAFETY: a structure of integers, for which zeros are a value; the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        match libc::getrusage(libc::RUSAGE_SELF, &mut usage) {
            0 => usage,
            _ => return 0,
        }
    };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

fn peak_of_text() -> u64 {
    // The system makes the text anew for each reading: one that is large enough.
    let mut text = [0; 4096];
    let read = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read(&mut text));
    let status = str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
    parse_peak(status).unwrap_or(0)
}

/// Memory that this process holds now.
pub mod resident_memory {
    /// Bytes, after giving back what was freed; the peak counts from here on where the system lets it be reset.
    pub fn trimmed() -> u64 {
        // SAFETY: only looks at the allocator's own lists.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
        // Where it is refused, the peak is that of the whole run: too much rather than too little.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        *super::LAST.lock().unwrap_or_else(super::PoisonError::into_inner) = (0, 0);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        cluster::place::kibibytes(&status, "VmRSS").unwrap_or(0)
    }
}

fn parse_peak(status: &str) -> Option<u64> {
    cluster::place::kibibytes(status, "VmHWM")
}

/// Peak resident memory over the ranks, that of this rank being `mine` bytes. Collective.
pub fn gather_memory(comm: &Comm, mine: u64) -> MemoryReport {
    const MEBI: f64 = (1u64 << 20) as f64;
    MemoryReport { max_rank: comm.max(mine) as f64 / MEBI, sum: comm.sum(mine) as f64 / MEBI }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_entered_again_adds_up() {
        let mut phases = Phases::new();
        phases.add("mesh", 1.0);
        phases.add("solve", 2.0);
        phases.add("mesh", 0.5);
        assert_eq!((phases.seconds("mesh"), phases.seconds("solve")), (1.5, 2.0));
        let value = phases.time("solve", || 7);
        assert!(value == 7 && phases.seconds("solve") >= 2.0 && phases.rows.len() == 2);
    }

    #[test]
    fn reads_the_high_water_mark() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_peak("Name:\tx\n"), None);
        assert!(peak_memory() > 1 << 16);
        assert!(peak_memory() <= peak_of_text() && peak_of_call() > 1 << 16);
        // A rise is seen.
        let large = std::hint::black_box(vec![1u8; 128 << 20]);
        assert!(peak_memory() >= large.len() as u64);
    }
}
