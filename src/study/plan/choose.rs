//! Which ranks, threads and nodes to take: candidates, what fits, and the one to recommend.
//!
//! Imports [`super::model`]. Start at [`Search::run`].

use cluster::words::{about_seconds, bytes};
use serde::Serialize;

use super::model::{Layout, Prediction, Setting, predict};
use super::problem::Problem;
use crate::run::{Kind, RunError};

/// What there is to choose from, and what for.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Most nodes.
    pub nodes: usize,
    /// Cores of a node.
    pub cores_per_node: usize,
    /// Bytes of a node.
    pub memory_per_node: f64,
    /// Ranks, if they are given.
    pub ranks: Option<usize>,
    /// Threads of a rank, if they are given.
    pub threads: Option<usize>,
    /// Seconds it may take.
    pub time_target: Option<f64>,
    /// Core-hours it may take.
    pub cost_target: Option<f64>,
}

/// Part of a node's memory that a run may take: the system needs some, and the model is not exact.
pub const USABLE: f64 = 0.9;

/// Parallel efficiency that a layout must have where nobody says what time or cost is wanted.
pub const WORTHWHILE: f64 = 0.5;

/// One way to run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// What is expected.
    #[serde(flatten)]
    pub prediction: Prediction,
    /// Core-hours.
    pub core_hours: f64,
    /// Time on one rank over time times cores.
    pub efficiency: f64,
    /// Whether the fullest node's memory is enough.
    pub fits: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// All candidates, by cores and ranks.
    pub candidates: Vec<Candidate>,
    /// Index of the recommended one.
    pub recommended: usize,
    /// Why.
    pub because: String,
}

fn powers_to(most: usize) -> Vec<usize> {
    let mut all: Vec<usize> =
        std::iter::successors(Some(1usize), |n| n.checked_mul(2)).take_while(|&n| n < most).collect();
    all.push(most);
    all
}

impl Search {
    /// Ranks and threads to look at: powers of two and whole nodes, one thread a rank or as many as leave no core
    /// idle.
    pub fn layouts(&self) -> Vec<Layout> {
        let cores = self.cores_per_node.max(1);
        let mut found = Vec::new();
        for nodes in powers_to(self.nodes.max(1)) {
            // On several nodes each is filled; one may be used in part.
            let used = if nodes == 1 { powers_to(cores) } else { vec![cores] };
            for used in used {
                for per_node in powers_to(used) {
                    if used % per_node == 0 {
                        found.push(Layout { nodes, ranks: nodes * per_node, threads: used / per_node });
                    }
                }
            }
        }
        if let Some(ranks) = self.ranks {
            let nodes = ranks.div_ceil(cores).max(1);
            for nodes in powers_to(self.nodes.max(1)).into_iter().filter(|&n| n >= nodes && n <= ranks) {
                let most = (cores / ranks.div_ceil(nodes)).max(1);
                found.extend(powers_to(most).into_iter().map(|threads| Layout { nodes, ranks, threads }));
            }
            found.retain(|layout| layout.ranks == ranks);
        }
        if let Some(threads) = self.threads {
            let per_node = (cores / threads).max(1);
            found.extend(powers_to(self.nodes.max(1)).into_iter().flat_map(|nodes| {
                powers_to(per_node).into_iter().map(move |ranks| Layout {
                    nodes,
                    ranks: ranks * nodes,
                    threads,
                })
            }));
            found.retain(|layout| {
                layout.threads == threads && self.ranks.is_none_or(|ranks| layout.ranks == ranks)
            });
        }
        found.sort_by_key(|layout| (layout.ranks * layout.threads, layout.nodes, layout.ranks));
        found.dedup();
        found
    }

