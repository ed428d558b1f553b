//! Where a job runs: processors, memory and their limits, GPUs, network, launcher and scheduler.
//!
//! Imports `comm`. Start at [`Place::find`], what one process sees; [`Machine::gather`] puts that of all ranks
//! together, and [`Machine::advise`] says what is wrong with it. What is read is kept apart from how it is read
//! ([`Source`]), so that texts of other machines can be tried.

mod advice;
mod cgroup;
mod cpus;
mod gpus;
mod launcher;
mod machine;
mod memory;
mod scheduler;
mod source;

pub use cgroup::Cgroups;
pub(crate) use cgroup::held;
pub use cpus::{Cpus, parse_list};
pub use gpus::Gpus;
pub use launcher::{Launcher, Network};
pub use machine::{Extent, HOSTS_LISTED, Host, Machine};
pub use memory::{Memory, kibibytes};
pub use scheduler::{Allocation, Scheduler, Step};
pub use source::{Here, Source};

/// Where one process runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Place {
    /// The name of its host.
    pub host: String,
    /// Its processors.
    pub cpus: Cpus,
    /// Its memory.
    pub memory: Memory,
    /// Its GPUs.
    pub gpus: Gpus,
    /// Who started it.
    pub launcher: Launcher,
    /// The batch job it belongs to.
    pub scheduler: Option<Scheduler>,
    /// What carries its messages.
    pub network: Network,
    /// Its control groups.
    pub cgroups: Cgroups,
}

impl Place {
    /// Where this process runs. Not collective.
    pub fn find() -> Place {
        Place::from(&Here)
    }

    /// Where the process of a source runs.
    pub fn from(source: &dyn Source) -> Place {
        let cgroups = Cgroups::find(source);
        Place {
            host: source.host(),
            cpus: Cpus::find(source, &cgroups),
            memory: Memory::find(source, &cgroups),
            gpus: Gpus::find(source),
            launcher: Launcher::find(source),
            scheduler: Scheduler::find(source),
            network: Network::find(source),
            cgroups,
        }
    }
}

/// The physical cores that this process alone could keep busy. Not collective.
pub fn usable_cores() -> usize {
    Cpus::find(&Here, &Cgroups::find(&Here)).usable()
}

/// The processor's name. Not collective.
pub fn processor() -> Option<String> {
    cpus::name(&Here)
}

/// Bytes of a size such as `2GiB`, `1.5 GB`, `512M` or `1000000`: `KiB` and `K` are 1024 bytes, `kB` is 1000. `None`
/// for what is no size above 0.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let mut letters = unit.chars();
    let power = match letters.next().map(|c| c.to_ascii_uppercase()) {
        None => 0,
        Some('B') if unit.len() == 1 => 0,
        Some(letter) => 1 + ['K', 'M', 'G', 'T', 'P'].iter().position(|&known| known == letter)? as i32,
    };
    let base: f64 = match (power, letters.as_str()) {
        (_, "" | "iB" | "ib") => 1024.0,
        (_, "B" | "b") => 1000.0,
        _ => return None,
    };
    let bytes = number.trim().parse::<f64>().ok()? * base.powi(power);
    // Up to 2^62, which no machine has.
    (1.0..4.6e18).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let known =
            [("2GiB", 2 << 30), ("1.5 GB", 1_500_000_000), ("512M", 512 << 20), ("77", 77), ("3 kB", 3000)];
        for (text, size) in known {
            assert_eq!(parse_bytes(text), Some(size), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "0", "2 apples", "1e30 TiB", "inf", "NaN", "2GiBs", "B", "1BB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(parse_bytes("5B"), Some(5));
    }

    #[test]
    fn this_process_is_somewhere() {
        let place = Place::find();
        assert!(!place.host.is_empty() && place.cpus.usable() == usable_cores(), "{place:?}");
    }
}
