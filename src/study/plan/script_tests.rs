//! Scripts and quoting, put through a real shell.

use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;

use super::*;
use crate::study::measure::Scratch;

fn bash(script: &str) -> Output {
    Command::new("bash").arg("-c").arg(script).output().expect("bash runs")
}

/// What a shell makes of a quoted word.
fn through_bash(text: &str) -> Vec<u8> {
    let done = bash(&format!(
        "set -eu; show() {{ printf '%s|' \"$#\"; printf '%s' \"$1\"; }}; show {}",
        quote(text)
    ));
    assert!(done.status.success(), "{text:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

const HOSTILE: [&str; 16] = [
    "",
    "'",
    "''",
    "a'b'c",
    "\"; rm -rf /tmp/nothing; \"",
    "$(touch /tmp/femdd-was-run)",
    "`touch /tmp/femdd-was-run`",
    "a\nb",
    "\n#SBATCH --nodes=1000\n",
    "--version",
    "-",
    "a b\tc",
    "${HOME} $PATH !!",
    "\\' \\\\ \\n",
    "*.toml ? [a-z] ~ {a,b}",
    "näme – 名前 \u{1f600}\r",
];

#[test]
fn hostile_words_are_one_word_each() {
    for text in HOSTILE {
        assert_eq!(through_bash(text), format!("1|{text}").into_bytes(), "{text:?}");
    }
    assert!(!Path::new("/tmp/femdd-was-run").exists());
    assert_eq!(quote("a\0b"), "'ab'");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_word_is_one_word(text in "[^\0]{0,40}") {
        prop_assert_eq!(through_bash(&text), format!("1|{text}").into_bytes());
    }

    #[test]
    fn quotes_and_specials_are_one_word(text in "['\"\\\\$`!\n#;&|<>() a*?-]{0,30}") {
        prop_assert_eq!(through_bash(&text), format!("1|{text}").into_bytes());
    }

    #[test]
    fn a_name_is_one_harmless_word(text in any::<String>()) {
        let name = word(&text);
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        prop_assert!(!name.is_empty() && name.len() <= 64 && name.chars().all(harmless));
        prop_assert!(!name.starts_with('-') && !name.starts_with('.'));
    }
}

fn job(name: &str, restarts: bool, ranks: usize) -> Job {
    Job {
        name: name.into(),
        program: "/opt/femdd it's/bin/femdd".into(),
        case: name.into(),
        arguments: vec!["--set".into(), format!("case.title={name}")],
        layout: Layout { nodes: 1, ranks, threads: 2 },
        memory_node: 3e9,
        seconds: 100.0,
        uncertainty: 1.5,
        restarts,
    }
}

#[test]
fn scripts_parse_and_keep_their_options_whatever_the_name() {
    for name in HOSTILE {
        for restarts in [false, true] {
            let text = job(name, restarts, 4).script();
            let checked = Command::new("bash").args(["-n", "-c", &text]).output().expect("bash runs");
            assert!(checked.status.success(), "{name:?}: {}", String::from_utf8_lossy(&checked.stderr));
            // SLURM reads options up to the first line that is no comment.
            let head: Vec<&str> =
                text.lines().take_while(|line| line.is_empty() || line.starts_with('#')).collect();
            let options: Vec<&&str> = head.iter().filter(|line| line.starts_with("#SBATCH")).collect();
            assert_eq!(options.len(), if restarts { 12 } else { 10 }, "{options:?}");
            let nodes: Vec<_> = options.iter().filter(|line| line.contains("--nodes=")).collect();
            assert_eq!(nodes, [&&"#SBATCH --nodes=1"]);
        }
    }
}

#[test]
fn limits_have_a_margin() {
    let job = job("a", false, 4);
    assert_eq!(job.minutes(), 10, "100 s at 1.5 and a quarter more, and 6 min");
    assert_eq!(Job { seconds: 36_000.0, ..job.clone() }.minutes(), 1131);
    assert!(job.mebibytes() as f64 * 1048576.0 >= 1.25 * job.memory_node);
    let text = Job { seconds: 36_000.0, ..job }.script();
    assert!(text.contains("#SBATCH --time=18:51:00\n"), "{text}");
}

/// Runs the script with programs of its own in place of `mpirun`, `scontrol` and femdd, which write what they got.
fn run(job: &Job, femdd: &str) -> (String, Option<i32>) {
    run_script(&job.script(), femdd)
}

fn run_script(script: &str, femdd: &str) -> (String, Option<i32>) {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new().expect("a folder");
    let program = |name: &str, text: &str| {
        let path = scratch.0.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    };
    program("femdd", femdd);
    program("mpirun", "#!/bin/bash\necho \"mpirun $1 $2 $3 $4\"\nshift 4\nexec \"$@\"\n");
    program("scontrol", "#!/bin/bash\necho \"scontrol $*\"\n");
    std::fs::write(scratch.0.join("job.sh"), script).expect("written");
    let path = format!("{}:{}", scratch.0.display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("bash")
        .arg(scratch.0.join("job.sh"))
        .env("PATH", path)
        .env("FEMDD", scratch.0.join("femdd"))
        .env("SLURM_JOB_ID", "77")
        .current_dir(&scratch.0)
        .output()
        .expect("bash runs");
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code())
}

const SHOW: &str = "#!/bin/bash\nprintf '<%s>' \"$@\"\n";

#[test]
fn the_program_gets_what_was_meant() {
    for name in HOSTILE {
        let (out, code) = run(&job(name, false, 1), SHOW);
        let case = path_argument(name);
        assert_eq!(out, format!("<run><{case}><--set><case.title={name}><--threads><2>"));
        assert_eq!(code, Some(0));
    }
    let (out, _) = run(&job("a", false, 4), SHOW);
    assert!(out.starts_with("mpirun -n 4 --map-by slot:PE=2\n<run>"), "{out}");
    // Jobs on a node of their own have Open MPI's directory to themselves; on several nodes its name holds the host's.
    let show = "#!/bin/bash\necho \"${OMPI_MCA_orte_top_session_dir##*/}\"\n";
    assert!(run(&job("a", false, 4), show).0.ends_with("\nompi.77\n"));
    let mut wide = job("a", false, 4);
    wide.layout.nodes = 2;
    assert!(run(&wide, show).0.ends_with("\n\n"));
}

#[test]
fn a_stopped_run_is_queued_again_and_a_failed_one_is_not() {
    let (out, code) = run(&job("a", true, 1), "#!/bin/bash\nprintf '<%s>' \"$@\"\nexit 4\n");
    assert!(out.contains("<--restart><auto>") && out.ends_with("scontrol requeue 77\n"), "{out}");
    assert_eq!(code, Some(4));
    let (out, code) = run(&job("a", true, 1), "#!/bin/bash\nexit 3\n");
    assert_eq!((out.as_str(), code), ("", Some(3)));
}

#[test]
fn the_signal_reaches_the_program_and_is_waited_for() {
    // The program tells its grandparent's shell nothing: it signals the script, as SLURM does, and takes its time.
    let femdd = "#!/bin/bash\ntrap 'sleep 0.2; echo saved; exit 4' USR1\nkill -USR1 \"$PPID\"\n\
                 for _ in $(seq 100); do sleep 0.05; done\nexit 0\n";
    let (out, code) = run(&job("a", true, 1), femdd);
    assert_eq!((out.as_str(), code), ("saved\nscontrol requeue 77\n", Some(4)));
}

#[test]
fn a_signal_before_the_start_ends_the_job() {
    let traps = "trap 'ask TERM' TERM\n";
    let script = job("a", true, 1).script();
    assert_eq!(script.matches(traps).count(), 1, "{script}");
    let early = script.replace(traps, &format!("{traps}kill -TERM $$\n"));
    assert_eq!(run_script(&early, SHOW), (String::new(), Some(143)));
}
