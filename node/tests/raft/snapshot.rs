//! Logs that begin after a snapshot: §7, Figure 13, and the defects R10, R11, Z01, Z02 and Z03 of the catalogue.

use node::raft::event::Event;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Message, SnapshotOffer};
use node::raft::progress::ProgressState;
use node::raft::types::{Entry, HardState, Index, Payload, Record, SnapshotMark, Term};
use node::raft::{Effects, Input, RaftConfig, Recovered};
use node::trace::TraceEvent;

use crate::core::*;

fn offer(index: Index, term: Term) -> SnapshotOffer {
    SnapshotOffer { last: id(index, term), size: 10, root: [index as u8; 32] }
}

/// The mark of a snapshot that was made elsewhere.
fn mark(index: Index, term: Term) -> SnapshotMark {
    let (last, chain) = (id(index, term), 1_000 + index);
    SnapshotMark { last, chain, base: last, base_chain: chain, membership: membership(5).encode().into() }
}

fn fetched(core: &mut Core, index: Index, term: Term) -> Effects {
    core.input(Input::SnapshotFetched(offer(index, term), mark(index, term)))
}

/// Node 2 of 3, following node 1 in `term`.
fn follower(term: Term, terms: &[Term], commit_index: Index) -> Core {
    let mut core = Core::new(2, 3, term, None, terms);
    let last = terms.last().map_or(id(0, 0), |last| id(terms.len() as Index, *last));
    core.receive(1, term, append(last, commit_index, &[]));
    assert_eq!(core.raft.commit_index(), commit_index);
    core
}

/// Node 1 of 3, leading term 5, with the log 1 1 1 5 on every disk, and a snapshot up to entry 3.
fn leader() -> Core {
    let mut core = Core::leader(3, 4, &[1, 1, 1]);
    core.receive(2, 5, accepted(4));
    core.input(Input::SnapshotSaved(offer(3, 1)));
    assert_eq!((core.raft.commit_index(), core.raft.log().first_index()), (4, 4));
    core
}

fn marks(effects: &Effects) -> Vec<SnapshotMark> {
    let mark = |(_, record): &(_, Record)| match record {
        Record::Snapshot(mark) => Some(mark.clone()),
        _ => None,
    };
    effects.records.iter().filter_map(mark).collect()
}

/// What the log holds: index before it, and the terms.
fn held(core: &Core) -> (Index, Vec<Term>) {
    let log = core.raft.log();
    (log.base().index, (log.first_index()..=log.last().index).map(|i| log.term_at(i).unwrap()).collect())
}

// ---- The own snapshot ----

#[test]
fn a_saved_snapshot_stands_for_the_entries_before_it() {
    let mut core = follower(2, &[1, 1, 2, 2], 3);
    let (chain, bytes) = (core.raft.log().chain_at(3), membership(3).encode());
    let effects = core.input(Input::SnapshotSaved(offer(3, 2)));
    let expected =
        SnapshotMark { last: id(3, 2), chain, base: id(3, 2), base_chain: chain, membership: bytes.into() };
    assert_eq!((effects.records.len(), marks(&effects)), (1, vec![expected]));
    assert!(effects.events.contains(&Event::Compacted { last: id(3, 2), first_index: 4 }));
    assert_eq!((held(&core), core.raft.snapshot()), ((3, vec![2]), Some(offer(3, 2))));
    assert_eq!((core.raft.log().chain_at(3), core.raft.commit_index()), (chain, 3));
    assert!(effects.restore.is_none() && effects.messages.is_empty());
}

#[test]
fn some_entries_are_kept_for_followers_that_are_a_little_behind() {
    let config = RaftConfig { trailing_entries: 2, ..config(2) };
    let recovered = recovered(3, HardState { term: 1, voted_for: None }, entries(0, &[1, 1, 1, 1]), 4);
    let mut core = Core::start(config, recovered);
    core.receive(1, 1, append(id(4, 1), 4, &[]));
    let chains = [1, 3].map(|index| core.raft.log().chain_at(index));
    let effects = core.input(Input::SnapshotSaved(offer(3, 1)));
    let mark = &marks(&effects)[0];
    assert_eq!((mark.last, mark.base, [mark.base_chain, mark.chain]), (id(3, 1), id(1, 1), chains));
    assert_eq!(held(&core), (1, vec![1, 1, 1]));
    // More than there is to keep is everything.
    let mut core = follower(1, &[1, 1], 1);
    core.input(Input::SnapshotSaved(offer(1, 1)));
    assert_eq!(held(&core), (1, vec![1]));
}

