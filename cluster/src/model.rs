//! What communication costs: a model of the messages and collective calls that a rank makes in a phase.
//!
//! Imports nothing. Start at [`Network::seconds`]; [`laws`] says how the counts it needs grow with the number of
//! ranks.
//!
//! Sources: R. W. Hockney, "The communication challenge for MPP: Intel Paragon and Meiko CS-2", Parallel Computing
//! 20 (1994) 389-398; A. Alexandrov, M. F. Ionescu, K. E. Schauser, C. Scheiman, "LogGP: incorporating long messages
//! into the LogP model", SPAA (1995) 95-105; R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of collective
//! communication operations in MPICH", Int. J. High Perform. Comput. Appl. 19 (2005) 49-66.

pub mod laws;

use serde::{Deserialize, Serialize};

/// What messages between two ranks cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum Messages {
    /// Of Hockney: `latency + bytes / bandwidth` each, one after the other.
    Hockney {
        /// Seconds before the first byte arrives.
        latency: f64,
        /// Bytes a second.
        bandwidth: f64,
    },
    /// LogGP: messages to several neighbours are under way at the same time, a sender is free again after the
    /// overhead or the gap.
    LogGp {
        /// L: seconds on the wire.
        latency: f64,
        /// o: seconds that a processor is busy sending or receiving a message.
        overhead: f64,
        /// g: seconds between two messages of one rank.
        gap: f64,
        /// 1/G: bytes a second of a long message.
        bandwidth: f64,
    },
}

/// How a reduction over all ranks is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Recursive doubling: `ceil(log2 p)` stages, each with all bytes. Best for the few numbers that a solver sums.
    #[default]
    Doubling,
    /// Of Rabenseifner: a reduce-scatter and an allgather, `2 ceil(log2 p)` stages with `2 (p - 1) / p` of the bytes.
    Rabenseifner,
}

/// What a machine's communication costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Of messages between two ranks.
    pub messages: Messages,
    /// How reductions are done.
    pub reduction: Reduction,
    /// Seconds of one stage of a reduction of few bytes; `null`: as a message.
    pub stage: Option<f64>,
}

/// What one rank says in a phase. Counts are real numbers: they may come from a law of growth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Messages sent.
    pub messages: f64,
    /// Bytes in them.
    pub bytes: f64,
    /// Ranks that they go to.
    pub neighbours: f64,
    /// Collective calls.
    pub collectives: f64,
    /// Bytes put into all of them together.
    pub collective_bytes: f64,
}

/// Seconds of a phase's communication, by what they are spent on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Latencies and overheads of messages.
    pub latency: f64,
    /// Their bytes.
    pub bytes: f64,
    /// Collective calls.
    pub collectives: f64,
}

impl Cost {
    /// All of it.
    pub fn sum(&self) -> f64 {
        self.latency + self.bytes + self.collectives
    }
}

impl From<&crate::Counters> for Load {
    fn from(counters: &crate::Counters) -> Load {
        Load {
            messages: counters.messages as f64,
            bytes: counters.bytes as f64,
            neighbours: counters.neighbours as f64,
            collectives: counters.collectives as f64,
            collective_bytes: counters.collective_bytes as f64,
        }
    }
}

impl Messages {
    /// Seconds of one message by itself.
    ///
    /// Units: seconds, bytes.
    pub fn one(&self, bytes: f64) -> f64 {
        match *self {
            Messages::Hockney { latency, bandwidth } => latency + bytes / bandwidth,
            Messages::LogGp { latency, overhead, bandwidth, .. } => {
                latency + 2.0 * overhead + (bytes - 1.0).max(0.0) / bandwidth
            }
        }
    }

    /// Seconds of a rank's messages to its neighbours in rounds of one to each: latencies and bytes.
    fn all(&self, load: &Load) -> (f64, f64) {
        match *self {
            Messages::Hockney { latency, bandwidth } => (load.messages * latency, load.bytes / bandwidth),
            Messages::LogGp { latency, overhead, gap, bandwidth } => {
                let rounds = load.messages / load.neighbours.max(1.0);
                let others = load.messages - rounds;
                let waits = rounds * (latency + 2.0 * overhead) + others * gap.max(overhead);
                (waits, (load.bytes - load.messages).max(0.0) / bandwidth)
            }
        }
    }
}

impl Network {
    /// A network after Hockney.
    pub fn hockney(latency: f64, bandwidth: f64) -> Network {
        let messages = Messages::Hockney { latency, bandwidth };
        Network { messages, reduction: Reduction::Doubling, stage: None }
    }

    /// Seconds of one reduction of `bytes` on each of `ranks` ranks; none on a single one.
    pub fn reduction(&self, bytes: f64, ranks: f64) -> f64 {
        if ranks <= 1.0 {
            return 0.0;
        }
        let stages = ranks.log2().ceil();
        // Of a measured stage, few bytes were part.
        let start = self.stage.unwrap_or_else(|| self.messages.one(0.0));
        let bandwidth = match self.messages {
            Messages::Hockney { bandwidth, .. } | Messages::LogGp { bandwidth, .. } => bandwidth,
        };
        match self.reduction {
            Reduction::Doubling => stages * (start + bytes / bandwidth),
            Reduction::Rabenseifner => 2.0 * stages * start + 2.0 * (ranks - 1.0) / ranks * bytes / bandwidth,
        }
    }

