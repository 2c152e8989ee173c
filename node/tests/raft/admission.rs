//! What a node with an empty directory may promise, by the rules of `node/src/raft/admission.rs`.

use node::raft::event::Event;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Envelope, Message, SnapshotOffer};
use node::raft::types::{Entry, HardState, NodeId, Payload, ProcessId, Record, Term};
use node::raft::{Effects, Input, Recovered};

use crate::core::*;

/// A node of `voters` that nobody is bound to yet.
fn unbound(voters: u32, term: Term, terms: &[Term]) -> Recovered {
    let hard_state = HardState { term, voted_for: None };
    let mut recovered = recovered(voters, hard_state, entries(0, terms), terms.len() as u64 + 1);
    let members = Membership::of_voters((1..=voters).map(|id| (id, format!("127.0.0.1:{id}"))));
    recovered.mark.membership = members.encode().into();
    recovered
}

/// Node 1 of `voters`, in a new directory.
fn empty(voters: u32) -> Core {
    Core::start(config(1), unbound(voters, 0, &[]))
}

fn answer(blank: bool, known: u64) -> Message {
    Message::HelloReply { asked_by: process(1, 1), blank, known, leads: None }
}

fn admitted(effects: &Effects) -> bool {
    effects.events.contains(&Event::Admitted)
}

fn asked(effects: &Effects) -> Vec<NodeId> {
    effects.messages.iter().filter(|m| m.envelope.message == Message::Hello).map(|m| m.envelope.to).collect()
}

/// It asks at the pace of heartbeats, and neither stands nor votes meanwhile (defect D09).
#[test]
fn an_empty_node_asks_and_promises_nothing() {
    let mut core = empty(3);
    assert!(!core.raft.may_vote());
    for _ in 0..20 {
        let before = core.now;
        let effects = core.timeout();
        assert_eq!((core.now - before, asked(&effects)), (HEARTBEAT, vec![2, 3]));
        assert_eq!((effects.messages.len(), effects.records.len(), core.role()), (2, 0, "follower"));
    }
    let question = Message::PreVoteRequest { candidate_term: 1, last: id(0, 0) };
    let granted = Message::PreVoteReply { candidate_term: 1, granted: false };
    assert_eq!(only(&core.receive(2, 0, question), 2).envelope.message, granted);
    let request = Message::VoteRequest { last: id(9, 1), transfer: false };
    let reply = only(&core.receive(2, 1, request), 2);
    assert_eq!(reply.envelope.message, Message::VoteReply { granted: false });
    assert_eq!(core.raft.hard_state(), HardState { term: 1, voted_for: None }, "the term it takes");
    core.receive(2, 1, append(id(0, 0), 0, &[]));
    core.receive(2, 1, Message::TimeoutNow);
    assert_eq!((core.role(), core.raft.term()), ("follower", 1));
}

/// A leader may send it entries all the while: what it acknowledges is on its disk.
#[test]
fn an_empty_node_takes_entries() {
    let mut core = empty(3);
    let effects = core.receive(2, 4, append(id(0, 0), 1, &[4, 4]));
    let reply = only(&effects, 2);
    assert_eq!(result(&reply), AppendResult::Accepted { match_index: 2 });
    assert_eq!((reply.after, core.raft.commit_index()), (effects.records[2].0, 1));
    assert!(!core.raft.may_vote());
}

#[test]
fn a_majority_of_empty_nodes_makes_a_new_cluster() {
    for (voters, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut core = empty(voters);
        let mut effects = core.timeout();
        for peer in 2..2 + needed {
            assert!(!core.raft.may_vote(), "{voters} voters, {} other answers", peer - 2);
            effects = core.receive(peer, 0, answer(true, 0));
        }
        assert!(admitted(&effects) && core.raft.may_vote(), "{voters} voters, {needed} other answers");
        // The usual patience begins now: nobody was waited for yet.
        assert!(core.raft.next_deadline() >= core.now + ELECTION_MIN);
    }
}

