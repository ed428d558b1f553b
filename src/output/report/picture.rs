//! Pictures of a solution and of how it is dealt out to the ranks, drawn from `solution.hdf`.
//!
//! Imports its siblings and [`super::super::chart`]. Start at [`figures`]. Partitions are read one after the
//! other, and of one no more is kept than 12 bytes a point, 4 for each field drawn, and the sides of its cells that
//! no cell shares; the picture itself has a fixed size. Sides between partitions, or between cells of different
//! size, are drawn and hidden behind the surface.

use std::collections::HashMap;
use std::path::Path;

use super::faces::CellKind;
use super::grid::{CellsOf, FieldOf, Grid, Partition};
use super::raster::{Paint, Raster};
use crate::output::OutputError;
use crate::output::chart::{Axis, Chart, ColourBar, Mark, Series, Swatches, number};

/// The width of a picture, and the most and least of its height.
const WIDTH: f64 = 1000.0;
const HEIGHTS: (f64, f64) = (200.0, 760.0);

/// Pixels left free around what is drawn.
const MARGIN: f64 = 8.0;

/// More cells than this take too long to draw.
const MOST_CELLS: usize = 50_000_000;

/// Points of a curve that can still be told apart.
const CURVE_POINTS: usize = 1200;

/// Where a solid is seen from, and its directions to the right and up in the picture: 30 degrees from above.
const TOWARDS: [f64; 3] = [0.433_012_701_892_219_3, -0.75, 0.5];
const RIGHT: [f64; 3] = [0.866_025_403_784_438_6, 0.5, 0.0];
const UP: [f64; 3] = [-0.25, 0.433_012_701_892_219_3, 0.866_025_403_784_438_6];

/// The colours of `viridis` by S. van der Walt and N. Smith, every tenth of the way.
const VIRIDIS: [[u8; 3]; 11] = [
    [68, 1, 84],
    [72, 36, 117],
    [65, 68, 135],
    [53, 95, 141],
    [42, 120, 142],
    [33, 145, 140],
    [34, 168, 132],
    [68, 191, 112],
    [122, 209, 81],
    [189, 223, 38],
    [253, 231, 37],
];

/// Colours of few partitions.
const RANKS: [[u8; 3]; 8] = [
    [86, 180, 233],
    [230, 159, 0],
    [0, 158, 115],
    [204, 121, 167],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [160, 160, 160],
];

/// Something to look at.
pub(super) enum Figure {
    /// A picture with its legend.
    Picture { png: Vec<u8>, size: (usize, usize), alt: String, legend: String, caption: String },
    /// A chart.
    Curve { svg: String, caption: String },
}

/// Draws a solution: the fields of `wanted` that are there, two at most, and the partition if there are several.
///
/// # Errors
/// A file that cannot be read, or that has more cells than can be drawn in reasonable time.
pub(super) fn figures(path: &Path, wanted: &[String]) -> Result<Vec<Figure>, OutputError> {
    let grid = Grid::open(path)?;
    if grid.n_cells() > MOST_CELLS {
        let what = format!("{} cells are more than are drawn ({MOST_CELLS}): use ParaView", grid.n_cells());
        return Err(OutputError::Format { path: path.to_path_buf(), what });
    }
    let fields = choose(&grid.fields, wanted);
    let mut kinds = Kinds::default();
    let survey = survey(&grid, &fields, &mut kinds)?;
    match survey.dimension {
        0 => Ok(Vec::new()),
        1 => curves(&grid, &fields, &mut kinds),
        dimension => draw(&grid, &fields, &survey, View::of(&survey, dimension), &mut kinds),
    }
}

/// What to draw of the fields there are: the stress of a body or else the first scalar, and the first vector, in the
/// order that the case lists them.
fn choose(fields: &[FieldOf], wanted: &[String]) -> Vec<FieldOf> {
    let find = |name: &str| fields.iter().find(|f| f.name == name);
    let listed: Vec<&FieldOf> = wanted
        .iter()
        .filter_map(|name| find(&name.replace('.', "_")))
        .chain(fields.iter().filter(|f| !wanted.iter().any(|w| w.replace('.', "_") == f.name)))
        .collect();
    let first = |components: usize| listed.iter().find(|f| f.components == components).copied();
    let chosen = [find("von_mises").or_else(|| first(1)), first(3)];
    chosen.into_iter().flatten().cloned().collect()
}

