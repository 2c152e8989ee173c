//! A run that goes wrong stops, or stands still for a look, long before its planned end.

use std::process::Stdio;

use nix::sys::signal::Signal;
use tests::output::Said;
use tests::poll;
use tests::processes::{nodes_of, signal};
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use super::{ATTEMPTS, planted_node};

/// A bug that many clients see soon, in runs that nobody would wait for.
const FLAGS: &str = "--bug Q01 --time 30s --nodes 3 --clients 40 --workload register --faults partition";
const PLANNED_NS: u64 = 30_000_000_000;

fn violation(run: &Recorded) -> Option<serde_json::Value> {
    run.events_so_far().into_iter().find(|event| event["f"] == "violation")
}

/// Asserts that the load ended with the violation, and that the judge says the same of the whole history.
fn ended_with_it(out: &std::path::Path, said: &Said) {
    let run = Recorded::at(out);
    let violation = violation(&run).unwrap();
    assert_eq!(run.verdict(), "invalid", "{said}");
    assert!(run.checks("invalid").contains(&"linearizability".to_owned()), "{said}");
    let history = run.lines("history.jsonl");
    let settle = history.iter().find(|event| event["value"]["phase"] == "settle").unwrap();
    let time = |event: &serde_json::Value| event["time"].as_u64().unwrap();
    assert!(violation["value"]["at"].as_u64().unwrap() <= time(&violation), "{violation}");
    assert!(time(settle) < PLANNED_NS, "{settle}");
    let begun = |event: &&serde_json::Value| event["type"] == "invoke" && time(event) > time(&violation);
    // Only the clients of the settling come after it; each worker may have been about to begin one.
    let late = history.iter().filter(begun).filter(|event| time(event) < time(settle)).count();
    assert!(late <= 40, "{late} operations began after the violation");
}

#[test]
fn a_violation_stops_the_run() {
    planted_node();
    let sandbox = Sandbox::new();
    for seed in 1..=ATTEMPTS {
        let out = sandbox.out(&format!("stop-{seed}"));
        let args = format!("run --seed {seed} {FLAGS}");
        let said = sandbox.run(&args.split_whitespace().collect::<Vec<_>>(), &out);
        sandbox.assert_nothing_left();
        if said.stdout.contains("\n  wrong   ") {
            assert_eq!(said.code, Some(1), "{said}");
            return ended_with_it(&out, &said);
        }
    }
    panic!("no violation in {ATTEMPTS} runs");
}

#[test]
fn a_frozen_cluster_stands_still_until_it_was_looked_at() {
    planted_node();
    let sandbox = Sandbox::new();
    for seed in 1..=ATTEMPTS {
        let out = sandbox.out(&format!("freeze-{seed}"));
        let args = format!("run --seed {seed} {FLAGS} --on-violation freeze");
        let mut harness = sandbox.harness(&args.split_whitespace().collect::<Vec<_>>(), &out);
        let mut child = harness.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let run = Recorded::at(&out);
        let mut ended = false;
        poll::until_true("a violation, or the end", || {
            ended = child.try_wait().unwrap().is_some();
            ended || violation(&run).is_some()
        });
        if ended {
            continue;
        }
        let stopped = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        };
        let nodes = nodes_of(sandbox.path());
        assert_eq!(nodes.len(), 3, "all nodes are there: {nodes:?}");
        assert!(nodes.iter().all(|node| stopped(node.pid)), "{nodes:?}");
        let length = run.events_so_far().len();
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        assert!(nodes.iter().all(|node| stopped(node.pid)), "no fault touches them: {nodes:?}");
        // Open operations end as unknown; nothing begins.
        let later = run.events_so_far().split_off(length);
        assert!(later.iter().all(|event| event["type"] != "invoke"), "{later:?}");
        signal(child.id().cast_signed(), Signal::SIGINT);
        let said = Said::from_output("harness run, frozen", &child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(1), "{said}");
        for node in &nodes {
            assert!(said.stdout.contains(&format!(" {}", node.pid)), "{said}");
        }
        sandbox.assert_nothing_left();
        return ended_with_it(&out, &said);
    }
    panic!("no violation in {ATTEMPTS} runs");
}
