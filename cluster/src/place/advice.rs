//! What is wrong with how ranks and threads are laid out on a machine, and what to do about it.
//!
//! Imports its sibling `machine`. Start at [`Machine::advise`].

use super::machine::Machine;
use crate::words::bytes;

impl Machine {
    /// Warnings, and notes on what was asked for on purpose, for a run with that many threads a rank.
    pub fn advise(&self, threads: usize) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut notes) = (Vec::new(), Vec::new());
        let full = &self.fullest;
        let (threads, wanted) = (threads as u64, full.ranks * threads as u64);
        let (ranks, name) = (count(full.ranks, "rank"), &full.name);
        // The host has cores enough, the ranks were not given them.
        let stacked = self.sharing_their_core > 0 && wanted <= full.host_cores;
        if threads > 1 && self.bound_to_one_core > 0 && wanted <= full.host_cores {
            warnings.push(format!(
                "{} bound to a single core, on which {threads} threads take turns; {}",
                are(self.bound_to_one_core),
                self.binding(threads)
            ));
        } else if wanted > full.cores && !stacked {
            let each = count(threads, "thread");
            let mut text = format!("{ranks} of {each} on {} of host {name}", count(full.cores, "core"));
            if wanted <= full.hardware_threads {
                text += &format!(
                    ": its {} hardware threads are two or more to a core and share its arithmetic units",
                    full.hardware_threads
                );
            } else {
                text += ": cores are shared, and every rank waits for the slowest";
            }
            let fit = full.cores / full.ranks.max(1);
            text += &match fit {
                _ if threads > 1 && fit > 0 => format!("; use --threads {fit}"),
                _ => format!("; start at most {} here, or take more hosts", count(full.cores, "rank")),
            };
            // More ranks than cores because somebody said so is no news.
            let meant = self.launcher.oversubscribe && full.ranks > full.cores;
            if meant { notes.push(text) } else { warnings.push(text) }
        }
        if stacked {
            let text = format!(
                "{} bound to a core that another rank is bound to as well; {}",
                are(self.sharing_their_core),
                self.binding(threads)
            );
            if self.launcher.oversubscribe { notes.push(text) } else { warnings.push(text) }
        }
        self.unlike_hosts(&mut warnings);
        (warnings, notes)
    }

    /// How to start ranks with cores of their own.
    fn binding(&self, threads: u64) -> String {
        match self.launcher.kind.as_str() {
            "srun" => format!("start them with srun --cpus-per-task={threads} --cpu-bind=cores"),
            "hydra" => format!("start them with mpiexec -bind-to core:{threads}"),
            _ => format!("start them with mpirun --bind-to core --map-by slot:PE={threads}"),
        }
    }

    /// Hosts that differ by a factor of two leave the larger ones idle: every rank gets an equal part.
    fn unlike_hosts(&self, warnings: &mut Vec<String>) {
        let (cores, memory, ranks) = (self.cores_per_host, self.memory_limit_per_host, self.ranks_per_host);
        let work = |cores: u64, ranks: u64| cores as f64 / ranks.max(1) as f64;
        // As many ranks on a host of twice the cores: half of it has nothing to do.
        if ranks.min == ranks.max && work(cores.max, ranks.max) >= 2.0 * work(cores.min, ranks.min) {
            warnings.push(format!(
                "hosts differ: {} to {} cores for the same number of ranks; ask for hosts of one kind, or for \
                 ranks in proportion to their cores",
                cores.min, cores.max
            ));
        }
        if memory.min > 0 && memory.max >= 2 * memory.min {
            warnings.push(format!(
                "hosts differ: {} to {} of memory; the smallest decides how large a case fits",
                bytes(memory.min),
                bytes(memory.max)
            ));
        }
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn are(ranks: u64) -> String {
    format!("{} {}", count(ranks, "rank"), if ranks == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Extent, Host};
    use super::*;

    /// A host of 8 cores with two hardware threads each, with so many ranks.
    fn machine(ranks: u64) -> Machine {
        let host = Host {
            name: "n1".into(),
            ranks,
            cores: 8,
            hardware_threads: 16,
            host_cores: 8,
            ..Host::default()
        };
        let one = |n| Extent { min: n, max: n };
        let mut machine = Machine {
            n_hosts: 1,
            ranks_per_host: one(ranks),
            cores_per_host: one(8),
            memory_limit_per_host: one(1 << 34),
            fullest: host,
            ..Machine::default()
        };
        machine.launcher.kind = "mpirun".into();
        machine
    }

    #[test]
    fn what_fits_is_not_remarked_upon() {
        for (ranks, threads) in [(1, 1), (1, 8), (8, 1), (4, 2), (2, 3)] {
            assert_eq!(machine(ranks).advise(threads), (vec![], vec![]), "{ranks} x {threads}");
        }
    }

    #[test]
    fn more_threads_than_cores_are_a_warning() {
        let (warnings, notes) = machine(4).advise(4);
        assert!(notes.is_empty() && warnings.len() == 1);
        assert!(warnings[0].contains("4 ranks of 4 threads on 8 cores of host n1"), "{warnings:?}");
        assert!(warnings[0].contains("16 hardware threads") && warnings[0].contains("--threads 2"));
        let (warnings, _) = machine(9).advise(1);
        assert!(warnings[0].contains("at most 8 ranks"), "{warnings:?}");
        let (warnings, _) = machine(40).advise(2);
        assert!(warnings[0].contains("cores are shared") && warnings[0].contains("at most 8 ranks"));
    }

    #[test]
    fn what_was_asked_for_is_a_note() {
        let mut many = machine(40);
        many.launcher.oversubscribe = true;
        let (warnings, notes) = many.advise(1);
        assert_eq!((warnings.len(), notes.len()), (0, 1));
        // Too many threads were not what --oversubscribe allowed.
        let mut threads = machine(4);
        threads.launcher.oversubscribe = true;
        assert_eq!(threads.advise(8).0.len(), 1);
    }

    #[test]
    fn bindings_are_looked_at() {
        let mut bound = machine(2);
        bound.bound_to_one_core = 2;
        bound.fullest.cores = 2;
        assert_eq!(bound.advise(1).0.len(), 0);
        let (warnings, _) = bound.advise(4);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("--bind-to core --map-by slot:PE=4")), "{warnings:?}");
        // No binding helps where the host has too few cores.
        let (warnings, _) = bound.advise(5);
        assert!(warnings.len() == 1 && warnings[0].contains("2 ranks of 5 threads"), "{warnings:?}");
        bound.launcher.kind = "srun".into();
        assert!(bound.advise(4).0.iter().any(|w| w.contains("--cpus-per-task=4 --cpu-bind=cores")));
        bound.sharing_their_core = 2;
        bound.fullest.cores = 1;
        let (warnings, _) = bound.advise(1);
        assert!(
            warnings.iter().any(|w| w.contains("2 ranks are bound to a core that another")),
            "{warnings:?}"
        );
    }

    #[test]
    fn unlike_hosts_are_a_warning() {
        let mut unlike = machine(4);
        unlike.cores_per_host = Extent { min: 4, max: 64 };
        unlike.memory_limit_per_host = Extent { min: 1 << 34, max: 1 << 36 };
        assert_eq!(unlike.advise(1).0.len(), 2);
        // Ranks in proportion.
        unlike.ranks_per_host = Extent { min: 4, max: 64 };
        assert_eq!(unlike.advise(1).0.len(), 1);
    }
}
