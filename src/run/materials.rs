//! The case's coefficients as materials: one for each set of groups that cells belong to.

use crate::case::{Case, Coefficient, Law, Value};
use crate::law::expr::{Expr, Var};
use crate::law::{Material, Slot};
use crate::mesh::Mesh;

use super::error::RunError;
use super::mesh::groups_named;

/// Materials, and which of them each of the mesh's sets has.
pub struct Materials {
    /// Distinct materials.
    pub materials: Vec<Material>,
    /// By set.
    pub of_set: Vec<u16>,
    /// Whether the law's operator is symmetric in all of them.
    pub symmetric: bool,
    /// Whether all coefficients of the tangent are constants.
    pub tangent_constant: bool,
    /// Whether there is a term without derivatives, or of first order.
    pub lower_order: bool,
    /// Whether any reaction fixes the level of the solution.
    pub reaction: bool,
}

/// The coefficients a set of groups has: the law's own, overridden by regions in the order of the file.
fn of_set<'a>(case: &'a Case, mesh: &Mesh, set: &[u16]) -> Vec<&'a Coefficient> {
    let mut found: Vec<&Coefficient> = case.physics.coefficients.iter().collect();
    for region in &case.regions {
        let here = region.on.iter().any(|name| {
            groups_named(&mesh.groups, Some(mesh.dim), &name.text).iter().any(|g| set.contains(g))
        });
        if !here {
            continue;
        }
        for coefficient in &region.coefficients {
            match found.iter_mut().find(|c| c.name == coefficient.name) {
                Some(slot) => *slot = coefficient,
                None => found.push(coefficient),
            }
        }
    }
    found
}

struct Builder {
    slots: Vec<Slot>,
    keys: Vec<String>,
}

impl Builder {
    fn push(&mut self, expr: Expr, key: &str) {
        self.slots.push(Slot::new(expr));
        self.keys.push(key.to_string());
    }
}

/// Builds the materials. Collective.
///
/// # Errors
/// A cell without a required coefficient, the same error on every rank.
pub fn build(case: &Case, mesh: &Mesh) -> Result<Materials, RunError> {
    let dim = mesh.dim;
    let mut made = Materials {
        materials: Vec::new(),
        of_set: Vec::new(),
        symmetric: true,
        tangent_constant: true,
        lower_order: false,
        reaction: false,
    };
    let mut used = vec![0u64; mesh.sets.len()];
    for block in &mesh.blocks {
        // Cells of a set mostly follow each other.
        for run in block.sets[..block.n_owned].chunk_by(|a, b| a == b) {
            used[run[0] as usize] += run.len() as u64;
        }
    }
    mesh.comm.sum_slice(&mut used);
    for (s, set) in mesh.sets.iter().enumerate() {
        if used[s] == 0 {
            made.of_set.push(0);
            continue;
        }
        let given = of_set(case, mesh, set);
        let mut builder = Builder { slots: Vec::new(), keys: Vec::new() };
        let get = |name: &str| -> Result<&Coefficient, RunError> {
            given.iter().find(|c| c.name == name).copied().ok_or_else(|| {
                let groups: Vec<&str> = set.iter().map(|&g| mesh.groups[g as usize].name.as_str()).collect();
                let place = if groups.is_empty() {
                    "cells in no named region".to_string()
                } else {
                    format!("the cells of {}", groups.join(", "))
                };
                let message = format!("{} of {place} is not given", name);
                let help =
                    Some(format!("give `{name}` under [physics], or in a [region] that covers these cells"));
                let key = format!("physics.{name}");
                RunError::at(case.error(case.physics.place, &key, message, help), &case.text)
            })
        };
        match case.physics.law {
            Law::Elasticity => {
                for name in ["young", "poisson_ratio", "thickness", "thermal_expansion", "temperature"] {
                    let c = get(name)?;
                    scalar(&mut builder, c);
                }
                scalar(&mut builder, get("reference_temperature")?);
                let force = get("body_force")?;
                for expr in force.value.vector(dim) {
                    builder.push(expr, &force.key);
                }
                made.tangent_constant &= builder.slots[..3].iter().all(|s| s.constant().is_some());
            }
            law => {
                let diffusion = get(if law == Law::Heat { "conductivity" } else { "diffusion" })?;
                let tensor = diffusion.value.tensor(dim);
                for expr in tensor.iter().flatten() {
                    builder.push(expr.clone(), &diffusion.key);
                }
                made.symmetric &= diffusion.value.is_symmetric();
                match law {
                    Law::Heat => builder.push(Expr::constant(0.0), "physics.reaction"),
                    _ => scalar(&mut builder, get("reaction")?),
                }
                let reaction = builder.slots[dim * dim].constant() != Some(0.0);
                made.reaction |= reaction;
                made.lower_order |= reaction;
                scalar(&mut builder, get("source")?);
                made.tangent_constant &= builder.slots[..=dim * dim].iter().all(|s| s.constant().is_some());
                if law == Law::ConvectionDiffusion {
                    let velocity = get("velocity")?;
                    for expr in velocity.value.vector(dim) {
                        made.symmetric &= expr.as_constant() == Some(0.0);
                        made.tangent_constant &= expr.as_constant().is_some();
                        builder.push(expr, &velocity.key);
                    }
                    made.lower_order = true;
                    for column in 0..dim {
                        let mut sum = Expr::constant(0.0);
                        for (row, entries) in tensor.iter().enumerate() {
                            sum = sum.add(&entries[column].derivative(Var::axis(row)));
                        }
                        builder.push(sum, &diffusion.key);
                    }
                }
            }
        }
        made.of_set.push(made.materials.len() as u16);
        made.materials.push(Material { slots: builder.slots, keys: builder.keys });
    }
    Ok(made)
}

fn scalar(builder: &mut Builder, coefficient: &Coefficient) {
    match &coefficient.value {
        Value::Scalar(expr) => builder.push(expr.clone(), &coefficient.key),
        other => builder.push(other.exprs()[0].clone(), &coefficient.key),
    }
}
