//! Elections: §5.2, §5.4.1, the RequestVote rules of Figure 2, pre-vote and check-quorum. Named after the rules.

use node::raft::Input;
use node::raft::message::Message;
use node::raft::types::{HardState, LogId};
use node::trace::{TraceEvent, TraceRole};

use crate::core::*;

fn vote_request(last: LogId) -> Message {
    Message::VoteRequest { last, transfer: false }
}

fn granted(outgoing: &node::raft::Outgoing) -> bool {
    match outgoing.envelope.message {
        Message::VoteReply { granted } | Message::PreVoteReply { granted, .. } => granted,
        ref other => panic!("no vote reply: {other:?}"),
    }
}

#[test]
fn servers_start_as_followers() {
    let core = Core::new(1, 3, 7, Some(2), &[1, 7]);
    assert_eq!((core.role(), core.raft.term(), core.raft.leader()), ("follower", 7, None));
    assert_eq!(core.raft.hard_state(), HardState { term: 7, voted_for: Some(2) });
    assert_eq!(core.raft.commit_index(), 0);
}

/// "Election timeouts are chosen randomly from a fixed interval" (§5.2), and differ from node to node (seed S41).
#[test]
fn election_timeouts_are_random_within_their_bounds() {
    let mut seen = std::collections::BTreeSet::new();
    for node in 1..=5 {
        let mut core = Core::new(node, 5, 1, None, &[]);
        for _ in 0..200 {
            let before = core.now;
            let wait = core.raft.next_deadline() - before;
            assert!((ELECTION_MIN..=ELECTION_MAX).contains(&wait), "{wait}");
            seen.insert(wait);
            core.timeout();
        }
    }
    assert!(seen.len() > 900, "{} different waits of 1000", seen.len());
}

#[test]
fn nothing_happens_before_the_deadline() {
    let mut core = Core::new(1, 3, 1, None, &[]);
    core.now = core.raft.next_deadline() - 1;
    assert!(core.input(Input::Tick).messages.is_empty());
    assert_eq!(core.role(), "follower");
    core.now += 1;
    assert_eq!(core.input(Input::Tick).messages.len(), 2);
    assert_eq!(core.role(), "pre_candidate");
}

/// Pre-vote (thesis §9.6): asking changes no term and no vote, neither here nor there, and writes nothing.
#[test]
fn a_pre_vote_disturbs_nobody() {
    let mut asker = Core::new(1, 3, 4, Some(3), &[1, 4]);
    let effects = asker.timeout();
    assert!(effects.records.is_empty());
    assert_eq!(asker.raft.hard_state(), HardState { term: 4, voted_for: Some(3) });
    let request = only(&effects, 2);
    assert_eq!(request.envelope.message, Message::PreVoteRequest { candidate_term: 5, last: id(2, 4) });
    assert_eq!((request.envelope.term, request.after), (4, 0));

    let mut asked = Core::new(2, 3, 4, Some(3), &[1, 4]);
    let deadline = asked.raft.next_deadline();
    let effects = asked.receive(1, 4, request.envelope.message);
    assert!(granted(&only(&effects, 1)));
    assert!(effects.records.is_empty());
    assert_eq!((asked.role(), asked.raft.term(), asked.raft.next_deadline()), ("follower", 4, deadline));
    // Even when the asker's own term is ahead: a term that is only talked about is nobody's term yet.
    let effects = asked.receive(1, 9, Message::PreVoteRequest { candidate_term: 10, last: id(2, 4) });
    assert_eq!((granted(&only(&effects, 1)), asked.raft.term()), (true, 4));
}

#[test]
fn a_pre_vote_is_granted_only_for_a_later_term_and_an_up_to_date_log() {
    for (candidate_term, last, expected) in [
        (5, id(2, 4), true),
        (5, id(1, 5), true),
        (4, id(2, 4), false),
        (3, id(9, 9), false),
        (5, id(1, 4), false),
        (5, id(9, 3), false),
    ] {
        let mut core = Core::new(2, 3, 4, None, &[1, 4]);
        let effects = core.receive(1, candidate_term - 1, Message::PreVoteRequest { candidate_term, last });
        assert_eq!(granted(&only(&effects, 1)), expected, "{candidate_term} {last}");
    }
}

