//! A study through SLURM: one array job for each number of nodes, whose tasks are runs.
//!
//! Imports `study::shell`. Start at `script` and `submit`. Nothing from a case or a name reaches a shell unquoted, and
//! directives take plain words only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::RunError;
use crate::study::shell;

use super::{Job, State, Status, Study, environment, wrong};

/// How jobs are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The program, by its whole path.
    pub program: PathBuf,
    /// Ranks that a node has room for.
    pub ranks_per_node: usize,
    /// Tasks of an array that may run at the same time: 1, so that they do not disturb each other.
    pub concurrent: usize,
    /// Further directives, as `partition=short`.
    pub directives: Vec<String>,
    /// Start ranks by srun, not by mpirun.
    pub srun: bool,
    /// Keep solutions and other files of each run.
    pub keep: bool,
    /// Take runs again that were submitted before and have failed or vanished.
    pub resubmit: bool,
}

/// A job that is to be submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Nodes of each task.
    pub nodes: usize,
    /// The name of its script.
    pub name: String,
    /// The script.
    pub script: String,
    /// Directories of its runs, by the index of the task.
    pub runs: Vec<String>,
}

/// What is not done nor queued, as jobs: one array for each number of nodes.
///
/// # Errors
/// Directives that are not plain words.
pub fn plan(study: &Study, directory: &Path, options: &Options) -> Result<Vec<Planned>, RunError> {
    for directive in &options.directives {
        let fits = directive.split_once('=').is_some_and(|(key, value)| {
            key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && !key.is_empty()
                && shell::plain_directive(value)
        });
        if !fits {
            return Err(wrong(format!(
                "--sbatch {directive:?}: write KEY=VALUE of plain words, as in --sbatch partition=short"
            )));
        }
    }
    let before = tried(study);
    let mut by_nodes: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (s, k) in study.order() {
        let run = &study.steps[s].runs[k];
        let waits = matches!(run.state, State::Done | State::Queued);
        if !waits && (options.resubmit || !before.contains(&run.directory)) {
            let nodes = study.steps[s].rung.ranks.div_ceil(options.ranks_per_node);
            by_nodes.entry(nodes).or_default().push((s, k));
        }
    }
    let number = study.jobs.len();
    let planned = by_nodes.into_iter().enumerate().map(|(n, (nodes, tasks))| {
        let runs = tasks.iter().map(|&(s, k)| study.steps[s].runs[k].directory.clone()).collect();
        let name = format!("job-{}.sbatch", number + n + 1);
        Ok(Planned { nodes, script: script(study, directory, options, nodes, &tasks)?, name, runs })
    });
    planned.collect()
}

/// The runs that have been submitted.
pub fn tried(study: &Study) -> BTreeSet<String> {
    study.jobs.iter().flat_map(|job| job.runs.iter().cloned()).collect()
}

fn text_of(path: &Path) -> Result<&str, RunError> {
    let bad = || wrong(format!("{} is not a name in UTF-8, which a batch script needs", path.display()));
    path.to_str().filter(|text| !text.contains(['\n', '\0'])).ok_or_else(bad)
}

/// The script of one array: task k is the k-th of `tasks`, rung and repeat.
fn script(
    study: &Study,
    directory: &Path,
    options: &Options,
    nodes: usize,
    tasks: &[(usize, usize)],
) -> Result<String, RunError> {
    let threads = study.question.threads;
    let most = tasks.iter().map(|&(s, _)| study.steps[s].rung.ranks).max().unwrap_or(1);
    let mut text = format!(
        "#!/bin/bash\n# Runs of a {} scaling study, one a task. Written by femdd scale; submit it by sbatch.\n#\n",
        study.question.growth.name()
    );
    let log = "slurm-%A-%a.log";
    let mut directives = vec![
        "job-name=femdd-scale".to_owned(),
        format!("nodes={nodes}"),
        format!("ntasks={most}"),
        format!("cpus-per-task={threads}"),
        format!("array=0-{}%{}", tasks.len() - 1, options.concurrent),
        format!("output={log}"),
    ];
    if nodes > 1 {
        directives.push(format!("ntasks-per-node={}", options.ranks_per_node.min(most)));
    }
    // Later directives win: what the user gives comes last.
    directives.extend(options.directives.iter().cloned());
    for directive in directives {
        writeln!(text, "#SBATCH --{directive}").expect("text takes all");
    }
    let folder = shell::quote(text_of(directory)?);
    text += "\nset -euo pipefail\nexport OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1\n\n";
    writeln!(text, "cd -- {folder}").expect("text takes all");
    text += "case \"$SLURM_ARRAY_TASK_ID\" in\n";
    for (task, &(s, k)) in tasks.iter().enumerate() {
        let step = &study.steps[s];
        let mut words = vec![text_of(&study.question.file)?.to_owned()];
        for set in study.question.sets.iter().chain(&step.rung.sets) {
            words.extend(["--set".to_owned(), set.clone()]);
        }
        words.extend(["--threads".to_owned(), threads.to_string()]);
        words.extend(["--output".to_owned(), step.runs[k].directory.clone()]);
        writeln!(
            text,
            "{task}) ranks={} out={}\n   set -- {} ;;",
            step.rung.ranks,
            shell::quote(&step.runs[k].directory),
            shell::join(&words)
        )
        .expect("text takes all");
    }
    text += "*) echo \"no such task: $SLURM_ARRAY_TASK_ID\" >&2; exit 2 ;;\nesac\n";
    let program = shell::quote(text_of(&options.program)?);
    let start = match options.srun {
        true => format!("srun --mpi=pmix --ntasks=\"$ranks\" --cpus-per-task={threads}"),
        false => format!("mpirun -n \"$ranks\" --map-by slot:PE={threads}"),
    };
    text += "code=0\n";
    writeln!(text, "{start} {program} run \"$@\" --quiet || code=$?").expect("text takes all");
    if !options.keep {
        text += "# The solution is as large as the mesh; the study needs the report alone.\n\
                 rm -f -- \"$out\"/solution.hdf \"$out\"/solution.hdf.series\n";
    }
    text += "exit \"$code\"\n";
    Ok(text)
}