    /// Seconds that a rank's communication takes on `ranks` ranks. Nothing is hidden behind computation: an upper
    /// bound where it is.
    pub fn seconds(&self, load: &Load, ranks: f64) -> Cost {
        if ranks <= 1.0 {
            return Cost::default();
        }
        let (latency, bytes) = self.messages.all(load);
        let each = load.collective_bytes / load.collectives.max(1.0);
        let collectives = load.collectives * self.reduction(each, ranks);
        Cost { latency, bytes, collectives }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(messages: f64, bytes: f64, neighbours: f64, collectives: f64) -> Load {
        Load { messages, bytes, neighbours, collectives, collective_bytes: 8.0 * collectives }
    }

    #[test]
    fn hockney_adds_latency_and_bytes() {
        let network = Network::hockney(2e-6, 1e9);
        let cost = network.seconds(&load(100.0, 5e6, 4.0, 10.0), 16.0);
        assert!((cost.latency - 2e-4).abs() < 1e-15);
        assert!((cost.bytes - 5e-3).abs() < 1e-15);
        // 10 sums of 8 bytes in 4 stages.
        assert!((cost.collectives - 10.0 * 4.0 * (2e-6 + 8e-9)).abs() < 1e-15);
        assert_eq!(network.seconds(&load(100.0, 5e6, 4.0, 10.0), 1.0).sum(), 0.0);
    }

    #[test]
    fn loggp_overlaps_the_wires_of_neighbours() {
        let (latency, overhead, gap, bandwidth) = (5e-6, 1e-6, 2e-6, 1e9);
        let messages = Messages::LogGp { latency, overhead, gap, bandwidth };
        // 10 rounds with 5 neighbours: 10 (L + 2 o) + 40 g.
        let network = Network { messages, reduction: Reduction::Doubling, stage: None };
        let cost = network.seconds(&load(50.0, 50.0, 5.0, 0.0), 8.0);
        assert!((cost.sum() - (10.0 * 7e-6 + 40.0 * 2e-6)).abs() < 1e-15, "{cost:?}");
        // One neighbour: nothing to overlap, a message of 1 byte takes L + 2 o.
        let alone = network.seconds(&load(50.0, 50.0, 1.0, 0.0), 2.0);
        assert!((alone.sum() - 50.0 * messages.one(1.0)).abs() < 1e-15, "{alone:?}");
    }

    /// Few numbers are summed faster by recursive doubling, many by Rabenseifner's algorithm: Thakur et al., section 5.
    #[test]
    fn reductions_have_their_sizes() {
        let doubling = Network::hockney(1e-6, 1e9);
        let halving = Network { reduction: Reduction::Rabenseifner, ..doubling };
        assert!(doubling.reduction(8.0, 1024.0) < halving.reduction(8.0, 1024.0));
        assert!(doubling.reduction(1e6, 1024.0) > halving.reduction(1e6, 1024.0));
        let measured = Network { stage: Some(3e-6), ..doubling };
        assert!((measured.reduction(0.0, 8.0) - 9e-6).abs() < 1e-18);
    }

    proptest! {
        /// More of anything never costs less, and nobody communicates alone.
        #[test]
        fn cost_grows_with_every_count(
            m in 0.0..1e4f64, n in 1.0..30.0f64, b in 0.0..1e8f64, c in 0.0..1e3f64, ranks in 2.0..1e4f64,
            loggp in any::<bool>(), halving in any::<bool>(),
        ) {
            let messages = if loggp {
                Messages::LogGp { latency: 1e-6, overhead: 3e-7, gap: 5e-7, bandwidth: 1e10 }
            } else {
                Messages::Hockney { latency: 1e-6, bandwidth: 1e10 }
            };
            let reduction = if halving { Reduction::Rabenseifner } else { Reduction::Doubling };
            let network = Network { messages, reduction, stage: None };
            // No message is shorter than a byte.
            let b = b + 2.0 * m + 2.0;
            let at = |load: Load, ranks: f64| network.seconds(&load, ranks).sum();
            let base = at(load(m, b, n, c), ranks);
            prop_assert!(base >= 0.0 && base.is_finite());
            prop_assert!(at(load(m + 1.0, b, n, c), ranks) > base);
            prop_assert!(at(load(m, 2.0 * b, n, c), ranks) > base);
            prop_assert!(at(load(m, b, n, c + 1.0), ranks) > base);
            prop_assert!(at(load(m, b, n, c), 2.0 * ranks) >= base);
            prop_assert_eq!(at(load(m, b, n, c), 1.0), 0.0);
        }
    }
}
