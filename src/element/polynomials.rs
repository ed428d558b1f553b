//! Orthonormal polynomials on the reference cells with first and second derivatives, Gauss-Jacobi points and a
//! dense inverse: what Lagrange bases and quadrature rules are made of.
//!
//! Imports [`Shape`] only. Start at [`orthonormal`].
//!
//! Sources: R. C. Kirby, Singularity-free evaluation of collapsed-coordinate orthogonal polynomials, ACM TOMS
//! 37 (2010); M. Dubiner, Spectral methods on triangles and other domains, J. Sci. Comput. 6 (1991).

use super::Shape;
use std::ops::{Add, Mul, Sub};

/// A value with its gradient and Hessian in three variables, propagated by the product rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jet {
    pub value: f64,
    pub gradient: [f64; 3],
    /// Full symmetric matrix.
    pub hessian: [[f64; 3]; 3],
}

impl Jet {
    pub fn constant(value: f64) -> Jet {
        Jet { value, gradient: [0.0; 3], hessian: [[0.0; 3]; 3] }
    }

    pub fn variable(value: f64, axis: usize) -> Jet {
        let mut jet = Jet::constant(value);
        jet.gradient[axis] = 1.0;
        jet
    }
}

impl Add for Jet {
    type Output = Jet;
    fn add(mut self, o: Jet) -> Jet {
        self.value += o.value;
        for i in 0..3 {
            self.gradient[i] += o.gradient[i];
            for j in 0..3 {
                self.hessian[i][j] += o.hessian[i][j];
            }
        }
        self
    }
}

impl Add<f64> for Jet {
    type Output = Jet;
    fn add(mut self, c: f64) -> Jet {
        self.value += c;
        self
    }
}

impl Sub for Jet {
    type Output = Jet;
    fn sub(self, o: Jet) -> Jet {
        self + o * -1.0
    }
}

impl Mul<f64> for Jet {
    type Output = Jet;
    fn mul(mut self, c: f64) -> Jet {
        self.value *= c;
        for i in 0..3 {
            self.gradient[i] *= c;
            for j in 0..3 {
                self.hessian[i][j] *= c;
            }
        }
        self
    }
}

impl Mul for Jet {
    type Output = Jet;
    fn mul(self, o: Jet) -> Jet {
        let mut r = Jet::constant(self.value * o.value);
        for i in 0..3 {
            r.gradient[i] = self.gradient[i] * o.value + self.value * o.gradient[i];
            for j in 0..3 {
                r.hessian[i][j] = self.hessian[i][j] * o.value
                    + self.gradient[i] * o.gradient[j]
                    + self.gradient[j] * o.gradient[i]
                    + self.value * o.hessian[i][j];
            }
        }
        r
    }
}

/// Coefficients of P_{n+1} = (a x + b) P_n - c P_{n-1} for Jacobi polynomials P^(alpha, 0).
fn jacobi_step(n: usize, alpha: f64) -> (f64, f64, f64) {
    let n = n as f64;
    let a = (2.0 * n + 1.0 + alpha) * (2.0 * n + 2.0 + alpha) / (2.0 * (n + 1.0) * (n + 1.0 + alpha));
    if n == 0.0 {
        // The general b is 0/0 at n = alpha = 0; P_1 = (alpha + 2)/2 x + alpha/2.
        return (a, 0.5 * alpha, 0.0);
    }
    let b =
        alpha * alpha * (2.0 * n + 1.0 + alpha) / (2.0 * (n + 1.0) * (n + 1.0 + alpha) * (2.0 * n + alpha));
    let c = (n + alpha) * n * (2.0 * n + 2.0 + alpha) / ((n + 1.0) * (n + 1.0 + alpha) * (2.0 * n + alpha));
    (a, b, c)
}

/// Which polynomials span a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// All polynomials up to the degree: total degree on simplices, in each variable on quadrilateral and
    /// hexahedron.
    Full(usize),
    /// On quadrilateral and hexahedron: degree 2 in at most one variable, 1 in the others.
    Serendipity,
}

/// Values at a point of polynomials that are orthonormal on the reference cell: of all up to a degree, in each
/// direction on quadrilaterals and hexahedra.
pub fn orthonormal_values(shape: Shape, degree: usize, x: [f64; 3]) -> Vec<f64> {
    let mut jets = Vec::new();
    orthonormal(shape, Span::Full(degree), x, &mut jets);
    jets.iter().map(|jet| jet.value).collect()
}

