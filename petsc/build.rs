//! Finds the installed PETSc and makes bindings to the small part of it that this crate uses.
//!
//! A shared library is not linked: it is loaded when the program first needs it, and every function of the bindings
//! calls through a table ([`through_a_table`]). A static one is linked.
//!
//! Looked for in this order: `PETSC_DIR` (and `PETSC_ARCH`), then pkg-config's `PETSc`, or `PETSc64` with
//! the feature `int64` or `PETSC_RS_INT64=1`. The width of `PetscInt` comes from the library found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use quote::{format_ident, quote};
use syn::{FnArg, ForeignItem, Item, Pat};

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
    "Vec(CreateMPI|CreateSeq|Duplicate|Destroy|GetArray|RestoreArray|GetArrayRead|RestoreArrayRead|PlaceArray)",
    "Vec(ResetArray|Norm|Dot|AXPY|AYPX|Set|Copy|Scale|GetLocalSize|GetSize|SetBlockSize)",
    "MatCreate(MPIAIJWithSplitArrays|MPIAIJWithArrays|SeqAIJWithArrays|Shell|IS)",
    "Mat(Destroy|SetOption|SetBlockSize|GetBlockSize|AssemblyBegin|AssemblyEnd|Mult|MultTranspose|Norm)",
    "Mat(GetInfo|GetSize|GetLocalSize|GetType|SetOptionsPrefix|GetDiagonal|Convert|Scale)",
    "Mat(SetNullSpace|SetNearNullSpace|SetTransposeNullSpace|ShellSetOperation|ShellGetContext)",
    "Mat(MPIAIJGetSeqAIJ|SeqAIJGetArray|SeqAIJRestoreArray|ISSetLocalMat)",
    "MatNullSpace(Create|Destroy|Remove|Test)",
    "ISLocalToGlobalMapping(Create|Destroy)",
    "KSP(BuildSolution|GetSolution|Create|Destroy|SetOperators|SetType|GetType|SetOptionsPrefix|SetTolerances|SetNormType)",
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
    /// The shared library and the folder it is in.
    shared: Option<(String, PathBuf)>,
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
    println!("cargo:rustc-check-cfg=cfg(petsc_int64, petsc_linked)");
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
    match &found.shared {
        Some((name, folder)) => {
            println!("cargo:rustc-env=PETSC_RS_LIBRARY={name}");
            println!("cargo:rustc-env=PETSC_RS_FOLDER={}", folder.display());
        }
        None => println!("cargo:rustc-cfg=petsc_linked"),
    }
    generate(&found);
}

/// Locates PETSc, and tells cargo how to link it if it has to be.
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
    let configured = |links: bool| {
        let mut config = pkg_config::Config::new();
        config.atleast_version("3.18").cargo_metadata(links).probe(name).map_err(|e| e.to_string())
    };
    let mut library = configured(false)?;
    // pkg-config keeps the system's own folders to itself.
    let folders = library.link_paths.iter().cloned();
    let folders = folders.chain(pkg_config::get_variable(name, "libdir").ok().map(PathBuf::from));
    let shared = shared_library(&library.libs, &library.version, folders);
    if shared.is_none() {
        library = configured(true)?;
    }
    Ok(Found {
        shared,
        include_paths: library.include_paths,
        link_paths: library.link_paths,
        described: format!("PETSc {} ({name})", library.version),
    })
}

/// The shared library as the loader knows it, `libpetsc.so.3.18`, and the folder it is in.
fn shared_library(
    names: &[String],
    version: &str,
    mut folders: impl Iterator<Item = PathBuf>,
) -> Option<(String, PathBuf)> {
    let name = names.iter().find(|name| name.starts_with("petsc"))?;
    let folder = folders.find(|folder| folder.join(format!("lib{name}.so")).exists())?;
    let numbers: Vec<&str> = version.split('.').take(2).collect();
    let full = format!("lib{name}.so.{}", numbers.join("."));
    let found = if folder.join(&full).exists() { full } else { format!("lib{name}.so") };
    Some((found, folder))
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
    let text =
        if found.shared.is_some() { through_a_table(&bindings.to_string()) } else { bindings.to_string() };
    std::fs::write(out, text).expect("OUT_DIR can be written");
}

/// The bindings with functions of the same names and arguments that call through a table, `Functions`, in place of
/// those that a linker would look for. `Functions::find` fills it from a library; `functions()`, which stands
/// beside the bindings, has it.
fn through_a_table(bindings: &str) -> String {
    let mut file = syn::parse_file(bindings).expect("bindgen writes Rust");
    let (mut fields, mut finds, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    file.items.retain(|item| {
        let Item::ForeignMod(block) = item else { return true };
        for item in &block.items {
            match item {
                ForeignItem::Fn(function) => {
                    let (name, output) = (&function.sig.ident, &function.sig.output);
                    let typed = function.sig.inputs.iter().map(|input| match input {
                        FnArg::Typed(typed) => typed,
                        FnArg::Receiver(_) => unreachable!("a C function has no self"),
                    });
                    let types: Vec<_> = typed.clone().map(|typed| &typed.ty).collect();
                    // Their names may be those of types.
                    let arguments: Vec<_> = typed
                        .enumerate()
                        .map(|(k, typed)| match &*typed.pat {
                            Pat::Ident(_) | Pat::Wild(_) => format_ident!("argument_{k}"),
                            _ => unreachable!("an argument of a C function has a name"),
                        })
                        .collect();
                    let symbol = format!("{name}\0");
                    fields.push(quote!(#name: unsafe extern "C" fn(#(#types),*) #output));
                    finds.push(quote!(#name: *library.get(#symbol.as_bytes())?));
                    calls.push(quote! {
                        pub unsafe fn #name(#(#arguments: #types),*) #output {
                            (functions().#name)(#(#arguments),*)
                        }
                    });
                }
                ForeignItem::Static(variable) => {
                    let (name, kind) = (&variable.ident, &variable.ty);
                    let symbol = format!("{name}\0");
                    fields.push(quote!(#name: usize));
                    finds.push(quote!(#name: *library.get::<*mut #kind>(#symbol.as_bytes())? as usize));
                    calls.push(quote!(pub fn #name() -> *mut #kind { functions().#name as *mut #kind }));
                }
                _ => {}
            }
        }
        false
    });
    let rest = quote!(#file);
    quote! {
        #rest
        pub(crate) struct Functions { #(#fields),* }
        impl Functions {
            /// # Safety
            /// The library is the PETSc that these bindings were made from, and stays loaded.
            pub(crate) unsafe fn find(library: &libloading::Library) -> Result<Functions, libloading::Error> {
                Ok(Functions { #(#finds),* })
            }
        }
        #(#calls)*
    }
    .to_string()
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
