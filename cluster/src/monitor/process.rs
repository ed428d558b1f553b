//! What this process uses, read without allocating.
//!
//! Imports nothing of femdd. Start at [`Reader::usage`]. Files of `/proc` stay open and are read from their
//! beginning again, which makes the kernel write them anew.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a process has used since it began; each adds up from phase to phase.
pub const USAGE: [&str; 11] = [
    "seconds",
    "user",
    "system",
    "read",
    "written",
    "storage_read",
    "storage_written",
    "minor_faults",
    "major_faults",
    "voluntary_switches",
    "involuntary_switches",
];

/// Values in the order of [`USAGE`].
pub type Usage = [f64; USAGE.len()];

/// The part of a file that is read: all of those below are shorter, or have what is wanted in front.
const BUFFER: usize = 8192;

/// A small file that is read again and again.
#[derive(Debug)]
pub(super) struct Repeated {
    file: Option<File>,
    buffer: [u8; BUFFER],
}

impl Repeated {
    pub(super) fn open(path: &str) -> Repeated {
        Repeated { file: File::open(path).ok(), buffer: [0; BUFFER] }
    }

    /// Its text as it is now; empty where it cannot be read.
    pub(super) fn read(&mut self) -> &[u8] {
        let Some(file) = &self.file else { return &[] };
        // One call gives all of a short file of /proc.
        let n = file.read_at(&mut self.buffer, 0).unwrap_or(0);
        &self.buffer[..n]
    }
}

/// The number after a name at the beginning of a line, as in `MemAvailable:   123 kB`, `wchar: 5` and
/// `inactive_file 7`.
pub(super) fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    text.split(|&b| b == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        // A longer name begins alike.
        matches!(rest.first(), Some(b' ' | b'\t')).then(|| first(rest))?
    })
}

/// The first number of a text, after blanks.
pub(super) fn first(text: &[u8]) -> Option<u64> {
    let begin = text.iter().position(|b| !b.is_ascii_whitespace())?;
    let digits = text[begin..].iter().take_while(|b| b.is_ascii_digit());
    let value = digits.clone().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))?;
    (digits.count() > 0).then_some(value)
}

/// Pages of address space and of resident memory in the text of `/proc/self/statm`.
pub(super) fn pages(text: &[u8]) -> Option<[u64; 2]> {
    let mut words = text.split(|b| b.is_ascii_whitespace());
    Some([first(words.next()?)?, first(words.next()?)?])
}

/// Reads what this process uses.
#[derive(Debug)]
pub(super) struct Reader {
    statm: Repeated,
    io: Repeated,
    status: Repeated,
    page: u64,
    /// Whether the highest of all processes' that this one was before (`exec`) hides its own high-water mark.
    hidden: bool,
}

impl Reader {
    pub(super) fn new() -> Reader {
        // SAFETY: asks for a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let mut reader = Reader {
            statm: Repeated::open("/proc/self/statm"),
            io: Repeated::open("/proc/self/io"),
            status: Repeated::open("/proc/self/status"),
            page: u64::try_from(page).unwrap_or(4096),
            hidden: false,
        };
        let own = number(reader.status.read(), b"VmHWM").unwrap_or(0) * 1024;
        // The counters of pages are some behind on hosts with many processors.
        reader.hidden = rusage().1 > own + own / 8 + (8 << 20);
        reader
    }

    /// Address space and resident memory in bytes.
    pub(super) fn memory(&mut self) -> [u64; 2] {
        let page = self.page;
        pages(self.statm.read()).unwrap_or([0, 0]).map(|n| n * page)
    }

    /// Bytes of a page.
    pub(super) fn page_bytes(&self) -> u64 {
        self.page
    }

    /// What was used so far, `seconds` since some beginning, and the high-water mark of memory.
    pub(super) fn usage(&mut self, seconds: f64) -> (Usage, u64) {
        let (mut usage, mut high) = rusage();
        usage[0] = seconds;
        if self.hidden {
            high = number(self.status.read(), b"VmHWM").unwrap_or(0) * 1024;
        }
        let io = self.io.read();
        let names = [b"rchar".as_slice(), b"wchar", b"read_bytes", b"write_bytes"];
        for (value, name) in usage[3..7].iter_mut().zip(names) {
            *value = number(io, name).unwrap_or(0) as f64;
        }
        (usage, high)
    }
}

/// Times, faults and switches of all threads, at their places in [`USAGE`], and the high-water mark.
fn rusage() -> (Usage, u64) {
    // SAFETY: all zeros are a valid record, which the call fills.
    let r = unsafe {
        let mut r: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut r);
        r
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + 1e-6 * t.tv_usec as f64;
    let mut usage = [0.0; USAGE.len()];
    usage[1] = seconds(r.ru_utime);
    usage[2] = seconds(r.ru_stime);
    let counts = [r.ru_minflt, r.ru_majflt, r.ru_nvcsw, r.ru_nivcsw];
    usage[7..].iter_mut().zip(counts).for_each(|(value, n)| *value = n as f64);
    (usage, u64::try_from(r.ru_maxrss).unwrap_or(0) * 1024)
}

/// User and system time of all threads in seconds.
pub(super) fn processor_times() -> [f64; 2] {
    let usage = rusage().0;
    [usage[1], usage[2]]
}

/// Processor time of the calling thread in seconds.
pub(super) fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the record it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_tables() {
        let table =
            b"MemTotal:       16 kB\nMemAvailable:    8 kB\nx 3\nbad: -4\nfull 99999999999999999999999\n";
        assert_eq!(number(table, b"MemTotal"), Some(16));
        assert_eq!((number(table, b"Mem"), number(table, b"x"), number(table, b"y")), (None, Some(3), None));
        assert_eq!((number(table, b"bad"), number(table, b"full")), (None, None));
        assert_eq!(pages(b"100 42 7 1 0 5 0\n"), Some([100, 42]));
        assert_eq!((pages(b""), pages(b"1"), pages(b"a b")), (None, None, None));
    }

    #[test]
    fn this_process_uses_something() {
        let mut reader = Reader::new();
        let (usage, high) = reader.usage(1.5);
        let [space, resident] = reader.memory();
        assert!(
            usage[0] == 1.5 && usage[1] + usage[2] > 0.0 && usage[3] > 0.0 && usage[7] > 0.0,
            "{usage:?}"
        );
        assert!(resident > 1 << 20 && space > resident && high >= resident / 2, "{space} {resident} {high}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in proptest::collection::vec(0u8..128, 0..60)) {
            number(&text, b"a");
            pages(&text);
        }

        #[test]
        fn any_number_reads_back(n: u64, before in "[a-z]{1,6}") {
            let text = format!("zz: 1\n{before}:\t {n} kB\n");
            proptest::prop_assume!(before != "zz");
            proptest::prop_assert_eq!(number(text.as_bytes(), before.as_bytes()), Some(n));
        }
    }
}
