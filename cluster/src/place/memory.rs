//! Memory: what a host has, and what this process and its neighbours may take of it.
//!
//! Imports its siblings `source` and `cgroup`. Start at [`Memory::find`].

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::source::Source;

/// The memory of a host and its limits, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Of the host.
    pub total: u64,
    /// What of it was free for programs when asked.
    pub available: u64,
    /// The control group's limit, for all processes in it together.
    pub cgroup: Option<u64>,
    /// The group that has this limit, as a directory.
    pub cgroup_directory: Option<String>,
    /// What the scheduler gave the job on this host.
    pub scheduler: Option<u64>,
    /// Address space of this process alone (`ulimit -v`).
    pub address_space: Option<u64>,
}

/// Bytes of a line "MemTotal:  123 kB" of a table of the system, by the name in it.
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes of memory of the job on this host as SLURM says: in units of 2^20, 0 for all there is.
fn slurm(source: &dyn Source) -> Option<u64> {
    let per_node = source.count("SLURM_MEM_PER_NODE");
    let per_cpu = || {
        let cpus = source.count("SLURM_CPUS_ON_NODE").or_else(|| source.count("SLURM_CPUS_PER_TASK"))?;
        Some(source.count("SLURM_MEM_PER_CPU")?.saturating_mul(cpus))
    };
    per_node.or_else(per_cpu).filter(|&mebi| mebi > 0).map(|mebi| mebi.saturating_mul(1 << 20))
}

impl Memory {
    /// The memory of this process.
    pub fn find(source: &dyn Source, groups: &Cgroups) -> Memory {
        let table = source.text("/proc/meminfo").unwrap_or_default();
        let total = kibibytes(&table, "MemTotal").unwrap_or(0);
        let limited = groups.memory_limit(source).filter(|&(bytes, _)| total == 0 || bytes < total);
        Memory {
            total,
            available: kibibytes(&table, "MemAvailable").unwrap_or(total),
            cgroup: limited.map(|limit| limit.0),
            cgroup_directory: limited.map(|limit| limit.1.to_owned()),
            scheduler: slurm(source).filter(|&bytes| total == 0 || bytes < total),
            address_space: source.address_space(),
        }
    }

    /// What the processes of a job on this host may take together: the least of the host's memory, the control
    /// group's limit and the scheduler's; 0 where nothing is known.
    pub fn on_host(&self) -> u64 {
        let known = [Some(self.total).filter(|&total| total > 0), self.cgroup, self.scheduler];
        known.into_iter().flatten().min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    fn host() -> Stored {
        Stored::default().file(
            "/proc/meminfo",
            "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n",
        )
    }

    #[test]
    fn the_least_limit_holds() {
        let find = |machine: &Stored| Memory::find(machine, &Cgroups::find(machine));
        let memory = find(&host());
        assert_eq!((memory.on_host(), memory.available), (16 << 30, 8 << 30));
        let memory = find(&host().set("SLURM_MEM_PER_NODE", "2048"));
        assert_eq!((memory.scheduler, memory.on_host()), (Some(2 << 30), 2 << 30));
        let memory = find(&host().set("SLURM_MEM_PER_CPU", "1024").set("SLURM_CPUS_ON_NODE", "4"));
        assert_eq!(memory.on_host(), 4 << 30);
        // `--mem=0` is all of the node's; a number in words is none.
        for text in ["0", "all", "", "99999999999999999999"] {
            assert_eq!(find(&host().set("SLURM_MEM_PER_NODE", text)).on_host(), 16 << 30, "{text}");
        }
        let grouped = host()
            .file("/proc/self/cgroup", "0::/a\n")
            .file("/proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n")
            .file("/cg/a/memory.max", "1073741824\n");
        let memory = find(&grouped.set("SLURM_MEM_PER_NODE", "2048"));
        assert_eq!((memory.on_host(), memory.cgroup_directory.as_deref()), (1 << 30, Some("/cg/a")));
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::find(&super::super::Here, &Cgroups::find(&super::super::Here));
        assert!(memory.on_host() > 1 << 26 && memory.available <= memory.total, "{memory:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_table_is_a_panic(text in "(MemTotal:)?.{0,60}") {
            kibibytes(&text, "MemTotal");
        }
    }
}
