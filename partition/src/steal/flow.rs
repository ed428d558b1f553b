//! How much weight goes over each contact between ranks so that all have the mean: the least flow.
//!
//! Imports `cluster` only. Start at [`least_flow`].

use cluster::{Buckets, Comm, Halo, IndexMap};

/// Residuals below this part of the mean load are none.
const TOLERANCE: f64 = 1e-4;

/// What a rank gives to each rank beside it.
pub(crate) struct Flow {
    /// For each neighbour, in the order given: what goes there, negative where it comes from there. Both
    /// ends have the same number but for its sign.
    pub(crate) out: Vec<f64>,
    /// The sum of all ranks' flows, each counted once.
    pub(crate) l1: f64,
    /// Whether all ranks have the mean after it. If not there are groups of ranks without contact.
    pub(crate) balances: bool,
}

/// The flow of least Euclidean norm that gives every rank the mean load.
///
/// `neighbours` are the ranks in contact with this one, ascending; those have this one in theirs.
/// Collective; a message to each neighbour and one reduction an iteration, at most one iteration a rank and
/// a few, memory as for the neighbours.
///
/// # Source
/// Y. F. Hu, R. J. Blake, "An improved diffusion algorithm for dynamic load balancing", Parallel Computing
/// 25 (1999): the flow is the difference of potentials that solve the Laplacian system of the graph of
/// ranks. Conjugate gradients with one reduction: A. T. Chronopoulos, C. W. Gear, "s-step iterative methods
/// for symmetric linear systems", J. Comput. Appl. Math. 25 (1989).
pub(crate) fn least_flow(comm: &Comm, neighbours: &[u32], load: f64, mean: f64) -> Flow {
    let halo = halo_of_ranks(comm, neighbours);
    let degree = neighbours.len() as f64;
    let mut values = vec![0.0; 1 + neighbours.len()];
    // Owned value first, then the neighbours': the Laplacian's row is the degree and minus ones.
    let apply = |x: f64, values: &mut [f64]| {
        values[0] = x;
        halo.forward(values, 1);
        degree * x - values[1..].iter().sum::<f64>()
    };
    let limit = (TOLERANCE * mean).powi(2);
    let (mut x, mut r) = (0.0, load - mean);
    let (mut p, mut s) = (0.0, 0.0);
    let mut w = apply(r, &mut values);
    let mut sums = [r * r, w * r];
    comm.sum_slice(&mut sums);
    let (mut gamma, mut beta) = (sums[0], 0.0);
    let mut alpha = if sums[1] > 0.0 { gamma / sums[1] } else { 0.0 };
    let mut left = 2 * comm.size() + 20;
    // A residual that is nearly constant where ranks are in contact has nowhere to go.
    while gamma > limit && sums[1] > 1e-10 * gamma && alpha > 0.0 && left > 0 {
        left -= 1;
        p = r + beta * p;
        s = w + beta * s;
        x += alpha * p;
        r -= alpha * s;
        w = apply(r, &mut values);
        sums = [r * r, w * r];
        comm.sum_slice(&mut sums);
        beta = sums[0] / gamma;
        alpha = sums[0] / (sums[1] - beta * sums[0] / alpha);
        gamma = sums[0];
    }
    apply(x, &mut values);
    let out: Vec<f64> = values[1..].iter().map(|&there| x - there).collect();
    let l1 = comm.sum(out.iter().filter(|&&f| f > 0.0).sum::<f64>());
    Flow { out, l1, balances: gamma <= limit }
}

/// One value a rank, and those of the ranks in contact. Not collective.
fn halo_of_ranks(comm: &Comm, neighbours: &[u32]) -> Halo {
    let ghosts = neighbours.iter().map(|&r| u64::from(r)).collect();
    let map = IndexMap::from_parts(1, comm.rank() as u64, comm.size() as u64, ghosts, neighbours.to_vec());
    let n = neighbours.len();
    let shared = Buckets { ranks: neighbours.to_vec(), offsets: (0..=n).collect(), data: vec![0; n] };
    Halo::with_shared(comm, &map, shared)
}
