//! Interior facets with the two cells on them, and the facets that have one cell only.
//!
//! Imports `element` and `mesh`. Start at [`Facets::new`]. Facets are matched by topological vertices, so
//! those on periodic boundaries are interior, with different coordinates on their two sides. A facet may
//! be a part of its second side's facet (see [`Kind::part`]); the first side is then the finer one.
//!
//! Facets alike are kept together, so that loops over them compute eight at once with one table a side.
//! No communication: the layer of ghost cells holds every neighbour of an owned cell.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::{Block, Mesh};
use crate::element::Shape;

/// What facets that are computed together have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The blocks of the two cells.
    pub blocks: [u16; 2],
    /// The cells' sets of groups, indices into [`Mesh::sets`].
    pub sets: [u16; 2],
    /// The facet's number within each cell.
    pub facets: [u8; 2],
    /// How the second cell lists the facet's vertices: vertex `k` of the first is vertex `turn / 2 + k` of
    /// the second if `turn` is even, `turn / 2 - k` if it is odd, modulo their number.
    pub turn: u8,
    /// 0 where the two facets are the same. Otherwise the first cell's facet is that part of the second's
    /// that has the second's vertex `part - 1`, half as large in each direction.
    pub part: u8,
}

impl Kind {
    /// Where points of the first cell's facet, in the facet's own reference coordinates, lie in the second
    /// reference cell, of the given shape.
    pub fn points_of_second(&self, shape: Shape, points: &[[f64; 3]]) -> Vec<[f64; 3]> {
        let listed = shape.facet_vertices(self.facets[1] as usize);
        let n = listed.len();
        let corner = |k: usize| {
            let (first, k) = (self.turn as usize / 2, k % n);
            let place = if self.turn.is_multiple_of(2) { (first + k) % n } else { (first + n - k) % n };
            let at = |place: usize| shape.vertices()[listed[place] as usize];
            match self.part {
                0 => at(place),
                part => [0, 1, 2].map(|d| 0.5 * (at(place)[d] + at(part as usize - 1)[d])),
            }
        };
        // The ends of the facet's axes: vertices 1 and, of a triangle 2, of a quadrilateral 3.
        let (origin, first, last) = (corner(0), corner(1), corner(n - 1));
        let along = |p: &[f64; 3]| {
            [0, 1, 2].map(|d| {
                let second = if n > 2 { p[1] * (last[d] - origin[d]) } else { 0.0 };
                let first = if n > 1 { p[0] * (first[d] - origin[d]) } else { 0.0 };
                origin[d] + first + second
            })
        };
        points.iter().map(along).collect()
    }
}

/// Facets of one kind: `begin..end` of [`Facets::cells`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What they have in common.
    pub kind: Kind,
    /// The first.
    pub begin: usize,
    /// Past the last.
    pub end: usize,
}

/// A facet with one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outer {
    /// The cell's block.
    pub block: u16,
    /// The facet's number within the cell.
    pub facet: u8,
    /// The cell, an owned one.
    pub cell: u32,
}

/// The facets of a rank's owned cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// Interior facets that touch an owned cell, by kind.
    pub runs: Vec<Run>,
    /// The two cells of each, local numbers within their blocks.
    pub cells: Vec<[u32; 2]>,
    /// Facets of owned cells that no other cell has, ascending: the boundary.
    pub outer: Vec<Outer>,
}

/// Vertices whose facets a task matches: their lists stay in the second-level cache.
const VERTICES_PER_TASK: usize = 1 << 13;

/// Cells that a task takes or leaves as a whole.
const CELLS_PER_SPAN: usize = 256;

/// The facets of a shape, each by its `N` vertices of the cell.
struct Corners<const N: usize> {
    facets: Vec<[u8; N]>,
}

impl<const N: usize> Corners<N> {
    fn new(shape: Shape) -> Corners<N> {
        let corners = |f| shape.facet_vertices(f).try_into().expect("as many vertices as asked for");
        Corners { facets: (0..shape.n_facets()).map(corners).collect() }
    }
}

