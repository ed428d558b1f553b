//! Writes `solution.hdf`: Lagrange cells of the space's degree, one partition a rank.
//!
//! Points, cells and fields are computed piece by piece into buffers that a thread writes while the run goes on; no more
//! of them are under way than memory allows that the run has no more need of. Only above degree 2, where the file's nodes are not the space's, fields are
//! interpolated as a whole. Start at [`Solved::write`].

use std::ops::Range;
use std::path::Path;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::error::{Kind, RunError};
use super::results::{MOST, Solved, Source, quantity, value_of};
use crate::assembly::{Discretisation, RegionNodes};
use crate::case::Quantity as Named;
use crate::element::{Lagrange, Nodes, vtk_cell_type, vtk_lagrange_order};
use crate::law::Quantity;
use crate::mesh::geometry;
use crate::output::hdf::Pending;
use crate::output::vtkhdf::{self, Cells, Field, Grid, Outline};
use crate::output::{OutputError, vtkhdf::Kind as Entries};

/// The points of the file: those of [`RegionNodes`], then those that periodicity takes for one of them
/// but that lie elsewhere, then the nodes of cells that hang, which are no nodes of the space. Without these,
/// cells at a seam would stretch across the domain and cells that hang would be as large as their parents.
struct FilePoints<'a> {
    nodes: &'a RegionNodes,
    /// With periodicity, places of the first points: where the first cell has them.
    places: Vec<[f64; 3]>,
    /// Pair and place of each further point.
    seam: Vec<(u32, [f64; 3])>,
    /// Nodes on what hangs: the first cell that has each, its node, and the place.
    hanging: Vec<([usize; 3], [f64; 3])>,
    /// Which cells have other points than their slots': block, cell, node of the cell, point; ascending.
    uses: Vec<(u32, u32, u32, u32)>,
}

impl<'a> FilePoints<'a> {
    fn new(nodes: &'a RegionNodes, d: &Discretisation) -> FilePoints<'a> {
        let (places, seam, hanging, uses) = Default::default();
        let mut found = FilePoints { nodes, places, seam, hanging, uses };
        if !d.mesh.periodic.is_empty() {
            found.find_seam(d);
        }
        if d.mesh.may_hang() {
            found.find_hanging(d);
        }
        found.uses.sort_unstable();
        found
    }

    /// Finds what lies elsewhere than the first cell has it.
    fn find_seam(&mut self, d: &Discretisation) {
        let (nodes, found) = (self.nodes, self);
        found.places.resize(nodes.n_points(), [f64::NAN; 3]);
        // Pair, then block, cell, node of the cell, and the place there.
        let mut elsewhere: Vec<(u32, [u32; 3], [f64; 3])> = Vec::new();
        // What rounding may move a place by: far less than a cell.
        let mut tolerance = f64::INFINITY;
        let mut corners = Vec::new();
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let table = geometry::basis(block).tabulate(d.space.elements[b].nodes(), 0);
            for cell in 0..block.n_owned {
                corners.clear();
                d.mesh.cell_coordinates(block, cell, &mut corners);
                let size = corners[1..].iter().map(|x| largest_step(x, &corners[0])).fold(0.0, f64::max);
                tolerance = tolerance.min(1e-3 * size);
                let hanging = d.space.interpolation(b, cell);
                for (k, &v) in d.space.nodes(b, cell).iter().enumerate() {
                    if hanging.is_some_and(|c| c.is_parents(k)) {
                        continue;
                    }
                    let x = geometry::image(&table, k, &corners);
                    let point = nodes.point(v, block.sets[cell]) as usize;
                    let place = &mut found.places[point];
                    if place[0].is_nan() {
                        *place = x;
                    } else if largest_step(&x, place) > 1e-3 * size {
                        elsewhere.push((nodes.pairs()[point], [b, cell, k].map(|i| i as u32), x));
                    }
                }
            }
        }
        elsewhere.sort_unstable_by_key(|&(pair, place, _)| (pair, place));
        for alike in elsewhere.chunk_by(|a, b| a.0 == b.0) {
            let first = found.seam.len();
            for &(pair, [b, cell, k], x) in alike {
                let known = found.seam[first..].iter().position(|p| largest_step(&p.1, &x) <= tolerance);
                let at = known.map_or(found.seam.len(), |known| first + known);
                if known.is_none() {
                    found.seam.push((pair, x));
                }
                found.uses.push((b, cell, k, (found.nodes.n_points() + at) as u32));
            }
        }
    }

