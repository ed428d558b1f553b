//! The cut rule of simplices: which edge is cut, how the two children are ordered and marked, and how the parent
//! is found again.
//!
//! Imports `element`. Start at [`child`]. A leaf lists its corners so that its cut edge joins the first two, and
//! (below its root) its newest vertex comes last. Intervals are halved and triangles cut from their newest vertex.
//! A tetrahedron has a marked edge on each face: the cut edge on the two that have it, and one more on each of the
//! two others, which two numbers of its state tell: of face (c, 2, 3), for c = 0 and c = 1, edge (c, 2), (c, 3) or
//! (2, 3).
//!
//! Source: D. Arnold, A. Mukherjee, L. Pouly, Locally adapted tetrahedral meshes using bisection, SIAM J. Sci.
//! Comput. 22 (2000), 431-448.

use crate::element::Shape;

/// The corner that a cut makes, where children refer to their parent's corners.
pub(super) const MIDDLE: u8 = 4;

/// Corners as the mesh's cell has them.
pub(super) const SAME: u8 = 0b11_10_01_00;
/// The first two swapped.
const SWAPPED: u8 = 0b11_10_00_01;

/// Vertex i of the mesh's cell: a corner of the leaf.
#[inline]
pub(super) fn corner_of(order: u8, i: usize) -> usize {
    (order >> (2 * i) & 3) as usize
}

/// The order byte of a permutation.
fn pack(order: [u8; 4]) -> u8 {
    order.iter().enumerate().fold(0, |bits, (i, &c)| bits | c << (2 * i))
}

/// Whether a list of distinct numbers is an odd permutation of the ascending one.
fn is_odd(list: &[u8]) -> bool {
    let inversions = (0..list.len()).map(|k| list[..k].iter().filter(|&&x| x > list[k]).count());
    inversions.sum::<usize>() % 2 == 1
}

fn order_is_odd(shape: Shape, order: u8) -> bool {
    let order: [u8; 4] = std::array::from_fn(|i| corner_of(order, i) as u8);
    is_odd(&order[..shape.n_vertices()])
}

/// A tetrahedron's state: the marked edges of faces (0, 2, 3) and (1, 2, 3), and the flag of those whose three
/// marked edges lie in one plane.
fn state(marks: [u8; 2], flag: bool) -> u8 {
    marks[0] | marks[1] << 2 | u8::from(flag) << 4
}

fn mark(state: u8, face: usize) -> u8 {
    state >> (2 * face) & 3
}

/// Cut edge and marked edges in one plane, no flag; the same with the flag; marked edges adjacent to the cut edge
/// but not in one plane: all that the children of any tetrahedron are.
const PLANAR: u8 = 0;
const FLAGGED: u8 = 1 << 4;
const ADJACENT: u8 = 1 << 2;

fn is_planar(state: u8) -> bool {
    mark(state, 0) == mark(state, 1) && mark(state, 0) != 2
}

/// The state of both children.
fn next_state(of: u8) -> u8 {
    match (is_planar(of), of & FLAGGED != 0) {
        (true, true) => ADJACENT,
        (true, false) => FLAGGED,
        _ => PLANAR,
    }
}

/// A child in terms of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    /// Its corners: corners of the parent, or [`MIDDLE`].
    pub corners: [u8; 4],
    /// Its state.
    pub state: u8,
    /// Its order byte.
    pub order: u8,
}

/// Child 0 (with corner 0) or 1 (with corner 1) of a parent of that state and order byte.
#[inline]
pub(super) fn child(shape: Shape, of: u8, order: u8, which: usize) -> Child {
    let own = which as u8;
    let (corners, n) = match shape {
        Shape::Interval => ([own, MIDDLE, 0, 0], 2),
        Shape::Triangle => ([own, 2, MIDDLE, 0], 3),
        _ => match mark(of, which) {
            0 => ([own, 2, 3, MIDDLE], 4),
            1 => ([own, 3, 2, MIDDLE], 4),
            _ => ([2, 3, own, MIDDLE], 4),
        },
    };
    // The middle takes the place of the other end.
    let placed = corners.map(|c| if c == MIDDLE { 1 - own } else { c });
    let odd = is_odd(&placed[..n]) != order_is_odd(shape, order);
    let state = if shape == Shape::Tetrahedron { next_state(of) } else { 0 };
    Child { corners, state, order: if odd { SWAPPED } else { SAME } }
}

/// The state of a leaf at a level, by that of its root.
pub(super) fn state_at(shape: Shape, root: u8, level: u8) -> u8 {
    if shape != Shape::Tetrahedron || level == 0 {
        return root;
    }
    let turn = usize::from(level - 1) + usize::from(is_planar(root));
    [PLANAR, FLAGGED, ADJACENT][turn % 3]
}

/// The order byte of a parent below its root, by that of child 0.
pub(super) fn parent_order(shape: Shape, state: u8, first_child: u8) -> u8 {
    if child(shape, state, SAME, 0).order == first_child { SAME } else { SWAPPED }
}

