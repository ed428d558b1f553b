//! The order of a rank's boxes: bricks along a Hilbert curve, boxes of a brick row by row.
//!
//! Imports the crate `partition` (for the curve). Start at [`Layout`]. A neighbour's layout is computed like
//! one's own, so the number of any cell on any rank is known without asking.

use partition::hilbert;

use super::bisect::{Cuboid, bounds};

/// Boxes along each side of a brick, about, by dimension: several hundred cells, whose vertices stay in the
/// nearest cache.
const SIDE: [u64; 4] = [1, 1024, 32, 8];

/// A small cuboid of a rank's boxes, which are numbered x fastest from `first`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brick {
    pub cuboid: Cuboid,
    pub first: usize,
}

/// A cuboid of the region, cut into `n` bricks along each axis; the first is number `first` before sorting.
#[derive(Debug)]
struct Grid {
    cuboid: Cuboid,
    n: [u64; 3],
    first: usize,
}

impl Grid {
    /// Where brick `i` begins along an axis. Sides differ by at most one box.
    fn begin(&self, axis: usize, i: u64) -> u64 {
        let length = self.cuboid.high[axis] - self.cuboid.low[axis];
        self.cuboid.low[axis] + (u128::from(i) * u128::from(length) / u128::from(self.n[axis])) as u64
    }

    /// The brick in which a box lies: the inverse of [`Grid::begin`].
    fn brick_of(&self, axis: usize, x: u64) -> u64 {
        let length = self.cuboid.high[axis] - self.cuboid.low[axis];
        let x = u128::from(x - self.cuboid.low[axis] + 1);
        ((x * u128::from(self.n[axis]) - 1) / u128::from(length)) as u64
    }
}

/// The boxes of a region in the order in which its rank keeps their cells.
#[derive(Debug)]
pub(super) struct Layout {
    grids: Vec<Grid>,
    /// The place of each brick of the grids in `bricks`.
    place: Vec<u32>,
    pub bricks: Vec<Brick>,
    pub n_boxes: usize,
}

impl Layout {
    pub fn new(region: &[Cuboid], dim: usize) -> Layout {
        let mut grids = Vec::with_capacity(region.len());
        let mut bricks = Vec::new();
        for &cuboid in region {
            let n = std::array::from_fn(|d| (cuboid.high[d] - cuboid.low[d]).div_ceil(SIDE[dim]));
            let grid = Grid { cuboid, n, first: bricks.len() };
            for z in 0..n[2] {
                for y in 0..n[1] {
                    for x in 0..n[0] {
                        let begin = |i: [u64; 3]| std::array::from_fn(|d| grid.begin(d, i[d]));
                        let cuboid = Cuboid { low: begin([x, y, z]), high: begin([x + 1, y + 1, z + 1]) };
                        bricks.push(Brick { cuboid, first: 0 });
                    }
                }
            }
            grids.push(grid);
        }
        let around = bounds(region).unwrap_or(Cuboid { low: [0; 3], high: [1; 3] });
        let [low, high] = [around.low, around.high].map(|x| x.map(|x| x as f64));
        let mut order: Vec<(u64, u32)> = bricks
            .iter()
            .enumerate()
            .map(|(k, Brick { cuboid: c, .. })| {
                let center = std::array::from_fn(|d| (c.low[d] + c.high[d]) as f64 / 2.0);
                (hilbert::key(center, low, high, dim), k as u32)
            })
            .collect();
        order.sort_unstable();
        let mut place = vec![0u32; bricks.len()];
        let mut n_boxes = 0;
        let bricks = order
            .iter()
            .enumerate()
            .map(|(k, &(_, from))| {
                place[from as usize] = k as u32;
                let brick = Brick { first: n_boxes, ..bricks[from as usize] };
                n_boxes += brick.cuboid.n_boxes() as usize;
                brick
            })
            .collect();
        Layout { grids, place, bricks, n_boxes }
    }

    /// The number of a box, if it is one of the region.
    pub fn number(&self, at: [u64; 3]) -> Option<usize> {
        let grid = self.grids.iter().find(|g| g.cuboid.contains(at))?;
        let [x, y, z] = std::array::from_fn(|d| grid.brick_of(d, at[d]));
        let k = grid.first + (x + grid.n[0] * (y + grid.n[1] * z)) as usize;
        let Brick { cuboid: c, first } = self.bricks[self.place[k] as usize];
        let [nx, ny] = [0, 1].map(|d| c.high[d] - c.low[d]);
        let [x, y, z] = std::array::from_fn(|d| at[d] - c.low[d]);
        Some(first + (x + nx * (y + ny * z)) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_bricks() {
        let whole = |n: [u64; 3]| vec![Cuboid { low: [0; 3], high: n }];
        let stepped = vec![
            Cuboid { low: [3, 5, 7], high: [20, 30, 19] },
            Cuboid { low: [3, 5, 19], high: [20, 17, 20] },
            Cuboid { low: [3, 17, 19], high: [11, 18, 20] },
        ];
        let cases = [(whole([5000, 1, 1]), 1), (whole([70, 33, 1]), 2), (whole([25, 8, 9]), 3), (stepped, 3)];
        for (region, dim) in cases {
            let layout = Layout::new(&region, dim);
            assert_eq!(layout.n_boxes as u64, region.iter().map(Cuboid::n_boxes).sum::<u64>());
            let mut next = 0;
            for brick in &layout.bricks {
                assert_eq!(brick.first, next);
                let Cuboid { low, high } = brick.cuboid;
                for z in low[2]..high[2] {
                    for y in low[1]..high[1] {
                        for x in low[0]..high[0] {
                            assert_eq!(layout.number([x, y, z]), Some(next));
                            next += 1;
                        }
                    }
                }
            }
            assert_eq!(next, layout.n_boxes);
            assert_eq!(layout.number([9999, 0, 0]), None);
        }
        assert_eq!(Layout::new(&[], 3).n_boxes, 0);
    }
}
