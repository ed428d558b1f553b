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
}
