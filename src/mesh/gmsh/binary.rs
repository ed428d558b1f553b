//! Nodes and elements of binary files: blocks of records of one length.
//!
//! Rank 0 walks the headers of the blocks by seeks and lists them; every rank then reads its equal share
//! of all records by positioned reads ([`read_share`]). Where blocks are so small that the list would
//! weigh as much as the mesh (older Gmsh writes a header for each element of MSH 2.2), rank 0 reads and
//! deals out the records instead.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};

use super::deal::{Sink, share_begin};
use super::error::{GmshError, Place};
use super::scan::Header;
use super::source::{CAPACITY, Result, Source};
use super::types;

const NODE_NUMBER: &str = "a node number (1 or more)";
const ELEMENT_NUMBER: &str = "an element number (1 or more)";

/// Up to this many blocks are listed, and one more for each `RECORDS_PER_BLOCK` records: then the list
/// takes less than a byte a record.
const FREE_BLOCKS: u64 = 4096;
const RECORDS_PER_BLOCK: u64 = 64;

/// The most tags an element may have. Gmsh writes 2, and one for each partition that has it.
const MAX_TAGS: i32 = 1000;

/// Consecutive records of one length.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Block {
    /// Where the records begin in the file.
    offset: u64,
    /// How many there are.
    count: u64,
    /// The number of records in the blocks before.
    first: u64,
    /// The elements' type; 0 for nodes.
    element_type: i32,
    /// The tag of the elements' entity. MSH 4.
    key: i32,
    /// Nodes: parametric coordinates of each. Elements of MSH 2: tags of each.
    extra: i32,
    padding: i32,
}

impl Block {
    /// How many records there are.
    pub(super) fn n_records(&self) -> u64 {
        self.count
    }

    /// The elements' type; 0 for nodes.
    pub(super) fn type_of(&self) -> u8 {
        self.element_type as u8
    }
}

/// What is done with a piece of a file: its bytes, where they stand, the number of the first record.
type Take<'a> = dyn FnMut(&[u8], u64, u64) -> Result<()> + 'a;

/// How records are stored.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub path: PathBuf,
    pub version: u8,
    pub big: bool,
}

impl Layout {
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let bytes = bytes[at..at + 4].try_into().expect("4 bytes");
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u64(&self, bytes: &[u8], at: usize) -> u64 {
        let bytes = bytes[at..at + 8].try_into().expect("8 bytes");
        if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
    }

    /// The bytes of a record; of a node of MSH 4 those of its coordinates, its number stands apart.
    fn stride(&self, block: &Block) -> usize {
        let extra = block.extra as usize;
        match (self.version, block.element_type) {
            (2, 0) => 4 + 3 * 8,
            (_, 0) => (3 + extra) * 8,
            (2, t) => 4 * (1 + extra + types::n_nodes(t as u8)),
            (_, t) => 8 * (1 + types::n_nodes(t as u8)),
        }
    }

    fn is_node_4(&self, block: &Block) -> bool {
        self.version == 4 && block.element_type == 0
    }

    /// The bytes of a whole block. Checked against the file's size when the block was made.
    fn bytes(&self, block: &Block) -> u64 {
        let apart = if self.is_node_4(block) { 8 } else { 0 };
        block.count * (self.stride(block) as u64 + apart)
    }

    fn error(&self, block: &Block, byte: u64, expected: &str, found: String) -> GmshError {
        GmshError::Syntax {
            file: self.path.clone(),
            place: Place::Byte(byte),
            section: if block.element_type == 0 { "$Nodes" } else { "$Elements" }.to_string(),
            expected: expected.to_string(),
            found,
        }
    }

    /// A node or element number: 32 bits in MSH 2, 64 in MSH 4.
    fn identifier(&self, block: &Block, bytes: &[u8], at: usize, byte: u64, expected: &str) -> Result<u64> {
        let id = if self.version == 2 {
            i64::from(self.u32(bytes, at) as i32)
        } else {
            self.u64(bytes, at) as i64
        };
        if id < 1 {
            return Err(self.error(block, byte + at as u64, expected, id.to_string()));
        }
        Ok(id as u64)
    }

    fn point(&self, block: &Block, bytes: &[u8], at: usize, byte: u64) -> Result<[f64; 3]> {
        let x: [f64; 3] = std::array::from_fn(|d| f64::from_bits(self.u64(bytes, at + 8 * d)));
        match x.iter().find(|x| !x.is_finite()) {
            None => Ok(x),
            Some(bad) => Err(self.error(block, byte + at as u64, "finite coordinates", bad.to_string())),
        }
    }

