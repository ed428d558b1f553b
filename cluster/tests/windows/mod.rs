//! What one-sided atomics promise. Run by `ranks`; imports `cluster` only.

use cluster::{Comm, Window};

/// Every number below the sum is handed out once: no addition is lost or seen twice.
pub fn add_what_all_ranks_add_at_once(comm: &Comm) {
    let (n, size) = (500u64, comm.size());
    let window = Window::new(comm, 3);
    comm.take_counters();
    let mut seen: Vec<u64> = Vec::new();
    for k in 0..n {
        seen.push(window.fetch_add(0, 1, 1));
        window.fetch_add((comm.rank() + k as usize) % size, 2, k);
    }
    let counted = comm.take_counters();
    let elsewhere = if comm.rank() == 0 { 0 } else { n };
    assert!(counted.messages >= elsewhere && counted.bytes == 8 * counted.messages);
    comm.barrier();
    assert!(seen.is_sorted());
    let (mut all, _) = comm.all_gather_varied(&seen);
    all.sort_unstable();
    assert!(all.iter().enumerate().all(|(k, &x)| x == k as u64), "each value is seen by one rank once");
    assert_eq!(window.load(0, 1), n * size as u64);
    assert_eq!(comm.sum(window.load(comm.rank(), 2)), size as u64 * n * (n - 1) / 2);
    assert_eq!(window.load(size - 1, 0), 0, "words begin at 0, others are left alone");
}

/// All ranks want to turn each word from k to k + 1: of each step one succeeds.
pub fn swap_for_one_rank_only(comm: &Comm) {
    let window = Window::new(comm, 1);
    let last = comm.size() - 1;
    let steps = 300;
    let mut won = 0u64;
    for k in 0..steps {
        let before = window.compare_and_swap(last, 0, k, k + 1);
        assert!(before >= k, "this rank has seen {k}");
        won += u64::from(before == k);
        // The next step begins when the word has taken this one, by whomever.
        assert!(window.load(last, 0) > k);
    }
    assert_eq!(comm.sum(won), steps);
    comm.barrier();
    window.store(0, u64::MAX - comm.rank() as u64);
    comm.barrier();
    for rank in 0..comm.size() {
        assert_eq!(window.load(rank, 0), u64::MAX - rank as u64);
    }
    comm.barrier();
}

/// Windows of other lengths on other ranks, two at once, none left behind.
pub fn come_and_go(comm: &Comm) {
    for round in 0..50 {
        let uneven = Window::new(comm, comm.rank());
        let other = Window::new(comm, 2);
        assert_eq!((uneven.n_words(), other.n_words()), (comm.rank(), 2));
        let next = (comm.rank() + 1) % comm.size();
        other.fetch_add(next, 1, round);
        if next > 0 {
            uneven.fetch_add(next, next - 1, 7);
        }
        comm.barrier();
        assert_eq!(other.load(comm.rank(), 1), round);
        assert!(comm.rank() == 0 || uneven.load(comm.rank(), comm.rank() - 1) == 7);
    }
}
