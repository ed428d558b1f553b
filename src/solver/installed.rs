//! What the PETSc that femdd was built with can do.
//!
//! Imports `petsc`. For `femdd doctor`.

/// PETSc's version, as `3.18.5`. Loads it.
///
/// # Errors
/// When it cannot be loaded.
pub fn version() -> Result<String, super::Error> {
    let (major, minor, patch) = petsc::version()?;
    Ok(format!("{major}.{minor}.{patch}"))
}

/// The width of its indices in bits: 32 of them count to 2^31 unknowns.
pub fn index_bits() -> u32 {
    if petsc::INT64 { 64 } else { 32 }
}

/// The packages it was built with, by its names for them: `hypre`, `mumps`, `cuda`, ...
pub fn packages() -> Vec<&'static str> {
    petsc::packages()
}
