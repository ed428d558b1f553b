//! The library itself: loaded when it is first needed, and then for as long as the process lives.
//!
//! PETSc brings a hundred libraries, whose loading takes longer than many a program that in the end solves without it.
//! Start at [`load`]. A PETSc that there is only as a static library was linked, and there is nothing to load.

use crate::{Error, Result};

/// Has PETSc in the process.
///
/// # Errors
/// [`Error::Library`] where it is not found, or is another version than this program was built with.
#[cfg(petsc_linked)]
pub fn load() -> Result<()> {
    Ok(())
}

#[cfg(not(petsc_linked))]
pub(crate) use shared::functions;
#[cfg(not(petsc_linked))]
pub use shared::load;

#[cfg(not(petsc_linked))]
mod shared {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use libloading::Library;

    use super::{Error, Result};
    use crate::sys::{self, Functions};

    /// The library's file name, and where it was when this program was built.
    const NAME: &str = env!("PETSC_RS_LIBRARY");
    const FOLDER: &str = env!("PETSC_RS_FOLDER");

    static LOADED: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();

    /// Has PETSc in the process.
    ///
    /// # Errors
    /// [`Error::Library`] where it is not found, or is another version than this program was built with.
    pub fn load() -> Result<()> {
        LOADED.get_or_init(find).as_ref().map(|_| ()).map_err(|why| Error::Library(why.clone()))
    }

    /// The addresses of PETSc's functions.
    ///
    /// # Panics
    /// When PETSc cannot be loaded; [`load`] says so before.
    pub(crate) fn functions() -> &'static Functions {
        match LOADED.get_or_init(find) {
            Ok(functions) => functions,
            Err(why) => panic!("{}", Error::Library(why.clone())),
        }
    }

    fn find() -> std::result::Result<Functions, String> {
        // A program that was moved takes it from where the system looks.
        let places: [PathBuf; 2] = [Path::new(FOLDER).join(NAME), NAME.into()];
        let mut why = String::new();
        for place in places {
            // SAFETY: the initialisers of a PETSc and of what it needs, run as they would be at the start of the program.
            match unsafe { Library::new(&place) } {
                Ok(library) => {
                    let functions = table(&library)?;
                    // PETSc may be called until the process ends.
                    std::mem::forget(library);
                    return Ok(functions);
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("{why}: install it, or put its folder in LD_LIBRARY_PATH"))
    }

    /// The functions of a library that has the version of the headers, so that their types are right.
    fn table(library: &Library) -> std::result::Result<Functions, String> {
        type Version = unsafe extern "C" fn(
            *mut crate::PetscInt,
            *mut crate::PetscInt,
            *mut crate::PetscInt,
            *mut crate::PetscInt,
        ) -> sys::PetscErrorCode;
        let (mut major, mut minor, mut patch, mut release) = (0, 0, 0, 0);
        // SAFETY: the same in every version of PETSc; four integers are written.
        unsafe {
            let version: libloading::Symbol<Version> =
                library.get(b"PetscGetVersionNumber\0").map_err(|error| error.to_string())?;
            version(&mut major, &mut minor, &mut patch, &mut release);
        }
        let built = (sys::PETSC_VERSION_MAJOR, sys::PETSC_VERSION_MINOR);
        if (major as u32, minor as u32) != built {
            return Err(format!(
                "{NAME} is PETSc {major}.{minor}.{patch}, this program was built with {}.{}: build it anew",
                built.0, built.1
            ));
        }
        // SAFETY: of the version of the headers; the caller keeps it loaded.
        unsafe { Functions::find(library) }.map_err(|error| error.to_string())
    }
}
