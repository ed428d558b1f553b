//! Starting ranks: under a launcher this process is one; outside, it starts `mpirun` itself.

use std::process::Command;

use crate::case::{Case, MeshSource};

/// This process's rank as the launcher's environment has it; 0 outside a launcher.
pub fn local_rank() -> usize {
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
        .unwrap_or(0)
}

/// DOFs below which another rank costs more than it brings.
const DOFS_PER_RANK: u64 = 20_000;

/// The physical cores this process may use.
pub fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    // Hardware threads of one core share its (package, core) pair.
    let mut cores = std::collections::BTreeSet::new();
    for cpu in 0..allowed {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}")).ok()
        };
        match (read("physical_package_id"), read("core_id")) {
            (Some(package), Some(core)) => cores.insert((package, core)),
            _ => return allowed,
        };
    }
    cores.len().clamp(1, allowed)
}

/// A guess at the number of DOFs, from the box or the size of the mesh file.
fn estimate_dofs(case: &Case) -> u64 {
    let refined = |dim: u32| 1u64 << (dim * case.mesh.refine as u32).min(40);
    let degree = case.degree as u64;
    match &case.mesh.source {
        MeshSource::Box(mesh) => {
            let dim = mesh.size.len();
            let nodes: u64 = mesh.cells.iter().map(|&n| n as u64 * degree + 1).product();
            nodes.saturating_mul(refined(dim as u32)).saturating_mul(case.physics.law.n_components(dim) as u64)
        }
        MeshSource::File(path) => {
            // A tetrahedral mesh takes some 250 bytes of file a vertex.
            let vertices = std::fs::metadata(path).map_or(0, |m| m.len()) / 250;
            let per_vertex = [1, 1, 8, 27, 64][case.degree.min(4)];
            vertices.saturating_mul(per_vertex).saturating_mul(case.physics.law.n_components(3) as u64)
        }
    }
}

/// The ranks to start when the user does not say.
pub fn choose_ranks(case: &Case) -> usize {
    let by_size = (estimate_dofs(case) / DOFS_PER_RANK).max(1);
    physical_cores().min(usize::try_from(by_size).unwrap_or(usize::MAX))
}

/// Starts `mpirun` with this program and its arguments on `ranks` ranks and waits for it.
///
/// # Errors
/// When there is no `mpirun`.
pub fn mpirun(ranks: usize) -> std::io::Result<i32> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("mpirun");
    command.arg("-n").arg(ranks.to_string());
    if ranks > std::thread::available_parallelism().map_or(1, usize::from) {
        command.arg("--oversubscribe");
    }
    // SAFETY: reads the process's user.
    if unsafe { libc::geteuid() } == 0 {
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    // The ranks' own message is what matters; mpirun's banner about the exit code is noise.
    command.arg("--quiet").arg(program).args(std::env::args_os().skip(1));
    let status = command.status()?;
    use std::os::unix::process::ExitStatusExt;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(1)))
}
