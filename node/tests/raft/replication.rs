//! Log replication: §5.3, §5.4.2, the AppendEntries rules of Figure 2, and the flow of messages. Named after the rules.

use node::raft::message::{AppendResult, Envelope, Message};
use node::raft::progress::ProgressState;
use node::raft::types::{Index, Payload, Record, Term};
use node::raft::{Effects, Input};
use node::trace::TraceEvent;

use crate::core::*;

/// The append in a message: index before it, number of entries, commit index.
fn carried(outgoing: &node::raft::Outgoing) -> (Index, usize, Index) {
    match &outgoing.envelope.message {
        Message::Append { prev, entries, commit_index, .. } => (prev.index, entries.len(), *commit_index),
        other => panic!("no append: {other:?}"),
    }
}

fn appends(effects: &Effects, to: u32) -> Vec<(Index, usize, Index)> {
    sent(effects, to).into_iter().map(carried).collect()
}

fn propose(core: &mut Core, count: usize) -> Effects {
    core.input(Input::Propose(vec![Payload::Noop; count]))
}

/// What a leader may have appended beyond its commit index is bounded in bytes of payloads.
#[test]
fn payloads_count_until_they_are_committed() {
    let mut core = Core::leader(3, 0, &[]);
    core.input(Input::Propose(vec![command("four"), command("sixsix")]));
    assert_eq!(core.raft.uncommitted_bytes(), 10);
    core.sync();
    core.receive(2, 1, accepted(2));
    assert_eq!((core.raft.commit_index(), core.raft.uncommitted_bytes()), (2, 6));
}

// ---- The follower ----

/// "Reply false if term < currentTerm": the sender learns the term, and nothing else happens here.
#[test]
fn an_append_of_an_older_term_is_refused() {
    let mut core = Core::new(2, 3, 5, None, &[1]);
    let deadline = core.raft.next_deadline();
    core.now = 7;
    let effects = core.receive(1, 4, append(id(1, 1), 1, &[4]));
    let reply = only(&effects, 1);
    assert!(matches!(result(&reply), AppendResult::Rejected { prev_index: 1, .. }));
    assert_eq!(reply.envelope.term, 5);
    assert_eq!((core.log(), core.raft.commit_index(), core.raft.leader()), (vec![1], 0, None));
    assert_eq!(core.raft.next_deadline(), deadline, "a deposed leader does not hold off elections");
}

/// "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm", with a hint that skips a
/// whole term.
#[test]
fn an_append_without_a_match_is_rejected() {
    for (prev, hint) in [
        (id(9, 4), id(5, 4)), // beyond the end
        (id(5, 5), id(4, 2)), // another term here: what precedes it may match
        (id(5, 3), id(4, 2)),
        (id(5, 1), id(1, 1)), // of term 2 the leader has nothing there
        (id(2, 1), id(1, 1)),
        (id(1, 9), id(0, 0)),
    ] {
        let mut core = Core::new(2, 3, 9, None, &[1, 2, 2, 2, 4]);
        let effects = core.receive(1, 9, append(prev, 9, &[9]));
        let expected = AppendResult::Rejected { prev_index: prev.index, hint };
        assert_eq!(result(&only(&effects, 1)), expected, "{prev}");
        assert_eq!((core.log(), core.raft.commit_index()), (vec![1, 2, 2, 2, 4], 0));
        assert_eq!(core.raft.leader(), Some(1), "it is the leader all the same");
    }
}

