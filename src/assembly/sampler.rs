//! Quantities of a law at fixed reference points of cells, eight cells of one block at a time.
//!
//! Imports the discretisation and `law`. Start at [`Sampler::evaluate`].

use super::discretisation::{AssemblyError, Discretisation};
use super::lanes::Gathered;
use crate::element::Table;
use crate::law::coefficients::Batch as CoefficientBatch;
use crate::law::expr::Points;
use crate::law::lanes::{Lanes, WIDTH};
use crate::law::{Law, Part, Point, Quantity};
use crate::mesh::geometry;

/// How many of `cells` share the first's material, at most eight.
pub(super) fn same_material(d: &Discretisation, block: usize, cells: &[u32]) -> usize {
    let material = |cell: u32| d.material(block, cell as usize);
    let first = material(cells[0]);
    cells.iter().take(WIDTH).take_while(|&&cell| material(cell) == first).count()
}

/// Visits cells of a block in groups that share a material, at most eight in each: `visit` gets how many cells come
/// before a group, and the group.
pub(super) fn by_material<E>(
    d: &Discretisation,
    block: usize,
    cells: std::ops::Range<usize>,
    mut visit: impl FnMut(usize, &[u32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut begin = cells.start;
    while begin < cells.end {
        let ids: [u32; WIDTH] = std::array::from_fn(|lane| (begin + lane) as u32);
        let n = same_material(d, block, &ids[..WIDTH.min(cells.end - begin)]);
        visit(begin - cells.start, &ids[..n])?;
        begin += n;
    }
    Ok(())
}

/// Evaluates quantities at fixed reference points of a block's cells.
pub(super) struct Sampler<'a, L, const D: usize, const C: usize> {
    law: &'a L,
    d: &'a Discretisation<'a>,
    block: usize,
    quantities: &'a [(Quantity, usize)],
    width: usize,
    basis: Table,
    geometry: Table,
    cells: Gathered<D, C>,
    x: [Vec<Lanes>; 3],
    coefficients: CoefficientBatch,
    /// The material whose coefficients are at hand and the same at all points.
    material: Option<usize>,
    /// Determinants of the cells at the points, `[point]`; one point where they are constant.
    determinants: Vec<Lanes>,
    /// `[point][cell][value]`.
    values: Vec<f64>,
}

impl<'a, L: Law<D, C>, const D: usize, const C: usize> Sampler<'a, L, D, C> {
    /// For `quantities`, each with the number of its values.
    pub fn new(
        law: &'a L,
        d: &'a Discretisation,
        block: usize,
        points: &[[f64; 3]],
        quantities: &'a [(Quantity, usize)],
    ) -> Self {
        let width = quantities.iter().map(|q| q.1).sum();
        Sampler {
            law,
            d,
            block,
            quantities,
            width,
            basis: d.space.elements[block].tabulate(points, 1),
            geometry: geometry::basis(&d.mesh.blocks[block]).tabulate(points, 1),
            cells: Gathered::default(),
            x: std::array::from_fn(|_| vec![Lanes::default(); points.len()]),
            coefficients: CoefficientBatch::default(),
            material: None,
            determinants: Vec::with_capacity(points.len()),
            values: vec![0.0; points.len() * WIDTH * width],
        }
    }

    /// How many of `cells` share the first's material: those one call takes, at most eight.
    pub fn run(d: &Discretisation, block: usize, cells: &[u32]) -> usize {
        same_material(d, block, cells)
    }

    /// Computes the quantities at all points of `cells`: at most eight, of one material.
    ///
    /// # Errors
    /// A coefficient that is not a number, a cell that is turned inside out.
    pub fn evaluate(&mut self, cells: &[u32], u: &[f64]) -> Result<(), AssemblyError> {
        let (d, b) = (self.d, self.block);
        let affine = d.mesh.blocks[b].is_affine();
        self.cells.gather(d, b, cells, u);
        self.load_coefficients(cells[0] as usize)?;
        self.determinants.clear();
        let n_points = self.basis.n_points;
        let mut inverse = [[Lanes::default(); D]; D];
        let mut out = self.values.chunks_exact_mut(self.width);
        for q in 0..n_points {
            if q == 0 || !affine {
                let (found, determinant) = self.cells.map(d, b, cells, &self.geometry, q)?;
                inverse = found;
                self.determinants.push(determinant);
            }
            let value = self.cells.value(&self.basis, q);
            let gradient = self.cells.gradient(&self.basis, q, &inverse);
            for l in 0..WIDTH {
                let mut p = Point::<D, C>::default();
                for c in 0..C {
                    p.u[c] = value[c].as_array()[l];
                    (0..D).for_each(|a| p.grad[c][a] = gradient[c][a].as_array()[l]);
                }
                let coefficients = self.coefficients.at(q * WIDTH + l);
                let out = out.next().expect("room for every point and cell");
                let mut first = 0;
                for &(quantity, width) in self.quantities {
                    self.law.evaluate(quantity, &p, &coefficients, &mut out[first..first + width]);
                    first += width;
                }
            }
        }
        Ok(())
    }

    /// The coefficients at the points of the cells at hand. Evaluated again only where they vary.
    fn load_coefficients(&mut self, cell: usize) -> Result<(), AssemblyError> {
        let index = self.d.material(self.block, cell);
        if self.material == Some(index) {
            return Ok(());
        }
        let law = self.law;
        let wanted = |slot| law.needs(Part::Quantities, slot);
        let constant = self.d.is_constant(self.block, cell, wanted);
        self.material = constant.then_some(index);
        if !constant {
            for q in 0..self.basis.n_points {
                let at = self.cells.image(&self.geometry, q);
                (0..D).for_each(|k| self.x[k][q] = at[k]);
            }
        }
        let [x, y, z]: [&[f64]; 3] =
            self.x.each_ref().map(|x| if constant { &[] } else { bytemuck::cast_slice(x) });
        let points = Points { x, y, z, t: self.d.time };
        self.coefficients
            .evaluate_some(&self.d.materials[index], &points, wanted)
            .map_err(|e| AssemblyError::not_finite(e, &[x, y, z].map(<[f64]>::to_vec)))
    }

    /// The values of cell `lane` at point `q`, quantity after quantity.
    #[inline(always)]
    pub fn values(&self, q: usize, lane: usize) -> &[f64] {
        &self.values[(q * WIDTH + lane) * self.width..][..self.width]
    }

    /// The determinants at point `q`.
    #[inline(always)]
    pub fn determinant(&self, q: usize) -> &[f64; WIDTH] {
        self.determinants[if self.determinants.len() == 1 { 0 } else { q }].as_array()
    }

    /// Coordinates of the geometry's nodes of cell `lane`.
    pub fn coordinates(&self, lane: usize, out: &mut Vec<[f64; 3]>) {
        out.clear();
        out.extend(self.cells.coordinates(lane));
    }
}