    /// Finds the nodes of cells on what hangs: two are one if the same values give theirs, at one place.
    fn find_hanging(&mut self, d: &Discretisation) {
        // Nodes of the space with their factors, one row after another, and of each node found the region and its row.
        let mut rows: Vec<[i64; 2]> = Vec::new();
        let mut known: Vec<(u16, Range<usize>)> = Vec::new();
        let mut by_row: HashTable<u32> = HashTable::new();
        let hash =
            |region: u16, row: &[[i64; 2]]| xxh3_64_with_seed(bytemuck::cast_slice(row), region.into());
        let mut corners = Vec::new();
        for (b, block) in d.mesh.blocks.iter().enumerate().filter(|(b, _)| d.space.may_hang(*b)) {
            let table = geometry::basis(block).tabulate(d.space.elements[b].nodes(), 0);
            for cell in 0..block.n_owned {
                let Some(hanging) = d.space.interpolation(b, cell) else { continue };
                corners.clear();
                d.mesh.cell_coordinates(block, cell, &mut corners);
                let size = corners[1..].iter().map(|x| largest_step(x, &corners[0])).fold(0.0, f64::max);
                let nodes = d.space.nodes(b, cell);
                for k in hanging.parents() {
                    let x = geometry::image(&table, k, &corners);
                    let (region, begin) = (block.sets[cell], rows.len());
                    let factors = hanging.row(k);
                    rows.extend(factors.map(|(j, factor)| [nodes[j].into(), (factor * 1e6).round() as i64]));
                    rows[begin..].sort_unstable();
                    // In the middle of a side of even degree there is a node already.
                    if let [[node, 1_000_000]] = rows[begin..] {
                        let node = node as u32;
                        let point = self.nodes.point(node, region);
                        let place = self.places.get(point as usize);
                        if (point as usize) < self.nodes.n_points()
                            && place.is_none_or(|place| largest_step(place, &x) <= 1e-3 * size)
                        {
                            self.uses.push((b as u32, cell as u32, k as u32, point));
                            rows.truncate(begin);
                            continue;
                        }
                    }
                    let key = hash(region, &rows[begin..]);
                    let is_same = |&at: &u32| {
                        let (of, row) = &known[at as usize];
                        *of == region
                            && rows[row.clone()] == rows[begin..]
                            && largest_step(&self.hanging[at as usize].1, &x) <= 1e-3 * size
                    };
                    let at = match by_row.find(key, is_same) {
                        Some(&at) => {
                            rows.truncate(begin);
                            at
                        }
                        None => {
                            let at = known.len() as u32;
                            known.push((region, begin..rows.len()));
                            self.hanging.push(([b, cell, k], x));
                            let again = |&at: &u32| {
                                let (of, row) = &known[at as usize];
                                hash(*of, &rows[row.clone()])
                            };
                            by_row.insert_unique(key, at, again);
                            at
                        }
                    };
                    let point = (self.nodes.n_points() + self.seam.len()) as u32 + at;
                    self.uses.push((b as u32, cell as u32, k as u32, point));
                }
            }
        }
    }

    fn n_points(&self) -> usize {
        self.nodes.n_points() + self.seam.len() + self.hanging.len()
    }

    /// The pair of a point, or the cell that hangs and its node.
    fn origin(&self, point: usize) -> Result<u32, [usize; 3]> {
        let pairs = self.nodes.pairs();
        let seam = point.checked_sub(pairs.len());
        match (pairs.get(point), seam) {
            (Some(&pair), _) => Ok(pair),
            (None, Some(k)) if k < self.seam.len() => Ok(self.seam[k].0),
            _ => Err(self.hanging[point - pairs.len() - self.seam.len()].0),
        }
    }