/// A facet's greatest vertex, and the others, ascending and padded.
#[inline(always)]
fn split<const N: usize>(listed: &[u8; N], vertices: &[u32]) -> (u32, [u32; 3]) {
    let mut all = listed.map(|k| vertices[k as usize]);
    // The greatest goes last, then the second greatest, and so on.
    for end in (1..N).rev() {
        for k in 0..end {
            (all[k], all[k + 1]) = (all[k].min(all[k + 1]), all[k].max(all[k + 1]));
        }
    }
    let mut rest = [u32::MAX; 3];
    rest[..N - 1].copy_from_slice(&all[..N - 1]);
    (all[N - 1], rest)
}

/// The least and past the greatest of the vertices that name facets of some cells.
fn reach(block: &Block, cells: std::ops::Range<usize>) -> (u32, u32) {
    let n = block.shape.n_vertices();
    let own = &block.cell_to_vertex[cells.start * n..cells.end * n];
    let hanging = block.hanging.as_ref().map(|hanging| cells.filter_map(|cell| hanging.of(cell)));
    let parents = hanging.into_iter().flatten().flat_map(|(_, parents)| parents);
    let wider = |(low, high): (u32, u32), &v: &u32| (low.min(v), high.max(v + 1));
    parents.fold(own.iter().fold((u32::MAX, 0), wider), wider)
}

/// A facet seen once.
struct Waiting {
    rest: [u32; 3],
    next: u32,
    side: Outer,
}

const END: u32 = u32::MAX;

/// Facets of one greatest vertex that wait in a list; further ones are hashed.
const LONG_LIST: usize = 48;

/// Facets that wait in lists at their greatest vertices for their other cell.
struct Matcher {
    first: u32,
    head: Vec<u32>,
    pool: Vec<Waiting>,
    free: u32,
    hubs: HashMap<(u32, [u32; 3]), Outer>,
}

impl Matcher {
    /// The other side of a facet; nothing the first time it is seen.
    fn meet(&mut self, top: u32, rest: [u32; 3], side: Outer) -> Option<Outer> {
        let head = (top - self.first) as usize;
        let (mut at, mut before, mut length) = (self.head[head], END, 0);
        while at != END {
            length += 1;
            let waiting = &self.pool[at as usize];
            let next = waiting.next;
            if waiting.rest == rest {
                let other = waiting.side;
                match before {
                    END => self.head[head] = next,
                    _ => self.pool[before as usize].next = next,
                }
                self.pool[at as usize].next = self.free;
                self.free = at;
                return Some(other);
            }
            (before, at) = (at, next);
        }
        if !self.hubs.is_empty() {
            let found = self.hubs.remove(&(top, rest));
            if found.is_some() {
                return found;
            }
        }
        if length >= LONG_LIST {
            self.hubs.insert((top, rest), side);
            return None;
        }
        let new = Waiting { rest, next: self.head[head], side };
        if self.free == END {
            self.head[head] = self.pool.len() as u32;
            self.pool.push(new);
        } else {
            self.head[head] = self.free;
            self.free = std::mem::replace(&mut self.pool[self.free as usize], new).next;
        }
        None
    }

    /// A facet that waits.
    fn waiting(&self, top: u32, rest: [u32; 3]) -> Option<Outer> {
        let mut at = self.head[(top - self.first) as usize];
        while let Some(waiting) = self.pool.get(at as usize) {
            if waiting.rest == rest {
                return Some(waiting.side);
            }
            at = waiting.next;
        }
        self.hubs.get(&(top, rest)).copied()
    }

    /// Facets whose other cell did not come.
    fn left(&self) -> impl Iterator<Item = Outer> + '_ {
        let listed = self.head.iter().flat_map(move |&head| {
            let mut at = head;
            std::iter::from_fn(move || {
                let waiting = self.pool.get(at as usize)?;
                at = waiting.next;
                Some(waiting.side)
            })
        });
        listed.chain(self.hubs.values().copied())
    }
}