/// The kinds of cells met so far.
#[derive(Default)]
struct Kinds(HashMap<(u8, usize), Option<CellKind>>);

impl Kinds {
    fn of(&mut self, cells: &CellsOf, k: usize) -> Option<&CellKind> {
        let key = (cells.types[k], cells.corners(k).len());
        self.0.entry(key).or_insert_with(|| CellKind::of(key.0, key.1)).as_ref()
    }
}

/// Extents, in space and of values.
struct Survey {
    dimension: usize,
    low: [f64; 3],
    high: [f64; 3],
    /// Along the axes of the picture, as a solid is seen.
    seen_low: [f64; 3],
    seen_high: [f64; 3],
    /// Least and largest value of each field.
    values: Vec<[f64; 2]>,
}

fn survey(grid: &Grid, fields: &[FieldOf], kinds: &mut Kinds) -> Result<Survey, OutputError> {
    let none = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    let mut found = Survey {
        dimension: 0,
        low: none.0,
        high: none.1,
        seen_low: none.0,
        seen_high: none.1,
        values: vec![[f64::INFINITY, f64::NEG_INFINITY]; fields.len()],
    };
    for partition in &grid.partitions {
        grid.points(partition, |points| {
            for x in points.chunks_exact(3) {
                let x = [x[0], x[1], x[2]];
                let seen = turned(x);
                for d in 0..3 {
                    (found.low[d], found.high[d]) = (found.low[d].min(x[d]), found.high[d].max(x[d]));
                    found.seen_low[d] = found.seen_low[d].min(seen[d]);
                    found.seen_high[d] = found.seen_high[d].max(seen[d]);
                }
            }
        })?;
        for (field, range) in fields.iter().zip(&mut found.values) {
            grid.field(partition, field, |values| {
                for v in values.iter().filter(|v| v.is_finite()) {
                    *range = [range[0].min(*v), range[1].max(*v)];
                }
            })?;
        }
        let mut dimension = found.dimension;
        grid.cells(partition, |cells| {
            // Blocks of one kind follow each other: the types change rarely.
            let mut last = None;
            for k in 0..cells.types.len() {
                if last != Some(cells.types[k]) {
                    last = Some(cells.types[k]);
                    dimension = dimension.max(kinds.of(cells, k).map_or(0, |kind| kind.dimension));
                }
            }
            Ok(())
        })?;
        found.dimension = dimension;
    }
    Ok(found)
}

/// A place as a solid is seen: to the right, up, towards the eye.
fn turned(x: [f64; 3]) -> [f64; 3] {
    [RIGHT, UP, TOWARDS].map(|axis| (0..3).map(|d| axis[d] * x[d]).sum())
}

/// How places become pixels.
struct View {
    solid: bool,
    low: [f64; 3],
    scale: f64,
    height: f64,
    shift: [f64; 2],
}

impl View {
    fn of(survey: &Survey, dimension: usize) -> View {
        let solid = dimension == 3;
        let (low, high) = if solid { (survey.seen_low, survey.seen_high) } else { (survey.low, survey.high) };
        let [wide, high] = [0, 1].map(|d| (high[d] - low[d]).max(f64::MIN_POSITIVE));
        let inner = WIDTH - 2.0 * MARGIN;
        let height = (high / wide * inner + 2.0 * MARGIN).clamp(HEIGHTS.0, HEIGHTS.1).ceil();
        let scale = (inner / wide).min((height - 2.0 * MARGIN) / high);
        let shift = [0.5 * (WIDTH - scale * wide), 0.5 * (height - scale * high)];
        View { solid, low, scale, height, shift }
    }

    fn pixel(&self, x: [f64; 3]) -> [f32; 3] {
        let seen = if self.solid { turned(x) } else { x };
        let [u, v, w] = [0, 1, 2].map(|d| (seen[d] - self.low[d]) * self.scale);
        let depth = if self.solid { w } else { 0.0 };
        [(u + self.shift[0]) as f32, (self.height - v - self.shift[1]) as f32, depth as f32]
    }
}

/// What of a partition the pictures need.
struct Part {
    points: Vec<[f32; 3]>,
    values: Vec<Vec<f32>>,
}

