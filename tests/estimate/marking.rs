//! Marking against a sequential sort: random indicators, dealt out to any number of ranks.

use cluster::Comm;
use femdd::adapt::mark::{Amount, largest, least};

use super::launch::under_mpi;

/// A number in (0, 1) from an integer (splitmix64).
fn random(k: u64) -> f64 {
    let mut z = (k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// All indicators of a trial: sizes over many orders of magnitude, some zero, some equal.
fn indicators(trial: u64) -> Vec<f64> {
    let n = [0, 1, 2, 10, 300, 5000][trial as usize % 6];
    (0..n)
        .map(|k| {
            let r = random(trial * 100_000 + k);
            match trial / 6 % 4 {
                0 => r,
                1 => 10f64.powf(40.0 * r - 30.0),
                2 => (r * 5.0).floor(),
                _ => 1e-3 * (1.0 + 1e-9 * r),
            }
        })
        .collect()
}

/// Values that differ by less may count as one.
const ALIKE: f64 = 2e-3;

/// This rank's part, dealt out in a way of the trial's own.
fn share(comm: &Comm, trial: u64, all: &[f64]) -> Vec<usize> {
    let mine = |k: &usize| (random(trial * 77 + 13 * *k as u64) * comm.size() as f64) as usize == comm.rank();
    (0..all.len()).filter(mine).collect()
}

fn trials(comm: &Comm) -> Vec<f64> {
    let mut figures = Vec::new();
    for trial in 0..120 {
        let all = indicators(trial);
        let own = share(comm, trial, &all);
        let values: Vec<f64> = own.iter().map(|&k| all[k]).collect();
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.reverse();
        let total: f64 = sorted.iter().sum();
        let positive = sorted.iter().filter(|&&v| v > 0.0).count();
        let theta = [0.1, 0.5, 0.9, 1.0][trial as usize % 4];

        let choice = largest(comm, &values, Amount::Share(theta));
        let n = comm.sum(choice.chosen.iter().filter(|&&c| c).count() as u64);
        assert_eq!(n, choice.n_global);
        let held = comm.sum(values.iter().zip(&choice.chosen).filter(|v| *v.1).map(|v| v.0).sum::<f64>());
        assert!(held >= theta * total * (1.0 - ALIKE), "trial {trial}: {held} of {total}");
        // Nobody larger is left out, and without the values at the threshold it would not do.
        for (value, chosen) in values.iter().zip(&choice.chosen) {
            let far = (value / choice.threshold - 1.0).abs() > ALIKE;
            assert!(!far || *chosen == (*value > choice.threshold), "trial {trial}: {value}");
        }
        let above: f64 = sorted.iter().filter(|&&v| v > choice.threshold * (1.0 + ALIKE)).sum();
        assert!(positive == 0 || above < theta * total * (1.0 + ALIKE), "trial {trial}: {above} of {total}");

        let part = largest(comm, &values, Amount::Fraction(theta));
        let wanted = ((theta * all.len() as f64).ceil() as usize).min(positive) as u64;
        assert!(part.n_global >= wanted, "trial {trial}");
        let strictly = sorted.iter().filter(|&&v| v > part.threshold * (1.0 + ALIKE)).count() as u64;
        assert!(positive == 0 || strictly < wanted.max(1), "trial {trial}: {strictly}, {wanted}");

        let low = least(comm, &values, 0.1 * theta, choice.threshold);
        let held = comm.sum(values.iter().zip(&low.chosen).filter(|v| *v.1).map(|v| v.0).sum::<f64>());
        assert!(held <= 0.1 * theta * total * (1.0 + ALIKE) + 1e-300, "trial {trial}: {held} of {total}");
        assert!(choice.chosen.iter().zip(&low.chosen).all(|(a, b)| !(a & b)), "trial {trial}: both");
        // The next larger values would be too much, or reach the bound.
        let next: f64 = sorted.iter().filter(|&&v| v < low.threshold * (1.0 + ALIKE)).sum();
        let bound = low.n_global == all.len() as u64 || low.threshold >= choice.threshold * (1.0 - ALIKE);
        assert!(bound || next > 0.1 * theta * total * (1.0 - ALIKE), "trial {trial}");
        figures.extend([choice.n_global as f64, choice.threshold, part.n_global as f64, low.n_global as f64]);
    }
    figures
}

#[test]
fn marking_is_what_sorting_gives() {
    let all = under_mpi("marking::marking_is_what_sorting_gives", &[1, 2, 3, 4], 1, trials);
    for figures in &all {
        assert_eq!(figures, &all[0]);
    }
}
