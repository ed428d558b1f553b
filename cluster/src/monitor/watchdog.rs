//! Whether memory is about to run out.
//!
//! Imports nothing of femdd. Start at [`Watchdog::judge`], which is told how much is left of each limit. Below a
//! margin, or when growth would use up what is left within seconds, the run should stop in good order; far below
//! it there is no time for that, and it should end before the system ends it.

use serde::{Deserialize, Serialize};

/// A limit on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The one that the user set for each rank.
    Own,
    /// The control group's.
    Group,
    /// What the scheduler gave the job on this host.
    Scheduler,
    /// The host's memory.
    Host,
    /// The address space of this process.
    AddressSpace,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 5] =
        [Limit::Own, Limit::Group, Limit::Scheduler, Limit::Host, Limit::AddressSpace];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Limit::Own => "memory_limit",
            Limit::Group => "its control group",
            Limit::Scheduler => "what the scheduler gave the job on this host",
            Limit::Host => "this host",
            Limit::AddressSpace => "its address space (ulimit -v)",
        }
    }
}

/// How much is left of a limit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Which limit.
    pub of: Limit,
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub left: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Enough,
    /// Write a checkpoint and stop.
    Stop,
    /// End at once.
    End,
}

/// Below this much of a limit a run should stop: a twentieth of it, 512 MiB at most.
pub fn margin(limit: u64) -> u64 {
    (limit / 20).min(512 << 20)
}

/// Seconds that ending a job takes.
const END: f64 = 0.1;

/// Whether there is no time to stop: below an eighth of the margin, or below half of it where the rest is gone before
/// the job could be ended. A limit of the user's own is none that the system enforces, and what the scheduler gave is
/// none at once (where it is, a control group says so): there is always time to stop.
fn is_over(room: &Room, soonest: f64) -> bool {
    let margin = margin(room.limit);
    match room.of {
        Limit::Own | Limit::Scheduler => false,
        Limit::Group | Limit::Host | Limit::AddressSpace => {
            room.left < margin / 8 || (room.left < margin / 2 && soonest < END)
        }
    }
}

/// Growth is judged where less than this part of a limit is left: what a large matrix takes at once need not go on.
const LITTLE: u64 = 10;

/// Seconds in which growth must not use up what is left: for the end of an iteration, and for a checkpoint.
const AHEAD: f64 = 5.0;

/// Seconds over which growth is judged at least, and seconds between two readings that are kept.
const SHORT: f64 = 0.4;
/// As [`SHORT`].
const APART: f64 = 0.1;

/// Readings of each limit that growth is seen from.
const KEPT: usize = 8;

/// Remembers what was left.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Times and bytes left, for each of [`Limit::ALL`]; the oldest is overwritten.
    seen: [[(f64, u64); KEPT]; Limit::ALL.len()],
    n_seen: [usize; Limit::ALL.len()],
    /// The room that was smallest for its limit so far.
    pub(super) least: Option<Room>,
    /// Seconds until some room is used up if it went on as fast as it was at its fastest; infinite where nothing grows.
    pub(super) ahead: f64,
}

impl Watchdog {
    pub(super) fn new() -> Watchdog {
        Watchdog { ahead: f64::INFINITY, ..Watchdog::default() }
    }

    /// Judges what is left at a time in seconds. The room that a verdict other than `Enough` is about.
    pub(super) fn judge(&mut self, at: f64, rooms: &[Room]) -> (Verdict, Option<Room>) {
        let mut worst = (Verdict::Enough, None);
        self.ahead = f64::INFINITY;
        for room in rooms.iter().filter(|room| room.limit > 0) {
            let [ahead, soonest] = self.until_used_up(at, room);
            self.ahead = self.ahead.min(soonest);
            let part = |room: &Room| room.left as f64 / room.limit as f64;
            if self.least.is_none_or(|least| part(room) < part(&least)) {
                self.least = Some(*room);
            }
            let little = room.left < room.limit / LITTLE;
            let verdict = if is_over(room, soonest) {
                Verdict::End
            } else if room.left < margin(room.limit) || (little && ahead < AHEAD) {
                Verdict::Stop
            } else {
                Verdict::Enough
            };
            if verdict as u8 > worst.0 as u8 {
                worst = (verdict, Some(*room));
            }
        }
        worst
    }

