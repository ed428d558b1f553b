//! Moving values between owners and ghosts.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use bytemuck::Pod;
use mpi::ffi;

use crate::buckets::Buckets;
use crate::comm::{Comm, ItemType, count, waits};
use crate::index_map::IndexMap;

const TAG_FORWARD: i32 = 900;
const TAG_REVERSE: i32 = 901;
const TAG_REPEATED: i32 = 902;

/// The exchange pattern between the owners of an [`IndexMap`] and its ghosts.
///
/// A local array holds `block` values an index, owned indices first, ghosts after. Lists are as long as the
/// interfaces, so a clone costs little, and no message.
#[derive(Clone)]
pub struct Halo {
    comm: Comm,
    /// For each neighbour that holds ghosts of ours: the owned local indices it wants.
    shared: Buckets<u32>,
    /// For each neighbour that owns ghosts of ours: the local indices of those ghosts.
    ghost: Buckets<u32>,
    n_local: usize,
}

/// How messages of an exchange are handed to MPI.
struct Calls {
    receive: unsafe extern "C" fn(
        *mut c_void,
        c_int,
        ffi::MPI_Datatype,
        c_int,
        c_int,
        ffi::MPI_Comm,
        *mut ffi::MPI_Request,
    ) -> c_int,
    send: unsafe extern "C" fn(
        *const c_void,
        c_int,
        ffi::MPI_Datatype,
        c_int,
        c_int,
        ffi::MPI_Comm,
        *mut ffi::MPI_Request,
    ) -> c_int,
}

/// They are under way at once.
const BEGUN: Calls = Calls { receive: ffi::MPI_Irecv, send: ffi::MPI_Isend };

/// They wait to be started, any number of times.
const PREPARED: Calls = Calls { receive: ffi::MPI_Recv_init, send: ffi::MPI_Send_init };

/// A request for each message of an exchange: `block` values for each index of `out`, from `send`, and of `into`, to
/// `receive`.
///
/// # Safety
/// The buffers hold those values, and nothing else touches them while a request is active.
unsafe fn requests<T: Pod>(
    comm: &Comm,
    calls: &Calls,
    (out, send): (&Buckets<u32>, *const T),
    (into, receive): (&Buckets<u32>, *mut T),
    block: usize,
    tag: i32,
) -> Vec<ffi::MPI_Request> {
    if out.is_empty() && into.is_empty() {
        return Vec::new();
    }
    let item = ItemType::of::<T>();
    let values = |buckets: &Buckets<u32>, k: usize| {
        let (begin, end) = (buckets.offsets[k] * block, buckets.offsets[k + 1] * block);
        (begin, count(end - begin), buckets.ranks[k] as i32)
    };
    let mut requests = Vec::with_capacity(out.len() + into.len());
    let mut request = MaybeUninit::uninit();
    for k in 0..into.len() {
        let (begin, n, rank) = values(into, k);
        // SAFETY: the caller's promise; MPI sets the request, and keeps the datatype alive for it.
        requests.push(unsafe {
            let to = receive.add(begin).cast();
            (calls.receive)(to, n, item.0, rank, tag, comm.raw(), request.as_mut_ptr());
            request.assume_init()
        });
    }
    for k in 0..out.len() {
        let (begin, n, rank) = values(out, k);
        // SAFETY: as above.
        requests.push(unsafe {
            let from = send.add(begin).cast();
            (calls.send)(from, n, item.0, rank, tag, comm.raw(), request.as_mut_ptr());
            request.assume_init()
        });
    }
    requests
}

/// A forward exchange under way; [`Halo::end_forward`] completes it.
#[must_use = "an exchange that was begun must be ended"]
pub struct Pending<T> {
    requests: Vec<ffi::MPI_Request>,
    _send: Vec<T>,
    receive: Vec<T>,
}

impl Halo {
    /// Finds out who needs what. Collective.
    pub fn new(comm: &Comm, map: &IndexMap) -> Halo {
        let (owners, order) = by_owner(map);
        let wanted: Vec<u64> = order.iter().map(|&k| map.ghosts()[k as usize]).collect();
        let asked = comm.exchange(&Buckets::from_destinations(&owners, &wanted));
        let shared = Buckets {
            data: asked.data.iter().map(|&g| (g - map.offset()) as u32).collect(),
            ranks: asked.ranks,
            offsets: asked.offsets,
        };
        let ghost = ghosts(map, &owners, &order);
        Halo { comm: comm.clone(), shared, ghost, n_local: map.n_local() }
    }