impl Part {
    fn read(
        grid: &Grid,
        partition: &Partition,
        fields: &[FieldOf],
        survey: &Survey,
        view: &View,
    ) -> Result<Part, OutputError> {
        let mut points = Vec::with_capacity(partition.points.len());
        grid.points(partition, |some| {
            points.extend(some.chunks_exact(3).map(|x| view.pixel([x[0], x[1], x[2]])));
        })?;
        let mut values = Vec::new();
        for (field, [low, high]) in fields.iter().zip(&survey.values) {
            let mut scaled: Vec<f32> = Vec::with_capacity(points.len());
            let inverse = if high > low { 1.0 / (high - low) } else { 0.0 };
            grid.field(partition, field, |some| {
                scaled.extend(some.iter().map(|v| ((v - low) * inverse) as f32));
            })?;
            values.push(scaled);
        }
        Ok(Part { points, values })
    }
}

fn draw(
    grid: &Grid,
    fields: &[FieldOf],
    survey: &Survey,
    view: View,
    kinds: &mut Kinds,
) -> Result<Vec<Figure>, OutputError> {
    let size = (WIDTH as usize, view.height as usize);
    let several = grid.partitions.iter().filter(|p| !p.cells.is_empty()).count() > 1;
    let mut rasters: Vec<Raster> =
        (0..fields.len() + usize::from(several)).map(|_| Raster::new(size.0, size.1)).collect();
    let table = colours();
    for (rank, partition) in grid.partitions.iter().enumerate() {
        let part = Part::read(grid, partition, fields, survey, &view)?;
        let surface = if view.solid { Some(surface(grid, partition, kinds)?) } else { None };
        let mut next = 0;
        grid.cells(partition, |cells| {
            for k in 0..cells.types.len() {
                let Some(kind) = kinds.of(cells, k).filter(|kind| kind.dimension == survey.dimension) else {
                    continue;
                };
                let mut sides = 0..kind.sides.len();
                let mut outer = std::iter::from_fn(|| match &surface {
                    None => sides.next(),
                    Some(list) => {
                        let &(cell, side) = list.get(next)?;
                        (cell as usize == cells.first + k).then(|| {
                            next += 1;
                            side as usize
                        })
                    }
                });
                let corners = cells.corners(k);
                outer.by_ref().for_each(|side| {
                    for (triangle, rim) in &kind.sides[side].triangles {
                        let at = triangle.map(|p| corners[p as usize] as usize);
                        let points = at.map(|p| part.points[p]);
                        let light = if view.solid { light(points) } else { 1.0 };
                        for (raster, values) in rasters.iter_mut().zip(&part.values) {
                            let paint = Paint::Shaded(at.map(|p| values[p]), &table);
                            raster.triangle(points, light, *rim, paint);
                        }
                        if several {
                            let paint = Paint::Flat(rank_colour(rank, grid.partitions.len()));
                            rasters[fields.len()].triangle(points, light, *rim, paint);
                        }
                    }
                });
            }
            Ok(())
        })?;
    }
    let mut figures = Vec::new();
    for (k, raster) in rasters.iter().enumerate().filter(|(_, r)| !r.is_empty()) {
        let png = raster.png().map_err(|e| OutputError::Io {
            path: "picture".into(),
            action: "encoding".to_owned(),
            reason: e.to_string(),
        })?;
        let (alt, legend, caption) = match fields.get(k) {
            Some(field) => of_field(field, survey.values[k], &table, view.solid),
            None => of_partition(grid),
        };
        figures.push(Figure::Picture { png, size, alt, legend, caption });
    }
    Ok(figures)
}

/// What a field is called where its picture is.
fn title(field: &FieldOf) -> String {
    if field.components > 1 { format!("|{}|", field.name) } else { field.name.clone() }
}

fn of_field(
    field: &FieldOf,
    [low, high]: [f64; 2],
    colours: &[[u8; 3]],
    solid: bool,
) -> (String, String, String) {
    let name = title(field);
    let legend = ColourBar { label: name.clone(), low, high, colours }.svg();
    let range = format!("{name} from {} to {}", number(low), number(high));
    let seen = if solid { "; seen from -y and above, x to the right, z up" } else { "" };
    (format!("The solution coloured by {range}"), legend, format!("{range}{seen}."))
}

fn of_partition(grid: &Grid) -> (String, String, String) {
    let n = grid.partitions.len();
    let sizes = grid.partitions.iter().map(|p| p.cells.len());
    let (least, most) = sizes.fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    let words = format!("The partition: {n} ranks with {least} to {most} cells");
    let legend = if n <= RANKS.len() {
        let entries = (0..n).map(|rank| (format!("rank {rank}"), rank_colour(rank, n))).collect();
        Swatches { label: "Ranks".to_owned(), entries }.svg()
    } else {
        String::new()
    };
    (words.clone(), legend, format!("{words}."))
}

