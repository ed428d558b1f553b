//! Smoothing: polynomials of the matrix times the inverse of its diagonal blocks.
//!
//! Imports its siblings. Start at [`before`] and [`after`], the smoothing on either side of the coarse correction;
//! [`largest_eigenvalue`] is what they are scaled by.
//!
//! Chebyshev polynomials of the fourth kind need no lower end of the spectrum, and with the weights of the first
//! source they give the least bound of the V-cycle. Every product with the matrix is one loop that makes all that
//! follows from it. Sources: J. Lottes, "Optimal polynomial smoothers for multigrid V-cycles", Numerical Linear
//! Algebra with Applications, 2023; M. Phillips, P. Fischer, "Optimal Chebyshev smoothers and one-sided V-cycles",
//! 2022; M. Adams, M. Brezina, J. Hu, R. Tuminaro, "Parallel multigrid smoothing: polynomial versus Gauss-Seidel",
//! Journal of Computational Physics 188, 2003.

use cluster::Comm;

use super::csr::{block, for_rows, sum_rows};
use super::level::Level;

/// The weights of a polynomial's steps, for degrees 1 to 4.
fn weights(degree: usize) -> &'static [f32] {
    match degree {
        1 => &[1.125],
        2 => &[1.023_872_9, 1.264_089_1],
        3 => &[1.008_425_4, 1.088_678_4, 1.337_531_3],
        _ => &[1.003_913, 1.040_358_1, 1.148_634_9, 1.382_688_7],
    }
}

/// The part of the last direction, and of the smoothed residual, in the `k`-th direction.
fn recurrence(k: usize, lambda: f32) -> (f32, f32) {
    let k = k as f32;
    ((2.0 * k - 1.0) / (2.0 * k + 3.0), (8.0 * k + 4.0) / ((2.0 * k + 3.0) * lambda))
}

/// `D^-1 r` at a row; without lanes, at the rows of a slice.
#[inline(always)]
fn scaled<const N: usize, const L: usize>(inverse: &[f32], row: usize, r: &[f32; N]) -> [f32; N] {
    if L == 0 {
        let inverse = block::<N>(inverse, row * N);
        return std::array::from_fn(|a| inverse[a] * r[a]);
    }
    let m: &[[f32; N]] = inverse[row * N * N..][..N * N].as_chunks().0;
    let mut z = [0.0; N];
    for a in 0..N {
        for b in 0..N {
            z[a] += m[a][b] * r[b];
        }
    }
    z
}

/// Smooths from a zero guess: makes `x`, and the residual of it in `t`, from `b`. Collective among neighbours.
pub(super) fn before<const N: usize, const L: usize>(level: &mut Level) {
    let _span = tracing::debug_span!("smooth before").entered();
    let Level { degree, csr, inverse, x, b, d, e, r, t, .. } = level;
    let degree = *degree;
    let halo = level.distributed.then_some(&level.nodes.halo);
    let (n, b, inverse) = (csr.n_rows(), &b[..], &inverse[..]);
    let beta = weights(degree);
    let first = 4.0 / (3.0 * level.lambda);
    for_rows::<N, L, 1>(n, [d], |row, [d]| {
        *d = scaled::<N, L>(inverse, row, block(b, row * N)).map(|z| first * z);
    });
    if degree == 1 {
        let now = beta[0];
        csr.sweep::<N, N, L, 2>(halo, d, [x, t], |row, w, d, [x, t]| {
            let (b, d) = (*block::<N>(b, row * N), *d);
            *x = d.map(|d| now * d);
            *t = std::array::from_fn(|a| b[a] - now * w[a]);
        });
        return;
    }
    for k in 1..degree {
        let (keep, gain) = recurrence(k, level.lambda);
        let now = beta[k - 1];
        let next = if k + 1 == degree { beta[k] } else { 0.0 };
        if degree == 2 {
            csr.sweep::<N, N, L, 3>(halo, d, [e, x, t], |row, w, d, [e, x, t]| {
                // Read before anything is written, so that the compiler need not ask what overlaps.
                let (b, d) = (*block::<N>(b, row * N), *d);
                let z = scaled::<N, L>(inverse, row, &std::array::from_fn(|a| b[a] - w[a]));
                let step: [f32; N] = std::array::from_fn(|a| keep * d[a] + gain * z[a]);
                *x = std::array::from_fn(|a| now * d[a] + next * step[a]);
                *t = std::array::from_fn(|a| b[a] - now * w[a]);
                *e = step;
            });
        } else {
            csr.sweep::<N, N, L, 4>(halo, d, [e, x, t, r], |row, w, d, [e, x, t, r]| {
                if k == 1 {
                    let b = block::<N>(b, row * N);
                    (*x, *t, *r) = ([0.0; N], *b, *b);
                }
                for a in 0..N {
                    r[a] -= w[a];
                }
                let z = scaled::<N, L>(inverse, row, r);
                for a in 0..N {
                    e[a] = keep * d[a] + gain * z[a];
                    x[a] += now * d[a] + next * e[a];
                    t[a] -= now * w[a];
                }
            });
        }
        std::mem::swap(d, e);
    }
    let last = beta[degree - 1];
    csr.sweep::<N, N, L, 1>(halo, d, [t], |_, w, _, [t]| {
        for a in 0..N {
            t[a] -= last * w[a];
        }
    });
}

