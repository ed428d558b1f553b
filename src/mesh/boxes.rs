//! Generated meshes: intervals, rectangles and boxes cut into equal cells.
//!
//! Imports `element`, `mesh::soup` and the crate `cluster`. Start at [`generate`], which makes a soup as a
//! reader would, for whoever writes or converts it; a run makes its mesh by [`super::bricks`], which shares
//! the lattice, the cells and the groups defined here. Each rank makes its own cells and nodes; nothing is
//! communicated.

use std::ops::Range;

use cluster::Comm;
use serde::{Deserialize, Serialize};

use super::soup::{CellBlock, EntityBlock, Group, Soup};
use crate::element::{GeometryKind, Shape};

/// An axis-parallel box cut into a lattice of equal cells. Its length in each array is its dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxSpec {
    /// The edges' lengths.
    pub size: Vec<f64>,
    /// The number of intervals, squares or cubes along each axis.
    pub cells: Vec<u64>,
    /// The shape of cells. A square is cut into two triangles, a cube into six tetrahedra.
    pub shape: Shape,
    /// The corner with the least coordinates.
    pub origin: [f64; 3],
}

/// Why a box cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum BoxError {
    /// Not one, two or three entries, or not as many cells as sizes.
    #[error("a box has 1, 2 or 3 entries in size and as many in cells; size has {size}, cells has {cells}")]
    Dimension {
        /// Entries of `size`.
        size: usize,
        /// Entries of `cells`.
        cells: usize,
    },
    /// A shape of another dimension.
    #[error("a box of dimension {dim} cannot have cells of shape {shape}: {expected}")]
    Shape {
        /// The box's dimension.
        dim: usize,
        /// The shape asked for.
        shape: String,
        /// The shapes there are.
        expected: String,
    },
    /// A length that is not positive and finite, or an origin that is not finite.
    #[error("box {what} along {axis} is {value}, expected a {expected} number")]
    Length {
        /// `size` or `origin`.
        what: String,
        /// The axis.
        axis: char,
        /// The value.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// No cells along an axis.
    #[error("box cells along {axis} is 0, expected at least 1")]
    NoCells {
        /// The axis.
        axis: char,
    },
    /// More cells or nodes than can be numbered, or so many that coordinates coincide.
    #[error("a box of {cells} cells is too large: {limit}")]
    TooLarge {
        /// The numbers of cells along the axes.
        cells: String,
        /// What is exceeded.
        limit: String,
    },
}

/// More than this many intervals along an axis, and neighbouring nodes could have equal coordinates.
const MAX_INTERVALS: u64 = 1 << 40;

pub(super) const AXES: [char; 3] = ['x', 'y', 'z'];

/// The corners of the two triangles of a square: bits of a corner are its steps along the axes.
const TRIANGLES: [[u8; 3]; 2] = [[0b00, 0b01, 0b11], [0b00, 0b11, 0b10]];

/// The corners of the six tetrahedra of a cube, one for each order of the axes: all have the diagonal from
/// corner 0 to corner 7, so that neighbouring cubes fit.
///
/// Source: H. W. Kuhn, "Some combinatorial lemmas in topology", IBM J. Res. Dev. 4, 1960.
const TETRAHEDRA: [[u8; 4]; 6] = [
    [0b000, 0b001, 0b011, 0b111],
    [0b000, 0b011, 0b010, 0b111],
    [0b000, 0b010, 0b110, 0b111],
    [0b000, 0b110, 0b100, 0b111],
    [0b000, 0b100, 0b101, 0b111],
    [0b000, 0b101, 0b001, 0b111],
];

/// The lattice of a valid specification; axes beyond the dimension have no cells and one node.
#[derive(Debug, Clone)]
pub(super) struct Lattice {
    pub dim: usize,
    pub cells: [u64; 3],
    pub nodes: [u64; 3],
    pub size: [f64; 3],
    pub origin: [f64; 3],
}

