//! Reading back what [`super::create`] laid out.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cluster::Comm;
use hdf5::dataset::Layout as Storage;
use hdf5::types::{FixedAscii, TypeDescriptor};
use serde::{Deserialize, Serialize};

use super::{Attribute, Column, Element, Slot};
use crate::output::OutputError;

/// A file open for reading on every rank.
pub struct Reader {
    path: PathBuf,
    file: File,
    slots: BTreeMap<String, Slot>,
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    slots: BTreeMap<String, Slot>,
    attributes: BTreeMap<String, Attribute>,
}

/// Opens a file written by [`super::create`]. Collective.
///
/// Only contiguous datasets of the types in [`Element`] and the attributes of the root are seen.
///
/// # Errors
/// The same on every rank: a file that is missing, not HDF5, or cut short.
pub fn open(comm: &Comm, path: &Path) -> Result<Reader, OutputError> {
    let mine = comm.is_root().then(|| survey(path));
    let Contents { slots, attributes } = comm.broadcast_value(0, mine)?;
    let file = super::open_retrying(path, OpenOptions::new().read(true))
        .map_err(|e| OutputError::from_read(path, &e));
    let file = comm.agree(file)?;
    Ok(Reader { path: path.to_path_buf(), file, slots, attributes })
}

/// Opens a file on one process, without MPI; otherwise as [`open`].
///
/// # Errors
/// As [`open`].
pub fn open_alone(path: &Path) -> Result<Reader, OutputError> {
    let Contents { slots, attributes } = survey(path)?;
    let file = File::open(path).map_err(|e| OutputError::from_read(path, &e))?;
    Ok(Reader { path: path.to_path_buf(), file, slots, attributes })
}

fn survey(path: &Path) -> Result<Contents, OutputError> {
    let length = std::fs::metadata(path).map_err(|e| OutputError::from_read(path, &e))?.len();
    let contents = list(path).map_err(|e| OutputError::Hdf5 {
        path: path.to_path_buf(),
        action: "open the file".to_owned(),
        reason: e.to_string(),
    })?;
    for slot in contents.slots.values() {
        if slot.offset.is_some_and(|offset| offset.saturating_add(slot.bytes()) > length) {
            let what = format!("{} reaches past the end of the file", slot.name);
            return Err(OutputError::Corrupt { path: path.to_path_buf(), what });
        }
    }
    Ok(contents)
}

fn list(path: &Path) -> hdf5::Result<Contents> {
    let file = hdf5::File::open(path)?;
    let mut contents = Contents { slots: BTreeMap::new(), attributes: BTreeMap::new() };
    for name in file.attr_names()? {
        let attribute = file.attr(&name)?;
        let value = match attribute.dtype()?.to_descriptor()? {
            TypeDescriptor::Integer(_) => Attribute::Integers(attribute.read_raw::<i64>()?),
            TypeDescriptor::FixedAscii(n) if n <= 64 => {
                Attribute::Text(attribute.read_scalar::<FixedAscii<64>>()?.as_str().to_owned())
            }
            _ => continue,
        };
        contents.attributes.insert(name, value);
    }
    let mut groups = vec![file.as_group()?];
    while let Some(group) = groups.pop() {
        groups.extend(group.groups()?);
        for dataset in group.datasets()? {
            let Some(element) = Element::from_descriptor(&dataset.dtype()?.to_descriptor()?) else {
                continue;
            };
            if dataset.layout() != Storage::Contiguous {
                continue;
            }
            let name = dataset.name().trim_start_matches('/').to_owned();
            let shape = dataset.shape().iter().map(|&n| n as u64).collect();
            let slot = Slot { name: name.clone(), element, shape, offset: dataset.offset(), same: None };
            contents.slots.insert(name, slot);
        }
    }
    Ok(contents)
}

impl Reader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An attribute of the root.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    /// A dataset.
    ///
    /// # Errors
    /// When the file has none of that name, element type and row length: it is then not of the kind
    /// the caller takes it for.
    pub fn slot(&self, name: &str, element: Element, row: u64) -> Result<&Slot, OutputError> {
        let what = match self.slots.get(name) {
            None => format!("the dataset {name} is missing"),
            Some(slot) if slot.element != element => {
                format!("the dataset {name} holds {:?}, not {element:?}", slot.element)
            }
            Some(slot) if slot.row() != row => {
                format!("the dataset {name} has {} entries a row, not {row}", slot.row())
            }
            Some(slot) => return Ok(slot),
        };
        Err(OutputError::Format { path: self.path.clone(), what })
    }

    /// Reads rows `first..first + n` of a dataset. Not collective.
    ///
    /// # Errors
    /// When rows lie past the end or the system fails.
    pub fn read(&self, slot: &Slot, first: u64, n: u64) -> Result<Column, OutputError> {
        // Saturating: the numbers may come from a damaged file.
        let (begin, n) = (first.saturating_mul(slot.row()), n.saturating_mul(slot.row()));
        if begin.saturating_add(n) > slot.len() {
            let what = format!("{} has fewer rows than the file says elsewhere", slot.name);
            return Err(OutputError::Corrupt { path: self.path.clone(), what });
        }
        let mut column = Column::zeroed(slot.element, n as usize);
        if n > 0 {
            let offset = slot.offset.ok_or_else(|| OutputError::Corrupt {
                path: self.path.clone(),
                what: format!("{} was never written", slot.name),
            })?;
            let at = offset + begin * slot.element.size() as u64;
            self.file
                .read_exact_at(column.bytes_mut(), at)
                .map_err(|e| OutputError::from_read(&self.path, &e))?;
        }
        Ok(column)
    }
}
