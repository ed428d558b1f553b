//! The solution as VTKHDF 1.0, one partition per rank, in one file that ParaView 5.11 and later opens.
//!
//! Imports `cluster` and [`super::hdf`]. Start at [`create`]: it lays the file out, and a [`Grid`] then
//! takes its parts in any order from any thread, each computed piece by piece into small buffers that a
//! thread of its own writes while the run goes on. Source: the VTKHDF file format,
//! <https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html#vtkhdf-file-format>.
//!
//! Local numbers are stored as 32-bit integers where they fit; VTK converts them as it reads. An array
//! whose entries are all the same, over all ranks, takes no room at all: its value is HDF5's fill value.

use std::ops::Range;
use std::path::Path;

use cluster::Comm;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::error::OutputError;
use super::hdf::{self, Attribute, Element, Entry, Layout, Pending, Sink, SlotId};

/// What this rank's part of an unstructured grid consists of. Ranks may have none of it.
#[derive(Debug, Clone, Copy)]
pub struct Outline<'a> {
    /// The number of points.
    pub n_points: usize,
    /// The cells, one kind after the other.
    pub cells: &'a [Cells],
    /// Fields with one row a point.
    pub point_fields: &'a [Field],
    /// Fields with one row a cell.
    pub cell_fields: &'a [Field],
}

/// Cells of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// VTK's cell type.
    pub vtk_type: u8,
    /// Points a cell.
    pub n_points: usize,
    /// How many cells.
    pub n_cells: usize,
}

/// A named array over points or cells. Every rank passes the same names, components and types.
#[derive(Debug, Clone)]
pub struct Field {
    /// What ParaView lists; not empty, without `/` or `.`.
    pub name: String,
    /// Entries a row: 1 for a scalar, 3 for a vector (also in lower dimensions: VTK warps and draws
    /// glyphs by three), 6 or 9 for a tensor.
    pub components: usize,
    /// The type of the entries.
    pub kind: Kind,
}

/// The entries of a [`Field`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Double precision.
    F64,
    /// Integers: ranks, regions, levels.
    I32,
    /// As [`Kind::I32`], all the same on this rank: nothing is to be written to the field.
    Same(i32),
    /// Long integers: global numbers.
    I64,
}

impl Kind {
    fn element(self) -> Element {
        match self {
            Kind::F64 => Element::F64,
            Kind::I32 | Kind::Same(_) => Element::I32,
            Kind::I64 => Element::I64,
        }
    }
}

/// Computes the rows of a range: all entries of the first row, then of the next.
pub type Rows<'a, T> = dyn Fn(Range<usize>, &mut [T]) + Sync + 'a;

/// Computes the local points, in VTK's order, of a range of the cells of one kind.
pub type Corners<'a> = dyn Fn(usize, Range<usize>, &mut [u32]) + Sync + 'a;

/// Bytes computed and written at a time: they stay in the second-level cache, and the kernel copies
/// such pieces several times as fast as larger ones where memory is short.
const PIECE: usize = 1 << 18;

/// A grid being written. Each part is this rank's own, not collective, and written once.
///
/// Errors of the parts are this rank's own too: hand the first to [`Grid::hand_over`] or [`Grid::finish`].
#[must_use = "the file gets its name in `finish`"]
pub struct Grid {
    sink: Sink,
    rank: usize,
    n_points: usize,
    cells: Vec<Cells>,
    /// The first of this rank's points, cells and entries of the connectivity.
    first: [u64; 3],
    points: SlotId,
    types: SlotId,
    connectivity: (SlotId, Element),
    offsets: (SlotId, Element),
    point_fields: Vec<(SlotId, Field)>,
    cell_fields: Vec<(SlotId, Field)>,
}

