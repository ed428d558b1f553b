//! PETSc's life: started once, ended when the [`Session`] drops; and its options database.

use std::ffi::{CString, c_char};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};

use mpi::ffi::MPI_Comm;

use crate::error::{c_string, check, record, text};
use crate::library::load;
use crate::{Error, PetscInt, Result, sys};

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether a session lives in this process: objects can be created and destroyed. A handle that outlives the session is
/// not destroyed: PETSc gave its memory back already.
pub fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed)
}

/// Options that [`initialize`] sets itself; nobody needs to hear that they were not used.
const OWN_OPTIONS: &[&str] = &["no_signal_handler", "options_left"];

/// PETSc, running. Ends it on drop.
///
/// Collective: dropped on every rank, before MPI ends.
#[derive(Debug)]
pub struct Session {
    // Not Send: PETSc belongs to the thread that started it.
    _thread: std::marker::PhantomData<*const ()>,
}

/// Loads PETSc and starts it on `comm`, which becomes `PETSC_COMM_WORLD`. MPI runs already and goes on afterwards.
///
/// `options` are those of the command line, one word each. `PETSC_OPTIONS` and `.petscrc` are read as usual.
/// PETSc's signal handlers stay off and its error handler is replaced by one that records.
///
/// Collective.
///
/// # Errors
/// [`Error::Library`] if it cannot be loaded; [`Error::State`] if PETSc runs already; [`Error::Petsc`] for options it cannot parse.
pub fn initialize(comm: MPI_Comm, options: &[String]) -> Result<Session> {
    load()?;
    if RUNNING.swap(true, Ordering::Relaxed) {
        return Err(Error::State("PETSc is already running"));
    }
    let mut words = std::vec![
        c_string("petsc"),
        c_string("-no_signal_handler"),
        c_string("-options_left"),
        c_string("no")
    ];
    words.extend(options.iter().map(|s| c_string(s)));
    let mut count = words.len() as i32;
    // PETSc keeps pointers to the arguments until the process ends, so they are never freed.
    let mut argv: std::vec::Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
    argv.push(null_mut());
    let mut argv = Box::leak(argv.into_boxed_slice()).as_mut_ptr();
    // SAFETY: PETSc is not running, so nothing else reads or writes its global communicator; the argument
    // vector is null-terminated and lives for ever; the handler has the type PETSc expects.
    let started = unsafe {
        set_world(comm);
        check(sys::PetscPushErrorHandler(Some(record), null_mut()))
            .and_then(|()| check(sys::PetscInitialize(&mut count, &mut argv, null(), null())))
    };
    match started {
        Ok(()) => Ok(Session { _thread: std::marker::PhantomData }),
        Err(e) => {
            RUNNING.store(false, Ordering::Relaxed);
            Err(e)
        }
    }
}

/// # Safety
/// PETSc is not running.
unsafe fn set_world(comm: MPI_Comm) {
    // SAFETY: the address of PETSc's variable, which nobody else uses before it runs.
    #[cfg(not(petsc_linked))]
    unsafe {
        *sys::PETSC_COMM_WORLD() = comm
    };
    // SAFETY: as above.
    #[cfg(petsc_linked)]
    unsafe {
        sys::PETSC_COMM_WORLD = comm
    };
}

impl Drop for Session {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Relaxed);
        // SAFETY: this value is the proof that PETSc runs. A failure here leaves nothing to repair.
        unsafe {
            sys::PetscPopErrorHandler();
            sys::PetscFinalize();
        }
    }
}

fn must_run() -> Result<()> {
    if is_running() { Ok(()) } else { Err(Error::State("PETSc is not running")) }
}

/// Adds options written as on a command line (`"-ksp_monitor -pc_type jacobi"`); later ones win.
///
/// # Errors
/// [`Error::Petsc`] for text PETSc cannot parse.
pub fn options_insert(options: &str) -> Result<()> {
    must_run()?;
    let options = c_string(options);
    // SAFETY: null means the global database; the string is copied.
    check(unsafe { sys::PetscOptionsInsertString(null_mut(), options.as_ptr()) })
}

/// Sets one option. `name` begins with a dash; no `value` for a flag.
pub fn options_set(name: &str, value: Option<&str>) -> Result<()> {
    must_run()?;
    let name = c_string(name);
    let value = value.map(c_string);
    // SAFETY: null means the global database; both strings are copied.
    check(unsafe {
        sys::PetscOptionsSetValue(null_mut(), name.as_ptr(), value.as_ref().map_or(null(), |v| v.as_ptr()))
    })
}

/// Removes one option. `name` begins with a dash.
pub fn options_clear(name: &str) -> Result<()> {
    must_run()?;
    let name = c_string(name);
    // SAFETY: null means the global database.
    check(unsafe { sys::PetscOptionsClearValue(null_mut(), name.as_ptr()) })
}

/// Whether an option is set. `name` begins with a dash. Counts as a use of it.
pub fn options_has(name: &str) -> Result<bool> {
    must_run()?;
    let name = c_string(name);
    let mut set = sys::PetscBool::default();
    // SAFETY: null means the global database and no prefix.
    check(unsafe { sys::PetscOptionsHasName(null_mut(), null(), name.as_ptr(), &mut set) })?;
    Ok(set as u8 != 0)
}

/// The options that nothing has asked for so far, as `-name value`. Good for a warning: a misspelt one is
/// among them.
pub fn options_left() -> Result<std::vec::Vec<String>> {
    must_run()?;
    let (mut n, mut names, mut values): (PetscInt, *mut *mut c_char, *mut *mut c_char) =
        (0, null_mut(), null_mut());
    let mut left = std::vec::Vec::new();
    // SAFETY: PETSc allocates two arrays of `n` strings (values may be null); they are read before
    // `PetscOptionsLeftRestore` frees them.
    unsafe {
        check(sys::PetscOptionsLeftGet(null_mut(), &mut n, &mut names, &mut values))?;
        for i in 0..n as usize {
            let (name, value) = (text(*names.add(i)), text(*values.add(i)));
            if !OWN_OPTIONS.contains(&name.as_str()) {
                left.push(format!("-{name} {value}").trim_end().to_owned());
            }
        }
        check(sys::PetscOptionsLeftRestore(null_mut(), &mut n, &mut names, &mut values))?;
    }
    Ok(left)
}

/// PETSc's version: major, minor, patch. Loads the library.
///
/// # Errors
/// [`Error::Library`] if it cannot be loaded.
pub fn version() -> Result<(u32, u32, u32)> {
    load()?;
    let (mut major, mut minor, mut patch): (PetscInt, PetscInt, PetscInt) = (0, 0, 0);
    // SAFETY: three integers are written; null skips the fourth. May be called at any time.
    unsafe { sys::PetscGetVersionNumber(&mut major, &mut minor, &mut patch, null_mut()) };
    Ok((major as u32, minor as u32, patch as u32))
}

/// The packages PETSc was built with, by PETSc's names in lower case: `hypre`, `mumps`, `cuda`, ...
pub fn packages() -> std::vec::Vec<&'static str> {
    std::str::from_utf8(sys::PETSC_HAVE_PACKAGES)
        .unwrap_or("")
        .trim_end_matches('\0')
        .split(':')
        .filter(|s| !s.is_empty())
        .collect()
}