/// What this disk does not have yet is not forgotten, though others have it and it is committed.
#[test]
fn an_entry_that_is_not_durable_is_not_compacted_for_an_own_snapshot() {
    let mut core = follower(2, &[1], 1);
    core.receive(1, 2, append(id(1, 1), 3, &[2, 2]));
    let effects = core.input(Input::SnapshotSaved(offer(3, 2)));
    let mark = &marks(&effects)[0];
    assert_eq!((mark.last, mark.base), (id(3, 2), id(1, 1)));
    assert_eq!((held(&core), core.raft.log().durable_index()), ((1, vec![2, 2]), 1));
    core.sync();
    core.input(Input::SnapshotSaved(offer(3, 2)));
    assert_eq!(held(&core), (1, vec![2, 2]), "the same snapshot again changes nothing");
}

#[test]
fn snapshots_that_say_nothing_new_change_nothing() {
    let mut core = follower(2, &[1, 1, 2, 2], 4);
    core.input(Input::SnapshotSaved(offer(3, 2)));
    for stale in [offer(3, 2), offer(2, 1), offer(4, 9)] {
        let effects = core.input(Input::SnapshotSaved(stale));
        assert!(effects.records.is_empty(), "{stale:?}");
        assert_eq!((held(&core), core.raft.snapshot()), ((3, vec![2]), Some(offer(3, 2))));
    }
    core.input(Input::SnapshotSaved(offer(4, 2)));
    assert_eq!((held(&core), core.raft.snapshot()), ((4, vec![]), Some(offer(4, 2))));
    assert_eq!(core.raft.log().last(), id(4, 2), "the log ends where it begins");
}

#[test]
#[should_panic(expected = "but only 2 is committed")]
fn a_snapshot_of_what_is_not_committed_is_a_defect() {
    follower(1, &[1, 1, 1], 2).input(Input::SnapshotSaved(offer(3, 1)));
}

// ---- The leader ----

#[test]
fn a_follower_that_needs_what_is_gone_is_offered_the_snapshot() {
    let mut core = leader();
    let effects = core.receive(3, 5, rejected(3, id(0, 0)));
    let message = Message::Snapshot { offer: offer(3, 1), round: 0 };
    assert_eq!((&only(&effects, 3).envelope.message, only(&effects, 3).after), (&message, 0));
    assert_eq!(core.raft.progress()[&3].state, ProgressState::Snapshot(3));
    assert!(sent(&core.input(Input::Propose(vec![command("x")])), 3).is_empty(), "nothing can follow yet");
    // The offer is the heartbeat, and repeated: it may have been lost.
    assert_eq!(only(&core.timeout(), 3).envelope.message, message);
    assert!(
        core.receive(3, 5, rejected(4, id(0, 0))).messages.is_empty(),
        "whatever it lacks, it is in there"
    );
    let fetching = Message::AppendReply { round: 0, result: AppendResult::Fetching };
    assert!(core.receive(3, 5, fetching).messages.is_empty());
    // Acknowledgements of less than the snapshot do not end it; that of the snapshot does, with what follows.
    assert!(core.receive(3, 5, accepted(2)).messages.is_empty());
    let effects = core.receive(3, 5, accepted(3));
    let Message::Append { prev, ref entries, .. } = only(&effects, 3).envelope.message else { panic!() };
    assert_eq!((prev, entries.len()), (id(3, 1), 2));
    assert_eq!(core.raft.progress()[&3].state, ProgressState::Replicate);
}

