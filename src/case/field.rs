//! Names of what can be probed, integrated and written: `u`, `u.x`, `grad.x`, `stress.zz`, ...
//!
//! May import: `schema`.

use super::schema::Law;
use crate::law::expr::nearest;

/// What a field name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// The unknown itself.
    Solution,
    /// Its gradient; of a vector field, `grad.xy` is the derivative of component x along y.
    Gradient,
    /// -kappa grad u of a scalar law.
    Flux,
    /// Symmetric gradient of a displacement; `strain.xy` is the tensor's component.
    Strain,
    /// Cauchy stress, tension positive.
    Stress,
    /// Von Mises stress.
    VonMises,
    /// Force or flow needed to hold an essential condition.
    Reaction,
    /// The estimator's indicator of each cell.
    Indicator,
    /// The rank that owns each cell.
    Rank,
}

/// Which part of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    All,
    /// One component of a vector.
    Component(usize),
    /// One component of a tensor.
    Entry(usize, usize),
    /// Along the outer normal.
    Normal,
}

/// A field name that exists for the law at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldRef {
    /// What.
    pub quantity: Quantity,
    /// Which part of it.
    pub part: Part,
    /// Whose.
    pub law: Law,
}

const AXES: [&str; 3] = ["x", "y", "z"];

/// Quantities of a law: name, quantity, and which parts it has.
fn vocabulary(law: Law) -> Vec<(&'static str, Quantity, Parts)> {
    use Parts::{Scalar, Symmetric, Tensor, Vector, VectorAndNormal};
    let mut names = Vec::new();
    let solution = if law.is_vector() { Vector } else { Scalar };
    if law.field() != "u" {
        names.push((law.field(), Quantity::Solution, solution));
    }
    names.push(("u", Quantity::Solution, solution));
    if law.is_vector() {
        names.push(("grad", Quantity::Gradient, Tensor));
        names.push(("strain", Quantity::Strain, Symmetric));
        names.push(("stress", Quantity::Stress, Symmetric));
        names.push(("von_mises", Quantity::VonMises, Scalar));
        names.push(("reaction", Quantity::Reaction, Vector));
    } else {
        names.push(("grad", Quantity::Gradient, Vector));
        names.push(("flux", Quantity::Flux, VectorAndNormal));
        names.push(("reaction", Quantity::Reaction, Scalar));
    }
    names.push(("indicator", Quantity::Indicator, Scalar));
    names.push(("rank", Quantity::Rank, Scalar));
    names
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Parts {
    Scalar,
    Vector,
    VectorAndNormal,
    Tensor,
    Symmetric,
}

impl Parts {
    fn parse(self, text: &str) -> Option<Part> {
        let axis = |c: char| "xyz".find(c);
        let letters: Vec<char> = text.chars().collect();
        match (self, letters.as_slice()) {
            (Self::VectorAndNormal, ['n']) => Some(Part::Normal),
            (Self::Vector | Self::VectorAndNormal, [c]) => axis(*c).map(Part::Component),
            (Self::Tensor, [a, b]) => Some(Part::Entry(axis(*a)?, axis(*b)?)),
            (Self::Symmetric, [a, b]) => {
                let (a, b) = (axis(*a)?, axis(*b)?);
                Some(Part::Entry(a.min(b), a.max(b)))
            }
            _ => None,
        }
    }

    fn names(self) -> &'static str {
        match self {
            Self::Scalar => "no components",
            Self::Vector => "components x, y, z",
            Self::VectorAndNormal => "components x, y, z and n",
            Self::Tensor => "components xx, xy, xz, yx, ..., zz",
            Self::Symmetric => "components xx, yy, zz, xy, yz, xz",
        }
    }
}