impl BoxSpec {
    pub(super) fn lattice(&self) -> Result<Lattice, BoxError> {
        let dim = self.size.len();
        if !(1..=3).contains(&dim) || self.cells.len() != dim {
            return Err(BoxError::Dimension { size: dim, cells: self.cells.len() });
        }
        let shapes: &[Shape] = match dim {
            1 => &[Shape::Interval],
            2 => &[Shape::Triangle, Shape::Quadrilateral],
            _ => &[Shape::Tetrahedron, Shape::Hexahedron],
        };
        if !shapes.contains(&self.shape) {
            let names: Vec<String> = shapes.iter().map(Shape::to_string).collect();
            return Err(BoxError::Shape { dim, shape: self.shape.to_string(), expected: names.join(" or ") });
        }
        let length = |what: &str, axis: usize, value: f64, expected: &str| BoxError::Length {
            what: what.to_string(),
            axis: AXES[axis],
            value: value.to_string(),
            expected: expected.to_string(),
        };
        for (axis, &size) in self.size.iter().enumerate() {
            if !(size > 0.0 && size.is_finite()) {
                return Err(length("size", axis, size, "positive"));
            }
        }
        if let Some(axis) = self.origin.iter().position(|x| !x.is_finite()) {
            return Err(length("origin", axis, self.origin[axis], "finite"));
        }
        if let Some(axis) = self.cells.iter().position(|&n| n == 0) {
            return Err(BoxError::NoCells { axis: AXES[axis] });
        }
        let too_large = |limit: &str| BoxError::TooLarge {
            cells: self.cells.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "),
            limit: limit.to_string(),
        };
        let mut lattice = Lattice { dim, cells: [1; 3], nodes: [1; 3], size: [0.0; 3], origin: self.origin };
        for (axis, (&n, &size)) in self.cells.iter().zip(&self.size).enumerate() {
            let step = size / n as f64;
            let far = self.origin[axis].abs().max((self.origin[axis] + size).abs());
            // Nodes must differ by many units in the last place, or volumes are noise.
            if n > MAX_INTERVALS || step <= far * 1e-12 {
                return Err(too_large("nodes would be too close for double precision"));
            }
            (lattice.cells[axis], lattice.nodes[axis], lattice.size[axis]) = (n, n + 1, size);
        }
        let product = |xs: [u64; 3]| xs.iter().try_fold(1u64, |product, &x| product.checked_mul(x));
        // Facets and cells are at most 12 a lattice cell.
        if product(lattice.nodes).and_then(|n| n.checked_mul(12)).is_none_or(|n| n > i64::MAX as u64) {
            return Err(too_large("its cells and nodes cannot be numbered in 63 bits"));
        }
        Ok(lattice)
    }
}

/// The numbers from `begin` of rank `rank`'s share of `n` to that of the next.
fn share(n: u64, rank: usize, size: usize) -> Range<u64> {
    let begin = |rank: usize| (u128::from(n) * rank as u128 / size as u128) as u64;
    begin(rank)..begin(rank + 1)
}

/// Place `k` of a lattice with `n` places along each axis, x fastest.
pub(super) fn place(k: u64, n: [u64; 3]) -> [u64; 3] {
    [k % n[0], k / n[0] % n[1], k / n[0] / n[1]]
}

impl Lattice {
    /// The number of a corner of a cell, from 1.
    fn node(&self, cell: [u64; 3], corner: u8) -> u64 {
        let step = |axis: usize| cell[axis] + u64::from(corner >> axis & 1);
        1 + step(0) + self.nodes[0] * (step(1) + self.nodes[1] * step(2))
    }

    pub fn coordinates(&self, node: [u64; 3]) -> [f64; 3] {
        std::array::from_fn(|axis| {
            if axis >= self.dim {
                return self.origin[axis];
            }
            // Exact at both ends, so that opposite sides match and a stated size is kept.
            let last = self.cells[axis];
            match node[axis] {
                n if n == last => self.origin[axis] + self.size[axis],
                n => self.origin[axis] + self.size[axis] * (n as f64 / last as f64),
            }
        })
    }
}

/// The corners of a cell's parts, in the order of [`crate::element`].
pub(super) fn parts(shape: Shape) -> Vec<Vec<u8>> {
    match shape {
        Shape::Triangle => TRIANGLES.iter().map(|corners| corners.to_vec()).collect(),
        Shape::Tetrahedron => TETRAHEDRA.iter().map(|corners| corners.to_vec()).collect(),
        _ => {
            // The reference vertices of a line, square or cube are corners of the unit cube.
            let corner = |x: &[f64; 3]| (0..3).map(|axis| u8::from(x[axis] > 0.5) << axis).sum();
            vec![shape.vertices().iter().map(corner).collect()]
        }
    }
}

/// The facets of `parts` in the plane where a cell's corners have bit `axis` equal to `side`.
fn facets(parts: &[Vec<u8>], shape: Shape, axis: usize, side: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for corners in parts {
        for facet in 0..shape.n_facets() {
            let facet: Vec<u8> = shape.facet_vertices(facet).iter().map(|&v| corners[v as usize]).collect();
            if facet.iter().all(|corner| corner >> axis & 1 == side) {
                found.push(facet);
            }
        }
    }
    found
}

