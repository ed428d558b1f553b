//! Which memory the process keeps, and on what pages large arrays lie.
//!
//! Imports nothing of femdd. Start at [`keep_freed`], called once as a program starts, and [`large`], called by the
//! allocator ([`profile::heap`](crate::profile::heap)) for every large request.
//!
//! A page that the process has given back costs more to get again than to fill: the kernel clears it, a virtual machine
//! may have to find it. Small problems solved in turn spent a seventh of their time on that. And products with matrices
//! on pages of 4 KiB wait for the translation of addresses. Sources: mallopt(3), madvise(2); the kernel's
//! admin-guide/mm/transhuge.

use std::ffi::c_void;

/// Requests from this size on are mapped by themselves, and given back to the system when they are freed: 2 MiB.
pub const MAPPED: usize = 2 << 20;

/// Bytes of smaller requests, freed, that each of the allocator's arenas keeps: 64 MiB.
pub const KEPT: usize = 64 << 20;

/// Huge pages are asked for under requests from this size on: 1 MiB. What is smaller than a huge page shares one with its
/// neighbours, which were asked for before it.
pub const LARGE: usize = 1 << 20;

/// What addresses are rounded to that advice is given for: no page is smaller, and a larger one only refuses.
const PAGE: usize = 4096;

/// Has the allocator keep [`KEPT`] bytes of what is freed, and map requests from [`MAPPED`] on by themselves.
///
/// Not collective. Without effect where the allocator is not glibc's, or its settings are in the environment.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    {
        let set = |name: &str| std::env::var_os(name).is_some();
        if set("GLIBC_TUNABLES") || set("MALLOC_TRIM_THRESHOLD_") || set("MALLOC_MMAP_THRESHOLD_") {
            return;
        }
        // SAFETY: sets two numbers of the allocator, which is locked meanwhile; what it refuses stays as it is.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED as libc::c_int);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT as libc::c_int);
        }
    }
}

/// Asks for huge pages under new memory of at least [`LARGE`] bytes. Smaller memory is left as it is.
///
/// Advice is for whole pages: the first one, which begins with the allocator's own words, and with it the first huge page,
/// counts. A kernel that has no huge pages says so, and nothing changes.
#[inline]
pub fn large(pointer: *mut u8, size: usize) {
    if size >= LARGE && !pointer.is_null() {
        ask(pointer, size);
    }
}

#[cold]
fn ask(pointer: *mut u8, size: usize) {
    #[cfg(target_os = "linux")]
    {
        let before = pointer as usize % PAGE;
        let len = (before + size).next_multiple_of(PAGE);
        // SAFETY: the pages that hold memory which the caller has just been given; the advice changes no byte of them, not
        // of what else the first and the last one hold either.
        unsafe { libc::madvise(pointer.wrapping_sub(before).cast::<c_void>(), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// The flags of the mapping that holds an address, from /proc/self/smaps.
    fn flags_at(address: usize) -> String {
        let text = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let mut inside = false;
        for line in text.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            if let Some((Some(begin), Some(end))) = range.map(|(begin, end)| (number(begin), number(end))) {
                inside = (begin..end).contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                return format!("{flags} ");
            }
        }
        panic!("no mapping has {address:x}");
    }

    #[test]
    fn huge_pages_are_asked_for_under_large_memory_alone() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            eprintln!("this kernel has no huge pages to ask for");
            return;
        }
        keep_freed();
        let mut memory = vec![0u8; 4 * MAPPED];
        let middle = memory.as_ptr() as usize + 2 * MAPPED;
        large(memory.as_mut_ptr(), LARGE - 1);
        assert!(!flags_at(middle).contains(" hg "), "{}", flags_at(middle));
        let n = memory.len();
        large(memory.as_mut_ptr(), n);
        assert!(flags_at(middle).contains(" hg "), "{}", flags_at(middle));
        assert!(memory.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_is_freed_is_there_again() {
        let faults = || {
            // SAFETY: a plain structure of numbers, filled by the call.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: a valid pointer to it.
            unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
            usage.ru_minflt
        };
        keep_freed();
        let mut counts = Vec::new();
        for _ in 0..6 {
            let before = faults();
            for _ in 0..24 {
                // Freed together, so that all of it is at the end of the allocator's memory.
                let held: Vec<Vec<u8>> = (0..24).map(|_| vec![1u8; 1 << 20]).collect();
                black_box(&held);
            }
            counts.push(faults() - before);
        }
        let last = counts[counts.len() - 1];
        assert!(last < 24 * 24 * 256 / 20, "page faults by turn: {counts:?}");
    }
}