#[test]
fn one_that_needs_the_first_entry_that_is_left_gets_entries() {
    let mut core = leader();
    let effects = core.timeout();
    let Message::Append { prev, ref entries, .. } = only(&effects, 3).envelope.message else { panic!() };
    assert_eq!((prev, entries.len()), (id(3, 1), 1), "the base is still known by its term");
}

/// A probe whose entry was compacted while it was on its way: nothing can be said of what precedes it, but the leader is heard.
#[test]
fn a_probe_overtaken_by_compaction_becomes_an_offer() {
    let mut core = Core::leader(3, 4, &[1, 1, 1]);
    core.receive(3, 5, rejected(3, id(1, 1)));
    assert_eq!(core.raft.progress()[&3].next_index, 2);
    core.receive(2, 5, accepted(4));
    core.input(Input::SnapshotSaved(offer(3, 1)));
    for _ in 0..2 {
        let effects = core.timeout();
        assert_eq!(only(&effects, 3).envelope.message, Message::Snapshot { offer: offer(3, 1), round: 0 });
        core.receive(2, 5, accepted(4));
    }
}

#[test]
fn a_later_snapshot_takes_the_place_of_an_earlier_offer() {
    let mut core = leader();
    core.receive(3, 5, rejected(3, id(0, 0)));
    core.input(Input::SnapshotSaved(offer(4, 5)));
    assert_eq!(only(&core.timeout(), 3).envelope.message, Message::Snapshot { offer: offer(4, 5), round: 0 });
    assert_eq!(core.raft.progress()[&3].state, ProgressState::Snapshot(4));
}

#[test]
fn an_offer_carries_the_read_round() {
    let mut core = leader();
    core.receive(3, 5, rejected(3, id(0, 0)));
    let effects = core.input(Input::ReadIndex(7));
    assert_eq!(only(&effects, 3).envelope.message, Message::Snapshot { offer: offer(3, 1), round: 1 });
    let effects = core.receive(3, 5, Message::AppendReply { round: 1, result: AppendResult::Fetching });
    assert_eq!(effects.reads.len(), 1, "who fetches follows this leader");
}

// ---- The follower ----

#[test]
fn an_offer_is_fetched_and_counts_as_a_sign_of_life() {
    let mut core = Core::new(2, 3, 4, None, &[1]);
    core.now = core.raft.next_deadline() - 1;
    let effects = core.receive(1, 5, Message::Snapshot { offer: offer(9, 4), round: 3 });
    assert_eq!(effects.fetch, Some((1, offer(9, 4))));
    let reply = only(&effects, 1);
    assert_eq!(reply.envelope.message, Message::AppendReply { round: 3, result: AppendResult::Fetching });
    assert_eq!(
        (reply.after, reply.envelope.term),
        (effects.records[0].0, 5),
        "the new term is durable first"
    );
    assert_eq!((core.raft.leader(), held(&core)), (Some(1), (0, vec![1])));
    assert!(core.raft.next_deadline() >= core.now + ELECTION_MIN);
}

/// Z03: InstallSnapshot rule 1.
#[test]
fn an_offer_of_an_older_term_is_refused() {
    let mut core = Core::new(2, 3, 5, None, &[1]);
    let deadline = core.raft.next_deadline();
    core.now = 7;
    let effects = core.receive(1, 4, Message::Snapshot { offer: offer(9, 4), round: 3 });
    assert_eq!((effects.fetch, core.raft.leader(), core.raft.term()), (None, None, 5));
    assert!(matches!(result(&only(&effects, 1)), AppendResult::Rejected { prev_index: 9, .. }));
    assert_eq!((only(&effects, 1).envelope.term, core.raft.next_deadline()), (5, deadline));
}

#[test]
fn a_leader_takes_no_offer_of_its_own_term() {
    let mut core = Core::leader(3, 4, &[1]);
    let effects = core.receive(2, 5, Message::Snapshot { offer: offer(9, 5), round: 0 });
    assert!(effects.fetch.is_none() && effects.messages.is_empty());
    assert_eq!(core.role(), "leader");
}

