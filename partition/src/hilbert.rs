//! Positions along Hilbert's curve: points near on the curve are near in space.
//!
//! Imports nothing. Start at [`Curve`].
//!
//! The curve is a state machine: in each cell of a grid it enters at one corner and leaves along one
//! axis, and that pair says in which order it visits the cell's orthants and how it crosses each. Tables
//! made at compile time take three levels of the grid at a step.
//!
//! Source: C. Hamilton, A. Rau-Chaplin, "Compact Hilbert indices", Information Processing Letters 105
//! (2008).

/// Bits a coordinate in one, two and three dimensions; the key has at most 63.
const BITS: [u32; 4] = [0, 62, 30, 21];

/// Levels of the grid that one look into a table takes.
const STEP: u32 = 3;

/// For each state and each way down `STEP` levels (the orthants' numbers, coarsest first): the position
/// along the curve, and above it the state there.
static PLANE: [u16; 8 << 6] = table::<{ 8 << 6 }>(2);
static SPACE: [u16; 24 << 9] = table::<{ 24 << 9 }>(3);

/// One level down: the position among the orthants, and the state in there. A state is the entry corner,
/// and above it the axis along which the curve leaves.
const fn descend(n: u32, state: u32, orthant: u32) -> (u32, u32) {
    let mask = (1 << n) - 1;
    let (entry, axis) = (state & mask, state >> n);
    let turned = orthant ^ entry;
    let turn = (axis + 1) % n;
    let gray = ((turned >> turn) | (turned << (n - turn))) & mask;
    let mut position = gray;
    let mut shift = 1;
    while shift < n {
        position ^= position >> shift;
        shift <<= 1;
    }
    // Where the curve enters that orthant, and along which axis it leaves it, in the frame of the state.
    let even = if position == 0 { 0 } else { (position - 1) & !1 };
    let enters = even ^ (even >> 1);
    let leaves = if position == 0 {
        0
    } else if position.is_multiple_of(2) {
        (position - 1).trailing_ones() % n
    } else {
        position.trailing_ones() % n
    };
    let back = ((enters << turn) | (enters >> (n - turn))) & mask;
    (position, (((axis + leaves + 1) % n) << n) | (entry ^ back))
}

const fn table<const LENGTH: usize>(n: u32) -> [u16; LENGTH] {
    let mut table = [0; LENGTH];
    let bits = n * STEP;
    let mut k = 0;
    while k < LENGTH {
        let mut state = k as u32 >> bits;
        let mut position = 0;
        let mut level = STEP;
        while level > 0 {
            level -= 1;
            let (p, next) = descend(n, state, (k as u32 >> (n * level)) & ((1 << n) - 1));
            position = (position << n) | p;
            state = next;
        }
        table[k] = ((state << bits) | position) as u16;
        k += 1;
    }
    table
}

/// A curve through a box.
///
/// It fills a cube (square) as wide as the longest side of the box, so that its pieces are as compact in
/// a slender box as in a cubic one.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    low: [f64; 3],
    scale: f64,
    dim: usize,
}

impl Curve {
    /// The curve through the box from `low` to `high`, of which the first `dim` coordinates count.
    ///
    /// # Panics
    /// When `dim` is not 1, 2 or 3.
    pub fn new(low: [f64; 3], high: [f64; 3], dim: usize) -> Curve {
        assert!((1..=3).contains(&dim), "Hilbert keys are for 1, 2 or 3 dimensions");
        let width = (0..dim).map(|d| high[d] - low[d]).fold(0.0, f64::max);
        let cells = (1u64 << BITS[dim]) as f64;
        Curve { low, scale: if width > 0.0 { cells / width } else { 0.0 }, dim }
    }

    /// The position of a point along the curve. Points outside are moved to the nearest side;
    /// coordinates that are not numbers count as those of `low`.
    ///
    /// In space that is 7 looks into a table of 24 KiB, each of which waits for the one before.
    #[inline]
    pub fn key(&self, point: [f64; 3]) -> u64 {
        let most = (1u64 << BITS[self.dim]) - 1;
        // The conversion saturates at 0 and takes what is not a number to 0.
        let x: [u64; 3] = std::array::from_fn(|d| (((point[d] - self.low[d]) * self.scale) as u64).min(most));
        match self.dim {
            1 => x[0],
            2 => index::<2>([x[0], x[1]], BITS[2]),
            _ => index::<3>(x, BITS[3]),
        }
    }
}

/// The position of a point along the curve through the box from `low` to `high`; [`Curve`] is for many.
///
/// # Panics
/// When `dim` is not 1, 2 or 3.
pub fn key(point: [f64; 3], low: [f64; 3], high: [f64; 3], dim: usize) -> u64 {
    Curve::new(low, high, dim).key(point)
}

/// The position along the curve of a cell of a grid with `2^bits` cells a side.
#[inline]
fn index<const N: usize>(x: [u64; N], bits: u32) -> u64 {
    let morton = x.iter().enumerate().fold(0, |m, (d, &xd)| m | (spread::<N>(xd) << d));
    let width = N as u32 * STEP;
    let (mut key, mut state) = (0, 0);
    for step in (0..bits.div_ceil(STEP)).rev() {
        let way = (morton >> (width * step)) as usize & ((1 << width) - 1);
        let at = state << width | way;
        let found = if N == 2 { PLANE[at] } else { SPACE[at] } as usize;
        key = key << width | (found & ((1 << width) - 1)) as u64;
        state = found >> width;
    }
    key
}

/// Moves bit `b` to bit `b * N`.
#[inline]
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