/// The four cases of etcd's paper test: append, overwrite, keep.
#[test]
fn a_conflicting_entry_goes_with_all_that_follow_it() {
    for (prev, terms, expected) in [
        (id(2, 2), &[3][..], vec![1, 2, 3]),
        (id(1, 1), &[3, 4], vec![1, 3, 4]),
        (id(0, 0), &[1], vec![1, 2]), // no conflict: nothing goes (defect R07)
        (id(0, 0), &[3], vec![3]),
        (id(1, 1), &[2], vec![1, 2]),
        (id(1, 1), &[2, 3], vec![1, 2, 3]),
        (id(0, 0), &[], vec![1, 2]),
        (id(0, 0), &[1, 3], vec![1, 3]),
    ] {
        let mut core = Core::new(2, 3, 4, None, &[1, 2]);
        let effects = core.receive(1, 4, append(prev, 0, terms));
        assert_eq!(core.log(), expected, "{terms:?} after {prev}");
        let accepted = AppendResult::Accepted { match_index: prev.index + terms.len() as Index };
        assert_eq!(result(&only(&effects, 1)), accepted);
        // The truncation is a record of its own, before the entries that follow it (etcd#22442).
        let cut = effects.records.iter().position(|(_, r)| matches!(r, Record::Truncate { .. }));
        assert_eq!(cut, (expected[..1] == [3] || expected.get(1) == Some(&3)).then_some(0));
    }
}

#[test]
fn a_duplicate_and_a_late_shorter_append_change_nothing() {
    let mut core = Core::new(2, 3, 2, None, &[1]);
    core.receive(1, 2, append(id(1, 1), 1, &[2, 2, 2]));
    core.receive(1, 2, append(id(1, 1), 4, &[2, 2, 2]));
    assert_eq!(core.raft.commit_index(), 4);
    for late in [append(id(1, 1), 0, &[2]), append(id(0, 0), 1, &[]), append(id(1, 1), 2, &[2, 2])] {
        let effects = core.receive(1, 2, late);
        assert!(effects.records.is_empty());
        assert_eq!((core.log(), core.raft.commit_index()), (vec![1, 2, 2, 2], 4));
    }
}

/// "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)" (defects R02, R03, R04).
#[test]
fn commit_is_bounded_by_what_is_known_to_match() {
    for (prev, terms, leader_commit, expected) in [
        (id(1, 1), &[2][..], 1, 1),
        (id(1, 1), &[2], 2, 2),
        (id(1, 1), &[2], 9, 2),
        (id(1, 1), &[], 9, 1), // the rest of this log may be somebody else's
        (id(0, 0), &[], 9, 0),
        (id(3, 1), &[], 3, 3),
    ] {
        let mut core = Core::new(2, 3, 2, None, &[1, 1, 1]);
        core.receive(1, 2, append(prev, leader_commit, terms));
        assert_eq!(core.raft.commit_index(), expected, "{prev} {terms:?} {leader_commit}");
    }
}

#[test]
fn an_acknowledgement_waits_for_its_entries_and_for_the_term() {
    let mut core = Core::new(2, 3, 1, None, &[1]);
    let effects = core.receive(1, 2, append(id(1, 1), 0, &[2, 2]));
    let [(term, Record::HardState(_)), (_, Record::Entry(_)), (last, Record::Entry(_))] =
        &effects.records[..]
    else {
        panic!("{:?}", effects.records)
    };
    assert_eq!(only(&effects, 1).after, *last);
    // A duplicate of a part waits for that part.
    assert_eq!(only(&core.receive(1, 2, append(id(1, 1), 0, &[2])), 1).after, last - 1);
    // A heartbeat and a rejection promise no entry: they wait for the term alone.
    let heartbeat = only(&core.receive(1, 2, append(id(3, 2), 0, &[])), 1);
    assert_eq!((result(&heartbeat), heartbeat.after), (AppendResult::Accepted { match_index: 1 }, *term));
    assert_eq!(only(&core.receive(1, 2, append(id(9, 2), 0, &[])), 1).after, *term);
    core.sync();
    let heartbeat = only(&core.receive(1, 2, append(id(3, 2), 0, &[])), 1);
    assert_eq!(result(&heartbeat), AppendResult::Accepted { match_index: 3 });
    // Entries that are on disk already, from the leader of a term that is not.
    let effects = core.receive(3, 3, append(id(1, 1), 0, &[2]));
    assert_eq!(only(&effects, 3).after, effects.records[0].0);
}

