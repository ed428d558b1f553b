//! Region nodes: pairs of a node and a region that meets it.
//!
//! A node on the interface of two regions has a value for each, so that a stress that jumps there is
//! shown as it is. Where all cells are of one region, pairs are nodes and nothing is stored for them.
//! Imports the discretisation. Start at [`RegionNodes`].

use super::discretisation::Discretisation;

/// Pairs of node and region, and which of them the owned cells of a rank use: its points.
pub struct RegionNodes {
    /// Per point: its pair, ascending.
    pairs: Vec<u32>,
    /// Per pair: its point, [`UNUSED`] where no owned cell has it as its own.
    points: Vec<u32>,
    /// `None` where each node has one region: then pairs are local nodes.
    several: Option<Several>,
}

/// Nodes of several regions.
struct Several {
    /// Per pair: its region. The pairs of a node are in the same order on every rank that holds it.
    regions: Vec<u16>,
    /// Where the pairs of each local node begin.
    offsets: Vec<u32>,
    /// Per pair: its local node.
    nodes: Vec<u32>,
    /// The most regions that meet at a node, on any rank.
    most: usize,
}

/// No region.
const NONE: u16 = u16::MAX;

/// No point.
const UNUSED: u32 = u32::MAX;

impl RegionNodes {
    /// Collects the pairs. Collective.
    pub fn new(d: &Discretisation) -> RegionNodes {
        let several = if one_region(d) { None } else { Several::new(d) };
        let n_pairs = several.as_ref().map_or(d.space.map.n_local(), |s| s.regions.len());
        let mut made = RegionNodes { pairs: Vec::new(), points: vec![UNUSED; n_pairs], several };
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let n = d.space.elements[b].n_nodes();
            match &made.several {
                None if !d.space.may_hang(b) => {
                    for &v in &d.space.cell_to_node[b][..block.n_owned * n] {
                        made.points[v as usize] = 0;
                    }
                }
                several => {
                    for cell in 0..block.n_owned {
                        // Nodes of a parent are no points of a cell that hangs.
                        let hanging = d.space.interpolation(b, cell);
                        let is_own = |k: &usize| !hanging.is_some_and(|c| c.is_parents(*k));
                        let nodes = d.space.nodes(b, cell);
                        for v in (0..nodes.len()).filter(is_own).map(|k| nodes[k]) {
                            let pair = several.as_ref().map_or(v as usize, |s| s.find(v, block.sets[cell]));
                            made.points[pair] = 0;
                        }
                    }
                }
            }
        }
        for (pair, point) in made.points.iter_mut().enumerate() {
            if *point == 0 {
                *point = made.pairs.len() as u32;
                made.pairs.push(pair as u32);
            }
        }
        made
    }

    /// The number of points.
    pub fn n_points(&self) -> usize {
        self.pairs.len()
    }

    /// The number of pairs.
    pub fn n_pairs(&self) -> usize {
        self.points.len()
    }

    /// The pairs of points, ascending.
    pub fn pairs(&self) -> &[u32] {
        &self.pairs
    }

    /// The local node of a pair.
    #[inline]
    pub fn node(&self, pair: u32) -> u32 {
        self.several.as_ref().map_or(pair, |s| s.nodes[pair as usize])
    }

    /// The pair of a node and a region that meets it.
    #[inline]
    pub fn pair(&self, node: u32, set: u16) -> usize {
        self.several.as_ref().map_or(node as usize, |s| s.find(node, set))
    }

    /// The point of a node of an owned cell in the cell's region; none such of a slot that is a parent's.
    #[inline]
    pub fn point(&self, node: u32, set: u16) -> u32 {
        self.points[self.pair(node, set)]
    }

    /// Where the pairs of local node `node` begin.
    pub(super) fn first_pair(&self, node: usize) -> usize {
        self.several.as_ref().map_or(node, |s| s.offsets[node] as usize)
    }

    /// Gives the pairs of ghosts the values of their owners: `width` values a pair. Collective.
    pub(super) fn forward(&self, d: &Discretisation, values: &mut [f64], width: usize) {
        let Some(several) = &self.several else { return d.space.halo.forward(values, width) };
        let n_owned = d.space.map.n_owned();
        let n_local = d.space.map.n_local();
        if d.mesh.comm.size() == 1 {
            return;
        }
        let offsets = &several.offsets;
        let mut buffer = vec![0.0; n_local * width];
        for k in 0..several.most {
            let has = |v: usize| offsets[v] as usize + k < offsets[v + 1] as usize;
            for v in (0..n_owned).filter(|&v| has(v)) {
                let pair = offsets[v] as usize + k;
                buffer[v * width..][..width].copy_from_slice(&values[pair * width..][..width]);
            }
            d.space.halo.forward(&mut buffer, width);
            for v in (n_owned..n_local).filter(|&v| has(v)) {
                let pair = offsets[v] as usize + k;
                values[pair * width..][..width].copy_from_slice(&buffer[v * width..][..width]);
            }
        }
    }
}

