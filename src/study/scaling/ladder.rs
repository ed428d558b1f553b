//! The rungs of a ladder: so many ranks, and a mesh that has grown so much.
//!
//! Imports `case`. Start at [`rungs`]; [`grow_box`] and [`refinements`] say how a mesh grows.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::case::{BoxMesh, Case, MeshSource};
use crate::run::RunError;

use super::{Growth, environment, wrong};

/// One rung of a ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Its name, from what follows.
    pub name: String,
    /// Ranks.
    pub ranks: usize,
    /// How many times the cells of the case as it is written, as asked for.
    pub growth: f64,
    /// How many times they are in fact.
    pub actual: f64,
    /// What is set to make the mesh grow.
    pub sets: Vec<String>,
}

/// How far a rung of a weak ladder may be from as many cells a rank as the first has.
pub const TOLERANCE: f64 = 0.05;

/// Cells along each direction for a box with `growth` times the cells of `cells`, as even as the box is: each
/// direction grows alike but for rounding.
///
/// # Errors
/// The nearest growth that whole cells allow, when it is off by more than [`TOLERANCE`].
pub fn grow_box(cells: &[usize], growth: f64) -> Result<Vec<usize>, f64> {
    let d = cells.len();
    let factor = growth.powf(1.0 / d as f64);
    let wanted: Vec<f64> = cells.iter().map(|&n| n as f64 * factor).collect();
    // Each direction down, up, and one further, where that is not far off: 4^3 choices at most.
    let choices = |x: f64| -> Vec<usize> {
        let low = (x.floor() as usize).saturating_sub(1).max(1);
        let near: Vec<usize> =
            (low..=x.ceil() as usize + 1).filter(|&n| (0.75..=1.34).contains(&(n as f64 / x))).collect();
        if near.is_empty() { vec![x.round().max(1.0) as usize] } else { near }
    };
    let mut best: Option<(f64, f64, Vec<usize>)> = None;
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for &x in &wanted {
        let near = choices(x);
        all = all.iter().flat_map(|c| near.iter().map(move |&n| [c.as_slice(), &[n]].concat())).collect();
    }
    for choice in all {
        let logs = choice.iter().zip(&wanted).map(|(&n, x)| (n as f64 / x).ln());
        let (off, least, most) = logs.fold((0.0, f64::INFINITY, f64::NEG_INFINITY), |s, l| {
            (s.0 + l, f64::min(s.1, l), f64::max(s.2, l))
        });
        // Right first, even second.
        let score = off.abs() + 0.1 * (most - least);
        if best.as_ref().is_none_or(|b| score < b.0 - 1e-12) {
            best = Some((score, off, choice));
        }
    }
    let (_, off, choice) = best.ok_or(1.0)?;
    if off.abs() > TOLERANCE.ln_1p() { Err(off.exp() * growth) } else { Ok(choice) }
}

/// How many uniform refinements multiply the cells of a mesh by `growth`; `None` where no number does.
pub fn refinements(growth: f64, dimension: usize) -> Option<usize> {
    let each = 2f64.powi(dimension as i32);
    (0..20).find(|&k| (each.powi(k) / growth - 1.0).abs() < 1e-9).map(|k| k as usize)
}

/// The dimension of a mesh file, as `femdd mesh info` of that program says.
///
/// # Errors
/// A file that it cannot read.
pub fn dimension_of(program: &Path, mesh: &Path) -> Result<usize, RunError> {
    let mut command = Command::new(program);
    command.args(["mesh", "info"]).arg(mesh).stdin(Stdio::null());
    let ended = command.output().map_err(|e| environment(format!("{}: {e}", program.display())))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(wrong(said.trim().trim_start_matches("error: ").to_owned()));
    }
    let said = String::from_utf8_lossy(&ended.stdout);
    let found = said.lines().find_map(|line| line.trim().strip_prefix("dimension")?.trim().parse().ok());
    found.ok_or_else(|| environment(format!("{} does not say its dimension", mesh.display())))
}

