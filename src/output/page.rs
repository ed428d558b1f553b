//! A page of HTML that stands alone: no script, nothing from the network, light and dark, fit for print.
//!
//! Imports its sibling [`super::chart`]. Start at [`Page`]. All text is escaped: names of cases, files and
//! probes are whatever a user chose. A policy in the page forbids everything but its own style and pictures, so
//! that even an oversight here could run nothing.

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::chart::{self, escape};

/// The look of a page: one column of text, figures side by side where there is room.
const STYLE: &str = include_str!("page.css");

/// Tables with more rows have a height of their own on a screen.
const TALL: usize = 40;

/// A page, made from the top down.
#[derive(Debug, Clone, Default)]
pub struct Page {
    title: String,
    body: String,
    /// Whether the body's end is inside of a row of figures.
    in_figures: bool,
    /// Headings, for the list of contents.
    headings: Vec<String>,
}

/// How a [`Page::note`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// To be known.
    Warning,
    /// Wrong.
    Bad,
}

impl Page {
    /// A page with nothing but its title.
    pub fn new(title: &str) -> Page {
        Page { title: title.to_owned(), ..Page::default() }
    }

    /// Begins a section.
    pub fn section(&mut self, heading: &str) -> &mut Page {
        self.end_figures();
        if !self.headings.is_empty() {
            self.body.push_str("</section>\n");
        }
        self.headings.push(heading.to_owned());
        let n = self.headings.len();
        self.add(format_args!(
            "<section aria-labelledby=\"s{n}\">\n<h2 id=\"s{n}\">{}</h2>\n",
            escape(heading)
        ))
    }

    /// Adds a smaller heading.
    pub fn heading(&mut self, heading: &str) -> &mut Page {
        self.end_figures();
        self.add(format_args!("<h3>{}</h3>\n", escape(heading)))
    }