/// Orthonormal basis (in L2 of the reference cell) of the span, evaluated at `x` into `out`.
pub(super) fn orthonormal(shape: Shape, span: Span, x: [f64; 3], out: &mut Vec<Jet>) {
    out.clear();
    let degree = match span {
        Span::Full(degree) => degree,
        Span::Serendipity => 2,
    };
    match shape {
        Shape::Point => out.push(Jet::constant(1.0)),
        Shape::Triangle => triangle(degree, x, out),
        Shape::Tetrahedron => tetrahedron(degree, x, out),
        Shape::Interval | Shape::Quadrilateral | Shape::Hexahedron => {
            let line = |axis: usize| legendre(degree, Jet::variable(x[axis], axis));
            let one = vec![Jet::constant(1.0)];
            let dim = shape.dim();
            let px = line(0);
            let py = if dim > 1 { line(1) } else { one.clone() };
            let pz = if dim > 2 { line(2) } else { one };
            for (k, z) in pz.iter().enumerate() {
                for (j, y) in py.iter().enumerate() {
                    for (i, x) in px.iter().enumerate() {
                        let squares = [i, j, k].iter().filter(|&&power| power == 2).count();
                        if span == Span::Serendipity && squares > 1 {
                            continue;
                        }
                        out.push(*x * *y * *z);
                    }
                }
            }
        }
    }
}

/// Legendre polynomials orthonormal on \[0, 1\].
fn legendre(degree: usize, x: Jet) -> Vec<Jet> {
    let t = x * 2.0 + -1.0;
    let mut p = vec![Jet::constant(1.0)];
    for n in 0..degree {
        let (a, _, c) = jacobi_step(n, 0.0);
        let previous = if n == 0 { Jet::constant(0.0) } else { p[n - 1] };
        p.push(t * p[n] * a - previous * c);
    }
    p.iter().enumerate().map(|(n, &p)| p * (2.0 * n as f64 + 1.0).sqrt()).collect()
}

fn triangle(degree: usize, x: [f64; 3], out: &mut Vec<Jet>) {
    let u = Jet::variable(x[0], 0) * 2.0 + -1.0;
    let v = Jet::variable(x[1], 1) * 2.0 + -1.0;
    let f1 = (u * 2.0 + v + 1.0) * 0.5;
    let f2 = (v * -1.0 + 1.0) * 0.5;
    let f3 = f2 * f2;
    let mut row = vec![Jet::constant(1.0)];
    for p in 0..degree {
        let n = p as f64;
        let previous = if p == 0 { Jet::constant(0.0) } else { row[p - 1] };
        row.push(f1 * row[p] * ((2.0 * n + 1.0) / (n + 1.0)) - f3 * previous * (n / (n + 1.0)));
    }
    for (p, &start) in row.iter().enumerate() {
        let alpha = 2.0 * p as f64 + 1.0;
        let (mut before, mut now) = (Jet::constant(0.0), start);
        for q in 0..=degree - p {
            // sqrt((p + 1/2)(p + q + 1)) on the biunit triangle, times 2 for the unit one.
            out.push(now * (2.0 * ((p as f64 + 0.5) * (p + q + 1) as f64).sqrt()));
            let (a, b, c) = jacobi_step(q, alpha);
            let next = (v * a + b) * now - before * c;
            (before, now) = (now, next);
        }
    }
}

