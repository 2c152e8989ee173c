//! A recorded schedule can be applied again, to a new cluster.

use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_replay_applies_the_recorded_faults_and_judges_anew() {
    let sandbox = Sandbox::new();
    let (first, second) = (sandbox.out("first"), sandbox.out("second"));
    let args = [
        "run",
        "--nodes",
        "3",
        "--time",
        "4s",
        "--workload",
        "set",
        "--faults",
        "pause,loss",
        "--seed",
        "11",
    ];
    sandbox.run(&args, &first).exits(0);
    let recorded = Recorded::at(&first);
    // What decides is the file, not the seed: one fault was taken out by hand.
    let mut planned: Vec<_> = recorded.lines("schedule.jsonl");
    assert!(planned.len() >= 2);
    let dropped = planned.iter().rposition(|fault| {
        planned.iter().filter(|other| other["fault"]["kind"] == fault["fault"]["kind"]).count() > 1
    });
    dropped.map(|rank| planned.remove(rank));
    let text: String = planned.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(first.join("schedule.jsonl"), text).unwrap();

    let replay = ["replay", first.to_str().unwrap()];
    let said = sandbox.run(&replay, &second).exits(0);
    let replayed = Recorded::at(&second);
    assert_eq!(replayed.lines("schedule.jsonl"), recorded.lines("schedule.jsonl"));
    assert_eq!(replayed.json("run.json")["spec"], recorded.json("run.json")["spec"]);
    assert_eq!(replayed.verdict(), "valid", "{said}");
    // Each planned fault was injected in the replay as in the run, with the same parameters.
    for planned in recorded.lines("schedule.jsonl") {
        let values = replayed.nemesis(planned["fault"]["kind"].as_str().unwrap());
        assert!(values.iter().any(|v| v["id"] == planned["id"] && v["phase"] == "inject"), "{planned}");
    }
    sandbox.run(&["replay", "nothing"], &sandbox.out("third")).exits(3).tells("run.json", "harness run");
    sandbox.assert_nothing_left();
}
