//! The sparse all-to-all: each rank sends to a few others that do not know it yet.
//!
//! Source: T. Hoefler, C. Siebert, A. Lumsdaine, "Scalable communication protocols for dynamic sparse
//! data exchange", PPoPP 2010 (the NBX protocol). Synchronous sends complete only when received; once
//! a rank's own are complete it enters a non-blocking barrier, and when that barrier completes every
//! message has been received. Memory and time grow with the number of neighbours, not of ranks.

use std::mem::MaybeUninit;
use std::os::raw::c_int;

use bytemuck::Pod;
use mpi::ffi;

use crate::buckets::Buckets;
use crate::comm::{Comm, ItemType, address, count, waits};

/// Successive exchanges use successive tags, so that a fast rank's next message is not taken for
/// this round's. Two would do; the cycle is longer than any run-ahead the barrier allows.
const FIRST_TAG: c_int = 1000;
const N_TAGS: c_int = 64;

impl Comm {
    /// Sends each bucket to its rank and returns what the others sent here, ranks ascending.
    ///
    /// Collective: ranks with nothing to send call it too. A bucket for this rank itself is allowed.
    pub fn exchange<T: Pod>(&self, send: &Buckets<T>) -> Buckets<T> {
        waits!(self, "exchange");
        if self.is_alone() {
            return self.to_itself(send);
        }
        let tag = FIRST_TAG + self.next_round().rem_euclid(N_TAGS);
        let item = ItemType::of::<T>();
        let mut requests: Vec<ffi::MPI_Request> = Vec::with_capacity(send.len());
        let mut received = Arrivals { ranks: Vec::new(), offsets: vec![0], data: Vec::new() };
        let mut own: &[T] = &[];
        for (rank, items) in send.iter() {
            if items.is_empty() {
                continue;
            }
            if rank as usize == self.rank() {
                own = items;
                continue;
            }
            self.tally().message(rank, size_of_val(items));
            let mut request = MaybeUninit::uninit();
            // SAFETY: `send` outlives the loop below, which ends only after every request completed.
            unsafe {
                ffi::MPI_Issend(
                    address(items),
                    count(items.len()),
                    item.0,
                    count(rank as usize),
                    tag,
                    self.raw(),
                    request.as_mut_ptr(),
                );
                requests.push(request.assume_init());
            }
        }
        // Where messages come in the order of their ranks they stay where they were received: with two ranks
        // always, if the rank's own items stand before or behind.
        let own_first = self.is_root();
        if own_first {
            received.append(self.rank() as u32, own);
        }
        let mut barrier: Option<ffi::MPI_Request> = None;
        loop {
            self.receive_one(tag, &item, &mut received);
            let mut done: c_int = 0;
            // SAFETY: requests made above, tested until complete; MPI sets completed ones to null.
            unsafe {
                match &mut barrier {
                    Some(request) => {
                        ffi::MPI_Test(request, &mut done, ffi::RSMPI_STATUS_IGNORE);
                        if done != 0 {
                            break;
                        }
                    }
                    None => {
                        ffi::MPI_Testall(
                            count(requests.len()),
                            requests.as_mut_ptr(),
                            &mut done,
                            ffi::RSMPI_STATUS_IGNORE,
                        );
                        if done != 0 {
                            let mut request = MaybeUninit::uninit();
                            ffi::MPI_Ibarrier(self.raw(), request.as_mut_ptr());
                            barrier = Some(request.assume_init());
                        }
                    }
                }
            }
        }
        self.tally().collective(0);
        if !own_first {
            received.append(self.rank() as u32, own);
        }
        let buckets = received.by_rank();
        self.tally().buffer(buckets.data.capacity() * size_of::<T>());
        buckets
    }

    /// What the only rank sends itself.
    fn to_itself<T: Pod>(&self, send: &Buckets<T>) -> Buckets<T> {
        self.tally().collective(0);
        let mut received = Arrivals { ranks: Vec::new(), offsets: vec![0], data: Vec::new() };
        send.iter().for_each(|(rank, items)| received.append(rank, items));
        let buckets = received.by_rank();
        self.tally().buffer(size_of_val(&buckets.data[..]));
        buckets
    }

    /// Receives a message with this tag from anyone, if one has arrived.
    fn receive_one<T: Pod>(&self, tag: c_int, item: &ItemType, into: &mut Arrivals<T>) {
        let mut arrived: c_int = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: the probe fills `status` when it reports an arrival; the receive that follows is
        // made by the same (only) communicating thread, so it matches the probed message. It fills the `n`
        // items behind those that are there, for which `reserve` made room.
        unsafe {
            ffi::MPI_Iprobe(ffi::RSMPI_ANY_SOURCE, tag, self.raw(), &mut arrived, status.as_mut_ptr());
            if arrived == 0 {
                return;
            }
            let status = status.assume_init();
            let mut n: c_int = 0;
            ffi::MPI_Get_count(&status, item.0, &mut n);
            into.reserve(n as usize);
            let begin = into.data.len();
            ffi::MPI_Recv(
                into.data.as_mut_ptr().add(begin).cast(),
                n,
                item.0,
                status.MPI_SOURCE,
                tag,
                self.raw(),
                ffi::RSMPI_STATUS_IGNORE,
            );
            into.data.set_len(begin + n as usize);
            into.end(status.MPI_SOURCE as u32);
        }
    }
}

/// Messages one behind the other, in the order in which they arrived.
struct Arrivals<T> {
    ranks: Vec<u32>,
    offsets: Vec<usize>,
    data: Vec<T>,
}

impl<T: Pod> Arrivals<T> {
    /// Room for `n` more items: exactly so much for the first message, which may be the only one.
    fn reserve(&mut self, n: usize) {
        if self.data.is_empty() { self.data.reserve_exact(n) } else { self.data.reserve(n) }
    }

    /// A rank's message ends here.
    fn end(&mut self, rank: u32) {
        self.ranks.push(rank);
        self.offsets.push(self.data.len());
    }

    fn append(&mut self, rank: u32, items: &[T]) {
        if !items.is_empty() {
            self.reserve(items.len());
            self.data.extend_from_slice(items);
            self.end(rank);
        }
    }

    /// The messages, ranks ascending: copied only where they arrived in another order.
    fn by_rank(mut self) -> Buckets<T> {
        if self.ranks.is_sorted() {
            if self.data.capacity() - self.data.len() > self.data.len() / 8 {
                self.data.shrink_to_fit();
            }
            return Buckets { ranks: self.ranks, offsets: self.offsets, data: self.data };
        }
        let mut order: Vec<u32> = (0..self.ranks.len() as u32).collect();
        order.sort_unstable_by_key(|&k| self.ranks[k as usize]);
        let mut buckets = Buckets::empty();
        buckets.data.reserve_exact(self.data.len());
        for k in order.into_iter().map(|k| k as usize) {
            buckets.ranks.push(self.ranks[k]);
            buckets.data.extend_from_slice(&self.data[self.offsets[k]..self.offsets[k + 1]]);
            buckets.offsets.push(buckets.data.len());
        }
        buckets
    }
}
