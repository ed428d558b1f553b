//! The marking `auto`: small steps while the error sits in few cells, large ones to the limit.
//!
//! Imports [`mark`](super::mark). Start at [`Outlook::step`]. A step that refines little puts cells where they
//! are worth most, but each solves the problem anew, and the unknowns of all of them add up to a multiple of the
//! last one's. Once the error is spread over the mesh, refining nearly all of it keeps it so, up to the cells
//! round singular points, which are few: the last steps can be as large as a mesh allows. The last mesh is
//! found from the limit: its unknowns, or the cells to refine for the tolerance.

use super::mark::Amount;

/// The share of Doerfler's marking in small steps.
pub const SHARE: f64 = 0.5;

/// The error is spread over the mesh if the cells that hold [`SHARE`] of it are more than this part of all,
/// over `2^dim`. On meshes that Doerfler's marking has brought into balance it is 0.4 to 1.2 of the corners and
/// fronts of `docs/performance.md`, on the first ones of an L-shape 0.06.
const SPREAD: f64 = 0.25;

/// Large steps take a mesh to at most so many times its unknowns.
const REACH: f64 = 12.0;

/// How much of the growth that refining every cell would bring a step may have: in later meshes the least
/// indicators are in cells that earlier steps refined along with others.
const NEARLY_ALL: f64 = 0.9;

/// Round a singular point a few cells, with together ten times the largest indicator, fall behind: cut, they keep about
/// half of theirs. At the end they may hold a fifth of what all others do.
const BEHIND: f64 = 0.02;

/// The tolerance is aimed at with a tenth to spare in the sum of squares: missing it costs another solve.
const AIM: f64 = 0.9;

/// How many large steps, each by the same factor, take a mesh to `growth` times its unknowns; nothing if that is out of
/// their reach.
pub fn large_steps(dim: usize, growth: f64) -> Option<i32> {
    let most = NEARLY_ALL * f64::from(1u32 << dim);
    (growth <= REACH).then(|| (growth.ln() / most.ln()).ceil().max(1.0) as i32)
}

/// What is known before cells are marked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Of the mesh.
    pub dim: usize,
    /// Of the space.
    pub degree: usize,
    /// Part of the cells that holds [`SHARE`] of the sum of the indicators.
    pub part: f64,
    /// The largest indicator over the sum of all.
    pub peak: f64,
    /// The most unknowns allowed over those there are; infinite without a limit.
    pub growth: f64,
    /// The sum of the indicators that is allowed over that of now; nothing without a tolerance.
    pub allowed: Option<f64>,
}

/// What is refined next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Cells by their indicators.
    Mark(Amount),
    /// So many that the mesh has as many unknowns as are allowed: the last one. Holds the part of the cells, if
    /// none but they were refined.
    Fill(f64),
}

