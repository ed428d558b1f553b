//! Sums and updates of distributed vectors, on threads.
//!
//! Imports `cluster`. Sums are taken piece by piece, and the pieces in order, so that they are the same bits
//! for any number of threads.

use cluster::Comm;
use rayon::prelude::*;

use super::operator::parallel;

/// Entries a piece: three arrays of it stay in the first cache.
const PIECE: usize = 1024;

/// Pieces a task takes.
const TASK: usize = 16;

/// Where the sums of pieces are kept between calls.
pub(super) struct Sums {
    comm: Comm,
    pieces: Vec<f64>,
}

impl Sums {
    /// For vectors of `n` owned entries.
    pub(super) fn new(comm: &Comm, n: usize) -> Sums {
        Sums { comm: comm.clone(), pieces: vec![0.0; n.div_ceil(PIECE)] }
    }

    fn total(&self) -> f64 {
        self.comm.sum(self.pieces.iter().sum::<f64>())
    }

    /// The sum over the ranks. Collective.
    pub(super) fn all(&self, part: f64) -> f64 {
        self.comm.sum(part)
    }

    /// The scalar product. Collective.
    pub(super) fn dot(&mut self, a: &[f64], b: &[f64]) -> f64 {
        let _span = tracing::debug_span!("dot").entered();
        if parallel(a.len()) {
            let pieces = a.par_chunks(PIECE).zip(b.par_chunks(PIECE)).zip(self.pieces.par_iter_mut());
            pieces.with_min_len(TASK).for_each(|((a, b), sum)| *sum = dot(a, b));
        } else {
            let pieces = a.chunks(PIECE).zip(b.chunks(PIECE)).zip(&mut self.pieces);
            pieces.for_each(|((a, b), sum)| *sum = dot(a, b));
        }
        self.total()
    }

    /// The Euclidean norm. Collective.
    pub(super) fn norm(&mut self, a: &[f64]) -> f64 {
        self.dot(a, a).sqrt()
    }

    /// `x += alpha p; r -= alpha q`; returns the norm of `r`. Collective.
    pub(super) fn step(&mut self, alpha: f64, p: &[f64], q: &[f64], x: &mut [f64], r: &mut [f64]) -> f64 {
        let _span = tracing::debug_span!("update").entered();
        let one = |p: &[f64], q: &[f64], x: &mut [f64], r: &mut [f64]| {
            for (((p, q), x), r) in p.iter().zip(q).zip(x.iter_mut()).zip(r.iter_mut()) {
                *x += alpha * p;
                *r -= alpha * q;
            }
            dot(r, r)
        };
        if parallel(x.len()) {
            p.par_chunks(PIECE)
                .zip(q.par_chunks(PIECE))
                .zip(x.par_chunks_mut(PIECE))
                .zip(r.par_chunks_mut(PIECE))
                .zip(self.pieces.par_iter_mut())
                .with_min_len(TASK)
                .for_each(|((((p, q), x), r), sum)| *sum = one(p, q, x, r));
        } else {
            p.chunks(PIECE)
                .zip(q.chunks(PIECE))
                .zip(x.chunks_mut(PIECE))
                .zip(r.chunks_mut(PIECE))
                .zip(&mut self.pieces)
                .for_each(|((((p, q), x), r), sum)| *sum = one(p, q, x, r));
        }
        self.total().sqrt()
    }
}

/// `y = alpha x + beta y`.
pub(super) fn combine(alpha: f64, x: &[f64], beta: f64, y: &mut [f64]) {
    let _span = tracing::debug_span!("axpy").entered();
    let one = |x: &[f64], y: &mut [f64]| {
        for (x, y) in x.iter().zip(y) {
            *y = alpha * x + beta * *y;
        }
    };
    if parallel(y.len()) {
        let pieces = x.par_chunks(PIECE).zip(y.par_chunks_mut(PIECE));
        pieces.with_min_len(TASK).for_each(|(x, y)| one(x, y));
    } else {
        one(x, y);
    }
}

/// The product of two pieces, in eight interleaved sums so that it vectorises.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for k in 0..8 {
            sums[k] += a[k] * b[k];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// An orthonormal basis of the span of `modes`. Collective.
pub(super) fn orthonormal(comm: &Comm, modes: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let Some(first) = modes.first() else { return Vec::new() };
    let mut sums = Sums::new(comm, first.len());
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(modes.len());
    for mut mode in modes {
        let original = sums.norm(&mode);
        // Gram-Schmidt, twice: once leaves errors of the size of the modes' dependence.
        for _ in 0..2 {
            for q in &basis {
                let part = sums.dot(&mode, q);
                combine(-part, q, 1.0, &mut mode);
            }
        }
        let norm = sums.norm(&mode);
        // A mode that depends on the others (a rotation of a single point) adds nothing.
        if norm > 1e-8 * original && norm > 0.0 {
            mode.iter_mut().for_each(|x| *x /= norm);
            basis.push(mode);
        }
    }
    basis
}

/// Removes from `x` its part in the span of an orthonormal basis. Collective.
pub(super) fn remove(basis: &[Vec<f64>], sums: &mut Sums, x: &mut [f64]) {
    for mode in basis {
        let part = sums.dot(x, mode);
        combine(-part, mode, 1.0, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_of_any_length() {
        for n in [0usize, 1, 7, 8, 9, 1023, 1024, 1025] {
            let a: Vec<f64> = (0..n).map(|k| (k as f64).sin()).collect();
            let plain: f64 = a.iter().map(|a| a * a).sum();
            assert!((dot(&a, &a) - plain).abs() < 1e-10 * (1.0 + plain), "{n}");
        }
    }
}