/// Lays the file out and opens it. Collective.
///
/// The file has its name, and readers see it, when [`Grid::finish`] returns.
///
/// # Errors
/// The same on every rank: an outline that cannot be ([`OutputError::Shape`]), fields that differ
/// between ranks, a full disk, a directory that cannot be written, a failure in HDF5.
pub fn create(comm: &Comm, path: &Path, outline: &Outline) -> Result<Grid, OutputError> {
    let _span = tracing::debug_span!("create file").entered();
    comm.agree(check(comm.rank(), outline))?;
    comm.agree(same_fields(comm, outline))?;

    let (n_cells, n_corners) = (outline.n_cells(), outline.n_corners());
    let counts = comm.all_gather([outline.n_points as u64, n_cells, n_corners]);
    let sum = |k: usize, end: usize| counts[..end].iter().map(|c| c[k]).sum::<u64>();
    let (ranks, rank) = (comm.size() as u64, comm.rank());
    let total = [sum(0, comm.size()), sum(1, comm.size()), sum(2, comm.size())];
    let first = [sum(0, rank), sum(1, rank), sum(2, rank)];
    // What is numbered within a partition.
    let local = |k: usize| {
        let most = counts.iter().map(|c| c[k]).max().unwrap_or(0);
        if i32::try_from(most).is_ok() { Element::I32 } else { Element::I64 }
    };
    let same = uniform(comm, outline);

    let mut layout = Layout::new();
    layout.group("VTKHDF");
    layout.attribute("VTKHDF", "Version", Attribute::Integers(vec![1, 0]));
    layout.attribute("VTKHDF", "Type", Attribute::Text("UnstructuredGrid".to_owned()));
    let number_of = ["NumberOfPoints", "NumberOfCells", "NumberOfConnectivityIds"]
        .map(|name| layout.dataset(&format!("VTKHDF/{name}"), Element::I64, &[ranks]));
    let points = layout.dataset("VTKHDF/Points", Element::F64, &[total[0], 3]);
    let types = array(&mut layout, "VTKHDF/Types", Element::U8, &[total[1]], same[0]);
    let connectivity = (layout.dataset("VTKHDF/Connectivity", local(0), &[total[2]]), local(0));
    let offsets = (layout.dataset("VTKHDF/Offsets", local(2), &[total[1] + ranks]), local(2));
    let (of_points, of_cells) = same[1..].split_at(outline.point_fields.len());
    let mut fields = |group: &str, rows: u64, fields: &[Field], same: &[Option<i32>]| {
        layout.group(group);
        let slot = |(field, &same): (&Field, &Option<i32>)| {
            let name = format!("{group}/{}", field.name);
            let shape = [rows, field.components as u64];
            let shape = if field.components == 1 { &shape[..1] } else { &shape[..] };
            (array(&mut layout, &name, field.kind.element(), shape, same), field.clone())
        };
        fields.iter().zip(same).map(slot).collect::<Vec<_>>()
    };
    let point_fields = fields("VTKHDF/PointData", total[0], outline.point_fields, of_points);
    let cell_fields = fields("VTKHDF/CellData", total[1], outline.cell_fields, of_cells);

    let sink = hdf::create(comm, path, layout, false)?.open();
    sink.reserve(PIECE);
    let grid = Grid {
        sink,
        rank,
        n_points: outline.n_points,
        cells: outline.cells.to_vec(),
        first,
        points,
        types,
        connectivity,
        offsets,
        point_fields,
        cell_fields,
    };
    let counted = number_of
        .into_iter()
        .zip(counts[rank])
        .try_for_each(|(slot, count)| grid.sink.write(slot, rank as u64, &[count as i64]));
    if comm.any(counted.is_err()) {
        grid.finish(counted)?;
        unreachable!("a rank has failed");
    }
    Ok(grid)
}

fn array(layout: &mut Layout, name: &str, element: Element, shape: &[u64], same: Option<i32>) -> SlotId {
    match same {
        Some(value) => layout.uniform(name, element, shape, value),
        None => layout.dataset(name, element, shape),
    }
}

impl Outline<'_> {
    fn n_cells(&self) -> u64 {
        self.cells.iter().map(|c| c.n_cells as u64).sum()
    }

    fn n_corners(&self) -> u64 {
        self.cells.iter().map(|c| (c.n_cells * c.n_points) as u64).sum()
    }
}

/// What all entries of an array are, over all ranks: of the types, the point fields, the cell fields.
/// Collective.
fn uniform(comm: &Comm, outline: &Outline) -> Vec<Option<i32>> {
    // No rows here, all the same, or no telling.
    const NONE: i64 = i64::MIN;
    const VARIED: i64 = i64::MAX;
    let mut types = outline.cells.iter().filter(|c| c.n_cells > 0).map(|c| i64::from(c.vtk_type));
    let first = types.next().unwrap_or(NONE);
    let mut mine = vec![if types.all(|t| t == first) { first } else { VARIED }];
    let of = |field: &Field, rows: u64| match field.kind {
        _ if rows == 0 => NONE,
        Kind::Same(value) => i64::from(value),
        _ => VARIED,
    };
    mine.extend(outline.point_fields.iter().map(|f| of(f, outline.n_points as u64)));
    mine.extend(outline.cell_fields.iter().map(|f| of(f, outline.n_cells())));
    let (all, _) = comm.all_gather_varied(&mine);
    let n = mine.len();
    (0..n)
        .map(|k| {
            let mut values = all.iter().skip(k).step_by(n).filter(|&&v| v != NONE);
            let first = *values.next()?;
            if values.all(|&v| v == first) { i32::try_from(first).ok() } else { None }
        })
        .collect()
}