/// What one task finds.
struct Found {
    /// By kind, ascending: the pairs of cells, as their second ones come, then those of parts.
    pairs: Vec<(Kind, Vec<[u32; 2]>)>,
    outer: Vec<Outer>,
}

/// Pairs of cells by kind. There are few kinds, so that a table of those met last answers nearly always.
struct Pairs {
    numbers: BTreeMap<Kind, u32>,
    kinds: Vec<Kind>,
    /// Of each kind: the pairs, as they were met.
    cells: Vec<Vec<[u32; 2]>>,
    last: Vec<u32>,
}

impl Pairs {
    /// Places in the table of kinds met last.
    const PLACES: usize = 1 << 11;

    fn new() -> Pairs {
        Pairs { numbers: BTreeMap::new(), kinds: Vec::new(), cells: Vec::new(), last: vec![0; Pairs::PLACES] }
    }

    #[inline]
    fn push(&mut self, kind: Kind, cells: [u32; 2]) {
        let [f, g] = kind.facets.map(usize::from);
        let place = (((f * 6 + g) * 8 + kind.turn as usize) * 5 + kind.part as usize) % Pairs::PLACES;
        let mut number = self.last[place];
        if self.kinds.get(number as usize) != Some(&kind) {
            let new = self.kinds.len() as u32;
            number = *self.numbers.entry(kind).or_insert(new);
            if number == new {
                self.kinds.push(kind);
                self.cells.push(Vec::new());
            }
            self.last[place] = number;
        }
        self.cells[number as usize].push(cells);
    }

    fn by_kind(mut self) -> Vec<(Kind, Vec<[u32; 2]>)> {
        let numbers = std::mem::take(&mut self.numbers);
        let of = |(kind, number): (Kind, u32)| (kind, std::mem::take(&mut self.cells[number as usize]));
        numbers.into_iter().map(of).collect()
    }
}

/// How `second` lists the vertices that `first` lists.
fn turn(first: &[u8], a: &[u32], second: &[u8], b: &[u32]) -> u8 {
    let n = first.len();
    let place = |k: usize| second.iter().position(|&v| b[v as usize] == a[first[k] as usize]);
    let origin = place(0).expect("the same vertices");
    let backwards = n > 1 && place(1) != Some((origin + 1) % n);
    // Two vertices follow each other either way.
    (2 * origin + usize::from(backwards)) as u8
}

impl Facets {
    /// Finds the facets. Not collective. The same whatever the number of threads.
    ///
    /// Bound by reading the cells' vertices; each facet waits in a short list at its greatest vertex.
    pub fn new(mesh: &Mesh) -> Facets {
        let _span = tracing::debug_span!("facets").entered();
        let n_vertices = mesh.vertices.map.n_local();
        // Per block and span of cells: in which range the greatest vertices of their facets lie.
        let spans: Vec<Vec<(u32, u32)>> = mesh
            .blocks
            .iter()
            .map(|block| {
                let span = |span: usize| {
                    reach(block, span * CELLS_PER_SPAN..((span + 1) * CELLS_PER_SPAN).min(block.n_cells))
                };
                (0..block.n_cells.div_ceil(CELLS_PER_SPAN)).into_par_iter().map(span).collect()
            })
            .collect();
        let n_tasks = n_vertices.div_ceil(VERTICES_PER_TASK);
        let found: Vec<Found> = (0..n_tasks)
            .into_par_iter()
            .map(|task| {
                let first = task * VERTICES_PER_TASK;
                find(mesh, &spans, first..(first + VERTICES_PER_TASK).min(n_vertices))
            })
            .collect();
        let mut facets = Facets::default();
        for found in &found {
            for (kind, cells) in &found.pairs {
                let begin = facets.cells.len();
                facets.cells.extend(cells);
                facets.runs.push(Run { kind: *kind, begin, end: facets.cells.len() });
            }
            facets.outer.extend(&found.outer);
        }
        facets.outer.sort_unstable();
        facets
    }
}