/// Z02: what is committed here is in every later snapshot, so an older one brings nothing.
#[test]
fn an_offer_of_what_is_committed_here_is_answered_by_what_is_on_disk() {
    let mut core = follower(2, &[1, 1], 2);
    core.receive(1, 2, append(id(2, 1), 4, &[2, 2]));
    let lsn = core.raft.last_lsn();
    for (synced, match_index) in [(lsn - 1, 3), (lsn, 4)] {
        core.input(Input::Durable(synced));
        let effects = core.receive(1, 2, Message::Snapshot { offer: offer(4, 2), round: 0 });
        assert_eq!(effects.fetch, None);
        assert_eq!(result(&only(&effects, 1)), AppendResult::Accepted { match_index });
        assert!(only(&effects, 1).after <= core.raft.durable_lsn());
        let effects = fetched(&mut core, 4, 2);
        assert!(effects.records.is_empty() && effects.restore.is_none(), "overtaken by the log");
    }
    let effects = core.receive(1, 2, Message::Snapshot { offer: offer(5, 2), round: 0 });
    assert_eq!(effects.fetch, Some((1, offer(5, 2))), "one entry more is worth fetching");
}

#[test]
fn a_snapshot_replaces_a_log_that_does_not_reach_it() {
    let mut core = follower(4, &[1, 1], 1);
    let effects = fetched(&mut core, 9, 4);
    assert_eq!(effects.restore, Some(id(9, 4)));
    assert_eq!(marks(&effects), [mark(9, 4)]);
    let lsn = effects.records[0].0;
    let install = TraceEvent::Install { lsn, last_index: 9, term: 4, chain: 1_009, kept: false };
    assert!(effects.trace.contains(&install));
    assert_eq!((held(&core), core.raft.commit_index()), ((9, vec![]), 9));
    assert_eq!((core.raft.log().last(), core.raft.log().chain_at(9)), (id(9, 4), 1_009));
    assert_eq!(core.raft.snapshot(), Some(offer(9, 4)));
    // Its membership is in force from there on (defect Z07).
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&membership(5), 9));
    assert_eq!(core.raft.membership_at(9).as_ref(), &membership(5));
}

/// Nobody hears of it before the mark is on disk: until then a power loss leaves the log that was there before.
#[test]
fn an_installed_snapshot_is_acknowledged_when_its_mark_is_durable() {
    let mut core = follower(4, &[1, 1], 1);
    let lsn = fetched(&mut core, 9, 4).records[0].0;
    let heartbeat = only(&core.receive(1, 4, append(id(9, 4), 9, &[])), 1);
    assert_eq!(result(&heartbeat), AppendResult::Accepted { match_index: 0 });
    let reply = only(&core.receive(1, 4, append(id(8, 4), 9, &[4])), 1);
    assert_eq!((result(&reply), reply.after), (AppendResult::Accepted { match_index: 9 }, lsn));
    let offered = only(&core.receive(1, 4, Message::Snapshot { offer: offer(9, 4), round: 0 }), 1);
    assert_eq!(result(&offered), AppendResult::Accepted { match_index: 0 });
    let reply = only(&core.receive(1, 4, append(id(9, 4), 9, &[4])), 1);
    assert_eq!((result(&reply), reply.after), (AppendResult::Accepted { match_index: 10 }, lsn + 1));
    core.input(Input::Durable(lsn));
    assert_eq!(core.raft.log().durable_index(), 9);
    let heartbeat = only(&core.receive(1, 4, append(id(10, 4), 9, &[])), 1);
    assert_eq!(result(&heartbeat), AppendResult::Accepted { match_index: 9 });
}

/// InstallSnapshot rule 6: "if existing log entry has same index and term as snapshot's last included entry, retain log entries
/// following it".
#[test]
fn a_snapshot_of_a_prefix_keeps_what_follows() {
    let mut core = follower(4, &[1, 2, 4, 4], 1);
    let chain = core.raft.log().chain_at(3);
    let effects = fetched(&mut core, 3, 4);
    assert!(effects.trace.iter().any(|e| matches!(e, TraceEvent::Install { kept: true, last_index: 3, .. })));
    assert_eq!((held(&core), core.raft.commit_index()), ((3, vec![4]), 3));
    assert_eq!((core.raft.log().durable_index(), core.raft.log().chain_at(3)), (4, chain));
    assert_eq!(effects.restore, Some(id(3, 4)));
}