/// Smooths `x` for the right-hand side `b`. Collective among neighbours.
pub(super) fn after<const N: usize, const L: usize>(level: &mut Level) {
    let _span = tracing::debug_span!("smooth after").entered();
    let Level { degree, csr, inverse, x, b, d, e, t: r, .. } = level;
    let degree = *degree;
    let halo = level.distributed.then_some(&level.nodes.halo);
    let (b, inverse) = (&b[..], &inverse[..]);
    let beta = weights(degree);
    let first = 4.0 / (3.0 * level.lambda);
    csr.sweep::<N, N, L, 2>(halo, x, [r, d], |row, w, _, [r, d]| {
        let b = *block::<N>(b, row * N);
        let residual = std::array::from_fn(|a| b[a] - w[a]);
        *d = scaled::<N, L>(inverse, row, &residual).map(|z| first * z);
        *r = residual;
    });
    if degree == 1 {
        let (now, d) = (beta[0], &d[..]);
        for_rows::<N, L, 1>(csr.n_rows(), [x], |row, [x]| {
            let d = block::<N>(d, row * N);
            (0..N).for_each(|a| x[a] += now * d[a]);
        });
        return;
    }
    for k in 1..degree {
        let (keep, gain) = recurrence(k, level.lambda);
        let now = beta[k - 1];
        if k + 1 == degree {
            let next = beta[k];
            let r = &r[..];
            csr.sweep::<N, N, L, 1>(halo, d, [x], |row, w, d, [x]| {
                let (r, d) = (*block::<N>(r, row * N), *d);
                let z = scaled::<N, L>(inverse, row, &std::array::from_fn(|a| r[a] - w[a]));
                *x = std::array::from_fn(|a| x[a] + now * d[a] + next * (keep * d[a] + gain * z[a]));
            });
        } else {
            csr.sweep::<N, N, L, 3>(halo, d, [e, x, r], |row, w, d, [e, x, r]| {
                for a in 0..N {
                    r[a] -= w[a];
                }
                let z = scaled::<N, L>(inverse, row, r);
                for a in 0..N {
                    e[a] = keep * d[a] + gain * z[a];
                    x[a] += now * d[a];
                }
            });
            std::mem::swap(d, e);
        }
    }
}

/// The products of two blocks' entries.
#[inline(always)]
fn product<const N: usize>(x: &[f32; N], y: &[f32; N]) -> [f32; N] {
    std::array::from_fn(|k| x[k] * y[k])
}

/// The Lanczos estimate falls short of the eigenvalue by less than this, in the matrices it is used for.
const SAFETY: f64 = 1.08;