/// What growth by `growth` sets in the case, and the growth that comes of it.
fn grown(case: &Case, dimension: usize, growth: f64, what: &str) -> Result<(Vec<String>, f64), RunError> {
    if growth == 1.0 {
        return Ok((Vec::new(), 1.0));
    }
    match &case.mesh.source {
        MeshSource::Box(spec) => box_grown(spec, growth).map_err(|nearest| {
            let cells = spec.cells.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            wrong(format!(
                "{what}: no box has {growth} times the cells of {cells} within {}% (the nearest has {nearest:.3} times): \
                 give the case more cells, or take ranks that are powers of {}",
                100.0 * TOLERANCE,
                1 << dimension
            ))
        }),
        MeshSource::File(_) => {
            let each = 1usize << dimension;
            let levels = refinements(growth, dimension).ok_or_else(|| {
                wrong(format!(
                    "{what}: the mesh of a file grows by uniform refinement, {each} times as many cells each time in \
                     {dimension} dimensions, and {growth} times is no power of that: possible are 1, {each}, {} times \
                     the first",
                    each * each
                ))
            })?;
            Ok((vec![format!("mesh.refine={}", case.mesh.refine + levels)], growth))
        }
    }
}

fn box_grown(spec: &BoxMesh, growth: f64) -> Result<(Vec<String>, f64), f64> {
    let cells = grow_box(&spec.cells, growth)?;
    let count = |cells: &[usize]| cells.iter().map(|&n| n as f64).product::<f64>();
    Ok((vec![format!("mesh.box.cells={cells:?}")], count(&cells) / count(&spec.cells)))
}

/// The default growth of a study of sizes: three steps up from the case as it is written.
pub fn default_growths(case: &Case, dimension: usize) -> Vec<f64> {
    match case.mesh.source {
        MeshSource::Box(_) => vec![1.0, 2.0, 4.0, 8.0],
        MeshSource::File(_) => (0..3).map(|k| 2f64.powi((k * dimension) as i32)).collect(),
    }
}