/// How much light a triangle throws back to the eye.
fn light([a, b, c]: [[f32; 3]; 3]) -> f32 {
    let (u, v) = ([0, 1, 2].map(|d| b[d] - a[d]), [0, 1, 2].map(|d| c[d] - a[d]));
    let n = [0, 1, 2].map(|d| u[(d + 1) % 3] * v[(d + 2) % 3] - u[(d + 2) % 3] * v[(d + 1) % 3]);
    let length = n.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 { 0.62 + 0.38 * n[2].abs() / length } else { 1.0 }
}

/// The sides of a partition's cells that no other of its cells has: cells and sides, ascending.
fn surface(grid: &Grid, partition: &Partition, kinds: &mut Kinds) -> Result<Vec<(u32, u8)>, OutputError> {
    // Sides met once so far, by their corners: cells that follow each other are mostly neighbours, so that this
    // holds little more than a front through the partition.
    let mut once: HashMap<[u32; 4], (u32, u8)> = HashMap::new();
    grid.cells(partition, |cells| {
        for k in 0..cells.types.len() {
            let corners = cells.corners(k);
            let Some(kind) = kinds.of(cells, k).filter(|kind| kind.dimension == 3) else { continue };
            for (s, side) in kind.sides.iter().enumerate() {
                let mut key = [u32::MAX; 4];
                for (key, &p) in key.iter_mut().zip(&side.corners) {
                    *key = corners[p as usize];
                }
                key.sort_unstable();
                if once.remove(&key).is_none() {
                    once.insert(key, ((cells.first + k) as u32, s as u8));
                }
            }
        }
        Ok(())
    })?;
    let mut sides: Vec<(u32, u8)> = once.into_values().collect();
    sides.sort_unstable();
    Ok(sides)
}

/// Curves over x for a solution in one dimension.
fn curves(grid: &Grid, fields: &[FieldOf], kinds: &mut Kinds) -> Result<Vec<Figure>, OutputError> {
    let mut ranks: Vec<[f64; 2]> = Vec::new();
    let mut series: Vec<Vec<[f64; 2]>> = vec![Vec::new(); fields.len()];
    for (rank, partition) in grid.partitions.iter().enumerate() {
        let mut x: Vec<f64> = Vec::with_capacity(partition.points.len());
        grid.points(partition, |some| x.extend(some.chunks_exact(3).map(|x| x[0])))?;
        let range = x.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &x| [a.min(x), b.max(x)]);
        if range[0] <= range[1] {
            ranks.extend([[range[0], rank as f64], [range[1], rank as f64], [f64::NAN; 2]]);
        }
        for (field, series) in fields.iter().zip(&mut series) {
            let mut values = Vec::with_capacity(x.len());
            grid.field(partition, field, |some| values.extend_from_slice(some))?;
            grid.cells(partition, |cells| {
                for k in 0..cells.types.len() {
                    let corners = cells.corners(k);
                    let along = kinds.of(cells, k).map_or(&[][..], |kind| &kind.along);
                    series.extend(along.iter().map(|&p| {
                        let p = corners[p as usize] as usize;
                        [x[p], values[p]]
                    }));
                }
                Ok(())
            })?;
            // What is kept of all partitions together is what can be seen.
            *series = thinned(std::mem::take(series));
        }
    }
    let chart = |name: &str, points: Vec<[f64; 2]>| Chart {
        title: name.to_owned(),
        x: Axis::linear("x"),
        y: Axis::linear(name),
        series: vec![Series { name: name.to_owned(), points, mark: Mark::Line }],
    };
    let mut figures: Vec<Figure> = fields
        .iter()
        .zip(series)
        .map(|(field, points)| Figure::Curve {
            svg: chart(&title(field), points).svg(),
            caption: format!("The solution: {}.", title(field)),
        })
        .collect();
    if grid.partitions.len() > 1 {
        let caption = format!("The partition: where each of {} ranks has cells.", grid.partitions.len());
        figures.push(Figure::Curve { svg: chart("rank", ranks).svg(), caption });
    }
    Ok(figures)
}

