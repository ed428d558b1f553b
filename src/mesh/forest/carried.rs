//! What follows leaves through adaptation and migration.
//!
//! Imports `element`. Start at [`Carried`]. Values are those of cells as the mesh has them: in the order of the
//! owned cells, and of the element's nodes in each.

use std::collections::HashMap;

use super::simplex::{self, MIDDLE, corner_of};
use super::store::{Head, NONE};
use crate::element::{Lagrange, Nodes, Shape};

/// How the value of a parent comes from those of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Their sum: for shares of a whole.
    Sum,
    /// Their mean: for densities.
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nodal { degree: usize },
    Cell(Merge),
}

#[derive(Debug, Clone)]
struct Field {
    kind: Kind,
    n_components: usize,
    values: Vec<f64>,
}

/// Values that belong to cells and go where these go. Any number of fields, each of nodal values of a Lagrange
/// degree or of values per cell.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    fields: Vec<Field>,
}

impl Carried {
    /// Nothing yet.
    pub fn new() -> Carried {
        Carried::default()
    }

    /// Adds the values of a discontinuous function of a Lagrange degree at each owned cell's own nodes; its
    /// number. A child gets its parent's polynomial, a parent at each of its nodes the value of the child there.
    ///
    /// # Shapes
    /// `n_owned_cells * n_nodes * n_components`, components fastest, nodes in the order of
    /// [`Lagrange::new`]`(shape, degree, Nodes::Spectral)`.
    pub fn add_nodal(&mut self, degree: usize, n_components: usize, values: Vec<f64>) -> usize {
        self.fields.push(Field { kind: Kind::Nodal { degree }, n_components, values });
        self.fields.len() - 1
    }

    /// Adds values per owned cell, which children inherit; its number.
    ///
    /// # Shapes
    /// `n_owned_cells * n_components`.
    pub fn add_cell(&mut self, n_components: usize, merge: Merge, values: Vec<f64>) -> usize {
        self.fields.push(Field { kind: Kind::Cell(merge), n_components, values });
        self.fields.len() - 1
    }

    /// The values of a field.
    ///
    /// # Panics
    /// If there is no such field.
    pub fn values(&self, field: usize) -> &[f64] {
        &self.fields[field].values
    }

    /// The values of a field, to keep; none are left here.
    ///
    /// # Panics
    /// If there is no such field.
    pub fn take(&mut self, field: usize) -> Vec<f64> {
        std::mem::take(&mut self.fields[field].values)
    }

    /// Takes away the field that was added last; its values.
    ///
    /// # Panics
    /// If there is none.
    pub fn pop(&mut self) -> Vec<f64> {
        self.fields.pop().expect("a field was added").values
    }

    fn width(&self, field: &Field, shape: Shape) -> usize {
        match field.kind {
            Kind::Nodal { degree } => n_nodes(shape, degree) * field.n_components,
            Kind::Cell(_) => field.n_components,
        }
    }

    /// What does not fit `n` leaves of a shape.
    pub(super) fn check(&self, shape: Shape, n: usize) -> Result<(), String> {
        for (k, field) in self.fields.iter().enumerate() {
            if let Kind::Nodal { degree } = field.kind {
                Lagrange::new(shape, degree, Nodes::Spectral)
                    .map_err(|e| format!("carried field {k}: {e}"))?;
            }
            let expected = n * self.width(field, shape);
            if field.values.len() != expected {
                let found = field.values.len();
                return Err(format!(
                    "carried field {k} has {found} values, {expected} expected of {n} cells"
                ));
            }
        }
        Ok(())
    }

    /// Values of a leaf, all fields together.
    pub(super) fn n_values(&self, shape: Shape) -> usize {
        self.fields.iter().map(|f| self.width(f, shape)).sum()
    }

    /// Appends the values of a leaf, field after field.
    pub(super) fn write(&self, shape: Shape, leaf: usize, out: &mut Vec<u64>) {
        for field in &self.fields {
            let width = self.width(field, shape);
            out.extend(field.values[leaf * width..][..width].iter().map(|x| x.to_bits()));
        }
    }

