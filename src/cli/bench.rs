//! `femdd bench`: what this machine can do, what a run costs and must cost, and whether it got slower.
//!
//! Imports `study`. Start at [`main`]. Runs are processes of their own, so all of this is started without
//! mpirun, except where it measures mpirun's ranks themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::calibrate::{self, CalibrateArgs, machine_path};
use super::{check_exists, launch};
use crate::case::Case;
use crate::run::{Kind, RunError};
use crate::study::compare::{self, LEAST_RUNS, Measure};
use crate::study::counts::{self, Ladder};
use crate::study::floors::{self, Facts};
use crate::study::machine::{self, Machine};
use crate::study::measure::{self, Measurement, Plan, Scratch};
use crate::study::small;
use crate::study::stats::median;

/// The exit code of a comparison that found a slowdown.
pub const SLOWER: i32 = 5;

const CALIBRATE_HELP: &str = "Examples:
  femdd bench calibrate                        on all physical cores
  femdd bench calibrate --ranks 8 --output node.json
  mpirun -n 2 --map-by node femdd bench calibrate --rates --output network.json";

const FLOORS_HELP: &str = "Examples:
  femdd bench calibrate && femdd bench floors cube.toml --ranks 2 --threads 1
  femdd bench floors cube.toml --machine node.json --repeat 5";

const COUNTS_HELP: &str = "Examples:
  femdd bench counts                                   a weak ladder on 1 to 8 ranks
  femdd bench counts --ladder strong --side 24 --ranks 1,2,4,8,16,32,64
Ranks may be more than cores: what is counted does not depend on time.";

const SMALL_HELP: &str = "Examples:
  femdd bench small
  femdd bench small --sides 40,60,80,100 --seconds 2";

const MEASURE_HELP: &str = "Examples:
  femdd bench measure cube.toml --ranks 2 --threads 1
  femdd bench measure cube.toml --repeat 9 --set 'mesh.box.cells=[50, 50, 50]' --output before.json
  femdd bench compare before.json after.json";

