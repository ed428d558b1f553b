//! The batch job that this process belongs to, from the variables that schedulers set.
//!
//! Imports its sibling `source`. Start at [`Scheduler::find`]; [`Allocation`] and [`Step`] are what SLURM alone tells.

use serde::{Deserialize, Serialize};

use super::source::{Here, Source};

/// A batch job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scheduler {
    /// `slurm`, `pbs`, `lsf` or `sge`.
    pub kind: String,
    /// The job's identifier.
    pub job: String,
    /// The job's name.
    pub name: Option<String>,
    /// The partition or queue.
    pub partition: Option<String>,
    /// Hosts of the job.
    pub nodes: Option<u64>,
    /// Tasks (ranks) that were asked for.
    pub tasks: Option<u64>,
    /// Processors a task.
    pub cpus_per_task: Option<u64>,
    /// The identifier that all members of an array of jobs share.
    pub array: Option<String>,
    /// This job's index in its array.
    pub index: Option<u64>,
    /// How often the job was put back into the queue and started again.
    pub restarts: u64,
    /// When it began and when it will be ended, in seconds since 1970.
    pub start: Option<u64>,
    /// As `start`.
    pub end: Option<u64>,
}

impl Scheduler {
    /// The job of this process, if it is in one.
    pub fn find(source: &dyn Source) -> Option<Scheduler> {
        slurm(source).or_else(|| pbs(source)).or_else(|| lsf(source)).or_else(|| sge(source))
    }

    /// Seconds from a moment to the time limit; `None` where there is none or the scheduler does not tell.
    pub fn left(&self, now: u64) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(now))
    }
}

/// What `sbatch` or `salloc` of SLURM has been given for a program to start ranks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Tasks of all nodes: as many ranks `mpirun` starts when nobody says.
    pub tasks: usize,
    /// Cores of each task, if the job says.
    pub cores: Option<usize>,
}

impl Allocation {
    /// That of the job which this process runs in, `None` outside of SLURM.
    pub fn of_job() -> Option<Allocation> {
        Allocation::find(&Here)
    }

    /// That of a source's process.
    pub fn find(source: &dyn Source) -> Option<Allocation> {
        let job = slurm(source)?;
        // Of the tasks asked for SLURM tells only where they were; of these always.
        let tasks = tasks_of(&source.variable("SLURM_TASKS_PER_NODE")?)?;
        Some(Allocation { tasks, cores: job.cpus_per_task.map(|n| n as usize) })
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

/// Several tasks that `srun` has started at once, this process among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How many.
    pub tasks: usize,
    /// How they are to find each other, if the step says.
    pub mpi: Option<String>,
}

impl Step {
    /// That of this process.
    pub fn of_process() -> Option<Step> {
        Step::find(&Here)
    }

