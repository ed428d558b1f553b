//! Stages in PETSc's log (`-log_view`), and memory.

use crate::error::{c_string, check};
use crate::{Result, sys};

/// A named part of the run in PETSc's log. Dropping the guard from [`LogStage::enter`] ends it.
#[derive(Debug, Clone, Copy)]
pub struct LogStage(sys::PetscLogStage);

/// A stage that is running. Ends it on drop.
#[derive(Debug)]
pub struct Entered(());

impl LogStage {
    /// The stage of this name, registered on first use.
    ///
    /// Collective: the same names in the same order on all ranks.
    pub fn new(name: &str) -> Result<LogStage> {
        let name = c_string(name);
        let mut stage: sys::PetscLogStage = -1;
        // SAFETY: names are copied; one integer written. An unknown name gives -1.
        unsafe {
            check(sys::PetscLogStageGetId(name.as_ptr(), &mut stage))?;
            if stage < 0 {
                check(sys::PetscLogStageRegister(name.as_ptr(), &mut stage))?;
            }
        }
        Ok(LogStage(stage))
    }

    /// Starts the stage, inside whatever stage runs now.
    pub fn enter(self) -> Result<Entered> {
        // SAFETY: a registered stage.
        check(unsafe { sys::PetscLogStagePush(self.0) })?;
        Ok(Entered(()))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if crate::session::running() {
            // SAFETY: balances the push that made this value; a failure would only blur the log.
            let _ = check(unsafe { sys::PetscLogStagePop() });
        }
    }
}

/// The memory this process uses now, in bytes.
pub fn memory() -> Result<f64> {
    let mut bytes: sys::PetscLogDouble = 0.0;
    // SAFETY: one number written.
    check(unsafe { sys::PetscMemoryGetCurrentUsage(&mut bytes) })?;
    Ok(bytes)
}
