//! The case as plain data: what the file says, checked, with every default filled in.
//!
//! May import: `law::expr`, `schema`, `field`. Start at [`Case`]. Whatever a later stage may have to
//! complain about keeps its [`Place`], for [`Case::error`](super::Case::error).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::field::FieldRef;
use super::schema::{Form, Law};
use crate::law::expr::Expr;

/// Where something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Nowhere: it is a default.
    #[default]
    Default,
    /// Bytes `start..end` of the case file.
    File {
        /// First byte.
        start: usize,
        /// One past the last.
        end: usize,
    },
    /// In a `--set` argument, by its index.
    Flag(usize),
}

/// A name in the file, of a group of the mesh or of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name; a tag is its digits.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// A whole case.
#[derive(Debug, Clone)]
pub struct Case {
    /// File stem.
    pub name: String,
    /// The case file.
    pub file: PathBuf,
    /// Its text, for messages.
    pub text: String,
    /// The `--set` arguments.
    pub sets: Vec<String>,
    /// Free text.
    pub title: Option<String>,
    /// Directory of the run.
    pub output_dir: PathBuf,
    /// Named constants.
    pub parameters: BTreeMap<String, f64>,
    /// The mesh and what is done to it.
    pub mesh: MeshInput,
    /// Lagrange degree of the law's field, 1 to 4.
    pub degree: usize,
    /// Law and coefficients.
    pub physics: Physics,
    /// Overrides of coefficients, in the order of the file; the later wins.
    pub regions: Vec<Region>,
    /// Boundary conditions in the order of the file.
    pub boundaries: Vec<Boundary>,
    /// How the equations are solved.
    pub solver: Solver,
    /// Adaptation, if wanted.
    pub adapt: Option<Adapt>,
    /// Time stepping, if the case is transient.
    pub time: Option<Time>,
    /// What the solution starts from.
    pub initial: Option<Initial>,
    /// Exact solution, if known.
    pub exact: Option<Exact>,
    /// Values wanted at points.
    pub probes: Vec<Probe>,
    /// Integrals wanted.
    pub integrals: Vec<Integral>,
    /// Switches of speed.
    pub performance: Performance,
    /// What is written.
    pub output: Output,
}

/// `[mesh]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshInput {
    /// File or box.
    pub source: MeshSource,
    /// Factor on all coordinates.
    pub scale: f64,
    /// Uniform refinements after distribution.
    pub refine: usize,
    /// Of the key `file` or `box`.
    pub place: Place,
}

/// Where the mesh comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum MeshSource {
    /// A mesh file; a relative path was taken relative to the case file.
    File(PathBuf),
    /// A generated box.
    Box(BoxMesh),
}

/// A box cut into equal cells. Shapes: `size`, `cells` and `origin` have one entry a dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxMesh {
    /// Lengths of the sides.
    pub size: Vec<f64>,
    /// Cells along each side; for simplices, of the grid that is cut into them.
    pub cells: Vec<usize>,
    /// Shape of the cells.
    pub shape: BoxShape,
    /// Lowest corner.
    pub origin: Vec<f64>,
}

impl BoxMesh {
    /// Names of the sides, lowest coordinate first.
    pub fn sides(&self) -> &'static [&'static str] {
        &["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"][..2 * self.size.len()]
    }
}

/// Cell shapes of a generated box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxShape {
    /// In 1D.
    Interval,
    /// In 2D, two a square.
    Triangle,
    /// In 2D.
    Quadrilateral,
    /// In 3D, six a cube.
    Tetrahedron,
    /// In 3D.
    Hexahedron,
}

impl BoxShape {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Triangle => "triangle",
            Self::Quadrilateral => "quadrilateral",
            Self::Tetrahedron => "tetrahedron",
            Self::Hexahedron => "hexahedron",
        }
    }

    /// The dimension it fills.
    pub fn dimension(self) -> usize {
        match self {
            Self::Interval => 1,
            Self::Triangle | Self::Quadrilateral => 2,
            Self::Tetrahedron | Self::Hexahedron => 3,
        }
    }
}

/// A coefficient's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number. Where a vector is wanted, the zero vector; where a tensor is, a multiple of the
    /// identity.
    Scalar(Expr),
    /// A vector; where a tensor is wanted, its diagonal.
    Vector(Vec<Expr>),
    /// A full tensor by rows.
    Tensor(Vec<Vec<Expr>>),
}

