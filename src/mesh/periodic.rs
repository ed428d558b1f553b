//! Merging the vertices of periodic boundaries.
//!
//! The two boundaries must be translates of each other. Vertices are matched by their coordinates
//! relative to their own boundary's bounding box, through a rendezvous at the rank that a rounded
//! coordinate hashes to. Coordinates stay as they are; only topology is merged.

use cluster::Buckets;

use super::MeshError;
use super::directory::Directory;
use super::draft::{Draft, Merged};
use super::entities::mix;
use super::ids::{IdSet, Numbers};

/// Coordinates that agree to this fraction of the boundary's size are the same.
const TOLERANCE: f64 = 1e-6;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Point {
    x: [f64; 3],
    id: u64,
    side: u64,
}

/// Topological vertices: those of the second of each pair of groups replaced by those of the first.
/// Collective.
pub(super) fn merge(draft: &Draft, pairs: &[(u16, u16)]) -> Result<Merged, MeshError> {
    let _span = tracing::debug_span!("periodic pairs").entered();
    let comm = &draft.comm;
    let mut links: Vec<(u64, u64)> = Vec::new();
    for &(a, b) in pairs {
        links.extend(comm.agree(match_pair(draft, a, b))?);
    }
    // Follow links (corner of a doubly periodic box -> edge -> corner) until they end. Each round halves
    // the chains; boundaries periodic in three directions have chains of three.
    let (slaves, masters): (Vec<u64>, Vec<u64>) = links.into_iter().unzip();
    let directory = LinkDirectory::new(draft, &slaves, &masters);
    let nodes: Vec<Vec<u64>> = (0..draft.cells.len()).map(|b| draft.cell_nodes(b)).collect();
    // By block, corner by corner.
    let mut merged: Vec<Vec<u64>> = nodes
        .iter()
        .zip(&draft.soup.blocks)
        .map(|(nodes, block)| {
            let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
            nodes.chunks_exact(n).flat_map(|x| x[..corners].iter().copied()).collect()
        })
        .collect();
    for _ in 0..8 {
        let set = IdSet::new(merged.iter().flatten());
        let images = directory.follow(draft, set.ids());
        let mut changed = false;
        for id in merged.iter_mut().flatten() {
            let image = images[set.local(*id) as usize];
            changed |= image != *id;
            *id = image;
        }
        if !comm.any(changed) {
            break;
        }
    }
    check_width(draft, &nodes, &merged, &masters, pairs)?;
    let all = || merged.iter().flatten().copied();
    let mut numbers = Numbers::new(all().min().unwrap_or(1), all().max().unwrap_or(0), all().count());
    let mut label = vec![0; draft.numbers.len()];
    for (b, vertices) in merged.iter().enumerate() {
        let block = &draft.soup.blocks[b];
        let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
        for (nodes, vertices) in draft.cells[b].chunks_exact(n).zip(vertices.chunks_exact(corners)) {
            for (&node, &vertex) in nodes.iter().zip(vertices) {
                label[node as usize] = numbers.meet(vertex);
            }
        }
    }
    Ok(Merged { label, ids: numbers.ids().to_vec() })
}

/// Whether a vertex has edges both to a vertex and to an image of it: 2 cells across. Collective.
///
/// Edges of which one end was merged meet at the rank that their merged ends hash to, with edges that have a
/// master for one end: the two may stand in cells of different ranks.
fn meets_both_images(draft: &Draft, nodes: &[Vec<u64>], merged: &[Vec<u64>], masters: &[u64]) -> bool {
    let comm = &draft.comm;
    let set = IdSet::new(merged.iter().flatten());
    let is_master =
        Directory::new(comm, draft.ranges, masters, masters).get_or(comm, set.ids(), |_| u64::MAX);
    let mut edges: Vec<[u64; 4]> = Vec::new();
    for ((block, nodes), vertices) in draft.soup.blocks.iter().zip(nodes).zip(merged) {
        let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
        for (nodes, vertices) in nodes.chunks_exact(n).zip(vertices.chunks_exact(corners)) {
            for i in 0..block.shape.n_entities(1) {
                let ends = block.shape.entity_vertices(1, i);
                let [a, b] = [0, 1].map(|k| (vertices[ends[k] as usize], nodes[ends[k] as usize]));
                let (a, b) = (a.min(b), a.max(b));
                let master = |id: u64| is_master[set.local(id) as usize] != u64::MAX;
                let changed = [a, b].map(|end| end.0 != end.1);
                if changed[0] != changed[1] || (!changed[0] && (master(a.0) || master(b.0))) {
                    edges.push([a.0, b.0, a.1, b.1]);
                }
            }
        }
    }
    edges.sort_unstable();
    edges.dedup();
    let to: Vec<u32> = edges.iter().map(|e| (mix(e[0] ^ mix(e[1])) % comm.size() as u64) as u32).collect();
    let mut met = comm.exchange(&Buckets::from_destinations(&to, &edges)).data;
    met.sort_unstable();
    met.dedup();
    // Edges that share an end in fact, not only after merging; images of one edge share none.
    let narrow = met.chunk_by(|e, f| e[..2] == f[..2]).any(|run| {
        let share = |e: &[u64; 4], f: &[u64; 4]| (e[2] == f[2]) != (e[3] == f[3]);
        run.iter().enumerate().any(|(k, e)| run[..k].iter().any(|f| share(e, f)))
    });
    comm.any(narrow)
}