/// A server that hears a live leader helps nobody to depose it (thesis §4.2.3), for exactly the shortest timeout.
#[test]
fn a_live_leader_is_not_deposed_by_who_cannot_hear_it() {
    for (silence, expected) in [(ELECTION_MIN - 1, false), (ELECTION_MIN, true)] {
        let mut core = Core::new(2, 3, 4, None, &[]);
        core.receive(1, 4, append(id(0, 0), 0, &[]));
        core.now += silence;
        let effects = core.receive(3, 4, Message::PreVoteRequest { candidate_term: 5, last: id(0, 0) });
        assert_eq!(granted(&only(&effects, 3)), expected, "after {silence} ns");
        let effects = core.receive(3, 5, vote_request(id(0, 0)));
        assert_eq!(sent(&effects, 3).len(), usize::from(expected));
        assert_eq!(core.raft.term(), if expected { 5 } else { 4 });
    }
}

#[test]
fn a_leader_is_not_deposed_by_a_vote_request() {
    let mut core = Core::leader(3, 4, &[]);
    let effects = core.receive(3, 9, vote_request(id(9, 9)));
    assert!(effects.messages.is_empty());
    assert_eq!((core.role(), core.raft.term()), ("leader", 5));
    let effects = core.receive(3, 5, Message::PreVoteRequest { candidate_term: 9, last: id(9, 9) });
    assert!(!granted(&only(&effects, 3)));
}

/// "On conversion to candidate: increment currentTerm, vote for self, reset election timer, send RequestVote to all".
#[test]
fn a_candidate_increments_its_term_votes_for_itself_and_asks_everybody() {
    let mut core = Core::new(1, 5, 4, Some(3), &[1, 4]);
    core.timeout();
    assert!(
        core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true }).messages.is_empty()
    );
    assert_eq!(core.role(), "pre_candidate", "2 of 5 is no majority");
    core.now += 7;
    let effects = core.receive(3, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    assert_eq!((core.role(), core.raft.term()), ("candidate", 5));
    assert_eq!(hard_states(&effects), [HardState { term: 5, voted_for: Some(1) }]);
    assert!(core.raft.next_deadline() >= core.now + ELECTION_MIN);
    for peer in 2..=5 {
        let request = only(&effects, peer);
        assert_eq!(request.envelope.message, vote_request(id(2, 4)));
        // The vote for itself is on disk before anybody hears of the candidacy.
        assert_eq!((request.envelope.term, request.after), (5, effects.records[0].0));
    }
}

#[test]
fn pre_votes_that_are_refused_stale_or_repeated_do_not_count() {
    let mut core = Core::new(1, 5, 4, None, &[]);
    let reply = |candidate_term, granted| Message::PreVoteReply { candidate_term, granted };
    core.receive(2, 4, reply(5, true));
    assert_eq!(core.role(), "follower", "nobody asked");
    core.timeout();
    for (from, message) in
        [(2, reply(5, true)), (2, reply(5, true)), (3, reply(4, true)), (4, reply(5, false))]
    {
        core.receive(from, 4, message);
        assert_eq!(core.role(), "pre_candidate");
    }
    core.receive(5, 4, reply(5, true));
    assert_eq!(core.role(), "candidate");
}

/// "If votes received from majority of servers: become leader", its own among them.
#[test]
fn a_majority_elects_and_one_less_does_not() {
    for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let mut core = Core::new(1, voters, 0, None, &[]);
        core.timeout();
        for peer in 2..=voters {
            core.receive(peer, 0, Message::PreVoteReply { candidate_term: 1, granted: true });
        }
        assert_eq!(core.role(), "candidate", "{voters} voters: its own vote is not on disk yet");
        core.sync();
        for votes in 2..=needed {
            assert_eq!(core.role(), "candidate", "{voters} voters, {} votes", votes - 1);
            core.receive(votes, 1, Message::VoteReply { granted: true });
        }
        assert_eq!(core.role(), "leader", "{voters} voters, {needed} votes");
        assert_eq!(core.raft.leader(), Some(1));
    }
}

