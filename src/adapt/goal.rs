//! Goal-oriented estimates: the dual weighted residual.
//!
//! Imports `assembly`, `mesh` and `space`. Start at [`goal`]. What a number `J` that the solution determines
//! gets wrong is the residual weighted by the solution `z` of a dual problem: `J(u) - J(u_h) = -R(u_h; z)`.
//! The dual problem has the transposed matrix and `J'` on its right-hand side; it is solved one degree
//! higher on the same mesh, by whoever calls. Localised by the hat functions of vertices.
//!
//! Sources: R. Becker, R. Rannacher, An optimal control approach to a posteriori error estimation, Acta
//! Numerica 10 (2001); T. Richter, T. Wick, Variational localizations of the dual weighted residual
//! estimator, J. Comput. Appl. Math. 279 (2015).

use std::rc::Rc;

use crate::assembly::{AssemblyError, Constraints, Essential, Goal, Matrix, Pattern, Problem};
use crate::element::{Lagrange, MAX_DEGREE, Nodes};
use crate::mesh::{EntityTag, Mesh};
use crate::space::{Order, Space};

/// What an estimate aims at.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// A value of a quantity, somewhere.
    Of(Goal<'a>),
    /// A component of the reaction on entities of owned and ghost cells, as reports give it: of the residual
    /// along the directions prescribed there.
    Reaction(&'a [EntityTag], usize),
}

/// A linear system, for the caller to solve. Prescribed rows are eliminated, in the nodes' frames.
pub struct Linear<'a> {
    /// The problem it belongs to, on a space of its own.
    pub problem: &'a dyn Problem,
    /// What is prescribed there.
    pub constraints: &'a Constraints,
    /// The matrix's pattern.
    pub pattern: &'a Rc<Pattern>,
    /// The matrix.
    pub matrix: Matrix,
    /// The right-hand side, owned rows.
    pub rhs: Vec<f64>,
}

/// An estimate of a goal's error.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalEstimate {
    /// Per owned cell, block after block: its share of the goal's error, not negative. These add up (they
    /// play the part of squares in other estimates).
    pub indicators: Vec<f64>,
    /// Their sum over all ranks.
    pub total: f64,
    /// `J(u) - J(u_h)`, with its sign. Nothing at the highest degree, where no higher one is left for the
    /// dual solution and its estimate would be zero.
    pub signed: Option<f64>,
    /// `J(u_h)`.
    pub value: f64,
}

/// Values of a field of one space at the nodes of another, of the same mesh.
fn interpolate(mesh: &Mesh, from: &Space, to: &Space, u: &[f64], c: usize) -> Vec<f64> {
    let mut out = vec![0.0; to.map.n_local() * c];
    let (mut here, mut scratch) = (Vec::new(), Vec::new());
    for (b, block) in mesh.blocks.iter().enumerate() {
        let table = from.elements[b].tabulate(to.elements[b].nodes(), 0);
        for cell in 0..block.n_cells {
            from.gather(b, cell, u, c, &mut here, &mut scratch);
            let hanging = to.interpolation(b, cell);
            for (k, &v) in to.nodes(b, cell).iter().enumerate() {
                if hanging.is_some_and(|h| h.is_parents(k)) {
                    continue;
                }
                for a in 0..c {
                    let terms = here.chunks_exact(c).zip(table.values_at(k));
                    out[v as usize * c + a] = terms.map(|(u, phi)| phi * u[a]).sum();
                }
            }
        }
    }
    if mesh.may_hang() {
        to.halo.forward(&mut out, c);
    }
    out
}