/// The same node twice is one node, and its last answer counts.
#[test]
fn answers_are_counted_by_node() {
    let mut core = empty(5);
    for _ in 0..5 {
        assert!(!admitted(&core.receive(2, 0, answer(true, 0))));
    }
    core.receive(2, 0, answer(false, 0));
    assert!(!admitted(&core.receive(3, 0, answer(true, 0))), "two are empty, itself among them");
    assert!(admitted(&core.receive(4, 0, answer(true, 0))));
}

#[test]
fn where_a_majority_has_a_past_everybody_must_be_asked() {
    let mut core = empty(3);
    assert!(!admitted(&core.receive(2, 0, answer(false, 0))));
    assert!(!admitted(&core.receive(2, 0, answer(false, 0))));
    assert!(admitted(&core.receive(3, 0, answer(false, 0))));
}

/// A node that took a term or entries is not empty any more, for itself as for others.
#[test]
fn a_node_with_a_past_is_not_counted_as_empty() {
    for message in [Message::VoteRequest { last: id(0, 0), transfer: false }, append(id(0, 0), 0, &[1])] {
        let mut core = empty(3);
        core.receive(2, 1, message);
        assert!(!admitted(&core.receive(3, 1, answer(true, 0))));
        let effects = core.receive(2, 1, Message::Hello);
        let hello = only(&effects, 2);
        let told = Message::HelloReply { asked_by: process(2, 1), blank: false, known: 0, leads: None };
        assert_eq!(hello.envelope.message, told);
        assert!(hello.after > core.raft.durable_lsn(), "what it says of itself is on disk first");
        assert!(admitted(&core.receive(2, 1, answer(false, 0))), "both of the others know nobody else");
    }
}

/// Somebody knows this id by another directory: a former self may have promised anything.
#[test]
fn one_that_is_known_by_another_directory_is_not_admitted() {
    let mut core = empty(3);
    core.receive(3, 0, answer(false, 0));
    let effects = core.receive(2, 0, answer(true, 77));
    assert!(effects.events.contains(&Event::Forgotten { by: 2 }) && !core.raft.may_vote());
    // An answer that was fine before is taken back.
    let mut core = empty(5);
    core.receive(2, 0, answer(true, 0));
    core.receive(2, 0, answer(true, 77));
    assert!(!admitted(&core.receive(3, 0, answer(true, 0))));
    // Its own directory is no other one.
    let mut core = empty(3);
    core.receive(3, 0, answer(false, 0));
    assert!(admitted(&core.receive(2, 0, answer(false, config(1).process.directory))));
}

/// Datagrams come late: what was said to the directory before this one, when nobody knew any, does not admit this one.
#[test]
fn answers_to_a_former_self_do_not_count() {
    for (asked_by, admits) in [
        (ProcessId { directory: 77, incarnation: 1 }, false),
        (ProcessId { incarnation: 2, ..process(1, 1) }, false),
        (process(1, 1), true),
    ] {
        let mut core = empty(3);
        let told = Message::HelloReply { asked_by, blank: true, known: 0, leads: None };
        assert_eq!(admitted(&core.receive(2, 0, told)), admits, "{asked_by:?}");
    }
}

/// Who is no member, or not the one that the membership knows, has no say in it.
#[test]
fn answers_of_strangers_do_not_count() {
    let mut start = unbound(3, 0, &[]);
    let mut members = Membership::decode(&start.mark.membership).unwrap();
    members.members.get_mut(&2).unwrap().directory = process(2, 1).directory;
    start.mark.membership = members.encode().into();
    let mut core = Core::start(config(1), start);
    let stranger = ProcessId { directory: 5, incarnation: 1 };
    assert!(!admitted(&core.receive_from(2, stranger, 0, answer(true, 0))));
    assert!(!admitted(&core.receive(9, 0, answer(true, 0))));
    assert!(admitted(&core.receive(2, 0, answer(true, 0))));
    assert!(!admitted(&core.receive(3, 0, answer(true, 77))), "once is for ever");
    assert!(core.raft.may_vote());
}