impl Value {
    /// All expressions in it, in the order they are written.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Self::Scalar(e) => vec![e],
            Self::Vector(v) => v.iter().collect(),
            Self::Tensor(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Components of a vector coefficient.
    pub fn vector(&self, dimension: usize) -> Vec<Expr> {
        match self {
            Self::Scalar(e) => vec![e.clone(); dimension],
            Self::Vector(v) => v.clone(),
            Self::Tensor(rows) => rows.iter().flatten().cloned().collect(),
        }
    }

    /// Entries of a tensor coefficient by rows, zeros filled in.
    pub fn tensor(&self, dimension: usize) -> Vec<Vec<Expr>> {
        let diagonal = |at: &dyn Fn(usize) -> Expr| -> Vec<Vec<Expr>> {
            let entry = |i, j| if i == j { at(i) } else { Expr::constant(0.0) };
            (0..dimension).map(|i| (0..dimension).map(|j| entry(i, j)).collect()).collect()
        };
        match self {
            Self::Scalar(e) => diagonal(&|_| e.clone()),
            Self::Vector(v) => diagonal(&|i| v[i].clone()),
            Self::Tensor(rows) => rows.clone(),
        }
    }

    /// False for a full tensor that differs from its transpose.
    pub fn is_symmetric(&self) -> bool {
        match self {
            Self::Scalar(_) | Self::Vector(_) => true,
            Self::Tensor(rows) => (0..rows.len()).all(|i| (0..i).all(|j| rows[i][j] == rows[j][i])),
        }
    }
}

/// One coefficient of the law.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficient {
    /// Its name in the schema.
    pub name: &'static str,
    /// Scalar, vector or tensor, as the law wants it.
    pub form: Form,
    /// Its value.
    pub value: Value,
    /// Dotted key.
    pub key: String,
    /// Where the value stands; [`Place::Default`] if the case does not give it.
    pub place: Place,
}

/// What is assumed out of the plane in 2D elasticity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// No strain out of the plane.
    Strain,
    /// No stress out of the plane.
    Stress,
}

/// `[physics]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Physics {
    /// Which law.
    pub law: Law,
    /// Every coefficient of the law in the schema's order. One that is required may be missing
    /// here if every region gives it; whoever reads the mesh checks that each cell has one.
    pub coefficients: Vec<Coefficient>,
    /// Of 2D elasticity.
    pub plane: Plane,
    /// Where `plane` stands.
    pub plane_place: Place,
    /// Of the heading.
    pub place: Place,
}

impl Physics {
    /// A coefficient by name.
    pub fn coefficient(&self, name: &str) -> Option<&Coefficient> {
        self.coefficients.iter().find(|c| c.name == name)
    }
}

/// `[region.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// NAME.
    pub heading: String,
    /// Groups of cells it applies to.
    pub on: Vec<Name>,
    /// The coefficients it overrides.
    pub coefficients: Vec<Coefficient>,
    /// Of the heading.
    pub place: Place,
}

/// `[boundary.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// NAME.
    pub heading: String,
    /// Groups it applies to; empty if `at` is given.
    pub on: Vec<Name>,
    /// The mesh vertex it applies to, instead of groups; as many numbers as dimensions.
    pub at: Option<Vec<f64>>,
    /// At least one.
    pub conditions: Vec<Condition>,
    /// Of the heading.
    pub place: Place,
}

/// A boundary condition, its dotted key and place.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What it says.
    pub kind: ConditionValue,
    /// Dotted key.
    pub key: String,
    /// Where its value stands.
    pub place: Place,
}

/// What a boundary condition says.
#[derive(Debug, Clone, PartialEq)]
pub enum ConditionValue {
    /// The field's value.
    Essential(Essential),
    /// kappa du/dn, into the body.
    Inflow(Expr),
    /// kappa du/dn = coefficient (ambient - u).
    Robin {
        /// Coefficient.
        coefficient: Expr,
        /// Ambient value.
        ambient: Expr,
    },
    /// This side continues at another.
    Periodic {
        /// The other side.
        with: Name,
    },
    /// A traction of -p n.
    Pressure(Expr),
    /// Force per area, one entry a dimension.
    Traction(Vec<Expr>),
    /// Point load, one entry a dimension.
    Force(Vec<Expr>),
}

/// Which components of the field are fixed.
#[derive(Debug, Clone, PartialEq)]
pub enum Essential {
    /// One entry a component, `None` where the component is free. Given by names (`{ z = 0 }`) it
    /// has three entries whatever the dimension, given as an array one for each dimension.
    Components(Vec<Option<Expr>>),
    /// The component along the outer normal.
    Normal(Expr),
}

/// `[solver]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Solver {
    /// `auto`, `direct`, `feti-dp`, `petsc`, or a Krylov method `+` a preconditioner.
    pub method: String,
    /// Where the method stands.
    pub method_place: Place,
    /// ||b - Ax|| <= tolerance ||b||.
    pub tolerance: f64,
    /// Iterations after which the solver gives up.
    pub max_iterations: usize,
    /// Where it computes.
    pub backend: Backend,
    /// PETSc options, applied last.
    pub petsc: String,
    /// Layers of overlap, if given.
    pub overlap: Option<usize>,
    /// Every key of single methods that is given (see `METHOD_KEYS`), `overlap` among them.
    pub options: Vec<MethodOption>,
}