/// What a field has beyond its interpolant of one degree less.
fn beyond(mesh: &Mesh, space: &Space, z: &[f64], c: usize) -> Vec<f64> {
    let mut out = z.to_vec();
    let mut coarse = Vec::new();
    let (mut here, mut scratch) = (Vec::new(), Vec::new());
    for (b, block) in mesh.blocks.iter().enumerate() {
        let element = &space.elements[b];
        let lower = Lagrange::new(block.shape, space.degree - 1, Nodes::Spectral).expect("a lower degree");
        let down = element.tabulate(lower.nodes(), 0);
        let up = lower.tabulate(element.nodes(), 0);
        for cell in 0..block.n_cells {
            let nodes = space.nodes(b, cell);
            space.gather(b, cell, z, c, &mut here, &mut scratch);
            coarse.clear();
            for k in 0..lower.n_nodes() {
                for a in 0..c {
                    let terms = here.chunks_exact(c).zip(down.values_at(k));
                    coarse.push(terms.map(|(z, phi)| phi * z[a]).sum::<f64>());
                }
            }
            let hanging = space.interpolation(b, cell);
            for (k, &v) in nodes.iter().enumerate() {
                if hanging.is_some_and(|h| h.is_parents(k)) {
                    continue;
                }
                for a in 0..c {
                    let there: f64 =
                        up.values_at(k).iter().enumerate().map(|(i, phi)| phi * coarse[i * c + a]).sum();
                    out[v as usize * c + a] = z[v as usize * c + a] - there;
                }
            }
        }
    }
    if mesh.may_hang() {
        space.halo.forward(&mut out, c);
    }
    out
}

/// One at prescribed directions of the nodes on `entities`, along an axis: the test function whose residual
/// is the reaction. All local nodes.
fn reacting(
    problem: &dyn Problem,
    constraints: &Constraints,
    entities: &[EntityTag],
    axis: usize,
) -> Vec<f64> {
    let (d, c) = (problem.discretisation(), problem.components());
    let n_owned = d.space.map.n_owned();
    let mut w = vec![0.0; d.space.map.n_local() * c];
    let mut seen = vec![false; n_owned];
    for tag in entities {
        let (b, cell) = (tag.block as usize, tag.cell as usize);
        let nodes = d.space.nodes(b, cell);
        for &k in d.space.elements[b].closure_nodes(tag.dim as usize, tag.local as usize) {
            if let Some(seen) = seen.get_mut(nodes[k as usize] as usize) {
                *seen = true;
            }
        }
    }
    for (node, _) in seen.iter().enumerate().filter(|(_, s)| **s) {
        for direction in constraints.directions(node) {
            (0..c).for_each(|k| w[node * c + k] += direction[axis] * direction[k]);
        }
    }
    d.space.halo.forward(&mut w, c);
    w
}

/// The product of a matrix with a field, owned rows.
fn product(pattern: &Pattern, matrix: &Matrix, x: &[f64]) -> Vec<f64> {
    let c = matrix.block;
    let n = pattern.n_rows;
    let mut out = vec![0.0; n * c];
    let mut add = |ptr: &[usize], columns: &[u32], values: &[f64]| {
        for row in 0..n {
            let (begin, end) = (ptr[row], ptr[row + 1]);
            let width = (end - begin) * c;
            for a in 0..c {
                let entries = &values[begin * c * c + a * width..][..width];
                for (k, &column) in columns[begin..end].iter().enumerate() {
                    for b in 0..c {
                        out[row * c + a] += entries[k * c + b] * x[column as usize * c + b];
                    }
                }
            }
        }
    };
    add(&pattern.diag_ptr, &pattern.diag_col, &matrix.diag);
    add(&pattern.off_ptr, &pattern.off_col, &matrix.off);
    out
}

