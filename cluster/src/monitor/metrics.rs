//! Figures of a run under way for Prometheus: a file in its text format, as node_exporter's textfile collector reads it.
//!
//! Imports its siblings. Start at [`Metrics::write`]. A reader sees the old file or the new one, never a part. Rank 0
//! writes the file that was asked for, the first rank of each other host one beside it with the ranks of that host.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::members::{Member, Members};

/// What drivers tell of a run under way.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) iterations: AtomicU64,
    /// The bits of a number.
    pub(super) residual: AtomicU64,
    pub(super) dofs: AtomicU64,
}

pub(super) static PROGRESS: Progress = Progress {
    iterations: AtomicU64::new(0),
    residual: AtomicU64::new(f64::NAN.to_bits()),
    dofs: AtomicU64::new(0),
};

/// What is written of one rank, and of all where it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures<'s> {
    /// Whether the run goes on.
    pub(super) up: bool,
    /// Phases with their seconds so far, the current one marked.
    pub(super) phases: Vec<(&'s str, f64, bool)>,
    pub(super) seconds: f64,
    pub(super) memory: u64,
    pub(super) memory_peak: u64,
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) read: f64,
    pub(super) written: f64,
    /// Least part of a limit on memory that was left, from 0 to 1.
    pub(super) room: Option<f64>,
    pub(super) stopping: bool,
    /// Ranks, with the sum and the most of their peaks of memory and the sum of their processor time: at the end.
    pub(super) totals: Option<(usize, f64, f64, f64)>,
    /// The ranks of this host.
    pub(super) members: Vec<Member>,
    /// The most memory in use on this host, in bytes, by other programs too.
    pub(super) host_peak: u64,
}

/// A file that is replaced again and again.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    partial: PathBuf,
    labels: String,
    /// The ranks of this host.
    members: Members,
    /// Whether this is the file of rank 0.
    leads: bool,
    text: String,
    /// Whether a failure was reported.
    complained: bool,
}

