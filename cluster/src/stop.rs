//! Asking a job to stop in good order: by a signal, at a time limit, before memory runs out.
//!
//! Imports `place`. Start at [`request`] and [`requested`]. A request belongs to one rank's process;
//! whether the job stops is for all ranks to agree on, at a place where they can. [`install`] turns signals into
//! requests, [`batch_time_left`] asks the scheduler how long the job may run.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::place::{Here, Scheduler};

/// Why a job should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A signal arrived: its number.
    Signal(i32),
    /// The time that it was given is nearly up.
    TimeLimit,
    /// Memory is nearly exhausted.
    Memory,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Reason::Signal(libc::SIGTERM) => f.write_str("SIGTERM"),
            Reason::Signal(libc::SIGUSR1) => f.write_str("SIGUSR1"),
            Reason::Signal(signal) => write!(f, "signal {signal}"),
            Reason::TimeLimit => f.write_str("the time limit"),
            Reason::Memory => f.write_str("a lack of memory"),
        }
    }
}

impl Reason {
    /// A number above 0, for agreement by the largest: all ranks then know the same reason.
    pub fn code(self) -> u64 {
        match self {
            Reason::Memory => 1,
            Reason::TimeLimit => 2,
            Reason::Signal(signal) => 3 + signal.unsigned_abs() as u64,
        }
    }

    /// The reason with that [code](Reason::code); `None` for 0.
    pub fn of(code: u64) -> Option<Reason> {
        match code {
            0 => None,
            1 => Some(Reason::Memory),
            2 => Some(Reason::TimeLimit),
            _ => Some(Reason::Signal((code - 3) as i32)),
        }
    }
}

/// The code of the first request, 0 while there is none.
static REQUEST: AtomicU64 = AtomicU64::new(0);

/// Asks this process to stop when it can. The first reason stays. May be called by any thread and from a
/// signal's handler.
pub fn request(reason: Reason) {
    // An atomic operation without locks is allowed in a handler.
    let _ = REQUEST.compare_exchange(0, reason.code(), Ordering::SeqCst, Ordering::SeqCst);
}

/// Why this process was asked to stop, if it was. Not collective.
pub fn requested() -> Option<Reason> {
    Reason::of(REQUEST.load(Ordering::SeqCst))
}

/// Forgets a request: for a program that runs several cases.
pub fn forget() {
    REQUEST.store(0, Ordering::SeqCst);
}

/// Signals that ask a process to stop in good order.
const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGUSR1];

/// Seconds after the first signal in which others are the same one: launchers and schedulers send it to a process
/// each, and pass it on to each other's.
const SAME: i64 = 5;

/// When the first signal came, in seconds of the monotonic clock and 1; 0 before.
static FIRST: AtomicI64 = AtomicI64::new(0);

/// The first asks; another of its kind, some seconds later, ends the process as if there were no handler.
extern "C" fn on_signal(signal: libc::c_int) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the record; allowed in a handler.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let now = now.tv_sec + 1;
    let known = requested() == Some(Reason::Signal(signal));
    let again = known && now - FIRST.load(Ordering::SeqCst) >= SAME;
    if !known {
        FIRST.store(now, Ordering::SeqCst);
    }
    request(Reason::Signal(signal));
    if again {
        // SAFETY: both calls are allowed in a handler; the signal is delivered when this returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

/// Has SIGTERM and SIGUSR1 ask this process to stop instead of ending it. What was ignored stays ignored. A
/// second signal of the same kind, five seconds later or more, ends the process at once.
pub fn install() {
    for signal in SIGNALS {
        // SAFETY: the records are all zeros but for the handler, which makes only calls that are allowed in one,
        // and a flag by which system calls go on.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, std::ptr::null(), &mut before);
            if before.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
}

/// Has SIGTERM and SIGUSR1 end this process again: when its work is done. A launcher sends SIGTERM to the ranks that
/// are left when the first has ended with a code other than 0, and kills those that do not heed it, whose code would
/// then be the job's.
pub fn restore() {
    for signal in SIGNALS {
        // SAFETY: the record is only written, and read when the call succeeds; the default action is a constant.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            let known = libc::sigaction(signal, std::ptr::null(), &mut now) == 0;
            if known && now.sa_sigaction == on_signal as *const () as libc::sighandler_t {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// How long a scheduler may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time that the batch job of this process has left, where a scheduler says so: SLURM, by
/// `SLURM_JOB_END_TIME` or by asking `squeue`. `None` outside a job, and in one without a limit. One rank calls
/// this: it may start a program.
pub fn batch_time_left() -> Option<Duration> {
    let scheduler = Scheduler::find(&Here).filter(|scheduler| scheduler.kind == "slurm")?;
    // It goes into a command line: nothing but a number.
    let job: u64 = scheduler.job.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    if let Some(left) = scheduler.left(now) {
        return Some(Duration::from_secs(left));
    }
    let mut child = Command::new("squeue")
        .args(["-h", "-o", "%L", "-j", &job.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begin = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begin.elapsed() > PATIENCE {
            // It is gone or will be: nothing depends on it.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = child.wait_with_output().ok()?.stdout;
    parse_left(String::from_utf8_lossy(&answer).lines().next()?.trim())
}

/// `D-HH:MM:SS`, `HH:MM:SS`, `MM:SS` or `SS`, as SLURM writes times.
fn parse_left(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let mut seconds = 0;
    let fields: Vec<u64> = clock.split(':').map(|field| field.parse().ok()).collect::<Option<_>>()?;
    if fields.len() > 3 {
        return None;
    }
    for field in fields {
        seconds = seconds * 60 + field;
    }
    Some(Duration::from_secs(days * 86_400 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        for reason in [Reason::Memory, Reason::TimeLimit, Reason::Signal(0), Reason::Signal(15)] {
            assert_eq!(Reason::of(reason.code()), Some(reason));
        }
        assert_eq!(requested(), None);
        request(Reason::Signal(15));
        request(Reason::Memory);
        assert_eq!(requested(), Some(Reason::Signal(15)));
        forget();
        assert_eq!(requested(), None);
    }

    #[test]
    fn times_of_the_scheduler_are_read() {
        let seconds = |text| parse_left(text).map(|left| left.as_secs());
        assert_eq!(seconds("59"), Some(59));
        assert_eq!(seconds("1:02"), Some(62));
        assert_eq!(seconds("10:00:01"), Some(36_001));
        assert_eq!(seconds("2-00:00:10"), Some(172_810));
        for none in ["UNLIMITED", "NOT_SET", "INVALID", "", "1:2:3:4"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }
}