/// The dual weighted residual estimate of a goal's error. `essential` are the conditions that prescribe the
/// solution `u`, `solve` solves a linear system to a relative tolerance of its own choice and returns owned
/// entries. Collective, and so are its errors.
///
/// The dual solution is that of a space one degree higher (the highest there is, where `u` has that degree).
/// What is derived from the gradient has no value at a point: a goal there is its mean over the cell.
///
/// # Errors
/// A coefficient, load or condition that is not a number at a point; what `solve` returns.
pub fn goal<E: From<AssemblyError>>(
    problem: &dyn Problem,
    essential: &[Essential],
    aim: &Aim,
    u: &[f64],
    solve: &mut dyn FnMut(Linear) -> Result<Vec<f64>, E>,
) -> Result<GoalEstimate, E> {
    let (d, c) = (problem.discretisation(), problem.components());
    let (mesh, comm) = (d.mesh, &d.mesh.comm);
    let degree = (d.space.degree + 1).min(MAX_DEGREE);
    let space = Space::new(mesh, degree, Order::Curve).expect("a degree that elements have");
    let rich = problem.on_space(&space);
    let rich = &*rich;
    let constraints = Constraints::new(rich.discretisation(), c, essential)?;
    let pattern = Rc::new(Pattern::new(&space));
    let u = interpolate(mesh, d.space, &space, u, c);

    let (mut rhs, value) = match aim {
        Aim::Of(goal) => {
            let mut load = vec![0.0; space.map.n_local() * c];
            let value = comm.agree(rich.goal_derivative(goal, &u, &mut load))?;
            space.halo.reverse_add(&mut load, c);
            load.truncate(space.map.n_owned() * c);
            (load, comm.sum(value))
        }
        Aim::Reaction(entities, axis) => {
            let held = Constraints::new(d, c, essential)?;
            let w = reacting(problem, &held, entities, *axis);
            let w = interpolate(mesh, d.space, &space, &w, c);
            let free = Constraints::new(rich.discretisation(), c, &[])?;
            let mut whole = Matrix::new(&pattern, c);
            comm.agree(rich.assemble_transposed(&pattern, &u, &free, &mut whole))?;
            let at_vertices = comm.agree(rich.weighted_residual(&u, &w))?;
            (product(&pattern, &whole, &w), comm.sum(at_vertices.iter().sum::<f64>()))
        }
    };
    constraints.to_frames(&mut rhs);
    constraints.zero_fixed(&mut rhs);
    let mut matrix = Matrix::new(&pattern, c);
    comm.agree(rich.assemble_transposed(&pattern, &u, &constraints, &mut matrix))?;
    let mut z = solve(Linear { problem: rich, constraints: &constraints, pattern: &pattern, matrix, rhs })?;
    z.resize(space.map.n_local() * c, 0.0);
    space.halo.forward(&mut z, c);
    constraints.to_cartesian(&mut z);

    let weight = beyond(mesh, &space, &z, c);
    let mut at_vertices = comm.agree(rich.weighted_residual(&u, &weight))?;
    let halo = &mesh.vertices.halo;
    halo.reverse_add(&mut at_vertices, 1);
    let n_owned = mesh.vertices.map.n_owned();
    let mut signed = -comm.sum(at_vertices[..n_owned].iter().sum::<f64>());
    if problem.is_stabilised() {
        // The discrete solution is not orthogonal to the interpolant: its stabilisation stands between.
        let rest: Vec<f64> = z.iter().zip(&weight).map(|(z, w)| z - w).collect();
        let rest = comm.agree(rich.weighted_residual(&u, &rest))?;
        signed -= comm.sum(rest.iter().sum::<f64>());
    }
    halo.forward(&mut at_vertices, 1);
    // Each vertex's share goes to its cells in equal parts.
    let mut n_cells = vec![0.0; at_vertices.len()];
    let owned = || mesh.blocks.iter().flat_map(|b| (0..b.n_owned).map(move |cell| b.naming_vertices(cell)));
    owned().flatten().for_each(|&v| n_cells[v as usize] += 1.0);
    halo.reverse_add(&mut n_cells, 1);
    halo.forward(&mut n_cells, 1);
    let part = |&v: &u32| at_vertices[v as usize].abs() / n_cells[v as usize];
    let indicators: Vec<f64> = owned().map(|vertices| vertices.iter().map(part).sum()).collect();
    let total = comm.sum(indicators.iter().sum::<f64>());
    let signed = (degree > d.space.degree).then_some(signed);
    Ok(GoalEstimate { indicators, total, signed, value })
}
