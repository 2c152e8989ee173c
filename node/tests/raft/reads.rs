//! Linearizable reads: §8 and thesis §6.4, and the defects Q02 and Q03 of the catalogue.

use node::raft::message::Message;
use node::raft::types::Payload;
use node::raft::{Effects, Input};

use crate::core::*;

/// The round that the appends to `to` carry.
fn round(effects: &Effects, to: u32) -> Option<u64> {
    sent(effects, to).last().map(|m| match m.envelope.message {
        Message::Append { round, .. } => round,
        ref other => panic!("no append: {other:?}"),
    })
}

fn served(effects: &Effects) -> Vec<(u64, u64)> {
    effects.reads.iter().map(|read| (read.id, read.index)).collect()
}

/// A leader whose no-op is committed at index 1.
fn leader(voters: u32) -> Core {
    let mut core = Core::leader(voters, 4, &[]);
    for peer in 2..=voters {
        core.receive(peer, 5, accepted(1));
    }
    assert_eq!(core.raft.commit_index(), 1);
    core
}

#[test]
fn a_read_waits_for_a_majority_to_echo_its_round() {
    for (voters, others) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut core = leader(voters);
        let effects = core.input(Input::ReadIndex(7));
        assert_eq!((round(&effects, 2), served(&effects)), (Some(1), vec![]));
        for peer in 2..1 + others {
            assert_eq!(served(&core.receive(peer, 5, echo(1))), [], "{voters} voters");
            assert_eq!(served(&core.receive(peer, 5, echo(1))), [], "the same echo twice");
        }
        assert_eq!(served(&core.receive(1 + others, 5, echo(1))), [(7, 1)], "{voters} voters");
        assert_eq!(served(&core.receive(2, 5, echo(1))), [], "served once");
    }
    assert_eq!(served(&leader(1).input(Input::ReadIndex(7))), [(7, 1)]);
}

/// A late echo takes no newer one back.
#[test]
fn echoes_only_grow() {
    let mut core = leader(5);
    core.input(Input::ReadIndex(7));
    for round in [1, 0] {
        assert_eq!(served(&core.receive(2, 5, echo(round))), []);
    }
    assert_eq!(served(&core.receive(3, 5, echo(1))), [(7, 1)]);
}

/// A rejection is an echo too: it follows this leader, whatever its log.
#[test]
fn a_rejection_of_this_term_echoes() {
    let mut core = leader(3);
    core.input(Input::ReadIndex(7));
    let result = node::raft::message::AppendResult::Rejected { prev_index: 1, hint: id(0, 0) };
    assert_eq!(served(&core.receive(2, 5, Message::AppendReply { round: 1, result })), [(7, 1)]);
}

/// Q03: a reply to anything sent before the read arrived confirms nothing, however late or often it comes.
#[test]
fn echoes_of_earlier_rounds_confirm_nothing() {
    let mut core = leader(3);
    core.input(Input::ReadIndex(7));
    core.receive(2, 5, echo(1));
    let effects = core.input(Input::ReadIndex(8));
    assert_eq!(round(&effects, 3), Some(2));
    for late in [0, 1, 1, 0] {
        for peer in [2, 3] {
            assert_eq!(served(&core.receive(peer, 5, echo(late))), []);
        }
    }
    // Nor does a round that was never started, or an echo of another term.
    assert_eq!(served(&core.receive(3, 4, echo(2))), []);
    assert_eq!(served(&core.receive(3, 5, echo(2))), [(8, 1)]);
    core.receive(2, 5, echo(99));
    let effects = core.input(Input::ReadIndex(9));
    assert_eq!((round(&effects, 2), served(&effects)), (Some(3), vec![]));
    assert_eq!(served(&core.receive(3, 5, echo(2))), []);
    assert_eq!(served(&core.receive(3, 5, echo(3))), [(9, 1)]);
}

/// Reads that arrive while a round is on its way share the next one: no round serves a read that came after it left.
#[test]
fn reads_share_rounds_but_never_join_one_that_has_left() {
    let mut core = leader(3);
    assert_eq!(round(&core.input(Input::ReadIndex(1)), 2), Some(1));
    assert_eq!(round(&core.input(Input::ReadIndex(2)), 2), None, "round 1 is on its way");
    assert_eq!(round(&core.input(Input::ReadIndex(3)), 2), None);
    let effects = core.receive(2, 5, echo(1));
    assert_eq!((served(&effects), round(&effects, 2), round(&effects, 3)), (vec![(1, 1)], Some(2), Some(2)));
    assert_eq!(served(&core.receive(2, 5, echo(2))), [(2, 1), (3, 1)]);
}

