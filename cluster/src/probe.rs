//! Timing MPI itself: what one message costs.

use std::time::Instant;

use mpi::ffi;

use crate::comm::{Comm, address, address_mut, count};

const TAG: i32 = 902;

impl Comm {
    /// Seconds that a message of `bytes` takes from rank 0 to rank 1, as half of a round trip, the mean of
    /// `rounds` after a tenth of them. On rank 0; `None` on the others, and where there is one rank only.
    /// Collective. What is sent is not counted.
    pub fn ping_pong(&self, bytes: usize, rounds: usize) -> Option<f64> {
        let mut buffer = vec![1u8; bytes];
        let warmup = rounds.div_ceil(10);
        let mut begin = Instant::now();
        self.barrier();
        if self.size() > 1 && self.rank() < 2 {
            let other = 1 - self.rank() as i32;
            for round in 0..warmup + rounds {
                if round == warmup {
                    begin = Instant::now();
                }
                for sender in [0, 1] {
                    // SAFETY: the buffer is this function's own; the two ranks make matching blocking calls.
                    unsafe {
                        if self.rank() == sender {
                            let (from, n) = (address(&buffer), count(bytes));
                            ffi::MPI_Send(from, n, ffi::RSMPI_UINT8_T, other, TAG, self.raw());
                        } else {
                            let (into, n) = (address_mut(&mut buffer), count(bytes));
                            let status = ffi::RSMPI_STATUS_IGNORE;
                            ffi::MPI_Recv(into, n, ffi::RSMPI_UINT8_T, other, TAG, self.raw(), status);
                        }
                    }
                }
            }
        }
        let seconds = begin.elapsed().as_secs_f64() / (2 * rounds) as f64;
        self.barrier();
        (self.size() > 1 && self.is_root()).then_some(seconds)
    }
}
