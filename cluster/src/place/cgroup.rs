//! Control groups, version 1 and 2: what limits this process shares with others.
//!
//! Imports its sibling `source`. Start at [`Cgroups::find`]. A limit holds for a group and for all below it, so
//! each question walks from the process's own group to the root of what is mounted.

use super::source::Source;

/// Above this a limit of version 1 means that there is none.
const UNLIMITED: u64 = 1 << 60;

/// The directories of this process's groups, each from its own to the root, by what they control.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    memory: Vec<String>,
    memory_v2: bool,
    cpu: Vec<String>,
    cpu_v2: bool,
}

/// Where a hierarchy of groups is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount<'t> {
    /// The group that the mount point shows.
    root: &'t str,
    point: &'t str,
    /// The controllers of version 1; none for version 2.
    controllers: Option<Vec<&'t str>>,
}

/// The mounts of control groups in the text of `/proc/self/mountinfo`.
fn mounts(text: &str) -> Vec<Mount<'_>> {
    let one = |line| -> Option<Mount<'_>> {
        // "31 23 0:29 /root /point options tags - type device superoptions"
        let (front, back) = str::split_once(line, " - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let kind = back.next()?;
        let options = back.nth(1)?;
        match kind {
            "cgroup2" => Some(Mount { root, point, controllers: None }),
            "cgroup" => Some(Mount { root, point, controllers: Some(options.split(',').collect()) }),
            _ => None,
        }
    };
    text.lines().filter_map(one).collect()
}

/// This process's group for a controller in the text of `/proc/self/cgroup`, and whether it is of version 1.
fn group<'t>(text: &'t str, controller: &str) -> Option<(&'t str, bool)> {
    let mut unified = None;
    for line in text.lines() {
        // "4:memory:/path", "0::/path"; a path may hold colons.
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if names.split(',').any(|name| name == controller) {
            return Some((path, true));
        }
        if number == "0" && names.is_empty() {
            unified = Some((path, false));
        }
    }
    unified
}

/// Directories from a group to what is mounted: a path that lies outside the mount (another namespace) leaves the
/// mount point alone.
fn ancestors(mount: &Mount, path: &str) -> Vec<String> {
    let root = mount.root.trim_end_matches('/');
    let inside = path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut rest = inside.unwrap_or("").trim_end_matches('/');
    let mut directories = Vec::new();
    loop {
        directories.push(format!("{}{rest}", mount.point));
        match rest.rfind('/') {
            Some(at) => rest = &rest[..at],
            None => return directories,
        }
    }
}

/// `max` or a number of bytes.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < UNLIMITED)
}

