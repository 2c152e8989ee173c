//! A disk that forgot: what it lost comes back from the others, and nothing acknowledged is lost with it.

use nix::sys::signal::Signal;
use tests::hand::Hand;
use tests::poll;
use tests::sandbox::Sandbox;

const ALL: [usize; 3] = [1, 2, 3];

#[test]
fn a_rotten_entry_is_found_at_the_start_and_repaired_from_the_others() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "rot", 3);
    ALL.iter().for_each(|id| hand.start(*id));
    let leader = hand.leader(&ALL);
    let damaged = leader % 3 + 1;
    for key in ["first", "second", "third"] {
        hand.client(damaged, &["set", key, &format!("{key}-value")]).exits(0);
    }
    poll::until("the write on the disk that is to rot", || {
        (hand.status(damaged)["durable_index"].as_u64() >= hand.status(leader)["commit_index"].as_u64())
            .then_some(())
    });
    hand.end(damaged, Signal::SIGKILL);
    let segment = hand.data(damaged).join("wal-0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(12).position(|window| window == b"second-value").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let said = hand.look("verify", damaged, &[]);
    assert!(said.code == Some(1) && said.stdout.contains("fails its checksum"), "{said:?}");
    hand.start(damaged);
    poll::until("the end of the repair", || {
        hand.log(damaged).contains("what the disk had lost is there again").then_some(())
    });
    let other = ALL.into_iter().find(|id| *id != leader && *id != damaged).unwrap();
    // With one of the two whole nodes gone the repaired one is needed, and has everything.
    hand.end(other, Signal::SIGKILL);
    for key in ["first", "second", "third"] {
        let said = hand.client(damaged, &["get", key]).exits(0);
        assert_eq!(said.stdout.trim(), format!("{key}-value"));
    }
    hand.end(damaged, Signal::SIGTERM);
    hand.look("verify", damaged, &[]).exits(0);
}