    /// Where a point lies, `coordinates` being those of the space's nodes.
    fn place(&self, point: usize, coordinates: &[[f64; 3]]) -> [f64; 3] {
        if let Some(&place) = self.places.get(point) {
            return place;
        }
        match point.checked_sub(self.nodes.n_points()) {
            None => coordinates[self.nodes.node(self.nodes.pairs()[point]) as usize],
            Some(k) if k < self.seam.len() => self.seam[k].1,
            Some(k) => self.hanging[k - self.seam.len()].1,
        }
    }

    /// The values of a quantity at a point.
    fn row(&self, d: &Discretisation, source: &Source, point: usize) -> [f64; MOST] {
        let [b, cell, node] = match self.origin(point) {
            Ok(pair) => return source.row(self.nodes, pair),
            Err(cell) => cell,
        };
        let hanging = d.space.interpolation(b, cell).expect("the cell hangs");
        let (nodes, set) = (d.space.nodes(b, cell), d.mesh.blocks[b].sets[cell]);
        let mut out = [0.0; MOST];
        for (j, factor) in hanging.row(node) {
            let row = source.row(self.nodes, self.nodes.pair(nodes[j], set) as u32);
            out.iter_mut().zip(row).for_each(|(out, value)| *out += factor * value);
        }
        out
    }

    /// The points of a cell, in the order of its nodes.
    fn of_cell(&self, d: &Discretisation, b: usize, cell: usize, out: &mut Vec<u32>) {
        let set = d.mesh.blocks[b].sets[cell];
        out.clear();
        // Of a parent's node, replaced below.
        out.extend(d.space.nodes(b, cell).iter().map(|&v| self.nodes.point(v, set)));
        if self.uses.is_empty() {
            return;
        }
        let cell = (b as u32, cell as u32);
        let first = self.uses.partition_point(|u| (u.0, u.1) < cell);
        for &(.., k, at) in self.uses[first..].iter().take_while(|u| (u.0, u.1) == cell) {
            out[k as usize] = at;
        }
    }
}

/// The largest difference of two points along an axis.
fn largest_step(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    (0..3).map(|k| (a[k] - b[k]).abs()).fold(0.0, f64::max)
}

/// A field of the points: what it is, and where each of its values goes in a row of the file.
struct PointField<'a> {
    name: String,
    source: Source<'a>,
    /// (from, to) in the rows.
    moves: Vec<(usize, usize)>,
    /// Entries a row in the file.
    width: usize,
}

