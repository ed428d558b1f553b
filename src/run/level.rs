//! What essential conditions leave free: the null space of a case's problem, and what follows from it.
//!
//! Imports its siblings `stage` and `singular`. A scalar problem without a level is solved up to a
//! constant if its loads balance; a body that can move is an error.

use super::conditions::Conditions;
use super::error::RunError;
use super::materials::Materials;
use super::singular;
use super::stage::Stage;
use crate::assembly::Constraints;

impl Stage<'_, '_> {
    /// The null space of the constrained problem: empty when the conditions hold every body. A scalar
    /// problem without any is solved up to a constant; a body that can move is an error.
    pub(super) fn null_space(
        &mut self,
        materials: &Materials,
        conditions: &Conditions,
        constraints: &Constraints,
        x: &[[f64; 3]],
    ) -> Result<Vec<Vec<f64>>, RunError> {
        let (mesh, space, case) = (self.mesh, self.space, self.case);
        let vector = case.physics.law.is_vector();
        if materials.reaction || conditions.robin {
            return Ok(Vec::new());
        }
        let bodies = singular::bodies(mesh, space);
        let mut periodic = [false; 3];
        let (low, high) = mesh.bounds();
        for &(a, b) in &mesh.periodic {
            // The axis along which the pair lies apart.
            let mean = |g: u16| {
                let mut sum = [0.0; 4];
                for tag in mesh
                    .tags_of(g)
                    .iter()
                    .filter(|t| (t.cell as usize) < mesh.blocks[t.block as usize].n_owned)
                {
                    let block = &mesh.blocks[tag.block as usize];
                    for &v in block.shape.entity_vertices(tag.dim as usize, tag.local as usize) {
                        let x = mesh.nodes[block.nodes(tag.cell as usize)[v as usize] as usize];
                        (0..3).for_each(|d| sum[d] += x[d]);
                        sum[3] += 1.0;
                    }
                }
                mesh.comm.sum_slice(&mut sum);
                [0, 1, 2].map(|d| sum[d] / f64::max(sum[3], 1.0))
            };
            let (a, b) = (mean(a), mean(b));
            (0..3).for_each(|d| periodic[d] |= (a[d] - b[d]).abs() > 0.01 * (high[d] - low[d]));
        }
        let free = singular::free_motions(mesh, space, &bodies, constraints, x, vector, &periodic);
        if free.is_empty() {
            return Ok(Vec::new());
        }
        if vector {
            let mut message = String::from("the body is not held: ");
            let list: Vec<String> = free
                .iter()
                .map(|f| {
                    let motions: Vec<String> =
                        f.motions.iter().map(|m| singular::describe(m, mesh.dim)).collect();
                    let which = if bodies.n > 1 {
                        format!("body {} of {}: ", f.body + 1, bodies.n)
                    } else {
                        String::new()
                    };
                    format!("{which}{} free", motions.join("; "))
                })
                .collect();
            message.push_str(&list.join("; "));
            let help =
                "add displacement conditions that stop these motions; one vertex (`at`) stops translations";
            let error = case.error(case.physics.place, "boundary", message, Some(help.to_string()));
            return Err(RunError { what: "supports".into(), ..RunError::at(error, &case.text) });
        }
        self.run.report.warnings.push(format!(
            "no condition fixes the level of {} in {}: it is solved up to a constant, with mean value zero",
            case.physics.law.field(),
            if free.len() == 1 && bodies.n == 1 {
                "the body".to_string()
            } else {
                format!("{} bodies", free.len())
            }
        ));
        Ok(free
            .iter()
            .map(|f| (0..space.map.n_owned()).map(|v| f64::from(u8::from(bodies.of(v) == f.body))).collect())
            .collect())
    }

    /// A problem up to a constant has a solution only if sources and fluxes balance.
    pub(super) fn check_compatible(&self, rhs: &[f64], null: &[Vec<f64>]) -> Result<(), RunError> {
        for mode in null {
            let mut sums = [0.0; 2];
            for (r, m) in rhs.iter().zip(mode) {
                sums[0] += r * m;
                sums[1] += (r * m).abs();
            }
            self.comm.sum_slice(&mut sums);
            if sums[0].abs() > 1e-8 * sums[1] {
                let message = format!(
                    "nothing fixes the level of {}, and sources and boundary fluxes do not balance: their sum is {:.6e}",
                    self.case.physics.law.field(),
                    sums[0]
                );
                let help = "give a value somewhere, or a source whose integral cancels the inflow";
                let error =
                    self.case.error(self.case.physics.place, "boundary", message, Some(help.to_string()));
                return Err(RunError { what: "incompatible".into(), ..RunError::at(error, &self.case.text) });
            }
        }
        Ok(())
    }
}

/// Rigid motions in the nodes' frames, zero where prescribed: the near-null space of elasticity. Turns about
/// `center`.
pub(super) fn rigid_modes(
    dim: usize,
    x: &[[f64; 3]],
    center: &[f64; 3],
    constraints: &Constraints,
    n_owned: usize,
) -> Vec<Vec<f64>> {
    (0..singular::motion_names(dim).len())
        .map(|k| {
            let mut mode = vec![0.0; n_owned * dim];
            for (values, x) in mode.chunks_exact_mut(dim).zip(x) {
                values.copy_from_slice(&singular::rigid_motion(dim, k, x, center)[..dim]);
            }
            constraints.to_frames(&mut mode);
            constraints.zero_fixed(&mut mode);
            mode
        })
        .collect()
}
