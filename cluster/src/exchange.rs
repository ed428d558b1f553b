//! The sparse all-to-all: each rank sends to a few others that do not know it yet.
//!
//! Source: T. Hoefler, C. Siebert, A. Lumsdaine, "Scalable communication protocols for dynamic sparse
//! data exchange", PPoPP 2010 (the NBX protocol). Synchronous sends complete only when received; once
//! a rank's own are complete it enters a non-blocking barrier, and when that barrier completes every
//! message has been received. Memory and time grow with the number of neighbours, not of ranks.

use std::mem::MaybeUninit;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use bytemuck::Pod;
use mpi::ffi;

use crate::buckets::Buckets;
use crate::comm::{Comm, ItemType, address, address_mut, count};

/// Successive exchanges use successive tags, so that a fast rank's next message is not taken for
/// this round's. Two would do; the cycle is longer than any run-ahead the barrier allows.
static ROUND: AtomicI32 = AtomicI32::new(0);
const FIRST_TAG: c_int = 1000;
const N_TAGS: c_int = 64;

impl Comm {
    /// Sends each bucket to its rank and returns what the others sent here, ranks ascending.
    ///
    /// Collective: ranks with nothing to send call it too. A bucket for this rank itself is allowed.
    pub fn exchange<T: Pod>(&self, send: &Buckets<T>) -> Buckets<T> {
        let tag = FIRST_TAG + ROUND.fetch_add(1, Ordering::Relaxed).rem_euclid(N_TAGS);
        let item = ItemType::of::<T>();
        let mut requests: Vec<ffi::MPI_Request> = Vec::with_capacity(send.len());
        let mut received: Vec<(u32, Vec<T>)> = Vec::new();
        for (rank, items) in send.iter() {
            if items.is_empty() {
                continue;
            }
            if rank as usize == self.rank() {
                received.push((rank, items.to_vec()));
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
        let mut barrier: Option<ffi::MPI_Request> = None;
        loop {
            if let Some(message) = self.receive_one(tag, &item) {
                received.push(message);
            }
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
        received.sort_by_key(|m| m.0);
        let mut buckets = Buckets::empty();
        buckets.data.reserve_exact(received.iter().map(|m| m.1.len()).sum());
        self.tally().buffer(buckets.data.capacity() * size_of::<T>());
        for (rank, items) in received {
            buckets.ranks.push(rank);
            buckets.data.extend_from_slice(&items);
            buckets.offsets.push(buckets.data.len());
        }
        buckets
    }

    /// Receives a message with this tag from anyone, if one has arrived.
    fn receive_one<T: Pod>(&self, tag: c_int, item: &ItemType) -> Option<(u32, Vec<T>)> {
        let mut arrived: c_int = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: the probe fills `status` when it reports an arrival; the receive that follows is
        // made by the same (only) communicating thread, so it matches the probed message.
        unsafe {
            ffi::MPI_Iprobe(ffi::RSMPI_ANY_SOURCE, tag, self.raw(), &mut arrived, status.as_mut_ptr());
            if arrived == 0 {
                return None;
            }
            let status = status.assume_init();
            let mut n: c_int = 0;
            ffi::MPI_Get_count(&status, item.0, &mut n);
            let mut items = vec![T::zeroed(); n as usize];
            ffi::MPI_Recv(
                address_mut(&mut items),
                n,
                item.0,
                status.MPI_SOURCE,
                tag,
                self.raw(),
                ffi::RSMPI_STATUS_IGNORE,
            );
            Some((status.MPI_SOURCE as u32, items))
        }
    }
}