/// Writes the scripts, submits them and notes their jobs.
///
/// # Errors
/// A batch system that is not there or refuses.
pub fn submit(study: &mut Study, directory: &Path, planned: &[Planned]) -> Result<(), RunError> {
    for job in planned {
        let path = directory.join(&job.name);
        std::fs::write(&path, &job.script).map_err(|e| environment(format!("{}: {e}", path.display())))?;
        let mut command = Command::new("sbatch");
        command.current_dir(directory).arg("--parsable").arg(&job.name);
        let ended = command.output().map_err(|e| {
            environment(format!("sbatch cannot be started ({e}): submit {} where SLURM is", path.display()))
        })?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            return Err(environment(format!("sbatch refused {}: {}", path.display(), said.trim())));
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        // JOB, or JOB;CLUSTER.
        let id = said.trim().split(';').next().unwrap_or_default().to_owned();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
            return Err(environment(format!("sbatch did not say a job's number, but {:?}", said.trim())));
        }
        for run in
            study.steps.iter_mut().flat_map(|s| &mut s.runs).filter(|r| job.runs.contains(&r.directory))
        {
            (run.state, run.message, run.wall) = (State::Queued, None, None);
        }
        study.jobs.push(Job { id, script: job.name.clone(), runs: job.runs.clone() });
        study.status = Status::Submitted;
        // At once: a job that nobody remembers cannot be collected.
        study.write(directory)?;
    }
    Ok(())
}

/// The tasks of jobs that wait or run, from what squeue prints: lines `JOB_TASK`, or `JOB` of one without an array.
fn parse_queue(text: &str) -> BTreeSet<(String, usize)> {
    let task = |line: &str| {
        let (job, task) = line.trim().split_once('_')?;
        Some((job.to_owned(), task.parse().ok()?))
    };
    text.lines().filter_map(task).collect()
}

/// Marks the runs that wait or run. Where squeue cannot be asked nothing is known to be queued: `false`.
pub fn mark_queued(study: &mut Study) -> bool {
    for run in study.steps.iter_mut().flat_map(|s| &mut s.runs).filter(|r| r.state == State::Queued) {
        run.state = State::Missing;
    }
    if study.jobs.is_empty() {
        return true;
    }
    let user = std::env::var("USER").ok();
    // By user, not by job: squeue refuses jobs that have left its memory.
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--array", "--format=%i"]);
    match user {
        Some(user) => command.arg("--user").arg(user),
        None => command.arg("--me"),
    };
    let Some(ended) = command.output().ok().filter(|ended| ended.status.success()) else { return false };
    let queued = parse_queue(&String::from_utf8_lossy(&ended.stdout));
    mark(study, &queued);
    true
}