/// What was on disk and is overwritten is on disk no more: neither a heartbeat's answer nor a leader counts its successor.
#[test]
fn an_overwritten_entry_is_not_durable() {
    let mut core = Core::new(1, 3, 1, None, &[1, 1, 1]);
    core.receive(2, 2, append(id(1, 1), 0, &[2, 2]));
    assert_eq!(core.raft.log().durable_index(), 1);
    let heartbeat = only(&core.receive(2, 2, append(id(3, 2), 0, &[])), 2);
    assert_eq!(result(&heartbeat), AppendResult::Accepted { match_index: 1 });
    let lsn = core.raft.last_lsn();
    core.input(Input::Durable(lsn - 1));
    assert_eq!(core.raft.log().durable_index(), 2);
    core.sync();
    assert_eq!(core.raft.log().durable_index(), 3);
}

/// "If election timeout elapses without receiving AppendEntries": each one from the leader resets it.
#[test]
fn a_leader_that_speaks_is_followed() {
    let mut core = Core::new(2, 3, 1, None, &[]);
    for _ in 0..50 {
        core.now = core.raft.next_deadline() - 1;
        core.receive(1, 1, append(id(0, 0), 0, &[]));
        assert!(core.raft.next_deadline() >= core.now + ELECTION_MIN);
        core.input(Input::Tick);
        assert_eq!((core.role(), core.raft.leader()), ("follower", Some(1)));
    }
    core.timeout();
    assert_eq!((core.role(), core.raft.leader()), ("pre_candidate", None));
    core.receive(1, 1, append(id(0, 0), 0, &[]));
    assert_eq!((core.role(), core.raft.leader()), ("follower", Some(1)));
}

#[test]
#[should_panic(expected = "may not be discarded")]
fn a_committed_entry_is_never_discarded() {
    let mut core = Core::new(2, 3, 2, None, &[1, 1]);
    core.receive(1, 2, append(id(2, 1), 2, &[]));
    core.receive(1, 2, append(id(1, 1), 0, &[2]));
}

#[test]
fn an_uncommitted_entry_right_after_the_committed_ones_may_go() {
    let mut core = Core::new(2, 3, 2, None, &[1, 1]);
    core.receive(1, 2, append(id(1, 1), 1, &[]));
    core.receive(1, 2, append(id(1, 1), 1, &[2]));
    assert_eq!(core.log(), [1, 2]);
}

// ---- The leader ----

/// "Upon election: send initial AppendEntries to each server", with the no-op of the new term (§8).
#[test]
fn a_new_leader_speaks_at_once_and_appends_a_no_op() {
    let mut core = Core::new(1, 3, 4, None, &[1, 4]);
    core.timeout();
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    core.sync();
    let effects = core.receive(2, 5, Message::VoteReply { granted: true });
    assert_eq!(core.log(), [1, 4, 5]);
    for peer in [2, 3] {
        let first = only(&effects, peer);
        assert_eq!(first.after, 0, "it may leave while the leader writes it itself (thesis §10.2.1)");
        assert_eq!(carried(&first), (2, 1, 0));
    }
    assert_eq!(core.raft.next_deadline(), core.now + HEARTBEAT);
}

#[test]
fn an_idle_leader_repeats_its_heartbeat() {
    let mut core = Core::leader(3, 4, &[]);
    for peer in [2, 3] {
        core.receive(peer, 5, accepted(1));
    }
    for _ in 0..5 {
        let before = core.now;
        let effects = core.timeout();
        assert_eq!(core.now - before, HEARTBEAT);
        assert_eq!(core.raft.next_deadline(), core.now + HEARTBEAT);
        assert_eq!((appends(&effects, 2), appends(&effects, 3)), (vec![(1, 0, 1)], vec![(1, 0, 1)]));
        for peer in [2, 3] {
            core.receive(peer, 5, accepted(1));
        }
    }
}