impl Grid {
    /// Writes the coordinates, three a point; lower dimensions are padded with zeros.
    ///
    /// # Errors
    /// This rank's: a full disk, or what else the system says.
    pub fn points(&self, rows: &Rows<f64>) -> Result<(), OutputError> {
        let _span = tracing::debug_span!("write points").entered();
        self.stream(self.points, self.first[0], self.n_points, 3, rows)
    }

    /// Writes the cells, and the fields that are the same for all of this rank's.
    ///
    /// # Errors
    /// As [`Grid::points`]; a cell that names a point which is not there ([`OutputError::Shape`]).
    pub fn cells(&self, corners: &Corners) -> Result<(), OutputError> {
        let _span = tracing::debug_span!("write cells").entered();
        let [_, mut first_cell, mut first_corner] = self.first;
        let rank = self.rank as u64;
        let mut corner = 0;
        self.offset(first_cell + rank, &[0])?;
        for (kind, cells) in self.cells.iter().enumerate() {
            let Cells { vtk_type, n_points, n_cells } = *cells;
            if self.sink.same(self.types).is_none() {
                self.stream(self.types, first_cell, n_cells, 1, &|_, out: &mut [u8]| out.fill(vtk_type))?;
            }
            let (slot, element) = self.offsets;
            let first = first_cell + rank + 1;
            let end = |k: usize| corner + (k as u64 + 1) * n_points as u64;
            match element {
                Element::I32 => self.stream(slot, first, n_cells, 1, &|rows, out: &mut [i32]| {
                    out.iter_mut().zip(rows).for_each(|(out, k)| *out = end(k) as i32);
                })?,
                _ => self.stream(slot, first, n_cells, 1, &|rows, out: &mut [i64]| {
                    out.iter_mut().zip(rows).for_each(|(out, k)| *out = end(k) as i64);
                })?,
            }
            self.corners(kind, first_corner, corners)?;
            corner += (n_cells * n_points) as u64;
            first_corner += (n_cells * n_points) as u64;
            first_cell += n_cells as u64;
        }
        let n_cells = self.cells.iter().map(|c| c.n_cells).sum();
        for (fields, first, rows) in
            [(&self.point_fields, self.first[0], self.n_points), (&self.cell_fields, self.first[1], n_cells)]
        {
            for (slot, field) in fields {
                if let (Kind::Same(value), None) = (field.kind, self.sink.same(*slot)) {
                    let fill = |_: Range<usize>, out: &mut [i32]| out.fill(value);
                    self.stream(*slot, first, rows, field.components, &fill)?;
                }
            }
        }
        Ok(())
    }

    fn offset(&self, row: u64, value: &[i32; 1]) -> Result<(), OutputError> {
        match self.offsets {
            (slot, Element::I32) => self.sink.write(slot, row, value),
            (slot, _) => self.sink.write(slot, row, &value.map(i64::from)),
        }
    }

    /// Writes the connectivity of the cells of one kind.
    fn corners(&self, kind: usize, first: u64, corners: &Corners) -> Result<(), OutputError> {
        let Cells { n_points: width, n_cells, .. } = self.cells[kind];
        let (slot, element) = self.connectivity;
        let pieces = Pieces::new(n_cells, width * size_of::<u32>());
        (0..pieces.len()).into_par_iter().try_for_each_init(Vec::<u32>::new, |computed, k| {
            let _span = tracing::trace_span!("piece").entered();
            let rows = pieces.rows(k);
            let n = rows.len() * width;
            let first = first + (rows.start * width) as u64;
            let narrow = element == Element::I32;
            let mut buffer = if narrow { self.sink.buffer::<i32>(n) } else { self.sink.buffer::<i64>(n) };
            let points: &mut [u32] = if narrow {
                bytemuck::cast_slice_mut(buffer.entries::<i32>())
            } else {
                computed.resize(n, 0);
                computed
            };
            corners(kind, rows, points);
            if points.iter().fold(0, |most, &p| most.max(p)) as usize >= self.n_points {
                return Err(self.no_such_point(points));
            }
            if !narrow {
                let wide = buffer.entries::<i64>().iter_mut().zip(computed.iter());
                wide.for_each(|(wide, &point)| *wide = i64::from(point));
            }
            self.sink.send(slot, first, buffer)
        })
    }

    fn no_such_point(&self, corners: &[u32]) -> OutputError {
        let point = corners.iter().find(|&&p| p as usize >= self.n_points).expect("one is too large");
        let what = format!("a cell names point {point} of {}", self.n_points);
        OutputError::Shape { rank: self.rank, what }
    }

    /// Writes a field of the points, by its place in the outline.
    ///
    /// # Errors
    /// As [`Grid::points`].
    ///
    /// # Panics
    /// When the field is of another type, or [`Kind::Same`].
    pub fn point_field<T: Entry + Default>(&self, k: usize, rows: &Rows<T>) -> Result<(), OutputError> {
        let _span = tracing::debug_span!("write field").entered();
        let (slot, field) = &self.point_fields[k];
        self.stream(*slot, self.first[0], self.n_points, field.components, rows)
    }

