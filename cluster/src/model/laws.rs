//! How a count grows with the number of ranks: laws with few parameters, fitted to few points, and how far they may be
//! off where nothing was measured.
//!
//! Imports nothing. Start at [`fit`].

use serde::{Deserialize, Serialize};

/// How a law depends on the number of ranks p.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `a`.
    Constant,
    /// `a + b log2(p)`.
    Log,
    /// `a + b p^c` with an exponent of geometry: surfaces and sides of parts in 1, 2 and 3 dimensions.
    Power(f64),
    /// `b p^c`, with the exponent fitted too.
    PurePower(f64),
    /// `a + b n(p)`, where n is the most neighbours that one of p boxes has which halving a square or a cube in turn
    /// along each direction makes: 1, 3, 7, 11, 17, 26 of 2 to 64 in 3 dimensions, and 26 ever after.
    Neighbours(u32),
}

/// A law of growth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// How it depends on the number of ranks.
    pub shape: Shape,
    /// What does not grow.
    pub a: f64,
    /// What does.
    pub b: f64,
}

impl Law {
    /// Its value for `p` ranks; never negative, as counts are.
    pub fn at(&self, p: f64) -> f64 {
        (self.a + self.b * self.shape.basis(p)).max(0.0)
    }
}

impl Shape {
    fn basis(self, p: f64) -> f64 {
        match self {
            Shape::Constant => 0.0,
            Shape::Log => p.log2(),
            Shape::Power(c) | Shape::PurePower(c) => p.powf(c),
            Shape::Neighbours(dimension) => {
                // Between two numbers of halvings, on the straight line.
                let halvings = p.max(1.0).log2();
                let (low, part) = (halvings.floor(), halvings.fract());
                let (low, high) =
                    (box_neighbours(low as u32, dimension), box_neighbours(low as u32 + 1, dimension));
                low + part * (high - low)
            }
        }
    }
}

/// The most neighbours of a box, of those that so many halvings make: along each direction there are up to 3 boxes
/// that touch it, itself among them.
fn box_neighbours(halvings: u32, dimension: u32) -> f64 {
    let along = |k: u32| (halvings + dimension - 1 - k) / dimension;
    (0..dimension).map(|k| f64::from((1u32 << along(k).min(2)).min(3))).product::<f64>() - 1.0
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (a, b) = (number(self.a), number(self.b.abs()));
        let sign = if self.b < 0.0 { '-' } else { '+' };
        match self.shape {
            Shape::Constant => write!(f, "{a}"),
            Shape::Log => write!(f, "{a} {sign} {b} log2 p"),
            Shape::Power(c) => write!(f, "{a} {sign} {b} p^{}", number(c)),
            Shape::PurePower(c) => write!(f, "{b} p^{}", number(c)),
            Shape::Neighbours(d) => write!(f, "{a} {sign} {b} neighbours in {d}D"),
        }
    }
}

/// Three digits.
fn number(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    if x.abs() >= 1e5 || x.abs() < 1e-3 {
        return format!("{x:.2e}");
    }
    let decimals = (2 - x.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A law with how well it tells a point from the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The law.
    pub law: Law,
    /// Root mean square, relative, of what each point is off the law through the others.
    pub left_out: f64,
}

/// A law chosen, and those that the points do not rule out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The law.
    pub law: Law,
    /// As in [`Candidate`]; of one or two points, how much they differ.
    pub left_out: f64,
    /// How many points it was fitted to.
    pub points: usize,
    /// The most ranks of any point.
    pub reach: f64,
    /// The law and all that tell left-out points nearly as well.
    pub plausible: Vec<Candidate>,
}

/// Exponents of [`Shape::Power`].
pub const EXPONENTS: [f64; 8] = [-1.0, -2.0 / 3.0, -0.5, -1.0 / 3.0, 1.0 / 3.0, 0.5, 2.0 / 3.0, 1.0];

/// Counts that differ by no more are the same.
const SAME: f64 = 0.02;

