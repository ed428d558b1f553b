//! Gmsh's element types: dimension and number of nodes of all, and which of them are supported.
//!
//! Imports `element`, which says in what order Gmsh numbers the nodes of supported types.
//! Source: `GmshDefines.h` of Gmsh 4.15.

use crate::element::{GeometryKind, Shape, gmsh_order};

/// Element types are numbers below this.
pub(super) const N_TYPES: usize = 141;

/// Name, dimension, number of nodes.
type Row = (&'static str, u8, u16);

/// An element type that does not exist, or whose elements differ in length (polygons, polyhedra).
const NONE: Row = ("", 0, 0);

/// Runs of consecutive types of one family: first type, name, dimension, numbers of nodes.
#[rustfmt::skip]
const FAMILIES: &[(usize, &str, u8, &[u16])] = &[
    (1, "line", 1, &[2]), (2, "triangle", 2, &[3]), (3, "quadrangle", 2, &[4]), (4, "tetrahedron", 3, &[4]),
    (5, "hexahedron", 3, &[8]), (6, "prism", 3, &[6]), (7, "pyramid", 3, &[5]), (8, "line", 1, &[3]),
    (9, "triangle", 2, &[6]), (10, "quadrangle", 2, &[9]), (11, "tetrahedron", 3, &[10]),
    (12, "hexahedron", 3, &[27]), (13, "prism", 3, &[18]), (14, "pyramid", 3, &[14]), (15, "point", 0, &[1]),
    (16, "quadrangle", 2, &[8]), (17, "hexahedron", 3, &[20]), (18, "prism", 3, &[15]),
    (19, "pyramid", 3, &[13]), (20, "triangle", 2, &[9, 10, 12, 15, 15, 21]), (26, "line", 1, &[4, 5, 6]),
    (29, "tetrahedron", 3, &[20, 35, 56, 22, 28]), (36, "quadrangle", 2, &[16, 25, 36, 12, 16, 20]),
    (42, "triangle", 2, &[28, 36, 45, 55, 66]), (47, "quadrangle", 2, &[49, 64, 81, 100, 121]),
    (52, "triangle", 2, &[18, 21, 24, 27, 30]), (57, "quadrangle", 2, &[24, 28, 32, 36, 40]),
    (62, "line", 1, &[7, 8, 9, 10, 11]), (71, "tetrahedron", 3, &[84, 120, 165, 220, 286]),
    (79, "tetrahedron", 3, &[34, 40, 46, 52, 58]), (84, "line", 1, &[1]), (85, "triangle", 2, &[1]),
    (86, "quadrangle", 2, &[1]), (87, "tetrahedron", 3, &[1]), (88, "hexahedron", 3, &[1]),
    (89, "prism", 3, &[1, 40, 75]), (92, "hexahedron", 3, &[64, 125, 216, 343, 512, 729, 1000]),
    (99, "hexahedron", 3, &[32, 44, 56, 68, 80, 92, 104]), (106, "prism", 3, &[126, 196, 288, 405, 550]),
    (111, "prism", 3, &[24, 33, 42, 51, 60, 69, 78]), (118, "pyramid", 3, &[30, 55, 91, 140, 204, 285, 385]),
    (125, "pyramid", 3, &[21, 29, 37, 45, 53, 61, 69]), (132, "pyramid", 3, &[1]),
    (137, "tetrahedron", 3, &[16]),
];

const TABLE: [Row; N_TYPES] = {
    let mut table = [NONE; N_TYPES];
    let mut family = 0;
    while family < FAMILIES.len() {
        let (first, name, dim, counts) = FAMILIES[family];
        let mut k = 0;
        while k < counts.len() {
            table[first + k] = (name, dim, counts[k]);
            k += 1;
        }
        family += 1;
    }
    table
};

/// The most nodes an element has.
pub(super) const MAX_NODES: usize = 1000;

/// The type with this number, if it exists and its elements have one length.
pub(super) fn known(element_type: i64) -> Option<u8> {
    let row = TABLE.get(usize::try_from(element_type).ok()?)?;
    (row.2 > 0).then_some(element_type as u8)
}

pub(super) fn n_nodes(element_type: u8) -> usize {
    TABLE[element_type as usize].2 as usize
}

pub(super) fn dim(element_type: u8) -> usize {
    TABLE[element_type as usize].1 as usize
}

/// The type in words: `prism (6 nodes)`.
pub(super) fn describe(element_type: u8) -> String {
    let (name, _, n) = TABLE[element_type as usize];
    format!("{name} ({n} nodes)")
}

/// A supported type: its shape, its geometry, and where Gmsh has each of our nodes.
pub(super) fn supported(element_type: u8) -> Option<(Shape, GeometryKind, &'static [u8])> {
    gmsh_order(u32::from(element_type))
}

/// What cells may be, for messages.
pub(super) fn supported_cells(dim: usize) -> String {
    let names: Vec<String> = (0..N_TYPES as u8)
        .filter(|&t| n_nodes(t) > 0 && self::dim(t) == dim && supported(t).is_some())
        .map(describe)
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_types_agree_with_element() {
        for element_type in [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 15, 16, 17] {
            let (shape, _, order) = supported(element_type).expect("supported");
            assert_eq!(shape.dim(), dim(element_type), "type {element_type}");
            let mut sorted = order.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n_nodes(element_type) as u8).collect::<Vec<_>>(), "type {element_type}");
            // Corners are corners in both orders: entities keep them only.
            assert!(order[..shape.n_vertices()].iter().all(|&k| (k as usize) < shape.n_vertices()));
        }
        assert!(supported(6).is_none() && supported(7).is_none() && supported(29).is_none());
    }

    #[test]
    fn unknown_types() {
        for bad in [-1, 0, 34, 35, 67, 70, 133, 138, 141, i64::MAX] {
            assert_eq!(known(bad), None, "{bad}");
        }
        assert_eq!(known(4), Some(4));
        assert!(TABLE.iter().all(|row| row.2 as usize <= MAX_NODES));
        assert_eq!(describe(6), "prism (6 nodes)");
    }
}