fn tetrahedron(degree: usize, x: [f64; 3], out: &mut Vec<Jet>) {
    let u = Jet::variable(x[0], 0) * 2.0 + -1.0;
    let v = Jet::variable(x[1], 1) * 2.0 + -1.0;
    let w = Jet::variable(x[2], 2) * 2.0 + -1.0;
    let f1 = (u * 2.0 + v + w + 2.0) * 0.5;
    let half = (v + w) * 0.5;
    let f2 = half * half;
    let f3 = (v * 2.0 + w + 1.0) * 0.5;
    let f4 = (w * -1.0 + 1.0) * 0.5;
    let f5 = f4 * f4;
    let mut row = vec![Jet::constant(1.0)];
    for p in 0..degree {
        let n = p as f64;
        let previous = if p == 0 { Jet::constant(0.0) } else { row[p - 1] };
        row.push(f1 * row[p] * ((2.0 * n + 1.0) / (n + 1.0)) - f2 * previous * (n / (n + 1.0)));
    }
    for (p, &start) in row.iter().enumerate() {
        let (mut before_q, mut at_q) = (Jet::constant(0.0), start);
        for q in 0..=degree - p {
            let (mut before, mut now) = (Jet::constant(0.0), at_q);
            for r in 0..=degree - p - q {
                // sqrt((p + 1/2)(p + q + 1)(p + q + r + 3/2)) on the biunit cell, times sqrt(8).
                let norm = (p as f64 + 0.5) * (p + q + 1) as f64 * ((p + q + r) as f64 + 1.5);
                out.push(now * (8.0 * norm).sqrt());
                let (a, b, c) = jacobi_step(r, 2.0 * (p + q) as f64 + 2.0);
                let next = (w * a + b) * now - before * c;
                (before, now) = (now, next);
            }
            let (a, b, c) = jacobi_step(q, 2.0 * p as f64 + 1.0);
            let next = (f3 * a + f4 * b) * at_q - f5 * before_q * c;
            (before_q, at_q) = (at_q, next);
        }
    }
}

/// Gauss-Jacobi points and weights on \[0, 1\] for the weight (1 - x)^alpha: exact to degree 2n - 1.
pub(super) fn gauss_jacobi(n: usize, alpha: usize) -> (Vec<f64>, Vec<f64>) {
    let al = alpha as f64;
    // P_n^(alpha,0) and its derivative at t in [-1, 1].
    let evaluate = |t: f64| {
        let (mut p0, mut p1, mut d0, mut d1) = (0.0, 1.0, 0.0, 0.0);
        for k in 0..n {
            let (a, b, c) = jacobi_step(k, al);
            let p = (a * t + b) * p1 - c * p0;
            let d = a * p1 + (a * t + b) * d1 - c * d0;
            (p0, p1, d0, d1) = (p1, p, d1, d);
        }
        (p1, d1)
    };
    let mut roots: Vec<f64> = Vec::with_capacity(n);
    for k in 0..n {
        let mut t = -((2 * k + 1) as f64 * std::f64::consts::PI / (2.0 * n as f64)).cos();
        if let Some(&last) = roots.last() {
            t = 0.5 * (t + last);
        }
        // Newton on P / prod (t - found), which cannot fall back on a root already found.
        for _ in 0..100 {
            let (p, d) = evaluate(t);
            let deflation: f64 = roots.iter().map(|r| 1.0 / (t - r)).sum();
            let step = p / (d - deflation * p);
            t -= step;
            if step.abs() < 1e-16 {
                break;
            }
        }
        roots.push(t);
    }
    roots.sort_by(f64::total_cmp);
    // With beta = 0 the weight is 2^(alpha+1) / ((1 - t^2) P'^2); x = (1 + t)/2 takes 2^-(alpha+1) of it.
    let weights = roots
        .iter()
        .map(|&t| {
            let (_, d) = evaluate(t);
            1.0 / ((1.0 - t * t) * d * d)
        })
        .collect();
    (roots.iter().map(|t| 0.5 * (1.0 + t)).collect(), weights)
}

/// Gauss-Lobatto points of `degree + 1` points on \[0, 1\], the single midpoint for degree 0.
pub(super) fn gauss_lobatto(degree: usize) -> Vec<f64> {
    if degree == 0 {
        return vec![0.5];
    }
    // The interior points are the zeros of P'_degree; its Newton uses (1 - t^2) P'' = 2 t P' - n(n+1) P.
    let n = degree as f64;
    let mut x: Vec<f64> = (0..=degree)
        .map(|i| {
            let mut t = -(std::f64::consts::PI * i as f64 / n).cos();
            if i == 0 || i == degree {
                return 0.5 * (1.0 + t.signum());
            }
            for _ in 0..100 {
                let (mut p0, mut p1, mut d0, mut d1) = (0.0, 1.0, 0.0, 0.0);
                for k in 0..degree {
                    let (a, _, c) = jacobi_step(k, 0.0);
                    let p = a * t * p1 - c * p0;
                    let d = a * p1 + a * t * d1 - c * d0;
                    (p0, p1, d0, d1) = (p1, p, d1, d);
                }
                let step = d1 * (1.0 - t * t) / (2.0 * t * d1 - n * (n + 1.0) * p1);
                t -= step;
                if step.abs() < 1e-16 {
                    break;
                }
            }
            0.5 * (1.0 + t)
        })
        .collect();
    // Exact symmetry, so that an edge seen from its other end has the same nodes.
    for i in 0..=degree / 2 {
        let mean = 0.5 * (x[i] + 1.0 - x[degree - i]);
        x[i] = mean;
        x[degree - i] = 1.0 - mean;
    }
    x
}