/// A leader forgets what the process before the one that asks acknowledged; that of another directory it does not, however
/// long that one has been silent.
#[test]
fn a_question_from_another_directory_makes_a_leader_forget_nothing() {
    for (directory, expected) in [(process(3, 2).directory, Some(1)), (77, None)] {
        let mut core = Core::leader(3, 4, &[]);
        core.receive(3, 5, accepted(1));
        let silent_until = core.now + 2 * ELECTION_MAX;
        while core.now < silent_until {
            core.timeout();
            core.receive(2, 5, accepted(1));
        }
        assert_eq!(core.role(), "leader");
        let asking = ProcessId { directory, incarnation: 2 };
        let effects = core.receive_from(3, asking, 5, Message::Hello);
        let replies: Vec<_> = sent(&effects, 3).into_iter().map(|m| m.envelope.message.clone()).collect();
        let known = process(3, 1).directory;
        let reply = Message::HelloReply { asked_by: asking, blank: false, known, leads: expected };
        assert!(replies.contains(&reply), "{replies:?}");
    }
}

/// The answer itself is a promise, and a term that is only talked about is nobody's.
#[test]
fn a_question_changes_no_term() {
    let mut core = Core::new(2, 3, 4, None, &[1]);
    let effects = core.receive(1, 9, Message::Hello);
    assert_eq!((only(&effects, 1).envelope.message, core.raft.term()), (answer(false, 1_001), 4));
    let mut core = empty(3);
    core.receive(2, 9, answer(false, 0));
    assert_eq!(core.raft.term(), 0);
    assert!(admitted(&core.receive(3, 9, answer(false, 0))), "whatever the term of who answers");
}

/// By which directory a node knows another: the membership says it, or a leader that has heard from it.
#[test]
fn who_is_asked_tells_what_it_knows() {
    let knows = |core: &mut Core| match only(&core.receive(2, 5, Message::Hello), 2).envelope.message {
        Message::HelloReply { blank, known, .. } => (blank, known),
        other => panic!("{other:?}"),
    };
    assert_eq!(knows(&mut empty(3)), (true, 0));
    assert_eq!(knows(&mut Core::start(config(1), unbound(3, 4, &[]))), (false, 0));
    assert_eq!(knows(&mut Core::start(config(1), unbound(3, 0, &[1]))), (false, 0));
    assert_eq!(knows(&mut Core::new(1, 3, 4, None, &[])), (false, 1_002));
    let mut leader = Core::start(config(1), unbound(3, 4, &[]));
    for peer in [2, 3] {
        leader.receive(peer, 4, answer(false, 0));
    }
    leader.win();
    assert_eq!(knows(&mut leader), (false, 1_002), "its vote was counted");
}

/// Who votes in term 1 and is wiped before any entry binds it does not vote a second time in that term: whoever counted the
/// first vote says so, also after a restart, and whoever did not counts none from the directory that is gone.
#[test]
fn a_wiped_founder_does_not_vote_twice_in_the_first_term() {
    // The vote was counted. Nothing else is on the disk of the candidate when it is asked.
    let mut core = Core::start(config(1), unbound(3, 0, &[]));
    let mut disk = unbound(3, 0, &[]);
    core.receive(3, 0, answer(true, 0));
    core.sync();
    core.timeout();
    core.receive(3, 0, Message::PreVoteReply { candidate_term: 1, granted: true });
    core.sync();
    let effects = core.receive(2, 1, Message::VoteReply { granted: true });
    assert_eq!(core.role(), "candidate", "whose vote it is is not durable yet");
    for (lsn, record) in &effects.records {
        replay(&mut disk, *lsn, record);
    }
    core.sync();
    assert_eq!(core.role(), "leader");
    for mut core in [core, Core::start(config(1), disk)] {
        let envelope = Envelope { from: 2, to: 1, term: 0, message: Message::Hello };
        let other = ProcessId { directory: 77, incarnation: 1 };
        let answered = only(&core.input(Input::Message(envelope, other)), 2).envelope.message;
        assert!(matches!(answered, Message::HelloReply { known: 1_002, .. }), "{answered:?}");
    }
    // The vote is still on its way. Who asks from another directory is told that none is known, and that counts from then on.
    let mut core = Core::start(config(1), unbound(3, 0, &[]));
    core.receive(3, 0, answer(true, 0));
    core.sync();
    core.timeout();
    core.receive(3, 0, Message::PreVoteReply { candidate_term: 1, granted: true });
    core.sync();
    let envelope = Envelope { from: 2, to: 1, term: 0, message: Message::Hello };
    let asked = core.input(Input::Message(envelope, ProcessId { directory: 77, incarnation: 1 }));
    let answered = only(&asked, 2);
    assert!(matches!(answered.envelope.message, Message::HelloReply { known: 0, .. }), "{answered:?}");
    assert_eq!(answered.after, asked.records.last().unwrap().0, "a promise leaves after its record");
    core.sync();
    core.receive(2, 1, Message::VoteReply { granted: true });
    core.sync();
    assert_eq!(core.role(), "candidate", "a vote of the directory that is gone");
    core.receive(3, 1, Message::VoteReply { granted: true });
    core.sync();
    assert_eq!(core.role(), "leader");
}

