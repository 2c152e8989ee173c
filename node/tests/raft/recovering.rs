//! A node whose disk lost something that was durable: what its vote is worth, and when it is worth everything again.

use node::raft::message::Message;
use node::raft::types::{HardState, LogId, NodeId, ProcessId, Record, Recovering, Term};
use node::raft::{Effects, Input, Recovered};

use crate::core::*;

/// Node 1 of 3 with two entries of term 1 in term 3; it had entries up to 4, of term 3 the last.
fn damaged(last_known: bool, vote_known: bool) -> Core {
    let hard_state = HardState { term: 3, voted_for: None };
    let what = Recovering { last: id(4, 3), last_known, vote_known };
    let recovered = Recovered { recovering: Some(what), ..recovered(3, hard_state, entries(0, &[1, 1]), 9) };
    Core::start(config(1), recovered)
}

fn asks_for_a_vote(core: &mut Core, term: Term, last: LogId) -> bool {
    let effects = core.receive(2, term, Message::VoteRequest { last, transfer: true });
    matches!(only(&effects, 2).envelope.message, Message::VoteReply { granted: true })
}

fn hello(leads: Option<u64>) -> Message {
    let asked_by = process(1, 1);
    Message::HelloReply { asked_by, blank: false, known: asked_by.directory, leads }
}

fn ended(effects: &Effects) -> bool {
    effects.records.iter().any(|(_, record)| *record == Record::Recovering(None))
}

/// The leader's log up to 5, whose last two entries are of term 4.
fn catch_up(core: &mut Core, leader: NodeId) -> Effects {
    core.receive(leader, 4, append(id(2, 1), 2, &[3, 3, 4]));
    core.sync()
}

#[test]
fn with_its_last_entry_and_vote_known_it_votes_for_who_has_what_it_had() {
    let mut core = damaged(true, true);
    assert!(!asks_for_a_vote(&mut core, 5, id(3, 3)), "it had entry 4, which may be committed by its word");
    assert!(asks_for_a_vote(&mut core, 6, id(4, 3)));
    for (last_known, vote_known) in [(false, true), (true, false), (false, false)] {
        let mut core = damaged(last_known, vote_known);
        assert!(!asks_for_a_vote(&mut core, 5, id(9, 4)), "{last_known} {vote_known}");
    }
}

#[test]
fn it_does_not_stand_for_election_and_asks_instead() {
    let mut core = damaged(true, true);
    for _ in 0..30 {
        core.now = core.raft.next_deadline();
        let effects = core.input(Input::Tick);
        assert_eq!(only(&effects, 2).envelope.message, Message::Hello);
        assert_eq!((core.role(), core.raft.term()), ("follower", 3));
    }
    core.receive(2, 4, append(id(2, 1), 0, &[]));
    assert!(core.receive(2, 4, Message::TimeoutNow).messages.is_empty(), "not by order of a leader either");
}

/// What a leader said to the process before this one: it had not heard yet of what that one acknowledged later.
#[test]
fn what_a_leader_told_an_earlier_start_does_not_count() {
    for (asked_by, counts) in [(ProcessId { incarnation: 7, ..process(1, 1) }, false), (process(1, 1), true)]
    {
        let mut core = damaged(true, true);
        assert!(!ended(&catch_up(&mut core, 2)));
        let told = Message::HelloReply { asked_by, blank: false, known: asked_by.directory, leads: Some(5) };
        assert_eq!(ended(&core.receive(2, 4, told)), counts, "{asked_by:?}");
    }
}

#[test]
fn it_is_over_when_the_disk_has_what_the_leader_had_when_it_knew_of_this_process() {
    let mut core = damaged(false, true);
    assert!(!ended(&catch_up(&mut core, 2)), "nobody has told yet how far the log goes");
    assert!(!ended(&core.receive(2, 4, hello(Some(7)))), "two entries are missing");
    assert!(
        !ended(&core.receive(2, 4, hello(Some(5)))),
        "the first word of a leader stands: entries only grow"
    );
    core.receive(2, 4, append(id(5, 4), 5, &[4, 4]));
    assert!(core.raft.is_recovering(), "in memory is not on disk");
    assert!(ended(&core.sync()));
    assert!(!core.raft.is_recovering());
    assert_eq!(core.raft.hard_state(), HardState { term: 4, voted_for: None }, "no vote was lost");
    assert!(asks_for_a_vote(&mut core, 5, id(7, 4)));
}

