//! A course in time of bounded length: when it is full, neighbours are merged and bins are twice as wide.
//!
//! Imports nothing of femdd. Start at [`Series`].

/// The most bins of a course.
pub const BINS: usize = 200;

/// The width of a bin at the beginning, in seconds.
const WIDTH: f64 = 0.1;

/// What is known of a while.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Bin {
    /// The most memory seen, in bytes; 0 where nothing was.
    pub(super) memory: f64,
    /// Processor seconds used.
    pub(super) busy: f64,
    /// The phase in which it ended, and whether there is one.
    pub(super) phase: Option<u16>,
}

/// A course of bins from the beginning on.
#[derive(Debug, Clone)]
pub(super) struct Series {
    bins: Vec<Bin>,
    /// How often the width was doubled.
    doubled: u32,
}

impl Series {
    pub(super) fn new() -> Series {
        Series { bins: Vec::with_capacity(BINS), doubled: 0 }
    }

    /// The width of a bin in seconds.
    pub(super) fn width(&self) -> f64 {
        WIDTH * f64::from(1u32 << self.doubled.min(31))
    }

    /// How often the width was doubled.
    pub(super) fn doubled(&self) -> u32 {
        self.doubled
    }

    pub(super) fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// Twice as wide bins.
    fn double(&mut self) {
        let n = self.bins.len().div_ceil(2);
        for k in 0..n {
            let (a, b) = (self.bins[2 * k], self.bins.get(2 * k + 1).copied().unwrap_or_default());
            self.bins[k] =
                Bin { memory: a.memory.max(b.memory), busy: a.busy + b.busy, phase: b.phase.or(a.phase) };
        }
        self.bins.truncate(n);
        self.doubled += 1;
    }

    /// Doubles the width until it has been so many times.
    pub(super) fn coarsen(&mut self, doubled: u32) {
        while self.doubled < doubled {
            self.double();
        }
    }

    /// Adds what was found at a time, `busy` processor seconds since `from` among it. Does not allocate.
    pub(super) fn add(&mut self, from: f64, at: f64, memory: f64, busy: f64, phase: u16) {
        let bin_of = |t: f64, width: f64| (t.max(0.0) / width) as usize;
        while bin_of(at, self.width()) >= BINS {
            self.double();
        }
        let (width, last) = (self.width(), bin_of(at, self.width()));
        while self.bins.len() <= last {
            self.bins.push(Bin::default());
        }
        let bin = &mut self.bins[last];
        bin.memory = bin.memory.max(memory);
        bin.phase = Some(phase);
        // What was used is spread evenly over the time it was used in.
        let first = bin_of(from, width).min(last);
        let span = at - from;
        if span <= 0.0 {
            self.bins[last].busy += busy;
            return;
        }
        for k in first..=last {
            let (low, high) = (k as f64 * width, (k + 1) as f64 * width);
            let part = (at.min(high) - from.max(low)).max(0.0) / span;
            self.bins[k].busy += busy * part;
        }
    }

    /// Memory by bin; a bin in which nothing was seen holds what was seen last.
    pub(super) fn memory(&self) -> Vec<f64> {
        let mut last = self.bins.iter().map(|bin| bin.memory).find(|&m| m > 0.0).unwrap_or(0.0);
        self.bins
            .iter()
            .map(|bin| {
                last = if bin.memory > 0.0 { bin.memory } else { last };
                last
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stays_in_sum_and_in_peak() {
        let mut series = Series::new();
        let (capacity, mut busy, mut at) = (series.bins.capacity(), 0.0, 0.0);
        for k in 0..5000 {
            let step = 0.01 + 0.001 * f64::from(k % 90);
            series.add(at, at + step, f64::from(1000 + k % 777), 0.5 * step, (k % 3) as u16);
            at += step;
            busy += 0.5 * step;
        }
        assert!(series.bins.len() <= BINS && series.bins.len() * 2 >= BINS, "{}", series.bins.len());
        assert_eq!(series.bins.capacity(), capacity);
        let sum: f64 = series.bins.iter().map(|bin| bin.busy).sum();
        assert!((sum - busy).abs() < 1e-9 * busy);
        let peak = series.bins.iter().map(|bin| bin.memory).fold(0.0, f64::max);
        assert_eq!(peak, 1776.0);
        assert!(series.bins.len() as f64 * series.width() >= at);
        // Evenly used: every bin but the last is half used.
        let n = series.bins.len() - 1;
        assert!(series.bins[..n].iter().all(|bin| (bin.busy / series.width() - 0.5).abs() < 1e-9));
    }

    #[test]
    fn gaps_hold_what_was_seen_last() {
        let mut series = Series::new();
        series.add(0.0, 0.05, 10.0, 0.0, 0);
        series.add(0.05, 0.45, 30.0, 0.4, 1);
        assert_eq!(series.memory(), [10.0, 10.0, 10.0, 10.0, 30.0]);
        series.coarsen(2);
        assert_eq!((series.memory(), series.doubled()), (vec![10.0, 30.0], 2));
        assert!((series.bins()[0].busy - 0.35).abs() < 1e-12 && series.bins()[1].phase == Some(1));
    }
}
