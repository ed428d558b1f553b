//! Which rank gets which part of a partition made from scratch, so that the most weight stays where it is.
//!
//! Imports `cluster` only. Start at [`relabel`].

use cluster::Comm;

/// Up to this many ranks the assignment is the best there is, in time of the order of its cube on one rank.
const EXACT: usize = 128;

/// How much of a rank's weight is in a part.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Overlap {
    rank: u64,
    part: u64,
    weight: i64,
}

/// Renames parts to ranks. `owner` has the part of each vertex of this rank, `weights` its weight.
///
/// Collective. Only overlaps that are not 0 are gathered, on one rank: a few for each rank where parts are
/// compact, at most a vertex each. Every rank gets the table of names, 4 bytes a rank. Up to 128 ranks the
/// first rank solves the assignment problem (a table of 128 x 128 at most), beyond them it takes the
/// largest overlap that is left again and again, which keeps at least half as much.
///
/// # Source
/// H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics 2 (1955);
/// L. Oliker, R. Biswas, "PLUM: parallel load balancing for adaptive unstructured meshes", J. Parallel
/// Distrib. Comput. 52 (1998) for the use of it and the greedy way.
pub(crate) fn relabel(comm: &Comm, owner: &mut [u32], weights: &[i64]) {
    let mut found: Vec<(u32, i64)> = owner.iter().copied().zip(weights.iter().copied()).collect();
    found.sort_unstable_by_key(|f| f.0);
    let mut mine: Vec<Overlap> = Vec::new();
    for (part, weight) in found {
        match mine.last_mut() {
            Some(last) if last.part == u64::from(part) => last.weight += weight,
            _ => mine.push(Overlap { rank: comm.rank() as u64, part: u64::from(part), weight }),
        }
    }
    let mut names: Vec<u32> = Vec::new();
    if let Some((overlaps, _)) = comm.gather_varied(0, &mine) {
        names =
            if comm.size() <= EXACT { exact(&overlaps, comm.size()) } else { greedy(overlaps, comm.size()) };
    }
    comm.broadcast(0, &mut names);
    owner.iter_mut().for_each(|part| *part = names[*part as usize]);
}

/// The rank of each part: the largest overlap first. The same for any order of the overlaps.
fn greedy(mut overlaps: Vec<Overlap>, n: usize) -> Vec<u32> {
    overlaps.sort_unstable_by_key(|o| (-o.weight, o.rank, o.part));
    let mut names = vec![u32::MAX; n];
    let mut used = vec![false; n];
    for o in overlaps {
        let (rank, part) = (o.rank as usize, o.part as usize);
        if names[part] == u32::MAX && !used[rank] {
            names[part] = rank as u32;
            used[rank] = true;
        }
    }
    let mut free = (0..n).filter(|&r| !used[r]);
    for name in names.iter_mut().filter(|name| **name == u32::MAX) {
        *name = free.next().expect("as many ranks as parts") as u32;
    }
    names
}

/// The rank of each part, so that the sum of overlaps is the largest.
///
/// Rows are added one by one; each time a shortest augmenting way is sought with potentials that keep all
/// reduced costs at least 0.
fn exact(overlaps: &[Overlap], n: usize) -> Vec<u32> {
    let mut cost = vec![0i64; n * n];
    for o in overlaps {
        cost[o.part as usize * n + o.rank as usize] -= o.weight;
    }
    const NONE: usize = usize::MAX;
    // Column n stands for the row that is being added.
    let (mut row_potential, mut column_potential) = (vec![0i64; n], vec![0i64; n + 1]);
    let mut row_of = vec![NONE; n + 1];
    for row in 0..n {
        row_of[n] = row;
        let mut least = vec![i64::MAX; n];
        let mut came_from = vec![n; n];
        let mut visited = vec![false; n + 1];
        let mut column = n;
        while row_of[column] != NONE {
            visited[column] = true;
            let from = row_of[column];
            let (mut step, mut next) = (i64::MAX, n);
            for c in (0..n).filter(|&c| !visited[c]) {
                let reduced = cost[from * n + c] - row_potential[from] - column_potential[c];
                if reduced < least[c] {
                    least[c] = reduced;
                    came_from[c] = column;
                }
                if least[c] < step {
                    (step, next) = (least[c], c);
                }
            }
            for c in 0..=n {
                if visited[c] {
                    row_potential[row_of[c]] += step;
                    column_potential[c] -= step;
                } else if c < n {
                    least[c] -= step;
                }
            }
            column = next;
        }
        while column != n {
            let before = came_from[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut names = vec![0; n];
    for (rank, &part) in row_of[..n].iter().enumerate() {
        names[part] = rank as u32;
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(overlaps: &[Overlap], names: &[u32]) -> i64 {
        overlaps.iter().filter(|o| u64::from(names[o.part as usize]) == o.rank).map(|o| o.weight).sum()
    }

    fn best(overlaps: &[Overlap], names: &mut Vec<u32>, n: usize) -> i64 {
        if names.len() == n {
            return kept(overlaps, names);
        }
        let free: Vec<u32> = (0..n as u32).filter(|r| !names.contains(r)).collect();
        let mut most = 0;
        for r in free {
            names.push(r);
            most = most.max(best(overlaps, names, n));
            names.pop();
        }
        most
    }

    proptest! {
        #[test]
        fn assignments_keep_the_most(n in 1usize..7, seeds in prop::collection::vec((0u64..7, 0u64..7, 0i64..100), 0..25)) {
            let overlaps: Vec<Overlap> = seeds
                .into_iter()
                .map(|(rank, part, weight)| Overlap { rank: rank % n as u64, part: part % n as u64, weight })
                .collect();
            // The sum over doubles is what counts; greedy sees them apart, so give it their sums.
            let mut summed: Vec<Overlap> = Vec::new();
            for o in &overlaps {
                match summed.iter_mut().find(|s| (s.rank, s.part) == (o.rank, o.part)) {
                    Some(s) => s.weight += o.weight,
                    None => summed.push(*o),
                }
            }
            let most = best(&summed, &mut Vec::new(), n);
            let (exact, greedy) = (exact(&overlaps, n), greedy(summed.clone(), n));
            for names in [&exact, &greedy] {
                let mut sorted = names.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.iter().enumerate().all(|(k, &r)| r == k as u32));
            }
            prop_assert_eq!(kept(&summed, &exact), most);
            prop_assert!(2 * kept(&summed, &greedy) >= most);
        }
    }
}