/// A lost round is repeated by the next heartbeat.
#[test]
fn a_heartbeat_carries_the_round_again() {
    let mut core = leader(3);
    core.input(Input::ReadIndex(1));
    assert_eq!(round(&core.timeout(), 3), Some(1));
    assert_eq!(served(&core.receive(3, 5, echo(1))), [(1, 1)]);
}

/// A round rides on entries where there are any, and a follower echoes what it got.
#[test]
fn a_round_travels_with_entries_and_comes_back() {
    let mut core = leader(3);
    let mut effects = Effects::default();
    core.raft.step(core.now, Input::Propose(vec![Payload::Noop]), &mut effects);
    core.raft.step(core.now, Input::ReadIndex(1), &mut effects);
    core.raft.flush(core.now, &mut effects);
    let Message::Append { round, ref entries, .. } = only(&effects, 2).envelope.message else { panic!() };
    assert_eq!((round, entries.len()), (1, 1));
    let mut follower = Core::new(2, 3, 5, None, &[5]);
    let reply = only(&follower.receive(1, 5, only(&effects, 2).envelope.message), 1);
    assert!(matches!(reply.envelope.message, Message::AppendReply { round: 1, .. }));
    let reply = only(
        &follower.receive(
            1,
            5,
            Message::Append { prev: id(9, 5), commit_index: 0, round: 6, entries: vec![] },
        ),
        1,
    );
    assert!(matches!(reply.envelope.message, Message::AppendReply { round: 6, .. }));
}

/// Q02: a new leader's commit index may be behind until it has committed an entry of its own term.
#[test]
fn no_read_before_a_commit_in_this_term() {
    let mut core = Core::leader(3, 4, &[1, 2]);
    let effects = core.input(Input::ReadIndex(7));
    assert_eq!(round(&effects, 2), None);
    assert_eq!(served(&core.receive(2, 5, accepted(2))), []);
    assert_eq!(core.raft.commit_index(), 0);
    let effects = core.receive(2, 5, accepted(3));
    assert_eq!((core.raft.commit_index(), served(&effects), round(&effects, 2)), (3, vec![], Some(1)));
    assert_eq!(served(&core.receive(2, 5, echo(1))), [(7, 3)]);
    core.input(Input::ReadIndex(8));
    assert_eq!(served(&core.receive(2, 5, echo(2))), [(8, 3)], "right at the no-op is enough");
}

/// Also if everything before its term is known to be committed: the no-op itself decides.
#[test]
fn a_new_leader_that_knows_all_commits_waits_for_its_own() {
    let mut core = Core::new(1, 3, 1, None, &[1, 1]);
    core.receive(2, 1, append(id(2, 1), 2, &[]));
    core.win();
    assert_eq!(core.raft.commit_index(), 2);
    assert_eq!(round(&core.input(Input::ReadIndex(7)), 2), None);
}

#[test]
fn a_read_is_served_at_the_commit_index_of_its_arrival_or_later() {
    let mut core = leader(3);
    core.input(Input::Propose(vec![Payload::Noop; 2]));
    core.sync();
    core.input(Input::ReadIndex(1));
    core.receive(2, 5, accepted(3));
    core.input(Input::ReadIndex(2));
    assert_eq!(served(&core.receive(2, 5, echo(1))), [(1, 1)]);
    assert_eq!(served(&core.receive(2, 5, echo(2))), [(2, 3)]);
}

#[test]
fn reads_fail_with_the_leadership() {
    let mut core = leader(3);
    core.input(Input::ReadIndex(1));
    let effects = core.receive(2, 6, Message::VoteReply { granted: false });
    assert_eq!((effects.failed_reads, effects.reads), (vec![1], vec![]));
    assert_eq!(core.input(Input::ReadIndex(2)).failed_reads, [2]);
    assert_eq!(served(&core.receive(2, 6, echo(1))), []);
    // Also those that were waiting for the first commit; and the next leadership begins with none of them.
    let mut core = Core::leader(3, 4, &[]);
    core.input(Input::ReadIndex(3));
    assert_eq!(core.receive(2, 6, append(id(0, 0), 0, &[])).failed_reads, [3]);
    core.win();
    core.sync();
    assert_eq!(served(&core.receive(2, 7, accepted(2))), []);
    core.input(Input::ReadIndex(4));
    assert_eq!(served(&core.receive(2, 7, echo(1))), [(4, core.raft.commit_index())]);
}
