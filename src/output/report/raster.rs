//! Triangles drawn into a picture with a depth for each pixel.
//!
//! Imports nothing of femdd. Start at [`Raster`]. Drawn at twice its size and averaged, so that sides are smooth;
//! what nothing covers is transparent.

/// Pixels drawn for one of the picture, each way.
const FINE: usize = 2;

/// Half the width of a line, in the pixels that are drawn.
const HALF_LINE: f32 = 1.0;

/// A picture in the making.
pub(super) struct Raster {
    width: usize,
    height: usize,
    depth: Vec<f32>,
    colour: Vec<[u8; 4]>,
}

/// What a triangle is painted with.
#[derive(Clone, Copy)]
pub(super) enum Paint<'a> {
    /// One colour.
    Flat([u8; 3]),
    /// By the values at its corners, from 0 to 1, out of a table.
    Shaded([f32; 3], &'a [[u8; 3]]),
}

/// The colour of what is not a number.
const UNKNOWN: [u8; 3] = [150, 150, 150];

impl Raster {
    /// A transparent picture of this size.
    pub(super) fn new(width: usize, height: usize) -> Raster {
        let (width, height) = (width * FINE, height * FINE);
        Raster {
            width,
            height,
            depth: vec![f32::NEG_INFINITY; width * height],
            colour: vec![[0; 4]; width * height],
        }
    }

    /// Draws a triangle. Of its points x runs to the right and y down, in pixels of the picture, and the
    /// larger z is nearer. `light` dims it; sides for which `rim` says so are lined.
    pub(super) fn triangle(&mut self, points: [[f32; 3]; 3], light: f32, rim: [bool; 3], paint: Paint) {
        let fine = FINE as f32;
        let [a, b, c] = points.map(|[x, y, z]| [x * fine, y * fine, z]);
        let twice_area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        // Seen from its side, or with a point that is not a number.
        if !(twice_area.abs() > 1e-12) || !twice_area.is_finite() {
            return;
        }
        let range = |k: usize, most: usize| {
            let (low, high) = (a[k].min(b[k]).min(c[k]), a[k].max(b[k]).max(c[k]));
            // Pixels whose middle lies between.
            ((low - 0.5).ceil().max(0.0) as usize, ((high + 0.5).floor().max(0.0) as usize).min(most))
        };
        let (xs, ys) = (range(0, self.width), range(1, self.height));
        let inverse = 1.0 / twice_area;
        // Lines fade as triangles shrink, for a dense mesh would be all lines.
        let ink = ((twice_area.abs().sqrt() - 8.0) / 40.0).clamp(0.0, 1.0) * 0.5;
        let near = [(a, b), (b, c), (c, a)].map(|(p, q)| {
            let length = (q[0] - p[0]).hypot(q[1] - p[1]);
            HALF_LINE * length / twice_area.abs()
        });
        for y in ys.0..ys.1 {
            let py = y as f32 + 0.5;
            for x in xs.0..xs.1 {
                let px = x as f32 + 0.5;
                let wb = ((px - a[0]) * (c[1] - a[1]) - (py - a[1]) * (c[0] - a[0])) * inverse;
                let wc = ((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0])) * inverse;
                let wa = 1.0 - wb - wc;
                // Slightly beyond the sides, so that rounding leaves no gap between neighbours.
                if wa.min(wb).min(wc) < -1e-4 {
                    continue;
                }
                let z = wa * a[2] + wb * b[2] + wc * c[2];
                let at = y * self.width + x;
                if z.is_nan() || z <= self.depth[at] {
                    continue;
                }
                self.depth[at] = z;
                let base = match paint {
                    Paint::Flat(colour) => colour,
                    Paint::Shaded(v, table) => {
                        let value = wa * v[0] + wb * v[1] + wc * v[2];
                        if value.is_nan() {
                            UNKNOWN
                        } else {
                            table[((value * table.len() as f32) as usize).min(table.len() - 1)]
                        }
                    }
                };
                // The side from a to b is opposite of c.
                let lined = [wc, wa, wb].iter().zip(near).zip(rim).any(|((w, near), rim)| rim && *w < near);
                let light = if lined { light * (1.0 - ink) } else { light };
                let [r, g, b] = base.map(|v| (f32::from(v) * light).round() as u8);
                self.colour[at] = [r, g, b, 255];
            }
        }
    }

    /// Whether anything was drawn.
    pub(super) fn is_empty(&self) -> bool {
        self.depth.iter().all(|z| *z == f32::NEG_INFINITY)
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// What the encoder says, which has no reason to.
    pub(super) fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let (width, height) = (self.width / FINE, self.height / FINE);
        let mut pixels = Vec::with_capacity(width * height * 4);
        for y in 0..height {
            for x in 0..width {
                let parts = (0..FINE * FINE)
                    .map(|k| self.colour[(y * FINE + k / FINE) * self.width + x * FINE + k % FINE]);
                let (mut sum, mut covered) = ([0u32; 3], 0);
                for [r, g, b, _] in parts.filter(|p| p[3] > 0) {
                    covered += 1;
                    sum = [sum[0] + u32::from(r), sum[1] + u32::from(g), sum[2] + u32::from(b)];
                }
                pixels.extend(sum.map(|s| (s / covered.max(1)) as u8));
                pixels.push((covered * 255 / (FINE * FINE) as u32) as u8);
            }
        }
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Balanced);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Paint = Paint::Flat([200, 0, 0]);
    const BLUE: Paint = Paint::Flat([0, 0, 200]);

    fn square(raster: &mut Raster, z: f32, paint: Paint) {
        let at = |x: f32, y: f32| [x, y, z];
        raster.triangle([at(1.0, 1.0), at(9.0, 1.0), at(1.0, 9.0)], 1.0, [false; 3], paint);
        raster.triangle([at(9.0, 1.0), at(9.0, 9.0), at(1.0, 9.0)], 1.0, [false; 3], paint);
    }

    #[test]
    fn the_nearer_wins_in_any_order() {
        for (first, second) in [((1.0, RED), (2.0, BLUE)), ((2.0, BLUE), (1.0, RED))] {
            let mut raster = Raster::new(10, 10);
            assert!(raster.is_empty());
            square(&mut raster, first.0, first.1);
            square(&mut raster, second.0, second.1);
            assert!(!raster.is_empty());
            assert_eq!(raster.colour[10 * 20 + 10], [0, 0, 200, 255]);
            // No gap along the side that two triangles share, and nothing outside.
            let covered = raster.colour.iter().filter(|c| c[3] > 0).count();
            assert_eq!(covered, 16 * 16);
        }
    }

    #[test]
    fn values_pick_colours_and_nonsense_draws_nothing() {
        let table: Vec<[u8; 3]> = (0..=255).map(|v| [v, v, v]).collect();
        let mut raster = Raster::new(10, 10);
        square(&mut raster, 0.0, Paint::Shaded([0.5; 3], &table));
        assert_eq!(raster.colour[10 * 20 + 10][0], 128);
        raster.triangle([[f32::NAN; 3], [0.0; 3], [9.0; 3]], 1.0, [true; 3], RED);
        raster.triangle([[-1e30; 3], [1e30, 0.0, 0.0], [0.0, 1e30, 0.0]], 1.0, [true; 3], RED);
        square(&mut raster, 1.0, Paint::Shaded([f32::NAN; 3], &table));
        assert_eq!(raster.colour[10 * 20 + 10], [150, 150, 150, 255]);
        let png = raster.png().unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(png));
        assert_eq!(decoder.read_info().unwrap().info().size(), (10, 10));
    }
}
