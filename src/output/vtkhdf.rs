//! The solution as VTKHDF 1.0, one partition per rank, in one file that ParaView 5.11 and later opens.
//!
//! Imports `cluster` and [`super::hdf`]. Start at [`begin`]. Source: the VTKHDF file format,
//! <https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html#vtkhdf-file-format>.

use std::path::Path;

use cluster::Comm;
use xxhash_rust::xxh3::xxh3_64;

use super::error::OutputError;
use super::hdf::{self, Attribute, Column, Element, Layout, Pending, SlotId};

/// This rank's part of an unstructured grid. Ranks may have none: all arrays empty, `offsets` `[0]`.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Coordinates, one entry a point; lower dimensions are padded with zeros.
    pub points: &'a [[f64; 3]],
    /// The local points of every cell, in VTK's order.
    pub connectivity: &'a [u32],
    /// Where each cell begins in `connectivity`, and the end: one entry more than there are cells.
    pub offsets: &'a [u64],
    /// VTK's cell types.
    pub types: &'a [u8],
    /// Fields with one row a point.
    pub point_fields: &'a [Field<'a>],
    /// Fields with one row a cell.
    pub cell_fields: &'a [Field<'a>],
}

/// A named array over points or cells. Every rank passes the same names, components and types.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    /// What ParaView lists; not empty, without `/` or `.`.
    pub name: String,
    /// Entries a row: 1 for a scalar, 3 for a vector (also in lower dimensions: VTK warps and draws
    /// glyphs by three), 6 or 9 for a tensor.
    pub components: usize,
    /// The entries, row after row.
    pub values: Values<'a>,
}

/// The entries of a [`Field`].
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Double precision.
    F64(&'a [f64]),
    /// Integers: ranks, regions, levels.
    I32(&'a [i32]),
    /// Long integers: global numbers.
    I64(&'a [i64]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::F64(v) => v.len(),
            Values::I32(v) => v.len(),
            Values::I64(v) => v.len(),
        }
    }

    fn element(&self) -> Element {
        match self {
            Values::F64(_) => Element::F64,
            Values::I32(_) => Element::I32,
            Values::I64(_) => Element::I64,
        }
    }

    fn to_column(self) -> Column {
        match self {
            Values::F64(v) => Column::F64(v.to_vec()),
            Values::I32(v) => Column::I32(v.to_vec()),
            Values::I64(v) => Column::I64(v.to_vec()),
        }
    }
}

/// Writes a piece of every rank to one file and waits for it. Collective.
///
/// # Errors
/// As [`begin`] and [`Pending::finish`], the same on every rank.
pub fn write(comm: &Comm, path: &Path, piece: &Piece) -> Result<(), OutputError> {
    begin(comm, path, piece)?.finish()
}

