//! The hosts of all ranks together: what `machine` in `run.json` says.
//!
//! Imports `comm` and its siblings. Start at [`Machine::gather`]. Ranks of a host speak among themselves; then one
//! rank a host speaks for it. Nothing grows with the ranks, and hosts beyond [`HOSTS_LISTED`] are only counted.

use serde::{Deserialize, Serialize};

use super::{Launcher, Network, Place, Scheduler};
use crate::comm::Comm;
use crate::names::hash;

/// Hosts that are listed one by one.
pub const HOSTS_LISTED: usize = 64;

/// The least and the most of something over hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extent {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// One host and the job's part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Ranks on it.
    pub ranks: u64,
    /// Physical cores that some rank may use.
    pub cores: u64,
    /// Hardware threads that some rank may use.
    pub hardware_threads: u64,
    /// All its physical cores.
    pub host_cores: u64,
    /// Parts of its memory with processors of their own.
    pub numa_nodes: u64,
    /// Bytes that its ranks may take together.
    pub memory_limit: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs that some rank may use.
    pub gpus: u64,
}

/// The machine of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Hosts.
    pub n_hosts: u64,
    /// Ranks on each.
    pub ranks_per_host: Extent,
    /// Physical cores on each that ranks may use.
    pub cores_per_host: Extent,
    /// Bytes that the ranks of each may take together.
    pub memory_limit_per_host: Extent,
    /// Physical cores that ranks may use, over all hosts.
    pub cores: u64,
    /// Bytes that ranks may take, over all hosts.
    pub memory_limit: u64,
    /// GPUs that ranks may use, over all hosts.
    pub gpus: u64,
    /// The names of the GPUs of rank 0's host.
    pub gpu_names: Vec<String>,
    /// The processor of rank 0's host.
    pub processor: String,
    /// Cores that the ranks of a host leave each of them, at the least; 1 where they are more than the cores.
    pub cores_per_rank: u64,
    /// Ranks that are bound to one core though their host has more.
    pub bound_to_one_core: u64,
    /// Ranks whose only core is another rank's too.
    pub sharing_their_core: u64,
    /// The host with the most ranks for its cores.
    pub fullest: Host,
    /// Who started the ranks.
    pub launcher: Launcher,
    /// The batch job.
    pub scheduler: Option<Scheduler>,
    /// What carries messages.
    pub network: Network,
    /// Threads of each rank.
    pub threads: u64,
    /// What is wrong with how ranks and threads are laid out.
    pub warnings: Vec<String>,
    /// What would be wrong had it not been asked for.
    pub notes: Vec<String>,
    /// The hosts, if there are at most [`HOSTS_LISTED`].
    pub hosts: Vec<Host>,
}

/// What the ranks of one host find out together.
struct Together {
    ranks: u64,
    /// Cores and hardware threads that some rank may use.
    cores: u64,
    hardware_threads: u64,
    /// Cores for this rank if those that several may use are dealt out evenly.
    share: f64,
    /// Whether this rank is bound to one core, and whether another rank is bound to the same.
    bound: bool,
    stacked: bool,
    memory_limit: u64,
    gpus: u64,
}

/// What ranks of one host have in common. Collective over `node`.
fn together(node: &Comm, place: &Place) -> Together {
    let (cpus, memory) = (&place.cpus, &place.memory);
    let ranks = node.size() as u64;
    let highest = cpus.allowed.iter().chain(&cpus.cores).max().map_or(0, |&cpu| cpu + 1);
    let width = node.max(highest) as usize;
    // By hardware thread: ranks that may use it; by core: ranks that may use it, and those with no other.
    let mut users = vec![0u32; 3 * width.max(1)];
    let alone = cpus.cores.len() == 1;
    cpus.allowed.iter().for_each(|&cpu| users[cpu as usize] = 1);
    for &core in &cpus.cores {
        users[width + core as usize] = 1;
        users[2 * width + core as usize] = u32::from(alone);
    }
    node.sum_slice(&mut users);
    let used = |from: usize| users[from..from + width].iter().filter(|&&n| n > 0).count() as u64;
    let share: f64 =
        cpus.cores.iter().map(|&core| 1.0 / f64::from(users[width + core as usize].max(1))).sum();
    let bound = alone && cpus.host_cores > 1;
    let stacked = bound && cpus.cores.iter().any(|&core| users[2 * width + core as usize] > 1);
    // A quota or a limit is of a group: that of all ranks here, or of each by itself.
    let same = |key: &str| {
        let mine = hash(key);
        node.min(mine) == node.max(mine)
    };
    let (shares_cpus, shares_memory) = (same(place.cgroups.key(false)), same(place.cgroups.key(true)));
    let quota = cpus.quota.map_or(f64::INFINITY, |q| if shares_cpus { q / ranks as f64 } else { q });
    let of_groups = memory.cgroup.unwrap_or(u64::MAX);
    let of_groups = if shares_memory {
        node.min(of_groups)
    } else {
        // Sums of no limits are no limit.
        node.sum(of_groups.min(u64::MAX / ranks))
    };
    let known = [memory.total, of_groups, memory.scheduler.unwrap_or(u64::MAX)];
    let limit = known.into_iter().filter(|&bytes| bytes > 0).min().unwrap_or(0);
    Together {
        ranks,
        cores: used(width),
        hardware_threads: used(0),
        share: share.min(quota),
        bound,
        stacked,
        memory_limit: node.min(limit),
        gpus: node.max(place.gpus.usable as u64),
    }
}

