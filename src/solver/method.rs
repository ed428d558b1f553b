//! The names of methods and what each means to PETSc.

use std::fmt;

use super::{Error, Options, System};

/// Krylov methods, by the name in the case file and PETSc's.
const KRYLOV: &[(&str, &str)] =
    &[("cg", "cg"), ("gmres", "gmres"), ("fgmres", "fgmres"), ("bicgstab", "bcgs"), ("minres", "minres")];

/// Preconditioners by the name in the case file, and whether the result is symmetric for a symmetric matrix.
const PRECONDITIONERS: &[(&str, bool)] = &[
    ("amg", true),
    ("pmg", true),
    ("boomeramg", true),
    ("gamg", true),
    ("asm", true),
    ("ras", false),
    ("ilu", false),
    ("icc", true),
    ("jacobi", true),
    ("bjacobi", true),
    ("sor", true),
    ("none", true),
];

/// Names that the case format reserves.
const PLANNED: &[&str] = &["cg+bddc", "cg+geneo", "feti-dp", "gmres+oras"];

/// A method as a person names it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Chosen from the system.
    Auto,
    /// A sparse factorisation, with a few steps of GMRES around it that refine the solution.
    Direct,
    /// Everything from the PETSc options.
    Petsc,
    /// A Krylov method with a preconditioner, by their names in the case file.
    Iterative {
        /// The Krylov method.
        krylov: &'static str,
        /// The preconditioner.
        preconditioner: &'static str,
        /// Coarsen aggressively on the finest level, where the preconditioner can: less memory and time per
        /// iteration, more iterations.
        aggressive: bool,
    },
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Auto => f.write_str("auto"),
            Method::Direct => f.write_str("direct"),
            Method::Petsc => f.write_str("petsc"),
            Method::Iterative { krylov, preconditioner, .. } => write!(f, "{krylov}+{preconditioner}"),
        }
    }
}

impl Method {
    /// The method of this name; a Krylov method alone has no preconditioner chosen, which is an error.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for a reserved name, [`Error::UnknownMethod`] with the nearest name otherwise.
    pub fn parse(name: &str) -> Result<Method, Error> {
        match name {
            "auto" => return Ok(Method::Auto),
            "direct" => return Ok(Method::Direct),
            "petsc" => return Ok(Method::Petsc),
            _ => {}
        }
        if PLANNED.contains(&name) {
            return Err(Error::NotSupported { name: name.to_owned() });
        }
        if let Some((krylov, preconditioner)) = name.split_once('+') {
            let krylov = KRYLOV.iter().find(|k| k.0 == krylov);
            let preconditioner = PRECONDITIONERS.iter().find(|p| p.0 == preconditioner);
            if let (Some(k), Some(p)) = (krylov, preconditioner) {
                let aggressive = p.0 == "boomeramg";
                return Ok(Method::Iterative { krylov: k.0, preconditioner: p.0, aggressive });
            }
        }
        Err(Error::UnknownMethod { name: name.to_owned(), nearest: nearest(name) })
    }

    pub(super) fn iterative(krylov: &'static str, preconditioner: &'static str) -> Method {
        Method::Iterative { krylov, preconditioner, aggressive: false }
    }

    /// Whether the iteration is that of conjugate gradients, which needs a positive definite matrix.
    pub(super) fn is_cg(&self) -> bool {
        matches!(self, Method::Iterative { krylov: "cg", .. })
    }

