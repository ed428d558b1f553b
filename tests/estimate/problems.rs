//! Meshes and manufactured problems, discretised and solved.

use cluster::Comm;
use femdd::assembly::{
    Constraints, Discretisation, Essential, FacetLoad, Matrix, Operator, Pattern, Prescribed, Problem,
};
use femdd::element::Shape;
use femdd::law::expr::{Expr, Scope, Var};
use femdd::law::{Law, Material, Slot};
use femdd::mesh::boxes::BoxSpec;
use femdd::mesh::bricks::Plan;
use femdd::mesh::facets::Facets;
use femdd::mesh::{EntityTag, Mesh};
use femdd::solver::{self, Modes};
use femdd::space::{Order, Space};

pub fn expr(text: &str) -> Expr {
    Expr::parse(text, &Scope::default()).expect(text)
}

/// A box of so many cells along each axis, of edges of length 1.
pub fn unit(comm: &Comm, shape: Shape, n: u64) -> Mesh {
    let dim = shape.dim();
    let spec = BoxSpec { size: vec![1.0; dim], cells: vec![n; dim], shape, origin: [0.0; 3] };
    let plan = Plan::new(&spec).expect("a box").with(1.0, &[]).expect("a box");
    plan.build(comm).expect("a mesh").0
}

/// Puts the cells right of x = 0.5 into a set of their own, the last.
pub fn divide(mesh: &mut Mesh) {
    let set = mesh.sets.len() as u16;
    mesh.sets.push(vec![0]);
    for block in &mut mesh.blocks {
        for cell in 0..block.n_cells {
            let nodes = block.nodes(cell);
            let x = nodes.iter().map(|&v| mesh.nodes[v as usize][0]).sum::<f64>() / nodes.len() as f64;
            if x > 0.5 {
                block.sets[cell] = set;
            }
        }
    }
}

