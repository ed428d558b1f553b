//! What `femdd doctor` says of the machine, the batch job and the services around it.
//!
//! Imports its sibling `doctor`, and `solver` and `output` for what they were built with. Start at [`machine`] and
//! [`services`].

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use cluster::place::{Place, Scheduler};
use cluster::words::bytes;

use super::doctor::{Findings, Verdict, program};
use crate::output::hdf;
use crate::solver::installed;

/// How long another program or host may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Processors, memory and network of this host, and this process's part of them.
pub(super) fn machine(findings: &mut Findings, place: &Place) {
    let good = Verdict::Good;
    findings.say(good, "host", &format!("{}, {}", place.host, place.cpus.model), "");
    cores(findings, place);
    memory(findings, place);
    // Open MPI's ranks exchange messages through files there; containers often have 64 MiB.
    let shared = Path::new("/dev/shm");
    if let Some(free) = hdf::free_bytes(shared).filter(|_| shared.is_dir()) {
        let mib = free >> 20;
        let verdict = if mib < 256 { Verdict::Weak } else { Verdict::Good };
        let help = "Open MPI needs some MiB a rank there: in a container, start it with --shm-size=1g";
        findings.say(verdict, "/dev/shm", &format!("{mib} MiB free"), help);
    }
    let network = &place.network;
    let ethernet = network.ethernet.map(|speed| format!("network interface of {speed} Mbit/s"));
    match (network.fabric.join(", "), ethernet) {
        (fabric, _) if !fabric.is_empty() => findings.say(Verdict::Good, "network", &fabric, ""),
        (_, Some(ethernet)) => findings.say(Verdict::Good, "network", &ethernet, ""),
        _ => findings.say(Verdict::Absent, "network", "no fabric; no interface tells its speed", ""),
    }
}

fn cores(findings: &mut Findings, place: &Place) {
    let cpus = &place.cpus;
    let mut what = format!(
        "{} physical, {} hardware threads, {} NUMA {}",
        cpus.host_cores,
        cpus.host_threads,
        cpus.numa_nodes,
        if cpus.numa_nodes == 1 { "node" } else { "nodes" }
    );
    if cpus.usable() < cpus.host_cores {
        what += &format!("; {} for this process", cpus.usable());
    }
    let cut = cpus.quota.filter(|&quota| quota < cpus.cores.len() as f64);
    let help = match cut {
        Some(quota) => {
            let group = place.cgroups.key(false);
            format!(
                "the control group {group} gives {quota:.1} processors' worth of time: ranks wait for each other"
            )
        }
        None => String::new(),
    };
    let verdict = if cut.is_some() { Verdict::Weak } else { Verdict::Good };
    findings.say(verdict, "cores", &what, &help);
}

fn memory(findings: &mut Findings, place: &Place) {
    let memory = &place.memory;
    if memory.total == 0 {
        return findings.say(Verdict::Absent, "memory", "/proc/meminfo cannot be read", "");
    }
    let free = memory.available.min(memory.on_host());
    let verdict = if free < 1 << 30 { Verdict::Weak } else { Verdict::Good };
    let mut what = format!("{} available of {}", bytes(memory.available), bytes(memory.total));
    let limits = [
        (memory.cgroup, "by its control group"),
        (memory.scheduler, "by the scheduler"),
        (memory.address_space, "of address space for each process"),
    ];
    for (limit, by) in limits {
        if let Some(limit) = limit {
            what += &format!("; limited to {} {by}", bytes(limit));
        }
    }
    findings.say(verdict, "memory", &what, "less than 1 GiB is available: large cases will not fit");
}

/// GPUs, the batch system and Redis.
pub(super) fn services(findings: &mut Findings, place: &Place) {
    gpus(findings, place);
    batch(findings, place);
    redis(findings);
}

fn gpus(findings: &mut Findings, place: &Place) {
    let gpus = &place.gpus;
    let with_gpu = installed::packages().iter().any(|p| ["cuda", "hip", "kokkos", "sycl"].contains(p));
    let n = gpus.nvidia + gpus.amd;
    if n == 0 {
        return findings.say(Verdict::Absent, "GPU", "none", "");
    }
    let mut what = format!("{} NVIDIA, {} AMD; {} for this process", gpus.nvidia, gpus.amd, gpus.usable);
    if !gpus.names.is_empty() {
        what += &format!(": {}", gpus.names.join("; "));
    }
    if gpus.nvidia > 0 && answer("nvidia-smi", &["-L"]).is_none() {
        what += "; nvidia-smi does not answer";
    }
    if with_gpu {
        findings.say(Verdict::Good, "GPU", &what, "");
    } else {
        findings.say(Verdict::Absent, "GPU", &what, "unused: this PETSc was built without CUDA and HIP");
    }
}

/// What a program prints if it ends well in time.
fn answer(name: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program(name)?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let mut text = String::new();
                child.stdout.take()?.take(1 << 16).read_to_string(&mut text).ok()?;
                return status.success().then(|| text.trim().to_owned());
            }
            Ok(None) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                // It may have ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// This job in words.
