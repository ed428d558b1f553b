//! Coefficients: constants and expressions, by material, evaluated over batches of points.

use std::marker::PhantomData;

use super::expr::{Expr, Points, Scratch, Var};
use super::lanes::{Lanes, Real, WIDTH};
use super::slopes::Sloped;

/// One scalar coefficient of a law: a component of a vector or a tensor has a slot of its own.
#[derive(Debug, Clone)]
pub enum Slot {
    /// The same everywhere in the material.
    Constant(f64),
    /// Varies in space or time.
    Varying(Box<Expr>),
}

impl Slot {
    /// A slot from an expression, which may be constant.
    pub fn new(expr: Expr) -> Slot {
        match expr.as_constant() {
            Some(value) => Slot::Constant(value),
            None => Slot::Varying(Box::new(expr)),
        }
    }

    /// The value, if it is the same everywhere.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Slot::Constant(value) => Some(*value),
            Slot::Varying(_) => None,
        }
    }
}

/// The coefficients of one material: the slots of a law in its order, each with the key it came from.
#[derive(Debug, Clone)]
pub struct Material {
    /// The values.
    pub slots: Vec<Slot>,
    /// For messages: `region.steel.young` or `physics.young`.
    pub keys: Vec<String>,
}

impl Material {
    /// The same with derivatives: after its slots, those of their slopes along each axis. Slopes that are
    /// not `wanted` are zero.
    pub fn with_slopes(&self, dim: usize, wanted: impl Fn(usize) -> bool) -> Material {
        let mut made = self.clone();
        for axis in 0..dim {
            for (k, slot) in self.slots.iter().enumerate() {
                made.slots.push(match slot {
                    Slot::Varying(expr) if wanted(k) => Slot::new(expr.derivative(Var::axis(axis))),
                    _ => Slot::Constant(0.0),
                });
                made.keys.push(self.keys[k].clone());
            }
        }
        made
    }
}

/// Coefficients at one point, or at one point of each of several cells.
#[derive(Clone, Copy)]
pub struct Coefficients<'a, N = f64> {
    batch: &'a Batch,
    point: usize,
    /// The first of the slots that hold slopes.
    slopes: usize,
    numbers: PhantomData<N>,
}

impl<N: Real> Coefficients<'_, N> {
    /// The value of a slot.
    #[inline(always)]
    pub fn get(&self, slot: usize) -> N {
        let (begin, stride) = self.batch.layout[slot];
        N::load_sloped(&self.batch.values, begin + stride * self.point, || {
            let (begin, stride) = self.batch.layout[slot + self.slopes];
            begin + stride * self.point
        })
    }
}

/// Coefficients of one material at a batch of points.
#[derive(Default)]
pub struct Batch {
    values: Vec<f64>,
    /// Per slot: where its values begin, and 1 if it varies from point to point, else 0.
    layout: Vec<(usize, usize)>,
    scratch: Scratch,
}

/// A coefficient that is not a number somewhere.
#[derive(Debug, Clone)]
pub struct NotFinite {
    /// The coefficient's key in the case.
    pub key: String,
    /// Its text.
    pub text: String,
    /// The point, as an index into the batch.
    pub point: usize,
    /// The value there: NaN or infinite.
    pub value: f64,
}

impl Batch {
    /// Evaluates all slots at `points`. Allocates only until buffers have grown to the batch's size.
    ///
    /// # Errors
    /// A value that is NaN or infinite.
    pub fn evaluate(&mut self, material: &Material, points: &Points) -> Result<(), NotFinite> {
        self.evaluate_some(material, points, |_| true)
    }

    /// As [`Batch::evaluate`], for the slots that `wanted` names; others that vary are zero.
    ///
    /// # Errors
    /// As [`Batch::evaluate`].
    pub fn evaluate_some(
        &mut self,
        material: &Material,
        points: &Points,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(), NotFinite> {
        let n = points.x.len();
        self.layout.clear();
        let mut size = 0;
        for (k, slot) in material.slots.iter().enumerate() {
            let varies = usize::from(slot.constant().is_none() && wanted(k));
            self.layout.push((size, varies));
            // Constants stand once for each lane, so that lanes are read alike.
            size += if varies == 1 { n } else { WIDTH };
        }
        if self.values.len() < size {
            self.values.resize(size, 0.0);
        }
        for (k, slot) in material.slots.iter().enumerate() {
            let (begin, varies) = self.layout[k];
            match slot {
                Slot::Constant(value) => self.values[begin..begin + WIDTH].fill(*value),
                Slot::Varying(_) if varies == 0 => self.values[begin..begin + WIDTH].fill(0.0),
                Slot::Varying(expr) => {
                    let out = &mut self.values[begin..begin + n * varies];
                    expr.eval(points, out, &mut self.scratch);
                    // All of them first, in vectors.
                    if !out.iter().fold(true, |all, v| all & v.is_finite())
                        && let Some(point) = out.iter().position(|v| !v.is_finite())
                    {
                        return Err(NotFinite {
                            key: material.keys[k].clone(),
                            text: expr.text().to_string(),
                            point,
                            value: out[point],
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The coefficients at one of the points.
    #[inline(always)]
    pub fn at(&self, point: usize) -> Coefficients<'_> {
        Coefficients { batch: self, point, slopes: 0, numbers: PhantomData }
    }

    /// The coefficients at the points `point..point + WIDTH`, a lane each.
    #[inline(always)]
    pub fn lanes(&self, point: usize) -> Coefficients<'_, Lanes> {
        Coefficients { batch: self, point, slopes: 0, numbers: PhantomData }
    }

    /// As [`Batch::lanes`], with the slopes along an axis, of a material [with slopes](Material::with_slopes).
    #[inline(always)]
    pub fn sloped_lanes(&self, point: usize, axis: usize, dim: usize) -> Coefficients<'_, Sloped<Lanes>> {
        let slopes = (1 + axis) * (self.layout.len() / (1 + dim));
        Coefficients { batch: self, point, slopes, numbers: PhantomData }
    }
}
