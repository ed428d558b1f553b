//! Cells smaller than a neighbour: how the values at their nodes follow from those on a parent's faces.
//!
//! Imports [`Shape`] and [`Lagrange`]. A quadrilateral or hexahedron that is cut has a child at each of its
//! corners, whose reference axes are the parent's. A face or edge of the child at that corner is a part of the
//! parent's of the same number; where a coarser neighbour has that face or edge whole, it *hangs*. Nothing else
//! of a child can. Start at [`Hang`], which says what hangs, then [`HangingElement`], which interpolates.
//!
//! Source: W. Bangerth, O. Kayser-Herold, Data structures and requirements for hp finite element software,
//! ACM Trans. Math. Softw. 36 (2009).

use std::sync::OnceLock;

use super::{Lagrange, Shape};

/// What of a cell hangs: its place in its parent, and which faces (in the plane, sides) and edges at the
/// corner that it shares with the parent are parts of a coarser neighbour's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(transparent)]
pub struct Hang(u16);

/// Configurations of a hexahedron.
const N_HANGS: usize = 1 << 9;

impl Hang {
    /// Nothing hangs.
    pub const NONE: Hang = Hang(0);

    /// Child `child` of its parent, which is the corner it fills; bit `a` of `facets` is set where the facet at
    /// that corner normal to axis `a` hangs, bit `a` of `edges` where the edge along axis `a` does (of
    /// hexahedra; edges of facets that hang need not be named). Nothing hanging is [`Hang::NONE`].
    pub fn new(child: usize, facets: u8, edges: u8) -> Hang {
        debug_assert!(child < 8 && facets < 8 && edges < 8);
        if facets == 0 && edges == 0 {
            Hang(0)
        } else {
            Hang((child as u16) | u16::from(facets) << 3 | u16::from(edges) << 6)
        }
    }

    /// As a number; below 512.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Of [`Hang::bits`]; `None` where it is not what a cell of that shape can have.
    pub fn from_bits(bits: u16, shape: Shape) -> Option<Hang> {
        let hang = Hang(bits);
        let axes = (1u16 << shape.dim()) - 1;
        let child = hang.child() < shape.n_vertices();
        let facets = u16::from(hang.facets()) & !axes == 0;
        let edges = hang.edges() == 0 || shape.dim() == 3;
        let kind = matches!(shape, Shape::Quadrilateral | Shape::Hexahedron);
        let named = hang.is_some() || bits == 0;
        (bits < N_HANGS as u16 && named && child && facets && edges && (kind || bits == 0)).then_some(hang)
    }

    /// Whether anything hangs.
    #[inline]
    pub fn is_some(self) -> bool {
        self.0 >> 3 != 0
    }

    /// The child's number in its parent.
    #[inline]
    pub fn child(self) -> usize {
        (self.0 & 7) as usize
    }

    /// The facets that hang, by the axis they are normal to.
    pub fn facets(self) -> u8 {
        (self.0 >> 3 & 7) as u8
    }

    /// The edges that hang although, maybe, no facet does, by axis.
    pub fn edges(self) -> u8 {
        (self.0 >> 6 & 7) as u8
    }

    /// The sub-entities of dimension `dim` on what hangs: bit `i` for sub-entity `i`.
    #[inline]
    pub fn entities(self, shape: Shape, dim: usize) -> u16 {
        match tables(shape) {
            Some(table) if dim < shape.dim() => table[self.0 as usize][dim],
            _ => 0,
        }
    }

    /// Whether facet `i` hangs.
    pub fn has_facet(self, shape: Shape, i: usize) -> bool {
        self.is_some() && self.entities(shape, shape.dim() - 1) >> i & 1 != 0
    }
}

/// The facet of a tensor cell at corner `corner`, normal to `axis`.
pub fn facet_at(shape: Shape, corner: usize, axis: usize) -> usize {
    let at = |v: usize| shape.vertices()[v][axis];
    (0..shape.n_facets())
        .find(|&f| shape.facet_vertices(f).iter().all(|&v| at(v as usize) == at(corner)))
        .expect("a tensor cell has a facet on each side of each axis")
}

/// The edge of a tensor cell at corner `corner`, along `axis`.
pub fn edge_at(shape: Shape, corner: usize, axis: usize) -> usize {
    let differs =
        |v: usize| (0..3).all(|d| (shape.vertices()[v][d] != shape.vertices()[corner][d]) == (d == axis));
    (0..shape.n_entities(1))
        .find(|&e| match *shape.entity_vertices(1, e) {
            [p, q] => {
                let (p, q) = (p as usize, q as usize);
                (p == corner && differs(q)) || (q == corner && differs(p))
            }
            _ => false,
        })
        .expect("a tensor cell has an edge along each axis at each corner")
}

