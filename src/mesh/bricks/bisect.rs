//! Which boxes of the lattice each rank owns, found without a graph and without communication.
//!
//! Imports nothing. Start at [`Bisection`]. The lattice is halved again and again, in proportion to the
//! ranks on either side, across the axis where that cuts the fewest faces. A cut is a plane where the
//! planes there are balance well enough, otherwise a plane with a step in it that gives each side exactly
//! its boxes: a region is then a few cuboids. Whoever wants to know who owns a box walks down the halves
//! that touch it, so no rank keeps a table of ranks or of boxes.
//!
//! Source: M. Berger, S. Bokhari, "A partitioning strategy for nonuniform problems on multiprocessors",
//! IEEE Trans. Computers C-36, 1987.

use std::ops::Range;

/// Boxes from `low` to before `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cuboid {
    pub low: [u64; 3],
    pub high: [u64; 3],
}

impl Cuboid {
    pub fn n_boxes(&self) -> u64 {
        (0..3).map(|d| self.high[d].saturating_sub(self.low[d])).product()
    }

    pub fn intersection(&self, other: &Cuboid) -> Option<Cuboid> {
        let low = std::array::from_fn(|d| self.low[d].max(other.low[d]));
        let high = std::array::from_fn(|d| self.high[d].min(other.high[d]));
        (0..3).all(|d| low[d] < high[d]).then_some(Cuboid { low, high })
    }

    pub fn contains(&self, at: [u64; 3]) -> bool {
        (0..3).all(|d| (self.low[d]..self.high[d]).contains(&at[d]))
    }

    /// The part between two planes across `axis`.
    fn between(&self, axis: usize, planes: Range<u64>) -> Option<Cuboid> {
        let mut part = *self;
        part.low[axis] = part.low[axis].max(planes.start);
        part.high[axis] = part.high[axis].min(planes.end);
        (part.low[axis] < part.high[axis]).then_some(part)
    }

    /// The number of boxes in a layer across `axis`.
    fn section(&self, axis: usize) -> u64 {
        (0..3).filter(|&d| d != axis).map(|d| self.high[d] - self.low[d]).product()
    }
}

/// The smallest cuboid round some; `None` of none.
pub(super) fn bounds(region: &[Cuboid]) -> Option<Cuboid> {
    region.iter().copied().reduce(|a, b| Cuboid {
        low: std::array::from_fn(|d| a.low[d].min(b.low[d])),
        high: std::array::from_fn(|d| a.high[d].max(b.high[d])),
    })
}

fn n_boxes(region: &[Cuboid]) -> u64 {
    region.iter().map(Cuboid::n_boxes).sum()
}

fn between(region: &[Cuboid], axis: usize, planes: Range<u64>) -> Vec<Cuboid> {
    region.iter().filter_map(|c| c.between(axis, planes.clone())).collect()
}

/// The layer across `axis` in which box number `k` lies, layer by layer, and how many lie before it.
fn layer(region: &[Cuboid], axis: usize, extent: Range<u64>, k: u64) -> (u64, u64) {
    let before = |plane: u64| -> u64 {
        let part =
            |c: &Cuboid| c.section(axis) * plane.clamp(c.low[axis], c.high[axis]).abs_diff(c.low[axis]);
        region.iter().map(part).sum()
    };
    let (mut low, mut high) = (extent.start, extent.end);
    // `before(low) <= k < before(high)` throughout.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if before(middle) <= k { low = middle } else { high = middle }
    }
    (low, before(low))
}

/// The first `k` boxes and the others, counted layer by layer across the first axis, within a layer row by
/// row across the second, within a row along the third.
fn cut(region: &[Cuboid], axes: &[usize], k: u64) -> (Vec<Cuboid>, Vec<Cuboid>) {
    let Some(extent) = bounds(region).filter(|_| k > 0) else { return (Vec::new(), region.to_vec()) };
    if k >= n_boxes(region) {
        return (region.to_vec(), Vec::new());
    }
    let axis = axes[0];
    let (at, before) = layer(region, axis, extent.low[axis]..extent.high[axis], k);
    if before == k {
        return (between(region, axis, 0..at), between(region, axis, at..u64::MAX));
    }
    let (mut left, mut right) = (between(region, axis, 0..at), between(region, axis, at + 1..u64::MAX));
    let (first, second) = cut(&between(region, axis, at..at + 1), &axes[1..], k - before);
    left.extend(first);
    right.extend(second);
    (left, right)
}