/// §5.4.2: a majority has it, and it is of this term. The leader counts itself when its own disk has it (defect R22).
#[test]
fn an_entry_commits_when_a_majority_has_it_on_disk() {
    for (voters, others) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut core = Core::leader(voters, 4, &[]);
        for peer in 2..=voters {
            core.receive(peer, 5, accepted(1));
        }
        propose(&mut core, 1);
        for peer in 2..2 + others {
            core.receive(peer, 5, accepted(2));
        }
        assert_eq!(core.raft.commit_index(), 1, "{voters} voters: not on its own disk yet");
        let effects = core.sync();
        assert_eq!(core.raft.commit_index(), 2, "{voters} voters, {others} others");
        let (term, chain) = (5, core.raft.log().chain_at(2));
        assert!(effects.trace.contains(&TraceEvent::Commit { term, commit_index: 2, chain }));
        // One fewer is none, and a majority of others does without the leader's disk.
        propose(&mut core, 1);
        core.sync();
        for peer in 2..1 + others {
            core.receive(peer, 5, accepted(3));
        }
        assert_eq!(core.raft.commit_index(), if voters == 1 { 3 } else { 2 });
    }
    let mut core = Core::leader(3, 4, &[]);
    propose(&mut core, 1);
    for peer in [2, 3] {
        core.receive(peer, 5, accepted(2));
    }
    assert_eq!((core.raft.commit_index(), core.raft.log().durable_index()), (2, 1));
}

/// Figure 8: entries of an older term never commit by counting, only with one of this term.
#[test]
fn entries_of_older_terms_do_not_commit_by_counting() {
    let mut core = Core::leader(3, 4, &[1, 2]);
    assert_eq!(core.log(), [1, 2, 5]);
    for (match_index, expected) in [(1, 0), (2, 0), (3, 3)] {
        core.receive(2, 5, accepted(match_index));
        assert_eq!(core.raft.commit_index(), expected);
    }
}

/// Matches only grow, and only within the leader's log (defects R05, R06).
#[test]
fn late_duplicated_and_impossible_acknowledgements_move_nothing_back() {
    let mut core = Core::leader(3, 4, &[]);
    core.receive(2, 5, accepted(1));
    propose(&mut core, 3);
    core.sync();
    for match_index in [4, 2, 4, 1, 99] {
        core.receive(2, 5, accepted(match_index));
        let progress = &core.raft.progress()[&2];
        assert_eq!((progress.match_index, progress.next_index, core.raft.commit_index()), (4, 5, 4));
    }
    core.receive(3, 4, accepted(4)); // of an older term
    core.receive(3, 5, accepted(5));
    assert_eq!(core.raft.progress()[&3].match_index, 0);
}

#[test]
fn what_was_sent_is_not_yet_matched() {
    let mut core = Core::leader(3, 4, &[]);
    core.receive(2, 5, accepted(1));
    propose(&mut core, 2);
    core.sync();
    let progress = &core.raft.progress()[&2];
    assert_eq!((progress.match_index, progress.next_index, core.raft.commit_index()), (1, 4, 1));
}

/// "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry", a whole term at a time.
#[test]
fn a_rejection_moves_back_to_where_the_logs_may_agree() {
    let mut core = Core::leader(3, 6, &[1, 1, 1, 4, 4, 6, 6]);
    let effects = core.receive(2, 7, rejected(7, id(6, 3)));
    assert_eq!(appends(&effects, 2), [(3, 5, 0)], "of terms up to 3 this log has 3 entries");
    assert_eq!(core.raft.progress()[&2].state, ProgressState::Probe);
    assert!(core.receive(2, 7, rejected(7, id(6, 3))).messages.is_empty(), "the same one again is stale");
    let effects = core.receive(2, 7, rejected(3, id(0, 0)));
    assert_eq!(appends(&effects, 2), [(0, 6, 0)], "a message takes 60 bytes of entries");
    let effects = core.receive(2, 7, accepted(6));
    assert_eq!(appends(&effects, 2), [(6, 2, 0)]);
    assert_eq!(core.raft.progress()[&2].state, ProgressState::Replicate);
}

/// Nothing falls below what is matched, whatever is rejected (seed S13).
#[test]
fn a_rejection_never_goes_below_the_match_or_the_first_entry() {
    let mut core = Core::leader(3, 4, &[1, 1]);
    core.receive(2, 5, accepted(2));
    core.receive(2, 5, rejected(3, id(0, 0)));
    assert_eq!(core.raft.progress()[&2].next_index, 3);
    for _ in 0..3 {
        core.receive(3, 5, rejected(2, id(0, 0)));
        core.receive(3, 5, rejected(0, id(0, 0)));
        assert_eq!(core.raft.progress()[&3].next_index, 1);
    }
    // A hint beyond what was asked for is no way forward.
    let mut core = Core::leader(3, 4, &[1, 1]);
    core.receive(3, 5, rejected(2, id(99, 99)));
    assert_eq!(core.raft.progress()[&3].next_index, 2);
}

