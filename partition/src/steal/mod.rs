//! Rebalance by work stealing: ranks with too little to do take what lies at their interfaces from those
//! with too much.
//!
//! Imports `graph`, `level`, `refine`, [`crate::partition()`]. Start at [`rebalance`]: it decides whether to
//! move at all (`decide`), lets ranks steal in `rounds` (`flow` says how much goes where, `queue` what victims
//! offer, `claim` how thieves take it, `territory` who has what in between), smooths (`smooth`), and takes
//! METIS with the names of parts exchanged (`relabel`) where stealing does not lead there.

mod claim;
mod decide;
mod flow;
mod queue;
mod relabel;
mod report;
mod rounds;
mod smooth;
mod territory;

use cluster::Comm;

pub use decide::{Cost, Reference};
pub use report::{Fallback, Method, Rebalanced, Report};

use crate::error::Error;
use crate::graph::Graph;
use crate::level::Level;
use report::Measured;
use rounds::Stolen;
use smooth::Clusters;

/// What a caller may choose about a rebalance. The same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct StealOptions {
    /// How to rebalance, if at all.
    pub method: Method,
    /// Nothing happens while the heaviest rank is at most this many times the mean.
    pub trigger: f64,
    /// What the heaviest rank should be over the mean afterwards, give or take one vertex.
    pub target: f64,
    /// The same owners on every run: ranks that have nothing choose in rank order, and costs measured by a
    /// clock do not count. Weights should not be measured by one either.
    pub deterministic: bool,
    /// Of METIS, and of the order in which thieves go round their victims.
    pub seed: i32,
    /// With fewer vertices a rank than this METIS decides.
    pub least_vertices: u64,
    /// The most rounds of stealing.
    pub rounds: usize,
    /// The most passes of smoothing; 0 for none.
    pub smooth_passes: usize,
    /// How much more than the least flow may move for the sake of a better cut.
    pub moved: f64,
    /// METIS takes over when the cut is this many times what it would cut.
    pub cut: f64,
    /// METIS is asked, and takes over if it moves less, when the least flow is more than this part of all
    /// weight: what goes through many ranks on its way is counted on each, and METIS's parts may be named so
    /// that less moves.
    pub long_flow: f64,
    /// Of the mesh the graph stands for: how [`Reference`] grows.
    pub dimensions: u32,
}

impl Default for StealOptions {
    fn default() -> Self {
        StealOptions {
            method: Method::Steal,
            trigger: 1.05,
            target: 1.03,
            deterministic: false,
            seed: 1,
            least_vertices: 50,
            rounds: 16,
            smooth_passes: 6,
            moved: 1.2,
            cut: 1.25,
            long_flow: 0.2,
            dimensions: 3,
        }
    }
}

/// Finds new owners for the vertices of a graph that is dealt out to the ranks that own them now.
///
/// `bytes` are those that move with each owned vertex (empty: one each). `reference` is that of the last
/// call, or of the partition the graph came from; without one cuts are not judged. `cost`, if given, may say
/// that moving does not pay.
///
/// Collective. Nothing moves but a few words for each vertex stolen and its neighbours; the caller moves what
/// it has. A round takes some reductions of a few words (at most as many as ranks, and a few), messages to
/// neighbours alone, and time for the vertices near interfaces. Smoothing and METIS use tables of one entry
/// for each rank.
///
/// # Errors
/// [`Error::Length`] of `bytes`, and what [`crate::check_graph`] finds in a graph that is not symmetric. Every
/// rank gets the same error.
///
/// # Source
/// Quotas: Hu and Blake (1999), see `flow`. Queues and claims of half the surplus: J. Dinan, D. B. Larkins,
/// P. Sadayappan, S. Krishnamoorthy, J. Nieplocha, "Scalable work stealing", SC 2009. METIS with renamed
/// parts: K. Schloegel, G. Karypis, V. Kumar, "Multilevel diffusion schemes for repartitioning of adaptive
/// meshes", J. Parallel Distrib. Comput. 47 (1997), who call it scratch-remap.
pub fn rebalance(
    comm: &Comm,
    graph: &Graph,
    bytes: &[u32],
    reference: Option<Reference>,
    cost: Option<&Cost>,
    options: &StealOptions,
) -> Result<Rebalanced, Error> {
    let _span = tracing::debug_span!("rebalance graph").entered();
    let n = graph.n_owned();
    let (found, expected) = (bytes.len() as u64, n as u64);
    let wrong = Error::Length { rank: comm.rank(), array: "bytes".into(), found, expected };
    comm.agree(if bytes.is_empty() || found == expected { Ok(()) } else { Err(wrong) })?;
    if !graph.looks_symmetric(comm) {
        crate::check_graph(comm, graph)?;
    }
    let bytes: Vec<i64> =
        if bytes.is_empty() { vec![1; n] } else { bytes.iter().map(|&b| i64::from(b)).collect() };
    let level = Level::from_graph(comm, graph);
    let job = Job { comm, graph, level: &level, bytes: &bytes, options };

    let stay = vec![comm.rank() as u32; n];
    let before = job.measure(&stay);
    let mut report = Report::of(&before);
    let mut reference = reference;
    if let Some(reference) = &mut reference {
        reference.found(before.edge_cut);
    }
    let mut result = Rebalanced { owner: stay, report: report.clone(), reference };
    if !job.pays(&before, cost) {
        return Ok(result);
    }
    let mut fallback = match options.method {
        Method::None => return Ok(result),
        Method::Metis => Some(Fallback::Asked),
        Method::Steal if graph.n_global() < options.least_vertices * comm.size() as u64 => {
            Some(Fallback::FewVertices)
        }
        Method::Steal => None,
    };
    let mut stealing = None;
    if fallback.is_none() {
        let stolen = rounds::steal(&job, &before);
        report.rounds = stolen.rounds;
        report.claims = stolen.claims;
        report.flow_l1 = stolen.flow_l1;
        let mut parts = job.smoothed(&stolen);
        fallback = job.doubts(&stolen, &before, &parts.after, reference, 1.0);
        if matches!(fallback, Some(Fallback::Flow | Fallback::Cut)) {
            parts = job.reshaped(&stolen, parts);
            // What was in doubt has to be well within the limit.
            fallback = job.doubts(&stolen, &before, &parts.after, reference, 2.0);
        }
        stealing = Some(parts);
    }
    let (method, parts) = match (fallback, stealing) {
        (None, Some(parts)) => (Method::Steal, parts),
        (_, stealing) => {
            let metis = job.scratch()?;
            result.reference = Some(Reference::new(metis.after.edge_cut, before.n_vertices));
            match fallback {
                Some(Fallback::Asked) => (Method::Metis, metis),
                _ => job.best(stealing.filter(|_| fallback != Some(Fallback::Groups)), metis),
            }
        }
    };
    report.fallback = fallback;
    report.method = method;
    report.take(&parts.after);
    result.owner = parts.owner;
    // Where nothing helps (single vertices are too heavy) nothing should move.
    let in_vain = report.imbalance_after >= report.imbalance_before;
    if in_vain && report.fallback != Some(Fallback::Asked) {
        report.method = Method::None;
        report.take(&before);
        result.owner = vec![comm.rank() as u32; n];
    }
    if let Some(reference) = &mut result.reference {
        reference.dealt(report.edge_cut_after);
    }
    result.report = report;
    Ok(result)
}

