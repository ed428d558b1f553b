//! `report.html`: what a run did, on one page, made from its directory alone.
//!
//! Imports its siblings in `output` and `element`. Start at [`page`](fn@page). Whatever the run left is shown, and nothing
//! but `run.json` must be there: a run that failed or still runs has a report too.

mod convergence;
mod faces;
mod grid;
mod known;
mod phases;
mod picture;
mod ranks;
mod raster;
mod sections;
mod trace;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use super::OutputError;
use super::page::{Page, Tone};
use super::run_json::{FILE_NAME, RunReport, write_file_atomic};

/// The name of the page in the output directory.
pub const PAGE_NAME: &str = "report.html";

/// Writes the page of a directory into it, or to `output`, and says where. One rank calls this.
///
/// # Errors
/// When the page cannot be written.
pub fn write(page: &Page, dir: &Path, output: Option<&Path>) -> Result<PathBuf, OutputError> {
    let path = output.map_or_else(|| dir.join(PAGE_NAME), Path::to_path_buf);
    write_file_atomic(&path, page.html().as_bytes())?;
    Ok(path)
}

/// The report of the run in a directory.
///
/// # Errors
/// When the directory holds no `run.json` that can be read.
pub fn page(dir: &Path) -> Result<Page, OutputError> {
    let run = RunReport::read(&dir.join(FILE_NAME))?;
    let case = CaseText::read(dir);
    let title = if case.title.is_empty() { run.case.clone() } else { case.title.clone() };
    let mut page = Page::new(&title);
    sections::summary(&mut page, &run);
    solution(&mut page, dir, &case.fields);
    sections::results(&mut page, &run);
    convergence::section(&mut page, &run);
    phases::section(&mut page, &run, dir);
    sections::others(&mut page, &run);
    sections::case(&mut page, &run, &case.text);
    Ok(page)
}

/// What `case.resolved.toml` says.
#[derive(Default)]
struct CaseText {
    text: String,
    title: String,
    /// Fields of the output, in the order of the case.
    fields: Vec<String>,
}

impl CaseText {
    fn read(dir: &Path) -> CaseText {
        let text = fs::read_to_string(dir.join("case.resolved.toml")).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let of = |section: &str, key: &str| table.get(section).and_then(|s| s.get(key));
        let title = of("case", "title").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let fields =
            of("output", "fields").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let fields = fields.iter().filter_map(|f| Some(f.as_str()?.to_owned())).collect();
        CaseText { text, title, fields }
    }
}

/// Pictures of the solution, where there is one.
fn solution(page: &mut Page, dir: &Path, fields: &[String]) {
    let path = dir.join("solution.hdf");
    if !path.exists() {
        return;
    }
    page.section("Solution");
    match picture::figures(&path, fields) {
        Ok(figures) if figures.is_empty() => {
            page.paragraph("The file of the solution holds nothing to draw.");
        }
        Ok(figures) => {
            for figure in figures {
                match figure {
                    picture::Figure::Picture { png, size, alt, legend, caption } => {
                        page.png(&png, size, &alt, &legend, &caption)
                    }
                    picture::Figure::Curve { svg, caption } => page.svg(&svg, &caption),
                };
            }
        }
        // A picture is no reason to do without the rest.
        Err(error) => {
            page.note(Tone::Warning, &format!("The solution could not be drawn: {error}"));
        }
    }
}