/// The file of the host whose first rank this is: `run.prom` becomes `run.rank32.prom`, which no other host has.
fn beside(path: &Path, rank: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".rank{rank}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A label's value between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

impl Metrics {
    /// Of rank 0 `rank`'s file is `path`; of another it is beside it.
    pub(super) fn new(path: &Path, rank: usize, case: &str, job: &str, members: Members) -> Metrics {
        let path = if rank == 0 { path.to_path_buf() } else { beside(path, rank) };
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        // The collector reads what ends in `.prom`: not this.
        name.push(".part");
        Metrics {
            partial: path.with_file_name(name),
            path,
            members,
            leads: rank == 0,
            labels: format!("case=\"{}\",job=\"{}\"", escaped(case), escaped(job)),
            text: String::with_capacity(8192),
            complained: false,
        }
    }

    /// The text of some figures.
    fn render(&mut self, figures: &Figures) -> &str {
        let (text, labels) = (&mut self.text, self.labels.as_str());
        text.clear();
        let host = format!("host=\"{}\"", escaped(&self.members.host));
        let mut family =
            |name: &str, kind: &str, help: &str, rows: &mut dyn Iterator<Item = (String, f64)>| {
                let mut headed = false;
                for (more, value) in rows {
                    // Writing to a string cannot fail.
                    if !headed {
                        let _ = writeln!(text, "# HELP femdd_{name} {help}\n# TYPE femdd_{name} {kind}");
                        headed = true;
                    }
                    let comma = if more.is_empty() { "" } else { "," };
                    let value = if value.is_nan() { "NaN".to_owned() } else { value.to_string() };
                    let _ = writeln!(text, "femdd_{name}{{{labels}{comma}{more}}} {value}");
                }
            };
        let one = |value: f64| std::iter::once((String::new(), value));
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        let of_phase = |name: &str| format!("phase=\"{}\"", escaped(name));
        if figures.up {
            let rows = |value: fn(&Member) -> f64| {
                let labelled = |m: &Member| (format!("{host},rank=\"{}\"", m.rank), value(m));
                figures.members.iter().map(labelled).collect::<Vec<_>>().into_iter()
            };
            let (memory, cpu) = (&mut rows(|m| m.memory as f64), &mut rows(|m| m.cpu));
            family("rank_memory_bytes", "gauge", "Resident memory of each rank.", memory);
            family("rank_cpu_seconds_total", "counter", "Processor time of each rank.", cpu);
            let peak = &mut std::iter::once((host.clone(), figures.host_peak as f64)).filter(|p| p.1 > 0.0);
            let help = "The most memory in use on a host so far, by other programs too.";
            family("host_memory_peak_bytes", "gauge", help, peak);
        }
        if !self.leads {
            return text;
        }
        let mut phases = figures.phases.iter().map(|p| (of_phase(p.0), flag(p.2 && figures.up)));
        let mut seconds = figures.phases.iter().map(|p| (of_phase(p.0), p.1));
        let mut cpu = [("user", figures.user), ("system", figures.system)]
            .into_iter()
            .map(|(mode, value)| (format!("mode=\"{mode}\""), value));
        let mut io = [("read", figures.read), ("written", figures.written)]
            .into_iter()
            .map(|(way, value)| (format!("direction=\"{way}\""), value));
        family("up", "gauge", "1 while the run goes on, 0 once it has ended.", &mut one(flag(figures.up)));
        family("phase", "gauge", "1 for the phase that rank 0 is in.", &mut phases);
        family("phase_seconds_total", "counter", "Seconds rank 0 spent in each phase.", &mut seconds);
        family("elapsed_seconds", "gauge", "Seconds since the run began.", &mut one(figures.seconds));
        family("memory_bytes", "gauge", "Resident memory of rank 0.", &mut one(figures.memory as f64));
        let peak = figures.memory_peak as f64;
        family("memory_peak_bytes", "gauge", "The most of it so far.", &mut one(peak));
        family("cpu_seconds_total", "counter", "Processor time of rank 0.", &mut cpu);
        family("io_bytes_total", "counter", "Bytes that rank 0 read and wrote by calls.", &mut io);
        let room = &mut figures.room.into_iter().map(|room| (String::new(), room));
        family("memory_room_ratio", "gauge", "Least part left of a limit on memory, from 0 to 1.", room);
        let stopping = flag(figures.stopping);
        family("stop_requested", "gauge", "1 once the run was asked to stop.", &mut one(stopping));
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let iterations = load(&PROGRESS.iterations) as f64;
        family("iterations", "gauge", "Iterations of the solve under way or last.", &mut one(iterations));
        let residual = f64::from_bits(load(&PROGRESS.residual));
        let residual = &mut Some(residual).filter(|r| !r.is_nan()).into_iter().map(|r| (String::new(), r));
        family("residual", "gauge", "Relative residual of the solve under way or last.", residual);
        family("dofs", "gauge", "Degrees of freedom.", &mut one(load(&PROGRESS.dofs) as f64));
        if let Some((ranks, sum, most, cpu)) = figures.totals {
            family("ranks", "gauge", "Ranks.", &mut one(ranks as f64));
            family("job_memory_peak_bytes", "gauge", "Sum of all ranks' peaks of memory.", &mut one(sum));
            family("job_memory_peak_bytes_max", "gauge", "The largest of them.", &mut one(most));
            family("job_cpu_seconds_total", "counter", "Processor time of all ranks.", &mut one(cpu));
        }
        text
    }

    /// What the ranks of this host use now.
    pub(super) fn look(&self) -> Vec<Member> {
        self.members.look()
    }

    /// Ends what is told of this host. Rank 0's file stays with the last figures, those of other hosts go: what is in
    /// them is over.
    pub(super) fn end(&mut self, figures: &Figures) {
        if self.leads {
            self.write(figures);
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Replaces the file; says so, once, if that fails.
    pub(super) fn write(&mut self, figures: &Figures) {
        self.render(figures);
        let written = std::fs::write(&self.partial, &self.text)
            .and_then(|()| std::fs::rename(&self.partial, &self.path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&self.partial);
            if !std::mem::replace(&mut self.complained, true) {
                eprintln!("warning: metrics cannot be written to {}: {error}", self.path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use testing::metrics::parse;

    use super::*;

    fn figures() -> Figures<'static> {
        Figures {
            up: true,
            phases: vec![("mesh", 1.5, false), ("so\"lve", 0.25, true)],
            seconds: 2.0,
            memory: 1 << 20,
            memory_peak: 1 << 21,
            user: 1.0,
            system: 0.5,
            room: Some(0.75),
            totals: Some((4, 1e9, 3e8, 12.5)),
            members: vec![
                Member { rank: 0, memory: 1 << 20, cpu: 1.5 },
                Member { rank: 12, memory: 3 << 20, cpu: 2.25 },
            ],
            host_peak: 1 << 30,
            ..Figures::default()
        }
    }

    fn metrics(path: &Path, rank: usize, case: &str) -> Metrics {
        Metrics::new(path, rank, case, "7", Members::new("node-1", &[]))
    }

    #[test]
    fn a_strict_reader_takes_the_text() {
        let mut metrics = metrics(Path::new("x.prom"), 0, "a \"case\"\\\nof two lines, with = and }");
        let samples = parse(metrics.render(&figures())).expect("parses");
        let value = |start: &str| {
            let matching: Vec<&(String, f64)> = samples.iter().filter(|s| s.0.starts_with(start)).collect();
            assert_eq!(matching.len(), 1, "{start}: {samples:?}");
            matching[0].1
        };
        assert_eq!((value("femdd_up{"), value("femdd_memory_bytes{")), (1.0, f64::from(1 << 20)));
        let phases: Vec<f64> =
            samples.iter().filter(|s| s.0.starts_with("femdd_phase{")).map(|s| s.1).collect();
        assert_eq!(phases, [0.0, 1.0]);
        assert_eq!(value("femdd_job_cpu_seconds_total{"), 12.5);
        for name in ["femdd_iterations{", "femdd_dofs{", "femdd_elapsed_seconds{", "femdd_stop_requested{"] {
            value(name);
        }
    }

    #[test]
    fn a_reader_never_sees_a_part() {
        let scratch = testing::Scratch::new();
        let path = scratch.path().join("run.prom");
        let mut metrics = metrics(&path, 0, "case");
        metrics.write(&figures());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || {
                for _ in 0..400 {
                    let text = std::fs::read_to_string(&path).expect("it is always there");
                    let samples = parse(&text).expect("a whole file");
                    assert!(samples.iter().any(|s| s.0.starts_with("femdd_job_cpu_seconds_total")));
                }
            }
        });
        while !reader.is_finished() {
            metrics.write(&figures());
        }
        reader.join().expect("reads");
        let names: Vec<_> = std::fs::read_dir(scratch.path()).expect("a directory").flatten().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
        // A directory that is not there is reported and does no harm.
        self::metrics(&scratch.path().join("nowhere/run.prom"), 0, "case").write(&figures());
    }

    #[test]
    fn each_rank_is_told_apart_while_the_run_goes_on() {
        let scratch = testing::Scratch::new();
        let path = scratch.path().join("run.prom");
        let own = scratch.path().join("run.rank12.prom");
        let (mut first, mut other) = (metrics(&path, 0, "case"), metrics(&path, 12, "case"));
        first.write(&figures());
        other.write(&figures());
        let read = |path: &Path| parse(&std::fs::read_to_string(path).expect("a file")).expect("parses");
        let labels = "case=\"case\",job=\"7\",host=\"node-1\"";
        let wanted = [
            (format!("femdd_rank_memory_bytes{{{labels},rank=\"0\"}}"), f64::from(1 << 20)),
            (format!("femdd_rank_memory_bytes{{{labels},rank=\"12\"}}"), f64::from(3 << 20)),
            (format!("femdd_rank_cpu_seconds_total{{{labels},rank=\"0\"}}"), 1.5),
            (format!("femdd_rank_cpu_seconds_total{{{labels},rank=\"12\"}}"), 2.25),
            (format!("femdd_host_memory_peak_bytes{{{labels}}}"), f64::from(1 << 30)),
        ];
        assert_eq!(read(&own), wanted, "of another host nothing but its own");
        assert!(wanted.iter().all(|sample| read(&path).contains(sample)));
        // At the end they make room for the totals.
        let over = Figures { up: false, ..figures() };
        first.end(&over);
        other.end(&over);
        assert!(!own.exists() && read(&path).iter().all(|s| !s.0.starts_with("femdd_rank_")));
        assert_eq!(beside(Path::new("/a.b/run"), 3), Path::new("/a.b/run.rank3"));
    }
}
