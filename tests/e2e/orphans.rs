//! Nothing survives a harness, however it dies.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::poll;
use tests::processes::{self, signal};
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// Kills `child` with SIGKILL once `nodes` nodes live, one of them stopped, and waits until nobody lives.
fn kill_amid(sandbox: &Sandbox, mut child: Child, nodes: usize, ready: impl FnMut() -> bool) {
    poll::until_true("all nodes", || processes::nodes_of(sandbox.path()).len() == nodes);
    poll::until_true("the run to be under way", ready);
    let stopped = processes::nodes_of(sandbox.path()).remove(0);
    signal(stopped.pid, Signal::SIGSTOP);
    child.kill().unwrap();
    child.wait().unwrap();
    processes::wait_gone(sandbox.path());
    sandbox.assert_nothing_left();
}

#[test]
fn a_killed_run_leaves_no_process_and_a_history_that_can_be_judged() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("killed");
    let run = Recorded::at(&out);
    let args = ["run", "--time", "60s", "--faults", "loss"];
    let child = sandbox.harness(&args, &out).stdout(Stdio::null()).spawn().unwrap();
    kill_amid(&sandbox, child, 5, || run.events_so_far().len() > 500);
    // Nobody settled the cluster and read the end, so nobody may call it valid.
    let said = sandbox.checker(&["check"], &out).exits(2);
    assert!(said.stdout.contains("\nUNKNOWN"), "{said}");
}

#[test]
fn a_killed_campaign_takes_its_runs_and_their_nodes_with_it() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("campaign");
    let args =
        ["campaign", "--runs", "2", "--jobs", "2", "--nodes", "3", "--time", "60s", "--faults", "none"];
    let child = sandbox.harness(&args, &out).stdout(Stdio::null()).spawn().unwrap();
    kill_amid(&sandbox, child, 6, || true);
}

/// Control groups that the harness of this process id made, wherever they are.
fn groups_of(harness: u32) -> Vec<PathBuf> {
    let prefix = format!("whitewater-{harness}-");
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(directory) = left.pop() {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let is_its = entry.file_name().to_string_lossy().starts_with(&prefix);
            if is_its { &mut found } else { &mut left }.push(entry.path());
        }
    }
    found
}

#[test]
fn a_killed_run_leaves_no_control_group_and_a_finished_one_neither() {
    if let Err(error) = harness::group::Groups::probe() {
        println!("skipped: no control groups for memory: {error}");
        return;
    }
    let sandbox = Sandbox::new();
    let out = sandbox.out("killed");
    let run = Recorded::at(&out);
    let args = ["run", "--nodes", "3", "--time", "60s", "--faults", "memory_limit"];
    let child = sandbox.harness(&args, &out).stdout(Stdio::null()).spawn().unwrap();
    let harness = child.id();
    kill_amid(&sandbox, child, 3, || run.events_so_far().len() > 500 && groups_of(harness).len() == 3);
    poll::until_true("the end of the groups", || groups_of(harness).is_empty());
    let out = sandbox.out("finished");
    let args = ["run", "--nodes", "3", "--time", "4s", "--faults", "memory_limit,fd_limit", "--seed", "7"];
    let mut child = sandbox.harness(&args, &out).stdout(Stdio::null()).spawn().unwrap();
    let harness = child.id();
    assert!(child.wait().unwrap().success());
    assert_eq!(groups_of(harness), Vec::<PathBuf>::new());
}