#[test]
fn a_rejection_of_what_is_matched_by_now_is_stale() {
    let mut core = Core::leader(3, 4, &[1, 1]);
    core.receive(2, 5, accepted(3));
    for prev_index in [2, 3] {
        assert!(core.receive(2, 5, rejected(prev_index, id(0, 0))).messages.is_empty());
        assert_eq!(core.raft.progress()[&2].state, ProgressState::Replicate);
    }
}

/// A probe waits for its answer; a match opens a window of messages that do not.
#[test]
fn probe_one_then_pipeline_up_to_the_window() {
    let mut core = Core::leader(3, 4, &[]);
    assert!(appends(&propose(&mut core, 1), 2).is_empty(), "the no-op is still the probe");
    let effects = core.receive(2, 5, accepted(1));
    assert_eq!(appends(&effects, 2), [(1, 1, 1)]);
    for index in 2..=4 {
        assert_eq!(appends(&propose(&mut core, 1), 2), [(index, 1, 1)]);
    }
    assert!(appends(&propose(&mut core, 1), 2).is_empty(), "four messages are on their way");
    assert_eq!(appends(&core.receive(2, 5, accepted(2)), 2), [(5, 1, 1)], "one answered, one more");
    assert!(appends(&core.receive(2, 5, accepted(2)), 2).is_empty());
    assert_eq!(core.raft.progress()[&2].next_index, 7);
}

/// A silent peer gets one message an interval, however much is proposed (defect T06), and everything once it answers.
#[test]
fn a_silent_peer_gets_one_message_an_interval() {
    let mut core = Core::leader(3, 4, &[]);
    for peer in [2, 3] {
        core.receive(peer, 5, accepted(1));
    }
    let mut bytes = 0;
    for _ in 0..40 {
        let mut count = 0;
        for effects in [propose(&mut core, 5), propose(&mut core, 5), core.timeout()] {
            count += sent(&effects, 3).len();
            bytes = effects.messages.iter().map(|m| format!("{m:?}").len()).max().unwrap_or(bytes).max(bytes);
        }
        assert!(count <= 5, "{count} messages in an interval");
        let last = core.raft.log().last().index;
        core.receive(2, 5, accepted(last));
    }
    for _ in 0..10 {
        assert!(sent(&propose(&mut core, 5), 3).is_empty());
        assert_eq!(appends(&core.timeout(), 3), [(1, 6, core.raft.commit_index())]);
        core.receive(2, 5, accepted(1));
    }
    let mut acknowledged = 7;
    while acknowledged < core.raft.log().last().index {
        let effects = core.receive(3, 5, accepted(acknowledged));
        let last = appends(&effects, 3).last().map(|(prev, count, _)| prev + *count as Index);
        acknowledged = last.expect("each answer brings more");
    }
}

/// Long payloads are a few bytes of a message each, but not of the window: the follower has to fetch them.
#[test]
fn the_bytes_on_their_way_to_a_follower_are_bounded() {
    let mut core = Core::leader(3, 4, &[]);
    core.receive(2, 5, accepted(1));
    let long = || command(&"x".repeat(400));
    let effects = core.input(Input::Propose((0..10).map(|_| long()).collect()));
    assert_eq!(
        appends(&effects, 2),
        [(1, 2, 1), (3, 1, 1)],
        "of 1,000 bytes, and the one that crosses the bound"
    );
    assert!(sent(&core.input(Input::Propose(vec![long()])), 2).is_empty());
    let effects = core.receive(2, 5, accepted(3));
    assert_eq!(appends(&effects, 2).iter().map(|(_, count, _)| count).sum::<usize>(), 2);
}

