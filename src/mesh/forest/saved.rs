//! The forest as flat arrays, and back on any number of ranks.
//!
//! Imports `mesh::saved`. Start at [`Forest::save`] and [`Forest::load`]. On as many ranks as saved it every rank
//! has the very same forest again, bit for bit. On another number each takes an equal stretch of the leaves, with
//! what they refer to; ranks that share a vertex find each other at the rank that its name chooses.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use cluster::{Buckets, Comm};

use super::names::{self, LowBits, Name};
use super::sharers::RankSets;
use super::store::{Head, LeafTag, Leaves, MAX_LEVEL, NONE, Points, Root, mark};
use super::tensor::Tensor;
use super::{Forest, compact};
use crate::element::{GeometryKind, Shape};
use crate::mesh::MeshError;
use crate::mesh::saved::{Arrays, Entries, Loading, Outline, broken, distinct};

/// A forest that was loaded.
pub struct Loaded {
    /// The forest.
    pub forest: Forest,
    /// The row, in this rank's share, of each leaf in its present order; `None` where that is the same.
    pub order: Option<Vec<u32>>,
}

impl Forest {
    /// Everything that this rank has of the forest. Collective.
    pub fn save(&self) -> Arrays {
        let plain = match &self.tensor {
            Some(tensor) => tensor.nodes_are_vertices(),
            None => self.leaves.n_nodes == 0,
        };
        let (groups, sets, periodic, geometries) = match &self.tensor {
            Some(tensor) => tensor.common(),
            None => (&self.groups, &self.sets, &self.periodic, &self.geometries),
        };
        let mut saved = Arrays::new(Outline {
            forest: true,
            dim: self.dim,
            blocks: geometries.iter().map(|&g| Outline::kind(self.shape, g)).collect(),
            groups: Outline::with_groups(groups),
            sets: sets.clone(),
            periodic: periodic.clone(),
            nodes_are_vertices: plain,
            n_cells: self.comm.sum(self.n_leaves() as u64),
            cuts: self.cuts,
        });
        if let Some(tensor) = &self.tensor {
            tensor.save(&mut saved);
            return saved;
        }
        let Forest { leaves, points, roots, .. } = self;
        let heads = || leaves.heads.iter();
        saved.add("leaves/paths", 2, Entries::U64(heads().flat_map(|h| names::words(h.path)).collect()));
        saved.add("leaves/roots", 1, Entries::U32(heads().map(|h| h.root).collect()));
        let packed = |h: &Head| {
            u64::from(h.set) | u64::from(h.level) << 16 | u64::from(h.state) << 24 | u64::from(h.order) << 32
        };
        saved.add("leaves/heads", 1, Entries::U64(heads().map(packed).collect()));
        saved.add("leaves/corners", leaves.n_corners, Entries::U32(leaves.corners.clone()));
        if !plain {
            saved.add("leaves/nodes", leaves.n_nodes, Entries::U32(leaves.nodes.clone()));
        }
        let tag =
            |t: &LeafTag| [t.leaf, u32::from(t.group) << 16 | u32::from(t.dim) << 8 | u32::from(t.corners)];
        saved.add("tags", 2, Entries::U32(leaves.tags.iter().flat_map(tag).collect()));
        saved.add("roots/ids", 2, Entries::U64(roots.iter().flat_map(|r| [r.id, r.place]).collect()));
        let orders = roots.iter().map(|r| u32::from(r.state) | u32::from(r.order) << 8).collect();
        saved.add("roots/orders", 1, Entries::U32(orders));
        let words = |all: &[Name]| all.iter().flat_map(|&name| names::words(name)).collect();
        saved.add("points/names", 2, Entries::U64(words(&points.names)));
        if !plain {
            saved.add("nodes/names", 2, Entries::U64(words(&points.node_names)));
        }
        saved.add("nodes/coordinates", 3, Entries::F64(points.coordinates.as_flattened().to_vec()));
        let shared = points.sharers.iter().zip(0u32..).filter(|s| *s.0 != 0);
        let shared = shared.flat_map(|(&set, v)| self.rank_sets.get(set).iter().flat_map(move |&r| [v, r]));
        saved.add("points/shared", 2, Entries::U32(shared.collect()));
        saved
    }