impl Machine {
    /// With so many threads a rank, and what is to be said about that.
    pub fn with_threads(mut self, threads: usize) -> Machine {
        self.threads = threads as u64;
        (self.warnings, self.notes) = self.advise(threads);
        self
    }

    /// Puts together where all ranks run. Collective; the same on every rank.
    pub fn gather(comm: &Comm, place: &Place) -> Machine {
        let node = comm.on_node();
        let here = together(&node, place);
        let mut counts = [u64::from(here.bound), u64::from(here.stacked)];
        comm.sum_slice(&mut counts);
        // Rounding of a sum of shares must not cost a core.
        let cores_per_rank = comm.min(((here.share + 1e-6) as u64).max(1));
        let speaks = node.is_root();
        let speakers = comm.split(i32::from(!speaks), comm.rank() as i32);
        let mut machine = None;
        if speaks {
            let mut found = among_hosts(&speakers, place, &here);
            found.bound_to_one_core = counts[0];
            found.sharing_their_core = counts[1];
            found.cores_per_rank = cores_per_rank;
            machine = Some(found);
        }
        comm.broadcast_value(0, machine)
    }
}

/// What one rank a host finds out for it; complete on rank 0. Collective over `speakers`.
fn among_hosts(speakers: &Comm, place: &Place, here: &Together) -> Machine {
    let host = Host {
        name: place.host.clone(),
        ranks: here.ranks,
        cores: here.cores,
        hardware_threads: here.hardware_threads,
        host_cores: place.cpus.host_cores as u64,
        numa_nodes: place.cpus.numa_nodes as u64,
        memory_limit: here.memory_limit,
        memory: place.memory.total,
        gpus: here.gpus,
    };
    let each = [host.ranks, host.cores, host.memory_limit];
    let (mut least, mut most) = (each, each);
    let mut sums = [host.cores, host.memory_limit, host.gpus];
    speakers.min_slice(&mut least);
    speakers.max_slice(&mut most);
    speakers.sum_slice(&mut sums);
    let extent = |k: usize| Extent { min: least[k], max: most[k] };
    let load = host.ranks * 1_000_000 / host.cores.max(1);
    let fullest = if speakers.max(load) == load { speakers.rank() as u64 } else { u64::MAX };
    let fullest = speakers.min(fullest) as usize;
    let fullest = speakers.broadcast_value(fullest, (speakers.rank() == fullest).then(|| host.clone()));
    let n_hosts = speakers.size();
    let mut hosts = Vec::new();
    if n_hosts <= HOSTS_LISTED {
        let row = serde_json::to_vec(&host).expect("a description serialises");
        if let Some((rows, offsets)) = speakers.gather_varied(0, &row) {
            let read = |pair: &[usize]| serde_json::from_slice(&rows[pair[0]..pair[1]]);
            hosts = offsets.windows(2).map(|pair| read(pair).expect("what a host sent reads back")).collect();
        }
    }
    Machine {
        n_hosts: n_hosts as u64,
        ranks_per_host: extent(0),
        cores_per_host: extent(1),
        memory_limit_per_host: extent(2),
        cores: sums[0],
        memory_limit: sums[1],
        gpus: sums[2],
        gpu_names: place.gpus.names.clone(),
        processor: place.cpus.model.clone(),
        fullest,
        launcher: place.launcher.clone(),
        scheduler: place.scheduler.clone(),
        network: place.network.clone(),
        hosts,
        ..Machine::default()
    }
}
