//! `femdd bench calibrate`: measures this machine and stores the figures.
//!
//! Imports `study`. Start at [`main`]. The ranks that mpirun starts measure rates, messages and the costs of
//! phases; a process of its own then measures what threads bring.

use std::path::{Path, PathBuf};

use clap::Args;

use super::launch;
use crate::run::{Kind, RunError};
use crate::study::costs::samples::{self, Effort};
use crate::study::machine::{self, Machine};

/// What `femdd bench calibrate` takes.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Ranks to start (outside an MPI launcher); the physical cores unless told otherwise.
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
    /// Where the figures go, instead of ~/.cache/femdd/machine.json.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Where files are written, instead of the current directory.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Only rates and messages, not what phases cost: some seconds.
    #[arg(long)]
    rates: bool,
    /// Problems of a few cells, for tests.
    #[arg(long, hide = true)]
    quick: bool,
    /// Only what so many threads bring, added to stored figures.
    #[arg(long, hide = true, value_name = "N")]
    threads_only: Option<usize>,
}

/// When the command was started, in seconds since 1970: for what starting ranks takes.
const STARTED: &str = "FEMDD_CALIBRATE_STARTED";

fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

/// Seconds since the command was started, as far as that is known: by the process that started mpirun, or since
/// this process began.
fn since_start() -> f64 {
    if let Some(begin) = std::env::var(STARTED).ok().and_then(|text| text.parse::<f64>().ok()) {
        return (now() - begin).max(0.0);
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uptime: Option<f64> = read("/proc/uptime").split_whitespace().next().and_then(|s| s.parse().ok());
    // The 22nd field, counted after the name, which may have spaces: clock ticks since the system started.
    let stat = read("/proc/self/stat");
    let ticks: Option<f64> =
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)?.parse().ok());
    // SAFETY: asks for a constant of the system.
    let rate = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    uptime.zip(ticks).map_or(0.0, |(uptime, ticks)| (uptime - ticks / rate).max(0.0))
}

/// Measures and stores; the exit code.
pub fn main(args: &CalibrateArgs) -> i32 {
    let ranks = args.ranks.unwrap_or_else(launch::physical_cores);
    if ranks == 0 {
        eprintln!("error: --ranks needs at least 1");
        return 2;
    }
    if let Some(threads) = args.threads_only {
        return on_threads(args, threads);
    }
    let launched = cluster::under_launcher();
    let code = if launched || ranks == 1 {
        on_ranks(args)
    } else {
        // SAFETY: nothing else runs in this process yet.
        unsafe { std::env::set_var(STARTED, now().to_string()) };
        launch::mpirun(ranks, 1).unwrap_or_else(|error| {
            eprintln!("error: mpirun cannot be started ({error}): use --ranks 1");
            3
        })
    };
    let cores = launch::physical_cores();
    if code != 0 || launched || args.rates || cores == 1 {
        return code;
    }
    measure_threads_apart(args, cores)
}

/// Starts the process that measures threads.
fn measure_threads_apart(args: &CalibrateArgs, threads: usize) -> i32 {
    let started = std::env::current_exe().and_then(|program| {
        let mut command = std::process::Command::new(program);
        command.args(["bench", "calibrate", "--ranks", "1", "--threads-only", &threads.to_string()]);
        command.arg("--folder").arg(&args.folder).env_remove(STARTED);
        if let Some(output) = &args.output {
            command.arg("--output").arg(output);
        }
        if args.quick {
            command.arg("--quick");
        }
        command.status()
    });
    match started {
        Ok(status) => status.code().unwrap_or(3),
        Err(error) => {
            eprintln!("error: femdd cannot be started again to measure threads ({error})");
            3
        }
    }
}

fn effort(args: &CalibrateArgs) -> Effort {
    if args.quick { Effort::Quick } else { Effort::Full }
}

/// Makes a folder that all ranks write to, for as long as `work` takes. Collective.
fn in_folder<T>(
    comm: &cluster::Comm,
    folder: &Path,
    work: impl FnOnce(&Path) -> Result<T, RunError>,
) -> Result<T, RunError> {
    let process = comm.broadcast_value(0, comm.is_root().then(std::process::id));
    let folder = folder.join(format!(".femdd-calibrate-{process}"));
    let made = if comm.is_root() {
        std::fs::create_dir_all(&folder)
            .map_err(|e| RunError::new(Kind::Environment, "bench", format!("{}: {e}", folder.display())))
    } else {
        Ok(())
    };
    comm.agree(made)?;
    let done = work(&folder);
    comm.barrier();
    if comm.is_root() {
        // What stays behind does no harm.
        let _ = std::fs::remove_dir_all(&folder);
    }
    done
}

fn on_ranks(args: &CalibrateArgs) -> i32 {
    launch::on_ranks(|comm| {
        let start = since_start();
        launch::start_threads(1);
        let mut found = machine::calibrate(comm, &args.folder)?;
        if !args.rates {
            let session = crate::solver::start(comm)?;
            let costs =
                in_folder(comm, &args.folder, |folder| samples::measure(comm, folder, effort(args), start));
            drop(session);
            found.costs = Some(costs?);
        }
        let written = if comm.is_root() { store(&found, args.output.as_deref()) } else { Ok(()) };
        comm.agree(written)?;
        Ok(0)
    })
}

/// Adds what threads bring to the stored figures.
fn on_threads(args: &CalibrateArgs, threads: usize) -> i32 {
    launch::on_ranks(|comm| {
        let start = since_start();
        launch::start_threads(threads);
        let path = machine_path(args.output.as_deref())?;
        let mut found = Machine::read(&path)?;
        let Some(mut costs) = found.costs.take() else { return Ok(0) };
        let session = crate::solver::start(comm)?;
        let measured = in_folder(comm, &args.folder, |folder| {
            samples::measure_threads(comm, folder, effort(args), &costs, threads)
        });
        drop(session);
        costs.threads = Some(measured?);
        costs.start_alone = Some(start);
        found.costs = Some(costs);
        found.write(&path)?;
        Ok(0)
    })
}

fn store(found: &Machine, output: Option<&Path>) -> Result<(), RunError> {
    let path = machine_path(output)?;
    found.write(&path)?;
    print!("{}", found.text());
    println!("stored in {}", path.display());
    Ok(())
}

/// Where the machine's figures lie.
pub fn machine_path(given: Option<&Path>) -> Result<PathBuf, RunError> {
    let path = given.map(Path::to_path_buf).or_else(machine::default_path);
    path.ok_or_else(|| {
        let message = "there is no home directory: name the machine's file";
        RunError::new(Kind::Input, "command", message)
    })
}