    /// The forest on its ranks again. Collective.
    ///
    /// # Errors
    /// Arrays that contradict each other: the same on every rank.
    pub fn load(loading: &Loading) -> Result<Loaded, MeshError> {
        let comm = &loading.comm;
        let outline = &loading.outline;
        let kinds = outline.kinds()?;
        let shape = kinds[0].0;
        if !outline.forest || kinds.iter().any(|k| k.0 != shape) || shape.dim() != outline.dim {
            return Err(broken("a mesh where a forest is expected"));
        }
        let mut forest = Forest {
            comm: comm.clone(),
            dim: outline.dim,
            shape,
            geometries: kinds.iter().map(|k| k.1).collect(),
            groups: outline.groups(),
            sets: outline.sets.clone(),
            periodic: outline.periodic.clone(),
            cuts: outline.cuts.clamp(1, 16),
            roots: Vec::new(),
            leaves: Leaves::default(),
            points: Points::default(),
            rank_sets: RankSets::new(),
            tensor: None,
        };
        if matches!(shape, Shape::Quadrilateral | Shape::Hexahedron) {
            let (tensor, order) = Tensor::load(loading, shape)?;
            forest.tensor = Some(Box::new(tensor));
            (forest.geometries, forest.groups) = (Vec::new(), Vec::new());
            (forest.sets, forest.periodic) = (Vec::new(), Vec::new());
            return Ok(Loaded { forest, order });
        }
        let plain = outline.nodes_are_vertices;
        forest.leaves.n_corners = shape.n_vertices();
        forest.leaves.n_nodes = match forest.geometries.iter().all(|&g| g == GeometryKind::Linear) {
            _ if plain => 0,
            true => shape.n_vertices(),
            false => GeometryKind::Quadratic.n_nodes(shape),
        };
        if loading.same_ranks() {
            comm.agree(forest.load_own(loading))?;
            return Ok(Loaded { forest, order: None });
        }
        let order = forest.load_share(loading)?;
        Ok(Loaded { forest, order: Some(order) })
    }

    /// Leaves but for their roots, corners, nodes and tags, which are as the file has them.
    fn heads(&self, loading: &Loading) -> Result<Vec<Head>, MeshError> {
        let paths = loading.u64("leaves/paths", 2)?.as_chunks::<2>().0;
        let (packed, roots) = (loading.u64("leaves/heads", 1)?, loading.u32("leaves/roots", 1)?);
        if paths.len() != packed.len() || paths.len() != roots.len() {
            return Err(broken("leaves without a root"));
        }
        let head = |((&path, &word), &root): ((&[u64; 2], &u64), &u32)| Head {
            path: names::from_words(path),
            root,
            set: word as u16,
            level: (word >> 16) as u8,
            state: (word >> 24) as u8,
            order: (word >> 32) as u8,
            mark: mark::KEEP,
        };
        let heads: Vec<Head> = paths.iter().zip(packed).zip(roots).map(head).collect();
        if heads.iter().any(|h| usize::from(h.set) >= self.sets.len() || h.level > MAX_LEVEL) {
            return Err(broken("a leaf in groups that are not there"));
        }
        Ok(heads)
    }

    fn tag(&self, leaf: u32, word: u32) -> Result<LeafTag, MeshError> {
        let tag = LeafTag { leaf, group: (word >> 16) as u16, dim: (word >> 8) as u8, corners: word as u8 };
        if usize::from(tag.group) >= self.groups.len() || usize::from(tag.dim) >= self.dim {
            return Err(broken("a tag of a group that is not there"));
        }
        Ok(tag)
    }