    /// The preconditioner's name in the case file.
    pub(super) fn preconditioner(&self) -> Option<&'static str> {
        match self {
            Method::Iterative { preconditioner, .. } => Some(preconditioner),
            _ => None,
        }
    }

    /// Whether the preconditioner is femdd's own and not PETSc's.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.preconditioner(), Some("amg" | "pmg"))
    }

    /// Whether PETSc's preconditioner asks for the near-null space.
    pub(super) fn uses_near_null(&self) -> bool {
        matches!(self, Method::Petsc | Method::Iterative { preconditioner: "gamg" | "amg" | "pmg", .. })
    }

    /// The method without its preconditioner's polynomial part, which degree 1 does not have.
    pub(super) fn at_degree_1(&self) -> Option<Method> {
        match self {
            Method::Iterative { krylov, preconditioner: "pmg", .. } => Some(Method::iterative(krylov, "amg")),
            _ => None,
        }
    }

    /// Refuses what cannot work for this matrix or this PETSc.
    pub(super) fn check(&self, symmetric: bool) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Refused { method: self.to_string(), reason });
        let Method::Iterative { krylov, preconditioner, .. } = self else { return Ok(()) };
        if *krylov == "cg" || *krylov == "minres" {
            if !symmetric {
                return refuse(format!(
                    "{krylov} needs a symmetric matrix; use gmres+{preconditioner} or bicgstab+{preconditioner}"
                ));
            }
            if PRECONDITIONERS.iter().any(|p| p.0 == *preconditioner && !p.1) {
                let instead = if *preconditioner == "ras" { "asm" } else { "icc" };
                return refuse(format!(
                    "{krylov} needs a symmetric preconditioner, and {preconditioner} is not; use {krylov}+{instead} or gmres+{preconditioner}"
                ));
            }
        }
        if *preconditioner == "icc" && !symmetric {
            return refuse(format!("icc factorises symmetric matrices only; use {krylov}+ilu"));
        }
        if *preconditioner == "boomeramg" && !has_package("hypre") {
            return refuse(format!("this PETSc is built without hypre; use {krylov}+gamg"));
        }
        Ok(())
    }

    /// The PETSc options that make up the method, names with their dash.
    pub(super) fn petsc_options(&self, system: &System, opt: &Options) -> Vec<(&'static str, String)> {
        let mut o = Vec::new();
        match self {
            Method::Auto | Method::Petsc => {}
            Method::Direct => direct(system, &mut o),
            Method::Iterative { krylov, preconditioner, aggressive } => {
                let petsc = KRYLOV.iter().find(|k| k.0 == *krylov).map_or(*krylov, |k| k.1);
                let mut set = |name, value: &str| o.push((name, value.to_owned()));
                set("-ksp_type", petsc);
                // The norm that stops the iteration is the true residual's wherever the method can have it.
                match petsc {
                    "cg" => set("-ksp_norm_type", "unpreconditioned"),
                    "minres" => set("-ksp_norm_type", "preconditioned"),
                    _ => {
                        set("-ksp_pc_side", "right");
                        set("-ksp_norm_type", "unpreconditioned");
                    }
                }
                if petsc.ends_with("gmres") {
                    set("-ksp_gmres_restart", "60");
                }
                preconditioner_options(
                    preconditioner,
                    *krylov == "cg" || *krylov == "minres",
                    *aggressive,
                    system,
                    opt,
                    &mut o,
                );
            }
        }
        o
    }
}

/// Whether PETSc was built with a package.
pub(super) fn has_package(name: &str) -> bool {
    petsc::packages().contains(&name)
}

/// Whether a factorisation is possible on this many ranks.
pub(super) fn can_factorise(ranks: usize) -> bool {
    ranks == 1 || has_package("mumps") || has_package("superlu_dist")
}

