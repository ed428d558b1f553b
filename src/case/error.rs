//! What is wrong with a case file, and where.
//!
//! May import: nothing of this crate. [`CaseError`] is one complaint, [`CaseErrors`] is all that
//! were found together with the text they point into.

use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

/// One complaint about a case.
///
/// Displayed as one line, `file:line: message`; for a value from the command line, `--set
/// key=value: message`. [`CaseError::render`] shows the offending text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseError {
    /// What is wrong and what was expected.
    pub message: String,
    /// The key, dotted from the top of the file: `boundary.top.pressure`.
    pub key: Option<String>,
    /// The case file.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Bytes of the file: first, one past the last.
    pub span: Option<(usize, usize)>,
    /// What to do about it; usually the nearest valid name.
    pub help: Option<String>,
    /// The `--set` argument that gave the value, if the file did not.
    pub flag: Option<String>,
}

impl CaseError {
    /// The report for people: message, the lines of `source` it points into, help.
    ///
    /// Colours and links only if standard error is a terminal.
    pub fn render(&self, source: &str) -> String {
        let theme = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let source = miette::NamedSource::new(self.file.display().to_string(), source.to_string());
        let report = Report { error: self, source };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
        match handler.render_report(&mut out, &report) {
            Ok(()) => out,
            // The handler fails only on a span outside the text; the message must still arrive.
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.flag, self.line) {
            (Some(flag), _) => write!(f, "--set {flag}: ")?,
            (None, Some(line)) => write!(f, "{}:{line}: ", self.file.display())?,
            (None, None) => write!(f, "{}: ", self.file.display())?,
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for CaseError {}

/// All complaints found in one reading, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseErrors {
    /// At least one.
    pub errors: Vec<CaseError>,
    /// The text of the case file; empty if it could not be read.
    pub text: String,
}

impl CaseErrors {
    /// The reports of all, one after the other.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for error in &self.errors {
            out.push_str(&error.render(&self.text));
        }
        if self.errors.len() > 1 {
            out.push_str(&format!("{} errors in the case\n", self.errors.len()));
        }
        out
    }
}

impl fmt::Display for CaseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CaseErrors {}

/// A complaint with its text, as miette wants it.
#[derive(Debug)]
struct Report<'a> {
    error: &'a CaseError,
    source: miette::NamedSource<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error.flag {
            Some(flag) => write!(f, "--set {flag}: {}", self.error.message),
            None if self.error.span.is_none() => write!(f, "{}", self.error),
            None => f.write_str(&self.error.message),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.error.span.map(|_| &self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, end) = self.error.span?;
        let label = LabeledSpan::new(self.error.key.clone(), start, end - start);
        Some(Box::new(std::iter::once(label)))
    }
}