/// New owners and what they are like.
#[derive(Clone)]
struct Parts {
    owner: Vec<u32>,
    after: Measured,
}

/// How much of METIS's moves are worth one more of its cut: a tenth more of the cut for a fortieth less to move.
const CUT_FOR_MOVES: f64 = 0.25;

/// How many times parts are contracted and refined after stealing.
const RESHAPES: usize = 3;

/// How many prices of moving are tried on METIS's parts: the first one is an edge.
const TRIES: usize = 4;

/// What all parts of a rebalance look at.
struct Job<'a> {
    comm: &'a Comm,
    graph: &'a Graph,
    level: &'a Level,
    bytes: &'a [i64],
    options: &'a StealOptions,
}

impl Job<'_> {
    /// Whether the loads are uneven enough, can be more even, and to move pays. Collective.
    fn pays(&self, now: &Measured, cost: Option<&Cost>) -> bool {
        // A rank that is as heavy as one vertex cannot be lighter.
        let movable = now.heaviest > now.heaviest_vertex && now.n_vertices > 1 && self.comm.size() > 1;
        if now.imbalance <= self.options.trigger || !movable {
            return false;
        }
        let load = self.load() as f64;
        let surplus = (load - now.mean).max(0.0);
        let bytes = self.bytes.iter().sum::<i64>() as f64 * surplus / load.max(1.0);
        cost.is_none_or(|c| {
            c.worth_it(self.comm, now.imbalance, self.options.target, bytes) || self.options.deterministic
        })
    }

    /// Whether the heaviest rank is within the target and one vertex.
    fn balanced(&self, now: &Measured) -> bool {
        now.heaviest as f64 <= self.options.target.max(1.0) * now.mean + now.heaviest_vertex as f64
    }

    fn load(&self) -> i64 {
        (0..self.level.n_owned()).map(|v| self.level.vertex_weight(v)).sum()
    }

    /// Why METIS should be asked after stealing, if it should: it is needed, or might do better. `margin` times the
    /// doubt about what METIS would cut is allowed for.
    fn doubts(
        &self,
        stolen: &Stolen,
        before: &Measured,
        after: &Measured,
        reference: Option<Reference>,
        margin: f64,
    ) -> Option<Fallback> {
        let options = self.options;
        let too_large = |r: Reference| {
            let limit = options.cut / (1.0 + margin * r.doubt(before.n_vertices));
            after.edge_cut as f64 > limit * r.scaled(before.n_vertices, options.dimensions)
        };
        let total = before.mean * self.comm.size() as f64;
        if stolen.groups {
            Some(Fallback::Groups)
        } else if stolen.flow_l1 > options.long_flow * total {
            Some(Fallback::Flow)
        } else if !self.balanced(after) {
            Some(Fallback::Imbalance)
        } else if reference.is_some_and(too_large) {
            Some(Fallback::Cut)
        } else {
            None
        }
    }

    /// Owners, measured. Collective.
    fn parts(&self, owner: Vec<u32>) -> Parts {
        let after = self.measure(&owner);
        Parts { owner, after }
    }

    /// The owners after smoothing, or as they are where that moves too much or does not help. Collective.
    fn smoothed(&self, stolen: &Stolen) -> Parts {
        let parts = self.parts(stolen.owner.clone());
        if self.options.smooth_passes == 0 || parts.after.moved_vertices == 0 {
            return parts;
        }
        // Not worse balanced than stealing left it, but for the target.
        let most = self.options.target.max(parts.after.imbalance);
        self.cheaper(stolen, parts, |owner, price| {
            let mut owner = owner.to_vec();
            smooth::smooth(self, &mut owner, most, price);
            owner
        })
    }

    /// As [`Job::smoothed`], from clusters down to vertices, again while that helps. Collective.
    fn reshaped(&self, stolen: &Stolen, mut parts: Parts) -> Parts {
        if self.options.smooth_passes == 0 || !self.balanced(&parts.after) {
            return parts;
        }
        for _ in 0..RESHAPES {
            let was = parts.after.edge_cut as f64;
            let clusters = Clusters::new(self, &parts.owner);
            parts = self.cheaper(stolen, parts, |_, price| clusters.refined(self.options.target, price));
            if parts.after.edge_cut as f64 > 0.98 * was {
                break;
            }
        }
        parts
    }

    /// What `change` makes of owners at the first price at which it cuts less and moves little enough. Collective.
    fn cheaper(&self, stolen: &Stolen, parts: Parts, change: impl Fn(&[u32], f64) -> Vec<u32>) -> Parts {
        let was = &parts.after;
        let budget = (self.options.moved * stolen.flow_l1).max(was.moved_weight as f64);
        for price in smooth::PRICES {
            let changed = self.parts(change(&parts.owner, price));
            let now = &changed.after;
            let better = now.edge_cut < was.edge_cut && now.empty <= was.empty;
            let balanced = self.balanced(now) || !self.balanced(was);
            if better && balanced && now.moved_weight as f64 <= budget {
                return changed;
            }
        }
        parts
    }

    /// METIS's parts under the names that let the most weight stay. Collective.
    fn scratch(&self) -> Result<Parts, Error> {
        let options = crate::Options {
            max_imbalance: self.options.target,
            seed: self.options.seed,
            ..crate::Options::default()
        };
        let mut owner = crate::partition(self.comm, self.graph, self.comm.size(), &options)?.owner;
        let weights: Vec<i64> = (0..owner.len()).map(|v| self.level.vertex_weight(v)).collect();
        relabel::relabel(self.comm, &mut owner, &weights);
        Ok(self.parts(owner))
    }

    /// The best of what stealing led to, METIS's parts, and those drawn back to where their vertices are (not tried
    /// where stealing moves half as much as METIS): none moves more than METIS's, cuts more than the limit or is less
    /// even. Collective.
    fn best(&self, stealing: Option<Parts>, metis: Parts) -> (Method, Parts) {
        let limit = metis.after.clone();
        let allowed = |now: &Measured| {
            let even = now.imbalance <= limit.imbalance || self.balanced(now);
            let close = now.edge_cut as f64 <= self.options.cut * limit.edge_cut as f64;
            even && close && now.empty <= limit.empty && now.moved_weight <= limit.moved_weight
        };
        let price = |now: &Measured| {
            let part = |x: u64, of: u64| x as f64 / of.max(1) as f64;
            part(now.moved_weight, limit.moved_weight) + CUT_FOR_MOVES * part(now.edge_cut, limit.edge_cut)
        };
        let mut best = (Method::Metis, metis.clone());
        let mut consider = |method: Method, parts: Parts| {
            if allowed(&parts.after) && price(&parts.after) < price(&best.1.after) {
                best = (method, parts);
            }
        };
        let little = stealing
            .as_ref()
            .is_some_and(|parts| allowed(&parts.after) && 2 * parts.after.moved_weight <= limit.moved_weight);
        if let Some(parts) = stealing {
            consider(Method::Steal, parts);
        }
        if !little && self.options.smooth_passes > 0 && metis.after.moved_vertices > 0 {
            // The higher the price of moving, the larger the cut: the highest is sought at which it is within its limit.
            let clusters = Clusters::new(self, &metis.owner);
            let (mut at, mut within, mut beyond) = (1.0f64, None, None);
            for _ in 0..TRIES {
                let drawn_back = self.parts(clusters.refined(self.options.target, at));
                let high = drawn_back.after.edge_cut as f64 > self.options.cut * metis.after.edge_cut as f64;
                consider(Method::Metis, drawn_back);
                *(if high { &mut beyond } else { &mut within }) = Some(at);
                at = match (within, beyond) {
                    (Some(low), Some(high)) => (low * high).sqrt(),
                    _ if high => 0.5 * at,
                    _ => 2.0 * at,
                };
            }
        }
        best
    }
}