fn direct(system: &System, o: &mut Vec<(&'static str, String)>) {
    let mut set = |name, value: &str| o.push((name, value.to_owned()));
    set("-ksp_type", "gmres");
    set("-ksp_pc_side", "right");
    set("-ksp_norm_type", "unpreconditioned");
    let mumps = has_package("mumps");
    // LDL^T needs half the memory and work; SuperLU_DIST has LU only.
    set("-pc_type", if system.problem.symmetric && mumps { "cholesky" } else { "lu" });
    if mumps {
        set("-pc_factor_mat_solver_type", "mumps");
        if !system.problem.null.is_empty() {
            // Null pivots are found and skipped instead of dividing by them.
            set("-mat_mumps_icntl_24", "1");
        }
    } else if system.comm.size() > 1 {
        set("-pc_factor_mat_solver_type", "superlu_dist");
    }
}

fn preconditioner_options(
    name: &str,
    symmetric_method: bool,
    aggressive: bool,
    system: &System,
    opt: &Options,
    o: &mut Vec<(&'static str, String)>,
) {
    let mut set = |name, value: &str| o.push((name, value.to_owned()));
    let incomplete = if symmetric_method { "icc" } else { "ilu" };
    match name {
        "boomeramg" => {
            set("-pc_type", "hypre");
            set("-pc_hypre_type", "boomeramg");
            // HMIS with extended+i interpolation cut to 4 entries a row: De Sterck, Yang, Heys, "Reducing
            // complexity in parallel algebraic multigrid preconditioners", 2006; De Sterck et al., 2008.
            set("-pc_hypre_boomeramg_coarsen_type", "HMIS");
            set("-pc_hypre_boomeramg_interp_type", "ext+i");
            set("-pc_hypre_boomeramg_P_max", "4");
            set(
                "-pc_hypre_boomeramg_strong_threshold",
                if system.problem.dimension == 3 { "0.5" } else { "0.25" },
            );
            // One level of aggressive coarsening halves set-up and memory for half as many iterations more, in
            // Poisson's problem at degree 2 as at degree 1; with a velocity or several components it loses.
            if aggressive && system.problem.symmetric && system.block == 1 {
                set("-pc_hypre_boomeramg_agg_nl", "1");
            }
        }
        "gamg" => {
            set("-pc_type", "gamg");
            set("-pc_gamg_type", "agg");
            set("-pc_gamg_agg_nsmooths", if system.problem.symmetric { "1" } else { "0" });
            // Of elasticity's couplings, as GAMG measures them, none is weak.
            let threshold = match (system.block, system.problem.dimension) {
                (1, 3) => "0.01",
                (1, _) => "0.02",
                _ => "0.0",
            };
            set("-pc_gamg_threshold", threshold);
            set("-mg_levels_ksp_type", if system.problem.symmetric { "chebyshev" } else { "richardson" });
            set("-mg_levels_pc_type", if system.problem.symmetric { "jacobi" } else { "sor" });
            set("-mg_levels_ksp_max_it", "2");
        }
        "asm" | "ras" => {
            set("-pc_type", "asm");
            // With a symmetric method both restriction and extension overlap.
            set("-pc_asm_type", if name == "asm" { "basic" } else { "restrict" });
            o.push(("-pc_asm_overlap", opt.overlap.unwrap_or(1).to_string()));
            let mut set = |name, value: &str| o.push((name, value.to_owned()));
            set("-sub_pc_type", incomplete);
            set("-sub_pc_factor_levels", "1");
            if incomplete == "icc" {
                set("-sub_pc_factor_shift_type", "positive_definite");
            }
        }
        // PETSc's own incomplete factorisations run on one rank: one block a rank otherwise.
        "ilu" | "icc" | "bjacobi" => {
            let factor = if name == "bjacobi" { incomplete } else { name };
            set("-pc_type", "bjacobi");
            set("-sub_pc_type", factor);
            if factor == "icc" {
                set("-sub_pc_factor_shift_type", "positive_definite");
            }
        }
        "amg" | "pmg" => set("-pc_type", "shell"),
        other => set("-pc_type", other),
    }
}

/// The known name closest to `name` in edits.
fn nearest(name: &str) -> String {
    let mut known: Vec<String> = ["auto", "direct", "petsc"].map(str::to_owned).to_vec();
    known.extend(KRYLOV.iter().flat_map(|k| PRECONDITIONERS.iter().map(move |p| format!("{}+{}", k.0, p.0))));
    known.into_iter().min_by_key(|k| edits(name, k)).unwrap_or_default()
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.bytes().enumerate() {
            let up = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != cb)).min(up + 1).min(row[j] + 1);
            diagonal = up;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_parses_and_prints_its_name() {
        for k in KRYLOV {
            for p in PRECONDITIONERS {
                let name = format!("{}+{}", k.0, p.0);
                assert_eq!(Method::parse(&name).unwrap().to_string(), name);
            }
        }
        for name in ["auto", "direct", "petsc"] {
            assert_eq!(Method::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn unknown_names_get_the_nearest_one() {
        let nearest = |name: &str| match Method::parse(name) {
            Err(Error::UnknownMethod { nearest, .. }) => nearest,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(nearest("cg+boomerang"), "cg+boomeramg");
        assert_eq!(nearest("gmers+asm"), "gmres+asm");
        assert_eq!(nearest("dircet"), "direct");
    }

    #[test]
    fn reserved_names_say_so() {
        for name in PLANNED {
            let error = Method::parse(name).unwrap_err();
            assert!(error.to_string().contains("not supported yet"), "{error}");
        }
    }

    #[test]
    fn cg_is_refused_where_it_cannot_work() {
        let refused = |name: &str, symmetric| Method::parse(name).unwrap().check(symmetric).is_err();
        assert!(refused("cg+jacobi", false));
        assert!(refused("minres+jacobi", false));
        assert!(refused("cg+ras", true));
        assert!(refused("cg+ilu", true));
        assert!(!refused("cg+jacobi", true));
        assert!(!refused("gmres+ilu", false));
    }
}
