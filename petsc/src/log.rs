//! PETSc's log: stages (`-log_view`), what its events took, and memory.
//!
//! Start at [`log_begin`] and [`events`].

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
        if crate::session::is_running() {
            // SAFETY: balances the push that made this value; a failure would only blur the log.
            let _ = check(unsafe { sys::PetscLogStagePop() });
        }
    }
}

/// The events that are read: what solvers and preconditioners are made of.
const EVENTS: &[&str] = &[
    "KSPSolve",
    "KSPSetUp",
    "KSPGMRESOrthog",
    "PCSetUp",
    "PCSetUpOnBlocks",
    "PCApply",
    "PCApplyOnBlocks",
    "PCApplyCoarse",
    "PCApplyMultiple",
    "PCMPI",
    "PCGAMGGraph_AGG",
    "PCGAMGCoarse_AGG",
    "PCGAMGProl_AGG",
    "PCGAMGPOpt_AGG",
    "PCGAMGCreateG",
    "PCGAMGFilter",
    "PCGAMGMIS/Agg",
    "PCGAMGProl",
    "PCGAMGProlOpt",
    "PCGAMGSmooth",
    "PCGAMGLevel",
    "PCGAMGPtAP",
    "MatMult",
    "MatMultAdd",
    "MatMultTranspose",
    "MatSolve",
    "MatSolves",
    "MatSOR",
    "MatLUFactorSym",
    "MatLUFactorNum",
    "MatCholFctrSym",
    "MatCholFctrNum",
    "MatILUFactorSym",
    "MatICCFactorSym",
    "MatPtAP",
    "MatPtAPSymbolic",
    "MatPtAPNumeric",
    "MatMatMult",
    "MatTrnMatMult",
    "MatConvert",
    "MatCoarsen",
    "MatAssemblyBegin",
    "MatAssemblyEnd",
    "MatCreateSubMat",
    "MatCreateSubMats",
    "MatGetOrdering",
    "MatIncreaseOvrlp",
    "MatResidual",
    "VecDot",
    "VecTDot",
    "VecMDot",
    "VecNorm",
    "VecScale",
    "VecCopy",
    "VecSet",
    "VecAXPY",
    "VecAYPX",
    "VecAXPBYCZ",
    "VecWAXPY",
    "VecMAXPY",
    "VecPointwiseMult",
    "VecScatterBegin",
    "VecScatterEnd",
    "VecReduceArith",
    "VecReduceComm",
    "VecNormalize",
    "SFSetUp",
    "SFBcastBegin",
    "SFBcastEnd",
    "SFReduceBegin",
    "SFReduceEnd",
];

/// What one kind of PETSc's events took on this rank, those within it included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// PETSc's name of it.
    pub name: &'static str,
    /// How often it ran.
    pub count: u64,
    /// Seconds.
    pub seconds: f64,
    /// Floating point operations.
    pub flops: f64,
    /// Messages sent and received.
    pub messages: f64,
    /// Bytes in them.
    pub bytes: f64,
    /// Reductions over the ranks.
    pub reductions: f64,
}

/// Has PETSc log its events from here on; twice does no harm. Collective.
pub fn log_begin() -> Result<()> {
    // SAFETY: PETSc runs; it starts its default log, or goes on with it.
    check(unsafe { sys::PetscLogDefaultBegin() })
}

/// What PETSc's events took on this rank outside of stages of one's own, in a fixed order; those that never ran are
/// left out. Needs [`log_begin`].
pub fn events() -> Result<std::vec::Vec<Event>> {
    let mut found = std::vec::Vec::new();
    for &name in EVENTS {
        let text = c_string(name);
        let mut id: sys::PetscLogEvent = -1;
        // SAFETY: the name is read; one integer written, -1 for a name that this PETSc does not have.
        check(unsafe { sys::PetscLogEventGetId(text.as_ptr(), &mut id) })?;
        if id < 0 {
            continue;
        }
        let mut info = std::mem::MaybeUninit::<sys::PetscEventPerfInfo>::zeroed();
        // SAFETY: the main stage always exists; a registered event; the record is copied into ours, which holds
        // plain numbers, for which zeros are values.
        let info = unsafe {
            check(sys::PetscLogEventGetPerfInfo(0, id, info.as_mut_ptr()))?;
            info.assume_init()
        };
        if info.count > 0 {
            found.push(Event {
                name,
                count: info.count as u64,
                seconds: info.time,
                flops: info.flops,
                messages: info.numMessages,
                bytes: info.messageLength,
                reductions: info.numReductions,
            });
        }
    }
    Ok(found)
}

/// The memory this process uses now, in bytes.
pub fn memory() -> Result<f64> {
    let mut bytes: sys::PetscLogDouble = 0.0;
    // SAFETY: one number written.
    check(unsafe { sys::PetscMemoryGetCurrentUsage(&mut bytes) })?;
    Ok(bytes)
}
