//! Stealing, round after round, until no rank is too heavy.
//!
//! Imports `cluster` and the rest of this module. Start at [`steal`].

use cluster::Window;

use super::Job;
use super::claim::{MOST, Market, WORDS};
use super::flow::least_flow;
use super::queue::grow;
use super::report::Measured;
use super::territory::Territory;

/// Nothing is stolen where the flow is so many times what makes METIS be asked: with the default, where all
/// weight would change hands once in the mean.
const HOPELESS: f64 = 5.0;

/// What the rounds led to.
pub(crate) struct Stolen {
    /// The new owner of each vertex of this rank.
    pub(crate) owner: Vec<u32>,
    pub(crate) rounds: u64,
    /// Of all ranks.
    pub(crate) claims: u64,
    /// Of the least flow before the first round.
    pub(crate) flow_l1: f64,
    /// Whether there are groups of ranks that share no edge and cannot balance one another.
    pub(crate) groups: bool,
}

/// Lets ranks steal until the heaviest is within the target, rounds are over, or two in a row did not help.
/// Collective.
pub(crate) fn steal(job: &Job, before: &Measured) -> Stolen {
    let _span = tracing::debug_span!("steal").entered();
    let (comm, options) = (job.comm, job.options);
    let window = Window::new(comm, WORDS);
    let mut territory = Territory::new(comm, job.graph, job.level, job.bytes);
    let mut stolen = Stolen { owner: Vec::new(), rounds: 0, claims: 0, flow_l1: 0.0, groups: false };
    let (mut best, mut in_vain) = (i64::MAX, 0);
    // What ranks with nothing took from this one: they have no contact, so no flow leads there.
    let mut given = 0;
    let mut flow_before = None;
    while (stolen.rounds as usize) < options.rounds {
        // The heaviest load, and whether some rank has nothing while another could give.
        let mut top =
            [territory.load(), i64::from(territory.n_owned() == 0), i64::from(territory.n_owned() > 1)];
        comm.max_slice(&mut top);
        let [heaviest, someone_empty, someone_can] = top;
        in_vain = if heaviest < best { 0 } else { in_vain + 1 };
        best = best.min(heaviest);
        let enough = heaviest as f64 <= options.target.max(1.0) * before.mean;
        if enough || in_vain == 2 {
            break;
        }
        let market = Market {
            comm,
            window: &window,
            deterministic: options.deterministic,
            turn: stolen.rounds.wrapping_add(options.seed as u64),
        };
        let (moves, claims) = if someone_empty == 1 && someone_can == 1 {
            // The heaviest rank may be as heavy as before; those that had nothing can be balanced now.
            in_vain = 0;
            let (moves, claims) = market.take_from_the_heaviest(&territory, before.mean);
            given += moves.iter().map(|m| territory.weight(m.0)).sum::<i64>();
            (moves, claims)
        } else {
            let contacts: Vec<u32> = territory.contacts().iter().map(|c| c.0).collect();
            let flow = least_flow(comm, &contacts, territory.load() as f64, before.mean);
            flow_before.get_or_insert(flow.l1);
            if !flow.balances {
                stolen.groups = true;
                break;
            }
            if flow.l1 > HOPELESS * options.long_flow * before.mean * comm.size() as f64 {
                break;
            }
            let mut quotas: Vec<(u32, f64)> =
                contacts.iter().copied().zip(flow.out.iter().copied()).filter(|q| q.1 > 0.0).collect();
            if quotas.len() > MOST {
                quotas.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                quotas.truncate(MOST);
            }
            let need = -flow.out.iter().filter(|&&f| f < 0.0).sum::<f64>();
            let queues = grow(&territory, &quotas);
            market.trade_with_neighbours(&queues, need.round() as i64)
        };
        territory.commit(comm, &moves);
        stolen.rounds += 1;
        stolen.claims += claims;
    }
    stolen.claims = comm.sum(stolen.claims);
    stolen.flow_l1 = flow_before.unwrap_or(0.0) + comm.sum(given) as f64;
    stolen.owner = territory.owners(comm);
    stolen
}