    /// Adds a paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Page {
        self.end_figures();
        self.add(format_args!("<p>{}</p>\n", escape(text)))
    }

    /// Adds a paragraph that stands out.
    pub fn note(&mut self, tone: Tone, text: &str) -> &mut Page {
        self.end_figures();
        let (class, word) = match tone {
            Tone::Good => ("good", ""),
            Tone::Warning => ("warning", "Warning: "),
            Tone::Bad => ("bad", ""),
        };
        self.add(format_args!("<p class=\"note {class}\"><b>{word}</b>{}</p>\n", escape(text)))
    }

    /// Adds a list.
    pub fn list<S: AsRef<str>>(&mut self, entries: &[S]) -> &mut Page {
        self.end_figures();
        self.body.push_str("<ul>\n");
        for entry in entries {
            self.add(format_args!("<li>{}</li>\n", escape(entry.as_ref())));
        }
        self.add(format_args!("</ul>\n"))
    }

    /// Adds a table without a caption.
    pub fn table<H: AsRef<str>, C: AsRef<str>>(&mut self, head: &[H], rows: &[Vec<C>]) -> &mut Page {
        self.captioned_table("", head, rows)
    }

    /// Adds a table. Columns of numbers are set to the right; the first cell of a row is its heading.
    pub fn captioned_table<H: AsRef<str>, C: AsRef<str>>(
        &mut self,
        caption: &str,
        head: &[H],
        rows: &[Vec<C>],
    ) -> &mut Page {
        self.end_figures();
        let columns = head.len();
        let numeric: Vec<bool> = (0..columns)
            .map(|k| {
                let mut cells =
                    rows.iter().filter_map(|r| r.get(k)).map(AsRef::as_ref).filter(|c| !c.is_empty());
                let mut any = false;
                k > 0
                    && cells.all(|c| {
                        any = true;
                        is_number(c)
                    })
                    && any
            })
            .collect();
        let class = |k: usize| if numeric.get(k) == Some(&true) { " class=\"num\"" } else { "" };
        let label = if caption.is_empty() { "Table" } else { caption };
        self.add(format_args!(
            "<div class=\"scroll{}\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table>\n",
            if rows.len() > TALL { " tall" } else { "" },
            escape(label)
        ));
        if !caption.is_empty() {
            self.add(format_args!("<caption>{}</caption>\n", escape(caption)));
        }
        self.body.push_str("<thead><tr>");
        for (k, cell) in head.iter().enumerate() {
            self.add(format_args!("<th scope=\"col\"{}>{}</th>", class(k), escape(cell.as_ref())));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (k, cell) in row.iter().enumerate() {
                let text = escape(cell.as_ref());
                if k == 0 {
                    self.add(format_args!("<th scope=\"row\">{text}</th>"));
                } else {
                    self.add(format_args!("<td{}>{text}</td>", class(k)));
                }
            }
            self.body.push_str("</tr>\n");
        }
        self.add(format_args!("</tbody>\n</table>\n</div>\n"))
    }

    /// Adds names with their values, one below the other.
    pub fn pairs<N: AsRef<str>, V: AsRef<str>>(&mut self, pairs: &[(N, V)]) -> &mut Page {
        self.end_figures();
        self.body.push_str("<dl>\n");
        for (name, value) in pairs {
            let (name, value) = (escape(name.as_ref()), escape(value.as_ref()));
            self.add(format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
        }
        self.add(format_args!("</dl>\n"))
    }

    /// Adds text as it is, folded until the reader opens it.
    pub fn folded(&mut self, summary: &str, text: &str) -> &mut Page {
        self.end_figures();
        let (summary, text) = (escape(summary), escape(text));
        self.add(format_args!(
            "<details><summary>{summary}</summary>\n<pre tabindex=\"0\">{text}</pre></details>\n"
        ))
    }

    /// Adds a chart of [`super::chart`]; those that follow each other stand side by side where there is room.
    ///
    /// `text` goes into the page as it is: nothing but a chart's own SVG may be handed over.
    pub fn svg(&mut self, text: &str, caption: &str) -> &mut Page {
        self.begin_figures();
        self.figure(&once(text), caption)
    }

    /// Adds a picture as PNG; `alt` says what it shows to those who do not see it. `legend` stands below it: a
    /// chart's own SVG, or nothing.
    pub fn png(
        &mut self,
        png: &[u8],
        (width, height): (usize, usize),
        alt: &str,
        legend: &str,
        caption: &str,
    ) -> &mut Page {
        self.begin_figures();
        let image = format!(
            "<img src=\"data:image/png;base64,{}\" width=\"{width}\" height=\"{height}\" alt=\"{}\">\n{}",
            BASE64_STANDARD.encode(png),
            escape(alt),
            once(legend),
        );
        self.figure(&image, caption)
    }

    fn figure(&mut self, content: &str, caption: &str) -> &mut Page {
        let caption = match caption {
            "" => String::new(),
            text => format!("\n<figcaption>{}</figcaption>", escape(text)),
        };
        self.add(format_args!("<figure>\n{content}{caption}\n</figure>\n"))
    }

    fn begin_figures(&mut self) {
        if !std::mem::replace(&mut self.in_figures, true) {
            self.body.push_str("<div class=\"figures\">\n");
        }
    }

    fn end_figures(&mut self) {
        if std::mem::take(&mut self.in_figures) {
            self.body.push_str("</div>\n");
        }
    }

    fn add(&mut self, text: std::fmt::Arguments) -> &mut Page {
        self.body.write_fmt(text).expect("writing to a string");
        self
    }

    /// The page.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut contents = String::new();
        if self.headings.len() > 3 {
            contents.push_str("<nav aria-label=\"Contents\"><ul>\n");
            for (k, heading) in self.headings.iter().enumerate() {
                let _ = writeln!(contents, "<li><a href=\"#s{}\">{}</a></li>", k + 1, escape(heading));
            }
            contents.push_str("</ul></nav>\n");
        }
        let figures = if self.in_figures { "</div>\n" } else { "" };
        let section = if self.headings.is_empty() { "" } else { "</section>\n" };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             img-src data:; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}{}\n</style>\n</head>\n<body>\n\
             <header><h1>{title}</h1></header>\n{contents}<main>\n{}{figures}{section}</main>\n\
             <footer>Made by femdd {}.</footer>\n</body>\n</html>\n",
            chart::STYLE,
            self.body,
            env!("CARGO_PKG_VERSION"),
        )
    }
}