/// The most that the ranks on one side of a plane may own, over the mean, before the plane gets a step.
const SLACK: f64 = 1.015;

/// A lattice of boxes halved for a number of ranks.
#[derive(Debug, Clone)]
pub(super) struct Bisection {
    cells: [u64; 3],
    /// Whether the lattice comes round, by axis.
    wraps: [bool; 3],
    n_ranks: usize,
}

impl Bisection {
    pub fn new(cells: [u64; 3], wraps: [bool; 3], n_ranks: usize) -> Bisection {
        Bisection { cells, wraps, n_ranks }
    }

    fn whole(&self) -> Vec<Cuboid> {
        vec![Cuboid { low: [0; 3], high: self.cells }]
    }

    /// The boxes of a rank: disjoint cuboids, none of them empty.
    pub fn region(&self, rank: usize) -> Vec<Cuboid> {
        let (mut region, mut ranks) = (self.whole(), 0..self.n_ranks);
        while ranks.len() > 1 {
            let (middle, left, right) = self.halve(&region, &ranks);
            (region, ranks) =
                if rank < middle { (left, ranks.start..middle) } else { (right, middle..ranks.end) };
        }
        region
    }

    /// Every piece of a region that lies in one of the (disjoint) cuboids of `query`, with its owner;
    /// ascending by owner.
    pub fn pieces(&self, query: &[Cuboid]) -> Vec<(u32, Cuboid)> {
        let mut found = Vec::new();
        self.visit(&self.whole(), 0..self.n_ranks, query, &mut found);
        found
    }

    fn visit(
        &self,
        region: &[Cuboid],
        ranks: Range<usize>,
        query: &[Cuboid],
        found: &mut Vec<(u32, Cuboid)>,
    ) {
        let common = |q: &Cuboid| region.iter().filter_map(|c| c.intersection(q)).collect::<Vec<_>>();
        if ranks.len() == 1 {
            let rank = ranks.start as u32;
            found.extend(query.iter().flat_map(common).map(|c| (rank, c)));
        } else if query.iter().any(|q| region.iter().any(|c| c.intersection(q).is_some())) {
            let (middle, left, right) = self.halve(region, &ranks);
            self.visit(&left, ranks.start..middle, query, found);
            self.visit(&right, middle..ranks.end, query, found);
        }
    }