impl Outlook {
    /// What to refine. Refining a cell is taken to reduce its indicator, a square, by `4^-degree`, as it does
    /// where the solution is smooth, and the sum to follow `n^(-2 degree / dim)` on meshes of n unknowns.
    pub fn step(&self) -> Step {
        let children = f64::from(1u32 << self.dim);
        let kept = 0.25f64.powi(self.degree as i32);
        // Of cells with this share of the sum, enough goes.
        let share = self.allowed.map(|allowed| (1.0 - AIM * allowed) / (1.0 - kept));
        if let Some(share) = share.filter(|&share| share <= SHARE) {
            return Step::Mark(Amount::Share(share.max(0.05)));
        }
        let small = Step::Mark(Amount::Share(SHARE));
        if self.part < SPREAD / children {
            return small;
        }
        let exponent = -(self.dim as f64) / (2.0 * self.degree as f64);
        let needed = self.allowed.map_or(f64::INFINITY, |allowed| (AIM * allowed).powf(exponent));
        let growth = needed.min(self.growth);
        let Some(steps) = large_steps(self.dim, growth) else { return small };
        if self.peak > BEHIND * (2.0 * kept).powi(steps) {
            return small;
        }
        let next = growth.powf(1.0 / f64::from(steps));
        let part = ((next - 1.0) / (children - 1.0)).clamp(0.0, 1.0);
        match share {
            _ if steps > 1 => Step::Mark(Amount::Fraction(part)),
            Some(share) if needed <= self.growth => Step::Mark(Amount::Share(share.min(1.0))),
            _ => Step::Fill(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANE: Outlook =
        Outlook { dim: 2, degree: 1, part: 0.2, peak: 1e-4, growth: f64::INFINITY, allowed: None };

    #[test]
    fn without_a_limit_at_hand_steps_are_small() {
        let small = Step::Mark(Amount::Share(SHARE));
        assert_eq!(PLANE.step(), small);
        assert_eq!(Outlook { growth: 13.0, ..PLANE }.step(), small);
        assert_eq!(Outlook { allowed: Some(1e-3), ..PLANE }.step(), small);
        // A limit is at hand, but the error sits in few cells.
        assert_eq!(Outlook { growth: 3.0, part: 0.05, ..PLANE }.step(), small);
        // Some cells would fall behind: in two steps, or at a higher degree.
        assert_ne!(Outlook { growth: 3.0, peak: 0.007, ..PLANE }.step(), small);
        assert_eq!(Outlook { growth: 9.0, peak: 0.007, ..PLANE }.step(), small);
        assert_eq!(Outlook { growth: 3.0, peak: 0.007, degree: 2, ..PLANE }.step(), small);
        assert_eq!(Outlook { growth: f64::NAN, ..PLANE }.step(), small);
    }

    #[test]
    fn the_last_steps_are_alike_and_end_at_the_limit() {
        let Step::Mark(Amount::Fraction(part)) = (Outlook { growth: 9.0, ..PLANE }).step() else { panic!() };
        assert!((1.0 + 3.0 * part - 3.0).abs() < 1e-12, "{part}");
        let Step::Fill(part) = (Outlook { growth: 3.0, ..PLANE }).step() else { panic!() };
        assert!((1.0 + 3.0 * part - 3.0).abs() < 1e-12, "{part}");
        let Step::Fill(part) = (Outlook { dim: 3, growth: 7.0, ..PLANE }).step() else { panic!() };
        assert!((1.0 + 7.0 * part - 7.0).abs() < 1e-12, "{part}");
        assert_eq!(Outlook { growth: 0.9, ..PLANE }.step(), Step::Fill(0.0));
    }

    #[test]
    fn the_tolerance_decides_where_it_comes_first() {
        // The sum is to fall by 0.9 * 0.8; of the marked part a quarter stays.
        let Step::Mark(Amount::Share(share)) = (Outlook { allowed: Some(0.8), ..PLANE }).step() else {
            panic!()
        };
        assert!((1.0 - 0.75 * share - 0.72).abs() < 1e-12 && share < SHARE, "{share}");
        let near = Outlook { allowed: Some(0.4), growth: 20.0, ..PLANE };
        let Step::Mark(Amount::Share(share)) = near.step() else { panic!() };
        assert!((1.0 - 0.75 * share - 0.36).abs() < 1e-12 && share > SHARE, "{share}");
        // Degree 2 needs fewer cells for the same.
        let Step::Mark(Amount::Share(high)) = (Outlook { degree: 2, ..near }).step() else { panic!() };
        assert!(high < share);
        // Two steps to the tolerance; fewer unknowns are allowed than it needs.
        assert!(matches!(
            Outlook { allowed: Some(0.15), ..near }.step(),
            Step::Mark(Amount::Fraction(part)) if part > 0.3 && part < 1.0
        ));
        assert!(matches!(Outlook { allowed: Some(0.4), growth: 2.0, ..PLANE }.step(), Step::Fill(_)));
    }
}
