//! What SLURM says of the job that this process is in: the ranks it gives, and tasks that cannot find each other.
//!
//! Imports nothing. Start at [`Allocation::of_job`].

use std::env::var;

/// What `sbatch` or `salloc` has been given for a program to start ranks in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Tasks of all nodes: as many ranks `mpirun` starts when nobody says.
    pub tasks: usize,
    /// Cores of each task, if the job says.
    pub cores: Option<usize>,
}

impl Allocation {
    /// That of the job which this process runs in, `None` outside of SLURM.
    pub fn of_job() -> Option<Allocation> {
        var("SLURM_JOB_ID").ok()?;
        let tasks = tasks_of(&var("SLURM_TASKS_PER_NODE").ok()?)?;
        let cores = var("SLURM_CPUS_PER_TASK").ok().and_then(|text| text.parse().ok());
        Some(Allocation { tasks, cores })
    }
}

/// The sum of a list such as `2(x3),1`.
fn tasks_of(list: &str) -> Option<usize> {
    let one = |part: &str| -> Option<usize> {
        let (tasks, nodes) = match part.split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        tasks.parse::<usize>().ok()?.checked_mul(nodes)
    };
    list.split(',').map(one).sum()
}

/// The tasks that `srun` has started this process as one of, when there are several.
pub fn tasks_of_step() -> Option<usize> {
    // A batch script has no number of a step; the shell of `salloc` has not either.
    var("SLURM_STEP_ID").ok()?.parse::<u32>().ok()?;
    var("SLURM_STEP_NUM_TASKS").ok()?.parse().ok().filter(|&tasks| tasks > 1)
}

/// Why tasks of one step that are each alone do not run.
pub fn no_pmi(tasks: usize) -> String {
    let kind = var("SLURM_MPI_TYPE").map_or(String::new(), |kind| format!(" (--mpi={kind})"));
    format!(
        "srun started {tasks} tasks, but they cannot find each other{kind}: each would be a run of its own in the same \
         directory\n  use `srun --mpi=pmix` if `srun --mpi=list` has it, else `mpirun femdd run ..` in the batch script, \
         or `femdd run ..` alone\n  for runs that are meant to be separate, give each --ranks 1 and its own --output"
    )
}

/// Whether this task is the one that speaks for its step.
pub fn speaks() -> bool {
    var("SLURM_PROCID").map_or(true, |rank| rank == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_nodes_add_up() {
        assert_eq!(tasks_of("4"), Some(4));
        assert_eq!(tasks_of("2(x3),1"), Some(7));
        assert_eq!(tasks_of("1,2(x10),3"), Some(24));
        assert_eq!(tasks_of(""), None);
        assert_eq!(tasks_of("2(x"), None);
    }
}