impl Solver {
    /// A key of a single method, if it is given.
    pub fn option(&self, name: &str) -> Option<f64> {
        self.options.iter().find(|o| o.name == name).map(|o| o.value)
    }
}

/// A key of a single method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodOption {
    /// The key.
    pub name: &'static str,
    /// Its value; a whole number where the key wants one.
    pub value: f64,
    /// Where it stands.
    pub place: Place,
}

/// Where the solver computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A GPU where there is one and it pays.
    Auto,
    /// On processors.
    Cpu,
    /// On GPUs.
    Gpu,
}

/// `[adapt]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapt {
    /// What the error is estimated by.
    pub estimator: Estimator,
    /// Name of the probe or integral, for [`Estimator::Goal`].
    pub goal: Option<Name>,
    /// Which cells are refined.
    pub marking: Marking,
    /// No step is taken beyond that many DOFs.
    pub max_dofs: Option<u64>,
    /// Most steps.
    pub max_steps: usize,
    /// On the estimate, relative to the energy norm.
    pub tolerance: Option<f64>,
    /// How cells are moved between ranks.
    pub rebalance: Rebalance,
    /// Rebalance above this ratio of largest to mean load.
    pub imbalance: f64,
    /// Whether owners depend on nothing that is measured, so that they are the same each time.
    pub deterministic: bool,
    /// Of the heading.
    pub place: Place,
}

/// Error estimators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimator {
    /// Jumps of the flux between cells.
    Kelly,
    /// Against a recovered gradient.
    Recovery,
    /// Weighted by a dual problem for one functional.
    Goal,
}

/// Which cells are refined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Marking {
    /// Half of the sum in small steps, and large ones to the limit once the error is spread over the mesh.
    Auto,
    /// The smallest set that holds this part of the sum of squared indicators.
    Dorfler(f64),
    /// This part of the cells.
    Fraction(f64),
}

/// How cells are moved between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    /// Ranks with too little take from their neighbours.
    Steal,
    /// A new partition by METIS.
    Metis,
    /// Not at all.
    None,
}

/// `[time]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// First time.
    pub start: f64,
    /// Last time.
    pub end: f64,
    /// Step size.
    pub step: Step,
    /// Scheme.
    pub scheme: Scheme,
    /// Of the heading.
    pub place: Place,
}

/// Step sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// All alike.
    Fixed(f64),
    /// Chosen by the local error.
    Adaptive {
        /// On the local error, relative.
        tolerance: f64,
        /// First step.
        initial: f64,
    },
}

/// Time schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// First order, L-stable.
    BackwardEuler,
    /// Second order, A-stable.
    CrankNicolson,
    /// Second order, L-stable.
    Bdf2,
}

/// `[initial]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    /// By components.
    Value(Vec<Expr>, Place),
    /// From a checkpoint.
    File(PathBuf, Place),
}

/// `[exact]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    /// One entry a component of the field.
    pub components: Vec<Expr>,
    /// Dotted key.
    pub key: String,
    /// Where the value stands.
    pub place: Place,
}

/// `[[probe]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Unique among probes and integrals.
    pub name: String,
    /// The point, one entry a dimension.
    pub at: Vec<f64>,
    /// What is read there.
    pub field: FieldRef,
    /// Of `at`.
    pub place: Place,
}

/// `[[integral]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Integral {
    /// Unique among probes and integrals.
    pub name: String,
    /// A region, a boundary heading or group; `None`: the whole domain.
    pub over: Option<Name>,
    /// What is integrated.
    pub of: FieldRef,
    /// Of `of`.
    pub place: Place,
}

/// `[output]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// What is written, in order.
    pub fields: Vec<FieldRef>,
    /// Write each such time step.
    pub every: usize,
    /// Checkpoints, if wanted.
    pub checkpoint: Option<Checkpoint>,
}

/// `checkpoint` of `[output]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// How often.
    pub every: Interval,
    /// How many are kept.
    pub keep: usize,
}

/// How often a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// Each so many time or adaptation steps.
    Steps(usize),
    /// Each so many seconds of wall time.
    Seconds(f64),
}

/// `[performance]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Performance {
    /// How much is tried.
    pub level: Level,
    /// Threads a rank; `None`: chosen.
    pub threads: Option<usize>,
    /// Compile expressions; `None`: as the level says. So the rest.
    pub jit: Option<bool>,
    /// Keep results of earlier runs.
    pub cache: Option<bool>,
    /// Choose ranks and threads by the case.
    pub autoscale: Option<bool>,
    /// Reuse memory between steps.
    pub pool: Option<bool>,
    /// Bytes that each rank may keep resident; the run stops with a checkpoint when it comes near.
    pub memory_limit: Option<u64>,
}

/// How much is tried for speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// By the size of the case.
    Auto,
    /// Nothing that needs set-up.
    Minimal,
    /// What pays in most cases.
    Standard,
    /// Everything.
    Aggressive,
}
