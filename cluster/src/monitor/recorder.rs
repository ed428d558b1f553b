//! What one rank used, phase by phase and in the course of time.
//!
//! Imports its siblings and `place`. Start at [`Recorder::new`]. The solver's thread tells when a phase begins and ends
//! ([`Recorder::enter`], [`Recorder::leave`]), a thread of its own samples ([`Recorder::sample`]); neither allocates.

use std::time::Instant;

use super::gpu::GpuUse;
use super::metrics::Figures;
use super::process::{Reader, Repeated, USAGE, Usage, first, number};
use super::series::Series;
use super::watchdog::{Limit, Room, Verdict, Watchdog};
use crate::place::Place;

/// The most phases told apart; what comes later counts as `between`.
const PHASES: usize = 48;

/// What belongs to no phase.
pub const BETWEEN: &str = "between";

/// What one phase used.
#[derive(Debug, Clone)]
pub(super) struct PhaseUse {
    pub(super) name: String,
    pub(super) used: Usage,
    /// The most memory resident at once, in bytes.
    pub(super) memory: u64,
}

/// Limits that a rank looks after.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// For this rank's resident memory.
    pub(super) own: Option<u64>,
    /// For its address space.
    pub(super) address_space: Option<u64>,
    /// The group's, with the files that say how much of it is used.
    pub(super) group: Option<(u64, String, String)>,
    /// The scheduler's, with the ranks of this host by their process numbers.
    pub(super) scheduler: Option<(u64, Vec<u32>)>,
    /// Whether the host's memory is looked after.
    pub(super) host: bool,
}

impl Limits {
    /// Those of a place. `first` looks after what the ranks of its host share.
    pub(super) fn of(
        place: &Place,
        own: Option<u64>,
        first: bool,
        first_of_group: bool,
        host: &[u32],
    ) -> Limits {
        let memory = &place.memory;
        let group = memory.cgroup.zip(memory.cgroup_directory.as_deref()).filter(|_| first_of_group);
        // Where the group enforces what the scheduler gave, the group knows better what is used.
        let given =
            memory.scheduler.filter(|&bytes| first && memory.cgroup.is_none_or(|group| bytes < group));
        Limits {
            own,
            address_space: memory.address_space,
            group: group.map(|(limit, directory)| {
                let (used, table) = place.cgroups.usage_files(directory);
                (limit, used, table)
            }),
            scheduler: given.map(|limit| (limit, host.to_vec())),
            host: first,
        }
    }
}

/// Open files that tell how much is left.
#[derive(Debug)]
struct Rooms {
    own: Option<u64>,
    address_space: Option<u64>,
    group: Option<(u64, Repeated, Repeated)>,
    scheduler: Option<(u64, Vec<Repeated>)>,
    host: Option<Repeated>,
    found: Vec<Room>,
}

impl Rooms {
    fn open(limits: &Limits) -> Rooms {
        let statm = |pid: &u32| Repeated::open(&format!("/proc/{pid}/statm"));
        Rooms {
            own: limits.own,
            address_space: limits.address_space,
            group: limits
                .group
                .as_ref()
                .map(|(limit, used, table)| (*limit, Repeated::open(used), Repeated::open(table))),
            scheduler: limits
                .scheduler
                .as_ref()
                .map(|(limit, ranks)| (*limit, ranks.iter().map(statm).collect())),
            host: limits.host.then(|| Repeated::open("/proc/meminfo")),
            found: Vec::with_capacity(Limit::ALL.len()),
        }
    }