    /// New order: leaf k is `from[k]` of those here, or the one of that number less the count of those here of
    /// `arrived`, whose values stand as [`Carried::write`] wrote them.
    pub(super) fn reorder(&mut self, shape: Shape, n: usize, from: &[u32], arrived: &[u64]) {
        let total = self.n_values(shape);
        let mut begin = 0;
        for k in 0..self.fields.len() {
            let width = self.width(&self.fields[k], shape);
            let field = &mut self.fields[k];
            let mut values = Vec::with_capacity(from.len() * width);
            for &leaf in from {
                match (leaf as usize).checked_sub(n) {
                    None => values.extend_from_slice(&field.values[leaf as usize * width..][..width]),
                    Some(other) => {
                        let words = &arrived[other * total + begin..][..width];
                        values.extend(words.iter().map(|&w| f64::from_bits(w)));
                    }
                }
            }
            field.values = values;
            begin += width;
        }
    }

    /// Gives the leaves of trees the values of their origins: `heads[..n]` are the old leaves, `first_child`
    /// the number of the first of two children.
    pub(super) fn refine(
        &mut self,
        shape: Shape,
        heads: &[Head],
        first_child: &[u32],
        n: usize,
        n_new: usize,
    ) {
        let mut matrices = Matrices::default();
        for k in 0..self.fields.len() {
            let width = self.width(&self.fields[k], shape);
            let Field { kind, n_components, values } = &mut self.fields[k];
            let mut out = Vec::with_capacity(n_new * width);
            // Leaves under way, deepest last, and their values.
            let (mut stack, mut pending): (Vec<u32>, Vec<f64>) = (Vec::new(), Vec::new());
            for leaf in 0..n {
                if first_child[leaf] == NONE {
                    out.extend_from_slice(&values[leaf * width..][..width]);
                    continue;
                }
                stack.push(leaf as u32);
                pending.extend_from_slice(&values[leaf * width..][..width]);
                while let Some(leaf) = stack.pop() {
                    let begin = pending.len() - width;
                    let first = first_child[leaf as usize];
                    if first == NONE {
                        out.extend_from_slice(&pending[begin..]);
                        pending.truncate(begin);
                        continue;
                    }
                    stack.extend([first + 1, first]);
                    match *kind {
                        Kind::Cell(_) => pending.extend_from_within(begin..),
                        Kind::Nodal { degree } => {
                            let head = &heads[leaf as usize];
                            pending.resize(begin + 3 * width, 0.0);
                            let (of_parent, of_children) = pending[begin..].split_at_mut(width);
                            // The second child first: it is taken last.
                            for (which, to) in [1, 0].into_iter().zip(of_children.chunks_exact_mut(width)) {
                                let matrix = matrices.refining(shape, degree, head.state, head.order, which);
                                multiply(matrix, of_parent, *n_components, to);
                            }
                            pending.copy_within(begin + width.., begin);
                            pending.truncate(begin + 2 * width);
                        }
                    }
                }
            }
            *values = out;
        }
    }

    /// Gives merged leaves their values: `from[k]` is the old leaf that new leaf k was, or the first of the two
    /// children that it had if `parents[k]` tells its state and order byte.
    pub(super) fn coarsen(&mut self, shape: Shape, from: &[u32], parents: &[Option<(u8, u8)>]) {
        let mut matrices = Matrices::default();
        for k in 0..self.fields.len() {
            let width = self.width(&self.fields[k], shape);
            let Field { kind, n_components, values } = &mut self.fields[k];
            let mut out = Vec::with_capacity(from.len() * width);
            for (&leaf, parent) in from.iter().zip(parents) {
                let first = &values[leaf as usize * width..];
                let Some((state, order)) = *parent else {
                    out.extend_from_slice(&first[..width]);
                    continue;
                };
                match *kind {
                    Kind::Cell(merge) => {
                        let factor = if merge == Merge::Mean { 0.5 } else { 1.0 };
                        out.extend((0..width).map(|i| (first[i] + first[width + i]) * factor));
                    }
                    Kind::Nodal { degree } => {
                        let matrix = matrices.coarsening(shape, degree, state, order);
                        let begin = out.len();
                        out.resize(begin + width, 0.0);
                        multiply(matrix, &first[..2 * width], *n_components, &mut out[begin..]);
                    }
                }
            }
            *values = out;
        }
    }
}

