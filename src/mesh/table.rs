//! Tables of local numbers that several owners may share.

use std::ops::Deref;
use std::sync::Arc;

/// Local numbers, flat: so many a cell. A clone shares them, so that the vertices of a mesh and the nodes
/// of a space of degree 1 are one table in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(Arc<Vec<u32>>);

impl From<Vec<u32>> for Table {
    fn from(numbers: Vec<u32>) -> Table {
        Table(Arc::new(numbers))
    }
}

impl Deref for Table {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a u32;
    type IntoIter = std::slice::Iter<'a, u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Table {
    /// The numbers to change; copied first where someone else has them too.
    pub fn to_mut(&mut self) -> &mut [u32] {
        Arc::make_mut(&mut self.0).as_mut_slice()
    }
}