/// The sides `x-min`, `x-max`, `y-min` and so on, in this order, then the body.
pub(super) fn groups(dim: usize) -> Vec<Group> {
    let mut groups = Vec::with_capacity(2 * dim + 1);
    for (axis, letter) in AXES[..dim].iter().enumerate() {
        for (side, end) in ["min", "max"].iter().enumerate() {
            let tag = (2 * axis + side + 1) as i32;
            groups.push(Group { dim: dim - 1, tag, name: format!("{letter}-{end}") });
        }
    }
    groups.push(Group { dim, tag: 1, name: "box".to_string() });
    groups
}

/// Makes this rank's share of a box: a stretch of the lattice's cells in the order x, y, z, with the facets
/// of those cells on the sides, and a stretch of its nodes. Every rank passes the same specification.
///
/// Nodes and cells are numbered from 1 along the lattice, x fastest. The sides are the groups `x-min` (tag
/// 1), `x-max` (2), `y-min` (3) and so on; the body is the group `box` (tag 1 of the cells' dimension).
///
/// # Errors
/// A specification that makes no box: the same error on every rank, since it depends on `spec` only.
pub fn generate(comm: &Comm, spec: &BoxSpec) -> Result<Soup, BoxError> {
    share_of(spec, comm.rank(), comm.size())
}

