//! Positions along Hilbert's curve: points near on the curve are near in space.
//!
//! Imports nothing. Start at [`key`].
//!
//! Source: J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707 (2004).

/// Bits a coordinate in two and three dimensions; the key has at most 63.
const BITS: [u32; 4] = [0, 62, 31, 21];

/// The position along the curve of a point in the box from `low` to `high`.
///
/// The first `dim` coordinates count. The curve fills a cube (square) as wide as the longest side of the
/// box, so that its pieces are as compact in a slender box as in a cubic one. Points outside are
/// moved to the nearest side; coordinates that are not numbers count as `low`.
///
/// # Panics
/// When `dim` is not 1, 2 or 3.
pub fn key(point: [f64; 3], low: [f64; 3], high: [f64; 3], dim: usize) -> u64 {
    assert!((1..=3).contains(&dim), "Hilbert keys are for 1, 2 or 3 dimensions");
    let bits = BITS[dim];
    let width = (0..dim).map(|d| high[d] - low[d]).fold(0.0, f64::max);
    let cells = (1u64 << bits) as f64;
    let scale = if width > 0.0 { cells / width } else { 0.0 };
    let mut x = [0u64; 3];
    for d in 0..dim {
        // The conversion saturates at 0 and takes what is not a number to 0.
        x[d] = (((point[d] - low[d]) * scale) as u64).min((1 << bits) - 1);
    }
    match dim {
        1 => x[0],
        2 => index::<2>([x[0], x[1]], bits),
        _ => index::<3>(x, bits),
    }
}

/// The position along the curve of a cell of a grid with `2^bits` cells a side.
fn index<const N: usize>(mut x: [u64; N], bits: u32) -> u64 {
    // Undo the excess of rotations and reflections, from the coarsest level on.
    let mut q = 1u64 << (bits - 1);
    while q > 1 {
        let p = q - 1;
        for d in 0..N {
            if x[d] & q != 0 {
                x[0] ^= p;
            } else {
                let t = (x[0] ^ x[d]) & p;
                x[0] ^= t;
                x[d] ^= t;
            }
        }
        q >>= 1;
    }
    // Gray encode.
    for d in 1..N {
        x[d] ^= x[d - 1];
    }
    let mut t = 0;
    let mut q = 1u64 << (bits - 1);
    while q > 1 {
        if x[N - 1] & q != 0 {
            t ^= q - 1;
        }
        q >>= 1;
    }
    // The transposed index: bit b of coordinate d is bit b * N + (N - 1 - d) of the position.
    x.iter().enumerate().fold(0, |key, (d, &xd)| key | (spread::<N>(xd ^ t) << (N - 1 - d)))
}

/// Moves bit `b` to bit `b * N`.
fn spread<const N: usize>(x: u64) -> u64 {
    let step = |x: u64, shift: u32, mask: u64| (x | (x << shift)) & mask;
    if N == 2 {
        let x = step(x, 16, 0x0000_ffff_0000_ffff);
        let x = step(x, 8, 0x00ff_00ff_00ff_00ff);
        let x = step(x, 4, 0x0f0f_0f0f_0f0f_0f0f);
        let x = step(x, 2, 0x3333_3333_3333_3333);
        step(x, 1, 0x5555_5555_5555_5555)
    } else {
        let x = step(x, 32, 0x001f_0000_0000_ffff);
        let x = step(x, 16, 0x001f_0000_ff00_00ff);
        let x = step(x, 8, 0x100f_00f0_0f00_f00f);
        let x = step(x, 4, 0x10c3_0c30_c30c_30c3);
        step(x, 2, 0x1249_2492_4924_9249)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every cell of a grid is visited once, and each step goes to a neighbour.
    fn is_a_curve<const N: usize>(bits: u32) {
        let side = 1usize << bits;
        let mut at = vec![None; side.pow(N as u32)];
        for cell in 0..at.len() {
            let x: [u64; N] = std::array::from_fn(|d| (cell / side.pow(d as u32) % side) as u64);
            let place = &mut at[index::<N>(x, bits) as usize];
            assert!(place.is_none(), "two cells share a position");
            *place = Some(x);
        }
        for pair in at.windows(2) {
            let (a, b) = (pair[0].expect("all visited"), pair[1].expect("all visited"));
            let distance: u64 = (0..N).map(|d| a[d].abs_diff(b[d])).sum();
            assert_eq!(distance, 1, "{a:?} to {b:?}");
        }
    }

    #[test]
    fn visits_each_cell_once_in_unit_steps() {
        for bits in 1..=5 {
            is_a_curve::<2>(bits);
            is_a_curve::<3>(bits);
        }
    }

    #[test]
    fn one_dimension_keeps_the_order() {
        let keys: Vec<u64> =
            (0..100).map(|k| key([f64::from(k), 0.0, 0.0], [0.0; 3], [99.0, 0.0, 0.0], 1)).collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn odd_points_have_keys() {
        let (low, high) = ([0.0; 3], [1.0, 2.0, 4.0]);
        assert_eq!(key([f64::NAN; 3], low, high, 3), key(low, low, high, 3));
        assert_eq!(key([-5.0; 3], low, high, 3), key(low, low, high, 3));
        assert_eq!(key([1.0; 3], [1.0; 3], [1.0; 3], 3), 0);
        assert!(key([9.0; 3], low, high, 3) < 1 << 63);
    }

    proptest! {
        /// Refining the grid refines the curve: the leading bits are the coarser grid's position.
        #[test]
        fn nests(x in prop::array::uniform3(0u64..1 << 10)) {
            // Skilling's orientation at a level depends on the parity of those above, so two levels.
            let fine = index::<3>(x, 10);
            let coarse = index::<3>(x.map(|c| c >> 3), 7);
            let siblings: Vec<u64> = (0..512u64)
                .map(|k| index::<3>([(x[0] & !7) | (k & 7), (x[1] & !7) | (k >> 3 & 7), (x[2] & !7) | (k >> 6)], 10))
                .collect();
            prop_assert_eq!(siblings.iter().max().unwrap() - siblings.iter().min().unwrap(), 511);
            prop_assert!(siblings.contains(&fine));
            prop_assert!(coarse < 1 << 21);
        }

        #[test]
        fn spreads(x in 0u64..1 << 21) {
            let slow = |n: u32| (0..21).fold(0u64, |s, b| s | (x >> b & 1) << (b * n));
            prop_assert_eq!(spread::<2>(x), slow(2));
            prop_assert_eq!(spread::<3>(x), slow(3));
        }
    }
}
