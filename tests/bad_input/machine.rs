//! What the machine can refuse: the directory, the disk.

use std::process::Command;

use serde_json::Value;

use crate::common::{Scratch, femdd, finish};
use crate::{Bad, LIMIT, clean, plain, square_held};

#[test]
fn output_directory_in_the_way() {
    Bad::new(&square_held(""), &["the output directory is not empty", "--output"])
        .with("case.out/notes.txt", "not of femdd")
        .unreported()
        .refused();
    Bad::new(&square_held(""), &["a file of this name is in the way"])
        .with("case.out", "")
        .code(3)
        .unreported()
        .refused();
    // Not even root makes directories there.
    let text = format!("[case]\noutput = \"/proc/femdd\"\n{}", square_held(""));
    Bad::new(&text, &["/proc/femdd: cannot be written"]).code(3).unreported().refused();
}

/// Runs on 1 rank and 4 in a mount namespace of its own, with a file system of 1 MiB for the output.
#[test]
fn disk_that_is_full() {
    let text =
        square_held("[output]\nfields = [\"u\", \"flux\", \"grad\"]\n").replace("[4, 4]", "[150, 150]");
    // SAFETY: reads the process's user.
    let root = unsafe { libc::geteuid() } == 0;
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(if root { &["-m"][..] } else { &["-rm"] }).args(["sh", "-c", script, "sh"]);
        command
    };
    let tried = unshare("mount -t tmpfs -o size=1m none /mnt").output();
    if !tried.is_ok_and(|o| o.status.success()) {
        println!("skipped: file systems cannot be mounted here");
        return;
    }
    for ranks in [1, 4] {
        let scratch = Scratch::new();
        let case = scratch.write("case.toml", &text);
        std::fs::create_dir(scratch.path().join("small")).expect("makes a directory");
        let mut command = unshare(
            "mount -t tmpfs -o size=1m none \"$1/small\" || exit 99; directory=$1; shift; \
             \"$@\"; code=$?; cp \"$directory/small/out/run.json\" \"$directory\"; ls \"$directory/small/out\"; exit $code",
        );
        let direct = femdd();
        let inner = if ranks == 1 { femdd() } else { testing::under_mpirun(&direct, ranks) };
        for (name, value) in inner.get_envs() {
            command.env(name, value.expect("only set, never removed"));
        }
        command.arg(scratch.path()).arg(inner.get_program()).args(inner.get_args());
        command.arg(&case).arg("--output").arg(scratch.path().join("small/out")).args(["--threads", "1"]);
        let ended = finish(command, LIMIT);
        let shown = ended.text();
        assert!(!ended.timed_out && ended.code() == 3, "{ranks} ranks: {shown}");
        let printed = plain(&ended.stderr);
        assert_eq!(printed.matches("no space left on the device").count(), 1, "{shown}");
        assert!(printed.contains("solution.hdf") && printed.contains("needed"), "{shown}");
        clean(&ended, &shown);
        let report = std::fs::read_to_string(scratch.path().join("run.json")).expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["error"]["kind"], "disk-full", "{report:#}");
        assert_eq!(report["status"], "failed", "{report:#}");
        assert!(!ended.stdout.contains("solution.hdf"), "half a file is left: {shown}");
    }
}
