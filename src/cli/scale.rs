//! `femdd scale`: scaling studies of a case, here or through SLURM.
//!
//! Imports `study::scaling`. Start at [`main`]. Runs are processes of their own, so this is started without mpirun.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use cluster::model::{Messages, Network, Reduction};
use xxhash_rust::xxh3::xxh3_64;

use super::{check_exists, launch, units};
use crate::case::{Case, MeshSource};
use crate::run::{Kind, RunError};
use crate::study::machine::{self, Machine};
use crate::study::scaling::projection::Inputs;
use crate::study::scaling::{self, Growth, Question, State, Status, Study, ladder, runs, slurm, tables};

const STRONG_HELP: &str = "Examples:
  femdd scale strong cube.toml --ranks 1,2,4,8
  femdd scale strong cube.toml --ranks 1,2,4 --repeat 5 --max-seconds 600
  femdd scale strong cube.toml --ranks 32,64,128,256 --slurm --ranks-per-node 32 --sbatch partition=short
  femdd scale strong cube.toml --ranks 1,2,4 --latency 2us --bandwidth 12GB/s     projected on that network
The same command again goes on where the first was interrupted, or collects what SLURM has run.";

const WEAK_HELP: &str = "Examples:
  femdd scale weak cube.toml --ranks 1,2,4,8
  femdd scale weak bracket.toml --ranks 1,8,64 --slurm --ranks-per-node 32
The case as it is written is that of the fewest ranks. A generated box grows by cells along each direction, to within
5% of as many a rank; the mesh of a file by uniform refinement, so that ranks must grow by 8 (in 2D by 4).";

const SIZE_HELP: &str = "Examples:
  femdd scale size cube.toml --ranks 2                    cells times 1, 2, 4, 8
  femdd scale size cube.toml --ranks 2 --growth 1,3,9,27
  femdd scale size bracket.toml --ranks 4 --growth 1,8    a mesh file, refined
Prints the power of the number of DOFs by which each phase grows, with its 95% interval.";

const COLLECT_HELP: &str = "Example:
  femdd scale collect cube.scale";

/// What `femdd scale` can do.
#[derive(Debug, Subcommand)]
pub enum ScaleCommand {
    /// The same case on more and more ranks.
    #[command(after_help = STRONG_HELP)]
    Strong(StudyArgs),
    /// A mesh that grows with the ranks.
    #[command(after_help = WEAK_HELP)]
    Weak(StudyArgs),
    /// A mesh that grows on as many ranks: the exponent of each phase.
    #[command(after_help = SIZE_HELP)]
    Size(SizeArgs),
    /// Collect the runs of a study that SLURM has made.
    #[command(after_help = COLLECT_HELP)]
    Collect(CollectArgs),
}

/// What every study takes.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The case file.
    case: PathBuf,
    /// Threads of each rank.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Runs of each rung, in turn with those of the others.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// Set a key of the case; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
    /// Where the study goes, instead of the case file's stem + ".scale" beside it.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Begin no run that would not end within so many seconds from now, by the runs before it.
    #[arg(long, value_name = "S")]
    max_seconds: Option<f64>,
    /// Forget the study that the directory holds.
    #[arg(long)]
    fresh: bool,
    /// Keep solutions and other files of each run, not only its report.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    slurm: SlurmArgs,
}

/// What the projection takes.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// The machine's figures, instead of ~/.cache/femdd/machine.json.
    #[arg(long, value_name = "FILE.json")]
    machine: Option<PathBuf>,
    /// The time before a message's first byte arrives, with its unit, as 2us, instead of the machine's.
    #[arg(long, value_name = "TIME", value_parser = units::latency, allow_negative_numbers = true)]
    latency: Option<f64>,
    /// The rate of long messages, with its unit, as 12GB/s or 100Gbit/s, instead of the machine's.
    #[arg(long, value_name = "RATE", value_parser = units::bandwidth, allow_negative_numbers = true)]
    bandwidth: Option<f64>,
    /// LogGP: the time that a processor is busy with a message, as 500ns.
    #[arg(long, value_name = "TIME", value_parser = units::latency, allow_negative_numbers = true, requires = "gap")]
    overhead: Option<f64>,
    /// LogGP: the time between two messages of one rank, as 200ns.
    #[arg(long, value_name = "TIME", value_parser = units::latency, allow_negative_numbers = true, requires = "overhead")]
    gap: Option<f64>,
    /// How reductions are done.
    #[arg(long, value_enum, default_value_t = ReductionArg::Doubling)]
    reduction: ReductionArg,
}

