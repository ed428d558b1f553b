//! The coarsest level: a dense factorisation, the same on every rank.
//!
//! Imports nothing of the crate. Start at [`Cholesky`].

/// A factorisation `L L^T` of a symmetric positive semidefinite matrix. Where a pivot vanishes, to round-off, its
/// unknown is set to zero: of the solutions of a singular system that is one.
pub(super) struct Cholesky {
    n: usize,
    /// Rows of `L`, each of full length.
    l: Vec<f64>,
}

/// Pivots below this part of their diagonal entry are round-off: prolongations are rounded to single precision, and
/// what that leaves of a null space costs some 1e-14 of the diagonal a node.
const ROUND_OFF: f64 = 1e-10;

/// The same for a matrix that is known to be singular. The prolongations are in single precision, so that their
/// products keep a null space to that precision only; its pivot would be divided by otherwise.
const SINGLE_ROUND_OFF: f64 = 1e-5;

/// The dot product, in eight partial sums that the compiler can keep in one register.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let (xs, x_rest) = x.as_chunks::<8>();
    let (ys, y_rest) = y.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in xs.iter().zip(ys) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f64>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f64>()
}

impl Cholesky {
    /// Factorises a matrix given by rows; only its lower part is read. `singular` if the matrix it comes from is.
    pub fn new(n: usize, mut a: Vec<f64>, singular: bool) -> Cholesky {
        let _span = tracing::debug_span!("factorise").entered();
        let round_off = if singular { SINGLE_ROUND_OFF } else { ROUND_OFF };
        for i in 0..n {
            let (before, rest) = a.split_at_mut(i * n);
            let row = &mut rest[..n];
            for j in 0..i {
                let other = &before[j * n..][..n];
                let sum = row[j] - dot(&row[..j], &other[..j]);
                row[j] = if other[j] > 0.0 { sum / other[j] } else { 0.0 };
            }
            let pivot = row[i] - dot(&row[..i], &row[..i]);
            row[i] = if pivot > round_off * row[i] && pivot.is_finite() { pivot.sqrt() } else { 0.0 };
        }
        Cholesky { n, l: a }
    }

    /// Replaces `b` by a solution.
    pub fn solve(&self, b: &mut [f64]) {
        for i in 0..self.n {
            let row = &self.l[i * self.n..][..=i];
            let sum = b[i] - dot(&row[..i], &b[..i]);
            b[i] = if row[i] > 0.0 { sum / row[i] } else { 0.0 };
        }
        for i in (0..self.n).rev() {
            let row = &self.l[i * self.n..][..=i];
            let x = if row[i] > 0.0 { b[i] / row[i] } else { 0.0 };
            b[i] = x;
            b[..i].iter_mut().zip(row).for_each(|(b, l)| *b -= l * x);
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        8 * self.l.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of `n` springs, held at neither end.
    fn chain(n: usize) -> Vec<f64> {
        let mut a = vec![0.0; n * n];
        for i in 0..n - 1 {
            for (r, c, v) in [(i, i, 1.0), (i, i + 1, -1.0), (i + 1, i, -1.0), (i + 1, i + 1, 1.0)] {
                a[r * n + c] += v;
            }
        }
        a
    }

    fn residual(a: &[f64], x: &[f64], b: &[f64]) -> f64 {
        let n = x.len();
        (0..n).map(|i| (dot(&a[i * n..][..n], x) - b[i]).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn regular_systems_are_solved() {
        let n = 29;
        let mut a = chain(n);
        (0..n).for_each(|i| a[i * n + i] += 0.1 * i as f64);
        let b: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let mut x = b.clone();
        Cholesky::new(n, a.clone(), false).solve(&mut x);
        assert!(residual(&a, &x, &b) < 1e-12);
    }

    #[test]
    fn singular_systems_are_solved_where_they_can_be() {
        let n = 20;
        let a = chain(n);
        // Forces in balance.
        let mut b: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
        let mean = b.iter().sum::<f64>() / n as f64;
        b.iter_mut().for_each(|b| *b -= mean);
        let mut x = b.clone();
        Cholesky::new(n, a.clone(), false).solve(&mut x);
        assert!(residual(&a, &x, &b) < 1e-11);
        // The null space is there to single precision only.
        let mut rounded = a.clone();
        (0..n).for_each(|i| rounded[i * n + i] *= 1.0 + 1e-7 * (i as f64).sin());
        let mut x = b.clone();
        Cholesky::new(n, rounded, true).solve(&mut x);
        assert!(residual(&a, &x, &b) < 1e-4 && x.iter().all(|x| x.abs() < 1e3));
        Cholesky::new(2, vec![0.0; 4], false).solve(&mut x[..2]);
        assert_eq!(x[..2], [0.0, 0.0]);
    }
}
