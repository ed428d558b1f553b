//! What this machine can do: memory, arithmetic, files and messages, measured in some seconds.
//!
//! Imports `output` (to store it). Start at [`calibrate`]; each rank is one thread.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cluster::Comm;
use cluster::place::Place;
use serde::{Deserialize, Serialize};

use crate::output::run_json;
use crate::run::{Kind, RunError};

use super::arithmetic;
use super::costs::Costs;
use super::measure::processor;

/// The version of the keys of `machine.json`.
pub const SCHEMA: u32 = 1;

/// A rate on one rank while the others rest, and of all ranks together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// One rank, a second.
    pub one: f64,
    /// All ranks together, a second.
    pub all: f64,
}

impl Rate {
    /// What `n` ranks or threads reach together: so many times one, at most what all reach.
    pub fn of(&self, n: usize) -> f64 {
        if n <= 1 { self.one } else { (self.one * n as f64).min(self.all.max(self.one)) }
    }
}

/// What messages cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Seconds of a message of 8 bytes from one rank to another.
    pub latency: f64,
    /// Bytes a second of messages of 4 MiB.
    pub bandwidth: f64,
    /// Seconds of a sum of one number over all ranks.
    pub allreduce: f64,
}

/// What a machine can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The processor's name.
    pub processor: String,
    /// How many ranks "all" are.
    pub ranks: usize,
    /// Bytes a second that `a[i] = b[i] + s c[i]` reads and writes, 24 an entry.
    pub triad: Rate,
    /// Bytes a second that a sum reads.
    pub read: Rate,
    /// Multiplications and additions in double precision a second.
    pub flops: Rate,
    /// Bytes a second that can be written to a file, which the system keeps in memory.
    pub file_write: Rate,
    /// Messages; `null` on one rank.
    pub messages: Option<Messages>,
    /// How many nodes the ranks were on: on several, messages are those between nodes.
    #[serde(default = "one_node")]
    pub nodes: usize,
    /// What phases of runs cost, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
}

fn one_node() -> usize {
    1
}

/// The bytes of the last level of cache, as the system says; 32 MiB where it does not.
fn last_cache() -> usize {
    let level = |k: usize| -> Option<usize> {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{k}/size");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok().map(|kib| kib << 10)
    };
    (0..8).filter_map(level).max().unwrap_or(32 << 20)
}

/// Bytes that may be taken for arrays: a quarter of what is available.
fn spare_memory() -> usize {
    match Place::find().memory.available {
        0 => 256 << 20,
        bytes => (bytes / 4) as usize,
    }
}

/// Entries of each of three arrays, so that all ranks' together are several times the cache.
fn array_length(ranks: usize) -> usize {
    let wanted = (4 * last_cache()).clamp(192 << 20, 2 << 30);
    (wanted.min(spare_memory()) / ranks / 24).max(1 << 16)
}

/// The least of several times.
fn least_seconds(rounds: usize, mut work: impl FnMut()) -> f64 {
    (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// How often each loop is timed.
const ROUNDS: usize = 5;

struct Arrays {
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
}

impl Arrays {
    /// All pages are touched.
    fn new(n: usize) -> Arrays {
        Arrays { a: vec![1.0; n], b: vec![2.0; n], c: vec![0.5; n] }
    }

    fn triad(&mut self) -> f64 {
        let seconds = least_seconds(ROUNDS, || {
            let s = std::hint::black_box(3.0);
            for ((a, b), c) in self.a.iter_mut().zip(&self.b).zip(&self.c) {
                *a = b + s * c;
            }
            std::hint::black_box(&mut self.a);
        });
        24.0 * self.a.len() as f64 / seconds
    }

    fn read(&self) -> f64 {
        let seconds = least_seconds(ROUNDS, || {
            let mut sums = [0.0; 32];
            for chunk in self.a.chunks_exact(32) {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum += x;
                }
            }
            std::hint::black_box(sums);
        });
        8.0 * self.a.len() as f64 / seconds
    }
}

/// Bytes a second into a file that is removed again.
fn write_file(path: &Path) -> std::io::Result<f64> {
    const PIECE: usize = 4 << 20;
    const PIECES: usize = 24;
    let piece = vec![7u8; PIECE];
    let written = (|| {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            let mut file = File::create(path)?;
            let begin = Instant::now();
            for _ in 0..PIECES {
                file.write_all(&piece)?;
            }
            best = best.min(begin.elapsed().as_secs_f64());
        }
        Ok(best)
    })();
    let _ = std::fs::remove_file(path);
    written.map(|seconds| (PIECE * PIECES) as f64 / seconds)
}

/// A rate measured on rank 0 alone, then on all ranks at once. Collective.
fn rate(comm: &Comm, mut work: impl FnMut() -> f64) -> Rate {
    comm.barrier();
    let alone = if comm.is_root() { work() } else { 0.0 };
    comm.barrier();
    let together = work();
    Rate { one: comm.max(alone), all: comm.sum(together) }
}