/// How reductions are done.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReductionArg {
    /// Recursive doubling.
    Doubling,
    /// Reduce-scatter and allgather.
    Rabenseifner,
}

/// What a batch system takes.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// Run through SLURM: submit array jobs, one for each number of nodes.
    #[arg(long)]
    slurm: bool,
    /// Ranks that a node has room for; the physical cores here over the threads unless told otherwise.
    #[arg(long, value_name = "N", requires = "slurm")]
    ranks_per_node: Option<usize>,
    /// A directive of the jobs, as partition=short or time=00:30:00; may be repeated.
    #[arg(long = "sbatch", value_name = "KEY=VALUE", requires = "slurm")]
    directives: Vec<String>,
    /// Tasks of a job that may run at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "slurm")]
    concurrent: usize,
    /// Start ranks by srun --mpi=pmix instead of mpirun.
    #[arg(long, requires = "slurm")]
    srun: bool,
    /// Submit runs that failed or are missing once more.
    #[arg(long, requires = "slurm")]
    resubmit: bool,
    /// Write the scripts and do not submit them.
    #[arg(long, requires = "slurm")]
    dry_run: bool,
}

/// What `femdd scale strong` and `weak` take.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Numbers of ranks.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', required = true)]
    ranks: Vec<usize>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What `femdd scale size` takes.
#[derive(Debug, Args)]
pub struct SizeArgs {
    /// The number of ranks.
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,
    /// How many times the cells of the case [default: 1,2,4,8 for a box; for a file refined never, once, twice]
    #[arg(long, value_name = "X,X,...", value_delimiter = ',')]
    growth: Vec<f64>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What `femdd scale collect` takes.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// The study's directory.
    directory: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
}

fn wrong(message: impl Into<String>) -> RunError {
    RunError::new(Kind::Input, "command", message)
}

/// Does what the command line says; the exit code.
pub fn main(command: &ScaleCommand) -> i32 {
    if cluster::under_launcher() {
        if launch::local_rank() == 0 {
            eprintln!("error: femdd scale starts its runs itself: start it without mpirun or srun");
        }
        return 2;
    }
    let done = match command {
        ScaleCommand::Strong(args) => study(Growth::Strong, &args.ranks, &[], &args.common),
        ScaleCommand::Weak(args) => study(Growth::Weak, &args.ranks, &[], &args.common),
        ScaleCommand::Size(args) => study(Growth::Size, &[args.ranks], &args.growth, &args.common),
        ScaleCommand::Collect(args) => collect(args),
    };
    done.unwrap_or_else(|error| {
        eprint!("{}", error.text());
        error.kind.exit_code()
    })
}

/// The case, with what a study changes in every case: the cache would let the first run partition for all others.
fn load(args: &CommonArgs) -> Result<(Case, Vec<String>), RunError> {
    check_exists(&args.case)?;
    let mut sets = args.sets.clone();
    if !sets.iter().any(|set| set.trim_start().starts_with("performance.cache")) {
        sets.push("performance.cache=false".to_owned());
    }
    Ok((Case::load(&args.case, &sets)?, sets))
}

/// The dimension of a case's mesh.
fn dimension(case: &Case, program: &Path) -> Result<usize, RunError> {
    match &case.mesh.source {
        MeshSource::Box(spec) => Ok(spec.size.len()),
        MeshSource::File(path) => ladder::dimension_of(program, path),
    }
}

fn question(
    growth: Growth,
    case: &Case,
    sets: Vec<String>,
    threads: usize,
    dimension: usize,
) -> Result<Question, RunError> {
    let file = case.file.canonicalize().map_err(|e| wrong(format!("{}: {e}", case.file.display())))?;
    let mesh = match &case.mesh.source {
        MeshSource::Box(_) => String::new(),
        MeshSource::File(path) => {
            let about = std::fs::metadata(path).ok();
            let time = about.as_ref().and_then(|m| m.modified().ok());
            format!("{:?} {time:?}", about.map(|m| m.len()))
        }
    };
    let text = format!("{}\0{}\0{mesh}\0{threads}", case.text, sets.join("\0"));
    let hash = format!("{:016x}", xxh3_64(text.as_bytes()));
    Ok(Question { growth, file, case: case.name.clone(), sets, threads, hash, dimension })
}

