//! What METIS may leave undone on odd graphs: empty parts, and parts that are too heavy.
//!
//! Imports `kway`'s graph. Start at [`fill_empty_parts`] and [`lighten`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use metis::Idx;

use crate::kway::Whole;

/// Gives each empty part a vertex of the heaviest part that has more than one.
pub(crate) fn fill_empty_parts(owner: &mut [u32], weights: &[Idx], n_parts: usize) {
    let mut count = vec![0usize; n_parts];
    for &p in owner.iter() {
        count[p as usize] += 1;
    }
    if count.iter().all(|&c| c > 0) {
        return;
    }
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); n_parts];
    let mut weight = vec![0i64; n_parts];
    for (v, &p) in owner.iter().enumerate() {
        members[p as usize].push(v);
        weight[p as usize] += i64::from(weights[v]);
    }
    let mut donors: BinaryHeap<(i64, usize)> =
        (0..n_parts).filter(|&p| count[p] > 1).map(|p| (weight[p], p)).collect();
    for empty in (0..n_parts).filter(|&p| count[p] == 0) {
        let Some((heavy, p)) = donors.pop() else { return };
        let Some(v) = members[p].pop() else { continue };
        owner[v] = empty as u32;
        if members[p].len() > 1 {
            donors.push((heavy - i64::from(weights[v]), p));
        }
    }
}

/// Takes vertices out of parts that weigh more than `max_imbalance` times the mean, whatever the cut.
///
/// METIS moves weight between adjacent parts only, and so does refinement; a graph of many small pieces
/// needs more. Weight goes to the lightest adjacent part that has room, else to the lightest of all, in
/// connected pieces where possible.
pub(crate) fn lighten(graph: &Whole, owner: &mut [u32], n_parts: usize, max_imbalance: f64) {
    let mut weight = vec![0i64; n_parts];
    for (&p, &w) in owner.iter().zip(&graph.vertex_weights) {
        weight[p as usize] += i64::from(w);
    }
    let mean = weight.iter().sum::<i64>() as f64 / n_parts as f64;
    let most = ((max_imbalance * mean).floor() as i64).max(mean.ceil() as i64);
    let heavy: Vec<usize> = (0..n_parts).filter(|&p| weight[p] > most).collect();
    for from in heavy {
        let members: Vec<usize> = (0..owner.len()).filter(|&v| owner[v] as usize == from).collect();
        // Each round fills a part or lightens this one; a round without a move ends it.
        while weight[from] > most {
            let beside = members
                .iter()
                .filter(|&&v| owner[v] as usize == from)
                .flat_map(|&v| graph.row(v).map(|(u, _)| owner[u] as usize))
                .filter(|&p| p != from && (weight[p] as f64) < mean)
                .min_by_key(|&p| (weight[p], p));
            let Some(to) = beside.or_else(|| (0..n_parts).min_by_key(|&p| (weight[p], p))) else { return };
            if move_some(graph, owner, &members, &mut weight, (from, to), most) == 0 {
                break;
            }
        }
    }
}

/// Moves vertices from one part to another, best gain first, until either has the weight it should.
fn move_some(
    graph: &Whole,
    owner: &mut [u32],
    members: &[usize],
    weight: &mut [i64],
    (from, to): (usize, usize),
    most: i64,
) -> usize {
    let gain = |v: usize, owner: &[u32]| -> i64 {
        graph
            .row(v)
            .map(|(u, w)| match owner[u] as usize {
                p if p == to => w,
                p if p == from => -w,
                _ => 0,
            })
            .sum()
    };
    let mut queue: BinaryHeap<(i64, Reverse<usize>)> = members
        .iter()
        .filter(|&&v| owner[v] as usize == from && graph.vertex_weights[v] > 0)
        .map(|&v| (gain(v, owner), Reverse(v)))
        .collect();
    let mut moved = 0;
    while weight[from] > most {
        let Some((expected, Reverse(v))) = queue.pop() else { break };
        let heavy = i64::from(graph.vertex_weights[v]);
        // Entries are pushed again when a gain grows, so an entry may be out of date.
        if owner[v] as usize != from || gain(v, owner) != expected || weight[to] + heavy > most {
            continue;
        }
        owner[v] = to as u32;
        weight[from] -= heavy;
        weight[to] += heavy;
        moved += 1;
        for (u, _) in graph.row(v) {
            if owner[u] as usize == from && graph.vertex_weights[u] > 0 {
                queue.push((gain(u, owner), Reverse(u)));
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_part_stays_empty(
            n_parts in 1usize..20,
            weighted in prop::collection::vec((0u32..20, 0i32..9), 20..60),
        ) {
            let mut owner: Vec<u32> = weighted.iter().map(|x| x.0 % n_parts as u32).collect();
            let weights: Vec<Idx> = weighted.iter().map(|x| x.1 as Idx).collect();
            // Empty half of them.
            owner.iter_mut().for_each(|p| *p /= 2);
            fill_empty_parts(&mut owner, &weights, n_parts);
            for p in 0..n_parts as u32 {
                prop_assert!(owner.contains(&p));
            }
        }

        #[test]
        fn heavy_parts_are_lightened(n in 40usize..400, n_parts in 2usize..20, seed in any::<u64>()) {
            let graph = Whole::path(n);
            // Most vertices in few parts.
            let mut owner: Vec<u32> = (0..n as u64)
                .map(|v| (seed.rotate_left(v as u32 * 7) % n_parts as u64 * (v % 3) / 2) as u32)
                .map(|p| p.min(n_parts as u32 - 1))
                .collect();
            lighten(&graph, &mut owner, n_parts, 1.03);
            let most = (1.03 * n as f64 / n_parts as f64).floor().max((n as f64 / n_parts as f64).ceil());
            for p in 0..n_parts as u32 {
                prop_assert!(owner.iter().filter(|&&o| o == p).count() as f64 <= most);
            }
        }
    }
}
