//! A SLURM of four nodes on this machine: munged, slurmctld and four slurmd, with ports, keys and directories of
//! their own, beside whatever SLURM the machine may belong to.
//!
//! Start at [`Cluster::shared`]. Daemons and jobs end with the last test that holds the cluster, and, by a guardian
//! that outlives this process, when it is killed.

use std::ffi::OsStr;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use testing::{Ended, finish};

/// What is in the environment of all that belongs to a cluster.
const MARKER: &str = "FEMDD_TEST_CLUSTER";

/// Names of the nodes. Jobs of the partition `main` stay off the last one, which may be taken down; those of `all` get
/// it first.
pub const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// GPUs that each node claims to have.
pub const GPUS: usize = 2;

/// The cluster, running.
pub struct Cluster {
    directory: PathBuf,
    /// Waits for the end of its standard input to end all the rest.
    guardian: Option<Child>,
}

/// The cluster of the tests that run now.
static CURRENT: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// The cluster that all tests of this program share; `None` with `FEMDD_SLURM=off`.
    ///
    /// # Panics
    /// When SLURM is not installed or does not start.
    pub fn shared() -> Option<Arc<Cluster>> {
        if std::env::var_os("FEMDD_SLURM").is_some_and(|value| value == "off") {
            eprintln!("skipped: FEMDD_SLURM=off");
            return None;
        }
        let mut current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = current.upgrade() {
            return Some(cluster);
        }
        let cluster = Arc::new(Cluster::start());
        *current = Arc::downgrade(&cluster);
        Some(cluster)
    }

    fn start() -> Cluster {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for program in ["munged", "slurmctld", "slurmd", "sbatch"] {
            let found = std::env::split_paths(&path()).any(|folder| folder.join(program).is_file());
            assert!(
                found,
                "{program} is not installed: apt-get install slurm-wlm munge, or FEMDD_SLURM=off to go without"
            );
        }
        let name = format!("femdd-slurm-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        for folder in ["", "munge", "state", "spool", "tmp", "work"] {
            let folder = directory.join(folder);
            std::fs::create_dir(&folder).expect("a fresh directory");
            // Others may look up the socket; munged refuses to work where others may write.
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("permissions");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/guardian.sh");
        let guardian = Command::new("sh")
            .arg(script)
            .arg(&directory)
            .arg(&directory)
            .env_remove(MARKER)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let cluster = Cluster { directory, guardian: Some(guardian) };
        cluster.configure();
        let key = cluster.directory.join("munge/key");
        let munge = |name: &str| cluster.directory.join("munge").join(name);
        let mut munged = cluster.command("munged");
        munged
            .arg("--key-file")
            .arg(key)
            .arg("--socket")
            .arg(munge("socket"))
            .arg("--pid-file")
            .arg(munge("pid"));
        munged.arg("--log-file").arg(munge("log")).arg("--seed-file").arg(munge("seed"));
        cluster.start_daemon(munged);
        let mut controller = cluster.command("slurmctld");
        controller.arg("-c");
        cluster.start_daemon(controller);
        for node in NODES {
            cluster.start_node(node);
        }
        cluster.wait_until("all nodes are idle", Duration::from_secs(60), || {
            let states = cluster.run("sinfo", &["-hN", "-p", "all", "-o", "%T"]);
            states.stdout.lines().filter(|state| *state == "idle").count() == NODES.len()
        });
        cluster
    }

    /// Writes the keys and `slurm.conf`.
    fn configure(&self) {
        let mut key = [0u8; 128];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut key))
            .expect("random bytes");
        let file = self.directory.join("munge/key");
        std::fs::write(&file, key).expect("writes the key");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).expect("permissions");

        let said = |program: &str, argument: &str| {
            let mut command = Command::new(program);
            command.arg(argument);
            finish(command, Duration::from_secs(10)).stdout.trim().to_owned()
        };
        let (host, user) = (said("uname", "-n"), said("id", "-un"));
        let short = host.split('.').next().expect("one part");

        // Nodes of one machine, and all jobs, share this directory of Open MPI's: with something in it, it stays when a
        // job ends while another starts.
        let user_number = said("id", "-u");
        for node in [short].into_iter().chain(NODES) {
            let kept = self.directory.join(format!("tmp/ompi.{node}.{user_number}/kept"));
            std::fs::create_dir_all(kept).expect("a directory");
        }

        // Free now; nothing else on this machine asks for them by number.
        let sockets: Vec<TcpListener> =
            (0..=NODES.len()).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().expect("a port").port()).collect();
        let at = self.directory.display();
        let mut text = format!(
            "ClusterName=femdd\nSlurmctldHost={short}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser={user}\nSlurmdUser={user}\n\
             AuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket={at}/munge/socket,cred_expire=5\n\
             StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool/%n\n\
             SlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd-%n.pid\n\
             SlurmctldLogFile={at}/slurmctld.log\nSlurmdLogFile={at}/slurmd-%n.log\n\
             SlurmdParameters=config_overrides\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nMpiDefault=none\nGresTypes=gpu\n\
             SchedulerType=sched/backfill\nSchedulerParameters=bf_interval=1,sched_interval=1\n\
             JobRequeue=1\nReturnToService=2\nKillWait=10\nSlurmdTimeout=10\nMessageTimeout=10\n",
            ports[0]
        );
        for (k, node) in NODES.iter().enumerate() {
            let weight = if k + 1 == NODES.len() { 1 } else { 10 };
            text += &format!(
                "NodeName={node} NodeHostname={short} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=4000 Gres=gpu:{GPUS} \
                 Weight={weight}\n",
                ports[k + 1]
            );
        }
        text += "PartitionName=main Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP\n\
                 PartitionName=all Nodes=ALL MaxTime=INFINITE State=UP\n";
        std::fs::write(self.directory.join("slurm.conf"), text).expect("writes slurm.conf");
        // Devices that are there: SLURM counts them and gives them out, nobody opens them.
        let gpus = "NodeName=n[1-4] Name=gpu File=/dev/null,/dev/zero\n";
        std::fs::write(self.directory.join("gres.conf"), gpus).expect("writes gres.conf");
    }

    /// Starts the daemon of a node.
    pub fn start_node(&self, node: &str) {
        let mut daemon = self.command("slurmd");
        daemon.args(["-N", node, "-c"]);
        self.start_daemon(daemon);
    }

    /// Starts what goes into the background by itself.
    fn start_daemon(&self, command: Command) {
        let name = command.get_program().display().to_string();
        let ended = finish(command, Duration::from_secs(30));
        assert!(ended.succeeded(), "{name} does not start:\n{}\n{}", ended.text(), self.logs());
    }

    /// A program that sees this SLURM, in the directory for cases.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            // The test itself may run in a job.
            if ["SLURM", "SBATCH", "SALLOC", "SRUN", "PMI"].iter().any(|begin| name_text.starts_with(begin)) {
                command.env_remove(name);
            }
        }
        testing::crowded(&mut command)
            .env("PATH", path())
            .env("SLURM_CONF", self.directory.join("slurm.conf"))
            .env(MARKER, &self.directory)
            .env("TMPDIR", self.directory.join("tmp"))
            .env("FEMDD", env!("CARGO_BIN_EXE_femdd"))
            .env("NO_COLOR", "1")
            // Nodes with different names do not look for each other's shared memory, though it is this machine's.
            .env("OMPI_MCA_btl", "tcp,self")
            .env("OMPI_MCA_pml", "ob1")
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .current_dir(self.work());
        command
    }

    /// The directory for cases, from which jobs are submitted.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Writes a file into a directory of a test; its path.
    pub fn write(&self, test: &str, name: &str, text: &str) -> PathBuf {
        let folder = self.work().join(test);
        std::fs::create_dir_all(&folder).expect("a directory");
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writes a file");
        path
    }

    /// What a program of SLURM says.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        self.run_for(program, arguments, Duration::from_secs(60))
    }

    /// What a program says that takes its time.
    pub fn run_for(&self, program: &str, arguments: &[&str], limit: Duration) -> Ended {
        let mut command = self.command(program);
        command.args(arguments);
        let ended = finish(command, limit);
        assert!(!ended.timed_out, "{program} {arguments:?} hangs:\n{}\n{}", ended.text(), self.logs());
        ended
    }

    /// Submits a script of the folder `slurm/` with arguments before and after its name.
    pub fn submit(self: &Arc<Self>, before: &[&str], script: &str, after: &[&str]) -> Job {
        self.submit_with(self.command("sbatch"), before, script, after)
    }

    /// The same by a command with more in its environment.
    pub fn submit_with(
        self: &Arc<Self>,
        mut command: Command,
        before: &[&str],
        script: &str,
        after: &[&str],
    ) -> Job {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm").join(script);
        command.arg("--parsable").args(before).arg(script).args(after);
        let ended = finish(command, Duration::from_secs(60));
        assert!(ended.succeeded(), "sbatch refuses: {}\n{}", ended.text(), self.logs());
        self.job(ended.stdout.trim())
    }

    /// A job that was submitted otherwise.
    pub fn job(self: &Arc<Self>, id: &str) -> Job {
        Job { cluster: Arc::clone(self), id: id.to_owned() }
    }

    /// Waits until something is so.
    pub fn wait_until(&self, what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !so() {
            let queue = || self.run("squeue", &["-a"]).stdout;
            assert!(begin.elapsed() < limit, "{what}: not within {limit:?}\n{}\n{}", queue(), self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Processes with these in their environment whose program has that name.
    pub fn processes(&self, name: &str, environment: &[(&str, &str)]) -> Vec<i32> {
        let marker = format!("{MARKER}={}", self.directory.display());
        let mut wanted: Vec<String> =
            environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
        wanted.push(marker);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(command) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
            let Ok(variables) = std::fs::read(entry.path().join("environ")) else { continue };
            let has = |text: &String| variables.split(|&byte| byte == 0).any(|one| one == text.as_bytes());
            if command.trim() == name && wanted.iter().all(has) {
                found.push(pid);
            }
        }
        found
    }

    /// What the daemon of a node calls itself by.
    pub fn daemon_of(&self, node: &str) -> i32 {
        let text = std::fs::read_to_string(self.directory.join(format!("slurmd-{node}.pid"))).expect("runs");
        text.trim().parse().expect("a number")
    }

    /// The ends of the daemons' logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut names = vec!["munge/log".to_owned(), "slurmctld.log".to_owned()];
        names.extend(NODES.iter().map(|node| format!("slurmd-{node}.log")));
        for name in names {
            let log = std::fs::read_to_string(self.directory.join(&name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut guardian) = self.guardian.take() {
            drop(guardian.stdin.take());
            let _ = guardian.wait();
        }
    }
}

/// Daemons are where a user's path does not look.
fn path() -> std::ffi::OsString {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(folders).expect("folders of a path")
}

/// Sends a signal to processes.
pub fn signal(processes: &[i32], signal: i32) {
    for &process in processes {
        // SAFETY: the processes belong to the test's own cluster.
        unsafe { libc::kill(process, signal) };
    }
}

/// A batch job.
pub struct Job {
    cluster: Arc<Cluster>,
    /// Its number.
    pub id: String,
}

impl Job {
    /// What `scontrol show job` says under that name, of each task of an array.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let ended = self.cluster.run("scontrol", &["-o", "show", "job", &self.id]);
        let begin = format!("{name}=");
        let of = |line: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(&begin).map(str::to_owned))
        };
        let found: Vec<String> = ended.stdout.lines().filter_map(of).collect();
        assert!(!found.is_empty(), "job {} has no {name}:\n{}", self.id, ended.text());
        found
    }

    /// The same of a job that is no array.
    pub fn field(&self, name: &str) -> String {
        self.fields(name).swap_remove(0)
    }

    /// Waits for its end: the states of its tasks then, and the largest exit code.
    pub fn wait(&self, limit: Duration) -> (String, i32) {
        // Not "unlike RUNNING": a job that is being signalled or put back says so for a moment.
        const OVER: [&str; 8] = [
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "DEADLINE",
            "FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "TIMEOUT",
        ];
        let over = || self.fields("JobState").iter().all(|state| OVER.contains(&state.as_str()));
        self.cluster.wait_until(&format!("job {} is over", self.id), limit, over);
        let code = |text: &String| text.split(':').next().and_then(|code| code.parse().ok()).expect("a code");
        let codes = self.fields("ExitCode").iter().map(code).max().expect("one task");
        let mut states = self.fields("JobState");
        states.dedup();
        (states.join(" "), codes)
    }

    /// What its script and femdd printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.field("StdOut")).unwrap_or_default()
    }

    /// The same of all tasks of an array.
    pub fn logs(&self) -> Vec<String> {
        self.fields("StdOut").iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect()
    }

    /// Its ranks, as processes of this machine; those on one node alone if it is given.
    pub fn ranks(&self, node: Option<&str>) -> Vec<i32> {
        let mut environment = vec![("SLURM_JOB_ID", self.id.as_str())];
        environment.extend(node.map(|node| ("SLURMD_NODENAME", node)));
        let mut ranks = self.cluster.processes("femdd", &environment);
        ranks.sort_unstable();
        ranks
    }
}
