//! Charts as SVG: lines and points over two axes, stacked bars, spans of time, a histogram.
//!
//! Imports nothing of femdd. Start at [`Chart`]. Each chart is one string, complete as a file and as part of
//! a page; its colours follow the reader's light or dark scheme and are light in print, and differ for those
//! who see red and green alike (after M. Okabe and K. Ito, "Color universal design", 2008). No two series differ
//! by colour alone: lines have dashes or markers, segments of bars the order of the legend.

mod bars;
mod colour_bar;
mod svg;
mod ticks;

pub use bars::{Bars, Histogram, Row, Span, Timeline};
pub use colour_bar::{ColourBar, Swatches};
pub(crate) use svg::{STYLE, escape, number};

use svg::{Anchor, COLOURS, Drawing, TEXT, WIDTH, fitted, width};
use ticks::{Label, Scale, fits};

/// An axis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Whether it is logarithmic; points that are not positive then have no place.
    pub log: bool,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: false }
    }

    /// A logarithmic axis.
    pub fn log(label: &str) -> Axis {
        Axis { label: label.to_owned(), log: true }
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// A line; further ones have dashes of their own.
    Line,
    /// A thin dashed line: what is expected, fitted or projected.
    Dashed,
    /// Markers.
    Points,
    /// A line with a marker at each point.
    #[default]
    LinePoints,
}

/// Points of one colour. A series whose name is that of an earlier one, a comma and more has its colour: `error`
/// and `error, fitted`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// As in the legend.
    pub name: String,
    /// In the order in which they are joined; a line is broken where a point has no place.
    pub points: Vec<[f64; 2]>,
    /// How they are drawn.
    pub mark: Mark,
}

/// Series over two axes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
}

/// Dashes of the lines without markers, one after the other.
const DASHES: [&str; 4] = ["", "10 4", "2 4", "10 4 2 4"];

/// The height of the plot itself.
const HEIGHT: f64 = 250.0;

/// How the series of a chart look.
struct Look {
    colour: usize,
    dash: &'static str,
    shape: Option<usize>,
    line: bool,
}

impl Chart {
    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let looks = self.looks();
        let mut drawing = Drawing::new(&self.title);
        if self.series.len() > 1 {
            let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).collect();
            drawing.legend(&names, |drawing, k, x, y| {
                draw_line(drawing, &looks[k], &[(x - 14.0, y), (x + 14.0, y)]);
                draw_marker(drawing, &looks[k], x, y, "");
            });
        }
        let points = || self.series.iter().flat_map(|s| &s.points).filter(|p| self.fits(p));
        let x = Scale::of(points().map(|p| p[0]), self.x.log);
        let y = Scale::of(points().map(|p| p[1]), self.y.log);
        let frame = Frame::draw(&mut drawing, &x, &y, &self.x.label, &self.y.label);
        for (series, look) in self.series.iter().zip(&looks) {
            self.draw(&mut drawing, series, look, &frame, (&x, &y));
        }
        if points().next().is_none() {
            drawing.text(WIDTH / 2.0, frame.top + HEIGHT / 2.0, Anchor::Middle, "soft", "no data");
        }
        drawing.finish(&self.about())
    }

    /// Whether a point has a place.
    fn fits(&self, p: &[f64; 2]) -> bool {
        p.iter().zip([&self.x, &self.y]).all(|(v, axis)| fits(*v, axis.log))
    }

    fn looks(&self) -> Vec<Look> {
        let mut looks: Vec<Look> = Vec::new();
        let (mut colours, mut lines, mut shapes) = (0, 0, 0);
        for (k, series) in self.series.iter().enumerate() {
            let same = (0..k).find(|&j| {
                series.name.strip_prefix(&self.series[j].name).is_some_and(|rest| rest.starts_with(','))
            });
            let colour = same.map_or(colours, |j| looks[j].colour);
            colours += usize::from(same.is_none());
            let next = |counter: &mut usize| {
                *counter += 1;
                *counter - 1
            };
            let (dash, shape) = match series.mark {
                Mark::Line => (DASHES[next(&mut lines) % DASHES.len()], None),
                Mark::Dashed => ("6 4", None),
                Mark::Points | Mark::LinePoints => ("", Some(next(&mut shapes))),
            };
            looks.push(Look { colour: colour % COLOURS, dash, shape, line: series.mark != Mark::Points });
        }
        looks
    }

    fn draw(
        &self,
        drawing: &mut Drawing,
        series: &Series,
        look: &Look,
        frame: &Frame,
        (x, y): (&Scale, &Scale),
    ) {
        let place = |p: &[f64; 2]| {
            let (x, y) = (x.place(p[0])?, y.place(p[1])?);
            self.fits(p).then_some((frame.left + x * frame.wide, frame.top + (1.0 - y) * HEIGHT))
        };
        let places: Vec<Option<(f64, f64)>> = series.points.iter().map(place).collect();
        for run in places.split(Option::is_none) {
            let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
            draw_line(drawing, look, &run);
        }
        for (point, place) in series.points.iter().zip(&places) {
            if let Some((x, y)) = *place {
                let [a, b] = point.map(number);
                draw_marker(drawing, look, x, y, &format!("{}: {a}, {b}", series.name));
            }
        }
    }

    /// What the chart shows, in words.
    fn about(&self) -> String {
        let shown: Vec<String> = self
            .series
            .iter()
            .map(|s| {
                let fit: Vec<&[f64; 2]> = s.points.iter().filter(|p| self.fits(p)).collect();
                let hidden = s.points.len() - fit.len();
                let hidden = if hidden > 0 {
                    format!(" ({hidden} without a place on the axes)")
                } else {
                    String::new()
                };
                match (fit.first(), fit.last()) {
                    (Some(a), Some(b)) => format!(
                        "{}: {} points from ({}, {}) to ({}, {}){hidden}",
                        s.name,
                        fit.len(),
                        number(a[0]),
                        number(a[1]),
                        number(b[0]),
                        number(b[1])
                    ),
                    _ => format!("{}: no points{hidden}", s.name),
                }
            })
            .collect();
        let axis = |a: &Axis| format!("{}{}", a.label, if a.log { " (logarithmic)" } else { "" });
        format!("{} over {}. {}.", axis(&self.y), axis(&self.x), shown.join("; "))
    }
}

