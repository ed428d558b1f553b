//! Reads `solution.hdf` back, partition by partition and piece by piece.
//!
//! Imports its parent's errors. Start at [`Grid::open`]. Any VTKHDF file of an unstructured grid will do: nothing
//! is taken for granted that a damaged or foreign file might lack.

use std::ops::Range;
use std::path::{Path, PathBuf};

use hdf5::types::TypeDescriptor;
use hdf5::{Dataset, H5Type, Hyperslab, SliceOrIndex};

use crate::output::OutputError;

/// Rows read at a time.
const ROWS: usize = 1 << 16;

/// A field of the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldOf {
    pub(super) name: String,
    pub(super) components: usize,
}

/// Where the parts of a partition lie in the arrays of the file.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub(super) points: Range<usize>,
    pub(super) cells: Range<usize>,
    corners: Range<usize>,
    /// Its first row in the offsets, which have one more than cells.
    offsets: usize,
}

/// A solution on the disk.
pub(super) struct Grid {
    path: PathBuf,
    file: hdf5::File,
    pub(super) partitions: Vec<Partition>,
    pub(super) fields: Vec<FieldOf>,
}

/// Some cells: types, and where the corners of each end.
pub(super) struct CellsOf {
    /// The first of them, numbered within the partition.
    pub(super) first: usize,
    pub(super) types: Vec<u8>,
    ends: Vec<usize>,
    corners: Vec<u32>,
}

impl CellsOf {
    /// The points of a cell, by its place among these.
    pub(super) fn corners(&self, k: usize) -> &[u32] {
        let first = if k == 0 { 0 } else { self.ends[k - 1] };
        &self.corners[first..self.ends[k]]
    }
}

impl Grid {
    /// Opens a file and reads the sizes of its partitions.
    ///
    /// # Errors
    /// A file that is missing, not HDF5, or no unstructured grid.
    pub(super) fn open(path: &Path) -> Result<Grid, OutputError> {
        let path_buf = path.to_path_buf();
        let fail = |e: hdf5::Error| hdf5_error(path, "open the file", &e);
        let file = hdf5::File::open(path).map_err(fail)?;
        let mut grid = Grid { path: path_buf, file, partitions: Vec::new(), fields: Vec::new() };
        let sizes = ["NumberOfPoints", "NumberOfCells", "NumberOfConnectivityIds"];
        let mut counts: Vec<Vec<usize>> = Vec::new();
        for name in sizes {
            let dataset = grid.dataset(name)?;
            let read = dataset.read_raw::<i64>().map_err(|e| grid.failed("read", &e))?;
            let count =
                |&n: &i64| usize::try_from(n).map_err(|_| grid.damaged(format!("{name} is negative")));
            counts.push(read.iter().map(count).collect::<Result<_, _>>()?);
        }
        if counts[1].len() != counts[0].len() || counts[2].len() != counts[0].len() {
            return Err(grid.damaged("its partitions are not counted alike".to_owned()));
        }
        let mut first = [0; 3];
        for p in 0..counts[0].len() {
            let mut range = |k: usize| {
                let begin = first[k];
                first[k] += counts[k][p];
                begin..first[k]
            };
            let (points, cells, corners) = (range(0), range(1), range(2));
            let offsets = cells.start + p;
            grid.partitions.push(Partition { points, cells, corners, offsets });
        }
        grid.fields = grid.list_fields()?;
        Ok(grid)
    }

