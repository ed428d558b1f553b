//! A communicator and its collective calls.

use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytemuck::Pod;
use mpi::ffi;
use serde::{Serialize, de::DeserializeOwned};

use crate::counters::{Counters, Tally};

/// Until the end of the block: this rank may wait for others.
macro_rules! waits {
    ($comm:expr, $what:literal) => {
        let _span = ($comm.size() > 1)
            .then(|| tracing::trace_span!(target: crate::profile::WAITS, $what).entered());
    };
}
pub(crate) use waits;

/// Numbers that MPI can reduce.
pub trait Scalar: Pod {
    /// The MPI datatype.
    fn datatype() -> ffi::MPI_Datatype;
}

macro_rules! scalar {
    ($($t:ty => $d:ident),*) => {$(
        impl Scalar for $t {
            fn datatype() -> ffi::MPI_Datatype {
                // SAFETY: a constant handle that MPI defines; it is only read.
                unsafe { ffi::$d }
            }
        }
    )*};
}
scalar!(f64 => RSMPI_DOUBLE, u64 => RSMPI_UINT64_T, i64 => RSMPI_INT64_T, u32 => RSMPI_UINT32_T, i32 => RSMPI_INT32_T);

/// A communicator. Cloning shares it; [`Comm::duplicate`] makes one with a context of its own.
///
/// Every method that mentions other ranks is collective: all ranks call it, in the same order.
#[derive(Clone)]
pub struct Comm(Arc<Handle>);

struct Handle {
    raw: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    owned: bool,
    /// Shared with duplicates.
    tally: Arc<Tally>,
    /// Exchanges made so far: the ranks of a communicator make the same, those of another may have made more.
    rounds: AtomicI32,
}

/// As `rounds`, for communicators that are not femdd's own: several handles may stand for one of them.
static ROUNDS: AtomicI32 = AtomicI32::new(0);

// SAFETY: the handle is a constant after construction. MPI is started FUNNELED, so all MPI calls are
// made by the main thread; other threads may hold a `Comm` but the solver's loops never communicate.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut finalized: c_int = 0;
        // SAFETY: MPI allows this query at any time; the communicator was created by `MPI_Comm_dup`
        // or `MPI_Comm_split`, is freed once, and only while MPI runs.
        unsafe {
            ffi::MPI_Finalized(&mut finalized);
            if self.owned && finalized == 0 {
                ffi::MPI_Comm_free(&mut self.raw);
            }
        }
    }
}

pub(crate) fn count(n: usize) -> c_int {
    c_int::try_from(n).expect("fewer than 2^31 items in one message")
}

/// The address of a buffer to send. An empty slice's own may be a small integer, which MPI libraries
/// use for constants such as `MPI_IN_PLACE`.
pub(crate) fn address<T>(xs: &[T]) -> *const std::os::raw::c_void {
    static EMPTY: u64 = 0;
    if xs.is_empty() { (&raw const EMPTY).cast() } else { xs.as_ptr().cast() }
}

/// The address of a buffer to receive into; see [`address`].
pub(crate) fn address_mut<T>(xs: &mut [T]) -> *mut std::os::raw::c_void {
    address(xs).cast_mut()
}

/// A contiguous MPI type of `size_of::<T>()` bytes, so that counts are items and not bytes.
pub(crate) struct ItemType(pub(crate) ffi::MPI_Datatype);

impl ItemType {
    pub(crate) fn of<T: Pod>() -> Self {
        // SAFETY: builds and commits a fresh datatype into a local handle.
        unsafe {
            let mut handle = std::mem::MaybeUninit::uninit();
            ffi::MPI_Type_contiguous(count(size_of::<T>()), ffi::RSMPI_UINT8_T, handle.as_mut_ptr());
            ffi::MPI_Type_commit(handle.as_mut_ptr());
            ItemType(handle.assume_init())
        }
    }
}

impl Drop for ItemType {
    fn drop(&mut self) {
        // SAFETY: made by `of`, freed once; MPI keeps it alive for pending messages.
        unsafe { ffi::MPI_Type_free(&mut self.0) };
    }
}

impl Comm {
    pub(crate) fn from_raw(raw: ffi::MPI_Comm, owned: bool) -> Comm {
        Comm::with_tally(raw, owned, None)
    }

