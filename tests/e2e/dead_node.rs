//! A node that dies although nobody in the run killed it is a finding, not an accident.

use std::process::Stdio;

use nix::sys::signal::Signal;
use tests::output::Said;
use tests::poll;
use tests::processes::{self, signal};
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_node_that_dies_by_itself_makes_the_run_invalid() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("died");
    let args = ["run", "--nodes", "3", "--time", "60s", "--faults", "none"];
    let child = sandbox.harness(&args, &out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let run = Recorded::at(&out);
    poll::until_true("a load", || run.events_so_far().len() > 500);
    // To the harness a signal from elsewhere looks like any other death that it did not order.
    let nodes = processes::nodes_of(sandbox.path());
    let victim = nodes.iter().find(|node| node.command.contains(" serve 2 ")).unwrap();
    signal(victim.pid, Signal::SIGABRT);
    let said = Said::from_output("harness run", &child.wait_with_output().unwrap()).exits(1);
    assert!(said.stdout.contains("\nINVALID"), "{said}");
    assert_eq!(run.checks("invalid"), ["self_exit"], "{said}");
    let exits = run.nemesis("self_exit");
    assert_eq!((exits.len(), &exits[0]["node"], &exits[0]["status"]), (1, &"n2".into(), &"signal 6".into()));
    sandbox.assert_nothing_left();
}