pub(super) fn share_of(spec: &BoxSpec, rank: usize, size: usize) -> Result<Soup, BoxError> {
    let lattice = spec.lattice()?;
    let (dim, shape) = (lattice.dim, spec.shape);
    let groups = groups(dim);
    let body = 2 * dim as u16;

    let parts = parts(shape);
    // Per side: the facets of a cell that lies at it.
    let sides: Vec<Vec<Vec<u8>>> =
        (0..2 * dim).map(|side| facets(&parts, shape, side / 2, (side % 2) as u8)).collect();
    let cells = share(lattice.cells.iter().product(), rank, size);
    let n_cells = (cells.end - cells.start) as usize * parts.len();
    let mut block = CellBlock {
        shape,
        geometry: GeometryKind::Linear,
        nodes: Vec::with_capacity(n_cells * shape.n_vertices()),
        ids: Vec::with_capacity(n_cells),
        sets: vec![1; n_cells],
    };
    let mut entities = EntityBlock { shape: shape.facet_shape(0), vertices: Vec::new(), groups: Vec::new() };
    for cell in cells {
        let at = place(cell, lattice.cells);
        for (part, corners) in parts.iter().enumerate() {
            block.nodes.extend(corners.iter().map(|&corner| lattice.node(at, corner)));
            block.ids.push(cell * parts.len() as u64 + part as u64 + 1);
        }
        for (side, facets) in sides.iter().enumerate() {
            let end = if side % 2 == 0 { 0 } else { lattice.cells[side / 2] - 1 };
            if at[side / 2] == end {
                for facet in facets {
                    entities.vertices.extend(facet.iter().map(|&corner| lattice.node(at, corner)));
                    entities.groups.push(side as u16);
                }
            }
        }
    }
    let n_nodes = lattice.nodes.iter().product();
    let nodes = share(n_nodes, rank, size);
    Ok(Soup {
        dim,
        groups,
        sets: vec![Vec::new(), vec![body]],
        blocks: vec![block],
        entities: vec![entities],
        node_ids: nodes.clone().map(|node| node + 1).collect(),
        node_coordinates: nodes.map(|node| lattice.coordinates(place(node, lattice.nodes))).collect(),
        max_node_id: n_nodes,
        periodic: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn spec(size: &[f64], cells: &[u64], shape: Shape) -> BoxSpec {
        BoxSpec { size: size.to_vec(), cells: cells.to_vec(), shape, origin: [0.5, -1.0, 2.0] }
    }

    fn all() -> Vec<BoxSpec> {
        vec![
            spec(&[2.0], &[5], Shape::Interval),
            spec(&[2.0, 1.0], &[3, 4], Shape::Triangle),
            spec(&[2.0, 1.0], &[3, 4], Shape::Quadrilateral),
            spec(&[2.0, 1.0, 0.3], &[3, 4, 2], Shape::Tetrahedron),
            spec(&[2.0, 1.0, 0.3], &[3, 4, 2], Shape::Hexahedron),
        ]
    }

    fn measure(shape: Shape, x: &[[f64; 3]]) -> f64 {
        let edge = |k: usize| -> [f64; 3] { std::array::from_fn(|d| x[k][d] - x[0][d]) };
        let cross = |a: [f64; 3], b: [f64; 3]| {
            [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
        };
        let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        match shape {
            Shape::Interval => edge(1)[0],
            Shape::Triangle => cross(edge(1), edge(2))[2] / 2.0,
            Shape::Quadrilateral => cross(edge(1), edge(3))[2],
            Shape::Tetrahedron => dot(cross(edge(1), edge(2)), edge(3)) / 6.0,
            _ => dot(cross(edge(1), edge(3)), edge(4)),
        }
    }

    #[test]
    fn cells_fill_the_box_and_fit_together() {
        for spec in all() {
            let soup = share_of(&spec, 0, 1).expect("a valid box");
            let n = spec.shape.n_vertices();
            let volume: f64 = spec.size.iter().product();
            let per_cell = [1.0, 1.0, 2.0, 1.0, 6.0, 1.0]
                [Shape::ALL.iter().position(|&s| s == spec.shape).expect("one")];
            let expected = volume / spec.cells.iter().product::<u64>() as f64 / per_cell;
            // How many cells have each facet: two, or one where the facet lies on the side of a group.
            let mut facets: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
            for nodes in soup.blocks[0].nodes.chunks_exact(n) {
                let x: Vec<[f64; 3]> = nodes.iter().map(|&k| soup.node_coordinates[k as usize - 1]).collect();
                assert!((measure(spec.shape, &x) - expected).abs() < 1e-12, "{spec:?}");
                for f in 0..spec.shape.n_facets() {
                    let mut facet: Vec<u64> =
                        spec.shape.facet_vertices(f).iter().map(|&v| nodes[v as usize]).collect();
                    facet.sort_unstable();
                    *facets.entry(facet).or_default() += 1;
                }
            }
            let entities = &soup.entities[0];
            let m = entities.shape.n_vertices();
            let boundary: BTreeSet<Vec<u64>> = entities
                .vertices
                .chunks_exact(m)
                .map(|v| {
                    let mut v = v.to_vec();
                    v.sort_unstable();
                    v
                })
                .collect();
            assert_eq!(boundary.len(), entities.groups.len(), "each facet once");
            for (facet, count) in facets {
                assert_eq!(count, if boundary.contains(&facet) { 1 } else { 2 }, "{spec:?} {facet:?}");
            }
            for (vertices, &group) in entities.vertices.chunks_exact(m).zip(&entities.groups) {
                let (axis, max) = (group as usize / 2, group % 2 == 1);
                let plane = spec.origin[axis] + if max { spec.size[axis] } else { 0.0 };
                assert!(vertices.iter().all(|&v| soup.node_coordinates[v as usize - 1][axis] == plane));
            }
            let names: Vec<&str> = soup.groups.iter().map(|g| g.name.as_str()).collect();
            assert_eq!(names.len(), 2 * soup.dim + 1);
            assert_eq!((names[0], names[names.len() - 1]), ("x-min", "box"));
            assert!(soup.groups.is_sorted_by_key(|g| (g.dim, g.tag)));
        }
    }

    #[test]
    fn shares_make_up_the_whole() {
        for spec in all() {
            let whole = share_of(&spec, 0, 1).expect("a valid box");
            for size in [2, 3, 4, 200] {
                let mut sum = share_of(&spec, 0, size).expect("a valid box");
                for rank in 1..size {
                    let part = share_of(&spec, rank, size).expect("a valid box");
                    sum.blocks[0].nodes.extend(&part.blocks[0].nodes);
                    sum.blocks[0].ids.extend(&part.blocks[0].ids);
                    sum.blocks[0].sets.extend(&part.blocks[0].sets);
                    sum.entities[0].vertices.extend(&part.entities[0].vertices);
                    sum.entities[0].groups.extend(&part.entities[0].groups);
                    sum.node_ids.extend(&part.node_ids);
                    sum.node_coordinates.extend(&part.node_coordinates);
                }
                assert_eq!(sum, whole, "{size} ranks");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let cases = [
            (spec(&[1.0, 1.0], &[2], Shape::Triangle), "size has 2, cells has 1"),
            (spec(&[], &[], Shape::Triangle), "1, 2 or 3 entries"),
            (spec(&[1.0; 4], &[1; 4], Shape::Hexahedron), "1, 2 or 3 entries"),
            (spec(&[1.0, 1.0], &[2, 2], Shape::Tetrahedron), "tetrahedron: triangle or quadrilateral"),
            (
                spec(&[1.0, 0.0], &[2, 2], Shape::Triangle),
                "box size along y is 0, expected a positive number",
            ),
            (spec(&[f64::NAN], &[2], Shape::Interval), "along x is NaN"),
            (spec(&[f64::INFINITY], &[2], Shape::Interval), "along x is inf"),
            (spec(&[1.0, 1.0], &[2, 0], Shape::Triangle), "box cells along y is 0"),
            (spec(&[1.0; 3], &[1 << 30; 3], Shape::Hexahedron), "63 bits"),
            (spec(&[1.0], &[u64::MAX], Shape::Interval), "too close"),
            (spec(&[1e-20], &[1], Shape::Interval), "too close"),
        ];
        for (spec, expected) in cases {
            let message = share_of(&spec, 0, 1).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
