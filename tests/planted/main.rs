//! Planted bugs: a node that is known to be wrong must be found out, and for the right reason; the same build without its bug must not.
//! The bound is three runs of 30 s; these are three shorter ones, each with the faults that provoke the bug.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

use std::sync::atomic::AtomicBool;

use checker::Verdict;
use harness::fault::FaultKind;
use harness::run::{Plan, run};
use harness::run_dir::RunDir;
use harness::schedule::Schedule;
use harness::spec::Spec;
use tests::binaries::binaries;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// Runs in which a bug must be found: real processes are not deterministic.
const ATTEMPTS: u32 = 3;

/// Runs the node with `bug` until it is found out, and asserts that one of `checks` did it.
fn check(bug: &str, flags: &str, checks: &[&str]) {
    let sandbox = Sandbox::new();
    let mut told = String::new();
    for attempt in 1..=ATTEMPTS {
        let out = sandbox.out(&format!("{bug}-{attempt}"));
        let args = format!("run --bug {bug} --seed {attempt} {flags}");
        let said = sandbox.run(&args.split_whitespace().collect::<Vec<_>>(), &out);
        sandbox.assert_nothing_left();
        told += &format!("attempt {attempt}: exit {:?}\n{said}\n", said.code);
        assert!(matches!(said.code, Some(0 | 1 | 2)), "{told}");
        if said.code == Some(1) {
            let invalid = Recorded::at(&out).checks("invalid");
            assert!(invalid.iter().any(|name| checks.contains(&name.as_str())), "{invalid:?}\n{told}");
            assert!(said.stdout.contains("\nINVALID"), "{told}");
            return;
        }
    }
    panic!("{bug} was not found in {ATTEMPTS} runs\n{told}");
}

#[test]
fn a03_acknowledged_before_committed_is_a_lost_write() {
    check("A03", "--time 8s --faults kill,partition", &["durability", "linearizability"]);
}

#[test]
fn q01_reads_of_local_state_are_stale() {
    // Many clients: some have to ask a leader that was cut off in the moment before it notices.
    let flags = "--time 8s --nodes 3 --clients 40 --workload register --faults partition";
    check("Q01", flags, &["linearizability"]);
}

#[test]
fn a05_retries_applied_twice_show_in_lists() {
    check("A05", "--time 8s --workload append --faults delay,loss,kill", &["linearizability"]);
}

#[test]
fn e05_a_vote_lost_at_restart_breaks_one_vote_per_term() {
    check("E05", "--time 8s --faults kill", &["one_vote_per_term", "election_safety"]);
}

#[test]
fn r21_acknowledged_before_durable_shows_in_the_trace() {
    check("R21", "--time 6s --faults kill", &["sent_implies_durable", "durability"]);
}

#[test]
fn the_same_build_without_its_bug_is_valid() {
    let sandbox = Sandbox::new();
    let binary = harness::planted::ensure(&binaries().harness).unwrap();
    let spec = Spec {
        time_ms: 8_000,
        faults: vec![FaultKind::Kill, FaultKind::Partition, FaultKind::Delay],
        seed: 21,
        ..Spec::default()
    };
    let dir = RunDir::create(&sandbox.out("honest")).unwrap();
    let schedule = Schedule::plan(&spec);
    let plan = Plan { spec, schedule, dir, binary, command: std::env::args().collect() };
    let finished = run(&plan, &AtomicBool::new(false), &mut |_| ()).unwrap();
    assert_eq!(finished.report.verdict, Verdict::Valid, "{}", finished.report.render());
    sandbox.assert_nothing_left();
}
