//! Asking a job to stop in good order: by a signal, at a time limit, before memory runs out.
//!
//! Imports nothing of femdd. Start at [`request`] and [`requested`]. A request belongs to one rank's process;
//! whether the job stops is for all ranks to agree on, at a place where they can.

use std::sync::atomic::{AtomicU64, Ordering};

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
}
