//! Graphics processors that this process may use, as far as files and variables tell.
//!
//! Imports its sibling `source`. Start at [`Gpus::find`].

use serde::{Deserialize, Serialize};

use super::source::Source;

/// The GPUs of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gpus {
    /// NVIDIA's on this host.
    pub nvidia: usize,
    /// AMD's on this host.
    pub amd: usize,
    /// Those of them that this process may use.
    pub usable: usize,
    /// Their names, where the driver gives them.
    pub names: Vec<String>,
}

/// How many devices a list such as `0,1,GPU-ab12` names; like the driver's own reading, it ends at the first word
/// that is none (`-1`, `NoDevFiles`).
fn listed(list: &str) -> usize {
    let words = list.split(',').map(str::trim);
    words.take_while(|w| w.parse::<u32>().is_ok() || w.starts_with("GPU-") || w.starts_with("MIG-")).count()
}

impl Gpus {
    /// Those of this process.
    pub fn find(source: &dyn Source) -> Gpus {
        let devices = source.names("/dev");
        let of_device =
            devices.iter().filter(|n| n.strip_prefix("nvidia").is_some_and(|k| k.parse::<u32>().is_ok()));
        let known = source.names("/proc/driver/nvidia/gpus");
        let nvidia = known.len().max(of_device.count());
        let mut names = Vec::new();
        for gpu in &known {
            let text =
                source.text(&format!("/proc/driver/nvidia/gpus/{gpu}/information")).unwrap_or_default();
            let model = text.lines().find_map(|line| line.strip_prefix("Model:"));
            names.extend(model.map(|model| model.trim().to_owned()));
        }
        // A node of the topology is a GPU if it has vector units; processors are nodes too.
        let nodes = "/sys/class/kfd/kfd/topology/nodes";
        let has_units = |node: &&String| {
            let text = source.text(&format!("{nodes}/{node}/properties")).unwrap_or_default();
            super::cgroup::entry(&text, "simd_count").is_some_and(|n| n > 0)
        };
        let amd = source.names(nodes).iter().filter(has_units).count();
        let limit =
            |names: &[&str]| names.iter().find_map(|name| source.variable(name)).map(|list| listed(&list));
        let of_job = || limit(&["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"]);
        let nvidia_usable = limit(&["CUDA_VISIBLE_DEVICES"]).or_else(of_job).unwrap_or(nvidia).min(nvidia);
        let amd_usable = limit(&["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]).or_else(of_job);
        let usable = nvidia_usable + amd_usable.unwrap_or(amd).min(amd);
        Gpus { nvidia, amd, usable, names }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    #[test]
    fn gpus_are_counted_and_limited() {
        let host = Stored::default()
            .file("/dev/nvidia0", "")
            .file("/dev/nvidia1", "")
            .file("/dev/nvidiactl", "")
            .file("/proc/driver/nvidia/gpus/0000:17:00.0/information", "Model: \t\t Some H200\nIRQ: 5\n")
            .file("/proc/driver/nvidia/gpus/0000:65:00.0/information", "Model: \t\t Some H200\n");
        let all = Gpus::find(&host);
        assert_eq!((all.nvidia, all.amd, all.usable, all.names.len()), (2, 0, 2, 2));
        assert_eq!(all.names[0], "Some H200");
        let usable = |name: &str, list: &str| Gpus::find(&host.clone().set(name, list)).usable;
        assert_eq!(usable("CUDA_VISIBLE_DEVICES", "1"), 1);
        assert_eq!(usable("CUDA_VISIBLE_DEVICES", "-1"), 0);
        assert_eq!(usable("CUDA_VISIBLE_DEVICES", "GPU-12,0,x,1"), 2);
        assert_eq!(usable("SLURM_JOB_GPUS", "0"), 1);
    }

    #[test]
    fn processors_in_the_topology_are_no_gpus() {
        let host = Stored::default()
            .file("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 64\nsimd_count 0\n")
            .file("/sys/class/kfd/kfd/topology/nodes/1/properties", "cpu_cores_count 0\nsimd_count 440\n");
        assert_eq!(Gpus::find(&host), Gpus { amd: 1, usable: 1, ..Gpus::default() });
        assert_eq!(Gpus::find(&Stored::default()), Gpus::default());
    }
}