    /// As [`Halo::new`], where owners know already who holds which of their indices as ghosts: for each such
    /// rank the owned local indices, each once, in any order. Not collective: nothing is sent.
    pub fn with_shared(comm: &Comm, map: &IndexMap, mut shared: Buckets<u32>) -> Halo {
        // The order that the other side takes, of global numbers.
        for ends in shared.offsets.windows(2) {
            shared.data[ends[0]..ends[1]].sort_unstable();
        }
        let (owners, order) = by_owner(map);
        let ghost = ghosts(map, &owners, &order);
        Halo { comm: comm.clone(), shared, ghost, n_local: map.n_local() }
    }

    /// The ranks that own ghosts of ours.
    pub fn owners(&self) -> &[u32] {
        &self.ghost.ranks
    }

    /// For each neighbour: the owned local indices it holds as ghosts.
    pub fn shared(&self) -> &Buckets<u32> {
        &self.shared
    }

    fn start<T: Pod>(
        &self,
        out: &Buckets<u32>,
        into: &Buckets<u32>,
        xs: &[T],
        block: usize,
        tag: i32,
    ) -> Pending<T> {
        assert!(xs.len() >= self.n_local * block, "a local array of owned and ghost values");
        let mut send = Vec::with_capacity(out.data.len() * block);
        for &local in &out.data {
            send.extend_from_slice(&xs[local as usize * block..][..block]);
        }
        let mut receive = vec![T::zeroed(); into.data.len() * block];
        self.comm.tally().buffer(send.len().max(receive.len()) * size_of::<T>());
        for (rank, items) in out.iter() {
            self.comm.tally().message(rank, items.len() * block * size_of::<T>());
        }
        // SAFETY: `send` and `receive` live in the returned `Pending`, moved only as vectors (their heap blocks
        // stay), until `finish` has waited for every request.
        let requests = unsafe {
            let (from, to) = (send.as_ptr(), receive.as_mut_ptr());
            requests(&self.comm, &BEGUN, (out, from), (into, to), block, tag)
        };
        Pending { requests, _send: send, receive }
    }

    /// Begins to send owned values to the ranks that hold them as ghosts. Collective among neighbours.
    ///
    /// `xs` may be read, and its owned part changed, before [`Halo::end_forward`].
    pub fn begin_forward<T: Pod>(&self, xs: &[T], block: usize) -> Pending<T> {
        self.start(&self.shared, &self.ghost, xs, block, TAG_FORWARD)
    }

    /// Waits for [`Halo::begin_forward`] and stores the ghosts' values in `xs`.
    pub fn end_forward<T: Pod>(&self, pending: Pending<T>, xs: &mut [T], block: usize) {
        let received = finish(&self.comm, pending);
        for (k, &local) in self.ghost.data.iter().enumerate() {
            xs[local as usize * block..][..block].copy_from_slice(&received[k * block..][..block]);
        }
    }

    /// Gives every ghost its owner's values: `block` values an index.
    pub fn forward<T: Pod>(&self, xs: &mut [T], block: usize) {
        let pending = self.begin_forward(xs, block);
        self.end_forward(pending, xs, block);
    }

    /// Adds every ghost's values to its owner's, in ascending order of the ranks that hold them, so
    /// that sums do not depend on timing. Ghost values stay as they are.
    pub fn reverse_add(&self, xs: &mut [f64], block: usize) {
        let received = finish(&self.comm, self.start(&self.ghost, &self.shared, xs, block, TAG_REVERSE));
        for (k, &local) in self.shared.data.iter().enumerate() {
            for b in 0..block {
                xs[local as usize * block + b] += received[k * block + b];
            }
        }
    }
}

/// A forward exchange made once for many uses: its buffers and MPI's requests persist, so that an exchange
/// allocates nothing. For products with a matrix.
///
/// Owned and ghost values are separate arrays here.
pub struct Repeated<T> {
    /// Kept as long as the requests.
    comm: Comm,
    block: usize,
    /// Owned indices to send, neighbour by neighbour.
    out: Buckets<u32>,
    /// For each value received: the ghost it belongs to, counted from the first ghost.
    into: Vec<u32>,
    send: Vec<T>,
    receive: Vec<T>,
    requests: Vec<ffi::MPI_Request>,
    under_way: bool,
}