/// The rungs of a ladder. `growths` are for a study of sizes alone; a weak ladder's first rung has the case as it is
/// written.
///
/// # Errors
/// A ladder that cannot be climbed, with those that can.
pub fn rungs(
    growth: Growth,
    case: &Case,
    dimension: usize,
    ranks: &[usize],
    growths: &[f64],
) -> Result<Vec<Rung>, RunError> {
    if ranks.is_empty() || ranks.contains(&0) {
        return Err(wrong("--ranks needs numbers of ranks from 1 up, as in --ranks 1,2,4"));
    }
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|w| w[0] == w[1]) {
        return Err(wrong("--ranks names a number of ranks twice: repeats are made by --repeat"));
    }
    let first = sorted[0];
    if growth != Growth::Strong && case.adapt.is_some() {
        return Err(wrong(format!(
            "a {} study needs a mesh that grows as it is told, and this case refines its mesh itself: take [adapt] \
             out, or make a strong study",
            growth.name()
        )));
    }
    match growth {
        Growth::Strong => Ok(sorted
            .iter()
            .map(|&ranks| {
                let name = format!("{ranks}-ranks");
                Rung { name, ranks, growth: 1.0, actual: 1.0, sets: Vec::new() }
            })
            .collect()),
        Growth::Weak => sorted
            .iter()
            .map(|&ranks| {
                let times = ranks as f64 / first as f64;
                let possible = || {
                    let each = 1usize << dimension;
                    format!("{first}, {}, {}", first * each, first * each * each)
                };
                let what = match case.mesh.source {
                    MeshSource::File(_) => {
                        format!("{ranks} ranks cannot be a rung (possible are {})", possible())
                    }
                    MeshSource::Box(_) => format!("{ranks} ranks cannot be a rung"),
                };
                let (sets, actual) = grown(case, dimension, times, &what)?;
                Ok(Rung { name: format!("{ranks}-ranks"), ranks, growth: times, actual, sets })
            })
            .collect(),
        Growth::Size => {
            if ranks.len() != 1 {
                return Err(wrong(
                    "a study of sizes has one number of ranks, as in --ranks 2; sizes are given by --growth",
                ));
            }
            let mut growths = growths.to_vec();
            growths.sort_by(f64::total_cmp);
            if growths.iter().any(|g| !(g.is_finite() && *g >= 1.0))
                || growths.windows(2).any(|w| w[0] == w[1])
            {
                return Err(wrong("--growth needs different factors from 1 up, as in --growth 1,2,4,8"));
            }
            growths
                .iter()
                .map(|&times| {
                    let (sets, actual) = grown(case, dimension, times, &format!("a growth of {times}"))?;
                    Ok(Rung { name: format!("{times}-fold"), ranks: first, growth: times, actual, sets })
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn case(mesh: &str) -> Case {
        let text = format!("[case]\nformat = 1\n[mesh]\n{mesh}\n[physics]\nlaw = \"poisson\"\n");
        Case::parse(Path::new("cube.toml"), &text, &[]).expect("a case")
    }

    fn cube() -> Case {
        case("box = { size = [1, 1, 1], cells = [10, 10, 10], shape = \"tetrahedron\" }")
    }

    #[test]
    fn boxes_grow_evenly() {
        assert_eq!(grow_box(&[10, 10, 10], 8.0), Ok(vec![20, 20, 20]));
        assert_eq!(grow_box(&[12, 6], 4.0), Ok(vec![24, 12]));
        assert_eq!(grow_box(&[100], 3.0), Ok(vec![300]));
        let two = grow_box(&[20, 20, 20], 2.0).expect("a box");
        assert!(two.iter().all(|n| (25..=26).contains(n)), "{two:?}");
        // Three cells in a row are no cube.
        assert!(grow_box(&[1, 1, 1], 3.0).is_err());
    }

    #[test]
    fn strong_ladders_change_ranks_alone() {
        let found = rungs(Growth::Strong, &cube(), 3, &[4, 1, 2], &[]).expect("rungs");
        assert_eq!(found.iter().map(|r| r.ranks).collect::<Vec<_>>(), [1, 2, 4]);
        assert!(found.iter().all(|r| r.sets.is_empty() && r.actual == 1.0));
    }

    #[test]
    fn weak_ladders_keep_cells_a_rank() {
        let found = rungs(Growth::Weak, &cube(), 3, &[1, 2, 4, 8], &[]).expect("rungs");
        assert_eq!(found[3].sets, ["mesh.box.cells=[20, 20, 20]"]);
        for rung in &found {
            let per_rank = rung.actual / rung.ranks as f64;
            assert!((per_rank - 1.0).abs() <= TOLERANCE, "{rung:?}");
        }
        // From four ranks up: the case as it is written is theirs.
        let later = rungs(Growth::Weak, &cube(), 3, &[4, 32], &[]).expect("rungs");
        assert_eq!((later[0].sets.len(), later[1].sets[0].as_str()), (0, "mesh.box.cells=[20, 20, 20]"));
    }

    #[test]
    fn meshes_of_files_are_refined() {
        let file = case("file = \"cube.msh\"\nrefine = 1");
        let found = rungs(Growth::Weak, &file, 3, &[1, 8, 64], &[]).expect("rungs");
        assert_eq!(found[2].sets, ["mesh.refine=3"]);
        let error = rungs(Growth::Weak, &file, 3, &[2, 4], &[]).expect_err("4 = 2 * 2");
        assert!(error.message.contains("possible are 2, 16, 128"), "{}", error.message);
        assert!(rungs(Growth::Weak, &file, 2, &[2, 8], &[]).is_ok());
        let sizes = default_growths(&file, 2);
        assert_eq!(rungs(Growth::Size, &file, 2, &[2], &sizes).expect("rungs")[2].sets, ["mesh.refine=3"]);
    }

    #[test]
    fn impossible_ladders_say_what_is_possible() {
        let says = |result: Result<Vec<Rung>, RunError>, part: &str| {
            let message = result.expect_err(part).message;
            assert!(message.contains(part), "{message}");
        };
        says(rungs(Growth::Strong, &cube(), 3, &[0], &[]), "from 1 up");
        says(rungs(Growth::Strong, &cube(), 3, &[2, 2], &[]), "--repeat");
        says(rungs(Growth::Size, &cube(), 3, &[1, 2], &[1.0]), "--growth");
        says(rungs(Growth::Size, &cube(), 3, &[1], &[0.5]), "from 1 up");
        let tiny = case("box = { size = [1, 1, 1], cells = [1, 1, 1], shape = \"tetrahedron\" }");
        says(rungs(Growth::Weak, &tiny, 3, &[1, 3], &[]), "more cells");
    }

    proptest! {
        /// Boxes with 20 cells a side grow by any factor to within 5%, and stay as even as rounding allows.
        #[test]
        fn large_boxes_grow_by_anything(
            cells in proptest::collection::vec(20..60usize, 1..=3), growth in 1.0..300.0f64,
        ) {
            let found = grow_box(&cells, growth);
            prop_assert!(found.is_ok(), "{:?} {}: {:?}", cells, growth, found);
            let found = found.unwrap_or_default();
            let ratios: Vec<f64> = found.iter().zip(&cells).map(|(a, b)| *a as f64 / *b as f64).collect();
            let product: f64 = ratios.iter().product();
            prop_assert!((product / growth).ln().abs() <= TOLERANCE.ln_1p() + 1e-12);
            let even = ratios.iter().cloned().fold(0.0, f64::max) / ratios.iter().cloned().fold(f64::INFINITY, f64::min);
            prop_assert!(even < 1.2, "{:?} of {:?}", found, cells);
        }
    }
}