    /// What is left of each limit, given this process's address space and resident memory. Also the memory in use
    /// on this host, where it is looked after.
    fn look(&mut self, [space, resident]: [u64; 2], page: u64) -> Option<u64> {
        self.found.clear();
        let found = &mut self.found;
        let mut add =
            |of, limit: u64, used: u64| found.push(Room { of, limit, left: limit.saturating_sub(used) });
        if let Some(limit) = self.own {
            add(Limit::Own, limit, resident);
        }
        if let Some(limit) = self.address_space {
            add(Limit::AddressSpace, limit, space);
        }
        if let Some((limit, used, table)) = &mut self.group
            && let Some(mut bytes) = first(used.read())
        {
            // The table costs more, and matters where little seems to be left: cached files can be had back.
            if bytes > *limit - *limit / 4 {
                bytes = crate::place::held(bytes, std::str::from_utf8(table.read()).unwrap_or(""));
            }
            add(Limit::Group, *limit, bytes);
        }
        if let Some((limit, ranks)) = &mut self.scheduler {
            let resident =
                |rank: &mut Repeated| super::process::pages(rank.read()).map_or(0, |p| p[1] * page);
            add(Limit::Scheduler, *limit, ranks.iter_mut().map(resident).sum());
        }
        let table = self.host.as_mut()?.read();
        let kib = |name: &[u8]| number(table, name).map(|kib| kib * 1024);
        let (total, available) = (kib(b"MemTotal")?, kib(b"MemAvailable")?);
        let free = available + kib(b"SwapFree").unwrap_or(0);
        add(Limit::Host, total, total.saturating_sub(free));
        Some(total.saturating_sub(available))
    }
}

/// Records what this process uses.
#[derive(Debug)]
pub(super) struct Recorder {
    began: Instant,
    reader: Reader,
    rooms: Rooms,
    pub(super) watchdog: Watchdog,
    pub(super) phases: Vec<PhaseUse>,
    current: usize,
    /// Usage up to which phases are charged, and the high-water mark then.
    charged: (Usage, u64),
    /// Time and processor time of the last sample.
    sampled: (f64, f64),
    pub(super) series: Series,
    /// The most resident memory, in bytes, and the most in use on the host.
    pub(super) peak: u64,
    pub(super) host_peak: u64,
    pub(super) samples: u64,
    /// Processor time of the sampling thread.
    pub(super) cost: f64,
    pub(super) gpu: Option<GpuUse>,
}

impl Recorder {
    pub(super) fn new(limits: &Limits) -> Recorder {
        let mut reader = Reader::new();
        let charged = reader.usage(0.0);
        let mut phases = Vec::with_capacity(PHASES);
        let name = BETWEEN.to_owned();
        phases.push(PhaseUse { name, used: [0.0; USAGE.len()], memory: reader.memory()[1] });
        Recorder {
            began: Instant::now(),
            reader,
            rooms: Rooms::open(limits),
            watchdog: Watchdog::new(),
            phases,
            current: 0,
            charged,
            sampled: (0.0, charged.0[1] + charged.0[2]),
            series: Series::new(),
            peak: 0,
            host_peak: 0,
            samples: 0,
            cost: 0.0,
            gpu: None,
        }
    }

    /// Seconds since the beginning.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Begins a phase inside the current one, which is what it returns.
    pub(super) fn enter(&mut self, name: &str) -> usize {
        self.charge();
        let outer = self.current;
        let known = self.phases.iter().position(|phase| phase.name == name);
        self.current = known.unwrap_or_else(|| {
            if self.phases.len() == PHASES {
                return 0;
            }
            self.phases.push(PhaseUse { name: name.to_owned(), used: [0.0; USAGE.len()], memory: 0 });
            self.phases.len() - 1
        });
        let resident = self.reader.memory()[1];
        self.saw(resident);
        outer
    }

    /// Goes back to the phase that [`Recorder::enter`] returned.
    pub(super) fn leave(&mut self, outer: usize) {
        self.charge();
        self.current = outer;
        let resident = self.reader.memory()[1];
        self.saw(resident);
    }

    fn saw(&mut self, resident: u64) {
        let phase = &mut self.phases[self.current];
        phase.memory = phase.memory.max(resident);
        self.peak = self.peak.max(resident);
    }

