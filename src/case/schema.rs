//! The one table of laws: their equations, fields, coefficients and boundary keys; and the solver
//! methods with their own keys.
//!
//! May import: nothing of this crate. Validation, defaults, the resolved case and the reference page
//! all follow this table; a new law starts here.

/// Which equation is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// -div(diffusion grad u) + reaction u = source
    Poisson,
    /// density specific_heat T_t - div(conductivity grad T) = source
    Heat,
    /// -div(diffusion grad u) + velocity . grad u + reaction u = source
    ConvectionDiffusion,
    /// -div stress = body_force, small strains, isotropic
    Elasticity,
}

/// The values a number may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Any finite number.
    Any,
    /// Greater than zero.
    Positive,
    /// Zero or greater.
    NonNegative,
    /// Strictly between two numbers.
    Between(f64, f64),
    /// Greater than the first, up to and including the second.
    UpTo(f64, f64),
    /// At least this.
    AtLeast(f64),
}

impl Bound {
    /// True if `c` is allowed.
    pub fn holds(self, c: f64) -> bool {
        match self {
            Self::Any => true,
            Self::Positive => c > 0.0,
            Self::NonNegative => c >= 0.0,
            Self::Between(low, high) => c > low && c < high,
            Self::UpTo(low, high) => c > low && c <= high,
            Self::AtLeast(low) => c >= low,
        }
    }

    /// What is allowed, after "must be".
    pub fn text(self) -> String {
        match self {
            Self::Any => "a number".into(),
            Self::Positive => "positive".into(),
            Self::NonNegative => "zero or positive".into(),
            Self::Between(low, high) => format!("between {low} and {high}, both excluded"),
            Self::UpTo(low, high) => format!("greater than {low} and at most {high}"),
            Self::AtLeast(low) => format!("at least {low}"),
        }
    }
}

/// What form a coefficient takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number or an expression.
    Scalar,
    /// As many of them as there are dimensions; 0 alone means the zero vector.
    Vector,
    /// A scalar, the diagonal, or all entries by rows.
    Tensor,
}

/// What a coefficient is when the case does not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standard {
    /// It must be given, under `[physics]` or in every region.
    Required,
    /// This number; for a vector, each component.
    Number(f64),
}

/// One coefficient of a law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoefficientSchema {
    /// Its key.
    pub name: &'static str,
    /// Scalar, vector or tensor.
    pub form: Form,
    /// Its default.
    pub standard: Standard,
    /// What a constant value is checked against.
    pub bound: Bound,
    /// Its meaning.
    pub meaning: &'static str,
}

/// One kind of boundary condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionKind {
    /// The field itself (Dirichlet).
    Essential,
    /// A flux into the body.
    Inflow,
    /// A flux proportional to the difference from an ambient value.
    Robin,
    /// This side is the same as another.
    Periodic,
    /// A traction along the inner normal.
    Pressure,
    /// A force per area.
    Traction,
    /// A point load.
    Force,
}

/// All about one law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LawSchema {
    /// Which.
    pub law: Law,
    /// Its name in the file.
    pub name: &'static str,
    /// In words of the reference page.
    pub equation: &'static str,
    /// Its field.
    pub field: &'static str,
    /// True if the field is a vector.
    pub is_vector: bool,
    /// In the order of the resolved case.
    pub coefficients: &'static [CoefficientSchema],
    /// Boundary keys besides the essential ones (`value`, `u` and the field's name).
    pub conditions: &'static [(&'static str, ConditionKind)],
}

const fn coefficient(
    name: &'static str,
    form: Form,
    standard: Standard,
    bound: Bound,
    meaning: &'static str,
) -> CoefficientSchema {
    CoefficientSchema { name, form, standard, bound, meaning }
}

use Bound::{Any, Between, NonNegative, Positive};
use Form::{Scalar, Tensor, Vector};
use Standard::{Number, Required};

const DIFFUSION: CoefficientSchema =
    coefficient("diffusion", Tensor, Number(1.0), Positive, "diffusion, scalar or tensor");
