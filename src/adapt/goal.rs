//! Goal-oriented estimates: the dual weighted residual.
//!
//! Imports `assembly`, `mesh` and `space`. Start at [`goal`]. What a number `J` that the solution determines
//! gets wrong is the residual weighted by the solution `z` of a dual problem: `J(u) - J(u_h) = -R(u_h; z)`.
//! The dual problem has the transposed matrix and `J'` on its right-hand side; it is solved one degree
//! higher on the same mesh, by whoever calls. Localised by the hat functions of vertices. Prescribed values
//! that no polynomial of the solution's degree takes are a part of the error; they are taken in at the degree
//! of the dual solution.
//!
//! Sources: R. Becker, R. Rannacher, An optimal control approach to a posteriori error estimation, Acta
//! Numerica 10 (2001); T. Richter, T. Wick, Variational localizations of the dual weighted residual
//! estimator, J. Comput. Appl. Math. 279 (2015).

use crate::assembly::{AssemblyError, Constraints, Essential, Goal, Matrix, Pattern, Problem};
use crate::element::{Lagrange, MAX_DEGREE, Nodes, Table};
use crate::mesh::{EntityTag, Mesh};
use crate::space::{Order, Space};

/// What an estimate aims at.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// A value of a quantity, somewhere.
    Of(Goal<'a>),
    /// A component of the reaction on entities of owned and ghost cells, or everywhere, as reports give it: of
    /// the residual along the directions prescribed there.
    Reaction(Option<&'a [EntityTag]>, usize),
}

/// A linear system, for the caller to solve. Prescribed rows are eliminated, in the nodes' frames.
pub struct Linear<'a> {
    /// The problem it belongs to, on a space of its own.
    pub problem: &'a dyn Problem,
    /// What is prescribed there.
    pub constraints: &'a Constraints,
    /// The matrix's pattern, which a solve may use up.
    pub pattern: &'a mut Pattern,
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
    /// `J(u_h)`; of a reaction, without the part that stabilisation has in it.
    pub value: f64,
}

/// Makes a field of `to`, all local nodes, from what `of_cell` says of the values at a cell's own nodes: it
/// gets block, cell and where they go, `[node][component]`. Collective.
fn by_cells(
    mesh: &Mesh,
    to: &Space,
    c: usize,
    mut of_cell: impl FnMut(usize, usize, &mut [f64]),
) -> Vec<f64> {
    let mut out = vec![0.0; to.map.n_local() * c];
    let mut values = Vec::new();
    for (b, block) in mesh.blocks.iter().enumerate() {
        values.resize(to.elements[b].n_nodes() * c, 0.0);
        for cell in 0..block.n_cells {
            of_cell(b, cell, &mut values);
            let hanging = to.interpolation(b, cell);
            for (k, (&v, from)) in to.nodes(b, cell).iter().zip(values.chunks_exact(c)).enumerate() {
                // A node of the parent's, off the cell, has its value from the coarser neighbour.
                if !hanging.is_some_and(|hanging| hanging.is_parents(k)) {
                    out[v as usize * c..][..c].copy_from_slice(from);
                }
            }
        }
    }
    if mesh.may_hang() {
        to.halo.forward(&mut out, c);
    }
    out
}

/// Sums of nodal values with the rows of a table: values at its points, `[point][component]`.
fn apply(table: &Table, values: &[f64], c: usize, out: &mut [f64]) {
    for (k, out) in out.chunks_exact_mut(c).enumerate() {
        out.fill(0.0);
        for (from, phi) in values.chunks_exact(c).zip(table.values_at(k)) {
            out.iter_mut().zip(from).for_each(|(out, from)| *out += phi * from);
        }
    }
}

/// Values of a field of one space at the nodes of another, of the same mesh. Collective.
pub(super) fn interpolate(mesh: &Mesh, from: &Space, to: &Space, u: &[f64], c: usize) -> Vec<f64> {
    let elements = from.elements.iter().zip(&to.elements);
    let tables: Vec<Table> = elements.map(|(from, to)| from.tabulate(to.nodes(), 0)).collect();
    let (mut values, mut scratch) = (Vec::new(), Vec::new());
    by_cells(mesh, to, c, |b, cell, out| {
        from.gather(b, cell, u, c, &mut values, &mut scratch);
        apply(&tables[b], &values, c, out);
    })
}

/// What a field has beyond its interpolant of one degree less. Collective.
pub(super) fn beyond(mesh: &Mesh, space: &Space, z: &[f64], c: usize) -> Vec<f64> {
    let tables: Vec<[Table; 2]> = mesh
        .blocks
        .iter()
        .zip(&space.elements)
        .map(|(block, element)| {
            let lower = Lagrange::new(block.shape, space.degree - 1, Nodes::Spectral);
            let lower = lower.expect("a lower degree");
            [element.tabulate(lower.nodes(), 0), lower.tabulate(element.nodes(), 0)]
        })
        .collect();
    let (mut values, mut scratch, mut coarse) = (Vec::new(), Vec::new(), Vec::new());
    by_cells(mesh, space, c, |b, cell, out| {
        let [down, up] = &tables[b];
        space.gather(b, cell, z, c, &mut values, &mut scratch);
        coarse.resize(down.n_points * c, 0.0);
        apply(down, &values, c, &mut coarse);
        apply(up, &coarse, c, out);
        out.iter_mut().zip(&values).for_each(|(out, z)| *out = z - *out);
    })
}

