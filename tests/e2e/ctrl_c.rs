//! Ctrl-C: the first ends the load and still judges, the second ends everything at once.

use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::output::Said;
use tests::poll;
use tests::processes::{self, signal};
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// A run that would take a minute, once a kill was injected and healed under load.
fn amid_a_run(sandbox: &Sandbox, out: &std::path::Path) -> Child {
    let args = ["run", "--nodes", "3", "--time", "60s", "--faults", "kill"];
    let child = sandbox.harness(&args, out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let run = Recorded::at(out);
    poll::until_true("a fault that was healed", || {
        run.events_so_far().iter().any(|event| event["f"] == "kill" && event["value"]["phase"] == "heal")
    });
    child
}

#[test]
fn the_first_heals_drains_and_judges() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("interrupted");
    let child = amid_a_run(&sandbox, &out);
    signal(child.id().cast_signed(), Signal::SIGINT);
    let said = Said::from_output("harness run, interrupted", &child.wait_with_output().unwrap()).exits(0);
    assert!(said.stdout.contains("\nVALID\n") && said.stderr.is_empty(), "{said}");
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid");
    let history = run.lines("history.jsonl");
    let phases: Vec<_> = history.iter().filter(|event| event["f"] == "phase").collect();
    assert_eq!(phases.len(), 3, "load, settle, final");
    assert!(phases[1]["time"].as_u64() < Some(60_000_000_000), "the load ended before its time");
    sandbox.assert_nothing_left();
}

#[test]
fn the_second_ends_it_at_once() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("interrupted");
    let child = amid_a_run(&sandbox, &out);
    // Without a majority the cluster cannot settle: only the second Ctrl-C can end this run within 30 s.
    for node in &processes::nodes_of(sandbox.path())[..2] {
        signal(node.pid, Signal::SIGSTOP);
    }
    signal(child.id().cast_signed(), Signal::SIGINT);
    let run = Recorded::at(&out);
    poll::until_true("the end of the load", || {
        run.events_so_far().iter().any(|event| event["value"]["phase"] == "settle")
    });
    signal(child.id().cast_signed(), Signal::SIGINT);
    Said::from_output("harness run, interrupted twice", &child.wait_with_output().unwrap()).exits(130);
    sandbox.assert_nothing_left();
}
