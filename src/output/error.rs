//! What can go wrong while a run's files are written or read.

use std::io;
use std::path::{Path, PathBuf};

use cluster::words;
use serde::{Deserialize, Serialize};

/// Why a file could not be written or read back.
///
/// Serialisable, so that `Comm::agree` can hand the first failing rank's error to every rank.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OutputError {
    /// The file system, or this user's quota on it, has no room.
    #[error("{}: no space left on the device: {} needed{}", path.display(), words::bytes(*needed), free(*available))]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// The bytes the whole file takes.
        needed: u64,
        /// The bytes that were free, where the system says so.
        available: Option<u64>,
    },
    /// The directory is missing, is read-only, or belongs to someone else.
    #[error("{}: cannot be written: {reason}", path.display())]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The output directory holds files that femdd did not write.
    #[error(
        "{}: the output directory is not empty and holds no run.json of femdd: choose another with --output, or empty it",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Any other failure of the operating system.
    #[error("{}: {action} failed: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: String,
        /// The system's words.
        reason: String,
    },
    /// HDF5 refused.
    #[error("{}: HDF5 could not {action}: {reason}", path.display())]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: String,
        /// HDF5's words.
        reason: String,
    },
    /// The file is damaged, cut short, or was changed after femdd wrote it.
    #[error("{}: damaged: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which part of it, and how that shows.
        what: String,
    },
    /// The file is sound but not of the kind or version that was asked for.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is, and what was expected.
        what: String,
    },
    /// The arrays handed over do not fit together: an error of the caller.
    #[error("rank {rank}: {what}")]
    Shape {
        /// The rank that holds them.
        rank: usize,
        /// What does not fit.
        what: String,
    },
}

impl OutputError {
    /// A failure of the operating system, told apart by what a user can do about it.
    ///
    /// `needed` is the size of the whole file, for the message when the disk is full.
    pub fn from_io(path: &Path, action: &str, needed: u64, error: &io::Error) -> Self {
        let path = path.to_path_buf();
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                let available = super::hdf::free_bytes(&path);
                OutputError::DiskFull { path, needed, available }
            }
            Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOENT | libc::ENOTDIR | libc::EISDIR) => {
                OutputError::NotWritable { path, reason: error.to_string() }
            }
            _ => OutputError::Io { path, action: action.to_owned(), reason: error.to_string() },
        }
    }

    /// As [`OutputError::from_io`], for a file that is only read.
    pub fn from_read(path: &Path, error: &io::Error) -> Self {
        OutputError::Io { path: path.to_path_buf(), action: "reading".to_owned(), reason: error.to_string() }
    }

    /// A short name of the kind of failure, for `error.kind` in run.json.
    pub fn kind(&self) -> &'static str {
        match self {
            OutputError::DiskFull { .. } => "disk-full",
            OutputError::NotWritable { .. } => "not-writable",
            OutputError::NotOurs { .. } => "output-directory",
            OutputError::Io { .. } => "io",
            OutputError::Hdf5 { .. } => "hdf5",
            OutputError::Corrupt { .. } => "corrupt-file",
            OutputError::Format { .. } => "file-format",
            OutputError::Shape { .. } => "bug",
        }
    }

    /// The file concerned.
    pub fn path(&self) -> Option<&Path> {
        match self {
            OutputError::DiskFull { path, .. }
            | OutputError::NotWritable { path, .. }
            | OutputError::NotOurs { path }
            | OutputError::Io { path, .. }
            | OutputError::Hdf5 { path, .. }
            | OutputError::Corrupt { path, .. }
            | OutputError::Format { path, .. } => Some(path),
            OutputError::Shape { .. } => None,
        }
    }
}

fn free(available: Option<u64>) -> String {
    available.map_or_else(String::new, |bytes| format!(", {} free", words::bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_how_much_is_needed() {
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = OutputError::from_io(Path::new("/nowhere/solution.hdf"), "writing", 3 << 20, &error);
        assert_eq!(error.kind(), "disk-full");
        let text = error.to_string();
        assert!(text.contains("/nowhere/solution.hdf") && text.contains("3.0 MiB needed"), "{text}");
    }

    #[test]
    fn survives_the_way_between_ranks() {
        let error = OutputError::Corrupt { path: "a.h5".into(), what: "cells/0/nodes".into() };
        let text = serde_json::to_string(&error).expect("serialises");
        assert_eq!(serde_json::from_str::<OutputError>(&text).expect("reads back"), error);
    }
}