    fn list_fields(&self) -> Result<Vec<FieldOf>, OutputError> {
        let Ok(group) = self.file.group("VTKHDF/PointData") else { return Ok(Vec::new()) };
        let mut fields = Vec::new();
        for dataset in group.datasets().map_err(|e| self.failed("list the fields", &e))? {
            let name = dataset.name();
            let name = name.rsplit('/').next().unwrap_or("").to_owned();
            let components = dataset.shape().get(1).copied().unwrap_or(1);
            let number = matches!(
                dataset.dtype().and_then(|t| t.to_descriptor()),
                Ok(TypeDescriptor::Float(_) | TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_))
            );
            if number && !dataset.shape().is_empty() {
                fields.push(FieldOf { name, components });
            }
        }
        Ok(fields)
    }

    /// The number of cells of all partitions.
    pub(super) fn n_cells(&self) -> usize {
        self.partitions.last().map_or(0, |p| p.cells.end)
    }

    /// Hands all coordinates of a partition over, three a point, some at a time.
    ///
    /// # Errors
    /// What HDF5 says.
    pub(super) fn points(&self, of: &Partition, mut take: impl FnMut(&[f64])) -> Result<(), OutputError> {
        let dataset = self.dataset("Points")?;
        for rows in pieces(&of.points) {
            take(&self.rows::<f64>(&dataset, rows, 3)?);
        }
        Ok(())
    }

    /// Hands a field of a partition over: the value of a scalar, the magnitude of a vector.
    ///
    /// # Errors
    /// What HDF5 says.
    pub(super) fn field(
        &self,
        of: &Partition,
        field: &FieldOf,
        mut take: impl FnMut(&[f64]),
    ) -> Result<(), OutputError> {
        let dataset = self.dataset(&format!("PointData/{}", field.name))?;
        for rows in pieces(&of.points) {
            let mut values = self.rows::<f64>(&dataset, rows, field.components)?;
            if field.components > 1 {
                values = values
                    .chunks_exact(field.components)
                    .map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt())
                    .collect();
            }
            take(&values);
        }
        Ok(())
    }

    /// Hands the cells of a partition over, some at a time.
    ///
    /// # Errors
    /// What HDF5 says; cells whose corners are not there.
    pub(super) fn cells(
        &self,
        of: &Partition,
        mut take: impl FnMut(&CellsOf) -> Result<(), OutputError>,
    ) -> Result<(), OutputError> {
        let [types, offsets, connectivity] =
            ["Types", "Offsets", "Connectivity"].map(|name| self.dataset(name));
        let (types, offsets, connectivity) = (types?, offsets?, connectivity?);
        for cells in pieces(&of.cells) {
            let first = cells.start - of.cells.start;
            let from = of.offsets + first;
            let ends = self.rows::<i64>(&offsets, from..from + cells.len() + 1, 1)?;
            let ordered = ends[0] >= 0 && ends.windows(2).all(|w| w[0] <= w[1]);
            if !ordered || *ends.last().unwrap_or(&0) > of.corners.len() as i64 {
                return Err(self.damaged("the offsets of its cells are out of order".to_owned()));
            }
            let begin = of.corners.start + ends[0] as usize;
            let end = of.corners.start + ends[cells.len()] as usize;
            let corners = self.rows::<i64>(&connectivity, begin..end, 1)?;
            if corners.iter().any(|&c| c < 0 || c as usize >= of.points.len()) {
                return Err(self.damaged("a cell names a point that is not there".to_owned()));
            }
            take(&CellsOf {
                first,
                types: self.rows::<u8>(&types, cells, 1)?,
                ends: ends[1..].iter().map(|&e| (e - ends[0]) as usize).collect(),
                corners: corners.iter().map(|&c| c as u32).collect(),
            })?;
        }
        Ok(())
    }

    fn dataset(&self, name: &str) -> Result<Dataset, OutputError> {
        self.file.dataset(&format!("VTKHDF/{name}")).map_err(|_| OutputError::Format {
            path: self.path.clone(),
            what: format!("it holds no VTKHDF/{name}"),
        })
    }

    fn rows<T: H5Type>(
        &self,
        dataset: &Dataset,
        rows: Range<usize>,
        width: usize,
    ) -> Result<Vec<T>, OutputError> {
        let shape = dataset.shape();
        let columns = shape.get(1).copied().unwrap_or(1);
        if shape.first().is_none_or(|&n| rows.end > n) || columns != width || shape.len() > 2 {
            return Err(self.damaged(format!("{} is not of the size it should be", dataset.name())));
        }
        let mut slab = vec![SliceOrIndex::from(rows)];
        if shape.len() == 2 {
            slab.push(SliceOrIndex::from(0..columns));
            let read =
                dataset.read_slice_2d::<T, _>(Hyperslab::from(slab)).map_err(|e| self.failed("read", &e))?;
            return Ok(read.into_iter().collect());
        }
        let read =
            dataset.read_slice_1d::<T, _>(Hyperslab::from(slab)).map_err(|e| self.failed("read", &e))?;
        Ok(read.into_iter().collect())
    }

    fn failed(&self, action: &str, error: &hdf5::Error) -> OutputError {
        hdf5_error(&self.path, action, error)
    }

    fn damaged(&self, what: String) -> OutputError {
        OutputError::Corrupt { path: self.path.clone(), what }
    }
}

fn hdf5_error(path: &Path, action: &str, error: &hdf5::Error) -> OutputError {
    OutputError::Hdf5 { path: path.to_path_buf(), action: action.to_owned(), reason: error.to_string() }
}

/// A range in pieces.
fn pieces(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let Range { start, end } = *range;
    (start..end).step_by(ROWS).map(move |first| first..(first + ROWS).min(end))
}
