//! `femdd report`: one page of HTML out of what a run or a scaling study left.
//!
//! Imports `output::report` and `study::scaling`. Start at [`main`].

use std::path::{Path, PathBuf};

use clap::Args;

use crate::output::{report, run_json};
use crate::run::{Kind, RunError};
use crate::study::scaling;

const HELP: &str = "Examples:
  femdd report bracket.out
  femdd report bracket.scale
  femdd report bracket.out --output bracket.html";

/// What `femdd report` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ReportArgs {
    /// The output directory of a run, or of a scaling study.
    dir: PathBuf,
    /// Where the page goes, instead of DIR/report.html.
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

/// Writes the page and says where.
pub fn main(args: &ReportArgs) -> i32 {
    match make(args) {
        Ok(path) => {
            println!("{}", path.display());
            0
        }
        Err(error) => {
            eprint!("{}", error.text());
            error.kind.exit_code()
        }
    }
}

fn make(args: &ReportArgs) -> Result<PathBuf, RunError> {
    let dir = &args.dir;
    let wrong = |what: &str| {
        let message =
            format!("{} {what}: give the output directory of a run or a scaling study", dir.display());
        RunError::new(Kind::Input, "report", message)
    };
    if !dir.exists() {
        return Err(wrong("does not exist"));
    }
    if !dir.is_dir() {
        return Err(wrong("is not a directory"));
    }
    if dir.join(scaling::FILE_NAME).is_file() {
        return Ok(report::write(&scaling::page(dir)?, dir, args.output.as_deref())?);
    }
    if !dir.join(run_json::FILE_NAME).is_file() {
        return Err(wrong("holds no run.json and no scale.json"));
    }
    write(dir, args.output.as_deref())
}

/// Writes the page of a run's directory.
///
/// # Errors
/// A `run.json` that cannot be read, a page that cannot be written.
pub fn write(dir: &Path, output: Option<&Path>) -> Result<PathBuf, RunError> {
    let page = report::page(dir)?;
    Ok(report::write(&page, dir, output)?)
}