/// The value of a line "name value".
pub(crate) fn entry(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Cgroups {
    /// Those of this process.
    pub fn find(source: &dyn Source) -> Cgroups {
        let groups = source.text("/proc/self/cgroup").unwrap_or_default();
        let table = source.text("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts(&table);
        let directories = |controller: &str| {
            let Some((path, first)) = group(&groups, controller) else { return (Vec::new(), false) };
            let of = |m: &&Mount| match &m.controllers {
                Some(names) => first && names.contains(&controller),
                None => !first,
            };
            (mounts.iter().find(of).map_or(Vec::new(), |mount| ancestors(mount, path)), !first)
        };
        let ((memory, memory_v2), (cpu, cpu_v2)) = (directories("memory"), directories("cpu"));
        Cgroups { memory, memory_v2, cpu, cpu_v2 }
    }

    /// The least limit on memory, and the directory of the group that has it.
    pub fn memory_limit(&self, source: &dyn Source) -> Option<(u64, &str)> {
        // Above `memory.high` processes are slowed down until they hardly move: that is a limit too.
        let files: &[&str] =
            if self.memory_v2 { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes"] };
        let of = |directory: &String| {
            files.iter().filter_map(|f| limit(&source.text(&format!("{directory}/{f}"))?)).min()
        };
        self.memory.iter().filter_map(|d| Some((of(d)?, d.as_str()))).min_by_key(|found| found.0)
    }

    /// The files that tell what a group uses: all of it, and the table of what it is used for.
    pub fn usage_files(&self, directory: &str) -> (String, String) {
        let all = if self.memory_v2 { "memory.current" } else { "memory.usage_in_bytes" };
        (format!("{directory}/{all}"), format!("{directory}/memory.stat"))
    }

    /// The least quota of processor time, in processors.
    pub fn cpu_quota(&self, source: &dyn Source) -> Option<f64> {
        let of = |directory: &String| -> Option<f64> {
            let (quota, period) = if self.cpu_v2 {
                let text = source.text(&format!("{directory}/cpu.max"))?;
                let mut words = text.split_whitespace();
                (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?)
            } else {
                let read = |name: &str| source.text(&format!("{directory}/{name}"))?.trim().parse().ok();
                (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
            };
            (quota > 0.0 && period > 0.0).then_some(quota / period)
        };
        self.cpu.iter().filter_map(of).min_by(f64::total_cmp)
    }

    /// What tells this process's group for memory, or for processors, from others on the host.
    pub fn key(&self, of_memory: bool) -> &str {
        let directories = if of_memory { &self.memory } else { &self.cpu };
        directories.first().map_or("", String::as_str)
    }
}

/// What of the memory that a group uses cannot be had back by dropping cached files: `used` by all, from a table
/// `memory.stat`.
pub(crate) fn held(used: u64, table: &str) -> u64 {
    let cached =
        |name: &str| entry(table, &format!("total_{name}")).or_else(|| entry(table, name)).unwrap_or(0);
    used.saturating_sub(cached("inactive_file") + cached("active_file"))
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    const V1: &str =
        "9:name=systemd:/\n5:memory:/slurm/uid_0/job_7/step_0\n4:cpu,cpuacct:/slurm/job_7\n0::/\n";
    const V1_MOUNTS: &str = "\
23 1 0:20 / / rw - ext4 /dev/vda rw
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    fn v1() -> Stored {
        Stored::default().file("/proc/self/cgroup", V1).file("/proc/self/mountinfo", V1_MOUNTS)
    }

    fn v2() -> Stored {
        Stored::default()
            .file("/proc/self/cgroup", "0::/system.slice/job:3/task\n")
            .file("/proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
    }

    #[test]
    fn the_first_version_walks_up_to_the_least_limit() {
        let at = "/sys/fs/cgroup/memory/slurm/uid_0";
        let machine = v1()
            .file(&format!("{at}/job_7/step_0/memory.limit_in_bytes"), "9223372036854771712\n")
            .file(&format!("{at}/job_7/memory.limit_in_bytes"), "4294967296\n")
            .file(&format!("{at}/memory.limit_in_bytes"), "8589934592\n")
            .file("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us", "150000\n")
            .file("/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us", "100000\n")
            .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
            .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        let groups = Cgroups::find(&machine);
        let (bytes, directory) = groups.memory_limit(&machine).expect("a limit");
        assert_eq!((bytes, directory), (4 << 30, format!("{at}/job_7").as_str()));
        assert!(groups.usage_files(directory).0.ends_with("job_7/memory.usage_in_bytes"));
        assert_eq!(groups.cpu_quota(&machine), Some(1.5));
        assert_eq!(groups.key(true), format!("{at}/job_7/step_0"));
    }

    #[test]
    fn the_second_version_has_one_hierarchy_and_two_limits() {
        let at = "/sys/fs/cgroup/system.slice/job:3";
        let machine = v2()
            .file(&format!("{at}/task/memory.max"), "max\n")
            .file(&format!("{at}/memory.max"), "2147483648\n")
            .file(&format!("{at}/memory.high"), "2000000000\n")
            .file(&format!("{at}/task/cpu.max"), "max 100000\n")
            .file(&format!("{at}/cpu.max"), "400000 100000\n");
        let groups = Cgroups::find(&machine);
        assert_eq!(groups.memory_limit(&machine), Some((2_000_000_000, at)));
        assert!(groups.usage_files(at).0.ends_with("/memory.current"));
        assert_eq!(groups.cpu_quota(&machine), Some(4.0));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        // Docker: the mount shows the container's group, and the path names it from outside.
        let machine = Stored::default()
            .file("/proc/self/cgroup", "3:memory:/docker/ab12\n")
            .file("/proc/self/mountinfo", "36 31 0:33 /docker/ab12 /cg/memory rw - cgroup cgroup rw,memory\n")
            .file("/cg/memory/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(Cgroups::find(&machine).memory_limit(&machine), Some((1 << 30, "/cg/memory")));
        // A path from another namespace altogether.
        let machine = machine.file("/proc/self/cgroup", "3:memory:/docker/ab12x/y\n");
        assert_eq!(Cgroups::find(&machine).memory_limit(&machine), Some((1 << 30, "/cg/memory")));
    }

    #[test]
    fn without_groups_there_is_no_limit() {
        for machine in
            [Stored::default(), v1(), v2(), v1().file("/proc/self/cgroup", "nonsense\n::\n4:memory")]
        {
            let groups = Cgroups::find(&machine);
            assert_eq!((groups.memory_limit(&machine), groups.cpu_quota(&machine)), (None, None));
        }
    }

    #[test]
    fn cached_files_can_be_had_back() {
        assert_eq!(held(1000, "cache 5\ninactive_file 300\nactive_file 100\n"), 600);
        assert_eq!(held(1000, "inactive_file 1\ntotal_inactive_file 700\ntotal_active_file 400\n"), 0);
        assert_eq!(held(1000, ""), 1000);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(groups in ".{0,200}", mounts in ".{0,200}", value in ".{0,20}") {
            let machine = v2().file("/sys/fs/cgroup/memory.max", &value).file("/sys/fs/cgroup/cpu.max", &value);
            Cgroups::find(&machine).cpu_quota(&machine);
            let machine = machine.file("/proc/self/cgroup", &groups).file("/proc/self/mountinfo", &mounts);
            let found = Cgroups::find(&machine);
            found.memory_limit(&machine);
        }

        #[test]
        fn the_walk_ends_at_the_mount_point(parts in proptest::collection::vec("[a-z:.]{1,5}", 0..6)) {
            let path = format!("/{}", parts.join("/"));
            let mount = Mount { root: "/", point: "/m", controllers: None };
            let directories = ancestors(&mount, &path);
            proptest::prop_assert_eq!(directories.len(), parts.len() + 1);
            proptest::prop_assert_eq!(directories.last().map(String::as_str), Some("/m"));
            let whole = format!("/m{}", path.trim_end_matches('/'));
            proptest::prop_assert_eq!(&directories[0], &whole);
        }
    }
}
