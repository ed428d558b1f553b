//! Reads Gmsh meshes: MSH 2.2 and 4.1, ASCII and binary of either byte order.
//!
//! Imports `element`, `mesh::soup` and the crate `cluster`. Start at [`read`]; then `scan` (rank 0's way
//! through the sections), `text` and `binary` (nodes and elements), `deal` (how records reach the ranks)
//! and `finish` (groups). No rank holds the whole mesh: binary files are read by all ranks, each its share;
//! ASCII files are streamed by rank 0 in constant memory and dealt out.
//!
//! Source: the Gmsh reference manual, "Gmsh file formats", sections "MSH file format" and "MSH file format
//! version 2 (Legacy)".

mod binary;
pub mod count;
mod deal;
mod error;
mod finish;
mod periodic;
mod scan;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod types;

use std::path::Path;

use cluster::Comm;

use super::soup::Soup;
use binary::Layout;
use deal::{Dealer, Parts};
pub use error::{GmshError, Place};
use finish::Global;
use scan::Header;
use source::{CAPACITY, Source};

/// The greatest node or element number.
const MAX_ID: u64 = i64::MAX as u64;

/// Reads a mesh file. Collective.
///
/// Cells are the elements of the highest dimension; lower ones are kept where a physical group has them,
/// by their corners. An element that MSH 2.2 repeats for each of its groups stays repeated. That every
/// node exists once, and that cells have volume, is for the mesh builder to check. In binary files every
/// rank reads its share of the file, so all of them must see it; ASCII files only rank 0 opens.
///
/// # Errors
/// A file that cannot be read, is of another kind, damaged, cut short, split into partitions, or has
/// elements that are not supported: the same error on every rank.
pub fn read(comm: &Comm, path: &Path) -> Result<Soup, GmshError> {
    let _span = tracing::debug_span!("read msh").entered();
    let (scanned, mut parts) = if comm.is_root() {
        let mut dealer = Dealer::new(comm);
        let scanned = scan_file(path, CAPACITY, &mut dealer);
        (scanned.map(Some), dealer.finish())
    } else {
        (Ok(None), deal::follow(comm))
    };
    let (header, big) = share(comm, comm.agree(scanned)?);
    let layout = Layout { path: path.to_path_buf(), version: header.version, big };
    comm.agree(read_blocks(&layout, &header, comm.rank(), comm.size(), &mut parts))?;

    let mut counts: Vec<u64> = parts.elements.iter().map(|e| e.ids.len() as u64).collect();
    comm.sum_slice(&mut counts);
    let (mut keys, _) = comm.all_gather_varied(&finish::keys(&parts));
    keys.sort_unstable();
    keys.dedup();
    let max_node_id = comm.max(parts.node_ids.iter().copied().max().unwrap_or(0));
    finish::finish(path, &header, parts, &Global { counts, keys, max_node_id })
}

/// Reads what rank 0 must; the header, and whether numbers are big-endian.
fn scan_file(path: &Path, capacity: usize, sink: &mut Dealer) -> Result<(Header, bool), GmshError> {
    let mut source = Source::open(path, capacity)?;
    let header = scan::scan(&mut source, sink)?;
    Ok((header, source.big))
}

/// Gives every rank rank 0's header. Collective.
fn share(comm: &Comm, scanned: Option<(Header, bool)>) -> (Header, bool) {
    let (header, big) = scanned.unwrap_or_default();
    let Header { version, names, mut entities, unsupported, mut node_blocks, mut element_blocks } = header;
    let unsupported: Vec<((u8, i32), u64)> = unsupported.into_iter().collect();
    let described = comm.is_root().then_some((version, big, names, unsupported));
    let (version, big, names, unsupported) = comm.broadcast_value(0, described);
    comm.broadcast(0, &mut entities);
    comm.broadcast(0, &mut node_blocks);
    comm.broadcast(0, &mut element_blocks);
    let unsupported = unsupported.into_iter().collect();
    (Header { version, names, entities, unsupported, node_blocks, element_blocks }, big)
}

/// Reads a rank's share of the blocks that were not dealt out.
fn read_blocks(
    layout: &Layout,
    header: &Header,
    rank: usize,
    size: usize,
    parts: &mut Parts,
) -> Result<(), GmshError> {
    binary::read_share(layout, &header.node_blocks, rank, size, parts)?;
    binary::read_share(layout, &header.element_blocks, rank, size, parts)
}
