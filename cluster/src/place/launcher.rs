//! Who started the ranks, how they are bound, and by what they exchange messages.
//!
//! Imports its sibling `source`. Start at [`Launcher::find`] and [`Network::find`].

use serde::{Deserialize, Serialize};

use super::source::Source;

/// Who started the ranks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Launcher {
    /// `mpirun` (of Open MPI), `srun`, `hydra` (`mpiexec` of MPICH and Intel MPI), or `none`.
    pub kind: String,
    /// How ranks are bound to cores, as the launcher was told.
    pub binding: Option<String>,
    /// Whether it was told to start more ranks than there are slots.
    pub oversubscribe: bool,
}

/// Whether a variable of Open MPI says yes.
fn yes(value: &str) -> bool {
    ["1", "true", "yes", "t", "y", "enabled"].contains(&value.trim().to_ascii_lowercase().as_str())
}

impl Launcher {
    /// That of this process.
    pub fn find(source: &dyn Source) -> Launcher {
        let set = |name: &str| source.variable(name).is_some();
        // mpirun in a batch job starts its daemons by srun, so their variables may be there too. OMPI_COMM_WORLD_SIZE
        // tells nothing: MPI sets it itself as it starts.
        let kind = if set("OMPI_MCA_orte_launch") || set("PRTE_LAUNCHED") {
            "mpirun"
        } else if set("SLURM_PROCID") && (set("PMIX_RANK") || set("PMI_RANK") || set("PMI_SIZE")) {
            "srun"
        } else if set("PMI_SIZE") || set("PMI_RANK") || set("MPI_LOCALNRANKS") {
            "hydra"
        } else {
            "none"
        };
        let binding = match kind {
            "srun" => {
                source.variable("SLURM_CPU_BIND_TYPE").map(|b| b.trim_end_matches([',', ':']).to_owned())
            }
            "none" => None,
            _ => source
                .variable("OMPI_MCA_hwloc_base_binding_policy")
                .or_else(|| source.variable("PRTE_MCA_hwloc_default_binding_policy"))
                .or_else(|| source.variable("I_MPI_PIN_DOMAIN")),
        };
        let told = ["OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_rmaps_base_no_oversubscribe"]
            .map(|name| source.variable(name).is_some_and(|value| yes(&value)));
        let policy = ["OMPI_MCA_rmaps_base_mapping_policy", "PRTE_MCA_rmaps_default_mapping_policy"]
            .iter()
            .any(|name| source.variable(name).is_some_and(|p| p.to_ascii_lowercase().contains("oversub")));
        let over = source.variable("SLURM_OVERCOMMIT").is_some();
        Launcher { kind: kind.to_owned(), binding, oversubscribe: (told[0] || policy || over) && !told[1] }
    }
}

/// What carries messages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Network {
    /// The components of Open MPI in this process that carry messages, such as `pml ob1`, `btl vader`, as they
    /// are loaded; as the environment asks for where that is not seen.
    pub transport: Vec<String>,
    /// InfiniBand, Omni-Path and RoCE ports that are up, with their rates as the driver gives them.
    pub fabric: Vec<String>,
    /// Of the fastest network interface that is up, in Mbit/s; `null` where drivers do not say.
    pub ethernet: Option<u64>,
}

/// The components among the files of a process (`/proc/self/maps`), as `pml ob1`.
fn components(maps: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in maps.lines() {
        let Some(name) = line.rsplit('/').next().and_then(|file| file.strip_suffix(".so")) else { continue };
        let Some((kind, name)) = name.strip_prefix("mca_").and_then(|rest| rest.split_once('_')) else {
            continue;
        };
        let component = format!("{kind} {name}");
        if ["pml", "mtl", "btl"].contains(&kind) && !found.contains(&component) {
            found.push(component);
        }
    }
    // Most telling first: pml, mtl, btl.
    found.sort_by_key(|component| {
        (["pml", "mtl"].iter().position(|k| component.starts_with(k)).unwrap_or(2), component.clone())
    });
    found
}