/// A chart without its style, which the page has once.
fn once(svg: &str) -> String {
    svg.replace(&format!("<style>{}</style>\n", chart::STYLE), "")
}

/// Whether a cell holds a number, perhaps with a short unit.
fn is_number(cell: &str) -> bool {
    let plain = cell.replace('\u{2212}', "-").replace(',', "");
    let mut words = plain.split_whitespace();
    let first = words.next().unwrap_or("").trim_end_matches(['%', '\u{d7}', 'x']);
    let number = first == "-" || first == "\u{2013}" || first.parse::<f64>().is_ok();
    number && words.next().is_none_or(|unit| unit.chars().count() <= 4) && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::chart::{Axis, Bars, Chart, Mark, Series};

    const HOSTILE: &str = "<script>alert(\"1\")</script> ' onload='x";

    #[test]
    fn hostile_text_never_becomes_markup() {
        let chart = Chart {
            title: HOSTILE.to_owned(),
            x: Axis::linear(HOSTILE),
            y: Axis::log(HOSTILE),
            series: vec![
                Series { name: HOSTILE.to_owned(), points: vec![[1.0, 2.0]], mark: Mark::LinePoints };
                2
            ],
        };
        let bars = Bars {
            title: HOSTILE.to_owned(),
            unit: HOSTILE.to_owned(),
            groups: vec![HOSTILE.to_owned()],
            parts: vec![(HOSTILE.to_owned(), vec![1.0])],
        };
        let mut page = Page::new(HOSTILE);
        page.section(HOSTILE).heading(HOSTILE).paragraph(HOSTILE).note(Tone::Bad, HOSTILE).list(&[HOSTILE]);
        page.captioned_table(HOSTILE, &[HOSTILE], &[vec![HOSTILE]]).pairs(&[(HOSTILE, HOSTILE)]);
        page.folded(HOSTILE, HOSTILE).svg(&chart.svg(), HOSTILE).svg(&bars.svg(), HOSTILE);
        page.png(&[1, 2, 3], (4, 5), HOSTILE, "", HOSTILE);
        let html = page.html();
        // The name stands nowhere but as text, nor does its quote end an attribute.
        assert!(!html.contains("<script") && !html.contains("' onload") && !html.contains("(\"1\")"));
        assert!(html.matches("&lt;script&gt;").count() > 20);
        assert_eq!(html.matches("<style>").count(), 1, "the charts' style is there once");
        assert!(html.contains("src=\"data:image/png;base64,AQID\""));
    }

    #[test]
    fn elements_are_closed_in_order() {
        let mut page = Page::new("t");
        page.paragraph("before").section("a").svg("<svg></svg>", "").svg("<svg></svg>", "c").section("b");
        page.table(&["x", "y"], &[vec!["1", "2"]]);
        let html = page.html();
        let mut open: Vec<&str> = Vec::new();
        for tag in html.split('<').skip(1).filter(|t| !t.starts_with('!')) {
            let name = tag.split(['>', ' ', '\n']).next().unwrap_or("");
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !["meta", "link", "img", "br"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn columns_of_numbers_are_found() {
        assert!(
            ["1", "1.5e-3", "\u{2212}2", "12 %", "3.2 MiB", "95%", "\u{2013}"].iter().all(|c| is_number(c))
        );
        assert!(!["solve", "", "v1", "16 cores for 2 ranks", "3 ranks"].iter().any(|c| is_number(c)));
    }
}
