//! Which rows a run of cells touches: how threads that own rows find their cells.
//!
//! Imports `space`. Cells stand along a curve and nodes in the order in which cells meet them, so a run of
//! cells touches a short range of rows, and a thread skips most runs without a look at their nodes.

use std::ops::Range;

use rayon::prelude::*;

use crate::space::Space;

/// Cells a run: few enough that a run's nodes and rows stay in the first caches.
pub(super) const RUN: usize = 256;

/// The owned nodes that the cells of a run have.
#[derive(Clone, Copy)]
struct Span {
    /// From here.
    low: u32,
    /// To here, exclusive; 0 where no owned node is.
    high: u32,
    /// Whether the cells have no other nodes.
    all: bool,
}

/// Per block and run of [`RUN`] cells: the owned nodes its cells have.
pub(super) struct Spans {
    runs: Vec<Vec<Span>>,
}

impl Spans {
    /// Looks at all cells once. Not collective.
    pub fn new(space: &Space) -> Spans {
        let n_rows = space.map.n_owned() as u32;
        let of_run = |nodes: &[u32]| {
            // Owned nodes come before the others.
            let (low, most) = nodes.iter().fold((u32::MAX, 0), |(low, most), &v| (low.min(v), most.max(v)));
            if most < n_rows {
                return Span { low, high: most + 1, all: true };
            }
            let high = nodes.iter().filter(|v| **v < n_rows).fold(0, |high, &v| high.max(v + 1));
            Span { low, high, all: false }
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
        runs.filter(move |(_, span)| span.low < end && span.high > begin).map(|(run, _)| run)
    }

    /// Whether all nodes of a run's cells are among `rows`.
    pub fn lies_in(&self, block: usize, run: usize, rows: &Range<usize>) -> bool {
        let Span { low, high, all } = self.runs[block][run];
        all && low as usize >= rows.start && high as usize <= rows.end
    }

    /// The cells of a run, of a block with `n_cells`.
    pub fn cells(run: usize, n_cells: usize) -> Range<usize> {
        run * RUN..((run + 1) * RUN).min(n_cells)
    }
}
