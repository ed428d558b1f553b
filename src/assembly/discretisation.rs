//! A law on a mesh and a space: materials by cell, quadrature rules, tables.

use serde::{Deserialize, Serialize};

use super::products::Products;
use super::spans::Spans;
use crate::element::{Quadrature, Table};
use crate::law::coefficients::NotFinite;
use crate::law::{Material, Terms};
use crate::mesh::{Mesh, geometry};
use crate::space::Space;

/// Why an integral could not be computed. Travels between ranks.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum AssemblyError {
    /// An expression that is not a number somewhere.
    #[error("{key} = \"{text}\" is {value} at ({x}, {y}, {z})")]
    NotFinite {
        /// The key in the case.
        key: String,
        /// The expression.
        text: String,
        /// Its value: NaN or infinite, as text because JSON has neither.
        value: String,
        /// Where, x.
        x: f64,
        /// Where, y.
        y: f64,
        /// Where, z.
        z: f64,
    },
    /// A cell turned inside out at a quadrature point.
    #[error("element {id} ({shape}) is inverted or has no volume at ({x:.6}, {y:.6}, {z:.6})")]
    Inverted {
        /// The element's number in the input.
        id: u64,
        /// Its shape.
        shape: String,
        /// Where, x.
        x: f64,
        /// Where, y.
        y: f64,
        /// Where, z.
        z: f64,
    },
}

impl AssemblyError {
    /// A cell whose Jacobian is not positive at a point.
    pub(super) fn inverted(d: &Discretisation, block: usize, cell: usize, at: [f64; 3]) -> AssemblyError {
        let block = &d.mesh.blocks[block];
        let shape = block.shape.name().to_string();
        AssemblyError::Inverted { id: block.ids[cell], shape, x: at[0], y: at[1], z: at[2] }
    }

    /// A coefficient that is not a number at one of the points `x` of a batch; axes may be missing.
    pub(super) fn not_finite(error: NotFinite, x: &[Vec<f64>; 3]) -> AssemblyError {
        let NotFinite { key, text, point, value } = error;
        // A plane mesh has no z.
        let at = |axis: usize| x[axis].get(point).copied().unwrap_or(0.0);
        AssemblyError::NotFinite { key, text, value: value.to_string(), x: at(0), y: at(1), z: at(2) }
    }
}

/// A quadrature rule on a block's cells, with the bases tabulated at its points.
pub struct Rules {
    /// The points and weights.
    pub rule: Quadrature,
    /// The space's basis there.
    pub basis: Table,
    /// The geometry's basis there.
    pub geometry: Table,
}

impl Rules {
    /// Tabulates for one block.
    pub fn new(mesh: &Mesh, space: &Space, block: usize, degree: usize, derivatives: usize) -> Rules {
        let b = &mesh.blocks[block];
        let rule = Quadrature::new(b.shape, degree).expect("rules exist for every degree asked for here");
        let basis = space.elements[block].tabulate(&rule.points, derivatives);
        let geometry = geometry::basis(b).tabulate(&rule.points, derivatives.max(1));
        Rules { rule, basis, geometry }
    }
}

/// A mesh, a space and materials: all that element loops need besides the law.
pub struct Discretisation<'a> {
    /// The mesh.
    pub mesh: &'a Mesh,
    /// The space of each component.
    pub space: &'a Space,
    /// Coefficients by material.
    pub materials: &'a [Material],
    /// Material of each of the mesh's sets of groups.
    pub set_material: &'a [u16],
    /// The time at which coefficients are evaluated.
    pub time: f64,
    /// What the rules were chosen by: whether the tangent's coefficients are constants, and whether it has
    /// terms of lower order.
    pub(super) chosen_by: (bool, bool),
    pub(super) spans: Spans,
    pub(super) tangent: Vec<Rules>,
    /// By block: what element matrices are combined of, where that is possible and pays.
    pub(super) products: Vec<Option<Products>>,
    pub(super) residual: Vec<Rules>,
}

/// The degree of the rule that integrates residuals, on cells of one block.
fn residual_degree(mesh: &Mesh, block: usize, degree: usize) -> usize {
    let b = &mesh.blocks[block];
    let curved = usize::from(b.geometry != crate::element::GeometryKind::Linear) * 2;
    // Tensor cells need `degree + 1` Gauss points a direction.
    let straight = if b.shape.is_simplex() { 2 * degree } else { 2 * degree + 1 };
    straight + curved
}

impl<'a> Discretisation<'a> {
    /// Chooses rules. `terms` are the law's. Not collective.
    ///
    /// A rule of lower degree integrates the tangent where that is still exact: affine cells with
    /// constant coefficients. Elsewhere both use one rule, so that the residual of the solution
    /// vanishes to the solver's tolerance.
    pub fn new(
        mesh: &'a Mesh,
        space: &'a Space,
        materials: &'a [Material],
        set_material: &'a [u16],
        terms: Terms,
        tangent_constant: bool,
        lower_order: bool,
        time: f64,
    ) -> Discretisation<'a> {
        let derivatives = if terms.hessian { 2 } else { 1 };
        let (mut tangent, mut residual, mut products) = (Vec::new(), Vec::new(), Vec::new());
        for (b, block) in mesh.blocks.iter().enumerate() {
            let full = residual_degree(mesh, b, space.degree);
            let least = if block.is_affine() && tangent_constant {
                2 * space.degree - if lower_order { 0 } else { 2 }
            } else {
                full
            };
            let rules = Rules::new(mesh, space, b, least, derivatives);
            products.push(tangent_constant.then(|| Products::new(block, &rules, terms)).flatten());
            tangent.push(rules);
            residual.push(Rules::new(mesh, space, b, full, derivatives));
        }
        let spans = Spans::new(space);
        let chosen_by = (tangent_constant, lower_order);
        Discretisation {
            mesh,
            space,
            materials,
            set_material,
            time,
            chosen_by,
            spans,
            tangent,
            products,
            residual,
        }
    }

    /// Whether the coefficients of a cell that `wanted` names are constants.
    pub(super) fn is_constant(&self, block: usize, cell: usize, wanted: impl Fn(usize) -> bool) -> bool {
        let slots = &self.materials[self.material(block, cell)].slots;
        slots.iter().enumerate().all(|(k, slot)| slot.constant().is_some() || !wanted(k))
    }

    /// The material of a cell.
    pub fn material(&self, block: usize, cell: usize) -> usize {
        self.set_material[self.mesh.blocks[block].sets[cell] as usize] as usize
    }
}