/// An upper bound, near enough, of the spectrum of `D^-1 A`: Lanczos' method in the guise of conjugate gradients,
/// from a vector without pattern. Collective.
pub(super) fn largest_eigenvalue<const N: usize, const L: usize>(
    comm: &Comm,
    level: &mut Level,
    steps: usize,
) -> f64 {
    let _span = tracing::debug_span!("spectrum").entered();
    let Level { csr, inverse, d, e, t: r, .. } = level;
    let halo = level.distributed.then_some(&level.nodes.halo);
    let (n, inverse) = (csr.n_rows(), &inverse[..]);
    let offset = level.nodes.map.offset() * level.block as u64;
    let begin = sum_rows::<N, L, 2>(n, [r, d], |row, [r, d]| {
        for a in 0..N {
            // Bits of a multiple of the golden ratio, mixed: the same on any number of ranks.
            let k = offset + (row * N + a) as u64;
            let mut h = (k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
            r[a] = ((h >> 40) as f32) / 8_388_608.0 - 1.0;
        }
        *d = scaled::<N, L>(inverse, row, r);
        product(r, d)
    });
    let mut rho = comm.sum(begin);
    let (mut diagonal, mut off): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut alpha_before, mut beta) = (1.0f64, 0.0f64);
    for _ in 0..steps {
        csr.sweep::<N, N, L, 1>(halo, d, [e], |_, w, _, [e]| *e = w);
        let energy = {
            let d = &d[..];
            comm.sum(sum_rows::<N, L, 1>(n, [e], |row, [e]| product(block(d, row * N), e)))
        };
        if !(rho > 0.0 && energy > 1e-12 * rho) {
            break;
        }
        let alpha = rho / energy;
        diagonal.push(1.0 / alpha + beta / alpha_before);
        if diagonal.len() == steps {
            break;
        }
        let step = alpha as f32;
        let next = comm.sum(sum_rows::<N, L, 2>(n, [r, e], |row, [r, e]| {
            r.iter_mut().zip(e.iter()).for_each(|(r, w)| *r -= step * w);
            *e = scaled::<N, L>(inverse, row, r);
            product(r, e)
        }));
        if next <= 1e-10 * rho || next.is_nan() {
            break;
        }
        beta = next / rho;
        rho = next;
        off.push(beta.sqrt() / alpha);
        alpha_before = alpha;
        let part = beta as f32;
        let e = &e[..];
        for_rows::<N, L, 1>(n, [d], |row, [d]| {
            let z = block::<N>(e, row * N);
            d.iter_mut().zip(z).for_each(|(d, z)| *d = z + part * *d);
        });
    }
    if diagonal.is_empty() {
        return 1.0;
    }
    SAFETY * largest_of_tridiagonal(&diagonal, &off)
}

/// The largest eigenvalue of a symmetric tridiagonal matrix, by bisection with Sturm's count.
fn largest_of_tridiagonal(diagonal: &[f64], off: &[f64]) -> f64 {
    let n = diagonal.len();
    let side = |k: usize| if k + 1 < n { off[k].abs() } else { 0.0 };
    let bound = |k: usize| diagonal[k] + side(k) + if k > 0 { side(k - 1) } else { 0.0 };
    let mut high = (0..n).map(bound).fold(f64::MIN, f64::max);
    let mut low = diagonal.iter().copied().fold(f64::MIN, f64::max);
    for _ in 0..60 {
        // More figures than an estimate is worth that is multiplied by a factor of safety and rounded.
        if high - low <= 1e-13 * high {
            break;
        }
        let middle = 0.5 * (low + high);
        // All pivots of T - middle are negative exactly if no eigenvalue is larger.
        let mut pivot = diagonal[0] - middle;
        let mut above = pivot >= 0.0;
        for k in 1..n {
            pivot = diagonal[k] - middle - off[k - 1] * off[k - 1] / pivot;
            above |= pivot >= 0.0;
        }
        if above {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_eigenvalue_of_a_chain() {
        // Eigenvalues 2 - 2 cos(k pi / (n + 1)).
        let n = 9;
        let found = largest_of_tridiagonal(&vec![2.0; n], &vec![-1.0; n - 1]);
        let exact = 2.0 + 2.0 * (std::f64::consts::PI / (n as f64 + 1.0)).cos();
        assert!((found - exact).abs() < 1e-12);
        assert_eq!(largest_of_tridiagonal(&[3.0], &[]), 3.0);
    }

    #[test]
    fn polynomials_are_bounded_and_small_at_the_upper_end() {
        // The error's polynomial, by the recurrence that the smoother uses, on [0, lambda].
        for degree in 1..=4 {
            let beta = weights(degree);
            for s in 0..=1000 {
                let a = s as f32 / 1000.0 * 2.0;
                let (mut x, mut r, mut d) = (0.0, 1.0f32, 4.0 / 6.0);
                for k in 1..degree {
                    let (keep, gain) = recurrence(k, 2.0);
                    x += beta[k - 1] * d;
                    r -= a * d;
                    d = keep * d + gain * r;
                }
                x += beta[degree - 1] * d;
                let error = 1.0 - a * x;
                assert!(error.abs() <= 1.0 + 1e-5, "degree {degree}: {error} at {a}");
                if a > 1.0 {
                    assert!(error.abs() < 1.0 / degree as f32, "degree {degree}: {error} at {a}");
                }
            }
        }
    }
}
