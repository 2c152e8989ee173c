//! The main job: five nodes, every fault, a verdict, and a run directory that can be judged again.

use serde_json::Value;
use tests::output::Said;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

/// Every kind of fault that a run deals by default.
const KINDS: [&str; 7] = ["kill", "pause", "partition", "loss", "delay", "duplicate", "reorder"];
/// Every check of a run of our own system.
const CHECKS: [&str; 14] = [
    "convergence",
    "coverage",
    "durability",
    "election_safety",
    "leader_append_only",
    "leader_completeness",
    "linearizability",
    "liveness",
    "log_matching",
    "monotonic",
    "one_vote_per_term",
    "self_exit",
    "sent_implies_durable",
    "state_machine_safety",
];

#[test]
fn a_hurt_cluster_is_judged_valid_and_can_be_judged_again() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("main");
    let said = sandbox.run(&["run", "--time", "10s", "--seed", "0x51f2"], &out).exits(0);
    let run = Recorded::at(&out);
    assert_valid_under_every_fault(&said, &run);
    every_file_is_there_and_parses(&run);
    judging_again_gives_the_same_bytes(&sandbox, &run);
    a_forged_history_is_invalid(&sandbox, &run);
    sandbox.assert_nothing_left();
}

/// What the summary and the files of a valid run under all faults say.
pub(crate) fn assert_valid_under_every_fault(said: &Said, run: &Recorded) {
    assert_eq!(run.verdict(), "valid", "{said}");
    let checks = run.json("verdict.json");
    let names: Vec<_> = checks["checks"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, CHECKS);
    for kind in KINDS {
        assert_bit(run, kind);
    }
    let changed = KINDS.iter().flat_map(|kind| run.nemesis(kind));
    assert!(
        changed.into_iter().any(|value| value["evidence"]["leader_changed"] == true),
        "no fault cost a leader its office\n{said}"
    );
    // A tenth of the rate that clients ask for: enough to be a load on the slowest machine.
    assert!(run.operations("ok") >= 1_500, "{} operations\n{said}", run.operations("ok"));
    let phases = run.nemesis("phase");
    assert_eq!(phases.iter().map(|value| &value["phase"]).collect::<Vec<_>>(), ["load", "settle", "final"]);
    assert_eq!(run.nemesis("settle")[0]["outcome"], "served");
}

/// A fault of this kind was injected, healed, and shown to have had an effect, by the evidence that its kind leaves.
fn assert_bit(run: &Recorded, kind: &str) {
    let values = run.nemesis(kind);
    let injected = values.iter().filter(|value| value["phase"] == "inject" && value["outcome"] != "skipped");
    let healed: Vec<_> = values.iter().filter(|value| value["phase"] == "heal").collect();
    assert_eq!(injected.count(), healed.len(), "every {kind} that was injected is healed");
    let counter = match kind {
        "partition" | "loss" => "dropped",
        "delay" => "delayed",
        "duplicate" => "duplicated",
        "reorder" => "reordered",
        _ => "",
    };
    let bit = healed.iter().any(|value| {
        value["bit"] == true && (counter.is_empty() || value["evidence"][counter].as_u64() > Some(0))
    });
    assert!(bit, "no {kind} had an effect: {values:?}");
    let links = matches!(kind, "kill" | "pause");
    assert!(healed.iter().all(|value| value["links"].as_array().is_some_and(|l| l.is_empty() == links)));
}

fn every_file_is_there_and_parses(run: &Recorded) {
    assert_eq!(run.json("run.json")["seed"], "0x51f2");
    let planned = run.lines("schedule.jsonl");
    assert!(planned.len() >= KINDS.len());
    let history = run.lines("history.jsonl");
    assert_eq!(
        (&history[0]["format"], &history[0]["version"]),
        (&"whitewater-history".into(), &"1.0".into())
    );
    for (rank, event) in history[1..].iter().enumerate() {
        assert_eq!(event["index"], rank, "events are ranked without a gap");
    }
    for node in 1..=5 {
        let name = format!("n{node}");
        let file = |file: &str| format!("nodes/{name}/{file}");
        assert_eq!(run.bytes(&file("stdout.log")), b"", "nodes log to stderr");
        assert!(String::from_utf8(run.bytes(&file("stderr.log"))).unwrap().contains("serving on"));
        let state = run.json(&file("state.json"));
        assert!(state["node"] == *name && state["last_applied"].as_u64() > Some(0));
        assert!(state["image"]["hash"].is_string(), "its files tell its whole state: {state}");
        let trace = run.lines(&file("trace.jsonl"));
        assert!(trace[0]["node"] == *name && trace[1]["event"] == "boot", "{name}: {:?}", &trace[..2]);
        assert!(run.path.join(file("data")).is_dir());
    }
}

fn judging_again_gives_the_same_bytes(sandbox: &Sandbox, run: &Recorded) {
    let first = run.bytes("verdict.json");
    std::fs::remove_file(run.path.join("verdict.json")).unwrap();
    let said = sandbox.checker(&["check"], &run.path).exits(0);
    assert!(said.stdout.contains("\nVALID\n"), "{said}");
    assert_eq!(run.bytes("verdict.json"), first, "a deleted verdict comes back identical");
    let json = sandbox.checker(&["check", "--json"], &run.path).exits(0);
    assert_eq!(json.stdout.as_bytes(), first);
    assert_eq!(run.bytes("verdict.json"), first);
}

/// The judge reads the history, not the mood of the run: one final read that shows another value is enough.
fn a_forged_history_is_invalid(sandbox: &Sandbox, run: &Recorded) {
    let mut lines = run.lines("history.jsonl");
    let forged = lines
        .iter_mut()
        .rfind(|event| event["type"] == "ok" && event["f"] == "read" && event["value"].is_i64())
        .unwrap();
    forged["value"] = Value::from(999_999_999);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let path = sandbox.out("forged.jsonl");
    std::fs::write(&path, text).unwrap();
    let said = sandbox.checker(&["check"], &path).exits(1);
    assert!(said.stdout.contains("\nINVALID") && said.stdout.contains("999999999"), "{said}");
    let told = sandbox.checker(&["explain"], &path).exits(1);
    assert!(told.stdout.contains("999999999"), "{told}");
}
