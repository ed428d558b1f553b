//! Charts made of bars: parts stacked by group, spans of time by row, counts by interval.
//!
//! Imports its siblings. Start at [`Bars`], [`Timeline`] or [`Histogram`]. Bars lie, so that the names of groups
//! have room and hundreds of groups fit below each other.

use super::svg::{Anchor, COLOURS, Drawing, TEXT, WIDTH, escape, fitted, number, width};
use super::ticks::{Label, Scale};

/// Bars of stacked parts, one bar a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// What is measured, with its unit.
    pub unit: String,
    /// The bars from the top down.
    pub groups: Vec<String>,
    /// The parts, each with a value for each group; what is not finite or below 0 counts as 0.
    pub parts: Vec<(String, Vec<f64>)>,
}

/// A named row of a [`Timeline`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// What stands before it.
    pub name: String,
    /// In the order of drawing; spans within spans come after those around them.
    pub spans: Vec<Span>,
}

/// Something that lasted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Span {
    /// Which of the timeline's names.
    pub name: usize,
    /// When it began.
    pub start: f64,
    /// When it ended.
    pub end: f64,
}

/// What happened when, row by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// What is shown.
    pub title: String,
    /// What time is measured in.
    pub unit: String,
    /// What the spans are, in the order of the legend.
    pub names: Vec<String>,
    /// From the top down.
    pub rows: Vec<Row>,
}

/// How often values lie in intervals of the same width.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// What is shown.
    pub title: String,
    /// What is measured, with its unit.
    pub label: String,
    /// What is counted, as "ranks".
    pub counted: String,
    /// The values; those that are not finite are passed over.
    pub values: Vec<f64>,
}

/// The room of a row: less, where there are many.
fn row_height(n: usize) -> f64 {
    (420.0 / n.max(1) as f64).clamp(5.0, 26.0)
}

/// Rows below each other over one axis.
struct Rows {
    left: f64,
    top: f64,
    wide: f64,
    high: f64,
}

impl Rows {
    /// Draws the axis and the names of the rows.
    fn draw(drawing: &mut Drawing, names: &[&str], scale: &Scale, unit: &str) -> Rows {
        let high = row_height(names.len());
        let longest = names.iter().map(|n| width(n, TEXT)).fold(0.0, f64::max).min(150.0);
        let left = longest + 16.0;
        let rows = Rows { left, top: drawing.y + 6.0, wide: WIDTH - left - super::beyond(scale), high };
        let bottom = rows.top + high * names.len() as f64;
        for tick in scale.ticks.iter().filter(|t| t.label != Label::None) {
            let x = rows.x(scale, tick.at);
            drawing.add(format_args!("<path class=\"grid\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>", rows.top));
            drawing.label(x, bottom + 18.0, Anchor::Middle, &tick.label);
        }
        let every = (15.0 / high).ceil().max(1.0) as usize;
        for (k, name) in names.iter().enumerate().step_by(every) {
            let y = rows.top + high * (k as f64 + 0.5) + 4.5;
            drawing.text(left - 7.0, y, Anchor::End, "soft", &fitted(name, 150.0, TEXT));
        }
        drawing.y = bottom + 24.0;
        if !unit.is_empty() {
            drawing.y += 18.0;
            let unit = fitted(unit, rows.wide, TEXT);
            drawing.text(left + rows.wide / 2.0, drawing.y - 2.0, Anchor::Middle, "soft", &unit);
        }
        drawing.y += 8.0;
        rows
    }

    fn x(&self, scale: &Scale, value: f64) -> f64 {
        self.left + scale.place(value).unwrap_or(0.0) * self.wide
    }

    /// Draws a bar of a row from one value to another; `words` are shown to who points at it.
    fn bar(
        &self,
        drawing: &mut Drawing,
        scale: &Scale,
        row: usize,
        name: usize,
        ends: [f64; 2],
        words: &str,
    ) {
        let [from, to] = ends.map(|v| self.x(scale, v));
        let gap = (self.high * 0.12).min(3.0);
        let (y, high) = (self.top + self.high * row as f64 + gap, self.high - 2.0 * gap);
        // What took a moment is still to be seen.
        let wide = (to - from).max(0.6);
        segment(drawing, name, [from, y, wide, high], words);
    }
}

/// Draws a rectangle in the colour of a name; names beyond the colours are hatched.
fn segment(drawing: &mut Drawing, name: usize, [x, y, wide, high]: [f64; 4], words: &str) {
    let colour = name % COLOURS;
    let words = if words.is_empty() { String::new() } else { format!("<title>{}</title>", escape(words)) };
    // Room between neighbours, as long as that leaves something.
    let gap = if wide > 4.0 { " gap" } else { "" };
    drawing.add(format_args!(
        "<rect class=\"f{colour}{gap}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{wide:.2}\" height=\"{high:.1}\">{words}</rect>"
    ));
    if name < COLOURS || wide < 3.0 {
        return;
    }
    // Strokes from the lower left to the upper right, each cut to the rectangle.
    let step = 6.0 + 3.0 * (name / COLOURS - 1) as f64;
    let mut path = String::new();
    let mut along = step / 2.0;
    while along < wide + high {
        let (x0, y0) = (x + (along - high).max(0.0), y + along.min(high));
        let (x1, y1) = (x + along.min(wide), y + (along - wide).max(0.0));
        path.push_str(&format!("M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}"));
        along += step;
    }
    drawing.add(format_args!("<path class=\"hatch\" d=\"{path}\"/>"));
}

