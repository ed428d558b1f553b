//! From the parts of a file to a [`Soup`]: groups, sets of groups, our order of nodes.
//!
//! Start at [`finish`]. Nothing here communicates: what must be the same on all ranks is computed from
//! values that already are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::deal::{Elements, Parts};
use super::error::GmshError;
use super::scan::Header;
use super::source::Result;
use super::types;
use crate::mesh::soup::{CellBlock, EntityBlock, Group, Soup};

/// Facts about all ranks' parts together.
pub(super) struct Global {
    /// Numbers of elements by type.
    pub counts: Vec<u64>,
    /// Dimension and key of the elements there are, each pair once, ascending.
    pub keys: Vec<[i32; 2]>,
    /// The greatest node number.
    pub max_node_id: u64,
}

/// The pairs of dimension and key among a rank's elements.
pub(super) fn keys(parts: &Parts) -> Vec<[i32; 2]> {
    let mut keys = BTreeSet::new();
    for (element_type, elements) in parts.elements.iter().enumerate() {
        let dim = types::dim(element_type as u8) as i32;
        let mut last = None;
        for &key in &elements.keys {
            if last != Some(key) {
                keys.insert([dim, key]);
                last = Some(key);
            }
        }
    }
    keys.into_iter().collect()
}

/// Makes the soup. `header` and `global` are the same on all ranks, and so is an error.
pub(super) fn finish(path: &Path, header: &Header, mut parts: Parts, global: &Global) -> Result<Soup> {
    let dim = cell_dim(path, header, global)?;
    let by_key = groups_by_key(header, global);
    check_supported(path, header, &by_key, dim)?;
    let groups = groups(header, &by_key);
    let index = |dim: i32, tag: i32| {
        groups.binary_search_by(|g| (g.dim as i32, g.tag).cmp(&(dim, tag))).expect("every group is listed")
            as u16
    };

    let mut sets: BTreeSet<Vec<u16>> = BTreeSet::new();
    let mut members: BTreeMap<(usize, i32), Vec<u16>> = BTreeMap::new();
    for (&(d, key), tags) in &by_key {
        let set: Vec<u16> = tags.iter().map(|&tag| index(d, tag)).collect();
        if d as usize == dim {
            sets.insert(set.clone());
        }
        members.insert((d as usize, key), set);
    }
    // The empty set is the least, so it is the first.
    sets.insert(Vec::new());
    let sets: Vec<Vec<u16>> = sets.into_iter().collect();
    let n = groups.len().max(sets.len()) as u64;
    if n > u64::from(u16::MAX) {
        return Err(GmshError::TooManyGroups { file: path.to_path_buf(), n });
    }
    let set_of_key: HashMap<i32, u16> = members
        .iter()
        .filter(|((d, _), _)| *d == dim)
        .map(|(&(_, key), set)| (key, sets.binary_search(set).expect("every set is listed") as u16))
        .collect();

    let mut blocks = Vec::new();
    let mut entities: Vec<EntityBlock> = Vec::new();
    for element_type in 0..types::N_TYPES as u8 {
        if global.counts[element_type as usize] == 0 {
            continue;
        }
        let elements = std::mem::take(&mut parts.elements[element_type as usize]);
        if types::dim(element_type) == dim {
            blocks.push(cells(element_type, elements, &set_of_key));
        } else {
            add_entities(element_type, &elements, &members, &mut entities);
        }
    }
    entities.sort_by_key(|block| block.shape.dim());
    Ok(Soup {
        dim,
        groups,
        sets,
        blocks,
        entities,
        node_ids: parts.node_ids,
        node_coordinates: parts.points,
        max_node_id: global.max_node_id,
        periodic: parts.pairs,
    })
}

fn cell_dim(path: &Path, header: &Header, global: &Global) -> Result<usize> {
    let there = (0..types::N_TYPES as u8).filter(|&t| global.counts[t as usize] > 0);
    let all = there.chain(header.unsupported.keys().map(|key| key.0));
    match all.map(types::dim).max() {
        None | Some(0) => Err(GmshError::NoCells { file: path.to_path_buf(), n_points: global.counts[15] }),
        Some(dim) => Ok(dim),
    }
}

