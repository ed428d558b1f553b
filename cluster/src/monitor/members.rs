//! What the ranks of one host use, as the first of them reads it in `/proc` for its metrics.
//!
//! Imports its sibling `process`. Start at [`Members::look`]. MPI belongs to the solver's threads: the watching ones
//! cannot ask each other.

use super::process::pages;

/// The ranks of this host.
#[derive(Debug)]
pub(super) struct Members {
    /// The host's name.
    pub(super) host: String,
    /// Each rank with its process.
    ranks: Vec<(u32, u32)>,
    /// Bytes of a page and ticks of a second.
    page: u64,
    ticks: f64,
}

/// What one rank uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Member {
    pub(super) rank: u32,
    /// Bytes resident.
    pub(super) memory: u64,
    /// Processor seconds of all its threads.
    pub(super) cpu: f64,
}

impl Members {
    /// `ranks`: each with the number of its process, as that process knows it.
    pub(super) fn new(host: &str, ranks: &[[u32; 2]]) -> Members {
        let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(std::process::id());
        // Where ranks have containers of their own, such a number is another program's here.
        let here = |pid: u32| own.is_some() && program(pid) == own;
        // SAFETY: asks for constants of the system.
        let [page, ticks] = unsafe { [libc::sysconf(libc::_SC_PAGESIZE), libc::sysconf(libc::_SC_CLK_TCK)] };
        Members {
            host: host.to_owned(),
            ranks: ranks.iter().filter(|[_, pid]| here(*pid)).map(|&[rank, pid]| (rank, pid)).collect(),
            page: u64::try_from(page).unwrap_or(4096),
            ticks: if ticks > 0 { ticks as f64 } else { 100.0 },
        }
    }

    /// What each uses now; those that have ended are left out.
    pub(super) fn look(&self) -> Vec<Member> {
        let of = |&(rank, pid): &(u32, u32)| {
            let text = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
            let memory = pages(&text("statm")?)?[1] * self.page;
            let cpu = ticks(&text("stat")?)? as f64 / self.ticks;
            Some(Member { rank, memory, cpu })
        };
        self.ranks.iter().filter_map(of).collect()
    }
}

/// Ticks of the clock in user and in system mode, from the text of `/proc/PID/stat`.
fn ticks(text: &[u8]) -> Option<u64> {
    // The program's name stands in parentheses and may hold anything, parentheses too.
    let end = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let mut words = rest.split_whitespace().skip(11);
    let mut next = || words.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_any_name() {
        let stat = b"12 (a ) R 1) S 1 12 12 0 -1 4194304 100 0 0 0 70 7 0 0 20 0 4 0 999 1000 20\n";
        assert_eq!(ticks(stat), Some(77));
        assert_eq!(
            (ticks(b""), ticks(b"1 (x) S 1 2"), ticks(b"1 (x) S 1 2 3 4 5 6 7 8 9 0 -1 2")),
            (None, None, None)
        );
    }

    #[test]
    fn this_process_is_found_and_others_are_not() {
        let members = Members::new("h", &[[3, std::process::id()], [4, 1], [5, u32::MAX]]);
        let found = members.look();
        let ranks: Vec<u32> = found.iter().map(|m| m.rank).collect();
        assert_eq!(ranks, [3], "{found:?}");
        let own = std::fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: f64 = own.split(' ').nth(1).expect("two words").parse().expect("a number");
        let bytes = pages * members.page as f64;
        assert!((found[0].memory as f64 / bytes - 1.0).abs() < 0.2, "{} {bytes}", found[0].memory);
        let begin = std::time::Instant::now();
        while members.look()[0].cpu < found[0].cpu + 0.05 {
            assert!(begin.elapsed().as_secs() < 60, "it is counted what this loop takes");
        }
    }
}
