//! Finds the installed PETSc and makes bindings to the small part of it that this crate uses.
//!
//! Looked for in this order: `PETSC_DIR` (and `PETSC_ARCH`), then pkg-config's `PETSc`, or `PETSc64` with
//! the feature `int64` or `PETSC_RS_INT64=1`. The width of `PetscInt` comes from the library found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// Everything this crate calls. A short list keeps the bindings readable and quick to compile.
const FUNCTIONS: &[&str] = &[
    "PetscInitialize",
    "PetscFinalize",
    "PetscPushErrorHandler",
    "PetscPopErrorHandler",
    "PetscErrorMessage",
    "PetscGetVersionNumber",
    "PetscHasExternalPackage",
    "PetscMemoryGetCurrentUsage",
    "PetscOptions(InsertString|SetValue|ClearValue|HasName|LeftGet|LeftRestore)",
    "PetscObjectSetName",
    "PetscLogStage(Register|GetId|Push|Pop)",
    "PetscLog(DefaultBegin|EventGetId|EventGetPerfInfo)",
    "Vec(CreateMPI|CreateSeq|Destroy|GetArray|RestoreArray|GetArrayRead|RestoreArrayRead|PlaceArray)",
    "Vec(ResetArray|Norm|Dot|AXPY|AYPX|Set|Copy|Scale|GetLocalSize|GetSize|SetBlockSize)",
    "MatCreate(MPIAIJWithSplitArrays|MPIAIJWithArrays|SeqAIJWithArrays|Shell|IS)",
    "Mat(Destroy|SetOption|SetBlockSize|GetBlockSize|AssemblyBegin|AssemblyEnd|Mult|MultTranspose|Norm)",
    "Mat(GetInfo|GetSize|GetLocalSize|GetType|SetOptionsPrefix|GetDiagonal|Convert|Scale)",
    "Mat(SetNullSpace|SetNearNullSpace|SetTransposeNullSpace|ShellSetOperation|ShellGetContext)",
    "Mat(MPIAIJGetSeqAIJ|SeqAIJGetArray|SeqAIJRestoreArray|ISSetLocalMat)",
    "MatNullSpace(Create|Destroy|Remove|Test)",
    "ISLocalToGlobalMapping(Create|Destroy)",
    "KSP(BuildSolution|Create|Destroy|SetOperators|SetType|GetType|SetOptionsPrefix|SetTolerances|SetNormType)",
    "KSP(SetPCSide|SetInitialGuessNonzero|SetFromOptions|SetUp|Solve|GetIterationNumber|GetResidualNorm)",
    "KSP(GetConvergedReason|SetResidualHistory|GetResidualHistory|MonitorSet|GetPC|SetErrorIfNotConverged)",
    "KSP(ComputeExtremeSingularValues|SetComputeSingularValues|SetReusePreconditioner)",
    "PC(SetType|GetType|SetCoordinates|FactorSetMatSolverType|FactorGetMatSolverType)",
    "PC(SetReusePreconditioner|GetFailedReason)",
    "PCShell(SetContext|GetContext|SetApply|SetApplyTranspose|SetName)",
];

const TYPES: &[&str] = &[
    "PetscInt",
    "PetscReal",
    "PetscScalar",
    "PetscErrorCode",
    "PetscErrorType",
    "PetscBool",
    "PetscOptions",
    "PetscObject",
    "Vec",
    "Mat",
    "MatNullSpace",
    "MatInfo",
    "MatInfoType",
    "MatOption",
    "KSP",
    "KSPNormType",
    "PC",
    "PCSide",
    "PCFailedReason",
    "NormType",
    "InsertMode",
    "ISLocalToGlobalMapping",
];

const CONSTANTS: &[&str] = &["PETSC_COMM_WORLD", "PETSC_HAVE_PACKAGES", "PETSC_VERSION_.*"];

/// A PETSc to build against.
struct Found {
    include_paths: Vec<PathBuf>,
    link_paths: Vec<PathBuf>,
    described: String,
}