/// What a node knows of directories outlives the entries and marks that said it, and makes up for those that do not.
#[test]
fn bindings_outlive_a_snapshot() {
    let mut disk = unbound(3, 4, &[1, 1]);
    let mut core = Core::start(config(1), disk.clone());
    let mut records = Vec::new();
    for (peer, message) in [(2, answer(false, 0)), (3, answer(false, 0)), (2, append(id(2, 1), 2, &[4]))] {
        records.extend(core.receive(peer, 4, message).records);
    }
    core.sync();
    let offer = SnapshotOffer { last: id(2, 1), size: 9, root: [1; 32] };
    records.extend(core.input(Input::SnapshotSaved(offer)).records);
    for (lsn, record) in &records {
        replay(&mut disk, *lsn, record);
    }
    assert_eq!((disk.mark.last, disk.mark.base), (id(2, 1), id(2, 1)));
    let members = Membership::decode(&disk.mark.membership).unwrap();
    assert_eq!(members.member(1).unwrap().directory, 1_001, "no entry has said it");
    assert_eq!(&members, core.raft.membership(), "what a restart will know");
    assert!(Core::start(config(1), disk).raft.may_vote(), "it need not ask again");
}

/// Whether it may vote is on disk before it does, and then it need not ask again.
#[test]
fn an_admission_survives_a_restart() {
    let mut core = empty(3);
    let effects = core.receive(2, 0, answer(true, 0));
    let [(lsn, record @ Record::Snapshot(mark))] = &effects.records[..] else {
        panic!("{:?}", effects.records)
    };
    let members = Membership::decode(&mark.membership).unwrap();
    let bound = |id| members.member(id).unwrap().directory;
    assert_eq!(([bound(1), bound(2), bound(3)], mark.last, mark.base), ([1_001, 0, 0], id(0, 0), id(0, 0)));
    assert_eq!(&members, core.raft.membership());
    let reply = only(&core.receive(2, 0, Message::PreVoteRequest { candidate_term: 1, last: id(0, 0) }), 2);
    assert_eq!(reply.envelope.message, Message::PreVoteReply { candidate_term: 1, granted: true });
    assert_eq!(reply.after, *lsn, "no promise before");
    let mut disk = unbound(3, 0, &[]);
    assert!(!Core::start(config(1), disk.clone()).raft.may_vote(), "without the record it asks again");
    replay(&mut disk, *lsn, record);
    let mut again = Core::start(config(1), disk.clone());
    assert!(again.raft.may_vote() && again.raft.next_deadline() >= ELECTION_MIN);
    again.timeout();
    assert_eq!(again.role(), "pre_candidate");
    // In another directory it is nothing.
    let mut other = config(1);
    other.process.directory = 5;
    assert!(!Core::start(other, disk).raft.may_vote());
}

