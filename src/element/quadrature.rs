//! Quadrature rules with positive weights and points inside, exact to a degree asked for.
//!
//! Imports [`Shape`], polynomials.rs and the tables of rules.rs. Start at [`Quadrature::new`].

use super::polynomials::gauss_jacobi;
use super::rules::{Orbit, TETRAHEDRON_RULES, TRIANGLE_RULES};
use super::{Error, Shape};

/// Highest degree of a quadrature rule.
pub const MAX_QUADRATURE_DEGREE: usize = 60;

/// Points in a reference cell and positive weights that sum to its measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Quadrature {
    /// Reference coordinates.
    pub points: Vec<[f64; 3]>,
    /// One weight a point.
    pub weights: Vec<f64>,
}

impl Quadrature {
    /// The rule with the fewest points on file that is exact for polynomials of total degree `degree`: on
    /// simplices a fully symmetric rule where there is one, a collapsed Gauss-Jacobi product beyond; on the
    /// interval, quadrilateral and hexahedron a Gauss-Legendre product, exact to the degree in each variable.
    ///
    /// # Errors
    /// [`Error::QuadratureDegree`] above [`MAX_QUADRATURE_DEGREE`].
    pub fn new(shape: Shape, degree: usize) -> Result<Quadrature, Error> {
        if degree > MAX_QUADRATURE_DEGREE {
            return Err(Error::QuadratureDegree { shape, degree });
        }
        let symmetric = |rules: &[(usize, &[Orbit])]| {
            rules
                .iter()
                .find(|(exact, _)| *exact >= degree)
                .map(|(_, orbits)| Quadrature::orbits(shape, orbits))
        };
        let rule = match shape {
            Shape::Triangle => symmetric(TRIANGLE_RULES),
            Shape::Tetrahedron => symmetric(TETRAHEDRON_RULES),
            _ => None,
        };
        Ok(rule.unwrap_or_else(|| Quadrature::product(shape, degree)))
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are no points; never so for a rule of [`Quadrature::new`].
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Expands symmetry orbits; their weights are relative to the measure.
    fn orbits(shape: Shape, orbits: &[Orbit]) -> Quadrature {
        let mut rule = Quadrature { points: Vec::new(), weights: Vec::new() };
        for orbit in orbits {
            let n = rule.points.len();
            orbit.expand(shape.dim(), &mut rule.points);
            let weight = orbit.weight() * shape.measure();
            rule.weights.extend(std::iter::repeat_n(weight, rule.points.len() - n));
        }
        rule
    }

    /// Gauss products; on simplices through the collapse x = a (1 - y - z), y = b (1 - z), z = c, whose
    /// Jacobian (1 - b)(1 - c)^2 goes into the weights of the Gauss-Jacobi rules.
    fn product(shape: Shape, degree: usize) -> Quadrature {
        let n = degree / 2 + 1;
        let simplex = matches!(shape, Shape::Triangle | Shape::Tetrahedron);
        let lines: Vec<(Vec<f64>, Vec<f64>)> =
            (0..shape.dim()).map(|axis| gauss_jacobi(n, if simplex { axis } else { 0 })).collect();
        let single = (vec![0.0], vec![1.0]);
        let line = |axis: usize| lines.get(axis).unwrap_or(&single);
        let mut rule = Quadrature { points: Vec::new(), weights: Vec::new() };
        let (ax, ay, az) = (line(0), line(1), line(2));
        for (&c, wc) in az.0.iter().zip(&az.1) {
            for (&b, wb) in ay.0.iter().zip(&ay.1) {
                for (&a, wa) in ax.0.iter().zip(&ax.1) {
                    rule.points.push(if simplex {
                        [a * (1.0 - b) * (1.0 - c), b * (1.0 - c), c]
                    } else {
                        [a, b, c]
                    });
                    rule.weights.push(wa * wb * wc);
                }
            }
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factorial(n: usize) -> f64 {
        (1..=n).map(|k| k as f64).product()
    }

    fn exact(shape: Shape, p: [usize; 3]) -> f64 {
        let d = shape.dim();
        if matches!(shape, Shape::Triangle | Shape::Tetrahedron) {
            p.iter().map(|&k| factorial(k)).product::<f64>() / factorial(p.iter().sum::<usize>() + d)
        } else {
            p[..d].iter().map(|&k| 1.0 / (k + 1) as f64).product()
        }
    }

    #[test]
    fn rules_are_positive_inside_and_exact_on_every_monomial() {
        for shape in Shape::ALL {
            let d = shape.dim();
            for degree in (0..=22).chain([30, 41, 60]) {
                let rule = Quadrature::new(shape, degree).unwrap();
                assert!(rule.weights.iter().all(|&w| w > 0.0), "{shape} {degree}");
                assert!(rule.points.iter().all(|&x| shape.contains(x, -1e-12)), "{shape} {degree}");
                // High degrees on a sample of the monomials, and with the round-off of their long sums.
                let (stride, tolerance) = if degree <= 22 { (1, 1e-14) } else { (9, 1e-13) };
                let top = |axis: usize| if axis < d { degree } else { 0 };
                for i in (0..=top(0)).step_by(stride) {
                    for j in (0..=top(1).min(degree - i)).step_by(stride) {
                        for k in (0..=top(2).min(degree - i - j)).step_by(stride) {
                            let sum: f64 = rule
                                .points
                                .iter()
                                .zip(&rule.weights)
                                .map(|(x, w)| {
                                    w * x[0].powi(i as i32) * x[1].powi(j as i32) * x[2].powi(k as i32)
                                })
                                .sum();
                            let error = (sum - exact(shape, [i, j, k])).abs();
                            assert!(
                                error < tolerance,
                                "{shape} degree {degree}, x^{i} y^{j} z^{k}: {error:e}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tensor_rules_are_exact_in_each_variable() {
        for degree in 0..=20 {
            let rule = Quadrature::new(Shape::Hexahedron, degree).unwrap();
            let p = degree as i32;
            let sum: f64 =
                rule.points.iter().zip(&rule.weights).map(|(x, w)| w * (x[0] * x[1] * x[2]).powi(p)).sum();
            assert!((sum - 1.0 / f64::from(p + 1).powi(3)).abs() < 1e-14);
        }
    }

    #[test]
    fn low_degrees_need_few_points() {
        let count = |shape, degree| Quadrature::new(shape, degree).unwrap().len();
        let triangle: Vec<usize> = (0..=10).map(|d| count(Shape::Triangle, d)).collect();
        assert_eq!(triangle, [1, 1, 3, 6, 6, 7, 12, 15, 16, 19, 25]);
        let tetrahedron: Vec<usize> = (0..=8).map(|d| count(Shape::Tetrahedron, d)).collect();
        assert_eq!(tetrahedron, [1, 1, 4, 8, 14, 14, 24, 35, 46]);
        assert_eq!(count(Shape::Hexahedron, 3), 8);
        assert_eq!(count(Shape::Point, 7), 1);
    }

    #[test]
    fn too_high_a_degree_is_an_error() {
        let error = Quadrature::new(Shape::Triangle, MAX_QUADRATURE_DEGREE + 1).unwrap_err();
        assert!(error.to_string().contains("61 on the triangle"), "{error}");
    }
}
