//! Choosing cells by their indicators, on any number of ranks, without gathering the indicators.
//!
//! Imports the crate `cluster`. Start at [`largest`] and [`least`]. A threshold is found by two sums over
//! ranks of a histogram of the values' leading bits: 21 bits of exponent and mantissa, hence values to a
//! thousandth. Values alike to that are taken or left together, and sums are of integers, so the choice
//! does not depend on how cells are dealt out or numbered.

use cluster::Comm;

/// How many of the largest are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// The smallest set that holds this share of the sum of all values (W. Doerfler, A convergent adaptive
    /// algorithm for Poisson's equation, SIAM J. Numer. Anal. 33 (1996)).
    Share(f64),
    /// This fraction of the cells.
    Fraction(f64),
}

/// Chosen cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Per owned cell: whether it is chosen.
    pub chosen: Vec<bool>,
    /// How many are, over all ranks.
    pub n_global: u64,
    /// Of [`largest`], values from here on are chosen; of [`least`], those below. The same on every rank.
    pub threshold: f64,
}

/// Bits of a key that one histogram resolves.
const BITS: [u32; 2] = [11, 10];

/// Bits of the mantissa that stay. Values within a thousandth of each other count as one: cells that symmetry
/// makes alike differ by the solver's tolerance, and whichever ranks they are on, they are chosen together.
const KEPT: u32 = 10;

/// Bits of a value that are left out.
const DROPPED: u32 = 52 - KEPT;

/// The leading bits of a value, rounded: their order is the values'. Negative values and those that are not
/// numbers count as zero.
fn key(value: f64) -> u32 {
    if value > 0.0 {
        ((value.min(f64::MAX / 2.0).to_bits() + (1 << (DROPPED - 1))) >> DROPPED) as u32
    } else {
        0
    }
}

/// The value that stands for all those of a key.
fn of_key(key: u32) -> f64 {
    f64::from_bits(u64::from(key) << DROPPED)
}

/// Sums of integers too large for one word: counts, and low and high halves of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    count: u64,
    weight: u128,
}

/// What is added up: the number of values, or the values as whole multiples of a tiny part of the largest.
#[derive(Clone, Copy)]
struct Scale {
    /// 2^60 over a power of two above the largest value.
    factor: f64,
}

impl Scale {
    /// Collective.
    fn new(comm: &Comm, keys: &[u32]) -> Scale {
        let most = comm.max(keys.iter().copied().max().unwrap_or(0));
        let exponent = (most >> KEPT) as i32 - 1023 + 1;
        Scale { factor: 2f64.powi((60 - exponent).min(1023)) }
    }

    fn weight(&self, key: u32) -> u64 {
        (of_key(key) * self.factor) as u64
    }
}

/// Counts and weights over all ranks of the keys whose bits above `shift + bits` are those of `prefix`, by
/// their next `bits` bits. Collective.
fn histogram(comm: &Comm, keys: &[u32], scale: Scale, prefix: u32, shift: u32, bits: u32) -> Vec<Sum> {
    let n = 1usize << bits;
    let mut all = vec![0u64; 3 * n];
    for &key in keys.iter().filter(|&&key| key != 0 && key >> shift >> bits == prefix) {
        let bin = (key >> shift) as usize & (n - 1);
        let weight = scale.weight(key);
        all[3 * bin] += 1;
        all[3 * bin + 1] += weight & 0xffff_ffff;
        all[3 * bin + 2] += weight >> 32;
    }
    comm.sum_slice(&mut all);
    let sum = |s: &[u64]| Sum { count: s[0], weight: u128::from(s[1]) + (u128::from(s[2]) << 32) };
    all.chunks_exact(3).map(sum).collect()
}

/// Goes through all values in order of their keys, from the largest or the least, to the first key at which
/// `enough` holds of what was passed, itself included; nothing if it never does. Returns that key and what
/// was passed before it. Collective.
fn walk(
    comm: &Comm,
    keys: &[u32],
    scale: Scale,
    descending: bool,
    enough: impl Fn(&Sum, &Sum) -> bool,
) -> Option<(u32, Sum, Sum)> {
    let (mut prefix, mut shift) = (0u32, BITS.iter().sum());
    let mut passed = Sum::default();
    let mut total = None;
    let mut last = Sum::default();
    for bits in BITS {
        shift -= bits;
        let bins = histogram(comm, keys, scale, prefix, shift, bits);
        let whole = *total.get_or_insert_with(|| {
            bins.iter().fold(Sum::default(), |sum, bin| Sum {
                count: sum.count + bin.count,
                weight: sum.weight + bin.weight,
            })
        });
        let n = bins.len();
        let found = (0..n).map(|k| if descending { n - 1 - k } else { k }).find(|&k| {
            let with = Sum { count: passed.count + bins[k].count, weight: passed.weight + bins[k].weight };
            if bins[k].count > 0 && enough(&with, &whole) {
                last = with;
                return true;
            }
            passed = with;
            false
        })?;
        prefix = prefix << bits | found as u32;
    }
    Some((prefix, passed, last))
}

/// Chooses the cells of the largest indicators; those that are zero never. Collective.
pub fn largest(comm: &Comm, indicators: &[f64], amount: Amount) -> Choice {
    let _span = tracing::debug_span!("mark").entered();
    let keys: Vec<u32> = indicators.iter().map(|&v| key(v)).collect();
    let scale = Scale::new(comm, &keys);
    let n_cells = comm.sum(keys.len() as u64);
    let found = walk(comm, &keys, scale, true, |sum, whole| match amount {
        Amount::Share(share) => sum.weight as f64 >= share.min(1.0) * whole.weight as f64,
        // All that are not zero, where a fraction asks for more.
        Amount::Fraction(fraction) => sum.count as f64 >= (fraction * n_cells as f64).min(whole.count as f64),
    });
    match found {
        None => Choice { chosen: vec![false; keys.len()], n_global: 0, threshold: f64::INFINITY },
        Some((least, _, sum)) => Choice {
            chosen: keys.iter().map(|&key| key >= least && key != 0).collect(),
            n_global: sum.count,
            threshold: of_key(least),
        },
    }
}

/// Chooses the cells of the least indicators, for coarsening: those that together hold at most `share` of
/// the sum, of which none reaches `below`. Collective.
pub fn least(comm: &Comm, indicators: &[f64], share: f64, below: f64) -> Choice {
    let keys: Vec<u32> = indicators.iter().map(|&v| key(v)).collect();
    let scale = Scale::new(comm, &keys);
    let found = walk(comm, &keys, scale, false, |sum, whole| sum.weight as f64 > share * whole.weight as f64);
    let end = found.map_or(u32::MAX, |(key, ..)| key).min(key(below));
    let chosen: Vec<bool> = keys.iter().map(|&key| key < end).collect();
    let n_global = comm.sum(chosen.iter().filter(|&&c| c).count() as u64);
    Choice { chosen, n_global, threshold: of_key(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_values_and_near_them() {
        let values = [0.0, 1e-300, 3e-7, 3.01e-7, 0.5, 1.0, 1.002, 1.9999999, 2.0, 7e12, 1e300];
        for w in values.windows(2) {
            assert!(key(w[0]) < key(w[1]) || (w[1] == 2.0), "{w:?}");
        }
        for v in &values[1..] {
            assert!((of_key(key(*v)) / v - 1.0).abs() < 6e-4, "{v}");
        }
        assert_eq!([key(-1.0), key(f64::NAN), key(0.0)], [0; 3]);
        assert!(key(f64::INFINITY) > key(1e300));
        assert!(of_key(key(f64::INFINITY)).is_finite());
    }
}