fn main() {
    for variable in ["PETSC_DIR", "PETSC_ARCH", "PETSC_RS_INT64", "PKG_CONFIG_PATH", "MPICC", "LIBCLANG_PATH"]
    {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=build.rs");

    let found = find();
    let conf = configuration(&found);
    let defined =
        |name: &str| conf.lines().any(|line| line.trim_start().starts_with(&format!("#define {name} ")));
    if defined("PETSC_USE_COMPLEX") {
        fail(&[
            &format!("{} is built for complex numbers", found.described),
            "This crate needs a build with real scalars (Debian: libpetsc-real-dev).",
        ]);
    }
    if defined("PETSC_USE_REAL_SINGLE") || defined("PETSC_USE_REAL___FLOAT128") {
        fail(&[
            &format!("{} is not built for double precision", found.described),
            "Configure PETSc with --with-precision=double.",
        ]);
    }
    println!("cargo:rustc-check-cfg=cfg(petsc_int64)");
    let int64 = defined("PETSC_USE_64BIT_INDICES");
    if int64 {
        println!("cargo:rustc-cfg=petsc_int64");
    }
    let wanted = env::var_os("CARGO_FEATURE_INT64").is_some() || env_is_set("PETSC_RS_INT64");
    if wanted && !int64 {
        fail(&[
            &format!("64-bit indices were asked for, but {} has 32-bit ones", found.described),
            "Point PETSC_DIR at a build with --with-64-bit-indices, or unset it and install libpetsc64-real-dev.",
        ]);
    }
    // Packages built on this one may want to set a run path: DEP_PETSC_LIB in their build script.
    if let Some(path) = found.link_paths.first() {
        println!("cargo:lib={}", path.display());
    }
    generate(&found);
}

/// Locates PETSc and tells cargo how to link it.
fn find() -> Found {
    if let Some(root) = env::var_os("PETSC_DIR").filter(|v| !v.is_empty()) {
        let mut root = PathBuf::from(root);
        if let Some(arch) = env::var_os("PETSC_ARCH").filter(|v| !v.is_empty()) {
            root.push(arch);
        }
        let pc =
            ["PETSc.pc", "petsc.pc"].iter().map(|f| root.join("lib/pkgconfig").join(f)).find(|p| p.exists());
        let Some(pc) = pc else {
            fail(&[
                &format!(
                    "no lib/pkgconfig/PETSc.pc under {} (from PETSC_DIR and PETSC_ARCH)",
                    root.display()
                ),
                "Correct these variables, or unset them to use the PETSc that pkg-config knows.",
            ]);
        };
        // pkg-config takes a file's path in place of a name.
        return probe(&pc.to_string_lossy())
            .unwrap_or_else(|e| fail(&[&format!("{} cannot be used: {e}", pc.display())]));
    }
    let wide = env::var_os("CARGO_FEATURE_INT64").is_some() || env_is_set("PETSC_RS_INT64");
    let names: &[&str] = if wide { &["PETSc64", "petsc64", "PETSc"] } else { &["PETSc", "petsc"] };
    let mut reasons = Vec::new();
    for name in names {
        match probe(name) {
            Ok(found) => return found,
            Err(e) => reasons.push(e),
        }
    }
    let last = reasons.pop().unwrap_or_default();
    fail(&[
        "PETSc was not found",
        "Debian and Ubuntu:  apt-get install petsc-dev libpetsc-real-dev   (64-bit indices: libpetsc64-real-dev)",
        "Elsewhere:          set PETSC_DIR, and PETSC_ARCH where it applies, to a build with real scalars",
        &format!("pkg-config said: {}", last.lines().next().unwrap_or("nothing")),
    ])
}

fn probe(name: &str) -> Result<Found, String> {
    let library = pkg_config::Config::new().atleast_version("3.18").probe(name).map_err(|e| e.to_string())?;
    Ok(Found {
        include_paths: library.include_paths,
        link_paths: library.link_paths,
        described: format!("PETSc {} ({name})", library.version),
    })
}

/// The text of petscconf.h, where PETSc records how it was configured.
fn configuration(found: &Found) -> String {
    for dir in &found.include_paths {
        let path = dir.join("petscconf.h");
        if let Ok(text) = std::fs::read_to_string(&path) {
            println!("cargo:rerun-if-changed={}", path.display());
            return text;
        }
    }
    fail(&[
        &format!("{}: its headers (petscconf.h) are missing", found.described),
        "Install the development package: libpetsc-real-dev, or libpetsc64-real-dev.",
    ])
}

fn generate(found: &Found) {
    let mpi = build_probe_mpi::probe().unwrap_or_else(|_| {
        fail(&["MPI was not found", "Debian and Ubuntu:  apt-get install libopenmpi-dev openmpi-bin"])
    });
    let mut builder = bindgen::builder()
        .header_contents("petsc_rs.h", "#include <petscksp.h>\n")
        .clang_args(
            mpi.include_paths.iter().chain(&found.include_paths).map(|p| format!("-I{}", p.display())),
        )
        // The same communicator type as rsmpi, so that one can be passed for the other.
        .blocklist_type("MPI_Comm")
        .blocklist_type("ompi_communicator_t")
        .raw_line("use mpi::ffi::MPI_Comm;")
        // Both are doubles here: build.rs refuses other builds.
        .generate_comments(false)
        .layout_tests(false)
        .merge_extern_blocks(true)
        .formatter(bindgen::Formatter::None);
    for f in FUNCTIONS {
        builder = builder.allowlist_function(f);
    }
    for t in TYPES {
        builder = builder.allowlist_type(t);
    }
    for c in CONSTANTS {
        builder = builder.allowlist_var(c);
    }
    let bindings = builder.generate().unwrap_or_else(|e| {
        fail(&[
            &format!("bindings to {} could not be made: {e}", found.described),
            "bindgen needs libclang: on Debian, apt-get install clang libclang-dev",
        ])
    });
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindings.write_to_file(out).expect("OUT_DIR can be written");
}

fn env_is_set(name: &str) -> bool {
    env::var(name).is_ok_and(|v| !v.is_empty() && v != "0")
}

/// Ends the build with lines that say what is wrong and what to do.
fn fail(lines: &[&str]) -> ! {
    eprintln!("\nerror: {}", lines[0]);
    for line in &lines[1..] {
        eprintln!("       {line}");
    }
    eprintln!();
    exit(1)
}
