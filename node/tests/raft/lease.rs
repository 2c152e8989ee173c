//! Reads under a lease: thesis §6.4.1, and the defects Q05, Q06 and Q07 of the catalogue. Each with the near miss beside it.

use node::raft::message::{AppendResult, Message};
use node::raft::types::{HardState, NodeId, Payload};
use node::raft::{Effects, Input, RaftConfig};

use crate::core::*;

/// Shorter than the promise of 300 ms: clocks differ.
const LEASE: u64 = 270 * MS;

fn with_lease(id: NodeId) -> RaftConfig {
    RaftConfig { lease: LEASE, ..config(id) }
}

/// A leader of three in term 5 that has committed, and the time at which its next heartbeat begins a round.
fn leader() -> Core {
    let state = HardState { term: 4, voted_for: None };
    let mut core = Core::start(with_lease(1), recovered(3, state, vec![], 1));
    core.win();
    core.sync();
    core.receive(2, 5, accepted(1));
    core.receive(3, 5, accepted(1));
    core
}

/// The round that a heartbeat has begun.
fn heartbeat(core: &mut Core) -> u64 {
    let effects = core.timeout();
    match sent(&effects, 2).last().unwrap().envelope.message {
        Message::Append { round, .. } => round,
        ref other => panic!("no append: {other:?}"),
    }
}

fn served(effects: &Effects) -> Vec<u64> {
    effects.reads.iter().map(|read| read.id).collect()
}

/// Whether a read is answered at once.
fn reads_at_once(core: &mut Core) -> bool {
    let id = core.now + 1;
    served(&core.input(Input::ReadIndex(id))) == [id]
}

/// Node 2 of three in term 5, which hears its leader, node 1, now.
fn follower() -> Core {
    let mut core =
        Core::start(with_lease(2), recovered(3, HardState { term: 5, voted_for: None }, vec![], 1));
    core.now = 1_000 * MS;
    core.receive(1, 5, append(id(0, 0), 0, &[5]));
    core.sync();
    core
}

/// Whether node 3 gets its vote in this term.
fn votes(core: &mut Core, term: u64) -> bool {
    let effects = core.receive(3, term, Message::VoteRequest { last: id(9, 5), transfer: false });
    let vote = |message: &Message| matches!(message, Message::VoteReply { granted: true });
    sent(&effects, 3).iter().any(|m| vote(&m.envelope.message))
}

/// Whether it gets it in a later one, and is told so when it asks before.
fn grants(core: &mut Core, term: u64) -> bool {
    let pre_vote = Message::PreVoteRequest { candidate_term: term, last: id(9, 5) };
    let effects = core.receive(3, term - 1, pre_vote);
    let would = matches!(only(&effects, 3).envelope.message, Message::PreVoteReply { granted: true, .. });
    assert_eq!(votes(core, term), would, "at {} ms", core.now / MS);
    would
}

#[test]
fn a_lease_lasts_from_the_beginning_of_an_echoed_round_and_no_longer() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    let began = core.now;
    assert!(!reads_at_once(&mut core), "nobody has echoed it");
    core.receive(3, 5, echo(round));
    for (after, leased) in [(1, true), (LEASE - 1, true), (LEASE, false)] {
        core.now = began + after;
        assert_eq!(reads_at_once(&mut core), leased, "after {after} ns");
        assert_eq!(core.raft.lease_left(core.now), LEASE - after);
    }
    assert_eq!(core.raft.lease_reads(), 2);
}

/// A link that takes longer than a heartbeat: each echo counts for the round that it answers.
#[test]
fn rounds_overtake_their_echoes() {
    let mut core = leader();
    let first = heartbeat(&mut core);
    let began = core.now;
    let second = heartbeat(&mut core);
    core.now += 1;
    core.receive(3, 5, echo(first));
    assert_eq!(core.raft.lease_left(core.now), began + LEASE - core.now);
    core.receive(3, 5, echo(second));
    assert_eq!(core.raft.lease_left(core.now), LEASE - 1);
}

/// Q05: what a stopped leader finds in its socket is old news.
#[test]
fn an_echo_that_comes_late_gives_no_more_than_one_in_time() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    let began = core.now;
    core.now = began + LEASE - 1;
    core.receive(3, 5, echo(round));
    assert!(reads_at_once(&mut core));
    core.now = began + LEASE;
    core.receive(2, 5, echo(round));
    assert!(!reads_at_once(&mut core));
}