    /// All of a piece's 64-bit numbers, unless one of them is none of a node or an element: then records are
    /// looked at one by one, to say where.
    fn numbers(&self, bytes: &[u8]) -> Option<Vec<u64>> {
        let words = bytes.chunks_exact(8).map(|word| word.try_into().expect("8 bytes"));
        let words: Vec<u64> = match self.big {
            true => words.map(u64::from_be_bytes).collect(),
            false => words.map(u64::from_le_bytes).collect(),
        };
        let least = words.iter().fold(i64::MAX, |least, &word| least.min(word as i64));
        (least >= 1).then_some(words)
    }

    /// Node numbers of MSH 4: `bytes` stands at `byte` of the file, its first record is number `index`.
    fn node_ids(
        &self,
        block: &Block,
        bytes: &[u8],
        byte: u64,
        index: u64,
        sink: &mut impl Sink,
    ) -> Result<()> {
        if let Some(ids) = self.numbers(bytes) {
            sink.node_ids(index, &ids);
            return Ok(());
        }
        for k in 0..bytes.len() / 8 {
            sink.node_id(index + k as u64, self.identifier(block, bytes, 8 * k, byte, NODE_NUMBER)?);
        }
        Ok(())
    }

    /// Records: coordinates, nodes of MSH 2, or elements. As [`Layout::node_ids`].
    fn records(
        &self,
        block: &Block,
        bytes: &[u8],
        byte: u64,
        mut index: u64,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let stride = self.stride(block);
        if self.version == 4
            && block.element_type != 0
            && let Some(words) = self.numbers(bytes)
        {
            sink.elements(index, block.element_type as u8, block.key, &words);
            return Ok(());
        }
        let mut nodes = [0; types::MAX_NODES];
        let nodes = &mut nodes[..types::n_nodes(block.element_type as u8)];
        // Element records: number, tags, nodes; each number of this many bytes.
        let (width, n_tags) = if self.version == 2 { (4, block.extra as usize) } else { (8, 0) };
        for (k, record) in bytes.chunks_exact(stride).enumerate() {
            let byte = byte + (k * stride) as u64;
            if self.is_node_4(block) {
                sink.point(index, self.point(block, record, 0, byte)?);
            } else if block.element_type == 0 {
                let id = self.identifier(block, record, 0, byte, NODE_NUMBER)?;
                sink.node(index, id, self.point(block, record, 4, byte)?);
            } else {
                let id = self.identifier(block, record, 0, byte, ELEMENT_NUMBER)?;
                for (n, node) in nodes.iter_mut().enumerate() {
                    *node = self.identifier(block, record, (1 + n_tags + n) * width, byte, NODE_NUMBER)?;
                }
                let key = if n_tags > 0 { self.u32(record, 4) as i32 } else { block.key };
                sink.element(index, block.element_type as u8, key, id, nodes);
            }
            index += 1;
        }
        Ok(())
    }

    /// Reads the records `range` of a block by positioned reads of bounded size.
    fn read(&self, file: &File, block: &Block, range: Range<u64>, sink: &mut impl Sink) -> Result<()> {
        let mut chunk = Vec::new();
        let mut pieces = |begin: u64, stride: usize, take: &mut Take<'_>| {
            let mut next = range.start;
            while next < range.end {
                let n = (range.end - next).min((CAPACITY / stride) as u64);
                chunk.resize(n as usize * stride, 0);
                let byte = begin + next * stride as u64;
                let read = file.read_exact_at(&mut chunk, byte);
                read.map_err(|e| GmshError::io(&self.path, &format!("read at byte {byte}"), &e))?;
                take(&chunk, byte, block.first + next)?;
                next += n;
            }
            Ok(())
        };
        let mut begin = block.offset;
        if self.is_node_4(block) {
            pieces(begin, 8, &mut |bytes, byte, index| self.node_ids(block, bytes, byte, index, sink))?;
            begin += 8 * block.count;
        }
        pieces(begin, self.stride(block), &mut |bytes, byte, index| {
            self.records(block, bytes, byte, index, sink)
        })
    }

    /// Reads a whole block, small ones through the source's buffer.
    fn stream(&self, source: &mut Source, block: &Block, sink: &mut impl Sink) -> Result<()> {
        let size = self.bytes(block);
        if size > (CAPACITY / 16) as u64 {
            self.read(&source.file, block, 0..block.count, sink)?;
            source.seek(block.offset + size);
            return Ok(());
        }
        let bytes = source.bytes(size as usize, "records")?;
        let ids = if self.is_node_4(block) { 8 * block.count as usize } else { 0 };
        self.node_ids(block, &bytes[..ids], block.offset, block.first, sink)?;
        self.records(block, &bytes[ids..], block.offset + ids as u64, block.first, sink)
    }
}