impl Network {
    /// That of this process; what is loaded is known once MPI has started.
    pub fn find(source: &dyn Source) -> Network {
        let mut transport = source.text("/proc/self/maps").map(|maps| components(&maps)).unwrap_or_default();
        if transport.is_empty() {
            let asked = |kind: &str| {
                let value = source.variable(&format!("OMPI_MCA_{kind}"))?;
                Some(format!("{kind} {value}"))
            };
            transport = ["pml", "mtl", "btl"].iter().filter_map(|kind| asked(kind)).collect();
        }
        let mut fabric = Vec::new();
        for device in source.names("/sys/class/infiniband") {
            for port in source.names(&format!("/sys/class/infiniband/{device}/ports")) {
                let at = format!("/sys/class/infiniband/{device}/ports/{port}");
                // "4: ACTIVE", "100 Gb/sec (4X EDR)"
                let active = source.text(&format!("{at}/state")).is_some_and(|s| s.contains("ACTIVE"));
                if active {
                    let rate = source.text(&format!("{at}/rate")).unwrap_or_default();
                    fabric.push(format!("{device} {}", rate.trim()).trim_end().to_owned());
                }
            }
        }
        let speed = |name: &String| -> Option<u64> {
            let at = format!("/sys/class/net/{name}");
            let up = source.text(&format!("{at}/operstate")).is_some_and(|state| state.trim() == "up");
            source.number(&format!("{at}/speed")).filter(|&speed| up && name != "lo" && speed > 0)
        };
        let ethernet = source.names("/sys/class/net").iter().filter_map(speed).max();
        Network { transport, fabric, ethernet }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Stored {
        variables.iter().fold(Stored::default(), |machine, (name, value)| machine.set(name, value))
    }

    #[test]
    fn launchers_are_told_apart() {
        let kind = |variables: &[(&str, &str)]| Launcher::find(&with(variables)).kind;
        assert_eq!(kind(&[]), "none");
        assert_eq!(kind(&[("OMPI_COMM_WORLD_SIZE", "1")]), "none");
        assert_eq!(
            kind(&[("OMPI_MCA_orte_launch", "1"), ("PMIX_RANK", "0"), ("SLURM_PROCID", "0")]),
            "mpirun"
        );
        assert_eq!(kind(&[("SLURM_PROCID", "3"), ("PMIX_RANK", "3")]), "srun");
        assert_eq!(kind(&[("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "3")]), "none");
        assert_eq!(kind(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), "hydra");
    }

    #[test]
    fn what_the_launcher_was_told_is_known() {
        let mpirun = ("OMPI_MCA_orte_launch", "1");
        let over = |name: &str, value: &str| Launcher::find(&with(&[mpirun, (name, value)])).oversubscribe;
        assert!(over("OMPI_MCA_rmaps_base_oversubscribe", "1"));
        assert!(over("OMPI_MCA_rmaps_base_mapping_policy", "slot:OVERSUBSCRIBE"));
        assert!(!over("OMPI_MCA_rmaps_base_oversubscribe", "0"));
        assert!(!over("OMPI_MCA_rmaps_base_mapping_policy", "core"));
        let bound = Launcher::find(&with(&[mpirun, ("OMPI_MCA_hwloc_base_binding_policy", "core")]));
        assert_eq!(bound.binding.as_deref(), Some("core"));
    }

    #[test]
    fn components_that_carry_messages_are_seen() {
        let maps = "\
7f00 r-xp 0 fe:00 1 /usr/lib/openmpi/mca_btl_vader.so
7f00 rw-p 0 fe:00 1 /usr/lib/openmpi/mca_btl_vader.so
7f00 r-xp 0 fe:00 1 /usr/lib/openmpi/mca_pml_ob1.so
7f00 r-xp 0 fe:00 1 /usr/lib/openmpi/mca_coll_tuned.so
7f00 r-xp 0 00:00 0 [heap]
7f00 r-xp 0 fe:00 1 /usr/lib/openmpi/mca_btl_tcp.so
";
        let machine = Stored::default()
            .file("/proc/self/maps", maps)
            .file("/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n")
            .file("/sys/class/infiniband/mlx5_0/ports/1/rate", "200 Gb/sec (4X HDR)\n")
            .file("/sys/class/infiniband/mlx5_1/ports/1/state", "1: DOWN\n")
            .file("/sys/class/net/eth0/speed", "25000\n")
            .file("/sys/class/net/eth0/operstate", "up\n")
            .file("/sys/class/net/eth1/speed", "100000\n")
            .file("/sys/class/net/eth1/operstate", "down\n")
            .file("/sys/class/net/eth2/speed", "-1\n")
            .file("/sys/class/net/eth2/operstate", "up\n");
        let network = Network::find(&machine);
        assert_eq!(network.transport, ["pml ob1", "btl tcp", "btl vader"]);
        assert_eq!(network.fabric, ["mlx5_0 200 Gb/sec (4X HDR)"]);
        assert_eq!(network.ethernet, Some(25_000));
        let asked = Network::find(&with(&[("OMPI_MCA_pml", "ucx")]));
        assert_eq!((asked.transport, asked.ethernet), (vec!["pml ucx".to_owned()], None));
    }
}
