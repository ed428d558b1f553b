//! Starting ranks: under a launcher this process is one; outside, it starts `mpirun` itself.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use cluster::Comm;
use cluster::place::Allocation;

use crate::case::{Case, MeshSource};
use crate::run::{Kind, RunError};

/// This process's rank as the launcher's environment has it; 0 outside a launcher.
pub fn local_rank() -> usize {
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
        .unwrap_or(0)
}

/// DOFs below which another rank costs more than it brings.
const DOFS_PER_RANK: u64 = 20_000;

/// The physical cores this process may use: by affinity, and no more than its control group's quota.
pub fn physical_cores() -> usize {
    cluster::place::usable_cores()
}

/// The cores that ranks started from here may use: those of all nodes of the batch job, else of this machine.
pub fn cores_of_ranks() -> usize {
    Allocation::of_job().map_or_else(physical_cores, |job| job.tasks * job.cores.unwrap_or(1))
}

/// A guess at the number of DOFs, from the box or the size of the mesh file.
fn estimate_dofs(case: &Case) -> u64 {
    let refined = |dim: u32| 1u64 << (dim * case.mesh.refine as u32).min(40);
    let degree = case.degree as u64;
    match &case.mesh.source {
        MeshSource::Box(mesh) => {
            let dim = mesh.size.len();
            let nodes: u64 = mesh.cells.iter().map(|&n| n as u64 * degree + 1).product();
            nodes
                .saturating_mul(refined(dim as u32))
                .saturating_mul(case.physics.law.n_components(dim) as u64)
        }
        MeshSource::File(path) => {
            // A tetrahedral mesh takes some 250 bytes of file a vertex.
            let vertices = std::fs::metadata(path).map_or(0, |m| m.len()) / 250;
            let per_vertex = [1, 1, 8, 27, 64][case.degree.min(4)];
            vertices.saturating_mul(per_vertex).saturating_mul(case.physics.law.n_components(3) as u64)
        }
    }
}

/// The ranks that a case is worth on this machine.
pub fn choose_ranks(case: &Case) -> usize {
    let by_size = (estimate_dofs(case) / DOFS_PER_RANK).max(1);
    physical_cores().min(usize::try_from(by_size).unwrap_or(usize::MAX))
}

/// What ranks need in their environment unless the user has it otherwise: no BLAS threads beside the ranks.
const ENVIRONMENT: [(&str, &str); 2] = [("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")];

/// Variables of schedulers, and of Open MPI itself, that may give `mpirun` other hosts than this one.
const HOSTS: [&str; 8] = [
    "SLURM_JOB_ID",
    "SLURM_JOBID",
    "PBS_JOBID",
    "LSB_JOBID",
    "PE_HOSTFILE",
    "COBALT_JOBID",
    "OMPI_MCA_orte_default_hostfile",
    "PRTE_MCA_prte_default_hostfile",
];

/// Whether something other than the arguments may give `mpirun` more hosts than this one.
fn other_hosts() -> bool {
    HOSTS.iter().any(|name| std::env::var_os(name).is_some())
}

/// How `mpirun` is to bind ranks of so many threads: it binds a rank to one core where there are two of them, on which
/// threads would take turns. Nothing where the user has a policy, or where another host may be among them.
fn binding(ranks: usize, threads: usize) -> Vec<String> {
    const POLICY: &str = "OMPI_MCA_hwloc_base_binding_policy";
    if threads < 2 || std::env::var_os(POLICY).is_some() || other_hosts() {
        return Vec::new();
    }
    if ranks.saturating_mul(threads) <= physical_cores() {
        vec!["--bind-to".into(), "core".into(), "--map-by".into(), format!("slot:PE={threads}")]
    } else {
        vec!["--bind-to".into(), "none".into()]
    }
}

/// The variable that says where Open MPI keeps its files while ranks run. By default all `mpirun` of a user share that
/// directory, and one that ends removes it under one that starts.
const DIRECTORY: &str = "OMPI_MCA_orte_top_session_dir";

/// A directory of this process's own in its place, where all ranks are on this machine.
fn own_directory() -> Option<(&'static str, PathBuf)> {
    let one_node = !other_hosts() || std::env::var("SLURM_JOB_NUM_NODES").is_ok_and(|n| n == "1");
    let path = || std::env::temp_dir().join(format!("ompi.femdd.{}", std::process::id()));
    (one_node && std::env::var_os(DIRECTORY).is_none()).then(|| (DIRECTORY, path()))
}

