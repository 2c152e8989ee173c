//! The command line as a person meets it: exit codes, channels and errors that name the thing and the way out.
//! Runs of real clusters are in the workspace's `tests/`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn harness(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(args).current_dir(dir).output().expect("the harness starts")
}

/// Runs a command line; its exit code, and what it must say on stderr.
fn check(args: &[&str], code: i32, said: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = harness(args, dir.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} failed, and yet prints a result");
    for said in said {
        assert!(stderr.contains(said), "{args:?} does not say {said:?}: {stderr}");
    }
    assert!(dir.path().read_dir().expect("it is there").next().is_none(), "{args:?} left files");
}

#[test]
fn wrong_usage_is_64_and_names_what_is_wrong() {
    check(&[], 64, &["Usage: harness <COMMAND>"]);
    check(&["rune"], 64, &["error: unrecognized subcommand 'rune'"]);
    check(&["run", "--faults", "kill,fire"], 64, &["no fault is called \"fire\"", "kill, pause, partition"]);
    check(&["run", "--seed", "xyz"], 64, &["--seed", "0x51f2"]);
    check(&["run", "--nodes", "10"], 64, &["--nodes", "1..=9"]);
    check(&["campaign"], 64, &["--runs", "--budget"]);
    check(&["bench"], 64, &["node"]);
}

#[test]
fn an_error_of_the_tool_is_3_with_a_hint() {
    check(
        &["replay", "runs/none"],
        3,
        &["error: ", "runs/none/run.json", "\n\nhint: name a directory that `harness run` made"],
    );
}

#[test]
fn a_system_that_is_not_there_or_cannot_do_what_is_asked_is_told_with_the_way_out() {
    check(&["run", "--system", "etdc"], 3, &["error: there is no description \"etdc\"", "hint: ", "etcd"]);
    check(
        &["run", "--system", "etcd", "--binary", "none/etcd"],
        3,
        &["none/etcd", "hint: ", "--binary FILE"],
    );
    let etcd = ["run", "--system", "etcd", "--binary", "/bin/sh"];
    let duplicate = [&etcd[..], &["--net", "proxy", "--faults", "duplicate"]].concat();
    check(&duplicate, 3, &["cannot have the fault duplicate", "datagrams", "hint: it can have kill, pause"]);
    check(&["run", "--profile", "strom"], 3, &["there is no profile \"strom\"", "storm"]);
    check(&["run", "--binary", "etcd"], 64, &["--system"]);
}

#[test]
fn help_version_and_list_are_results_and_a_closed_stdout_is_no_failure() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["list"]] {
        let output = harness(args, dir.path());
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");

        let mut child = Command::new(env!("CARGO_BIN_EXE_harness"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the harness starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{args:?} into a closed pipe");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?} into a closed pipe");
    }
}