fn candidate(voters: u32) -> Core {
    let mut core = Core::new(1, voters, 4, None, &[1]);
    core.timeout();
    for peer in 2..=voters {
        core.receive(peer, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    }
    core
}

#[test]
fn an_own_vote_counts_only_when_it_is_durable() {
    let mut core = Core::new(1, 3, 4, None, &[]);
    core.receive(3, 4, append(id(0, 0), 0, &[4, 4])); // two more records that wait for the disk
    core.timeout();
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    let lsn = core.raft.last_lsn();
    core.input(Input::Durable(lsn - 1));
    assert!(core.input(Input::Durable(lsn - 1)).trace.is_empty(), "nothing new is durable");
    core.receive(2, 5, Message::VoteReply { granted: true });
    core.receive(1, 5, Message::VoteReply { granted: true }); // nobody writes to itself
    assert_eq!(core.role(), "candidate", "one durable vote of three");
    core.input(Input::Durable(lsn));
    assert_eq!(core.role(), "leader");
}

/// Votes are a set (seed S35): datagrams repeat.
#[test]
fn a_vote_counts_once() {
    let mut core = candidate(5);
    core.sync();
    core.receive(2, 5, Message::VoteReply { granted: true });
    for _ in 0..5 {
        assert!(core.receive(2, 5, Message::VoteReply { granted: true }).events.is_empty());
        core.sync();
    }
    assert_eq!(core.role(), "candidate");
    core.receive(3, 5, Message::VoteReply { granted: true });
    assert_eq!(core.role(), "leader");
}

#[test]
fn refusals_pre_votes_and_votes_of_an_older_term_do_not_elect() {
    let mut core = candidate(3);
    core.sync();
    core.receive(2, 4, Message::VoteReply { granted: true });
    core.receive(2, 5, Message::VoteReply { granted: false });
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 6, granted: true });
    core.receive(9, 5, Message::VoteReply { granted: true }); // no member
    core.receive(1, 5, Message::VoteReply { granted: true }); // itself
    assert_eq!((core.role(), core.raft.term()), ("candidate", 5));
    core.receive(2, 5, Message::VoteReply { granted: true });
    assert_eq!(core.role(), "leader");
}

#[test]
fn messages_for_another_node_are_not_taken() {
    let mut core = Core::new(1, 3, 4, None, &[]);
    let envelope = node::raft::message::Envelope { from: 2, to: 3, term: 9, message: vote_request(id(0, 0)) };
    assert!(core.input(Input::Message(envelope, process(2, 1))).messages.is_empty());
    assert_eq!(core.raft.term(), 4);
}

/// A late vote for a candidate that follows somebody else by now elects nobody.
#[test]
fn a_vote_for_a_former_candidate_is_void() {
    let mut core = candidate(3);
    core.sync();
    core.receive(3, 5, append(id(1, 1), 0, &[]));
    core.receive(2, 5, Message::VoteReply { granted: true });
    assert_eq!((core.role(), core.raft.leader()), ("follower", Some(3)));
}

/// "If AppendEntries RPC received from new leader: convert to follower" — and the vote stays spent (seed S2).
#[test]
fn a_candidate_follows_the_leader_of_its_term_and_keeps_its_vote() {
    let mut core = candidate(3);
    core.sync();
    let effects = core.receive(3, 5, append(id(1, 1), 0, &[]));
    assert_eq!((core.role(), core.raft.leader(), core.raft.term()), ("follower", Some(3), 5));
    assert!(effects.records.is_empty());
    assert_eq!(core.raft.hard_state().voted_for, Some(1));
    let effects = core.receive(2, 5, vote_request(id(9, 5)));
    assert!(!granted(&only(&effects, 2)));
}

/// A leader neither votes in its own term nor steps down for a candidate of it (seed S1).
#[test]
fn a_leader_keeps_its_term_from_a_candidate_of_the_same_term() {
    let mut core = Core::leader(3, 4, &[]);
    let effects = core.receive(2, 5, vote_request(id(99, 5)));
    assert!(!granted(&only(&effects, 2)));
    assert_eq!((core.role(), core.raft.hard_state().voted_for), ("leader", Some(1)));
}