const REACTION: CoefficientSchema = coefficient("reaction", Scalar, Number(0.0), Any, "factor of u itself");
const SOURCE: CoefficientSchema =
    coefficient("source", Scalar, Number(0.0), Any, "what is produced per volume and time");

const SCALAR_CONDITIONS: &[(&str, ConditionKind)] = &[
    ("inflow", ConditionKind::Inflow),
    ("robin", ConditionKind::Robin),
    ("periodic", ConditionKind::Periodic),
];

/// Every law of this version.
pub const LAWS: [LawSchema; 4] = [
    LawSchema {
        law: Law::Poisson,
        name: "poisson",
        equation: "-div(diffusion grad u) + reaction u = source",
        field: "u",
        is_vector: false,
        coefficients: &[DIFFUSION, REACTION, SOURCE],
        conditions: SCALAR_CONDITIONS,
    },
    LawSchema {
        law: Law::Heat,
        name: "heat",
        equation: "density specific_heat T_t - div(conductivity grad T) = source",
        field: "temperature",
        is_vector: false,
        coefficients: &[
            coefficient("conductivity", Tensor, Number(1.0), Positive, "heat conductivity, scalar or tensor"),
            coefficient("density", Scalar, Number(1.0), Positive, "mass per volume"),
            coefficient("specific_heat", Scalar, Number(1.0), Positive, "heat capacity per mass"),
            coefficient("source", Scalar, Number(0.0), Any, "heat produced per volume and time"),
        ],
        conditions: SCALAR_CONDITIONS,
    },
    LawSchema {
        law: Law::ConvectionDiffusion,
        name: "convection-diffusion",
        equation: "-div(diffusion grad u) + velocity . grad u + reaction u = source",
        field: "u",
        is_vector: false,
        coefficients: &[
            DIFFUSION,
            coefficient("velocity", Vector, Number(0.0), Any, "what carries u along"),
            REACTION,
            SOURCE,
        ],
        conditions: SCALAR_CONDITIONS,
    },
    LawSchema {
        law: Law::Elasticity,
        name: "elasticity",
        equation: "-div stress = body_force",
        field: "displacement",
        is_vector: true,
        coefficients: &[
            coefficient("young", Scalar, Required, Positive, "Young's modulus"),
            // In plane stress 0.5 itself is allowed; the case checks that where it is known.
            coefficient("poisson_ratio", Scalar, Required, Between(-1.0, 0.5), "Poisson's ratio"),
            coefficient("density", Scalar, Number(0.0), NonNegative, "mass per volume"),
            coefficient("body_force", Vector, Number(0.0), Any, "force per volume"),
            coefficient("thermal_expansion", Scalar, Number(0.0), Any, "linear expansion per degree"),
            coefficient("temperature", Scalar, Number(0.0), Any, "temperature of the body"),
            coefficient(
                "reference_temperature",
                Scalar,
                Number(0.0),
                Any,
                "temperature without thermal strain",
            ),
            coefficient("thickness", Scalar, Number(1.0), Positive, "out of the plane, in 2D"),
        ],
        conditions: &[
            ("pressure", ConditionKind::Pressure),
            ("traction", ConditionKind::Traction),
            ("force", ConditionKind::Force),
            ("periodic", ConditionKind::Periodic),
        ],
    },
];