/// What the laws of a fit may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest exponent.
    pub exponent: f64,
    /// The number of ranks up to which a law must not become negative.
    pub far: f64,
    /// Whether it may follow the number of neighbours.
    pub neighbours: bool,
}

/// Fits a law of growth to points (ranks, count): of a constant, `a + b log2 p`, `a + b p^c` for the exponents of
/// geometry, `b p^c` and, where allowed, the number of neighbours, that which tells each point best from the others (leave-one-out, relative). A simpler law stays where a
/// richer one is not clearly better. Two points cannot choose: what grows is taken to do so by the logarithm, what
/// falls by a power. `None` without points.
///
/// Source: T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning" (2009), section 7.10.
pub fn fit(points: &[(f64, f64)], limits: &Limits) -> Option<Fit> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(p, y)| *p >= 1.0 && y.is_finite() && *y >= 0.0).collect();
    let n = points.len();
    let reach = points.iter().map(|(p, _)| *p).fold(0.0, f64::max);
    let constant = Law { shape: Shape::Constant, a: constant_of(&points)?, b: 0.0 };
    let apart = spread(&points);
    let only = |law: Law, left_out: f64, plausible: Vec<Candidate>| {
        Some(Fit { law, left_out, points: n, reach, plausible })
    };
    let flat = Candidate { law: constant, left_out: apart };
    if n == 1 || apart == 0.0 {
        return only(constant, apart, vec![flat]);
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    for shape in shapes(limits) {
        let law = solve(shape, &points).filter(|law| allowed(law, &points, limits));
        let left_out = if n > 2 { left_out(shape, &points, limits) } else { Some(0.0) };
        candidates.extend(law.zip(left_out).map(|(law, left_out)| Candidate { law, left_out }));
    }
    if n == 2 {
        let grows = points[0].1.min(points[1].1) == points.iter().min_by(|x, y| x.0.total_cmp(&y.0))?.1;
        let wanted = |c: &&Candidate| match c.law.shape {
            Shape::Log => grows,
            Shape::PurePower(_) => !grows,
            _ => false,
        };
        let law =
            if apart <= SAME { constant } else { candidates.iter().find(wanted).map_or(constant, |c| c.law) };
        // How well is not known: a law through two points is exact.
        candidates.push(Candidate { law: constant, left_out: apart });
        return only(law, apart, candidates);
    }
    candidates.push(Candidate { law: constant, left_out: left_out(Shape::Constant, &points, limits)? });
    let best = candidates.iter().map(|c| c.left_out).fold(f64::INFINITY, f64::min);
    // Simpler laws first: the first that is nearly as good as the best.
    let order = |shape: Shape| match shape {
        Shape::Constant => 0,
        Shape::Log | Shape::Neighbours(_) => 1,
        Shape::PurePower(_) => 2,
        Shape::Power(_) => 3,
    };
    let chosen = *candidates
        .iter()
        .filter(|c| {
            c.left_out <= 1.05 * best + 1e-9 || (c.law.shape == Shape::Constant && c.left_out <= SAME)
        })
        .min_by(|x, y| order(x.law.shape).cmp(&order(y.law.shape)).then(x.left_out.total_cmp(&y.left_out)))?;
    let limit = (2.0 * chosen.left_out).max(0.5 * SAME);
    candidates.retain(|c| c.left_out <= limit);
    only(chosen.law, chosen.left_out, candidates)
}

/// The shapes that the limits allow, with their exponents.
fn shapes(limits: &Limits) -> impl Iterator<Item = Shape> {
    let most = limits.exponent + 1e-12;
    let powers = EXPONENTS.into_iter().filter(move |c| *c <= most).map(Shape::Power);
    // The exponent of a pure power is found by its fit.
    let neighbours = [2, 3].into_iter().filter(|_| limits.neighbours).map(Shape::Neighbours);
    [Shape::Log, Shape::PurePower(f64::NAN)].into_iter().chain(neighbours).chain(powers)
}