type Masks = [[u16; 3]; N_HANGS];

fn tables(shape: Shape) -> Option<&'static Masks> {
    static QUADRILATERAL: OnceLock<Box<Masks>> = OnceLock::new();
    static HEXAHEDRON: OnceLock<Box<Masks>> = OnceLock::new();
    let table = match shape {
        Shape::Quadrilateral => &QUADRILATERAL,
        Shape::Hexahedron => &HEXAHEDRON,
        _ => return None,
    };
    Some(table.get_or_init(|| {
        let mut masks = Box::new([[0; 3]; N_HANGS]);
        for (bits, masks) in masks.iter_mut().enumerate() {
            let Some(hang) = Hang::from_bits(bits as u16, shape) else { continue };
            for (dim, mask) in masks.iter_mut().enumerate().take(shape.dim()) {
                let closed = |outer: (usize, usize)| {
                    (0..shape.n_entities(dim))
                        .filter(move |&i| shape.is_on((dim, i), outer))
                        .fold(0, |m, i| m | 1 << i)
                };
                for a in 0..shape.dim() {
                    if hang.facets() >> a & 1 != 0 {
                        *mask |= closed((shape.dim() - 1, facet_at(shape, hang.child(), a)));
                    }
                    if hang.edges() >> a & 1 != 0 && dim < 2 {
                        *mask |= closed((1, edge_at(shape, hang.child(), a)));
                    }
                }
            }
        }
        masks
    }))
}

/// A row of the interpolation for each node, sparse.
#[derive(Clone, Debug, Default)]
struct Rows {
    begin: Vec<u32>,
    column: Vec<u16>,
    value: Vec<f64>,
}

/// The interpolation of a Lagrange element from the nodes of a parent.
///
/// A hanging cell has a *slot* for each of its nodes. Slots on what hangs stand for the parent's nodes of the
/// same numbers, all others for the cell's own nodes; the values at the cell's own nodes are `u = C u[slots]`.
/// A row of `C` at a node on what hangs holds the parent's shape functions there, which vanish but for those of
/// the same face or edge; other rows are those of the identity.
#[derive(Clone, Debug)]
pub struct HangingElement {
    n_nodes: usize,
    /// By child.
    rows: Vec<Rows>,
    /// By configuration: the nodes whose values are interpolated, which are those whose slots are the
    /// parent's.
    slots: Vec<u128>,
    /// By child: where the parent's nodes lie, in the child's coordinates.
    places: Vec<Vec<[f64; 3]>>,
}

/// Entries of the interpolation below this are zero; the least that is not is 0.02.
const ZERO: f64 = 1e-12;

impl HangingElement {
    /// For cells of the element's shape; `None` where these are not cut into children that hang.
    pub fn new(element: &Lagrange) -> Option<HangingElement> {
        let shape = element.shape();
        tables(shape)?;
        let (n, dim) = (element.n_nodes(), shape.dim());
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        for corner in shape.vertices() {
            let half = |x: &[f64; 3]| {
                let mut y = [0.0; 3];
                (0..dim).for_each(|d| y[d] = 0.5 * (x[d] + corner[d]));
                y
            };
            let at: Vec<[f64; 3]> = element.nodes().iter().map(half).collect();
            let table = element.tabulate(&at, 0);
            let mut made = Rows { begin: vec![0], ..Rows::default() };
            for (k, x) in element.nodes().iter().enumerate() {
                let on_parent = (0..dim).any(|d| (x[d] - corner[d]).abs() < 1e-9);
                if on_parent {
                    for (j, &value) in table.values_at(k).iter().enumerate() {
                        if value.abs() > ZERO {
                            made.column.push(j as u16);
                            made.value.push(value);
                        }
                    }
                }
                made.begin.push(made.column.len() as u32);
            }
            rows.push(made);
            let twice = |x: &[f64; 3]| {
                let mut y = [0.0; 3];
                (0..dim).for_each(|d| y[d] = 2.0 * x[d] - corner[d]);
                y
            };
            places.push(element.nodes().iter().map(twice).collect());
        }
        let slots = (0..N_HANGS as u16)
            .map(|bits| {
                let Some(hang) = Hang::from_bits(bits, shape).filter(|h| h.is_some()) else { return 0 };
                let mut mask = 0u128;
                for d in 0..dim {
                    let on = hang.entities(shape, d);
                    for i in (0..shape.n_entities(d)).filter(|i| on >> i & 1 != 0) {
                        element.entity_nodes(d, i).iter().for_each(|&k| mask |= 1 << k);
                    }
                }
                // The corner itself is the parent's too.
                mask & !(1u128 << element.entity_nodes(0, hang.child())[0])
            })
            .collect();
        Some(HangingElement { n_nodes: n, rows, slots, places })
    }

