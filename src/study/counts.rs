//! How what can be counted grows with the number of ranks: messages, bytes, neighbours, iterations, buffers, the
//! largest single requests for memory.
//! Counts need no quiet machine and no more cores than there are: ranks may take turns.
//!
//! Imports `output` (for `run.json`). Start at [`ladder`].

use std::collections::BTreeMap;
use std::path::Path;

use cluster::Counters;
use serde::{Deserialize, Serialize};

use crate::output::profile::Profile;
use crate::run::RunError;

use super::measure::{self, Plan};

/// What was counted on one number of ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Ranks.
    pub ranks: usize,
    /// Degrees of freedom of all ranks.
    pub dofs: u64,
    /// Iterations of the solver.
    pub iterations: u64,
    /// By phase, for each counter the largest of any rank.
    pub phases: BTreeMap<String, Counters>,
    /// By phase: bytes of the largest single request for memory of any rank, of femdd itself, not of libraries in C.
    pub allocations: BTreeMap<String, u64>,
}

/// Phases that gather something small of all ranks: the partitioner a graph of clusters on one of them, the solver's
/// set-up its coarse levels on all. What they ask for at once stands apart.
pub const GATHERS: [&str; 2] = ["partition", "pc_setup"];

/// A ladder of boxes of tetrahedra.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ladder {
    /// As many cubes for each rank.
    Weak,
    /// As many cubes for all ranks together.
    Strong,
}

/// The most even way to write a number of ranks as a product of three, the largest first.
fn boxes(ranks: usize) -> [usize; 3] {
    let mut best = [ranks, 1, 1];
    for a in (1..=ranks).filter(|a| ranks.is_multiple_of(*a)) {
        let rest = ranks / a;
        for b in (1..=rest).filter(|b| rest.is_multiple_of(*b)) {
            let mut sides = [a, b, rest / b];
            sides.sort_unstable_by(|x, y| y.cmp(x));
            if sides.iter().sum::<usize>() < best.iter().sum() {
                best = sides;
            }
        }
    }
    best
}

/// The section `[mesh]` of a rung: boxes with `side` cubes along each edge, for each rank or for all.
pub fn mesh_of(ladder: Ladder, ranks: usize, side: usize) -> String {
    let blocks = match ladder {
        Ladder::Weak => boxes(ranks),
        Ladder::Strong => [1; 3],
    };
    let (size, cells) = (blocks.map(|b| b as f64), blocks.map(|b| b * side));
    format!("[mesh]\nbox = {{ size = {size:?}, cells = {cells:?}, shape = \"tetrahedron\" }}\n")
}

/// Poisson's equation on a mesh whose boundary is the group of that name. The method is given, so that small
/// rungs, which could be factorised, do what large ones do.
pub fn case_of(mesh: &str, walls: &[&str]) -> String {
    format!(
        "[case]\nformat = 1\n{mesh}[physics]\nlaw = \"poisson\"\nsource = \"x + y*z\"\n\
         [boundary.all]\non = {walls:?}\nvalue = \"x*y\"\n[exact]\nvalue = \"x*y\"\n[performance]\ncache = false\n\
         [solver]\nmethod = \"cg+amg\"\n"
    )
}

/// The sides of a generated box.
pub const SIDES: [&str; 6] = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"];

/// Solves a case on each number of ranks by a program of femdd and reads what it counted. `case` writes the
/// case for a number of ranks into a folder and returns its path.
///
/// # Errors
/// A run that does not solve its case.
pub fn ladder(
    program: &Path,
    ranks: &[usize],
    mut case: impl FnMut(usize) -> Result<std::path::PathBuf, RunError>,
) -> Result<Vec<Row>, RunError> {
    let mut rows = Vec::new();
    for &n in ranks {
        let plan =
            Plan { case: case(n)?, sets: Vec::new(), ranks: Some(n), threads: Some(1), repeat: 1, warmup: 0 };
        let report = measure::report_of(program, &plan)?;
        let of = |key: &str| report.extra.get(key).cloned().unwrap_or_default();
        let profile: Profile = serde_json::from_value(of("profile")).unwrap_or_default();
        rows.push(Row {
            ranks: n,
            dofs: report.dofs,
            iterations: report.solver.as_ref().map_or(0, |s| s.iterations),
            phases: serde_json::from_value(of("communication")).unwrap_or_default(),
            allocations: profile.allocations.into_iter().map(|row| (row.phase, row.largest)).collect(),
        });
        measure::progress(&format!("{n} ranks counted"));
    }
    Ok(rows)
}

impl Row {
    /// All phases for which `keep` holds, together.
    pub fn sum(&self, keep: impl Fn(&str) -> bool) -> Counters {
        let kept = self.phases.iter().filter(|(name, _)| keep(name)).map(|(_, counters)| counters);
        kept.fold(Counters::default(), |sum, counters| sum.and(counters))
    }

    /// The phase with the largest single request for memory, and its bytes; but for [`GATHERS`].
    pub fn largest_allocation(&self) -> Option<(&str, u64)> {
        let ours = self.allocations.iter().filter(|(name, _)| !GATHERS.contains(&name.as_str()));
        ours.max_by_key(|(_, bytes)| **bytes).map(|(name, bytes)| (name.as_str(), *bytes))
    }
}

/// A table in the form of Markdown. Buffers of the partitioner, which gathers a graph of clusters on one
/// rank, stand apart.
pub fn text(rows: &[Row]) -> String {
    let mut out = String::from(
        "| ranks | DOFs | messages | KiB sent | neighbours | collectives | iterations | largest buffer, KiB | of the partitioner, KiB | table bytes a rank | largest allocation, KiB | in phase | of the solver's set-up, KiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    for row in rows {
        let (all, apart) = (row.sum(|_| true), row.sum(|name| name == "partition"));
        let (phase, largest) = row.largest_allocation().unwrap_or(("", 0));
        out += &format!(
            "| {} | {} | {} | {:.0} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {phase} | {:.0} |\n",
            row.ranks,
            row.dofs,
            all.messages,
            kib(all.bytes),
            all.neighbours,
            all.collectives,
            row.iterations,
            kib(row.sum(|name| name != "partition").largest_buffer),
            kib(apart.largest_buffer),
            all.largest_table as f64 / row.ranks as f64,
            kib(largest),
            kib(row.allocations.get("pc_setup").copied().unwrap_or(0)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_make_even_boxes() {
        assert_eq!([1, 2, 8, 12, 64].map(boxes), [[1, 1, 1], [2, 1, 1], [2, 2, 2], [3, 2, 2], [4, 4, 4]]);
        assert!(mesh_of(Ladder::Weak, 2, 5).contains("cells = [10, 5, 5]"));
        assert!(mesh_of(Ladder::Strong, 2, 5).contains("cells = [5, 5, 5]"));
    }

    #[test]
    fn what_is_gathered_stands_apart() {
        let sizes = [("mesh", 3 << 10), ("assemble", 5 << 10), ("partition", 7 << 10), ("pc_setup", 9 << 10)];
        let allocations = sizes.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        let row = Row { ranks: 2, dofs: 9, iterations: 1, phases: BTreeMap::new(), allocations };
        assert_eq!(row.largest_allocation(), Some(("assemble", 5 << 10)));
        assert!(text(&[row]).ends_with("| 5 | assemble | 9 |\n"));
    }

    #[test]
    fn the_ladder_is_a_case() {
        let text = case_of(&mesh_of(Ladder::Weak, 6, 4), &SIDES);
        crate::case::Case::parse(Path::new("weak.toml"), &text, &[]).expect("a case");
    }
}