/// Between quadrilaterals or hexahedra and the child at each of their corners.
impl Carried {
    /// Gives the children of leaves that are cut their values, in place of their parents'.
    pub(super) fn refine_tensor(&mut self, shape: Shape, cut: &[bool]) {
        let n_children = shape.n_vertices();
        for k in 0..self.fields.len() {
            let width = self.width(&self.fields[k], shape);
            let Field { kind, n_components, values } = &mut self.fields[k];
            let matrices: Vec<Vec<f64>> = match *kind {
                Kind::Nodal { degree } => {
                    (0..n_children).map(|c| tensor_refining(shape, degree, c)).collect()
                }
                Kind::Cell(_) => Vec::new(),
            };
            let n_cut = cut.iter().filter(|c| **c).count();
            let mut out = Vec::with_capacity((cut.len() + n_cut * (n_children - 1)) * width);
            for (&cut, of_leaf) in cut.iter().zip(values.chunks_exact(width.max(1))) {
                if !cut {
                    out.extend_from_slice(of_leaf);
                    continue;
                }
                for c in 0..n_children {
                    let begin = out.len();
                    out.extend_from_slice(of_leaf);
                    if let Some(matrix) = matrices.get(c) {
                        multiply(matrix, of_leaf, *n_components, &mut out[begin..]);
                    }
                }
            }
            *values = out;
        }
    }

    /// Gives merged leaves their values: new leaf k comes from old leaf `from[k]`, or from that and the siblings
    /// behind it if `merged[k]`.
    pub(super) fn coarsen_tensor(&mut self, shape: Shape, from: &[u32], merged: &[bool]) {
        let n_children = shape.n_vertices();
        for k in 0..self.fields.len() {
            let width = self.width(&self.fields[k], shape);
            let Field { kind, n_components, values } = &mut self.fields[k];
            let matrix = match *kind {
                Kind::Nodal { degree } => tensor_coarsening(shape, degree),
                Kind::Cell(_) => Vec::new(),
            };
            let mut out = Vec::with_capacity(from.len() * width);
            for (&leaf, &merged) in from.iter().zip(merged) {
                let first = &values[leaf as usize * width..];
                if !merged {
                    out.extend_from_slice(&first[..width]);
                    continue;
                }
                let begin = out.len();
                out.resize(begin + width, 0.0);
                let to = &mut out[begin..];
                let all = &first[..n_children * width];
                match *kind {
                    Kind::Cell(merge) => {
                        for of_child in all.chunks_exact(width.max(1)) {
                            to.iter_mut().zip(of_child).for_each(|(to, from)| *to += from);
                        }
                        if merge == Merge::Mean {
                            to.iter_mut().for_each(|to| *to /= n_children as f64);
                        }
                    }
                    Kind::Nodal { .. } => multiply(&matrix, all, *n_components, to),
                }
            }
            *values = out;
        }
    }
}

/// From a parent's nodes to those of the child at a corner.
fn tensor_refining(shape: Shape, degree: usize, child: usize) -> Vec<f64> {
    let element = Lagrange::new(shape, degree, Nodes::Spectral).expect("the degree was checked");
    let corner = shape.vertices()[child];
    let half = |x: &[f64; 3]| std::array::from_fn(|d| 0.5 * (x[d] + corner[d]));
    let points: Vec<[f64; 3]> = element.nodes().iter().map(half).collect();
    let mut values = element.tabulate(&points, 0).values;
    clean(&mut values);
    values
}

/// From the nodes of all children, one child after the other, to their parent's.
fn tensor_coarsening(shape: Shape, degree: usize) -> Vec<f64> {
    let element = Lagrange::new(shape, degree, Nodes::Spectral).expect("the degree was checked");
    let n = element.n_nodes();
    let n_children = shape.n_vertices();
    let mut matrix = vec![0.0; n * n * n_children];
    for (node, row) in element.nodes().iter().zip(matrix.chunks_exact_mut(n * n_children)) {
        let corner: [f64; 3] = std::array::from_fn(|d| f64::from(u8::from(node[d] > 0.5 + 1e-9)));
        let child = shape.vertices().iter().position(|v| *v == corner).expect("a corner");
        let x = std::array::from_fn(|d| 2.0 * node[d] - corner[d]);
        row[child * n..][..n].copy_from_slice(&element.tabulate(&[x], 0).values);
    }
    clean(&mut matrix);
    matrix
}

/// The number of nodes of an element.
fn n_nodes(shape: Shape, degree: usize) -> usize {
    match shape {
        Shape::Point => 1,
        Shape::Interval => degree + 1,
        Shape::Triangle => (degree + 1) * (degree + 2) / 2,
        Shape::Tetrahedron => (degree + 1) * (degree + 2) * (degree + 3) / 6,
        Shape::Quadrilateral => (degree + 1).pow(2),
        Shape::Hexahedron => (degree + 1).pow(3),
    }
}

