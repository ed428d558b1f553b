//! Nodes and elements of ASCII files, read record by record.
//!
//! Start at [`nodes`] and [`elements`]. A record stands on one line, so a damaged one is found where it
//! is. Counts are checked against what is left of the file before they are believed.

use super::deal::Sink;
use super::scan::Header;
use super::source::{Result, Source};
use super::types;

const COORDINATE: &str = "a finite coordinate";
const NODE_NUMBER: &str = "a node number (1 or more)";
const ELEMENT_NUMBER: &str = "an element number (1 or more)";

fn point(source: &mut Source, begins: bool) -> Result<[f64; 3]> {
    let mut x = [0.0; 3];
    for (d, x) in x.iter_mut().enumerate() {
        *x = source.float(begins && d == 0, COORDINATE)?;
        if !x.is_finite() {
            return Err(source.syntax_found(COORDINATE, x.to_string()));
        }
    }
    Ok(x)
}

/// `$Nodes`, or `$ParametricNodes` of MSH 2.
pub(super) fn nodes(source: &mut Source, version: u8, parametric: bool, sink: &mut impl Sink) -> Result<()> {
    if version == 2 { nodes_2(source, parametric, sink) } else { nodes_4(source, sink) }
}

fn nodes_2(source: &mut Source, parametric: bool, sink: &mut impl Sink) -> Result<()> {
    let n = source.count(true, "nodes", 7)?;
    source.end_line()?;
    sink.expect(n);
    for index in 0..n {
        let id = source.identifier(true, NODE_NUMBER)?;
        sink.node(index, id, point(source, false)?);
        if parametric {
            let dim = source.integer("the dimension of the node's entity")?;
            source.integer("the tag of the node's entity")?;
            for _ in 0..if dim == 3 { 0 } else { dim } {
                source.float(false, "a parametric coordinate")?;
            }
        }
        source.end_line()?;
    }
    Ok(())
}

fn nodes_4(source: &mut Source, sink: &mut impl Sink) -> Result<()> {
    let n_blocks = source.count(true, "blocks of nodes", 7)?;
    let n = source.count(false, "nodes", 7)?;
    source.identifier_or_zero("the least node number")?;
    source.identifier_or_zero("the greatest node number")?;
    source.end_line()?;
    sink.expect(n);
    let mut begin = 0;
    for _ in 0..n_blocks {
        let dim = source.first_integer("the dimension of the block's entity")?;
        if !(0..=3).contains(&dim) {
            return Err(source.syntax_found("a dimension from 0 to 3", dim.to_string()));
        }
        source.integer("the tag of the block's entity")?;
        let parametric = match source.integer("0, or 1 for parametric nodes")? {
            flag @ (0 | 1) => flag,
            other => return Err(source.syntax_found("0, or 1 for parametric nodes", other.to_string())),
        };
        let n_here = source.count(false, "nodes", 7)?;
        source.end_line()?;
        if n_here > n - begin {
            let expected = format!("at most the {} nodes left of the section's {n}", n - begin);
            return Err(source.syntax_found(&expected, format!("a block of {n_here}")));
        }
        for index in begin..begin + n_here {
            sink.node_id(index, source.identifier(true, NODE_NUMBER)?);
            source.end_line()?;
        }
        for index in begin..begin + n_here {
            sink.point(index, point(source, true)?);
            for _ in 0..parametric * dim {
                source.float(false, "a parametric coordinate")?;
            }
            source.end_line()?;
        }
        begin += n_here;
    }
    check_total(source, "nodes", begin, n)
}

fn check_total(source: &Source, what: &str, found: u64, n: u64) -> Result<()> {
    if found == n {
        return Ok(());
    }
    Err(source
        .syntax_found(&format!("{n} {what}, as the section's header says"), format!("{found} in its blocks")))
}

fn element_type(source: &mut Source) -> Result<u8> {
    const EXPECTED: &str = "an element type with a fixed number of nodes";
    let value = source.integer(EXPECTED)?;
    types::known(value).ok_or_else(|| source.syntax_found(EXPECTED, value.to_string()))
}

/// `$Elements`. Unsupported elements are counted in `header`, not dealt out.
pub(super) fn elements(source: &mut Source, header: &mut Header, sink: &mut impl Sink) -> Result<()> {
    if header.version == 2 { elements_2(source, header, sink) } else { elements_4(source, header, sink) }
}

fn element_nodes<'a>(
    source: &mut Source,
    element_type: u8,
    buffer: &'a mut [u64; types::MAX_NODES],
) -> Result<&'a [u64]> {
    let nodes = &mut buffer[..types::n_nodes(element_type)];
    for node in nodes.iter_mut() {
        *node = source.identifier(false, NODE_NUMBER)?;
    }
    source.end_line()?;
    Ok(nodes)
}

fn elements_2(source: &mut Source, header: &mut Header, sink: &mut impl Sink) -> Result<()> {
    let n = source.count(true, "elements", 7)?;
    source.end_line()?;
    sink.expect(n);
    let mut buffer = [0; types::MAX_NODES];
    for index in 0..n {
        let id = source.identifier(true, ELEMENT_NUMBER)?;
        let element_type = element_type(source)?;
        let n_tags = source.integer("the number of tags")?;
        let mut key = 0;
        for tag in 0..n_tags {
            let value = source.integer("an integer tag")?;
            if tag == 0 {
                key = i32::try_from(value)
                    .map_err(|_| source.syntax_found("a physical group's 32-bit tag", value.to_string()))?;
            }
        }
        let nodes = element_nodes(source, element_type, &mut buffer)?;
        if types::supported(element_type).is_some() {
            sink.element(index, element_type, key, id, nodes);
        } else {
            header.count_unsupported(element_type, key, 1);
        }
    }
    Ok(())
}

fn elements_4(source: &mut Source, header: &mut Header, sink: &mut impl Sink) -> Result<()> {
    let n_blocks = source.count(true, "blocks of elements", 7)?;
    let n = source.count(false, "elements", 4)?;
    source.identifier_or_zero("the least element number")?;
    source.identifier_or_zero("the greatest element number")?;
    source.end_line()?;
    sink.expect(n);
    let mut begin = 0;
    let mut buffer = [0; types::MAX_NODES];
    for _ in 0..n_blocks {
        let dim = source.first_integer("the dimension of the block's entity")?;
        let tag = source.integer("the tag of the block's entity")?;
        let key = i32::try_from(tag)
            .map_err(|_| source.syntax_found("the 32-bit tag of the block's entity", tag.to_string()))?;
        let element_type = element_type(source)?;
        if dim != types::dim(element_type) as i64 {
            let expected =
                format!("an entity of the dimension of {} elements", types::describe(element_type));
            return Err(source.syntax_found(&expected, format!("dimension {dim}")));
        }
        let n_here = source.count(false, "elements", 4)?;
        source.end_line()?;
        if n_here > n - begin {
            let expected = format!("at most the {} elements left of the section's {n}", n - begin);
            return Err(source.syntax_found(&expected, format!("a block of {n_here}")));
        }
        let supported = types::supported(element_type).is_some();
        for index in begin..begin + n_here {
            let id = source.identifier(true, ELEMENT_NUMBER)?;
            let nodes = element_nodes(source, element_type, &mut buffer)?;
            if supported {
                sink.element(index, element_type, key, id, nodes);
            }
        }
        if !supported {
            header.count_unsupported(element_type, key, n_here);
        }
        begin += n_here;
    }
    check_total(source, "elements", begin, n)
}