impl Halo {
    /// Prepares exchanges of `block` values an index. Not collective; the exchanges are, among neighbours.
    pub fn repeated<T: Pod>(&self, block: usize) -> Repeated<T> {
        let n_owned = (self.n_local - self.ghost.data.len()) as u32;
        let send = vec![T::zeroed(); self.shared.data.len() * block];
        let mut receive = vec![T::zeroed(); self.ghost.data.len() * block];
        // SAFETY: the buffers' heap blocks stay where they are as long as the value returned, whose drop frees the
        // requests first, and which touches them between exchanges alone.
        let requests = unsafe {
            let (from, to) = ((&self.shared, send.as_ptr()), (&self.ghost, receive.as_mut_ptr()));
            requests(&self.comm, &PREPARED, from, to, block, TAG_REPEATED)
        };
        Repeated {
            comm: self.comm.clone(),
            block,
            out: self.shared.clone(),
            into: self.ghost.data.iter().map(|&local| local - n_owned).collect(),
            send,
            receive,
            requests,
            under_way: false,
        }
    }
}

/// The ghosts (counted from the first) by owner and global number, and the owner of each.
fn by_owner(map: &IndexMap) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..map.n_ghost() as u32).collect();
    order.sort_by_key(|&k| (map.ghost_owners()[k as usize], map.ghosts()[k as usize]));
    let owners = order.iter().map(|&k| map.ghost_owners()[k as usize]).collect();
    (owners, order)
}

/// The local indices of ghosts by owner.
fn ghosts(map: &IndexMap, owners: &[u32], order: &[u32]) -> Buckets<u32> {
    let positions: Vec<u32> = order.iter().map(|&k| map.n_owned() as u32 + k).collect();
    Buckets::from_destinations(owners, &positions)
}

impl<T: Pod> Repeated<T> {
    /// Begins to send owned values to the ranks that hold them as ghosts. `owned` may change afterwards.
    ///
    /// # Panics
    /// When the exchange before has not been ended.
    pub fn begin(&mut self, owned: &[T]) {
        assert!(!self.under_way, "one exchange at a time");
        let block = self.block;
        for (to, &local) in self.send.chunks_exact_mut(block.max(1)).zip(&self.out.data) {
            to.copy_from_slice(&owned[local as usize * block..][..block]);
        }
        for (rank, items) in self.out.iter() {
            self.comm.tally().message(rank, items.len() * block * size_of::<T>());
        }
        self.under_way = true;
        if self.requests.is_empty() {
            return;
        }
        // SAFETY: inactive persistent requests, whose buffers nothing touches before `end`.
        unsafe { ffi::MPI_Startall(count(self.requests.len()), self.requests.as_mut_ptr()) };
    }

    /// Waits for what [`Repeated::begin`] began and stores the ghosts' values.
    ///
    /// # Panics
    /// When no exchange has begun.
    pub fn end(&mut self, ghosts: &mut [T]) {
        assert!(self.under_way, "an exchange that was begun");
        self.wait();
        let block = self.block;
        for (from, &ghost) in self.receive.chunks_exact(block.max(1)).zip(&self.into) {
            ghosts[ghost as usize * block..][..block].copy_from_slice(from);
        }
    }
}

impl<T> Repeated<T> {
    fn wait(&mut self) {
        if self.requests.is_empty() {
            self.under_way = false;
            return;
        }
        waits!(self.comm, "halo wait");
        // SAFETY: active requests whose buffers are alive; afterwards they are inactive.
        unsafe {
            ffi::MPI_Waitall(
                count(self.requests.len()),
                self.requests.as_mut_ptr(),
                ffi::RSMPI_STATUS_IGNORE,
            );
        }
        self.under_way = false;
    }
}

impl<T> Drop for Repeated<T> {
    fn drop(&mut self) {
        if self.under_way {
            self.wait();
        }
        for request in &mut self.requests {
            // SAFETY: an inactive request made in `repeated`, freed once.
            unsafe { ffi::MPI_Request_free(request) };
        }
    }
}

fn finish<T: Pod>(comm: &Comm, mut pending: Pending<T>) -> Vec<T> {
    if pending.requests.is_empty() {
        return pending.receive;
    }
    waits!(comm, "halo wait");
    // SAFETY: the requests were made by `start` and their buffers are alive in `pending`.
    unsafe {
        ffi::MPI_Waitall(
            count(pending.requests.len()),
            pending.requests.as_mut_ptr(),
            ffi::RSMPI_STATUS_IGNORE,
        );
    }
    pending.receive
}