impl Solved<'_> {
    /// Begins to write the solution for ParaView; [`Pending::finish`] ends it. `coordinates` are those of the local
    /// nodes. Collective.
    ///
    /// # Errors
    /// A field that has no values at points; a full disk, a directory that cannot be written.
    pub fn write(&self, path: &Path, coordinates: &[[f64; 3]]) -> Result<Pending, RunError> {
        let _span = tracing::debug_span!("solution file").entered();
        let d = self.problem.discretisation();
        let (mesh, space) = (d.mesh, d.space);
        let degree = space.degree;
        let has = |named: Named| self.case.output.fields.iter().any(|f| f.quantity == named);
        let mut reactions = Vec::new();
        if has(Named::Reaction) {
            reactions = self.reactions.to_vec();
            reactions.resize(space.map.n_local() * self.problem.components(), 0.0);
            space.halo.forward(&mut reactions, self.problem.components());
        }
        let fields = self.point_fields(&reactions)?;
        let points = FilePoints::new(&self.points, d);
        // The file's nodes are equidistant, the space's are not above degree 2.
        let fail = |e: crate::element::Error| RunError::new(Kind::Bug, "output", e.to_string());
        let mut elements = Vec::new();
        if degree > 2 {
            for block in &mesh.blocks {
                elements.push(Lagrange::new(block.shape, degree, Nodes::Equispaced).map_err(fail)?);
            }
        }
        let cells: Vec<Cells> = mesh
            .blocks
            .iter()
            .zip(&space.elements)
            .map(|(block, element)| Cells {
                vtk_type: vtk_cell_type(block.shape, degree),
                n_points: element.n_nodes(),
                n_cells: block.n_owned,
            })
            .collect();
        let point_outlines: Vec<Field> = fields
            .iter()
            .map(|f| Field { name: f.name.clone(), components: f.width, kind: Entries::F64 })
            .collect();
        let region = self.region().map_or(Entries::I32, Entries::Same);
        let mut cell_outlines = vec![Field { name: "region".into(), components: 1, kind: region }];
        if has(Named::Rank) {
            let kind = Entries::Same(mesh.comm.rank() as i32);
            cell_outlines.push(Field { name: "rank".into(), components: 1, kind });
        }
        if has(Named::Indicator) {
            cell_outlines.push(Field { name: "indicator".into(), components: 1, kind: Entries::F64 });
        }
        let grid = vtkhdf::create(
            &mesh.comm,
            path,
            &Outline {
                n_points: points.n_points(),
                cells: &cells,
                point_fields: &point_outlines,
                cell_fields: &cell_outlines,
            },
        )?;
        let indicator = cell_outlines.iter().position(|f| f.name == "indicator");
        let written = self.write_parts(&grid, &points, &fields, &elements, coordinates, region, indicator);
        Ok(grid.hand_over(written))
    }

    fn point_fields<'s>(&'s self, reactions: &'s [f64]) -> Result<Vec<PointField<'s>>, RunError> {
        let (dim, c) = (self.problem.discretisation().mesh.dim, self.problem.components());
        let mut fields = Vec::new();
        for field in &self.case.output.fields {
            let name = field.name().replace('.', "_");
            if matches!(field.quantity, Named::Rank | Named::Indicator) {
                continue;
            }
            if field.quantity == Named::Reaction {
                let width = if c == 1 { 1 } else { 3 };
                let source = Source::by_node(reactions, c);
                fields.push(PointField { name, source, moves: (0..c).map(|k| (k, k)).collect(), width });
                continue;
            }
            let found = quantity(field.quantity).and_then(|q| Some((q, self.source(q)?)));
            let Some((q, source)) = found else {
                return Err(self.unsupported("output.fields", field, crate::case::Place::Default));
            };
            let n = source.width();
            let straight = |width: usize| ((0..n).map(|k| (k, k)).collect(), width);
            // Vectors have three entries for VTK, whatever the dimension.
            let (moves, width) = match (value_of(q, field.part, dim, c), q, n) {
                (Some(k), ..) => (vec![(k, 0)], 1),
                (_, _, 1) => straight(1),
                (_, Quantity::Gradient, n) if c > 1 => {
                    ((0..n).map(|k| (k, (k / dim) * 3 + k % dim)).collect(), 9)
                }
                (_, _, n) if n <= 3 => straight(3),
                _ => straight(n),
            };
            fields.push(PointField { name, source, moves, width });
        }
        Ok(fields)
    }

    /// The region of all owned cells, if it is one.
    fn region(&self) -> Option<i32> {
        let mesh = self.problem.discretisation().mesh;
        let mut tags = mesh.sets.iter().map(|set| self.tag(set));
        let first = tags.next().unwrap_or(0);
        if tags.all(|tag| tag == first) {
            return Some(first);
        }
        let mut sets = mesh.blocks.iter().flat_map(|block| &block.sets[..block.n_owned]);
        let first = *sets.next()?;
        sets.all(|&set| set == first).then(|| self.tag(&mesh.sets[first as usize]))
    }

    /// The number a set of groups has in the file.
    fn tag(&self, set: &[u16]) -> i32 {
        let mesh = self.problem.discretisation().mesh;
        set.first().map_or(0, |&g| mesh.groups[g as usize].tag)
    }

    /// This rank's part of the file.
    fn write_parts(
        &self,
        grid: &Grid,
        points: &FilePoints,
        fields: &[PointField],
        elements: &[Lagrange],
        coordinates: &[[f64; 3]],
        region: Entries,
        indicator: Option<usize>,
    ) -> Result<(), OutputError> {
        let d = self.problem.discretisation();
        let (mesh, space) = (d.mesh, d.space);
        if elements.is_empty() {
            grid.points(&|rows, out| {
                for (out, point) in out.as_chunks_mut().0.iter_mut().zip(rows) {
                    *out = points.place(point, coordinates);
                }
            })?;
        } else {
            let x = self.equidistant_coordinates(points, elements);
            grid.points(&|rows, out| out.copy_from_slice(x[rows].as_flattened()))?;
        }
        let orders: Vec<_> =
            mesh.blocks.iter().map(|block| vtk_lagrange_order(block.shape, space.degree)).collect();
        grid.cells(&|b, cells, out| {
            let order = &orders[b];
            let mut of_cell = Vec::with_capacity(order.len());
            for (cell, out) in cells.zip(out.chunks_exact_mut(order.len())) {
                points.of_cell(d, b, cell, &mut of_cell);
                for (out, &k) in out.iter_mut().zip(order) {
                    *out = of_cell[k as usize];
                }
            }
        })?;
        if region == Entries::I32 {
            let tags: Vec<i32> = mesh.sets.iter().map(|set| self.tag(set)).collect();
            grid.cell_field(0, &|rows: Range<usize>, out: &mut [i32]| {
                let sets = mesh.blocks.iter().flat_map(|block| &block.sets[..block.n_owned]);
                for (out, &set) in out.iter_mut().zip(sets.skip(rows.start)) {
                    *out = tags[set as usize];
                }
            })?;
        }
        if let Some(k) = indicator {
            let from = |cell: usize| self.indicators.get(cell).map_or(0.0, |squared| squared.sqrt());
            grid.cell_field(k, &|rows: Range<usize>, out: &mut [f64]| {
                out.iter_mut().zip(rows).for_each(|(out, cell)| *out = from(cell));
            })?;
        }
        for (k, field) in fields.iter().enumerate() {
            let PointField { source, moves, width, .. } = field;
            if elements.is_empty() {
                grid.point_field(k, &|rows, out: &mut [f64]| {
                    out.fill(0.0);
                    for (out, point) in out.chunks_exact_mut(*width).zip(rows) {
                        let row = points.row(d, source, point);
                        moves.iter().for_each(|&(from, to)| out[to] = row[from]);
                    }
                })?;
            } else {
                let n = source.width();
                let values = self.to_equidistant(points, source, elements);
                grid.point_field(k, &|rows, out: &mut [f64]| {
                    out.fill(0.0);
                    let from = values[rows.start * n..rows.end * n].chunks_exact(n);
                    for (out, row) in out.chunks_exact_mut(*width).zip(from) {
                        moves.iter().for_each(|&(from, to)| out[to] = row[from]);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Coordinates of the points.
    fn equidistant_coordinates(&self, points: &FilePoints, elements: &[Lagrange]) -> Vec<[f64; 3]> {
        let d = self.problem.discretisation();
        let mut x = vec![[0.0; 3]; points.n_points()];
        let (mut corners, mut of_cell) = (Vec::new(), Vec::new());
        for (b, block) in d.mesh.blocks.iter().enumerate() {
            let table = geometry::basis(block).tabulate(elements[b].nodes(), 0);
            for cell in 0..block.n_owned {
                corners.clear();
                d.mesh.cell_coordinates(block, cell, &mut corners);
                points.of_cell(d, b, cell, &mut of_cell);
                for (k, &point) in of_cell.iter().enumerate() {
                    x[point as usize] = geometry::image(&table, k, &corners);
                }
            }
        }
        x
    }

    /// Values at the points, interpolated cell by cell from the space's nodes.
    fn to_equidistant(&self, points: &FilePoints, source: &Source, elements: &[Lagrange]) -> Vec<f64> {
        let d = self.problem.discretisation();
        let w = source.width();
        let mut out = vec![0.0; points.n_points() * w];
        let mut of_cell = Vec::new();
        for (b, element) in elements.iter().enumerate() {
            let block = &d.mesh.blocks[b];
            let table = d.space.elements[b].tabulate(element.nodes(), 0);
            let mut rows = Vec::with_capacity(element.n_nodes());
            for cell in 0..block.n_owned {
                self.rows_of_cell(source, b, cell, &mut rows);
                points.of_cell(d, b, cell, &mut of_cell);
                for (k, &point) in of_cell.iter().enumerate() {
                    let to = point as usize * w;
                    for (value, out) in out[to..to + w].iter_mut().enumerate() {
                        *out = rows.iter().zip(table.values_at(k)).map(|(row, phi)| phi * row[value]).sum();
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::element::Shape;
    use crate::law::{Material, Terms};
    use crate::mesh::trees::{Trees, under_mpi};
    use crate::space::{Order, Space};

    /// Points of cells that hang lie where their nodes are, are shared by the cells that have them, and have the
    /// values of the function there.
    #[test]
    fn cells_that_hang_have_points_of_their_own() {
        under_mpi("run::solution_file::tests::cells_that_hang_have_points_of_their_own", &[1, 3], |comm| {
            for (shape, roots) in [(Shape::Quadrilateral, [3, 3, 1]), (Shape::Hexahedron, [3, 2, 1])] {
                for (periodic, degree) in [(false, 1), (false, 2), (true, 2), (false, 3)] {
                    let trees = Trees::varied(shape, roots, periodic, 1, 0.1);
                    let mesh = trees.mesh(comm, |k| k * 7919 % 101 % comm.size());
                    let space = Space::new(&mesh, degree, Order::Curve).unwrap();
                    let materials = [Material { slots: vec![], keys: vec![] }];
                    let of_set = vec![0; mesh.sets.len()];
                    let terms = Terms { g00: true, first_order: false, hessian: false };
                    let d = Discretisation::new(&mesh, &space, &materials, &of_set, terms, true, true, 0.0);
                    let nodes = RegionNodes::new(&d);
                    let points = FilePoints::new(&nodes, &d);
                    let coordinates = space.coordinates(&mesh);
                    let f = |x: &[f64; 3]| 1.0 + if periodic { 0.0 } else { x[0] } - 2.0 * x[1] + 0.5 * x[2];
                    let values: Vec<f64> = coordinates.iter().map(f).collect();
                    let source = Source::by_node(&values, 1);
                    let mut used = vec![false; points.n_points()];
                    let mut at: HashMap<([i64; 3], u16), u32> = HashMap::new();
                    let (mut corners, mut of_cell) = (Vec::new(), Vec::new());
                    for (b, block) in mesh.blocks.iter().enumerate() {
                        let table = geometry::basis(block).tabulate(space.elements[b].nodes(), 0);
                        for cell in 0..block.n_owned {
                            corners.clear();
                            mesh.cell_coordinates(block, cell, &mut corners);
                            points.of_cell(&d, b, cell, &mut of_cell);
                            for (k, &point) in of_cell.iter().enumerate() {
                                let x = geometry::image(&table, k, &corners);
                                let place = points.place(point as usize, &coordinates);
                                assert!(
                                    largest_step(&x, &place) < 1e-10,
                                    "{shape} {degree}: {x:?} {place:?}"
                                );
                                let value = points.row(&d, &source, point as usize)[0];
                                assert!((value - f(&x)).abs() < 1e-10, "{shape} {degree}: {value} {}", f(&x));
                                used[point as usize] = true;
                                let key = (x.map(|x| (x * 1e6).round() as i64), block.sets[cell]);
                                assert_eq!(
                                    *at.entry(key).or_insert(point),
                                    point,
                                    "one point a place and region"
                                );
                            }
                        }
                    }
                    assert!(used.iter().all(|u| *u), "a point that no cell has");
                }
            }
            Vec::new()
        });
    }
}