fn messages(comm: &Comm) -> Option<Messages> {
    let latency = comm.ping_pong(8, 2000);
    let long = comm.ping_pong(4 << 20, 20);
    let rounds = 2000;
    let sum = |n: usize| {
        for _ in 0..n {
            std::hint::black_box(comm.sum(1.0));
        }
    };
    sum(rounds / 10);
    let begin = Instant::now();
    sum(rounds);
    let allreduce = comm.max(begin.elapsed().as_secs_f64() / rounds as f64);
    let found = latency.zip(long).map(|(latency, long)| Messages {
        latency,
        bandwidth: (4 << 20) as f64 / long,
        allreduce,
    });
    comm.broadcast_value(0, Some(found))
}

/// Measures this machine; files are written into `folder`. Collective, the same result on every rank.
///
/// # Errors
/// A folder that cannot be written to.
pub fn calibrate(comm: &Comm, folder: &Path) -> Result<Machine, RunError> {
    let length = comm.min(array_length(comm.size()) as u64) as usize;
    let mut arrays = Arrays::new(length);
    let triad = rate(comm, || arrays.triad());
    let read = rate(comm, || arrays.read());
    drop(arrays);
    let flops = rate(comm, arithmetic::peak);
    let path = folder.join(format!(".femdd-calibrate-{}-{}", std::process::id(), comm.rank()));
    let mut failed: Option<String> = None;
    let file_write = rate(comm, || {
        write_file(&path).unwrap_or_else(|e| {
            failed = Some(format!("{} cannot be written: {e}", path.display()));
            f64::NAN
        })
    });
    let failure = failed.map(|message| RunError::new(Kind::Environment, "bench", message));
    comm.agree(failure.map_or(Ok(()), Err))?;
    let messages = messages(comm);
    let (schema, processor, ranks) = (SCHEMA, comm.broadcast_value(0, Some(processor())), comm.size());
    let nodes = ranks.div_ceil(comm.min(comm.ranks_on_node() as u64).max(1) as usize);
    Ok(Machine { schema, processor, ranks, triad, read, flops, file_write, messages, nodes, costs: None })
}

/// Where `machine.json` lies unless told otherwise: `~/.cache/femdd`, or below `XDG_CACHE_HOME`.
pub fn default_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("femdd").join("machine.json"))
}

/// The figures that `femdd bench calibrate` has left on this machine, if they can be read.
pub fn stored() -> Option<Machine> {
    default_path().and_then(|path| Machine::read(&path).ok())
}

impl Machine {
    /// Stores it, with the folder it goes to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        let fail = |what: String| RunError::new(Kind::Environment, "bench", what);
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            std::fs::create_dir_all(folder).map_err(|e| fail(format!("{}: {e}", folder.display())))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| fail(e.to_string()))? + "\n";
        Ok(run_json::write_file_atomic(path, text.as_bytes())?)
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// A file that is not there or holds something else.
    pub fn read(path: &Path) -> Result<Machine, RunError> {
        let bad = |what: String| {
            let message = format!("{} {what}: femdd bench calibrate makes it", path.display());
            RunError::new(Kind::Input, "bench", message)
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(format!("cannot be read ({e})")))?;
        let found: Machine =
            serde_json::from_str(&text).map_err(|e| bad(format!("is no description of a machine ({e})")))?;
        if found.schema != SCHEMA {
            return Err(bad(format!("is of schema {}, not {SCHEMA}", found.schema)));
        }
        Ok(found)
    }

    /// A table.
    pub fn text(&self) -> String {
        let giga = |x: f64| format!("{:8.2}", 1e-9 * x);
        let mut text = format!("{}\n{:22} {:>8} {:>8}\n", self.processor, "", "1 rank", "all");
        let rates = [
            ("memory triad, GB/s", self.triad),
            ("memory read, GB/s", self.read),
            ("arithmetic, GFlop/s", self.flops),
            ("file write, GB/s", self.file_write),
        ];
        for (name, rate) in rates {
            text += &format!("{name:22} {} {}\n", giga(rate.one), giga(rate.all));
        }
        match self.messages {
            None => text += "messages               one rank has none\n",
            Some(m) => {
                let micro = |s: f64| format!("{:17.2}", 1e6 * s);
                text += &format!("{:22} {}\n", "message, microseconds", micro(m.latency));
                text += &format!("{:22} {}\n", "sum over the ranks, us", micro(m.allreduce));
                text += &format!("{:22} {:17.2}\n", "messages, GB/s", 1e-9 * m.bandwidth);
            }
        }
        text + &format!("all: {} ranks\n", self.ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_ranks_reach_less_than_all() {
        let rate = Rate { one: 10.0, all: 25.0 };
        assert_eq!([1, 2, 3, 64].map(|n| rate.of(n)), [10.0, 20.0, 25.0, 25.0]);
    }

    #[test]
    fn loops_do_what_they_are_timed_for() {
        let mut arrays = Arrays::new(1 << 12);
        assert!(arrays.triad() > 0.0 && arrays.a.iter().all(|&a| a == 3.5));
        assert!(arrays.read() > 0.0);
    }
}