    /// That of a source's process.
    pub fn find(source: &dyn Source) -> Option<Step> {
        // A batch script has no number of a step; the shell of `salloc` has not either.
        source.variable("SLURM_STEP_ID")?.parse::<u32>().ok()?;
        let tasks = source.count("SLURM_STEP_NUM_TASKS").filter(|&tasks| tasks > 1)?;
        Some(Step { tasks: tasks as usize, mpi: source.variable("SLURM_MPI_TYPE") })
    }
}

fn slurm(source: &dyn Source) -> Option<Scheduler> {
    let text = |name: &str| source.variable(name);
    Some(Scheduler {
        kind: "slurm".to_owned(),
        job: text("SLURM_JOB_ID").or_else(|| text("SLURM_JOBID"))?,
        name: text("SLURM_JOB_NAME"),
        partition: text("SLURM_JOB_PARTITION"),
        nodes: source.count("SLURM_JOB_NUM_NODES").or_else(|| source.count("SLURM_NNODES")),
        tasks: source.count("SLURM_NTASKS"),
        cpus_per_task: source.count("SLURM_CPUS_PER_TASK"),
        array: text("SLURM_ARRAY_JOB_ID"),
        index: source.count("SLURM_ARRAY_TASK_ID"),
        restarts: source.count("SLURM_RESTART_COUNT").unwrap_or(0),
        start: source.count("SLURM_JOB_START_TIME"),
        // Far in the future stands for no limit.
        end: source.count("SLURM_JOB_END_TIME").filter(|&end| end > 0 && end < 1 << 40),
    })
}

fn pbs(source: &dyn Source) -> Option<Scheduler> {
    let index = source.count("PBS_ARRAY_INDEX").or_else(|| source.count("PBS_ARRAYID"));
    Some(Scheduler {
        kind: "pbs".to_owned(),
        job: source.variable("PBS_JOBID")?,
        name: source.variable("PBS_JOBNAME"),
        partition: source.variable("PBS_QUEUE"),
        nodes: source.count("PBS_NUM_NODES"),
        tasks: source.count("PBS_NP"),
        array: index.and_then(|_| source.variable("PBS_ARRAY_ID")),
        index,
        ..Scheduler::default()
    })
}

fn lsf(source: &dyn Source) -> Option<Scheduler> {
    // "host1 host2": one word a host and its slots in turn.
    let hosts = source.variable("LSB_MCPU_HOSTS").map(|list| list.split_whitespace().count() as u64 / 2);
    Some(Scheduler {
        kind: "lsf".to_owned(),
        job: source.variable("LSB_JOBID")?,
        name: source.variable("LSB_JOBNAME"),
        partition: source.variable("LSB_QUEUE"),
        nodes: hosts.filter(|&n| n > 0),
        tasks: source.count("LSB_DJOB_NUMPROC"),
        // 0 outside an array.
        index: source.count("LSB_JOBINDEX").filter(|&index| index > 0),
        ..Scheduler::default()
    })
}

fn sge(source: &dyn Source) -> Option<Scheduler> {
    source.variable("SGE_ROOT")?;
    Some(Scheduler {
        kind: "sge".to_owned(),
        job: source.variable("JOB_ID")?,
        name: source.variable("JOB_NAME"),
        partition: source.variable("QUEUE"),
        nodes: source.count("NHOSTS"),
        tasks: source.count("NSLOTS"),
        // "undefined" outside an array.
        index: source.count("SGE_TASK_ID"),
        ..Scheduler::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;

    #[test]
    fn a_member_of_a_slurm_array_that_was_requeued() {
        let machine = [
            ("SLURM_JOB_ID", "812"),
            ("SLURM_JOB_NAME", "beam; rm -rf"),
            ("SLURM_JOB_PARTITION", "main"),
            ("SLURM_JOB_NUM_NODES", "4"),
            ("SLURM_NNODES", "9"),
            ("SLURM_NTASKS", "64"),
            ("SLURM_CPUS_PER_TASK", "2"),
            ("SLURM_ARRAY_JOB_ID", "810"),
            ("SLURM_ARRAY_TASK_ID", "2"),
            ("SLURM_RESTART_COUNT", "1"),
            ("SLURM_JOB_START_TIME", "1700000000"),
            ("SLURM_JOB_END_TIME", "1700003600"),
        ]
        .iter()
        .fold(Stored::default(), |machine, (name, value)| machine.set(name, value));
        let job = Scheduler::find(&machine).expect("a job");
        assert_eq!((job.kind.as_str(), job.job.as_str(), job.nodes), ("slurm", "812", Some(4)));
        assert_eq!((job.tasks, job.cpus_per_task), (Some(64), Some(2)));
        assert_eq!((job.array.as_deref(), job.index, job.restarts), (Some("810"), Some(2), 1));
        assert_eq!((job.left(1_700_003_000), job.left(1_800_000_000)), (Some(600), Some(0)));
        let endless = machine.set("SLURM_JOB_END_TIME", "9223372036854775807");
        assert_eq!(Scheduler::find(&endless).expect("a job").left(0), None);
    }

    #[test]
    fn tasks_of_nodes_add_up() {
        assert_eq!(tasks_of("4"), Some(4));
        assert_eq!(tasks_of("2(x3),1"), Some(7));
        assert_eq!(tasks_of("1,2(x10),3"), Some(24));
        assert_eq!(tasks_of(""), None);
        assert_eq!(tasks_of("2(x"), None);
    }

    #[test]
    fn what_slurm_gives_and_starts() {
        let job = Stored::default().set("SLURM_JOB_ID", "7").set("SLURM_TASKS_PER_NODE", "2(x3),1");
        assert_eq!(Allocation::find(&job), Some(Allocation { tasks: 7, cores: None }));
        let job = job.set("SLURM_CPUS_PER_TASK", "4");
        assert_eq!(Allocation::find(&job), Some(Allocation { tasks: 7, cores: Some(4) }));
        assert_eq!(Allocation::find(&Stored::default().set("SLURM_TASKS_PER_NODE", "4")), None);
        // The script itself is no step, nor is a step of one task one of several.
        assert_eq!(Step::find(&job.set("SLURM_STEP_ID", "batch").set("SLURM_STEP_NUM_TASKS", "4")), None);
        let job = Stored::default().set("SLURM_STEP_ID", "0").set("SLURM_STEP_NUM_TASKS", "1");
        assert_eq!(Step::find(&job), None);
        let job = job.set("SLURM_STEP_NUM_TASKS", "4").set("SLURM_MPI_TYPE", "pmix");
        assert_eq!(Step::find(&job), Some(Step { tasks: 4, mpi: Some("pmix".to_owned()) }));
    }

    #[test]
    fn other_schedulers_are_known() {
        let find = |variables: &[(&str, &str)]| {
            let machine = variables.iter().fold(Stored::default(), |m, (name, value)| m.set(name, value));
            Scheduler::find(&machine)
        };
        let pbs =
            find(&[("PBS_JOBID", "12.head"), ("PBS_QUEUE", "long"), ("PBS_NUM_NODES", "2")]).expect("pbs");
        assert_eq!((pbs.kind.as_str(), pbs.partition.as_deref(), pbs.nodes), ("pbs", Some("long"), Some(2)));
        let lsf =
            find(&[("LSB_JOBID", "5"), ("LSB_MCPU_HOSTS", "a 4 b 8"), ("LSB_JOBINDEX", "0")]).expect("lsf");
        assert_eq!((lsf.kind.as_str(), lsf.nodes, lsf.index), ("lsf", Some(2), None));
        let sge = find(&[("SGE_ROOT", "/x"), ("JOB_ID", "9"), ("SGE_TASK_ID", "undefined")]).expect("sge");
        assert_eq!((sge.kind.as_str(), sge.index), ("sge", None));
        assert_eq!(find(&[("JOB_ID", "9"), ("SLURM_JOB_ID", "")]), None);
    }
}
