//! A fault that waits for a moment strikes the node whose moment it is, after it: by the record that the node itself wrote.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use harness::run::{Plan, run};
use harness::run_dir::RunDir;
use harness::schedule::Schedule;
use harness::spec::Spec;
use harness::system::whitewater::Whitewater;
use harness::watch::OnViolation;
use serde_json::Value;
use tests::binaries::binaries;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// The leader is killed, and whoever wins the election stops 2 ms later; then the leader of that time stops with a write in flight.
const SCHEDULE: &str = r#"{"id":1,"at_ms":300,"duration_ms":400,"target":"one","anchor":{"after":"leader","offset_us":2000,"within_ms":8000},"fault":{"kind":"pause"}}
{"id":2,"at_ms":400,"duration_ms":2000,"target":"leader","fault":{"kind":"kill"}}
{"id":3,"at_ms":3500,"duration_ms":300,"target":"one","anchor":{"after":"write","offset_us":50,"within_ms":5000},"fault":{"kind":"pause"}}
"#;

#[test]
fn moments_are_struck_after_they_came() {
    let sandbox = Sandbox::new();
    let spec = Spec {
        nodes: 3,
        time_ms: 7_000,
        clients: 6,
        rate: 600,
        faults: Vec::new(),
        seed: 3,
        ..Spec::default()
    };
    let dir = RunDir::create(&sandbox.out("moments")).unwrap();
    let path = sandbox.out("moments.jsonl");
    std::fs::write(&path, SCHEDULE).unwrap();
    let schedule = Schedule::read(&path).unwrap();
    let system = Arc::new(Whitewater::of(&spec, binaries().node.clone()));
    let on_violation = OnViolation::Continue;
    let plan = Plan { spec, schedule, dir: dir.clone(), system, on_violation, command: Vec::new() };
    let finished = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(finished.report.verdict.to_string(), "valid");

    let recorded = Recorded::at(dir.path());
    let pauses = recorded.nemesis("pause");
    let of = |id: u64, phase: &str| {
        pauses.iter().find(|value| value["id"] == id && value["phase"] == phase).unwrap().clone()
    };
    for id in [1, 3] {
        assert_eq!(of(id, "inject")["outcome"], "installed", "{pauses:?}");
        assert_eq!(of(id, "heal")["bit"], true, "{pauses:?}");
    }
    let struck = of(1, "inject");
    let anchor = &struck["evidence"]["anchor"];
    let node = anchor["node"].as_str().unwrap();
    assert_eq!(struck["nodes"], serde_json::json!([node]));
    let (requested, actual) = (&anchor["requested_us"], anchor["actual_us"].as_u64().unwrap());
    assert!(requested == 2_000 && actual >= 2_000, "{anchor}");
    // What the node itself wrote: that it leads, and nothing from when it was stopped to when it was to go on.
    let trace: Vec<Value> = recorded.lines(&format!("nodes/{node}/trace.jsonl"));
    let stamp = |line: &Value| line["at"].as_u64();
    let leads = trace.iter().position(|line| {
        line["event"] == "role" && line["role"] == "leader" && line["term"] == anchor["term"]
    });
    let at = stamp(&trace[leads.expect("it won that election")]).unwrap();
    assert_eq!(anchor["at_ns"], at);
    let stopped = at + (actual + 1) * 1_000;
    let asleep = stopped..stopped + 390_000_000;
    let awake = trace.iter().filter_map(stamp).filter(|at| asleep.contains(at)).count();
    assert_eq!(awake, 0, "it wrote {awake} lines while it was stopped");
    sandbox.assert_nothing_left();
}