    /// What this rank saved. The error is its own.
    fn load_own(&mut self, loading: &Loading) -> Result<(), MeshError> {
        let plain = self.leaves.n_nodes == 0;
        self.leaves.heads = self.heads(loading)?;
        let n = self.leaves.len();
        self.leaves.corners = loading.u32("leaves/corners", self.leaves.n_corners)?.to_vec();
        if !plain {
            self.leaves.nodes = loading.u32("leaves/nodes", self.leaves.n_nodes)?.to_vec();
        }
        for t in loading.u32("tags", 2)?.as_chunks::<2>().0 {
            self.leaves.tags.push(self.tag(t[0], t[1])?);
        }
        self.roots = roots(loading.u64("roots/ids", 2)?, loading.u32("roots/orders", 1)?);
        let name = |words: &[u64; 2]| names::from_words(*words);
        self.points.names = loading.u64("points/names", 2)?.as_chunks::<2>().0.iter().map(name).collect();
        if !plain {
            self.points.node_names =
                loading.u64("nodes/names", 2)?.as_chunks::<2>().0.iter().map(name).collect();
        }
        self.points.coordinates = loading.f64("nodes/coordinates", 3)?.as_chunks::<3>().0.to_vec();
        let n_points = self.points.names.len();
        let n_nodes = self.points.coordinates.len();
        let fits = self.leaves.corners.len() == n * self.leaves.n_corners
            && self.leaves.nodes.len() == n * self.leaves.n_nodes
            && self.leaves.corners.iter().all(|&v| (v as usize) < n_points)
            && self.leaves.nodes.iter().all(|&k| k == NONE || (k as usize) < n_nodes)
            && self.leaves.tags.iter().all(|t| (t.leaf as usize) < n)
            && self.leaves.heads.iter().all(|h| (h.root as usize) < self.roots.len())
            && n_nodes == if plain { n_points } else { self.points.node_names.len() };
        if !fits {
            return Err(broken("leaves that do not fit their corners"));
        }
        self.points.sharers = vec![0; n_points];
        for &[v, rank] in loading.u32("points/shared", 2)?.as_chunks::<2>().0 {
            let Some(set) = self.points.sharers.get_mut(v as usize) else {
                return Err(broken("a shared vertex that is not there"));
            };
            if rank as usize >= self.comm.size() || rank as usize == self.comm.rank() {
                return Err(broken("a vertex shared with a rank that is not there"));
            }
            *set = self.rank_sets.with(*set, rank);
        }
        Ok(())
    }

    /// What this rank's equal share of the leaves refers to, as rows of roots, vertices and nodes.
    fn references(&self, loading: &Loading) -> Result<[Vec<u64>; 3], MeshError> {
        let rows = |name: &str, width: usize, other: &str| -> Result<Vec<u64>, MeshError> {
            let numbers = loading.u32(name, width)?;
            let bases = loading.bases(name, numbers.len() / width, other)?;
            let mut rows = Vec::with_capacity(numbers.len());
            for (&(first, n), numbers) in bases.iter().zip(numbers.chunks_exact(width)) {
                for &k in numbers {
                    match k {
                        NONE => rows.push(u64::MAX),
                        k if u64::from(k) < n => rows.push(first + u64::from(k)),
                        _ => return Err(broken("a leaf with a corner that is not there")),
                    }
                }
            }
            Ok(rows)
        };
        let nodes = match self.leaves.n_nodes {
            0 => Vec::new(),
            n => rows("leaves/nodes", n, "nodes/names")?,
        };
        let roots = rows("leaves/roots", 1, "roots/ids")?;
        let corners = rows("leaves/corners", self.leaves.n_corners, "points/names")?;
        if roots.contains(&u64::MAX) || corners.contains(&u64::MAX) {
            return Err(broken("a leaf without a corner"));
        }
        Ok([roots, corners, nodes])
    }