/// A facet between two cells, if one of them is owned. `listed` are the vertices by which the first lists it.
fn pair(mesh: &Mesh, first: Outer, second: Outer, listed: &[u32], part: u8) -> Option<(Kind, [u32; 2])> {
    let [a, b] = [first, second].map(|side| &mesh.blocks[side.block as usize]);
    let cells = [first.cell as usize, second.cell as usize];
    if cells[0] >= a.n_owned && cells[1] >= b.n_owned {
        return None;
    }
    let kind = Kind {
        blocks: [first.block, second.block],
        sets: [a.sets[cells[0]], b.sets[cells[1]]],
        facets: [first.facet, second.facet],
        turn: turn(
            a.shape.facet_vertices(first.facet as usize),
            listed,
            b.shape.facet_vertices(second.facet as usize),
            b.vertices(cells[1]),
        ),
        part,
    };
    Some((kind, [first.cell, second.cell]))
}

/// What a task works with.
struct Search<'a> {
    mesh: &'a Mesh,
    matcher: Matcher,
    pairs: Pairs,
    /// Facets that are parts of coarser cells' facets.
    parts: Vec<(u32, [u32; 3], Outer)>,
}

impl Search<'_> {
    /// Matches the facets of a block, each with `N` vertices, whose greatest is one of `tops`. `spans` are the block's.
    fn add<const N: usize>(&mut self, b: usize, spans: &[(u32, u32)], tops: &std::ops::Range<u32>) {
        let Search { mesh, matcher, pairs, parts } = self;
        let block = &mesh.blocks[b];
        let corners = Corners::<N>::new(block.shape);
        for (span, _) in spans.iter().enumerate().filter(|(_, s)| s.0 < tops.end && s.1 > tops.start) {
            for cell in span * CELLS_PER_SPAN..((span + 1) * CELLS_PER_SPAN).min(block.n_cells) {
                let own = block.vertices(cell);
                let hang = block
                    .hang(cell)
                    .map(|(hang, parents)| (hang.entities(block.shape, block.shape.dim() - 1), parents));
                for (facet, listed) in corners.facets.iter().enumerate() {
                    let (vertices, is_part) = match hang {
                        Some((hanging, parents)) if hanging >> facet & 1 != 0 => (parents, true),
                        _ => (own, false),
                    };
                    let (top, rest) = split(listed, vertices);
                    if !tops.contains(&top) {
                        continue;
                    }
                    let side = Outer { block: b as u16, facet: facet as u8, cell: cell as u32 };
                    if is_part {
                        parts.push((top, rest, side));
                        continue;
                    }
                    let Some(other) = matcher.meet(top, rest, side) else { continue };
                    let listed = mesh.blocks[other.block as usize].vertices(other.cell as usize);
                    if let Some((kind, cells)) = pair(mesh, other, side, listed, 0) {
                        pairs.push(kind, cells);
                    }
                }
            }
        }
    }
}