/// A curve by x with no more points than can be told apart: of each short stretch the least and the largest value.
fn thinned(mut points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    points.dedup();
    if points.len() <= CURVE_POINTS {
        return points;
    }
    let (first, last) = (points[0][0], points[points.len() - 1][0]);
    let stretches = CURVE_POINTS / 2;
    let stretch = |x: f64| (((x - first) / (last - first)) * stretches as f64) as usize;
    points
        .chunk_by(|a, b| stretch(a[0]) == stretch(b[0]))
        .flat_map(|some| {
            let by_value = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
            let mut ends =
                [some.iter().min_by(by_value), some.iter().max_by(by_value)].map(|p| *p.expect("not empty"));
            ends.sort_by(|a, b| a[0].total_cmp(&b[0]));
            ends
        })
        .collect()
}

/// 256 colours between those of the table.
fn colours() -> Vec<[u8; 3]> {
    (0..256)
        .map(|k| {
            let place = k as f64 / 255.0 * (VIRIDIS.len() - 1) as f64;
            let at = (place as usize).min(VIRIDIS.len() - 2);
            let part = place - at as f64;
            let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
            [0, 1, 2].map(|c| mix(VIRIDIS[at][c], VIRIDIS[at + 1][c]))
        })
        .collect()
}

/// The colour of a rank; of many, hues a golden section apart, at three levels of light.
fn rank_colour(rank: usize, n: usize) -> [u8; 3] {
    if n <= RANKS.len() {
        return RANKS[rank];
    }
    let hue = (rank as f64 * 0.618_033_988_749_895).fract() * 6.0;
    let light = [0.62, 0.48, 0.74][rank % 3];
    let chroma = 0.6 * (1.0 - f64::abs(2.0 * light - 1.0));
    [0.0, 4.0, 2.0].map(|shift| {
        // A hue's share of red, green and blue.
        let share = (f64::abs((hue + shift) % 6.0 - 3.0) - 1.0).clamp(0.0, 1.0);
        ((light + chroma * (share - 0.5)) * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_is_a_rotation() {
        let axes = [RIGHT, UP, TOWARDS];
        for a in 0..3 {
            for b in 0..3 {
                let dot: f64 = (0..3).map(|d| axes[a][d] * axes[b][d]).sum();
                assert!((dot - f64::from(a == b)).abs() < 1e-12);
            }
        }
        // Right-handed: to the right, up, to the eye.
        let cross =
            [0, 1, 2].map(|d| RIGHT[(d + 1) % 3] * UP[(d + 2) % 3] - RIGHT[(d + 2) % 3] * UP[(d + 1) % 3]);
        assert!((0..3).all(|d| (cross[d] - TOWARDS[d]).abs() < 1e-12));
    }

    #[test]
    fn fields_are_chosen_in_the_order_of_the_case() {
        let field = |name: &str, components| FieldOf { name: name.to_owned(), components };
        let there = [field("a", 1), field("flux", 3), field("rank_of", 1), field("t", 1)];
        let names = |chosen: Vec<FieldOf>| chosen.into_iter().map(|f| f.name).collect::<Vec<_>>();
        assert_eq!(names(choose(&there, &["t".to_owned(), "flux".to_owned()])), ["t", "flux"]);
        assert_eq!(names(choose(&there, &[])), ["a", "flux"]);
        let body = [field("heat", 1), field("stress", 6), field("u", 3), field("von_mises", 1)];
        assert_eq!(names(choose(&body, &["u".to_owned()])), ["von_mises", "u"]);
    }

    #[test]
    fn a_thinned_curve_keeps_its_peaks() {
        let mut points: Vec<[f64; 2]> = (0..100_000).map(|k| [k as f64, (k as f64 * 1e-3).sin()]).collect();
        points[54_321][1] = 7.0;
        let few = thinned(points);
        assert!(few.len() <= CURVE_POINTS + 2 && few.iter().any(|p| p[1] == 7.0));
        assert!(few.windows(2).all(|w| w[0][0] <= w[1][0]));
    }

    #[test]
    fn neighbours_among_many_ranks_differ() {
        for n in [2, 8, 9, 64, 1000] {
            for rank in 1..n {
                let (a, b) = (rank_colour(rank - 1, n), rank_colour(rank, n));
                let difference: i32 = (0..3).map(|c| (i32::from(a[c]) - i32::from(b[c])).abs()).sum();
                assert!(difference > 60, "{n} ranks: {rank} {a:?} {b:?}");
            }
        }
    }
}
