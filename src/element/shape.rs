//! The reference cells: vertices, edges, faces, and how a lower-dimensional reference cell lies in them.
//!
//! Imports std only. Start at [`Shape`].
//!
//! Interval \[0, 1\]; triangle and tetrahedron are unit simplices with vertex 0 at the origin; quadrilateral
//! and hexahedron are unit cubes with vertices counter-clockwise (bottom, then top), as in VTK and Gmsh.

/// A reference cell. The order of the variants (points first, by dimension) is relied on for sorting blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// The origin.
    Point,
    /// \[0, 1\].
    Interval,
    /// (0,0), (1,0), (0,1).
    Triangle,
    /// (0,0), (1,0), (1,1), (0,1).
    Quadrilateral,
    /// (0,0,0), (1,0,0), (0,1,0), (0,0,1).
    Tetrahedron,
    /// The unit cube: bottom counter-clockwise from the origin, then top.
    Hexahedron,
}

use Shape::*;

static POINT: [[f64; 3]; 1] = [[0., 0., 0.]];
static INTERVAL: [[f64; 3]; 2] = [[0., 0., 0.], [1., 0., 0.]];
static TRIANGLE: [[f64; 3]; 3] = [[0., 0., 0.], [1., 0., 0.], [0., 1., 0.]];
static QUADRILATERAL: [[f64; 3]; 4] = [[0., 0., 0.], [1., 0., 0.], [1., 1., 0.], [0., 1., 0.]];
static TETRAHEDRON: [[f64; 3]; 4] = [[0., 0., 0.], [1., 0., 0.], [0., 1., 0.], [0., 0., 1.]];
static HEXAHEDRON: [[f64; 3]; 8] = [
    [0., 0., 0.],
    [1., 0., 0.],
    [1., 1., 0.],
    [0., 1., 0.],
    [0., 0., 1.],
    [1., 0., 1.],
    [1., 1., 1.],
    [0., 1., 1.],
];

