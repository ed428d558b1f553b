//! How far apart the clocks of the ranks are.
//!
//! Start at [`offset`].

use mpi::ffi;

use super::thread::now;
use crate::comm::{Comm, address, address_mut};

const TAG: i32 = 903;

/// How often a clock is asked; the answer that came fastest is the best.
const ROUNDS: usize = 8;

/// Nanoseconds to add to this rank's [`now`] for rank 0's, and half of the round trips that this comes from, which
/// bounds the error. Collective; ranks ask each other as a binary tree, so that it takes as long as the logarithm of
/// their number.
///
/// Source: F. Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989.
pub fn offset(comm: &Comm) -> (i64, u64) {
    let (rank, size) = (comm.rank(), comm.size());
    let mut found = (0i64, 0u64);
    let mut step = size.next_power_of_two() / 2;
    comm.barrier();
    while step > 0 {
        if rank % (2 * step) == 0 && rank + step < size {
            answer(comm, rank + step, found);
        } else if rank % (2 * step) == step {
            found = ask(comm, rank - step);
        }
        step /= 2;
    }
    found
}

/// Tells a rank the time on rank 0, as far as this one knows it.
fn answer(comm: &Comm, to: usize, (offset, error): (i64, u64)) {
    for _ in 0..ROUNDS {
        receive(comm, to);
        send(comm, to, [now() as i64 + offset, error as i64]);
    }
}

fn ask(comm: &Comm, from: usize) -> (i64, u64) {
    let mut best = (0, u64::MAX);
    for _ in 0..ROUNDS {
        let begin = now();
        send(comm, from, [0; 2]);
        let [there, error] = receive(comm, from);
        let half = (now() - begin) / 2;
        if half.saturating_add(error as u64) < best.1 {
            best = (there - (begin + half) as i64, half + error as u64);
        }
    }
    best
}

fn send(comm: &Comm, to: usize, message: [i64; 2]) {
    // SAFETY: two numbers of the matching type from an array that lives until the blocking call returns.
    unsafe { ffi::MPI_Send(address(&message), 2, ffi::RSMPI_INT64_T, to as i32, TAG, comm.raw()) };
}

fn receive(comm: &Comm, from: usize) -> [i64; 2] {
    let mut message = [0i64; 2];
    // SAFETY: room for two numbers of the matching type; the other rank makes the matching call.
    unsafe {
        let (into, status) = (address_mut(&mut message), ffi::RSMPI_STATUS_IGNORE);
        ffi::MPI_Recv(into, 2, ffi::RSMPI_INT64_T, from as i32, TAG, comm.raw(), status);
    }
    message
}
