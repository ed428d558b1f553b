//! Rank 0's way through a file, section by section.
//!
//! Start at [`scan`]. Names and entities are small and stay in the [`Header`]; nodes, elements and
//! periodic pairs are dealt out as they are read, or, in binary files, listed as blocks that every rank
//! then reads its share of.

use std::collections::BTreeMap;

use super::binary::{self, Block};
use super::deal::Sink;
use super::error::GmshError;
use super::source::{Result, Source};
use super::{periodic, text};

/// What a file says beside its nodes and elements.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Header {
    /// 2 or 4.
    pub version: u8,
    /// Physical names: dimension, tag, name.
    pub names: Vec<(u8, i32, String)>,
    /// Entities that are in groups: dimension, tag, physical tag. MSH 4.
    pub entities: Vec<[i32; 3]>,
    /// Numbers of unsupported elements by type and key.
    pub unsupported: BTreeMap<(u8, i32), u64>,
    /// Nodes of a binary file that were not dealt out.
    pub node_blocks: Vec<Block>,
    /// Elements of a binary file that were not dealt out.
    pub element_blocks: Vec<Block>,
}

impl Header {
    pub(super) fn count_unsupported(&mut self, element_type: u8, key: i32, n: u64) {
        *self.unsupported.entry((element_type, key)).or_default() += n;
    }
}

/// Reads a file from its beginning.
pub(super) fn scan(source: &mut Source, sink: &mut impl Sink) -> Result<Header> {
    let mut header = Header::default();
    let (mut has_nodes, mut has_elements) = (false, false);
    while let Some(word) = source.first_word("a section")? {
        let name = match source.text(word.clone()).strip_prefix(b"$") {
            Some(name) if name.len() <= 64 && name.iter().all(u8::is_ascii_graphic) => {
                String::from_utf8_lossy(name).into_owned()
            }
            _ if header.version == 0 => return Err(not_gmsh(source, word)),
            _ => return Err(source.syntax("a section that begins with $", word)),
        };
        if header.version == 0 && !["MeshFormat", "Comments"].contains(&name.as_str()) {
            return Err(not_gmsh(source, word));
        }
        source.section = format!("${name}");
        if name == "Comments" {
            source.skip_section()?;
            continue;
        }
        match name.as_str() {
            "MeshFormat" if header.version == 0 => mesh_format(source, &mut header)?,
            "PhysicalNames" => physical_names(source, &mut header)?,
            "Entities" if header.version == 4 => {
                source.end_line()?;
                entities(source, &mut header)?;
            }
            "PartitionedEntities" => {
                return Err(GmshError::Partitioned {
                    file: source.path.clone(),
                    section: format!("${name}"),
                });
            }
            "Nodes" | "ParametricNodes" => {
                if std::mem::replace(&mut has_nodes, true) {
                    return Err(source.syntax_found("one section of nodes", "a second".to_string()));
                }
                nodes(source, &mut header, name == "ParametricNodes", sink)?;
            }
            "Elements" => {
                if std::mem::replace(&mut has_elements, true) {
                    return Err(source.syntax_found("one section of elements", "a second".to_string()));
                }
                source.end_line()?;
                if source.binary {
                    binary::elements(source, &mut header, sink)?;
                } else {
                    text::elements(source, &mut header, sink)?;
                }
            }
            "Periodic" => {
                source.end_line()?;
                periodic::read(source, header.version, sink)?;
            }
            _ if name.starts_with("End") => {
                return Err(source.syntax_found("the beginning of a section", format!("${name}")));
            }
            _ => {
                source.skip_section()?;
                continue;
            }
        }
        source.end_section()?;
        source.section = "the place between sections".to_string();
    }
    let missing =
        |section: &str| GmshError::MissingSection { file: source.path.clone(), section: section.into() };
    match (header.version, has_nodes, has_elements) {
        (0, ..) => {
            Err(GmshError::NotGmsh { file: source.path.clone(), found: "nothing: it is empty".into() })
        }
        (_, false, _) => Err(missing("$Nodes")),
        (_, _, false) => Err(missing("$Elements")),
        _ => Ok(header),
    }
}

fn not_gmsh(source: &Source, word: std::ops::Range<usize>) -> GmshError {
    let bytes = source.text(word);
    let found: String = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).escape_debug().collect();
    GmshError::NotGmsh { file: source.path.clone(), found: format!("`{found}`") }
}