    /// The interpolation of a cell on which `hang` hangs.
    #[inline]
    pub fn of(&self, hang: Hang) -> Interpolation<'_> {
        Interpolation {
            n_nodes: self.n_nodes,
            rows: &self.rows[hang.child()],
            slots: self.slots[hang.bits() as usize],
            places: &self.places[hang.child()],
        }
    }
}

/// The interpolation of one cell: see [`HangingElement`].
#[derive(Clone, Copy, Debug)]
pub struct Interpolation<'a> {
    n_nodes: usize,
    rows: &'a Rows,
    slots: u128,
    places: &'a [[f64; 3]],
}

impl<'a> Interpolation<'a> {
    /// Whether slot `k` stands for the parent's node, and the value at node `k` is interpolated.
    #[inline]
    pub fn is_parents(&self, k: usize) -> bool {
        self.slots >> k & 1 != 0
    }

    /// Those slots, ascending.
    pub fn parents(&self) -> impl Iterator<Item = usize> + use<> {
        let mut rest = self.slots;
        std::iter::from_fn(move || {
            let k = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (k < 128).then_some(k)
        })
    }

    /// Where the parent's node `k` lies in the cell's reference coordinates: outside of the cell for most.
    pub fn place(&self, k: usize) -> [f64; 3] {
        self.places[k]
    }