/// One at prescribed directions of the nodes on `entities`, or of all nodes, along an axis: the test function
/// whose residual is the reaction. All local nodes.
fn reacting(
    problem: &dyn Problem,
    constraints: &Constraints,
    entities: Option<&[EntityTag]>,
    axis: usize,
) -> Vec<f64> {
    let (d, c) = (problem.discretisation(), problem.components());
    let n_owned = d.space.map.n_owned();
    let mut w = vec![0.0; d.space.map.n_local() * c];
    let on = entities.map(|entities| d.space.owned_on(entities));
    for node in (0..n_owned).filter(|&node| on.as_ref().is_none_or(|on| on[node])) {
        for direction in constraints.directions(node) {
            (0..c).for_each(|k| w[node * c + k] += direction[axis] * direction[k]);
        }
    }
    d.space.halo.forward(&mut w, c);
    w
}

/// What prescribed values have beyond those of a field at the same nodes; zero elsewhere. All local nodes.
fn missing_data(constraints: &Constraints, u: &[f64], c: usize) -> Vec<f64> {
    let (mut given, mut had) = (constraints.lift(), u.to_vec());
    constraints.to_frames(&mut given);
    constraints.to_frames(&mut had);
    let size = u.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (k, (given, had)) in given.iter_mut().zip(&had).enumerate() {
        let difference = *given - had;
        // Round-off is no data.
        let counts = constraints.is_fixed(k / c, k % c) && difference.abs() > 1e-13 * size;
        *given = if counts { difference } else { 0.0 };
    }
    constraints.to_cartesian(&mut given);
    given
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
    let _span = tracing::debug_span!("goal estimate").entered();
    let (d, c) = (problem.discretisation(), problem.components());
    let (mesh, comm) = (d.mesh, &d.mesh.comm);
    let degree = (d.space.degree + 1).min(MAX_DEGREE);
    let space = Space::new(mesh, degree, Order::Curve).expect("a degree that elements have");
    let corners = Space::new(mesh, 1, Order::Curve).expect("a degree that elements have");
    let rich = problem.on_space(&space);
    let rich = &*rich;
    let constraints = Constraints::new(rich.discretisation(), c, essential)?;
    let mut pattern = Pattern::new(&space);
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
            let w = reacting(problem, &held, *entities, *axis);
            let w = interpolate(mesh, d.space, &space, &w, c);
            let free = Constraints::new(rich.discretisation(), c, &[])?;
            let mut whole = Matrix::new(&pattern, c);
            comm.agree(rich.assemble_transposed(&pattern, &u, &free, &mut whole))?;
            let at_vertices = comm.agree(rich.weighted_residual(&corners, &u, &w))?;
            (whole.product(&pattern, &w), comm.sum(at_vertices.iter().sum::<f64>()))
        }
    };
    // What the prescribed values are beyond the degree of `u`, at their own nodes: a part of the error that no
    // test function sees.
    let missing = missing_data(&constraints, &u, c);
    let along: f64 = rhs.iter().zip(&missing).map(|(j, e)| j * e).sum();
    constraints.to_frames(&mut rhs);
    constraints.zero_fixed(&mut rhs);
    let mut matrix = Matrix::new(&pattern, c);
    comm.agree(rich.assemble_transposed(&pattern, &u, &constraints, &mut matrix))?;
    let mut z =
        solve(Linear { problem: rich, constraints: &constraints, pattern: &mut pattern, matrix, rhs })?;
    z.resize(space.map.n_local() * c, 0.0);
    space.halo.forward(&mut z, c);
    constraints.to_cartesian(&mut z);

    let weight = beyond(mesh, &space, &z, c);
    let mut at_vertices = comm.agree(rich.weighted_residual(&corners, &u, &weight))?;
    let before = comm.agree(rich.weighted_residual(&corners, &u, &z))?;
    let mut signed: f64 = along - before.iter().sum::<f64>();
    if comm.any(missing.iter().any(|e| *e != 0.0)) {
        let u: Vec<f64> = u.iter().zip(&missing).map(|(u, e)| u + e).collect();
        let after = comm.agree(rich.weighted_residual(&corners, &u, &z))?;
        signed = along - after.iter().sum::<f64>();
        for ((at, after), before) in at_vertices.iter_mut().zip(after).zip(before) {
            *at += after - before;
        }
    }
    let signed = comm.sum(signed);
    let halo = &corners.halo;
    halo.reverse_add(&mut at_vertices, 1);
    halo.forward(&mut at_vertices, 1);
    // Each vertex's share goes to its cells in equal parts.
    let mut n_cells = vec![0.0; at_vertices.len()];
    let (blocks, corners) = (&mesh.blocks, &corners);
    let of_block = |b: usize| (0..blocks[b].n_owned).map(move |cell| corners.nodes(b, cell));
    let owned = || (0..blocks.len()).flat_map(of_block);
    owned().flatten().for_each(|&v| n_cells[v as usize] += 1.0);
    halo.reverse_add(&mut n_cells, 1);
    halo.forward(&mut n_cells, 1);
    let part = |&v: &u32| at_vertices[v as usize].abs() / n_cells[v as usize];
    let indicators: Vec<f64> = owned().map(|vertices| vertices.iter().map(part).sum()).collect();
    let total = comm.sum(indicators.iter().sum::<f64>());
    let signed = (degree > d.space.degree).then_some(signed);
    Ok(GoalEstimate { indicators, total, signed, value })
}