#[test]
fn an_echo_of_one_of_five_gives_no_lease_and_of_two_does() {
    let state = HardState { term: 4, voted_for: None };
    let mut core = Core::start(with_lease(1), recovered(5, state, vec![], 1));
    core.win();
    core.sync();
    (2..=5).for_each(|peer| drop(core.receive(peer, 5, accepted(1))));
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    core.receive(3, 5, echo(round));
    assert!(!reads_at_once(&mut core));
    core.receive(4, 5, echo(round));
    assert!(reads_at_once(&mut core));
}

/// Q02 under a lease: what earlier leaders have committed is known only after a commit in the own term.
#[test]
fn a_lease_serves_nothing_before_a_commit_in_its_term() {
    let state = HardState { term: 4, voted_for: None };
    let mut core = Core::start(with_lease(1), recovered(3, state, vec![], 1));
    core.win();
    core.sync();
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    assert!(core.raft.lease_left(core.now) > 0 && !reads_at_once(&mut core));
    core.receive(3, 5, accepted(1));
    assert!(reads_at_once(&mut core));
}

#[test]
fn who_is_deposed_has_no_lease() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    let effects = core.receive(3, 6, rejected(1, id(0, 0)));
    assert_eq!((core.role(), core.raft.lease_left(core.now)), ("follower", 0));
    assert!(served(&effects).is_empty());
}

/// Q07: the order to stand may arrive when the transfer was given up long ago.
#[test]
fn who_told_another_to_stand_has_no_lease_in_that_term_any_more() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    core.receive(2, 5, echo(round));
    assert!(reads_at_once(&mut core));
    let effects = core.input(Input::TransferLeader(Some(3)));
    assert!(sent(&effects, 3).iter().any(|m| m.envelope.message == Message::TimeoutNow));
    for _ in 0..30 {
        let round = heartbeat(&mut core);
        core.receive(2, 5, Message::AppendReply { round, result: AppendResult::Accepted { match_index: 1 } });
        core.receive(3, 5, Message::AppendReply { round, result: AppendResult::Accepted { match_index: 1 } });
        assert!(!reads_at_once(&mut core), "at {} ms", core.now / MS);
    }
    assert_eq!((core.role(), core.raft.transferring_to()), ("leader", None));
}

/// An order that was never sent breaks no promise.
#[test]
fn a_transfer_to_one_that_is_behind_keeps_the_lease() {
    let mut core = leader();
    let effects = core.input(Input::Propose(vec![Payload::Noop]));
    assert!(!sent(&effects, 3).is_empty());
    core.sync();
    let effects = core.input(Input::TransferLeader(Some(3)));
    assert!(!effects.messages.iter().any(|m| m.envelope.message == Message::TimeoutNow));
    let round = heartbeat(&mut core);
    core.receive(2, 5, Message::AppendReply { round, result: AppendResult::Accepted { match_index: 1 } });
    assert!(reads_at_once(&mut core));
}

/// Q06.
#[test]
fn a_clock_that_jumped_ends_a_lease_until_a_round_was_measured_with_it() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    assert!(reads_at_once(&mut core));
    let earlier = heartbeat(&mut core);
    core.input(Input::ClockJumped);
    assert!(!reads_at_once(&mut core));
    core.receive(3, 5, echo(earlier));
    assert!(!reads_at_once(&mut core), "that round began before the jump");
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    assert!(reads_at_once(&mut core));
}

#[test]
fn who_heard_a_leader_votes_for_nobody_until_the_promise_has_passed() {
    for (after, granted) in [(0, false), (ELECTION_MIN - 1, false), (ELECTION_MIN, true)] {
        let mut core = follower();
        core.now += after;
        assert_eq!(grants(&mut core, 6), granted, "after {after} ns");
    }
}