    /// [`Interpolation::place`] of all nodes: the same for all cells that are the same child.
    pub fn places(&self) -> &'a [[f64; 3]] {
        self.places
    }

    /// Node `k`'s row: slots and factors.
    pub fn row(&self, k: usize) -> impl Iterator<Item = (usize, f64)> + use<'a> {
        let range = self.rows.begin[k] as usize..self.rows.begin[k + 1] as usize;
        self.rows.column[range.clone()]
            .iter()
            .map(|&j| j as usize)
            .zip(self.rows.value[range].iter().copied())
    }

    /// From values at slots to values at the cell's own nodes, in place: `u = C u`. `width` values a node,
    /// `[node][value]`.
    pub fn gather(&self, values: &mut [f64], width: usize, scratch: &mut Vec<f64>) {
        debug_assert_eq!(values.len(), self.n_nodes * width);
        scratch.clear();
        scratch.extend_from_slice(values);
        for k in self.parents() {
            let out = &mut values[k * width..][..width];
            out.fill(0.0);
            for (j, factor) in self.row(k) {
                let from = &scratch[j * width..][..width];
                out.iter_mut().zip(from).for_each(|(out, from)| *out += factor * from);
            }
        }
    }

    /// From forces at the cell's own nodes to forces at slots, in place: `r = C^T r`.
    pub fn scatter(&self, values: &mut [f64], width: usize, scratch: &mut Vec<f64>) {
        debug_assert_eq!(values.len(), self.n_nodes * width);
        scratch.clear();
        scratch.extend_from_slice(values);
        self.parents().for_each(|k| values[k * width..][..width].fill(0.0));
        for k in self.parents() {
            let from = &scratch[k * width..][..width];
            for (j, factor) in self.row(k) {
                let out = &mut values[j * width..][..width];
                out.iter_mut().zip(from).for_each(|(out, from)| *out += factor * from);
            }
        }
    }

    /// A cell's matrix, `[i][a][b][j]` with `components` at a node, from its own nodes to its slots, in place:
    /// `K = C^T K C`.
    pub fn transform(&self, matrix: &mut [f64], components: usize, scratch: &mut Vec<f64>) {
        let n = self.n_nodes;
        self.scatter(matrix, components * components * n, scratch);
        // The same from the right, with what hangs listed once for all rows.
        let mut held = [(0u8, 0.0); 128];
        let mut n_held = 0;
        for k in self.parents() {
            held[n_held].0 = k as u8;
            n_held += 1;
        }
        let held = &mut held[..n_held];
        for row in matrix.chunks_exact_mut(n) {
            for (k, value) in held.iter_mut() {
                *value = std::mem::take(&mut row[*k as usize]);
            }
            for &(k, value) in held.iter() {
                for (j, factor) in self.row(k as usize) {
                    row[j] += factor * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Nodes;

    fn all(shape: Shape) -> impl Iterator<Item = Hang> {
        (0..N_HANGS as u16).filter_map(move |bits| Hang::from_bits(bits, shape)).filter(|h| h.is_some())
    }

    #[test]
    fn configurations_are_those_of_the_corner() {
        assert_eq!(all(Shape::Quadrilateral).count(), 4 * 3);
        assert_eq!(all(Shape::Hexahedron).count(), 8 * 63);
        for shape in [Shape::Quadrilateral, Shape::Hexahedron] {
            for hang in all(shape) {
                for i in 0..shape.n_facets() {
                    let listed = hang.entities(shape, shape.dim() - 1) >> i & 1 != 0;
                    // In the plane facets are edges; nothing else puts one on the list.
                    assert_eq!(listed, hang.has_facet(shape, i));
                    let at_corner = shape.facet_vertices(i).contains(&(hang.child() as u8));
                    assert!(at_corner || !listed);
                }
            }
        }
        for shape in [Shape::Interval, Shape::Triangle, Shape::Tetrahedron] {
            assert_eq!(all(shape).count(), 0);
        }
        // The edge along x at corner 0 of a hexahedron: edge 0, its two vertices, no face.
        let hang = Hang::new(0, 0, 1);
        let of = |dim| hang.entities(Shape::Hexahedron, dim);
        assert_eq!([of(0), of(1), of(2)], [0b11, 1, 0]);
    }

    /// Interpolation of the parent's polynomial gives that polynomial at the child's own nodes, whatever
    /// hangs; the transpose gives the same work.
    #[test]
    fn polynomials_of_the_parent_are_kept() {
        for shape in [Shape::Quadrilateral, Shape::Hexahedron] {
            for degree in 1..=4 {
                let element = Lagrange::new(shape, degree, Nodes::Spectral).unwrap();
                let hanging = HangingElement::new(&element).unwrap();
                let n = element.n_nodes();
                let f = |x: &[f64; 3]| {
                    (0..shape.dim())
                        .map(|d| (x[d] + 0.3 * d as f64 + 0.2).powi(degree as i32))
                        .product::<f64>()
                };
                let mut scratch = Vec::new();
                for hang in all(shape) {
                    let c = hanging.of(hang);
                    let slots: Vec<f64> = (0..n)
                        .map(|k| f(&if c.is_parents(k) { c.place(k) } else { element.nodes()[k] }))
                        .collect();
                    let mut u = slots.clone();
                    c.gather(&mut u, 1, &mut scratch);
                    for (u, x) in u.iter().zip(element.nodes()) {
                        assert!(
                            (u - f(x)).abs() < 1e-11 * f(x).abs().max(1.0),
                            "{shape} {degree} {hang:?}: {u} {}",
                            f(x)
                        );
                    }
                    let force: Vec<f64> = (0..n).map(|k| (k as f64 * 1.7).sin()).collect();
                    let mut turned = force.clone();
                    c.scatter(&mut turned, 1, &mut scratch);
                    let work = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    assert!((work(&u, &force) - work(&slots, &turned)).abs() < 1e-9);
                    // Interpolated nodes are those on what hangs.
                    let on = (0..n).filter(|&k| c.is_parents(k)).count();
                    assert!(on > 0 && c.parents().count() == on);
                }
            }
        }
    }

    #[test]
    fn a_matrix_is_transformed_on_both_sides() {
        let element = Lagrange::new(Shape::Quadrilateral, 2, Nodes::Spectral).unwrap();
        let hanging = HangingElement::new(&element).unwrap();
        let c = hanging.of(Hang::new(2, 0b01, 0));
        let (n, m) = (element.n_nodes(), 2);
        // u^T K v with arbitrary numbers, before and after.
        let number = |k: usize| ((k * 7919 % 1013) as f64 / 1013.0) - 0.5;
        let mut k: Vec<f64> = (0..n * n * m * m).map(number).collect();
        let [u, v] = [3, 11].map(|s| (0..n * m).map(|k| number(k * s + s)).collect::<Vec<f64>>());
        let form = |k: &[f64], u: &[f64], v: &[f64]| {
            let mut sum = 0.0;
            for i in 0..n {
                for a in 0..m {
                    for b in 0..m {
                        for j in 0..n {
                            sum += u[i * m + a] * k[((i * m + a) * m + b) * n + j] * v[j * m + b];
                        }
                    }
                }
            }
            sum
        };
        let mut scratch = Vec::new();
        let [mut cu, mut cv] = [u.clone(), v.clone()];
        c.gather(&mut cu, m, &mut scratch);
        c.gather(&mut cv, m, &mut scratch);
        let expected = form(&k, &cu, &cv);
        c.transform(&mut k, m, &mut scratch);
        assert!((form(&k, &u, &v) - expected).abs() < 1e-12);
    }
}