    /// Predicts every candidate and recommends one.
    ///
    /// # Errors
    /// Nothing that fits the memory, or nothing that keeps to the targets; the message says how near it came.
    pub fn run(&self, problem: &Problem, setting: &Setting) -> Result<Plan, RunError> {
        let wrong = |message: String| Err(RunError::new(Kind::Input, "plan", message));
        let layouts = self.layouts();
        if layouts.is_empty() {
            return wrong(format!(
                "no layout on {} nodes of {} cores has {} ranks of {} threads: ask for fewer, or more nodes",
                self.nodes,
                self.cores_per_node,
                self.ranks.map_or("any".into(), |n| n.to_string()),
                self.threads.map_or("any".into(), |n| n.to_string()),
            ));
        }
        let alone = predict(problem, setting, Layout { nodes: 1, ranks: 1, threads: 1 }).total;
        let candidates: Vec<Candidate> = layouts
            .into_iter()
            .map(|layout| {
                let prediction = predict(problem, setting, layout);
                let cores = (layout.ranks * layout.threads) as f64;
                Candidate {
                    core_hours: prediction.core_hours(),
                    efficiency: alone / (prediction.total * cores),
                    fits: prediction.memory_node <= USABLE * self.memory_per_node,
                    prediction,
                }
            })
            .collect();
        let fitting: Vec<usize> = (0..candidates.len()).filter(|&k| candidates[k].fits).collect();
        if fitting.is_empty() {
            let by_node = |c: &&Candidate| c.prediction.memory_node;
            let least = candidates.iter().min_by(|a, b| by_node(a).total_cmp(&by_node(b))).expect("some");
            let needed = least.prediction.memory_node / USABLE;
            let nodes = (needed * least.prediction.layout.nodes as f64 / self.memory_per_node).ceil();
            return wrong(format!(
                "no layout fits: the leanest needs {} on each of {} nodes that have {}; about {nodes:.0} nodes would do \
                 (--nodes {nodes:.0}), or nodes with more memory (--memory-per-node)",
                bytes(needed as u64),
                least.prediction.layout.nodes,
                bytes(self.memory_per_node as u64),
            ));
        }
        let (recommended, because) = self.recommend(&candidates, &fitting)?;
        Ok(Plan { candidates, recommended, because })
    }

    fn recommend(&self, all: &[Candidate], fitting: &[usize]) -> Result<(usize, String), RunError> {
        let time = |k: usize| all[k].prediction.total;
        let cost = |k: usize| all[k].core_hours;
        let least = |of: &dyn Fn(usize) -> f64, among: &[usize]| {
            among.iter().copied().min_by(|&a, &b| of(a).total_cmp(&of(b))).expect("not empty")
        };
        let within = |k: &usize| {
            self.time_target.is_none_or(|most| time(*k) <= most)
                && self.cost_target.is_none_or(|most| cost(*k) <= most)
        };
        if self.time_target.is_none() && self.cost_target.is_none() {
            let worth: Vec<usize> =
                fitting.iter().copied().filter(|&k| all[k].efficiency >= WORTHWHILE).collect();
            if worth.is_empty() {
                let because = "the least core-hours: no layout that fits is half as efficient as one rank";
                return Ok((least(&cost, fitting), because.into()));
            }
            let because = format!("the fastest with an efficiency of at least {:.0}%", 100.0 * WORTHWHILE);
            return Ok((least(&time, &worth), because));
        }
        let good: Vec<usize> = fitting.iter().copied().filter(within).collect();
        if good.is_empty() {
            let (fastest, cheapest) = (least(&time, fitting), least(&cost, fitting));
            let message = format!(
                "nothing keeps to {}: the fastest that fits takes {} and {:.3} core-hours, the cheapest {} and {:.3}; \
                 allow more, or more nodes (--nodes)",
                self.targets(),
                about_seconds(time(fastest)),
                cost(fastest),
                about_seconds(time(cheapest)),
                cost(cheapest),
            );
            return Err(RunError::new(Kind::Input, "plan", message));
        }
        Ok(match self.time_target {
            Some(_) => (least(&cost, &good), format!("the least core-hours within {}", self.targets())),
            None => (least(&time, &good), format!("the fastest within {}", self.targets())),
        })
    }