/// A word of a later term ends the term, and not the promise: whoever is in that term was elected by nobody yet.
#[test]
fn a_later_term_does_not_end_a_promise() {
    for (after, granted) in [(ELECTION_MIN - 1, false), (ELECTION_MIN, true)] {
        let mut core = follower();
        core.receive(3, 6, Message::VoteReply { granted: false });
        assert_eq!((core.raft.term(), core.raft.leader()), (6, None));
        core.now += after;
        assert_eq!(votes(&mut core, 6), granted, "in the term that it has, after {after} ns");
        let mut core = follower();
        core.receive(3, 6, Message::VoteReply { granted: false });
        core.now += after;
        assert_eq!(grants(&mut core, 7), granted, "in the next one, after {after} ns");
    }
}

/// Who made the promise may not know of it after a restart.
#[test]
fn a_restart_does_not_end_a_promise() {
    for (after, granted) in [(ELECTION_MIN - 1, false), (ELECTION_MIN, true)] {
        let mut core =
            Core::start(with_lease(2), recovered(3, HardState { term: 5, voted_for: None }, vec![], 1));
        core.now = after;
        assert_eq!(grants(&mut core, 6), granted, "after {after} ns");
    }
    // Who has seen no term has promised nothing to anybody; nobody has to wait when a cluster begins.
    let mut core = Core::start(with_lease(2), recovered(3, HardState::default(), vec![], 1));
    assert!(grants(&mut core, 1));
}

/// The leader itself asks for it, and has given its lease up.
#[test]
fn a_promise_does_not_stand_in_the_way_of_a_transfer() {
    let mut core = follower();
    let effects = core.receive(3, 6, Message::VoteRequest { last: id(1, 5), transfer: true });
    assert!(matches!(
        sent(&effects, 3).last().unwrap().envelope.message,
        Message::VoteReply { granted: true }
    ));
}

#[test]
fn a_clock_that_jumped_makes_a_promise_last_longer() {
    let mut core = follower();
    core.now += ELECTION_MIN;
    core.input(Input::ClockJumped);
    assert!(!grants(&mut core, 6));
    core.now += ELECTION_MIN;
    assert!(grants(&mut core, 6));
}

#[test]
fn new_members_have_promised_nothing() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    assert!(reads_at_once(&mut core));
    let next = core.raft.change(&node::raft::reconfigure::Change::Add(4, "127.0.0.1:4".to_owned())).unwrap();
    core.input(Input::Reconfigure(next));
    assert!(!reads_at_once(&mut core));
}

/// What the last term's followers promised holds for its leader, who is told to stand again before that has passed: by then
/// others have broken it for somebody else.
#[test]
fn who_leads_again_has_nothing_left_of_an_earlier_lease() {
    let mut core = leader();
    let round = heartbeat(&mut core);
    core.receive(3, 5, echo(round));
    assert!(reads_at_once(&mut core));
    core.receive(3, 6, append(id(1, 5), 1, &[6]));
    core.sync();
    core.receive(3, 6, Message::TimeoutNow);
    core.sync();
    core.receive(2, 7, Message::VoteReply { granted: true });
    core.sync();
    core.receive(2, 7, accepted(3));
    assert_eq!((core.role(), core.raft.term(), core.raft.commit_index()), ("leader", 7, 3));
    assert_eq!(core.raft.lease_left(core.now), 0);
    assert!(!reads_at_once(&mut core));
}

/// Who has promised nothing yet promises nothing because of its clock.
#[test]
fn a_clock_that_jumped_before_the_first_term_keeps_nobody_from_a_vote() {
    let mut core = Core::start(with_lease(2), recovered(3, HardState::default(), vec![], 1));
    core.input(Input::ClockJumped);
    assert!(grants(&mut core, 1));
}

/// Without leases nothing is promised beyond what an election needs anyway.
#[test]
fn without_leases_a_later_term_frees_the_vote() {
    let mut core = Core::start(config(2), recovered(3, HardState { term: 5, voted_for: None }, vec![], 1));
    assert!(grants(&mut core, 6), "after a restart");
    core.input(Input::ClockJumped);
    assert!(grants(&mut core, 7), "after a jump of its clock");
    let mut core = leader();
    assert!(!core.timeout().messages.is_empty());
    let mut plain = Core::leader(3, 4, &[]);
    plain.receive(2, 5, accepted(1));
    plain.input(Input::ReadIndex(1));
    plain.receive(2, 5, echo(1));
    assert!(!reads_at_once(&mut plain) && plain.raft.lease_left(plain.now) == 0);
}