impl FieldRef {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with the name, and what to write instead.
    pub fn parse(text: &str, law: Law) -> Result<Self, (String, Option<String>)> {
        let (base, part) = match text.split_once('.') {
            Some((base, part)) => (base, Some(part)),
            None => (text, None),
        };
        let names = vocabulary(law);
        // Both stand for the only field.
        let wanted = if base == "value" { "u" } else { base };
        let Some(&(name, quantity, parts)) = names.iter().find(|(n, ..)| *n == wanted) else {
            let known = names.iter().map(|(n, ..)| *n);
            let help = match nearest(base, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the fields are {}", known.collect::<Vec<_>>().join(", ")),
            };
            let message = format!("law `{}` has no field `{base}`", law.name());
            return Err((message, Some(help)));
        };
        let part = match part {
            None => Part::All,
            Some(text) => parts.parse(text).ok_or_else(|| {
                let message = format!("`{name}` has no component `{text}`");
                (message, Some(format!("`{name}` has {}", parts.names())))
            })?,
        };
        Ok(Self { quantity, part, law })
    }

    /// The name, with the law's own name for its field.
    pub fn name(&self) -> String {
        let names = vocabulary(self.law);
        let base = names.iter().find(|(_, q, _)| *q == self.quantity).map_or("u", |(n, ..)| *n);
        match self.part {
            Part::All => base.into(),
            Part::Component(i) => format!("{base}.{}", AXES[i]),
            Part::Entry(i, j) => format!("{base}.{}{}", AXES[i], AXES[j]),
            Part::Normal => format!("{base}.n"),
        }
    }

    /// The largest axis its part names, if it names one; 0 for x.
    ///
    /// Stress and strain have their out-of-plane entries in the plane too.
    pub(super) fn largest_axis(&self) -> Option<usize> {
        match (self.quantity, self.part) {
            (Quantity::Stress | Quantity::Strain, Part::Entry(2, 2)) => None,
            (_, Part::Component(i)) => Some(i),
            (_, Part::Entry(i, j)) => Some(i.max(j)),
            (_, Part::All | Part::Normal) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (law, names) in [
            (
                Law::Poisson,
                vec!["u", "grad", "grad.z", "flux", "flux.x", "flux.n", "reaction", "indicator", "rank"],
            ),
            (Law::Heat, vec!["temperature", "grad.x", "flux.n"]),
            (
                Law::Elasticity,
                vec![
                    "displacement",
                    "displacement.x",
                    "grad.yx",
                    "strain.xy",
                    "stress",
                    "stress.zz",
                    "von_mises",
                    "reaction.z",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(FieldRef::parse(name, law).map(|f| f.name()), Ok(name.to_string()));
            }
        }
    }

    #[test]
    fn u_is_a_synonym_and_tensors_are_symmetric() {
        let name = |text, law| FieldRef::parse(text, law).map(|f| f.name());
        assert_eq!(name("u.y", Law::Elasticity), Ok("displacement.y".into()));
        assert_eq!(name("u", Law::Heat), Ok("temperature".into()));
        assert_eq!(name("value", Law::Heat), Ok("temperature".into()));
        assert_eq!(name("value.y", Law::Elasticity), Ok("displacement.y".into()));
        assert_eq!(name("stress.yx", Law::Elasticity), Ok("stress.xy".into()));
        assert_eq!(name("grad.yx", Law::Elasticity), Ok("grad.yx".into()));
    }

    #[test]
    fn unknown_names_say_what_exists() {
        let fail = |text, law| FieldRef::parse(text, law).expect_err(text);
        assert_eq!(
            fail("stres.xx", Law::Elasticity),
            ("law `elasticity` has no field `stres`".into(), Some("did you mean `stress`?".into()))
        );
        assert_eq!(
            fail("stress", Law::Poisson).1.as_deref(),
            Some("the fields are u, grad, flux, reaction, indicator, rank")
        );
        assert_eq!(
            fail("stress.xw", Law::Elasticity),
            (
                "`stress` has no component `xw`".into(),
                Some("`stress` has components xx, yy, zz, xy, yz, xz".into())
            )
        );
        assert_eq!(fail("u.x", Law::Heat).1.as_deref(), Some("`u` has no components"));
    }
}