/// Lays the file out, copies the piece and starts writing it in the background. Collective.
///
/// The file has its name, and readers see it, when [`Pending::finish`] returns.
///
/// # Errors
/// The same on every rank: arrays that do not fit together ([`OutputError::Shape`]), fields that
/// differ between ranks, a full disk, a directory that cannot be written, a failure in HDF5.
pub fn begin(comm: &Comm, path: &Path, piece: &Piece) -> Result<Pending, OutputError> {
    comm.agree(check(comm.rank(), piece))?;
    comm.agree(same_fields(comm, piece))?;

    let counts = [piece.points.len() as u64, piece.types.len() as u64, piece.connectivity.len() as u64];
    let counts = comm.all_gather(counts);
    let sum = |k: usize, end: usize| counts[..end].iter().map(|c| c[k]).sum::<u64>();
    let (ranks, rank) = (comm.size() as u64, comm.rank());
    let total = [sum(0, comm.size()), sum(1, comm.size()), sum(2, comm.size())];
    let first = [sum(0, rank), sum(1, rank), sum(2, rank)];

    let mut layout = Layout::new();
    layout.group("VTKHDF");
    layout.attribute("VTKHDF", "Version", Attribute::Integers(vec![1, 0]));
    layout.attribute("VTKHDF", "Type", Attribute::Text("UnstructuredGrid".to_owned()));
    let number_of = ["NumberOfPoints", "NumberOfCells", "NumberOfConnectivityIds"]
        .map(|name| layout.dataset(&format!("VTKHDF/{name}"), Element::I64, &[ranks]));
    let points = layout.dataset("VTKHDF/Points", Element::F64, &[total[0], 3]);
    let types = layout.dataset("VTKHDF/Types", Element::U8, &[total[1]]);
    let connectivity = layout.dataset("VTKHDF/Connectivity", Element::I64, &[total[2]]);
    let offsets = layout.dataset("VTKHDF/Offsets", Element::I64, &[total[1] + ranks]);
    let point_slots = field_slots(&mut layout, "VTKHDF/PointData", total[0], piece.point_fields);
    let cell_slots = field_slots(&mut layout, "VTKHDF/CellData", total[1], piece.cell_fields);

    let mut writer = hdf::create(comm, path, layout, false)?;
    for (slot, count) in number_of.into_iter().zip(counts[rank]) {
        writer.put(slot, rank as u64, Column::I64(vec![count as i64]));
    }
    writer.put(points, first[0], Column::F64(piece.points.as_flattened().to_vec()));
    writer.put(types, first[1], Column::U8(piece.types.to_vec()));
    writer.put(connectivity, first[2], Column::I64(piece.connectivity.iter().map(|&p| p.into()).collect()));
    let own_offsets = piece.offsets.iter().map(|&o| o as i64).collect();
    writer.put(offsets, first[1] + rank as u64, Column::I64(own_offsets));
    for (slots, fields, first) in
        [(point_slots, piece.point_fields, first[0]), (cell_slots, piece.cell_fields, first[1])]
    {
        for (slot, field) in slots.into_iter().zip(fields) {
            writer.put(slot, first, field.values.to_column());
        }
    }
    Ok(writer.start())
}

fn field_slots(layout: &mut Layout, group: &str, rows: u64, fields: &[Field]) -> Vec<SlotId> {
    layout.group(group);
    let slot = |field: &Field| {
        let name = format!("{group}/{}", field.name);
        let shape = [rows, field.components as u64];
        let shape = if field.components == 1 { &shape[..1] } else { &shape[..] };
        layout.dataset(&name, field.values.element(), shape)
    };
    fields.iter().map(slot).collect()
}

fn check(rank: usize, piece: &Piece) -> Result<(), OutputError> {
    let wrong = |what: String| Err(OutputError::Shape { rank, what });
    let (n_points, n_cells) = (piece.points.len(), piece.types.len());
    if piece.offsets.len() != n_cells + 1 {
        return wrong(format!("{} cell offsets for {n_cells} cells, expected one more", piece.offsets.len()));
    }
    if piece.offsets[0] != 0
        || piece.offsets[n_cells] != piece.connectivity.len() as u64
        || piece.offsets.windows(2).any(|o| o[0] > o[1])
    {
        return wrong("the cell offsets do not rise from 0 to the length of the connectivity".to_owned());
    }
    if let Some(point) = piece.connectivity.iter().find(|&&p| p as usize >= n_points) {
        return wrong(format!("a cell names point {point} of {n_points}"));
    }
    for (fields, rows, of) in [(piece.point_fields, n_points, "point"), (piece.cell_fields, n_cells, "cell")]
    {
        for (k, field) in fields.iter().enumerate() {
            let name = &field.name;
            if name.is_empty() || name.contains(['/', '.']) {
                return wrong(format!("`{name}` cannot name a field in an HDF5 file"));
            }
            if fields[..k].iter().any(|other| other.name == *name) {
                return wrong(format!("two {of} fields are named `{name}`"));
            }
            let (found, wanted) = (field.values.len(), rows * field.components);
            if field.components == 0 || found != wanted {
                return wrong(format!("the {of} field `{name}` has {found} entries, expected {wanted}"));
            }
        }
    }
    Ok(())
}

/// A rank without cells must still name every field, or the layout would differ between ranks.
fn same_fields(comm: &Comm, piece: &Piece) -> Result<(), OutputError> {
    let name = |f: &Field| format!("{}/{}/{:?}", f.name, f.components, f.values.element());
    let names = |fields: &[Field]| fields.iter().map(name).collect::<Vec<_>>().join(" ");
    let mine = format!("{} | {}", names(piece.point_fields), names(piece.cell_fields));
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