    /// Tags of the leaves of this rank's share, by their place in it. Collective.
    fn tags_of_share(&self, loading: &Loading) -> Result<Vec<LeafTag>, MeshError> {
        let comm = &self.comm;
        let first = loading.first_row("leaves/paths")?;
        let mine = || -> Result<Vec<(u32, [u64; 2])>, MeshError> {
            let tags = loading.u32("tags", 2)?.as_chunks::<2>().0;
            let bases = loading.bases("tags", tags.len(), "leaves/paths")?;
            let mut sends = Vec::with_capacity(tags.len());
            for (&[leaf, word], (base, n)) in tags.iter().zip(bases) {
                if u64::from(leaf) >= n {
                    return Err(broken("a tag of a leaf that is not there"));
                }
                let row = base + u64::from(leaf);
                sends.push((loading.owner("leaves/paths", row)?, [row, u64::from(word)]));
            }
            Ok(sends)
        };
        let sends = comm.agree(mine())?;
        let received = comm.exchange(&Buckets::from_pairs(sends)).data;
        let tags = received.iter().map(|&[row, word]| self.tag((row - first) as u32, word as u32)).collect();
        let mut tags: Vec<LeafTag> = comm.agree(tags)?;
        tags.sort_unstable();
        Ok(tags)
    }

    /// An equal share of the leaves; their rows in it by their present order. Collective.
    fn load_share(&mut self, loading: &Loading) -> Result<Vec<u32>, MeshError> {
        let comm = self.comm.clone();
        let plain = self.leaves.n_nodes == 0;
        let (n_corners, n_nodes) = (self.leaves.n_corners, self.leaves.n_nodes);
        let found = self.heads(loading).and_then(|heads| {
            let references = self.references(loading)?;
            let n = heads.len();
            let fits = references[1].len() == n * n_corners && references[2].len() == n * n_nodes;
            if fits { Ok((heads, references)) } else { Err(broken("leaves that do not fit their corners")) }
        });
        let (mut heads, [root_rows, corner_rows, mut node_rows]) = comm.agree(found)?;
        let tags = self.tags_of_share(loading)?;

        // Roots, each once and by place.
        let (wanted, of_root) = distinct(&root_rows);
        let mut fetched = roots(
            &loading.fetch_u64("roots/ids", 2, &wanted)?,
            &loading.fetch_u32("roots/orders", 1, &wanted)?,
        );
        let places: Vec<u64> = fetched.iter().map(|root| root.place).collect();
        let (_, number) = distinct(&places);
        heads.iter_mut().zip(&of_root).for_each(|(head, &k)| head.root = number[k as usize]);
        fetched.sort_unstable_by_key(|root| root.place);
        fetched.dedup_by_key(|root| root.place);
        self.roots = fetched;

        // Vertices and nodes, each once: other ranks had some of them too.
        let (wanted, at) = distinct(&corner_rows);
        let words = loading.fetch_u64("points/names", 2, &wanted)?;
        let coordinates =
            if plain { loading.fetch_f64("nodes/coordinates", 3, &wanted)? } else { Vec::new() };
        let (number, first) = by_name(&words);
        let corners: Vec<u32> = at.iter().map(|&k| number[k as usize]).collect();
        let name = |k: &u32| names::from_words([words[2 * *k as usize], words[2 * *k as usize + 1]]);
        self.points.names = first.iter().map(name).collect();
        let point = |x: &[f64], k: &u32| [0, 1, 2].map(|d| x[3 * *k as usize + d]);
        let mut nodes = Vec::new();
        if plain {
            self.points.coordinates = first.iter().map(|k| point(&coordinates, k)).collect();
        } else {
            let unused: Vec<bool> = node_rows.iter().map(|&row| row == u64::MAX).collect();
            node_rows.retain(|&row| row != u64::MAX);
            let (wanted, at) = distinct(&node_rows);
            let words = loading.fetch_u64("nodes/names", 2, &wanted)?;
            let coordinates = loading.fetch_f64("nodes/coordinates", 3, &wanted)?;
            let (number, first) = by_name(&words);
            let mut used = at.iter().map(|&k| number[k as usize]);
            nodes = unused
                .iter()
                .map(|&unused| if unused { NONE } else { used.next().unwrap_or(NONE) })
                .collect();
            let name = |k: &u32| names::from_words([words[2 * *k as usize], words[2 * *k as usize + 1]]);
            self.points.node_names = first.iter().map(name).collect();
            self.points.coordinates = first.iter().map(|k| point(&coordinates, k)).collect();
        }
        let (sharers, sets) = meet(&comm, &self.points.names);
        (self.points.sharers, self.rank_sets) = (sharers, sets);

        // Leaves by root and path.
        let mut order: Vec<u32> = (0..heads.len() as u32).collect();
        order.sort_by_key(|&k| (heads[k as usize].root, heads[k as usize].path));
        let source = Leaves { n_corners, n_nodes, heads, corners, nodes, tags: Vec::new() };
        let mut leaves = Leaves::like(&source, source.len());
        for (&k, to) in order.iter().zip(0u32..) {
            leaves.push_from(&source, k as usize);
            let begin = tags.partition_point(|t| t.leaf < k);
            let mine = tags[begin..].iter().take_while(|t| t.leaf == k);
            leaves.tags.extend(mine.map(|t| LeafTag { leaf: to, ..*t }));
        }
        self.leaves = leaves;
        compact(&mut self.leaves, &mut self.points);
        Ok(order)
    }
}