fn study(growth: Growth, ranks: &[usize], growths: &[f64], args: &CommonArgs) -> Result<i32, RunError> {
    if args.repeat == 0
        || args.threads == 0
        || args.slurm.concurrent == 0
        || args.slurm.ranks_per_node == Some(0)
    {
        return Err(wrong("--repeat, --threads, --concurrent and --ranks-per-node need at least 1"));
    }
    if args.max_seconds.is_some_and(|s| !(s > 0.0 && s.is_finite())) {
        return Err(wrong("--max-seconds needs a time above 0"));
    }
    let inputs = network(&args.network)?;
    let program =
        std::env::current_exe().map_err(|e| RunError::new(Kind::Environment, "scale", e.to_string()))?;
    let (case, sets) = load(args)?;
    // Only a mesh that grows needs its dimension.
    let dim = if growth == Growth::Strong { 0 } else { dimension(&case, &program)? };
    let growths = match growths {
        [] if growth == Growth::Size => ladder::default_growths(&case, dim),
        _ => growths.to_vec(),
    };
    let rungs = ladder::rungs(growth, &case, dim, ranks, &growths)?;
    let directory = match &args.output {
        Some(directory) => directory.clone(),
        None => args.case.with_extension("scale"),
    };
    let question = question(growth, &case, sets, args.threads, dim)?;
    let known = scaling::open(&directory, &question, args.fresh)?;
    // Scripts name it, and start elsewhere.
    let directory = directory.canonicalize().map_err(|e| wrong(format!("{}: {e}", directory.display())))?;
    let here = launch::cores_of_ranks();
    let granted = rungs.iter().map(|r| r.ranks).max().unwrap_or(1) * args.threads;
    let begun = known.is_some();
    let mut study = match known {
        Some(mut study) => {
            study.extend(rungs, args.repeat);
            study
        }
        None => Study::new(question, rungs, args.repeat, if args.slurm.slurm { granted } else { here }),
    };
    if !study.jobs.is_empty() || args.slurm.slurm {
        study.grant(granted);
    }
    slurm::mark_queued(&mut study);
    study.evaluate(&directory, &inputs)?;
    if args.slurm.slurm {
        return through_slurm(study, &directory, &program, &inputs, args, begun);
    }
    if study.status == Status::Submitted {
        study.publish(&directory)?;
        return show(&study, &directory);
    }
    if study.busy.is_none() {
        study.busy = runs::busy();
    }
    let how = runs::How {
        program: &program,
        budget: args.max_seconds.map(Duration::from_secs_f64),
        keep: args.keep,
        progress: &|line| eprintln!("{line}"),
    };
    let made = runs::run_here(&mut study, &directory, &how)?;
    study.evaluate(&directory, &inputs)?;
    if made.left > 0 {
        study.warnings.push(format!(
            "{} runs would not have ended within {} seconds: the same command again makes them",
            made.left,
            args.max_seconds.unwrap_or_default()
        ));
    }
    study.publish(&directory)?;
    show(&study, &directory)
}

/// Submits what is missing of a new study; of one that was submitted before, collects, and submits again only when told.
fn through_slurm(
    mut study: Study,
    directory: &Path,
    program: &Path,
    inputs: &Inputs,
    args: &CommonArgs,
    begun: bool,
) -> Result<i32, RunError> {
    let per_node = launch::physical_cores() / args.threads;
    let options = slurm::Options {
        program: program.to_path_buf(),
        ranks_per_node: args.slurm.ranks_per_node.unwrap_or(per_node.max(1)),
        concurrent: args.slurm.concurrent,
        directives: args.slurm.directives.clone(),
        srun: args.slurm.srun,
        keep: args.keep,
        resubmit: args.slurm.resubmit,
    };
    let tried = slurm::tried(&study);
    let jobs = slurm::plan(&study, directory, &options)?;
    if args.slurm.dry_run {
        for job in &jobs {
            let path = directory.join(&job.name);
            std::fs::write(&path, &job.script)
                .map_err(|e| RunError::new(Kind::Environment, "scale", format!("{}: {e}", path.display())))?;
            println!("{}: {} runs on {} nodes", path.display(), job.runs.len(), job.nodes);
        }
        study.publish(directory)?;
        return Ok(0);
    }
    if !jobs.is_empty() {
        slurm::submit(&mut study, directory, &jobs)?;
        study.evaluate(directory, inputs)?;
        let ids: Vec<&str> = study.jobs.iter().map(|job| job.id.as_str()).collect();
        eprintln!(
            "submitted as {}; femdd scale collect {} shows what is done",
            ids.join(", "),
            directory.display()
        );
    } else if begun {
        eprintln!("nothing is left to submit");
    }
    // A run that was submitted once and is gone is submitted again only when told: it would fail again.
    let gone =
        study.steps.iter().flat_map(|s| &s.runs).filter(|run| {
            matches!(run.state, State::Missing | State::Failed) && tried.contains(&run.directory)
        });
    let gone = gone.count();
    if gone > 0 {
        study.warnings.push(format!("{gone} runs failed or vanished: --resubmit submits them again"));
    }
    study.publish(directory)?;
    show(&study, directory)
}

