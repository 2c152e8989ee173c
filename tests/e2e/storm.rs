//! Every kind of fault that our node can have over proxies, but those of disks, up to five at a time: still valid, and each kind is
//! seen to have had an effect.

use harness::fault::{FaultKind, Shape};
use harness::system::Transport;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_storm_of_every_fault_is_valid_and_every_kind_bites() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("storm");
    let said = sandbox
        .run(
            &[
                "run",
                "--profile",
                "storm",
                "--disk",
                "real",
                "--time",
                "20s",
                "--seed",
                "0x57",
                "--net",
                "proxy",
            ],
            &out,
        )
        .exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    let shape = Shape {
        has_commands: false,
        unsynced_in_memory: false,
        nodes: 5,
        transport: Transport::Udp,
        hosts: false,
        clocks: harness::clock::is_possible(),
        survives_wipe: false,
        takes_orders: true,
        installs_snapshots: true,
        // Twenty seconds are too short for more kinds; `disks` has those.
        disks: false,
        groups: harness::group::Groups::probe().is_ok(),
    };
    for kind in FaultKind::ALL.into_iter().filter(|kind| kind.possible(shape)) {
        let values = run.nemesis(kind.name());
        assert!(values.iter().any(|value| value["bit"] == true), "no {kind} bit: {values:?}\n{said}");
    }
    assert!(run.operations("ok") >= 1_500, "{said}");
    sandbox.assert_nothing_left();
}