    fn targets(&self) -> String {
        let time = self.time_target.map(about_seconds);
        let cost = self.cost_target.map(|hours| format!("{hours} core-hours"));
        [time, cost].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::SLOW_NETWORK;
    use super::super::model::tests::{machine, problem};
    use super::*;

    fn search() -> Search {
        Search {
            nodes: 4,
            cores_per_node: 8,
            memory_per_node: 64.0 * (1u64 << 30) as f64,
            ranks: None,
            threads: None,
            time_target: None,
            cost_target: None,
        }
    }

    fn find(search: &Search, n: usize) -> Result<Plan, RunError> {
        let machine = machine(8);
        let setting = Setting {
            machine: &machine,
            costs: machine.costs.as_ref().expect("costs"),
            network: SLOW_NETWORK,
        };
        search.run(&problem(n, ""), &setting)
    }

    #[test]
    fn layouts_fill_nodes_and_keep_to_what_is_given() {
        let all = search().layouts();
        assert!(all.contains(&Layout { nodes: 1, ranks: 1, threads: 1 }));
        assert!(all.contains(&Layout { nodes: 4, ranks: 32, threads: 1 }));
        assert!(all.contains(&Layout { nodes: 2, ranks: 4, threads: 4 }));
        assert!(all.iter().all(|l| l.ranks_per_node() * l.threads <= 8));
        let fixed = Search { ranks: Some(6), ..search() }.layouts();
        assert!(!fixed.is_empty() && fixed.iter().all(|l| l.ranks == 6));
        let threads = Search { threads: Some(2), ..search() }.layouts();
        assert!(threads.iter().all(|l| l.threads == 2) && threads.len() > 3);
        let odd = Search { cores_per_node: 6, nodes: 1, ..search() }.layouts();
        assert!(odd.contains(&Layout { nodes: 1, ranks: 6, threads: 1 }));
    }

    #[test]
    fn small_problems_stay_small_and_large_ones_spread() {
        let chosen = |n| {
            let plan = find(&search(), n).expect("a plan");
            plan.candidates[plan.recommended].prediction.layout
        };
        let (small, large) = (chosen(6), chosen(120));
        assert_eq!(small.ranks, 1, "{small:?}");
        assert!(large.ranks >= 8, "{large:?}");
    }

    #[test]
    fn targets_are_kept_or_refused_with_figures() {
        let all = find(&search(), 60).expect("a plan");
        let times: Vec<f64> = all.candidates.iter().map(|c| c.prediction.total).collect();
        let fastest = times.iter().copied().fold(f64::INFINITY, f64::min);
        let plan = find(&Search { time_target: Some(3.0 * fastest), ..search() }, 60).expect("a plan");
        let chosen = &plan.candidates[plan.recommended];
        assert!(chosen.prediction.total <= 3.0 * fastest);
        let cheaper = plan.candidates.iter().filter(|c| c.prediction.total <= 3.0 * fastest && c.fits);
        assert!(cheaper.clone().all(|c| c.core_hours >= chosen.core_hours), "{}", plan.because);
        let error = find(&Search { time_target: Some(1e-3), ..search() }, 60).expect_err("too short");
        assert!(error.message.contains("the fastest that fits takes"), "{}", error.message);
        let costly = find(&Search { cost_target: Some(1e-9), ..search() }, 60).expect_err("too cheap");
        assert!(costly.message.contains("core-hours"), "{}", costly.message);
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let error = find(&Search { memory_per_node: 1e8, nodes: 1, ..search() }, 100).expect_err("too large");
        assert!(error.message.contains("--nodes"), "{}", error.message);
        let plan = find(&Search { memory_per_node: 3e9, ..search() }, 100).expect("a plan");
        assert!(plan.candidates[plan.recommended].fits);
    }
}
