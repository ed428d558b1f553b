//! Essential conditions: which DOFs are prescribed, in which frame, and their elimination.
//!
//! The unknown is the change from a lifted state that has the prescribed values, so eliminated rows and
//! columns carry no right-hand side. Conditions along a normal that is not a coordinate axis turn the
//! node's frame; its rows and columns are turned on the way into the matrix.

use std::collections::HashMap;

use super::discretisation::{AssemblyError, Discretisation};
use super::facets::FacetRule;
use crate::element::{Hang, Table};
use crate::law::expr::{Expr, Points, Scratch};
use crate::mesh::{EntityTag, geometry};

/// An essential condition on sub-entities of cells.
pub struct Essential {
    /// The condition's key, for messages.
    pub key: String,
    /// Where, on owned and ghost cells.
    pub entities: Vec<EntityTag>,
    /// What is prescribed.
    pub prescribed: Prescribed,
}

/// What an essential condition prescribes.
pub enum Prescribed {
    /// Components, each free (`None`) or given.
    Components(Vec<Option<Expr>>),
    /// The component along the outward normal; facets only.
    Normal(Expr),
}

type Frame = [[f64; 3]; 3];

/// Prescribed DOFs of all local nodes, ghosts included.
pub struct Constraints {
    components: usize,
    /// Per local node: bit `c` set where component `c`, in the node's frame, is prescribed.
    flags: Vec<u8>,
    /// Per local DOF: the prescribed value in the node's frame.
    values: Vec<f64>,
    /// Frames that are not the coordinate axes: `frame[k]` is the k-th axis.
    frames: HashMap<u32, Frame>,
    /// DOFs on which an earlier condition was overruled by a later one with another value, on this rank.
    pub overruled: u64,
    /// How far values differ where a DOF was prescribed twice.
    differences: Vec<f64>,
}

/// A direction and the value prescribed along it.
#[derive(Clone, Copy)]
struct Along {
    direction: [f64; 3],
    value: f64,
}

/// Values that differ by less than this, relative to the largest that is prescribed anywhere, are one expression's at
/// places that differ by round-off.
const SAME: f64 = 1e-12;

/// Facet normals at a node that differ by less than this are one smooth surface's: cos(40 degrees).
const SMOOTH: f64 = 0.766;

impl Constraints {
    /// Evaluates all conditions, later ones overruling earlier ones on the same component. Collective.
    ///
    /// # Errors
    /// An expression that is not a number at a node, the same error on every rank.
    pub fn new(
        d: &Discretisation,
        components: usize,
        conditions: &[Essential],
    ) -> Result<Constraints, AssemblyError> {
        let _span = tracing::debug_span!("constraints").entered();
        let comm = &d.mesh.comm;
        let n_owned = d.space.map.n_owned();
        let n_local = d.space.map.n_local();
        let mut made = Constraints {
            components,
            flags: vec![0; n_local],
            values: vec![0.0; n_local * components],
            frames: HashMap::new(),
            overruled: 0,
            differences: Vec::new(),
        };
        let mut skew: HashMap<u32, Vec<Along>> = HashMap::new();
        let done = conditions.iter().try_for_each(|condition| match &condition.prescribed {
            Prescribed::Components(exprs) => made.fix_components(d, condition, exprs),
            Prescribed::Normal(expr) => made.fix_normal(d, condition, expr, &mut skew),
        });
        comm.agree(done)?;
        let mut size = made.values.iter().fold(0.0f64, |size, value| size.max(value.abs()));
        for (node, directions) in skew {
            size = directions.iter().fold(size, |size, along| size.max(along.value.abs()));
            made.turn(node, &directions);
        }
        let size = comm.max(size);
        made.overruled =
            made.differences.iter().filter(|&&difference| difference > SAME * size).count() as u64;
        made.differences = Vec::new();
        made.share(d, n_owned);
        Ok(made)
    }

    /// Those of another space, zero: each of its local nodes has the conditions of a node of this one, in its frame.
    pub fn of_nodes(&self, nodes: &[u32]) -> Constraints {
        let frame = |(k, node): (usize, &u32)| Some((k as u32, *self.frames.get(node)?));
        Constraints {
            components: self.components,
            flags: nodes.iter().map(|&node| self.flags[node as usize]).collect(),
            values: vec![0.0; nodes.len() * self.components],
            frames: nodes.iter().enumerate().filter_map(frame).collect(),
            overruled: 0,
            differences: Vec::new(),
        }
    }

