//! Dense tables over a part of a lattice, which may be periodic.
//!
//! Imports nothing. Start at [`Window`].

/// A stretch of the places along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// The first place; may lie before 0 on a periodic axis.
    pub first: i64,
    /// The number of places.
    pub len: usize,
    /// How many places there are before they come again.
    pub period: Option<u64>,
}

impl Axis {
    /// Places from `first` to before `end` of `n` that there are; a periodic axis goes round.
    pub fn new(first: i64, end: i64, n: u64, periodic: bool) -> Axis {
        if periodic {
            return Axis { first, len: (end - first).min(n as i64) as usize, period: Some(n) };
        }
        let (first, end) = (first.max(0), end.min(n as i64));
        Axis { first, len: (end - first).max(0) as usize, period: None }
    }

    /// The slot of a place, if it is in the stretch.
    #[inline]
    pub fn slot(&self, place: i64) -> Option<usize> {
        let k = place - self.first;
        let k = self.period.map_or(k, |n| k.rem_euclid(n as i64));
        usize::try_from(k).ok().filter(|&k| k < self.len)
    }
}

/// A cuboid of a lattice, and where its places stand in a table, x fastest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub axes: [Axis; 3],
}

impl Window {
    /// The number of places.
    pub fn n_places(&self) -> usize {
        self.axes.iter().map(|a| a.len).product()
    }

    /// Where a place stands, if it is in the window.
    #[inline]
    pub fn index(&self, at: [i64; 3]) -> Option<usize> {
        let [x, y, z] = [0, 1, 2].map(|d| self.axes[d].slot(at[d]));
        Some(x? + self.axes[0].len * (y? + self.axes[1].len * z?))
    }

    /// For the places from `low` to `high` along an axis: what each adds to the index. All must be in the
    /// window.
    pub fn offsets(&self, axis: usize, low: i64, high: i64, out: &mut Vec<usize>) {
        let stride: usize = self.axes[..axis].iter().map(|a| a.len).product();
        out.clear();
        out.extend((low..=high).map(|x| stride * self.axes[axis].slot(x).expect("a place of the window")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_places_come_again() {
        let axis = Axis::new(-2, 3, 10, true);
        assert_eq!([-2, -1, 0, 2, 8, 9, 12].map(|x| axis.slot(x)), [0, 1, 2, 4, 0, 1, 4].map(Some));
        assert_eq!([3, 7, -3].map(|x| axis.slot(x)), [None; 3]);
        assert_eq!(Axis::new(-2, 12, 10, true).len, 10);
        let plain = Axis::new(-2, 12, 10, false);
        assert_eq!((plain.first, plain.len, plain.slot(-1), plain.slot(9)), (0, 10, None, Some(9)));
    }

    #[test]
    fn offsets_add_up_to_the_index() {
        let axes = [Axis::new(3, 8, 20, false), Axis::new(-1, 4, 9, true), Axis::new(0, 2, 2, false)];
        let window = Window { axes };
        assert_eq!(window.n_places(), 50);
        let mut offsets = [Vec::new(), Vec::new(), Vec::new()];
        for (axis, out) in offsets.iter_mut().enumerate() {
            window.offsets(axis, [4, 0, 0][axis], [7, 3, 1][axis], out);
        }
        let sum = offsets[0][2] + offsets[1][3] + offsets[2][1];
        assert_eq!(window.index([6, 3, 1]), Some(sum));
        assert_eq!(window.index([8, 3, 1]), None);
    }
}