/// Whether all cells of all ranks are of one region. Collective.
fn one_region(d: &Discretisation) -> bool {
    let sets = || d.mesh.blocks.iter().flat_map(|b| &b.sets);
    let (least, most) = sets().fold((NONE, 0), |(low, high): (u16, u16), &s| (low.min(s), high.max(s)));
    // One reduction: the least of the least, and of the complements of the greatest.
    let mut bounds = [least, u16::MAX - most].map(u64::from);
    if least == NONE {
        bounds = [u64::MAX; 2];
    }
    d.mesh.comm.min_slice(&mut bounds);
    bounds[0] == u64::MAX || bounds[0] + bounds[1] == u64::from(u16::MAX)
}

impl Several {
    /// Collects the pairs; `None` where each node has but one, on every rank. Collective.
    fn new(d: &Discretisation) -> Option<Several> {
        let n_owned = d.space.map.n_owned();
        let n_local = d.space.map.n_local();
        // Owners know all regions at their nodes: the first of each here, the others beside.
        let mut first = vec![NONE; n_local];
        let mut others: Vec<(u32, u16)> = Vec::new();
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            for (cell, &set) in block.sets.iter().enumerate() {
                for &v in d.space.nodes(b, cell) {
                    match first.get_mut(v as usize) {
                        Some(_) if v as usize >= n_owned => {}
                        Some(first) if *first == NONE => *first = set,
                        Some(first) if *first != set => others.push((v, set)),
                        _ => {}
                    }
                }
            }
        }
        others.sort_unstable();
        others.dedup();
        let most = others.chunk_by(|a, b| a.0 == b.0).map(|run| run.len() as u64).max().unwrap_or(0);
        let most = 1 + d.mesh.comm.max(most) as usize;
        if most == 1 {
            return None;
        }
        // `[local node][k]`: the k-th region of a node.
        let mut table = vec![NONE; n_local * most];
        for (row, &set) in table.chunks_exact_mut(most).zip(&first) {
            row[0] = set;
        }
        for run in others.chunk_by(|a, b| a.0 == b.0) {
            for (k, &(v, set)) in run.iter().enumerate() {
                table[v as usize * most + 1 + k] = set;
            }
        }
        d.space.halo.forward(&mut table, most);
        let (mut regions, mut nodes, mut offsets) =
            (Vec::with_capacity(n_local), Vec::with_capacity(n_local), Vec::with_capacity(n_local + 1));
        offsets.push(0);
        for (v, row) in table.chunks_exact(most).enumerate() {
            regions.extend(row.iter().filter(|&&set| set != NONE));
            nodes.resize(regions.len(), v as u32);
            offsets.push(regions.len() as u32);
        }
        Some(Several { regions, offsets, nodes, most })
    }

    fn find(&self, node: u32, set: u16) -> usize {
        let (begin, end) = (self.offsets[node as usize] as usize, self.offsets[node as usize + 1] as usize);
        let k = self.regions[begin..end].iter().position(|&s| s == set);
        begin + k.expect("the owner of a node knows the region of every cell round it")
    }
}