    /// Charges what was used since the last time to the current phase.
    pub(super) fn charge(&mut self) {
        let at = self.now();
        let (usage, high) = self.reader.usage(at);
        let phase = &mut self.phases[self.current];
        for ((sum, now), before) in phase.used.iter_mut().zip(usage).zip(self.charged.0) {
            *sum += (now - before).max(0.0);
        }
        // A new record was set in this phase: then it is known exactly.
        if high > self.charged.1 {
            self.saw(high);
        }
        self.charged = (usage, high);
        let resident = self.reader.memory()[1];
        self.saw(resident);
    }

    /// Looks once at memory and processor time.
    pub(super) fn sample(&mut self) -> (Verdict, Option<Room>) {
        let at = self.now();
        let memory = self.reader.memory();
        self.saw(memory[1]);
        let busy: f64 = super::process::processor_times().iter().sum();
        let (from, before) = self.sampled;
        self.series.add(from, at, memory[1] as f64, (busy - before).max(0.0), self.current as u16);
        self.sampled = (at, busy);
        self.samples += 1;
        let host = self.rooms.look(memory, self.reader.page_bytes());
        self.host_peak = self.host_peak.max(host.unwrap_or(0));
        self.watchdog.judge(at, &self.rooms.found)
    }

    /// Resident memory now.
    pub(super) fn resident(&mut self) -> u64 {
        self.reader.memory()[1]
    }