    fn with_tally(raw: ffi::MPI_Comm, owned: bool, tally: Option<Arc<Tally>>) -> Comm {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: a live communicator and two local integers.
        unsafe {
            ffi::MPI_Comm_rank(raw, &mut rank);
            ffi::MPI_Comm_size(raw, &mut size);
        }
        let (rank, size) = (rank as usize, size as usize);
        let tally = tally.unwrap_or_else(|| Arc::new(Tally::new(size)));
        Comm(Arc::new(Handle { raw, rank, size, owned, tally, rounds: AtomicI32::new(0) }))
    }

    /// The number of the next exchange, the same on all ranks.
    pub(crate) fn next_round(&self) -> i32 {
        let rounds = if self.0.owned { &self.0.rounds } else { &ROUNDS };
        rounds.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// What this rank has sent since the start or the last [`Comm::take_counters`]. Not collective.
    pub fn counters(&self) -> Counters {
        self.tally().read()
    }

    /// As [`Comm::counters`], which then start again from zero. Not collective.
    pub fn take_counters(&self) -> Counters {
        self.tally().take()
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.0.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Whether this is rank 0.
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Whether this is the only rank: calls are counted and answered without MPI, whose own way to find out that there is
    /// nobody to ask takes a microsecond a call, and gives the processor away where it is set to yield.
    pub(crate) fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// The handle, for libraries that take one (PETSc, HDF5).
    pub fn raw(&self) -> ffi::MPI_Comm {
        self.0.raw
    }

    /// The same ranks in a context of their own. Collective. The two count together.
    pub fn duplicate(&self) -> Comm {
        waits!(self, "duplicate");
        let mut raw = self.raw();
        // SAFETY: duplicates a live communicator into a local handle that the new `Comm` frees.
        unsafe { ffi::MPI_Comm_dup(self.raw(), &mut raw) };
        Comm::with_tally(raw, true, Some(Arc::clone(&self.0.tally)))
    }

    /// One communicator per `color`, its ranks ordered by `key`, with counters of its own. Collective.
    pub fn split(&self, color: i32, key: i32) -> Comm {
        waits!(self, "split");
        let mut raw = self.raw();
        // SAFETY: as `duplicate`.
        unsafe { ffi::MPI_Comm_split(self.raw(), color, key, &mut raw) };
        Comm::from_raw(raw, true)
    }

    /// How many ranks run on this node (share memory with this one). Collective.
    pub fn ranks_on_node(&self) -> usize {
        self.on_node().size()
    }

    /// The ranks of this node (that share memory with this one), in order, with counters of their own. Collective.
    pub fn on_node(&self) -> Comm {
        let mut raw = self.raw();
        // SAFETY: splits a live communicator into a local handle that the `Comm` below frees.
        unsafe {
            ffi::MPI_Comm_split_type(
                self.raw(),
                ffi::RSMPI_COMM_TYPE_SHARED,
                0,
                ffi::RSMPI_INFO_NULL,
                &mut raw,
            );
        }
        Comm::from_raw(raw, true)
    }

    /// Waits for every rank.
    pub fn barrier(&self) {
        waits!(self, "barrier");
        self.tally().collective(0);
        if self.is_alone() {
            return;
        }
        // SAFETY: a live communicator.
        unsafe { ffi::MPI_Barrier(self.raw()) };
    }

    fn reduce_in_place<T: Scalar>(&self, xs: &mut [T], op: ffi::MPI_Op) {
        waits!(self, "allreduce");
        self.tally().collective(size_of_val(xs));
        self.tally().buffer(size_of_val(xs));
        if self.is_alone() {
            return;
        }
        let mine = xs.to_vec();
        // SAFETY: both are valid for `len` items of the matching type and all ranks pass one length.
        unsafe {
            ffi::MPI_Allreduce(
                address(&mine),
                address_mut(xs),
                count(xs.len()),
                T::datatype(),
                op,
                self.raw(),
            );
        }
    }

    /// Replaces each entry by its sum over the ranks. All ranks pass the same length.
    pub fn sum_slice<T: Scalar>(&self, xs: &mut [T]) {
        // SAFETY: reads a constant handle.
        self.reduce_in_place(xs, unsafe { ffi::RSMPI_SUM });
    }

    /// Replaces each entry by its least over the ranks. All ranks pass the same length.
    pub fn min_slice<T: Scalar>(&self, xs: &mut [T]) {
        // SAFETY: reads a constant handle.
        self.reduce_in_place(xs, unsafe { ffi::RSMPI_MIN });
    }

    /// Replaces each entry by its greatest over the ranks. All ranks pass the same length.
    pub fn max_slice<T: Scalar>(&self, xs: &mut [T]) {
        // SAFETY: reads a constant handle.
        self.reduce_in_place(xs, unsafe { ffi::RSMPI_MAX });
    }

    /// The sum of every rank's `x`.
    pub fn sum<T: Scalar>(&self, x: T) -> T {
        let mut xs = [x];
        self.sum_slice(&mut xs);
        xs[0]
    }

    /// The least of every rank's `x`.
    pub fn min<T: Scalar>(&self, x: T) -> T {
        let mut xs = [x];
        self.min_slice(&mut xs);
        xs[0]
    }

    /// The greatest of every rank's `x`.
    pub fn max<T: Scalar>(&self, x: T) -> T {
        let mut xs = [x];
        self.max_slice(&mut xs);
        xs[0]
    }

    /// Whether `flag` holds on any rank.
    pub fn any(&self, flag: bool) -> bool {
        self.max(i32::from(flag)) == 1
    }

    /// The sum of `x` over the ranks before this one.
    pub fn exclusive_sum(&self, x: u64) -> u64 {
        waits!(self, "exscan");
        let mut sum = 0u64;
        self.tally().collective(size_of::<u64>());
        if self.is_alone() {
            return 0;
        }
        // SAFETY: one item of the matching type on either side.
        unsafe {
            ffi::MPI_Exscan(
                (&raw const x).cast(),
                (&raw mut sum).cast(),
                1,
                u64::datatype(),
                ffi::RSMPI_SUM,
                self.raw(),
            );
        }
        // MPI leaves the result on rank 0 undefined.
        if self.is_root() { 0 } else { sum }
    }

    /// One item of every rank, in rank order. For a few bytes: the result has one item a rank.
    pub fn all_gather<T: Pod>(&self, x: T) -> Vec<T> {
        waits!(self, "allgather");
        let mut all = vec![T::zeroed(); self.size()];
        self.tally().collective(size_of::<T>());
        self.tally().table(size_of_val(&all[..]));
        if self.is_alone() {
            return vec![x];
        }
        let item = ItemType::of::<T>();
        // SAFETY: `all` has room for one item a rank.
        unsafe {
            ffi::MPI_Allgather(
                (&raw const x).cast(),
                1,
                item.0,
                address_mut(&mut all),
                1,
                item.0,
                self.raw(),
            );
        }
        all
    }

    /// Every rank's items on every rank, in rank order, with the offsets (one a rank and one more).
    pub fn all_gather_varied<T: Pod>(&self, xs: &[T]) -> (Vec<T>, Vec<usize>) {
        waits!(self, "allgatherv");
        let counts = self.all_gather(xs.len() as u64);
        let (offsets, counts, displacements) = layout(&counts);
        let mut all = vec![T::zeroed(); offsets[self.size()]];
        self.tally().collective(size_of_val(xs));
        self.tally().buffer(size_of_val(&all[..]));
        if self.is_alone() {
            all.copy_from_slice(xs);
            return (all, offsets);
        }
        let item = ItemType::of::<T>();
        // SAFETY: counts and displacements describe exactly `all`.
        unsafe {
            ffi::MPI_Allgatherv(
                address(xs),
                count(xs.len()),
                item.0,
                address_mut(&mut all),
                counts.as_ptr(),
                displacements.as_ptr(),
                item.0,
                self.raw(),
            );
        }
        (all, offsets)
    }

    /// Every rank's items on `root`, in rank order, with the offsets; `None` elsewhere.
    pub fn gather_varied<T: Pod>(&self, root: usize, xs: &[T]) -> Option<(Vec<T>, Vec<usize>)> {
        waits!(self, "gatherv");
        let here = self.rank() == root;
        if self.is_alone() {
            self.tally().collective(size_of::<u64>());
            self.tally().table(size_of::<u64>());
            self.tally().collective(size_of_val(xs));
            self.tally().buffer(size_of_val(xs));
            return Some((xs.to_vec(), vec![0, xs.len()]));
        }
        let mine = xs.len() as u64;
        let mut all_counts = vec![0u64; if here { self.size() } else { 0 }];
        self.tally().collective(size_of::<u64>());
        self.tally().table(size_of_val(&all_counts[..]));
        let item = ItemType::of::<T>();
        // SAFETY: the root has room for one count a rank; elsewhere the receive side is ignored.
        unsafe {
            ffi::MPI_Gather(
                (&raw const mine).cast(),
                1,
                u64::datatype(),
                address_mut(&mut all_counts),
                1,
                u64::datatype(),
                count(root),
                self.raw(),
            );
        }
        let (offsets, counts, displacements) = layout(&all_counts);
        let mut all = vec![T::zeroed(); *offsets.last().unwrap_or(&0)];
        self.tally().collective(size_of_val(xs));
        self.tally().buffer(size_of_val(&all[..]));
        // SAFETY: counts and displacements describe exactly `all` on the root.
        unsafe {
            ffi::MPI_Gatherv(
                address(xs),
                count(xs.len()),
                item.0,
                address_mut(&mut all),
                counts.as_ptr(),
                displacements.as_ptr(),
                item.0,
                count(root),
                self.raw(),
            );
        }
        here.then_some((all, offsets))
    }

    /// Replaces `xs` on every rank by the root's, length included.
    pub fn broadcast<T: Pod>(&self, root: usize, xs: &mut Vec<T>) {
        waits!(self, "broadcast");
        if !self.is_alone() {
            let mut n = [xs.len() as u64];
            let item = ItemType::of::<T>();
            // SAFETY: one count; then `xs` is resized to the root's length before the second call.
            unsafe {
                ffi::MPI_Bcast(address_mut(&mut n), 1, u64::datatype(), count(root), self.raw());
                xs.resize(n[0] as usize, T::zeroed());
                ffi::MPI_Bcast(address_mut(xs), count(xs.len()), item.0, count(root), self.raw());
            }
        }
        self.tally().collective(size_of::<u64>());
        self.tally().collective(size_of_val(&xs[..]));
        self.tally().buffer(size_of_val(&xs[..]));
    }

    /// Gives every rank the root's value, sent as JSON. For descriptions, not for arrays.
    pub fn broadcast_value<T: Serialize + DeserializeOwned>(&self, root: usize, value: Option<T>) -> T {
        let mut bytes = match &value {
            Some(value) => serde_json::to_vec(value).expect("a description serialises"),
            None => Vec::new(),
        };
        self.broadcast(root, &mut bytes);
        match value {
            Some(value) if self.rank() == root => value,
            _ => serde_json::from_slice(&bytes).expect("what the root sent reads back"),
        }
    }

    /// Agrees on success: `Ok` with each rank's own value when no rank failed; otherwise every rank
    /// gets the error of the lowest rank that did. Call it before the next collective call.
    pub fn agree<T, E: Serialize + DeserializeOwned>(&self, result: Result<T, E>) -> Result<T, E> {
        let _span = (self.size() > 1).then(|| tracing::trace_span!("agree").entered());
        let mine = if result.is_err() { self.rank() as u64 } else { u64::MAX };
        let first = self.min(mine);
        if first == u64::MAX {
            return result;
        }
        let mine = if first == self.rank() as u64 { result.err() } else { None };
        Err(self.broadcast_value(first as usize, mine))
    }

    /// Whether every rank makes this call within `patience`.
    ///
    /// For a failure inside a library's collective call, which may or may not have struck all ranks: if
    /// they all come here it can be agreed on as usual, otherwise [`Comm::abort`] is the only way out,
    /// and no other call on this communicator is allowed.
    pub fn all_within(&self, patience: std::time::Duration) -> bool {
        let begin = std::time::Instant::now();
        let mut request = std::mem::MaybeUninit::uninit();
        let mut done: c_int = 0;
        self.tally().collective(0);
        // SAFETY: the request is made here and tested until it completes, or left to the abort that the
        // caller owes.
        unsafe {
            ffi::MPI_Ibarrier(self.raw(), request.as_mut_ptr());
            let mut request = request.assume_init();
            while done == 0 && begin.elapsed() < patience {
                ffi::MPI_Test(&mut request, &mut done, ffi::RSMPI_STATUS_IGNORE);
                std::thread::yield_now();
            }
        }
        done != 0
    }

    /// Ends the job on every rank, at once.
    pub fn abort(&self, code: i32) -> ! {
        // SAFETY: a live communicator; the call does not return.
        unsafe { ffi::MPI_Abort(self.raw(), code) };
        std::process::exit(code)
    }
}

fn layout(counts: &[u64]) -> (Vec<usize>, Vec<c_int>, Vec<c_int>) {
    let mut offsets = vec![0usize; counts.len() + 1];
    for (k, &n) in counts.iter().enumerate() {
        offsets[k + 1] = offsets[k] + n as usize;
    }
    let counts = counts.iter().map(|&n| count(n as usize)).collect();
    let displacements = offsets[..offsets.len() - 1].iter().map(|&o| count(o)).collect();
    (offsets, counts, displacements)
}