/// `to[i][c] = sum over j of matrix[i][j] from[j][c]`.
fn multiply(matrix: &[f64], from: &[f64], n_components: usize, to: &mut [f64]) {
    let n = from.len() / n_components;
    for (row, to) in matrix.chunks_exact(n).zip(to.chunks_exact_mut(n_components)) {
        to.fill(0.0);
        for (&w, from) in row.iter().zip(from.chunks_exact(n_components)) {
            if w != 0.0 {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += w * f);
            }
        }
    }
}

/// Matrices between parents and children, made when first needed: a few dozen small ones.
#[derive(Default)]
struct Matrices {
    elements: HashMap<usize, Lagrange>,
    made: HashMap<(usize, u8, u8, u8), Vec<f64>>,
}

/// Rounds weights that are 0 or 1 but for round-off, so that values at common nodes are copied.
fn clean(weights: &mut [f64]) {
    for w in weights {
        let near = w.round();
        if (*w - near).abs() < 1e-13 {
            *w = near;
        }
    }
}

/// The corners of a child, in the order of the mesh's cell, in the reference cell of its parent.
fn child_vertices(shape: Shape, state: u8, order: u8, which: usize) -> Vec<[f64; 3]> {
    let n = shape.n_vertices();
    let mut at = [[0.0; 3]; 5];
    (0..n).for_each(|i| at[corner_of(order, i)] = shape.vertices()[i]);
    at[MIDDLE as usize] = std::array::from_fn(|d| 0.5 * (at[0][d] + at[1][d]));
    let child = simplex::child(shape, state, order, which);
    (0..n).map(|i| at[child.corners[corner_of(child.order, i)] as usize]).collect()
}

/// The weights of a simplex's vertices at a reference point.
fn barycentric(shape: Shape, x: &[f64; 3]) -> [f64; 4] {
    let dim = shape.dim();
    let mut weights = [0.0; 4];
    weights[1..=dim].copy_from_slice(&x[..dim]);
    weights[0] = 1.0 - x[..dim].iter().sum::<f64>();
    weights
}

impl Matrices {
    fn element(&mut self, shape: Shape, degree: usize) -> Lagrange {
        let new = || Lagrange::new(shape, degree, Nodes::Spectral).expect("the degree was checked");
        self.elements.entry(degree).or_insert_with(new).clone()
    }

    /// From a parent's nodes to those of a child.
    fn refining(&mut self, shape: Shape, degree: usize, state: u8, order: u8, which: usize) -> &[f64] {
        let key = (degree, state, order, which as u8);
        if !self.made.contains_key(&key) {
            let element = self.element(shape, degree);
            let vertices = child_vertices(shape, state, order, which);
            let image = |x: &[f64; 3]| {
                let weights = barycentric(shape, x);
                std::array::from_fn(|d| vertices.iter().zip(weights).map(|(v, w)| w * v[d]).sum())
            };
            let points: Vec<[f64; 3]> = element.nodes().iter().map(image).collect();
            let mut values = element.tabulate(&points, 0).values;
            clean(&mut values);
            self.made.insert(key, values);
        }
        &self.made[&key]
    }

    /// From the nodes of both children, those of the first before those of the second, to their parent's.
    fn coarsening(&mut self, shape: Shape, degree: usize, state: u8, order: u8) -> &[f64] {
        let key = (degree, state, order, 2);
        if !self.made.contains_key(&key) {
            let element = self.element(shape, degree);
            let n = element.n_nodes();
            let mut matrix = vec![0.0; 2 * n * n];
            for (node, row) in element.nodes().iter().zip(matrix.chunks_exact_mut(2 * n)) {
                // Weights of the parent's corners, then of the corners of the child in which the node lies.
                let of_vertices = barycentric(shape, node);
                let mut weights = [0.0; 5];
                (0..shape.n_vertices()).for_each(|i| weights[corner_of(order, i)] = of_vertices[i]);
                let which = usize::from(weights[1] > weights[0] + 1e-12);
                let other = weights[1 - which].max(0.0);
                weights[MIDDLE as usize] = 2.0 * other;
                weights[which] -= other;
                weights[1 - which] = 0.0;
                let child = simplex::child(shape, state, order, which);
                let mut x = [0.0; 3];
                for i in 0..shape.n_vertices() {
                    let w = weights[child.corners[corner_of(child.order, i)] as usize];
                    (0..3).for_each(|d| x[d] += w * shape.vertices()[i][d]);
                }
                row[which * n..][..n].copy_from_slice(&element.tabulate(&[x], 0).values);
            }
            clean(&mut matrix);
            self.made.insert(key, matrix);
        }
        &self.made[&key]
    }
}
