//! Which rows a run of cells touches: how threads that own rows find their cells.
//!
//! Imports `space`. Cells stand along a curve and nodes in the order in which cells meet them, so a run of
//! cells touches a short range of rows, and a thread skips most runs without a look at their nodes.

use std::ops::Range;

use rayon::prelude::*;

use crate::space::Space;

/// Cells a run: few enough that a run's nodes and rows stay in the first caches.
pub(super) const RUN: usize = 256;

/// Per block and run of [`RUN`] cells: the owned nodes its cells have, as a range.
pub(super) struct Spans {
    /// `low..high`; empty where no owned node is.
    runs: Vec<Vec<(u32, u32)>>,
}

impl Spans {
    /// Looks at all cells once. Not collective.
    pub fn new(space: &Space) -> Spans {
        let n_rows = space.map.n_owned() as u32;
        let of_run = |nodes: &[u32]| {
            nodes.iter().fold((u32::MAX, 0), |(low, high), &v| {
                if v < n_rows { (low.min(v), high.max(v + 1)) } else { (low, high) }
            })
        };
        let tables = space.cell_to_node.iter().zip(&space.elements);
        Spans {
            runs: tables
                .map(|(table, element)| table.par_chunks(RUN * element.n_nodes()).map(of_run).collect())
                .collect(),
        }
    }

    /// How many blocks.
    pub fn n_blocks(&self) -> usize {
        self.runs.len()
    }

    /// The runs of a block that touch some of `rows`.
    pub fn touching(&self, block: usize, rows: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let (begin, end) = (rows.start as u32, rows.end as u32);
        let runs = self.runs[block].iter().enumerate();
        runs.filter(move |(_, (low, high))| *low < end && *high > begin).map(|(run, _)| run)
    }

    /// The cells of a run, of a block with `n_cells`.
    pub fn cells(run: usize, n_cells: usize) -> Range<usize> {
        run * RUN..((run + 1) * RUN).min(n_cells)
    }
}