/// The physical tags of the elements with each (dimension, key): ascending, each once, never empty.
fn groups_by_key(header: &Header, global: &Global) -> BTreeMap<(i32, i32), Vec<i32>> {
    let mut by_key: BTreeMap<(i32, i32), Vec<i32>> = BTreeMap::new();
    if header.version == 2 {
        for &[dim, key] in &global.keys {
            // No group is 0; a sign is an orientation; there is no group 2^31.
            if let Some(tag @ 1..) = key.checked_abs() {
                by_key.insert((dim, key), vec![tag]);
            }
        }
    } else {
        for &[dim, entity, tag] in &header.entities {
            by_key.entry((dim, entity)).or_default().push(tag);
        }
    }
    for tags in by_key.values_mut() {
        tags.sort_unstable();
        tags.dedup();
    }
    by_key
}

/// Unsupported elements matter where they are cells or belong to a group.
fn check_supported(
    path: &Path,
    header: &Header,
    by_key: &BTreeMap<(i32, i32), Vec<i32>>,
    dim: usize,
) -> Result<()> {
    let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
    for (&(element_type, key), &n) in &header.unsupported {
        let d = types::dim(element_type);
        let grouped = if header.version == 2 { key != 0 } else { by_key.contains_key(&(d as i32, key)) };
        if d == dim || grouped {
            *counts.entry(element_type).or_default() += n;
        }
    }
    if counts.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = counts.iter().map(|(&t, n)| format!("{n} x {}", types::describe(t))).collect();
    let verb = if counts.len() == 1 { "is" } else { "are" };
    Err(GmshError::Unsupported {
        file: path.to_path_buf(),
        elements: format!("{} {verb}", list.join(", ")),
        supported: types::supported_cells(dim),
    })
}

/// All groups that are named or used, ascending by dimension and tag.
fn groups(header: &Header, by_key: &BTreeMap<(i32, i32), Vec<i32>>) -> Vec<Group> {
    let mut names: BTreeMap<(usize, i32), Option<&str>> = BTreeMap::new();
    for (&(dim, _), tags) in by_key {
        names.extend(tags.iter().map(|&tag| ((dim as usize, tag), None)));
    }
    for (dim, tag, name) in &header.names {
        names.insert((*dim as usize, *tag), Some(name));
    }
    names
        .into_iter()
        .map(|((dim, tag), name)| Group {
            dim,
            tag,
            name: name.map_or_else(|| tag.to_string(), str::to_string),
        })
        .collect()
}

fn cells(element_type: u8, elements: Elements, set_of_key: &HashMap<i32, u16>) -> CellBlock {
    let (shape, geometry, order) = types::supported(element_type).expect("only supported elements are kept");
    let Elements { ids, keys, mut nodes } = elements;
    if order.iter().enumerate().any(|(ours, &theirs)| ours != theirs as usize) {
        let mut cell = [0; 27];
        for nodes in nodes.chunks_exact_mut(order.len()) {
            cell[..order.len()].copy_from_slice(nodes);
            for (node, &theirs) in nodes.iter_mut().zip(order) {
                *node = cell[theirs as usize];
            }
        }
    }
    let mut last = (0, set_of_key.get(&0).copied().unwrap_or(0));
    let sets = keys
        .iter()
        .map(|&key| {
            if key != last.0 {
                last = (key, set_of_key.get(&key).copied().unwrap_or(0));
            }
            last.1
        })
        .collect();
    CellBlock { shape, geometry, nodes, ids, sets }
}

fn add_entities(
    element_type: u8,
    elements: &Elements,
    members: &BTreeMap<(usize, i32), Vec<u16>>,
    entities: &mut Vec<EntityBlock>,
) {
    let (shape, _, order) = types::supported(element_type).expect("only supported elements are kept");
    let at = entities.iter().position(|block| block.shape == shape).unwrap_or_else(|| {
        entities.push(EntityBlock { shape, vertices: Vec::new(), groups: Vec::new() });
        entities.len() - 1
    });
    let block = &mut entities[at];
    let corners = &order[..shape.n_vertices()];
    for (nodes, &key) in elements.nodes.chunks_exact(order.len()).zip(&elements.keys) {
        for &group in members.get(&(shape.dim(), key)).into_iter().flatten() {
            block.vertices.extend(corners.iter().map(|&k| nodes[k as usize]));
            block.groups.push(group);
        }
    }
}