/// Matches the facets whose greatest vertex is one of `vertices`.
fn find(mesh: &Mesh, spans: &[Vec<(u32, u32)>], vertices: std::ops::Range<usize>) -> Found {
    let tops = vertices.start as u32..vertices.end as u32;
    let matcher = Matcher {
        first: tops.start,
        head: vec![END; vertices.len()],
        pool: Vec::new(),
        free: END,
        hubs: HashMap::new(),
    };
    let mut search = Search { mesh, matcher, pairs: Pairs::new(), parts: Vec::new() };
    for (b, block) in mesh.blocks.iter().enumerate() {
        match block.shape {
            Shape::Point => {}
            Shape::Interval => search.add::<1>(b, &spans[b], &tops),
            Shape::Triangle | Shape::Quadrilateral => search.add::<2>(b, &spans[b], &tops),
            Shape::Tetrahedron => search.add::<3>(b, &spans[b], &tops),
            Shape::Hexahedron => search.add::<4>(b, &spans[b], &tops),
        }
    }
    let Search { matcher, mut pairs, parts, .. } = search;
    // The coarser facets have met nobody: those with parts are among the waiting.
    let mut coarse: Vec<Outer> = Vec::new();
    for &(top, rest, side) in &parts {
        let Some(other) = matcher.waiting(top, rest) else { continue };
        let block = &mesh.blocks[side.block as usize];
        let (_, parents) = block.hang(side.cell as usize).expect("the cell hangs");
        let own = block.vertices(side.cell as usize);
        let listed = block.shape.facet_vertices(side.facet as usize);
        let corner = listed.iter().find(|&&k| own[k as usize] == parents[k as usize]);
        let corner = parents[*corner.expect("a part has a vertex of the whole") as usize];
        let of_other = &mesh.blocks[other.block as usize];
        let on_other = of_other.shape.facet_vertices(other.facet as usize);
        let vertices = of_other.vertices(other.cell as usize);
        let place = on_other.iter().position(|&k| vertices[k as usize] == corner);
        let part = 1 + place.expect("the same vertices") as u8;
        if let Some((kind, cells)) = pair(mesh, side, other, parents, part) {
            pairs.push(kind, cells);
        }
        coarse.push(other);
    }
    coarse.sort_unstable();
    let is_owned = |o: &Outer| (o.cell as usize) < mesh.blocks[o.block as usize].n_owned;
    let alone = |o: &Outer| coarse.binary_search(o).is_err();
    let outer = matcher.left().filter(|o| is_owned(o) && alone(o)).collect();
    Found { pairs: pairs.by_kind(), outer }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges of a fan of `n` triangles round vertex `n`, which is greater than all others.
    #[test]
    fn facets_at_a_hub_are_paired() {
        for n in [3u32, LONG_LIST as u32, LONG_LIST as u32 + 1, 20_000] {
            let mut matcher = Matcher {
                first: 0,
                head: vec![END; n as usize + 1],
                pool: Vec::new(),
                free: END,
                hubs: HashMap::new(),
            };
            let side = |cell: u32| Outer { block: 0, facet: 0, cell };
            for k in 0..n {
                assert_eq!(matcher.meet(n, [k, END, END], side(k)), None);
            }
            // All but each seventh come again, from the far end.
            for k in (0..n).rev().filter(|k| k % 7 != 0) {
                assert_eq!(matcher.meet(n, [k, END, END], side(n + k)), Some(side(k)), "{n}");
            }
            let mut left: Vec<u32> = matcher.left().map(|o| o.cell).collect();
            left.sort_unstable();
            assert_eq!(left, (0..n).step_by(7).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_turn_maps_vertices_as_it_says() {
        for shape in Shape::ALL.into_iter().filter(|s| s.dim() > 0) {
            for f in 0..shape.n_facets() {
                let listed = shape.facet_vertices(f);
                let n = listed.len();
                let corners = shape.facet_shape(f).vertices();
                for turn in 0..(2 * n) as u8 {
                    let kind = Kind { blocks: [0; 2], sets: [0; 2], facets: [0, f as u8], turn, part: 0 };
                    let at = kind.points_of_second(shape, corners);
                    for (k, at) in at.iter().enumerate() {
                        let first = turn as usize / 2;
                        let place = if turn.is_multiple_of(2) { first + k } else { first + n - k } % n;
                        assert_eq!(*at, shape.vertices()[listed[place] as usize], "{shape} {f} {turn} {k}");
                    }
                    for part in 1..=n as u8 {
                        let half = Kind { part, ..kind }.points_of_second(shape, corners);
                        let corner = shape.vertices()[listed[part as usize - 1] as usize];
                        for (whole, half) in at.iter().zip(&half) {
                            (0..3).for_each(|d| assert_eq!(half[d], 0.5 * (whole[d] + corner[d])));
                        }
                    }
                }
            }
        }
    }
}
