//! Where facts about a machine are read from: the system itself, or texts stored for a test.
//!
//! Imports nothing of femdd. Start at [`Source`].

use std::io::Read;

/// What is read to find out where a process runs.
pub trait Source {
    /// The text of a small file; `None` where it cannot be read.
    fn text(&self, path: &str) -> Option<String>;
    /// The beginning of a file, as much as one call reads: for long ones that the kernel takes long to write.
    fn head(&self, path: &str) -> Option<String> {
        self.text(path)
    }
    /// The names in a directory, in order; none where it cannot be read.
    fn names(&self, directory: &str) -> Vec<String>;
    /// A variable of the environment; `None` also for an empty one.
    fn variable(&self, name: &str) -> Option<String>;
    /// The hardware threads that this process may run on; none where the system does not tell.
    fn affinity(&self) -> Vec<u32>;
    /// Bytes that this process may map (`ulimit -v`); `None` for as many as it likes.
    fn address_space(&self) -> Option<u64>;
    /// The name of this host.
    fn host(&self) -> String;

    /// A number that stands alone in a file.
    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    /// A variable that is a number.
    fn count(&self, name: &str) -> Option<u64> {
        self.variable(name)?.trim().parse().ok()
    }
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Copy)]
pub struct Here;

impl Source for Here {
    fn text(&self, path: &str) -> Option<String> {
        // A model's name or a cgroup's may hold any bytes.
        std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn head(&self, path: &str) -> Option<String> {
        let mut start = [0u8; 4096];
        let n = std::fs::File::open(path).ok()?.read(&mut start).ok()?;
        Some(String::from_utf8_lossy(&start[..n]).into_owned())
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn affinity(&self) -> Vec<u32> {
        // A set of 1024 is what the C library declares; hosts with more need a larger one.
        for words in [16usize, 128, 1024] {
            let mut mask = vec![0u64; words];
            // SAFETY: the mask has as many bytes as said; 0 is this thread.
            let failed =
                unsafe { libc::sched_getaffinity(0, size_of_val(&mask[..]), mask.as_mut_ptr().cast()) };
            if failed == 0 {
                let set = |cpu: &usize| mask[cpu / 64] >> (cpu % 64) & 1 == 1;
                return (0..64 * words).filter(set).map(|cpu| cpu as u32).collect();
            }
        }
        Vec::new()
    }

    fn address_space(&self) -> Option<u64> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes the record it is given.
        let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
        (failed == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    }

    fn host(&self) -> String {
        self.text("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
    }
}

/// A machine made of texts.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) files: std::collections::BTreeMap<String, String>,
    pub(crate) variables: std::collections::BTreeMap<String, String>,
    pub(crate) affinity: Vec<u32>,
    pub(crate) address_space: Option<u64>,
}

#[cfg(test)]
impl Stored {
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn on(mut self, affinity: &[u32]) -> Self {
        self.affinity = affinity.to_vec();
        self
    }
}

#[cfg(test)]
impl Source for Stored {
    fn text(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let inside = self.files.keys().filter_map(|path| path.strip_prefix(directory)?.strip_prefix('/'));
        let mut names: Vec<String> =
            inside.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned()).collect();
        names.dedup();
        names
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn affinity(&self) -> Vec<u32> {
        self.affinity.clone()
    }

    fn address_space(&self) -> Option<u64> {
        self.address_space
    }

    fn host(&self) -> String {
        self.text("/proc/sys/kernel/hostname").unwrap_or_else(|| "stored".to_owned()).trim().to_owned()
    }
}