fn collect(args: &CollectArgs) -> Result<i32, RunError> {
    let mut study = Study::read(&args.directory)?;
    let inputs = network(&args.network)?;
    let asked = slurm::mark_queued(&mut study);
    study.evaluate(&args.directory, &inputs)?;
    if !asked && study.status != Status::Complete {
        study.warnings.push("squeue cannot be asked: runs counted as missing may wait or run".to_owned());
    }
    for step in &study.steps {
        for run in step.runs.iter().filter(|run| run.state == State::Missing) {
            study
                .warnings
                .push(format!("{}: {} left no report, or did not end", step.rung.name, run.directory));
        }
    }
    study.publish(&args.directory)?;
    show(&study, &args.directory)
}

/// Prints a study. Failed runs make the exit code 1.
fn show(study: &Study, directory: &Path) -> Result<i32, RunError> {
    print!("{}", tables::text(study));
    println!("in {}: scale.json, scale.csv, report.html, pictures", directory.display());
    let failed = study.steps.iter().flat_map(|s| &s.runs).any(|run| run.state == State::Failed);
    Ok(i32::from(failed))
}

/// What communication costs: given, or as measured on this machine; unknown where neither is.
fn network(args: &NetworkArgs) -> Result<Inputs, RunError> {
    let (given_latency, given_bandwidth) = (args.latency, args.bandwidth);
    let NetworkArgs { overhead, gap, .. } = *args;
    let path = match &args.machine {
        Some(path) => Some(path.clone()),
        None => machine::default_path().filter(|path| path.is_file()),
    };
    let measured = path.as_deref().map(Machine::read).transpose()?;
    let messages = measured.as_ref().and_then(|m| m.messages.map(|found| (m.ranks, found)));
    let latency = given_latency.or(messages.map(|m| m.1.latency));
    let bandwidth = given_bandwidth.or(messages.map(|m| m.1.bandwidth));
    let (Some(latency), Some(bandwidth)) = (latency, bandwidth) else {
        if given_latency.is_some() || given_bandwidth.is_some() || overhead.is_some() {
            return Err(wrong(
                "give both --latency and --bandwidth, or measure this machine by femdd bench calibrate",
            ));
        }
        return Ok(Inputs::default());
    };
    let mut sources = Vec::new();
    if given_latency.is_some() || given_bandwidth.is_some() {
        sources.push("the command line".to_owned());
    }
    if given_latency.is_none() || given_bandwidth.is_none() {
        let (path, ranks) = (path.unwrap_or_default(), messages.map_or(0, |m| m.0));
        sources.push(format!(
            "{}, measured between {ranks} ranks where it was started (across nodes, give --latency and --bandwidth)",
            path.display()
        ));
    }
    // A sum over the ranks as it was measured, by its stages; not where another latency is given.
    let stage = messages
        .filter(|m| given_latency.is_none() && m.0 > 1)
        .map(|(ranks, m)| m.allreduce / (ranks as f64).log2().ceil());
    let messages = match overhead.zip(gap) {
        Some((overhead, gap)) => Messages::LogGp { latency, overhead, gap, bandwidth },
        None => Messages::Hockney { latency, bandwidth },
    };
    let reduction = match args.reduction {
        ReductionArg::Doubling => Reduction::Doubling,
        ReductionArg::Rabenseifner => Reduction::Rabenseifner,
    };
    Ok(Inputs { network: Some(Network { messages, reduction, stage }), source: sources.join("; ") })
}