/// "If election timeout elapses: start new election", with a pre-vote first.
#[test]
fn a_candidate_whose_time_runs_out_starts_again() {
    let mut core = candidate(3);
    core.sync();
    let effects = core.timeout();
    assert_eq!((core.role(), core.raft.term()), ("pre_candidate", 5));
    let request = Message::PreVoteRequest { candidate_term: 6, last: id(1, 1) };
    assert_eq!(only(&effects, 2).envelope.message, request);
    core.receive(2, 5, Message::PreVoteReply { candidate_term: 6, granted: true });
    assert_eq!((core.role(), core.raft.term()), ("candidate", 6));
}

/// "Reply false if term < currentTerm", with the term that the candidate must learn.
#[test]
fn a_vote_request_of_an_older_term_is_refused() {
    let mut core = Core::new(1, 3, 5, None, &[]);
    let effects = core.receive(2, 4, vote_request(id(9, 4)));
    let reply = only(&effects, 2);
    assert!(!granted(&reply));
    assert_eq!((reply.envelope.term, core.raft.hard_state().voted_for), (5, None));
    let effects = core.receive(2, 3, Message::PreVoteRequest { candidate_term: 4, last: id(9, 4) });
    assert_eq!((granted(&only(&effects, 2)), only(&effects, 2).envelope.term), (false, 5));
}

/// "If votedFor is null or candidateId, and candidate's log is at least as up-to-date as receiver's log, grant vote".
#[test]
fn one_vote_a_term_first_come_first_served() {
    let mut core = Core::new(1, 5, 5, None, &[]);
    let deadline = core.raft.next_deadline();
    core.now = deadline - 1;
    let effects = core.receive(2, 5, vote_request(id(0, 0)));
    let first = only(&effects, 2);
    assert!(granted(&first));
    assert_eq!(hard_states(&effects), [HardState { term: 5, voted_for: Some(2) }]);
    assert_eq!(first.after, effects.records[0].0, "not before it is durable");
    assert!(core.raft.next_deadline() > deadline, "granting resets the timer");
    assert!(!granted(&only(&core.receive(3, 5, vote_request(id(9, 5))), 3)));
    // Again for the same candidate: its reply may have been lost. Still gated on the record of the vote.
    let again = core.receive(2, 5, vote_request(id(0, 0)));
    assert!(granted(&only(&again, 2)) && again.records.is_empty());
    assert_eq!(only(&again, 2).after, first.after);
    // A new term is a new vote.
    let effects = core.receive(3, 6, vote_request(id(0, 0)));
    assert!(granted(&only(&effects, 3)));
    let states = [HardState { term: 6, voted_for: None }, HardState { term: 6, voted_for: Some(3) }];
    assert_eq!(hard_states(&effects), states);
}

#[test]
fn a_recovered_vote_is_kept() {
    let mut core = Core::new(1, 3, 5, Some(2), &[]);
    assert!(!granted(&only(&core.receive(3, 5, vote_request(id(9, 5))), 3)));
    assert!(granted(&only(&core.receive(2, 5, vote_request(id(0, 0))), 2)));
}

/// §5.4.1: the later last term wins; with equal terms, the longer log.
#[test]
fn votes_go_to_up_to_date_logs_only() {
    for (own, last, expected) in [
        (&[1][..], id(1, 1), true),
        (&[1], id(2, 1), true),
        (&[1, 1], id(1, 1), false),
        (&[1], id(1, 2), true),
        (&[1, 1], id(1, 2), true),
        (&[2], id(2, 1), false),
        (&[2], id(1, 1), false),
        (&[], id(0, 0), true),
        (&[1], id(0, 0), false),
    ] {
        let mut core = Core::new(1, 3, 2, None, own);
        let effects = core.receive(2, 3, vote_request(last));
        assert_eq!(granted(&only(&effects, 2)), expected, "log {own:?}, candidate's last entry {last}");
        assert_eq!(core.raft.term(), 3, "the term is learnt either way");
        assert_eq!(core.raft.hard_state().voted_for, expected.then_some(2));
    }
}