fn mesh_format(source: &mut Source, header: &mut Header) -> Result<()> {
    let word = source.first_word("the version of the format")?;
    let word = word.ok_or_else(|| source.truncated("the version of the format"))?;
    let version = String::from_utf8_lossy(source.text(word.clone())).into_owned();
    let number: f64 = version.parse().map_err(|_| source.syntax("the version of the format", word))?;
    header.version = match number {
        2.0..2.3 => 2,
        4.1 => 4,
        _ => return Err(GmshError::Version { file: source.path.clone(), version }),
    };
    let binary = match source.integer("0 for ASCII or 1 for binary")? {
        0 => false,
        1 => true,
        other => return Err(source.syntax_found("0 for ASCII or 1 for binary", other.to_string())),
    };
    let size = source.integer("the size of numbers in bytes")?;
    if size != 8 && binary {
        return Err(source.syntax_found("numbers of 8 bytes", format!("{size}")));
    }
    source.end_line()?;
    if binary {
        source.binary = true;
        let one: [u8; 4] =
            source.bytes(4, "the number 1, for the order of bytes")?.try_into().expect("4 bytes");
        source.big = match one {
            [1, 0, 0, 0] => false,
            [0, 0, 0, 1] => true,
            _ => return Err(source.syntax_found("the number 1, for the order of bytes", format!("{one:?}"))),
        };
    }
    Ok(())
}

fn physical_names(source: &mut Source, header: &mut Header) -> Result<()> {
    let n = source.count(true, "physical names", 6)?;
    source.end_line()?;
    for _ in 0..n {
        let dim = source.first_integer("the dimension of a physical group")?;
        let dim = match dim {
            0..=3 => dim as u8,
            _ => return Err(source.syntax_found("a dimension from 0 to 3", dim.to_string())),
        };
        let tag = source.integer("the tag of a physical group")?;
        let tag = physical(source, tag)?;
        let line = source.rest_of_line("the name of a physical group")?;
        source.end_line()?;
        let line = line.trim();
        let name = line.strip_prefix('"').and_then(|l| l.strip_suffix('"')).unwrap_or(line);
        if name.is_empty() {
            continue;
        }
        if header.names.iter().any(|other| (other.0, other.1) == (dim, tag)) {
            return Err(
                source.syntax_found("one name for each physical group", format!("a second, \"{name}\""))
            );
        }
        header.names.push((dim, tag, name.to_string()));
    }
    Ok(())
}

/// A physical tag: its sign is an orientation.
fn physical(source: &Source, tag: i64) -> Result<i32> {
    i32::try_from(tag.unsigned_abs())
        .map_err(|_| source.syntax_found("a physical group's 32-bit tag", tag.to_string()))
}

fn entities(source: &mut Source, header: &mut Header) -> Result<()> {
    const BOX: &str = "a coordinate of an entity's bounding box";
    let names = ["points", "curves", "surfaces", "volumes"];
    let mut counts = [0; 4];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = source.size(name, 6)?;
    }
    for (dim, n) in counts.into_iter().enumerate() {
        for _ in 0..n {
            let tag = source.int("the tag of an entity")?;
            for _ in 0..if dim == 0 { 3 } else { 6 } {
                source.double(BOX)?;
            }
            for _ in 0..source.size("physical tags of an entity", 1)? {
                let physical_tag = source.int("a physical tag")?;
                let physical_tag = physical(source, i64::from(physical_tag))?;
                if physical_tag != 0 {
                    header.entities.push([dim as i32, tag, physical_tag]);
                }
            }
            if dim > 0 {
                for _ in 0..source.size("bounding entities", 1)? {
                    source.int("the tag of a bounding entity")?;
                }
            }
        }
    }
    Ok(())
}

fn nodes(source: &mut Source, header: &mut Header, parametric: bool, sink: &mut impl Sink) -> Result<()> {
    source.end_line()?;
    if header.version == 4 && parametric {
        return Err(source.syntax_found("$Nodes, as in MSH 4.1", "$ParametricNodes".to_string()));
    }
    if source.binary {
        binary::nodes(source, header, parametric, sink)
    } else {
        text::nodes(source, header.version, parametric, sink)
    }
}
