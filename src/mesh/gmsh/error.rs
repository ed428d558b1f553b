//! What can be wrong with a Gmsh file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A line of an ASCII file, from 1.
    Line(u64),
    /// A byte of a binary file, from 0.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

/// Why a Gmsh file could not be read. Travels between ranks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GmshError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {reason}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        action: String,
        /// The system's words.
        reason: String,
    },
    /// Another kind of file.
    #[error("{}: not a Gmsh mesh: it begins with {found}, expected $MeshFormat", file.display())]
    NotGmsh {
        /// The file.
        file: PathBuf,
        /// Its beginning.
        found: String,
    },
    /// A version of the format that is not read.
    #[error(
        "{}: MSH format {version}: only 2.2 and 4.1 are read; convert it with `gmsh -save -format msh41 -o new.msh {}`",
        file.display(), file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: String,
    },
    /// Something that does not belong there.
    #[error("{}, {place}: {section}: expected {expected}, found {found}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The section.
        section: String,
        /// What the format asks for.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The file ends within a section.
    #[error("{}, {place}: the file ends within {section}, expected {expected}: it was cut short", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The section.
        section: String,
        /// What the format asks for.
        expected: String,
    },
    /// A count that the rest of the file has no room for.
    #[error("{}, {place}: {section}: {count} {what} do not fit in the {room} bytes that follow", file.display())]
    Count {
        /// The file.
        file: PathBuf,
        /// Where.
        place: Place,
        /// The section.
        section: String,
        /// Of what.
        what: String,
        /// How many.
        count: u64,
        /// The bytes left in the file.
        room: u64,
    },
    /// A section is missing.
    #[error("{}: no {section} section", file.display())]
    MissingSection {
        /// The file.
        file: PathBuf,
        /// Its name.
        section: String,
    },
    /// A mesh that Gmsh split into partitions.
    #[error(
        "{}: the mesh was partitioned by Gmsh ({section}): save it unpartitioned, femdd partitions it for the \
         ranks it runs on", file.display()
    )]
    Partitioned {
        /// The file.
        file: PathBuf,
        /// The section that shows it.
        section: String,
    },
    /// Elements that are not supported.
    #[error("{}: {elements} not supported; cells may be {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Their kinds and counts.
        elements: String,
        /// What is supported instead.
        supported: String,
    },
    /// No elements of dimension 1 or more.
    #[error(
        "{}: no cells, only {n_points} points: if the model has physical groups Gmsh saves grouped elements \
         only, so group the body too", file.display()
    )]
    NoCells {
        /// The file.
        file: PathBuf,
        /// The number of point elements.
        n_points: u64,
    },
    /// More groups than 16-bit numbers hold.
    #[error("{}: {n} physical groups or combinations of them: at most 65535 are supported", file.display())]
    TooManyGroups {
        /// The file.
        file: PathBuf,
        /// How many.
        n: u64,
    },
}

impl GmshError {
    /// The file it is about.
    pub fn file(&self) -> &Path {
        match self {
            GmshError::Io { file, .. }
            | GmshError::NotGmsh { file, .. }
            | GmshError::Version { file, .. }
            | GmshError::Syntax { file, .. }
            | GmshError::Truncated { file, .. }
            | GmshError::Count { file, .. }
            | GmshError::MissingSection { file, .. }
            | GmshError::Partitioned { file, .. }
            | GmshError::Unsupported { file, .. }
            | GmshError::NoCells { file, .. }
            | GmshError::TooManyGroups { file, .. } => file,
        }
    }

    /// Where in the file, if it is about one place.
    pub fn place(&self) -> Option<Place> {
        match self {
            GmshError::Syntax { place, .. }
            | GmshError::Truncated { place, .. }
            | GmshError::Count { place, .. } => Some(*place),
            _ => None,
        }
    }

    /// What the operating system said when `action` was tried.
    pub(super) fn io(file: &Path, action: &str, error: &std::io::Error) -> Self {
        GmshError::Io { file: file.to_path_buf(), action: action.to_string(), reason: error.to_string() }
    }
}
