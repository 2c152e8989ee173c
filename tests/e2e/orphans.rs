//! Nothing survives a harness, however it dies.

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