impl Law {
    /// All about it.
    pub fn schema(self) -> &'static LawSchema {
        match self {
            Self::Poisson => &LAWS[0],
            Self::Heat => &LAWS[1],
            Self::ConvectionDiffusion => &LAWS[2],
            Self::Elasticity => &LAWS[3],
        }
    }

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        self.schema().name
    }

    /// The name of its field.
    pub fn field(self) -> &'static str {
        self.schema().field
    }

    /// True if its field has a component for each dimension.
    pub fn is_vector(self) -> bool {
        self.schema().is_vector
    }

    /// Components of its field on a mesh of that dimension.
    pub fn n_components(self, dimension: usize) -> usize {
        if self.is_vector() { dimension } else { 1 }
    }

    /// The keys that stand for its field: its name, `value`, `u`.
    pub fn field_keys(self) -> Vec<&'static str> {
        let mut keys = vec![self.field(), "value", "u"];
        if self.field() == "u" {
            keys.remove(0);
        }
        keys
    }

    /// Every key a boundary of this law knows, `on` and `at` aside.
    pub fn boundary_keys(self) -> Vec<&'static str> {
        let mut keys = self.field_keys();
        keys.extend(self.schema().conditions.iter().map(|(k, _)| *k));
        keys
    }
}

/// Krylov methods, and whether each needs a symmetric problem and preconditioner.
pub const KRYLOV: [(&str, bool); 5] =
    [("cg", true), ("minres", true), ("gmres", false), ("fgmres", false), ("bicgstab", false)];

/// Preconditioners, and whether each is symmetric.
pub const PRECONDITIONERS: [(&str, bool); 13] = [
    ("amg", true),
    ("boomeramg", true),
    ("gamg", true),
    ("asm", true),
    ("ras", false),
    ("oras", false),
    ("bddc", true),
    ("geneo", true),
    ("pmg", true),
    ("jacobi", true),
    ("bjacobi", true),
    ("ilu", false),
    ("none", true),
];

/// Methods that are not a Krylov method with a preconditioner.
pub const WHOLE_METHODS: [&str; 4] = ["auto", "direct", "feti-dp", "petsc"];

/// A key of `[solver]` that only some methods have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MethodKey {
    /// The key.
    pub name: &'static str,
    /// True if it must be a whole number.
    pub is_whole: bool,
    /// What it may be.
    pub bound: Bound,
    /// Parts of a method's name that make it have this key.
    pub used_by: &'static [&'static str],
    /// Its meaning.
    pub meaning: &'static str,
}

/// Keys of single methods. With `auto` and `petsc` each may be given.
pub const METHOD_KEYS: [MethodKey; 5] = [
    MethodKey {
        name: "overlap",
        is_whole: true,
        bound: Bound::AtLeast(0.0),
        used_by: &["asm", "ras", "oras", "geneo"],
        meaning: "layers of cells by which subdomains overlap",
    },
    MethodKey {
        name: "condition_target",
        is_whole: false,
        bound: Bound::AtLeast(1.0),
        used_by: &["geneo", "bddc", "feti-dp"],
        meaning: "bound on the condition number that the coarse space is chosen for",
    },
    MethodKey {
        name: "modes",
        is_whole: true,
        bound: Bound::AtLeast(0.0),
        used_by: &["geneo", "bddc", "feti-dp"],
        meaning: "most coarse vectors a subdomain contributes",
    },
    MethodKey {
        name: "subdomains",
        is_whole: true,
        bound: Bound::AtLeast(1.0),
        used_by: &["asm", "ras", "oras", "geneo", "bddc", "feti-dp"],
        meaning: "subdomains on each rank",
    },
    MethodKey {
        name: "restart",
        is_whole: true,
        bound: Bound::AtLeast(1.0),
        used_by: &["gmres", "fgmres"],
        meaning: "iterations before GMRES starts over",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_law_finds_itself() {
        for schema in &LAWS {
            assert_eq!(schema.law.schema(), schema);
            assert!(schema.law.boundary_keys().contains(&"value"));
            for (i, c) in schema.coefficients.iter().enumerate() {
                assert!(schema.coefficients[i + 1..].iter().all(|d| d.name != c.name));
                if let Standard::Number(n) = c.standard {
                    assert!(c.bound.holds(n), "{} {}", schema.name, c.name);
                }
            }
        }
    }

    #[test]
    fn field_keys_have_no_doubles() {
        assert_eq!(Law::Poisson.field_keys(), ["value", "u"]);
        assert_eq!(Law::Heat.field_keys(), ["temperature", "value", "u"]);
    }
}