/// Below a hundredth of the largest count, differences do not matter.
fn scale(points: &[(f64, f64)], y: f64) -> f64 {
    let most = points.iter().fold(0.0f64, |m, p| m.max(p.1));
    y.max(0.01 * most).max(f64::MIN_POSITIVE)
}

/// The constant nearest to all, relatively.
fn constant_of(points: &[(f64, f64)]) -> Option<f64> {
    let weight = |y: f64| scale(points, y).powi(-2);
    let (over, under) = points.iter().fold((0.0, 0.0), |s, p| (s.0 + weight(p.1) * p.1, s.1 + weight(p.1)));
    // Of counts that are all 0, weights are out of range.
    let all_zero = points.iter().all(|p| p.1 == 0.0);
    (!points.is_empty()).then(|| if all_zero { 0.0 } else { over / under })
}

/// Half of what the points differ, over their middle.
fn spread(points: &[(f64, f64)]) -> f64 {
    let (least, most) = points.iter().fold((f64::INFINITY, 0.0f64), |m, p| (m.0.min(p.1), m.1.max(p.1)));
    if most == 0.0 { 0.0 } else { (most - least) / (most + least) }
}

/// The law of that shape nearest to the points, relatively. `None` where they do not determine it.
fn solve(shape: Shape, points: &[(f64, f64)]) -> Option<Law> {
    if shape == Shape::Constant {
        return Some(Law { shape, a: constant_of(points)?, b: 0.0 });
    }
    let logs = matches!(shape, Shape::PurePower(_));
    if logs && points.iter().any(|p| p.1 <= 0.0) {
        return None;
    }
    let row = |&(p, y): &(f64, f64)| {
        if logs { (p.ln(), y.ln(), 1.0) } else { (shape.basis(p), y, scale(points, y).powi(-2)) }
    };
    let (mut w, mut mx, mut my) = (0.0, 0.0, 0.0);
    for (x, y, weight) in points.iter().map(row) {
        w += weight;
        mx += weight * x;
        my += weight * y;
    }
    (mx, my) = (mx / w, my / w);
    let (mut over, mut under) = (0.0, 0.0);
    for (x, y, weight) in points.iter().map(row) {
        over += weight * (x - mx) * (y - my);
        under += weight * (x - mx) * (x - mx);
    }
    let b = over / under;
    let a = my - b * mx;
    let law = match logs {
        true => Law { shape: Shape::PurePower(b), a: 0.0, b: a.exp() },
        false => Law { shape, a, b },
    };
    (law.a.is_finite() && law.b.is_finite() && b.is_finite()).then_some(law)
}

/// Whether a law stays a count on the way from the points to `far`, and does not grow faster than is allowed.
fn allowed(law: &Law, points: &[(f64, f64)], limits: &Limits) -> bool {
    if let Shape::PurePower(c) = law.shape
        && c > limits.exponent + 1e-12
    {
        return false;
    }
    let first = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    [first, limits.far].iter().all(|&p| law.a + law.b * law.shape.basis(p) >= 0.0)
}

/// The root mean square of what each point is off the law through the others.
fn left_out(shape: Shape, points: &[(f64, f64)], limits: &Limits) -> Option<f64> {
    let mut sum = 0.0;
    for k in 0..points.len() {
        let others: Vec<(f64, f64)> =
            points.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, p)| *p).collect();
        let law = solve(shape, &others)?;
        if let Shape::PurePower(c) = law.shape
            && c > limits.exponent + 1e-12
        {
            return None;
        }
        let (p, y) = points[k];
        sum += ((law.at(p) - y) / scale(points, y)).powi(2);
    }
    Some((sum / points.len() as f64).sqrt())
}

impl Fit {
    /// What the law says for `p` ranks.
    pub fn at(&self, p: f64) -> f64 {
        self.law.at(p)
    }

