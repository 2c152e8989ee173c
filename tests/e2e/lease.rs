//! Reads under a lease: counted on nodes that were started by hand, and linearizable under every fault that can outlast a lease.

use tests::hand::Hand;
use tests::poll;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_leader_answers_reads_under_its_lease_and_counts_them() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "lease", 3).with(&["--lease-reads"]);
    (1..=3).for_each(|id| hand.start(id));
    hand.leader(&[1, 2, 3]);
    hand.client(1, &["set", "k", "v"]).exits(0);
    // A follower asks the leader how far the log goes, and that answer needs no round either.
    poll::until_true("reads that needed no round", || {
        let leader = hand.leader(&[1, 2, 3]);
        for id in 1..=3 {
            assert_eq!(hand.client(id, &["get", "k"]).exits(0).stdout, "v\n");
        }
        hand.status(leader)["lease_reads"].as_u64().is_some_and(|reads| reads >= 3)
    });
    drop(hand);
    sandbox.assert_nothing_left();
}

#[test]
fn reads_under_leases_are_linearizable_while_leaders_stop_and_hand_over() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("lease");
    let faults = "--faults=pause,partition,transfer,kill,membership";
    let args =
        ["run", faults, "--node-arg=--lease-reads", "--workload=register", "--time=12s", "--seed=0x1ea5e"];
    let said = sandbox.run(&args, &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    assert_eq!(run.json("run.json")["spec"]["node_args"][0], "--lease-reads");
    sandbox.assert_nothing_left();
}
