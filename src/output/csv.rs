//! Tables as comma-separated values (RFC 4180), such as `probes.csv`.
//!
//! Imports nothing of femdd. Start at [`Table`].

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::error::OutputError;

/// An entry of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number, written with the fewest digits that read back exactly; empty when not finite.
    Number(f64),
    /// A count.
    Integer(i64),
    /// Text, quoted where it must be.
    Text(String),
}

/// A table that grows by rows, each on the disk's side of this process when [`Table::row`] returns.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    file: File,
    n_columns: usize,
}

impl Table {
    /// Begins a table, over an old one of that name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create<S: AsRef<str>>(path: &Path, columns: &[S]) -> Result<Self, OutputError> {
        let file = File::create(path).map_err(|e| OutputError::from_io(path, "creating", 0, &e))?;
        let mut table = Table { path: path.to_path_buf(), file, n_columns: columns.len() };
        let header: Vec<Cell> = columns.iter().map(|c| Cell::Text(c.as_ref().to_owned())).collect();
        table.row(&header)?;
        Ok(table)
    }

    /// Goes on with a table of the same columns, as after a restart, keeping the rows for which
    /// `keep` holds (of the entries as text); begins a new one where there is none or another.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn resume<S: AsRef<str>>(
        path: &Path,
        columns: &[S],
        keep: impl Fn(&[&str]) -> bool,
    ) -> Result<Self, OutputError> {
        let wanted = columns.iter().map(|c| quoted(c.as_ref())).collect::<Vec<_>>().join(",");
        let Ok(old) = File::open(path) else { return Table::create(path, columns) };
        let mut lines = BufReader::new(old).lines();
        let header = lines.next().transpose().map_err(|e| OutputError::from_read(path, &e))?;
        if header.as_deref() != Some(wanted.as_str()) {
            return Table::create(path, columns);
        }
        let mut kept = wanted + "\n";
        for line in lines {
            let line = line.map_err(|e| OutputError::from_read(path, &e))?;
            let entries: Vec<&str> = line.split(',').collect();
            if entries.len() >= columns.len() && keep(&entries) {
                kept.push_str(&line);
                kept.push('\n');
            }
        }
        super::run_json::write_file_atomic(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|e| OutputError::from_io(path, "opening", 0, &e))?;
        Ok(Table { path: path.to_path_buf(), file, n_columns: columns.len() })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// When the row has not one entry a column.
    pub fn row(&mut self, cells: &[Cell]) -> Result<(), OutputError> {
        assert_eq!(cells.len(), self.n_columns, "{}: entries in a row", self.path.display());
        let mut line = cells.iter().map(text).collect::<Vec<_>>().join(",");
        line.push('\n');
        // One call a row: a run that is killed leaves whole rows.
        self.file.write_all(line.as_bytes()).map_err(|e| {
            let written = fs::metadata(&self.path).map_or(0, |m| m.len());
            OutputError::from_io(&self.path, "writing", written + line.len() as u64, &e)
        })
    }
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Number(x) if x.is_finite() => {
            let size = x.abs();
            if size != 0.0 && !(1e-4..1e16).contains(&size) { format!("{x:e}") } else { format!("{x}") }
        }
        Cell::Number(_) => String::new(),
        Cell::Integer(k) => k.to_string(),
        Cell::Text(text) => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("femdd-csv-{name}-{}", std::process::id()))
    }

    #[test]
    fn numbers_read_back_exactly_and_text_is_quoted() {
        let path = scratch("exact");
        let columns = ["time", "stress, \"zz\""];
        let mut table = Table::create(&path, &columns).expect("creates");
        let values = [0.1 + 0.2, -1.234e-300, 1.0 / 3.0, 7.0e22, 0.0];
        for x in values {
            table.row(&[Cell::Integer(1), Cell::Number(x)]).expect("writes");
        }
        table.row(&[Cell::Integer(2), Cell::Number(f64::NAN)]).expect("writes");
        let text = fs::read_to_string(&path).expect("reads");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "time,\"stress, \"\"zz\"\"\"");
        for (line, x) in lines[1..].iter().zip(values) {
            let written: f64 = line.split_once(',').expect("two entries").1.parse().expect("a number");
            assert_eq!(written.to_bits(), x.to_bits());
        }
        assert_eq!(lines[6], "2,");
        fs::remove_file(&path).expect("removes");
    }

    #[test]
    fn a_restart_drops_the_rows_it_will_write_again() {
        let path = scratch("resume");
        let mut table = Table::create(&path, &["step", "u"]).expect("creates");
        for step in 0..4 {
            table.row(&[Cell::Integer(step), Cell::Number(0.5)]).expect("writes");
        }
        let keep = |row: &[&str]| row[0].parse::<i64>().is_ok_and(|step| step <= 1);
        let mut table = Table::resume(&path, &["step", "u"], keep).expect("resumes");
        table.row(&[Cell::Integer(2), Cell::Number(9.0)]).expect("writes");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "step,u\n0,0.5\n1,0.5\n2,9\n");
        drop(Table::resume(&path, &["step", "v"], keep).expect("begins anew"));
        assert_eq!(fs::read_to_string(&path).expect("reads"), "step,v\n");
        fs::remove_file(&path).expect("removes");
    }
}