/// What follows is kept also if the disk has not all of it: a vote request that tells of it may be on its way to the disk.
#[test]
fn a_snapshot_of_a_prefix_that_is_not_durable_keeps_what_follows() {
    let mut core = follower(4, &[1], 1);
    core.receive(1, 4, append(id(1, 1), 1, &[4, 4, 4]));
    let entry = core.raft.last_lsn() - 1; // of entry 3
    fetched(&mut core, 3, 4);
    assert_eq!((held(&core), core.raft.log().last()), ((3, vec![4]), id(4, 4)));
    let reply = only(&core.receive(1, 4, append(id(2, 4), 3, &[4])), 1);
    assert_eq!((result(&reply), reply.after), (AppendResult::Accepted { match_index: 3 }, entry));
    core.input(Input::Durable(entry - 1));
    assert!(core.raft.log().durable_index() < 3);
    core.input(Input::Durable(entry));
    assert_eq!(core.raft.log().durable_index(), 3);
    core.input(Input::Durable(entry + 1));
    assert_eq!(core.raft.log().durable_index(), 4);
}

/// Z01: a log that differs at the snapshot's last entry, or does not know it, goes as a whole.
#[test]
fn a_snapshot_drops_a_log_that_contradicts_it() {
    for terms in [&[1, 2, 2, 2][..], &[1, 2, 3], &[1, 2]] {
        let mut core = follower(4, terms, 1);
        fetched(&mut core, 3, 4);
        assert_eq!((held(&core), core.raft.log().last()), ((3, vec![]), id(3, 4)), "{terms:?}");
    }
}

/// A node that was elected while it was fetching has everything that is committed, in its log: it learns so soon enough.
#[test]
fn a_leader_installs_nothing() {
    let mut core = Core::leader(3, 4, &[1, 1, 1]);
    let effects = fetched(&mut core, 3, 1);
    assert!(effects.records.is_empty() && effects.restore.is_none());
    assert_eq!((core.role(), held(&core), core.raft.commit_index()), ("leader", (0, vec![1, 1, 1, 5]), 0));
    assert_eq!(core.receive(2, 5, accepted(4)).restore, None);
    assert_eq!(core.raft.commit_index(), 4);
}

/// Whatever part of the records survives power loss, the directory can be read and holds what was acknowledged; all of them
/// give the log that is in memory.
#[test]
fn memory_and_disk_agree_after_any_snapshot() {
    for (terms, last) in
        [(&[1, 4, 4, 4][..], id(3, 4)), (&[1, 2, 2, 2], id(3, 4)), (&[1], id(3, 4)), (&[1, 4, 4], id(2, 4))]
    {
        for durable in [true, false] {
            let mut disk = recovered(3, HardState { term: 4, voted_for: None }, entries(0, &terms[..1]), 1);
            let mut core = Core::start(config(2), disk.clone());
            let mut records = Vec::new();
            let sent = [Message::Append {
                prev: id(1, 1),
                commit_index: 1,
                round: 0,
                entries: entries(1, &terms[1..]),
            }];
            for message in sent {
                records.extend(core.receive(1, 4, message).records);
            }
            if durable {
                core.sync();
            }
            records.extend(fetched(&mut core, last.index, last.term).records);
            records.extend(core.receive(1, 4, append(last, last.index, &[4])).records);
            records.extend(core.receive(1, 4, append(id(last.index + 1, 4), last.index + 1, &[4])).records);
            core.sync();
            records.extend(core.input(Input::SnapshotSaved(offer(last.index + 1, 4))).records);
            records.extend(core.receive(1, 4, append(id(last.index + 2, 4), 0, &[4])).records);
            for (lsn, record) in &records {
                replay(&mut disk, *lsn, record);
                let again = Core::start(config(2), disk.clone());
                assert_eq!(again.raft.commit_index(), disk.mark.last.index);
            }
            let again = Core::start(config(2), disk);
            assert_eq!(held(&again), held(&core), "log {terms:?}, snapshot at {last}, durable {durable}");
            assert_eq!(again.raft.log().last(), core.raft.log().last());
            assert_eq!(again.raft.membership(), core.raft.membership());
        }
    }
}