const BASELINE_HELP: &str = "Examples:
  femdd bench baseline benches/peers/*.toml --ranks 2 --threads 1
  femdd bench baseline cube.toml --directory baseline-1.0
  femdd bench compare baseline-1.0/cube.json bench-baseline/cube.json";

const COMPARE_HELP: &str = "Examples:
  femdd bench compare before.json after.json
  femdd bench compare --binary ../before/femdd cube.toml --ranks 2 --threads 1 --repeat 9
  femdd bench compare --binary ../before/femdd cube.toml --by cpu --threshold 2

With --binary, A is the other program and B this one; their runs take turns. Exit code 5: a phase of at
least 5% of the run, or the whole, got slower, and the lower end of the 95% interval of the ratio of
medians lies above the threshold.";

/// What `femdd bench` can do.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure this machine: memory, arithmetic, files, messages, and what phases of runs cost. Takes a minute.
    #[command(after_help = CALIBRATE_HELP)]
    Calibrate(CalibrateArgs),
    /// Run a case and set each phase beside the least it can take on this machine.
    #[command(after_help = FLOORS_HELP)]
    Floors(FloorsArgs),
    /// Run a case several times; print or store the times of its phases.
    #[command(after_help = MEASURE_HELP)]
    Measure(MeasureArgs),
    /// Measure cases and store them, one file each, to compare with later.
    #[command(after_help = BASELINE_HELP)]
    Baseline(BaselineArgs),
    /// Count messages, bytes, neighbours and iterations on more and more ranks.
    #[command(after_help = COUNTS_HELP)]
    Counts(CountsArgs),
    /// Solve small problems again and again in this process: microseconds an unknown.
    #[command(after_help = SMALL_HELP)]
    Small(SmallArgs),
    /// Compare two measurements, or this program with another one.
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
}

/// How runs are made.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Ranks of each run, as of `femdd run`.
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
    /// Threads of each rank.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Runs that count.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeat: usize,
    /// Runs before them that do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,
    /// Set a key of the case; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
}

/// What `femdd bench floors` takes.
#[derive(Debug, Args)]
pub struct FloorsArgs {
    /// The case file.
    case: PathBuf,
    /// The machine's figures, instead of ~/.cache/femdd/machine.json.
    #[arg(long, value_name = "FILE.json")]
    machine: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArgs,
}

/// How a ladder grows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LadderArg {
    /// As many cubes for each rank.
    Weak,
    /// As many cubes for all ranks together.
    Strong,
}

/// What `femdd bench counts` takes.
#[derive(Debug, Args)]
pub struct CountsArgs {
    /// How the problem grows.
    #[arg(long, value_enum, default_value_t = LadderArg::Weak)]
    ladder: LadderArg,
    /// Numbers of ranks.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [1usize, 2, 4, 8])]
    ranks: Vec<usize>,
    /// Cubes of six tetrahedra along each edge, of each rank's box or of the whole.
    #[arg(long, value_name = "N", default_value_t = 8)]
    side: usize,
    /// Store what was counted.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

/// What `femdd bench small` takes.
#[derive(Debug, Args)]
pub struct SmallArgs {
    /// Nodes along the side of the square.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [40usize, 60, 80, 100])]
    sides: Vec<usize>,
    /// Seconds for each size.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
}

/// What `femdd bench measure` takes.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The case file.
    case: PathBuf,
    #[command(flatten)]
    runs: RunsArgs,
    /// Store the runs.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

/// What `femdd bench baseline` takes.
#[derive(Debug, Args)]
pub struct BaselineArgs {
    /// The case files.
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    #[command(flatten)]
    runs: RunsArgs,
    /// Where the measurements go: CASE.json each.
    #[arg(long, value_name = "DIR", default_value = "bench-baseline")]
    directory: PathBuf,
}

/// What judges a whole run.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// Seconds on the clock.
    Wall,
    /// Processor time of all processes: for machines that others use too.
    Cpu,
}

/// What `femdd bench compare` takes.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Two stored measurements, A and B; with --binary, the case to run.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Another femdd, to run in turn with this one.
    #[arg(long, value_name = "FEMDD")]
    binary: Option<PathBuf>,
    /// The slowdown that is too much, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    threshold: f64,
    /// What judges a run.
    #[arg(long, value_enum, default_value_t = By::Wall)]
    by: By,
    #[command(flatten)]
    runs: RunsArgs,
}

fn wrong(message: impl Into<String>) -> RunError {
    RunError::new(Kind::Input, "command", message)
}

/// Does what the command line says; the exit code.
pub fn main(command: &BenchCommand) -> i32 {
    if let BenchCommand::Calibrate(args) = command {
        return calibrate::main(args);
    }
    if cluster::under_launcher() {
        if launch::local_rank() == 0 {
            eprintln!("error: femdd bench starts its runs itself: start it without mpirun or srun");
        }
        return 2;
    }
    let done = match command {
        BenchCommand::Calibrate(args) => Ok(calibrate::main(args)),
        BenchCommand::Floors(args) => floors_of(args).map(|()| 0),
        BenchCommand::Measure(args) => measure(args).map(|()| 0),
        BenchCommand::Baseline(args) => baseline(args).map(|()| 0),
        BenchCommand::Compare(args) => compare(args),
        BenchCommand::Counts(args) => count(args).map(|()| 0),
        BenchCommand::Small(args) => small(args).map(|()| 0),
    };
    done.unwrap_or_else(|error| {
        eprint!("{}", error.text());
        error.kind.exit_code()
    })
}

fn this_program() -> Result<PathBuf, RunError> {
    std::env::current_exe().map_err(|e| RunError::new(Kind::Environment, "bench", e.to_string()))
}

fn plan(case: &Path, runs: &RunsArgs) -> Result<Plan, RunError> {
    check_exists(case)?;
    if runs.repeat == 0 || runs.ranks == Some(0) || runs.threads == Some(0) {
        return Err(wrong("--repeat, --ranks and --threads need at least 1"));
    }
    Ok(Plan {
        case: case.to_owned(),
        sets: runs.sets.clone(),
        ranks: runs.ranks,
        threads: runs.threads,
        repeat: runs.repeat,
        warmup: runs.warmup,
    })
}

/// Medians by phase with the least and the most.
fn table(found: &Measurement) -> String {
    let (ranks, threads, runs) = (found.ranks, found.threads, found.runs.len());
    let mut text = format!(
        "{}: {} DOFs, {ranks} ranks x {threads} threads, {runs} runs, {} iterations, {:.0} MiB\n",
        found.case, found.dofs, found.iterations, found.memory_mb
    );
    let mut rows: Vec<(&str, Vec<f64>)> = found.phases().map(|p| (p, found.seconds(p))).collect();
    rows.push(("total", found.runs.iter().map(|run| run.wall).collect()));
    rows.push(("cpu", found.runs.iter().map(|run| run.cpu).collect()));
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
    text += &format!("{:width$} {:>9} {:>9} {:>9}\n", "phase", "median s", "min s", "max s");
    for (name, seconds) in rows {
        let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = seconds.iter().copied().fold(0.0, f64::max);
        text += &format!("{name:width$} {:9.3} {least:9.3} {most:9.3}\n", median(&seconds));
    }
    text
}

/// The floors of a measured case on a machine, as a table.
fn floors_table(
    path: &Path,
    runs: &RunsArgs,
    found: &Measurement,
    machine: &Machine,
) -> Result<String, RunError> {
    let case = Case::load(path, &runs.sets)?;
    let sizes =
        found.sizes.as_ref().ok_or_else(|| wrong("run.json does not say how large the problem is"))?;
    let facts = Facts {
        sizes,
        vertices: found.vertices,
        dimension: found.dimension,
        iterations: found.iterations,
        output_bytes: found.output_bytes,
        ranks: found.ranks,
        threads: found.threads,
    };
    let least = floors::floors(&case, &facts, machine);
    let measured = |phase: &str| {
        let seconds = found.seconds(phase);
        (!seconds.is_empty()).then(|| median(&seconds))
    };
    let mut text = floors::text(&least, measured);
    if machine.processor != found.processor {
        text += &format!("note: the floors are those of another machine, {}\n", machine.processor);
    }
    Ok(text)
}

fn floors_of(args: &FloorsArgs) -> Result<(), RunError> {
    let machine = Machine::read(&machine_path(args.machine.as_deref())?)?;
    let found = measure::measure(&this_program()?, &plan(&args.case, &args.runs)?)?;
    print!("{}", floors_table(&args.case, &args.runs, &found, &machine)?);
    Ok(())
}

fn measure(args: &MeasureArgs) -> Result<(), RunError> {
    let found = measure::measure(&this_program()?, &plan(&args.case, &args.runs)?)?;
    print!("{}", table(&found));
    // Only where the machine was measured before.
    if let Some(path) = machine::default_path().filter(|path| path.is_file()) {
        let machine = Machine::read(&path)?;
        print!("\n{}", floors_table(&args.case, &args.runs, &found, &machine)?);
    }
    if let Some(path) = &args.output {
        found.write(path)?;
        println!("stored in {}", path.display());
    }
    Ok(())
}

fn baseline(args: &BaselineArgs) -> Result<(), RunError> {
    // All of them are there before the first is run, and none would take another's place.
    let mut targets: Vec<PathBuf> = Vec::new();
    for case in &args.cases {
        check_exists(case)?;
        let target = args.directory.join(case.file_stem().unwrap_or_default()).with_extension("json");
        if targets.contains(&target) {
            return Err(wrong(format!("two cases would be stored in {}: rename one", target.display())));
        }
        targets.push(target);
    }
    let fail = |e: std::io::Error| {
        let message = format!("{} cannot be made: {e}", args.directory.display());
        RunError::new(Kind::Environment, "bench", message)
    };
    std::fs::create_dir_all(&args.directory).map_err(fail)?;
    let program = this_program()?;
    for (case, target) in args.cases.iter().zip(&targets) {
        let found = measure::measure(&program, &plan(case, &args.runs)?)?;
        found.write(target)?;
        print!("{}", table(&found));
        println!("stored in {}\n", target.display());
    }
    Ok(())
}

fn count(args: &CountsArgs) -> Result<(), RunError> {
    if args.side == 0 || args.ranks.contains(&0) {
        return Err(wrong("--ranks and --side need at least 1"));
    }
    let ladder = match args.ladder {
        LadderArg::Weak => Ladder::Weak,
        LadderArg::Strong => Ladder::Strong,
    };
    let scratch = Scratch::new()?;
    let rows = counts::ladder(&this_program()?, &args.ranks, |ranks| {
        let path = scratch.0.join(format!("{ranks}-ranks.toml"));
        let text = counts::case_of(&counts::mesh_of(ladder, ranks, args.side), &counts::SIDES);
        write_text(&path, &text)?;
        Ok(path)
    })?;
    print!("{}", counts::text(&rows));
    if let Some(path) = &args.output {
        let text = serde_json::to_string_pretty(&rows).map_err(|e| wrong(e.to_string()))?;
        write_text(path, &(text + "\n"))?;
    }
    Ok(())
}

fn write_text(path: &Path, text: &str) -> Result<(), RunError> {
    let fail = |e| RunError::new(Kind::Environment, "bench", format!("{}: {e}", path.display()));
    std::fs::write(path, text).map_err(fail)
}

fn small(args: &SmallArgs) -> Result<(), RunError> {
    if args.sides.iter().any(|&n| n < 3) || !(args.seconds >= 0.0 && args.seconds.is_finite()) {
        return Err(wrong("--sides need at least 3 nodes, --seconds a time"));
    }
    launch::stand_alone();
    launch::start_threads(1);
    let rows = small::small(&args.sides, Duration::from_secs_f64(args.seconds))?;
    print!("{}", small::text(&rows));
    Ok(())
}

fn compare(args: &CompareArgs) -> Result<i32, RunError> {
    if !(args.threshold >= 0.0 && args.threshold.is_finite()) {
        return Err(wrong("--threshold is a percentage, 0 or more"));
    }
    let (a, b) = match (&args.binary, args.files.as_slice()) {
        (Some(other), [case]) => in_turn(other, case, &args.runs)?,
        (Some(_), _) => return Err(wrong("with --binary, name one case: compare --binary FEMDD CASE.toml")),
        (None, [a, b]) => {
            check_exists(a)?;
            check_exists(b)?;
            (Measurement::read(a)?, Measurement::read(b)?)
        }
        (None, _) => {
            return Err(wrong("compare what with what? Name two measurements, or --binary and a case"));
        }
    };
    for (name, found) in [("A", &a), ("B", &b)] {
        if found.runs.len() < LEAST_RUNS {
            let n = found.runs.len();
            return Err(wrong(format!(
                "{name} has {n} runs, which say nothing of their spread: measure with --repeat {LEAST_RUNS} or more"
            )));
        }
    }
    let by = match args.by {
        By::Wall => Measure::Wall,
        By::Cpu => Measure::Cpu,
    };
    let threshold = args.threshold / 100.0;
    let found = compare::compare(&a, &b, by);
    println!(
        "{}: {} ranks x {} threads, medians of {} and {} runs",
        b.case,
        b.ranks,
        b.threads,
        a.runs.len(),
        b.runs.len()
    );
    print!("{}", found.text(threshold));
    Ok(if found.slower(threshold).next().is_some() { SLOWER } else { 0 })
}

fn in_turn(other: &Path, case: &Path, runs: &RunsArgs) -> Result<(Measurement, Measurement), RunError> {
    check_exists(other)?;
    if runs.repeat < LEAST_RUNS {
        return Err(wrong(format!("a comparison needs --repeat {LEAST_RUNS} or more")));
    }
    // A name without a folder would be looked for in PATH.
    let other = other.canonicalize().map_err(|e| wrong(format!("{}: {e}", other.display())))?;
    let this = this_program()?;
    let mut seen = |k: usize, sample: &measure::Sample| {
        measure::progress(&format!("{}: {:.2} s", ["A", "B"][k], sample.wall));
    };
    let mut found = measure::interleave(&[&other, &this], &plan(case, runs)?, &mut seen)?;
    let b = found.remove(1);
    Ok((found.remove(0), b))
}
