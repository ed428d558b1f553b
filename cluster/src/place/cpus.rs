//! Processors: the cores of a host, and those that this process may use.
//!
//! Imports its siblings `source` and `cgroup`. Start at [`Cpus::find`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::source::Source;

/// The processors of a host and this process's part of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cpus {
    /// The processor's name.
    pub model: String,
    /// Physical cores of the host.
    pub host_cores: usize,
    /// Hardware threads of the host.
    pub host_threads: usize,
    /// Parts of the memory with processors of their own.
    pub numa_nodes: usize,
    /// Hardware threads that this process may run on, in order.
    pub allowed: Vec<u32>,
    /// The physical cores of these, each by its first hardware thread, in order.
    pub cores: Vec<u32>,
    /// Processors' worth of time that the control group gives, to all in it together.
    pub quota: Option<f64>,
}

/// Numbers and ranges of them: `0-3,8,10-11`. What is no number is left out.
pub fn parse_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            // A host has no more than some thousands.
            cpus.extend(first..=last.min(first.saturating_add(1 << 16)));
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// The first hardware thread of each one's core. A thread of which the system says nothing is a core.
fn core_of(source: &dyn Source, online: &[u32]) -> BTreeMap<u32, u32> {
    let mut cores = BTreeMap::new();
    for &cpu in online {
        if cores.contains_key(&cpu) {
            continue;
        }
        let at = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        let text = ["core_cpus_list", "thread_siblings_list"]
            .iter()
            .find_map(|name| source.text(&format!("{at}/{name}")));
        let siblings = text.map(|text| parse_list(&text)).filter(|list| list.contains(&cpu));
        let siblings = siblings.unwrap_or_else(|| vec![cpu]);
        let first = siblings[0];
        for cpu in siblings {
            cores.entry(cpu).or_insert(first);
        }
    }
    cores
}

/// The processor's name in the text of `/proc/cpuinfo`.
fn model(text: &str) -> Option<String> {
    let known = ["model name", "cpu model", "Processor", "cpu"];
    known.iter().find_map(|key| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == *key))?;
        Some(line.split_once(':')?.1.trim().to_owned()).filter(|name| !name.is_empty())
    })
}

/// The processor's name.
pub(super) fn name(source: &dyn Source) -> Option<String> {
    source.head("/proc/cpuinfo").as_deref().and_then(model)
}

impl Cpus {
    /// The processors of this process.
    pub fn find(source: &dyn Source, groups: &Cgroups) -> Cpus {
        let affinity = source.affinity();
        let online = source.text("/sys/devices/system/cpu/online").map(|text| parse_list(&text));
        let online = online.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| affinity.clone());
        let online = if online.is_empty() { vec![0] } else { online };
        let core_of = core_of(source, &online);
        let mut allowed: Vec<u32> = affinity.into_iter().filter(|cpu| online.contains(cpu)).collect();
        if allowed.is_empty() {
            allowed.clone_from(&online);
        }
        let distinct = |cpus: &[u32]| {
            let mut cores: Vec<u32> =
                cpus.iter().map(|cpu| core_of.get(cpu).copied().unwrap_or(*cpu)).collect();
            cores.sort_unstable();
            cores.dedup();
            cores
        };
        let numa = source.names("/sys/devices/system/node");
        let numa = numa.iter().filter(|n| n.strip_prefix("node").is_some_and(|k| k.parse::<u32>().is_ok()));
        Cpus {
            model: name(source).unwrap_or_default(),
            host_cores: distinct(&online).len(),
            host_threads: online.len(),
            numa_nodes: numa.count().max(1),
            cores: distinct(&allowed),
            allowed,
            quota: groups.cpu_quota(source),
        }
    }

    /// The cores that this process alone could keep busy: those it may run on, and no more than its quota.
    pub fn usable(&self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |quota| quota as usize);
        self.cores.len().min(quota).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    /// Two sockets of two cores with two hardware threads each, numbered as Linux does on most servers.
    fn server() -> Stored {
        let mut machine = Stored::default()
            .file("/sys/devices/system/cpu/online", "0-7\n")
            .file("/sys/devices/system/node/node0/cpulist", "0-1,4-5")
            .file("/sys/devices/system/node/node1/cpulist", "2-3,6-7")
            .file("/sys/devices/system/node/possible", "0-1")
            .file("/proc/cpuinfo", "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2 GHz\n");
        for cpu in 0..8u32 {
            let list = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
            machine =
                machine.file(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"), &list);
        }
        machine
    }

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        let cpus = |machine: Stored| Cpus::find(&machine, &Cgroups::default());
        let all = cpus(server().on(&[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!((all.host_cores, all.host_threads, all.numa_nodes, all.usable()), (4, 8, 2, 4));
        assert_eq!(all.model, "Some CPU @ 2 GHz");
        // Bound to one core with both its threads; to one thread each of two cores.
        let bound = cpus(server().on(&[1, 5]));
        assert_eq!((bound.cores.clone(), bound.usable(), bound.host_cores), (vec![1], 1, 4));
        assert_eq!(cpus(server().on(&[0, 6])).cores, [0, 2]);
        let quota = Cpus { quota: Some(2.5), ..all.clone() };
        assert_eq!((quota.usable(), Cpus { quota: Some(0.2), ..all }.usable()), (2, 1));
    }

    #[test]
    fn a_machine_that_says_nothing_has_what_it_may_run_on() {
        let cpus = Cpus::find(&Stored::default().on(&[3, 9]), &Cgroups::default());
        assert_eq!((cpus.host_cores, cpus.usable(), cpus.numa_nodes), (2, 2, 1));
        assert_eq!(Cpus::find(&Stored::default(), &Cgroups::default()).usable(), 1);
    }

    #[test]
    fn this_machine_has_a_core() {
        let source = super::super::Here;
        let cpus = Cpus::find(&source, &Cgroups::find(&source));
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(cpus.usable() >= 1 && cpus.cores.len() <= cpus.allowed.len());
        assert!(allowed <= cpus.allowed.len(), "{allowed} of {cpus:?}");
        assert!(cpus.allowed.len() <= cpus.host_threads && cpus.host_cores <= cpus.host_threads);
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_list(" 5 "), [5]);
        assert_eq!(parse_list(""), [0; 0]);
        assert_eq!(parse_list("3-1,x,2"), [2]);
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_read(text in "[0-9,\\- x]{0,30}") {
            let list = parse_list(&text);
            proptest::prop_assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn a_written_list_reads_back(mut cpus in proptest::collection::vec(0u32..2000, 0..50)) {
            let text: Vec<String> = cpus.iter().map(u32::to_string).collect();
            cpus.sort_unstable();
            cpus.dedup();
            proptest::prop_assert_eq!(parse_list(&text.join(",")), cpus);
        }
    }
}
