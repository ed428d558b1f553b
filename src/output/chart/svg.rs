//! Text and colours of the charts' SVG.
//!
//! Imports nothing of femdd. Start at [`Drawing`]. Colours are classes, not variables, so that programs that
//! know no variables (Inkscape, librsvg, LaTeX's converters) show a saved chart in its light colours.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

use super::ticks::{Label, typographic};

/// Units across a chart; a browser makes the chart as wide as its place.
pub(super) const WIDTH: f64 = 560.0;

/// Size of text in the same units.
pub(super) const TEXT: f64 = 13.0;

/// Distinct colours; further series take them again with another mark.
pub(super) const COLOURS: usize = 8;

/// The colours of the charts, light and dark. Part of each chart; a page has it once.
pub(crate) const STYLE: &str = "\
.femdd-chart{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:13px;\
font-variant-numeric:tabular-nums}\
.femdd-chart .bg{fill:#fff}.femdd-chart text{fill:#1c2430}.femdd-chart .soft{fill:#51606f}\
.femdd-chart .title{font-size:15px;font-weight:600}\
.femdd-chart .grid{stroke:#dfe4ea;stroke-width:1;fill:none}.femdd-chart .minor{stroke:#eff2f5;stroke-width:1;fill:none}\
.femdd-chart .axis{stroke:#8b98a5;stroke-width:1;fill:none}\
.femdd-chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
.femdd-chart .dashed{fill:none;stroke-width:1.6;stroke-dasharray:6 4}\
.femdd-chart .gap{stroke:#fff;stroke-width:1}.femdd-chart .hatch{stroke:#fff;stroke-width:1.6;fill:none}\
.femdd-chart .l0{stroke:#0072b2}.femdd-chart .f0{fill:#0072b2}.femdd-chart .l1{stroke:#d55e00}.femdd-chart .f1{fill:#d55e00}\
.femdd-chart .l2{stroke:#009e73}.femdd-chart .f2{fill:#009e73}.femdd-chart .l3{stroke:#b5548c}.femdd-chart .f3{fill:#b5548c}\
.femdd-chart .l4{stroke:#b98600}.femdd-chart .f4{fill:#b98600}.femdd-chart .l5{stroke:#3f9bd8}.femdd-chart .f5{fill:#3f9bd8}\
.femdd-chart .l6{stroke:#5b4b9a}.femdd-chart .f6{fill:#5b4b9a}.femdd-chart .l7{stroke:#6b7580}.femdd-chart .f7{fill:#6b7580}\
@media screen and (prefers-color-scheme:dark){\
.femdd-chart .bg{fill:#161b22}.femdd-chart text{fill:#e6edf3}.femdd-chart .soft{fill:#a3b0bd}\
.femdd-chart .grid{stroke:#2b333d}.femdd-chart .minor{stroke:#20272f}.femdd-chart .axis{stroke:#6e7b88}\
.femdd-chart .gap{stroke:#161b22}.femdd-chart .hatch{stroke:#161b22}\
.femdd-chart .l0{stroke:#4ba3e3}.femdd-chart .f0{fill:#4ba3e3}.femdd-chart .l1{stroke:#ff8b4a}.femdd-chart .f1{fill:#ff8b4a}\
.femdd-chart .l2{stroke:#2cc39a}.femdd-chart .f2{fill:#2cc39a}.femdd-chart .l3{stroke:#e58cc0}.femdd-chart .f3{fill:#e58cc0}\
.femdd-chart .l4{stroke:#e3b23c}.femdd-chart .f4{fill:#e3b23c}.femdd-chart .l5{stroke:#9ad1f7}.femdd-chart .f5{fill:#9ad1f7}\
.femdd-chart .l6{stroke:#a99be8}.femdd-chart .f6{fill:#a99be8}.femdd-chart .l7{stroke:#9aa5b1}.femdd-chart .f7{fill:#9aa5b1}}";

/// Text as XML and HTML want it; characters that no XML may hold become the replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How wide a text is drawn, as nearly as can be told without its font.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let units = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | 'f' | 't' | 'I' => 0.33,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.9,
        c if c.is_ascii_uppercase() => 0.68,
        c if c.is_ascii() => 0.57,
        // Letters of other scripts may be as wide as they are high.
        c if c as u32 >= 0x1100 => 1.0,
        _ => 0.62,
    };
    text.chars().map(units).sum::<f64>() * size
}

/// A text cut to a width, with an ellipsis where it was cut.
pub(super) fn fitted(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if width(&short, size) + width(&c.to_string(), size) + width("\u{2026}", size) > room {
            break;
        }
        short.push(c);
    }
    format!("{}\u{2026}", short.trim_end())
}

/// A text in lines of at most a width, three of them at most.
pub(super) fn lines(text: &str, room: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == 3;
        match lines.last_mut() {
            Some(line) if full || width(line, size) + width(word, size) + 0.33 * size <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| fitted(line, room, size)).collect()
}

/// A number with the digits that a reader wants.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let text = if value == 0.0 {
        "0".to_owned()
    } else if size >= 1e6 || size < 1e-3 {
        format!("{value:.3e}")
    } else {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    typographic(&text)
}

/// Where a text is anchored.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG in the making, from the top down.
pub(super) struct Drawing {
    title: String,
    body: String,
    /// How far down it is drawn already.
    pub(super) y: f64,
}

impl Drawing {
    /// With its title drawn.
    pub(super) fn new(title: &str) -> Drawing {
        let mut drawing = Drawing { title: title.to_owned(), body: String::new(), y: 6.0 };
        for line in lines(title, WIDTH - 16.0, 15.0) {
            drawing.y += 18.0;
            let y = drawing.y - 2.0;
            drawing.text(8.0, y, Anchor::Start, "title", &line);
        }
        drawing.y += 6.0;
        drawing
    }

    /// With a title for those who do not see it.
    pub(super) fn untitled(title: &str) -> Drawing {
        Drawing { title: title.to_owned(), body: String::new(), y: 6.0 }
    }

    /// Adds an element.
    pub(super) fn add(&mut self, element: std::fmt::Arguments) {
        self.body.write_fmt(element).expect("writing to a string");
        self.body.push('\n');
    }

    /// Adds a line of text at its baseline.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let text = escape(text);
        let anchor = anchored(anchor);
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\"{anchor}>{text}</text>"));
    }

    /// Adds text read from the bottom to the top, centred at a point.
    pub(super) fn upright(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" class=\"soft\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    /// Adds a tick's label.
    pub(super) fn label(&mut self, x: f64, y: f64, anchor: Anchor, label: &Label) {
        match label {
            Label::None => {}
            Label::Plain(text) => self.text(x, y, anchor, "soft", text),
            Label::Power(power) => {
                let power = typographic(&power.to_string());
                let anchor = anchored(anchor);
                self.add(format_args!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"soft\"{anchor}>10<tspan dy=\"-5\" font-size=\"10\">{power}</tspan></text>"
                ));
            }
        }
    }

    /// Adds a legend below what is drawn: `key` draws the sign of an entry, 28 wide, around a point.
    pub(super) fn legend(&mut self, names: &[&str], mut key: impl FnMut(&mut Drawing, usize, f64, f64)) {
        const SIGN: f64 = 28.0;
        let mut x = 8.0;
        let mut first = true;
        for (k, name) in names.iter().enumerate() {
            let name = fitted(name, WIDTH - SIGN - 30.0, TEXT);
            let wide = SIGN + 6.0 + width(&name, TEXT) + 14.0;
            if first || x + wide > WIDTH {
                x = 8.0;
                self.y += 19.0;
                first = false;
            }
            let y = self.y;
            key(self, k, x + SIGN / 2.0, y - 4.5);
            self.text(x + SIGN + 6.0, y, Anchor::Start, "", &name);
            x += wide;
        }
        self.y += 6.0;
    }

    /// The file. `about` is read out by programs for those who do not see the chart.
    pub(super) fn finish(self, about: &str) -> String {
        let height = self.y.ceil();
        let id = format!("c{:016x}", xxh3_64(self.body.as_bytes()) ^ xxh3_64(about.as_bytes()));
        let (title, about) = (escape(&self.title), escape(about));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"femdd-chart\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"{id}t {id}d\">\n\
             <title id=\"{id}t\">{title}</title>\n<desc id=\"{id}d\">{about}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"bg\" width=\"{WIDTH}\" height=\"{height}\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn anchored(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_text() {
        assert_eq!(
            escape("<script>alert('x')</script> & \"q\" \u{0}\u{1b}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;q&quot; \u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn long_text_is_cut_or_wrapped() {
        assert_eq!(fitted("short", 100.0, 13.0), "short");
        let cut = fitted(&"long ".repeat(40), 100.0, 13.0);
        assert!(cut.ends_with('\u{2026}') && width(&cut, 13.0) <= 100.0);
        let wrapped = lines(&"word ".repeat(400), 200.0, 13.0);
        assert!(wrapped.len() == 3 && wrapped.iter().all(|line| width(line, 13.0) <= 200.0));
    }

    #[test]
    fn numbers_have_four_digits() {
        let shown = [0.0, 1.0, 12.345, 123_456.0, 1e7, 1.5e-5, -0.25].map(number);
        assert_eq!(shown, ["0", "1", "12.35", "123456", "1.000e7", "1.500e\u{2212}5", "\u{2212}0.25"]);
    }
}
