//! PETSc's part in a run: loaded and started by the first solve that needs it, on all ranks at once.
//!
//! Most runs solve with methods of ours and do without. Imports `cluster` and `petsc`. Start at [`start`]; solves ask
//! [`options_given`] and call [`need`].

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};

use cluster::Comm;

use super::Error;

/// The solvers' libraries, for as long as this lives. Ends PETSc on drop if it was started. Not `Send`.
///
/// Collective: dropped on every rank, after all matrices and before MPI ends.
pub struct Session {
    /// Kept alive for `CURRENT`.
    _state: Rc<State>,
}

struct State {
    comm: Comm,
    /// Whether there are options that no case has.
    options: bool,
    /// Whether its log was asked for.
    logs: Cell<bool>,
    petsc: OnceCell<petsc::Session>,
}

thread_local! {
    static CURRENT: RefCell<Weak<State>> = const { RefCell::new(Weak::new()) };
}

/// Where PETSc looks for options besides the command line: variables, and files at home and in the working directory.
const VARIABLES: [&str; 2] = ["PETSC_OPTIONS", "PETSC_OPTIONS_YAML"];
const FILES: [&str; 2] = [".petscrc", "petscrc"];

/// Has solves on the ranks of `comm` start PETSc when they need it. It ends when the value is dropped, after all
/// matrices. Collective.
///
/// # Errors
/// When there is a session already.
pub fn start(comm: &Comm) -> Result<Session, Error> {
    let again = current().is_some();
    if comm.any(again) {
        return Err(petsc::Error::State("the solvers' libraries are in use already").into());
    }
    let options = comm.any(options_elsewhere(comm.is_root()));
    let state =
        Rc::new(State { comm: comm.clone(), options, logs: Cell::new(false), petsc: OnceCell::new() });
    CURRENT.set(Rc::downgrade(&state));
    Ok(Session { _state: state })
}

/// Whether PETSc would find options of its own here. It reads files on the first rank.
fn options_elsewhere(reads_files: bool) -> bool {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let at_home = || home.is_some_and(|home| home.join(FILES[0]).exists());
    VARIABLES.iter().any(|name| std::env::var_os(name).is_some())
        || reads_files && (FILES.iter().any(|name| std::path::Path::new(name).exists()) || at_home())
}

fn current() -> Option<Rc<State>> {
    CURRENT.with_borrow(Weak::upgrade)
}

/// Whether PETSc may have options that this solve was not given: from its variables and files, or from solves before.
pub(super) fn options_given() -> bool {
    petsc::is_running() || current().is_some_and(|state| state.options)
}

/// Starts PETSc now, where some ranks are to solve without the others later: all ranks of the session start it together.
/// Collective.
///
/// # Errors
/// When there is no session, or PETSc cannot be loaded or started.
pub fn ready() -> Result<(), Error> {
    let state = current().ok_or(petsc::Error::State("PETSc is not running"))?;
    need(&state.comm)
}

/// Starts PETSc for a solve of the ranks of `comm` if it does not run. Collective.
///
/// # Errors
/// When there is no session, these are not all of its ranks, or PETSc cannot be loaded or started.
pub(super) fn need(comm: &Comm) -> Result<(), Error> {
    if petsc::is_running() {
        return Ok(());
    }
    let state = current().ok_or(petsc::Error::State("PETSc is not running"))?;
    if comm.size() != state.comm.size() {
        // The others would not come.
        let why = "some ranks solve with PETSc before all have started it: call `ready` on all of them first";
        return Err(petsc::Error::State(why).into());
    }
    let loaded = match petsc::load() {
        Err(petsc::Error::Library(why)) => Err(why),
        _ => Ok(()),
    };
    state.comm.agree(loaded).map_err(petsc::Error::Library)?;
    let session = petsc::initialize(state.comm.raw(), &[])?;
    if state.logs.get() {
        petsc::log_begin()?;
    }
    // There was none: it did not run.
    let _ = state.petsc.set(session);
    Ok(())
}

/// The PETSc options given that nothing has asked for: misspelt ones are among them.
///
/// # Errors
/// PETSc's own.
pub fn unused_options() -> Result<Vec<String>, Error> {
    if petsc::is_running() { Ok(petsc::options_left()?) } else { Ok(Vec::new()) }
}

/// Has PETSc log its events, for [`petsc_events`], from now or from its start. Costs it some percent. Collective.
///
/// # Errors
/// PETSc's own.
pub fn log_petsc() -> Result<(), Error> {
    if let Some(state) = current() {
        state.logs.set(true);
    }
    if petsc::is_running() { Ok(petsc::log_begin()?) } else { Ok(()) }
}

/// What PETSc's events took on this rank since [`log_petsc`]: names, and for each its count, seconds, operations,
/// messages, bytes and reductions. None where it was not needed.
///
/// # Errors
/// PETSc's own, and a log that was not begun.
pub fn petsc_events() -> Result<Vec<(String, [f64; 6])>, Error> {
    if !petsc::is_running() {
        return Ok(Vec::new());
    }
    let row = |e: petsc::Event| {
        (e.name.to_owned(), [e.count as f64, e.seconds, e.flops, e.messages, e.bytes, e.reductions])
    };
    Ok(petsc::events()?.into_iter().map(row).collect())
}
