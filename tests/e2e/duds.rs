//! A fault whose effect does not happen, whatever its injector counts, makes a run unknown. Every kind: `harness duds`.

use tests::binaries::binaries;
use tests::output::Said;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_run_with_a_dud_is_unknown_and_names_it() {
    let sandbox = Sandbox::new();
    if Said::of(sandbox.command(&binaries().harness).args(["duds", "--help"])).code != Some(0) {
        println!("skipped: a release build has no duds");
        return;
    }
    // A leader that is told to stop hands over by itself, and nobody may take that for the order.
    for (kind, faults) in [("partition", "partition"), ("transfer", "transfer,rolling_restart")] {
        let out = sandbox.out(kind);
        let args =
            ["run", "--faults", faults, "--dud", kind, "--nodes", "3", "--time", "4s", "--seed", "0x51f2"];
        let said = sandbox.run(&args, &out).exits(2);
        assert!(said.stdout.contains(&format!("no {kind} had an effect")), "{said}");
        let run = Recorded::at(&out);
        let values = run.nemesis(kind);
        let injected =
            |value: &&serde_json::Value| value["phase"] == "inject" && value["outcome"] == "installed";
        assert!(values.iter().any(|value| injected(&value)), "its injector went to work: {values:?}");
        assert!(!values.iter().any(|value| value["bit"] == true), "{values:?}");
        // Its own counters run on: the verdict does not come from their silence.
        let own = if kind == "partition" { "dropped" } else { "orders" };
        assert!(values.iter().any(|value| value["evidence"][own].as_u64() > Some(0)), "{values:?}");
    }
    sandbox.assert_nothing_left();
}