fn roots(ids: &[u64], orders: &[u32]) -> Vec<Root> {
    let root = |(id, &order): (&[u64; 2], &u32)| Root {
        id: id[0],
        place: id[1],
        state: order as u8,
        order: (order >> 8) as u8,
    };
    ids.as_chunks::<2>().0.iter().zip(orders).map(root).collect()
}

/// A number for each name, the same for equal ones, and the first that has each number.
fn by_name(words: &[u64]) -> (Vec<u32>, Vec<u32>) {
    let mut numbers: HashMap<Name, u32, BuildHasherDefault<LowBits>> = HashMap::default();
    let mut first = Vec::new();
    let number = words.as_chunks::<2>().0.iter().zip(0u32..).map(|(&words, k)| {
        *numbers.entry(names::from_words(words)).or_insert_with(|| {
            first.push(k);
            first.len() as u32 - 1
        })
    });
    let number = number.collect();
    (number, first)
}

/// The set of other ranks that have each of these names, which are distinct here. Collective: the rank that a name
/// chooses tells those that have it of each other.
fn meet(comm: &Comm, names: &[Name]) -> (Vec<u32>, RankSets) {
    let mut sets = RankSets::new();
    let mut sharers = vec![0u32; names.len()];
    let size = comm.size() as u64;
    if size == 1 {
        return (sharers, sets);
    }
    let keeper = |name: Name| ((name >> 64) as u64 % size) as u32;
    let told = names.iter().zip(0u64..).map(|(&name, k)| {
        let [low, high] = names::words(name);
        (keeper(name), [low, high, k])
    });
    let asked = comm.exchange(&Buckets::from_pairs(told.collect()));
    let mut holders: Vec<(Name, u32, u64)> = Vec::with_capacity(asked.data.len());
    for (rank, words) in asked.iter() {
        holders.extend(words.iter().map(|&[low, high, k]| (names::from_words([low, high]), rank, k)));
    }
    holders.sort_unstable();
    let mut answers: Vec<(u32, [u64; 2])> = Vec::new();
    for run in holders.chunk_by(|a, b| a.0 == b.0) {
        for &(_, rank, k) in run {
            answers.extend(run.iter().filter(|h| h.1 != rank).map(|h| (rank, [k, u64::from(h.1)])));
        }
    }
    for &[k, rank] in &comm.exchange(&Buckets::from_pairs(answers)).data {
        let set = &mut sharers[k as usize];
        *set = sets.with(*set, rank as u32);
    }
    (sharers, sets)
}