    /// The first rank of the second half, and the two halves' regions.
    fn halve(&self, region: &[Cuboid], ranks: &Range<usize>) -> (usize, Vec<Cuboid>, Vec<Cuboid>) {
        let middle = ranks.start + ranks.len() / 2;
        let (p, q) = ((middle - ranks.start) as u64, (ranks.end - middle) as u64);
        let Some(extent) = bounds(region) else { return (middle, Vec::new(), Vec::new()) };
        let n = n_boxes(region);
        // No side gets fewer boxes than ranks if there are enough.
        let exact = (u128::from(n) * u128::from(p) / u128::from(p + q)) as u64;
        let most = SLACK * self.cells.iter().map(|&n| n as f64).product::<f64>() / self.n_ranks as f64;
        let length = |axis: usize| extent.high[axis] - extent.low[axis];
        // The faces cut, the axis, the boxes on the first side: the least is taken.
        let best = (0..3).rev().map(|axis| {
            let (at, before) = layer(region, axis, extent.low[axis]..extent.high[axis], exact);
            let thick = n_boxes(&between(region, axis, at..at + 1));
            let worst = |k: u64| (k as f64 / p as f64).max((n - k) as f64 / q as f64);
            let plane = [before, before + thick]
                .into_iter()
                .filter(|&k| k == exact || (worst(k) <= most && k >= p && n - k >= q))
                .min_by(|&a, &b| worst(a).total_cmp(&worst(b)));
            // The first cut across a period is made twice.
            let times = if self.wraps[axis] && length(axis) == self.cells[axis] { 2 } else { 1 };
            // The step goes along the shortest side of the layer.
            let side = (0..3).filter(|&d| d != axis).map(length).min().unwrap_or(0);
            match plane {
                Some(k) => (times * thick, axis, k),
                None => (times * (thick + side), axis, exact),
            }
        });
        let (_, axis, k) = best.min_by_key(|b| b.0).expect("there are three axes");
        let mut axes = [0, 1, 2];
        axes.sort_by_key(|&d| (d != axis, std::cmp::Reverse((length(d), d))));
        let (left, right) = cut(region, &axes, k);
        (middle, left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The owner of each box, x fastest; every box has one.
    fn owners(cells: [u64; 3], n_ranks: usize) -> Vec<u32> {
        let bisection = Bisection::new(cells, [false; 3], n_ranks);
        let mut owner = vec![u32::MAX; cells.iter().product::<u64>() as usize];
        for rank in 0..n_ranks {
            for c in bisection.region(rank) {
                for z in c.low[2]..c.high[2] {
                    for y in c.low[1]..c.high[1] {
                        for x in c.low[0]..c.high[0] {
                            let slot = &mut owner[(x + cells[0] * (y + cells[1] * z)) as usize];
                            assert_eq!(*slot, u32::MAX, "two owners");
                            *slot = rank as u32;
                        }
                    }
                }
            }
        }
        assert!(owner.iter().all(|&o| o != u32::MAX), "{cells:?} on {n_ranks}: a box without owner");
        owner
    }

    fn cut_of(cells: [u64; 3], owner: &[u32]) -> u64 {
        let stride = [1, cells[0], cells[0] * cells[1]];
        let mut cut = 0;
        for k in 0..owner.len() as u64 {
            let at = [k % cells[0], k / cells[0] % cells[1], k / stride[2]];
            for d in 0..3 {
                if at[d] + 1 < cells[d] && owner[k as usize] != owner[(k + stride[d]) as usize] {
                    cut += 1;
                }
            }
        }
        cut
    }

    #[test]
    fn regions_are_balanced_and_cut_few_faces() {
        // Faces as a good partition into near cubes would cut them: (n_ranks^(1/3) - 1) planes an axis.
        let cases = [
            ([100, 100, 100], 2, 10_000),
            ([100, 100, 100], 3, 16_800),
            ([100, 100, 100], 4, 20_000),
            ([100, 100, 100], 7, 29_000),
            ([100, 100, 100], 8, 30_000),
            ([100, 100, 100], 16, 50_000),
            ([60, 60, 60], 7, 10_700),
            ([50, 50, 50], 64, 24_000),
            ([37, 41, 53], 96, 38_000),
            ([1000, 1000, 1], 16, 6_000),
            ([1, 1, 500], 7, 6),
        ];
        for (cells, n_ranks, most) in cases {
            let owner = owners(cells, n_ranks);
            let mut n = vec![0u64; n_ranks];
            owner.iter().for_each(|&o| n[o as usize] += 1);
            let mean = owner.len() as f64 / n_ranks as f64;
            let largest = *n.iter().max().expect("ranks") as f64;
            assert!(largest <= (SLACK * mean).max(mean.ceil()), "{cells:?} on {n_ranks}: {n:?}");
            let cut = cut_of(cells, &owner);
            assert!(cut <= most, "{cells:?} on {n_ranks} ranks cuts {cut}");
        }
    }

    #[test]
    fn no_rank_is_empty_while_there_are_boxes() {
        for cells in [[2, 2, 2], [1, 1, 1], [3, 1, 5], [7, 5, 3]] {
            for n_ranks in 1..=64 {
                let owner = owners(cells, n_ranks);
                let mut used = owner.clone();
                used.sort_unstable();
                used.dedup();
                assert_eq!(used.len(), n_ranks.min(owner.len()), "{cells:?} on {n_ranks}");
            }
        }
    }

    #[test]
    fn thousands_of_ranks_have_simple_regions() {
        let bisection = Bisection::new([100, 100, 100], [false; 3], 4099);
        let mut n = 0;
        for rank in (0..4099).step_by(97) {
            let region = bisection.region(rank);
            assert!(region.len() <= 20, "{} cuboids", region.len());
            assert!(n_boxes(&region) <= 1 + (SLACK * 1e6 / 4099.0) as u64);
            let around = bounds(&region).expect("boxes");
            let pieces = bisection.pieces(&[around]);
            assert_eq!(pieces.iter().map(|p| p.1.n_boxes()).sum::<u64>(), around.n_boxes());
            let mine: Vec<Cuboid> = pieces.iter().filter(|p| p.0 == rank as u32).map(|p| p.1).collect();
            assert_eq!(mine, region);
            n += 1;
        }
        assert!(n > 40);
    }
}