/// Refuses a domain so narrow that a cell would meet itself, or two cells share all their vertices:
/// fewer than 3 cells across a period.
fn check_width(
    draft: &Draft,
    nodes: &[Vec<u64>],
    merged: &[Vec<u64>],
    masters: &[u64],
    pairs: &[(u16, u16)],
) -> Result<(), MeshError> {
    let mut narrow = meets_both_images(draft, nodes, merged, masters);
    for (block, vertices) in draft.soup.blocks.iter().zip(merged) {
        for corners in vertices.chunks_exact(block.shape.n_vertices()) {
            let repeated = (1..corners.len()).any(|k| corners[..k].contains(&corners[k]));
            narrow |= repeated;
        }
    }
    // Two edges between the same merged vertices but different nodes: 2 cells across.
    let mut edges: Vec<([u64; 2], [u64; 2])> = Vec::new();
    for ((block, nodes), vertices) in draft.soup.blocks.iter().zip(nodes).zip(merged) {
        let (n, corners) = (block.geometry.n_nodes(block.shape), block.shape.n_vertices());
        for (nodes, vertices) in nodes.chunks_exact(n).zip(vertices.chunks_exact(corners)) {
            if nodes[..corners] == *vertices {
                continue;
            }
            for i in 0..block.shape.n_entities(1) {
                let e = block.shape.entity_vertices(1, i);
                let pair = |of: &[u64]| {
                    let (a, b) = (of[e[0] as usize], of[e[1] as usize]);
                    [a.min(b), a.max(b)]
                };
                edges.push((pair(vertices), pair(nodes)));
            }
        }
    }
    edges.sort_unstable();
    edges.dedup();
    let mut x = Vec::new();
    let ids = IdSet::new(edges.iter().flat_map(|e| e.1.iter()));
    if let Ok(points) = draft.coordinates.get(&draft.comm, ids.ids()) {
        x = points;
    }
    // Images of one edge are translates: same difference vector. Anything else is a second edge.
    for run in edges.chunk_by(|a, b| a.0 == b.0) {
        let vector = |e: &[u64; 2]| {
            let (p, q) = (x[ids.local(e[0]) as usize], x[ids.local(e[1]) as usize]);
            [0, 1, 2].map(|d| (q[d] - p[d]).abs())
        };
        let first = vector(&run[0].1);
        let size: f64 = first.iter().sum();
        for other in &run[1..] {
            let v = vector(&other.1);
            narrow |= (0..3).any(|d| (v[d] - first[d]).abs() > 1e-6 * size);
        }
    }
    if draft.comm.any(narrow) {
        let name = |g: u16| draft.soup.groups[g as usize].name.clone();
        return Err(MeshError::Periodic {
            a: name(pairs[0].0),
            b: name(pairs[0].1),
            what: "fewer than 3 cells across the period: refine the mesh in that direction".into(),
        });
    }
    Ok(())
}

struct LinkDirectory {
    directory: Directory<u64>,
}

impl LinkDirectory {
    fn new(draft: &Draft, slaves: &[u64], masters: &[u64]) -> Self {
        LinkDirectory { directory: Directory::new(&draft.comm, draft.ranges, slaves, masters) }
    }

    /// The image of each identifier: its master, or itself.
    fn follow(&self, draft: &Draft, sorted: &[u64]) -> Vec<u64> {
        self.directory.get_or(&draft.comm, sorted, |id| id)
    }
}