#[test]
fn a_target_of_another_term_or_of_who_does_not_lead_ends_nothing() {
    let mut core = damaged(false, true);
    catch_up(&mut core, 2);
    assert!(!ended(&core.receive(3, 4, hello(None))));
    assert!(!ended(&core.receive(3, 2, hello(Some(1)))), "a leader of before");
    core.receive(3, 5, append(id(5, 4), 5, &[]));
    assert!(!ended(&core.receive(2, 4, hello(Some(5)))), "deposed");
    assert!(ended(&core.receive(3, 5, hello(Some(5)))));
}

#[test]
fn what_was_lost_must_be_there_again_even_if_the_leader_has_less() {
    let mut core = damaged(true, true);
    core.receive(2, 4, append(id(2, 1), 2, &[4]));
    core.sync();
    assert!(!ended(&core.receive(2, 4, hello(Some(3)))), "entry 4 is not there");
    core.receive(2, 4, append(id(3, 4), 3, &[4]));
    assert!(ended(&core.sync()));
}

#[test]
fn a_lost_vote_counts_as_spent_in_every_term_that_anybody_was_in() {
    let mut core = damaged(true, false);
    catch_up(&mut core, 2);
    assert!(!ended(&core.receive(2, 4, hello(Some(5)))), "n3 may be who got the vote");
    assert!(ended(&core.receive(3, 6, hello(None))));
    assert_eq!(core.raft.hard_state(), HardState { term: 6, voted_for: Some(1) });
    assert!(!asks_for_a_vote(&mut core, 6, id(9, 6)), "it may have voted in term 6");
    assert!(asks_for_a_vote(&mut core, 7, id(9, 6)));
}

#[test]
fn a_vote_that_is_there_stays_unless_somebody_was_in_a_later_term() {
    let ended_with = |latest| {
        let hard_state = HardState { term: 3, voted_for: Some(2) };
        let what = Recovering { last: id(2, 1), last_known: true, vote_known: false };
        let recovered = recovered(3, hard_state, entries(0, &[1, 1]), 9);
        let mut core = Core::start(config(1), Recovered { recovering: Some(what), ..recovered });
        core.receive(2, 3, append(id(2, 1), 2, &[3]));
        core.sync();
        core.receive(2, 3, hello(Some(3)));
        assert!(ended(&core.receive(3, latest, hello(None))));
        core.raft.hard_state()
    };
    assert_eq!(ended_with(3), HardState { term: 3, voted_for: Some(2) });
    assert_eq!(ended_with(6), HardState { term: 6, voted_for: Some(1) });
}

#[test]
fn a_leader_forgets_what_the_process_before_acknowledged_when_it_greets_the_next() {
    let mut core = Core::leader(3, 0, &[]);
    let term = core.raft.term();
    core.receive(2, term, accepted(1));
    assert_eq!(core.raft.progress()[&2].match_index, 1);
    let envelope = node::raft::message::Envelope { from: 2, to: 1, term: 0, message: Message::Hello };
    let effects = core.input(Input::Message(envelope, process(2, 2)));
    let Message::HelloReply { leads, .. } = only(&effects, 2).envelope.message else { panic!("{effects:?}") };
    assert_eq!((leads, core.raft.progress()[&2].match_index), (Some(core.raft.log().last().index), 0));
    core.receive(2, term, accepted(1));
    assert_eq!(core.raft.progress()[&2].match_index, 0, "late, from the process before");
}

#[test]
fn it_asks_while_a_leader_is_heard_at_the_pace_of_heartbeats() {
    let mut core = damaged(true, true);
    let mut asked = 0;
    for _ in 0..40 {
        core.now += HEARTBEAT / 4;
        let effects = core.receive(2, 4, append(id(2, 1), 0, &[]));
        asked += sent(&effects, 3).iter().filter(|m| m.envelope.message == Message::Hello).count();
    }
    assert_eq!(asked, 10, "ten heartbeat intervals have passed");
}