/// Inverse of a dense matrix given by rows, by elimination with row pivoting; `None` if singular.
pub(super) fn invert(n: usize, matrix: &[f64]) -> Option<Vec<f64>> {
    let mut a = matrix.to_vec();
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        inverse[i * n + i] = 1.0;
    }
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i * n + k].abs().total_cmp(&a[j * n + k].abs()))?;
        if a[pivot * n + k].abs() < 1e-12 {
            return None;
        }
        if pivot != k {
            for j in 0..n {
                a.swap(k * n + j, pivot * n + j);
                inverse.swap(k * n + j, pivot * n + j);
            }
        }
        let scale = 1.0 / a[k * n + k];
        for j in 0..n {
            a[k * n + j] *= scale;
            inverse[k * n + j] *= scale;
        }
        for i in (0..n).filter(|&i| i != k) {
            let factor = a[i * n + k];
            for j in 0..n {
                a[i * n + j] -= factor * a[k * n + j];
                inverse[i * n + j] -= factor * inverse[k * n + j];
            }
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Quadrature;

    #[test]
    fn bases_are_orthonormal() {
        for shape in Shape::ALL {
            for degree in 0..=4 {
                let rule = Quadrature::new(shape, 2 * degree).unwrap();
                let mut jets = Vec::new();
                orthonormal(shape, Span::Full(degree), shape.center(), &mut jets);
                let n = jets.len();
                let mut gram = vec![0.0; n * n];
                for (x, w) in rule.points.iter().zip(&rule.weights) {
                    orthonormal(shape, Span::Full(degree), *x, &mut jets);
                    for i in 0..n {
                        for j in 0..n {
                            gram[i * n + j] += w * jets[i].value * jets[j].value;
                        }
                    }
                }
                for i in 0..n {
                    for j in 0..n {
                        let delta = f64::from(u8::from(i == j));
                        assert!((gram[i * n + j] - delta).abs() < 1e-12, "{shape} {degree}: {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn gauss_jacobi_integrates_its_weight() {
        for alpha in 0..3 {
            for n in 1..=32 {
                let (x, w) = gauss_jacobi(n, alpha);
                assert!(x.windows(2).all(|p| p[0] < p[1]) && x[0] > 0.0 && x[n - 1] < 1.0);
                for power in [0, n, 2 * n - 1] {
                    let sum: f64 = x.iter().zip(&w).map(|(x, w)| w * x.powi(power as i32)).sum();
                    // Beta(power + 1, alpha + 1)
                    let mut exact = 1.0;
                    for i in 1..=alpha {
                        exact *= i as f64;
                    }
                    for i in 0..=alpha {
                        exact /= (power + 1 + i) as f64;
                    }
                    assert!((sum - exact).abs() < 1e-14, "n {n} alpha {alpha} power {power}: {sum} {exact}");
                }
            }
        }
    }

    #[test]
    fn gauss_lobatto_points_are_the_known_ones() {
        let close =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15);
        assert!(close(&gauss_lobatto(1), &[0.0, 1.0]));
        let s = 0.5 / 5f64.sqrt();
        assert!(close(&gauss_lobatto(3), &[0.0, 0.5 - s, 0.5 + s, 1.0]));
        let s = 0.5 * (3.0f64 / 7.0).sqrt();
        assert!(close(&gauss_lobatto(4), &[0.0, 0.5 - s, 0.5, 0.5 + s, 1.0]));
    }

    #[test]
    fn a_singular_matrix_has_no_inverse() {
        assert!(invert(2, &[1.0, 2.0, 2.0, 4.0]).is_none());
        assert_eq!(invert(2, &[0.0, 2.0, 1.0, 0.0]).unwrap(), vec![0.0, 1.0, 0.5, 0.0]);
    }
}