/// Links from each vertex of group `b` to its partner on group `a`.
fn match_pair(draft: &Draft, a: u16, b: u16) -> Result<Vec<(u64, u64)>, MeshError> {
    let comm = &draft.comm;
    let name = |g: u16| draft.soup.groups[g as usize].name.clone();
    let fail = |what: String| MeshError::Periodic { a: name(a), b: name(b), what };
    let mut ids: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    for block in &draft.soup.entities {
        let n = block.shape.n_vertices();
        for (vertices, &group) in block.vertices.chunks_exact(n).zip(&block.groups) {
            for (side, of) in [a, b].into_iter().enumerate() {
                if group == of {
                    ids[side].extend_from_slice(vertices);
                }
            }
        }
    }
    let mut points = Vec::new();
    let mut low = [[f64::INFINITY; 3]; 2];
    let mut high = [[f64::NEG_INFINITY; 3]; 2];
    for side in 0..2 {
        let set = IdSet::new(ids[side].iter());
        let x = draft.coordinates.get(comm, set.ids()).map_err(|node| MeshError::MissingNode { node });
        let x = comm.agree(x)?;
        for (&id, x) in set.ids().iter().zip(&x) {
            for d in 0..3 {
                low[side][d] = low[side][d].min(x[d]);
                high[side][d] = high[side][d].max(x[d]);
            }
            points.push(Point { x: *x, id, side: side as u64 });
        }
    }
    for side in 0..2 {
        comm.min_slice(&mut low[side]);
        comm.max_slice(&mut high[side]);
    }
    if !(low[0][0].is_finite() && low[1][0].is_finite()) {
        return Err(fail("one of them has no facets".into()));
    }
    let shift: Vec<f64> = (0..3).map(|d| low[1][d] - low[0][d]).collect();
    let size = (0..3)
        .map(|d| high[0][d] - low[0][d])
        .fold(0.0f64, f64::max)
        .max(shift.iter().fold(0.0, |m: f64, s| m.max(s.abs())));
    if (0..3).any(|d| (high[1][d] - high[0][d] - shift[d]).abs() > TOLERANCE * size) {
        return Err(fail("one is not a translate of the other (their bounding boxes differ in size)".into()));
    }
    if shift.iter().all(|s| s.abs() <= TOLERANCE * size) {
        return Err(fail("they lie in the same place".into()));
    }
    // Coordinates on a grid of the tolerance, in the frame of side a; a point near a grid line is sent to
    // both cells of the grid, in each direction, and matched by distance.
    let grid = TOLERANCE * size * 16.0;
    let mut sends: Vec<(u32, Point)> = Vec::new();
    for p in &mut points {
        if p.side == 1 {
            (0..3).for_each(|d| p.x[d] -= shift[d]);
        }
        let mut cells: Vec<u64> = vec![0];
        for d in 0..3 {
            let t = (p.x[d] - low[0][d]) / grid;
            let mut options = vec![(t - 0.25).floor() as i64, (t + 0.25).floor() as i64];
            options.dedup();
            cells = cells.iter().flat_map(|&h| options.iter().map(move |&o| mix(h ^ o as u64))).collect();
        }
        cells.sort_unstable();
        cells.dedup();
        let mut to: Vec<u32> = cells.iter().map(|&h| (h % comm.size() as u64) as u32).collect();
        to.sort_unstable();
        to.dedup();
        sends.extend(to.into_iter().map(|rank| (rank, *p)));
    }
    let received = comm.exchange(&Buckets::from_pairs(sends)).data;
    let mut sides: [Vec<Point>; 2] = [Vec::new(), Vec::new()];
    for p in received {
        sides[p.side as usize].push(p);
    }
    for side in &mut sides {
        side.sort_by(|p, q| p.x[0].total_cmp(&q.x[0]).then(p.id.cmp(&q.id)));
        side.dedup_by_key(|p| p.id);
    }
    let near = 4.0 * TOLERANCE * size;
    let mut links = Vec::new();
    for p in &sides[1] {
        let begin = sides[0].partition_point(|q| q.x[0] < p.x[0] - near);
        let partner = sides[0][begin..]
            .iter()
            .take_while(|q| q.x[0] <= p.x[0] + near)
            .find(|q| (0..3).all(|d| (q.x[d] - p.x[d]).abs() <= near));
        if let Some(q) = partner {
            links.push((p.id, q.id));
        }
    }
    // Every vertex of b needs a partner; a vertex sent to several ranks needs one on one of them.
    let mine: Vec<u64> = links.iter().map(|l| l.0).collect();
    let found = Directory::new(comm, draft.ranges, &mine, &mine);
    let set = IdSet::new(ids[1].iter());
    let images = found.get_or(comm, set.ids(), |_| u64::MAX);
    let missing = set.ids().iter().zip(&images).find(|(_, image)| **image == u64::MAX).map(|(id, _)| *id);
    comm.agree(match missing {
        Some(id) => Err(fail(format!("node {id} of \"{}\" has no partner on \"{}\"", name(b), name(a)))),
        None => Ok(()),
    })?;
    Ok(links.into_iter().filter(|l| l.0 != l.1).collect())
}