    /// For the metrics of this rank.
    pub(super) fn figures(&mut self, up: bool) -> Figures<'_> {
        let memory = self.resident();
        self.charge();
        let sum = |k: usize| self.phases.iter().map(|phase| phase.used[k]).sum::<f64>();
        let left = |room: &Room| room.left as f64 / room.limit as f64;
        let room = self.rooms.found.iter().map(left).min_by(f64::total_cmp);
        let (user, system, read, written) = (sum(1), sum(2), sum(3), sum(4));
        Figures {
            up,
            seconds: self.now(),
            memory,
            memory_peak: self.peak,
            user,
            system,
            read,
            written,
            room,
            stopping: crate::stop::requested().is_some(),
            totals: None,
            members: Vec::new(),
            host_peak: self.host_peak,
            phases: self
                .phases
                .iter()
                .enumerate()
                .map(|(k, phase)| (phase.name.as_str(), phase.used[0], k == self.current))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping of its own, so that its pages come and go with it.
    struct Pages(*mut libc::c_void, usize);

    impl Pages {
        fn touched(bytes: usize) -> Pages {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a fresh anonymous mapping, of which one byte a page is written.
            unsafe {
                let at = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
                assert_ne!(at, libc::MAP_FAILED);
                for k in (0..bytes).step_by(4096) {
                    at.cast::<u8>().add(k).write_volatile(1);
                }
                Pages(at, bytes)
            }
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: mapped by `touched`, unmapped once.
            unsafe { libc::munmap(self.0, self.1) };
        }
    }

    /// `/proc` as another program reads it.
    fn status(name: &str) -> f64 {
        let text = std::fs::read_to_string("/proc/self/status").expect("a table");
        let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("an entry");
        1024.0 * line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number")
    }

    fn of<'r>(recorder: &'r Recorder, name: &str) -> &'r PhaseUse {
        recorder.phases.iter().find(|phase| phase.name == name).expect("a phase")
    }

    /// Known memory and known work, against `/proc`; nothing else of this process may run beside it.
    fn known_use() {
        const MIB: usize = 1 << 20;
        let mut recorder = Recorder::new(&Limits::default());
        let base = recorder.resident() as f64;
        let outer = recorder.enter("large");
        let pages = Pages::touched(320 * MIB);
        let proc = status("VmRSS:");
        recorder.sample();
        assert!((recorder.resident() as f64 / proc - 1.0).abs() < 0.02);
        drop(pages);
        recorder.leave(outer);
        let large = of(&recorder, "large").memory as f64;
        assert!((large / (base + 320.0 * MIB as f64) - 1.0).abs() < 0.02, "{large} of {base}");
        assert!((large / status("VmHWM:") - 1.0).abs() < 0.02, "{large}");
        // Smaller, so the high-water mark stays: seen by a sample alone.
        let outer = recorder.enter("small");
        let pages = Pages::touched(128 * MIB);
        recorder.sample();
        let inner = recorder.enter("work");
        let before = super::super::process::thread_seconds();
        let mut x = 1.0f64;
        while super::super::process::thread_seconds() < before + 0.3 {
            for _ in 0..10_000 {
                x = (x * 1.000_000_1).sin() + 1.0;
            }
        }
        assert!(x.is_finite());
        let burned = super::super::process::thread_seconds() - before;
        recorder.leave(inner);
        let scratch = testing::Scratch::new();
        let writing = recorder.enter("write");
        scratch.write("file", &"x".repeat(8 * MIB));
        recorder.leave(writing);
        drop(pages);
        recorder.leave(outer);
        let small = of(&recorder, "small").memory as f64;
        assert!((small / (base + 128.0 * MIB as f64) - 1.0).abs() < 0.02, "{small} of {base}");
        let work = &of(&recorder, "work").used;
        assert!((work[1] + work[2] - burned).abs() < 0.02 * burned, "{work:?}, burned {burned}");
        assert!(work[0] >= burned * 0.98, "{work:?}");
        let written = of(&recorder, "write").used[4];
        assert!((written / (8.0 * MIB as f64) - 1.0).abs() < 0.02, "{written}");
        // What was used in all is what the system says of the whole process.
        recorder.charge();
        let all: f64 = recorder.phases.iter().map(|phase| phase.used[1] + phase.used[2]).sum();
        assert!(
            all > burned && of(&recorder, "small").used[1] < burned,
            "inner phases are not counted twice"
        );
    }

    #[test]
    fn memory_and_work_are_within_two_percent_of_proc() {
        if testing::is_inside() {
            known_use();
            testing::tell(&[1]);
            return;
        }
        let test = "monitor::recorder::tests::memory_and_work_are_within_two_percent_of_proc";
        testing::figures_of(test, 1, 1, std::time::Duration::from_secs(60));
    }

    #[test]
    fn phases_nest_and_are_bounded() {
        let mut recorder = Recorder::new(&Limits::default());
        let outer = recorder.enter("mesh");
        let inner = recorder.enter("partition");
        assert_eq!((outer, recorder.phases[inner].name.as_str()), (0, "mesh"));
        recorder.leave(inner);
        recorder.leave(outer);
        assert_eq!(recorder.current, 0);
        for k in 0..2 * PHASES {
            let outer = recorder.enter(&format!("phase {k}"));
            recorder.leave(outer);
        }
        assert_eq!((recorder.phases.len(), recorder.current), (PHASES, 0));
        let seconds: f64 = recorder.phases.iter().map(|phase| phase.used[0]).sum();
        assert!((seconds - recorder.charged.0[0]).abs() < 1e-9, "no moment is lost or counted twice");
    }

    #[test]
    fn limits_are_looked_after() {
        let own = Limits { own: Some(1 << 40), host: true, ..Limits::default() };
        let mut recorder = Recorder::new(&own);
        assert_eq!(recorder.sample().0, Verdict::Enough);
        assert!(recorder.host_peak > 0);
        let mut recorder = Recorder::new(&Limits { own: Some(1 << 20), ..Limits::default() });
        let (verdict, room) = recorder.sample();
        assert_eq!((verdict, room.map(|room| room.of)), (Verdict::Stop, Some(Limit::Own)));
        let scratch = testing::Scratch::new();
        let used = scratch.write("used", "1000000\n").display().to_string();
        let table = scratch.write("table", "inactive_file 200000\n").display().to_string();
        let group = Limits { group: Some((1_001_000, used, table)), ..Limits::default() };
        assert_eq!(Recorder::new(&group).sample().0, Verdict::Enough, "a fifth is cached files");
        scratch.write("table", "inactive_file 10\n");
        assert_eq!(Recorder::new(&group).sample().0, Verdict::End);
        let ranks = vec![std::process::id(), 0];
        let given = Limits { scheduler: Some((1 << 20, ranks)), ..Limits::default() };
        assert_eq!(Recorder::new(&given).sample().0, Verdict::Stop);
    }
}
