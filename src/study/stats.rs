//! Medians, and how sure one may be of their ratio.
//!
//! Imports nothing. Start at [`ratio_of_medians`].

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    median_in_place(&mut sorted)
}

fn median_in_place(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable_by(f64::total_cmp);
    let (n, half) = (values.len(), values.len() / 2);
    if n % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) }
}

/// A ratio and the interval in which it lies with a probability of 95%.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The ratio.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// How often the samples are drawn again.
const DRAWS: usize = 10_000;

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

/// The median of `b` over the median of `a`, with a percentile bootstrap interval: both samples are drawn
/// again with replacement, and 95% of the ratios found lie in the interval. The same for the same samples.
///
/// Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
pub fn ratio_of_medians(a: &[f64], b: &[f64]) -> Interval {
    let value = median(b) / median(a);
    if a.is_empty() || b.is_empty() {
        return Interval { value, low: f64::NAN, high: f64::NAN };
    }
    let mut random = SplitMix(1);
    let (mut again_a, mut again_b) = (a.to_vec(), b.to_vec());
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            again_a.iter_mut().for_each(|x| *x = a[random.below(a.len())]);
            again_b.iter_mut().for_each(|x| *x = b[random.below(b.len())]);
            median_in_place(&mut again_b) / median_in_place(&mut again_a)
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    Interval { value, low: ratios[DRAWS / 40], high: ratios[DRAWS - 1 - DRAWS / 40] }
}

/// The exponent of a power law through points (x, y): the slope of the line through their logarithms.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (mx, my) = logs.iter().fold((0.0, 0.0), |m, p| (m.0 + p.0 / n, m.1 + p.1 / n));
    let (over, under) =
        logs.iter().fold((0.0, 0.0), |s, (x, y)| (s.0 + (x - mx) * (y - my), s.1 + (x - mx) * (x - mx)));
    over / under
}

/// The median of how far values are from their median; 0 of a single one, NaN of none.
///
/// Source: F. R. Hampel, "The influence curve and its role in robust estimation" (1974).
pub fn median_deviation(values: &[f64]) -> f64 {
    let middle = median(values);
    median(&values.iter().map(|x| (x - middle).abs()).collect::<Vec<f64>>())
}

/// The upper quantile of Student's distribution that leaves 2.5% above it, for 1 to 10 degrees of freedom.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// As [`exponent`], with the interval in which it lies with a probability of 95% if the logarithms scatter normally
/// about the line; an infinite interval of two points, which cannot say how much they scatter. `None` of fewer.
///
/// Source: N. R. Draper, H. Smith, "Applied Regression Analysis" (1998), section 1.4.
pub fn exponent_interval(points: &[(f64, f64)]) -> Option<Interval> {
    let n = points.len();
    if n < 2 || points.iter().any(|(x, y)| *x <= 0.0 || *y <= 0.0) {
        return None;
    }
    let value = exponent(points);
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n as f64;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = logs.iter().map(|p| (p.0 - mx).powi(2)).sum();
    if spread <= 0.0 || !value.is_finite() {
        return None;
    }
    let rest: f64 = logs.iter().map(|p| (p.1 - my - value * (p.0 - mx)).powi(2)).sum();
    let half = match n - 2 {
        0 => f64::INFINITY,
        free => {
            // Beyond the table the quantile nears that of the normal distribution.
            let quantile = STUDENT.get(free - 1).copied().unwrap_or(1.96 + 2.7 / free as f64);
            quantile * (rest / free as f64 / spread).sqrt()
        }
    };
    Some(Interval { value, low: value - half, high: value + half })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_holds_the_ratio_and_nothing_random() {
        let a = [1.0, 1.02, 0.98, 1.01, 0.99, 1.3, 1.0];
        let b: Vec<f64> = a.iter().map(|x| x * 1.1).collect();
        let found = ratio_of_medians(&a, &b);
        assert!((found.value - 1.1).abs() < 1e-12);
        assert!(found.low < found.value && found.value < found.high, "{found:?}");
        // One slow run in seven does not move the median by much.
        assert!(found.low > 1.05 && found.high < 1.15, "{found:?}");
        assert_eq!(found, ratio_of_medians(&a, &b));
        let noisy = ratio_of_medians(&[1.0, 2.0, 3.0], &[1.1, 2.2, 3.3]);
        assert!(noisy.low < 1.0 && noisy.high > 1.0, "three runs that differ by 3 say nothing: {noisy:?}");
    }

    /// The interval of samples from one distribution holds 1 nearly always.
    #[test]
    fn equal_programs_are_told_apart_seldom() {
        let mut random = SplitMix(7);
        let mut sample = || (0..9).map(|_| 1.0 + 1e-6 * random.below(50_000) as f64).collect::<Vec<_>>();
        let n = 200;
        let wrong = (0..n)
            .filter(|_| {
                let found = ratio_of_medians(&sample(), &sample());
                found.low > 1.0 || found.high < 1.0
            })
            .count();
        assert!(wrong <= n / 10, "{wrong} of {n}");
    }

    #[test]
    fn the_exponent_of_a_power() {
        let points: Vec<(f64, f64)> = [1.0, 2.0, 5.0].map(|x: f64| (x, 3.0 * x.powf(1.25))).to_vec();
        assert!((exponent(&points) - 1.25).abs() < 1e-12);
    }

    /// Against the formulas worked by hand: logarithms (0, 0), (1, 1), (2, 3) have a slope of 1.5, a residual sum of
    /// squares of 1/6 and a standard error of sqrt(1/12).
    #[test]
    fn the_interval_of_an_exponent() {
        let points = [(0.0, 0.0), (1.0, 1.0), (2.0, 3.0)].map(|(x, y): (f64, f64)| (x.exp(), y.exp()));
        let found = exponent_interval(&points).expect("three points");
        assert!((found.value - 1.5).abs() < 1e-12);
        assert!((found.high - 1.5 - 12.706 * (1.0f64 / 12.0).sqrt()).abs() < 1e-9, "{found:?}");
        let two = exponent_interval(&points[..2]).expect("two points");
        assert!(two.value > 0.0 && two.low == f64::NEG_INFINITY);
        assert!(exponent_interval(&points[..1]).is_none());
        assert!(exponent_interval(&[(1.0, 0.0), (2.0, 1.0)]).is_none());
    }

    #[test]
    fn deviations() {
        assert_eq!(median_deviation(&[1.0, 2.0, 10.0]), 1.0);
        assert_eq!(median_deviation(&[3.0]), 0.0);
    }
}