fn mark(study: &mut Study, queued: &BTreeSet<(String, usize)>) {
    let mut names = BTreeSet::new();
    for job in &study.jobs {
        let tasks = job.runs.iter().enumerate().filter(|(k, _)| queued.contains(&(job.id.clone(), *k)));
        names.extend(tasks.map(|(_, run)| run.clone()));
    }
    for run in study.steps.iter_mut().flat_map(|s| &mut s.runs).filter(|r| names.contains(&r.directory)) {
        if run.state != State::Done {
            run.state = State::Queued;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::scaling::{Growth, Question, Rung};

    fn study() -> Study {
        let question = Question {
            growth: Growth::Weak,
            file: "/home/o'neil/my case.toml".into(),
            case: "my case".into(),
            sets: vec!["case.title=\"$(touch /tmp/x)\"".into()],
            threads: 2,
            hash: String::new(),
            dimension: 3,
        };
        let rung = |ranks: usize| Rung {
            name: format!("{ranks}-ranks"),
            ranks,
            growth: 1.0,
            actual: 1.0,
            sets: vec!["mesh.box.cells=[5, 5, 5]".into()],
        };
        Study::new(question, [1, 2, 4, 8].map(rung).into(), 2, 4)
    }

    fn options() -> Options {
        Options {
            program: "/opt/fem dd/femdd".into(),
            ranks_per_node: 2,
            concurrent: 1,
            directives: vec!["partition=short".into()],
            srun: false,
            keep: false,
            resubmit: true,
        }
    }

    #[test]
    fn arrays_by_nodes_with_runs_in_turn() {
        let planned = plan(&study(), Path::new("/tmp/a dir"), &options()).expect("jobs");
        assert_eq!(planned.iter().map(|p| p.nodes).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(planned[0].runs, ["runs/1-ranks-1", "runs/2-ranks-1", "runs/1-ranks-2", "runs/2-ranks-2"]);
        let script = &planned[0].script;
        for line in [
            "#SBATCH --array=0-3%1",
            "#SBATCH --ntasks=2",
            "#SBATCH --cpus-per-task=2",
            "#SBATCH --partition=short",
            "cd -- '/tmp/a dir'",
            "0) ranks=1 out=runs/1-ranks-1",
            "mpirun -n \"$ranks\" --map-by slot:PE=2 '/opt/fem dd/femdd' run \"$@\" --quiet || code=$?",
        ] {
            assert!(script.lines().any(|l| l == line), "{line}\n{script}");
        }
        assert!(
            script.contains("set -- '/home/o'\\''neil/my case.toml' --set 'case.title=\"$(touch /tmp/x)\"'")
        );
    }

    /// The script run by a shell, with an mpirun that says what it was given: no value is taken apart or run.
    #[test]
    fn a_shell_runs_the_script_as_meant() {
        let scratch = crate::study::measure::Scratch::new().expect("a folder");
        let folder = scratch.0.join("it's a $HOME");
        std::fs::create_dir_all(&folder).expect("a folder");
        let tools = scratch.0.join("tools");
        std::fs::create_dir_all(&tools).expect("a folder");
        let mpirun = tools.join("mpirun");
        std::fs::write(&mpirun, "#!/bin/sh\npwd\nprintf '<%s>\\n' \"$@\"\n").expect("a file");
        Command::new("chmod").arg("+x").arg(&mpirun).status().expect("chmod");
        let planned = plan(&study(), &folder, &options()).expect("jobs");
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let run = |task: &str| {
            let mut bash = Command::new("bash");
            bash.args(["-c", &planned[0].script]).env("PATH", &path).env("SLURM_ARRAY_TASK_ID", task);
            bash.output().expect("bash")
        };
        let said = String::from_utf8_lossy(&run("1").stdout).into_owned();
        let expected = format!(
            "{}\n<-n>\n<2>\n<--map-by>\n<slot:PE=2>\n</opt/fem dd/femdd>\n<run>\n</home/o'neil/my case.toml>\n<--set>\n\
             <case.title=\"$(touch /tmp/x)\">\n<--set>\n<mesh.box.cells=[5, 5, 5]>\n<--threads>\n<2>\n<--output>\n\
             <runs/2-ranks-1>\n<--quiet>\n",
            folder.display()
        );
        assert_eq!(said, expected);
        assert_eq!(run("9").status.code(), Some(2));
    }

    #[test]
    fn directives_are_plain_words() {
        for bad in ["partition", "partition=a b", "x\ny=1", "comment=$(id)", "=a", "Partition=a"] {
            let options = Options { directives: vec![bad.into()], ..options() };
            let error = plan(&study(), Path::new("/tmp/a"), &options).expect_err(bad);
            assert!(error.message.contains("KEY=VALUE"), "{}", error.message);
        }
    }

    #[test]
    fn only_what_is_missing_is_planned_again() {
        let mut study = study();
        study.jobs.push(Job {
            id: "7".into(),
            script: "job-1.sbatch".into(),
            runs: vec!["runs/1-ranks-1".into(), "runs/2-ranks-1".into()],
        });
        study.steps[0].runs[0].state = State::Done;
        mark(&mut study, &parse_queue("7_1\n7_0\n8_3\nsomething else\n"));
        assert_eq!(
            (study.steps[0].runs[0].state, study.steps[1].runs[0].state),
            (State::Done, State::Queued)
        );
        let planned = plan(&study, Path::new("/tmp/a"), &options()).expect("jobs");
        assert_eq!(planned[0].runs, ["runs/1-ranks-2", "runs/2-ranks-2"]);
        assert_eq!(planned[0].name, "job-2.sbatch");
        // A run that has vanished is taken again only when told.
        mark(&mut study, &BTreeSet::new());
        study.steps[1].runs[0].state = State::Missing;
        let again =
            |resubmit| plan(&study, Path::new("/tmp/a"), &Options { resubmit, ..options() }).expect("jobs");
        assert_eq!((again(true)[0].runs.len(), again(false)[0].runs.len()), (3, 2));
    }
}