/// A problem on a mesh: its law, a material for each set of groups, and its conditions.
pub struct Setting<L> {
    pub law: L,
    /// Slots of the law, in its order.
    pub slots: Vec<Expr>,
    /// Those of cells right of x = 0.5, where they are others.
    pub right: Option<Vec<Expr>>,
    /// On groups of the mesh: components prescribed.
    pub prescribed: Vec<(&'static str, Vec<Option<Expr>>)>,
    pub loads: Vec<(&'static str, femdd::assembly::Natural)>,
    pub degree: usize,
    pub symmetric: bool,
}

/// Tags of the facets of a group.
pub fn tags(mesh: &Mesh, name: &str) -> Vec<EntityTag> {
    let group = mesh.groups.iter().position(|g| g.name == name).expect(name);
    mesh.tags_of(group as u16).to_vec()
}

pub const SIDES: [&str; 6] = ["x-min", "x-max", "y-min", "y-max", "z-min", "z-max"];

/// What a solved problem is looked at with.
pub struct Solved<'a> {
    pub problem: &'a dyn Problem,
    pub essential: &'a [Essential],
    pub facets: &'a Facets,
    pub u: &'a [f64],
    pub space: &'a Space,
    pub mesh: &'a Mesh,
}

/// Discretises, solves, and hands over.
pub fn solve<L: Law<D, C> + Clone, const D: usize, const C: usize, T>(
    comm: &Comm,
    mesh: &Mesh,
    setting: &Setting<L>,
    then: impl FnOnce(&Solved) -> T,
) -> T {
    let space = Space::new(mesh, setting.degree, Order::Curve).expect("a space");
    let material = |slots: &[Expr]| Material {
        slots: slots.iter().map(|s| Slot::new(s.clone())).collect(),
        keys: slots.iter().map(|s| s.text().to_string()).collect(),
    };
    let mut materials = vec![material(&setting.slots)];
    let mut of_set = vec![0u16; mesh.sets.len()];
    if let Some(right) = &setting.right {
        materials.push(material(right));
        *of_set.last_mut().expect("the set that `divide` made") = 1;
    }
    let constant = materials.iter().all(|m| m.slots.iter().all(|s| s.constant().is_some()));
    let d = Discretisation::new(mesh, &space, &materials, &of_set, L::TERMS, constant, true, 0.0);
    let essential: Vec<Essential> = setting
        .prescribed
        .iter()
        .map(|(name, values)| Essential {
            key: (*name).to_owned(),
            entities: tags(mesh, name),
            prescribed: Prescribed::Components(values.clone()),
        })
        .collect();
    let loads = setting
        .loads
        .iter()
        .map(|(name, natural)| FacetLoad {
            key: (*name).to_owned(),
            facets: tags(mesh, name),
            natural: again(natural),
        })
        .collect();
    let problem = Operator::<L, D, C>::new(setting.law.clone(), d, loads, Vec::new());
    let problem: &dyn Problem = &problem;
    let constraints = Constraints::new(problem.discretisation(), C, &essential).expect("constraints");
    let u = solve_linear(comm, problem, &constraints, setting.symmetric);
    let facets = Facets::new(mesh);
    then(&Solved { problem, essential: &essential, facets: &facets, u: &u, space: &space, mesh })
}

fn again(natural: &femdd::assembly::Natural) -> femdd::assembly::Natural {
    use femdd::assembly::Natural;
    match natural {
        Natural::Flux(exprs) => Natural::Flux(exprs.clone()),
        Natural::Pressure(expr) => Natural::Pressure(expr.clone()),
        Natural::Robin { coefficient, ambient } => {
            Natural::Robin { coefficient: coefficient.clone(), ambient: ambient.clone() }
        }
    }
}

/// Assembles at the lifted state and solves: the solution at all local nodes.
pub fn solve_linear(
    comm: &Comm,
    problem: &dyn Problem,
    constraints: &Constraints,
    symmetric: bool,
) -> Vec<f64> {
    let (d, c) = (problem.discretisation(), problem.components());
    let space = d.space;
    let mut pattern = Pattern::new(space);
    let mut matrix = Matrix::new(&pattern, c);
    let n_owned = space.map.n_owned();
    let mut residual = vec![0.0; n_owned * c];
    let mut u = constraints.lift();
    comm.agree(problem.assemble(&pattern, &u, constraints, &mut matrix, &mut residual)).expect("assembles");
    residual.iter_mut().for_each(|r| *r = -*r);
    let mut change = direct(comm, problem, constraints, &mut pattern, matrix, residual, symmetric);
    change.resize(space.map.n_local() * c, 0.0);
    space.halo.forward(&mut change, c);
    constraints.to_cartesian(&mut change);
    u.iter_mut().zip(&change).for_each(|(u, d)| *u += d);
    u
}

/// Solves a linear system: owned entries.
pub fn direct(
    comm: &Comm,
    problem: &dyn Problem,
    constraints: &Constraints,
    pattern: &mut Pattern,
    matrix: Matrix,
    rhs: Vec<f64>,
    symmetric: bool,
) -> Vec<f64> {
    let d = problem.discretisation();
    let (mesh, space) = (d.mesh, d.space);
    let one = |_: usize, _: &[f64; 3]| [1.0, 0.0, 0.0];
    let modes = Modes { n: 1, at: &one };
    let options = solver::Options { method: "direct".into(), tolerance: 1e-11, ..solver::Options::default() };
    let linear = solver::Problem {
        symmetric,
        law: "test",
        advective: !symmetric,
        dimension: mesh.dim,
        degree: space.degree as u32,
        null: &[],
        near_null: &Vec::new,
        given: None,
        transfer: &|| solver::to_vertices(problem, constraints, &modes, symmetric),
    };
    let (x, report) = solver::solve(
        comm,
        (&space.map, &space.halo),
        pattern,
        matrix,
        &linear,
        rhs,
        &options,
        &mut |_, _, _| false,
    )
    .expect("solves");
    assert!(report.converged);
    x
}

/// The sum of expressions.
pub fn sum(terms: &[Expr]) -> Expr {
    terms.iter().fold(Expr::constant(0.0), |sum, term| sum.add(term))
}

/// Derivative along an axis.
pub fn slope(e: &Expr, axis: usize) -> Expr {
    e.derivative(Var::axis(axis))
}