fn job(job: &Scheduler) -> String {
    let mut what = format!("{} job {}", job.kind, job.job);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            what += &format!(", {name} {value}");
        }
    };
    add("partition", job.partition.clone());
    add("nodes", job.nodes.map(|n| n.to_string()));
    add("tasks", job.tasks.map(|n| n.to_string()));
    add("index", job.index.map(|n| n.to_string()));
    add("restarts", Some(job.restarts.to_string()).filter(|_| job.restarts > 0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    add("minutes left", job.left(now).map(|left| (left / 60).to_string()));
    what
}

fn batch(findings: &mut Findings, place: &Place) {
    if let Some(found) = &place.scheduler {
        findings.say(Verdict::Good, "batch job", &job(found), "");
    }
    if program("sbatch").is_none() {
        return findings.say(Verdict::Absent, "SLURM", "no sbatch in PATH", "only for batch jobs");
    }
    // A partition, its nodes, how many are up, and the longest time.
    match answer("sinfo", &["--noheader", "--format=%P %D nodes (%F allocated/idle/other/total), up to %l"]) {
        Some(list) if !list.is_empty() => {
            findings.say(Verdict::Good, "SLURM", &list.lines().collect::<Vec<_>>().join("; "), "");
        }
        _ => {
            let help = "only for batch jobs: is slurmctld running, and this host in its configuration?";
            findings.say(Verdict::Absent, "SLURM", "installed, but sinfo does not answer", help);
        }
    }
}

/// Host and port of a Redis address: `redis://user:password@host:port/0`.
fn redis_address(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match host {
        "" => None,
        _ if has_port => Some(host.to_owned()),
        _ => Some(format!("{host}:6379")),
    }
}

/// Whether Redis answers there; asking for a password is an answer.
fn redis_answers(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let Some(address) = address.to_socket_addrs()?.next() else { return Ok(false) };
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"PING\r\n")?;
        let mut said = [0u8; 16];
        let n = stream.read(&mut said)?;
        Ok(said[..n].starts_with(b"+PONG") || said[..n].starts_with(b"-NOAUTH"))
    };
    ask().unwrap_or(false)
}

fn redis(findings: &mut Findings) {
    let url = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let installed = program("redis-server");
    // A password stays out of logs: only host and port are shown.
    let address = match &url {
        Some(url) => redis_address(url),
        None => Some("127.0.0.1:6379".to_owned()),
    };
    let Some(address) = address else {
        let help = "write redis://host:port";
        return findings.say(Verdict::Weak, "Redis", "REDIS_URL names no host", help);
    };
    let answers = redis_answers(&address);
    match (url, installed) {
        _ if answers => findings.say(Verdict::Good, "Redis", &format!("answers at {address}"), ""),
        (Some(_), _) => {
            let help = "is it running, and reachable from here? Without it caches are local";
            findings.say(Verdict::Weak, "Redis", &format!("REDIS_URL: no answer from {address}"), help);
        }
        (None, Some(path)) => {
            let what = format!("{}, not running", path.display());
            findings.say(Verdict::Absent, "Redis", &what, "only for caches shared between machines");
        }
        (None, None) => findings.say(
            Verdict::Absent,
            "Redis",
            "no redis-server in PATH, no REDIS_URL",
            "only for caches shared between machines: apt-get install redis-server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_redis_leave_passwords_out() {
        let address = |url| redis_address(url).unwrap_or_default();
        assert_eq!(address("redis://user:secret@cache.local:7000/0"), "cache.local:7000");
        assert_eq!(address("rediss://cache"), "cache:6379");
        assert_eq!(address("10.0.0.1:1"), "10.0.0.1:1");
        assert_eq!(redis_address("redis://"), None);
    }

    #[test]
    fn an_answer_of_redis_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            for reply in ["+PONG\r\n", "-NOAUTH Authentication required.\r\n", "HTTP/1.1 400\r\n"] {
                let (mut stream, _) = listener.accept().expect("a caller");
                let mut asked = [0u8; 6];
                stream.read_exact(&mut asked).expect("a question");
                assert_eq!(&asked, b"PING\r\n");
                stream.write_all(reply.as_bytes()).expect("answers");
            }
        });
        assert_eq!([(); 3].map(|()| redis_answers(&address)), [true, true, false]);
        server.join().expect("ends");
        assert!(!redis_answers(&address), "nobody is there");
    }

    #[test]
    fn programs_that_hang_are_left() {
        assert_eq!(answer("echo", &["a b"]).as_deref(), Some("a b"));
        assert_eq!(answer("false", &[]), None);
        assert_eq!(answer("no-such-program", &[]), None);
        let begin = Instant::now();
        assert_eq!(answer("sleep", &["60"]), None);
        assert!(begin.elapsed() < 2 * PATIENCE);
    }
}