/// A membership that names this very directory. As a learner's, too: it may be a voter by an entry that it waits for, and then
/// those who have that entry may need its vote to get it committed.
#[test]
fn an_entry_that_names_the_directory_admits() {
    let learner = |directory| {
        let mut members = membership(3);
        members.members.get_mut(&1).unwrap().directory = directory;
        members.voters.remove(&1);
        members
    };
    let voter = |directory| {
        let mut members = learner(directory);
        members.voters.insert(1);
        members
    };
    for (members, expected) in [
        (voter(1_001), true),
        (voter(77), false),
        (voter(0), false),
        (learner(1_001), true),
        (learner(77), false),
    ] {
        let mut core = empty(3);
        let payload = Payload::Membership(members.encode().into());
        let entries = vec![Entry { id: id(1, 4), payload }];
        core.receive(2, 4, Message::Append { prev: id(0, 0), commit_index: 0, round: 0, entries });
        assert_eq!(core.raft.may_vote(), expected, "{members:?}");
    }
    let mut leaving = voter(1_001);
    leaving.voters.remove(&1);
    leaving.outgoing = [1, 2, 3].into();
    let mut start = unbound(3, 4, &[]);
    start.mark.membership = leaving.encode().into();
    assert!(Core::start(config(1), start).raft.may_vote(), "half a voter is a voter");
}

/// A leader that has not heard from it writes a membership that binds others: that takes no admission back.
#[test]
fn an_admission_survives_a_restart_after_an_entry_that_binds_only_others() {
    let mut recovered = unbound(3, 1, &[1]);
    let mut members = Membership::decode(&recovered.mark.membership).unwrap();
    let bind = |members: &mut Membership, id: NodeId, directory| {
        members.members.get_mut(&id).unwrap().directory = directory;
        members.encode()
    };
    let entry = bind(&mut members.clone(), 2, config(2).process.directory);
    recovered.entries[0].payload = Payload::Membership(entry.into());
    assert!(!Core::start(config(1), recovered.clone()).raft.may_vote(), "a near miss: it was never admitted");
    recovered.mark.membership = bind(&mut members, 1, config(1).process.directory).into();
    assert!(Core::start(config(1), recovered).raft.may_vote());
}

/// Thesis §4.2.2: who is no voter by an entry that may be nowhere else has to lead until it is.
#[test]
fn a_voter_that_was_taken_out_stands_until_it_knows_that_this_is_committed() {
    let start = |commit_index| {
        let mut recovered = unbound(2, 1, &[1, 1]);
        let mut members = Membership::decode(&recovered.mark.membership).unwrap();
        members.members.values_mut().for_each(|member| member.directory = config(1).process.directory);
        recovered.mark.membership = members.encode().into();
        members.voters.remove(&1);
        recovered.entries[1].payload = Payload::Membership(members.encode().into());
        let mut core = Core::start(config(1), recovered);
        core.receive(2, 1, append(id(2, 1), commit_index, &[]));
        core.timeout();
        core.role()
    };
    assert_eq!(start(1), "pre_candidate");
    assert_eq!(start(2), "follower", "a near miss: it is committed");
}

/// One that joins is no voter of anything, so no answers admit it.
#[test]
fn who_is_no_voter_is_not_admitted_by_answers() {
    let mut members = membership(3);
    members.voters.remove(&1);
    members.members.get_mut(&1).unwrap().directory = 0;
    let mut start = unbound(3, 0, &[]);
    start.mark.membership = members.encode().into();
    let mut core = Core::start(config(1), start);
    for peer in [2, 3] {
        assert!(!admitted(&core.receive(peer, 0, answer(false, 0))));
    }
    assert!(!core.raft.may_vote());
    core.input(Input::Tick);
}

/// Answers that come late change nothing for one that may vote.
#[test]
fn an_admitted_node_takes_no_more_answers() {
    let mut core = Core::new(1, 3, 4, None, &[]);
    for known in [0, 77] {
        let effects = core.receive(2, 4, answer(true, known));
        assert!(effects.events.is_empty() && effects.records.is_empty() && core.raft.may_vote());
    }
}
