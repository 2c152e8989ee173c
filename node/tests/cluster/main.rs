//! Whole replicas in virtual time: bytes in, bytes out, over links that lose, duplicate, delay and reorder, with processes
//! that stop at any moment and remember only what was durable. After every event the safety properties of the paper hold;
//! after the faults, everybody makes progress and agrees; and clients saw a linearizable store all along.
#![allow(clippy::unwrap_used)]

mod client;
mod world;

use world::{Weather, World};

/// Seeds of the short version that runs with the tests; `CLUSTER_SEEDS=10000 cargo test -p node --release --test cluster`
/// runs the long one.
const SEEDS: u64 = 150;

#[test]
fn safety_under_faults_and_progress_after_them() {
    let seeds = std::env::var("CLUSTER_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let (mut applied, mut leaders, mut restarts, mut installed) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let nodes = [3, 5, 4, 1, 2][(seed % 5) as usize];
        let mut world = World::new(seed, nodes, Weather::storm());
        world.run_for(8_000);
        world.heal_and_settle(20_000);
        world.check_clients();
        applied += world.applied();
        leaders += world.terms_led();
        restarts += world.restarts();
        installed += world.installed();
    }
    // What was not exercised was not shown.
    assert!(applied > seeds * 25, "{applied} entries applied");
    assert!(leaders > seeds * 2, "{leaders} elections won");
    assert!(restarts > seeds * 2, "{restarts} restarts");
    assert!(installed > seeds / 4, "{installed} snapshots installed");
    println!("{applied} entries, {leaders} leaders, {restarts} restarts, {installed} snapshots installed");
}

/// Values of many datagrams, in appends, requests and responses, where a third of all datagrams is lost.
#[test]
fn values_of_many_datagrams_come_through_loss() {
    let mut applied = 0;
    for seed in 0..12 {
        let mut world = World::new(seed, [3, 5][(seed % 2) as usize], Weather::flood());
        world.run_for(8_000);
        world.heal_and_settle(30_000);
        world.check_clients();
        applied += world.applied();
    }
    assert!(applied > 12 * 20, "{applied} entries applied");
}

/// Old datagrams with tags that are right, of clients and of an election long past: a network that is very late, no more.
#[test]
fn replayed_datagrams_change_nothing() {
    for seed in 0..5 {
        let mut world = World::new(seed, 3, Weather::keyed());
        world.listen();
        world.run_for(2_000);
        let old = world.leader().unwrap();
        world.leave(old);
        world.run_for(1_000);
        let leader = world.leader().unwrap();
        let term = world.term(leader);
        assert!(leader != old && term > 1);
        let replayed = world.replay(2_000);
        assert!(replayed > 1_000, "{replayed} datagrams");
        world.run_for(3_000);
        assert_eq!((world.leader(), world.term(leader)), (Some(leader), term), "seed {seed}");
        world.heal_and_settle(5_000);
        world.check_clients();
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut world = World::new(seed, 5, Weather::storm());
        world.run_for(5_000);
        world.fingerprint()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_calm_cluster_elects_once_and_keeps_its_leader() {
    let mut world = World::new(1, 5, Weather::calm());
    world.run_for(20_000);
    world.check_clients();
    assert_eq!(world.terms_led(), 1);
    assert!(world.applied() > 1_000, "{} entries applied", world.applied());
}

#[test]
fn a_cut_off_leader_steps_down_and_serves_no_stale_read() {
    let mut world = World::new(3, 3, Weather::calm());
    world.run_for(2_000);
    let old = world.leader().unwrap();
    world.isolate(old);
    world.run_for(1_500);
    assert_ne!(world.role(old), "leader", "no majority answered it for an election timeout");
    assert_ne!(world.leader(), Some(old));
    world.heal_and_settle(10_000);
    world.check_clients();
}

#[test]
fn a_leader_that_leaves_hands_over_without_an_election_timeout() {
    for nodes in [2, 3, 5] {
        let mut world = World::new(6, nodes, Weather::calm());
        world.run_for(3_000);
        let (old, term) = (world.leader().unwrap(), world.term(world.leader().unwrap()));
        world.leave(old);
        // A round trip, two syncs and a vote; the shortest election timeout is 300 ms.
        let mut between = false;
        for _ in 0..1_000 {
            world.run_for_us(100);
            let deposed = world.role(old) != "leader" && world.leader_known_to(old).is_none();
            between |= deposed;
            assert!(!deposed || !world.may_leave(old), "its vote may still be needed");
        }
        assert!(between, "{nodes} nodes: it was seen without a leader");
        let new = world.leader().unwrap();
        assert_ne!(new, old);
        assert_eq!(world.term(new), term + 1);
        assert!(world.may_leave(old), "it knows its successor");
        world.heal_and_settle(5_000);
        world.check_clients();
    }
}

#[test]
fn a_returning_node_does_not_depose_a_live_leader() {
    let mut world = World::new(4, 3, Weather::calm());
    world.run_for(2_000);
    let leader = world.leader().unwrap();
    let (term, away) = (world.term(leader), leader % 3 + 1);
    world.isolate(away);
    world.run_for(10_000);
    assert_eq!(world.term(away), term, "pre-vote: its term did not grow while it was away");
    world.heal_and_settle(5_000);
    assert_eq!((world.leader(), world.term(leader)), (Some(leader), term));
}
