//! Loops over tasks: on the threads of the current pool, or plain when it has one.
//!
//! Imports `cluster`. What a task does depends on its number alone, never on who runs it, so that
//! results are the same for any number of threads.

use std::ops::Range;

use cluster::Comm;
use rayon::prelude::*;

/// Rows a task takes: enough to hide what starting it costs.
pub(super) const ROWS_PER_TASK: usize = 4096;

/// The same of blocks of so many components: on coarse levels rows are few, but a row of 6 by 6 blocks has a thousand values.
pub(super) const fn rows_of_blocks(block: usize) -> usize {
    match block {
        1 => ROWS_PER_TASK,
        2 => ROWS_PER_TASK / 2,
        3 => ROWS_PER_TASK / 4,
        _ => ROWS_PER_TASK / 16,
    }
}

fn threaded(n: usize) -> bool {
    n > 1 && rayon::current_num_threads() > 1
}

/// Runs `work` on each task.
pub(super) fn each<T: Send>(tasks: impl ExactSizeIterator<Item = T>, work: impl Fn(T) + Sync + Send) {
    if threaded(tasks.len()) {
        tasks.collect::<Vec<T>>().into_par_iter().for_each(|task| {
            let _span = tracing::trace_span!("task").entered();
            work(task);
        });
    } else {
        tasks.for_each(work);
    }
}

/// The results of tasks `0..n`, each with a scratch space that the tasks of a thread share.
pub(super) fn map<S, T: Send>(
    n: usize,
    scratch: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, usize) -> T + Sync + Send,
) -> Vec<T> {
    if threaded(n) {
        let work = |scratch: &mut S, task| {
            let _span = tracing::trace_span!("task").entered();
            work(scratch, task)
        };
        (0..n).into_par_iter().map_init(scratch, work).collect()
    } else {
        let mut scratch = scratch();
        (0..n).map(|task| work(&mut scratch, task)).collect()
    }
}

/// The rows of task `k` of `n` rows in all.
pub(super) fn rows(k: usize, n: usize, per_task: usize) -> Range<usize> {
    k * per_task..((k + 1) * per_task).min(n)
}

/// Cuts arrays of compressed rows into the parts of tasks of `per_task` rows.
pub(super) fn split<'a, A, B>(
    ptr: &'a [u32],
    a: &'a mut [A],
    b: &'a mut [B],
    size: usize,
    per_task: usize,
) -> impl ExactSizeIterator<Item = (Range<usize>, &'a mut [A], &'a mut [B])> {
    let n = ptr.len() - 1;
    let (mut a, mut b) = (a, b);
    (0..n.div_ceil(per_task)).map(move |k| {
        let range = rows(k, n, per_task);
        let len = (ptr[range.end] - ptr[range.start]) as usize;
        let (head, tail) = std::mem::take(&mut a).split_at_mut(len);
        a = tail;
        let (other, rest) = std::mem::take(&mut b).split_at_mut(len * size);
        b = rest;
        (range, head, other)
    })
}

/// The largest over the ranks. A number that is none is the largest. Collective.
pub(super) fn max(comm: &Comm, x: f64) -> f64 {
    // The order of positive numbers is that of their bits, infinities and NaN last.
    f64::from_bits(comm.max(x.abs().to_bits()))
}

/// The largest modulus; NaN if one is not a number.
pub(super) fn largest(xs: &[f64]) -> f64 {
    let n = xs.len();
    let parts = map(
        n.div_ceil(ROWS_PER_TASK),
        || (),
        |(), task| {
            let bits = xs[rows(task, n, ROWS_PER_TASK)].iter().map(|x| x.abs().to_bits());
            bits.fold(0, u64::max)
        },
    );
    f64::from_bits(parts.into_iter().fold(0, u64::max))
}

/// Each `to` from the `from` in its place.
pub(super) fn convert<A: Copy + Sync, B: Send>(from: &[A], to: &mut [B], f: impl Fn(A) -> B + Sync + Send) {
    each(from.chunks(ROWS_PER_TASK).zip(to.chunks_mut(ROWS_PER_TASK)), |(from, to)| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = f(*from));
    });
}