fn label_width(label: &Label) -> f64 {
    match label {
        Label::None => 0.0,
        Label::Plain(text) => width(text, TEXT),
        Label::Power(p) => width("10", TEXT) + width(&p.to_string(), 10.0),
    }
}

/// The room that labels of a horizontal axis need beyond its end: half of one that stands there.
fn beyond(scale: &Scale) -> f64 {
    let at_end = scale.ticks.iter().filter(|t| scale.place(t.at).is_some_and(|at| at > 0.9));
    at_end.map(|t| label_width(&t.label) / 2.0 + 2.0).fold(20.0, f64::max)
}

/// Where the plot lies.
struct Frame {
    left: f64,
    top: f64,
    wide: f64,
}

impl Frame {
    /// Draws grid, ticks and labels.
    fn draw(drawing: &mut Drawing, x: &Scale, y: &Scale, x_label: &str, y_label: &str) -> Frame {
        let labels = y.ticks.iter().map(|t| label_width(&t.label)).fold(0.0, f64::max);
        let left = labels + if y_label.is_empty() { 18.0 } else { 36.0 };
        let frame = Frame { left, top: drawing.y + 8.0, wide: WIDTH - left - beyond(x) };
        let (right, bottom) = (left + frame.wide, frame.top + HEIGHT);
        for (minor, class) in [(true, "minor"), (false, "grid")] {
            for tick in x.ticks.iter().filter(|t| (t.label == Label::None) == minor) {
                let at = left + x.place(tick.at).unwrap_or(0.0) * frame.wide;
                drawing.add(format_args!(
                    "<path class=\"{class}\" d=\"M{at:.1} {:.1}V{bottom:.1}\"/>",
                    frame.top
                ));
            }
            for tick in y.ticks.iter().filter(|t| (t.label == Label::None) == minor) {
                let at = bottom - y.place(tick.at).unwrap_or(0.0) * HEIGHT;
                drawing.add(format_args!("<path class=\"{class}\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>"));
            }
        }
        drawing.add(format_args!(
            "<path class=\"axis\" d=\"M{left:.1} {:.1}V{bottom:.1}H{right:.1}\"/>",
            frame.top
        ));
        for tick in &y.ticks {
            let at = bottom - y.place(tick.at).unwrap_or(0.0) * HEIGHT;
            drawing.label(left - 7.0, at + 4.5, Anchor::End, &tick.label);
        }
        let mut free = f64::NEG_INFINITY;
        for tick in &x.ticks {
            let at = left + x.place(tick.at).unwrap_or(0.0) * frame.wide;
            let half = label_width(&tick.label) / 2.0;
            // A label that would touch the one before is left out.
            if half > 0.0 && at - half > free {
                drawing.label(at, bottom + 18.0, Anchor::Middle, &tick.label);
                free = at + half + 6.0;
            }
        }
        drawing.y = bottom + 24.0;
        if !x_label.is_empty() {
            drawing.y += 18.0;
            let text = fitted(x_label, frame.wide, TEXT);
            drawing.text(left + frame.wide / 2.0, drawing.y - 2.0, Anchor::Middle, "soft", &text);
        }
        if !y_label.is_empty() {
            drawing.upright(14.0, frame.top + HEIGHT / 2.0, &fitted(y_label, HEIGHT, TEXT));
        }
        drawing.y += 8.0;
        frame
    }
}

fn draw_line(drawing: &mut Drawing, look: &Look, points: &[(f64, f64)]) {
    if !look.line || points.len() < 2 {
        return;
    }
    let mut path = String::with_capacity(12 * points.len());
    for (k, (x, y)) in points.iter().enumerate() {
        path.push_str(if k == 0 { "M" } else { " " });
        path.push_str(&format!("{x:.1} {y:.1}"));
    }
    let colour = look.colour;
    if look.dash == "6 4" {
        drawing.add(format_args!("<path class=\"dashed l{colour}\" d=\"{path}\"/>"));
    } else if look.dash.is_empty() {
        drawing.add(format_args!("<path class=\"line l{colour}\" d=\"{path}\"/>"));
    } else {
        let dash = look.dash;
        drawing
            .add(format_args!("<path class=\"line l{colour}\" stroke-dasharray=\"{dash}\" d=\"{path}\"/>"));
    }
}

/// Draws a marker; a reader who points at it sees the words.
fn draw_marker(drawing: &mut Drawing, look: &Look, x: f64, y: f64, words: &str) {
    let Some(shape) = look.shape else { return };
    let colour = look.colour;
    let words = if words.is_empty() { String::new() } else { format!("<title>{}</title>", escape(words)) };
    let path = match shape % 6 {
        0 => {
            return drawing.add(format_args!(
                "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\">{words}</circle>"
            ));
        }
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        2 => format!("M{x:.1} {:.1}l4.6 8h-9.2z", y - 5.0),
        3 => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
        4 => format!("M{x:.1} {:.1}l4.6 -8h-9.2z", y + 5.0),
        _ => format!("M{:.1} {:.1}h3v-3h3v3h3v3h-3v3h-3v-3h-3z", x - 4.5, y - 1.5),
    };
    drawing.add(format_args!("<path class=\"f{colour}\" d=\"{path}\">{words}</path>"));
}
