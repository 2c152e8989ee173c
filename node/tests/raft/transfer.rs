//! Leadership transfer (thesis §3.10): to a follower that has everything, at once, and back to service if it fails.

use node::raft::Input;
use node::raft::message::Message;
use node::trace::TraceEvent;

use crate::core::*;

fn told_to_stand(effects: &node::raft::Effects, to: u32) -> bool {
    sent(effects, to).iter().any(|m| m.envelope.message == Message::TimeoutNow)
}

#[test]
fn a_follower_that_has_everything_is_told_at_once() {
    let mut core = Core::leader(3, 4, &[1, 4]);
    core.receive(2, 5, accepted(3));
    let effects = core.input(Input::TransferLeader(Some(2)));
    assert!(told_to_stand(&effects, 2));
    assert!(!told_to_stand(&effects, 3));
    assert_eq!(
        (core.role(), core.raft.transferring_to()),
        ("leader", Some(2)),
        "it leads until it is replaced"
    );
}

#[test]
fn a_follower_that_lags_is_told_when_it_has_caught_up_and_not_before() {
    let mut core = Core::leader(3, 4, &[1, 4]);
    core.receive(3, 5, accepted(3));
    assert!(!told_to_stand(&core.input(Input::TransferLeader(Some(2))), 2));
    assert!(!told_to_stand(&core.receive(2, 5, accepted(2)), 2));
    assert!(told_to_stand(&core.receive(2, 5, accepted(3)), 2));
    assert!(told_to_stand(&core.timeout(), 2), "again at a heartbeat: the first order may be lost");
}

#[test]
fn without_a_name_the_follower_that_is_furthest_among_the_living_is_chosen() {
    let mut core = Core::leader(5, 4, &[1, 4]);
    core.receive(3, 5, accepted(3));
    core.now += ELECTION_MIN;
    for (peer, index) in [(2, 1), (4, 2)] {
        core.receive(peer, 5, accepted(index));
    }
    assert_eq!(core.raft.transfer_target(core.now, None), Some(4), "3 was not heard lately");
    assert_eq!(core.raft.transfer_target(core.now, Some(3)), Some(3), "a name is a name");
    assert_eq!(core.raft.transfer_target(core.now, Some(1)), None, "the leader itself is no target");
    assert_eq!(core.raft.transfer_target(core.now, Some(9)), None);
    core.input(Input::TransferLeader(None));
    assert_eq!(core.raft.transferring_to(), Some(4));
    core.input(Input::TransferLeader(Some(9)));
    assert_eq!(core.raft.transferring_to(), Some(4), "an order to nobody changes nothing");
}

#[test]
fn a_leader_that_cannot_hand_over_in_time_serves_on() {
    let mut core = Core::leader(3, 4, &[1, 4]);
    core.receive(3, 5, accepted(3));
    core.input(Input::TransferLeader(Some(2)));
    core.now += ELECTION_MAX - 1;
    core.receive(3, 5, accepted(3));
    assert_eq!(core.raft.transferring_to(), Some(2));
    core.now += 1;
    core.receive(3, 5, accepted(3));
    assert_eq!((core.raft.transferring_to(), core.role()), (None, "leader"));
    assert!(!told_to_stand(&core.receive(2, 5, accepted(3)), 2), "given up is given up");
}

#[test]
fn the_one_who_is_told_stands_at_once_and_says_why() {
    let mut core = Core::new(2, 3, 5, Some(1), &[1, 5]);
    core.receive(1, 5, append(id(2, 5), 0, &[]));
    let effects = core.receive(1, 5, Message::TimeoutNow);
    assert_eq!((core.role(), core.raft.term()), ("candidate", 6), "no pre-vote: the leader is alive");
    let request = only(&effects, 3);
    assert_eq!(request.envelope.message, Message::VoteRequest { last: id(2, 5), transfer: true });
    assert!(request.after > core.raft.durable_lsn(), "its own vote is on disk before it asks");
    let again = core.receive(1, 5, Message::TimeoutNow);
    assert_eq!((again.messages.len(), core.raft.term()), (0, 6), "a second order finds a later term");
}

#[test]
fn an_order_from_anybody_but_the_leader_is_none() {
    let mut core = Core::new(2, 3, 5, Some(1), &[1, 5]);
    core.receive(3, 5, Message::TimeoutNow);
    assert_eq!((core.role(), core.raft.term()), ("follower", 5), "no leader is known");
    core.receive(1, 5, append(id(2, 5), 0, &[]));
    core.receive(3, 5, Message::TimeoutNow);
    core.receive(1, 4, Message::TimeoutNow);
    assert_eq!((core.role(), core.raft.term()), ("follower", 5));
}

/// Thesis §4.2.3: who hears a live leader ignores other candidates, unless the leader itself wants the election.
#[test]
fn a_live_leader_is_deposed_by_its_own_wish_alone() {
    let asked = |transfer| {
        let mut core = Core::new(3, 3, 5, Some(1), &[1, 5]);
        core.receive(1, 5, append(id(2, 5), 0, &[]));
        core.receive(2, 6, Message::VoteRequest { last: id(2, 5), transfer });
        (core.raft.term(), core.raft.hard_state().voted_for)
    };
    assert_eq!(asked(false), (5, Some(1)));
    assert_eq!(asked(true), (6, Some(2)));
}

#[test]
fn a_deposed_leader_hands_over_no_more() {
    let mut core = Core::leader(3, 4, &[1, 4]);
    core.receive(2, 5, accepted(3));
    core.input(Input::TransferLeader(Some(2)));
    let effects = core.receive(2, 6, Message::VoteRequest { last: id(3, 5), transfer: true });
    assert!(effects.trace.iter().any(|e| matches!(e, TraceEvent::HardState { voted_for: Some(2), .. })));
    assert_eq!((core.role(), core.raft.transferring_to()), ("follower", None));
}
