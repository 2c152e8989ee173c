//! Planted bugs: a node that is known to be wrong must be found out, and for the right reason; the same build without its bug must not.
//! The bound is three runs of 30 s; these are three shorter ones, each with the faults that provoke the bug.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod honest_build;
mod on_violation;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use checker::Verdict;
use harness::fault::FaultKind;
use harness::run::{Plan, run};
use harness::run_dir::RunDir;
use harness::schedule::Schedule;
use harness::spec::Spec;
use harness::system::whitewater::Whitewater;
use harness::watch::OnViolation;
use tests::binaries::binaries;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// Runs in which a bug must be found: real processes are not deterministic.
const ATTEMPTS: u32 = 3;

/// The planted bugs, and the checks that may find each: the right reason.
const FOUND_BY: [(&str, &[&str]); 5] = [
    ("A03", &["durability", "linearizability"]),
    ("A05", &["linearizability"]),
    ("E05", &["one_vote_per_term"]),
    ("Q01", &["linearizability"]),
    ("R21", &["sent_implies_durable"]),
];

/// The node with planted bugs. Built here if need be, before a run has to find it: a harness looks for the workspace above its
/// own executable and its working directory, and neither needs to be there in a test.
fn planted_node() -> PathBuf {
    harness::planted::ensure(&binaries().harness).unwrap()
}

/// Runs the node with `bug` until it is found out, and asserts that one of its checks did it.
fn check(bug: &str, flags: &str) {
    let (_, checks) = FOUND_BY.iter().find(|(id, _)| *id == bug).unwrap();
    planted_node();
    let sandbox = Sandbox::new();
    let mut told = String::new();
    for attempt in 1..=ATTEMPTS {
        let out = sandbox.out(&format!("{bug}-{attempt}"));
        let args = format!("run --bug {bug} --seed {attempt} {flags}");
        let said = sandbox.run(&args.split_whitespace().collect::<Vec<_>>(), &out);
        sandbox.assert_nothing_left();
        told += &format!("attempt {attempt}: exit {:?}\n{said}\n", said.code);
        assert!(matches!(said.code, Some(0..=2)), "{told}");
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
    check("A03", "--time 8s --faults kill,partition");
}

#[test]
fn q01_reads_of_local_state_are_stale() {
    // Many clients: some have to ask a leader that was cut off in the moment before it notices.
    let flags = "--time 8s --nodes 3 --clients 40 --workload register --faults partition";
    check("Q01", flags);
}

#[test]
fn a05_retries_applied_twice_show_in_lists() {
    check("A05", "--time 8s --workload append --faults delay,loss,kill");
}

#[test]
fn e05_a_vote_lost_at_restart_breaks_one_vote_per_term() {
    check("E05", "--time 8s --faults kill");
}

#[test]
fn r21_acknowledged_before_durable_shows_in_the_trace() {
    check("R21", "--time 6s --faults kill");
}

#[test]
fn the_readme_names_the_checks_that_find_each_bug() {
    let text = tests::workspace::read("README.md");
    for (bug, checks) in FOUND_BY {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{bug}` |"))).unwrap();
        let cell = row.split('|').nth(3).unwrap();
        assert_eq!(cell.split('`').skip(1).step_by(2).collect::<Vec<_>>(), checks, "{row}");
    }
}

#[test]
fn the_same_build_without_its_bug_is_valid() {
    let binary = planted_node();
    let sandbox = Sandbox::new();
    let spec = Spec {
        time_ms: 8_000,
        faults: vec![FaultKind::Kill, FaultKind::Partition, FaultKind::Delay],
        seed: 21,
        ..Spec::default()
    };
    let dir = RunDir::create(&sandbox.out("honest")).unwrap();
    let schedule = Schedule::plan(&spec);
    let system = Arc::new(Whitewater::of(&spec, binary));
    let on_violation = OnViolation::Stop;
    let plan = Plan { spec, schedule, dir, system, on_violation, command: std::env::args().collect() };
    let finished = run(&plan, &AtomicBool::new(false), &mut |_| ()).unwrap();
    assert_eq!(finished.report.verdict, Verdict::Valid, "{}", finished.report.render());
    sandbox.assert_nothing_left();
}
