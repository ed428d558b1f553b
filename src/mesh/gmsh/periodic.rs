//! `$Periodic`: which node is whose image. Only translations are kept.

use super::deal::Sink;
use super::source::{Result, Source};

const NODE_NUMBER: &str = "a node number (1 or more)";
const AFFINE: &str = "a number of the affine transformation";

/// `$Periodic`. MSH 2 writes it as text in binary files too.
pub(super) fn read(source: &mut Source, version: u8, sink: &mut impl Sink) -> Result<()> {
    if version == 2 { read_2(source, sink) } else { read_4(source, sink) }
}

fn read_2(source: &mut Source, sink: &mut impl Sink) -> Result<()> {
    let n_links = source.count(true, "periodic entities", 8)?;
    for _ in 0..n_links {
        source.first_integer("the dimension of a periodic entity")?;
        source.integer("the tag of a periodic entity")?;
        source.integer("the tag of its master entity")?;
        source.end_line()?;
        // The line with the transformation is optional.
        let mut affine = Vec::with_capacity(16);
        let word = source.first_word("the number of periodic nodes")?;
        let word = word.ok_or_else(|| source.truncated("the number of periodic nodes"))?;
        if source.text(word.clone()) == b"Affine" {
            while source.more_on_line()? {
                let value = source.float(false, AFFINE)?;
                push(source, &mut affine, value)?;
            }
        } else {
            source.unread(word);
        }
        let n = source.count(true, "periodic nodes", 4)?;
        source.end_line()?;
        let keep = is_translation(&affine);
        sink.expect(n);
        for index in 0..n {
            let slave = source.identifier(true, NODE_NUMBER)?;
            let master = source.identifier(false, NODE_NUMBER)?;
            source.end_line()?;
            if keep {
                sink.pair(index, slave, master);
            }
        }
    }
    Ok(())
}

fn read_4(source: &mut Source, sink: &mut impl Sink) -> Result<()> {
    let n_links = source.size("periodic entities", 8)?;
    for _ in 0..n_links {
        source.int("the dimension of a periodic entity")?;
        source.int("the tag of a periodic entity")?;
        source.int("the tag of its master entity")?;
        let n = source.size("numbers of an affine transformation", 2)?;
        let mut affine = Vec::with_capacity(16);
        for _ in 0..n {
            let value = source.double(AFFINE)?;
            push(source, &mut affine, value)?;
        }
        let n = source.size("periodic nodes", 4)?;
        let keep = is_translation(&affine);
        sink.expect(n);
        for index in 0..n {
            let slave = node(source)?;
            let master = node(source)?;
            if keep {
                sink.pair(index, slave, master);
            }
        }
    }
    Ok(())
}

fn node(source: &mut Source) -> Result<u64> {
    if !source.binary {
        return source.identifier(true, NODE_NUMBER);
    }
    match source.word_64(NODE_NUMBER)? {
        id @ 1..=super::MAX_ID => Ok(id),
        other => Err(source.syntax_found(NODE_NUMBER, other.to_string())),
    }
}

fn push(source: &Source, affine: &mut Vec<f64>, value: f64) -> Result<()> {
    if affine.len() == 16 {
        return Err(source.syntax_found("16 numbers of the affine transformation", "more".to_string()));
    }
    affine.push(value);
    Ok(())
}

/// Whether a transformation (4 x 4 by rows; where none is given it is taken for one) moves without
/// turning.
fn is_translation(affine: &[f64]) -> bool {
    if affine.len() < 12 {
        return true;
    }
    (0..3).all(|i| (0..3).all(|j| (affine[4 * i + j] - f64::from(u8::from(i == j))).abs() < 1e-9))
}