static IDENTITY: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
static TRIANGLE_EDGES: [[u8; 2]; 3] = [[0, 1], [1, 2], [2, 0]];
static QUADRILATERAL_EDGES: [[u8; 2]; 4] = [[0, 1], [1, 2], [2, 3], [3, 0]];
static TETRAHEDRON_EDGES: [[u8; 2]; 6] = [[0, 1], [1, 2], [2, 0], [0, 3], [1, 3], [2, 3]];
static TETRAHEDRON_FACES: [[u8; 3]; 4] = [[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]];
static HEXAHEDRON_EDGES: [[u8; 2]; 12] =
    [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
static HEXAHEDRON_FACES: [[u8; 4]; 6] =
    [[0, 4, 7, 3], [1, 2, 6, 5], [0, 1, 5, 4], [3, 7, 6, 2], [0, 3, 2, 1], [4, 5, 6, 7]];

impl Shape {
    /// All shapes, in order.
    pub const ALL: [Shape; 6] = [Point, Interval, Triangle, Quadrilateral, Tetrahedron, Hexahedron];

    /// Topological dimension, 0 to 3.
    pub const fn dim(self) -> usize {
        match self {
            Point => 0,
            Interval => 1,
            Triangle | Quadrilateral => 2,
            Tetrahedron | Hexahedron => 3,
        }
    }

    /// Number of vertices.
    pub const fn n_vertices(self) -> usize {
        match self {
            Point => 1,
            Interval => 2,
            Triangle => 3,
            Quadrilateral | Tetrahedron => 4,
            Hexahedron => 8,
        }
    }

    /// Coordinates of the vertices; entries past the dimension are zero.
    pub const fn vertices(self) -> &'static [[f64; 3]] {
        match self {
            Point => &POINT,
            Interval => &INTERVAL,
            Triangle => &TRIANGLE,
            Quadrilateral => &QUADRILATERAL,
            Tetrahedron => &TETRAHEDRON,
            Hexahedron => &HEXAHEDRON,
        }
    }

    /// Number of sub-entities of dimension `d`: vertices (0), edges (1), faces (2), the cell itself (`dim`);
    /// 0 above the dimension.
    pub const fn n_entities(self, d: usize) -> usize {
        let dim = self.dim();
        if d > dim {
            return 0;
        }
        if d == dim {
            return 1;
        }
        match (d, self) {
            (0, _) => self.n_vertices(),
            (1, Triangle) => 3,
            (1, Quadrilateral) => 4,
            (1, Tetrahedron) => 6,
            (1, _) => 12,
            (_, Tetrahedron) => 4,
            (_, _) => 6,
        }
    }

    /// Shape of sub-entity `i` of dimension `d`.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    pub const fn entity_shape(self, d: usize, i: usize) -> Shape {
        assert!(i < self.n_entities(d), "no such sub-entity");
        if d == self.dim() {
            return self;
        }
        match (d, self) {
            (0, _) => Point,
            (1, _) => Interval,
            (_, Tetrahedron) => Triangle,
            (_, _) => Quadrilateral,
        }
    }

    /// Vertices of sub-entity `i` of dimension `d`, in the order of the vertices of its own shape.
    ///
    /// Edges and faces come in the order of VTK's cells. Facets are listed so that their outward normal
    /// follows the right-hand rule: counter-clockwise from outside in 3D, and in 2D along a counter-clockwise
    /// tour of the cell, so that (t_y, -t_x) points outwards for the tangent t.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    #[inline]
    pub const fn entity_vertices(self, d: usize, i: usize) -> &'static [u8] {
        assert!(i < self.n_entities(d), "no such sub-entity");
        if d == self.dim() {
            return IDENTITY.split_at(self.n_vertices()).0;
        }
        match (d, self) {
            (0, _) => IDENTITY.split_at(i + 1).0.split_at(i).1,
            (1, Triangle) => &TRIANGLE_EDGES[i],
            (1, Quadrilateral) => &QUADRILATERAL_EDGES[i],
            (1, Tetrahedron) => &TETRAHEDRON_EDGES[i],
            (1, _) => &HEXAHEDRON_EDGES[i],
            (_, Tetrahedron) => &TETRAHEDRON_FACES[i],
            (_, _) => &HEXAHEDRON_FACES[i],
        }
    }

    /// Number of facets (sub-entities of codimension 1); 0 for a point.
    #[inline]
    pub const fn n_facets(self) -> usize {
        match self {
            Point => 0,
            _ => self.n_entities(self.dim() - 1),
        }
    }

    /// Shape of a facet.
    ///
    /// # Panics
    /// If there is no such facet.
    pub const fn facet_shape(self, facet: usize) -> Shape {
        assert!(facet < self.n_facets(), "no such facet");
        self.entity_shape(self.dim() - 1, facet)
    }

    /// Vertices of a facet: [`Shape::entity_vertices`] of codimension 1.
    ///
    /// # Panics
    /// If there is no such facet.
    #[inline]
    pub const fn facet_vertices(self, facet: usize) -> &'static [u8] {
        assert!(facet < self.n_facets(), "no such facet");
        self.entity_vertices(self.dim() - 1, facet)
    }

    /// Point, interval, triangle, tetrahedron.
    pub const fn is_simplex(self) -> bool {
        !matches!(self, Quadrilateral | Hexahedron)
    }

    /// Length, area or volume of the reference cell; 1 for a point.
    pub const fn measure(self) -> f64 {
        match self {
            Triangle => 0.5,
            Tetrahedron => 1.0 / 6.0,
            _ => 1.0,
        }
    }

    /// The shape's name, as case files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Point => "point",
            Interval => "interval",
            Triangle => "triangle",
            Quadrilateral => "quadrilateral",
            Tetrahedron => "tetrahedron",
            Hexahedron => "hexahedron",
        }
    }

    /// The plural of [`Shape::name`], for messages.
    pub const fn plural_name(self) -> &'static str {
        match self {
            Point => "points",
            Interval => "intervals",
            Triangle => "triangles",
            Quadrilateral => "quadrilaterals",
            Tetrahedron => "tetrahedra",
            Hexahedron => "hexahedra",
        }
    }

    /// The shape of that [`Shape::name`].
    pub fn parse(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Barycentre of the reference cell.
    pub fn center(self) -> [f64; 3] {
        let mut c = [0.0; 3];
        for v in self.vertices() {
            for k in 0..3 {
                c[k] += v[k] / self.n_vertices() as f64;
            }
        }
        c
    }

    /// Directions in the cell of the reference axes of sub-entity `i` of dimension `d`; unused ones are zero.
    /// Sub-entities of reference cells are parallelotopes or simplices, so the map is affine.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    pub fn entity_axes(self, d: usize, i: usize) -> [[f64; 3]; 3] {
        let vertices = self.entity_vertices(d, i);
        // Vertices at the ends of the axes of each reference cell.
        let ends: &[usize] = match self.entity_shape(d, i) {
            Point => &[],
            Interval => &[1],
            Triangle => &[1, 2],
            Quadrilateral => &[1, 3],
            Tetrahedron => &[1, 2, 3],
            Hexahedron => &[1, 3, 4],
        };
        let at = |local: usize| self.vertices()[vertices[local] as usize];
        let origin = at(0);
        let mut axes = [[0.0; 3]; 3];
        for (axis, &end) in axes.iter_mut().zip(ends) {
            let tip = at(end);
            *axis = [tip[0] - origin[0], tip[1] - origin[1], tip[2] - origin[2]];
        }
        axes
    }

    /// The point of the cell at reference coordinates `p` of sub-entity `i` of dimension `d`.
    ///
    /// # Panics
    /// If there is no such sub-entity.
    pub fn entity_point(self, d: usize, i: usize, p: [f64; 3]) -> [f64; 3] {
        if d == self.dim() {
            return p;
        }
        let axes = self.entity_axes(d, i);
        let mut x = self.vertices()[self.entity_vertices(d, i)[0] as usize];
        for (axis, s) in axes.iter().zip(p) {
            for k in 0..3 {
                x[k] += s * axis[k];
            }
        }
        x
    }

    /// The point of the cell at reference coordinates `p` of a facet.
    ///
    /// # Panics
    /// If there is no such facet.
    pub fn facet_point(self, facet: usize, p: [f64; 3]) -> [f64; 3] {
        assert!(facet < self.n_facets(), "no such facet");
        self.entity_point(self.dim() - 1, facet, p)
    }

    /// Derivatives of the cell's coordinates with respect to the facet's, the second zero in 2D and both in 1D.
    /// With J the Jacobian of the cell's map, (J t0) x (J t1) is the outward normal times the area element in
    /// 3D, and (t_y, -t_x) of t = J t0 in 2D, for cells of positive orientation.
    ///
    /// # Panics
    /// If there is no such facet.
    pub fn facet_tangents(self, facet: usize) -> [[f64; 3]; 2] {
        assert!(facet < self.n_facets(), "no such facet");
        let axes = self.entity_axes(self.dim() - 1, facet);
        [axes[0], axes[1]]
    }

    /// Outward unit normal of a facet of the reference cell.
    ///
    /// # Panics
    /// If there is no such facet.
    pub fn facet_normal(self, facet: usize) -> [f64; 3] {
        let [a, b] = self.facet_tangents(facet);
        let n = match self.dim() {
            1 => [if facet == 0 { -1.0 } else { 1.0 }, 0.0, 0.0],
            2 => [a[1], -a[0], 0.0],
            _ => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]],
        };
        let length = (n[0] * n[0] + n[1] * n[1] + n[2] * n[2]).sqrt();
        n.map(|c| c / length)
    }

    /// Whether sub-entity `inner` lies on the closed sub-entity `outer`, both as (dimension, index).
    ///
    /// # Panics
    /// If one of them does not exist.
    pub fn is_on(self, inner: (usize, usize), outer: (usize, usize)) -> bool {
        let closure = self.entity_vertices(outer.0, outer.1);
        self.entity_vertices(inner.0, inner.1).iter().all(|v| closure.contains(v))
    }

    /// Whether `p` lies in the cell enlarged by `tolerance`, or shrunk by a negative one.
    pub fn contains(self, p: [f64; 3], tolerance: f64) -> bool {
        let d = self.dim();
        let above = p[..d].iter().all(|&c| c >= -tolerance);
        let flat = p[d..].iter().all(|&c| c.abs() <= tolerance.abs());
        let below = if matches!(self, Triangle | Tetrahedron) {
            p[..d].iter().sum::<f64>() <= 1.0 + tolerance
        } else {
            p[..d].iter().all(|&c| c <= 1.0 + tolerance)
        };
        above && flat && below
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn euler_characteristic_is_one() {
        for shape in Shape::ALL {
            let chi: i64 = (0..=3).map(|d| (1 - 2 * (d as i64 % 2)) * shape.n_entities(d) as i64).sum();
            assert_eq!(chi, 1, "{shape}");
        }
    }

    #[test]
    fn facet_normals_point_outwards_and_close_the_cell() {
        for shape in Shape::ALL.into_iter().filter(|s| s.dim() > 0) {
            let c = shape.center();
            let mut total = [0.0; 3];
            for f in 0..shape.n_facets() {
                let n = shape.facet_normal(f);
                let m = shape.facet_point(f, shape.facet_shape(f).center());
                let out: f64 = (0..3).map(|k| n[k] * (m[k] - c[k])).sum();
                assert!(out > 0.1, "{shape} facet {f}");
                let [a, b] = shape.facet_tangents(f);
                let area = match shape.dim() {
                    1 => 1.0,
                    2 => (a[0] * a[0] + a[1] * a[1]).sqrt(),
                    _ => {
                        let x =
                            [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
                        (x[0] * x[0] + x[1] * x[1] + x[2] * x[2]).sqrt() * shape.facet_shape(f).measure()
                    }
                };
                for k in 0..3 {
                    total[k] += area * n[k];
                }
            }
            assert!(total.iter().all(|t| t.abs() < 1e-14), "{shape}: {total:?}");
        }
    }

    #[test]
    fn entity_vertices_are_images_of_the_entity_shapes_vertices() {
        for shape in Shape::ALL {
            for d in 0..=shape.dim() {
                for i in 0..shape.n_entities(d) {
                    let sub = shape.entity_shape(d, i);
                    for (v, &g) in sub.vertices().iter().zip(shape.entity_vertices(d, i)) {
                        assert_eq!(shape.entity_point(d, i, *v), shape.vertices()[g as usize]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_edge_bounds_two_faces_of_a_solid() {
        for shape in [Tetrahedron, Hexahedron] {
            for e in 0..shape.n_entities(1) {
                assert_eq!((0..shape.n_facets()).filter(|&f| shape.is_on((1, e), (2, f))).count(), 2);
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for shape in Shape::ALL {
            assert_eq!(Shape::parse(shape.name()), Some(shape));
        }
        assert_eq!(Shape::parse("tetrahedra"), None);
    }
}