/// Reads this rank's share of the records of `blocks`. Not collective.
pub(super) fn read_share(
    layout: &Layout,
    blocks: &[Block],
    rank: usize,
    size: usize,
    sink: &mut impl Sink,
) -> Result<()> {
    let n = blocks.iter().map(|b| b.count).sum();
    let share = share_begin(n, rank, size)..share_begin(n, rank + 1, size);
    if share.is_empty() {
        return Ok(());
    }
    let path: &Path = &layout.path;
    let file = File::open(path).map_err(|e| GmshError::io(path, "open", &e))?;
    let mut begin = 0;
    let mut coming = [0usize; types::N_TYPES];
    for block in blocks {
        let end = begin + block.count;
        let n = share.end.min(end).saturating_sub(share.start.max(begin));
        coming[block.element_type as usize] += n as usize;
        begin = end;
    }
    coming.iter().zip(0..).filter(|n| *n.0 > 0).for_each(|(&n, element_type)| sink.reserve(element_type, n));
    let mut begin = 0;
    for block in blocks {
        let end = begin + block.count;
        let (from, to) = (share.start.max(begin), share.end.min(end));
        if from < to {
            layout.read(&file, block, from - begin..to - begin, sink)?;
        }
        begin = end;
    }
    Ok(())
}

/// What is left of a section's blocks.
#[derive(Clone)]
struct Walk {
    elements: bool,
    /// Records in all, and in the blocks so far.
    n: u64,
    first: u64,
    /// Blocks left. MSH 2 has no such count: its blocks end with the records.
    n_blocks: u64,
}

impl Walk {
    /// The header of the next block; the source stands at its records then.
    fn next(&mut self, source: &mut Source, layout: &Layout) -> Result<Option<Block>> {
        let done = if layout.version == 2 { self.first == self.n } else { self.n_blocks == 0 };
        if done {
            let what = if self.elements { "elements" } else { "nodes" };
            if self.first != self.n {
                let expected = format!("{} {what}, as the section's header says", self.n);
                return Err(source.syntax_found(&expected, format!("{} in its blocks", self.first)));
            }
            return Ok(None);
        }
        self.n_blocks = self.n_blocks.saturating_sub(1);
        let mut block = match (self.elements, layout.version) {
            (true, 2) => elements_2(source)?,
            (true, _) => elements_4(source)?,
            _ => nodes_4(source)?,
        };
        block.first = self.first;
        block.offset = source.offset();
        if block.count > self.n - self.first {
            let expected =
                format!("at most {} records, what is left of the section's {}", self.n - self.first, self.n);
            return Err(source.syntax_found(&expected, format!("a block of {}", block.count)));
        }
        let apart = if layout.is_node_4(&block) { 8 } else { 0 };
        let what = if self.elements { "elements" } else { "nodes" };
        source.check_count(block.count, what, layout.stride(&block) as u64 + apart)?;
        self.first += block.count;
        Ok(Some(block))
    }
}

fn block(element_type: u8, count: u64, key: i32, extra: i32) -> Block {
    Block { offset: 0, count, first: 0, element_type: i32::from(element_type), key, extra, padding: 0 }
}

fn nodes_4(source: &mut Source) -> Result<Block> {
    let dim = source.int("the dimension of the block's entity")?;
    if !(0..=3).contains(&dim) {
        return Err(source.syntax_found("a dimension from 0 to 3", dim.to_string()));
    }
    let tag = source.int("the tag of the block's entity")?;
    let parametric = source.int("0, or 1 for parametric nodes")?;
    if !(0..=1).contains(&parametric) {
        return Err(source.syntax_found("0, or 1 for parametric nodes", parametric.to_string()));
    }
    let count = source.size("nodes", 32)?;
    Ok(block(0, count, tag, parametric * dim))
}

fn element_type(source: &mut Source) -> Result<u8> {
    const EXPECTED: &str = "an element type with a fixed number of nodes";
    let value = source.int(EXPECTED)?;
    types::known(i64::from(value)).ok_or_else(|| source.syntax_found(EXPECTED, value.to_string()))
}

fn elements_4(source: &mut Source) -> Result<Block> {
    let dim = source.int("the dimension of the block's entity")?;
    let tag = source.int("the tag of the block's entity")?;
    let element_type = element_type(source)?;
    if dim != types::dim(element_type) as i32 {
        let expected = format!("an entity of the dimension of {} elements", types::describe(element_type));
        return Err(source.syntax_found(&expected, format!("dimension {dim}")));
    }
    let count = source.size("elements", 16)?;
    Ok(block(element_type, count, tag, 0))
}

fn elements_2(source: &mut Source) -> Result<Block> {
    let element_type = element_type(source)?;
    let count = source.int("the number of elements that follow")?;
    if count < 1 {
        return Err(source.syntax_found("the number of elements that follow", count.to_string()));
    }
    let n_tags = source.int("the number of tags")?;
    if !(0..=MAX_TAGS).contains(&n_tags) {
        return Err(source.syntax_found(&format!("at most {MAX_TAGS} tags"), n_tags.to_string()));
    }
    Ok(block(element_type, count as u64, 0, n_tags))
}

