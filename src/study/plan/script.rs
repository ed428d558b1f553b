//! A batch script for SLURM from a plan. No value gets into it but through [`quote`] or [`word`].
//!
//! Imports nothing but its siblings' types. Start at [`Job`].

use super::model::Layout;
use crate::study::shell::quote;

/// A name for `#SBATCH` lines, which no shell reads and no quotes protect: letters, digits, `.`, `_` and `-`; other
/// runs of characters become one `_`; never empty, never an option, at most 64 characters.
pub fn word(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => name.push(c),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name: String = name.trim_start_matches(['-', '.']).chars().take(64).collect();
    if name.is_empty() { "femdd".into() } else { name }
}

/// A file name as an argument: one that begins with a dash would be an option.
pub fn path_argument(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_owned() }
}

/// A job to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The case's name.
    pub name: String,
    /// The program, absolute.
    pub program: String,
    /// The case file.
    pub case: String,
    /// Arguments beside it, such as `--set KEY=VALUE`.
    pub arguments: Vec<String>,
    /// Nodes, ranks and threads.
    pub layout: Layout,
    /// Bytes that a node needs.
    pub memory_node: f64,
    /// Seconds that are expected.
    pub seconds: f64,
    /// How many times more it may take.
    pub uncertainty: f64,
    /// What the case writes checkpoints for: a job that is stopped goes on from the last.
    pub restarts: bool,
}

/// Seconds between the warning and the end of a job: for a checkpoint.
pub const WARNING: u64 = 180;

/// How often a job is put back into the queue.
const MOST_STARTS: u32 = 50;

impl Job {
    /// Minutes to ask for: the expected time at its worst, time for a checkpoint, and some more.
    pub fn minutes(&self) -> u64 {
        let worst = self.seconds * self.uncertainty * 1.25 + 2.0 * WARNING as f64;
        (worst / 60.0).ceil().clamp(10.0, 1e6) as u64
    }

    /// MiB a node to ask for: a quarter more than expected.
    pub fn mebibytes(&self) -> u64 {
        (1.25 * self.memory_node / (1u64 << 20) as f64).ceil().max(256.0) as u64
    }

    /// The script's text.
    pub fn script(&self) -> String {
        let Layout { nodes, ranks, threads } = self.layout;
        let (minutes, name) = (self.minutes(), word(&self.name));
        let mut arguments: Vec<String> = vec![quote(&path_argument(&self.case))];
        arguments.extend(self.arguments.iter().map(|argument| quote(argument)));
        arguments.push(format!("--threads {threads}"));
        if self.restarts {
            arguments.push("--restart auto".into());
        }
        let requeue = if self.restarts {
            format!("#SBATCH --signal=B:USR1@{WARNING}\n#SBATCH --requeue\n#SBATCH --open-mode=append\n")
        } else {
            "#SBATCH --no-requeue\n".into()
        };
        format!(
            "#!/bin/bash\n\
             # Written by femdd plan: {ranks} ranks of {threads} threads on {nodes} nodes, expected to take {expected:.0} s.\n\
             # Submit it with: sbatch SCRIPT. Options of sbatch on its command line come before those below.\n\
             #SBATCH --job-name={name}\n\
             #SBATCH --nodes={nodes}\n\
             #SBATCH --ntasks={ranks}\n\
             #SBATCH --ntasks-per-node={per_node}\n\
             #SBATCH --cpus-per-task={threads}\n\
             #SBATCH --hint=nomultithread\n\
             #SBATCH --mem={mebibytes}M\n\
             #SBATCH --time={hours:02}:{rest:02}:00\n\
             #SBATCH --output={name}-%j.log\n\
             {requeue}\
             ##SBATCH --partition=...            # remove one '#' and name yours\n\
             ##SBATCH --account=...\n\
             \n\
             set -euo pipefail\n\
             \n\
             # The modules that femdd was built with.\n\
             # module load gcc openmpi petsc hdf5\n\
             program={program}\n\
             FEMDD=\"${{FEMDD:-$program}}\"\n\
             \n\
             # BLAS threads on top of ranks only take turns.\n\
             export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1\n\
             {directory}\
             \n\
             command=(\"$FEMDD\" run {arguments})\n\
             {start}",
            expected = self.seconds,
            per_node = self.layout.ranks_per_node(),
            mebibytes = self.mebibytes(),
            hours = minutes / 60,
            rest = minutes % 60,
            program = quote(&self.program),
            arguments = arguments.join(" "),
            directory = self.directory(),
            start = self.start(),
        )
    }

    /// Open MPI's files, where the ranks of other jobs may be on the node too.
    fn directory(&self) -> &'static str {
        if self.layout.nodes > 1 || self.layout.ranks == 1 {
            return "";
        }
        "# Jobs that share a node must not share Open MPI's directory: one that ends takes it from one that starts.\n\
         export OMPI_MCA_orte_top_session_dir=\"${TMPDIR:-/tmp}/ompi.${SLURM_JOB_ID:-$$}\"\n"
    }

    /// How the script starts the ranks. One that restarts hands the signal on, and asks for another turn when the
    /// program says that it stopped with a checkpoint (exit code 4).
    fn start(&self) -> String {
        let Layout { ranks, threads, .. } = self.layout;
        // mpirun takes nodes from the allocation; a rank's threads stay on neighbouring cores.
        let start = match ranks {
            1 => String::new(),
            _ => format!("mpirun -n {ranks} --map-by slot:PE={threads} "),
        };
        if !self.restarts {
            return format!("exec {start}\"${{command[@]}}\"\n");
        }
        format!(
            "\n\
             # SLURM signals this shell {WARNING} s before the limit; the ranks write a checkpoint and end with exit code 4.\n\
             asked=\n\
             interrupted=no\n\
             # One signal is passed on; USR1 comes before the limit, TERM from a user. Before the start `$!` is empty.\n\
             ask() {{\n    \
                 if [ -z \"${{!:-}}\" ]; then exit 143; fi\n    \
                 interrupted=yes\n    \
                 if [ -z \"$asked\" ]; then\n        \
                     asked=$1\n        \
                     kill -USR1 \"$!\" 2>/dev/null || true\n    \
                 fi\n\
             }}\n\
             trap 'ask USR1' USR1\n\
             trap 'ask TERM' TERM\n\
             {start}\"${{command[@]}}\" &\n\
             ranks=$!\n\
             # A signal ends `wait` early: go on until the ranks have ended.\n\
             while true; do\n    \
                 code=0\n    \
                 wait \"$ranks\" || code=$?\n    \
                 if [ \"$interrupted\" = no ] || [ \"$code\" -le 128 ]; then break; fi\n    \
                 interrupted=no\n\
             done\n\
             # Stopped with a checkpoint, and not by a user: another turn. slurm/long.sbatch also looks at progress.\n\
             if [ \"$code\" -eq 4 ] && [ \"$asked\" != TERM ] && [ -n \"${{SLURM_JOB_ID:-}}\" ] && \\\n    \
                 [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {MOST_STARTS} ]; then\n    \
                 scontrol requeue \"$SLURM_JOB_ID\"\n\
             fi\n\
             exit \"$code\"\n"
        )
    }
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