    /// Owners tell the ranks that hold their nodes as ghosts.
    fn share(&mut self, d: &Discretisation, n_owned: usize) {
        d.space.halo.forward(&mut self.flags, 1);
        d.space.halo.forward(&mut self.values, self.components);
        if !d.mesh.comm.any(!self.frames.is_empty()) {
            return;
        }
        let mut frames = vec![0.0; d.space.map.n_local() * 9];
        for (&node, frame) in &self.frames {
            frames[node as usize * 9..][..9].copy_from_slice(frame.as_flattened());
        }
        d.space.halo.forward(&mut frames, 9);
        for (node, frame) in frames.chunks_exact(9).enumerate().skip(n_owned) {
            if frame.iter().any(|&f| f != 0.0) {
                let rows = [0, 1, 2].map(|k| [frame[3 * k], frame[3 * k + 1], frame[3 * k + 2]]);
                self.frames.insert(node as u32, rows);
            }
        }
    }

    /// The owned nodes on a condition's entities, each once, with coordinates.
    fn nodes_of(d: &Discretisation, entities: &[EntityTag]) -> (Vec<u32>, [Vec<f64>; 3]) {
        let n_owned = d.space.map.n_owned() as u32;
        let mut found: Vec<(u32, [f64; 3])> = Vec::new();
        let tables: Vec<_> = d
            .mesh
            .blocks
            .iter()
            .zip(&d.space.elements)
            .map(|(block, element)| geometry::basis(block).tabulate(element.nodes(), 0))
            .collect();
        // The same for the nodes of the parents of cells that hang, by block and child.
        let mut of_parents: HashMap<(usize, usize), Table> = HashMap::new();
        let mut known = vec![false; n_owned as usize];
        let mut x = Vec::new();
        for tag in entities {
            let (b, cell) = (tag.block as usize, tag.cell as usize);
            let nodes = d.space.nodes(b, cell);
            let on_entity = d.space.elements[b].closure_nodes(tag.dim as usize, tag.local as usize);
            // A node is where the first of its entities has it, and six facets or more meet there.
            if on_entity.iter().all(|&k| known.get(nodes[k as usize] as usize).is_none_or(|known| *known)) {
                continue;
            }
            x.clear();
            d.mesh.cell_coordinates(&d.mesh.blocks[b], cell, &mut x);
            let hanging = d.space.interpolation(b, cell);
            for &k in on_entity {
                let k = k as usize;
                if nodes[k] < n_owned && !std::mem::replace(&mut known[nodes[k] as usize], true) {
                    let at = match hanging.filter(|c| c.is_parents(k)) {
                        // The parent's boundary goes on beyond the cell.
                        Some(c) => {
                            let block = &d.mesh.blocks[b];
                            let child = block.hang(cell).map_or(0, |(hang, _)| hang.child());
                            let tabulate = || geometry::basis(block).tabulate(c.places(), 0);
                            let table = of_parents.entry((b, child)).or_insert_with(tabulate);
                            geometry::image(table, k, &x)
                        }
                        None => geometry::image(&tables[b], k, &x),
                    };
                    found.push((nodes[k], at));
                }
            }
        }
        found.sort_unstable_by_key(|f| f.0);
        let coordinates = [0, 1, 2].map(|k| found.iter().map(|f| f.1[k]).collect());
        (found.into_iter().map(|f| f.0).collect(), coordinates)
    }