/// The section's blocks, the source standing behind them. None where they were dealt out.
fn list_or_stream(
    source: &mut Source,
    header: &mut Header,
    walk: Walk,
    sink: &mut impl Sink,
) -> Result<Vec<Block>> {
    let layout = Layout { path: source.path.clone(), version: header.version, big: source.big };
    let begin = source.offset();
    let wanted =
        |block: &Block| block.element_type == 0 || types::supported(block.element_type as u8).is_some();
    // In MSH 2 tags stand in the records, which are not read here: take the elements for grouped.
    let key = |block: &Block| if header.version == 2 { 1 } else { block.key };
    let mut blocks = Vec::new();
    let mut unsupported = Vec::new();
    let mut listed = walk.clone();
    let mut complete = true;
    while let Some(block) = listed.next(source, &layout)? {
        if blocks.len().max(unsupported.len()) as u64 > FREE_BLOCKS + listed.first / RECORDS_PER_BLOCK {
            complete = false;
            break;
        }
        source.seek(block.offset + layout.bytes(&block));
        if wanted(&block) {
            blocks.push(block);
        } else {
            unsupported.push((block.element_type as u8, key(&block), block.count));
        }
    }
    if complete {
        unsupported.into_iter().for_each(|(t, key, n)| header.count_unsupported(t, key, n));
        return Ok(blocks);
    }
    drop((blocks, unsupported));
    source.seek(begin);
    sink.expect(walk.n);
    let mut streamed = walk;
    while let Some(block) = streamed.next(source, &layout)? {
        if wanted(&block) {
            layout.stream(source, &block, sink)?;
        } else {
            source.seek(block.offset + layout.bytes(&block));
            let key = if layout.version == 2 { 1 } else { block.key };
            header.count_unsupported(block.element_type as u8, key, block.count);
        }
    }
    Ok(Vec::new())
}

/// `$Nodes`, or `$ParametricNodes` of MSH 2.
pub(super) fn nodes(
    source: &mut Source,
    header: &mut Header,
    parametric: bool,
    sink: &mut impl Sink,
) -> Result<()> {
    if header.version == 4 {
        let n_blocks = source.size("blocks of nodes", 20)?;
        let n = source.size("nodes", 32)?;
        source.bytes(16, "the least and the greatest node number")?;
        header.node_blocks =
            list_or_stream(source, header, Walk { elements: false, n, first: 0, n_blocks }, sink)?;
        return Ok(());
    }
    let n = source.count(true, "nodes", 28)?;
    source.end_line()?;
    if parametric {
        return parametric_nodes(source, n, sink);
    }
    let block = Block { offset: source.offset(), ..block(0, n, 0, 0) };
    source.check_count(n, "nodes", 28)?;
    source.seek(block.offset + 28 * n);
    header.node_blocks.push(block);
    Ok(())
}

/// Nodes of MSH 2 with their places on curves and surfaces: records of different lengths.
fn parametric_nodes(source: &mut Source, n: u64, sink: &mut impl Sink) -> Result<()> {
    sink.expect(n);
    for index in 0..n {
        let id = match source.int(NODE_NUMBER)? {
            id @ 1.. => id as u64,
            other => return Err(source.syntax_found(NODE_NUMBER, other.to_string())),
        };
        let mut x = [0.0; 3];
        for x in &mut x {
            *x = source.double("a coordinate")?;
            if !x.is_finite() {
                return Err(source.syntax_found("a finite coordinate", x.to_string()));
            }
        }
        sink.node(index, id, x);
        let dim = source.int("the dimension of the node's entity")?;
        source.int("the tag of the node's entity")?;
        source.bytes(8 * if matches!(dim, 1 | 2) { dim as usize } else { 0 }, "parametric coordinates")?;
    }
    Ok(())
}

/// `$Elements`. Unsupported elements are counted in `header`.
pub(super) fn elements(source: &mut Source, header: &mut Header, sink: &mut impl Sink) -> Result<()> {
    let walk = if header.version == 4 {
        let n_blocks = source.size("blocks of elements", 20)?;
        let n = source.size("elements", 16)?;
        source.bytes(16, "the least and the greatest element number")?;
        Walk { elements: true, n, first: 0, n_blocks }
    } else {
        let n = source.count(true, "elements", 8)?;
        source.end_line()?;
        Walk { elements: true, n, first: 0, n_blocks: 0 }
    };
    header.element_blocks = list_or_stream(source, header, walk, sink)?;
    Ok(())
}