#[test]
fn a_message_unanswered_for_an_interval_is_sent_again_from_the_match() {
    let mut core = Core::leader(3, 4, &[]);
    core.receive(2, 5, accepted(1));
    core.timeout();
    core.now = core.raft.next_deadline() - 1;
    propose(&mut core, 1);
    core.now += 1;
    let effects = core.input(Input::Tick);
    assert_eq!(appends(&effects, 2), [(2, 0, 1)], "1 ns old: not lost yet, so a heartbeat");
    let effects = core.timeout();
    assert_eq!(appends(&effects, 2), [(1, 1, 1)]);
    assert_eq!(core.raft.progress()[&2].state, ProgressState::Probe);
}

/// What was given up as lost takes no room in the window.
#[test]
fn a_restarted_pipeline_has_its_whole_window() {
    let mut core = Core::leader(3, 4, &[]);
    core.receive(2, 5, accepted(1));
    for _ in 0..3 {
        propose(&mut core, 1);
    }
    core.timeout();
    core.timeout();
    assert_eq!(core.raft.progress()[&2].state, ProgressState::Probe);
    assert_eq!(core.receive(2, 5, accepted(2)).messages.len(), 1, "entries 3 and 4");
    for index in 4..=6 {
        assert_eq!(appends(&propose(&mut core, 1), 2), [(index, 1, 1)]);
    }
}

/// A restarted process lost what was in its sockets: the pipeline starts anew; what it acknowledged it still has.
#[test]
fn another_incarnation_restarts_the_pipeline_and_keeps_the_match() {
    let mut core = Core::leader(3, 4, &[]);
    let receive = |core: &mut Core, incarnation| {
        let envelope = Envelope { from: 2, to: 1, term: 5, message: accepted(1) };
        core.input(Input::Message(envelope, process(2, incarnation)))
    };
    receive(&mut core, 1);
    assert_eq!(appends(&propose(&mut core, 1), 2), [(1, 1, 1)]);
    assert!(appends(&receive(&mut core, 1), 2).is_empty());
    assert_eq!(appends(&receive(&mut core, 2), 2), [(1, 1, 1)], "sent again at once");
    assert_eq!(core.raft.progress()[&2].match_index, 1);
}

/// Leader Append-Only: whoever claims to lead the same term, a leader's log only grows (defect R17).
#[test]
fn a_leader_takes_no_entries_from_another_leader_of_its_term() {
    let mut core = Core::leader(3, 4, &[1]);
    let effects = core.receive(2, 5, append(id(0, 0), 9, &[5, 5]));
    assert!(effects.messages.is_empty() && effects.records.is_empty());
    assert_eq!((core.role(), core.log(), core.raft.commit_index()), ("leader", vec![1, 5], 0));
}

#[test]
fn a_former_leader_overwrites_what_it_did_not_commit() {
    let mut core = Core::leader(3, 4, &[1]);
    propose(&mut core, 2);
    core.receive(2, 6, append(id(1, 1), 2, &[6]));
    assert_eq!((core.role(), core.log(), core.raft.commit_index()), ("follower", vec![1, 6], 2));
    assert!(core.raft.progress().is_empty());
}

#[test]
#[should_panic(expected = "only a leader proposes")]
fn a_follower_proposes_nothing() {
    propose(&mut Core::new(1, 3, 1, None, &[]), 1);
}

/// The i-th entry of an append event has record lsn + i; a change of term begins another event.
#[test]
fn appended_entries_are_traced_term_by_term() {
    let mut core = Core::new(2, 3, 1, None, &[1]);
    let effects = core.receive(1, 3, append(id(1, 1), 0, &[2, 2, 3]));
    let chains =
        |range: std::ops::RangeInclusive<Index>| range.map(|i| core.raft.log().chain_at(i)).collect();
    let appended: Vec<_> =
        effects.trace.iter().filter(|e| matches!(e, TraceEvent::Append { .. })).cloned().collect();
    let lsn = effects.records[1].0;
    let event = |lsn, prev_index, term: Term, chains| TraceEvent::Append { lsn, prev_index, term, chains };
    assert_eq!(appended, [event(lsn, 1, 2, chains(2..=3)), event(lsn + 2, 3, 3, chains(4..=4))]);
}
