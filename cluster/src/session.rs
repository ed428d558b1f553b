//! Starting MPI, ending it, and ending the job when a rank panics.

use std::os::raw::c_int;

use mpi::ffi;

use crate::comm::Comm;

/// Why MPI could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It runs already in this process, or has ended: MPI starts once.
    #[error("MPI was already started in this process")]
    AlreadyStarted,
    /// The library offers no thread level under which threads may run beside the one that communicates.
    #[error("this MPI gives thread level {0}, femdd needs FUNNELED: use an MPI built with thread support")]
    ThreadLevel(i32),
}

/// MPI, running. Dropping it ends MPI; communicators made from it must be gone or unused by then.
pub struct Session {
    world: Comm,
}

impl Session {
    /// All ranks of the job.
    pub fn world(&self) -> Comm {
        self.world.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: started by `init`, ended once.
        unsafe { ffi::MPI_Finalize() };
    }
}

/// Whether this process was started by an MPI launcher or by SLURM's `srun` with PMI.
pub fn under_launcher() -> bool {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALNRANKS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// What Open MPI needs on one host. Told so it does not load the drivers of networks to find out that there is
/// none, which takes longer than all else in starting it.
const ONE_HOST: [(&str, &str); 2] = [("OMPI_MCA_pml", "ob1"), ("OMPI_MCA_btl", "self,vader,tcp")];

/// Has hwloc leave out the cards of the machine. It would read the registers of each, as many processes at a time as start,
/// which takes longer than the rest of its work, and much longer in virtual machines; on one host nothing asks for them.
pub const NO_CARDS: (&str, &str) =
    ("HWLOC_COMPONENTS", "-linuxio,-pci,-gl,-opencl,-cuda,-nvml,-rsmi,-levelzero");

/// Copies between ranks of a host go through shared memory: where processes may not read each other's memory, Open MPI's
/// one-sided windows crash otherwise.
const SINGLE_COPY: &str = "OMPI_MCA_btl_vader_single_copy_mechanism";

/// Tells Open MPI what it cannot find out, unless the user has something else in mind: that there is one host, where its
/// launcher says so or there is none, and how ranks of a host copy.
fn prepare_open_mpi() {
    let given = |name: &str| std::env::var_os(name).is_some();
    let size = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let all = size("OMPI_COMM_WORLD_SIZE");
    let chosen = ["OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl"].into_iter().any(given);
    let one = !under_launcher() || all.is_some() && size("OMPI_COMM_WORLD_LOCAL_SIZE") == all;
    let single = (!given(SINGLE_COPY)).then_some((SINGLE_COPY, "none"));
    let no_cards = (one && !chosen && !given(NO_CARDS.0)).then_some(NO_CARDS);
    for (name, value) in ONE_HOST.into_iter().filter(|_| one && !chosen).chain(no_cards).chain(single) {
        // SAFETY: MPI starts before this program's own threads: nobody else looks at the environment.
        unsafe { std::env::set_var(name, value) };
    }
}

/// The numbers of this process's open files.
fn open_files() -> Vec<c_int> {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Has TCP connections that are not among `others` send each message at once. PMIx ends with two in a row to its daemon,
/// and TCP by itself holds the second back until the first is acknowledged, 40 ms later.
fn send_at_once(others: &[c_int]) {
    let on: c_int = 1;
    for file in open_files().into_iter().filter(|file| !others.contains(file)) {
        // SAFETY: reads one integer. What is no TCP connection, or is closed by now, refuses the option.
        unsafe {
            let size = size_of_val(&on) as libc::socklen_t;
            libc::setsockopt(file, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size);
        }
    }
}

/// Starts MPI with threads beside the one that communicates, and makes a panic end the whole job.
///
/// A rank that panics while others wait in a collective call would hang the job; the hook prints the
/// panic as usual, then calls `MPI_Abort` with exit code 101.
///
/// # Errors
/// When MPI was started before, or gives less than `MPI_THREAD_FUNNELED`.
pub fn init() -> Result<Session, InitError> {
    let (mut started, mut provided): (c_int, c_int) = (0, 0);
    // SAFETY: the query is allowed at any time; the start is made once, without arguments.
    let funneled = unsafe {
        ffi::MPI_Initialized(&mut started);
        if started != 0 {
            return Err(InitError::AlreadyStarted);
        }
        prepare_open_mpi();
        let wanted = ffi::MPI_THREAD_FUNNELED as c_int;
        let open = open_files();
        ffi::MPI_Init_thread(std::ptr::null_mut(), std::ptr::null_mut(), wanted, &mut provided);
        send_at_once(&open);
        wanted
    };
    if provided < funneled {
        return Err(InitError::ThreadLevel(provided));
    }
    // SAFETY: reads a constant handle.
    let world = Comm::from_raw(unsafe { ffi::RSMPI_COMM_WORLD }, false);
    let print = std::panic::take_hook();
    let comm = world.clone();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if comm.size() > 1 {
            comm.abort(101);
        }
    }));
    Ok(Session { world })
}

/// The name and version of the MPI library, as it gives them. May be called at any time.
pub fn library_version() -> String {
    mpi::environment::library_version().unwrap_or_default().trim_end_matches(['\0', '\n']).to_owned()
}

/// What threads may do with MPI as it was started: `single`, `funneled`, `serialized` or `multiple`.
pub fn thread_level() -> &'static str {
    let mut level: c_int = 0;
    // SAFETY: writes one integer.
    unsafe { ffi::MPI_Query_thread(&mut level) };
    match level {
        l if l == ffi::MPI_THREAD_MULTIPLE as c_int => "multiple",
        l if l == ffi::MPI_THREAD_SERIALIZED as c_int => "serialized",
        l if l == ffi::MPI_THREAD_FUNNELED as c_int => "funneled",
        _ => "single",
    }
}