    fn evaluate(
        key: &str,
        expr: &Expr,
        x: &[Vec<f64>; 3],
        time: f64,
        scratch: &mut Scratch,
    ) -> Result<Vec<f64>, AssemblyError> {
        let mut values = vec![0.0; x[0].len()];
        expr.eval(&Points { x: &x[0], y: &x[1], z: &x[2], t: time }, &mut values, scratch);
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(k) => Err(AssemblyError::NotFinite {
                key: key.to_string(),
                text: expr.text().to_string(),
                value: values[k].to_string(),
                x: x[0][k],
                y: x[1][k],
                z: x[2][k],
            }),
        }
    }

    fn fix(&mut self, node: u32, component: usize, value: f64) {
        let bit = 1 << component;
        let held = &mut self.values[node as usize * self.components + component];
        if self.flags[node as usize] & bit != 0 && *held != value {
            self.differences.push((*held - value).abs());
        }
        self.flags[node as usize] |= bit;
        *held = value;
    }

    fn fix_components(
        &mut self,
        d: &Discretisation,
        condition: &Essential,
        exprs: &[Option<Expr>],
    ) -> Result<(), AssemblyError> {
        let (nodes, x) = Self::nodes_of(d, &condition.entities);
        let mut scratch = Scratch::default();
        for (component, expr) in exprs.iter().enumerate() {
            let Some(expr) = expr else { continue };
            let values = Self::evaluate(&condition.key, expr, &x, d.time, &mut scratch)?;
            for (&node, value) in nodes.iter().zip(values) {
                self.fix(node, component, value);
            }
        }
        Ok(())
    }

    fn fix_normal(
        &mut self,
        d: &Discretisation,
        condition: &Essential,
        expr: &Expr,
        skew: &mut HashMap<u32, Vec<Along>>,
    ) -> Result<(), AssemblyError> {
        let n_owned = d.space.map.n_owned() as u32;
        let (nodes, coordinates) = Self::nodes_of(d, &condition.entities);
        let values = Self::evaluate(&condition.key, expr, &coordinates, d.time, &mut Scratch::default())?;
        // Area-weighted normals at the nodes, one for each smooth surface that meets there.
        let mut normals: HashMap<u32, Vec<[f64; 3]>> = HashMap::new();
        let mut rules: HashMap<(u16, u8, Hang), FacetRule> = HashMap::new();
        let mut x = Vec::new();
        for tag in &condition.entities {
            let (b, cell) = (tag.block as usize, tag.cell as usize);
            let element = &d.space.elements[b];
            let on_facet = element.closure_nodes(tag.dim as usize, tag.local as usize);
            let hang = d.mesh.blocks[b].hang(cell).map_or(Hang::NONE, |h| h.0);
            let rule = rules.entry((tag.block, tag.local, hang)).or_insert_with(|| {
                let hanging = d.space.interpolation(b, cell);
                let place = |&k: &u16| match hanging.filter(|c| c.is_parents(k as usize)) {
                    Some(c) => c.place(k as usize),
                    None => element.nodes()[k as usize],
                };
                let points: Vec<[f64; 3]> = on_facet.iter().map(place).collect();
                let weights = vec![1.0; points.len()];
                FacetRule::at(d.mesh, d.space, b, tag.local as usize, &points, weights)
            });
            x.clear();
            d.mesh.cell_coordinates(&d.mesh.blocks[b], cell, &mut x);
            for (q, &k) in on_facet.iter().enumerate() {
                let node = d.space.nodes(b, cell)[k as usize];
                if node >= n_owned {
                    continue;
                }
                let n = rule.normal(q, &x);
                let surfaces = normals.entry(node).or_default();
                match surfaces.iter_mut().find(|s| dot(s, &n) > SMOOTH * norm(s) * norm(&n)) {
                    Some(sum) => (0..3).for_each(|k| sum[k] += n[k]),
                    None => surfaces.push(n),
                }
            }
        }
        for (&node, value) in nodes.iter().zip(values) {
            for n in normals.get(&node).into_iter().flatten() {
                let n = n.map(|c| c / norm(n));
                match (0..self.components).find(|&c| n[c].abs() > 1.0 - 1e-12) {
                    Some(axis) => self.fix(node, axis, value * n[axis].signum()),
                    None => skew.entry(node).or_default().push(Along { direction: n, value }),
                }
            }
        }
        Ok(())
    }

    /// Gives a node a frame whose first axes span the prescribed directions. Later conditions come first
    /// in the orthogonalisation, so that they win where directions depend on each other; axes prescribed
    /// by component come before all.
    fn turn(&mut self, node: u32, directions: &[Along]) {
        let c = self.components;
        let flags = self.flags[node as usize];
        let mut all: Vec<Along> = Vec::new();
        for component in 0..c {
            if flags & 1 << component != 0 {
                let mut direction = [0.0; 3];
                direction[component] = 1.0;
                all.push(Along { direction, value: self.values[node as usize * c + component] });
            }
        }
        all.extend(directions.iter().rev());
        let mut axes: Vec<Along> = Vec::new();
        for along in &all {
            let (mut direction, mut value) = (along.direction, along.value);
            for axis in &axes {
                let part = dot(&along.direction, &axis.direction);
                (0..3).for_each(|k| direction[k] -= part * axis.direction[k]);
                value -= part * axis.value;
            }
            let length = norm(&direction);
            if length < 1e-6 || axes.len() == c {
                self.differences.push(value.abs());
                continue;
            }
            axes.push(Along { direction: direction.map(|x| x / length), value: value / length });
        }
        let n_fixed = axes.len();
        for unit in 0..c {
            let mut direction = [0.0; 3];
            direction[unit] = 1.0;
            for axis in &axes {
                let part = axis.direction[unit];
                (0..3).for_each(|k| direction[k] -= part * axis.direction[k]);
            }
            if axes.len() < c && norm(&direction) > 0.5 / (c as f64).sqrt() {
                // Orthogonalised twice: what is left of a unit vector may be short.
                let length = norm(&direction);
                axes.push(Along { direction: direction.map(|x| x / length), value: 0.0 });
            }
        }
        let mut frame = [[0.0; 3]; 3];
        for (k, axis) in axes.iter().enumerate() {
            frame[k] = axis.direction;
            self.values[node as usize * c + k] = axis.value;
        }
        self.flags[node as usize] = ((1u16 << n_fixed) - 1) as u8;
        self.frames.insert(node, frame);
    }

    /// Whether a component, in the node's frame, is prescribed.
    #[inline]
    pub fn is_fixed(&self, node: usize, component: usize) -> bool {
        self.flags[node] >> component & 1 != 0
    }

    /// Whether any component is prescribed.
    #[inline]
    pub fn is_any_fixed(&self, node: usize) -> bool {
        self.flags[node] != 0
    }

    /// Whether any of these nodes has a prescribed component; only such nodes have frames of their own.
    #[inline]
    pub(super) fn touches(&self, nodes: &[u32]) -> bool {
        nodes.iter().fold(0, |any, &v| any | self.flags[v as usize]) != 0
    }

    /// Which of a few cells, whose `N` nodes `table` lists, it [touches](Self::touches): a bit each.
    #[inline(always)]
    pub(super) fn touched<const N: usize>(&self, table: &[u32], cells: &[u32]) -> u32 {
        let (table, _) = table.as_chunks::<N>();
        let touches =
            |cell: u32| table[cell as usize].iter().fold(0, |any, &v| any | self.flags[v as usize]) != 0;
        cells.iter().enumerate().fold(0, |all, (k, &cell)| all | u32::from(touches(cell)) << k)
    }

    /// Per local node: not zero where a component is prescribed.
    #[inline]
    pub(super) fn flags(&self) -> &[u8] {
        &self.flags
    }

    /// The directions prescribed at a node, as unit vectors.
    pub fn directions(&self, node: usize) -> impl Iterator<Item = [f64; 3]> + '_ {
        (0..self.components).filter(move |&k| self.is_fixed(node, k)).map(move |k| self.axis(node, k))
    }

    fn axis(&self, node: usize, k: usize) -> [f64; 3] {
        match self.frames.get(&(node as u32)) {
            Some(frame) => frame[k],
            None => {
                let mut axis = [0.0; 3];
                axis[k] = 1.0;
                axis
            }
        }
    }

    /// The component of a Cartesian vector along axis `k` of a node's frame.
    pub fn along(&self, node: usize, k: usize, vector: &[f64; 3]) -> f64 {
        dot(&self.axis(node, k), vector)
    }

    /// A field with the prescribed values, zero elsewhere; Cartesian, all local DOFs.
    pub fn lift(&self) -> Vec<f64> {
        let mut u = vec![0.0; self.values.len()];
        let c = self.components;
        for (node, values) in u.chunks_exact_mut(c).enumerate() {
            if self.is_any_fixed(node) {
                for (k, value) in values.iter_mut().enumerate().filter(|(k, _)| self.is_fixed(node, *k)) {
                    *value = self.values[node * c + k];
                }
            }
        }
        self.to_cartesian(&mut u);
        u
    }

    /// Turns nodal vectors from the nodes' frames into Cartesian components, in place.
    pub fn to_cartesian(&self, u: &mut [f64]) {
        self.each_frame(u, |frame, old, new, c| {
            for a in 0..c {
                new[a] = (0..c).map(|k| frame[k][a] * old[k]).sum();
            }
        });
    }

    /// Turns nodal vectors from Cartesian components into the nodes' frames, in place.
    pub fn to_frames(&self, u: &mut [f64]) {
        self.each_frame(u, |frame, old, new, c| {
            for k in 0..c {
                new[k] = (0..c).map(|a| frame[k][a] * old[a]).sum();
            }
        });
    }

    fn each_frame(&self, u: &mut [f64], turn: impl Fn(&Frame, &[f64; 3], &mut [f64], usize)) {
        let c = self.components;
        for (&node, frame) in &self.frames {
            let Some(values) = u.get_mut(node as usize * c..(node as usize + 1) * c) else { continue };
            let mut old = [0.0; 3];
            old[..c].copy_from_slice(values);
            turn(frame, &old, values, c);
        }
    }

    /// Zeroes the prescribed entries of owned rows, given in the nodes' frames.
    pub fn zero_fixed(&self, u: &mut [f64]) {
        for (node, values) in u.chunks_exact_mut(self.components).enumerate() {
            if self.is_any_fixed(node) {
                let fixed = values.iter_mut().enumerate().filter(|(c, _)| self.is_fixed(node, *c));
                fixed.for_each(|(_, value)| *value = 0.0);
            }
        }
    }

    /// Turns a cell's matrix (`[i][a][b][j]`) and residual (`[i][a]`) into the nodes' frames and
    /// eliminates prescribed rows and columns. Their diagonal entries stay, so that the assembled row has
    /// the size of its neighbours; no other entry does.
    pub(super) fn apply(&self, nodes: &[u32], matrix: Option<&mut [f64]>, residual: &mut [f64]) {
        let c = self.components;
        let n = nodes.len();
        let any = nodes.iter().any(|&v| self.flags[v as usize] != 0);
        let turned = !self.frames.is_empty() && nodes.iter().any(|v| self.frames.contains_key(v));
        if !any && !turned {
            return;
        }
        for (i, v) in nodes.iter().enumerate() {
            if let Some(frame) = self.frames.get(v) {
                let old: [f64; 3] = std::array::from_fn(|a| if a < c { residual[i * c + a] } else { 0.0 });
                for k in 0..c {
                    residual[i * c + k] = (0..c).map(|a| frame[k][a] * old[a]).sum();
                }
            }
            for a in 0..c {
                if self.is_fixed(*v as usize, a) {
                    residual[i * c + a] = 0.0;
                }
            }
        }
        let Some(matrix) = matrix else { return };
        let at = |i: usize, a: usize, b: usize, j: usize| ((i * c + a) * c + b) * n + j;
        if turned {
            for (i, v) in nodes.iter().enumerate() {
                let Some(frame) = self.frames.get(v) else { continue };
                for j in 0..n {
                    for other in 0..c {
                        let rows: [f64; 3] =
                            std::array::from_fn(|a| if a < c { matrix[at(i, a, other, j)] } else { 0.0 });
                        for k in 0..c {
                            matrix[at(i, k, other, j)] = (0..c).map(|a| frame[k][a] * rows[a]).sum();
                        }
                    }
                }
                for j in 0..n {
                    for other in 0..c {
                        let columns: [f64; 3] =
                            std::array::from_fn(|b| if b < c { matrix[at(j, other, b, i)] } else { 0.0 });
                        for k in 0..c {
                            matrix[at(j, other, k, i)] = (0..c).map(|b| frame[k][b] * columns[b]).sum();
                        }
                    }
                }
            }
        }
        for (i, &v) in nodes.iter().enumerate() {
            for a in 0..c {
                if !self.is_fixed(v as usize, a) {
                    continue;
                }
                let diagonal = matrix[at(i, a, a, i)].abs();
                for j in 0..n {
                    for other in 0..c {
                        matrix[at(i, a, other, j)] = 0.0;
                        matrix[at(j, other, a, i)] = 0.0;
                    }
                }
                matrix[at(i, a, a, i)] = diagonal;
            }
        }
    }
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn norm(a: &[f64; 3]) -> f64 {
    dot(a, a).sqrt()
}
