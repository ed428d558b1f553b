//! The legend of a coloured picture.
//!
//! Imports its siblings. Start at [`ColourBar`] or [`Swatches`].

use super::svg::{Anchor, Drawing, TEXT, WIDTH, fitted};
use super::ticks::Scale;

/// Which colour stands for which value.
#[derive(Debug, Clone, PartialEq)]
pub struct ColourBar<'a> {
    /// What the values are.
    pub label: String,
    /// The value of the first colour.
    pub low: f64,
    /// The value of the last colour.
    pub high: f64,
    /// Red, green and blue from the lowest value to the highest.
    pub colours: &'a [[u8; 3]],
}

/// Which colour stands for what.
#[derive(Debug, Clone, PartialEq)]
pub struct Swatches {
    /// What is told apart.
    pub label: String,
    /// Names with their red, green and blue.
    pub entries: Vec<(String, [u8; 3])>,
}

impl ColourBar<'_> {
    /// The legend as SVG.
    pub fn svg(&self) -> String {
        const STRIPS: usize = 64;
        let (left, wide) = (30.0, WIDTH - 60.0);
        let mut drawing = Drawing::untitled(&format!("Colours of {}", self.label));
        let step = wide / STRIPS as f64;
        for k in 0..STRIPS {
            let at = (k * self.colours.len() / STRIPS).min(self.colours.len() - 1);
            let [r, g, b] = self.colours[at];
            // Strips overlap, so that no background shows between them.
            let (x, w) = (left + step * k as f64, if k + 1 < STRIPS { step + 0.5 } else { step });
            drawing.add(format_args!(
                "<rect fill=\"#{r:02x}{g:02x}{b:02x}\" x=\"{x:.2}\" y=\"2\" width=\"{w:.2}\" height=\"14\" shape-rendering=\"crispEdges\"/>"
            ));
        }
        let scale = Scale::of([self.low, self.high].into_iter(), false);
        for tick in &scale.ticks {
            let place = (0.5 * tick.at - 0.5 * self.low) / (0.5 * self.high - 0.5 * self.low);
            if (-1e-9..=1.0 + 1e-9).contains(&place) {
                let x = left + place * wide;
                drawing.add(format_args!("<path class=\"axis\" d=\"M{x:.1} 16v5\"/>"));
                drawing.label(x, 34.0, Anchor::Middle, &tick.label);
            }
        }
        let label = fitted(&self.label, WIDTH - 16.0, TEXT);
        drawing.text(WIDTH / 2.0, 53.0, Anchor::Middle, "soft", &label);
        drawing.y = 60.0;
        drawing.finish(&format!(
            "Colours of {}, from {} to {}.",
            self.label,
            super::number(self.low),
            super::number(self.high)
        ))
    }
}

impl Swatches {
    /// The legend as SVG.
    pub fn svg(&self) -> String {
        let mut drawing = Drawing::untitled(&self.label);
        let names: Vec<&str> = self.entries.iter().map(|e| e.0.as_str()).collect();
        drawing.legend(&names, |drawing, k, x, y| {
            let [r, g, b] = self.entries[k].1;
            let (x, y) = (x - 9.0, y - 6.0);
            drawing.add(format_args!(
                "<rect fill=\"#{r:02x}{g:02x}{b:02x}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"18\" height=\"12\"/>"
            ));
        });
        drawing.finish(&format!("{}: {}.", self.label, names.join(", ")))
    }
}