/// Draws the legend of bars.
fn legend(drawing: &mut Drawing, names: &[&str]) {
    drawing.legend(names, |drawing, k, x, y| segment(drawing, k, [x - 9.0, y - 5.5, 18.0, 11.0], ""));
}

impl Bars {
    /// The bars as SVG.
    pub fn svg(&self) -> String {
        let value = |part: usize, group: usize| {
            self.parts[part].1.get(group).copied().filter(|v| v.is_finite() && *v > 0.0).unwrap_or(0.0)
        };
        let total = |group: usize| (0..self.parts.len()).map(|part| value(part, group)).sum::<f64>();
        let mut drawing = Drawing::new(&self.title);
        if self.parts.len() > 1 {
            let names: Vec<&str> = self.parts.iter().map(|p| p.0.as_str()).collect();
            legend(&mut drawing, &names);
        }
        let scale = Scale::from_zero((0..self.groups.len()).map(total));
        let names: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        let rows = Rows::draw(&mut drawing, &names, &scale, &self.unit);
        for (group, name) in self.groups.iter().enumerate() {
            let mut sum = 0.0;
            for (part, (what, _)) in self.parts.iter().enumerate() {
                let v = value(part, group);
                if v > 0.0 {
                    let words = format!("{name}, {what}: {}", number(v));
                    rows.bar(&mut drawing, &scale, group, part, [sum, sum + v], &words);
                    sum += v;
                }
            }
        }
        let most = (0..self.groups.len()).max_by(|&a, &b| total(a).total_cmp(&total(b)));
        let most = most.map_or(String::new(), |g| {
            format!(" The longest is {} with {} in all.", self.groups[g], number(total(g)))
        });
        let parts: Vec<&str> = self.parts.iter().map(|p| p.0.as_str()).collect();
        drawing.finish(&format!(
            "{} bars of {}, made of {}.{most}",
            self.groups.len(),
            self.unit,
            parts.join(", ")
        ))
    }
}

impl Timeline {
    /// The rows as SVG.
    pub fn svg(&self) -> String {
        let finite = |s: &&Span| s.start.is_finite() && s.end.is_finite() && s.end >= s.start;
        let spans = || self.rows.iter().flat_map(|r| &r.spans).filter(finite);
        let mut drawing = Drawing::new(&self.title);
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        legend(&mut drawing, &names);
        let scale = Scale::from_zero(spans().flat_map(|s| [s.start, s.end]));
        let rows: Vec<&str> = self.rows.iter().map(|r| r.name.as_str()).collect();
        let frame = Rows::draw(&mut drawing, &rows, &scale, &self.unit);
        for (k, row) in self.rows.iter().enumerate() {
            for span in row.spans.iter().filter(finite) {
                let name = self.names.get(span.name).map_or("", String::as_str);
                let (from, to) = (number(span.start), number(span.end));
                let words =
                    format!("{}, {name}: {} from {from} to {to}", row.name, number(span.end - span.start));
                frame.bar(&mut drawing, &scale, k, span.name, [span.start, span.end], &words);
            }
        }
        let (rows, spans) = (self.rows.len(), spans().count());
        drawing.finish(&format!("{rows} rows with {spans} spans of {} over {}.", names.join(", "), self.unit))
    }
}

impl Histogram {
    /// The counts as SVG.
    pub fn svg(&self) -> String {
        let values: Vec<f64> = self.values.iter().copied().filter(|v| v.is_finite()).collect();
        // Sturges: as many intervals as a number of that many values has binary digits.
        let scale = Scale::of(values.iter().copied(), false);
        let (low, high) = (scale.ticks[0].at, scale.ticks[scale.ticks.len() - 1].at);
        let wanted = (values.len().max(1).ilog2() + 1) as usize;
        let between = scale.ticks.len() - 1;
        let n = between * wanted.div_ceil(between).max(1);
        let mut counts = vec![0usize; n];
        for v in &values {
            let at = (scale.place(*v).unwrap_or(0.0) * n as f64) as usize;
            counts[at.min(n - 1)] += 1;
        }
        let edge = |k: usize| low + (high - low) * k as f64 / n as f64;
        let top = Scale::from_zero(counts.iter().map(|&c| c as f64));
        let mut drawing = Drawing::new(&self.title);
        let frame = super::Frame::draw(&mut drawing, &scale, &top, &self.label, &self.counted);
        for (k, &count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let wide = frame.wide / n as f64;
            let high = top.place(count as f64).unwrap_or(0.0) * super::HEIGHT;
            let words = format!("{} to {}: {count} {}", number(edge(k)), number(edge(k + 1)), self.counted);
            let place = [frame.left + wide * k as f64, frame.top + super::HEIGHT - high, wide, high];
            segment(&mut drawing, 0, place, &words);
        }
        let (min, max) = values.iter().fold((f64::NAN, f64::NAN), |(a, b), v| (v.min(a), v.max(b)));
        drawing.finish(&format!(
            "{} {} with {} between {} and {}.",
            values.len(),
            self.counted,
            self.label,
            number(min),
            number(max)
        ))
    }
}