/// A pre-candidate that votes for another gives up its own attempt.
#[test]
fn a_pre_candidate_that_votes_follows() {
    let mut core = Core::new(1, 3, 5, None, &[]);
    core.timeout();
    assert!(granted(&only(&core.receive(2, 5, vote_request(id(0, 0))), 2)));
    assert_eq!(core.role(), "follower");
    core.receive(3, 5, Message::PreVoteReply { candidate_term: 6, granted: true });
    assert_eq!((core.role(), core.raft.term()), ("follower", 5));
}

/// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower": every kind of
/// message, to every role (seed S30, R14).
#[test]
fn a_higher_term_in_any_message_makes_a_follower() {
    let messages = [
        Message::VoteReply { granted: false },
        Message::PreVoteReply { candidate_term: 3, granted: false },
        append(id(0, 0), 0, &[]),
        accepted(0),
        rejected(0, id(0, 0)),
    ];
    for message in messages {
        for role in ["follower", "pre_candidate", "candidate", "leader"] {
            let mut core = match role {
                "follower" => Core::new(1, 3, 5, Some(1), &[]),
                "leader" => Core::leader(3, 4, &[]),
                "candidate" => candidate(3),
                _ => {
                    let mut core = Core::new(1, 3, 5, Some(1), &[]);
                    core.timeout();
                    core
                }
            };
            assert_eq!(core.role(), role);
            let effects = core.receive(2, 9, message.clone());
            assert_eq!((core.role(), core.raft.term()), ("follower", 9), "{role} got {message:?}");
            assert_eq!(hard_states(&effects), [HardState { term: 9, voted_for: None }]);
            let leader = matches!(message, Message::Append { .. }).then_some(2);
            assert_eq!(core.raft.leader(), leader);
            let role = TraceEvent::Role { role: TraceRole::Follower, term: 9 };
            assert!(effects.trace.contains(&role));
        }
    }
}

/// What leadership was heard of is forgotten with its term: a vote request of the new term is considered.
#[test]
fn a_new_term_has_no_live_leader_yet() {
    let mut core = Core::new(1, 3, 5, None, &[]);
    core.receive(2, 5, append(id(0, 0), 0, &[]));
    core.receive(3, 6, Message::VoteReply { granted: false });
    let question = Message::PreVoteRequest { candidate_term: 7, last: id(0, 0) };
    assert!(granted(&only(&core.receive(3, 6, question), 3)));
}

/// A leader that no majority answers for the longest election timeout steps down, in its term (thesis §6.2).
#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    for (voters, answering) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        for enough in [true, false] {
            let mut core = Core::leader(voters, 4, &[]);
            let elected = core.now;
            let answering = if enough { answering } else { answering - 1 };
            while core.role() == "leader" && core.now <= elected + 2 * ELECTION_MAX {
                for peer in 2..2 + answering {
                    core.receive(peer, 5, accepted(0));
                }
                core.timeout();
            }
            assert_eq!(core.role() == "leader", enough, "{answering} of {voters} answering");
            if !enough {
                assert_eq!(core.now - elected, ELECTION_MAX, "not sooner, not later");
                assert_eq!((core.raft.term(), core.raft.leader()), (5, None));
                assert_eq!(core.raft.hard_state().voted_for, Some(1), "the vote is spent");
            }
        }
    }
    let mut alone = Core::leader(1, 4, &[]);
    for _ in 0..100 {
        alone.timeout();
    }
    assert_eq!(alone.role(), "leader");
}

/// Trace lines that a checker relies on come in the order of what they say.
#[test]
fn a_term_is_traced_before_the_role_that_it_gives() {
    let mut core = Core::new(1, 1, 0, None, &[]);
    let effects = core.timeout();
    let lsn = core.raft.last_lsn();
    assert_eq!(
        effects.trace,
        [
            TraceEvent::Role { role: TraceRole::PreCandidate, term: 0 },
            TraceEvent::HardState { lsn, term: 1, voted_for: Some(1) },
            TraceEvent::Role { role: TraceRole::Candidate, term: 1 },
        ]
    );
    let effects = core.sync();
    assert_eq!(
        effects.trace[..2],
        [TraceEvent::Durable { lsn }, TraceEvent::Role { role: TraceRole::Leader, term: 1 }]
    );
}
