//! Links that are bad for good: every datagram between nodes may be lost, comes twice and is held back, from the first second of
//! the load to the last. The cluster stays linearizable, and it goes on.

use serde_json::{Value, json};
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// Operations that must succeed while the links are bad. On a machine that does nothing else it is about a thousand.
const OK_MIN: usize = 50;

#[test]
fn a_cluster_goes_on_over_links_that_lose_duplicate_and_reorder_everything() {
    let sandbox = Sandbox::new();
    let (calm, bad) = (sandbox.out("calm"), sandbox.out("bad"));
    let args = ["run", "--nodes", "3", "--time", "8s", "--rate", "200", "--faults", "none", "--seed", "5"];
    sandbox.run(&args, &calm).exits(0);
    let fault = |id: u32, fault: Value| {
        json!({"id": id, "at_ms": 500, "duration_ms": 7_000, "target": "all", "fault": fault}).to_string()
            + "\n"
    };
    let planned = [
        fault(1, json!({"kind": "loss", "percent": 30, "direction": "both"})),
        fault(2, json!({"kind": "duplicate", "percent": 100, "within_ms": 200, "direction": "both"})),
        fault(3, json!({"kind": "reorder", "percent": 50, "hold_ms": 200, "direction": "both"})),
    ];
    std::fs::write(calm.join("schedule.jsonl"), planned.concat()).unwrap();
    let said = sandbox.run(&["replay", calm.to_str().unwrap()], &bad).exits(0);
    let recorded = Recorded::at(&bad);
    assert_eq!(recorded.verdict(), "valid", "{said}");
    for kind in ["loss", "duplicate", "reorder"] {
        let healed = recorded.nemesis(kind).into_iter().filter(|value| value["phase"] == "heal");
        assert!(healed.into_iter().any(|value| value["bit"] == true), "{kind} had no effect: {said}");
    }
    let history = recorded.lines("history.jsonl");
    let at = |phase: &str, from_the_end: bool| {
        let is = |event: &&Value| event["process"] == "nemesis" && event["value"]["phase"] == phase;
        let event = if from_the_end { history.iter().rfind(is) } else { history.iter().find(is) };
        event.unwrap()["time"].as_u64().unwrap()
    };
    let (all_bad, first_healed) = (at("inject", true), at("heal", false));
    let ok = history.iter().filter(|event| event["process"] != "nemesis" && event["type"] == "ok");
    let meanwhile =
        ok.filter(|event| (all_bad..first_healed).contains(&event["time"].as_u64().unwrap())).count();
    assert!(meanwhile >= OK_MIN, "{meanwhile} operations succeeded over bad links: {said}");
    sandbox.assert_nothing_left();
}
