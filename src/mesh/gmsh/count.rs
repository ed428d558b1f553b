//! How many nodes and elements a file has, without keeping any of them and without MPI.
//!
//! Start at [`count`]. Of binary files only the headers of blocks are read; ASCII files are read to their end, in
//! constant memory, because nothing else says where their blocks lie.

use std::path::Path;

use super::deal::Sink;
use super::error::GmshError;
use super::source::{CAPACITY, Source};
use super::{scan, types};
use crate::element::{GeometryKind, Shape};

/// What a mesh file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCounts {
    /// Nodes, those of curved geometry among them.
    pub nodes: u64,
    /// Elements of supported types of any dimension.
    pub elements: Vec<(Shape, GeometryKind, u64)>,
    /// Whether it is text.
    pub ascii: bool,
}

/// Counts and forgets.
struct Counter {
    nodes: u64,
    by_type: [u64; types::N_TYPES],
}

impl Sink for Counter {
    fn expect(&mut self, _: u64) {}
    fn node_id(&mut self, _: u64, _: u64) {
        self.nodes += 1;
    }
    fn point(&mut self, _: u64, _: [f64; 3]) {}
    fn node(&mut self, _: u64, _: u64, _: [f64; 3]) {
        self.nodes += 1;
    }
    fn element(&mut self, _: u64, element_type: u8, _: i32, _: u64, _: &[u64]) {
        self.by_type[element_type as usize] += 1;
    }
    fn pair(&mut self, _: u64, _: u64, _: u64) {}
}

/// Counts the nodes and elements of a mesh file. Not collective.
///
/// An element that MSH 2.2 repeats for each of its groups counts as often.
///
/// # Errors
/// A file that cannot be read, is of another kind, damaged or cut short.
pub fn count(path: &Path) -> Result<FileCounts, GmshError> {
    let mut source = Source::open(path, CAPACITY)?;
    let mut counter = Counter { nodes: 0, by_type: [0; types::N_TYPES] };
    let header = scan::scan(&mut source, &mut counter)?;
    let Counter { mut nodes, mut by_type } = counter;
    nodes += header.node_blocks.iter().map(|block| block.n_records()).sum::<u64>();
    for block in &header.element_blocks {
        by_type[block.type_of() as usize] += block.n_records();
    }
    let elements = (0..types::N_TYPES as u8)
        .filter(|&t| by_type[t as usize] > 0)
        .filter_map(|t| {
            types::supported(t).map(|(shape, geometry, _)| (shape, geometry, by_type[t as usize]))
        })
        .collect();
    Ok(FileCounts { nodes, elements, ascii: !source.binary })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn mesh(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meshes").join(name)
    }

    #[test]
    fn every_test_mesh_has_nodes_and_cells() {
        let folder = std::fs::read_dir(mesh("")).expect("a folder");
        let mut seen = 0;
        for path in folder.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|e| e == "msh") {
                let Ok(found) = count(&path) else { continue };
                assert!(found.nodes > 0 && !found.elements.is_empty(), "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 1, "{seen} meshes were counted");
    }

    #[test]
    fn a_file_that_is_no_mesh_is_an_error() {
        assert!(count(&mesh("../../Cargo.toml")).is_err());
        assert!(count(&mesh("is-not-there.msh")).is_err());
    }
}