    /// The least and the most that any plausible law says for `p` ranks, each widened by twice what it is off points
    /// that were left out. What falls may stop to fall beyond the points: a constant under it is not seen there.
    pub fn range(&self, p: f64) -> (f64, f64) {
        let ends = self.plausible.iter().map(|c| {
            let (value, wide) = (c.law.at(p), 2.0 * if self.points > 2 { c.left_out } else { 0.0 });
            ((value * (1.0 - wide)).max(0.0), value * (1.0 + wide))
        });
        let own = self.at(p);
        let held = if p > self.reach { self.at(self.reach) } else { own };
        ends.fold((own, own.max(held)), |r, e| (r.0.min(e.0), r.1.max(e.1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { exponent: 1.0, far: 1e4, neighbours: true };
    const RANKS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

    fn ladder(n: usize, truth: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        RANKS[..n].iter().map(|&p| (p, truth(p))).collect()
    }

    /// Laws whose truth is known, from three to six rungs: found, and right at 10,000 ranks.
    #[test]
    fn known_laws_are_found() {
        for n in 3..=6 {
            for (truth, name) in [
                (Law { shape: Shape::Constant, a: 27.0, b: 0.0 }, "27"),
                (Law { shape: Shape::Log, a: 3.0, b: 2.5 }, "3 + 2.5 log2 p"),
                (Law { shape: Shape::Power(-2.0 / 3.0), a: 40.0, b: 900.0 }, "40 + 900 p^-0.667"),
                (Law { shape: Shape::Power(1.0 / 3.0), a: 10.0, b: 4.0 }, "10 + 4 p^0.333"),
                (Law { shape: Shape::PurePower(-0.6), a: 0.0, b: 5e4 }, "50000 p^-0.6"),
            ] {
                let found = fit(&ladder(n, |p| truth.at(p)), &LIMITS).expect("points");
                assert_eq!(found.law.to_string(), name, "{n} rungs: {found:?}");
                let far = found.at(1e4);
                assert!((far / truth.at(1e4) - 1.0).abs() < 1e-6, "{n} rungs of {name}: {far}");
                let (low, high) = found.range(1e4);
                assert!(low <= far && far <= high, "{low} {far} {high}");
            }
        }
    }

    /// Neighbours of the busiest of boxes in three dimensions, as femdd counts them, and messages that follow them: 26
    /// neighbours from 64 ranks on, though up to there they grow nearly as the root.
    #[test]
    fn neighbours_do_not_grow_for_ever() {
        let counted = [(2.0, 1.0), (4.0, 3.0), (8.0, 7.0), (16.0, 11.0), (32.0, 17.0), (64.0, 26.0)];
        for n in 4..=6 {
            let found = fit(&counted[..n], &LIMITS).expect("points");
            assert_eq!(found.law.shape, Shape::Neighbours(3), "{n} rungs: {found:?}");
            assert!((found.at(1e4) - 26.0).abs() < 1e-9);
            let messages: Vec<_> = counted[..n].iter().map(|&(p, n)| (p, 12.0 + 30.0 * n)).collect();
            assert!((fit(&messages, &LIMITS).expect("points").at(1e4) - 792.0).abs() < 1e-6);
        }
        let flat = [(2.0, 1.0), (4.0, 3.0), (8.0, 5.0), (16.0, 8.0), (64.0, 8.0)];
        assert_eq!(fit(&flat, &LIMITS).expect("points").law.shape, Shape::Neighbours(2));
    }

    #[test]
    fn few_points_say_little_and_that_is_said() {
        assert!(fit(&[], &LIMITS).is_none());
        assert!(fit(&[(0.0, 1.0), (2.0, f64::NAN)], &LIMITS).is_none());
        let one = fit(&[(2.0, 5.0)], &LIMITS).expect("a point");
        assert_eq!((one.at(1e4), one.range(1e4)), (5.0, (5.0, 5.0)));
        let grows = fit(&[(2.0, 1.0), (4.0, 3.0)], &LIMITS).expect("points");
        assert_eq!(grows.law.shape, Shape::Log);
        let (low, high) = grows.range(1e4);
        assert!(low < 5.0 && high > 1e3, "two points rule out next to nothing: {low} {high}");
        let falls = fit(&[(2.0, 8.0), (4.0, 4.0)], &LIMITS).expect("points");
        assert!((falls.at(8.0) - 2.0).abs() < 1e-12, "{falls:?}");
        let zero = fit(&[(2.0, 0.0), (4.0, 0.0), (8.0, 0.0)], &LIMITS).expect("points");
        assert_eq!((zero.at(1e4), zero.range(1e4)), (0.0, (0.0, 0.0)));
    }

    /// What falls never becomes negative, and a count cannot grow faster than allowed.
    #[test]
    fn limits_hold() {
        let falls = fit(&ladder(5, |p| 100.0 - 12.0 * p.log2()), &LIMITS).expect("points");
        assert!(falls.law.a + falls.law.b * falls.law.shape.basis(1e4) >= 0.0, "{falls:?}");
        let fast = fit(&ladder(5, |p| p * p), &Limits { exponent: 1.0, far: 1e4, neighbours: true })
            .expect("points");
        let ratio = fast.at(1e4) / fast.at(5e3);
        assert!(ratio < 2.5, "{fast:?}");
    }

    /// A ladder with noise, its truth, and the fit.
    fn noisy(kind: usize, a: f64, b: f64, n: usize, noise: &[f64]) -> (Vec<(f64, f64)>, Law, Fit) {
        let shape = [Shape::Constant, Shape::Log, Shape::Power(-2.0 / 3.0)][kind];
        let truth = Law { shape, a, b };
        let noisy = |((p, y), e): ((f64, f64), &f64)| (p, y * (1.0 + e));
        let points: Vec<_> = ladder(n, |p| truth.at(p)).into_iter().zip(noise).map(noisy).collect();
        let found = fit(&points, &LIMITS).expect("points");
        (points, truth, found)
    }

    /// Four points with noise do not give a factor of three away at 600 times their reach, but for one ladder in a
    /// hundred.
    #[test]
    fn the_truth_is_in_the_range_of_nearly_all() {
        let mut state = 1u64;
        let mut uniform = move |low: f64, high: f64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            low + (high - low) * (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let n_ladders = 1500;
        let mut missed = Vec::new();
        for k in 0..n_ladders {
            let noise: Vec<f64> = (0..6).map(|_| uniform(-0.03, 0.03)).collect();
            let (a, b) = (uniform(5.0, 50.0), uniform(5.0, 50.0));
            let (_, truth, found) = noisy(k % 3, a, b, 4 + k % 2, &noise);
            let (low, high) = found.range(1e4);
            if high < truth.at(1e4) / 3.0 || low > 3.0 * truth.at(1e4) {
                missed.push((truth, found));
            }
        }
        assert!(100 * missed.len() <= n_ladders, "{} of {n_ladders}, as {:?}", missed.len(), missed[0]);
    }

    proptest! {
        /// Counts with noise of some percent: the law is near the points, and its value within its range.
        #[test]
        fn noisy_ladders(
            kind in 0..3usize, a in 5.0..50.0f64, b in 5.0..50.0f64, n in 4..6usize,
            noise in proptest::collection::vec(-0.03..0.03f64, 6),
        ) {
            let (points, _, found) = noisy(kind, a, b, n, &noise);
            for (p, y) in &points {
                prop_assert!((found.at(*p) / y - 1.0).abs() < 0.2, "{:?} at {}: {}", found, p, y);
            }
            let (low, high) = found.range(1e4);
            prop_assert!(low <= found.at(1e4) && found.at(1e4) <= high);
        }

        /// The unit of a count does not matter.
        #[test]
        fn scaled_counts(factor in 1e-6..1e9f64) {
            let truth = |p: f64| 3.0 + 2.0 * p.log2();
            let one = fit(&ladder(5, truth), &LIMITS).expect("points");
            let other = fit(&ladder(5, |p| factor * truth(p)), &LIMITS).expect("points");
            prop_assert_eq!(one.law.shape, other.law.shape);
            prop_assert!((other.at(1e4) / factor / one.at(1e4) - 1.0).abs() < 1e-9);
        }
    }
}