/// Starts `mpirun` with this program and its arguments on `ranks` ranks and waits for it. A signal that
/// would end this process is passed on, and ends them all; SIGTERM and SIGUSR1 have them write a checkpoint first.
///
/// # Errors
/// When there is no `mpirun`.
pub fn mpirun(ranks: usize, threads: usize) -> std::io::Result<i32> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("mpirun");
    command.arg("-n").arg(ranks.to_string());
    let job = Allocation::of_job();
    let room = match &job {
        Some(job) => job.tasks,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    if ranks > room {
        command.arg("--oversubscribe");
    } else if let Some(cores) = job.and_then(|job| job.cores).filter(|&cores| cores > 1) {
        // Otherwise all threads of a rank are bound to one core.
        command.arg("--map-by").arg(format!("slot:PE={cores}"));
    }
    command.args(binding(ranks, threads));
    // SAFETY: reads the process's user.
    if unsafe { libc::geteuid() } == 0 {
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    let no_cards = (!other_hosts()).then_some(cluster::NO_CARDS);
    let wanted = ENVIRONMENT.into_iter().chain(no_cards);
    command.envs(wanted.filter(|(name, _)| std::env::var_os(name).is_none()));
    command.envs(own_directory());
    // The ranks' own message is what matters; mpirun's banner about the exit code is noise.
    command.arg("--quiet").arg(program).args(std::env::args_os().skip(1));
    let this_process = std::process::id();
    // SAFETY: between fork and exec only system calls are made. When this process is killed outright,
    // mpirun is told to end; if that happened before the request, it ends at once.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            if libc::getppid() as u32 != this_process {
                Err(std::io::ErrorKind::Interrupted.into())
            } else {
                Ok(())
            }
        });
    }
    pass_on_signals();
    let mut child = command.spawn()?;
    CHILD.store(child.id() as i32, Ordering::SeqCst);
    // One that came while mpirun was being started.
    let early = RECEIVED.load(Ordering::SeqCst);
    if early != 0 {
        // SAFETY: signals our child, which has not been waited for.
        unsafe { libc::kill(child.id() as i32, early) };
    }
    let status = child.wait()?;
    CHILD.store(0, Ordering::SeqCst);
    let received = RECEIVED.load(Ordering::SeqCst);
    let stopped = status.code() == Some(Kind::Stopped.exit_code());
    if received != 0 && !status.success() && !stopped {
        return Ok(128 + received);
    }
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(1)))
}

/// The process of mpirun, 0 while there is none.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// The last signal that arrived.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// Passes a signal on to mpirun. Ctrl-C reaches the whole foreground group, so mpirun has it already. mpirun lets
/// its ranks live for a second after SIGTERM, too short for a checkpoint: the first goes as SIGUSR1, which it hands
/// to them and waits.
extern "C" fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let before = RECEIVED.swap(signal, Ordering::SeqCst);
    let signal = if signal == libc::SIGTERM && before != signal { libc::SIGUSR1 } else { signal };
    let child = CHILD.load(Ordering::SeqCst);
    // SAFETY: the kernel hands a valid record to a handler installed with SA_SIGINFO; `kill` may be called
    // from a handler, and the child is not waited for while its number is stored.
    unsafe {
        let from_terminal = !info.is_null() && (*info).si_code == libc::SI_KERNEL;
        if child > 0 && !from_terminal {
            libc::kill(child, signal);
        }
    }
}

/// Has the signals that end a process passed on instead.
fn pass_on_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
        // SAFETY: the record is all zeros but for the handler, which makes only calls that are allowed in
        // one, and flags that say it takes three arguments.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = pass_on as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(signal, std::ptr::null(), &mut before);
            // Ignored (nohup): it stays so, here and in mpirun.
            if before.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }
}

/// What Open MPI needs to know of a process that is the only rank: there is no daemon to start that would look after
/// it, and no directory to make for others. All such processes of a user would share that one: who starts fails
/// where who ends removes it.
const ALONE: [(&str, &str); 2] =
    [("OMPI_MCA_ess_singleton_isolated", "1"), ("OMPI_MCA_orte_create_session_dirs", "0")];

/// Tells Open MPI so where a process was started by itself.
pub fn stand_alone() {
    if cluster::under_launcher() {
        return;
    }
    // A task of srun without PMI: Open MPI takes it for a rank that cannot reach the others, and gives up.
    if std::env::var_os("SLURM_STEP_ID").is_some() {
        // SAFETY: as below.
        unsafe { std::env::remove_var("SLURM_NODELIST") };
    }
    for (name, value) in ALONE.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
        // SAFETY: called by the main thread before it starts MPI or any other thread.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Has parallel loops run on `threads` threads, this one among them: a loop on one thread is a plain loop, not
/// one that another thread is woken for.
pub fn start_threads(threads: usize) {
    // The pool may exist already when the library is used in a process of its own making.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
}

/// Starts MPI, does the work and prints, once, why it failed; the exit code.
pub fn on_ranks(work: impl FnOnce(&Comm) -> Result<i32, RunError>) -> i32 {
    stand_alone();
    let session = match cluster::init() {
        Ok(session) => session,
        Err(error) => {
            eprintln!("error: {error}");
            return 3;
        }
    };
    let comm = session.world();
    let code = work(&comm).unwrap_or_else(|error| {
        if comm.is_root() {
            eprint!("{}", error.text());
        }
        error.kind.exit_code()
    });
    cluster::stop::restore();
    drop(comm);
    drop(session);
    code
}