    /// Seconds until what is left is used up: by its change since the oldest reading that is kept, and by the fastest
    /// change since any of them.
    fn until_used_up(&mut self, at: f64, room: &Room) -> [f64; 2] {
        let k = room.of as usize;
        let (seen, n) = (&mut self.seen[k], &mut self.n_seen[k]);
        let ahead = |&(then, left): &(f64, u64)| {
            let (seconds, bytes) = (at - then, left.saturating_sub(room.left));
            // Over a shorter time a single allocation looks like growth without end.
            if seconds < SHORT || bytes == 0 {
                return f64::INFINITY;
            }
            room.left as f64 * seconds / bytes as f64
        };
        let kept = (*n).min(KEPT);
        let oldest = seen[if *n < KEPT { 0 } else { *n % KEPT }];
        let found = if kept == 0 { f64::INFINITY } else { ahead(&oldest) };
        let soonest = seen[..kept].iter().map(ahead).fold(f64::INFINITY, f64::min);
        // However often it is looked, the readings kept span some time.
        if kept == 0 || at - seen[(*n - 1) % KEPT].0 >= APART {
            seen[*n % KEPT] = (at, room.left);
            *n += 1;
        }
        [found, soonest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(of: Limit, limit: u64, left: u64) -> Room {
        Room { of, limit, left }
    }

    #[test]
    fn margins_are_small_parts_of_small_limits() {
        assert_eq!(margin(GIB), GIB / 20);
        assert_eq!(margin(1 << 40), 512 << 20);
    }

    #[test]
    fn below_the_margin_a_run_stops_and_far_below_it_ends() {
        let judge = |of, left| Watchdog::new().judge(0.0, &[room(of, 64 * GIB, left)]).0;
        assert_eq!(judge(Limit::Host, GIB), Verdict::Enough);
        assert_eq!(judge(Limit::Host, (512 << 20) - 1), Verdict::Stop);
        assert_eq!(judge(Limit::Group, 64 << 20), Verdict::Stop);
        assert_eq!(judge(Limit::Group, (64 << 20) - 1), Verdict::End);
        // Nothing ends a process that passes a limit of the user's own.
        assert_eq!((judge(Limit::Own, 0), judge(Limit::Scheduler, 0)), (Verdict::Stop, Verdict::Stop));
        let mut dog = Watchdog::new();
        let rooms = [room(Limit::Host, 64 * GIB, 60 * GIB), room(Limit::AddressSpace, GIB, 1 << 20)];
        assert_eq!(dog.judge(0.0, &rooms), (Verdict::End, Some(rooms[1])));
        assert_eq!(dog.least, Some(rooms[1]));
    }

    #[test]
    fn growth_is_seen_in_time() {
        // 1 GiB a second, 100 GiB: what is left lasts 10 s when a tenth is left, 5 s a while later.
        // However often it is looked.
        for often in [1u64, 10, 100] {
            let mut dog = Watchdog::new();
            let mut stopped = None;
            for k in 0..200 * often {
                let left = (100 * GIB).saturating_sub(k * GIB / often);
                let at = k as f64 / often as f64;
                let (verdict, _) = dog.judge(at, &[room(Limit::Group, 100 * GIB, left)]);
                if verdict != Verdict::Enough {
                    stopped = Some((verdict, left));
                    break;
                }
                assert!(at < 1.0 || (dog.ahead - left as f64 / GIB as f64).abs() < 1e-6);
            }
            let (verdict, left) = stopped.expect("it stops");
            assert_eq!(verdict, Verdict::Stop);
            assert!((4 * GIB..5 * GIB + GIB / 10).contains(&left), "{often}: {left}");
        }
    }

    #[test]
    fn fast_growth_ends_a_run_earlier() {
        // 300 MiB, of which the last 15 are the margin, at 100 MiB a second: 19 ms are left at an eighth of it.
        let mut dog = Watchdog::new();
        let mut ended = None;
        for k in 0..300u64 {
            let left = (300 - k) << 20;
            if dog.judge(0.01 * k as f64, &[room(Limit::Group, 300 << 20, left)]).0 == Verdict::End {
                ended = Some(left >> 20);
                break;
            }
        }
        assert_eq!(ended, Some(7));
    }

    #[test]
    fn one_large_allocation_is_no_growth() {
        let mut dog = Watchdog::new();
        for tenth in 0..100 {
            let left = if tenth < 50 { 90 * GIB } else { 20 * GIB };
            let (verdict, _) = dog.judge(0.1 * f64::from(tenth), &[room(Limit::Group, 100 * GIB, left)]);
            assert_eq!(verdict, Verdict::Enough, "{tenth}");
        }
        assert_eq!(dog.ahead, f64::INFINITY);
        // Seen at once, and long before it matters: it is looked oftener for a while.
        dog.judge(10.0, &[room(Limit::Group, 100 * GIB, 11 * GIB)]);
        assert!(dog.ahead < 1.5, "{}", dog.ahead);
    }
}
