//! What the tests of all crates share: scratch directories, and programs run with a time limit, most of them under
//! `mpirun`.
//!
//! Imports no other crate of the workspace, and only tests and benchmarks import it. Start at [`this_program`] or
//! [`this_test`], which start the test under `mpirun` that calls them, and [`finish`], which waits for what they
//! started.
#![deny(missing_docs)]

pub mod metrics;

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A directory of its own, removed when dropped.
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Scratch {
    /// A fresh, empty one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("femdd-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("writes a file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command came to.
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long it took.
    pub wall: Duration,
    /// Whether it was stopped at the time limit.
    pub timed_out: bool,
}

impl Ended {
    /// The exit code, 128 + signal for one that was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Whether it ended by itself, and well.
    pub fn succeeded(&self) -> bool {
        !self.timed_out && self.status.success()
    }

    /// Both streams, for messages of tests.
    pub fn text(&self) -> String {
        let ended = if self.timed_out { "stopped at the time limit, " } else { "" };
        format!("{ended}exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code(), self.stdout, self.stderr)
    }
}

/// Makes room for many small jobs at once on few cores: ranks are not pinned to the same cores, waiting ones do not
/// spin, and none starts a BLAS thread for each core. Where containers forbid it, ranks do not read each other's
/// memory.
pub fn crowded(command: &mut Command) -> &mut Command {
    command
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        .env("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMP_NUM_THREADS", "1")
        .env("OPENBLAS_NUM_THREADS", "1")
}

/// What MPI leaves in the environment of a process that it runs in: another test of this program may have started it.
const LAUNCHED: [&str; 12] = [
    "PMIX_",
    "PMI_",
    "ORTE_",
    "OMPI_APP",
    "OMPI_ARGV",
    "OMPI_COMM_",
    "OMPI_FI",
    "OMPI_NUM_",
    "OMPI_UNIVERSE",
    "OMPI_MCA_ess",
    "OMPI_MCA_orte_",
    "OMPI_MCA_initial_wdir",
];

/// A command's program and environment under `mpirun`, without its arguments. Open MPI keeps its files in a directory
/// that no other has: of those that share one, who ends removes it under who starts.
pub fn under_mpirun(command: &Command, ranks: usize) -> Command {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut launcher = Command::new("mpirun");
    for (name, _) in std::env::vars_os() {
        if LAUNCHED.iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
            launcher.env_remove(name);
        }
    }
    let own = format!("ompi.test.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    launcher.env("OMPI_MCA_orte_top_session_dir", std::env::temp_dir().join(own));
    crowded(&mut launcher).args(["--oversubscribe", "-n", &ranks.to_string()]).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher
}

/// The program that runs, under `mpirun`: for tests with a harness of their own.
///
/// # Panics
/// When the program does not know its path.
pub fn this_program(ranks: usize) -> Command {
    under_mpirun(&Command::new(std::env::current_exe().expect("this program has a path")), ranks)
}

/// One test of the program that runs, by its full name, under `mpirun`.
///
/// # Panics
/// When the program does not know its path.
pub fn this_test(test: &str, ranks: usize) -> Command {
    let mut command = this_program(ranks);
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Set in a test that [`figures_of`] has started.
const INSIDE: &str = "FEMDD_TEST_UNDER_MPIRUN";

/// What stands before the figures that a test tells.
const FIGURES: &str = "figures:";

/// Whether [`figures_of`] has started this process.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Tells [`figures_of`] what came of it: for one of the ranks.
pub fn tell(figures: &[u64]) {
    println!("\n{FIGURES} {figures:?}");
}

/// What one test of the program that runs tells on so many ranks, with that many threads each.
///
/// # Panics
/// When it fails, or has not ended within the limit.
pub fn figures_of(test: &str, ranks: usize, threads: usize, limit: Duration) -> Vec<u64> {
    let mut command = this_test(test, ranks);
    command.env(INSIDE, "1").env("RAYON_NUM_THREADS", threads.to_string());
    let ended = finish(command, limit);
    assert!(ended.succeeded(), "{test} on {ranks} ranks:\n{}", ended.text());
    let line = ended.stdout.lines().find_map(|line| line.strip_prefix(FIGURES)).expect("figures");
    let figures = line.trim().trim_matches(['[', ']']).split(", ").filter(|f| !f.is_empty());
    figures.map(|f| f.parse().expect("a number")).collect()
}

/// Runs a command to its end or to the time limit, when all its process group is stopped.
///
/// # Panics
/// When the program cannot be started.
pub fn finish(mut command: Command, limit: Duration) -> Ended {
    let scratch = Scratch::new();
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file for output"))
        .stderr(File::create(&err).expect("a file for errors"))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|e| panic!("{} starts: {e}", command.get_program().display()));
    let (status, timed_out) = wait(&mut child, limit);
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    Ended { status, stdout: read(&out), stderr: read(&err), wall: begin.elapsed(), timed_out }
}

fn wait(child: &mut Child, limit: Duration) -> (ExitStatus, bool) {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut stopped = 0;
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return (status, stopped > 0);
        }
        // mpirun passes the first signal on to its ranks; the second cannot be ignored.
        let group = -(child.id() as i32);
        if stopped == 0 && begin.elapsed() > limit {
            // SAFETY: signals the group this function's caller started.
            unsafe { libc::kill(group, libc::SIGTERM) };
            stopped = 1;
        } else if stopped == 1 && begin.elapsed() > limit + Duration::from_secs(5) {
            // SAFETY: as above.
            unsafe { libc::kill(group, libc::SIGKILL) };
            stopped = 2;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_is_known_by_what_it_says_and_its_code() {
        let ended = finish(shell("echo out; echo err >&2; exit 3"), Duration::from_secs(20));
        assert_eq!((ended.code(), ended.timed_out, ended.succeeded()), (3, false, false));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert!(finish(shell("true"), Duration::from_secs(20)).succeeded());
    }

    #[test]
    fn what_hangs_is_stopped_with_all_that_it_started() {
        let scratch = Scratch::new();
        let file = scratch.path().join("pid");
        let script = format!("sleep 100 & echo $! > {}; wait", file.display());
        let ended = finish(shell(&script), Duration::from_millis(500));
        assert!(ended.timed_out && !ended.succeeded());
        let pid = std::fs::read_to_string(file).expect("a process was started");
        let begin = Instant::now();
        while Path::new("/proc").join(pid.trim()).join("cmdline").exists()
            && std::fs::read(Path::new("/proc").join(pid.trim()).join("cmdline")).is_ok_and(|c| !c.is_empty())
        {
            assert!(begin.elapsed() < Duration::from_secs(10), "{pid} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_scratch_directory_goes_with_its_value() {
        let scratch = Scratch::new();
        let other = Scratch::new();
        let path = scratch.write("a", "text");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "text");
        assert!(!other.path().join("a").exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