/// The state and the order byte of a root, by a strict order of its edges: `longer(e, f)` of edges of the shape.
pub(super) fn root(shape: Shape, longer: impl Fn(usize, usize) -> bool) -> (u8, u8) {
    let longest = |edges: &mut dyn Iterator<Item = usize>| {
        edges.reduce(|best, e| if longer(e, best) { e } else { best }).expect("some edges")
    };
    let cut = longest(&mut (0..shape.n_entities(1)));
    let ends = shape.entity_vertices(1, cut);
    let (a, b) = (ends[0], ends[1]);
    // The mesh's vertices in the order of the corners.
    let mut list = [a, b, 2, 3];
    let (low, high) = (a.min(b), a.max(b));
    if shape != Shape::Triangle {
        (list[0], list[1]) = (low, high);
    }
    for (slot, v) in list[2..].iter_mut().zip((0..shape.n_vertices() as u8).filter(|&v| v != a && v != b)) {
        *slot = v;
    }
    let mut order = [0, 1, 2, 3];
    for (corner, &v) in list.iter().enumerate() {
        order[v as usize] = corner as u8;
    }
    if shape != Shape::Tetrahedron {
        return (0, pack(order));
    }
    let marks = [0, 1].map(|face| {
        let pairs = [[list[face], list[2]], [list[face], list[3]], [list[2], list[3]]];
        let edge = |pair: &[u8; 2]| {
            let has = |e: &usize| pair.iter().all(|v| shape.entity_vertices(1, *e).contains(v));
            (0..6).find(has).expect("two vertices of a tetrahedron have an edge")
        };
        let edges = pairs.each_ref().map(edge);
        let marked = longest(&mut edges.into_iter());
        edges.iter().position(|&e| e == marked).expect("one of the three") as u8
    });
    (state(marks, false), pack(order))
}

/// The edge of two corners, by its number in the shape.
pub(super) const EDGE: [[u8; 4]; 4] = [[9, 0, 2, 3], [0, 9, 1, 4], [2, 1, 9, 5], [3, 4, 5, 9]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_numbered_as_the_shapes_do() {
        for shape in [Shape::Interval, Shape::Triangle, Shape::Tetrahedron] {
            for e in 0..shape.n_entities(1) {
                let [a, b] = [0, 1].map(|k| shape.entity_vertices(1, e)[k] as usize);
                assert_eq!((EDGE[a][b], EDGE[b][a]), (e as u8, e as u8));
            }
        }
    }

    #[test]
    fn states_by_level_are_those_that_cutting_gives() {
        for marks in [[0, 0], [1, 1], [2, 2], [0, 1], [1, 0], [2, 0], [0, 2], [1, 2], [2, 1]] {
            let root = state(marks, false);
            let mut now = root;
            for level in 0..20 {
                assert_eq!(now, state_at(Shape::Tetrahedron, root, level), "{marks:?} at {level}");
                now = child(Shape::Tetrahedron, now, SAME, level as usize % 2).state;
            }
        }
    }

    #[test]
    fn children_of_the_two_sides_agree_on_the_face_between_them() {
        // The new face (middle, 2, 3) has one marked edge, whichever child looks at it.
        for of in 0..32u8 {
            if mark(of, 0) == 3 || mark(of, 1) == 3 || (of & FLAGGED != 0 && !is_planar(of)) {
                continue;
            }
            let marked = [0, 1].map(|which| {
                let Child { corners, state, .. } = child(Shape::Tetrahedron, of, SAME, which);
                let own = corners.iter().position(|&c| c == which as u8).expect("its own end");
                // The face is opposite the own end; its marked edge is the cut edge or one of the two others.
                let pair = match own {
                    2 | 3 => [0, 1],
                    _ => {
                        let face = 1 - own;
                        [[face, 2], [face, 3], [2, 3]][mark(state, face) as usize]
                    }
                };
                let mut pair = pair.map(|c| corners[c]);
                pair.sort_unstable();
                pair
            });
            assert_eq!(marked[0], marked[1], "state {of}");
        }
    }

    #[test]
    fn children_are_oriented_as_their_parents() {
        for shape in [Shape::Interval, Shape::Triangle, Shape::Tetrahedron] {
            for state in [PLANAR, FLAGGED, ADJACENT, 2 | 2 << 2, 1, 2] {
                for order in [SAME, SWAPPED] {
                    for which in 0..2 {
                        let made = child(shape, state, order, which);
                        let n = shape.n_vertices();
                        let reference = shape.vertices();
                        // Where the parent's corners lie.
                        let mut at = [[0.0; 3]; 5];
                        (0..n).for_each(|i| at[corner_of(order, i)] = reference[i]);
                        at[4] = std::array::from_fn(|d| 0.5 * (at[0][d] + at[1][d]));
                        let x: Vec<[f64; 3]> =
                            (0..n).map(|i| at[made.corners[corner_of(made.order, i)] as usize]).collect();
                        let mut j = [[0.0; 3]; 3];
                        for b in 0..shape.dim() {
                            (0..3).for_each(|a| j[a][b] = x[b + 1][a] - x[0][a]);
                        }
                        let det = crate::mesh::geometry::determinant(&j, shape.dim());
                        assert!((det - 0.5).abs() < 1e-14, "{shape} {state} {order} {which}: {det}");
                        if which == 0 {
                            assert_eq!(parent_order(shape, state, made.order), order);
                        }
                    }
                }
            }
        }
    }
}