    /// Writes a field of the cells, as [`Grid::point_field`].
    ///
    /// # Errors
    /// As [`Grid::points`].
    ///
    /// # Panics
    /// As [`Grid::point_field`].
    pub fn cell_field<T: Entry + Default>(&self, k: usize, rows: &Rows<T>) -> Result<(), OutputError> {
        let _span = tracing::debug_span!("write cell field").entered();
        let (slot, field) = &self.cell_fields[k];
        let n_cells = self.cells.iter().map(|c| c.n_cells).sum();
        self.stream(*slot, self.first[1], n_cells, field.components, rows)
    }

    /// Says that this rank has written its part, and how it fared; [`Pending::finish`] ends the file. Not collective.
    pub fn hand_over(self, mine: Result<(), OutputError>) -> Pending {
        self.sink.hand_over(mine)
    }

    /// Gives the file its name when every rank has written its part: `mine` says how this rank fared.
    /// Collective.
    ///
    /// # Errors
    /// The same on every rank; nothing of the file then stays.
    pub fn finish(self, mine: Result<(), OutputError>) -> Result<(), OutputError> {
        self.hand_over(mine).finish().map(drop)
    }

    /// Computes rows piece by piece and sends them on their way.
    fn stream<T: Entry + Default>(
        &self,
        slot: SlotId,
        first: u64,
        n_rows: usize,
        width: usize,
        compute: &Rows<T>,
    ) -> Result<(), OutputError> {
        let pieces = Pieces::new(n_rows, width * size_of::<T>());
        (0..pieces.len()).into_par_iter().try_for_each(|k| {
            let _span = tracing::trace_span!("piece").entered();
            let rows = pieces.rows(k);
            let begin = first + rows.start as u64;
            let mut buffer = self.sink.buffer::<T>(rows.len() * width);
            compute(rows, buffer.entries());
            self.sink.send(slot, begin, buffer)
        })
    }
}

/// Rows in pieces of a size that suits the caches.
struct Pieces {
    n_rows: usize,
    each: usize,
}

impl Pieces {
    fn new(n_rows: usize, row_bytes: usize) -> Self {
        Pieces { n_rows, each: (PIECE / row_bytes.max(1)).max(1) }
    }

    fn len(&self) -> usize {
        self.n_rows.div_ceil(self.each)
    }

    fn rows(&self, k: usize) -> Range<usize> {
        k * self.each..((k + 1) * self.each).min(self.n_rows)
    }
}

fn check(rank: usize, outline: &Outline) -> Result<(), OutputError> {
    let wrong = |what: String| Err(OutputError::Shape { rank, what });
    for (fields, of) in [(outline.point_fields, "point"), (outline.cell_fields, "cell")] {
        for (k, field) in fields.iter().enumerate() {
            let name = &field.name;
            if name.is_empty() || name.contains(['/', '.']) {
                return wrong(format!("`{name}` cannot name a field in an HDF5 file"));
            }
            if fields[..k].iter().any(|other| other.name == *name) {
                return wrong(format!("two {of} fields are named `{name}`"));
            }
            if field.components == 0 {
                return wrong(format!("the {of} field `{name}` has no components"));
            }
        }
    }
    Ok(())
}

/// A rank without cells must still name every field, or the layout would differ between ranks.
fn same_fields(comm: &Comm, outline: &Outline) -> Result<(), OutputError> {
    let name = |f: &Field| format!("{}/{}/{:?}", f.name, f.components, f.kind.element());
    let names = |fields: &[Field]| fields.iter().map(name).collect::<Vec<_>>().join(" ");
    let mine = format!("{} | {}", names(outline.point_fields), names(outline.cell_fields));
    let hashes = comm.all_gather(xxh3_64(mine.as_bytes()));
    if hashes[comm.rank()] == hashes[0] {
        return Ok(());
    }
    let what = format!("its output fields ({mine}) differ from those of rank 0");
    Err(OutputError::Shape { rank: comm.rank(), what })
}

/// Writes the index of a time series, `<name>.hdf.series`, which ParaView opens as one data set.
///
/// `steps` holds file names, relative to the index, and times. One rank calls this.
///
/// # Errors
/// When the index cannot be written.
pub fn write_series(path: &Path, steps: &[(String, f64)]) -> Result<(), OutputError> {
    let files: Vec<_> =
        steps.iter().map(|(name, time)| serde_json::json!({"name": name, "time": time})).collect();
    let index = serde_json::json!({"file-series-version": "1.0", "files": files});
    super::run_json::write_file_atomic(path, format!("{index:#}\n").as_bytes())
}