// ---- Around the base ----

/// What the log begins after is committed, and so is everything before it: a late append from before it is no conflict (R10).
#[test]
fn appends_around_the_base_match_what_the_snapshot_stands_for() {
    for (prev, terms, expected, log) in [
        (id(1, 1), &[1][..], 2, vec![2]),
        (id(0, 0), &[], 0, vec![2]),
        (id(2, 1), &[2], 3, vec![2]),
        (id(2, 1), &[2, 2, 2], 5, vec![2, 2]),
        (id(2, 9), &[2], 3, vec![2]), // before the base nothing is known, and nothing needs to be
        (id(3, 2), &[2], 4, vec![2]),
        (id(3, 2), &[3], 4, vec![3]),
        (id(1, 1), &[1, 2, 3], 4, vec![3]),
    ] {
        let mut core = follower(3, &[1, 1, 2, 2], 3);
        core.input(Input::SnapshotSaved(offer(3, 2)));
        core.sync();
        let effects = core.receive(1, 3, append(prev, 0, terms));
        let accepted = AppendResult::Accepted { match_index: expected };
        assert_eq!(result(&only(&effects, 1)), accepted, "{terms:?} after {prev}");
        assert_eq!(held(&core), (3, log), "{terms:?} after {prev}");
    }
    let mut core = follower(3, &[1, 1, 2, 2], 3);
    core.input(Input::SnapshotSaved(offer(3, 2)));
    let effects = core.receive(1, 3, append(id(3, 3), 0, &[3]));
    assert!(matches!(result(&only(&effects, 1)), AppendResult::Rejected { prev_index: 3, .. }));
}

#[test]
fn a_rejection_hints_no_further_back_than_is_known() {
    let mut core = follower(4, &[1, 1, 2, 2, 4], 3);
    core.input(Input::SnapshotSaved(offer(3, 2)));
    for (prev, hint) in
        [(id(9, 4), id(5, 4)), (id(9, 3), id(4, 2)), (id(5, 2), id(4, 2)), (id(5, 1), id(3, 2))]
    {
        let effects = core.receive(1, 4, append(prev, 0, &[]));
        let expected = AppendResult::Rejected { prev_index: prev.index, hint };
        assert_eq!(result(&only(&effects, 1)), expected, "{prev}");
    }
}

#[test]
fn a_restarted_node_goes_on_from_its_mark() {
    let mut disk = recovered(3, HardState { term: 4, voted_for: Some(3) }, entries(2, &[2, 4, 4]), 9);
    disk.mark = SnapshotMark { last: id(4, 4), base: id(2, 2), base_chain: 77, chain: 78, ..mark(4, 4) };
    let snapshot = Some(offer(4, 4));
    let core = Core::start(config(2), Recovered { snapshot, ..disk.clone() });
    assert_eq!((held(&core), core.raft.commit_index()), ((2, vec![2, 4, 4]), 4));
    assert_eq!((core.raft.snapshot(), core.raft.log().chain_at(2)), (snapshot, 77));
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&membership(5), 4));
    // A membership that the snapshot has already is not in force anew; one after it is.
    let joined = Membership::of_voters([(2, "a:1".to_owned())]);
    let payload = Payload::Membership(joined.encode().into());
    for (index, expected) in [(4, 4), (5, 5)] {
        let mut disk = disk.clone();
        let at = index as usize - 3;
        disk.entries[at] = Entry { id: id(index, 4), payload: payload.clone() };
        let core = Core::start(config(2), disk);
        assert_eq!(core.raft.membership_index(), expected);
        assert_eq!(core.raft.membership() == &joined, index == 5);
    }
}
