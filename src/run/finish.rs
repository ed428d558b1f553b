//! The end of a run that has a solution: its file, errors, probes, integrals.
//!
//! Imports its siblings. Start at [`Stage::finish`]: the file is begun first and written by a thread while the rest is
//! computed.

use std::time::Instant;

use cluster::Comm;
use serde_json::{Value, json};

use super::error::RunError;
use super::results::{self, Solved};
use super::stage::{Solution, Stage, State};
use crate::assembly::{self, Constraints, Pattern, Problem};
use crate::output::OutputError;
use crate::output::hdf::{Pending, Written};
use crate::output::phases;
use crate::output::run_json::ErrorsReport;

/// The solution's file in the directory of the run.
const FILE_NAME: &str = "solution.hdf";

/// Waits for a file and gives it its name; its entry of `files` in run.json. Collective.
fn finished(comm: &Comm, file: Pending) -> Result<Value, OutputError> {
    let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Written { bytes, worked, waited } = file.finish()?;
    let mut most = [worked, waited];
    comm.max_slice(&mut most);
    let [worked, waited] = most;
    tracing::info!(file = name, bytes, worked, waited, "written");
    Ok(json!({ "file": name, "bytes": bytes, "writing": worked, "waiting": waited }))
}

impl Stage<'_, '_> {
    /// Errors, probes, integrals and files of a solution. Collective.
    ///
    /// # Errors
    /// As [`Stage::solve`], and a file that cannot be written.
    pub(super) fn finish(&mut self, problem: &dyn Problem, state: State) -> Result<Solution, RunError> {
        let (comm, case, space) = (self.comm, self.case, self.space);
        let c = problem.components();
        let n_owned = space.map.n_owned();
        let State { mut u, constraints, pattern, coordinates, places, errors, indicators, failure, .. } =
            state;
        let _line = self.run.progress.phase("output");
        self.run.phases.count("between");
        let (begin, span) = (Instant::now(), phases::span("output"));
        let reactions = self.reactions(problem, &pattern, &constraints, &u)?;
        // What the output needs room for.
        drop(pattern);
        let files = !self.run.options.no_files;
        let reports = files || !case.probes.is_empty() || !case.integrals.is_empty();
        let results = match reports {
            true => Some(Solved::new(case, problem, &u, &reactions, &indicators, files)?),
            false => None,
        };
        // Written while the rest is computed.
        let file = match &results {
            Some(results) if files => Some(results.write(&case.output_dir.join(FILE_NAME), &coordinates)?),
            _ => None,
        };
        let find = || self.errors(problem, &u, assembly::EnergyNorm::Omitted);
        self.run.report.errors = errors.map_or_else(find, |errors| Ok(Some(errors)))?.map(ErrorsReport::from);
        if let Some(results) = &results {
            self.run.report.probes = results.probes(&places)?;
            self.run.report.integrals = results.integrals()?;
        }
        if let Some(file) = file {
            let entry = finished(comm, file)?;
            self.run.report.extra.insert("files".to_owned(), json!([entry]));
        }
        let writes = !self.run.options.no_files && comm.is_root();
        let written = if writes { results::write_probes(case, &self.run.report.probes) } else { Ok(()) };
        comm.agree(written)?;
        drop((span, results));
        self.run.phases.add("output", begin.elapsed().as_secs_f64());
        self.run.phases.count("output");
        u.truncate(n_owned * c);
        let nodes = if self.run.options.no_nodes { Vec::new() } else { coordinates[..n_owned].to_vec() };
        Ok(Solution { u, nodes, failure })
    }

    fn reactions(
        &self,
        problem: &dyn Problem,
        pattern: &Pattern,
        constraints: &Constraints,
        u: &[f64],
    ) -> Result<Vec<f64>, RunError> {
        let c = problem.components();
        let wanted = self.case.integrals.iter().any(|i| i.of.quantity == crate::case::Quantity::Reaction)
            || self.case.output.fields.iter().any(|f| f.quantity == crate::case::Quantity::Reaction);
        if !wanted {
            return Ok(Vec::new());
        }
        let mut residual = vec![0.0; self.space.map.n_owned() * c];
        let found = problem.residual_where_prescribed(pattern, u, constraints, &mut residual);
        self.comm.agree(found).map_err(|e| self.locate(e))?;
        Ok(results::reactions(&residual, constraints, c))
    }
}
